"""The sequencer: order, repeats, refusals, queue, clock, disk, errors; answers come once, and are true."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ledger.changes import AgencyRenamed, RulesRaised, Subject, TypeDefined
from ledger.errors import (
    DuplicateIssue,
    LeafFormatError,
    RegistryConflict,
    RulesVersionUnknown,
    SignatureInvalid,
    SudurError,
    UnknownAgency,
    WrongRecordsRoot,
)
from ledger.leaves import NONE
from ledger.rules import begin
from ledger.rules_v1 import Draft
from ledger.seals import Seal
from ledger.submissions import open_submission, pack, unpack
from node.errors import (
    CallerGone,
    ClockUnsound,
    DiskFull,
    NodeError,
    NotLeading,
    QueueFull,
    ReadOnly,
    RetryableError,
    Stopping,
)
from node.journal import candidate_block
from node.node import LedgerNode, NodeSettings
from node.publish import Published
from node.sequencer import Outcome, Placement, SequencerSettings
from tests.node.check import check_log
from tests.node.faults import Faults, How, Step
from tests.node.world import Waiter, World, change, placed, small_settings, submit


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def node(world: World, tmp_path: Path) -> Iterator[LedgerNode]:
    node = world.furnished(tmp_path / "data")
    yield node
    node.close()


class Gate:
    """Holds the sequencer within a publication, so that what comes meanwhile queues up."""

    def __init__(self, node: LedgerNode) -> None:
        self._open = threading.Event()
        self._open.set()
        self.reached = threading.Event()
        node.publications.on_publish(self._pass)

    def _pass(self, published: Published) -> None:
        self.reached.set()
        assert self._open.wait(30)

    def shut(self) -> None:
        self.reached.clear()
        self._open.clear()

    def open(self) -> None:
        self._open.set()


def refused(outcome: Outcome, kind: type[SudurError]) -> SudurError:
    assert isinstance(outcome, kind), outcome
    return outcome


def decided_elsewhere(node: LedgerNode, submission: tuple[bytes, bytes]) -> None:
    """Have the store hold one more block, as when the next leader has one applied here."""
    at = node.store.load()
    draft = begin(at.state, node.store, at.state.time_ms + 1)
    draft.add_submission(open_submission(*submission))
    transition = draft.seal()
    node.store.apply(candidate_block(at.head, at.tree, transition, pack(transition.leaves)))


# --- answers -----------------------------------------------------------------------------------


def test_a_submission_is_placed_and_sealed(world: World, node: LedgerNode) -> None:
    size = node.published.size
    submission = world.issues(3)
    (outcome,), published = submit(node.sequencer, submission)
    placement = placed(outcome)
    assert placement == Placement(size, size + 1, 3, 4, size + 5, placement.time_ms, False)
    assert published.size == placement.block_size
    seal = Seal.decode(node.store.leaf(published.size - 1))
    assert (seal.block, seal.time_ms, seal.documents) == (4, placement.time_ms, 3)
    check_log(world, node, [published.checkpoint], [(submission, placement)])


def test_nothing_is_said_of_a_block_that_another_leader_decides_meanwhile(
    world: World, node: LedgerNode
) -> None:
    """It is applied here, and perhaps nowhere else: no answer may rest on it."""
    submission = world.issues()
    decided_elsewhere(node, submission)
    (outcome,), published = submit(node.sequencer, submission)
    refused(outcome, NotLeading)
    assert published.size < node.store.load().head.size
    assert node.sequencer.over


def test_what_waits_while_a_block_commits_makes_the_next(world: World, node: LedgerNode) -> None:
    gate = Gate(node)
    gate.shut()
    first = Waiter()
    node.sequencer.submit([world.issues()], first)
    assert gate.reached.wait(30)
    waiters = [Waiter() for _ in range(20)]
    for waiter in waiters:
        node.sequencer.submit([world.issues()], waiter)
    assert node.sequencer.queued[0] == 20
    wakes: list[int] = []
    node.sequencer.on_answers(lambda: wakes.append(sum(waiter.calls for waiter in waiters)))
    gate.open()
    blocks = {placed(waiter.wait()[0][0]).block for waiter in waiters}
    assert len(blocks) == 1
    assert placed(first.wait()[0][0]).block == min(blocks) - 1
    assert node.sequencer.queued == (0, 0)
    node.close()
    assert wakes[-1] == 20
    assert wakes.count(20) == 1, "one wake-up for the whole block"


def test_a_repeated_submission_gets_its_first_answer(world: World, node: LedgerNode) -> None:
    submission, other = world.issues(2), world.issues(1)
    outcomes, _ = submit(node.sequencer, submission, other, submission)
    first, _, twin = map(placed, outcomes)
    assert (first.repeat, twin.repeat) == (False, True)
    assert twin.submission_index == first.submission_index
    size = node.published.size
    (outcome,), published = submit(node.sequencer, submission)
    again = placed(outcome)
    assert again.repeat
    assert (again.submission_index, again.block, again.block_size, again.time_ms, again.record_count) == (
        first.submission_index,
        first.block,
        first.block_size,
        first.time_ms,
        2,
    )
    assert published.size == size, "a repeat alone makes no block"
    (one, two), _ = submit(node.sequencer, submission, world.issues())
    assert placed(one).repeat
    assert placed(two).block == again.block + 1


def test_refusals_are_each_their_own(world: World, node: LedgerNode) -> None:
    good, late = world.issues(2), world.issues(1)
    leaf, packed = world.issues(2)
    broken = bytearray(world.issues(1)[0])
    broken[-1] ^= 1
    records = world.issues(1)
    doubled = world.submission([good[1][2:43]])
    outcomes, published = submit(
        node.sequencer,
        good,
        (leaf, packed[:-1]),
        (b"\x01\x20", b""),
        (leaf, bytes(86)),
        (bytes(broken), records[1]),
        doubled,
        late,
    )
    assert placed(outcomes[0]).block == placed(outcomes[6]).block
    refused(outcomes[1], LeafFormatError)
    refused(outcomes[2], LeafFormatError)
    refused(outcomes[3], LeafFormatError)
    refused(outcomes[4], WrongRecordsRoot)
    error = refused(outcomes[5], DuplicateIssue)
    assert error.details() == {"index": str(placed(outcomes[0]).first_record_index)}
    pair = world.issues(1)
    forged = bytearray(pair[0])
    forged[-1] ^= 1
    refused(submit(node.sequencer, (bytes(forged), pair[1]))[0][0], SignatureInvalid)
    refused(submit(node.sequencer, doubled)[0][0], DuplicateIssue)
    check_log(world, node, [published.checkpoint], [(good, placed(outcomes[0])), (late, placed(outcomes[6]))])


def test_only_refusals_make_no_block(world: World, node: LedgerNode) -> None:
    size = node.published.size
    stranger = world.submission([world.issues(1)[1][2:43]], agency=1)
    (outcome,), published = submit(node.sequencer, (stranger[0][:-1], stranger[1]))
    assert isinstance(outcome, SudurError)
    assert published.size == size


def test_registry_changes(world: World, node: LedgerNode) -> None:
    refused(submit(node.sequencer, world.issues(1, agency=2))[0][0], UnknownAgency)
    world.enrol(node, 2)
    placement = placed(submit(node.sequencer, world.issues(1, agency=2))[0][0])
    assert placement.record_count == 1
    state = node.published.state
    body = TypeDefined({"en": "Another"}, ())
    leaf = world.change("type/2", NONE, body)
    (made,), _ = change(node.sequencer, leaf)
    assert placed(made).record_count == 0
    assert node.store.leaf(placed(made).submission_index) == leaf
    refused(change(node.sequencer, leaf)[0][0], RegistryConflict)
    refused(change(node.sequencer, leaf[:-1])[0][0], LeafFormatError)
    assert len(node.published.state.registry.types) == len(state.registry.types) + 1


def test_a_call_may_span_blocks(world: World, tmp_path: Path) -> None:
    node = world.furnished(tmp_path / "data", small_settings(block_leaves=512))
    submissions = [world.issues(256) for _ in range(9)]
    outcomes, published = submit(node.sequencer, *submissions)
    placements = [placed(one) for one in outcomes]
    assert len({one.block for one in placements}) == 5
    assert max(one.block_size for one in placements) == published.size
    check_log(world, node, [published.checkpoint], zip(submissions, placements, strict=True))
    node.close()


def test_many_threads(world: World, node: LedgerNode) -> None:
    released: list[bytes] = []
    node.publications.on_publish(lambda published: released.append(published.checkpoint))
    work = [[world.issues(1 + n % 3) for n in range(12)] for _ in range(6)]
    answered: list[tuple[tuple[bytes, bytes], Placement]] = []
    stop = threading.Event()
    faults: list[BaseException] = []

    def write(mine: list[tuple[bytes, bytes]]) -> None:
        for submission in mine:
            (outcome,), published = submit(node.sequencer, submission)
            assert placed(outcome).block_size <= published.size
            answered.append((submission, placed(outcome)))

    def read() -> None:
        try:
            while not stop.is_set():
                published = node.published
                assert node.store.tree_at(published.size).root() == published.head.root
                assert node.store.checkpoint(published.size) == published.checkpoint
                assert len(node.store.leaves(0, published.size)) == published.size
                assert node.store.block_of(published.size - 1).root == published.head.root
                node.proofs.inclusion(published.size - 1, published.size)
        except BaseException as error:  # handed to the test's own thread
            faults.append(error)

    reader = threading.Thread(target=read)
    writers = [threading.Thread(target=write, args=(mine,)) for mine in work]
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join(60)
    stop.set()
    reader.join(60)
    assert not faults
    assert len(answered) == 72
    check_log(world, node, released, answered)


# --- limits ------------------------------------------------------------------------------------


def test_a_full_queue_refuses_at_once(world: World, tmp_path: Path) -> None:
    node = world.furnished(tmp_path / "data", small_settings(queue_items=5, queue_bytes=10_000))
    gate = Gate(node)
    gate.shut()
    first = Waiter()
    node.sequencer.submit([world.issues()], first)
    assert gate.reached.wait(30)
    waiters = [Waiter() for _ in range(5)]
    for waiter in waiters:
        node.sequencer.submit([world.issues()], waiter)
    never = Waiter()
    with pytest.raises(QueueFull) as caught:
        node.sequencer.submit([world.issues()], never)
    assert caught.value.retry_ms > 0
    gate.open()
    for waiter in (first, *waiters):
        placed(waiter.wait()[0][0])
    # Alone, a call larger than the queue is still taken.
    outcomes, _ = submit(node.sequencer, *[world.issues(200) for _ in range(6)])
    assert len([placed(one) for one in outcomes]) == 6
    assert never.calls == 0
    with pytest.raises(NodeError):
        node.sequencer.submit([], never)
    node.close()


def test_what_nobody_waits_for_is_dropped_while_it_waits(world: World, node: LedgerNode) -> None:
    gate = Gate(node)
    gate.shut()
    first = Waiter()
    node.sequencer.submit([world.issues()], first)
    assert gate.reached.wait(30)
    given_up, late, change_, kept = Waiter(), Waiter(), Waiter(), Waiter()
    node.sequencer.submit([world.issues(), world.issues()], given_up)()
    keep = world.issues()
    node.sequencer.submit([keep], kept)
    node.sequencer.change(b"not even looked at", change_)()
    taken = node.sequencer.submit([world.issues()], late)
    gate.open()
    for waiter in (given_up, change_):
        assert all(isinstance(one, CallerGone) for one in waiter.wait()[0])
    assert placed(kept.wait()[0][0]).submission_index == placed(first.wait()[0][0]).block_size
    assert placed(late.wait()[0][0]).record_count == 1
    taken()  # too late: it is in the log
    assert node.sequencer.queued == (0, 0)
    assert placed(submit(node.sequencer, keep)[0][0]).repeat


def test_stopping_answers_what_waits(world: World, tmp_path: Path) -> None:
    node = world.furnished(tmp_path / "data")
    gate = Gate(node)
    gate.shut()
    first, second = Waiter(), Waiter()
    node.sequencer.submit([world.issues()], first)
    assert gate.reached.wait(30)
    node.sequencer.submit([world.issues()], second)
    closer = threading.Thread(target=node.close)
    closer.start()
    late = Waiter()
    while True:  # until the closing has reached the sequencer
        try:
            node.sequencer.submit([world.issues()], late)
        except Stopping:
            break
    gate.open()
    closer.join(30)
    assert all(isinstance(outcome, Stopping) for outcome in late.outcomes)
    placed(first.wait()[0][0])
    refused(second.wait()[0][0], Stopping)
    assert (first.calls, second.calls) == (1, 1)
    node.close()


def test_settings_are_checked() -> None:
    with pytest.raises(NodeError):
        SequencerSettings(block_leaves=100)
    with pytest.raises(NodeError):
        SequencerSettings(block_leaves=65_537)


# --- the clock ---------------------------------------------------------------------------------


def test_an_unsound_clock_stops_sealing_until_it_agrees(world: World, node: LedgerNode) -> None:
    world.clock.unsound = True
    size = node.published.size
    refused(submit(node.sequencer, world.issues())[0][0], ClockUnsound)
    assert isinstance(node.sequencer.fault, ClockUnsound)
    assert node.published.size == size
    world.clock.unsound = False
    placed(submit(node.sequencer, world.issues())[0][0])
    assert node.sequencer.fault is None


def test_a_clock_that_stands_still_or_goes_back(world: World, node: LedgerNode) -> None:
    def seal() -> int:
        return placed(submit(node.sequencer, world.issues())[0][0]).time_ms

    times = [seal()]
    world.clock.step_ms = 0
    times += [seal() for _ in range(3)]
    world.clock.ms -= 240_000
    times += [seal() for _ in range(3)]
    assert times == list(range(times[0], times[0] + 7))


def test_a_clock_far_behind_the_ledger_blames_itself(world: World, node: LedgerNode) -> None:
    """Not the officer, whose clock is right and whose claimed time would look like the future."""
    placed(submit(node.sequencer, world.issues())[0][0])
    submission = world.issues()
    right = world.clock.ms
    world.clock.ms -= 3_600_000
    error = refused(submit(node.sequencer, submission)[0][0], ClockUnsound)
    assert "behind the ledger" in str(error)
    world.clock.ms = right
    placed(submit(node.sequencer, submission)[0][0])


def test_the_first_seal_after_a_start_is_not_the_clocks_word_alone(tmp_path: Path) -> None:
    """A registry change claims no time: a wrong clock at boot must not push the ledger's years ahead."""
    world = World()
    world.furnished(tmp_path / "data").close()
    right = world.clock.ms
    world.clock.ms += 70 * 365 * 86_400_000
    node = world.open(tmp_path / "data")
    last = node.committer.snapshot.state.registry.changed(Subject("agency", 1))
    leaf = world.change("agency/1", last, AgencyRenamed({"en": "Renamed"}))
    error = refused(change(node.sequencer, leaf)[0][0], ClockUnsound)
    assert "--clock-is-right" in str(error)
    size = node.published.size
    world.clock.ms = right + 8 * 86_400_000
    refused(change(node.sequencer, leaf)[0][0], ClockUnsound)
    placed(submit(node.sequencer, world.issues())[0][0])
    assert placed(change(node.sequencer, leaf)[0][0]).submission_index > size
    node.close()


# --- refusals that rest on the block in work -----------------------------------------------------


@pytest.mark.parametrize("how", list(How))
@pytest.mark.parametrize("step", [Step.WRITE_BLOCK, Step.SYNC_BLOCK])
def test_a_refusal_by_what_was_not_committed_is_not_given(tmp_path: Path, step: Step, how: How) -> None:
    """ "Issued before, at index 9" must be true: an officer who believes it does not issue again."""
    world, faults = World(), Faults()
    node = world.furnished(tmp_path / "data", faults.settings())
    record = unpack(world.issues()[1], most=1)
    first, second = world.submission(record), world.submission([*record, *unpack(world.issues()[1], most=1)])
    faults.arm(step, how)
    (one, other), _ = submit(node.sequencer, first, second)
    if isinstance(other, DuplicateIssue):
        assert node.store.leaf(other.index) == record[0]
        assert isinstance(one, Placement)
    else:
        assert isinstance(other, RetryableError)
    if how is How.LOST:
        assert isinstance(other, RetryableError)
    node.close()


def test_a_flood_of_what_is_refused_holds_nobody_up(world: World, node: LedgerNode) -> None:
    """Refusals add no leaves: a block must end all the same, while more of them keep coming."""
    leaf, packed = world.issues()
    forged = leaf[:-1] + bytes((leaf[-1] ^ 1,))
    stop = threading.Event()
    refusals: list[Outcome] = []

    def again(outcomes: list[Outcome], _: Published) -> None:
        refusals.extend(outcomes)
        if not stop.is_set():
            with contextlib.suppress(Stopping, QueueFull):
                node.sequencer.submit([(forged, packed)] * 32, again)

    for _ in range(32):
        node.sequencer.submit([(forged, packed)] * 32, again)
    try:
        for _ in range(3):
            placed(submit(node.sequencer, world.issues())[0][0])
    finally:
        stop.set()
    assert refusals
    assert all(isinstance(one, SignatureInvalid) for one in refusals)


def test_rules_that_this_software_lacks_are_not_agreed_to(world: World, node: LedgerNode) -> None:
    last = node.committer.snapshot.state.registry.changed(Subject("ledger"))
    leaf = world.change("ledger", last, RulesRaised(2, 1_000))
    refused(change(node.sequencer, leaf)[0][0], RulesVersionUnknown)


def test_a_deleted_database_is_noticed_before_the_next_signature(world: World, node: LedgerNode) -> None:
    shutil.rmtree(node.store.path)
    error = refused(submit(node.sequencer, world.issues())[0][0], ReadOnly)
    assert node.published.size == node.committer.published.size
    assert str(node.store.path.parent) in str(error)


# --- the disk ----------------------------------------------------------------------------------


def test_a_full_disk_refuses_and_recovers_by_itself(world: World, tmp_path: Path) -> None:
    room = [1 << 30]
    settings = NodeSettings(
        sequencer=SequencerSettings(disk_floor=64 << 20, retry_s=0.01), free=lambda _: room[0]
    )
    node = world.furnished(tmp_path / "data", settings)
    submission = world.issues()
    room[0] = 63 << 20
    error = refused(submit(node.sequencer, submission)[0][0], DiskFull)
    assert "63 MiB are free" in str(error)
    size = node.published.size
    assert len(node.store.leaves(0, size)) == size, "reads go on"
    room[0] = 64 << 20
    placed(submit(node.sequencer, submission)[0][0])
    room[0] = 0
    refused(submit(node.sequencer, world.issues())[0][0], DiskFull)
    room[0] = 1 << 30
    event = threading.Event()
    while node.sequencer.fault is not None:
        event.wait(0.01)
    node.close()


def test_a_disk_that_really_fills_up(world: World, tmp_path: Path) -> None:
    place = tmp_path / "small"
    place.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system takes root")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a tmpfs here: {mounted.stderr.decode().strip()}")
    try:
        # No floor: RocksDB itself runs into the end of the disk.
        node = world.furnished(place / "data")
        answered = []
        outcome: Outcome
        while True:
            submission = world.issues(256)
            (outcome,), _ = submit(node.sequencer, submission)
            if not isinstance(outcome, Placement):
                break
            answered.append((submission, outcome))
        assert isinstance(outcome, RetryableError)
        subprocess.run(["mount", "-o", "remount,size=64m", str(place)], check=True)
        last = submission
        while not isinstance(outcome, Placement):
            assert isinstance(outcome, RetryableError)
            (outcome,), _ = submit(node.sequencer, last)
        answered.append((last, outcome))
        check_log(world, node, [node.published.checkpoint], answered)
        node.close()
        node = world.open(place / "data")
        check_log(world, node, [node.published.checkpoint], answered)
        node.close()
    finally:
        subprocess.run(["umount", str(place)], check=True)


# --- failures ----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", How)
@pytest.mark.parametrize("step", Step)
def test_a_failed_write_is_resolved_from_the_log(world: World, tmp_path: Path, step: Step, how: How) -> None:
    faults = Faults()
    node = world.furnished(tmp_path / "data", faults.settings())
    released: list[bytes] = []
    node.publications.on_publish(lambda published: released.append(published.checkpoint))
    submissions = [world.issues(n) for n in (1, 40)]
    faults.arm(step, how)
    outcomes, published = submit(node.sequencer, *submissions)
    assert faults.struck == 1
    lost = how is How.LOST and step in (Step.WRITE_BLOCK, Step.SYNC_BLOCK)
    if lost:
        for outcome in outcomes:
            refused(outcome, RetryableError)
        outcomes, published = submit(node.sequencer, *submissions)
    answered = [(one, placed(outcome)) for one, outcome in zip(submissions, outcomes, strict=True)]
    assert all(not one.repeat and one.block_size <= published.size for _, one in answered)
    again, _ = submit(node.sequencer, *submissions)
    assert all(placed(outcome).repeat for outcome in again)
    check_log(world, node, released, answered)
    node.close()
    node = world.open(tmp_path / "data")
    check_log(world, node, released, answered)
    node.close()


def test_a_store_that_cannot_be_reopened_is_tried_again(world: World, tmp_path: Path) -> None:
    faults = Faults()
    settings = faults.settings()
    node = world.furnished(tmp_path / "data", settings)
    submission = world.issues(5)
    faults.arm(Step.SYNC_BLOCK, How.DONE)
    faults.broken = True
    refused(submit(node.sequencer, submission)[0][0], ReadOnly)
    refused(submit(node.sequencer, submission)[0][0], ReadOnly)
    with pytest.raises(ReadOnly):
        node.store.leaf(0)
    faults.broken = False
    assert placed(submit(node.sequencer, submission)[0][0]).repeat, "it had been committed after all"
    check_log(world, node, [node.published.checkpoint], [])
    node.close()


def test_a_bug_in_one_submission_harms_no_other(
    world: World, node: LedgerNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad, last = world.issues(2), world.issues(3), world.issues(4)
    add = Draft.add_submission

    def buggy(draft: Draft, submission: Any) -> int:
        index = add(draft, submission)
        if submission.leaf == bad[0]:
            raise ZeroDivisionError("a bug, after the draft was changed")
        return index

    monkeypatch.setattr(Draft, "add_submission", buggy)
    outcomes, published = submit(node.sequencer, good, bad, last)
    error = refused(outcomes[1], NodeError)
    assert "internal error" in str(error)
    answered = [(good, placed(outcomes[0])), (last, placed(outcomes[2]))]
    assert answered[1][1].submission_index == answered[0][1].submission_index + 3
    check_log(world, node, [published.checkpoint], answered)


def test_a_bug_in_sealing_answers_everybody(
    world: World, node: LedgerNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Draft, "seal", lambda _: 1 // 0)
        outcomes, _ = submit(node.sequencer, world.issues(), world.issues())
        assert all("internal" in str(refused(one, NodeError)) for one in outcomes)
    placed(submit(node.sequencer, world.issues())[0][0])


def test_callbacks_that_raise_do_not_stop_it(world: World, node: LedgerNode) -> None:
    def explode(*_: object) -> None:
        raise RuntimeError("the event loop is closed")

    node.publications.on_publish(explode)
    node.sequencer.on_answers(explode)
    node.sequencer.submit([world.issues()], explode)
    placed(submit(node.sequencer, world.issues())[0][0])
