"""Old backups, copies, lost marks, damaged files: a witness that is not sure of its state does not start."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

from ledger.cosignatures import verify_cosignatures
from ledger.errors import SudurError
from ledger.notes import Note, SignatureType, VerifierKey, parse_note, parse_signatures
from node.errors import DataInUse
from tests.tools.helpers import Commands, assert_one_line
from tests.tools.witness.serving import Files, start_process, witness
from tests.tools.witness.some_log import SomeLog
from tools.errors import DirectoryInUse
from tools.witness.refusals import StateLost

LOG = SomeLog()


def lived(root: Path, old: int, *sizes: int) -> None:
    """A life of the witness in ``root`` that cosigns these sizes."""
    with witness(root, LOG.witnessed) as (found, _):
        for size in sizes:
            found.cosign(LOG, old, size)
            old = size


def refused(root: Path, kind: type[SudurError] = StateLost) -> str:
    with pytest.raises(kind) as error, witness(root, LOG.witnessed):
        pass
    return str(error.value)


def test_an_old_backup_of_the_state_is_refused(tmp_path: Path) -> None:
    lived(tmp_path, 0, 5)
    shutil.copytree(tmp_path / "data", tmp_path / "backup")
    lived(tmp_path, 5, 6, 7, 8)
    shutil.rmtree(tmp_path / "data")
    shutil.copytree(tmp_path / "backup", tmp_path / "data")
    said = refused(tmp_path)
    assert "went back: it has 1 writes, and this key has cosigned after 4" in said
    assert "new key" in said


def test_another_directory_is_refused(tmp_path: Path) -> None:
    lived(tmp_path, 0, 5)
    shutil.rmtree(tmp_path / "data")
    assert "not the one that this key has cosigned by" in refused(tmp_path)


def test_a_copy_that_went_on_is_refused(tmp_path: Path) -> None:
    """Key, mark and state were copied, and both cosigned; then one of the states meets the other's mark."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    lived(here, 0, 5)
    shutil.copytree(here, there)
    lived(here, 5, 6)
    with witness(there, LOG.witnessed) as (found, _):
        found.cosign(LOG, 5, 7)
    shutil.copy(Files(there).mark, Files(here).mark)
    assert "copy" in refused(here) or "not the one" in refused(here)


def test_a_lost_mark_is_refused(tmp_path: Path) -> None:
    lived(tmp_path, 0, 5)
    mark = Files(tmp_path).mark
    kept = mark.read_bytes()
    mark.unlink()
    # Made anew for the same key, it has cosigned nothing: and the state says otherwise.
    assert "cosigned nothing, the state has 1 writes" in refused(tmp_path)
    mark.write_bytes(kept)
    lived(tmp_path, 5, 6)
    mark.write_bytes(kept[:-1])
    assert "no mark file" in refused(tmp_path)
    mark.write_bytes(kept[:4096] + bytes(len(kept) - 4096))
    assert "neither of its two slots" in refused(tmp_path)


def test_a_damaged_state_is_refused(tmp_path: Path) -> None:
    lived(tmp_path, 0, 5)
    path = tmp_path / "data" / "heads.db"
    kept = path.read_bytes()
    path.write_bytes(kept[:100] + bytes(4096) + kept[4196:])
    assert "damaged" in refused(tmp_path)
    path.write_bytes(kept)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE head SET size = 3")
    connection.commit()
    connection.close()
    assert "the head of log.example/one is damaged" in refused(tmp_path)


def test_two_at_a_time_are_refused(tmp_path: Path) -> None:
    with witness(tmp_path, LOG.witnessed):
        assert "at work" in refused(tmp_path, DirectoryInUse)
        (tmp_path / "data").rename(tmp_path / "moved")
        assert "another witness holds this mark" in refused(tmp_path, DataInUse)
        (tmp_path / "data" / ".lock").unlink()
        for one in (tmp_path / "data").iterdir():
            one.unlink()
        (tmp_path / "data").rmdir()
        (tmp_path / "moved").rename(tmp_path / "data")


def test_a_key_without_its_mark_does_not_start(tmp_path: Path, sudur: Commands) -> None:
    files = Files(tmp_path)
    made = sudur("witness", "init", "witness.example/w", "--key", files.key)
    assert made.code == 0
    assert made.out.startswith("witness.example/w+")
    again = sudur("witness", "init", "witness.example/w", "--key", files.key)
    assert_one_line(again, 1, "mark already")
    files.mark.rename(tmp_path / "elsewhere")
    start = ("witness", "start", "--data", files.data, "--key", files.key, "--listen", "127.0.0.1:0")
    assert_one_line(sudur(*start), 1, "no mark file", "new key")
    assert sudur("witness", "init", "witness.example/v", "--key", tmp_path / "other").code == 0
    assert_one_line(sudur(*start, "--mark", tmp_path / "other.mark"), 1, "not that of the witness")


def test_a_further_key_cosigns_under_the_same_name(tmp_path: Path, sudur: Commands) -> None:
    files, name = Files(tmp_path), "witness.example/w"
    first = sudur("witness", "init", name, "--key", files.key).out.strip()
    second = sudur("witness", "keygen", name, "--key", tmp_path / "second").out.strip()
    assert VerifierKey.parse(second).type is SignatureType.ML_DSA_44
    (tmp_path / "logs").write_text(f"logs/v0\nvkey {LOG.signer.key().format()}\n")
    found = start_process(files, "--key", tmp_path / "second", "--log", tmp_path / "logs")
    try:
        answer = found.ask(LOG.request(0, 4))
        note = Note(parse_note(LOG.note(4)).text, parse_signatures(answer.content))
        keys = [VerifierKey.parse(first), VerifierKey.parse(second)]
        assert [one.key for one in verify_cosignatures(note, keys)] == keys
    finally:
        assert found.stop().code == 0


@pytest.mark.parametrize("name", ["", "two words", "a+b", "x" * 256])
def test_names_that_none_can_have(tmp_path: Path, sudur: Commands, name: str) -> None:
    done = sudur("witness", "init", name, "--key", tmp_path / "key")
    assert_one_line(done, 1, "key name")
    assert list(tmp_path.iterdir()) == []
