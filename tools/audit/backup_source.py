"""A backup as the static resources of the log that it holds: checkpoints, entries, and tiles made of them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from ledger.backups import MANIFEST, MAX_MANIFEST, ArchivedBlock, Manifest, read_blocks
from ledger.checkpoints import parse_checkpoint
from ledger.errors import FormatError, SudurError
from ledger.hashing import HASH_SIZE, leaf_hashes, merkle_root
from ledger.leaves import NONE
from ledger.notes import parse_note
from ledger.resources import CHECKPOINT
from ledger.rules_v1 import MAX_BLOCK_LEAVES
from ledger.seals import Seal
from ledger.submissions import pack, unpack
from ledger.tiles import TILE_WIDTH, TileId, parse_entries_path, parse_tile_path
from tools.audit.bundles import split
from tools.errors import CannotTell, FileProblem, NotFound
from tools.files import read_file

_MOST_FILE: Final = 1 << 30


class BackupResources:
    """A backup's directory. Nothing of it is believed; it has no status list, no registry and no figures.

    Entries are read file by file, in order: going back reads the file again. A tile above the entries costs
    one pass over all of it, 1.5 µs a leaf, the first time: only who doubts an entry asks for one.
    """

    def __init__(self, directory: Path) -> None:
        """Raises CannotTell for a manifest that cannot be read, FileProblem."""
        self.name = str(directory)
        self._directory = directory
        try:
            self._manifest = Manifest.decode(read_file(directory / MANIFEST, MAX_MANIFEST))
        except FormatError as error:
            raise self._wrong(MANIFEST, error) from error
        self._starts: list[int] | None = None
        self._held = -1
        self._first = 0
        self._leaves: list[bytes] = []
        self._notes: tuple[int, dict[int, bytes]] = (-1, {})
        self._nodes: list[bytes] | None = None

    def close(self) -> None:
        """Nothing is held open."""

    def fetch(self, path: str) -> bytes:
        """Raises NotFound for what a backup does not hold, CannotTell for a file that is damaged."""
        try:
            if path == CHECKPOINT:
                return self._manifest.checkpoint
            if path.startswith("checkpoint/"):
                return self._note(int(path.removeprefix("checkpoint/")))
            if path.startswith("tile/entries/"):
                bundle = parse_entries_path(path)
                return pack(self._bundle(bundle.index, bundle.width))
            if path.startswith("tile/"):
                return self._tile(parse_tile_path(path))
        except (FormatError, ValueError) as error:
            raise CannotTell(f"cannot be read: {error}", where=f"{self.name}: {path}") from error
        raise NotFound("is in no backup", where=f"{self.name}: {path}")

    def fetch_many(self, paths: Iterable[str]) -> Iterator[bytes | NotFound]:
        """See :class:`ledger.resources.ManyResources`."""
        for path in paths:
            try:
                yield self.fetch(path)
            except NotFound as error:
                yield error

    # --- entries ---

    def _bundle(self, number: int, width: int) -> list[bytes]:
        leaves: list[bytes] = []
        at, end = number * TILE_WIDTH, number * TILE_WIDTH + width
        if end > self._manifest.size:
            raise NotFound(f"the backup has {self._manifest.size} entries", where=self.name)
        while at < end:
            if self._held < 0 or not self._first <= at < self._first + len(self._leaves):
                self._read(bisect_right(self._file_starts(), at) - 1)
            part = self._leaves[at - self._first : end - self._first]
            if not part:
                raise CannotTell(f"entry {at} is not in the file that should hold it", where=self.name)
            leaves += part
            at += len(part)
        return leaves

    def _read(self, number: int) -> None:
        if self._held == number:
            return
        packed = b"".join(block.packed for block in self._blocks(number))
        self._leaves, _ = split(packed)
        self._held, self._first = number, self._file_starts()[number]

    def _blocks(self, number: int) -> Iterator[ArchivedBlock]:
        file = self._manifest.files[number]
        try:
            yield from read_blocks(read_file(self._directory / file.name, _MOST_FILE), file)
        except FormatError as error:
            raise self._wrong(file.name, error) from error
        except FileProblem as error:
            raise self._wrong(file.name, error) from error

    def _file_starts(self) -> list[int]:
        """The index of each file's first leaf, as the seal of its first block says."""
        if self._starts is None:
            self._starts = [self._start(number) for number in range(len(self._manifest.files))]
        return self._starts

    def _start(self, number: int) -> int:
        block = next(self._blocks(number), None)
        if block is None:
            raise CannotTell("a file of no blocks", where=self.name)
        previous = Seal.decode(unpack(block.packed, most=MAX_BLOCK_LEAVES)[-1]).previous
        return 0 if previous == NONE else previous + 1

    # --- checkpoints ---

    def _note(self, size: int) -> bytes:
        """The signed checkpoint of a block that came with one."""
        number = bisect_right(self._file_starts(), size - 1) - 1
        if self._notes[0] != number:
            found: dict[int, bytes] = {}
            for block in self._blocks(number):
                if block.note is not None:
                    try:
                        found[parse_checkpoint(parse_note(block.note).text).size] = block.note
                    except SudurError:
                        continue  # what cannot be read proves nothing
            self._notes = number, found
        note = self._notes[1].get(size)
        if note is None and size == self._manifest.size:
            note = self._manifest.checkpoint
        if note is None:
            raise NotFound(f"no checkpoint of size {size} is in it", where=self.name)
        return note

    # --- tiles ---

    def _tile(self, tile: TileId) -> bytes:
        if tile.level == 0:
            return b"".join(leaf_hashes(self._bundle(tile.index, tile.width)))
        if self._nodes is None:
            full = self._manifest.size // TILE_WIDTH
            self._nodes = [merkle_root(leaf_hashes(self._bundle(n, TILE_WIDTH))) for n in range(full)]
        row = self._nodes
        for _ in range(tile.level - 1):
            count = len(row) // TILE_WIDTH
            row = [merkle_root(row[n * TILE_WIDTH : (n + 1) * TILE_WIDTH]) for n in range(count)]
        data = b"".join(row[tile.index * TILE_WIDTH :][: tile.width])
        if len(data) != tile.width * HASH_SIZE:
            raise NotFound("the backup is too short for this tile", where=self.name)
        return data

    def _wrong(self, name: str, error: SudurError) -> CannotTell:
        """It says nothing about the log."""
        return CannotTell(
            f"the backup is damaged: {error.what}",
            where=f"{self.name}/{name}",
            fix="bring this file back from another copy of the backup",
        )
