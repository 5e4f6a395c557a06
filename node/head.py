"""Where a ledger ends, and what a node has durably said about it: two small values and their bytes."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import Final

from node.errors import StoreDamaged

FIRST_EPOCH: Final = 1
MEMBER_ID_SIZE: Final = 16
MAX_MEMBERS_BYTES: Final = 8_192
"""A list of members with their addresses, as etcd holds it."""
_HEAD: Final = Struct(">B32sQIHQQ32s32s")
HEAD_SIZE: Final = _HEAD.size
_HEAD_VERSION: Final = 1
_VOTE: Final = Struct(">16sQQHH")


@dataclass(frozen=True, slots=True)
class Head:
    """Where the ledger ends: the value that a commit compares and swaps.

    ``ledger`` is G; ``epoch`` rises when a cluster is reseeded; ``members`` is the version of the list
    of members that the block was decided under, 0 for a node alone; ``rules`` is the version that the
    block is under; ``size`` and ``root`` are the tree's; ``digest`` is SHA-256 over the block's
    packed leaves.
    """

    ledger: bytes
    epoch: int
    members: int
    rules: int
    block: int
    size: int
    root: bytes
    digest: bytes

    def encode(self) -> bytes:
        """:data:`HEAD_SIZE` bytes, 127."""
        return _HEAD.pack(
            _HEAD_VERSION,
            self.ledger,
            self.epoch,
            self.members,
            self.rules,
            self.block,
            self.size,
            self.root,
            self.digest,
        )

    @classmethod
    def decode(cls, data: bytes) -> Head:
        """The inverse of :meth:`encode`. Raises StoreDamaged for anything else."""
        if len(data) != _HEAD.size or data[0] != _HEAD_VERSION:
            raise StoreDamaged(
                f"{len(data)} bytes that are no head of version {_HEAD_VERSION}",
                where="head",
                fix="restore the data directory from a replica, or upgrade the software",
            )
        return cls(*_HEAD.unpack(data)[1:])

    def same_tree(self, other: Head) -> bool:
        """Whether both end the very same chain of blocks, whatever epoch and members they bear."""
        return (self.ledger, self.block, self.size, self.root) == (
            other.ledger,
            other.block,
            other.size,
            other.root,
        )


@dataclass(frozen=True, slots=True)
class Vote:
    """What a member has durably applied and promised: what it may never take back.

    ``member`` names this very copy: a member whose mark is lost is another one from then on. ``epoch``
    is the one that it votes in; ``frozen``, when higher, the one that it waits for, voting no more
    until it is opened. ``head`` is the newest that it applied. ``members``: the list of members as it
    last saw it, so that the last survivor still knows the others.
    """

    member: bytes
    epoch: int = FIRST_EPOCH
    frozen: int = 0
    head: Head | None = None
    members: bytes = b""

    @property
    def is_frozen(self) -> bool:
        """Whether it waits for a later epoch than its own."""
        return self.frozen > self.epoch

    def encode(self) -> bytes:
        """At most some 8 KiB."""
        head = b"" if self.head is None else self.head.encode()
        fixed = _VOTE.pack(self.member, self.epoch, self.frozen, len(head), len(self.members))
        return fixed + head + self.members

    @classmethod
    def read(cls, data: bytes) -> tuple[Vote, bytes]:
        """A vote, and what stands behind it. Raises StoreDamaged."""
        if len(data) < _VOTE.size:
            raise StoreDamaged("it is too short for a vote", where="vote")
        member, epoch, frozen, head_size, members_size = _VOTE.unpack_from(data)
        at = _VOTE.size
        end = at + head_size + members_size
        if len(data) < end:
            raise StoreDamaged("it is too short for what it says to hold", where="vote")
        head = Head.decode(data[at : at + head_size]) if head_size else None
        return cls(member, epoch, frozen, head, data[at + head_size : end]), data[end:]
