"""A backup: a directory of block files that never change once they are written, and a manifest.

    manifest.json                what is here, as of a signed checkpoint; written last, exchanged whole
    000000000000.blocks          blocks from number 0 on, and so forth: some 16 MiB a file
    letters.sqlite               if asked for: the node's envelopes, which are not in the log

What is in a file, ``ledger.backups`` says. What the manifest does not name is the rest of an attempt that
was cut short, and is written over. Nothing of it is believed when it is read: the manifest's checkpoint is
checked against a trust file, and the blocks against that.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Final

from ledger.backups import BLOCKS_HEADER, MANIFEST, RECORD, ArchivedFile, Manifest, read_blocks
from ledger.errors import FormatError
from ledger.hashing import leaf_hashes
from ledger.proofs import consistency_nodes
from ledger.rules_v1 import MAX_BLOCK_LEAVES
from ledger.submissions import unpack
from ledger.tiles import NodeId
from ledger.tree import Tree
from node.copying.block_source import Block, Pulse
from node.disk import make_directories, sync_directory
from node.errors import DataInUse, DiskFull, NodeError, NotFound, PeerWrong

LETTERS: Final = "letters.sqlite"
FILE_BYTES: Final = 16 << 20
_LOCK: Final = ".lock"


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
        self._parts += (RECORD.pack(block.number, len(block.packed), len(note)), block.packed, note)
        self._bytes += RECORD.size + len(block.packed) + len(note)
        self._blocks += 1

    def commit(self, manifest: Manifest) -> None:
        """Write what was added as a file, durably, then ``manifest`` with that file in it.

        A crash before the manifest leaves a file that nobody knows of. Raises DiskFull, OSError.
        """
        files = () if self.manifest is None else self.manifest.files
        if self._blocks:
            first = self.next - self._blocks
            data = b"".join((BLOCKS_HEADER, *self._parts))
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
    try:
        for block in read_blocks(data, file):
            yield Block(block.number, block.packed, block.note)
    except FormatError as error:
        raise wrong(error.what) from error
