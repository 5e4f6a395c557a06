"""What became of what was relied on: as a light verifier judges it now, and asked without saying which."""

from __future__ import annotations

from pathlib import Path

import pytest

from ledger import changes
from ledger.changes import Subject
from ledger.errors import ProofInvalid
from ledger.records import Status
from ledger.trust import Trust
from ledger.verdicts import VerdictCode
from ledger.verifier import verify_receipt
from tests.ledger.issued import Issued
from tests.ledger.packed import Packed
from tests.ledger.world import affirm
from tools.keyfile import make_key
from tools.verifying.entries import Entry, JournalKey
from tools.verifying.journal import JournalReader, create
from tools.verifying.recheck import FetchedNow, PackedNow, Recheck, recheck
from tools.verifying.recording import Recorder, digest_of

KEY = JournalKey(make_key("journal", "journal"))


class Office:
    def __init__(self, path: Path, issued: Issued) -> None:
        self.path, self.issued = path, issued
        create(path, KEY, 1)

    def check(self) -> Entry:
        receipt = self.issued.receipt()
        verdict = verify_receipt(receipt, self.issued.trust(), now_ms=self.issued.world.now)
        entry = Recorder(self.path, "desk-1", KEY).record(receipt.encode(), verdict)
        assert entry is not None
        return entry

    def recheck(self) -> Recheck:
        issued = self.issued
        now = FetchedNow(issued.static(), issued.trusted(), issued.world.now)
        return recheck(JournalReader(self.path).entries(), KEY, now)


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path / "journal", Issued())


def test_all_stands_until_it_does_not(office: Office) -> None:
    entry = office.check()
    assert entry.relied is not None
    report = office.recheck()
    assert (report.rechecked, report.findings) == (1, ())
    suspended = office.issued.set_status(Status.SUSPENDED)
    (finding,) = office.recheck().findings
    assert (finding.entry, finding.now) == (entry, VerdictCode.SUSPENDED)
    office.issued.set_status(Status.REVOKED, suspended)
    again = office.check()
    assert again.verdict is VerdictCode.REVOKED
    (finding,) = office.recheck().findings
    assert (finding.entry, finding.now) == (entry, VerdictCode.REVOKED), "the second was not relied on"


def test_a_theft_that_is_declared_later_casts_doubt(office: Office) -> None:
    issued = office.issued
    office.check()
    theft = changes.KeyStolen(2, issued.submission)
    issued.world.change(Subject("agency", issued.agency), theft)
    assert office.recheck().findings == (), "the other officer's key"
    issued.world.change(Subject("agency", issued.agency), changes.KeyStolen(1, issued.submission))
    (finding,) = office.recheck().findings
    assert finding.now is VerdictCode.DOUBTFUL
    issued.world.add_keys(issued.agency, ["submit"])
    issued.world.submit(issued.agency, [affirm(1, 1, issued.index, issued.index)], keys=(4,))
    assert office.recheck().findings == ()


def test_nobody_learns_what_was_checked(tmp_path: Path) -> None:
    """What is fetched is the same, byte for byte, whichever documents the journal holds."""
    issued = Issued()
    full, empty = Office(tmp_path / "full", issued), Office(tmp_path / "empty", issued)
    full.check()
    fetched = []
    for one in (full, empty):
        static = issued.static()
        now = FetchedNow(static, issued.trusted(), issued.world.now)
        asked = len(static.fetched)
        recheck(JournalReader(one.path).entries(), KEY, now)
        fetched.append(static.fetched[:asked])
        assert [path for path in static.fetched[asked:] if not path.startswith("tile/")] == []
        assert not [path for path in static.fetched[asked:] if path.startswith("tile/entries")]
    assert fetched[0] == fetched[1]


def test_a_ledger_that_was_set_back_or_forked_is_said(office: Office) -> None:
    office.issued.world.idle()
    office.check()
    behind = Issued()
    now = FetchedNow(behind.static(), behind.trusted(), behind.world.now)
    with pytest.raises(ProofInvalid, match="there are"):
        recheck(JournalReader(office.path).entries(), KEY, now)
    forked = Issued()
    for later_ms in (999, 1000):
        forked.world.idle(later_ms)
    assert forked.world.genesis == office.issued.world.genesis
    now = FetchedNow(forked.static(), forked.trusted(), forked.world.now)
    with pytest.raises(ProofInvalid):
        recheck(JournalReader(office.path).entries(), KEY, now)


def test_two_histories_in_one_journal_are_said(office: Office) -> None:
    """Not only of the newest that was relied on: whichever two are of one size."""
    honest = office.issued
    office.issued = Issued()
    office.issued.world.idle(999)
    office.check()
    office.issued = honest
    honest.world.idle(1000)
    office.check()
    honest.world.idle()
    office.check()
    with pytest.raises(ProofInvalid, match="two histories were shown"):
        office.recheck()


def test_other_ledgers_and_what_was_not_proven_are_counted(office: Office) -> None:
    office.check()
    assert Recorder(office.path, "desk-1", KEY).record(
        b"nonsense", verify_receipt(office.issued.receipt(), Trust(()), now_ms=0)
    )
    report = office.recheck()
    assert (report.rechecked, report.unproven, report.other) == (1, 1, 0)


def test_by_a_pack_with_no_network(tmp_path: Path) -> None:
    packed = Packed()
    office = Office(tmp_path / "journal", packed.issued)
    office.check()
    assert recheck(JournalReader(office.path).entries(), KEY, PackedNow(packed.open())).findings == ()
    packed.issued.set_status(Status.REVOKED)
    report = recheck(JournalReader(office.path).entries(), KEY, PackedNow(packed.open()))
    assert [one.now for one in report.findings] == [VerdictCode.REVOKED]


def test_a_document_is_the_same_however_it_travels() -> None:
    packed = Packed()
    first = packed.issued.receipt()
    packed.issued.world.idle()
    assert digest_of(first.encode()) == digest_of(packed.issued.receipt().encode()), "renewed"
    partly = packed.issued.receipt(frozenset({"holder"}))
    assert digest_of(first.encode()) != digest_of(partly.encode())
    text = packed.code().text()
    spaced = " ".join(text[at : at + 5] for at in range(0, len(text), 5))
    assert digest_of(text) == digest_of(spaced)
    assert digest_of("no code") == digest_of(b"no code")
