"""Where what an audit has found is kept: a file that a third person can be shown."""

from __future__ import annotations

from pathlib import Path

from tools.audit.errors import HistoryForked, LogLied
from tools.files import make_private_directory, write_file

_DIRECTORY = "evidence"


def keep_evidence(directory: Path, error: LogLied) -> Path:
    """Write the signed checkpoints that an error carries below an audit's directory; returns the file."""
    folder = directory / _DIRECTORY
    make_private_directory(folder)
    notes = [error.signed.data]
    if isinstance(error, HistoryForked):
        notes.insert(0, error.earlier.data)
    path = folder / f"{error.code.lower()}-{error.signed.checkpoint.size}.notes"
    write_file(path, b"\n".join(notes))
    return path
