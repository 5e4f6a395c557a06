"""A disk that is really full: a small tmpfs under a real node."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from node.checking.fsck import run_fsck
from sudur.v1 import ledger_pb2
from tests.fault.processes import DEADLINE_S, NodeProcess, now_ms, refused, request
from tests.node.served import Refused
from tests.node.world import World

SIZE = 64 << 20
FLOOR = 16 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(disk)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small tmpfs (needs root): {mounted.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def fill(disk: Path, leave: int) -> Path:
    """Take all space but ``leave`` bytes."""
    ballast = disk / "ballast"
    found = os.statvfs(disk)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(4096, found.f_bavail * found.f_frsize - leave))
    return ballast


def try_to_submit(world: World, node: NodeProcess, count: int = 1) -> ledger_pb2.Placement | Refused:
    with node.stub() as stub:
        submission = world.issues(count, claimed_ms=now_ms())
        try:
            return stub.Submit(request(world, submission), timeout=DEADLINE_S).placement
        except grpc.RpcError as error:
            return refused(error)


def submit_until(world: World, node: NodeProcess, count: int, *, refusal: bool) -> Refused | None:
    """Submit until it is refused, or until it is taken again."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        answer = try_to_submit(world, node, count)
        if isinstance(answer, Refused) and refusal:
            return answer
        if isinstance(answer, ledger_pb2.Placement) and not refusal:
            return None
    pytest.fail("it did not come to that in time")


def assert_reads_go_on(node: NodeProcess, size: int) -> None:
    with node.stub() as stub:
        answer = stub.GetInclusionProof(
            ledger_pb2.GetInclusionProofRequest(index=0, tree_size=size), timeout=DEADLINE_S
        )
        assert answer.checkpoint
    assert node.get("/checkpoint").status_code == 200
    assert node.get("/healthz").status_code == 200


@pytest.mark.slow
@pytest.mark.parametrize(
    "floor", [pytest.param(FLOOR, id="at the floor"), pytest.param(4096, id="to the end")]
)
def test_a_full_disk_stops_submissions_and_nothing_else(small_disk: Path, floor: int) -> None:
    world, data = World(), small_disk / "data"
    world.furnished(data).close()
    node = NodeProcess(data, disk_floor=floor).wait_ready()
    try:
        placement = try_to_submit(world, node)
        assert isinstance(placement, ledger_pb2.Placement)
        ballast = fill(small_disk, floor + 300_000)
        refusal = submit_until(world, node, 256, refusal=True)
        assert refusal is not None
        assert refusal.reason == "DISK_FULL", refusal
        assert refusal.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert refusal.retry is not None
        assert refusal.retry.retry_delay.seconds >= 1
        assert "MiB are free" in refusal.message
        assert node.get("/readyz").status_code == 503
        assert_reads_go_on(node, placement.block_size)
        ballast.unlink()
        # Nobody restarts it.
        submit_until(world, node, 1, refusal=False)
        assert node.get("/readyz").status_code == 200
        node.kill()
    finally:
        node.process.kill()
        node.process.wait()
    report = run_fsck(data)
    assert report.sound, report
