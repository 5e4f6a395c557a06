"""``sudur agency inbox`` and ``answer``: what other offices ask and send, and what they are told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from ledger.document_form import check_document_form
from ledger.documents import Document
from ledger.envelope_bodies import ReplyOutcome
from ledger.records import SendKind
from ledger.references import parse_reference, reference_digits
from tools.agency.issuing import digest_file, type_fields
from tools.agency.session import Directory, FirstTrust, ResourcesUrl, Signers
from tools.default_command import group_with_default
from tools.errors import Usage
from tools.files import make_private_directory, write_new_file
from tools.letters.answering import Decision, document_fields
from tools.letters.desk import new_seed
from tools.letters.inbox import Candidate, check_file, choose
from tools.letters.session import Fields, Number, Office, Prepare, name_values, office, tell_progress
from tools.letters.text import (
    candidate_json,
    candidate_lines,
    letter_json,
    letter_line,
    letter_lines,
    reply_lines,
)
from tools.options import Json_, Node, PassphraseFile
from tools.register.letters import Filed, Way
from tools.tables.commands import type_record
from tools.ui import emit_json, printable, remark, say

app = group_with_default("list", help="What other offices ask of yours, and send it.")

_MOST: Final = 100
"""Letters that are listed at once."""


class Wanted(StrEnum):
    """What an office answers."""

    CONFIRMED = "confirmed"
    DENIED = "denied"
    NO_RECORD = "no-record"
    MORE_NEEDED = "more-needed"
    DIFFERS = "differs"
    TRANSFERRED = "transferred"


@app.command("list")
def list_(
    node: Node,
    directory: Directory,
    every: Annotated[bool, typer.Option("--all", help="What is answered too, however much it is.")] = False,
    receive: Annotated[bool, typer.Option("--receive", help="Mark all that is listed as received.")] = False,
    predecessor: Annotated[
        list[int] | None,
        typer.Option(
            "--for", metavar="AGENCY", min=1, help="An agency that was handed over to yours: its letters too."
        ),
    ] = None,
    signer: Signers = None,
    trust: FirstTrust = None,
    url: ResourcesUrl = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json_ = False,
) -> None:
    """Fetch what came, and show what waits for an answer.

    Each letter is proven and opened before it is shown, and kept in the register. Of more than 100 the
    oldest are shown, those that do not open last, and how many more there are. What your own register
    has for a request: sudur agency inbox show.

    Example: sudur agency inbox --dir registry --node 127.0.0.1:7070
    """
    with office(
        directory, node, signer=signer, trust=trust, url=url, passphrase_file=passphrase_file
    ) as here:
        here.inbox.take_in(predecessor or ())
        found = [
            one
            for one in here.desk.letters.every(Way.RECEIVED)
            if one.reminds is None and (every or one.final is None)
        ]
        more = 0
        if not every:
            chosen = choose(found, _MOST)
            found, more = chosen, len(found) - len(chosen)
        if receive:
            found = _receive(here, found)
        found = here.inbox.look(found)
        if more:
            remark(f"{more} more wait for an answer: sudur agency inbox --all")
        if as_json:
            emit_json([letter_json(here.desk, one) for one in found])
            return
        for one in found:
            _show(here, one)
        if not found:
            say("Nothing waits." if not every else "Nothing has come yet.")


@app.command()
def show(
    text: Number,
    node: Node,
    directory: Directory,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Write the files that came with it here.")
    ] = None,
    signer: Signers = None,
    url: ResourcesUrl = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json_ = False,
) -> None:
    """Show one letter; for a request, what your own register has; write its files.

    A document is searched for with folded letters, and compared letter by letter: what differs is shown,
    and you decide.

    Example: sudur agency inbox show 1700000079 --out scans --dir registry --node 127.0.0.1:7070
    """
    with _inbox(directory, node, signer, url, passphrase_file) as here:
        one = here.inbox.look_into(parse_reference(text))
        written = [] if out is None else _write_files(here, one, out)
        here.desk.register.journal.write(
            here.desk.outbox.officer, "read", {"letter": one.name, "files": [path.name for path in written]}
        )
        if as_json:
            emit_json(
                {
                    **letter_json(here.desk, one),
                    "candidates": [candidate_json(each) for each in here.inbox.candidates_for(one)],
                    "written": [str(path) for path in written],
                }
            )
            return
        _show(here, one, here.inbox.candidates_for(one))
        for path in written:
            say(f"    written: {path}")


@app.command()
def receive(
    node: Node,
    directory: Directory,
    texts: Annotated[list[str] | None, typer.Argument(metavar="NUMBER")] = None,
    every: Annotated[bool, typer.Option("--all", help="All that came and is not marked yet.")] = False,
    signer: Signers = None,
    url: ResourcesUrl = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json_ = False,
) -> None:
    """Tell senders that their letters have come: the log shows it, and when.

    Example: sudur agency inbox receive 1700000079 --dir registry --node 127.0.0.1:7070
    """
    if bool(texts) == every:
        raise Usage("give NUMBERs, or --all", where="NUMBER")
    indexes = [parse_reference(text) for text in texts or ()]
    with _inbox(directory, node, signer, url, passphrase_file) as here:
        letters = here.desk.letters.every(Way.RECEIVED)
        chosen = letters if every else [here.inbox.find(index) for index in indexes]
        marked = [one for one in chosen if one.is_open and one.received is None]
        now = _receive(here, marked)
        if as_json:
            emit_json([letter_json(here.desk, one) for one in here.inbox.look(now)])
        else:
            say(f"{len(now)} letter{'' if len(now) == 1 else 's'} marked as received.")


@app.command()
def check(
    text: Number,
    file: Annotated[Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False)],
    node: Node,
    directory: Directory,
    signer: Signers = None,
    url: ResourcesUrl = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json_ = False,
) -> None:
    """Whether a file that came another way is the one that a letter was sent with.

    Example: sudur agency inbox check 1700000079 circular.pdf --dir registry --node 127.0.0.1:7070
    """
    with _inbox(directory, node, signer, url, passphrase_file) as here:
        one = here.inbox.look_into(parse_reference(text))
        name = check_file(here.desk.letters.letter(one), digest_file(file))
        sender = here.desk.title(one.agency)
    if as_json:
        emit_json({"number": reference_digits(one.index or 0), "file": str(file), "field": name})
    else:
        say(f"{file} is {printable(name)!r} of {one.name}, as {sender} sent it.")


def answer(
    text: Number,
    outcome: Annotated[Wanted, typer.Argument(metavar="OUTCOME", help=", ".join(Wanted))],
    node: Node,
    directory: Directory,
    document: Annotated[
        int | None,
        typer.Option("--document", metavar="N", min=1, help="confirmed: the register's document, by number."),
    ] = None,
    field: Fields = None,
    type_: Annotated[
        int | None,
        typer.Option("--type", metavar="T", min=0, max=65_535, help="confirmed: the type of what is issued."),
    ] = None,
    to: Annotated[
        int | None, typer.Option("--to", metavar="AGENCY", min=1, help="transferred: to whom.")
    ] = None,
    note: Annotated[str, typer.Option("--note", metavar="TEXT", help="A word to the asker, sealed.")] = "",
    prepare: Prepare = None,
    signer: Signers = None,
    url: ResourcesUrl = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json_ = False,
) -> None:
    """Answer a request, or a circulated document, for good. The asker alone learns what.

    confirmed issues the document from your archive (basis "archive"), and sends what proves it: choose it
    from your register with --document, or write its fields with --field. A document of your register that
    is in the log already is not issued again. A circulated document is confirmed without one.
    transferred passes the letter on to another office, and tells the asker to which.

    Where two officers have to sign, give --prepare FILE; when FILE was signed and sent, the same command
    again, or any other about letters, goes on. After an interruption likewise: nothing is issued or
    answered twice.

    Example: sudur agency answer 1700000079 confirmed --document 5012 --dir registry --node 127.0.0.1:7070
    """
    index = parse_reference(text)
    _check_options(outcome, document, field, type_, to)
    with _inbox(directory, node, signer, url, passphrase_file, prepare) as here:
        done = next((one for one in here.answers if one.letter.index == index and one.index), None)
        one = here.inbox.look_into(index)
        wanted = ReplyOutcome[outcome.name]
        if done is None or done.decision.outcome is not wanted:
            decision = _decision(here, one, wanted, document, field, type_, to, note)
            done = here.answering.decide(one, decision, prepare)
        one = here.desk.letters.get(one.number)
        if as_json:
            emit_json(
                {
                    **letter_json(here.desk, one),
                    "answer_index": None if done.index is None else str(done.index),
                    "waits_for_work": None if done.waiting is None else done.waiting.number,
                }
            )
        else:
            tell_progress(done)
        if done.waiting is not None and prepare is not None:
            remark(f"Hand {prepare} to the next officer; when it was sent, give this command again")
        if done.error is not None:
            raise done.error


def _check_options(
    outcome: Wanted, document: int | None, field: list[str] | None, type_: int | None, to: int | None
) -> None:
    """Raises Usage for options that do not go with the outcome."""
    if outcome is not Wanted.CONFIRMED and (document is not None or field or type_ is not None):
        raise Usage("only what is confirmed has a document", where="--document")
    if document is not None and (field or type_ is not None):
        raise Usage("either --document, or --field with --type", where="--document")
    if (outcome is Wanted.TRANSFERRED) != (to is not None):
        raise Usage("transferred names the agency that it is passed on to", where="--to")


def _decision(
    here: Office,
    letter: Filed,
    outcome: ReplyOutcome,
    document_number: int | None,
    field: list[str] | None,
    type_: int | None,
    to: int | None,
    note: str,
) -> Decision:
    """Raises Usage when nothing says which document a request is confirmed with."""
    desk = here.desk
    document, known = None, None
    if document_number is not None:
        chosen = desk.register.documents.get(document_number)
        if chosen.index is not None:
            known = document_number
        else:
            document = _checked(here, chosen.document_type, Document.build(
                desk.agency, chosen.document_type, document_fields(chosen)))  # fmt: skip
    elif field:
        asked = 0 if letter.content is None else desk.letters.letter(letter).document.document_type
        kind = asked if type_ is None else type_
        definition = type_record(desk.session.client, kind)
        fields = type_fields(definition, name_values(field))
        document = _checked(here, kind, Document.build(desk.agency, kind, fields))
    elif outcome is ReplyOutcome.CONFIRMED and letter.kind is SendKind.REQUEST:
        raise Usage(
            "which document is it?", where="--document", fix="choose one of the register, or give its --field"
        )
    return Decision(outcome, note, new_seed(), document, known, to)


def _checked(here: Office, kind: int, document: Document) -> Document:
    definition = type_record(here.desk.session.client, kind)
    if definition is not None:
        check_document_form(document, definition)
    return document


@contextmanager
def _inbox(
    directory: Path,
    node: str,
    signer: list[str] | None,
    url: str | None,
    passphrase_file: Path | None,
    prepare: Path | None = None,
) -> Iterator[Office]:
    """An office, with what has come taken in."""
    with office(
        directory, node, signer=signer, url=url, passphrase_file=passphrase_file, prepare=prepare
    ) as here:
        here.inbox.take_in()
        yield here


def _receive(here: Office, letters: list[Filed]) -> list[Filed]:
    """Mark letters as received; the same letters as they stand then. Raises what the node refused it for."""
    work = here.inbox.receive(letters)
    if work is not None:
        done = here.desk.finish_work(work)
        if done.refused:
            raise done.refused[0].error
        here.desk.renew()
        here.desk.refresh()
        here.inbox.let_go()
    return [here.desk.letters.get(one.number) for one in letters]


def _show(here: Office, one: Filed, candidates: Sequence[Candidate] = ()) -> None:
    say(letter_line(here.desk, one))
    for line in (
        *letter_lines(here.desk, one),
        *candidate_lines(candidates),
        *reply_lines(here.desk, one),
    ):
        say(line)


def _write_files(here: Office, one: Filed, out: Path) -> list[Path]:
    """The enclosed files, for the owner alone; a name from elsewhere never leads out of ``out``."""
    letter = here.desk.letters.letter(one)
    make_private_directory(out)
    written = []
    for each in letter.files:
        path = out / f"{reference_digits(one.index or 0)}-{_safe(each.name)}"
        write_new_file(path, each.data)
        written.append(path)
    return written


def _safe(name: str) -> str:
    """A file's name without anything that means something to a file system or a terminal."""
    kept = "".join(one if one.isalnum() or one in "._- " else "_" for one in printable(name))
    return kept.lstrip(".").encode()[:180].decode(errors="ignore") or "file"
