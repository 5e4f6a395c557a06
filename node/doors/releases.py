"""Waiting, on an event loop, for the blocks that the sequencer's thread releases."""

from __future__ import annotations

import asyncio

from node.ledger_copy import LedgerCopy
from node.metrics import Metrics
from node.publish import Published


class Releases:
    """Wakes those who wait for a block. Belongs to the event loop that it is made on.

    While nobody waits, a release costs the loop nothing.
    """

    def __init__(self, copy: LedgerCopy, metrics: Metrics, stopping: asyncio.Event) -> None:
        self._copy = copy
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._stopping = stopping
        self._waiting: set[asyncio.Future[None]] = set()
        self._size = copy.published.size
        self._tell_metrics(copy.published)
        copy.publications.on_publish(self._released)

    async def block(self, number: int) -> None:
        """Return when block ``number`` is published, or when the node stops."""
        while self._copy.published.head.block < number and not self._stopping.is_set():
            future: asyncio.Future[None] = self._loop.create_future()
            self._waiting.add(future)
            try:
                # Looked at again after joining those who wait: a block released in between wakes nobody.
                if self._copy.published.head.block < number and not self._stopping.is_set():
                    await future
            finally:
                self._waiting.discard(future)

    def wake(self) -> None:
        """Have all who wait look again. Call it on the loop, after ``stopping`` was set too."""
        for future in self._waiting:
            if not future.done():
                future.set_result(None)

    def _released(self, published: Published) -> None:
        """Called on the sequencer's thread, after ``published`` became the newest."""
        self._metrics.block_leaves.observe(published.size - self._size)
        self._size = published.size
        self._tell_metrics(published)
        if self._waiting:
            self._loop.call_soon_threadsafe(self.wake)

    def _tell_metrics(self, published: Published) -> None:
        state = published.state
        self._metrics.published(size=published.size, block=state.block, time_ms=state.time_ms)
