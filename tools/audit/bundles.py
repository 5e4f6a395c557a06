"""The leaves that an auditor has replayed, packed in bundles of 256 as they were served, on disk.

Two files that only grow: ``entries`` holds the full bundles one after another, ``entries.index`` for each
where it ends (u64) and its CRC-32 (u32), so that damage here is not taken for a lie of the log's. What a
crash left behind the committed count is cut off when they are opened.
"""

from __future__ import annotations

import os
import re
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from struct import Struct
from typing import Final
from zlib import crc32

from ledger.errors import FormatError, TileFormatError
from ledger.leaves import FORMAT_VERSION, LeafType
from ledger.records import Issue
from ledger.tiles import TILE_WIDTH
from tools.audit.errors import StateDamaged
from tools.files import PRIVATE

_SEAL: Final = bytes((LeafType.SEAL,))
_ROW: Final = Struct(">QI")
_KEPT: Final = 256
_ISSUE: Final = Issue.LAYOUT.size
_STRIDE: Final = 2 + _ISSUE
_HEAD: Final = re.escape(_ISSUE.to_bytes(2, "big") + bytes((FORMAT_VERSION, LeafType.ISSUE)))
_ISSUES: Final = re.compile(b"(?:%b.{%d})+" % (_HEAD, _ISSUE - 2), re.DOTALL)
"""A run of ISSUEs, packed: nearly all that a log is made of, found by one C loop."""


def split(packed: bytes) -> tuple[list[bytes], list[int]]:
    """Packed leaves apart, and the positions of those that are SEALs. About 0.1 µs a leaf in bulk.

    Raises TileFormatError unless it ends with the last leaf.
    """
    leaves: list[bytes] = []
    seals: list[int] = []
    at, end = 0, len(packed)
    while at < end:
        run = _ISSUES.match(packed, at)
        if run is not None:
            leaves += [packed[i : i + _ISSUE] for i in range(at + 2, run.end(), _STRIDE)]
            at = run.end()
            continue
        start = at + 2
        at = start + int.from_bytes(packed[at:start], "big")
        if start > end or at > end:
            raise TileFormatError("cut short", where=f"entry {len(leaves)}", fix="fetch it again")
        leaf = packed[start:at]
        if leaf[1:2] == _SEAL:
            seals.append(len(leaves))
        leaves.append(leaf)
    return leaves, seals


class BundleFile:
    """Full bundles on disk, from the first leaf on. For one thread."""

    def __init__(self, directory: Path) -> None:
        """Begin with :meth:`cut`. Raises OSError."""
        self._path = directory / "entries"
        self._data = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE)
        self._index = os.open(directory / "entries.index", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE)
        self._kept: OrderedDict[int, list[bytes]] = OrderedDict()
        self.count = 0
        self._end = 0

    def cut(self, count: int) -> None:
        """Keep the first ``count``, and cut off what follows. Raises StateDamaged when there are fewer."""
        self._kept.clear()
        self.count = count
        self._end = self._row(count - 1)[0] if count else 0
        if os.fstat(self._data).st_size < self._end:
            raise StateDamaged("entries are missing", where=str(self._path))
        os.ftruncate(self._index, count * _ROW.size)
        os.ftruncate(self._data, self._end)

    def append(self, bundles: Sequence[bytes]) -> None:
        """Add full bundles; durable with :meth:`sync`."""
        rows = []
        for one in bundles:
            self._end += len(one)
            rows.append(_ROW.pack(self._end, crc32(one)))
        _write(self._data, b"".join(bundles), self._end - sum(map(len, bundles)))
        _write(self._index, b"".join(rows), self.count * _ROW.size)
        self.count += len(bundles)

    def sync(self) -> None:
        os.fdatasync(self._data)
        os.fdatasync(self._index)

    def leaves(self, number: int) -> list[bytes]:
        """The leaves of a full bundle. About 30 µs, less for the last few asked for. Raises StateDamaged."""
        kept = self._kept.get(number)
        if kept is not None:
            self._kept.move_to_end(number)
            return kept
        start = self._row(number - 1)[0] if number else 0
        end, checksum = self._row(number)
        data = os.pread(self._data, end - start, start) if start < end else b""
        try:
            if crc32(data) != checksum:
                raise FormatError("its checksum differs")
            found, _ = split(data)
            if len(found) != TILE_WIDTH:
                raise FormatError(f"it has {len(found)} entries")
        except FormatError as error:
            raise StateDamaged(f"bundle {number}: {error}", where=str(self._path)) from error
        self._kept[number] = found
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return found

    def close(self) -> None:
        os.close(self._data)
        os.close(self._index)

    def _row(self, number: int) -> tuple[int, int]:
        row = os.pread(self._index, _ROW.size, number * _ROW.size)
        if len(row) != _ROW.size:
            raise StateDamaged(f"bundle {number} is missing", where=str(self._path))
        end, checksum = _ROW.unpack(row)
        return end, checksum


def _write(descriptor: int, data: bytes, at: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, at)
        view, at = view[written:], at + written
