"""RFC 6962 hashing (section 2.1): SHA-256, with a prefix byte that keeps leaves and nodes apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Final

HASH_SIZE: Final = 32
LEAF_PREFIX: Final = b"\x00"
NODE_PREFIX: Final = b"\x01"
EMPTY_ROOT: Final = sha256(b"").digest()


def leaf_hash(leaf: bytes) -> bytes:
    """SHA-256(0x00 ‖ leaf), 32 bytes."""
    return sha256(LEAF_PREFIX + leaf).digest()


def leaf_hashes(leaves: Iterable[bytes]) -> list[bytes]:
    """The leaf hash of each leaf, in order."""
    return [sha256(LEAF_PREFIX + leaf).digest() for leaf in leaves]


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 ‖ left ‖ right), 32 bytes."""
    return sha256(NODE_PREFIX + left + right).digest()


def parent_row(row: Sequence[bytes]) -> list[bytes]:
    """The nodes over each pair of ``row``; an odd last one is left out. len(row)//2 hashes."""
    pairs = iter(row)
    return [sha256(NODE_PREFIX + left + right).digest() for left, right in zip(pairs, pairs, strict=False)]


def merkle_root(hashes: Sequence[bytes]) -> bytes:
    """The RFC 6962 root (MTH) over leaf *hashes*; n-1 node hashes.

    Row by row from the left, an odd last node rising unchanged, gives the same shape as the RFC's
    split at the largest power of two.
    """
    if not hashes:
        return EMPTY_ROOT
    row = list(hashes)
    while len(row) > 1:
        above = parent_row(row)
        if len(row) % 2:
            above.append(row[-1])
        row = above
    return row[0]
