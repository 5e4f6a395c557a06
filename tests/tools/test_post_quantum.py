"""Post-quantum, the whole way: nodes as processes over sockets, with ML-DSA-44 keys of everybody."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from ledger.checkpoints import open_checkpoint, parse_checkpoint
from ledger.notes import SignatureType, VerifierKey, parse_note
from ledger.receipts import parse_receipt
from ledger.submissions import SubmissionLeaf
from ledger.trust import Trust, parse_trust
from tests.test_end_to_end import ANY_PORTS, BIRTH
from tests.tools.helpers import Commands, assert_one_line, finish, start
from tools.cli import run


@dataclass(frozen=True, slots=True)
class Place:
    """A node that runs, and the authority's directory beside its data."""

    root: Path
    grpc: str
    url: str

    @property
    def authority(self) -> Path:
        return self.root / "authority"

    @property
    def trust(self) -> Path:
        return self.authority / "trust.json"

    def types(self) -> list[int]:
        """Of the lines on the newest checkpoint that is signed by the log, in their order."""
        note = self.note()
        known = {key.key_id: int(key.type) for key in self.registered()}
        return [known[line.key_id] for line in parse_note(note).signatures if line.key_id in known]

    def note(self) -> bytes:
        return httpx.get(f"{self.url}/checkpoint").content

    def registered(self) -> list[VerifierKey]:
        return [VerifierKey.parse(vkey) for vkey in httpx.get(f"{self.url}/v1/ledger").json()["log_keys"]]


def done(*arguments: str | Path) -> None:
    assert run([str(argument) for argument in arguments]) == 0


@contextmanager
def node_of(root: Path, log_keys: Sequence[Path], *, new: bool = False) -> Iterator[Place]:
    """A node with these log keys; it must end well."""
    options = [one for path in log_keys for one in ("--log-key", path)]
    genesis = ("--genesis", root / "authority" / "genesis.leaf") if new else ()
    node = start("node", "start", "--data", root / "data", *genesis, *options, *ANY_PORTS)
    try:
        assert node.stdout is not None
        line = node.stdout.readline()
        assert line, node.stderr.read() if node.stderr else ""
        addresses = json.loads(line)
        yield Place(root, addresses["grpc"], addresses["url"])
    finally:
        node.send_signal(signal.SIGTERM)
        ended = finish(node)
    assert ended.code == 0, ended


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A ledger with both log keys and hybrid authority keys; agency 1 needs two officers, of keys 3 and 2."""
    root = tmp_path_factory.mktemp("quantum")
    authority = root / "authority"
    done("authority", "init", "--dir", authority, "--origin", "test.example/pq", "--keys", "2",
         "--threshold", "2", "--post-quantum")  # fmt: skip
    logs = [authority / "log.key.json", authority / "log-ml-dsa-44.key.json"]
    with node_of(root, logs, new=True) as here:
        (root / "birth.json").write_text(json.dumps(BIRTH))
        at = ("--dir", authority, "--node", here.grpc)
        done("authority", "define-type", root / "birth.json", *at)
        keys: list[str | Path] = []
        for label, algorithm in (("desk-1", "both"), ("desk-2", "ml-dsa-44")):
            done("agency", "keygen", "--dir", root / label, "--label", label, "--algorithm", algorithm)
            keys += ["--key", root / label / f"{label}.pub.json"]
        done("authority", "enrol", *at, "--name", "en=Registry", "--type", "1", "--two-officers",
             "issue.original=1", *keys)  # fmt: skip
        yield here


def verdict(sudur: Commands, receipt: Path, trust: Path, *more: str | Path) -> Any:
    return json.loads(sudur("verify", receipt, "--trust", trust, "--json", *more).out)["verdict"]


def test_issued_by_two_officers_verified_and_revoked(place: Place, sudur: Commands, tmp_path: Path) -> None:
    desks = [(place.root / f"desk-{n}", ("--node", place.grpc, "--trust", place.trust)) for n in (1, 2)]
    paper, work = tmp_path / "nur.txt", tmp_path / "nur.submission.json"
    paper.write_text("the record of nur")
    (first, at), (second, at_2) = desks
    prepared = sudur("agency", "issue", "--dir", first, *at, "--type", "1", "--field", "child=nur",
                     "--prepare", work, paper)  # fmt: skip
    assert prepared.code == 0, prepared
    assert sudur("agency", "sign", work, "--dir", second, *at_2, "--yes").code == 0
    sent = sudur("agency", "send", work, "--dir", first, "--node", place.grpc, "--json")
    assert sent.code == 0, sent
    index = json.loads(sent.out)["first_index"]
    (receipt,) = (first / "receipts").iterdir()

    read = parse_receipt(receipt.read_bytes())
    signatures = SubmissionLeaf.decode(read.submission.head.leaf).signatures
    assert [(key.algorithm, len(key.signature)) for key in signatures] == [(3, 2484), (2, 2420)]
    assert place.types() == [SignatureType.ED25519, SignatureType.ML_DSA_44]
    assert verdict(sudur, receipt, place.trust, paper) == "GENUINE"

    # Who has pinned the Ed25519 key alone reads the same note, and ignores the line that it does not know.
    trusted = parse_trust(place.trust.read_bytes()).ledgers[0]
    only = replace(trusted, log_keys=trusted.log_keys[:1])
    classical = tmp_path / "classical.trust.json"
    classical.write_bytes(Trust((only,)).encode())
    assert verdict(sudur, receipt, classical, paper) == "GENUINE"

    # Who knows both does not believe one that has lost the other line.
    note = parse_note(read.checkpoint)
    bare = replace(read, checkpoint=replace(note, signatures=note.signatures[:1]).encode())
    stripped = tmp_path / "stripped.receipt.json"
    stripped.write_bytes(bare.encode())
    assert verdict(sudur, stripped, classical, paper) == "GENUINE"
    assert verdict(sudur, stripped, place.trust, paper) != "GENUINE"

    revoked = sudur("agency", "revoke", str(index), "--dir", first, "--node", place.grpc, "--signer",
                    "desk-1", "--yes", "--json")  # fmt: skip
    assert revoked.code == 0, revoked
    for trust in (place.trust, classical):
        assert verdict(sudur, receipt, trust, "--url", place.url) == "REVOKED"


def test_keys_are_shown_by_their_algorithms(place: Place, sudur: Commands) -> None:
    shown = sudur("registry", "show", "ledger", "--node", place.grpc, "--trust", place.trust)
    assert shown.code == 0, shown
    assert "ML-DSA-44, fingerprint" in shown.out
    assert "authority key 1 of Ed25519 with ML-DSA-44" in shown.out
    assert max(map(len, shown.out.splitlines())) < 300


def test_a_running_ledger_gets_an_ml_dsa_key(sudur: Commands, tmp_path: Path) -> None:
    authority = tmp_path / "authority"
    done("authority", "init", "--dir", authority, "--origin", "test.example/later")
    first, second = authority / "log.key.json", tmp_path / "log-2.key.json"
    made = sudur("node", "keygen", "--out", second, "--algorithm", "ml-dsa-44", "--json")
    public = json.loads(made.out)["public_key_file"]
    add = ("authority", "add-log-key", public, "--dir", authority, "--node")
    with node_of(tmp_path, [first], new=True) as place:
        refused = sudur(*add, place.grpc)
        assert_one_line(refused, 1, "this node has no ML-DSA-44 log key", "start every node with it first")
        assert place.types() == [1]
        early = place.note()
    with node_of(tmp_path, [first, second]) as place:
        assert place.types() == [1], "not registered yet"
        added = sudur(*add, place.grpc)
        assert added.code == 0, added
        assert place.types() == [1, 6]
        keys, note = place.registered(), place.note()
        assert (
            open_checkpoint(note, "test.example/later", keys).checkpoint.size
            > parse_checkpoint(parse_note(early).text).size
        )
        # Trust that was pinned before knows only the first key, and goes on.
        old = parse_trust((authority / "trust.json").read_bytes()).ledgers[0]
        assert old.open(note).data == note
    without = start("node", "start", "--data", tmp_path / "data", "--log-key", first, *ANY_PORTS)
    ended = finish(without)
    assert ended.code != 0
    assert "no ML-DSA-44 key of the 1 given may sign" in ended.err
    with node_of(tmp_path, [second, first]) as place:
        assert place.types() == [1, 6]
        assert parse_note(place.note()).text == parse_note(note).text


def test_an_agency_turns_key_by_key(sudur: Commands, tmp_path: Path) -> None:
    authority, agency = tmp_path / "authority", tmp_path / "agency"
    done("authority", "init", "--dir", authority, "--origin", "test.example/turn")
    with node_of(tmp_path, [authority / "log.key.json"], new=True) as place:
        at = ("--dir", authority, "--node", place.grpc)
        for use in ("registry", "submit"):
            done("agency", "keygen", "--dir", agency, "--use", use)
        keys = [one for use in ("registry", "submit") for one in ("--key", agency / f"{use}.pub.json")]
        done("authority", "enrol", *at, "--name", "en=Registry", "--type", "0", *keys)
        here = ("--dir", agency, "--node", place.grpc, "--trust", place.trust)
        wrong = sudur("agency", "keygen", "--dir", agency, "--use", "envelope", "--algorithm", "both")
        assert_one_line(wrong, 1, "a key for envelope is not of Ed25519 with ML-DSA-44")
        for number in (1, 2):
            turned = sudur("agency", "keys", "rotate", str(number), *here, "--algorithm", "both")
            assert turned.code == 0, turned
        listed = json.loads(sudur("agency", "keys", "list", *here, "--json").out)
        assert [(one["use"], one["algorithm"], one["ended"] is None) for one in listed] == [
            ("registry", 1, False),
            ("submit", 1, False),
            ("registry", 3, True),
            ("submit", 3, True),
        ]
        paper = tmp_path / "paper.txt"
        paper.write_text("a paper")
        issued = sudur("agency", "issue", *here, "--signer", "submit-2", "--out", tmp_path, "--json", paper)
        assert issued.code == 0, issued
        (one,) = json.loads(issued.out)["issued"]
        assert verdict(sudur, Path(one["receipt"]), place.trust, paper) == "GENUINE"
