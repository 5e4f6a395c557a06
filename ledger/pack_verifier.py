"""Verifies codes and receipts against an offline pack: no network, a fraction of a millisecond.

The checks are those of the light verifier, and share its code. What differs: inclusion is by the pack's
hashes; a code does not carry its SUBMISSION, so check 6 is left out, and whatever an agency logged at or
after a theft of any of its keys is doubtful unless affirmed. Everything is as of the pack. Format:
docs/format.md, section Verification with a pack.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from ledger.attestations import restood
from ledger.attribution import check_agency, check_type_permitted
from ledger.checks import Steps, check_witnesses, moment
from ledger.codes import Code, ledger_of_code, path_of
from ledger.document_form import check_form, end_of
from ledger.documents import Disclosure
from ledger.errors import (
    OutOfRange,
    PackError,
    PackOfAnother,
    PathMissing,
    PolicyUnmet,
    ProofInvalid,
    SudurError,
    UnknownType,
)
from ledger.judging import Asked, check_expected_type, judge, unchecked_files
from ledger.left_open import LeftOpen
from ledger.opened_pack import OpenedPack
from ledger.receipts import Receipt
from ledger.records import Issue, Status
from ledger.registry_records import AgencyRecord, TypeRecord
from ledger.trust import Trust
from ledger.verdicts import Proven, Step, Verdict, VerdictCode
from ledger.verifier import verify_receipt

NO_SUBMISSION: Final = "offline: who signed it needs a network"


@dataclass(frozen=True, slots=True)
class OfflineVerdict:
    """``left_open`` is None where nothing more is to be found out."""

    verdict: Verdict
    left_open: LeftOpen | None


def verify_code(
    code: Code, pack: OpenedPack, trust: Trust, asked: Asked, *, greatest_age_s: int | None = None
) -> OfflineVerdict:
    """Check a code against a proven pack; never raises for what a code says.

    ``trust`` is what the pack was opened with. ``greatest_age_s``: how old the pack may be, by its witnesses,
    or by its seal where none is asked for.
    """
    check = _Check(code, pack, trust, asked, greatest_age_s)
    verdict = check.steps.verdict(check.run)
    return OfflineVerdict(verdict, check.left_open)


@dataclass(slots=True)
class _Check:
    code: Code
    pack: OpenedPack
    trust: Trust
    asked: Asked
    greatest_age_s: int | None
    steps: Steps = field(default_factory=Steps)
    left_open: LeftOpen | None = None

    def run(self) -> Verdict:
        code, pack, steps = self.code, self.pack, self.steps
        self._check_ledger()
        with steps.step("witnesses", VerdictCode.CANNOT_TELL):
            witnessed_s, said = _check_age(pack, self.asked.now_ms, self.greatest_age_s)
            steps.passed(said)
        definition = self._definition()
        with steps.step("document", VerdictCode.ALTERED):
            document = code.disclosure(definition)
            expires = None if definition is None else check_form(document.slots, definition)
        issue = code.issue(document, pack.pack.genesis)
        expired = expires is not None and self.asked.now_ms >= end_of(expires)
        left = LeftOpen(pack.pack.genesis, code.index, issue.encode(), expired, self.asked.now_ms, pack.size)
        self._check_inclusion(issue, left)
        seal = pack.sealed.seal
        steps.passed(f"block {seal.block}, {moment(seal.time_ms)}")
        status = pack.status(code.index)
        steps.passed(f"{status.name.lower()} as of {moment(seal.time_ms)}")
        steps.left_out(NO_SUBMISSION)
        with steps.step("entitlement", VerdictCode.NOT_ENTITLED):
            agency = pack.agency(issue.agency)
            check_agency(agency, code.index, "issue")
            check_type_permitted(agency, issue.document_type, code.index)
            doubtful = pack.doubtful(agency.number, code.index)
            steps.passed("a key is reported stolen" if doubtful else "entitled to issue this type then")
        with steps.step("document", VerdictCode.ALTERED):
            for digest in self.asked.file_digests:
                document.check_file(digest)
            steps.passed(f"{len(document.shown)} fields match what was committed to")
        with steps.step("document", VerdictCode.WRONG_TYPE):
            check_expected_type(issue, self.asked)
        with steps.step("attestations", VerdictCode.CANNOT_TELL):
            if self.asked.attested:
                raise PackError("a code bears no attestations", fix="check it online, or with its receipt")
            steps.left_out("a code bears none")
        judged, reason = judge(
            self.asked,
            status=status,
            doubtful=doubtful,
            expires=expires,
            as_of_ms=seal.time_ms,
            fields=document.shown,
        )
        if status is not Status.VALID:
            self.left_open = None
        if judged is VerdictCode.GENUINE:
            reason = f"as of {moment(seal.time_ms)}; offline, so who signed it was not checked"
        proven = replace(
            _proven(pack, issue, document, definition, self.asked, code.index),
            status=status,
            expires=expires,
            witnessed_s=witnessed_s,
            doubtful=doubtful,
        )
        ledger = pack.ledger
        return Verdict(judged, reason, tuple(steps.taken), proven, ledger.origin, ledger.training)

    def _check_ledger(self) -> None:
        pack, steps = self.pack, self.steps
        if self.code.ledger != pack.pack.genesis[:4]:
            with steps.step("checkpoint", VerdictCode.WRONG_LEDGER):
                steps.ledger = ledger_of_code(self.code, self.trust)
            with steps.step("checkpoint", VerdictCode.CANNOT_TELL):
                raise _of_another(pack, steps.ledger.origin)
        steps.ledger = pack.ledger
        steps.passed(f"signed by {pack.ledger.origin} at {pack.size} leaves")

    def _definition(self) -> TypeRecord | None:
        """The document's type. One that is defined later than the pack is no fault of the document."""
        behind = self.code.index >= self.pack.size
        code = VerdictCode.CANNOT_TELL if behind else VerdictCode.NOT_IN_LEDGER
        with self.steps.step("inclusion", code):
            try:
                return self.pack.type(self.code.document_type)
            except UnknownType as error:
                fix = "update the pack, or check it online" if behind else ""
                raise UnknownType(error.what, fix=fix) from None

    def _check_inclusion(self, issue: Issue, left_open: LeftOpen) -> None:
        """A pack that is damaged, or cannot be read, is no fault of the document."""
        with self.steps.step("inclusion", VerdictCode.CANNOT_TELL):
            try:
                shown = self.pack.check_leaf(self.code.index, issue.encode(), self.code.path)
            except (ProofInvalid, OutOfRange):
                with self.steps.step("inclusion", VerdictCode.NOT_IN_LEDGER):
                    raise
            except PackError:
                self.left_open = left_open
                raise
        self.steps.passed(shown)
        self.left_open = left_open


def verify_receipt_with_pack(
    receipt: Receipt, pack: OpenedPack, trust: Trust, asked: Asked, *, greatest_age_s: int | None = None
) -> Verdict:
    """Check a receipt by itself, and what has become of it since by a pack that is newer.

    All nine checks are made on what the receipt proves. When the pack is newer, status, thefts and the
    attestations' own statuses are the pack's, and the ISSUE has to stand in it, as far as the pack can show
    that: a receipt of the last 256 leaves of its day has no path to its run, and is taken at its word then.
    An older pack tells nothing, and the verdict is the receipt's own.
    """

    def by_itself(age_s: int | None) -> Verdict:
        return verify_receipt(
            receipt,
            trust,
            now_ms=asked.now_ms,
            greatest_age_s=age_s,
            file_digests=asked.file_digests,
            expected_type=asked.expected_type,
            attested=asked.attested,
        )

    if pack.size <= receipt.seal.index + 1:
        return by_itself(greatest_age_s)
    own = by_itself(None)
    proven = own.proven
    if proven is None:
        return own
    steps = Steps(list(own.steps), pack.ledger)
    return steps.verdict(lambda: _renewed(receipt, own, proven, pack, asked, greatest_age_s, steps))


def _renewed(
    receipt: Receipt,
    own: Verdict,
    proven: Proven,
    pack: OpenedPack,
    asked: Asked,
    greatest_age_s: int | None,
    steps: Steps,
) -> Verdict:
    index = receipt.issue.index
    with steps.step("pack", VerdictCode.CANNOT_TELL):
        if pack.pack.genesis != receipt.genesis:
            raise _of_another(pack, own.origin or "")
        witnessed_s, _ = _check_age(pack, asked.now_ms, greatest_age_s)
        shown = _shown(receipt, proven, pack, steps)
        before = AgencyRecord.decode(receipt.registry.agency.record)
        doubtful = _doubtful_now(pack, before, index, proven.doubtful)
        status = pack.status(index)
        links = [
            _doubtful_now(pack, AgencyRecord.decode(one.agency.record), link.index, link.doubtful)
            for one, link in zip(receipt.attestations, proven.attestations, strict=True)
        ]
    stands = status is Status.VALID and not doubtful
    chain = restood(proven.attestations, index, stands, pack.status, links)
    as_of_ms = pack.as_of_ms
    said = f"newer than the receipt; {shown}; {status.name.lower()} as of {moment(as_of_ms)}"
    steps.taken.append(Step("pack", True, said))
    code, reason = judge(
        asked,
        status=status,
        doubtful=doubtful,
        expires=proven.expires,
        as_of_ms=as_of_ms,
        fields=proven.fields,
        chain=chain,
    )
    renewed = replace(
        proven,
        status=status,
        doubtful=doubtful,
        attestations=chain,
        as_of_ms=as_of_ms,
        genesis=pack.ledger.genesis,
        size=pack.size,
        root=pack.signed.checkpoint.root,
        witnessed_s=witnessed_s,
        changed=proven.changed if status is proven.status else None,
    )
    return replace(own, code=code, reason=reason, steps=tuple(steps.taken), proven=renewed)


def _shown(receipt: Receipt, proven: Proven, pack: OpenedPack, steps: Steps) -> str:
    """How the pack shows that the receipt's ISSUE stands in it, as far as it can."""
    path = path_of(proven.index, proven.size, receipt.issue.path)
    try:
        return pack.check_leaf(proven.index, receipt.issue.leaf, path)
    except PathMissing:
        return "taken at its word that it stands there"
    except ProofInvalid:
        with steps.step("pack", VerdictCode.NOT_IN_LEDGER):
            raise


def _doubtful_now(pack: OpenedPack, before: AgencyRecord, index: int, was: bool) -> bool:
    """Whether a record that its keys were proven of is doubtful as of the pack.

    As long as no key of the agency has changed, it is as it was, but for affirmations since; past that, the
    pack does not know which of the keys was stolen.
    """
    now = pack.agency(before.number)
    if now.keys_root == before.keys_root:
        return was and not now.affirmed_at(index)
    return pack.doubtful(before.number, index)


def _check_age(pack: OpenedPack, now_ms: int, greatest_age_s: int | None) -> tuple[int | None, str]:
    """As :func:`check_witnesses`, with words for a pack. Raises PolicyUnmet, SignatureInvalid."""

    def check(age_s: int | None) -> tuple[int | None, str]:
        return check_witnesses(pack.ledger, pack.signed, pack.sealed.seal, now_ms, age_s)

    found = check(None)
    if greatest_age_s is None:
        return found
    try:
        return check(greatest_age_s)
    except PolicyUnmet as error:
        raise PolicyUnmet(
            f"the pack of {moment(pack.as_of_ms)} is too old: {error.what}",
            fix="update it (sudur pack update), or check this online",
        ) from error


def _of_another(pack: OpenedPack, origin: str) -> SudurError:
    return PackOfAnother(
        f"the pack is of {pack.ledger.origin}, this is of {origin}", fix=f"take the pack of {origin}"
    )


def _proven(
    pack: OpenedPack,
    issue: Issue,
    document: Disclosure,
    definition: TypeRecord | None,
    asked: Asked,
    index: int,
) -> Proven:
    return Proven(
        agency=issue.agency,
        agency_names=pack.agency(issue.agency).names.latest,
        document_type=issue.document_type,
        type_labels={} if definition is None else definition.labels,
        field_labels={} if definition is None else {one.name: one.labels for one in definition.fields},
        fields=document.shown,
        hidden_fields=len(document.slots) - len(document.shown),
        unchecked_files=unchecked_files(document.shown, asked.file_digests),
        basis=issue.basis,
        status=Status.VALID,
        index=index,
        issued_ms=None,
        as_of_ms=pack.as_of_ms,
        genesis=pack.ledger.genesis,
        size=pack.size,
        root=pack.signed.checkpoint.root,
        witnessed_s=None,
        expires=None,
    )
