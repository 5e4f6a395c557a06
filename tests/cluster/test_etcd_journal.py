"""The journal on etcd where etcd loses answers, goes back in time, or has another member list.

What every journal promises is in tests/node/test_journal_contract.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from node.cluster import etcd_journal
from node.cluster.etcd_client import EtcdClient, Put
from node.cluster.etcd_journal import EtcdJournal, Keys, MemberList
from node.errors import Conflict, EtcdUnavailable, OutcomeUnknown, TermEnded
from node.head import Head
from node.journal import CandidateBlock
from node.store import Store
from tests.cluster.etcds import Etcds, wait_until
from tests.node.candidates import block_after, block_zero
from tests.node.world import START_MS

pytestmark = pytest.mark.cluster


@pytest.fixture
def keys(request: pytest.FixtureRequest) -> Keys:
    return Keys.of(request.node.name.encode())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(tmp_path / "store")) as one:
        yield one


@pytest.fixture
def zero(store: Store) -> CandidateBlock:
    block = block_zero()
    store.apply(block)
    return block


def test_the_keys_name_the_ledger() -> None:
    keys = Keys.of(bytes(31) + b"\x0a")
    assert keys.head == b"sudur/" + b"00" * 31 + b"0a/head"
    assert (keys.members, keys.leader) == (
        keys.head.replace(b"/head", b"/members"),
        keys.head.replace(b"/head", b"/leader"),
    )


def test_the_head_stands_in_etcd_as_it_encodes_itself(
    client: EtcdClient, keys: Keys, zero: CandidateBlock
) -> None:
    with closing(EtcdJournal(client, keys)) as journal:
        journal.append(None, zero)
    found = client.get(keys.head)
    assert found is not None
    assert Head.decode(found.value) == zero.head


# --- answers that do not come ------------------------------------------------------------------


def test_an_append_whose_answer_is_lost(etcds: Etcds, keys: Keys, store: Store, zero: CandidateBlock) -> None:
    leader, followers = etcds.leader(), etcds.followers()
    one, rival = block_after(store, zero), block_after(store, zero, START_MS + 9)
    with (
        closing(etcds.client(leader.endpoint, attempt_s=0.2)) as alone,
        closing(EtcdJournal(alone, keys, append_s=0.2)) as journal,
    ):
        journal.append(None, zero)
        for member in followers:
            member.pause()
        with pytest.raises(OutcomeUnknown):
            journal.append(zero.head, one)
        for member in followers:
            member.resume()
    with closing(etcds.client()) as client, closing(EtcdJournal(client, keys)) as journal:
        # Whether it arrives first or this does: the same block, once.
        assert journal.append(zero.head, one) == one.head
        assert journal.head() == one.head
        with pytest.raises(Conflict):
            journal.append(zero.head, rival)


def test_an_append_outlasts_an_election(etcds: Etcds, keys: Keys, store: Store, zero: CandidateBlock) -> None:
    with closing(etcds.client()) as client, closing(EtcdJournal(client, keys)) as journal:
        journal.append(None, zero)
        block = zero
        for end in ("pause", "kill"):
            leader = etcds.leader()
            getattr(leader, end)()
            after = block_after(store, block, block.transition.state.time_ms + 5)
            assert journal.append(block.head, after) == after.head
            store.apply(after)
            block = after
            if end == "pause":
                leader.resume()
        assert journal.head() == block.head


def test_without_etcd_the_error_is_certain(etcds: Etcds, keys: Keys, zero: CandidateBlock) -> None:
    etcds.stop()
    with (
        closing(etcds.client(deadline_s=0.3)) as client,
        closing(EtcdJournal(client, keys, append_s=0.3)) as journal,
    ):
        for call in (journal.head, lambda: journal.append(None, zero), lambda: journal.wait(None, 0.1)):
            with pytest.raises(EtcdUnavailable):
                call()


# --- etcd that went back in time ---------------------------------------------------------------


def test_the_same_head_at_another_revision_ends_the_term(
    etcds: Etcds, keys: Keys, store: Store, zero: CandidateBlock, tmp_path: Path
) -> None:
    one = block_after(store, zero)
    with closing(etcds.client()) as client:
        with closing(EtcdJournal(client, keys)) as term:
            term.append(None, zero)
            snapshot = etcds.snapshot(tmp_path / "snapshot")
            term.append(zero.head, one)
            store.apply(one)
            two = block_after(store, one, START_MS + 9)
            etcds.restore(snapshot)
            # Another leader sends the block again that etcd forgot, after something else was changed.
            client.swap([], [Put(keys.members, b"list")])
            with closing(EtcdJournal(client, keys)) as other:
                assert other.append(zero.head, one) == one.head
            for _ in range(2):
                with pytest.raises(TermEnded, match="revision"):
                    term.append(one.head, two)
                assert term.head() == one.head, "reading it does not make it this term's"
        with closing(EtcdJournal(client, keys)) as new:
            assert new.head() == one.head
            assert new.append(one.head, two) == two.head


def test_an_older_head_is_a_conflict(
    etcds: Etcds, keys: Keys, store: Store, zero: CandidateBlock, tmp_path: Path
) -> None:
    one = block_after(store, zero)
    with closing(etcds.client()) as client, closing(EtcdJournal(client, keys)) as journal:
        journal.append(None, zero)
        snapshot = etcds.snapshot(tmp_path / "snapshot")
        journal.append(zero.head, one)
        store.apply(one)
        two = block_after(store, one, START_MS + 9)
        etcds.restore(snapshot)
        with pytest.raises(Conflict):
            journal.append(one.head, two)
        assert journal.head() == zero.head
        etcds.wipe()
        with pytest.raises(Conflict):
            journal.append(one.head, two)
        assert journal.head() is None


# --- the member list ---------------------------------------------------------------------------


def test_a_block_is_decided_under_the_member_list_that_the_term_has(
    client: EtcdClient, keys: Keys, store: Store, zero: CandidateBlock
) -> None:
    members = MemberList(client, keys)
    one = block_after(store, zero)
    with (
        closing(EtcdJournal(client, keys, b"first")) as early,
        closing(EtcdJournal(client, keys, b"second")) as late,
    ):
        with pytest.raises(TermEnded, match="member list"):
            early.append(None, zero)
        members.swap(None, b"first")
        early.append(None, zero)
        members.swap(b"first", b"second")
        with pytest.raises(TermEnded, match="member list"):
            early.append(zero.head, one)
        assert late.head() == zero.head
        assert late.append(zero.head, one) == one.head
        assert early.append(zero.head, one) == one.head, "it is committed, whoever did it"


def test_the_member_list_is_compared_and_swapped(client: EtcdClient, keys: Keys) -> None:
    members = MemberList(client, keys)
    assert members.read() is None
    members.swap(None, b"one")
    members.swap(None, b"one")  # as after a lost answer
    with pytest.raises(Conflict):
        members.swap(None, b"two")
    with pytest.raises(Conflict):
        members.swap(b"other", b"two")
    members.swap(b"one", b"two")
    assert members.read() == b"two"


# --- old heads ---------------------------------------------------------------------------------


def test_old_heads_are_forgotten(
    steady: Etcds,
    client: EtcdClient,
    keys: Keys,
    store: Store,
    zero: CandidateBlock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(etcd_journal, "COMPACT_EVERY", 3)
    first = client.swap([], []).revision
    with closing(EtcdJournal(client, keys)) as journal:
        journal.append(None, zero)
        block = zero
        for _ in range(2):
            after = block_after(store, block, block.transition.state.time_ms + 5)
            journal.append(block.head, after)
            store.apply(after)
            block = after
        assert journal.head() == block.head
    (member,) = steady.members
    wait_until(
        lambda: "compacted" in steady.etcdctl_error(member, "get", f"--rev={first}", keys.head.decode()),
        "the old revision is gone",
    )
