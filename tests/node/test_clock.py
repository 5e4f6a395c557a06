"""Clocks that stand still, go back, jump ahead."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from node.clock import SystemClock, seal_time
from node.errors import ClockUnsound
from tests.node.world import FakeClock


@dataclass
class Hands:
    """The two clocks of a machine, moved by hand (ms)."""

    wall: int = 1_000_000_000
    steady: int = 5_000

    def clock(self) -> SystemClock:
        return SystemClock(lambda: self.wall, lambda: self.steady, max_jump_ms=60_000)

    def passes(self, ms: int) -> None:
        self.wall += ms
        self.steady += ms


def test_time_that_passes_is_no_jump() -> None:
    hands = Hands()
    clock = hands.clock()
    for step in (0, 1, 59_000, 86_400_000, 30 * 86_400_000):
        hands.passes(step)
        assert clock.now_ms() == hands.wall


def test_a_jump_ahead_is_refused_until_the_clock_agrees_again() -> None:
    hands = Hands()
    clock = hands.clock()
    hands.wall += 60_001
    for _ in range(3):
        with pytest.raises(ClockUnsound, match="60 s"):
            clock.now_ms()
        hands.passes(1_000)
    hands.wall -= 30_000
    assert clock.now_ms() == hands.wall


def test_a_restart_takes_the_new_time_as_right() -> None:
    hands = Hands()
    clock = hands.clock()
    hands.wall += 3_600_000
    with pytest.raises(ClockUnsound):
        clock.now_ms()
    assert hands.clock().now_ms() == hands.wall


def test_slow_corrections_are_followed() -> None:
    hands = Hands()
    clock = hands.clock()
    for _ in range(10):
        hands.passes(3_600_000)
        hands.wall += 50_000
        assert clock.now_ms() == hands.wall


def test_coming_back_after_a_step_back_is_no_jump() -> None:
    hands = Hands()
    clock = hands.clock()
    hands.wall -= 7_200_000
    assert clock.now_ms() == hands.wall
    hands.wall += 7_200_000
    assert clock.now_ms() == hands.wall
    hands.wall += 61_000
    with pytest.raises(ClockUnsound):
        clock.now_ms()


def test_seal_times_strictly_increase() -> None:
    clock = FakeClock(ms=1_000, step_ms=0)
    assert seal_time(clock, 500) == 1_000
    assert seal_time(clock, 1_000) == 1_001
    assert seal_time(clock, 9_000) == 9_001


def test_the_real_clock_tells_the_time() -> None:
    clock = SystemClock()
    assert clock.now_ms() > 1_700_000_000_000
