"""The gRPC service over a real socket: every promise of the .proto, every refusal, and still serving."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc.aio
import pytest
import pytest_asyncio
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from ledger import changes
from ledger.changes import LEDGER, Subject
from ledger.hashing import leaf_hash
from ledger.leaves import NONE, LeafType
from ledger.proofs import verify_consistency, verify_inclusion
from ledger.records import Send, SendKind, Status, parse_record
from ledger.registry_records import AgencyRecord, KeyRecord, LedgerRecord, TypeRecord
from ledger.signing_policy import KindPolicy, SigningPolicy
from ledger.submissions import SubmissionLeaf, pack
from sudur.v1 import ledger_pb2
from tests.ledger.world import ORIGIN, commitment, issue, log_key, new_key, signer, status
from tests.node.served import Refused, Served, refused, serve, taken_apart

pytestmark = pytest.mark.asyncio(loop_scope="module")

Code = grpc.StatusCode
DAY_MS = 86_400_000


@dataclass
class Cast:
    """Agencies that differ in what they may do, by number; ``taken`` was issued at ``taken_at``."""

    four_eyes: int = 0
    suspended: int = 0
    ended: int = 0
    stolen: int = 0
    registrar: int = 0
    capped: int = 0
    roleless: int = 0
    taken: bytes = b""
    taken_at: int = 0
    revoked_at: int = 0
    revocation: int = 0
    first: ledger_pb2.SubmitResponse = field(default_factory=ledger_pb2.SubmitResponse)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    async with serve(tmp_path_factory.mktemp("node") / "data") as one:
        yield one


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cast(served: Served) -> Cast:
    two = SigningPolicy({"issue.original": KindPolicy(((1, 2),))})
    none = SigningPolicy({"issue.original": KindPolicy(cap=0)})
    members = Cast(
        four_eyes=await served.enrol(policy=two, uses=("submit", "submit")),
        suspended=await served.enrol(),
        ended=await served.enrol(uses=("submit", "submit")),
        stolen=await served.enrol(uses=("submit", "submit")),
        registrar=await served.enrol(uses=("submit", "registry")),
        capped=await served.enrol(policy=none),
        roleless=await served.enrol(roles=("attest",)),
        taken=issue(1, "taken", 0),
    )
    await served.define_type()
    await served.change(Subject("agency", members.suspended), changes.AgencySuspended())
    await served.change(Subject("agency", members.ended), changes.KeyEnded(2))
    await served.change(Subject("agency", members.stolen), changes.KeyStolen(2, 0))
    placed = (await served.submit(1, [members.taken, issue(1, "to be revoked", 0)])).placement
    members.taken_at, members.revoked_at = placed.first_record_index, placed.first_record_index + 1
    revocation = status(1, members.revoked_at, members.revoked_at, Status.REVOKED)
    members.first = await served.submit(1, [revocation])
    members.revocation = members.first.placement.first_record_index
    return members


async def refusal(call: Any) -> Refused:
    """What a call that must fail was refused with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return refused(caught.value)


async def assert_serving(served: Served) -> None:
    """A new submission goes in, and its proof leads to the checkpoint that came with it."""
    answer = await served.submit()
    place = answer.placement
    assert not place.repeat
    checkpoint = served.open(answer.checkpoint)
    assert checkpoint.size >= place.block_size
    request = ledger_pb2.GetInclusionProofRequest(index=place.first_record_index, tree_size=checkpoint.size)
    found = await served.stub.GetInclusionProof(request)
    proof = found.proof
    verify_inclusion(proof.leaf_hash, proof.index, checkpoint.size, list(proof.path), checkpoint.root)


# --- what works --------------------------------------------------------------------------------


async def test_get_ledger_tells_what_to_pin_and_the_limits(served: Served) -> None:
    before = time.time_ns() // 1_000_000
    ledger = await served.stub.GetLedger(ledger_pb2.GetLedgerRequest())
    assert ledger.genesis == leaf_hash(served.node.ledger.store.leaf(0))
    assert (ledger.origin, list(ledger.log_keys)) == (ORIGIN, [log_key("log")])
    assert ledger.resources_url == f"http://{served.node.http}"
    assert (ledger.rules_version, ledger.training) == (1, True)
    assert served.open(ledger.checkpoint).size == served.size
    assert ledger.block == served.node.ledger.published.head.block
    assert before <= ledger.server_time_ms <= time.time_ns() // 1_000_000
    limits = ledger.limits
    assert (limits.max_bulk_submissions, limits.max_submission_records) == (64, 256)
    assert (limits.max_leaf_bytes, limits.max_request_bytes) == (65_535, 4 << 20)
    assert (limits.claimed_past_ms, limits.claimed_future_ms) == (7 * DAY_MS, 300_000)


async def test_submit_answers_with_place_and_checkpoint(served: Served) -> None:
    records = [issue(1, served.fresh_name(), 0) for _ in range(3)]
    answer = await served.submit(1, records)
    place = answer.placement
    assert (place.record_count, place.first_record_index) == (3, place.submission_index + 1)
    assert place.block_size == place.first_record_index + 4
    leaves = served.node.ledger.store.leaves(place.submission_index, place.block_size)
    assert SubmissionLeaf.decode(leaves[0]).count == 3
    assert leaves[1:4] == records
    assert leaves[4][1] == LeafType.SEAL
    assert abs(place.time_ms - time.time() * 1000) < 60_000
    assert served.open(answer.checkpoint).size == place.block_size


async def test_a_repeated_submission_gets_its_first_answer(served: Served) -> None:
    request = served.request(served.submission(1))
    first = await served.stub.Submit(request)
    await served.submit()
    size = served.size
    second = await served.stub.Submit(request)
    assert second.placement.repeat
    second.placement.repeat = False
    assert second.placement == first.placement
    assert served.open(second.checkpoint).size >= first.placement.block_size
    assert served.size == size


async def test_many_callers_share_blocks(served: Served) -> None:
    blocks = served.node.ledger.published.head.block
    answers = await asyncio.gather(*(served.submit() for _ in range(64)))
    assert len({one.placement.submission_index for one in answers}) == 64
    assert served.node.ledger.published.head.block - blocks < 64


async def test_bulk_judges_each_for_itself(served: Served, cast: Cast) -> None:
    good = [served.submission(1) for _ in range(3)]
    torn = ledger_pb2.Submission(leaf=good[0].leaf, records=good[0].records[:-1])
    foreign = served.submission(1, [issue(2, served.fresh_name(), 0)])
    bad = [foreign, torn, served.submission(1, [cast.taken])]
    answer = await served.stub.SubmitBulk(served.bulk(good[0], *bad, good[1], good[0], good[2]))
    kinds = [one.WhichOneof("outcome") for one in answer.results]
    assert kinds == ["placement", "error", "error", "error", "placement", "placement", "placement"]
    assert answer.results[5].placement.repeat
    size = served.open(answer.checkpoint).size
    assert all(
        one.placement.block_size <= size for one in answer.results if one.WhichOneof("outcome") == "placement"
    )
    errors = [taken_apart(one.error, Code.UNKNOWN) for one in answer.results[1:4]]
    assert [one.reason for one in errors] == ["FOREIGN_RECORD", "MALFORMED_LEAF", "DUPLICATE_ISSUE"]
    assert errors[1].fields == ["submissions[2].records"]
    assert errors[2].info is not None
    assert errors[2].info.metadata["index"] == str(cast.taken_at)
    numbers = [one.error.code for one in answer.results[1:4]]
    assert numbers == [
        one.value[0] for one in (Code.INVALID_ARGUMENT, Code.INVALID_ARGUMENT, Code.ALREADY_EXISTS)
    ]


async def test_one_call_takes_16384_records(served: Served) -> None:
    submissions = []
    for _ in range(64):
        name = served.fresh_name()
        submissions.append(served.submission(1, [issue(1, f"{name}/{i}", 0) for i in range(256)]))
    pause = 0.0

    async def watch_the_loop() -> None:
        nonlocal pause
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            pause = max(pause, time.perf_counter() - before)

    watching = asyncio.create_task(watch_the_loop())
    answer = await served.stub.SubmitBulk(served.bulk(*submissions))
    watching.cancel()
    places = [one.placement for one in answer.results]
    assert [place.record_count for place in places] == [256] * 64
    assert len({place.submission_index for place in places}) == 64
    assert pause < 0.5


async def test_checkpoints_by_size(served: Served) -> None:
    answer = await served.submit()
    size = answer.placement.block_size
    await served.submit()
    newest = await served.stub.GetCheckpoint(ledger_pb2.GetCheckpointRequest())
    assert served.open(newest.checkpoint).size == served.size
    older = await served.stub.GetCheckpoint(ledger_pb2.GetCheckpointRequest(size=size))
    assert older.checkpoint == answer.checkpoint


async def test_proofs_of_many_leaves_and_of_growth(served: Served, cast: Cast) -> None:
    old = served.open(cast.first.checkpoint)
    newest = (await served.stub.GetCheckpoint(ledger_pb2.GetCheckpointRequest())).checkpoint
    for wanted in (old, served.open(newest)):
        indexes = [wanted.size - 1, 0, 3, 3, 1]
        found = await served.stub.GetInclusionProofs(
            ledger_pb2.GetInclusionProofsRequest(indexes=indexes, tree_size=wanted.size)
        )
        assert (found.tree_size, served.open(found.checkpoint)) == (wanted.size, wanted)
        assert [one.index for one in found.proofs] == indexes
        for one in found.proofs:
            assert one.leaf_hash == leaf_hash(served.node.ledger.store.leaf(one.index))
            verify_inclusion(one.leaf_hash, one.index, wanted.size, list(one.path), wanted.root)
    growth = await served.stub.GetConsistencyProof(ledger_pb2.GetConsistencyProofRequest(old_size=old.size))
    new = served.open(growth.checkpoint)
    assert (growth.old_size, growth.new_size) == (old.size, new.size)
    verify_consistency(old.size, old.root, new.size, new.root, list(growth.path))


async def test_entries_stream_in_order_and_in_batches(served: Served) -> None:
    size = served.size
    leaves: list[bytes] = []
    async for batch in served.stub.StreamEntries(ledger_pb2.StreamEntriesRequest()):
        assert batch.first_index == len(leaves)
        assert 0 < sum(map(len, batch.leaves)) <= 1 << 20
        leaves += batch.leaves
    assert leaves == served.node.ledger.store.leaves(0, size)
    part: list[bytes] = []
    async for batch in served.stub.StreamEntries(ledger_pb2.StreamEntriesRequest(start=3, end=9)):
        part += batch.leaves
    assert part == leaves[3:9]
    empty = [one async for one in served.stub.StreamEntries(ledger_pb2.StreamEntriesRequest(start=4, end=4))]
    assert empty == []


async def test_a_slow_reader_holds_little_and_may_leave(served: Served) -> None:
    call = served.stub.StreamEntries(ledger_pb2.StreamEntriesRequest())
    first = await call.read()
    assert isinstance(first, ledger_pb2.StreamEntriesResponse)
    call.cancel()
    await assert_serving(served)


async def test_lookup_names_the_index(served: Served, cast: Cast) -> None:
    request = ledger_pb2.LookupCommitmentRequest(agency=1, commitment=commitment("taken"))
    found = await served.stub.LookupCommitment(request)
    assert list(found.indexes) == [cast.taken_at]
    assert parse_record(served.node.ledger.store.leaf(cast.taken_at)) == parse_record(cast.taken)
    assert found.tree_size == served.size


async def next_block(call: Any) -> ledger_pb2.Block:
    answer = await call.read()
    assert isinstance(answer, ledger_pb2.WatchBlocksResponse)
    return answer.block


async def test_watch_gives_all_blocks_then_each_new_one(served: Served) -> None:
    newest = served.node.ledger.published.head.block
    call = served.stub.WatchBlocks(ledger_pb2.WatchBlocksRequest())
    size = 0
    for number in range(newest + 1):
        block = await next_block(call)
        assert block.number == number
        assert sum(one.count for one in block.leaf_counts) == block.size - size
        size = block.size
        checkpoint = served.open(block.checkpoint)
        assert (checkpoint.size, checkpoint.root) == (block.size, block.root)
    waiting = asyncio.create_task(next_block(call))
    answer = await served.submit()
    block = await waiting
    assert (block.number, block.size) == (answer.placement.block, answer.placement.block_size)
    assert block.time_ms == answer.placement.time_ms
    kinds = {one.kind: one.count for one in block.leaf_counts}
    assert kinds == {
        ledger_pb2.LEAF_KIND_ISSUE: 1,
        ledger_pb2.LEAF_KIND_SUBMISSION: 1,
        ledger_pb2.LEAF_KIND_SEAL: 1,
    }
    assert [one.kind for one in block.leaf_counts] == sorted(kinds)
    call.cancel()


async def test_watch_waits_for_a_block_to_come(served: Served) -> None:
    newest = served.node.ledger.published.head.block
    call = served.stub.WatchBlocks(ledger_pb2.WatchBlocksRequest(from_block=newest + 2))
    waiting = asyncio.create_task(next_block(call))
    await served.submit()
    await served.submit()
    assert (await waiting).number == newest + 2
    call.cancel()


async def test_registry_records(served: Served, cast: Cast) -> None:
    async def record(subject: str) -> ledger_pb2.GetRegistryRecordResponse:
        return await served.stub.GetRegistryRecord(ledger_pb2.GetRegistryRecordRequest(subject=subject))

    registry = served.node.ledger.published.state.registry
    ledger = await record("ledger")
    assert LedgerRecord.decode(ledger.record).origin == ORIGIN
    assert (ledger.last_change_index, ledger.tree_size) == (registry.changed(LEDGER), served.size)
    agency = await record(f"agency/{cast.ended}")
    assert AgencyRecord.decode(agency.record).number == cast.ended
    assert leaf_hash(agency.record) in registry.tree.hashes
    assert agency.last_change_index == registry.changed(Subject("agency", cast.ended))
    assert TypeRecord.decode((await record("type/1")).record).number == 1
    key = await record(f"agency/{cast.ended}/key/2")
    assert KeyRecord.decode(key.record).ended is not None
    assert key.last_change_index == agency.last_change_index


async def test_change_answers_with_what_the_next_change_names(served: Served) -> None:
    subject = Subject("agency", 1)
    answer = await served.change(subject, changes.AgencyRenamed({"ku": "دەزگا"}))
    assert served.node.ledger.published.state.registry.changed(subject) == answer.index
    assert served.open(answer.checkpoint).size >= answer.block_size == answer.index + 2


async def test_health_and_reflection(served: Served) -> None:
    health = health_pb2_grpc.HealthStub(served.channel)
    for name in ("", "sudur.v1.LedgerService"):
        answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    stub = reflection_pb2_grpc.ServerReflectionStub(served.channel)
    call = stub.ServerReflectionInfo()
    await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    names = {one.name for one in (await call.read()).list_services_response.service}
    assert {"sudur.v1.LedgerService", "grpc.health.v1.Health"} <= names
    await call.done_writing()


# --- what is refused ---------------------------------------------------------------------------

Build = Callable[[Served, Cast], tuple[str, Any]]


@dataclass(frozen=True)
class Case:
    """A request, and how it is refused. ``fields`` are those that BadRequest names."""

    desc: str
    build: Build
    code: grpc.StatusCode
    reason: str
    fields: tuple[str, ...] = ()
    metadata: Callable[[Served, Cast], dict[str, str]] = lambda served, cast: {}


def submit(make: Callable[[Served, Cast], ledger_pb2.Submission]) -> Build:
    return lambda served, cast: ("Submit", served.request(make(served, cast)))


def change(subject: str, body: Callable[[Cast], Any], **more: Any) -> Build:
    def build(served: Served, cast: Cast) -> tuple[str, Any]:
        return "ChangeRegistry", served.change_request(Subject.parse(subject), body(cast), **more)

    return build


def read(method: str, request: Any) -> Build:
    return lambda served, cast: (method, request)


def beyond(method: str, kind: Any, name: str, **more: Any) -> Build:
    """A request whose field ``name`` is just beyond the tree."""
    return lambda served, cast: (method, kind(**{name: served.size + 1}, **more))


def edited(
    submission: ledger_pb2.Submission, leaf: bytes = b"", records: bytes = b""
) -> ledger_pb2.Submission:
    return ledger_pb2.Submission(leaf=leaf or submission.leaf, records=records or submission.records)


def miscounted(served: Served, cast: Cast) -> ledger_pb2.Submission:
    whole = served.submission(1)
    return edited(whole, records=whole.records + whole.records)


def other_records(served: Served, cast: Cast) -> ledger_pb2.Submission:
    return edited(served.submission(1), records=served.submission(1).records)


def forged(served: Served, cast: Cast) -> ledger_pb2.Submission:
    whole = served.submission(1)
    return edited(whole, leaf=whole.leaf[:-1] + bytes((whole.leaf[-1] ^ 1,)))


def unknown_agency(served: Served, cast: Cast) -> ledger_pb2.Submission:
    served.keys[4_000] = {1: signer("stranger")}
    return served.submission(4_000)


def unknown_key(served: Served, cast: Cast) -> ledger_pb2.Submission:
    served.keys[1][9] = signer("stranger")
    return served.submission(1, keys=(9,))


def unpermitted(served: Served, cast: Cast) -> ledger_pb2.Submission:
    return served.submission(1, [issue(1, served.fresh_name(), 1)])


def sent(served: Served, cast: Cast) -> ledger_pb2.Submission:
    return served.submission(1, [Send(1, 2, bytes(32), SendKind.REQUEST, 0, NONE, bytes(32)).encode()])


def now_ms(shift: int) -> int:
    return time.time_ns() // 1_000_000 + shift


M = ledger_pb2
TOO_MANY = tuple(range(1_025))
CASES = [
    # Submit
    Case("no genesis", read("Submit", M.SubmitRequest()), Code.INVALID_ARGUMENT, "MALFORMED", ("genesis",)),
    Case(
        "a ledger of another name",
        lambda s, c: ("Submit", M.SubmitRequest(genesis=bytes(32), submission=s.submission(1))),
        Code.FAILED_PRECONDITION,
        "WRONG_LEDGER",
    ),
    Case(
        "signed for another ledger",
        submit(lambda s, c: s.submission(1, genesis=bytes(32))),
        Code.UNAUTHENTICATED,
        "SIGNATURE_INVALID",
    ),
    Case(
        "an empty submission",
        submit(lambda s, c: M.Submission()),
        Code.INVALID_ARGUMENT,
        "MALFORMED_LEAF",
        ("submission.leaf",),
    ),
    Case(
        "a byte after the leaf",
        submit(lambda s, c: edited(w := s.submission(1), leaf=w.leaf + b"\0")),
        Code.INVALID_ARGUMENT,
        "MALFORMED_LEAF",
        ("submission.leaf",),
    ),
    Case(
        "a byte after the records",
        submit(lambda s, c: edited(w := s.submission(1), records=w.records + b"\0")),
        Code.INVALID_ARGUMENT,
        "MALFORMED_LEAF",
        ("submission.records",),
    ),
    Case(
        "a leaf above 65,535 bytes",
        submit(lambda s, c: edited(s.submission(1), leaf=b"\x01\x20" + bytes(65_534))),
        Code.INVALID_ARGUMENT,
        "TOO_LARGE",
        ("submission.leaf",),
    ),
    Case(
        "257 records",
        submit(lambda s, c: edited(s.submission(1), records=pack([issue(1, i, 0) for i in range(257)]))),
        Code.INVALID_ARGUMENT,
        "TOO_LARGE",
        ("submission.records",),
    ),
    Case("another count", submit(miscounted), Code.INVALID_ARGUMENT, "WRONG_COUNT"),
    Case("other records", submit(other_records), Code.INVALID_ARGUMENT, "WRONG_RECORDS_ROOT"),
    Case(
        "another agency's record",
        submit(lambda s, c: s.submission(1, [issue(2, s.fresh_name(), 0)])),
        Code.INVALID_ARGUMENT,
        "FOREIGN_RECORD",
        (),
        lambda s, c: {"where": "record 0"},
    ),
    Case("an unknown agency", submit(unknown_agency), Code.NOT_FOUND, "UNKNOWN_AGENCY"),
    Case("an unknown key", submit(unknown_key), Code.UNAUTHENTICATED, "KEY_UNKNOWN"),
    Case("a forged signature", submit(forged), Code.UNAUTHENTICATED, "SIGNATURE_INVALID"),
    Case(
        "an ended key",
        submit(lambda s, c: s.submission(c.ended, keys=(2,))),
        Code.PERMISSION_DENIED,
        "KEY_ENDED",
    ),
    Case(
        "a stolen key",
        submit(lambda s, c: s.submission(c.stolen, keys=(2,))),
        Code.PERMISSION_DENIED,
        "KEY_STOLEN",
    ),
    Case(
        "a key for changes",
        submit(lambda s, c: s.submission(c.registrar, keys=(2,))),
        Code.PERMISSION_DENIED,
        "KEY_USE",
    ),
    Case(
        "one signature where two are needed",
        submit(lambda s, c: s.submission(c.four_eyes)),
        Code.PERMISSION_DENIED,
        "TOO_FEW_SIGNATURES",
    ),
    Case(
        "a suspended agency",
        submit(lambda s, c: s.submission(c.suspended)),
        Code.PERMISSION_DENIED,
        "AGENCY_SUSPENDED",
    ),
    Case("a type not permitted", submit(unpermitted), Code.PERMISSION_DENIED, "TYPE_NOT_PERMITTED"),
    Case("no role", submit(lambda s, c: s.submission(c.roleless)), Code.PERMISSION_DENIED, "NOT_ENTITLED"),
    Case("a record of another role", submit(sent), Code.PERMISSION_DENIED, "NOT_ENTITLED"),
    Case(
        "claimed eight days ago",
        submit(lambda s, c: s.submission(1, claimed_ms=now_ms(-8 * DAY_MS))),
        Code.FAILED_PRECONDITION,
        "CLAIMED_TIME_OUTSIDE_WINDOW",
    ),
    Case(
        "claimed in ten minutes",
        submit(lambda s, c: s.submission(1, claimed_ms=now_ms(600_000))),
        Code.FAILED_PRECONDITION,
        "CLAIMED_TIME_OUTSIDE_WINDOW",
    ),
    Case(
        "the status of a seal",
        submit(lambda s, c: s.submission(1, [status(1, 1, 1, Status.REVOKED)])),
        Code.FAILED_PRECONDITION,
        "SUBJECT_INVALID",
    ),
    Case(
        "a revoked document suspended",
        submit(lambda s, c: s.submission(1, [status(1, c.revoked_at, c.revocation, Status.SUSPENDED)])),
        Code.FAILED_PRECONDITION,
        "STATUS_FINAL",
        (),
        lambda s, c: {"index": str(c.revocation)},
    ),
    Case(
        "a change that follows nothing",
        submit(lambda s, c: s.submission(1, [status(1, c.revoked_at, c.revoked_at, Status.SUSPENDED)])),
        Code.ABORTED,
        "STATUS_STALE",
        (),
        lambda s, c: {"index": str(c.revocation)},
    ),
    Case(
        "the same document twice",
        submit(lambda s, c: s.submission(1, [c.taken])),
        Code.ALREADY_EXISTS,
        "DUPLICATE_ISSUE",
        (),
        lambda s, c: {"index": str(c.taken_at), "where": "record 0"},
    ),
    Case(
        "above the daily cap",
        submit(lambda s, c: s.submission(c.capped)),
        Code.RESOURCE_EXHAUSTED,
        "DAILY_CAP",
    ),
    # SubmitBulk
    Case(
        "an empty bulk",
        lambda s, c: ("SubmitBulk", s.bulk()),
        Code.INVALID_ARGUMENT,
        "MALFORMED",
        ("submissions",),
    ),
    Case(
        "a bulk of 65",
        lambda s, c: ("SubmitBulk", s.bulk(*[M.Submission()] * 65)),
        Code.INVALID_ARGUMENT,
        "TOO_LARGE",
        ("submissions",),
    ),
    Case(
        "a bulk for another ledger",
        read("SubmitBulk", M.SubmitBulkRequest(genesis=b"\1" * 32)),
        Code.FAILED_PRECONDITION,
        "WRONG_LEDGER",
    ),
    # ChangeRegistry
    Case(
        "a change without genesis",
        read("ChangeRegistry", M.ChangeRegistryRequest()),
        Code.INVALID_ARGUMENT,
        "MALFORMED",
        ("genesis",),
    ),
    Case(
        "an empty change",
        lambda s, c: ("ChangeRegistry", M.ChangeRegistryRequest(genesis=s.genesis)),
        Code.INVALID_ARGUMENT,
        "MALFORMED_LEAF",
        ("leaf",),
    ),
    Case(
        "one authority key of two",
        change("agency/1", lambda c: changes.AgencyReinstated(), keys=(1,)),
        Code.PERMISSION_DENIED,
        "TOO_FEW_SIGNATURES",
    ),
    Case(
        "an agency suspending itself",
        lambda s, c: (
            "ChangeRegistry",
            s.change_request(
                Subject("agency", c.registrar), changes.AgencySuspended(), by=c.registrar, keys=(2,)
            ),
        ),
        Code.PERMISSION_DENIED,
        "NOT_ENTITLED",
    ),
    Case(
        "a change of what is not there",
        change("agency/4000", lambda c: changes.AgencySuspended(), previous=NONE),
        Code.NOT_FOUND,
        "UNKNOWN_AGENCY",
    ),
    Case(
        "a change on an older record",
        change("agency/1", lambda c: changes.AgencyRenamed({"en": "Late"}), previous=0),
        Code.ABORTED,
        "REGISTRY_CONFLICT",
        (),
        lambda s, c: {"index": str(s.node.ledger.published.state.registry.changed(Subject("agency", 1)))},
    ),
    Case(
        "a key registered before",
        lambda s, c: (
            "ChangeRegistry",
            s.change_request(
                Subject("agency", c.roleless), changes.KeysAdded((new_key(2, s.keys[1][1], "submit"),))
            ),
        ),
        Code.ALREADY_EXISTS,
        "KEY_REUSED",
    ),
    Case(
        "an agency that skips a number",
        change(
            "agency/90",
            lambda c: changes.AgencyEnrolled(
                {"en": "Ninety"}, 0, changes.Entitlement((), (), SigningPolicy())
            ),
        ),
        Code.FAILED_PRECONDITION,
        "CHANGE_REFUSED",
    ),
    # reads
    Case(
        "a checkpoint beyond the tree",
        beyond("GetCheckpoint", M.GetCheckpointRequest, "size"),
        Code.OUT_OF_RANGE,
        "OUT_OF_RANGE",
    ),
    Case(
        "a checkpoint within a block",
        read("GetCheckpoint", M.GetCheckpointRequest(size=1)),
        Code.NOT_FOUND,
        "NOT_FOUND",
    ),
    Case(
        "a leaf beyond the tree",
        beyond("GetInclusionProof", M.GetInclusionProofRequest, "index"),
        Code.OUT_OF_RANGE,
        "OUT_OF_RANGE",
    ),
    Case(
        "a leaf beyond the size asked for",
        read("GetInclusionProof", M.GetInclusionProofRequest(index=2, tree_size=2)),
        Code.OUT_OF_RANGE,
        "OUT_OF_RANGE",
    ),
    Case(
        "a proof beyond the tree",
        beyond("GetInclusionProof", M.GetInclusionProofRequest, "tree_size"),
        Code.OUT_OF_RANGE,
        "OUT_OF_RANGE",
    ),
    Case(
        "a proof in a size of 2^64-1",
        read("GetInclusionProof", M.GetInclusionProofRequest(index=2**64 - 1, tree_size=2**64 - 1)),
        Code.OUT_OF_RANGE,
        "OUT_OF_RANGE",
    ),
    Case(
        "a proof to a size within a block",
        read("GetInclusionProof", M.GetInclusionProofRequest(index=0, tree_size=3)),
        Code.NOT_FOUND,
        "NOT_FOUND",
    ),
    Case(
        "proofs of nothing",
        read("GetInclusionProofs", M.GetInclusionProofsRequest()),
        Code.INVALID_ARGUMENT,
        "MALFORMED",
        ("indexes",),
    ),
    Case(
        "1,025 proofs",
        read("GetInclusionProofs", M.GetInclusionProofsRequest(indexes=TOO_MANY)),
        Code.INVALID_ARGUMENT,
        "TOO_LARGE",
        ("indexes",),
    ),
    Case(
        "one of many beyond the tree",
        read("GetInclusionProofs", M.GetInclusionProofsRequest(indexes=[0, 2**63])),
        Code.OUT_OF_RANGE,
        "OUT_OF_RANGE",
    ),
    Case(
        "growth out of nothing",
        read("GetConsistencyProof", M.GetConsistencyProofRequest()),
        Code.INVALID_ARGUMENT,
        "MALFORMED",
        ("old_size",),
    ),
    Case(
        "growth backwards",
        read("GetConsistencyProof", M.GetConsistencyProofRequest(old_size=4, new_size=2)),
        Code.INVALID_ARGUMENT,
        "MALFORMED",
        ("old_size",),
    ),
    Case(
        "growth beyond the tree",
        beyond("GetConsistencyProof", M.GetConsistencyProofRequest, "new_size", old_size=1),
        Code.OUT_OF_RANGE,
        "OUT_OF_RANGE",
    ),
    Case(
        "growth out of a size beyond the tree",
        beyond("GetConsistencyProof", M.GetConsistencyProofRequest, "old_size"),
        Code.OUT_OF_RANGE,
        "OUT_OF_RANGE",
    ),
    Case(
        "growth to a size within a block",
        read("GetConsistencyProof", M.GetConsistencyProofRequest(old_size=1, new_size=3)),
        Code.NOT_FOUND,
        "NOT_FOUND",
    ),
    Case(
        "a commitment of 31 bytes",
        read("LookupCommitment", M.LookupCommitmentRequest(agency=1, commitment=bytes(31))),
        Code.INVALID_ARGUMENT,
        "MALFORMED",
        ("commitment",),
    ),
    Case(
        "a commitment of nobody",
        read("LookupCommitment", M.LookupCommitmentRequest(agency=2**32 - 1, commitment=bytes(32))),
        Code.NOT_FOUND,
        "UNKNOWN_AGENCY",
    ),
    Case(
        "a commitment never logged",
        read("LookupCommitment", M.LookupCommitmentRequest(agency=1, commitment=bytes(32))),
        Code.NOT_FOUND,
        "NOT_FOUND",
    ),
    *(
        Case(
            f"the record of {subject!a}",
            read("GetRegistryRecord", M.GetRegistryRecordRequest(subject=subject)),
            code,
            reason,
            ("subject",) if reason == "MALFORMED" else (),
        )
        for subject, code, reason in (
            ("", Code.INVALID_ARGUMENT, "MALFORMED"),
            ("agency/01", Code.INVALID_ARGUMENT, "MALFORMED"),
            ("agency/4294967296", Code.INVALID_ARGUMENT, "MALFORMED"),
            ("agency/1/key/0", Code.INVALID_ARGUMENT, "MALFORMED"),
            ("agency/1/key/65536", Code.INVALID_ARGUMENT, "MALFORMED"),
            ("agency/1/key/1 ", Code.INVALID_ARGUMENT, "MALFORMED"),
            ("دائرة/١", Code.INVALID_ARGUMENT, "MALFORMED"),
            ("x" * 100_000, Code.INVALID_ARGUMENT, "MALFORMED"),
            ("agency/4000", Code.NOT_FOUND, "UNKNOWN_AGENCY"),
            ("agency/4000/key/1", Code.NOT_FOUND, "UNKNOWN_AGENCY"),
            ("agency/1/key/40", Code.NOT_FOUND, "NOT_FOUND"),
            ("type/4000", Code.NOT_FOUND, "UNKNOWN_TYPE"),
        )
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.desc)
async def test_refusals(served: Served, cast: Cast, case: Case) -> None:
    method, request = case.build(served, cast)
    size = served.size
    found = await refusal(getattr(served.stub, method)(request))
    assert (found.code, found.reason) == (case.code, case.reason), found.message
    assert found.info is not None
    assert found.info.domain == "sudur"
    assert case.metadata(served, cast).items() <= dict(found.info.metadata).items()
    assert found.fields == list(case.fields)
    assert (found.retry is not None) == (case.code in (Code.RESOURCE_EXHAUSTED, Code.UNAVAILABLE))
    assert found.message
    assert served.size == size
    await assert_serving(served)


@pytest.mark.parametrize(
    ("request_", "code", "reason"),
    [
        (M.StreamEntriesRequest(start=5, end=4), Code.INVALID_ARGUMENT, "MALFORMED"),
        (M.StreamEntriesRequest(start=2**63), Code.OUT_OF_RANGE, "OUT_OF_RANGE"),
        (M.StreamEntriesRequest(end=2**64 - 1), Code.OUT_OF_RANGE, "OUT_OF_RANGE"),
    ],
)
async def test_streams_are_refused_before_they_begin(
    served: Served, request_: M.StreamEntriesRequest, code: grpc.StatusCode, reason: str
) -> None:
    found = await refusal(served.stub.StreamEntries(request_).read())
    assert (found.code, found.reason) == (code, reason)
    await assert_serving(served)


async def test_two_signatures_where_two_are_needed(served: Served, cast: Cast) -> None:
    answer = await served.stub.Submit(served.request(served.submission(cast.four_eyes, keys=(1, 2))))
    assert answer.placement.record_count == 1


async def test_a_message_above_the_limit_is_not_parsed(served: Served) -> None:
    request = served.request(M.Submission(leaf=bytes(4 << 20)))
    found = await refusal(served.stub.Submit(request))
    assert (found.code, found.info) == (Code.RESOURCE_EXHAUSTED, None)
    await assert_serving(served)


def raw_call(served: Served, method: str, data: bytes) -> Any:
    """A call whose request message is ``data``, whatever that is."""
    channel: Any = served.channel
    return channel.unary_unary(f"/sudur.v1.LedgerService/{method}")(data)


async def test_bytes_that_are_no_message(served: Served) -> None:
    for method in ("Submit", "SubmitBulk", "ChangeRegistry", "GetInclusionProof", "GetRegistryRecord"):
        for data in (b"\xff\xff\xff\xff", b"\x0a\x05\x00"):
            found = await refusal(raw_call(served, method, data))
            assert (found.code, found.reason) == (Code.INVALID_ARGUMENT, "MALFORMED"), (method, data)
    found = await refusal(raw_call(served, "GetRegistryRecord", b"\x0a\x02\xff\xfe"))  # not UTF-8
    assert (found.code, found.reason, found.fields) == (Code.INVALID_ARGUMENT, "MALFORMED", ["request"])
    assert (await refusal(raw_call(served, "NoSuchMethod", b""))).code is Code.UNIMPLEMENTED
    await assert_serving(served)


async def test_a_call_whose_deadline_passed_is_not_answered(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[tuple[Any, Any]] = []
    sequencer = served.node.ledger.sequencer
    with monkeypatch.context() as patch:
        patch.setattr(sequencer, "submit", lambda items, done: held.append((items, done)))
        request = served.request(served.submission(1))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.stub.Submit(request, timeout=0.05)
    assert caught.value.code() is Code.DEADLINE_EXCEEDED
    ((items, done),) = held
    # The queue moves at last. That answer has nobody to go to; the next one, of the same block, has.
    sequencer.submit(items, done)
    assert (await served.submit()).placement.record_count == 1
    assert (await served.stub.Submit(request)).placement.repeat
    await assert_serving(served)


async def test_one_caller_who_left_does_not_keep_answers_from_the_others(served: Served) -> None:
    calls = [served.stub.Submit(served.request(served.submission(1))) for _ in range(64)]
    running = [asyncio.ensure_future(call) for call in calls]
    await asyncio.sleep(0.005)
    for call in calls[::2]:
        call.cancel()
    answers = await asyncio.wait_for(asyncio.gather(*running[1::2]), 20)
    assert all(one.placement.record_count == 1 for one in answers)
    await asyncio.gather(*running, return_exceptions=True)
    await assert_serving(served)


async def test_a_stream_ends_at_its_deadline(served: Served) -> None:
    call = served.stub.WatchBlocks(M.WatchBlocksRequest(from_block=2**40), timeout=0.05)
    with pytest.raises(grpc.aio.AioRpcError) as late:
        await call.read()
    assert late.value.code() is Code.DEADLINE_EXCEEDED
    await assert_serving(served)


async def test_an_unexpected_error_tells_nothing_but_a_request_id(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(size: int) -> bytes:
        raise ZeroDivisionError("secret of the house")

    monkeypatch.setattr(served.node.ledger.store, "checkpoint", broken)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await served.stub.GetCheckpoint(M.GetCheckpointRequest(size=2))
    monkeypatch.undo()
    assert caught.value.code() is Code.INTERNAL
    assert "secret" not in str(caught.value)
    assert refused(caught.value).info is None
    request_info = error_details_pb2.RequestInfo.DESCRIPTOR.full_name
    assert request_info.encode() in dict(caught.value.trailing_metadata() or ())["grpc-status-details-bin"]
    await assert_serving(served)
