"""fsck names every kind of damage, repairs what follows from the entries, and never touches them."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest

from ledger.changes import KeysAdded, NewKey, Subject, WitnessPolicyChanged
from ledger.checkpoints import log_key
from ledger.hashing import leaf_hash
from ledger.leaves import NONE
from ledger.records import (
    NO_HASH,
    Answer,
    Attest,
    Basis,
    Issue,
    Outcome,
    Send,
    SendKind,
    Status,
    StatusChange,
)
from ledger.signatures import Algorithm
from ledger.status import EMPTY_CHUNK_HASH
from ledger.tiles import TILE_WIDTH
from ledger.trust import Trust, TrustedLedger
from node import codec, database
from node.checking.fsck import Report, run_fsck
from node.checking.repair import DAMAGED, NEW
from node.database import Database
from node.errors import DataInUse, NodeError, NotFound
from node.head import Head
from node.mark import Mark
from node.node import LedgerNode
from node.store import KEEP_SUPERSEDED_MS
from tests.node.world import ORIGIN, World, placed, submit
from tests.witnesses import cosigned, policy

Rows = dict[str, dict[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Built:
    """A ledger on disk with something in every family, and the world that made it."""

    world: World
    data: Path

    def copy(self, to: Path) -> Path:
        """A copy, with its mark beside it."""
        data = to / "data"
        shutil.copytree(self.data, data)
        shutil.copy(self.data.with_name("data.mark"), to / "data.mark")
        return data


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    world = World()
    data = tmp_path_factory.mktemp("built") / "data"
    node = world.furnished(data)
    for count in (256, 1, 200, 100):
        (outcome,), _ = submit(node.sequencer, world.issues(count))
        subject = placed(outcome).first_record_index
        (outcome,), _ = submit(node.sequencer, world.status(subject, subject, Status.SUSPENDED))
        previous = placed(outcome).first_record_index
        submit(node.sequencer, world.status(subject, previous, Status.REVOKED))
    submit(node.sequencer, *[world.issues(2) for _ in range(5)])
    correspond(world, node)
    for n in (1, 2):
        last = node.published.state.registry.ledger.changed
        world.make(node, world.change("ledger", last, WitnessPolicyChanged(policy(n, "one", "two"))))
        for name in ("one", "two"):
            size = node.published.size
            node.witnessed.take(size, [cosigned(node.published.checkpoint, name, 1_000)])
    node.close()
    return Built(world, data)


def correspond(world: World, node: LedgerNode) -> None:
    """Agency 2 attests, asks agency 1 and reminds it; agency 1 receives and answers."""
    world.enrol(node, 2, "attest", "request")

    subject = world.put(node, 1, Issue(1, 1, Basis.ORIGINAL, sha256(b"attested").digest()))
    first = world.put(node, 2, Attest(2, subject, 1, NO_HASH), Attest(2, subject, 2, NO_HASH))
    world.put(node, 2, StatusChange(2, first, first, Status.REVOKED, 0, NONE))
    world.put(node, 2, Attest(2, subject, 1, NO_HASH))

    def send(follows: int = NONE) -> Send:
        return Send(2, 1, sha256(b"asked").digest(), SendKind.REQUEST, 14, follows, NO_HASH)

    asked = world.put(node, 2, send(), send())
    world.put(node, 2, send(asked))
    world.put(node, 1, Answer(1, asked, Outcome.RECEIVED, NO_HASH, NO_HASH))
    world.put(node, 1, Answer(1, asked, Outcome.ANSWERED, sha256(b"answer").digest(), NO_HASH))


def rows(data: Path) -> Rows:
    opened = Database(data / "db")
    try:
        return {family: dict(opened.rows(family)) for family in database.FAMILIES}
    finally:
        opened.close()


def change(data: Path, family: str, key: bytes, row: bytes | None) -> None:
    """Put a row, or delete it."""
    opened = Database(data / "db")
    batch = opened.batch()
    if row is None:
        batch.delete(family, key)
    else:
        batch.put(family, key, row)
    opened.write(batch)
    opened.sync()
    opened.close()


def spoiled(row: bytes) -> bytes:
    """Another row; one that should be empty is not."""
    return flipped(row, len(row) - 1) if row else b"\x01"


def flipped(row: bytes, at: int | None = None) -> bytes:
    at = len(row) // 2 if at is None else at
    return row[:at] + bytes((row[at] ^ 1,)) + row[at + 1 :]


def pick(known: Rows, family: str) -> bytes:
    """The key of a row that has to be there."""
    return next(key for key in known[family] if key != EMPTY_CHUNK_HASH)


def extra(family: str, known: Rows) -> tuple[bytes, bytes]:
    """A row that looks like those of its family and belongs to nothing."""
    key, row = next((key, row) for key, row in known[family].items() if key)
    if family in (database.OBJECTS, database.LISTS):
        row = b"\x07" * 32
        return leaf_hash(row) if family == database.OBJECTS else row, row
    if family == database.TILES:
        return codec.tile_key(0, 9), row
    if family == database.META:
        return b"other", row
    if family == database.EXPIRIES:
        return codec.superseded_key(codec.split_superseded(key)[0], bytes(32)), row
    if len(key) == 8:
        return codec.u64(1 << 40), row
    return flipped(key, len(key) - 1), row


NOT_DERIVED = (database.ENTRIES, database.CHECKPOINTS, database.COSIGNATURES, database.PREPARED)
DERIVED = [family for family in database.FAMILIES if family not in NOT_DERIVED]


def first_of(report: Report, part: str, kind: str) -> str:
    return next(one.first for one in report.findings if (one.part, one.kind) == (part, kind))


def test_a_sound_ledger_is_called_sound(built: Built, tmp_path: Path) -> None:
    data = built.copy(tmp_path)
    before = rows(data)
    key = log_key(ORIGIN, built.world.log.public_key)
    trusted = TrustedLedger.founded(built.world.genesis, ORIGIN, (key,))
    report = run_fsck(data, trust=Trust((trusted,)))
    assert report.sound, report
    assert report.documents == 568
    head = Head.decode(before[database.META][b"head"])
    assert (report.size, report.blocks) == (head.size, head.block + 1)
    empty = [family for family, found in before.items() if not found]
    assert empty == [database.PREPARED], "the world has a row in every family that a node alone has"
    assert rows(data) == before


def test_repairing_a_sound_ledger_changes_nothing(built: Built, tmp_path: Path) -> None:
    data = built.copy(tmp_path)
    report = run_fsck(data, repair=True)
    assert report.sound
    assert (report.repaired, report.kept) == ((), None)
    assert not (data / DAMAGED).exists()


@pytest.mark.parametrize("family", DERIVED)
def test_what_follows_from_the_entries_is_found_and_repaired(
    built: Built, tmp_path: Path, family: str
) -> None:
    data = built.copy(tmp_path)
    known = rows(data)
    key = pick(known, family)
    row = known[family][key]
    other, more = extra(family, known)
    assert other not in known[family]
    damages = {"missing": (key, None), "extra": (other, more), "wrong": (key, spoiled(row))}
    for kind, (where, put) in damages.items():
        change(data, family, where, put)
        damaged = rows(data)
        report = run_fsck(data)
        assert not report.sound
        assert report.entries_sound, report
        assert report.repairable
        assert (report.findings[0].part, report.findings[0].kind) == (family, kind), report
        assert report.findings[0].count == 1
        assert report.findings[0].first in str(report)
        assert rows(data) == damaged, "a check writes nothing"
        change(data, family, where, known[family].get(where))
    for where, put in damages.values():
        change(data, family, where, put)

    repaired = run_fsck(data, repair=True)
    assert repaired.sound, repaired
    assert repaired.repaired
    assert repaired.kept == data / DAMAGED
    assert not (data / NEW).exists()
    assert rows(data) == known
    node = built.world.open(data)
    assert node.published.size == repaired.size
    node.close()


def test_a_checkpoint_of_no_block_is_found_and_left_out(built: Built, tmp_path: Path) -> None:
    data = built.copy(tmp_path)
    known = rows(data)
    change(data, database.CHECKPOINTS, *extra(database.CHECKPOINTS, known))
    assert [(one.part, one.kind) for one in run_fsck(data).findings] == [("checkpoints", "extra")]
    assert run_fsck(data, repair=True).sound
    assert rows(data) == known


@pytest.mark.parametrize("family", [one for one in DERIVED if one != database.META])
def test_each_row_is_judged(built: Built, tmp_path: Path, family: str) -> None:
    data = built.copy(tmp_path)
    known = {key: row for key, row in rows(data)[family].items() if key != EMPTY_CHUNK_HASH}
    opened = Database(data / "db")
    batch = opened.batch()
    for key, row in known.items():
        batch.put(family, key, spoiled(row))
    opened.write(batch)
    opened.close()
    report = run_fsck(data)
    assert [(one.part, one.kind, one.count) for one in report.findings if one.kind == "wrong"] == [
        (family, "wrong", len(known))
    ]


def test_the_first_thing_is_named_and_the_others_are_counted(built: Built, tmp_path: Path) -> None:
    data = built.copy(tmp_path)
    known = rows(data)
    leaf = 300
    issue = Issue.decode(_leaf(known, leaf))
    lost = issue.commitment + issue.agency.to_bytes(4, "big")
    assert known[database.ISSUES][lost] == codec.u64(leaf)
    change(data, database.ISSUES, lost, None)
    for key in list(known[database.BLOCKS])[:3]:
        change(data, database.BLOCKS, key, flipped(known[database.BLOCKS][key]))
    tile = known[database.TILES][codec.tile_key(0, 0)]
    change(data, database.TILES, codec.tile_key(0, 0), flipped(tile, 32 * 7 + 3))
    report = run_fsck(data)
    assert {(one.part, one.kind, one.count) for one in report.findings} == {
        ("blocks", "wrong", 3),
        ("tiles", "wrong", 1),
        ("issues", "missing", 1),
    }
    assert report.findings[0].first.startswith("the row of block 0 is ")
    assert "tile/0/000 differs from byte 227 on (hash 7)" in first_of(report, "tiles", "wrong")
    named = first_of(report, "issues", "missing")
    assert issue.commitment.hex() in named
    assert f"leaf {leaf}" in named


def _leaf(known: Rows, index: int) -> bytes:
    bundle = known[database.ENTRIES][codec.u64(index // TILE_WIDTH)]
    at = 0
    for _ in range(index % TILE_WIDTH):
        at += 2 + int.from_bytes(bundle[at : at + 2], "big")
    return bundle[at + 2 : at + 2 + int.from_bytes(bundle[at : at + 2], "big")]


def test_records_outlive_what_was_superseded(tmp_path: Path) -> None:
    """The list of one key has that key's hash for its root: an hour later the list goes, the key stays."""
    world, data = World(), tmp_path / "data"
    node = world.furnished(data)
    last = node.published.state.registry.changed(Subject("agency", 1))
    second = NewKey(2, Algorithm.ED25519, world.officers[1].public_key, "submit", "second officer")
    world.make(node, world.change("agency/1", last, KeysAdded((second,))))
    world.clock.ms += 2 * KEEP_SUPERSEDED_MS
    submit(node.sequencer, world.issues(1))
    node.close()
    assert run_fsck(data).sound, run_fsck(data)
    world.open(data).close()


# --- entries -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("damage", "first", "words"),
    [
        ("flip in leaf 300", 300, "leaf 300: its bytes in bundle 1 have not the hash"),
        ("flip in a length", 256, "leaf 256: bundle 1 cannot be read"),
        ("bundle missing", 256, "leaf 256: bundle 1 is missing"),
        ("last bundle missing", 512, "leaves have no seal behind them"),
        ("bundle short", 511, "leaf 511: bundle 1 holds 255 leaves, and more follow"),
        ("last leaf gone", None, "leaves have no seal behind them"),
        ("bundle too many", None, "behind the newest block"),
        ("leaf too many", None, "1 leaves stand behind the newest block"),
    ],
)
def test_damaged_entries_are_named_and_never_repaired(
    built: Built, tmp_path: Path, damage: str, first: int | None, words: str
) -> None:
    data = built.copy(tmp_path)
    entries = rows(data)[database.ENTRIES]
    bundles = sorted(entries)
    one, last = entries[bundles[1]], entries[bundles[-1]]
    before_last_leaf = last[: last.rindex(b"\x00\x65")]
    key, row = {
        "flip in leaf 300": (bundles[1], flipped(one, one.index(_leaf({"entries": entries}, 300)) + 20)),
        "flip in a length": (bundles[1], flipped(one, 1)),
        "bundle missing": (bundles[1], None),
        "last bundle missing": (bundles[-1], None),
        "bundle short": (bundles[1], one[: len(one) - 2 - len(_leaf({"entries": entries}, 511))]),
        "last leaf gone": (bundles[-1], before_last_leaf),
        "bundle too many": (codec.u64(len(bundles) + 5), one),
        "leaf too many": (bundles[-1], last + b"\x00\x02\x01\x01"),
    }[damage]
    change(data, database.ENTRIES, key, row)
    damaged = rows(data)
    for repair in (False, True):
        report = run_fsck(data, repair=repair)
        assert not report.sound
        assert not report.entries_sound
        assert not report.repairable
        found = next(one for one in report.findings if one.part == "entries")
        assert words in found.first
        assert "nothing can be vouched for" in str(report)
        assert "restore the data directory" in str(report)
        if first is not None:
            assert report.size <= first
        assert not (data / DAMAGED).exists()
        assert rows(data) == damaged


def test_entries_that_the_mark_does_not_know_are_refused(built: Built, tmp_path: Path) -> None:
    """Another ledger's database under this ledger's mark: consistent in itself, and yet not it."""
    data = built.copy(tmp_path)
    other = World()
    node = other.furnished(tmp_path / "other")
    submit(node.sequencer, other.issues(3))
    node.close()
    shutil.copy(tmp_path / "other.mark", tmp_path / "data.mark")
    report = run_fsck(data, repair=True)
    assert not report.entries_sound
    assert "not the entries that it released" in str(report)
    assert report.size == 0


def test_more_than_one_damaged_bundle_is_counted(built: Built, tmp_path: Path) -> None:
    data = built.copy(tmp_path)
    entries = rows(data)[database.ENTRIES]
    for key in sorted(entries)[:2]:
        change(data, database.ENTRIES, key, flipped(entries[key], 40))
    report = run_fsck(data)
    (found,) = [one for one in report.findings if one.part == "entries"]
    assert found.count == 2
    assert report.size == 0


# --- checkpoints and the mark --------------------------------------------------------------------


def test_a_missing_checkpoint_is_not_forged(built: Built, tmp_path: Path) -> None:
    data = built.copy(tmp_path)
    known = rows(data)[database.CHECKPOINTS]
    sizes = sorted(known)
    change(data, database.CHECKPOINTS, sizes[3], None)
    change(data, database.CHECKPOINTS, sizes[4], flipped(known[sizes[4]]))
    change(data, database.CHECKPOINTS, sizes[5], known[sizes[6]])
    report = run_fsck(data)
    assert {(one.part, one.kind, one.count) for one in report.findings} == {
        ("checkpoints", "missing", 1),
        ("checkpoints", "wrong", 2),
    }
    repaired = run_fsck(data, repair=True)
    assert [(one.kind, one.count) for one in repaired.findings] == [("missing", 3)]
    assert not repaired.repairable
    shutil.rmtree(data / DAMAGED)
    signed = run_fsck(data, repair=True, signers=[built.world.log])
    assert signed.sound, signed
    assert rows(data)[database.CHECKPOINTS] == known, "a signature made again is the same"


def test_cosignatures_that_do_not_verify_go_and_the_others_stay(built: Built, tmp_path: Path) -> None:
    data = built.copy(tmp_path)
    known = rows(data)[database.COSIGNATURES]
    first, second = sorted(known)
    change(data, database.COSIGNATURES, first, known[second])
    change(data, database.COSIGNATURES, codec.u64(1 << 40), known[second])
    report = run_fsck(data)
    assert first_of(report, database.COSIGNATURES, "wrong")
    assert first_of(report, database.COSIGNATURES, "extra")
    assert run_fsck(data, repair=True).sound
    assert rows(data)[database.COSIGNATURES] == {second: known[second]}


def test_the_newest_checkpoint_may_wait_for_the_next_start(built: Built, tmp_path: Path) -> None:
    data = built.copy(tmp_path)
    known = rows(data)[database.CHECKPOINTS]
    change(data, database.CHECKPOINTS, max(known), None)
    assert run_fsck(data).sound
    built.world.open(data).close()
    assert rows(data)[database.CHECKPOINTS] == known


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "data.mark"


def test_a_missing_mark_is_said(built: Built, tmp_path: Path, mark: Path) -> None:
    data = built.copy(tmp_path)
    mark.unlink()
    report = run_fsck(data, repair=True)
    assert [(one.part, one.kind, one.repairable) for one in report.findings] == [("mark", "missing", False)]
    assert not mark.exists(), "a mark is never made up"


def test_a_mark_that_cannot_be_read_is_said(built: Built, tmp_path: Path, mark: Path) -> None:
    data = built.copy(tmp_path)
    mark.write_bytes(b"no mark")
    report = run_fsck(data, repair=True)
    assert [(one.part, one.kind) for one in report.findings] == [("mark", "unreadable")]


def test_a_mark_of_a_ledger_that_is_not_trusted_is_said(built: Built, tmp_path: Path, mark: Path) -> None:
    data = built.copy(tmp_path)
    key = log_key(ORIGIN, built.world.log.public_key)
    report = run_fsck(data, trust=Trust((TrustedLedger.founded(bytes(32), ORIGIN, (key,)),)))
    assert [(one.part, one.kind) for one in report.findings] == [("mark", "wrong")]
    assert "trust file" in str(report)


def test_an_older_mark_is_in_order(built: Built, tmp_path: Path, mark: Path) -> None:
    data = built.copy(tmp_path)
    known = rows(data)[database.CHECKPOINTS]
    mark.unlink()
    opened = Mark.create(mark)
    opened.keep(known[sorted(known)[2]])
    opened.close()
    assert run_fsck(data).sound


# --- access ------------------------------------------------------------------------------------


def test_a_node_that_runs_is_not_checked(built: Built, tmp_path: Path) -> None:
    data = built.copy(tmp_path)
    node = built.world.open(data)
    with pytest.raises(DataInUse, match="stop the other node"):
        run_fsck(data)
    node.close()


def test_a_directory_without_a_ledger(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        run_fsck(tmp_path, repair=True)
    assert list(tmp_path.iterdir()) == []


def test_a_second_repair_does_not_overwrite_what_the_first_kept(built: Built, tmp_path: Path) -> None:
    data = built.copy(tmp_path)
    (data / DAMAGED).mkdir()
    change(data, database.META, b"head", None)
    with pytest.raises(NodeError, match="still kept"):
        run_fsck(data, repair=True)


def test_a_repair_cut_in_two_is_finished(built: Built, tmp_path: Path) -> None:
    """Killed between the two renames: the next repair puts the new database in its place."""
    data = built.copy(tmp_path)
    shutil.copytree(data / "db", data / NEW)
    (data / "db").rename(data / DAMAGED)
    with pytest.raises(NotFound):
        run_fsck(data)
    assert run_fsck(data, repair=True).sound
    assert not (data / NEW).exists()


def test_a_repair_cut_short_begins_anew(built: Built, tmp_path: Path) -> None:
    data = built.copy(tmp_path)
    shutil.copytree(data / "db", data / NEW)
    change(data, database.META, b"head", None)
    assert run_fsck(data, repair=True).sound


def test_progress_is_told(built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = built.copy(tmp_path)
    monkeypatch.setattr("node.checking.fsck._PROGRESS_LEAVES", 100)
    said: list[str] = []
    report = run_fsck(data, progress=said.append)
    assert report.sound
    assert said
    assert all(one.startswith("checked ") for one in said)


def test_the_report_for_scripts(built: Built, tmp_path: Path) -> None:
    data = built.copy(tmp_path)
    change(data, database.META, b"head", None)
    told = run_fsck(data).to_json()
    assert isinstance(told, dict)
    assert (told["sound"], told["entries_sound"], told["repairable"]) == (False, True, True)
    assert told["kept"] is None
