"""What a cluster shows of itself: its metrics move, and one request id finds the lines on both nodes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, MutableMapping
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
import structlog
from structlog.contextvars import merge_contextvars

from node.cluster.cluster_metrics import ClusterMetrics
from node.cluster.etcd_client import EtcdClient
from node.commit import STEPS
from node.doors.request_ids import HEADER
from node.errors import EtcdUnavailable
from node.metrics import Metrics
from sudur.v1 import ledger_pb2
from tests.cluster.etcds import Etcds, free_ports
from tests.cluster.serving import Cluster, Node, cluster, until


@pytest.fixture
def lines() -> Iterator[list[MutableMapping[str, Any]]]:
    with structlog.testing.capture_logs(processors=[merge_contextvars]) as caught:
        yield caught


@pytest.fixture
def etcds_of_one(tmp_path: Path) -> Iterator[Etcds]:
    """Nothing in it: all tests here found the same ledger."""
    with Etcds(tmp_path / "etcd", 1) as one:
        yield one.start()


async def test_metrics_of_a_cluster(tmp_path: Path, etcds_of_one: Etcds) -> None:
    async with cluster(tmp_path, etcds_of_one) as nodes:
        leader, follower = nodes.leader, nodes.followers[0]
        agency = await leader.served.enrol()
        follower.served.keys = leader.served.keys
        await follower.served.submit(agency)
        await until(lambda: level(nodes), "all members level")
        await until(lambda: rounds_made(nodes), "each member has heard the others")
        led, followed = await leader.values(), await follower.values()
        the_leader_counts(led, nodes)
        block = led["sudur_block_number"]
        assert block == 3
        for values in (led, followed):
            assert values["sudur_cluster_applied_block"] == block
            assert values["sudur_cluster_decided_block"] == block
            assert values["sudur_cluster_blocks_behind"] == 0
            assert values["sudur_cluster_epoch"] == 1
            assert values["sudur_cluster_frozen"] == 0
            assert [v for name, v in values.items() if name.startswith("sudur_cluster_alarm")] == [0] * 5
            assert values[f'sudur_etcd_up{{endpoint="{etcds_of_one.endpoints[0]}"}}'] == 1
            assert values[f'sudur_etcd_complains{{endpoint="{etcds_of_one.endpoints[0]}"}}'] == 0
            assert values[f'sudur_etcd_database_bytes{{endpoint="{etcds_of_one.endpoints[0]}"}}'] > 0
            assert values['sudur_etcd_calls_total{code="OK",kind="read"}'] > 1
        assert followed["sudur_submissions_forwarded_total"] == 1
        assert followed["sudur_cluster_leads"] == 0
        await the_next_term_is_counted(nodes, leader)


def the_leader_counts(values: dict[str, float], nodes: Cluster) -> None:
    assert values["sudur_cluster_leads"] == 1
    assert values["sudur_cluster_terms_begun_total"] == 1
    assert values["sudur_submissions_accepted_total"] == 1
    for step in STEPS:
        assert values[f'sudur_commit_step_seconds_count{{step="{step}"}}'] >= 3, step
    for one in nodes.followers:
        assert values[f'sudur_peer_up{{member="{one.name}"}}'] == 1
        assert values[f'sudur_peer_calls_total{{code="OK",member="{one.name}"}}'] >= 9
        assert values[f'sudur_peer_call_seconds_count{{member="{one.name}"}}'] >= 9
        assert abs(values[f'sudur_peer_clock_offset_seconds{{member="{one.name}"}}']) < 1
    assert values['sudur_etcd_calls_total{code="OK",kind="swap"}'] >= 3
    assert values['sudur_etcd_call_seconds_count{kind="swap"}'] >= 3


async def test_who_is_not_the_listed_member_is_missed(tmp_path: Path, etcds_of_one: Etcds) -> None:
    async with cluster(tmp_path, etcds_of_one) as nodes:
        lost = nodes.followers[0]
        nodes.nodes.remove(lost)
        await lost.stop()
        others = tuple(nodes.nodes)
        await nodes.start_empty(lost.name)
        for one in others:
            await until(
                lambda one=one: said(one, f'sudur_peer_up{{member="{lost.name}"}}', 0), "it is missed"
            )
            state = await one.served.stub.GetCluster(ledger_pb2.GetClusterRequest())
            (found,) = [member for member in state.members if member.name == lost.name]
            assert "not the member" in found.unheard


async def the_next_term_is_counted(nodes: Cluster, leader: Node) -> None:
    nodes.nodes.remove(leader)
    await leader.stop()
    await nodes.agree()
    values = await nodes.leader.values()
    assert values["sudur_cluster_leads"] == 1
    assert values["sudur_cluster_terms_begun_total"] == 1
    await until(lambda: said(nodes.leader, f'sudur_peer_up{{member="{leader.name}"}}', 0), "it is missed")


async def level(nodes: Cluster) -> bool:
    found = {(await one.values())["sudur_block_number"] for one in nodes.nodes}
    return len(found) == 1


async def rounds_made(nodes: Cluster) -> bool:
    shown = [name for one in nodes.nodes for name in await one.values()]
    return sum(name.startswith("sudur_peer_up") for name in shown) == 6


async def said(node: Node, series: str, value: float) -> bool:
    return (await node.values()).get(series) == value


async def test_an_etcd_that_was_wiped_is_an_alarm(tmp_path: Path, etcds_of_one: Etcds) -> None:
    async with cluster(tmp_path, etcds_of_one) as nodes:
        await nodes.leader.served.enrol()
        await until(lambda: level(nodes), "all members level")
        before = await nodes.leader.values()
        assert before['sudur_cluster_alarm{reason="ETCD_ABSENT"}'] == 0
        await asyncio.to_thread(etcds_of_one.wipe)
        for one in nodes.nodes:
            await until(
                lambda one=one: said(one, 'sudur_cluster_alarm{reason="ETCD_ABSENT"}', 1),
                f"{one.name} raises the alarm",
            )
            values = await one.values()
            assert (values["sudur_cluster_leads"], values["sudur_read_only"]) == (0, 1)
            assert values["sudur_block_number"] == before["sudur_block_number"], "it serves what it has"
            answer = await one.served.http.get("/readyz")
            assert (answer.status_code, "ETCD_ABSENT" in answer.text) == (503, True)
            state = await one.served.stub.GetCluster(ledger_pb2.GetClusterRequest())
            assert "etcd holds no head" in state.trouble
            assert abs(state.time_ms - state.members[0].time_ms) < 1_000


def test_tries_of_calls_to_etcd_are_counted() -> None:
    counted = ClusterMetrics(Metrics("test"))
    (port,) = free_ports(1)
    with (
        closing(EtcdClient([f"127.0.0.1:{port}"], deadline_s=0.2, observer=counted)) as client,
        pytest.raises(EtcdUnavailable),
    ):
        client.get(b"key")
    found = {
        name: counted.registry.get_sample_value(name, labels)
        for name, labels in (
            ("sudur_etcd_calls_total", {"kind": "read", "code": "UNAVAILABLE"}),
            ("sudur_etcd_call_seconds_count", {"kind": "read"}),
            ("sudur_etcd_retries_total", {"kind": "read"}),
        )
    }
    tries, timed, again = found.values()
    assert tries == timed
    assert again is not None
    assert tries == again + 1 >= 2


async def test_one_id_finds_the_lines_on_both_nodes(
    tmp_path: Path, etcds_of_one: Etcds, lines: list[MutableMapping[str, Any]]
) -> None:
    async with cluster(tmp_path, etcds_of_one) as nodes:
        served = nodes.followers[0].served
        agency = await nodes.leader.served.enrol()
        served.keys = nodes.leader.served.keys
        submission = served.submission(agency)
        submission.records += b"x"
        letter = ledger_pb2.PutEnvelopeRequest(
            genesis=served.genesis,
            authorization=ledger_pb2.EnvelopeAuthorization(agency=agency, key_number=1),
            envelope=b"no envelope",
        )
        calls: dict[str, tuple[Any, Any]] = {
            "Submit": (served.stub.Submit, served.request(submission)),
            "SubmitBulk": (served.stub.SubmitBulk, served.bulk(submission)),
            "ChangeRegistry": (
                served.stub.ChangeRegistry,
                ledger_pb2.ChangeRegistryRequest(genesis=served.genesis, leaf=b"no leaf"),
            ),
            "PutEnvelope": (served.stub.PutEnvelope, letter),
        }
        for method, (call, request) in calls.items():
            request_id = f"trouble-with-{method}"
            if method == "SubmitBulk":
                await call(request, metadata=((HEADER, request_id),))
            else:
                with pytest.raises(grpc.aio.AioRpcError):
                    await call(request, metadata=((HEADER, request_id),))
            found = [one for one in lines if one.get("request_id") == request_id]
            assert [one["event"] for one in found] == ["refused", "refused"], found
            at_leader, at_follower = found
            # What is submitted alone is handed on like a bulk of one.
            assert at_leader["method"] == {"Submit": "SubmitBulk"}.get(method, method)
            assert at_follower["method"] == method
            assert at_leader["reasons"] == at_follower["reasons"]
            assert at_leader["peer"] != at_follower["peer"]
