"""However busy a member's threads are, it votes, and answers the other members."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.cluster.peers import PeerLink
from sudur.v1 import peer_pb2
from tests.cluster.etcds import Etcds
from tests.cluster.serving import Node, cluster

pytestmark = pytest.mark.cluster


@pytest.fixture
def etcds_of_one(tmp_path: Path) -> Iterator[Etcds]:
    with Etcds(tmp_path / "etcd", 1) as one:
        yield one.start()


def link_to(node: Node) -> PeerLink:
    return PeerLink(node.name, node.running.peer, None)


async def test_it_votes_while_all_threads_of_the_doors_wait(tmp_path: Path, etcds_of_one: Etcds) -> None:
    async with cluster(tmp_path, etcds_of_one) as nodes:
        agency = await nodes.leader.served.enrol()
        free = threading.Event()
        waiting = [asyncio.create_task(asyncio.to_thread(free.wait, 60)) for _ in range(64)]
        try:
            # All three share this process's threads.
            await asyncio.wait_for(nodes.leader.served.submit(agency), 8)
        finally:
            free.set()
            await asyncio.gather(*waiting)


async def test_a_release_does_not_wait_for_a_catch_up(tmp_path: Path, etcds_of_one: Etcds) -> None:
    async with cluster(tmp_path, etcds_of_one) as nodes:
        await nodes.leader.served.enrol()
        replica = nodes.followers[0].running.member.replica
        held, free = threading.Event(), threading.Event()

        def catching_up() -> None:
            with replica.catching_up(1):
                held.set()
                free.wait(30)

        thread = asyncio.create_task(asyncio.to_thread(catching_up))
        await asyncio.to_thread(held.wait)
        link = link_to(nodes.followers[0])
        head = replica.vote.head
        assert head is not None
        note = nodes.leader.running.ledger.published.checkpoint
        request = peer_pb2.ReleaseRequest(head=head.encode(), checkpoint=note)
        try:
            await asyncio.to_thread(link.call, lambda stub, s: stub.Release(request, timeout=s), 3.0)
        finally:
            free.set()
            await thread
            await asyncio.to_thread(link.close)
