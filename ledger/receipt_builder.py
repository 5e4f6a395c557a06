"""Builds receipts from static resources: tiles, status chunk, registry records, checkpoint.

What a checkpoint commits to is fetched once for all receipts of that checkpoint; a receipt more
then costs the tiles that its own path needs. Everything fetched is checked against the
checkpoint's root before it is used, so a receipt that was built is a receipt that verifies.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Final

from ledger.attribution import Signed, check_entitlement
from ledger.changes import AUTHORITY
from ledger.documents import Disclosure
from ledger.errors import CommitmentMismatch
from ledger.leaves import LeafType
from ledger.proven_registry import ProvenRegistry
from ledger.proven_status import ProvenStatus
from ledger.receipts import (
    MAX_ATTESTATIONS,
    ProvenAttestation,
    ProvenChange,
    Receipt,
    RegistryProof,
)
from ledger.records import Attest, Issue, Status, StatusChange
from ledger.registry_records import TypeRecord
from ledger.resources import Resources, SubjectEvents
from ledger.signing_policy import RECORD_KINDS
from ledger.submissions import SubmissionLeaf
from ledger.trust import TrustedLedger

NO_ATTESTATIONS: Final[Mapping[int, Disclosure | None]] = MappingProxyType({})


class ReceiptBuilder:
    """Receipts as of one checkpoint. Raises CheckpointUntrusted unless the trusted ledger signed it."""

    def __init__(self, resources: Resources, ledger: TrustedLedger, checkpoint: bytes) -> None:
        self._ledger = ledger
        self._registry = ProvenRegistry(resources, ledger, checkpoint)
        self._log = self._registry.log
        self._events = SubjectEvents(resources, self._log.size)
        self._status = ProvenStatus(resources, self._log)

    def build(
        self,
        document: Disclosure,
        index: int,
        attestations: Mapping[int, Disclosure | None] = NO_ATTESTATIONS,
    ) -> Receipt:
        """The receipt of the document that was logged at ``index``.

        ``attestations``: the indexes of the ATTESTs that it is to carry, with what opens their
        commitments. Raises CommitmentMismatch when a leaf is another document's, ProofInvalid when what
        was fetched does not agree with the checkpoint.
        """
        record = self.issue(index)
        if record.commitment != document.commitment(self._ledger.genesis):
            raise CommitmentMismatch(f"leaf {index} is of another document")
        return self.prove(document, index, attestations)

    @property
    def size(self) -> int:
        return self._log.size

    def issue(self, index: int) -> Issue:
        """The ISSUE at an index, proven. Raises LeafFormatError when that is another leaf, OutOfRange."""
        return Issue.decode(self._log.leaf(index).leaf)

    def definition(self, number: int) -> TypeRecord | None:
        """A document type, proven; None for type 0. Raises UnknownType."""
        return self._registry.type(number) if number else None

    def prove(
        self,
        document: Disclosure,
        index: int,
        attestations: Mapping[int, Disclosure | None] = NO_ATTESTATIONS,
    ) -> Receipt:
        """As :meth:`build`, but for any document: whether it is the one that was logged, a verifier says."""
        issue = self._log.leaf(index)
        record = Issue.decode(issue.leaf)
        submission = self._log.submission_over(index)
        head = SubmissionLeaf.decode(submission.head.leaf)
        registry = self._registry
        return Receipt(
            genesis=self._ledger.genesis,
            document=document,
            checkpoint=self._log.signed.data,
            issue=issue,
            seal=self._log.seal_proof,
            status=self._status.chunk(index),
            submission=submission,
            registry=RegistryProof(
                ledger=registry.ledger_proof,
                agency=registry.agency_proof(record.agency),
                keys=tuple(registry.key_proof(record.agency, one.number) for one in head.signatures),
                document_type=registry.type_proof(record.document_type) if record.document_type else None,
            ),
            attestations=tuple(self._attestation(at, attestations[at]) for at in sorted(attestations)),
            changed=self._changed(index),
        )

    def standing_attestations(self, index: int, known: Collection[int] = ()) -> dict[int, Disclosure | None]:
        """The ATTESTs on leaf ``index``, or on one another, that are valid and not among ``known``.

        As the resources' lists of events say, which may leave some out; each is proven when it is built
        in. A doubtful one is left out, or whoever steals a key to attest could break the chain of any
        document; so is one that stands on what is not valid, unless ``known`` has that. At most as many
        as a receipt has room for.
        """
        found: dict[int, Disclosure | None] = {}
        pending = [index]
        while pending:
            subject = pending.pop()
            for one in self._events.on(subject, LeafType.ATTEST):
                if one in known:
                    pending.append(one)
                elif len(known) + len(found) < MAX_ATTESTATIONS and self._stands(one):
                    found[one] = None
                    pending.append(one)
        return found

    def _changed(self, index: int) -> ProvenChange | None:
        """The latest STATUS on a leaf that is not valid, if the resources name it."""
        if self._status.status(index) is Status.VALID:
            return None
        changes = self._events.on(index, LeafType.STATUS)
        if not changes:
            return None
        leaf = self._log.leaf(changes[-1])
        agency = StatusChange.decode(leaf.leaf).agency
        submission = self._log.submission_over(leaf.index)
        if agency == AUTHORITY:
            return ProvenChange(leaf, submission, None, ())
        head = SubmissionLeaf.decode(submission.head.leaf)
        keys = tuple(self._registry.key_proof(agency, one.number) for one in head.signatures)
        return ProvenChange(leaf, submission, self._registry.agency_proof(agency), keys)

    def _stands(self, index: int) -> bool:
        """Whether the ATTEST at ``index`` is valid and not doubtful."""
        if self._status.status(index) is not Status.VALID:
            return False
        number = Attest.decode(self._log.leaf(index).leaf).agency
        submission = self._log.submission_over(index)
        head = SubmissionLeaf.decode(submission.head.leaf)
        keys = tuple(self._registry.key(number, one.number) for one in head.signatures)
        signed = Signed(self._registry.agency(number), keys, head, submission.head.index)
        return not check_entitlement(signed, index, "attest", RECORD_KINDS[LeafType.ATTEST])

    def _attestation(self, index: int, copy: Disclosure | None) -> ProvenAttestation:
        leaf = self._log.leaf(index)
        record = Attest.decode(leaf.leaf)
        if copy is not None and copy.commitment(self._ledger.genesis, "attested") != record.commitment:
            raise CommitmentMismatch(f"leaf {index} attests another copy")
        submission = self._log.submission_over(index)
        head = SubmissionLeaf.decode(submission.head.leaf)
        return ProvenAttestation(
            leaf=leaf,
            status=self._status.chunk(index),
            submission=submission,
            agency=self._registry.agency_proof(record.agency),
            keys=tuple(self._registry.key_proof(record.agency, one.number) for one in head.signatures),
            copy=copy,
        )
