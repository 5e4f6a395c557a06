"""The mark: the newest checkpoint that this node released, outside of its database.

A database restored from a backup, or rolled back past a damaged log, looks whole. The mark is what
it cannot take back with it: a small file beside the data directory that holds the newest signed
checkpoint, durable before the signature leaves the node. A store that holds less, or something
else, must not sign again: it would fork the log.

The file has a header and two slots, written in turn and in place, so that a torn write leaves the
other slot whole and a full disk is no obstacle. A slot is u32 length ‖ note ‖ SHA-256 of both.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Final

from ledger.checkpoints import parse_checkpoint
from ledger.errors import FormatError
from ledger.notes import parse_note
from node.disk import make_directories, sync_directory
from node.errors import DataInUse, NotFound, StoreDamaged

_HEADER: Final = b"sudur mark v1\n".ljust(4096, b"\0")
_SLOT: Final = 16_384
_MOST: Final = _SLOT - 4 - 32
_SIZE: Final = len(_HEADER) + 2 * _SLOT


class Mark:
    """An open mark file, locked against other processes for as long as it is open."""

    def __init__(self, path: Path, descriptor: int, sync: Callable[[int], None]) -> None:
        """Use :meth:`create` or :meth:`open`. Takes the descriptor over."""
        self.path = path
        self._descriptor = descriptor
        self._sync = sync
        self._slot, self._note = self._newest()

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
        """The newest released checkpoint, a signed note; None when none was ever released."""
        return self._note

    def keep(self, note: bytes) -> None:
        """Make ``note`` the mark; durable when this returns. About one fsync.

        OSError leaves the outcome unknown: then this note or the one before it will be read back,
        and either is a checkpoint of this store. Raises StoreDamaged when the file is not in its place
        any more: the next start would not find what is written to it.
        """
        self._check_place()
        if note == self._note:
            return
        if len(note) > _MOST:
            raise StoreDamaged(f"a checkpoint of {len(note)} bytes, a mark holds {_MOST}", where="mark")
        slot = 1 - self._slot
        record = len(note).to_bytes(4, "big") + note
        data = record + sha256(record).digest()
        written = os.pwrite(self._descriptor, data, len(_HEADER) + slot * _SLOT)
        if written != len(data):
            raise OSError(errno.EIO, f"only {written} of {len(data)} bytes were written", str(self.path))
        self._sync(self._descriptor)
        self._slot, self._note = slot, note

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

    def _newest(self) -> tuple[int, bytes | None]:
        data = os.pread(self._descriptor, _SIZE + 1, 0)
        if len(data) != _SIZE or not data.startswith(_HEADER):
            raise StoreDamaged("it is no mark file", where=str(self.path), fix=_FIX)
        slots = [data[len(_HEADER) + at * _SLOT :][:_SLOT] for at in (0, 1)]
        if not any(map(any, slots)):
            return 1, None
        notes = [(size, at, note) for at, slot in enumerate(slots) for size, note in _read(slot)]
        if not notes:
            raise StoreDamaged("neither of its two slots can be read", where=str(self.path), fix=_FIX)
        _, at, note = max(notes)
        return at, note


_FIX: Final = (
    "do not sign with this node before its newest checkpoint is found in another place (a witness, a"
    " monitor, a replica); see docs/operations.md"
)


def _write_empty(path: Path) -> None:
    """A mark that holds no note, for this user alone, durable but for its name."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(_HEADER + bytes(2 * _SLOT))
        file.flush()
        os.fsync(file.fileno())


def _read(slot: bytes) -> list[tuple[int, bytes]]:
    """The slot's note with its tree size; nothing when it was never written or torn."""
    length = int.from_bytes(slot[:4], "big")
    end = 4 + length
    if not 0 < length <= _MOST or sha256(slot[:end]).digest() != slot[end : end + 32]:
        return []
    note = slot[4:end]
    try:
        return [(parse_checkpoint(parse_note(note).text).size, note)]
    except FormatError:
        return []


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise DataInUse(
            "another node holds this mark",
            where=str(path),
            fix="stop the other node; a ledger has one writer",
        ) from None
