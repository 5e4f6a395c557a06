"""Three members and three members of etcd on one machine, beside a node alone in the same run.

All processes, and the client, share the machine's cores. A commitment counts as ingested when its answer
is there: decided by etcd, and applied durably by a majority. At the end all members have to hold all of it.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc

from benchmarks import ingest, single
from benchmarks.agency import Agency
from benchmarks.report import Row, markdown
from benchmarks.serve import genesis_leaf, serving
from sudur.v1 import ledger_pb2
from sudur.v1.ledger_pb2_grpc import LedgerServiceStub
from tests.cluster.etcds import Etcds, free_ports

ENTRIES = 1_000_000
_NAMES = ("n1", "n2", "n3")


class Members:
    """Their processes, and where each serves."""

    def __init__(self, processes: dict[str, subprocess.Popen[str]], addresses: dict[str, str]) -> None:
        self.processes = processes
        self.addresses = addresses

    def state(self, name: str) -> ledger_pb2.GetClusterResponse:
        with grpc.insecure_channel(self.addresses[name]) as channel:
            return LedgerServiceStub(channel).GetCluster(ledger_pb2.GetClusterRequest(), timeout=5)

    def leader(self) -> str:
        while not (name := self.state(_NAMES[0]).leader):
            time.sleep(0.05)
        return name

    def settled(self) -> int:
        """Wait until all members have applied what etcd holds; its leaves."""
        while True:
            state = self.state(_NAMES[0])
            if {one.applied.size for one in state.members} == {state.head.size}:
                return state.head.size
            time.sleep(0.02)


@contextmanager
def members(directory: Path) -> Iterator[Members]:
    """A new cluster, stopped at the end."""
    directory.mkdir(parents=True)
    genesis = directory / "genesis.leaf"
    genesis.write_bytes(genesis_leaf())
    listed = ",".join(
        f"{name}=127.0.0.1:{port}" for name, port in zip(_NAMES, free_ports(len(_NAMES)), strict=True)
    )
    with ExitStack() as stack:
        etcds = stack.enter_context(Etcds(directory / "etcd")).start()
        processes = {
            name: stack.enter_context(_member(directory / name, genesis, name, etcds.journal, listed))
            for name in _NAMES
        }
        addresses = {}
        for name, process in processes.items():
            assert process.stdout is not None
            addresses[name] = process.stdout.readline().strip()
        yield Members(processes, addresses)


@contextmanager
def _member(
    data: Path, genesis: Path, name: str, journal: str, listed: str
) -> Iterator[subprocess.Popen[str]]:
    command = [
        sys.executable, "-m", "benchmarks.serve_member", str(data), str(genesis), name, journal, listed,
    ]  # fmt: skip
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()


def run(directory: Path, entries: int = ENTRIES) -> list[Row]:
    with serving(directory / "alone") as node:
        alone = ingest.fill(node.grpc, entries)[-1]
        agency = Agency.at(node.grpc)
        alone_ms = 1_000 * _p50(node.grpc, agency)
    with members(directory / "cluster") as cluster:
        leader = cluster.leader()
        address = cluster.addresses[leader]
        done, seconds = ingest.fill(address, entries)[-1]
        began = time.perf_counter()
        size = cluster.settled()
        lag_s = time.perf_counter() - began
        agency = Agency.at(address)
        lone_ms = 1_000 * _p50(address, agency)
        follower = next(name for name in _NAMES if name != leader)
        handed_ms = 1_000 * _p50(cluster.addresses[follower], agency)
        failover_s = _failover(cluster, leader, agency)
    assert size >= entries, "a member lacks some of it"
    rate, alone_rate = done / seconds, alone[0] / alone[1]
    return [
        Row("bulk ingest, three members", rate, "/s", f"a node alone {alone_rate:,.0f}/s", rate / alone_rate,
            "≥ 60,000/s"),
        Row("all members level after the last answer", 1_000 * lag_s, "ms", "", None, ""),
        Row("single submission at the leader, p50", lone_ms, "ms", f"a node alone {alone_ms:.2f} ms",
            lone_ms / alone_ms, "≤ 12 ms"),
        Row("single submission at another member, p50", handed_ms, "ms", f"a node alone {alone_ms:.2f} ms",
            handed_ms / alone_ms, ""),
        Row("first answer after kill -9 of the leader", failover_s, "s", "", None, "≤ 5 s"),
    ]  # fmt: skip


def _p50(address: str, agency: Agency) -> float:
    async def measure() -> float:
        async with grpc.aio.insecure_channel(address) as channel:
            stub = LedgerServiceStub(channel)

            async def call() -> None:
                request = ledger_pb2.SubmitRequest(genesis=agency.genesis, submission=agency.submission(1))
                await stub.Submit(request)

            times = await single.alone(call, 500)
            return times[len(times) // 2]

    return asyncio.run(measure())


def _failover(cluster: Members, leader: str, agency: Agency) -> float:
    """Seconds from the leader's death to the first answer of another member."""
    names = [name for name in _NAMES if name != leader]
    channels = [grpc.insecure_channel(cluster.addresses[name]) for name in names]
    stubs = [LedgerServiceStub(channel) for channel in channels]
    request = ledger_pb2.SubmitRequest(genesis=agency.genesis, submission=agency.submission(1))
    cluster.processes[leader].kill()
    began = time.perf_counter()
    turn = 0
    while True:
        try:
            stubs[turn % 2].Submit(request, timeout=2)
            break
        except grpc.RpcError:
            turn += 1
            time.sleep(0.02)
    taken = time.perf_counter() - began
    for channel in channels:
        channel.close()
    return taken


if __name__ == "__main__":
    count = int(sys.argv[2]) if len(sys.argv) > 2 else ENTRIES
    print(markdown(run(Path(sys.argv[1]), count)))
