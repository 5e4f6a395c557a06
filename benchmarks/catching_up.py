"""Catch-up: a new, empty node takes a ledger over from another store: ``python -m benchmarks.catching_up``.

Bulk blocks as an enrolment of old registers makes them, and small ones of a single document. The baseline
is the bare replay of the same blocks, rules and store alone, in the same run: what catch-up adds to it is
fetching, the first pass over the hashes, and the proof.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import grpc

from benchmarks.ingest import fill
from benchmarks.report import Row, markdown
from benchmarks.serve import serving
from ledger import rules
from ledger.checkpoints import parse_checkpoint
from ledger.hashing import leaf_hash
from ledger.notes import parse_note
from ledger.records import MAX_RECORDS
from ledger.submissions import pack
from ledger.tree import Tree
from node.copying.block_source import StoredBlocks
from node.copying.catch_up import TrustedHead, catch_up
from node.copying.remote_blocks import CHANNEL_OPTIONS, RemoteBlocks
from node.head import Head
from node.journal import candidate_block
from node.store import Store
from tests.ledger.world import World, issue

BULKS = 2_048
BULKS_A_BLOCK = 64
SINGLE = 1_500
REMOTE = 524_288


def run(directory: Path) -> list[Row]:
    bulk = World()
    bulk.define_type()
    bulk.enrol(types=(0, 1))
    for start in range(0, BULKS, BULKS_A_BLOCK):
        draft = bulk.begin()
        for number in range(start, start + BULKS_A_BLOCK):
            bulk.submit(1, [issue(1, f"{number} {i}") for i in range(MAX_RECORDS)], draft=draft)
        bulk.seal(draft)
    single = World()
    single.define_type()
    single.enrol(types=(0, 1))
    for number in range(SINGLE):
        single.submit(1, [issue(1, f"single {number}")])
    return [
        _row(directory / "bulk", bulk, "in blocks of 16,448 leaves", "≥ 100,000/s"),
        _row(directory / "single", single, "in blocks of three leaves", ""),
        _remote_row(directory),
    ]


def _remote_row(directory: Path) -> Row:
    """From a node that runs as a process of its own, with both on this machine's cores."""
    with serving(directory / "node") as node:
        fill(node.grpc, REMOTE)
        store = Store(directory / "copy")
        with grpc.insecure_channel(node.grpc, options=CHANNEL_OPTIONS) as link:
            source = RemoteBlocks(link, node.grpc)
            ledger = source.ledger()
            newest = parse_checkpoint(parse_note(ledger.checkpoint).text)
            trusted = TrustedHead(newest.size, newest.root)
            seconds = _timed(
                lambda: catch_up(store, source, lambda *_: trusted, genesis=ledger.genesis, until=newest.size)
            )
        store.close()
    return Row(
        f"catch-up of {newest.size:,} leaves over gRPC from a node process",
        newest.size / seconds,
        "leaves/s",
        f"{source.received / seconds / (1 << 20):.1f} MiB/s",
        None,
        "≥ 100,000/s",
    )


def _row(directory: Path, world: World, what: str, target: str) -> Row:
    packed = [pack(block) for block in world.blocks]
    size = world.state.size
    source = Store(directory / "source")
    bare = _timed(lambda: _replay(source, world, packed))
    stored = StoredBlocks(source)
    head = source.head()
    assert head is not None
    genesis, trusted = leaf_hash(world.blocks[0][0]), TrustedHead(head.size, head.root)
    target_store = Store(directory / "target")
    seconds = _timed(
        lambda: catch_up(target_store, stored, lambda *_: trusted, genesis=genesis, until=head.size)
    )
    assert target_store.head() == head
    target_store.close()
    source.close()
    return Row(
        f"catch-up of {size:,} leaves {what}",
        size / seconds,
        "leaves/s",
        f"bare replay into a store {size / bare:,.0f} leaves/s",
        seconds / bare,
        target,
    )


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _replay(store: Store, world: World, packed: list[bytes]) -> None:
    before: Head | None = None
    state, tree = None, Tree.empty()
    for leaves, data in zip(world.blocks, packed, strict=True):
        transition = rules.apply(state, store, leaves)
        block = candidate_block(before, tree, transition, data)
        store.apply(block)
        before, state, tree = block.head, transition.state, block.tree


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="sudur-benchmarks-") as temporary:
        print(markdown(run(Path(sys.argv[1] if len(sys.argv) > 1 else temporary))), end="")
