"""The gRPC client against a server that answers as it is told: tries again, gives up, names errors."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from ledger import errors as core
from ledger.signatures import Ed25519Signer
from sudur.v1 import ledger_pb2 as pb
from sudur.v1.ledger_pb2_grpc import LedgerServiceServicer, add_LedgerServiceServicer_to_server
from tools import errors
from tools.client import EnvelopeAccess, LedgerClient, Placed, from_status
from tools.signing import NumberedSigner, SignedSubmission

Answer = Callable[[Any, grpc.ServicerContext], Any]
GENESIS = bytes(32)


def status(
    code: int, reason: str, message: str = "it is refused", retry_ms: int = 0, **metadata: str
) -> status_pb2.Status:
    """A status as the contract has it."""
    info = any_pb2.Any()
    info.Pack(error_details_pb2.ErrorInfo(domain="sudur", reason=reason, metadata=metadata))
    details = [info]
    if retry_ms:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(retry_ms)
        details.append(any_pb2.Any())
        details[-1].Pack(retry)
    return status_pb2.Status(code=code, message=message, details=details)


class Scripted(LedgerServiceServicer):
    """Each call takes the next answer of the script: a message, or a status to end with."""

    def __init__(self) -> None:
        self.script: list[Any] = []
        self.requests: list[Any] = []
        self._lock = threading.Lock()

    def _next(self, request: Any, context: grpc.ServicerContext) -> Any:
        with self._lock:
            self.requests.append(request)
            answer = self.script.pop(0)
        if isinstance(answer, status_pb2.Status):
            context.abort_with_status(rpc_status.to_status(answer))
        if isinstance(answer, grpc.StatusCode):
            context.abort(answer, "without a reason")
        return answer

    GetLedger = GetCheckpoint = GetRegistryRecord = LookupCommitment = _next
    LookupReference = GetExchanges = ListSends = GetFigures = _next
    GetInclusionProof = GetInclusionProofs = GetConsistencyProof = WatchBlocks = _next
    StreamBlocks = _next
    Submit = SubmitBulk = ChangeRegistry = _next
    PutEnvelope = GetEnvelope = DropEnvelope = _next

    def StreamEntries(  # noqa: N802 - the contract's name
        self, request: pb.StreamEntriesRequest, context: Any
    ) -> Iterator[pb.StreamEntriesResponse]:
        while self.script and isinstance(self.script[0], pb.StreamEntriesResponse):
            yield self._next(request, context)
        if self.script:
            self._next(request, context)


@pytest.fixture
def node() -> Iterator[tuple[Scripted, LedgerClient, list[float]]]:
    """A scripted server, a client of it, and the pauses that the client made instead of sleeping."""
    servicer = Scripted()
    server = grpc.server(futures.ThreadPoolExecutor(2))
    add_LedgerServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    pauses: list[float] = []
    now = [0.0]

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        now[0] += seconds

    with LedgerClient(f"127.0.0.1:{port}", patience_s=20, pause=pause, clock=lambda: now[0]) as client:
        yield servicer, client, pauses
    server.stop(None)


Node = tuple[Scripted, LedgerClient, list[float]]


@pytest.mark.parametrize(
    ("reason", "code", "kind"),
    [
        ("MALFORMED", code_pb2.INVALID_ARGUMENT, core.FormatError),
        ("MALFORMED_LEAF", code_pb2.INVALID_ARGUMENT, core.LeafFormatError),
        ("MALFORMED_ENVELOPE", code_pb2.INVALID_ARGUMENT, core.EnvelopeFormatError),
        ("REFERENCE_INVALID", code_pb2.INVALID_ARGUMENT, core.ReferenceInvalid),
        ("TOO_LARGE", code_pb2.INVALID_ARGUMENT, core.TooLarge),
        ("WRONG_COUNT", code_pb2.INVALID_ARGUMENT, core.WrongCount),
        ("WRONG_RECORDS_ROOT", code_pb2.INVALID_ARGUMENT, core.WrongRecordsRoot),
        ("FOREIGN_RECORD", code_pb2.INVALID_ARGUMENT, core.ForeignRecord),
        ("OUT_OF_RANGE", code_pb2.OUT_OF_RANGE, core.OutOfRange),
        ("NOT_FOUND", code_pb2.NOT_FOUND, errors.NotFound),
        ("UNKNOWN_AGENCY", code_pb2.NOT_FOUND, core.UnknownAgency),
        ("UNKNOWN_TYPE", code_pb2.NOT_FOUND, core.UnknownType),
        ("KEY_UNKNOWN", code_pb2.UNAUTHENTICATED, core.KeyUnknown),
        ("SIGNATURE_INVALID", code_pb2.UNAUTHENTICATED, core.SignatureInvalid),
        ("KEY_ENDED", code_pb2.PERMISSION_DENIED, core.KeyEnded),
        ("KEY_STOLEN", code_pb2.PERMISSION_DENIED, core.KeyStolen),
        ("KEY_USE", code_pb2.PERMISSION_DENIED, core.KeyUse),
        ("TOO_FEW_SIGNATURES", code_pb2.PERMISSION_DENIED, core.TooFewSignatures),
        ("AGENCY_SUSPENDED", code_pb2.PERMISSION_DENIED, core.AgencySuspended),
        ("TYPE_NOT_PERMITTED", code_pb2.PERMISSION_DENIED, core.TypeNotPermitted),
        ("NOT_ENTITLED", code_pb2.PERMISSION_DENIED, core.NotEntitled),
        ("WRONG_LEDGER", code_pb2.FAILED_PRECONDITION, core.WrongLedger),
        ("CLAIMED_TIME_OUTSIDE_WINDOW", code_pb2.FAILED_PRECONDITION, core.ClaimedTimeOutsideWindow),
        ("SUBJECT_INVALID", code_pb2.FAILED_PRECONDITION, core.SubjectInvalid),
        ("STATUS_FINAL", code_pb2.FAILED_PRECONDITION, core.StatusFinal),
        ("CHANGE_REFUSED", code_pb2.FAILED_PRECONDITION, core.ChangeRefused),
        ("RULES_VERSION_UNKNOWN", code_pb2.FAILED_PRECONDITION, core.RulesVersionUnknown),
        ("ENVELOPE_MISSING", code_pb2.FAILED_PRECONDITION, core.EnvelopeMissing),
        ("ENVELOPE_WRONG_RECIPIENT", code_pb2.FAILED_PRECONDITION, core.EnvelopeWrongRecipient),
        ("DUPLICATE_ISSUE", code_pb2.ALREADY_EXISTS, core.DuplicateIssue),
        ("ALREADY_ANSWERED", code_pb2.ALREADY_EXISTS, core.AlreadyAnswered),
        ("KEY_REUSED", code_pb2.ALREADY_EXISTS, core.KeyReused),
        ("STATUS_STALE", code_pb2.ABORTED, core.StatusStale),
        ("REGISTRY_CONFLICT", code_pb2.ABORTED, core.RegistryConflict),
        ("DAILY_CAP", code_pb2.RESOURCE_EXHAUSTED, core.DailyCapExceeded),
        ("QUEUE_FULL", code_pb2.RESOURCE_EXHAUSTED, errors.QueueFull),
        ("RATE_LIMITED", code_pb2.RESOURCE_EXHAUSTED, errors.RateLimited),
        ("DISK_FULL", code_pb2.RESOURCE_EXHAUSTED, errors.DiskFull),
        ("ENVELOPE_QUOTA", code_pb2.RESOURCE_EXHAUSTED, errors.EnvelopeQuota),
        ("READ_ONLY", code_pb2.UNAVAILABLE, errors.ReadOnly),
        ("STOPPING", code_pb2.UNAVAILABLE, errors.Stopping),
    ],
)
def test_every_reason_of_the_contract_has_its_class(
    reason: str, code: int, kind: type[core.SudurError]
) -> None:
    error = from_status(
        status(code, reason, "key 2: it ended; use another", where="key 2", fix="use another", index="77"),
        "here",
    )
    assert type(error) is kind
    assert error.code == reason
    assert (error.where, error.what, error.fix) == ("key 2", "it ended", "use another")
    if isinstance(error, core.IndexedRuleError):
        assert error.index == 77


@pytest.mark.parametrize("index", ["", "-1", "٣", "9" * 40, "x"])
def test_an_index_that_is_none_is_not_believed(index: str) -> None:
    error = from_status(status(code_pb2.ALREADY_EXISTS, "DUPLICATE_ISSUE", index=index), "here")
    assert isinstance(error, errors.RemoteError)


def test_an_unknown_reason_is_shown(node: Node) -> None:
    servicer, client, pauses = node
    servicer.script = [status(code_pb2.FAILED_PRECONDITION, "BRAND_NEW", "no")]
    with pytest.raises(errors.RemoteError, match="BRAND_NEW"):
        client.checkpoint()
    assert pauses == []


def test_what_passes_is_tried_again_with_the_same_bytes(node: Node) -> None:
    servicer, client, pauses = node
    servicer.script = [
        grpc.StatusCode.UNAVAILABLE,
        status(code_pb2.RESOURCE_EXHAUSTED, "QUEUE_FULL", retry_ms=3000),
        grpc.StatusCode.DEADLINE_EXCEEDED,
        pb.SubmitResponse(placement=pb.Placement(submission_index=5, repeat=True), checkpoint=b"note"),
    ]
    placed, note = client.submit(GENESIS, SignedSubmission(b"leaf", b"records"))
    assert (placed.submission_index, placed.repeat, note) == (5, True, b"note")
    assert len({request.SerializeToString() for request in servicer.requests}) == 1
    assert len(pauses) == 3
    assert 2.4 <= pauses[1] <= 3.6


@pytest.mark.parametrize("reason", ["DAILY_CAP", "TOO_FEW_SIGNATURES", "WRONG_LEDGER"])
def test_what_lasts_is_not_tried_again(node: Node, reason: str) -> None:
    servicer, client, pauses = node
    servicer.script = [status(code_pb2.RESOURCE_EXHAUSTED, reason, retry_ms=10)]
    with pytest.raises(core.RuleError):
        client.submit(GENESIS, SignedSubmission(b"leaf", b"records"))
    assert (len(servicer.requests), pauses) == (1, [])


def test_patience_ends(node: Node) -> None:
    servicer, client, pauses = node
    servicer.script = [grpc.StatusCode.UNAVAILABLE] * 100
    with pytest.raises(errors.Unavailable, match="no answer from the node"):
        client.checkpoint()
    assert 10 < sum(pauses) <= 20


def test_nobody_there() -> None:
    with (
        LedgerClient("127.0.0.1:1", deadline_s=1, patience_s=0) as client,
        pytest.raises(errors.Unavailable, match="check the address"),
    ):
        client.ledger()


def test_only_what_was_put_off_is_sent_again(node: Node) -> None:
    servicer, client, _ = node

    def placed(index: int) -> pb.SubmitBulkResult:
        return pb.SubmitBulkResult(placement=pb.Placement(submission_index=index))

    refused = pb.SubmitBulkResult(error=status(code_pb2.NOT_FOUND, "UNKNOWN_AGENCY"))
    put_off = pb.SubmitBulkResult(error=status(code_pb2.RESOURCE_EXHAUSTED, "QUEUE_FULL"))
    servicer.script = [
        pb.SubmitBulkResponse(results=[placed(1), put_off, refused, put_off], checkpoint=b"old"),
        pb.SubmitBulkResponse(results=[placed(2), put_off], checkpoint=b"newer"),
        pb.SubmitBulkResponse(results=[placed(3)], checkpoint=b"newest"),
    ]
    answer = client.submit_bulk(GENESIS, [SignedSubmission(b"leaf%d" % i, b"") for i in range(4)])
    first, second, third, fourth = answer.outcomes
    assert isinstance(third, core.UnknownAgency)
    indexes = [one.submission_index for one in (first, second, fourth) if isinstance(one, Placed)]
    assert indexes == [1, 2, 3]
    assert answer.checkpoint == b"newest"
    assert [[one.leaf for one in request.submissions] for request in servicer.requests] == [
        [b"leaf0", b"leaf1", b"leaf2", b"leaf3"],
        [b"leaf1", b"leaf3"],
        [b"leaf3"],
    ]


def test_a_bulk_answer_of_another_length_is_wrong(node: Node) -> None:
    servicer, client, _ = node
    servicer.script = [pb.SubmitBulkResponse()]
    with pytest.raises(errors.AnswerWrong):
        client.submit_bulk(GENESIS, [SignedSubmission(b"leaf", b"")])


@pytest.mark.parametrize("own", [True, False])
def test_a_registry_change_that_went_through_is_recognised(node: Node, own: bool) -> None:
    servicer, client, _ = node
    servicer.script = [
        grpc.StatusCode.UNAVAILABLE,
        status(code_pb2.ABORTED, "REGISTRY_CONFLICT", index="9"),
        pb.StreamEntriesResponse(first_index=9, leaves=[b"change" if own else b"another"]),
    ]
    if own:
        assert client.change_registry(GENESIS, b"change") == 9
    else:
        with pytest.raises(core.RegistryConflict):
            client.change_registry(GENESIS, b"change")


def test_a_broken_stream_is_taken_up_where_it_broke(node: Node) -> None:
    servicer, client, _ = node
    servicer.script = [
        pb.StreamEntriesResponse(first_index=0, leaves=[b"0", b"1"]),
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.UNAVAILABLE,
        pb.StreamEntriesResponse(first_index=2, leaves=[b"2"]),
    ]
    assert list(client.entries(0, 3)) == [b"0", b"1", b"2"]
    assert servicer.requests[-1].start == 2


def test_a_stream_with_a_gap_is_wrong(node: Node) -> None:
    servicer, client, _ = node
    servicer.script = [pb.StreamEntriesResponse(first_index=1, leaves=[b"1"])]
    with pytest.raises(errors.AnswerWrong, match="gap"):
        list(client.entries(0, 2))


def test_proofs_of_other_entries_are_wrong(node: Node) -> None:
    servicer, client, _ = node
    servicer.script = [pb.GetInclusionProofsResponse(proofs=[pb.InclusionProof(index=4)])]
    with pytest.raises(errors.AnswerWrong):
        client.inclusions([3])


def test_a_commitment_that_is_not_there(node: Node) -> None:
    servicer, client, _ = node
    servicer.script = [status(code_pb2.NOT_FOUND, "NOT_FOUND"), pb.LookupCommitmentResponse(indexes=[4])]
    assert client.lookup(1, bytes(32)) == ()
    assert client.lookup(1, bytes(32)) == (4,)


def test_an_envelope_that_is_not_the_one_asked_for(node: Node) -> None:
    servicer, client, _ = node
    access = EnvelopeAccess(1, NumberedSigner(1, Ed25519Signer(bytes(32))))
    servicer.script = [pb.PutEnvelopeResponse(digest=bytes(32)), pb.GetEnvelopeResponse(envelope=b"other")]
    with pytest.raises(errors.AnswerWrong):
        client.put_envelope(GENESIS, access, b"envelope")
    with pytest.raises(core.EnvelopeWrongDigest):
        client.get_envelope(GENESIS, access, bytes(32))


def test_a_genesis_of_another_length_is_wrong(node: Node) -> None:
    servicer, client, _ = node
    servicer.script = [pb.GetLedgerResponse(genesis=b"short")]
    with pytest.raises(errors.AnswerWrong):
        client.ledger()
