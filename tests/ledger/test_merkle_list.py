"""Trees whose items change: every size to 70 against the naive recursion, every path checked."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import OutOfRange
from ledger.hashing import EMPTY_ROOT
from ledger.merkle_list import MerkleList


def naive_root(hashes: list[bytes]) -> bytes:
    """MTH of RFC 6962, section 2.1, as it is written there, over leaf hashes."""
    if not hashes:
        return sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    split = 1 << (len(hashes) - 1).bit_length() - 1
    return sha256(b"\x01" + naive_root(hashes[:split]) + naive_root(hashes[split:])).digest()


def naive_path(hashes: list[bytes], position: int) -> list[bytes]:
    """PATH of RFC 6962, section 2.1.1."""
    if len(hashes) <= 1:
        return []
    split = 1 << (len(hashes) - 1).bit_length() - 1
    if position < split:
        return [*naive_path(hashes[:split], position), naive_root(hashes[split:])]
    return [*naive_path(hashes[split:], position - split), naive_root(hashes[:split])]


def item(number: int) -> bytes:
    return sha256(b"item %d" % number).digest()


def test_an_empty_list() -> None:
    assert MerkleList().root == MerkleList.of([]).root == EMPTY_ROOT
    assert len(MerkleList()) == 0
    assert MerkleList().hashes == ()


@pytest.mark.parametrize("size", range(1, 71))
def test_root_and_paths_of_every_small_list(size: int) -> None:
    hashes = [item(i) for i in range(size)]
    built, grown = MerkleList.of(hashes), MerkleList()
    for i, one in enumerate(hashes):
        grown = grown.set(i, one)
    assert grown == built
    assert built.root == naive_root(hashes)
    assert built.hashes == tuple(hashes)
    assert [built.path(i) for i in range(size)] == [naive_path(hashes, i) for i in range(size)]


@pytest.mark.parametrize("size", [*range(1, 34), 64, 65])
def test_setting_any_item_equals_building_anew(size: int) -> None:
    hashes = [item(i) for i in range(size)]
    before = MerkleList.of(hashes)
    for position in range(size):
        changed = [*hashes[:position], item(1000), *hashes[position + 1 :]]
        assert before.set(position, item(1000)) == MerkleList.of(changed)
    assert before == MerkleList.of(hashes)


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9)), max_size=60))
def test_any_sequence_of_sets(edits: list[tuple[int, int]]) -> None:
    model: list[bytes] = []
    tree = MerkleList()
    for place, value in edits:
        position = min(place, len(model))
        model[position : position + 1] = [item(value)]
        tree = tree.set(position, item(value))
    assert tree == MerkleList.of(model)


@pytest.mark.parametrize("position", [-1, 4, 100])
def test_positions_outside_are_refused(position: int) -> None:
    tree = MerkleList.of(item(i) for i in range(3))
    with pytest.raises(OutOfRange):
        tree.set(position, item(9))
    with pytest.raises(OutOfRange):
        tree.path(position)
    with pytest.raises(OutOfRange):
        tree.path(3)
