"""Dashboard, alerts, runbook and units are about this software: what they name is there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from node.cluster.cluster_metrics import ClusterMetrics, MemberGauges
from node.cosigning.health import Cosigning, WitnessMetrics
from node.metrics import Gauges, Metrics, MirrorGauges

DOCS = Path(__file__).parents[2] / "docs"
DEPLOY = DOCS / "deploy"
ALERTS = (DEPLOY / "alerts.yml").read_text()
OPERATIONS = (DOCS / "operations.md").read_text()
DASHBOARD = json.loads((DEPLOY / "dashboard.json").read_text())
# Prometheus' own, of each target and each rule.
OF_PROMETHEUS = {"up", "ALERTS"}
WORD = re.compile(r"\b(?:sudur|process)_[a-z_]+\b|\bup\b|\bALERTS\b")


def exported() -> set[str]:
    """The name of each series that a node, a member or a mirror may show."""
    metrics = Metrics("test")
    zero = float
    metrics.read(Gauges(zero, zero, bool, zero, zero, 0.0))
    metrics.mirror(MirrorGauges(zero, zero, zero))
    replica = SimpleNamespace(vote=SimpleNamespace(head=None, epoch=1, is_frozen=False), is_catching_up=False)
    member: Any = SimpleNamespace(leads=False, alarm_reason="", replica=replica)
    rounds: Any = SimpleNamespace(peers={}, etcd={})
    metrics.registry.register(MemberGauges(ClusterMetrics(metrics), member, rounds))
    metrics.registry.register(WitnessMetrics(lambda: Cosigning(0, 0, True, ())))
    return names_of(metrics.registry)


def names_of(registry: CollectorRegistry) -> set[str]:
    found = set()
    for family in registry.collect():
        if family.type == "histogram":
            found |= {f"{family.name}_{end}" for end in ("bucket", "sum", "count")}
        else:
            found.add(family.name + ("_total" if family.type == "counter" else ""))
    return found


def rules() -> Iterator[tuple[str, str, str]]:
    """Name, expression and text of each alert. The file keeps to one shape, which a test holds it to."""
    for block in ALERTS.split("      - alert: ")[1:]:
        name, rest = block.split("\n", 1)
        (expression,) = re.findall(r"^        expr: (.+)$", rest, re.MULTILINE)
        yield name, expression, rest


def queries() -> Iterator[str]:
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"]
    for variable in DASHBOARD["templating"]["list"]:
        if isinstance(variable["query"], dict):
            yield variable["query"]["query"]


def test_every_metric_that_is_watched_is_exported() -> None:
    known = exported() | OF_PROMETHEUS
    for text in [*(expression for _, expression, _ in rules()), *queries()]:
        named = set(WORD.findall(text))
        assert named, text
        assert named <= known, text


def test_every_metric_is_explained() -> None:
    explained = set(WORD.findall(OPERATIONS))
    for name in exported():
        plain = re.sub(r"_(bucket|sum|count)$", "", name)
        assert plain in explained or plain.startswith("process_"), name


def test_every_metric_that_is_explained_is_exported() -> None:
    known = exported() | {re.sub(r"_(bucket|sum|count)$", "", name) for name in exported()}
    tables = [line for line in OPERATIONS.splitlines() if line.startswith("| `sudur_")]
    named = {name for line in tables for name in re.findall(r"`(sudur_[a-z_]+)", line.split("|")[1])}
    assert named <= known, named - known


def test_every_alert_has_its_runbook() -> None:
    found = [name for name, _, _ in rules()]
    assert len(found) == len(set(found)) == ALERTS.count("expr:") > 20
    assert re.findall(r"^### (Sudur\w+)$", OPERATIONS, re.MULTILINE) == found, "in the same order"
    for name, _, text in rules():
        assert f"runbook: docs/operations.md#{name.lower()}\n" in text
        (severity,) = re.findall(r"labels: \{severity: (page|ticket)\}", text)
        entry = OPERATIONS.split(f"\n### {name}\n\n")[1].split("\n###")[0]
        assert entry.startswith(f"*{severity}.* ")
        assert "**Do:**" in entry


def test_the_dashboard_asks_the_chosen_prometheus() -> None:
    source = {"type": "prometheus", "uid": "${datasource}"}
    panels = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    for panel in panels:
        assert panel["datasource"] == source
        assert all(target["datasource"] == source for target in panel["targets"])
    assert [one["name"] for one in DASHBOARD["templating"]["list"]] == ["datasource", "job", "instance"]
    boxes: list[dict[str, Any]] = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    cells = [(x, y) for box in boxes for x in columns(box) for y in range(box["y"], box["y"] + box["h"])]
    assert len(cells) == len(set(cells)), "panels lie over each other"


def columns(box: dict[str, Any]) -> range:
    return range(box["x"], box["x"] + box["w"])


def test_prometheus_takes_the_rules() -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not on this machine (Debian: prometheus)")
    done = subprocess.run(
        ["promtool", "check", "rules", str(DEPLOY / "alerts.yml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


UNITS = sorted(DEPLOY.glob("*.service"))


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_systemd_takes_the_units(unit: Path, tmp_path: Path) -> None:
    text = unit.read_text()
    grace = int(re.findall(r"^TimeoutStopSec=(\d+)$", text, re.MULTILINE)[0])
    assert grace > 30, "a commit may wait so long for others"
    for line in ("NoNewPrivileges=yes", "ProtectSystem=strict", "Restart=always", "LimitNOFILE=65536"):
        assert f"\n{line}\n" in text
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not on this machine")
    here = tmp_path / unit.name
    here.write_text(re.sub(r"/opt/sudur/\S+/sudur", "/bin/true", text))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(here)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_units_give_options_that_there_are(unit: Path) -> None:
    started = unit.read_text().split("ExecStart=")[1].replace("\\\n", " ").splitlines()[0]
    names = ("node_cmd.py", "cli.py", "witness/commands.py")
    said = "".join((DOCS.parent / "tools" / name).read_text() for name in names)
    for option in re.findall(r"--([a-z-]+)", started):
        assert option.replace("-", "_") in said, option
