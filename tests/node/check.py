"""A check of the whole log, from the outside in: what was promised is there, and nothing contradicts."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

from ledger.checkpoints import log_key, open_checkpoint
from ledger.hashing import EMPTY_ROOT, leaf_hashes, merkle_root
from ledger.records import Issue
from ledger.submissions import pack, unpack
from ledger.tree import Tree
from node.node import LedgerNode
from node.sequencer import Placement
from tests.node.world import ORIGIN, World


def check_log(
    world: World,
    node: LedgerNode,
    released: Iterable[bytes],
    answered: Iterable[tuple[tuple[bytes, bytes], Placement]],
) -> None:
    """Every released checkpoint is a prefix of the log; every answered submission is where it was said."""
    store, head = node.store, node.published.head
    leaves = store.leaves(0, head.size)
    hashes = leaf_hashes(leaves)
    assert merkle_root(hashes) == head.root
    assert store.head() == head
    key = log_key(ORIGIN, world.log.public_key)
    roots = {0: EMPTY_ROOT}
    tree = Tree.empty()
    for number in range(head.block + 1):
        size = store.block(number).size
        tree, _ = tree.append(hashes[tree.size : size])
        roots[size] = tree.root()
    for note in {*released, node.published.checkpoint}:
        checkpoint = open_checkpoint(note, ORIGIN, [key]).checkpoint
        assert roots[checkpoint.size] == checkpoint.root
        assert store.checkpoint(checkpoint.size) == note
    first = 0
    for number in range(head.block + 1):
        block = store.block(number)
        assert block.first_index == first
        assert block.root == roots[block.size]
        assert block.digest == sha256(pack(leaves[first : block.size])).digest()
        assert open_checkpoint(store.checkpoint(block.size), ORIGIN, [key]).checkpoint.root == block.root
        first = block.size
    assert first == head.size
    for (leaf, packed), placement in answered:
        records = unpack(packed, most=256)
        at = placement.first_record_index
        assert leaves[placement.submission_index] == leaf
        assert leaves[at : at + placement.record_count] == records
        keys = [Issue.decode(one).commitment + Issue.decode(one).agency.to_bytes(4, "big") for one in records]
        assert store.find_issues(keys) == list(range(at, at + len(records)))
        assert store.block_of(at).number == placement.block
        assert placement.block_size <= head.size
