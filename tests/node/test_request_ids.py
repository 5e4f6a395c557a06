"""Request ids, and the lines of refused writes that bear them, over real sockets."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
import structlog
from structlog.contextvars import merge_contextvars

from node.doors import refusal_log
from node.doors.refusal_log import RefusalLog
from node.doors.request_ids import HEADER
from sudur.v1 import ledger_pb2
from tests.node.served import Served, serve

Lines = list[MutableMapping[str, Any]]
SANE = ("a", "01234567-89ab.cdef_XYZ", "x" * 64)
OTHERS = ("", "x" * 65, "a b", "a,b", "ä", "../..", "{}", "a\tb")


@pytest.fixture
def lines() -> Iterator[Lines]:
    with structlog.testing.capture_logs(processors=[merge_contextvars]) as caught:
        yield caught


def refusals(lines: Lines) -> Lines:
    return [line for line in lines if line["event"] == "refused"]


async def trailing(call: grpc.aio.UnaryUnaryCall[Any, Any]) -> str:
    found = [value for name, value in await call.trailing_metadata() if name == HEADER]
    assert len(found) == 1, found
    return str(found[0])


async def test_a_callers_id_comes_back_when_it_is_sane(tmp_path: Path) -> None:
    async with serve(tmp_path / "data") as served:
        for given in SANE:
            call = served.stub.GetLedger(ledger_pb2.GetLedgerRequest(), metadata=((HEADER, given),))
            await call
            assert await trailing(call) == given
            answer = await served.http.get("/healthz", headers={HEADER: given})
            assert answer.headers[HEADER] == given
        for given in OTHERS:
            answer = await served.http.get("/healthz", headers={HEADER.encode(): given.encode()})
            assert len(answer.headers[HEADER]) == 32, given
            if given.isascii() and given.isprintable():
                call = served.stub.GetLedger(ledger_pb2.GetLedgerRequest(), metadata=((HEADER, given),))
                await call
                assert len(await trailing(call)) == 32, given


async def test_each_request_has_an_id_of_its_own(tmp_path: Path) -> None:
    async with serve(tmp_path / "data") as served:
        calls = [served.stub.GetLedger(ledger_pb2.GetLedgerRequest()) for _ in range(3)]
        ids = {await trailing(call) for call in calls}
        ids |= {(await served.http.get("/readyz")).headers[HEADER] for _ in range(3)}
        assert len(ids) == 6


async def test_what_a_cache_may_keep_bears_none(tmp_path: Path) -> None:
    async with serve(tmp_path / "data") as served:
        answer = await served.http.get("/checkpoint", headers={HEADER: "mine"})
        assert answer.status_code == 200
        assert HEADER not in answer.headers
        missing = await served.http.get("/tile/0/999", headers={HEADER: "mine"})
        assert missing.status_code == 404
        assert missing.headers[HEADER] == "mine"


async def test_a_refused_write_is_one_line(tmp_path: Path, lines: Lines) -> None:
    async with serve(tmp_path / "data") as served:
        request = served.request(served.submission(1, keys=(1,)))
        await served.stub.Submit(request)
        request.submission.records += b"x"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.stub.Submit(request, metadata=((HEADER, "from-the-agency"),))
        assert (HEADER, "from-the-agency") in [tuple(one) for one in caught.value.trailing_metadata()]
        (line,) = refusals(lines)
        assert line["method"] == "Submit"
        assert line["reasons"] == {"MALFORMED_LEAF": 1}
        assert line["agencies"] == [1]
        assert line["request_id"] == "from-the-agency"
        assert line["peer"].startswith("ipv4:127.0.0.1:")
        assert line["ms"] >= 0
        assert request.submission.records.hex() not in repr(line)


async def test_a_bulk_with_refusals_is_one_line(tmp_path: Path, lines: Lines) -> None:
    async with serve(tmp_path / "data") as served:
        good, bad, again = (served.submission(1) for _ in range(3))
        bad.records += b"x"
        again.records += b"y"
        answer = await served.stub.SubmitBulk(served.bulk(good, bad, again))
        assert [one.HasField("placement") for one in answer.results] == [True, False, False]
        (line,) = refusals(lines)
        assert (line["method"], line["reasons"], line["agencies"]) == (
            "SubmitBulk",
            {"MALFORMED_LEAF": 2},
            [1],
        )


async def test_reads_and_answered_writes_are_no_lines(tmp_path: Path, lines: Lines) -> None:
    async with serve(tmp_path / "data") as served:
        await served.submit()
        with pytest.raises(grpc.aio.AioRpcError):
            await served.stub.GetCheckpoint(ledger_pb2.GetCheckpointRequest(size=10**9))
        await served.http.get("/checkpoint")
    assert [line for line in lines if "request_id" in line] == []


async def test_bytes_that_are_no_request_are_a_line_too(tmp_path: Path, lines: Lines) -> None:
    async with serve(tmp_path / "data") as served:
        await wrong_bytes(served)
        (line,) = refusals(lines)
        assert (line["reasons"], line["agencies"]) == ({"MALFORMED": 1}, [])


async def wrong_bytes(served: Served) -> None:
    call: Any = served.channel.unary_unary("/sudur.v1.LedgerService/Submit")
    with pytest.raises(grpc.aio.AioRpcError):
        await call(b"\xff\xff")


def test_a_flood_of_refusals_is_counted_not_logged(lines: Lines) -> None:
    now = 0.0
    log = RefusalLog(clock=lambda: now)
    for _ in range(refusal_log.BURST + 101):
        log.tell("Submit", ["MALFORMED"], [7], "ipv4:192.0.2.1:1", 0.001)
    assert len(lines) == refusal_log.BURST + 1
    now = 60.0
    log.tell("Submit", ["MALFORMED"], [7], "ipv4:192.0.2.1:1", 0.001)
    log.tell("Submit", ["MALFORMED"], [7], "ipv4:192.0.2.1:1", 0.001)
    assert [line.get("unsaid") for line in lines[-2:]] == [100, None]
