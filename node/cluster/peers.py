"""The other members, as this one reaches them: a link each, with a thread that sends in order.

Blocking, for the threads that commit and follow. A link that is down fails fast and is connected again by
gRPC; one whose queue is full is passed over, since it will catch up by itself.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Generic, TypeVar

import grpc

from ledger.rules_v1 import MAX_BLOCK_BYTES
from node.cluster.errors import NoMajority
from node.cluster.members import Members
from node.cluster.observer import UNOBSERVED, Observer
from node.config import Address
from node.copying.remote_blocks import CHANNEL_OPTIONS, RemoteBlocks, peer_error
from node.errors import NodeError, PeerError, PeerShort, PeerSilent, PeerWrong, StoreDamaged
from node.head import Vote
from node.secure_channel import SecureChannel
from node.tls import TlsCredentials
from sudur.v1 import ledger_pb2, peer_pb2
from sudur.v1.ledger_pb2_grpc import LedgerServiceStub
from sudur.v1.peer_pb2_grpc import PeerServiceStub

MAX_PEER_MESSAGE: Final = 2 * MAX_BLOCK_BYTES
HEAR_S: Final = 2.0
CALL_S: Final = 10.0
_QUEUE: Final = 8
_LOST: Final = grpc.StatusCode.UNAVAILABLE
PEER_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_PEER_MESSAGE),
    ("grpc.max_send_message_length", MAX_PEER_MESSAGE),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # The timeout above does not count while HTTP/2's own, a minute by default, is longer.
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    # How long an attempt to connect may take; gRPC knows it by this name.
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.use_local_subchannel_pool", 1),
    # What members say to each other goes through no proxy that a site has for its people.
    ("grpc.enable_http_proxy", 0),
)
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Heard:
    """What a member said of itself."""

    name: str
    vote: Vote
    time_ms: int
    rules: tuple[int, ...]
    software: str
    released: int
    leads: bool
    trouble: str
    genesis: bytes
    process: bytes


class PeerLink:
    """One other member. Calls from any thread; :meth:`post` sends in order, on the link's own."""

    def __init__(
        self,
        name: str,
        address: Address,
        credentials: TlsCredentials | None,
        observer: Observer = UNOBSERVED,
    ) -> None:
        self.name = name
        self._observer = observer
        self.address = address
        self._credentials = credentials
        self._channel = SecureChannel(address, credentials, PEER_OPTIONS)
        self._tasks: deque[Callable[[], None]] = deque()
        self._wake = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=f"peer {name}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End what is under way. Closing twice is no error."""
        with self._wake:
            self._closed = True
            self._wake.notify_all()
        self._channel.close()
        self._thread.join()

    def call(self, ask: Callable[[PeerServiceStub, float], Answer], timeout_s: float = CALL_S) -> Answer:
        """One call. Raises PeerError."""
        began, code = time.perf_counter(), "CANCELLED"
        try:
            answer = ask(PeerServiceStub(self._channel.current()), timeout_s)
            code = "OK"
            return answer
        except grpc.RpcError as error:
            code = error.code().name
            refused = self._channel.why_it_fails() if error.code() is _LOST else None
            if refused is not None:
                raise PeerSilent(refused.what, peer=self.name, where=refused.where, fix=refused.fix) from None
            raise peer_error(error, self.name) from None
        except ValueError:  # the channel was closed under our hands
            raise PeerError("the connection was closed", peer=self.name) from None
        finally:
            self._observer.peer_called(self.name, code, time.perf_counter() - began)

    def post(self, task: Callable[[], None]) -> bool:
        """Have ``task`` run on the link's thread, after those before it; False when too many wait."""
        with self._wake:
            if self._closed or len(self._tasks) >= _QUEUE:
                return False
            self._tasks.append(task)
            self._wake.notify()
            return True

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._tasks and not self._closed:
                    self._wake.wait()
                if self._closed:
                    return
                task = self._tasks.popleft()
            task()

    # --- what is asked ---

    def hear(self, timeout_s: float = HEAR_S) -> Heard:
        """Its vote, and how it is. Raises PeerError."""
        request = peer_pb2.HearRequest()
        return _heard(self.call(lambda stub, s: stub.Hear(request, timeout=s), timeout_s), self.name)

    def freeze(self, epoch: int) -> Heard:
        """Have it vote no more before ``epoch``. Raises PeerError."""
        request = peer_pb2.FreezeRequest(epoch=epoch)
        return _heard(self.call(lambda stub, s: stub.Freeze(request, timeout=s)), self.name)

    def body(self, number: int, digest: bytes) -> bytes:
        """The packed leaves of a block that is held there, whose digest is that. Raises PeerError."""
        request = peer_pb2.FetchBodyRequest(number=number, digest=digest)
        packed = self.call(lambda stub, s: stub.FetchBody(request, timeout=s)).packed
        if sha256(packed).digest() != digest:
            raise PeerWrong("what it gives has another digest", peer=self.name, where=f"block {number}")
        return packed

    def root_after(self, block: int) -> tuple[int, bytes] | None:
        """(size, root) after a block of its chain; None when it does not reach there. Raises PeerError."""
        request = peer_pb2.RootAfterRequest(block=block)
        try:
            answer = self.call(lambda stub, s: stub.RootAfter(request, timeout=s))
        except PeerShort:
            return None
        return answer.size, answer.root

    def consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        """A proof between two sizes of what is applied there. Raises PeerError."""
        request = ledger_pb2.GetConsistencyProofRequest(old_size=old, new_size=new)
        return tuple(self.call(lambda stub, s: stub.ProveApplied(request, timeout=s)).path)

    def ledger(self) -> LedgerServiceStub:
        """Its LedgerService, which takes what other members hand on. Raises PeerError."""
        return LedgerServiceStub(self._channel.current())

    def checkpoint(self, size: int) -> bytes:
        """The signed checkpoint of a size. Raises PeerError."""
        request = ledger_pb2.GetCheckpointRequest(size=size)
        return self.call(
            lambda _, s: LedgerServiceStub(self._channel.current()).GetCheckpoint(request, timeout=s)
        ).checkpoint

    def blocks(self) -> PeerBlocks:
        """What it has applied, for catch-up."""
        return PeerBlocks(self.address, self.name, self._credentials)


class PeerBlocks(RemoteBlocks):
    """What a member has applied, released or not. Has a channel of its own: :meth:`close` it."""

    def __init__(self, address: Address, name: str, credentials: TlsCredentials | None) -> None:
        self._own = (
            grpc.insecure_channel(str(address), options=CHANNEL_OPTIONS)
            if credentials is None
            else grpc.secure_channel(str(address), credentials.channel_credentials(), options=CHANNEL_OPTIONS)
        )
        super().__init__(self._own, name)
        stub = PeerServiceStub(self._own)
        self._stream = stub.StreamApplied
        self._prove = stub.ProveApplied

    def close(self) -> None:
        self._own.close()


class Peers:
    """Links to all members but this one."""

    def __init__(
        self,
        members: Members,
        own: bytes,
        credentials: TlsCredentials | None,
        observer: Observer = UNOBSERVED,
    ) -> None:
        self.members = members
        self.observer = observer
        self.links = tuple(
            PeerLink(one.name, one.peer, credentials, observer)
            for one in members.members
            if one.identity != own
        )

    def close(self) -> None:
        for link in self.links:
            link.close()

    def hear(self, needed: int, timeout_s: float = HEAR_S) -> list[Heard]:
        """The marks of all that answer, at least ``needed``; does not wait longer than for those, and a
        moment more. Each has to be who the list says. Raises NoMajority."""
        quorum: Quorum[Heard] = Quorum(needed, len(self.links))
        for link in self.links:
            quorum.post(link, lambda link=link: self.hear_one(link, timeout_s))  # type: ignore[misc]
        return quorum.wait(timeout_s + 0.5, patience_s=0.1)

    def hear_one(self, link: PeerLink, timeout_s: float = HEAR_S) -> Heard:
        """What one member says, if it is who the list says. Raises PeerError."""
        heard = link.hear(timeout_s)
        self.counted(link, heard.vote.member)
        return heard

    def counted(self, link: PeerLink, identity: bytes) -> str:
        """The member's name, if it is who the list says: nobody else's word counts. Raises PeerError."""
        member = self.members.named(link.name)
        if member is None or member.identity != identity:
            raise PeerError(
                f"who answers there is not the member {link.name}, but a copy of another or a new one",
                peer=link.name,
                fix="bring that member's own mark back, or have it replaced (docs/operations.md)",
            )
        return link.name


class Quorum(Generic[Answer]):
    """Gathers answers of several links until there are enough, or cannot be any more."""

    def __init__(self, needed: int, of: int) -> None:
        self._needed = needed
        self._of = of
        self._changed = threading.Condition()
        self._answers: list[Answer] = []
        self._failures: list[NodeError] = []

    def post(self, link: PeerLink, ask: Callable[[], Answer]) -> None:
        """Have a link ask, in its turn."""

        def task() -> None:
            try:
                answer = ask()
            except NodeError as error:
                self._fail(error)
            except Exception as error:
                self._fail(PeerError(f"{type(error).__name__}: {error}", peer=link.name))
            else:
                with self._changed:
                    self._answers.append(answer)
                    self._changed.notify_all()

        if not link.post(task):
            self._fail(PeerError("it does not keep up", peer=link.name))

    def _fail(self, error: NodeError) -> None:
        with self._changed:
            self._failures.append(error)
            self._changed.notify_all()

    @property
    def answers(self) -> Sequence[Answer]:
        """What was answered, so far."""
        with self._changed:
            return tuple(self._answers)

    @property
    def failures(self) -> Sequence[NodeError]:
        """What went wrong, so far."""
        with self._changed:
            return tuple(self._failures)

    def wait(self, timeout_s: float, *, patience_s: float = 0.0) -> list[Answer]:
        """All answers so far, once there are enough; with ``patience_s``, those that follow soon, too.

        Raises NoMajority when there are not, within ``timeout_s`` or ever.
        """
        until = time.monotonic() + timeout_s
        with self._changed:
            self._changed.wait_for(self._is_decided, timeout_s)
            if patience_s and len(self._answers) >= self._needed:
                left = min(patience_s, until - time.monotonic())
                self._changed.wait_for(lambda: len(self._answers) + len(self._failures) == self._of, left)
            if len(self._answers) >= self._needed:
                return list(self._answers)
            why = "; ".join(str(error) for error in self._failures) or "the others did not answer in time"
            raise NoMajority(
                f"{1 + len(self._answers)} of {1 + self._needed} members that are needed answered: {why}",
                where="peers",
                fix="see that a majority of the nodes is up and can reach each other",
            )

    def _is_decided(self) -> bool:
        return len(self._answers) >= self._needed or len(self._failures) > self._of - self._needed


def _heard(answer: peer_pb2.HearResponse, peer: str) -> Heard:
    try:
        vote, _ = Vote.read(answer.vote)
    except StoreDamaged as error:
        raise PeerWrong(f"what it says is no vote: {error}", peer=peer) from error
    return Heard(
        name=answer.name,
        vote=vote,
        time_ms=answer.time_ms,
        rules=tuple(answer.rules),
        software=answer.software_version,
        released=answer.released,
        leads=answer.leads,
        trouble=answer.trouble,
        genesis=answer.genesis,
        process=answer.process,
    )
