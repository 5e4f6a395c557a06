"""Nodes for tests that are no nodes: a proxy that lies, and a long log in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import grpc
from grpc_status import rpc_status

from ledger.checkpoints import Checkpoint, sign_checkpoint
from ledger.hashing import leaf_hashes, parent_row
from ledger.proofs import prove_consistency
from ledger.records import Basis, Issue
from ledger.seals import Seal
from ledger.submissions import KeySignature, SubmissionLeaf
from ledger.tiles import NodeId
from ledger.tree import Tree
from sudur.v1 import ledger_pb2 as pb
from sudur.v1.ledger_pb2_grpc import (
    LedgerServiceServicer,
    LedgerServiceStub,
    add_LedgerServiceServicer_to_server,
)
from tests.ledger.world import ORIGIN, START_MS, signer


class Proxy(LedgerServiceServicer):
    """Forwards to a node; ``lies`` by method are given the request and the honest answer."""

    def __init__(self, target: str) -> None:
        self._channel = grpc.insecure_channel(target)
        self._stub = LedgerServiceStub(self._channel)
        self.lies: dict[str, Callable[[Any, Any], Any]] = {}

    def _forward(self, name: str, request: Any) -> Any:
        answer = getattr(self._stub, name)(request, timeout=30)
        return self.lies[name](request, answer) if name in self.lies else answer

    def GetLedger(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._forward("GetLedger", request)

    def GetCheckpoint(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._forward("GetCheckpoint", request)

    def GetRegistryRecord(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._forward("GetRegistryRecord", request)

    def GetConsistencyProof(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        try:
            return self._forward("GetConsistencyProof", request)
        except grpc.RpcError as error:
            context.abort_with_status(rpc_status.to_status(rpc_status.from_call(error)))

    def StreamEntries(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802
        for answer in self._stub.StreamEntries(request, timeout=30):
            lie = self.lies.get("StreamEntries")
            yield lie(request, answer) if lie is not None else answer

    def close(self) -> None:
        self._channel.close()


@contextmanager
def serving(servicer: LedgerServiceServicer) -> Iterator[str]:
    server = grpc.server(futures.ThreadPoolExecutor(4))
    add_LedgerServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


class LongLog(LedgerServiceServicer):
    """A log of a million leaves by others, in memory, with one submission in agency 1's name.

    ``stop_at``: the stream stands still before this leaf, until ``go_on``; ``reached`` says that it does.
    """

    def __init__(self, count: int) -> None:
        self.leaves: list[bytes] = []
        self.own = -1
        while len(self.leaves) < count:
            self._block()
        self._rows = [leaf_hashes(self.leaves)]
        while len(self._rows[-1]) > 1:
            self._rows.append(parent_row(self._rows[-1]))
        tree, _ = Tree.empty().append(self._rows[0])
        self.checkpoint = sign_checkpoint(Checkpoint(ORIGIN, len(self.leaves), tree.root()), [signer("log")])
        self.starts: list[int] = []
        self.stop_at: int | None = None
        self.reached, self.go_on = threading.Event(), threading.Event()

    def _block(self) -> None:
        end = len(self.leaves) + 65_000
        number = len(self.leaves) // 65_000
        while len(self.leaves) < end:
            at = len(self.leaves)
            agency = 1 if number == 1 and self.own < 0 else 2 + at % 50
            if agency == 1:
                self.own = at
            records = [
                Issue(agency, 0, Basis.ORIGINAL, at.to_bytes(16, "big") + i.to_bytes(16, "big")).encode()
                for i in range(256)
            ]
            signatures = (KeySignature(1, 1, bytes(64)),)
            self.leaves.append(SubmissionLeaf(agency, 256, bytes(32), START_MS, signatures).encode())
            self.leaves += records
        self.leaves.append(Seal(1, number, START_MS + number + 1, 0, 0, bytes(32), bytes(32)).encode())

    def nodes(self, ids: list[NodeId]) -> list[bytes]:
        return [self._rows[height][index] for height, index in ids]

    def GetLedger(self, request: Any, context: Any) -> Any:  # noqa: N802
        return pb.GetLedgerResponse(genesis=bytes(32), origin=ORIGIN, resources_url="http://127.0.0.1:9")

    def GetCheckpoint(self, request: Any, context: Any) -> Any:  # noqa: N802
        return pb.GetCheckpointResponse(checkpoint=self.checkpoint)

    def GetConsistencyProof(self, request: Any, context: Any) -> Any:  # noqa: N802
        path = prove_consistency(self, request.old_size, request.new_size)  # type: ignore[arg-type]
        return pb.GetConsistencyProofResponse(
            old_size=request.old_size, new_size=request.new_size, path=path, checkpoint=self.checkpoint
        )

    def StreamEntries(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802
        self.starts.append(request.start)
        for at in range(request.start, request.end, 4096):
            if self.stop_at is not None and at >= self.stop_at:
                self.reached.set()
                self.go_on.wait(60)
                return
            leaves = self.leaves[at : min(at + 4096, request.end)]
            yield pb.StreamEntriesResponse(first_index=at, leaves=leaves)
