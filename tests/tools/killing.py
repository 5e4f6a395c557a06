"""A node's door that kills a client in the middle: before or after the node has what was asked."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

from sudur.v1.ledger_pb2_grpc import (
    LedgerServiceServicer,
    LedgerServiceStub,
    add_LedgerServiceServicer_to_server,
)
from tests.tools.helpers import finish, start


def _passing(name: str) -> Any:
    return lambda self, request, context: self.handle(name, request)


class Door(LedgerServiceServicer):
    """Passes every call on, and remembers it."""

    GetLedger = _passing("GetLedger")
    GetCheckpoint = _passing("GetCheckpoint")
    GetRegistryRecord = _passing("GetRegistryRecord")
    GetInclusionProof = _passing("GetInclusionProof")
    GetInclusionProofs = _passing("GetInclusionProofs")
    GetConsistencyProof = _passing("GetConsistencyProof")
    LookupCommitment = _passing("LookupCommitment")
    LookupReference = _passing("LookupReference")
    GetExchanges = _passing("GetExchanges")
    ListSends = _passing("ListSends")
    GetFigures = _passing("GetFigures")
    GetCluster = _passing("GetCluster")
    Submit = _passing("Submit")
    SubmitBulk = _passing("SubmitBulk")
    ChangeRegistry = _passing("ChangeRegistry")
    PutEnvelope = _passing("PutEnvelope")
    GetEnvelope = _passing("GetEnvelope")
    DropEnvelope = _passing("DropEnvelope")
    StreamEntries = _passing("StreamEntries")
    StreamBlocks = _passing("StreamBlocks")
    WatchBlocks = _passing("WatchBlocks")

    def __init__(self, node: str) -> None:
        self.node = LedgerServiceStub(grpc.insecure_channel(node))
        self.calls: list[tuple[str, Any]] = []

    def handle(self, name: str, request: Any) -> Any:
        self.calls.append((name, request))
        return getattr(self.node, name)(request)


class Killer(Door):
    """Kills the victim on the ``nth`` call of a kind: before the node has it, or after."""

    def __init__(self, node: str, call: str, nth: int, after: bool) -> None:
        super().__init__(node)
        self._call, self._left, self._after = call, nth, after
        self.victim: futures.Future[int] = futures.Future()

    def handle(self, name: str, request: Any) -> Any:
        if name == self._call:
            self._left -= 1
        if name != self._call or self._left:
            return super().handle(name, request)
        self.calls.append((name, request))
        if self._after:
            getattr(self.node, name)(request)
        os.kill(self.victim.result(), signal.SIGKILL)
        return None


@contextmanager
def serving(door: Door) -> Iterator[str]:
    """The address at which the door stands."""
    server = grpc.server(futures.ThreadPoolExecutor(4))
    add_LedgerServiceServicer_to_server(door, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def killed(node: str, call: str, nth: int, after: bool, *command: str | Path) -> Killer:
    """Run a command, ``--node`` left out, that is killed at that call; the door, for what passed it."""
    door = Killer(node, call, nth, after)
    with serving(door) as address:
        client = start(*command, "--node", address)
        door.victim.set_result(client.pid)
        ended = finish(client)
    assert ended.code == -signal.SIGKILL, ended
    return door
