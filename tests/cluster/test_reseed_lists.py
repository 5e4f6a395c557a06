"""Whose list of members a reseed goes by."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from node.cluster.administration import Cluster, _known_members
from node.cluster.errors import ReseedRefused
from node.cluster.etcd_journal import Keys
from node.cluster.members import Member, Members
from node.config import Address
from node.head import Vote

KEYS = Keys.of(bytes(32))


def of(*numbers: int) -> Members:
    return Members.of_members(
        [Member(f"n{one}", bytes([one]) * 16, Address("127.0.0.1", one)) for one in numbers], 2
    )


def found(held: Members | None, *lists: Members) -> dict[int, Members]:
    row = None if held is None else SimpleNamespace(value=held.encode())
    cluster = cast("Cluster", SimpleNamespace(etcd=cast("Any", SimpleNamespace(get=lambda key: row))))
    return _known_members(cluster, KEYS, [Vote(bytes(16), members=one.encode()) for one in lists])[0]


def test_of_two_lists_of_one_version_etcds_is_the_one() -> None:
    """Which one it was depended on how Python had hashed them."""
    one, other = of(1, 2, 3, 4), of(1, 2, 3, 5)
    assert found(None, one, one) == {2: one}
    for held in (one, other):
        assert found(held, one, other, one) == {2: held}
    with pytest.raises(ReseedRefused, match="two lists"):
        found(None, one, other)
