"""What a cheating operator puts into a block, each with the words that the rules have for it.

Each cheat takes the books of :func:`books` and adds a block that no rules would have built.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ledger import changes
from ledger.changes import Subject
from ledger.leaves import LeafType
from ledger.records import Outcome, Status
from ledger.signing_policy import KindPolicy, SigningPolicy
from tests.ledger.world import answer, attest, issue, send, signer, status
from tests.operator.cheating import Books

ROLES = ("attest", "issue", "request")


def books() -> Books:
    """Two agencies, the second with a daily cap; two documents of the first."""
    made = Books()
    made.define_type()
    capped = SigningPolicy({"issue.original": KindPolicy(((1, 1), (4, 2)), cap=6)})
    assert made.enrol(roles=ROLES, types=(0, 1), submit=2, registry=1) == 1
    assert made.enrol(roles=ROLES, types=(0,), submit=2, policy=capped) == 2
    made.submit(1, [issue(1, "first"), issue(1, "second")])
    return made


def first_of(made: Books) -> int:
    """The index of the first document."""
    return next(at for at, leaf in enumerate(made.static.leaves) if leaf[1] == LeafType.ISSUE)


Cheat = Callable[[Books], None]


def forged_issue(made: Books) -> None:
    draft = made.lawless()
    draft.force_submission(made.submission(1, [issue(1, "forged")], keys={1: signer("the operator")}))
    made.seal_lawless(draft)


def unregistered_key(made: Books) -> None:
    draft = made.lawless()
    draft.force_submission(made.submission(1, [issue(1, "forged")], keys={9: signer("the operator")}))
    made.seal_lawless(draft)


def submission_again(made: Books) -> None:
    old = made.submission(1, [issue(1, "replayed")])
    draft = made.begin()
    draft.add_submission(old)
    made.seal(draft)
    made.idle()
    draft = made.lawless()
    draft.force_submission(old)
    made.seal_lawless(draft)


def change_again(made: Books) -> None:
    leaf = made.change_leaf(Subject("agency", 1), changes.AgencyRenamed({"en": "Renamed"}))
    draft = made.begin()
    draft.add_change(leaf)
    made.seal(draft)
    draft = made.lawless()
    draft.force([leaf])
    made.seal_lawless(draft)


def issued_twice(made: Books) -> None:
    draft = made.lawless()
    draft.force_submission(made.submission(1, [issue(1, "second")]))
    made.seal_lawless(draft)


def back_dated(made: Books) -> None:
    made.seal_lawless(made.lawless(later_ms=0))


def wrong_documents(made: Books) -> None:
    made.seal_lawless(made.begin(), documents=17)


def wrong_previous(made: Books) -> None:
    made.seal_lawless(made.begin(), previous=3)


def wrong_registry(made: Books) -> None:
    made.seal_lawless(made.begin(), registry_root=bytes(32))


def hidden_revocation(made: Books) -> None:
    """The leaf is there, and the seal's status list does not know it."""
    before = made.state.status.root
    draft = made.begin()
    subject = first_of(made)
    draft.add_submission(made.submission(1, [status(1, subject, subject, Status.REVOKED)]))
    made.seal_lawless(draft, status_root=before)


def silent_revocation(made: Books) -> None:
    """A bit of the status list changes, and no leaf says so."""
    draft = made.lawless()
    draft.force_status(first_of(made), Status.REVOKED)
    made.seal_lawless(draft)


def forged_status(made: Books) -> None:
    subject = first_of(made)
    draft = made.lawless()
    revoking = [status(1, subject, subject, Status.REVOKED)]
    draft.force_submission(made.submission(1, revoking, keys={1: signer("the operator")}))
    made.seal_lawless(draft)


def stale_status(made: Books) -> None:
    subject = first_of(made)
    made.submit(1, [status(1, subject, subject, Status.SUSPENDED)])
    made.idle()
    draft = made.lawless()
    draft.force_submission(made.submission(1, [status(1, subject, subject, Status.REVOKED)]))
    made.seal_lawless(draft)


def unrevoked(made: Books) -> None:
    subject = first_of(made)
    at = 1 + made.submit(1, [status(1, subject, subject, Status.REVOKED)])
    draft = made.lawless()
    draft.force_submission(made.submission(1, [status(1, subject, at, Status.VALID)]))
    made.seal_lawless(draft)


def foreign_answer(made: Books) -> None:
    at = 1 + made.submit(1, [send(1, 2)])
    draft = made.lawless()
    draft.force_submission(made.submission(1, [answer(1, at)]))
    made.seal_lawless(draft)


def answered_twice(made: Books) -> None:
    at = 1 + made.submit(1, [send(1, 2)])
    made.submit(2, [answer(2, at)])
    draft = made.lawless()
    draft.force_submission(made.submission(2, [answer(2, at, Outcome.RETURNED)]))
    made.seal_lawless(draft)


def attested_twice(made: Books) -> None:
    made.submit(1, [attest(1, first_of(made))])
    draft = made.lawless()
    draft.force_submission(made.submission(1, [attest(1, first_of(made))]))
    made.seal_lawless(draft)


def attested_what_is_revoked(made: Books) -> None:
    subject = first_of(made)
    made.submit(1, [status(1, subject, subject, Status.REVOKED)])
    draft = made.lawless()
    draft.force_submission(made.submission(2, [attest(2, subject)]))
    made.seal_lawless(draft)


def foreign_type(made: Books) -> None:
    draft = made.lawless()
    draft.force_submission(made.submission(2, [issue(2, "not its type", 1)]))
    made.seal_lawless(draft)


def stolen_key(made: Books) -> None:
    made.change(Subject("agency", 1), changes.KeyStolen(1, made.size))
    draft = made.lawless()
    draft.force_submission(made.submission(1, [issue(1, "the thief's")]))
    made.seal_lawless(draft)


def suspended_agency(made: Books) -> None:
    made.change(Subject("agency", 1), changes.AgencySuspended())
    draft = made.lawless()
    draft.force_submission(made.submission(1, [issue(1, "suspended")]))
    made.seal_lawless(draft)


def old_claim(made: Books) -> None:
    old = made.submission(1, [issue(1, "kept back")], claimed_ms=made.state.time_ms - 8 * 86_400_000)
    draft = made.lawless()
    draft.force_submission(old)
    made.seal_lawless(draft)


def claimed_after_the_seal(made: Books) -> None:
    """Back-dated against the agency's own clock: it was made an hour after the block says it was."""
    made_later = made.submission(1, [issue(1, "later")], claimed_ms=made.state.time_ms + 3_600_000)
    draft = made.lawless()
    draft.force_submission(made_later)
    made.seal_lawless(draft)


def stray_record(made: Books) -> None:
    draft = made.lawless()
    draft.force([issue(1, "nobody signed")])
    made.seal_lawless(draft)


def beyond_the_cap_in_one_block(made: Books) -> None:
    draft = made.lawless()
    for i in range(7):
        draft.force_submission(made.submission(2, [issue(2, f"bulk {i}", 0)], keys=(1, 2)))
    made.seal_lawless(draft)


PROVEN: Final[dict[str, tuple[Cheat, str]]] = {
    "forged issue": (forged_issue, "SIGNATURE_INVALID"),
    "unregistered key": (unregistered_key, "KEY_UNKNOWN"),
    "submission again": (submission_again, "SUBMISSION_REPEATED"),
    "change again": (change_again, "REGISTRY_CONFLICT"),
    "issued twice": (issued_twice, "DUPLICATE_ISSUE"),
    "back-dated": (back_dated, "must be later"),
    "wrong documents": (wrong_documents, "documents"),
    "wrong previous": (wrong_previous, "previous"),
    "wrong registry": (wrong_registry, "registry_root"),
    "hidden revocation": (hidden_revocation, "status_root"),
    "silent revocation": (silent_revocation, "status_root"),
    "forged status": (forged_status, "SIGNATURE_INVALID"),
    "stale status": (stale_status, "STATUS_STALE"),
    "unrevoked": (unrevoked, "STATUS_FINAL"),
    "foreign answer": (foreign_answer, "NOT_ENTITLED"),
    "answered twice": (answered_twice, "ALREADY_ANSWERED"),
    "attested twice": (attested_twice, "DUPLICATE_ATTEST"),
    "attested what is revoked": (attested_what_is_revoked, "SUBJECT_INVALID"),
    "foreign type": (foreign_type, "TYPE_NOT_PERMITTED"),
    "stolen key": (stolen_key, "KEY_STOLEN"),
    "suspended agency": (suspended_agency, "AGENCY_SUSPENDED"),
    "old claim": (old_claim, "CLAIMED_TIME_OUTSIDE_WINDOW"),
    "claimed after the seal": (claimed_after_the_seal, "CLAIMED_TIME_OUTSIDE_WINDOW"),
    "stray record": (stray_record, "cannot stand here"),
    "beyond the cap in one block": (beyond_the_cap_in_one_block, "DAILY_CAP"),
}


def beyond_the_cap_over_blocks(made: Books) -> None:
    for i in range(6):
        made.submit(2, [issue(2, f"one of six {i}", 0)], keys=(1, 2))
    draft = made.lawless()
    draft.force_submission(made.submission(2, [issue(2, "seventh", 0)], keys=(1, 2)))
    made.seal_lawless(draft)


def reminder_answered(made: Books) -> None:
    at = 1 + made.submit(1, [send(1, 2)])
    reminder = 1 + made.submit(1, [send(1, 2, follows=at)])
    draft = made.lawless()
    draft.force_submission(made.submission(2, [answer(2, reminder)]))
    made.seal_lawless(draft)


def attested_twice_after_a_theft(made: Books) -> None:
    made.submit(1, [attest(1, first_of(made))])
    made.change(Subject("agency", 2), changes.KeyStolen(2, made.size))
    draft = made.lawless()
    draft.force_submission(made.submission(1, [attest(1, first_of(made))]))
    made.seal_lawless(draft)


NEEDS_REPLAY: Final[dict[str, Cheat]] = {
    "beyond the cap over blocks": beyond_the_cap_over_blocks,
    "reminder answered": reminder_answered,
    "attested twice after a theft": attested_twice_after_a_theft,
}
"""What a file alone does not prove: it takes counting, or what does not stand there."""
