"""Keys and rows of the store: fixed-size, big-endian, so that order in the database is order by number."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import Final

from ledger.hashing import HASH_SIZE
from ledger.leaves import LeafType
from ledger.signing_policy import ISSUE_KINDS, RECORD_KINDS, REGISTRY_KIND, RecordKind
from node.errors import StoreDamaged

_U64: Final = Struct(">Q")
_U32: Final = Struct(">I")
_TILE: Final = Struct(">BQ")
_SUBMISSION: Final = Struct(">Q32s")
_DAILY: Final = Struct(">IIB")
_BLOCK: Final = Struct(">QQQ32s32s")
_KIND_CODES: Final[dict[RecordKind, int]] = {
    **{kind: int(type_) for type_, kind in RECORD_KINDS.items()},
    **{kind: 0x80 | basis for basis, kind in ISSUE_KINDS.items()},
    REGISTRY_KIND: int(LeafType.REGISTRY),
}


@dataclass(frozen=True, slots=True)
class BlockInfo:
    """A committed block: leaves ``first_index`` up to, without, ``size``; its seal is the last.

    ``root``: of the tree of ``size`` leaves; ``digest``: SHA-256 over the packed leaves.
    """

    number: int
    first_index: int
    size: int
    time_ms: int
    root: bytes
    digest: bytes

    @property
    def seal_index(self) -> int:
        return self.size - 1

    def encode(self) -> bytes:
        """The row under the block's number. 88 bytes."""
        return _BLOCK.pack(self.first_index, self.size, self.time_ms, self.root, self.digest)

    @classmethod
    def decode(cls, number: int, row: bytes) -> BlockInfo:
        """The inverse of :meth:`encode`. Raises StoreDamaged."""
        if len(row) != _BLOCK.size:
            raise StoreDamaged(f"{len(row)} bytes are no block row", where=f"block {number}")
        return cls(number, *_BLOCK.unpack(row))


def u64(number: int) -> bytes:
    return _U64.pack(number)


def read_u64(row: bytes) -> int:
    """Raises StoreDamaged for a row that is not 8 bytes."""
    if len(row) != _U64.size:
        raise StoreDamaged(f"{len(row)} bytes where 8 belong", where="index row")
    return int.from_bytes(row, "big")


def u64s(numbers: range | list[int]) -> list[bytes]:
    """Each number as 8 bytes; about 0.1 µs each."""
    packed = Struct(f">{len(numbers)}Q").pack(*numbers)
    return [packed[at : at + 8] for at in range(0, len(packed), 8)]


def u32(number: int) -> bytes:
    return _U32.pack(number)


def tile_key(level: int, index: int) -> bytes:
    return _TILE.pack(level, index)


def submission_key(claimed_ms: int, identity: bytes) -> bytes:
    return _SUBMISSION.pack(claimed_ms, identity)


def daily_key(agency: int, kind: RecordKind, day: int) -> bytes:
    return _DAILY.pack(agency, day, _KIND_CODES[kind])


def superseded_key(time_ms: int, digest: bytes) -> bytes:
    return _SUBMISSION.pack(time_ms, digest)


def split_superseded(key: bytes) -> tuple[int, bytes]:
    """The inverse of :func:`superseded_key`."""
    time_ms, digest = _SUBMISSION.unpack(key)
    return time_ms, digest


def split_hashes(row: bytes) -> tuple[bytes, ...]:
    """Concatenated hashes, apart. Raises StoreDamaged."""
    if len(row) % HASH_SIZE:
        raise StoreDamaged(f"{len(row)} bytes are no list of hashes", where="list")
    return tuple(row[at : at + HASH_SIZE] for at in range(0, len(row), HASH_SIZE))
