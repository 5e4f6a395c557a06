"""Envelopes over a real socket: who may put, get and drop one, and what a submission may name."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
import pytest_asyncio

from ledger import changes
from ledger.changes import Subject
from ledger.envelopes import MAX_ENVELOPE, Envelope, Verb, digest_of
from ledger.leaves import NONE
from ledger.records import NO_HASH, Answer, Outcome, Send, SendKind
from node.config import EnvelopeLimits
from node.disk import free_bytes
from node.letters.envelopes import may_name
from sudur.v1 import ledger_pb2
from tests.ledger.world import commitment, issue
from tests.node.letters import MINUTE_MS, Post, add_envelope_key
from tests.node.served import Refused, Served, refused, serve, taken_apart

pytestmark = pytest.mark.asyncio(loop_scope="module")

Code = grpc.StatusCode


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def post(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Post]:
    """Agency 1 writes to agency 2; agency 3 has no part in it."""
    async with serve(tmp_path_factory.mktemp("node") / "data") as served:
        await served.enrol(uses=("submit", "submit", "registry"))
        await served.enrol()
        yield Post(served, 1, 2, await add_envelope_key(served, 2))


async def refusal(call: Awaitable[Any]) -> Refused:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return refused(caught.value)


def send(envelope: bytes, recipient: int = 2, agency: int = 1) -> bytes:
    return Send(agency, recipient, commitment(0), SendKind.REQUEST, 0, NONE, envelope).encode()


# --- there and back ----------------------------------------------------------------------------


async def test_put_get_drop(post: Post) -> None:
    envelope = post.sealed(scan=bytes(40_000))
    answer = await post.served.stub.PutEnvelope(post.put_request(envelope))
    assert answer.digest == digest_of(envelope)
    ledger = await post.served.stub.GetLedger(ledger_pb2.GetLedgerRequest())
    assert 0 <= answer.kept_until_ms - ledger.server_time_ms - 60 * MINUTE_MS <= 6 * MINUTE_MS
    assert await post.get(answer.digest) == envelope
    assert await post.get(answer.digest, agency=1) == envelope
    assert await post.drop(answer.digest)
    assert not await post.drop(answer.digest)
    gone = await refusal(post.get(answer.digest))
    assert (gone.code, gone.reason) == (Code.NOT_FOUND, "NOT_FOUND")


async def test_the_largest_envelope_and_one_byte_more(post: Post) -> None:
    envelope = post.sealed(scan=bytes(65_000))
    assert len(envelope) == MAX_ENVELOPE
    assert await post.get(await post.put(envelope)) == envelope
    found = await refusal(post.put(envelope + b"\0"))
    assert (found.code, found.reason, found.fields) == (Code.INVALID_ARGUMENT, "TOO_LARGE", ["envelope"])


async def test_put_again_changes_nothing(post: Post) -> None:
    envelope = post.sealed()
    first = await post.served.stub.PutEnvelope(post.put_request(envelope))
    again = await post.served.stub.PutEnvelope(post.put_request(envelope))
    theirs = await post.served.stub.PutEnvelope(post.put_request(envelope, agency=3))
    assert first.digest == again.digest == theirs.digest
    assert first.kept_until_ms <= again.kept_until_ms <= theirs.kept_until_ms
    # Who put it second has it already, and gets no say in it.
    found = await refusal(post.get(first.digest, agency=3))
    assert found.reason == "NOT_ENTITLED"


async def test_a_request_may_be_repeated_within_its_minutes(post: Post) -> None:
    envelope = post.sealed()
    request = post.put_request(envelope, off_ms=-4 * MINUTE_MS)
    for _ in range(3):
        assert (await post.served.stub.PutEnvelope(request)).digest == digest_of(envelope)
    asked = post.authorization(Verb.GET, 2, digest_of(envelope), off_ms=4 * MINUTE_MS)
    get = ledger_pb2.GetEnvelopeRequest(
        genesis=post.served.genesis, authorization=asked, digest=digest_of(envelope)
    )
    for _ in range(3):
        assert (await post.served.stub.GetEnvelope(get)).envelope == envelope


async def test_a_successor_gets_and_drops(post: Post) -> None:
    served = post.served
    old, new = await served.enrol(), await served.enrol()
    to_old = replace(post, recipient=old, key=await add_envelope_key(served, old))
    digest = await to_old.put(to_old.sealed())
    assert (await refusal(to_old.get(digest, agency=new))).reason == "NOT_ENTITLED"
    await served.change(Subject("agency", old), changes.SuccessorNamed(new))
    assert digest_of(await to_old.get(digest, agency=new)) == digest
    assert await to_old.drop(digest, agency=new)


# --- who may not -------------------------------------------------------------------------------


@pytest.mark.parametrize("off_ms", [-6 * MINUTE_MS, 6 * MINUTE_MS])
async def test_a_request_of_another_time(post: Post, off_ms: int) -> None:
    for call in (
        post.put(post.sealed(), off_ms=off_ms),
        post.get(bytes(32), off_ms=off_ms),
        post.drop(bytes(32), off_ms=off_ms),
    ):
        found = await refusal(call)
        assert (found.code, found.reason) == (Code.FAILED_PRECONDITION, "CLAIMED_TIME_OUTSIDE_WINDOW")


async def test_only_who_it_is_for_drops_it(post: Post) -> None:
    envelope = post.sealed()
    digest = await post.put(envelope)
    for agency in (1, 3):
        found = await refusal(post.drop(digest, agency=agency))
        assert (found.code, found.reason) == (Code.PERMISSION_DENIED, "NOT_ENTITLED")
    found = await refusal(post.get(digest, agency=3))
    assert (found.code, found.reason) == (Code.PERMISSION_DENIED, "NOT_ENTITLED")
    assert await post.get(digest) == envelope


async def test_a_signature_is_for_one_request_alone(post: Post) -> None:
    envelope, other = post.sealed(), post.sealed()
    digest = await post.put(envelope)
    stub, genesis = post.served.stub, post.served.genesis
    drop_by_get = ledger_pb2.DropEnvelopeRequest(
        genesis=genesis, authorization=post.authorization(Verb.GET, 2, digest), digest=digest
    )
    other_digest = ledger_pb2.GetEnvelopeRequest(
        genesis=genesis, authorization=post.authorization(Verb.GET, 2, bytes(32)), digest=digest
    )
    moved = post.put_request(other)
    moved.envelope = envelope
    elsewhere = post.put_request(other, genesis=bytes(32))
    later = post.put_request(other)
    later.authorization.time_ms += 1
    other_key = post.authorization(Verb.GET, 2, digest)
    other_key.key_number = 2
    by_other_key = ledger_pb2.GetEnvelopeRequest(genesis=genesis, authorization=other_key, digest=digest)
    for call in (
        stub.DropEnvelope(drop_by_get),
        stub.GetEnvelope(other_digest),
        stub.PutEnvelope(moved),
        stub.PutEnvelope(elsewhere),
        stub.PutEnvelope(later),
        stub.GetEnvelope(by_other_key),
    ):
        found = await refusal(call)
        assert (found.code, found.reason) == (Code.UNAUTHENTICATED, "SIGNATURE_INVALID")
    assert await post.get(digest) == envelope


async def test_keys_that_may_not_ask(post: Post) -> None:
    served = post.served
    agency = await served.enrol(uses=("submit", "submit", "submit", "registry"))
    await served.change(Subject("agency", agency), changes.KeyEnded(2))
    await served.change(Subject("agency", agency), changes.KeyStolen(3, 0))
    asked = {2: "KEY_ENDED", 3: "KEY_STOLEN", 4: "KEY_USE"}
    for number, reason in asked.items():
        found = await refusal(post.put(post.sealed(), agency=agency, number=number))
        assert (found.code, found.reason) == (Code.PERMISSION_DENIED, reason)
    unknown = post.put_request(post.sealed(), agency=agency)
    unknown.authorization.key_number = 9
    found = await refusal(served.stub.PutEnvelope(unknown))
    assert (found.code, found.reason) == (Code.UNAUTHENTICATED, "KEY_UNKNOWN")
    nobody = post.put_request(post.sealed())
    nobody.authorization.agency = 4_000_000_000
    found = await refusal(served.stub.PutEnvelope(nobody))
    assert (found.code, found.reason) == (Code.NOT_FOUND, "UNKNOWN_AGENCY")
    await served.change(Subject("agency", agency), changes.AgencySuspended())
    found = await refusal(post.put(post.sealed(), agency=agency))
    assert (found.code, found.reason) == (Code.PERMISSION_DENIED, "AGENCY_SUSPENDED")


async def test_keys_that_nothing_may_be_sealed_to(post: Post) -> None:
    served = post.served
    agency = await served.enrol()
    ended, stolen = await add_envelope_key(served, agency), await add_envelope_key(served, agency)
    await served.change(Subject("agency", agency), changes.KeyEnded(ended))
    await served.change(Subject("agency", agency), changes.KeyStolen(stolen, 0))
    for number, reason in {1: "KEY_USE", ended: "KEY_ENDED", stolen: "KEY_STOLEN", 9: "KEY_UNKNOWN"}.items():
        to_it = replace(post, recipient=agency, key=number)
        assert (await refusal(to_it.put(to_it.sealed()))).reason == reason
    nobody = replace(post, recipient=4_000_000_000, key=1)
    assert (await refusal(nobody.put(nobody.sealed()))).reason == "UNKNOWN_AGENCY"


@pytest.mark.parametrize(
    ("spoil", "reason", "field"),
    [
        (lambda r: r.ClearField("genesis"), "MALFORMED", "genesis"),
        (lambda r: setattr(r, "genesis", bytes(32)), "WRONG_LEDGER", ""),
        (lambda r: setattr(r, "envelope", b""), "MALFORMED_ENVELOPE", "envelope"),
        (lambda r: setattr(r, "envelope", r.envelope[:-1]), "MALFORMED_ENVELOPE", "envelope"),
        (lambda r: setattr(r, "envelope", b"\x02" + r.envelope[1:]), "MALFORMED_ENVELOPE", "envelope"),
        (lambda r: setattr(r.authorization, "signature", b""), "SIGNATURE_INVALID", ""),
        (lambda r: r.ClearField("authorization"), "CLAIMED_TIME_OUTSIDE_WINDOW", ""),
    ],
)
async def test_what_cannot_be_read(
    post: Post, spoil: Callable[[Any], object], reason: str, field: str
) -> None:
    request = post.put_request(post.sealed())
    spoil(request)
    found = await refusal(post.served.stub.PutEnvelope(request))
    assert (found.reason, found.fields) == (reason, [field] if field else [])


async def test_a_digest_of_another_length(post: Post) -> None:
    for call in (post.get(b"short"), post.drop(bytes(33))):
        found = await refusal(call)
        assert (found.code, found.reason, found.fields) == (Code.INVALID_ARGUMENT, "MALFORMED", ["digest"])


# --- submissions that name one -----------------------------------------------------------------


async def reason_of(served: Served, records: list[bytes], agency: int = 1) -> str:
    """What a submission of these records is refused with; "" when it is taken."""
    try:
        await served.submit(agency, records)
    except grpc.aio.AioRpcError as error:
        return refused(error).reason
    return ""


async def test_an_envelope_that_is_not_here_cannot_be_named(post: Post) -> None:
    served = post.served
    size = served.size
    found = await refusal(served.submit(1, [send(NO_HASH), send(b"e" * 32)]))
    assert (found.code, found.reason) == (Code.FAILED_PRECONDITION, "ENVELOPE_MISSING")
    assert found.info is not None
    assert found.info.metadata["where"] == "record 1"
    answer = Answer(1, 0, Outcome.ANSWERED, commitment(1), b"e" * 32).encode()
    assert await reason_of(served, [answer]) == "ENVELOPE_MISSING"
    assert served.size == size


async def test_a_letter_and_its_reply(post: Post) -> None:
    served = post.served
    asker, asked = await served.enrol(roles=("request",)), await served.enrol()
    there = replace(post, sender=asker, recipient=asked, key=await add_envelope_key(served, asked))
    back = replace(post, sender=asked, recipient=asker, key=await add_envelope_key(served, asker))
    letter = await there.put(there.sealed("letter"))
    request = served.submission(asker, [send(letter, asked, asker)])
    index = (await served.stub.Submit(served.request(request))).placement.first_record_index
    assert digest_of(await there.get(letter)) == letter
    own = Answer(asked, index, Outcome.ANSWERED, commitment(1), letter).encode()
    assert await reason_of(served, [own], asked) == "ENVELOPE_WRONG_RECIPIENT"
    reply = await back.put(back.sealed("reply"))
    answer = Answer(asked, index, Outcome.ANSWERED, commitment(1), reply).encode()
    assert await reason_of(served, [answer], asked) == ""
    assert digest_of(await back.get(reply)) == reply
    assert await back.drop(reply)
    # The first answer is given again, though the envelope has gone.
    assert await there.drop(letter)
    assert (await served.stub.Submit(served.request(request))).placement.repeat
    assert await reason_of(served, [send(letter, asked, asker)], asker) == "ENVELOPE_MISSING"


async def test_an_envelope_for_another_agency_cannot_be_named(post: Post) -> None:
    digest = await post.put(post.sealed())
    found = await refusal(post.served.submit(1, [send(digest, recipient=3)]))
    assert (found.code, found.reason) == (Code.FAILED_PRECONDITION, "ENVELOPE_WRONG_RECIPIENT")


async def test_in_a_bulk_each_stands_alone(post: Post) -> None:
    served = post.served
    good, missing = served.submission(1), served.submission(1, [send(b"e" * 32)])
    bulk = await served.stub.SubmitBulk(served.bulk(missing, good, missing))
    kinds = [result.WhichOneof("outcome") for result in bulk.results]
    assert kinds == ["error", "placement", "error"]
    assert {taken_apart(bulk.results[n].error, Code.OK).reason for n in (0, 2)} == {"ENVELOPE_MISSING"}
    assert served.open(bulk.checkpoint).size >= bulk.results[1].placement.block_size
    alone = await served.stub.SubmitBulk(served.bulk(missing))
    assert taken_apart(alone.results[0].error, Code.OK).reason == "ENVELOPE_MISSING"


async def test_what_cannot_be_read_is_named_by_the_rules(post: Post) -> None:
    good = post.served.submission(1, [send(b"e" * 32)])
    for records in (good.records[:-1], good.records + b"\0", b"\0\1\1" + good.records):
        spoilt = ledger_pb2.Submission(leaf=good.leaf, records=records)
        found = await refusal(post.served.stub.Submit(post.served.request(spoilt)))
        assert found.reason == "MALFORMED_LEAF"
    spoilt = ledger_pb2.Submission(leaf=b"\x01\x20", records=good.records)
    found = await refusal(post.served.stub.Submit(post.served.request(spoilt)))
    assert (found.reason, found.fields) == ("MALFORMED_LEAF", ["submission.leaf"])


async def test_issues_alone_are_not_looked_through() -> None:
    issues = b"".join(b"\0\x29" + issue(1, n, 0) for n in range(256))
    assert not may_name(issues)
    assert not may_name(b"")
    assert may_name(b"\0\x55" + send(b"e" * 32))
    for position in (0, 1, 200):
        at = position * 43
        assert may_name(issues[:at] + b"\0\x55" + send(b"e" * 32) + issues[at:])


# --- room --------------------------------------------------------------------------------------


async def test_shares_and_the_whole(tmp_path: Path) -> None:
    limits = EnvelopeLimits(bytes=3 * 8192, agency_bytes=2 * 8192)
    async with serve(tmp_path / "data", envelopes=limits) as served:
        await served.enrol()
        post = Post(served, 1, 2, await add_envelope_key(served, 2))
        small = [post.sealed() for _ in range(8)]
        size = len(small[0])
        assert size < 8192
        calls = [post.put(one) for one in small]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        refusals = [refused(one) for one in outcomes if isinstance(one, grpc.aio.AioRpcError)]
        assert len(refusals) == 8 - 2 * 8192 // size
        assert {(one.code, one.reason) for one in refusals} == {(Code.RESOURCE_EXHAUSTED, "ENVELOPE_QUOTA")}
        assert all(one.retry is not None and one.retry.retry_delay.seconds == 60 for one in refusals)
        assert "share" in refusals[0].message
        kept = [one for one, done in zip(small, outcomes, strict=True) if isinstance(done, bytes)]
        assert await post.put(kept[0]) == digest_of(kept[0])  # what is here takes no more room
        for _ in range((3 * 8192 - len(kept) * size) // size):
            await post.put(post.sealed(), agency=2)
        full = await refusal(post.put(post.sealed(), agency=2))
        assert (full.reason, "and no more" in full.message) == ("ENVELOPE_QUOTA", True)
        assert await post.drop(digest_of(kept[0]))
        await post.put(post.sealed())


async def test_a_full_disk(tmp_path: Path) -> None:
    async with serve(tmp_path / "data") as served:
        await served.enrol()
        number = await add_envelope_key(served, 2)
    floor = free_bytes(tmp_path) + (1 << 40)
    async with serve(tmp_path / "data", disk_floor=floor) as served:
        served.keys[2] = {1: served.keys[1][1]}
        post = Post(served, 1, 2, number)
        found = await refusal(post.put(post.sealed()))
        assert (found.code, found.reason) == (Code.RESOURCE_EXHAUSTED, "DISK_FULL")
        assert found.retry is not None


async def test_metrics(tmp_path: Path) -> None:
    async with serve(tmp_path / "data") as served:
        await served.enrol()
        post = Post(served, 1, 2, await add_envelope_key(served, 2))
        sizes = []
        for _ in range(3):
            envelope = post.sealed()
            sizes.append(len(envelope))
            digest = await post.put(envelope)
        await post.get(digest)
        await post.drop(digest)
        lines = (await served.http.get("/metrics")).text.splitlines()
        for wanted in (
            "sudur_envelopes_held 2.0",
            f"sudur_envelope_bytes {sum(sizes[:2]):.1f}",
            "sudur_envelopes_put_total 3.0",
            "sudur_envelopes_fetched_total 1.0",
            "sudur_envelopes_dropped_total 1.0",
        ):
            assert wanted in lines


# --- on the disk -------------------------------------------------------------------------------


def everything(directory: Path) -> bytes:
    """Every byte of every file below a directory."""
    return b"".join(path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file())


async def test_nothing_readable_lies_on_a_nodes_disk(tmp_path: Path) -> None:
    data = tmp_path / "data"
    secret = "زينب عبد الرحمن Zaynab 19980417"
    scan = b"a scan that nobody else may see"
    written = [secret.encode(), secret.encode("utf-16-le"), secret.encode("utf-16-be"), scan]
    written += [base64.b64encode(bytes(shift) + secret.encode())[4:-4] for shift in range(3)]
    async with serve(data) as served:
        await served.enrol()
        post = Post(served, 1, 2, await add_envelope_key(served, 2))
        envelope = post.sealed(secret, scan)
        digest = await post.put(envelope)
        await served.submit()
        await reason_of(served, [send(digest)])
        seen = everything(data)
        assert envelope[:64] in seen, "the test looks in the wrong place"
        assert [one for one in written if one in seen] == []
        assert digest_of(await post.get(digest)) == digest
        inside = Envelope.decode(envelope).ciphertext
        pieces = [inside[at : at + 32] for at in range(0, len(inside) - 32, 500)]
        assert await post.drop(digest)
    seen = everything(data)
    assert [one for one in pieces if one in seen] == []
    for path in (data / "envelopes").iterdir():
        assert path.stat().st_mode & 0o077 == 0


async def test_what_was_put_survives_a_restart(tmp_path: Path) -> None:
    async with serve(tmp_path / "data") as served:
        await served.enrol()
        number = await add_envelope_key(served, 2)
        post = Post(served, 1, 2, number)
        envelope = post.sealed()
        digest = await post.put(envelope)
        keys = served.keys
    async with serve(tmp_path / "data") as served:
        served.keys.update(keys)
        assert await Post(served, 1, 2, number).get(digest) == envelope
