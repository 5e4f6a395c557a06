"""Whose record it is: the SUBMISSION that covers a leaf, the keys that signed it, and what they might do.

An ISSUE and an ATTEST are attributed in the same way. Nothing here is believed: each leaf is proven
under the checkpoint, each registry record under the seal. Format: docs/format.md, section Verification.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ledger.changes import AUTHORITY
from ledger.checkpoints import Checkpoint
from ledger.errors import KeyEnded, KeyUse, NotEntitled, ProofInvalid, TooFewSignatures, TypeNotPermitted
from ledger.hashing import leaf_hash
from ledger.leaves import NONE, LeafType
from ledger.proofs import verify_inclusion
from ledger.receipts import ProvenChange, ProvenChunk, ProvenLeaf, ProvenRecord, ProvenSubmission
from ledger.records import Status, StatusChange
from ledger.registry_records import AgencyRecord, KeyRecord, LedgerRecord
from ledger.rules_v1 import CLAIMED_FUTURE_MS
from ledger.seals import Seal
from ledger.signatures import key_fingerprint, verify
from ledger.signing_policy import RECORD_KINDS, RecordKind
from ledger.status import chunk_count, chunk_of, read_status
from ledger.submissions import SubmissionLeaf
from ledger.verdicts import Changed


@dataclass(frozen=True, slots=True)
class Sealed:
    """One checkpoint whose seal is proven: what every other proof leads to. ``genesis`` is G."""

    genesis: bytes
    checkpoint: Checkpoint
    seal: Seal

    def check_leaf(self, proven: ProvenLeaf) -> None:
        """Raises ProofInvalid, OutOfRange."""
        checkpoint = self.checkpoint
        verify_inclusion(leaf_hash(proven.leaf), proven.index, checkpoint.size, proven.path, checkpoint.root)

    def check_seal(self, proven: ProvenLeaf) -> None:
        """That the seal is the last leaf under the checkpoint. Raises ProofInvalid."""
        if proven.index != self.checkpoint.size - 1:
            raise ProofInvalid("the seal is not the last leaf under the checkpoint")
        self.check_leaf(proven)

    def check_record(self, proof: ProvenRecord, position: int, records: int) -> None:
        """That a record stands at its position among all ``records``. Raises ProofInvalid, OutOfRange."""
        verify_inclusion(leaf_hash(proof.record), position, records, proof.path, self.seal.registry_root)

    def status(self, index: int, proof: ProvenChunk) -> Status:
        """The status of a leaf. Raises ProofInvalid, OutOfRange."""
        chunks = chunk_count(self.checkpoint.size)
        verify_inclusion(leaf_hash(proof.chunk), chunk_of(index), chunks, proof.path, self.seal.status_root)
        return read_status(proof.chunk, index)


@dataclass(frozen=True, slots=True)
class Attribution:
    """The proofs that a record at ``leaf`` is its agency's: ``keys`` in the order of the signatures."""

    leaf: ProvenLeaf
    submission: ProvenSubmission
    agency: ProvenRecord
    keys: tuple[ProvenRecord, ...]


@dataclass(frozen=True, slots=True)
class Signed:
    """What an attribution shows: the agency, and the submission that its keys signed at index ``at``."""

    agency: AgencyRecord
    keys: tuple[KeyRecord, ...]
    head: SubmissionLeaf
    at: int


def check_submission(
    leaf: ProvenLeaf, proof: ProvenSubmission, agency: int, sealed: Sealed
) -> SubmissionLeaf:
    """The SUBMISSION of ``agency`` that covers the record. Raises ProofInvalid, LeafFormatError."""
    head = SubmissionLeaf.decode(proof.head.leaf)
    position = leaf.index - proof.head.index - 1
    if not 0 <= position < head.count:
        raise ProofInvalid("the submission does not cover the record")
    if head.agency != agency:
        raise ProofInvalid("the submission is another agency's")
    sealed.check_leaf(proof.head)
    verify_inclusion(leaf_hash(leaf.leaf), position, head.count, proof.records_path, head.records_root)
    if head.claimed_ms > sealed.seal.time_ms + CLAIMED_FUTURE_MS:
        raise ProofInvalid("the submission claims a time after its block")
    return head


def check_signers(proofs: Attribution, head: SubmissionLeaf, records: int, sealed: Sealed) -> Signed:
    """The registry's records of the agency and of each key that signed, and the signatures themselves.

    Raises ProofInvalid, KeyUse, SignatureInvalid, FormatError.
    """
    agency = AgencyRecord.decode(proofs.agency.record)
    if agency.number != head.agency:
        raise ProofInvalid("the agency's record is another's")
    sealed.check_record(proofs.agency, agency.number, records)
    if len(proofs.keys) != len(head.signatures):
        raise ProofInvalid("a key's record is missing")
    keys = []
    for proof, one in zip(proofs.keys, head.signatures, strict=True):
        key = KeyRecord.decode(proof.record)
        if (key.agency, key.number) != (agency.number, one.number):
            raise ProofInvalid(f"the record of key {one.number} is another key's")
        verify_inclusion(
            leaf_hash(proof.record), key.number - 1, agency.key_count, proof.path, agency.keys_root
        )
        if one.algorithm != key.algorithm:
            raise KeyUse(f"key {key.number} is of algorithm {key.algorithm}")
        fingerprint = key_fingerprint(key.algorithm, key.public_key)
        verify(key.algorithm, key.public_key, head.message(sealed.genesis, fingerprint), one.signature)
        keys.append(key)
    return Signed(agency, tuple(keys), head, proofs.submission.head.index)


def check_entitlement(signed: Signed, index: int, role: str | None, kind: RecordKind) -> bool:
    """Whether the record at ``index`` is doubtful: a key is reported stolen, and nobody has affirmed it.

    ``role``: which the agency must have had, None for a record that asks for none.

    Raises NotEntitled, KeyUse, KeyEnded or TooFewSignatures when the agency might not log it at all.
    """
    agency, at = signed.agency, signed.at
    check_agency(agency, at, role)
    for key in signed.keys:
        if key.use != "submit":
            raise KeyUse(f"key {key.number} is not for submissions")
        if not key.active_at(at):
            raise KeyEnded(f"key {key.number} was not in use when it signed")
    needed = agency.policy.at(at).of(kind).first_step
    if len(signed.keys) < needed:
        raise TooFewSignatures(f"{needed} officers had to sign, {len(signed.keys)} did")
    sound = sum(not key.stolen_at(at) for key in signed.keys)
    return sound < needed and not agency.affirmed_at(index)


def check_agency(agency: AgencyRecord, at: int, role: str | None) -> None:
    """That an agency was enrolled, not suspended and had the role at index ``at``. Raises NotEntitled."""
    if agency.enrolled >= at:
        raise NotEntitled(f"agency {agency.number} was enrolled after it is said to have signed")
    if agency.suspended.at(at) is not None:
        raise NotEntitled(f"agency {agency.number} was suspended when it signed")
    if role is not None and role not in agency.roles.at(at):
        raise NotEntitled(f"agency {agency.number} did not have the role {role}")


def check_type_permitted(agency: AgencyRecord, document_type: int, at: int) -> None:
    """That an agency might issue documents of a type at index ``at``. Raises TypeNotPermitted."""
    if document_type not in agency.types.at(at):
        raise TypeNotPermitted(f"agency {agency.number} may not issue documents of type {document_type}")


def check_changed(
    proof: ProvenChange, subject: int, status: Status, record: LedgerRecord, sealed: Sealed
) -> Changed:
    """The STATUS that gave a subject its present status, signed by whoever made it.

    What is final has one such STATUS that is not doubtful, since only what a thief made final is undone: an
    earlier one, undone and kept by somebody, shows itself. A suspension may be any of the subject's.

    ``record``: the ledger's. Raises ProofInvalid, FormatError, SignatureInvalid, and what
    :func:`check_entitlement` raises.
    """
    change = StatusChange.decode(proof.leaf.leaf)
    if (change.subject, change.status) != (subject, status):
        raise ProofInvalid("the change of status is not the one that the status list shows")
    sealed.check_leaf(proof.leaf)
    head = check_submission(proof.leaf, proof.submission, change.agency, sealed)
    names: Mapping[str, str] = {}
    doubtful = False
    if change.agency == AUTHORITY:
        check_authority(record, head, proof.submission.head.index, sealed)
    elif proof.agency is None:
        raise ProofInvalid("the record of who changed the status is missing")
    else:
        proofs = Attribution(proof.leaf, proof.submission, proof.agency, proof.keys)
        signed = check_signers(proofs, head, record.records, sealed)
        doubtful = check_entitlement(signed, proof.leaf.index, None, RECORD_KINDS[LeafType.STATUS])
        names = signed.agency.names.latest
    return Changed(
        index=proof.leaf.index,
        agency=change.agency,
        agency_names=names,
        changed_ms=head.claimed_ms,
        reason=change.reason,
        replacement=None if change.replacement == NONE or doubtful else change.replacement,
        doubtful=doubtful,
    )


def check_authority(record: LedgerRecord, head: SubmissionLeaf, at: int, sealed: Sealed) -> None:
    """That as many of the authority's keys as it took at index ``at`` signed.

    Raises TooFewSignatures, KeyEnded, KeyUse, SignatureInvalid.
    """
    if len(head.signatures) < record.threshold.at(at):
        raise TooFewSignatures(
            f"{record.threshold.at(at)} authority keys had to sign, {len(head.signatures)} did"
        )
    for one in head.signatures:
        key = record.authority_key(one.number)
        if key is None or key.added >= at or (key.ended is not None and key.ended <= at):
            raise KeyEnded(f"the authority's key {one.number} was not in use when it signed")
        if one.algorithm != key.algorithm:
            raise KeyUse(f"the authority's key {key.number} is of algorithm {key.algorithm}")
        fingerprint = key_fingerprint(key.algorithm, key.public_key)
        verify(key.algorithm, key.public_key, head.message(sealed.genesis, fingerprint), one.signature)
