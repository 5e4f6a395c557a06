"""Running a member of a cluster: its copy, its three doors, what it is at the moment, on one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from ledger.errors import WrongLedger
from ledger.hashing import leaf_hash
from ledger.signatures import Signer
from node.clock import SystemClock
from node.cluster.cluster_letters import ClusterLetters
from node.cluster.cluster_metrics import ClusterMetrics, MemberGauges
from node.cluster.etcd_client import EtcdClient
from node.cluster.forwarding import Forwarding
from node.cluster.member import ClusterMember
from node.cluster.member_settings import MemberSettings
from node.cluster.observer import Observer
from node.cluster.overview import Overview
from node.cluster.peer_api import PeerServicer
from node.cluster.peer_door import PeerDoor
from node.cluster.replica import Replica
from node.cluster.rounds import Rounds
from node.cluster.sharing import Sharing
from node.config import Address, Settings
from node.cosigning.collector import collecting
from node.disk import make_directories
from node.doors.grpc_api import SOFTWARE_VERSION
from node.doors.portable import ReceiptSigning
from node.doors.serving import Running, Served, open_doors, serve
from node.doors.waiting import waiting
from node.errors import NodeError, NoLeader, NotFound, RetryableError, StoreBehindMark
from node.ledger_copy import LedgerCopy
from node.letters.keeping import kept_letters
from node.mark import Mark
from node.node import DATABASE_DIRECTORY, default_mark_path, holds_database
from node.sequencer import SequencerSettings
from node.stopping import until_told
from node.store import Store
from node.tls import TlsCredentials
from transport.certificates import Purpose

_log = structlog.get_logger("node.run")


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """``name``: this member's; ``etcd``: endpoints; ``peer``: where the others reach it, and where it listens
    unless ``listen`` says otherwise. ``founding``: all first members, given once, to found the ledger."""

    name: str
    etcd: tuple[str, ...]
    peer: Address
    founding: tuple[tuple[str, Address], ...] = ()
    listen: Address | None = None


@dataclass(frozen=True, slots=True)
class RunningMember(Running):
    """A member that serves."""

    peer: Address
    member: ClusterMember


async def run_member(
    settings: Settings,
    cluster: ClusterSettings,
    signers: Sequence[Signer],
    genesis_leaf: bytes | None = None,
    *,
    ready: Callable[[RunningMember], None] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then hand over and stop in good order.

    ``ready`` is called once it serves: a new member catches up first. Raises NodeError.
    """

    async def serving(stop: asyncio.Event) -> None:
        async with start_member(settings, cluster, signers, genesis_leaf, stop) as running:
            if running is not None:
                if ready is not None:
                    ready(running)
                await stop.wait()

    await until_told(serving)


@contextlib.asynccontextmanager
async def start_member(
    settings: Settings,
    cluster: ClusterSettings,
    signers: Sequence[Signer],
    genesis_leaf: bytes | None,
    stop: asyncio.Event,
) -> AsyncIterator[RunningMember | None]:
    """A member that serves while the context lasts; None when told to stop before it could."""
    peer_tls = None if settings.peer_tls is None else TlsCredentials(settings.peer_tls, Purpose.MEMBER)
    etcd_tls = None if settings.etcd_tls is None else TlsCredentials(settings.etcd_tls, Purpose.CLIENT)
    listen = cluster.listen or cluster.peer
    _check_plaintext(listen, peer_tls)
    async with open_doors(settings) as doors, contextlib.AsyncExitStack() as stack:
        doors.metrics.certificates(*(one for one in (peer_tls, etcd_tls) if one is not None))
        door = PeerDoor(listen, peer_tls)
        stack.push_async_callback(door.stop)
        listening = door.listen()
        peer = listening if cluster.listen is None else cluster.peer
        store, mark = stack.enter_context(_opened(settings))
        genesis = _genesis(store, genesis_leaf, settings.data_dir)
        counted = ClusterMetrics(doors.metrics)
        etcd = EtcdClient(cluster.etcd, etcd_tls, observer=counted)
        stack.callback(etcd.close)
        member = ClusterMember(
            _member_settings(settings, cluster, peer, genesis_leaf, counted),
            genesis,
            store,
            Replica(store, mark),
            etcd,
            signers,
            SystemClock(),
            peer_tls,
        )
        stack.push_async_callback(asyncio.to_thread, member.stop)
        peers = PeerServicer(member, store, doors.metrics, software_version=SOFTWARE_VERSION)
        await door.start(peers)
        member.start()
        rounds = Rounds(etcd, lambda: member.peers)
        stack.push_async_callback(asyncio.to_thread, rounds.close)
        doors.metrics.registry.register(MemberGauges(counted, member, rounds))
        _log.info("member", name=cluster.name, peer=str(peer), id=member.replica.vote.member.hex())
        if not member.wait_released(0):
            async with waiting(doors, lambda: _not_yet(member)):
                if not await _first_release(member, stop):
                    yield None
                    return
        copy = LedgerCopy(store, member.publications)
        own, kept = stack.enter_context(kept_letters(settings, copy, doors.metrics))
        peers.envelopes = kept
        forwarding = Forwarding(member, peer_tls, doors.metrics)
        stack.push_async_callback(forwarding.close)
        member.cosigned = copy.witnessed.look
        sharing = Sharing(member, copy)
        copy.witnessed.on_publish(sharing.published)
        collector = stack.enter_context(
            collecting(
                copy,
                settings.cosigning,
                asks=lambda: member.leads,
                gathered=sharing.gathered,
                observe=doors.metrics.witness,
            )
        )
        served = Served(
            copy=copy,
            submitter=member,
            letters=ClusterLetters(member, own, kept),
            stop_writing=member.stop,
            trouble=lambda: member.fault,
            usage=lambda: kept.usage,
            forward=forwarding,
            cluster=Overview(member, etcd, SOFTWARE_VERSION),
            collector=collector,
            receipts=ReceiptSigning.stated(settings.receipt_keys, signers, copy),
            behind=lambda: member.behind,
        )
        async with serve(doors, served) as for_members:
            door.serve_ledger(for_members)
            yield RunningMember(copy, doors.grpc, doors.http, doors.resources_url, peer, member)


def _not_yet(member: ClusterMember) -> RetryableError:
    """What a member that has nothing to show yet waits for."""
    return member.fault or NoLeader("this member waits for its first signed checkpoint", retry_ms=500)


async def _first_release(member: ClusterMember, stop: asyncio.Event) -> bool:
    """Wait for something to serve; False when told to stop before there is."""
    while not stop.is_set():
        if await asyncio.to_thread(member.wait_released, 0.2):
            return True
    return False


@contextlib.contextmanager
def _opened(settings: Settings) -> Iterator[tuple[Store, Mark]]:
    """The store and the mark, both new or both there."""
    mark_path = settings.mark_path or default_mark_path(settings.data_dir)
    if holds_database(settings.data_dir):
        try:
            mark = Mark.open(mark_path)
        except NotFound as error:
            raise StoreBehindMark(
                "there is a data directory, but not the mark of what this member has voted for",
                where=str(mark_path),
                fix="bring the mark file back to its place. If it is lost, this member is: move the data"
                " directory away too, and have it replaced (docs/operations.md)",
            ) from error
    else:
        make_directories(settings.data_dir)
        mark = Mark.create(mark_path)
    try:
        store = Store(settings.data_dir / DATABASE_DIRECTORY)
        try:
            yield store, mark
        finally:
            store.close()
    finally:
        mark.close()


def _genesis(store: Store, leaf: bytes | None, data_dir: Path) -> bytes:
    """G, of the store or of the leaf given. Raises NodeError, WrongLedger."""
    head = store.head()
    if head is None:
        if leaf is None:
            raise NotFound(
                "no ledger is here yet", where=str(data_dir), fix="start it with --genesis genesis.leaf"
            )
        return leaf_hash(leaf)
    if leaf is not None and leaf_hash(leaf) != head.ledger:
        raise WrongLedger(
            "it holds a ledger that began with another genesis",
            where=str(data_dir),
            fix="give that ledger's genesis or none; or choose another directory",
        )
    return head.ledger


def _member_settings(
    settings: Settings, cluster: ClusterSettings, peer: Address, leaf: bytes | None, observer: Observer
) -> MemberSettings:
    return MemberSettings(
        name=cluster.name,
        peer=peer,
        genesis_leaf=leaf,
        founding=cluster.founding,
        data_dir=settings.data_dir,
        sequencer=SequencerSettings(
            disk_floor=settings.disk_floor,
            clock_is_right=settings.clock_is_right,
            idle_s=settings.idle_seal_s,
        ),
        observer=observer,
        cosigning=settings.cosigning,
    )


def _check_plaintext(peer: Address, tls: TlsCredentials | None) -> None:
    if tls is not None:
        return
    try:
        loopback = peer.host == "localhost" or ipaddress.ip_address(peer.host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise NodeError(
            "members speak to each other in plaintext on one machine only",
            where=f"--peer {peer}",
            fix="give --peer-cert, --peer-key and --peer-ca (`sudur tls init` makes some to try it with)",
        )
