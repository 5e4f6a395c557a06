"""Fixtures that several tests of the rules share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.ledger.book import Book, agree
from tests.ledger.world import World

EVERY_ROLE = ("attest", "circulate", "enrol", "issue", "request")


@pytest.fixture(params=[False, True], ids=["blocks", "one-block"])
def book(request: pytest.FixtureRequest) -> Iterator[Book]:
    """Agency 1 issues; 2 has all roles, 3 stands under 2 and 4 under 3; 5 attests; 6 may do nothing.

    Each has three keys to submit and, as number 4, one for changes. What a test has written must replay
    to the same ledger.
    """
    world = World()
    world.define_type()
    world.enrol(roles=("issue", "request"), types=(0, 1), submit=3, registry=1)
    world.enrol(roles=EVERY_ROLE, types=(0, 1), submit=3, registry=1)
    world.enrol(roles=EVERY_ROLE, types=(0, 1), parent=2, submit=3, registry=1)
    world.enrol(roles=EVERY_ROLE, types=(0, 1), parent=3, submit=3, registry=1)
    world.enrol(roles=("attest",), submit=3, registry=1)
    world.enrol(roles=(), submit=3, registry=1)
    made = Book(world, request.param)
    yield made
    made.seal()
    agree(world)
