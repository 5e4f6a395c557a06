"""Signing policies: steps, caps, and their one JSON form."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.canonical_json import encode, parse
from ledger.errors import DailyCapExceeded, FormatError, TooFewSignatures
from ledger.signing_policy import (
    ALL_KINDS,
    DAY_MS,
    REGISTRY_KIND,
    KindPolicy,
    SigningPolicy,
    utc_day,
)

STEPS = st.lists(st.tuples(st.integers(2, 1000), st.integers(2, 16)), max_size=7).map(
    lambda pairs: (
        (1, 1),
        *zip(sorted({start for start, _ in pairs}), sorted({keys for _, keys in pairs}), strict=False),
    )
)
POLICIES = st.dictionaries(
    st.sampled_from(sorted(ALL_KINDS - {REGISTRY_KIND})),
    st.builds(KindPolicy, STEPS, st.none() | st.integers(0, 2**32 - 1)),
).map(SigningPolicy)


@given(POLICIES)
def test_what_is_written_is_read(policy: SigningPolicy) -> None:
    data = encode(policy.to_json())
    assert SigningPolicy.from_json(parse(data, limit=10_000), "policy") == policy


@given(STEPS, st.integers(0, 1100))
def test_steps_against_the_plain_reading(steps: tuple[tuple[int, int], ...], daily: int) -> None:
    needed = steps[0][1]
    for start, keys in steps:
        if daily >= start:
            needed = keys
    assert KindPolicy(steps).keys_needed(daily) == needed


def test_the_borders_of_steps_and_cap() -> None:
    policy = SigningPolicy({"issue.original": KindPolicy(((1, 1), (10, 2), (50, 3)), cap=100)})
    for daily, keys in ((9, 1), (10, 2), (49, 2), (50, 3), (100, 3)):
        policy.check("issue.original", daily, keys)
        if keys > 1:
            with pytest.raises(TooFewSignatures):
                policy.check("issue.original", daily, keys - 1)
    with pytest.raises(DailyCapExceeded):
        policy.check("issue.original", 101, 16)
    policy.check("issue.archive", 10**9, 1)
    assert policy.of("issue.original").first_step == 1


def test_a_cap_of_nothing() -> None:
    with pytest.raises(DailyCapExceeded):
        SigningPolicy({"status": KindPolicy(cap=0)}).check("status", 1, 16)


@pytest.mark.parametrize(
    "value",
    [
        [],
        None,
        {"issue": {"steps": [[1, 1]], "cap": None}},
        {"status": {"steps": [], "cap": None}},
        {"status": {"steps": [[2, 1]], "cap": None}},
        {"status": {"steps": [[0, 1]], "cap": None}},
        {"status": {"steps": [[1, 0]], "cap": None}},
        {"status": {"steps": [[1, 17]], "cap": None}},
        {"status": {"steps": [[1, True]], "cap": None}},
        {"status": {"steps": [[1, 1, 1]], "cap": None}},
        {"status": {"steps": [1, 1], "cap": None}},
        {"status": {"steps": [[1, 1], [1, 2]], "cap": None}},
        {"status": {"steps": [[1, 2], [5, 2]], "cap": None}},
        {"status": {"steps": [[1, 2], [5, 1]], "cap": None}},
        {"status": {"steps": [[i, i] for i in range(1, 10)], "cap": None}},
        {"status": {"steps": [[1, 1]], "cap": -1}},
        {"status": {"steps": [[1, 1]], "cap": 2**32}},
        {"status": {"steps": [[1, 1]], "cap": False}},
        {"status": {"steps": [[1, 1]]}},
        {"status": {"steps": [[1, 1]], "cap": None, "more": 1}},
        {"status": [[1, 1]]},
    ],
)
def test_other_shapes_are_refused(value: Any) -> None:
    with pytest.raises(FormatError):
        SigningPolicy.from_json(value, "policy")


def test_days_are_utc() -> None:
    assert utc_day(0) == utc_day(DAY_MS - 1) == 0
    assert utc_day(DAY_MS) == 1


@pytest.mark.parametrize("policy", [KindPolicy(((1, 1), (5, 2))), KindPolicy(cap=7)])
def test_changes_are_not_counted_by_day(policy: KindPolicy) -> None:
    with pytest.raises(FormatError, match="one step, and no cap"):
        SigningPolicy.from_json({REGISTRY_KIND: policy.to_json()}, "policy")
    two = SigningPolicy({REGISTRY_KIND: KindPolicy(((1, 2),))})
    assert SigningPolicy.from_json(two.to_json(), "policy") == two
