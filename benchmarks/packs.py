"""Offline packs at national size: ``python -m benchmarks.packs [--documents N] [--leaves N]``. Two minutes.

The static files of a log of 17 million documents are written as any server has them: every leaf is an ISSUE
or the SUBMISSION over 256 of them, and every hash is made. A thousand real agencies stand in the registry
and one document in 200 is revoked. What is not there, for no pack needs it, are signatures over the
submissions and the bundles of leaves, but for two.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from benchmarks.report import Row, best, markdown
from ledger import changes
from ledger.changes import Subject
from ledger.checkpoints import Checkpoint, sign_checkpoint
from ledger.codes import code_of, parse_code
from ledger.documents import Document, Field
from ledger.hashing import leaf_hash, merkle_root, node_hash
from ledger.judging import Asked
from ledger.leaves import LeafType
from ledger.merkle_list import MerkleList
from ledger.pack_bytes import encode_statuses, statuses_in, with_statuses
from ledger.pack_verifier import verify_code
from ledger.packs import Form
from ledger.proofs import prove_inclusion
from ledger.records import Basis, Issue
from ledger.resources import (
    CHECKPOINT,
    registry_ledger_path,
    registry_record_path,
    registry_tile_path,
    status_chunk_path,
    status_list_path,
)
from ledger.seals import Seal
from ledger.status import EMPTY_CHUNK, chunk_count, compress_chunk
from ledger.tiles import TILE_WIDTH, TileNodeReader, encode_bundle, entries_path, tile_path
from ledger.tree import Tree
from ledger.trust import Trust, TrustedLedger
from ledger.verdicts import VerdictCode
from tests.ledger.world import ORIGIN, World, entitlement, signer
from tools.audit.sources import DirectoryResources, open_source
from tools.client_tls import ClientTls
from tools.pack.files import read_delta, read_pack
from tools.pack.making import Maker, verify_file

DOCUMENTS: Final = 17_000_000
LEAVES_DOCUMENTS: Final = 2_000_000
AGENCIES: Final = 1_000
REVOKED: Final = 200
DAY: Final = 50_000
_SEED: Final = bytes(range(16))
_BATCH: Final = 256 * 257
_DAY_MS: Final = 86_400_000
_FIELDS: Final = (
    *(changes.FieldDefinition(f"f{n}", {"en": f"Field {n}"}, True, False, False, True) for n in range(7)),
    changes.FieldDefinition("expires", {"en": "Valid until"}, True, True, True, False),
)


@dataclass
class Nation:
    """The static files of a log that grows by documents. ``with_runs``: level 0, too, for the leaves form."""

    directory: Path
    with_runs: bool
    world: World = field(default_factory=World)
    tree: Tree = field(default_factory=Tree.empty)
    statuses: dict[int, bytes] = field(default_factory=dict)
    chance: random.Random = field(default_factory=lambda: random.Random(17))
    documents: int = 0
    block: int = 0
    time_ms: int = 0
    edge_run: int = 0

    def __post_init__(self) -> None:
        world = self.world
        world.change(Subject("type", 1), changes.TypeDefined({"en": "Certificate"}, _FIELDS))
        body = [(f"دائرة {n}", f"فەرمانگەی {n}", f"Agency {n}") for n in range(1, AGENCIES + 1)]
        draft = world.begin()
        for number, (arabic, kurdish, english) in enumerate(body, 1):
            names = {"ar": arabic, "ckb": kurdish, "en": english}
            change = changes.AgencyEnrolled(names, 0, entitlement(("issue",), (0, 1)))
            world.change(Subject("agency", number), change, draft=draft)
        world.seal(draft)
        self.time_ms = world.now
        self.index = 0
        self._append([leaf for block in world.blocks for leaf in block])
        fields = [Field.text(one.name, "ئازاد حسن محەمەد") for one in _FIELDS[:-1]]
        self.document = Document.build(1, 1, [*fields, Field.text("expires", "2031-12-31")])
        self.index = self.tree.size + 1
        commitment = self.document.commitment(world.genesis, _SEED)
        self._append([_submission(1), Issue(1, 1, Basis.ORIGINAL, commitment).encode()])
        self.documents = 1

    @property
    def trust(self) -> Trust:
        keys = self.world.log_keys
        return Trust((TrustedLedger.founded(self.world.genesis, ORIGIN, keys),))

    def grow(self, documents: int, revoked: int) -> None:
        """A block, as it were, of that many documents; then what the newest checkpoint needs is written."""
        first = self.tree.size
        made = 0
        while made < documents:
            batch: list[bytes] = []
            while len(batch) < _BATCH and made < documents:
                count = min(TILE_WIDTH, documents - made)
                agency = 1 + self.chance.randrange(AGENCIES)
                front = Issue(agency, 1, Basis.ORIGINAL, bytes(32)).encode()[:-32]
                start = self.documents + made
                batch.append(_submission(count))
                batch += [front + number.to_bytes(32, "big") for number in range(start, start + count)]
                made += count
            self._append(batch)
        self.documents += made
        if revoked:
            found = sorted(self.chance.sample(range(first, self.tree.size), revoked))
            self.statuses = with_statuses(self.statuses, [(index, 1) for index in found])
        self._seal()

    def rename(self, number: int) -> None:
        """A change to the registry: agency ``number`` has another name."""
        self.world.change(Subject("agency", number), changes.AgencyRenamed({"en": f"Renamed {number}"}))

    def _seal(self) -> None:
        registry = self.world.state.registry
        self.time_ms += _DAY_MS
        self.block += 1
        size = self.tree.size + 1
        hashes = [leaf_hash(self.statuses.get(n, EMPTY_CHUNK)) for n in range(chunk_count(size))]
        root = merkle_root(hashes)
        seal = Seal(1, self.block, self.time_ms, 0, self.documents, root, registry.root)
        self._append([seal.encode()])
        self._partials()
        self._write(status_list_path(root), b"".join(hashes))
        for number, chunk in self.statuses.items():
            self._write(status_chunk_path(hashes[number]), compress_chunk(chunk))
        self._records(registry)
        self._bundle(size - 1, seal.encode())
        head = Checkpoint(ORIGIN, size, self.tree.root())
        self._write(CHECKPOINT, sign_checkpoint(head, [signer("log")]))

    def _bundle(self, index: int, leaf: bytes) -> None:
        """The bundle of the seal: what stands beside it there is never looked at."""
        width = index % TILE_WIDTH + 1
        self._write(entries_path(index // TILE_WIDTH, width), encode_bundle([b""] * (width - 1) + [leaf]))

    def _records(self, registry: Any) -> None:
        records = [registry.ledger.encode()]
        records += [registry.agencies[n].record.encode() for n in range(1, len(registry.agencies) + 1)]
        records += [registry.types[n].encode() for n in range(1, len(registry.types) + 1)]
        self._write(registry_ledger_path(registry.root), records[0])
        hashes = [leaf_hash(one) for one in records]
        for one, record in zip(hashes, records, strict=True):
            self._write(registry_record_path(one), record)
        level = 0
        while hashes:
            for number in range(-(-len(hashes) // TILE_WIDTH)):
                row = hashes[number * TILE_WIDTH : (number + 1) * TILE_WIDTH]
                self._write(registry_tile_path(registry.root, level, number, len(row)), b"".join(row))
            full = len(hashes) // TILE_WIDTH
            hashes = [MerkleList.of(hashes[n * TILE_WIDTH : (n + 1) * TILE_WIDTH]).root for n in range(full)]
            level += 1

    def _append(self, leaves: Sequence[bytes]) -> None:
        self.tree, tiles = self.tree.append([sha256(b"\0" + leaf).digest() for leaf in leaves])
        for tile in tiles:
            kept = tile.id.level or self.with_runs or self._is_kept(tile.id.index)
            if kept and tile.id.width == TILE_WIDTH:
                self._write(tile.id.path(), tile.data)

    def _is_kept(self, run: int) -> bool:
        """Of level 0 only the document's run is there, and those in which a checkpoint ends."""
        return run in (self.index // TILE_WIDTH, self.edge_run)

    def _partials(self) -> None:
        """The tiles of the right edge, in the width of now."""
        self.edge_run = self.tree.size // TILE_WIDTH
        for level, data in enumerate(self.tree.partials):
            if data:
                width = len(data) // 32
                number = (self.tree.size >> 8 * level) // TILE_WIDTH
                self._write(tile_path(level, number, width), data)

    def _write(self, path: str, data: bytes) -> None:
        target = self.directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)


def _submission(count: int) -> bytes:
    """Bytes of the length that a SUBMISSION with one Ed25519 signature has."""
    return bytes((1, LeafType.SUBMISSION)) + count.to_bytes(4, "big") + bytes(115)


@contextmanager
def _served(directory: Path) -> Iterator[str]:
    """The files over HTTP, by a process of its own."""
    code = "import sys; from benchmarks.packs import serve; serve(sys.argv[1])"
    words = [sys.executable, "-c", code, str(directory)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.terminate()
        process.wait()


class _Quiet(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        return


def serve(directory: str) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=directory))
    print(server.server_port, flush=True)
    server.serve_forever()


def run(data: Path, documents: int = DOCUMENTS, leaves: int = LEAVES_DOCUMENTS) -> list[Row]:
    return [*_subtrees(data / "subtrees", documents), *_leaves(data / "leaves", leaves)]


def _subtrees(data: Path, documents: int) -> list[Row]:
    nation = Nation(data / "static", with_runs=False)
    began = time.perf_counter()
    nation.grow(documents - 1, documents // REVOKED)
    print(f"a log of {documents:,} documents: {time.perf_counter() - began:.0f} s", file=sys.stderr)
    trust, now_ms = nation.trust, nation.time_ms
    static = DirectoryResources(nation.directory)
    path, other = data / "ledger.pack", data / "other.pack"
    maker = Maker(trust, now_ms)
    made = maker.create(static, Form.SUBTREES, path)
    full = made.opened.pack.full
    row = [sha256(b"%d" % n).digest() for n in range(full)]
    hashes_s = best(lambda: merkle_root(row), 3)
    create_s = best(lambda: maker.create(static, Form.SUBTREES, path), 2)
    with _served(nation.directory) as url:
        source = open_source(url, ClientTls())
        http = maker.create(source, Form.SUBTREES, other)
        source.close()
    assert path.read_bytes() == other.read_bytes()
    check_s = best(lambda: verify_file(path, trust), 3)
    opened = read_pack(path).open(trust)
    chunks = b"".join(compress_chunk(one) for one in opened.pack.statuses.values())
    statuses = encode_statuses(statuses_in(opened.pack.statuses))
    at = f"{documents:,} documents"
    beside = f"the hashes over its {full:,} runs alone, {hashes_s * 1e3:.0f} ms"
    rows = [
        Row(f"pack of {at}, subtrees: size", made.file_bytes / 1e6, "MB", "32 bytes a leaf, "
            f"{made.opened.size * 32 / 1e6:.0f} MB", made.opened.size * 32 / made.file_bytes),
        Row(f"made from files on disk, {at}", create_s, "s", beside, create_s / hashes_s, "< 10 s"),
        Row(f"made over HTTP, {http.fetches:,} fetches, {at}", http.seconds, "s", "", None, "< 10 s"),
        Row(f"read and proven as a whole, {at}", check_s, "s", beside, check_s / hashes_s, "< 2 s"),
        Row(f"statuses of {documents // REVOKED:,} revoked", len(statuses) / 1e3, "kB",
            f"chunks as zlib, {len(chunks) / 1e3:.0f} kB", len(chunks) / len(statuses)),
    ]  # fmt: skip
    rows += _verified(nation, path, trust, now_ms, at)
    rows += _deltas(nation, data, path, trust)
    return rows


def _verified(nation: Nation, path: Path, trust: Trust, now_ms: int, at: str) -> list[Row]:
    opened = read_pack(path).open(trust)
    reader = TileNodeReader(_Log(nation.directory), opened.size)
    proof = tuple(prove_inclusion(reader, nation.index, opened.size))
    code = code_of((nation.document, _SEED), nation.world.genesis, Basis.ORIGINAL, nation.index, proof[:8])
    text, asked = code.text(), Asked(now_ms)

    def once() -> None:
        found = verify_code(parse_code(text), opened, trust, asked).verdict.code
        assert found is VerdictCode.GENUINE, found

    rounds = 300
    verify_s = best(lambda: _repeat(once, rounds), 3) / rounds
    fields = len(nation.document.fields)
    bare_s = best(lambda: _repeat(lambda: _bare(fields), rounds), 3) / rounds
    words = ["verify", text, "--pack", str(path), "--trust", str(path.parent / "trust.json")]
    (path.parent / "trust.json").write_bytes(trust.encode())
    began = time.perf_counter()
    ended = subprocess.run([sys.executable, "-m", "tools.cli", *words], capture_output=True, check=False)
    cold_s = time.perf_counter() - began
    assert ended.returncode == 0, ended
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "tools.cli", "--version"], capture_output=True, check=True)
    bare_cold_s = time.perf_counter() - began
    return [
        Row(f"one code verified, pack loaded, {at}", verify_s * 1e3, "ms",
            f"its hashes alone, {bare_s * 1e6:.0f} µs", verify_s / bare_s, "< 5 ms"),
        Row("a code with its path", len(text), "digits"),
        Row(f"sudur verify CODE --pack, a process of its own, {at}", cold_s, "s",
            f"sudur --version, {bare_cold_s:.1f} s", cold_s / bare_cold_s),
    ]  # fmt: skip


def _repeat(work: Callable[[], None], rounds: int) -> None:
    for _ in range(rounds):
        work()


def _bare(fields: int) -> None:
    """The hashes that no verifier of such a code avoids: salts, field leaves, their tree, leaf, path."""
    found = [leaf_hash(sha256(b"s" * 80).digest() + b"x" * 40) for _ in range(fields * 3)]
    merkle_root(found[:fields])
    node = leaf_hash(found[0] + b"x" * 9)
    for _ in range(8):
        node = node_hash(node, found[1])


@dataclass
class _Log:
    directory: Path

    def tile(self, level: int, index: int, width: int) -> bytes:
        return DirectoryResources(self.directory).fetch(tile_path(level, index, width))


def _deltas(nation: Nation, data: Path, path: Path, trust: Trust) -> list[Row]:
    rows = []
    static = DirectoryResources(nation.directory)
    for what, days in (("an idle day", 0), ("a day", 1), ("a week", 7)):
        old = data / "old.pack"
        old.write_bytes(path.read_bytes())
        before = read_pack(old)
        whole = path.stat().st_size
        if days:
            nation.rename(days)
        nation.grow(days * DAY, days * DAY // REVOKED)
        maker = Maker(trust, nation.time_ms)
        delta = data / "delta"
        made = maker.delta(before, static, delta)
        apply_s = maker.apply(read_pack(path), read_delta(delta)).seconds
        fresh = maker.update(read_pack(old), static)
        assert path.read_bytes() == old.read_bytes()
        said = f", {days * DAY:,} documents" if days else ""
        rows.append(
            Row(f"delta of {what}{said}", made.file_bytes / 1e3, "kB", f"the whole pack {whole / 1e6:.2f} MB",
                whole / made.file_bytes)
        )  # fmt: skip
        rows.append(Row(f"delta of {what} applied, and the pack proven and synced", apply_s, "s"))
        rows.append(
            Row(f"update over {what}, {fresh.fetches} fetches", fresh.fetched_bytes / 1e3, "kB fetched")
        )
    return rows


def _leaves(data: Path, documents: int) -> list[Row]:
    nation = Nation(data / "static", with_runs=True)
    nation.grow(documents - 1, documents // REVOKED)
    trust, now_ms = nation.trust, nation.time_ms
    static, path = DirectoryResources(nation.directory), data / "ledger.pack"
    maker = Maker(trust, now_ms)
    made = maker.create(static, Form.LEAVES, path)
    check_s = best(lambda: verify_file(path, trust), 2)
    file = read_pack(path)
    opened = file.open(trust)
    code = code_of((nation.document, _SEED), nation.world.genesis, Basis.ORIGINAL, nation.index)
    asked = Asked(now_ms)
    rounds = 100

    def once() -> None:
        assert verify_code(code, opened, trust, asked).verdict.code is VerdictCode.GENUINE

    verify_s = best(lambda: _repeat(once, rounds), 3) / rounds
    leaves = opened.size
    row = [sha256(b"%d" % n).digest() for n in range(1 << 16)]
    bare = best(lambda: merkle_root(row), 3) / (1 << 16) * leaves
    at = f"{documents:,} documents"
    beside = f"its node hashes alone, {bare:.2f} s"
    return [
        Row(f"pack of {at}, leaves: size", made.file_bytes / 1e6, "MB"),
        Row(f"made from files on disk, leaves, {at}", made.seconds, "s", beside, made.seconds / bare),
        Row(f"read and proven with every leaf hash, {at}", check_s, "s", beside, check_s / bare),
        Row("one code verified, pack loaded, leaves", verify_s * 1e3, "ms", "", None, "< 5 ms"),
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.packs", description=__doc__)
    parser.add_argument("--documents", type=int, default=DOCUMENTS)
    parser.add_argument("--leaves", type=int, default=LEAVES_DOCUMENTS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sudur-benchmarks-") as temporary:
        print(markdown(run(Path(temporary), options.documents, options.leaves)))
