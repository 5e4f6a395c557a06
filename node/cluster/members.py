"""The list of members, as etcd holds it beside the head: who may vote, and where they are reached.

A change of the list is one compare-and-swap, too. It adds or takes away one member, at a head that bears
the version of the list before it and that a majority of either list has applied: so any majority of
the one shares a member with any majority of the other, and none is forgotten with it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from ledger.errors import FormatError
from node.config import Address
from node.errors import NodeError
from node.head import MAX_MEMBERS_BYTES, MEMBER_ID_SIZE

MOST_MEMBERS: Final = 9
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Member:
    """``identity`` is in its mark file: one whose mark is lost is another member. ``peer``: where others
    reach it."""

    name: str
    identity: bytes
    peer: Address


@dataclass(frozen=True, slots=True)
class Members:
    """The members in the order of their names; ``version`` rises by one with each change."""

    version: int
    members: tuple[Member, ...]

    def __len__(self) -> int:
        return len(self.members)

    def of(self, identity: bytes) -> Member | None:
        """The member with this identity."""
        return next((one for one in self.members if one.identity == identity), None)

    def named(self, name: str) -> Member | None:
        """The member of this name."""
        return next((one for one in self.members if one.name == name), None)

    def encode(self) -> bytes:
        """The value in etcd: JSON, in one form."""
        members = [
            {"identity": one.identity.hex(), "name": one.name, "peer": str(one.peer)} for one in self.members
        ]
        return json.dumps(
            {"members": members, "version": self.version}, sort_keys=True, separators=(",", ":")
        ).encode()

    @classmethod
    def decode(cls, data: bytes) -> Members:
        """The inverse of :meth:`encode`. Raises FormatError for anything else."""
        if len(data) > MAX_MEMBERS_BYTES:
            raise FormatError(f"{len(data)} bytes", where="members")
        try:
            value = json.loads(data)
            members = [_member(one) for one in value["members"]]
            found = cls.of_members(members, value["version"])
        except (ValueError, KeyError, TypeError, RecursionError, NodeError) as error:
            raise FormatError(f"they are no list of members: {error}", where="members") from error
        if found.encode() != data:
            raise FormatError("the list of members is not in its one form", where="members")
        return found

    @classmethod
    def of_members(cls, members: Sequence[Member], version: int) -> Members:
        """Raises NodeError for a list that cannot be."""
        if not 1 <= len(members) <= MOST_MEMBERS or type(version) is not int or version < 1:
            raise NodeError(f"a cluster has 1 to {MOST_MEMBERS} members", where="members")
        for what in ("name", "identity", "peer"):
            if len({getattr(one, what) for one in members}) != len(members):
                raise NodeError(f"two members have one {what}", where="members")
        return cls(version, tuple(sorted(members, key=lambda one: one.name)))


def check_name(name: str) -> str:
    """Raises NodeError unless it can name a member."""
    if not _NAME.fullmatch(name):
        raise NodeError(
            f"{name!a} cannot name a member",
            where="name",
            fix="use up to 63 small letters, digits, dots and dashes, as n1",
        )
    return name


def _member(value: Any) -> Member:
    identity = bytes.fromhex(value["identity"])
    if len(identity) != MEMBER_ID_SIZE or set(value) != {"identity", "name", "peer"}:
        raise ValueError("a member has a name, an identity and an address")
    return Member(check_name(value["name"]), identity, Address.parse(value["peer"]))
