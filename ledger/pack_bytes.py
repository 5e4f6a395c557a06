"""The parts that packs and their deltas are written in: numbers, proven seals, statuses, records.

Everything has one form, but for zlib: any stream that expands to the right bytes will do. Each size is
looked at before anything of that size is made. Format: docs/format.md, section Packs.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from struct import Struct
from typing import Final

from ledger.checkpoints import MAX_TREE_SIZE, parse_checkpoint
from ledger.errors import FormatError, PackFormatError, TooLarge
from ledger.hashing import HASH_SIZE
from ledger.leaves import MAX_LEAF_SIZE
from ledger.notes import MAX_NOTE_SIZE, parse_note
from ledger.receipts import ProvenLeaf
from ledger.registry_records import MAX_RECORD
from ledger.status import CHUNK_INDEXES, CHUNK_SIZE, EMPTY_CHUNK

MAX_HEAD: Final = 512 << 20
"""Bytes of the longest head: of some four thousand million leaves."""
MAX_RECORDS_BYTES: Final = 64 << 20
"""Bytes of all registry records together, expanded."""
MIN_RECORD: Final = 64
"""Bytes of the shortest registry record."""
MOST_EXPANSION: Final = 1_032
"""What zlib can make of a byte, at most."""

U8, U16, U32, U64 = (Struct(">B"), Struct(">H"), Struct(">I"), Struct(">Q"))
_VARINT_BYTES: Final = 10
_NOT_VALID: Final = re.compile(rb"[^\0]")


class PackReader:
    """Reads from the first byte to the last. Every method raises PackFormatError where too few are left."""

    def __init__(self, data: bytes, what: str) -> None:
        self._data = data
        self._at = 0
        self.what = what

    def take(self, size: int) -> bytes:
        start, self._at = self._at, self._at + size
        if self._at > len(self._data):
            raise self.error("it is cut short", fix="copy or fetch it again")
        return self._data[start : self._at]

    def number(self, layout: Struct) -> int:
        (value,) = layout.unpack(self.take(layout.size))
        return int(value)

    def sized(self, layout: Struct, least: int, most: int, what: str) -> bytes:
        """Bytes behind their length."""
        size = self.number(layout)
        if not least <= size <= most:
            raise self.error(f"{what} of {size} bytes, {least} to {most} are allowed")
        return self.take(size)

    def hashes(self, count: int) -> bytes:
        return self.take(count * HASH_SIZE)

    def varint(self) -> int:
        """LEB128 in its shortest form, below 2^64."""
        value = 0
        for position in range(_VARINT_BYTES):
            byte = self.take(1)[0]
            value |= (byte & 127) << 7 * position
            if byte < 128:
                if (byte == 0 and position) or value >> 64:
                    break
                return value
        raise self.error("a number is not in its shortest form")

    @property
    def is_done(self) -> bool:
        return self._at == len(self._data)

    def done(self) -> None:
        if self._at != len(self._data):
            raise self.error(f"{len(self._data) - self._at} bytes too many")

    def error(self, what: str, fix: str = "") -> PackFormatError:
        return PackFormatError(what, where=self.what, fix=fix)


def checked_body(data: bytes, what: str) -> bytes:
    """The bytes in front of their SHA-256. Raises PackFormatError when that does not fit: damaged."""
    body, found = data[:-HASH_SIZE], data[-HASH_SIZE:]
    if sha256(body).digest() != found:
        raise PackFormatError("it is damaged", where=what, fix="copy or fetch it again")
    return body


# --- the checkpoint and its seal -----------------------------------------------------------------


def encode_sealed(note: bytes, seal: ProvenLeaf) -> bytes:
    """u32 length ‖ note, u16 length ‖ SEAL, u8 count ‖ path."""
    path = b"".join(seal.path)
    return b"".join(
        [U32.pack(len(note)), note, U16.pack(len(seal.leaf)), seal.leaf, U8.pack(len(seal.path)), path]
    )


def read_sealed(reader: PackReader) -> tuple[bytes, int, ProvenLeaf]:
    """The note, the size that it names, and the SEAL at the end of that."""
    note = reader.sized(U32, 1, MAX_NOTE_SIZE, "a note")
    try:
        size = parse_checkpoint(parse_note(note).text).size
    except FormatError as error:
        raise reader.error(f"its checkpoint cannot be read: {error}") from error
    if not 1 <= size <= MAX_TREE_SIZE:
        raise reader.error("a checkpoint of no leaves")
    leaf = reader.sized(U16, 1, MAX_LEAF_SIZE, "a seal")
    path = reader.hashes(reader.number(U8))
    return note, size, ProvenLeaf(size - 1, leaf, split(path))


def split(hashes: bytes) -> tuple[bytes, ...]:
    """The 32-byte hashes that stand one after another."""
    return tuple([hashes[at : at + HASH_SIZE] for at in range(0, len(hashes), HASH_SIZE)])


# --- statuses ----------------------------------------------------------------------------------


def encode_statuses(found: Iterable[tuple[int, int]]) -> bytes:
    """u32 count, then for each (index, status), ascending, the LEB128 of 4·(indexes passed over) + status."""
    written = bytearray()
    count, after = 0, 0
    for index, status in found:
        value = (index - after) << 2 | status
        after = index + 1
        count += 1
        while value > 127:
            written.append(value & 127 | 128)
            value >>= 7
        written.append(value)
    return U32.pack(count) + bytes(written)


def read_statuses(reader: PackReader, size: int, *, least: int, most: int) -> Iterator[tuple[int, int]]:
    """The inverse, for indexes below ``size``, statuses from ``least`` on, and at most ``most`` of them.

    One after another, since in memory each takes a hundred times what it takes here.
    """
    after = 0
    count = reader.number(U32)
    if count > most:
        raise reader.error(f"{count} statuses, at most {most} are allowed")
    for _ in range(count):
        value = reader.varint()
        index, status = after + (value >> 2), value & 3
        if index >= size or status < least:
            raise reader.error("a status that does not belong there")
        after = index + 1
        yield index, status


def statuses_in(chunks: Mapping[int, bytes]) -> Iterator[tuple[int, int]]:
    """(index, status) of all that is not valid, ascending."""
    for number in sorted(chunks):
        for match in _NOT_VALID.finditer(chunks[number]):
            first = number * CHUNK_INDEXES + 4 * match.start()
            byte = match[0][0]
            for position in range(4):
                if byte >> 2 * position & 3:
                    yield first + position, byte >> 2 * position & 3


def with_statuses(chunks: Mapping[int, bytes], changes: Iterable[tuple[int, int]]) -> dict[int, bytes]:
    """The chunks that are not empty after the changes. A chunk takes 16 KiB, however little is in it."""
    changed: dict[int, bytearray] = {}
    for index, status in changes:
        number, offset = divmod(index, CHUNK_INDEXES)
        chunk = changed.get(number)
        if chunk is None:
            chunk = changed[number] = bytearray(chunks.get(number) or bytes(CHUNK_SIZE))
        shift = 2 * (offset & 3)
        chunk[offset >> 2] = chunk[offset >> 2] & ~(3 << shift) | status << shift
    merged = {**chunks, **{number: bytes(chunk) for number, chunk in changed.items()}}
    return {number: chunk for number, chunk in sorted(merged.items()) if chunk != EMPTY_CHUNK}


# --- records -----------------------------------------------------------------------------------


def encode_compressed(data: bytes) -> bytes:
    """u32 length when expanded, u32 length, zlib. Raises TooLarge beyond 64 MiB."""
    if len(data) > MAX_RECORDS_BYTES:
        raise TooLarge(f"records of {len(data)} bytes, a pack has at most {MAX_RECORDS_BYTES}", where="pack")
    packed = zlib.compress(data, 9)
    return U32.pack(len(data)) + U32.pack(len(packed)) + packed


def read_compressed(reader: PackReader) -> bytes:
    """The inverse; never makes more memory than its length says, nor more than 64 MiB."""
    size, packed_size = reader.number(U32), reader.number(U32)
    if size > MAX_RECORDS_BYTES:
        raise TooLarge(f"records of {size} bytes, at most {MAX_RECORDS_BYTES} are read", where=reader.what)
    if size > packed_size * MOST_EXPANSION:
        raise reader.error(f"{packed_size} bytes of zlib never expand to {size}")
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(reader.take(packed_size), size + 1)
    except zlib.error as error:
        raise reader.error(f"its records are not zlib data: {error}") from error
    if len(data) != size or not inflater.eof or inflater.unused_data:
        raise reader.error(f"its records do not expand to exactly {size} bytes")
    return data


def read_record(reader: PackReader) -> bytes:
    """No record is shorter than its member names: a million empty ones would fit a few kilobytes of zlib."""
    return reader.sized(U32, MIN_RECORD, MAX_RECORD, "a record")
