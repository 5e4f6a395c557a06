"""How the others are, members and etcd, asked now and then: what an operator has to see before it matters."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from node.cluster.etcd_client import EtcdClient
from node.cluster.peers import PeerLink, Peers
from node.errors import NodeError

EVERY_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class PeerFound:
    """How another member is. ``up``: it answered, and is who the list says; then its newest block (-1: none),
    and how far its clock is ahead of this one's."""

    up: bool
    applied: int = -1
    clock_ahead_s: float = 0.0


@dataclass(frozen=True, slots=True)
class EndpointFound:
    """How a member of etcd is. ``up``: it answered; then whether it ``complains``, of its quota for one, or
    knows no leader; and the size of its database."""

    up: bool
    complains: bool = False
    database_bytes: int = 0


class Rounds:
    """Asks on a thread of its own, for whoever stands still makes others wait. Close it before the client.

    The answers of the last round are there for everybody, and cost nothing.
    """

    def __init__(self, etcd: EtcdClient, peers: Callable[[], Peers | None], every_s: float = EVERY_S) -> None:
        self.peers: dict[str, PeerFound] = {}
        self.etcd: dict[str, EndpointFound] = {}
        self._client = etcd
        self._peers = peers
        self._every_s = every_s
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rounds", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ask no more. Closing twice is no error."""
        self._closed.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closed.is_set():
            peers = self._peers()
            if peers is not None:
                self.peers = {
                    link.name: _hear(peers, link) for link in peers.links if not self._closed.is_set()
                }
            self.etcd = {
                one: self._status(one) for one in self._client.endpoints if not self._closed.is_set()
            }
            self._closed.wait(self._every_s)

    def _status(self, endpoint: str) -> EndpointFound:
        try:
            status = self._client.status(endpoint)
        except NodeError:
            return EndpointFound(False)
        return EndpointFound(True, bool(status.problems) or not status.leader, status.db_bytes)


def _hear(peers: Peers, link: PeerLink) -> PeerFound:
    asked_s = time.time()
    try:
        heard = peers.hear_one(link)
    except NodeError:
        return PeerFound(False)
    halfway_s = (asked_s + time.time()) / 2
    head = heard.vote.head
    return PeerFound(True, -1 if head is None else head.block, heard.time_ms / 1_000 - halfway_s)
