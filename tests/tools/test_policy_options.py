"""A signing policy from a file and from options."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ledger.errors import FormatError
from ledger.signing_policy import KindPolicy, SigningPolicy
from tools.errors import Usage
from tools.registry.policy_options import policy_words, signing_policy


@pytest.mark.parametrize(
    ("two", "cap", "want"),
    [
        ([], [], {}),
        (["issue.original"], [], {"issue.original": KindPolicy(((1, 2),))}),
        (["issue.original=100"], [], {"issue.original": KindPolicy(((1, 1), (100, 2)))}),
        (["status=1"], ["status=0"], {"status": KindPolicy(((1, 2),), 0)}),
        (["registry"], ["send=7"], {"registry": KindPolicy(((1, 2),)), "send": KindPolicy(cap=7)}),
    ],
)
def test_options(two: list[str], cap: list[str], want: dict[str, KindPolicy]) -> None:
    policy = signing_policy(None, two, cap)
    assert policy.kinds == want
    assert SigningPolicy.from_json(policy.to_json(), "policy") == policy


def test_options_change_single_kinds_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "policy.json"
    path.write_text(
        json.dumps(
            {"issue.original": {"steps": [[1, 3]], "cap": 9}, "send": {"steps": [[1, 2]], "cap": None}}
        )
    )
    policy = signing_policy(path, ["issue.original=5"], [])
    assert policy.kinds == {"issue.original": KindPolicy(((1, 1), (5, 2)), 9), "send": KindPolicy(((1, 2),))}


@pytest.mark.parametrize(
    ("two", "cap", "part"),
    [
        (["dance"], [], "is none of"),
        (["issue.original", "issue.original=4"], [], "twice"),
        (["issue.original=x"], [], "no number"),
        (["issue.original=-1"], [], "no number"),
        (["issue.original=\u0661"], [], "no number"),
        (["issue.original=99999999999"], [], "no number"),
        (["issue.original=0"], [], "from 1"),
        ([], ["issue.original"], "no number"),
        ([], ["registry=5"], "not counted by day"),
        (["registry=5"], [], "not counted by day"),
    ],
)
def test_options_that_say_nothing(two: list[str], cap: list[str], part: str) -> None:
    with pytest.raises(Usage, match=part):
        signing_policy(None, two, cap)


def test_a_file_that_is_no_policy(tmp_path: Path) -> None:
    path = tmp_path / "policy.json"
    path.write_text('{"issue.original": {"steps": [[2, 1]], "cap": null}}')
    with pytest.raises(FormatError, match="must start at 1"):
        signing_policy(path, [], [])


def test_words() -> None:
    assert policy_words(SigningPolicy()) == ["one key for everything, no daily cap"]
    assert policy_words(signing_policy(None, ["issue.original=100"], ["issue.original=5000"])) == [
        "issue.original: 1 key, 2 keys from 100 a day on; at most 5000 a day"
    ]
