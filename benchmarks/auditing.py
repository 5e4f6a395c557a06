"""The audit of a long log: ``python -m benchmarks.auditing DIR [--entries N]``. 10 million: minutes; 2 GB.

A log of bulk issuances, 256 documents a signature and 64 submissions a block, is made once as static files;
then it is audited from nothing: every signature, root, tile, duplicate and seal. Beside it stand the hashes
that no audit can leave out (each leaf, the node above it in its submission's tree, and in the log's), counted
by one process on one core in the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import subprocess
import sys
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final

from benchmarks.report import Row, best, markdown
from ledger import rules
from ledger.checkpoints import Checkpoint, sign_checkpoint
from ledger.notes import VerifierKey
from ledger.records import Basis, Issue
from ledger.resources import CHECKPOINT
from ledger.submissions import open_submission, pack
from ledger.tiles import TILE_WIDTH, encode_bundle, entries_path, tile_path
from ledger.tree import Tree
from ledger.trust import Trust, TrustedLedger
from tests.ledger.static import StaticLedger
from tests.ledger.world import ORIGIN, MemoryReader, World, log_key, sign_submission, signer

ENTRIES: Final = 10_000_000
RECORDS: Final = 256
SUBMISSIONS: Final = 64


class Fresh(MemoryReader):
    """Knows no document, and keeps none: the generator's memory stays small."""

    def find_issues(self, keys: Sequence[bytes]) -> list[int | None]:
        return [None] * len(keys)


def make(directory: Path, entries: int) -> None:
    """Static files of a log with at least so many entries, and ``trust.json`` beside them. 4 µs an entry."""
    log = directory / "log"
    if (directory / "trust.json").exists():
        return
    shutil.rmtree(log, ignore_errors=True)
    world = World()
    world.define_type()
    world.enrol(types=(0, 1))
    state, reader = world.state, Fresh()
    reader.__dict__.update(world.reader.__dict__)
    files = _Files(log)
    files.add([leaf for block in world.blocks for leaf in block])
    chance = random.Random(796)
    head = Issue(1, 1, Basis.ORIGINAL, bytes(32)).encode()[:-32]
    while files.tree.size < entries:
        draft = rules.begin(state, reader, state.time_ms + 1000)
        for _ in range(SUBMISSIONS):
            records = [head + chance.randbytes(32) for _ in range(RECORDS)]
            leaf = sign_submission(world.genesis, 1, records, draft.time_ms, {1: world.keys[1][1]})
            draft.add_submission(open_submission(leaf, pack(records)))
        transition = draft.seal()
        reader.daily.update(transition.daily)
        state = transition.state
        files.add(transition.leaves, transition.leaf_hashes)
    files.finish()
    static = StaticLedger(ORIGIN, [signer("log")])
    static._add_status(state)
    static._add_registry(state.registry)
    for path, data in static.files.items():
        files.write(path, data)
    keys = [VerifierKey.parse(log_key("log"))]
    trusted = TrustedLedger.founded(world.genesis, ORIGIN, keys)
    (directory / "trust.json").write_bytes(Trust((trusted,)).encode())


class _Files:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.tree = Tree.empty()
        self._tail: list[bytes] = []
        self._made: set[Path] = set()

    def add(self, leaves: Sequence[bytes], hashes: Sequence[bytes] | None = None) -> None:
        hashed = hashes or [sha256(b"\x00" + leaf).digest() for leaf in leaves]
        first = self.tree.size // TILE_WIDTH
        self.tree, tiles = self.tree.append(hashed)
        for tile in tiles:
            if tile.id.width == TILE_WIDTH:
                self.write(tile.id.path(), tile.data)
        self._tail += leaves
        full = len(self._tail) // TILE_WIDTH
        for number in range(full):
            part = self._tail[number * TILE_WIDTH : (number + 1) * TILE_WIDTH]
            self.write(entries_path(first + number), encode_bundle(part))
        del self._tail[: full * TILE_WIDTH]

    def finish(self) -> None:
        if self._tail:
            number = self.tree.size // TILE_WIDTH
            self.write(entries_path(number, len(self._tail)), encode_bundle(self._tail))
        for level, data in enumerate(self.tree.partials):
            if data:
                self.write(tile_path(level, self.tree.size >> 8 * (level + 1), len(data) // 32), data)
        newest = Checkpoint(ORIGIN, self.tree.size, self.tree.root())
        self.write(CHECKPOINT, sign_checkpoint(newest, [signer("log")]))

    def write(self, path: str, data: bytes) -> None:
        target = self._directory / path
        if target.parent not in self._made:
            target.parent.mkdir(parents=True, exist_ok=True)
            self._made.add(target.parent)
        target.write_bytes(data)


def run(directory: Path, entries: int = ENTRIES) -> list[Row]:
    """Make the log unless it is there, and audit it from nothing, as the command does."""
    make(directory, entries)
    data = os.urandom(65)
    bare = best(lambda: [sha256(data).digest() for _ in range(30_000)], 5) / 10_000
    state = directory / "state"
    shutil.rmtree(state, ignore_errors=True)
    line = [sys.executable, "-m", "tools.cli", "audit", str(directory / "log"), "--json"]
    line += ["--trust", str(directory / "trust.json"), "--state", str(state)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(line, capture_output=True, check=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    report = json.loads(done.stdout)
    checked = report["checked"]
    assert report["verdict"] == "clean", report["findings"]
    size, seconds = checked["size"], checked["seconds"]
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    hashes = f"its three hashes alone, on one core, {1 / bare:,.0f}/s"
    disk = sum(path.stat().st_size for path in state.rglob("*") if path.is_file())
    return [
        Row(
            f"audit of {size:,} entries, from files",
            size / seconds,
            "/s",
            hashes,
            size / seconds * bare,
            "≥ 400,000/s",
        ),
        Row("CPU of both processes, an entry", cpu_s / size * 1e6, "µs", "three hashes", cpu_s / size / bare),
        Row("resident memory of the larger process, peak", after.ru_maxrss / 1024, "MiB"),
        Row("state on disk, an entry", disk / size, "bytes"),
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--entries", type=int, default=ENTRIES)
    options = parser.parse_args()
    print(markdown(run(options.directory, options.entries)), end="")
