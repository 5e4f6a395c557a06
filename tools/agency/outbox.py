"""The one way in which an agency's tool submits anything: saved, signed, sent, and finished once.

A *work* is what one command submits: records of one kind, with a sealed note by which that command
knows what to do once they are placed. The order is what makes it safe: the signed bytes are in the
register before they are sent, a placement is recorded before anything is made of it, and a work is
closed only when all of that is done. Whatever is cut off in between is finished by the next run
with the very same bytes, and the node answers a repetition with the first placement: nothing is lost,
and nothing is logged twice.

    outbox = Outbox(register, ledger, agency, signers, client)
    work = outbox.put("attest", [record.encode()], {"of": "degree.pdf"})
    settled = outbox.finish(work)       # or outbox.finish(): everything that any run left
    for one in settled.placed: ...      # one.first, one.count, one.block
    outbox.close(work)

A submission is WAITING while it needs other officers' signatures (tools/agency/submission_files.py), PREPARED
when it may be sent, then PLACED or REFUSED for good.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from itertools import groupby, islice
from typing import Any, Final

from ledger.canonical_json import Json, encode, parse
from ledger.errors import (
    ClaimedTimeOutsideWindow,
    EnvelopeMissing,
    ForeignRecord,
    SudurError,
    TooFewSignatures,
)
from ledger.leaves import LeafType, leaf_type
from ledger.records import MAX_RECORDS, Issue
from ledger.registry_records import AgencyRecord
from ledger.seals import Seal
from ledger.signing_policy import DAY_MS, ISSUE_KINDS, RECORD_KINDS, RecordKind, SigningPolicy, utc_day
from ledger.submissions import SubmissionLeaf, unpack
from ledger.trust import TrustedLedger
from tools.client import BulkAnswer, EnvelopeAccess, LedgerClient, Placed
from tools.errors import FileProblem, RegisterProblem, Unavailable, Usage
from tools.register.box import Box
from tools.register.store import RESTORED, Register
from tools.signing import NumberedSigner, SignedSubmission, signed_submission

DROPPED: Final = "DROPPED: given up before it was sent"
"""The error of a submission that :meth:`Outbox.drop` gave up."""

CALL_SUBMISSIONS: Final = 64
"""Most submissions that one call carries: 16,384 records."""

_MAX_NOTE: Final = 64 << 20
_BODY: Final = 50
_WINDOW_MS: Final = 8 * DAY_MS
"""A submission is never sealed later than this after its claimed time."""

_FRESH_MS: Final = 60_000
"""A claimed time no older than this is not mended by signing anew: then a clock is wrong."""


class State(IntEnum):
    """Where a submission stands. Those below PLACED are unsettled."""

    WAITING = 0
    PREPARED = 1
    PLACED = 2
    REFUSED = 3


@dataclass(frozen=True, slots=True)
class Work:
    """What one command submits. ``rows``: how much of its table is in the register, if it has one."""

    number: int
    kind: str
    made_ms: int
    closed: bool
    rows: int
    note: dict[str, Json]


@dataclass(frozen=True, slots=True)
class Submitted:
    """A submission in the register. ``document``: the number of its first document, if it has any.

    Record i of it is at index ``first`` + i; ``first``, ``block`` and ``sealed_ms`` are None until it is
    placed, and the last two also when it was found in the log by itself, without an answer.
    ``envelopes``: those that its records name, until it is placed.
    """

    number: int
    work: int
    state: State
    kind: RecordKind
    count: int
    document: int | None
    known_size: int
    leaf: bytes
    records: bytes
    first: int | None
    block: int | None
    sealed_ms: int | None
    error: str | None
    envelopes: tuple[bytes, ...] = ()

    @property
    def signed(self) -> SignedSubmission:
        return SignedSubmission(self.leaf, self.records)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A submission that was refused for good; nothing of it is in the ledger."""

    submission: Submitted
    error: SudurError


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of submissions."""

    placed: tuple[Submitted, ...] = ()
    refused: tuple[Refusal, ...] = ()

    @property
    def records(self) -> int:
        return sum(one.count for one in self.placed) + sum(one.submission.count for one in self.refused)

    def __add__(self, other: Settled) -> Settled:
        return Settled(self.placed + other.placed, self.refused + other.refused)


class Outbox:
    """Submits for one agency. Without ``client`` it only saves; without ``signers`` only sends.

    ``officer``: how the journal names who is at work, by key labels. For one thread, but for :meth:`send`.
    """

    def __init__(
        self,
        register: Register,
        ledger: TrustedLedger,
        agency: int,
        signers: Sequence[NumberedSigner] = (),
        client: LedgerClient | None = None,
        *,
        officer: str = "-",
    ) -> None:
        """Raises FileProblem for a register of another ledger or agency."""
        self.register = register
        self.ledger = ledger
        self.agency = agency
        self.signers = tuple(signers)
        self.officer = officer
        self._client = client
        self._size: int | None = None
        _bind(register, ledger.genesis, agency)

    # --- saving ---

    def put(
        self,
        kind: str,
        records: Sequence[bytes],
        note: dict[str, Json],
        *,
        waiting: bool = False,
        identity: bytes | None = None,
    ) -> Work:
        """Save a work of these record leaves, signed; on disk when it returns.

        ``identity``: a blind mark by which the same command finds it again (:meth:`work_by_identity`).
        ``waiting``: not to be sent before other officers have signed as well. Raises ForeignRecord,
        FormatError, RegisterProblem, Usage without a key.
        """
        with self.register.transaction():
            work = self.begin(kind, note, identity)
            self.add(work, records, waiting=waiting)
            self.register.journal.write(
                self.officer, kind, {"work": work.number, "records": len(records), "waiting": waiting}
            )
        return work

    def begin(self, kind: str, note: dict[str, Json], identity: bytes | None = None) -> Work:
        """A new work without submissions, within a transaction of the caller's."""
        made_ms = self.register.now_ms()
        found = self.register.row("SELECT coalesce(max(id), 0) + 1 FROM works")
        assert found is not None
        number: int = found[0]
        self.register.run(
            "INSERT INTO works (id, kind, made_ms, identity, sealed) VALUES (?, ?, ?, ?, ?)",
            (number, kind, made_ms, identity, self.register.box.seal("work", number, encode(note))),
        )
        return Work(number, kind, made_ms, False, 0, note)

    def add(
        self,
        work: Work,
        records: Sequence[bytes],
        *,
        document: int | None = None,
        waiting: bool = False,
        envelopes: Sequence[bytes] = (),
    ) -> None:
        """Add signed submissions to a work, within a transaction of the caller's.

        ``document``: the number of the first record's document; the others' follow. ``envelopes``: those
        that the records name, one each; they are put before the records are sent. Submissions end where
        the kind of record changes, since a policy counts by kind. About 1.5 µs a record, 20 µs a key and
        submission. Raises RegisterProblem for a register that may lack what the log has.
        """
        self._check_not_restored()
        state = State.WAITING if waiting else State.PREPARED
        size = self._known_size()
        rows: list[tuple[Any, ...]] = []
        done = 0
        for _, group in groupby(records, key=_alike):
            leaves = list(group)
            name = record_kind(leaves[0])
            for start in range(0, len(leaves), MAX_RECORDS):
                part = leaves[start : start + MAX_RECORDS]
                signed = self._signed(part)
                first = None if document is None else document + done
                leaf, packed = signed.leaf, signed.records
                rows.append(
                    (work.number, int(state), name, len(part), first, size, leaf, packed, self._mark(leaf))
                )
                done += len(part)
        self.register.run_many(
            "INSERT INTO submissions (work, state, kind, count, document, known_size, leaf, records, mark)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            rows,
        )
        if envelopes:
            self._add_envelopes(work, len(rows), envelopes)

    def _check_not_restored(self) -> None:
        """What was logged since the backup would be logged again, under new seeds: the log cannot tell."""
        if self.register.fact(RESTORED) is not None:
            raise RegisterProblem(
                "was restored from a backup, and may lack what was logged since",
                where=str(self.register.path),
                fix="run sudur agency reconcile until it has no alarm, then give the command again",
            )

    def _add_envelopes(self, work: Work, submissions: int, envelopes: Sequence[bytes]) -> None:
        left = iter(envelopes)
        for one in self.submissions(work)[-submissions:]:
            named = [(one.number, data) for data in islice(left, one.count)]
            self.register.run_many("INSERT INTO envelopes (submission, data) VALUES (?, ?)", named)

    def _signed(self, records: Sequence[bytes]) -> SignedSubmission:
        agency = self.agency.to_bytes(4, "big")
        if any(leaf[2:6] != agency for leaf in records):
            raise ForeignRecord(f"bears another agency than {self.agency}", where="record")
        if not self.signers:
            raise Usage("no key is at hand to sign", where="--signer", fix="name the key that signs")
        return signed_submission(
            self.agency, records, self.register.now_ms(), self.ledger.genesis, self.signers
        )

    def _known_size(self) -> int:
        """A size that the log has by now: where a search for something sent later may begin."""
        if self._size is None:
            self._size = 0 if self._client is None else _size(self._client.checkpoint(signed=True))
        return self._size

    # --- sending ---

    def finish(self, work: Work | None = None, advance: Callable[[int], None] = lambda _: None) -> Settled:
        """Send what is prepared, of one work or of all, until each submission is placed or refused.

        ``advance`` is told how many records more are settled. Raises Unavailable: then what is not settled
        stays prepared, and the next run goes on.
        """
        settled = Settled()
        while call := self.next_call(work):
            now = self.settle(call, self.send(call))
            advance(now.records)
            settled += now
        return settled

    def next_call(self, work: Work | None = None) -> list[Submitted]:
        """The oldest prepared submissions, as many as one call carries."""
        where, values = ("state = ?", [int(State.PREPARED)])
        if work is not None:
            where, values = f"{where} AND work = ?", [*values, work.number]
        return list(self._select(f"{where} ORDER BY id LIMIT {CALL_SUBMISSIONS}", values))

    def send(self, call: Sequence[Submitted]) -> BulkAnswer:
        """Send them, their envelopes first; nothing is recorded yet. May run on another thread.

        Raises Unavailable.
        """
        unput = {one.number: error for one in call if (error := self._put_envelopes(one)) is not None}
        answer = self._node.submit_bulk(self.ledger.genesis, [one.signed for one in call])
        outcomes = [
            unput.get(one.number, outcome) if isinstance(outcome, EnvelopeMissing) else outcome
            for one, outcome in zip(call, answer.outcomes, strict=True)
        ]
        return replace(answer, outcomes=tuple(outcomes))

    def _put_envelopes(self, one: Submitted) -> SudurError | None:
        """Why the node does not take an envelope, or None. The records are sent all the same: when an
        earlier run logged them, they get that answer again, and the envelope is no longer needed.
        """
        if not one.envelopes:
            return None
        if not self.signers:
            raise Usage("no key is at hand to put envelopes", where="--signer", fix="name a key")
        access = EnvelopeAccess(self.agency, self.signers[0])
        try:
            for data in one.envelopes:
                self._node.put_envelope(self.ledger.genesis, access, data)
        except Unavailable:
            raise
        except SudurError as error:
            return error
        return None

    def settle(self, call: Sequence[Submitted], answer: BulkAnswer) -> Settled:
        """Record what became of a call.

        What was refused because its time had passed, and is not in the log, is signed anew and stays
        prepared: it is saved before it is sent, as at first. Raises Unavailable for a submission whose
        outcome is unknown, after the others are recorded.
        """
        ends = [
            outcome if isinstance(outcome, Placed) else self._second_look(one, outcome)
            for one, outcome in zip(call, answer.outcomes, strict=True)
        ]
        placed: list[Submitted] = []
        refused: list[Refusal] = []
        unknown: Unavailable | None = None
        with self.register.transaction():
            for one, end in zip(call, ends, strict=True):
                if end is None:
                    self._sign_anew(one)
                elif isinstance(end, Unavailable):
                    unknown = end
                elif isinstance(end, SudurError):
                    refused.append(Refusal(self._refuse(one, end), end))
                else:
                    placed.append(self._place(one, end))
            self._note_settled(placed, refused)
        if unknown is not None:
            raise unknown
        return Settled(tuple(placed), tuple(refused))

    def _second_look(self, one: Submitted, error: SudurError) -> int | SudurError | None:
        """What a refusal means: its first record's index when it is in the log all the same, the refusal
        when it never will be, None when it only has to be signed anew.

        A refused submission may have been logged by an earlier run whose answer was lost longer ago than
        the node remembers submissions. An ISSUE is then found by its commitment, anything else by its own
        SUBMISSION leaf. What the node says here is checked when receipts are made.
        """
        if isinstance(error, Unavailable):
            return error
        record = unpack(one.records, most=MAX_RECORDS)[0]
        first = None
        if leaf_type(record) is LeafType.ISSUE:
            first = next(iter(self._node.lookup(self.agency, Issue.decode(record).commitment)), None)
        elif isinstance(error, ClaimedTimeOutsideWindow) or one.envelopes:
            first = self._logged(one)
        if first is not None:
            return first
        leaf = SubmissionLeaf.decode(one.leaf)
        is_old = leaf.claimed_ms < self.register.now_ms() - _FRESH_MS
        ours = {key.number for key in self.signers}
        if isinstance(error, ClaimedTimeOutsideWindow) and is_old:
            if {key.number for key in leaf.signatures} <= ours:
                return None
            return ClaimedTimeOutsideWindow(
                error.what, where=error.where, fix="prepare it again: other officers have to sign once more"
            )
        return error

    def _logged(self, one: Submitted) -> int | None:
        """The index of its first record, if a submission with this body is in the log.

        Reads the log from before it was first sent until no block can hold it any more.
        """
        claimed_ms = SubmissionLeaf.decode(one.leaf).claimed_ms
        for index, leaf in enumerate(self._node.entries(one.known_size), one.known_size):
            kind = leaf_type(leaf)
            if kind is LeafType.SUBMISSION and leaf[:_BODY] == one.leaf[:_BODY]:
                return index + 1
            if kind is LeafType.SEAL and Seal.decode(leaf).time_ms > claimed_ms + _WINDOW_MS:
                break
        return None

    def _sign_anew(self, one: Submitted, state: State = State.PREPARED) -> None:
        """With its claimed time set to now, within a transaction of the caller's."""
        leaf = self._signed(unpack(one.records, most=MAX_RECORDS)).leaf
        self._size = None
        self.register.run(
            "UPDATE submissions SET leaf = ?, mark = ?, known_size = ?, state = ?, error = NULL WHERE id = ?",
            (leaf, self._mark(leaf), self._known_size(), int(state), one.number),
        )

    def _mark(self, leaf: bytes) -> bytes:
        return submission_mark(self.register.box, leaf)

    @property
    def _node(self) -> LedgerClient:
        if self._client is None:
            raise Unavailable("no node was named", fix="give --node")
        return self._client

    # --- recording ---

    def _place(self, one: Submitted, at: Placed | int) -> Submitted:
        first, block, sealed_ms = (
            (at, None, None) if isinstance(at, int) else (at.first_record_index, at.block, at.time_ms)
        )
        self.register.run(
            "UPDATE submissions SET state = ?, first = ?, block = ?, sealed_ms = ?, error = NULL"
            " WHERE id = ?",
            (int(State.PLACED), first, block, sealed_ms, one.number),
        )
        self.register.run("DELETE FROM envelopes WHERE submission = ?", (one.number,))
        return replace(one, state=State.PLACED, first=first, block=block, sealed_ms=sealed_ms, error=None)

    def _refuse(self, one: Submitted, error: SudurError) -> Submitted:
        why = f"{error.code}: {error}"
        self.register.run(
            "UPDATE submissions SET state = ?, error = ? WHERE id = ?",
            (int(State.REFUSED), why, one.number),
        )
        return replace(one, state=State.REFUSED, error=why)

    def _note_settled(self, placed: Sequence[Submitted], refused: Sequence[Refusal]) -> None:
        if placed:
            detail: dict[str, Json] = {
                "works": sorted({one.work for one in placed}),
                "records": sum(one.count for one in placed),
                "first": str(placed[0].first),
            }
            self.register.journal.write(self.officer, "placed", detail)
        if refused:
            detail = {
                "works": sorted({one.submission.work for one in refused}),
                "records": sum(one.submission.count for one in refused),
                "why": refused[0].submission.error,
            }
            self.register.journal.write(self.officer, "refused", detail)

    # --- works ---

    def open_works(self, kind: str | None = None) -> list[Work]:
        """The works that are not closed, the oldest first. Raises RegisterProblem."""
        where, values = ("closed = 0", []) if kind is None else ("closed = 0 AND kind = ?", [kind])
        return [
            self._work(row) for row in list(self.register.rows(f"{_WORK} WHERE {where} ORDER BY id", values))
        ]

    def work(self, number: int) -> Work:
        """Raises RegisterProblem when there is none."""
        found = self.register.row(f"{_WORK} WHERE id = ?", (number,))
        if found is None:
            raise RegisterProblem(
                "is not in the register", where=f"work {number}", fix="it is sent from where it was prepared"
            )
        return self._work(found)

    def work_by_identity(self, identity: bytes) -> Work | None:
        """The work that was begun under this mark."""
        found = self.register.row(f"{_WORK} WHERE identity = ?", (identity,))
        return None if found is None else self._work(found)

    def submissions(self, work: Work) -> list[Submitted]:
        """All submissions of a work, in order."""
        return list(self._select("work = ? ORDER BY id", [work.number]))

    def close(self, work: Work) -> None:
        """Nothing is left to do for this work: it is not among the open ones any more."""
        self.register.run("UPDATE works SET closed = 1 WHERE id = ?", (work.number,))

    def forget_if_empty(self, work: Work) -> None:
        """Take a work back of which nothing was saved, since it was refused before its first submission."""
        self.register.run(
            "DELETE FROM works WHERE id = ? AND NOT EXISTS (SELECT 1 FROM submissions WHERE work = works.id)",
            (work.number,),
        )

    def drop(self, work: Work) -> None:
        """Give up a work of which everything still waits for signatures: it will not be sent.

        Raises RegisterProblem when some of it may have been sent.
        """
        states = {one.state for one in self.submissions(work)}
        if states != {State.WAITING}:
            raise RegisterProblem(
                "does not wait for signatures, so it may be in the ledger", where=f"work {work.number}"
            )
        with self.register.transaction():
            self.register.run(
                "UPDATE submissions SET state = ?, error = ? WHERE work = ?",
                (int(State.REFUSED), DROPPED, work.number),
            )
            self.close(work)
            self.register.journal.write(self.officer, "drop", {"work": work.number})

    def again(self, work: Work, *, waiting: bool = False) -> int:
        """Sign the refused submissions of a work once more; how many records that concerns.

        For a refusal whose ground has gone: a cap of yesterday, a signature too few.
        """
        done = 0
        with self.register.transaction():
            for one in list(self._select("work = ? AND state = ?", [work.number, int(State.REFUSED)])):
                self._sign_anew(one, State.WAITING if waiting else State.PREPARED)
                done += one.count
            if done:
                self.register.journal.write(self.officer, "again", {"work": work.number, "records": done})
        return done

    def set_leaf(self, one: Submitted, leaf: bytes | None, state: State) -> None:
        """With other signatures, or another state, within a transaction of the caller's."""
        self.register.run(
            "UPDATE submissions SET leaf = coalesce(?, leaf), state = ?, error = NULL WHERE id = ?",
            (leaf, int(state), one.number),
        )

    def keys_needed(self, policy: SigningPolicy, counts: dict[RecordKind, int]) -> int:
        """How many keys must sign so many records more of each kind today, as far as this register knows."""
        day_ms = utc_day(self.register.now_ms()) * DAY_MS
        today = dict(
            self.register.rows(
                "SELECT kind, sum(count) FROM submissions WHERE sealed_ms >= ? OR state = ? GROUP BY kind",
                (day_ms, int(State.PREPARED)),
            )
        )
        return max(
            (policy.of(kind).keys_needed(today.get(kind, 0) + count) for kind, count in counts.items()),
            default=1,
        )

    def check_keys(self, counts: dict[RecordKind, int], policy: SigningPolicy | None = None) -> None:
        """Refuse, before anything is saved, what the policy would refuse of so many records more today.

        ``policy``: the agency's, where it is known; else the node is asked. Raises TooFewSignatures.
        """
        if policy is None:
            policy = AgencyRecord.decode(self._node.record(f"agency/{self.agency}").record).policy.latest
        needed, signers = self.keys_needed(policy, counts), len(self.signers)
        if signers < needed:
            kinds = ", ".join(f"{count} {kind}" for kind, count in counts.items())
            raise TooFewSignatures(
                f"{needed} keys must sign today ({kinds} more), {signers} did",
                where="--signer",
                fix="name the other keys too, or take the work to the other officer: --prepare FILE",
            )

    def _work(self, row: tuple[Any, ...]) -> Work:
        number, kind, made_ms, closed, rows, sealed = row
        note = parse(self.register.box.open("work", number, sealed), limit=_MAX_NOTE, where="note")
        return Work(number, kind, made_ms, bool(closed), rows, note)

    def _select(self, where: str, values: Sequence[Any]) -> Iterator[Submitted]:
        for number, work, state, *more in self.register.rows(
            "SELECT id, work, state, kind, count, document, known_size, leaf, records, first, block,"
            f" sealed_ms, error FROM submissions WHERE {where}",
            values,
        ):
            if more[0] in _NAMING:
                rows = self.register.rows(
                    "SELECT data FROM envelopes WHERE submission = ? ORDER BY id", (number,)
                )
                more.append(tuple(data for (data,) in rows))
            yield Submitted(number, work, State(state), *more)


_NAMING: Final = (RECORD_KINDS[LeafType.SEND], RECORD_KINDS[LeafType.ANSWER])
_WORK: Final = "SELECT id, kind, made_ms, closed, rows, sealed FROM works"


def submission_mark(box: Box, leaf: bytes) -> bytes:
    """What a row of the register bears of its SUBMISSION: whoever lacks the register's key cannot make it."""
    return box.mark("submission", leaf[:_BODY])


def _alike(leaf: bytes) -> bytes:
    """Equal for records that a policy counts as one kind: the type, and an ISSUE's basis."""
    return leaf[1:2] + leaf[8:9] if leaf[1] == LeafType.ISSUE else leaf[1:2]


def record_kind(leaf: bytes) -> RecordKind:
    """What a signing policy counts a record as. Raises LeafFormatError."""
    kind = RECORD_KINDS.get(leaf_type(leaf))
    return ISSUE_KINDS[Issue.decode(leaf).basis] if kind is None else kind


def _bind(register: Register, genesis: bytes, agency: int) -> None:
    """The first use says which ledger and agency a register is of; any other is refused."""
    place = genesis + agency.to_bytes(4, "big")
    known = register.fact("ledger")
    if known is None:
        register.put_fact("ledger", place)
    elif known != place:
        raise FileProblem(
            "is the register of another ledger or agency",
            where=str(register.path),
            fix="use its own directory",
        )


def _size(checkpoint: bytes) -> int:
    """The size that a checkpoint names; unproven, which is enough to begin a search at."""
    return int(checkpoint.split(b"\n", 2)[1])
