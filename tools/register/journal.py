"""The officers' journal: who did what, when, each entry chained to the one before.

A link is keyed, so an entry cannot be altered, removed, inserted or moved by somebody who has the
database without its key, and the newest link stands sealed among the register's facts, so the end
cannot be cut off unnoticed either. That a whole older register was put back shows only beside the log.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ledger.canonical_json import Json, encode, parse
from tools.errors import RegisterProblem

if TYPE_CHECKING:
    from tools.register.store import Register

_MAX_DETAIL: Final = 1 << 20
_HEAD: Final = "journal"


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that was done. ``officer``: the labels of the keys that signed, or ``-``."""

    number: int
    time_ms: int
    officer: str
    action: str
    detail: dict[str, Json]


class Journal:
    """The journal of one register."""

    def __init__(self, register: Register) -> None:
        self._register = register

    def write(self, officer: str, action: str, detail: dict[str, Json]) -> None:
        """Add an entry, in the transaction that does what it tells of. ``detail`` is sealed."""
        register = self._register
        with register.transaction():
            number, before = self._head()
            number += 1
            time_ms = register.now_ms()
            sealed = register.box.seal("journal", number, encode(detail))
            link = register.box.link(before, _row(number, time_ms, officer, action, sealed))
            register.run(
                "INSERT INTO journal VALUES (?, ?, ?, ?, ?, ?)",
                (number, time_ms, officer, action, sealed, link),
            )
            register.put_fact(_HEAD, number.to_bytes(8, "big") + link)

    def entries(self) -> Iterator[Entry]:
        """All entries, the oldest first, each checked. Raises RegisterProblem at the first that is wrong."""
        register = self._register
        end, last = self._head()
        link, number = b"", 0
        rows = register.rows("SELECT id, time_ms, officer, action, sealed, link FROM journal ORDER BY id")
        for number, (found, time_ms, officer, action, sealed, there) in enumerate(rows, 1):
            link = register.box.link(link, _row(found, time_ms, officer, action, sealed))
            if found != number or there != link:
                raise _broken(number)
            detail = parse(register.box.open("journal", found, sealed), limit=_MAX_DETAIL, where="journal")
            yield Entry(found, time_ms, officer, action, detail)
        if (number, link) != (end, last):
            raise _broken(number + 1)

    def _head(self) -> tuple[int, bytes]:
        fact = self._register.fact(_HEAD)
        return (0, b"") if fact is None else (int.from_bytes(fact[:8], "big"), fact[8:])


def _row(number: int, time_ms: int, officer: str, action: str, sealed: bytes) -> bytes:
    return encode([number, time_ms, officer, action]) + sealed


def _broken(number: int) -> RegisterProblem:
    return RegisterProblem(
        "an entry was removed, altered or put in",
        where=f"journal, entry {number}",
        fix="compare with a backup, and find out who had access",
    )
