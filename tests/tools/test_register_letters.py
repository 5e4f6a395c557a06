"""Letters in the register: kept, found, and what a damaged or swapped content is called."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger.documents import Document, Field
from ledger.envelope_bodies import Letter, letter_plaintext
from ledger.errors import FormatError
from ledger.inquiries import Reply, Sent
from ledger.records import NO_HASH, Outcome, Send, SendKind
from ledger.references import reference_text
from tests.tools.helpers import Commands, assert_one_line
from tools.errors import RegisterProblem, UnknownLetter
from tools.letters.answering import Decision, external_id
from tools.register.box import Box
from tools.register.letters import Way
from tools.register.store import Register

DAY_MS = 86_400_000
SENT_MS = 20_000 * DAY_MS
LETTER = Letter(Document.build(1, 0, [Field.text("holder", "نور")]), bytes(16))
PLAINTEXT = letter_plaintext(LETTER, bytes(32), 2)[1]


@pytest.fixture
def register(tmp_path: Path) -> Iterator[Register]:
    with Register(tmp_path / "register.db", Box(bytes(32))) as opened:
        yield opened


def take(register: Register, index: int, due: int = 7, final: Reply | None = None) -> None:
    send = Send(1, 2, bytes(32), SendKind.REQUEST, due, 2**64 - 1, NO_HASH)
    sent = Sent(index, 1, 2, SendKind.REQUEST, SENT_MS, due, None, None, None, final)
    with register.transaction():
        register.letters.add_received(sent, send, False, register.letters.keep(PLAINTEXT), None)


def test_a_letter_is_found_by_its_index(register: Register) -> None:
    take(register, 40)
    found = register.letters.by_index(40)
    assert (found.way, found.agency, found.index, found.follows) == (Way.RECEIVED, 1, 40, None)
    assert register.letters.letter(found) == LETTER
    assert register.letters.next_place() == 41
    assert register.letters.by_index(40, Way.RECEIVED) == found
    for index, way in ((41, None), (40, Way.SENT)):
        with pytest.raises(UnknownLetter, match=reference_text(index)):
            register.letters.by_index(index, way)


@pytest.mark.parametrize(
    ("due", "later_ms", "overdue"),
    [(7, 7 * DAY_MS + DAY_MS - 1, False), (7, 8 * DAY_MS, True), (0, 999 * DAY_MS, False)],
)
def test_overdue_after_its_last_day(register: Register, due: int, later_ms: int, overdue: bool) -> None:
    take(register, 40, due)
    assert register.letters.by_index(40).overdue(SENT_MS + later_ms) == overdue


def test_what_is_answered_is_not_overdue(register: Register) -> None:
    take(register, 40, 1, Reply(50, 2, Outcome.ANSWERED, SENT_MS))
    found = register.letters.by_index(40)
    assert (found.final, found.is_open) == (50, False)
    assert not found.overdue(SENT_MS + 99 * DAY_MS)
    assert register.letters.unanswered() == []


def test_contents_that_are_damaged_or_swapped(register: Register) -> None:
    take(register, 40)
    take(register, 41)
    one, other = register.letters.by_index(40), register.letters.by_index(41)
    sealed = dict(register.rows("SELECT id, sealed FROM contents"))
    register.run("UPDATE contents SET sealed = ? WHERE id = ?", (sealed[other.content], one.content))
    with pytest.raises(RegisterProblem, match="sealed for another row"):
        register.letters.letter(one)
    register.run("UPDATE contents SET sealed = ? WHERE id = ?", (sealed[one.content][:-1], one.content))
    with pytest.raises(RegisterProblem, match="does not open"):
        register.letters.letter(one)
    with register.transaction():
        garbage = register.letters.keep(b"garbage")
    with pytest.raises(RegisterProblem, match="is damaged"):
        register.letters.letter_of(garbage)
    register.run("DELETE FROM contents WHERE id = ?", (garbage,))
    with pytest.raises(RegisterProblem, match="is not in the register"):
        register.letters.letter_of(garbage)
    with pytest.raises(RegisterProblem, match="is not in the register"):
        register.letters.get(999)


def test_nothing_of_a_letter_is_readable(register: Register, tmp_path: Path) -> None:
    take(register, 40)
    data = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert "نور".encode() not in data
    assert b"sudur-letter" not in data


def test_of_a_fault_the_code_alone_is_kept(register: Register, tmp_path: Path) -> None:
    """What is wrong with a malformed letter is said with its own words, a citizen's name perhaps."""
    take(register, 40)
    fault = "MALFORMED_DOCUMENT: field نور: is empty"
    one = register.letters.by_index(40)
    with register.transaction():
        register.letters.opened(one, None, fault)
        register.letters.answered(one, None, fault, None)
    assert register.letters.by_index(40).fault == fault, "told while the register is open"
    assert register.letters.by_index(40).reply_fault == fault
    assert "نور".encode() not in b"".join(path.read_bytes() for path in tmp_path.iterdir())
    with Register(tmp_path / "register.db", Box(bytes(32))) as later:
        there = later.letters.by_index(40)
        assert (there.fault, there.reply_fault) == ("MALFORMED_DOCUMENT", "MALFORMED_DOCUMENT")
        later.letters.opened(there, later.letters.keep(PLAINTEXT), None)
        assert later.letters.by_index(40).fault is None


@pytest.mark.parametrize("change", [b"", b"{}", b'{"outcome":"confirmed"}', b"\xff"])
def test_a_decision_that_is_damaged(change: bytes) -> None:
    with pytest.raises(FormatError):
        Decision.decode(change)


def test_an_id_of_its_own_for_each_request() -> None:
    assert external_id(1) != external_id(11)


@pytest.mark.parametrize("command", [("requests",), ("inbox",), ("circulated",), ("request", "show", "2523")])
def test_a_directory_that_is_none(sudur: Commands, tmp_path: Path, command: tuple[str, ...]) -> None:
    nowhere = ("--dir", tmp_path / "nowhere", "--node", "127.0.0.1:1")
    assert_one_line(sudur("agency", *command, *nowhere), 64, "is no directory")


@pytest.mark.parametrize(
    "command",
    [("request",), ("request", "--to", "x"), ("inbox", "nonsense"), ("answer", "2523", "perhaps")],
)
def test_words_that_are_no_command(sudur: Commands, tmp_path: Path, command: tuple[str, ...]) -> None:
    done = sudur("agency", *command, "--dir", tmp_path, "--node", "127.0.0.1:1")
    assert_one_line(done, 64)
