"""The gRPC client against a server that answers as it is told: tries again, gives up, names errors."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
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
    LookupReference = GetExchanges = ListSends = GetFigures = GetCluster = _next
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
    with ExitStack() as stack:
        servicer, address = stack.enter_context(listening())
        client, pauses, _ = stack.enter_context(client_of(address))
        yield servicer, client, pauses


@contextmanager
def listening() -> Iterator[tuple[Scripted, str]]:
    servicer = Scripted()
    server = grpc.server(futures.ThreadPoolExecutor(2))
    add_LedgerServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield servicer, f"127.0.0.1:{port}"
    server.stop(None)


@contextmanager
def client_of(address: str) -> Iterator[tuple[LedgerClient, list[float], list[tuple[str, str]]]]:
    """A client, its pauses, and (node, code) of what it said when it tried again."""
    pauses: list[float] = []
    told: list[tuple[str, str]] = []
    now = [0.0]

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        now[0] += seconds

    def waiting(error: core.SudurError, node: str) -> None:
        told.append((node, error.code))

    with LedgerClient(address, patience_s=20, waiting=waiting, pause=pause, clock=lambda: now[0]) as client:
        yield client, pauses, told


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
        ("NO_LEADER", code_pb2.UNAVAILABLE, errors.NoLeader),
        ("NO_MAJORITY", code_pb2.UNAVAILABLE, errors.NoMajority),
        ("OUTCOME_UNKNOWN", code_pb2.UNAVAILABLE, errors.OutcomeUnknown),
        ("MIRROR", code_pb2.UNAVAILABLE, errors.IsMirror),
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


# --- rates -------------------------------------------------------------------------------------


def test_a_rate_is_waited_for_as_long_as_the_node_says_and_no_less(node: Node) -> None:
    servicer, client, pauses = node
    limited = status(code_pb2.RESOURCE_EXHAUSTED, "RATE_LIMITED", retry_ms=4_000)
    servicer.script = [limited, limited, pb.GetCheckpointResponse(checkpoint=b"note")]
    assert client.checkpoint() == b"note"
    assert len(pauses) == 2
    assert all(4.0 <= one <= 4.8 for one in pauses)


def test_a_rate_beyond_all_patience_is_told_at_once(node: Node) -> None:
    servicer, client, pauses = node
    servicer.script = [status(code_pb2.RESOURCE_EXHAUSTED, "RATE_LIMITED", retry_ms=90_000)]
    with pytest.raises(errors.RateLimited):
        client.checkpoint()
    assert pauses == []


def test_the_longest_delay_within_a_bulk_is_waited_for(node: Node) -> None:
    servicer, client, pauses = node
    put_off = [
        pb.SubmitBulkResult(error=status(code_pb2.RESOURCE_EXHAUSTED, "RATE_LIMITED", retry_ms=ms))
        for ms in (1_000, 3_000)
    ]
    placed = pb.SubmitBulkResult(placement=pb.Placement(submission_index=1))
    servicer.script = [
        pb.SubmitBulkResponse(results=put_off),
        pb.SubmitBulkResponse(results=[placed, placed]),
    ]
    answer = client.submit_bulk(GENESIS, [SignedSubmission(b"a", b""), SignedSubmission(b"b", b"")])
    assert all(isinstance(one, Placed) for one in answer.outcomes)
    assert len(pauses) == 1
    assert 3.0 <= pauses[0] <= 3.6


# --- several nodes -----------------------------------------------------------------------------


@dataclass
class Several:
    """Three scripted nodes, the first of them down unless it is given a script, and one client of all."""

    nodes: list[Scripted]
    addresses: list[str]
    client: LedgerClient
    pauses: list[float]
    told: list[tuple[str, str]]

    def asked(self) -> list[int]:
        return [len(node.requests) for node in self.nodes]


@pytest.fixture
def several() -> Iterator[Several]:
    with ExitStack() as stack:
        pairs = [stack.enter_context(listening()) for _ in range(3)]
        addresses = [address for _, address in pairs]
        client, pauses, told = stack.enter_context(client_of(",".join(addresses)))
        yield Several([servicer for servicer, _ in pairs], addresses, client, pauses, told)


PLACED = pb.SubmitResponse(placement=pb.Placement(submission_index=5), checkpoint=b"note")
NOTE = pb.GetCheckpointResponse(checkpoint=b"note")


@pytest.mark.parametrize(
    "reason", ["STOPPING", "READ_ONLY", "NO_LEADER", "OUTCOME_UNKNOWN", "MIRROR", "A_REASON_OF_TOMORROW"]
)
def test_the_next_node_gets_the_very_same_bytes_at_once(several: Several, reason: str) -> None:
    one, two, three = several.nodes
    one.script = [status(code_pb2.UNAVAILABLE, reason, retry_ms=700)]
    two.script = [grpc.StatusCode.UNAVAILABLE]
    three.script = [PLACED, NOTE]
    placed, _ = several.client.submit(GENESIS, SignedSubmission(b"leaf", b"records"))
    assert placed.submission_index == 5
    assert (several.asked(), several.pauses) == ([1, 1, 1], [])
    assert len({node.requests[0].SerializeToString() for node in several.nodes}) == 1
    assert [node for node, _ in several.told] == several.addresses[:2]
    several.client.checkpoint()
    assert several.asked() == [1, 1, 2], "the node that answered is asked again"


def test_a_mirror_alone_is_not_asked_again(node: Node) -> None:
    servicer, client, pauses = node
    servicer.script = [status(code_pb2.UNAVAILABLE, "MIRROR", retry_ms=1_000)]
    with pytest.raises(errors.IsMirror):
        client.submit(GENESIS, SignedSubmission(b"leaf", b"records"))
    assert (len(servicer.requests), pauses) == (1, [])


def test_a_node_that_is_not_there_is_passed_over() -> None:
    with listening() as (servicer, address), client_of(f"127.0.0.1:1,{address}") as (client, pauses, told):
        servicer.script = [NOTE, NOTE]
        assert client.checkpoint() == client.checkpoint() == b"note"
        assert (pauses, told) == ([], [("127.0.0.1:1", "UNAVAILABLE")])
        assert client.address == address


def test_after_a_round_of_all_nodes_it_waits(several: Several) -> None:
    for node in several.nodes:
        node.script = [status(code_pb2.UNAVAILABLE, "NO_LEADER")] * 100
    with pytest.raises(errors.Unavailable):
        several.client.checkpoint()
    rounds = [len(node.requests) for node in several.nodes]
    assert max(rounds) - min(rounds) <= 1
    assert len(several.pauses) == min(rounds) or len(several.pauses) == min(rounds) - 1
    assert max(several.pauses) <= 1.2, "a new leader is not kept waiting for"
    assert 15 < sum(several.pauses) <= 20
    assert len(several.told) == 3


@pytest.mark.parametrize("reason", ["RATE_LIMITED", "QUEUE_FULL"])
def test_a_rate_is_not_got_round_at_another_node(several: Several, reason: str) -> None:
    one = several.nodes[0]
    one.script = [status(code_pb2.RESOURCE_EXHAUSTED, reason, retry_ms=2_000), NOTE]
    several.client.checkpoint()
    assert (several.asked(), len(several.pauses)) == ([2, 0, 0], 1)


@pytest.mark.parametrize("reason", ["WRONG_LEDGER", "DAILY_CAP", "DUPLICATE_ISSUE"])
def test_what_is_refused_is_not_asked_elsewhere(several: Several, reason: str) -> None:
    several.nodes[0].script = [status(code_pb2.FAILED_PRECONDITION, reason, index="3")]
    with pytest.raises(core.SudurError):
        several.client.submit(GENESIS, SignedSubmission(b"leaf", b"records"))
    assert several.asked() == [1, 0, 0]


def test_a_stream_goes_on_at_the_next_node(several: Several) -> None:
    one, two, _ = several.nodes
    one.script = [pb.StreamEntriesResponse(first_index=0, leaves=[b"0", b"1"]), grpc.StatusCode.UNAVAILABLE]
    two.script = [pb.StreamEntriesResponse(first_index=2, leaves=[b"2"])]
    assert list(several.client.entries(0, 3)) == [b"0", b"1", b"2"]
    assert two.requests[0].start == 2


def test_a_stream_longer_than_a_try_goes_on_where_it_is(several: Several) -> None:
    several.nodes[0].script = [
        pb.StreamEntriesResponse(first_index=0, leaves=[b"0", b"1"]),
        grpc.StatusCode.DEADLINE_EXCEEDED,
        pb.StreamEntriesResponse(first_index=2, leaves=[b"2"]),
    ]
    assert list(several.client.entries(0, 3)) == [b"0", b"1", b"2"]
    assert (several.asked(), several.told) == ([3, 0, 0], [])


def test_submissions_put_off_for_want_of_a_leader_go_to_the_next_node(several: Several) -> None:
    one, two, _ = several.nodes
    no_leader = pb.SubmitBulkResult(error=status(code_pb2.UNAVAILABLE, "NO_LEADER"))
    placed = pb.SubmitBulkResult(placement=pb.Placement(submission_index=1))
    one.script = [pb.SubmitBulkResponse(results=[placed, no_leader])]
    two.script = [pb.SubmitBulkResponse(results=[placed])]
    answer = several.client.submit_bulk(GENESIS, [SignedSubmission(b"a", b""), SignedSubmission(b"b", b"")])
    assert all(isinstance(one, Placed) for one in answer.outcomes)
    assert [[item.leaf for item in node.requests[0].submissions] for node in (one, two)] == [
        [b"a", b"b"],
        [b"b"],
    ]


def test_a_change_is_recognised_at_a_node_that_is_a_moment_behind(several: Several) -> None:
    one, two, _ = several.nodes
    one.script = [grpc.StatusCode.UNAVAILABLE]
    behind = status(code_pb2.OUT_OF_RANGE, "OUT_OF_RANGE")
    two.script = [
        status(code_pb2.ABORTED, "REGISTRY_CONFLICT", index="9"),
        behind,
        behind,
        pb.StreamEntriesResponse(first_index=9, leaves=[b"change"]),
    ]
    assert several.client.change_registry(GENESIS, b"change") == 9


def test_a_watch_that_broke_is_taken_up_at_the_next_node(several: Several) -> None:
    several.nodes[0].script = [grpc.StatusCode.UNAVAILABLE]
    with pytest.raises(errors.Unavailable):
        list(several.client.watch(0))
    assert several.client.address == several.addresses[1]
