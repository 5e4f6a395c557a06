"""Backup of a running ledger, its verification, and its restore: catch-up with a directory in between.

A backup is the log and nothing else: everything that a node keeps follows from it, but for the envelopes of
letters, which are no part of it. It takes the blocks as any mirror does, proven before they are written, and
each time only those that are new. A restore goes by the rules block by block, as a replica would.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from hashlib import file_digest
from pathlib import Path
from shutil import copyfile
from typing import Final, Protocol

from ledger.backups import MANIFEST, ArchivedFile, Manifest
from ledger.checkpoints import parse_checkpoint
from ledger.errors import FormatError, SudurError
from ledger.notes import parse_note
from ledger.state import State
from ledger.tree import Tree
from ledger.trust import TrustedLedger
from node.copying.archive import (
    LETTERS,
    Archive,
    ArchiveBlocks,
    open_archive,
    read_manifest,
)
from node.copying.block_source import BlockSource
from node.copying.catch_up import HashedBlock, Terms, TrustedHead, catch_up, proven_runs
from node.copying.checkpoint_judge import CheckpointJudge
from node.disk import DEFAULT_FLOOR, FreeBytes, free_bytes, make_directories, sync_directory
from node.errors import DiskFull, NodeError, NotFound, PeerShort, PeerWrong
from node.letters.envelope_store import ENVELOPE_DIRECTORY, ENVELOPE_FILE
from node.mark import Mark
from node.node import DATABASE_DIRECTORY, default_mark_path
from node.store import Snapshot, Store
from sudur.v1 import ledger_pb2

Progress = Callable[[int, int], None]
"""Is told (leaves done, leaves in all)."""

_RESTORING: Final = ".restoring"
_LINGER_S: Final = 3_600.0
"""Runs are as long as they get: a restore or a verification waits for nobody."""


def _untold(done: int, total: int) -> None:
    pass


class LedgerSource(BlockSource, Protocol):
    """A source that also says what its newest checkpoint is: a node."""

    def ledger(self) -> ledger_pb2.GetLedgerResponse:
        """See :meth:`node.copying.remote_blocks.RemoteBlocks.ledger`."""
        ...


# --- making one --------------------------------------------------------------------------------


def back_up(
    source: LedgerSource,
    directory: Path,
    trusted: TrustedLedger,
    *,
    wall_ms: Callable[[], int],
    progress: Progress = _untold,
    stop: threading.Event | None = None,
) -> Manifest:
    """Bring a backup up to a node's newest checkpoint; the node serves on meanwhile. About 2 µs a leaf.

    Everything is proven against that checkpoint, which the trust file must vouch for, before it is written;
    whether the blocks keep the rules, a restore says. Interrupted at any moment, it goes on from the last
    file of 16 MiB. Raises PeerError, DiskFull, DataInUse, NodeError, CheckpointUntrusted, PolicyUnmet.
    """
    judge = CheckpointJudge(trusted)
    with open_archive(directory) as archive:
        held = archive.manifest
        if held is not None:
            _check_held(held, directory, judge)
        ledger = source.ledger()
        if ledger.genesis != trusted.genesis:
            raise PeerWrong(
                f"it serves the ledger {ledger.genesis.hex()[:16]} ({ledger.origin!a})",
                peer=source.name,
                fix="correct the address, or give the trust file of that ledger",
            )
        if not ledger.checkpoint:
            raise PeerShort(
                "its witnesses have not cosigned any checkpoint yet",
                peer=source.name,
                fix="back up when one is published",
            )
        newest = judge.open(ledger.checkpoint, None).checkpoint
        tree = Tree.empty() if held is None else _tree(held)
        if newest.size < tree.size:
            raise PeerShort(
                f"its newest checkpoint has {newest.size} leaves, the backup has {tree.size} already",
                peer=source.name,
                fix="back up from another node, and keep this backup: that node may have lost its end",
            )
        head = TrustedHead(newest.size, newest.root)
        if newest.size == tree.size and newest.root != tree.root():
            raise PeerWrong(
                f"it has another tree of {tree.size} leaves than was backed up: one of the two is a fork",
                peer=source.name,
                fix="keep both, and tell the auditors",
            )
        terms = Terms(stop=stop or threading.Event(), patience_s=60.0)
        if newest.size > tree.size:
            runs = proven_runs(
                source,
                lambda *_: head,
                tree,
                archive.next,
                genesis=trusted.genesis,
                until=newest.size,
                terms=terms,
            )
            with closing(runs):
                for run in runs:
                    for one in run.blocks:
                        _check_stated(one, source.name)
                        archive.add(one.block)
                        at_end = one.tree.size == newest.size
                        note = ledger.checkpoint if at_end else one.block.note
                        if note is not None and (at_end or (archive.is_full and _signed(judge, note))):
                            archive.commit(_manifest(trusted, archive, one.tree, note, wall_ms()))
                    progress(run.tree.size, newest.size)
        if archive.manifest is None:
            raise NotFound("stopped before anything was backed up", where=str(directory))
        return archive.manifest


def _tree(held: Manifest) -> Tree:
    """Raises PeerWrong."""
    try:
        return held.tree()
    except FormatError as error:
        raise PeerWrong(error.what, peer=MANIFEST) from error


def _check_held(held: Manifest, directory: Path, judge: CheckpointJudge) -> None:
    """That the backup so far is of the trusted ledger. Raises NodeError, PeerWrong."""
    if held.genesis != judge.trusted.genesis:
        raise NodeError(
            f"it is a backup of another ledger, {held.genesis.hex()[:16]} ({held.origin})",
            where=str(directory),
            fix="give each ledger a directory of its own",
        )
    signed = judge.open(held.checkpoint, None).checkpoint
    if (signed.size, signed.root) != (held.size, held.root):
        raise PeerWrong(
            f"its manifest states a tree of {held.size} leaves, its checkpoint one of {signed.size}",
            peer=str(directory),
            fix="use another copy of the backup",
        )


def _check_stated(one: HashedBlock, name: str) -> None:
    """That a block's checkpoint states the tree that its leaves make; its signature is looked at later."""
    note = one.block.note
    if note is None:
        return
    try:
        stated = parse_checkpoint(parse_note(note).text)
    except SudurError as error:
        what = f"its checkpoint cannot be read: {error}"
    else:
        if (stated.size, stated.root) == (one.tree.size, one.tree.root()):
            return
        what = f"its checkpoint states another tree, of {stated.size} leaves"
    raise PeerWrong(what, peer=name, where=f"block {one.block.number}", fix="do not use it; ask another node")


def _signed(judge: CheckpointJudge, note: bytes) -> bool:
    """Whether a backup may end here, were it cut short: another block will do."""
    try:
        judge.open(note, None)
    except SudurError:
        return False
    return True


def _manifest(trusted: TrustedLedger, archive: Archive, tree: Tree, note: bytes, made_ms: int) -> Manifest:
    held = archive.manifest
    return Manifest(
        genesis=trusted.genesis,
        origin=trusted.origin,
        blocks=archive.next,
        size=tree.size,
        root=tree.root(),
        checkpoint=note,
        edge=tree.partials,
        files=(),
        made_ms=made_ms,
        letters=None if held is None else held.letters,
    )


def add_letters(directory: Path, data_dir: Path) -> Manifest:
    """Copy a node's envelopes into its backup, in place of the copy before; the node may run.

    To be done on the node's own machine, after :func:`back_up`. SQLite's online backup: the copy is of one
    moment. It also keeps what the node deletes later, so keep it no longer than the letters themselves are.
    Raises NotFound, DataInUse, DiskFull.
    """
    source = data_dir / ENVELOPE_DIRECTORY / ENVELOPE_FILE
    if not source.exists():
        raise NotFound("no envelopes are kept here", where=str(source))
    with open_archive(directory) as archive:
        held = archive.manifest
        if held is None:
            raise NotFound("there is no backup of the log yet", where=str(directory), fix="make it first")
        partial = directory / f"{LETTERS}.part"
        partial.unlink(missing_ok=True)
        try:
            with (
                closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as reads,
                closing(sqlite3.connect(partial)) as writes,
            ):
                reads.backup(writes, pages=1_024)
                # One file: what lies beside a copy is easily left behind.
                writes.execute("PRAGMA journal_mode=DELETE")
        except sqlite3.OperationalError as error:
            partial.unlink(missing_ok=True)
            if "full" in str(error):
                raise DiskFull("no room for the envelopes", where=str(directory)) from error
            raise NodeError(f"the envelopes cannot be copied: {error}", where=str(source)) from error
        partial.chmod(0o600)
        _sync(partial)
        file = ArchivedFile(LETTERS, 0, 0, partial.stat().st_size, _digest(partial))
        partial.rename(directory / LETTERS)
        archive.commit(replace(held, letters=file))
        return replace(held, letters=file)


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return file_digest(file, "sha256").digest()


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


# --- looking at one ----------------------------------------------------------------------------


def verify_backup(directory: Path, trusted: TrustedLedger, *, progress: Progress = _untold) -> Manifest:
    """That a backup is whole, and that its blocks are the log's up to its checkpoint. About 1.5 µs a leaf.

    Every file, every leaf's hash, every checkpoint's statement; the log's rules a restore goes through.
    Raises NotFound, PeerWrong with the file or block named, NodeError, CheckpointUntrusted.
    """
    manifest, source, head = _opened(directory, trusted)
    runs = proven_runs(
        source,
        # Nothing is used before the end, so the end proves it all.
        lambda size, _: head if size == manifest.size else None,
        Tree.empty(),
        0,
        genesis=trusted.genesis,
        until=manifest.size,
        terms=Terms(linger_s=_LINGER_S),
    )
    with closing(runs):
        for run in runs:
            for one in run.blocks:
                _check_stated(one, source.name)
            progress(run.tree.size, manifest.size)
    _check_letters(directory, manifest)
    return manifest


def _opened(directory: Path, trusted: TrustedLedger) -> tuple[Manifest, ArchiveBlocks, TrustedHead]:
    manifest = read_manifest(directory)
    _check_held(manifest, directory, CheckpointJudge(trusted))
    return manifest, ArchiveBlocks(directory, manifest), TrustedHead(manifest.size, manifest.root)


def _check_letters(directory: Path, manifest: Manifest) -> None:
    file = manifest.letters
    if file is None:
        return
    path = directory / file.name
    if not path.exists() or path.stat().st_size != file.length or _digest(path) != file.sha256:
        raise PeerWrong(
            "the copy of the envelopes is missing or damaged",
            peer=str(directory),
            where=file.name,
            fix="bring it back from another copy of the backup; the log itself does not need it",
        )


# --- and back ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Restored:
    """What came of a restore. ``letters``: how many bytes of envelopes came with it."""

    size: int
    blocks: int
    root: bytes
    letters: int


def restore(
    directory: Path,
    data_dir: Path,
    trusted: TrustedLedger,
    *,
    mark_path: Path | None = None,
    may_sign: bool = False,
    progress: Progress = _untold,
    stop: threading.Event | None = None,
    free: FreeBytes = free_bytes,
    floor: int = DEFAULT_FLOOR,
) -> Restored:
    """Make a node's data directory from a backup, by the rules, as a replica would. About 9 µs a leaf.

    It gets a mark of its own, an empty one: a new member, which has neither voted nor signed, and which no
    node alone will sign with. ``may_sign``: the operator vouches that nobody has seen a newer checkpoint, and
    the mark says that this one was released here. It is made beside its place and put there when it is
    complete; interrupted, the same call goes on. Raises NodeError when there is something in its place
    already, and as :func:`verify_backup`, RulesBroken and DiskFull.
    """
    manifest, source, head = _opened(directory, trusted)
    mark_path = mark_path or default_mark_path(data_dir)
    making = data_dir.absolute().with_name(data_dir.absolute().name + _RESTORING)
    if data_dir.exists() or (mark_path.exists() and not making.exists()):
        raise NodeError(
            "there is something here already: nothing is restored over it",
            where=str(data_dir if data_dir.exists() else mark_path),
            fix="choose another directory; or move this one and its mark away, if you are sure",
        )
    _check_letters(directory, manifest)
    make_directories(making)
    store = Store(making / DATABASE_DIRECTORY)
    try:
        state: list[State | None] = [None]

        def judge(size: int, note: bytes | None) -> TrustedHead:
            if free(making) < floor:
                raise DiskFull(
                    f"{free(making) >> 20} MiB are free, {floor >> 20} must stay so",
                    where=str(making),
                    fix="free some space, and run the restore again: it goes on where it stands",
                )
            try:
                found = None if note is None else CheckpointJudge(trusted).open(note, state[0]).checkpoint
            except SudurError:
                found = None
            return head if found is None or found.size != size else TrustedHead(size, found.root)

        def reached(at: Snapshot) -> None:
            state[0] = at.state
            progress(at.head.size, manifest.size)

        at = catch_up(
            store,
            source,
            judge,
            genesis=trusted.genesis,
            until=manifest.size,
            terms=Terms(reached=reached, linger_s=_LINGER_S, stop=stop or threading.Event()),
        )
        if at is None or at.head.size < manifest.size:
            raise NotFound("stopped before all was restored", where=str(making))
        # Block by block it was proven; that it is this tree in the end, once more from what is stored.
        if (at.head.root, store.load().tree.root()) != (head.root, head.root):
            raise PeerWrong("what was restored has another root than the backup", peer=str(directory))
        store.keep_checkpoint(head.size, manifest.checkpoint)
    finally:
        store.close()
    letters = _restore_letters(directory, making, manifest)
    # The mark first: a database without one is refused from its first moment on.
    mark = Mark.create(mark_path)
    try:
        if may_sign:
            mark.keep(manifest.checkpoint)
    finally:
        mark.close()
    making.rename(data_dir)
    sync_directory(data_dir.absolute().parent)
    return Restored(head.size, manifest.blocks, head.root, letters)


def _restore_letters(directory: Path, making: Path, manifest: Manifest) -> int:
    if manifest.letters is None:
        return 0
    make_directories(making / ENVELOPE_DIRECTORY)
    target = making / ENVELOPE_DIRECTORY / ENVELOPE_FILE
    copyfile(directory / LETTERS, target)
    target.chmod(0o600)
    _sync(target)
    sync_directory(target.parent)
    return manifest.letters.length
