"""A ledger's blocks as they travel, and sources of them that do as a test tells them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ledger import rules
from ledger.checkpoints import Checkpoint, sign_checkpoint
from ledger.hashing import leaf_hash, leaf_hashes
from ledger.proofs import prove_consistency
from ledger.submissions import pack
from ledger.tiles import NodeId
from ledger.tree import Tree
from node.copying.block_source import Block, Pulse
from node.copying.catch_up import TrustedHead
from node.head import Head
from node.journal import candidate_block
from node.store import Store
from tests.ledger.world import ORIGIN, World, issue, signer


def small_world(blocks: int, *, each: int = 2) -> World:
    """A ledger of a type, an agency, and that many blocks of ``each`` documents."""
    world = World()
    world.define_type()
    world.enrol(types=(0, 1))
    for number in range(blocks):
        world.submit(1, [issue(1, f"{number} {i}") for i in range(each)])
    return world


@dataclass
class Log:
    """A world's blocks with their checkpoints, and proofs over them."""

    blocks: list[Block]
    hashes: list[bytes]
    sizes: list[int]
    genesis: bytes

    @classmethod
    def of(cls, world: World, *, signed: bool = True) -> Log:
        tree, blocks, sizes = Tree.empty(), [], []
        hashes: list[bytes] = []
        for number, leaves in enumerate(world.blocks):
            hashes += leaf_hashes(leaves)
            tree, _ = tree.append(leaf_hashes(leaves))
            sizes.append(tree.size)
            note = sign_checkpoint(Checkpoint(ORIGIN, tree.size, tree.root()), [signer("log")])
            blocks.append(Block(number, pack(leaves), note if signed else None))
        return cls(blocks, hashes, sizes, leaf_hash(world.blocks[0][0]))

    @property
    def size(self) -> int:
        return self.sizes[-1]

    def root(self, size: int) -> bytes:
        return Tree.empty().append(self.hashes[:size])[0].root()

    def head(self, size: int | None = None) -> TrustedHead:
        """What is trusted: by default, the newest."""
        size = self.size if size is None else size
        return TrustedHead(size, self.root(size))

    def nodes(self, ids: Sequence[NodeId]) -> list[bytes]:
        """See :class:`ledger.tiles.NodeReader`."""
        return [
            Tree.empty().append(self.hashes[index << height : (index + 1) << height])[0].root()
            for height, index in ids
        ]


@dataclass
class FakeSource:
    """Gives a log's blocks, each as ``alter`` makes of it (none, one or several items)."""

    log: Log
    alter: Callable[[Block], Sequence[Block | Pulse]] = lambda block: (block,)
    name: str = "peer one"
    received: int = 0
    asked: list[int] = field(default_factory=list)
    proofs: list[tuple[int, int]] = field(default_factory=list)
    prove: Callable[[list[bytes]], list[bytes]] = lambda path: path
    hangs_at: int | None = None
    then: BaseException | None = None
    cancelled: threading.Event = field(default_factory=threading.Event)

    def blocks(self, start: int) -> Iterator[Block | Pulse]:
        self.asked.append(start)
        for block in self.log.blocks[start:]:
            if block.number == self.hangs_at:
                self.cancelled.wait(30)
                return
            for item in self.alter(block):
                self.received += len(item.packed) if isinstance(item, Block) else 1
                yield item
        if self.then is not None:
            raise self.then

    def consistency(self, old: int, new: int) -> list[bytes]:
        self.proofs.append((old, new))
        return self.prove(prove_consistency(self.log, old, new))

    def cancel(self) -> None:
        self.cancelled.set()


def filled(path: Path, world: World, log: Log, blocks: int | None = None) -> Store:
    """A new store that holds a world's first blocks, with their checkpoints."""
    store = Store(path)
    before: Head | None = None
    state, tree = None, Tree.empty()
    for leaves, one in list(zip(world.blocks, log.blocks, strict=True))[:blocks]:
        transition = rules.apply(state, store, leaves)
        made = candidate_block(before, tree, transition, one.packed)
        store.apply(made)
        if one.note is not None:
            store.keep_checkpoint(made.head.size, one.note)
        before, state, tree = made.head, transition.state, made.tree
    return store
