"""An honest log cannot be accused: any history that the rules take, any true leaves of it shown.

The machine of the rules makes the histories. Before each block is taken, the judge of evidence looks at
it, knowing some of the earlier leaves and chunks: it must not refuse it, whatever it is not told.
"""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import rule

from ledger import rules
from ledger.errors import EvidenceIncomplete
from ledger.favouring_reader import FavouringReader
from ledger.leaves import LeafType
from ledger.signing_policy import DAY_MS
from ledger.state import Transition
from ledger.status import chunk_count
from tests.ledger.test_rules_machine import Ledger
from tests.ledger.world import MemoryReader


def judge(reader: MemoryReader, built: Transition, random: Random) -> int:
    """Judge a lawful block by ever more of what is true before it; returns how often that decided."""
    before = built.before
    assert before is not None
    chunks = {n: reader.status_chunk(n) for n in range(chunk_count(before.size))}
    decided = 0
    for share in (0.0, 0.3, 0.6, 0.9, 1.0):
        shown = {at: leaf for at, leaf in enumerate(reader.leaves) if random.random() < share}
        if random.random() < 0.5:  # what matters most is shown, and now and then what does not
            shown |= {at: leaf for at, leaf in enumerate(reader.leaves) if leaf[1] == LeafType.STATUS}
        for known in (chunks, {}):
            try:
                rules.apply(before, FavouringReader(before, built.leaves, shown, known), built.leaves)
            except EvidenceIncomplete:
                assert share < 1 or not known, "all of it was shown"
            else:
                decided += 1
    return decided


class Accused(Ledger):
    """The machine of the rules, each of whose blocks is judged as evidence would be."""

    @rule(later_ms=st.sampled_from([1, 1000, DAY_MS]), seed=st.integers(0, 2**32))
    def judge_and_seal(self, later_ms: int, seed: int) -> None:
        judge(self.world.reader, self.draft.seal(), Random(seed))
        self.seal(later_ms)


TestAccused = pytest.mark.slow(Accused.TestCase)
TestAccused.settings = settings(max_examples=15, stateful_step_count=40)


def test_the_judge_does_decide() -> None:
    """Most blocks are decided, by few leaves: else the machine would show nothing."""
    machine = Accused()
    machine.first_agencies()
    assert judge(machine.world.reader, machine.draft.seal(), Random(1)) >= 5
