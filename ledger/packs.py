"""Offline packs: all that it takes to verify any document of a ledger without a network.

A pack is a *head*: the checkpoint with its cosignatures, the seal, the roots of all full runs of 256
leaves with the leaf hashes behind them, every status that is not valid, the registry's records. That takes
32 bytes for 256 documents, and asks of a code that it bears the path to its run. In the *leaves* form the
leaf hashes of the full runs follow, 32 bytes a document, and no path is asked for.
Nothing in a pack is believed before :mod:`ledger.opened_pack` has proven it. Format: docs/format.md,
section Packs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from hashlib import sha256
from typing import Final

from ledger.errors import FormatError, PackFormatError, TooLarge
from ledger.hashing import HASH_SIZE
from ledger.pack_bytes import (
    MAX_HEAD,
    U8,
    U32,
    PackReader,
    checked_body,
    encode_compressed,
    encode_sealed,
    encode_statuses,
    read_compressed,
    read_record,
    read_sealed,
    read_statuses,
    statuses_in,
    with_statuses,
)
from ledger.receipts import ProvenLeaf
from ledger.registry_records import LedgerRecord
from ledger.tiles import TILE_WIDTH

PACK_MAGIC: Final = b"sudur-pack/v1\n"
FRONT_BYTES: Final = len(PACK_MAGIC) + U8.size + U32.size
"""The bytes that say how long the head is."""
_WHAT: Final = "pack"


class Form(IntEnum):
    """What a pack holds of the tree."""

    SUBTREES = 1
    LEAVES = 2


@dataclass(frozen=True, slots=True)
class Records:
    """The registry: the ledger record, the agencies' and the types' by number from 1 on, as their bytes."""

    ledger: bytes
    agencies: tuple[bytes, ...]
    types: tuple[bytes, ...]

    @property
    def all(self) -> tuple[bytes, ...]:
        """In the order of the registry's tree."""
        return (self.ledger, *self.agencies, *self.types)


@dataclass(frozen=True, slots=True)
class Pack:
    """A pack's head as it was read: well formed, and nothing more.

    ``size`` is what the checkpoint names. ``subtrees``: the roots of all full runs of 256 leaves, ``tail``:
    the leaf hashes behind them, 32 bytes each. ``statuses``: the status chunks that are not empty, by number.
    """

    form: Form
    genesis: bytes
    checkpoint: bytes
    size: int
    seal: ProvenLeaf
    subtrees: bytes
    tail: bytes
    statuses: Mapping[int, bytes]
    records: Records

    @property
    def full(self) -> int:
        """How many full runs of 256 leaves there are."""
        return self.size // TILE_WIDTH

    def encode(self) -> bytes:
        """The head's bytes. Raises TooLarge beyond 512 MiB."""
        records = b"".join([U32.pack(len(one)) + one for one in self.records.all])
        body = b"".join(
            [
                self.genesis,
                encode_sealed(self.checkpoint, self.seal),
                self.subtrees,
                self.tail,
                encode_statuses(statuses_in(self.statuses)),
                encode_compressed(records),
            ]
        )
        size = FRONT_BYTES + len(body) + HASH_SIZE
        if size > MAX_HEAD:
            raise TooLarge(f"a head of {size} bytes, a pack has at most {MAX_HEAD}", where=_WHAT)
        data = PACK_MAGIC + U8.pack(self.form) + U32.pack(size) + body
        return data + sha256(data).digest()


def head_size(front: bytes) -> int:
    """How long the head is, from its first ``FRONT_BYTES``. Raises PackFormatError, TooLarge."""
    reader = PackReader(front, _WHAT)
    _read_front(reader)
    return reader.number(U32)


def parse_pack(data: bytes) -> Pack:
    """Read a head, which ``data`` ends with. Raises PackFormatError, TooLarge; nothing is proven yet.

    About 10 ms a megabyte, most of it for statuses that are not valid.
    """
    if len(data) > MAX_HEAD:
        raise TooLarge(f"{len(data)} bytes, a pack's head has at most {MAX_HEAD}", where=_WHAT)
    form = _read_front(PackReader(data, _WHAT))
    size = head_size(data)
    if len(data) < size:
        raise PackFormatError("it is cut short", where=_WHAT, fix="copy or fetch it again")
    if len(data) > size:
        raise PackFormatError(f"{len(data) - size} bytes too many", where=_WHAT)
    reader = PackReader(checked_body(data, _WHAT), _WHAT)
    reader.take(FRONT_BYTES)
    genesis = reader.hashes(1)
    note, leaves, seal = read_sealed(reader)
    subtrees, tail = reader.hashes(leaves // TILE_WIDTH), reader.hashes(leaves % TILE_WIDTH)
    statuses = with_statuses({}, read_statuses(reader, leaves, least=1, most=leaves))
    records = _read_records(PackReader(read_compressed(reader), "a pack's records"))
    reader.done()
    return Pack(form, genesis, note, leaves, seal, subtrees, tail, statuses, records)


def _read_front(reader: PackReader) -> Form:
    if reader.take(len(PACK_MAGIC)) != PACK_MAGIC:
        raise reader.error("this is no pack of a version that is known here")
    try:
        return Form(reader.number(U8))
    except ValueError:
        raise reader.error("its form is not known") from None


def _read_records(reader: PackReader) -> Records:
    ledger = read_record(reader)
    try:
        counts = LedgerRecord.decode(ledger)
    except FormatError as error:
        raise reader.error(f"its ledger record cannot be read: {error}") from error
    agencies = tuple([read_record(reader) for _ in range(counts.agencies)])
    types = tuple([read_record(reader) for _ in range(counts.types)])
    reader.done()
    return Records(ledger, agencies, types)
