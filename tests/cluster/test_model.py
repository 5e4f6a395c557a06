"""The commit protocol, searched exhaustively within bounds: nothing breaks, and each rule is needed.

``SUDUR_MODEL=deep`` searches the larger bounds, too (minutes, and gigabytes).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pytest

from tests.cluster.model import PROMISES, RULES, Commit, State, epoch_of, length_of, version_of
from tests.cluster.search import Found, Step, search

slow = pytest.mark.slow
deep = pytest.mark.skipif(os.environ.get("SUDUR_MODEL") != "deep", reason="SUDUR_MODEL=deep runs it")

KEPT = [
    pytest.param(Commit(blocks=3, terms=3), id="three terms"),
    pytest.param(Commit(blocks=3, tampers=1), id="etcd set back"),
    pytest.param(Commit(blocks=2, tampers=1, losses=1), id="etcd set back, a disk lost"),
    pytest.param(Commit(terms=1, operators=1, two_steps=True), id="a reseed, store and mark apart"),
    pytest.param(Commit(terms=1, operators=1, tampers=1), id="a reseed, etcd set back"),
    pytest.param(Commit(blocks=1, terms=1, operators=2), id="two reseeds"),
    pytest.param(Commit(tampers=2), id="etcd set back twice"),
    pytest.param(Commit(lists=("ABC", "AB"), tampers=1), id="a member removed, etcd set back", marks=slow),
    pytest.param(Commit(lists=("AB", "ABC"), tampers=1), id="a member added, etcd set back", marks=slow),
    pytest.param(Commit(blocks=3, tampers=2), id="three blocks, set back twice", marks=[slow, deep]),
    pytest.param(Commit(blocks=3, two_steps=True, tampers=1), id="store and mark apart", marks=[slow, deep]),
    pytest.param(Commit(operators=1, tampers=1), id="two leaders, a reseed", marks=[slow, deep]),
    pytest.param(Commit(blocks=1, terms=1, operators=2, tampers=1), id="two, set back", marks=[slow, deep]),
    pytest.param(Commit(terms=1, operators=2), id="two reseeds, two blocks", marks=[slow, deep]),
    pytest.param(
        Commit(blocks=1, operators=1, tampers=1, losses=1), id="a reseed, a disk lost", marks=[slow, deep]
    ),
    pytest.param(Commit(lists=("ABC", "ABCD"), tampers=1), id="a fourth member", marks=[slow, deep]),
    pytest.param(Commit(lists=("ABC", "AB", "ABD"), tampers=1), id="one replaced", marks=[slow, deep]),
]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("machine", KEPT)
def test_every_promise_is_kept_in_every_state(machine: Commit) -> None:
    found = search(machine)
    assert found.broken == "", f"\n{found}"
    assert found.complete


@dataclass(frozen=True)
class Without:
    """Bounds within which a rule is taken out, and the promises that break first, or are looked at."""

    rule: str
    machine: Commit
    breaks: str
    only: tuple[str, ...] = ()


WITHOUT = [
    Without("vote", Commit(tampers=1), "reseed"),
    Without("vote", Commit(tampers=1), "fork", ("fork",)),
    Without("decision", Commit(), "reseed"),
    Without("decision", Commit(), "fork", ("fork",)),
    Without("freeze", Commit(terms=1, operators=1), "opening"),
    Without("epoch", Commit(terms=1, operators=1), "opening"),
    Without("branches", Commit(tampers=1), "reseed"),
    Without("hearing", Commit(tampers=1), "leader"),
    Without("compare", Commit(), "order"),
    Without("compare", Commit(), "decided", ("decided", "fork")),
    Without("value", Commit(blocks=3, tampers=1), "order"),
    Without("lock", Commit(terms=1, operators=1, two_steps=True), "opening"),
    Without("abandon", Commit(terms=1, operators=1, tampers=1), "reseed"),
    Without("identity", Commit(terms=1, losses=1), "reseed"),
    Without("version", Commit(lists=("AB", "ABC"), tampers=1), "reseed"),
]


@pytest.mark.parametrize("case", WITHOUT, ids=lambda case: f"{case.rule}-{case.breaks}")
def test_without_a_rule_a_promise_is_broken(case: Without) -> None:
    machine = case.machine.but(without=frozenset({case.rule}), only=frozenset(case.only))
    found = search(machine)
    print(f"{RULES[case.rule]}\n{found}")
    assert found.broken.startswith(f"{case.breaks}:")
    assert len(found.trace) == found.depth


def test_each_rule_and_each_promise_is_put_to_the_test() -> None:
    assert {case.rule for case in WITHOUT} == RULES.keys() - {"list"}  # see below
    # "alarm" is what the others lead to first: see the last section.
    assert {case.breaks for case in WITHOUT} == PROMISES.keys() - {"alarm"}


VOTED = [
    pytest.param("hearing", Commit(tampers=1), id="hearing"),
    pytest.param("compare", Commit(tampers=1), id="compare"),
    pytest.param("list", Commit(lists=("ABC", "AB"), tampers=1), id="list", marks=[slow, deep]),
    pytest.param("hearing", Commit(operators=1, tampers=1), id="hearing, a reseed", marks=[slow, deep]),
    pytest.param("compare", Commit(blocks=3, terms=3, tampers=1), id="compare, more", marks=[slow, deep]),
]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("rule", "machine"), VOTED)
def test_votes_alone_keep_every_answer_without(rule: str, machine: Commit) -> None:
    """The hearing of marks, and what etcd compares, are belts beside the braces. Without one of them a
    member leads that cannot decide, or etcd parts from the members and an operator is needed; but within
    these bounds nothing that was answered is lost, or contradicted."""
    only = frozenset({"fork", "opening", "reseed"})
    found = search(machine.but(without=frozenset({rule}), only=only))
    assert found.broken == "", f"\n{found}"
    assert found.complete


# --- that anything happens at all -----------------------------------------------------------------


@dataclass(frozen=True)
class Reaches:
    """A machine in which what is hoped for counts as broken, so that the search finds the way there."""

    machine: Commit
    goal: Callable[[Commit, State], bool]

    def start(self) -> State:
        return self.machine.start()

    def steps(self, state: State) -> Iterable[Step]:
        return self.machine.steps(state)

    def canonical(self, state: State) -> State:
        return self.machine.canonical(state)

    def broken(self, state: State) -> str:
        return "reached" if self.goal(self.machine, state) else ""


def _answered_in(epoch: int, blocks: int, tampered: bool = False) -> Callable[[Commit, State], bool]:
    def goal(machine: Commit, state: State) -> bool:
        if tampered and state.tampers == machine.tampers:
            return False
        return any(epoch_of(at) == epoch and length_of(at) == blocks for at in machine.answered(state))

    return goal


def _all_level(machine: Commit, state: State) -> bool:
    """All members stand on one block of a later epoch, after their chains had parted."""
    heads = {one.head for one in state.members}
    rivals = [write.new for write in state.writes if not write.opens]
    return len(heads) == 1 and len(rivals) > 1 and {epoch_of(at) for at in heads} == {2}


REACHED = [
    pytest.param(Commit(blocks=2), _answered_in(1, 2), id="two blocks"),
    pytest.param(Commit(operators=1), _answered_in(2, 1), id="a block after a reseed"),
    pytest.param(Commit(operators=1, tampers=1), _answered_in(2, 1, True), id="and after etcd was set back"),
    pytest.param(Commit(blocks=1, terms=1, operators=2), _answered_in(3, 0), id="a second reseed"),
    pytest.param(Commit(operators=1, tampers=1, terms=2), _all_level, id="level again after a parting"),
    pytest.param(
        Commit(lists=("ABC", "AB"), blocks=2),
        lambda machine, state: any(version_of(at) == 2 for at in machine.answered(state)),
        id="a block under the next list",
    ),
]


@pytest.mark.parametrize(("machine", "goal"), REACHED)
def test_it_gets_there(machine: Commit, goal: Callable[[Commit, State], bool]) -> None:
    found = search(Reaches(machine.but(only=frozenset({"fork"})), goal))
    assert found.broken == "reached", f"\n{found}"


def test_an_alarm_is_raised_once_etcd_is_set_back() -> None:
    def alarmed(machine: Commit, state: State) -> bool:
        blind = state._replace(tampers=machine.tampers)
        return bool(PROMISES["alarm"](machine, blind, []))

    found = search(Reaches(Commit(tampers=1), alarmed))
    assert found.broken == "reached"
    assert any("etcd is made to hold" in step for step in found.trace)


def test_a_search_that_is_cut_off_says_so() -> None:
    found = search(Commit(), most=10)
    assert not found.complete
    assert str(found).endswith("cut off")
    assert isinstance(found, Found)
