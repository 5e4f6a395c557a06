"""What /metrics of an audit that follows a log shows."""

from __future__ import annotations

import time
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import start_http_server

from tools.audit.report import Report, Severity
from tools.errors import Usage

disable_created_metrics()  # type: ignore[no-untyped-call]
_PREFIX: Final = "sudur_audit_"


class AuditMetrics:
    """In a registry of its own. Every method may be called from any thread."""

    def __init__(self, version: str) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._gauge("build_info", "What runs here", "version").labels(version).set(1)
        self._size = self._gauge("size", "Leaves replayed and compared")
        self._head = self._gauge("head_size", "Leaves of the newest checkpoint that was seen")
        self._lag = self._gauge("lag", "Leaves that were signed and not replayed yet")
        self._sealed = self._gauge("sealed_time_seconds", "The time of the newest seal that was replayed")
        self._witnessed = self._gauge(
            "witnessed_time_seconds", "Since when the witness policy is met; 0: it is not"
        )
        age = self._gauge("head_age_seconds", "How old the newest seal is that was replayed")
        age.set_function(lambda: time.time() - self._sealed_s if self._sealed_s else float("inf"))
        self._sealed_s = 0.0
        self.entries = self._counter("entries", "Entries replayed since the start")
        self._rounds = self._counter("rounds", "Rounds, by how they ended", "verdict")
        self._last = self._gauge("last_round_time_seconds", "When a round ended last", "verdict")
        self._findings = self._gauge("findings", "What the last round found", "severity")
        self._lies = self._counter("lies", "Lies found since the start; never 0 again")
        self._error = self._gauge("last_error", "1 for what stood in the way last", "code")
        self._error_code = ""

    def seen(self, head_size: int, size: int) -> None:
        """How far the log is, and how far this is."""
        self._head.set(head_size)
        self._size.set(size)
        self._lag.set(max(0, head_size - size))

    def took(self, report: Report, head_size: int) -> None:
        """A round has ended."""
        self.seen(head_size, report.checked.size)
        if report.state is not None:
            self._sealed_s = report.state.time_ms / 1000
            self._sealed.set(self._sealed_s)
        self._witnessed.set(report.witnessed_s or 0)
        self._rounds.labels(report.verdict).inc()
        self._last.labels(report.verdict).set(report.now_ms / 1000)
        for severity in Severity:
            count = sum(one.severity is severity for one in report.findings)
            self._findings.labels(severity.name.lower()).set(count)
            if severity is Severity.LIE:
                self._lies.inc(count)
        doubts = [one.code for one in report.findings if one.severity is not Severity.REMARK]
        self._fail(doubts[0] if doubts else "")

    def _fail(self, code: str) -> None:
        if self._error_code and self._error_code != code:
            self._error.labels(self._error_code).set(0)
        if code:
            self._error.labels(code).set(1)
        self._error_code = code

    def serve(self, address: str) -> str:
        """At ``HOST:PORT``, in threads of its own, until the process ends; returns the URL. Raises Usage."""
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit() or int(port) > 65_535:
            raise Usage(f"{address!a} is no address", where="--metrics", fix="write it as HOST:PORT")
        try:
            server, _ = start_http_server(int(port), host.strip("[]"), self.registry)
        except OSError as error:
            raise Usage(f"cannot listen at {address}: {error}", where="--metrics") from None
        return f"http://{host}:{server.server_port}/metrics"

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(_PREFIX + name, text, labels, registry=self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(_PREFIX + name, text, labels, registry=self.registry)
