"""A document for abroad: translated, legalised, certified by a consulate; and each way a chain breaks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256

import pytest

from ledger import changes
from ledger.attestations import WantedAttestation
from ledger.changes import Subject
from ledger.documents import Disclosure, Document, Field
from ledger.errors import CommitmentMismatch
from ledger.receipt_builder import ReceiptBuilder
from ledger.receipts import ProvenAttestation, Receipt, parse_receipt
from ledger.records import NO_HASH, Attest, Status
from ledger.verdicts import Attested, Verdict, VerdictCode
from ledger.verifier import verify_receipt
from tests.ledger.issued import FILE, SEED, Issued
from tests.ledger.world import entitlement, issue, status

C = VerdictCode
TRANSLATION = b"the translated certificate"
LEGALISED, CERTIFIED, TRANSLATED = 1, 2, 3


class Abroad:
    """A document with a translation (by agency 2), legalised by Foreign Affairs (3), then a consulate (4)."""

    def __init__(self) -> None:
        self.issued = Issued()
        self.world = world = self.issued.world
        for _ in range(3):
            world.enrol(roles=("attest",), submit=2)
        self.translator, self.ministry, self.consulate = 2, 3, 4
        text = Document.build(
            self.translator,
            self.issued.type,
            [Field.text("holder", "Azad Hassan"), Field.file("en.pdf", sha256(TRANSLATION).digest())],
        )
        self.copy = text.disclose(SEED)
        opened = self.copy.commitment(world.genesis, "attested")
        self.translation = self.attest(self.translator, self.issued.index, TRANSLATED, opened)
        self.legalisation = self.attest(self.ministry, self.translation)
        self.certificate = self.attest(self.consulate, self.legalisation)

    def attest(
        self, agency: int, subject: int, kind: int = LEGALISED, copy: bytes = NO_HASH, key: int = 1
    ) -> int:
        return 1 + self.world.submit(agency, [Attest(agency, subject, kind, copy).encode()], keys=(key,))

    def revoke(self, agency: int, subject: int, to: Status = Status.REVOKED) -> None:
        self.world.submit(agency, [status(agency, subject, subject, to)])

    @property
    def links(self) -> dict[int, Disclosure | None]:
        return {self.translation: self.copy, self.legalisation: None, self.certificate: None}

    def builder(self) -> ReceiptBuilder:
        static = self.issued.static()
        return ReceiptBuilder(static, self.issued.trusted(), static.checkpoint)

    def receipt(self, links: dict[int, Disclosure | None] | None = None) -> Receipt:
        document = self.issued.document.disclose(SEED)
        return self.builder().build(document, self.issued.index, self.links if links is None else links)

    def judge(self, receipt: Receipt | None = None, **options: object) -> Verdict:
        return verify_receipt(
            receipt or self.receipt(),
            self.issued.trust(),
            now_ms=self.world.now,
            **options,  # type: ignore[arg-type]
        )


@pytest.fixture
def abroad() -> Abroad:
    return Abroad()


def chain(verdict: Verdict) -> tuple[Attested, ...]:
    assert verdict.proven is not None
    return verdict.proven.attestations


def test_the_chain_is_shown_in_order_with_agency_time_and_status(abroad: Abroad) -> None:
    files = [sha256(FILE).digest(), sha256(TRANSLATION).digest()]
    verdict = abroad.judge(file_digests=files, attested=[WantedAttestation(TRANSLATED)])
    assert verdict.code is C.GENUINE
    links = chain(verdict)
    assert [(one.index, one.subject, one.kind, one.agency) for one in links] == [
        (abroad.translation, abroad.issued.index, TRANSLATED, 2),
        (abroad.legalisation, abroad.translation, LEGALISED, 3),
        (abroad.certificate, abroad.legalisation, LEGALISED, 4),
    ]
    assert all(one.stands and one.status is Status.VALID for one in links)
    assert [one.value.decode() for one in links[0].copy[1:2]] == ["Azad Hassan"]
    assert links[0].unchecked_files == ()
    assert links[1].agency_names["en"] == "Agency 3"
    assert links[0].attested_ms < links[1].attested_ms < links[2].attested_ms


def test_a_receipt_with_attestations_is_read_as_it_was_written(abroad: Abroad) -> None:
    receipt = abroad.receipt()
    assert parse_receipt(receipt.encode()) == receipt


def test_files_of_the_copy_that_were_not_given_are_named(abroad: Abroad) -> None:
    assert chain(abroad.judge())[0].unchecked_files == ("en.pdf",)
    other = abroad.judge(file_digests=[sha256(b"another").digest()])
    assert (other.code, other.proven) == (C.ALTERED, None)


def test_a_revoked_original_breaks_the_whole_chain(abroad: Abroad) -> None:
    abroad.revoke(1, abroad.issued.index)
    verdict = abroad.judge()
    assert verdict.code is C.REVOKED
    assert [one.broken_by for one in chain(verdict)] == [abroad.issued.index] * 3
    assert not any(one.stands for one in chain(verdict))


@pytest.mark.parametrize("to", [Status.REVOKED, Status.SUSPENDED, Status.SUPERSEDED])
def test_a_link_that_is_not_valid_breaks_what_stands_on_it(abroad: Abroad, to: Status) -> None:
    abroad.revoke(3, abroad.legalisation, to)
    verdict = abroad.judge(attested=[WantedAttestation(LEGALISED)])
    assert verdict.code is C.CHAIN_BROKEN
    assert verdict.code.exit_code == 1
    assert to.name.lower() in verdict.reason
    assert [one.stands for one in chain(verdict)] == [True, False, False]
    assert [one.broken_by for one in chain(verdict)] == [None, None, abroad.legalisation]


def test_a_link_signed_with_a_stolen_key_is_doubtful_until_it_is_affirmed(abroad: Abroad) -> None:
    since = abroad.legalisation - 1
    abroad.world.change(Subject("agency", 3), changes.KeyStolen(1, since))
    verdict = abroad.judge(attested=[WantedAttestation(LEGALISED, 4)])
    assert verdict.code is C.CHAIN_BROKEN
    assert [one.doubtful for one in chain(verdict)] == [False, True, False]
    assert [one.broken_by for one in chain(verdict)] == [None, None, abroad.legalisation]


def test_a_doubtful_document_does_not_carry_a_chain(abroad: Abroad) -> None:
    abroad.world.change(Subject("agency", 1), changes.KeyStolen(1, abroad.issued.submission))
    verdict = abroad.judge()
    assert verdict.code is C.DOUBTFUL
    assert [one.broken_by for one in chain(verdict)] == [abroad.issued.index] * 3


def test_what_was_asked_for_must_be_there_and_stand(abroad: Abroad) -> None:
    for wanted in (
        WantedAttestation(LEGALISED),
        WantedAttestation(LEGALISED, 4),
        WantedAttestation(TRANSLATED, 2),
    ):
        assert abroad.judge(attested=[wanted]).code is C.GENUINE
    for wanted in (WantedAttestation(CERTIFIED), WantedAttestation(LEGALISED, 2)):
        verdict = abroad.judge(attested=[wanted])
        assert verdict.code is C.NOT_ATTESTED
        assert str(wanted) in verdict.reason
    assert abroad.judge(abroad.receipt({}), attested=[WantedAttestation(LEGALISED)]).code is C.NOT_ATTESTED


@pytest.mark.parametrize("to", [Status.REVOKED, Status.SUSPENDED])
def test_an_attestation_that_nobody_asked_for_spoils_no_document(abroad: Abroad, to: Status) -> None:
    """Anybody with the role can put one on another's document, and revoke it once receipts carry it."""
    abroad.revoke(4, abroad.certificate, to)
    verdict = abroad.judge()
    assert (verdict.code, verdict.code.exit_code) == (C.GENUINE, 0)
    assert verdict.reason.startswith("the document itself; ")
    assert f"by agency 4, at index {abroad.certificate}, is {to.name.lower()}" in verdict.reason
    assert [one.stands for one in chain(verdict)] == [True, True, False]
    assert abroad.judge(attested=[WantedAttestation(LEGALISED, 3)]).code is C.GENUINE
    assert abroad.judge(attested=[WantedAttestation(LEGALISED, 4)]).code is C.CHAIN_BROKEN


def test_a_copy_that_is_shown_breaks_with_its_attestation(abroad: Abroad) -> None:
    abroad.revoke(2, abroad.translation)
    verdict = abroad.judge()
    assert verdict.code is C.CHAIN_BROKEN
    assert "the translation by agency 2" in verdict.reason


def test_a_file_that_only_an_attester_vouches_for_is_not_taken_for_the_issuers(abroad: Abroad) -> None:
    file = [sha256(TRANSLATION).digest()]
    verdict = abroad.judge(file_digests=file)
    assert (verdict.code, verdict.code.exit_code) == (C.ATTESTED_COPY, 1)
    assert "only the translation by agency 2 does" in verdict.reason
    for other in (WantedAttestation(LEGALISED), WantedAttestation(LEGALISED, 3)):
        assert abroad.judge(file_digests=file, attested=[other]).code is C.ATTESTED_COPY
    for asked in (WantedAttestation(TRANSLATED), WantedAttestation(TRANSLATED, 2)):
        assert abroad.judge(file_digests=file, attested=[asked]).code is C.GENUINE


Forge = Callable[[Abroad, Receipt, ProvenAttestation], Receipt]


def with_link(receipt: Receipt, link: ProvenAttestation, position: int = 1) -> Receipt:
    links = list(receipt.attestations)
    links[position] = link
    return replace(receipt, attestations=tuple(links))


def reencoded(link: ProvenAttestation, **fields: int) -> ProvenAttestation:
    record = replace(Attest.decode(link.leaf.leaf), **fields)  # type: ignore[arg-type]
    return replace(link, leaf=replace(link.leaf, leaf=record.encode()))


FORGERIES: dict[str, Forge] = {
    "another kind": lambda a, r, one: with_link(r, reencoded(one, kind=CERTIFIED)),
    "another agency": lambda a, r, one: with_link(r, reencoded(one, agency=4)),
    "on another document": lambda a, r, one: with_link(r, reencoded(one, subject=a.issued.index - 1)),
    "another index": lambda a, r, one: with_link(
        r, replace(one, leaf=replace(one.leaf, index=one.leaf.index + 1))
    ),
    "in another order": lambda a, r, one: replace(r, attestations=r.attestations[::-1]),
    "twice": lambda a, r, one: replace(r, attestations=(*r.attestations, r.attestations[-1])),
    "without what it stands on": lambda a, r, one: replace(r, attestations=r.attestations[1:]),
    "another's submission": lambda a, r, one: with_link(
        r, replace(one, submission=r.attestations[0].submission)
    ),
    "another's record": lambda a, r, one: with_link(r, replace(one, agency=r.attestations[0].agency)),
    "another's keys": lambda a, r, one: with_link(r, replace(one, keys=r.attestations[0].keys)),
    "no keys": lambda a, r, one: with_link(r, replace(one, keys=())),
    "a status of its own making": lambda a, r, one: with_link(
        r, replace(one, status=replace(one.status, chunk=bytes(16_383) + b"\x01"))
    ),
    "a copy that was never attested": lambda a, r, one: with_link(r, replace(one, copy=a.copy)),
    "another copy": lambda a, r, one: with_link(
        r,
        replace(
            r.attestations[0],
            copy=Document.build(2, a.issued.type, [Field.text("holder", "Azad Hasan")]).disclose(SEED),
        ),
        0,
    ),
    "an ISSUE in its place": lambda a, r, one: with_link(r, replace(one, leaf=r.issue)),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_attestation_is_called_false_and_nothing_is_shown(abroad: Abroad, name: str) -> None:
    receipt = abroad.receipt()
    verdict = abroad.judge(FORGERIES[name](abroad, receipt, receipt.attestations[1]))
    assert (verdict.code, verdict.proven) == (C.FALSE_ATTESTATION, None)
    assert verdict.steps[-1].name == "attestations"
    assert not verdict.steps[-1].passed
    assert verdict.code.exit_code == 1


def test_an_agency_must_have_been_entitled_to_attest(abroad: Abroad) -> None:
    """The rules never log such a leaf: a log that broke them is not believed for its signature alone."""
    receipt = abroad.receipt()
    abroad.world.change(Subject("agency", 3), changes.AgencyEntitled(entitlement(("issue",), (0,))))
    assert abroad.judge().code is C.GENUINE  # it was entitled then
    abroad.world.submit(1, [issue(1, "later", 0)])
    assert abroad.judge(receipt).code is C.GENUINE


def test_the_builder_takes_no_copy_of_another_attestation(abroad: Abroad) -> None:
    with pytest.raises(CommitmentMismatch):
        abroad.receipt({abroad.legalisation: abroad.copy})


def test_attestations_are_found_with_no_word_of_the_holder(abroad: Abroad) -> None:
    assert list(abroad.builder().standing_attestations(abroad.issued.index)) == [
        abroad.translation,
        abroad.legalisation,
        abroad.certificate,
    ]
    abroad.revoke(3, abroad.legalisation)
    assert list(abroad.builder().standing_attestations(abroad.issued.index)) == [abroad.translation]
    known = abroad.builder().standing_attestations(abroad.issued.index, [abroad.legalisation])
    assert list(known) == [abroad.translation, abroad.certificate]


def test_a_thief_who_attests_breaks_nobodys_receipt(abroad: Abroad) -> None:
    """Anybody can attest any document of the log, a thief too, and receipts take in what they find."""
    since = abroad.world.state.size
    stolen = abroad.attest(4, abroad.issued.index)
    on_it = abroad.attest(2, stolen)
    assert stolen in abroad.builder().standing_attestations(abroad.issued.index)
    abroad.world.change(Subject("agency", 4), changes.KeyStolen(1, since))
    found = abroad.builder().standing_attestations(abroad.issued.index)
    assert list(found) == list(abroad.links)
    assert on_it not in found
    assert abroad.judge(abroad.receipt(found)).code is C.GENUINE
    known = abroad.builder().standing_attestations(abroad.issued.index, [stolen])
    assert sorted(known) == [*abroad.links, on_it]
