"""Backup, its verification and restore: whole, interrupted, damaged, foreign, and out of room."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from ledger.backups import MANIFEST, Manifest
from ledger.checkpoints import Checkpoint, sign_checkpoint
from ledger.errors import CheckpointUntrusted
from ledger.notes import VerifierKey
from ledger.trust import Trust, TrustedLedger
from node.checking.fsck import run_fsck
from node.copying.archive import Archive, ArchiveBlocks, read_manifest
from node.copying.backup import add_letters, back_up, restore, verify_backup
from node.copying.block_source import Block
from node.copying.drill import drill
from node.copying.mirror import Mirror
from node.errors import (
    DataInUse,
    DiskFull,
    NodeError,
    NotFound,
    PeerShort,
    PeerSilent,
    PeerWrong,
    RulesBroken,
    StoreBehindMark,
)
from node.letters.envelope_store import EnvelopeStore
from node.mark import Mark
from node.node import LedgerNode, default_mark_path
from node.store import Store
from sudur.v1 import ledger_pb2
from tests.ledger.world import ORIGIN, World, issue, log_key, signer
from tests.node.blocks import FakeSource, Log, small_world
from tests.node.world import small_settings

WORLD = small_world(12)
LOG = Log.of(WORLD)


def trusted_of(log: Log) -> TrustedLedger:
    """A trust file's entry for a log of these tests."""
    return TrustedLedger.founded(log.genesis, ORIGIN, (VerifierKey.parse(log_key("log")),))


TRUSTED = trusted_of(LOG)


@dataclass
class FakeNode(FakeSource):
    """A node with the first ``held`` blocks of a log."""

    held: int = 0
    key: str = "log"
    asked_for: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.whole = self.log
        if self.held:
            self.log = replace(
                self.log, blocks=self.log.blocks[: self.held], sizes=self.log.sizes[: self.held]
            )

    def ledger(self) -> ledger_pb2.GetLedgerResponse:
        size = self.log.sizes[len(self.log.blocks) - 1]
        note = sign_checkpoint(Checkpoint(ORIGIN, size, self.whole.root(size)), [signer(self.key)])
        return ledger_pb2.GetLedgerResponse(
            genesis=self.log.genesis, origin=ORIGIN, checkpoint=note, block=len(self.log.blocks) - 1
        )


def make(directory: Path, node: FakeNode | None = None, trusted: TrustedLedger = TRUSTED) -> Manifest:
    return back_up(node or FakeNode(LOG), directory, trusted, wall_ms=lambda: 1)


@pytest.fixture
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """So small that two or three blocks make a file."""
    monkeypatch.setattr("node.copying.archive.FILE_BYTES", 1_500)


@pytest.fixture
def no_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.copying.backup.DEFAULT_FLOOR", 0)


# --- whole -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_files")
def test_a_backup_is_verified_and_restored_to_a_sound_node(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    manifest = back_up(
        FakeNode(LOG), tmp_path / "backup", TRUSTED, wall_ms=lambda: 7, progress=lambda *at: told.append(at)
    )
    assert (manifest.size, manifest.root, manifest.made_ms) == (LOG.size, LOG.root(LOG.size), 7)
    assert len(manifest.files) > 3
    assert told[-1] == (LOG.size, LOG.size)
    assert verify_backup(tmp_path / "backup", TRUSTED) == manifest
    made = restore(tmp_path / "backup", tmp_path / "data", TRUSTED, floor=0, may_sign=True)
    assert (made.size, made.blocks, made.root) == (LOG.size, len(LOG.blocks), manifest.root)
    report = run_fsck(tmp_path / "data", trust=Trust((TRUSTED,)))
    assert report.sound, str(report)
    node = LedgerNode.open(tmp_path / "data", [signer("log")], settings=small_settings(clock_is_right=True))
    assert node.published.state == WORLD.state
    node.close()


@pytest.mark.usefixtures("small_files")
def test_the_next_backup_fetches_only_what_is_new(tmp_path: Path) -> None:
    first = make(tmp_path / "backup", FakeNode(LOG, held=6))
    assert first.blocks == 6
    node = FakeNode(LOG)
    second = make(tmp_path / "backup", node)
    assert node.asked == [6]
    assert second.files[: len(first.files)] == first.files
    again = FakeNode(LOG)
    assert replace(make(tmp_path / "backup", again), made_ms=1) == second
    assert again.asked == []
    assert verify_backup(tmp_path / "backup", TRUSTED).size == LOG.size


def test_two_restored_nodes_are_two(tmp_path: Path) -> None:
    make(tmp_path / "backup")
    members = []
    for name in ("one", "two"):
        restore(tmp_path / "backup", tmp_path / name, TRUSTED, floor=0)
        mark = Mark.open(default_mark_path(tmp_path / name))
        assert (mark.note, mark.vote.head) == (None, None)
        members.append(mark.vote.member)
        mark.close()
    assert len(set(members)) == 2


def test_a_restored_node_does_not_sign_alone_unless_it_was_restored_for_that(tmp_path: Path) -> None:
    make(tmp_path / "backup", FakeNode(LOG, held=6))
    restore(tmp_path / "backup", tmp_path / "data", TRUSTED, floor=0)
    with pytest.raises(StoreBehindMark, match="mark is empty"):
        LedgerNode.open(tmp_path / "data", [signer("log")], settings=small_settings(clock_is_right=True))
    mirror = Mirror.open(tmp_path / "data", TRUSTED, ["127.0.0.1:1"])
    assert mirror.copy is not None
    assert mirror.copy.published.size == LOG.sizes[5]
    mirror.close()


def test_a_run_that_ends_unsigned_is_proven_from_the_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "backup", FakeNode(Log.of(WORLD, signed=False)))
    monkeypatch.setattr("node.copying.catch_up.RUN_BYTES", 400)
    made = restore(tmp_path / "backup", tmp_path / "data", TRUSTED, floor=0)
    assert made.root == LOG.root(LOG.size)


def test_a_drill_leaves_nothing_behind(tmp_path: Path, no_floor: None) -> None:
    make(tmp_path / "backup")
    (tmp_path / "scratch").mkdir()
    found = drill(tmp_path / "backup", tmp_path / "scratch", TRUSTED, lambda *_: None)
    assert (found.size, found.root) == (LOG.size, LOG.root(LOG.size))
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_drill_of_a_damaged_backup_fails(tmp_path: Path) -> None:
    manifest = make(tmp_path / "backup")
    damage(tmp_path / "backup" / manifest.files[0].name)
    (tmp_path / "scratch").mkdir()
    with pytest.raises(PeerWrong, match="damaged"):
        drill(tmp_path / "backup", tmp_path / "scratch", TRUSTED, lambda *_: None)
    assert list((tmp_path / "scratch").iterdir()) == []


# --- letters -----------------------------------------------------------------------------------


def test_letters_are_copied_from_a_running_node_and_come_back(tmp_path: Path) -> None:
    kept = EnvelopeStore(tmp_path / "data" / "envelopes")
    make(tmp_path / "backup", FakeNode(LOG, held=6))
    manifest = add_letters(tmp_path / "backup", tmp_path / "data")
    assert manifest.letters is not None
    kept.close()
    assert make(tmp_path / "backup").letters == manifest.letters
    assert verify_backup(tmp_path / "backup", TRUSTED).letters == manifest.letters
    assert restore(tmp_path / "backup", tmp_path / "new", TRUSTED, floor=0).letters > 0
    restored = sqlite3.connect(tmp_path / "new" / "envelopes" / "envelopes.sqlite")
    assert restored.execute("SELECT COUNT(*) FROM envelope").fetchone() == (0,)
    restored.close()
    damage(tmp_path / "backup" / manifest.letters.name)
    with pytest.raises(PeerWrong, match="envelopes"):
        verify_backup(tmp_path / "backup", TRUSTED)


def test_letters_need_a_node_and_a_backup(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no envelopes"):
        add_letters(tmp_path / "backup", tmp_path / "data")
    EnvelopeStore(tmp_path / "data" / "envelopes").close()
    with pytest.raises(NotFound, match="no backup"):
        add_letters(tmp_path / "backup", tmp_path / "data")


# --- interrupted -------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_files")
@pytest.mark.parametrize("blocks", range(1, 12))
def test_a_backup_that_loses_its_node_goes_on_where_it_stands(tmp_path: Path, blocks: int) -> None:
    class Broken(FakeNode):
        """Says that it has all, gives so many blocks, and is gone."""

        def ledger(self) -> ledger_pb2.GetLedgerResponse:
            return FakeNode(LOG).ledger()

        def consistency(self, old: int, new: int) -> list[bytes]:
            return FakeNode(LOG).consistency(old, new)

    gone = PeerSilent("the link is down", peer="node")
    with pytest.raises(PeerSilent):
        make(tmp_path / "backup", Broken(LOG, held=blocks, then=gone))
    held = read_manifest(tmp_path / "backup").blocks if (tmp_path / "backup" / MANIFEST).exists() else 0
    if held:
        assert verify_backup(tmp_path / "backup", TRUSTED).blocks == held
    node = FakeNode(LOG)
    make(tmp_path / "backup", node)
    assert node.asked == [held]
    assert verify_backup(tmp_path / "backup", TRUSTED).size == LOG.size


@pytest.mark.usefixtures("small_files")
def test_a_crash_before_the_manifest_costs_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = Archive.commit
    left = 2

    def crash(self: Archive, manifest: Manifest) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            (self.directory / f"{self.next - 1:012d}.blocks").write_bytes(b"half")
            raise KeyboardInterrupt
        commit(self, manifest)

    monkeypatch.setattr(Archive, "commit", crash)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "backup")
    monkeypatch.setattr(Archive, "commit", commit)
    assert 0 < verify_backup(tmp_path / "backup", TRUSTED).blocks < len(LOG.blocks)
    make(tmp_path / "backup")
    assert verify_backup(tmp_path / "backup", TRUSTED).size == LOG.size


@pytest.mark.parametrize("after", [1, 5, 11])
def test_a_restore_that_is_cut_short_goes_on(
    tmp_path: Path, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "backup")
    apply = Store.apply
    count = 0

    def crash(self: Store, *arguments: Any, **more: Any) -> None:
        nonlocal count
        count += 1
        if count > after:
            raise KeyboardInterrupt
        apply(self, *arguments, **more)

    monkeypatch.setattr(Store, "apply", crash)
    with pytest.raises(KeyboardInterrupt):
        restore(tmp_path / "backup", tmp_path / "data", TRUSTED, floor=0)
    assert not (tmp_path / "data").exists()
    monkeypatch.setattr(Store, "apply", apply)
    assert restore(tmp_path / "backup", tmp_path / "data", TRUSTED, floor=0, may_sign=True).size == LOG.size
    assert run_fsck(tmp_path / "data", trust=Trust((TRUSTED,))).sound
    assert not (tmp_path / "data.restoring").exists()


def test_a_restore_that_was_cut_short_at_its_very_end_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "backup")
    rename = Path.rename

    def crash(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", crash)
    with pytest.raises(KeyboardInterrupt):
        restore(tmp_path / "backup", tmp_path / "data", TRUSTED, floor=0)
    assert default_mark_path(tmp_path / "data").exists()
    monkeypatch.setattr(Path, "rename", rename)
    restore(tmp_path / "backup", tmp_path / "data", TRUSTED, floor=0, may_sign=True)
    assert run_fsck(tmp_path / "data", trust=Trust((TRUSTED,))).sound


def test_a_stop_is_no_error_of_the_backup(tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(NotFound, match="stopped"):
        back_up(FakeNode(LOG), tmp_path / "backup", TRUSTED, wall_ms=lambda: 1, stop=stop)


# --- not as it should be -----------------------------------------------------------------------


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a flipped bit": (damage, "damaged"),
    "cut short": (truncate, "bytes"),
    "gone": (Path.unlink, "missing"),
}


@pytest.mark.usefixtures("small_files")
@pytest.mark.parametrize("name", DAMAGES)
@pytest.mark.parametrize("at", [0, 2, -1])
def test_a_damaged_file_is_named(tmp_path: Path, name: str, at: int) -> None:
    manifest = make(tmp_path / "backup")
    change, what = DAMAGES[name]
    file = manifest.files[at].name
    change(tmp_path / "backup" / file)
    with pytest.raises(PeerWrong, match=what) as caught:
        verify_backup(tmp_path / "backup", TRUSTED)
    assert file in str(caught.value)
    with pytest.raises(PeerWrong, match=what):
        restore(tmp_path / "backup", tmp_path / "data", TRUSTED, floor=0)
    assert not (tmp_path / "data").exists()


@pytest.mark.usefixtures("small_files")
def test_a_backup_without_its_newest_file_is_refused_even_with_a_manifest_to_match(tmp_path: Path) -> None:
    manifest = make(tmp_path / "backup")
    *files, last = manifest.files
    shorter = replace(manifest, files=tuple(files), blocks=manifest.blocks - last.blocks)
    (tmp_path / "backup" / MANIFEST).write_bytes(shorter.encode())
    with pytest.raises(PeerShort, match="leaves of"):
        verify_backup(tmp_path / "backup", TRUSTED)


@pytest.mark.parametrize(
    "change",
    [
        lambda one: b"",
        lambda one: one.encode()[:-1],
        lambda one: one.encode().replace(b"sudur-backup/v1", b"sudur-backup/v2"),
        lambda one: replace(one, blocks=one.blocks + 1).encode(),
        lambda one: replace(one, files=(replace(one.files[0], name="../x"),)).encode(),
    ],
)
def test_a_damaged_manifest_is_named(tmp_path: Path, change: Callable[[Manifest], bytes]) -> None:
    manifest = make(tmp_path / "backup")
    (tmp_path / "backup" / MANIFEST).write_bytes(change(manifest))
    for use in (
        lambda: verify_backup(tmp_path / "backup", TRUSTED),
        lambda: restore(tmp_path / "backup", tmp_path / "data", TRUSTED),
        lambda: make(tmp_path / "backup"),
    ):
        with pytest.raises(PeerWrong, match="manifest is damaged"):
            use()


def test_a_manifest_that_states_another_tree_is_refused(tmp_path: Path) -> None:
    manifest = make(tmp_path / "backup", FakeNode(LOG, held=6))
    (tmp_path / "backup" / MANIFEST).write_bytes(replace(manifest, root=bytes(32)).encode())
    with pytest.raises(PeerWrong, match="states a tree"):
        verify_backup(tmp_path / "backup", TRUSTED)
    edge = (bytes(len(manifest.edge[0])), *manifest.edge[1:])
    (tmp_path / "backup" / MANIFEST).write_bytes(replace(manifest, edge=edge).encode())
    with pytest.raises(PeerWrong, match="root"):
        make(tmp_path / "backup")


def test_another_ledger_is_refused_everywhere(tmp_path: Path) -> None:
    other = replace(TRUSTED, genesis=bytes(32))
    make(tmp_path / "backup")
    for use in (
        lambda: verify_backup(tmp_path / "backup", other),
        lambda: restore(tmp_path / "backup", tmp_path / "data", other),
        lambda: make(tmp_path / "backup", trusted=other),
    ):
        with pytest.raises(NodeError, match="another ledger"):
            use()
    with pytest.raises(PeerWrong, match="it serves the ledger"):
        make(tmp_path / "new", trusted=other)


def test_a_checkpoint_by_another_key_is_not_backed_up(tmp_path: Path) -> None:
    with pytest.raises(CheckpointUntrusted):
        make(tmp_path / "backup", FakeNode(LOG, key="thief"))


def test_a_node_that_is_behind_or_forked_does_not_spoil_the_backup(tmp_path: Path) -> None:
    manifest = make(tmp_path / "backup")
    with pytest.raises(PeerShort, match="has"):
        make(tmp_path / "backup", FakeNode(LOG, held=6))
    fork = small_world(11)
    fork.submit(1, [issue(1, "another"), issue(1, "history")])
    with pytest.raises(PeerWrong, match="fork"):
        make(tmp_path / "backup", FakeNode(Log.of(fork)))
    fork.submit(1, [issue(1, "and on")])
    with pytest.raises(PeerWrong):
        make(tmp_path / "backup", FakeNode(Log.of(fork)))
    assert verify_backup(tmp_path / "backup", TRUSTED) == manifest


def test_a_log_that_breaks_its_rules_is_backed_up_and_not_restored(tmp_path: Path) -> None:
    """A backup is of what the log signed, whatever that is: it may be evidence."""
    bad = [*WORLD.blocks]
    *body, seal = bad[8]
    bad[8] = (*body[:-1], issue(1, "never signed"), seal)
    world = World()
    world.blocks = bad
    log = Log.of(world)
    make(tmp_path / "backup", FakeNode(log))
    verify_backup(tmp_path / "backup", TRUSTED)
    with pytest.raises(RulesBroken, match="WRONG_RECORDS_ROOT"):
        restore(tmp_path / "backup", tmp_path / "data", TRUSTED, floor=0)
    assert not (tmp_path / "data").exists()


def test_a_lying_node_is_found_while_it_is_backed_up(tmp_path: Path) -> None:
    def without_note(block: Block) -> list[Block]:
        wrong = sign_checkpoint(Checkpoint(ORIGIN, LOG.sizes[5], bytes(32)), [signer("log")])
        return [replace(block, note=wrong) if block.number == 5 else block]

    with pytest.raises(PeerWrong, match="block 5"):
        make(tmp_path / "backup", FakeNode(LOG, alter=without_note))


def test_nothing_is_restored_over_anything(tmp_path: Path) -> None:
    make(tmp_path / "backup")
    (tmp_path / "data").mkdir()
    with pytest.raises(NodeError, match="already"):
        restore(tmp_path / "backup", tmp_path / "data", TRUSTED)
    (tmp_path / "data").rmdir()
    Mark.create(default_mark_path(tmp_path / "data")).close()
    with pytest.raises(NodeError, match="already"):
        restore(tmp_path / "backup", tmp_path / "data", TRUSTED)


def test_a_directory_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "backup").mkdir()
    (tmp_path / "backup" / "thesis.txt").write_text("mine")
    with pytest.raises(NodeError, match=r"thesis\.txt"):
        make(tmp_path / "backup")


def test_one_backup_at_a_time(tmp_path: Path) -> None:
    class Second(FakeNode):
        def ledger(self) -> ledger_pb2.GetLedgerResponse:
            with pytest.raises(DataInUse):
                make(tmp_path / "backup")
            return super().ledger()

    make(tmp_path / "backup", Second(LOG))


# --- no room -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_files")
def test_a_full_disk_stops_a_backup_and_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = os.fsync
    left = 5

    def full(descriptor: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr("node.copying.archive.os.fsync", full)
    with pytest.raises(DiskFull, match="goes on"):
        make(tmp_path / "backup")
    monkeypatch.setattr("node.copying.archive.os.fsync", fsync)
    assert not list((tmp_path / "backup").glob("*.part"))
    make(tmp_path / "backup")
    assert verify_backup(tmp_path / "backup", TRUSTED).size == LOG.size


def test_a_full_disk_stops_a_restore_and_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "backup")
    monkeypatch.setattr("node.copying.catch_up.RUN_BYTES", 400)
    room = [100, 100, 0]
    with pytest.raises(DiskFull, match="goes on"):
        restore(
            tmp_path / "backup",
            tmp_path / "data",
            TRUSTED,
            floor=50,
            free=lambda _: room.pop(0) if room else 0,
        )
    assert restore(tmp_path / "backup", tmp_path / "data", TRUSTED, floor=0).size == LOG.size


def test_proofs_from_the_archive_are_those_of_the_log(tmp_path: Path) -> None:
    make(tmp_path / "backup")
    source = ArchiveBlocks(tmp_path / "backup", read_manifest(tmp_path / "backup"))
    plain = FakeSource(LOG)
    for old in LOG.sizes[:-1]:
        assert list(source.consistency(old, LOG.size)) == plain.consistency(old, LOG.size)
