"""Every error of the core, in one hierarchy.

Each class has a ``code``: a stable, upper-case machine word that travels unchanged as the reason of
a gRPC error, as the type of an HTTP problem and in ``--json`` output. Each instance says *what* is
wrong, *where* (a field, an index, a line) and *what to do*.

Two branches matter to callers: :class:`FormatError` means that bytes could not be read at all,
:class:`VerificationError` that they were read and do not prove what they claim, and
:class:`RuleError` that a submission, a change or a block is not permitted by the ledger's rules.
"""

from __future__ import annotations

from typing import ClassVar


class SudurError(Exception):
    """Base of all errors raised on purpose. ``str(error)`` is one plain line for a person."""

    code: ClassVar[str] = "ERROR"

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.fix = fix

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}; {self.fix}" if self.fix else text

    def details(self) -> dict[str, str]:
        """Machine-readable facts beside the text (an index, a limit); values are short strings."""
        return {}


# --- bytes that cannot be read -----------------------------------------------------------------


class FormatError(SudurError):
    """Bytes that are not in the one canonical form that the format has."""

    code = "MALFORMED"


class LeafFormatError(FormatError):
    code = "MALFORMED_LEAF"


class NoteFormatError(FormatError):
    code = "MALFORMED_NOTE"


class TileFormatError(FormatError):
    code = "MALFORMED_TILE"


class ReceiptFormatError(FormatError):
    code = "MALFORMED_RECEIPT"


class TrustFormatError(FormatError):
    code = "MALFORMED_TRUST"


class PortableFormatError(FormatError):
    """A tlog-proof, COSE receipt, status token or statement of receipt keys that is not in its form."""

    code = "MALFORMED_PORTABLE_PROOF"


class DocumentFormatError(FormatError):
    """A document's fields cannot be committed to (control characters, names, sizes)."""

    code = "MALFORMED_DOCUMENT"


class EnvelopeFormatError(FormatError):
    code = "MALFORMED_ENVELOPE"


class CodeFormatError(FormatError):
    """A printed code that is none, or has something behind it."""

    code = "MALFORMED_CODE"


class CodeCutShort(CodeFormatError):
    """A scan that ended before the code did."""

    code = "CODE_CUT_SHORT"


class CodeMisread(CodeFormatError):
    """A code whose check does not fit: a digit was misread or mistyped."""

    code = "CODE_MISREAD"


class PackFormatError(FormatError):
    """An offline pack, or a delta to one, that is not in its form: damaged, cut short, or neither."""

    code = "MALFORMED_PACK"


class ReferenceInvalid(FormatError):
    """A reference number whose check digits do not fit: it was misread or mistyped."""

    code = "REFERENCE_INVALID"


class EvidenceFormatError(FormatError):
    code = "MALFORMED_EVIDENCE"


class TooLarge(FormatError):
    """A size cap was passed; nothing was parsed."""

    code = "TOO_LARGE"


class OutOfRange(SudurError):
    """An index or size beyond the tree, or a width that no tile has."""

    code = "OUT_OF_RANGE"


# --- claims that do not hold -------------------------------------------------------------------


class VerificationError(SudurError):
    """A claim was read and is not proven."""

    code = "NOT_PROVEN"


class ProofInvalid(VerificationError):
    """A Merkle path does not lead to the root."""

    code = "PROOF_INVALID"


class SignatureInvalid(VerificationError):
    code = "SIGNATURE_INVALID"


class CheckpointUntrusted(VerificationError):
    """A checkpoint lacks a valid signature by a key that the trust file names."""

    code = "CHECKPOINT_UNTRUSTED"


class LogKeyUnknown(CheckpointUntrusted):
    """No key that the trust file names signed it: a made-up one did, or one that came after the file."""


class PolicyUnmet(VerificationError):
    """A checkpoint lacks the cosignatures that the witness policy asks for, or they are too old."""

    code = "POLICY_UNMET"


class CommitmentMismatch(VerificationError):
    """A document's fields or files are not those that were committed to."""

    code = "COMMITMENT_MISMATCH"


class EnvelopeWrongDigest(VerificationError):
    """An envelope's bytes are not those that the log names."""

    code = "ENVELOPE_WRONG_DIGEST"


class EnvelopeWrongKey(VerificationError):
    """An envelope was sealed to none of the keys that are here, or was damaged."""

    code = "ENVELOPE_WRONG_KEY"


class EnvelopeWrongLedger(VerificationError):
    code = "ENVELOPE_WRONG_LEDGER"


class EnvelopeWrongSender(VerificationError):
    """Inside, an envelope names another sender than its record in the log does."""

    code = "ENVELOPE_WRONG_SENDER"


class EnvelopeWrongRecipient(VerificationError):
    """An envelope is for another agency than its record in the log says."""

    code = "ENVELOPE_WRONG_RECIPIENT"


class EnvelopeWrongCommitment(VerificationError):
    code = "ENVELOPE_WRONG_COMMITMENT"


# --- evidence against a log --------------------------------------------------------------------


class EvidenceProvesNothing(VerificationError):
    """An evidence file was read, and an honest log could bear all that it shows."""

    code = "EVIDENCE_PROVES_NOTHING"


class EvidenceIncomplete(SudurError):
    """What an evidence file shows does not decide: it takes a replay, or what is missing in it.

    No VerificationError, which the rules would take for a refusal of the block.
    """

    code = "EVIDENCE_INCOMPLETE"


# --- what the rules do not permit --------------------------------------------------------------


class RuleError(SudurError):
    """A submission, a registry change or a block that the rules of the ledger refuse."""

    code = "REFUSED"


class IndexedRuleError(RuleError):
    """A refusal that points at the leaf which stands in the way."""

    def __init__(self, what: str, *, index: int, where: str = "", fix: str = "") -> None:
        super().__init__(what, where=where, fix=fix)
        self.index = index

    def details(self) -> dict[str, str]:
        return {"index": str(self.index)}


class WrongLedger(RuleError):
    """Made for another ledger: the genesis hash differs."""

    code = "WRONG_LEDGER"


class WrongCount(RuleError):
    """The SUBMISSION leaf names another number of records than came with it."""

    code = "WRONG_COUNT"


class WrongRecordsRoot(RuleError):
    """The records are not those that the SUBMISSION leaf, and so its signatures, cover."""

    code = "WRONG_RECORDS_ROOT"


class ForeignRecord(RuleError):
    """A record in a submission bears another agency's number."""

    code = "FOREIGN_RECORD"


class ClaimedTimeOutsideWindow(RuleError):
    code = "CLAIMED_TIME_OUTSIDE_WINDOW"


class SubmissionRepeated(IndexedRuleError):
    """The same submission is in the ledger already; its first answer stands."""

    code = "SUBMISSION_REPEATED"


class DuplicateIssue(IndexedRuleError):
    """This agency has issued this very commitment before."""

    code = "DUPLICATE_ISSUE"


class UnknownAgency(RuleError):
    code = "UNKNOWN_AGENCY"


class AgencySuspended(RuleError):
    code = "AGENCY_SUSPENDED"


class KeyUnknown(RuleError):
    code = "KEY_UNKNOWN"


class KeyEnded(RuleError):
    code = "KEY_ENDED"


class KeyStolen(RuleError):
    code = "KEY_STOLEN"


class KeyUse(RuleError):
    """The key is registered for another use."""

    code = "KEY_USE"


class KeyReused(RuleError):
    """The public key has been registered before; a key is registered once ever."""

    code = "KEY_REUSED"


class TooFewSignatures(RuleError):
    code = "TOO_FEW_SIGNATURES"


class UnknownType(RuleError):
    code = "UNKNOWN_TYPE"


class TypeNotPermitted(RuleError):
    code = "TYPE_NOT_PERMITTED"


class DailyCapExceeded(RuleError):
    code = "DAILY_CAP"


class NotEntitled(RuleError):
    """Whoever signed may not make this change or send this record."""

    code = "NOT_ENTITLED"


class SubjectInvalid(RuleError):
    """The leaf that a record speaks of is not one that it can speak of."""

    code = "SUBJECT_INVALID"


class StatusStale(IndexedRuleError):
    """A status change that does not follow the subject's latest one."""

    code = "STATUS_STALE"


class StatusFinal(IndexedRuleError):
    code = "STATUS_FINAL"


class DuplicateAttest(IndexedRuleError):
    """This agency has attested the subject in this very way, and that attestation stands."""

    code = "DUPLICATE_ATTEST"


class AlreadyAnswered(IndexedRuleError):
    code = "ALREADY_ANSWERED"


class EnvelopeMissing(RuleError):
    """A record names an envelope that the node does not hold."""

    code = "ENVELOPE_MISSING"


class RegistryConflict(IndexedRuleError):
    """A registry change that does not follow the newest change of its subject."""

    code = "REGISTRY_CONFLICT"


class ChangeRefused(RuleError):
    """A registry change that would leave the registry inconsistent."""

    code = "CHANGE_REFUSED"


class RulesVersionUnknown(RuleError):
    """The ledger has moved to rules that this software does not have."""

    code = "RULES_VERSION_UNKNOWN"


class LedgerClosed(RuleError):
    """The authority has closed the ledger: what is new goes to the one that follows it."""

    code = "LEDGER_CLOSED"


class BlockRefused(RuleError):
    """A block whose shape, seal or order breaks the rules."""

    code = "BLOCK_REFUSED"


# --- offline packs -----------------------------------------------------------------------------


class PackError(SudurError):
    """An offline pack cannot tell what it is asked for; what is asked about may be sound all the same."""

    code = "PACK"


class PackBehind(PackError):
    """What is asked about was logged after the pack was made."""

    code = "PACK_BEHIND"


class PathMissing(PackError):
    """The pack holds the roots of runs of leaves alone, and the code bears no path to its run."""

    code = "PATH_MISSING"


class PackOfAnother(PackError):
    """The pack is of another ledger than what is asked about, though both are trusted."""

    code = "PACK_OF_ANOTHER"
