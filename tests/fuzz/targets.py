"""The parsers that read what a stranger sends, each with well-formed examples to begin from.

A parser raises SudurError or returns; anything else is a fault. Where a value has one form only, what was
accepted has to be that form: ``form`` gives it back as bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from ledger import canonical_json
from ledger.checkpoints import (
    Checkpoint,
    format_checkpoint,
    log_key,
    open_checkpoint,
    parse_checkpoint,
    sign_checkpoint,
)
from ledger.codes import Code, code_of, decode_code, parse_code
from ledger.cose_receipts import CoseReceipt, parse_cose_receipt
from ledger.envelope_bodies import Letter, Reply
from ledger.envelopes import Envelope, read_plaintext
from ledger.errors import SudurError
from ledger.evidence import parse_evidence
from ledger.evidence_verdict import verify_evidence
from ledger.leaves import LeafType
from ledger.left_open import LeftOpen, encode_queue, parse_queue
from ledger.notes import NamedSigner, VerifierKey, parse_note, parse_signatures
from ledger.pack_builder import PackBuilder
from ledger.pack_deltas import Delta, apply_delta, parse_delta
from ledger.packs import Form, Pack, parse_pack
from ledger.presented_documents import parse_presented
from ledger.receipt_keys import KeyStatement, parse_statement
from ledger.receipts import parse_receipt
from ledger.records import parse_record
from ledger.references import parse_reference, reference_text
from ledger.registry_leaf import RegistryLeaf
from ledger.registry_records import AgencyRecord, KeyRecord, LedgerRecord, TypeRecord
from ledger.seals import Seal
from ledger.signatures import Algorithm, Ed25519Signer, MlDsa44Signer, Signer
from ledger.status import compress_chunk, expand_chunk
from ledger.status_tokens import open_status_token
from ledger.submissions import SubmissionLeaf
from ledger.subtrees import sign_tree, verify_tree
from ledger.tiles import encode_bundle, parse_bundle, parse_entries_path, parse_tile_path
from ledger.tlog_proof import TlogProof, parse_tlog_proof
from ledger.trust import parse_trust
from ledger.trust_renewal import gather, parse_renewal
from ledger.verdicts import VerdictCode
from ledger.verifier import verify_receipt
from ledger.witness_policy import parse_policy
from ledger.witnessing import (
    SIZE_TYPE,
    format_add_checkpoint,
    parse_add_checkpoint,
    parse_any_checkpoint,
    parse_known_size,
)
from node.cosigning.answers import read_answer
from node.cosigning.lines import split_note
from tests.ledger.issued import SEED, Issued
from tests.ledger.portable import KEY, Portable
from tests.ledger.world import ORIGIN, signer
from tests.operator.attacks import books, forged_issue
from tests.operator.cheating import accusation
from tests.witnesses import cosigned
from tools.keyfile import PrivateKey, PublicKey
from tools.verifying.entries import Entry, JournalKey, RecheckBy, Relied, parse_entry, parse_slip_code
from tools.witness.logs import parse_list

_VECTORS: Final = Path(__file__).parent.parent / "vectors"


@dataclass(frozen=True, slots=True)
class Target:
    """``seeds`` are examples that ``parse`` accepts; they are made when they are asked for."""

    name: str
    parse: Callable[[bytes], Any]
    seeds: Callable[[], Sequence[bytes]]
    form: Callable[[Any], bytes] | None = None

    def check(self, data: bytes) -> None:
        """Fails for anything raised but SudurError, and for a second form of a value."""
        try:
            value = self.parse(data)
        except SudurError:
            return
        if self.form is not None:
            assert self.form(value) == data


@cache
def issued() -> Issued:
    """A document in a small ledger."""
    return Issued(expires="2031-05-06")


@cache
def receipt() -> bytes:
    return issued().receipt().encode()


@cache
def portable() -> Portable:
    """The same document's portable proofs."""
    return Portable(issued())


def _text(parse: Callable[[str], Any]) -> Callable[[bytes], Any]:
    """A parser of text, given whatever text the bytes make."""
    return lambda data: parse(data.decode("utf-8", "replace"))


@cache
def _journal_entry() -> Entry:
    """An entry of a verifying office's journal."""
    secret = bytes(range(32))
    public = PublicKey(Algorithm.ED25519, Ed25519Signer(secret).public_key, "journal", "journal")
    key = JournalKey(PrivateKey(public, secret))
    relied = Relied(bytes(32), 9, bytes(32), 7)
    sealed = key.seal(1, RecheckBy(5, 1, 0, (4, (1,))))
    made = Entry(1, 8, "desk-1", key.checked(1, b""), VerdictCode.GENUINE, relied, sealed, bytes(32))
    return made.signed_by(key)


def _judge(data: bytes) -> Any:
    """A receipt and its verdict: whatever it says, a verdict comes."""
    return verify_receipt(parse_receipt(data), issued().trust(), now_ms=issued().world.now)


def _case(file: str, of: str, **wanted: str) -> Any:
    """The first case with these members of a list in a file of vectors; it is one that is accepted."""
    cases = json.loads((_VECTORS / f"{file}.json").read_text(encoding="utf-8"))[of]
    return next(one for one in cases if all(one.get(name) == value for name, value in wanted.items()))


def _plaintext(kind: str) -> bytes:
    case = _case("envelopes", "plaintexts", kind=kind)
    return bytes.fromhex(case["plaintext"]).ljust(case["size"], b"\0")


def _leaves(*kinds: LeafType) -> Callable[[], list[bytes]]:
    return lambda: [leaf for block in issued().world.blocks for leaf in block if leaf[1] in kinds]


def _record(part: str) -> Callable[[], list[bytes]]:
    """The registry records of a receipt."""

    def read() -> list[bytes]:
        found = getattr(issued().receipt().registry, part)
        return [one.record for one in (found if isinstance(found, tuple) else (found,))]

    return read


def _code() -> Code:
    here = issued()
    return code_of((here.document, SEED), here.world.genesis, here.basis, here.index)


@cache
def _delta() -> Delta:
    static = issued().static()
    return PackBuilder(static, issued().trusted(), static.checkpoint).delta(Form.SUBTREES, None)


def _queue() -> bytes:
    here = issued()
    leaf = here.world.reader.leaf(here.index)
    return encode_queue([LeftOpen(here.world.genesis, here.index, leaf, False, here.world.now, 1)])


def _pack() -> Pack:
    return apply_delta(None, _delta())


def _resealed(data: bytes) -> bytes:
    """With its digest made right, so that what lies behind that is reached."""
    return data[:-32] + sha256(data[:-32]).digest()


_LOG: Final[Sequence[Signer]] = (signer("log"), MlDsa44Signer(bytes(32)))


def _log_keys() -> list[VerifierKey]:
    return [log_key(ORIGIN, one.public_key, one.algorithm) for one in _LOG]


def _checkpoint() -> bytes:
    return issued().static().checkpoint


def _note_text() -> bytes:
    return parse_note(_checkpoint()).text


@cache
def _evidence() -> bytes:
    """What an auditor makes of a forged issuance."""
    made = books()
    forged_issue(made)
    evidence = accusation(made.blocks, made)
    assert evidence is not None
    return evidence.encode()


def _read_answer(data: bytes) -> object:
    """The status from 200 on, then the body."""
    status = 200 + int.from_bytes(data[:1], "big")
    return read_answer(status, SIZE_TYPE, data[1:], retry_after="5", old=3, size=9)


def _cosigned_note() -> bytes:
    """A checkpoint with the log's line and a witness's."""
    signed = sign_checkpoint(Checkpoint("log.example", 7, bytes(32)), [signer("log")])
    return signed + cosigned(signed, "one", 1_000).line()


TARGETS: Final = (
    Target(
        "canonical_json",
        lambda data: canonical_json.parse(data, limit=1 << 16, where="fuzz"),
        lambda: [issued().trust().encode(), b'{"a":[1,"b",null,true],"\xc3\xa9":"x"}'],
        canonical_json.encode,
    ),
    Target("note", parse_note, lambda: [_checkpoint()], lambda note: note.encode()),
    Target(
        "signature_lines",
        parse_signatures,
        lambda: [_checkpoint().removeprefix(_note_text() + b"\n")],
        lambda lines: b"".join(line.line() for line in lines),
    ),
    Target(
        "verifier_key",
        _text(VerifierKey.parse),
        lambda: [key.format().encode() for key in _log_keys()],
        lambda key: key.format().encode(),
    ),
    Target("checkpoint", parse_checkpoint, lambda: [_note_text()], format_checkpoint),
    Target(
        "signed_checkpoint",
        lambda data: open_checkpoint(data, ORIGIN, _log_keys()),
        lambda: [sign_checkpoint(Checkpoint(ORIGIN, 7, bytes(32)), _LOG)],
        lambda signed: signed.note.encode(),
    ),
    Target(
        "log_signature",
        lambda data: verify_tree(_log_keys()[1], data, ORIGIN, 7, bytes(32)),
        lambda: [sign_tree(NamedSigner(ORIGIN, _LOG[1]), 0, ORIGIN, 7, bytes(32)).blob],
    ),
    Target(
        "add_checkpoint",
        parse_add_checkpoint,
        lambda: [format_add_checkpoint(7, [bytes(32), bytes(31) + b"x"], _checkpoint())],
        lambda asked: format_add_checkpoint(asked.old_size, asked.proof, asked.note),
    ),
    Target("any_checkpoint", parse_any_checkpoint, lambda: [_note_text(), _note_text() + b"more\n"]),
    Target("known_size", parse_known_size, lambda: [b"1234\n"], lambda size: b"%d\n" % size),
    Target(
        "list_of_logs",
        parse_list,
        lambda: [
            b"logs/v0\nvkey %b\norigin x\nqpd 3\n" % one.key.format().encode()
            for one in issued().trusted().log_keys
        ],
    ),
    Target("witness_policy", parse_policy, lambda: [_case("witness_policy", "parsed")["data"].encode()]),
    Target("trust", parse_trust, lambda: [issued().trust().encode()]),
    Target("trust_renewal", parse_renewal, lambda: [gather(issued().static(), issued().trusted()).encode()]),
    Target(
        "journal_line",
        lambda data: parse_entry(data, "line"),
        lambda: [_journal_entry().encode()],
        Entry.encode,
    ),
    Target("split_note", split_note, lambda: [_cosigned_note()]),
    Target(
        "witness_answer",
        _read_answer,
        lambda: [b"\x00" + _cosigned_note().partition(b"\n\n")[2], bytes((209,)) + b"17\n"],
    ),
    Target("slip_code", _text(parse_slip_code), lambda: [_journal_entry().code.encode()]),
    Target("receipt", parse_receipt, lambda: [receipt()]),
    Target("receipt_and_verdict", _judge, lambda: [receipt()]),
    Target("evidence", parse_evidence, lambda: [_evidence()]),
    Target(
        "evidence_and_verdict",
        lambda data: verify_evidence(parse_evidence(data), None),
        lambda: [_evidence()],
    ),
    Target("record", parse_record, _leaves(LeafType.ISSUE), lambda record: record.encode()),
    Target("registry_leaf", RegistryLeaf.decode, _leaves(LeafType.REGISTRY), RegistryLeaf.encode),
    Target("submission", SubmissionLeaf.decode, _leaves(LeafType.SUBMISSION), SubmissionLeaf.encode),
    Target("seal", Seal.decode, _leaves(LeafType.SEAL), Seal.encode),
    Target("ledger_record", LedgerRecord.decode, _record("ledger"), LedgerRecord.encode),
    Target("agency_record", AgencyRecord.decode, _record("agency"), AgencyRecord.encode),
    Target("type_record", TypeRecord.decode, _record("document_type"), TypeRecord.encode),
    Target("key_record", KeyRecord.decode, _record("keys"), KeyRecord.encode),
    Target("status_chunk", expand_chunk, lambda: [compress_chunk(issued().receipt().status.chunk)]),
    Target("entry_bundle", parse_bundle, lambda: [encode_bundle(_leaves(*LeafType)())], encode_bundle),
    Target(
        "tile_path",
        _text(parse_tile_path),
        lambda: [b"tile/0/x001/x234/067.p/3", b"tile/1/000"],
        lambda tile: tile.path().encode(),
    ),
    Target(
        "entries_path",
        _text(parse_entries_path),
        lambda: [b"tile/entries/x001/067", b"tile/entries/000.p/1"],
        lambda bundle: bundle.path().encode(),
    ),
    Target("reference", _text(parse_reference), lambda: [reference_text(1_234_567).encode()]),
    Target("code", decode_code, lambda: [_code().encode()], Code.encode),
    Target("code_text", _text(parse_code), lambda: [_code().text().encode()]),
    Target("queue", parse_queue, lambda: [_queue()], encode_queue),
    Target("pack", parse_pack, lambda: [_pack().encode()]),
    Target("pack_delta", parse_delta, lambda: [_delta().encode()]),
    Target("pack_body", lambda data: parse_pack(_resealed(data)), lambda: [_pack().encode()]),
    Target("pack_delta_body", lambda data: parse_delta(_resealed(data)), lambda: [_delta().encode()]),
    Target(
        "envelope",
        Envelope.decode,
        lambda: [bytes.fromhex(_case("envelopes", "envelopes")["envelope"])],
        Envelope.encode,
    ),
    Target("plaintext", read_plaintext, lambda: [_plaintext("letter"), _plaintext("reply")]),
    Target("letter", lambda data: Letter.decode(read_plaintext(data)[1], 7), lambda: [_plaintext("letter")]),
    Target("tlog_proof", parse_tlog_proof, lambda: [portable().tlog_proof().encode()], TlogProof.encode),
    Target("presented", parse_presented, lambda: [portable().tlog_proof().extra, portable().leaf]),
    Target("cose_receipt", parse_cose_receipt, lambda: [portable().cose()], CoseReceipt.encode),
    Target("receipt_keys", parse_statement, lambda: [portable().statement().text()], KeyStatement.text),
    Target(
        "status_token",
        lambda data: open_status_token(data, portable().statement()),
        lambda: [portable().token().sign(KEY)],
        lambda token: token.sign(KEY),
    ),
    Target("reply", lambda data: Reply.decode(read_plaintext(data)[1]), lambda: [_plaintext("reply")]),
)
