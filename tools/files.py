"""Files written so that a crash leaves the old or the new, never a part, and read with a size cap.

A write returns after the bytes and the name are on disk (fsync of the file, then of its directory).
"""

from __future__ import annotations

import fcntl
import io
import os
import secrets
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tools.errors import DirectoryInUse, FileProblem, NameTaken

PRIVATE: Final = 0o600
PUBLIC: Final = 0o644
PRIVATE_DIRECTORY: Final = 0o700
_AGAIN_S: Final = 0.02


def open_file(path: Path, *, pipe_okay: bool = False) -> io.BufferedReader:
    """Open a regular file to read; a device or a pipe might never end. Raises FileProblem, OSError."""
    # Without O_NONBLOCK the mere opening of a pipe waits for somebody who writes.
    flags = os.O_RDONLY | os.O_CLOEXEC | (0 if pipe_okay else os.O_NONBLOCK)
    descriptor = os.open(path, flags)
    mode = os.fstat(descriptor).st_mode
    if not (stat.S_ISREG(mode) or (pipe_okay and stat.S_ISFIFO(mode))):
        os.close(descriptor)
        raise FileProblem("is a directory, a device or a pipe, not a file", where=str(path))
    return os.fdopen(descriptor, "rb")


def read_file(path: Path, limit: int, *, pipe_okay: bool = False) -> bytes:
    """At most ``limit`` bytes of a regular file. Raises FileProblem, also for a longer one."""
    try:
        with open_file(path, pipe_okay=pipe_okay) as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise FileProblem(f"cannot be read: {reason(error)}", where=str(path)) from None
    if len(data) > limit:
        raise FileProblem(f"is larger than {limit} bytes", where=str(path))
    return data


def write_file(path: Path, data: bytes, mode: int = PRIVATE) -> None:
    """Put ``data`` in place of whatever is there, at once and durably. Raises FileProblem."""
    write_parts(path, (data,), mode)


def write_parts(path: Path, parts: Iterable[bytes], mode: int = PRIVATE) -> None:
    """The same for what does not fit into memory. What ``parts`` raises leaves the old file in its place."""
    try:
        temporary = _write_beside(path, parts, mode)
        try:
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        sync_directory(path.parent)
    except OSError as error:
        raise FileProblem(f"cannot be written: {reason(error)}", where=str(path)) from None


def write_new_file(path: Path, data: bytes, mode: int = PRIVATE) -> None:
    """Like :func:`write_file`, but never over an existing file. Raises NameTaken, FileProblem."""
    try:
        temporary = _write_beside(path, (data,), mode)
        try:
            os.link(temporary, path)  # unlike a rename, it fails when the name is taken
        finally:
            temporary.unlink()
        sync_directory(path.parent)
    except FileExistsError:
        raise NameTaken(
            "exists already and is not overwritten", where=str(path), fix="choose another name"
        ) from None
    except OSError as error:
        raise FileProblem(f"cannot be written: {reason(error)}", where=str(path)) from None


def remove_file(path: Path) -> None:
    """Remove a file durably. Raises FileProblem."""
    try:
        path.unlink()
        sync_directory(path.parent)
    except OSError as error:
        raise FileProblem(f"cannot be removed: {reason(error)}", where=str(path)) from None


def rename(old: Path, new: Path) -> None:
    """Rename within one directory, durably. Raises FileProblem."""
    try:
        old.rename(new)
        sync_directory(new.parent)
    except OSError as error:
        raise FileProblem(f"cannot be renamed: {reason(error)}", where=str(old)) from None


def make_private_directory(path: Path) -> None:
    """Make a directory that only its owner enters, unless it is there. Raises FileProblem."""
    try:
        path.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
    except OSError as error:
        raise FileProblem(f"cannot be made: {reason(error)}", where=str(path)) from None


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked(directory: Path, wait_s: float = 0.0) -> Iterator[None]:
    """Keep others out of ``directory`` for as long as the block runs. DirectoryInUse after ``wait_s``.

    The lock belongs to the open file, so a crash of this process frees it.
    """
    path = directory / ".lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE)
    except OSError as error:
        raise FileProblem(f"cannot be opened: {reason(error)}", where=str(path)) from None
    until = time.monotonic() + wait_s
    while not _lock(descriptor):
        if time.monotonic() >= until:
            os.close(descriptor)
            raise DirectoryInUse(
                "another command is at work here", where=str(directory), fix="wait until it has ended"
            )
        time.sleep(_AGAIN_S)
    try:
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Whether it is ours now."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def reason(error: OSError) -> str:
    """What the operating system says, in its words and without the path."""
    return error.strerror or type(error).__name__


def _write_beside(path: Path, parts: Iterable[bytes], mode: int) -> Path:
    # A name of its own, since the wanted one may have all the 255 bytes that a name can have.
    temporary = path.with_name(f".{secrets.token_hex(12)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary
