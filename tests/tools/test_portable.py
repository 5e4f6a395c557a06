"""`sudur export` and `sudur verify-proof` against a node that runs as a process of its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest

from ledger.presented_documents import parse_presented
from ledger.receipts import parse_receipt
from ledger.tlog_proof import parse_tlog_proof
from tests.test_end_to_end import BIRTH
from tests.tools.helpers import Commands, Done, assert_one_line
from tests.tools.ledger_process import Ledger, running
from tools.cli import run


@dataclass(frozen=True, slots=True)
class Office:
    """A ledger whose node has a receipt key, an agency, and a document of it with its file and receipt."""

    ledger: Ledger
    file: Path
    receipt: Path

    @property
    def index(self) -> int:
        return parse_receipt(self.receipt.read_bytes()).issue.index


def done(*arguments: str | Path) -> None:
    assert run([str(argument) for argument in arguments]) == 0


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    root = tmp_path_factory.mktemp("office")
    done("node", "receipt-key", root / "receipts.key.json")
    with running(root, options=["--receipt-key", root / "receipts.key.json"]) as ledger:
        at = ("--dir", ledger.authority, "--node", ledger.grpc)
        (root / "type.json").write_text(json.dumps(BIRTH))
        done("authority", "define-type", root / "type.json", *at)
        done("agency", "keygen", "--dir", root / "agency", "--label", "desk")
        done("authority", "enrol", *at, "--name", "en=Registry", "--type", "1", "--role", "issue",
             "--key", root / "agency" / "desk.pub.json")  # fmt: skip
        file = root / "birth.pdf"
        file.write_bytes(b"%PDF-1.7 a certificate")
        done("agency", "issue", file, "--dir", root / "agency", "--node", ledger.grpc,
             "--trust", ledger.trust, "--type", "1", *FIELDS)  # fmt: skip
        yield Office(ledger, file, root / "agency" / "receipts" / "birth.pdf.receipt.json")


FIELDS: list[str] = ["--field", "child=Azad", "--field", "until=2031-02-03"]


def exported(sudur: Commands, office: Office, form: str, out: Path, *more: str | Path) -> Done:
    trust = ("--trust", office.ledger.trust)
    return sudur("export", office.receipt, "--format", form, *trust, "--out", out, *more)


def checked(sudur: Commands, office: Office, proof: Path, *more: str | Path) -> Done:
    return sudur("verify-proof", proof, *more, "--trust", office.ledger.trust)


def test_a_tlog_proof_needs_no_network(office: Office, sudur: Commands, tmp_path: Path) -> None:
    out = tmp_path / "birth.tlog-proof"
    assert exported(sudur, office, "tlog-proof", out).code == 0
    assert oct(out.stat().st_mode & 0o777) == "0o600"
    found = checked(sudur, office, out, office.file)
    assert (found.code, found.err) == (0, "")
    assert f"leaf {office.index} of the" in found.out
    assert '"Azad"' in found.out
    assert "Not shown: that it is still valid" in found.out
    other = tmp_path / "other.pdf"
    other.write_bytes(b"altered")
    assert checked(sudur, office, out, other).code == 1
    out.write_bytes(out.read_bytes().replace(f"index {office.index}".encode(), b"index 1"))
    assert "Not proven" in checked(sudur, office, out).out


def test_a_tlog_proof_without_the_document(office: Office, sudur: Commands, tmp_path: Path) -> None:
    out = tmp_path / "leaf.tlog-proof"
    assert exported(sudur, office, "tlog-proof", out, "--leaf-only").code == 0
    assert b"Azad" not in out.read_bytes()
    assert parse_presented(parse_tlog_proof(out.read_bytes()).extra).document is None
    found = checked(sudur, office, out)
    assert found.code == 0
    assert "what the document says is not in this proof" in found.out
    assert checked(sudur, office, out, office.file).code == 1
    assert checked(sudur, office, out, office.file, "--receipt", office.receipt).code == 0


def test_a_nodes_own_tlog_proof_is_checked_too(office: Office, sudur: Commands, tmp_path: Path) -> None:
    out = tmp_path / "fetched"
    answer = httpx.get(f"{office.ledger.url}/v1/receipt/0", headers={"accept": "text/plain"}, trust_env=False)
    out.write_bytes(answer.content)
    found = checked(sudur, office, out)
    assert found.code == 0
    assert "REGISTRY, no document" in found.out


def test_a_cose_receipt(office: Office, sudur: Commands, tmp_path: Path) -> None:
    out, keys = tmp_path / "birth.cose", tmp_path / "keys"
    url = ("--url", office.ledger.url)
    assert exported(sudur, office, "cose", out, *url).code == 0
    assert exported(sudur, office, "receipt-keys", keys, *url).code == 0
    for source in (url, ("--keys", keys)):
        found = checked(sudur, office, out, office.file, "--receipt", office.receipt, *source)
        assert (found.code, found.err) == (0, "")
        assert "no witness" not in found.out
        assert "Not shown either: that a witness saw it" in found.out
    spoilt = bytearray(out.read_bytes())
    spoilt[-1] ^= 1
    out.write_bytes(spoilt)
    found = checked(sudur, office, out, "--receipt", office.receipt, "--keys", keys, "--json")
    assert (found.code, json.loads(found.out)["code"]) == (1, "SIGNATURE_INVALID")
    assert_one_line(checked(sudur, office, out), 64, "--receipt")
    assert_one_line(checked(sudur, office, out, "--receipt", office.receipt), 64, "--keys")


def test_a_status_token(office: Office, sudur: Commands, tmp_path: Path) -> None:
    out = tmp_path / "status.jwt"
    url = ("--url", office.ledger.url)
    told = exported(sudur, office, "status-token", out, *url, "--json")
    assert told.code == 0
    reference = json.loads(told.out)["status"]["status_list"]
    assert reference == {"idx": office.index, "uri": f"{office.ledger.url}/status/token/0"}
    found = checked(sudur, office, out, "--receipt", office.receipt, *url)
    assert (found.code, found.err) == (0, "")
    assert "Status: valid" in found.out
    assert checked(sudur, office, out, "--receipt", office.receipt, *url, "--max-age", "3600").code == 0


def test_a_receipt_whose_index_was_altered_has_no_status(
    office: Office, sudur: Commands, tmp_path: Path
) -> None:
    """A revoked document would borrow the status of the one beside it."""
    out, altered = tmp_path / "status.jwt", tmp_path / "altered.receipt.json"
    url = ("--url", office.ledger.url)
    assert exported(sudur, office, "status-token", out, *url).code == 0
    receipt = parse_receipt(office.receipt.read_bytes())
    moved = replace(receipt.issue, index=receipt.issue.index - 1)
    altered.write_bytes(replace(receipt, issue=moved).encode())
    found = checked(sudur, office, out, "--receipt", altered, *url)
    assert (found.code, "Status" in found.out) == (1, False)


def test_a_receipt_as_of_now(office: Office, sudur: Commands, tmp_path: Path) -> None:
    out = tmp_path / "birth.receipt.json"
    assert exported(sudur, office, "receipt", out, "--url", office.ledger.url).code == 0
    assert sudur("verify", out, office.file, "--trust", office.ledger.trust).code == 0


def test_what_cannot_be_exported(office: Office, sudur: Commands, tmp_path: Path) -> None:
    out = tmp_path / "x"
    for form in ("cose", "status-token", "receipt-keys", "receipt"):
        assert_one_line(exported(sudur, office, form, out), 64, "--url")
    url = ("--url", office.ledger.url)
    assert_one_line(exported(sudur, office, "cose", out, "--leaf-only", *url), 64, "--leaf-only")
    damaged = tmp_path / "damaged.receipt.json"
    data = office.receipt.read_bytes()
    assert b"Azad" in data
    damaged.write_bytes(data.replace(b"Azad", b"Asad"))
    trust = ("--trust", office.ledger.trust)
    for more in ((), ("--leaf-only",)):
        done = sudur("export", damaged, "--format", "tlog-proof", *trust, "--out", out, *more)
        assert_one_line(done, 1, "not the one that was logged")
    assert not out.exists()
    shutil.copy(office.file, out)
    assert_one_line(checked(sudur, office, out), 64, "no tlog-proof")


def test_a_key_of_another_use_signs_no_receipts(office: Office, sudur: Commands) -> None:
    log = office.ledger.authority / "log.key.json"
    started = sudur("node", "start", "--data", office.ledger.root / "other", "--log-key", log,
                      "--receipt-key", log)  # fmt: skip
    assert_one_line(started, 1, "is a key for log, receipt is expected")
    receipts = office.ledger.root / "receipts.key.json"
    mirror = sudur("node", "start", "--data", office.ledger.root / "other", "--follow", "127.0.0.1:1",
                     "--trust", office.ledger.trust, "--receipt-key", receipts)  # fmt: skip
    assert_one_line(mirror, 64, "--receipt-key")
