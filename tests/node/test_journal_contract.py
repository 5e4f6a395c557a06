"""What node/journal.py promises, of every journal alike: in the store, in memory, in etcd."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from node.cluster.etcd_journal import EtcdJournal, Keys
from node.errors import Conflict
from node.head import Head
from node.journal import CandidateBlock, EmbeddedJournal, Journal
from node.store import Store
from tests.cluster.etcds import Etcds
from tests.node.candidates import block_after, block_zero
from tests.node.fake_journal import Answer, FakeJournal, Register
from tests.node.faults import Injected
from tests.node.world import START_MS


@dataclass
class Kind:
    """A register of one kind: ``open`` gives another caller's journal on it."""

    open: Callable[[], Journal]
    store: Store

    def commit(self, journal: Journal, expected: Head | None, block: CandidateBlock) -> CandidateBlock:
        assert journal.append(expected, block) == block.head
        self.store.apply(block)
        return block


@pytest.fixture(scope="module")
def etcds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcds]:
    with Etcds(tmp_path_factory.mktemp("etcd"), 1) as cluster:
        yield cluster.start()


@pytest.fixture(params=["embedded", "fake", pytest.param("etcd", marks=pytest.mark.cluster)])
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kind]:
    store = Store(tmp_path / "store")
    journals: list[EtcdJournal] = []
    if request.param == "embedded":
        alone = EmbeddedJournal(store)  # one process has the store, and its threads share one journal
        yield Kind(lambda: alone, store)
    elif request.param == "fake":
        register = Register()
        yield Kind(lambda: FakeJournal(register), store)
    else:
        cluster: Etcds = request.getfixturevalue("etcds")
        keys = Keys.of(secrets.token_bytes(32))
        client = cluster.client()

        def another() -> EtcdJournal:
            journals.append(EtcdJournal(client, keys))
            return journals[-1]

        yield Kind(another, store)
        for journal in journals:
            journal.close()
        client.close()
    store.close()


def test_a_new_register_is_empty_and_takes_block_zero(kind: Kind) -> None:
    journal = kind.open()
    assert journal.head() is None
    zero = kind.commit(journal, None, block_zero())
    assert journal.head() == kind.open().head() == zero.head


def test_blocks_follow_one_another(kind: Kind) -> None:
    journal = kind.open()
    zero = kind.commit(journal, None, block_zero())
    one = kind.commit(journal, zero.head, block_after(kind.store, zero))
    two = kind.commit(journal, one.head, block_after(kind.store, one, START_MS + 9))
    assert kind.open().head() == two.head


def test_a_lost_answer_can_be_asked_for_again(kind: Kind) -> None:
    journal = kind.open()
    zero = kind.commit(journal, None, block_zero())
    one = kind.commit(journal, zero.head, block_after(kind.store, zero))
    for _ in range(2):
        assert journal.append(zero.head, one) == one.head
    assert kind.open().append(zero.head, one) == one.head
    assert journal.head() == one.head


def test_a_rival_is_a_conflict_and_changes_nothing(kind: Kind) -> None:
    ours, theirs = kind.open(), kind.open()
    zero = kind.commit(ours, None, block_zero())
    one, rival = block_after(kind.store, zero), block_after(kind.store, zero, START_MS + 6)
    kind.commit(theirs, zero.head, rival)
    with pytest.raises(Conflict):
        ours.append(zero.head, one)
    assert ours.head() == theirs.head() == rival.head


def test_heads_are_compared_as_a_whole(kind: Kind) -> None:
    journal = kind.open()
    zero = kind.commit(journal, None, block_zero())
    head = zero.head
    for thought in (replace(head, epoch=2), replace(head, root=bytes(32)), replace(head, digest=bytes(32))):
        with pytest.raises(Conflict):
            journal.append(thought, block_after(kind.store, zero))
    assert journal.head() == head


def test_block_zero_is_not_put_over_a_ledger(kind: Kind) -> None:
    journal = kind.open()
    zero = kind.commit(journal, None, block_zero())
    one = kind.commit(journal, zero.head, block_after(kind.store, zero))
    with pytest.raises(Conflict):
        kind.open().append(None, zero)
    assert journal.head() == one.head


def test_of_many_rivals_one_wins(kind: Kind) -> None:
    zero = kind.commit(kind.open(), None, block_zero())
    rivals = [block_after(kind.store, zero, START_MS + n) for n in range(5, 13)]
    start = threading.Barrier(len(rivals))
    won: list[Head] = []
    lost: list[Conflict] = []

    def run(journal: Journal, block: CandidateBlock) -> None:
        start.wait(30)
        try:
            won.append(journal.append(zero.head, block))
        except Conflict as error:
            lost.append(error)

    threads = [threading.Thread(target=run, args=(kind.open(), block)) for block in rivals]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (len(won), len(lost)) == (1, len(rivals) - 1)
    assert kind.open().head() == won[0]


def test_wait_returns_what_has_changed_already(kind: Kind) -> None:
    journal = kind.open()
    zero = kind.commit(journal, None, block_zero())
    assert journal.wait(None, 60) == zero.head


def test_wait_returns_the_same_after_its_time(kind: Kind) -> None:
    journal = kind.open()
    assert journal.wait(None, 0.01) is None
    zero = kind.commit(journal, None, block_zero())
    assert journal.wait(zero.head, 0.01) == zero.head


def test_wait_returns_as_soon_as_another_commits(kind: Kind) -> None:
    zero = kind.commit(kind.open(), None, block_zero())
    waiting = kind.open()
    seen: list[Head | None] = []
    thread = threading.Thread(target=lambda: seen.append(waiting.wait(zero.head, 60)))
    thread.start()
    one = kind.commit(kind.open(), zero.head, block_after(kind.store, zero))
    thread.join(60)
    assert seen == [one.head]


# --- the fake's faults, which other tests build on ---------------------------------------------


@pytest.fixture
def blocks(tmp_path: Path) -> Iterator[tuple[CandidateBlock, CandidateBlock, CandidateBlock]]:
    """Block 0, and two rivals after it."""
    store = Store(tmp_path / "store")
    zero = block_zero()
    store.apply(zero)
    yield zero, block_after(store, zero), block_after(store, zero, START_MS + 6)
    store.close()


@pytest.mark.parametrize("fault", list(Answer))
def test_the_fake_fails_as_told_and_takes_the_same_block_again(
    blocks: tuple[CandidateBlock, CandidateBlock, CandidateBlock], fault: Answer
) -> None:
    zero, one, _ = blocks
    register = Register(zero.head)
    journal = FakeJournal(register)
    register.fault = fault
    with pytest.raises(Injected):
        journal.append(zero.head, one)
    assert journal.head() == (one.head if fault is Answer.DONE else zero.head)
    assert journal.append(zero.head, one) == one.head
    register.deliver()
    assert register.heads == [one.head]


def test_what_the_fake_delivers_late_may_win_or_lose(
    blocks: tuple[CandidateBlock, CandidateBlock, CandidateBlock],
) -> None:
    zero, one, rival = blocks
    register = Register(zero.head, Answer.LATE)
    journal = FakeJournal(register)
    with pytest.raises(Injected):
        journal.append(zero.head, one)
    register.deliver()
    with pytest.raises(Conflict):
        FakeJournal(register).append(zero.head, rival)
    assert journal.append(zero.head, one) == one.head


def test_the_fake_catches_a_rebuilt_block(
    blocks: tuple[CandidateBlock, CandidateBlock, CandidateBlock],
) -> None:
    zero, one, rival = blocks
    register = Register(zero.head, Answer.LOST)
    journal = FakeJournal(register)
    with pytest.raises(Injected):
        journal.append(zero.head, one)
    with pytest.raises(AssertionError, match="rebuilt"):
        journal.append(zero.head, rival)
