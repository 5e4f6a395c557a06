"""The leader's lease: one holder, who knows when it may have lost it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import pytest

from node.cluster.etcd_client import EtcdClient
from node.cluster.etcd_journal import Keys
from node.cluster.lease import LeaderLease
from node.errors import EtcdError, EtcdUnavailable
from tests.cluster.etcds import Etcds, wait_until

pytestmark = pytest.mark.cluster


@pytest.fixture
def key(request: pytest.FixtureRequest) -> bytes:
    return Keys.of(request.node.name.encode()).leader


@pytest.fixture
def pair(client: EtcdClient, key: bytes) -> Iterator[tuple[LeaderLease, LeaderLease]]:
    with (
        closing(LeaderLease(client, key, b"n1")) as first,
        closing(LeaderLease(client, key, b"n2")) as second,
    ):
        yield first, second


def test_one_leads_until_it_resigns(pair: tuple[LeaderLease, LeaderLease]) -> None:
    first, second = pair
    assert first.leader() is None
    assert first.campaign()
    assert first.campaign(), "it has it"
    assert (first.held, second.held, second.campaign()) == (True, False, False)
    assert second.leader() == b"n1"
    first.resign()
    assert (first.held, second.leader()) == (False, None)
    assert second.campaign()
    assert (second.held, first.leader(), first.campaign()) == (True, b"n2", False)


def test_waiting_for_another_leader(pair: tuple[LeaderLease, LeaderLease]) -> None:
    first, second = pair
    assert first.campaign()
    assert second.wait(None, 60) == b"n1"
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(second.wait, b"n1", 60)
        first.resign()
        assert waiting.result(60) is None
        waiting = pool.submit(second.wait, b"n3", 60)
        second.campaign()
        assert waiting.result(60) in (None, b"n2")


def test_it_lives_for_as_long_as_it_is_renewed(client: EtcdClient, key: bytes) -> None:
    with closing(LeaderLease(client, key, b"n1", ttl_s=1)) as lease:
        assert lease.campaign()
        until = time.monotonic() + 2.5
        wait_until(lambda: not lease.held or time.monotonic() > until, "some lives have passed")
        assert lease.held
        assert lease.leader() == b"n1"


def test_it_is_renewed_beside_a_member_that_stands_still(etcds: Etcds, key: bytes) -> None:
    still, other = etcds.followers()
    endpoints = (still.endpoint, other.endpoint, etcds.leader().endpoint)
    with closing(etcds.client(*endpoints)) as client, closing(LeaderLease(client, key, b"n1")) as lease:
        assert lease.campaign()
        still.pause()
        until = time.monotonic() + 5.0
        wait_until(lambda: not lease.held or time.monotonic() > until, "some lives have passed")
        still.resume()
        assert lease.held
        assert lease.leader() == b"n1"


def test_who_dies_loses_it(steady: Etcds, client: EtcdClient, key: bytes) -> None:
    with ExitStack() as stack:
        second = stack.enter_context(closing(LeaderLease(client, key, b"n2", ttl_s=1)))
        dying = steady.client()
        first = stack.enter_context(closing(LeaderLease(dying, key, b"n1", ttl_s=1)))
        assert first.campaign()
        dying.close()
        assert second.wait(b"n1", 60) is None
        assert not first.held, "it knew before etcd let go"
        assert second.campaign()


def test_without_etcd_it_is_not_held_for_longer_than_it_lives(etcds: Etcds, key: bytes) -> None:
    with closing(etcds.client(deadline_s=0.5)) as client, closing(LeaderLease(client, key, b"n1")) as lease:
        assert lease.campaign()
        for member in etcds.members:
            member.pause()
        wait_until(lambda: not lease.held, "the lease is over")
        with pytest.raises(EtcdUnavailable):
            lease.campaign()
        for member in etcds.members:
            member.resume()

        def campaign() -> bool:
            try:
                return lease.campaign()
            except EtcdError:
                return False  # elections go on

        wait_until(campaign, "it leads again")


def test_the_lease_outlives_etcds_leader(etcds: Etcds, key: bytes) -> None:
    with closing(etcds.client()) as client, closing(LeaderLease(client, key, b"n1")) as lease:
        assert lease.campaign()
        etcds.leader().kill()

        def again() -> bool:
            try:
                return lease.campaign() and lease.leader() == b"n1"
            except EtcdError:
                return False

        wait_until(again, "it leads, still or again")


def test_a_lease_that_was_revoked_is_noticed(steady: Etcds, client: EtcdClient, key: bytes) -> None:
    with closing(LeaderLease(client, key, b"n1")) as lease:
        assert lease.campaign()
        found = client.get(key)
        assert found is not None
        client.revoke(found.lease)
        wait_until(lambda: not lease.held, "the next beat tells")
        assert lease.campaign()


def test_closing_ends_whoever_waits(client: EtcdClient, key: bytes) -> None:
    lease = LeaderLease(client, key, b"n1")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lease.wait, None, 60)
        lease.close()
        with pytest.raises(EtcdUnavailable, match="closed"):
            waiting.result(60)
