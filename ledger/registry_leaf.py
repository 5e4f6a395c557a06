"""REGISTRY: one signed change of the registry, its JSON with the signatures behind it.

The signed bytes are "sudur/v1/registry\\n" ‖ G ‖ the leaf up to the end of the JSON, G being zeros in
the genesis change itself. What the JSON says is ``ledger.changes``. Format: docs/format.md, section
REGISTRY.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from struct import Struct
from typing import Final

from ledger.changes import Change, parse_change
from ledger.errors import LeafFormatError
from ledger.leaves import FORMAT_VERSION, MAX_LEAF_SIZE, LeafType, expect_type

NO_GENESIS: Final = bytes(32)
MAX_SIGNATURES: Final = 32
_LABEL: Final = b"sudur/v1/registry\n"
_HEADER: Final = Struct(">BBH")
_SIGNATURE: Final = Struct(">IHBH")


@dataclass(frozen=True, slots=True)
class RegistrySignature:
    """``agency`` 0 is the authority; ``number`` the key's number there."""

    agency: int
    number: int
    algorithm: int
    signature: bytes


@dataclass(frozen=True, slots=True)
class RegistryLeaf:
    """A REGISTRY leaf: the JSON bytes exactly as signed, and the signatures."""

    json: bytes
    signatures: tuple[RegistrySignature, ...]

    def signed_part(self) -> bytes:
        return _HEADER.pack(FORMAT_VERSION, LeafType.REGISTRY, len(self.json)) + self.json

    def message(self, genesis: bytes) -> bytes:
        """What each key signs; ``genesis`` is NO_GENESIS for the genesis change."""
        return _LABEL + genesis + self.signed_part()

    def encode(self) -> bytes:
        """The leaf. LeafFormatError when it is too large for one."""
        if len(self.json) > MAX_LEAF_SIZE - _HEADER.size - 1:
            raise _too_large(len(self.json))
        parts = [self.signed_part(), bytes((len(self.signatures),))]
        for one in self.signatures:
            parts += (
                _SIGNATURE.pack(one.agency, one.number, one.algorithm, len(one.signature)),
                one.signature,
            )
        leaf = b"".join(parts)
        if len(leaf) > MAX_LEAF_SIZE:
            raise _too_large(len(leaf))
        return leaf

    @classmethod
    def decode(cls, leaf: bytes) -> RegistryLeaf:
        expect_type(leaf, LeafType.REGISTRY)
        if len(leaf) < _HEADER.size:
            raise LeafFormatError("ends within its length", where="REGISTRY")
        at = _HEADER.size + _HEADER.unpack_from(leaf)[2]
        json = leaf[_HEADER.size : at]
        if len(leaf) <= at:
            raise LeafFormatError("ends within its JSON", where="REGISTRY")
        count, at = leaf[at], at + 1
        if not 1 <= count <= MAX_SIGNATURES:
            raise LeafFormatError(f"{count} signatures, 1 to {MAX_SIGNATURES} are allowed", where="REGISTRY")
        signatures = []
        for _ in range(count):
            if len(leaf) < at + _SIGNATURE.size:
                raise LeafFormatError("ends within a signature", where="REGISTRY")
            agency, number, algorithm, size = _SIGNATURE.unpack_from(leaf, at)
            at += _SIGNATURE.size
            if len(leaf) < at + size:
                raise LeafFormatError("ends within a signature", where="REGISTRY")
            signatures.append(RegistrySignature(agency, number, algorithm, leaf[at : at + size]))
            at += size
        if at != len(leaf):
            raise LeafFormatError(f"{len(leaf) - at} bytes after its end", where="REGISTRY")
        order = [(one.agency, one.number) for one in signatures]
        if any(a >= b for a, b in pairwise(order)):
            raise LeafFormatError("key references must strictly ascend", where="REGISTRY")
        return cls(json, tuple(signatures))

    def change(self) -> Change:
        """The change that the JSON describes. Raises FormatError."""
        return parse_change(self.json)


def _too_large(size: int) -> LeafFormatError:
    return LeafFormatError(
        f"a change of {size} bytes does not fit a leaf, which has at most {MAX_LEAF_SIZE}",
        fix="name fewer keys at a time: one of ML-DSA-44 takes 1.8 KB, and its signature 2.5 KB",
    )
