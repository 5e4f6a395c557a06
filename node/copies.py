"""The copies that a commit writes to: of a node alone its own store, of a cluster also those of others.

The commit itself (node/commit.py) is the same for both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from ledger.checkpoints import open_signed_by_any
from ledger.errors import SudurError
from ledger.notes import VerifierKey
from node.errors import StoreBehindMark, StoreDamaged
from node.head import Head
from node.journal import CandidateBlock
from node.mark import Mark
from node.store import Snapshot, Store


class Copies(Protocol):
    """Called by the committing thread, in the order of a commit.

    *Durability*: what a method says is durable when it returns. *Errors*: RetryableError when too few
    copies answer; what a store raises leaves the outcome of that step unknown, until :meth:`recover`.
    """

    @property
    def members(self) -> int:
        """The version of the list of members; 0 for a node alone."""
        ...

    def prepare(self, parent: Head, block: CandidateBlock) -> None:
        """Put the block's bytes on a majority, this node's among them. It may still never be decided."""
        ...

    def apply(self, block: CandidateBlock) -> None:
        """Apply a decided block here. Applying it again does nothing."""
        ...

    def confirm(self, head: Head) -> None:
        """Return once a majority, this node among them, has applied ``head``: then it cannot be lost."""
        ...

    def keep(self, note: bytes) -> None:
        """Remember, outside of the store, what is about to be released."""
        ...

    def keep_checkpoint(self, size: int, note: bytes) -> None:
        """Store a signed checkpoint here. Synced with the next block; a lost one is signed again."""
        ...

    def release(self, head: Head, note: bytes) -> None:
        """Tell the others of a signed checkpoint; does not wait for them."""
        ...

    def recover(self) -> None:
        """After an error: have the own store hold what the journal has decided, and nothing else.

        Raises Conflict when that is a block which this node did not build.
        """
        ...

    def check(self, snapshot: Snapshot, own: Sequence[VerifierKey]) -> None:
        """Refuse to go on with a store that is behind, or other than, what this node said of it."""
        ...


class SingleCopy:
    """The one copy of a node alone: the journal's batch has written everything already."""

    members: Final = 0

    def __init__(self, store: Store, mark: Mark) -> None:
        self._store = store
        self._mark = mark

    def prepare(self, parent: Head, block: CandidateBlock) -> None:
        """See :class:`Copies`."""

    def apply(self, block: CandidateBlock) -> None:
        """See :class:`Copies`."""
        self._store.apply(block)

    def confirm(self, head: Head) -> None:
        """See :class:`Copies`."""

    def keep(self, note: bytes) -> None:
        """See :class:`Copies`."""
        self._mark.keep(note)

    def keep_checkpoint(self, size: int, note: bytes) -> None:
        """See :class:`Copies`."""
        self._store.keep_checkpoint(size, note)

    def release(self, head: Head, note: bytes) -> None:
        """See :class:`Copies`."""

    def recover(self) -> None:
        """See :class:`Copies`: a store whose write failed is to be opened anew."""
        self._store.reopen()

    def check(self, snapshot: Snapshot, own: Sequence[VerifierKey]) -> None:
        """See :class:`Copies`."""
        check_mark(snapshot, self._store, self._mark, own)


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
    keys = {VerifierKey.parse(one.vkey) for one in record.log_keys} | set(own)
    try:
        marked = open_signed_by_any(mark.note, record.origin, tuple(keys)).checkpoint
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
