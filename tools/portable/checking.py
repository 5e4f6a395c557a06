"""Portable proofs checked: what each of them shows, and no more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ledger.cose_receipts import parse_cose_receipt
from ledger.documents import Field
from ledger.errors import CommitmentMismatch, PolicyUnmet, ProofInvalid
from ledger.leaves import LeafType, leaf_type
from ledger.presented_documents import PresentedDocument, parse_presented
from ledger.receipt_keys import KeyStatement
from ledger.receipts import Receipt
from ledger.records import Issue, Status
from ledger.status import CHUNK_INDEXES, chunk_of, read_status
from ledger.status_tokens import open_status_token, token_path
from ledger.tlog_proof import TlogProof
from ledger.trust import Trust, TrustedLedger
from tools.pinning import ledger_of
from tools.portable.exporting import checked_leaf


@dataclass(frozen=True, slots=True)
class Logged:
    """A leaf is in the log. ``document``: the shown fields of the document that it is of, if that is known.

    ``witnessed_s``: since when the witness policy was met; None when nobody is asked for, or, for a
    receipt by a receipt key, when nobody can have been. ``as_of_s``: what the signer of that says.
    """

    origin: str
    training: bool
    size: int
    index: int
    kind: LeafType
    issue: Issue | None
    document: tuple[Field, ...] | None
    witnessed_s: int | None
    as_of_s: int | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """What a status token says of a document. ``issued_s``, ``expires_s``: seconds since 1970."""

    origin: str
    training: bool
    size: int
    index: int
    status: Status
    issued_s: int
    expires_s: int


def check_tlog_proof(
    proof: TlogProof,
    trust: Trust,
    receipt: Receipt | None,
    digests: Sequence[bytes],
    now_s: int,
    greatest_age_s: int | None,
) -> Logged:
    """Raises what is wrong: CheckpointUntrusted, ProofInvalid, CommitmentMismatch, PolicyUnmet …"""
    ledger = ledger_of(trust, proof.checkpoint)
    signed = ledger.open(proof.checkpoint)
    presented = None
    if receipt is not None:
        leaf = _leaf_of(receipt, ledger)
        presented = PresentedDocument.of(receipt)
    elif proof.extra:
        found = parse_presented(proof.extra)
        leaf, presented = found.leaf, found.document
        if presented is not None and presented.genesis != ledger.genesis:
            raise CommitmentMismatch("the document in it is of another ledger")
    else:
        raise ProofInvalid(
            "it does not say which leaf it is of", where="tlog-proof", fix="give the document's receipt"
        )
    proof.check(leaf, signed.checkpoint)
    _check_files(presented, digests)
    witnessed = ledger.witnessed(signed, now_s=now_s, greatest_age_s=greatest_age_s)
    return _logged(ledger, signed.checkpoint.size, proof.index, leaf, presented, witnessed)


def check_cose(
    data: bytes, receipt: Receipt, ledger: TrustedLedger, statement: KeyStatement, digests: Sequence[bytes]
) -> Logged:
    """A COSE receipt for the document in ``receipt``. Raises what is wrong."""
    found = parse_cose_receipt(data)
    leaf, presented = _leaf_of(receipt, ledger), PresentedDocument.of(receipt)
    found.verify(leaf, statement)
    _check_files(presented, digests)
    said = found.inclusion
    return replace(_logged(ledger, said.size, said.index, leaf, presented, None), as_of_s=said.as_of_s)


def check_token(
    data: bytes,
    receipt: Receipt,
    ledger: TrustedLedger,
    statement: KeyStatement,
    now_s: int,
    age_s: int | None,
) -> Told:
    """What a token says of the document in ``receipt``.

    Raises PolicyUnmet when it has expired or is older than ``age_s``, ProofInvalid when it is of another
    part of the list or the receipt does not prove where its document stands.
    """
    token = open_status_token(data, statement)
    checked_leaf(receipt, ledger)  # its index, too: another document's status would pass for this one's
    index = receipt.issue.index
    if not token.uri.endswith("/" + token_path(chunk_of(index))) or token.size <= index:
        first = chunk_of(index) * CHUNK_INDEXES
        raise ProofInvalid(
            f"it is not of the leaves from {first} on, where this document stands", where="status token"
        )
    if now_s >= token.expires_s or (age_s is not None and now_s - token.issued_s > age_s):
        raise PolicyUnmet("the token is too old", where="status token", fix="fetch a new one from its URI")
    status = read_status(token.chunk, index)
    training = ledger.training
    return Told(ledger.origin, training, token.size, index, status, token.issued_s, token.expires_s)


def _leaf_of(receipt: Receipt, ledger: TrustedLedger) -> bytes:
    """The leaf that the receipt's document makes; nothing else in the receipt is used."""
    if receipt.genesis != ledger.genesis:
        raise CommitmentMismatch("the receipt is of another ledger")
    leaf = PresentedDocument.of(receipt).leaf
    if leaf != receipt.issue.leaf:
        raise CommitmentMismatch("the receipt's document is not the one that was logged")
    return leaf


def _check_files(presented: PresentedDocument | None, digests: Sequence[bytes]) -> None:
    for digest in digests:
        if presented is None:
            raise ProofInvalid(
                "it holds no document that a file could be compared with",
                where="tlog-proof",
                fix="give the document's receipt",
            )
        presented.document.check_file(digest)


def _logged(
    ledger: TrustedLedger,
    size: int,
    index: int,
    leaf: bytes,
    presented: PresentedDocument | None,
    witnessed: int | None,
) -> Logged:
    kind = leaf_type(leaf)
    return Logged(
        origin=ledger.origin,
        training=ledger.training,
        size=size,
        index=index,
        kind=kind,
        issue=Issue.decode(leaf) if kind is LeafType.ISSUE else None,
        document=None if presented is None else presented.document.shown,
        witnessed_s=witnessed,
    )
