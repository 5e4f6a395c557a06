"""Verifies a code online: fetches what its receipt would hold, and judges that as any receipt.

Whole tiles, bundles, chunks and records are fetched, so whoever serves them learns which 256 leaves are
looked at, not which document.
"""

from __future__ import annotations

from dataclasses import replace

from ledger.checks import Steps
from ledger.codes import Code, ledger_of_code
from ledger.documents import Disclosure
from ledger.errors import CommitmentMismatch, LeafFormatError, OutOfRange, UnknownType
from ledger.judging import Asked
from ledger.receipt_builder import ReceiptBuilder
from ledger.receipts import Receipt
from ledger.records import Issue
from ledger.resources import CHECKPOINT, Resources
from ledger.trust import Trust
from ledger.verdicts import Step, Verdict, VerdictCode
from ledger.verifier import verify_receipt


def verify_code_online(
    code: Code, resources: Resources, trust: Trust, asked: Asked, *, greatest_age_s: int | None = None
) -> Verdict:
    """Check a code against the newest checkpoint of ``resources``, with all nine checks.

    What cannot be fetched, or does not agree with the checkpoint, leads to CANNOT_TELL.
    """
    steps = Steps()

    def run() -> Verdict:
        receipt = _receipt(code, resources, trust, steps)
        verdict = verify_receipt(
            receipt,
            trust,
            now_ms=asked.now_ms,
            greatest_age_s=greatest_age_s,
            file_digests=asked.file_digests,
            expected_type=asked.expected_type,
            attested=asked.attested,
        )
        return _with_basis(verdict, Issue.decode(receipt.issue.leaf), code)

    return steps.verdict(run)


def _receipt(code: Code, resources: Resources, trust: Trust, steps: Steps) -> Receipt:
    with steps.step("checkpoint", VerdictCode.WRONG_LEDGER):
        ledger = steps.ledger = ledger_of_code(code, trust)
    with steps.step("checkpoint", VerdictCode.CANNOT_TELL):
        builder = ReceiptBuilder(resources, ledger, resources.fetch(CHECKPOINT))
        if code.index >= builder.size:
            raise OutOfRange(
                f"the node shows {builder.size} leaves, this was logged at index {code.index}",
                fix="ask again later, or another node",
            )
        document = _document(code, builder, steps)
        try:
            builder.issue(code.index)
        except LeafFormatError:
            with steps.step("inclusion", VerdictCode.NOT_IN_LEDGER):
                raise
        return builder.prove(document, code.index, builder.standing_attestations(code.index))


def _document(code: Code, builder: ReceiptBuilder, steps: Steps) -> Disclosure:
    try:
        definition = builder.definition(code.document_type)
    except UnknownType:
        with steps.step("inclusion", VerdictCode.NOT_IN_LEDGER):
            raise
    with steps.step("document", VerdictCode.ALTERED):
        return code.disclosure(definition)


def _with_basis(verdict: Verdict, logged: Issue, code: Code) -> Verdict:
    """The commitment leaves the basis out, and a code says one: it has to be the one that was logged."""
    if verdict.proven is None or logged.basis is code.basis:
        return verdict
    error = CommitmentMismatch("its basis is not the one that was logged", fix="do not accept it; report it")
    steps = (*verdict.steps, Step("document", False, str(error)))
    return replace(verdict, code=VerdictCode.ALTERED, reason=str(error), steps=steps, proven=None)
