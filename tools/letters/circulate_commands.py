"""``sudur agency circulate`` and ``circulated``: one letter to many offices, and who has received it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

from ledger.canonical_json import Json
from ledger.proven_registry import ProvenRegistry
from ledger.records import SendKind
from ledger.references import parse_reference, reference_digits
from tools.agency.session import Directory, FirstTrust, ResourcesUrl, Signers
from tools.default_command import group_with_default
from tools.errors import FileProblem, UnknownLetter, Usage
from tools.files import read_file
from tools.letters.asking import check_names, make_letter
from tools.letters.desk import parse_agencies
from tools.letters.session import (
    DocumentType,
    Due,
    Fields,
    Number,
    Office,
    Prepare,
    office,
    send_letters,
    tell_letters,
    text_fields,
)
from tools.letters.text import letter_json, letter_line, letter_lines, reply_lines, state_of
from tools.options import Json_, Node, PassphraseFile
from tools.register.letters import Filed, Way
from tools.ui import emit_json, say

app = group_with_default("list", help="Who has received and answered what you circulated.")

_MAX_LIST: Final = 1 << 20
_MAX_RECIPIENTS: Final = 2_048


@dataclass(frozen=True, slots=True)
class Circulation:
    """One letter to many: ``letters`` in the order of the recipients, and the reminders of each apart."""

    letters: tuple[Filed, ...]

    @property
    def first(self) -> Filed:
        return self.letters[0]

    def count(self, now_ms: int) -> dict[str, int]:
        """How many are open, received, answered, overdue."""
        counts: dict[str, int] = {}
        for one in self.letters:
            state = state_of(one, now_ms)
            counts[state] = counts.get(state, 0) + 1
        return counts


def circulate(
    node: Node,
    directory: Directory,
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="FILE", exists=True, dir_okay=False, readable=True)
    ] = None,
    to: Annotated[
        str | None, typer.Option("--to", metavar="3,7,12", help="The numbers of the agencies that get it.")
    ] = None,
    to_file: Annotated[
        Path | None,
        typer.Option(
            "--to-file", metavar="LIST", exists=True, dir_okay=False, help="A file of such numbers."
        ),
    ] = None,
    below: Annotated[
        int | None, typer.Option("--below", metavar="AGENCY", min=1, help="Every agency below this one.")
    ] = None,
    field: Fields = None,
    type_: DocumentType = 0,
    due: Due = 0,
    without_bytes: Annotated[
        bool,
        typer.Option("--without-bytes", help="The FILEs go another way; the letter proves what was sent."),
    ] = False,
    prepare: Prepare = None,
    signer: Signers = None,
    trust: FirstTrust = None,
    url: ResourcesUrl = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json_ = False,
) -> None:
    """Send one letter to many agencies, sealed for each of them, and see who has received it.

    All get the same letter, which the log proves by one commitment. FILEs are enclosed as far as an
    envelope holds them; larger ones go --without-bytes, by mail or on a disk, and whoever gets them checks
    them against the letter: sudur agency inbox check. Agencies that are suspended or handed over are
    left out of --below. After an interruption give the same command again.

    Example: sudur agency circulate circular.pdf --to 3,7,12 --field subject="عطلة رسمية" --due 7
    --dir ministry --node 127.0.0.1:7070
    """
    fields, named = text_fields(field), check_names(files or ())
    if not fields and not named:
        raise Usage("there is nothing to circulate", where="FILE", fix="name files, or write a --field")
    if sum(one is not None for one in (to, to_file, below)) != 1:
        raise Usage("say to whom: one of --to, --to-file, --below", where="--to")
    chosen = [] if below is not None else parse_agencies(_words(to, to_file), "--to" if to else "--to-file")
    with office(
        directory, node, signer=signer, trust=trust, url=url, passphrase_file=passphrase_file, prepare=prepare
    ) as here:
        desk = here.desk
        recipients = chosen if below is None else agencies_below(desk.registry, below, desk.agency)
        if not 1 <= len(recipients) <= _MAX_RECIPIENTS:
            raise Usage(f"{len(recipients)} agencies, 1 to {_MAX_RECIPIENTS} are written to", where="--to")
        letter = make_letter(desk.agency, type_, fields, named, enclose=not without_bytes)
        sent = here.asking.twin(here.finished.letters, letter, recipients, due)
        if not sent:
            here.asking.check_recipients(recipients)
            if prepare is None:
                desk.outbox.check_keys({"send": len(recipients)})
            pairs = [(agency, None) for agency in recipients]
            work = desk.save_letters(letter, pairs, SendKind.CIRCULATED, due, waiting=prepare is not None)
            sent = send_letters(here, work, prepare)
        if as_json:
            emit_json([letter_json(desk, one, contents=False) for one in sent])
        else:
            tell_letters(here, sent)


@app.command("list")
def list_(
    node: Node,
    directory: Directory,
    signer: Signers = None,
    url: ResourcesUrl = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json_ = False,
) -> None:
    """Show what you circulated, and how many have received and answered it.

    Example: sudur agency circulated --dir ministry --node 127.0.0.1:7070
    """
    with office(directory, node, signer=signer, url=url, passphrase_file=passphrase_file) as here:
        here.asking.collect()
        now_ms = here.desk.register.now_ms()
        found = circulations(here)
        if as_json:
            emit_json([_json(here, one, now_ms) for one in found])
            return
        for one in found:
            states = ", ".join(f"{count} {state}" for state, count in sorted(one.count(now_ms).items()))
            say(f"{one.first.name}  {len(one.letters)} agencies: {states}")
            for line in letter_lines(here.desk, one.first):
                say(line)
        if not found:
            say("Nothing was circulated yet.")


@app.command()
def show(
    text: Number,
    node: Node,
    directory: Directory,
    signer: Signers = None,
    url: ResourcesUrl = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json_ = False,
) -> None:
    """Show each recipient of what you circulated; NUMBER is that of any of its letters.

    Example: sudur agency circulated show 1700000079 --dir ministry --node 127.0.0.1:7070
    """
    index = parse_reference(text)
    with office(directory, node, signer=signer, url=url, passphrase_file=passphrase_file) as here:
        here.asking.collect()
        one = _circulation(here, index, text)
        if as_json:
            body = _json(here, one, here.desk.register.now_ms())
            body["letters"] = [letter_json(here.desk, each) for each in one.letters]
            emit_json(body)
            return
        for line in letter_lines(here.desk, one.first):
            say(line)
        for each in one.letters:
            say(letter_line(here.desk, each))
            for line in reply_lines(here.desk, each):
                say(line)


@app.command()
def remind(
    text: Number,
    node: Node,
    directory: Directory,
    every: Annotated[bool, typer.Option("--all", help="All who have not answered yet.")] = False,
    signer: Signers = None,
    url: ResourcesUrl = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json_ = False,
) -> None:
    """Remind those whose answer is overdue; with --all everybody who has not answered.

    Example: sudur agency circulated remind 1700000079 --dir ministry --node 127.0.0.1:7070
    """
    index = parse_reference(text)
    with office(directory, node, signer=signer, url=url, passphrase_file=passphrase_file) as here:
        here.asking.collect()
        one = _circulation(here, index, text)
        now_ms = here.desk.register.now_ms()
        done = {each.follows for each in here.finished.letters}
        wanted = [
            each
            for each in one.letters
            if each.is_open and each.index not in done and (every or each.overdue(now_ms))
        ]
        sent = [each for each in here.finished.letters if each.follows in {of.index for of in one.letters}]
        if wanted:
            here.desk.outbox.check_keys({"send": len(wanted)})
            sent += send_letters(here, here.asking.remind(wanted), None)
        if as_json:
            emit_json([letter_json(here.desk, each, contents=False) for each in sent])
            return
        tell_letters(here, sent)
        if not sent:
            say("Nobody's answer is overdue." if not every else "All have answered.")


def circulations(here: Office) -> list[Circulation]:
    """What this agency circulated, in the order of the log."""
    groups: dict[int, list[Filed]] = {}
    for one in here.desk.letters.every(Way.SENT, SendKind.CIRCULATED):
        if one.follows is None and one.work is not None:
            groups.setdefault(one.work, []).append(one)
    return [Circulation(tuple(letters)) for letters in groups.values()]


def agencies_below(registry: ProvenRegistry, top: int, without: int) -> list[int]:
    """The agencies that stand below ``top``, at any depth; those suspended or handed over left out.

    Reads every agency's record once: about 2 ms each. Raises UnknownAgency, Usage when there is none.
    """
    registry.agency(top)
    below = {top}
    found = []
    for one in range(1, registry.ledger.agencies + 1):  # a parent is enrolled before its children
        record = registry.agency(one)
        if record.parent.latest not in below or one == top:
            continue
        below.add(one)
        if record.suspended.latest is None and record.successor.latest is None and one != without:
            found.append(one)
    if not found:
        raise Usage(f"no agency stands below agency {top}", where="--below")
    return found


def _words(to: str | None, to_file: Path | None) -> list[str]:
    """The numbers of a list, between commas and line ends."""
    text = to or ""
    if to_file is not None:
        try:
            text = read_file(to_file, _MAX_LIST).decode("utf-8-sig")
        except UnicodeDecodeError:
            raise FileProblem("is not UTF-8 text", where=str(to_file)) from None
    return [word for word in text.replace(",", "\n").splitlines() if word.strip()]


def _circulation(here: Office, index: int, text: str) -> Circulation:
    for one in circulations(here):
        if any(each.index == index for each in one.letters):
            return one
    raise UnknownLetter(
        "is none of what was circulated from here", where=text, fix="see: sudur agency circulated"
    )


def _json(here: Office, one: Circulation, now_ms: int) -> dict[str, Json]:
    first = one.first
    body = letter_json(here.desk, first)
    return {
        "number": None if first.index is None else reference_digits(first.index),
        "agencies": len(one.letters),
        "states": dict(one.count(now_ms)),
        "letter": body["letter"],
        "due_days": first.due,
        "sent_ms": first.sent_ms,
    }
