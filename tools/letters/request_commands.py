"""``sudur agency request`` and ``requests``: asking an office whether it issued a paper."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ledger.records import SendKind
from ledger.references import parse_reference, reference_digits, reference_text
from ledger.verdicts import Verdict
from tools.agency.session import Directory, FirstTrust, ResourcesUrl, Signers
from tools.default_command import group_with_default
from tools.describe import verdict_json
from tools.errors import UnknownLetter, Usage
from tools.files import PRIVATE, write_file, write_new_file
from tools.letters.asking import SCAN_FIELD, make_letter, own
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
from tools.letters.slip import Language, Slip, slip_html
from tools.letters.text import letter_json, letter_line, letter_lines, reply_lines
from tools.options import Json_, Node, PassphraseFile
from tools.register.letters import Filed, Way
from tools.ui import emit_json, remark, say

app = group_with_default("ask", help="Ask another office whether it issued a paper.")

Scan = Annotated[
    Path | None,
    typer.Option("--scan", metavar="FILE", exists=True, dir_okay=False, help="A small picture of the paper."),
]


@app.command()
def ask(
    node: Node,
    directory: Directory,
    to: Annotated[int, typer.Option("--to", metavar="AGENCY", min=1, help="The number of whom to ask.")],
    field: Fields = None,
    scan: Scan = None,
    type_: DocumentType = 0,
    due: Due = 0,
    prepare: Prepare = None,
    signer: Signers = None,
    trust: FirstTrust = None,
    url: ResourcesUrl = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json_ = False,
) -> None:
    """Send what you read off a paper to the office that is said to have issued it, sealed for that office.

    Write the fields as they stand on the paper, letter for letter. The request gets a number, by which
    anybody can follow whether it is answered, and nobody can read it. After an interruption give the same
    command again: it finishes that request, and makes no second one.

    Example: sudur agency request --to 7 --field "holder=ئازاد حسن" --field year=1987 --scan paper.jpg
    --due 14 --dir registry --node 127.0.0.1:7070
    """
    fields = text_fields(field)
    if not fields and scan is None:
        raise Usage("there is nothing to ask about", where="--field", fix="write what stands on the paper")
    with office(
        directory, node, signer=signer, trust=trust, url=url, passphrase_file=passphrase_file, prepare=prepare
    ) as here:
        desk = here.desk
        files = [] if scan is None else [(SCAN_FIELD, scan)]
        letter = make_letter(desk.agency, type_, fields, files, enclose=True)
        sent = here.asking.twin(here.finished.letters, letter, [to], due)
        if not sent:
            here.asking.check_recipients([to])
            if prepare is None:
                desk.outbox.check_keys({"send": 1})
            work = desk.save_letters(letter, [(to, None)], SendKind.REQUEST, due, waiting=prepare is not None)
            sent = send_letters(here, work, prepare)
        _tell(here, sent, as_json)


def requests(
    node: Node,
    directory: Directory,
    every: Annotated[bool, typer.Option("--all", help="Those that were answered long ago too.")] = False,
    signer: Signers = None,
    url: ResourcesUrl = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json_ = False,
) -> None:
    """Fetch new answers, and show your requests: open, received, overdue, answered.

    Each answer is proven, opened and kept in the register; only then the node forgets it. Without --all
    those that were answered before this run are left out.

    Example: sudur agency requests --dir registry --node 127.0.0.1:7070
    """
    with office(directory, node, signer=signer, url=url, passphrase_file=passphrase_file) as here:
        letters = here.desk.letters
        before = {one.number for one in letters.every(Way.SENT) if one.reply is not None}
        here.asking.collect()
        found = [
            one
            for one in letters.every(Way.SENT, SendKind.REQUEST)
            if one.reminds is None and (every or one.number not in before)
        ]
        if as_json:
            emit_json([letter_json(here.desk, one) for one in found])
            return
        for one in found:
            say(letter_line(here.desk, one))
            for line in reply_lines(here.desk, one):
                say(line)
        if not found:
            say("No request is open." if not every else "Nothing was asked yet.")


@app.command()
def show(
    text: Number,
    node: Node,
    directory: Directory,
    slip: Annotated[
        Path | None,
        typer.Option("--slip", metavar="FILE.html", help="Write a slip to print. New files only."),
    ] = None,
    language: Annotated[
        Language, typer.Option("--language", help="What the slip is written in.")
    ] = Language.EN,
    receipt: Annotated[
        Path | None,
        typer.Option("--receipt", metavar="FILE", help="Write the confirmed document's receipt, as of now."),
    ] = None,
    signer: Signers = None,
    url: ResourcesUrl = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json_ = False,
) -> None:
    """Show a request, its answer, and what the confirmed document's proof shows as of now.

    Example: sudur agency request show 1700000079 --slip answer.html --language ckb --dir registry
    --node 127.0.0.1:7070
    """
    index = parse_reference(text)
    with office(directory, node, signer=signer, url=url, passphrase_file=passphrase_file) as here:
        here.asking.collect()
        one = here.asking.looked_at_again(own(here.desk.letters.every(Way.SENT), index, text))
        renewed = here.asking.renewed(one)
        one = here.desk.letters.get(one.number)
        verdict = None if renewed is None else renewed[1]
        passed = here.asking.passed_on(one)
        if receipt is not None:
            if renewed is None:
                raise UnknownLetter("no document was confirmed", where=text)
            write_file(receipt, renewed[0].encode(), PRIVATE)
        if slip is not None:
            write_new_file(slip, slip_html(_slip(here, one, verdict), language).encode())
        if as_json:
            body = letter_json(here.desk, one)
            body["verdict"] = None if verdict is None else verdict_json(verdict)
            body["passed_on"] = None if passed is None else reference_digits(passed[1])
            emit_json(body)
            return
        say(letter_line(here.desk, one))
        for line in (*letter_lines(here.desk, one), *reply_lines(here.desk, one, verdict)):
            say(line)
        if passed is not None:
            say(f"    passed on as number {reference_text(passed[1])}")
            say(f"    to ask there yourself: sudur agency request reopen NUMBER --to {passed[0]}")


@app.command()
def remind(
    text: Number,
    node: Node,
    directory: Directory,
    signer: Signers = None,
    url: ResourcesUrl = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json_ = False,
) -> None:
    """Remind of a request that has no answer yet: the same letter, sealed anew to the newest key.

    Example: sudur agency request remind 1700000079 --dir registry --node 127.0.0.1:7070
    """
    index = parse_reference(text)
    with office(directory, node, signer=signer, url=url, passphrase_file=passphrase_file) as here:
        here.asking.collect()
        one = own(here.desk.letters.every(Way.SENT), index, text)
        sent = [each for each in here.finished.letters if each.follows == index and one.is_open]
        if not sent:
            here.desk.outbox.check_keys({"send": 1})
            sent = send_letters(here, here.asking.remind([one]), None)
        _tell(here, sent, as_json)


@app.command()
def reopen(
    text: Number,
    node: Node,
    directory: Directory,
    to: Annotated[
        int | None, typer.Option("--to", metavar="AGENCY", min=1, help="Another office, if it was passed on.")
    ] = None,
    field: Fields = None,
    scan: Scan = None,
    due: Due = 0,
    signer: Signers = None,
    url: ResourcesUrl = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json_ = False,
) -> None:
    """Ask once more after an answer: more was needed, it was passed on, or you do not agree.

    Without --field and --scan the letter says what it said before.

    Example: sudur agency request reopen 1700000079 --field year=1988 --scan better.jpg --dir registry
    --node 127.0.0.1:7070
    """
    index = parse_reference(text)
    fields = text_fields(field)
    with office(directory, node, signer=signer, url=url, passphrase_file=passphrase_file) as here:
        here.asking.collect()
        one = own(here.desk.letters.every(Way.SENT), index, text)
        sent = [each for each in here.finished.letters if each.follows == index and not one.is_open]
        if not sent:
            letter = None
            if fields or scan is not None:
                files = [] if scan is None else [(SCAN_FIELD, scan)]
                old = here.desk.letters.letter(one)
                kind = old.document.document_type
                letter = make_letter(here.desk.agency, kind, fields, files, enclose=True)
            if to is not None:
                here.asking.check_recipients([to])
            here.desk.outbox.check_keys({"send": 1})
            sent = send_letters(here, here.asking.reopen(one, to, due, letter), None)
        _tell(here, sent, as_json)


def _tell(here: Office, sent: list[Filed], as_json: bool) -> None:
    if as_json:
        emit_json([letter_json(here.desk, one, contents=False) for one in sent])
        return
    tell_letters(here, sent)
    if all(one.index is not None for one in sent):
        remark(
            "Anybody can follow it by its number: sudur lookup NUMBER. What it says, only you two can read."
        )


def _slip(here: Office, one: Filed, verdict: Verdict | None) -> Slip:
    """What stands on the slip. Raises UnknownLetter without an answer that could be read and proven."""
    desk = here.desk
    reply = desk.letters.reply(one)
    if reply is None or one.reply_fault is not None or one.final is None or one.index is None:
        raise UnknownLetter(
            "there is no answer to make a slip of" + (f": {one.reply_fault}" if one.reply_fault else ""),
            where=one.name,
        )
    log, session = desk.registry.log, desk.session
    asked, answered = desk.records.send(one.index), desk.records.answer(one.final, one.index)
    answer = answered.record
    return Slip(
        origin=session.ledger.origin,
        genesis=desk.genesis.hex(),
        asker=desk.registry.agency(desk.agency).names.latest,
        asker_number=desk.agency,
        answerer=desk.registry.agency(answer.agency).names.latest,
        answerer_number=answer.agency,
        request=one.name,
        answer=reference_text(one.final),
        asked_ms=asked.claimed_ms,
        answered_ms=answered.claimed_ms,
        question=desk.letters.letter(one).document.fields[1:],
        outcome=reply.outcome,
        note=reply.note,
        successor="" if reply.successor is None else desk.title(reply.successor),
        document="" if reply.issued is None else reference_text(reply.issued.index),
        confirmed=() if reply.issued is None else reply.issued.document.shown[1:],
        verdict=None if verdict is None else verdict.code,
        doubtful=one.doubtful,
        reason="" if verdict is None else verdict.reason,
        as_of_ms=log.seal.time_ms,
        size=log.size,
    )
