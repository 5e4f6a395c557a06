"""The Merkle core beside its baselines: ``python -m benchmarks.tree``. Half a minute; 0.6 GB.

Everything runs in one process, one thread, in turns, and the best of several rounds counts.
"""

from __future__ import annotations

import itertools
import os
import random
import time
from collections.abc import Callable
from hashlib import sha256

from merkletools import MerkleTools
from pymerkle import InmemoryTree

from benchmarks.report import Row, best, markdown
from ledger.hashing import leaf_hashes
from ledger.proofs import inclusion_nodes, prove_consistency, prove_inclusion, verify_inclusion
from ledger.tiles import TileId, TileNodeReader
from ledger.tree import Tree

LEAVES = 100_000
LEAF_BYTES = 44  # an ISSUE leaf
ROUNDS = 5
BLOCK = 256
BIG = 10_000_000
BATCH = 65_536
PROOFS = 2_000
HOT_PROOFS = 500  # each in a level-0 tile of its own, all within the default capacity


def run() -> list[Row]:
    """Measure everything; the rows in the order of the table."""
    return [*_append_rows(), *_proof_rows()]


def _append_rows() -> list[Row]:
    random_bytes = os.urandom(LEAVES * LEAF_BYTES)
    leaves = [random_bytes[at : at + LEAF_BYTES] for at in range(0, len(random_bytes), LEAF_BYTES)]

    def in_blocks(count: int) -> Callable[[], bytes]:
        def work() -> bytes:
            tree = Tree.empty()
            for at in range(0, LEAVES, count):
                tree, _ = tree.append(leaf_hashes(leaves[at : at + count]))
            return tree.root()

        return work

    def pymerkle() -> bytes:
        tree = InmemoryTree(algorithm="sha256")
        tree.append_entries(leaves)
        return bytes(tree.get_root())

    ways: dict[str, Callable[[], bytes]] = {
        "bare": lambda: _bare_hashlib(leaves),
        "ours": in_blocks(LEAVES),
        "blocks": in_blocks(BLOCK),
        "single": in_blocks(1),
        "pymerkle": pymerkle,
    }
    if len({work() for work in ways.values()}) != 1:
        raise AssertionError("all must reach the same root")
    times = dict.fromkeys(ways, float("inf"))
    for _ in range(ROUNDS):
        for name, work in ways.items():
            times[name] = min(times[name], best(work, 1))

    what = f"append {LEAVES:,} leaves with root and all tiles"
    bare, ours, theirs = times["bare"], times["ours"], times["pymerkle"]
    bare_text = f"bare hashlib calls, {bare * 1e3:.0f} ms"
    rows = [
        Row(f"{what}, at once", ours * 1e3, "ms", bare_text, ours / bare, "≤ 1.3×"),
        Row(f"{what}, {BLOCK} at a time", times["blocks"] * 1e3, "ms", bare_text, times["blocks"] / bare),
        Row(f"{what}, one at a time", times["single"] * 1e3, "ms", bare_text, times["single"] / bare),
        Row(f"{what}, at once", ours * 1e3, "ms", f"pymerkle, {theirs * 1e3:.0f} ms", theirs / ours, "≥ 20×"),
        Row(
            f"{what}, one at a time",
            times["single"] * 1e3,
            "ms",
            f"pymerkle, which makes no tiles, {theirs * 1e3:.0f} ms",
            theirs / times["single"],
        ),
        Row(
            "the bare hashlib calls alone: no tree on one core can gain more",
            bare * 1e3,
            "ms",
            f"pymerkle, {theirs * 1e3:.0f} ms",
            theirs / bare,
        ),
    ]
    return [*rows, *_merkletools_rows(leaves, what, ours, times["single"])]


def _bare_hashlib(leaves: list[bytes]) -> bytes:
    """The hash calls that no RFC 6962 tree avoids, and nothing else: n for leaves, n-1 for nodes."""
    row = [sha256(b"\x00" + leaf).digest() for leaf in leaves]
    while len(row) > 1:
        odd = row[-1:] if len(row) % 2 else []
        pairs = iter(row)
        row = [sha256(b"\x01" + left + right).digest() for left, right in zip(pairs, pairs, strict=False)]
        row += odd
    return row[0]


class _NodeHash:
    """SHA-256 with the node prefix, which gives merkletools the shape and hashes of RFC 6962."""

    def __init__(self, data: bytes) -> None:
        self.digest = sha256(b"\x01" + data).digest


def _merkletools_rows(leaves: list[bytes], what: str, at_once: float, single: float) -> list[Row]:
    """merkletools has a root only after a rebuild of everything.

    One rebuild at the end is measured outright. As a log grows it must rebuild after each append; that
    is measured outright to 1,000 leaves. To 10^5 it would take an hour, so it is the sum of rebuild times,
    taken as linear between sizes at which one was measured.
    """
    hashes = [leaf.hex() for leaf in leaf_hashes(leaves)]

    def rebuilt(count: int) -> MerkleTools:
        tree = MerkleTools()
        tree.hash_function = _NodeHash
        tree.add_leaf(hashes[:count])
        tree.make_tree()
        return tree

    def growing(count: int) -> None:
        tree = MerkleTools()
        tree.hash_function = _NodeHash
        for value in hashes[:count]:
            tree.add_leaf(value)
            tree.make_tree()

    assert (
        rebuilt(1_000).get_merkle_root() == Tree.empty().append(leaf_hashes(leaves[:1_000]))[0].root().hex()
    )
    whole = best(lambda: (leaf_hashes(leaves), rebuilt(LEAVES)), 2)

    points = [(0, 0.0)]
    for count in (1_000, 10_000, LEAVES):
        tree = rebuilt(count)
        points.append((count, best(tree.make_tree, 3)))
    extrapolated = sum(
        (later - earlier) * (before + after) / 2
        for (earlier, before), (later, after) in itertools.pairwise(points)
    )
    measured = best(lambda: growing(1_000), 1)

    def ours_growing() -> None:
        tree = Tree.empty()
        for leaf in leaves[:1_000]:
            tree, _ = tree.append(leaf_hashes([leaf]))
            tree.root()

    grown = best(ours_growing, 3)
    return [
        Row(
            f"{what}, at once",
            at_once * 1e3,
            "ms",
            f"merkletools, one rebuild at the end, {whole * 1e3:.0f} ms",
            whole / at_once,
        ),
        Row(
            "append 1,000 leaves, a root after each",
            grown * 1e3,
            "ms",
            f"merkletools, measured, {measured * 1e3:,.0f} ms",
            measured / grown,
        ),
        Row(
            f"{what}, one at a time",
            single * 1e3,
            "ms",
            f"merkletools as it grows, summed from rebuilds at 1,000, 10,000 and {LEAVES:,}: "
            f"{extrapolated:,.0f} s",
            extrapolated / single,
            "≥ 20×",
        ),
    ]


class _MemoryTiles:
    """A TileReader over tiles in memory: reading one costs next to nothing, so hashing and logic show."""

    def __init__(self) -> None:
        self.data: dict[tuple[int, int], bytes] = {}
        self.kept_mids: dict[tuple[int, int], bytes] = {}

    def tile(self, level: int, index: int, width: int) -> bytes:
        return self.data[level, index][: width * 32]

    def mids(self, level: int, index: int) -> bytes:
        return self.kept_mids[level, index]


def _proof_rows() -> list[Row]:
    tiles = _MemoryTiles()
    tree = Tree.empty()
    while tree.size < BIG:
        count = min(BATCH, BIG - tree.size)
        raw = os.urandom(count * 32)  # random leaf hashes: here what they are hashes of does not matter
        tree, changed = tree.append([raw[at : at + 32] for at in range(0, len(raw), 32)])
        for tile in changed:
            place = (tile.id.level, tile.id.index)
            tiles.data[place] = tile.data
            if tile.mids:
                tiles.kept_mids[place] = tile.mids
    root = tree.root()

    def read_tile(tile: TileId) -> bytes:
        return tiles.tile(tile.level, tile.index, tile.width)

    restart = best(lambda: Tree.from_edge(BIG, read_tile), ROUNDS)
    assert Tree.from_edge(BIG, read_tile) == tree

    rng = random.Random(6962)
    indexes = [place * 256 + rng.randrange(256) for place in rng.sample(range(BIG // 256), PROOFS)]
    reader = TileNodeReader(tiles, BIG, mids=tiles.mids, capacity=2 * PROOFS)
    bare_reader = TileNodeReader(tiles, BIG, capacity=2 * PROOFS)
    for upper in (reader, bare_reader):  # the upper tiles are warm in any process that has run for a while
        upper.nodes(
            [node for at in range(0, BIG, 50_000) for node in inclusion_nodes(at, BIG).ids if node[0] > 7]
        )

    def prove_all(source: TileNodeReader, wanted: list[int]) -> float:
        """Mean seconds for each proof."""
        start = time.perf_counter()
        for index in wanted:
            prove_inclusion(source, index, BIG)
        return (time.perf_counter() - start) / len(wanted)

    cold, without_mids = prove_all(reader, indexes), prove_all(bare_reader, indexes)
    hot = indexes[:HOT_PROOFS]
    warm_reader = TileNodeReader(tiles, BIG, mids=tiles.mids)
    prove_all(warm_reader, hot)
    warm = min(prove_all(warm_reader, hot) for _ in range(ROUNDS))
    first = best(lambda: prove_inclusion(TileNodeReader(tiles, BIG, mids=tiles.mids), BIG // 3, BIG), 20)

    proofs = [(index, prove_inclusion(reader, index, BIG)) for index in indexes]
    leaves = [tiles.data[0, index // 256][index % 256 * 32 :][:32] for index in indexes]

    def verify_all() -> None:
        for leaf, (index, path) in zip(leaves, proofs, strict=True):
            verify_inclusion(leaf, index, BIG, path, root)

    def consistency() -> None:
        for index in indexes:
            prove_consistency(reader, index + 1, BIG)

    at = f"at {BIG:,} leaves"
    node = best(lambda: [sha256(b"\x01" + path[0] + path[1]).digest() for _, path in proofs], ROUNDS) / PROOFS
    depth = sum(len(path) for _, path in proofs) / PROOFS
    verify = best(verify_all, ROUNDS) / PROOFS
    return [
        Row(f"inclusion proof {at}, level-0 tile cold", cold * 1e6, "µs", target="≤ 120 µs"),
        Row(
            f"inclusion proof {at}, level-0 tile cold, mids not kept",
            without_mids * 1e6,
            "µs",
            f"with mids, {cold * 1e6:.0f} µs",
            without_mids / cold,
        ),
        Row(f"inclusion proof {at}, every tile cold", first * 1e6, "µs"),
        Row(f"inclusion proof {at}, warm ({HOT_PROOFS} hot tiles)", warm * 1e6, "µs", target="≤ 20 µs"),
        Row(
            f"consistency proof {at}, warm but for the older size's last hashes",
            best(consistency, ROUNDS) / PROOFS * 1e6,
            "µs",
        ),
        Row(
            f"verification of inclusion {at}",
            verify * 1e6,
            "µs",
            f"its {depth:.0f} bare hashlib calls, {depth * node * 1e6:.1f} µs",
            verify / (depth * node),
            "≤ 25 µs",
        ),
        Row(f"restart {at}, from the right edge alone", restart * 1e3, "ms"),
    ]


if __name__ == "__main__":
    print(markdown(run()), end="")
