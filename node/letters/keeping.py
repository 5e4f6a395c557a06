"""A node's letters while it runs: the store of envelopes, who may use it, and what lets go of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from node.config import Settings
from node.doors.grpc_api import now_ms
from node.ledger_copy import LedgerCopy
from node.letters.envelope_keeper import DAY_MS, EnvelopeKeeper
from node.letters.envelope_store import ENVELOPE_DIRECTORY, EnvelopeStore
from node.letters.envelopes import Envelopes
from node.metrics import Metrics


@contextlib.contextmanager
def kept_letters(
    settings: Settings, copy: LedgerCopy, metrics: Metrics
) -> Iterator[tuple[Envelopes, EnvelopeStore]]:
    """Envelopes are held while the context lasts, and let go of as the log and the clock say."""
    kept = EnvelopeStore(settings.data_dir / ENVELOPE_DIRECTORY)

    def newest() -> tuple[int, int]:
        published = copy.published
        return published.head.block, published.state.time_ms

    keeper = EnvelopeKeeper(
        kept,
        copy.store,
        newest,
        metrics,
        retention_ms=settings.envelopes.days * DAY_MS,
        wall_ms=now_ms,
    )
    copy.publications.on_publish(lambda _: keeper.wake())
    keeper.start()
    try:
        letters = Envelopes(
            copy,
            kept,
            settings.envelopes,
            metrics,
            data_dir=settings.data_dir,
            disk_floor=settings.disk_floor,
            wall_ms=now_ms,
        )
        yield letters, kept
    finally:
        keeper.stop()
        kept.close()
