"""The growing RFC 6962 tree, kept by its right edge alone.

Appending hashes row by row, and hands out each C2SP tile as it is made. Every node over a complete
subtree is hashed once in the life of the tree; the ephemeral ones of the right edge, only by
:meth:`Tree.root`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ledger.errors import OutOfRange, TileFormatError
from ledger.hashing import EMPTY_ROOT, HASH_SIZE, node_hash, parent_row
from ledger.tiles import (
    FULL_TILE_BYTES,
    MAX_SIZE,
    MID_HEIGHT,
    MIDS_BYTES,
    TILE_HEIGHT,
    TILE_WIDTH,
    Tile,
    TileId,
    tile_width,
)


@dataclass(frozen=True, slots=True)
class Tree:
    """A tree of ``size`` leaves: immutable, a few tens of kilobytes at any size.

    ``edge[h]`` is the root of the complete subtree of 2^h leaves at the right edge, where bit h of
    ``size`` is set, and empty elsewhere. ``partials[level]`` holds the hashes of the level's partial tile,
    and ``mids[level]`` the nodes at height 4 that are complete within it; both may be empty. Appending
    leaves the old value as it was, so a commit that fails costs nothing but its work.
    """

    size: int
    edge: tuple[bytes, ...]
    partials: tuple[bytes, ...]
    mids: tuple[bytes, ...]

    @classmethod
    def empty(cls) -> Tree:
        """The tree without leaves."""
        return cls(0, (), (), ())

    @classmethod
    def from_edge(cls, size: int, read_tile: Callable[[TileId], bytes]) -> Tree:
        """The tree of ``size`` leaves, from the partial tiles of that size (at most one a level; no scan).

        Reads at most 8 tiles and hashes at most 255 nodes in each. What was read is not checked: compare
        :meth:`root` with a root that you trust. Raises OutOfRange for a size that no tree has,
        TileFormatError for a tile of another length, and what ``read_tile`` raises.
        """
        _check_size(size)
        edge: list[bytes] = []
        partials: list[bytes] = []
        mids: list[bytes] = []
        for level in range(-(-size.bit_length() // TILE_HEIGHT)):
            width = (size >> TILE_HEIGHT * level) % TILE_WIDTH
            data = b""
            if width:
                data = read_tile(TileId(level, size >> TILE_HEIGHT * (level + 1), width))
                if len(data) != width * HASH_SIZE:
                    raise TileFormatError(
                        f"{len(data)} bytes where {width * HASH_SIZE} belong",
                        where=f"tile of level {level}",
                        fix="restore the tile from another copy",
                    )
            row = [data[at : at + HASH_SIZE] for at in range(0, len(data), HASH_SIZE)]
            partials.append(data)
            for height in range(TILE_HEIGHT):
                if height == MID_HEIGHT:
                    mids.append(b"".join(row))
                edge.append(row[-1] if len(row) % 2 else b"")
                row = parent_row(row)
        return cls(size, tuple(edge[: size.bit_length()]), tuple(partials), tuple(mids))

    def append(self, leaf_hashes: Sequence[bytes]) -> tuple[Tree, list[Tile]]:
        """The tree with these leaf hashes (32 bytes each) added, and every tile that this changed.

        Tiles come by level, then by index: those now full, each once and complete with its mids, then the
        level's newest partial, if it has one and it changed. Costs one hash for each node that became
        complete. Raises TileFormatError for a hash of another length, OutOfRange beyond 2^64-1 leaves.
        """
        if not leaf_hashes:
            return self, []
        size = self.size + len(leaf_hashes)
        _check_size(size)
        if set(map(len, leaf_hashes)) != {HASH_SIZE}:
            raise TileFormatError("a leaf hash is not 32 bytes", where="append", fix="hash the leaves first")

        heights = size.bit_length()
        levels = -(-heights // TILE_HEIGHT)
        edge = [*self.edge, *[b""] * (heights - len(self.edge))]
        partials = [*self.partials, *[b""] * (levels - len(self.partials))]
        mids = [*self.mids, *[b""] * (levels - len(self.mids))]
        tiles: list[Tile] = []

        row = list(leaf_hashes)
        for level in range(levels):
            if not row:
                break
            hashes = partials[level] + b"".join(row)
            first = level * TILE_HEIGHT
            for height in range(first, min(first + TILE_HEIGHT, heights)):
                if height == first + MID_HEIGHT:
                    mids[level] += b"".join(row)
                if edge[height]:
                    row.insert(0, edge[height])
                edge[height] = row[-1] if len(row) % 2 else b""
                row = parent_row(row)
            index = self.size >> first + TILE_HEIGHT
            full, partials[level], mids[level] = _cut(level, index, hashes, mids[level])
            tiles += full
            width = tile_width(level, index + len(full), size)
            if width:
                tiles.append(Tile(TileId(level, index + len(full), width), partials[level]))
        return Tree(size, tuple(edge), tuple(partials), tuple(mids)), tiles

    def root(self) -> bytes:
        """The RFC 6962 root (MTH, section 2.1), 32 bytes; O(log size) hashes."""
        rising = [node for node in self.edge if node]
        if not rising:
            return EMPTY_ROOT
        root = rising[0]
        for left in rising[1:]:
            root = node_hash(left, root)
        return root


def _cut(level: int, index: int, hashes: bytes, mids: bytes) -> tuple[list[Tile], bytes, bytes]:
    """The full tiles at the front of a level's hashes, from tile ``index`` on, and what is left of both."""
    count = len(hashes) // FULL_TILE_BYTES
    full = [
        Tile(
            TileId(level, index + i),
            hashes[i * FULL_TILE_BYTES : (i + 1) * FULL_TILE_BYTES],
            mids[i * MIDS_BYTES : (i + 1) * MIDS_BYTES],
        )
        for i in range(count)
    ]
    return full, hashes[count * FULL_TILE_BYTES :], mids[count * MIDS_BYTES :]


def _check_size(size: int) -> None:
    if not 0 <= size <= MAX_SIZE:
        raise OutOfRange("no tree has that many leaves", where="size", fix="sizes are 0 to 2^64-1")
