"""A receipt renewed from static resources: the same document, proven as of now."""

from __future__ import annotations

from collections.abc import Mapping

from ledger.documents import Disclosure
from ledger.errors import ProofInvalid
from ledger.proofs import prove_consistency, verify_consistency
from ledger.receipt_builder import NO_ATTESTATIONS, ReceiptBuilder
from ledger.receipts import Receipt
from ledger.records import ATTEST_KINDS
from ledger.resources import CHECKPOINT, LogTiles, Resources
from ledger.tiles import TileNodeReader
from ledger.trust import TrustedLedger
from tools.errors import Usage


def renewed(
    receipt: Receipt,
    ledger: TrustedLedger,
    resources: Resources,
    joined: Mapping[int, Disclosure | None] = NO_ATTESTATIONS,
) -> Receipt:
    """The same document proven under the newest checkpoint, which must extend the receipt's own.

    The attestations that the receipt carries are renewed with it, and joined by those that were given since
    and stand, and by those in ``joined``.

    Raises CheckpointUntrusted, ProofInvalid when what is served is another history or does not agree
    with itself, and the source's own errors.
    """
    old = ledger.open(receipt.checkpoint).checkpoint
    newest = ledger.open(resources.fetch(CHECKPOINT))
    new = newest.checkpoint
    if new.size < old.size:
        raise ProofInvalid(
            f"it shows {new.size} leaves, the receipt is of {old.size}",
            where="newest checkpoint",
            fix="ask a node that is not behind",
        )
    path = prove_consistency(TileNodeReader(LogTiles(resources), new.size), old.size, new.size)
    try:
        verify_consistency(old.size, old.root, new.size, new.root, path)
    except ProofInvalid as error:
        raise ProofInvalid(
            "it is not shown to extend the history that the receipt was made in",
            where="newest checkpoint",
            fix="keep the receipt and report this to the authority",
        ) from error
    builder = ReceiptBuilder(resources, ledger, newest.data)
    index = receipt.issue.index
    carried = {**{one.leaf.index: one.copy for one in receipt.attestations}, **joined}
    return builder.build(receipt.document, index, carried | builder.standing_attestations(index, carried))


def attestation_kind(text: str, where: str) -> int:
    """The number of a kind of attestation, by its name or number. Raises Usage."""
    names = {name.replace(" ", "-"): kind for kind, name in ATTEST_KINDS.items()}
    if text in names:
        return names[text]
    if text.isascii() and text.isdigit() and len(text) <= 3 and 1 <= int(text) <= 255:
        return int(text)
    raise Usage(
        f"{text!a} is no kind of attestation", where=where, fix=f"one of {', '.join(names)}, or 1 to 255"
    )
