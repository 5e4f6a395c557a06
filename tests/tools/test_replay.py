"""The reader that replays on disk, beside the one in memory that the rules' own tests trust."""

from __future__ import annotations

from pathlib import Path

import pytest

from ledger import rules
from ledger.errors import BlockRefused, DuplicateAttest, DuplicateIssue, SubmissionRepeated
from ledger.figures import FigureKey, Metric
from ledger.hashing import leaf_hash, leaf_hashes, merkle_root
from ledger.leaves import NONE
from ledger.records import NO_HASH, Answer, Attest, Outcome, Send, SendKind, Status, StatusChange
from ledger.signing_policy import utc_day
from ledger.status import chunk_count
from tests.ledger.world import World, commitment, issue
from tools.errors import AnswerWrong
from tools.replay import ReplayReader, first_difference, replay

DAY_MS = 86_400_000


@pytest.fixture(scope="module")
def world() -> World:
    """Three agencies over ten days; more leaves than two bundles, so that some stand on disk alone."""
    world = World()
    world.define_type()
    parent = world.enrol(types=(0, 1), roles=("issue", "attest", "request"))
    child = world.enrol(parent=parent, types=(0, 1), roles=("issue", "request"))
    for day in range(10):
        first = world.submit(child, [issue(child, (day, n)) for n in range(60)]) + 1
        world.submit(child, [StatusChange(child, first, first, Status.REVOKED, 0, NONE).encode()])
        attested = world.submit(parent, [Attest(parent, first + 1, 1, NO_HASH).encode()]) + 1
        world.submit(parent, [StatusChange(parent, attested, attested, Status.REVOKED, 0, NONE).encode()])
        send = Send(parent, child, commitment(day), SendKind.REQUEST, 3, NONE, NO_HASH).encode()
        sent = world.submit(parent, [send, Send(*_parts(parent, child, day)).encode()]) + 1
        world.submit(child, [Answer(child, sent, Outcome.RECEIVED, NO_HASH, NO_HASH).encode()])
        world.idle(DAY_MS)
        world.submit(child, [Answer(child, sent, Outcome.ANSWERED, commitment(-1), NO_HASH).encode()])
    return world


def _parts(parent: int, child: int, day: int) -> tuple[int, int, bytes, SendKind, int, int, bytes]:
    return parent, child, commitment(f"letter {day}"), SendKind.REQUEST, 0, NONE, NO_HASH


def test_the_same_state_tree_and_figures(world: World, tmp_path: Path) -> None:
    leaves = [leaf for block in world.blocks for leaf in block]
    seen: list[int] = []
    with ReplayReader(tmp_path) as reader:
        states = list(replay(leaves, reader, seen.append))
        state, tree = states[-1]
        assert state == world.state
        assert tree.root() == merkle_root(leaf_hashes(leaves))
        assert (len(states), sum(seen)) == (len(world.blocks), len(leaves))
        for agency in range(3):
            wanted = {key: n for key, n in world.reader.figures.items() if key.agency == agency and n}
            found = reader.figures(agency)
            assert found == wanted
            assert first_difference(wanted, found) is None
        memory = world.reader
        for index, leaf in enumerate(leaves):
            assert reader.leaf(index) == leaf
            assert reader.latest_status(index) == memory.statuses.get(index)
            assert reader.find_attest(leaf_hash(leaf)) == memory.attests.get(leaf_hash(leaf))
        for send, exchange in memory.exchanges.items():
            assert reader.exchange(send) == exchange
        keys = list(memory.issues)
        assert reader.find_issues([*keys, bytes(36)]) == [*memory.issues.values(), None]
        for number in range(chunk_count(len(leaves))):
            assert reader.status_chunk(number) == memory.status_chunk(number)
        today = utc_day(state.time_ms)
        for (agency, kind, day), count in memory.daily.items():
            if day == today:
                assert reader.daily_count(agency, kind, day) == count
        window = state.time_ms - 7 * DAY_MS
        for (claimed_ms, identity), index in memory.submissions.items():
            if claimed_ms >= window:
                assert reader.find_submission(claimed_ms, identity) == index


def test_what_the_rules_refuse_is_refused_on_disk_too(world: World, tmp_path: Path) -> None:
    with ReplayReader(tmp_path) as reader:
        *_, (state, _) = replay([leaf for block in world.blocks for leaf in block], reader)
        draft = rules.begin(state, reader, state.time_ms + 1_000)
        with pytest.raises(DuplicateIssue):
            draft.add_submission(world.submission(2, [issue(2, (0, 0))]))
        twice = world.submission(1, [Attest(1, _document(world), 9, NO_HASH).encode()])
        draft.add_submission(twice)
        with pytest.raises(SubmissionRepeated):
            draft.add_submission(twice)
        with pytest.raises(DuplicateAttest):
            draft.add_submission(
                world.submission(
                    1, [Attest(1, _document(world), 9, NO_HASH).encode()], claimed_ms=draft.time_ms
                )
            )


def _document(world: World) -> int:
    """The index of a document that was never attested."""
    return world.reader.issues[commitment((0, 5)) + (2).to_bytes(4, "big")]


def test_a_block_that_breaks_the_rules(world: World, tmp_path: Path) -> None:
    leaves = [leaf for block in world.blocks for leaf in block]
    for name, broken, error in (
        ("swapped", [*leaves[:40], leaves[41], leaves[40], *leaves[42:]], BlockRefused),
        ("cut", leaves[:-1], AnswerWrong),
    ):
        (tmp_path / name).mkdir()
        with ReplayReader(tmp_path / name) as reader, pytest.raises(error):
            list(replay(broken, reader))


def test_the_first_difference() -> None:
    one, two = [FigureKey(1, Metric.SENT, month, 1) for month in (5, 6)]
    assert first_difference({one: 1, two: 2}, {one: 1, two: 3}) == (two, 2, 3)
    assert first_difference({two: 2}, {one: 1, two: 3}) == (one, 0, 1)
    assert first_difference({one: 1}, {}) == (one, 1, 0)
