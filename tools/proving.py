"""An answer about a leaf, held to what the log proves."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from ledger.changes import AUTHORITY
from ledger.errors import ProofInvalid
from ledger.inquiries import AsOf, Issued, Named, Referred, Reply, Sent, Standing
from ledger.leaves import NONE, RECORD_TYPES, LeafType, leaf_type
from ledger.proven_registry import ProvenRegistry
from ledger.proven_status import ProvenStatus
from ledger.records import (
    MAX_RECORDS,
    UNDECLARED_TYPE,
    Affirm,
    Answer,
    Attest,
    Issue,
    Record,
    Send,
    StatusChange,
    parse_record,
)
from ledger.resources import Resources, checkpoint_path
from ledger.submissions import SubmissionLeaf
from ledger.trust import TrustedLedger


@dataclass(frozen=True, slots=True)
class ProvenReferred:
    """What was said, all of it found to be so. ``signed_ms``: when it was signed, by its signer's clock,
    which the rules hold to within a week of the block's time; None where nothing proves a time.
    """

    referred: Referred
    signed_ms: int | None


def prove_referred(
    found: Referred, as_of: AsOf, resources: Resources, ledger: TrustedLedger
) -> ProvenReferred:
    """Prove the leaf, its status, the names, and each ANSWER that the answer names, as of its size.

    Raises CheckpointUntrusted, ProofInvalid when the answer says other than the log, and what fetching
    raises. Not proven, for nothing here can: the times of blocks, and that there is no ANSWER.
    """
    proof = _Proof(resources, ledger, as_of)
    said, proven = found, proof.referred(found)
    if proven != said:
        wrong = [one.name for one in fields(Referred) if getattr(proven, one.name) != getattr(said, one.name)]
        raise ProofInvalid(
            f"the answer does not say what the log proves: {', '.join(wrong)}",
            where=f"leaf {found.index}",
            fix="do not rely on this node, and report it to the authority",
        )
    return ProvenReferred(proven, proof.signed_ms(found.index))


class _Proof:
    def __init__(self, resources: Resources, ledger: TrustedLedger, as_of: AsOf) -> None:
        checkpoint = resources.fetch(checkpoint_path(as_of.size))
        self._registry = ProvenRegistry(resources, ledger, checkpoint)
        self._log = self._registry.log
        if (self._log.size, self._log.seal.time_ms) != (as_of.size, as_of.time_ms):
            raise ProofInvalid("the answer is not as of the time that its checkpoint has", where="as of")
        self._status = ProvenStatus(resources, self._log)

    def referred(self, found: Referred) -> Referred:
        """The answer as the log proves it; what cannot be proven is taken from ``found``."""
        leaf = self._log.leaf(found.index).leaf
        kind = leaf_type(leaf)
        if kind in RECORD_TYPES:
            return self._record(found, kind, parse_record(leaf))
        agency = SubmissionLeaf.decode(leaf).agency if kind is LeafType.SUBMISSION else AUTHORITY
        return Referred(found.index, kind, self._named(agency), found.time_ms)

    def _record(self, found: Referred, kind: LeafType, record: Record) -> Referred:
        proven = Referred(found.index, kind, self._named(record.agency), found.time_ms)
        match record:
            case Issue():
                issued = Issued(record.document_type, self._labels(record), record.basis)
                return replace(proven, issued=issued, standing=self._standing(found))
            case Attest():
                return replace(
                    proven,
                    subject=record.subject,
                    attestation=record.kind,
                    standing=self._standing(found),
                )
            case Send():
                return replace(
                    proven, sent=self._sent(found, record), recipient=self._named(record.recipient)
                )
            case StatusChange() | Answer():
                return replace(proven, subject=record.subject)
            case Affirm():
                return proven

    def _named(self, agency: int) -> Named:
        return Named(agency, {} if agency == AUTHORITY else self._registry.agency(agency).names.latest)

    def _labels(self, record: Issue) -> dict[str, str]:
        if record.document_type == UNDECLARED_TYPE:
            return {}
        return dict(self._registry.type(record.document_type).labels)

    def _standing(self, found: Referred) -> Standing:
        """The bits of the status list, and the STATUS that the answer says has set them."""
        status = self._status.status(found.index)
        said = found.standing
        if said is None or said.changed is None:
            return Standing(status)
        change = StatusChange.decode(self._log.leaf(said.changed).leaf)
        if (change.subject, change.status) != (found.index, status):
            raise ProofInvalid("it is no status change of this leaf", where=f"leaf {said.changed}")
        replacement = None if change.replacement == NONE else change.replacement
        return Standing(status, said.changed, said.time_ms, change.reason, replacement)

    def _sent(self, found: Referred, send: Send) -> Sent:
        said = found.sent
        if said is None:
            raise ProofInvalid("the answer leaves out what has become of it", where=f"leaf {found.index}")
        return replace(
            said,
            index=found.index,
            agency=send.agency,
            recipient=send.recipient,
            kind=send.kind,
            due_days=send.due,
            follows=None if send.follows == NONE else send.follows,
            received=self._reply(found.index, said.received),
            final=self._reply(found.index, said.final),
        )

    def _reply(self, subject: int, said: Reply | None) -> Reply | None:
        if said is None:
            return None
        answer = Answer.decode(self._log.leaf(said.index).leaf)
        if answer.subject != subject:
            raise ProofInvalid("it is no ANSWER to this leaf", where=f"leaf {said.index}")
        return replace(said, agency=answer.agency, outcome=answer.outcome)

    def signed_ms(self, index: int) -> int | None:
        """The claimed time of the SUBMISSION that covers a leaf."""
        for at in range(index, max(index - MAX_RECORDS, 0) - 1, -1):
            if leaf_type(self._log.raw_leaf(at)) is LeafType.SUBMISSION:
                head = SubmissionLeaf.decode(self._log.leaf(at).leaf)
                return head.claimed_ms if index <= at + head.count else None
        return None
