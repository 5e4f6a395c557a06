"""The heart of a node alone: store, journal, mark, committer, sequencer and proofs, opened together."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ledger import rules
from ledger.rules_v1 import CLAIMED_FUTURE_MS
from ledger.signatures import Signer
from ledger.state import State
from node.clock import Clock, SystemClock, seal_time
from node.commit import Committer, LogKeys, Observe, found_ledger, unobserved
from node.copies import SingleCopy
from node.cosigning.first_signature import Held
from node.database import Database
from node.disk import FreeBytes, free_bytes, make_directories, sync_directory
from node.errors import ClockUnsound, NodeError, NotFound, StoreBehindMark
from node.journal import EmbeddedJournal
from node.ledger_copy import LedgerCopy
from node.mark import Mark
from node.proofs import Proofs
from node.publish import Publications
from node.sequencer import Sequencer, SequencerSettings
from node.store import Store

DATABASE_DIRECTORY = "db"


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """``free``, ``database`` and ``sync_mark`` are how the node reaches the disk; tests put theirs there.

    ``observe`` is told how long each step of each commit took (node/commit.py). ``before_signing`` raises
    what is against the first signature (node/cosigning/first_signature.py).
    """

    sequencer: SequencerSettings = field(default_factory=SequencerSettings)
    free: FreeBytes = free_bytes
    database: Callable[[Path], Database] = Database
    sync_mark: Callable[[int], None] = os.fdatasync
    observe: Observe = unobserved
    before_signing: Callable[[Held, Proofs], None] = lambda held, proofs: None


class LedgerNode(LedgerCopy):
    """A node alone. :meth:`create` or :meth:`open` it, then ``sequencer.start()``; :meth:`close` it."""

    def __init__(self, store: Store, mark: Mark, committer: Committer, sequencer: Sequencer) -> None:
        super().__init__(store, sequencer.publications)
        self.sequencer = sequencer
        self.committer = committer
        self._mark = mark

    @classmethod
    def create(
        cls,
        data_dir: Path,
        genesis_leaf: bytes,
        signers: Sequence[Signer],
        *,
        mark_path: Path | None = None,
        clock: Clock | None = None,
        settings: NodeSettings | None = None,
    ) -> LedgerNode:
        """Begin a ledger: block 0, the genesis change and its seal. A crash here: call it again.

        Raises NodeError when there is a ledger already, or the genesis names none of the signers'
        keys; StoreBehindMark when the mark says that one was lost; and as :meth:`open`.
        """
        clock = clock or SystemClock()
        settings = settings or NodeSettings()
        transition = rules.genesis(genesis_leaf)
        _check_keys(transition.state, signers)
        if transition.state.time_ms > seal_time(clock, 0) + CLAIMED_FUTURE_MS:
            raise ClockUnsound(
                "the genesis was made later than this clock says it is now", fix="set the clock and try again"
            )
        mark_path = mark_path or default_mark_path(data_dir)
        make_directories(data_dir)
        # The mark first: a database without one is refused from its first moment on.
        mark = Mark.create(mark_path, sync=settings.sync_mark)
        try:
            store = Store(data_dir / DATABASE_DIRECTORY, database=settings.database)
            try:
                _check_alone(store, mark)
                if store.head() is None and (mark.note is not None or mark.vote.head is not None):
                    raise StoreBehindMark(
                        "this node has released checkpoints of a ledger that is not here any more",
                        where=str(mark.path),
                        fix="bring its data directory back; for a new ledger choose a new place",
                    )
                # Made by an attempt that a crash ended, they may not be durable yet.
                sync_directory(data_dir)
                sync_directory(data_dir.absolute().parent)
                found_ledger(store, EmbeddedJournal(store), transition)
                return cls._assemble(data_dir, store, mark, signers, clock, settings)
            except BaseException:
                store.close()
                raise
        except BaseException:
            mark.close()
            raise

    @classmethod
    def open(
        cls,
        data_dir: Path,
        signers: Sequence[Signer],
        *,
        mark_path: Path | None = None,
        clock: Clock | None = None,
        settings: NodeSettings | None = None,
    ) -> LedgerNode:
        """Open a node with all the checks of a start, and release what a crash left unreleased.

        No scan: well under 2 s at 10 million leaves. Raises NotFound when no ledger was begun here,
        DataInUse, StoreDamaged, StoreBehindMark (the mark file missing included), NodeError for keys
        that are not this log's.
        """
        settings = settings or NodeSettings()
        if not holds_database(data_dir):
            raise NotFound("no ledger was begun here", where=str(data_dir), fix="start it with --genesis")
        try:
            mark = Mark.open(mark_path or default_mark_path(data_dir), sync=settings.sync_mark)
        except NotFound as error:
            raise StoreBehindMark(
                "there is a data directory, but not the mark of what this node has signed",
                where=str(mark_path or default_mark_path(data_dir)),
                fix="bring the mark file back to its place, or name it with --mark; without it nobody can"
                " tell whether this copy is the newest",
            ) from error
        try:
            store = Store(data_dir / DATABASE_DIRECTORY, database=settings.database)
            try:
                if store.head() is None and mark.note is None:
                    raise NotFound(
                        "no ledger was begun here", where=str(data_dir), fix="start it with --genesis"
                    )
                return cls._assemble(data_dir, store, mark, signers, clock or SystemClock(), settings)
            except BaseException:
                store.close()
                raise
        except BaseException:
            mark.close()
            raise

    @classmethod
    def _assemble(
        cls,
        data_dir: Path,
        store: Store,
        mark: Mark,
        signers: Sequence[Signer],
        clock: Clock,
        settings: NodeSettings,
    ) -> LedgerNode:
        _check_alone(store, mark)
        if store.head() is None:
            raise StoreBehindMark(
                "this node has released checkpoints, but the store is empty",
                where=str(data_dir),
                fix="bring its data directory back, or copy it from a replica",
            )
        held = _held(store, mark, signers)
        if held is not None:
            settings.before_signing(held, Proofs(store))
        committer = Committer(
            store, EmbeddedJournal(store), SingleCopy(store, mark), signers, settings.observe
        )
        sequencer = Sequencer(
            store,
            committer,
            clock,
            settings.sequencer,
            Publications(committer.published),
            disk_path=data_dir,
            free=settings.free,
        )
        return cls(store, mark, committer, sequencer)

    def close(self) -> None:
        """Stop the sequencer and close everything. Closing twice is no error."""
        self.sequencer.stop()
        self.store.close()
        self._mark.close()


def default_mark_path(data_dir: Path) -> Path:
    """Beside the data directory and not in it: a copy of the directory must not bring its own mark.

    Beside the directory itself, by whatever name or link it is called. Raises NodeError for ``/``.
    """
    directory = data_dir.resolve()
    if not directory.name:
        raise NodeError(
            "nothing is beside it that could hold the mark",
            where=str(data_dir),
            fix="choose a directory of its own for the data",
        )
    return directory.with_name(directory.name + ".mark")


def holds_database(data_dir: Path) -> bool:
    """Whether there is a database at all; a ledger in it is for :meth:`LedgerNode.open` to find."""
    return (data_dir / DATABASE_DIRECTORY / "CURRENT").exists()


def _check_alone(store: Store, mark: Mark) -> None:
    """Refuse what belongs to a member of a cluster, or to a mirror: others decide without it, and it would
    fork the log.

    A mark that shows a checkpoint is no leave: a node that was alone has one, before it became a member.
    """
    head = store.head()
    if mark.vote.members or mark.vote.frozen or (head is not None and head.members):
        raise NodeError(
            "this is a member of a cluster: alone it would sign what the others know nothing of",
            where=str(mark.path),
            fix="start it with --journal, --name and --peer, as before; of a cluster that is lost make one of"
            " a single member (`sudur node reseed --survivors-only`)",
        )
    if mark.note is not None and not mark.signed:
        raise NodeError(
            "this is a mirror's copy, which may lack what was answered last: to sign from it forks the log",
            where=str(mark.path),
            fix="follow with it (--follow). Only when nobody has a newer checkpoint, back it up, and restore"
            " that with --sign-from-here",
        )


def _held(store: Store, mark: Mark, signers: Sequence[Signer]) -> Held | None:
    """What was signed already: the mark has each signature before anybody else.

    Where it has none yet, the ledger has just begun: its first checkpoint follows from the genesis, and is
    no new word of the log however often it is signed. None for a store that is not this mark's.
    """
    snapshot = store.load()
    record = snapshot.state.registry.ledger
    note = mark.note
    if note is None:
        if snapshot.head.block:
            return None
        note = LogKeys(record.origin, signers).sign(snapshot.state, snapshot.head)
    return Held(note, snapshot.head.size, record)


def _check_keys(state: State, signers: Sequence[Signer]) -> None:
    """That this node can sign block 0. Raises NodeError."""
    record = state.registry.ledger
    keys = LogKeys(record.origin, signers)
    if set(keys.verifiers).isdisjoint(record.log_keys_at(state.size)):
        raise NodeError(
            "the genesis names none of the log keys given",
            where="log key",
            fix="use the log key files that were made with this genesis",
        )
    keys.able(record, state.size)
