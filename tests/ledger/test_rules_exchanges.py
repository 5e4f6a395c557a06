"""SEND and ANSWER: who may ask, remind, pass on and answer, and that each request ends once."""

from __future__ import annotations

import pytest

from ledger import changes
from ledger.changes import AgencyEntitled, AgencySuspended, SuccessorNamed
from ledger.errors import AgencySuspended as Suspended
from ledger.errors import (
    AlreadyAnswered,
    ChangeRefused,
    IndexedRuleError,
    NotEntitled,
    SubjectInvalid,
    UnknownAgency,
)
from ledger.exchanges import Exchange
from ledger.figures import FigureKey, Metric, month_of
from ledger.leaves import NONE
from ledger.records import Outcome, SendKind, Status
from tests.ledger.book import Book
from tests.ledger.world import answer, entitlement, issue, send, status

RECEIVED, ANSWERED, RETURNED = Outcome
CIRCULATED = SendKind.CIRCULATED


def exchange(book: Book, index: int) -> Exchange:
    """What has become of a SEND, in the block's draft or in the store."""
    book.seal()
    return book.world.reader.exchanges[index]


# --- SEND --------------------------------------------------------------------------------------


def test_each_kind_has_its_role(book: Book) -> None:
    book.log(1, send(1, 6))
    book.refused(NotEntitled, 1, send(1, 6, kind=CIRCULATED), match="record 0.*role circulate")
    book.refused(NotEntitled, 5, send(5, 6), match="role request")
    book.log(2, send(2, 6), send(2, 6, kind=CIRCULATED))
    book.change(1, AgencyEntitled(entitlement(("circulate",), ())))
    book.refused(NotEntitled, 1, send(1, 6), match="role request")
    book.log(1, send(1, 6, kind=CIRCULATED))


@pytest.mark.parametrize("recipient", [0, 7, 2**32 - 1])
def test_the_recipient_is_enrolled(book: Book, recipient: int) -> None:
    book.refused(UnknownAgency, 1, send(1, recipient), match="record 0")
    book.refused(UnknownAgency, 1, send(1, 2), send(1, recipient), match="record 1")


def test_nobody_sends_to_itself(book: Book) -> None:
    book.refused(SubjectInvalid, 1, send(1, 1), match="to itself")
    first = book.log(1, send(1, 2))
    book.refused(SubjectInvalid, 1, send(1, 1, follows=first), match="to itself")
    book.refused(SubjectInvalid, 2, send(2, 2, follows=first), match="to itself")


def test_a_suspended_agency_neither_sends_nor_answers_but_can_be_asked(book: Book) -> None:
    first = book.log(1, send(1, 2))
    book.change(2, AgencySuspended())
    book.refused(Suspended, 2, answer(2, first))
    book.refused(Suspended, 2, send(2, 1))
    second = book.log(1, send(1, 2, follows=first))
    assert exchange(book, second).reminds == first


def test_one_letter_to_forty_bodies(book: Book) -> None:
    """One submission, forty SENDs of one commitment: each is an exchange of its own."""
    forty = [(3, 4, 5, 6)[number % 4] for number in range(40)]
    first = book.log(2, *[send(2, to, kind=CIRCULATED, due=7, name="letter") for to in forty])
    book.log(5, answer(5, first + forty.index(5), RECEIVED))
    book.log(6, answer(6, first + forty.index(6)))
    book.refused(NotEntitled, 5, answer(5, first + forty.index(6)))
    book.seal()
    reader = book.world.reader
    assert reader.sends == [(to, first + place) for place, to in enumerate(forty)]
    assert set(reader.exchanges) == set(range(first, first + 40))
    assert sum(one.final is not None for one in reader.exchanges.values()) == 1
    month = month_of(book.world.state.time_ms)
    assert reader.figures[FigureKey(2, Metric.SENT, month, CIRCULATED)] == 40
    assert reader.figures[FigureKey(0, Metric.ASKED, month, CIRCULATED)] == 40


# --- ANSWER ------------------------------------------------------------------------------------


@pytest.mark.parametrize("final", [ANSWERED, RETURNED])
def test_received_once_and_one_final_outcome(book: Book, final: Outcome) -> None:
    sent = book.log(1, send(1, 2))
    received = book.log(2, answer(2, sent, RECEIVED))
    error = book.refused(AlreadyAnswered, 2, answer(2, sent, RECEIVED), match="record 0.*marked as received")
    assert error.details() == {"index": str(received)}
    ended = book.log(2, answer(2, sent, final))
    for outcome in Outcome:
        error = book.refused(AlreadyAnswered, 2, answer(2, sent, outcome), match="final answer")
        assert error.details() == {"index": str(ended)}
    assert exchange(book, sent) == Exchange(exchange(book, sent).sent_ms, received, ended)


def test_an_answer_need_not_wait_to_be_received(book: Book) -> None:
    sent = book.log(1, send(1, 2))
    ended = book.log(2, answer(2, sent))
    book.refused(AlreadyAnswered, 2, answer(2, sent, RECEIVED))
    assert exchange(book, sent).received is None
    assert exchange(book, sent).final == ended


def test_both_in_one_submission(book: Book) -> None:
    sent = book.log(1, send(1, 2))
    book.refused(AlreadyAnswered, 2, answer(2, sent), answer(2, sent, RECEIVED), match="record 1")
    for outcome in (RECEIVED, RETURNED):
        error = book.refused(AlreadyAnswered, 2, *[answer(2, sent, outcome)] * 2, match="record 1")
        assert isinstance(error, IndexedRuleError)
        assert error.index == NONE, "the first of the two will not be in the ledger"
    received = book.log(2, answer(2, sent, RECEIVED), answer(2, sent))
    assert (exchange(book, sent).received, exchange(book, sent).final) == (received, received + 1)


def test_only_the_recipient_answers(book: Book) -> None:
    sent = book.log(1, send(1, 3))
    for other in (1, 2, 4, 5, 6):  # the sender, the agency above, the one below, strangers
        for outcome in Outcome:
            book.refused(NotEntitled, other, answer(other, sent, outcome), match="record 0")
    book.log(3, answer(3, sent))
    book.refused(NotEntitled, 1, answer(1, sent))


def test_what_can_be_answered(book: Book) -> None:
    document = book.log(2, issue(2, "a"))
    changed = book.log(2, status(2, document, document, Status.REVOKED))
    sent = book.log(1, send(1, 2))
    ended = book.log(2, answer(2, sent))
    here = book.here
    for subject in (0, 1, document - 1, document, changed, ended, here, here + 1, 2**40, NONE - 1, NONE):
        book.refused(SubjectInvalid, 2, answer(2, subject), match="record 0.*is no SEND")
    for records in ([answer(2, here + 2), send(2, 1)], [send(2, 1), answer(2, here + 1)]):
        book.refused(SubjectInvalid, 2, *records, match="is no SEND")


# --- follows: reminders, reopening, passing on -------------------------------------------------


def test_a_reminder_opens_nothing_of_its_own(book: Book) -> None:
    sent = book.log(1, send(1, 2))
    reminder = book.log(1, send(1, 2, follows=sent))
    book.refused(SubjectInvalid, 2, answer(2, reminder), match="is a reminder")
    error = book.refused(SubjectInvalid, 2, answer(2, reminder, RECEIVED))
    assert error.fix == f"answer leaf {sent}"
    error = book.refused(SubjectInvalid, 1, send(1, 2, follows=reminder), match="is a reminder itself")
    assert error.fix == f"follow leaf {sent}"
    book.refused(SubjectInvalid, 2, send(2, 6, follows=reminder), match="is a reminder itself")
    again = book.log(1, send(1, 2, follows=sent))
    book.log(2, answer(2, sent))
    book.refused(SubjectInvalid, 2, answer(2, reminder))
    assert exchange(book, reminder).reminds == exchange(book, again).reminds == sent
    assert exchange(book, reminder).final is None


def test_reopening_opens_anew_and_can_be_reminded_of(book: Book) -> None:
    sent = book.log(1, send(1, 2))
    ended = book.log(2, answer(2, sent, RETURNED))
    reopened = book.log(1, send(1, 2, follows=sent))
    reminder = book.log(1, send(1, 2, follows=reopened))
    book.refused(AlreadyAnswered, 2, answer(2, sent))
    final = book.log(2, answer(2, reopened))
    assert exchange(book, sent).final == ended
    assert exchange(book, reopened).final == final
    assert exchange(book, reopened).reminds is None
    assert exchange(book, reminder).reminds == reopened
    figures = book.world.reader.figures
    month = month_of(book.world.state.time_ms)
    counts = {
        metric: figures[FigureKey(2, metric, month, 1)]
        for metric in (Metric.ASKED, Metric.REMINDED, Metric.REOPENED)
    }
    assert counts == {Metric.ASKED: 2, Metric.REMINDED: 1, Metric.REOPENED: 1}


def test_received_is_not_the_end(book: Book) -> None:
    sent = book.log(1, send(1, 2))
    book.log(2, answer(2, sent, RECEIVED))
    reminder = book.log(1, send(1, 2, follows=sent))
    assert exchange(book, reminder).reminds == sent


def test_what_can_be_followed(book: Book) -> None:
    document = book.log(2, issue(2, "a"))
    mine = book.log(2, send(2, 1))
    letter = book.log(2, send(2, 1, kind=CIRCULATED))
    theirs = book.log(1, send(1, 5))
    ended = book.log(1, answer(1, mine))
    here = book.here
    for follows in (0, 1, document, mine - 1, ended, here, here + 1, 2**40, NONE - 1):
        book.refused(SubjectInvalid, 2, send(2, 1, follows=follows), match="record 0.*is no SEND")
    for records in ([send(2, 1), send(2, 1, follows=here + 1)], [send(2, 1, follows=here + 2), send(2, 1)]):
        book.refused(SubjectInvalid, 2, *records, match="is no SEND")
    book.refused(SubjectInvalid, 2, send(2, 1, follows=letter), match="is a circulated SEND")
    book.refused(SubjectInvalid, 2, send(2, 1, kind=CIRCULATED, follows=mine), match="is a request SEND")
    for recipient in (1, 3, 5):
        book.refused(NotEntitled, 2, send(2, recipient, follows=theirs), match="neither sent nor received")
    book.log(2, send(2, 1, kind=CIRCULATED, follows=letter))


def test_the_sender_may_follow_with_another_body(book: Book) -> None:
    """It asks somebody else about the same: no reminder, and the role is needed as ever."""
    sent = book.log(1, send(1, 2))
    other = book.log(1, send(1, 3, follows=sent))
    assert exchange(book, other).reminds is None
    book.log(3, answer(3, other))
    book.log(2, answer(2, sent))
    book.change(1, AgencyEntitled(entitlement(("issue",), ())))
    for recipient in (2, 3):
        book.refused(NotEntitled, 1, send(1, recipient, follows=sent), match="role request")


def test_the_recipient_passes_on_without_the_role(book: Book) -> None:
    sent = book.log(1, send(1, 6))
    book.refused(NotEntitled, 6, send(6, 5), match="role request")
    passed = book.log(6, send(6, 5, follows=sent))
    onward = book.log(5, send(5, 2, follows=passed))
    # Whoever asked first is no party to what was passed on; it reminds where it asked.
    book.refused(NotEntitled, 1, send(1, 5, follows=passed))
    reminder = book.log(1, send(1, 6, follows=sent))
    # Whoever passed it on is its sender there, and needs the role to remind.
    book.refused(NotEntitled, 6, send(6, 5, follows=passed), match="role request")
    book.refused(NotEntitled, 5, answer(5, sent))
    book.log(2, answer(2, onward))
    book.log(5, answer(5, passed))
    assert exchange(book, sent).final is None
    assert exchange(book, reminder).reminds == sent
    assert exchange(book, passed).reminds is None
    book.log(6, answer(6, sent))


def test_passing_on_after_the_answer(book: Book) -> None:
    sent = book.log(1, send(1, 6))
    book.log(6, answer(6, sent))
    passed = book.log(6, send(6, 1, follows=sent))
    book.log(1, answer(1, passed, RETURNED))
    figures = book.world.reader.figures
    book.seal()
    assert not [key for key in figures if key.metric is Metric.REOPENED]


# --- successors --------------------------------------------------------------------------------


def test_a_successor_answers_for_its_predecessor(book: Book) -> None:
    before = book.log(1, send(1, 3))
    book.change(3, SuccessorNamed(5))
    after = book.log(1, send(1, 3))
    book.log(5, answer(5, before, RECEIVED))
    book.refused(AlreadyAnswered, 3, answer(3, before, RECEIVED))
    book.log(3, answer(3, before))
    book.change(5, SuccessorNamed(6))
    for other in (2, 4):
        book.refused(NotEntitled, other, answer(other, after))
    book.log(6, answer(6, after))
    own = book.log(1, send(1, 5))
    book.refused(NotEntitled, 3, answer(3, own))


def test_a_successor_answers_while_its_predecessor_is_suspended(book: Book) -> None:
    sent = book.log(1, send(1, 3))
    book.change(3, AgencySuspended())
    book.change(3, SuccessorNamed(5))
    book.refused(Suspended, 3, answer(3, sent))
    book.log(5, answer(5, sent))


def test_a_successor_reminds_and_is_reminded(book: Book) -> None:
    sent = book.log(1, send(1, 3))
    book.refused(NotEntitled, 4, send(4, 3, follows=sent))
    book.change(1, SuccessorNamed(4))
    book.change(3, SuccessorNamed(5))
    by_heir = book.log(4, send(4, 3, follows=sent))
    to_heir = book.log(1, send(1, 5, follows=sent))
    for reminder in (by_heir, to_heir):
        book.refused(SubjectInvalid, 5, answer(5, reminder), match="is a reminder")
    book.log(5, answer(5, sent))
    reopened = book.log(4, send(4, 5, follows=sent))
    book.refused(NotEntitled, 3, answer(3, reopened))
    book.log(5, answer(5, reopened))
    assert exchange(book, by_heir).reminds == exchange(book, to_heir).reminds == sent
    month = month_of(book.world.state.time_ms)
    figures = book.world.reader.figures
    assert figures[FigureKey(5, Metric.REMINDED, month, 1)] == 1
    assert figures[FigureKey(5, Metric.REOPENED, month, 1)] == 1
    assert figures[FigureKey(3, Metric.REMINDED, month, 1)] == 1


def test_the_successor_of_the_recipient_passes_on(book: Book) -> None:
    sent = book.log(1, send(1, 3))
    book.refused(NotEntitled, 6, send(6, 4, follows=sent))
    book.change(3, SuccessorNamed(6))
    passed = book.log(6, send(6, 4, follows=sent))
    book.refused(NotEntitled, 6, send(6, 4), match="role")
    book.log(4, answer(4, passed))


def test_a_successor_may_pass_on_to_its_predecessor(book: Book) -> None:
    """That is no reminder, though it goes to whom was asked: the successor is not the one that asked."""
    sent = book.log(1, send(1, 3))
    book.change(3, SuccessorNamed(6))
    passed = book.log(6, send(6, 3, follows=sent))
    assert exchange(book, passed).reminds is None
    book.log(3, answer(3, passed))
    again = book.log(6, send(6, 3, follows=sent))
    assert exchange(book, again).reminds is None


def test_a_successor_that_is_replaced_has_no_say(book: Book) -> None:
    sent = book.log(1, send(1, 3))
    book.change(3, SuccessorNamed(5))
    book.change(3, SuccessorNamed(6))
    book.refused(NotEntitled, 5, answer(5, sent))
    book.log(6, answer(6, sent))


def test_successors_form_no_cycle(book: Book) -> None:
    """Following them ends, whoever asks."""
    for agency, heir in ((3, 4), (4, 5), (5, 6)):
        book.change(agency, SuccessorNamed(heir))
    for agency, heir in ((6, 3), (5, 4), (6, 6), (4, 3)):
        with pytest.raises(ChangeRefused):
            book.change(agency, changes.SuccessorNamed(heir))
    sent = book.log(1, send(1, 3))
    book.refused(NotEntitled, 2, answer(2, sent))
    book.log(6, answer(6, sent))
