"""Bringing a member's copy level with what etcd holds: what it lacks comes from its peers, checked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Final, NoReturn

import structlog

from ledger.errors import SudurError, VerificationError
from ledger.proofs import verify_consistency
from node.cluster.errors import NoMajority
from node.cluster.observer import Observer
from node.cluster.peers import Heard, PeerLink, Peers
from node.cluster.protocol import Standing
from node.cluster.replica import Replica
from node.copying.catch_up import Terms, TrustedHead, catch_up
from node.errors import NoLeader, PeerError, PeerWrong
from node.head import Head
from node.store import Snapshot, Store

_log: Final = structlog.get_logger("node.cluster")


class Levelling:
    """For the member's own thread. A long catch-up ends when the replica is told to halt."""

    def __init__(
        self,
        store: Store,
        replica: Replica,
        genesis: bytes,
        genesis_leaf: bytes | None,
        observer: Observer,
    ) -> None:
        self._store = store
        self._replica = replica
        self._genesis = genesis
        self._genesis_leaf = genesis_leaf
        self._observer = observer

    def level(self, standing: Standing, head: Head, peers: Peers | None) -> None:
        """Apply all that etcd holds, and enter its epoch.

        Raises NoMajority when nobody has what is missing, NoLeader when this copy has to begin anew,
        BlockRefusedByPeer for a decided block that breaks the rules by this store.
        """
        if standing is Standing.UNLISTED:
            self._replica.bear(head)
            return
        snapshot = self._replica.snapshot
        if snapshot is None and head.block == 0 and self._genesis_leaf is not None:
            self._replica.found(self._genesis_leaf, head)
        elif snapshot is None or snapshot.head.block < head.block:
            self._fetch(head, peers)
        elif standing is Standing.NEW_EPOCH and not snapshot.head.same_tree(head):
            # The epoch was opened without the newest block here: no peer has one to show that by.
            self._begin_anew(head)
        if standing is Standing.NEW_EPOCH:
            self._replica.enter(head)
            _log.info("entered", epoch=head.epoch, block=head.block)

    def _fetch(self, head: Head, peers: Peers | None) -> None:
        """Catch up to ``head`` from whichever peer has it."""
        links = () if peers is None else peers.links
        snapshot = self._replica.snapshot
        missing = head.block if snapshot is None else head.block - snapshot.head.block
        if snapshot is not None and missing == 1 and self._fetch_newest(head, links):
            return
        problems = []
        for link in _most_first(links):
            try:
                self._stream(link, head)
                return
            except PeerError as error:
                if isinstance(error, PeerWrong) and self._has_parted(link, head):
                    self._begin_anew(head)
                problems.append(str(error))
        if self._fetch_newest(head, links):
            return
        raise NoMajority(
            f"block {head.block} cannot be had from any member: {'; '.join(problems) or 'none is known'}",
            where="peers",
            fix="bring up a member that has it",
        )

    def _begin_anew(self, head: Head) -> NoReturn:
        self._replica.abandon(head)
        raise NoLeader("this member's chain is not the one that was kept: it begins anew", retry_ms=500)

    def _fetch_newest(self, head: Head, links: Sequence[PeerLink]) -> bool:
        """The one block that is missing, by its digest: held here, or at a peer."""
        snapshot = self._replica.snapshot
        if snapshot is None or head.block != snapshot.head.block + 1:
            return False
        if head.epoch != self._replica.vote.epoch:
            return False
        packed = self._replica.body(head.block, head.digest)
        for link in links:
            if packed is not None:
                break
            with suppress(PeerError):
                packed = link.body(head.block, head.digest)
        if packed is None:
            return False
        self._replica.apply_body(head, packed)
        self._observer.caught_up(head.size - snapshot.head.size)
        return True

    def _stream(self, link: PeerLink, head: Head) -> None:
        """Stream what is missing from one peer, up to what it has of ``head``'s chain. Raises PeerError."""
        source = link.blocks()
        trusted = TrustedHead(head.size, head.root)
        code = "INTERNAL"
        voted = self._replica.vote.head
        known = 0 if voted is None else voted.members
        try:
            with self._replica.catching_up(head.epoch) as reached:
                terms = Terms(
                    reached=self._progress(reached, head),
                    dress=partial(_dressed, last=head, members=known),
                    stop=self._replica.halt,
                )
                reached_at = catch_up(
                    self._store,
                    source,
                    lambda size, note: trusted,
                    genesis=self._genesis,
                    until=head.size,
                    at=self._replica.snapshot,
                    terms=terms,
                )
            if reached_at is None or reached_at.head.size < head.size:
                raise NoLeader("catching up was interrupted, and goes on", retry_ms=500)
            code = "OK"
        except SudurError as error:
            code = error.code
            raise
        finally:
            self._observer.catch_up_ended(code)
            source.close()

    def _progress(self, reached: Callable[[Snapshot], None], head: Head) -> Callable[[Snapshot], None]:
        """``reached``, which is called with each snapshot that is durable, and told to others too."""
        before = self._replica.snapshot
        size = 0 if before is None else before.head.size

        def tell(snapshot: Snapshot) -> None:
            nonlocal size
            reached(snapshot)
            self._observer.caught_up(snapshot.head.size - size)
            size = snapshot.head.size
            _log.info("caught up", block=snapshot.head.block, size=size, of=head.size)

        return tell

    def _has_parted(self, link: PeerLink, head: Head) -> bool:
        """Whether it is this member's own chain that is not the one which a later epoch was opened with."""
        snapshot = self._replica.snapshot
        if snapshot is None or head.epoch <= self._replica.vote.epoch:
            return False
        own = snapshot.head
        try:
            theirs = link.root_after(own.block)
            if theirs is None or theirs == (own.size, own.root):
                return False
            size, root = theirs
            verify_consistency(size, root, head.size, head.root, link.consistency(size, head.size))
        except (PeerError, VerificationError):
            return False
        return True


def _dressed(made: Head, *, last: Head, members: int) -> Head:
    """The head under which a block is stored that was fetched: its list of members did not travel with it.

    Only the last is known to bear the newest list. Those before it keep what this member had applied
    under: it must not seem to know of a change that it may lose again, halfway.
    """
    return replace(made, epoch=last.epoch, members=last.members if made.block == last.block else members)


def _most_first(links: Sequence[PeerLink]) -> list[PeerLink]:
    """The members that answer, those first that have more."""
    heard: dict[str, Heard] = {}
    for link in links:
        with suppress(PeerError):
            heard[link.name] = link.hear()
    held = [link for link in links if link.name in heard]
    return sorted(held, key=lambda link: -_block(heard[link.name]))


def _block(heard: Heard) -> int:
    return -1 if heard.vote.head is None else heard.vote.head.block
