"""One line in the log for each write that was refused or failed: who, what, why, and under which id.

What was asked stands there by numbers only; nothing of a document ever comes to a node, and nothing of a
leaf, a key or an envelope goes into its log.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import structlog

from node.doors.limits import Buckets

LINES_PER_S: Final = 20
BURST: Final = 500
"""Whoever is refused can try again at once; what fills the disk with lines fills the ledger's disk."""
_log = structlog.get_logger("node.writes")


class RefusalLog:
    """Belongs to one event loop. About 50 µs a line."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._budget: Buckets[None] = Buckets(LINES_PER_S, BURST)
        self._unsaid = 0

    def tell(
        self, method: str, reasons: Sequence[str], agencies: Iterable[int], peer: str, seconds: float
    ) -> None:
        """A call of ``method`` had these refusals, for the agencies that it claims to come from.

        Above :data:`LINES_PER_S` for long they are only counted, and the next line says how many.
        """
        now = self._clock()
        if self._budget.wait_s(None, now):
            self._unsaid += 1
            return
        self._budget.pay(None, 1, now)
        unsaid = {"unsaid": self._unsaid} if self._unsaid else {}
        self._unsaid = 0
        _log.info(
            "refused",
            method=method,
            reasons=dict(Counter(reasons)),
            agencies=sorted(set(agencies)),
            peer=peer,
            ms=round(1_000 * seconds, 1),
            **unsaid,
        )
