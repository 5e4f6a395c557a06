"""What all leaves share: the two-byte header, the size cap, the type numbers.

A leaf begins with the format version (1) and its type; integers are big-endian; every leaf has an
exact length and nothing after its end. The types have a file each: ``records`` (0x01-0x06),
``changes`` (0x10), ``submissions`` (0x20), ``seals`` (0x30). Format: docs/format.md, section Leaves.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from ledger.errors import LeafFormatError, TooLarge

FORMAT_VERSION: Final = 1
MAX_LEAF_SIZE: Final = 65_535
NONE: Final = 2**64 - 1
"""The u64 that stands for "no index"."""


class LeafType(IntEnum):
    ISSUE = 0x01
    STATUS = 0x02
    ATTEST = 0x03
    SEND = 0x04
    ANSWER = 0x05
    AFFIRM = 0x06
    REGISTRY = 0x10
    SUBMISSION = 0x20
    SEAL = 0x30


RECORD_TYPES: Final = frozenset(range(LeafType.ISSUE, LeafType.AFFIRM + 1))


def leaf_type(leaf: bytes) -> LeafType:
    """The type of a leaf, from its header. Unknown versions and types are refused, not skipped."""
    if len(leaf) > MAX_LEAF_SIZE:
        raise TooLarge(f"a leaf of {len(leaf)} bytes, at most {MAX_LEAF_SIZE} are allowed")
    if len(leaf) < 2:
        raise LeafFormatError(f"a leaf has at least its 2 header bytes, this one has {len(leaf)}")
    if leaf[0] != FORMAT_VERSION:
        raise LeafFormatError(f"leaf format version {leaf[0]} is not known, only {FORMAT_VERSION}")
    try:
        return LeafType(leaf[1])
    except ValueError:
        raise LeafFormatError(f"leaf type 0x{leaf[1]:02x} is not known") from None


def expect_type(leaf: bytes, wanted: LeafType) -> None:
    """Refuse a leaf that is not of the ``wanted`` type."""
    found = leaf_type(leaf)
    if found is not wanted:
        raise LeafFormatError(f"a {wanted.name} leaf is expected, this is {found.name}")
