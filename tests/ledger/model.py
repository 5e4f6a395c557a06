"""What the rules allow, in plain bookkeeping: the model that the state machine holds the rules to.

It knows nothing of registries, drafts and readers: agencies are dictionaries of numbers, and a
submission is judged record by record on a copy that is thrown away when one of them will not do.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field

from ledger.changes import AUTHORITY
from ledger.leaves import NONE
from ledger.records import Affirm, Answer, Attest, Basis, Issue, Outcome, Record, Send, Status, StatusChange

FINAL = (Status.REVOKED, Status.SUPERSEDED)
POLICIES: dict[str, dict[str, tuple[tuple[tuple[int, int], ...], int | None]]] = {
    "plain": {},
    "four eyes": {"issue.original": (((1, 1), (4, 2)), 7)},
    "two": {"status": (((1, 2),), None), "affirm": (((1, 2),), None), "send": (((1, 1),), 5)},
}
"""By kind of record: steps, and cap."""


@dataclass
class Office:
    """An agency. Keys are numbered from 1; ``stolen`` gives since when."""

    parent: int
    types: frozenset[int]
    roles: frozenset[str]
    policy: str
    uses: list[str] = field(default_factory=list)
    ended: set[int] = field(default_factory=set)
    stolen: dict[int, int] = field(default_factory=dict)
    added_by: list[tuple[int, int]] = field(default_factory=list)
    added_at: list[int] = field(default_factory=list)
    suspended_by: int | None = None
    successor: int | None = None
    affirmed: list[Range] = field(default_factory=list)


@dataclass
class Range:
    """An affirmation, and whose keys made it where."""

    first: int
    last: int
    by: int
    keys: frozenset[int]
    at: int


@dataclass
class Change:
    """The latest STATUS on something."""

    index: int
    status: Status
    by: int
    keys: frozenset[int]
    at: int


@dataclass
class Asked:
    """A SEND and what became of it."""

    send: Send
    reminds: int | None = None
    received: int | None = None
    final: int | None = None


class Refused(Exception):
    """The model does not allow it."""


class Model:
    """All that was taken so far."""

    def __init__(self) -> None:
        self.offices: dict[int, Office] = {}
        self.papers: dict[int, Issue | Attest] = {}
        self.issued: dict[tuple[int, bytes], int] = {}
        self.changes: dict[int, Change] = {}
        self.attested: dict[Attest, int] = {}
        self.asked: dict[int, Asked] = {}
        self.counts: dict[tuple[int, str, int], int] = {}
        self.submitted: set[bytes] = set()
        self.closed = False

    # --- agencies ---

    def above(self, senior: int, junior: int) -> bool:
        while junior != AUTHORITY:
            junior = self.offices[junior].parent
            if junior == senior:
                return True
        return False

    def depth(self, number: int) -> int:
        return 0 if number == AUTHORITY else 1 + self.depth(self.offices[number].parent)

    def heirs(self, agency: int) -> list[int]:
        """The agency, its successor, and so on."""
        line = [agency]
        while (heir := self.offices[line[-1]].successor) is not None:
            line.append(heir)
        return line

    def live(self, agency: int, use: str) -> list[int]:
        office = self.offices[agency]
        keys = enumerate(office.uses, 1)
        return [n for n, one in keys if one == use and n not in office.ended and n not in office.stolen]

    def steal(self, number: int, key: int, since: int) -> None:
        """Mark a key stolen, all that it added since, and take what those affirmed."""
        pending = [(number, key, since)]
        while pending:
            number, key, since = pending.pop()
            office = self.offices[number]
            if office.stolen.get(key, since + 1) <= since:
                continue
            office.stolen[key] = since
            for other, one in self.offices.items():
                for place, (source, at) in enumerate(zip(one.added_by, one.added_at, strict=True)):
                    if source == (number, key) and at >= since:
                        pending.append((other, place + 1, at))
        for office in self.offices.values():
            office.affirmed = [
                one for one in office.affirmed if self.sound(one.by, one.keys, "affirm", one.at)
            ]

    def sound(self, agency: int, keys: frozenset[int], kind: str, at: int) -> bool:
        office = self.offices[agency]
        whole = [key for key in keys if office.stolen.get(key, at + 1) > at]
        steps, _ = POLICIES[office.policy].get(kind, (((1, 1),), None))
        return len(whole) >= steps[0][1]

    # --- submissions ---

    def takes(self, agency: int, keys: frozenset[int], records: list[Record], at: int, day: int) -> bool:
        """Whether a submission stands at ``at``; if so, it is taken."""
        before = deepcopy(self.__dict__)
        try:
            self._take(agency, keys, records, at, day)
        except Refused:
            self.__dict__ = before
            return False
        return True

    def _take(self, agency: int, keys: frozenset[int], records: list[Record], at: int, day: int) -> None:
        if agency == AUTHORITY:
            demand(len(keys) >= 2 and all(isinstance(one, StatusChange) for one in records))
        else:
            demand(self.offices[agency].suspended_by is None)
            demand(keys <= set(self.live(agency, "submit")))
        demand(not self.closed or not any(isinstance(one, Issue | Attest | Send) for one in records))
        for kind in {kind_of(one) for one in records}:
            self._count(agency, kind, sum(kind_of(one) == kind for one in records), day, len(keys))
        ranges: list[tuple[int, Range]] = []
        for place, record in enumerate(records):
            index = at + 1 + place
            if isinstance(record, Issue):
                self._issue(record, index)
            elif isinstance(record, StatusChange):
                self._status(record, keys, index, at)
            elif isinstance(record, Attest):
                self._attest(record, index, at)
            elif isinstance(record, Send):
                self._send(record, index, at)
            elif isinstance(record, Answer):
                self._answer(record, index, at)
            else:
                ranges.append((record.target, self._affirm(record, keys, at)))
        for target, one in ranges:
            self.offices[target].affirmed.append(one)

    def _count(self, agency: int, kind: str, number: int, day: int, keys: int) -> None:
        total = self.counts.get((agency, kind, day), 0) + number
        if agency != AUTHORITY:
            steps, cap = POLICIES[self.offices[agency].policy].get(kind, (((1, 1),), None))
            demand(cap is None or total <= cap)
            demand(keys >= max(needed for start, needed in steps if start <= total))
        self.counts[agency, kind, day] = total

    def _issue(self, record: Issue, index: int) -> None:
        office = self.offices[record.agency]
        demand("issue" in office.roles and record.document_type in office.types)
        demand((record.agency, record.commitment) not in self.issued)
        self.issued[record.agency, record.commitment] = index
        self.papers[index] = record

    def _paper(self, index: int, at: int) -> Issue | Attest:
        demand(index < at and index in self.papers)
        return self.papers[index]

    def status_of(self, index: int) -> Status:
        return self.changes[index].status if index in self.changes else Status.VALID

    def _status(self, record: StatusChange, keys: frozenset[int], index: int, at: int) -> None:
        issuer = self._paper(record.subject, at).agency
        by = record.agency
        demand(by == AUTHORITY or by in self.heirs(issuer) or self.above(by, issuer))
        last = self.changes.get(record.subject)
        demand(record.previous == (record.subject if last is None else last.index))
        demand(record.status is not self.status_of(record.subject))
        if last is not None and last.status in FINAL:
            demand(self._undoable(last, at))
        if record.replacement != NONE:
            demand(record.replacement != record.subject)
            demand(isinstance(self._paper(record.replacement, at), Issue))
        self.changes[record.subject] = Change(index, record.status, by, keys, at)

    def _undoable(self, last: Change, at: int) -> bool:
        if last.at == at or last.by == AUTHORITY:
            return False
        affirmed = any(one.first <= last.index <= one.last for one in self.offices[last.by].affirmed)
        return not affirmed and not self.sound(last.by, last.keys, "status", last.at)

    def _attest(self, record: Attest, index: int, at: int) -> None:
        demand("attest" in self.offices[record.agency].roles)
        length, below = 0, record.subject
        while True:
            paper = self._paper(below, at)
            demand(self.status_of(below) is Status.VALID)
            if isinstance(paper, Issue):
                break
            length, below = length + 1, paper.subject
        demand(length < 16)
        earlier = self.attested.get(record)
        demand(earlier is None or self.status_of(earlier) in FINAL)
        self.attested[record] = index
        self.papers[index] = record

    def _send(self, record: Send, index: int, at: int) -> None:
        demand(record.recipient in self.offices and record.recipient != record.agency)
        asked, needs_role = Asked(record), True
        if record.follows != NONE:
            demand(record.follows < at and record.follows in self.asked)
            first = self.asked[record.follows]
            demand(first.reminds is None and first.send.kind is record.kind)
            if record.agency in self.heirs(first.send.agency):
                to_same = record.recipient in self.heirs(first.send.recipient)
                asked.reminds = record.follows if to_same and first.final is None else None
            else:
                demand(record.agency in self.heirs(first.send.recipient))
                needs_role = False
        if needs_role:
            demand(("", "request", "circulate")[record.kind] in self.offices[record.agency].roles)
        self.asked[index] = asked

    def _answer(self, record: Answer, index: int, at: int) -> None:
        demand(record.subject < at and record.subject in self.asked)
        asked = self.asked[record.subject]
        demand(record.agency in self.heirs(asked.send.recipient))
        demand(asked.reminds is None and asked.final is None)
        if record.outcome is Outcome.RECEIVED:
            demand(asked.received is None)
            asked.received = index
        else:
            asked.final = index

    def _affirm(self, record: Affirm, keys: frozenset[int], at: int) -> Range:
        demand(record.target in self.offices)
        demand(record.agency == record.target or self.above(record.agency, record.target))
        office = self.offices[record.target]
        since = [index for key, index in office.stolen.items() if office.uses[key - 1] == "submit"]
        demand(record.last < at and bool(since) and record.last >= min(since))
        return Range(record.first, record.last, record.agency, keys, at)


def demand(allowed: bool) -> None:
    if not allowed:
        raise Refused


def kind_of(record: Record) -> str:
    if isinstance(record, Issue):
        return ("issue.original", "issue.archive", "issue.migrated", "issue.replacement")[Basis(record.basis)]
    return type(record).__name__.lower().removesuffix("change")
