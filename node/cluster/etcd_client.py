"""A thin client of etcd: what a node needs of it, over several endpoints, with a deadline on everything.

etcd is a register here: keys whose values are compared and swapped. What makes this a file of its own is
what happens when no answer comes. A read is simply asked again elsewhere. A change is sent again only as
the identical request, and when the deadline passes with an attempt whose fate is open, the error says so
(:class:`node.errors.OutcomeUnknown`); it never says "not done" unless every attempt certainly was not.

Calls block, and may come from any thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

import grpc

from node.cluster.etcd_failures import Failure, Fate, code_of, judge, unknown
from node.cluster.observer import UNOBSERVED, Observer
from node.config import Address
from node.errors import EtcdUnavailable, LeaseGone, NodeError
from node.secure_channel import SecureChannel
from node.tls import TlsCredentials
from sudur.etcd import v3_pb2 as pb
from sudur.etcd import v3_pb2_grpc

T = TypeVar("T")

ATTEMPT_S: Final = 1.0
"""One try at one endpoint. etcd answers within milliseconds; one that does not is stopped or cut off."""
DEADLINE_S: Final = 5.0
"""A whole call, over all endpoints: longer than etcd needs to elect a leader."""
MAX_MESSAGE: Final = 1 << 20
"""Bytes of a request or an answer. Heads have 127, a list of members some hundred."""

_FIRST_PAUSE_S: Final = 0.02
_LONGEST_PAUSE_S: Final = 0.25
_OPTIONS: Final = (
    ("grpc.max_send_message_length", MAX_MESSAGE),
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    # etcd ends a connection whose pings come more often than every 5 s, or without a call.
    ("grpc.keepalive_time_ms", 6_000),
    ("grpc.keepalive_timeout_ms", 2_000),  # for a network that drops
    ("grpc.http2.ping_timeout_ms", 2_000),  # for a process that stands still; a minute by default
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.http2.max_pings_without_data", 0),  # a watch may be idle for long
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
)
# etcd answers at once, instead of holding the call, when the member asked knows no leader.
_LEADER: Final = (("hasleader", "true"),)


@dataclass(frozen=True, slots=True)
class Found:
    """What a key holds, and the revision of its last change. ``lease`` 0: under none."""

    value: bytes
    mod_revision: int
    lease: int


@dataclass(frozen=True, slots=True)
class Guard:
    """A condition of a swap: ``key`` holds ``value``, or is absent when that is None.

    With ``mod_revision`` it must also have been changed last at that revision.
    """

    key: bytes
    value: bytes | None
    mod_revision: int | None = None


@dataclass(frozen=True, slots=True)
class Put:
    """What a swap sets when its guards hold."""

    key: bytes
    value: bytes
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Swapped:
    """The answer to a swap.

    ``done``: the guards held and the puts were made, at ``revision``. Else ``found`` is what the guarded
    keys hold, in the guards' order. After an attempt without an answer that can be the work of that
    attempt: then the put's own value stands there.
    """

    done: bool
    revision: int
    found: tuple[Found | None, ...]


@dataclass(frozen=True, slots=True)
class EndpointStatus:
    """How one etcd member is, by itself; ``leader`` is a member id, 0 when it knows none.

    ``problems`` is what it complains of, in its words; ``full``: its quota alarm is raised.
    """

    endpoint: str
    version: str
    cluster_id: int
    member_id: int
    leader: int
    raft_term: int
    raft_index: int
    applied_index: int
    db_bytes: int
    db_bytes_in_use: int
    problems: tuple[str, ...]

    @property
    def full(self) -> bool:
        return any("NOSPACE" in problem for problem in self.problems)


@dataclass(frozen=True, slots=True)
class EtcdMember:
    """A member of the etcd cluster, as etcd lists it; ``name`` is empty until it has started once."""

    id: int
    name: str
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...]


class WatchStream(Protocol):
    """What etcd says on a watch, until either side ends it."""

    def __iter__(self) -> Iterator[pb.WatchResponse]: ...

    def cancel(self) -> bool:
        """End it; whoever iterates gets an error of gRPC."""
        ...


class EtcdClient:
    """Keys, leases and watches of one etcd cluster.

    The endpoint that answered last is asked first. Every call takes part of a deadline for each attempt
    and turns to the next endpoint when there is no answer. Errors are :class:`node.errors.EtcdError`.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        credentials: TlsCredentials | None = None,
        *,
        attempt_s: float = ATTEMPT_S,
        deadline_s: float = DEADLINE_S,
        observer: Observer = UNOBSERVED,
    ) -> None:
        """``endpoints``: ``host:port`` each. Connects when first used. ``credentials`` None: plaintext.

        A renewed certificate is used from the next call on.
        """
        if not endpoints:
            raise NodeError("no endpoint of etcd is named", where="--journal", fix="name one, better three")
        self._endpoints = [_Endpoint(address, credentials) for address in endpoints]
        self._attempt_s = attempt_s
        self._deadline_s = deadline_s
        self._observer = observer
        self._first = 0
        self._closed = threading.Event()

    @property
    def endpoints(self) -> tuple[str, ...]:
        """As given."""
        return tuple(endpoint.address for endpoint in self._endpoints)

    def close(self) -> None:
        """End calls and watches that are under way; all later ones raise EtcdUnavailable."""
        self._closed.set()
        for endpoint in self._endpoints:
            endpoint.channel.close()

    # --- keys ---

    def get(self, key: bytes, *, deadline_s: float | None = None) -> Found | None:
        """What ``key`` holds; None when it is absent. Linearizable; about 1 ms.

        Raises EtcdUnavailable, EtcdRefused.
        """
        request = pb.RangeRequest(key=key)
        answer = self._ask(
            "read",
            f"reading {_text(key)}",
            lambda to, timeout: to.kv.Range(request, timeout=timeout, metadata=_LEADER),
            deadline_s,
        )
        return _found(answer)

    def swap(
        self, guards: Sequence[Guard], puts: Sequence[Put], *, deadline_s: float | None = None
    ) -> Swapped:
        """One transaction: if all ``guards`` hold, make all ``puts``; else read the guarded keys. About 1 ms.

        Without an answer the identical request goes to the next endpoint, until the deadline. Raises
        OutcomeUnknown when an attempt may have been, or may yet be, carried out; EtcdUnavailable, EtcdFull
        and EtcdRefused when certainly none was.
        """
        request = pb.TxnRequest(
            compare=[compare for guard in guards for compare in _compares(guard)],
            success=[
                pb.RequestOp(request_put=pb.PutRequest(key=put.key, value=put.value, lease=put.lease))
                for put in puts
            ],
            failure=[pb.RequestOp(request_range=pb.RangeRequest(key=guard.key)) for guard in guards],
        )
        answer = self._ask(
            "swap",
            f"swapping {', '.join(_text(put.key) for put in puts)}",
            lambda to, timeout: to.kv.Txn(request, timeout=timeout, metadata=_LEADER),
            deadline_s,
            changes=True,
        )
        found = () if answer.succeeded else tuple(_found(one.response_range) for one in answer.responses)
        return Swapped(answer.succeeded, answer.header.revision, found)

    def compact(self, revision: int) -> None:
        """Forget what keys held before ``revision``; when that is done already, nothing happens.

        etcd keeps every value that a key ever had until it is told not to, and its quota is finite.
        """
        request = pb.CompactionRequest(revision=revision)

        def send(to: _Endpoint, timeout: float) -> None:
            try:
                to.kv.Compact(request, timeout=timeout, metadata=_LEADER)
            except grpc.RpcError as error:
                if code_of(error) is not grpc.StatusCode.OUT_OF_RANGE:  # compacted as far, or further
                    raise

        self._ask("compact", f"compacting to revision {revision}", send)

    # --- leases ---

    def grant(self, ttl_s: int) -> tuple[int, int]:
        """A new lease: its id, and the seconds that it lives unless renewed (etcd may give more than asked).

        A lease that was granted without an answer runs out by itself.
        """
        request = pb.LeaseGrantRequest(TTL=ttl_s)
        answer = self._ask(
            "grant",
            "asking for a lease",
            lambda to, timeout: to.lease.LeaseGrant(request, timeout=timeout, metadata=_LEADER),
        )
        if answer.error:
            raise EtcdUnavailable(f"etcd granted no lease: {answer.error}", where="etcd")
        return answer.ID, answer.TTL

    def renew(self, lease: int, *, deadline_s: float | None = None) -> int:
        """Let a lease live on; returns the seconds that it has then. Raises LeaseGone when it is over."""

        def send(to: _Endpoint, timeout: float) -> pb.LeaseKeepAliveResponse:
            # A stream of one beat: it has a deadline and can go to any endpoint, which a long one cannot.
            beat = iter((pb.LeaseKeepAliveRequest(ID=lease),))
            call = to.lease.LeaseKeepAlive(beat, timeout=timeout, metadata=_LEADER)
            try:
                for answer in call:
                    return answer
            finally:
                call.cancel()
            raise EtcdUnavailable("renewing the lease: etcd ended the stream", where=to.address)

        answer = self._ask("renew", "renewing the lease", send, deadline_s)
        if answer.TTL <= 0:
            raise LeaseGone("the lease ran out or was revoked", where="etcd", fix="ask for a new one")
        return answer.TTL

    def revoke(self, lease: int) -> None:
        """End a lease and delete its keys; one that is over already is no error."""
        request = pb.LeaseRevokeRequest(ID=lease)

        def send(to: _Endpoint, timeout: float) -> None:
            try:
                to.lease.LeaseRevoke(request, timeout=timeout, metadata=_LEADER)
            except grpc.RpcError as error:
                if code_of(error) is not grpc.StatusCode.NOT_FOUND:
                    raise

        self._ask("revoke", "revoking the lease", send)

    # --- watching ---

    @property
    def closed(self) -> bool:
        return self._closed.is_set()

    def watch(self, turn: int, requests: Iterator[pb.WatchRequest]) -> WatchStream:
        """Open a watch stream without a deadline, at the endpoint whose turn it is; see etcd_watch.

        ``turn`` 0 is the endpoint that answered last, 1 the one after it. Errors are gRPC's, and
        ValueError once the client is closed. etcd ends the stream when it has no leader.
        """
        to = self._endpoints[(self._first + turn) % len(self._endpoints)]
        return to.watch.Watch(requests, metadata=_LEADER)

    # --- the cluster ---

    def status(self, endpoint: str) -> EndpointStatus:
        """How the member at one endpoint is; answers without a majority too. Raises EtcdUnavailable."""
        to = next(one for one in self._endpoints if one.address == endpoint)
        try:
            answer = to.maintenance.Status(pb.StatusRequest(), timeout=self._attempt_s)
        except (grpc.RpcError, ValueError) as error:
            raise self._failure(error, to, "asking for its status").error from error
        return EndpointStatus(
            endpoint=endpoint,
            version=answer.version,
            cluster_id=answer.header.cluster_id,
            member_id=answer.header.member_id,
            leader=answer.leader,
            raft_term=answer.raftTerm,
            raft_index=answer.raftIndex,
            applied_index=answer.raftAppliedIndex,
            db_bytes=answer.dbSize,
            db_bytes_in_use=answer.dbSizeInUse,
            problems=tuple(problem.strip() for problem in answer.errors),
        )

    def members(self) -> tuple[EtcdMember, ...]:
        """The members of the etcd cluster, by name."""
        answer = self._ask(
            "members",
            "listing the members",
            lambda to, timeout: to.cluster.MemberList(
                pb.MemberListRequest(), timeout=timeout, metadata=_LEADER
            ),
        )
        listed = (
            EtcdMember(one.ID, one.name, tuple(one.peerURLs), tuple(one.clientURLs)) for one in answer.members
        )
        return tuple(sorted(listed, key=lambda one: (one.name, one.id)))

    # --- asking ---

    def _ask(
        self,
        kind: str,
        what: str,
        send: Callable[[_Endpoint, float], T],
        deadline_s: float | None = None,
        *,
        changes: bool = False,
    ) -> T:
        """Send to one endpoint after another until one answers. ``changes``: a lost answer matters."""
        until = time.monotonic() + (self._deadline_s if deadline_s is None else deadline_s)
        pause = _FIRST_PAUSE_S
        doubt = again = False
        while True:
            for _ in self._endpoints:
                first = self._first
                to = self._endpoints[first]
                timeout = min(self._attempt_s, max(until - time.monotonic(), 0.001))
                if again:
                    self._observer.etcd_retried(kind)
                again = True
                try:
                    return self._timed(kind, lambda to=to, timeout=timeout: send(to, timeout))  # type: ignore[misc]
                except (grpc.RpcError, ValueError) as error:
                    failure = self._failure(error, to, what)
                    cause = error
                doubt |= changes and failure.fate is Fate.OPEN
                if failure.elsewhere and self._first == first:  # or another thread has turned already
                    self._first = (first + 1) % len(self._endpoints)
                if not failure.elsewhere or time.monotonic() >= until or self._closed.is_set():
                    raise (unknown(failure, what) if doubt else failure.error) from cause
            # All failed: an election, or the network. Not in a tight loop.
            self._closed.wait(min(pause, max(until - time.monotonic(), 0)))
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    def _timed(self, kind: str, send: Callable[[], T]) -> T:
        began, code = time.perf_counter(), "CANCELLED"
        try:
            answer = send()
            code = "OK"
            return answer
        except grpc.RpcError as error:
            code = code_of(error).name
            raise
        finally:
            self._observer.etcd_called(kind, code, time.perf_counter() - began)

    def _failure(self, error: grpc.RpcError | ValueError, to: _Endpoint, what: str) -> Failure:
        if isinstance(error, ValueError) or self._closed.is_set():
            # gRPC raises ValueError for a call on a closed channel, and only then.
            if not self._closed.is_set():
                raise error
            closed = EtcdUnavailable(f"{what}: the client was closed", where=to.address)
            return Failure(closed, Fate.OPEN if isinstance(error, grpc.RpcError) else Fate.NOT_DONE, False)
        return judge(error, to.address, what)


def parse_endpoints(journal: str) -> tuple[str, ...]:
    """The endpoints in ``etcd://host:port,host:port``. Raises NodeError for anything else."""
    scheme, _, rest = journal.partition("://")
    endpoints = tuple(rest.split(","))
    for endpoint in endpoints:
        host, _, port = endpoint.rpartition(":")
        if (
            scheme != "etcd"
            or not host
            or not (port.isascii() and port.isdecimal() and 0 < int(port) < 65_536)
        ):
            raise NodeError(
                f"{journal!r} names no endpoints of etcd",
                where="--journal",
                fix="write it as etcd://host:port,host:port,host:port",
            )
    if len(set(endpoints)) != len(endpoints):
        raise NodeError(f"{journal!r} names an endpoint twice", where="--journal")
    return endpoints


class _Endpoint:
    """One address, its channel, and stubs made for each call: about 20 µs."""

    def __init__(self, address: str, credentials: TlsCredentials | None) -> None:
        self.address = address
        self.channel = SecureChannel(Address.parse(address), credentials, _OPTIONS)

    @property
    def kv(self) -> v3_pb2_grpc.KVStub:
        return v3_pb2_grpc.KVStub(self.channel.current())

    @property
    def lease(self) -> v3_pb2_grpc.LeaseStub:
        return v3_pb2_grpc.LeaseStub(self.channel.current())

    @property
    def watch(self) -> v3_pb2_grpc.WatchStub:
        return v3_pb2_grpc.WatchStub(self.channel.current())

    @property
    def cluster(self) -> v3_pb2_grpc.ClusterStub:
        return v3_pb2_grpc.ClusterStub(self.channel.current())

    @property
    def maintenance(self) -> v3_pb2_grpc.MaintenanceStub:
        return v3_pb2_grpc.MaintenanceStub(self.channel.current())


def _compares(guard: Guard) -> Iterator[pb.Compare]:
    if guard.value is None:
        yield pb.Compare(key=guard.key, target=pb.Compare.CREATE, create_revision=0)
    else:
        yield pb.Compare(key=guard.key, target=pb.Compare.VALUE, value=guard.value)
    if guard.mod_revision is not None:
        yield pb.Compare(key=guard.key, target=pb.Compare.MOD, mod_revision=guard.mod_revision)


def _found(answer: pb.RangeResponse) -> Found | None:
    if not answer.kvs:
        return None
    (one,) = answer.kvs
    return Found(one.value, one.mod_revision, one.lease)


def _text(key: bytes) -> str:
    return key.decode(errors="replace")
