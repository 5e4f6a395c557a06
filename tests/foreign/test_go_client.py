"""A log of many tiles, read by Go's sumdb/tlog and note: a client of C2SP's kind that is not ours."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from tests.ledger.world import issue, log_key
from tests.node.served import Served, serve

pytestmark = [pytest.mark.golang, pytest.mark.asyncio(loop_scope="module")]

ROOT = Path(__file__).parents[2]
SOURCE = Path(__file__).parent / "golang"
SUBMISSIONS = 272
"""Of 256 records: more than 65,536 leaves, so that there are tiles on three levels."""


@dataclass(frozen=True, slots=True)
class Client:
    program: Path

    async def read(self, url: str, key: str, *arguments: object) -> tuple[int, str]:
        """Its exit code, and all that it said."""
        process = await asyncio.create_subprocess_exec(
            self.program,
            url,
            key,
            *map(str, arguments),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, said.decode()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Client:
    found = subprocess.run(["sh", str(ROOT / ".ci/find-go")], stdout=subprocess.PIPE, text=True, check=False)
    assert found.returncode == 0, "Go is missing: run make go"
    program = tmp_path_factory.mktemp("go") / "foreign"
    environment = {**os.environ, "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}
    command = [found.stdout.strip(), "build", "-buildvcs=false", "-o", str(program), "."]
    subprocess.run(command, cwd=SOURCE, env=environment, check=True, timeout=240)
    return Client(program)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    async with serve(tmp_path_factory.mktemp("node") / "data") as one:
        await one.submit()
        for start in range(0, SUBMISSIONS, 16):
            batch = [
                one.submission(1, [issue(1, (n, i), 0) for i in range(256)])
                for n in range(start, min(start + 16, SUBMISSIONS))
            ]
            await one.stub.SubmitBulk(one.bulk(*batch))
        yield one


def url(served: Served) -> str:
    return f"http://{served.node.http}"


async def test_signature_tiles_entries_and_proofs(client: Client, served: Served) -> None:
    size = served.size
    assert size > 65_536
    old = served.node.ledger.store.block(2).size
    await served.submit()
    indexes = (0, 1, 255, 256, 257, 65_535, 65_536, size - 2, size - 1, served.size - 1)
    code, said = await client.read(url(served), log_key("log"), old, *indexes)
    assert (code, said.count("\n")) == (0, 4), said
    assert f"checkpoint: {served.size} leaves, signed" in said
    assert f"grew out of that of {old}" in said
    assert "inclusion: 10 leaves, by tiles and by tlog-proof" in said
    assert f"entries: {served.size}, which make the same root" in said


async def test_it_takes_no_other_key_and_no_other_size(client: Client, served: Served) -> None:
    code, said = await client.read(url(served), log_key("another"), 2, 0)
    assert code == 1
    assert "no verifiable signatures" in said
    code, said = await client.read(url(served), log_key("log"), 3, 0)
    assert code == 1
    assert "404" in said
    code, said = await client.read(url(served), log_key("log"), 2, served.size)
    assert code == 1
    assert "leaf" in said
