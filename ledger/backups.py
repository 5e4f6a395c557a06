"""A backup's files: a manifest, and blocks one after another, as anybody reads them.

A block file is a line, then for each block u64 number ‖ u32 bytes ‖ u32 bytes of its checkpoint ‖ packed
leaves ‖ checkpoint. Nothing in a backup is believed when it is read: the manifest's checkpoint is checked
against a trust file, and the blocks against that.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from struct import Struct
from typing import Final

from ledger.canonical_json import Json, Reader, base64_text, encode, parse, parse_base64, u64_text
from ledger.errors import FormatError, SudurError
from ledger.hashing import HASH_SIZE
from ledger.notes import MAX_NOTE_SIZE
from ledger.rules_v1 import MAX_BLOCK_BYTES
from ledger.tree import Tree

MANIFEST: Final = "manifest.json"
BLOCKS_HEADER: Final = b"sudur blocks v1\n"
RECORD: Final = Struct(">QII")
MAX_MANIFEST: Final = 64 << 20
_FORMAT: Final = "sudur-backup/v1"
_MAX_FILES: Final = 200_000


@dataclass(frozen=True, slots=True)
class ArchivedFile:
    """A file of the backup. ``blocks`` of them from number ``first`` on; of letters 0 from 0."""

    name: str
    first: int
    blocks: int
    length: int
    sha256: bytes

    def to_json(self) -> Json:
        return {
            "name": self.name,
            "first": u64_text(self.first),
            "blocks": u64_text(self.blocks),
            "bytes": u64_text(self.length),
            "sha256": self.sha256.hex(),
        }

    @classmethod
    def from_json(cls, reader: Reader) -> ArchivedFile:
        digest = reader.text("sha256", limit=64)
        try:
            data = bytes.fromhex(digest)
        except ValueError:
            data = b""
        name = reader.text("name", limit=64)
        if len(data) != HASH_SIZE or data.hex() != digest or "/" in name or name.startswith("."):
            raise FormatError("is no file of a backup", where=reader.at("name"))
        one = cls(name, reader.u64("first"), reader.u64("blocks"), reader.u64("bytes"), data)
        reader.done()
        return one


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup holds: ``blocks`` blocks, which make a tree of ``size`` leaves with this root.

    ``checkpoint`` is the signed one of that size; ``edge`` the tree's partial tiles, by level, so that the
    next backup goes on without reading what is here. ``made_ms``: when, in ms since 1970.
    """

    genesis: bytes
    origin: str
    blocks: int
    size: int
    root: bytes
    checkpoint: bytes
    edge: tuple[bytes, ...]
    files: tuple[ArchivedFile, ...]
    made_ms: int
    letters: ArchivedFile | None = None

    def tree(self) -> Tree:
        """The tree that the blocks make, as far as the manifest can be believed. Raises FormatError."""
        try:
            tree = Tree.from_edge(self.size, lambda tile: self.edge[tile.level])
        except (SudurError, IndexError) as error:
            raise FormatError(f"its tree cannot be put together: {error}", where=MANIFEST) from error
        if tree.root() != self.root:
            raise FormatError("its tree does not have the root that it states", where=MANIFEST)
        return tree

    def encode(self) -> bytes:
        return encode(
            {
                "format": _FORMAT,
                "genesis": self.genesis.hex(),
                "origin": self.origin,
                "blocks": u64_text(self.blocks),
                "size": u64_text(self.size),
                "root": self.root.hex(),
                "checkpoint": self.checkpoint.decode(),
                "edge": [base64_text(one) for one in self.edge],
                "files": [one.to_json() for one in self.files],
                "made_ms": u64_text(self.made_ms),
                "letters": None if self.letters is None else self.letters.to_json(),
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> Manifest:
        """The inverse. Raises FormatError, and for files that do not follow one another."""
        value = parse(data, limit=MAX_MANIFEST, where=MANIFEST)
        reader = Reader(value, MANIFEST)
        if reader.text("format") != _FORMAT:
            raise FormatError(f"is not {_FORMAT}", where=reader.at("format"))
        has_letters = reader.any("letters") is not None
        edge = [
            parse_base64(one, reader.at("edge"), limit=256 * HASH_SIZE) if one else b""
            for one in reader.items("edge", limit=8)
        ]
        found = cls(
            _hash(reader, "genesis"),
            reader.text("origin"),
            reader.u64("blocks"),
            reader.u64("size"),
            _hash(reader, "root"),
            reader.text("checkpoint", limit=MAX_NOTE_SIZE).encode(),
            tuple(edge),
            tuple(ArchivedFile.from_json(one) for one in reader.members("files", limit=_MAX_FILES)),
            reader.u64("made_ms"),
            ArchivedFile.from_json(reader.member("letters")) if has_letters else None,
        )
        reader.done()
        following = 0
        for one in found.files:
            if one.first != following or one.blocks == 0:
                raise FormatError(f"{one.name} does not follow block {following - 1}", where="files")
            following += one.blocks
        if following != found.blocks:
            raise FormatError(f"its files hold {following} blocks, not {found.blocks}", where="files")
        return found


def _hash(reader: Reader, name: str) -> bytes:
    text = reader.text(name, limit=64)
    try:
        data = bytes.fromhex(text)
    except ValueError:
        data = b""
    if len(data) != HASH_SIZE or data.hex() != text:
        raise FormatError("is not 64 lower-case hexadecimal digits", where=reader.at(name))
    return data


@dataclass(frozen=True, slots=True)
class ArchivedBlock:
    """A block as a backup holds it. ``note``: its signed checkpoint, None when it came without one."""

    number: int
    packed: bytes
    note: bytes | None


def read_blocks(data: bytes, file: ArchivedFile) -> Iterator[ArchivedBlock]:
    """The blocks of a file whose length and digest are right. Raises FormatError."""
    if len(data) != file.length:
        raise FormatError(f"the file has {len(data)} bytes, {file.length} were written")
    if sha256(data).digest() != file.sha256:
        raise FormatError("the file is damaged: it has another SHA-256 than was written")
    if not data.startswith(BLOCKS_HEADER):
        raise FormatError("it is no block file")
    at = len(BLOCKS_HEADER)
    for number in range(file.first, file.first + file.blocks):
        if at + RECORD.size > len(data):
            raise FormatError(f"it ends before block {number}")
        found, size, note_size = RECORD.unpack_from(data, at)
        at += RECORD.size
        end = at + size + note_size
        if found != number or size > MAX_BLOCK_BYTES or note_size > MAX_NOTE_SIZE or end > len(data):
            raise FormatError(f"what stands where block {number} belongs is none")
        yield ArchivedBlock(number, data[at : at + size], data[at + size : end] or None)
        at = end
    if at != len(data):
        raise FormatError(f"{len(data) - at} bytes follow its last block")
