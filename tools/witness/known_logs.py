"""The logs that a witness was told of, kept beside its heads; commands may add some while it runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

from ledger.errors import FormatError
from ledger.notes import VerifierKey
from ledger.trust import Trust, parse_trust
from tools.errors import Usage
from tools.witness.database import failures, open_database, transaction
from tools.witness.logs import MAX_LOGS, WitnessedLog, log_key, merged
from tools.witness.refusals import StateLost

FILE: Final = "logs.db"
_VERSION: Final = 1
_MOMENT_S: Final = 0.25
_SCHEMA: Final = """
CREATE TABLE log (
  origin TEXT PRIMARY KEY, url TEXT NOT NULL, trust BLOB NOT NULL, off INTEGER NOT NULL,
  caught TEXT NOT NULL
) STRICT;
CREATE TABLE log_key (
  origin TEXT NOT NULL REFERENCES log (origin), vkey TEXT NOT NULL, PRIMARY KEY (origin, vkey)
) STRICT, WITHOUT ROWID
"""


class KnownLogs:
    """The file of logs. May be called from any thread, and used by several processes at a time."""

    def __init__(self, directory: Path) -> None:
        """Raises StorageFailed, StateLost."""
        self._path = directory / FILE
        self._lock = threading.Lock()
        self._connection = open_database(self._path, _SCHEMA, _VERSION)
        self._seen = -1
        self._good_until = 0.0
        self._logs: Mapping[str, WitnessedLog] = {}
        self.logs()

    def logs(self, *, now: bool = True) -> Mapping[str, WitnessedLog]:
        """All logs by origin, those switched off too.

        Without ``now`` as of a moment ago, which costs nothing; else about 20 µs while nothing has changed.
        """
        if not now and time.monotonic() < self._good_until:
            return self._logs
        with self._lock, failures(self._path):
            self._good_until = time.monotonic() + _MOMENT_S
            (version,) = self._connection.execute("PRAGMA data_version").fetchone()
            if version != self._seen:
                self._logs = MappingProxyType(self._read())
                self._seen = version
            return self._logs

    def add(self, logs: Sequence[WitnessedLog]) -> int:
        """Add logs, and keys of logs that are here; what is here stays. Returns how many are new or changed.

        A ledger of ours has just the keys that its newest trust file gives it; what a list says of it is left
        out. Durable. Raises Usage for too many logs, FormatError for too many keys of one.
        """
        changed = 0
        with self._lock, failures(self._path), transaction(self._connection):
            # Read within: a log that is caught, or switched off, at this very moment stays so.
            before = self._read()
            for log in logs:
                known = before.get(log.origin)
                new = _joined(known, log)
                if new == known:
                    continue
                changed += 1
                self._write(new)
            (count,) = self._connection.execute("SELECT count(*) FROM log").fetchone()
            if count > MAX_LOGS:
                raise Usage(f"that makes {count} logs, a witness keeps {MAX_LOGS}")
            self._forget()
        return changed

    def refuse_keys_beside_trust(self, told: WitnessedLog) -> None:
        """Refuse keys that a ledger's trust file does not name: nobody would go by them. Raises Usage."""
        known = self.logs().get(told.origin)
        if known is not None and known.ledger is not None and not set(told.keys) <= set(known.keys):
            raise Usage(
                f"{told.origin} has the keys of its trust file",
                fix="renew that (sudur trust renew), and add it again: --log trust.json",
            )

    def remove_key(self, origin: str, key: VerifierKey) -> None:
        """Believe a log by this key no more. Durable. Raises Usage when it is not here."""

        def without(known: WitnessedLog) -> WitnessedLog:
            if known.ledger is not None:
                raise Usage(f"{origin} has the keys of its trust file", fix="renew that, and add it again")
            if key not in known.keys:
                raise Usage(f"the key is not one of {origin}", fix="sudur witness show names them")
            return replace(known, keys=tuple(one for one in known.keys if one != key))

        self._change(origin, without)

    def switch(self, origin: str, *, off: bool) -> None:
        """Cosign for a log no more, or again. Durable. Raises Usage when it is not here.

        The log itself stays: to forget its head, and to hear of it again, would be to take a promise back.
        """
        self._change(origin, lambda known: replace(known, off=off, caught=known.caught if off else ""))

    def catch(self, origin: str, found: str) -> None:
        """Keep what an audit has found of a log: it is cosigned no more until switched on. Durable."""
        self._change(origin, lambda known: replace(known, caught=found))

    def close(self) -> None:
        """Closing twice is no error."""
        with self._lock:
            self._connection.close()

    def _change(self, origin: str, how: Callable[[WitnessedLog], WitnessedLog]) -> None:
        with self._lock, failures(self._path), transaction(self._connection):
            known = self._read().get(origin)
            if known is None:
                raise Usage(f"no log {origin!a} is known here", fix="sudur witness list names them")
            self._write(how(known))
            self._forget()

    def _forget(self) -> None:
        """Have the next look see what this connection itself wrote, which its version does not tell."""
        self._seen, self._good_until = -1, 0.0

    def _write(self, log: WitnessedLog) -> None:
        trust = b"" if log.ledger is None else Trust((log.ledger,)).encode()
        self._connection.execute(
            "INSERT INTO log VALUES (?, ?, ?, ?, ?) ON CONFLICT (origin) DO UPDATE SET"
            " url = excluded.url, trust = excluded.trust, off = excluded.off, caught = excluded.caught",
            (log.origin, log.url, trust, log.off, log.caught),
        )
        self._connection.execute("DELETE FROM log_key WHERE origin = ?", (log.origin,))
        keys = log.keys if log.ledger is None else ()
        self._connection.executemany(
            "INSERT INTO log_key VALUES (?, ?)", [(log.origin, key.format()) for key in keys]
        )

    def _read(self) -> dict[str, WitnessedLog]:
        keys: dict[str, list[VerifierKey]] = {}
        found: dict[str, WitnessedLog] = {}
        try:
            for origin, vkey in self._connection.execute("SELECT origin, vkey FROM log_key"):
                keys.setdefault(origin, []).append(log_key(vkey))
            for origin, url, trust, off, caught in self._connection.execute("SELECT * FROM log"):
                log = WitnessedLog(origin, tuple(keys.get(origin, ())), url)
                if trust:
                    log = WitnessedLog.of_ledger(parse_trust(trust).ledgers[0], url)
                found[origin] = replace(log, off=bool(off), caught=caught)
        except (FormatError, IndexError) as error:
            raise StateLost(f"the list of logs is damaged: {error}", where=str(self._path)) from None
        return found


def _joined(known: WitnessedLog | None, told: WitnessedLog) -> WitnessedLog:
    if known is None:
        return told
    if known.ledger is not None and told.ledger is None:
        return known
    joined = merged([known, told])[0] if told.ledger is None else told
    # Whoever switched a log off does not find it on again because a list was read once more.
    return replace(joined, url=told.url or known.url, off=known.off, caught=known.caught)
