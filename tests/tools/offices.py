"""A node as a process, and offices with directories, keys and roles of their own: for tests of letters."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from tests.tools.helpers import Commands, finish, start
from tools.cli import run

DEGREE = {
    "labels": {"en": "Degree", "ckb": "بڕوانامە"},
    "fields": [
        {"name": "holder", "labels": {"en": "Holder", "ckb": "خاوەن"}, "required": True, "shown": True},
        {"name": "year", "labels": {"en": "Year"}},
    ],
}
TWO_OFFICERS = {kind: {"steps": [[1, 2]], "cap": None} for kind in ("issue.archive", "answer")}
REGISTRY, UNIVERSITY, MINISTRY, CAREFUL, KEYLESS = 1, 2, 3, 4, 5


@dataclass(frozen=True, slots=True)
class Offices:
    """A ledger with type 1 and five agencies, all of whose directories lie in ``root``.

    1 a registry that asks; 2 a university that issues; 3 a ministry, which stands above 4 and 5; 4 issues
    from its archive, and answers, under two officers; 5 has no envelope key.
    """

    root: Path
    grpc: str
    url: str
    process: subprocess.Popen[str]

    def dir(self, agency: int) -> Path:
        return self.root / f"agency-{agency}"

    @property
    def trust(self) -> Path:
        return self.root / "authority" / "trust.json"

    def at(self, agency: int, node: str | None = None) -> tuple[str | Path, ...]:
        """The options with which a command works for an agency."""
        return ("--dir", self.dir(agency), "--node", node or self.grpc)

    def run(self, sudur: Commands, agency: int, *words: str | Path) -> Any:
        """The JSON of an agency's command, which has to work."""
        done = sudur("agency", *words, *self.at(agency), "--json")
        assert done.code == 0, done
        return json.loads(done.out)

    def decide(self, *words: str | Path) -> None:
        """A command of the authority, which has to work."""
        work("authority", *words, "--dir", self.root / "authority", "--node", self.grpc)

    def key(self, agency: int, use: str, label: str) -> Path:
        """A new key of an agency; its public file."""
        work("agency", "keygen", "--dir", self.dir(agency), "--use", use, "--label", label)
        return self.dir(agency) / f"{label}.pub.json"

    def enrol(self, agency: int, name: str, *more: str | Path, desks: int = 1, envelope: bool = True) -> None:
        """Enrol the next agency, whose number this has to be, with all roles, and pin its directory."""
        files = [self.key(agency, "submit", f"desk-{number}") for number in range(1, desks + 1)]
        files += [self.key(agency, "envelope", "envelope")] if envelope else []
        keys = [word for file in files for word in ("--key", file)]
        roles = [word for role in ("issue", "request", "circulate", "enrol") for word in ("--role", role)]
        names = ("--name", f"en={name}", "--name", f"ckb=فەرمانگەی {agency}")
        self.decide("enrol", *names, "--type", "1", *roles, *keys, *more)
        work("agency", "inbox", *self.at(agency), "--trust", self.trust, "--signer", "desk-1")


def work(*arguments: str | Path) -> None:
    """A command that has to work, in this process."""
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()) as said:
        assert run([str(one) for one in arguments]) == 0, said.getvalue()


@contextmanager
def offices(root: Path) -> Iterator[Offices]:
    """Serve a new ledger in ``root``, to which the directories of all agencies are pinned."""

    authority = root / "authority"
    work("authority", "init", "--dir", authority, "--origin", "test.example/letters")
    node = start("node", "start", "--data", root / "data", "--genesis", authority / "genesis.leaf",
                 "--log-key", authority / "log.key.json", "--grpc", "127.0.0.1:0",
                 "--http", "127.0.0.1:0")  # fmt: skip
    try:
        assert node.stdout is not None
        line = node.stdout.readline()
        assert line, node.stderr.read() if node.stderr else ""
        addresses = json.loads(line)
        here = Offices(root, addresses["grpc"], addresses["url"], node)
        (root / "degree.json").write_text(json.dumps(DEGREE))
        (root / "policy.json").write_text(json.dumps(TWO_OFFICERS))
        here.decide("define-type", root / "degree.json")
        here.enrol(REGISTRY, "Registry")
        here.enrol(UNIVERSITY, "University")
        here.enrol(MINISTRY, "Ministry")
        below = ("--parent", str(MINISTRY))
        here.enrol(CAREFUL, "Careful", *below, "--policy", root / "policy.json", desks=2)
        here.enrol(KEYLESS, "Keyless", *below, envelope=False)
        yield here
    finally:
        node.send_signal(signal.SIGTERM)
        ended = finish(node)
    assert ended.code == 0, ended
