"""Single submissions, one document each: alone, and with 64 clients at once; beside a bare gRPC call.

The clients are coroutines on two connections in this process; the node is a process of its own. The
bare call is the standard health check on the same server, which does next to nothing.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from benchmarks.agency import Agency
from benchmarks.report import Row, markdown
from benchmarks.serve import serving
from sudur.v1 import ledger_pb2, ledger_pb2_grpc

CLIENTS = 64
ALONE = 1_500
TOGETHER = 15_000
Call = Callable[[], Awaitable[object]]


async def alone(call: Call, count: int = ALONE) -> list[float]:
    """Seconds that each of ``count`` calls took, one after another; sorted."""
    for _ in range(100):
        await call()
    times = []
    for _ in range(count):
        began = time.perf_counter()
        await call()
        times.append(time.perf_counter() - began)
    return sorted(times)


async def together(calls: list[Call], count: int = TOGETHER) -> float:
    """Calls a second with each of ``calls`` in a loop of its own."""
    left = count

    async def client(call: Call) -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await call()

    began = time.perf_counter()
    await asyncio.gather(*(client(call) for call in calls))
    return count / (time.perf_counter() - began)


async def measure(address: str, agency: Agency) -> list[Row]:
    channels = [
        grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) for _ in range(2)
    ]
    stubs = [ledger_pb2_grpc.LedgerServiceStub(channel) for channel in channels]
    healths = [health_pb2_grpc.HealthStub(channel) for channel in channels]

    def submitter(at: int) -> Call:
        async def call() -> None:
            request = ledger_pb2.SubmitRequest(genesis=agency.genesis, submission=agency.submission(1))
            await stubs[at % 2].Submit(request)

        return call

    def prover(at: int, size: int) -> Call:
        index = at

        async def call() -> None:
            nonlocal index
            index = (index * 6364136223846793005 + 1442695040888963407) % size
            await stubs[at % 2].GetInclusionProof(ledger_pb2.GetInclusionProofRequest(index=index))

        return call

    def bare(at: int) -> Call:
        async def call() -> None:
            await healths[at % 2].Check(health_pb2.HealthCheckRequest())

        return call

    bare_alone = await alone(bare(0))
    bare_rate = await together([bare(i) for i in range(CLIENTS)])
    one = await alone(submitter(0))
    rate = await together([submitter(i) for i in range(CLIENTS)])
    newest = (await stubs[0].GetLedger(ledger_pb2.GetLedgerRequest())).checkpoint
    size = int(newest.split(b"\n")[1])
    proofs = await together([prover(i, size) for i in range(CLIENTS)])
    for channel in channels:
        await channel.close()

    def quantile(times: list[float], q: float) -> float:
        return 1000 * times[int(q * (len(times) - 1))]

    p50, p99 = quantile(one, 0.5), quantile(one, 0.99)
    bare50, bare99 = quantile(bare_alone, 0.5), quantile(bare_alone, 0.99)
    calls = f"bare gRPC call {bare_rate:,.0f}/s"
    return [
        Row(
            "single submission, alone, p50",
            p50,
            "ms",
            f"bare gRPC call {bare50:.2f} ms",
            p50 / bare50,
            "≤ 3 ms",
        ),
        Row(
            "single submission, alone, p99",
            p99,
            "ms",
            f"bare gRPC call {bare99:.2f} ms",
            p99 / bare99,
            "≤ 15 ms",
        ),
        Row("single submissions, 64 clients", rate, "/s", calls, rate / bare_rate, "≥ 3,000/s"),
        Row(
            f"inclusion proofs over gRPC, {size:,} leaves",
            proofs,
            "/s",
            calls,
            proofs / bare_rate,
            "≥ 3,000/s",
        ),
    ]


def run(directory: Path) -> list[Row]:
    with serving(directory) as node:
        agency = Agency.at(node.grpc)
        started = Row("start of the node on this data, after kill -9", node.start_s, "s", "", None, "< 2 s")
        return [started, *asyncio.run(measure(node.grpc, agency))]


if __name__ == "__main__":
    print(markdown(run(Path(sys.argv[1]))))
