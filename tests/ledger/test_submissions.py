"""SUBMISSION leaves, packing, and the two ways of reading records, which must agree."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import submissions
from ledger.errors import (
    ForeignRecord,
    FormatError,
    LeafFormatError,
    SudurError,
    TooLarge,
    WrongCount,
    WrongRecordsRoot,
)
from ledger.hashing import leaf_hashes, merkle_root
from ledger.records import Basis, Issue, Status
from ledger.submissions import (
    KeySignature,
    Submission,
    SubmissionLeaf,
    gather_submission,
    open_submission,
    pack,
    unpack,
)
from tests.ledger.world import commitment, issue, sign_submission, signer, status

CASES = json.loads((Path(__file__).parents[1] / "vectors" / "submission.json").read_text())
GENESIS = bytes(range(32))
U8, U16, U32, U64 = (st.integers(0, 2**bits - 1) for bits in (8, 16, 32, 64))
HASH = st.binary(min_size=32, max_size=32)
SIGNATURES = st.dictionaries(U16, st.tuples(U8, st.binary(max_size=70)), min_size=1, max_size=16).map(
    lambda by: tuple(KeySignature(number, *by[number]) for number in sorted(by))
)
LEAVES = st.builds(SubmissionLeaf, U32, st.integers(1, 256), HASH, U64, SIGNATURES)


@given(LEAVES)
def test_what_is_written_is_read(leaf: SubmissionLeaf) -> None:
    data = leaf.encode()
    assert SubmissionLeaf.decode(data) == leaf
    assert data.startswith(leaf.body())
    assert len(leaf.body()) == 50


@given(LEAVES, st.data())
def test_another_length_is_refused(leaf: SubmissionLeaf, data: st.DataObject) -> None:
    encoded = leaf.encode()
    for other in (encoded[: data.draw(st.integers(0, len(encoded) - 1))], encoded + b"\0"):
        with pytest.raises(LeafFormatError):
            SubmissionLeaf.decode(other)


@given(st.binary(max_size=150))
def test_any_bytes_raise_only_our_errors(rest: bytes) -> None:
    leaf = b"\x01\x20" + rest
    try:
        assert SubmissionLeaf.decode(leaf).encode() == leaf
    except FormatError:
        return


@pytest.mark.parametrize("count", [0, 257, 2**32 - 1])
def test_one_to_256_records(count: int) -> None:
    leaf = SubmissionLeaf(1, count, bytes(32), 0, (KeySignature(1, 1, b""),))
    with pytest.raises(LeafFormatError, match="records"):
        SubmissionLeaf.decode(leaf.encode())


@pytest.mark.parametrize("count", [0, 17])
def test_one_to_16_signatures(count: int) -> None:
    signatures = tuple(KeySignature(n, 1, b"") for n in range(count))
    with pytest.raises(LeafFormatError, match="signatures"):
        SubmissionLeaf.decode(SubmissionLeaf(1, 1, bytes(32), 0, signatures).encode())


@pytest.mark.parametrize("numbers", [(1, 1), (2, 1), (1, 3, 3), (0, 65_535, 0)])
def test_signatures_ascend_by_key_number(numbers: tuple[int, ...]) -> None:
    signatures = tuple(KeySignature(n, 1, b"x") for n in numbers)
    with pytest.raises(LeafFormatError, match="ascend"):
        SubmissionLeaf.decode(SubmissionLeaf(1, 1, bytes(32), 0, signatures).encode())


@given(LEAVES, SIGNATURES)
def test_the_id_is_not_over_signatures(leaf: SubmissionLeaf, signatures: tuple[KeySignature, ...]) -> None:
    other = SubmissionLeaf(leaf.agency, leaf.count, leaf.records_root, leaf.claimed_ms, signatures)
    assert leaf.identity(GENESIS) == other.identity(GENESIS)
    assert leaf.identity(GENESIS) != leaf.identity(bytes(32))
    assert leaf.identity(GENESIS) == sha256(b"sudur/v1/submission\n" + GENESIS + leaf.encode()[:50]).digest()


def test_each_key_signs_its_own_message() -> None:
    leaf = SubmissionLeaf(1, 1, bytes(32), 5, ())
    assert leaf.message(GENESIS, bytes(32)) != leaf.message(GENESIS, b"\1" * 32)
    assert leaf.message(GENESIS, bytes(32)) != leaf.message(bytes(32), bytes(32))


# --- packing -----------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_packed_leaves_come_back(leaves: list[bytes]) -> None:
    packed = pack(leaves)
    assert unpack(packed, most=20) == leaves
    for cut in (1, 2):
        if packed and len(leaves[-1]) + 2 > cut:
            with pytest.raises(LeafFormatError):
                unpack(packed[:-cut], most=20)


def test_packing_has_caps() -> None:
    assert unpack(pack([bytes(65_535)]), most=1) == [bytes(65_535)]
    with pytest.raises(TooLarge):
        pack([bytes(65_536)])
    with pytest.raises(TooLarge):
        unpack(pack([b"a", b"b"]), most=1)


# --- the two ways of reading -------------------------------------------------------------------


def general(leaf: bytes, packed: bytes) -> Submission:
    """open_submission without its fast path."""
    with patch.object(submissions, "_issue_columns", return_value=None):
        return open_submission(leaf, packed)


def apart(leaf: bytes, packed: bytes) -> Submission:
    """The same from records that are apart, as a block has them."""
    return submissions.gather_submission(leaf, unpack(packed, most=256))


def apart_hashed(leaf: bytes, packed: bytes) -> Submission:
    """The same with hashes that the caller has made."""
    records = unpack(packed, most=256)
    return submissions.gather_submission(leaf, records, leaf_hashes(records))


def outcome(read: Any, leaf: bytes, packed: bytes) -> Any:
    try:
        made: Submission = read(leaf, packed)
    except SudurError as error:
        return type(error), str(error), error.details()
    columns = made.issues
    return (
        made.leaf,
        made.head,
        made.records,
        made.record_hashes,
        list(columns.positions),
        list(columns.keys),
        columns.grounds,
        made.others,
    )


def bulk(records: list[bytes], agency: int = 7) -> bytes:
    return sign_submission(GENESIS, agency, records, 1000, {1: signer("bulk")})


BULK = [issue(7, i, i % 3, Basis(i % 4)) for i in range(12)]


@pytest.mark.parametrize("count", [1, 2, 12, 256])
def test_fast_and_general_agree_on_issues(count: int) -> None:
    records = [issue(7, i, i % 300, Basis(i % 4)) for i in range(count)]
    leaf, packed = bulk(records), pack(records)
    columns = submissions._issue_columns(7, count, packed, b"\x00\x29")
    assert columns is not None
    assert columns == submissions._issue_columns(7, count, b"".join(records), b"")
    assert outcome(open_submission, leaf, packed) == outcome(general, leaf, packed)
    assert outcome(apart, leaf, packed) == outcome(general, leaf, packed)
    assert outcome(apart_hashed, leaf, packed) == outcome(general, leaf, packed)
    opened = open_submission(leaf, packed)
    assert opened.leaves == (leaf, *records)
    assert sum(opened.issues.grounds.values()) == count


def test_fast_and_general_agree_on_every_changed_byte_of_a_record() -> None:
    """Every position of the second record takes edge values; root signed over the change, and not."""
    packed = pack(BULK)
    for at in range(43, 86):
        for byte in {0, 1, 3, 4, 40, 41, 42, 85, 255, packed[at] ^ 1, packed[at] ^ 128}:
            changed = packed[:at] + bytes((byte,)) + packed[at + 1 :]
            assert outcome(open_submission, bulk(BULK), changed) == outcome(general, bulk(BULK), changed)
            try:
                records = unpack(changed, most=256)
            except FormatError:
                continue
            leaf = bulk(records)
            assert outcome(open_submission, leaf, changed) == outcome(general, leaf, changed)
            assert outcome(apart_hashed, leaf, changed) == outcome(general, leaf, changed)


@settings(max_examples=300)
@given(st.data())
def test_fast_and_general_agree_on_any_mutation(data: st.DataObject) -> None:
    packed = bytearray(pack(BULK))
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(packed) - 1))
        match data.draw(st.sampled_from(["flip", "cut", "insert", "end", "record"])):
            case "flip":
                packed[at] = data.draw(st.integers(0, 255))
            case "cut":
                del packed[at]
            case "insert":
                packed.insert(at, data.draw(st.integers(0, 255)))
            case "end":
                del packed[at:]
            case _:
                packed += pack([issue(data.draw(st.sampled_from([7, 8])), at)])
        if not packed:
            break
    changed = bytes(packed)
    count = data.draw(st.sampled_from([1, 11, 12, 13]))
    try:
        records = unpack(changed, most=256)
        root = merkle_root(leaf_hashes(records)) if data.draw(st.booleans()) else commitment("other")
    except FormatError:
        root = commitment("other")
    leaf = SubmissionLeaf(7, count, root, 5, (KeySignature(1, 1, b""),)).encode()
    assert outcome(open_submission, leaf, changed) == outcome(general, leaf, changed)
    assert outcome(apart, leaf, changed) == outcome(general, leaf, changed)


def test_mixed_records_are_told_apart() -> None:
    records = [
        status(7, 2, 2, Status.REVOKED),
        issue(7, "a", 5),
        status(7, 3, 3, Status.SUSPENDED),
        issue(7, "b", 5),
        issue(7, "c", 0, Basis.ARCHIVE),
    ]
    made = open_submission(bulk(records), pack(records))
    assert list(made.issues.positions) == [1, 3, 4]
    assert list(made.issues.keys) == [commitment(n) + b"\0\0\0\x07" for n in "abc"]
    assert made.issues.grounds == {(5, Basis.ORIGINAL): 2, (0, Basis.ARCHIVE): 1}
    assert [position for position, _ in made.others] == [0, 2]
    assert gather_submission(bulk(records), records) == made


def test_records_belong_to_their_submission() -> None:
    records = [issue(7, i) for i in range(3)]
    leaf = bulk(records)
    with pytest.raises(WrongCount):
        gather_submission(leaf, records[:2])
    with pytest.raises(WrongCount):
        gather_submission(leaf, [*records, issue(7, 9)])
    with pytest.raises(WrongCount):
        gather_submission(leaf, [])
    with pytest.raises(WrongRecordsRoot):
        gather_submission(leaf, [records[1], records[0], records[2]])
    with pytest.raises(WrongRecordsRoot):
        gather_submission(leaf, [*records[:2], issue(7, 9)])
    with pytest.raises(ForeignRecord, match="record 1"):
        gather_submission(leaf, [records[0], issue(8, 1), records[2]])
    with pytest.raises(ForeignRecord, match="record 0"):
        gather_submission(bulk([issue(0, 1)]), [issue(0, 1)])
    with pytest.raises(LeafFormatError):
        gather_submission(leaf, [*records[:2], leaf])
    with pytest.raises(TooLarge):
        open_submission(leaf, bytes(256 * 65_537 + 1))
    with pytest.raises(TooLarge):
        gather_submission(leaf, [bytes(65_536)] * 3)


@given(st.binary(max_size=300))
def test_any_records_raise_only_our_errors(packed: bytes) -> None:
    with pytest.raises(SudurError):
        open_submission(bulk(BULK), packed)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["desc"])
def test_known_answers(case: dict[str, Any]) -> None:
    leaf, packed = bytes.fromhex(case["leaf"]), bytes.fromhex(case["packed"])
    genesis = bytes.fromhex(case["genesis"])
    if isinstance(case["want"], str):
        with pytest.raises(SudurError) as caught:
            open_submission(leaf, packed)
        assert caught.value.code == case["want"]
        return
    want, made = case["want"], open_submission(leaf, packed)
    assert made.head.agency == want["agency"]
    assert made.head.count == want["count"]
    assert made.head.records_root.hex() == want["records_root"]
    assert made.head.claimed_ms == int(want["claimed_ms"])
    assert made.head.identity(genesis).hex() == want["id"]
    assert [
        {
            "number": one.number,
            "algorithm": one.algorithm,
            "message": made.head.message(genesis, bytes.fromhex(fingerprint)).hex(),
            "signature": one.signature.hex(),
        }
        for one, fingerprint in zip(made.head.signatures, want["fingerprints"], strict=True)
    ] == want["signatures"]
    assert Issue.decode(made.records[0]).agency == want["agency"]
