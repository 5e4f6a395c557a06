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
        self._lock = threading.Lock()
        self._all: dict[str, list[Let]] = {}

    def heard(self, log: SomeLog, size: int, time_s: int) -> None:
        with self._lock:
            self._all.setdefault(log.origin, []).append(Let(log, size, time_s))

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
