"""Running a node alone, until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from ledger.errors import WrongLedger
from ledger.hashing import leaf_hash
from ledger.signatures import Signer
from node.config import Settings
from node.cosigning.collector import collecting
from node.cosigning.first_signature import check_witnesses
from node.doors.portable import ReceiptSigning
from node.doors.serving import Running, Served, open_doors, serve
from node.errors import NotFound
from node.letters.keeping import kept_letters
from node.metrics import Metrics
from node.node import LedgerNode, NodeSettings
from node.sequencer import SequencerSettings
from node.stopping import until_told


@dataclass(frozen=True, slots=True)
class RunningNode(Running):
    """A node alone that serves. ``ledger`` is its core."""

    ledger: LedgerNode


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

    async def serving(stop: asyncio.Event) -> None:
        async with start_node(settings, signers, genesis_leaf) as running:
            if ready is not None:
                ready(running)
            await stop.wait()

    await until_told(serving)


@contextlib.asynccontextmanager
async def start_node(
    settings: Settings, signers: Sequence[Signer], genesis_leaf: bytes | None = None
) -> AsyncIterator[RunningNode]:
    """A node that serves while the context lasts. Errors as :func:`run`."""
    async with open_doors(settings) as doors:
        # It may wait for witnesses, so not on the loop.
        ledger = await asyncio.to_thread(_open, settings, signers, genesis_leaf, doors.metrics)
        try:
            with (
                kept_letters(settings, ledger, doors.metrics) as (letters, kept),
                collecting(ledger, settings.cosigning, observe=doors.metrics.witness) as collector,
            ):
                ledger.sequencer.start()
                served = Served(
                    copy=ledger,
                    submitter=ledger.sequencer,
                    letters=letters,
                    stop_writing=ledger.sequencer.stop,
                    trouble=lambda: ledger.sequencer.fault,
                    usage=lambda: kept.usage,
                    receipts=ReceiptSigning.stated(settings.receipt_keys, signers, ledger),
                    collector=collector,
                )
                async with serve(doors, served):
                    yield RunningNode(ledger, doors.grpc, doors.http, doors.resources_url)
        finally:
            await asyncio.to_thread(ledger.close)


def _open(
    settings: Settings, signers: Sequence[Signer], genesis_leaf: bytes | None, metrics: Metrics
) -> LedgerNode:
    """The ledger in the data directory, begun with ``genesis_leaf`` if there is none yet."""
    core = NodeSettings(
        sequencer=SequencerSettings(
            disk_floor=settings.disk_floor,
            clock_is_right=settings.clock_is_right,
            idle_s=settings.idle_seal_s,
        ),
        observe=metrics.commit_step,
        before_signing=lambda held, proofs: check_witnesses(held, proofs, settings.cosigning),
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
