"""The header that all leaves share."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import FormatError, LeafFormatError, TooLarge
from ledger.leaves import MAX_LEAF_SIZE, RECORD_TYPES, LeafType, expect_type, leaf_type
from tests.vectors import generate_leaves

KNOWN = [0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x10, 0x20, 0x30]


@pytest.mark.parametrize("number", range(256))
def test_only_the_types_of_the_design_are_known(number: int) -> None:
    leaf = bytes((1, number))
    if number in KNOWN:
        assert leaf_type(leaf) == number
    else:
        with pytest.raises(LeafFormatError, match="type"):
            leaf_type(leaf)


@pytest.mark.parametrize("version", [0, 2, 255])
def test_other_versions_are_refused(version: int) -> None:
    with pytest.raises(LeafFormatError, match="version"):
        leaf_type(bytes((version, 1)))


@pytest.mark.parametrize("leaf", [b"", b"\x01"])
def test_a_header_has_two_bytes(leaf: bytes) -> None:
    with pytest.raises(LeafFormatError):
        leaf_type(leaf)


def test_the_size_cap() -> None:
    assert leaf_type(b"\x01\x10" + bytes(MAX_LEAF_SIZE - 2)) is LeafType.REGISTRY
    with pytest.raises(TooLarge):
        leaf_type(b"\x01\x10" + bytes(MAX_LEAF_SIZE - 1))


def test_records_are_the_first_six() -> None:
    assert sorted(RECORD_TYPES) == KNOWN[:6]


def test_the_wanted_type_is_named() -> None:
    expect_type(b"\x01\x30", LeafType.SEAL)
    with pytest.raises(LeafFormatError, match="SEAL leaf is expected, this is ISSUE"):
        expect_type(b"\x01\x01", LeafType.SEAL)


@given(st.binary(max_size=100))
def test_any_bytes_raise_only_our_errors(leaf: bytes) -> None:
    try:
        kind = leaf_type(leaf)
    except FormatError:
        return
    assert leaf[:2] == bytes((1, kind))


def test_the_vectors_are_what_the_generator_makes() -> None:
    made = {
        "records": generate_leaves.records(),
        "submission": generate_leaves.submissions(),
        "registry": generate_leaves.registry(),
        "seal": generate_leaves.seals(),
        "document": generate_leaves.documents(),
        "status": generate_leaves.statuses(),
    }
    for name, cases in made.items():
        stored = Path(generate_leaves.__file__).with_name(f"{name}.json").read_text()
        assert json.loads(stored) == cases, name
