"""An agency's figures as a report by month, as JSON, and as rows for a spreadsheet.

A pure reading of the counters of :mod:`ledger.figures`: who has the counters has the report, so a node,
the command line and somebody who replayed the log all print the same. What each figure means:
docs/figures.md.
"""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Any, Final

from ledger.canonical_json import U64_MAX, Json, Reader
from ledger.changes import MAX_AGENCY
from ledger.errors import FormatError
from ledger.figures import (
    DELAY_BOUNDS_MS,
    Backlog,
    Delays,
    FigureKey,
    Metric,
    backlog,
    day_text,
    delays,
    month_text,
)
from ledger.inquiries import AsOf, as_of_json, read_as_of
from ledger.records import Basis, Outcome, SendKind, Status

MAX_FIGURES: Final = 4_000_000
"""Counters in one answer: more than any agency can have in a century."""
BY_DAY: Final = frozenset((Metric.OPEN, Metric.DUE))
CSV_COLUMNS: Final = ("agency", "figure", "period", "kind", "detail", "count", "size", "as_of_ms")


@dataclass(frozen=True, slots=True)
class Exchanged:
    """What an agency sent of one kind, and what it did with what was sent to it, in one month.

    ``asked``: SENDs to it that opened an exchange, ``reopened`` among them; ``reminded``: further ones.
    ``delays`` is of the final answers given in that month.
    """

    sent: int
    asked: int
    reminded: int
    reopened: int
    received: int
    answered: int
    returned: int
    late: int
    delays: Delays


@dataclass(frozen=True, slots=True)
class Month:
    """One month, by its number since January 1970. ``documents``: by type and basis."""

    month: int
    documents: Mapping[tuple[int, Basis], int]
    statuses: Mapping[Status, int]
    attestations: Mapping[int, int]
    exchanged: Mapping[SendKind, Exchanged]


@dataclass(frozen=True, slots=True)
class Report:
    """An agency and all below it, as of a size. ``delays`` is over all months shown."""

    agency: int
    as_of: AsOf
    backlogs: Mapping[SendKind, Backlog]
    delays: Mapping[SendKind, Delays]
    months: tuple[Month, ...]


def report(agency: int, figures: Mapping[FigureKey, int], as_of: AsOf, month: int | None = None) -> Report:
    """The report of one agency from its counters, of one month or of all; about 2 µs a counter."""
    waiting: dict[FigureKey, int] = {}
    delayed: dict[FigureKey, int] = {}
    by_month: dict[int, _Counts] = {}
    opened, due, delay = Metric.OPEN, Metric.DUE, Metric.DELAY  # looked up once: an Enum's are slow
    for key, count in figures.items():
        _, metric, period, a, b = key
        if metric is opened or metric is due:
            waiting[key] = count
        elif month is None or month == period:
            found = by_month.get(period)
            if found is None:
                found = by_month[period] = defaultdict(dict)
            if metric is delay:
                found[metric][key] = delayed[key] = count
            else:
                found[metric][a, b] = count
    return Report(
        agency=agency,
        as_of=as_of,
        backlogs={kind: backlog(waiting, agency, kind, as_of.time_ms) for kind in SendKind},
        delays={kind: delays(delayed, agency, kind) for kind in SendKind},
        months=tuple(_month(agency, number, by_month[number]) for number in sorted(by_month)),
    )


_Counts = dict[Metric, dict[Any, int]]
"""A month's counters by metric, then by (a, b); those of DELAY under their whole keys."""


def _month(agency: int, number: int, found: _Counts) -> Month:
    return Month(
        month=number,
        documents={(a, _BASES[b]): n for (a, b), n in sorted(found[Metric.DOCUMENTS].items())},
        statuses={Status(a): n for (a, _), n in sorted(found[Metric.STATUS].items())},
        attestations={a: n for (a, _), n in sorted(found[Metric.ATTESTATIONS].items())},
        exchanged={kind: _exchanged(agency, kind, found) for kind in SendKind},
    )


def _exchanged(agency: int, kind: SendKind, found: _Counts) -> Exchanged:
    def of(metric: Metric, b: int = 0) -> int:
        return found[metric].get((kind, b), 0)

    return Exchanged(
        sent=of(Metric.SENT),
        asked=of(Metric.ASKED),
        reminded=of(Metric.REMINDED),
        reopened=of(Metric.REOPENED),
        received=of(Metric.RECEIVED),
        answered=of(Metric.ANSWERED, Outcome.ANSWERED),
        returned=of(Metric.ANSWERED, Outcome.RETURNED),
        late=of(Metric.LATE),
        delays=delays(found[Metric.DELAY], agency, kind),
    )


# --- as JSON -----------------------------------------------------------------------------------


def report_json(report: Report, names: Mapping[str, str]) -> dict[str, Json]:
    """A report, readable: months as ``2026-01``, kinds and statuses as words."""
    return {
        "agency": report.agency,
        "names": dict(names),
        **as_of_json(report.as_of),
        "backlogs": {_word(kind): backlog_json(one) for kind, one in report.backlogs.items()},
        "delays": {_word(kind): delays_json(one) for kind, one in report.delays.items()},
        "months": [_month_json(one) for one in report.months],
    }


def _month_json(month: Month) -> dict[str, Json]:
    return {
        "month": month_text(month.month),
        "documents": [
            {"document_type": document_type, "basis": _word(basis), "count": count}
            for (document_type, basis), count in month.documents.items()
        ],
        "statuses": {_word(status): count for status, count in month.statuses.items()},
        "attestations": [{"attestation": kind, "count": count} for kind, count in month.attestations.items()],
        "exchanges": {_word(kind): _exchanged_json(one) for kind, one in month.exchanged.items()},
    }


def _exchanged_json(one: Exchanged) -> dict[str, Json]:
    return {
        "sent": one.sent,
        "asked": one.asked,
        "reminded": one.reminded,
        "reopened": one.reopened,
        "received": one.received,
        "answered": one.answered,
        "returned": one.returned,
        "late": one.late,
        "delays": delays_json(one.delays),
    }


def backlog_json(one: Backlog) -> dict[str, Json]:
    return {
        "open": one.open,
        "overdue": one.overdue,
        "median_age_days": one.median_age,
        "oldest_age_days": one.oldest_age,
    }


def delays_json(one: Delays) -> dict[str, Json]:
    return {"answers": one.answers, "median_ms": one.median_ms, "ninth_ms": one.ninth_ms}


def counters_json(figures: Mapping[FigureKey, int]) -> list[list[int]]:
    """The counters themselves, ``[metric, period, a, b, count]`` each, in the order of their keys."""
    return [[*key[1:], count] for key, count in sorted(figures.items())]


def read_counters(value: Json, agency: int, where: str) -> dict[FigureKey, int]:
    """The inverse of :func:`counters_json`. Raises FormatError."""
    if not isinstance(value, list) or len(value) > MAX_FIGURES:
        raise FormatError(f"a list of at most {MAX_FIGURES} counters is expected", where=where)
    figures: dict[FigureKey, int] = {}
    for row in value:
        if not isinstance(row, list) or len(row) != 5 or set(map(type, row)) != {int}:
            raise FormatError("a counter is 5 integers", where=where)
        key, count = counter(agency, row[:4], row[4], where)
        figures[key] = count
    if len(figures) != len(value):
        raise FormatError("a counter comes twice", where=where)
    return figures


def counter(agency: int, parts: Iterable[int], count: int, where: str) -> tuple[FigureKey, int]:
    """One counter from its metric, period, a and b. Raises FormatError for what no log can lead to."""
    metric, period, a, b = parts
    if not (metric in _METRICS and 0 <= period <= U64_MAX and 0 <= a < 1 << 16 and 0 <= b < 1 << 8):
        raise FormatError("there is no such counter", where=where)
    if not (_fits(_METRICS[metric], a, b) and 0 < count <= U64_MAX):
        raise FormatError("no log leads to such a counter", where=where)
    return FigureKey(agency, _METRICS[metric], period, a, b), count


def _fits(metric: Metric, a: int, b: int) -> bool:
    """Whether ``a`` and ``b`` are what the metric's words can say."""
    if metric is Metric.DOCUMENTS:
        return b in _BASES
    if metric is Metric.STATUS:
        return a in _STATUSES and b == 0
    if metric is Metric.ATTESTATIONS:
        return 0 < a < 1 << 8 and b == 0
    if metric is Metric.ANSWERED:
        return a in _KINDS and b in (Outcome.ANSWERED, Outcome.RETURNED)
    if metric is Metric.DELAY:
        return a in _KINDS and b <= len(DELAY_BOUNDS_MS)
    return a in _KINDS and b == 0


_METRICS: Final = {int(metric): metric for metric in Metric}
_BASES: Final = {int(basis): basis for basis in Basis}
_STATUSES: Final = frozenset(map(int, Status))
_KINDS: Final = frozenset(map(int, SendKind))


def figures_json(figures: Mapping[FigureKey, int], report: Report, names: Mapping[str, str]) -> Json:
    """What a node answers: the report, and the counters that it was made of."""
    return {**report_json(report, names), "counters": counters_json(figures)}


def read_figures(value: Json, where: str) -> tuple[int, dict[FigureKey, int], AsOf, dict[str, str]]:
    """(agency, counters, as of, names) of :func:`figures_json`; not the report. Raises FormatError."""
    reader = Reader(value, where)
    agency = reader.number("agency", 0, MAX_AGENCY)
    as_of = read_as_of(reader)
    names = reader.any("names")
    if not isinstance(names, dict) or not all(isinstance(one, str) for one in names.values()):
        raise FormatError("names by language are expected", where=reader.at("names"))
    counters = read_counters(reader.any("counters"), agency, reader.at("counters"))
    for name in ("backlogs", "delays", "months"):
        reader.any(name)
    reader.done()
    return agency, counters, as_of, names


# --- as rows -----------------------------------------------------------------------------------


def figures_csv(agency: int, figures: Mapping[FigureKey, int], as_of: AsOf) -> str:
    """Each counter as a row, in the order of keys, below :data:`CSV_COLUMNS`; RFC 4180, UTF-8."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(CSV_COLUMNS)
    for key, count in sorted(figures.items()):
        writer.writerow((agency, *_parts(key), count, as_of.size, as_of.time_ms))
    return out.getvalue()


def key_text(key: FigureKey) -> str:
    """Which counter this is, in one line: ``answered 2026-03 request returned``."""
    return " ".join(filter(None, _parts(key)))


def _parts(key: FigureKey) -> tuple[str, str, str, str]:
    """Figure, period, kind and detail, in words."""
    _, metric, period, a, b = key
    return metric.name.lower(), _period(metric in BY_DAY, period), *_words(metric, a, b)


@lru_cache(8_192)
def _period(by_day: bool, period: int) -> str:
    return day_text(period) if by_day else month_text(period)


@lru_cache(8_192)
def _words(metric: Metric, a: int, b: int) -> tuple[str, str]:
    """``a`` and ``b`` of a counter in words."""
    if metric is Metric.DOCUMENTS:
        return f"type {a}", _word(Basis(b))
    if metric is Metric.STATUS:
        return _word(Status(a)), ""
    if metric is Metric.ATTESTATIONS:
        return f"kind {a}", ""
    kind = _word(SendKind(a))
    if metric is Metric.ANSWERED:
        return kind, _word(Outcome(b))
    if metric is Metric.DELAY:
        return kind, _bucket(b)
    return kind, ""


def _bucket(bucket: int) -> str:
    return delay_text(None if bucket == len(DELAY_BOUNDS_MS) else DELAY_BOUNDS_MS[bucket])


def delay_text(bound_ms: int | None) -> str:
    """A bucket by its upper bound: ``up to 8 hours``, ``up to 3 days``; of None, ``over 730 days``."""
    hours = (DELAY_BOUNDS_MS[-1] if bound_ms is None else bound_ms) // 3_600_000
    number, unit = (hours, "hour") if hours < 24 else (hours // 24, "day")
    return f"{'over' if bound_ms is None else 'up to'} {number} {unit}{'' if number == 1 else 's'}"


def _word(member: IntEnum) -> str:
    return member.name.lower()
