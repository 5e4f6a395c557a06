"""What a plain witness stops and what not: it sees that histories extend, not what stands in them."""

from __future__ import annotations

import time
from hashlib import sha256
from pathlib import Path

import httpx

from ledger.evidence_making import prove_fork
from ledger.evidence_verdict import verify_evidence
from ledger.notes import parse_note, parse_signatures
from ledger.proofs import prove_consistency
from ledger.resources import CHECKPOINT
from ledger.witnessing import format_add_checkpoint
from tests.ledger.world import signer
from tests.operator.cheating import Books, accusation
from tests.operator.scene import Scene
from tests.tools.witness.serving import NAME, Witness, witness
from tools.witness.logs import WitnessedLog


def show(to: Witness, books: Books, old: int, note: bytes | None = None) -> httpx.Response:
    """Show a witness the operator's head, as what follows size ``old``."""
    signed = books.opened(note)
    size = signed.checkpoint.size
    proof = prove_consistency(books.nodes(size), old, size) if 0 < old < size else []
    return to.ask(format_add_checkpoint(old, proof, signed.data))


def log_of(books: Books) -> WitnessedLog:
    return WitnessedLog.of_ledger(books.trusted())


def asked_of_clients(by: Witness) -> str:
    return f"witness w {by.key.format()}\nquorum w\n"


def cosigned(books: Books, answer: httpx.Response) -> None:
    """Serve the head with the cosignature that came back."""
    assert answer.status_code == 200, answer.text
    note = parse_note(books.static.checkpoint)
    books.static.files[CHECKPOINT] = note.with_signatures(parse_signatures(answer.content)).encode()


def test_the_second_face_of_a_split_is_not_cosigned(tmp_path: Path) -> None:
    """So clients whose policy asks for the witness never see it; and both heads are the evidence."""
    one, other = Scene(), Scene()
    with witness(tmp_path, log_of(one.books)) as (asked, _):
        start = one.books.size
        cosigned(one.books, show(asked, one.books, 0))
        one.books.policy = other.books.policy = asked_of_clients(asked)
        one.revoke()
        cosigned(one.books, show(asked, one.books, start))
        shown = one.books.size
        for _ in range(5):
            other.books.idle()
        refused = show(asked, other.books, start)
        assert (refused.status_code, refused.text) == (409, f"{shown}\n")
        assert show(asked, other.books, shown).status_code == 422
        assert other.verdict(other.receipt_at(other.issued.document, other.index)) == "CANNOT_TELL"
        kept = httpx.get(f"{asked.url}/{_name(one.books)}/{CHECKPOINT}").content
    held = one.books.opened(kept)
    fork = prove_fork(held, other.books.opened(), other.books.nodes(), None)
    assert fork is not None
    assert verify_evidence(fork, one.books.trust()).kind == "fork"


def test_a_witness_is_not_rolled_back(tmp_path: Path) -> None:
    """An old head, the same again, and a restart in between: it stays where it was."""
    scene = Scene()
    books, start = scene.books, scene.books.size
    old = books.static.checkpoint
    with witness(tmp_path, log_of(books)) as (asked, _):
        assert show(asked, books, 0).status_code == 200
        books.idle()
        assert show(asked, books, start).status_code == 200
        assert show(asked, books, 0, old).status_code == 409
        assert show(asked, books, start, old).status_code == 409
    with witness(tmp_path, log_of(books)) as (again, _):
        assert show(again, books, 0, old).status_code == 409
        assert again.ask(format_add_checkpoint(books.size, [], old)).status_code == 400
        assert show(again, books, books.size).status_code == 200


def test_a_plain_witness_cosigns_a_forged_issuance(tmp_path: Path) -> None:
    """It checks consistency only, so the forged document is as witnessed as all others, until an audit."""
    scene = Scene()
    books = scene.books
    with witness(tmp_path, log_of(books)) as (asked, _):
        document, index = scene.forge_with_own_key()
        cosigned(books, show(asked, books, 0))
        books.policy = asked_of_clients(asked)
    assert NAME in books.static.checkpoint.decode()
    forged = scene.receipt_at(document, index)
    assert scene.verdict(forged, now_ms=time.time_ns() // 1_000_000) == "GENUINE"
    evidence = accusation(books.blocks, books)
    assert evidence is not None
    assert "registry_root" in verify_evidence(evidence, books.trust()).what


def test_a_head_by_another_key_is_not_cosigned(tmp_path: Path) -> None:
    scene = Scene()
    known = log_of(scene.books)
    scene.books.static.signers = [signer("another log key")]
    scene.books.idle()
    with witness(tmp_path, known) as (asked, _):
        note = scene.books.static.checkpoint
        assert asked.ask(format_add_checkpoint(0, [], note)).status_code == 403


def _name(books: Books) -> str:
    return sha256(books.origin.encode()).hexdigest()
