"""ATTEST: on what is valid down to the document, once in each way, at most sixteen on one another."""

from __future__ import annotations

import pytest

from ledger.changes import AgencyEntitled, AgencyReinstated, AgencySuspended
from ledger.errors import AgencySuspended as Suspended
from ledger.errors import DuplicateAttest, IndexedRuleError, NotEntitled, StatusStale, SubjectInvalid
from ledger.figures import FigureKey, Metric, month_of
from ledger.hashing import leaf_hash
from ledger.leaves import NONE
from ledger.records import Status
from ledger.rules_v1_records import MAX_CHAIN
from tests.ledger.book import Book
from tests.ledger.world import answer, attest, entitlement, issue, send, status

OUT = [Status.REVOKED, Status.SUSPENDED, Status.SUPERSEDED]


def test_a_chain_for_abroad(book: Book) -> None:
    """The document, its translation, legalised by a ministry, then by a consulate."""
    document = book.log(1, issue(1, "degree"))
    translation = book.log(3, attest(3, document, 3, "in English"))
    legalised = book.log(2, attest(2, translation))
    consulate = book.log(5, attest(5, legalised))
    book.seal()
    reader = book.world.reader
    assert reader.attests == {
        leaf_hash(attest(3, document, 3, "in English")): translation,
        leaf_hash(attest(2, translation)): legalised,
        leaf_hash(attest(5, legalised)): consulate,
    }
    assert reader.attested == [(document, translation), (translation, legalised), (legalised, consulate)]


def test_the_role_is_needed_now(book: Book) -> None:
    document = book.log(1, issue(1, "a"))
    for agency in (1, 6):
        book.refused(NotEntitled, agency, attest(agency, document), match="record 0.*role attest")
    book.change(1, AgencyEntitled(entitlement(("attest",), ())))
    book.log(1, attest(1, document))
    book.change(1, AgencyEntitled(entitlement(("issue",), ())))
    book.refused(NotEntitled, 1, attest(1, document, 2))


def test_a_suspended_agency_attests_nothing(book: Book) -> None:
    document = book.log(1, issue(1, "a"))
    book.log(5, attest(5, document))
    book.change(5, AgencySuspended())
    book.refused(Suspended, 5, attest(5, document, 2))
    # Suspension never taints what came before.
    book.log(2, attest(2, book.log(3, attest(3, document))))
    book.change(5, AgencyReinstated())
    book.log(5, attest(5, document, 2))


def test_what_can_be_attested(book: Book) -> None:
    document = book.log(1, issue(1, "a"))
    revoked = book.log(1, issue(1, "b"))
    change = book.log(1, status(1, revoked, revoked, Status.REVOKED))
    sent = book.log(1, send(1, 2))
    answered = book.log(2, answer(2, sent))
    here = book.here
    for subject in (0, 1, document - 1, change, sent, answered, here, here + 1, 2**40, NONE - 1, NONE):
        book.refused(SubjectInvalid, 5, attest(5, subject), match="record 0")
    own = [issue(2, "own"), attest(2, here + 1)]
    book.refused(SubjectInvalid, 2, *own, match="record 1")
    book.refused(SubjectInvalid, 2, attest(2, document), attest(2, here + 1), match="record 1")
    book.log(5, attest(5, document))


@pytest.mark.parametrize("to", OUT)
def test_only_what_is_valid_is_attested(book: Book, to: Status) -> None:
    document = book.log(1, issue(1, "a"))
    last = book.log(1, status(1, document, document, to))
    book.refused(SubjectInvalid, 5, attest(5, document), match=f"leaf {document} is {to.name.lower()}")
    if to is Status.SUSPENDED:
        book.log(1, status(1, document, last, Status.VALID))
        book.log(5, attest(5, document))


@pytest.mark.parametrize("to", OUT)
@pytest.mark.parametrize("broken", [0, 1, 2])
def test_a_link_below_that_is_not_valid_breaks_the_chain(book: Book, broken: int, to: Status) -> None:
    document = book.log(1, issue(1, "a"))
    translation = book.log(3, attest(3, document, 3))
    legalised = book.log(2, attest(2, translation))
    link, agency = [(document, 1), (translation, 3), (legalised, 2)][broken]
    book.log(agency, status(agency, link, link, to))
    book.refused(SubjectInvalid, 5, attest(5, legalised), match=f"leaf {link} is {to.name.lower()}")
    if broken < 2:
        book.refused(SubjectInvalid, 5, attest(5, translation), match=f"leaf {link}")
    else:
        book.log(5, attest(5, translation))


def test_a_link_that_the_same_submission_breaks(book: Book) -> None:
    document = book.log(2, issue(2, "a"))
    records = [status(2, document, document, Status.SUSPENDED), attest(2, document)]
    book.refused(SubjectInvalid, 2, *records, match="record 1")
    book.log(2, *reversed(records))


def test_an_attestation_stands_once(book: Book) -> None:
    document = book.log(1, issue(1, "a"))
    first = book.log(5, attest(5, document, 2, "copy"))
    again = attest(5, document, 2, "copy")
    error = book.refused(DuplicateAttest, 5, again, match=f"record 0.*at index {first}")
    assert error.details() == {"index": str(first)}
    for other in (attest(5, document, 1, "copy"), attest(5, document, 2, "other"), attest(5, document, 2)):
        book.log(5, other)
    book.log(2, attest(2, document, 2, "copy"))
    suspended = book.log(5, status(5, first, first, Status.SUSPENDED))
    book.refused(DuplicateAttest, 5, again)
    book.log(5, status(5, first, suspended, Status.VALID))
    book.refused(DuplicateAttest, 5, again)


@pytest.mark.parametrize("to", [Status.REVOKED, Status.SUPERSEDED])
def test_an_old_attestation_logged_again(book: Book, to: Status) -> None:
    """Once its own is out for good the agency may attest anew; the new one then stands in the way."""
    document = book.log(1, issue(1, "a"))
    first = book.log(5, attest(5, document))
    book.log(5, status(5, first, first, to))
    second = book.log(5, attest(5, document))
    error = book.refused(DuplicateAttest, 5, attest(5, document))
    assert error.details() == {"index": str(second)}
    book.seal()
    assert book.world.reader.attests == {leaf_hash(attest(5, document)): second}
    assert book.world.reader.attested == [(document, first), (document, second)]


def test_revoked_and_attested_anew_in_one_submission(book: Book) -> None:
    document = book.log(1, issue(1, "a"))
    first = book.log(5, attest(5, document))
    second = book.log(5, status(5, first, first, Status.REVOKED), attest(5, document)) + 1
    assert book.refused(DuplicateAttest, 5, attest(5, document)).details() == {"index": str(second)}


def test_twice_in_a_submission_names_no_index(book: Book) -> None:
    """Neither will be in the ledger, so an index would lead a caller to somebody else's leaf."""
    document = book.log(1, issue(1, "a"))
    error = book.refused(DuplicateAttest, 5, attest(5, document), attest(5, document), match="record 1")
    assert isinstance(error, IndexedRuleError)
    assert error.index == NONE


def test_sixteen_stand_on_one_another(book: Book) -> None:
    chain = [book.log(1, issue(1, "a"))]
    for number in range(MAX_CHAIN):
        agency = (2, 5)[number % 2]
        chain.append(book.log(agency, attest(agency, chain[-1])))
    book.refused(SubjectInvalid, 2, attest(2, chain[-1]), match="16 attestations")
    book.log(3, attest(3, chain[-2]))
    # The longest chain is still judged down to the document.
    book.log(1, status(1, chain[0], chain[0], Status.SUSPENDED))
    book.refused(SubjectInvalid, 4, attest(4, chain[-2]), match=f"leaf {chain[0]} is suspended")


def test_an_attestation_has_a_status_of_its_own(book: Book) -> None:
    document = book.log(1, issue(1, "a"))
    link = book.log(4, attest(4, document))
    for stranger in (1, 5, 6):
        book.refused(NotEntitled, stranger, status(stranger, link, link, Status.REVOKED))
    last = book.log(3, status(3, link, link, Status.SUSPENDED))
    book.refused(StatusStale, 4, status(4, link, link, Status.REVOKED))
    last = book.log(4, status(4, link, last, Status.VALID))
    book.log(2, status(2, link, last, Status.REVOKED))
    book.seal()
    month = month_of(book.world.state.time_ms)
    changed = {
        (key.agency, key.a): count
        for key, count in book.world.reader.figures.items()
        if key.metric is Metric.STATUS
    }
    each = {Status.SUSPENDED: 1, Status.VALID: 1, Status.REVOKED: 1}
    assert changed == {(agency, to): 1 for agency in (4, 3, 2, 0) for to in each}
    assert book.world.reader.figures[FigureKey(4, Metric.ATTESTATIONS, month, 1)] == 1
