"""Blocks to try journals on: block 0, and blocks with nothing but a seal."""

from __future__ import annotations

from ledger import rules
from ledger.submissions import pack
from ledger.tree import Tree
from node.journal import CandidateBlock, candidate_block
from node.store import Store
from tests.node.world import START_MS, World


def block_zero() -> CandidateBlock:
    transition = rules.genesis(World().genesis_leaf)
    return candidate_block(None, Tree.empty(), transition, pack(transition.leaves))


def block_after(store: Store, block: CandidateBlock, time_ms: int = START_MS + 5) -> CandidateBlock:
    """The next block; of another time, another block. ``store`` holds what came before."""
    transition = rules.begin(block.transition.state, store, time_ms).seal()
    return candidate_block(block.head, block.tree, transition, pack(transition.leaves))
