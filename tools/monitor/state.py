"""How far the agency's monitor has read, kept sealed in the register: what it never forgets between runs.

It is a fact of the register: the tree over all leaves read so far (by its partial tiles, from which the
tree is made anew), the newest checkpoint that was accepted, which submissions of the register were still
on their way, and what is usual. Written in the transaction that keeps what was found, so that a crash
leaves the one with the other, or neither.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ledger.canonical_json import Json, Reader, base64_text, encode, parse, parse_base64
from ledger.errors import FormatError, OutOfRange
from ledger.tiles import FULL_TILE_BYTES
from ledger.tree import Tree
from tools.errors import RegisterProblem
from tools.monitor.habits import Habits, OfficeHours
from tools.register.store import Register

_FACT: Final = "monitor"
_FORMAT: Final = "sudur-monitor/v1"
_MAX: Final = 64 << 20


@dataclass(slots=True)
class Tally:
    """What was read since the last report: leaves, own submissions and records, ATTESTs by agency."""

    leaves: int = 0
    submissions: int = 0
    records: int = 0
    attested: dict[int, int] | None = None

    def attest(self, agency: int) -> None:
        counts = self.attested = self.attested or {}
        counts[agency] = counts.get(agency, 0) + 1


@dataclass(slots=True)
class Seen:
    """``start``: the first leaf that was ever read; ``tree``: up to the last; ``checkpoint``: the newest
    accepted, which ``tree`` is a prefix of, or all.

    ``rows``: the greatest id among the register's submissions then; ``unsettled``: those of them that were
    not placed, by id, with the index of the first record of those that were in the log all the same.
    ``placed``: how many were placed within what was read. ``fed``: up to where habits were learned;
    ``agreed_ms``: when all was last read; ``sealed_ms``: the time of the last seal that was read;
    ``findings``: how many there are.
    """

    start: int
    tree: Tree
    checkpoint: bytes
    rows: int
    unsettled: dict[int, int | None]
    placed: int
    fed: int
    agreed_ms: int | None
    sealed_ms: int | None
    findings: int
    tally: Tally
    habits: Habits

    def save(self, register: Register) -> None:
        """Keep it, within a transaction of the caller's."""
        body: Json = {
            "format": _FORMAT,
            "start": str(self.start),
            "size": str(self.tree.size),
            "tiles": [base64_text(tile) for tile in self.tree.partials],
            "checkpoint": base64_text(self.checkpoint),
            "rows": self.rows,
            "unsettled": [
                [number, None if first is None else str(first)]
                for number, first in sorted(self.unsettled.items())
            ],
            "placed": self.placed,
            "fed": str(self.fed),
            "agreed_ms": self.agreed_ms,
            "sealed_ms": self.sealed_ms,
            "findings": self.findings,
            "tally": [self.tally.leaves, self.tally.submissions, self.tally.records],
            "attested": [[agency, count] for agency, count in sorted((self.tally.attested or {}).items())],
            "habits": self.habits.to_json(),
        }
        register.put_fact(_FACT, encode(body))

    @classmethod
    def load(cls, register: Register, offset: int, office: OfficeHours | None) -> Seen | None:
        """What was kept; None before the first reading. Raises RegisterProblem."""
        data = register.fact(_FACT)
        if data is None:
            return None
        try:
            return _decode(data, offset, office)
        except (FormatError, OutOfRange, TypeError, ValueError) as error:
            raise RegisterProblem(f"what the monitor kept is damaged: {error}", where="register") from None


def last_agreed(register: Register) -> int | None:
    """When all was last read; None when it never was. Raises RegisterProblem."""
    seen = Seen.load(register, 0, None)
    return None if seen is None else seen.agreed_ms


def _decode(data: bytes, offset: int, office: OfficeHours | None) -> Seen:
    reader = Reader(parse(data, limit=_MAX, where="monitor"), "monitor")
    if reader.text("format") != _FORMAT:
        raise FormatError(f"is not {_FORMAT}", where=reader.at("format"))
    tiles = [
        parse_base64(one, reader.at("tiles"), limit=FULL_TILE_BYTES) for one in reader.items("tiles", limit=8)
    ]
    leaves, submissions, records = reader.items("tally", limit=3)
    seen = Seen(
        start=reader.u64("start"),
        tree=Tree.from_edge(reader.u64("size"), lambda tile: tiles[tile.level]),
        checkpoint=reader.data("checkpoint", limit=1 << 20),
        rows=reader.number("rows", 0, 1 << 53),
        unsettled={
            number: None if first is None else int(first)
            for number, first in reader.items("unsettled", limit=1 << 24)
        },
        placed=reader.number("placed", 0, 1 << 53),
        fed=reader.u64("fed"),
        agreed_ms=reader.any("agreed_ms"),
        sealed_ms=reader.any("sealed_ms"),
        findings=reader.number("findings", 0, 1 << 53),
        tally=Tally(leaves, submissions, records, dict(map(tuple, reader.items("attested", limit=1 << 20)))),
        habits=Habits.from_json(reader.member("habits"), offset, office),
    )
    reader.done()
    return seen
