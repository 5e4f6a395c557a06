"""The journal's file: appended, proven from end to end, and every way of tampering with it seen."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import FormatError
from ledger.signatures import Algorithm, Ed25519Signer
from ledger.verdicts import VerdictCode
from tests.vectors import generate_journal
from tools.errors import FileProblem, JournalProblem, NameTaken
from tools.keyfile import KeyFile, PrivateKey, PublicKey, encode_key, make_key
from tools.verifying.entries import (
    MAX_LINE,
    Entry,
    JournalKey,
    RecheckBy,
    Relied,
    parse_entry,
    parse_header,
    parse_slip_code,
)
from tools.verifying.journal import Head, JournalReader, append, create

VECTORS = json.loads(Path(generate_journal.__file__).with_name("journal.json").read_text(encoding="utf-8"))
NOW = 1_800_000_000_000
BY = RecheckBy(41, 7, 0, (40, (1, 3)))
MADE = make_key("journal", "journal")
KEY = JournalKey(MADE)


def entry_of(name: str, verdict: VerdictCode = VerdictCode.GENUINE) -> Callable[[int, bytes], Entry]:
    def make(number: int, before: bytes) -> Entry:
        return Entry(
            number=number,
            time_ms=NOW + number,
            officer="desk-1",
            checked=KEY.checked(number, name.encode()),
            verdict=verdict,
            relied=Relied(bytes(32), 100, bytes(32), NOW),
            sealed=KEY.seal(number, BY),
            before=before,
        )

    return make


@pytest.fixture
def path(tmp_path: Path) -> Path:
    create(tmp_path / "journal", KEY, NOW)
    return tmp_path / "journal"


def write(path: Path, count: int) -> list[Entry]:
    return [append(path, KEY, entry_of(f"document {i}"))[0] for i in range(count)]


def read(path: Path) -> tuple[list[Entry], JournalReader]:
    reader = JournalReader(path)
    return list(reader.entries()), reader


def test_what_is_written_is_read(path: Path) -> None:
    entries = write(path, 5)
    found, reader = read(path)
    assert found == entries
    assert reader.head.number == 5
    assert reader.key == MADE.public
    assert not reader.torn
    assert [KEY.unseal(one) for one in found] == [BY] * 5
    assert path.stat().st_mode & 0o777 == 0o600


def test_nothing_is_begun_twice(path: Path) -> None:
    with pytest.raises(NameTaken):
        create(path, KEY, NOW)


def test_it_tells_nobody_what_was_checked(path: Path) -> None:
    """Who guesses the document, and even which leaf it is, cannot try the guess without the key."""
    (entry,) = write(path, 1)
    stranger = JournalKey(make_key("journal", "other"))
    assert KEY.checked(1, b"document 0") == entry.checked
    assert stranger.checked(1, b"document 0") != entry.checked
    assert KEY.checked(2, b"document 0") != entry.checked, "the same document twice does not show"
    with pytest.raises(JournalProblem, match="sealed with another key"):
        stranger.unseal(entry)
    assert b"41" not in entry.encode().split(b'"sealed"')[0].split(b'"relied"')[0]


def test_only_its_own_key_goes_on(path: Path) -> None:
    stranger = JournalKey(make_key("journal", "other"))
    for _ in range(2):
        before = path.read_bytes()
        with pytest.raises(JournalProblem, match="cannot be gone on from"):
            append(path, stranger, entry_of("x"))
        assert path.read_bytes() == before
        write(path, 1)
    with pytest.raises(JournalProblem, match="signs no journal"):
        JournalKey(make_key("submit", "desk"))


def test_every_way_of_tampering_is_seen(path: Path) -> None:
    write(path, 4)
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) == 5
    changed = {
        "a line left out": [*lines[:2], *lines[3:]],
        "two lines changed about": [*lines[:2], lines[3], lines[2], lines[4]],
        "a line twice": [*lines[:3], lines[2], *lines[3:]],
        "another verdict": [*lines[:2], lines[2].replace(b'"GENUINE"', b'"REVOKED"'), *lines[3:]],
        "another officer": [*lines[:2], lines[2].replace(b"desk-1", b"desk-2"), *lines[3:]],
        "no first line": lines[1:],
        "a line of another journal": [*lines[:2], _strange_line(path), *lines[3:]],
        "an empty line": [*lines[:2], b"\n", *lines[2:]],
        "no end of a line": [*lines[:2], lines[2][:-1] + b" " * MAX_LINE + b"\n", *lines[3:]],
    }
    seen = []
    for desc, altered in changed.items():
        path.write_bytes(b"".join(altered))
        try:
            read(path)
        except JournalProblem:
            seen.append(desc)
    assert seen == list(changed)


def _strange_line(path: Path) -> bytes:
    other = path.with_name("other")
    create(other, KEY, NOW + 1)
    write(other, 2)
    return other.read_bytes().splitlines(keepends=True)[2]


def test_a_cut_off_end_shows_by_a_head_that_somebody_holds(path: Path) -> None:
    write(path, 3)
    _, reader = read(path)
    held = reader.head
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    heads = set()
    reader = JournalReader(path)
    for _ in reader.entries():
        heads.add(reader.head)
    assert held not in heads
    assert Head(held.number - 1, reader.head.hash) in heads


def test_a_line_cut_off_by_a_crash_is_recognised_and_taken_away(path: Path) -> None:
    write(path, 2)
    whole = path.read_bytes()
    (third,) = write(path, 1)
    full = path.read_bytes()
    for cut in range(len(whole) + 1, len(full), 37):
        path.write_bytes(full[:cut])
        found, reader = read(path)
        assert (len(found), reader.torn) == (2, True)
        again, torn = append(path, KEY, entry_of("document 0"))
        assert torn
        assert (again.number, again.before) == (third.number, third.before)
        found, reader = read(path)
        assert (len(found), reader.torn) == (3, False)


def test_a_full_disk_leaves_it_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(path, 1)
    before, real = path.read_bytes(), os.write

    def full(descriptor: int, data: bytes) -> int:
        if len(data) > 100:
            return real(descriptor, data[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(FileProblem, match="No space"):
        append(path, KEY, entry_of("x"))
    monkeypatch.undo()
    assert path.read_bytes() == before
    write(path, 1)


def test_several_processes_append_and_none_is_lost(path: Path) -> None:
    key = path.with_name("key")
    key.write_bytes(encode_key(MADE, None))
    key.chmod(0o600)
    program = (
        "import sys; from pathlib import Path; from tests.tools.verifying.test_journal import many;"
        "many(Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    running = [subprocess.Popen([sys.executable, "-c", program, str(path), str(key)]) for _ in range(3)]
    assert [one.wait(60) for one in running] == [0, 0, 0]
    found, _ = read(path)
    assert [one.number for one in found] == list(range(1, 61))


def many(path: Path, key: Path) -> None:
    """What each of several processes does."""
    opened = JournalKey(KeyFile(key).open(None))
    for _ in range(20):
        append(path, opened, lambda number, before: entry_of("x")(number, before))


# --- slips -------------------------------------------------------------------------------------


def test_a_slips_code_finds_its_entry_and_a_misread_digit_shows(path: Path) -> None:
    one, other = write(path, 2)
    assert one.code.isdigit()
    assert parse_slip_code(one.code) == (1, parse_slip_code(one.code)[1])
    assert parse_slip_code(other.code)[0] == 2
    spaced = " ".join(one.code[at : at + 5] for at in range(0, len(one.code), 5))
    assert parse_slip_code(spaced) == parse_slip_code(one.code)
    assert parse_slip_code(one.code.translate(str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")))[0] == 1
    wrong = 0
    for at in range(len(one.code)):
        digit = "1" if one.code[at] == "0" else "0"
        try:
            parse_slip_code(one.code[:at] + digit + one.code[at + 1 :])
        except JournalProblem:
            wrong += 1
    assert wrong == len(one.code)


@given(text=st.text(max_size=60))
def test_any_code_raises_only_our_error(text: str) -> None:
    with pytest.raises(JournalProblem):
        parse_slip_code(text)


@given(line=st.binary(max_size=300))
def test_any_line_raises_only_our_error(line: bytes) -> None:
    for parse in (parse_header, lambda data: parse_entry(data, "line")):
        with pytest.raises(FormatError):
            parse(line)


# --- known answers -----------------------------------------------------------------------------


def test_known_answers(tmp_path: Path) -> None:
    """A journal that was built without this code: read, unsealed, its codes computed."""
    assert generate_journal.vectors() == VECTORS
    secret = bytes.fromhex(VECTORS["secret"])
    public = PublicKey(Algorithm.ED25519, Ed25519Signer(secret).public_key, "journal", "journal")
    key = JournalKey(PrivateKey(public, secret))
    (tmp_path / "journal").write_text("".join(f"{line}\n" for line in VECTORS["lines"]), encoding="utf-8")
    found, reader = read(tmp_path / "journal")
    assert reader.head.hash.hex() == VECTORS["want"]["head"]
    for entry, want in zip(found, VECTORS["want"]["entries"], strict=True):
        assert entry.verdict.value == want["verdict"]
        assert entry.code == want["code"]
        assert key.checked(entry.number, bytes.fromhex(want["digest"])) == entry.checked
        by = key.unseal(entry)
        assert (None if by is None else json.loads(by.encode())) == want["sealed"]
