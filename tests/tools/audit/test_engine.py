"""The engine: what a clean log comes to, and every lie that its server or its operator can tell."""

from __future__ import annotations

from pathlib import Path

import pytest

from ledger.checkpoints import Checkpoint, sign_checkpoint
from ledger.errors import DuplicateIssue, WrongLedger
from ledger.hashing import leaf_hash, leaf_hashes, merkle_root
from ledger.proofs import verify_consistency
from ledger.resources import CHECKPOINT
from ledger.signing_policy import utc_day
from ledger.status import chunk_count
from ledger.tiles import encode_bundle, entries_path
from ledger.tree import Tree
from tests.ledger.world import START_MS
from tests.tools.audit.logs import DAY_MS, LOG, Files, ServedWorld
from tools.audit import engine
from tools.audit.engine import AuditedLog, forget_replayed
from tools.audit.errors import (
    BlockBroken,
    EndsAmidBlock,
    HistoryForked,
    ServedWrong,
    StateDamaged,
    StateOfAnother,
)
from tools.errors import DirectoryInUse


@pytest.fixture(scope="module")
def world() -> ServedWorld:
    """Ten days, more leaves than two bundles. Not to be changed: copy it."""
    made = ServedWorld()
    made.live(range(10))
    return made


def audited(world: ServedWorld, directory: Path, files: Files | None = None) -> None:
    """One audit up to what is served now."""
    with AuditedLog.open(directory, world.trusted) as log:
        advance(log, files or world.files)


def advance(log: AuditedLog, files: Files) -> None:
    log.advance(files, log.open_note(files.fetch(CHECKPOINT)))


def test_a_clean_log_comes_to_the_same(world: ServedWorld, tmp_path: Path) -> None:
    memory = world.reader
    with AuditedLog.open(tmp_path, world.trusted) as log:
        advance(log, world.files)
        assert log.state == world.state
        assert log.tree.root() == world.files.tree.root()
        assert log.tiles.compared
        assert not log.tiles.differing
        for agency in range(3):
            assert log.figures(agency) == {
                key: n for key, n in memory.figures.items() if key.agency == agency and n
            }
        reader = log._index
        for index, leaf in enumerate(memory.leaves):
            assert log.leaf(index) == leaf
            assert reader.latest_status(index) == memory.statuses.get(index)
            assert reader.find_attest(leaf_hash(leaf)) == memory.attests.get(leaf_hash(leaf))
        for send, exchange in memory.exchanges.items():
            assert reader.exchange(send) == exchange
        assert reader.find_issues([*memory.issues, bytes(36)]) == [*memory.issues.values(), None]
        for number in range(chunk_count(log.size)):
            assert log.status_chunk(number) == memory.status_chunk(number)
        today = utc_day(world.state.time_ms)
        for (agency, kind, day), count in memory.daily.items():
            if day == today:
                assert reader.daily_count(agency, kind, day) == count
        window = world.state.time_ms - 7 * DAY_MS
        for (claimed_ms, identity), index in memory.submissions.items():
            if claimed_ms >= window:
                assert reader.find_submission(claimed_ms, identity) == index
        hashes = leaf_hashes(memory.leaves)
        for size in range(0, log.size + 1, 7):
            assert log.root_at(size) == merkle_root(hashes[:size])


def test_it_goes_on_where_it_stood(tmp_path: Path) -> None:
    world = ServedWorld()
    for days in range(6):
        world.live(range(days, days + 1), documents=30 * days + 2)
        audited(world, tmp_path)
        with AuditedLog.open(tmp_path, world.trusted) as log:
            assert log.state == world.state
            assert log.tree == world.files.tree


def test_a_block_that_breaks_the_rules_is_shown_to_be_signed(world: ServedWorld, tmp_path: Path) -> None:
    audited(world, tmp_path)
    forged = world.copied()
    transition = forged.forge_issues(2, [(3, 5), "new"])
    with AuditedLog.open(tmp_path, world.trusted) as log:
        with pytest.raises(BlockBroken) as caught:
            advance(log, forged.files)
        assert log.state == world.state
    error = caught.value
    assert error.leaves == transition.leaves
    assert error.before == world.state
    assert isinstance(error.refused.__cause__, DuplicateIssue)
    tree, _ = error.tree.append(leaf_hashes(error.leaves))
    signed = error.signed.checkpoint
    verify_consistency(tree.size, tree.root(), signed.size, signed.root, error.path)


def test_what_is_repeated_in_a_long_stretch_is_found(
    world: ServedWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "FAR", 0)
    monkeypatch.setattr(engine, "STRETCH_ISSUES", 100)
    forged = world.copied()
    transition = forged.forge_issues(2, [(3, 5), "new"])
    with pytest.raises(BlockBroken) as caught:
        audited(forged, tmp_path)
    assert caught.value.leaves == transition.leaves
    assert caught.value.before == world.state
    assert "issued before" in str(caught.value)


def test_a_wrong_leaf_is_the_servers_lie(world: ServedWorld, tmp_path: Path) -> None:
    for index in (5, 255, 256, 400, world.state.size - 2):
        files = world.files.copied()
        path = next(p for p in files.files if p == _bundle(files, index))
        data = bytearray(files.files[path])
        leaf = world.reader.leaves[index]
        at = data.index(leaf)
        data[at + len(leaf) - 1] ^= 1
        files.files[path] = bytes(data)
        with pytest.raises(ServedWrong, match=f"entry {index} is not the one") as caught:
            audited(world, tmp_path, files)
        assert caught.value.path == path
    audited(world, tmp_path)


def _bundle(files: Files, index: int) -> str:
    size = files.tree.size
    width = min(256, size - index // 256 * 256)
    return f"tile/entries/{index // 256:03d}" + ("" if width == 256 else f".p/{width}")


def test_a_short_bundle_and_a_missing_one(world: ServedWorld, tmp_path: Path) -> None:
    path = _bundle(world.files, 256)
    for cut in (1, 60):
        files = world.files.copied()
        files.files[path] = files.files[path][:-cut]
        with pytest.raises(ServedWrong) as caught:
            audited(world, tmp_path, files)
        assert caught.value.path == path
    files = world.files.copied()
    del files.files[path]
    with pytest.raises(ServedWrong, match="not there"):
        audited(world, tmp_path, files)


def test_a_wrong_tile_is_named_at_each_level(world: ServedWorld, tmp_path: Path) -> None:
    size = world.state.size
    assert size > 512
    full = size // 256
    tiles = ["tile/0/000", "tile/0/001", f"tile/0/{full:03d}.p/{size % 256}", f"tile/1/000.p/{full}"]
    for number, path in enumerate(tiles):
        files = world.files.copied()
        data = bytearray(files.files[path])
        data[40] ^= 1
        files.files[path] = bytes(data)
        with AuditedLog.open(tmp_path / str(number), world.trusted) as log:
            advance(log, files)
            assert log.tiles.differing == (path,)
            assert log.state == world.state


def test_two_histories_are_shown(world: ServedWorld, tmp_path: Path) -> None:
    one, other = world.copied(), world.copied()
    one.live([20], documents=3)
    other.live([21], documents=200)
    audited(one, tmp_path / "one")
    audited(other, tmp_path / "other")
    longer, shorter = (one, other) if one.state.size > other.state.size else (other, one)
    for name, files in (("one", other.files), ("other", one.files)):
        with AuditedLog.open(tmp_path / name, one.trusted) as log, pytest.raises(HistoryForked) as caught:
            advance(log, files)
        error = caught.value
        assert error.signed.data == longer.files.checkpoint
        assert error.earlier.data == shorter.files.checkpoint
        small, large = error.earlier.checkpoint, error.signed.checkpoint
        assert error.root != small.root
        verify_consistency(small.size, error.root, large.size, large.root, error.path)


def test_what_was_seen_and_not_replayed_still_binds(world: ServedWorld, tmp_path: Path) -> None:
    one, other = world.copied(), world.copied()
    one.live([20], documents=3)
    other.live([21], documents=200)
    with AuditedLog.open(tmp_path, one.trusted) as log:
        log.see(log.open_note(one.files.checkpoint))
    with AuditedLog.open(tmp_path, one.trusted) as log, pytest.raises(HistoryForked):
        advance(log, other.files)
    forget_replayed(tmp_path)
    with AuditedLog.open(tmp_path, one.trusted) as log:
        advance(log, one.files)
        assert [seen.signed.data for seen in log.check_heads()] == [other.files.checkpoint]


def test_a_checkpoint_amid_a_block(world: ServedWorld, tmp_path: Path) -> None:
    for there_before in (False, True):
        files = world.files.copied()
        cut = world.blocks[-1]
        whole = files.checkpoint
        size = world.state.size - 1
        hashes = leaf_hashes(world.reader.leaves[:size])
        note = sign_checkpoint(Checkpoint(files.origin, size, merkle_root(hashes)), [LOG])
        assert len(cut) > 1
        directory = tmp_path / str(there_before)
        if there_before:
            audited(world, directory)
            with AuditedLog.open(directory, world.trusted) as log, pytest.raises(EndsAmidBlock) as caught:
                log.see(log.open_note(note))
        else:
            files.files[CHECKPOINT] = note
            _partials(files, world.reader.leaves[:size])
            with pytest.raises(EndsAmidBlock) as caught:
                audited(world, directory, files)
        assert caught.value.leaf == world.reader.leaves[size - 1]
        assert caught.value.signed.data == note != whole


def _partials(files: Files, leaves: list[bytes]) -> None:
    """Serve the partial bundle and tiles of a size that no block ends at."""
    _, tiles = Tree.empty().append(leaf_hashes(leaves))
    files.files.update({tile.id.path(): tile.data for tile in tiles})
    first = len(leaves) // 256 * 256
    files.files[entries_path(first // 256, len(leaves) - first)] = encode_bundle(leaves[first:])


def test_another_ledgers_directory_and_two_runs(world: ServedWorld, tmp_path: Path) -> None:
    audited(world, tmp_path)
    stranger = ServedWorld(now=START_MS + 5)
    with pytest.raises(StateOfAnother, match="another ledger"), AuditedLog.open(tmp_path, stranger.trusted):
        pass
    with (
        AuditedLog.open(tmp_path, world.trusted),
        pytest.raises(DirectoryInUse),
        AuditedLog.open(tmp_path, world.trusted),
    ):
        pass
    with pytest.raises(WrongLedger):
        audited(world, tmp_path / "new", stranger.files)


@pytest.mark.parametrize(
    "name", ["replay/entries", "replay/entries.index", "replay/table/CURRENT", "heads", "ledger.json"]
)
def test_damage_is_named_and_rebuilt(world: ServedWorld, tmp_path: Path, name: str) -> None:
    audited(world, tmp_path)
    (tmp_path / name).write_bytes(b"\x00damaged\n")
    with pytest.raises(StateDamaged) as caught:
        audited(world, tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "--rebuild" in str(caught.value)
    if name.startswith("replay"):
        forget_replayed(tmp_path)
        audited(world, tmp_path)
