"""Keeping envelopes no longer than they are needed: what the log says of them, and when they go.

One thread looks at each released block for records that name envelopes, and deletes what has ended. It
is behind the log by some milliseconds at most; after a restart it goes on from where it was.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Final, Protocol

import structlog

from ledger.exchanges import Exchange
from ledger.leaves import FORMAT_VERSION, LeafType
from ledger.records import NO_HASH, Answer, Outcome, Send, parse_record
from ledger.submissions import unpack
from ledger.tiles import TILE_WIDTH
from node.codec import BlockInfo
from node.letters.envelope_store import EnvelopeStore, Naming, Release
from node.metrics import Metrics

DAY_MS: Final = 86_400_000
GRACE_MS: Final = DAY_MS
"""How long a SEND's envelope stays after the final ANSWER."""
SWEEP_S: Final = 60.0
_TYPES: Final = frozenset((LeafType.SEND, LeafType.ANSWER))
_HEADERS: Final = tuple(
    kind.LAYOUT.size.to_bytes(2, "big") + bytes((FORMAT_VERSION, kind.TYPE)) for kind in (Send, Answer)
)
"""How a packed SEND, or ANSWER, begins: its length, the format version, its type."""
_BLOCKS_AT_ONCE: Final = 1_024
_log = structlog.get_logger("node.envelopes")


class Blocks(Protocol):
    """The committed log, as the store has it. Reads of blocks up to the newest released one."""

    def block(self, number: int) -> BlockInfo:
        """Raises NotFound."""
        ...

    def bundle(self, number: int, width: int) -> bytes:
        """The first ``width`` packed leaves of an entry bundle. Raises NotFound."""
        ...

    def exchange(self, send: int) -> Exchange:
        """The state of the SEND at that index."""
        ...


Newest = Callable[[], tuple[int, int]]
"""The number of the newest released block, and the time in its seal."""


class EnvelopeKeeper:
    """Follows the log and sweeps. :meth:`start` the thread, or call :meth:`follow` and :meth:`sweep`.

    ``retention_ms``: how long an envelope stays that is never answered, or never fetched, from the seal
    of the record that names it.
    """

    def __init__(
        self,
        store: EnvelopeStore,
        blocks: Blocks,
        newest: Newest,
        metrics: Metrics,
        *,
        retention_ms: int,
        wall_ms: Callable[[], int],
    ) -> None:
        self._store = store
        self._blocks = blocks
        self._newest = newest
        self._metrics = metrics
        self._retention_ms = retention_ms
        self._wall_ms = wall_ms
        self._next: int | None = None
        self._saved: int | None = None
        self._wake = threading.Event()
        self._stopping = False
        self._failed = ""
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """There is a new block. From any thread; costs about 1 µs."""
        self._wake.set()

    def start(self) -> None:
        """Start the thread. Once."""
        self._thread = threading.Thread(target=self._run, name="envelopes", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread, after what it is doing."""
        self._stopping = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        swept = float("-inf")
        while not self._stopping:
            try:
                self.follow()
                if time.monotonic() - swept >= SWEEP_S:
                    self.sweep()
                    swept = time.monotonic()
                self._failed = ""
            except Exception as error:
                # Tried again with the next block, or in a minute; told once.
                if str(error) != self._failed:
                    self._failed = str(error)
                    _log.error("envelopes not kept", error=f"{type(error).__name__}: {error}")
            self._wake.wait(SWEEP_S)
            self._wake.clear()

    def follow(self) -> None:
        """Take in what the blocks say that were released since. About 0.2 µs a leaf; ends at a stop.

        A crash: blocks that name nothing are looked at once more, those that do are saved with what
        was found.
        """
        number, _ = self._newest()
        if self._next is None:
            self._saved = self._store.next_block
            self._next = self._first_block(number) if self._saved is None else self._saved
        while self._next <= number and not self._stopping:
            until = min(self._next + _BLOCKS_AT_ONCE, number + 1)
            found = [one for block in range(self._next, until) for one in self._look(block)]
            if found:
                self._store.follow(found, until)
                self._saved = until
            self._next = until

    def sweep(self) -> None:
        """Delete what has ended, off the disk too. Call :meth:`follow` first: an orphan may have a name."""
        if self._next is not None and self._next != self._saved:
            self._store.follow((), self._next)
            self._saved = self._next
        _, sealed_ms = self._newest()
        orphans, ended = self._store.sweep(now_ms=self._wall_ms(), sealed_ms=sealed_ms)
        self._metrics.envelopes_expired.labels("orphan").inc(orphans)
        self._metrics.envelopes_expired.labels("ended").inc(ended)
        self._store.wipe()

    def _look(self, number: int) -> Iterator[Naming | Release]:
        block = self._blocks.block(number)
        for index, record in self._records(block.first_index, block.size):
            if record.envelope != NO_HASH:
                reminds = self._blocks.exchange(index).reminds if isinstance(record, Send) else None
                exchange = index if reminds is None else reminds
                yield Naming(index, exchange, record.envelope, block.time_ms + self._retention_ms)
            if isinstance(record, Answer) and record.outcome is not Outcome.RECEIVED:
                yield Release(record.subject, block.time_ms + GRACE_MS)

    def _records(self, start: int, end: int) -> Iterator[tuple[int, Send | Answer]]:
        """The SENDs and ANSWERs among the leaves from ``start`` up to, without, ``end``."""
        for number in range(start // TILE_WIDTH, (end - 1) // TILE_WIDTH + 1):
            first = number * TILE_WIDTH
            packed = self._blocks.bundle(number, min(TILE_WIDTH, end - first))
            # A bundle without their headers is passed over whole: most hold nothing but ISSUEs.
            if not any(header in packed for header in _HEADERS):
                continue
            for index, leaf in enumerate(unpack(packed, most=TILE_WIDTH), first):
                if index >= start and leaf[1] in _TYPES:
                    record = parse_record(leaf)
                    assert isinstance(record, Send | Answer)
                    yield index, record

    def _first_block(self, newest: int) -> int:
        """The first block young enough that what it names is still kept. 20 reads in a million blocks."""
        _, sealed_ms = self._newest()
        low, high = 0, newest
        while low < high:
            middle = (low + high) // 2
            if self._blocks.block(middle).time_ms + self._retention_ms > sealed_ms:
                high = middle
            else:
                low = middle + 1
        return low
