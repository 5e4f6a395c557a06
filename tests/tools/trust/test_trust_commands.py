"""``sudur trust`` against real nodes: renewed, carried, asked about, and on into the ledger that follows."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger.notes import SignatureType, VerifierKey
from ledger.trust import parse_trust
from tests.ledger.world import signer
from tests.tools.helpers import Commands, assert_one_line
from tests.tools.ledger_process import Ledger, running
from tools.cli import run


@pytest.fixture(scope="module")
def ledgers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Ledger, Ledger]]:
    root = tmp_path_factory.mktemp("ledgers")
    with (
        running(root / "old", keys=1, threshold=1) as old,
        running(root / "new", keys=1, threshold=1, origin="test.example/next") as new,
    ):
        yield old, new


@pytest.fixture
def trust(ledgers: tuple[Ledger, Ledger], tmp_path: Path) -> Path:
    return Path(shutil.copy(ledgers[0].trust, tmp_path / "trust.json"))


def by(ledger: Ledger) -> tuple[str | Path, ...]:
    return ("--dir", ledger.authority, "--node", ledger.grpc)


def policy_file(path: Path, name: str, quorum: str = "w") -> Path:
    key = VerifierKey(f"{name}.example", SignatureType.ED25519_COSIGNATURE, signer(name).public_key)
    path.write_text(f"witness w {key.format()}\nquorum {quorum}\n")
    return path


def test_show_and_check(sudur: Commands, trust: Path, ledgers: tuple[Ledger, Ledger]) -> None:
    shown = sudur("trust", "show", trust)
    assert "never renewed" in shown.out
    assert "in use" in shown.out
    assert sudur("trust", "check", trust).code == 1
    assert "no witness is asked for" in sudur("trust", "check", trust).out
    assert json.loads(sudur("trust", "show", trust, "--json").out)[0]["changed"] == "0"
    assert_one_line(sudur("trust", "renew", trust), 64, "--url, --node or a bundle")
    assert_one_line(sudur("trust", "renew", trust, "--url", ledgers[1].url), 1, "serves the ledger")
    assert_one_line(sudur("trust", "renew", trust, trust), 1, "renewal.format")


def test_renewed_by_a_url_a_node_and_a_file_is_the_same(
    sudur: Commands, trust: Path, ledgers: tuple[Ledger, Ledger], tmp_path: Path
) -> None:
    ledger, _ = ledgers
    before = trust.read_bytes()
    policy = policy_file(tmp_path / "policy.txt", "w", "none")
    assert sudur("authority", "witness-policy", policy, *by(ledger)).code == 0
    carried = tmp_path / "carried.renewal"
    assert sudur("trust", "bundle", trust, "--url", ledger.url, "--out", carried).code == 0
    results = []
    for source in (("--url", ledger.url), ("--node", ledger.grpc), (carried,)):
        trust.write_bytes(before)
        done = sudur("trust", "renew", trust, *source)
        assert done.code == 0, done
        assert "the witness policy changed at index 2: none is asked for" in done.out
        results.append(trust.read_bytes())
        assert trust.with_name("trust.json.before").read_bytes() == before
    assert len(set(results)) == 1
    again = sudur("trust", "renew", trust, "--url", ledger.url)
    assert "keys and policy are what they were" in again.out
    assert sudur("trust", "check", trust, "--url", ledger.url).out.count("\n") == 1


def test_a_weaker_policy_is_asked_about(
    sudur: Commands, trust: Path, ledgers: tuple[Ledger, Ledger], tmp_path: Path
) -> None:
    """A file that knows of a witness, and a ledger that asks for none any more."""
    ledger, _ = ledgers
    own = policy_file(tmp_path / "own.txt", "own")
    assert sudur("trust", "own-policy", trust, own).code == 0
    assert "asked for here besides" in sudur("trust", "show", trust).out
    assert_one_line(sudur("trust", "renew", trust, "--url", ledger.url), 1, "no cosignature by witness w")
    assert_one_line(sudur("trust", "own-policy", trust), 64, "--none")
    assert sudur("trust", "own-policy", trust, "--none").code == 0
    assert sudur("trust", "renew", trust, "--url", ledger.url).code == 0


def test_a_closed_ledger_hands_on_trust(
    sudur: Commands, trust: Path, ledgers: tuple[Ledger, Ledger], tmp_path: Path
) -> None:
    """Runs last here: nothing opens a closed ledger again."""
    old, new = ledgers
    successor = new.authority / "genesis.leaf"
    issued = _issue_before(sudur, old, tmp_path)
    done = sudur("authority", "close-ledger", "--successor", successor, *by(old))
    assert done.code == 0, done
    again = sudur("authority", "close-ledger", "--successor", successor, *by(old))
    assert again.code == 0, "it is so already"
    kept = trust.read_bytes()
    done = sudur("trust", "renew", trust, "--url", old.url)
    assert "give --url of a node of that one as well" in done.out
    trust.write_bytes(kept)
    asked = sudur("trust", "renew", trust, "--url", old.url, "--url", new.url)
    assert asked.code == 64
    assert "comes to be believed" in asked.err
    assert "--yes" in asked.err.splitlines()[-1]
    assert trust.read_bytes() == kept
    done = sudur("trust", "renew", trust, "--url", old.url, "--url", new.url, "--yes")
    assert done.code == 0, done
    assert "added, since a ledger in this file is followed by it" in done.out
    (first, second) = parse_trust(trust.read_bytes()).ledgers
    assert first.closed is not None
    assert first.closed.genesis == second.genesis
    assert second.head is not None
    assert "closed at index" in sudur("registry", "show", "ledger", "--node", old.grpc).out
    _closed_at_the_door(sudur, old, tmp_path, issued)
    assert run(["agency", "keygen", "--dir", str(tmp_path / "late")]) == 0
    refused = sudur("authority", "enrol", *by(old), "--name", "en=Late", "--key",
                    tmp_path / "late" / "submit.pub.json")  # fmt: skip
    assert refused.code == 1
    assert "takes nothing new" in refused.err
    assert "use the ledger that follows it" in refused.err
    _ends(sudur, old, trust)


def _issue_before(sudur: Commands, old: Ledger, path: Path) -> Path:
    """A document of the old ledger; its receipt."""
    agency, paper = path / "office", path / "paper.pdf"
    paper.write_bytes(b"a paper")
    assert sudur("agency", "keygen", "--dir", agency).code == 0
    enrol = ("authority", "enrol", *by(old), "--name", "en=Office", "--role", "issue", "--type", "0")
    assert sudur(*enrol, "--key", agency / "submit.pub.json").code == 0
    issue = ("agency", "issue", "--node", old.grpc, "--dir", agency, "--trust", old.trust)
    assert sudur(*issue, paper).code == 0
    (receipt,) = path.rglob("*.receipt.json")
    return receipt


def _closed_at_the_door(sudur: Commands, old: Ledger, path: Path, receipt: Path) -> None:
    """Nothing new is issued, and what was issued can still be revoked and verified."""
    late = path / "late.pdf"
    late.write_bytes(b"too late")
    issue = ("agency", "issue", "--node", old.grpc, "--dir", path / "office")
    refused = sudur(*issue, late)
    assert refused.code == 1
    assert "takes nothing new" in refused.err
    assert sudur("verify", receipt, "--trust", path / "trust.json", "--url", old.url).code == 0
    index = json.loads(receipt.read_bytes())["issue"]["index"]
    revoke = ("agency", "revoke", index, "--dir", path / "office", "--node", old.grpc, "--yes")
    assert sudur(*revoke).code == 0
    assert "REVOKED" in sudur("verify", receipt, "--trust", path / "trust.json", "--url", old.url).out


def _ends(sudur: Commands, old: Ledger, trust: Path) -> None:
    """The last log key ends; the last head is believed at any age, and nothing can be logged any more."""
    size = int(json.loads(sudur("log", "head", "--node", old.grpc, "--json").out)["size"])
    end = ("authority", "end-log-key", old.authority / "log.key.json", *by(old))
    assert "below" in sudur(*end, "--last-size", str(size + 1)).err
    assert sudur(*end, "--last-size", str(size + 2)).code == 0
    refused = sudur("authority", "rename", "1", "--name", "en=Other", *by(old))
    assert refused.code == 1
    assert f"the ledger ends with {size + 2} leaves" in refused.err
    assert sudur("trust", "renew", trust, "--url", old.url).code == 0
    shown = sudur("trust", "show", trust).out
    assert f"ends with {size + 2} entries; its last head is known" in shown
    assert "its last: nothing newer can come" in shown
