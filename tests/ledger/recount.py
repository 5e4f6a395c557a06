"""The figures of a ledger counted once more, from its leaves, by a program that knows only docs/format.md.

Nothing of ``ledger`` is imported. Every counter is asked of the whole list of events at the end, where
the code under test adds up block by block: the two can hardly err alike. Quadratic; for small ledgers.
"""

from __future__ import annotations

import json
import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

NONE: Final = 2**64 - 1
DAY_MS: Final = 86_400_000
HOUR_MS: Final = 3_600_000
BOUNDS: Final = [hours * HOUR_MS for hours in (1, 4, 8)] + [
    days * DAY_MS for days in (1, 2, 3, 5, 7, 10, 14, 21, 30, 45, 60, 90, 120, 180, 270, 365, 730)
]

Key = tuple[int, int, int, int, int]
"""agency, metric, period, a, b"""


@dataclass(frozen=True)
class Asked:
    """A SEND as it stands in the log."""

    index: int
    time_ms: int
    sender: int
    recipient: int
    kind: int
    due: int
    follows: int


class Recount:
    """Reads the leaves of whole blocks; :meth:`figures` counts them."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        self.leaves = leaves
        self.times: dict[int, int] = {}
        self.parents: list[tuple[int, int, int]] = []
        self.successors: list[tuple[int, int, int]] = []
        self._read()

    def _read(self) -> None:
        time_ms = 0
        for index in reversed(range(len(self.leaves))):
            leaf = self.leaves[index]
            if leaf[1] == 0x30:
                (time_ms,) = struct.unpack_from(">Q", leaf, 12)
            self.times[index] = time_ms
        for index, leaf in enumerate(self.leaves):
            if leaf[1] != 0x10:
                continue
            change = json.loads(leaf[4 : 4 + int.from_bytes(leaf[2:4], "big")])
            kind, _, number = change["subject"].partition("/")
            if change["change"] in ("agency_enrolled", "agency_moved"):
                assert kind == "agency"
                self.parents.append((index, int(number), change["parent"]))
            if change["change"] == "successor_named":
                self.successors.append((index, int(number), change["successor"]))

    def line(self, agency: int, index: int) -> list[int]:
        """The agency, those above it when the leaf at ``index`` was logged, and 0."""
        if agency == 0:
            return [0]
        parent = [above for at, who, above in self.parents if who == agency and at <= index][-1]
        return [agency, *self.line(parent, index)]

    def stands_for(self, agency: int, other: int, index: int) -> bool:
        if agency == other:
            return True
        heirs = [heir for at, who, heir in self.successors if who == other and at <= index]
        return bool(heirs) and self.stands_for(agency, heirs[-1], index)

    # --- SENDs ---

    def sends(self) -> dict[int, Asked]:
        found = {}
        for index, leaf in enumerate(self.leaves):
            if leaf[1] == 0x04:
                sender, recipient, kind, due, follows = struct.unpack(">II32xBHQ", leaf[2:53])
                found[index] = Asked(index, self.times[index], sender, recipient, kind, due, follows)
        return found

    def answers(self, send: int) -> list[tuple[int, int]]:
        """(index, outcome) of each ANSWER to a SEND."""
        found = []
        for index, leaf in enumerate(self.leaves):
            if leaf[1] == 0x05:
                subject, outcome = struct.unpack(">QB", leaf[6:15])
                if subject == send:
                    found.append((index, outcome))
        return found

    def final(self, send: int) -> tuple[int, int] | None:
        finals = [one for one in self.answers(send) if one[1] != 1]
        assert len(finals) <= 1
        return finals[0] if finals else None

    def repeats(self, send: Asked) -> str:
        """``reminds``, ``reopens`` or nothing."""
        if send.follows == NONE:
            return ""
        first = self.sends()[send.follows]
        if not self.stands_for(send.sender, first.sender, send.index):
            return ""
        if not self.stands_for(send.recipient, first.recipient, send.index):
            return ""
        final = self.final(first.index)
        return "reopens" if final is not None and final[0] < send.index else "reminds"

    # --- counting ---

    def figures(self) -> dict[Key, int]:
        counts: Counter[Key] = Counter()

        def count(line: Sequence[int], metric: int, period: int, a: int, b: int = 0) -> None:
            for agency in line:
                counts[agency, metric, period, a, b] += 1

        for index, leaf in enumerate(self.leaves):
            month = month_of(self.times[index])
            if leaf[1] == 0x01:
                agency, kind, basis = struct.unpack(">IHB", leaf[2:9])
                count(self.line(agency, index), 1, month, kind, basis)
            elif leaf[1] == 0x02:
                (subject,) = struct.unpack(">Q", leaf[6:14])
                (issuer,) = struct.unpack(">I", self.leaves[subject][2:6])
                count(self.line(issuer, index), 2, month, leaf[22])
            elif leaf[1] == 0x03:
                (agency,) = struct.unpack(">I", leaf[2:6])
                count(self.line(agency, index), 3, month, leaf[14])
        for send in self.sends().values():
            self._count_send(send, count)
        return dict(counts)

    def _count_send(self, send: Asked, count: object) -> None:
        assert callable(count)
        month, kind = month_of(send.time_ms), send.kind
        asked = self.line(send.recipient, send.index)
        count(self.line(send.sender, send.index), 4, month, kind)
        repeats = self.repeats(send)
        if repeats == "reminds":
            count(asked, 6, month, kind)
            assert not self.answers(send.index)
            return
        count(asked, 5, month, kind)
        if repeats == "reopens":
            count(asked, 7, month, kind)
        final = self.final(send.index)
        for index, outcome in self.answers(send.index):
            if outcome == 1:
                count(asked, 8, month_of(self.times[index]), kind)
        last_day = send.time_ms // DAY_MS + send.due
        if final is None:
            count(asked, 12, send.time_ms // DAY_MS, kind)
            if send.due:
                count(asked, 13, last_day, kind)
            return
        index, outcome = final
        when = self.times[index]
        count(asked, 9, month_of(when), kind, outcome)
        count(asked, 10, month_of(when), kind, sum(bound < when - send.time_ms for bound in BOUNDS))
        if send.due and when // DAY_MS > last_day:
            count(asked, 11, month_of(when), kind)


def month_of(time_ms: int) -> int:
    """Months since January 1970 (UTC); those of years that a calendar does not have are the last it has."""
    try:
        when = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=time_ms)
    except OverflowError:
        return 96_359
    return (when.year - 1970) * 12 + when.month - 1
