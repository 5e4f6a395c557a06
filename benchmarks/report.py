"""The rows that every benchmark returns, and the Markdown table that shows them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One measured figure.

    ``value`` is in ``unit``. ``baseline`` says what it was compared with, and that thing's own figure, from
    the same run; ``ratio`` is how they compare, in the sense that ``target`` uses. Each may be missing.
    """

    name: str
    value: float
    unit: str
    baseline: str = ""
    ratio: float | None = None
    target: str = ""


def best(work: Callable[[], object], rounds: int) -> float:
    """The shortest of several runs, in seconds: the one that the rest of the machine disturbed least."""
    shortest = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        shortest = min(shortest, time.perf_counter() - start)
    return shortest


def markdown(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table, ending with a newline."""
    lines = ["| what | measured | beside | ratio | target |", "|---|---:|---|---:|---|"]
    for row in rows:
        ratio = "" if row.ratio is None else f"{_figure(row.ratio)}×"
        cells = (row.name, f"{_figure(row.value)} {row.unit}", row.baseline, ratio, row.target)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _figure(number: float) -> str:
    """Three significant digits, or all before the point, with thousands separated."""
    if abs(number) >= 100:
        return f"{number:,.0f}"
    return f"{number:.1f}" if abs(number) >= 10 else f"{number:.2f}"
