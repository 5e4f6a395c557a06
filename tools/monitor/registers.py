"""Whether a register knows a submission of the log: the agency's own, and those of its other offices.

Of another office's register only what the log makes public anyway is read, so its key is not needed; and
what it says is believed: whoever can write that file can explain a theft away. Take it the safe way.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from ledger.submissions import pack
from tools.agency.outbox import State, submission_mark
from tools.errors import RegisterProblem
from tools.monitor.scan import OwnSubmission
from tools.register.box import Box
from tools.register.schema import APPLICATION, VERSION
from tools.register.store import Register

_BODY: Final = 50
NOWHERE: Final = -1
"""Where the first record of a submission is that was not placed."""

_ROW: Final = (
    f"SELECT id, work, kind, count, coalesce(first, {NOWHERE}), substr(leaf, 1, {_BODY}), records, mark"
    " FROM submissions"
)
_OWNER: Final = "SELECT first, count FROM submissions WHERE first <= ? ORDER BY first DESC LIMIT 1"


@dataclass(frozen=True, slots=True)
class Row:
    """A submission of the register; ``first`` is NOWHERE while it is not placed."""

    number: int
    work: int
    kind: str
    count: int
    first: int
    body: bytes
    records: bytes
    mark: bytes

    def is_of(self, one: OwnSubmission, box: Box) -> bool:
        """Whether it is this one of the log, at the same place, and the agency's own tools wrote it down.

        A row that somebody without the register's key has put in explains nothing.
        """
        if self.mark != submission_mark(box, self.body):
            return False
        return (self.first, self.body, self.records) == (one.first, one.leaf[:_BODY], pack(one.records))


def body_of(leaf: bytes) -> bytes:
    """A SUBMISSION without its signatures, which may be others each time it is signed."""
    return leaf[:_BODY]


class OwnRegister:
    """The submissions of the agency's own register."""

    def __init__(self, register: Register) -> None:
        self._register = register
        self._refused: dict[bytes, int] | None = None

    @property
    def box(self) -> Box:
        """The register's keys."""
        return self._register.box

    def placed(self, after: int, last: int) -> Iterator[Row]:
        """Those whose first record is at an index above ``after`` and up to ``last``, in that order."""
        sql = f"{_ROW} WHERE first > ? AND first <= ? ORDER BY first"
        for row in self._register.rows(sql, (after, last)):
            yield Row(*row)

    def count(self, after: int, last: int) -> int:
        """How many :meth:`placed` gives. Reads an index alone."""
        found = self._register.row(
            "SELECT count(*) FROM submissions WHERE first > ? AND first <= ?", (after, last)
        )
        assert found is not None
        count: int = found[0]
        return count

    def placed_late(self, rows: int, after: int, last: int) -> list[Row]:
        """Those with a greater id than ``rows`` that are placed in that range."""
        sql = f"{_ROW} WHERE id > ? AND +first > ? AND +first <= ?"
        return [Row(*row) for row in self._register.rows(sql, (rows, after, last))]

    def row(self, number: int) -> Row | None:
        """A submission by its id, placed or not; None when it is not there."""
        found = self._register.row(f"{_ROW} WHERE id = ?", (number,))
        return None if found is None else Row(*found)

    def greatest(self) -> int:
        """The greatest id of a submission; 0 when there is none."""
        found = self._register.row("SELECT coalesce(max(id), 0) FROM submissions")
        assert found is not None
        number: int = found[0]
        return number

    def unsettled(self) -> dict[bytes, int]:
        """The ids of those that are on their way, by body."""
        return self._own(f"state < {State.PLACED:d}")

    def refused(self) -> dict[bytes, int]:
        """The ids of those that were refused, by body. Reads the whole table, once."""
        if self._refused is None:
            self._refused = self._own(f"state = {State.REFUSED:d}")
        return self._refused

    def _own(self, where: str) -> dict[bytes, int]:
        sql = f"SELECT substr(leaf, 1, {_BODY}), id, mark FROM submissions WHERE {where}"
        box = self._register.box
        return {
            body: number
            for body, number, mark in self._register.rows(sql)
            if mark == submission_mark(box, body)
        }

    def knows(self, first: int, body: bytes) -> bool:
        """Whether a submission with this body is placed there."""
        sql = f"SELECT mark FROM submissions WHERE first = ? AND substr(leaf, 1, {_BODY}) = ?"
        found = self._register.row(sql, (first, body))
        return found is not None and found[0] == submission_mark(self._register.box, body)

    def owns(self, index: int) -> bool:
        """Whether a record of it is at this index."""
        return _covers(self._register.row(_OWNER, (index,)), index)


class OtherRegister:
    """The register of another office of the same agency, opened only to be read."""

    def __init__(self, path: Path) -> None:
        """Raises RegisterProblem."""
        self.path = path
        try:
            self._database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
            self._database.execute("PRAGMA trusted_schema = OFF")
            of = self._one("PRAGMA application_id"), self._one("PRAGMA user_version")
        except sqlite3.Error as error:
            raise self._damaged(error) from None
        if of != ((APPLICATION,), (VERSION,)):
            self.close()
            raise RegisterProblem("is not a register of this version", where=str(path))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        with suppress(sqlite3.Error):
            self._database.close()

    def knows(self, first: int, body: bytes) -> bool:
        """Whether a submission with this body is placed there, or on its way."""
        same = f"substr(leaf, 1, {_BODY}) = ?"
        try:
            placed = self._one(f"SELECT 1 FROM submissions WHERE first = ? AND {same}", first, body)
            way = f"SELECT 1 FROM submissions WHERE state < {State.PLACED:d} AND {same}"
            return placed is not None or self._one(way, body) is not None
        except sqlite3.Error as error:
            raise self._damaged(error) from None

    def owns(self, index: int) -> bool:
        """Whether a record of it is at this index."""
        try:
            return _covers(self._one(_OWNER, index), index)
        except sqlite3.Error as error:
            raise self._damaged(error) from None

    def _one(self, sql: str, *values: object) -> tuple[object, ...] | None:
        found: tuple[object, ...] | None = self._database.execute(sql, values).fetchone()
        return found

    def _damaged(self, error: sqlite3.Error) -> RegisterProblem:
        return RegisterProblem(f"cannot be read as a register: {error}", where=str(self.path))


def _covers(found: tuple[object, ...] | None, index: int) -> bool:
    if found is None:
        return False
    first, count = found
    return isinstance(first, int) and isinstance(count, int) and first <= index < first + count
