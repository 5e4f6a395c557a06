"""The disk: how much room it has left, and directories that stay."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

DEFAULT_FLOOR: Final = 256 << 20
"""Bytes that stay free. RocksDB must still be able to flush its write buffers and to compact."""

FreeBytes = Callable[[Path], int]
"""The bytes that this process may still write below a path."""


def free_bytes(path: Path) -> int:
    """Bytes that an ordinary user may still write in the file system of ``path``. About 3 µs."""
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def make_directories(path: Path) -> None:
    """Make a directory, and those above it that are missing, durably; for this user alone."""
    missing = [one for one in (path, *path.parents) if not one.exists()]
    for one in reversed(missing):
        one.mkdir(mode=0o700, exist_ok=True)
        sync_directory(one.parent)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable. One fsync."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
