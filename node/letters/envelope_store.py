"""Where a node keeps envelopes: one SQLite file beside the database, ``envelopes/envelopes.sqlite``.

Not in RocksDB, for three reasons. What is deleted has to be gone, and not wait for a compaction:
SQLite overwrites it with zeros. A repair builds the database anew from the entries, and nothing here
follows from those. And blocks must never wait for letters.

An envelope is *named* once a committed SEND or ANSWER bears its digest (node/letters/envelope_keeper.py looks
for them). One that is not, is an orphan, and stays an hour by the node's clock. One that is, stays
until the last of the records that name it lets go of it, by the time in the seals: a clock that is
wrong deletes nothing that the log names.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ledger.envelopes import digest_of
from node.disk import make_directories
from node.errors import DiskFull, ReadOnly, StoreDamaged

ENVELOPE_DIRECTORY: Final = "envelopes"
ORPHAN_MS: Final = 3_600_000
"""How long an envelope stays that no record names."""
MARGIN_MS: Final = 5 * 60_000
"""How much longer it is kept than a submission may name it: what waits in the queue must find it."""
ENVELOPE_FILE: Final = "envelopes.sqlite"
_VERSION: Final = 1
_AT_ONCE: Final = 256
_SCHEMA: Final = """
CREATE TABLE envelope (
    digest BLOB PRIMARY KEY, recipient INTEGER NOT NULL, sender INTEGER NOT NULL, size INTEGER NOT NULL,
    put_ms INTEGER NOT NULL, named INTEGER NOT NULL, ends_ms INTEGER NOT NULL, data BLOB NOT NULL
);
CREATE INDEX envelope_ends ON envelope (named, ends_ms);
CREATE INDEX envelope_sender ON envelope (sender, size);
CREATE TABLE naming (
    leaf INTEGER PRIMARY KEY, exchange INTEGER NOT NULL, digest BLOB NOT NULL, ends_ms INTEGER NOT NULL
);
CREATE INDEX naming_digest ON naming (digest, ends_ms);
CREATE INDEX naming_exchange ON naming (exchange);
CREATE INDEX naming_ends ON naming (ends_ms);
CREATE TABLE followed (one INTEGER PRIMARY KEY CHECK (one = 1), next_block INTEGER NOT NULL);
"""
_FIX: Final = (
    "run `sudur node fsck`; the ledger itself is not touched. If it stays so, move this directory away:"
    " what was in it is lost, and senders can put it again"
)


@dataclass(frozen=True, slots=True)
class Held:
    """What is known of an envelope without its bytes.

    ``recipient``: the agency in its header; ``sender``: the agency that put it. ``ends_ms``: when it
    goes, by the clock for an orphan, by the time in seals for one that is ``named``.
    """

    recipient: int
    sender: int
    named: bool
    ends_ms: int

    def may_be_named(self, now_ms: int) -> bool:
        """Whether a submission that names it now will find it when its block is committed."""
        return self.named or now_ms < self.ends_ms - MARGIN_MS


@dataclass(frozen=True, slots=True)
class Naming:
    """The record at index ``leaf`` names the envelope ``digest``, and needs it until ``ends_ms``.

    ``exchange``: of a SEND, the one whose final answer ends that: itself, or the one it reminds of; of an
    ANSWER, itself, which is never answered.
    """

    leaf: int
    exchange: int
    digest: bytes
    ends_ms: int


@dataclass(frozen=True, slots=True)
class Release:
    """The exchange of the SEND at index ``exchange`` has its final answer, and is kept until ``ends_ms``."""

    exchange: int
    ends_ms: int


@dataclass(frozen=True, slots=True)
class Usage:
    """How many envelopes there are, and their bytes."""

    envelopes: int
    size: int


class EnvelopeStore:
    """The open file. Every method may be called from any thread; writes are durable when they return.

    Errors of all: DiskFull, ReadOnly when the disk fails, StoreDamaged when the file is damaged.
    """

    def __init__(self, directory: Path) -> None:
        """Open, or make, the file in ``directory``. Counts what is there: about 0.2 s a million."""
        make_directories(directory)
        self.path = directory / ENVELOPE_FILE
        self._lock = threading.Lock()
        self._closed = False
        # SQLite would make it readable by others; its journal gets the mode of the file.
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        self._db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        try:
            with self._guarded():
                self._prepare()
                rows = self._db.execute("SELECT sender, COUNT(*), SUM(size) FROM envelope GROUP BY sender")
                counted = rows.fetchall()
        except BaseException:
            self._db.close()
            raise
        self._sizes = Counter({sender: size for sender, _, size in counted})
        self._count = sum(count for _, count, _ in counted)
        self._gone = False

    def _prepare(self) -> None:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON", "foreign_keys=OFF"):
            self._db.execute(f"PRAGMA {pragma}")
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version == 0:
            self._db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version={_VERSION}; COMMIT;")
        elif version != _VERSION:
            raise StoreDamaged(
                f"it is of version {version}, this software knows {_VERSION}", where=str(self.path)
            )

    def close(self) -> None:
        """Close; what was deleted leaves the journal too. Closing twice is no error."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._db.close()

    # --- what is there ---

    @property
    def usage(self) -> Usage:
        """All that is held. No disk access."""
        return Usage(self._count, self._sizes.total())

    def size_of(self, sender: int) -> int:
        """Bytes that an agency has put and that are still there. No disk access."""
        return self._sizes[sender]

    def find(self, digest: bytes) -> Held | None:
        """Without the bytes: about 10 µs."""
        with self._guarded():
            return self._find(digest)

    def data(self, digest: bytes) -> bytes | None:
        """The bytes. Raises StoreDamaged when they do not have that digest."""
        with self._guarded():
            row = self._db.execute("SELECT data FROM envelope WHERE digest = ?", (digest,)).fetchone()
        if row is None:
            return None
        data = bytes(row[0])
        if digest_of(data) != digest:
            raise StoreDamaged("what is stored has another digest", where=digest.hex(), fix=_FIX)
        return data

    # --- changes ---

    def put(self, data: bytes, *, recipient: int, sender: int, now_ms: int) -> Held:
        """Keep an envelope: for an hour, or as long as records that name it already need it.

        One that is there stays with who put it first; as an orphan, for another hour. One fsync.
        """
        digest = digest_of(data)
        with self._transaction():
            ends_ms = self._named_until(digest)
            named = ends_ms is not None
            if ends_ms is None:
                ends_ms = now_ms + ORPHAN_MS + MARGIN_MS
            done = self._db.execute(
                "INSERT INTO envelope VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (digest, recipient, sender, len(data), now_ms, named, ends_ms, data),
            )
            added = done.rowcount == 1
            if not added:
                self._db.execute(
                    "UPDATE envelope SET ends_ms = MAX(ends_ms, ?) WHERE digest = ? AND NOT named",
                    (ends_ms, digest),
                )
            held = self._find(digest)
            assert held is not None
        if added:
            self._account(sender, 1, len(data))
        return held

    def drop(self, digest: bytes) -> bool:
        """Delete an envelope; whether there was one. Its bytes leave the disk with :meth:`wipe`."""
        with self._transaction():
            gone = self._db.execute(
                "DELETE FROM envelope WHERE digest = ? RETURNING sender, size", (digest,)
            ).fetchall()
        self._forget(gone)
        return bool(gone)

    @property
    def next_block(self) -> int | None:
        """The first block whose records were not looked at; None when none ever was."""
        with self._guarded():
            row = self._db.execute("SELECT next_block FROM followed").fetchone()
        return None if row is None else int(row[0])

    def follow(self, found: Iterable[Naming | Release], next_block: int) -> None:
        """Take in what committed records say, in their order, and where to go on. One fsync."""
        with self._transaction():
            for one in found:
                if isinstance(one, Naming):
                    self._db.execute(
                        "INSERT INTO naming VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                        (one.leaf, one.exchange, one.digest, one.ends_ms),
                    )
                    digests = {one.digest}
                else:
                    rows = self._db.execute(
                        "UPDATE naming SET ends_ms = MIN(ends_ms, ?) WHERE exchange = ? RETURNING digest",
                        (one.ends_ms, one.exchange),
                    )
                    digests = {digest for (digest,) in rows.fetchall()}
                for digest in digests:
                    self._db.execute(
                        "UPDATE envelope SET named = 1, ends_ms = ? WHERE digest = ?",
                        (self._named_until(digest), digest),
                    )
            self._db.execute("INSERT OR REPLACE INTO followed VALUES (1, ?)", (next_block,))

    def sweep(self, *, now_ms: int, sealed_ms: int) -> tuple[int, int]:
        """Delete what has ended: orphans by the clock, the others by the newest seal's time.

        Returns how many of either went. Looks at nothing that stays; 256 envelopes a transaction.
        """
        orphans = self._sweep(False, now_ms)
        ended = self._sweep(True, sealed_ms)
        with self._transaction():
            self._db.execute("DELETE FROM naming WHERE ends_ms <= ?", (sealed_ms,))
        return orphans, ended

    def wipe(self) -> None:
        """See to it that deleted bytes are in no file any more. One or two fsyncs, if there are any."""
        if not self._gone:
            return
        with self._guarded():
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        self._gone = False

    def damaged(self) -> Iterator[str]:
        """What is wrong with the file, a line each: for fsck. Reads all of it."""
        with self._guarded():
            for (line,) in self._db.execute("PRAGMA quick_check(20)").fetchall():
                if line != "ok":
                    yield str(line)
            rows = self._db.execute("SELECT digest, size, data FROM envelope ORDER BY digest")
            for digest, size, data in rows:
                if digest_of(bytes(data)) != bytes(digest) or len(data) != size:
                    yield f"envelope {bytes(digest).hex()} has other bytes than its digest says"

    # --- inside ---

    def _find(self, digest: bytes) -> Held | None:
        row = self._db.execute(
            "SELECT recipient, sender, named, ends_ms FROM envelope WHERE digest = ?", (digest,)
        ).fetchone()
        return None if row is None else Held(row[0], row[1], bool(row[2]), row[3])

    def _named_until(self, digest: bytes) -> int | None:
        row = self._db.execute("SELECT MAX(ends_ms) FROM naming WHERE digest = ?", (digest,)).fetchone()
        return None if row[0] is None else int(row[0])

    def _sweep(self, named: bool, until_ms: int) -> int:
        total = 0
        while True:
            with self._transaction():
                gone = self._db.execute(
                    "DELETE FROM envelope WHERE rowid IN"
                    f" (SELECT rowid FROM envelope WHERE named = ? AND ends_ms <= ? LIMIT {_AT_ONCE})"
                    " RETURNING sender, size",
                    (named, until_ms),
                ).fetchall()
            self._forget(gone)
            total += len(gone)
            if len(gone) < _AT_ONCE:
                return total

    def _forget(self, gone: list[tuple[int, int]]) -> None:
        for sender, size in gone:
            self._account(sender, -1, -size)
        self._gone = self._gone or bool(gone)

    def _account(self, sender: int, count: int, size: int) -> None:
        with self._lock:
            self._count += count
            self._sizes[sender] += size

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All of it or nothing, and durable. A crash within leaves nothing."""
        with self._guarded():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """One thread at a time, and SQLite's errors by our names."""
        with self._lock:
            if self._closed:
                raise ReadOnly("the envelopes are closed", where=str(self.path))
            try:
                yield
            except sqlite3.Error as error:
                raise self._named(error) from error

    def _named(self, error: sqlite3.Error) -> Exception:
        code = getattr(error, "sqlite_errorcode", None)
        if code == sqlite3.SQLITE_FULL:
            return DiskFull(
                "the disk is full", where=str(self.path), fix="free some space; nothing is damaged"
            )
        if isinstance(error, sqlite3.OperationalError):
            return ReadOnly(f"the envelopes cannot be read or written: {error}", where=str(self.path))
        return StoreDamaged(f"SQLite cannot read it: {error}", where=str(self.path), fix=_FIX)
