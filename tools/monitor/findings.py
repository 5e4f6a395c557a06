"""What the agency's monitor found, kept sealed in the register until it is told, acknowledged or explained.

An alarm stays one in every run until somebody acknowledges it, saying why, or until it turns out that a
register of the agency knows the submission after all. Warnings and notes are told once. The number of
findings is kept with the monitor's state, so that none can be taken out unnoticed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from ledger.canonical_json import Json, Reader, encode, parse
from ledger.errors import FormatError
from tools.errors import RegisterProblem
from tools.register.store import Register

_TABLE: Final = "finding"
_MAX: Final = 8 << 20
MAX_WHY: Final = 1000


class Level(StrEnum):
    """How grave it is. An ALARM is answered for; a WARNING is worth a question; a NOTE is to be known."""

    ALARM = "alarm"
    WARNING = "warning"
    NOTE = "note"


class Standing(StrEnum):
    """OPEN until somebody ACKNOWLEDGED it, or a register that knows it EXPLAINED it."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    EXPLAINED = "explained"


@dataclass(frozen=True, slots=True)
class Finding:
    """``number``: from 1; ``code``: a stable word; ``identity``: what it is of, the same each time it is met.

    ``index``: the leaf that it is about. ``facts`` by code: tools/monitor/report.py says them in words.
    """

    number: int
    level: Level
    code: str
    identity: str
    index: int | None
    found_ms: int
    facts: dict[str, Json]
    told: bool = False
    standing: Standing = Standing.OPEN
    why: str = ""
    settled_ms: int | None = None

    @property
    def is_open_alarm(self) -> bool:
        return self.level is Level.ALARM and self.standing is Standing.OPEN

    def to_json(self) -> dict[str, Json]:
        """For scripts, and as it is kept."""
        return {
            "number": self.number,
            "level": self.level.value,
            "code": self.code,
            "identity": self.identity,
            "index": None if self.index is None else str(self.index),
            "found_ms": self.found_ms,
            "facts": self.facts,
            "told": self.told,
            "standing": self.standing.value,
            "why": self.why,
            "settled_ms": self.settled_ms,
        }


class Findings:
    """All findings of one register, in memory. Changes are written at once, in the caller's transaction."""

    def __init__(self, register: Register, count: int) -> None:
        """``count``: how many there are to be. Raises RegisterProblem when one is missing or altered."""
        self._register = register
        self._by_number: dict[int, Finding] = {}
        for number, sealed in register.rows("SELECT id, sealed FROM findings ORDER BY id"):
            self._by_number[number] = _decode(register.box.open(_TABLE, number, sealed), number)
        if list(self._by_number) != list(range(1, count + 1)):
            raise RegisterProblem(
                f"holds {len(self._by_number)} findings of the monitor, {count} were made",
                where=str(register.path),
                fix="somebody took some out, or put some in: find out who had access, compare with a backup",
            )
        self._numbers = {one.identity: one.number for one in self._by_number.values()}

    def __len__(self) -> int:
        return len(self._by_number)

    def all(self) -> list[Finding]:
        return list(self._by_number.values())

    def alarms(self) -> list[Finding]:
        """The alarms that are open."""
        return [one for one in self._by_number.values() if one.is_open_alarm]

    def put(
        self, level: Level, code: str, identity: str, index: int | None, facts: dict[str, Json]
    ) -> Finding | None:
        """Keep a finding; None for an alarm that was met before, while a warning takes its new facts."""
        number = self._numbers.get(identity)
        now_ms = self._register.now_ms()
        if number is not None:
            known = self._by_number[number]
            if level is Level.ALARM or known.facts == facts:
                return None
            return self._write(replace(known, facts=facts, told=False, found_ms=now_ms))
        number = len(self._by_number) + 1
        return self._write(Finding(number, level, code, identity, index, now_ms, facts))

    def put_once(
        self, level: Level, code: str, identity: str, index: int | None, facts: dict[str, Json]
    ) -> None:
        """Keep a finding, unless it was met before."""
        if identity not in self._numbers:
            self.put(level, code, identity, index, facts)

    def tell(self, told: Iterable[Finding]) -> None:
        """They were reported."""
        for one in told:
            self._write(replace(one, told=True))

    def settle(self, one: Finding, standing: Standing, why: str) -> Finding:
        """It is an alarm no more."""
        return self._write(replace(one, standing=standing, why=why, settled_ms=self._register.now_ms()))

    def _write(self, one: Finding) -> Finding:
        sealed = self._register.box.seal(_TABLE, one.number, encode(one.to_json()))
        self._register.run("INSERT OR REPLACE INTO findings VALUES (?, ?)", (one.number, sealed))
        self._by_number[one.number] = one
        self._numbers[one.identity] = one.number
        return one


def _decode(data: bytes, number: int) -> Finding:
    try:
        reader = Reader(parse(data, limit=_MAX, where="finding"), "finding")
        one = Finding(
            reader.number("number", number, number),
            Level(reader.text("level")),
            reader.text("code"),
            reader.text("identity", limit=1000),
            reader.optional_u64("index"),
            reader.any("found_ms"),
            reader.any("facts"),
            reader.flag("told"),
            Standing(reader.text("standing")),
            reader.text("why", limit=4 * MAX_WHY, empty=True),
            reader.any("settled_ms"),
        )
        reader.done()
    except (FormatError, ValueError) as error:
        raise RegisterProblem(f"is damaged: {error}", where=f"finding {number}") from None
    return one
