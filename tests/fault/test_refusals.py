"""What a node refuses to start on, and says so; and what it may start on, with everything it answered."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from node.checking.fsck import run_fsck
from node.clock import SystemClock
from node.errors import ClockUnsound, NodeError, StoreBehindMark, StoreDamaged
from node.node import LedgerNode
from node.sequencer import Placement
from node.slots import HEADER_SIZE, SLOT_SIZE
from tests.fault.processes import DEADLINE_S, NodeProcess, now_ms, request
from tests.node.check import check_log
from tests.node.world import START_MS, World, placed, small_settings, submit

Answered = list[tuple[tuple[bytes, bytes], Placement]]


@dataclass(frozen=True, slots=True)
class Crashed:
    """Data as a crash leaves it: the newest blocks are in the write-ahead log alone."""

    world: World
    data: Path
    answered: Answered
    notes: tuple[bytes, ...]

    def copy(self, to: Path) -> Path:
        data = to / "data"
        shutil.copytree(self.data, data)
        shutil.copy(self.data.with_name("data.mark"), to / "data.mark")
        return data


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> Crashed:
    """Copied while the node is open and idle: just what SIGKILL would leave on the disk."""
    world, answered, notes = World(), [], []
    live, dead = tmp_path_factory.mktemp("live") / "data", tmp_path_factory.mktemp("dead") / "data"
    node = world.furnished(live)
    for _ in range(40):
        submission = world.issues(20)
        (outcome,), published = submit(node.sequencer, submission)
        answered.append((submission, placed(outcome)))
        notes.append(published.checkpoint)
    shutil.copytree(live, dead)
    shutil.copy(live.with_name("data.mark"), dead.with_name("data.mark"))
    node.close()
    return Crashed(world, dead, answered, tuple(notes))


def write_ahead_log(data: Path) -> Path:
    return max((data / "db").glob("*.log"), key=lambda file: file.stat().st_size)


def flip(file: Path, at: int) -> None:
    data = bytearray(file.read_bytes())
    data[at] ^= 0x10
    file.write_bytes(data)


def opens_whole_or_refuses(crashed: Crashed, data: Path) -> NodeError | None:
    """The refusal; or None when it opened and holds all that was answered."""
    try:
        node = LedgerNode.open(data, [crashed.world.log], clock=crashed.world.clock)
    except (StoreDamaged, StoreBehindMark) as error:
        return error
    try:
        check_log(crashed.world, node, crashed.notes, crashed.answered)
    finally:
        node.close()
    return None


# --- the write-ahead log -------------------------------------------------------------------------


def test_after_a_crash_everything_answered_is_there(crashed: Crashed, tmp_path: Path) -> None:
    assert opens_whole_or_refuses(crashed, crashed.copy(tmp_path)) is None


@pytest.mark.parametrize("part", [0.02, 0.2, 0.4, 0.5, 0.6, 0.8, 0.9, 0.95, 0.99])
def test_a_flipped_bit_in_the_log_is_never_passed_over(crashed: Crashed, tmp_path: Path, part: float) -> None:
    data = crashed.copy(tmp_path)
    log = write_ahead_log(data)
    flip(log, int(log.stat().st_size * part))
    assert opens_whole_or_refuses(crashed, data) is not None, "a flip inside a record cannot go unseen"


def test_a_flipped_bit_in_the_last_records(crashed: Crashed, tmp_path: Path) -> None:
    """The checkpoint's record is the last and may go; the block's before it may not."""
    refused = 0
    size = write_ahead_log(crashed.data).stat().st_size
    for back in (10, 150, 250, 400, 700, 1_200):
        data = crashed.copy(tmp_path / str(back))
        flip(write_ahead_log(data), size - back)
        refused += opens_whole_or_refuses(crashed, data) is not None
    assert refused >= 3


@pytest.mark.parametrize("cut", [1, 200, 1_000, 5_000])
def test_a_log_cut_short(crashed: Crashed, tmp_path: Path, cut: int) -> None:
    data = crashed.copy(tmp_path)
    log = write_ahead_log(data)
    with log.open("r+b") as file:
        file.truncate(log.stat().st_size - cut)
    error = opens_whole_or_refuses(crashed, data)
    assert (error is None) == (cut < 300)
    if error is not None:
        assert isinstance(error, StoreBehindMark)
        assert "older copy, or has lost its end" in str(error)
        assert not run_fsck(data).entries_sound


# --- older copies, marks -------------------------------------------------------------------------


def test_an_older_copy_of_the_data_directory(tmp_path: Path) -> None:
    world, data = World(), tmp_path / "data"
    node = world.furnished(data)
    submit(node.sequencer, world.issues(3))
    node.close()
    shutil.copytree(data, tmp_path / "backup")
    node = world.open(data)
    submit(node.sequencer, world.issues(3))
    node.close()
    shutil.rmtree(data)
    shutil.copytree(tmp_path / "backup", data)
    with pytest.raises(StoreBehindMark, match="older copy"):
        world.open(data)
    assert "this node has signed a tree of" in str(run_fsck(data))


def test_a_ledger_that_was_deleted_is_not_begun_anew(tmp_path: Path) -> None:
    world, data = World(), tmp_path / "data"
    world.furnished(data).close()
    shutil.rmtree(data)
    with pytest.raises(StoreBehindMark, match="not here any more"):
        world.create(data)


def test_without_its_mark(crashed: Crashed, tmp_path: Path) -> None:
    data = crashed.copy(tmp_path)
    (tmp_path / "data.mark").unlink()
    with pytest.raises(StoreBehindMark, match="bring the mark file back"):
        crashed.world.open(data)


SLOTS = (HEADER_SIZE, HEADER_SIZE + SLOT_SIZE)


def test_a_mark_damaged_in_both_slots(crashed: Crashed, tmp_path: Path) -> None:
    data = crashed.copy(tmp_path)
    for slot in SLOTS:
        flip(tmp_path / "data.mark", slot + 20)
    with pytest.raises(StoreDamaged, match="neither of its two slots"):
        crashed.world.open(data)


@pytest.mark.parametrize("slot", SLOTS)
def test_a_mark_damaged_in_one_slot_serves_with_the_other(
    crashed: Crashed, tmp_path: Path, slot: int
) -> None:
    data = crashed.copy(tmp_path)
    flip(tmp_path / "data.mark", slot + 20)
    assert opens_whole_or_refuses(crashed, data) is None


# --- clocks --------------------------------------------------------------------------------------


@dataclass
class Hands:
    """The hands of two clocks: the time of day, which can be set, and the time since the start."""

    wall: int = START_MS + 1_000_000
    steady: int = 5_000

    def clock(self) -> SystemClock:
        return SystemClock(lambda: self.wall, lambda: self.steady)


@pytest.mark.parametrize(
    "move",
    [
        pytest.param(lambda hands: None, id="stands still"),
        pytest.param(lambda hands: setattr(hands, "wall", hands.wall - 50_000), id="goes back"),
    ],
)
def test_a_clock_that_stands_still_or_goes_back(tmp_path: Path, move: Callable[[Hands], None]) -> None:
    world, hands = World(), Hands()
    world.furnished(tmp_path / "data").close()
    node = LedgerNode.open(tmp_path / "data", [world.log], clock=hands.clock(), settings=small_settings())
    node.sequencer.start()
    times = []
    for _ in range(5):
        move(hands)
        (outcome,), _ = submit(node.sequencer, world.issues(1, claimed_ms=hands.wall))
        times.append(placed(outcome).time_ms)
    node.close()
    first = START_MS + 1_000_000
    assert times == [*range(times[0], times[0] + 5)], "the ledger's time goes on by the least it can"
    assert first - 50_000 <= times[0] <= first


def test_a_clock_that_jumps_ahead(tmp_path: Path) -> None:
    world, hands = World(), Hands()
    world.furnished(tmp_path / "data").close()
    node = LedgerNode.open(tmp_path / "data", [world.log], clock=hands.clock(), settings=small_settings())
    node.sequencer.start()
    submit(node.sequencer, world.issues(1, claimed_ms=hands.wall))
    size = node.published.size
    hands.wall += 86_400_000
    (outcome,), _ = submit(node.sequencer, world.issues(1, claimed_ms=hands.wall))
    assert isinstance(outcome, ClockUnsound)
    assert "jumped ahead by 86400 s" in str(outcome)
    assert node.published.size == size
    assert node.store.leaf(size - 1), "reads go on"
    hands.wall -= 86_400_000
    (outcome,), _ = submit(node.sequencer, world.issues(1, claimed_ms=hands.wall))
    assert placed(outcome).time_ms == hands.wall + 1, "nothing of the jump is left"
    node.close()


# --- two nodes -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_nodes_on_one_data_directory(tmp_path: Path) -> None:
    world, data = World(), tmp_path / "data"
    world.furnished(data).close()
    first = NodeProcess(data).wait_ready()
    try:
        refusal = NodeProcess(data).refusal()
        assert "DATA_IN_USE" in refusal
        assert "stop the other node; a mark has one writer" in refusal
        with first.stub() as stub:
            submission = world.issues(1, claimed_ms=now_ms())
            answer = stub.Submit(request(world, submission), timeout=DEADLINE_S)
            assert answer.placement.record_count == 1
        assert first.stop() == 0
    finally:
        first.process.kill()
        first.process.wait()
