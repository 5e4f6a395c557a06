"""The outbox: what is cut off is finished with the same bytes, once; what has expired is looked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from ledger.errors import (
    ClaimedTimeOutsideWindow,
    DailyCapExceeded,
    ForeignRecord,
    SudurError,
    TooFewSignatures,
)
from ledger.hashing import leaf_hash
from ledger.leaves import NONE
from ledger.records import Answer as AnswerRecord
from ledger.records import Attest, Basis, Issue, Outcome, SendKind, Status, StatusChange
from ledger.records import Send as SendRecord
from ledger.seals import Seal
from ledger.signatures import Ed25519Signer
from ledger.signing_policy import DAY_MS, KindPolicy, SigningPolicy
from ledger.submissions import SubmissionLeaf, unpack
from ledger.trust import TrustedLedger
from tests.tools.registers import open_register
from tools.agency.outbox import CALL_SUBMISSIONS, Outbox, State
from tools.client import BulkAnswer, LedgerClient, Placed
from tools.errors import FileProblem, QueueFull, RegisterProblem, Unavailable, Usage
from tools.register.store import Register
from tools.signing import NumberedSigner, SignedSubmission

GENESIS = bytes(range(32))
LEDGER = TrustedLedger.founded(GENESIS, "test.example", (), "", True)
NOW_MS = 1_800_000_000_000
SIGNERS = [NumberedSigner(n, Ed25519Signer(bytes([n]) * 32)) for n in (1, 2)]


class Node(LedgerClient):
    """A node that keeps the contract, with a log of its own and a clock that tests set.

    ``lose``: how many calls are judged, and their answers lost. ``refuse``: an error for every new
    submission. A repeated submission gets its first answer within the window, and is refused outside.
    """

    def __init__(self) -> None:
        super().__init__("127.0.0.1:1")
        self.now_ms = NOW_MS
        self.log: list[bytes] = [b"\x01\x10genesis"]
        self.placed: dict[bytes, Placed] = {}
        self.lose = 0
        self.refuse: SudurError | None = None
        self.calls: list[list[SignedSubmission]] = []

    def checkpoint(self, size: int = 0, *, signed: bool = False) -> bytes:
        return b"test.example\n%d\nroot\n" % len(self.log)

    def submit_bulk(self, genesis: bytes, submissions: Sequence[SignedSubmission]) -> BulkAnswer:
        assert genesis == GENESIS
        assert 1 <= len(submissions) <= CALL_SUBMISSIONS
        self.calls.append(list(submissions))
        outcomes = tuple(self._judge(one) for one in submissions)
        self.seal()
        if self.lose:
            self.lose -= 1
            raise Unavailable("the answer is lost")
        return BulkAnswer(outcomes, b"")

    def _judge(self, one: SignedSubmission) -> Placed | SudurError:
        leaf = SubmissionLeaf.decode(one.leaf)
        if not self.now_ms - 7 * DAY_MS <= leaf.claimed_ms <= self.now_ms + 300_000:
            return ClaimedTimeOutsideWindow("too far from now")
        name = leaf.identity(GENESIS)
        if name not in self.placed:
            if self.refuse is not None:
                return self.refuse
            first = len(self.log) + 1
            self.placed[name] = Placed(first - 1, first, leaf.count, 1, 0, self.now_ms, False)
            self.log += [one.leaf, *unpack(one.records, most=256)]
        return self.placed[name]

    def seal(self) -> None:
        self.log.append(Seal(1, len(self.log), self.now_ms, NONE, 0, bytes(32), bytes(32), ()).encode())

    def lookup(self, agency: int, commitment: bytes) -> tuple[int, ...]:
        issue = {Issue(agency, 0, basis, commitment).encode() for basis in Basis}
        return tuple(index for index, leaf in enumerate(self.log) if leaf in issue)

    def entries(self, start: int, end: int = 0) -> Iterator[bytes]:
        yield from self.log[start:]


class Desk:
    """An agency's outbox that can be cut off and opened again. ``hours``: how far its clock has run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.node = Node()
        self.ms = NOW_MS
        self._open: list[Register] = []

    def __call__(self, signers: Sequence[NumberedSigner] = SIGNERS[:1]) -> Outbox:
        self.close()
        register = open_register(self.path)
        register.now_ms = lambda: self.ms
        self._open.append(register)
        return Outbox(register, LEDGER, 1, signers, self.node, officer="desk-1")

    def wait(self, days: int) -> None:
        self.ms += days * DAY_MS
        self.node.now_ms = self.ms

    def close(self) -> None:
        while self._open:
            self._open.pop().close()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path / "a")
    yield made
    made.close()
    made.node.close()


def issues(count: int, start: int = 0) -> list[bytes]:
    return [Issue(1, 0, Basis.ORIGINAL, leaf_hash(b"%d" % (start + n))).encode() for n in range(count)]


OTHERS: list[tuple[str, bytes]] = [
    ("status", StatusChange(1, 9, 9, Status.REVOKED, 0, NONE).encode()),
    ("attest", Attest(1, 9, 1, bytes(32)).encode()),
    ("send", SendRecord(1, 2, bytes(32), SendKind.REQUEST, 30, NONE, bytes(32)).encode()),
    ("answer", AnswerRecord(1, 9, Outcome.RECEIVED, bytes(32), bytes(32)).encode()),
]
KINDS: list[tuple[str, bytes]] = [("issue.original", issues(1)[0]), *OTHERS]


@pytest.mark.parametrize(("kind", "record"), KINDS)
def test_every_kind_of_record_is_placed(desk: Desk, kind: str, record: bytes) -> None:
    outbox = desk()
    work = outbox.put("letter", [record], {"for": "نور"})
    assert [one.number for one in outbox.open_works("letter")] == [work.number]
    (placed,) = outbox.finish(work).placed
    assert (placed.kind, placed.first, placed.block, placed.sealed_ms) == (kind, 2, 1, NOW_MS)
    assert desk.node.log[2] == record
    assert outbox.work(work.number).note == {"for": "نور"}
    outbox.close(work)
    assert outbox.open_works() == []
    assert [one.action for one in outbox.register.journal.entries()] == ["letter", "placed"]


def test_a_large_work_goes_in_few_calls(desk: Desk) -> None:
    outbox = desk()
    records = issues(256 * 65 + 3)
    told: list[int] = []
    settled = outbox.finish(outbox.put("issue", records, {}), told.append)
    assert [len(call) for call in desk.node.calls] == [64, 2]
    assert told == [256 * 64, 256 + 3]
    assert settled.records == len(records)
    assert [leaf for leaf in desk.node.log if leaf[1] == 1] == records


def test_submissions_end_where_the_kind_changes(desk: Desk) -> None:
    outbox = desk()
    archive = Issue(1, 0, Basis.ARCHIVE, bytes(32)).encode()
    work = outbox.put("mixed", [*issues(2), archive, OTHERS[0][1], *issues(1, 5)], {})
    kinds = [(one.kind, one.count) for one in outbox.submissions(work)]
    assert kinds == [("issue.original", 2), ("issue.archive", 1), ("status", 1), ("issue.original", 1)]


@pytest.mark.parametrize(("kind", "record"), KINDS)
@pytest.mark.parametrize("days", [0, 6, 30])
@pytest.mark.parametrize("reached", [True, False])
def test_a_lost_answer_is_made_good_and_nothing_logged_twice(
    desk: Desk, kind: str, record: bytes, days: int, reached: bool
) -> None:
    outbox = desk()
    work = outbox.put("letter", [record], {})
    if reached:
        desk.node.lose = 1
        with pytest.raises(Unavailable):
            outbox.finish()
    desk.wait(days)
    desk.node.seal()
    outbox = desk()  # another process
    (placed,) = outbox.finish().placed
    assert placed.first is not None
    assert desk.node.log[placed.first] == record
    assert desk.node.log.count(record) == 1
    assert outbox.submissions(work)[0].state is State.PLACED
    assert outbox.finish().records == 0


def test_what_was_signed_anew_and_lost_again_is_found(desk: Desk) -> None:
    record = OTHERS[1][1]
    desk().put("attest", [record], {})
    for _ in range(3):
        desk.wait(9)
        desk.node.lose = 1
        with pytest.raises(Unavailable):
            desk().finish()
    assert len(desk().finish().placed) == 1
    assert desk.node.log.count(record) == 1


def test_a_wrong_clock_is_told_of_and_not_signed_around(desk: Desk) -> None:
    outbox = desk()
    outbox.put("attest", [OTHERS[1][1]], {})
    desk.node.now_ms -= DAY_MS
    (refusal,) = outbox.finish().refused
    assert isinstance(refusal.error, ClaimedTimeOutsideWindow)


def test_what_others_signed_is_not_signed_anew_alone(desk: Desk) -> None:
    outbox = desk(SIGNERS)
    outbox.put("attest", [OTHERS[1][1]], {})
    desk.wait(9)
    (refusal,) = desk(SIGNERS[:1]).finish().refused
    assert "prepare it again" in str(refusal.error)


@pytest.mark.parametrize("step", range(6))
@pytest.mark.parametrize("persisted", [False, True])
def test_cut_off_at_any_step(desk: Desk, monkeypatch: pytest.MonkeyPatch, step: int, persisted: bool) -> None:
    """Every commit of the register fails once, with and without having been done."""
    steps = iter(range(100))
    commit = Register.run

    def run(self: Register, sql: str, values: Sequence[Any] = ()) -> int:
        if sql != "COMMIT" or next(steps) != step:
            return commit(self, sql, values)
        if persisted:
            commit(self, sql, values)
        raise FileProblem("the power went")

    records, put = issues(300), False
    monkeypatch.setattr(Register, "run", run)
    try:
        outbox = desk()
        outbox.put("issue", records, {})
        put = True
        outbox.finish()
    except FileProblem:
        pass
    monkeypatch.setattr(Register, "run", commit)
    outbox = desk()
    if not put and not outbox.open_works():
        outbox.put("issue", records, {})
    outbox.finish()
    assert [leaf for leaf in desk.node.log if leaf[1] == 1] == records
    (work,) = outbox.open_works()
    assert {one.state for one in outbox.submissions(work)} == {State.PLACED}
    outbox.register.check()


def test_a_refusal_is_kept_and_may_be_tried_again(desk: Desk) -> None:
    outbox = desk()
    desk.node.refuse = DailyCapExceeded("too many today")
    work = outbox.put("issue", issues(300), {})
    settled = outbox.finish()
    assert [refusal.submission.count for refusal in settled.refused] == [256, 44]
    assert outbox.submissions(work)[0].error == "DAILY_CAP: too many today"
    assert outbox.finish().records == 0
    desk.node.refuse = None
    desk.wait(1)
    assert outbox.again(work) == 300
    assert outbox.finish(work).records == 300
    assert outbox.again(work) == 0


def test_a_passing_failure_of_one_leaves_it_prepared(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    outbox = desk()
    work = outbox.put("issue", issues(300), {})
    whole: Callable[..., BulkAnswer] = desk.node.submit_bulk

    def partly(genesis: bytes, submissions: Sequence[SignedSubmission]) -> BulkAnswer:
        answer = whole(genesis, submissions)
        return BulkAnswer((answer.outcomes[0], QueueFull("wait")), b"")

    monkeypatch.setattr(desk.node, "submit_bulk", partly)
    with pytest.raises(QueueFull):
        outbox.finish()
    assert [one.state for one in outbox.submissions(work)] == [State.PLACED, State.PREPARED]


def test_keys_that_the_policy_needs_are_counted(desk: Desk) -> None:
    outbox = desk()
    policy = SigningPolicy({"issue.original": KindPolicy(((1, 1), (10, 2)))})
    assert outbox.keys_needed(policy, {"issue.original": 9}) == 1
    outbox.finish(outbox.put("issue", issues(5), {}))
    assert outbox.keys_needed(policy, {"issue.original": 4}) == 1
    assert outbox.keys_needed(policy, {"issue.original": 5, "status": 99}) == 2
    desk.wait(1)
    assert outbox.keys_needed(policy, {"issue.original": 5}) == 1


def test_bad_use_is_named(desk: Desk, tmp_path: Path) -> None:
    outbox = desk()
    with pytest.raises(ForeignRecord):
        outbox.put("issue", [Issue(2, 0, Basis.ORIGINAL, bytes(32)).encode()], {})
    with pytest.raises(RegisterProblem, match="work 9"):
        outbox.work(9)
    with pytest.raises(Usage, match="no key"):
        desk(()).put("issue", issues(1), {})
    assert desk().open_works() == []
    with open_register(tmp_path / "a") as register:
        with pytest.raises(FileProblem, match="another ledger or agency"):
            Outbox(register, LEDGER, 2)
        without = Outbox(register, LEDGER, 1, SIGNERS)
        work = without.put("issue", issues(1), {})
        with pytest.raises(Unavailable, match="--node"):
            without.finish(work)


def test_waiting_submissions_are_not_sent(desk: Desk) -> None:
    outbox = desk()
    desk.node.refuse = TooFewSignatures("2 keys must sign")
    work = outbox.put("issue", issues(2), {}, waiting=True)
    assert outbox.finish().records == 0
    assert outbox.submissions(work)[0].state is State.WAITING
    assert desk.node.calls == []
