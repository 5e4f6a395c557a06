"""The embedded journal is a register that changes by compare-and-swap."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from ledger import rules
from ledger.signatures import Ed25519Signer
from ledger.submissions import pack
from ledger.tree import Tree
from node.errors import Conflict, NodeError, StoreDamaged
from node.head import Head
from node.journal import CandidateBlock, EmbeddedJournal, candidate_block
from node.store import Store
from tests.node.world import START_MS, World


def block_zero(world: World) -> CandidateBlock:
    transition = rules.genesis(world.genesis_leaf)
    return candidate_block(None, Tree.empty(), transition, pack(transition.leaves))


def block_after(store: Store, block: CandidateBlock, time_ms: int) -> CandidateBlock:
    """A block with nothing but a seal."""
    transition = rules.begin(block.transition.state, store, time_ms).seal()
    return candidate_block(block.head, block.tree, transition, pack(transition.leaves))


def test_compare_and_swap(tmp_path: Path) -> None:
    world = World()
    store = Store(tmp_path)
    journal = EmbeddedJournal(store)
    assert journal.head() is None
    zero = block_zero(world)
    assert journal.append(None, zero) == zero.head == journal.head()
    assert journal.append(None, zero) == zero.head, "a lost answer can be asked for again"
    with pytest.raises(Conflict):
        journal.append(None, block_zero(World(log=Ed25519Signer(bytes(32)))))
    one, rival = (block_after(store, zero, START_MS + n) for n in (5, 6))
    with pytest.raises(Conflict):
        journal.append(replace(zero.head, epoch=2), one)
    assert journal.append(zero.head, one) == one.head
    with pytest.raises(Conflict, match="build the block anew"):
        journal.append(zero.head, rival)
    assert journal.head() == one.head
    with pytest.raises(Conflict, match="cannot follow"):
        store.apply(rival)
    store.apply(one)
    store.close()


def test_wait_returns_at_once_when_the_head_moves(tmp_path: Path) -> None:
    store = Store(tmp_path)
    journal = EmbeddedJournal(store)
    assert journal.wait(None, 0.001) is None
    zero = block_zero(World())
    seen: list[Head | None] = []
    thread = threading.Thread(target=lambda: seen.append(journal.wait(None, 30)))
    thread.start()
    journal.append(None, zero)
    thread.join(30)
    assert seen == [zero.head]
    store.close()


def test_heads_have_one_encoding(tmp_path: Path) -> None:
    head = block_zero(World()).head
    data = head.encode()
    assert Head.decode(data) == head
    for bad in (data[:-1], data + b"\0", b"\x02" + data[1:], b""):
        with pytest.raises(StoreDamaged):
            Head.decode(bad)


def test_the_packed_leaves_must_be_the_blocks() -> None:
    transition = rules.genesis(World().genesis_leaf)
    with pytest.raises(NodeError, match="packed"):
        candidate_block(None, Tree.empty(), transition, pack(transition.leaves[:1]))
