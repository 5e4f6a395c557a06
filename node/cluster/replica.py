"""A member's own copy of the ledger: what it prepares, applies and promises.

All that a vote rests on is decided by node/cluster/protocol.py and made durable here, in this order: the
block in the store, then the mark, then the answer. A crash between the first two leaves a store that is ahead
of its mark; the next start raises the mark before anybody hears it.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

import structlog

from ledger import rules
from ledger.checkpoints import open_checkpoint
from ledger.errors import BlockRefused, FormatError, SudurError
from ledger.rules_v1 import MAX_BLOCK_LEAVES
from ledger.state import State
from ledger.submissions import pack, unpack
from ledger.tree import Tree
from node.cluster.protocol import Readiness, applied, enter_epoch, freeze, may_apply, may_prepare
from node.errors import (
    BlockRefusedByPeer,
    Conflict,
    NoLeader,
    NotFound,
    PeerError,
    ReadOnly,
    RulesBroken,
    StoreBehindMark,
    StoreDamaged,
)
from node.head import Head, Vote
from node.journal import CandidateBlock, candidate_block
from node.mark import Mark
from node.publish import Published
from node.store import Snapshot, Store

_log: Final = structlog.get_logger("node.cluster")
_LEAF: Final = re.compile(r"leaf (\d+)")
_OLDEST_NOTE: Final = 64
"""So many blocks back a start looks for a released checkpoint; a crash loses but the newest few."""


class Replica:
    """Any thread. One at a time writes; what only looks (:attr:`vote`, :attr:`snapshot`) never waits."""

    def __init__(self, store: Store, mark: Mark) -> None:
        """Check the store against the mark, and raise the mark to it.

        Raises StoreBehindMark, StoreDamaged.
        """
        self._store = store
        self._mark = mark
        self._lock = threading.RLock()
        self._candidates: dict[bytes, CandidateBlock] = {}
        self._snapshot: Snapshot | None = None
        self._failed: Exception | None = None
        self._damage = ""
        self._busy = False
        self.halt = threading.Event()
        """Set while a catch-up is to end: at the next block it lets others have the store."""
        self._load()

    def _load(self) -> None:
        vote = self._mark.vote
        if self._store.head() is None:
            if vote.head is not None and not vote.is_frozen:
                raise StoreBehindMark(
                    f"this member has applied block {vote.head.block}, and its store is empty",
                    where=str(self._store.path),
                    fix="bring its data directory back; or make it a new member, without this mark",
                )
            self._snapshot = None
            return
        snapshot = self._store.load()
        check_vote(snapshot, vote, self._store)
        self._snapshot = snapshot
        self._candidates.clear()
        if snapshot.head.epoch == vote.epoch and vote.head != snapshot.head:
            self._mark.keep_vote(applied(vote, snapshot.head))

    # --- what it has said ---

    @property
    def vote(self) -> Vote:
        """What is durably applied and promised."""
        return self._mark.vote

    @property
    def snapshot(self) -> Snapshot | None:
        """What the store holds; None before block 0."""
        return self._snapshot

    @property
    def trouble(self) -> str:
        """Why this copy cannot be written to; empty when it can."""
        failed = self._failed
        return self._damage if failed is None else f"its store failed: {failed}"

    def root_after(self, block: int) -> tuple[int, bytes] | None:
        """(size, root) after a block that is applied here."""
        try:
            info = self._store.block(block)
        except NotFound:
            return None
        return info.size, info.root

    def body(self, number: int, digest: bytes) -> bytes | None:
        """The packed leaves of a block that is prepared or applied here."""
        held = self._store.prepared(number, digest)
        if held is not None:
            return held
        try:
            info = self._store.block(number)
        except NotFound:
            return None
        if info.digest != digest:
            return None
        return pack(self._store.leaves(info.first_index, info.size))

    # --- preparing and applying ---

    def prepare(self, parent: Head, head: Head, packed: bytes) -> Readiness:
        """Check the block that makes ``head`` of ``parent`` and hold it durably. No vote.

        READY: it is held. Raises BlockRefusedByPeer, naming the leaf, for one that breaks the rules.
        """
        with self._writing():
            readiness = may_prepare(self.vote, parent)
            if readiness is not Readiness.READY:
                return readiness
            self._hold(self._built(head, packed))
            return Readiness.READY

    def hold(self, block: CandidateBlock) -> None:
        """The same for a block that this member has built itself. Raises Conflict."""
        with self._writing():
            self._hold(block)

    def _hold(self, block: CandidateBlock) -> None:
        known = self._candidates.get(block.head.digest)
        if known is None or known.head != block.head:
            self._store.prepare(block.head, block.packed)
            self._candidates[block.head.digest] = block

    def apply(self, head: Head) -> Readiness:
        """Apply a decided block that is held here: the vote. Durable, with the mark, when this returns.

        DONE: it is applied, now or before. BEHIND: blocks before it, or its bytes, are missing here.
        """
        with self._writing():
            readiness = may_apply(self.vote, head)
            if readiness is not Readiness.READY:
                return readiness
            block = self._candidates.get(head.digest)
            if block is None or block.head != head:
                packed = self._store.prepared(head.block, head.digest)
                if packed is None:
                    return Readiness.BEHIND
                block = self._built(head, packed)
            self._apply(block)
            return Readiness.DONE

    def apply_body(self, head: Head, packed: bytes) -> None:
        """Apply a decided block whose bytes came from elsewhere; ``head`` fixes them by its digest.

        Raises BlockRefusedByPeer, Conflict.
        """
        with self._writing():
            readiness = may_apply(self.vote, head)
            if readiness is Readiness.DONE:
                return
            if readiness is not Readiness.READY:
                raise Conflict(f"block {head.block} does not follow what is applied here", where="replica")
            self._apply(self._built(head, packed))

    def found(self, genesis_leaf: bytes, head: Head) -> None:
        """Apply block 0, which ``genesis_leaf`` makes, as ``head``. Raises what rules.genesis raises."""
        with self._writing():
            if self._snapshot is not None:
                return
            transition = rules.genesis(genesis_leaf)
            block = candidate_block(None, Tree.empty(), transition, pack(transition.leaves))
            if not block.head.same_tree(head):
                raise Conflict("block 0 in etcd is not what this genesis makes", where="genesis")
            self._apply(replace(block, head=head))

    def _apply(self, block: CandidateBlock) -> None:
        self._store.apply(block)
        self._mark.keep_vote(applied(self.vote, block.head))
        self._snapshot = Snapshot(block.head, block.transition.state, block.tree)
        self._candidates.clear()

    def _built(self, head: Head, packed: bytes) -> CandidateBlock:
        """The block that makes ``head`` on top of what is applied. Raises BlockRefusedByPeer."""
        known = self._candidates.get(head.digest)
        if known is not None and known.head == head:
            return known
        snapshot = self._snapshot
        assert snapshot is not None
        try:
            leaves = unpack(packed, most=MAX_BLOCK_LEAVES)
            transition = rules.apply(snapshot.state, self._store, leaves)
        except (BlockRefused, FormatError) as error:
            raise _refused(error) from error
        block = candidate_block(snapshot.head, snapshot.tree, transition, packed, members=head.members)
        if block.head != head:
            raise BlockRefusedByPeer(
                f"it leads to another head than its leader says: {_difference(block.head, head)}", leaf=None
            )
        return block

    # --- epochs ---

    def freeze(self, epoch: int) -> Vote:
        """Vote no more before ``epoch`` is opened; durable when this returns. A later one stands."""
        self.halt.set()
        try:
            return self._freeze(epoch)
        finally:
            self.halt.clear()

    def _freeze(self, epoch: int) -> Vote:
        with self._writing():
            self._mark.keep_vote(freeze(self.vote, epoch))
            return self.vote

    def enter(self, head: Head) -> None:
        """Vote in the epoch that ``head`` opened, whose whole chain is here. Raises Conflict."""
        with self._writing():
            entered = enter_epoch(self.vote, head)  # It may be frozen for a later one by now.
            self._store.adopt(head)
            self._mark.keep_vote(entered)
            snapshot = self._snapshot
            assert snapshot is not None
            self._snapshot = replace(snapshot, head=head)
            self._candidates.clear()

    def bear(self, head: Head) -> None:
        """Bear the head that the cluster gave to the very chain that is here. Raises Conflict."""
        with self._writing():
            if self.vote.is_frozen or self.vote.epoch != head.epoch:
                raise Conflict("this member votes in another epoch", where="replica")
            self._store.adopt(head)
            self._mark.keep_vote(replace(self.vote, head=head))
            snapshot = self._snapshot
            assert snapshot is not None
            self._snapshot = replace(snapshot, head=head)
            self._candidates.clear()

    def abandon(self, head: Head) -> None:
        """Give up a chain that a later epoch, opened with ``head``, did not keep, and begin with none.

        The store is put aside, not deleted. The vote stays, frozen for that epoch, until the epoch is
        entered with its whole chain: as long as it is not on a majority's disks, another reseed may
        have to count it, and the store beside this one may have to be brought back.
        """
        with self._writing():
            self._mark.keep_vote(freeze(self.vote, head.epoch))
            self._store.begin_anew()
            self._snapshot = None
            self._candidates.clear()

    def know_members(self, members: bytes) -> None:
        """Remember the list of members, for a day when etcd has lost it. Durable; cheap when it is known."""
        with self._writing():
            if self.vote.members != members:
                self._mark.keep_vote(replace(self.vote, members=members))

    # --- catching up ---

    @contextmanager
    def catching_up(self, epoch: int) -> Iterator[Callable[[Snapshot], None]]:
        """Have the store for oneself; call what is given with each snapshot that is durable.

        What is asked of this member meanwhile is answered BEHIND at once. Raises Conflict when it was frozen
        for a later epoch than the blocks', since etcd was read: then what it has reported stands.
        """
        with self._writing():
            if epoch < max(self.vote.epoch, self.vote.frozen):
                raise Conflict(f"this member waits for epoch {self.vote.frozen}", where="replica")
            self._busy = True
            try:
                yield self._reached
            except (PeerError, RulesBroken, NoLeader):
                raise  # all that was written until then is known here
            except Exception as error:
                self._failed = error  # what was written shows when the store is opened anew
                raise
            finally:
                self._busy = False

    def _reached(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._candidates.clear()
        if snapshot.head.epoch == self.vote.epoch:
            self._mark.keep_vote(applied(self.vote, snapshot.head))

    @property
    def is_catching_up(self) -> bool:
        """Whether blocks are being fetched."""
        return self._busy

    # --- what is released ---

    def newest_released(self) -> Published | None:
        """The newest block whose signed checkpoint is here, at a start."""
        snapshot = self._snapshot
        if snapshot is None:
            return None
        for number in range(snapshot.head.block, max(-1, snapshot.head.block - _OLDEST_NOTE), -1):
            try:
                note = self._store.checkpoint(self._store.block(number).size)
                held = snapshot if number == snapshot.head.block else self._store.load(number)
            except NotFound:
                continue
            except StoreDamaged:
                # The newest was loaded whole; of one before it, lists that were replaced may be gone by now.
                return None
            return Published(held.head, note, held.state, held.tree)
        return None

    def released(self, head: Head, note: bytes) -> Published | None:
        """Keep a signed checkpoint; what to publish, when it is of the newest block here.

        Raises VerificationError when no key of the log signed it, Conflict when it is of another tree.
        """
        with self._writing():
            snapshot = self._snapshot
            if snapshot is None or self.root_after(head.block) is None:
                return None
            self._check_note(snapshot.state, head, note)
            self._store.keep_checkpoint(head.size, note)
            if snapshot.head.block != head.block:
                return None
            return Published(snapshot.head, note, snapshot.state, snapshot.tree)

    def keep_checkpoint(self, size: int, note: bytes) -> None:
        """Store a checkpoint that this member has signed."""
        with self._writing():
            self._store.keep_checkpoint(size, note)

    def _check_note(self, state: State, head: Head, note: bytes) -> None:
        record = state.registry.ledger
        found = open_checkpoint(note, record.origin, record.log_keys_at(head.size)).checkpoint
        if (found.size, found.root) != self.root_after(head.block):
            raise Conflict(f"the checkpoint of size {found.size} is not of this chain", where="checkpoint")

    # --- a store that failed ---

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._lock:
            if self._failed is not None:
                self._recover()
            try:
                yield
            except StoreDamaged as error:
                if not self._damage:
                    _log.error("store damaged", error=str(error), fix=error.fix)
                self._damage = str(error)
                raise
            except (SudurError, AssertionError):
                raise
            except Exception as error:
                # The store or the mark: whether it was written shows when they are opened anew.
                self._failed = error
                raise ReadOnly(f"this member's store failed: {error}", where=str(self._store.path)) from error

    def _recover(self) -> None:
        failed = self._failed
        try:
            self._store.reopen()
            self._load()
        except Exception as error:
            raise ReadOnly(
                f"this member's store failed and cannot be opened: {error}",
                where=str(self._store.path),
                fix="see the node's log; run `sudur node fsck`",
            ) from failed
        self._failed = None


def check_vote(snapshot: Snapshot, vote: Vote, store: Store) -> None:
    """Refuse to go on with a store that is behind, or other than, what this member has voted for.

    A store of a later epoch than its mark's is on the way there, and may be on another chain.
    """
    head = vote.head
    if head is None or snapshot.head.epoch > vote.epoch:
        return
    if snapshot.head.ledger != head.ledger:
        raise StoreBehindMark("the mark is another ledger's", where=str(store.path))
    if snapshot.head.block < head.block:
        raise StoreBehindMark(
            f"this member has applied block {head.block}, its store ends at block {snapshot.head.block}",
            where=str(store.path),
            fix="bring its newest data directory back; or make it a new member: move data and mark away, and"
            " have it replaced (docs/operations.md)",
        )
    info = store.block(head.block)
    if (info.size, info.root) != (head.size, head.root):
        raise StoreBehindMark(
            f"block {head.block} of the store is not the one that this member has applied",
            where=str(store.path),
            fix="bring its newest data directory back",
        )


def _refused(error: BlockRefused | FormatError) -> BlockRefusedByPeer:
    found = _LEAF.search(error.where)
    return BlockRefusedByPeer(
        str(error), leaf=int(found[1]) if found else None, where=error.where, fix=error.fix
    )


def _difference(found: Head, said: Head) -> str:
    names = [name for name in Head.__slots__ if getattr(found, name) != getattr(said, name)]
    return ", ".join(names)
