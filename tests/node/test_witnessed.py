"""Which checkpoint is published: by the policy in force at its size, and for good."""

from __future__ import annotations

from pathlib import Path

import pytest

from ledger.changes import WitnessPolicyChanged
from ledger.errors import SignatureInvalid
from ledger.notes import NoteSignature, parse_note
from ledger.records import Status
from node.cosigning.lines import join_lines, split_note
from node.cosigning.witnessed import Witnessed
from node.errors import NotFound
from node.node import LedgerNode
from node.store import KEEP_SUPERSEDED_MS
from tests.node.world import World, placed, submit
from tests.witnesses import cosigned, policy

THREE = ("one", "two", "three")


def sizes(node: LedgerNode) -> tuple[int, int]:
    """(published, signed)."""
    newest = node.witnessed.newest
    return 0 if newest is None else newest.size, node.published.size


def give(node: LedgerNode, name: str, time_s: int = 1_000, size: int | None = None) -> None:
    size = size or node.published.size
    node.witnessed.take(size, [cosigned(node.store.checkpoint(size), name, time_s)])


def issue(world: World, node: LedgerNode) -> int:
    """One block more; its size."""
    return placed(submit(node.sequencer, world.issues())[0][0]).block_size


@pytest.fixture
def world() -> World:
    return World(policy=policy(2, *THREE))


def test_without_a_policy_what_is_signed_is_published(tmp_path: Path) -> None:
    world = World()
    node = world.furnished(tmp_path / "data")
    try:
        assert sizes(node) == (node.published.size, node.published.size)
        assert node.witnessed.newest is not None
        assert node.witnessed.newest.note == node.published.checkpoint
    finally:
        node.close()


def test_a_quorum_publishes_and_less_does_not(tmp_path: Path, world: World) -> None:
    node = world.furnished(tmp_path / "data")
    told: list[Witnessed] = []
    node.witnessed.on_publish(told.append)
    try:
        size = node.published.size
        give(node, "one")
        assert sizes(node) == (0, size)
        assert len(parse_note(node.store.checkpoint(size)).signatures) == 2
        give(node, "three")
        assert sizes(node) == (size, size)
        more = issue(world, node)
        assert sizes(node) == (size, more)
        # A late one still joins, and is told of: its time is newer.
        give(node, "two", size=size)
        assert [one.size for one in told] == [size, size]
        assert len(parse_note(told[-1].note).signatures) == 4
    finally:
        node.close()


def test_what_was_published_is_so_after_a_restart(tmp_path: Path, world: World) -> None:
    node = world.furnished(tmp_path / "data")
    first = node.published.size
    give(node, "one")
    give(node, "two")
    later = issue(world, node)
    give(node, "two")
    note = node.witnessed.newest
    node.close()
    node = world.open(tmp_path / "data")
    try:
        assert sizes(node) == (first, later)
        assert node.witnessed.newest == note
        # The start signs its newest checkpoint again; what was gathered for it is still there.
        give(node, "three")
        assert sizes(node) == (later, later)
    finally:
        node.close()


def test_only_what_verifies_is_kept_and_of_one_witness_the_newest(tmp_path: Path, world: World) -> None:
    node = world.furnished(tmp_path / "data")
    try:
        size = node.published.size
        good = cosigned(node.store.checkpoint(size), "one", 5)
        broken = NoteSignature(good.name, good.key_id, good.blob[:-1] + bytes((good.blob[-1] ^ 1,)))
        with pytest.raises(SignatureInvalid):
            node.witnessed.take(size, [cosigned(node.store.checkpoint(size), "two", 5), broken])
        assert node.store.cosignatures(size) == b""
        # Of another checkpoint, and by a key that the policy does not name.
        with pytest.raises(SignatureInvalid):
            node.witnessed.take(size, [cosigned(b"other\n1\nAAAA\n\n\xe2\x80\x94 a AAAAAAA=\n", "one", 5)])
        assert node.witnessed.take(size, [cosigned(node.store.checkpoint(size), "stranger", 5)]) == ()
        with pytest.raises(NotFound):
            node.witnessed.take(size - 1, [good])
        for time_s in (5, 9, 7):
            give(node, "one", time_s)
        assert [one.time_s for one in node.witnessed.cosignatures(size)] == [9]
    finally:
        node.close()


def test_a_policy_holds_from_the_index_of_its_change(tmp_path: Path) -> None:
    world = World()
    node = world.furnished(tmp_path / "data")
    try:
        free = node.published.size
        last = node.published.state.registry.ledger.changed
        asked = world.make(
            node, world.change("ledger", last, WitnessPolicyChanged(policy(1, "one")))
        ).submission_index
        assert sizes(node) == (free, free + 2)
        later = issue(world, node)
        give(node, "one", size=free + 2)
        assert sizes(node) == (free + 2, later)
        world.make(node, world.change("ledger", asked, WitnessPolicyChanged(policy(1, "two"))))
        changed = node.published.size
        give(node, "one")
        assert sizes(node) == (free + 2, changed)
        give(node, "two")
        assert sizes(node) == (changed, changed)
        node.close()
        node = world.open(tmp_path / "data")
        assert sizes(node) == (changed, changed)
    finally:
        node.close()


def test_a_start_under_a_new_policy_goes_back_to_where_nobody_was_asked(tmp_path: Path) -> None:
    world = World()
    node = world.furnished(tmp_path / "data")
    free = node.published.size
    last = node.published.state.registry.ledger.changed
    world.make(node, world.change("ledger", last, WitnessPolicyChanged(policy(1, "one"))))
    issue(world, node)
    signed = node.published.size
    node.close()
    node = world.open(tmp_path / "data")
    try:
        assert sizes(node) == (free, signed)
    finally:
        node.close()


def test_what_a_published_size_needs_stays_however_long_it_lags(tmp_path: Path, world: World) -> None:
    node = world.furnished(tmp_path / "data")

    def hourly(first: int, count: int) -> None:
        """Another document suspended each hour, so another status list each time."""
        for index in range(first, first + count):
            world.clock.ms += KEEP_SUPERSEDED_MS
            submit(node.sequencer, world.status(index, index, Status.SUSPENDED))

    try:
        first = placed(submit(node.sequencer, world.issues(12))[0][0]).first_record_index
        hourly(first + 8, 1)
        give(node, "one")
        give(node, "two")
        published = node.published.state.status
        hourly(first, 2)
        middle = node.published.state.status
        hourly(first + 2, 4)
        assert node.store.tree_hashes(published.root) == published.hashes
        assert all(node.store.object(one) for one in published.hashes)
        with pytest.raises(NotFound):
            node.store.tree_hashes(middle.root)
        give(node, "one")
        give(node, "two")
        hourly(first + 6, 2)
        with pytest.raises(NotFound):
            node.store.tree_hashes(published.root)
    finally:
        node.close()


def test_lines_come_apart_and_together(world: World, tmp_path: Path) -> None:
    node = world.furnished(tmp_path / "data")
    try:
        note = node.published.checkpoint
        assert split_note(note) == (note, b"")
        one, two = (cosigned(note, name, 5).line() for name in ("one", "two"))
        assert split_note(note + two + one) == (note, two + one)
        newer = cosigned(note, "two", 6).line()
        assert join_lines(one + two, newer) == join_lines(newer, one) == join_lines(b"", one + newer)
    finally:
        node.close()
