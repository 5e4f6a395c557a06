"""The leaves of a database, block by block, from its entry bundles and nothing else.

What fsck and repair replay: no index is believed, and a bundle that cannot be read has a name.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ledger.errors import SudurError
from ledger.leaves import LeafType
from ledger.rules_v1 import MAX_BLOCK_LEAVES
from ledger.submissions import unpack
from ledger.tiles import TILE_WIDTH
from node import codec
from node.database import ENTRIES, Database
from node.errors import StoreDamaged

_SEAL: Final = int(LeafType.SEAL)
RESTORE: Final = (
    "entries are never repaired: restore the data directory from a replica or a backup that holds them"
)


class EntriesDamaged(StoreDamaged):
    """The entries cannot be read, or are not those of the log, from leaf ``first`` on."""

    code = "ENTRIES_DAMAGED"

    def __init__(self, what: str, *, first: int, where: str) -> None:
        super().__init__(what, where=where, fix=RESTORE)
        self.first = first


class EntryReader:
    """Reads bundles in order. Holds one block and one bundle in memory: at most a few MiB."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._bundles = 0
        self._read = 0

    @property
    def read(self) -> int:
        """Leaves read so far, those of a block not handed out yet included."""
        return self._read

    @property
    def bundles(self) -> int:
        """Bundles read so far."""
        return self._bundles

    def blocks(self) -> Iterator[tuple[list[bytes], bytes]]:
        """Each block's leaves, its SEAL last, and the same packed. About 0.4 µs a leaf.

        Raises EntriesDamaged for a bundle that is missing, cannot be read or has not the length that
        its place gives it, and when the end is not a SEAL.
        """
        block: list[bytes] = []
        packed: list[bytes] = []
        for key, row in self._rows():
            leaves = self._bundle(key, row)
            self._bundles += 1
            self._read += len(leaves)
            at = start = 0
            for after in [i + 1 for i, leaf in enumerate(leaves) if leaf[1] == _SEAL]:
                run = leaves[at:after]
                end = start + sum(map(len, run)) + 2 * len(run)
                yield block + run, b"".join((*packed, row[start:end]))
                block, packed, at, start = [], [], after, end
            block += leaves[at:]
            packed.append(row[start:])
            if len(block) > MAX_BLOCK_LEAVES:
                first = self._read - len(block)
                raise EntriesDamaged(
                    f"no seal within {MAX_BLOCK_LEAVES} leaves", first=first, where=f"leaf {first}"
                )
        if block:
            first = self._read - len(block)
            raise EntriesDamaged(
                f"the last {len(block)} leaves have no seal behind them", first=first, where=f"leaf {first}"
            )

    def _rows(self) -> Iterator[tuple[bytes, bytes]]:
        try:
            yield from self._database.rows(ENTRIES)
        except StoreDamaged as error:
            first = self._bundles * TILE_WIDTH
            raise EntriesDamaged(
                f"bundle {self._bundles} cannot be read: {error.what}", first=first, where=f"leaf {first}"
            ) from error

    def _bundle(self, key: bytes, row: bytes) -> list[bytes]:
        wanted = self._bundles
        first = wanted * TILE_WIDTH
        if self._read != first:
            raise EntriesDamaged(
                f"bundle {wanted - 1} holds {self._read - first + TILE_WIDTH} leaves, and more follow",
                first=self._read,
                where=f"leaf {self._read}",
            )
        if key != codec.u64(wanted):
            raise EntriesDamaged(
                f"bundle {wanted} is missing: the next row there is has key {key.hex()}",
                first=first,
                where=f"leaf {first}",
            )
        try:
            leaves = unpack(row, most=TILE_WIDTH)
        except SudurError as error:
            raise EntriesDamaged(
                f"bundle {wanted} cannot be read: {error}", first=first, where=f"leaf {first}"
            ) from error
        if not leaves or min(map(len, leaves)) < 2:
            raise EntriesDamaged(
                f"bundle {wanted} holds no leaves, or one of less than 2 bytes",
                first=first,
                where=f"leaf {first}",
            )
        return leaves
