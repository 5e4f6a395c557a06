"""Running a node: the core, its gRPC and HTTP servers, on one event loop, until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, cast

import structlog
import uvicorn

from ledger.errors import WrongLedger
from ledger.hashing import leaf_hash
from ledger.signatures import Signer
from node.config import Address, Settings
from node.disk import free_bytes
from node.envelope_keeper import DAY_MS, EnvelopeKeeper
from node.envelope_store import ENVELOPE_DIRECTORY, EnvelopeStore
from node.envelopes import Envelopes
from node.errors import DiskFull, NodeError, NotFound, ReadOnly
from node.grpc_api import SERVICE, SOFTWARE_VERSION, GrpcServer, LedgerServicer, now_ms
from node.http_api import make_app
from node.http_edge import MAX_HEAD, Edge
from node.http_protocol import HEAD_S, HttpProtocol
from node.http_tls import TlsDoor
from node.inquiries import Inquiries
from node.limits import CallerLimits
from node.metrics import Gauges, Metrics
from node.node import LedgerNode, NodeSettings
from node.reads import Reads
from node.releases import Releases
from node.resources import Resources
from node.sequencer import SequencerSettings
from node.tls import TlsCredentials
from node.writes import Writes
from transport.certificates import Purpose

_HEALTH_S: Final = 0.5
_LINGER_S: Final = 0.1
_log = structlog.get_logger("node.run")


@dataclass(frozen=True, slots=True)
class RunningNode:
    """A node that serves: its core, and the addresses that it listens at, ports filled in."""

    ledger: LedgerNode
    grpc: Address
    http: Address
    resources_url: str


async def run(
    settings: Settings,
    signers: Sequence[Signer],
    genesis_leaf: bytes | None = None,
    *,
    ready: Callable[[RunningNode], None] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then stop in good order; a second signal does not hurry it.

    ``genesis_leaf`` is leaf 0, for a data directory that has no ledger yet. ``ready`` is called once
    everything listens. Raises NodeError, and what :meth:`LedgerNode.open` raises, before that.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT)
    for one in signals:
        loop.add_signal_handler(one, stop.set)
    try:
        async with start_node(settings, signers, genesis_leaf) as running:
            if ready is not None:
                ready(running)
            await stop.wait()
    finally:
        for one in signals:
            loop.remove_signal_handler(one)


@contextlib.asynccontextmanager
async def start_node(
    settings: Settings, signers: Sequence[Signer], genesis_leaf: bytes | None = None
) -> AsyncIterator[RunningNode]:
    """A node that serves while the context lasts. Errors as :func:`run`.

    At the end no new submission is taken, the block in work is finished and answered, streams are
    ended, then the servers and the store are closed.
    """
    metrics = Metrics(SOFTWARE_VERSION)
    # Both ports before the store: a start that fails founds no ledger.
    tls = None if settings.tls is None else TlsCredentials(settings.tls, Purpose.SERVER)
    if tls is not None:
        metrics.certificates(tls)
    listener = _listen("HTTP", settings.http)
    grpc_server = GrpcServer(settings, tls)
    try:
        # gRPC would write lines of its own to stderr about a port that is taken.
        _listen("gRPC", settings.grpc).close()
        grpc_address = grpc_server.listen()
        ledger = _open(settings, signers, genesis_leaf, metrics)
        try:
            kept = EnvelopeStore(settings.data_dir / ENVELOPE_DIRECTORY)
        except BaseException:
            ledger.close()
            raise
    except BaseException:
        listener.close()
        await grpc_server.stop(0)
        raise
    keeper = _keeper(settings, ledger, kept, metrics)
    try:
        http_address = Address(settings.http.host, listener.getsockname()[1])
        resources_url = settings.public_url or f"{'http' if tls is None else 'https'}://{http_address}"
        reads = Reads(ledger)
        envelopes = Envelopes(
            ledger,
            kept,
            settings.envelopes,
            metrics,
            data_dir=settings.data_dir,
            disk_floor=settings.disk_floor,
            wall_ms=now_ms,
        )
        writes = Writes(ledger, ledger.sequencer, envelopes, metrics)
        releases = Releases(ledger, metrics, writes.stopping)
        inquiries = Inquiries(ledger, releases)
        unready = partial(_unready, settings, ledger, writes)
        metrics.read(
            Gauges(
                queue_length=lambda: float(ledger.sequencer.queued[0]),
                disk_free_bytes=lambda: float(free_bytes(settings.data_dir)),
                read_only=lambda: bool(unready()),
                envelopes_held=lambda: float(kept.usage.envelopes),
                envelope_bytes=lambda: float(kept.usage.size),
            )
        )
        ledger.publications.on_publish(lambda _: keeper.wake())
        ledger.sequencer.start()
        keeper.start()
        limits = CallerLimits(settings.rates, lambda scope: metrics.limited.labels(scope).inc())
        servicer = LedgerServicer(
            reads,
            inquiries,
            writes,
            envelopes,
            releases,
            metrics,
            grpc_server.watches,
            limits,
            settings.limits,
            resources_url,
        )
        app = make_app(reads, inquiries, Resources(ledger, reads), metrics, unready)
        http_server = HttpServer(Edge(app, metrics, limits), settings, tls)
        await grpc_server.set_serving(True)
        await grpc_server.start(servicer)
        await http_server.start(listener)
        health = asyncio.create_task(_tell_health(grpc_server, unready))
        running = RunningNode(ledger, grpc_address, http_address, resources_url)
        _log.info("serving", grpc=str(grpc_address), http=str(http_address), size=reads.size)
        try:
            yield running
        finally:
            _log.info("stopping", size=reads.size)
            health.cancel()
            writes.stopping.set()
            releases.wake()
            await grpc_server.set_serving(False)
            # Off the loop, which has to deliver the answers of the last block meanwhile.
            await asyncio.to_thread(ledger.sequencer.stop)
            # Calls that are here already are told STOPPING; gRPC would only cancel them.
            await asyncio.sleep(_LINGER_S)
            await grpc_server.stop(settings.stop_grace_s)
            await http_server.stop()
            _log.info("stopped", size=reads.size)
    finally:
        await asyncio.to_thread(keeper.stop)
        kept.close()
        await asyncio.to_thread(ledger.close)


def _open(
    settings: Settings, signers: Sequence[Signer], genesis_leaf: bytes | None, metrics: Metrics
) -> LedgerNode:
    """The ledger in the data directory, begun with ``genesis_leaf`` if there is none yet."""
    core = NodeSettings(
        sequencer=SequencerSettings(disk_floor=settings.disk_floor, clock_is_right=settings.clock_is_right),
        observe=metrics.commit_step,
    )
    try:
        ledger = LedgerNode.open(settings.data_dir, signers, mark_path=settings.mark_path, settings=core)
    except NotFound:
        if genesis_leaf is None:
            raise
        return LedgerNode.create(
            settings.data_dir, genesis_leaf, signers, mark_path=settings.mark_path, settings=core
        )
    if genesis_leaf is not None and leaf_hash(genesis_leaf) != ledger.published.state.genesis:
        ledger.close()
        raise WrongLedger(
            "it holds a ledger that began with another genesis",
            where=str(settings.data_dir),
            fix="give that ledger's genesis or none; or choose another directory for a new ledger",
        )
    return ledger


def _keeper(settings: Settings, ledger: LedgerNode, kept: EnvelopeStore, metrics: Metrics) -> EnvelopeKeeper:
    def newest() -> tuple[int, int]:
        published = ledger.published
        return published.head.block, published.state.time_ms

    return EnvelopeKeeper(
        kept,
        ledger.store,
        newest,
        metrics,
        retention_ms=settings.envelopes.days * DAY_MS,
        wall_ms=now_ms,
    )


def _unready(settings: Settings, ledger: LedgerNode, writes: Writes) -> list[str]:
    """Why no submission is taken now; empty when one is. About 5 µs."""
    if writes.stopping.is_set():
        return ["STOPPING: this node is shutting down"]
    fault = ledger.sequencer.fault
    if fault is not None:
        return [f"{fault.code}: {fault}"]
    try:
        room = free_bytes(settings.data_dir)
    except OSError as error:
        return [f"{ReadOnly.code}: the disk does not answer: {error}"]
    # The sequencer looks only when there is something to write.
    if room < settings.disk_floor:
        return [f"{DiskFull.code}: {room >> 20} MiB are free, {settings.disk_floor >> 20} must stay so"]
    return []


async def _tell_health(server: GrpcServer, unready: Callable[[], list[str]]) -> None:
    """Keep what the health service says in step with whether submissions are taken."""
    said = True
    while True:
        reasons = unready()
        if said is bool(reasons):
            said = not reasons
            _log.warning("serving changed", service=SERVICE, serving=said, reasons=reasons)
            await server.set_serving(said)
        await asyncio.sleep(_HEALTH_S)


# --- HTTP --------------------------------------------------------------------------------------


def _listen(what: str, address: Address) -> socket.socket:
    """A listening socket. Raises NodeError when the port is taken, or the host is not ours."""
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setblocking(False)
            listener.bind(where)
            listener.listen(1024)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise NodeError(
            f"cannot listen there: {error.strerror or error}",
            where=f"{what} address {address}",
            fix="stop what listens there, or choose another address",
        ) from error
    return listener


class HttpServer(uvicorn.Server):
    """uvicorn, as a guest on a loop that others own: no signal handlers, no logging set up."""

    def __init__(
        self, app: Edge, settings: Settings, tls: TlsCredentials | None = None, *, head_s: float = HEAD_S
    ) -> None:
        peers: Counter[str] = Counter()
        protocol: Callable[..., asyncio.Protocol] = partial(
            HttpProtocol,
            peers=peers,
            most_of_a_peer=settings.limits.max_peer_connections,
            head_s=head_s,
        )
        if tls is not None:
            protocol = partial(
                TlsDoor,
                behind=protocol,
                context=tls.server_context,
                peers=peers,
                most_of_a_peer=settings.limits.max_peer_connections,
                handshake_s=head_s,
            )
        super().__init__(
            uvicorn.Config(
                app,
                http=cast("type[asyncio.Protocol]", protocol),
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=30,
                timeout_graceful_shutdown=max(1, round(settings.stop_grace_s)),
                limit_concurrency=settings.limits.max_http_connections,
                h11_max_incomplete_event_size=MAX_HEAD,
            )
        )
        self._up = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the process's signal handlers alone: :func:`run` has its own."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start listening, and say so."""
        await super().startup(sockets)
        self._up.set()

    async def start(self, listener: socket.socket) -> None:
        """Serve on a listening socket; returns when it is served."""
        self._task = asyncio.create_task(self.serve([listener]))
        up = asyncio.create_task(self._up.wait())
        await asyncio.wait({self._task, up}, return_when=asyncio.FIRST_COMPLETED)
        if not self._up.is_set():
            up.cancel()
            await self._task

    async def stop(self) -> None:
        """Let the requests in work end, then close."""
        self.should_exit = True
        if self._task is not None:
            await self._task
