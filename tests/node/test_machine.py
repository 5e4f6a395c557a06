"""A state machine over a real node: submit, prove, fail, crash, restart, in any order.

The model is a list of what was answered and a set of what was released; everything else is checked
against the log itself, at every proof, and by fsck at the end of each run.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from ledger.checkpoints import Checkpoint, log_key, open_checkpoint
from ledger.errors import DuplicateIssue, StatusFinal
from ledger.hashing import leaf_hash
from ledger.proofs import verify_consistency, verify_inclusion
from ledger.records import Issue, Status, StatusChange
from ledger.submissions import unpack
from node.checking.fsck import run_fsck
from node.errors import RetryableError
from node.node import LedgerNode, default_mark_path
from node.sequencer import Outcome, Placement
from tests.node.check import check_log
from tests.node.faults import Faults, How, Step
from tests.node.world import ORIGIN, World, submit

Submission = tuple[bytes, bytes]


class Node(RuleBasedStateMachine):
    """One node, and everything that it has promised."""

    @initialize()
    def begin(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="sudur-machine-"))
        self.lives = 0
        self.world, self.faults = World(), Faults()
        self.node: LedgerNode = self.world.furnished(self.data, self.faults.settings())
        self.answered: list[tuple[Submission, Placement]] = []
        self.unanswered: list[Submission] = []
        self.revoked: set[int] = set()
        self.notes: list[bytes] = [self.node.published.checkpoint]

    @property
    def data(self) -> Path:
        return self.directory / f"life-{self.lives}"

    def _send(self, submission: Submission) -> Outcome:
        (outcome,), published = submit(self.node.sequencer, submission)
        self.notes.append(published.checkpoint)
        if isinstance(outcome, Placement):
            assert published.size >= outcome.block_size
            self.answered.append((submission, outcome))
        return outcome

    def _checkpoint(self, note: bytes) -> Checkpoint:
        return open_checkpoint(note, ORIGIN, [log_key(ORIGIN, self.world.log.public_key)]).checkpoint

    # --- what agencies do ---

    @rule(count=st.sampled_from([1, 2, 7, 256]))
    def issue(self, count: int) -> None:
        outcome = self._send(self.world.issues(count))
        assert isinstance(outcome, Placement)
        assert not outcome.repeat
        assert outcome.record_count == count

    @precondition(lambda self: self.answered)
    @rule(choice=st.integers(0, 10_000))
    def send_again(self, choice: int) -> None:
        submission, first = self.answered[choice % len(self.answered)]
        (outcome,), _ = submit(self.node.sequencer, submission)
        assert isinstance(outcome, Placement)
        assert outcome.repeat
        assert (outcome.submission_index, outcome.block) == (first.submission_index, first.block)

    @precondition(lambda self: self.unanswered)
    @rule()
    def send_what_was_not_answered(self) -> None:
        """Lost or not, the same bytes get a place, and only one."""
        assert isinstance(self._send(self.unanswered.pop()), Placement)

    @precondition(lambda self: self.answered)
    @rule(choice=st.integers(0, 10_000))
    def issue_the_same_again(self, choice: int) -> None:
        (_, packed), placement = self.answered[choice % len(self.answered)]
        leaf = unpack(packed, most=256)[0]
        if leaf[1] != Issue.TYPE:
            return
        outcome = self._send(self.world.submission([leaf, *unpack(self.world.issues(1)[1], most=1)]))
        assert isinstance(outcome, DuplicateIssue)
        assert outcome.index == placement.first_record_index

    @precondition(lambda self: self.answered)
    @rule(choice=st.integers(0, 10_000))
    def revoke(self, choice: int) -> None:
        (_, packed), placement = self.answered[choice % len(self.answered)]
        subject = placement.first_record_index
        if packed[3] != Issue.TYPE:
            return
        previous = self.node.store.latest_status(subject)
        outcome = self._send(
            self.world.status(subject, subject if previous is None else previous, Status.REVOKED)
        )
        if subject in self.revoked:
            assert isinstance(outcome, StatusFinal)
        else:
            assert isinstance(outcome, Placement)
            self.revoked.add(subject)

    # --- what readers do ---

    @rule(old=st.integers(0, 10_000), new=st.integers(0, 10_000), index=st.integers(0, 10**6))
    def prove(self, old: int, new: int, index: int) -> None:
        first, second = sorted(
            (self._checkpoint(self.notes[n % len(self.notes)]) for n in (old, new)), key=lambda one: one.size
        )
        path = self.node.proofs.consistency(first.size, second.size)
        verify_consistency(first.size, first.root, second.size, second.root, path)
        at = index % second.size
        leaf = leaf_hash(self.node.store.leaf(at))
        verify_inclusion(leaf, at, second.size, self.node.proofs.inclusion(at, second.size), second.root)

    # --- what goes wrong ---

    @rule(step=st.sampled_from(Step), how=st.sampled_from(How), count=st.sampled_from([1, 3]))
    def fail(self, step: Step, how: How, count: int) -> None:
        submission = self.world.issues(count)
        self.faults.arm(step, how)
        outcome = self._send(submission)
        if not isinstance(outcome, Placement):
            assert isinstance(outcome, RetryableError)
            self.unanswered.append(submission)

    @rule()
    def restart(self) -> None:
        self.node.close()
        self.node = self.world.open(self.data, self.faults.settings())

    @rule()
    def crash(self) -> None:
        """What a killed process leaves behind, opened as the next life of the node."""
        before, after = self.data, self.directory / f"life-{self.lives + 1}"
        _copy_alive(before, after)
        shutil.copyfile(default_mark_path(before), default_mark_path(after))
        self.lives += 1
        self.node.close()
        self.node = self.world.open(self.data, self.faults.settings())

    def teardown(self) -> None:
        if not hasattr(self, "node"):
            return
        try:
            issues = [
                (submission, placement)
                for submission, placement in self.answered
                if submission[1][3] == Issue.TYPE
            ]
            check_log(self.world, self.node, self.notes, issues)
            for subject in self.revoked:
                latest = self.node.store.latest_status(subject)
                assert latest is not None
                assert StatusChange.decode(self.node.store.leaf(latest)).status is Status.REVOKED
            self.node.close()
            report = run_fsck(self.data)
            assert report.sound, report.findings
        finally:
            self.node.close()
            shutil.rmtree(self.directory)


def _copy_alive(source: Path, target: Path) -> None:
    """Copy a directory that RocksDB has open; begin anew when it has just deleted an old file."""
    for _ in range(100):
        try:
            shutil.copytree(source, target)
            return
        except shutil.Error:
            shutil.rmtree(target)
    raise AssertionError("RocksDB never stood still")


TestNode = pytest.mark.slow(Node.TestCase)
TestNode.settings = settings(
    max_examples=25,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
