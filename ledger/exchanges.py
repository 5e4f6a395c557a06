"""An exchange: what has become of a SEND, from the day it was logged to its final answer.

A SEND that reminds of another opens no exchange of its own: whoever is asked answers the first one,
and a backlog counts it once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from ledger.records import SendKind

SEND_ROLES: Final[Mapping[SendKind, str]] = MappingProxyType(
    {SendKind.REQUEST: "request", SendKind.CIRCULATED: "circulate"}
)
"""The role that an agency has to have for a SEND of its own; whoever passes one on needs none."""


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
