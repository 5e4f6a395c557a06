"""SEAL: the last leaf of every block, and so under every checkpoint.

It carries the running totals and the roots of the status list and of the registry: what was not
revoked as of size n is shown by the seal at index n-1. Format: docs/format.md, section SEAL.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from struct import Struct
from typing import Final

from ledger.errors import LeafFormatError
from ledger.leaves import FORMAT_VERSION, LeafType, expect_type

_BODY: Final = Struct(">BBHQQQQ32s32sB")
_EXTRA: Final = Struct(">B32s")


@dataclass(frozen=True, slots=True)
class Seal:
    """``time_ms``: since 1970, strictly later than the seal before. ``documents``: all ISSUEs so far.

    ``extras``: (kind, root) pairs of later additions, kinds ascending; readers skip unknown kinds.
    """

    rules: int
    block: int
    time_ms: int
    previous: int
    documents: int
    status_root: bytes
    registry_root: bytes
    extras: tuple[tuple[int, bytes], ...] = ()

    def encode(self) -> bytes:
        body = _BODY.pack(
            FORMAT_VERSION,
            LeafType.SEAL,
            self.rules,
            self.block,
            self.time_ms,
            self.previous,
            self.documents,
            self.status_root,
            self.registry_root,
            len(self.extras),
        )
        return body + b"".join([_EXTRA.pack(kind, root) for kind, root in self.extras])

    @classmethod
    def decode(cls, leaf: bytes) -> Seal:
        expect_type(leaf, LeafType.SEAL)
        if len(leaf) < _BODY.size or len(leaf) != _BODY.size + leaf[_BODY.size - 1] * _EXTRA.size:
            raise LeafFormatError(f"{len(leaf)} bytes do not fit its count of roots", where="SEAL")
        _, _, rules, block, time_ms, previous, documents, status, registry, _ = _BODY.unpack_from(leaf)
        extras = tuple(_EXTRA.iter_unpack(leaf[_BODY.size :]))
        kinds = [kind for kind, _ in extras]
        if any(a >= b for a, b in pairwise(kinds)):
            raise LeafFormatError("kinds of additional roots must strictly ascend", where="SEAL")
        return cls(rules, block, time_ms, previous, documents, status, registry, extras)
