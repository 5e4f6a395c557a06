"""The door of a witness over real sockets: garbage, races, keys that change, what may be read, TLS."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Final

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.canonical_json import base64_text
from ledger.checkpoints import format_checkpoint
from ledger.cosignatures import verify_cosignatures, witness_key
from ledger.notes import (
    NamedSigner,
    Note,
    SignatureType,
    VerifierKey,
    parse_note,
    parse_signatures,
    sign_note,
)
from ledger.signatures import Algorithm, MlDsa44Signer
from ledger.subtrees import sign_tree
from ledger.trust import TrustedKey, TrustedLedger
from ledger.witnessing import format_add_checkpoint
from tests.tools.helpers import Commands
from tests.tools.witness.serving import NAME, Files, Witness, witness
from tests.tools.witness.some_log import SomeLog, signer
from tests.transport.authorities import Authority
from tools.witness.logs import WitnessedLog

LOG: Final = SomeLog()
CODES: Final = {200, 400, 403, 404, 409, 422}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Witness]:
    with witness(tmp_path_factory.mktemp("witness"), LOG.witnessed) as (found, _):
        found.cosign(LOG, 0, 5)
        yield found


@pytest.fixture(scope="module")
def client(served: Witness) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.url, verify=False) as opened:
        yield opened


# --- garbage -------------------------------------------------------------------------------------

GOOD = LOG.request(5, 9)
_how = st.sampled_from(["cut", "drop", "double", "swap", "put"])
_damage = st.tuples(_how, st.integers(0, len(GOOD)), st.binary(max_size=40))


def damaged(body: bytes, how: str, at: int, put: bytes) -> bytes:
    match how:
        case "cut":
            return body[:at]
        case "drop":
            return body[:at] + body[at + 1 + len(put) :]
        case "double":
            return body[:at] + body[max(0, at - 60) : at] + body[at:]
        case "swap":
            return body[at:] + body[:at]
    return body[:at] + put + body[at + len(put) :]


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=300) | st.lists(_damage, min_size=1, max_size=3))
def test_garbage_gets_one_of_the_six_codes(
    client: httpx.Client, body: bytes | list[tuple[str, int, bytes]]
) -> None:
    if isinstance(body, list):
        sent = GOOD
        for how, at, put in body:
            sent = damaged(sent, how, at, put)
        body = sent
    answer = client.post("/add-checkpoint", content=body)
    assert answer.status_code in CODES - {200} or body == GOOD, answer.text
    assert client.post("/add-checkpoint", content=LOG.request(5, 5)).status_code in (200, 409)


def test_a_body_that_never_ends_and_one_that_lies(served: Witness) -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield bytes(65_536)

    with suppress(httpx.TransportError):  # it may hang up on us, amid what we send
        answer = httpx.post(f"{served.url}/add-checkpoint", content=endless(), verify=False)
        assert answer.status_code == 400
    url = httpx.URL(served.url)
    with socket.create_connection((url.host, url.port or 0)) as lying:
        lying.sendall(b"POST /add-checkpoint HTTP/1.1\r\nhost: w\r\ncontent-length: 99999999\r\n\r\nold")
        said = b"".join(iter(partial(lying.recv, 4096), b""))
    assert said.startswith(b"HTTP/1.1 400")
    assert served.get("/healthz").status_code == 200


# --- races ---------------------------------------------------------------------------------------


def test_of_many_at_once_one_wins(tmp_path: Path) -> None:
    """The specification's race: whatever comes second hears the size that came first."""
    branches = [SomeLog(branch=f"b{number}") for number in range(6)]
    with witness(tmp_path, LOG.witnessed) as (found, _):
        got: list[tuple[int, bytes]] = []
        gate = threading.Barrier(len(branches))

        def ask(log: SomeLog, size: int) -> None:
            body = log.request(0, size)
            gate.wait()
            answer = found.ask(body)
            got.append((answer.status_code, answer.content))

        threads = [threading.Thread(target=ask, args=(log, 3 + at)) for at, log in enumerate(branches)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(status for status, _ in got) == [200, 409, 409, 409, 409, 409]
        (size,) = {body for status, body in got if status == 409}
        assert found.get("/logs").json()["logs"][0]["size"] == int(size)


# --- keys ----------------------------------------------------------------------------------------


def test_a_log_changes_its_key_while_the_witness_runs(tmp_path: Path, sudur: Commands) -> None:
    newer = NamedSigner(LOG.origin, signer("newer"))
    data = Files(tmp_path).data
    with witness(tmp_path, LOG.witnessed) as (found, _):
        found.cosign(LOG, 0, 3)
        assert found.ask(LOG.request(3, 4, newer)).status_code == 403
        assert sudur("witness", "add-log", "--data", data, newer.key().format()).code == 0
        assert found.ask(LOG.request(3, 4, newer)).status_code == 200
        assert found.ask(LOG.request(4, 5, LOG.signer, newer)).status_code == 200
        garbled = parse_note(LOG.note(6, LOG.signer, newer)).encode().replace(b"A", b"B")
        assert found.ask(format_add_checkpoint(5, LOG.proof(5, 6), garbled)).status_code in (400, 403)
        removed = sudur("witness", "remove-key", "--data", data, LOG.origin, LOG.signer.key().format())
        assert removed.code == 0
        while found.ask(LOG.request(5, 5)).status_code == 200:
            pass  # it looks a few times a second
        assert found.ask(LOG.request(5, 6)).status_code == 403
        assert found.ask(LOG.request(5, 6, newer)).status_code == 200
        assert sudur("witness", "switch", "--data", data, LOG.origin, "--off").code == 0
        while found.ask(LOG.request(6, 6, newer)).status_code == 200:
            pass
        assert found.ask(LOG.request(6, 7, newer)).status_code == 404
        assert sudur("witness", "switch", "--data", data, LOG.origin, "--on").code == 0
        assert found.ask(LOG.request(0, 7, newer)).content == b"6\n", "nothing was forgotten"


def test_a_ledgers_key_ends_at_a_size(tmp_path: Path) -> None:
    newer = NamedSigner(LOG.origin, signer("newer"))
    ledger = TrustedLedger.founded(bytes(32), LOG.origin, [newer.key()])
    ended = TrustedKey(LOG.signer.key(), 5)
    known = WitnessedLog.of_ledger(
        TrustedLedger(ledger.genesis, ledger.origin, (ended, *ledger.log_keys), ledger.witness_policy, False)
    )
    with witness(tmp_path, known) as (found, _):
        found.cosign(LOG, 0, 5)
        refused = found.ask(LOG.request(5, 6))
        assert (refused.status_code, "had ended" in refused.text) == (403, True)
        assert found.ask(LOG.request(5, 6, newer)).status_code == 200


def test_a_key_name_may_differ_from_the_origin(tmp_path: Path) -> None:
    log = SomeLog("a database of sums")
    named = NamedSigner("sums.example", signer("sums"))
    with witness(tmp_path, WitnessedLog(log.origin, (named.key(),))) as (found, _):
        answer = found.ask(log.request(0, 4, named))
        assert answer.status_code == 200
        found.verified(log.note(4, named), answer.content)


def test_lines_after_the_third_are_cosigned_with_the_rest(tmp_path: Path) -> None:
    further = MlDsa44Signer(bytes(32))
    with witness(tmp_path, LOG.witnessed, further=[further]) as (found, _):
        text = format_checkpoint(LOG.checkpoint(4)) + b"something of its own\n"
        note = sign_note(text, [LOG.signer])
        answer = found.ask(format_add_checkpoint(0, [], note))
        assert answer.status_code == 200
        found.verified(note, answer.content)
        assert answer.content.count(b"\n") == 1, "ML-DSA-44 signs no such lines"


def test_ml_dsa_44_of_logs_and_of_the_witness(tmp_path: Path) -> None:
    further, key = MlDsa44Signer(bytes(32)), MlDsa44Signer(bytes(31) + b"1")
    log_signer = NamedSigner(LOG.origin, key)
    known = WitnessedLog(LOG.origin, (log_signer.key(SignatureType.ML_DSA_44),))
    head = LOG.checkpoint(4)
    note = Note(format_checkpoint(head), (sign_tree(log_signer, 0, head.origin, head.size, head.root),))
    with witness(tmp_path, known, further=[further]) as (found, running):
        answer = found.ask(format_add_checkpoint(0, [], note.encode()))
        assert answer.status_code == 200, answer.text
        keys = [witness_key(NAME, signer(NAME).public_key)]
        keys.append(witness_key(NAME, further.public_key, Algorithm.ML_DSA_44))
        assert running.vkeys == tuple(one.format() for one in keys)
        lines = parse_signatures(answer.content)
        both = verify_cosignatures(Note(note.text, lines), keys)
        assert [one.key for one in both] == keys
        assert len({one.time_s for one in both}) == 1
        assert found.ask(LOG.request(4, 5)).status_code == 403


# --- reading -------------------------------------------------------------------------------------


def test_what_it_shows(served: Witness) -> None:
    name = sha256(LOG.origin.encode()).hexdigest()
    told = served.get("/logs")
    assert told.headers["content-type"] == "application/json"
    assert told.headers["access-control-allow-origin"] == "*"
    shown = told.json()
    assert (shown["witness"], shown["audits"]) == (NAME, False)
    assert VerifierKey.parse(shown["vkeys"][0]) == served.key
    (log,) = shown["logs"]
    head = LOG.checkpoint(log["size"])
    assert log["root"] == base64_text(head.root)
    assert log["checkpoint"] == f"/{name}/checkpoint"
    newest = served.get(log["checkpoint"])
    assert newest.headers["content-type"].startswith("text/plain")
    assert newest.text == log["note"]
    (cosigned,) = verify_cosignatures(parse_note(newest.content), [served.key])
    assert cosigned.time_s == log["time"]
    assert served.get(f"/{name.upper()}/checkpoint").status_code == 404
    for path in ("/healthz", "/readyz", "/metrics"):
        assert served.get(path).status_code == 200
    assert f'sudur_witnessing_size{{origin="{LOG.origin}"}} {float(head.size)}' in served.get("/metrics").text


def test_over_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ca")
    issued = authority.issue("w1")
    with witness(tmp_path / "witness", LOG.witnessed, tls=issued.files()) as (found, _):
        assert found.url.startswith("https://127.0.0.1:")
        context = ssl.create_default_context(cafile=str(authority.path))
        with httpx.Client(verify=context, base_url=found.url) as secured:
            assert secured.post("/add-checkpoint", content=LOG.request(0, 4)).status_code == 200
            assert "certificate_expiry_seconds" in secured.get("/metrics").text
