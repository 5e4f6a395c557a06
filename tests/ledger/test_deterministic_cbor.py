"""Deterministic CBOR: RFC 8949's order, and everything else refused before it costs anything."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.deterministic_cbor import MAX_DEPTH, encode, parse
from ledger.errors import PortableFormatError, TooLarge

LIMIT = 8_192
KEYS = st.one_of(st.integers(-(2**64), 2**64 - 1), st.text(max_size=40))
VALUES = st.recursive(
    st.one_of(st.none(), st.integers(-(2**64), 2**64 - 1), st.binary(max_size=40), st.text(max_size=40)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ({10: 1, 100: 2, -1: 3, "z": 4, "aa": 5, 395: 6}, "a60a0118640219018b062003617a0462616105"),
        ([2**64 - 1, -(2**64), 23, 24, None], "851bffffffffffffffff3bffffffffffffffff171818f6"),
        ({15: {6: 1, 1: "x"}}, "a10fa2016178" + "0601"),
    ],
)
def test_the_one_encoding(value: Any, wanted: str) -> None:
    assert encode(value).hex() == wanted
    assert parse(bytes.fromhex(wanted), limit=LIMIT) == value


@given(VALUES)
def test_what_is_written_is_read(value: Any) -> None:
    data = encode(value)
    try:
        assert parse(data, limit=LIMIT) == value
    except PortableFormatError as error:
        assert "deeply" in error.what  # noqa: PT017 - the only reason there is


@pytest.mark.parametrize(
    "data",
    [
        "",
        "18",
        "1800",  # not the shortest head
        "190017",
        "5800",
        "9f01ff",  # indefinite lengths
        "5f4101ff",
        "bf0102ff",
        "ff",
        "f5",  # true
        "f90000",  # floats
        "fb3ff0000000000000",
        "f7",  # undefined
        "c11a514b67b0",  # tags: a date, a bignum, a bigfloat that would fill memory, a shared value
        "c249010000000000000000",
        "c5821b7fffffffffffffff03",
        "d81c80",
        "0001",  # something after the end
        "a2010201" + "03",  # a key twice
        "a2190100" + "01" + "01" + "01",  # keys out of order
        "a1810102",  # a list as a key
        "a1a0" + "01",
        "62c328",  # not UTF-8
        "5bffffffffffffffff",  # huge lengths
        "7bffffffffffffffff00",
        "9bffffffffffffffff",
        "bbffffffffffffffff00",
        "9a00100000",
        "ba7fffffff0101",
        "1c",
        "81" * (MAX_DEPTH + 1) + "00",
        "81" * 8_000 + "00",
        "a101" * 3_000 + "00",
    ],
)
def test_what_is_refused(data: str) -> None:
    started = time.perf_counter()
    with pytest.raises(PortableFormatError):
        parse(bytes.fromhex(data), limit=LIMIT)
    assert time.perf_counter() - started < 1


def test_the_cap_holds_before_anything_is_read() -> None:
    with pytest.raises(TooLarge):
        parse(bytes(LIMIT + 1), limit=LIMIT)


@given(st.binary(max_size=200))
def test_whatever_comes_it_is_the_one_form_or_our_error(data: bytes) -> None:
    try:
        value = parse(data, limit=LIMIT)
    except PortableFormatError:
        return
    assert encode(value) == data
