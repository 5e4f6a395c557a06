"""Who revoked a document, when and why: proven beside its status, and nothing forged passes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from ledger.attribution import Sealed, check_authority
from ledger.changes import KeyStolen, Subject
from ledger.errors import KeyEnded, SignatureInvalid, TooFewSignatures
from ledger.leaves import NONE
from ledger.proven_registry import ProvenRegistry
from ledger.receipts import ProvenChange, Receipt, parse_receipt
from ledger.records import Status, StatusChange
from ledger.submissions import SubmissionLeaf
from ledger.verdicts import Changed, Verdict, VerdictCode
from ledger.verifier import verify_receipt
from tests.ledger.issued import Issued
from tests.ledger.world import issue

C = VerdictCode


def judge(issued: Issued, receipt: Receipt | None = None) -> Verdict:
    return verify_receipt(receipt or issued.receipt(), issued.trust(), now_ms=issued.world.now)


def change(issued: Issued, by: int, to: Status, reason: int = 0, replacement: int = NONE) -> int:
    record = StatusChange(by, issued.index, issued.index, to, reason, replacement)
    return 1 + issued.world.submit(by, [record.encode()], keys=(1, 2) if by == 0 else (1,))


def changed(verdict: Verdict) -> Changed:
    assert verdict.proven is not None
    assert verdict.proven.changed is not None
    return verdict.proven.changed


def test_a_revocation_says_when_by_whom_and_why() -> None:
    issued = Issued()
    at = change(issued, issued.agency, Status.REVOKED, reason=2)
    verdict = judge(issued)
    assert verdict.code is C.REVOKED
    found = changed(verdict)
    assert (found.index, found.agency, found.reason, found.replacement) == (at, 1, 2, None)
    assert found.agency_names["en"] == "Agency 1"
    assert found.changed_ms == issued.world.state.time_ms - 1000


def test_the_authority_and_a_replacement_are_named() -> None:
    issued = Issued()
    other = 1 + issued.world.submit(1, [issue(1, "the newer one", 0)])
    change(issued, 0, Status.SUPERSEDED, reason=4, replacement=other)
    found = changed(judge(issued))
    assert (found.agency, dict(found.agency_names), found.replacement) == (0, {}, other)


def test_the_latest_change_is_the_one_that_is_shown() -> None:
    issued = Issued()
    first = change(issued, 1, Status.SUSPENDED)
    issued.set_status(Status.VALID, first)
    assert judge(issued).proven is not None
    assert issued.receipt().changed is None
    last = issued.set_status(Status.REVOKED, first + 3)
    assert changed(judge(issued)).index == last


def test_a_receipt_without_it_verifies_and_says_less() -> None:
    issued = Issued()
    change(issued, 1, Status.REVOKED)
    verdict = judge(issued, replace(issued.receipt(), changed=None))
    assert verdict.code is C.REVOKED
    assert verdict.proven is not None
    assert verdict.proven.changed is None


def test_it_is_read_as_it_was_written() -> None:
    issued = Issued()
    change(issued, 1, Status.REVOKED)
    receipt = issued.receipt()
    assert receipt.changed is not None
    assert parse_receipt(receipt.encode()) == receipt


def altered(proof: ProvenChange, **fields: int) -> ProvenChange:
    record = replace(StatusChange.decode(proof.leaf.leaf), **fields)  # type: ignore[arg-type]
    return replace(proof, leaf=replace(proof.leaf, leaf=record.encode()))


FORGERIES: dict[str, Callable[[Receipt, ProvenChange], ProvenChange]] = {
    "another reason": lambda r, p: altered(p, reason=9),
    "another status": lambda r, p: altered(p, status=Status.SUSPENDED),
    "of another document": lambda r, p: altered(p, subject=1),
    "by another agency": lambda r, p: altered(p, agency=0),
    "another index": lambda r, p: replace(p, leaf=replace(p.leaf, index=p.leaf.index - 1)),
    "another's submission": lambda r, p: replace(p, submission=r.submission),
    "no agency": lambda r, p: replace(p, agency=None),
    "no keys": lambda r, p: replace(p, keys=()),
    "another's keys": lambda r, p: replace(p, keys=(replace(p.keys[0], record=r.registry.agency.record),)),
    "another's record": lambda r, p: replace(p, agency=r.registry.ledger),
    "an ISSUE in its place": lambda r, p: replace(p, leaf=r.issue),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_change_is_refused(name: str) -> None:
    issued = Issued()
    change(issued, 1, Status.REVOKED)
    receipt = issued.receipt()
    assert receipt.changed is not None
    verdict = judge(issued, replace(receipt, changed=FORGERIES[name](receipt, receipt.changed)))
    assert (verdict.code, verdict.proven) == (C.NOT_IN_LEDGER, None)
    assert verdict.steps[-1].name == "status"


def test_an_undone_change_of_a_thiefs_does_not_pass_for_the_one_that_stands() -> None:
    """It is in the log for good, and names a document of the thief's as the one to ask for."""
    issued = Issued()
    other = 1 + issued.world.submit(1, [issue(1, "the thief's", 0)], keys=(2,))
    record = StatusChange(1, issued.index, issued.index, Status.SUPERSEDED, 0, other)
    thiefs = 1 + issued.world.submit(1, [record.encode()], keys=(2,))
    issued.world.change(Subject("agency", 1), KeyStolen(2, thiefs - 1))
    assert (changed(judge(issued)).doubtful, changed(judge(issued)).replacement) == (True, None)
    back = issued.set_status(Status.VALID, thiefs)
    last = issued.set_status(Status.SUPERSEDED, back)
    assert (changed(judge(issued)).index, changed(judge(issued)).doubtful) == (last, False)
    static, receipt = issued.static(), issued.receipt()
    registry = ProvenRegistry(static, issued.trusted(), static.checkpoint)
    log = registry.log
    assert receipt.changed is not None
    forged = ProvenChange(
        log.leaf(thiefs), log.submission_over(thiefs), receipt.changed.agency, (registry.key_proof(1, 2),)
    )
    found = changed(judge(issued, replace(receipt, changed=forged)))
    assert (found.index, found.doubtful, found.replacement) == (thiefs, True, None)


@pytest.mark.parametrize("keys", [(1,), (1, 2)])
def test_a_change_in_the_authoritys_name_takes_its_keys(keys: tuple[int, ...]) -> None:
    """A log that broke its rules is not believed: k keys sign, and each signature verifies."""
    issued = Issued()
    change(issued, 0, Status.REVOKED)
    receipt = issued.receipt()
    assert receipt.changed is not None
    head = SubmissionLeaf.decode(receipt.changed.submission.head.leaf)
    signatures = [one for one in head.signatures if one.number in keys]
    signatures[-1] = replace(signatures[-1], signature=bytes(64))
    static = issued.static()
    registry = ProvenRegistry(static, issued.trusted(), static.checkpoint)
    log, record = registry.log, registry.ledger
    sealed = Sealed(issued.world.genesis, log.signed.checkpoint, log.seal)
    wanted = TooFewSignatures if len(keys) == 1 else SignatureInvalid
    with pytest.raises(wanted):
        check_authority(record, replace(head, signatures=tuple(signatures)), log.size - 3, sealed)
    check_authority(record, head, log.size - 3, sealed)
    ended = replace(record, authority_keys=tuple(replace(one, ended=1) for one in record.authority_keys))
    with pytest.raises(KeyEnded):
        check_authority(ended, head, log.size - 3, sealed)
