"""The signed checkpoints that an auditor has seen, kept so that a log cannot take one back.

A file of lines, each a JSON object, only ever added to; a line that a crash cut short was never relied on.
It stands apart from what is replayed, so a rebuilt state still knows them. A checkpoint that was replayed
needs no more keeping than its newest successor, which signs the same again: of those the newest are kept,
and of earlier ones the last of each day.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ledger.checkpoints import SignedCheckpoint
from ledger.errors import CheckpointUntrusted, SudurError
from tools.audit.errors import StateDamaged
from tools.files import PRIVATE, sync_directory, write_file

NEWEST_KEPT: Final = 512
MOST_KEPT: Final = 16_384
"""No more, whatever a log signs and shows nobody: it would fill the disk of who audits others, too."""
_DAY_MS: Final = 86_400_000
_FILE: Final = "heads"


@dataclass(frozen=True, slots=True)
class Seen:
    """A signed checkpoint, and when it was first seen (ms since 1970, by this machine's clock)."""

    signed: SignedCheckpoint
    seen_ms: int

    @property
    def size(self) -> int:
        return self.signed.checkpoint.size


class Heads:
    """Those seen, in the order of their sizes; two of one size may stand side by side."""

    def __init__(self, directory: Path, open_note: Callable[[bytes], SignedCheckpoint]) -> None:
        """Raises StateDamaged for a file that holds something else."""
        self._path = directory / _FILE
        self._seen: dict[bytes, Seen] = {}
        self._untrusted: list[bytes] = []
        data = self._path.read_bytes() if self._path.exists() else b""
        whole = self._end = data.rfind(b"\n") + 1
        for line in data[:whole].splitlines(keepends=True):
            try:
                self._take(_read(line, open_note, self._path))
            except CheckpointUntrusted:
                # Today's trust file does not know its key: it is kept, and proves nothing for now.
                self._untrusted.append(line)
        if whole < len(data):
            self._write()

    @property
    def all(self) -> list[Seen]:
        return sorted(self._seen.values(), key=lambda one: one.size)

    def newest(self, most: int | None = None) -> SignedCheckpoint | None:
        """The one of the greatest size, of those up to size ``most``."""
        found = [one for one in self._seen.values() if most is None or one.size <= most]
        return max(found, key=lambda one: one.size).signed if found else None

    def keep(self, signed: SignedCheckpoint, seen_ms: int) -> bool:
        """Keep it, durably, before this returns; False when it is known, or they are too many. One fsync."""
        if signed.note.text in self._seen or len(self._seen) >= MOST_KEPT:
            return False
        seen = Seen(signed, seen_ms)
        is_new = not self._path.exists()
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        with os.fdopen(os.open(self._path, flags, PRIVATE), "r+b") as file:
            # What a full disk left of a line would spoil this one.
            file.truncate(self._end)
            file.seek(self._end)
            file.write(_line(seen))
            file.flush()
            os.fsync(file.fileno())
            self._end = file.tell()
        if is_new:
            sync_directory(self._path.parent)
        self._take(seen)
        return True

    def thin(self, replayed: int) -> None:
        """Let go of what later ones make needless, of those up to size ``replayed``."""
        if len(self._seen) <= 2 * NEWEST_KEPT:
            return
        kept = self.all
        last_of_day = {one.seen_ms // _DAY_MS: one for one in kept}
        old = kept[:-NEWEST_KEPT]
        gone = [one for one in old if one.size <= replayed and last_of_day[one.seen_ms // _DAY_MS] is not one]
        for one in gone:
            del self._seen[one.signed.note.text]
        self._write()

    def _take(self, seen: Seen) -> None:
        self._seen.setdefault(seen.signed.note.text, seen)

    def _write(self) -> None:
        data = b"".join([*self._untrusted, *map(_line, self.all)])
        write_file(self._path, data)
        self._end = len(data)


def _line(seen: Seen) -> bytes:
    return json.dumps({"seen_ms": seen.seen_ms, "note": seen.signed.data.decode()}).encode() + b"\n"


def _read(line: bytes, open_note: Callable[[bytes], SignedCheckpoint], path: Path) -> Seen:
    try:
        value = json.loads(line)
        return Seen(open_note(value["note"].encode()), int(value["seen_ms"]))
    except CheckpointUntrusted:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, SudurError) as error:
        raise StateDamaged(f"a checkpoint that was kept cannot be read: {error}", where=str(path)) from error
