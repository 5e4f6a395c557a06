"""Whatever bytes come in at the doors: a named refusal goes out, and the node serves on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from typing import Any
from urllib.parse import quote

import grpc.aio
import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st

from node.doors.grpc_errors import REASONS
from sudur.v1 import ledger_pb2
from tests.node.served import Served, refused, serve

pytestmark = pytest.mark.asyncio(loop_scope="module")

EXAMPLES = settings(max_examples=60)
SHORT = st.binary(max_size=300)
TILE_TEXT = st.text("0123456789x/.p%e", max_size=40) | st.text(st.characters(codec="utf-8"), max_size=40)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    async with serve(tmp_path_factory.mktemp("node") / "data") as one:
        yield one


@given(
    leaf=SHORT, records=SHORT, genesis=st.none() | SHORT, cut=st.integers(0, 200), flip=st.integers(0, 1_200)
)
@EXAMPLES
async def test_submit(
    served: Served, leaf: bytes, records: bytes, genesis: bytes | None, cut: int, flip: int
) -> None:
    good = served.submission(1)
    bit = flip % (8 * len(good.leaf))
    flipped = bytearray(good.leaf)
    flipped[bit // 8] ^= 1 << bit % 8
    for one in (
        ledger_pb2.Submission(leaf=leaf, records=records),
        ledger_pb2.Submission(leaf=good.leaf, records=good.records + records or b"\0"),
        ledger_pb2.Submission(leaf=good.leaf[:cut] + leaf, records=good.records),
        ledger_pb2.Submission(leaf=bytes(flipped), records=good.records),
    ):
        if (one.leaf, one.records) == (good.leaf, good.records):
            continue
        request = ledger_pb2.SubmitRequest(
            genesis=served.genesis if genesis is None else genesis, submission=one
        )
        await must_be_named(served.stub.Submit(request))
    await must_be_named(
        served.stub.ChangeRegistry(ledger_pb2.ChangeRegistryRequest(genesis=served.genesis, leaf=leaf))
    )
    await served.submit()


@given(
    genesis=st.none() | SHORT,
    agency=st.integers(0, 2**32 - 1) | st.just(1),
    key=st.integers(0, 2**32 - 1) | st.just(1),
    off_ms=st.integers(0, 2**64 - 1) | st.just(None),
    junk=SHORT,
    digest=SHORT | st.binary(min_size=32, max_size=32),
)
@EXAMPLES
async def test_envelopes(
    served: Served,
    genesis: bytes | None,
    agency: int,
    key: int,
    off_ms: int | None,
    junk: bytes,
    digest: bytes,
) -> None:
    when = time.time_ns() // 1_000_000 if off_ms is None else off_ms
    asked = ledger_pb2.EnvelopeAuthorization(agency=agency, key_number=key, time_ms=when, signature=junk)
    ledger = served.genesis if genesis is None else genesis
    envelope = b"\1\4\0\0\0\1\0\1" + junk.ljust(48 + 4096, b"\0")
    for data in (junk, envelope):
        await must_be_named(
            served.stub.PutEnvelope(
                ledger_pb2.PutEnvelopeRequest(genesis=ledger, authorization=asked, envelope=data)
            )
        )
    get = ledger_pb2.GetEnvelopeRequest(genesis=ledger, authorization=asked, digest=digest)
    await must_be_named(served.stub.GetEnvelope(get))
    drop = ledger_pb2.DropEnvelopeRequest(genesis=ledger, authorization=asked, digest=digest)
    await must_be_named(served.stub.DropEnvelope(drop))


async def must_be_named(call: Any) -> None:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        found = refused(error)
        assert found.reason in REASONS, (found.code, found.message)
        assert REASONS[found.reason] is found.code
    else:
        raise AssertionError("what nobody signed was appended")


@given(size=st.integers(0, 2**64 - 1), index=st.integers(0, 2**64 - 1), subject=st.text(max_size=30))
@EXAMPLES
async def test_reads(served: Served, size: int, index: int, subject: str) -> None:
    calls: list[Coroutine[Any, Any, Any]] = [
        outcome(served.stub.GetCheckpoint(ledger_pb2.GetCheckpointRequest(size=size))),
        outcome(
            served.stub.GetInclusionProof(ledger_pb2.GetInclusionProofRequest(index=index, tree_size=size))
        ),
        outcome(
            served.stub.GetConsistencyProof(
                ledger_pb2.GetConsistencyProofRequest(old_size=index, new_size=size)
            )
        ),
        outcome(served.stub.GetRegistryRecord(ledger_pb2.GetRegistryRecordRequest(subject=subject))),
    ]
    for reason in await asyncio.gather(*calls):
        assert reason is None or reason in REASONS


async def outcome(call: Any) -> str | None:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return refused(error).reason
    return None


@given(
    number=st.text(max_size=70) | st.text("0123456789٠۹ -", max_size=30),
    indexes=st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 20), max_size=300),
    agency=st.integers(0, 3) | st.integers(0, 2**32 - 1),
    limit=st.integers(0, 2**32 - 1),
)
@EXAMPLES
async def test_inquiries(served: Served, number: str, indexes: list[int], agency: int, limit: int) -> None:
    start = indexes[0] if indexes else 0
    calls: list[Coroutine[Any, Any, Any]] = [
        outcome(served.stub.LookupReference(ledger_pb2.LookupReferenceRequest(number=number))),
        outcome(served.stub.GetExchanges(ledger_pb2.GetExchangesRequest(indexes=indexes))),
        outcome(
            served.stub.ListSends(ledger_pb2.ListSendsRequest(recipient=agency, start=start, limit=limit))
        ),
        outcome(served.stub.GetFigures(ledger_pb2.GetFiguresRequest(agency=agency))),
    ]
    for reason in await asyncio.gather(*calls):
        assert reason is None or reason in REASONS


@given(
    tail=TILE_TEXT,
    base=st.sampled_from(
        [
            "/tile/",
            "/tile/0/",
            "/tile/entries/",
            "/checkpoint/",
            "/status/events/",
            "/v1/entry/",
            "/v1/reference/",
            "/v1/exchange/",
            "/v1/sends/",
            "/v1/sends/1/",
            "/v1/figures/",
        ]
    ),
)
@EXAMPLES
async def test_paths(served: Served, tail: str, base: str) -> None:
    answer = await served.http.get(base + quote(tail, safe="/%"))
    assert answer.status_code in (200, 400, 404, 422)
    if answer.status_code != 200:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["cache-control"] == "no-store"


@given(data=st.binary(max_size=200))
@EXAMPLES
async def test_request_lines(served: Served, data: bytes) -> None:
    reader, writer = await asyncio.open_connection(served.node.http.host, served.node.http.port)
    writer.write(b"GET /tile/" + data + b" HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    writer.write_eof()
    answer = await asyncio.wait_for(reader.read(), 10)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 ")
    assert not answer.startswith(b"HTTP/1.1 5")
    writer.close()
    await writer.wait_closed()
    assert (await served.http.get("/checkpoint")).status_code == 200
