"""The eight checks: what each lets pass, what each refuses, and that nothing unproven is shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest

from ledger import changes
from ledger.changes import AUTHORITY, Subject
from ledger.checks import CHECKS
from ledger.cosignatures import cosign, witness_key
from ledger.document_form import check_document_form
from ledger.documents import Disclosure, Document, Field, Hidden, Shown
from ledger.leaves import NONE
from ledger.notes import NamedSigner
from ledger.receipts import Receipt
from ledger.records import Basis, Status
from ledger.seals import Seal
from ledger.signing_policy import KindPolicy, SigningPolicy
from ledger.trust import Trust, TrustedKey
from ledger.verdicts import Verdict, VerdictCode
from ledger.verifier import verify_receipt
from tests.ledger.issued import FILE, Issued
from tests.ledger.world import World, log_key, signer

C = VerdictCode
DAY_MS = 86_400_000


@pytest.fixture(scope="module")
def issued() -> Issued:
    return Issued()


@pytest.fixture(scope="module")
def receipt(issued: Issued) -> Receipt:
    return issued.receipt()


def judge(issued: Issued, receipt: Receipt | None = None, **options: Any) -> Verdict:
    options.setdefault("now_ms", issued.world.now)
    options.setdefault("trust", issued.trust())
    return verify_receipt(receipt or issued.receipt(), options.pop("trust"), **options)


def test_a_genuine_document(issued: Issued, receipt: Receipt) -> None:
    verdict = judge(issued, receipt, file_digests=[sha256(FILE).digest()])
    assert verdict.code is C.GENUINE
    assert [step.name for step in verdict.steps] == list(CHECKS)
    assert all(step.passed and step.detail for step in verdict.steps)
    proven = verdict.proven
    assert proven is not None
    assert proven.agency_names["en"] == "Agency 1"
    assert [one.value.decode() for one in proven.fields[:2]] == [str(issued.type), "ئازاد حسن"]
    assert proven.index == issued.index
    assert proven.basis is Basis.ORIGINAL
    assert proven.unchecked_files == ()
    assert verdict.code.exit_code == 0


def test_files_that_were_not_given_are_named(issued: Issued, receipt: Receipt) -> None:
    proven = judge(issued, receipt).proven
    assert proven is not None
    assert proven.unchecked_files == ("scan.pdf",)


@pytest.mark.parametrize(
    ("to", "code"),
    [(Status.REVOKED, C.REVOKED), (Status.SUSPENDED, C.SUSPENDED), (Status.SUPERSEDED, C.SUPERSEDED)],
)
def test_a_later_status_shows(to: Status, code: VerdictCode) -> None:
    issued = Issued()
    early = issued.receipt()
    issued.set_status(to)
    verdict = judge(issued)
    assert verdict.code is code
    assert verdict.code.exit_code == 1
    assert verdict.proven is not None
    assert "as of" in verdict.reason
    assert judge(issued, early).code is C.GENUINE, "an older proof is as of its own time"


def test_a_suspension_can_be_lifted() -> None:
    issued = Issued()
    at = issued.set_status(Status.SUSPENDED)
    issued.set_status(Status.VALID, previous=at)
    assert judge(issued).code is C.GENUINE


def test_expiry_is_through_that_day_at_utc_plus_3() -> None:
    issued = Issued(expires="2026-01-05")
    last = 1_767_646_799_999  # 2026-01-05T23:59:59.999+03:00
    assert judge(issued, now_ms=last).code is C.GENUINE
    expired = judge(issued, now_ms=last + 1).code
    assert expired is C.GENUINE_EXPIRED
    assert expired.exit_code == 1, "a script that reads the exit code alone must not accept it"


@pytest.mark.parametrize("basis", list(Basis))
def test_the_basis_is_shown(basis: Basis) -> None:
    proven = judge(Issued(basis=basis)).proven
    assert proven is not None
    assert proven.basis is basis


def test_a_training_ledger_is_unmistakable(issued: Issued, receipt: Receipt) -> None:
    verdict = judge(issued, receipt)
    assert not verdict.headline.startswith("TRAINING")
    assert replace(verdict, training=True).headline.startswith("TRAINING LEDGER")


# --- 1, 2: whose checkpoint, how fresh ---


def test_a_ledger_that_is_not_trusted(issued: Issued, receipt: Receipt) -> None:
    other = replace(issued.trusted(), genesis=bytes(32))
    verdict = judge(issued, receipt, trust=Trust((other,)))
    assert verdict.code is C.WRONG_LEDGER
    assert verdict.proven is None


def test_one_of_several_trusted_ledgers(issued: Issued, receipt: Receipt) -> None:
    other = replace(issued.trusted(), genesis=bytes(32), origin="other.example")
    assert judge(issued, receipt, trust=Trust((other, issued.trusted()))).code is C.GENUINE


def test_a_checkpoint_of_another_key(issued: Issued, receipt: Receipt) -> None:
    from ledger.notes import VerifierKey

    stranger = VerifierKey.parse(log_key("stranger"))
    trust = Trust((replace(issued.trusted(), log_keys=(TrustedKey(stranger),)),))
    verdict = judge(issued, receipt, trust=trust)
    assert (verdict.code, verdict.proven) == (C.CANNOT_TELL, None), "the trust file may be the older one"
    assert "renew the trust file" in verdict.reason


def test_another_receipts_checkpoint() -> None:
    issued = Issued()
    early = issued.receipt()
    issued.world.idle()
    late = issued.receipt()
    assert judge(issued, late).code is C.GENUINE
    assert judge(issued, replace(early, checkpoint=late.checkpoint)).code is C.NOT_IN_LEDGER
    assert judge(issued, replace(late, checkpoint=early.checkpoint)).code is C.NOT_IN_LEDGER
    assert judge(issued, replace(late, seal=early.seal)).code is C.NOT_IN_LEDGER


def test_age_without_witnesses_is_the_seals(issued: Issued, receipt: Receipt) -> None:
    late = issued.world.now + 60_000
    assert judge(issued, receipt, now_ms=late, greatest_age_s=60).code is C.GENUINE
    verdict = judge(issued, receipt, now_ms=late + 1000, greatest_age_s=60)
    assert verdict.code is C.CANNOT_TELL
    assert "61 s old" in verdict.reason
    assert verdict.code.exit_code == 2


def test_a_clock_far_behind_cannot_tell(issued: Issued, receipt: Receipt) -> None:
    assert judge(issued, receipt, now_ms=issued.world.now - 300_000).code is C.GENUINE
    verdict = judge(issued, receipt, now_ms=issued.world.now - 300_001)
    assert verdict.code is C.CANNOT_TELL
    assert "clock" in verdict.reason


def test_rules_that_this_program_does_not_know(issued: Issued, receipt: Receipt) -> None:
    newer = replace(Seal.decode(receipt.seal.leaf), rules=2).encode()
    verdict = judge(issued, replace(receipt, seal=replace(receipt.seal, leaf=newer)))
    assert verdict.code is C.CANNOT_TELL
    assert "update this program" in verdict.reason


def _witnessed(issued: Issued, receipt: Receipt, names: Sequence[str], time_s: int) -> Receipt:
    note = issued.trusted().open(receipt.checkpoint).note
    lines = [cosign(note.text, NamedSigner(f"{name}.example", signer(name)), time_s) for name in names]
    return replace(receipt, checkpoint=note.with_signatures(lines).encode())


def test_a_witness_policy_is_asked_for(issued: Issued, receipt: Receipt) -> None:
    keys = {name: witness_key(f"{name}.example", signer(name).public_key).format() for name in ("w1", "w2")}
    policy = "".join(f"witness {name} {key}\n" for name, key in keys.items())
    policy += "group both all w1 w2\nquorum both\n"
    trust = Trust((issued.trusted(f"log {log_key('log')}\n{policy}"),))
    now_s = issued.world.now // 1000
    assert judge(issued, receipt, trust=trust).code is C.CANNOT_TELL
    one = _witnessed(issued, receipt, ["w1"], now_s)
    assert judge(issued, one, trust=trust).code is C.CANNOT_TELL
    both = _witnessed(issued, receipt, ["w1", "w2"], now_s)
    verdict = judge(issued, both, trust=trust)
    assert verdict.code is C.GENUINE
    assert verdict.proven is not None
    assert verdict.proven.witnessed_s == now_s
    later = issued.world.now + 10_000
    assert judge(issued, both, trust=trust, now_ms=later, greatest_age_s=10).code is C.GENUINE
    assert judge(issued, both, trust=trust, now_ms=later, greatest_age_s=9).code is C.CANNOT_TELL


# --- 3 to 7: proofs of leaves and records ---

Spoil = Callable[[Receipt], Receipt]


def _bit(data: bytes, at: int = -1) -> bytes:
    spoilt = bytearray(data)
    spoilt[at] ^= 1
    return bytes(spoilt)


def _key_record(receipt: Receipt, old: bytes, new: bytes) -> Receipt:
    (proof,) = receipt.registry.keys
    record = proof.record.replace(old, new)
    assert record != proof.record
    return replace(receipt, registry=replace(receipt.registry, keys=(replace(proof, record=record),)))


CHEATS: dict[str, tuple[str, Spoil]] = {
    "the issue's path cut": (
        "inclusion",
        lambda r: replace(r, issue=replace(r.issue, path=r.issue.path[:-1])),
    ),
    "the issue's path longer": (
        "inclusion",
        lambda r: replace(r, issue=replace(r.issue, path=(*r.issue.path, bytes(32)))),
    ),
    "the issue at another index": (
        "inclusion",
        lambda r: replace(r, issue=replace(r.issue, index=r.issue.index + 1)),
    ),
    "the issue at the seal's place": (
        "inclusion",
        lambda r: replace(r, issue=replace(r.issue, index=r.seal.index)),
    ),
    "the issue for another agency": (
        "inclusion",
        lambda r: replace(r, issue=replace(r.issue, leaf=_bit(r.issue.leaf, 5))),
    ),
    "a seal of its own making": (
        "seal",
        lambda r: replace(r, seal=replace(r.seal, leaf=_bit(r.seal.leaf, 60))),
    ),
    "a seal that is none": (
        "seal",
        lambda r: replace(r, seal=replace(r.seal, leaf=r.issue.leaf)),
    ),
    "a seal at another index": (
        "seal",
        lambda r: replace(r, seal=replace(r.seal, index=r.seal.index - 1)),
    ),
    "a status chunk of its own making": (
        "status",
        lambda r: replace(r, status=replace(r.status, chunk=_bit(r.status.chunk, 0))),
    ),
    "a status path where none is": (
        "status",
        lambda r: replace(r, status=replace(r.status, path=(bytes(32),))),
    ),
    "the submission at another index": (
        "submission",
        lambda r: replace(
            r,
            submission=replace(
                r.submission, head=replace(r.submission.head, index=r.submission.head.index - 1)
            ),
        ),
    ),
    "the submission far away": (
        "submission",
        lambda r: replace(r, submission=replace(r.submission, head=replace(r.submission.head, index=NONE))),
    ),
    "the submission's signature": (
        "submission",
        lambda r: replace(
            r,
            submission=replace(
                r.submission, head=replace(r.submission.head, leaf=_bit(r.submission.head.leaf))
            ),
        ),
    ),
    "the records path": (
        "submission",
        lambda r: replace(r, submission=replace(r.submission, records_path=r.submission.records_path[1:])),
    ),
    "no key record": (
        "submission",
        lambda r: replace(r, registry=replace(r.registry, keys=())),
    ),
    "a key record of its own making": (
        "submission",
        lambda r: _key_record(r, b'"ended":null', b'"ended":"9"'),
    ),
    "another agency's record": (
        "submission",
        lambda r: replace(r, registry=replace(r.registry, agency=r.registry.ledger)),
    ),
    "no type record": (
        "submission",
        lambda r: replace(r, registry=replace(r.registry, document_type=None)),
    ),
    "a ledger record of its own making": (
        "submission",
        lambda r: replace(
            r,
            registry=replace(
                r.registry,
                ledger=replace(
                    r.registry.ledger,
                    record=r.registry.ledger.record.replace(b'"agencies":1', b'"agencies":2'),
                ),
            ),
        ),
    ),
}


@pytest.mark.parametrize("desc", CHEATS)
def test_a_spoilt_proof_proves_nothing(desc: str, issued: Issued, receipt: Receipt) -> None:
    step, spoil = CHEATS[desc]
    verdict = judge(issued, spoil(receipt))
    assert verdict.code is C.NOT_IN_LEDGER
    assert verdict.proven is None
    assert verdict.steps[-1].name == step
    assert not verdict.steps[-1].passed
    assert verdict.reason == verdict.steps[-1].detail != ""


# --- 7: entitled then ---


def test_what_came_before_a_suspension_stays_genuine() -> None:
    issued = Issued()
    subject = Subject("agency", issued.agency)
    issued.world.change(subject, changes.AgencySuspended())
    assert judge(issued).code is C.GENUINE


def test_an_entitlement_taken_away_later_changes_nothing() -> None:
    issued = Issued()
    subject = Subject("agency", issued.agency)
    none = changes.Entitlement((), (), SigningPolicy())
    issued.world.change(subject, changes.AgencyEntitled(none))
    issued.world.change(subject, changes.KeyEnded(1))
    assert judge(issued).code is C.GENUINE


def test_a_key_stolen_before_makes_it_doubtful_and_after_does_not() -> None:
    issued = Issued()
    subject = Subject("agency", issued.agency)
    issued.world.change(subject, changes.KeyStolen(1, since=issued.submission + 1), by=AUTHORITY)
    assert judge(issued).code is C.GENUINE
    issued.world.change(subject, changes.KeyStolen(1, since=issued.submission), by=AUTHORITY)
    verdict = judge(issued)
    assert verdict.code is C.DOUBTFUL
    assert verdict.code.exit_code == 2


def test_a_second_sound_key_keeps_it_genuine() -> None:
    issued = Issued(signed_by=(1, 2))
    subject = Subject("agency", issued.agency)
    issued.world.change(subject, changes.KeyStolen(1, since=issued.submission), by=AUTHORITY)
    assert judge(issued).code is C.GENUINE


def test_four_eyes_with_one_stolen_key_is_doubtful() -> None:
    policy = SigningPolicy({"issue.original": KindPolicy(steps=((1, 2),))})
    issued = Issued(policy=policy, signed_by=(1, 2))
    assert judge(issued).code is C.GENUINE
    subject = Subject("agency", issued.agency)
    issued.world.change(subject, changes.KeyStolen(2, since=0), by=AUTHORITY)
    assert judge(issued).code is C.DOUBTFUL


def test_a_type_that_was_not_asked_for(issued: Issued, receipt: Receipt) -> None:
    assert judge(issued, receipt, expected_type=issued.type).code is C.GENUINE
    verdict = judge(issued, receipt, expected_type=issued.type + 1)
    assert verdict.code is C.WRONG_TYPE
    assert verdict.proven is None


# --- 8: the document ---


def _with_slots(receipt: Receipt, change: Callable[[list[Shown | Hidden]], None]) -> Receipt:
    slots = list(receipt.document.slots)
    change(slots)
    document = Disclosure(receipt.document.agency, receipt.document.document_type, tuple(slots))
    return replace(receipt, document=document)


def _set(slots: list[Shown | Hidden], at: int, slot: Shown | Hidden) -> None:
    slots[at] = slot


ALTERATIONS: dict[str, Callable[[list[Shown | Hidden]], None]] = {
    "another name": lambda s: _set(s, 1, Shown(Field.text("holder", "ئازاد حسین"), s[1].salt)),  # type: ignore[union-attr]
    "another salt": lambda s: _set(s, 1, Shown(s[1].field, bytes(16))),  # type: ignore[union-attr]
    "a field fewer": lambda s: s.pop(),  # type: ignore[dict-item]
    "a field more": lambda s: s.append(Shown(Field.text("more", "x"), bytes(16))),
    "fields in another order": lambda s: s.reverse(),
    "another file": lambda s: _set(s, 3, Shown(Field.file("scan.pdf", bytes(32)), s[3].salt)),  # type: ignore[union-attr]
    "hidden by another hash": lambda s: _set(s, 1, Hidden(bytes(32))),
    "a text as a file": lambda s: _set(s, 1, Shown(Field.file("holder", bytes(32)), s[1].salt)),  # type: ignore[union-attr]
}


@pytest.mark.parametrize("desc", ALTERATIONS)
def test_an_altered_document(desc: str, issued: Issued, receipt: Receipt) -> None:
    verdict = judge(issued, _with_slots(receipt, ALTERATIONS[desc]))
    assert verdict.code is C.ALTERED
    assert verdict.proven is None


def test_another_agency_or_type_on_the_document(issued: Issued, receipt: Receipt) -> None:
    for document in (
        replace(receipt.document, agency=2),
        replace(receipt.document, document_type=0),
    ):
        assert judge(issued, replace(receipt, document=document)).code is C.ALTERED


def test_another_file_than_was_issued(issued: Issued, receipt: Receipt) -> None:
    right, wrong = sha256(FILE).digest(), sha256(FILE + b".").digest()
    assert judge(issued, receipt, file_digests=[wrong]).code is C.ALTERED
    assert judge(issued, receipt, file_digests=[right, wrong]).code is C.ALTERED


def test_a_field_may_be_hidden_unless_the_type_forbids_it(issued: Issued) -> None:
    verdict = judge(issued, issued.receipt(frozenset({"holder"})))
    assert verdict.code is C.GENUINE
    assert verdict.proven is not None
    assert verdict.proven.hidden_fields == 1
    assert "holder" not in [one.name for one in verdict.proven.fields]
    verdict = judge(issued, issued.receipt(frozenset({"expires"})))
    assert verdict.code is C.ALTERED
    assert "may not be hidden" in verdict.reason


@pytest.mark.parametrize(
    ("desc", "fields"),
    [
        ("a required field empty", [("holder", ""), ("expires", "")]),
        ("a field missing", [("holder", "x")]),
        ("wrong order", [("expires", ""), ("holder", "x")]),
        ("a field too many", [("holder", "x"), ("expires", ""), ("more", "x")]),
        ("no date", [("holder", "x"), ("expires", "next year")]),
        ("no such day", [("holder", "x"), ("expires", "2026-02-30")]),
        ("digits of another script", [("holder", "x"), ("expires", "٢٠٢٦-٠١-٠١")]),
    ],
)
def test_a_form_that_does_not_fit_its_type(desc: str, fields: list[tuple[str, str]]) -> None:
    from ledger.errors import CommitmentMismatch, DocumentFormatError

    world = World()
    number = world.define_type()
    definition = world.state.registry.document_type(number)
    document = Document.build(1, number, [Field.text(name, value) for name, value in fields])
    with pytest.raises((CommitmentMismatch, DocumentFormatError)):
        check_document_form(document, definition)
