"""StreamBlocks, and a store that takes its blocks from it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from node.copying.block_source import MAX_MESSAGE, Block, Pulse
from node.copying.catch_up import Terms, TrustedHead, catch_up
from node.copying.remote_blocks import CHANNEL_OPTIONS, RemoteBlocks
from node.errors import PeerShort, PeerSilent, PeerWrong
from node.store import Store
from sudur.v1 import ledger_pb2 as pb
from tests.ledger.world import issue
from tests.node.served import Served, refused, serve

Code = grpc.StatusCode


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serve(tmp_path / "data") as one:
        for _ in range(5):
            await one.submit()
        yield one


def blocks_of(messages: list[pb.StreamBlocksResponse]) -> dict[int, tuple[bytes, bytes]]:
    found: dict[int, tuple[bytes, bytes]] = {}
    for message in messages:
        for piece in message.pieces:
            found[piece.number] = (found.get(piece.number, (b"",))[0] + piece.packed, piece.checkpoint)
    return found


async def test_blocks_stream_whole_with_their_checkpoints(served: Served) -> None:
    newest = served.node.ledger.published.head.block
    messages = [one async for one in served.stub.StreamBlocks(pb.StreamBlocksRequest())]
    found = blocks_of(messages)
    assert list(found) == list(range(newest + 1))
    for number, (packed, note) in found.items():
        info = served.node.ledger.store.block(number)
        assert note == served.node.ledger.store.checkpoint(info.size)
        assert served.open(note).root == info.root
        assert packed
    assert all(0 < one.ByteSize() <= MAX_MESSAGE and one.newest_block == newest for one in messages)
    part = [one async for one in served.stub.StreamBlocks(pb.StreamBlocksRequest(from_block=2, end_block=4))]
    assert list(blocks_of(part)) == [2, 3]
    ahead = served.stub.StreamBlocks(pb.StreamBlocksRequest(from_block=newest + 1))
    assert [one async for one in ahead] == []


async def test_a_great_block_comes_in_several_messages(served: Served) -> None:
    agency = 1
    records = [[issue(agency, f"{i} {j}", 0) for j in range(256)] for i in range(64)]
    bulk = served.bulk(*(served.submission(agency, one) for one in records))
    answer = await served.stub.SubmitBulk(bulk)
    number = answer.results[0].placement.block
    request = pb.StreamBlocksRequest(from_block=number, end_block=number + 1, skip_bytes=17)
    messages = [one async for one in served.stub.StreamBlocks(request)]
    assert all(one.ByteSize() <= MAX_MESSAGE for one in messages)
    (found,) = blocks_of(messages).values()
    whole = blocks_of(
        [
            one
            async for one in served.stub.StreamBlocks(
                pb.StreamBlocksRequest(from_block=number, end_block=number + 1)
            )
        ]
    )
    assert whole[number][0][17:] == found[0]


async def test_a_stream_that_follows_gives_each_new_block_and_says_when_nothing_is_new(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.doors.grpc_api.PULSE_S", 0.02)
    newest = served.node.ledger.published.head.block
    call = served.stub.StreamBlocks(pb.StreamBlocksRequest(from_block=newest + 1, follow=True))
    pulse: Any = await call.read()
    assert (list(pulse.pieces), pulse.newest_block) == ([], newest)
    monkeypatch.setattr("node.doors.grpc_api.PULSE_S", 30.0)
    placed = (await served.submit()).placement
    new: Any = pulse
    while not new.pieces:
        new = await call.read()
    assert [one.number for one in new.pieces] == [placed.block]
    waiting: Any = asyncio.create_task(call.read())
    await served.submit()
    assert (await waiting).pieces[0].number == placed.block + 1
    call.cancel()


@pytest.mark.parametrize(
    ("request_", "code", "reason"),
    [
        (pb.StreamBlocksRequest(from_block=5, end_block=4), Code.INVALID_ARGUMENT, "MALFORMED"),
        (pb.StreamBlocksRequest(end_block=4, follow=True), Code.INVALID_ARGUMENT, "MALFORMED"),
        (pb.StreamBlocksRequest(from_block=2**63), Code.OUT_OF_RANGE, "OUT_OF_RANGE"),
        (pb.StreamBlocksRequest(end_block=2**64 - 1), Code.OUT_OF_RANGE, "OUT_OF_RANGE"),
        (pb.StreamBlocksRequest(skip_bytes=10**6, end_block=1), Code.OUT_OF_RANGE, "OUT_OF_RANGE"),
    ],
)
async def test_what_is_refused(
    served: Served, request_: pb.StreamBlocksRequest, code: grpc.StatusCode, reason: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await served.stub.StreamBlocks(request_).read()
    found = refused(caught.value)
    assert (found.code, found.reason) == (code, reason)


# --- a node as a source ------------------------------------------------------------------------


def channel(address: object) -> grpc.Channel:
    return grpc.insecure_channel(str(address), options=CHANNEL_OPTIONS)


async def test_a_store_catches_up_from_a_node(served: Served, tmp_path: Path) -> None:
    head = served.node.ledger.published.head
    trusted = TrustedHead(head.size, head.root)

    def bring() -> None:
        store = Store(tmp_path / "copy")
        with channel(served.node.grpc) as link:
            source = RemoteBlocks(link, "node")
            catch_up(
                store,
                source,
                lambda *_: trusted,
                genesis=served.genesis,
                until=head.size,
                terms=Terms(run_leaves=3),
            )
            assert source.received > 0
        assert store.head() == head
        assert store.checkpoint(head.size) == served.node.ledger.published.checkpoint
        store.close()

    await asyncio.to_thread(bring)


def test_a_node_that_is_not_there_is_silent(tmp_path: Path) -> None:
    store = Store(tmp_path / "copy")
    with channel("127.0.0.1:1") as link, pytest.raises(PeerSilent, match=r"127\.0\.0\.1:1"):
        catch_up(
            store,
            RemoteBlocks(link, "127.0.0.1:1"),
            lambda *_: TrustedHead(5, bytes(32)),
            genesis=bytes(32),
            until=5,
        )
    store.close()


@contextmanager
def scripted(*answers: Sequence[pb.StreamBlocksResponse | Code]) -> Iterator[tuple[str, list[Any]]]:
    """A node whose n-th StreamBlocks gives the n-th list, a code being the end; (address, requests)."""
    asked: list[Any] = []
    scripts = iter(answers)

    def stream(request: Any, context: Any) -> Iterator[Any]:
        asked.append(request)
        for one in next(scripts):
            if isinstance(one, Code):
                context.abort(one, "as the test has it")
            yield one

    handler = grpc.unary_stream_rpc_method_handler(
        stream,
        request_deserializer=pb.StreamBlocksRequest.FromString,
        response_serializer=pb.StreamBlocksResponse.SerializeToString,
    )
    server = grpc.server(futures.ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("sudur.v1.LedgerService", {"StreamBlocks": handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}", asked
    finally:
        server.stop(None).wait()


def message(*pieces: tuple[int, bytes, bool]) -> pb.StreamBlocksResponse:
    return pb.StreamBlocksResponse(
        pieces=[pb.BlockPiece(number=number, packed=packed, last=last) for number, packed, last in pieces]
    )


def test_a_broken_stream_goes_on_within_the_block() -> None:
    scripts: tuple[list[Any], ...] = (
        [message((3, b"ab", True), (4, b"cd", False)), message((4, b"ef", False)), Code.UNAVAILABLE],
        [message((4, b"gh", True)), pb.StreamBlocksResponse(newest_block=9)],
    )
    with scripted(*scripts) as (address, asked), channel(address) as link:
        source = RemoteBlocks(link, "peer", follow=True)
        first = source.blocks(3)
        assert next(first) == Block(3, b"ab", None)
        with pytest.raises(PeerSilent):
            next(first)
        assert list(source.blocks(4)) == [Block(4, b"cdefgh", None), Pulse(9)]
        assert [(one.from_block, one.skip_bytes) for one in asked] == [(3, 0), (4, 4)]
        source.cancel()
        assert list(source.blocks(5)) == []


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ([message((4, b"ab", True))], PeerWrong),
        ([message((3, b"ab", False), (4, b"cd", True))], PeerWrong),
        ([*[message((3, bytes(1 << 20), False))] * 9], PeerWrong),
        ([Code.OUT_OF_RANGE], PeerShort),
        ([Code.UNIMPLEMENTED], PeerWrong),
        ([Code.RESOURCE_EXHAUSTED], PeerSilent),
    ],
)
def test_what_a_stream_may_not_say(answer: list[Any], error: type[Exception]) -> None:
    with scripted(answer) as (address, _), channel(address) as link, pytest.raises(error, match="peer"):
        list(RemoteBlocks(link, "peer").blocks(3))
