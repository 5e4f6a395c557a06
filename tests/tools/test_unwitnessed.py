"""An agency at work while witnesses cosign, and while they do not: what is left is finished later, once."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from ledger.cosignatures import verify_cosignatures
from ledger.notes import Note, parse_note
from ledger.receipts import parse_receipt
from tests.tools.helpers import Commands, finish, start
from tests.tools.offices import work
from tests.tools.witness.serving import Files, WitnessProcess, start_process
from tests.witnesses import FakeWitness, cosigner_key, wait_for
from tools.pinning import load_trust, only_ledger

REAL = "witness.example/real"


@dataclass
class Town:
    """A ledger whose policy asks for two of three witnesses: one program of ours, two fakes."""

    root: Path
    grpc: str
    url: str
    real: WitnessProcess
    fakes: dict[str, FakeWitness]

    @property
    def trust(self) -> Path:
        return self.root / "authority" / "trust.json"

    @property
    def policy(self) -> Path:
        return self.root / "policy.txt"

    def file(self, name: str) -> Path:
        path = self.root / name
        path.write_bytes(name.encode())
        return path

    def agency(self, sudur: Commands, *words: str | Path, code: int = 0) -> Any:
        done = sudur("agency", *words, "--dir", self.root / "agency", "--node", self.grpc, "--json")
        assert done.code == code, done
        return json.loads(done.out)

    def verify(self, sudur: Commands, receipt: str, *more: str | Path) -> tuple[int, Any]:
        done = sudur("verify", receipt, "--trust", self.trust, "--json", *more)
        return done.code, json.loads(done.out)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    root = tmp_path_factory.mktemp("town")
    authority, real_files = root / "authority", Files(root / "real")
    real_files.root.mkdir()
    work("authority", "init", "--dir", authority, "--origin", "test.example/witnessed")
    keys = [one.key for one in only_ledger(load_trust(authority / "trust.json")).log_keys]
    with ExitStack() as stack:
        real = start_process(real_files, "--log", authority / "trust.json", name=REAL)
        stack.callback(real.stop)
        fakes = {name: FakeWitness(name, *keys).start() for name in ("two", "three")}
        for one in fakes.values():
            stack.callback(one.stop)
        lines = [f"witness one {real.key.format()} {real.url}"]
        lines += [f"witness {name} {cosigner_key(name).format()} {one.url}" for name, one in fakes.items()]
        lines += ["group two-of 2 one two three", "quorum two-of", ""]
        (root / "policy.txt").write_text("\n".join(lines))
        node = start("node", "start", "--data", root / "data", "--genesis", authority / "genesis.leaf",
                     "--log-key", authority / "log.key.json", "--grpc", "127.0.0.1:0",
                     "--http", "127.0.0.1:0")  # fmt: skip
        stack.callback(_ended, node)
        assert node.stdout is not None
        addresses = json.loads(node.stdout.readline())
        at = ("--dir", authority, "--node", addresses["grpc"])
        work("agency", "keygen", "--dir", root / "agency")
        work("authority", "enrol", *at, "--name", "en=Registry", "--role", "issue", "--type", "0", "--key",
             root / "agency" / "submit.pub.json")  # fmt: skip
        work("authority", "witness-policy", root / "policy.txt", *at)
        # A renewal goes by what is published, and that waits for the witnesses.
        wait_for(lambda: _asked_for(authority / "trust.json", addresses["url"]), "the policy is published")
        yield Town(root, addresses["grpc"], addresses["url"], real, fakes)


def _asked_for(trust: Path, url: str) -> bool:
    """Whether the trust file, renewed, has learnt that witnesses are asked for."""
    work("trust", "renew", trust, "--url", url)
    return bool(only_ledger(load_trust(trust)).witness_policy.latest)


def _ended(node: subprocess.Popen[str]) -> None:
    node.send_signal(signal.SIGTERM)
    assert finish(node).code == 0


def test_a_receipt_is_made_once_its_size_is_published(town: Town, sudur: Commands) -> None:
    file = town.file("birth.pdf")
    issued = town.agency(sudur, "issue", file, "--trust", town.trust)["issued"]
    assert [one["verdict"] for one in issued] == ["GENUINE"]
    receipt = issued[0]["receipt"]
    note = parse_note(parse_receipt(Path(receipt).read_bytes()).checkpoint)
    keys = [town.real.key, *(cosigner_key(name) for name in town.fakes)]
    assert len(verify_cosignatures(note, keys)) >= 2
    code, verdict = town.verify(sudur, receipt, "--max-age", "3600", "--policy", town.policy)
    assert (code, verdict["verdict"]) == (0, "GENUINE"), verdict
    assert town.verify(sudur, receipt, file)[0] == 0
    strict = town.root / "strict.txt"
    strict.write_text(f"witness other {cosigner_key('other').format()}\nquorum other\n")
    code, verdict = town.verify(sudur, receipt, "--policy", strict)
    assert (code, verdict["verdict"]) == (2, "CANNOT_TELL")
    assert "other" in verdict["reason"]
    lax = town.root / "lax.txt"
    lax.write_text("quorum none\n")
    unwitnessed = town.root / "unwitnessed.receipt.json"
    told = parse_receipt(Path(receipt).read_bytes())
    bare = Note(note.text, note.signatures[:1]).encode()
    unwitnessed.write_bytes(replace(told, checkpoint=bare).encode())
    assert town.verify(sudur, str(unwitnessed), "--policy", lax)[0] == 2, "the authority asks for two"
    lax.write_text("quorum nobody\n")
    assert town.verify(sudur, receipt, "--policy", lax)[0] == 2


def test_what_is_not_witnessed_is_finished_later_and_once(town: Town, sudur: Commands) -> None:
    for one in town.fakes.values():
        one.gate.clear()
    first, second = town.file("first.pdf"), town.file("second.pdf")
    told = town.agency(sudur, "issue", first, "--wait", "1", code=2)
    assert told["issued"] == []
    (there,) = told["unwitnessed"]
    # The same again finishes that work, as far as it can: nothing is issued twice.
    assert town.agency(sudur, "issue", first, "--wait", "0", code=2)["unwitnessed"] == [there]
    # Work goes on meanwhile.
    both = town.agency(sudur, "issue", second, "--wait", "0", code=2)["unwitnessed"]
    assert both[0] == there
    assert len(both) == 2
    changed = town.agency(sudur, "revoke", str(both[1]["index"]), "--yes", "--wait", "0")
    assert (len(changed["changed"]), changed["published"]) == (1, False)
    said = sudur("agency", "finish", "--dir", town.root / "agency", "--node", town.grpc, "--wait", "0")
    assert said.code == 2
    assert "committed, not yet witnessed" in said.out
    assert "NOT_WITNESSED" in said.err or "not yet witnessed" in said.err
    done = sudur("agency", "receipt", str(there["index"]), "--dir", town.root / "agency", "--node", town.grpc,
                 "--wait", "0")  # fmt: skip
    assert done.code == 2, done
    for one in town.fakes.values():
        one.gate.set()
    issued = town.agency(sudur, "finish")["issued"]
    assert [one["index"] for one in issued] == [one["index"] for one in both]
    assert [one["verdict"] for one in issued] == ["GENUINE", "REVOKED"]
    assert town.agency(sudur, "finish") == {"issued": [], "refused": [], "unwitnessed": []}


def test_rows_of_a_table_are_told_of_too(town: Town, sudur: Commands) -> None:
    table = town.root / "rows.csv"
    table.write_text("name\n" + "\n".join(f"row {n}" for n in range(3)) + "\n")
    out = town.root / "rows"
    command = ("issue", "--csv", table, "--receipts", out)
    for one in town.fakes.values():
        one.gate.clear()
    told = town.agency(sudur, *command, "--wait", "0", code=2)
    assert (told["published"], told["receipts"]) == (False, 0)
    for one in town.fakes.values():
        one.gate.set()
    told = town.agency(sudur, *command)
    assert (told["published"], told["receipts"]) == (True, 3)
    assert town.verify(sudur, str(out / "row-2.receipt.json"))[0] == 0
