"""Callers who ask and do not read: what is held for them has a bound, and others do not notice."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
import pytest_asyncio
from google.protobuf.message import Message

from ledger.leaves import LeafType
from node.codec import BlockInfo
from node.doors import http_protocol
from node.doors.outgoing import SMALL, Outgoing
from node.doors.reads import BlockHead, Reads
from node.doors.releases import Releases
from node.doors.resources import BYTES, Resource, Resources
from node.errors import AnswersWaiting
from sudur.v1 import ledger_pb2 as pb
from tests.node.served import Served, refused, serve

MIB = 1 << 20


@pytest_asyncio.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serve(tmp_path / "data") as served:
        yield served


@contextlib.asynccontextmanager
async def unread(served: Served, method: str, request: Message, calls: int) -> AsyncIterator[list[Any]]:
    """Calls that are made, and whose answers nobody reads, on a connection with a window of 64 KiB."""
    options = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65_536)]
    async with grpc.aio.insecure_channel(str(served.node.grpc), options=options) as channel:
        call: Any = channel.unary_stream(
            f"/sudur.v1.LedgerService/{method}", request_serializer=lambda one: one.SerializeToString()
        )
        yield [call(request) for _ in range(calls)]


async def others_are_served(served: Served) -> None:
    """And so the node has had time to go on with whatever it has begun."""
    for _ in range(50):
        assert (await served.http.get("/healthz")).status_code == 200


# --- gRPC --------------------------------------------------------------------------------------


async def test_a_stream_of_entries_makes_the_next_batch_when_the_last_was_taken(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []

    def endless(reads: Reads, wanted: range) -> Iterator[tuple[int, list[bytes]]]:
        while True:
            made.append(1)
            yield 0, [bytes(60_000)] * 4

    monkeypatch.setattr(Reads, "batches", endless)
    async with unread(served, "StreamEntries", pb.StreamEntriesRequest(), 8):
        async with asyncio.timeout(30):
            while len(made) < 8:
                await others_are_served(served)
        await others_are_served(served)
        assert len(made) <= 3 * 8


async def test_a_watch_holds_no_heads_for_a_slow_reader(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []

    async def at_once(releases: Releases, number: int) -> None:
        return None

    async def head(reads: Reads, number: int) -> BlockHead:
        made.append(number)
        info = BlockInfo(number, 0, 1, 0, bytes(32), bytes(32))
        return BlockHead(info, bytes(100_000), ((LeafType.SEAL, 1),))

    monkeypatch.setattr(Releases, "block", at_once)
    monkeypatch.setattr(Reads, "block_head", head)
    async with unread(served, "WatchBlocks", pb.WatchBlocksRequest(), 8):
        async with asyncio.timeout(30):
            while len(made) < 8:
                await others_are_served(served)
        await others_are_served(served)
        assert len(made) <= 5 * 8


async def test_who_takes_no_answers_gets_no_more_until_it_does(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def checkpoint(reads: Reads, size: int) -> bytes:
        asked.append(size)
        return bytes(2 * MIB)

    monkeypatch.setattr(Reads, "checkpoint", checkpoint)
    async with unread(served, "GetCheckpoint", pb.GetCheckpointRequest(), 100):
        async with asyncio.timeout(30):
            while len(asked) < 32:
                await others_are_served(served)
        await others_are_served(served)
        assert len(asked) == 32, "64 MiB and what goes around the last"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.stub.GetLedger(pb.GetLedgerRequest())
        told = refused(caught.value)
        assert (told.reason, told.retry is not None) == ("QUEUE_FULL", True)
        answer = await served.http.get("/checkpoint")
        assert (answer.status_code, answer.json()["code"]) == (503, "QUEUE_FULL")
    monkeypatch.undo()
    async with asyncio.timeout(30):
        while (await served.http.get("/checkpoint")).status_code == 503:
            pass
    await served.stub.GetLedger(pb.GetLedgerRequest())


# --- HTTP --------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def unread_body(served: Served) -> AsyncIterator[asyncio.StreamReader]:
    reader, writer = await asyncio.open_connection(served.node.http.host, served.node.http.port, limit=1_024)
    writer.write(b"GET /status/events/0 HTTP/1.1\r\nHost: node\r\n\r\n")
    yield reader
    writer.close()


@pytest.fixture
def long_bodies(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bodies of 30 MiB at /status/events; how often one was asked for."""
    asked: list[int] = []

    def events(resources: Resources, number: int) -> Resource:
        asked.append(number)
        return Resource(b"0123456789abcdef" * (30 * MIB // 16), BYTES)

    monkeypatch.setattr(Resources, "status_events", events)
    return asked


async def test_long_bodies_that_nobody_reads_are_few(served: Served, long_bodies: list[int]) -> None:
    async with contextlib.AsyncExitStack() as stack:
        readers = []
        async with asyncio.timeout(30):
            while len(long_bodies) < 3:
                readers.append(await stack.enter_async_context(unread_body(served)))
                await readers[-1].read(1)
                await others_are_served(served)
        answer = await served.http.get("/status/events/0")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
        assert len(long_bodies) == 3


async def test_a_long_body_comes_whole_to_who_reads_it(served: Served, long_bodies: list[int]) -> None:
    whole = await served.http.get("/status/events/0")
    assert (len(whole.content), int(whole.headers["content-length"])) == (30 * MIB, 30 * MIB)
    assert whole.content == b"0123456789abcdef" * (30 * MIB // 16)
    head = await served.http.head("/status/events/0")
    assert (head.content, int(head.headers["content-length"])) == (b"", 30 * MIB)
    assert len(long_bodies) == 2


async def test_a_reader_that_stands_still_is_cut_off(
    served: Served, long_bodies: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "STALL_S", 0.2)
    async with unread_body(served) as reader:
        await reader.read(1)
        async with asyncio.timeout(30):
            while (await served.http.get("/metrics")).text.count('route="/status/events/{number}"') == 0:
                pass
            got = 0
            with contextlib.suppress(ConnectionResetError):
                while more := await reader.read(MIB):
                    got += len(more)
        assert got < 30 * MIB


# --- counting ----------------------------------------------------------------------------------


def test_what_is_held_is_counted_by_address_and_in_all() -> None:
    outgoing = Outgoing(most=10 * MIB, most_of_an_address=4 * MIB)
    back = [outgoing.hold("a", 2 * MIB) for _ in range(3)]
    with pytest.raises(AnswersWaiting, match="6291456 bytes"):
        outgoing.check("a")
    outgoing.check("b")
    back.pop()()
    outgoing.check("a")
    others = [outgoing.hold("b", 2 * MIB), outgoing.hold("c", 4 * MIB), outgoing.hold("d", MIB)]
    for address in "abcd":
        with pytest.raises(AnswersWaiting):
            outgoing.check(address)
    outgoing.check("e")
    for one in (*back, *others):
        one()
    for address in "abcde":
        outgoing.check(address)


def test_small_answers_are_not_counted() -> None:
    outgoing = Outgoing(most=0, most_of_an_address=0)
    for _ in range(100):
        outgoing.hold("a", SMALL)()
        outgoing.check("a")
