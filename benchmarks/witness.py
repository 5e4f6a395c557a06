"""How many checkpoints a witness cosigns a second: over HTTP, each on disk before it is answered.

The witness is a process of its own; many logs ask it at a time, each as soon as it has its last answer. The
baseline is the same witness that writes for each request by itself.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks.report import Row
from ledger.cosignatures import witness_key
from node.config import Address
from node.logs import configure_logs
from tests.tools.witness.some_log import SomeLog, signer
from tools.witness.keeper import MAX_GROUP
from tools.witness.mark import Identity, Mark
from tools.witness.run import WitnessSettings, start_witness

LOGS: Final = 64
ROUNDS: Final = 24
_NAME: Final = "witness.example/bench"
_OK: Final = b"HTTP/1.1 200"


def run(directory: Path, logs: int = LOGS, rounds: int = ROUNDS) -> list[Row]:
    """Rows: with groups against one write each, and what one log alone waits."""
    asking = [SomeLog(f"log.example/{number}") for number in range(logs)]
    requests = [[_http(log.request(at, at + 1)) for at in range(rounds)] for log in asking]
    with _serving(directory / "groups", logs, MAX_GROUP) as address:
        grouped = asyncio.run(_ask(address, requests))
    with _serving(directory / "single", logs, 1) as address:
        single = asyncio.run(_ask(address, requests))
    with _serving(directory / "alone", 1, MAX_GROUP) as address:
        alone = asyncio.run(_ask(address, requests[:1]))
    baseline = f"one write each: {single:,.0f} /s"
    return [
        Row(f"add-checkpoint, {logs} logs at a time", grouped, "/s", baseline, grouped / single, "≥ 500 /s"),
        Row("the same, one log alone", 1_000 / alone, "ms each"),
    ]


async def _ask(address: Address, requests: Sequence[Sequence[bytes]]) -> float:
    """Answers a second."""

    async def one(own: Sequence[bytes]) -> None:
        reader, writer = await asyncio.open_connection(address.host, address.port)
        for request in own:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(_OK):
                raise RuntimeError(f"not cosigned: {head!r}")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
        writer.close()
        await writer.wait_closed()

    started = time.perf_counter()
    await asyncio.gather(*map(one, requests))
    return sum(map(len, requests)) / (time.perf_counter() - started)


def _http(body: bytes) -> bytes:
    return b"POST /add-checkpoint HTTP/1.1\r\nHost: w\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


@contextmanager
def _serving(directory: Path, logs: int, max_group: int) -> Iterator[Address]:
    command = [sys.executable, "-m", "benchmarks.witness", str(directory), str(logs), str(max_group)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield Address.parse(process.stdout.readline().strip().removeprefix("http://"))
        finally:
            process.stdin.close()
            process.wait(60)


async def _serve(directory: Path, logs: int, max_group: int) -> None:
    configure_logs(level=40)
    key = signer(_NAME)
    Mark.create(directory / "mark", Identity(witness_key(_NAME, key.public_key), audits=False))
    known = [SomeLog(f"log.example/{number}").witnessed for number in range(logs)]
    any_port = Address("127.0.0.1", 0)
    settings = WitnessSettings(directory / "data", directory / "mark", any_port, known, max_group=max_group)
    async with start_witness(settings, [key]) as running:
        print(running.url, flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    if len(sys.argv) == 4:
        asyncio.run(_serve(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            print(run(Path(temporary)))
