"""A ledger served by a node that runs as a process of its own, for tests of commands over real sockets."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.tools.helpers import finish, start
from tools.cli import run


@dataclass(frozen=True, slots=True)
class Ledger:
    """Where it is reached, and the authority's directory that began it."""

    root: Path
    grpc: str
    url: str

    @property
    def authority(self) -> Path:
        return self.root / "authority"

    @property
    def trust(self) -> Path:
        return self.authority / "trust.json"


@contextmanager
def running(
    root: Path,
    *,
    keys: int = 3,
    threshold: int = 2,
    options: Sequence[str | Path] = (),
    origin: str = "test.example/changes",
) -> Iterator[Ledger]:
    """A new ledger in ``root``, with its node, started with these options too; which must end well."""
    authority = root / "authority"
    founded = ["authority", "init", "--dir", str(authority), "--origin", origin]
    assert run([*founded, "--keys", str(keys), "--threshold", str(threshold)]) == 0
    node = start("node", "start", "--data", root / "data", "--genesis", authority / "genesis.leaf",
                 "--log-key", authority / "log.key.json",
                 "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", *options)  # fmt: skip
    try:
        assert node.stdout is not None
        line = node.stdout.readline()
        assert line, node.stderr.read() if node.stderr else ""
        addresses = json.loads(line)
        yield Ledger(root, addresses["grpc"], addresses["url"])
    finally:
        node.send_signal(signal.SIGTERM)
        ended = finish(node)
    assert ended.code == 0, ended
