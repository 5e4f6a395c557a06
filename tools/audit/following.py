"""An audit that goes on for ever: a round, a pause, and a line in the log whenever something changes."""

from __future__ import annotations

import threading
from typing import Any, Final

import structlog

from tools.audit.metrics import AuditMetrics
from tools.audit.report import Finding, Report, Severity
from tools.audit.rounds import Rounds
from tools.errors import EXIT_NOT_GENUINE, EXIT_OK

PAUSE_S: Final = 5.0
_LOG: Final = structlog.get_logger("audit")


def follow(
    rounds: Rounds,
    stop: threading.Event,
    *,
    metrics: AuditMetrics,
    pause_s: float = PAUSE_S,
    log: Any = _LOG,
) -> int:
    """Audit until ``stop`` is set; returns the exit code: 1 when any lie was found, else 0.

    A source that is away is asked again after each pause. Raises StateDamaged and OSError: whoever runs this
    starts it again, or repairs it.
    """
    known: dict[tuple[str, str], Finding] = {}
    lied = False
    log.info("following", source=rounds.source, size=rounds.size)
    while not stop.is_set():
        report = rounds.run()
        metrics.took(report, rounds.head_size)
        if stop.is_set() and report.is_interrupted:
            break
        lied = lied or report.worst is Severity.LIE
        known = _tell(report, known, log)
        if report.checked.replayed:
            log.info(
                "audited",
                size=report.checked.size,
                entries=report.checked.replayed,
                blocks=report.checked.blocks,
                seconds=round(report.checked.seconds, 3),
                verdict=report.verdict,
            )
        stop.wait(pause_s)
    log.info("stopped", size=rounds.size, lied=lied)
    return EXIT_NOT_GENUINE if lied else EXIT_OK


def _tell(report: Report, known: dict[tuple[str, str], Finding], log: Any) -> dict[tuple[str, str], Finding]:
    """A line for each finding that is new, and for each that is no more."""
    found = {(one.code, one.where): one for one in report.findings}
    for key, one in found.items():
        if key not in known:
            write = log.error if one.severity is Severity.LIE else log.warning
            write("finding", **one.to_json())
    for key, one in known.items():
        if key not in found:
            log.info("finding_gone", code=one.code, where=one.where)
    return found
