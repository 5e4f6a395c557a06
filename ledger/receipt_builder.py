"""Builds receipts from static resources: tiles, status chunk, registry records, checkpoint.

What a checkpoint commits to is fetched once for all receipts of that checkpoint; a receipt more
then costs the tiles that its own path needs. Everything fetched is checked against the
checkpoint's root before it is used, so a receipt that was built is a receipt that verifies.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Final

from ledger.changes import AUTHORITY
from ledger.documents import Disclosure
from ledger.errors import CommitmentMismatch, ProofInvalid
from ledger.hashing import leaf_hash
from ledger.leaves import LeafType, leaf_type
from ledger.merkle_list import MerkleList
from ledger.proven_registry import ProvenRegistry
from ledger.receipts import (
    MAX_ATTESTATIONS,
    ProvenAttestation,
    ProvenChange,
    ProvenChunk,
    ProvenLeaf,
    ProvenSubmission,
    Receipt,
    RegistryProof,
)
from ledger.records import MAX_RECORDS, Attest, Issue, Status, StatusChange
from ledger.resources import Event, Resources, fetch_events, fetch_status_chunk, fetch_status_list
from ledger.status import chunk_count, chunk_of, read_status
from ledger.submissions import SubmissionLeaf
from ledger.trust import TrustedLedger

NO_ATTESTATIONS: Final[Mapping[int, Disclosure | None]] = MappingProxyType({})


class ReceiptBuilder:
    """Receipts as of one checkpoint. Raises CheckpointUntrusted unless the trusted ledger signed it."""

    def __init__(self, resources: Resources, ledger: TrustedLedger, checkpoint: bytes) -> None:
        self._resources = resources
        self._ledger = ledger
        self._registry = ProvenRegistry(resources, ledger, checkpoint)
        self._log = self._registry.log
        self._chunks: dict[int, ProvenChunk] = {}
        self._events: dict[int, list[Event]] = {}
        self._submissions: dict[int, tuple[ProvenLeaf, list[bytes]]] = {}
        self._status_list = self._fetch_status_list()

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
        issue = self._log.leaf(index)
        record = Issue.decode(issue.leaf)
        if record.commitment != document.commitment(self._ledger.genesis):
            raise CommitmentMismatch(f"leaf {index} is of another document")
        submission = self._submission_over(index)
        head = SubmissionLeaf.decode(submission.head.leaf)
        registry = self._registry
        return Receipt(
            genesis=self._ledger.genesis,
            document=document,
            checkpoint=self._log.signed.data,
            issue=issue,
            seal=self._log.seal_proof,
            status=self._chunk(index),
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
        in. One that stands on what is not valid is left out, unless ``known`` has that. At most as many as
        a receipt has room for.
        """
        found: dict[int, Disclosure | None] = {}
        pending = [index]
        while pending:
            subject = pending.pop()
            for one in self._events_on(subject, LeafType.ATTEST):
                if one in known:
                    pending.append(one)
                elif len(known) + len(found) < MAX_ATTESTATIONS and self._status(one) is Status.VALID:
                    found[one] = None
                    pending.append(one)
        return found

    def _changed(self, index: int) -> ProvenChange | None:
        """The latest STATUS on a leaf that is not valid, if the resources name it."""
        changes = [] if self._status(index) is Status.VALID else self._events_on(index, LeafType.STATUS)
        if not changes:
            return None
        leaf = self._log.leaf(changes[-1])
        agency = StatusChange.decode(leaf.leaf).agency
        return ProvenChange(
            leaf,
            self._submission_over(leaf.index),
            None if agency == AUTHORITY else self._registry.agency_proof(agency),
        )

    def _events_on(self, subject: int, kind: LeafType) -> list[int]:
        """The indexes at which a STATUS or an ATTEST on ``subject`` is said to stand, ascending."""
        number = chunk_of(subject)
        if number not in self._events:
            self._events[number] = fetch_events(self._resources, number)
        return [
            one.index
            for one in self._events[number]
            if one.subject == subject and one.kind is kind and subject < one.index < self._log.size
        ]

    def _status(self, index: int) -> Status:
        return read_status(self._chunk(index).chunk, index)

    def _attestation(self, index: int, copy: Disclosure | None) -> ProvenAttestation:
        leaf = self._log.leaf(index)
        record = Attest.decode(leaf.leaf)
        if copy is not None and copy.commitment(self._ledger.genesis, "attested") != record.commitment:
            raise CommitmentMismatch(f"leaf {index} attests another copy")
        submission = self._submission_over(index)
        head = SubmissionLeaf.decode(submission.head.leaf)
        return ProvenAttestation(
            leaf=leaf,
            status=self._chunk(index),
            submission=submission,
            agency=self._registry.agency_proof(record.agency),
            keys=tuple(self._registry.key_proof(record.agency, one.number) for one in head.signatures),
            copy=copy,
        )

    # --- the submission ---

    def _submission_over(self, index: int) -> ProvenSubmission:
        for at in range(index - 1, max(index - 1 - MAX_RECORDS, -1), -1):
            if leaf_type(self._log.raw_leaf(at)) is LeafType.SUBMISSION:
                head, records = self._submission(at)
                position = index - at - 1
                if position >= len(records):
                    break
                path = MerkleList.of(map(leaf_hash, records)).path(position)
                return ProvenSubmission(head, tuple(path))
        raise ProofInvalid(f"no submission covers leaf {index}")

    def _submission(self, at: int) -> tuple[ProvenLeaf, list[bytes]]:
        if at not in self._submissions:
            head = self._log.leaf(at)
            count = SubmissionLeaf.decode(head.leaf).count
            end = min(at + 1 + count, self._log.size)
            self._submissions[at] = head, [self._log.raw_leaf(i) for i in range(at + 1, end)]
        return self._submissions[at]

    # --- the status list ---

    def _fetch_status_list(self) -> MerkleList:
        root = self._log.seal.status_root
        tree = MerkleList.of(fetch_status_list(self._resources, root, chunk_count(self._log.size)))
        if tree.root != root:
            raise ProofInvalid("the status list does not have the root that the seal names")
        return tree

    def _chunk(self, index: int) -> ProvenChunk:
        number = chunk_of(index)
        if number not in self._chunks:
            chunk = fetch_status_chunk(self._resources, self._status_list.hashes[number])
            self._chunks[number] = ProvenChunk(chunk, tuple(self._status_list.path(number)))
        return self._chunks[number]
