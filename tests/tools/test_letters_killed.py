"""kill -9 between each two steps of asking, answering and fetching: all of it finished, and once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ledger.leaves import LeafType
from ledger.records import Answer, Issue, Outcome, Send
from ledger.references import reference_digits
from tests.tools.helpers import Commands
from tests.tools.killing import killed
from tests.tools.offices import MINISTRY, REGISTRY, UNIVERSITY, Offices
from tools.client import LedgerClient

pytestmark = pytest.mark.slow


class Steps:
    """Kills one command at each of its steps in turn, and looks at what it sent."""

    def __init__(self, served: Offices, agency: int, *words: str | Path) -> None:
        self._served = served
        self._command = ("agency", *words, "--dir", served.dir(agency))
        self.sent: dict[str, set[bytes]] = {"PutEnvelope": set(), "SubmitBulk": set()}

    def kill(self, call: str, *, after: bool) -> None:
        """Before the node has the first call of a kind, or after. Where nothing is written in between,
        "after" one call is "before" the next, and one of the two is enough.
        """
        door = killed(self._served.grpc, call, 1, after, *self._command)
        for name, request in door.calls:
            if name == "PutEnvelope":
                self.sent[name].add(request.envelope)
            if name == "SubmitBulk":
                self.sent[name] |= {one.leaf + one.records for one in request.submissions}


def leaves(served: Offices) -> list[bytes]:
    with LedgerClient(served.grpc) as client:
        return list(client.entries(0))


def count(served: Offices) -> Counter[LeafType]:
    return Counter(LeafType(leaf[1]) for leaf in leaves(served))


def ask(served: Offices, sudur: Commands, name: str) -> str:
    (asked,) = served.run(sudur, REGISTRY, "request", "--to", str(UNIVERSITY), "--field", f"holder={name}")
    number: str = asked["number"]
    return number


def find(served: Offices, sudur: Commands, agency: int, number: str, *words: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = served.run(sudur, agency, *words, "--all")
    return next(one for one in found if one["number"] == number)


def test_a_request(served: Offices, sudur: Commands, tmp_path: Path) -> None:
    scan = tmp_path / "scan.jpg"
    scan.write_bytes(b"scan")
    words = ("request", "--to", str(UNIVERSITY), "--field", "holder=کوژراو", "--scan", scan)
    before = count(served)
    steps = Steps(served, REGISTRY, *words)
    steps.kill("PutEnvelope", after=False)
    steps.kill("SubmitBulk", after=False)
    steps.kill("SubmitBulk", after=True)
    assert {name: len(sent) for name, sent in steps.sent.items()} == {"PutEnvelope": 1, "SubmitBulk": 1}
    (asked,) = served.run(sudur, REGISTRY, *words)
    assert count(served)[LeafType.SEND] == before[LeafType.SEND] + 1
    there = find(served, sudur, UNIVERSITY, asked["number"], "inbox")
    assert there["letter"]["fields"][0] == {"name": "holder", "value": "کوژراو"}
    # With nothing left to finish, the same words make a new request.
    (another,) = served.run(sudur, REGISTRY, *words)
    assert another["number"] != asked["number"]


def test_any_next_command_finishes_a_request(served: Offices, sudur: Commands, tmp_path: Path) -> None:
    """Even one that has nothing to do with letters: what is prepared leaves with its envelope."""
    before = count(served)
    killed(served.grpc, "PutEnvelope", 1, False, "agency", "request", "--to", str(UNIVERSITY), "--field",
           "holder=ناتەواو", "--dir", served.dir(REGISTRY))  # fmt: skip
    assert count(served) == before
    file = tmp_path / "file.txt"
    file.write_text("file")
    issued = sudur("agency", "issue", file, "--type", "1", "--field", "holder=x", *served.at(REGISTRY))
    assert issued.code == 0, issued
    assert count(served)[LeafType.SEND] == before[LeafType.SEND] + 1
    last = max(index for index, leaf in enumerate(leaves(served)) if leaf[1] == LeafType.SEND)
    there = find(served, sudur, UNIVERSITY, reference_digits(last), "inbox")
    assert there["letter"]["fields"] == [{"name": "holder", "value": "ناتەواو"}]


def test_a_confirmation(served: Offices, sudur: Commands) -> None:
    number = ask(served, sudur, "سەلمێنراو")
    before = count(served)
    words = ("answer", number, "confirmed", "--field", "holder=سەلمێنراو", "--type", "1", "--note", "بەڵێ")
    steps = Steps(served, UNIVERSITY, *words)
    steps.kill("SubmitBulk", after=False)  # the ISSUE
    steps.kill("SubmitBulk", after=True)
    steps.kill("PutEnvelope", after=False)
    steps.kill("SubmitBulk", after=False)  # by now the ANSWER
    steps.kill("SubmitBulk", after=True)
    assert {name: len(sent) for name, sent in steps.sent.items()} == {"PutEnvelope": 1, "SubmitBulk": 2}
    steps.kill("DropEnvelope", after=True)
    done = served.run(sudur, UNIVERSITY, *words)
    assert done["state"] == "answered"
    now = count(served)
    assert now[LeafType.ISSUE] == before[LeafType.ISSUE] + 1
    assert now[LeafType.ANSWER] == before[LeafType.ANSWER] + 1
    shown = served.run(sudur, REGISTRY, "request", "show", number)
    assert shown["verdict"]["verdict"] == "GENUINE"
    assert shown["answer"]["note"] == "بەڵێ"
    issues = [Issue.decode(leaf) for leaf in leaves(served) if leaf[1] == LeafType.ISSUE]
    assert len({one.commitment for one in issues}) == len(issues)


def test_a_transfer_is_finished_by_a_look_into_the_inbox(served: Offices, sudur: Commands) -> None:
    number = ask(served, sudur, "ڕەوانەکراو")
    before = count(served)
    command = ("agency", "answer", number, "transferred", "--to", str(MINISTRY),
               "--dir", served.dir(UNIVERSITY))  # fmt: skip
    killed(served.grpc, "SubmitBulk", 1, True, *command)  # the SEND
    killed(served.grpc, "SubmitBulk", 1, False, *command)  # the ANSWER
    answered = find(served, sudur, UNIVERSITY, number, "inbox")
    assert answered["answer"]["outcome"] == "transferred"
    now = count(served)
    assert now[LeafType.SEND] == before[LeafType.SEND] + 1
    assert now[LeafType.ANSWER] == before[LeafType.ANSWER] + 1
    (passed,) = [
        Send.decode(leaf)
        for leaf in leaves(served)
        if leaf[1] == LeafType.SEND and reference_digits(Send.decode(leaf).follows) == number
    ]
    assert (passed.agency, passed.recipient) == (UNIVERSITY, MINISTRY)


def test_marks_and_answers_are_fetched(served: Offices, sudur: Commands) -> None:
    number = ask(served, sudur, "وەرگیراو")
    Steps(served, UNIVERSITY, "inbox").kill("GetEnvelope", after=True)
    Steps(served, UNIVERSITY, "inbox", "receive", number).kill("SubmitBulk", after=True)
    served.run(sudur, UNIVERSITY, "inbox")
    marks = [Answer.decode(leaf) for leaf in leaves(served) if leaf[1] == LeafType.ANSWER]
    mine = [one.outcome for one in marks if reference_digits(one.subject) == number]
    assert mine == [Outcome.RECEIVED]
    served.run(sudur, UNIVERSITY, "answer", number, "no-record")
    steps = Steps(served, REGISTRY, "requests")
    steps.kill("GetEnvelope", after=True)
    steps.kill("DropEnvelope", after=False)
    answered = find(served, sudur, REGISTRY, number, "requests")
    assert answered["answer"]["outcome"] == "no_record"
