"""The door for other members: PeerService of proto/sudur/v1/peer.proto.

Handlers hand the work to threads, since a disk is behind it; what a peer is told of errors is their text,
for its log and its operator. Votes have threads of their own, and so has what else members ask: however many
callers of the public doors wait for a peer, this member answers its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import grpc
import grpc.aio
import structlog

from ledger.errors import OutOfRange, SudurError, VerificationError
from ledger.leaves import NONE
from node.cluster.cluster_letters import held, keep
from node.cluster.member import ClusterMember
from node.cluster.protocol import Readiness
from node.copying.block_source import StoredBlocks
from node.doors.grpc_answers import blocks_response
from node.errors import BlockRefusedByPeer, NoLeader, NotFound
from node.head import Head
from node.letters.envelope_store import EnvelopeStore
from node.metrics import Metrics
from node.proofs import Proofs
from node.store import Store
from sudur.v1 import ledger_pb2, peer_pb2, peer_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]
Answer = TypeVar("Answer")
# Votes are written one at a time; more threads than one so that a freeze that waits keeps no apply waiting.
_VOTING: Final = 4
_ANSWERING: Final = 8
_log: Final = structlog.get_logger("node.peers")


class PeerServicer(peer_pb2_grpc.PeerServiceServicer):
    """What each method promises stands in the .proto."""

    def __init__(
        self,
        member: ClusterMember,
        store: Store,
        metrics: Metrics,
        *,
        software_version: str,
    ) -> None:
        self._member = member
        self._replica = member.replica
        self._store = store
        self._proofs = Proofs(store)
        self._metrics = metrics
        self._software_version = software_version
        self.envelopes: EnvelopeStore | None = None
        """Once this node serves."""
        self._voting = ThreadPoolExecutor(_VOTING, "vote")
        self._answering = ThreadPoolExecutor(_ANSWERING, "answer")

    def close(self) -> None:
        """Take no more work. Closing twice is no error."""
        self._voting.shutdown(wait=False, cancel_futures=True)
        self._answering.shutdown(wait=False, cancel_futures=True)

    async def Hear(self, request: peer_pb2.HearRequest, context: Context) -> peer_pb2.HearResponse:  # noqa: N802
        return self._heard()

    def _heard(self) -> peer_pb2.HearResponse:
        heard = self._member.heard(self._software_version)
        return peer_pb2.HearResponse(
            name=heard.name,
            vote=heard.vote.encode(),
            time_ms=heard.time_ms,
            rules=heard.rules,
            software_version=heard.software,
            released=heard.released,
            leads=heard.leads,
            trouble=heard.trouble,
            genesis=heard.genesis,
            process=heard.process,
        )

    async def Prepare(  # noqa: N802
        self, request: peer_pb2.PrepareRequest, context: Context
    ) -> peer_pb2.PrepareResponse:
        outcomes = peer_pb2.PrepareResponse
        if self._replica.is_catching_up:
            return outcomes(outcome=outcomes.OUTCOME_BEHIND, reason="it is catching up")

        def prepare() -> peer_pb2.PrepareResponse:
            parent, head = Head.decode(request.parent), Head.decode(request.head)
            try:
                readiness = self._replica.prepare(parent, head, request.packed)
            except BlockRefusedByPeer as error:
                _log.error("block refused", block=head.block, leaf=error.leaf, reason=str(error))
                self._metrics.blocks_refused.inc()
                leaf = NONE if error.leaf is None else error.leaf
                return outcomes(outcome=outcomes.OUTCOME_REFUSED, reason=str(error), leaf=leaf)
            if readiness is Readiness.READY:
                return outcomes(outcome=outcomes.OUTCOME_PREPARED, member=self._replica.vote.member)
            if readiness is Readiness.BEHIND:
                self._member.nudge()
                return outcomes(outcome=outcomes.OUTCOME_BEHIND, reason="it has to catch up first")
            return outcomes(outcome=outcomes.OUTCOME_NEVER, reason="it votes in another epoch or chain")

        return await _answered(self._voting, context, prepare)

    async def Apply(self, request: peer_pb2.ApplyRequest, context: Context) -> peer_pb2.ApplyResponse:  # noqa: N802
        if self._replica.is_catching_up:
            return peer_pb2.ApplyResponse(applied=False, reason="it is catching up")

        def apply() -> peer_pb2.ApplyResponse:
            readiness = self._replica.apply(Head.decode(request.head))
            if readiness is Readiness.DONE:
                return peer_pb2.ApplyResponse(applied=True, member=self._replica.vote.member)
            self._member.nudge()
            return peer_pb2.ApplyResponse(applied=False, reason=f"it is not ready: {readiness.name}")

        return await _answered(self._voting, context, apply)

    async def Release(  # noqa: N802
        self, request: peer_pb2.ReleaseRequest, context: Context
    ) -> peer_pb2.ReleaseResponse:
        if self._replica.is_catching_up:
            return peer_pb2.ReleaseResponse()  # it fetches the newest by itself once it is level

        def release() -> peer_pb2.ReleaseResponse:
            self._member.released(Head.decode(request.head), request.checkpoint)
            return peer_pb2.ReleaseResponse()

        return await _answered(self._voting, context, release)

    async def Freeze(self, request: peer_pb2.FreezeRequest, context: Context) -> peer_pb2.HearResponse:  # noqa: N802
        def freeze() -> peer_pb2.HearResponse:
            self._replica.freeze(request.epoch)
            _log.warning("frozen", epoch=request.epoch)
            return self._heard()

        return await _answered(self._voting, context, freeze)

    async def StreamApplied(  # noqa: N802
        self, request: ledger_pb2.StreamBlocksRequest, context: Context
    ) -> AsyncIterator[ledger_pb2.StreamBlocksResponse]:
        head = self._store.head()
        newest = -1 if head is None else head.block
        end = request.end_block or newest + 1
        try:
            messages = StoredBlocks(self._store).messages(request.from_block, end, request.skip_bytes)
            loop = asyncio.get_running_loop()
            while (pieces := await loop.run_in_executor(self._answering, next, messages, None)) is not None:
                yield blocks_response(pieces, newest)
        except SudurError as error:
            await context.abort(_code(error), str(error))

    async def ProveApplied(  # noqa: N802
        self, request: ledger_pb2.GetConsistencyProofRequest, context: Context
    ) -> ledger_pb2.GetConsistencyProofResponse:
        def prove() -> ledger_pb2.GetConsistencyProofResponse:
            path = self._proofs.consistency(request.old_size, request.new_size)
            return ledger_pb2.GetConsistencyProofResponse(
                old_size=request.old_size, new_size=request.new_size, path=path
            )

        return await _answered(self._answering, context, prove)

    async def FetchBody(  # noqa: N802
        self, request: peer_pb2.FetchBodyRequest, context: Context
    ) -> peer_pb2.FetchBodyResponse:
        def fetch() -> peer_pb2.FetchBodyResponse:
            packed = self._replica.body(request.number, request.digest)
            if packed is None:
                raise NotFound("this block is not here", where=f"block {request.number}")
            return peer_pb2.FetchBodyResponse(packed=packed)

        return await _answered(self._answering, context, fetch)

    async def RootAfter(  # noqa: N802
        self, request: peer_pb2.RootAfterRequest, context: Context
    ) -> peer_pb2.RootAfterResponse:
        def look() -> peer_pb2.RootAfterResponse:
            found = self._replica.root_after(request.block)
            if found is None:
                raise NotFound("this block is not applied here", where=f"block {request.block}")
            return peer_pb2.RootAfterResponse(size=found[0], root=found[1])

        return await _answered(self._answering, context, look)

    async def KeepEnvelope(  # noqa: N802
        self, request: peer_pb2.KeepEnvelopeRequest, context: Context
    ) -> peer_pb2.KeepEnvelopeResponse:
        def work() -> peer_pb2.KeepEnvelopeResponse:
            keep(self._letters(), request.envelope, request.sender)
            return peer_pb2.KeepEnvelopeResponse()

        return await _answered(self._answering, context, work)

    async def FetchEnvelope(  # noqa: N802
        self, request: peer_pb2.FetchEnvelopeRequest, context: Context
    ) -> peer_pb2.KeepEnvelopeRequest:
        def work() -> peer_pb2.KeepEnvelopeRequest:
            envelope, sender = held(self._letters(), request.digest)
            return peer_pb2.KeepEnvelopeRequest(envelope=envelope, sender=sender)

        return await _answered(self._answering, context, work)

    async def ForgetEnvelope(  # noqa: N802
        self, request: peer_pb2.FetchEnvelopeRequest, context: Context
    ) -> peer_pb2.KeepEnvelopeResponse:
        def work() -> peer_pb2.KeepEnvelopeResponse:
            self._letters().drop(request.digest)
            return peer_pb2.KeepEnvelopeResponse()

        return await _answered(self._answering, context, work)

    def _letters(self) -> EnvelopeStore:
        if self.envelopes is None:
            raise NoLeader("this member does not serve yet", retry_ms=500)
        return self.envelopes


async def _answered(threads: ThreadPoolExecutor, context: Context, work: Callable[[], Answer]) -> Answer:
    """Do the work on one of ``threads``, and tell what went wrong in words."""
    try:
        return await asyncio.get_running_loop().run_in_executor(threads, work)
    except SudurError as error:
        await context.abort(_code(error), str(error))
    raise AssertionError("abort raises")


def _code(error: SudurError) -> grpc.StatusCode:
    if isinstance(error, NotFound | OutOfRange):
        return grpc.StatusCode.NOT_FOUND
    if isinstance(error, VerificationError):
        return grpc.StatusCode.INVALID_ARGUMENT
    return grpc.StatusCode.UNAVAILABLE
