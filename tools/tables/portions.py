"""A portion of a table made ready for the register and the log, on this core or on another.

Hashing, sealing and indexing are most of the work of a bulk and need no database, so a large table has
a process of its own for them: it makes one portion while the other process stores and sends the last.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Final, Self

from ledger.documents import SEED_SIZE, Commitments
from tools.errors import Unavailable
from tools.register.box import Box
from tools.register.documents import DocumentMaker, Made, NewDocument

_STOP_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Entry:
    """A row that may be issued. ``slots``: its fields as they are hashed, the type first."""

    row: int
    external: str
    slots: list[bytes]
    words: str


class PortionMaker:
    """Makes portions here and now."""

    def __init__(self, box: Box, genesis: bytes, agency: int) -> None:
        self._commitments = Commitments(genesis, agency)
        self._maker = DocumentMaker(box)

    def make(self, first: int, entries: Sequence[Entry]) -> Made:
        """The documents of these rows, with fresh seeds, for the numbers from ``first`` on."""
        of = self._commitments.of
        seeds = os.urandom(SEED_SIZE * len(entries))
        documents = []
        for position, one in enumerate(entries):
            seed = seeds[SEED_SIZE * position : SEED_SIZE * (position + 1)]
            documents.append(
                NewDocument(one.row, one.external, seed, of(seed, one.slots), one.slots, one.words)
            )
        return self._maker.make(first, documents)


class PortionHelper:
    """Makes portions in a process of its own, one at a time: :meth:`begin`, then :meth:`end`.

    The process ends with this one, however this one ends: its pipe breaks.
    """

    def __init__(self, box: Box, genesis: bytes, agency: int) -> None:
        context = get_context("spawn")  # a fork would copy the threads of gRPC in whatever state they are
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, box, genesis, agency), daemon=True)
        self._process.start()
        theirs.close()

    def begin(self, first: int, entries: Sequence[Entry]) -> None:
        """Have a portion made. Raises Unavailable when the process has gone."""
        try:
            self._pipe.send((first, [(one.row, one.external, one.slots, one.words) for one in entries]))
        except OSError:
            raise _gone() from None

    def end(self) -> Made:
        """Wait for the portion that was begun. Raises Unavailable when the process has gone."""
        try:
            made: Made = self._pipe.recv()
        except (OSError, EOFError):
            raise _gone() from None
        return made

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pipe.close()
        self._process.join(_STOP_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._process.close()


def _serve(pipe: Connection, box: Box, genesis: bytes, agency: int) -> None:
    """What the helper does, until the other end of the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the other process, which ends this one
    maker = PortionMaker(box, genesis, agency)
    try:
        while True:
            first, rows = pipe.recv()
            pipe.send(maker.make(first, [Entry(*row) for row in rows]))
    except (EOFError, OSError):
        return


def _gone() -> Unavailable:
    return Unavailable("the helper process has ended", fix="run the command again: it goes on where it was")
