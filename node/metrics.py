"""What /metrics shows, in a registry of the node's own: two nodes in one process do not mix.

Names follow Prometheus' customs: base units, ``_total`` on counters. Counting costs about 1 µs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from node.tls import TlsCredentials

MEDIA_TYPE: Final = CONTENT_TYPE_LATEST
# When each series began is known to Prometheus, and would be a third of all that is sent.
disable_created_metrics()  # type: ignore[no-untyped-call]
_BLOCK_BUCKETS: Final = (2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 4_096, 16_384, 65_536)
# A step takes 0.1 ms on one node alone, some ms in a cluster, and up to 10 s when others are not heard.
_STEP_BUCKETS: Final = (0.0001, 0.0003, 0.001, 0.002, 0.004, 0.008, 0.016, 0.03, 0.06, 0.1, 0.3, 1, 3, 10)
_CALL_BUCKETS: Final = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10)


@dataclass(frozen=True, slots=True)
class Gauges:
    """Where the values come from that are read, not counted: each is asked at every scrape."""

    queue_length: Callable[[], float]
    disk_free_bytes: Callable[[], float]
    read_only: Callable[[], bool]
    envelopes_held: Callable[[], float]
    envelope_bytes: Callable[[], float]
    envelope_space_bytes: float


@dataclass(frozen=True, slots=True)
class MirrorGauges:
    """The same, of a mirror."""

    head_age_s: Callable[[], float]
    contact_age_s: Callable[[], float]
    blocks_behind: Callable[[], float]


class Metrics:
    """The node's counters. Every method may be called from any thread."""

    def __init__(self, version: str) -> None:
        self.registry = CollectorRegistry()
        self.accepted = self._counter("submissions_accepted", "Submissions answered with a place in the log")
        self.repeated = self._counter("submissions_repeated", "Submissions that got their first answer again")
        self.refused = self._counter("submissions_refused", "Submissions refused, by reason", "reason")
        self.abandoned = self._counter(
            "submissions_abandoned", "Submissions dropped while they waited, for their callers had gone"
        )
        self.limited = self._counter("limited", "Calls and submissions refused for a rate, by scope", "scope")
        self.records = self._counter("records", "Records appended")
        self.changes = self._counter("registry_changes", "Registry changes appended")
        self.proofs = self._counter("proofs", "Proofs served, by kind", "kind")
        self.mirror_faults = self._counter(
            "mirror_faults", "Times that a mirror lost the node it follows, by reason", "reason"
        )
        self.envelopes_put = self._counter("envelopes_put", "Envelopes put, those that were here already too")
        self.envelopes_fetched = self._counter("envelopes_fetched", "Envelopes handed out")
        self.envelopes_dropped = self._counter("envelopes_dropped", "Envelopes dropped by their recipients")
        self.envelopes_expired = self._counter(
            "envelopes_expired", "Envelopes deleted: named by no record, or no longer needed", "reason"
        )
        self.forwarded = self._counter("submissions_forwarded", "Submissions handed on to the leader")
        self.blocks_refused = self._counter(
            "blocks_refused", "Blocks of a leader that this member did not prepare, for they break the rules"
        )
        self.grpc_calls = self._counter(
            "grpc_calls", "gRPC calls ended, by method and code", "method", "code"
        )
        self.http_calls = self._counter(
            "http_requests", "HTTP requests, by route and status", "route", "status"
        )
        self.grpc_seconds = self._histogram(
            "grpc_call_seconds", "Time of a gRPC call, streams left out", _CALL_BUCKETS, "method"
        )
        self.http_seconds = self._histogram(
            "http_request_seconds", "Time of an HTTP request", _CALL_BUCKETS, "route"
        )
        self.block_leaves = self._histogram("block_leaves", "Leaves in a block, its seal too", _BLOCK_BUCKETS)
        self.witness_answers = self._counter(
            "witness_requests", "Requests to a witness, by what became of them", "witness", "outcome"
        )
        self.witness_seconds = self._histogram(
            "witness_request_seconds", "Time of a request to a witness", _CALL_BUCKETS, "witness"
        )
        self.publication_seconds = self._histogram(
            "publication_seconds", "From a signed checkpoint to enough cosignatures", _CALL_BUCKETS
        )
        self._step_seconds = self._histogram(
            "commit_step_seconds", "Time of a step of a commit", _STEP_BUCKETS, "step"
        )
        self.size = self._gauge("tree_size", "Leaves under the newest signed checkpoint")
        self.published_size = self._gauge("published_size", "Leaves under the newest published checkpoint")
        self.block = self._gauge("block_number", "Number of the newest block")
        self.sealed = self._gauge("last_seal_timestamp_seconds", "Time in the newest seal")
        self._expiry = self._gauge(
            "tls_certificate_expiry_timestamp_seconds", "When a certificate in use expires", "file"
        )
        self._gauge("build_info", "The node's software", "version").labels(version).set(1)
        self._gauge("clock_timestamp_seconds", "This machine's clock").set_function(time.time)
        ProcessCollector(registry=self.registry)

    def read(self, gauges: Gauges) -> None:
        """Have the values that are not counted read from ``gauges`` at every scrape. Call once."""
        self._gauge("queue_submissions", "Submissions that wait for a block").set_function(
            gauges.queue_length
        )
        self._gauge("disk_free_bytes", "Free space where the data directory is").set_function(
            gauges.disk_free_bytes
        )
        self._gauge("envelopes_held", "Envelopes on disk").set_function(gauges.envelopes_held)
        self._gauge("envelope_bytes", "Bytes of the envelopes on disk").set_function(gauges.envelope_bytes)
        self._gauge("envelope_space_bytes", "Bytes that envelopes may take on disk").set(
            gauges.envelope_space_bytes
        )
        self._gauge("read_only", "1 while the node takes no submissions").set_function(
            lambda: float(gauges.read_only())
        )

    def certificates(self, *used: TlsCredentials) -> None:
        """Show when these certificates expire, by file, as they are at each scrape."""
        for credentials in used:
            for path in credentials.expiries():
                self._expiry.labels(str(path)).set_function(partial(_expiry, credentials, path))

    def mirror(self, mirror: MirrorGauges) -> None:
        """Have a mirror's values read at every scrape. Call once."""
        self._gauge("mirror_head_age_seconds", "Since the newest block served was sealed").set_function(
            mirror.head_age_s
        )
        self._gauge(
            "mirror_contact_age_seconds", "Since anything came from the node followed; -1: never"
        ).set_function(mirror.contact_age_s)
        self._gauge("mirror_blocks_behind", "Blocks missing, as the node followed last said").set_function(
            mirror.blocks_behind
        )

    def published(self, *, size: int, block: int, time_ms: int) -> None:
        """A block was published."""
        self.size.set(size)
        self.block.set(block)
        self.sealed.set(time_ms / 1_000)

    def commit_step(self, step: str, seconds: float) -> None:
        """A step of a commit has ended."""
        self._step_seconds.labels(step).observe(seconds)

    def witness(self, name: str, outcome: str, seconds: float) -> None:
        """A request to a witness has ended."""
        self.witness_answers.labels(name, outcome).inc()
        self.witness_seconds.labels(name).observe(seconds)

    def text(self) -> bytes:
        """All values in Prometheus' text format, UTF-8."""
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"sudur_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"sudur_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"sudur_{name}", text, labels, registry=self.registry, buckets=buckets)


def _expiry(credentials: TlsCredentials, path: Path) -> float:
    return credentials.expiries()[path]
