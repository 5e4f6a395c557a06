"""A run of leaves proven at once: consecutive leaves under one root, with the hashes of all that is outside.

The root is hashed as RFC 6962 defines it (section 2.1), and the proof gives the hash of each subtree that
the recursion meets and that holds none of the run, left to right. So the shape follows from the numbers
alone, a run of any length costs at most 128 hashes, and which leaves stand at which index is fixed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from ledger.errors import OutOfRange, ProofInvalid
from ledger.hashing import EMPTY_ROOT, HASH_SIZE, merkle_root, node_hash
from ledger.tiles import MAX_SIZE, NodeId, NodeReader

MAX_RUN_PROOF: Final = 128
"""Most hashes that a proof has: one to either side of the run at each height."""


def prove_run(reader: NodeReader, first: int, end: int, size: int) -> list[bytes]:
    """The proof of leaves [first, end) in the tree of ``size`` leaves; one read.

    Raises OutOfRange for an empty run or one beyond the tree, and what the reader raises.
    """
    pieces = [_complete(low, high) for low, high in _outside(first, end, size)]
    ids = [id_ for piece in pieces for id_ in piece]
    hashes = iter(reader.nodes(ids))
    return [_folded([next(hashes) for _ in piece]) for piece in pieces]


def root_at(reader: NodeReader, size: int) -> bytes:
    """The root that the first ``size`` leaves have in the tree that is read; one read. Proves nothing.

    Raises OutOfRange, and what the reader raises.
    """
    return _folded(reader.nodes(_complete(0, size))) if size else EMPTY_ROOT


def verify_run(hashes: Sequence[bytes], first: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Return if the leaves with these hashes stand at ``first`` and after in the tree (size, root).

    One hash a leaf, and one for each of the proof. Raises ProofInvalid if they do not, OutOfRange when
    the run is empty or passes the size.
    """
    where = f"leaves {first} to {first + len(hashes) - 1} in a tree of size {size}"
    end = first + len(hashes)
    pieces = sum(1 for _ in _outside(first, end, size))
    if len(proof) != pieces:
        raise ProofInvalid(f"{len(proof)} hashes where {pieces} belong", where=where)
    if any(len(one) != HASH_SIZE for one in (*hashes, *proof)):
        raise ProofInvalid("something in it is not a 32-byte hash", where=where)
    rest = iter(proof)

    def subtree(low: int, high: int) -> bytes:
        if high <= first or low >= end:
            return next(rest)
        if first <= low and high <= end:
            return merkle_root(hashes[low - first : high - first])
        middle = _split(low, high)
        left = subtree(low, middle)
        return node_hash(left, subtree(middle, high))

    if subtree(0, size) != root:
        raise ProofInvalid("the run does not lead to the root", where=where)


def _outside(first: int, end: int, size: int) -> Iterator[tuple[int, int]]:
    """The subtrees [low, high) that hold no leaf of the run, largest possible, left to right."""
    if not 0 <= first < end <= size <= MAX_SIZE:
        raise OutOfRange("no such run of leaves in a tree of that size", where="run proof")
    pending = [(0, size)]
    while pending:
        low, high = pending.pop()
        if high <= first or low >= end:
            yield low, high
        elif not (first <= low and high <= end):
            middle = _split(low, high)
            pending += [(middle, high), (low, middle)]


def _split(low: int, high: int) -> int:
    """Where RFC 6962 parts a subtree: after the largest power of two that is less than its leaves."""
    return low + (1 << (high - low - 1).bit_length() - 1)


def _complete(low: int, high: int) -> list[NodeId]:
    """The complete subtrees that make up [low, high), largest first: several only at the right edge."""
    ids: list[NodeId] = []
    while low < high:
        height = (high - low).bit_length() - 1
        ids.append((height, low >> height))
        low += 1 << height
    return ids


def _folded(hashes: Sequence[bytes]) -> bytes:
    root = hashes[-1]
    for left in reversed(hashes[:-1]):
        root = node_hash(left, root)
    return root
