"""ISSUEs, SENDs and ANSWERs as of one checkpoint: each proven to be in the log, and signed by its agency.

An envelope's box says nothing of who made it, so whoever acts on a letter or a reply has to know whose
record names it. That is proven here, as a receipt proves an ISSUE.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from ledger.attribution import (
    Attribution,
    Sealed,
    check_entitlement,
    check_signers,
    check_submission,
    check_type_permitted,
)
from ledger.errors import ProofInvalid
from ledger.exchanges import SEND_ROLES
from ledger.leaves import NONE
from ledger.proven_registry import ProvenRegistry
from ledger.records import Answer, Issue, Send
from ledger.signing_policy import ISSUE_KINDS, RECORD_KINDS, RecordKind
from ledger.submissions import SubmissionLeaf

_R = TypeVar("_R", Issue, Send, Answer)


@dataclass(frozen=True, slots=True)
class Logged(Generic[_R]):
    """A record that its agency logged. ``claimed_ms``: when, as it says; within the window of the block's.

    ``doubtful``: a key that signed it was reported stolen, and nobody has affirmed it.
    """

    index: int
    record: _R
    claimed_ms: int
    doubtful: bool


class ProvenRecords:
    """Reads under the registry's checkpoint. A record costs its path and its agency's records, once.

    Every method raises ProofInvalid, OutOfRange, LeafFormatError, and for a record that its agency might
    not log NotEntitled, KeyUse, KeyEnded, TooFewSignatures, SignatureInvalid.
    """

    def __init__(self, registry: ProvenRegistry, genesis: bytes) -> None:
        self.registry = registry
        log = registry.log
        self._sealed = Sealed(genesis, log.signed.checkpoint, log.seal)

    def send(self, index: int) -> Logged[Send]:
        """The SEND at an index."""
        record = Send.decode(self.registry.log.leaf(index).leaf)
        role = SEND_ROLES[record.kind]
        if record.follows != NONE and record.follows < index:
            earlier = Send.decode(self.registry.log.leaf(record.follows).leaf)
            if record.agency not in self.heirs(earlier.agency):
                return self._proven(index, record, None, RECORD_KINDS[record.TYPE])
        return self._proven(index, record, role, RECORD_KINDS[record.TYPE])

    def issue(self, index: int) -> Logged[Issue]:
        """The ISSUE at an index. Raises TypeNotPermitted too."""
        record = Issue.decode(self.registry.log.leaf(index).leaf)
        found = self._proven(index, record, "issue", ISSUE_KINDS[record.basis])
        # No REGISTRY leaf stands between a SUBMISSION and its records: both stand under the same registry.
        check_type_permitted(self.registry.agency(record.agency), record.document_type, index)
        return found

    def answer(self, index: int, subject: int) -> Logged[Answer]:
        """The ANSWER at an index, to the SEND at ``subject``, by whoever had to answer that."""
        record = Answer.decode(self.registry.log.leaf(index).leaf)
        if record.subject != subject or subject >= index:
            raise ProofInvalid(f"leaf {index} is no answer to leaf {subject}")
        send = Send.decode(self.registry.log.leaf(subject).leaf)
        if record.agency not in self.heirs(send.recipient):
            raise ProofInvalid(f"leaf {index} is not the answer of agency {send.recipient}")
        return self._proven(index, record, None, RECORD_KINDS[record.TYPE])

    def heirs(self, agency: int) -> tuple[int, ...]:
        """An agency, its successor, that one's successor, and so on. Raises UnknownAgency."""
        found = [agency]
        while (heir := self.registry.agency(found[-1]).successor.latest) is not None and heir not in found:
            found.append(heir)
        return tuple(found)

    def _proven(self, index: int, record: _R, role: str | None, kind: RecordKind) -> Logged[_R]:
        registry = self.registry
        leaf = registry.log.leaf(index)
        submission = registry.log.submission_over(index)
        numbers = [one.number for one in SubmissionLeaf.decode(submission.head.leaf).signatures]
        keys = tuple(registry.key_proof(record.agency, number) for number in numbers)
        proofs = Attribution(leaf, submission, registry.agency_proof(record.agency), keys)
        head = check_submission(leaf, submission, record.agency, self._sealed)
        signed = check_signers(proofs, head, registry.ledger.records, self._sealed)
        return Logged(index, record, head.claimed_ms, check_entitlement(signed, index, role, kind))
