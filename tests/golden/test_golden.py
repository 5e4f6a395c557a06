"""What was committed once verifies for ever: each golden file, at its own time, comes to what it did then.

A failure here means that people's documents have stopped verifying. The remedy is never to make the files
anew: find out which change did it, and take that back.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from ledger.attestations import WantedAttestation
from ledger.codes import parse_code
from ledger.cose_receipts import parse_cose_receipt
from ledger.judging import Asked
from ledger.opened_pack import open_pack
from ledger.pack_verifier import verify_code
from ledger.packs import parse_pack
from ledger.presented_documents import parse_presented
from ledger.receipt_keys import open_statement
from ledger.receipts import parse_receipt
from ledger.records import Status
from ledger.status import read_status
from ledger.status_tokens import open_status_token
from ledger.tlog_proof import parse_tlog_proof
from ledger.trust import Trust, parse_trust
from ledger.trust_renewal import parse_renewal, renew
from ledger.verifier import verify_receipt
from tests.golden import generate
from tools.errors import NameTaken

HERE = Path(__file__).parent
INDEXES = sorted(HERE.glob("*/index.json"))
Case = dict[str, Any]


def cases() -> Iterator[Any]:
    for index in INDEXES:
        for case in json.loads(index.read_text(encoding="utf-8"))["cases"]:
            yield pytest.param(index.parent, case, id=f"{index.parent.name}: {case['kind']}, {case['desc']}")


@pytest.mark.parametrize(("directory", "case"), list(cases()))
def test_it_still_verifies(directory: Path, case: Case) -> None:
    assert JUDGES[case["kind"]](directory, case) == case["want"]


def test_there_are_some_and_none_was_touched() -> None:
    """Every file is in an index, by its hash, and nothing lies beside."""
    assert [index.parent.name for index in INDEXES] == ["2026-11", "2026-11-signers"]
    for index in INDEXES:
        files = json.loads(index.read_text(encoding="utf-8"))["files"]
        there = {one.name for one in index.parent.iterdir()} - {"index.json"}
        assert set(files) == there
        for name, digest in files.items():
            assert sha256((index.parent / name).read_bytes()).hexdigest() == digest, name
        used = {
            one
            for case in json.loads(index.read_text(encoding="utf-8"))["cases"]
            for one in (*case.values(), *case["want"].values())
            if isinstance(one, str)
        }
        assert there <= used, "a file that no case verifies"


def test_nothing_is_made_anew(tmp_path: Path) -> None:
    """The script makes new directories only, and no file twice."""
    with pytest.raises(FileExistsError):
        generate.write(HERE / "2026-11")
    out = generate.Writer(tmp_path / "new")
    out.put("one", b"1")
    again = generate.Writer.__new__(generate.Writer)
    again.__dict__.update({"_directory": tmp_path / "new", "rows": [], "_written": {}})
    with pytest.raises(NameTaken):
        again.put("one", b"2")


# --- judges ------------------------------------------------------------------------------------


def _trust(directory: Path, case: Case) -> Trust:
    return parse_trust((directory / case["trust"]).read_bytes())


def _receipt(directory: Path, case: Case) -> Case:
    asked = [WantedAttestation(*map(int, one.split(":"))) for one in case.get("attested", ())]
    verdict = verify_receipt(
        parse_receipt((directory / case["file"]).read_bytes()),
        _trust(directory, case),
        now_ms=case["now_ms"],
        greatest_age_s=case.get("max_age_s"),
        file_digests=[bytes.fromhex(one) for one in case.get("digests", ())],
        attested=asked,
    )
    failed = next((step.name for step in verdict.steps if step.passed is False), None)
    return {"code": verdict.code.name, "failed": failed}


def _trust_file(directory: Path, case: Case) -> Case:
    data = (directory / case["file"]).read_bytes()
    trust = parse_trust(data)
    assert trust.encode() + b"\n" == data
    (ledger,) = trust.ledgers
    return {"log_keys": len(ledger.log_keys), "end": ledger.end}


def _renewal(directory: Path, case: Case) -> Case:
    (before,) = _trust(directory, case).ledgers
    renewal = parse_renewal((directory / case["file"]).read_bytes())
    after = Trust((renew(before, renewal, now_ms=case["now_ms"]).ledger,))
    want: str = case["want"]["file"]
    assert after.encode() + b"\n" == (directory / want).read_bytes()
    return {"file": want}


def _code(directory: Path, case: Case) -> Case:
    trust = _trust(directory, case)
    pack = open_pack(parse_pack((directory / case["pack"]).read_bytes()), trust)
    code = parse_code((directory / case["file"]).read_text(encoding="utf-8"))
    found = verify_code(code, pack, trust, Asked(case["now_ms"]))
    return {"code": found.verdict.code.name}


def _tlog_proof(directory: Path, case: Case) -> Case:
    (ledger,) = _trust(directory, case).ledgers
    proof = parse_tlog_proof((directory / case["file"]).read_bytes())
    said = parse_presented(proof.extra)
    proof.check(said.leaf, ledger.open(proof.checkpoint).checkpoint)
    return {"index": str(proof.index)}


def _cose(directory: Path, case: Case) -> Case:
    (ledger,) = _trust(directory, case).ledgers
    statement = open_statement((directory / case["statement"]).read_bytes(), ledger)
    receipt = parse_cose_receipt((directory / case["file"]).read_bytes())
    return {"root": receipt.verify((directory / case["leaf"]).read_bytes(), statement).hex()}


def _status_token(directory: Path, case: Case) -> Case:
    (ledger,) = _trust(directory, case).ledgers
    statement = open_statement((directory / case["statement"]).read_bytes(), ledger)
    token = open_status_token((directory / case["file"]).read_bytes(), statement)
    found = [(at, read_status(token.chunk, at)) for at in range(token.size)]
    return {"statuses": {str(at): int(one) for at, one in found if one is not Status.VALID}}


JUDGES = {
    "receipt": _receipt,
    "trust": _trust_file,
    "renewal": _renewal,
    "code": _code,
    "tlog-proof": _tlog_proof,
    "cose": _cose,
    "status-token": _status_token,
}
