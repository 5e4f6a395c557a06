"""A member that does not lead hands writes on to the one that does, over the members' own door."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, Final, TypeVar

import grpc
import grpc.aio
from google.rpc import status_pb2
from grpc_status import rpc_status

from node.cluster.member import ClusterMember
from node.cluster.peers import PEER_OPTIONS
from node.config import Address
from node.doors.forward import ForwardedRefusal
from node.doors.request_ids import to_hand_on
from node.errors import NoLeader, RetryableError
from node.metrics import Metrics
from node.sequencer import Outcome, Placement
from node.tls import TlsCredentials
from sudur.v1 import ledger_pb2
from sudur.v1.ledger_pb2_grpc import LedgerServiceStub

if TYPE_CHECKING:
    from sudur.v1.ledger_pb2_grpc import LedgerServiceAsyncStub

FORWARD_S: Final = 30.0
"""How long the leader has; its caller's own deadline ends it sooner."""
LOOK_S: Final = 0.25
"""How often it is looked whether the leader still leads."""
Answer = TypeVar("Answer")


class Forwarding:
    """See :class:`node.doors.forward.Forward`. Belongs to one event loop; :meth:`close` it there."""

    def __init__(self, member: ClusterMember, credentials: TlsCredentials | None, metrics: Metrics) -> None:
        self._member = member
        self._credentials = credentials
        self._metrics = metrics
        self._made_of: tuple[Address, grpc.ChannelCredentials | None] | None = None
        self._channel: grpc.aio.Channel | None = None
        self._ending: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """End what is under way."""
        for task in self._ending:
            task.cancel()
        await asyncio.gather(*self._ending, return_exceptions=True)
        if self._channel is not None:
            await self._channel.close()

    @property
    def is_elsewhere(self) -> bool:
        """See Forward."""
        member = self._member
        return not member.leads and member.leader not in (None, member.settings.name)

    async def submit(
        self, genesis: bytes, submissions: Sequence[tuple[bytes, bytes]]
    ) -> tuple[list[Outcome], bytes]:
        """See Forward. One SubmitBulk."""
        request = ledger_pb2.SubmitBulkRequest(
            genesis=genesis,
            submissions=[ledger_pb2.Submission(leaf=leaf, records=records) for leaf, records in submissions],
        )
        stub = await self._stub()
        try:
            call = stub.SubmitBulk(request, timeout=FORWARD_S, metadata=to_hand_on())
            answer = await self._while_it_leads(call)
        except grpc.aio.AioRpcError as error:
            raise self._refusal(error) from None
        self._metrics.forwarded.inc(len(submissions))
        outcomes: list[Outcome] = [
            _placement(one.placement) if one.HasField("placement") else ForwardedRefusal(one.error)
            for one in answer.results
        ]
        return outcomes, answer.checkpoint

    async def change(self, genesis: bytes, leaf: bytes) -> tuple[Outcome, bytes]:
        """See Forward. One ChangeRegistry."""
        request = ledger_pb2.ChangeRegistryRequest(genesis=genesis, leaf=leaf)
        stub = await self._stub()
        try:
            call = stub.ChangeRegistry(request, timeout=FORWARD_S, metadata=to_hand_on())
            answer = await self._while_it_leads(call)
        except grpc.aio.AioRpcError as error:
            raise self._refusal(error) from None
        self._metrics.forwarded.inc()
        placed = Placement(
            answer.index, answer.index + 1, 0, answer.block, answer.block_size, answer.time_ms, False
        )
        return placed, answer.checkpoint

    async def _stub(self) -> LedgerServiceAsyncStub:
        leader, peers = self._member.leader, self._member.peers
        member = None if leader is None or peers is None else peers.members.named(leader)
        if member is None:
            raise NoLeader("nobody leads at the moment", retry_ms=200)
        credentials = None if self._credentials is None else self._credentials.channel_credentials()
        wanted = member.peer, credentials
        if self._channel is None or wanted != self._made_of:
            if self._channel is not None:
                task = asyncio.create_task(self._channel.close(FORWARD_S))
                self._ending.add(task)
                task.add_done_callback(self._ending.discard)
            target = str(member.peer)
            self._channel = (
                grpc.aio.insecure_channel(target, options=PEER_OPTIONS)
                if credentials is None
                else grpc.aio.secure_channel(target, credentials, options=PEER_OPTIONS)
            )
            self._made_of = wanted
        return LedgerServiceStub(self._channel)

    async def _while_it_leads(self, call: Awaitable[Answer]) -> Answer:
        """The leader's answer. One that stands still, or is cut off, gives none: not after another leads.

        Raises AioRpcError, NoLeader.
        """
        leader = self._member.leader
        answering = asyncio.ensure_future(call)
        try:
            while not (await asyncio.wait({answering}, timeout=LOOK_S))[0]:
                if self._member.leader != leader:
                    raise NoLeader(
                        f"{leader} led, did not answer, and leads no more",
                        fix="send the same again: it was committed, or not",
                        retry_ms=200,
                    )
            return answering.result()
        finally:
            answering.cancel()

    def _refusal(self, error: grpc.aio.AioRpcError) -> ForwardedRefusal | RetryableError:
        status: status_pb2.Status | None = None
        try:
            status = rpc_status.from_call(error)
        except ValueError:
            status = None
        if status is not None and status.details:
            return ForwardedRefusal(status)
        # No word of a node of ours: the connection, or a leader that died with the call.
        self._member.nudge()
        return NoLeader(
            f"the leader, {self._member.leader}, did not answer: {error.details() or error.code().name}",
            fix="send the same again: it was committed, or not",
            retry_ms=200,
        )


def _placement(place: ledger_pb2.Placement) -> Placement:
    return Placement(
        place.submission_index,
        place.first_record_index,
        place.record_count,
        place.block,
        place.block_size,
        place.time_ms,
        place.repeat,
    )
