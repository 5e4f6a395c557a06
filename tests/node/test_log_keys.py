"""With which of its keys a node signs, when it must not, and which new log keys it lets in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ledger.changes import LEDGER, LogKeyAdded, LogKeyEnded
from ledger.checkpoints import open_checkpoint
from ledger.errors import ChangeRefused
from ledger.notes import parse_note
from ledger.signatures import MlDsa44Signer
from node.commit import LogKeys
from node.errors import NodeError
from node.head import Head
from node.node import LedgerNode
from tests.ledger.world import ORIGIN, World, log_key, signer

CLASSICAL, LATTICE, SPARE = signer("log"), MlDsa44Signer(bytes(32)), MlDsa44Signer(bytes([1]) * 32)


def both() -> World:
    return World(log=(CLASSICAL, LATTICE))


def head_of(world: World) -> Head:
    state = world.state
    return Head(state.genesis, 1, 0, 1, state.block, state.size, bytes(32), bytes(32))


def test_it_signs_with_all_that_is_in_force() -> None:
    world = both()
    note = LogKeys(ORIGIN, [LATTICE, SPARE, CLASSICAL]).sign(world.state, head_of(world))
    assert len(parse_note(note).signatures) == 2, "the spare one is not registered"
    assert open_checkpoint(note, ORIGIN, world.log_keys).checkpoint.size == world.state.size


def test_a_spare_key_stands_in_for_one_that_is_lost() -> None:
    world = both()
    spare = World(log=(CLASSICAL, SPARE)).log_keys[1]
    world.change(LEDGER, LogKeyAdded(spare.format()))
    note = LogKeys(ORIGIN, [CLASSICAL, SPARE]).sign(world.state, head_of(world))
    record = world.state.registry.ledger
    known = record.log_keys_at(world.state.size)
    assert len(known) == 3
    assert open_checkpoint(note, ORIGIN, known).data == note


def test_nothing_is_signed_without_a_kind_that_verifiers_ask_for() -> None:
    world = both()
    with pytest.raises(NodeError, match="no ML-DSA-44 key of the 1 given may sign"):
        LogKeys(ORIGIN, [CLASSICAL]).sign(world.state, head_of(world))
    with pytest.raises(NodeError, match="no Ed25519 key of the 1 given may sign"):
        LogKeys(ORIGIN, [LATTICE]).sign(world.state, head_of(world))
    with pytest.raises(NodeError, match="no Ed25519 and no ML-DSA-44 key of the 1 given"):
        LogKeys(ORIGIN, [signer("another")]).sign(world.state, head_of(world))


def test_a_key_that_ended_is_asked_for_up_to_its_last_size() -> None:
    world = both()
    last = world.state.size + 3
    world.change(LEDGER, LogKeyEnded(world.log_keys[1].format(), last))
    keys, head = LogKeys(ORIGIN, [CLASSICAL, LATTICE]), head_of(world)
    for size, lines in ((last, 2), (last + 1, 1)):
        assert len(parse_note(keys.sign(world.state, replace(head, size=size))).signatures) == lines


def test_a_ledger_is_not_founded_without_all_kinds_of_its_keys(tmp_path: Path) -> None:
    with pytest.raises(NodeError, match="no ML-DSA-44 key"):
        LedgerNode.create(tmp_path / "data", both().genesis_leaf(), [CLASSICAL])
    assert not (tmp_path / "data").exists()


def test_a_log_key_of_a_kind_that_the_node_has_none_of_is_not_let_in() -> None:
    vkey = both().log_keys[1].format()
    with pytest.raises(ChangeRefused, match="this node has no ML-DSA-44 log key"):
        LogKeys(ORIGIN, [CLASSICAL]).check_added(vkey)
    LogKeys(ORIGIN, [CLASSICAL, LATTICE]).check_added(vkey)
    LogKeys(ORIGIN, [CLASSICAL]).check_added(log_key("another"))
