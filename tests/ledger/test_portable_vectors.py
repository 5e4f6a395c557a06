"""Portable proofs against vectors that were written without the code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ledger.cose_receipts import parse_cose_receipt
from ledger.errors import SudurError
from ledger.notes import VerifierKey
from ledger.receipt_keys import ReceiptKey, open_statement
from ledger.status import CHUNK_INDEXES, read_status
from ledger.status_tokens import open_status_token
from ledger.tlog_proof import parse_tlog_proof
from ledger.trust import TrustedLedger
from tests.vectors import generate_portable

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "vectors" / "portable.json").read_text(encoding="utf-8")
)
TRUSTED = TrustedLedger.founded(
    bytes.fromhex(VECTORS["genesis"]), VECTORS["origin"], [VerifierKey.parse(VECTORS["log_key"])]
)
STATEMENT = open_statement(VECTORS["statements"][0]["note"].encode(), TRUSTED)


def cases(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", VECTORS[name], ids=lambda case: case["desc"])


def test_they_are_those_that_the_generator_makes() -> None:
    """But for the compressed lists: another zlib may write them in other bytes."""
    again = json.loads(generate_portable.encoded())
    for name in VECTORS:
        if name != "status_tokens":
            assert again[name] == VECTORS[name]


def test_a_key_has_the_names_of_the_two_standards() -> None:
    key = ReceiptKey(bytes.fromhex(VECTORS["receipt_key"]))
    assert (key.cose_kid.hex(), key.jose_kid) == (VECTORS["cose_kid"], VECTORS["jose_kid"])
    assert STATEMENT.keys == (key,)


@cases("tlog_proofs")
def test_tlog_proofs(case: dict[str, Any]) -> None:
    try:
        proof = parse_tlog_proof(case["proof"].encode())
        proof.check(bytes.fromhex(case["leaf"]), TRUSTED.open(proof.checkpoint).checkpoint)
        assert proof.encode() == case["proof"].encode()
        found = "proven"
    except SudurError as error:
        found = error.code
    assert found == case["want"]


@cases("cose_receipts")
def test_cose_receipts(case: dict[str, Any]) -> None:
    try:
        receipt = parse_cose_receipt(bytes.fromhex(case["receipt"]))
        found = receipt.verify(bytes.fromhex(case["leaf"]), STATEMENT).hex()
        assert receipt.encode().hex() == case["receipt"]
    except SudurError as error:
        found = error.code
    assert found == case["want"]


@cases("statements")
def test_statements(case: dict[str, Any]) -> None:
    try:
        open_statement(case["note"].encode(), TRUSTED)
        found = "ok"
    except SudurError as error:
        found = error.code
    assert found == case["want"]


@cases("status_tokens")
def test_status_tokens(case: dict[str, Any]) -> None:
    found: Any
    try:
        token = open_status_token(case["token"].encode(), STATEMENT)
        found = {
            str(index): int(read_status(token.chunk, index))
            for index in range(CHUNK_INDEXES)
            if read_status(token.chunk, index)
        }
    except SudurError as error:
        found = error.code
    assert found == case["want"]
