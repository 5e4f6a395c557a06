"""An RFC 6962 tree over a list whose items change in place, for the small trees that a seal names.

The status list and the registry are such lists. Setting one item of n costs log2(n) hashes, so a
root in every seal stays cheap however long the log grows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ledger.errors import OutOfRange
from ledger.hashing import EMPTY_ROOT, node_hash, parent_row


@dataclass(frozen=True, slots=True)
class MerkleList:
    """``rows[0]`` are the leaf hashes, ``rows[-1]`` is the root; an odd last node rises unchanged."""

    rows: tuple[tuple[bytes, ...], ...] = ()

    @classmethod
    def of(cls, hashes: Iterable[bytes]) -> MerkleList:
        """Build over leaf hashes: n-1 node hashes."""
        row = tuple(hashes)
        rows = [row] if row else []
        while len(row) > 1:
            above = parent_row(row)
            row = (*above, row[-1]) if len(row) % 2 else tuple(above)
            rows.append(row)
        return cls(tuple(rows))

    def __len__(self) -> int:
        return len(self.rows[0]) if self.rows else 0

    @property
    def hashes(self) -> tuple[bytes, ...]:
        return self.rows[0] if self.rows else ()

    @property
    def root(self) -> bytes:
        return self.rows[-1][0] if self.rows else EMPTY_ROOT

    def set(self, position: int, leaf_hash: bytes) -> MerkleList:
        """With one item replaced, or appended at ``position`` = length. log2(n) hashes.

        Raises OutOfRange for a position beyond that.
        """
        if position == len(self):
            return self._append(leaf_hash)
        self._require(position)
        rows = []
        node = leaf_hash
        for row in self.rows:
            changed = (*row[:position], node, *row[position + 1 :])
            rows.append(changed)
            left = position & ~1
            node = node_hash(changed[left], changed[left + 1]) if left + 1 < len(changed) else node
            position >>= 1
        return MerkleList(tuple(rows))

    def _append(self, leaf_hash: bytes) -> MerkleList:
        rows: list[tuple[bytes, ...]] = []
        node, position = leaf_hash, len(self)
        for row in self.rows or ((),):
            changed = (*row[:position], node)
            rows.append(changed)
            left = position & ~1
            node = node_hash(changed[left], changed[left + 1]) if left + 1 < len(changed) else node
            position >>= 1
        if len(rows[-1]) > 1:
            rows.append((node,))
        return MerkleList(tuple(rows))

    def path(self, position: int) -> list[bytes]:
        """The RFC 6962 inclusion path of an item, leaf to root. Raises OutOfRange."""
        self._require(position)
        path = []
        for row in self.rows[:-1]:
            sibling = position ^ 1
            if sibling < len(row):
                path.append(row[sibling])
            position >>= 1
        return path

    def _require(self, position: int) -> None:
        if not 0 <= position < len(self):
            raise OutOfRange(f"position {position} is not in a list of {len(self)}")
