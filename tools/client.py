"""The Python client of a node's gRPC service.

Calls block. Each has a deadline; what fails for a reason that may pass (no connection, no leader, a full
queue, a full disk, a rate, a node that stops) is sent again, the very same bytes, until ``patience_s`` is
over, and where several nodes are known, to the next one when the reason may be the node's own. That
is safe for writes too: a repeated submission gets its first answer, and a registry change that went
through is recognised by its own leaf. Errors of the node come back as the classes of
``ledger.errors`` and ``tools.errors``, with code, place and remedy. Nothing that a node says is
believed here; what matters is proven by ``ledger.verifier`` and by receipts.

A client is for one thread at a time.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from operator import itemgetter
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

import ledger.errors as core
from ledger.envelopes import Verb, check_digest, digest_of, request_message
from ledger.errors import FormatError, IndexedRuleError, RegistryConflict, SudurError
from ledger.inquiries import AsOf, Referred, Sent
from ledger.signatures import key_fingerprint
from sudur.v1 import ledger_pb2 as pb
from sudur.v1.ledger_pb2_grpc import LedgerServiceStub
from tools import errors
from tools.answers import FiguresAnswer, read_exchanges, read_figures, read_reference, read_sends
from tools.client_tls import ClientTls, why_unreachable
from tools.errors import (
    AnswerWrong,
    DiskFull,
    IsMirror,
    NoSecureConnection,
    QueueFull,
    RateLimited,
    ReadOnly,
    RemoteError,
    Stopping,
    Unavailable,
)
from tools.signing import NumberedSigner, SignedSubmission

MAX_ANSWER: Final = 64 << 20
_CHANNEL_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_ANSWER),
    ("grpc.max_send_message_length", MAX_ANSWER),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.min_reconnect_backoff_ms", 5_000),  # how long it tries to connect
)
_LATE: Final = grpc.StatusCode.DEADLINE_EXCEEDED
_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 5.0
_LONGEST_PAUSE_AMONG_S: Final = 1.0
"""With several nodes: a new leader is there within seconds."""
_BEHIND_S: Final = 5.0
_FIRST_DEADLINE_S: Final = 5.0
"""With several nodes: what one of them may take before the others are tried."""
_PASSING: Final = (Unavailable, QueueFull, DiskFull, ReadOnly, Stopping, RateLimited)
_HERE_TOO: Final = (QueueFull, RateLimited)
"""What another node would say as well, or must not be asked for."""
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class LedgerInfo:
    """What a node says of its ledger: a claim, to be compared with what is pinned."""

    genesis: bytes
    origin: str
    log_keys: tuple[str, ...]
    resources_url: str
    training: bool
    checkpoint: bytes
    block: int
    server_time_ms: int
    max_bulk_submissions: int
    max_submission_records: int


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a submission stands; record i of it at ``first_record_index`` + i."""

    submission_index: int
    first_record_index: int
    record_count: int
    block: int
    block_size: int
    time_ms: int
    repeat: bool


@dataclass(frozen=True, slots=True)
class BulkAnswer:
    """What became of each submission, in order, and a signed checkpoint that covers those placed."""

    outcomes: tuple[Placed | SudurError, ...]
    checkpoint: bytes


@dataclass(frozen=True, slots=True)
class InclusionAnswer:
    """An inclusion proof, not yet checked, and the checkpoint it leads to."""

    index: int
    leaf_hash: bytes
    path: tuple[bytes, ...]
    tree_size: int
    checkpoint: bytes


@dataclass(frozen=True, slots=True)
class ConsistencyAnswer:
    """A consistency proof, not yet checked, and the checkpoint of the newer size."""

    old_size: int
    new_size: int
    path: tuple[bytes, ...]
    checkpoint: bytes


@dataclass(frozen=True, slots=True)
class RecordAnswer:
    """A registry record, not yet proven, and the index that the subject's next change names."""

    record: bytes
    last_change_index: int
    tree_size: int


@dataclass(frozen=True, slots=True)
class EnvelopeAccess:
    """In whose name envelopes are put, fetched and dropped: an agency, and one of its submit keys."""

    agency: int
    key: NumberedSigner


Waiting = Callable[[SudurError, str], None]
"""Is told why a call is tried again, and the address of the node that said so."""


class _Node:
    """One node, connected to when it is first asked."""

    def __init__(self, address: str, tls: ClientTls | None) -> None:
        self.address = address
        self._tls = tls
        self._channel: grpc.Channel | None = None
        self._stub: LedgerServiceStub | None = None

    def stub(self) -> LedgerServiceStub:
        if self._stub is None:
            self._channel = (
                grpc.insecure_channel(self.address, options=_CHANNEL_OPTIONS)
                if self._tls is None
                else grpc.secure_channel(
                    self.address, self._tls.channel_credentials(), options=_CHANNEL_OPTIONS
                )
            )
            self._stub = LedgerServiceStub(self._channel)
        return self._stub

    def why_unreachable(self) -> NoSecureConnection | None:
        """Whether it is for TLS that no call goes through: waiting would not help."""
        host, _, port = self.address.rpartition(":")
        return why_unreachable(host.strip("[]"), int(port), self._tls)

    def close(self) -> None:
        if self._channel is not None:
            self._channel.close()
        self._channel = self._stub = None


class LedgerClient:
    """The nodes of one ledger, at ``address`` ("host:port", or several with commas between).

    One of them is asked: the one that answered last. ``tls``: whom to believe and what to show; None:
    without TLS. ``deadline_s`` bounds each try, ``patience_s`` all tries of a call together. ``waiting`` is
    told once a call and node. ``pause`` and ``clock`` are there for tests.
    """

    def __init__(
        self,
        address: str,
        *,
        tls: ClientTls | None = None,
        deadline_s: float = 30.0,
        patience_s: float = 60.0,
        waiting: Waiting = lambda error, address: None,
        pause: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._nodes = tuple(_Node(one, tls) for one in address.split(","))
        self._at = 0
        self._deadline_s = deadline_s
        self._patience_s = patience_s
        self._waiting = waiting
        self._pause = pause
        self._clock = clock

    @property
    def address(self) -> str:
        """Of the node that is asked now."""
        return self._nodes[self._at].address

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        for node in self._nodes:
            node.close()

    # --- reads ---

    def ledger(self) -> LedgerInfo:
        """Which ledger this is. Raises Unavailable."""
        answer = self._call(lambda to: to.GetLedger, pb.GetLedgerRequest())
        return LedgerInfo(
            genesis=_sized(answer.genesis, 32, "genesis"),
            origin=answer.origin,
            log_keys=tuple(answer.log_keys),
            resources_url=answer.resources_url,
            training=answer.training,
            checkpoint=answer.checkpoint,
            block=answer.block,
            server_time_ms=answer.server_time_ms,
            max_bulk_submissions=answer.limits.max_bulk_submissions,
            max_submission_records=answer.limits.max_submission_records,
        )

    def checkpoint(self, size: int = 0, *, signed: bool = False) -> bytes:
        """The newest published checkpoint, the newest ``signed`` one, or that of ``size``.

        Raises OutOfRange, NotFound, Unavailable.
        """
        request = pb.GetCheckpointRequest(size=size, signed=signed)
        return self._call(lambda to: to.GetCheckpoint, request).checkpoint

    def inclusion(self, index: int, tree_size: int = 0) -> InclusionAnswer:
        """Raises OutOfRange, NotFound, Unavailable."""
        request = pb.GetInclusionProofRequest(index=index, tree_size=tree_size)
        answer = self._call(lambda to: to.GetInclusionProof, request)
        return _inclusion(answer.proof, answer.tree_size, answer.checkpoint)

    def inclusions(self, indexes: Sequence[int], tree_size: int = 0) -> list[InclusionAnswer]:
        """Up to 1,024 proofs under one checkpoint, in order. Raises as :meth:`inclusion`, and AnswerWrong."""
        request = pb.GetInclusionProofsRequest(indexes=indexes, tree_size=tree_size)
        answer = self._call(lambda to: to.GetInclusionProofs, request)
        if [proof.index for proof in answer.proofs] != list(indexes):
            raise AnswerWrong("the proofs are not those that were asked for", where=self.address)
        return [_inclusion(proof, answer.tree_size, answer.checkpoint) for proof in answer.proofs]

    def consistency(self, old_size: int, new_size: int = 0) -> ConsistencyAnswer:
        """Raises FormatError, OutOfRange, NotFound, Unavailable."""
        request = pb.GetConsistencyProofRequest(old_size=old_size, new_size=new_size)
        answer = self._call(lambda to: to.GetConsistencyProof, request)
        return ConsistencyAnswer(answer.old_size, answer.new_size, tuple(answer.path), answer.checkpoint)

    def entries(self, start: int, end: int = 0) -> Iterator[bytes]:
        """The leaves from ``start`` to ``end``, exclusive; 0: to the newest checkpoint.

        A broken stream is taken up where it broke. Raises OutOfRange, AnswerWrong, Unavailable.
        """
        position = start
        tries = _Tries(self)
        while True:
            before = position
            try:
                request = pb.StreamEntriesRequest(start=position, end=end)
                for batch in self._stub().StreamEntries(request, timeout=tries.deadline_s()):
                    if batch.first_index != position:
                        raise AnswerWrong("the stream of entries has a gap", where=self.address)
                    position += len(batch.leaves)
                    yield from batch.leaves
                return
            except grpc.RpcError as failure:
                if end and position >= end:
                    return
                if position > before:
                    tries = _Tries(self)
                    if isinstance(failure, grpc.Call) and failure.code() is _LATE:
                        continue  # it is a long stream, and goes on
                tries.failed(from_rpc_error(failure, self.address), _retry_delay_s(failure))

    def lookup(self, agency: int, commitment: bytes) -> tuple[int, ...]:
        """The indexes at which the agency issued this commitment; empty when it did not. Unproven."""
        request = pb.LookupCommitmentRequest(agency=agency, commitment=commitment)
        try:
            return tuple(self._call(lambda to: to.LookupCommitment, request).indexes)
        except errors.NotFound:
            return ()

    def reference(self, number: str) -> tuple[Referred, AsOf]:
        """What the leaf with a reference number is. Unproven.

        Raises FormatError, ReferenceInvalid, OutOfRange, AnswerWrong, Unavailable.
        """
        request = pb.LookupReferenceRequest(number=number)
        return self._read(read_reference, self._call(lambda to: to.LookupReference, request))

    def exchanges(self, indexes: Sequence[int]) -> tuple[list[Sent], AsOf]:
        """What has become of 1 to 256 SENDs, in order. Unproven. Raises OutOfRange, NotFound, AnswerWrong."""
        answer = self._call(lambda to: to.GetExchanges, pb.GetExchangesRequest(indexes=indexes))
        sends, as_of = self._read(read_exchanges, answer)
        if [sent.index for sent in sends] != list(indexes):
            raise AnswerWrong("the exchanges are not those that were asked for", where=self.address)
        return sends, as_of

    def sends_to(self, recipient: int, start: int = 0) -> Iterator[Sent]:
        """The SENDs to an agency from index ``start`` on, ascending, page by page. Unproven.

        Raises UnknownAgency, AnswerWrong, Unavailable.
        """
        following: int | None = start
        while following is not None:
            at = following
            request = pb.ListSendsRequest(recipient=recipient, start=at)
            sends, following = self._read(read_sends, self._call(lambda to: to.ListSends, request))
            indexes = [sent.index for sent in sends]
            if indexes != sorted(set(indexes)) or any(index < at for index in indexes):
                raise AnswerWrong("the SENDs are not in order", where=self.address)
            if following is not None and (not indexes or following <= indexes[-1]):
                raise AnswerWrong("the next page does not come after this one", where=self.address)
            yield from sends

    def figures(self, agency: int) -> FiguresAnswer:
        """All counters of an agency; 0: of the whole ledger. Unproven: replay the log to be sure.

        Raises UnknownAgency, AnswerWrong, Unavailable.
        """
        answer = self._call(lambda to: to.GetFigures, pb.GetFiguresRequest(agency=agency))
        found = self._read(read_figures, answer)
        if found.agency.number != agency:
            raise AnswerWrong("the figures are of another agency", where=self.address)
        return found

    def watch(self, from_block: int) -> Iterator[pb.Block]:
        """Heads of blocks, first those there are, then each new one. Raises Unavailable when it breaks."""
        try:
            for answer in self._stub().WatchBlocks(pb.WatchBlocksRequest(from_block=from_block)):
                yield answer.block
        except grpc.RpcError as failure:
            error = from_rpc_error(failure, self.address)
            self._leave(error)
            raise error from None

    def record(self, subject: str) -> RecordAnswer:
        """A registry record. Raises UnknownAgency, UnknownType, NotFound, FormatError, Unavailable."""
        request = pb.GetRegistryRecordRequest(subject=subject)
        answer = self._call(lambda to: to.GetRegistryRecord, request)
        return RecordAnswer(answer.record, answer.last_change_index, answer.tree_size)

    def cluster(self) -> pb.GetClusterResponse:
        """How the cluster is that the node belongs to, for its operators. Raises NotFound, Unavailable."""
        return self._call(lambda stub: stub.GetCluster, pb.GetClusterRequest())

    # --- writes ---

    def submit(self, genesis: bytes, submission: SignedSubmission) -> tuple[Placed, bytes]:
        """Log one submission; its placement and a checkpoint that covers it.

        Raises RuleError, FormatError or SignatureInvalid when it is refused, Unavailable when the
        outcome is unknown: then send the same again.
        """
        request = pb.SubmitRequest(genesis=genesis, submission=_submission(submission))
        answer = self._call(lambda to: to.Submit, request)
        return _placed(answer.placement), answer.checkpoint

    def submit_bulk(self, genesis: bytes, submissions: Sequence[SignedSubmission]) -> BulkAnswer:
        """Log 1 to 64 submissions; those put off for a passing reason are sent again by themselves.

        Refusals of single submissions are among the outcomes. Raises Unavailable when the outcome of
        the call is unknown, WrongLedger, TooLarge.
        """
        outcomes: dict[int, Placed | SudurError] = {}
        waiting = list(range(len(submissions)))
        tries = _Tries(self)
        while True:
            request = pb.SubmitBulkRequest(
                genesis=genesis, submissions=[_submission(submissions[i]) for i in waiting]
            )
            answer = self._call(lambda to: to.SubmitBulk, request)
            if len(answer.results) != len(waiting):
                raise AnswerWrong("not one result for each submission", where=self.address)
            put_off: dict[int, tuple[SudurError, float]] = {}
            for position, result in zip(waiting, answer.results, strict=True):
                if result.HasField("placement"):
                    outcomes[position] = _placed(result.placement)
                    continue
                error = outcomes[position] = from_status(result.error, self.address)
                if isinstance(error, _PASSING):
                    put_off[position] = error, _delay_s(result.error)
            waiting = list(put_off)
            if waiting:
                with suppress(*_PASSING):
                    tries.failed(*max(put_off.values(), key=itemgetter(1)))
                    continue
            ordered = tuple(outcomes[i] for i in range(len(submissions)))
            return BulkAnswer(ordered, answer.checkpoint)

    def change_registry(self, genesis: bytes, leaf: bytes) -> int:
        """Log one REGISTRY leaf; its index. The same leaf again gives the same index.

        Raises RuleError, FormatError or SignatureInvalid when it is refused, Unavailable when the
        outcome is unknown: then send the same again.
        """
        request = pb.ChangeRegistryRequest(genesis=genesis, leaf=leaf)
        try:
            return self._call(lambda to: to.ChangeRegistry, request).index
        except RegistryConflict as conflict:
            if self._holds(conflict.index, leaf):
                return conflict.index
            raise

    def _holds(self, index: int, leaf: bytes) -> bool:
        """Whether ``leaf`` stands at ``index``; a node may be a moment behind the one that said so."""
        if index + 1 >= 2**64:
            return False
        until = self._clock() + (_BEHIND_S if len(self._nodes) > 1 else 0)
        while True:
            try:
                return next(self.entries(index, index + 1), None) == leaf
            except core.OutOfRange:
                if self._clock() >= until:
                    return False
            self._pause(_FIRST_PAUSE_S)

    # --- envelopes ---

    def put_envelope(self, genesis: bytes, access: EnvelopeAccess, envelope: bytes) -> bytes:
        """Have the node hold a sealed envelope; its digest. Put it before the record that names it.

        Raises FormatError, RuleError for the keys, SignatureInvalid; EnvelopeQuota, DiskFull, Unavailable.
        """
        digest = digest_of(envelope)
        request = pb.PutEnvelopeRequest(
            genesis=genesis,
            authorization=_authorization(genesis, access, Verb.PUT, digest),
            envelope=envelope,
        )
        if self._call(lambda to: to.PutEnvelope, request).digest != digest:
            raise AnswerWrong("the node holds another envelope than it was given", where=self.address)
        return digest

    def get_envelope(self, genesis: bytes, access: EnvelopeAccess, digest: bytes) -> bytes:
        """The bytes that have this digest, still sealed. Raises NotFound, and as putting does."""
        request = pb.GetEnvelopeRequest(
            genesis=genesis, authorization=_authorization(genesis, access, Verb.GET, digest), digest=digest
        )
        envelope = self._call(lambda to: to.GetEnvelope, request).envelope
        check_digest(envelope, digest)
        return envelope

    def drop_envelope(self, genesis: bytes, access: EnvelopeAccess, digest: bytes) -> bool:
        """Have an envelope deleted that was received; whether it was there. Raises as getting does."""
        request = pb.DropEnvelopeRequest(
            genesis=genesis, authorization=_authorization(genesis, access, Verb.DROP, digest), digest=digest
        )
        return self._call(lambda to: to.DropEnvelope, request).dropped

    # --- one call ---

    def _read(self, reader: Callable[[Any], _T], answer: Any) -> _T:
        """An answer as values of ours. Raises AnswerWrong for what the contract does not allow."""
        try:
            return reader(answer)
        except FormatError as error:
            raise AnswerWrong(str(error), where=self.address) from None

    def _call(self, method: Callable[[LedgerServiceStub], Callable[..., _T]], request: Any) -> _T:
        """Call until an answer, a lasting refusal, or the end of patience."""
        tries = _Tries(self)
        while True:
            try:
                return method(self._stub())(request, timeout=tries.deadline_s())
            except grpc.RpcError as failure:
                tries.failed(from_rpc_error(failure, self.address), _retry_delay_s(failure))

    def _stub(self) -> LedgerServiceStub:
        return self._nodes[self._at].stub()

    def _passes(self, error: SudurError) -> bool:
        """Whether it may go otherwise later, or at another node, as what a mirror refuses."""
        return isinstance(error, _PASSING) or (isinstance(error, IsMirror) and len(self._nodes) > 1)

    def _leave(self, error: SudurError) -> bool:
        """Go on to the next node when another may do better. False when there is none, or it may not."""
        if not self._passes(error) or isinstance(error, _HERE_TOO) or len(self._nodes) == 1:
            return False
        self._at = (self._at + 1) % len(self._nodes)
        return True


class _Tries:
    """The tries of one call: which node is next, when, and when it is enough."""

    def __init__(self, client: LedgerClient) -> None:
        self._client = client
        self._until = client._clock() + client._patience_s
        self._pause_s = _FIRST_PAUSE_S
        self._told: set[str] = set()
        self._left = 0

    def deadline_s(self) -> float:
        """For the next try. The first round is short: the node may be one that says nothing any more."""
        whole, nodes = self._client._deadline_s, len(self._client._nodes)
        return whole if nodes == 1 or self._left >= nodes else min(whole, _FIRST_DEADLINE_S)

    def failed(self, error: SudurError, delay_s: float) -> None:
        """Return when the next try is due. Raises ``error`` when it lasts, or patience ends before that."""
        client = self._client
        asked = client._nodes[client._at]
        among = len(client._nodes)
        passing = client._passes(error)
        left = client._leave(error)
        self._left += left
        if left and self._left % among:
            wait_s = 0.0  # no node has been asked twice
        elif isinstance(error, RateLimited):
            wait_s = max(delay_s, _FIRST_PAUSE_S) * random.uniform(1.0, 1.2)  # not before it is due
        else:
            # A node that gives a reason says when to come again; this is for a connection that fails.
            if type(error) is Unavailable and not delay_s and self._pause_s == _FIRST_PAUSE_S:
                error = self._because_of_tls(asked) or error
            wait_s = max(self._pause_s, delay_s) * random.uniform(0.8, 1.2)
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S if among == 1 else _LONGEST_PAUSE_AMONG_S)
        if not passing or client._clock() + wait_s >= self._until:
            raise error from None
        if asked.address not in self._told:
            self._told.add(asked.address)
            client._waiting(error, asked.address)
        if wait_s:
            client._pause(wait_s)

    def _because_of_tls(self, asked: _Node) -> NoSecureConnection | None:
        """Raises NoSecureConnection when there is no other node to ask."""
        refused = asked.why_unreachable()
        if refused is not None and len(self._client._nodes) == 1:
            raise refused from None
        return refused


# --- errors come back --------------------------------------------------------------------------


def _by_code(roots: Iterable[type[SudurError]]) -> dict[str, type[SudurError]]:
    found: dict[str, type[SudurError]] = {}
    for root in roots:
        found[root.code] = root
        found |= _by_code(root.__subclasses__())
    return found


_CORE: Final = _by_code((core.FormatError, core.OutOfRange, core.VerificationError, core.RuleError))
_OWN: Final = _by_code((errors.Unavailable, errors.NotFound, errors.IsMirror, errors.NotPublished))
_CODES: Final[Mapping[str, type[SudurError]]] = {**_CORE, **_OWN}


def from_status(status: status_pb2.Status, where: str) -> SudurError:
    """The error that a google.rpc.Status describes; RemoteError for a reason that is not known here."""
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        if detail.Is(info.DESCRIPTOR) and detail.Unpack(info) and info.domain == "sudur":
            return _from_reason(status.code, info.reason, status.message, dict(info.metadata))
    return _without_reason(status.code, status.message, where)


def from_rpc_error(failure: grpc.RpcError, where: str) -> SudurError:
    """The error that a failed call stands for."""
    assert isinstance(failure, grpc.Call)
    try:
        status = rpc_status.from_call(failure)
    except ValueError:  # details that do not fit the status: believe the status alone
        status = None
    if status is not None:
        return from_status(status, where)
    code = failure.code()
    number = grpc.StatusCode.UNKNOWN.value[0] if code is None else code.value[0]
    return _without_reason(number, failure.details() or "", where)


def _from_reason(code: int, reason: str, message: str, metadata: dict[str, str]) -> SudurError:
    where, fix = metadata.get("where", ""), metadata.get("fix", "")
    what = message.removeprefix(f"{where}: ") if where else message
    what = what.removesuffix(f"; {fix}") if fix else what
    kind = _CODES.get(reason)
    if kind is None:
        # A reason to be unavailable that this program does not know is one all the same.
        unknown = Unavailable if code in _LOST else RemoteError
        return unknown(f"the node refused ({reason}): {what}", where=where, fix=fix)
    if issubclass(kind, IndexedRuleError):
        index = metadata.get("index", "")
        if not index.isascii() or not index.isdigit() or len(index) > 20:
            return RemoteError(f"the node refused ({reason}) without an index: {what}", where=where, fix=fix)
        return kind(what, index=int(index), where=where, fix=fix)
    return kind(what, where=where, fix=fix)


_LOST: Final = frozenset(
    code.value[0]
    for code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)
)


def _without_reason(code: int, message: str, where: str) -> SudurError:
    if code in _LOST:
        return Unavailable(
            f"no answer from the node ({message or 'connection lost'})",
            where=where,
            fix="check the address and that the node runs; the same command can be given again",
        )
    return RemoteError(f"the node or the connection failed: {message or f'status {code}'}", where=where)


def _retry_delay_s(failure: grpc.RpcError) -> float:
    try:
        status = rpc_status.from_call(failure)
    except ValueError:
        return 0.0
    return 0.0 if status is None else _delay_s(status)


def _delay_s(status: status_pb2.Status) -> float:
    """When the node says that it may be tried again; 0 when it does not."""
    for detail in status.details:
        retry = error_details_pb2.RetryInfo()
        if detail.Is(retry.DESCRIPTOR) and detail.Unpack(retry):
            delay: float = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
            return max(delay, 0.0)
    return 0.0


# --- messages ----------------------------------------------------------------------------------


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _authorization(
    genesis: bytes, access: EnvelopeAccess, verb: Verb, digest: bytes
) -> pb.EnvelopeAuthorization:
    signer = access.key.signer
    fingerprint = key_fingerprint(signer.algorithm, signer.public_key)
    now_ms = _now_ms()
    message = request_message(genesis, fingerprint, verb, access.agency, digest, now_ms)
    return pb.EnvelopeAuthorization(
        agency=access.agency, key_number=access.key.number, time_ms=now_ms, signature=signer.sign(message)
    )


def _submission(one: SignedSubmission) -> pb.Submission:
    return pb.Submission(leaf=one.leaf, records=one.records)


def _placed(one: pb.Placement) -> Placed:
    return Placed(
        submission_index=one.submission_index,
        first_record_index=one.first_record_index,
        record_count=one.record_count,
        block=one.block,
        block_size=one.block_size,
        time_ms=one.time_ms,
        repeat=one.repeat,
    )


def _inclusion(proof: pb.InclusionProof, tree_size: int, checkpoint: bytes) -> InclusionAnswer:
    return InclusionAnswer(proof.index, proof.leaf_hash, tuple(proof.path), tree_size, checkpoint)


def _sized(data: bytes, size: int, where: str) -> bytes:
    if len(data) != size:
        raise AnswerWrong(f"{len(data)} bytes, not {size}", where=where)
    return data
