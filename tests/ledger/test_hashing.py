from __future__ import annotations

from hashlib import sha256

import pytest

from ledger import hashing
from tests.ledger.oracles import NaiveTree, numbered_leaf_hashes


def test_known_answers() -> None:
    assert hashing.EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert (
        hashing.leaf_hash(b"").hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    )  # CT's well-known hash of an empty leaf
    assert hashing.node_hash(b"l" * 32, b"r" * 32) == sha256(b"\x01" + b"l" * 32 + b"r" * 32).digest()
    assert hashing.leaf_hashes([b"a", b""]) == [hashing.leaf_hash(b"a"), hashing.leaf_hash(b"")]


def test_a_leaf_is_never_a_node() -> None:
    left, right = numbered_leaf_hashes(2)
    assert hashing.leaf_hash(left + right) != hashing.node_hash(left, right)


@pytest.mark.parametrize("count", range(6))
def test_parent_row_leaves_an_odd_one_out(count: int) -> None:
    row = numbered_leaf_hashes(count)
    assert hashing.parent_row(row) == [
        hashing.node_hash(row[2 * i], row[2 * i + 1]) for i in range(count // 2)
    ]


def test_merkle_root_is_the_naive_root() -> None:
    tree = NaiveTree(numbered_leaf_hashes(130))
    for size in range(131):
        assert hashing.merkle_root(tree.leaf_hashes[:size]) == tree.root(size)
