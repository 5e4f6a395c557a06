"""A small record that survives everything but its disk: two slots in one file, written in turn and in place.

A torn write leaves the other slot whole, and a full disk is no obstacle, for the file has its whole size
from the start. It is locked for as long as it is open. A header of 4,096 bytes, then two slots: u32 length ‖
u64 how often it was written ‖ record ‖ SHA-256 of both.
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

from node.disk import make_directories, sync_directory
from node.errors import DataInUse, NotFound, StoreDamaged

HEADER_SIZE: Final = 4_096
SLOT_SIZE: Final = 135_168
"""Room for the largest note, with many ML-DSA-44 cosignatures. Only what a record has is written."""
_DIGEST: Final = 32
_COUNTED: Final = 4 + 8
MAX_RECORD: Final = SLOT_SIZE - _COUNTED - _DIGEST
_SIZE: Final = HEADER_SIZE + 2 * SLOT_SIZE


class Slots:
    """An open file of two slots. ``header``: its first 4,096 bytes; ``record``: what was written last."""

    def __init__(
        self, path: Path, descriptor: int, header: bytes, what: str, fix: str, sync: Callable[[int], None]
    ) -> None:
        """Use :meth:`open`. Takes the descriptor over."""
        self.path = path
        self._what = what
        self._fix = fix
        self._descriptor = descriptor
        self._sync = sync
        self._slot, self._sequence, self.record = self._newest(header)

    @staticmethod
    def create(path: Path, header: bytes, record: bytes) -> None:
        """Make the file, durably, with this first record; nothing happens when there is one of that name."""
        if path.exists():
            return
        make_directories(path.parent)
        # Under another name first: a file that exists is a whole one, whenever a crash comes.
        partial = path.with_name(f"{path.name}.{secrets.token_hex(8)}.new")
        try:
            first = _slot_bytes(0, record)
            with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(header.ljust(HEADER_SIZE, b"\0") + first.ljust(2 * SLOT_SIZE, b"\0"))
                file.flush()
                os.fsync(file.fileno())
            # Not a rename: it would take the place of one that another process has just made.
            with suppress(FileExistsError):
                os.link(partial, path)
        finally:
            partial.unlink(missing_ok=True)
        sync_directory(path.parent)

    @classmethod
    def open(
        cls,
        path: Path,
        header: bytes,
        *,
        what: str,
        user: str,
        fix: str,
        sync: Callable[[int], None] = os.fdatasync,
    ) -> Slots:
        """Open and lock. Raises NotFound, DataInUse, StoreDamaged when it cannot be read.

        ``header``: what the file begins with. In errors ``what`` names the file, ``user`` who else may hold
        it, and ``fix`` says what to do when it is damaged.
        """
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NotFound(f"there is no {what} file", where=str(path)) from None
        try:
            _lock(descriptor, path, what, user)
            return cls(path, descriptor, header, what, fix, sync)
        except BaseException:
            os.close(descriptor)
            raise

    def write(self, record: bytes) -> None:
        """Put ``record`` in place of the last. Durable; one fsync.

        OSError leaves the outcome unknown: then this record or the one before it will be read back. Raises
        StoreDamaged when the file is not in its place any more: the next start would not find what is
        written to it; or when the record does not fit.
        """
        self._check_place()
        if record == self.record:
            return
        if len(record) > MAX_RECORD:
            raise StoreDamaged(f"{len(record)} bytes, a slot has room for {MAX_RECORD}", where=self._what)
        slot, sequence = 1 - self._slot, self._sequence + 1
        data = _slot_bytes(sequence, record)
        written = os.pwrite(self._descriptor, data, HEADER_SIZE + slot * SLOT_SIZE)
        if written != len(data):
            raise OSError(errno.EIO, f"only {written} of {len(data)} bytes were written", str(self.path))
        self._sync(self._descriptor)
        self._slot, self._sequence, self.record = slot, sequence, record

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
                f"the {self._what} was deleted or exchanged while it was open",
                where=str(self.path),
                fix=f"stop; bring the {self._what} back, or see the documentation on a lost one",
            )

    def _newest(self, header: bytes) -> tuple[int, int, bytes]:
        data = os.pread(self._descriptor, _SIZE + 1, 0)
        if len(data) != _SIZE or not data.startswith(header):
            raise StoreDamaged(f"it is no {self._what} file", where=str(self.path), fix=self._fix)
        self.header = data[:HEADER_SIZE]
        slots = [_read(data[HEADER_SIZE + at * SLOT_SIZE :][:SLOT_SIZE]) for at in (0, 1)]
        found = [(slot[0], at, slot[1]) for at, slot in enumerate(slots) if slot is not None]
        if not found:
            raise StoreDamaged("neither of its two slots can be read", where=str(self.path), fix=self._fix)
        sequence, at, record = max(found, key=lambda one: one[0])
        return at, sequence, record


def _slot_bytes(sequence: int, record: bytes) -> bytes:
    counted = (8 + len(record)).to_bytes(4, "big") + sequence.to_bytes(8, "big") + record
    return counted + sha256(counted).digest()


def _read(slot: bytes) -> tuple[int, bytes] | None:
    """How often it was written, and the record; None when it was never written, or torn."""
    end = 4 + int.from_bytes(slot[:4], "big")
    if not _COUNTED <= end <= SLOT_SIZE - _DIGEST:
        return None
    if sha256(slot[:end]).digest() != slot[end : end + _DIGEST]:
        return None
    return int.from_bytes(slot[4:12], "big"), slot[12:end]


def _lock(descriptor: int, path: Path, what: str, user: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise DataInUse(
            f"another {user} holds this {what}",
            where=str(path),
            fix=f"stop the other {user}; a {what} has one writer",
        ) from None
