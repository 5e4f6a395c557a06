"""Rules version 1: what each record other than ISSUE may say.

:class:`RecordRules` judges the records of one submission in order, on top of what the log and the draft
hold, and gathers what they change; the draft takes that over only when the whole submission stands.
Format: docs/format.md, section Rules version 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from ledger.changes import AUTHORITY
from ledger.errors import (
    AlreadyAnswered,
    DuplicateAttest,
    IndexedRuleError,
    NotEntitled,
    RuleError,
    StatusFinal,
    StatusStale,
    SubjectInvalid,
)
from ledger.exchanges import SEND_ROLES, Exchange
from ledger.figures import Metric, Tally
from ledger.hashing import leaf_hash
from ledger.leaves import NONE, LeafType
from ledger.records import (
    MAX_RECORDS,
    Affirm,
    Answer,
    Attest,
    Issue,
    Outcome,
    Record,
    Send,
    Status,
    StatusChange,
)
from ledger.registry import Registry
from ledger.registry_records import MAX_AFFIRMED, Affirmation
from ledger.signing_policy import RECORD_KINDS
from ledger.state import Reader
from ledger.submissions import Submission, SubmissionLeaf

MAX_CHAIN: Final = 16
"""Most attestations that stand one on another."""
_FINAL: Final = frozenset((Status.REVOKED, Status.SUPERSEDED))


@dataclass(slots=True)
class Edits:
    """What the records of a draft, or of one submission, have changed.

    ``statuses``: each subject's latest STATUS and what it says; ``attests``: leaf hash of each ATTEST
    → its index; ``exchanges``: by the index of the SEND; ``attested``: (subject, index) of each ATTEST;
    ``sends``: (recipient, index) of each SEND.
    """

    statuses: dict[int, tuple[int, Status]] = field(default_factory=dict)
    attests: dict[bytes, int] = field(default_factory=dict)
    exchanges: dict[int, Exchange] = field(default_factory=dict)
    attested: list[tuple[int, int]] = field(default_factory=list)
    sends: list[tuple[int, int]] = field(default_factory=list)

    def update(self, later: Edits) -> None:
        self.statuses.update(later.statuses)
        self.attests.update(later.attests)
        self.exchanges.update(later.exchanges)
        self.attested += later.attested
        self.sends += later.sends


class RecordRules:
    """The records of ``submission``, whose SUBMISSION stands at ``index``.

    ``leaf`` gives any leaf below that index; ``size`` is where the log ends and the draft begins,
    ``edits`` what the draft has changed. After :meth:`check`, ``own`` holds what these records change,
    ``registry`` the registry with their affirmations, ``tally`` their figures.
    """

    def __init__(
        self,
        submission: Submission,
        index: int,
        registry: Registry,
        reader: Reader,
        leaf: Callable[[int], bytes],
        size: int,
        edits: Edits,
        time_ms: int,
    ) -> None:
        self.registry = registry
        self.own = Edits()
        self.tally = Tally(time_ms)
        self._affirmed: dict[int, list[Affirmation]] = {}
        self._submission = submission
        self._index = index
        self._reader = reader
        self._leaf = leaf
        self._size = size
        self._edits = edits
        self._covering: tuple[int, SubmissionLeaf] | None = None

    def check(self) -> None:
        """Raises RuleError, naming the record that is at fault."""
        for position, record in self._submission.others:
            try:
                self._judge(record, self._index + 1 + position)
            except RuleError as error:
                error.where = f"record {position}"
                if isinstance(error, IndexedRuleError) and error.index >= self._index:
                    # A record of this very submission stands in the way: it will not be in the ledger.
                    error.index = NONE
                raise
        for number, affirmed in self._affirmed.items():
            target = self.registry.agency(number)
            longer = replace(target.record, affirmed=(*target.record.affirmed, *affirmed))
            self.registry = self.registry.with_agency(replace(target, record=longer))

    def _judge(self, record: Record, index: int) -> None:
        match record:
            case StatusChange():
                self._status(record, index)
            case Attest():
                self._attest(record, index)
            case Send():
                self._send(record, index)
            case Answer():
                self._answer(record, index)
            case Affirm():
                self._affirm(record)
            case Issue():
                raise AssertionError("ISSUEs are judged by the draft, column by column")

    # --- STATUS ---

    def _status(self, record: StatusChange, index: int) -> None:
        subject = self._subject(record.subject)
        if record.agency != AUTHORITY and not (
            self._is_heir(record.agency, subject.agency)
            or self.registry.is_above(record.agency, subject.agency)
        ):
            raise NotEntitled(
                f"agency {record.agency} is neither the issuer of leaf {record.subject}, nor its"
                " successor, nor above it"
            )
        last, status = self._present(record.subject)
        if record.previous != last:
            raise StatusStale(
                f"leaf {record.subject} last changed at index {last}, not at {record.previous}",
                index=last,
                fix="look at its present status and decide again",
            )
        if status in _FINAL and not self._is_thiefs(last):
            raise StatusFinal(f"leaf {record.subject} is {status.name.lower()} for good", index=last)
        if record.status is status:
            raise StatusStale(f"leaf {record.subject} is {status.name.lower()} already", index=last)
        if record.replacement == record.subject:
            raise SubjectInvalid(f"leaf {record.subject} cannot replace itself")
        if record.replacement != NONE and not isinstance(self._subject(record.replacement), Issue):
            raise SubjectInvalid(f"the replacement, leaf {record.replacement}, is no ISSUE")
        self.own.statuses[record.subject] = index, record.status
        self.tally.add(self.registry, subject.agency, Metric.STATUS, record.status)

    def _present(self, subject: int) -> tuple[int, Status]:
        """The subject's latest STATUS (itself, when there is none) and its status now."""
        for edits in (self.own, self._edits):
            if subject in edits.statuses:
                return edits.statuses[subject]
        stored = self._reader.latest_status(subject) if subject < self._size else None
        if stored is None:
            return subject, Status.VALID
        return stored, StatusChange.decode(self._leaf(stored)).status

    def _is_thiefs(self, index: int) -> bool:
        """Whether a stolen key made the STATUS at ``index``, which nobody has affirmed: it may be undone."""
        if index >= self._index:
            return False
        at, head = self._submission_over(index)
        if head.agency == AUTHORITY:
            return False
        agency = self.registry.agency(head.agency)
        numbers = [one.number for one in head.signatures]
        return not (
            agency.sound(numbers, RECORD_KINDS[LeafType.STATUS], at) or agency.record.affirmed_at(index)
        )

    def _submission_over(self, index: int) -> tuple[int, SubmissionLeaf]:
        """The last one found is kept: whoever undoes a theft undoes whole submissions of the thief's."""
        if self._covering is not None and 0 < index - self._covering[0] <= self._covering[1].count:
            return self._covering
        for at in range(index - 1, index - 1 - MAX_RECORDS, -1):
            leaf = self._leaf(at)
            if leaf[1] == LeafType.SUBMISSION:
                self._covering = at, SubmissionLeaf.decode(leaf)
                return self._covering
        raise AssertionError("a record stands at most 256 leaves behind its SUBMISSION")

    # --- ATTEST ---

    def _attest(self, record: Attest, index: int) -> None:
        self._require_role(record.agency, "attest")
        for link in self._chain(record.subject):
            _, status = self._present(link)
            if status is not Status.VALID:
                raise SubjectInvalid(
                    f"leaf {link} is {status.name.lower()}, and only what is valid can be attested"
                )
        key = leaf_hash(record.encode())
        earlier = self._attested(key)
        if earlier is not None and self._present(earlier)[1] not in _FINAL:
            raise DuplicateAttest(
                f"agency {record.agency} has attested leaf {record.subject} so already, at index {earlier}",
                index=earlier,
                fix="that attestation stands: there is nothing to do",
            )
        self.own.attests[key] = index
        self.own.attested.append((record.subject, index))
        self.tally.add(self.registry, record.agency, Metric.ATTESTATIONS, record.kind)

    def _chain(self, subject: int) -> Iterator[int]:
        """The subject, what it attests in its turn, and so on down to the ISSUE."""
        for _ in range(MAX_CHAIN):
            yield subject
            found = self._subject(subject)
            if isinstance(found, Issue):
                return
            subject = found.subject
        raise SubjectInvalid(
            f"{MAX_CHAIN} attestations stand one on another already", fix="attest an earlier one of them"
        )

    def _attested(self, key: bytes) -> int | None:
        found = self.own.attests.get(key)
        if found is None:
            found = self._edits.attests.get(key)
        return self._reader.find_attest(key) if found is None else found

    # --- SEND ---

    def _send(self, record: Send, index: int) -> None:
        self.registry.agency(record.recipient)
        if record.recipient == record.agency:
            raise SubjectInvalid(f"agency {record.agency} cannot send to itself")
        exchange, reopens, passes_on = Exchange(self.tally.time_ms), False, False
        if record.follows != NONE:
            earlier, before = self._exchange(record.follows)
            self._check_follows(record, earlier, before)
            passes_on = not self._is_heir(record.agency, earlier.agency)
            again = not passes_on and self._is_heir(record.recipient, earlier.recipient)
            if again and before.final is None:
                exchange = replace(exchange, reminds=record.follows)
            reopens = again and before.final is not None
        if not passes_on:
            self._require_role(record.agency, SEND_ROLES[record.kind])
        self.own.exchanges[index] = exchange
        self.own.sends.append((record.recipient, index))
        self.tally.sent(self.registry, record, exchange, reopens=reopens)

    def _check_follows(self, record: Send, earlier: Send, before: Exchange) -> None:
        if before.reminds is not None:
            raise SubjectInvalid(
                f"leaf {record.follows} is a reminder itself", fix=f"follow leaf {before.reminds}"
            )
        if earlier.kind is not record.kind:
            raise SubjectInvalid(f"leaf {record.follows} is a {earlier.kind.name.lower()} SEND")
        if not (
            self._is_heir(record.agency, earlier.agency) or self._is_heir(record.agency, earlier.recipient)
        ):
            raise NotEntitled(f"agency {record.agency} neither sent nor received leaf {record.follows}")

    # --- ANSWER ---

    def _answer(self, record: Answer, index: int) -> None:
        send, exchange = self._exchange(record.subject)
        if not self._is_heir(record.agency, send.recipient):
            raise NotEntitled(
                f"agency {record.agency} is neither the recipient of leaf {record.subject}, nor its successor"
            )
        if exchange.reminds is not None:
            raise SubjectInvalid(
                f"leaf {record.subject} is a reminder", fix=f"answer leaf {exchange.reminds}"
            )
        if exchange.final is not None:
            raise AlreadyAnswered(
                f"leaf {record.subject} has its final answer, at index {exchange.final}", index=exchange.final
            )
        if record.outcome is Outcome.RECEIVED and exchange.received is not None:
            raise AlreadyAnswered(
                f"leaf {record.subject} is marked as received, at index {exchange.received}",
                index=exchange.received,
            )
        settled = "received" if record.outcome is Outcome.RECEIVED else "final"
        self.own.exchanges[record.subject] = replace(exchange, **{settled: index})
        self.tally.answered(self.registry, record.subject, send, exchange, record.outcome)

    def _exchange(self, subject: int) -> tuple[Send, Exchange]:
        """The SEND at ``subject`` and its state. Raises SubjectInvalid."""
        leaf = self._leaf(subject) if subject < self._index else b""
        if leaf[1:2] != bytes((LeafType.SEND,)):
            raise SubjectInvalid(f"leaf {subject} is no SEND")
        for edits in (self.own, self._edits):
            if subject in edits.exchanges:
                return Send.decode(leaf), edits.exchanges[subject]
        return Send.decode(leaf), self._reader.exchange(subject)

    # --- AFFIRM ---

    def _affirm(self, record: Affirm) -> None:
        target = self.registry.agency(record.target)
        if record.agency != record.target and not self.registry.is_above(record.agency, record.target):
            raise NotEntitled(f"agency {record.agency} is neither agency {record.target} nor above it")
        if record.last >= self._index:
            raise SubjectInvalid(f"leaf {record.last} is not below this submission, at {self._index}")
        stolen_since = target.record.stolen_since
        if stolen_since is None or record.last < stolen_since:
            raise SubjectInvalid(f"no leaf of agency {record.target} up to {record.last} is doubtful")
        affirmed = self._affirmed.setdefault(record.target, [])
        if len(target.record.affirmed) + len(affirmed) == MAX_AFFIRMED:
            raise SubjectInvalid(
                f"agency {record.target} has {MAX_AFFIRMED} affirmed ranges, and no more are kept",
                fix="revoke what is not genuine, and affirm longer ranges",
            )
        # It counts from the next submission on: one change of the record, however many ranges.
        keys = tuple(one.number for one in self._submission.head.signatures)
        affirmed.append(Affirmation(record.first, record.last, self._index, record.agency, keys))

    # --- what they share ---

    def _subject(self, subject: int) -> Issue | Attest:
        """What a STATUS or an ATTEST speaks of. Raises SubjectInvalid."""
        if subject >= self._index:
            raise SubjectInvalid(f"leaf {subject} is not below this submission, at {self._index}")
        leaf = self._leaf(subject)
        if leaf[1] == LeafType.ISSUE:
            return Issue.decode(leaf)
        if leaf[1] == LeafType.ATTEST:
            return Attest.decode(leaf)
        raise SubjectInvalid(f"leaf {subject} is neither an ISSUE nor an ATTEST")

    def _is_heir(self, agency: int, first: int) -> bool:
        """Whether ``agency`` is ``first``, or is found by following successors from there."""
        heir: int | None = first
        while heir is not None:
            if heir == agency:
                return True
            heir = self.registry.agency(heir).record.successor.latest
        return False

    def _require_role(self, agency: int, role: str) -> None:
        if role not in self.registry.agency(agency).record.roles.latest:
            raise NotEntitled(f"agency {agency} does not have the role {role}")
