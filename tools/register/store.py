"""The agency's register: one SQLite database of all that it submitted and issued, sealed at rest.

``register.db`` lies in the agency's directory beside ``register.key.json``, without which nothing in it
can be read. It is in WAL mode with synchronous=FULL: what a transaction wrote is on disk when it ends,
and a crash leaves all of it or nothing. One process writes at a time (``tools.files.locked``); readers
may come and go.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from ledger.errors import SudurError
from tools.agency.directory import AgencyDirectory
from tools.errors import FileProblem, NameTaken, RegisterProblem
from tools.files import PRIVATE, rename, sync_directory
from tools.keyfile import KeyFile, make_key, save_key
from tools.register.box import Box
from tools.register.documents import Documents
from tools.register.journal import Journal
from tools.register.letters import Letters
from tools.register.schema import APPLICATION, TABLES, VERSION
from tools.ui import Passphrase

_NAME: Final = "register.db"
REGISTER_KEY: Final = "register"
"""The label of the register's key, which no other key may bear."""

RESTORED: Final = "restored"
"""The fact that it was put back from a backup, until the log was read for what it lacks."""

_WAIT_S: Final = 10.0


def system_ms() -> int:
    """The time of now, in ms since 1970 UTC."""
    return time.time_ns() // 1_000_000


class Register:
    """An open register. ``now_ms`` is there for tests. For one thread."""

    def __init__(self, path: Path, box: Box, now_ms: Callable[[], int] = system_ms) -> None:
        """Open the database at ``path``, made when it is not there. Raises RegisterProblem."""
        self.path = path
        self.box = box
        self.now_ms = now_ms
        if not path.exists():
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE))
            sync_directory(path.parent)
        with _named(path):
            self._database = sqlite3.connect(path, timeout=_WAIT_S, isolation_level=None)
        try:
            self._prepare()
        except BaseException:
            self._database.close()
            raise
        self.documents = Documents(self)
        self.journal = Journal(self)
        self.letters = Letters(self)

    @classmethod
    def open(
        cls,
        here: AgencyDirectory,
        passphrase: Passphrase,
        *,
        now_ms: Callable[[], int] = system_ms,
    ) -> Register:
        """The register of an agency's directory; it and its key are made at first use.

        Raises RegisterProblem, KeyFileError, WrongPassphrase, FileProblem.
        """
        path = here.path / _NAME
        make_register_key(here, passphrase)
        file = KeyFile(here.key_path(REGISTER_KEY))
        if file.public.use != "register":
            raise RegisterProblem(f"is a key for {file.public.use}", where=str(file.path))
        key = file.open(passphrase.to_open(file.path.name) if file.is_encrypted else None)
        return cls(path, Box(key.secret), now_ms)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._database.close()

    # --- SQL, with our errors ---

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that the block writes, or nothing; on disk when it ends. One within another joins it."""
        if self._database.in_transaction:
            yield
            return
        self.run("BEGIN IMMEDIATE")
        try:
            yield
            self.run("COMMIT")
        except BaseException:
            if self._database.in_transaction:
                self._database.rollback()
            raise

    def run(self, sql: str, values: Sequence[Any] = ()) -> int:
        """Run one statement; the id of the row that it inserted. Raises RegisterProblem."""
        with _named(self.path):
            return self._database.execute(sql, values).lastrowid or 0

    def run_many(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        """Run one statement for many rows. Raises RegisterProblem."""
        with _named(self.path):
            self._database.executemany(sql, rows)

    def rows(self, sql: str, values: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
        """The rows of a query, as they are asked for. Raises RegisterProblem."""
        with _named(self.path):
            # "yield from" would close the cursor, and fail when the register is closed already.
            for row in self._database.execute(sql, values):  # noqa: UP028
                yield row

    def row(self, sql: str, values: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        """The first row of a query, or None. Raises RegisterProblem."""
        with _named(self.path):
            found: tuple[Any, ...] | None = self._database.execute(sql, values).fetchone()
            return found

    def has(self, sql: str, values: Sequence[Any]) -> bool:
        """Whether a query finds anything. Raises RegisterProblem."""
        try:
            return self._database.execute(sql, values).fetchone() is not None
        except sqlite3.Error as error:
            raise _our_error(self.path, error) from None

    def blob(self, table: str, column: str, row: int) -> sqlite3.Blob:
        """A value to read in parts. Raises RegisterProblem."""
        with _named(self.path):
            return self._database.blobopen(table, column, row, readonly=True)

    # --- facts ---

    def fact(self, name: str) -> bytes | None:
        """A fact of the register as a whole; None when it was never put. Raises RegisterProblem."""
        found = self.row("SELECT sealed FROM facts WHERE name = ?", (name,))
        return None if found is None else self.box.open("facts", _fact(name), found[0])

    def put_fact(self, name: str, value: bytes) -> None:
        """Keep a fact in place of what it was. Its name has up to eight letters."""
        sealed = self.box.seal("facts", _fact(name), value)
        self.run("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, sealed))

    def drop_fact(self, name: str) -> None:
        """Keep it no longer, if it is there."""
        self.run("DELETE FROM facts WHERE name = ?", (name,))

    # --- copies ---

    def backup(self, target: Path) -> None:
        """Copy the register to ``target`` while it may be in use, and check the copy.

        The copy is sealed as the register is, and is worth nothing without register.key.json. Raises
        NameTaken, FileProblem, RegisterProblem.
        """
        if target.exists():
            raise NameTaken("exists already and is not overwritten", where=str(target), fix="choose another")
        part = target.with_name(f".{target.name}.part")
        part.unlink(missing_ok=True)
        try:
            os.close(os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE))
            with _named(part), closing(sqlite3.connect(part)) as copy:
                self._database.backup(copy, pages=4096)
                copy.execute("PRAGMA journal_mode = DELETE")
            with Register(part, self.box, self.now_ms) as copied:
                copied.check()
            _one_file(part)
            rename(part, target)
        except OSError as error:
            raise FileProblem(f"cannot be written: {error.strerror or error}", where=str(target)) from None
        finally:
            part.unlink(missing_ok=True)

    def check(self) -> None:
        """Whether the database is whole, and the journal unbroken. Raises RegisterProblem."""
        found = self.row("PRAGMA quick_check(1)")
        if found != ("ok",):
            raise RegisterProblem(
                f"is damaged: {found and found[0]}", where=str(self.path), fix="restore it from a backup"
            )
        for _ in self.journal.entries():
            pass

    def _prepare(self) -> None:
        with _named(self.path):
            # Large pages (of a new file only): a search seeks in blobs of megabytes, page by page.
            for setting in (
                "page_size = 16384",
                "journal_mode = WAL",
                "synchronous = FULL",
                "trusted_schema = OFF",
                "cache_size = -65536",
            ):
                self._database.execute(f"PRAGMA {setting}")
            self._database.execute("PRAGMA foreign_keys = ON")
        found = self.row("PRAGMA user_version")
        if found == (0,):
            with self.transaction():
                if self.row("SELECT 1 FROM sqlite_master") is not None:
                    raise RegisterProblem("is another program's database", where=str(self.path))
                for table in TABLES:
                    self.run(table)
                self.run(f"PRAGMA application_id = {APPLICATION}")
                self.run(f"PRAGMA user_version = {VERSION}")
                self.put_fact("key", b"")
            return
        if found != (VERSION,) or self.row("PRAGMA application_id") != (APPLICATION,):
            raise RegisterProblem("is not a register of this version", where=str(self.path))
        if self.fact("key") is None:
            raise RegisterProblem("is damaged: its first fact is missing", where=str(self.path))


def make_register_key(here: AgencyDirectory, passphrase: Passphrase) -> Path | None:
    """Make register.key.json when there is neither key nor register; its path if it was made now.

    Raises RegisterProblem for a register whose key is gone.
    """
    path = here.key_path(REGISTER_KEY)
    if path.exists():
        return None
    if (here.path / _NAME).exists():
        raise RegisterProblem(
            "is missing, and the register cannot be read without it",
            where=str(path),
            fix="restore it from its copy",
        )
    save_key(path, make_key("register", REGISTER_KEY), passphrase.given())
    return path


def restore(here: AgencyDirectory, source: Path, passphrase: Passphrase) -> None:
    """Put a backup in place of a register that is not there.

    ``register.key.json`` has to be there: the backup is checked under it. The register bears the fact
    RESTORED, and so logs nothing new, until the agency's monitor has found nothing that it lacks. Raises
    NameTaken, RegisterProblem, KeyFileError, WrongPassphrase, FileProblem.
    """
    target = here.path / _NAME
    if target.exists():
        raise NameTaken(
            "exists already and is not overwritten",
            where=str(target),
            fix="move it away first, with its -wal",
        )
    key_path = here.key_path(REGISTER_KEY)
    if not key_path.exists():
        raise RegisterProblem(
            "is missing, and a backup cannot be read without it", where=str(key_path), fix="restore it first"
        )
    file = KeyFile(key_path)
    box = Box(file.open(passphrase.to_open(file.path.name) if file.is_encrypted else None).secret)
    part = target.with_name(f".{_NAME}.part")
    part.unlink(missing_ok=True)
    try:
        os.close(os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE))
        with (
            _named(source),
            closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as old,
            closing(sqlite3.connect(part)) as new,
        ):
            old.backup(new, pages=4096)
        with Register(part, box) as copied:
            copied.check()
            copied.put_fact(RESTORED, b"")
        _one_file(part)
        rename(part, target)
    finally:
        part.unlink(missing_ok=True)


def _one_file(path: Path) -> None:
    """Make a copy that was opened for its check one file again, on disk."""
    with _named(path), closing(sqlite3.connect(path)) as copy:
        copy.execute("PRAGMA journal_mode = DELETE")
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _fact(name: str) -> int:
    return int.from_bytes(name.encode().ljust(8), "big")


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into one of ours that names the file."""
    try:
        yield
    except sqlite3.Error as error:
        raise _our_error(path, error) from None


def _our_error(path: Path, error: sqlite3.Error) -> SudurError:
    if isinstance(error, sqlite3.OperationalError):
        return FileProblem(
            f"cannot be used: {error}", where=str(path), fix="see to the disk, then run the command again"
        )
    return RegisterProblem(
        f"is damaged, or no register: {error}", where=str(path), fix="restore it from a backup"
    )
