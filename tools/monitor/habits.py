"""What is usual for an agency: its hours, how much each key issues in a day, which keys it uses.

Learned from its own history alone, and only from what the register knows, so that a thief teaches
nothing. Counted are days, not documents, where hours are concerned: one bulk on a Sunday makes no Sunday
usual. What is unusual is worth a question, and no more: a warning, never an alarm.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import sqrt
from typing import Final

from ledger.canonical_json import Json, Reader
from ledger.errors import FormatError
from ledger.signing_policy import DAY_MS

HOUR_MS: Final = 3_600_000
WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
BAGHDAD: Final = 3
"""Hours ahead of UTC, where hours are not said to be others."""

MIN_WEEKS: Final = 4
"""Weeks of history before hours are judged by it."""
MIN_DAYS: Final = 10
"""Days on which a key logged a kind before its volume is judged."""
FLOOR: Final = 100
"""Records of a kind that a key may log on any day."""
SILENT_DAYS: Final = 30
_RARE: Final = 20
"""An hour is unusual when fewer than one week in so many had something in it or beside it."""
_LONG_WEEKS: Final = 104
_LONG_DAYS: Final = 520
"""Past these, the old counts half, so that new habits become usual."""
_WEEK_HOURS: Final = 168
_SUNDAY_TO_MONDAY: Final = 3  # 1970-01-01 was a Thursday, weekday 3


@dataclass(frozen=True, slots=True)
class OfficeHours:
    """The hours that an office keeps, if it says so: minutes of the day, and weekdays off (0 Monday)."""

    opens: int
    closes: int
    weekend: frozenset[int]


@dataclass(frozen=True, slots=True)
class Warned:
    """Something unusual. ``key``: the number of the key that signed; ``day``: YYYY-MM-DD, local."""

    code: str
    key: int
    day: str
    facts: dict[str, Json]

    @property
    def identity(self) -> str:
        return f"{self.code} {self.day} {self.key} {self.facts.get('kind', '')}"


@dataclass(slots=True)
class _Odd:
    """What one key logged outside the usual hours of a day."""

    submissions: int = 0
    records: int = 0
    first: int = 0
    from_ms: int = 0
    to_ms: int = 0
    told: int = 0


@dataclass(slots=True)
class _Day:
    """The day in work. ``totals`` and ``told`` by (key, kind): records, and those of the last warning."""

    number: int
    hours: set[int] = field(default_factory=set)
    totals: dict[tuple[int, str], int] = field(default_factory=dict)
    firsts: dict[tuple[int, str], int] = field(default_factory=dict)
    told: dict[tuple[int, str], int] = field(default_factory=dict)
    odd: dict[int, _Odd] = field(default_factory=dict)


@dataclass(slots=True)
class Habits:
    """Fed with submissions in the order of the log; ``offset``: the local time's hours ahead of UTC.

    ``hours`` counts, by UTC hour of the week from Monday, the days on which something was logged in it;
    ``volumes`` by (key, kind) the days, the records, and the sum of their squares; ``seen`` the last day
    of each key. Days are numbered from 1970-01-01, local.
    """

    offset: int = BAGHDAD
    office: OfficeHours | None = None
    hours: list[int] = field(default_factory=lambda: [0] * _WEEK_HOURS)
    weeks: int = 0
    week: int | None = None
    volumes: dict[tuple[int, str], list[int]] = field(default_factory=dict)
    seen: dict[int, int] = field(default_factory=dict)
    day: _Day | None = None
    pending: list[Warned] = field(default_factory=list)

    # --- feeding ---

    def feed(self, sealed_ms: int, keys: Sequence[int], kinds: Mapping[str, int], first: int) -> None:
        """A submission that the agency knows: the time of its seal, its keys, its records by kind."""
        day = self._enter(sealed_ms)
        unusual = self.unusual(sealed_ms)
        day.hours.add(sealed_ms // HOUR_MS % 24)
        for key in keys:
            last = self.seen.get(key)
            if last is not None and day.number - last > SILENT_DAYS:
                facts: dict[str, Json] = {"days": day.number - last, "first": str(first)}
                self.pending.append(Warned("SILENT_KEY", key, date_text(day.number), facts))
            elif last is None and self.weeks >= MIN_WEEKS:
                self.pending.append(
                    Warned("FIRST_USE", key, date_text(day.number), {"first": str(first)}),
                )
            self.seen[key] = day.number
            for kind, count in kinds.items():
                day.totals[key, kind] = day.totals.get((key, kind), 0) + count
                day.firsts.setdefault((key, kind), first)
            if unusual:
                odd = day.odd.setdefault(key, _Odd(first=first, from_ms=sealed_ms))
                odd.submissions += 1
                odd.records += sum(kinds.values())
                odd.to_ms = sealed_ms

    def unusual(self, sealed_ms: int) -> bool:
        """Whether this time is outside the usual hours; False while too little is known."""
        if self.office is not None:
            minute = (sealed_ms // 60_000 + 60 * self.offset) % 1440
            opens, closes = self.office.opens, self.office.closes
            inside = opens <= minute < closes if opens <= closes else minute >= opens or minute < closes
            return not inside or self._weekday(sealed_ms) in self.office.weekend
        if self.weeks < MIN_WEEKS:
            return False
        hour = self._hour_of_week(sealed_ms)
        around = sum(self.hours[(hour + step) % _WEEK_HOURS] for step in (-1, 0, 1))
        return around == 0 or around * _RARE < self.weeks

    def limit(self, key: int, kind: str) -> int | None:
        """Above how many records a day of this key is unusual; None while too little is known.

        The mean and four standard deviations, of which none is taken to be below that of chance alone.
        """
        days, total, squares = self.volumes.get((key, kind), (0, 0, 0))
        if days < MIN_DAYS:
            return None
        mean = total / days
        deviation = sqrt(max(squares / days - mean * mean, mean))
        return max(FLOOR, int(mean + 4 * deviation))

    def warnings(self) -> list[Warned]:
        """What is unusual and was not told yet, or has doubled since."""
        found, self.pending = self.pending, []
        return found + list(self._of_day())

    def _of_day(self) -> Iterator[Warned]:
        day = self.day
        if day is None:
            return
        for key, odd in sorted(day.odd.items()):
            if odd.records >= 2 * odd.told:
                odd.told = odd.records
                facts: dict[str, Json] = {
                    "submissions": odd.submissions,
                    "records": odd.records,
                    "first": str(odd.first),
                    "from_ms": odd.from_ms,
                    "to_ms": odd.to_ms,
                }
                yield Warned("UNUSUAL_HOURS", key, date_text(day.number), facts)
        for (key, kind), total in sorted(day.totals.items()):
            limit = self.limit(key, kind)
            told = day.told.get((key, kind), 0)
            if limit is not None and total > limit and total >= 2 * told:
                day.told[key, kind] = total
                days, sum_, _ = self.volumes[key, kind]
                facts = {
                    "kind": kind,
                    "records": total,
                    "usual": sum_ // days,
                    "limit": limit,
                    "first": str(day.firsts[key, kind]),
                }
                yield Warned("UNUSUAL_VOLUME", key, date_text(day.number), facts)

    # --- learning ---

    def _enter(self, sealed_ms: int) -> _Day:
        number = self._day_number(sealed_ms)
        if self.day is None or number > self.day.number:
            self._learn()
            self.day = _Day(number)
            week = (number + _SUNDAY_TO_MONDAY) // 7
            if self.week is not None:
                self.weeks += max(0, week - self.week)
            self.week = week
            if self.weeks > _LONG_WEEKS:
                self.weeks //= 2
                self.hours = [count // 2 for count in self.hours]
        return self.day

    def _learn(self) -> None:
        """The day is over: what it had becomes a part of what is usual, though no more than its limit."""
        day = self.day
        if day is None:
            return
        self.pending += self._of_day()
        midnight_ms = day.number * DAY_MS - self.offset * HOUR_MS
        for hour in day.hours:
            local = (hour + self.offset) % 24
            self.hours[self._hour_of_week(midnight_ms + local * HOUR_MS)] += 1
        for place, total in day.totals.items():
            limit = self.limit(*place)
            kept = total if limit is None else min(total, limit)
            days, sum_, squares = self.volumes.get(place, [0, 0, 0])
            if days >= _LONG_DAYS:
                days, sum_, squares = days // 2, sum_ // 2, squares // 2
            self.volumes[place] = [days + 1, sum_ + kept, squares + kept * kept]

    def _day_number(self, time_ms: int) -> int:
        return (time_ms + self.offset * HOUR_MS) // DAY_MS

    def _weekday(self, time_ms: int) -> int:
        return (self._day_number(time_ms) + _SUNDAY_TO_MONDAY) % 7

    def _hour_of_week(self, time_ms: int) -> int:
        """By UTC, from Monday, so that another offset leaves the counts where they are."""
        return (time_ms // HOUR_MS + 24 * _SUNDAY_TO_MONDAY) % _WEEK_HOURS

    # --- kept ---

    def to_json(self) -> Json:
        day = self.day
        return {
            "hours": self.hours,
            "weeks": self.weeks,
            "week": self.week,
            "volumes": [[key, kind, *three] for (key, kind), three in sorted(self.volumes.items())],
            "seen": [[key, number] for key, number in sorted(self.seen.items())],
            "day": None if day is None else _day_json(day),
        }

    @classmethod
    def from_json(cls, reader: Reader, offset: int, office: OfficeHours | None) -> Habits:
        """The inverse, judging by these hours. Raises FormatError."""
        try:
            day = reader.any("day")
            habits = cls(
                offset,
                office,
                [int(count) for count in reader.items("hours", limit=_WEEK_HOURS)],
                reader.number("weeks", 0, 1 << 32),
                reader.any("week"),
                {(key, kind): three for key, kind, *three in reader.items("volumes", limit=1 << 20)},
                dict(reader.items("seen", limit=1 << 17)),
                None if day is None else _day_of(reader.member("day")),
            )
            reader.done()
            if len(habits.hours) != _WEEK_HOURS:
                raise ValueError(f"a week of {len(habits.hours)} hours")
        except (TypeError, ValueError) as error:
            raise FormatError(f"is damaged: {error}", where=reader.where) from None
        return habits


def _day_json(day: _Day) -> Json:
    return {
        "number": day.number,
        "hours": sorted(day.hours),
        "totals": [
            [key, kind, total, day.firsts[key, kind], day.told.get((key, kind), 0)]
            for (key, kind), total in sorted(day.totals.items())
        ],
        "odd": [
            [key, one.submissions, one.records, one.first, one.from_ms, one.to_ms, one.told]
            for key, one in sorted(day.odd.items())
        ],
    }


def _day_of(reader: Reader) -> _Day:
    day = _Day(reader.number("number", 0, 1 << 32), set(reader.items("hours", limit=24)))
    for key, kind, total, first, told in reader.items("totals", limit=1 << 20):
        day.totals[key, kind] = total
        day.firsts[key, kind] = first
        day.told[key, kind] = told
    for key, *values in reader.items("odd", limit=1 << 17):
        day.odd[key] = _Odd(*values)
    reader.done()
    return day


def date_text(number: int) -> str:
    """The date of a day numbered from 1970-01-01; a far one by its number."""
    try:
        return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=number)).strftime("%Y-%m-%d")
    except OverflowError:
        return f"day {number}"


def parse_hours(text: str) -> tuple[int, int]:
    """``07:00-16:00`` as minutes of the day. Raises ValueError."""
    opens, closes = (datetime.strptime(one, "%H:%M").replace(tzinfo=UTC) for one in text.split("-"))
    if opens == closes:
        raise ValueError("they are the same")
    return opens.hour * 60 + opens.minute, closes.hour * 60 + closes.minute


def parse_weekend(text: str) -> frozenset[int]:
    """``fri,sat`` as numbers of weekdays, Monday 0; empty: none. Raises ValueError."""
    names: Iterable[str] = (one.strip().lower() for one in text.split(",") if one.strip())
    return frozenset(WEEKDAYS.index(name) for name in names)
