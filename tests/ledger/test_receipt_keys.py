"""Receipt keys: the forms that COSE and JOSE have, and the statement that binds them to a ledger."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwk import KeySet, OKPKey

from ledger.checkpoints import parse_checkpoint
from ledger.errors import (
    CheckpointUntrusted,
    FormatError,
    NoteFormatError,
    PortableFormatError,
    SignatureInvalid,
    SudurError,
)
from ledger.notes import parse_note
from ledger.receipt_keys import (
    ReceiptKey,
    base64url,
    cose_key_set,
    jwk_set,
    open_statement,
    parse_statement,
)
from tests.ledger.portable import Portable
from tests.ledger.world import signer

PORTABLE = Portable()
STATEMENT = PORTABLE.statement("receipts", "receipts before")
SIGNED = STATEMENT.sign([signer("log")])


def test_a_statement_is_followed_from_the_logs_key() -> None:
    assert open_statement(SIGNED, PORTABLE.trusted) == STATEMENT
    assert parse_statement(STATEMENT.text()) == STATEMENT
    for key in STATEMENT.keys:
        assert STATEMENT.by_cose_kid(key.cose_kid) == key == STATEMENT.by_jose_kid(key.jose_kid)
    with pytest.raises(CheckpointUntrusted):
        STATEMENT.by_jose_kid("")


def test_neither_note_passes_for_the_other() -> None:
    with pytest.raises(NoteFormatError):
        PORTABLE.trusted.open(SIGNED)
    with pytest.raises(NoteFormatError):
        parse_checkpoint(parse_note(SIGNED).text)
    with pytest.raises(PortableFormatError):
        open_statement(PORTABLE.receipt.checkpoint, PORTABLE.trusted)


def test_others_statements_are_not_believed() -> None:
    with pytest.raises(SignatureInvalid):
        open_statement(STATEMENT.sign([signer("another")]), PORTABLE.trusted)
    with pytest.raises(SignatureInvalid):
        open_statement(SIGNED.replace(b"\nsize ", b"\nsize 1"), PORTABLE.trusted)
    foreign = replace(STATEMENT, genesis=bytes(32)).sign([signer("log")])
    with pytest.raises(CheckpointUntrusted):
        open_statement(foreign, PORTABLE.trusted)


def test_a_log_key_that_has_ended_states_nothing_more() -> None:
    (key,) = PORTABLE.trusted.log_keys
    ended = replace(PORTABLE.trusted, log_keys=(replace(key, last_size=STATEMENT.size - 1),))
    with pytest.raises(SignatureInvalid):
        open_statement(SIGNED, ended)
    still = replace(ended, log_keys=(replace(key, last_size=STATEMENT.size),))
    assert open_statement(SIGNED, still) == STATEMENT


def test_the_sets_are_what_other_libraries_read() -> None:
    data = jwk_set(STATEMENT.keys)
    theirs = KeySet.import_key_set(json.loads(data))
    for ours, key in zip(STATEMENT.keys, theirs.keys, strict=True):
        assert isinstance(key, OKPKey)
        assert key.as_dict(private=False)["x"] == base64url(ours.public_key)
        assert key.thumbprint() == ours.jose_kid == key.kid
    keys = cbor2.loads(cose_key_set(STATEMENT.keys))
    assert [key[-2] for key in keys] == [one.public_key for one in STATEMENT.keys]
    assert all((key[1], key[3], key[-1]) == (1, -8, 6) for key in keys)
    assert len({key[2] for key in keys}) == len(keys)


def test_the_thumbprint_of_rfc_8037() -> None:
    public = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
    assert ReceiptKey(public).jose_kid == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_a_key_that_verifies_anything_is_no_key() -> None:
    with pytest.raises(FormatError):
        ReceiptKey(bytes(32))


TEXT = STATEMENT.text().decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        TEXT[:-1],
        TEXT + "\n",
        TEXT.replace("v1", "v2"),
        TEXT.replace("genesis ", "genesis"),
        TEXT.replace("genesis ", "genesis QQ"),
        TEXT.replace("size ", "size 0"),
        TEXT.replace("size ", "size -"),
        TEXT.replace("key ", "key A"),
        TEXT.replace("key ", "Key "),
        "\n".join(TEXT.split("\n")[:4]) + "\n",
        TEXT + TEXT.split("\n")[4] + "\n",
        TEXT + "".join(f"{TEXT.split(chr(10))[4]}\n" for _ in range(16)),
        TEXT.replace("origin ", "origin \x07"),
        TEXT[: TEXT.index("key ")] + "key " + "A" * 43 + "=\n",
    ],
)
def test_what_is_no_statement(text: str) -> None:
    with pytest.raises(PortableFormatError):
        parse_statement(text.encode())


@given(st.one_of(st.binary(max_size=300), st.integers(0, len(SIGNED)).map(lambda at: SIGNED[:at])))
def test_whatever_comes_only_our_errors_are_raised(data: bytes) -> None:
    with suppress(SudurError):
        assert parse_statement(data).text() == data
    try:
        open_statement(data, PORTABLE.trusted)
    except SudurError:
        return
    assert data == SIGNED
