"""A member's own copy where epochs change: what it voted for, and what it may not vote for any more."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from ledger import rules
from ledger.changes import TypeDefined
from ledger.leaves import NONE
from ledger.submissions import pack
from ledger.tree import Tree
from node.cluster.errors import EtcdBehind
from node.cluster.replica import Replica
from node.codec import u64
from node.database import CHECKPOINTS
from node.errors import Conflict
from node.head import Head
from node.journal import candidate_block
from node.mark import Mark
from node.store import Store
from tests.node.world import World


@contextmanager
def member(data: Path) -> Iterator[tuple[Replica, Store]]:
    """One that is started, and stopped at the end."""
    store, mark = Store(data / "db"), Mark.create(data / "mark")
    try:
        yield Replica(store, mark), store
    finally:
        mark.close()
        store.close()


def genesis(world: World) -> Head:
    transition = rules.genesis(world.genesis_leaf)
    return candidate_block(None, Tree.empty(), transition, pack(transition.leaves), members=1).head


@pytest.fixture
def head(tmp_path: Path) -> Head:
    """The head of a member in ``tmp_path`` that has applied block 0 in epoch 1."""
    world = World()
    made = genesis(world)
    with member(tmp_path) as (replica, _):
        replica.found(world.genesis_leaf, made)
        assert replica.vote.head == made
    return made


def test_what_it_gives_up_it_still_voted_for_until_the_epoch_is_entered(tmp_path: Path, head: Head) -> None:
    with member(tmp_path) as (replica, store):
        replica.abandon(replace(head, epoch=2))
        assert store.head() is None
        assert (replica.vote.head, replica.vote.frozen) == (head, 2)
    with member(tmp_path) as (replica, _):
        assert (replica.vote.head, replica.vote.frozen) == (head, 2)


def test_a_member_that_is_frozen_fetches_nothing_of_its_epoch(tmp_path: Path, head: Head) -> None:
    with member(tmp_path) as (replica, _):
        replica.freeze(2)
        with pytest.raises(Conflict), replica.catching_up(1):
            pytest.fail("it fetches")
        with replica.catching_up(2):
            assert replica.is_catching_up


def test_an_epoch_before_the_one_it_is_frozen_for_leaves_store_and_mark_alone(
    tmp_path: Path, head: Head
) -> None:
    with member(tmp_path) as (replica, store):
        replica.freeze(3)
        with pytest.raises(EtcdBehind):
            replica.enter(replace(head, epoch=2))
        assert store.head() == head
        assert replica.vote.epoch == 1
        replica.enter(replace(head, epoch=3))
        assert (replica.vote.epoch, replica.vote.frozen, store.head()) == (3, 0, replace(head, epoch=3))


def test_a_freeze_does_not_wait_for_the_end_of_a_catch_up(tmp_path: Path, head: Head) -> None:
    with member(tmp_path) as (replica, _):
        begun = threading.Event()

        def fetch() -> None:
            with replica.catching_up(1):
                begun.set()
                assert replica.halt.wait(30), "nobody asks it to end"

        thread = threading.Thread(target=fetch)
        thread.start()
        assert begun.wait(30)
        assert replica.freeze(2).frozen == 2
        thread.join()
        assert not replica.halt.is_set()


def test_a_chain_that_came_beside_the_cluster_bears_its_head(tmp_path: Path, head: Head) -> None:
    listed = replace(head, members=head.members + 1)
    with member(tmp_path) as (replica, store):
        with pytest.raises(Conflict):
            replica.bear(replace(listed, root=bytes(32)))
        replica.bear(listed)
        assert (replica.vote.head, store.head()) == (listed, listed)
    with member(tmp_path) as (replica, _):
        assert replica.vote.head == listed


def test_a_start_that_lost_checkpoints_of_hours_serves_nothing_until_it_hears_one(tmp_path: Path) -> None:
    """The lists of the block that the last checkpoint is of were replaced, and are gone."""
    world = World()
    node = world.furnished(tmp_path / "alone")
    for number in (2, 3, 4):
        world.clock.ms += 2 * 3_600_000
        world.make(node, world.change(f"type/{number}", NONE, TypeDefined({"en": "Another"}, ())))
    node.close()
    (tmp_path / "alone" / "db").rename(tmp_path / "db")
    store = Store(tmp_path / "db")
    batch = store._db.batch()
    newest = store.head()
    assert newest is not None
    for number in range(newest.block - 1, newest.block + 1):
        batch.delete(CHECKPOINTS, u64(store.block(number).size))
    store._db.write(batch)
    store.close()
    with member(tmp_path) as (replica, _):
        assert replica.newest_released() is None
