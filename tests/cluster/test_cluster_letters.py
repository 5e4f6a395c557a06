"""Letters in a cluster: what a caller may not have moves nothing between the members."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ledger.envelopes import Verb
from ledger.errors import NotEntitled
from node.cluster.cluster_letters import ClusterLetters
from node.envelopes import Authorization

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
