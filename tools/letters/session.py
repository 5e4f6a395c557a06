"""What every command about letters begins with: the desk, with what earlier runs left finished first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from ledger.documents import Field, check_text
from ledger.records import MAX_DUE_DAYS
from tools.agency.outbox import Work
from tools.agency.session import agency_session
from tools.agency.submission_files import export
from tools.errors import NameTaken, Usage
from tools.letters.answering import Answering, Progress
from tools.letters.asking import Asking
from tools.letters.desk import Desk, Finished
from tools.letters.inbox import Inbox
from tools.letters.text import letter_line
from tools.register.letters import Filed
from tools.ui import Passphrase, printable, remark, say

Number = Annotated[
    str, typer.Argument(metavar="NUMBER", help="A reference number, as printed; spaces do not matter.")
]
Fields = Annotated[
    list[str] | None,
    typer.Option("--field", metavar="NAME=VALUE", help="A field, as it is read. Repeatable."),
]
Due = Annotated[
    int,
    typer.Option(
        "--due", metavar="DAYS", min=0, max=MAX_DUE_DAYS, help="Days until an answer is due; 0: none."
    ),
]
DocumentType = Annotated[
    int,
    typer.Option("--type", metavar="T", min=0, max=65_535, help="The document type; 0: undeclared."),
]
Prepare = Annotated[
    Path | None,
    typer.Option(
        "--prepare",
        metavar="FILE",
        dir_okay=False,
        help="Send nothing: write a submission file for the next officer to sign.",
    ),
]


@dataclass(frozen=True, slots=True)
class Office:
    """A desk with its three sides. ``finished``: letters that an earlier run left, and that are sent now.

    ``answers``: what became of answers that were decided on before.
    """

    desk: Desk
    asking: Asking
    inbox: Inbox
    answering: Answering
    finished: Finished
    answers: tuple[Progress, ...]


@contextmanager
def office(
    directory: Path,
    node: str,
    *,
    signer: Sequence[str] | None = None,
    trust: Path | None = None,
    url: str | None = None,
    passphrase_file: Path | None = None,
    prepare: Path | None = None,
) -> Iterator[Office]:
    """Begin to work on letters. Whatever an earlier run left is finished first, and told of.

    ``prepare``: where a submission file is to be written. Raises as agency_session; NameTaken for a file
    that exists; Unavailable when what is left cannot be sent.
    """
    if prepare is not None and prepare.exists():
        raise NameTaken(
            "exists already and is not overwritten", where=str(prepare), fix="choose another name"
        )
    passphrase = Passphrase(passphrase_file)
    with agency_session(
        directory, node, signer=signer or (), trust=trust, url=url, passphrase=passphrase
    ) as session:
        desk = Desk(session, passphrase)
        answering = Answering(desk)
        answers = tuple(answering.carry_on())
        finished = desk.finish()
        for one in answers:
            tell_progress(one, remark)
        for refusal in finished.refused:
            remark(f"Refused, and not sent: {printable(str(refusal.error))}")
        yield Office(desk, Asking(desk), Inbox(desk), answering, finished, answers)
        desk.close_settled()


def tell_progress(progress: Progress, tell: Callable[[str], None] = say) -> None:
    """How far an answer is, in a line."""
    name, outcome = progress.letter.name, progress.decision.outcome.value
    if progress.index is not None:
        tell(f"{name} is answered: {outcome}")
    elif progress.error is not None:
        tell(f"{name} is not answered yet: {printable(str(progress.error))}")
    elif progress.waiting is not None:
        tell(f"{name} waits for other officers to sign work {progress.waiting.number}")


def send_letters(here: Office, work: Work, prepare: Path | None) -> list[Filed]:
    """Send a work of letters, or write it to a file for the next officer; the letters.

    Raises what the node refused it for.
    """
    desk = here.desk
    if prepare is not None:
        export(desk.outbox, work, prepare)
        remark(f"It waits for other officers: hand {prepare} to the next of them")
        return desk.letters.of_work(work.number)
    done = desk.finish_work(work)
    if done.refused:
        raise done.refused[0].error
    desk.renew()
    desk.refresh()
    return desk.letters.of_work(work.number)


def tell_letters(here: Office, letters: Sequence[Filed]) -> None:
    """Letters that were sent, in a line each."""
    for one in letters:
        say(letter_line(here.desk, one))


def text_fields(values: Sequence[str] | None) -> list[Field]:
    """``NAME=VALUE`` words as fields, in their order. Raises Usage, DocumentFormatError."""
    return [Field.text(name, value) for name, value in name_values(values)]


def name_values(values: Sequence[str] | None) -> list[tuple[str, str]]:
    """``NAME=VALUE`` words, taken apart. Raises Usage, DocumentFormatError."""
    found = []
    for value in values or ():
        name, equals, text = value.partition("=")
        if not equals or not name:
            raise Usage(f"{printable(value)!r} is not NAME=VALUE", where="--field")
        check_text(f"field {printable(name)}", text)
        found.append((name, text))
    return found
