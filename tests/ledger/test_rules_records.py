"""What holds for every record alike: whole submissions, the order within them, caps and four eyes by kind."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ledger import rules
from ledger.changes import AUTHORITY, AgencyEntitled, AgencyMoved, AgencySuspended, KeyEnded, KeyStolen
from ledger.errors import AgencySuspended as Suspended
from ledger.errors import (
    AlreadyAnswered,
    BlockRefused,
    DailyCapExceeded,
    DuplicateAttest,
    NotEntitled,
    SubjectInvalid,
    TooFewSignatures,
    UnknownAgency,
)
from ledger.errors import KeyEnded as Ended
from ledger.leaves import NONE
from ledger.records import Basis, Outcome, Status
from ledger.signing_policy import DAY_MS, KindPolicy, SigningPolicy
from tests.ledger.book import Book
from tests.ledger.conftest import EVERY_ROLE
from tests.ledger.world import affirm, answer, attest, entitlement, issue, send, status

Maker = Callable[[Book], list[bytes]]


def statuses(book: Book) -> list[bytes]:
    first = book.log(2, *[issue(2, number) for number in range(6)], keys=(1, 2))
    return [status(2, first + n, first + n, Status.SUSPENDED) for n in range(6)]


def attests(book: Book) -> list[bytes]:
    first = book.log(1, *[issue(1, number) for number in range(6)])
    return [attest(2, first + n) for n in range(6)]


def sends(book: Book) -> list[bytes]:
    return [send(2, to, name=name) for to in (1, 3) for name in range(3)]


def answers(book: Book) -> list[bytes]:
    first = book.log(3, *[send(3, 2) for _ in range(3)])
    return [answer(2, first + n, one) for one in (Outcome.RECEIVED, Outcome.RETURNED) for n in range(3)]


def affirms(book: Book) -> list[bytes]:
    book.change(2, KeyStolen(3, 0))
    return [affirm(2, 2, 0, n) for n in range(6)]


KINDS: dict[str, Maker] = {
    "status": statuses,
    "attest": attests,
    "send": sends,
    "answer": answers,
    "affirm": affirms,
}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_four_eyes_and_caps_by_kind(book: Book, kind: str) -> None:
    """Two keys from the third record of a day on, five at most; others of the agency's kinds are free."""
    records = KINDS[kind](book)
    policy = SigningPolicy({kind: KindPolicy(((1, 1), (3, 2)), cap=5)})
    book.change(2, AgencyEntitled(entitlement(EVERY_ROLE, (0, 1), policy)))
    book.refused(TooFewSignatures, 2, *records[:3], match=f"sign {kind} at 3 records")
    book.log(2, records[0])
    book.log(2, records[1])
    book.refused(TooFewSignatures, 2, records[2])
    book.log(2, *records[2:4], keys=(1, 2))
    book.refused(DailyCapExceeded, 2, *records[4:6], keys=(1, 2), match=f"6 records of kind {kind} today")
    book.log(2, issue(2, "another kind"))
    book.log(2, records[4], keys=(1, 2))
    book.refused(DailyCapExceeded, 2, records[5], keys=(1, 2))
    if not book.one_block:
        book.seal()
        book.after_ms = DAY_MS
        book.log(2, records[5])


def test_each_kind_of_one_submission_meets_its_own_policy(book: Book) -> None:
    document = book.log(2, issue(2, "a"))
    policy = SigningPolicy({"send": KindPolicy(((1, 2),)), "attest": KindPolicy(cap=1)})
    book.change(2, AgencyEntitled(entitlement(EVERY_ROLE, (0, 1), policy)))
    book.refused(TooFewSignatures, 2, attest(2, document), send(2, 1))
    book.refused(DailyCapExceeded, 2, attest(2, document), attest(2, document, 2), send(2, 1), keys=(1, 2))
    book.log(2, attest(2, document), send(2, 1), keys=(1, 2))


def test_all_records_in_one_submission(book: Book) -> None:
    """Six kinds together, each seeing what those before it have changed."""
    document = book.log(2, issue(2, "a"))
    asked = book.log(1, send(1, 2))
    book.change(2, KeyStolen(3, document))
    records = [
        issue(2, "b", 0, Basis.ARCHIVE),
        attest(2, document),
        status(2, document, document, Status.SUSPENDED),
        send(2, 1),
        answer(2, asked, Outcome.RECEIVED),
        answer(2, asked),
        affirm(2, 2, document, document),
        send(2, 3, follows=asked),
    ]
    first = book.log(2, *records)
    book.seal()
    reader = book.world.reader
    assert reader.leaves[first : first + 8] == records
    assert reader.attested == [(document, first + 1)]
    assert reader.sends[1:] == [(1, first + 3), (3, first + 7)]
    assert (reader.exchanges[asked].received, reader.exchanges[asked].final) == (first + 4, first + 5)
    day = book.world.state.time_ms // DAY_MS
    counts = {kind: n for (agency, kind, when), n in reader.daily.items() if (agency, when) == (2, day)}
    assert counts == {
        "issue.original": 1,
        "issue.archive": 1,
        "attest": 1,
        "status": 1,
        "send": 2,
        "answer": 2,
        "affirm": 1,
    }


@pytest.mark.parametrize("place", range(6))
def test_one_bad_record_refuses_all(book: Book, place: int) -> None:
    """Also when those before it were good: statuses, exchanges and figures stay as they were."""
    document = book.log(2, issue(2, "a"))
    asked = book.log(1, send(1, 2))
    book.change(2, KeyStolen(3, document))
    records = [
        attest(2, document),
        status(2, document, document, Status.SUSPENDED),
        send(2, 1),
        answer(2, asked),
        affirm(2, 2, document, document),
    ]
    records.insert(place, attest(2, NONE))
    book.refused(SubjectInvalid, 2, *records, match=f"record {place}")
    records.remove(attest(2, NONE))
    book.log(2, *records)
    # Once they stand, none of them can be had again.
    book.refused(SubjectInvalid, 2, records[0], match="is suspended")
    book.refused(AlreadyAnswered, 2, records[3])


def test_the_authority_does_nothing_but_change_statuses(book: Book) -> None:
    document = book.log(1, issue(1, "a"))
    asked = book.log(1, send(1, 5))
    book.change(1, KeyStolen(3, 0))
    change = status(0, document, document, Status.REVOKED)
    for record in (attest(0, document), send(0, 1), answer(0, asked), affirm(0, 1, 0, 0), issue(0, "b")):
        for records in ([record], [change, record], [record, change]):
            book.refused(NotEntitled, AUTHORITY, *records, keys=(1, 2), match="status changes only")
    book.log(AUTHORITY, change, keys=(1, 2))


def test_a_suspended_agency_logs_nothing(book: Book) -> None:
    document = book.log(2, issue(2, "a"))
    asked = book.log(1, send(1, 2))
    book.change(2, KeyStolen(3, 0))
    book.change(2, AgencySuspended())
    for record in (
        status(2, document, document, Status.REVOKED),
        attest(2, document),
        send(2, 1),
        answer(2, asked),
        affirm(2, 2, 0, 0),
    ):
        book.refused(Suspended, 2, record)
    # The one above it may still affirm what is its, if it is not suspended too.
    book.change(3, KeyStolen(3, 0))
    book.refused(Suspended, 2, affirm(2, 3, 0, 0))
    book.log(3, affirm(3, 3, 0, 0))


def test_keys_count_as_of_the_submission(book: Book) -> None:
    document = book.log(1, issue(1, "a"))
    book.log(5, attest(5, document), keys=(2,))
    book.change(5, KeyEnded(2))
    book.refused(Ended, 5, attest(5, document, 2), keys=(2,))
    book.refused(Ended, 5, attest(5, document, 2), keys=(1, 2))
    # An ended key is no stolen one: what it attested stands.
    book.refused(DuplicateAttest, 5, attest(5, document))


def test_rights_follow_a_move_at_once(book: Book) -> None:
    """Above is who is above now: for statuses, for affirmations."""
    document = book.log(3, issue(3, "a"))
    book.change(3, KeyStolen(1, 0))
    last = book.log(2, status(2, document, document, Status.SUSPENDED))
    book.log(2, affirm(2, 3, 0, 0))
    book.change(3, AgencyMoved(6))
    book.refused(NotEntitled, 2, status(2, document, last, Status.VALID))
    book.refused(NotEntitled, 2, affirm(2, 3, 0, 0))
    book.log(6, status(6, document, last, Status.VALID))
    book.log(6, affirm(6, 3, 0, 0))


def test_numbers_at_their_ends(book: Book) -> None:
    """The greatest agency and the greatest index in every place: a named refusal."""
    top = 2**32 - 1
    document = book.log(2, issue(2, "a"))
    book.change(2, KeyStolen(3, 0))
    for error, record in (
        (UnknownAgency, send(2, top, due=3_650)),
        (SubjectInvalid, send(2, 1, due=3_650, follows=NONE - 1)),
        (SubjectInvalid, status(2, NONE, NONE, Status.REVOKED)),
        (SubjectInvalid, status(2, document, document, Status.SUPERSEDED, NONE - 1)),
        (SubjectInvalid, attest(2, NONE, 255)),
        (SubjectInvalid, answer(2, NONE)),
        (SubjectInvalid, affirm(2, 2, 0, NONE)),
        (SubjectInvalid, affirm(2, 2, NONE, NONE)),
        (UnknownAgency, affirm(2, top, 0, 0)),
    ):
        book.refused(error, 2, record, match="record 0")
    book.log(2, attest(2, document, 255), send(2, 1, due=3_650))


def test_every_flipped_bit_of_mixed_records_is_refused(book: Book) -> None:
    document = book.log(2, issue(2, "a"))
    asked = book.log(1, send(1, 2))
    book.change(2, KeyStolen(3, document))
    book.seal()
    draft = book.open
    records = [attest(2, document), send(2, 1), answer(2, asked), affirm(2, 2, document, document)]
    draft.add_submission(book.submission(2, *records, status(2, document, document, Status.REVOKED)))
    leaves = draft.seal().leaves
    state, reader = book.world.state, book.world.reader
    assert rules.apply(state, reader, leaves).leaves == leaves
    for place, leaf in enumerate(leaves):
        for at in range(0, len(leaf), 2):
            if leaf is leaves[-1] and 12 <= at < 20:
                continue  # the seal's time: another one may be as good, and is another block
            changed = leaf[:at] + bytes((leaf[at] ^ 1 << at % 8,)) + leaf[at + 1 :]
            with pytest.raises(BlockRefused):
                rules.apply(state, reader, (*leaves[:place], changed, *leaves[place + 1 :]))
