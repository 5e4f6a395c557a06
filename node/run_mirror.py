"""Running a mirror: what follows, and the servers of a node in front of it, on one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import structlog

from ledger.trust import TrustedLedger
from node.config import Address, Settings
from node.disk import free_bytes
from node.grpc_api import SOFTWARE_VERSION, GrpcServer, LedgerServicer
from node.http_api import make_app
from node.http_edge import Edge
from node.inquiries import Inquiries
from node.ledger_copy import LedgerCopy
from node.metrics import Gauges, Metrics, MirrorGauges
from node.mirror import Mirror, MirrorSettings, NoLetters
from node.reads import Reads
from node.releases import Releases
from node.resources import Resources
from node.run import HttpServer, listen_at
from node.tls import TlsCredentials
from node.writes import Writes
from transport.certificates import Purpose

_LINGER_S = 0.1
_log = structlog.get_logger("node.run")


@dataclass(frozen=True, slots=True)
class RunningMirror:
    """A mirror that serves, and the addresses that it listens at, ports filled in."""

    mirror: Mirror
    ledger: LedgerCopy
    grpc: Address
    http: Address
    resources_url: str


async def run_mirror(
    settings: Settings,
    trusted: TrustedLedger,
    follow: Sequence[str],
    *,
    ready: Callable[[RunningMirror], None] | None = None,
    mirror_settings: MirrorSettings | None = None,
) -> None:
    """Follow and serve until SIGTERM or SIGINT. Raises NodeError, and what :meth:`Mirror.open` raises.

    ``ready`` is called once everything listens: for a new mirror, not before the first blocks are here.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT)
    for one in signals:
        loop.add_signal_handler(one, stop.set)
    try:
        serving = asyncio.create_task(_serve(settings, trusted, follow, stop, ready, mirror_settings))
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait({serving, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stop.set()
        await serving
    finally:
        for one in signals:
            loop.remove_signal_handler(one)


async def _serve(
    settings: Settings,
    trusted: TrustedLedger,
    follow: Sequence[str],
    stop: asyncio.Event,
    ready: Callable[[RunningMirror], None] | None,
    mirror_settings: MirrorSettings | None,
) -> None:
    async with start_mirror(settings, trusted, follow, stop, mirror_settings) as running:
        if running is not None:
            if ready is not None:
                ready(running)
            await stop.wait()


@contextlib.asynccontextmanager
async def start_mirror(
    settings: Settings,
    trusted: TrustedLedger,
    follow: Sequence[str],
    stop: asyncio.Event,
    mirror_settings: MirrorSettings | None = None,
) -> AsyncIterator[RunningMirror | None]:
    """A mirror that serves while the context lasts; None when told to stop before there was anything."""
    metrics = Metrics(SOFTWARE_VERSION)
    core = replace(
        mirror_settings or MirrorSettings(),
        disk_floor=settings.disk_floor,
        failed=lambda code: metrics.mirror_faults.labels(code).inc(),
    )
    tls = None if settings.tls is None else TlsCredentials(settings.tls, Purpose.SERVER)
    if tls is not None:
        metrics.certificates(tls)
    listener = listen_at("HTTP", settings.http)
    grpc_server = GrpcServer(settings, tls)
    try:
        # gRPC would write lines of its own to stderr about a port that is taken.
        listen_at("gRPC", settings.grpc).close()
        grpc_address = grpc_server.listen()
        mirror = Mirror.open(settings.data_dir, trusted, follow, mark_path=settings.mark_path, settings=core)
    except BaseException:
        listener.close()
        await grpc_server.stop(0)
        raise
    try:
        copy = await _first(mirror, stop)
        if copy is None:
            listener.close()
            await grpc_server.stop(0)
            yield None
            return
        http_address = Address(settings.http.host, listener.getsockname()[1])
        resources_url = settings.public_url or f"{'http' if tls is None else 'https'}://{http_address}"
        reads = Reads(copy)
        letters = NoLetters(mirror)
        writes = Writes(copy, mirror, letters, metrics)
        releases = Releases(copy, metrics, writes.stopping)
        inquiries = Inquiries(copy, releases)
        _show(metrics, mirror, settings)
        servicer = LedgerServicer(
            reads,
            inquiries,
            writes,
            letters,
            releases,
            metrics,
            grpc_server.watches,
            settings.limits,
            resources_url,
            mirror,
        )
        unready = partial(_unready, mirror, writes)
        app = make_app(reads, inquiries, Resources(copy, reads), metrics, unready, mirror)
        http_server = HttpServer(Edge(app, metrics), settings, tls)
        # Healthy: it does what it is for, with a link or without.
        await grpc_server.set_serving(True)
        await grpc_server.start(servicer)
        await http_server.start(listener)
        _log.info("serving", grpc=str(grpc_address), http=str(http_address), size=reads.size)
        try:
            yield RunningMirror(mirror, copy, grpc_address, http_address, resources_url)
        finally:
            _log.info("stopping", size=reads.size)
            writes.stopping.set()
            releases.wake()
            await grpc_server.set_serving(False)
            await asyncio.to_thread(mirror.stop)
            # Calls that are here already are told STOPPING; gRPC would only cancel them.
            await asyncio.sleep(_LINGER_S)
            await grpc_server.stop(settings.stop_grace_s)
            await http_server.stop()
            _log.info("stopped", size=reads.size)
    finally:
        await asyncio.to_thread(mirror.close)


async def _first(mirror: Mirror, stop: asyncio.Event) -> LedgerCopy | None:
    """Start to follow; returns what there is to serve, once there is anything, or None at ``stop``."""
    loop = asyncio.get_running_loop()
    there = asyncio.Event()
    mirror.when_ready(partial(loop.call_soon_threadsafe, there.set))
    mirror.start()
    if mirror.copy is None:
        _log.info("waiting for the first blocks", follow=mirror.addresses)
        waits = [asyncio.create_task(one.wait()) for one in (there, stop)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for one in waits:
            one.cancel()
    return mirror.copy


def _show(metrics: Metrics, mirror: Mirror, settings: Settings) -> None:
    metrics.read(
        Gauges(
            queue_length=lambda: 0.0,
            disk_free_bytes=lambda: float(free_bytes(settings.data_dir)),
            read_only=lambda: True,
            envelopes_held=lambda: 0.0,
            envelope_bytes=lambda: 0.0,
        )
    )

    def contact_age_s() -> float:
        age = mirror.contact_age_ms
        return -1.0 if age is None else age / 1_000

    metrics.mirror(
        MirrorGauges(
            head_age_s=lambda: mirror.head_age_ms / 1_000,
            contact_age_s=contact_age_s,
            blocks_behind=lambda: float(mirror.behind),
        )
    )


def _unready(mirror: Mirror, writes: Writes) -> list[str]:
    if writes.stopping.is_set():
        return ["STOPPING: this node is shutting down"]
    fault = mirror.fault
    return [f"{fault.code}: {fault}"]
