"""RocksDB, as the store uses it: which families there are, how they are set, and its errors by name.

Everything that a block changes goes into one batch over all families, written without a sync and
then synced with ``flush_wal``, because ``write`` holds Python's lock and ``flush_wal`` does not.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, cast

from rocksdict import (
    BlockBasedOptions,
    Cache,
    ColumnFamily,
    DataBlockIndexType,
    DbClosedError,
    DBCompressionType,
    DBRecoveryMode,
    Options,
    Rdict,
    WriteBatch,
)

from node.disk import make_directories
from node.errors import DataInUse, DiskFull, ReadOnly, StoreDamaged

META: Final = "default"
ENTRIES: Final = "entries"
TILES: Final = "tiles"
ISSUES: Final = "issues"
SUBMISSIONS: Final = "submissions"
BLOCKS: Final = "blocks"
SEALS: Final = "seals"
CHECKPOINTS: Final = "checkpoints"
COSIGNATURES: Final = "cosignatures"
OBJECTS: Final = "objects"
LISTS: Final = "lists"
SUPERSEDED: Final = "superseded"
EXPIRIES: Final = "expiries"
DAILY: Final = "daily"
STATUSES: Final = "statuses"
ATTESTS: Final = "attests"
EXCHANGES: Final = "exchanges"
ATTESTED: Final = "attested"
SENDS: Final = "sends"
FIGURES: Final = "figures"
PREPARED: Final = "prepared"

_RANDOM_KEYS: Final = frozenset((ISSUES, SUBMISSIONS, OBJECTS, ATTESTS))
_COMPRESSED: Final = frozenset((CHECKPOINTS, OBJECTS, LISTS))
_BULK: Final = frozenset((ENTRIES, TILES, ISSUES))
FAMILIES: Final = (
    META,
    ENTRIES,
    TILES,
    ISSUES,
    SUBMISSIONS,
    BLOCKS,
    SEALS,
    CHECKPOINTS,
    COSIGNATURES,
    OBJECTS,
    LISTS,
    SUPERSEDED,
    EXPIRIES,
    DAILY,
    STATUSES,
    ATTESTS,
    EXCHANGES,
    ATTESTED,
    SENDS,
    FIGURES,
    PREPARED,
)
_CACHE_BYTES: Final = 192 << 20
_WRITE_BUFFER: Final = 16 << 20
_SMALL_WRITE_BUFFER: Final = 4 << 20
# Bounds what a start has to replay; the default would let it grow past a gigabyte.
_MOST_WAL: Final = 96 << 20
_LOCK_WAIT_S: Final = 1.0


class Database:
    """An open RocksDB directory. Reads from any thread; one thread writes.

    Errors: DataInUse when another process has it open, StoreDamaged when RocksDB cannot read it or
    reports corruption, ReadOnly for a read while it is being reopened. Errors of :meth:`write` and
    :meth:`sync` are RocksDB's own, and leave open whether the batch will be there: reopen, and look.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        cache = Cache(_CACHE_BYTES)
        make_directories(path)
        self._root = _open(path, cache)
        self._families: dict[str, Rdict] = {}
        self._handles: dict[str, ColumnFamily] = {}
        # RocksDB writes CURRENT anew at times; its lock it makes once, and holds open.
        self._lock = os.stat(path / "LOCK")
        for name in FAMILIES:
            self._families[name] = self._root.get_column_family(name)
            self._handles[name] = self._root.get_column_family_handle(name)

    def get(self, family: str, key: bytes) -> bytes | None:
        """The row, or None. 1 to 10 µs."""
        try:
            return cast("bytes | None", self._families[family].get(key))
        except Exception as error:
            raise _read_error(error, family) from error

    def get_many(self, family: str, keys: Sequence[bytes]) -> list[bytes | None]:
        """The row of each key. An absent one costs under 1 µs where there is a bloom filter."""
        try:
            return list(map(self._families[family].get, keys))
        except Exception as error:
            raise _read_error(error, family) from error

    def first_from(self, family: str, key: bytes) -> tuple[bytes, bytes] | None:
        """The first row at or after ``key``, with its key."""
        for row in self.rows(family, key):
            return row
        return None

    def rows(self, family: str, start: bytes = b"") -> Iterable[tuple[bytes, bytes]]:
        """All rows at or after ``start``, in order, as of now."""
        try:
            iterator = self._families[family].iter()
            iterator.seek(start)
            while iterator.valid():
                yield iterator.key(), iterator.value()
                iterator.next()
            iterator.status()
        except Exception as error:
            raise _read_error(error, family) from error

    def rows_down(self, family: str) -> Iterable[tuple[bytes, bytes]]:
        """All rows, from the last to the first, as of now."""
        try:
            iterator = self._families[family].iter()
            iterator.seek_to_last()
            while iterator.valid():
                yield iterator.key(), iterator.value()
                iterator.prev()
            iterator.status()
        except Exception as error:
            raise _read_error(error, family) from error

    def prefixed(
        self, family: str, prefix: bytes, beside: bytes
    ) -> tuple[list[bytes], list[bytes], bytes | None]:
        """(keys, rows) that begin with ``prefix``, and the row of ``beside``, all as of one moment.

        About 1 µs a row. One iterator gives all of it: those of a rocksdict Snapshot see later writes.
        """
        keys, rows = [], []
        try:
            iterator = self._families[family].iter()
            iterator.seek(beside)
            found = iterator.value() if iterator.valid() and iterator.key() == beside else None
            iterator.seek(prefix)
            while iterator.valid():
                key = iterator.key()
                if not key.startswith(prefix):
                    break
                keys.append(key)
                rows.append(iterator.value())
                iterator.next()
            iterator.status()
        except Exception as error:
            raise _read_error(error, family) from error
        return keys, rows, found

    def batch(self) -> Batch:
        """An empty batch over all families."""
        return Batch(self._handles)

    def write(self, batch: Batch) -> None:
        """Apply a batch whole; not yet durable."""
        self._root.write(batch.raw)

    def sync(self) -> None:
        """Make all that was written durable. One fsync; other Python threads run meanwhile."""
        self._root.flush_wal(True)

    def check_place(self) -> None:
        """That its files were not deleted or exchanged under it, which RocksDB would not notice for long.

        About 5 µs. Raises StoreDamaged.
        """
        try:
            os.stat(self.path / "CURRENT")
            same = os.path.samestat(os.stat(self.path / "LOCK"), self._lock)
        except FileNotFoundError:
            same = False
        if not same:
            raise StoreDamaged(
                "the files of this database were deleted or exchanged while it was open",
                where=str(self.path),
                fix="stop the node, and put the newest data directory back",
            )

    def compact(self) -> None:
        """Merge every family's files: what the data takes on disk at rest. Slow."""
        for family in self._families.values():
            family.flush()
            family.compact_range(None, None)

    def close(self) -> None:
        """Close, and let go of the directory's lock. Closing twice is no error, nor is a failed database.

        What was synced is safe whatever RocksDB says here; what was not, nobody was told of.
        """
        self._handles.clear()
        for family in (*self._families.values(), self._root):
            # A database that failed to write says so once more; it is closed all the same.
            with suppress(Exception):
                family.close()


class Batch:
    """Puts and deletes that are written together."""

    def __init__(self, handles: dict[str, ColumnFamily]) -> None:
        self.raw = WriteBatch(raw_mode=True)
        self._handles = handles

    def put(self, family: str, key: bytes, row: bytes) -> None:
        self.raw.put(key, row, self._handles[family])

    def put_all(self, family: str, keys: Sequence[bytes], rows: Sequence[bytes]) -> None:
        """Put ``rows[i]`` at ``keys[i]``. About 0.4 µs each."""
        handle = self._handles[family]
        put = self.raw.put
        for key, row in zip(keys, rows, strict=True):
            put(key, row, handle)

    def delete(self, family: str, key: bytes) -> None:
        self.raw.delete(key, self._handles[family])

    def delete_range(self, family: str, start: bytes, end: bytes) -> None:
        """Delete the keys from ``start`` up to, without, ``end``."""
        self.raw.delete_range(start, end, self._handles[family])


def _open(path: Path, cache: Cache) -> Rdict:
    """Open, waiting a little for a reader of ours that still holds the last opening."""
    deadline = time.monotonic() + _LOCK_WAIT_S
    pause = threading.Event()
    while True:
        try:
            return Rdict(
                str(path),
                _database_options(cache),
                {name: _family_options(name, cache) for name in FAMILIES if name != META},
            )
        except Exception as error:
            text = str(error)
            if os.strerror(errno.ENOSPC) in text:
                raise DiskFull(
                    "RocksDB cannot open it: the disk is full",
                    where=str(path),
                    fix="free some space; nothing is damaged",
                ) from error
            by_us = os.strerror(errno.ENOLCK) in text
            if not by_us and os.strerror(errno.EAGAIN) not in text:
                raise StoreDamaged(
                    f"RocksDB cannot open it: {text}",
                    where=str(path),
                    fix="restore the data directory from a replica; do not delete parts of it",
                ) from error
            if not by_us or time.monotonic() > deadline:
                raise DataInUse(
                    "another process has this data directory open",
                    where=str(path),
                    fix="stop the other node; a ledger has one writer",
                ) from error
        pause.wait(0.01)


def _database_options(cache: Cache) -> Options:
    options = _family_options(META, cache)
    options.create_if_missing(True)
    options.create_missing_column_families(True)
    # The default, point in time, opens silently without anything behind a flipped bit.
    options.set_wal_recovery_mode(DBRecoveryMode.tolerate_corrupted_tail_records())
    options.set_max_total_wal_size(_MOST_WAL)
    options.set_max_background_jobs(2)
    options.set_keep_log_file_num(4)
    options.set_max_log_file_size(4 << 20)
    return options


def _family_options(name: str, cache: Cache) -> Options:
    options = Options(raw_mode=True)
    table = BlockBasedOptions()
    table.set_block_cache(cache)
    if name in _RANDOM_KEYS:
        table.set_bloom_filter(10, False)
        table.set_data_block_index_type(DataBlockIndexType.binary_and_hash())
        options.set_memtable_whole_key_filtering(True)
        options.set_memtable_prefix_bloom_ratio(0.1)
    options.set_block_based_table_factory(table)
    options.set_write_buffer_size(_WRITE_BUFFER if name in _BULK else _SMALL_WRITE_BUFFER)
    compressed = name in _COMPRESSED
    options.set_compression_type(DBCompressionType.lz4() if compressed else DBCompressionType.none())
    return options


def _read_error(error: Exception, family: str) -> Exception:
    if isinstance(error, DbClosedError):
        return ReadOnly("the store is being opened again", where=family)
    return StoreDamaged(
        f"RocksDB cannot read it: {error}",
        where=family,
        fix="stop the node and run fsck; restore the data directory from a replica",
    )
