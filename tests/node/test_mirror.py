"""A mirror against a real node, over links that are good, slow, down, and to nodes that lie."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import httpx
import pytest

from ledger.checkpoints import open_checkpoint
from ledger.errors import CheckpointUntrusted
from ledger.notes import VerifierKey
from ledger.proofs import verify_inclusion
from ledger.tiles import TileId
from ledger.trust import Trust, TrustedKey, TrustedLedger
from node.checking.fsck import run_fsck
from node.config import Address
from node.copying.mirror import Mirror, MirrorSettings
from node.copying.run_mirror import RunningMirror, start_mirror
from node.errors import StoreBehindMark
from sudur.v1 import ledger_pb2 as pb
from sudur.v1 import ledger_pb2_grpc
from tests.ledger.world import ORIGIN, issue, log_key
from tests.node.faults import Faults, FaultyDatabase, How, Step
from tests.node.served import Served, refused, serve, settings
from tests.node.slow_link import Line, SlowLink

Code = grpc.StatusCode
QUICK = MirrorSettings(first_pause_s=0.02)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serve(tmp_path / "node") as one:
        for _ in range(3):
            await one.submit()
        yield one


def trusted(served: Served, **more: Any) -> TrustedLedger:
    known = TrustedLedger.founded(served.genesis, ORIGIN, (VerifierKey.parse(log_key("log")),), "", True)
    return replace(known, **more)


async def until(holds: Callable[[], object], within_s: float = 30.0) -> float:
    """Wait for a condition; returns how long it took."""
    began = time.monotonic()
    async with asyncio.timeout(within_s):
        async for _ in looks():
            if holds():
                break
    return time.monotonic() - began


async def looks() -> AsyncIterator[None]:
    """Every few milliseconds, for ever: what is waited for happens on a thread that knows no loop."""
    while True:
        yield
        await asyncio.sleep(0.005)


@dataclass
class Mirrored:
    """A mirror that serves, with clients."""

    running: RunningMirror
    stub: ledger_pb2_grpc.LedgerServiceAsyncStub
    http: httpx.AsyncClient

    @property
    def size(self) -> int:
        return self.running.ledger.published.size

    async def state(self) -> Any:
        return (await self.http.get("/healthz")).json()["mirror"]

    async def until(self, holds: Callable[[], object], within_s: float = 30.0) -> float:
        """Wait for a condition; returns how long it took."""
        return await until(holds, within_s)


@contextlib.asynccontextmanager
async def mirroring(
    data_dir: Path,
    known: TrustedLedger,
    *follow: str,
    within_s: float = 30.0,
    core: MirrorSettings = QUICK,
) -> AsyncIterator[Mirrored]:
    stop = asyncio.Event()
    handle = asyncio.get_running_loop().call_later(within_s, stop.set)
    async with start_mirror(settings(data_dir), known, follow, stop, core) as running:
        handle.cancel()
        assert running is not None, "nothing came"
        async with (
            grpc.aio.insecure_channel(str(running.grpc)) as channel,
            httpx.AsyncClient(base_url=f"http://{running.http}", trust_env=False) as http,
        ):
            yield Mirrored(running, ledger_pb2_grpc.LedgerServiceStub(channel), http)


async def same_answers(served: Served, mirrored: Mirrored) -> None:
    """The mirror says what the node says, byte for byte."""
    size = served.size
    index = size - 2
    for name, request in (
        ("GetCheckpoint", pb.GetCheckpointRequest(size=size)),
        ("GetInclusionProof", pb.GetInclusionProofRequest(index=index, tree_size=size)),
        ("GetConsistencyProof", pb.GetConsistencyProofRequest(old_size=2, new_size=size)),
        ("GetRegistryRecord", pb.GetRegistryRecordRequest(subject="agency/1")),
        ("GetFigures", pb.GetFiguresRequest(agency=1)),
    ):
        ours, theirs = [await getattr(stub, name)(request) for stub in (mirrored.stub, served.stub)]
        assert ours == theirs, name
    tile = TileId(0, size // 256, size % 256).path()
    for path in ("/checkpoint", f"/{tile}", f"/{tile.replace('/0/', '/entries/', 1)}", "/v1/figures/1"):
        ours, theirs = await mirrored.http.get(path), await served.http.get(path)
        assert (ours.status_code, ours.content) == (200, theirs.content), path


# --- a good link -------------------------------------------------------------------------------


async def test_a_mirror_has_all_of_it_and_each_new_block_within_a_second(
    served: Served, tmp_path: Path
) -> None:
    async with mirroring(tmp_path / "mirror", trusted(served), str(served.node.grpc)) as mirrored:
        await mirrored.until(lambda: mirrored.size == served.size)
        await same_answers(served, mirrored)
        for _ in range(5):
            placed = (await served.submit()).placement
            lag = await mirrored.until(lambda placed=placed: mirrored.size >= placed.block_size)  # type: ignore[misc]
            assert lag < 1.0
        await same_answers(served, mirrored)
        found = await mirrored.stub.GetInclusionProof(
            pb.GetInclusionProofRequest(index=placed.first_record_index)
        )
        checkpoint = served.open(found.checkpoint)
        proof = found.proof
        verify_inclusion(proof.leaf_hash, proof.index, checkpoint.size, list(proof.path), checkpoint.root)
        state = await mirrored.state()
        assert (state["follows"], state["blocks_behind"], state["fault"]) == (str(served.node.grpc), 0, "")
        assert state["contact_age_ms"] < 30_000
        ledger = await mirrored.stub.GetLedger(pb.GetLedgerRequest())
        assert ledger.mirror.submit_at == str(served.node.grpc)
        metrics = (await mirrored.http.get("/metrics")).text
        for name in ("mirror_head_age_seconds", "mirror_contact_age_seconds", "mirror_blocks_behind 0.0"):
            assert f"\nsudur_{name}" in metrics
    report = run_fsck(tmp_path / "mirror", trust=Trust((trusted(served),)))
    assert report.sound, str(report)


async def test_what_is_to_be_written_is_refused_with_the_node_to_go_to(
    served: Served, tmp_path: Path
) -> None:
    async with mirroring(tmp_path / "mirror", trusted(served), str(served.node.grpc)) as mirrored:
        stub = mirrored.stub
        asked = pb.EnvelopeAuthorization(agency=1, key_number=1)
        calls: list[Any] = [
            stub.Submit(served.request(served.submission(1))),
            stub.SubmitBulk(served.bulk(served.submission(1))),
            stub.ChangeRegistry(pb.ChangeRegistryRequest(genesis=served.genesis, leaf=b"\x01\x10")),
            stub.PutEnvelope(pb.PutEnvelopeRequest(genesis=served.genesis, authorization=asked)),
            stub.GetEnvelope(pb.GetEnvelopeRequest(genesis=served.genesis, authorization=asked)),
            stub.DropEnvelope(pb.DropEnvelopeRequest(genesis=served.genesis, authorization=asked)),
        ]
        for call in calls:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            found = refused(caught.value)
            assert (found.code, found.reason) == (Code.UNAVAILABLE, "MIRROR")
            assert found.info is not None
            assert found.info.metadata["submit_at"] == str(served.node.grpc)
            assert str(served.node.grpc) in found.message
        ready = await mirrored.http.get("/readyz")
        assert ready.status_code == 503
        assert ready.json()["reasons"][0].startswith("MIRROR: ")


async def test_a_mirror_of_a_mirror(served: Served, tmp_path: Path) -> None:
    known = trusted(served)
    async with (
        mirroring(tmp_path / "one", known, str(served.node.grpc)) as one,
        mirroring(tmp_path / "two", known, str(one.running.grpc)) as two,
    ):
        await served.submit()
        await two.until(lambda: two.size == served.size)
        await same_answers(served, two)


@pytest.mark.parametrize("how", How)
@pytest.mark.parametrize("step", [Step.WRITE_BLOCK, Step.SYNC_BLOCK, Step.SYNC_MARK])
async def test_a_write_that_fails_is_made_up_for(
    served: Served, tmp_path: Path, step: Step, how: How
) -> None:
    faults = Faults()
    core = replace(QUICK, database=lambda path: FaultyDatabase(path, faults), sync_mark=faults.sync_mark)
    known, address = trusted(served), str(served.node.grpc)
    async with mirroring(tmp_path / "mirror", known, address, core=core) as mirrored:
        await mirrored.until(lambda: mirrored.size == served.size)
        faults.arm(step, how)
        await served.submit()
        await mirrored.until(lambda: faults.struck)
        await mirrored.until(lambda: mirrored.size == served.size)
        await same_answers(served, mirrored)
    report = run_fsck(tmp_path / "mirror", trust=Trust((known,)))
    assert report.sound, str(report)


# --- no link -----------------------------------------------------------------------------------


async def test_it_serves_on_without_a_link_says_so_and_catches_up_when_it_returns(
    served: Served, tmp_path: Path
) -> None:
    with SlowLink(str(served.node.grpc)) as link:
        async with mirroring(tmp_path / "mirror", trusted(served), link.address) as mirrored:
            await mirrored.until(lambda: mirrored.size == served.size)
            link.cut()
            await mirrored.until(lambda: mirrored.running.mirror.contact.fault)
            state = await mirrored.state()
            assert state["fault"].startswith("PEER_SILENT: ")
            await same_answers(served, mirrored)
            before = mirrored.size
            for _ in range(4):
                await served.submit()
            assert mirrored.size == before
            ledger = await mirrored.stub.GetLedger(pb.GetLedgerRequest())
            assert ledger.mirror.fault
            assert ledger.mirror.head_age_ms > 0
            assert "sudur_mirror_faults_total" in (await mirrored.http.get("/metrics")).text
            link.mend()
            await mirrored.until(lambda: mirrored.size == served.size)
            await mirrored.until(lambda: not mirrored.running.mirror.contact.fault)
            await same_answers(served, mirrored)


async def test_it_starts_and_serves_without_a_link(served: Served, tmp_path: Path) -> None:
    known = trusted(served)
    with SlowLink(str(served.node.grpc)) as link:
        async with mirroring(tmp_path / "mirror", known, link.address) as mirrored:
            await mirrored.until(lambda: mirrored.size == served.size)
        link.cut()
        async with mirroring(tmp_path / "mirror", known, link.address) as mirrored:
            await same_answers(served, mirrored)
            assert mirrored.running.mirror.contact_age_ms is None
            await served.submit()
            link.mend()
            await mirrored.until(lambda: mirrored.size == served.size)


async def test_a_node_that_is_gone_is_left_for_the_next_one(served: Served, tmp_path: Path) -> None:
    gone = "127.0.0.1:1"
    async with mirroring(tmp_path / "mirror", trusted(served), gone, str(served.node.grpc)) as mirrored:
        await mirrored.until(lambda: mirrored.size == served.size)
        assert mirrored.running.mirror.contact.address == str(served.node.grpc)


async def test_a_new_mirror_without_a_link_says_so_until_it_is_stopped(
    served: Served, tmp_path: Path
) -> None:
    stop = asyncio.Event()
    with socket.create_server(("127.0.0.1", 0)) as free:
        http = Address("127.0.0.1", free.getsockname()[1])

    async def wait_in_vain() -> None:
        where = replace(settings(tmp_path / "mirror"), http=http)
        async with start_mirror(where, trusted(served), ["127.0.0.1:1"], stop, QUICK) as running:
            assert running is None

    waiting = asyncio.create_task(wait_in_vain())
    async with httpx.AsyncClient(base_url=f"http://{http}", timeout=5) as client:
        for _ in range(500):
            with contextlib.suppress(httpx.TransportError):
                answer = await client.get("/readyz")
                break
            await asyncio.sleep(0.02)
        assert answer.status_code == 503
        assert "waits for the first blocks of 127.0.0.1:1" in answer.json()["reasons"][0]
    stop.set()
    await waiting


async def test_a_node_that_never_answers_does_not_hold_up_a_stop(served: Served, tmp_path: Path) -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as mute:
        address = f"127.0.0.1:{mute.getsockname()[1]}"
        mirror = Mirror.open(tmp_path / "mirror", trusted(served), [address], settings=QUICK)
        mirror.start()
        near, _ = await asyncio.to_thread(mute.accept)
        with near:
            began = time.monotonic()
            await asyncio.to_thread(mirror.close)
            assert time.monotonic() - began < 10


# --- not to be believed ------------------------------------------------------------------------


async def test_another_ledger_is_not_followed(served: Served, tmp_path: Path) -> None:
    other = trusted(served, genesis=bytes(32))
    mirror = Mirror.open(tmp_path / "mirror", other, [str(served.node.grpc)], settings=QUICK)
    mirror.start()
    try:
        await until(lambda: mirror.contact.fault)
        assert mirror.contact.fault.startswith("PEER_WRONG: ")
        assert "it serves the ledger" in mirror.contact.fault
        assert mirror.copy is None
        assert mirror.store.head() is None
    finally:
        await asyncio.to_thread(mirror.close)


async def test_a_checkpoint_by_another_key_is_not_believed(served: Served, tmp_path: Path) -> None:
    known = trusted(served, log_keys=(TrustedKey(VerifierKey.parse(log_key("another"))),))
    mirror = Mirror.open(tmp_path / "mirror", known, [str(served.node.grpc)], settings=QUICK)
    mirror.start()
    try:
        await until(lambda: mirror.contact.fault)
        assert mirror.contact.fault.startswith("CHECKPOINT_UNTRUSTED: ")
        assert mirror.store.head() is None
    finally:
        await asyncio.to_thread(mirror.close)


async def test_data_of_another_ledger_is_refused(served: Served, tmp_path: Path) -> None:
    async with mirroring(tmp_path / "mirror", trusted(served), str(served.node.grpc)):
        pass
    with pytest.raises(CheckpointUntrusted, match="pins"):
        Mirror.open(tmp_path / "mirror", trusted(served, genesis=bytes(32)), ["127.0.0.1:1"])


async def test_it_never_goes_back_below_what_it_served(served: Served, tmp_path: Path) -> None:
    known, address = trusted(served), str(served.node.grpc)
    async with mirroring(tmp_path / "mirror", known, address) as mirrored:
        await mirrored.until(lambda: mirrored.size == served.size)
    shutil.copytree(tmp_path / "mirror", tmp_path / "older")
    await served.submit()
    async with mirroring(tmp_path / "mirror", known, address) as mirrored:
        await mirrored.until(lambda: mirrored.size == served.size)
    shutil.rmtree(tmp_path / "mirror")
    (tmp_path / "older").rename(tmp_path / "mirror")
    with pytest.raises(StoreBehindMark, match="older copy"):
        Mirror.open(tmp_path / "mirror", known, [address])
    (tmp_path / "mirror.mark").unlink()
    with pytest.raises(StoreBehindMark, match="not the mark"):
        Mirror.open(tmp_path / "mirror", known, [address])


# --- a bad link --------------------------------------------------------------------------------


@pytest.mark.slow
async def test_over_600_ms_2_percent_loss_and_256_kbit(served: Served, tmp_path: Path) -> None:
    """A consulate's line: what is missing comes, each new block soon after, and a cut costs no block."""
    for number in range(2):
        records = [[issue(1, f"{number} {i} {j}", 0) for j in range(256)] for i in range(4)]
        await served.stub.SubmitBulk(served.bulk(*(served.submission(1, one) for one in records)))
    line = Line(delay_s=0.3, bytes_s=32_000, loss=0.02)
    with SlowLink(str(served.node.grpc), line) as link:
        async with mirroring(
            tmp_path / "mirror", trusted(served), link.address, within_s=120, core=MirrorSettings()
        ) as mirrored:
            await mirrored.until(lambda: mirrored.size == served.size, 120)
            lags = []
            for _ in range(3):
                placed = (await served.submit()).placement
                lags.append(
                    await mirrored.until(
                        lambda placed=placed: mirrored.size >= placed.block_size,  # type: ignore[misc]
                        60,
                    )
                )
            assert min(lags) < 2.0, lags
            link.cut()
            await mirrored.until(lambda: mirrored.running.mirror.contact.fault, 60)
            await served.submit()
            link.mend()
            await mirrored.until(lambda: mirrored.size == served.size, 120)
            await same_answers(served, mirrored)
            key = VerifierKey.parse(log_key("log"))
            note = mirrored.running.ledger.published.checkpoint
            assert open_checkpoint(note, ORIGIN, [key]).checkpoint.size == served.size
