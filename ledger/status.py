"""The status list: two bits for each leaf index, as in the IETF Token Status List.

Index i stands in byte i // 4 at bits 2 (i mod 4), lowest bits first. A chunk covers 65,536 indexes
(16,384 bytes); the status root is the RFC 6962 root over exactly ceil(n / 65536) chunks for a tree
of n leaves. An index that bears no subject reads as valid, so a status proof always comes with the
subject's own inclusion. Format: docs/format.md, section Status.
"""

from __future__ import annotations

import zlib
from typing import Final

from ledger.errors import FormatError, TooLarge
from ledger.hashing import leaf_hash
from ledger.merkle_list import MerkleList
from ledger.records import Status

CHUNK_INDEXES: Final = 65_536
CHUNK_SIZE: Final = CHUNK_INDEXES // 4
EMPTY_CHUNK: Final = bytes(CHUNK_SIZE)
EMPTY_CHUNK_HASH: Final = leaf_hash(EMPTY_CHUNK)


def chunk_count(size: int) -> int:
    """Chunks that a tree of ``size`` leaves has."""
    return -(-size // CHUNK_INDEXES)


def chunk_of(index: int) -> int:
    return index // CHUNK_INDEXES


def read_status(chunk: bytes, index: int) -> Status:
    """The status of leaf ``index`` in the chunk that covers it."""
    offset = index % CHUNK_INDEXES
    return Status(chunk[offset // 4] >> 2 * (offset % 4) & 3)


def write_status(chunk: bytearray, index: int, status: Status) -> None:
    offset = index % CHUNK_INDEXES
    shift = 2 * (offset % 4)
    chunk[offset // 4] = chunk[offset // 4] & ~(3 << shift) | status << shift


def grown(chunks: MerkleList, size: int) -> MerkleList:
    """The list with empty chunks appended until it covers a tree of ``size`` leaves."""
    while len(chunks) < chunk_count(size):
        chunks = chunks.set(len(chunks), EMPTY_CHUNK_HASH)
    return chunks


def compress_chunk(chunk: bytes) -> bytes:
    """zlib, as chunks travel: an empty chunk takes about 30 bytes."""
    return zlib.compress(chunk, 9)


def expand_chunk(data: bytes) -> bytes:
    """The inverse of :func:`compress_chunk`; never makes more than a chunk of memory.

    Raises FormatError, TooLarge.
    """
    if len(data) > 2 * CHUNK_SIZE:
        raise TooLarge(f"{len(data)} bytes are more than a compressed status chunk has")
    inflater = zlib.decompressobj()
    try:
        chunk = inflater.decompress(data, CHUNK_SIZE + 1)
    except zlib.error as error:
        raise FormatError(f"a status chunk is not zlib data: {error}") from error
    if len(chunk) != CHUNK_SIZE or not inflater.eof or inflater.unused_data:
        raise FormatError(f"a status chunk expands to exactly {CHUNK_SIZE} bytes with nothing after")
    return chunk
