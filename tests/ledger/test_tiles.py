from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import OutOfRange, TileFormatError, TooLarge
from ledger.tiles import (
    MAX_BUNDLE_BYTES,
    MAX_INDEX,
    MAX_PATH_CHARS,
    BundleId,
    TileId,
    TileNodeReader,
    encode_bundle,
    entries_path,
    parse_bundle,
    parse_entries_path,
    parse_tile_path,
    tile_path,
    tile_width,
)
from tests.ledger.oracles import NaiveTree, numbered_leaf_hashes
from tests.ledger.test_tree import TileStore, grown

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "tree.json").read_text())


@pytest.mark.parametrize("case", VECTORS["tile_paths"], ids=lambda case: case["desc"])
def test_path_vectors(case: dict[str, Any]) -> None:
    want, path = case["want"], case["input"]["path"]
    if want == "MALFORMED_TILE":
        for parse in (parse_tile_path, parse_entries_path):
            with pytest.raises(TileFormatError) as caught:
                parse(path)
            assert caught.value.code == want
    elif want["level"] == "entries":
        assert parse_entries_path(path) == BundleId(int(want["index"]), want["width"])
        assert entries_path(int(want["index"]), want["width"]) == path
        with pytest.raises(TileFormatError):
            parse_tile_path(path)
    else:
        assert parse_tile_path(path) == TileId(want["level"], int(want["index"]), want["width"])
        assert tile_path(want["level"], int(want["index"]), want["width"]) == path
        with pytest.raises(TileFormatError):
            parse_entries_path(path)


@pytest.mark.parametrize("case", VECTORS["bundles"], ids=lambda case: case["desc"])
def test_bundle_vectors(case: dict[str, Any]) -> None:
    data = bytes.fromhex(case["input"]["bundle"])
    if isinstance(case["want"], str):
        with pytest.raises(TileFormatError) as caught:
            parse_bundle(data)
        assert caught.value.code == case["want"]
    else:
        leaves = [bytes.fromhex(leaf) for leaf in case["want"]]
        assert parse_bundle(data) == leaves
        assert encode_bundle(leaves) == data


def test_the_longest_path_just_fits() -> None:
    longest = entries_path(MAX_INDEX, 255)
    assert len(longest) == MAX_PATH_CHARS
    assert parse_entries_path(longest) == BundleId(MAX_INDEX, 255)


@given(st.integers(0, 63), st.integers(0, MAX_INDEX), st.integers(1, 256))
def test_paths_round_trip(level: int, index: int, width: int) -> None:
    assert parse_tile_path(tile_path(level, index, width)) == TileId(level, index, width)
    assert parse_entries_path(entries_path(index, width)) == BundleId(index, width)


PATHS = st.one_of(
    st.text(),
    st.text("tile/x0123456789.pentris", max_size=60),
    st.from_regex(r"tile/(entries|[0-9]{1,3})/(x[0-9]{3}/){0,7}[0-9]{1,4}(\.p/[0-9]{0,4})?\n?"),
)


@given(PATHS)
def test_only_canonical_paths_are_read(path: str) -> None:
    try:
        tile = parse_tile_path(path)
    except TileFormatError:
        pass
    else:
        assert tile.path() == path
    try:
        bundle = parse_entries_path(path)
    except TileFormatError:
        pass
    else:
        assert bundle.path() == path


@pytest.mark.parametrize(
    ("level", "index", "width"),
    [(-1, 0, 1), (64, 0, 1), (0, -1, 1), (0, MAX_INDEX + 1, 1), (0, 0, 0), (0, 0, 257), (0, 2**200, 1)],
)
def test_coordinates_that_no_tile_has(level: int, index: int, width: int) -> None:
    with pytest.raises(OutOfRange):
        TileId(level, index, width)
    if 0 <= level <= 63:
        with pytest.raises(OutOfRange):
            BundleId(index, width)


def test_a_number_too_long_to_print_is_still_our_error() -> None:
    for number in (10**5000, -(10**5000)):
        with pytest.raises(OutOfRange):
            tile_path(number, 0)
        with pytest.raises(OutOfRange):
            entries_path(number)


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 65_535, 65_536, 70_000, 2**40 + 3, 2**64 - 1])
def test_width_is_the_specifications(size: int) -> None:
    for level in range(9):
        entries = size // 256**level
        assert tile_width(level, entries // 256, size) == entries % 256
        assert tile_width(level, entries // 256 + 1, size) == 0
        if entries >= 256:
            assert tile_width(level, entries // 256 - 1, size) == 256
            assert tile_width(level, 0, size) == 256


def test_bundle_limits() -> None:
    longest = [b"x" * 65_535] * 256
    data = encode_bundle(longest)
    assert len(data) == MAX_BUNDLE_BYTES
    assert parse_bundle(data) == longest
    with pytest.raises(TooLarge):
        parse_bundle(data + b"\0")
    with pytest.raises(TooLarge):
        encode_bundle([b"x" * 65_536])
    for leaves in ([], [b""] * 257):
        with pytest.raises(TileFormatError):
            encode_bundle(leaves)


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=256), st.binary(min_size=1, max_size=3))
def test_bundles_round_trip_and_end_exactly(leaves: list[bytes], more: bytes) -> None:
    data = encode_bundle(leaves)
    assert parse_bundle(data) == leaves
    with pytest.raises(TileFormatError):
        parse_bundle(data[:-1] if leaves[-1] else data[:-2] + b"\0\1")
    try:
        longer = parse_bundle(data + more)
    except TileFormatError:
        pass
    else:
        assert encode_bundle(longer) == data + more


@given(st.binary(max_size=600))
def test_only_canonical_bundles_are_read(data: bytes) -> None:
    try:
        leaves = parse_bundle(data)
    except TileFormatError:
        return
    assert encode_bundle(leaves) == data


class CountingTiles:
    """A TileReader over a store that serves each tile with the width asked for, and counts."""

    def __init__(self, store: TileStore) -> None:
        self.store = store
        self.read: list[tuple[int, int, int]] = []

    def tile(self, level: int, index: int, width: int) -> bytes:
        self.read.append((level, index, width))
        return self.store.data[level, index][: width * 32]

    def mids(self, level: int, index: int) -> bytes:
        return self.store.mids[level, index]


SIZE = 66_300
NAIVE = NaiveTree(numbered_leaf_hashes(SIZE))
_, STORE = grown([NAIVE.leaf_hashes])


@pytest.mark.parametrize("with_mids", [True, False])
def test_every_kind_of_node_is_read_from_tiles(with_mids: bool) -> None:
    tiles = CountingTiles(STORE)
    reader = TileNodeReader(tiles, SIZE, mids=tiles.mids if with_mids else None, capacity=3)
    for height in range(17):
        count = SIZE >> height
        indexes = sorted({0, 1, count // 2, count // 3, count - 2, count - 1} & set(range(count)))
        ids = [(height, index) for index in [*indexes, *indexes[:1]]]
        assert reader.nodes(ids) == NAIVE.nodes(ids)
        for index in (-1, count):
            with pytest.raises(OutOfRange):
                reader.nodes([(height, index)])
    assert reader.nodes([]) == []


@pytest.mark.parametrize("with_mids", [True, False])
def test_all_nodes_of_a_tile_in_any_order(with_mids: bool) -> None:
    tiles = CountingTiles(STORE)
    ids = [(height, index) for height in range(8) for index in range(256 >> height)]
    for order in (ids, ids[::-1]):
        reader = TileNodeReader(tiles, SIZE, mids=tiles.mids if with_mids else None)
        assert reader.nodes(order) == NAIVE.nodes(order)
        assert reader.nodes(order) == NAIVE.nodes(order)
    assert len(tiles.read) == 2


def test_kept_tiles_are_bounded_and_the_least_used_goes() -> None:
    tiles = CountingTiles(STORE)
    reader = TileNodeReader(tiles, SIZE, capacity=2)
    for index in (0, 256, 0, 512, 0, 256):
        reader.nodes([(0, index)])
    assert tiles.read == [(0, 0, 256), (0, 1, 256), (0, 2, 256), (0, 1, 256)]


def test_another_size_shares_full_tiles_and_reads_its_own_partial_ones() -> None:
    tiles = CountingTiles(STORE)
    reader = TileNodeReader(tiles, SIZE)
    reader.nodes([(0, 0)])
    earlier = reader.at(300)
    earlier.nodes([(0, 0), (0, 299)])
    assert tiles.read == [(0, 0, 256), (0, 1, 44)]
    with pytest.raises(OutOfRange):
        earlier.nodes([(0, 300)])


def test_tiles_and_mids_of_another_length_are_refused() -> None:
    class Short:
        def tile(self, level: int, index: int, width: int) -> bytes:
            return bytes(width * 32 - 1)

    with pytest.raises(TileFormatError):
        TileNodeReader(Short(), SIZE).nodes([(0, 0)])
    with pytest.raises(TileFormatError):
        TileNodeReader(CountingTiles(STORE), SIZE, mids=lambda level, index: b"x" * 511).nodes([(0, 0)])
