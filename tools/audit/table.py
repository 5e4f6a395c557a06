"""The auditor's RocksDB: what grows with the log and is asked for by key, in rows of one family.

A commit is one batch, synced: after a crash the table is as of a commit, whichever. Nothing is written
between commits.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self, cast

from rocksdict import (
    BlockBasedOptions,
    Cache,
    DBCompressionType,
    DBRecoveryMode,
    Options,
    Rdict,
    WriteBatch,
    WriteOptions,
)

from tools.audit.errors import StateDamaged

_CACHE_BYTES: Final = 64 << 20
_WRITE_BUFFER: Final = 16 << 20


class Table:
    """An open table. Raises StateDamaged for what RocksDB cannot read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._rows = Rdict(str(path), _options())
        except Exception as error:
            raise StateDamaged(f"RocksDB cannot open it: {error}", where=str(path)) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def get(self, key: bytes) -> bytes | None:
        try:
            return cast("bytes | None", self._rows.get(key))
        except Exception as error:
            raise StateDamaged(f"RocksDB cannot read it: {error}", where=str(self._path)) from error

    def prefixed(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """(key, row) of those that begin with ``prefix``, in order."""
        try:
            iterator = self._rows.iter()
            iterator.seek(prefix)
            while iterator.valid():
                key = iterator.key()
                if not key.startswith(prefix):
                    break
                yield key, iterator.value()
                iterator.next()
            iterator.status()
        except Exception as error:
            raise StateDamaged(f"RocksDB cannot read it: {error}", where=str(self._path)) from error

    def write(self, batch: Batch) -> None:
        """All of a batch, durably, or nothing of it."""
        durably = WriteOptions()
        durably.sync = True
        self._rows.write(batch.raw, durably)

    def close(self) -> None:
        self._rows.close()


class Batch:
    """Puts and deletes that are written together."""

    def __init__(self) -> None:
        self.raw = WriteBatch(raw_mode=True)

    def put(self, key: bytes, row: bytes) -> None:
        self.raw.put(key, row)

    def delete(self, key: bytes) -> None:
        self.raw.delete(key)

    def delete_range(self, start: bytes, end: bytes) -> None:
        """The keys from ``start`` up to, without, ``end``."""
        self.raw.delete_range(start, end)


def _options() -> Options:
    options = Options(raw_mode=True)
    table = BlockBasedOptions()
    table.set_block_cache(Cache(_CACHE_BYTES))
    table.set_bloom_filter(10, False)
    options.set_block_based_table_factory(table)
    options.set_write_buffer_size(_WRITE_BUFFER)
    options.set_max_total_wal_size(4 * _WRITE_BUFFER)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_max_background_jobs(2)
    options.set_keep_log_file_num(2)
    # The default would open silently without anything behind a flipped bit.
    options.set_wal_recovery_mode(DBRecoveryMode.tolerate_corrupted_tail_records())
    return options
