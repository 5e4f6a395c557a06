"""Every status code of add-checkpoint, asked of a real server over a socket."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256

import httpx
import pytest

from ledger.checkpoints import format_checkpoint
from ledger.hashing import EMPTY_ROOT
from ledger.notes import NamedSigner, Note, NoteSignature, parse_note, parse_signatures, sign_note
from ledger.witnessing import MAX_ADD_CHECKPOINT, format_add_checkpoint, parse_known_size
from tests.tools.witness.serving import NAME, Witness, witness
from tests.tools.witness.some_log import SomeLog, signer

LOG = SomeLog()
STRANGER = NamedSigner(LOG.origin, signer("stranger"))
GARBLED = NoteSignature(LOG.origin, LOG.signer.key().key_id, bytes(64))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Witness]:
    """A witness that has cosigned size 5 of the log."""
    with witness(tmp_path_factory.mktemp("witness"), LOG.witnessed) as (found, _):
        found.cosign(LOG, 0, 5)
        yield found


def line(body: bytes, old: bytes, new: bytes) -> bytes:
    assert old in body
    return body.replace(old, new, 1)


ASK = LOG.request(5, 9)
NEW = LOG.checkpoint(9)
NOTE = LOG.note(9)
PROOF = LOG.proof(5, 9)
REFUSED = {
    # 400: what cannot be read, and an old size above the new one
    "nothing": (b"", 400),
    "no blank line": (ASK.replace(b"\n\n", b"\n"), 400),
    "no old size": (NOTE, 400),
    "no number": (line(ASK, b"old 5", b"old five"), 400),
    "no space": (line(ASK, b"old 5", b"old5"), 400),
    "two spaces": (line(ASK, b"old 5", b"old  5"), 400),
    "a space behind": (line(ASK, b"old 5\n", b"old 5 \n"), 400),
    "another word": (line(ASK, b"old 5", b"Old 5"), 400),
    "a leading zero": (line(ASK, b"old 5", b"old 05"), 400),
    "a sign": (line(ASK, b"old 5", b"old +5"), 400),
    "a negative size": (line(ASK, b"old 5", b"old -5"), 400),
    "other digits": (line(ASK, b"old 5", "old ٥".encode()), 400),
    "a size beyond 2^63": (line(ASK, b"old 5", b"old 9223372036854775808"), 400),
    "a size of 30 digits": (line(ASK, b"old 5", b"old " + b"9" * 30), 400),
    "old above new": (LOG.request(5, 4), 400),
    "carriage returns": (ASK.replace(b"\n", b"\r\n"), 400),
    "a hash too short": (format_add_checkpoint(5, [PROOF[0][:31]], NOTE), 400),
    "a hash too long": (format_add_checkpoint(5, [PROOF[0] + b"x"], NOTE), 400),
    "a hash without padding": (ASK.replace(b"=\n", b"\n", 1), 400),
    "base64 for URLs": (line(ASK, b"old 5\n", b"old 5\n" + b"_" * 43 + b"=\n"), 400),
    "64 hashes": (line(ASK, b"old 5\n", b"old 5\n" + (b"A" * 43 + b"=\n") * 64), 400),
    "a long body": (ASK + b"x" * MAX_ADD_CHECKPOINT, 400),
    "no signatures": (ASK[: ASK.rindex(b"\xe2\x80\x94")], 400),
    "a signature line without its end": (ASK[:-1], 400),
    "not UTF-8": (ASK[:-1] + b"\xff\n", 400),
    "101 signatures": (ASK + NoteSignature("other", b"1234", b"x").line() * 100, 400),
    "a checkpoint of two lines": (format_add_checkpoint(0, [], sign_note(b"a\n1\n", [LOG.signer])), 400),
    "an empty line in the checkpoint": (
        format_add_checkpoint(5, PROOF, sign_note(format_checkpoint(NEW) + b"\nx\n", [LOG.signer])),
        400,
    ),
    # 403: nobody we trust signed it, or somebody's line is false
    "a stranger's signature": (LOG.request(5, 9, STRANGER), 403),
    "a false signature": (
        format_add_checkpoint(5, PROOF, Note(parse_note(NOTE).text, (GARBLED,)).encode()), 403,
    ),
    "a signature of another size": (
        format_add_checkpoint(
            5, PROOF, Note(parse_note(NOTE).text, parse_note(LOG.note(8)).signatures).encode()
        ),
        403,
    ),
    "a cosignature's key as log key": (
        format_add_checkpoint(5, PROOF, LOG.note(9, NamedSigner("other.example", LOG.signer.signer))), 403,
    ),
    # 404
    "another log": (SomeLog("log.example/two").request(0, 3), 404),
    "another log, with this one's key": (
        SomeLog("log.example/two").request(0, 3, LOG.signer), 404,
    ),
    # 409: another old size than what was cosigned
    "old too small": (LOG.request(4, 9), 409),
    "old zero": (LOG.request(0, 9), 409),
    "old too large": (LOG.request(7, 9), 409),
    "old too small, by a forked log": (LOG.forked(2).request(4, 9), 409),
    # 422: no proof
    "no proof": (format_add_checkpoint(5, [], NOTE), 422),
    "a proof too long": (format_add_checkpoint(5, [*PROOF, bytes(32)], NOTE), 422),
    "63 hashes": (format_add_checkpoint(5, [bytes(32)] * 63, NOTE), 422),
    "a proof with one bit changed": (
        format_add_checkpoint(5, [bytes((PROOF[0][0] ^ 1,)) + PROOF[0][1:], *PROOF[1:]], NOTE), 422,
    ),
    "a proof of another size": (format_add_checkpoint(5, LOG.proof(5, 8), NOTE), 422),
    "another root at the same size": (LOG.forked(2).request(5, 5), 422),
    "a fork, with its own proof": (LOG.forked(2).request(5, 9), 422),
    "a proof where none belongs": (format_add_checkpoint(5, [bytes(32)], LOG.note(5)), 422),
}  # fmt: skip


@pytest.mark.parametrize("desc", REFUSED)
def test_what_is_refused(served: Witness, desc: str) -> None:
    body, status = REFUSED[desc]
    answer = served.ask(body)
    assert answer.status_code == status, answer.text
    assert "witness" not in answer.headers.get("server", "")
    if status == 409:
        assert answer.headers["content-type"] == "text/x.tlog.size"
        assert answer.content == b"5\n"
        assert parse_known_size(answer.content) == 5
    else:
        assert answer.text.endswith("\n")
    assert served.ask(LOG.request(5, 5)).status_code == 200, "what was refused has changed nothing"


def test_an_empty_tree_has_one_root(tmp_path_factory: pytest.TempPathFactory) -> None:
    log = SomeLog()
    with witness(tmp_path_factory.mktemp("empty"), log.witnessed) as (found, _):
        assert found.ask(format_add_checkpoint(0, [], log.note_with_root(0, bytes(32)))).status_code == 422
        assert found.ask(format_add_checkpoint(0, [bytes(32)], log.note(3))).status_code == 422
        assert found.ask(format_add_checkpoint(0, [bytes(32)], log.note(0))).status_code == 422
        assert log.checkpoint(0).root == EMPTY_ROOT
        found.cosign(log, 0, 0)
        found.cosign(log, 0, 0)
        found.cosign(log, 0, 7)
        assert found.ask(log.request(0, 0)).content == b"7\n"


def test_what_is_answered_is_the_witnesss_own_lines_alone(served: Witness) -> None:
    extra = NoteSignature("other.example/w", b"1234", b"whatever")
    note = parse_note(LOG.note(5)).with_signatures((extra,)).encode()
    answer = served.ask(format_add_checkpoint(5, [], note))
    assert answer.status_code == 200
    (only,) = parse_signatures(answer.content)
    assert only.name == NAME
    assert answer.content.startswith("— ".encode())
    assert served.verified(note, answer.content).time_s > 1_700_000_000
    kept = served.get(f"/{sha256(LOG.origin.encode()).hexdigest()}/checkpoint")
    assert [line.name for line in parse_note(kept.content).signatures] == [LOG.origin, NAME]


def test_a_hundred_signatures(served: Witness) -> None:
    others = [NoteSignature(f"other.example/{i}", b"1234", bytes(400)) for i in range(99)]
    note = parse_note(LOG.note(5))
    full = Note(note.text, (*others, *note.signatures)).encode()
    assert served.ask(format_add_checkpoint(5, [], full)).status_code == 200


def test_other_methods_and_paths(served: Witness) -> None:
    for method in ("GET", "PUT", "DELETE", "HEAD"):
        answer = httpx.request(method, f"{served.url}/add-checkpoint")
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert served.get("/").status_code == 404
    assert httpx.post(f"{served.url}/logs").status_code == 405
    assert served.get(f"/{'0' * 64}/checkpoint").status_code == 404
