"""Two real nodes under one log key: the operator runs the same ledger twice, and shows each to some."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from ledger.trust import parse_trust
from ledger.witnessing import format_add_checkpoint
from tests.tools.helpers import Commands, finish, start
from tests.tools.ledger_process import Ledger, running
from tests.tools.witness.serving import witness
from tools.witness.logs import WitnessedLog


@contextmanager
def twin(of: Ledger, data: Path) -> Iterator[Ledger]:
    """A second node with the first one's genesis and log key, and data of its own."""
    node = start(
        "node", "start", "--data", data, "--genesis", of.authority / "genesis.leaf",
        "--log-key", of.authority / "log.key.json", "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0",
    )  # fmt: skip
    try:
        assert node.stdout is not None
        line = node.stdout.readline()
        assert line, node.stderr.read() if node.stderr else ""
        addresses = json.loads(line)
        yield Ledger(of.root, addresses["grpc"], addresses["url"])
    finally:
        node.send_signal(signal.SIGTERM)
        ended = finish(node)
    assert ended.code == 0, ended


@pytest.fixture
def sudur(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Commands:
    monkeypatch.delenv("SUDUR_PASSPHRASE", raising=False)
    return Commands(capsys)


def enrol(sudur: Commands, at: Ledger, name: str) -> None:
    key = at.root / "office" / "submit.pub.json"
    if not key.exists():
        assert sudur("agency", "keygen", "--dir", key.parent).code == 0
    where = ("--dir", at.authority, "--node", at.grpc)
    done = sudur("authority", "enrol", *where, "--name", f"en={name}", "--key", key)
    assert done.code == 0, done


def test_two_real_nodes_of_one_operator(tmp_path: Path, sudur: Commands) -> None:
    """Each is in order to an auditor of its own; whoever sees both has the file that proves it."""
    with running(tmp_path / "one") as one, twin(one, tmp_path / "other") as other:
        trust, state = ("--trust", one.trust), ("--state", tmp_path / "audit")
        enrol(sudur, one, "Ministry of One")
        enrol(sudur, other, "Ministry of Another")
        clean = sudur("audit", one.url, *trust, *state)
        assert clean.code == 0, clean
        (ledger,) = parse_trust(one.trust.read_bytes()).ledgers
        (tmp_path / "witness").mkdir()
        with witness(tmp_path / "witness", WitnessedLog.of_ledger(ledger)) as (watching, _):
            note = httpx.get(f"{one.url}/checkpoint").content
            assert watching.ask(format_add_checkpoint(0, [], note)).status_code == 200
            told = sudur("audit", "compare", other.url, watching.url, *trust, *state, "--json")
        assert told.code == 1, told
        (evidence,) = json.loads(told.out)["evidence"]
        crossed = sudur("audit", other.url, *trust, *state)
        assert crossed.code == 1, crossed
        assert ".evidence.json" in crossed.out
    proven = sudur("verify-evidence", evidence["file"])
    assert proven.code == 0
    assert "PROVEN: the log test.example/changes was not honest (fork)" in proven.out
