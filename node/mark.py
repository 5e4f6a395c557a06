"""The mark: what this node has released and voted for, outside of its database.

A database restored from a backup, or rolled back past a damaged log, looks whole. The mark is what
it cannot take back with it: a small file beside the data directory that holds the newest checkpoint
that this node signed, durable before the signature leaves it, and, in a cluster, its vote
(:class:`node.head.Vote`), durable before anybody counts it. A store that holds less, or something
else, must not sign or vote again: it would fork the log.

The file is one of two slots (node/slots.py). A record is u8 whether the note was signed here ‖ vote ‖ note.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from node.errors import StoreDamaged
from node.head import MEMBER_ID_SIZE, Vote
from node.slots import HEADER_SIZE, Slots

_HEADER: Final = b"sudur mark v1\n".ljust(HEADER_SIZE, b"\0")


class Mark:
    """An open mark file, locked against other processes for as long as it is open."""

    def __init__(self, slots: Slots) -> None:
        """Use :meth:`create` or :meth:`open`. Takes the slots over."""
        self._slots = slots
        try:
            self._record = _Record.decode(slots.record)
        except StoreDamaged:
            slots.close()
            raise

    @property
    def path(self) -> Path:
        return self._slots.path

    @classmethod
    def create(cls, path: Path, *, sync: Callable[[int], None] = os.fdatasync) -> Mark:
        """Make an empty mark, durably, or open the one that is there. Raises as :meth:`open`."""
        # Of a new member that has released nothing.
        Slots.create(path, _HEADER, _Record(Vote(secrets.token_bytes(MEMBER_ID_SIZE)), b"", False).encode())
        return cls.open(path, sync=sync)

    @classmethod
    def open(cls, path: Path, *, sync: Callable[[int], None] = os.fdatasync) -> Mark:
        """Open and lock. Raises NotFound, DataInUse, StoreDamaged when it cannot be read."""
        return cls(Slots.open(path, _HEADER, what="mark", user="node", fix=_FIX, sync=sync))

    @property
    def note(self) -> bytes | None:
        """The newest checkpoint that this node released, a signed note; None when it never did."""
        return self._record.note or None

    @property
    def signed(self) -> bool:
        """Whether :attr:`note` is this node's own word: a mirror keeps what others have signed."""
        return self._record.signed

    @property
    def vote(self) -> Vote:
        """What this node has applied and promised as a member of a cluster."""
        return self._record.vote

    def keep(self, note: bytes, *, signed: bool = True) -> None:
        """Make ``note`` the newest released, ``signed`` by this node or by others. Durable; one fsync.

        OSError leaves the outcome unknown: then this note or the one before it will be read back,
        and either is a checkpoint of this store. Raises StoreDamaged when the file is not in its place
        any more: the next start would not find what is written to it.
        """
        self._write(self._record.vote, note, signed)

    def keep_vote(self, vote: Vote) -> None:
        """The same for the vote. Raises as :meth:`keep`; the vote counts only once this returns."""
        self._write(vote, self._record.note, self._record.signed)

    def _write(self, vote: Vote, note: bytes, signed: bool) -> None:
        record = _Record(vote, note, signed)
        self._slots.write(record.encode())
        self._record = record

    def close(self) -> None:
        """Unlock and close; closing twice is no error."""
        self._slots.close()


_FIX: Final = (
    "do not sign with this node before its newest checkpoint is found in another place (a witness, a"
    " monitor, a replica); see docs/operations.md"
)


@dataclass(frozen=True, slots=True)
class _Record:
    """What a slot holds."""

    vote: Vote
    note: bytes
    signed: bool

    def encode(self) -> bytes:
        return bytes((self.signed,)) + self.vote.encode() + self.note

    @classmethod
    def decode(cls, data: bytes) -> _Record:
        """Raises StoreDamaged."""
        vote, note = Vote.read(data[1:])
        return cls(vote, note, data[:1] == b"\x01")
