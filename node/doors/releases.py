"""Waiting, on an event loop, for blocks that are released, and for checkpoints that are published."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from node.cosigning.witnessed import Witnessed
from node.ledger_copy import LedgerCopy
from node.metrics import Metrics
from node.publish import Published

_MOST_TIMED: Final = 1_024


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
        self._unpublished: OrderedDict[int, float] = OrderedDict()
        self._size = copy.published.size
        self._tell_metrics(copy.published)
        if copy.witnessed.newest is not None:
            metrics.published_size.set(copy.witnessed.newest.size)
        copy.publications.on_publish(self._released)
        copy.witnessed.on_publish(self._published)

    async def block(self, number: int) -> None:
        """Return when block ``number`` is released, or when the node stops."""
        await self._until(lambda: self._copy.published.head.block >= number)

    async def published(self, after: bytes) -> None:
        """Return when the newest published checkpoint is another than ``after``, or when the node stops."""

        def other() -> bool:
            newest = self._copy.witnessed.newest
            return newest is not None and newest.note != after

        await self._until(other)

    async def _until(self, happened: Callable[[], bool]) -> None:
        while not happened() and not self._stopping.is_set():
            future: asyncio.Future[None] = self._loop.create_future()
            self._waiting.add(future)
            try:
                # Looked at again after joining those who wait: what came in between wakes nobody.
                if not happened() and not self._stopping.is_set():
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
        newest = self._copy.witnessed.newest
        if newest is None or newest.size < published.size:
            self._unpublished[published.size] = time.monotonic()
            if len(self._unpublished) > _MOST_TIMED:
                self._unpublished.popitem(last=False)
        if self._waiting:
            self._loop.call_soon_threadsafe(self.wake)

    def _published(self, published: Witnessed) -> None:
        """Called on the thread that brought the last cosignature."""
        self._metrics.published_size.set(published.size)
        released = self._unpublished.pop(published.size, None)
        if released is not None:
            self._metrics.publication_seconds.observe(time.monotonic() - released)
        if self._waiting:
            self._loop.call_soon_threadsafe(self.wake)

    def _tell_metrics(self, published: Published) -> None:
        state = published.state
        self._metrics.published(size=published.size, block=state.block, time_ms=state.time_ms)
