"""Real node processes for tests: start, kill, start again; and clients that keep what they were told."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import httpx
from google.rpc import status_pb2

from sudur.v1 import ledger_pb2, ledger_pb2_grpc
from tests.node.served import Refused, taken_apart
from tests.node.world import World

DEADLINE_S = 60.0
_KILLED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class NodeProcess:
    """A node in a process. Its log goes to a file, so that no full pipe can stop it."""

    def __init__(self, data_dir: Path, *, disk_floor: int = 4_096) -> None:
        self.log = data_dir.with_name(data_dir.name + ".log")
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.fault.serve", str(data_dir), str(disk_floor)],
                cwd=Path(__file__).parents[2],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.grpc = self.http = ""

    def wait_ready(self) -> NodeProcess:
        """Wait until it serves; fails the test with its log when it ends instead."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.log.read_text()[-4_000:]
        addresses = json.loads(line)
        self.grpc, self.http = addresses["grpc"], addresses["http"]
        return self

    def kill(self) -> None:
        """SIGKILL: nothing is flushed, nothing is told."""
        self.process.kill()
        self._reap()

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self._reap()

    def refusal(self) -> str:
        """What it said when it refused to start."""
        code = self._reap()
        text = self.log.read_text()
        assert code == 1, (code, text)
        assert "Traceback" not in text
        return text

    def _reap(self) -> int:
        code = self.process.wait(DEADLINE_S)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code

    @contextmanager
    def stub(self) -> Iterator[ledger_pb2_grpc.LedgerServiceStub]:
        with grpc.insecure_channel(self.grpc) as channel:
            yield ledger_pb2_grpc.LedgerServiceStub(channel)

    def get(self, path: str) -> httpx.Response:
        """An HTTP resource."""
        return httpx.get(f"http://{self.http}{path}", trust_env=False, timeout=DEADLINE_S)


def request(world: World, submission: tuple[bytes, bytes]) -> ledger_pb2.SubmitRequest:
    leaf, records = submission
    return ledger_pb2.SubmitRequest(
        genesis=world.genesis, submission=ledger_pb2.Submission(leaf=leaf, records=records)
    )


def refused(error: grpc.RpcError) -> Refused:
    """The rich error of a call that failed."""
    assert isinstance(error, grpc.Call)
    status = status_pb2.Status()
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            status.ParseFromString(value if isinstance(value, bytes) else value.encode())
    return taken_apart(status, error.code())


@dataclass
class Answers:
    """What clients were told, and a way to wait for more of it."""

    changed: threading.Condition = field(default_factory=threading.Condition)
    placed: list[tuple[tuple[bytes, bytes], ledger_pb2.Placement]] = field(default_factory=list)
    checkpoints: set[bytes] = field(default_factory=set)
    handed_in: int = 0
    node: NodeProcess | None = None
    stopping: bool = False
    failed: list[BaseException] = field(default_factory=list)

    def add(
        self,
        answered: list[tuple[tuple[bytes, bytes], ledger_pb2.Placement]],
        checkpoint: bytes,
    ) -> None:
        with self.changed:
            self.placed += answered
            self.checkpoints.add(checkpoint)
            self.changed.notify_all()

    def wait_for(self, count: int) -> None:
        """Wait until so many answers are in."""
        with self.changed:
            enough = self.changed.wait_for(lambda: len(self.placed) >= count or self.failed, DEADLINE_S)
        assert not self.failed, self.failed
        assert enough, f"only {len(self.placed)} of {count} answers came"

    def serve(self, node: NodeProcess | None) -> None:
        """Tell the clients where the node is now."""
        with self.changed:
            self.node = node
            self.changed.notify_all()

    def other_than(self, known: NodeProcess | None) -> NodeProcess:
        """The node that serves now, as soon as it is another than ``known``."""
        with self.changed:
            self.changed.wait_for(lambda: self.node not in (None, known), DEADLINE_S)
            assert self.node is not None, "no node came back"
            return self.node

    def stop(self) -> None:
        with self.changed:
            self.stopping = True
            self.changed.notify_all()


class Client(threading.Thread):
    """Hands in submissions of its own, one call after another, and repeats each until it is answered."""

    def __init__(self, number: int, answers: Answers, bulk: int) -> None:
        super().__init__(name=f"client {number}", daemon=True)
        # Commitments that no other client makes.
        self._world = World(counter=number << 32)
        self._answers = answers
        self._bulk = bulk

    def run(self) -> None:
        try:
            while not self._answers.stopping:
                submissions = [self._world.issues(3, claimed_ms=now_ms()) for _ in range(self._bulk)]
                with self._answers.changed:
                    self._answers.handed_in += len(submissions)
                self._hand_in(submissions)
        except BaseException as error:
            with self._answers.changed:
                self._answers.failed.append(error)
                self._answers.changed.notify_all()

    def _hand_in(self, submissions: list[tuple[bytes, bytes]]) -> None:
        node: NodeProcess | None = None
        while True:
            node = self._answers.other_than(node)
            try:
                with node.stub() as stub:
                    placements, checkpoint = self._call(stub, submissions)
            except grpc.RpcError as error:
                # The node was killed: what became of these is unknown, so the same bytes go to the next.
                if not isinstance(error, grpc.Call) or error.code() not in _KILLED:
                    raise
            else:
                self._answers.add(list(zip(submissions, placements, strict=True)), checkpoint)
                return

    def _call(
        self, stub: ledger_pb2_grpc.LedgerServiceStub, submissions: list[tuple[bytes, bytes]]
    ) -> tuple[list[ledger_pb2.Placement], bytes]:
        if len(submissions) == 1:
            answer = stub.Submit(request(self._world, submissions[0]), timeout=DEADLINE_S)
            return [answer.placement], answer.checkpoint
        bulk = ledger_pb2.SubmitBulkRequest(
            genesis=self._world.genesis,
            submissions=[ledger_pb2.Submission(leaf=leaf, records=records) for leaf, records in submissions],
        )
        answers = stub.SubmitBulk(bulk, timeout=DEADLINE_S)
        assert all(one.HasField("placement") for one in answers.results), answers.results
        return [one.placement for one in answers.results], answers.checkpoint
