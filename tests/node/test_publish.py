"""What is released never goes back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.node.world import World, submit


def test_a_block_that_comes_late_does_not_take_the_place_of_a_newer_one(tmp_path: Path) -> None:
    """As from a leader that stood still between two steps, while the next one released."""
    world = World()
    node = world.furnished(tmp_path / "data")
    try:
        told: list[int] = []
        before = node.published
        submit(node.sequencer, world.issues())
        newest = node.published
        node.publications.on_publish(lambda published: told.append(published.size))
        node.publications.publish(before)
        node.publications.publish(replace(newest))
        assert node.published is newest
        assert told == []
    finally:
        node.close()
