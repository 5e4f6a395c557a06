"""The time that goes into seals.

A ledger's time never goes back, so one wrong reading far in the future would hold it there for
good. A clock that stands still or goes back a little costs nothing but accuracy: the next seal is
one millisecond later than the last. A clock far behind the ledger, or one that jumps ahead, stops
sealing until it is right, or somebody has looked. What it did while the node was down only the
ledger can tell: the first seal after a start must not come long after the last on the clock's word
alone.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

from node.errors import ClockUnsound

MAX_JUMP_MS: Final = 60_000
MAX_BEHIND_MS: Final = 5 * 60_000
MAX_PAUSE_MS: Final = 7 * 86_400_000
IDLE_SEAL_S: Final = 3_600.0
"""So long after its last block a ledger at rest appends a lone seal, unless an operator says otherwise."""
# CLOCK_BOOTTIME goes on while the machine sleeps, CLOCK_MONOTONIC does not.
_STEADY: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock(Protocol):
    """Tells the time of day. Safe to call from any thread; never blocks."""

    def now_ms(self) -> int:
        """Milliseconds since 1970 UTC. Raises ClockUnsound while the reading cannot be trusted."""
        ...


def seal_time(clock: Clock, last_ms: int) -> int:
    """The time of the next seal: now, or ``last_ms`` + 1 where the clock is not past that.

    Raises ClockUnsound when the clock is more than 5 minutes behind the last seal, or says so itself.
    """
    now = clock.now_ms()
    if now < last_ms - MAX_BEHIND_MS:
        raise ClockUnsound(
            f"this node's clock is {(last_ms - now) / 1000:.0f} s behind the ledger's newest seal",
            where="clock",
            fix="set it right; the node goes on by itself",
        )
    return max(now, last_ms + 1)


def check_first_seal(time_ms: int, last_ms: int) -> None:
    """That a node's first seal follows the last one by at most 7 days. Raises ClockUnsound.

    For a block without a submission: one that is taken has a time of its own, which agrees.
    """
    if time_ms - last_ms > MAX_PAUSE_MS:
        raise ClockUnsound(
            f"this node's clock is {(time_ms - last_ms) / 86_400_000:.1f} days past the ledger's newest seal,"
            " and no submission has confirmed it since the start",
            where="clock",
            fix="if the time is right, restart the node with --clock-is-right; else set it right",
        )


class SystemClock:
    """The system's clock, watched against one that nobody can set.

    Between two readings both must have moved by the same, give or take ``max_jump_ms``. If the
    time of day ran ahead by more, it is unsound until it agrees again or the node is restarted,
    which is how an operator says that the new time is right.
    """

    def __init__(
        self,
        wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        steady_ms: Callable[[], int] = lambda: time.clock_gettime_ns(_STEADY) // 1_000_000,
        max_jump_ms: int = MAX_JUMP_MS,
    ) -> None:
        self._wall_ms = wall_ms
        self._steady_ms = steady_ms
        self._max_jump_ms = max_jump_ms
        self._lock = threading.Lock()
        self._offset = wall_ms() - steady_ms()

    def now_ms(self) -> int:
        """See :class:`Clock`."""
        with self._lock:
            wall = self._wall_ms()
            offset = wall - self._steady_ms()
            ahead = offset - self._offset
            if ahead > self._max_jump_ms:
                raise ClockUnsound(
                    f"the system clock jumped ahead by {ahead / 1000:.0f} s",
                    where="clock",
                    fix="set it right, or restart the node if it is right now",
                )
            # After a step back the old offset stays the measure: coming back up to it is no jump.
            if ahead >= -self._max_jump_ms:
                self._offset = offset
            return wall
