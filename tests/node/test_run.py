"""Starting and stopping a whole node: addresses, ports in use, restarts, signals, what a stop answers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ledger.errors import WrongLedger
from ledger.leaves import LeafType
from node.config import Address, RequestLimits
from node.disk import free_bytes
from node.doors.http_server import HttpServer
from node.errors import DataInUse, NodeError, NotFound
from node.run import RunningNode, run, start_node
from sudur.v1 import ledger_pb2, ledger_pb2_grpc
from tests.ledger.world import World, issue, signer
from tests.node.served import Refused, genesis_leaf, refused, serve, settings, taken_apart

Code = grpc.StatusCode


async def refusal(call: Any) -> Refused:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return refused(caught.value)


async def test_a_restarted_node_goes_on(tmp_path: Path) -> None:
    async with serve(tmp_path / "data") as first:
        request = first.request(first.submission(1))
        answer = await first.stub.Submit(request)
        size = first.size
    async with serve(tmp_path / "data") as second:
        assert second.size == size
        assert second.open((await second.http.get("/checkpoint")).content).size == size
        again = await second.stub.Submit(request)
        assert again.placement.repeat
        assert again.placement.submission_index == answer.placement.submission_index
        await second.submit(1, [issue(1, "after the restart", 0)])


async def test_a_new_data_directory_needs_a_genesis(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        async with start_node(settings(tmp_path / "data"), [signer("log")]):
            pass
    assert not (tmp_path / "data").exists()


async def test_the_log_key_must_be_the_ledgers(tmp_path: Path) -> None:
    with pytest.raises(NodeError, match="log key"):
        async with start_node(settings(tmp_path / "data"), [signer("other")], genesis_leaf()):
            pass


async def test_another_genesis_is_refused(tmp_path: Path) -> None:
    async with serve(tmp_path / "data"):
        pass
    with pytest.raises(WrongLedger, match="another genesis"):
        async with start_node(settings(tmp_path / "data"), [signer("log")], World().genesis_leaf()):
            pass
    async with serve(tmp_path / "data") as again:
        await again.submit()


async def test_two_nodes_on_one_directory(tmp_path: Path) -> None:
    async with serve(tmp_path / "data") as first:
        with pytest.raises(DataInUse):
            async with start_node(settings(tmp_path / "data"), [signer("log")]):
                pass
        await first.submit()


async def test_a_port_in_use_is_named_and_nothing_stays_open(tmp_path: Path) -> None:
    async with serve(tmp_path / "one") as first:
        for taken in ({"grpc": first.node.grpc}, {"http": first.node.http}):
            (address,) = taken.values()
            with pytest.raises(NodeError, match=rf"{address}.*another address"):
                async with serve(tmp_path / "two", **taken):
                    pass
            assert not (tmp_path / "two").exists(), "a start that fails founds no ledger"
            assert not (tmp_path / "two.mark").exists()
        async with serve(tmp_path / "two") as second:
            await second.submit()
        await first.submit()


async def test_a_public_url_is_what_clients_are_told(tmp_path: Path) -> None:
    async with serve(tmp_path / "data", public_url="https://ledger.example/log") as served:
        ledger = await served.stub.GetLedger(ledger_pb2.GetLedgerRequest())
        assert ledger.resources_url == "https://ledger.example/log"


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as one:
            one.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")
async def test_nobody_else_can_touch_the_data(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        async with serve(tmp_path / "data"):
            assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
            assert stat.S_IMODE((tmp_path / "data" / "db").stat().st_mode) == 0o700
            assert stat.S_IMODE((tmp_path / "data.mark").stat().st_mode) == 0o600
    finally:
        os.umask(mask)


async def test_a_caller_has_only_so_many_streams(tmp_path: Path) -> None:
    limits = RequestLimits(max_watches=8, max_peer_watches=3)
    async with serve(tmp_path / "data", limits=limits) as served:
        watches = [served.stub.WatchBlocks(ledger_pb2.WatchBlocksRequest()) for _ in range(3)]
        for watch in watches:
            await watch.read()
        extra = served.stub.WatchBlocks(ledger_pb2.WatchBlocksRequest())
        answer = await refusal(extra.read())
        assert (answer.code, answer.reason) == (Code.RESOURCE_EXHAUSTED, "QUEUE_FULL")
        await served.submit()
        watches.pop().cancel()

        async def room() -> bool:
            try:
                await served.stub.WatchBlocks(ledger_pb2.WatchBlocksRequest()).read()
            except grpc.aio.AioRpcError:
                return False
            return True

        async with asyncio.timeout(30):
            while not await room():
                pass
        for watch in watches:
            watch.cancel()


async def test_a_connection_that_says_nothing_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HttpServer.__init__, "__kwdefaults__", {"head_s": 0.2})
    async with serve(tmp_path / "data") as served:
        for said in (b"", b"GET /checkpoint HTTP/1.1\r\nHost:"):
            reader, writer = await asyncio.open_connection(served.node.http.host, served.node.http.port)
            writer.write(said)
            async with asyncio.timeout(30):
                with contextlib.suppress(ConnectionResetError):
                    assert await reader.read() == b""
            writer.close()
        assert (await served.http.get("/healthz")).status_code == 200


async def test_ipv6(tmp_path: Path) -> None:
    async with serve(tmp_path / "data", grpc=Address("::1", 0), http=Address("::1", 0)) as served:
        await served.submit()
        assert (await served.http.get("/checkpoint")).status_code == 200


async def test_a_stop_answers_what_waits_and_ends_streams(tmp_path: Path) -> None:
    async with serve(tmp_path / "data") as served:
        requests = [served.request(served.submission(1)) for _ in range(200)]
    context = start_node(settings(tmp_path / "data"), [signer("log")])
    node = await context.__aenter__()
    async with grpc.aio.insecure_channel(str(node.grpc)) as channel:
        stub = ledger_pb2_grpc.LedgerServiceStub(channel)
        watch = stub.WatchBlocks(ledger_pb2.WatchBlocksRequest())
        await watch.read()
        entries = stub.StreamEntries(ledger_pb2.StreamEntriesRequest())
        await entries.read()
        calls = [asyncio.ensure_future(stub.Submit(one)) for one in requests]
        await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        stopping = asyncio.create_task(context.__aexit__(None, None, None))
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        ended = await refusal(read_all(watch))
        await stopping
    assert (ended.code, ended.reason) == (Code.UNAVAILABLE, "STOPPING")
    placed = [one for one in outcomes if isinstance(one, ledger_pb2.SubmitResponse)]
    errors = [refused(one) for one in outcomes if isinstance(one, grpc.aio.AioRpcError)]
    assert placed
    assert len(placed) + len(errors) == 200
    # A call that came after the server closed its door is ended by gRPC itself, without a reason.
    own = {(Code.UNAVAILABLE, "STOPPING"), (Code.UNAVAILABLE, ""), (Code.CANCELLED, "")}
    assert {(one.code, one.reason) for one in errors} <= own
    async with serve(tmp_path / "data") as again:
        leaves = again.node.ledger.store.leaves(0, again.size)
        assert all(leaves[one.placement.first_record_index][1] == LeafType.ISSUE for one in placed)


async def test_a_stop_ends_a_watch_that_waits_on_an_idle_ledger(tmp_path: Path) -> None:
    context = start_node(settings(tmp_path / "data", stop_grace_s=20.0), [signer("log")], genesis_leaf())
    node = await context.__aenter__()
    async with grpc.aio.insecure_channel(str(node.grpc)) as channel:
        stub = ledger_pb2_grpc.LedgerServiceStub(channel)
        watch = stub.WatchBlocks(ledger_pb2.WatchBlocksRequest())
        await watch.read()
        waiting = asyncio.create_task(refusal(watch.read()))
        await stub.GetLedger(ledger_pb2.GetLedgerRequest())
        await asyncio.wait_for(context.__aexit__(None, None, None), 10)
        ended = await waiting
    assert (ended.code, ended.reason) == (Code.UNAVAILABLE, "STOPPING")


async def read_all(call: Any) -> None:
    while await call.read() is not grpc.aio.EOF:
        pass


async def test_read_only_is_said_everywhere_and_reads_go_on(tmp_path: Path) -> None:
    floor = free_bytes(tmp_path) + (1 << 40)
    async with (
        start_node(settings(tmp_path / "data", disk_floor=floor), [signer("log")], genesis_leaf()) as node,
        grpc.aio.insecure_channel(str(node.grpc)) as channel,
    ):
        stub = ledger_pb2_grpc.LedgerServiceStub(channel)
        assert (await http_get(node, "/readyz")).startswith(b"HTTP/1.1 503")  # though none has tried yet
        genesis = (await stub.GetLedger(ledger_pb2.GetLedgerRequest())).genesis
        one = ledger_pb2.Submission(leaf=b"\x01", records=b"")
        found = await refusal(stub.Submit(ledger_pb2.SubmitRequest(genesis=genesis, submission=one)))
        assert (found.code, found.reason) == (Code.RESOURCE_EXHAUSTED, "DISK_FULL")
        assert found.retry is not None
        bulk = await stub.SubmitBulk(ledger_pb2.SubmitBulkRequest(genesis=genesis, submissions=[one, one]))
        reasons = [taken_apart(result.error, Code.UNKNOWN).reason for result in bulk.results]
        assert reasons == ["DISK_FULL", "DISK_FULL"]
        health = health_pb2_grpc.HealthStub(channel)
        watch = health.Watch(health_pb2.HealthCheckRequest(service="sudur.v1.LedgerService"))
        async for answer in watch:
            if answer.status == health_pb2.HealthCheckResponse.NOT_SERVING:
                break
        watch.cancel()
        ready = await http_get(node, "/readyz")
        assert ready.startswith(b"HTTP/1.1 503")
        assert b"DISK_FULL" in ready
        assert (await http_get(node, "/checkpoint")).startswith(b"HTTP/1.1 200")
        assert b"sudur_read_only 1.0" in await http_get(node, "/metrics")
        await stub.GetInclusionProof(ledger_pb2.GetInclusionProofRequest(index=0))


async def http_get(node: RunningNode, path: str) -> bytes:
    reader, writer = await asyncio.open_connection(node.http.host, node.http.port)
    writer.write(f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_run_reports_its_addresses_and_stops_on_a_signal(
    tmp_path: Path, number: signal.Signals
) -> None:
    seen: list[RunningNode] = []

    def ready(node: RunningNode) -> None:
        seen.append(node)
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), number)

    await asyncio.wait_for(run(settings(tmp_path / "data"), [signer("log")], genesis_leaf(), ready=ready), 30)
    (node,) = seen
    assert min(node.grpc.port, node.http.port) > 0
    assert node.resources_url == f"http://127.0.0.1:{node.http.port}"
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(node.http.host, node.http.port)
    async with serve(tmp_path / "data") as again:
        await again.submit()


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:7070", Address("127.0.0.1", 7070)),
        ("[::1]:0", Address("::1", 0)),
        ("node.example:65535", Address("node.example", 65_535)),
    ],
)
async def test_addresses(text: str, address: Address) -> None:
    assert Address.parse(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "7070",
        "host",
        "host:",
        ":7070",
        "::1:7070",
        "host:65536",
        "host:-1",
        "host:٧٠",
        "h:" + "9" * 9_000,
    ],
)
async def test_no_addresses(text: str) -> None:
    with pytest.raises(NodeError):
        Address.parse(text)


@pytest.mark.parametrize(
    "change", [{"public_url": "https://x/"}, {"public_url": "x"}, {"stop_grace_s": -1.0}]
)
async def test_unusable_settings(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(NodeError):
        replace(settings(tmp_path), **change)
