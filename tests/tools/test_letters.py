"""Requests, answers and what is refused of them, by the commands, against a node with real sockets."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ledger.leaves import LeafType
from ledger.records import Answer, Send
from ledger.references import reference_digits
from tests.tools.helpers import Commands, assert_one_line
from tests.tools.killing import Door, serving
from tests.tools.offices import (
    CAREFUL,
    KEYLESS,
    MINISTRY,
    REGISTRY,
    UNIVERSITY,
    Offices,
    offices,
)
from tools.agency_session import agency_session
from tools.client import LedgerClient

SECRET = "ئازاد حسن-نهێنی"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Offices]:
    with offices(tmp_path_factory.mktemp("offices")) as here:
        yield here


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


def envelopes(served: Offices) -> int:
    """How many envelopes lie on the node's disk."""
    path = served.root / "data" / "envelopes" / "envelopes.sqlite"
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
        count: int = database.execute("SELECT count(*) FROM envelope").fetchone()[0]
        return count


def kinds(served: Offices) -> Counter[LeafType]:
    with LedgerClient(served.grpc) as client:
        return Counter(LeafType(leaf[1]) for leaf in client.entries(0))


# --- asked and answered ------------------------------------------------------------------------


def test_a_request_is_confirmed_from_the_archive(served: Offices, sudur: Commands, tmp_path: Path) -> None:
    scan, note = tmp_path / "paper.jpg", "تێبینییەکی نهێنی"
    scan.write_bytes(b"a picture of the paper" * 100)
    archive = tmp_path / "archive.csv"
    archive.write_text(f"holder,year\n{SECRET},1987\nنور علي,1990\n")
    assert sudur("agency", "register", "import", archive, "--type", "1", *served.at(UNIVERSITY)).code == 0
    before = envelopes(served)
    number = ask(served, sudur, "--field", "year=١٩٨٧", "--scan", scan, "--due", "14")
    assert envelopes(served) == before + 1

    (there,) = [one for one in served.run(sudur, UNIVERSITY, "inbox", "--receive") if one["number"] == number]
    assert (there["agency"], there["kind"], there["state"]) == (REGISTRY, "request", "received")
    assert [one["name"] for one in there["letter"]["fields"]] == ["holder", "year", "scan"]
    likeliest = there["candidates"][0]
    assert likeliest["differences"] == [
        {"name": "year", "asked": "١٩٨٧", "there": "1987", "in_writing_only": True}
    ]
    shown = served.run(sudur, UNIVERSITY, "inbox", "show", number, "--out", tmp_path / "scans")
    (written,) = shown["written"]
    assert Path(written).read_bytes() == scan.read_bytes()
    assert Path(written).stat().st_mode & 0o777 == 0o600
    assert asked(served, sudur, number)["state"] == "received"

    document = str(likeliest["document"])
    done = served.run(sudur, UNIVERSITY, "answer", number, "confirmed", "--document", document,
                      "--note", note)  # fmt: skip
    assert done["state"] == "answered"
    assert done["answer_index"]
    answered = asked(served, sudur, number)
    assert answered["answer"]["outcome"] == "confirmed"
    assert answered["answer"]["note"] == note
    assert envelopes(served) == before

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
    candidates = waiting(served, sudur, UNIVERSITY, there["number"])["candidates"]
    document = next(str(one["document"]) for one in candidates if one["index"] == str(index))
    before = kinds(served)[LeafType.ISSUE]
    served.run(sudur, UNIVERSITY, "answer", there["number"], "confirmed", "--document", document)
    assert kinds(served)[LeafType.ISSUE] == before
    shown = served.run(sudur, REGISTRY, "request", "show", there["number"])
    assert shown["answer"]["document"] == reference_digits(index)
    assert shown["verdict"]["verdict"] == "GENUINE"


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
    number = ask(served, sudur, to=CAREFUL)
    file = tmp_path / "work.submission.json"
    confirm = ("answer", number, "confirmed", "--field", "holder=نور", "--type", "1", "--signer", "desk-1")
    alone = sudur("agency", *confirm, *served.at(CAREFUL))
    assert_one_line(alone, 1, "2 keys must sign")
    assert served.run(sudur, CAREFUL, *confirm, "--prepare", file)["waits_for_work"]
    assert asked(served, sudur, number)["final_ms"] is None
    other = sudur("agency", "answer", number, "denied", "--signer", "desk-1", *served.at(CAREFUL))
    assert other.code == 1
    assert "another answer was decided on already, confirmed" in other.err
    at = ("--dir", served.dir(CAREFUL), "--signer", "desk-2")
    assert sudur("agency", "sign", file, *at, "--yes").code == 0
    assert sudur("agency", "send", file, *served.at(CAREFUL), "--signer", "desk-1").code == 0
    done = served.run(sudur, CAREFUL, *confirm)
    assert done["state"] == "answered"
    shown = served.run(sudur, REGISTRY, "request", "show", number)
    assert shown["verdict"]["verdict"] == "GENUINE"
    with LedgerClient(served.grpc) as client:
        answers = [Answer.decode(leaf) for leaf in client.entries(0) if leaf[1] == LeafType.ANSWER]
    assert len([one for one in answers if reference_digits(one.subject) == number]) == 1


# --- what is refused ---------------------------------------------------------------------------


def test_what_cannot_be_answered(served: Offices, sudur: Commands) -> None:
    number = ask(served, sudur)
    at = served.at(MINISTRY)
    assert_one_line(
        sudur("agency", "answer", number, "denied", *at), 1, "went to agency 2, and only that agency"
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
                    "agency 5 (Keyless")  # fmt: skip
    assert_one_line(refused("--to", str(REGISTRY), *field), 1, "cannot send to itself")
    assert_one_line(refused("--to", "999", *field), 1, "agency 999 is not enrolled")
    assert_one_line(refused("--to", "2"), 64, "nothing to ask about")
    assert_one_line(refused("--to", "2", "--field", "holder"), 64, "is not NAME=VALUE")
    assert_one_line(refused("--to", "2", "--field", "a=\u202eb"), 1, "control character U+202E")
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
    for words, module, letters in ((asking, "request_cmd", 1), (circulating, "circulate_cmd", 2)):
        before = kinds(served)[LeafType.SEND]
        with monkeypatch.context() as patch:
            patch.setattr(f"tools.{module}.tell_letters", cut)
            with pytest.raises(Cut):
                sudur(*words, *served.at(REGISTRY))
        assert sudur(*words, *served.at(REGISTRY)).code == 0
        assert kinds(served)[LeafType.SEND] == before + letters
        assert sudur(*words, *served.at(REGISTRY)).code == 0
        assert kinds(served)[LeafType.SEND] == before + 2 * letters, "told of, it may be meant once more"


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
    for language in ("en", "ar", "ku"):
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
    with agency_session(served.dir(MINISTRY), served.grpc) as session:
        record = replace(original, agency=MINISTRY).encode()
        work = session.outbox.put("send", [record], {})
        (placed,) = session.outbox.finish(work).placed
        session.outbox.close(work)
    assert placed.first is not None
    return reference_digits(placed.first)


# --- after a theft: the last test, since its key signs no more -----------------------------------


def test_an_answer_that_a_thief_may_have_given_is_called_doubtful(
    served: Offices, sudur: Commands, tmp_path: Path
) -> None:
    number = ask(served, sudur, to=CAREFUL)
    answered = served.run(sudur, CAREFUL, "answer", number, "no-record", "--signer", "desk-2")
    before = tmp_path / "before.html"
    shown = served.run(sudur, REGISTRY, "request", "show", number, "--slip", before)
    assert shown["answer_doubtful"] is False
    assert "NO RECORD was found" in before.read_text()
    since = str(int(answered["answer_index"]) - 1)
    authority = ("--dir", served.root / "authority", "--node", served.grpc)
    assert sudur("authority", "stolen", str(CAREFUL), "2", since, *authority, "--yes").code == 0
    for language in ("en", "ar", "ku"):
        slip = tmp_path / f"{language}.html"
        shown = served.run(sudur, REGISTRY, "request", "show", number, "--slip", slip,
                           "--language", language)  # fmt: skip
        assert shown["answer_doubtful"] is True
        assert "NO RECORD was found" not in slip.read_text()
    assert "Doubtful: signed with a key that was reported stolen" in (tmp_path / "en.html").read_text()
    for words in (("request", "show", number), ("requests", "--all")):
        assert "DOUBTFUL: a key that signed the answer" in sudur("agency", *words, *served.at(REGISTRY)).out
