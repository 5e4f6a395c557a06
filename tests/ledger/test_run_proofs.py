"""Runs of leaves: every run of every small tree, with every flipped bit and every other place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import OutOfRange, ProofInvalid, SudurError
from ledger.hashing import leaf_hash, merkle_root
from ledger.run_proofs import MAX_RUN_PROOF, prove_run, root_at, verify_run
from tests.ledger.oracles import NaiveTree

LEAVES = [b"leaf %d" % i for i in range(40)]
HASHES = [leaf_hash(one) for one in LEAVES]


@pytest.mark.parametrize("size", range(1, 15))
def test_every_run_of_every_small_tree(size: int) -> None:
    nodes, root = NaiveTree(HASHES[:size]), merkle_root(HASHES[:size])
    for first in range(size):
        for end in range(first + 1, size + 1):
            proof = prove_run(nodes, first, end, size)
            verify_run(HASHES[first:end], first, size, proof, root)
            for at in range(len(proof)):
                bad = [*proof[:at], bytes((proof[at][0] ^ 1, *proof[at][1:])), *proof[at + 1 :]]
                with pytest.raises(ProofInvalid):
                    verify_run(HASHES[first:end], first, size, bad, root)
            for elsewhere in range(size - (end - first) + 1):
                if elsewhere != first:
                    with pytest.raises(ProofInvalid):
                        verify_run(HASHES[first:end], elsewhere, size, proof, root)
            with pytest.raises(ProofInvalid):
                verify_run(HASHES[first:end], first, size, [*proof, bytes(32)], root)
            swapped = [HASHES[first] if end - first == 1 else HASHES[39], *HASHES[first + 1 : end]]
            if swapped != HASHES[first:end]:
                with pytest.raises(ProofInvalid):
                    verify_run(swapped, first, size, proof, root)


def test_roots_of_every_smaller_size() -> None:
    nodes = NaiveTree(HASHES)
    assert [root_at(nodes, size) for size in range(41)] == [merkle_root(HASHES[:size]) for size in range(41)]


def test_no_run_is_no_run() -> None:
    for first, count, size in ((0, 0, 5), (3, 3, 5), (5, 1, 5), (0, 1, 0)):
        with pytest.raises(OutOfRange):
            verify_run(HASHES[:count], first, size, [], bytes(32))


@given(st.integers(0, 2**64), st.integers(0, 3), st.integers(0, 2**64), st.lists(st.binary(max_size=33)))
def test_only_our_errors(first: int, count: int, size: int, proof: list[bytes]) -> None:
    with pytest.raises(SudurError):
        verify_run(HASHES[:count], first, size, proof[:MAX_RUN_PROOF], bytes(32))
