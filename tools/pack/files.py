"""Packs and deltas as files: a head, and in the leaves form the leaf hashes of every full run behind it.

A pack is only ever replaced as a whole, at once and durably: whatever interrupts an update leaves the old
one as it was.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final

from ledger.errors import PackFormatError, TooLarge
from ledger.opened_pack import OpenedPack, open_pack
from ledger.pack_bytes import MAX_HEAD
from ledger.pack_deltas import DELTA_FRONT_BYTES, DELTA_MAGIC, Delta, delta_size, parse_delta
from ledger.packs import FRONT_BYTES, Form, Pack, head_size, parse_pack
from ledger.tiles import FULL_TILE_BYTES
from ledger.trust import Trust
from tools.errors import FileProblem
from tools.files import PUBLIC, open_file, reason, write_parts

_COPIED: Final = 128 * FULL_TILE_BYTES


class LeafRuns:
    """The leaf hashes of runs from ``first`` on, in an open file from ``start`` on; a ``TileReader``."""

    def __init__(self, path: Path, descriptor: int, start: int, first: int = 0) -> None:
        self._path = path
        self._descriptor = descriptor
        self._start = start
        self._first = first

    def tile(self, level: int, index: int, width: int) -> bytes:
        """A run's 256 leaf hashes; level and width are always 0 and 256. Raises FileProblem."""
        try:
            at = self._start + (index - self._first) * FULL_TILE_BYTES
            return os.pread(self._descriptor, FULL_TILE_BYTES, at)
        except OSError as error:
            raise FileProblem(f"cannot be read: {reason(error)}", where=str(self._path)) from None

    def runs(self, last: int) -> Iterator[bytes]:
        """All runs up to ``last``, exclusive, many at a time. Raises FileProblem."""
        at, end = self._start, self._start + (last - self._first) * FULL_TILE_BYTES
        while at < end:
            part = os.pread(self._descriptor, min(_COPIED, end - at), at)
            if not part:
                raise FileProblem("is shorter than it was", where=str(self._path))
            yield part
            at += len(part)


@dataclass(frozen=True, slots=True)
class PackFile:
    """A pack as it lies on the disk. ``runs`` are those of the leaves form; ``size`` in bytes."""

    path: Path
    pack: Pack
    runs: LeafRuns | None
    size: int

    def open(self, trust: Trust) -> OpenedPack:
        """Proven as a whole, but for the runs, which are when they are used. Raises as :func:`open_pack`."""
        return open_pack(self.pack, trust, self.runs)


@dataclass(frozen=True, slots=True)
class DeltaFile:
    """A delta as it lies on the disk."""

    delta: Delta
    runs: LeafRuns | None
    size: int


def read_pack(path: Path) -> PackFile:
    """Read a pack's head. The file stays open for as long as this process runs.

    Raises FileProblem, PackFormatError, TooLarge: no more is read than its first bytes say, nor than it has.
    """
    descriptor, size = _opened(path)
    head = _head(path, descriptor, size, FRONT_BYTES, head_size)
    pack = parse_pack(head)
    runs = _runs(path, descriptor, size - len(head), len(head), pack.form, (0, pack.full))
    return PackFile(path, pack, runs, size)


def read_delta(path: Path) -> DeltaFile:
    """Read a delta. Raises as :func:`read_pack`."""
    descriptor, size = _opened(path)
    head = _head(path, descriptor, size, DELTA_FRONT_BYTES, delta_size)
    delta = parse_delta(head)
    runs = _runs(path, descriptor, size - len(head), len(head), delta.form, delta.runs)
    return DeltaFile(delta, runs, size)


def is_delta(path: Path) -> bool:
    """Whether a file begins as a delta does. Raises FileProblem."""
    descriptor, _ = _opened(path)
    try:
        return os.pread(descriptor, len(DELTA_MAGIC), 0) == DELTA_MAGIC
    finally:
        os.close(descriptor)


def write_pack(path: Path, pack: Pack, runs: Iterable[bytes]) -> int:
    """Put a pack in place of whatever is there; returns its bytes. Raises FileProblem."""
    return _write(path, pack.encode(), runs)


def write_delta(path: Path, delta: Delta, runs: Iterable[bytes]) -> int:
    """Put a delta in place of whatever is there; returns its bytes. Raises FileProblem."""
    return _write(path, delta.encode(), runs)


def _write(path: Path, head: bytes, runs: Iterable[bytes]) -> int:
    written = 0

    def parts() -> Iterator[bytes]:
        nonlocal written
        for part in chain((head,), runs):
            written += len(part)
            yield part

    write_parts(path, parts(), PUBLIC)
    return written


def _opened(path: Path) -> tuple[int, int]:
    try:
        with open_file(path) as file:
            descriptor = os.dup(file.fileno())
        return descriptor, os.fstat(descriptor).st_size
    except OSError as error:
        raise FileProblem(f"cannot be read: {reason(error)}", where=str(path)) from None


def _head(path: Path, descriptor: int, size: int, front: int, length: Callable[[bytes], int]) -> bytes:
    try:
        wanted = length(os.pread(descriptor, front, 0))
        if wanted > MAX_HEAD:
            raise TooLarge(f"a head of {wanted} bytes, at most {MAX_HEAD} are read", where=str(path))
        if not front <= wanted <= size:
            raise PackFormatError("it is cut short", where=str(path), fix="copy or fetch it again")
        return os.pread(descriptor, wanted, 0)
    except OSError as error:
        raise FileProblem(f"cannot be read: {reason(error)}", where=str(path)) from None


def _runs(
    path: Path, descriptor: int, behind: int, start: int, form: Form, runs: tuple[int, int]
) -> LeafRuns | None:
    """Exactly the runs that have to be there, or none. Raises PackFormatError."""
    first, last = runs
    want = (last - first) * FULL_TILE_BYTES if form is Form.LEAVES else 0
    if behind != want:
        what = "it is cut short" if behind < want else f"{behind - want} bytes too many"
        raise PackFormatError(what, where=str(path), fix="copy or fetch it again")
    return LeafRuns(path, descriptor, start, first) if form is Form.LEAVES else None
