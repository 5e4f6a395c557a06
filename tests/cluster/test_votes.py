"""Whose votes count: those of the members in the list, by the identity in their marks."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from node.cluster import cluster_copies
from node.cluster.cluster_copies import ClusterCopies
from node.cluster.errors import NoMajority
from node.cluster.members import Member, Members
from node.cluster.peers import Peers
from node.config import Address
from node.head import Head
from sudur.v1 import peer_pb2

HEAD = Head(bytes(32), 1, 1, 1, 1, 3, bytes(32), bytes(32))
MEMBERS = Members.of_members(
    [Member(f"n{number}", bytes([number]) * 16, Address("127.0.0.1", number)) for number in (1, 2, 3)], 1
)


class Voter:
    """A member that has applied, and says which mark it has; the tasks run at once."""

    def __init__(self, name: str, identity: bytes) -> None:
        self.name = name
        self._identity = identity

    def post(self, task: Callable[[], None]) -> bool:
        task()
        return True

    def call(self, ask: Callable[[Any, float], Any], timeout_s: float = 0) -> Any:
        answer = peer_pb2.ApplyResponse(applied=True, member=self._identity)
        return ask(SimpleNamespace(Apply=lambda request, timeout: answer), timeout_s)


def confirm(*voters: Voter) -> None:
    peers = Peers(MEMBERS, bytes([1]) * 16, None)
    peers.close()  # nobody is called: these answer in the links' place
    peers.links = cast("Any", voters)
    ClusterCopies(cast("Any", None), peers, cast("Any", None)).confirm(HEAD)


def test_a_member_that_lost_its_mark_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """When its old disk comes back, it knows nothing of what was answered with this vote."""
    monkeypatch.setattr(cluster_copies, "CONFIRM_S", 0.2)
    with pytest.raises(NoMajority, match="copy of another or a new one"):
        confirm(Voter("n2", b"n" * 16), Voter("n3", b"n" * 16))
    confirm(Voter("n2", b"n" * 16), Voter("n3", bytes([3]) * 16))
