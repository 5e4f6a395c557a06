"""The mark: what this node has released and voted for, outside of its database.

A database restored from a backup, or rolled back past a damaged log, looks whole. The mark is what
it cannot take back with it: a small file beside the data directory that holds the newest checkpoint
that this node signed, durable before the signature leaves it, and, in a cluster, its vote
(:class:`node.head.Vote`), durable before anybody counts it. A store that holds less, or something
else, must not sign or vote again: it would fork the log.

The file has a header and two slots, written in turn and in place, so that a torn write leaves the
other slot whole and a full disk is no obstacle. A slot is u32 length ‖ record ‖ SHA-256 of both; a
record is u64 how often it was written ‖ u8 whether the note was signed here ‖ vote ‖ note.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from node.disk import make_directories, sync_directory
from node.errors import DataInUse, NotFound, StoreDamaged
from node.head import MEMBER_ID_SIZE, Vote

_HEADER: Final = b"sudur mark v1\n".ljust(4096, b"\0")
_SLOT: Final = 32_768
_MOST: Final = _SLOT - 4 - 32
_SIZE: Final = len(_HEADER) + 2 * _SLOT


class Mark:
    """An open mark file, locked against other processes for as long as it is open."""

    def __init__(self, path: Path, descriptor: int, sync: Callable[[int], None]) -> None:
        """Use :meth:`create` or :meth:`open`. Takes the descriptor over."""
        self.path = path
        self._descriptor = descriptor
        self._sync = sync
        self._slot, self._record = self._newest()

    @classmethod
    def create(cls, path: Path, *, sync: Callable[[int], None] = os.fdatasync) -> Mark:
        """Make an empty mark, durably, or open the one that is there. Raises as :meth:`open`."""
        if not path.exists():
            make_directories(path.parent)
            # Under another name first: a mark that exists is a whole one, whenever a crash comes.
            partial = path.with_name(f"{path.name}.{secrets.token_hex(8)}.new")
            try:
                _write_empty(partial)
                # Not a rename: it would take the place of one that another node has just made.
                with suppress(FileExistsError):
                    os.link(partial, path)
            finally:
                partial.unlink(missing_ok=True)
            sync_directory(path.parent)
        return cls.open(path, sync=sync)

    @classmethod
    def open(cls, path: Path, *, sync: Callable[[int], None] = os.fdatasync) -> Mark:
        """Open and lock. Raises NotFound, DataInUse, StoreDamaged when it cannot be read."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NotFound("there is no mark file", where=str(path)) from None
        try:
            _lock(descriptor, path)
            return cls(path, descriptor, sync)
        except BaseException:
            os.close(descriptor)
            raise

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
        self._check_place()
        if (vote, note, signed) == (self._record.vote, self._record.note, self._record.signed):
            return
        record = _Record(self._record.sequence + 1, vote, note, signed)
        data = _slot_bytes(record)
        if len(data) > _SLOT:
            raise StoreDamaged(f"{len(data)} bytes, a slot of the mark has {_SLOT}", where="mark")
        slot = 1 - self._slot
        written = os.pwrite(self._descriptor, data, len(_HEADER) + slot * _SLOT)
        if written != len(data):
            raise OSError(errno.EIO, f"only {written} of {len(data)} bytes were written", str(self.path))
        self._sync(self._descriptor)
        self._slot, self._record = slot, record

    def close(self) -> None:
        """Unlock and close; closing twice is no error."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _check_place(self) -> None:
        try:
            same = os.path.samestat(os.fstat(self._descriptor), os.stat(self.path))
        except FileNotFoundError:
            same = False
        if not same:
            raise StoreDamaged(
                "the mark was deleted or exchanged while it was open",
                where=str(self.path),
                fix="stop the node; bring the mark back, or see docs/operations.md on a lost one",
            )

    def _newest(self) -> tuple[int, _Record]:
        data = os.pread(self._descriptor, _SIZE + 1, 0)
        if len(data) != _SIZE or not data.startswith(_HEADER):
            raise StoreDamaged("it is no mark file", where=str(self.path), fix=_FIX)
        slots = [_read(data[len(_HEADER) + at * _SLOT :][:_SLOT]) for at in (0, 1)]
        found = [(record.sequence, at, record) for at, record in enumerate(slots) if record is not None]
        if not found:
            raise StoreDamaged("neither of its two slots can be read", where=str(self.path), fix=_FIX)
        _, at, record = max(found, key=lambda one: one[0])
        return at, record


_FIX: Final = (
    "do not sign with this node before its newest checkpoint is found in another place (a witness, a"
    " monitor, a replica); see docs/operations.md"
)


@dataclass(frozen=True, slots=True)
class _Record:
    """What a slot holds. ``sequence`` says which of the two was written later."""

    sequence: int
    vote: Vote
    note: bytes
    signed: bool


def _write_empty(path: Path) -> None:
    """A mark of a new member that has released nothing, for this user alone, durable but for its name."""
    first = _slot_bytes(_Record(0, Vote(secrets.token_bytes(MEMBER_ID_SIZE)), b"", False))
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(_HEADER + first.ljust(2 * _SLOT, b"\0"))
        file.flush()
        os.fsync(file.fileno())


def _slot_bytes(record: _Record) -> bytes:
    fixed = record.sequence.to_bytes(8, "big") + record.signed.to_bytes(1, "big")
    held = fixed + record.vote.encode() + record.note
    counted = len(held).to_bytes(4, "big") + held
    return counted + sha256(counted).digest()


def _read(slot: bytes) -> _Record | None:
    """The slot's record; None when it was never written, or torn."""
    end = 4 + int.from_bytes(slot[:4], "big")
    if not 4 + 9 < end <= 4 + _MOST or sha256(slot[:end]).digest() != slot[end : end + 32]:
        return None
    vote, note = Vote.read(slot[13:end])
    return _Record(int.from_bytes(slot[4:12], "big"), vote, note, bool(slot[12]))


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise DataInUse(
            "another node holds this mark",
            where=str(path),
            fix="stop the other node; a ledger has one writer",
        ) from None
