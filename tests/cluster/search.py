"""Breadth-first search of a state machine, with the steps of a counter-example in words.

States are hashable; those that differ by names alone are looked at once (``canonical``). The way to a
broken state is found again from the start without that, so that A stays A from step to step.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol, TypeVar

S = TypeVar("S", bound=Hashable)

MOST_STATES: Final = 5_000_000


class Step(NamedTuple):
    """What happens, in words (a format and what goes into it), and the state after it.

    ``broken``: what the step itself breaks, as a leader whose term begins on a chain that lacks an answer.
    """

    words: tuple[str, ...]
    after: object
    broken: str = ""

    def told(self) -> str:
        return self.words[0].format(*self.words[1:])


class Machine(Protocol[S]):
    """What is searched. ``steps`` and ``broken`` must not depend on names that ``canonical`` takes away."""

    def start(self) -> S: ...

    def steps(self, state: S) -> Iterable[Step]: ...

    def canonical(self, state: S) -> S: ...

    def broken(self, state: S) -> str:
        """Which promise does not hold in this state; empty when all do."""
        ...


@dataclass(frozen=True, slots=True)
class Found:
    """``broken`` and ``trace`` are empty when every state that was reached keeps every promise.

    ``complete``: the search was not cut off at its limit.
    """

    states: int
    depth: int
    complete: bool
    broken: str = ""
    trace: tuple[str, ...] = ()

    def __str__(self) -> str:
        size = f"{self.states:,} states, {self.depth} steps deep{'' if self.complete else ', cut off'}"
        if not self.broken:
            return f"nothing broken in {size}"
        steps = "\n".join(f"{at:4}. {told}" for at, told in enumerate(self.trace, 1))
        return f"{self.broken}, found after {size}:\n{steps}"


def search(machine: Machine[S], *, most: int = MOST_STATES) -> Found:
    """Look at every state that can be reached, nearest first; stop at the first broken promise."""
    first = machine.canonical(machine.start())
    came_from: dict[S, S | None] = {first: None}
    frontier, depth = [first], 0
    while frontier:
        depth += 1
        following: list[S] = []
        for state in frontier:
            for step in machine.steps(state):
                after: S = machine.canonical(step.after)  # type: ignore[arg-type]
                known = after in came_from
                if not known:
                    came_from[after] = state
                    following.append(after)
                broken = step.broken or ("" if known else machine.broken(after))
                if broken:
                    way = [*_way(came_from, state), after]
                    return Found(len(came_from), depth, True, broken, _tell(machine, way, bool(step.broken)))
            if len(came_from) > most:
                return Found(len(came_from), depth, False)
        frontier = following
    return Found(len(came_from), depth, True)


def _way(came_from: dict[S, S | None], state: S) -> list[S]:
    way: list[S] = []
    at: S | None = state
    while at is not None:
        way.append(at)
        at = came_from[at]
    return way[::-1]


def _tell(machine: Machine[S], way: list[S], last_breaks: bool) -> tuple[str, ...]:
    """The steps along canonical states, walked again with names that stay."""
    state = machine.start()
    told: list[str] = []
    for at, wanted in enumerate(way[1:], 1):
        must_break = last_breaks and at == len(way) - 1
        for step in machine.steps(state):
            after: S = step.after  # type: ignore[assignment]
            if machine.canonical(after) == wanted and bool(step.broken) >= must_break:
                told.append(step.told())
                state = after
                break
        else:  # pragma: no cover
            raise AssertionError("canonical() takes away more than names")
    return tuple(told)
