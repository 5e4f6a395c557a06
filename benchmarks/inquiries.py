"""Figures and status proofs in process, out of a store of 17 million leaves.

The tree, the status list and the counters are written into the store as a node's writer leaves them,
without the documents: what these reads cost does not depend on what the leaves say. A thousand agencies
have counters of sixty months, and the whole ledger those of all of them.
"""

from __future__ import annotations

import json
import os
import random
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from benchmarks.report import Row, best, markdown
from ledger.figures import DELAY_BOUNDS_MS, FigureKey, Metric
from ledger.hashing import leaf_hash
from ledger.inquiries import AsOf, Named
from ledger.merkle_list import MerkleList
from ledger.proofs import verify_inclusion
from ledger.records import Basis, Outcome, SendKind, Status
from ledger.reports import figures_csv, figures_json, report
from ledger.status import CHUNK_SIZE, chunk_count, chunk_of, compress_chunk, read_status
from ledger.tree import Tree
from node import codec
from node.database import FIGURES, OBJECTS, TILES, Database
from node.doors.grpc_answers import figures_response
from node.doors.inquiries import AgencyFigures
from node.proofs import Proofs
from node.store import Store

LEAVES: Final = 17_000_000
AGENCIES: Final = 1_000
MONTHS: Final = range(12 * 51, 12 * 56)
TODAY: Final = 20_454
PROOFS: Final = 500
ROUNDS: Final = 15
_SLICE: Final = 65_536
_NOW: Final = AsOf(LEAVES, TODAY * 86_400_000)


def run() -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="sudur-inquiries-") as directory:
        path = Path(directory) / "db"
        database = Database(path)
        tree = _write_tree(database)
        chunks, status = _write_status(database)
        _write_figures(database)
        database.close()
        store = Store(path)
        try:
            return [*_figure_rows(store), *_status_rows(store, tree, chunks, status)]
        finally:
            store.close()


# --- the store ---------------------------------------------------------------------------------


def _write_tree(database: Database) -> Tree:
    tree = Tree.empty()
    while tree.size < LEAVES:
        count = min(_SLICE, LEAVES - tree.size)
        raw = os.urandom(count * 32)  # what these are hashes of does not matter
        tree, changed = tree.append([raw[at : at + 32] for at in range(0, len(raw), 32)])
        batch = database.batch()
        for tile in changed:
            batch.put(TILES, codec.tile_key(tile.id.level, tile.id.index), tile.data + tile.mids)
        database.write(batch)
    return tree


def _write_status(database: Database) -> tuple[MerkleList, random.Random]:
    """Chunks in which one document in two hundred is revoked."""
    choose = random.Random(1)
    batch, hashes = database.batch(), []
    for _ in range(chunk_count(LEAVES)):
        chunk = bytearray(CHUNK_SIZE)
        for _ in range(_SLICE // 200):
            chunk[choose.randrange(CHUNK_SIZE)] |= Status.REVOKED << 2 * choose.randrange(4)
        hashes.append(leaf_hash(bytes(chunk)))
        batch.put(OBJECTS, hashes[-1], bytes(chunk))
    database.write(batch)
    return MerkleList.of(hashes), choose


def _write_figures(database: Database) -> None:
    for agency in range(AGENCIES + 1):
        types, days = (30, 1_800) if agency == 0 else (5, 60)
        batch = database.batch()
        if agency == 0:
            batch.put(FIGURES, b"", codec.u64(LEAVES))
        for key in sorted(map(codec.figure_key, _keys(agency, types, days))):
            batch.put(FIGURES, key, codec.u64(5))
        database.write(batch)


def _keys(agency: int, types: int, days: int) -> Iterator[FigureKey]:
    """Every counter that an agency can have of these months, types and days of waiting."""
    for month in MONTHS:
        for document_type in range(1, types + 1):
            for basis in (Basis.ORIGINAL, Basis.ARCHIVE):
                yield FigureKey(agency, Metric.DOCUMENTS, month, document_type, basis)
        for status in Status:
            yield FigureKey(agency, Metric.STATUS, month, status)
        for kind in SendKind:
            for metric in range(Metric.SENT, Metric.ANSWERED):
                yield FigureKey(agency, Metric(metric), month, kind)
            for outcome in (Outcome.ANSWERED, Outcome.RETURNED):
                yield FigureKey(agency, Metric.ANSWERED, month, kind, outcome)
            for bucket in range(len(DELAY_BOUNDS_MS) + 1):
                yield FigureKey(agency, Metric.DELAY, month, kind, bucket)
            yield FigureKey(agency, Metric.LATE, month, kind)
    for day in range(TODAY - days, TODAY):
        for kind in SendKind:
            yield FigureKey(agency, Metric.OPEN, day, kind)
            yield FigureKey(agency, Metric.DUE, day + 14, kind)


# --- what is measured --------------------------------------------------------------------------


def _figure_rows(store: Store) -> list[Row]:
    rows = []
    for agency, whose in ((AGENCIES // 2, "one agency"), (0, "the whole ledger")):
        figures, _ = store.figures(agency)
        made = report(agency, figures, _NOW)
        of = f"{whose} ({len(figures):,} counters)"

        def grpc(agency: int = agency) -> bytes:
            read, size = store.figures(agency)
            answer = AgencyFigures(Named(agency, {}), read, AsOf(size, _NOW.time_ms))
            return figures_response(answer).SerializeToString()

        def rows_of(figures: Mapping[FigureKey, int] = figures) -> str:
            return figures_csv(0, figures, _NOW)

        def http(agency: int = agency) -> str:
            read, _ = store.figures(agency)
            return json.dumps(figures_json(read, report(agency, read, _NOW), {}))

        rows += [
            Row(
                f"figures of {of}, read and encoded for gRPC",
                best(grpc, ROUNDS) * 1e3,
                "ms",
                target="< 50 ms",
            ),
            Row(f"figures of {of}, read, summed up and encoded for HTTP", best(http, ROUNDS) * 1e3, "ms"),
            Row(f"figures of {of}, as CSV", best(rows_of, ROUNDS) * 1e3, "ms"),
        ]
        assert made.months[0].month == MONTHS.start
    return rows


def _status_rows(store: Store, tree: Tree, chunks: MerkleList, choose: random.Random) -> list[Row]:
    """Chunk and its path, the seal's path, the subject's path: all that shows the status of one leaf."""
    proofs = Proofs(store)
    root = tree.root()
    for index in range(0, LEAVES, _SLICE * 4):  # the upper tiles are warm in any process that has run
        proofs.inclusion(index, LEAVES)

    def prove(index: int, compressed: bool) -> tuple[bytes, list[bytes], list[bytes]]:
        number = chunk_of(index)
        chunk = store.object(chunks.hashes[number])
        chunks.path(number)
        if compressed:
            compress_chunk(chunk)
        return chunk, proofs.inclusion(index, LEAVES), proofs.inclusion(LEAVES - 1, LEAVES)

    def mean_ms(compressed: bool) -> float:
        indexes = iter([choose.randrange(LEAVES) for _ in range(PROOFS)])

        def some() -> None:
            for _ in range(PROOFS // ROUNDS):
                prove(next(indexes), compressed)

        return best(some, ROUNDS) / (PROOFS // ROUNDS) * 1e3

    subject = choose.randrange(LEAVES)
    chunk, path, _ = prove(subject, False)
    read_status(chunk, subject)
    verify_inclusion(proofs.leaf_hashes([subject], LEAVES)[0], subject, LEAVES, path, root)
    at = f"status proof at {LEAVES:,} leaves"
    return [
        Row(f"{at}, chunk and level-0 tile cold", mean_ms(False), "ms", target="< 1 ms"),
        Row(f"{at}, its chunk compressed anew", mean_ms(True), "ms"),
    ]


if __name__ == "__main__":
    print(markdown(run()), end="")
