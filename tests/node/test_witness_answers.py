"""What witnesses answer, and lines of notes, read: whatever comes, only what is meant or an error of ours."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import FormatError
from ledger.witnessing import SIZE_TYPE
from node.cosigning.answers import Cosigned, Failed, HasSize, Trouble, read_answer
from node.cosigning.lines import join_lines, signatures_of, split_note
from node.cosigning.settings import CosigningSettings, is_url
from node.errors import NodeError
from tests.witnesses import cosigned

NOTE = b"log.example\n7\n" + b"A" * 43 + b"=\n\n" + "\u2014 log.example AAAAAAA=\n".encode()


@given(st.integers(100, 599), st.text(max_size=40), st.binary(max_size=200), st.text(max_size=12))
def test_any_answer_is_one_of_three(status: int, kind: str, body: bytes, retry: str) -> None:
    found = read_answer(status, kind, body, retry_after=retry, old=3, size=9)
    assert isinstance(found, Cosigned | HasSize | Failed)
    if isinstance(found, Failed):
        assert found.what
        assert 0 <= found.again_s <= 600


@pytest.mark.parametrize(
    ("status", "kind", "body", "wanted"),
    [
        (409, SIZE_TYPE, b"12\n", HasSize(12)),
        (409, f"{SIZE_TYPE}; charset=utf-8", b"0\n", HasSize(0)),
        (409, SIZE_TYPE, b"3\n", Trouble.WRONG),
        (409, SIZE_TYPE, b"03\n", Trouble.WRONG),
        (409, SIZE_TYPE, b"12", Trouble.WRONG),
        (409, "text/html", b"12\n", Trouble.WRONG),
        (422, "", b"", Trouble.FORKED),
        (404, "", b"", Trouble.UNKNOWN_LOG),
        (403, "", b"", Trouble.UNKNOWN_LOG),
        (400, "", b"", Trouble.REFUSING),
        (200, "", b"", Trouble.WRONG),
        (204, "", b"", Trouble.REFUSING),
    ],
)
def test_the_meaning_of_each_status(status: int, kind: str, body: bytes, wanted: object) -> None:
    found = read_answer(status, kind, body, retry_after="", old=3, size=9)
    assert (found.trouble if isinstance(found, Failed) else found) == wanted


def test_a_witness_that_is_busy_says_when_to_come_again() -> None:
    for status, retry, wanted in ((503, "7", 7.0), (429, "99999", 600.0), (503, "-1", 0), (503, "soon", 0)):
        found = read_answer(status, "", b"", retry_after=retry, old=0, size=9)
        assert isinstance(found, Failed)
        assert (found.trouble, found.again_s) == (Trouble.REFUSING, wanted)


@given(st.binary(max_size=300))
def test_no_bytes_break_the_reading_of_lines(data: bytes) -> None:
    for read in (split_note, signatures_of, lambda one: join_lines(b"x" + one, one)):
        with suppress(FormatError):
            read(data)


@given(st.permutations(["one", "two", "three"]), st.integers(1, 3))
def test_lines_join_in_one_order(names: list[str], cut: int) -> None:
    lines = [cosigned(NOTE, name, 5).line() for name in names]
    joined = join_lines(b"".join(lines[:cut]), b"".join(lines[cut:]) or lines[0])
    assert sorted(one.line() for one in signatures_of(joined)) == sorted(lines)
    signed, others = split_note(NOTE + joined)
    assert (signed, others) == (NOTE, joined)


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("https://witness.example", True),
        ("http://127.0.0.1:7170/sub/", True),
        ("", False),
        ("ftp://witness.example", False),
        ("https://", False),
        ("https://user@witness.example", False),
        ("https://witness.example/?a=1", False),
        ("https://witness.example:99999", False),
        ("https://[::1", False),
    ],
)
def test_what_can_be_asked(url: str, good: bool) -> None:
    assert is_url(url) is good
    if good:
        CosigningSettings(urls={"one": url})
    else:
        with pytest.raises(NodeError):
            CosigningSettings(urls={"one": url})
