"""A log of many tiles, read by what others wrote: Go's sumdb/tlog and note, and Tessera's fsck."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from ledger.notes import parse_note
from ledger.signatures import MlDsa44Signer
from tests.ledger.world import issue, log_key
from tests.node.served import LOG, Served, serve

pytestmark = [
    pytest.mark.golang,
    pytest.mark.slow,
    pytest.mark.timeout(900),  # two compilations, from nothing, on a busy machine
    pytest.mark.asyncio(loop_scope="module"),
]

ROOT = Path(__file__).parents[2]
SOURCES = Path(__file__).parent
SUBMISSIONS = 272
"""Of 256 records: more than 65,536 leaves, so that there are tiles on three levels."""


def built(name: str, minor: int, where: Path) -> Path | None:
    """The program in a directory beside this file; None where Go is older than 1.``minor``."""
    found = subprocess.run(
        ["sh", str(ROOT / ".ci/find-go"), str(minor)], stdout=subprocess.PIPE, text=True, check=False
    )
    if found.returncode != 0:
        return None
    environment = {**os.environ, "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}
    command = [found.stdout.strip(), "build", "-buildvcs=false", "-o", str(where / name), "."]
    subprocess.run(command, cwd=SOURCES / name, env=environment, check=True)
    return where / name


async def ran(program: Path, *arguments: object) -> tuple[int, str]:
    """Its exit code, and all that it said."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        program, *map(str, arguments), stdout=pipe, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = built("golang", 19, tmp_path_factory.mktemp("go"))
    assert program is not None, "Go is missing: run make go"
    return program


@pytest.fixture(scope="module")
def tessera(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = built("tessera", 24, tmp_path_factory.mktemp("go"))
    if program is None:
        pytest.skip("Tessera needs Go 1.24")
    return program


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    # Its checkpoints have an ML-DSA-44 line as well, of a key that neither client knows or could.
    keys = (LOG, MlDsa44Signer(bytes(32)))
    async with serve(tmp_path_factory.mktemp("node") / "data", keys) as one:
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


async def test_signature_tiles_entries_and_proofs(client: Path, served: Served) -> None:
    size = served.size
    assert size > 65_536
    note = parse_note(served.node.ledger.published.checkpoint)
    assert [len(line.blob) for line in note.signatures] == [64, 2_428]
    old = served.node.ledger.store.block(2).size
    await served.submit()
    indexes = (0, 1, 255, 256, 257, 65_535, 65_536, size - 2, size - 1, served.size - 1)
    code, said = await ran(client, url(served), log_key("log"), old, *indexes)
    assert (code, said.count("\n")) == (0, 4), said
    assert f"checkpoint: {served.size} leaves, signed" in said
    assert f"grew out of that of {old}" in said
    assert "inclusion: 10 leaves, by tiles and by tlog-proof" in said
    assert f"entries: {served.size}, which make the same root" in said


async def test_it_takes_no_other_key_and_no_other_size(client: Path, served: Served) -> None:
    code, said = await ran(client, url(served), log_key("another"), 2, 0)
    assert code == 1
    assert "no verifiable signatures" in said
    code, said = await ran(client, url(served), log_key("log"), 3, 0)
    assert code == 1
    assert "404" in said
    code, said = await ran(client, url(served), log_key("log"), 2, served.size)
    assert code == 1
    assert "leaf" in said


async def test_tesseras_fsck_finds_nothing_wrong(tessera: Path, served: Served) -> None:
    code, said = await ran(tessera, url(served), log_key("log"))
    assert (code, said.splitlines()[-1]) == (0, "sound"), said
    code, said = await ran(tessera, url(served), log_key("another"))
    assert code == 1, said
