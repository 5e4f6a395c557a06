"""C2SP tlog-proofs: strict text, the leaf that `extra` leads to, and what must not pass."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ledger.checkpoints import Checkpoint
from ledger.documents import Disclosure, Field, Shown
from ledger.errors import PortableFormatError, ProofInvalid, SudurError, TooLarge
from ledger.hashing import leaf_hash, merkle_root
from ledger.merkle_list import MerkleList
from ledger.presented_documents import PresentedDocument, parse_presented
from ledger.tlog_proof import MAX_EXTRA, MAX_TLOG_PROOF, TlogProof, parse_tlog_proof
from tests.ledger.portable import Portable

PORTABLE = Portable()
GOOD = PORTABLE.tlog_proof().encode()
HASH = b64encode(bytes(32))
NOTE = b"x\n1\n" + HASH + b"\n\n" + "— x ".encode() + b64encode(bytes(68)) + b"\n"


def test_a_proof_is_read_as_it_was_written_and_checks() -> None:
    proof = parse_tlog_proof(GOOD)
    assert proof == PORTABLE.tlog_proof()
    assert proof.encode() == GOOD
    assert GOOD.startswith(b"c2sp.org/tlog-proof@v1\nextra ")
    assert GOOD.endswith(b"\n\n" + PORTABLE.receipt.checkpoint)
    presented = parse_presented(proof.extra)
    assert presented.leaf == PORTABLE.leaf
    proof.check(presented.leaf, PORTABLE.checkpoint)


def test_the_leaf_alone_leads_there_too() -> None:
    proof = parse_tlog_proof(PORTABLE.tlog_proof(PORTABLE.leaf).encode())
    presented = parse_presented(proof.extra)
    assert (presented.leaf, presented.document) == (PORTABLE.leaf, None)
    proof.check(presented.leaf, PORTABLE.checkpoint)


def test_a_document_with_a_changed_field_is_another_leaf() -> None:
    document = PresentedDocument.of(PORTABLE.receipt)
    slots = list(document.document.slots)
    at = next(i for i, one in enumerate(slots) if isinstance(one, Shown) and one.field.name == "holder")
    shown = slots[at]
    assert isinstance(shown, Shown)
    slots[at] = Shown(Field.text("holder", "somebody else"), shown.salt)
    changed = replace(
        document,
        document=Disclosure(document.document.agency, document.document.document_type, tuple(slots)),
    )
    with pytest.raises(ProofInvalid):
        PORTABLE.tlog_proof().check(parse_presented(changed.encode()).leaf, PORTABLE.checkpoint)


@pytest.mark.parametrize("size", range(1, 20))
def test_every_leaf_of_every_small_tree(size: int) -> None:
    leaves = [b"%d" % i for i in range(size)]
    tree = MerkleList.of(map(leaf_hash, leaves))
    checkpoint = Checkpoint("x", size, merkle_root([leaf_hash(one) for one in leaves]))
    for index, leaf in enumerate(leaves):
        proof = TlogProof(index, tuple(tree.path(index)), NOTE)
        assert parse_tlog_proof(proof.encode()) == proof
        proof.check(leaf, checkpoint)
        for other in range(size):
            if other != index:
                with pytest.raises(ProofInvalid):
                    replace(proof, index=other).check(leaf, checkpoint)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n\n",
        b"c2sp.org/tlog-proof@v1\n\n" + NOTE,
        b"c2sp.org/tlog-proof@v2\nindex 0\n\n" + NOTE,
        b"c2sp.org/tlog-proof@v1\nindex 0\n" + NOTE.partition(b"\n\n")[2],
        b"c2sp.org/tlog-proof@v1\nindex 00\n\n" + NOTE,
        b"c2sp.org/tlog-proof@v1\nindex -1\n\n" + NOTE,
        b"c2sp.org/tlog-proof@v1\nindex 9999999999999999999\n\n" + NOTE,
        b"c2sp.org/tlog-proof@v1\nindex  0\n\n" + NOTE,
        b"c2sp.org/tlog-proof@v1\nextra \nindex 0\n\n" + NOTE,
        b"c2sp.org/tlog-proof@v1\nextra QQ\nindex 0\n\n" + NOTE,
        b"c2sp.org/tlog-proof@v1\nextra QR==\nindex 0\n\n" + NOTE,
        b"c2sp.org/tlog-proof@v1\nextra QQ==\nextra QQ==\nindex 0\n\n" + NOTE,
        b"c2sp.org/tlog-proof@v1\r\nindex 0\n\n" + NOTE,
        b"c2sp.org/tlog-proof@v1\nindex 0\nQQ==\n\n" + NOTE,
        b"c2sp.org/tlog-proof@v1\nindex 0\n" + (HASH + b"\n") * 64 + b"\n" + NOTE,
        b"c2sp.org/tlog-proof@v1\nindex 0\n\n",
        b"c2sp.org/tlog-proof@v1\nindex 0\n\n" + b"x" * 131_073,
        "c2sp.org/tlog-proof@v1\nindex ٠\n\n".encode() + NOTE,
    ],
)
def test_what_is_no_proof(data: bytes) -> None:
    with pytest.raises(PortableFormatError):
        parse_tlog_proof(data)


def test_sizes_are_capped_before_anything_is_read() -> None:
    with pytest.raises(TooLarge):
        parse_tlog_proof(b"c2sp.org/tlog-proof@v1\n" + b"A" * MAX_TLOG_PROOF)
    most = TlogProof(0, (), NOTE, bytes(MAX_EXTRA))
    assert parse_tlog_proof(most.encode()) == most


@pytest.mark.parametrize(
    "data",
    [b"", b"\x01", b"\x01\x77", b"{", b"{}", b"[]", bytes(70_000), b"{" * 100_000],
)
def test_what_leads_to_no_leaf(data: bytes) -> None:
    with pytest.raises(PortableFormatError):
        parse_presented(data)


@given(st.one_of(st.binary(max_size=300), st.integers(0, len(GOOD) - 1).map(lambda at: GOOD[:at])))
@example(GOOD.replace(b"index", b"\xff"))
def test_whatever_comes_only_our_errors_are_raised(data: bytes) -> None:
    for parse in (parse_tlog_proof, parse_presented):
        try:
            parse(data)
        except SudurError:
            continue


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_a_changed_byte_is_seen_or_changes_what_is_checked(at: int, byte: int) -> None:
    data = GOOD[:at] + bytes((byte,)) + GOOD[at + 1 :]
    try:
        proof = parse_tlog_proof(data)
    except SudurError:
        return
    assert proof.encode() == data
