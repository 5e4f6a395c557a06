"""The journal's file: appended to, fsynced, and read from end to end.

One process at a time appends, under a lock on the file itself. An entry is on the disk before anybody is
told its verdict; a line that was cut off by a crash was told to nobody, so the next append takes it away.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ledger.errors import FormatError, SudurError
from tools.errors import FileProblem, JournalProblem
from tools.files import PRIVATE, open_file, reason, write_new_file
from tools.keyfile import PublicKey
from tools.verifying.entries import (
    MAX_LINE,
    Entry,
    JournalKey,
    header,
    line_hash,
    parse_entry,
    parse_header,
)

_NEWLINE: Final = b"\n"


@dataclass(frozen=True, slots=True)
class Head:
    """How far a journal goes: its last entry's number (0: none), and the hash of that line."""

    number: int
    hash: bytes


def create(path: Path, key: JournalKey, now_ms: int) -> Head:
    """Begin a journal. Raises NameTaken, FileProblem."""
    first = header(key.public, now_ms)
    write_new_file(path, first + _NEWLINE, PRIVATE)
    return Head(0, line_hash(first))


def append(path: Path, key: JournalKey, make: Callable[[int, bytes], Entry]) -> tuple[Entry, bool]:
    """Put one entry behind the last, durably; also whether a line that a crash cut off was taken away.

    ``make`` gets the entry's number and the hash of the line before it. Costs the same however long the
    journal is: only its last line is read, and checked. Raises JournalProblem when that is damaged or
    signed by another key, FileProblem; then the journal is as it was.
    """
    with _open_to_append(path) as descriptor:
        size = os.fstat(descriptor).st_size
        line, end = _last_line(descriptor, size, path)
        try:
            number, before = _follow(line, key.public)
        except SudurError as error:
            raise JournalProblem(
                f"its last line cannot be gone on from: {error}",
                where=str(path),
                fix="give the journal's own key; see what is wrong with sudur journal verify",
            ) from None
        entry = make(number + 1, before).signed_by(key)
        try:
            if end < size:
                os.ftruncate(descriptor, end)
            _write(descriptor, entry.encode() + _NEWLINE)
            os.fsync(descriptor)
        except OSError as error:
            os.ftruncate(descriptor, end)
            raise FileProblem(f"cannot be written: {reason(error)}", where=str(path)) from None
        return entry, end < size


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _follow(line: bytes, key: PublicKey) -> tuple[int, bytes]:
    """(number, hash) of the last line, which must be of this key. Raises FormatError, SignatureInvalid."""
    if line.startswith(b'{"format"') or b'"format":"sudur-journal' in line:
        if parse_header(line) != key:
            raise FormatError("the journal is of another key", where="line 1")
        return 0, line_hash(line)
    entry = parse_entry(line, "last line")
    entry.check(key)
    return entry.number, line_hash(line)


def _last_line(descriptor: int, size: int, path: Path) -> tuple[bytes, int]:
    """The last whole line, and where it ends; what stands behind that was cut off."""
    window = os.pread(descriptor, min(size, 2 * MAX_LINE + 2), max(size - 2 * MAX_LINE - 2, 0))
    last = window.rfind(_NEWLINE)
    if last < 0:
        raise JournalProblem("has no whole line at its end", where=str(path))
    end = size - len(window) + last + 1
    start = window.rfind(_NEWLINE, 0, last) + 1
    return window[start:last], end


@contextmanager
def _open_to_append(path: Path) -> Iterator[int]:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        raise FileProblem(
            f"cannot be opened: {reason(error)}", where=str(path), fix="begin one with sudur journal init"
        ) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # an append takes milliseconds; a crash frees it
        yield descriptor
    finally:
        os.close(descriptor)


class JournalReader:
    """A journal read from its beginning, every line checked: signature, number, and the hash before it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.key: PublicKey | None = None
        self.head = Head(0, b"")
        self.torn = False

    def entries(self) -> Iterator[Entry]:
        """Each entry, in order; then ``head`` is the last, and ``torn`` says whether a cut-off line follows.

        About 60 µs each. Raises JournalProblem at the first line that is wrong, FileProblem.
        """
        try:
            with open_file(self._path) as file:
                number = 0
                while line := file.readline(MAX_LINE + 2):
                    number += 1
                    if not line.endswith(_NEWLINE):
                        if len(line) > MAX_LINE:
                            raise JournalProblem(f"line {number} is too long", where=str(self._path))
                        self.torn = True
                        break
                    entry = self._take(line[:-1], number)
                    if entry is not None:
                        yield entry
        except OSError as error:
            raise FileProblem(f"cannot be read: {reason(error)}", where=str(self._path)) from None
        if self.key is None:
            raise JournalProblem("is no journal: it has no first line", where=str(self._path))

    def _take(self, line: bytes, number: int) -> Entry | None:
        try:
            if self.key is None:
                self.key = parse_header(line)
                self.head = Head(0, line_hash(line))
                return None
            entry = parse_entry(line, f"line {number}")
            if (entry.number, entry.before) != (self.head.number + 1, self.head.hash):
                raise FormatError("does not follow the line before it", where=f"line {number}")
            entry.check(self.key)
        except SudurError as error:
            raise JournalProblem(
                f"line {number} is not what was written: {error}",
                where=str(self._path),
                fix="keep the file as it is, and compare it with a copy and with the heads that others hold",
            ) from None
        self.head = Head(entry.number, line_hash(line))
        return entry
