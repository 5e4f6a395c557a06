"""Answers on their way to callers who do not take them.

gRPC and asyncio both hold an answer until its caller has read it, however long that is, and several times
over. So what is held is counted, and who lets too much lie gets no more until it is taken. What an answer
of a stream may weigh is bounded by itself: the next one is made when the last was taken.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

from node.config import MEBIBYTE
from node.errors import AnswersWaiting

SMALL: Final = 65_536
"""Bytes of an answer that are not counted: the caps on calls and connections bound those."""


class Outgoing:
    """Bytes of answers not taken yet, in all and by address. Belongs to one event loop.

    When it is too much in all, only those who have taken theirs get another.
    """

    def __init__(self, most: int = 512 * MEBIBYTE, most_of_an_address: int = 64 * MEBIBYTE) -> None:
        self._most = most
        self._most_of_an_address = most_of_an_address
        self._held: Counter[str] = Counter()
        self._all = 0

    def check(self, address: str) -> None:
        """That there may be one more answer for this address. Raises AnswersWaiting."""
        if self._held[address] > self._most_of_an_address or (self._all > self._most and self._held[address]):
            raise AnswersWaiting(
                f"{self._held[address]} bytes of answers to this address have not been taken",
                where="answers",
                fix="read what was asked for before asking for more",
                retry_ms=10_000,
            )

    def hold(self, address: str, size: int) -> Callable[[], None]:
        """Count an answer; to be called back, once, when it has been taken or its caller has gone."""
        if size <= SMALL:
            return lambda: None
        self._held[address] += size
        self._all += size

        def release() -> None:
            self._all -= size
            self._held[address] -= size
            if not self._held[address]:
                del self._held[address]

        return release
