"""A member of a cluster in a process of its own, for benchmarks: serves until its standard input is closed.

``python -m benchmarks.serve_member DIRECTORY GENESIS NAME JOURNAL NAME=PEER,…``; the first line that it
prints is its gRPC address.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

from node.cluster.etcd_client import parse_endpoints
from node.cluster.run_member import ClusterSettings, start_member
from node.config import Address, Settings
from node.logs import configure_logs
from tests.ledger.world import signer

_ANY_PORT = Address("127.0.0.1", 0)


async def _serve(directory: Path, leaf: bytes, name: str, journal: str, listed: str) -> None:
    configure_logs(level=logging.WARNING)
    members = tuple((one.split("=")[0], Address.parse(one.split("=")[1])) for one in listed.split(","))
    cluster = ClusterSettings(name, parse_endpoints(journal), dict(members)[name], members)
    settings = Settings(data_dir=directory, grpc=_ANY_PORT, http=_ANY_PORT)
    async with start_member(settings, cluster, [signer("log")], leaf, asyncio.Event()) as running:
        assert running is not None
        print(running.grpc, flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    where, genesis, *rest = sys.argv[1:]
    asyncio.run(_serve(Path(where), Path(genesis).read_bytes(), *rest))
