"""What a node alone must not start on: the data of a member of a cluster, of a mirror, of nobody."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from ledger import rules
from ledger.submissions import pack
from ledger.tree import Tree
from node.cluster.replica import Replica
from node.errors import NodeError, StoreBehindMark
from node.journal import candidate_block
from node.mark import Mark
from node.node import DATABASE_DIRECTORY, default_mark_path
from node.store import Store
from tests.node.world import World


def as_member(data: Path, world: World) -> None:
    """Have the data be a member's that has heard the list of members, as it is after its first turn."""
    store, mark = Store(data / DATABASE_DIRECTORY), Mark.create(default_mark_path(data))
    replica = Replica(store, mark)
    if replica.snapshot is None:
        transition = rules.genesis(world.genesis_leaf)
        block = candidate_block(None, Tree.empty(), transition, pack(transition.leaves), members=1)
        replica.found(world.genesis_leaf, block.head)
    replica.know_members(b"the list")
    mark.close()
    store.close()


def test_a_node_that_was_alone_and_became_a_member(tmp_path: Path) -> None:
    """Its mark has a checkpoint of its own, of the very chain: nothing but the vote tells."""
    world = World()
    world.furnished(tmp_path / "data").close()
    as_member(tmp_path / "data", world)
    with pytest.raises(NodeError, match="member of a cluster"):
        world.open(tmp_path / "data")


def test_a_member_that_holds_block_0(tmp_path: Path) -> None:
    world = World()
    (tmp_path / "data").mkdir()
    as_member(tmp_path / "data", world)
    for start in (world.open, world.create):
        with pytest.raises(NodeError, match="member of a cluster"):
            start(tmp_path / "data")


def test_a_member_whose_data_is_lost_founds_no_second_ledger(tmp_path: Path) -> None:
    world = World()
    (tmp_path / "data").mkdir()
    as_member(tmp_path / "data", world)
    shutil.rmtree(tmp_path / "data")
    with pytest.raises(NodeError, match="member of a cluster"):
        world.create(tmp_path / "data")
    mark = Mark.open(default_mark_path(tmp_path / "data"))
    mark.keep_vote(replace(mark.vote, members=b""))
    mark.close()
    with pytest.raises(StoreBehindMark):
        world.create(tmp_path / "data")


def test_a_mirror_that_is_given_the_log_key(tmp_path: Path) -> None:
    """What it has served is no word of its own: the node that it follows may have answered more since."""
    world = World()
    node = world.furnished(tmp_path / "data")
    note = node.published.checkpoint
    node.close()
    mark = Mark.open(default_mark_path(tmp_path / "data"))
    mark.keep(note, signed=False)
    mark.close()
    with pytest.raises(NodeError, match="mirror"):
        world.open(tmp_path / "data")
