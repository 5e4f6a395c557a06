"""A receipt's proof in another form, from the receipt itself or from a node whose key has to sign it.

Nothing is handed out that was not checked: against the trust file, and for what a receipt key signs, by the
statement that leads to that key.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ledger.cose_receipts import parse_cose_receipt
from ledger.errors import CommitmentMismatch, ProofInvalid
from ledger.presented_documents import PresentedDocument
from ledger.proofs import prove_consistency, verify_consistency
from ledger.receipt_keys import KeyStatement, open_statement
from ledger.receipts import Receipt
from ledger.resources import LogTiles, checkpoint_path
from ledger.status import CHUNK_INDEXES, chunk_of
from ledger.status_tokens import StatusReference, open_status_token, token_path
from ledger.tiles import TileNodeReader
from ledger.tlog_proof import TlogProof
from ledger.trust import TrustedLedger
from tools.errors import NotFound
from tools.http_resources import HttpResources
from tools.receipt_renewal import renewed

KEYS: Final = "receipt-keys"
COSE: Final = "application/cose"


class Form(StrEnum):
    TLOG_PROOF = "tlog-proof"
    COSE = "cose"
    STATUS_TOKEN = "status-token"
    RECEIPT_KEYS = "receipt-keys"
    RECEIPT = "receipt"


ENDINGS: Final = {
    Form.TLOG_PROOF: ".tlog-proof",
    Form.COSE: ".cose",
    Form.STATUS_TOKEN: ".status.jwt",
    Form.RECEIPT_KEYS: ".receipt-keys",
    Form.RECEIPT: ".renewed.receipt.json",
}


@dataclass(frozen=True, slots=True)
class Exported:
    """What goes into the file. ``reference``: where the status is asked for, of a token."""

    data: bytes
    reference: StatusReference | None = None


def checked_leaf(receipt: Receipt, ledger: TrustedLedger) -> bytes:
    """The receipt's leaf, found to be this document's and to stand under a trusted checkpoint.

    Raises CommitmentMismatch, CheckpointUntrusted, ProofInvalid, and what its parts raise.
    """
    leaf, issue = receipt.issue.leaf, receipt.issue
    if PresentedDocument.of(receipt).leaf != leaf:
        raise CommitmentMismatch("the receipt's document is not the one that was logged")
    checkpoint = ledger.open(receipt.checkpoint).checkpoint
    TlogProof(issue.index, issue.path, receipt.checkpoint).check(leaf, checkpoint)
    return leaf


def tlog_proof(receipt: Receipt, ledger: TrustedLedger, *, leaf_only: bool) -> bytes:
    """With the document as its extra data, or with its leaf only. Needs no network. Raises as above."""
    leaf = checked_leaf(receipt, ledger)
    extra = leaf if leaf_only else PresentedDocument.of(receipt).encode()
    return TlogProof(receipt.issue.index, receipt.issue.path, receipt.checkpoint, extra).encode()


def key_statement(resources: HttpResources, ledger: TrustedLedger) -> tuple[bytes, KeyStatement]:
    """A node's signed statement of receipt keys, and what it says. Raises as :func:`open_statement`."""
    try:
        data = resources.fetch(KEYS)
    except NotFound as error:
        raise NotFound(
            "is not there: that node has no receipt key",
            where=error.where,
            fix="ask one that has, or take a tlog-proof, which needs none",
        ) from None
    return data, open_statement(data, ledger)


def fetched(form: Form, receipt: Receipt, ledger: TrustedLedger, resources: HttpResources) -> Exported:
    """The newest form of a receipt's proof that a node gives. Raises NotFound where its key is missing,
    and whatever is wrong with what it gave.
    """
    if form is Form.RECEIPT:
        return Exported(renewed(receipt, ledger, resources).encode())
    if form is Form.TLOG_PROOF:
        return Exported(tlog_proof(renewed(receipt, ledger, resources), ledger, leaf_only=False))
    data, statement = key_statement(resources, ledger)
    if form is Form.RECEIPT_KEYS:
        return Exported(data)
    leaf, index = checked_leaf(receipt, ledger), receipt.issue.index
    if form is Form.COSE:
        return Exported(_cose(resources, leaf, index, statement, receipt, ledger))
    reference = StatusReference.of(index, resources.url)
    token = resources.fetch(token_path(chunk_of(index)))
    opened = open_status_token(token, statement)
    if not opened.uri.endswith("/" + token_path(chunk_of(index))) or opened.size <= index:
        raise ProofInvalid("the token is not of the part of the list that was asked for", where=reference.uri)
    return Exported(token, StatusReference(opened.uri, index % CHUNK_INDEXES))


def _cose(
    resources: HttpResources,
    leaf: bytes,
    index: int,
    statement: KeyStatement,
    receipt: Receipt,
    ledger: TrustedLedger,
) -> bytes:
    """A COSE receipt whose root is one that the log signs too, and that extends what the receipt knows."""
    data = resources.fetch_form(f"v1/receipt/{index}", COSE)
    found = parse_cose_receipt(data)
    root = found.verify(leaf, statement)
    size = found.inclusion.size
    old = ledger.open(receipt.checkpoint).checkpoint
    new = ledger.open(resources.fetch(checkpoint_path(size))).checkpoint
    if (new.size, new.root, found.inclusion.index) != (size, root, index):
        raise ProofInvalid("its root is not the one that the log signed for this size", where="COSE receipt")
    path = prove_consistency(TileNodeReader(LogTiles(resources), size), old.size, size)
    verify_consistency(old.size, old.root, size, root, path)
    return data
