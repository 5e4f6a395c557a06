"""The gRPC service of proto/sudur/v1/ledger.proto, with health and reflection beside it.

Handlers run on the event loop and hand the work on: writes to the sequencer's thread, reads to
:mod:`node.doors.reads`. What goes wrong leaves through one door, :func:`node.doors.grpc_errors.refuse`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import suppress
from functools import wraps
from importlib.metadata import version
from typing import Any, Final, TypeVar, cast

import grpc
import grpc.aio
import structlog
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from ledger.errors import FormatError, SudurError
from ledger.leaves import MAX_LEAF_SIZE
from ledger.records import MAX_RECORDS
from ledger.rules_v1 import CLAIMED_FUTURE_MS, CLAIMED_PAST_MS
from ledger.submissions import SubmissionLeaf
from node.config import MAX_BULK, MEBIBYTE, Address, RequestLimits, Settings
from node.copying.mirror import Mirror
from node.doors.grpc_answers import (
    blocks_response,
    exchanges_response,
    figures_response,
    reference_response,
    sends_response,
)
from node.doors.grpc_errors import Refusal, fault, refuse
from node.doors.inquiries import Inquiries
from node.doors.late_handlers import LateHandlers
from node.doors.limits import CallerLimits, claimed_agency, peer_address
from node.doors.reads import BlockHead, Reads
from node.doors.refusal_log import RefusalLog
from node.doors.releases import Releases
from node.doors.request_ids import HEADER, begin_request, request_id_now
from node.doors.watches import Watches
from node.doors.writes import Answer, Writes, check_bulk
from node.errors import NodeError, NotFound, RetryableError, Stopping, TooManyStreams
from node.letters.envelopes import Authorization, Letters
from node.metrics import Metrics
from node.sequencer import Placement
from node.tls import TlsCredentials
from sudur.v1 import ledger_pb2, ledger_pb2_grpc

SOFTWARE_VERSION: Final = version("sudur")
SERVICE: Final = ledger_pb2.DESCRIPTOR.services_by_name["LedgerService"].full_name
PULSE_S: Final = 5.0
"""How often a stream that follows says that nothing is new."""
_SHOWN_S: Final = 2.0
_MAX_METADATA_BYTES: Final = 16_384
_HANDSHAKE_MS: Final = 10_000
_MAX_ANSWER_BYTES: Final = 4 * MEBIBYTE  # 1,024 proofs of the deepest tree take 2.3 MB
_log = structlog.get_logger("node.grpc")

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)
Context = grpc.aio.ServicerContext[Any, Any]
FieldOf = Callable[[Any, FormatError], str]


def now_ms() -> int:
    """The system's time in ms since 1970 UTC: what is told to clients, never what is sealed."""
    return time.time_ns() // 1_000_000


# --- one door for everything that goes wrong ---------------------------------------------------


_OWN_FIELDS: Final = frozenset(("genesis", "request"))


def _said_where(request: Any, error: FormatError) -> str:
    return error.where


def _in_change(request: Any, error: FormatError) -> str:
    return error.where if error.where in _OWN_FIELDS else "leaf"


def _in_submission(request: ledger_pb2.SubmitRequest, error: FormatError) -> str:
    if error.where in _OWN_FIELDS:
        return error.where
    return "submission." + _part_of_submission(request.submission)


def _in_envelope(request: Any, error: FormatError) -> str:
    return error.where if error.where in ("genesis", "request", "digest") else "envelope"


def _part_of_submission(submission: ledger_pb2.Submission) -> str:
    """Which of the two fields could not be read: the leaf, or else the records."""
    try:
        SubmissionLeaf.decode(submission.leaf)
    except FormatError:
        return "leaf"
    return "records"


def _refusal(method: str, request: Any, error: Exception, field_of: FieldOf, request_id: str) -> Refusal:
    if isinstance(error, SudurError):
        field = field_of(request, error) if isinstance(error, FormatError) else ""
        refusal = refuse(error, now_ms=now_ms(), field=field)
        if refusal is not None:
            return refusal
    _log.error("call failed", method=method, exc_info=error)
    return fault(request_id)


def _reader(kind: type[Message]) -> Callable[[bytes], Message | DecodeError]:
    """Reads requests. What is none goes on as the error itself: raised here, gRPC would answer UNKNOWN."""

    def read(data: bytes) -> Message | DecodeError:
        try:
            return kind.FromString(data)
        except DecodeError as error:
            return error

    return read


def _check_read(request: Message | DecodeError) -> None:
    if isinstance(request, DecodeError):
        raise FormatError(
            "these bytes are not the request that this method takes",
            where="request",
            fix="send it as the .proto has it",
        )


def _once(request: Any) -> int:
    return 1


def _begin(context: Context) -> str:
    """Give the call its id, for the log and for its caller."""
    given = context.invocation_metadata() or ()
    request_id = begin_request(next((value for name, value in given if name == HEADER), ""))
    context.set_trailing_metadata(((HEADER, request_id),))
    return request_id


def _claimed(request: Message | DecodeError, write_of: Callable[[Any], Iterable[int]]) -> Iterable[int]:
    return () if isinstance(request, DecodeError) else write_of(request)


def _submitter(request: ledger_pb2.SubmitRequest) -> Iterable[int]:
    return (claimed_agency(request.submission.leaf),)


def _submitters(request: ledger_pb2.SubmitBulkRequest) -> Iterable[int]:
    return {claimed_agency(one.leaf) for one in request.submissions}


def _nobody(request: Any) -> Iterable[int]:
    return ()


def _asker(request: Any) -> Iterable[int]:
    return (request.authorization.agency,)


def _unary(
    field_of: FieldOf = _said_where,
    weight: Callable[[Any], int] = _once,
    write_of: Callable[[Any], Iterable[int]] | None = None,
) -> Callable[
    [Callable[[LedgerServicer, Request, Context], Awaitable[Response]]],
    Callable[[LedgerServicer, Request, Context], Awaitable[Response]],
]:
    """Count and limit a method's calls and turn what it raises into a status.

    ``weight``: how many calls one counts as. ``write_of``: the agencies that a write claims to come from;
    its refusals are logged.
    """

    def decorate(
        handler: Callable[[LedgerServicer, Request, Context], Awaitable[Response]],
    ) -> Callable[[LedgerServicer, Request, Context], Awaitable[Response]]:
        method = handler.__name__

        @wraps(handler)
        async def call(self: LedgerServicer, request: Request, context: Context) -> Response:
            started = time.perf_counter()
            request_id = _begin(context)
            code = reason = "CANCELLED"  # by its caller, or by its deadline
            try:
                _check_read(request)
                address = peer_address(context.peer())
                self.limits.call(address, weight(request))
                response = await handler(self, request, context)
                release = self.limits.answers.hold(address, response.ByteSize())
                # The stubs want a class of grpc's there; grpc itself takes anything that can be called.
                context.add_done_callback(cast("Any", lambda _: release()))
                code = "OK"
                return response
            except Exception as error:
                refusal = _refusal(method, request, error, field_of, request_id)
                code, reason = refusal.code.name, refusal.reason
            finally:
                seconds = time.perf_counter() - started
                self.metrics.grpc_calls.labels(method, code).inc()
                self.metrics.grpc_seconds.labels(method).observe(seconds)
                if write_of is not None and code != "OK":
                    self.refusals.tell(
                        method, (reason,), _claimed(request, write_of), context.peer(), seconds
                    )
            trailing = refusal.trailing_metadata(request_id)
            return await context.abort(refusal.code, refusal.status.message, trailing)

        return call

    return decorate


def _stream(
    handler: Callable[[LedgerServicer, Request, Context], AsyncIterator[Response]],
) -> Callable[[LedgerServicer, Request, Context], AsyncIterator[Response]]:
    """The same for a method that answers with a stream."""
    method = handler.__name__

    @wraps(handler)
    async def call(self: LedgerServicer, request: Request, context: Context) -> AsyncIterator[Response]:
        request_id = _begin(context)
        code = "CANCELLED"
        try:
            _check_read(request)
            self.limits.call(peer_address(context.peer()))
            with self.watches.one(context.peer()):
                async for response in handler(self, request, context):
                    yield response
            code = "OK"
            return
        except Exception as error:
            refusal = _refusal(method, request, error, _said_where, request_id)
            code = refusal.code.name
        finally:
            self.metrics.grpc_calls.labels(method, code).inc()
        await context.abort(refusal.code, refusal.status.message, refusal.trailing_metadata(request_id))

    return call


# --- the service -------------------------------------------------------------------------------


class LedgerServicer(ledger_pb2_grpc.LedgerServiceServicer):
    """sudur.v1.LedgerService; what each method promises stands in the .proto."""

    def __init__(
        self,
        reads: Reads,
        inquiries: Inquiries,
        writes: Writes,
        envelopes: Letters,
        releases: Releases,
        metrics: Metrics,
        watches: Watches,
        limits: CallerLimits,
        request_limits: RequestLimits,
        resources_url: str,
        mirror: Mirror | None = None,
        cluster: Callable[[], ledger_pb2.GetClusterResponse] | None = None,
    ) -> None:
        self.metrics = metrics
        self.watches = watches
        self.refusals = RefusalLog()
        self._reads = reads
        self._inquiries = inquiries
        self._writes = writes
        self._envelopes = envelopes
        self._releases = releases
        self.limits = limits
        self._request_limits = request_limits
        self._resources_url = resources_url
        self._mirror = mirror
        self._cluster = cluster
        self._asking_cluster = asyncio.Lock()

    async def _show(self, block: int) -> None:
        """Wait a moment until a write that the leader took can be read here, too: its caller may look."""
        if self._reads.published.head.block < block:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._releases.block(block), _SHOWN_S)

    def _check_running(self) -> None:
        if self._writes.stopping.is_set():
            raise Stopping("this node is shutting down", fix="connect again, or to another node")

    @_unary()
    async def GetLedger(  # noqa: N802
        self, request: ledger_pb2.GetLedgerRequest, context: Context
    ) -> ledger_pb2.GetLedgerResponse:
        self._check_running()
        signed, published = self._reads.published, self._reads.witnessed
        state, record = signed.state, signed.state.registry.ledger
        may_sign = [key.vkey for key in record.log_keys if key.may_sign(state.size)]
        return ledger_pb2.GetLedgerResponse(
            genesis=state.genesis,
            origin=record.origin,
            log_keys=may_sign,
            resources_url=self._resources_url,
            rules_version=state.rules,
            software_version=SOFTWARE_VERSION,
            training=record.training,
            checkpoint=b"" if published is None else published.note,
            block=0 if published is None else published.block,
            signed_checkpoint=self._reads.signed_checkpoint(),
            server_time_ms=now_ms(),
            limits=ledger_pb2.Limits(
                max_bulk_submissions=MAX_BULK,
                max_submission_records=MAX_RECORDS,
                max_leaf_bytes=MAX_LEAF_SIZE,
                max_request_bytes=self._request_limits.max_request_bytes,
                claimed_past_ms=CLAIMED_PAST_MS,
                claimed_future_ms=CLAIMED_FUTURE_MS,
            ),
            mirror=None if self._mirror is None else _mirror(self._mirror),
        )

    @_unary(_in_submission, write_of=_submitter)
    async def Submit(  # noqa: N802
        self, request: ledger_pb2.SubmitRequest, context: Context
    ) -> ledger_pb2.SubmitResponse:
        self._writes.check_ledger(request.genesis)
        pair = (request.submission.leaf, request.submission.records)
        with self.limits.submissions(peer_address(context.peer()), [pair]) as tally:
            if tally.barred[0] is not None:
                raise tally.barred[0]
            placement, checkpoint = await self._writes.submit(*pair)
            tally.settle([placement])
        await self._show(placement.block)
        return ledger_pb2.SubmitResponse(placement=_placement(placement), checkpoint=checkpoint)

    @_unary(write_of=_submitters)
    async def SubmitBulk(  # noqa: N802
        self, request: ledger_pb2.SubmitBulkRequest, context: Context
    ) -> ledger_pb2.SubmitBulkResponse:
        started = time.perf_counter()
        self._writes.check_ledger(request.genesis)
        pairs = [(one.leaf, one.records) for one in request.submissions]
        check_bulk(pairs)
        with self.limits.submissions(peer_address(context.peer()), pairs) as tally:
            answer = Answer([], self._reads.published.checkpoint)
            if tally.admitted:
                answer = await self._writes.submit_bulk(tally.admitted)
            outcomes = tally.settle(answer.outcomes)
        results, reasons = [], []
        request_id = request_id_now()
        for position, outcome in enumerate(outcomes):
            if isinstance(outcome, Placement):
                results.append(ledger_pb2.SubmitBulkResult(placement=_placement(outcome)))
                continue
            refusal = _refusal("SubmitBulk", (request, position), outcome, _in_bulk, request_id)
            reasons.append(refusal.reason)
            results.append(ledger_pb2.SubmitBulkResult(error=refusal.status))
        if reasons:
            took = time.perf_counter() - started
            self.refusals.tell("SubmitBulk", reasons, _submitters(request), context.peer(), took)
        await self._show(max((one.block for one in outcomes if isinstance(one, Placement)), default=0))
        return ledger_pb2.SubmitBulkResponse(results=results, checkpoint=answer.checkpoint)

    @_unary(_in_change, write_of=_nobody)
    async def ChangeRegistry(  # noqa: N802
        self, request: ledger_pb2.ChangeRegistryRequest, context: Context
    ) -> ledger_pb2.ChangeRegistryResponse:
        self._writes.check_ledger(request.genesis)
        with self.limits.change(peer_address(context.peer()), request.leaf):
            placement, checkpoint = await self._writes.change(request.leaf)
        await self._show(placement.block)
        return ledger_pb2.ChangeRegistryResponse(
            index=placement.submission_index,
            block=placement.block,
            block_size=placement.block_size,
            time_ms=placement.time_ms,
            checkpoint=checkpoint,
        )

    @_unary()
    async def GetCheckpoint(  # noqa: N802
        self, request: ledger_pb2.GetCheckpointRequest, context: Context
    ) -> ledger_pb2.GetCheckpointResponse:
        if request.signed:
            if request.size:
                raise FormatError("a size has one checkpoint", where="signed", fix="give one of the two")
            return ledger_pb2.GetCheckpointResponse(checkpoint=self._reads.signed_checkpoint())
        return ledger_pb2.GetCheckpointResponse(checkpoint=self._reads.checkpoint(request.size))

    @_unary()
    async def GetInclusionProof(  # noqa: N802
        self, request: ledger_pb2.GetInclusionProofRequest, context: Context
    ) -> ledger_pb2.GetInclusionProofResponse:
        found = self._reads.inclusions([request.index], request.tree_size)
        (proof,) = found.proofs
        self.metrics.proofs.labels("inclusion").inc()
        return ledger_pb2.GetInclusionProofResponse(
            proof=ledger_pb2.InclusionProof(index=proof.index, leaf_hash=proof.leaf_hash, path=proof.path),
            tree_size=found.size,
            checkpoint=found.checkpoint,
        )

    @_unary(weight=lambda request: 1 + len(request.indexes) // 32)
    async def GetInclusionProofs(  # noqa: N802
        self, request: ledger_pb2.GetInclusionProofsRequest, context: Context
    ) -> ledger_pb2.GetInclusionProofsResponse:
        found = self._reads.inclusions(request.indexes, request.tree_size)
        self.metrics.proofs.labels("inclusion").inc(len(found.proofs))
        return ledger_pb2.GetInclusionProofsResponse(
            proofs=[
                ledger_pb2.InclusionProof(index=one.index, leaf_hash=one.leaf_hash, path=one.path)
                for one in found.proofs
            ],
            tree_size=found.size,
            checkpoint=found.checkpoint,
        )

    @_unary()
    async def GetConsistencyProof(  # noqa: N802
        self, request: ledger_pb2.GetConsistencyProofRequest, context: Context
    ) -> ledger_pb2.GetConsistencyProofResponse:
        proof = self._reads.consistency(request.old_size, request.new_size)
        self.metrics.proofs.labels("consistency").inc()
        return ledger_pb2.GetConsistencyProofResponse(
            old_size=proof.old, new_size=proof.new, path=proof.path, checkpoint=proof.checkpoint
        )

    @_stream
    async def StreamEntries(  # noqa: N802
        self, request: ledger_pb2.StreamEntriesRequest, context: Context
    ) -> AsyncIterator[ledger_pb2.StreamEntriesResponse]:
        # Each batch is read when the one before it was taken: a slow reader holds one, and no more.
        for first, leaves in self._reads.batches(self._reads.leaf_range(request.start, request.end)):
            self._check_running()
            yield ledger_pb2.StreamEntriesResponse(first_index=first, leaves=leaves)

    @_stream
    async def StreamBlocks(  # noqa: N802
        self, request: ledger_pb2.StreamBlocksRequest, context: Context
    ) -> AsyncIterator[ledger_pb2.StreamBlocksResponse]:
        if request.follow and request.end_block:
            raise FormatError("a stream that follows has no end", where="end_block", fix="leave one out")
        published = request.published
        wanted = self._reads.block_range(request.from_block, request.end_block, published=published)
        skip = request.skip_bytes
        told = b""
        while True:
            messages = self._reads.block_messages(wanted, skip)
            # Each message is read when the one before it was taken, and off the loop.
            while (pieces := await asyncio.to_thread(next, messages, None)) is not None:
                self._check_running()
                yield blocks_response(pieces, self._reads.newest_block(published=published))
            if not request.follow:
                return
            skip = 0
            while (newest := self._reads.newest_block(published=published)) < wanted.stop:
                note = self._reads.witnessed_note if published else b""
                if note != told:
                    told = note
                    yield blocks_response((), newest, note)
                    continue
                try:
                    wait = self._releases.published(note) if published else self._releases.block(wanted.stop)
                    await asyncio.wait_for(wait, PULSE_S)
                except TimeoutError:
                    yield blocks_response((), newest)
                self._check_running()
            wanted = range(wanted.stop, newest + 1)

    @_unary()
    async def GetCluster(  # noqa: N802
        self, request: ledger_pb2.GetClusterRequest, context: Context
    ) -> ledger_pb2.GetClusterResponse:
        if self._cluster is None:
            raise NotFound("this node is no member of a cluster", fix="ask one that is")
        # One at a time: who asks waits for all the members, and there are few threads.
        async with self._asking_cluster:
            return await asyncio.to_thread(self._cluster)

    @_unary()
    async def LookupCommitment(  # noqa: N802
        self, request: ledger_pb2.LookupCommitmentRequest, context: Context
    ) -> ledger_pb2.LookupCommitmentResponse:
        indexes, size = self._reads.lookup(request.agency, request.commitment)
        return ledger_pb2.LookupCommitmentResponse(indexes=indexes, tree_size=size)

    @_unary()
    async def LookupReference(  # noqa: N802
        self, request: ledger_pb2.LookupReferenceRequest, context: Context
    ) -> ledger_pb2.LookupReferenceResponse:
        return reference_response(*self._inquiries.reference(request.number))

    @_unary(weight=lambda request: 1 + len(request.indexes) // 8)
    async def GetExchanges(  # noqa: N802
        self, request: ledger_pb2.GetExchangesRequest, context: Context
    ) -> ledger_pb2.GetExchangesResponse:
        return exchanges_response(*await self._inquiries.exchanges(request.indexes))

    @_unary()
    async def ListSends(  # noqa: N802
        self, request: ledger_pb2.ListSendsRequest, context: Context
    ) -> ledger_pb2.ListSendsResponse:
        page = await self._inquiries.sends_to(request.recipient, request.start, request.limit)
        return sends_response(page)

    @_unary()
    async def GetFigures(  # noqa: N802
        self, request: ledger_pb2.GetFiguresRequest, context: Context
    ) -> ledger_pb2.GetFiguresResponse:
        return figures_response(await self._inquiries.figures(request.agency))

    @_stream
    async def WatchBlocks(  # noqa: N802
        self, request: ledger_pb2.WatchBlocksRequest, context: Context
    ) -> AsyncIterator[ledger_pb2.WatchBlocksResponse]:
        number = request.from_block
        while True:
            await self._releases.block(number)
            self._check_running()
            yield ledger_pb2.WatchBlocksResponse(block=_block(await self._reads.block_head(number)))
            number += 1

    @_unary()
    async def GetRegistryRecord(  # noqa: N802
        self, request: ledger_pb2.GetRegistryRecordRequest, context: Context
    ) -> ledger_pb2.GetRegistryRecordResponse:
        found = self._reads.record(request.subject)
        return ledger_pb2.GetRegistryRecordResponse(
            record=found.record, last_change_index=found.last_change, tree_size=found.size
        )

    @_unary(_in_envelope, write_of=_asker)
    async def PutEnvelope(  # noqa: N802
        self, request: ledger_pb2.PutEnvelopeRequest, context: Context
    ) -> ledger_pb2.PutEnvelopeResponse:
        self._check_running()
        self._writes.check_ledger(request.genesis)
        asked = _authorization(request.authorization)
        with self.limits.envelope(peer_address(context.peer())):
            kept = await asyncio.to_thread(self._envelopes.put, asked, request.envelope)
        return ledger_pb2.PutEnvelopeResponse(digest=kept.digest, kept_until_ms=kept.until_ms)

    @_unary(_in_envelope, write_of=_asker)
    async def GetEnvelope(  # noqa: N802
        self, request: ledger_pb2.GetEnvelopeRequest, context: Context
    ) -> ledger_pb2.GetEnvelopeResponse:
        self._check_running()
        self._writes.check_ledger(request.genesis)
        asked = _authorization(request.authorization)
        with self.limits.envelope(peer_address(context.peer())):
            envelope = await asyncio.to_thread(self._envelopes.get, asked, request.digest)
        return ledger_pb2.GetEnvelopeResponse(envelope=envelope)

    @_unary(_in_envelope, write_of=_asker)
    async def DropEnvelope(  # noqa: N802
        self, request: ledger_pb2.DropEnvelopeRequest, context: Context
    ) -> ledger_pb2.DropEnvelopeResponse:
        self._check_running()
        self._writes.check_ledger(request.genesis)
        asked = _authorization(request.authorization)
        with self.limits.envelope(peer_address(context.peer())):
            dropped = await asyncio.to_thread(self._envelopes.drop, asked, request.digest)
        return ledger_pb2.DropEnvelopeResponse(dropped=dropped)


def _in_bulk(request: tuple[ledger_pb2.SubmitBulkRequest, int], error: FormatError) -> str:
    bulk, position = request
    return f"submissions[{position}].{_part_of_submission(bulk.submissions[position])}"


def _authorization(asked: ledger_pb2.EnvelopeAuthorization) -> Authorization:
    return Authorization(asked.agency, asked.key_number, asked.time_ms, asked.signature)


def _placement(place: Placement) -> ledger_pb2.Placement:
    return ledger_pb2.Placement(
        submission_index=place.submission_index,
        first_record_index=place.first_record_index,
        record_count=place.record_count,
        block=place.block,
        block_size=place.block_size,
        time_ms=place.time_ms,
        repeat=place.repeat,
    )


def _mirror(mirror: Mirror) -> ledger_pb2.Mirror:
    contact = mirror.contact
    return ledger_pb2.Mirror(
        submit_at=contact.address,
        head_age_ms=mirror.head_age_ms,
        heard_ms=contact.heard_ms,
        blocks_behind=mirror.behind,
        fault=contact.fault,
    )


def _block(head: BlockHead) -> ledger_pb2.Block:
    counts = [
        ledger_pb2.LeafCount(kind=ledger_pb2.LeafKind.ValueType(kind), count=count)
        for kind, count in head.kinds
    ]
    info = head.info
    return ledger_pb2.Block(
        number=info.number,
        size=info.size,
        time_ms=info.time_ms,
        root=info.root,
        checkpoint=head.checkpoint,
        leaf_counts=counts,
    )


# --- the server --------------------------------------------------------------------------------


def ledger_handlers(servicer: LedgerServicer) -> grpc.GenericRpcHandler:
    """The service's methods, each reading its requests with :func:`_reader`."""
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
    for method in ledger_pb2.DESCRIPTOR.services_by_name["LedgerService"].methods:
        make = (
            grpc.unary_stream_rpc_method_handler
            if method.server_streaming
            else grpc.unary_unary_rpc_method_handler
        )
        handlers[method.name] = make(
            getattr(servicer, method.name),
            request_deserializer=_reader(GetMessageClass(method.input_type)),
            response_serializer=GetMessageClass(method.output_type).SerializeToString,
        )
    return grpc.method_handlers_generic_handler(SERVICE, handlers)


class _Health(health.aio.HealthServicer):  # type: ignore[misc]
    """The health service, its streams counted."""

    def __init__(self, watches: Watches) -> None:
        super().__init__()
        self._watches = watches

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Context) -> None:  # noqa: N802
        try:
            with self._watches.one(context.peer()):
                await super().Watch(request, context)
        except TooManyStreams as error:
            await _abort(error, context)


class _Reflection(reflection.aio.ReflectionServicer):  # type: ignore[misc]
    """The reflection service, its streams counted."""

    def __init__(self, names: Iterable[str], watches: Watches) -> None:
        super().__init__(names)
        self._watches = watches

    async def ServerReflectionInfo(  # noqa: N802
        self, request_iterator: AsyncIterator[Any], context: Context
    ) -> AsyncIterator[Any]:
        try:
            with self._watches.one(context.peer()):
                async for answer in super().ServerReflectionInfo(request_iterator, context):
                    yield answer
        except TooManyStreams as error:
            await _abort(error, context)


async def _abort(error: TooManyStreams, context: Context) -> None:
    request_id = _begin(context)
    refusal = _refusal("Watch", None, error, _said_where, request_id)
    await context.abort(refusal.code, refusal.status.message, refusal.trailing_metadata(request_id))


class _Unserved(grpc.GenericRpcHandler):
    """Refuses every call of the service: there is nothing behind the door yet."""

    def __init__(self, why: Callable[[], RetryableError]) -> None:
        self._why = why

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        if handler_call_details.method.startswith(f"/{SERVICE}/"):
            # A call that would be answered with a stream ends by the same status.
            return grpc.unary_unary_rpc_method_handler(self._refuse)
        return None

    async def _refuse(self, request: bytes, context: Context) -> bytes:
        refusal = refuse(self._why(), now_ms=now_ms())
        assert refusal is not None, "what may be tried again has a reason"
        told = refusal.trailing_metadata(begin_request(""))
        await context.abort(refusal.code, refusal.status.message, told)
        raise AssertionError("abort raises")


class GrpcServer:
    """The gRPC server of one node: the service, health, reflection, on one address.

    :meth:`listen`, then :meth:`start`; :meth:`stop` after either.
    """

    def __init__(self, settings: Settings, tls: TlsCredentials | None = None) -> None:
        limits = settings.limits
        # Kept for as long as the server: gRPC asks it at each connection, through a bare pointer.
        self._credentials = None if tls is None else tls.server_credentials()
        self.watches = Watches(limits.max_watches, limits.max_peer_watches)
        self._started = False
        self._handlers = LateHandlers()
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", limits.max_request_bytes),
                ("grpc.max_send_message_length", _MAX_ANSWER_BYTES),
                ("grpc.max_concurrent_streams", limits.max_streams),
                ("grpc.max_metadata_size", _MAX_METADATA_BYTES),
                # Without this two nodes could listen at one port and share its callers.
                ("grpc.so_reuseport", 0),
                ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MS),
                ("grpc.keepalive_time_ms", 60_000),
                ("grpc.keepalive_timeout_ms", 20_000),
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
                ("grpc.max_connection_idle_ms", 600_000),
            ],
            maximum_concurrent_rpcs=limits.max_calls,
        )
        self._health = _Health(self.watches)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(
            _Reflection(names, self.watches), self._server
        )
        self._address = settings.grpc

    def listen(self) -> Address:
        """Take the port: callers connect, and wait. Returns the address with its port. Raises NodeError."""
        try:
            if self._credentials is None:
                port = self._server.add_insecure_port(str(self._address))
            else:
                port = self._server.add_secure_port(str(self._address), self._credentials)
        except RuntimeError:
            port = 0
        if port == 0:
            raise NodeError(
                "cannot listen there: the port is in use, or the host is not this machine's",
                where=f"gRPC address {self._address}",
                fix="stop what listens there, or choose another address",
            )
        return Address(self._address.host, port)

    async def wait(self, why: Callable[[], RetryableError]) -> None:
        """Refuse every call of the service with what ``why`` gives, until :meth:`start`."""
        self._handlers.inner = _Unserved(why)
        await self._begin()

    async def start(self, servicer: LedgerServicer) -> None:
        """Serve."""
        self._handlers.inner = ledger_handlers(servicer)
        await self._begin()

    async def _begin(self) -> None:
        if not self._started:
            self._started = True
            self._server.add_generic_rpc_handlers((self._handlers,))
            await self._server.start()

    async def set_serving(self, serving: bool) -> None:
        """What the health service says of the ledger service and of the whole."""
        statuses = health_pb2.HealthCheckResponse
        for name in ("", SERVICE):
            await self._health.set(name, statuses.SERVING if serving else statuses.NOT_SERVING)

    async def stop(self, grace_s: float) -> None:
        """Take no new calls, let those in work end for up to ``grace_s``, then cut them off."""
        await self._health.enter_graceful_shutdown()
        if not self._started:
            # gRPC gives the port of a server back only if it ran.
            await self._server.start()
        await self._server.stop(grace_s)
