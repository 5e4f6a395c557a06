"""Proofs from the store's tiles, at every size, warm and cold, from several threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from ledger.errors import OutOfRange, SudurError
from ledger.hashing import leaf_hashes, merkle_root
from ledger.proofs import verify_consistency, verify_inclusion
from node.node import LedgerNode
from node.proofs import Proofs
from tests.node.world import World, placed, submit


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LedgerNode]:
    world = World()
    node = world.furnished(tmp_path_factory.mktemp("proofs") / "data")
    for count in (1, 5, 200, 256, 256, 3):
        placed(submit(node.sequencer, world.issues(count))[0][0])
    yield node
    node.close()


def test_inclusion_at_many_sizes(node: LedgerNode) -> None:
    last = node.published.size
    hashes = leaf_hashes(node.store.leaves(0, last))
    proofs = Proofs(node.store)
    for size in (1, 2, 8, 255, 256, 257, 300, 511, 512, 513, last - 1, last):
        root = merkle_root(hashes[:size])
        indexes = sorted(
            {0, 1, size // 2, size - 1, min(255, size - 1), min(256, size - 1)} & set(range(size))
        )
        for index in indexes:
            verify_inclusion(hashes[index], index, size, proofs.inclusion(index, size), root)
        for index, path in zip(indexes, proofs.inclusions(indexes, size), strict=True):
            verify_inclusion(hashes[index], index, size, path, root)
        assert proofs.leaf_hashes(indexes, size) == [hashes[index] for index in indexes]


def test_consistency_between_all_kinds_of_sizes(node: LedgerNode) -> None:
    last = node.published.size
    hashes = leaf_hashes(node.store.leaves(0, last))
    sizes = [1, 2, 3, 255, 256, 257, 400, 512, 700, last]
    roots = {size: merkle_root(hashes[:size]) for size in sizes}
    for new in sizes:
        for old in (one for one in sizes if one <= new):
            path = node.proofs.consistency(old, new)
            verify_consistency(old, roots[old], new, roots[new], path)


def test_beyond_the_tree(node: LedgerNode) -> None:
    size = node.published.size
    asks: list[Callable[[], object]] = [
        lambda: node.proofs.inclusion(size, size),
        lambda: node.proofs.inclusion(0, size + 256),
        lambda: node.proofs.inclusion(-1, size),
        lambda: node.proofs.consistency(size, size - 1),
        lambda: node.proofs.consistency(1, 2**64),
    ]
    for ask in asks:
        with pytest.raises(SudurError):
            ask()
    with pytest.raises(OutOfRange):
        node.proofs.inclusion(size, size)


def test_from_several_threads(node: LedgerNode) -> None:
    size = node.published.size
    want = [node.proofs.inclusion(index, size) for index in range(0, size, 7)]
    proofs = Proofs(node.store)
    wrong: list[int] = []

    def ask() -> None:
        got = [proofs.inclusion(index, size) for index in range(0, size, 7)]
        wrong.extend(n for n, (a, b) in enumerate(zip(got, want, strict=True)) if a != b)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong
