"""Before there is anything to serve: a door that says so at once, and not one that nobody answers."""

from __future__ import annotations

from pathlib import Path

import grpc
import httpx
import pytest

from sudur.v1 import ledger_pb2
from tests.cluster.etcds import wait_until
from tests.cluster.ledgers import Cluster, Node
from tests.fault.processes import refused

pytestmark = [pytest.mark.slow, pytest.mark.cluster]


def test_a_member_that_waits_for_the_others_says_so(tmp_path: Path) -> None:
    with Cluster(tmp_path / "cluster") as cluster:
        cluster.etcds.start()
        nodes = cluster.nodes
        nodes += [Node(cluster.place(f"n{number}")) for number in (1, 2, 3)]
        for node in nodes:
            node.members = [(one.name, one.place.listed) for one in nodes]
        first, *others = nodes
        first.spawn()
        with httpx.Client(base_url=f"http://127.0.0.1:{first.place.http}", timeout=5) as http:
            wait_until(lambda: answers(http), "its door answers")
            assert http.get("/healthz").json() == {"alive": True}
            ready = http.get("/readyz")
            assert ready.status_code == 503
            (reason,) = ready.json()["reasons"]
            assert reason.startswith("NO_LEADER")
            assert http.get("/metrics").status_code == 200
            problem = http.get("/checkpoint")
            assert (problem.status_code, problem.json()["code"]) == (503, "NO_LEADER")
            assert problem.headers["retry-after"] == "1"
            with first.stub() as stub:
                with pytest.raises(grpc.RpcError) as caught:
                    stub.GetLedger(ledger_pb2.GetLedgerRequest(), timeout=5)
                assert reason_of(caught.value) == "NO_LEADER"
                with pytest.raises(grpc.RpcError) as streamed:
                    next(stub.StreamBlocks(ledger_pb2.StreamBlocksRequest(), timeout=5))
                assert reason_of(streamed.value) == "NO_LEADER"
            for node in others:
                node.spawn()
            cluster.wait_led()
            wait_until(lambda: http.get("/checkpoint").status_code == 200, "it serves at the same door")
        assert first.state() is not None


def answers(http: httpx.Client) -> bool:
    try:
        return http.get("/healthz").status_code == 200
    except httpx.TransportError:
        return False


def reason_of(error: grpc.RpcError) -> str:
    info = refused(error).info
    return "" if info is None else info.reason
