"""Waiting until what was committed is published: enough witnesses have cosigned a checkpoint that covers it.

A commit is durable, and the log's own word. That it can be denied to nobody any more is known once it is
published, some tenths of a second later as a rule. Only then is a receipt or a code handed out as final:
before, it is *committed, not yet witnessed*.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Final

import typer

from ledger.checkpoints import parse_checkpoint
from ledger.notes import parse_note
from tools.client import LedgerClient
from tools.errors import NotPublished, NotWitnessed

DEFAULT_WAIT_S: Final = 10
FRESH_S: Final = 2.0
"""So long a command that reads waits for what is being published at that moment."""
_FIRST_PAUSE_S: Final = 0.02
_LONGEST_PAUSE_S: Final = 1.0

Wait = Annotated[
    int,
    typer.Option(
        "--wait",
        metavar="SECONDS",
        min=0,
        help="How long to wait for witnesses, in all; what they have not cosigned by then is finished later.",
    ),
]


class Publication:
    """Waits, for one command, ``wait_s`` in all; once that is used up each question is asked just once."""

    def __init__(
        self,
        client: LedgerClient,
        wait_s: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._wait_s = wait_s
        self._clock = clock
        self._pause = pause
        self._newest: tuple[int, bytes] = (0, b"")

    def covering(self, index: int) -> bytes:
        """The newest published checkpoint, once it covers the leaf at ``index``.

        Raises NotWitnessed when it does not in time, Unavailable.
        """
        pause_s = _FIRST_PAUSE_S
        while True:
            size, note = self._newest
            if index < size:
                return note
            size, note = self._newest = self._look()
            if index < size:
                return note
            if self._wait_s <= 0:
                raise NotWitnessed(
                    f"leaf {index} is committed, and not yet witnessed: {size} leaves are published",
                    fix="nothing is lost; finish it later: sudur agency finish, or the same command again",
                )
            began = self._clock()
            self._pause(min(pause_s, self._wait_s))
            self._wait_s -= max(self._clock() - began, _FIRST_PAUSE_S)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def is_published(self, index: int) -> bool:
        """Whether a published checkpoint covers it, after waiting as :meth:`covering` does."""
        try:
            self.covering(index)
        except NotWitnessed:
            return False
        return True

    def _look(self) -> tuple[int, bytes]:
        try:
            note = self._client.checkpoint()
        except NotPublished:
            return 0, b""
        return _size(note), note


def fresh(client: LedgerClient, wait_s: float = FRESH_S) -> bytes:
    """The newest published checkpoint, of all that is signed now if it comes to that in time.

    Raises NotPublished, Unavailable.
    """
    newest = _size(client.checkpoint(signed=True)) - 1
    try:
        return Publication(client, wait_s).covering(newest)
    except NotWitnessed:
        return client.checkpoint()


def _size(note: bytes) -> int:
    return parse_checkpoint(parse_note(note).text).size
