"""How much room the disk has left."""

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
