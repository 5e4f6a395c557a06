"""What every kind of node has in front of its ledger: two doors, gRPC and HTTP, on one event loop.

A node alone, a member of a cluster and a mirror differ in who brings the ledger forward and in what becomes
of a submission; what they serve, and how they stop, is the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog

from node.clock import SystemClock
from node.config import UNLIMITED, Address, Settings
from node.copying.mirror import Mirror
from node.cosigning.collector import Collector
from node.cosigning.health import WitnessMetrics, cosigning_of
from node.disk import free_bytes
from node.doors.forward import Forward
from node.doors.grpc_api import SERVICE, SOFTWARE_VERSION, GrpcServer, LedgerServicer
from node.doors.http_api import make_app
from node.doors.http_edge import Edge
from node.doors.http_server import HttpServer, listen_at
from node.doors.inquiries import Inquiries
from node.doors.limits import CallerLimits
from node.doors.portable import PortableProofs, ReceiptSigning
from node.doors.reads import Reads
from node.doors.releases import Releases
from node.doors.resources import Resources
from node.doors.writes import Writes
from node.errors import DiskFull, ReadOnly, RetryableError
from node.ledger_copy import LedgerCopy
from node.letters.envelope_store import Usage
from node.letters.envelopes import Letters
from node.metrics import Gauges, Metrics
from node.submitter import Submitter
from node.tls import TlsCredentials
from sudur.v1 import ledger_pb2
from transport.certificates import Purpose

HEALTH_S: Final = 0.5
LINGER_S: Final = 0.1
_log = structlog.get_logger("node.run")


@dataclass(frozen=True, slots=True)
class Running:
    """A node that serves, and the addresses that it listens at, ports filled in."""

    ledger: LedgerCopy
    grpc: Address
    http: Address
    resources_url: str


@dataclass(frozen=True, slots=True)
class Doors:
    """Both ports, taken: callers connect, and wait."""

    settings: Settings
    metrics: Metrics
    tls: TlsCredentials | None
    listener: socket.socket
    grpc_server: GrpcServer
    grpc: Address
    http: Address

    @property
    def resources_url(self) -> str:
        """Where readers reach the static resources."""
        scheme = "http" if self.tls is None else "https"
        return self.settings.public_url or f"{scheme}://{self.http}"


@contextlib.asynccontextmanager
async def open_doors(settings: Settings) -> AsyncIterator[Doors]:
    """Take both ports before anything else is touched: a start that fails founds no ledger.

    Raises NodeError, TlsProblem.
    """
    metrics = Metrics(SOFTWARE_VERSION)
    tls = None if settings.tls is None else TlsCredentials(settings.tls, Purpose.SERVER)
    if tls is not None:
        metrics.certificates(tls)
    listener = listen_at("HTTP", settings.http)
    grpc_server = GrpcServer(settings, tls)
    try:
        # gRPC would write lines of its own to stderr about a port that is taken.
        listen_at("gRPC", settings.grpc).close()
        grpc_address = grpc_server.listen()
        http_address = Address(settings.http.host, listener.getsockname()[1])
        yield Doors(settings, metrics, tls, listener, grpc_server, grpc_address, http_address)
    finally:
        listener.close()
        await grpc_server.stop(0)


@dataclass(frozen=True, slots=True)
class Served:
    """What is behind the doors.

    ``stop_writing`` ends whoever brings the ledger forward, after the block in work; it blocks. ``trouble``
    says why no submission is taken (None: one is), which the health service says too, unless
    ``always_healthy``. ``usage``: of the envelopes held. ``mirror`` is there for a mirror, ``forward`` and
    ``cluster`` for a member of a cluster, which may not lead. ``receipts``: for a node that signs any;
    ``behind`` says why its copy may not be the newest there is. ``collector``: of a node that asks witnesses.
    """

    copy: LedgerCopy
    submitter: Submitter
    letters: Letters
    stop_writing: Callable[[], None]
    trouble: Callable[[], RetryableError | None]
    usage: Callable[[], Usage] = lambda: Usage(0, 0)
    always_healthy: bool = False
    mirror: Mirror | None = None
    forward: Forward | None = None
    cluster: Callable[[], ledger_pb2.GetClusterResponse] | None = None
    receipts: ReceiptSigning | None = None
    behind: Callable[[], str] = lambda: ""
    collector: Collector | None = None


@contextlib.asynccontextmanager
async def serve(doors: Doors, served: Served) -> AsyncIterator[LedgerServicer]:
    """Serve while the context lasts; then take nothing new, answer what is in work, end streams, close.

    Gives a servicer for the members of a cluster.
    """
    settings, metrics, grpc_server = doors.settings, doors.metrics, doors.grpc_server
    reads = Reads(served.copy)
    writes = Writes(served.copy, served.submitter, served.letters, metrics, served.forward)
    releases = Releases(served.copy, metrics, writes.stopping)
    inquiries = Inquiries(served.copy, releases)
    unready = partial(_unready, settings, served, writes)
    metrics.read(
        Gauges(
            queue_length=lambda: float(served.submitter.queued[0]),
            disk_free_bytes=lambda: float(free_bytes(settings.data_dir)),
            read_only=lambda: bool(unready()),
            envelopes_held=lambda: float(served.usage().envelopes),
            envelope_bytes=lambda: float(served.usage().size),
            envelope_space_bytes=settings.envelopes.bytes,
        )
    )
    limits = CallerLimits(settings.rates, lambda scope: metrics.limited.labels(scope).inc())

    def servicer(limits: CallerLimits, writes: Writes) -> LedgerServicer:
        return LedgerServicer(
            reads,
            inquiries,
            writes,
            served.letters,
            releases,
            metrics,
            grpc_server.watches,
            limits,
            settings.limits,
            doors.resources_url,
            served.mirror,
            served.cluster,
        )

    portable = PortableProofs(
        served.copy, reads, served.receipts, doors.resources_url, SystemClock().now_ms, served.behind
    )
    collector = served.collector
    cosigning = partial(cosigning_of, served.copy) if collector is None else collector.cosigning
    metrics.registry.register(WitnessMetrics(cosigning))
    app = make_app(
        reads,
        inquiries,
        Resources(served.copy, reads),
        metrics,
        unready,
        portable,
        cosigning,
        served.mirror,
    )
    http_server = HttpServer(Edge(app, metrics, limits), settings.http_limits, doors.tls)
    await grpc_server.set_serving(True)
    await grpc_server.start(servicer(limits, writes))
    await http_server.start(doors.listener)
    watched = (list) if served.always_healthy else unready
    health = asyncio.create_task(_tell_health(grpc_server, watched))
    _log.info("serving", grpc=str(doors.grpc), http=str(doors.http), size=reads.size)
    # What other members hand on is not handed on again, and was limited where it came in.
    handed = Writes(served.copy, served.submitter, served.letters, metrics)
    try:
        yield servicer(CallerLimits(UNLIMITED, lambda _: None), handed)
    finally:
        _log.info("stopping", size=reads.size)
        health.cancel()
        writes.stopping.set()
        handed.stopping.set()
        releases.wake()
        await grpc_server.set_serving(False)
        # Off the loop, which has to deliver the answers of the last block meanwhile.
        await asyncio.to_thread(served.stop_writing)
        # Calls that are here already are told STOPPING; gRPC would only cancel them.
        await asyncio.sleep(LINGER_S)
        await grpc_server.stop(settings.stop_grace_s)
        await http_server.stop()
        _log.info("stopped", size=reads.size)


def _unready(settings: Settings, served: Served, writes: Writes) -> list[str]:
    """Why no submission is taken now; empty when one is. About 5 µs."""
    if writes.stopping.is_set():
        return ["STOPPING: this node is shutting down"]
    fault = served.trouble()
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
        await asyncio.sleep(HEALTH_S)
