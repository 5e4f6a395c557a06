"""Portable proofs over HTTP: one resource in three forms, tokens, keys, and a node that has no key."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode, urlsafe_b64decode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import cbor2
import httpx
import pytest
import pytest_asyncio
import scitt_cose
from joserfc import jwt
from joserfc.jwk import KeySet

from ledger.cose_receipts import parse_cose_receipt
from ledger.errors import OutOfRange
from ledger.notes import VerifierKey, parse_note
from ledger.presented_documents import parse_presented
from ledger.proofs import verify_inclusion
from ledger.receipt_keys import KeyStatement, open_statement, parse_statement
from ledger.records import Status
from ledger.status import read_status
from ledger.status_tokens import StatusToken, open_status_token
from ledger.tlog_proof import parse_tlog_proof
from ledger.trust import TrustedLedger
from node.doors.portable import TOKEN_LIFE_S, TOKEN_TTL_S, PortableProofs, ReceiptSigning
from node.doors.reads import Reads
from node.errors import NotPublished, ReadOnly
from tests.ledger.world import ORIGIN, issue, log_key, signer, status
from tests.node.served import Served, serve
from tests.node.world import World, placed, submit
from tests.witnesses import cosigned, policy

pytestmark = pytest.mark.asyncio(loop_scope="module")

PUBLIC_URL = "https://ledger.example/a"
KEYS = (signer("receipts"), signer("receipts before"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    more: dict[str, Any] = {"receipt_keys": KEYS, "public_url": PUBLIC_URL}
    async with serve(tmp_path_factory.mktemp("node") / "data", **more) as one:
        await one.submit(1, [issue(1, f"first {i}", 0) for i in range(40)])
        yield one


def trusted(served: Served) -> TrustedLedger:
    return TrustedLedger.founded(served.genesis, ORIGIN, [VerifierKey.parse(log_key("log"))])


async def get(served: Served, path: str, accept: str | None = None) -> httpx.Response:
    headers = {} if accept is None else {"accept": accept}
    answer = await served.http.get(path, headers=headers)
    assert answer.headers["access-control-allow-origin"] == "*"
    return answer


async def statement(served: Served) -> KeyStatement:
    answer = await get(served, "/receipt-keys")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    return open_statement(answer.content, trusted(served))


async def an_issue(served: Served) -> int:
    placed = await served.submit(1, [issue(1, served.fresh_name(), 0)])
    return placed.placement.first_record_index


async def test_one_resource_has_three_forms(served: Served) -> None:
    index = await an_issue(served)
    path = f"/v1/receipt/{index}"
    plain = await get(served, path, "text/plain")
    cose = await get(served, path, "application/cose")
    found = await get(served, path, "application/json")
    types = [answer.headers["content-type"] for answer in (plain, cose, found)]
    assert types == ["text/plain; charset=utf-8", "application/cose", "application/json"]
    for answer in (plain, cose, found):
        assert (answer.status_code, answer.headers["vary"]) == (200, "Accept")
        assert answer.headers["cache-control"] == "no-cache"

    proof = parse_tlog_proof(plain.content)
    leaf = parse_presented(proof.extra).leaf
    checkpoint = trusted(served).open(proof.checkpoint).checkpoint
    proof.check(leaf, checkpoint)

    receipt = parse_cose_receipt(cose.content)
    assert receipt.verify(leaf, await statement(served)) == checkpoint.root
    assert (receipt.inclusion.index, receipt.inclusion.size) == (index, checkpoint.size)

    said = found.json()
    assert (b64decode(said["leaf"]), said["checkpoint"].encode()) == (leaf, proof.checkpoint)
    hashes = [bytes.fromhex(one) for one in said["path"]]
    verify_inclusion(bytes.fromhex(said["leaf_hash"]), index, said["size"], hashes, checkpoint.root)
    assert said["status"] == {"status_list": {"idx": index, "uri": f"{PUBLIC_URL}/status/token/0"}}


async def test_what_has_no_status_names_none(served: Served) -> None:
    assert (await get(served, "/v1/receipt/0")).json()["status"] is None
    plain = (await get(served, "/v1/receipt/0", "text/*")).content
    assert parse_presented(parse_tlog_proof(plain).extra).document is None


async def test_no_form_that_is_asked_for(served: Served) -> None:
    answer = await get(served, "/v1/receipt/0", "text/html, image/*")
    assert answer.status_code == 406
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.headers["vary"], answer.headers["cache-control"]) == ("Accept", "no-store")
    body = answer.json()
    assert body["code"] == "NOT_ACCEPTABLE"
    for form in ("application/json", "text/plain", "application/cose"):
        assert form in body["fix"]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v1/receipt/99999999", "OUT_OF_RANGE"),
        ("/status/token/1", "NOT_FOUND"),
        ("/status/token/18446744073709551615", "NOT_FOUND"),
        ("/v1/receipt/01", "MALFORMED"),
        ("/status/token/x", "MALFORMED"),
    ],
)
async def test_what_is_not_there(served: Served, path: str, code: str) -> None:
    for accept in (None, "text/plain", "application/cose"):
        answer = await get(served, path, accept)
        assert (answer.status_code, answer.json()["code"]) == (422 if code == "MALFORMED" else 404, code)


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated via RFC 9864")
async def test_other_libraries_verify_with_the_published_keys(served: Served) -> None:
    index = await an_issue(served)
    cose = (await get(served, f"/v1/receipt/{index}", "application/cose")).content
    leaf = b64decode((await get(served, f"/v1/receipt/{index}")).json()["leaf"])
    key_set = await get(served, "/.well-known/scitt-keys")
    assert key_set.headers["content-type"] == "application/cbor"
    keys = {key[2]: key[-2] for key in cbor2.loads(key_set.content)}
    kid = cbor2.loads(cbor2.loads(cose).value[0])[4]
    body = b64encode(bytes.fromhex("302a300506032b6570032100") + keys[kid]).decode()
    pem = f"-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n"
    result = scitt_cose.verify_receipt(cose, leaf_entry_hex=leaf.hex(), log_public_key_pem=pem)
    assert (result.ok, result.leaf_index, result.issuer) == (True, index, ORIGIN)

    token = await get(served, "/status/token/0")
    assert token.headers["content-type"] == "application/statuslist+jwt"
    jwks = await get(served, "/.well-known/jwks.json")
    assert jwks.headers["content-type"] == "application/jwk-set+json"
    found = jwt.decode(token.text, KeySet.import_key_set(jwks.json()), algorithms=["EdDSA"])
    assert found.claims["sub"] == f"{PUBLIC_URL}/status/token/0"


async def test_a_revocation_shows_in_the_next_token(served: Served) -> None:
    index = await an_issue(served)
    said = await statement(served)
    before = open_status_token((await get(served, "/status/token/0")).content, said)
    await served.submit(1, [status(1, index, index, Status.REVOKED)])
    answer = await get(served, "/status/token/0")
    after = open_status_token(answer.content, said)
    assert (read_status(before.chunk, index), read_status(after.chunk, index)) == (
        Status.VALID,
        Status.REVOKED,
    )
    assert after.expires_s - after.issued_s == TOKEN_LIFE_S
    assert (after.ttl_s, after.issued_s % 60) == (TOKEN_TTL_S, 0)
    assert answer.headers["cache-control"] == "public, max-age=60"
    assert "vary" not in answer.headers
    assert (await get(served, "/status/token/0")).content[:40] == answer.content[:40]


async def test_the_first_key_signs_and_all_are_stated(served: Served) -> None:
    said = await statement(served)
    assert [key.public_key for key in said.keys] == [one.public_key for one in KEYS]
    assert said.size <= served.size
    header = (await get(served, "/status/token/0")).text.partition(".")[0]
    assert json.loads(urlsafe_b64decode(header + "=="))["kid"] == said.keys[0].jose_kid


async def test_openapi_has_all_forms(served: Served) -> None:
    paths = (await get(served, "/openapi.json")).json()["paths"]
    answers = paths["/v1/receipt/{index}"]["get"]["responses"]
    assert set(answers["200"]["content"]) == {
        "application/json",
        "text/plain; charset=utf-8",
        "application/cose",
    }
    assert "application/problem+json" in answers["406"]["content"]
    assert {"404", "503"} <= set(paths["/status/token/{chunk}"]["get"]["responses"])


async def test_a_copy_that_may_be_behind_vouches_for_no_status(served: Served) -> None:
    copy = served.node.ledger
    behind = ["no leader"]
    minutes = iter((1_899_999_960_000, 1_900_000_019_999, 1_900_000_020_000))
    signing = ReceiptSigning.stated(KEYS, [signer("log")], copy)
    proofs = PortableProofs(copy, Reads(copy), signing, PUBLIC_URL, lambda: next(minutes), lambda: behind[0])
    with pytest.raises(ReadOnly, match="may not be the newest"):
        proofs.status_token(0)
    assert proofs.cose_receipt(0).data
    behind[0] = ""
    first, second, third = (proofs.status_token(0).data for _ in range(3))
    assert first == second != third
    assert open_status_token(third, await statement(served)).issued_s == 1_900_000_020


async def test_until_enough_witnesses_have_seen_it_nothing_is_proven(tmp_path: Path) -> None:
    """And while something newer waits for them, a token is as of what is published, not as of now."""
    world = World(policy=policy(1, "one"))
    node = world.furnished(tmp_path / "data")
    now = node.published.state.time_ms + 3_600_000
    try:
        signing = ReceiptSigning.stated(KEYS, [signer("log")], node)
        assert signing is not None
        proofs = PortableProofs(node, Reads(node), signing, PUBLIC_URL, lambda: now, lambda: "")
        for form in (proofs.tlog_proof, proofs.cose_receipt, proofs.status_token):
            with pytest.raises(NotPublished):
                form(0)
        size, sealed_s = node.published.size, node.published.state.time_ms // 1_000
        node.witnessed.take(size, [cosigned(node.store.checkpoint(size), "one", sealed_s)])
        assert token_of(proofs, signing).issued_s == now // 60_000 * 60
        placed(submit(node.sequencer, world.issues())[0][0])
        assert node.published.size > size
        held = token_of(proofs, signing)
        assert (held.size, held.issued_s) == (size, sealed_s // 60 * 60)
        assert parse_cose_receipt(proofs.cose_receipt(0).data).inclusion.size == size
        with pytest.raises(OutOfRange):
            proofs.tlog_proof(size)
    finally:
        node.close()


def token_of(proofs: PortableProofs, signing: ReceiptSigning) -> StatusToken:
    said = parse_statement(parse_note(signing.statement).text)
    return open_status_token(proofs.status_token(0).data, said)


async def test_a_node_without_a_receipt_key_says_so(tmp_path: Path) -> None:
    async with serve(tmp_path / "data") as one:
        for path in ("/status/token/0", "/receipt-keys", "/.well-known/jwks.json", "/.well-known/scitt-keys"):
            answer = await get(one, path)
            assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")
            assert "has no receipt key" in answer.json()["detail"]
        answer = await get(one, "/v1/receipt/0", "application/cose")
        assert answer.status_code == 406
        assert "no receipt key" in answer.json()["detail"]
        assert "cose" not in answer.json()["fix"]
        assert (await get(one, "/v1/receipt/0", "application/cose, text/plain;q=0.1")).status_code == 200
        assert (await get(one, "/v1/receipt/0")).json()["index"] == 0
