"""The commit, each of its steps failing in each way, and starts on damaged, old or foreign data."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ledger import rules
from ledger.signatures import Ed25519Signer
from ledger.submissions import open_submission, pack
from node.clock import seal_time
from node.errors import DataInUse, NodeError, NotFound, StoreBehindMark, StoreDamaged
from node.mark import Mark
from node.node import LedgerNode, default_mark_path
from node.publish import Published
from tests.node.check import check_log
from tests.node.faults import Faults, How, Injected, Step
from tests.node.world import World, placed, seed, small_settings, submit

EVERY_FAULT = [(step, how) for step in Step for how in How]


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def commit_one(world: World, node: LedgerNode, submission: tuple[bytes, bytes]) -> Published:
    """One block by hand, without a sequencer, so that errors come out here."""
    before = node.committer.snapshot.state
    draft = rules.begin(before, node.store, seal_time(world.clock, before.time_ms))
    draft.add_submission(open_submission(*submission))
    transition = draft.seal()
    return node.committer.commit(transition, pack(transition.leaves))


def furnished_and_stopped(world: World, data: Path) -> None:
    world.furnished(data).close()


def open_still(world: World, data: Path, faults: Faults | None = None) -> LedgerNode:
    """Open without starting the sequencer."""
    settings = small_settings() if faults is None else faults.settings()
    return LedgerNode.open(data, [world.log], clock=world.clock, settings=settings)


# --- faults ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("step", "how"), EVERY_FAULT)
@pytest.mark.parametrize("restart", [False, True], ids=["recover", "restart"])
def test_a_failed_step_loses_nothing_that_was_said(
    world: World, data: Path, step: Step, how: How, restart: bool
) -> None:
    furnished_and_stopped(world, data)
    faults = Faults()
    node = open_still(world, data, faults)
    released = [node.published.checkpoint]
    first, second, third = world.issues(3), world.issues(43), world.issues(2)
    released.append(commit_one(world, node, first).checkpoint)
    size = node.committer.published.size
    faults.arm(step, how)
    with pytest.raises(Injected):
        commit_one(world, node, second)
    assert node.committer.published.size == size, "nothing is released by a commit that failed"
    if restart:
        node.close()
        node = open_still(world, data, faults)
    else:
        node.committer.recover()
    released.append(node.committer.published.checkpoint)
    # The failed block is there whole or not at all; a caller who asks again finds out which.
    kept = node.committer.snapshot.head.size != size
    assert kept is not (how is How.LOST and step in (Step.WRITE_BLOCK, Step.SYNC_BLOCK))
    if not kept:
        released.append(commit_one(world, node, second).checkpoint)
    released.append(commit_one(world, node, third).checkpoint)
    node.close()
    node = open_still(world, data)
    answers = [node.sequencer.placement(at, repeat=False) for at in (8, 13, 15 + 43)]
    check_log(world, node, released, zip((first, second, third), answers, strict=True))
    node.close()


def test_the_same_bytes_are_signed_again(world: World, data: Path) -> None:
    furnished_and_stopped(world, data)
    faults = Faults()
    node = open_still(world, data, faults)
    faults.arm(Step.WRITE_CHECKPOINT, How.LOST)
    with pytest.raises(Injected):
        commit_one(world, node, world.issues())
    node.close()
    marked = Mark.open(default_mark_path(data))
    note = marked.note
    marked.close()
    node = open_still(world, data)
    assert node.published.checkpoint == note
    node.close()


def test_a_bit_that_flips_on_the_way_to_the_tiles_is_never_signed(
    world: World, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    furnished_and_stopped(world, data)
    node = open_still(world, data)
    size = node.published.size
    tile = type(node.store).tile

    def flipped(store: object, level: int, index: int, width: int = 256) -> bytes:
        good = tile(node.store, level, index, width)
        return good[:-1] + bytes((good[-1] ^ 1,))

    with monkeypatch.context() as patch:
        patch.setattr(type(node.store), "tile", flipped)
        with pytest.raises(StoreDamaged, match="root that was committed"):
            commit_one(world, node, world.issues())
    assert node.published.size == size
    node.close()


# --- starts ------------------------------------------------------------------------------------


def test_a_new_ledger_and_what_it_refuses(world: World, data: Path) -> None:
    with pytest.raises(NotFound):
        world.open(data)
    node = world.create(data)
    assert (node.published.head.block, node.published.size) == (0, 2)
    assert node.published.head.ledger == world.genesis
    check_log(world, node, [], [])
    node.close()
    with pytest.raises(NodeError, match="already"):
        world.create(data)
    with pytest.raises(NodeError, match="none of the log keys"):
        LedgerNode.create(data.with_name("other"), world.genesis_leaf, [Ed25519Signer(seed("stranger"))])


@pytest.mark.parametrize(("step", "how"), EVERY_FAULT)
def test_a_crash_while_a_ledger_begins(world: World, data: Path, step: Step, how: How) -> None:
    faults = Faults()
    faults.arm(step, how)
    with pytest.raises(Injected):
        LedgerNode.create(
            data, world.genesis_leaf, [world.log], clock=world.clock, settings=faults.settings()
        )
    try:
        node = world.open(data)
    except NotFound:
        node = world.create(data)
    check_log(world, node, [], [])
    node.close()


def test_another_log_key_does_not_sign(world: World, data: Path) -> None:
    furnished_and_stopped(world, data)
    with pytest.raises(NodeError, match="may sign"):
        LedgerNode.open(data, [Ed25519Signer(seed("stranger"))])
    world.open(data).close()


def test_two_nodes_on_one_data_directory(world: World, data: Path, tmp_path: Path) -> None:
    node = world.furnished(data)
    with pytest.raises(DataInUse, match="mark"):
        world.open(data)
    other_mark = tmp_path / "other.mark"
    shutil.copy(default_mark_path(data), other_mark)
    with pytest.raises(DataInUse, match="data directory"):
        LedgerNode.open(data, [world.log], mark_path=other_mark)
    placed(submit(node.sequencer, world.issues())[0][0])
    node.close()


def test_an_older_copy_of_the_data_directory(world: World, data: Path, tmp_path: Path) -> None:
    node = world.furnished(data)
    node.close()
    shutil.copytree(data, tmp_path / "copy")
    node = world.open(data)
    placed(submit(node.sequencer, world.issues())[0][0])
    node.close()
    shutil.rmtree(data)
    (tmp_path / "copy").rename(data)
    with pytest.raises(StoreBehindMark, match="older copy"):
        world.open(data)


def test_another_history_of_the_same_length(world: World, data: Path, tmp_path: Path) -> None:
    node = world.furnished(data)
    node.close()
    shutil.copytree(data, tmp_path / "fork")
    shutil.copy(default_mark_path(data), tmp_path / "fork.mark")
    for place in (data, tmp_path / "fork"):
        node = world.open(place)
        placed(submit(node.sequencer, world.issues())[0][0])
        node.close()
    shutil.copy(default_mark_path(data), tmp_path / "fork.mark")
    with pytest.raises(StoreBehindMark, match="not those that this node has signed"):
        world.open(tmp_path / "fork")


def test_a_mark_that_is_missing_or_empty_or_anothers(world: World, data: Path, tmp_path: Path) -> None:
    furnished_and_stopped(world, data)
    mark = default_mark_path(data)
    good = mark.read_bytes()
    mark.unlink()
    with pytest.raises(StoreBehindMark, match="bring the mark file back"):
        world.open(data)
    Mark.create(mark).close()
    with pytest.raises(StoreBehindMark, match="mark is empty"):
        world.open(data)
    stranger = World(log=Ed25519Signer(seed("another log")))
    stranger.create(tmp_path / "stranger").close()
    shutil.copy(default_mark_path(tmp_path / "stranger"), mark)
    with pytest.raises(StoreDamaged, match="not one of this log"):
        world.open(data)
    mark.write_bytes(good)
    world.open(data).close()


def test_an_empty_store_under_a_mark(world: World, data: Path) -> None:
    furnished_and_stopped(world, data)
    shutil.rmtree(data)
    with pytest.raises(StoreBehindMark, match="not here any more"):
        world.create(data)


def killed_copy(data: Path, place: Path) -> Path:
    """What a kill leaves of an open node: closing it in order would empty the write-ahead log."""
    shutil.copytree(data, place)
    shutil.copy(default_mark_path(data), default_mark_path(place))
    return max((place / "db").glob("*.log"), key=lambda path: path.stat().st_size)


def test_a_flipped_bit_in_the_write_ahead_log(world: World, data: Path, tmp_path: Path) -> None:
    node = world.furnished(data)
    for _ in range(20):
        placed(submit(node.sequencer, world.issues(20))[0][0])
    copy = tmp_path / "copy"
    log = killed_copy(data, copy)
    node.close()
    content = log.read_bytes()
    pristine = tmp_path / "pristine"
    shutil.copytree(copy, pristine)
    for at in range(100, len(content), len(content) // 8):
        bad = bytearray(content)
        bad[at] ^= 4
        log.write_bytes(bad)
        # RocksDB itself names it; under its default mode it would open without a word.
        with pytest.raises(StoreDamaged, match="RocksDB cannot open it") as caught:
            world.open(copy)
        assert caught.value.fix
        shutil.rmtree(copy)
        shutil.copytree(pristine, copy)
    node = world.open(copy)
    assert node.published.head.block == 23
    node.close()


def test_a_write_ahead_log_cut_short(world: World, data: Path, tmp_path: Path) -> None:
    node = world.furnished(data)
    for _ in range(5):
        placed(submit(node.sequencer, world.issues(3))[0][0])
    log = killed_copy(data, tmp_path / "copy")
    node.close()
    log.write_bytes(log.read_bytes()[:-2000])
    with pytest.raises(StoreBehindMark, match="has lost its end"):
        world.open(tmp_path / "copy")


def test_a_killed_node_starts_again(world: World, data: Path, tmp_path: Path) -> None:
    node = world.furnished(data)
    submissions = [world.issues(n) for n in (1, 255, 256, 7)]
    answered = [(one, placed(submit(node.sequencer, one)[0][0])) for one in submissions]
    released = [node.published.checkpoint]
    killed_copy(data, tmp_path / "copy")
    node.close()
    node = world.open(tmp_path / "copy")
    answered.append((again := world.issues(2), placed(submit(node.sequencer, again)[0][0])))
    check_log(world, node, released, answered)
    node.close()
