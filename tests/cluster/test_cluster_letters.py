"""Letters in a cluster: what a caller may not have moves nothing between the members."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ledger.envelopes import Verb
from ledger.errors import NotEntitled
from ledger.leaves import NONE
from ledger.records import Send, SendKind
from ledger.submissions import pack
from node.cluster.cluster_letters import ClusterLetters
from node.letters.envelopes import Authorization, Envelopes
from tests.node.world import World, submit

ASKED = Authorization(1, 1, 0, bytes(64))
DIGEST = bytes(32)


class Own:
    """What this member keeps: nothing."""

    def __init__(self, *, lets_in: bool) -> None:
        self._lets_in = lets_in

    def check(self, asked: Authorization, verb: Verb, digest: bytes) -> None:
        if not self._lets_in:
            raise NotEntitled("no key of this agency signed the request")

    def get(self, asked: Authorization, digest: bytes) -> bytes:
        self.check(asked, Verb.GET, digest)
        return b""

    def drop(self, asked: Authorization, digest: bytes) -> bool:
        self.check(asked, Verb.DROP, digest)
        return False

    def is_new(self, leaf: bytes, packed: bytes) -> bool:
        return self._lets_in

    def check_named(self, leaf: bytes, packed: bytes) -> None:
        """Says nothing."""

    def find(self, digest: bytes) -> None:
        return None


class Link:
    """Another member: what it is asked, by name."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def call(self, ask: Callable[[Any, float], Any], timeout_s: float = 0) -> Any:
        def asked(name: str) -> Callable[..., Any]:
            self.asked.append(name)
            return lambda request, timeout: SimpleNamespace(envelope=b"another", sender=1)

        class Stub:
            def __getattr__(self, name: str) -> Any:
                return asked(name)

        return ask(Stub(), timeout_s)


def letters(link: Link, *, lets_in: bool) -> ClusterLetters:
    own = cast("Any", Own(lets_in=lets_in))
    member = cast("Any", SimpleNamespace(peers=SimpleNamespace(links=(link,))))
    return ClusterLetters(member, own, own)


def test_who_shows_no_right_has_nothing_fetched() -> None:
    link = Link()
    for ask in (letters(link, lets_in=False).get, letters(link, lets_in=False).drop):
        with pytest.raises(NotEntitled):
            ask(ASKED, DIGEST)
    assert link.asked == []


def test_a_letter_that_is_not_held_here_is_forgotten_nowhere() -> None:
    """Here nobody can tell for whom it is: any agency could have it deleted at the others."""
    link = Link()
    assert not letters(link, lets_in=True).drop(ASKED, DIGEST)
    assert "ForgetEnvelope" not in link.asked


def test_a_submission_that_nobody_signed_has_nothing_fetched() -> None:
    record = Send(1, 2, bytes([7]) * 32, SendKind.REQUEST, 0, NONE, bytes([8]) * 32).encode()
    link = Link()
    letters(link, lets_in=False).check_named(b"", pack([record] * 100))
    assert link.asked == []
    letters(link, lets_in=True).check_named(b"", pack([record]))
    assert link.asked == ["FetchEnvelope"]


def test_what_is_new_is_whole_and_signed(tmp_path: Path) -> None:
    world = World()
    node = world.furnished(tmp_path / "data")
    try:
        nothing = cast("Any", None)
        own = Envelopes(
            node, nothing, nothing, nothing, data_dir=tmp_path, disk_floor=0, wall_ms=world.clock.now_ms
        )
        leaf, records = world.issues()
        assert own.is_new(leaf, records)
        assert not own.is_new(leaf[:-1] + bytes([leaf[-1] ^ 1]), records)
        assert not own.is_new(leaf, records[:-1] + bytes([records[-1] ^ 1]))
        submit(node.sequencer, (leaf, records))
        assert not own.is_new(leaf, records), "it is in the log already"
    finally:
        node.close()
