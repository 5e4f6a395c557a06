"""Codes and receipts against a pack: every verdict, and that nothing unproven is shown."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from hashlib import sha256

import pytest

from ledger import changes
from ledger.attestations import WantedAttestation
from ledger.changes import Subject
from ledger.codes import Code, CodeField, decode_code, parse_code
from ledger.cosignatures import cosign, witness_key
from ledger.documents import Hidden
from ledger.errors import SudurError
from ledger.judging import Asked
from ledger.left_open import Settling
from ledger.notes import NamedSigner, parse_note
from ledger.opened_pack import OpenedPack, open_pack
from ledger.pack_verifier import verify_receipt_with_pack
from ledger.packs import Form
from ledger.receipt_builder import ReceiptBuilder
from ledger.receipts import Receipt
from ledger.records import Basis, Status
from ledger.trust import Trust
from ledger.verdicts import Verdict, VerdictCode
from tests.ledger.issued import FILE, SEED, Issued
from tests.ledger.packed import Packed, Runs
from tests.ledger.world import affirm, attest, signer, status

C = VerdictCode
FORMS = pytest.mark.parametrize("form", list(Form))


@pytest.fixture(scope="module")
def packed() -> Packed:
    return Packed()


@pytest.fixture(scope="module")
def opened(packed: Packed) -> OpenedPack:
    return packed.open()


@pytest.fixture(scope="module")
def code(packed: Packed) -> Code:
    return packed.code()


def assert_nothing_shown(verdict: Verdict, code: VerdictCode, *words: str) -> None:
    assert verdict.code is code, verdict
    assert verdict.proven is None
    assert verdict.steps[-1].passed is False
    for word in words:
        assert word in verdict.reason


# --- genuine ---


@FORMS
def test_a_genuine_document(packed: Packed, form: Form) -> None:
    pack = packed.open(form)
    found = packed.judge(packed.code(with_path=form is Form.SUBTREES), pack)
    verdict = found.verdict
    assert verdict.code is C.GENUINE
    assert verdict.reason.startswith("as of 2026-01-01")
    assert "who signed it was not checked" in verdict.reason
    assert [one.name for one in verdict.steps if one.passed is None] == ["submission", "attestations"]
    assert all(one.detail for one in verdict.steps)
    proven = verdict.proven
    assert proven is not None
    assert [one.value.decode() for one in proven.fields[:2]] == ["1", "ئازاد حسن"]
    assert proven.agency_names["en"] == "Agency 1"
    assert proven.issued_ms is None
    assert (proven.as_of_ms, proven.size) == (pack.as_of_ms, pack.size)
    assert proven.unchecked_files == ("scan.pdf",)
    left = found.left_open
    assert left is not None
    assert (left.index, left.expired) == (packed.issued.index, False)
    assert left.issue == packed.static().leaves[left.index]


def test_what_is_printed_is_what_verifies(packed: Packed, opened: OpenedPack, code: Code) -> None:
    text = code.text()
    arabic = text.translate(str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩"))
    for one in (text, arabic, f"https://elsewhere.example/#{text}"):
        assert packed.judge(parse_code(one), opened).verdict.code is C.GENUINE


def test_fields_that_the_holder_hides(packed: Packed, opened: OpenedPack) -> None:
    verdict = packed.judge(packed.code(frozenset(["holder", "scan.pdf"])), opened).verdict
    assert verdict.code is C.GENUINE
    assert verdict.proven is not None
    assert verdict.proven.hidden_fields == 2
    assert [one.name for one in verdict.proven.fields] == ["type", "expires"]
    assert_nothing_shown(
        packed.judge(packed.code(frozenset(["expires"])), opened).verdict, C.ALTERED, "may not be hidden"
    )


def test_a_document_of_the_tail_needs_no_path() -> None:
    packed = Packed(filled=False)
    assert packed.code().path == ()
    assert packed.judge(packed.code()).verdict.code is C.GENUINE


def test_the_file_itself(packed: Packed, opened: OpenedPack, code: Code) -> None:
    found = packed.judge(code, opened, file_digests=(sha256(FILE).digest(),)).verdict
    assert found.code is C.GENUINE
    assert found.proven is not None
    assert found.proven.unchecked_files == ()
    other = packed.judge(code, opened, file_digests=(bytes(32),)).verdict
    assert_nothing_shown(other, C.ALTERED, "this file is not one")


@pytest.mark.parametrize("basis", list(Basis))
def test_the_basis_is_shown_and_bound(basis: Basis) -> None:
    packed = Packed(Issued(basis=basis), filled=False)
    pack, code = packed.open(), packed.code()
    proven = packed.judge(code, pack).verdict.proven
    assert proven is not None
    assert proven.basis is basis
    for other in set(Basis) - {basis}:
        assert_nothing_shown(packed.judge(replace(code, basis=other), pack).verdict, C.NOT_IN_LEDGER)


def test_expiry() -> None:
    packed = Packed(Issued(expires="2026-01-05"), filled=False)
    last = 1_767_646_799_999
    assert packed.judge(now_ms=last).verdict.code is C.GENUINE
    found = packed.judge(now_ms=last + 1)
    assert found.verdict.code is C.GENUINE_EXPIRED
    assert found.left_open is not None
    assert found.left_open.expired


@pytest.mark.parametrize(
    ("to", "code"),
    [(Status.REVOKED, C.REVOKED), (Status.SUSPENDED, C.SUSPENDED), (Status.SUPERSEDED, C.SUPERSEDED)],
)
def test_a_status_shows_in_every_pack_after_it(to: Status, code: VerdictCode) -> None:
    packed = Packed()
    before = packed.open()
    packed.issued.set_status(to)
    after = packed.open(old=before)
    assert packed.judge(pack=before).verdict.code is C.GENUINE
    found = packed.judge(pack=after)
    assert found.verdict.code is code
    assert "as of" in found.verdict.reason
    assert found.left_open is None, "nothing more is to be found out"


def test_a_training_ledger_is_unmistakable(packed: Packed, code: Code) -> None:
    pack = packed.open()
    pack.ledger = replace(pack.ledger, training=True)
    found = packed.judge(code, pack).verdict
    assert found.code is C.GENUINE
    assert found.headline.startswith("TRAINING LEDGER")


# --- what a clerk must not accept ---


def test_a_changed_value(packed: Packed, opened: OpenedPack, code: Code) -> None:
    first = replace(_field(code, 0), value="ئازاد حسين".encode())
    changed = replace(code, slots=(first, *code.slots[1:]))
    found = packed.judge(changed, opened)
    assert_nothing_shown(found.verdict, C.NOT_IN_LEDGER, "altered, or never issued")
    assert found.left_open is None


def test_everything_that_a_code_says_is_bound(packed: Packed, code: Code) -> None:
    """Any one thing changed, in either form of pack: nothing of it is shown."""
    hidden = packed.code(frozenset(["holder"]))
    slot = hidden.slots[0]
    assert isinstance(slot, Hidden)
    wrong = [
        replace(code, agency=2),
        replace(code, document_type=0, slots=tuple(_named(code))),
        replace(code, index=code.index + 1),
        replace(code, index=0),
        replace(code, index=packed.open().size - 1),
        replace(code, opening=bytes(16)),
        replace(code, slots=code.slots[:-1]),
        replace(code, slots=(*code.slots, replace(_field(code, -1), name="more"))),
        replace(code, path=code.path[::-1]),
        replace(hidden, opening=bytes(16)),
        replace(hidden, slots=(Hidden(bytes(32)), *hidden.slots[1:])),
        replace(hidden, slots=(slot, replace(_field(hidden, 1), salt=bytes(16)), *hidden.slots[2:])),
    ]
    for pack in (packed.open(), packed.open(Form.LEAVES)):
        for one in wrong:
            verdict = packed.judge(one, pack).verdict
            if one.path != code.path and pack.pack.form is Form.LEAVES:
                assert verdict.code is C.GENUINE, "a path is not asked for there"
                continue
            assert verdict.code in (C.NOT_IN_LEDGER, C.ALTERED), (one, verdict)
            assert verdict.proven is None


def _field(code: Code, at: int) -> CodeField:
    found = code.slots[at]
    assert isinstance(found, CodeField)
    return found


def _named(code: Code) -> list[CodeField]:
    fields = [_field(code, at) for at in range(len(code.slots))]
    return [replace(one, name=one.name or f"f{at}") for at, one in enumerate(fields)]


def test_another_type_than_was_asked_for(packed: Packed, opened: OpenedPack, code: Code) -> None:
    assert packed.judge(code, opened, expected_type=packed.issued.type).verdict.code is C.GENUINE
    assert_nothing_shown(packed.judge(code, opened, expected_type=9).verdict, C.WRONG_TYPE)


def test_a_type_that_nobody_defined(packed: Packed, opened: OpenedPack, code: Code) -> None:
    assert_nothing_shown(packed.judge(replace(code, document_type=9), opened).verdict, C.NOT_IN_LEDGER)


def test_an_issuer_that_was_suspended_since_keeps_what_it_issued() -> None:
    packed = Packed()
    packed.issued.world.change(Subject("agency", 1), changes.AgencySuspended())
    assert packed.judge().verdict.code is C.GENUINE


def test_nobody_is_asked_for_what_was_taken_from_them_later() -> None:
    """Types and roles count as of the document, not as of now."""
    packed = Packed()
    pack = packed.open()
    record = pack.agency(1)
    taken = replace(record, types=record.types.then(packed.issued.index + 1, (0,)))
    pack._agencies[1] = taken
    assert packed.judge(pack=pack).verdict.code is C.GENUINE
    pack._agencies[1] = replace(record, types=record.types.then(packed.issued.index, (0,)))
    assert_nothing_shown(packed.judge(pack=pack).verdict, C.NOT_ENTITLED, "may not issue")
    pack._agencies[1] = replace(record, roles=record.roles.then(packed.issued.index, ()))
    assert_nothing_shown(packed.judge(pack=pack).verdict, C.NOT_ENTITLED, "did not have the role")


# --- stolen keys ---


def stolen_since(packed: Packed, index: int, number: int = 1) -> None:
    packed.issued.world.change(Subject("agency", 1), changes.KeyStolen(number, index))


def test_a_theft_makes_all_at_or_after_it_doubtful_unless_affirmed() -> None:
    packed = Packed()
    index = packed.issued.index
    stolen_since(packed, index + 1)
    assert packed.judge().verdict.code is C.GENUINE, "it was logged before"
    stolen_since(packed, index)
    found = packed.judge()
    assert found.verdict.code is C.DOUBTFUL
    assert found.left_open is not None, "who signed it may clear that up"
    packed.issued.world.submit(1, [affirm(1, 1, index, index)], keys=(2,))
    assert packed.judge().verdict.code is C.GENUINE


def test_another_key_of_the_agency_counts_too_since_nobody_says_who_signed() -> None:
    packed = Packed()
    stolen_since(packed, packed.issued.index, number=2)
    assert packed.judge().verdict.code is C.DOUBTFUL
    receipt = packed.issued.receipt()
    assert judged(packed, receipt, packed.open()).code is C.GENUINE, "a receipt says who signed"


# --- cannot tell ---


def test_a_code_that_is_newer_than_the_pack(packed: Packed, opened: OpenedPack, code: Code) -> None:
    size = opened.size
    later = replace(code, index=size + 5)
    found = packed.judge(later, opened)
    assert_nothing_shown(found.verdict, C.CANNOT_TELL, f"the pack ends at {size} leaves", "update the pack")
    assert found.left_open is not None
    unknown = packed.judge(replace(later, document_type=9), opened)
    assert_nothing_shown(unknown.verdict, C.CANNOT_TELL, "not defined", "update the pack")
    assert unknown.left_open is None, "its form cannot be looked at"


def test_a_code_without_path_and_a_pack_of_roots(packed: Packed, opened: OpenedPack) -> None:
    found = packed.judge(packed.code(with_path=False), opened)
    assert_nothing_shown(found.verdict, C.CANNOT_TELL, "no path", "check it online", "form leaves")
    assert found.left_open is not None


def test_a_pack_that_is_too_old(packed: Packed, opened: OpenedPack, code: Code) -> None:
    late = opened.as_of_ms + 86_400_000
    assert packed.judge(code, opened, now_ms=late).verdict.code is C.GENUINE
    found = packed.judge(code, opened, now_ms=late, greatest_age_s=3_600)
    assert_nothing_shown(found.verdict, C.CANNOT_TELL, "is too old", "86400 s", "sudur pack update")


def test_a_clock_that_is_behind(packed: Packed, opened: OpenedPack, code: Code) -> None:
    assert_nothing_shown(
        packed.judge(code, opened, now_ms=opened.as_of_ms - 300_001).verdict, C.CANNOT_TELL, "set the clock"
    )


WITNESS = signer("witness")
POLICY = f"witness w {witness_key('w.example/1', WITNESS.public_key).format()}\nquorum w\n"


def cosigned(packed: Packed, time_s: int) -> tuple[OpenedPack, Trust]:
    trust = Trust((packed.issued.trusted(POLICY),))
    pack = packed.open().pack
    note = parse_note(pack.checkpoint)
    line = cosign(note.text, NamedSigner("w.example/1", WITNESS), time_s).line()
    return open_pack(replace(pack, checkpoint=pack.checkpoint + line), trust), trust


def test_witnesses_are_asked_for(packed: Packed, code: Code) -> None:
    now_s = packed.issued.world.now // 1000
    trust = Trust((packed.issued.trusted(POLICY),))
    bare = open_pack(packed.open().pack, trust)
    assert_nothing_shown(packed.judge(code, bare, trust=trust).verdict, C.CANNOT_TELL, "no cosignature")
    pack, trust = cosigned(packed, now_s)
    found = packed.judge(code, pack, trust=trust).verdict
    assert found.code is C.GENUINE
    assert found.proven is not None
    assert found.proven.witnessed_s == now_s
    old = packed.judge(code, pack, trust=trust, now_ms=(now_s + 61) * 1000, greatest_age_s=60).verdict
    assert_nothing_shown(old, C.CANNOT_TELL, "too old")


def test_witnesses_that_are_ahead_of_this_clock(packed: Packed, code: Code) -> None:
    pack, trust = cosigned(packed, packed.issued.world.now // 1000 + 301)
    assert_nothing_shown(
        packed.judge(code, pack, trust=trust).verdict, C.CANNOT_TELL, "ahead of this clock: check it"
    )


def test_damaged_leaf_hashes_are_no_fault_of_the_document(packed: Packed, code: Code) -> None:
    pack = packed.open(Form.LEAVES)
    spoilt = open_pack(pack.pack, packed.issued.trust(), Runs([bytes(8_192)]))
    found = packed.judge(code, spoilt)
    assert_nothing_shown(found.verdict, C.CANNOT_TELL, "damaged", "get a new pack")
    assert found.left_open is None
    receipt = packed.issued.receipt()
    later = Packed()
    later.issued.set_status(Status.REVOKED)
    newer = later.open(Form.LEAVES)
    spoilt = open_pack(newer.pack, packed.issued.trust(), Runs([bytes(8_192)]))
    assert_nothing_shown(judged(later, receipt, spoilt), C.CANNOT_TELL, "damaged")


def test_other_ledgers(packed: Packed, opened: OpenedPack, code: Code) -> None:
    foreign = replace(code, ledger=bytes(4))
    assert_nothing_shown(packed.judge(foreign, opened).verdict, C.WRONG_LEDGER, "not in the trust file")
    other = replace(packed.issued.trusted(), genesis=bytes(32), origin="other.example")
    trust = Trust((packed.issued.trusted(), other))
    found = packed.judge(foreign, opened, trust=trust)
    assert_nothing_shown(found.verdict, C.CANNOT_TELL, "take the pack of other.example")
    assert found.left_open is None


def test_attestations_are_not_in_a_code(packed: Packed, opened: OpenedPack, code: Code) -> None:
    found = packed.judge(code, opened, attested=(WantedAttestation(1),)).verdict
    assert_nothing_shown(found, C.CANNOT_TELL, "bears no attestations")


# --- receipts ---


def judged(
    packed: Packed, receipt: Receipt, pack: OpenedPack, age: int | None = None, now_ms: int | None = None
) -> Verdict:
    asked = Asked(now_ms or packed.issued.world.now)
    return verify_receipt_with_pack(receipt, pack, packed.issued.trust(), asked, greatest_age_s=age)


@FORMS
def test_a_receipt_has_the_packs_status(form: Form) -> None:
    packed = Packed(filled=False)
    early = packed.issued.receipt()
    packed.fill(300)
    full = packed.issued.receipt()
    older = packed.open(form)
    packed.issued.set_status(Status.REVOKED)
    newer = packed.open(form)
    for receipt in (early, full):
        assert judged(packed, receipt, older).code is C.GENUINE
        found = judged(packed, receipt, newer)
        assert found.code is C.REVOKED
        assert found.steps[-1].name == "pack"
        assert found.proven is not None
        assert (found.proven.as_of_ms, found.proven.size) == (newer.as_of_ms, newer.size)
    said = judged(packed, early, newer).steps[-1].detail
    assert ("taken at its word" in said) is (form is Form.SUBTREES)


def test_an_older_pack_tells_nothing_of_a_receipt() -> None:
    packed = Packed()
    pack = packed.open()
    packed.issued.set_status(Status.REVOKED)
    found = judged(packed, packed.issued.receipt(), pack)
    assert found.code is C.REVOKED
    assert found.steps[-1].name == "attestations"


def test_the_age_of_a_receipt_is_the_packs_when_that_is_newer() -> None:
    packed = Packed()
    receipt = packed.issued.receipt()
    packed.issued.world.now += 86_400_000
    packed.issued.world.idle()
    assert judged(packed, receipt, packed.open(), age=3_600).code is C.GENUINE
    late = judged(packed, receipt, packed.open(), age=3_600, now_ms=packed.issued.world.now + 86_400_000)
    assert_nothing_shown(late, C.CANNOT_TELL, "the pack", "too old")


def test_a_theft_since_the_receipt() -> None:
    packed = Packed()
    receipt = packed.issued.receipt()
    stolen_since(packed, packed.issued.index)
    assert judged(packed, receipt, packed.open()).code is C.DOUBTFUL
    newer = packed.issued.receipt()
    packed.issued.world.submit(1, [affirm(1, 1, packed.issued.index, packed.issued.index)], keys=(2,))
    assert judged(packed, newer, packed.open()).code is C.GENUINE


def test_a_receipt_and_a_pack_of_two_histories() -> None:
    packed = Packed()
    receipt = packed.issued.receipt()
    shifted = Packed(Issued(expires="2030-01-01"))
    shifted.fill(300)
    found = judged(packed, receipt, shifted.open())
    assert_nothing_shown(found, C.NOT_IN_LEDGER, "something else")


def test_attestations_on_a_receipt_have_the_packs_status() -> None:
    packed = Packed()
    world = packed.issued.world
    bureau = world.enrol(roles=("attest",), types=())
    at = 1 + world.submit(bureau, [attest(bureau, packed.issued.index)])
    static = packed.static()
    builder = ReceiptBuilder(static, packed.issued.trusted(), static.checkpoint)
    receipt = builder.build(packed.issued.document.disclose(SEED), packed.issued.index, {at: None})
    world.submit(bureau, [status(bureau, at, at, Status.REVOKED)])
    asked = Asked(world.now, attested=(WantedAttestation(1),))
    alone = verify_receipt_with_pack(receipt, Packed().open(), packed.issued.trust(), asked)
    assert alone.code is C.GENUINE
    found = verify_receipt_with_pack(receipt, packed.open(), packed.issued.trust(), asked)
    assert found.code is C.CHAIN_BROKEN


# --- garbage, and how long it takes ---


def test_ten_thousand_garbage_codes_none_accepted(packed: Packed, opened: OpenedPack, code: Code) -> None:
    """With a right check behind each, as whoever forges a code would make it."""
    data = code.encode()[:-2]
    chance = random.Random(7)
    trust = packed.issued.trust()
    for _ in range(10_000):
        spoilt = bytearray(data)
        for _ in range(chance.randint(1, 3)):
            spoilt[chance.randrange(len(spoilt))] ^= 1 << chance.randrange(8)
        if bytes(spoilt) == data:
            continue
        try:
            read = decode_code(bytes(spoilt) + sha256(spoilt).digest()[:2])
        except SudurError:
            continue
        verdict = packed.judge(read, opened, trust=trust).verdict
        assert verdict.code is not C.GENUINE
        assert verdict.proven is None


def test_one_takes_less_than_five_milliseconds(packed: Packed, opened: OpenedPack, code: Code) -> None:
    text, trust = code.text(), packed.issued.trust()
    best = min(_timed(packed, text, opened, trust) for _ in range(20))
    assert best < 0.005


def _timed(packed: Packed, text: str, opened: OpenedPack, trust: Trust) -> float:
    began = time.perf_counter()
    assert packed.judge(parse_code(text), opened, trust=trust).verdict.code is C.GENUINE
    return time.perf_counter() - began


def test_what_is_older_than_the_pack_settles_nothing() -> None:
    """Whoever can hand out an old checkpoint would have a revocation forgotten that came before the pack."""
    packed = Packed()
    issued, old = packed.issued, packed.static()
    issued.world.idle()
    left = packed.judge().left_open
    assert left is not None
    for static, want in ((old, VerdictCode.CANNOT_TELL), (packed.static(), VerdictCode.GENUINE)):
        settling = Settling(static, issued.trusted(), static.checkpoint, issued.world.now)
        assert settling.verdict(left).code is want
