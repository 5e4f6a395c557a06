"""Running a mirror: what follows, and the servers of a node in front of it, on one event loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import structlog

from ledger.trust import TrustedLedger
from node.config import Settings
from node.copying.mirror import Mirror, MirrorSettings, NoLetters
from node.doors.serving import Doors, Running, Served, open_doors, serve
from node.doors.waiting import waiting
from node.errors import ReadOnly
from node.ledger_copy import LedgerCopy
from node.metrics import Metrics, MirrorGauges
from node.stopping import until_told

_log = structlog.get_logger("node.run")


@dataclass(frozen=True, slots=True)
class RunningMirror(Running):
    """A mirror that serves."""

    mirror: Mirror


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

    async def serving(stop: asyncio.Event) -> None:
        async with start_mirror(settings, trusted, follow, stop, mirror_settings) as running:
            if running is not None:
                if ready is not None:
                    ready(running)
                await stop.wait()

    await until_told(serving)


@contextlib.asynccontextmanager
async def start_mirror(
    settings: Settings,
    trusted: TrustedLedger,
    follow: Sequence[str],
    stop: asyncio.Event,
    mirror_settings: MirrorSettings | None = None,
) -> AsyncIterator[RunningMirror | None]:
    """A mirror that serves while the context lasts; None when told to stop before there was anything."""
    async with open_doors(settings) as doors:
        metrics = doors.metrics
        core = replace(
            mirror_settings or MirrorSettings(),
            disk_floor=settings.disk_floor,
            failed=lambda code: metrics.mirror_faults.labels(code).inc(),
        )
        mirror = Mirror.open(settings.data_dir, trusted, follow, mark_path=settings.mark_path, settings=core)
        try:
            copy = await _first(mirror, doors, stop)
            if copy is None:
                yield None
                return
            _show(metrics, mirror)
            served = Served(
                copy=copy,
                submitter=mirror,
                letters=NoLetters(mirror),
                stop_writing=mirror.stop,
                trouble=lambda: mirror.fault,
                # It does what it is for, with a link or without.
                always_healthy=True,
                mirror=mirror,
            )
            async with serve(doors, served):
                yield RunningMirror(copy, doors.grpc, doors.http, doors.resources_url, mirror)
        finally:
            await asyncio.to_thread(mirror.close)


async def _first(mirror: Mirror, doors: Doors, stop: asyncio.Event) -> LedgerCopy | None:
    """Start to follow; returns what there is to serve, once there is anything, or None at ``stop``."""
    loop = asyncio.get_running_loop()
    there = asyncio.Event()
    mirror.when_ready(partial(loop.call_soon_threadsafe, there.set))
    mirror.start()
    if mirror.copy is None:
        _log.info("waiting for the first blocks", follow=mirror.addresses)
        async with waiting(doors, partial(_not_yet, mirror)):
            waits = [asyncio.create_task(one.wait()) for one in (there, stop)]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for one in waits:
                one.cancel()
    return mirror.copy


def _not_yet(mirror: Mirror) -> ReadOnly:
    return ReadOnly(
        f"this mirror has nothing yet: it waits for the first blocks of {', '.join(mirror.addresses)}",
        fix="see that the node it follows is up, and the link",
    )


def _show(metrics: Metrics, mirror: Mirror) -> None:
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
