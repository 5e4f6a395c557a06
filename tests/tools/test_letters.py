"""Requests, answers and what is refused of them, by the commands, against a node with real sockets."""

from __future__ import annotations

import base64
import json
import os
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from ledger.documents import Document, Field
from ledger.envelope_bodies import Issued, Reply, ReplyOutcome
from ledger.leaves import NONE, LeafType
from ledger.records import (
    NO_HASH,
    Answer,
    Outcome,
    Record,
    Send,
    SendKind,
    Status,
    StatusChange,
    parse_record,
)
from ledger.references import parse_reference, reference_digits
from sudur.v1 import ledger_pb2 as pb
from tests.tools.helpers import Commands, assert_one_line
from tests.tools.killing import Door, serving
from tests.tools.offices import (
    CAREFUL,
    KEYLESS,
    MINISTRY,
    REGISTRY,
    UNIVERSITY,
    Offices,
)
from tools.agency.session import agency_session
from tools.client import LedgerClient
from tools.letters.desk import Desk, new_seed
from tools.letters.envelopes import seal_reply
from tools.letters.inbox import Inbox
from tools.register.store import Register, system_ms
from tools.ui import Passphrase

SECRET = "ئازاد حسن-نهێنی"


def ask(served: Offices, sudur: Commands, *more: str | Path, to: int = UNIVERSITY) -> str:
    (asked,) = served.run(sudur, REGISTRY, "request", "--to", str(to), "--field", f"holder={SECRET}", *more)
    assert asked["state"] == "open"
    number: str = asked["number"]
    return number


def waiting(served: Offices, sudur: Commands, agency: int, number: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = served.run(sudur, agency, "inbox", "--all")
    return next(one for one in found if one["number"] == number)


def asked(served: Offices, sudur: Commands, number: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = served.run(sudur, REGISTRY, "requests", "--all")
    return next(one for one in found if one["number"] == number)


def held(served: Offices, *digests: bytes) -> list[bool]:
    """Whether each of these envelopes lies on the node's disk."""
    path = served.root / "data" / "envelopes" / "envelopes.sqlite"
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
        there = {digest for (digest,) in database.execute("SELECT digest FROM envelope")}
    return [digest in there for digest in digests]


def record_at(served: Offices, index: int) -> Record:
    with LedgerClient(served.grpc) as client:
        return parse_record(next(client.entries(index, index + 1)))


def kinds(served: Offices) -> Counter[LeafType]:
    with LedgerClient(served.grpc) as client:
        return Counter(LeafType(leaf[1]) for leaf in client.entries(0))


# --- cut off at its very end ------------------------------------------------------------------


class Cut(BaseException):
    """A command that is cut off."""


def cut(*_: object) -> None:
    raise Cut


def test_what_was_sent_and_not_told_of_is_not_sent_again(
    served: Offices, sudur: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off when all is in the log, and before anything is printed: the help promises no second one."""
    file = tmp_path / "letter.pdf"
    file.write_bytes(b"to all of you")
    asking = ("agency", "request", "--to", str(UNIVERSITY), "--field", "holder=told of once")
    circulating = ("agency", "circulate", file, "--to", f"{UNIVERSITY},{MINISTRY}")
    for words, module, letters in ((asking, "request_commands", 1), (circulating, "circulate_commands", 2)):
        before = kinds(served)[LeafType.SEND]
        with monkeypatch.context() as patch:
            patch.setattr(f"tools.letters.{module}.tell_letters", cut)
            with pytest.raises(Cut):
                sudur(*words, *served.at(REGISTRY))
        assert sudur(*words, *served.at(REGISTRY)).code == 0
        assert kinds(served)[LeafType.SEND] == before + letters
        assert sudur(*words, *served.at(REGISTRY)).code == 0
        assert kinds(served)[LeafType.SEND] == before + 2 * letters, "told of, it may be meant once more"


# --- asked and answered ------------------------------------------------------------------------


def test_a_request_is_confirmed_from_the_archive(served: Offices, sudur: Commands, tmp_path: Path) -> None:
    scan, note = tmp_path / "paper.jpg", "تێبینییەکی نهێنی"
    scan.write_bytes(b"a picture of the paper" * 100)
    archive = tmp_path / "archive.csv"
    archive.write_text(f"holder,year\n{SECRET},1987\nنور علي,1990\n")
    assert sudur("agency", "register", "import", archive, "--type", "1", *served.at(UNIVERSITY)).code == 0
    number = ask(served, sudur, "--field", "year=١٩٨٧", "--scan", scan, "--due", "14")
    send = record_at(served, parse_reference(number))
    assert isinstance(send, Send)
    assert held(served, send.envelope) == [True]

    (there,) = [one for one in served.run(sudur, UNIVERSITY, "inbox", "--receive") if one["number"] == number]
    assert (there["agency"], there["kind"], there["state"]) == (REGISTRY, "request", "received")
    assert [one["name"] for one in there["letter"]["fields"]] == ["holder", "year", "scan"]
    shown = served.run(sudur, UNIVERSITY, "inbox", "show", number, "--out", tmp_path / "scans")
    likeliest = shown["candidates"][0]
    assert likeliest["differences"] == [
        {"name": "year", "asked": "١٩٨٧", "there": "1987", "in_writing_only": True}
    ]
    (written,) = shown["written"]
    assert Path(written).read_bytes() == scan.read_bytes()
    assert Path(written).stat().st_mode & 0o777 == 0o600
    assert asked(served, sudur, number)["state"] == "received"

    document = str(likeliest["document"])
    done = served.run(sudur, UNIVERSITY, "answer", number, "confirmed", "--document", document,
                      "--note", note)  # fmt: skip
    assert done["state"] == "answered"
    answer = record_at(served, int(done["answer_index"]))
    assert isinstance(answer, Answer)
    assert held(served, send.envelope, answer.envelope) == [False, True]
    answered = asked(served, sudur, number)
    assert answered["answer"]["outcome"] == "confirmed"
    assert answered["answer"]["note"] == note
    assert held(served, send.envelope, answer.envelope) == [False, False]

    receipt = tmp_path / "confirmed.receipt.json"
    shown = served.run(sudur, REGISTRY, "request", "show", number, "--receipt", receipt)
    assert shown["verdict"]["verdict"] == "GENUINE"
    verified = sudur("verify", receipt, "--trust", served.trust, "--json")
    assert verified.code == 0
    assert json.loads(verified.out)["proven"]["basis"] == "archive"

    secrets = [SECRET.encode(), note.encode(), scan.read_bytes()[:22], "١٩٨٧".encode()]
    data = [path.read_bytes() for path in (served.root / "data").rglob("*") if path.is_file()]
    registers = [path.read_bytes() for path in served.root.glob("agency-*/register.db*")]
    assert not [one for one in secrets for part in (*data, *registers) if one in part]


def test_a_document_that_is_in_the_log_is_not_issued_again(
    served: Offices, sudur: Commands, tmp_path: Path
) -> None:
    file = tmp_path / "degree.pdf"
    file.write_bytes(b"degree")
    issued = sudur("agency", "issue", file, "--type", "1", "--field", "holder=نەسرین", "--json",
                   *served.at(UNIVERSITY))  # fmt: skip
    index = json.loads(issued.out)["issued"][0]["index"]
    (there,) = served.run(sudur, REGISTRY, "request", "--to", "2", "--field", "holder=نەسرین")
    candidates = served.run(sudur, UNIVERSITY, "inbox", "show", there["number"])["candidates"]
    document = next(str(one["document"]) for one in candidates if one["index"] == str(index))
    before = kinds(served)[LeafType.ISSUE]
    served.run(sudur, UNIVERSITY, "answer", there["number"], "confirmed", "--document", document)
    assert kinds(served)[LeafType.ISSUE] == before
    shown = served.run(sudur, REGISTRY, "request", "show", there["number"])
    assert shown["answer"]["document"] == reference_digits(index)
    assert shown["verdict"]["verdict"] == "GENUINE"


def test_a_list_of_letters_searches_no_register(
    served: Offices, sudur: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever writes a letter of many words would have each look at the inbox wait for its search."""
    number = ask(served, sudur)
    with monkeypatch.context() as patched:
        patched.setattr(Inbox, "candidates", cut)
        assert "candidates" not in waiting(served, sudur, UNIVERSITY, number)
        assert SECRET in sudur("agency", "inbox", *served.at(UNIVERSITY)).out
        with pytest.raises(Cut):
            sudur("agency", "inbox", "show", number, *served.at(UNIVERSITY))
    served.run(sudur, UNIVERSITY, "answer", number, "denied")


@pytest.mark.parametrize("outcome", ["denied", "no-record", "differs", "more-needed"])
def test_other_answers(served: Offices, sudur: Commands, outcome: str) -> None:
    number = ask(served, sudur)
    served.run(sudur, UNIVERSITY, "answer", number, outcome, "--note", "بڕوانە ساڵەکە")
    answered = asked(served, sudur, number)
    assert answered["answer"] == {
        "outcome": outcome.replace("-", "_"),
        "note": "بڕوانە ساڵەکە",
        "document": None,
        "successor": None,
    }


def test_reminded_and_asked_again(served: Offices, sudur: Commands) -> None:
    number = ask(served, sudur)
    assert_one_line(sudur("agency", "request", "reopen", number, *served.at(REGISTRY)), 1, "no answer yet")
    (reminder,) = served.run(sudur, REGISTRY, "request", "remind", number)
    assert reminder["state"] == "reminder"
    assert waiting(served, sudur, UNIVERSITY, number)["reminders"] == [reminder["number"]]
    assert_one_line(
        sudur("agency", "answer", reminder["number"], "denied", *served.at(UNIVERSITY)), 1, "is a reminder"
    )
    served.run(sudur, UNIVERSITY, "answer", number, "more-needed")
    assert_one_line(
        sudur("agency", "request", "remind", number, *served.at(REGISTRY)), 1, "nothing to remind of"
    )
    (again,) = served.run(sudur, REGISTRY, "request", "reopen", number, "--field", "holder=نەورۆز")
    assert again["follows"] == number
    there = waiting(served, sudur, UNIVERSITY, again["number"])
    assert there["letter"]["fields"] == [{"name": "holder", "value": "نەورۆز"}]
    served.run(sudur, UNIVERSITY, "answer", again["number"], "confirmed", "--field", "holder=نەورۆز",
               "--type", "1")  # fmt: skip
    assert served.run(sudur, REGISTRY, "request", "show", again["number"])["verdict"]["verdict"] == "GENUINE"


def test_passed_on(served: Offices, sudur: Commands) -> None:
    number = ask(served, sudur)
    served.run(sudur, UNIVERSITY, "answer", number, "transferred", "--to", str(MINISTRY))
    shown = served.run(sudur, REGISTRY, "request", "show", number)
    assert shown["answer"]["successor"] == MINISTRY
    passed = waiting(served, sudur, MINISTRY, shown["passed_on"])
    assert (passed["agency"], passed["follows"]) == (UNIVERSITY, number)
    assert passed["letter"]["fields"] == [{"name": "holder", "value": SECRET}]
    (again,) = served.run(sudur, REGISTRY, "request", "reopen", number, "--to", str(MINISTRY))
    assert waiting(served, sudur, MINISTRY, again["number"])["agency"] == REGISTRY


def test_two_officers_confirm(served: Offices, sudur: Commands, tmp_path: Path) -> None:
    number, note = ask(served, sudur, to=CAREFUL), "بەڵێ، لە تۆمارەکانە"
    one, two = tmp_path / "issue.submission.json", tmp_path / "answer.submission.json"
    confirm = ("answer", number, "confirmed", "--field", "holder=نور", "--type", "1", "--note", note,
               "--signer", "desk-1")  # fmt: skip
    alone = sudur("agency", *confirm, *served.at(CAREFUL))
    assert_one_line(alone, 1, "2 keys must sign")
    assert served.run(sudur, CAREFUL, *confirm, "--prepare", one)["waits_for_work"]
    assert asked(served, sudur, number)["final_ms"] is None
    other = sudur("agency", "answer", number, "denied", "--signer", "desk-1", *served.at(CAREFUL))
    assert other.code == 1
    assert "another answer was decided on already, confirmed" in other.err
    at = ("--dir", served.dir(CAREFUL), "--signer", "desk-2", "--yes")
    assert '  holder: "نور"' in sudur("agency", "sign", one, *at).out
    assert sudur("agency", "send", one, *served.at(CAREFUL), "--signer", "desk-1").code == 0
    assert served.run(sudur, CAREFUL, *confirm, "--prepare", two)["state"] == "open"

    altered = json.loads(two.read_text())
    text = base64.b64decode(altered["said"][0]).replace(note.encode(), note[::-1].encode())
    altered["said"] = [base64.b64encode(text).decode()]
    (tmp_path / "altered.json").write_text(json.dumps(altered, separators=(",", ":"), sort_keys=True) + "\n")
    assert_one_line(sudur("agency", "sign", tmp_path / "altered.json", *at), 1, "one of them was altered")
    shown = sudur("agency", "sign", two, *at).out
    assert "An answer: confirmed\n  with the document at index " in shown
    assert f'  note: "{note}"' in shown
    assert sudur("agency", "send", two, *served.at(CAREFUL), "--signer", "desk-1").code == 0
    assert served.run(sudur, CAREFUL, *confirm)["state"] == "answered"
    shown = served.run(sudur, REGISTRY, "request", "show", number)
    assert shown["verdict"]["verdict"] == "GENUINE"
    with LedgerClient(served.grpc) as client:
        answers = [Answer.decode(leaf) for leaf in client.entries(0) if leaf[1] == LeafType.ANSWER]
    assert len([one for one in answers if reference_digits(one.subject) == number]) == 1


def test_two_officers_send(served: Offices, sudur: Commands, tmp_path: Path) -> None:
    file = tmp_path / "request.submission.json"
    (waits,) = served.run(sudur, REGISTRY, "request", "--to", "2", "--field", "holder=چاوەڕوان",
                          "--prepare", file)  # fmt: skip
    assert (waits["state"], waits["number"]) == ("waits for other officers", None)
    at = ("--dir", served.dir(REGISTRY), "--yes")
    assert 'A letter that says:\n  holder: "چاوەڕوان"' in sudur("agency", "sign", file, *at).out
    assert sudur("agency", "send", file, *served.at(REGISTRY)).code == 0
    found = served.run(sudur, REGISTRY, "requests")
    assert [one["state"] for one in found if one["letter"]["fields"][0]["value"] == "چاوەڕوان"] == ["open"]


# --- what is refused ---------------------------------------------------------------------------


def test_what_cannot_be_answered(served: Offices, sudur: Commands) -> None:
    number = ask(served, sudur)
    at = served.at(MINISTRY)
    assert_one_line(
        sudur("agency", "answer", number, "denied", *at),
        1,
        "went to agency 2, and only that agency or its successor",
    )
    assert_one_line(sudur("agency", "answer", number, "denied", *served.at(REGISTRY)), 1, "went to agency 2")
    assert_one_line(sudur("agency", "inbox", "show", number, *at), 1, "went to agency 2")
    assert_one_line(
        sudur("agency", "answer", reference_digits(1), "denied", *at), 1, "no such letter is in this register"
    )
    assert_one_line(sudur("agency", "answer", "9" * 18, "denied", *at), 1, "check digits do not fit")
    wrong = number[:-1] + str((int(number[-1]) + 1) % 10)
    for command in (("answer", wrong, "denied"), ("inbox", "show", wrong), ("request", "show", wrong)):
        assert_one_line(sudur("agency", *command, *at), 1, "check digits do not fit")
    assert_one_line(sudur("agency", "request", "show", "x", *at), 1, "is not 3 to 22 digits")
    served.run(sudur, UNIVERSITY, "answer", number, "denied")
    assert_one_line(
        sudur("agency", "answer", number, "no-record", *served.at(UNIVERSITY)), 1, "has its final answer"
    )


def test_what_cannot_be_asked(served: Offices, sudur: Commands, tmp_path: Path) -> None:
    at, field = served.at(REGISTRY), ("--field", "holder=x")

    def refused(*words: str | Path) -> Any:
        return sudur("agency", "request", *words, *at)

    before = kinds(served)[LeafType.SEND]
    assert_one_line(refused("--to", str(KEYLESS), *field), 1, "no key that an envelope could be sealed to",
                    "agency 5 (", "Keyless)")  # fmt: skip
    assert_one_line(refused("--to", str(REGISTRY), *field), 1, "cannot send to itself")
    assert_one_line(refused("--to", "999", *field), 1, "agency 999 is not enrolled")
    assert_one_line(refused("--to", "2"), 64, "nothing to ask about")
    assert_one_line(refused("--to", "2", "--field", "holder"), 64, "is not NAME=VALUE")
    assert_one_line(refused("--to", "2", "--field", "a=\u202eb"), 1, "control character U+202E")
    mute = sudur("agency", "request", "--to", "2", *field, *served.at(KEYLESS))
    assert_one_line(mute, 1, "no envelope key lies in")
    key = served.dir(REGISTRY) / "envelope.key.json"
    kept = key.read_bytes()
    try:
        key.write_bytes((served.dir(MINISTRY) / "envelope.key.json").read_bytes())
        assert_one_line(refused("--to", "2", *field), 1, "does not lie here, and answers are sealed to it")
    finally:
        key.write_bytes(kept)
    large = tmp_path / "large.jpg"
    large.write_bytes(bytes(70_000))
    assert_one_line(refused("--to", "2", "--scan", large), 1, "has 70000 bytes", "scan it smaller")
    assert_one_line(refused("--to", "2", "--field", "a=" + "x" * 16_385), 1, "at most 16384")
    many = [word for at in range(5) for word in ("--field", f"f{at}=" + "x" * 16_000)]
    assert_one_line(refused("--to", "2", *many), 1, "an envelope takes", "shorten the fields")
    assert kinds(served)[LeafType.SEND] == before


def test_what_does_not_go_with_an_answer(served: Offices, sudur: Commands) -> None:
    number, at = ask(served, sudur), served.at(UNIVERSITY)
    for words, code, said in (
        (("confirmed",), 64, "which document is it?"),
        (("confirmed", "--document", "1", "--field", "a=b"), 64, "either --document, or --field"),
        (("denied", "--document", "1"), 64, "only what is confirmed has a document"),
        (("denied", "--to", "3"), 64, "transferred names the agency"),
        (("transferred",), 64, "transferred names the agency"),
        (("transferred", "--to", str(UNIVERSITY)), 1, "to a third agency"),
        (("transferred", "--to", str(KEYLESS)), 1, "no key that an envelope could be sealed to"),
        (("confirmed", "--field", "year=1", "--type", "1"), 1, "type 1 requires it"),
        (("confirmed", "--document", "99999"), 1, "is not in the register"),
        (("denied", "--note", "x" * 70_000), 1, "at most"),
        (("denied", "--note", "\u202e"), 1, "control character"),
    ):
        assert_one_line(sudur("agency", "answer", number, *words, *at), code, said)
    assert asked(served, sudur, number)["state"] == "open"
    served.run(sudur, UNIVERSITY, "answer", number, "denied")


def test_what_another_agency_writes_steers_nothing(served: Offices, sudur: Commands, tmp_path: Path) -> None:
    hostile = '</td><script>alert(1)</script>"&\u200f\u061c'
    scan = tmp_path / "..%2f\u200f..evil.jpg"
    scan.write_bytes(b"x")
    (there,) = served.run(sudur, REGISTRY, "request", "--to", "2", "--field", f"holder={hostile}",
                          "--field", "<b>=x", "--scan", scan)  # fmt: skip
    shown = sudur("agency", "inbox", *served.at(UNIVERSITY)).out
    assert "\u200f" not in shown
    assert '\\"&\\u200f\\u061c"' in shown
    served.run(sudur, UNIVERSITY, "answer", there["number"], "denied", "--note", hostile)
    for language in ("en", "ar", "ckb"):
        slip = tmp_path / f"{language}.html"
        served.run(sudur, REGISTRY, "request", "show", there["number"], "--slip", slip,
                   "--language", language)  # fmt: skip
        text = slip.read_text()
        assert "<script" not in text
        assert "<b>" not in text
        assert "\u200f" not in text
        assert text.count("&lt;script&gt;") == 2
        assert ('dir="rtl"' in text) == (language != "en")
    taken = sudur("agency", "request", "show", there["number"], "--slip", slip, *served.at(REGISTRY))
    assert_one_line(taken, 1, "exists already and is not overwritten")


def test_a_document_that_was_revoked_since(served: Offices, sudur: Commands, tmp_path: Path) -> None:
    number = ask(served, sudur)
    served.run(sudur, UNIVERSITY, "answer", number, "confirmed", "--field", "holder=پاشگەز", "--type", "1")
    index = parse_reference(asked(served, sudur, number)["answer"]["document"])
    change = StatusChange(UNIVERSITY, index, index, Status.REVOKED, 0, NONE)
    log_record(served, UNIVERSITY, change.encode())
    slip = tmp_path / "slip.html"
    shown = served.run(sudur, REGISTRY, "request", "show", number, "--slip", slip)
    assert shown["verdict"]["verdict"] == "REVOKED"
    text = slip.read_text()
    assert text.index("Revoked: do not accept") < text.index("Asked by")
    # And the university does not confirm it a second time.
    other = ask(served, sudur)
    register = sudur("agency", "register", "show", str(index), "--dir", served.dir(UNIVERSITY), "--json")
    document = str(json.loads(register.out)["document"])
    refused = sudur("agency", "answer", other, "confirmed", "--document", document, *served.at(UNIVERSITY))
    assert_one_line(refused, 1, "it is revoked", "answer that it is denied")


@pytest.mark.parametrize("index", [3, 10**12])
def test_an_answer_that_confirms_what_was_never_issued(
    served: Offices, sudur: Commands, tmp_path: Path, index: int
) -> None:
    number = ask(served, sudur)
    document = Document.build(UNIVERSITY, 1, [Field.text("holder", SECRET)])
    issued = Issued(index, document.disclose(new_seed()))
    reply = Reply(ReplyOutcome.CONFIRMED, new_seed(), "", issued)
    with agency_session(served.dir(UNIVERSITY), served.grpc) as session:
        desk = Desk(session, Passphrase(None))
        sealed = seal_reply(reply, desk.genesis, UNIVERSITY, desk.addressee(REGISTRY))
        session.client.put_envelope(desk.genesis, desk.access, sealed.data)
    record = Answer(UNIVERSITY, parse_reference(number), Outcome.ANSWERED, sealed.commitment, sealed.digest)
    log_record(served, UNIVERSITY, record.encode())
    answered = asked(served, sudur, number)
    assert answered["answer_fault"].startswith(("OUT_OF_RANGE: ", "MALFORMED_LEAF: "))
    shown = sudur("agency", "request", "show", number, *served.at(REGISTRY))
    assert "its answer is bad: " in shown.out
    assert "proven" not in shown.out
    for option in ("--slip", "--receipt"):
        refused = sudur("agency", "request", "show", number, option, tmp_path / "x", *served.at(REGISTRY))
        assert refused.code == 1
        assert not (tmp_path / "x").exists()


# --- bad envelopes -----------------------------------------------------------------------------


class Altering(Door):
    """Gives out another envelope than the one that is asked for."""

    def handle(self, name: str, request: Any) -> Any:
        answer = super().handle(name, request)
        if name == "GetEnvelope":
            answer.envelope = answer.envelope[:-1] + bytes((answer.envelope[-1] ^ 1,))
        return answer


def test_an_envelope_that_was_altered_on_its_way(served: Offices, sudur: Commands) -> None:
    number = ask(served, sudur)
    with serving(Altering(served.grpc)) as address:
        done = sudur("agency", "inbox", *served.at(UNIVERSITY, address), "--json")
    (there,) = [one for one in json.loads(done.out) if one["number"] == number]
    assert there["fault"].startswith("ENVELOPE_WRONG_DIGEST: ")
    assert there["letter"] is None
    assert waiting(served, sudur, UNIVERSITY, number)["letter"] is not None
    served.run(sudur, UNIVERSITY, "answer", number, "denied")
    with serving(Altering(served.grpc)) as address:
        assert sudur("agency", "requests", *served.at(REGISTRY, address)).code == 0
    # The answer was not opened, so the node still has it, and the next look gets it.
    assert asked(served, sudur, number)["answer"]["outcome"] == "denied"


def lose_envelope(served: Offices, number: str) -> str:
    """Have the node lose the envelope of a letter to agency 2; the letter's number."""
    send = record_at(served, parse_reference(number))
    assert isinstance(send, Send)
    with agency_session(served.dir(UNIVERSITY), served.grpc) as session:
        desk = Desk(session, Passphrase(None))
        assert session.client.drop_envelope(desk.genesis, desk.access, send.envelope)
    return number


def test_an_envelope_that_has_gone(served: Offices, sudur: Commands) -> None:
    """Past its time, or lost with the node's disk: a reminder brings the letter again."""
    number = lose_envelope(served, ask(served, sudur))
    assert waiting(served, sudur, UNIVERSITY, number)["fault"].startswith("NOT_FOUND: ")
    served.run(sudur, REGISTRY, "request", "remind", number)
    there = waiting(served, sudur, UNIVERSITY, number)
    assert there["letter"]["fields"] == [{"name": "holder", "value": SECRET}]
    served.run(sudur, UNIVERSITY, "answer", number, "denied")


def junk(served: Offices, count: int) -> list[str]:
    """SENDs of agency 1 to agency 2 that name no envelope; their numbers."""
    records = [
        Send(REGISTRY, UNIVERSITY, os.urandom(32), SendKind.REQUEST, 0, NONE, NO_HASH).encode()
        for _ in range(count)
    ]
    with agency_session(served.dir(REGISTRY), served.grpc) as session:
        work = session.outbox.put("test", records, {})
        (placed,) = session.outbox.finish(work).placed
        session.outbox.close(work)
    assert placed.first is not None
    return [reference_digits(placed.first + at) for at in range(count)]


def tries(served: Offices, sudur: Commands, *words: str) -> int:
    """How often a command of the university fetches an envelope."""
    fetch = LedgerClient.get_envelope
    with patch.object(LedgerClient, "get_envelope", autospec=True, side_effect=fetch) as fetched:
        assert sudur("agency", *words, *served.at(UNIVERSITY)).code == 0
    return fetched.call_count


def test_letters_that_never_open_are_not_tried_each_time(
    served: Offices, sudur: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.run(sudur, UNIVERSITY, "inbox")
    before = tries(served, sudur, "inbox")
    numbers = [*junk(served, 3), *(lose_envelope(served, ask(served, sudur)) for _ in range(2))]
    assert tries(served, sudur, "inbox") == before + 2, "looked for once, when it comes"
    assert tries(served, sudur, "inbox") == before
    assert tries(served, sudur, "inbox", "show", numbers[-1]) == before + 1, "and when it is asked for"
    assert tries(served, sudur, "inbox", "show", numbers[0]) == before, "there is nothing to fetch"
    with monkeypatch.context() as patched:
        patched.setattr("tools.register.store.Register.open", later(2 * 3_600_000))
        assert tries(served, sudur, "inbox") >= before + 2, "and when it is twice as old"
        assert tries(served, sudur, "inbox") == before
    extra = served.key(UNIVERSITY, "envelope", "extra")
    assert tries(served, sudur, "inbox") >= before + 2, "and when a key came"
    for path in (extra, extra.with_name("extra.key.json")):
        path.unlink()
    tries(served, sudur, "inbox")
    for number in numbers:
        served.run(sudur, UNIVERSITY, "answer", number, "more-needed")


def later(ms: int) -> Callable[..., Register]:
    """Opens registers whose clock goes ahead."""
    return partial(Register.open, now_ms=lambda: system_ms() + ms)


def test_letters_that_never_open_hide_nothing(
    served: Offices, sudur: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = junk(served, 4)
    number = ask(served, sudur)
    waits = served.run(sudur, UNIVERSITY, "inbox")
    opened = [one["number"] for one in waits if one["letter"] is not None]
    assert opened[-1] == number
    assert len(waits) >= len(opened) + 4
    monkeypatch.setattr("tools.letters.inbox_commands._MOST", len(opened) + 1)
    done = sudur("agency", "inbox", *served.at(UNIVERSITY), "--json")
    listed = [one["number"] for one in json.loads(done.out)]
    assert set(opened) < set(listed)
    assert len(listed) == len(opened) + 1
    assert f"{len(waits) - len(listed)} more wait for an answer" in done.err
    whole = {one["number"] for one in served.run(sudur, UNIVERSITY, "inbox", "--all")}
    assert {*opened, *numbers} <= whole
    for each in (*numbers, number):
        served.run(sudur, UNIVERSITY, "answer", each, "more-needed")


class Lying(Door):
    """Says of exchanges what the log does not have, and lists what went to others."""

    def __init__(self, node: str, call: str, lie: Callable[[Any], None]) -> None:
        super().__init__(node)
        self._call, self._lie = call, lie

    def handle(self, name: str, request: Any) -> Any:
        answer = super().handle(name, request)
        if name == self._call:
            self._lie(answer)
        return answer


def _final(index: int) -> Callable[[Any], None]:
    def lie(answer: Any) -> None:
        for one in answer.exchanges:
            one.final.CopyFrom(pb.Reply(index=index, agency=UNIVERSITY, outcome=2, time_ms=1))

    return lie


def _reminds(answer: Any) -> None:
    for one in answer.exchanges:
        one.reminds = 1


def _another(answer: Any) -> None:
    for one in answer.exchanges:
        one.index -= 1
    del answer.exchanges[1:]


@pytest.mark.parametrize(
    ("call", "lie", "said"),
    [
        ("GetExchanges", _final(1), "ANSWER"),
        ("GetExchanges", _reminds, "does not follow leaf 1"),
        ("ListSends", _final(1), "ANSWER"),
        ("ListSends", _another, "SEND"),
    ],
)
def test_a_node_that_lies_leaves_nothing_behind(
    served: Offices, sudur: Commands, call: str, lie: Callable[[Any], None], said: str
) -> None:
    number = ask(served, sudur)
    agency, words = (REGISTRY, ("requests",)) if call == "GetExchanges" else (UNIVERSITY, ("inbox",))
    with serving(Lying(served.grpc, call, lie)) as address:
        done = sudur("agency", *words, *served.at(agency, address))
    assert_one_line(done, 1, said)
    served.run(sudur, UNIVERSITY, "answer", number, "denied")
    assert asked(served, sudur, number)["answer"]["outcome"] == "denied"


def test_an_answer_to_what_cannot_be_read(served: Offices, sudur: Commands) -> None:
    number = ask(served, sudur)
    key = served.dir(UNIVERSITY) / "envelope.key.json"
    other = served.dir(MINISTRY) / "envelope.key.json"
    kept = key.read_bytes()
    try:
        key.write_bytes(other.read_bytes())
        there = waiting(served, sudur, UNIVERSITY, number)
        assert there["fault"].startswith("ENVELOPE_WRONG_KEY: ")
        text = sudur("agency", "inbox", *served.at(UNIVERSITY)).out
        assert "its envelope is bad: ENVELOPE_WRONG_KEY" in text
        refused = sudur("agency", "inbox", "show", number, "--out", served.root, *served.at(UNIVERSITY))
        assert_one_line(refused, 1, "what it says cannot be read", "more-needed")
        served.run(sudur, UNIVERSITY, "answer", number, "more-needed", "--note", "it does not open")
    finally:
        key.write_bytes(kept)
    assert asked(served, sudur, number)["answer"]["outcome"] == "more_needed"


def test_an_envelope_of_another_sender(served: Offices, sudur: Commands, tmp_path: Path) -> None:
    """Agency 3 names, in a SEND of its own, an envelope that agency 1 sealed for agency 2."""
    number = ask(served, sudur)
    with LedgerClient(served.grpc) as client:
        leaves = list(client.entries(0))
    (original,) = [
        Send.decode(leaf)
        for index, leaf in enumerate(leaves)
        if leaf[1] == LeafType.SEND and reference_digits(index) == number
    ]
    forged = stolen_letter(served, original)
    there = waiting(served, sudur, UNIVERSITY, forged)
    assert there["fault"].startswith("ENVELOPE_WRONG_SENDER: ")
    assert there["agency"] == MINISTRY
    served.run(sudur, UNIVERSITY, "answer", forged, "more-needed")
    served.run(sudur, UNIVERSITY, "answer", number, "denied")


def stolen_letter(served: Offices, original: Send) -> str:
    """Log a SEND of agency 3 that names another's envelope; its number."""
    return reference_digits(log_record(served, MINISTRY, replace(original, agency=MINISTRY).encode()))


def log_record(served: Offices, agency: int, record: bytes) -> int:
    """Log a record of an agency's own, whatever it says; its index."""
    with agency_session(served.dir(agency), served.grpc) as session:
        work = session.outbox.put("test", [record], {})
        (placed,) = session.outbox.finish(work).placed
        session.outbox.close(work)
    assert placed.first is not None
    return placed.first
