from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from merkletools import MerkleTools
from pymerkle import InmemoryTree

from ledger import hashing
from ledger.errors import OutOfRange, TileFormatError
from ledger.tiles import MAX_SIZE, Tile, TileId, tile_width
from ledger.tree import Tree
from tests.ledger.oracles import NaiveTree, numbered_leaf_hashes


class TileStore:
    """What a store keeps of the tiles handed out; refuses one that changes or shrinks what is there."""

    def __init__(self) -> None:
        self.data: dict[tuple[int, int], bytes] = {}
        self.mids: dict[tuple[int, int], bytes] = {}

    def put(self, tiles: Iterable[Tile]) -> None:
        for tile in tiles:
            place = (tile.id.level, tile.id.index)
            before = self.data.get(place, b"")
            assert len(tile.data) == tile.id.width * 32
            assert len(tile.mids) == (512 if tile.id.width == 256 else 0)
            assert tile.data.startswith(before)
            assert tile.data != before, "a tile that did not change was handed out"
            self.data[place] = tile.data
            if tile.mids:
                self.mids[place] = tile.mids

    def read(self, tile: TileId) -> bytes:
        data = self.data[tile.level, tile.index]
        assert len(data) == tile.width * 32
        return data


def grown(parts: Iterable[Sequence[bytes]]) -> tuple[Tree, TileStore]:
    tree, store = Tree.empty(), TileStore()
    for part in parts:
        tree, tiles = tree.append(part)
        store.put(tiles)
    return tree, store


def expected_tiles(naive: NaiveTree, size: int) -> dict[tuple[int, int], bytes]:
    """Every tile of a tree of ``size``, from C2SP's definition."""
    tiles = {}
    for level in range(3):
        span = 256**level
        for index in range(-(-(size // span) // 256)):
            first = index * 256
            count = min(256, size // span - first)
            tiles[level, index] = b"".join(
                naive.range_root((first + i) * span, (first + i + 1) * span) for i in range(count)
            )
    return tiles


def test_root_of_every_size_to_300_one_leaf_at_a_time() -> None:
    naive = NaiveTree(numbered_leaf_hashes(300))
    tree, store = Tree.empty(), TileStore()
    assert tree.root() == hashing.EMPTY_ROOT
    for size, leaf in enumerate(naive.leaf_hashes, start=1):
        tree, tiles = tree.append([leaf])
        store.put(tiles)
        assert tree.size == size
        assert tree.root() == naive.root(size)
        assert store.data == expected_tiles(naive, size)
        assert Tree.from_edge(size, store.read) == tree


@pytest.mark.parametrize("size", [70_000, 65_536, 65_535, 65_537, 1])
def test_tiles_and_mids_of_larger_trees(size: int) -> None:
    naive = NaiveTree(numbered_leaf_hashes(size))
    tree, store = grown([naive.leaf_hashes[:777], naive.leaf_hashes[777:40_000], naive.leaf_hashes[40_000:]])
    assert tree.root() == naive.root(size)
    assert store.data == expected_tiles(naive, size)
    full = {place for place, data in store.data.items() if len(data) == 8192}
    assert store.mids.keys() == full
    for (level, index), mids in store.mids.items():
        span = 16 * 256**level
        first = index * 16
        assert mids == b"".join(
            naive.range_root((first + i) * span, (first + i + 1) * span) for i in range(16)
        )
    assert Tree.from_edge(size, store.read) == tree


def test_the_example_of_the_specification() -> None:
    tree, store = grown([numbered_leaf_hashes(70_000)])
    widths: dict[int, list[int]] = {}
    for (level, _), data in sorted(store.data.items()):
        widths.setdefault(level, []).append(len(data) // 32)
    assert widths == {0: [256] * 273 + [112], 1: [256, 17], 2: [1]}
    assert tree.append([])[1] == []


def test_the_order_of_tiles() -> None:
    tree, _ = Tree.empty().append(numbered_leaf_hashes(255))
    _, tiles = tree.append(numbered_leaf_hashes(258))
    assert [tile.id for tile in tiles] == [TileId(0, 0), TileId(0, 1), TileId(0, 2, 1), TileId(1, 0, 2)]
    _, tiles = tree.append(numbered_leaf_hashes(1))
    assert [tile.id for tile in tiles] == [TileId(0, 0), TileId(1, 0, 1)]


LEAVES = numbered_leaf_hashes(3_000)
NAIVE = NaiveTree(LEAVES)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.one_of(st.integers(0, 20), st.integers(0, 700)), max_size=12))
def test_any_split_of_appends_gives_the_same_tree_and_tiles(counts: list[int]) -> None:
    parts, at = [], 0
    for count in counts:
        parts.append(LEAVES[at : at + count])
        at = min(at + count, len(LEAVES))
    tree, store = grown(parts)
    whole, at_once = grown([LEAVES[:at]])
    assert tree == whole
    assert store.data == at_once.data
    assert store.mids == at_once.mids
    assert tree.root() == NAIVE.root(at)
    assert Tree.from_edge(at, store.read) == tree


def test_the_old_tree_is_untouched_and_forks() -> None:
    old, _ = grown([LEAVES[:500]])
    kept = (old.size, old.edge, old.partials, old.mids)
    lost, _ = old.append(LEAVES[1_000:2_000])
    taken, tiles = old.append(LEAVES[500:1_000])
    assert (old.size, old.edge, old.partials, old.mids) == kept
    assert old.root() == NAIVE.root(500)
    assert taken.root() == NAIVE.root(1_000)
    assert lost.root() != taken.root()
    assert old.append(LEAVES[500:1_000]) == (taken, tiles)


@pytest.mark.parametrize("step", [1, 7, 256, 1_000, 3_000])
def test_each_node_is_hashed_once(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs: list[bytes] = []

    def counting(data: bytes) -> object:
        inputs.append(data)
        return sha256(data)

    monkeypatch.setattr(hashing, "sha256", counting)
    grown(LEAVES[at : at + step] for at in range(0, len(LEAVES), step))
    complete = sum(len(LEAVES) >> height for height in range(1, 12))
    assert len(inputs) == complete
    assert len(set(inputs)) == complete


def test_leaf_hashes_of_another_length_are_refused() -> None:
    tree, _ = grown([LEAVES[:5]])
    for bad in (b"", b"x" * 31, b"x" * 33):
        with pytest.raises(TileFormatError):
            tree.append([LEAVES[0], bad])
    with pytest.raises(TileFormatError):
        tree.append([b"x" * 31, b"x" * 33])


def test_restart_refuses_what_is_not_the_edge() -> None:
    with pytest.raises(TileFormatError, match="level 1"):
        Tree.from_edge(256, lambda tile: b"x" * 31)
    for size in (-1, MAX_SIZE + 1):
        with pytest.raises(OutOfRange):
            Tree.from_edge(size, lambda tile: b"")
    assert Tree.from_edge(0, lambda tile: b"") == Tree.empty()


def test_the_largest_sizes() -> None:
    def same(tile: TileId) -> bytes:
        assert tile.width == tile_width(tile.level, tile.index, MAX_SIZE)
        return rows[tile.level * 8] * tile.width

    rows = [LEAVES[0]]
    for _ in range(64):
        rows.append(hashing.node_hash(rows[-1], rows[-1]))
    tree = Tree.from_edge(MAX_SIZE, same)
    assert tree.edge == tuple(rows[:64])
    with pytest.raises(OutOfRange):
        tree.append([LEAVES[0]])
    last = Tree.from_edge(MAX_SIZE - 1, lambda tile: rows[tile.level * 8] * tile.width)
    after, tiles = last.append([LEAVES[0]])
    assert after == tree
    assert [tile.id for tile in tiles] == [TileId(0, MAX_SIZE >> 8, 255)]


def test_roots_equal_merkletools_and_pymerkle() -> None:
    class WithNodePrefix:
        def __init__(self, data: bytes) -> None:
            self.digest = sha256(b"\x01" + data).digest

    data = [b"leaf %d" % i for i in range(600)]
    theirs = InmemoryTree(algorithm="sha256")
    theirs.append_entries(data)
    tools = MerkleTools()
    tools.hash_function = WithNodePrefix
    tree = Tree.empty()
    for size, leaf in enumerate(LEAVES[:600], start=1):
        tree, _ = tree.append([leaf])
        assert tree.root() == theirs.get_root(size)
        tools.add_leaf(leaf.hex())
        if size < 70 or size % 37 == 0:
            tools.make_tree()
            assert tree.root().hex() == tools.get_merkle_root()


def test_random_large_appends_restart_equal() -> None:
    rng = random.Random(6962)
    tree, store = grown([rng.randbytes(32) for _ in range(rng.randrange(20_000))] for _ in range(6))
    assert Tree.from_edge(tree.size, store.read) == tree
