"""A cluster and its witnesses: the leader asks, all serve what came, a change of leader loses nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger.notes import VerifierKey, parse_note
from ledger.witnessing import SIZE_TYPE
from tests.cluster.etcds import Etcds
from tests.cluster.serving import Cluster, Node, cluster, until
from tests.ledger.world import log_key
from tests.witnesses import FakeWitness, policy

pytestmark = [pytest.mark.slow, pytest.mark.cluster]


@pytest.fixture
def witnesses() -> Iterator[dict[str, FakeWitness]]:
    key = VerifierKey.parse(log_key("log"))
    made = {name: FakeWitness(name, key).start() for name in ("one", "two", "three")}
    yield made
    for one in made.values():
        one.stop()


async def published(node: Node) -> tuple[int, int]:
    """(size, signatures) of what a member serves to verifiers; (0, 0) for nothing yet."""
    answer = await node.served.http.get("/checkpoint")
    if answer.status_code == 503:
        return 0, 0
    assert answer.status_code == 200, answer.text
    note = parse_note(answer.content)
    return int(note.text.split(b"\n")[1]), len(note.signatures)


async def all_published(nodes: list[Node], size: int) -> None:
    async def there() -> bool:
        found = [await published(one) for one in nodes]
        return all(at >= size and signatures >= 3 for at, signatures in found)

    await until(there, f"publication of {size} at {len(nodes)} members")


async def submit(cluster: Cluster) -> int:
    """One document more; the size of its block."""
    node = cluster.leader
    answer = await node.served.stub.Submit(node.served.request(node.served.submission(1)))
    size: int = answer.placement.block_size
    return size


async def leads_again(cluster: Cluster) -> None:
    await until(lambda: sum(one.running.member.leads for one in cluster.nodes) == 1, "another leader")


def test_the_leader_asks_and_all_members_publish(
    tmp_path: Path, steady: Etcds, witnesses: dict[str, FakeWitness]
) -> None:
    async def scenario() -> None:
        text = policy(2, **{name: one.url for name, one in witnesses.items()})
        async with cluster(tmp_path, steady, policy=text) as made:
            leader = made.leader
            await leader.served.enrol()
            size = await submit(made)
            await all_published(made.nodes, size)
            said = [(await one.served.http.get("/v1/witnesses")).json() for one in made.nodes]
            assert {one["published_size"] for one in said} == {size}
            assert sum(any(each["url"] for each in one["witnesses"]) for one in said) == 1
            assert {one.most for one in witnesses.values()} == {1}, "one member asks"
            # Two more blocks; one witness is down, then the leader goes, amid them.
            witnesses["three"].stop()
            sizes = [await submit(made) for _ in range(3)]
            await all_published([leader], sizes[-1])
            made.nodes.remove(leader)
            await leader.stop()
            await leads_again(made)
            # What was published is so at those that stay.
            await all_published(made.nodes, sizes[-1])
            for one in made.nodes:
                one.served.keys[1], one.served.names = leader.served.keys[1], leader.served.names
            more = await submit(made)
            await all_published(made.nodes, more)
            health = (await made.leader.served.http.get("/v1/witnesses")).json()["witnesses"]
            troubles = {one["name"]: one["trouble"] for one in health}
            assert troubles == {"one": "", "two": "", "three": "SILENT"}, "the next leader asks them too"

    asyncio.run(scenario())


def test_a_member_that_was_away_takes_over_what_was_published(
    tmp_path: Path, steady: Etcds, witnesses: dict[str, FakeWitness]
) -> None:
    async def scenario() -> None:
        text = policy(2, **{name: one.url for name, one in witnesses.items()})
        async with cluster(tmp_path, steady, policy=text) as made:
            await made.leader.served.enrol()
            away = made.followers[0]
            made.nodes.remove(away)
            await away.stop()
            size = await submit(made)
            await all_published(made.nodes, size)
            await made.start_again(away.name)
            await all_published(made.nodes, size)

    asyncio.run(scenario())


def test_nobody_leads_anew_against_a_witness_that_has_seen_more(
    tmp_path: Path, steady: Etcds, witnesses: dict[str, FakeWitness]
) -> None:
    async def scenario() -> None:
        text = policy(2, **{name: one.url for name, one in witnesses.items()})
        async with cluster(tmp_path, steady, policy=text) as made:
            leader = made.leader
            await leader.served.enrol()
            await all_published(made.nodes, await submit(made))
            # As if these machines had been set back together: disks, marks and etcd.
            witnesses["two"].lie = lambda _: (409, SIZE_TYPE, b"1000000\n")
            made.nodes.remove(leader)
            await leader.stop()

            def all_refuse() -> bool:
                return all("1000000 leaves" in one.running.member.alarm for one in made.nodes)

            await until(all_refuse, "both refuse to sign")
            assert not any(one.running.member.leads for one in made.nodes)
            for one in made.nodes:
                assert (await one.served.http.get("/checkpoint")).status_code == 200, "reads go on"

    asyncio.run(scenario())
