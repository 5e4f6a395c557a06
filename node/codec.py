"""Keys and rows of the store: fixed-size, big-endian, so that order in the database is order by number."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from struct import Struct
from typing import Final

from ledger.exchanges import Exchange
from ledger.figures import FigureKey, Metric
from ledger.hashing import HASH_SIZE
from ledger.leaves import NONE, LeafType
from ledger.signing_policy import ISSUE_KINDS, RECORD_KINDS, REGISTRY_KIND, RecordKind
from node.errors import StoreDamaged

_U64: Final = Struct(">Q")
_U32: Final = Struct(">I")
_TILE: Final = Struct(">BQ")
_SUBMISSION: Final = Struct(">Q32s")
_DAILY: Final = Struct(">IIB")
_BLOCK: Final = Struct(">QQQ32s32s")
_PAIR: Final = Struct(">QQ")
_SEND: Final = Struct(">IQ")
_EXCHANGE: Final = Struct(">QQQQ")
_FIGURE: Final = Struct(">IBQHB")
_METRICS: Final[dict[int, Metric]] = {int(metric): metric for metric in Metric}
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


def status_row(latest: int, before: int | None) -> bytes:
    """16 bytes: the latest STATUS on a subject, and the latest before the block that holds that one."""
    return _PAIR.pack(latest, NONE if before is None else before)


def read_status_row(row: bytes) -> tuple[int, int | None]:
    """The inverse of :func:`status_row`. Raises StoreDamaged."""
    if len(row) != _PAIR.size:
        raise StoreDamaged(f"{len(row)} bytes are no row of a status", where="statuses")
    latest, before = _PAIR.unpack(row)
    return latest, None if before == NONE else before


def attested_key(subject: int, index: int) -> bytes:
    return _PAIR.pack(subject, index)


def split_attested(key: bytes) -> tuple[int, int]:
    """The inverse of :func:`attested_key`: subject and index."""
    subject, index = _PAIR.unpack(key)
    return subject, index


def send_key(recipient: int, index: int) -> bytes:
    return _SEND.pack(recipient, index)


def prepared_key(number: int, digest: bytes) -> bytes:
    return _U64.pack(number) + digest


def split_send(key: bytes) -> tuple[int, int]:
    """The inverse of :func:`send_key`: recipient and index."""
    recipient, index = _SEND.unpack(key)
    return recipient, index


def exchange_row(exchange: Exchange) -> bytes:
    """32 bytes."""
    indexes = (exchange.received, exchange.final, exchange.reminds)
    return _EXCHANGE.pack(exchange.sent_ms, *(NONE if one is None else one for one in indexes))


def read_exchange(row: bytes) -> Exchange:
    """The inverse of :func:`exchange_row`. Raises StoreDamaged."""
    if len(row) != _EXCHANGE.size:
        raise StoreDamaged(f"{len(row)} bytes are no exchange", where="exchanges")
    sent_ms, *indexes = _EXCHANGE.unpack(row)
    received, final, reminds = (None if one == NONE else one for one in indexes)
    return Exchange(sent_ms, received, final, reminds)


def figure_key(key: FigureKey) -> bytes:
    """16 bytes; those of one agency stand together."""
    return _FIGURE.pack(*key)


def read_figures(keys: Sequence[bytes], rows: Sequence[bytes]) -> dict[FigureKey, int]:
    """Counters by their keys, those of :func:`figure_key`; under 1 µs each. Raises StoreDamaged."""
    if not keys:
        return {}
    try:
        agencies, metrics, periods, a, b = zip(*_FIGURE.iter_unpack(b"".join(keys)), strict=True)
        columns = zip(agencies, map(_METRICS.__getitem__, metrics), periods, a, b, strict=True)
        names = map(partial(tuple.__new__, FigureKey), columns)
        counts = Struct(f">{len(rows)}Q").unpack(b"".join(rows))
        return dict(zip(names, counts, strict=True))
    except (struct.error, KeyError, ValueError):
        raise StoreDamaged(f"among {len(rows)} rows is one that is no figure", where="figures") from None


def split_hashes(row: bytes) -> tuple[bytes, ...]:
    """Concatenated hashes, apart. Raises StoreDamaged."""
    if len(row) % HASH_SIZE:
        raise StoreDamaged(f"{len(row)} bytes are no list of hashes", where="list")
    return tuple(row[at : at + HASH_SIZE] for at in range(0, len(row), HASH_SIZE))
