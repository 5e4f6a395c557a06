"""What a witness has let out, and whether it could ever be held against it."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from itertools import pairwise

from tests.tools.witness.some_log import SomeLog


@dataclass(frozen=True, slots=True)
class Let:
    """A cosignature that left: for which branch of a log, of which size, and its time."""

    log: SomeLog
    size: int
    time_s: int


class Promises:
    """Every cosignature that came out of one witness, of all its lives, in the order of its coming."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._all: dict[str, list[Let]] = {}

    def heard(self, log: SomeLog, size: int, time_s: int) -> None:
        with self._changed:
            self._all.setdefault(log.origin, []).append(Let(log, size, time_s))
            self._changed.notify_all()

    def wait_for(self, more: int) -> None:
        """Wait until so many more have come."""
        with self._changed:
            enough = self.count + more
            assert self._changed.wait_for(lambda: self.count >= enough, 120)

    @property
    def count(self) -> int:
        return sum(map(len, self._all.values()))

    def newest(self, origin: str) -> Let:
        return max(self._all[origin], key=lambda one: one.size)

    def check(self) -> None:
        """No two inconsistent heads; and what came later is never smaller, or older.

        For this the answers of one log have to be heard in the order in which they were given.
        """
        for lets in self._all.values():
            for before, after in pairwise(lets):
                assert before.size <= after.size, "it went back"
                assert before.time_s <= after.time_s, "its time went back"
                assert after.log.checkpoint(before.size) == before.log.checkpoint(before.size), "a fork"
