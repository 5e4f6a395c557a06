"""A node in a process of its own, as an operator would run it, for benchmarks that talk to it.

``python -m benchmarks.serve DIRECTORY`` serves until its standard input is closed; the first line it
prints is its gRPC and HTTP address, and how long it took to be ready.
"""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ledger import changes
from ledger.changes import AUTHORITY, LEDGER, Change
from ledger.leaves import NONE
from ledger.registry_leaf import NO_GENESIS
from node.config import Address, Settings
from node.logs import configure_logs
from node.run import start_node
from tests.ledger.world import ORIGIN, authority_set, log_key, sign_change, signer

AUTHORITY_KEY = signer("authority 1")
_ANY_PORT = Address("127.0.0.1", 0)


def genesis_leaf() -> bytes:
    """Leaf 0 of the ledger that the benchmarks fill: one authority key decides."""
    now_ms = time.time_ns() // 1_000_000
    keys = {1: AUTHORITY_KEY}
    body = changes.Genesis(ORIGIN, bytes(32), True, now_ms, (log_key("log"),), authority_set(1, keys), "")
    return sign_change(NO_GENESIS, Change(LEDGER, NONE, body), {(AUTHORITY, 1): AUTHORITY_KEY})


@dataclass(frozen=True, slots=True)
class Serving:
    """A node process. ``start_s``: from the call to open it until it served."""

    grpc: str
    http: str
    start_s: float
    pid: int

    def resident_mib(self) -> float:
        """Resident memory of the node's process, MiB; the peak so far."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
        raise ValueError("no VmHWM")


@contextmanager
def serving(directory: Path, *, kill: bool = False) -> Iterator[Serving]:
    """Start a node on ``directory``, made if it is new; at the end stop it, or ``kill`` it outright."""
    command = [sys.executable, "-m", "benchmarks.serve", str(directory)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        words = process.stdout.readline().split()
        if len(words) != 3:
            raise RuntimeError("the node did not start")
        try:
            yield Serving(words[0], words[1], float(words[2]), process.pid)
        finally:
            if kill:
                process.kill()
            process.stdin.close()
            process.wait(60)


async def _serve(directory: Path, fresh: bytes | None) -> None:
    configure_logs(level=logging.WARNING)
    began = time.perf_counter()
    settings = Settings(data_dir=directory, grpc=_ANY_PORT, http=_ANY_PORT)
    async with start_node(settings, [signer("log")], fresh) as node:
        print(node.grpc, node.http, time.perf_counter() - began, flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    where = Path(sys.argv[1])
    asyncio.run(_serve(where, None if where.exists() else genesis_leaf()))
