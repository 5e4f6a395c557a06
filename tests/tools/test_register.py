"""The register: sealed, bound to its rows, searched blindly, copied and put back; its journal."""

from __future__ import annotations

import base64
import contextlib
import random
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tools.helpers import Commands, assert_one_line
from tests.tools.registers import add, new_document, open_register
from tools.agency.directory import AgencyDirectory
from tools.errors import FileProblem, NameTaken, RegisterProblem
from tools.register.box import Box
from tools.register.search import Search
from tools.register.store import Register, restore
from tools.ui import Passphrase

NAMES = ["محمد علي حسن", "أحمد كاظم", "سارا ئەحمەد", "نور الهدى", "ئازاد حەسەن", "Şêrko Ebdullah"]


def raw(path: Path) -> sqlite3.Connection:
    """The database as somebody without the key has it."""
    return sqlite3.connect(path / "register.db", isolation_level=None)


def test_files_are_their_owners_alone(tmp_path: Path) -> None:
    with open_register(tmp_path / "a") as register:
        add(register, [new_document("x")])
        paths = list((tmp_path / "a").glob("register.*"))
        assert len(paths) >= 3  # the key, the database, its log
        assert {stat.S_IMODE(path.stat().st_mode) for path in paths} == {0o600}


def test_nothing_readable_is_on_disk(tmp_path: Path) -> None:
    with open_register(tmp_path / "a") as register:
        add(register, [new_document(name, f"ext-{n}") for n, name in enumerate(NAMES)])
        register.journal.write("desk-1", "search", {"words": "سري للغاية"})
        found = b"".join(path.read_bytes() for path in (tmp_path / "a").glob("register.db*"))
    for text in (*NAMES, "ext-3", "سري للغاية"):
        for encoding in ("utf-8", "utf-16-le", "windows-1256"):
            data = text.encode(encoding, "ignore")
            assert data not in found
            assert base64.b64encode(data)[:-4] not in found


def test_rows_cannot_be_swapped_or_altered(tmp_path: Path) -> None:
    with open_register(tmp_path / "a") as register:
        first = add(register, [new_document("one"), new_document("two")])
    with closing(raw(tmp_path / "a")) as database:
        (other,) = database.execute("SELECT sealed FROM documents WHERE id = ?", (first + 1,)).fetchone()
        database.execute("UPDATE documents SET sealed = ? WHERE id = ?", (other, first))
    with open_register(tmp_path / "a") as register:
        with pytest.raises(RegisterProblem, match="another row"):
            register.documents.get(first)
        assert register.documents.get(first + 1).values() == {"name": "two"}
        flipped = bytes((*other[:-1], other[-1] ^ 1))
        register.run("UPDATE documents SET sealed = ? WHERE id = ?", (flipped, first + 1))
        with pytest.raises(RegisterProblem, match="does not open"):
            register.documents.get(first + 1)
        with pytest.raises(RegisterProblem, match="is not in the register"):
            register.documents.get(99)


@given(st.binary(max_size=80), st.integers(0, 2**40))
def test_a_box_opens_what_it_sealed_and_nothing_else(content: bytes, row: int) -> None:
    box, other = Box(bytes(32)), Box(bytes([1]) * 32)
    sealed = box.seal("document", row, content)
    assert box.open("document", row, sealed) == content
    for wrong in (sealed[:-1], b"", sealed[:10]):
        with pytest.raises(RegisterProblem):
            box.open("document", row, wrong)
    for opener, table, place in ((other, "document", row), (box, "receipt", row), (box, "document", row + 1)):
        with pytest.raises(RegisterProblem):
            opener.open(table, place, sealed)
    assert box.mark("external", content) != other.mark("external", content) != box.mark("table", content)


def test_another_key_does_not_open_it(tmp_path: Path) -> None:
    open_register(tmp_path / "a").close()
    open_register(tmp_path / "b").close()
    (tmp_path / "a" / "register.key.json").write_bytes((tmp_path / "b" / "register.key.json").read_bytes())
    with pytest.raises(RegisterProblem, match="another key"):
        open_register(tmp_path / "a")
    (tmp_path / "a" / "register.key.json").unlink()
    with pytest.raises(RegisterProblem, match="is missing"):
        open_register(tmp_path / "a")


@pytest.mark.parametrize("content", [b"not a database at all" * 400, b"SQLite format 3\x00" + bytes(5000)])
def test_what_is_no_register_is_named(tmp_path: Path, content: bytes) -> None:
    open_register(tmp_path / "a").close()
    (tmp_path / "a" / "register.db").write_bytes(content)
    with pytest.raises((RegisterProblem, FileProblem)):
        open_register(tmp_path / "a")


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    open_register(tmp_path / "a").close()
    (tmp_path / "a" / "register.db").unlink()
    with closing(raw(tmp_path / "a")) as database:
        database.execute("CREATE TABLE notes (x)")
    with pytest.raises(RegisterProblem, match="another program's"):
        open_register(tmp_path / "a")


def test_a_transaction_is_all_or_nothing(tmp_path: Path) -> None:
    with open_register(tmp_path / "a") as register:
        with contextlib.suppress(ZeroDivisionError), register.transaction():
            add(register, [new_document("one")])
            _ = 1 // 0
        assert list(register.documents.every()) == []
        assert register.documents.candidates("one") == []


def test_documents_are_found_by_their_external_id(tmp_path: Path) -> None:
    with open_register(tmp_path / "a") as register:
        add(register, [new_document("one", "A-1"), new_document("two", "A-2")])
        found = register.documents.by_external("A-2")
        assert found is not None
        assert found.values() == {"name": "two"}
        assert register.documents.by_external("a-2") is None


# --- searching ---------------------------------------------------------------------------------


def test_candidates_are_ranked(tmp_path: Path) -> None:
    with open_register(tmp_path / "a") as register:
        add(register, [new_document(name) for name in NAMES])
        for asked, wanted in (
            ("احمد", ["أحمد كاظم"]),
            ("ازاد", ["ئازاد حەسەن"]),
            ("محمد على حسن", ["محمد علي حسن"]),
            ("سارا كاظم احمد", ["أحمد كاظم", "سارا ئەحمەد"]),
            ("sêrko", ["Şêrko Ebdullah"]),
            ("غائب", []),
            ("", []),
        ):
            found = [one.values()["name"] for _, one in register.documents.candidates(asked)]
            assert found[: len(wanted)] == wanted, asked
        scores = [score for score, _ in register.documents.candidates("نور الهدى محمد")]
        assert scores == sorted(scores, reverse=True)
        assert 0 < scores[-1] < scores[0] < 1
        assert register.documents.candidates("نور الهدي")[0][0] == 1


@pytest.mark.parametrize("size", [1, 40])
def test_many_runs_are_merged_and_nothing_is_lost(tmp_path: Path, size: int) -> None:
    """Against a plain scan, over more runs than one level keeps."""
    chance = random.Random(5)
    vocabulary = [f"w{n}" for n in range(60)]
    texts = [" ".join(chance.choices(vocabulary, k=4)) for _ in range(300 * min(size, 4))]
    with open_register(tmp_path / "a") as register:
        for start in range(0, len(texts), size):
            add(register, [new_document(text) for text in texts[start : start + size]])
        runs = register.row("SELECT count(*) FROM postings")
        assert runs is not None
        assert runs[0] < 40
        for word in vocabulary:
            found = {one.number for _, one in register.documents.candidates(word, 10_000)}
            assert found == {n for n, text in enumerate(texts, 1) if word in text.split()}


def test_what_is_common_does_not_hide_what_is_rare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.register.search._MAX_SEEDS", 20)
    with open_register(tmp_path / "a") as register:
        add(register, [new_document(f"common n{n}") for n in range(200)])
        add(register, [new_document("common rare")])
        ((score, best), *_) = register.documents.candidates("common rare")
        assert (best.values()["name"], score) == ("common rare", 1)


def test_tags_of_a_search_say_nothing_without_the_key(tmp_path: Path) -> None:
    with open_register(tmp_path / "a") as one, open_register(tmp_path / "b") as other:
        tags = [Search(register)._tagger.tags("نور") for register in (one, other)]
        assert tags[0] != tags[1]


# --- the journal -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM journal WHERE id = 2",
        "DELETE FROM journal WHERE id = 4",
        "DELETE FROM journal",
        "UPDATE journal SET officer = 'desk-9' WHERE id = 2",
        "UPDATE journal SET time_ms = 5 WHERE id = 3",
        "UPDATE journal SET action = 'nothing' WHERE id = 1",
        "UPDATE journal SET sealed = (SELECT sealed FROM journal WHERE id = 1) WHERE id = 2",
        "INSERT INTO journal SELECT 5, time_ms, officer, action, sealed, link FROM journal WHERE id = 4",
        "UPDATE journal SET id = 9 WHERE id = 4",
    ],
)
def test_the_journal_shows_what_was_done_to_it(tmp_path: Path, change: str) -> None:
    with open_register(tmp_path / "a") as register:
        for number in range(4):
            register.journal.write("desk-1", "issue", {"number": number})
        entries = list(register.journal.entries())
        assert [(one.officer, one.detail["number"]) for one in entries] == [("desk-1", n) for n in range(4)]
    with closing(raw(tmp_path / "a")) as database:
        database.execute(change)
    with open_register(tmp_path / "a") as register, pytest.raises(RegisterProblem):
        list(register.journal.entries())


# --- copies ------------------------------------------------------------------------------------


def test_a_backup_of_a_register_in_use_is_whole(tmp_path: Path) -> None:
    here, target = AgencyDirectory.create(tmp_path / "a"), tmp_path / "copy.db"
    with open_register(here.path) as register:
        add(register, [new_document(name) for name in NAMES])
        register.journal.write("desk-1", "issue", {})
        with open_register(here.path) as other, other.transaction():
            add(other, [new_document("not yet")])
            register.backup(target)
        with pytest.raises(NameTaken):
            register.backup(target)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    with pytest.raises(NameTaken):
        restore(here, target, Passphrase(None))
    moved = AgencyDirectory.create(tmp_path / "moved")
    with pytest.raises(RegisterProblem, match="is missing"):
        restore(moved, target, Passphrase(None))
    (moved.path / "register.key.json").write_bytes((here.path / "register.key.json").read_bytes())
    (moved.path / "register.key.json").chmod(0o600)
    restore(moved, target, Passphrase(None))
    with open_register(moved.path) as register:
        assert [one.values()["name"] for one in register.documents.every()] == NAMES
        assert len(list(register.journal.entries())) == 1
    assert sorted(path.name for path in moved.path.iterdir()) == ["register.db", "register.key.json"]


@pytest.mark.parametrize("damage", ["cut", "flipped", "other key", "garbage"])
def test_a_damaged_backup_is_not_restored(tmp_path: Path, damage: str) -> None:
    here, target = AgencyDirectory.create(tmp_path / "a"), tmp_path / "copy.db"
    with open_register(here.path) as register:
        add(register, [new_document(name) for name in NAMES])
        register.journal.write("desk-1", "issue", {})
        register.backup(target)
    (here.path / "register.db").unlink()
    data = bytearray(target.read_bytes())
    if damage == "cut":
        target.write_bytes(data[: len(data) // 2])
    elif damage == "garbage":
        target.write_bytes(b"x" * 10_000)
    elif damage == "flipped":
        with closing(sqlite3.connect(target, isolation_level=None)) as database:
            database.execute("UPDATE journal SET officer = 'x'")
    else:
        open_register(tmp_path / "b").close()
        (here.path / "register.key.json").write_bytes((tmp_path / "b" / "register.key.json").read_bytes())
    with pytest.raises((RegisterProblem, FileProblem)):
        restore(here, target, Passphrase(None))
    assert sorted(path.name for path in here.path.iterdir()) == ["register.key.json"]


# --- commands ----------------------------------------------------------------------------------


def test_an_archive_is_taken_in_once(sudur: Commands, tmp_path: Path) -> None:
    here, table = tmp_path / "a", tmp_path / "births.csv"
    assert sudur("agency", "keygen", "--dir", here).code == 0
    table.write_text("id,name\n1,محمد علي\n2,سارا\n2,زينب\n3,e\u0301\n")
    command = ("agency", "register", "import", table, "--dir", here, "--id-column", "id", "--json")
    for _ in "12":
        done = sudur(*command)
        assert done.code == 0
        assert '"taken": 2,\n  "rejected": 2' in done.out
    rejected = (tmp_path / "births.csv.rejected.csv").read_text(encoding="utf-8-sig").splitlines()
    assert [line.split(",")[:2] for line in rejected[1:]] == [["4", "id"], ["5", "name"]]
    done = sudur("agency", "register", "search", "محمّد", "على", "--dir", here, "--json")
    assert '"score": 1.0' in done.out
    assert '"state": "imported"' in done.out
    assert "سارا" in sudur("agency", "register", "show", "--id", "2", "--dir", here).out
    assert_one_line(sudur("agency", "register", "show", "9", "--dir", here), 1, "is not in the register")
    lines = sudur("agency", "register", "export", "--dir", here).out.splitlines()
    assert lines[0] == "document,index,id,type,basis,state,name"
    assert lines[1] == "1,,1,0,archive,imported,محمد علي"
    lines = sudur("agency", "register", "export", "--dir", here, "--format", "jsonl").out.splitlines()
    assert len(lines) == 2
    actions = sudur("agency", "register", "journal", "--dir", here).out
    assert actions.count("  import  ") == 1
    assert actions.count("  export  ") == 2


def test_backup_and_restore_by_command(sudur: Commands, tmp_path: Path) -> None:
    here, copy = tmp_path / "a", tmp_path / "copy.db"
    assert sudur("agency", "keygen", "--dir", here).code == 0
    with open_register(here) as register:
        add(register, [new_document("نور")])
    assert sudur("agency", "register", "backup", copy, "--dir", here).code == 0
    restoring = ("agency", "register", "restore", copy, "--dir", here)
    assert_one_line(sudur(*restoring), 1, "is not overwritten")
    for path in here.glob("register.db*"):
        path.unlink()
    assert sudur(*restoring).code == 0
    assert "نور" in sudur("agency", "register", "search", "نور", "--dir", here).out


def test_a_register_under_a_passphrase(
    sudur: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "a"
    monkeypatch.setenv("SUDUR_PASSPHRASE", "open sesame")
    assert sudur("agency", "keygen", "--dir", here).code == 0
    assert sudur("agency", "register", "search", "x", "--dir", here).code == 0
    monkeypatch.setenv("SUDUR_PASSPHRASE", "open sesamo")
    assert_one_line(sudur("agency", "register", "search", "x", "--dir", here), 1, "not this key's")
    monkeypatch.delenv("SUDUR_PASSPHRASE")
    assert_one_line(sudur("agency", "register", "search", "x", "--dir", here), 1, "needs its passphrase")


def test_the_registers_name_is_no_label(sudur: Commands, tmp_path: Path) -> None:
    done = sudur("agency", "keygen", "--dir", tmp_path / "a", "--label", "register")
    assert_one_line(done, 64, "--label register")


def test_a_register_is_of_one_version(tmp_path: Path) -> None:
    with open_register(tmp_path / "a") as register:
        register.run("PRAGMA user_version = 7")
        box = register.box
    with pytest.raises(RegisterProblem, match="of this version"):
        Register(tmp_path / "a" / "register.db", box)
