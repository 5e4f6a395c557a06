"""The HTTP API over a real socket: static resources that prove themselves, JSON, problems, headers."""

from __future__ import annotations

import asyncio
import json
import re
from base64 import b64decode
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
import httpx
import pytest
import pytest_asyncio

from ledger import changes
from ledger.changes import Subject
from ledger.hashing import leaf_hash
from ledger.merkle_list import MerkleList
from ledger.proofs import verify_consistency, verify_inclusion
from ledger.records import Affirm, Answer, Attest, Outcome, Send, SendKind, Status, StatusChange
from ledger.registry_records import AgencyRecord, KeyRecord
from ledger.seals import Seal
from ledger.status import expand_chunk, read_status
from ledger.tiles import entries_path, parse_bundle, tile_path
from node.doors.http_models import decode_leaf
from tests.ledger.world import ORIGIN, commitment, issue, signer, status
from tests.node.served import Served, serve

pytestmark = pytest.mark.asyncio(loop_scope="module")

IMMUTABLE = "public, max-age=31536000, immutable"
TEXT = "text/plain; charset=utf-8"
BYTES = "application/octet-stream"
JSON = "application/json"
PROBLEM = "application/problem+json"
ZEROS = "0" * 64


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    """A ledger of some 600 leaves, in which one document was revoked."""
    async with serve(tmp_path_factory.mktemp("node") / "data") as one:
        await one.define_type()
        await one.submit(1, [issue(1, f"first {i}", 0) for i in range(256)])
        placed = await one.submit(1, [issue(1, f"second {i}", 0) for i in range(256)])
        subject = placed.placement.first_record_index
        await one.submit(1, [status(1, subject, subject, Status.REVOKED)])
        await one.submit(1, [issue(1, f"third {i}", 0) for i in range(60)])
        yield one


async def get(served: Served, path: str, media_type: str, cache: str = IMMUTABLE) -> bytes:
    """A resource, after its headers were checked, and that HEAD has the same."""
    answer = await served.http.get(path)
    assert answer.status_code == 200, (path, answer.text)
    assert answer.headers["content-type"] == media_type
    assert answer.headers["cache-control"] == cache
    head = await served.http.head(path)
    assert (head.status_code, head.content) == (200, b"")
    if cache == IMMUTABLE:
        for name in ("content-type", "cache-control", "content-length"):
            assert head.headers[name] == answer.headers[name]
    return answer.content


async def get_json(served: Served, path: str, cache: str) -> Any:
    return json.loads(await get(served, path, JSON, cache))


async def problem(served: Served, path: str, method: str = "GET") -> dict[str, Any]:
    """What a request that must fail was answered."""
    answer = await served.http.request(method, path)
    assert answer.status_code >= 400, path
    assert answer.headers["content-type"] == PROBLEM
    assert answer.headers["cache-control"] == "no-store"
    body: dict[str, Any] = answer.json()
    assert body["status"] == answer.status_code
    assert body["type"] == f"urn:sudur:error:{body['code']}"
    assert body["title"]
    assert body["detail"]
    return body


# --- static resources --------------------------------------------------------------------------


async def test_checkpoints(served: Served) -> None:
    newest = await get(served, "/checkpoint", TEXT, "no-cache")
    assert served.open(newest).size == served.size
    assert await get(served, f"/checkpoint/{served.size}", TEXT) == newest
    assert served.open(await get(served, "/checkpoint/2", TEXT)).size == 2


async def test_tiles_and_bundles_prove_themselves(served: Served) -> None:
    size = served.size
    assert size > 512
    leaves: list[bytes] = []
    for number in range(-(-size // 256)):
        width = min(256, size - 256 * number)
        bundle = await get(served, "/" + entries_path(number, width), BYTES)
        part = parse_bundle(bundle)
        tile = await get(served, "/" + tile_path(0, number, width), BYTES)
        assert tile == b"".join(map(leaf_hash, part))
        leaves += part
    checkpoint = served.open(await get(served, "/checkpoint", TEXT, "no-cache"))
    assert MerkleList.of(map(leaf_hash, leaves)).root == checkpoint.root
    upper = await get(served, "/" + tile_path(1, 0, 2), BYTES)
    for at in (0, 1):
        row = map(leaf_hash, leaves[256 * at : 256 * (at + 1)])
        assert upper[32 * at : 32 * (at + 1)] == MerkleList.of(row).root


async def test_partial_tiles_of_past_sizes_stay(served: Served) -> None:
    full = await get(served, "/tile/0/000", BYTES)
    entries = parse_bundle(await get(served, "/tile/entries/000", BYTES))
    for width in (1, 2, 17, 255):
        assert await get(served, f"/tile/0/000.p/{width}", BYTES) == full[: 32 * width]
        assert parse_bundle(await get(served, f"/tile/entries/000.p/{width}", BYTES)) == entries[:width]


async def test_what_is_being_written_is_never_served(served: Served) -> None:
    async def write() -> None:
        for _ in range(60):
            await served.submit()

    writing = asyncio.create_task(write())
    while not writing.done():
        checkpoint = served.open((await served.http.get("/checkpoint")).content)
        number, width = (checkpoint.size - 1) // 256, (checkpoint.size - 1) % 256 + 1
        entries = parse_bundle((await served.http.get("/" + entries_path(number, width))).content)
        assert len(entries) == width
        tile = (await served.http.get("/" + tile_path(0, number, width))).content
        assert tile == b"".join(map(leaf_hash, entries))
    await writing


async def test_status_is_proven_from_static_resources_alone(served: Served) -> None:
    size = served.size
    last = size - 1
    width = last % 256 + 1
    seal = Seal.decode(parse_bundle(await get(served, f"/tile/entries/00{last // 256}.p/{width}", BYTES))[-1])
    listed = await get(served, f"/status/list/{seal.status_root.hex()}", BYTES)
    hashes = [listed[at : at + 32] for at in range(0, len(listed), 32)]
    assert MerkleList.of(hashes).root == seal.status_root
    chunk = expand_chunk(await get(served, f"/status/chunk/{hashes[0].hex()}", BYTES))
    assert leaf_hash(chunk) == hashes[0]
    found = await served.http.get(f"/v1/lookup/1/{commitment('second 0').hex()}")
    (index,) = found.json()["indexes"]
    assert read_status(chunk, index) is Status.REVOKED
    assert read_status(chunk, index + 1) is Status.VALID


async def test_the_empty_status_chunk_is_there(served: Served) -> None:
    seal = Seal.decode(served.node.ledger.store.leaf(1))
    listed = await get(served, f"/status/list/{seal.status_root.hex()}", BYTES)
    assert expand_chunk(await get(served, f"/status/chunk/{listed.hex()}", BYTES)) == bytes(16_384)


async def test_the_registry_is_proven_from_static_resources_alone(served: Served) -> None:
    seal = Seal.decode(served.node.ledger.store.leaf(served.size - 1))
    records = len(served.node.ledger.published.state.registry.tree)
    tile = await get(served, f"/registry/tile/{seal.registry_root.hex()}/0/000.p/{records}", BYTES)
    hashes = [tile[at : at + 32] for at in range(0, len(tile), 32)]
    assert MerkleList.of(hashes).root == seal.registry_root
    first = await get(served, f"/registry/tile/{seal.registry_root.hex()}/0/000.p/1", BYTES)
    assert first == hashes[0]
    record = await get(served, f"/registry/record/{hashes[1].hex()}", JSON)
    assert leaf_hash(record) == hashes[1]
    agency = AgencyRecord.decode(record)
    keys = await get(served, f"/registry/tile/{agency.keys_root.hex()}/0/000.p/1", BYTES)
    assert KeyRecord.decode(await get(served, f"/registry/record/{keys.hex()}", JSON)).number == 1


async def test_a_registry_of_more_than_a_tile_has_upper_tiles(served: Served) -> None:
    subject = Subject("agency", 1)
    for first in range(2, 266, 66):
        keys = [signer(f"agency 1 bulk key {n}") for n in range(first, first + 64)]
        added = [
            changes.NewKey(n, key.algorithm, key.public_key, "submit", "")
            for n, key in enumerate(keys, len(served.node.ledger.published.state.registry.agency(1).keys) + 1)
        ]
        await served.change(subject, changes.KeysAdded(tuple(added)))
    agency = served.node.ledger.published.state.registry.agency(1)
    root = agency.record.keys_root.hex()
    assert len(agency.keys) == 257
    full = await get(served, f"/registry/tile/{root}/0/000", BYTES)
    upper = await get(served, f"/registry/tile/{root}/1/000.p/1", BYTES)
    assert upper == MerkleList.of(full[at : at + 32] for at in range(0, len(full), 32)).root
    tail = await get(served, f"/registry/tile/{root}/0/001.p/1", BYTES)
    assert MerkleList.of([upper, tail]).root == agency.record.keys_root
    assert (await problem(served, f"/registry/tile/{root}/0/001.p/2"))["code"] == "NOT_FOUND"
    assert (await problem(served, f"/registry/tile/{root}/1/000"))["code"] == "NOT_FOUND"


# --- JSON --------------------------------------------------------------------------------------


async def test_ledger(served: Served) -> None:
    ledger = await get_json(served, "/v1/ledger", "no-cache")
    assert ledger["genesis"] == served.genesis.hex()
    assert (ledger["origin"], ledger["training"], ledger["size"]) == (ORIGIN, True, served.size)
    checkpoint = served.open(ledger["checkpoint"].encode())
    assert (checkpoint.size, checkpoint.root.hex()) == (ledger["size"], ledger["root"])
    seal = Seal.decode(served.node.ledger.store.leaf(served.size - 1))
    assert (ledger["documents"], ledger["block"]) == (seal.documents, seal.block)
    assert (ledger["status_root"], ledger["registry_root"]) == (
        seal.status_root.hex(),
        seal.registry_root.hex(),
    )


async def test_proofs_verify_against_their_checkpoint(served: Served) -> None:
    for index, size in ((0, 2), (300, served.size), (served.size - 1, served.size)):
        found = await get_json(served, f"/v1/proof/inclusion/{index}/{size}", IMMUTABLE)
        checkpoint = served.open(found["checkpoint"].encode())
        assert (found["index"], found["size"], checkpoint.size) == (index, size, size)
        path = [bytes.fromhex(one) for one in found["path"]]
        verify_inclusion(bytes.fromhex(found["leaf_hash"]), index, size, path, checkpoint.root)
    found = await get_json(served, f"/v1/proof/consistency/2/{served.size}", IMMUTABLE)
    new = served.open(found["checkpoint"].encode())
    old = served.open(await get(served, "/checkpoint/2", TEXT))
    path = [bytes.fromhex(one) for one in found["path"]]
    verify_consistency(2, old.root, new.size, new.root, path)


async def test_every_kind_of_leaf_in_the_log_is_decoded(served: Served) -> None:
    kinds = set()
    for index in (*range(16), *range(served.size - 70, served.size)):
        entry = await get_json(served, f"/v1/entry/{index}", "public, max-age=86400")
        leaf = b64decode(entry["leaf"])
        assert leaf == served.node.ledger.store.leaf(index)
        assert entry["leaf_hash"] == leaf_hash(leaf).hex()
        assert entry["index"] == index < entry["block_size"]
        kinds.add(entry["content"]["kind"])
    assert {"REGISTRY", "SUBMISSION", "SEAL", "ISSUE"} <= kinds
    genesis = (await get_json(served, "/v1/entry/0", "public, max-age=86400"))["content"]
    assert genesis["change"]["change"] == "genesis"
    assert [one["number"] for one in genesis["signatures"]] == [1, 2, 3]


@pytest.mark.parametrize(
    ("leaf", "content"),
    [
        (
            StatusChange(7, 1, 2, Status.SUPERSEDED, 3, 4).encode(),
            {"kind": "STATUS", "agency": 7, "subject": 1, "previous": 2, "status": "superseded"}
            | {"reason": 3, "replacement": 4},
        ),
        (
            StatusChange(7, 1, 2, Status.REVOKED, 0, 2**64 - 1).encode(),
            {"kind": "STATUS", "agency": 7, "subject": 1, "previous": 2, "status": "revoked"}
            | {"reason": 0, "replacement": None},
        ),
        (
            Attest(7, 1, 2, bytes(32)).encode(),
            {"kind": "ATTEST", "agency": 7, "subject": 1, "attestation": 2, "commitment": ZEROS},
        ),
        (
            Send(7, 8, bytes(32), SendKind.CIRCULATED, 30, 2**64 - 1, bytes(32)).encode(),
            {"kind": "SEND", "agency": 7, "recipient": 8, "commitment": ZEROS, "sent": "circulated"}
            | {"due_days": 30, "follows": None, "envelope": ZEROS},
        ),
        (
            Answer(7, 1, Outcome.RETURNED, bytes(32), bytes(32)).encode(),
            {"kind": "ANSWER", "agency": 7, "subject": 1, "outcome": "returned"}
            | {"commitment": ZEROS, "envelope": ZEROS},
        ),
        (
            Affirm(7, 8, 1, 2).encode(),
            {"kind": "AFFIRM", "agency": 7, "target": 8, "first": 1, "last": 2},
        ),
    ],
    ids=lambda value: value.get("kind", "") if isinstance(value, dict) else "",
)
async def test_leaves_that_are_not_in_this_log_are_decoded_too(leaf: bytes, content: dict[str, Any]) -> None:
    assert decode_leaf(leaf).model_dump() == content


async def test_lookup(served: Served) -> None:
    wanted = commitment("first 3").hex()
    found = await get_json(served, f"/v1/lookup/1/{wanted}", "no-cache")
    assert (found["agency"], found["commitment"], found["size"]) == (1, wanted, served.size)
    (index,) = found["indexes"]
    content = (await get_json(served, f"/v1/entry/{index}", "public, max-age=86400"))["content"]
    assert content == {
        "kind": "ISSUE",
        "agency": 1,
        "document_type": 0,
        "basis": "original",
        "commitment": wanted,
    }


async def test_openapi_describes_every_path_with_examples(served: Served) -> None:
    schema = await get_json(served, "/openapi.json", "no-cache")
    assert schema["openapi"].startswith("3.")
    paths = schema["paths"]
    for path in ("/checkpoint", "/tile/entries/{position}", "/v1/entry/{index}", "/metrics", "/readyz"):
        assert paths[path]["get"]["summary"]
    entry = paths["/v1/entry/{index}"]["get"]
    assert {"200", "400", "404", "422"} <= entry["responses"].keys()
    assert PROBLEM in entry["responses"]["404"]["content"]
    models = schema["components"]["schemas"]
    assert all(models[name].get("description") for name in ("Entry", "LedgerInfo", "SealContent", "Problem"))
    assert models["Problem"]["properties"]["code"]["examples"]


# --- operations --------------------------------------------------------------------------------


async def test_operations(served: Served) -> None:
    assert (await get_json(served, "/healthz", "no-store")) == {"alive": True}
    ready = await get_json(served, "/readyz", "no-store")
    assert (ready["ready"], ready["reasons"], ready["size"]) == (True, [], served.size)


async def test_metrics(served: Served) -> None:
    await served.submit()
    with pytest.raises(grpc.aio.AioRpcError):
        await served.stub.Submit(served.request(served.submission(1, [issue(2, "x", 0)])))
    answer = await served.http.get("/metrics?name[]=sudur_tree_size")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    values = dict(re.findall(r"^(sudur_\S+) (\S+)$", answer.text, re.MULTILINE))
    assert float(values["sudur_tree_size"]) == served.size
    assert float(values["sudur_submissions_accepted_total"]) > 3
    assert float(values['sudur_submissions_refused_total{reason="FOREIGN_RECORD"}']) == 1
    assert float(values["sudur_records_total"]) > 500
    assert float(values["sudur_block_leaves_count"]) > 3
    assert float(values["sudur_last_seal_timestamp_seconds"]) > 1.7e9
    assert float(values["sudur_disk_free_bytes"]) > 0
    assert (float(values["sudur_read_only"]), float(values["sudur_queue_submissions"])) == (0, 0)
    assert float(values['sudur_grpc_calls_total{code="OK",method="Submit"}']) > 3
    assert float(values['sudur_grpc_calls_total{code="INVALID_ARGUMENT",method="Submit"}']) == 1
    assert 'sudur_http_requests_total{route="/checkpoint",status="200"}' in values
    assert any(name.startswith("sudur_build_info{version=") for name in values)


# --- what is refused ---------------------------------------------------------------------------

MALFORMED = "MALFORMED"
TILE_FAULTS = [
    "0/0",
    "0/00",
    "0/0000",
    "00/000",
    "64/000",
    "-1/000",
    "+0/000",
    "0/x000/000",
    "0/000/",
    "0//000",
    "0/000.p",
    "0/000.p/",
    "0/000.p/0",
    "0/000.p/256",
    "0/000.p/01",
    "0/000.p/1/",
    "0/000.p/1/2",
    "0/x1/000",
    "0/1000",
    "0/" + "x999/" * 5 + "999",
    "0/" + "x001/" * 20 + "000",
    "a/000",
    "entries",
    "entries/0",
    "entries/000.p/256",
    "entries/x000/000",
    "entries/000/",
]
REFUSED = [
    *((f"/tile/{path}", 400, "MALFORMED_TILE") for path in TILE_FAULTS if path != "entries"),
    ("/tile/entries/", 400, "MALFORMED_TILE"),
    ("/tile/0/999", 404, "NOT_FOUND"),
    ("/tile/0/000.p/%31", 400, MALFORMED),
    ("/tile/0/000?", 200, ""),
    ("/tile/0/000?x=1", 400, MALFORMED),
    ("/tile/5/000", 404, "NOT_FOUND"),
    ("/tile/1/000", 404, "NOT_FOUND"),
    ("/tile/entries/999.p/7", 404, "NOT_FOUND"),
    ("/checkpoint/0", 404, "NOT_FOUND"),
    ("/checkpoint/3", 404, "NOT_FOUND"),
    ("/checkpoint/99999999", 404, "OUT_OF_RANGE"),
    ("/checkpoint/02", 422, MALFORMED),
    ("/checkpoint/-1", 422, MALFORMED),
    ("/checkpoint/99999999999999999999", 422, MALFORMED),
    ("/checkpoint/" + "9" * 200, 422, MALFORMED),
    ("/checkpoint/", 404, "NOT_FOUND"),
    ("/status/list/" + ZEROS, 404, "NOT_FOUND"),
    ("/status/chunk/" + ZEROS, 404, "NOT_FOUND"),
    ("/status/chunk/" + "F" * 64, 400, MALFORMED),
    ("/status/chunk/" + "0" * 63, 400, MALFORMED),
    ("/registry/record/" + ZEROS, 404, "NOT_FOUND"),
    ("/registry/record/zz", 400, MALFORMED),
    (f"/registry/tile/{ZEROS}/0/000", 404, "NOT_FOUND"),
    (f"/registry/tile/{ZEROS}/0/0", 400, "MALFORMED_TILE"),
    ("/registry/tile/aa/0/000", 400, MALFORMED),
    ("/v1/entry/99999999", 404, "OUT_OF_RANGE"),
    ("/v1/entry/abc", 422, MALFORMED),
    ("/v1/entry/1.0", 422, MALFORMED),
    ("/v1/proof/inclusion/0/0", 400, MALFORMED),
    ("/v1/proof/inclusion/2/2", 404, "OUT_OF_RANGE"),
    ("/v1/proof/inclusion/0/3", 404, "NOT_FOUND"),
    ("/v1/proof/inclusion/0/99999999", 404, "OUT_OF_RANGE"),
    ("/v1/proof/consistency/0/2", 400, MALFORMED),
    ("/v1/proof/consistency/3/2", 400, MALFORMED),
    ("/v1/proof/consistency/1/0", 400, MALFORMED),
    ("/v1/proof/consistency/2/99999999", 404, "OUT_OF_RANGE"),
    (f"/v1/lookup/1/{ZEROS}", 404, "NOT_FOUND"),
    (f"/v1/lookup/77/{ZEROS}", 404, "UNKNOWN_AGENCY"),
    (f"/v1/lookup/4294967296/{ZEROS}", 422, MALFORMED),
    ("/v1/lookup/1/00", 400, MALFORMED),
    ("/v1/lookup/1/zz", 400, MALFORMED),
    ("/nothing", 404, "NOT_FOUND"),
    ("/", 404, "NOT_FOUND"),
    ("/docs", 404, "NOT_FOUND"),
    ("/checkpoint/2/", 404, "NOT_FOUND"),
    ("/%ff%fe", 400, MALFORMED),
    ("/tile/0/%D9%A0", 400, MALFORMED),
    ("/v1/entry/%00", 400, MALFORMED),
    ("/" + "a" * 300, 400, "TOO_LARGE"),
]


@pytest.mark.parametrize(("path", "code", "reason"), REFUSED)
async def test_refusals(served: Served, path: str, code: int, reason: str) -> None:
    if code == 200:
        assert (await served.http.get(path)).status_code == 200
    else:
        body = await problem(served, path)
        expected = MALFORMED if reason == "MALFORMED_TILE" else reason
        assert (body["status"], body["code"]) == (code, expected), body["detail"]
    await get(served, "/checkpoint", TEXT, "no-cache")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
async def test_only_get_and_head(served: Served, method: str) -> None:
    body = await problem(served, "/checkpoint", method)
    assert (body["status"], body["code"]) == (405, "METHOD_NOT_ALLOWED")
    assert (await served.http.request(method, "/checkpoint")).headers["allow"] == "GET, HEAD"


async def test_head_of_what_is_not_there(served: Served) -> None:
    answer = await served.http.head("/tile/0/999")
    assert (answer.status_code, answer.content) == (404, b"")


async def test_other_sites_may_read_what_is_public_and_only_that(served: Served) -> None:
    for path in ("/checkpoint", "/tile/0/000", "/v1/ledger", "/nothing", "/%ff"):
        assert (await served.http.get(path)).headers["access-control-allow-origin"] == "*"
    for path in ("/metrics", "/healthz", "/readyz"):
        assert "access-control-allow-origin" not in (await served.http.get(path)).headers
    for path in ("/checkpoint", "/metrics"):
        assert (await served.http.get(path)).headers["x-content-type-options"] == "nosniff"


async def raw(served: Served, request: bytes) -> bytes:
    """Bytes on the wire, as no client library would send them."""
    reader, writer = await asyncio.open_connection(served.node.http.host, served.node.http.port)
    writer.write(request)
    await writer.drain()
    answer = await asyncio.wait_for(reader.read(65_536), 10)
    writer.close()
    await writer.wait_closed()
    return answer


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /tile/0/\xff\xfe HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /\xd9\xa0 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"\x00\x01\x02\r\n\r\n",
        b"GET /tile/0/000\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /../../etc/passwd HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET //checkpoint HTTP/1.1\r\nhost: x\r\n\r\n",
    ],
)
async def test_bytes_that_are_no_path(served: Served, request_: bytes) -> None:
    answer = await raw(served, request_)
    assert re.match(rb"HTTP/1.1 (400|404) ", answer), answer[:100]
    await get(served, "/checkpoint", TEXT, "no-cache")


async def test_an_unexpected_error_tells_nothing_but_a_request_id(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(level: int, index: int, width: int) -> bytes:
        raise ZeroDivisionError("secret of the house")

    monkeypatch.setattr(served.node.ledger.store, "tile", broken)
    body = await problem(served, "/tile/0/000")
    monkeypatch.undo()
    assert (body["status"], body["code"]) == (500, "INTERNAL")
    assert "secret" not in json.dumps(body)
    assert body["request_id"] in body["detail"]
    await get(served, "/tile/0/000", BYTES)


async def test_connections_are_kept(served: Served) -> None:
    async with httpx.AsyncClient(base_url=f"http://{served.node.http}", trust_env=False) as client:
        for _ in range(20):
            assert (await client.get("/checkpoint")).status_code == 200
        assert len(client._transport._pool.connections) == 1  # type: ignore[attr-defined]
