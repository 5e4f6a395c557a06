"""One letter to many: circulated, received, checked, reminded of, by the commands."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ledger.leaves import LeafType
from ledger.records import Send, SendKind
from ledger.submissions import SubmissionLeaf
from tests.tools.helpers import Commands, assert_one_line
from tests.tools.killing import killed
from tests.tools.offices import CAREFUL, MINISTRY, REGISTRY, UNIVERSITY, Offices
from tests.tools.test_letters import held
from tools.client import LedgerClient
from tools.register.store import system_ms

ALL = (REGISTRY, UNIVERSITY, CAREFUL)
TO = ",".join(str(one) for one in ALL)
SUBJECT = "عطلة رسمية يوم الخميس"
LATER_MS = 9 * 86_400_000


def circulate(served: Offices, sudur: Commands, *more: str | Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = served.run(
        sudur, MINISTRY, "circulate", *more, "--to", TO, "--field", f"subject={SUBJECT}"
    )
    return found


def waiting(served: Offices, sudur: Commands, agency: int, number: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = served.run(sudur, agency, "inbox", "--all", "--signer", "desk-1")
    return next(one for one in found if one["number"] == number)


def last_leaves(served: Offices) -> list[bytes]:
    """The newest block's leaves but for its seal."""
    with LedgerClient(served.grpc) as client:
        leaves = list(client.entries(0))[:-1]
    seals = [index for index, leaf in enumerate(leaves) if leaf[1] == LeafType.SEAL]
    return leaves[seals[-1] + 1 :]


def test_one_letter_to_many(served: Offices, sudur: Commands, tmp_path: Path) -> None:
    file = tmp_path / "تعميم.pdf"
    file.write_bytes(b"circular" * 1000)
    sent = circulate(served, sudur, file, "--due", "7")
    assert [one["agency"] for one in sent] == list(ALL)
    head, *records = last_leaves(served)
    assert SubmissionLeaf.decode(head).count == len(ALL)
    sends = [Send.decode(leaf) for leaf in records]
    assert [one.recipient for one in sends] == list(ALL)
    assert {(one.kind, one.due) for one in sends} == {(SendKind.CIRCULATED, 7)}
    assert len({one.commitment for one in sends}) == 1
    assert len({one.envelope for one in sends}) == len(ALL)
    digests = [one.envelope for one in sends]
    assert held(served, *digests) == [True, True, True]

    number = sent[0]["number"]
    there = waiting(served, sudur, REGISTRY, number)
    assert there["letter"]["fields"][0] == {"name": "subject", "value": SUBJECT}
    shown = served.run(sudur, REGISTRY, "inbox", "show", number, "--out", tmp_path / "out")
    assert shown["candidates"] == []
    (written,) = shown["written"]
    assert Path(written).read_bytes() == file.read_bytes()
    served.run(sudur, REGISTRY, "inbox", "receive", number)
    assert held(served, *digests) == [False, True, True]  # received, and safe in the register
    served.run(sudur, UNIVERSITY, "inbox", "--receive")
    served.run(sudur, UNIVERSITY, "answer", sent[1]["number"], "confirmed", "--note", "نُفّذ")

    (listed,) = [one for one in served.run(sudur, MINISTRY, "circulated") if one["number"] == number]
    assert listed["states"] == {"open": 1, "received": 1, "answered": 1}
    shown = served.run(sudur, MINISTRY, "circulated", "show", sent[2]["number"])
    assert [one["state"] for one in shown["letters"]] == ["received", "answered", "open"]
    assert shown["letters"][1]["answer"]["note"] == "نُفّذ"
    assert held(served, *digests) == [False, False, True]
    text = sudur("agency", "circulated", *served.at(MINISTRY)).out
    assert "3 agencies: 1 answered, 1 open, 1 received" in text
    issuing = sudur("agency", "answer", sent[2]["number"], "confirmed", "--field", "holder=x", "--type", "1",
                    "--signer", "desk-1", *served.at(CAREFUL))  # fmt: skip
    assert_one_line(issuing, 64, "only a request for confirmation has a document issued")


def test_reminders_go_to_the_overdue(
    served: Offices, sudur: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = circulate(served, sudur, "--due", "7")
    served.run(sudur, UNIVERSITY, "answer", sent[1]["number"], "confirmed")
    number = sent[0]["number"]
    assert served.run(sudur, MINISTRY, "circulated", "remind", number) == []
    with monkeypatch.context() as patched:
        # The desk's clock alone: what is overdue is shown and chosen by it.
        patched.setattr("tools.register.store.Register.now_ms", property(lambda _: later, lambda *_: None),
                        raising=False)  # fmt: skip
        shown = served.run(sudur, MINISTRY, "circulated", "show", number)
    assert [one["state"] for one in shown["letters"]] == ["overdue", "answered", "overdue"]
    reminded = served.run(sudur, MINISTRY, "circulated", "remind", number, "--all")
    assert [one["agency"] for one in reminded] == [REGISTRY, CAREFUL]
    assert waiting(served, sudur, REGISTRY, number)["reminders"] == [reminded[0]["number"]]


def later() -> int:
    return system_ms() + LATER_MS


def test_files_that_go_another_way(served: Offices, sudur: Commands, tmp_path: Path) -> None:
    large = tmp_path / "large.pdf"
    large.write_bytes(bytes(range(256)) * 400)
    refused = sudur("agency", "circulate", large, "--to", TO, *served.at(MINISTRY))
    assert_one_line(refused, 1, "has 102400 bytes", "--without-bytes")
    sent = circulate(served, sudur, large, "--without-bytes")
    number = sent[0]["number"]
    there = waiting(served, sudur, REGISTRY, number)
    assert there["letter"]["fields"][1]["enclosed_bytes"] is None
    checked = served.run(sudur, REGISTRY, "inbox", "check", number, large)
    assert checked["field"] == "large.pdf"
    other = tmp_path / "other.pdf"
    other.write_bytes(large.read_bytes()[:-1])
    refused = sudur("agency", "inbox", "check", number, other, *served.at(REGISTRY))
    assert_one_line(refused, 1, "none of those that the letter was sent with")


def test_to_whom(served: Offices, sudur: Commands, tmp_path: Path) -> None:
    at, field = served.at(MINISTRY), ("--field", "a=b")

    def refused(*words: str | Path) -> Any:
        return sudur("agency", "circulate", *words, *at)

    assert_one_line(refused(*field), 64, "say to whom")
    assert_one_line(refused("--to", "1", "--below", "3", *field), 64, "say to whom")
    assert_one_line(refused("--to", "1"), 64, "nothing to circulate")
    assert_one_line(refused("--to", "1,x", *field), 64, "'x' is no agency's number")
    assert_one_line(refused("--to", ",", *field), 64, "0 agencies")
    assert_one_line(refused("--to", f"1,{MINISTRY}", *field), 1, "cannot send to itself")
    assert_one_line(refused("--below", "3", *field), 1, "agency 5 (", "Keyless)", "leave them out")
    assert_one_line(refused("--below", str(REGISTRY), *field), 64, "no agency stands below")
    assert_one_line(refused("--below", "99", *field), 1, "agency 99 is not enrolled")
    listed = tmp_path / "list.txt"
    listed.write_bytes(b"\xff")
    assert_one_line(refused("--to-file", listed, *field), 1, "is not UTF-8")
    listed.write_text(f"{REGISTRY}\n{CAREFUL}, {REGISTRY}\n\n")
    sent = served.run(sudur, MINISTRY, "circulate", "--to-file", listed, *field)
    assert [one["agency"] for one in sent] == [REGISTRY, CAREFUL]
    two = [tmp_path / name / "same.pdf" for name in ("one", "two")]
    for path in two:
        path.parent.mkdir()
        path.write_bytes(b"x")
    assert_one_line(refused(*two, "--to", "1"), 1, "two files bear this name")
    assert_one_line(sudur("agency", "circulated", "show", "1000001", *at), 1, "check digits do not fit")


@pytest.mark.slow
def test_killed_and_circulated_once(served: Offices, sudur: Commands) -> None:
    words = ("circulate", "--to", TO, "--field", "subject=کوژراو")
    command = ("agency", *words, "--dir", served.dir(MINISTRY))
    doors = [
        killed(served.grpc, "PutEnvelope", 2, True, *command),
        killed(served.grpc, "SubmitBulk", 1, False, *command),
        killed(served.grpc, "SubmitBulk", 1, True, *command),
    ]
    put = {request.envelope for door in doors for name, request in door.calls if name == "PutEnvelope"}
    assert len(put) == len(ALL)
    sent = served.run(sudur, MINISTRY, *words)
    assert [one["agency"] for one in sent] == list(ALL)
    with LedgerClient(served.grpc) as client:
        sends = [Send.decode(leaf) for leaf in client.entries(0) if leaf[1] == LeafType.SEND]
    same = [one for one in sends if one.commitment == sends[-1].commitment]
    assert [one.recipient for one in same] == list(ALL)
    assert len({replace(one, recipient=0, envelope=bytes(32)) for one in same}) == 1
