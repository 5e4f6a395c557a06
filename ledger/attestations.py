"""The chain of attestations on a document: translated, legalised, certified, one on another.

Each link is an ATTEST by its own agency, proven as the document itself is, with a status of its own. A
link stands only while everything below it does: when the original is revoked, the whole chain breaks.
Format: docs/format.md, section Verification.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ledger.attribution import (
    Attribution,
    Sealed,
    check_entitlement,
    check_signers,
    check_submission,
)
from ledger.documents import Disclosure, Field, FieldKind
from ledger.errors import CommitmentMismatch, ProofInvalid
from ledger.leaves import LeafType
from ledger.receipts import ProvenAttestation, Receipt
from ledger.records import ATTEST_KINDS, Attest, Status
from ledger.signing_policy import RECORD_KINDS
from ledger.verdicts import Attested


def attestation_name(kind: int) -> str:
    """What a kind of attestation is called."""
    return ATTEST_KINDS.get(kind, f"attestation of kind {kind}")


@dataclass(frozen=True, slots=True)
class WantedAttestation:
    """An attestation that a document has to bear: of a kind, and by one agency when that is named."""

    kind: int
    agency: int | None = None

    def names(self, link: Attested) -> bool:
        return link.kind == self.kind and self.agency in (None, link.agency)

    def __str__(self) -> str:
        by = "" if self.agency is None else f" by agency {self.agency}"
        return f"{attestation_name(self.kind)}{by}"


def check_attestations(
    receipt: Receipt, document: Status | None, records: int, sealed: Sealed, file_digests: Sequence[bytes]
) -> tuple[Attested, ...]:
    """Each attestation of a receipt, proven, with whether it stands.

    ``document``: the document's own status, None when it is doubtful. ``records``: how many the registry
    has. About 0.4 ms a link. Raises what the proofs raise, for a link that is not as it claims.
    """
    first = receipt.issue.index
    chain: list[Attested] = []
    below = {first: None if document is Status.VALID else first}
    last = first
    for proof in receipt.attestations:
        if proof.leaf.index <= last:
            raise ProofInvalid("the attestations are not in the order of the log")
        last = proof.leaf.index
        record = Attest.decode(proof.leaf.leaf)
        if record.subject not in below:
            raise ProofInvalid(f"the attestation at index {last} is not on this document")
        link = _link(proof, record, below[record.subject], records, sealed, file_digests)
        chain.append(link)
        below[last] = _broken_above(link)
    return tuple(chain)


def restood(
    chain: Sequence[Attested],
    document: int,
    stands: bool,
    status: Callable[[int], Status],
    doubtful: Sequence[bool],
) -> tuple[Attested, ...]:
    """A proven chain as newer statuses have it. ``document``: its index; ``doubtful``: of each link."""
    found: list[Attested] = []
    below = {document: None if stands else document}
    for link, now_doubtful in zip(chain, doubtful, strict=True):
        now = replace(link, status=status(link.index), doubtful=now_doubtful, broken_by=below[link.subject])
        found.append(now)
        below[link.index] = _broken_above(now)
    return tuple(found)


def _broken_above(link: Attested) -> int | None:
    """What breaks whatever is attested on this link; None when nothing does."""
    if link.broken_by is not None:
        return link.broken_by
    return None if link.stands else link.index


def _link(
    proof: ProvenAttestation,
    record: Attest,
    broken_by: int | None,
    records: int,
    sealed: Sealed,
    file_digests: Sequence[bytes],
) -> Attested:
    index = proof.leaf.index
    sealed.check_leaf(proof.leaf)
    proofs = Attribution(proof.leaf, proof.submission, proof.agency, proof.keys)
    head = check_submission(proof.leaf, proof.submission, record.agency, sealed)
    signed = check_signers(proofs, head, records, sealed)
    doubtful = check_entitlement(signed, index, "attest", RECORD_KINDS[LeafType.ATTEST])
    copy = _copy(proof.copy, record, sealed.genesis)
    return Attested(
        index=index,
        subject=record.subject,
        kind=record.kind,
        agency=record.agency,
        agency_names=signed.agency.names.latest,
        attested_ms=head.claimed_ms,
        status=sealed.status(index, proof.status),
        doubtful=doubtful,
        broken_by=broken_by,
        copy=copy,
        unchecked_files=tuple(
            one.name for one in copy if one.kind is FieldKind.FILE and one.value not in file_digests
        ),
    )


def _copy(copy: Disclosure | None, record: Attest, genesis: bytes) -> tuple[Field, ...]:
    if copy is None:
        return ()
    copy.check()
    if copy.agency != record.agency or copy.commitment(genesis, "attested") != record.commitment:
        raise CommitmentMismatch("the attested copy is not the one that was attested")
    return copy.shown
