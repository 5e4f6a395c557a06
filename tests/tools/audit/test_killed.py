"""An audit that is killed at any moment goes on, alarms nobody, and leaves nothing out."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from multiprocessing import active_children
from pathlib import Path

import pytest

from ledger.resources import CHECKPOINT
from ledger.tree import Tree
from ledger.trust import Trust
from tests.tools.audit.logs import ServedWorld, write
from tests.tools.audit.serving import over_http
from tests.tools.helpers import Commands
from tools.audit import engine
from tools.audit.engine import AuditedLog, forget_replayed
from tools.audit.errors import BlockBroken, ServedWrong
from tools.audit.feed import Portion, portions
from tools.audit.helper import HelperFeed
from tools.audit.sources import open_source
from tools.audit.table import Table
from tools.client_tls import ClientTls
from tools.errors import Unavailable

AUDITOR = """
import sys
from functools import partial
from pathlib import Path
from tools.audit import engine
from tools.audit.engine import AuditedLog, Watch
from tools.audit.feed import portions
from tools.audit.sources import DirectoryResources
from tools.pinning import load_trust

engine.STRETCH_ISSUES, engine.FAR = 60, 0
log, trust, state = sys.argv[1:]
source = DirectoryResources(Path(log))
with AuditedLog.open(Path(state), load_trust(Path(trust)).ledgers[0]) as audited:
    def tell(state):
        print(state.size, flush=True)
    print(audited.size, flush=True)
    signed = audited.open_note(source.fetch("checkpoint"))
    audited.advance(source, signed, watch=Watch(block=tell), feed=partial(portions, bundles=1))
print("done")
"""


@pytest.fixture(scope="module")
def world() -> ServedWorld:
    made = ServedWorld()
    made.live(range(14))
    return made


def test_killed_at_any_block(world: ServedWorld, tmp_path: Path) -> None:
    log = write(world.files, tmp_path / "log")
    trust = tmp_path / "trust.json"
    trust.write_bytes(Trust((world.trusted,)).encode())
    chance = random.Random(5)
    began_at = []
    for _ in range(6):
        arguments = [sys.executable, "-c", AUDITOR, *map(str, (log, trust, tmp_path / "state"))]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            began_at.append(int(next(process.stdout)))
            blocks = chance.randrange(10, 60)
            for _, line in zip(range(blocks), process.stdout, strict=False):
                assert line != "", "it went on"
            process.kill()
    assert began_at == sorted(began_at)
    assert began_at[-1] > 0, "nothing was ever kept"
    with AuditedLog.open(tmp_path / "state", world.trusted) as audited:
        audited.advance(world.files, audited.open_note(world.files.fetch(CHECKPOINT)))
        assert audited.state == world.state
        keys = list(world.reader.issues)
        assert audited._index.find_issues(keys) == list(world.reader.issues.values())
        for agency in range(3):
            assert audited.figures(agency) == {
                key: n for key, n in world.reader.figures.items() if key.agency == agency and n
            }


def one_bundle(resources: object, tree: Tree, size: int) -> Iterator[Portion]:
    return portions(resources, tree, size, bundles=1)  # type: ignore[arg-type]


@pytest.mark.parametrize("written", [False, True])
def test_each_commit_fails_once(
    world: ServedWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: bool
) -> None:
    """Before the batch is written, and after it is, though it seemed to fail."""
    monkeypatch.setattr(engine, "STRETCH_ISSUES", 60)
    monkeypatch.setattr(engine, "FAR", 0)
    honest, failed = Table.write, 0

    def write_and_fail(self: Table, batch: object) -> None:
        nonlocal failed
        if written:
            honest(self, batch)  # type: ignore[arg-type]
        failed += 1
        raise OSError("the disk is gone")

    sizes = []
    for number in range(12):
        monkeypatch.setattr(Table, "write", write_and_fail if number % 2 == 0 else honest)
        with AuditedLog.open(tmp_path, world.trusted) as audited:
            sizes.append(audited.size)
            signed = audited.open_note(world.files.fetch(CHECKPOINT))
            count = failed
            try:
                audited.advance(world.files, signed, feed=one_bundle)  # type: ignore[arg-type]
            except OSError:
                assert failed == count + 1
            else:
                assert audited.state == world.state
    assert sizes == sorted(sizes)
    assert sizes[-1] == world.state.size


def test_a_repeat_across_a_kill_is_found(
    world: ServedWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of the two was replayed by a run that was stopped long before the second."""
    monkeypatch.setattr(engine, "STRETCH_ISSUES", 100)
    monkeypatch.setattr(engine, "FAR", 0)
    forged = world.copied()
    with AuditedLog.open(tmp_path, world.trusted) as audited:
        audited.advance(world.files, audited.open_note(world.files.checkpoint), feed=one_bundle)  # type: ignore[arg-type]
    forged.live([70], documents=150)
    transition = forged.forge_issues(2, [(0, 5), "new"])
    for _ in range(2):
        with AuditedLog.open(tmp_path, world.trusted) as audited, pytest.raises(BlockBroken) as caught:
            audited.advance(forged.files, audited.open_note(forged.files.checkpoint), feed=one_bundle)  # type: ignore[arg-type]
        assert caught.value.leaves == transition.leaves


def test_in_two_processes(world: ServedWorld, tmp_path: Path) -> None:
    log = str(write(world.files, tmp_path / "log"))
    feed = HelperFeed(log, ClientTls(), worthwhile=0)
    source = open_source(log, ClientTls())
    with AuditedLog.open(tmp_path / "state", world.trusted) as audited:
        signed = audited.open_note(source.fetch(CHECKPOINT))
        assert audited.advance(source, signed, feed=feed) == world.state
    forget_replayed(tmp_path / "state")
    path = Path(log) / "tile/entries/001"
    path.write_bytes(path.read_bytes()[:-1])
    with AuditedLog.open(tmp_path / "state", world.trusted) as audited, pytest.raises(ServedWrong) as caught:
        audited.advance(source, signed, feed=feed)
    assert caught.value.path == "tile/entries/001"


def test_the_helper_is_killed(world: ServedWorld, tmp_path: Path) -> None:
    """While it waits for a server that answers 429."""
    honest = world.files.files["tile/entries/000"]
    served: dict[str, bytes | int] = {**world.files.files, "tile/entries/000": 429}
    with over_http(served) as url:
        feed = HelperFeed(url, ClientTls(), worthwhile=0)
        source = open_source(url, ClientTls())
        with AuditedLog.open(tmp_path / "state", world.trusted) as audited:
            signed = audited.open_note(source.fetch(CHECKPOINT))

            def kill() -> None:
                while not (helpers := active_children()):
                    threading.Event().wait(0.01)
                helpers[0].kill()

            killer = threading.Thread(target=kill)
            killer.start()
            with pytest.raises(Unavailable, match="goes on where it stands"):
                audited.advance(source, signed, feed=feed)
            killer.join()
            served["tile/entries/000"] = honest
            assert audited.advance(source, signed, feed=feed) == world.state
        source.close()


def test_rebuilt_by_the_command(sudur: Commands, world: ServedWorld, tmp_path: Path) -> None:
    log = write(world.files, tmp_path / "log")
    trust = tmp_path / "trust.json"
    trust.write_bytes(Trust((world.trusted,)).encode())
    line = ("audit", log, "--trust", trust, "--state", tmp_path / "state")
    assert sudur(*line).code == 0
    (tmp_path / "state/replay/entries.index").write_bytes(b"damage")
    done = sudur(*line)
    assert done.code == 2
    assert "--rebuild" in done.err
    assert sudur(*line, "--rebuild").code == 0


def test_half_a_line_that_a_full_disk_left_spoils_no_later_one(tmp_path: Path) -> None:
    world = ServedWorld()
    world.live([0])
    with AuditedLog.open(tmp_path, world.trusted) as log:
        log.advance(world.files, log.open_note(world.files.fetch(CHECKPOINT)))
        with (tmp_path / "heads").open("ab") as file:
            file.write(b'{"seen_ms": 1, "no')
        world.live([1])
        newest = log.open_note(world.files.fetch(CHECKPOINT))
        log.advance(world.files, newest)
    with AuditedLog.open(tmp_path, world.trusted) as log:
        assert log.heads.newest() == newest
