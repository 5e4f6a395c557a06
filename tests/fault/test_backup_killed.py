"""Backups and restores killed at moments that nobody chose: the same call again, and all is there."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from ledger.backups import MANIFEST
from ledger.trust import Trust
from node.checking.fsck import run_fsck
from node.copying.archive import read_manifest
from node.copying.backup import verify_backup
from tests.fault.archiving import BLOCKS
from tests.node.blocks import Log, small_world
from tests.node.test_backup import trusted_of

LOG = Log.of(small_world(BLOCKS))
TRUSTED = trusted_of(LOG)


def run_until(lines: int | None, *arguments: str | Path) -> bool:
    """Run tests.fault.archiving and kill it after so many lines; whether it ended by itself, and well."""
    command = [sys.executable, "-m", "tests.fault.archiving", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for count, _ in enumerate(process.stdout, 1):
            if count == lines:
                process.kill()
                break
        process.wait()
    assert process.returncode in (0, -9)
    return process.returncode == 0


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_killed_backup_goes_on(tmp_path: Path) -> None:
    chance = random.Random(4)
    directory = tmp_path / "backup"
    held = 0
    for _ in range(6):
        if run_until(chance.randrange(1, 6), "backup", directory):
            break
        if (directory / MANIFEST).exists():
            now = verify_backup(directory, TRUSTED).blocks
            assert now >= held
            held = now
    assert held > 0
    assert run_until(None, "backup", directory)
    assert verify_backup(directory, TRUSTED).root == LOG.root(LOG.size)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_killed_restore_goes_on(tmp_path: Path) -> None:
    chance = random.Random(5)
    directory, data = tmp_path / "backup", tmp_path / "data"
    assert run_until(None, "backup", directory)
    for _ in range(6):
        if run_until(chance.randrange(1, 6), "restore", directory, data):
            break
        assert not data.exists()
    assert data.exists() or run_until(None, "restore", directory, data)
    report = run_fsck(data, trust=Trust((TRUSTED,)))
    assert report.sound, str(report)
    assert report.size == read_manifest(directory).size == LOG.size
