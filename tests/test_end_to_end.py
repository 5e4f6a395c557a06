"""The whole way over real sockets: a node as a process, the commands against it, and what a crash leaves."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from concurrent import futures
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from ledger.changes import AgencyEnrolled, Entitlement, Subject
from ledger.checkpoints import Checkpoint, parse_checkpoint, sign_checkpoint
from ledger.documents import Document, Field
from ledger.errors import CheckpointUntrusted, ProofInvalid
from ledger.leaves import NONE, LeafType
from ledger.notes import parse_note
from ledger.receipts import parse_receipt
from ledger.records import Basis, Status, StatusChange
from ledger.registry_records import TypeRecord
from ledger.signatures import Ed25519Signer
from ledger.signing_policy import SigningPolicy
from ledger.submissions import pack, unpack
from ledger.trust import Trust, parse_trust
from sudur.v1 import ledger_pb2 as pb
from sudur.v1.ledger_pb2_grpc import (
    LedgerServiceServicer,
    LedgerServiceStub,
    add_LedgerServiceServicer_to_server,
)
from tests.tools.helpers import Commands, Done, assert_one_line, finish, start
from tools.agency.directory import AgencyDirectory
from tools.agency.issuing import Issuer, make_document, type_fields
from tools.agency.outbox import Outbox, Submitted
from tools.client import LedgerClient
from tools.files import write_file
from tools.http_resources import HttpResources
from tools.keyfile import KeyFile, save_public_key
from tools.log import TileSource, _proven_leaf
from tools.receipt_renewal import renewed
from tools.register.commands import kept_receipt
from tools.register.store import Register
from tools.registry.authority_directory import AuthorityDirectory
from tools.registry.change_commands import new_keys
from tools.registry.changing import Wish, keys_to_follow, pending_path, prepare
from tools.registry.seats import open_seat
from tools.signing import NumberedSigner, signed_submission
from tools.ui import Passphrase

BIRTH = {
    "labels": {"en": "Birth record", "ar": "سجل ولادة"},
    "fields": [
        {"name": "child", "labels": {"en": "Child", "ar": "الطفل"}, "required": True, "identity": True},
        {"name": "until", "expiry": True, "shown": True},
        {"name": "remark"},
    ],
}
ANY_PORTS = ("--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0")
FOUR_EYES = {"issue.original": {"steps": [[1, 2]], "cap": None}}


@dataclass(frozen=True, slots=True)
class Served:
    """A node that runs as a process, and the directories of those who use it."""

    root: Path
    grpc: str
    url: str
    process: subprocess.Popen[str]

    @property
    def authority(self) -> Path:
        return self.root / "authority"

    @property
    def trust(self) -> Path:
        return self.authority / "trust.json"

    @property
    def agency(self) -> Path:
        return self.root / "agency"

    @property
    def issue(self) -> tuple[str | Path, ...]:
        return ("agency", "issue", "--node", self.grpc, "--dir", self.agency, "--trust", self.trust,
                "--type", "1", "--json")  # fmt: skip


def done(*arguments: str | Path) -> str:
    """The output of a command that must work, run as a process."""
    ended = finish(start(*arguments))
    assert ended.code == 0, ended
    return ended.out


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A ledger with type 1, agency 1 (one key) and agency 2 (four-eyes)."""
    root = tmp_path_factory.mktemp("served")
    authority, agency, two = root / "authority", root / "agency", root / "two"
    done("authority", "init", "--dir", authority, "--origin", "test.example/e2e", "--keys", "3",
         "--threshold", "2")  # fmt: skip
    node = start("node", "start", "--data", root / "data", "--genesis", authority / "genesis.leaf",
                 "--log-key", authority / "log.key.json", *ANY_PORTS)  # fmt: skip
    try:
        assert node.stdout is not None
        line = node.stdout.readline()
        assert line, node.stderr.read() if node.stderr else ""
        addresses = json.loads(line)
        here = Served(root, addresses["grpc"], addresses["url"], node)
        (root / "birth.json").write_text(json.dumps(BIRTH))
        (root / "policy.json").write_text(json.dumps(FOUR_EYES))
        done("authority", "define-type", root / "birth.json", "--dir", authority, "--node", here.grpc)
        done("agency", "keygen", "--dir", agency)
        for label in ("desk-1", "desk-2"):
            done("agency", "keygen", "--dir", two, "--label", label)
        done("authority", "enrol", "--dir", authority, "--node", here.grpc, "--name", "en=Registry",
             "--name", "ar=السجل المدني", "--type", "1", "--key", agency / "submit.pub.json")  # fmt: skip
        done("authority", "enrol", "--dir", authority, "--node", here.grpc, "--name", "en=Careful",
             "--type", "1", "--policy", root / "policy.json", "--key", two / "desk-1.pub.json",
             "--key", two / "desk-2.pub.json")  # fmt: skip
        yield here
    finally:
        node.send_signal(signal.SIGTERM)
        ended = finish(node)
    assert ended.code == 0, ended


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / name for name in ("نور.txt", "b.pdf")]
    for path in paths:
        path.write_bytes(os.urandom(100))
    return paths


@pytest.fixture
def sudur(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Commands:
    monkeypatch.delenv("SUDUR_PASSPHRASE", raising=False)
    return Commands(capsys)


def issued(sudur: Commands, served: Served, files: list[Path], *more: str | Path) -> list[dict[str, Any]]:
    ended = sudur(*served.issue, "--field", "child=نور", *more, *files)
    assert ended.code == 0, ended
    found: list[dict[str, Any]] = json.loads(ended.out)["issued"]
    return found


def verdict(sudur: Commands, served: Served, receipt: str | Path, *more: str | Path) -> tuple[int, Any]:
    ended = sudur("verify", receipt, *more, "--trust", served.trust, "--json")
    assert ended.err == ""
    return ended.code, json.loads(ended.out)


def register_of(directory: Path) -> Register:
    return Register.open(AgencyDirectory.open(directory), Passphrase(None))


def open_works(directory: Path) -> list[int]:
    """The works of a register that are not finished."""
    with register_of(directory) as register:
        return [row[0] for row in register.rows("SELECT id FROM works WHERE closed = 0")]


def count_issues(served: Served) -> int:
    with LedgerClient(served.grpc) as client:
        return sum(leaf[1] == LeafType.ISSUE for leaf in client.entries(0))


def first_of_each_kind(served: Served) -> dict[int, LeafType]:
    found: dict[LeafType, int] = {}
    with LedgerClient(served.grpc) as client:
        for index, leaf in enumerate(client.entries(0)):
            found.setdefault(LeafType(leaf[1]), index)
    return {index: kind for kind, index in found.items()}


# --- issuing and verifying ---------------------------------------------------------------------


def test_documents_are_issued_and_verified(sudur: Commands, served: Served, files: list[Path]) -> None:
    found = issued(sudur, served, files, "--field", "until=2999-01-31")
    assert [Path(one["receipt"]).name for one in found] == ["نور.txt.receipt.json", "b.pdf.receipt.json"]
    for one, file in zip(found, files, strict=True):
        assert one["verdict"] == "GENUINE"
        assert stat.S_IMODE(Path(one["receipt"]).stat().st_mode) == 0o600
        code, said = verdict(sudur, served, one["receipt"], file)
        assert (code, said["verdict"]) == (0, "GENUINE")
        assert said["proven"]["agency_names"] == {"en": "Registry", "ar": "السجل المدني"}
        assert [field.get("value") for field in said["proven"]["fields"][:4]] == [
            "1",
            "نور",
            "2999-01-31",
            "",
        ]
        assert said["proven"]["unchecked_files"] == []
        assert said["proven"]["index"] == str(one["index"])
    text = sudur("verify", found[0]["receipt"], "--trust", served.trust).out
    assert text.startswith("GENUINE\n")
    assert "Child: نور" in text or "الطفل" in text
    assert "NOT CHECKED" in text


def test_the_same_file_again_is_another_document(sudur: Commands, served: Served, files: list[Path]) -> None:
    first, second = (issued(sudur, served, files[:1])[0] for _ in range(2))
    assert first["receipt"] != second["receipt"]
    assert first["commitment"] != second["commitment"]
    assert second["index"] > first["index"]


def test_many_documents_go_in_several_submissions(sudur: Commands, served: Served, tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.txt" for i in range(300)]
    for path in paths:
        path.write_text(path.name)
    found = issued(sudur, served, paths, "--out", tmp_path / "out")
    assert len({one["index"] for one in found}) == 300
    assert {one["verdict"] for one in found} == {"GENUINE"}
    assert found[255]["index"] - found[0]["index"] == 255
    assert found[256]["index"] > found[255]["index"] + 1


def test_four_eyes(sudur: Commands, served: Served, files: list[Path]) -> None:
    before = count_issues(served)
    command = ("agency", "issue", "--node", served.grpc, "--dir", served.root / "two", "--type", "1",
               "--trust", served.trust, "--field", "child=x", files[0])  # fmt: skip
    assert_one_line(sudur(*command), 64, "--signer")
    alone = sudur(*command, "--signer", "desk-2")
    assert alone.code == 1
    assert "2 keys must sign" in alone.err
    assert "--prepare FILE" in alone.err
    assert open_works(served.root / "two") == []
    assert count_issues(served) == before
    assert sudur(*command, "--signer", "desk-2", "--signer", "desk-1").code == 0
    assert count_issues(served) == before + 1


@pytest.mark.parametrize(
    ("arguments", "code", "parts"),
    [
        (["--field", "until=2999-01-01"], 1, ["child", "requires it", "--field child=VALUE"]),
        (["--field", "child=x", "--field", "colour=red"], 1, ["colour", "its fields are: child, until"]),
        (["--field", "child=x", "--field", "child=y"], 1, ["child", "twice"]),
        (["--field", "child=a\u202eb"], 1, ["child", "U+202E"]),
        (["--field", "child=a\nb"], 1, ["child", "U+000A"]),
        (["--field", "child=e\u0301"], 1, ["child", "NFC"]),
        (["--field", "child=x", "--field", "until=31.12.2030"], 1, ["until", "YYYY-MM-DD"]),
        (["--field", "child"], 64, ["NAME=VALUE"]),
        (["--field", "child=x", "--type", "9"], 1, ["type 9"]),
        (["--field", "child=x", "--agency", "2"], 64, ["--agency"]),
        (["--field", "child=x", "--signer", "nobody"], 64, ["nobody"]),
    ],
)
def test_what_cannot_be_issued_is_named(
    sudur: Commands, served: Served, files: list[Path], arguments: list[str], code: int, parts: list[str]
) -> None:
    issued(sudur, served, files[:1])
    before = count_issues(served)
    assert_one_line(sudur(*served.issue, *arguments, files[0]), code, *parts)
    assert count_issues(served) == before
    assert open_works(served.agency) == []


def test_a_type_that_is_not_permitted(sudur: Commands, served: Served, files: list[Path]) -> None:
    ended = sudur("agency", "issue", "--node", served.grpc, "--dir", served.agency, files[0])
    assert ended.code == 1
    assert "may not issue documents of type 0" in ended.err


def test_an_agency_that_is_not_enrolled(
    sudur: Commands, served: Served, files: list[Path], tmp_path: Path
) -> None:
    assert sudur("agency", "keygen", "--dir", tmp_path / "new").code == 0
    command = ("agency", "issue", "--node", served.grpc, "--dir", tmp_path / "new", files[0])
    assert_one_line(sudur(*command), 64, "--trust", "--trust-on-first-use")
    assert not (tmp_path / "new" / "trust.json").exists()
    ended = sudur(*command, "--trust-on-first-use")
    assert ended.code == 64
    assert "not registered" in ended.err
    assert "Pinned to the ledger that the node shows" in ended.err
    assert_one_line(sudur(*command), 64, "not registered")


@pytest.mark.parametrize("wrong", ["genesis", "log key"])
def test_a_wrong_ledger_is_not_pinned(
    sudur: Commands, served: Served, files: list[Path], tmp_path: Path, wrong: str
) -> None:
    assert sudur("agency", "keygen", "--dir", tmp_path / "new").code == 0
    assert sudur("authority", "init", "--dir", tmp_path / "other", "--origin", "test.example/e2e").code == 0
    (ours,), (theirs,) = (
        parse_trust((directory / "trust.json").read_bytes()).ledgers
        for directory in (served.authority, tmp_path / "other")
    )
    changed = {"genesis": theirs.genesis} if wrong == "genesis" else {"log_keys": theirs.log_keys}
    mixed = replace(ours, **changed)
    (tmp_path / "trust.json").write_bytes(Trust((mixed,)).encode() + b"\n")
    command = ("agency", "issue", "--node", served.grpc, "--dir", tmp_path / "new", files[0])
    ended = sudur(*command, "--trust", tmp_path / "trust.json")
    assert_one_line(ended, 1, "the node serves ledger" if wrong == "genesis" else "no trusted key")
    assert not (tmp_path / "new" / "trust.json").exists()
    assert_one_line(sudur(*command, "--trust", served.trust), 64, "not registered")


def test_two_agencies_share_a_directory_for_receipts(
    sudur: Commands, served: Served, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both look for a free name before either writes: the second to write must not take the first's."""
    out = tmp_path / "out"
    (first,) = issued(sudur, served, files[:1], "--out", out)
    kept = Path(first["receipt"]).read_bytes()
    monkeypatch.setattr("tools.agency.issuing.receipt_paths", lambda *_: [Path(first["receipt"])])
    (second,) = issued(sudur, served, files[:1], "--out", out)
    assert Path(second["receipt"]).name == "نور.txt.2.receipt.json"
    assert Path(first["receipt"]).read_bytes() == kept
    assert verdict(sudur, served, second["receipt"], files[0])[0] == 0


@pytest.mark.parametrize("name", ["ش" * 118, "n" * 250])
def test_a_long_name_is_issued(sudur: Commands, served: Served, tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_text("x")
    for _ in "12":
        (one,) = issued(sudur, served, [file])
        assert verdict(sudur, served, one["receipt"], file)[0] == 0


def test_the_register_opens_what_was_issued(sudur: Commands, served: Served, files: list[Path]) -> None:
    found = issued(sudur, served, files)
    with register_of(served.agency) as register:
        for one, file in zip(found, files, strict=True):
            receipt = parse_receipt(Path(one["receipt"]).read_bytes())
            document = make_document(1, None, receipt.document.shown[1:-1], file)
            document = replace(document, document_type=1, fields=receipt.document.shown)
            kept = register.documents.by_index(one["index"])
            assert kept is not None
            assert document.commitment(receipt.genesis, kept.seed).hex() == one["commitment"]
            assert kept.document(1) == document
            assert kept_receipt(register, kept) == receipt


def test_a_key_that_is_registered_enrols_nobody(sudur: Commands, served: Served, tmp_path: Path) -> None:
    def agencies() -> int:
        with LedgerClient(served.grpc) as client:
            count: int = json.loads(client.record("ledger").record)["agencies"]
            return count

    def enrol(*keys: Path) -> Done:
        words = [word for key in keys for word in ("--key", key)]
        return sudur("authority", "enrol", "--dir", served.authority, "--node", served.grpc, "--name",
                     "en=Again", *words)  # fmt: skip

    before = agencies()
    assert_one_line(enrol(served.agency / "submit.pub.json"), 64, "--key", "already", "agency 1")
    assert sudur("agency", "keygen", "--dir", tmp_path / "new").code == 0
    new = tmp_path / "new" / "submit.pub.json"
    assert_one_line(enrol(new, new), 64, "--key", "twice")
    key = KeyFile(served.authority / "authority-3.key.json").public
    save_public_key(tmp_path / "a.pub.json", replace(key, use="submit"))
    assert_one_line(enrol(new, tmp_path / "a.pub.json"), 64, "already", "the authority")
    assert agencies() == before
    assert enrol(new).code == 0


def test_keys_under_a_passphrase(
    sudur: Commands, served: Served, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "passphrase"
    secret.write_text("open sesame\n")
    locked = tmp_path / "locked"
    assert sudur("agency", "keygen", "--dir", locked, "--passphrase-file", secret).code == 0
    enrol = ("authority", "enrol", "--dir", served.authority, "--node", served.grpc, "--name", "en=Locked",
             "--type", "1", "--key", locked / "submit.pub.json", "--json")  # fmt: skip
    number = json.loads(sudur(*enrol).out)["agency"]
    command = ("agency", "issue", "--node", served.grpc, "--dir", locked, "--trust", served.trust,
               "--agency", str(number), "--type", "1", "--field", "child=x", files[0])  # fmt: skip
    assert_one_line(sudur(*command), 1, "needs its passphrase", "SUDUR_PASSPHRASE")
    monkeypatch.setenv("SUDUR_PASSPHRASE", "open sesamo")
    assert_one_line(sudur(*command), 1, "not this key's")
    monkeypatch.setenv("SUDUR_PASSPHRASE", "open sesame")
    assert sudur(*command).code == 0


# --- what is not genuine -----------------------------------------------------------------------


def test_an_altered_file_is_not_genuine(sudur: Commands, served: Served, files: list[Path]) -> None:
    receipt = issued(sudur, served, files[:1])[0]["receipt"]
    files[0].write_bytes(files[0].read_bytes() + b" ")
    code, said = verdict(sudur, served, receipt, files[0])
    assert (code, said["verdict"], said["proven"]) == (1, "ALTERED", None)
    text = sudur("verify", receipt, files[0], "--trust", served.trust).out
    assert text.startswith("ALTERED")
    assert "نور" not in text


@pytest.mark.parametrize(
    ("old", "new", "want"),
    [
        ("نور", "زيد", "ALTERED"),
        ("test.example/e2e", "test.example/e2f", "NOT_IN_LEDGER"),
        ('"type":1', '"type":2', "CANNOT_TELL"),
        ("}\n", "}\n ", "CANNOT_TELL"),
        ("}\n", "}", "CANNOT_TELL"),
        ('{"attestations"', '{ "attestations"', "CANNOT_TELL"),
    ],
)
def test_an_altered_receipt_is_not_genuine(
    sudur: Commands, served: Served, files: list[Path], tmp_path: Path, old: str, new: str, want: str
) -> None:
    text = Path(issued(sudur, served, files[:1])[0]["receipt"]).read_text()
    assert old in text
    altered = tmp_path / "altered.json"
    altered.write_text(text.replace(old, new))
    code, said = verdict(sudur, served, altered)
    assert (code, said["verdict"], said["proven"]) == (2 if want == "CANNOT_TELL" else 1, want, None)


def test_anothers_checkpoint_is_not_genuine(
    sudur: Commands, served: Served, files: list[Path], tmp_path: Path
) -> None:
    one, other = (json.loads(Path(issued(sudur, served, files[:1])[0]["receipt"]).read_text()) for _ in "12")
    other["checkpoint"] = one["checkpoint"]
    mixed = tmp_path / "mixed.json"
    mixed.write_text(json.dumps(other, separators=(",", ":"), ensure_ascii=False, sort_keys=True) + "\n")
    code, said = verdict(sudur, served, mixed)
    assert (code, said["verdict"], said["proven"]) == (1, "NOT_IN_LEDGER", None)


def test_another_ledger(sudur: Commands, served: Served, files: list[Path], tmp_path: Path) -> None:
    receipt = issued(sudur, served, files[:1])[0]["receipt"]
    other = tmp_path / "other"
    assert sudur("authority", "init", "--dir", other, "--origin", "test.example/e2e").code == 0
    ended = sudur("verify", receipt, "--trust", other / "trust.json", "--json")
    assert (ended.code, json.loads(ended.out)["verdict"]) == (1, "WRONG_LEDGER")
    (tmp_path / "bad.json").write_text("{}")
    ended = sudur("verify", receipt, "--trust", tmp_path / "bad.json", "--json")
    assert (ended.code, json.loads(ended.out)["verdict"]) == (2, "CANNOT_TELL")
    assert_one_line(
        sudur("log", "head", "--url", served.url, "--trust", other / "trust.json"), 1, "no trusted key"
    )
    moved = tmp_path / "moved"
    assert sudur("agency", "keygen", "--dir", moved).code == 0
    assert_one_line(
        sudur(
            "agency",
            "issue",
            "--node",
            served.grpc,
            "--dir",
            moved,
            "--trust",
            other / "trust.json",
            files[0],
        ),
        1,
        "the node serves ledger",
    )


def test_a_later_revocation_shows_with_url(sudur: Commands, served: Served, files: list[Path]) -> None:
    found = issued(sudur, served, files)
    index = found[0]["index"]
    with LedgerClient(served.grpc) as client:
        info = client.ledger()
        record = StatusChange(1, index, index, Status.REVOKED, 0, NONE).encode()
        signer = KeyFile(served.agency / "submit.key.json").open(None).signer
        now_ms = time.time_ns() // 1_000_000
        submission = signed_submission(1, [record], now_ms, info.genesis, [NumberedSigner(1, signer)])
        client.submit(info.genesis, submission)
    code, said = verdict(sudur, served, found[0]["receipt"], files[0], "--url", served.url)
    assert (code, said["verdict"], said["proven"]["status"]) == (1, "REVOKED", "revoked")
    code, said = verdict(sudur, served, found[1]["receipt"], files[1], "--url", served.url)
    assert (code, said["verdict"]) == (0, "GENUINE")
    code, said = verdict(sudur, served, found[0]["receipt"])
    assert (code, said["verdict"]) == (0, "GENUINE")


class Lying:
    """A node's resources, but for the newest checkpoint, which is put in its place."""

    def __init__(self, resources: HttpResources, checkpoint: bytes) -> None:
        self._resources = resources
        self._checkpoint = checkpoint

    def fetch(self, path: str) -> bytes:
        return self._checkpoint if path == "checkpoint" else self._resources.fetch(path)


def test_a_node_that_is_behind_or_shows_another_history(
    sudur: Commands, served: Served, files: list[Path]
) -> None:
    first, second = (issued(sudur, served, files[:1])[0] for _ in range(2))
    receipts = [parse_receipt(Path(one["receipt"]).read_bytes()) for one in (first, second)]
    ledger = AuthorityDirectory.open(served.authority).ledger()
    signer = KeyFile(served.authority / "log.key.json").open(None).signer
    newest = ledger.open(receipts[1].checkpoint).checkpoint
    unsigned = sign_checkpoint(newest, [Ed25519Signer(bytes(32))])
    with HttpResources(served.url) as resources:
        renewed(receipts[0], ledger, Lying(resources, receipts[1].checkpoint))
        with pytest.raises(ProofInvalid, match="not behind"):
            renewed(receipts[1], ledger, Lying(resources, receipts[0].checkpoint))
        for size in (newest.size, newest.size - 1):
            forked = sign_checkpoint(Checkpoint(ledger.origin, size, bytes(32)), [signer])
            with pytest.raises(ProofInvalid, match="report this"):
                renewed(receipts[0], ledger, Lying(resources, forked))
        with pytest.raises(CheckpointUntrusted):
            renewed(receipts[0], ledger, Lying(resources, unsigned))


def test_when_it_cannot_tell(
    sudur: Commands, served: Served, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    receipt = issued(sudur, served, files[:1])[0]["receipt"]
    code, said = verdict(sudur, served, receipt, "--url", "http://127.0.0.1:1")
    assert (code, said["verdict"], said["proven"]) == (2, "CANNOT_TELL", None)
    now = time.time_ns()
    monkeypatch.setattr("tools.verify.time.time_ns", lambda: now + 3_600 * 10**9)
    code, said = verdict(sudur, served, receipt, "--max-age", "600")
    assert (code, said["verdict"]) == (2, "CANNOT_TELL")
    monkeypatch.setattr("tools.verify.time.time_ns", lambda: now - 3_600 * 10**9)
    code, said = verdict(sudur, served, receipt)
    assert (code, said["verdict"]) == (2, "CANNOT_TELL")
    assert "clock" in said["reason"]


# --- the log -----------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["--node", "--url"])
def test_the_log(sudur: Commands, served: Served, files: list[Path], way: str) -> None:
    index = str(issued(sudur, served, files[:1])[0]["index"])
    where = (way, served.grpc if way == "--node" else served.url)
    head = json.loads(sudur("log", "head", *where, "--trust", served.trust, "--json").out)
    assert head["verified"] is True
    assert int(head["documents"]) == count_issues(served)
    text = sudur("log", "head", *where)
    assert "not verified" in text.out
    assert "Not verified" in text.err
    entry = json.loads(sudur("log", "entry", index, *where, "--json").out)
    assert (entry["kind"], entry["agency"], entry["document_type"]) == ("ISSUE", 1, 1)
    for number, leaf in first_of_each_kind(served).items():
        shown = sudur("log", "entry", str(number), *where)
        assert shown.code == 0
        assert shown.out.startswith(f"{number}  {leaf.name}\n")
    proof = json.loads(sudur("log", "prove", index, *where, "--trust", served.trust, "--json").out)
    assert (proof["index"], proof["verified"]) == (index, True)
    assert "is in the tree of" in sudur("log", "prove", index, *where).out
    assert_one_line(sudur("log", "entry", str(2**40), *where), 1, "the log has")


class Liar(TileSource):
    """Static tiles with one thing changed."""

    def __init__(self, url: str, what: str) -> None:
        super().__init__(url)
        self._what = what

    def leaf(self, index: int, size: int) -> bytes:
        return super().leaf(index, size) + b"x" * (self._what == "leaf")

    def path(self, index: int, size: int) -> tuple[bytes, ...]:
        return super().path(index, size)[:: -1 if self._what == "path" else 1]


@pytest.mark.parametrize("what", ["leaf", "path"])
def test_a_source_that_lies_proves_nothing(served: Served, what: str) -> None:
    with closing(Liar(served.url, "nothing")) as source:
        checkpoint = parse_checkpoint(parse_note(source.checkpoint()).text)
        _proven_leaf(source, checkpoint, 0)
    with closing(Liar(served.url, what)) as source, pytest.raises(ProofInvalid):
        _proven_leaf(source, checkpoint, 0)


# --- what a crash leaves -----------------------------------------------------------------------


def _forward(name: str) -> Any:
    """A call that is passed on to the node as it is."""
    return lambda self, request, context: getattr(self.node, name)(request)


class Killer(LedgerServiceServicer):
    """Stands before the node, and kills the client on its first bulk: before or after the node has it."""

    def __init__(self, node: str, after: bool) -> None:
        self.node = LedgerServiceStub(grpc.insecure_channel(node))
        self._after = after
        self.victim: futures.Future[int] = futures.Future()

    GetLedger = _forward("GetLedger")
    GetCheckpoint = _forward("GetCheckpoint")
    GetRegistryRecord = _forward("GetRegistryRecord")
    GetInclusionProof = _forward("GetInclusionProof")
    GetInclusionProofs = _forward("GetInclusionProofs")
    GetConsistencyProof = _forward("GetConsistencyProof")
    StreamEntries = _forward("StreamEntries")
    LookupCommitment = _forward("LookupCommitment")
    LookupReference = _forward("LookupReference")
    GetExchanges = _forward("GetExchanges")
    ListSends = _forward("ListSends")
    GetFigures = _forward("GetFigures")
    StreamBlocks = _forward("StreamBlocks")
    GetCluster = _forward("GetCluster")
    WatchBlocks = _forward("WatchBlocks")
    Submit = _forward("Submit")
    ChangeRegistry = _forward("ChangeRegistry")
    PutEnvelope = _forward("PutEnvelope")
    GetEnvelope = _forward("GetEnvelope")
    DropEnvelope = _forward("DropEnvelope")

    def SubmitBulk(self, request: Any, context: Any) -> Any:  # noqa: N802
        answer = self.node.SubmitBulk(request) if self._after else pb.SubmitBulkResponse()
        os.kill(self.victim.result(), signal.SIGKILL)
        return answer


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("more", [False, True])
def test_killed_before_the_answer_and_run_again(
    sudur: Commands, served: Served, files: list[Path], tmp_path: Path, after: bool, more: bool
) -> None:
    issued(sudur, served, files[:1])
    before = count_issues(served)
    out = tmp_path / "out"
    killer = Killer(served.grpc, after)
    server = grpc.server(futures.ThreadPoolExecutor(4))
    add_LedgerServiceServicer_to_server(killer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        client = start("agency", "issue", "--node", f"127.0.0.1:{port}", "--dir", served.agency,
                       "--type", "1", "--field", "child=نور", "--out", out, *files)  # fmt: skip
        killer.victim.set_result(client.pid)
        assert finish(client).code == -signal.SIGKILL
    finally:
        server.stop(None)
    assert len(open_works(served.agency)) == 1
    assert {stat.S_IMODE(path.stat().st_mode) for path in served.agency.glob("register.*")} == {0o600}
    assert not list(out.iterdir())
    assert count_issues(served) == before + (2 if after else 0)

    another = tmp_path / "another.txt"
    another.write_text("another")
    again = issued(sudur, served, [*files, another] if more else files, "--out", out)
    assert count_issues(served) == before + (3 if more else 2)
    names = ["b.pdf.receipt.json", "نور.txt.receipt.json"]
    assert sorted(path.name for path in out.iterdir()) == ["another.txt.receipt.json"] * more + names
    for one, file in zip(again, [*files, another], strict=False):
        assert verdict(sudur, served, one["receipt"], file)[0] == 0
    assert open_works(served.agency) == []


@pytest.mark.parametrize("logged", [False, True])
def test_a_batch_older_than_the_node_remembers(
    sudur: Commands, served: Served, files: list[Path], tmp_path: Path, logged: bool
) -> None:
    issued(sudur, served, files[:1])
    before = count_issues(served)
    weeks_ago_ms = time.time_ns() // 1_000_000 - 15 * 86_400_000
    paths = [tmp_path / "one.json", tmp_path / "two.json"]
    submission = _left_behind(served, [_birth(served, file) for file in files], paths, now_ms=weeks_ago_ms)
    if logged:
        ledger = AuthorityDirectory.open(served.authority).ledger()
        records, now_ms = unpack(submission.records, most=256), time.time_ns() // 1_000_000
        with LedgerClient(served.grpc) as client:
            again = signed_submission(1, records, now_ms, ledger.genesis, _signers(served))
            client.submit(ledger.genesis, again)
    found = issued(sudur, served, files)
    assert [Path(one["receipt"]) for one in found] == paths
    assert count_issues(served) == before + 2
    assert [verdict(sudur, served, path, file)[0] for path, file in zip(paths, files, strict=True)] == [0, 0]
    assert open_works(served.agency) == []


def _signers(served: Served) -> list[NumberedSigner]:
    return [NumberedSigner(1, KeyFile(served.agency / "submit.key.json").open(None).signer)]


def _left_behind(
    served: Served, documents: list[Document], paths: list[Path], *, now_ms: int | None = None
) -> Submitted:
    """What a command leaves that was killed as soon as its work was saved: its submission."""
    ledger = AuthorityDirectory.open(served.authority).ledger()
    now = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    here = AgencyDirectory.open(served.agency)
    with Register.open(here, Passphrase(None), now_ms=lambda: now) as register:
        outbox = Outbox(register, ledger, 1, _signers(served))
        with LedgerClient(served.grpc) as client, HttpResources(served.url) as resources:
            issuer = Issuer(outbox, client, resources, here.receipts)
            note = {"receipts": [str(path) for path in paths]}
            work = issuer._save(documents, ["" for _ in documents], Basis.ORIGINAL, note)
        (submission,) = outbox.submissions(work)
    return submission


def _birth(served: Served, file: Path) -> Document:
    with LedgerClient(served.grpc) as client:
        definition = TypeRecord.decode(client.record("type/1").record)
    return make_document(1, definition, type_fields(definition, [("child", "نور")]), file)


def test_a_directory_for_receipts_that_has_gone(
    sudur: Commands, served: Served, files: list[Path], tmp_path: Path
) -> None:
    issued(sudur, served, files[:1])
    (tmp_path / "taken").touch()  # where a directory cannot be made
    paths = [tmp_path / "gone" / "a.receipt.json", tmp_path / "taken" / "b.receipt.json"]
    _left_behind(served, [_birth(served, file) for file in files], paths)
    ended = sudur(*served.issue, "--field", "child=نور", *files)
    assert ended.code == 0
    receipts = [Path(one["receipt"]) for one in json.loads(ended.out)["issued"]]
    assert receipts == [paths[0], served.agency / "receipts" / "b.receipt.json"]
    assert f"1 receipt had to go to {served.agency / 'receipts'}: {tmp_path / 'taken'}" in ended.err
    for receipt, file in zip(receipts, files, strict=True):
        assert verdict(sudur, served, receipt, file)[0] == 0
    assert open_works(served.agency) == []


def test_a_work_that_is_stuck_stops_nothing_else(
    sudur: Commands, served: Served, files: list[Path], tmp_path: Path
) -> None:
    issued(sudur, served, files[:1])
    before = count_issues(served)
    stuck = _left_behind(served, [_birth(served, files[0])], [tmp_path / "r.receipt.json"])
    with register_of(served.agency) as register:  # as if another document had been sealed there
        kept = register.documents.get(stuck.document or 0)
        other = [replace(field) for field in kept.fields]
        other[1] = Field.text("child", "زيد")
        plain = kept.seed + pack([b"", *(field.slot() for field in other)])
        sealed = register.box.seal("document", kept.number, plain)
        register.run("UPDATE documents SET sealed = ? WHERE id = ?", (sealed, kept.number))
    try:
        ended = sudur(*served.issue, "--field", "child=نور", *files)
        assert ended.code == 1
        assert [Path(one["receipt"]).name[:5] for one in json.loads(ended.out)["issued"]][-1] == "b.pdf"
        assert f"Earlier work is still not finished: work {stuck.work}" in ended.err
        assert "is of another document" in ended.err
        assert count_issues(served) == before + 3
        assert open_works(served.agency) == [stuck.work]
    finally:
        with register_of(served.agency) as register:
            register.run("UPDATE works SET closed = 1")


@pytest.mark.parametrize("sent", [0, 1, 2])
def test_an_enrolment_that_was_cut_off_is_finished_once(
    sudur: Commands, served: Served, tmp_path: Path, sent: int
) -> None:
    new = tmp_path / "new"
    assert sudur("agency", "keygen", "--dir", new).code == 0
    command = ("authority", "enrol", "--dir", served.authority, "--node", served.grpc,
               "--name", f"en=Cut {sent}", "--type", "1", "--json",
               "--key", new / "submit.pub.json")  # fmt: skip
    seat = open_seat(served.authority)
    genesis = seat.ledger.genesis
    body = AgencyEnrolled({"en": f"Cut {sent}"}, 0, Entitlement(("issue",), (1,), SigningPolicy()))
    with LedgerClient(served.grpc) as client:
        number = json.loads(client.record("ledger").record)["agencies"] + 1
        wish = Wish(Subject("agency"), body, new_keys([new / "submit.pub.json"]))
        proposal = seat.sign(prepare(client, genesis, 0, wish), Passphrase(None))
        write_file(pending_path(seat.path), proposal.encode())
        if sent >= 1:
            client.change_registry(genesis, proposal.leaf())
        if sent == 2:
            added = keys_to_follow(client, proposal, number)
            assert added is not None
            client.change_registry(genesis, seat.sign(added, Passphrase(None)).leaf())
        assert json.loads(sudur(*command).out) == {"agency": number, "keys": [1]}
        assert json.loads(client.record("ledger").record)["agencies"] == number
        assert json.loads(client.record(f"agency/{number}").record)["keys"]["count"] == 1
    assert not pending_path(seat.path).exists()
    assert json.loads(sudur(*command).out) == {"agency": number, "keys": [1]}


def test_a_second_node_on_the_same_data_refuses(sudur: Commands, served: Served) -> None:
    ended = finish(start("node", "start", "--data", served.root / "data", "--log-key",
                         served.authority / "log.key.json", *ANY_PORTS))  # fmt: skip
    assert_one_line(ended, 1, "data")


def test_receipts_are_in_their_one_form(sudur: Commands, served: Served, files: list[Path]) -> None:
    data = Path(issued(sudur, served, files[:1])[0]["receipt"]).read_bytes()
    assert parse_receipt(data).encode() == data


@pytest.mark.slow
def test_the_demo_works_twice(tmp_path: Path) -> None:
    for run in (1, 2):
        out = done("demo", "--exit", "--data", tmp_path / "demo")
        assert "All of it worked." in out
        assert out.count("GENUINE") + out.count("Genuine") == 6
        assert "ALTERED" in out
        assert (".2.receipt.json" in out) == (run == 2)
    checked = done("node", "fsck", "--data", tmp_path / "demo" / "node", "--json",
                   "--trust", tmp_path / "demo" / "authority" / "trust.json")  # fmt: skip
    assert json.loads(checked)["sound"] is True
    assert json.loads(checked)["documents"] == 12
