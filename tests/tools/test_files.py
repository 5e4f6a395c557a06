"""Files: old or new and never a part, capped, locked."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from tools import files
from tools.agency.issuing import digest_file
from tools.errors import DirectoryInUse, FileProblem
from tools.ui import Passphrase


def test_a_write_replaces_the_whole(tmp_path: Path) -> None:
    path = tmp_path / "f"
    files.write_file(path, b"one")
    files.write_file(path, b"two")
    assert path.read_bytes() == b"two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["f"]


def test_a_write_that_fails_leaves_the_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    files.write_file(path, b"one")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileProblem, match="No space left"):
        files.write_file(path, b"two")
    assert path.read_bytes() == b"one"
    assert os.listdir(tmp_path) == ["f"]


def test_a_new_file_is_never_written_over_another(tmp_path: Path) -> None:
    files.write_new_file(tmp_path / "f", b"one", files.PUBLIC)
    with pytest.raises(FileProblem, match="exists already"):
        files.write_new_file(tmp_path / "f", b"two")
    assert (tmp_path / "f").read_bytes() == b"one"
    assert os.listdir(tmp_path) == ["f"]


@pytest.mark.parametrize("name", ["ش" * 127, "f" * 255])
def test_a_name_may_be_as_long_as_a_name_can_be(tmp_path: Path, name: str) -> None:
    files.write_new_file(tmp_path / name, b"one")
    files.write_file(tmp_path / name, b"two")
    assert (tmp_path / name).read_bytes() == b"two"


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), Path("/dev/null"), tmp_path):
        for read in (lambda path: files.read_file(path, 4), digest_file):
            with pytest.raises(FileProblem, match="not a file"):
                read(path)
    (tmp_path / "link").symlink_to(tmp_path / "f")
    (tmp_path / "f").write_bytes(b"1234")
    assert files.read_file(tmp_path / "link", 4) == b"1234"


def test_a_passphrase_may_come_through_a_pipe(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.write(write, b"open sesame\n")
    os.close(write)
    try:
        assert Passphrase(Path(f"/dev/fd/{read}")).given() == "open sesame"
    finally:
        os.close(read)


def test_reads_are_capped(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"12345")
    assert files.read_file(tmp_path / "f", 5) == b"12345"
    with pytest.raises(FileProblem, match="larger than 4"):
        files.read_file(tmp_path / "f", 4)
    with pytest.raises(FileProblem, match="No such file"):
        files.read_file(tmp_path / "g", 4)
    with pytest.raises(FileProblem, match="directory"):
        files.read_file(tmp_path, 4)


def test_a_directory_is_one_commands_at_a_time(tmp_path: Path) -> None:
    with files.locked(tmp_path), pytest.raises(DirectoryInUse), files.locked(tmp_path):
        pass
    with files.locked(tmp_path):
        pass


def test_a_lock_is_waited_for(tmp_path: Path) -> None:
    """Somebody else has it for a moment: that is no reason to give up."""
    held, free = threading.Event(), threading.Event()

    def hold() -> None:
        with files.locked(tmp_path):
            held.set()
            free.wait(10)

    other = threading.Thread(target=hold)
    other.start()
    assert held.wait(10)
    with pytest.raises(DirectoryInUse), files.locked(tmp_path, 0.05):
        pass
    threading.Timer(0.1, free.set).start()
    with files.locked(tmp_path, 10):
        assert free.is_set()
    other.join()
