"""Alerts, runbook and metrics of a witness name each other."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tools.witness.metrics import WitnessMetrics

DOCS = Path(__file__).parents[3] / "docs"
ALERTS = DOCS / "deploy" / "alerts-witness.yml"
PAGE = (DOCS / "witnesses.md").read_text()
METRIC = re.compile(r"\bsudur_witnessing_[a-z_]+\b")


def exported() -> set[str]:
    metrics = WitnessMetrics("test")
    metrics.watch(ready=lambda: True, free_bytes=float, tls=None)
    metrics.audits(dict)
    found = set()
    for family in metrics.registry.collect():
        found.add(family.name + ("_total" if family.type == "counter" else ""))
    # It is there only where a certificate is.
    return {name for name in found if not name.startswith("process_")} | {
        "sudur_witnessing_certificate_expiry_seconds"
    }


def test_metrics_are_explained_and_what_is_explained_or_watched_is_there() -> None:
    assert set(METRIC.findall(PAGE)) == exported()
    assert set(METRIC.findall(ALERTS.read_text())) <= exported()


def test_every_alert_has_its_runbook() -> None:
    text = ALERTS.read_text()
    names = re.findall(r"- alert: (\w+)", text)
    assert re.findall(r"^### (\w+)$", PAGE, re.MULTILINE) == names
    assert re.findall(r"runbook: docs/witnesses.md#(\w+)", text) == [name.lower() for name in names]
    for name, severity in zip(names, re.findall(r"severity: (\w+)", text.split("rules:")[1]), strict=True):
        entry = PAGE.split(f"\n### {name}\n\n")[1].split("\n###")[0]
        assert entry.startswith(f"*{severity}.* ")
        assert "**Do:**" in entry


def test_prometheus_takes_the_rules() -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not on this machine (Debian: prometheus)")
    done = subprocess.run(["promtool", "check", "rules", ALERTS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
