"""Letters while keys end, are stolen, and agencies hand over to one another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.tools.helpers import Commands, assert_one_line
from tests.tools.killing import killed
from tests.tools.offices import MINISTRY, Offices
from tools.client import LedgerClient

REGISTRY, UNIVERSITY, THIRD = 6, 7, 8


@pytest.fixture(scope="module")
def apart(served: Offices) -> Offices:
    """Offices of these tests alone, since what is done to their keys is for good."""
    served.enrol(REGISTRY, "Second registry")
    served.enrol(UNIVERSITY, "Second university")
    return served


def key_number(served: Offices, agency: int, use: str) -> str:
    with LedgerClient(served.grpc) as client:
        count = json.loads(client.record(f"agency/{agency}").record)["keys"]["count"]
        for number in range(count, 0, -1):
            record = json.loads(client.record(f"agency/{agency}/key/{number}").record)
            if record["use"] == use and record["ended"] is None:
                return str(number)
    raise AssertionError(use)


def find(served: Offices, sudur: Commands, agency: int, number: str, *words: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = served.run(sudur, agency, *words, "--all")
    return next(one for one in found if one["number"] == number)


def test_a_key_that_ended_before_the_envelope_was_put(apart: Offices, sudur: Commands) -> None:
    words = ("request", "--to", str(UNIVERSITY), "--field", "holder=نور")
    killed(apart.grpc, "PutEnvelope", 1, False, "agency", *words, "--dir", apart.dir(REGISTRY))
    old = key_number(apart, UNIVERSITY, "envelope")
    apart.decide("end-key", str(UNIVERSITY), old)
    none = sudur("agency", "request", "--to", str(UNIVERSITY), "--field", "a=b", *apart.at(REGISTRY))
    assert none.code == 1
    assert "Refused, and not sent" in none.err
    assert "ended" in none.err
    assert "no key that an envelope could be sealed to" in none.err.splitlines()[-1]
    new = apart.key(UNIVERSITY, "envelope", "envelope-2")
    apart.decide("add-keys", str(UNIVERSITY), "--key", new)
    (asked,) = apart.run(sudur, REGISTRY, *words)
    there = find(apart, sudur, UNIVERSITY, asked["number"], "inbox")
    assert there["letter"]["fields"] == [{"name": "holder", "value": "نور"}]
    states = {one["state"] for one in apart.run(sudur, REGISTRY, "requests", "--all")}
    assert states == {"refused", "open"}


def test_a_reminder_brings_what_an_ended_key_hides(apart: Offices, sudur: Commands, tmp_path: Path) -> None:
    (asked,) = apart.run(sudur, REGISTRY, "request", "--to", str(UNIVERSITY), "--field", "holder=شیلان")
    kept = apart.dir(UNIVERSITY) / "envelope-2.key.json"
    kept.rename(tmp_path / "lost")
    there = find(apart, sudur, UNIVERSITY, asked["number"], "inbox")
    assert there["fault"].startswith("ENVELOPE_WRONG_KEY")
    apart.decide("add-keys", str(UNIVERSITY), "--key", apart.key(UNIVERSITY, "envelope", "envelope-3"))
    apart.run(sudur, REGISTRY, "request", "remind", asked["number"])
    there = find(apart, sudur, UNIVERSITY, asked["number"], "inbox")
    assert there["fault"] is None
    assert there["letter"]["fields"] == [{"name": "holder", "value": "شیلان"}]


def test_a_stolen_key_makes_a_request_doubtful(apart: Offices, sudur: Commands) -> None:
    (asked,) = apart.run(sudur, REGISTRY, "request", "--to", str(MINISTRY), "--field", "holder=x")
    assert not find(apart, sudur, MINISTRY, asked["number"], "inbox")["doubtful"]
    stolen = key_number(apart, REGISTRY, "submit")
    apart.decide("add-keys", str(REGISTRY), "--key", apart.key(REGISTRY, "submit", "desk-9"))
    apart.decide("stolen", str(REGISTRY), stolen, str(int(asked["index"]) - 1), "--yes")
    there = find(apart, sudur, MINISTRY, asked["number"], "inbox")
    assert there["doubtful"]
    assert "DOUBTFUL: a key" in sudur("agency", "inbox", *apart.at(MINISTRY)).out


def test_a_successor_answers(apart: Offices, sudur: Commands) -> None:
    words = ("request", "--to", str(UNIVERSITY), "--signer", "desk-9")
    (asked,) = apart.run(sudur, REGISTRY, *words, "--field", "holder=y")
    apart.enrol(THIRD, "Successor")
    apart.decide("successor", str(UNIVERSITY), str(THIRD))
    refused = sudur("agency", *words, "--field", "a=b", *apart.at(REGISTRY))
    assert_one_line(refused, 64, "was handed over to agency 8 (", "Successor)", "write to agency 8")
    wrong = sudur("agency", "inbox", "--for", str(MINISTRY), *apart.at(THIRD))
    assert_one_line(wrong, 1, "was not handed over to this agency")
    for old in apart.dir(UNIVERSITY).glob("envelope*.key.json"):
        (apart.dir(THIRD) / f"old-{old.name}").write_bytes(old.read_bytes())
        (apart.dir(THIRD) / f"old-{old.name}").chmod(0o600)
    found = apart.run(sudur, THIRD, "inbox", "--for", str(UNIVERSITY))
    (there,) = [one for one in found if one["number"] == asked["number"]]
    assert there["letter"]["fields"] == [{"name": "holder", "value": "y"}]
    apart.run(sudur, THIRD, "answer", asked["number"], "no-record")
    shown = apart.run(sudur, REGISTRY, "request", "show", asked["number"], "--signer", "desk-9")
    assert shown["answer"]["outcome"] == "no_record"
    left = apart.run(sudur, THIRD, "inbox", "--for", str(UNIVERSITY))
    others = [one["number"] for one in found if one["number"] != asked["number"]]
    assert [one["number"] for one in left] == others


def test_an_answer_of_a_stolen_key_is_doubtful(apart: Offices, sudur: Commands, tmp_path: Path) -> None:
    (asked,) = apart.run(sudur, MINISTRY, "request", "--to", str(THIRD), "--field", "holder=z")
    done = apart.run(sudur, THIRD, "answer", asked["number"], "denied")
    apart.run(sudur, MINISTRY, "requests")
    stolen = key_number(apart, THIRD, "submit")
    apart.decide("stolen", str(THIRD), stolen, str(int(done["answer_index"]) - 1), "--yes")
    slip = tmp_path / "slip.html"
    shown = apart.run(sudur, MINISTRY, "request", "show", asked["number"], "--slip", slip)
    assert shown["doubtful"]
    assert "Doubtful: signed with a key that was reported stolen" in slip.read_text()
