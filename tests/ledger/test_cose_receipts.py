"""COSE Receipts: the profile that fixes index and size, and what a library by others says of it."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import replace
from typing import Any

import pytest
import scitt_cose
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from ledger.cose_receipts import INDEX_LABEL, SIZE_LABEL, Inclusion, parse_cose_receipt
from ledger.deterministic_cbor import encode, parse
from ledger.errors import (
    CheckpointUntrusted,
    PortableFormatError,
    ProofInvalid,
    SignatureInvalid,
    SudurError,
)
from ledger.hashing import leaf_hash
from ledger.merkle_list import MerkleList
from ledger.receipt_keys import KeyStatement, ReceiptKey
from tests.ledger.portable import KEY, Portable
from tests.ledger.world import signer

PORTABLE = Portable()
GOOD = PORTABLE.cose()
STATEMENT = PORTABLE.statement()
LEAVES = [b"leaf %d" % i for i in range(12)]


def pem(public_key: bytes) -> str:
    """As SubjectPublicKeyInfo, which the other library wants."""
    body = b64encode(bytes.fromhex("302a300506032b6570032100") + public_key).decode()
    return f"-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n"


def theirs(data: bytes, leaf: bytes, public_key: bytes = KEY.public_key) -> scitt_cose.ReceiptResult:
    return scitt_cose.verify_receipt(data, leaf_entry_hex=leaf.hex(), log_public_key_pem=pem(public_key))


def taken_apart(data: bytes) -> tuple[dict[Any, Any], list[Any], bytes]:
    protected, unprotected, _, signature = parse(data[1:], limit=8_192)
    return parse(protected, limit=8_192), parse(unprotected[396][-1][0], limit=8_192), signature


def put_together(header: dict[Any, Any], proof: list[Any], signature: bytes) -> bytes:
    return b"\xd2" + encode([encode(header), {396: {-1: [encode(proof)]}}, None, signature])


def inclusion(index: int, size: int) -> tuple[Inclusion, bytes, KeyStatement]:
    """Leaf ``index`` of a small tree, its root, and the statement of its key."""
    tree = MerkleList.of(map(leaf_hash, LEAVES[:size]))
    said = Inclusion(bytes(32), "x", size, index, 0, tuple(tree.path(index)))
    return said, tree.root, KeyStatement(bytes(32), "x", size, STATEMENT.keys)


def test_a_receipt_is_read_as_it_was_written_and_verifies() -> None:
    receipt = parse_cose_receipt(GOOD)
    assert receipt.inclusion == PORTABLE.inclusion()
    assert receipt.verify(PORTABLE.leaf, STATEMENT) == PORTABLE.checkpoint.root
    assert PORTABLE.cose() == GOOD


def test_another_library_verifies_it() -> None:
    result = theirs(GOOD, PORTABLE.leaf)
    assert (result.ok, result.errors) == (True, [])
    said = PORTABLE.inclusion()
    assert (result.tree_size, result.leaf_index, result.root) == (
        said.size,
        said.index,
        PORTABLE.checkpoint.root.hex(),
    )
    assert (result.issuer, result.subject, result.iat) == (said.origin, said.genesis.hex(), said.as_of_s)
    assert result.protected_header_ext == {
        4: STATEMENT.keys[0].cose_kid,
        SIZE_LABEL: said.size,
        INDEX_LABEL: said.index,
    }
    assert not theirs(GOOD, PORTABLE.leaf + b"x").ok
    assert not theirs(GOOD, PORTABLE.leaf, signer("another").public_key).ok


@pytest.mark.parametrize("size", range(2, 13))
def test_every_leaf_of_every_small_tree_with_both(size: int) -> None:
    for index in range(size):
        said, root, statement = inclusion(index, size)
        data = said.sign(root, KEY)
        assert parse_cose_receipt(data).verify(LEAVES[index], statement) == root
        assert theirs(data, LEAVES[index]).ok
        with pytest.raises(SignatureInvalid):
            parse_cose_receipt(data).verify(LEAVES[index] + b"!", statement)


def test_the_path_of_leaf_6_of_8_does_not_pass_for_leaf_10_of_12() -> None:
    said, root, statement = inclusion(6, 8)
    header, proof, signature = taken_apart(said.sign(root, KEY))
    moved = put_together(header, [12, 10, proof[2]], signature)
    # The signature covers the root alone, so whoever looks at nothing else is taken in.
    fooled = theirs(moved, LEAVES[6])
    assert (fooled.ok, fooled.tree_size, fooled.leaf_index) == (True, 12, 10)
    assert fooled.protected_header_ext[INDEX_LABEL] == 6
    with pytest.raises(ProofInvalid, match="leaf 10 of 12, signed is leaf 6 of 8"):
        parse_cose_receipt(moved)
    both = put_together({**header, SIZE_LABEL: 12, INDEX_LABEL: 10}, [12, 10, proof[2]], signature)
    with pytest.raises(SignatureInvalid):
        parse_cose_receipt(both).verify(LEAVES[6], statement)


def test_the_key_has_to_be_stated_for_this_ledger() -> None:
    receipt = parse_cose_receipt(GOOD)
    with pytest.raises(CheckpointUntrusted, match="not among the receipt keys"):
        receipt.verify(PORTABLE.leaf, PORTABLE.statement("another"))
    assert receipt.verify(PORTABLE.leaf, PORTABLE.statement("another", "receipts"))
    for other in (replace(STATEMENT, genesis=bytes(32)), replace(STATEMENT, origin="another.example")):
        with pytest.raises(CheckpointUntrusted, match="of the ledger"):
            receipt.verify(PORTABLE.leaf, other)


def test_headers_of_another_profile_are_refused() -> None:
    header, proof, signature = taken_apart(GOOD)
    for changed in (
        {1: -7},
        {4: b"short"},
        {4: "text"},
        {15: {1: "ledger.example", 2: "zz" * 32, 6: 0}},
        {15: {1: "", 2: "00" * 32, 6: 0}},
        {15: {1: header[15][1], 2: header[15][2].upper(), 6: 0}},
        {15: {**header[15], 4: 1}},
        {15: {1: header[15][1], 2: header[15][2], 6: -1}},
        {16: "x"},
        {395: 2},
        {SIZE_LABEL: header[INDEX_LABEL]},
        {SIZE_LABEL: 2**63},
        {INDEX_LABEL: -1},
        {INDEX_LABEL: None},
    ):
        with pytest.raises(PortableFormatError):
            parse_cose_receipt(put_together({**header, **changed}, proof, signature))
    for label in header:
        fewer = {key: value for key, value in header.items() if key != label}
        with pytest.raises(PortableFormatError):
            parse_cose_receipt(put_together(fewer, proof, signature))


def test_only_the_one_form_is_read() -> None:
    header, proof, signature = taken_apart(GOOD)
    inner, vdp = encode(header), {-1: [encode(proof)]}
    messages: tuple[Any, ...] = (
        [inner, {396: vdp}, PORTABLE.checkpoint.root, signature],
        [inner, {396: vdp, 4: b"x"}, None, signature],
        [inner, {396: {**vdp, -2: []}}, None, signature],
        [inner, {396: {-1: vdp[-1] * 2}}, None, signature],
        [inner, {396: {-1: []}}, None, signature],
        [inner, {}, None, signature],
        [inner, {396: vdp}, None, signature + b"x"],
        [inner, {396: vdp}, None],
        [inner, {396: {-1: [encode([*proof, 1])]}}, None, signature],
        [inner, {396: {-1: [encode([proof[0], proof[1], [b"x"]])]}}, None, signature],
        [inner, {396: {-1: [encode(proof) + b"\0"]}}, None, signature],
        [b"", {396: vdp}, None, signature],
        {},
        None,
    )
    for message in messages:
        with pytest.raises(PortableFormatError):
            parse_cose_receipt(b"\xd2" + encode(message))
    for data in (b"", GOOD[1:], GOOD + b"\0", b"\xd8\x12" + GOOD[1:], GOOD[:1] + b"\xc1" + GOOD[1:]):
        with pytest.raises(PortableFormatError):
            parse_cose_receipt(data)


def test_a_path_that_is_too_long_is_refused() -> None:
    header, proof, signature = taken_apart(GOOD)
    for count, wrong in ((0, ProofInvalid), (63, ProofInvalid), (64, PortableFormatError)):
        data = put_together(header, [proof[0], proof[1], [bytes(32)] * count], signature)
        with pytest.raises(wrong):
            parse_cose_receipt(data).verify(PORTABLE.leaf, STATEMENT)


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_no_changed_byte_passes(at: int, byte: int) -> None:
    data = GOOD[:at] + bytes((byte,)) + GOOD[at + 1 :]
    if data == GOOD:
        return
    with pytest.raises(SudurError):
        parse_cose_receipt(data).verify(PORTABLE.leaf, STATEMENT)


@given(
    st.one_of(
        st.binary(max_size=300),
        st.binary(max_size=300).map(lambda data: b"\xd2" + data),
        st.integers(0, len(GOOD) - 1).map(lambda at: GOOD[:at]),
    )
)
def test_whatever_comes_only_our_errors_are_raised(data: bytes) -> None:
    with pytest.raises(SudurError):
        parse_cose_receipt(data)


def test_a_signature_by_any_ed25519_library_will_do() -> None:
    """The Sig_structure, written out by hand."""
    said, root, _ = inclusion(6, 8)
    header, proof, _ = taken_apart(said.sign(root, KEY))
    key = SigningKey(bytes(32))
    own = KeyStatement(bytes(32), "x", 8, (ReceiptKey(bytes(key.verify_key)),))
    inner = encode({**header, 4: own.keys[0].cose_kid})
    assert 23 < len(inner) < 256
    message = b"\x84\x6aSignature1\x58" + bytes((len(inner),)) + inner + b"\x40\x58\x20" + root
    made = put_together({**header, 4: own.keys[0].cose_kid}, proof, key.sign(message).signature)
    assert parse_cose_receipt(made).verify(LEAVES[6], own) == root
