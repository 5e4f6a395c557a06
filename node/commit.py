"""How a block becomes part of the ledger: one function, in order, with what a crash means at each step.

Two rules stand behind the order. A checkpoint leaves the node only for what is durable: here, and in a
cluster on a majority. And it leaves only once the marks outside of the databases can tell that it did.
The same order serves a node alone and the leader of a cluster; what differs is which journal decides
(node/journal.py) and how many copies there are (node/copies.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from ledger.checkpoints import Checkpoint, log_key, sign_checkpoint
from ledger.errors import ChangeRefused
from ledger.notes import VerifierKey
from ledger.registry_records import LedgerRecord
from ledger.signatures import Signer
from ledger.state import State, Transition
from ledger.submissions import pack
from ledger.tree import Tree
from node.copies import Copies
from node.errors import NodeError, OutcomeUnknown, StoreDamaged
from node.head import Head
from node.journal import CandidateBlock, Journal, candidate_block
from node.publish import Published
from node.store import Snapshot, Store

Observe = Callable[[str, float], None]
"""Is told the name of a step and the seconds that it took."""
STEPS: Final = (
    "build",
    "prepare",
    "append",
    "apply",
    "confirm",
    "verify",
    "sign",
    "mark",
    "checkpoint",
)
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
        copies: Copies,
        signers: Sequence[Signer],
        observe: Observe = unobserved,
    ) -> None:
        """Check the store against itself and the mark, and release what a crash left unreleased.

        ``observe`` is called after each of the :data:`STEPS`, failed ones too, on the committing thread.

        Raises StoreDamaged, StoreBehindMark, NotFound for a store without a ledger, NodeError when
        no signer is a key of this log, RetryableError when too few copies answer.
        """
        self._store = store
        self._journal = journal
        self._copies = copies
        self._observe = observe
        self._undecided: tuple[Head, CandidateBlock] | None = None
        self.snapshot = store.load()
        self._keys = LogKeys(self.snapshot.state.registry.ledger.origin, signers)
        copies.check(self.snapshot, self._keys.verifiers)
        self.published = self._release(self.snapshot)

    def commit(self, transition: Transition, packed: bytes) -> Published:
        """Commit one valid block, whose packed leaves are ``packed``, and release its checkpoint.

        Any error leaves the outcome unknown; :meth:`recover` before the next block. (Conflict: the
        block was not committed, and the head is another than was thought.)
        """
        before = self.snapshot
        # Build. Nothing is written yet: a crash loses work that nobody was told of.
        with self._step("build"):
            members = self._copies.members
            block = candidate_block(before.head, before.tree, transition, packed, members=members)

        # Prepare. A majority holds the bytes, so that what is decided can be had. Preparing decides
        # nothing: a crash leaves bodies behind that go once their number is applied.
        with self._step("prepare"):
            self._copies.prepare(before.head, block)

        # Decide. A crash before this returns leaves the block committed or not; whichever, callers
        # have no answer yet, and one who asks again gets the placement that the log holds.
        with self._step("append"):
            head = self._append(before.head, block)

        # Remember. On one node alone the journal's batch has done this already. A crash from here
        # on loses nothing: the block is found at the next start, checked, and released there.
        with self._step("apply"):
            self._copies.apply(block)
        self.snapshot = Snapshot(head, transition.state, block.tree)

        self.published = self._release(self.snapshot)
        return self.published

    def check_log_key(self, vkey: str) -> None:
        """That this node can sign under a log key that is to be added. Raises as LogKeys.check_added."""
        self._keys.check_added(vkey)

    def recover(self) -> Published:
        """Go on after an error: have the store hold what was decided, and release it as a start would.

        Raises what a start raises; then nothing may be committed, and this is to be called again. Raises
        Conflict when somebody else has decided a block: then never again.
        """
        if self._undecided is not None:
            # The identical block, never one that was built anew: the first may still come through.
            self._append(*self._undecided)
        self._copies.recover()
        self.snapshot = self._store.load()
        self._copies.check(self.snapshot, self._keys.verifiers)
        self.published = self._release(self.snapshot)
        return self.published

    def _append(self, parent: Head, block: CandidateBlock) -> Head:
        """Have the journal decide, and remember the block for as long as nobody knows whether it did."""
        try:
            head = self._journal.append(parent, block)
        except OutcomeUnknown:
            self._undecided = parent, block
            raise
        except Exception:
            self._undecided = None
            raise
        self._undecided = None
        return head

    def _release(self, snapshot: Snapshot) -> Published:
        """The second half of a commit; a start, and a recovery, do the same for the newest block."""
        head = snapshot.head

        # Confirm. In a cluster applying is the vote: what a majority has applied, no majority that is
        # heard later can be without. Nobody has been told anything yet.
        with self._step("confirm"):
            self._copies.confirm(head)

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
        # A crash behind it: the start signs the same tree again (ML-DSA-44 with other bytes).
        with self._step("mark"):
            self._copies.keep(note)

        # Store the checkpoint under its size. Synced with the next block; until then a crash costs
        # only that the start stores it again.
        with self._step("checkpoint"):
            self._copies.keep_checkpoint(head.size, note)

        # Release: whoever takes the new snapshot may be told everything that it covers.
        self._copies.release(head, note)
        return Published(head, note, snapshot.state, snapshot.tree)

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self._observe(name, time.perf_counter() - started)


class LogKeys:
    """This node's signing keys, each with the verifier key under which the registry knows it."""

    def __init__(self, origin: str, signers: Sequence[Signer]) -> None:
        self.origin = origin
        self.verifiers = tuple(log_key(origin, one.public_key, one.algorithm) for one in signers)
        self._signers = tuple(zip(self.verifiers, signers, strict=True))

    def sign(self, state: State, head: Head) -> bytes:
        """The signed checkpoint of a head, by each key that the registry lets sign that size.

        About 20 µs, and 0.7 ms with an ML-DSA-44 key. Raises NodeError as :meth:`able`.
        """
        signers = self.able(state.registry.ledger, head.size)
        return sign_checkpoint(Checkpoint(self.origin, head.size, head.root), signers)

    def able(self, record: LedgerRecord, size: int) -> list[Signer]:
        """The keys given that are in force for ``size``, at least one of each type that the log has then.

        A checkpoint without a signature that verifiers ask for must not be released. Raises NodeError.
        """
        listed = record.log_keys_at(size)
        able = [(key, signer) for key, signer in self._signers if key in listed]
        missing = {key.type for key in listed} - {key.type for key, _ in able}
        if missing:
            names = " and no ".join(sorted(kind.algorithm.label for kind in missing))
            raise NodeError(
                f"no {names} key of the {len(self._signers)} given may sign size {size} of {self.origin}",
                where="log key",
                fix="start the node with the log key files that this ledger has registered",
            )
        return [signer for _, signer in able]

    def check_added(self, vkey: str) -> None:
        """Refuse a log key of a type that this node has none of: it could sign no checkpoint after it.

        Raises ChangeRefused; FormatError for what is no verifier key.
        """
        added = VerifierKey.parse(vkey)
        if added.type not in {key.type for key in self.verifiers}:
            raise ChangeRefused(
                f"this node has no {added.algorithm.label} log key: after this it could sign no checkpoint",
                where="change",
                fix="start every node with it first (sudur node start --log-key FILE), then register it",
            )


def found_ledger(store: Store, journal: Journal, transition: Transition) -> None:
    """Commit block 0 to a new store. Raises NodeError when the store holds a ledger already."""
    if store.head() is not None:
        raise NodeError(
            "there is a ledger here already", where=str(store.path), fix="start the node without a genesis"
        )
    block = candidate_block(None, Tree.empty(), transition, pack(transition.leaves))
    journal.append(None, block)
    store.apply(block)
