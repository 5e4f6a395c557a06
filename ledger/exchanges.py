"""An exchange: what has become of a SEND, from the day it was logged to its final answer.

A SEND that reminds of another opens no exchange of its own: whoever is asked answers the first one,
and a backlog counts it once.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Exchange:
    """The state of one SEND. ``sent_ms``: the time of its seal.

    ``received`` and ``final`` are the indexes of its ANSWERs, ``reminds`` that of the SEND that it
    reminds of; None where there is none.
    """

    sent_ms: int
    received: int | None = None
    final: int | None = None
    reminds: int | None = None
