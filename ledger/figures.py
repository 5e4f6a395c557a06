"""Figures: how much each agency did in each month, and how long it left others waiting.

They follow from the leaves and the seals' times alone, block by block, so a node keeps them as counters
that no scan is needed for, and anybody who replays the log arrives at the very same numbers. What an
agency does counts for each agency above it too, up to the authority (0), whose figures are the whole
ledger's. Format: docs/format.md, section Figures.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from enum import IntEnum
from typing import Final, NamedTuple

from ledger.changes import AUTHORITY
from ledger.exchanges import Exchange
from ledger.records import Outcome, Send, SendKind
from ledger.registry import Registry
from ledger.signing_policy import DAY_MS, utc_day

_HOUR_MS: Final = 3_600_000
DELAY_BOUNDS_MS: Final = tuple(
    [hours * _HOUR_MS for hours in (1, 4, 8)]
    + [days * DAY_MS for days in (1, 2, 3, 5, 7, 10, 14, 21, 30, 45, 60, 90, 120, 180, 270, 365, 730)]
)
"""Upper bounds of the buckets of a delay, inclusive; one more bucket holds what took longer."""

_EPOCH: Final = date(1970, 1, 1).toordinal()
_LAST_DAY: Final = date.max.toordinal() - _EPOCH


class Metric(IntEnum):
    """What is counted, and what ``a`` and ``b`` of its key mean.

    All but the last two are by month, as the number of months since January 1970 (UTC) of the seal. OPEN and
    DUE are by day, as the number of days since 1970: an answer takes away what its SEND added.
    """

    DOCUMENTS = 1  # issued; a: document type, b: basis
    STATUS = 2  # status changes of the agency's documents and attestations; a: the status
    ATTESTATIONS = 3  # a: kind
    SENT = 4  # a: kind of SEND
    ASKED = 5  # SENDs to the agency that opened an exchange; a: kind
    REMINDED = 6  # SENDs to the agency that reminded of one; a: kind
    REOPENED = 7  # SENDs to the agency that took up one it had answered; a: kind
    RECEIVED = 8  # marked as received; a: kind
    ANSWERED = 9  # final answers; a: kind, b: outcome
    DELAY = 10  # final answers by the time since the SEND; a: kind, b: bucket of DELAY_BOUNDS_MS
    LATE = 11  # final answers after the due day; a: kind
    OPEN = 12  # not finally answered, by the day of the SEND; a: kind
    DUE = 13  # not finally answered, by the last day on which an answer is in time; a: kind

    __hash__ = int.__hash__  # an Enum's own takes a third of the time that reading counters does


class FigureKey(NamedTuple):
    """One counter. ``period``: a month, or for OPEN and DUE a day."""

    agency: int
    metric: Metric
    period: int
    a: int
    b: int = 0


Figures = Counter[FigureKey]
"""Counters, or what a block adds to them (then they may be below zero)."""


def month_of(time_ms: int) -> int:
    """The number of months since January 1970 in which a time lies (UTC)."""
    day = date.fromordinal(_EPOCH + min(utc_day(time_ms), _LAST_DAY))
    return (day.year - 1970) * 12 + day.month - 1


def month_text(month: int) -> str:
    """A month as ``2026-01``."""
    return f"{1970 + month // 12:04}-{month % 12 + 1:02}"


def day_text(day: int) -> str:
    """A day as ``2026-01-31``."""
    return date.fromordinal(_EPOCH + min(day, _LAST_DAY)).isoformat()


class Tally:
    """Adds up what one block does. ``registry`` is the registry of the moment of each event."""

    def __init__(self, time_ms: int) -> None:
        self.time_ms = time_ms
        self.figures: Figures = Counter()
        self._month = month_of(time_ms)

    def add(
        self, registry: Registry, agency: int, metric: Metric, a: int, b: int = 0, count: int = 1
    ) -> None:
        """An event of this month, for the agency and all above it now."""
        for one in _line(registry, agency, None):
            self.figures[FigureKey(one, metric, self._month, a, b)] += count

    def sent(self, registry: Registry, send: Send, exchange: Exchange, *, reopens: bool) -> None:
        """A SEND of this block."""
        self.add(registry, send.agency, Metric.SENT, send.kind)
        if exchange.reminds is not None:
            self.add(registry, send.recipient, Metric.REMINDED, send.kind)
            return
        self.add(registry, send.recipient, Metric.ASKED, send.kind)
        if reopens:
            self.add(registry, send.recipient, Metric.REOPENED, send.kind)
        self._wait(_line(registry, send.recipient, None), send, exchange, 1)

    def answered(
        self, registry: Registry, index: int, send: Send, exchange: Exchange, outcome: Outcome
    ) -> None:
        """An ANSWER of this block to the SEND at ``index``, whose state was ``exchange``.

        It counts for whoever was asked, and for those above it when it was asked: an answer that a
        successor gives, or one given under another ministry, settles what was open there.
        """
        line = _line(registry, send.recipient, index)
        if outcome is Outcome.RECEIVED:
            self._each(line, Metric.RECEIVED, send.kind)
            return
        self._each(line, Metric.ANSWERED, send.kind, outcome)
        delay_ms = self.time_ms - exchange.sent_ms
        self._each(line, Metric.DELAY, send.kind, bisect_left(DELAY_BOUNDS_MS, delay_ms))
        if send.due and utc_day(self.time_ms) > utc_day(exchange.sent_ms) + send.due:
            self._each(line, Metric.LATE, send.kind)
        self._wait(line, send, exchange, -1)

    def _each(self, line: Iterable[int], metric: Metric, a: int, b: int = 0) -> None:
        for one in line:
            self.figures[FigureKey(one, metric, self._month, a, b)] += 1

    def _wait(self, line: Iterable[int], send: Send, exchange: Exchange, count: int) -> None:
        day = utc_day(exchange.sent_ms)
        for one in line:
            self.figures[FigureKey(one, Metric.OPEN, day, send.kind)] += count
            if send.due:
                self.figures[FigureKey(one, Metric.DUE, day + send.due, send.kind)] += count


def _line(registry: Registry, agency: int, index: int | None) -> list[int]:
    """The agency, all above it (now, or at a leaf's index), and the authority."""
    line = [agency]
    while agency != AUTHORITY:
        parents = registry.agency(agency).record.parent
        agency = parents.latest if index is None else parents.at(index)
        line.append(agency)
    return line


# --- read as a report --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Backlog:
    """What an agency has not finally answered, of one kind. Ages are whole days."""

    open: int
    overdue: int
    median_age: int | None
    oldest_age: int | None


@dataclass(frozen=True, slots=True)
class Delays:
    """The time to the final answer, as upper bounds in ms; None for longer than the last bound."""

    answers: int
    median_ms: int | None
    ninth_ms: int | None


def backlog(figures: Mapping[FigureKey, int], agency: int, kind: SendKind, now_ms: int) -> Backlog:
    """The backlog of one kind as of ``now_ms``."""
    today = utc_day(now_ms)
    days = {key.period: count for key, count in figures.items() if _is(key, agency, Metric.OPEN, kind)}
    due = {key.period: count for key, count in figures.items() if _is(key, agency, Metric.DUE, kind)}
    ages = Counter({today - day: count for day, count in days.items()})
    return Backlog(
        open=sum(days.values()),
        overdue=sum(count for day, count in due.items() if day < today),
        median_age=_quantile(ages, 50),
        oldest_age=max((age for age, count in ages.items() if count), default=None),
    )


def delays(figures: Mapping[FigureKey, int], agency: int, kind: SendKind, month: int | None = None) -> Delays:
    """Median and 90th percentile of the time to the final answer, of a month or of all.

    A histogram knows only buckets: each figure is the upper bound of the one that it falls into.
    """
    buckets: Counter[int] = Counter()
    for key, count in figures.items():
        if _is(key, agency, Metric.DELAY, kind) and month in (None, key.period):
            buckets[key.b] += count
    return Delays(sum(buckets.values()), _bound(_quantile(buckets, 50)), _bound(_quantile(buckets, 90)))


def _is(key: FigureKey, agency: int, metric: Metric, kind: SendKind) -> bool:
    return key.agency == agency and key.metric is metric and key.a == kind


def _quantile(counts: Mapping[int, int], percent: int) -> int | None:
    """The least value that at least ``percent`` of all are not above; None of nothing."""
    wanted = sum(counts.values()) * percent
    so_far = 0
    for value in sorted(counts):
        so_far += counts[value] * 100
        if counts[value] and so_far >= wanted:
            return value
    return None


def _bound(bucket: int | None) -> int | None:
    return None if bucket is None or bucket >= len(DELAY_BOUNDS_MS) else DELAY_BOUNDS_MS[bucket]
