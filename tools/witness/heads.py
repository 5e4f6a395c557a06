"""What a witness remembers of each log: the newest checkpoint that it cosigned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from struct import Struct
from typing import Final, Protocol

from ledger.checkpoints import Checkpoint

ID_SIZE: Final = 16
_FIXED: Final = Struct(f">{ID_SIZE}sQ32s")


@dataclass(frozen=True, slots=True)
class Head:
    """``note``: the checkpoint with the log's verified signatures and the witness's own, and no others.

    ``time_s``: of the cosignatures, in seconds since 1970 UTC.
    """

    checkpoint: Checkpoint
    time_s: int
    note: bytes


@dataclass(frozen=True, slots=True)
class Place:
    """Where in its life a state is: which state, after how many writes, and a chain of hashes over them."""

    state: bytes
    sequence: int
    digest: bytes

    def encode(self) -> bytes:
        return _FIXED.pack(self.state, self.sequence, self.digest)

    @classmethod
    def decode(cls, data: bytes) -> Place | None:
        """None for anything that is none."""
        return cls(*_FIXED.unpack(data)) if len(data) == _FIXED.size else None

    def after(self, heads: Sequence[Head]) -> Place:
        """The place once these heads are written on top."""
        digest = sha256(self.digest)
        for head in heads:
            point = head.checkpoint
            origin = point.origin.encode()
            digest.update(len(origin).to_bytes(1, "big") + origin)
            digest.update(point.size.to_bytes(8, "big") + point.root + head.time_s.to_bytes(8, "big"))
        return replace(self, sequence=self.sequence + 1, digest=digest.digest())


@dataclass(frozen=True, slots=True)
class Remembered:
    """All that a state holds. ``before``: the place one write earlier. ``time_s``: of the newest
    cosignature for any log, 0 before the first."""

    place: Place
    before: Place
    time_s: int
    heads: Mapping[str, Head]


class HeadStore(Protocol):
    """Keeps heads. Used by one thread."""

    def load(self) -> Remembered:
        """What is durable, read anew from the disk. Raises StorageFailed, StateLost when it is damaged."""
        ...

    def write(self, heads: Sequence[Head], place: Place, time_s: int) -> None:
        """Put these heads in place of older ones, all or none, durably before it returns.

        StorageFailed leaves the outcome unknown, until the next :meth:`load`.
        """
        ...

    def close(self) -> None:
        """Give the files back; closing twice is no error."""
        ...
