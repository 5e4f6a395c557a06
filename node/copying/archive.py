"""A backup: a directory of block files that never change once they are written, and a manifest.

    manifest.json                what is here, as of a signed checkpoint; written last, exchanged whole
    000000000000.blocks          blocks from number 0 on, and so forth: some 16 MiB a file
    letters.sqlite               if asked for: the node's envelopes, which are not in the log

A block file is a line, then for each block u64 number ‖ u32 bytes ‖ u32 bytes of its checkpoint ‖ packed
leaves ‖ checkpoint. What the manifest does not name is the rest of an attempt that was cut short, and is
written over. Nothing of it is believed when it is read: the manifest's checkpoint is checked against a trust
file, and the blocks against that.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from struct import Struct
from typing import Final

from ledger.canonical_json import Json, Reader, base64_text, encode, parse, parse_base64, u64_text
from ledger.errors import FormatError, SudurError
from ledger.hashing import HASH_SIZE, leaf_hashes
from ledger.notes import MAX_NOTE_SIZE
from ledger.proofs import consistency_nodes
from ledger.rules_v1 import MAX_BLOCK_BYTES, MAX_BLOCK_LEAVES
from ledger.submissions import unpack
from ledger.tiles import NodeId
from ledger.tree import Tree
from node.copying.block_source import Block, Pulse
from node.disk import make_directories, sync_directory
from node.errors import DataInUse, DiskFull, NodeError, NotFound, PeerWrong

MANIFEST: Final = "manifest.json"
LETTERS: Final = "letters.sqlite"
FILE_BYTES: Final = 16 << 20
_FORMAT: Final = "sudur-backup/v1"
_HEADER: Final = b"sudur blocks v1\n"
_RECORD: Final = Struct(">QII")
_MAX_MANIFEST: Final = 64 << 20
_MAX_FILES: Final = 200_000
_LOCK: Final = ".lock"


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
        if len(data) != HASH_SIZE or data.hex() != digest or name != Path(name).name or name.startswith("."):
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
        """The tree that the blocks make, as far as the manifest can be believed. Raises PeerWrong."""
        try:
            tree = Tree.from_edge(self.size, lambda tile: self.edge[tile.level])
        except (SudurError, IndexError) as error:
            raise PeerWrong(f"its tree cannot be put together: {error}", peer=MANIFEST) from error
        if tree.root() != self.root:
            raise PeerWrong("its tree does not have the root that it states", peer=MANIFEST)
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
        value = parse(data, limit=_MAX_MANIFEST, where=MANIFEST)
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


# --- writing -----------------------------------------------------------------------------------


class Archive:
    """An open backup directory, locked against other backups. See :func:`open_archive`."""

    def __init__(self, directory: Path, manifest: Manifest | None) -> None:
        self.directory = directory
        self.manifest = manifest
        self._parts: list[bytes] = []
        self._bytes = 0
        self._blocks = 0

    @property
    def next(self) -> int:
        """The number of the first block that is not here yet."""
        held = 0 if self.manifest is None else self.manifest.blocks
        return held + self._blocks

    @property
    def is_full(self) -> bool:
        """Whether enough was added for a file of its own."""
        return self._bytes >= FILE_BYTES

    def add(self, block: Block) -> None:
        """Take the next block, in memory: :meth:`commit` writes it."""
        note = block.note or b""
        self._parts += (_RECORD.pack(block.number, len(block.packed), len(note)), block.packed, note)
        self._bytes += _RECORD.size + len(block.packed) + len(note)
        self._blocks += 1

    def commit(self, manifest: Manifest) -> None:
        """Write what was added as a file, durably, then ``manifest`` with that file in it.

        A crash before the manifest leaves a file that nobody knows of. Raises DiskFull, OSError.
        """
        files = () if self.manifest is None else self.manifest.files
        if self._blocks:
            first = self.next - self._blocks
            data = b"".join((_HEADER, *self._parts))
            name = f"{first:012d}.blocks"
            _write(self.directory, name, data)
            files = (*files, ArchivedFile(name, first, self._blocks, len(data), sha256(data).digest()))
        manifest = replace(manifest, files=files)
        _write(self.directory, MANIFEST, manifest.encode())
        self.manifest = manifest
        self._parts, self._bytes, self._blocks = [], 0, 0


@contextmanager
def open_archive(directory: Path) -> Iterator[Archive]:
    """A backup to add to, made if missing. Raises DataInUse, NodeError for another directory, FormatError."""
    make_directories(directory)
    descriptor = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataInUse("another backup is being made here", where=str(directory)) from None
        if (directory / MANIFEST).exists():
            manifest = read_manifest(directory)
        else:
            manifest = None
            others = [one.name for one in directory.iterdir() if not _is_ours(one.name)]
            if others:
                raise NodeError(
                    f"it holds no backup, but {others[0]} and others",
                    where=str(directory),
                    fix="choose an empty directory, or that of an earlier backup",
                )
        yield Archive(directory, manifest)
    finally:
        os.close(descriptor)


def _is_ours(name: str) -> bool:
    return name in (_LOCK, LETTERS) or name.endswith((".blocks", ".part"))


def read_manifest(directory: Path) -> Manifest:
    """What a backup says of itself. Raises NotFound, PeerWrong for a manifest that cannot be read."""
    try:
        data = (directory / MANIFEST).read_bytes()
    except FileNotFoundError:
        raise NotFound(
            "there is no backup here", where=str(directory), fix="give the directory with manifest.json"
        ) from None
    try:
        return Manifest.decode(data)
    except FormatError as error:
        raise PeerWrong(
            f"its manifest is damaged: {error}", peer=str(directory), fix="use another copy of the backup"
        ) from error


def _write(directory: Path, name: str, data: bytes) -> None:
    partial = directory / f"{name}.part"
    try:
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        partial.unlink(missing_ok=True)
        if error.errno != errno.ENOSPC:
            raise
        raise DiskFull(
            f"no room for {name}, {len(data) >> 10} KiB",
            where=str(directory),
            fix="free some space and run the backup again: it goes on where it stands",
        ) from error
    os.rename(partial, directory / name)
    sync_directory(directory)


# --- reading -----------------------------------------------------------------------------------


class ArchiveBlocks:
    """A backup as a :class:`node.copying.block_source.BlockSource`; each file is checked before its use."""

    def __init__(self, directory: Path, manifest: Manifest) -> None:
        self._directory = directory
        self._manifest = manifest
        self._cancelled = False
        self._received = 0

    @property
    def name(self) -> str:
        """See BlockSource."""
        return str(self._directory)

    @property
    def received(self) -> int:
        """See BlockSource."""
        return self._received

    def blocks(self, start: int) -> Iterator[Block | Pulse]:
        """See BlockSource."""
        for file in self._manifest.files:
            if file.first + file.blocks <= start:
                continue
            for block in _read(self._directory, file):
                if self._cancelled:
                    return
                if block.number >= start:
                    self._received += len(block.packed)
                    yield block

    def consistency(self, old: int, new: int) -> Sequence[bytes]:
        """See BlockSource. Reads the whole backup, about 1 µs a leaf: for a run that ends unsigned, alone."""
        plan = consistency_nodes(old, new)
        found = self._nodes(plan.ids)
        return plan.path([found[one] for one in plan.ids])

    def _nodes(self, ids: Sequence[NodeId]) -> Mapping[NodeId, bytes]:
        trees = {one: Tree.empty() for one in ids}
        at = 0
        for block in self.blocks(0):
            assert isinstance(block, Block)
            hashes = leaf_hashes(unpack(block.packed, most=MAX_BLOCK_LEAVES))
            for (height, index), tree in trees.items():
                low, high = (index << height) - at, ((index + 1) << height) - at
                trees[height, index] = tree.append(hashes[max(0, low) : max(0, high)])[0]
            at += len(hashes)
        return {one: tree.root() for one, tree in trees.items()}

    def cancel(self) -> None:
        """See BlockSource."""
        self._cancelled = True


def _read(directory: Path, file: ArchivedFile) -> Iterator[Block]:
    """The blocks of a file whose digest is right. Raises PeerWrong, naming the file."""

    def wrong(what: str) -> PeerWrong:
        return PeerWrong(
            what,
            peer=str(directory),
            where=f"{file.name}, blocks {file.first} to {file.first + file.blocks - 1}",
            fix="bring this file back from another copy of the backup",
        )

    try:
        data = (directory / file.name).read_bytes()
    except FileNotFoundError:
        raise wrong("the file is missing") from None
    if len(data) != file.length:
        raise wrong(f"the file has {len(data)} bytes, {file.length} were written")
    if sha256(data).digest() != file.sha256:
        raise wrong("the file is damaged: it has another SHA-256 than was written")
    if not data.startswith(_HEADER):
        raise wrong("it is no block file")
    at = len(_HEADER)
    for number in range(file.first, file.first + file.blocks):
        if at + _RECORD.size > len(data):
            raise wrong(f"it ends before block {number}")
        found, size, note_size = _RECORD.unpack_from(data, at)
        at += _RECORD.size
        end = at + size + note_size
        if found != number or size > MAX_BLOCK_BYTES or note_size > MAX_NOTE_SIZE or end > len(data):
            raise wrong(f"what stands where block {number} belongs is none")
        yield Block(number, data[at : at + size], data[at + size : end] or None)
        at = end
    if at != len(data):
        raise wrong(f"{len(data) - at} bytes follow its last block")
