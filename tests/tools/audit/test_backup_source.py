"""A backup, audited: without a node, and without a network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ledger.backups import MANIFEST, Manifest
from ledger.checkpoints import Checkpoint, sign_checkpoint
from ledger.hashing import leaf_hashes
from ledger.submissions import pack
from ledger.tree import Tree
from ledger.trust import Trust
from node.copying.archive import open_archive
from node.copying.block_source import Block
from tests.ledger.world import ORIGIN
from tests.tools.audit.logs import LOG, ServedWorld
from tests.tools.helpers import Commands
from tools.audit import engine
from tools.audit.backup_source import BackupResources
from tools.audit.engine import AuditedLog
from tools.audit.feed import portions
from tools.audit.sources import open_source
from tools.client_tls import ClientTls
from tools.errors import NotFound

FILES = 4


@pytest.fixture(scope="module")
def world() -> ServedWorld:
    made = ServedWorld()
    made.live(range(8))
    return made


def back_up(world: ServedWorld, directory: Path, *, with_notes: bool = True) -> Path:
    """Its blocks in several files."""
    tree, each = Tree.empty(), len(world.blocks) // FILES
    with open_archive(directory) as archive:
        for number, leaves in enumerate(world.blocks):
            tree, _ = tree.append(leaf_hashes(leaves))
            note = sign_checkpoint(Checkpoint(ORIGIN, tree.size, tree.root()), [LOG])
            archive.add(Block(number, pack(leaves), note if with_notes else None))
            if number % each == each - 1 or number == len(world.blocks) - 1:
                manifest = Manifest(
                    world.genesis, ORIGIN, archive.next, tree.size, tree.root(), note, tree.partials, (), 5
                )
                archive.commit(manifest)
    return directory


@pytest.mark.parametrize("with_notes", [True, False])
def test_a_backup_is_audited(
    sudur: Commands, world: ServedWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_notes: bool
) -> None:
    monkeypatch.setattr(engine, "STRETCH_ISSUES", 100)
    monkeypatch.setattr(engine, "FAR", 0)
    directory = back_up(world, tmp_path / "backup", with_notes=with_notes)
    trust = tmp_path / "trust.json"
    trust.write_bytes(Trust((world.trusted,)).encode())
    line = ("audit", directory, "--trust", trust, "--state", tmp_path / "state", "--json")
    for _ in range(2):
        done = sudur(*line)
        assert done.code == 0, done
        assert json.loads(done.out)["size"] == world.state.size
    path = sorted(directory.glob("*.blocks"))[2]
    path.write_bytes(path.read_bytes()[:-1])
    done = sudur(*line[:-2], tmp_path / "other", "--json")
    assert done.code == 2
    assert path.name in done.out
    assert "another copy" in done.out
    (directory / MANIFEST).write_text("{}")
    assert sudur(*line).code == 2


def test_it_serves_what_a_node_does(world: ServedWorld, tmp_path: Path) -> None:
    source = open_source(str(back_up(world, tmp_path)), ClientTls())
    assert isinstance(source, BackupResources)
    size, files = world.state.size, world.files.files
    wanted = [path for path in files if path.startswith(("tile/", "checkpoint"))]
    for path in [*wanted, *reversed(wanted)]:
        assert source.fetch(path) == files[path], path
    with pytest.raises(NotFound):
        source.fetch(f"checkpoint/{size - 1}")
    with pytest.raises(NotFound):
        source.fetch("tile/entries/900")
    with pytest.raises(NotFound):
        source.fetch("v1/ledger")


def test_it_goes_on_amid_a_backup(world: ServedWorld, tmp_path: Path) -> None:
    early = ServedWorld()
    early.live(range(3))
    with AuditedLog.open(tmp_path / "state", world.trusted) as audited:
        audited.advance(early.files, audited.open_note(early.files.checkpoint))
        source = BackupResources(back_up(world, tmp_path / "backup"))
        signed = audited.open_note(source.fetch("checkpoint"))
        assert audited.advance(source, signed, feed=lambda *way: portions(*way, bundles=1)) == world.state
