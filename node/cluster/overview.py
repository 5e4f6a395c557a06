"""How a cluster is, as one of its members sees it: for its operators."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import Final

from node.cluster.etcd_client import EtcdClient
from node.cluster.member import ClusterMember
from node.cluster.peers import Heard, PeerLink
from node.errors import NodeError, PeerError
from node.head import Head, Vote
from sudur.v1 import ledger_pb2

FRESH_S: Final = 1.0
"""So long an answer is given again: however many ask, the members are asked once a second."""
_HEAR_S: Final = 2.0


class Overview:
    """Any thread; blocks for up to some seconds."""

    def __init__(self, member: ClusterMember, etcd: EtcdClient, software_version: str) -> None:
        self._member = member
        self._etcd = etcd
        self._software_version = software_version
        self._lock = threading.Lock()
        self._made = float("-inf")
        self._answer = ledger_pb2.GetClusterResponse()

    def __call__(self) -> ledger_pb2.GetClusterResponse:
        """The state of all members and of etcd."""
        with self._lock:
            if time.monotonic() - self._made > FRESH_S:
                self._answer = self._look()
                self._made = time.monotonic()
            return self._answer

    def _look(self) -> ledger_pb2.GetClusterResponse:
        member = self._member
        fault = member.fault
        answer = ledger_pb2.GetClusterResponse(
            name=member.settings.name,
            leader=member.leader or "",
            trouble="" if fault is None else str(fault),
            time_ms=time.time_ns() // 1_000_000,
        )
        with suppress(NodeError):
            head = member.decided()
            if head is not None:
                answer.head.CopyFrom(_head(head))
        peers = member.peers
        if peers is not None:
            answer.members_version = peers.members.version
            for listed in peers.members.members:
                link = next((one for one in peers.links if one.name == listed.name), None)
                answer.members.append(self._own() if link is None else _other(link))
        for endpoint in self._etcd.endpoints:
            answer.etcd.append(self._endpoint(endpoint))
        return answer

    def _own(self) -> ledger_pb2.ClusterMember:
        return member_state(self._member.heard(self._software_version))

    def _endpoint(self, address: str) -> ledger_pb2.EtcdEndpoint:
        try:
            status = self._etcd.status(address)
        except NodeError as error:
            return ledger_pb2.EtcdEndpoint(address=address, trouble=error.what)
        return ledger_pb2.EtcdEndpoint(
            address=address,
            trouble="its quota is used up" if status.full else "; ".join(status.problems),
            leads=status.leader == status.member_id,
            database_bytes=status.db_bytes,
            version=status.version,
        )


def _other(link: PeerLink) -> ledger_pb2.ClusterMember:
    try:
        return member_state(link.hear(_HEAR_S))
    except PeerError as error:
        return ledger_pb2.ClusterMember(name=link.name, unheard=error.what)


def member_state(heard: Heard) -> ledger_pb2.ClusterMember:
    """What a member said, as the contract tells it."""
    vote: Vote = heard.vote
    state = ledger_pb2.ClusterMember(
        name=heard.name,
        released=heard.released,
        frozen=vote.frozen if vote.is_frozen else 0,
        leads=heard.leads,
        trouble=heard.trouble,
        software_version=heard.software,
        rules=heard.rules,
        time_ms=heard.time_ms,
    )
    if vote.head is not None:
        state.applied.CopyFrom(_head(vote.head))
    return state


def _head(head: Head) -> ledger_pb2.ClusterHead:
    return ledger_pb2.ClusterHead(epoch=head.epoch, block=head.block, size=head.size, root=head.root)
