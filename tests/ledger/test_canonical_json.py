"""Canonical JSON: what is read re-encodes to itself, and nothing but our errors comes out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.canonical_json import Reader, base64_text, encode, parse, parse_base64, parse_u64
from ledger.errors import FormatError, TooLarge

LIMIT = 1 << 20
SAFE = 2**53 - 1
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-SAFE, SAFE) | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=6), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(VALUES)
def test_what_is_written_is_read(value: Any) -> None:
    data = encode(value)
    assert parse(data, limit=LIMIT) == value
    assert encode(parse(data, limit=LIMIT)) == data


@given(st.binary(max_size=60))
def test_any_bytes_are_canonical_or_refused(data: bytes) -> None:
    try:
        value = parse(data, limit=LIMIT)
    except FormatError:
        return
    assert encode(value) == data


@pytest.mark.parametrize(
    ("desc", "data"),
    [
        ("a member twice", b'{"a":1,"a":1}'),
        ("a member twice, the last one different", b'{"a":1,"a":2}'),
        ("members out of order", b'{"b":1,"a":1}'),
        ("members out of UTF-16 order", '{"\ufb33":1,"\U0001f600":1}'.encode()),
        ("a space", b'{"a": 1}'),
        ("a newline after its end", b"1\n"),
        ("bytes after its end", b"1 2"),
        ("a fraction", b"1.5"),
        ("a fraction that is an integer", b"1.0"),
        ("an exponent", b"1e5"),
        ("NaN", b"NaN"),
        ("Infinity", b"-Infinity"),
        ("minus zero", b"-0"),
        ("a leading zero", b"01"),
        ("2^53", b"9007199254740992"),
        ("-2^53", b"-9007199254740992"),
        ("an integer of 5,000 digits", b"1" * 5000),
        ("a lone surrogate, escaped", b'"\\ud800"'),
        ("a lone surrogate as a name", b'{"\\udfff":1}'),
        ("a lone surrogate in UTF-8", b'"\xed\xa0\x80"'),
        ("a character escaped that need not be", b'"\\u0041"'),
        ("a slash escaped", b'"\\/"'),
        ("an upper-case escape", b'"\\u001F"'),
        ("a control character as it is", b'"\x01"'),
        ("a byte order mark", b"\xef\xbb\xbf1"),
        ("UTF-16", '{"a":1}'.encode("utf-16")),
        ("overlong UTF-8", b'"\xc0\x80"'),
        ("100,000 open brackets", b"[" * 100_000),
        ("5,000 nested lists", b"[" * 5000 + b"]" * 5000),
        ("nothing", b""),
    ],
)
def test_other_spellings_are_refused(desc: str, data: bytes) -> None:
    with pytest.raises(FormatError):
        parse(data, limit=LIMIT)


def test_utf_16_order_of_names_is_read() -> None:
    data = '{"\U0001f600":1,"\ufb33":1}'.encode()
    assert encode(parse(data, limit=LIMIT)) == data


def test_the_cap_comes_before_the_parser() -> None:
    with pytest.raises(TooLarge):
        parse(b"[" * 11, limit=10)
    assert parse(b"1234567890", limit=10) == 1234567890


@pytest.mark.parametrize("value", [{1: 2}, b"bytes", float("nan"), 2**53, "\ud800", {"\ud800": 1}, {1, 2}])
def test_what_json_cannot_say_is_refused(value: Any) -> None:
    with pytest.raises(FormatError):
        encode(value)


@pytest.mark.parametrize("text", ["0", "1", "18446744073709551615"])
def test_u64_is_read(text: str) -> None:
    assert parse_u64(text, "x") == int(text)


@pytest.mark.parametrize(
    "value",
    ["", "00", "01", "+1", "-1", " 1", "1\n", "1_0", "١", "18446744073709551616", "9" * 30, 1, None, True],
)
def test_u64_has_one_spelling(value: Any) -> None:
    with pytest.raises(FormatError):
        parse_u64(value, "x")


@given(st.binary(max_size=40))
def test_base64_is_read(data: bytes) -> None:
    assert parse_base64(base64_text(data), "x", limit=40) == data


@pytest.mark.parametrize(
    "value", ["QQ", "QQ=", "QR==", "QUI", "QUJ=", "QQ==\n", "Q Q==", "-_==", "QQ==QQ==", 5, "é"]
)
def test_base64_has_one_spelling(value: Any) -> None:
    with pytest.raises(FormatError):
        parse_base64(value, "x", limit=40)


@pytest.mark.parametrize("limit", range(5))
def test_base64_keeps_its_limit_to_the_byte(limit: int) -> None:
    assert len(parse_base64(base64_text(bytes(limit)), "x", limit=limit)) == limit
    with pytest.raises(FormatError):
        parse_base64(base64_text(bytes(limit + 1)), "x", limit=limit)


def test_the_reader_names_what_it_misses() -> None:
    reader = Reader({"a": 1, "b": True, "c": "x" * 256, "d": "", "e": "5", "extra": None}, "thing")
    for miss in (
        lambda: reader.text("a"),
        lambda: reader.number("b", 0, 1),
        lambda: reader.number("a", 2, 3),
        lambda: reader.flag("a"),
        lambda: reader.text("c"),
        lambda: reader.text("d"),
        lambda: reader.u64("a"),
        lambda: reader.items("a", limit=1),
        lambda: reader.member("a"),
        lambda: reader.data("e"),
        lambda: reader.any("absent"),
    ):
        with pytest.raises(FormatError, match=r"thing\.[a-e]"):
            miss()
    assert reader.text("d", empty=True) == ""
    assert reader.u64("e") == 5
    with pytest.raises(FormatError, match=r"thing\.extra"):
        reader.done()
    with pytest.raises(FormatError):
        Reader([], "list")


@given(VALUES)
def test_the_reader_raises_only_our_errors(value: Any) -> None:
    try:
        reader = Reader(value, "x")
        for name in value:
            for read in (reader.text, reader.flag, reader.u64, reader.optional_u64, reader.data):
                try:
                    read(name)
                except FormatError:
                    continue
    except FormatError:
        return
