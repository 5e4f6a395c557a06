"""Repair: build a database anew from the entries of a damaged one, and put it in its place.

The entries are replayed through the very code that wrote the first database (``Store.apply``), so
what is built cannot differ from what a node writes. Neither the entries nor the mark are changed,
and the damaged database is kept beside the new one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ledger import rules
from ledger.checkpoints import Checkpoint
from ledger.errors import SudurError
from ledger.state import State
from ledger.tree import Tree
from node.checking.entries import RESTORE, EntryReader
from node.cosigning.policies import sound_lines
from node.database import CHECKPOINTS, COSIGNATURES, PREPARED, Database
from node.disk import DEFAULT_FLOOR, free_bytes, sync_directory
from node.errors import DiskFull, NodeError, StoreDamaged
from node.head import HEAD_SIZE, Head
from node.journal import candidate_block
from node.node import DATABASE_DIRECTORY
from node.store import Store

NEW: Final = DATABASE_DIRECTORY + ".repair"
DAMAGED: Final = DATABASE_DIRECTORY + ".damaged"

NoteFor = Callable[[Head, State, bytes | None], bytes | None]
"""Gives the signed checkpoint to keep for a head: the stored one, one signed again, or none."""


@dataclass(frozen=True, slots=True)
class _Places:
    data_dir: Path

    @property
    def database(self) -> Path:
        return self.data_dir / DATABASE_DIRECTORY

    @property
    def new(self) -> Path:
        return self.data_dir / NEW

    @property
    def damaged(self) -> Path:
        return self.data_dir / DAMAGED


def finish_exchange(data_dir: Path) -> None:
    """Finish an exchange that a crash cut in two; else nothing."""
    at = _Places(data_dir)
    # Only a complete new database ever stood beside a damaged one that had left its place.
    if at.damaged.exists() and at.new.exists() and not at.database.exists():
        os.rename(at.new, at.database)
        sync_directory(data_dir)


def prepare(data_dir: Path) -> None:
    """Clear away what an attempt that was cut short left, and look for room.

    Raises NodeError when a damaged database is still kept from an earlier repair, DiskFull when there
    is no room for a second database.
    """
    at = _Places(data_dir)
    if at.damaged.exists():
        raise NodeError(
            "the damaged database of an earlier repair is still kept",
            where=str(at.damaged),
            fix="remove it when you no longer need it, and repair again",
        )
    if at.new.exists():
        shutil.rmtree(at.new)
    needed = sum(file.stat().st_size for file in at.database.iterdir() if file.is_file())
    room = free_bytes(data_dir)
    if room < needed + DEFAULT_FLOOR // 4:
        raise DiskFull(
            f"repair builds a second database of about {needed >> 20} MiB, {room >> 20} MiB are free",
            where=str(data_dir),
            fix="make room, or copy the data directory to a larger disk and repair it there",
        )


def rebuild(
    source: Database, data_dir: Path, head: Head, note_for: NoteFor, progress: Callable[[int], None]
) -> None:
    """Replay ``source``'s entries up to ``head`` into a new database beside it. About 8 µs a leaf.

    Raises StoreDamaged when the entries break the rules or do not lead to ``head``: then nothing was
    exchanged, and nothing is left behind.
    """
    path = _Places(data_dir).new
    store = Store(path, database=_SyncedAtTheEnd)
    try:
        before: Head | None = None
        state: State | None = None
        tree = Tree.empty()
        for leaves, packed in EntryReader(source).blocks():
            try:
                transition = rules.apply(state, store, leaves)
            except StoreDamaged:
                raise
            except SudurError as error:
                raise StoreDamaged(str(error), where="entries", fix=RESTORE) from error
            block = candidate_block(before, tree, transition, packed)
            store.apply(block)
            before, state, tree = block.head, transition.state, block.tree
            note = note_for(before, state, source.get(CHECKPOINTS, before.size.to_bytes(8, "big")))
            if note is not None:
                lines = source.get(COSIGNATURES, before.size.to_bytes(8, "big")) or b""
                record = state.registry.ledger
                sound = sound_lines(record, Checkpoint(record.origin, before.size, before.root), lines)
                store.keep_checkpoint(before.size, note + sound)
            progress(len(leaves))
            if before.same_tree(head):
                break
        if before is None or not before.same_tree(head):
            raise StoreDamaged("the entries do not lead to the head", where="entries", fix=RESTORE)
        store.adopt(head)
        # A member of a cluster has promised to hold these.
        for _, row in source.rows(PREPARED):
            store.prepare(Head.decode(row[:HEAD_SIZE]), row[HEAD_SIZE:])
    except BaseException:
        store.close()
        shutil.rmtree(path)
        raise
    store.close()


def exchange(data_dir: Path) -> Path:
    """Put the new database in the place of the damaged one; returns where that is kept.

    A crash between the two renames leaves no database in place; :func:`finish_exchange` finishes the work.
    """
    at = _Places(data_dir)
    os.rename(at.database, at.damaged)
    sync_directory(data_dir)
    os.rename(at.new, at.database)
    sync_directory(data_dir)
    return at.damaged


class _SyncedAtTheEnd(Database):
    """A database that nobody relies on before it is complete: one sync, at its end."""

    def sync(self) -> None:
        """Wait for :meth:`close`."""

    def close(self) -> None:
        super().sync()
        super().close()
