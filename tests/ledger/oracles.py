"""Slow, plainly recursive RFC 6962 trees that the fast ones are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from ledger.hashing import leaf_hash
from ledger.tiles import NodeId


def numbered_leaf_hashes(count: int) -> list[bytes]:
    """Leaf hashes of the leaves ``b"leaf 0"``, ``b"leaf 1"``, …"""
    return [leaf_hash(b"leaf %d" % i) for i in range(count)]


def split_point(count: int) -> int:
    """RFC 6962's k: the largest power of two smaller than ``count`` (at least 2)."""
    k = 1
    while k * 2 < count:
        k *= 2
    return k


class NaiveTree:
    """The definitions of RFC 6962 section 2.1, word for word; also a NodeReader."""

    def __init__(self, leaf_hashes: Sequence[bytes]) -> None:
        self.leaf_hashes = list(leaf_hashes)
        self._known: dict[tuple[int, int], bytes] = {}

    def range_root(self, start: int, end: int) -> bytes:
        """MTH(D[start:end])."""
        known = self._known.get((start, end))
        if known is None:
            known = self._known[start, end] = self._range_root(start, end)
        return known

    def _range_root(self, start: int, end: int) -> bytes:
        if start == end:
            return sha256(b"").digest()
        if end - start == 1:
            return self.leaf_hashes[start]
        middle = start + split_point(end - start)
        return sha256(b"\x01" + self.range_root(start, middle) + self.range_root(middle, end)).digest()

    def root(self, size: int) -> bytes:
        return self.range_root(0, size)

    def inclusion(self, index: int, size: int) -> list[bytes]:
        """PATH(index, D[0:size])."""
        return self._path(index, 0, size)

    def _path(self, index: int, start: int, end: int) -> list[bytes]:
        if end - start == 1:
            return []
        middle = start + split_point(end - start)
        if index < middle:
            return [*self._path(index, start, middle), self.range_root(middle, end)]
        return [*self._path(index, middle, end), self.range_root(start, middle)]

    def consistency(self, old: int, new: int) -> list[bytes]:
        """PROOF(old, D[0:new]); empty for old = 0."""
        return self._subproof(old, 0, new, True) if old else []

    def _subproof(self, old: int, start: int, end: int, whole: bool) -> list[bytes]:
        if old == end:
            return [] if whole else [self.range_root(start, end)]
        middle = start + split_point(end - start)
        if old <= middle:
            return [*self._subproof(old, start, middle, whole), self.range_root(middle, end)]
        return [*self._subproof(old, middle, end, False), self.range_root(start, middle)]

    def nodes(self, ids: Sequence[NodeId]) -> list[bytes]:
        for height, index in ids:
            assert index >= 0, "a negative node"
            assert (index + 1) << height <= len(self.leaf_hashes), "an incomplete node is never stored"
        return [self.range_root(index << height, (index + 1) << height) for height, index in ids]


class UniformTree:
    """A tree of any size whose leaves are all equal but one, so that it needs no memory. A NodeReader."""

    def __init__(self, size: int, odd: int) -> None:
        self.size = size
        self.odd = odd
        self.same = [leaf_hash(b"same")]
        self.marked = [leaf_hash(b"odd")]
        for height in range(64):
            pair = [self.same[height], self.marked[height]]
            if odd >> height & 1 == 0:
                pair.reverse()
            self.same.append(sha256(b"\x01" + self.same[height] * 2).digest())
            self.marked.append(sha256(b"\x01" + b"".join(pair)).digest())

    def leaf_hash(self, index: int) -> bytes:
        return self.marked[0] if index == self.odd else self.same[0]

    def nodes(self, ids: Sequence[NodeId]) -> list[bytes]:
        for height, index in ids:
            assert 0 <= index < self.size >> height, "an incomplete node is never stored"
        return [(self.marked if self.odd >> height == index else self.same)[height] for height, index in ids]

    def range_root(self, start: int, end: int) -> bytes:
        count = end - start
        if count & (count - 1) == 0:
            height = count.bit_length() - 1
            return (self.marked if start <= self.odd < end else self.same)[height]
        middle = start + (1 << count.bit_length() - 1)
        return sha256(b"\x01" + self.range_root(start, middle) + self.range_root(middle, end)).digest()

    def root(self, size: int) -> bytes:
        return self.range_root(0, size)
