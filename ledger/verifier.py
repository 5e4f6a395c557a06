"""The light verifier: nine checks of one receipt against one trust file, with no network.

 1. the ledger is a trusted one, and a trusted log key signed the checkpoint
 2. the witness policy is met, by cosignatures that are fresh enough
 3. the ISSUE stands at its index in the tree
 4. the tree ends in a SEAL
 5. the status list under the seal says what became of the document
 6. the SUBMISSION that covers the ISSUE was signed by its keys
 7. the registry under the seal says that these keys, this agency and this type were entitled then
 8. the document is what the ISSUE commits to, and shows what may not be hidden
 9. each attestation that it bears was given by its agency, and what has become of it since

Each is a named step that either shows something or raises; the first that raises decides the
verdict, and then nothing of the document is shown. Format: docs/format.md, section Verification.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta, timezone
from typing import Final

from ledger.attestations import WantedAttestation, attestation_name, check_attestations
from ledger.attribution import (
    Attribution,
    Sealed,
    Signed,
    check_changed,
    check_entitlement,
    check_signers,
    check_submission,
)
from ledger.changes import Subject
from ledger.checkpoints import SignedCheckpoint, open_checkpoint
from ledger.cosignatures import verify_cosignatures
from ledger.documents import Document, Field, FieldKind, Hidden, Shown
from ledger.errors import (
    CheckpointUntrusted,
    CommitmentMismatch,
    DocumentFormatError,
    PolicyUnmet,
    ProofInvalid,
    RulesVersionUnknown,
    SudurError,
    TypeNotPermitted,
)
from ledger.receipts import Receipt
from ledger.records import Issue, Status
from ledger.registry_records import LedgerRecord, TypeRecord
from ledger.rules import SUPPORTED
from ledger.rules_v1 import CLAIMED_FUTURE_MS
from ledger.seals import Seal
from ledger.signing_policy import ISSUE_KINDS
from ledger.submissions import SubmissionLeaf
from ledger.trust import Trust, TrustedLedger
from ledger.verdicts import Attested, Changed, Proven, Step, Verdict, VerdictCode

EXPIRY_ZONE: Final = timezone(timedelta(hours=3))
_LAST_MS: Final = 253_402_300_799_999  # the last ms of year 9999
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)

CHECKS: Final = (
    "checkpoint",
    "witnesses",
    "inclusion",
    "seal",
    "status",
    "submission",
    "entitlement",
    "document",
    "attestations",
)


def verify_receipt(
    receipt: Receipt,
    trust: Trust,
    *,
    now_ms: int,
    greatest_age_s: int | None = None,
    file_digests: Sequence[bytes] = (),
    expected_type: int | None = None,
    attested: Sequence[WantedAttestation] = (),
) -> Verdict:
    """Check a receipt and say what it is worth; never raises for what a receipt says.

    About 0.6 ms for a usual one; reading one of the greatest size allowed takes over a second.

    ``now_ms``: the verifier's clock. ``greatest_age_s``: how old the newest witnessed time (or the
    seal's time, when no witness is asked for) may be. ``file_digests``: SHA-256 of each file that
    came with the document; every one must be a file that it was issued with, or one that an attestation
    on it names. ``attested``: the attestations that it has to bear.
    """
    check = _Check(
        receipt, trust, now_ms, greatest_age_s, tuple(file_digests), expected_type, tuple(attested)
    )
    try:
        return check.run()
    except _Failed as failed:
        ledger = check.ledger
        return Verdict(
            code=failed.code,
            reason=str(failed.error),
            steps=tuple(check.steps),
            proven=None,
            origin=None if ledger is None else ledger.origin,
            training=ledger is not None and ledger.training,
        )


class _Failed(Exception):
    """A check failed; ends the run."""

    def __init__(self, code: VerdictCode, error: SudurError) -> None:
        super().__init__(str(error))
        self.code = code
        self.error = error


@dataclass(slots=True)
class _Check:
    receipt: Receipt
    trust: Trust
    now_ms: int
    greatest_age_s: int | None
    file_digests: tuple[bytes, ...]
    expected_type: int | None
    attested: tuple[WantedAttestation, ...]
    steps: list[Step] = field(default_factory=list)
    ledger: TrustedLedger | None = None

    def run(self) -> Verdict:
        receipt = self.receipt
        with self._step("checkpoint", VerdictCode.WRONG_LEDGER):
            ledger = self.ledger = self.trust.ledger(receipt.genesis)
        with self._step("checkpoint", VerdictCode.NOT_IN_LEDGER):
            signed = open_checkpoint(receipt.checkpoint, ledger.origin, ledger.log_keys)
            self._passed(f"signed by {ledger.origin} at {signed.checkpoint.size} leaves")
        seal = self._check_seal_shape()
        with self._step("witnesses", VerdictCode.CANNOT_TELL):
            witnessed_s = self._check_witnesses(ledger, signed, seal)
        sealed = Sealed(receipt.genesis, signed.checkpoint, seal)
        with self._step("inclusion", VerdictCode.NOT_IN_LEDGER):
            issue = self._check_inclusion(sealed)
        with self._step("seal", VerdictCode.NOT_IN_LEDGER):
            self._check_seal(sealed)
        with self._step("status", VerdictCode.NOT_IN_LEDGER):
            status = sealed.status(receipt.issue.index, receipt.status)
            self._passed(f"{status.name.lower()} as of {_moment(seal.time_ms)}")
        registry = receipt.registry
        proofs = Attribution(receipt.issue, receipt.submission, registry.agency, registry.keys)
        with self._step("submission", VerdictCode.NOT_IN_LEDGER):
            head = check_submission(receipt.issue, receipt.submission, issue.agency, sealed)
            record, document_type = self._check_registry(ledger, signed, issue, sealed)
            by = self._check_signers(proofs, head, record.records, sealed)
        with self._step("status", VerdictCode.NOT_IN_LEDGER):
            changed = self._check_changed(status, record, sealed)
        with self._step("entitlement", VerdictCode.NOT_ENTITLED):
            doubtful = self._check_entitlement(by, issue)
        with self._step("document", VerdictCode.ALTERED):
            expires = self._check_document(issue, document_type)
        self._check_expected_type(issue)
        with self._step("attestations", VerdictCode.FALSE_ATTESTATION):
            below = status if not doubtful else None
            chain = check_attestations(receipt, below, record.records, sealed, self.file_digests)
            self._passed(f"{len(chain)} on it" if chain else "it bears none")
        proven = replace(
            self._proven(issue, seal, by, document_type, status, witnessed_s, expires),
            attestations=chain,
            changed=changed,
        )
        code, reason = self._judge(status, doubtful, expires, seal, chain)
        return Verdict(code, reason, tuple(self.steps), proven, ledger.origin, ledger.training)

    @contextmanager
    def _step(self, name: str, code: VerdictCode) -> Iterator[None]:
        """Turn whatever one of our errors says within into this step's verdict."""
        try:
            yield
        except SudurError as error:
            self.steps.append(Step(name, False, str(error)))
            raise _Failed(code, error) from error

    def _passed(self, detail: str) -> None:
        self.steps.append(Step(CHECKS[len(self.steps)], True, detail))

    # --- 2: witnesses ---

    def _check_seal_shape(self) -> Seal:
        with self._step("seal", VerdictCode.NOT_IN_LEDGER):
            seal = Seal.decode(self.receipt.seal.leaf)
        with self._step("seal", VerdictCode.CANNOT_TELL):
            if seal.rules not in SUPPORTED:
                raise RulesVersionUnknown(
                    f"the ledger is under rules version {seal.rules}", fix="update this program and try again"
                )
        return seal

    def _check_witnesses(self, ledger: TrustedLedger, signed: SignedCheckpoint, seal: Seal) -> int | None:
        if self.now_ms < seal.time_ms - CLAIMED_FUTURE_MS:
            raise PolicyUnmet(
                "this computer's clock is behind the ledger's time", fix="set the clock and try again"
            )
        policy = ledger.policy()
        if policy is None or policy.quorum is None:
            self._check_age(seal)
            self._passed("the trust file asks for none")
            return None
        cosignatures = verify_cosignatures(signed.note, policy.witness_keys)
        witnessed = policy.check(cosignatures, now_s=self.now_ms // 1000, greatest_age_s=self.greatest_age_s)
        self._passed(f"{len(cosignatures)} cosignatures meet the policy")
        return witnessed

    def _check_age(self, seal: Seal) -> None:
        age_s = (self.now_ms - seal.time_ms) // 1000
        if self.greatest_age_s is not None and age_s > self.greatest_age_s:
            raise PolicyUnmet(
                f"the proof is {age_s} s old, you accept at most {self.greatest_age_s} s",
                fix="fetch the current status from a node",
            )

    # --- 3 and 4: the leaves ---

    def _check_inclusion(self, sealed: Sealed) -> Issue:
        issue = self.receipt.issue
        record = Issue.decode(issue.leaf)
        if issue.index >= sealed.checkpoint.size - 1:
            raise ProofInvalid("an ISSUE stands below the seal")
        sealed.check_leaf(issue)
        self._passed(f"logged at index {issue.index}")
        return record

    def _check_seal(self, sealed: Sealed) -> None:
        if self.receipt.seal.index != sealed.checkpoint.size - 1:
            raise ProofInvalid("the seal is not the last leaf under the checkpoint")
        sealed.check_leaf(self.receipt.seal)
        self._passed(f"block {sealed.seal.block}, {_moment(sealed.seal.time_ms)}")

    # --- 6 and 7: who signed, and what they might do ---

    def _check_registry(
        self, ledger: TrustedLedger, signed: SignedCheckpoint, issue: Issue, sealed: Sealed
    ) -> tuple[LedgerRecord, TypeRecord | None]:
        proof = self.receipt.registry
        record = LedgerRecord.decode(proof.ledger.record)
        records = record.records
        sealed.check_record(proof.ledger, 0, records)
        if record.origin != ledger.origin or record.training != ledger.training:
            raise CheckpointUntrusted("the registry is of another ledger")
        _check_log_keys(record, ledger, signed)
        if not issue.document_type:
            if proof.document_type is not None:
                raise ProofInvalid("an undeclared type has no record")
            return record, None
        if proof.document_type is None:
            raise ProofInvalid(f"the record of {Subject('type', issue.document_type)} is missing")
        document_type = TypeRecord.decode(proof.document_type.record)
        if document_type.number != issue.document_type:
            raise ProofInvalid("the type's record is another's")
        sealed.check_record(proof.document_type, record.agencies + document_type.number, records)
        return record, document_type

    def _check_signers(
        self, proofs: Attribution, head: SubmissionLeaf, records: int, sealed: Sealed
    ) -> Signed:
        by = check_signers(proofs, head, records, sealed)
        numbers = ", ".join(str(key.number) for key in by.keys)
        self._passed(f"signed with key {numbers} of agency {by.agency.number}")
        return by

    def _check_changed(self, status: Status, record: LedgerRecord, sealed: Sealed) -> Changed | None:
        proof = self.receipt.changed
        if proof is None:
            return None
        return check_changed(proof, self.receipt.issue.index, status, record, sealed)

    def _check_entitlement(self, by: Signed, issue: Issue) -> bool:
        """Whether the document is doubtful; raises when the issuer was not entitled at all."""
        doubtful = check_entitlement(by, self.receipt.issue.index, "issue", ISSUE_KINDS[issue.basis])
        if issue.document_type not in by.agency.types.at(by.at):
            raise TypeNotPermitted(
                f"agency {by.agency.number} may not issue documents of type {issue.document_type}"
            )
        self._passed("a key is reported stolen" if doubtful else "entitled to issue this type then")
        return doubtful

    # --- 8: the document ---

    def _check_document(self, issue: Issue, definition: TypeRecord | None) -> str | None:
        """The day of expiry, if the type has one and the document bears it."""
        document = self.receipt.document
        if (document.agency, document.document_type) != (issue.agency, issue.document_type):
            raise CommitmentMismatch("agency or type is not what was logged")
        document.check()
        if document.commitment(self.receipt.genesis) != issue.commitment:
            raise CommitmentMismatch(
                "its fields are not those that were issued", fix="do not accept it; report it"
            )
        for digest in self.file_digests:
            self._check_file(digest)
        expires = None if definition is None else _check_form(document.slots, definition)
        self._passed(f"{len(document.shown)} fields match what was committed to")
        return expires

    def _check_file(self, digest: bytes) -> None:
        """That a file is one that was issued, or one that an attestation on it was given for."""
        copies = [one.copy for one in self.receipt.attestations if one.copy is not None]
        for copy in copies:
            if _has_file(copy.shown, digest):
                return
        self.receipt.document.check_file(digest)

    def _check_expected_type(self, issue: Issue) -> None:
        if self.expected_type is not None and issue.document_type != self.expected_type:
            with self._step("document", VerdictCode.WRONG_TYPE):
                raise TypeNotPermitted(
                    f"it is of type {issue.document_type}, type {self.expected_type} is asked for"
                )

    # --- the verdict ---

    def _proven(
        self,
        issue: Issue,
        seal: Seal,
        by: Signed,
        definition: TypeRecord | None,
        status: Status,
        witnessed_s: int | None,
        expires: str | None,
    ) -> Proven:
        document = self.receipt.document
        return Proven(
            agency=issue.agency,
            agency_names=by.agency.names.latest,
            document_type=issue.document_type,
            type_labels={} if definition is None else definition.labels,
            field_labels={} if definition is None else {one.name: one.labels for one in definition.fields},
            fields=document.shown,
            hidden_fields=len(document.slots) - len(document.shown),
            unchecked_files=tuple(
                one.name
                for one in document.shown
                if one.kind is FieldKind.FILE and one.value not in self.file_digests
            ),
            basis=issue.basis,
            status=status,
            index=self.receipt.issue.index,
            issued_ms=by.head.claimed_ms,
            as_of_ms=seal.time_ms,
            size=self.receipt.seal.index + 1,
            witnessed_s=witnessed_s,
            expires=expires,
        )

    def _judge(
        self,
        status: Status,
        doubtful: bool,
        expires: str | None,
        seal: Seal,
        chain: tuple[Attested, ...],
    ) -> tuple[VerdictCode, str]:
        as_of = f"as of {_moment(seal.time_ms)}"
        if status is Status.REVOKED:
            return VerdictCode.REVOKED, f"it was issued and has been revoked since, {as_of}"
        if status is Status.SUPERSEDED:
            return VerdictCode.SUPERSEDED, f"another document has taken its place, {as_of}"
        if status is Status.SUSPENDED:
            return VerdictCode.SUSPENDED, f"the issuer has suspended it, {as_of}; ask the issuer"
        if doubtful:
            return VerdictCode.DOUBTFUL, "ask the issuing agency to affirm it"
        fault = self._chain_fault(chain)
        if fault is not None:
            return fault
        if expires is not None and self.now_ms >= _end_of(expires):
            return VerdictCode.GENUINE_EXPIRED, f"it was valid through {expires}"
        broken = [one for one in chain if not one.stands]
        return VerdictCode.GENUINE, f"the document itself; {_why_broken(broken[0])}" if broken else ""

    def _chain_fault(self, chain: Sequence[Attested]) -> tuple[VerdictCode, str] | None:
        """What the attestations take from a document that stands.

        Anybody with the role can attest anybody's document, and later revoke that. So only those links
        count that were asked for, that show a copy, or whose copy a given file is.
        """
        for wanted in self.attested:
            links = [one for one in chain if wanted.names(one)]
            if not links:
                return VerdictCode.NOT_ATTESTED, f"it bears no {wanted}"
            if not any(one.stands for one in links):
                return VerdictCode.CHAIN_BROKEN, _why_broken(links[0])
        for link in chain:
            if link.copy and not link.stands:
                return VerdictCode.CHAIN_BROKEN, _why_broken(link)
        for digest in self.file_digests:
            if _has_file(self.receipt.document.shown, digest):
                continue
            links = [one for one in chain if _has_file(one.copy, digest)]
            if not any(wanted.names(one) for wanted in self.attested for one in links):
                only = f"only the {attestation_name(links[0].kind)} by agency {links[0].agency} does"
                why = f"the issuer does not vouch for a file, {only}; if you accept that, ask for it"
                return VerdictCode.ATTESTED_COPY, why
        return None


def _has_file(fields: Sequence[Field], digest: bytes) -> bool:
    return any(one.kind is FieldKind.FILE and one.value == digest for one in fields)


def _why_broken(link: Attested) -> str:
    name = f"the {attestation_name(link.kind)} by agency {link.agency}, at index {link.index},"
    if link.status is not Status.VALID:
        return f"{name} is {link.status.name.lower()}"
    if link.doubtful:
        return f"{name} was signed with a key that was reported stolen"
    return f"{name} stands on leaf {link.broken_by}, which does not stand"


def _check_log_keys(record: LedgerRecord, ledger: TrustedLedger, signed: SignedCheckpoint) -> None:
    """Whether a key that signed is one that the registry itself lets sign at this size."""
    names = {(one.name, one.key_id) for one in signed.note.signatures}
    lasting = {
        key.vkey
        for key in record.log_keys
        if key.last_size is None or signed.checkpoint.size <= key.last_size
    }
    signers = [key for key in ledger.log_keys if (key.name, key.key_id) in names]
    if not any(key.format() in lasting for key in signers):
        raise CheckpointUntrusted("the log key had ended before it signed this checkpoint")


def _check_form(slots: Sequence[Shown | Hidden], definition: TypeRecord) -> str | None:
    """The type's fields in the type's order, then files; returns the day of expiry."""
    if len(slots) < 1 + len(definition.fields):
        raise CommitmentMismatch("it does not have all the fields of its type")
    expires = None
    for slot, wanted in zip(slots[1:], definition.fields, strict=False):
        if isinstance(slot, Hidden):
            if wanted.shown:
                raise CommitmentMismatch(
                    f"the field {wanted.name} may not be hidden", fix="ask the holder to show it"
                )
            continue
        if (slot.field.kind, slot.field.name) != (FieldKind.TEXT, wanted.name):
            raise CommitmentMismatch(f"the field {slot.field.name} stands where {wanted.name} belongs")
        if wanted.required and not slot.field.value:
            raise CommitmentMismatch(f"the field {wanted.name} is empty")
        if wanted.expiry and slot.field.value:
            expires = slot.field.value.decode("utf-8")
            _end_of(expires)
    for slot in slots[1 + len(definition.fields) :]:
        if isinstance(slot, Shown) and slot.field.kind is not FieldKind.FILE:
            raise CommitmentMismatch(f"the field {slot.field.name} is not one of its type")
    return expires


def check_document_form(document: Document, definition: TypeRecord) -> None:
    """Whether a document is one that a verifier will accept for its type, before it is issued.

    Raises CommitmentMismatch or DocumentFormatError.
    """
    _check_form(document.disclose(bytes(16)).slots, definition)


def check_expiry(day: str) -> None:
    """Whether a text is a day of expiry as verifiers read it. Raises DocumentFormatError."""
    _end_of(day)


def _end_of(day: str) -> int:
    """The first ms after a day, at UTC+3. Raises DocumentFormatError."""
    try:
        if not _DATE.fullmatch(day):
            raise ValueError
        start = datetime.combine(date.fromisoformat(day), time(), EXPIRY_ZONE)
    except ValueError:
        raise DocumentFormatError(f"{day!r} is no day of the form YYYY-MM-DD") from None
    return int(start.timestamp() * 1000) + 86_400_000


def _moment(time_ms: int) -> str:
    if time_ms > _LAST_MS:
        return f"{time_ms} ms"
    return datetime.fromtimestamp(time_ms // 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
