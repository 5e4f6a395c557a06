"""Figures read as a report, as JSON and as rows: cases by hand, and all that comes in, read or refused."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import FormatError
from ledger.figures import DELAY_BOUNDS_MS, Delays, FigureKey, Metric
from ledger.inquiries import AsOf
from ledger.records import Basis, Outcome, SendKind, Status
from ledger.reports import (
    CSV_COLUMNS,
    counters_json,
    delay_text,
    figures_csv,
    figures_json,
    key_text,
    read_counters,
    read_figures,
    report,
)

DAY_MS = 86_400_000
JANUARY = (2026 - 1970) * 12
TODAY = 20_500
AS_OF = AsOf(9, TODAY * DAY_MS + 5)
REQUEST, CIRCULATED = SendKind.REQUEST, SendKind.CIRCULATED


def key(metric: Metric, period: int, a: int, b: int = 0) -> FigureKey:
    return FigureKey(7, metric, period, a, b)


FIGURES = {
    key(Metric.DOCUMENTS, JANUARY, 3, Basis.ORIGINAL): 10,
    key(Metric.DOCUMENTS, JANUARY, 3, Basis.ARCHIVE): 2,
    key(Metric.STATUS, JANUARY, Status.REVOKED): 1,
    key(Metric.ATTESTATIONS, JANUARY + 1, 4): 6,
    key(Metric.SENT, JANUARY, CIRCULATED): 40,
    key(Metric.ASKED, JANUARY, REQUEST): 5,
    key(Metric.REMINDED, JANUARY, REQUEST): 2,
    key(Metric.REOPENED, JANUARY, REQUEST): 1,
    key(Metric.RECEIVED, JANUARY, REQUEST): 4,
    key(Metric.ANSWERED, JANUARY, REQUEST, Outcome.ANSWERED): 9,
    key(Metric.ANSWERED, JANUARY + 1, REQUEST, Outcome.RETURNED): 1,
    key(Metric.DELAY, JANUARY, REQUEST, 2): 9,
    key(Metric.DELAY, JANUARY + 1, REQUEST, len(DELAY_BOUNDS_MS)): 1,
    key(Metric.LATE, JANUARY + 1, REQUEST): 1,
    key(Metric.OPEN, TODAY - 4, REQUEST): 3,
    key(Metric.OPEN, TODAY, REQUEST): 1,
    key(Metric.DUE, TODAY - 1, REQUEST): 3,
    key(Metric.DUE, TODAY, REQUEST): 1,
}


def test_a_report_by_hand() -> None:
    made = report(7, FIGURES, AS_OF)
    first, second = made.months
    assert first.documents == {(3, Basis.ORIGINAL): 10, (3, Basis.ARCHIVE): 2}
    assert (first.statuses, second.attestations) == ({Status.REVOKED: 1}, {4: 6})
    assert first.exchanged[CIRCULATED].sent == 40
    asked = first.exchanged[REQUEST]
    assert (asked.asked, asked.reminded, asked.reopened, asked.received) == (5, 2, 1, 4)
    assert (asked.answered, asked.returned, asked.late) == (9, 0, 0)
    assert (second.exchanged[REQUEST].returned, second.exchanged[REQUEST].late) == (1, 1)
    assert asked.delays == Delays(9, DELAY_BOUNDS_MS[2], DELAY_BOUNDS_MS[2])
    assert second.exchanged[REQUEST].delays == Delays(1, None, None)
    assert made.delays[REQUEST] == Delays(10, DELAY_BOUNDS_MS[2], DELAY_BOUNDS_MS[2])
    waiting = made.backlogs[REQUEST]
    assert (waiting.open, waiting.overdue, waiting.median_age, waiting.oldest_age) == (4, 3, 4, 4)
    assert made.backlogs[CIRCULATED].open == 0


def test_one_month() -> None:
    made = report(7, FIGURES, AS_OF, JANUARY + 1)
    assert [one.month for one in made.months] == [JANUARY + 1]
    assert made.delays[REQUEST] == Delays(1, None, None)
    assert made.backlogs[REQUEST].open == 4


def test_of_nothing() -> None:
    made = report(7, {}, AS_OF)
    assert made.months == ()
    assert made.delays[REQUEST] == Delays(0, None, None)


def test_json_comes_back() -> None:
    made = json.loads(json.dumps(figures_json(FIGURES, report(7, FIGURES, AS_OF), {"en": "Seven"})))
    assert read_figures(made, "answer") == (7, FIGURES, AS_OF, {"en": "Seven"})
    assert [one["month"] for one in made["months"]] == ["2026-01", "2026-02"]
    assert made["delays"]["request"] == {
        "answers": 10,
        "median_ms": 8 * 3_600_000,
        "ninth_ms": 8 * 3_600_000,
    }


def test_rows() -> None:
    table = list(csv.reader(io.StringIO(figures_csv(7, FIGURES, AS_OF))))
    assert tuple(table[0]) == CSV_COLUMNS
    rows = {tuple(row[1:5]): row[5] for row in table[1:]}
    assert len(rows) == len(FIGURES)
    assert rows["documents", "2026-01", "type 3", "archive"] == "2"
    assert rows["delay", "2026-02", "request", "over 730 days"] == "1"
    assert rows["open", "2026-02-16", "request", ""] == "1"
    assert rows["answered", "2026-02", "request", "returned"] == "1"
    assert {(row[0], row[6], row[7]) for row in table[1:]} == {("7", "9", str(AS_OF.time_ms))}


@pytest.mark.parametrize(
    ("one", "text"),
    [
        (key(Metric.DOCUMENTS, JANUARY, 3, Basis.MIGRATED), "documents 2026-01 type 3 migrated"),
        (key(Metric.STATUS, JANUARY, Status.SUSPENDED), "status 2026-01 suspended"),
        (key(Metric.ATTESTATIONS, JANUARY, 3), "attestations 2026-01 kind 3"),
        (key(Metric.DELAY, JANUARY, REQUEST, 0), "delay 2026-01 request up to 1 hour"),
        (key(Metric.DUE, 0, CIRCULATED), "due 1970-01-01 circulated"),
    ],
)
def test_a_counter_in_words(one: FigureKey, text: str) -> None:
    assert key_text(one) == text


def test_bounds_in_words() -> None:
    words = [delay_text(bound) for bound in (*DELAY_BOUNDS_MS[:5], None)]
    assert words == [
        "up to 1 hour",
        "up to 4 hours",
        "up to 8 hours",
        "up to 1 day",
        "up to 2 days",
        "over 730 days",
    ]


def test_every_counter_that_a_log_leads_to_is_read() -> None:
    rows = json.loads(json.dumps(counters_json(FIGURES)))
    assert read_counters(rows, 7, "x") == FIGURES
    assert rows == sorted(rows)


@pytest.mark.parametrize(
    "row",
    [
        [0, 1, 1, 0, 1],
        [14, 1, 1, 0, 1],
        [1, 1, 0, 4, 1],
        [2, 1, 4, 0, 1],
        [2, 1, 1, 1, 1],
        [3, 1, 0, 0, 1],
        [3, 1, 256, 0, 1],
        [4, 1, 0, 0, 1],
        [4, 1, 3, 0, 1],
        [9, 1, 1, 1, 1],
        [10, 1, 1, 21, 1],
        [12, 1, 1, 1, 1],
        [4, -1, 1, 0, 1],
        [4, 2**64, 1, 0, 1],
        [4, 1, 1, 0, 0],
        [4, 1, 1, 0, 2**64],
        [4, 1, 1, 0],
        [4, 1, 1, 0, True],
        [4, 1, 1, 0, "1"],
        "row",
    ],
)
def test_counters_that_no_log_leads_to(row: Any) -> None:
    with pytest.raises(FormatError):
        read_counters([row], 7, "x")


def test_a_counter_twice() -> None:
    with pytest.raises(FormatError, match="twice"):
        read_counters([[4, 1, 1, 0, 1], [4, 1, 1, 0, 2]], 7, "x")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**65) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
NAMES = st.sampled_from(("agency", "size", "as_of_ms", "names", "counters", "backlogs", "delays", "months"))


@given(st.dictionaries(NAMES, JSON) | JSON)
def test_any_json_is_read_or_refused(value: Any) -> None:
    try:
        agency, counters, _, _ = read_figures(value, "answer")
    except FormatError:
        return
    assert all(one.agency == agency for one in counters)
