"""Cosignatures, as they go round in a cluster: the leader gathers them, all members serve them.

Whoever leads asks the witnesses, and nobody else: three members that each asked would contend for the one
size that a witness has. What is enough for publication is sent to the others at once, and whoever missed
it asks the leader. A new leader first takes over what the others have. Nothing that is lost on the way
matters for long: the next head is cosigned anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

from node.cluster.member import ClusterMember
from node.cluster.peers import HEAR_S, PeerLink
from node.cosigning.witnessed import Witnessed
from node.errors import NodeError
from node.ledger_copy import LedgerCopy
from sudur.v1 import ledger_pb2, peer_pb2


class Sharing:
    """Any thread."""

    def __init__(self, member: ClusterMember, copy: LedgerCopy) -> None:
        self._member = member
        self._copy = copy

    def published(self, found: Witnessed) -> None:
        """Send a published checkpoint to the others; does not wait for them."""
        peers = self._member.peers
        if not self._member.leads or peers is None:
            return
        info = self._copy.store.block(found.block)
        head = replace(
            self._copy.published.head,
            block=info.number,
            size=info.size,
            root=info.root,
            digest=info.digest,
        )
        request = peer_pb2.ReleaseRequest(head=head.encode(), checkpoint=found.note)
        for link in peers.links:
            link.post(lambda link=link: _send(link, request))  # type: ignore[misc]

    def gathered(self) -> Iterator[bytes]:
        """What the leader has published; for the leader itself, what each of the others has."""
        peers = self._member.peers
        if peers is None:
            return
        for link in peers.links:
            if self._member.leads or link.name == self._member.leader:
                with suppress(NodeError):
                    yield _newest(link)


def _newest(link: PeerLink) -> bytes:
    """What a member has published. Raises PeerError, soon."""
    request = ledger_pb2.GetCheckpointRequest()
    return link.call(lambda _, s: link.ledger().GetCheckpoint(request, timeout=s), HEAR_S).checkpoint


def _send(link: PeerLink, request: peer_pb2.ReleaseRequest) -> None:
    with suppress(NodeError):
        link.call(lambda stub, s: stub.Release(request, timeout=s))
