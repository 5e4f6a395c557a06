"""The commands about backups and mirrors, against a node that runs as a process of its own."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from node.node import default_mark_path
from tests.tools.helpers import Commands, assert_one_line, finish, start
from tests.tools.ledger_process import Ledger, running
from tools.errors import EXIT_USAGE


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    with running(tmp_path_factory.mktemp("ledger")) as one:
        yield one


@pytest.fixture
def sudur(capsys: pytest.CaptureFixture[str]) -> Commands:
    return Commands(capsys)


@pytest.mark.slow
def test_back_up_verify_restore_and_follow(ledger: Ledger, sudur: Commands, tmp_path: Path) -> None:
    trust = ("--trust", ledger.trust)
    backup, data = tmp_path / "backup", tmp_path / "data"
    made = sudur(
        "node", "backup", "--node", ledger.grpc, "--to", backup, *trust,
        "--letters", ledger.root / "data", "--json",
    )  # fmt: skip
    assert made.code == 0, made
    told = json.loads(made.out)
    assert told["size"] == 2
    assert told["letters_bytes"] > 0
    checked = sudur("node", "verify-backup", backup, *trust)
    assert checked.code == 0, checked
    assert "whole, and the log's: 2 leaves in 1 blocks" in checked.out
    restored = sudur("node", "restore", "--from", backup, "--data", data, *trust)
    assert restored.code == 0, restored
    assert f"root {told['root']}" in restored.out
    assert "--sign-from-here" in restored.out
    again = sudur("node", "restore", "--from", backup, "--data", data, *trust)
    assert_one_line(again, 1, "already")

    mirror = start(
        "node", "start", "--data", data, "--follow", ledger.grpc, *trust,
        "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0",
    )  # fmt: skip
    try:
        assert mirror.stdout is not None
        addresses = json.loads(mirror.stdout.readline())
        alive = httpx.get(f"{addresses['url']}/healthz", trust_env=False).json()
        assert alive["mirror"]["follows"] == ledger.grpc
        theirs, ours = (
            httpx.get(f"{url}/checkpoint", trust_env=False).content for url in (ledger.url, addresses["url"])
        )
        assert ours == theirs
    finally:
        mirror.send_signal(signal.SIGTERM)
        ended = finish(mirror)
    assert ended.code == 0, ended


@pytest.mark.slow
def test_a_drill(ledger: Ledger, sudur: Commands, tmp_path: Path) -> None:
    told = sudur(
        "node", "drill", "--node", ledger.grpc, "--trust", ledger.trust, "--scratch", tmp_path, "--json"
    )
    assert told.code == 0, told
    assert json.loads(told.out)["size"] == 2
    assert list(tmp_path.iterdir()) == []
    neither = sudur("node", "drill", "--trust", ledger.trust)
    assert_one_line(neither, EXIT_USAGE, "--from")


def test_what_does_not_go_together(ledger: Ledger, sudur: Commands, tmp_path: Path) -> None:
    key = ledger.authority / "log.key.json"
    both: list[tuple[str | Path, ...]] = [
        (),
        ("--follow", ledger.grpc, "--log-key", key, "--trust", ledger.trust),
    ]
    for arguments in both:
        assert_one_line(sudur("node", "start", "--data", tmp_path / "x", *arguments), EXIT_USAGE, "--follow")
    half: list[tuple[str | Path, ...]] = [
        ("--follow", ledger.grpc),
        ("--log-key", key, "--trust", ledger.trust),
        ("--follow", ledger.grpc, "--trust", ledger.trust, "--genesis", ledger.authority / "genesis.leaf"),
    ]
    for arguments in half:
        assert_one_line(sudur("node", "start", "--data", tmp_path / "x", *arguments), EXIT_USAGE, "--trust")
    nowhere = sudur("node", "start", "--data", tmp_path / "x", "--follow", "nowhere", "--trust", ledger.trust)
    assert_one_line(nowhere, EXIT_USAGE, "--follow")
    assert not (tmp_path / "x").exists()
    assert not default_mark_path(tmp_path / "x").exists()


def test_a_backup_of_a_node_that_is_not_there(ledger: Ledger, sudur: Commands, tmp_path: Path) -> None:
    gone = sudur("node", "backup", "--node", "127.0.0.1:1", "--to", tmp_path / "b", "--trust", ledger.trust)
    assert_one_line(gone, 1, "127.0.0.1:1")
    empty = sudur("node", "verify-backup", tmp_path, "--trust", ledger.trust)
    assert_one_line(empty, 1, "no backup here")
