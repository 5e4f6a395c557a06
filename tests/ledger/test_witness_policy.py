"""Witness policies: vectors, what errors say, a naive oracle, and arbitrary bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import witness_policy
from ledger.cosignatures import Cosignature, witness_key
from ledger.errors import FormatError, PolicyUnmet, SudurError, TooLarge, TrustFormatError
from ledger.notes import VerifierKey
from ledger.signatures import Algorithm, MlDsa44Signer
from ledger.witness_policy import WitnessPolicy

VECTORS: dict[str, list[dict[str, Any]]] = json.loads(
    (Path(__file__).parents[1] / "vectors" / "witness_policy.json").read_text("utf-8")
)
NESTED = str(VECTORS["parsed"][0]["data"])
POLICY = witness_policy.parse_policy(NESTED.encode())
KEYS = {witness.name: witness.key for witness in POLICY.witnesses}


def described(case: dict[str, Any]) -> str:
    return str(case["desc"])


@pytest.mark.parametrize("case", VECTORS["parsed"], ids=described)
def test_parsing(case: dict[str, Any]) -> None:
    data = case["data"].encode()
    if case["want"] == "ok":
        assert witness_policy.parse_policy(data).quorum == case["quorum"]
    else:
        with pytest.raises(SudurError) as caught:
            witness_policy.parse_policy(data)
        assert caught.value.code == case["want"]


@pytest.mark.parametrize("case", VECTORS["checked"], ids=described)
def test_checking(case: dict[str, Any]) -> None:
    policy = witness_policy.parse_policy(case["policy"].encode())
    given_ones = [Cosignature(VerifierKey.parse(one["key"]), one["time_s"]) for one in case["cosignatures"]]
    limits = {"now_s": case["now_s"], "greatest_age_s": case["greatest_age_s"]}
    if isinstance(case["want"], str):
        with pytest.raises(PolicyUnmet) as caught:
            policy.check(given_ones, **limits)
        assert caught.value.code == case["want"]
    else:
        assert policy.check(given_ones, **limits) == case["want"]


def test_what_was_read() -> None:
    assert [log.key.name for log in POLICY.logs] == ["ledger.example/sudur"]
    assert POLICY.log_keys == (POLICY.logs[0].key,)
    assert [witness.name for witness in POLICY.witnesses] == ["X1", "X2", "X3", "Y1", "Y2", "Y3"]
    assert POLICY.witness_keys == tuple(KEYS.values())
    assert [(group.name, group.threshold, group.members) for group in POLICY.groups] == [
        ("X-witnesses", 2, ("X1", "X2", "X3")),
        ("Y-witnesses", 1, ("Y1", "Y2", "Y3")),
        ("X-and-Y", 2, ("X-witnesses", "Y-witnesses")),
    ]


def test_urls_are_kept() -> None:
    (case,) = (one for one in VECTORS["parsed"] if one["desc"] == "URLs")
    policy = witness_policy.parse_policy(case["data"].encode())
    assert policy.logs[0].url == "https://a.example/"
    assert policy.witnesses[0].url == "https://b.example/"


def test_the_error_says_which_group_misses_how_many() -> None:
    with pytest.raises(PolicyUnmet) as caught:
        POLICY.check([Cosignature(KEYS["X1"], 5), Cosignature(KEYS["Y1"], 5)], now_s=5, greatest_age_s=None)
    text = str(caught.value)
    assert "group X-and-Y has 1 of the 2 it needs, 1 missing (X-witnesses did not cosign)" in text
    assert "group X-witnesses has 1 of the 2 it needs, 1 missing (X2, X3 did not cosign)" in text
    assert "group Y-witnesses" not in text


def test_a_clock_that_is_behind_is_suspected() -> None:
    policy = witness_policy.parse_policy(NESTED.replace("quorum X-and-Y", "quorum Y1").encode())
    with pytest.raises(PolicyUnmet, match=r"no cosignature by witness Y1.*check it"):
        policy.check([Cosignature(KEYS["Y1"], 1000)], now_s=5, greatest_age_s=None)


def test_a_signature_that_gives_no_time_is_no_witnesss() -> None:
    """With ML-DSA-44 that is a signature of some tree, which need not be the largest that was seen."""
    key = witness_key("w.example", MlDsa44Signer(bytes(32)).public_key, Algorithm.ML_DSA_44)
    policy = witness_policy.parse_policy(f"witness w {key.format()}\nquorum w\n".encode())
    assert policy.check([Cosignature(key, 1)], now_s=9, greatest_age_s=None) == 1
    with pytest.raises(PolicyUnmet, match=r"no cosignature by witness w$"):
        policy.check([Cosignature(key, 0)], now_s=9, greatest_age_s=None)


def test_errors_name_the_line() -> None:
    with pytest.raises(TrustFormatError, match="line 3"):
        witness_policy.parse_policy(b"# a\n\nquorum nobody\n")


def test_caps() -> None:
    rest = b"\nquorum none\n"
    room = witness_policy.MAX_POLICY_SIZE - len(rest)
    assert witness_policy.parse_policy(b"#" * room + rest).quorum is None
    with pytest.raises(TooLarge):
        witness_policy.parse_policy(b"#" * (room + 1) + rest)


def test_bytes_that_are_not_utf8_are_refused() -> None:
    with pytest.raises(TrustFormatError, match="UTF-8"):
        witness_policy.parse_policy(b"# \xff\nquorum none\n")


def met_at(policy: WitnessPolicy, times: dict[str, int], name: str, since: int) -> bool:
    """The specification's definition, word for word: has ``name`` cosigned, at or after ``since``?"""
    for group in policy.groups:
        if group.name == name:
            return sum(met_at(policy, times, one, since) for one in group.members) >= group.threshold
    return name in times and times[name] >= since


@given(st.dictionaries(st.sampled_from(sorted(KEYS)), st.integers(0, 12)))
def test_the_time_is_the_newest_at_which_the_quorum_is_met(times: dict[str, int]) -> None:
    wanted = [since for since in range(14) if met_at(POLICY, times, "X-and-Y", since)]
    given_ones = [Cosignature(KEYS[name], time_s) for name, time_s in times.items()]
    if wanted:
        assert POLICY.check(given_ones, now_s=None, greatest_age_s=None) == max(wanted)
    else:
        with pytest.raises(PolicyUnmet):
            POLICY.check(given_ones, now_s=None, greatest_age_s=None)


@given(st.binary(max_size=100))
def test_any_bytes(data: bytes) -> None:
    try:
        witness_policy.parse_policy(data)
    except FormatError:
        return
    assert b"quorum" in data


@settings(max_examples=200)
@given(st.data())
def test_mutated_policies(data: st.DataObject) -> None:
    lines = NESTED.split("\n")
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(lines) - 1))
        words = lines[place].split(" ")
        word = data.draw(st.integers(0, len(words) - 1))
        words[word] = data.draw(st.text(max_size=5) | st.sampled_from(["X1", "any", "all", "9", "none", ""]))
        lines[place] = " ".join(words)
    try:
        policy = witness_policy.parse_policy("\n".join(lines).encode("utf-8", "surrogatepass"))
        policy.check([], now_s=1, greatest_age_s=1)
    except SudurError:
        return
    assert policy.quorum is None
