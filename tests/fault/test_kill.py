"""A node process killed again and again under load: what was answered is there, for ever and in its place."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from ledger.checkpoints import Checkpoint, log_key, open_checkpoint
from ledger.leaves import LeafType
from ledger.proofs import verify_consistency
from ledger.submissions import SubmissionLeaf, unpack
from node.checking.fsck import run_fsck
from node.node import LedgerNode
from tests.fault.processes import DEADLINE_S, Answers, Client, NodeProcess, request
from tests.node.world import ORIGIN, World

KILLS = 16
CLIENTS = (1, 1, 1, 5, 40)
"""Submissions in each call of each client."""


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_nothing_that_was_answered_is_lost(tmp_path: Path) -> None:
    chance = random.Random(2026)
    data = tmp_path / "data"
    world = World()
    world.furnished(data).close()
    answers = Answers()
    clients = [Client(number, answers, bulk) for number, bulk in enumerate(CLIENTS, 1)]
    for client in clients:
        client.start()
    node = NodeProcess(data)
    try:
        for kill in range(KILLS):
            node.wait_ready()
            answers.serve(node)
            # A moment that nobody chose: some so many answers later, while other calls are on their way.
            answers.wait_for(len(answers.placed) + chance.randrange(0, 400))
            answers.serve(None)
            node.kill()
            if kill % 5 == 4:
                # Killed as it starts, with whatever it has opened or recovered by then.
                starting = NodeProcess(data)
                _until_it_opens(starting, data, chance.random())
                starting.kill()
            node = NodeProcess(data)
        node.wait_ready()
        answers.serve(node)
        answers.stop()
        for client in clients:
            client.join(DEADLINE_S)
            assert not client.is_alive()
        assert not answers.failed, answers.failed
        _ask_again(node, world, answers, chance)
        node.kill()
    finally:
        node.process.kill()
        node.process.wait()
    assert len(answers.placed) == answers.handed_in
    assert any(placement.repeat for _, placement in answers.placed), "no kill met an unanswered block"
    report = run_fsck(data)
    assert report.sound, report
    _audit(world, data, answers)


def _until_it_opens(node: NodeProcess, data: Path, part: float) -> None:
    """Let a starting process come some way into opening its database: RocksDB begins a new log there."""
    log = data / "db" / "LOG"
    before = log.stat().st_ino
    deadline = time.monotonic() + DEADLINE_S
    while node.process.poll() is None and time.monotonic() < deadline:
        try:
            found = log.stat()
        except FileNotFoundError:
            continue
        if found.st_ino != before and found.st_size >= 20_000 * part:
            return
    pytest.fail("the node did not open its database")


def _ask_again(node: NodeProcess, world: World, answers: Answers, chance: random.Random) -> None:
    """Whoever asks again, after all those crashes, gets the first answer."""
    with node.stub() as stub:
        for submission, first in chance.sample(answers.placed, 50):
            answer = stub.Submit(request(world, submission), timeout=DEADLINE_S)
            assert answer.placement.repeat
            assert answer.placement.submission_index == first.submission_index
            assert answer.placement.block == first.block
            assert answer.placement.block_size == first.block_size
            answers.checkpoints.add(answer.checkpoint)


def _audit(world: World, data: Path, answers: Answers) -> None:
    node = LedgerNode.open(data, [world.log])
    try:
        store, head = node.store, node.published.head
        leaves = store.leaves(0, head.size)
        for (leaf, packed), placement in answers.placed:
            at, records = placement.first_record_index, unpack(packed, most=256)
            assert leaves[placement.submission_index] == leaf
            assert leaves[at : at + placement.record_count] == records
            assert store.block_of(at).number == placement.block
            assert store.block(placement.block).size == placement.block_size
            assert store.block(placement.block).time_ms == placement.time_ms
        _once_each(leaves, answers)
        for note in answers.checkpoints:
            checkpoint = _opened(world, note)
            path = node.proofs.consistency(checkpoint.size, head.size)
            verify_consistency(checkpoint.size, checkpoint.root, head.size, head.root, path)
            assert _opened(world, store.checkpoint(checkpoint.size)) == checkpoint
    finally:
        node.close()


def _once_each(leaves: list[bytes], answers: Answers) -> None:
    """Everything handed in stands in the log once, however often it was sent."""
    logged = [leaf for leaf in leaves if leaf[1] == LeafType.SUBMISSION]
    assert len(logged) == len(set(logged)) == answers.handed_in
    assert set(logged) == {leaf for (leaf, _), _ in answers.placed}
    assert all(SubmissionLeaf.decode(leaf).count == 3 for leaf in logged)


def _opened(world: World, note: bytes) -> Checkpoint:
    return open_checkpoint(note, ORIGIN, [log_key(ORIGIN, world.log.public_key)]).checkpoint
