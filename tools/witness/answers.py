"""Answers of the keeper's thread, brought to the event loop: it is woken once for all of a group."""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import Future


class Answers:
    """Made and asked on the event loop. One thread settles the futures that are expected."""

    def __init__(self) -> None:
        self._here: deque[tuple[asyncio.Future[bytes], Future[bytes]]] = deque()
        self._woken = False

    def expect(self, answer: Future[bytes]) -> asyncio.Future[bytes]:
        """To be awaited in place of ``answer``."""
        loop = asyncio.get_running_loop()
        awaited: asyncio.Future[bytes] = loop.create_future()

        def settled(done: Future[bytes]) -> None:
            self._here.append((awaited, done))
            # Whoever sees it set comes before the loop, which takes it back and then all that is here.
            if not self._woken:
                self._woken = True
                loop.call_soon_threadsafe(self._take)

        answer.add_done_callback(settled)
        return awaited

    def _take(self) -> None:
        self._woken = False
        while self._here:
            awaited, done = self._here.popleft()
            if awaited.done():
                continue
            error = done.exception()
            if error is None:
                awaited.set_result(done.result())
            else:
                awaited.set_exception(error)
