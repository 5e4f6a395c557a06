"""Heads in SQLite."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ledger.checkpoints import Checkpoint
from ledger.errors import FormatError
from ledger.notes import parse_note
from ledger.witnessing import parse_any_checkpoint
from tools.witness.database import failures, open_database, transaction
from tools.witness.heads import ID_SIZE, Head, Place, Remembered
from tools.witness.refusals import StateLost

_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE place (
  one INTEGER PRIMARY KEY CHECK (one = 1), place BLOB NOT NULL, before BLOB NOT NULL, time_s INTEGER NOT NULL
) STRICT;
CREATE TABLE head (
  origin TEXT PRIMARY KEY, size INTEGER NOT NULL, root BLOB NOT NULL, time_s INTEGER NOT NULL,
  note BLOB NOT NULL
) STRICT, WITHOUT ROWID
"""
_PUT: Final = """
INSERT INTO head VALUES (?, ?, ?, ?, ?) ON CONFLICT (origin)
DO UPDATE SET size = excluded.size, root = excluded.root, time_s = excluded.time_s, note = excluded.note
"""


class SqliteHeads:
    """See :class:`tools.witness.heads.HeadStore`. A write costs one fsync of the write-ahead log, and at
    times some more, when that is carried over into the file."""

    def __init__(self, path: Path) -> None:
        """Opens at the first :meth:`load`."""
        self._path = path
        self._connection: sqlite3.Connection | None = None

    def load(self) -> Remembered:
        """See :class:`HeadStore`. It opens the file anew, so that nothing of a failed write is left over."""
        self.close()
        connection = open_database(self._path, _SCHEMA, _VERSION)
        try:
            with failures(self._path):
                found = self._read(connection)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return found

    def write(self, heads: Sequence[Head], place: Place, time_s: int) -> None:
        """See :class:`HeadStore`."""
        assert self._connection is not None, "load comes first"
        rows = [(*_columns(head), head.time_s, head.note) for head in heads]
        with failures(self._path), transaction(self._connection):
            self._connection.executemany(_PUT, rows)
            self._connection.execute(
                "UPDATE place SET before = place, place = ?, time_s = ?", (place.encode(), time_s)
            )

    def close(self) -> None:
        """See :class:`HeadStore`."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _read(self, connection: sqlite3.Connection) -> Remembered:
        with transaction(connection):
            (well,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if well != "ok":
                raise sqlite3.DatabaseError(well)
            row = connection.execute("SELECT place, before, time_s FROM place").fetchone()
            if row is None:
                first = Place(secrets.token_bytes(ID_SIZE), 0, bytes(32)).encode()
                row = first, first, 0
                connection.execute("INSERT INTO place VALUES (1, ?, ?, ?)", row)
            rows = connection.execute("SELECT origin, size, root, time_s, note FROM head").fetchall()
        place, before = Place.decode(row[0]), Place.decode(row[1])
        if place is None or before is None:
            raise sqlite3.DatabaseError("the place is not readable")
        return Remembered(place, before, row[2], {one[0]: self._head(*one) for one in rows})

    def _head(self, origin: str, size: int, root: bytes, time_s: int, note: bytes) -> Head:
        try:
            head = Head(parse_any_checkpoint(parse_note(note).text), time_s, note)
            if head.checkpoint == Checkpoint(origin, size, root):
                return head
        except FormatError:
            pass
        raise StateLost(f"the head of {origin} is damaged", where=str(self._path))


def _columns(head: Head) -> tuple[str, int, bytes]:
    return head.checkpoint.origin, head.checkpoint.size, head.checkpoint.root
