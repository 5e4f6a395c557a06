"""The copies of a cluster, as the commit of its leader writes to them: its own replica, and its peers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ledger.leaves import NONE
from ledger.notes import VerifierKey
from node.cluster.errors import NoMajority
from node.cluster.peers import PeerLink, Peers, Quorum
from node.cluster.protocol import Readiness, majority
from node.cluster.replica import Replica
from node.errors import BlockRefusedByPeer, Conflict, PeerError
from node.head import Head
from node.journal import CandidateBlock, Journal
from node.store import Snapshot
from sudur.v1 import peer_pb2

PREPARE_S: Final = 10.0
CONFIRM_S: Final = 5.0
_AGAIN_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class _Asked:
    """The others have been asked to apply ``head``."""

    head: Head
    quorum: Quorum[str]


class ClusterCopies:
    """See :class:`node.copies.Copies`. For one term."""

    def __init__(self, replica: Replica, peers: Peers, journal: Journal) -> None:
        self._replica = replica
        self._peers = peers
        self._journal = journal
        self._others = majority(len(peers.members)) - 1
        self._pending: CandidateBlock | None = None
        self._asked: _Asked | None = None

    @property
    def members(self) -> int:
        """See Copies."""
        return self._peers.members.version

    def prepare(self, parent: Head, block: CandidateBlock) -> None:
        """See Copies. Raises BlockRefusedByPeer when so many refuse that no majority can hold it."""
        self._pending = block
        request = peer_pb2.PrepareRequest(
            parent=parent.encode(), head=block.head.encode(), packed=block.packed
        )
        quorum: Quorum[str] = Quorum(self._others, len(self._peers.links))
        for link in self._peers.links:
            quorum.post(link, lambda link=link: _prepare(self._peers, link, request))  # type: ignore[misc]
        self._replica.hold(block)
        try:
            quorum.wait(PREPARE_S)
        except NoMajority:
            for error in quorum.failures:
                if isinstance(error, BlockRefusedByPeer):
                    raise error from None
            raise

    def apply(self, block: CandidateBlock) -> None:
        """See Copies: a vote for it. The others are told at once, and write while this member does."""
        self._peers.observer.decided(block.head.block)
        self._asked = self._ask_to_apply(block.head, self._peers.links, self._others)
        if self._replica.apply(block.head) is not Readiness.DONE:
            raise Conflict(f"block {block.head.block} cannot be applied here any more", where="replica")

    def confirm(self, head: Head) -> None:
        """See Copies. Asks those again that have not applied it yet, as they may be catching up."""
        until = time.monotonic() + CONFIRM_S
        applied: set[str] = set()
        waiting = self._peers.links
        asked = self._asked
        self._asked = None
        if asked is None or asked.head != head:
            asked = self._ask_to_apply(head, waiting, self._others)
        while True:
            try:
                applied.update(asked.quorum.wait(max(until - time.monotonic(), _AGAIN_S)))
                return
            except NoMajority:
                if time.monotonic() >= until:
                    raise
            applied.update(asked.quorum.answers)
            waiting = tuple(link for link in waiting if link.name not in applied)
            self._peers.observer.confirm_repeated()
            time.sleep(_AGAIN_S)
            asked = self._ask_to_apply(head, waiting, self._others - len(applied))

    def _ask_to_apply(self, head: Head, links: Sequence[PeerLink], needed: int) -> _Asked:
        request = peer_pb2.ApplyRequest(head=head.encode())
        quorum: Quorum[str] = Quorum(needed, len(links))
        for link in links:
            quorum.post(link, lambda link=link: _apply(self._peers, link, request))  # type: ignore[misc]
        return _Asked(head, quorum)

    def keep(self, note: bytes) -> None:
        """See Copies: the vote, which is in the mark already, says more."""

    def keep_checkpoint(self, size: int, note: bytes) -> None:
        """See Copies."""
        self._replica.keep_checkpoint(size, note)

    def release(self, head: Head, note: bytes) -> None:
        """See Copies."""
        request = peer_pb2.ReleaseRequest(head=head.encode(), checkpoint=note)
        for link in self._peers.links:
            Quorum[None](0, 1).post(link, lambda link=link: _release(link, request))  # type: ignore[misc]

    def recover(self) -> None:
        """See Copies: the block whose outcome was unknown is applied if etcd has it."""
        decided = self._journal.head()
        snapshot = self._replica.snapshot
        if decided is None or snapshot is None:
            raise Conflict("etcd holds no head any more", where="etcd")
        if snapshot.head == decided:
            return
        pending = self._pending
        if pending is None or pending.head != decided:
            raise Conflict(
                f"block {decided.block} was decided, and this member did not build it", where="etcd"
            )
        self.apply(pending)

    def check(self, snapshot: Snapshot, own: Sequence[VerifierKey]) -> None:
        """See Copies: the replica has checked its store against its vote."""


def _prepare(peers: Peers, link: PeerLink, request: peer_pb2.PrepareRequest) -> str:
    answer = link.call(lambda stub, s: stub.Prepare(request, timeout=s), PREPARE_S)
    outcome = peer_pb2.PrepareResponse
    if answer.outcome == outcome.OUTCOME_PREPARED:
        return peers.counted(link, answer.member)
    if answer.outcome == outcome.OUTCOME_REFUSED:
        leaf = None if answer.leaf == NONE else answer.leaf
        raise BlockRefusedByPeer(answer.reason, leaf=leaf, where=link.name)
    raise PeerError(answer.reason, peer=link.name)


def _apply(peers: Peers, link: PeerLink, request: peer_pb2.ApplyRequest) -> str:
    answer = link.call(lambda stub, s: stub.Apply(request, timeout=s), CONFIRM_S)
    if not answer.applied:
        raise PeerError(answer.reason, peer=link.name)
    return peers.counted(link, answer.member)


def _release(link: PeerLink, request: peer_pb2.ReleaseRequest) -> None:
    link.call(lambda stub, s: stub.Release(request, timeout=s))
