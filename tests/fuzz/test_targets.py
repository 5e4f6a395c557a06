"""Each parser, on its examples, on examples that were spoilt, and on any bytes at all."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS, Target

EXTREMES = (b"\0" * 8, b"\xff" * 8, b"\x7f" + b"\xff" * 7, b"99999999999999999999", b"../")
BY_NAME = pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)


@BY_NAME
def test_its_examples_are_accepted(target: Target) -> None:
    """Or the fuzzing of what is near them would fuzz nothing."""
    seeds = target.seeds()
    assert seeds
    for seed in seeds:
        value = target.parse(seed)
        if target.form is not None:
            assert target.form(value) == seed


@BY_NAME
@settings(max_examples=150)
@given(data=st.data())
def test_spoilt_examples_raise_only_our_errors(target: Target, data: st.DataObject) -> None:
    spoilt = bytearray(data.draw(st.sampled_from(target.seeds()), label="seed"))
    for _ in range(data.draw(st.integers(1, 4), label="changes")):
        start = data.draw(st.integers(0, len(spoilt)))
        end = data.draw(st.integers(start, min(start + 40, len(spoilt))))
        spoilt[start:end] = data.draw(
            st.binary(max_size=9) | st.sampled_from((*EXTREMES, bytes(spoilt[:99]))), label="in its place"
        )
    target.check(bytes(spoilt))


@BY_NAME
@settings(max_examples=50)
@given(noise=st.binary(max_size=400))
def test_any_bytes_raise_only_our_errors(target: Target, noise: bytes) -> None:
    target.check(noise)
