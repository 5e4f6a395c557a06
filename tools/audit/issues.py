"""Which commitments were issued: an index that tells whether one comes again, at a tenth of a look-up's cost.

It holds 16 bytes for each ISSUE, the first 8 of its commitment and its index, in 4,096 buckets by 12
bits of its first two bytes. An equal beginning is only a hint: the leaf itself decides, so no answer rests on
8 bytes. Near the head, each question is answered at once. On a long way, all are answered with "not yet",
and :meth:`IssueIndex.repeats` compares everything new with everything before, bucket by bucket, before a
commit: two million at a time that costs 0.05 µs for each ISSUE that is there, where a look-up costs 2.
"""

from __future__ import annotations

import sys
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from struct import Struct, pack
from typing import Final

from tools.audit.table import Batch, Table

_BUCKETS: Final = 4096
_TOPS: Final = 1 << 16
_RECENT_ISSUES: Final = 65_536
"""So many stay in memory with their whole keys, before they are sorted into buckets."""
_RUN_ISSUES: Final = 4 << 20
"""Runs are merged up to this size: what a commit has to write stays bounded."""
_ENTRY: Final = 16
_RUN: Final = Struct(">BHI")
_RECENT: Final = Struct(">BQ")
_RUN_PREFIX: Final = ord("i")
_RECENT_PREFIX: Final = ord("j")
KEY_SIZE: Final = 36

Runs = tuple[tuple[int, int], ...]
"""(number, ISSUEs in it) of each run, the oldest first."""


class IssueIndex:
    """``key`` is a commitment ‖ agency u32 throughout. Changes are written by :meth:`write` alone."""

    def __init__(self, table: Table, runs: Runs) -> None:
        self._table = table
        self.runs = runs
        self._recent: dict[bytes, int] = {}
        for _, row in table.prefixed(bytes((_RECENT_PREFIX,))):
            for at in range(0, len(row), KEY_SIZE + 8):
                end = at + KEY_SIZE
                self._recent[row[at:end]] = int.from_bytes(row[end : end + 8], "big")
        self._new: dict[bytes, int] = {}
        self._buckets: list[bytearray] = []
        self._by_top: list[bytearray] = []
        self.unsorted = 0
        self.deferring = False
        self._cleared = False

    def defer(self) -> None:
        """From now on answer "not yet"; :meth:`repeats` says before a commit where that was wrong."""
        if not self.deferring:
            self.deferring = True
            self._sort({**self._recent, **self._new})
            self._recent, self._new, self._cleared = {}, {}, True

    def settle(self) -> None:
        """Answer at once again; after a commit, before anything new."""
        assert not self.unsorted, "what was deferred is not compared yet"
        self.deferring = False

    def find(self, keys: Sequence[bytes], leaf: Callable[[int], bytes]) -> list[int | None]:
        """The index of each; about 15 µs each and run when not deferred."""
        if self.deferring:
            return [None] * len(keys)
        return [self._find(key, leaf) for key in keys]

    def _find(self, key: bytes, leaf: Callable[[int], bytes]) -> int | None:
        found = self._new.get(key)
        if found is None:
            found = self._recent.get(key)
        if found is not None:
            return found
        bucket, beginning = _bucket(key), key[:8]
        for number, _ in self.runs:
            row = self._row(bucket, number)
            at = row.find(beginning)
            while at != -1:
                if at % _ENTRY == 0:
                    index = int.from_bytes(row[at + 8 : at + _ENTRY], sys.byteorder)
                    if key_of(leaf(index)) == key:
                        return index
                at = row.find(beginning, at + 1)
        return None

    def add(self, issues: Mapping[bytes, int]) -> None:
        """Those of a block. About 0.2 µs each when deferred."""
        if self.deferring:
            self._sort(issues)
        else:
            self._new.update(issues)

    def _sort(self, issues: Mapping[bytes, int]) -> None:
        if not self._buckets:
            self._buckets = [bytearray() for _ in range(_BUCKETS)]
            self._by_top = self._buckets * (_TOPS // _BUCKETS)
        by_top, count = self._by_top, len(issues)
        self.unsorted += count
        tops = memoryview(b"".join(issues)).cast("H")[:: KEY_SIZE // 2].tolist()
        indexes = pack(f"={count}Q", *issues.values())
        entries = [
            key[:8] + indexes[at : at + 8] for key, at in zip(issues, range(0, 8 * count, 8), strict=True)
        ]
        for top, entry in zip(tops, entries, strict=True):
            by_top[top] += entry

    def repeats(self, leaf: Callable[[int], bytes]) -> dict[bytes, int]:
        """The keys that stand in the log twice, each with its first index: exact, whatever was deferred."""
        again: dict[bytes, int] = {}
        for number, bucket in enumerate(self._buckets):
            if not bucket:
                continue
            rows = [self._row(number, run) for run, _ in self.runs]
            new = array("Q", bytes(bucket))[::2]
            beginnings = set(new)
            if len(beginnings) == len(new) and all(
                beginnings.isdisjoint(array("Q", row)[::2]) for row in rows
            ):
                continue
            by_key: defaultdict[bytes, list[int]] = defaultdict(list)
            for index in _indexes_twice([*rows, bytes(bucket)]):
                by_key[key_of(leaf(index))].append(index)
            again.update({key: min(found) for key, found in by_key.items() if len(found) > 1})
        return again

    def write(self, batch: Batch) -> None:
        """Put what is new into a batch. When the batch is written, all of it counts as written."""
        if not self._buckets and len(self._recent) + len(self._new) > _RECENT_ISSUES:
            self._sort({**self._recent, **self._new})
            self._recent, self._new, self._cleared = {}, {}, True
        if self._cleared:
            batch.delete_range(bytes((_RECENT_PREFIX,)), bytes((_RECENT_PREFIX + 1,)))
        if self._new:
            first = min(self._new.values())
            row = b"".join([key + index.to_bytes(8, "big") for key, index in self._new.items()])
            batch.put(_RECENT.pack(_RECENT_PREFIX, first), row)
            self._recent.update(self._new)
        if self._buckets:
            self._write_run(batch)
        self._new, self._buckets, self._by_top, self.unsorted, self._cleared = {}, [], [], 0, False

    def _write_run(self, batch: Batch) -> None:
        kept, total = list(self.runs), self.unsorted
        merged: list[int] = []
        while kept and kept[-1][1] <= total and kept[-1][1] + total <= _RUN_ISSUES:
            number, count = kept.pop()
            merged.insert(0, number)
            total += count
        new = max((number for number, _ in self.runs), default=0) + 1
        for bucket, entries in enumerate(self._buckets):
            row = b"".join([*(self._row(bucket, number) for number in merged), entries])
            if row:
                batch.put(_RUN.pack(_RUN_PREFIX, bucket, new), row)
            for number in merged:
                batch.delete(_RUN.pack(_RUN_PREFIX, bucket, number))
        self.runs = (*kept, (new, total))

    def _row(self, bucket: int, run: int) -> bytes:
        return self._table.get(_RUN.pack(_RUN_PREFIX, bucket, run)) or b""


def key_of(leaf: bytes) -> bytes:
    """The key of an ISSUE leaf. Nothing is checked: it was replayed."""
    return leaf[9:41] + leaf[2:6]


def _bucket(key: bytes) -> int:
    return int.from_bytes(key[:2], sys.byteorder) % _BUCKETS


def _indexes_twice(rows: Iterable[bytes]) -> list[int]:
    """The indexes of all entries whose beginning another entry has, too."""
    by_beginning: defaultdict[int, list[int]] = defaultdict(list)
    for row in rows:
        entries = array("Q", row)
        for beginning, index in zip(entries[::2], entries[1::2], strict=True):
            by_beginning[beginning].append(index)
    return [index for found in by_beginning.values() if len(found) > 1 for index in found]
