"""What is usual for an agency, and what is not: hours, volumes, keys that wake up; kept and read again."""

from __future__ import annotations

import json

import pytest

from ledger.canonical_json import Reader
from ledger.errors import FormatError
from ledger.signing_policy import DAY_MS
from tools.monitor.habits import (
    FLOOR,
    HOUR_MS,
    SILENT_DAYS,
    Habits,
    OfficeHours,
    Warned,
    date_text,
    parse_hours,
    parse_weekend,
)

MONDAY_MS = 1_767_571_200_000 - 3 * HOUR_MS
"""Midnight of Monday, 5 January 2026, at UTC+3."""
KIND = "issue.original"


def at(day: int, hour: int, minute: int = 0) -> int:
    """A time, local, that many days after that Monday."""
    return MONDAY_MS + day * DAY_MS + hour * HOUR_MS + minute * 60_000


def worked(weeks: int, *, count: int = 10, key: int = 1, habits: Habits | None = None) -> Habits:
    """After weeks of Sundays to Thursdays, from eight to two, with ``count`` records at each end."""
    habits = habits or Habits()
    for day in range(7 * weeks):
        if day % 7 not in (4, 5):
            habits.feed(at(day, 8), [key], {KIND: count}, 2 * day)
            habits.feed(at(day, 13), [key], {KIND: count}, 2 * day + 1)
    return habits


def codes(warned: list[Warned]) -> list[str]:
    return [one.code for one in warned]


def test_usual_work_is_no_news() -> None:
    assert worked(30).warnings() == []


@pytest.mark.parametrize(
    ("weeks", "day", "hour", "unusual"),
    [
        (8, 0, 8, False),
        (8, 0, 9, False),
        (8, 1, 7, False),
        (8, 2, 3, True),
        (8, 3, 23, True),
        (8, 4, 8, True),
        (8, 6, 13, False),
        (3, 4, 3, False),
    ],
)
def test_hours_are_learned(weeks: int, day: int, hour: int, unusual: bool) -> None:
    assert worked(weeks).unusual(at(7 * weeks + day, hour)) == unusual


def test_an_unusual_night_is_told_once_and_again_when_it_has_doubled() -> None:
    habits = worked(8)
    night = at(60, 2)
    habits.feed(night, [1, 2], {KIND: 3}, 900)
    told = [one for one in habits.warnings() if one.code == "UNUSUAL_HOURS"]
    assert [(one.key, one.day, one.facts["records"]) for one in told] == [
        (1, "2026-03-06", 3),
        (2, "2026-03-06", 3),
    ]
    habits.feed(night + 60_000, [1], {KIND: 1}, 901)
    assert habits.warnings() == []
    habits.feed(night + 120_000, [1], {KIND: 2}, 902)
    (again,) = habits.warnings()
    assert again.identity == told[0].identity
    assert (again.facts["submissions"], again.facts["first"]) == (3, "900")
    assert (again.facts["from_ms"], again.facts["to_ms"]) == (night, night + 120_000)


def test_new_hours_become_usual() -> None:
    habits = worked(8)
    for week in range(8, 30):
        habits.feed(at(7 * week, 20), [1], {KIND: 1}, 1000 + week)
    habits.warnings()
    assert not habits.unusual(at(7 * 30, 20))


def test_one_bulk_makes_no_hour_usual() -> None:
    habits = worked(40)
    for i in range(1000):
        habits.feed(at(7 * 40 + 4, 3), [1], {KIND: 256}, 5000 + i)
    habits.feed(at(7 * 40 + 5, 9), [1], {KIND: 1}, 6000)
    habits.warnings()
    assert habits.unusual(at(7 * 41 + 4, 3)), "one Friday night in forty weeks"


@pytest.mark.parametrize(
    ("count", "today", "warned"),
    [(10, 90, False), (10, FLOOR + 1, True), (1000, 2150, False), (1000, 2300, True), (10, 5000, True)],
)
def test_volumes(count: int, today: int, warned: bool) -> None:
    """What is usual is twice ``count`` a day, always the same: four deviations are those of chance."""
    habits = worked(8, count=count)
    habits.feed(at(56, 8), [1], {KIND: today, "status": 1}, 900)
    assert ("UNUSUAL_VOLUME" in codes(habits.warnings())) == warned


def test_volumes_are_by_key_and_kind() -> None:
    habits = worked(8, count=500)
    worked(1, count=1, key=2, habits=habits)
    habits.feed(at(56, 8), [2], {KIND: 3000}, 900)
    habits.feed(at(56, 9), [1], {"issue.archive": 3000}, 901)
    assert "UNUSUAL_VOLUME" not in codes(habits.warnings()), "too little is known of these"
    assert habits.limit(2, KIND) is None


def test_a_flood_does_not_make_floods_usual() -> None:
    habits = worked(8)
    before = habits.limit(1, KIND)
    assert before is not None
    habits.feed(at(56, 8), [1], {KIND: 100_000}, 900)
    habits.feed(at(57, 8), [1], {KIND: 10}, 901)
    assert codes(habits.warnings()) == ["UNUSUAL_VOLUME"], "told, although its day was over by then"
    after = habits.limit(1, KIND)
    assert after is not None
    assert after < 2 * before


def test_keys_that_wake_up() -> None:
    habits = worked(8)
    worked(1, key=2, habits=Habits())
    habits.feed(at(56, 8), [2], {KIND: 1}, 900)
    assert codes(habits.warnings()) == ["FIRST_USE"]
    habits.feed(at(56 + SILENT_DAYS, 9), [2], {KIND: 1}, 901)
    assert "SILENT_KEY" not in codes(habits.warnings())
    habits.feed(at(57 + 2 * SILENT_DAYS, 9), [2], {KIND: 1}, 902)
    (one,) = [one for one in habits.warnings() if one.code == "SILENT_KEY"]
    assert (one.key, one.facts["days"], one.facts["first"]) == (2, SILENT_DAYS + 1, "902")


@pytest.mark.parametrize(
    ("hours", "weekend", "day", "hour", "unusual"),
    [
        ("07:00-16:00", "fri,sat", 0, 7, False),
        ("07:00-16:00", "fri,sat", 0, 16, True),
        ("07:00-16:00", "fri,sat", 0, 6, True),
        ("07:00-16:00", "fri,sat", 4, 9, True),
        ("07:00-16:00", "", 4, 9, False),
        ("22:00-06:00", "sun", 0, 23, False),
        ("22:00-06:00", "sun", 0, 5, False),
        ("22:00-06:00", "sun", 0, 12, True),
    ],
)
def test_hours_that_are_said_hold_from_the_first_day(
    hours: str, weekend: str, day: int, hour: int, unusual: bool
) -> None:
    office = OfficeHours(*parse_hours(hours), parse_weekend(weekend))
    assert Habits(office=office).unusual(at(day, hour)) == unusual


@pytest.mark.parametrize("text", ["", "7", "07:00", "07:00-16:00-17:00", "25:00-26:00", "07:00-07:00", "a-b"])
def test_what_are_no_hours(text: str) -> None:
    with pytest.raises(ValueError):
        parse_hours(text)


def test_what_are_no_days() -> None:
    with pytest.raises(ValueError):
        parse_weekend("friday")


def test_long_histories_count_half() -> None:
    habits = worked(250)
    assert habits.weeks <= 104
    assert not habits.unusual(at(7 * 250, 8))
    assert habits.unusual(at(7 * 250 + 4, 8))


def test_habits_are_kept_and_read_again() -> None:
    habits = worked(8)
    habits.feed(at(58, 2), [2], {KIND: 300, "status": 3}, 900)
    kept = json.loads(json.dumps(habits.to_json()))
    read = Habits.from_json(Reader(kept, "habits"), 3, None)
    assert read.to_json() == habits.to_json()
    assert [one.identity for one in read.warnings()] == [
        one.identity for one in habits.warnings() if one.code != "FIRST_USE"
    ]


@pytest.mark.parametrize(
    "change", [{"volumes": [[1]]}, {"hours": [None]}, {"hours": []}, {"seen": 5}, {"day": [1]}, {"x": 1}]
)
def test_damaged_habits_are_named(change: dict[str, object]) -> None:
    with pytest.raises(FormatError):
        Habits.from_json(Reader({**worked(1).to_json(), **change}, "habits"), 3, None)


def test_days_that_no_calendar_has() -> None:
    assert date_text(20_458) == "2026-01-05"
    assert date_text(1 << 40) == f"day {1 << 40}"
