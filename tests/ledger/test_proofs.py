from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from merkletools import MerkleTools
from pymerkle import InmemoryTree

from ledger import hashing
from ledger.errors import OutOfRange, ProofInvalid, SudurError
from ledger.hashing import EMPTY_ROOT
from ledger.proofs import (
    consistency_nodes,
    inclusion_nodes,
    prove_consistency,
    prove_inclusion,
    prove_inclusions,
    prove_verified,
    root_from_inclusion,
    verify_consistency,
    verify_inclusion,
)
from ledger.tiles import TileNodeReader
from tests.ledger.oracles import NaiveTree, UniformTree, numbered_leaf_hashes
from tests.ledger.test_tiles import CountingTiles
from tests.ledger.test_tree import grown

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "tree.json").read_text())
NAIVE = NaiveTree(numbered_leaf_hashes(300))
LEAVES = NAIVE.leaf_hashes


def test_inclusion_of_every_leaf_in_every_size_to_300() -> None:
    for size in range(1, 301):
        root = NAIVE.root(size)
        for index in range(size):
            path = prove_inclusion(NAIVE, index, size)
            assert path == NAIVE.inclusion(index, size)
            verify_inclusion(LEAVES[index], index, size, path, root)


def test_consistency_of_every_pair_of_sizes_to_300() -> None:
    for old, new in itertools.combinations_with_replacement(range(301), 2):
        path = prove_consistency(NAIVE, old, new)
        assert path == NAIVE.consistency(old, new)
        verify_consistency(old, NAIVE.root(old), new, NAIVE.root(new), path)


@pytest.mark.parametrize("case", VECTORS["roots"], ids=lambda case: case["desc"])
def test_root_vectors(case: dict[str, Any]) -> None:
    leaves = [bytes.fromhex(leaf) for leaf in case["input"]["leaves"]]
    assert hashing.merkle_root(hashing.leaf_hashes(leaves)).hex() == case["want"]


@pytest.mark.parametrize("case", VECTORS["inclusion"], ids=lambda case: case["desc"])
def test_inclusion_vectors(case: dict[str, Any]) -> None:
    given_ = case["input"]
    path = [bytes.fromhex(node) for node in given_["path"]]
    arguments = (
        bytes.fromhex(given_["leaf_hash"]),
        int(given_["index"]),
        int(given_["size"]),
        path,
        bytes.fromhex(given_["root"]),
    )
    expect(case["want"], lambda: verify_inclusion(*arguments))


@pytest.mark.parametrize("case", VECTORS["consistency"], ids=lambda case: case["desc"])
def test_consistency_vectors(case: dict[str, Any]) -> None:
    given_ = case["input"]
    arguments = (
        int(given_["old"]),
        bytes.fromhex(given_["old_root"]),
        int(given_["new"]),
        bytes.fromhex(given_["new_root"]),
        [bytes.fromhex(node) for node in given_["path"]],
    )
    expect(case["want"], lambda: verify_consistency(*arguments))


def expect(want: str, call: Any) -> None:
    if want == "proven":
        call()
    else:
        with pytest.raises(SudurError) as caught:
            call()
        assert caught.value.code == want


def sampled_sizes() -> Iterator[tuple[int, int, int]]:
    """(index, old, new) around powers of two and at random, to 2^64-1."""
    rng = random.Random(9162)
    for bits in [*range(1, 41), 48, 56, 63, 64]:
        for _ in range(6):
            new = min(max(1, (1 << bits) + rng.choice((-2, -1, 0, 1, 2))), 2**64 - 1)
            if rng.random() < 0.5:
                new = rng.randrange(1, 1 << bits)
            for index in {0, new - 1, new // 2, rng.randrange(new)}:
                yield index, rng.choice((index + 1, new, rng.randrange(1, new + 1))), new


def test_sampled_proofs_of_huge_trees() -> None:
    rng = random.Random(40)
    for index, old, new in sampled_sizes():
        for odd in (index, rng.randrange(new), new - 1):
            tree = UniformTree(new, odd)
            leaf, root = tree.leaf_hash(index), tree.root(new)
            path = prove_inclusion(tree, index, new)
            verify_inclusion(leaf, index, new, path, root)
            steps = prove_consistency(tree, old, new)
            verify_consistency(old, tree.root(old), new, root, steps)

            other = UniformTree(new, (odd + 1) % new)
            if new > 1:
                with pytest.raises(ProofInvalid):
                    verify_inclusion(leaf, index, new, path, other.root(new))
                with pytest.raises(ProofInvalid):
                    verify_consistency(old, tree.root(old), new, other.root(new), steps)
            if odd != index:
                continue
            for broken in broken_paths(path, rng):
                with pytest.raises(ProofInvalid):
                    verify_inclusion(leaf, index, new, broken, root)
            for broken in broken_paths(steps, rng):
                with pytest.raises(ProofInvalid):
                    verify_consistency(old, tree.root(old), new, root, broken)


def broken_paths(path: list[bytes], rng: random.Random) -> Iterator[list[bytes]]:
    """The path shortened at either end, lengthened, and with one bit flipped in each of its hashes."""
    yield [*path, bytes(32)]
    yield [bytes(32), *path]
    if path:
        yield path[1:]
        yield path[:-1]
    for at in range(len(path)):
        yield flipped(path, at, rng.randrange(256))


def flipped(path: list[bytes], at: int, bit: int) -> list[bytes]:
    node = (int.from_bytes(path[at], "big") ^ 1 << bit).to_bytes(32, "big")
    return [*path[:at], node, *path[at + 1 :]]


def flips(path: list[bytes]) -> Iterator[list[bytes]]:
    """Every path that differs in one bit."""
    for at, bit in itertools.product(range(len(path)), range(256)):
        yield flipped(path, at, bit)


def turns(index: int, size: int) -> list[bool]:
    """Which side each sibling is on, from the recursion: all that a path says about its position."""
    sides: list[bool] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + (1 << (end - start - 1).bit_length() - 1)
        sides.append(index < middle)
        start, end = (start, middle) if index < middle else (middle, end)
    return sides


def test_every_falsified_inclusion_proof_fails() -> None:
    for size in range(1, 15):
        root = NAIVE.root(size)
        for index in range(size):
            leaf, path = LEAVES[index], NAIVE.inclusion(index, size)
            wrong = [*flips(path), *broken_paths(path, random.Random(size)), path + path, path[::-1]]
            for bad in wrong:
                if bad != path:
                    with pytest.raises(ProofInvalid):
                        verify_inclusion(leaf, index, size, bad, root)
            for bad_leaf in (*(value for (value,) in flips([leaf])), b"", leaf[:31], leaf + b"\0"):
                with pytest.raises(ProofInvalid):
                    verify_inclusion(bad_leaf, index, size, path, root)
            for (bad_root,) in flips([root]):
                with pytest.raises(ProofInvalid):
                    verify_inclusion(leaf, index, size, path, bad_root)
            for other in set(range(size)) - {index}:
                with pytest.raises(ProofInvalid):
                    verify_inclusion(leaf, other, size, path, root)
            for other in (-1, size, size + 1, 2**64):
                with pytest.raises(OutOfRange):
                    verify_inclusion(leaf, other, size, path, root)
            for other in set(range(index + 1, 20)) - {size}:
                with pytest.raises(ProofInvalid):
                    verify_inclusion(leaf, index, other, path, NAIVE.root(other))


def test_size_and_index_count_only_through_the_turns() -> None:
    """A path with the right root and another (index, size) fails unless every turn is the same.

    That is why both numbers must come from a signed checkpoint and the code, never beside the path.
    """
    accepted = 0
    for size, index in [(8, 6), (6, 5), (7, 0), (12, 8), (13, 12)]:
        path, root = NAIVE.inclusion(index, size), NAIVE.root(size)
        for other_size in range(1, 40):
            for other in range(other_size):
                if turns(other, other_size) == turns(index, size):
                    verify_inclusion(LEAVES[index], other, other_size, path, root)
                    accepted += (other, other_size) != (index, size)
                else:
                    with pytest.raises(ProofInvalid):
                        verify_inclusion(LEAVES[index], other, other_size, path, root)
    assert accepted > 0


def test_every_falsified_consistency_proof_fails() -> None:
    for old, new in itertools.combinations_with_replacement(range(11), 2):
        old_root, new_root = NAIVE.root(old), NAIVE.root(new)
        path = NAIVE.consistency(old, new)
        for bad in [*flips(path), *broken_paths(path, random.Random(new)), path[::-1]]:
            if bad != path:
                with pytest.raises(ProofInvalid):
                    verify_consistency(old, old_root, new, new_root, bad)
        for (bad_root,) in [*flips([old_root]), [b""], [old_root[:31]], [old_root + b"\0"]]:
            with pytest.raises(ProofInvalid):
                verify_consistency(old, bad_root, new, new_root, path)
        for (bad_root,) in [*flips([new_root]), [b""], [new_root + b"\0"]]:
            if old or len(bad_root) != 32 or new == 0:  # the empty tree is consistent with any
                with pytest.raises(ProofInvalid):
                    verify_consistency(old, old_root, new, bad_root, path)
        for other in range(20):
            if other > new:
                with pytest.raises(OutOfRange):
                    verify_consistency(other, NAIVE.root(other), new, new_root, path)
            elif other != old and NAIVE.consistency(other, new) != path:
                with pytest.raises(ProofInvalid):
                    verify_consistency(other, NAIVE.root(other), new, new_root, path)
            if old <= other != new and NAIVE.consistency(old, other) != path:
                with pytest.raises(ProofInvalid):
                    verify_consistency(old, old_root, other, NAIVE.root(other), path)


def test_a_fork_has_no_consistency_proof() -> None:
    forked = NaiveTree([*LEAVES[:6], LEAVES[99], *LEAVES[7:20]])
    for old, new in [(7, 20), (7, 8), (8, 16), (16, 20)]:
        for path in (NAIVE.consistency(old, new), forked.consistency(old, new)):
            with pytest.raises(ProofInvalid):
                verify_consistency(old, NAIVE.root(old), new, forked.root(new), path)


def test_the_empty_tree() -> None:
    verify_consistency(0, EMPTY_ROOT, 0, EMPTY_ROOT, [])
    verify_consistency(0, EMPTY_ROOT, 9, NAIVE.root(9), [])
    with pytest.raises(ProofInvalid):
        verify_consistency(0, LEAVES[0], 0, LEAVES[0], [])
    with pytest.raises(OutOfRange):
        inclusion_nodes(0, 0)


def test_bad_path_is_refused_before_hashing(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(data: bytes) -> object:
        raise AssertionError("hashed")

    monkeypatch.setattr(hashing, "sha256", never)
    good = [bytes(32)] * 7
    bad_paths: list[Any] = [
        good[:6],
        [bytes(32)] * 65,
        [bytes(32)] * 100_000,
        [*good[:6], bytes(31)],
        [*good[:6], bytes(33)],
        [*good[:6], "0" * 32],
        [*good[:6], bytearray(32)],
        [*good[:6], None],
        [*good[:6], 32],
    ]
    for path in bad_paths:
        with pytest.raises(ProofInvalid):
            verify_inclusion(LEAVES[0], 0, 100, path, LEAVES[1])
        with pytest.raises(ProofInvalid):
            verify_consistency(64, LEAVES[0], 8_000, LEAVES[1], path)
    root: Any
    for root in (None, "x" * 32, 3):
        with pytest.raises(ProofInvalid):
            verify_consistency(64, root, 8_000, LEAVES[1], good)
        with pytest.raises(ProofInvalid):
            root_from_inclusion(root, 0, 100, good)


@pytest.mark.parametrize(("old", "new"), [(-1, 5), (6, 5), (5, 2**64), (2**64, 2**64)])
def test_sizes_out_of_range(old: int, new: int) -> None:
    with pytest.raises(OutOfRange):
        consistency_nodes(old, new)
    with pytest.raises(OutOfRange):
        verify_consistency(old, LEAVES[0], new, LEAVES[1], [])
    with pytest.raises(OutOfRange):
        inclusion_nodes(old, 5 if old > 5 else new if new > 2**63 else 0)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_shapes_are_bounded(a: int, b: int) -> None:
    old, new = sorted((a, b))
    plan = consistency_nodes(old, new)
    assert len(plan.path([bytes(32)] * len(plan.ids))) <= 65
    if old < new:
        plan = inclusion_nodes(old, new)
        assert len(plan.path([bytes(32)] * len(plan.ids))) <= 64
        assert all((index + 1) << height <= new for height, index in plan.ids)


@given(st.lists(st.integers(0, 299), max_size=40))
def test_many_proofs_in_one_read(indexes: list[int]) -> None:
    class Once(NaiveTree):
        reads = 0

        def nodes(self, ids: Any) -> list[bytes]:
            assert len(set(ids)) == len(ids), "a shared node is read once"
            self.reads += 1
            return NAIVE.nodes(ids)

    reader = Once([])
    assert prove_inclusions(reader, indexes, 300) == [NAIVE.inclusion(index, 300) for index in indexes]
    assert reader.reads == 1


def test_many_proofs_refuse_one_bad_index() -> None:
    with pytest.raises(OutOfRange):
        prove_inclusions(NAIVE, [1, 300], 300)


def test_inclusion_proofs_equal_merkletools_and_pymerkle() -> None:
    class WithNodePrefix:
        def __init__(self, data: bytes) -> None:
            self.digest = sha256(b"\x01" + data).digest

    theirs = InmemoryTree(algorithm="sha256")
    theirs.append_entries([b"leaf %d" % i for i in range(130)])
    for size in (1, 2, 3, 5, 8, 31, 64, 77, 128, 130):
        tools = MerkleTools()
        tools.hash_function = WithNodePrefix
        tools.add_leaf([leaf.hex() for leaf in LEAVES[:size]])
        tools.make_tree()
        root = NAIVE.root(size)
        for index in range(size):
            ours = prove_inclusion(NAIVE, index, size)
            assert [bytes.fromhex(*step.values()) for step in reversed(tools.get_proof(index))] == ours[::-1]
            proof = theirs.prove_inclusion(index + 1, size)
            proof.verify(LEAVES[index], root)
            assert len(proof.path) == len(ours) + 1
            assert set(proof.path) == {LEAVES[index], *ours}


TREE_SIZE = 66_300
BIG = NaiveTree(numbered_leaf_hashes(TREE_SIZE))
_, STORE = grown([BIG.leaf_hashes])
INDEXES = [0, 1, 255, 256, 40_000, 65_535, 65_536, 66_047, 66_048, TREE_SIZE - 1]


def test_proofs_from_tiles() -> None:
    for size in (TREE_SIZE, 65_536, 65_537, 300, 256, 1):
        tiles = CountingTiles(STORE)
        reader = TileNodeReader(tiles, size, mids=tiles.mids)
        for index in (i for i in INDEXES if i < size):
            assert prove_inclusion(reader, index, size) == BIG.inclusion(index, size)
        for old in (i for i in INDEXES if i <= size):
            assert prove_consistency(reader, old, size) == BIG.consistency(old, size)


def test_a_path_through_a_cold_tile_costs_22_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    count = 0

    def counting(data: bytes) -> object:
        nonlocal count
        count += 1
        return sha256(data)

    tiles = CountingTiles(STORE)
    monkeypatch.setattr(hashing, "sha256", counting)
    for mids, want in ((tiles.mids, 22), (None, 247)):
        reader = TileNodeReader(tiles, 256, mids=mids)
        count = 0
        prove_inclusion(reader, 200, 256)
        assert count == want
        prove_inclusion(reader, 200, 256)
        assert count == want


def test_an_untrusted_reader_is_believed_only_through_the_root() -> None:
    root = BIG.root(TREE_SIZE)
    good = CountingTiles(STORE)
    for index in INDEXES:
        path = prove_verified(TileNodeReader(good, TREE_SIZE), BIG.leaf_hashes[index], index, TREE_SIZE, root)
        assert path == BIG.inclusion(index, TREE_SIZE)

    class Lying(CountingTiles):
        """Gets the last bit of every tile of one level wrong."""

        def __init__(self, level: int) -> None:
            super().__init__(STORE)
            self.level = level

        def tile(self, level: int, index: int, width: int) -> bytes:
            data = super().tile(level, index, width)
            return data[:-1] + bytes([data[-1] ^ 1]) if level == self.level else data

    # Each lie is told of a node that the path needs: a sibling at level 0, one side of the level-1 tile,
    # and the first 65,536 leaves as one.
    for lie, index in ((0, 40_190), (1, 40_190), (2, 66_000)):
        reader = TileNodeReader(Lying(lie), TREE_SIZE)
        with pytest.raises(ProofInvalid):
            prove_verified(reader, BIG.leaf_hashes[index], index, TREE_SIZE, root)
