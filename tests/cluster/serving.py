"""Three members in one process, with real sockets and a real etcd: for tests that look inside."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import grpc.aio
import httpx

from ledger.signatures import Signer
from node.cluster.etcd_client import parse_endpoints
from node.cluster.run_member import ClusterSettings, RunningMember, start_member
from node.config import Address
from sudur.v1 import ledger_pb2, ledger_pb2_grpc
from tests.cluster.etcds import Etcds, free_ports
from tests.node.served import LOG, Served, genesis_leaf, settings

NAMES = ("n1", "n2", "n3")
START_S = 60.0


async def until(holds: Any, what: str, *, within_s: float = 60.0) -> None:
    """Look again and again until ``holds()``, awaited if it must be, is true."""
    deadline = asyncio.get_running_loop().time() + within_s
    while True:
        found = holds()
        if await found if asyncio.iscoroutine(found) else found:
            return
        assert asyncio.get_running_loop().time() < deadline, f"in vain: {what}"
        await asyncio.sleep(0.02)


@dataclass
class Node:
    """One member that serves, and a client of it. :meth:`stop` it, or leave it to the cluster."""

    name: str
    running: RunningMember
    served: Served
    _stop: asyncio.Event
    _task: asyncio.Task[None]

    async def stop(self) -> None:
        self._stop.set()
        await self._task

    async def values(self) -> dict[str, float]:
        """What /metrics says, by series as it is written there."""
        text = (await self.served.http.get("/metrics")).text
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


class Cluster:
    """The members, by name."""

    def __init__(self, nodes: list[Node], start: Callable[[str, str], Awaitable[Node]]) -> None:
        self.nodes = nodes
        self._start = start

    @property
    def leader(self) -> Node:
        (leader,) = [one for one in self.nodes if one.running.member.leads]
        return leader

    @property
    def followers(self) -> list[Node]:
        return [one for one in self.nodes if not one.running.member.leads]

    async def start_empty(self, name: str) -> None:
        """A member that has lost its data and its mark, under its old name and address."""
        self.nodes.append(await self._start(name, f"{name} again"))

    async def start_again(self, name: str) -> None:
        """A member that was stopped, on its own data."""
        self.nodes.append(await self._start(name, name))

    async def agree(self) -> None:
        """Wait until one leads and all know it."""

        def known() -> bool:
            leading = [one.name for one in self.nodes if one.running.member.leads]
            return len(leading) == 1 and all(one.running.member.leader == leading[0] for one in self.nodes)

        await until(known, "one leader, whom all know")


@contextlib.asynccontextmanager
async def cluster(
    root: Path, etcds: Etcds, log: Sequence[Signer] = (LOG,), policy: str = ""
) -> AsyncIterator[Cluster]:
    """Three new members of a new ledger, which serve and know their leader.

    ``log``: its log keys. ``policy``: of witnesses.
    """
    peers = [Address("127.0.0.1", port) for port in free_ports(len(NAMES))]
    founding = tuple(zip(NAMES, peers, strict=True))
    ends = contextlib.AsyncExitStack()
    async with ends:

        def start(name: str, directory: str) -> Awaitable[Node]:
            return _start(root / directory, name, dict(founding)[name], founding, etcds, ends, log, policy)

        cluster = Cluster(list(await asyncio.gather(*[start(name, name) for name in NAMES])), start)
        await cluster.agree()
        yield cluster


async def _start(
    data: Path,
    name: str,
    peer: Address,
    founding: tuple[tuple[str, Address], ...],
    etcds: Etcds,
    ends: contextlib.AsyncExitStack,
    log: Sequence[Signer],
    policy: str,
) -> Node:
    stop = asyncio.Event()
    ready: asyncio.Future[RunningMember] = asyncio.get_running_loop().create_future()
    how = ClusterSettings(name, parse_endpoints(etcds.journal), peer, founding)

    async def serve() -> None:
        async with start_member(settings(data), how, log, genesis_leaf(log, policy), stop) as running:
            assert running is not None
            ready.set_result(running)
            await stop.wait()

    task = asyncio.create_task(serve())
    ends.push_async_callback(asyncio.gather, task)
    ends.callback(stop.set)
    waits: set[asyncio.Future[Any]] = {task, ready}
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED, timeout=START_S)
    if task.done():
        task.result()
    assert ready.done(), f"{name} does not serve"
    running = ready.result()
    channel = await ends.enter_async_context(grpc.aio.insecure_channel(str(running.grpc)))
    http = await ends.enter_async_context(
        httpx.AsyncClient(base_url=f"http://{running.http}", trust_env=False)
    )
    stub = ledger_pb2_grpc.LedgerServiceStub(channel)
    ledger = await stub.GetLedger(ledger_pb2.GetLedgerRequest())
    return Node(name, running, Served(cast("Any", running), channel, stub, http, ledger.genesis), stop, task)
