"""How a block becomes part of the ledger: one function, in order, with what a crash means at each step.

Two rules stand behind the order. A checkpoint leaves the node only for what is durable here. And it
leaves only once the mark outside of the database can tell that it did.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from ledger.checkpoints import Checkpoint, log_key, open_checkpoint, sign_checkpoint
from ledger.errors import SudurError
from ledger.notes import VerifierKey
from ledger.signatures import Signer
from ledger.state import State, Transition
from ledger.submissions import pack
from ledger.tree import Tree
from node.errors import NodeError, StoreBehindMark, StoreDamaged
from node.head import Head
from node.journal import Journal, candidate_block
from node.mark import Mark
from node.publish import Published
from node.store import Snapshot, Store

Observe = Callable[[str, float], None]
"""Is told the name of a step and the seconds that it took."""
STEPS: Final = ("build", "append", "apply", "verify", "sign", "mark", "checkpoint")
"""The steps of a commit, in order."""


def unobserved(step: str, seconds: float) -> None:
    """For a committer that nobody watches."""


class Committer:
    """Commits blocks and releases checkpoints. One thread at a time: the sequencer's.

    ``snapshot`` is the committed ledger that the next block is built on; ``published`` the newest
    released one. They differ only within :meth:`commit`, and after a failure until :meth:`recover`.
    """

    def __init__(
        self,
        store: Store,
        journal: Journal,
        mark: Mark,
        signers: Sequence[Signer],
        observe: Observe = unobserved,
    ) -> None:
        """Check the store against itself and the mark, and release what a crash left unreleased.

        ``observe`` is called after each of the :data:`STEPS`, on the committing thread.

        Raises StoreDamaged, StoreBehindMark, NotFound for a store without a ledger, NodeError when
        no signer is a key of this log.
        """
        self._store = store
        self._journal = journal
        self._mark = mark
        self._observe = observe
        self.snapshot = store.load()
        self._keys = LogKeys(self.snapshot.state.registry.ledger.origin, signers)
        check_mark(self.snapshot, store, mark, self._keys.verifiers)
        self.published = self._release(self.snapshot)

    def commit(self, transition: Transition, packed: bytes) -> Published:
        """Commit one valid block, whose packed leaves are ``packed``, and release its checkpoint.

        Any error leaves the outcome unknown; :meth:`recover` before the next block. (Conflict: the
        block was not committed, and the head is another than was thought.)
        """
        before = self.snapshot
        # Build. Nothing is written yet: a crash loses work that nobody was told of.
        with self._step("build"):
            block = candidate_block(before.head, before.tree, transition, packed)

        # Decide. A crash before this returns leaves the block committed or not; whichever, callers
        # have no answer yet, and one who asks again gets the placement that the log holds.
        with self._step("append"):
            head = self._journal.append(before.head, block)

        # Remember. On one node alone the journal's batch has done this already. A crash from here
        # on loses nothing: the block is found at the next start, checked, and released there.
        with self._step("apply"):
            self._store.apply(block)
        self.snapshot = Snapshot(head, transition.state, block.tree)

        self.published = self._release(self.snapshot)
        return self.published

    def recover(self) -> Published:
        """Go on after an error: reopen the store, load what is there, release it as a start would.

        Raises what a start raises; then nothing may be committed, and this is to be called again.
        """
        self._store.reopen()
        self.snapshot = self._store.load()
        check_mark(self.snapshot, self._store, self._mark, self._keys.verifiers)
        self.published = self._release(self.snapshot)
        return self.published

    def _release(self, snapshot: Snapshot) -> Published:
        """The second half of a commit; a start, and a recovery, do the same for the newest block."""
        head = snapshot.head

        # Verify. What is signed is recomputed from the tiles as they are stored: a bit that flipped
        # on the way there must not become the log's word.
        with self._step("verify"):
            root = self._store.tree_at(head.size).root()
        if root != head.root:
            raise StoreDamaged(
                f"the stored tiles of size {head.size} do not have the root that was committed",
                where="store",
                fix="run `sudur node fsck --repair`; if it happens again, replace the machine",
            )

        # Sign. The note stays in memory: a crash here loses a signature that nobody has seen.
        with self._step("sign"):
            note = self._keys.sign(snapshot.state, head)

        # Keep the mark, durably. From here on this node will not start on a store that holds less.
        # A crash behind it: the start signs the same bytes again.
        with self._step("mark"):
            self._mark.keep(note)

        # Store the checkpoint under its size. Synced with the next block; until then a crash costs
        # only that the start stores it again.
        with self._step("checkpoint"):
            self._store.keep_checkpoint(head.size, note)

        # Release: whoever takes the new snapshot may be told everything that it covers.
        return Published(head, note, snapshot.state, snapshot.tree)

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self._observe(name, time.perf_counter() - started)


def check_mark(snapshot: Snapshot, store: Store, mark: Mark, own: Sequence[VerifierKey]) -> None:
    """Refuse to go on with a store that is behind, or other than, what this node has released.

    ``own``: this node's keys, which a store that fell behind may not have registered yet.

    Raises StoreBehindMark, StoreDamaged when the mark is not this log's.
    """
    head = snapshot.head
    if mark.note is None:
        if head.block == 0:
            return
        raise StoreBehindMark(
            f"the mark is empty, but the store holds {head.size} leaves: they are not of one node",
            where=str(mark.path),
            fix="put this node's own mark file back beside its data directory",
        )
    record = snapshot.state.registry.ledger
    keys = [*(VerifierKey.parse(one.vkey) for one in record.log_keys), *own]
    try:
        marked = open_checkpoint(mark.note, record.origin, keys).checkpoint
    except SudurError as error:
        raise StoreDamaged(
            f"its checkpoint is not one of this log: {error}",
            where=str(mark.path),
            fix="put this node's own mark file back beside its data directory",
        ) from error
    if head.size < marked.size:
        raise StoreBehindMark(
            f"this node has signed a tree of {marked.size} leaves, the store holds {head.size}:"
            " it is an older copy, or has lost its end",
            where=str(store.path),
            fix=_BEHIND,
        )
    try:
        root = store.tree_at(marked.size).root()
    except SudurError as error:
        raise StoreDamaged(
            f"the tree of {marked.size} leaves, which this node has signed, cannot be put together: {error}",
            where=str(store.path),
            fix="run `sudur node fsck`; restore the data directory from a replica",
        ) from error
    if root != marked.root:
        raise StoreBehindMark(
            f"the first {marked.size} leaves of the store are not those that this node has signed",
            where=str(store.path),
            fix=_BEHIND,
        )


_BEHIND: Final = (
    "bring back the newest data directory, or copy it from a replica that is complete; signing from"
    " here would fork the log, so do not delete the mark"
)


class LogKeys:
    """This node's signing keys, each with the verifier key under which the registry knows it."""

    def __init__(self, origin: str, signers: Sequence[Signer]) -> None:
        self.origin = origin
        self.verifiers = tuple(log_key(origin, signer.public_key) for signer in signers)
        self._signers = tuple(zip((key.format() for key in self.verifiers), signers, strict=True))

    def sign(self, state: State, head: Head) -> bytes:
        """The signed checkpoint of a head, by each key that the registry lets sign that size.

        Raises NodeError when there is none.
        """
        usable = {
            key.vkey
            for key in state.registry.ledger.log_keys
            if key.last_size is None or head.size <= key.last_size
        }
        signers = [signer for vkey, signer in self._signers if vkey in usable]
        if not signers:
            raise NodeError(
                f"none of the {len(self._signers)} keys given may sign size {head.size} of {self.origin}",
                where="log key",
                fix="start the node with the key file that was made with this ledger",
            )
        return sign_checkpoint(Checkpoint(self.origin, head.size, head.root), signers)


def found_ledger(store: Store, journal: Journal, transition: Transition) -> None:
    """Commit block 0 to a new store. Raises NodeError when the store holds a ledger already."""
    if store.head() is not None:
        raise NodeError(
            "there is a ledger here already", where=str(store.path), fix="start the node without a genesis"
        )
    block = candidate_block(None, Tree.empty(), transition, pack(transition.leaves))
    journal.append(None, block)
    store.apply(block)
