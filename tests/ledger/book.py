"""A ledger that a test writes in, block by block or all in one: the rules must not tell the two apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import copy
from dataclasses import dataclass, fields
from typing import Any

import pytest

from ledger.changes import AUTHORITY, ChangeBody, Subject
from ledger.errors import SudurError
from ledger.registry import Registry
from ledger.rules_v1 import Draft
from ledger.submissions import Submission
from tests.ledger.recount import Recount
from tests.ledger.world import Keys, World, replay


def trace(draft: Draft) -> dict[str, Any]:
    """All that a draft amounts to."""
    made = draft.seal()
    values = {one.name: getattr(made, one.name) for one in fields(made)}
    return {name: copy(value) if isinstance(value, Mapping) else value for name, value in values.items()}


def refuse(
    draft: Draft, submission: Submission, error: type[SudurError], match: str | None = None
) -> SudurError:
    """The submission is refused, and the draft is as it was."""
    before = trace(draft)
    with pytest.raises(error, match=match) as caught:
        draft.add_submission(submission)
    assert trace(draft) == before
    return caught.value


def agree(world: World) -> None:
    """The whole ledger replays to the same state and content, and its figures are those of a recount."""
    again = replay(world.blocks)
    assert again.state == world.state
    assert again.__dict__ == world.reader.__dict__
    figures = {tuple(map(int, key)): count for key, count in world.reader.figures.items() if count}
    assert figures == Recount(world.reader.leaves).figures()


@dataclass
class Book:
    """Each :meth:`log` and :meth:`change` stands in a block of its own, or all in one draft.

    ``after_ms``: how much later than the last block the next one is.
    """

    world: World
    one_block: bool
    after_ms: int = 1000
    draft: Draft | None = None
    counter: int = 0

    @property
    def open(self) -> Draft:
        """The draft that is being written."""
        if self.draft is None:
            self.draft = self.world.begin(self.after_ms)
        return self.draft

    @property
    def here(self) -> int:
        """The index of the next leaf."""
        return self.open.next_index

    @property
    def registry(self) -> Registry:
        return self.open.registry

    def seal(self) -> None:
        """End the block, if one is open."""
        if self.draft is not None:
            self.world.seal(self.draft)
            self.draft = None

    def submission(self, agency: int, *records: bytes, keys: Iterable[int] | Keys = (1,)) -> Submission:
        """A submission that is like no earlier one."""
        self.counter += 1
        claimed_ms = self.open.time_ms - 7 * self.counter
        return self.world.submission(agency, records, keys=keys, claimed_ms=claimed_ms)

    def log(self, agency: int, *records: bytes, keys: Iterable[int] | Keys = (1,)) -> int:
        """Have a submission taken; returns the index of its first record."""
        index = self.open.add_submission(self.submission(agency, *records, keys=keys))
        if not self.one_block:
            self.seal()
        return index + 1

    def refused(
        self,
        error: type[SudurError],
        agency: int,
        *records: bytes,
        match: str | None = None,
        keys: Iterable[int] | Keys = (1,),
    ) -> SudurError:
        """Have a submission refused without a trace."""
        return refuse(self.open, self.submission(agency, *records, keys=keys), error, match)

    def change(
        self, agency: int, body: ChangeBody, *, by: int = AUTHORITY, keys: Iterable[int] | None = None
    ) -> int:
        """Make a change of an agency; returns its index."""
        index = self.world.change(Subject("agency", agency), body, by=by, keys=keys, draft=self.open)
        if not self.one_block:
            self.seal()
        return index
