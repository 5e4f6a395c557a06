"""What /metrics of a witness shows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from node.tls import TlsCredentials
from tools.witness.heads import Head

disable_created_metrics()  # type: ignore[no-untyped-call]
_SECONDS: Final = (0.001, 0.002, 0.004, 0.008, 0.016, 0.03, 0.06, 0.1, 0.3, 1, 3, 10)
_GROUP: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024)


class _Audited(Collector):
    """How far each log is audited, as of each scrape."""

    def __init__(self, replayed: Callable[[], Mapping[str, int]]) -> None:
        self._replayed = replayed

    def collect(self) -> Iterable[Metric]:
        shown = GaugeMetricFamily(
            "sudur_witnessing_audited_size", "Leaves found to obey the rules, by log", labels=["origin"]
        )
        for origin, size in self._replayed().items():
            shown.add_metric([origin], size)
        yield shown


class WitnessMetrics:
    """Counters and gauges in a registry of their own. Every method may be called from any thread."""

    def __init__(self, version: str) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._gauge("build_info", "What runs here", "version").labels(version).set(1)
        self._answers = self._counter("answers", "Answers to add-checkpoint, by status", "status")
        self._seconds = self._histogram("answer_seconds", "From a request to its answer", _SECONDS)
        self.refused = self._counter("refused", "Requests refused, by reason", "reason")
        self.inconsistent = self._counter(
            "inconsistent", "Signed checkpoints that do not extend what was cosigned, by log", "origin"
        )
        self._cosigned = self._counter("cosigned", "Checkpoints cosigned, by log", "origin")
        self._size = self._gauge("size", "Size cosigned last, by log", "origin")
        self._time = self._gauge("cosigned_time_seconds", "When a log was cosigned last", "origin")
        self._group_size = self._histogram("group_size", "Requests decided with one write", _GROUP)
        self._group_seconds = self._histogram("group_seconds", "What a group took, writes included", _SECONDS)
        self._storage = self._counter("storage_failures", "Writes of the state that failed")

    def watch(
        self, *, ready: Callable[[], bool], free_bytes: Callable[[], float], tls: TlsCredentials | None
    ) -> None:
        """Have these read at every scrape. Call once."""
        self._gauge("ready", "1 while checkpoints are cosigned").set_function(lambda: float(ready()))
        self._gauge("disk_free_bytes", "Free space where the state lies").set_function(free_bytes)
        if tls is not None:
            expiry = self._gauge("certificate_expiry_seconds", "When the certificate expires", "file")
            for path in tls.expiries():
                expiry.labels(str(path)).set_function(lambda path=path: tls.expiries()[path])  # type: ignore[misc]

    def known(self, heads: Mapping[str, Head]) -> None:
        """Show what was remembered at the start."""
        for head in heads.values():
            self._show(head)

    def audits(self, replayed: Callable[[], Mapping[str, int]]) -> None:
        """Show how far each log is audited. Call once."""
        self.registry.register(_Audited(replayed))

    def answered(self, status: int, seconds: float) -> None:
        """An answer to add-checkpoint."""
        self._answers.labels(str(status)).inc()
        self._seconds.observe(seconds)

    def group(self, requests: int, seconds: float) -> None:
        """See :class:`tools.witness.keeper.Observer`."""
        self._group_size.observe(requests)
        self._group_seconds.observe(seconds)

    def cosigned(self, head: Head) -> None:
        """See :class:`tools.witness.keeper.Observer`."""
        self._cosigned.labels(head.checkpoint.origin).inc()
        self._show(head)

    def storage_failed(self) -> None:
        """See :class:`tools.witness.keeper.Observer`."""
        self._storage.inc()

    def text(self) -> bytes:
        """All values in Prometheus' text format, UTF-8."""
        return generate_latest(self.registry)

    def _show(self, head: Head) -> None:
        self._size.labels(head.checkpoint.origin).set(head.checkpoint.size)
        self._time.labels(head.checkpoint.origin).set(head.time_s)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"sudur_witnessing_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"sudur_witnessing_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"sudur_witnessing_{name}", text, registry=self.registry, buckets=buckets)
