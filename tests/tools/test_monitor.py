"""The agency's monitor in a world in memory: thieves, insiders, lying nodes, and what is only unusual."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger import changes
from ledger.changes import AUTHORITY, Subject
from ledger.checkpoints import Checkpoint, sign_checkpoint
from ledger.errors import CheckpointUntrusted, LeafFormatError
from ledger.hashing import leaf_hash
from ledger.records import Affirm, Attest, Status
from ledger.signing_policy import DAY_MS
from ledger.submissions import pack
from ledger.tiles import encode_bundle, entries_path
from tests.ledger.world import ORIGIN, sign_submission, signer, status
from tests.tools.watched import Office, codes
from tools.agency.outbox import State
from tools.errors import AnswerWrong, LogDiffers, RegisterProblem, Usage
from tools.monitor.findings import Level, Standing
from tools.monitor.monitor import Judging, acknowledge
from tools.monitor.registers import OtherRegister
from tools.monitor.scan import concerning
from tools.monitor.state import Seen

HOUR_MS = 3_600_000


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    here = Office(tmp_path)
    yield here
    here.register.close()


# --- what the register knows, and what it does not ---------------------------------------------


def test_all_is_well(office: Office) -> None:
    office.issue(3)
    office.issue(300)
    reading = office.read()
    assert reading.alarms == []
    assert reading.complete
    assert (reading.start, reading.size) == (2, office.memory.tree.size)
    assert reading.root == office.memory.tree.root()
    assert (reading.tally.submissions, reading.tally.records) == (3, 303)
    assert reading.agreed_before_ms is None
    again = office.read()
    assert again.agreed_before_ms == reading.agreed_ms
    assert (again.news, again.tally.leaves) == ([], 0)


def test_a_stolen_key_is_found_with_submission_key_and_times(office: Office) -> None:
    office.issue(2)
    office.read()
    index = office.steal(5)
    (alarm,) = office.read().alarms
    assert (alarm.code, alarm.index, alarm.level) == ("UNKNOWN_SUBMISSION", index, Level.ALARM)
    facts = alarm.facts
    assert facts["keys"] == [{"number": 2, "label": "", "use": "submit"}]
    assert facts["signatures"] == "valid"
    assert facts["sealed_ms"] == office.world.state.time_ms
    assert facts["claimed_ms"] == facts["sealed_ms"] - 1000
    assert (facts["records"], facts["kinds"], facts["first"]) == (5, {"issue.original": 5}, str(index + 1))
    assert [one.action for one in office.register.journal.entries()][-1] == "alarm"


def test_an_alarm_stays_until_it_is_acknowledged(office: Office) -> None:
    index = office.steal()
    other = office.steal(2)
    assert [one.index for one in office.read().alarms] == [index, other]
    assert [one.told for one in office.read().alarms] == [True, True]
    (settled,) = acknowledge(office.register, [index], False, "the old machine\u202e")
    assert (settled.index, settled.standing) == (index, Standing.ACKNOWLEDGED)
    reading = office.read()
    assert [one.index for one in reading.alarms] == [other]
    assert [one.why for one in reading.findings if one.standing is Standing.ACKNOWLEDGED] == [settled.why]
    assert office.read(start=2).alarms == reading.alarms
    entry = list(office.register.journal.entries())[-1]
    assert (entry.action, entry.detail["why"]) == ("acknowledge", "the old machine\u202e")


@pytest.mark.parametrize(
    ("indexes", "log", "why"),
    [([1], False, "so"), ([], True, "so"), ([], False, " "), ([], False, "x" * 1001)],
)
def test_only_an_alarm_is_acknowledged_and_only_with_a_reason(
    office: Office, indexes: list[int], log: bool, why: str
) -> None:
    office.read()
    with pytest.raises(Usage):
        acknowledge(office.register, indexes, log, why)


def test_another_office_explains_its_submissions(office: Office, tmp_path: Path) -> None:
    with office.open("other.db") as other:
        index = office.issue(2, keys=(2,), register=other)
        lost = office.issue(2, keys=(2,), register=other, answered=False)
        assert [one.index for one in office.read().alarms] == [index, lost]
        with OtherRegister(tmp_path / "other.db") as known:
            judging = Judging((known,))
            assert office.read(judging).alarms == []
            office.issue(1, keys=(2,), register=other)
            stolen = office.steal()
            assert [one.index for one in office.read(judging).alarms] == [stolen]


@pytest.mark.parametrize("contents", [b"", b"no database at all" * 100, b"SQLite format 3\x00" + bytes(4096)])
def test_what_is_no_register_is_refused(tmp_path: Path, contents: bytes) -> None:
    path = tmp_path / "other.db"
    path.write_bytes(contents)
    with pytest.raises(RegisterProblem):
        OtherRegister(path)


def test_a_lost_answer_is_no_alarm_and_settles(office: Office) -> None:
    index = office.issue(2, answered=False)
    assert office.read().alarms == []
    office.register.run("UPDATE submissions SET state = 2, first = ?", (index + 1,))
    office.issue()
    assert office.read().alarms == []


def test_a_row_that_went_before_it_settled_is_missed(office: Office) -> None:
    office.issue()
    office.issue(2, answered=False)
    assert office.read().alarms == []
    office.register.run("DELETE FROM submissions WHERE state < 2")
    (gone,) = office.read().alarms
    assert (gone.code, gone.facts["missing"]) == ("ROWS_GONE", 1)


def test_what_was_refused_and_is_logged_all_the_same_is_told(office: Office) -> None:
    index = office.issue(2, answered=False)
    office.register.run("UPDATE submissions SET state = 3")
    reading = office.read()
    assert reading.alarms == []
    (warning,) = [one for one in reading.news if one.code == "LOGGED_THOUGH_REFUSED"]
    assert warning.index == index


def test_an_older_register_put_back_shows_what_it_lacks(office: Office, tmp_path: Path) -> None:
    office.issue()
    office.read()
    backup = tmp_path / "backup.db"
    office.register.backup(backup)
    index = office.issue(4)
    assert office.read().alarms == []
    office.register.close()
    for path in tmp_path.glob("register.db*"):
        path.unlink()
    backup.rename(tmp_path / "register.db")
    office.register = office.open("register.db")
    (alarm,) = office.read().alarms
    assert (alarm.code, alarm.index, alarm.facts["records"]) == ("UNKNOWN_SUBMISSION", index, 4)


@pytest.mark.parametrize("state", [State.PREPARED, State.PLACED, State.REFUSED])
def test_a_row_put_in_without_the_registers_key_explains_nothing(office: Office, state: State) -> None:
    """A thief who can write the file cannot cover the theft: the row's mark is keyed."""
    office.issue()
    index = office.steal()
    one = office.world.reader.leaves[index], pack(office.world.reader.leaves[index + 1 : index + 2])
    office.register.run(
        "INSERT INTO submissions (work, state, kind, count, known_size, leaf, records, mark, first)"
        " VALUES (1, ?, 'issue.original', 1, 0, ?, ?, ?, ?)",
        (int(state), *one, bytes(16), index + 1 if state is State.PLACED else None),
    )
    assert "UNKNOWN_SUBMISSION" in codes(office.read().alarms)


def test_rows_that_an_insider_removed_are_missed_and_found_again(office: Office) -> None:
    office.issue()
    index = office.issue(2)
    assert office.read().alarms == []
    office.register.run("DELETE FROM submissions WHERE first = ?", (index + 1,))
    (gone,) = office.read().alarms
    assert (gone.code, gone.facts["missing"]) == ("ROWS_GONE", 1)
    assert codes(office.read().alarms) == ["ROWS_GONE"]
    again = office.read(start=office.read().start)
    assert [(one.code, one.index) for one in again.alarms] == [
        ("ROWS_GONE", None),
        ("UNKNOWN_SUBMISSION", index),
    ]


def test_what_the_register_believes_and_the_log_does_not_hold(office: Office) -> None:
    office.issue()
    office.issue(2)
    office.register.run("UPDATE submissions SET first = first + 1 WHERE count = 2")
    reading = office.read()
    assert sorted(codes(reading.alarms)) == ["NOT_IN_LOG", "UNKNOWN_SUBMISSION"]


def test_a_placement_in_what_was_read_already_is_a_lie(office: Office) -> None:
    office.issue(answered=False)
    index = office.issue()
    office.read()
    office.register.run("UPDATE submissions SET state = 2, first = ? WHERE state < 2", (index + 7,))
    office.outbox().put("issue", office.documents(1), {})
    office.register.run("UPDATE submissions SET state = 2, first = ? WHERE state < 2", (index - 1,))
    assert codes(office.read().alarms) == ["NOT_IN_LOG"]
    office.issue()
    assert "NOT_IN_LOG" in codes(office.read().alarms)


def test_other_records_behind_a_known_submission(office: Office) -> None:
    office.issue(2)
    office.register.run("UPDATE submissions SET records = zeroblob(86)")
    assert sorted(codes(office.read().alarms)) == ["NOT_IN_LOG", "UNKNOWN_SUBMISSION"]


def test_a_record_without_a_submission_is_an_alarm(office: Office) -> None:
    """No node that keeps the rules makes one; one that breaks them is seen all the same."""
    office.read()
    seal = office.memory.leaves[-1]
    stray = office.documents(1)[0]
    _append(office, [stray, seal])
    (alarm,) = office.read().alarms
    assert (alarm.code, alarm.index) == ("STRAY_RECORD", office.memory.tree.size - 2)


def test_a_forged_submission_is_told_from_a_stolen_key(office: Office) -> None:
    records = office.documents(1)
    forged = sign_submission(office.world.genesis, 1, records, office.world.now, {1: signer("nobody")})
    _append(office, [forged, *records, office.memory.leaves[-1]])
    (alarm,) = office.read().alarms
    assert alarm.facts["signatures"] == "invalid"
    assert alarm.facts["keys"][0]["number"] == 1


def _append(office: Office, leaves: list[bytes]) -> None:
    """Into the log, past the rules, signed by the log."""
    memory = office.memory
    memory.tree, tiles = memory.tree.append([leaf_hash(leaf) for leaf in leaves])
    memory.leaves += leaves
    for tile in tiles:
        memory.files[tile.id.path()] = tile.data
    memory.files[entries_path(0, len(memory.leaves))] = encode_bundle(memory.leaves)
    office.source.note = office.forge(memory.tree.size, memory.tree.root())


# --- what others did ---------------------------------------------------------------------------


def test_what_others_did_with_the_agency_and_its_documents(office: Office) -> None:
    world = office.world
    ministry = world.enrol(roles=("attest", "issue"))
    subject = office.issue(3) + 1
    foreign = (
        world.submit(ministry, [office.documents(1)[0][:2] + ministry.to_bytes(4, "big") + bytes(35)]) + 1
    )
    world.submit(
        ministry, [Attest(ministry, one, 1, bytes(32)).encode() for one in (subject, subject + 1, foreign)]
    )
    world.submit(AUTHORITY, [status(AUTHORITY, subject + 2, subject + 2, Status.REVOKED)], keys=(1, 2))
    world.change(Subject("agency", 1), changes.KeyStolen(2, subject))
    world.submit(1, [Affirm(1, 1, subject, subject).encode()])
    world.change(Subject("agency", 1), changes.AgencySuspended())
    office.mirror()
    reading = office.read(Judging(held=frozenset((world.keys[1][1].public_key,))))
    assert reading.tally.attested == {ministry: 2}
    notes = {one.code: one for one in reading.news if one.level is Level.NOTE}
    assert notes["STATUS_BY_OTHER"].facts["subjects"] == [str(subject + 2)]
    assert notes["STATUS_BY_OTHER"].facts["by"] == AUTHORITY
    assert (notes["AFFIRMED"].facts["by"], notes["AFFIRMED"].facts["first"]) == (1, str(subject))
    assert codes(reading.alarms) == ["UNKNOWN_SUBMISSION"], "no register knows who affirmed"
    assert notes["REGISTRY_CHANGE"].facts["change"] == "agency_suspended"
    keys = [one for one in reading.news if one.code == "NEW_KEY"]
    assert [(one.facts["key"]["number"], one.facts["here"]) for one in keys] == [
        (1, True),
        (2, False),
        (3, False),
    ]
    assert not office.read().tally.attested


# --- a node that lies --------------------------------------------------------------------------


def test_a_node_that_was_set_back(office: Office) -> None:
    old = office.memory.checkpoint
    office.issue()
    good = office.read()
    office.source.note = old
    reading = office.read()
    (alarm,) = reading.alarms
    assert alarm.code == "LOG_ROLLED_BACK"
    assert [one.encode() for one in alarm.facts["evidence"]] == [office.memory.checkpoint, old]
    assert (reading.complete, reading.size, reading.agreed_ms) == (False, good.size, good.agreed_ms)
    office.source.note = None
    assert codes(office.read().alarms) == ["LOG_ROLLED_BACK"], "it is not forgotten"
    acknowledge(office.register, [], True, "the operator restored a backup, and went on")
    assert office.read().alarms == []


@pytest.mark.parametrize("more", [0, 1, 7])
def test_a_node_that_shows_another_history(office: Office, more: int) -> None:
    office.issue()
    good = office.read()
    if more == 7:
        office.issue(4)  # so that a proof can be had
        assert office.memory.tree.size == good.size + more
    office.source.note = office.forge(good.size + more, bytes(32))
    reading = office.read()
    (alarm,) = reading.alarms
    assert alarm.code == "LOG_FORKED"
    assert alarm.facts["evidence"][1].encode() == office.source.note
    assert reading.size == good.size
    assert codes(office.read().alarms) == ["LOG_FORKED"]


@pytest.mark.parametrize("lie", ["omit", "omit last", "alter", "swap", "more", "gap", "none"])
def test_a_node_that_withholds_or_alters_leaves(
    office: Office, lie: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = office.read()
    office.steal(3)
    honest = office.memory.entries

    def entries(start: int, end: int) -> Iterator[bytes]:
        leaves = list(honest(start, end))
        if lie == "omit":
            del leaves[2]
        elif lie == "omit last":
            leaves.pop()
        elif lie == "alter":
            leaves[2] = leaves[2][:-1] + b"\0"
        elif lie == "swap":
            leaves[2:4] = leaves[3], leaves[2]
        elif lie == "more":
            leaves.append(leaves[-1])
        elif lie == "none":
            leaves.clear()
        else:
            raise AnswerWrong("the stream of entries has a gap")
        yield from leaves

    monkeypatch.setattr(office.memory, "entries", entries)
    reading = office.read()
    assert codes(reading.alarms) == ["LOG_DIFFERS"]
    assert reading.size == good.size
    monkeypatch.undo()
    assert codes(office.read().alarms) == ["LOG_DIFFERS", "UNKNOWN_SUBMISSION"]


def test_blocks_without_end_are_not_gathered(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.monitor.log.CHUNK_LEAVES", 8)
    office.read()
    size = office.memory.tree.size
    endless = office.documents(1) * 5000
    monkeypatch.setattr(office.memory, "entries", lambda start, end: iter(endless))
    office.source.note = office.forge(size + 9000, bytes(32))
    monkeypatch.setattr("tools.monitor.monitor.check_extends", lambda *_: None)
    assert codes(office.read().alarms) == ["LOG_DIFFERS"]


def test_a_checkpoint_of_another_key_tells_nothing(office: Office) -> None:
    tree = office.memory.tree
    office.source.note = sign_checkpoint(Checkpoint(ORIGIN, tree.size, tree.root()), [signer("another")])
    with pytest.raises(CheckpointUntrusted):
        office.read()


def test_tiles_of_another_tree(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    office.issue()
    files = {
        name: (bytes(len(data)) if name.startswith("tile/0/") else data)
        for name, data in office.memory.files.items()
    }
    monkeypatch.setattr(office.memory, "files", files)
    with pytest.raises(LogDiffers):
        office.monitor().read(start=4)


# --- going on ----------------------------------------------------------------------------------


def test_cut_off_between_chunks_it_goes_on(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.monitor.log.CHUNK_LEAVES", 4)
    monkeypatch.setattr("tools.monitor.log._PORTION", 4)
    indexes = [office.steal(keys=(1,)) for _ in range(3)]
    office.issue()
    honest, given = office.memory.entries, 0

    def entries(start: int, end: int) -> Iterator[bytes]:
        nonlocal given
        for leaf in honest(start, end):
            given += 1
            if given == 14:
                raise KeyboardInterrupt
            yield leaf

    monkeypatch.setattr(office.memory, "entries", entries)
    with pytest.raises(KeyboardInterrupt):
        office.read()
    seen = Seen.load(office.register, 3, None)
    assert seen is not None
    assert 2 < seen.tree.size < office.memory.tree.size
    reading = office.read()
    assert reading.complete
    assert given < 14 + office.memory.tree.size - 2, "it began where it was cut off"
    assert [one.index for one in reading.alarms] == indexes
    assert reading.root == office.memory.tree.root()


def test_read_again_from_an_index(office: Office) -> None:
    index = office.steal()
    office.issue(300)
    first = office.read(start=index + 2)
    assert (first.start, first.alarms) == (index + 2, [])
    with pytest.raises(Usage):
        office.read(start=first.size)
    again = office.read(start=index)
    assert (again.start, [one.index for one in again.alarms]) == (index, [index])
    office.issue()
    with pytest.raises(Usage):
        office.read(start=first.size + 1)


def test_findings_that_were_taken_out_are_missed(office: Office) -> None:
    office.steal()
    office.read()
    office.register.run("DELETE FROM findings WHERE id = 1")
    with pytest.raises(RegisterProblem, match="findings"):
        office.read()


def test_findings_are_sealed(office: Office) -> None:
    office.steal()
    office.read()
    rows = list(office.register.rows("SELECT id, sealed FROM findings"))
    assert all(b"UNKNOWN" not in sealed for _, sealed in rows)
    office.register.run(
        "UPDATE findings SET sealed = (SELECT sealed FROM findings WHERE id = 2) WHERE id = 1"
    )
    with pytest.raises(RegisterProblem):
        office.read()


def test_a_damaged_state_is_named(office: Office) -> None:
    office.read()
    office.register.put_fact("monitor", b'{"format":"sudur-monitor/v1"}')
    with pytest.raises(RegisterProblem, match="monitor"):
        office.read()


# --- what is unusual ---------------------------------------------------------------------------


def test_unusual_hours_and_volumes_are_warned_of(office: Office) -> None:
    at = office.world.state.time_ms  # a UTC midnight, of a Thursday
    for day in range(40):
        if day % 7 in (1, 2):
            continue  # Friday and Saturday
        opening = at + day * DAY_MS + 6 * HOUR_MS
        office.issue(5, later_ms=opening - office.world.state.time_ms)
    reading = office.read()
    assert reading.alarms == []
    unusual = ("UNUSUAL_HOURS", "UNUSUAL_VOLUME", "SILENT_KEY", "FIRST_USE")
    assert not set(codes(reading.news)) & set(unusual)
    friday_night = at + 43 * DAY_MS + 23 * HOUR_MS
    index = office.issue(250, later_ms=friday_night - office.world.state.time_ms)
    warned = {one.code: one for one in office.read().news}
    assert warned["UNUSUAL_HOURS"].facts["records"] == 250
    assert warned["UNUSUAL_VOLUME"].facts["kind"] == "issue.original"
    assert warned["UNUSUAL_VOLUME"].facts["usual"] == 5
    assert warned["UNUSUAL_HOURS"].index == index
    assert office.read().news == []


def test_the_seal_of_long_ago(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    office.read()
    office.register.now_ms = lambda: office.world.state.time_ms + 3 * DAY_MS
    (warning,) = office.read().news
    assert (warning.code, warning.facts["hours"]) == ("LOG_SILENT", 72)
    assert office.read().news == []


# --- picking out -------------------------------------------------------------------------------


def test_leaves_of_unknown_kinds_are_named(office: Office) -> None:
    leaves = office.memory.leaves
    for bad in (b"", b"\x01", b"\x02\x01", b"\x01\x7f"):
        with pytest.raises(LeafFormatError) as caught:
            concerning([*leaves[:-1], bad, leaves[-1]], 10, 1)
        assert caught.value.where == f"leaf {10 + len(leaves) - 1}"
    with pytest.raises(LeafFormatError, match="SEAL"):
        concerning(leaves[:-1], 0, 1)
