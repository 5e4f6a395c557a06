"""Figures: block by block the same as counted once more from the leaves, and read as a report."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from math import ceil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.changes import AgencyMoved, KeyStolen, SuccessorNamed
from ledger.errors import SubjectInvalid
from ledger.figures import (
    DELAY_BOUNDS_MS,
    Backlog,
    Delays,
    FigureKey,
    Metric,
    backlog,
    day_text,
    delays,
    month_of,
    month_text,
)
from ledger.records import Basis, Outcome, SendKind, Status
from ledger.signing_policy import DAY_MS
from tests.ledger.book import Book, agree
from tests.ledger.recount import BOUNDS
from tests.ledger.recount import month_of as naive_month
from tests.ledger.world import START_MS, affirm, answer, attest, issue, send, status

RECEIVED, ANSWERED, RETURNED = Outcome
REQUEST, CIRCULATED = SendKind
HOUR_MS = 3_600_000
FORMAT = Path(__file__).parents[2] / "docs" / "format.md"
JANUARY = (2026 - 1970) * 12
TODAY = START_MS // DAY_MS


def of(book: Book, agency: int, *metrics: Metric) -> dict[tuple[Any, ...], int]:
    """An agency's counters of these metrics: (metric, period, a, b) -> count. All are recounted first."""
    book.seal()
    agree(book.world)
    return {
        key[1:]: count
        for key, count in book.world.reader.figures.items()
        if key.agency == agency and key.metric in metrics and count
    }


def later(book: Book, ms: int) -> None:
    """What follows stands in a block that much later."""
    book.seal()
    book.after_ms = ms


def at(book: Book, time_ms: int) -> None:
    """What follows stands in a block of that time."""
    book.seal()
    book.after_ms = time_ms - book.world.state.time_ms


# --- what is counted, and for whom ---------------------------------------------------------------


def test_documents_by_type_and_basis_for_all_above(book: Book) -> None:
    book.log(4, issue(4, "a"), issue(4, "b"), issue(4, "c", 0), issue(4, "d", 1, Basis.ARCHIVE))
    book.log(1, issue(1, "a"))
    four = {
        (Metric.DOCUMENTS, JANUARY, 1, Basis.ORIGINAL): 2,
        (Metric.DOCUMENTS, JANUARY, 0, Basis.ORIGINAL): 1,
        (Metric.DOCUMENTS, JANUARY, 1, Basis.ARCHIVE): 1,
    }
    for agency in (4, 3, 2):
        assert of(book, agency, Metric.DOCUMENTS) == four
    assert of(book, 1, Metric.DOCUMENTS) == {(Metric.DOCUMENTS, JANUARY, 1, 0): 1}
    assert sum(of(book, 0, Metric.DOCUMENTS).values()) == 5
    assert of(book, 5, *Metric) == {}


def test_statuses_count_for_the_issuer_whoever_changes_them(book: Book) -> None:
    document = book.log(3, issue(3, "a"))
    book.log(2, status(2, document, document, Status.REVOKED))
    assert of(book, 3, Metric.STATUS) == of(book, 2, Metric.STATUS) == {(Metric.STATUS, JANUARY, 1, 0): 1}


def test_a_refused_submission_counts_nothing(book: Book) -> None:
    document = book.log(2, issue(2, "a"))
    before = of(book, 0, *Metric)
    book.refused(SubjectInvalid, 2, send(2, 1), attest(2, document), answer(2, 0))
    assert of(book, 0, *Metric) == before


def test_affirming_counts_nothing(book: Book) -> None:
    book.log(2, issue(2, "a"))
    book.change(2, KeyStolen(3, 0))
    before = of(book, 0, *Metric)
    book.log(2, affirm(2, 2, 0, 1))
    assert of(book, 0, *Metric) == before


def test_months_are_of_the_seal(book: Book) -> None:
    """31 January, the last millisecond; 1 February; the time that the agency claims counts for nothing."""
    book.log(1, issue(1, "a"))
    february = int(datetime(2026, 2, 1, tzinfo=UTC).timestamp() * 1000)
    at(book, february - 1)
    book.log(1, issue(1, "b"))
    at(book, february)
    book.log(1, issue(1, "c"))
    counted = of(book, 1, Metric.DOCUMENTS)
    assert counted[Metric.DOCUMENTS, JANUARY + 1, 1, 0] == 1
    assert sum(counted.values()) == 3


# --- requests ----------------------------------------------------------------------------------


def test_a_request_from_day_to_day(book: Book) -> None:
    sent = book.log(1, send(1, 3, due=2))
    waiting = {(Metric.OPEN, TODAY, 1, 0): 1, (Metric.DUE, TODAY + 2, 1, 0): 1}
    assert of(book, 3, Metric.OPEN, Metric.DUE) == of(book, 2, Metric.OPEN, Metric.DUE) == waiting
    later(book, DAY_MS)
    book.log(3, answer(3, sent, RECEIVED))
    assert of(book, 0, Metric.OPEN, Metric.DUE) == waiting
    later(book, 2 * DAY_MS)
    book.log(3, answer(3, sent))
    assert of(book, 2, Metric.OPEN, Metric.DUE) == {}
    assert of(book, 2, Metric.ANSWERED, Metric.DELAY, Metric.LATE, Metric.RECEIVED) == {
        (Metric.RECEIVED, JANUARY, 1, 0): 1,
        (Metric.ANSWERED, JANUARY, 1, ANSWERED): 1,
        (Metric.DELAY, JANUARY, 1, DELAY_BOUNDS_MS.index(3 * DAY_MS)): 1,
        (Metric.LATE, JANUARY, 1, 0): 1,
    }


def test_the_due_day_itself_is_in_time(book: Book) -> None:
    sent = book.log(1, send(1, 3, due=2), send(1, 3, due=1), send(1, 3))
    book.seal()
    last = (TODAY + 3) * DAY_MS - 1
    at(book, last)
    book.log(3, *[answer(3, sent + n) for n in range(3)])
    assert of(book, 3, Metric.LATE) == {(Metric.LATE, JANUARY, 1, 0): 1}


def test_reminders_are_not_counted_twice(book: Book) -> None:
    sent = book.log(1, send(1, 3, due=1))
    for _ in range(3):
        book.log(1, send(1, 3, due=5, follows=sent))
    assert of(book, 3, Metric.OPEN, Metric.DUE, Metric.ASKED, Metric.REMINDED) == {
        (Metric.OPEN, TODAY, 1, 0): 1,
        (Metric.DUE, TODAY + 1, 1, 0): 1,
        (Metric.ASKED, JANUARY, 1, 0): 1,
        (Metric.REMINDED, JANUARY, 1, 0): 3,
    }
    assert of(book, 1, Metric.SENT) == {(Metric.SENT, JANUARY, 1, 0): 4}
    book.log(3, answer(3, sent))
    assert of(book, 3, Metric.OPEN, Metric.DUE) == {}


def test_reopened_requests_wait_anew(book: Book) -> None:
    sent = book.log(1, send(1, 3))
    book.log(3, answer(3, sent, RETURNED))
    later(book, DAY_MS)
    again = book.log(1, send(1, 3, follows=sent))
    assert of(book, 3, Metric.REOPENED, Metric.ASKED, Metric.OPEN) == {
        (Metric.REOPENED, JANUARY, 1, 0): 1,
        (Metric.ASKED, JANUARY, 1, 0): 2,
        (Metric.OPEN, book.world.state.time_ms // DAY_MS, 1, 0): 1,
    }
    book.log(3, answer(3, again))
    assert of(book, 3, Metric.ANSWERED) == {
        (Metric.ANSWERED, JANUARY, 1, ANSWERED): 1,
        (Metric.ANSWERED, JANUARY, 1, RETURNED): 1,
    }


def test_passing_on_leaves_the_first_open(book: Book) -> None:
    sent = book.log(1, send(1, 6))
    passed = book.log(6, send(6, 5, follows=sent))
    assert of(book, 6, Metric.OPEN) == of(book, 5, Metric.OPEN) == {(Metric.OPEN, TODAY, 1, 0): 1}
    book.log(5, answer(5, passed))
    assert of(book, 6, Metric.OPEN) == {(Metric.OPEN, TODAY, 1, 0): 1}
    assert of(book, 5, Metric.OPEN) == {}


def test_a_move_between_question_and_answer(book: Book) -> None:
    """The ministry that the office stood under when it was asked keeps it open, and has it settled."""
    sent = book.log(1, send(1, 4, due=3))
    book.change(4, AgencyMoved(6))
    book.change(3, AgencyMoved(5))
    asked_after = book.log(1, send(1, 4))
    assert of(book, 2, Metric.OPEN) == of(book, 3, Metric.OPEN) == {(Metric.OPEN, TODAY, 1, 0): 1}
    assert of(book, 4, Metric.OPEN) == {(Metric.OPEN, TODAY, 1, 0): 2}
    assert of(book, 5, Metric.OPEN) == {}
    book.log(4, answer(4, sent))
    for agency in (2, 3):
        assert of(book, agency, Metric.OPEN, Metric.DUE) == {}
        assert of(book, agency, Metric.ANSWERED) == {(Metric.ANSWERED, JANUARY, 1, ANSWERED): 1}
    assert of(book, 6, Metric.ANSWERED) == {}
    book.log(4, answer(4, asked_after))
    assert of(book, 6, Metric.ANSWERED) == {(Metric.ANSWERED, JANUARY, 1, ANSWERED): 1}
    assert of(book, 0, Metric.OPEN) == {}


def test_a_successor_settles_what_its_predecessor_left(book: Book) -> None:
    sent = book.log(1, send(1, 4))
    book.change(4, SuccessorNamed(5))
    book.log(5, answer(5, sent, RECEIVED), answer(5, sent))
    assert of(book, 4, Metric.OPEN) == {}
    assert of(book, 3, Metric.ANSWERED, Metric.RECEIVED) == {
        (Metric.ANSWERED, JANUARY, 1, ANSWERED): 1,
        (Metric.RECEIVED, JANUARY, 1, 0): 1,
    }
    assert of(book, 5, *Metric) == {}


@pytest.mark.parametrize("delay_ms", [1, HOUR_MS, HOUR_MS + 1, DAY_MS, 730 * DAY_MS, 730 * DAY_MS + 1])
def test_a_delay_of_a_bound_is_within_it(book: Book, delay_ms: int) -> None:
    sent = book.log(1, send(1, 5))
    later(book, delay_ms)
    book.log(5, answer(5, sent))
    ((_, month, _, bucket),) = of(book, 5, Metric.DELAY)
    assert month == month_of(book.world.state.time_ms)
    assert bucket == len([one for one in BOUNDS if one < delay_ms])


def test_asked_and_answered_in_one_block(book: Book) -> None:
    sent = book.log(1, send(1, 5, due=1))
    book.log(5, answer(5, sent))
    if book.one_block:
        book.seal()
        assert (Metric.DELAY, JANUARY, 1, 0) in of(book, 5, Metric.DELAY)
    assert of(book, 5, Metric.OPEN, Metric.DUE) == {}


def test_kinds_are_counted_apart(book: Book) -> None:
    first = book.log(2, send(2, 5, due=1), send(2, 5, kind=CIRCULATED, due=1))
    book.log(5, answer(5, first + 1))
    assert of(book, 5, Metric.OPEN, Metric.DUE, Metric.ANSWERED) == {
        (Metric.OPEN, TODAY, REQUEST, 0): 1,
        (Metric.DUE, TODAY + 1, REQUEST, 0): 1,
        (Metric.ANSWERED, JANUARY, CIRCULATED, ANSWERED): 1,
    }


@pytest.mark.parametrize("time_ms", [253_402_300_799_999, 253_402_300_800_000, 2**63, 2**64 - 1])
def test_seals_of_the_end_of_time(book: Book, time_ms: int) -> None:
    """A seal's time has no upper bound: counting must come out the same, and never fail."""
    sent = book.log(1, send(1, 5, due=3_650))
    at(book, time_ms)
    draft = book.open
    for agency, record in ((1, send(1, 5, due=3_650)), (5, answer(5, sent))):
        draft.add_submission(book.submission(agency, record))
    book.seal()
    assert month_text(month_of(time_ms)) == "9999-12"
    assert (Metric.DELAY, 96_359, 1, len(BOUNDS)) in of(book, 5, Metric.DELAY)
    assert of(book, 5, Metric.OPEN) == {(Metric.OPEN, time_ms // DAY_MS, 1, 0): 1}
    assert of(book, 5, Metric.DUE) == {(Metric.DUE, time_ms // DAY_MS + 3_650, 1, 0): 1}
    assert day_text(time_ms // DAY_MS + 3_650) == "9999-12-31"


# --- read as a report ----------------------------------------------------------------------------


@given(st.integers(0, 2**64 - 1))
def test_months_are_those_of_the_calendar(time_ms: int) -> None:
    assert month_of(time_ms) == naive_month(time_ms)


def test_months_and_days_as_text() -> None:
    assert month_text(month_of(START_MS)) == "2026-01"
    assert month_text(month_of(START_MS - 1)) == "2025-12"
    assert month_text(0) == "1970-01"
    assert day_text(TODAY) == "2026-01-01"
    assert day_text(0) == "1970-01-01"


def test_figures_are_named_as_said() -> None:
    """docs/format.md: the metrics, the month that ends all months, the bounds of a delay."""
    section = FORMAT.read_text(encoding="utf-8").split("## Figures")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (\d+) \| (\w+) \|", section, re.MULTILINE)
    assert [(int(number), name) for number, name in rows] == [(one, one.name.lower()) for one in Metric]
    flat = " ".join(section.split())
    hours, days = re.findall(r"0 to 20: ([\d, and]+) hours; ([\d, and]+) days", flat)[0]
    bounds = [int(n) * 3_600_000 for n in re.findall(r"\d+", hours)]
    bounds += [int(n) * 86_400_000 for n in re.findall(r"\d+", days)]
    assert bounds == list(DELAY_BOUNDS_MS) == BOUNDS
    assert "96,359" in flat
    assert month_of(2**64 - 1) == 96_359


AGES = st.dictionaries(st.integers(0, 900), st.integers(1, 20), max_size=12)


def percentile(values: Iterable[int], percent: int) -> int | None:
    """By writing all of them down in order."""
    line = sorted(values)
    return line[max(ceil(len(line) * percent / 100), 1) - 1] if line else None


@given(AGES, AGES, st.integers(0, 1000))
def test_the_backlog(opened: dict[int, int], due: dict[int, int], today: int) -> None:
    opened = {age: count for age, count in opened.items() if age <= today}
    figures = {FigureKey(3, Metric.OPEN, today - age, REQUEST): count for age, count in opened.items()}
    figures |= {FigureKey(3, Metric.DUE, day, REQUEST): count for day, count in due.items()}
    noise = {
        FigureKey(4, Metric.OPEN, 1, REQUEST): 7,
        FigureKey(3, Metric.OPEN, 1, CIRCULATED): 7,
        FigureKey(3, Metric.DUE, 1, CIRCULATED): 7,
        FigureKey(3, Metric.ASKED, 1, REQUEST): 7,
    }
    ages = [age for age, count in opened.items() for _ in range(count)]
    wanted = Backlog(
        open=len(ages),
        overdue=sum(count for day, count in due.items() if day < today),
        median_age=percentile(ages, 50),
        oldest_age=max(ages, default=None),
    )
    assert backlog({**figures, **noise}, 3, REQUEST, today * DAY_MS + 5) == wanted


@given(st.lists(st.tuples(st.integers(0, len(BOUNDS)), st.integers(670, 672)), max_size=60))
def test_the_delays(answers: list[tuple[int, int]]) -> None:
    figures: Counter[FigureKey] = Counter()
    for bucket, month in answers:
        figures[FigureKey(3, Metric.DELAY, month, REQUEST, bucket)] += 1
    figures[FigureKey(3, Metric.DELAY, 671, CIRCULATED, 0)] += 100
    figures[FigureKey(0, Metric.DELAY, 671, REQUEST, 0)] += 100

    def wanted(buckets: list[int]) -> Delays:
        ends = [*BOUNDS, None]
        half, ninth = percentile(buckets, 50), percentile(buckets, 90)
        return Delays(
            len(buckets),
            None if half is None else ends[half],
            None if ninth is None else ends[ninth],
        )

    assert delays(figures, 3, REQUEST) == wanted([bucket for bucket, _ in answers])
    assert delays(figures, 3, REQUEST, 671) == wanted([bucket for bucket, month in answers if month == 671])


def test_nothing_to_report() -> None:
    assert backlog({}, 1, REQUEST, START_MS) == Backlog(0, 0, None, None)
    assert delays({}, 1, REQUEST) == Delays(0, None, None)
    settled = {FigureKey(1, Metric.OPEN, 5, REQUEST): 0, FigureKey(1, Metric.DELAY, 5, REQUEST, 3): 0}
    assert backlog(settled, 1, REQUEST, START_MS) == Backlog(0, 0, None, None)
    assert delays(settled, 1, REQUEST) == Delays(0, None, None)
