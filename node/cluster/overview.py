"""How a cluster is, as one of its members sees it: for its operators."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final

from node.cluster.etcd_client import EtcdClient
from node.cluster.etcd_journal import Keys
from node.cluster.member import ClusterMember
from node.cluster.peers import Heard, PeerLink, Peers
from node.errors import NodeError, PeerError
from node.head import Head, Vote
from sudur.v1 import ledger_pb2

FRESH_S: Final = 1.0
"""So long an answer is given again: however many ask, the members are asked once a second."""
_HEAR_S: Final = 2.0
_ETCD_S: Final = 2.0
_AT_ONCE: Final = 16


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
        )
        peers = member.peers
        listed = () if peers is None else peers.members.members
        links = {} if peers is None else {link.name: link for link in peers.links}
        # All at once: whoever asks wants an answer most when some of them give none.
        with ThreadPoolExecutor(_AT_ONCE) as asking:
            decided = asking.submit(self._decided)
            states = [asking.submit(self._state, peers, links.get(one.name)) for one in listed]
            endpoints = [asking.submit(self._endpoint, one) for one in self._etcd.endpoints]
            head = decided.result()
            found = [one.result() for one in states]
            answer.etcd.extend(one.result() for one in endpoints)
        if head is not None:
            answer.head.CopyFrom(_head(head))
        answer.members_version = 0 if peers is None else peers.members.version
        # Each was heard at a moment of its own; told is what its clock would say now.
        answer.time_ms = _now_ms()
        for state, heard_ms in found:
            state.time_ms += answer.time_ms - heard_ms if state.time_ms else 0
            answer.members.append(state)
        return answer

    def _decided(self) -> Head | None:
        with suppress(NodeError):
            found = self._etcd.get(Keys.of(self._member.genesis).head, deadline_s=_ETCD_S)
            return None if found is None else Head.decode(found.value)
        return None

    def _state(self, peers: Peers | None, link: PeerLink | None) -> tuple[ledger_pb2.ClusterMember, int]:
        """What a member says of itself (None: this one), and when it was heard by this clock."""
        asked_ms = _now_ms()
        if peers is None or link is None:
            return member_state(self._member.heard(self._software_version)), asked_ms
        try:
            state = member_state(peers.hear_one(link, _HEAR_S))
        except PeerError as error:
            return ledger_pb2.ClusterMember(name=link.name, unheard=error.what), asked_ms
        return state, (asked_ms + _now_ms()) // 2

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


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


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
