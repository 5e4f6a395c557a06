"""The two SQLite files of a witness: its logs, and its heads. Each write is on disk before it returns."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tools.witness.refusals import StateLost, StorageFailed

_BUSY_S: Final = 5.0
_RESTORE: Final = "see docs/witnesses.md on lost state; never go on with an older copy under the same key"


def open_database(path: Path, schema: str, version: int) -> sqlite3.Connection:
    """Open, and make what is missing. Raises StateLost for what is no such file, StorageFailed."""
    with failures(path):
        connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            # With less than FULL a commit in WAL mode waits for no disk.
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            with transaction(connection):
                (found,) = connection.execute("PRAGMA user_version").fetchone()
                if found not in (0, version):
                    raise StateLost(f"it is of version {found}, not {version}", where=str(path))
                if not found:
                    for statement in schema.split(";"):
                        connection.execute(statement)
                    connection.execute(f"PRAGMA user_version = {version}")
        except BaseException:
            connection.close()
            raise
    path.chmod(0o600)
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of it or nothing, durably. An error of the commit itself leaves the outcome unknown."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def failures(path: Path) -> Iterator[None]:
    """SQLite's errors become ours: StateLost for a damaged file, StorageFailed for all others."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise StorageFailed(f"the state cannot be read or written: {error}", where=str(path)) from None
    except sqlite3.DatabaseError as error:
        raise StateLost(f"the state is damaged: {error}", where=str(path), fix=_RESTORE) from None
    except OSError as error:
        raise StorageFailed(f"the state cannot be opened: {error.strerror}", where=str(path)) from None
