"""The Accept header, as RFC 9110 has it."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.doors.negotiation import choose

JSON, PLAIN, COSE = FORMS = ["application/json", "text/plain", "application/cose"]


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ([], JSON),
        ([""], JSON),
        (["*/*"], JSON),
        (["application/*"], JSON),
        (["text/*"], PLAIN),
        (["application/cose"], COSE),
        (["Application/COSE"], COSE),
        (['application/cose; cose-type="cose-sign1"'], COSE),
        (["application/cose;q=0.5, text/plain;q=0.4"], COSE),
        (["application/cose;q=0.4, text/plain; q=0.5"], PLAIN),
        (["text/plain", "application/cose"], PLAIN),
        (["text/html, */*;q=0.1"], JSON),
        (["application/json;q=0, */*"], PLAIN),
        (["application/*;q=0.2, application/cose"], COSE),
        (["text/html"], None),
        (["application/json;q=0"], None),
        (["*/*;q=0"], None),
        (["application/cose;q=0.000, text/plain;q=0"], None),
        (["application/cose;q=2"], JSON),  # no weight: the range is left out, so nothing is asked for
        (["no range"], JSON),
        (["/"], JSON),
    ],
)
def test_the_best_liked_form_is_chosen(accept: list[str], wanted: str | None) -> None:
    assert choose(accept, FORMS) == wanted


@given(st.lists(st.text(max_size=60), max_size=3))
def test_whatever_comes_something_is_decided(accept: list[str]) -> None:
    assert choose(accept, FORMS) in (*FORMS, None)


def test_a_long_header_costs_little() -> None:
    for header in ("a/b;" * 4_000, "," * 16_000, ("*/*;q=0." + "1," * 8_000), "a/b" + " ;" * 8_000 + "\0"):
        started = time.perf_counter()
        choose([header], FORMS)
        assert time.perf_counter() - started < 0.5
