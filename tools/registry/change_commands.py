"""What the commands that change the registry share: their options, and the way that each of them goes.

First what an earlier command left is finished. Then, if the registry says already what is wished, nothing
is done. Else the change is prepared on the newest record and shown, and then only shown (``--dry-run``),
written as a proposal (``--propose``), or signed with the keys here and sent.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from ledger.canonical_json import Json
from ledger.changes import USES, NewKey, Subject
from ledger.documents import check_composed
from ledger.errors import SudurError
from tools.client import LedgerClient
from tools.errors import SignaturesMissing, Usage
from tools.files import locked
from tools.keyfile import load_public_key
from tools.options import connect
from tools.pinning import check_node
from tools.registry.change_text import describe, new_key_words
from tools.registry.changing import Made, Pending, Wish, is_so, prepare
from tools.registry.proposals import Proposal, save_new_proposal
from tools.registry.seats import Seat, agency_of, check_directory, open_seat, pin
from tools.registry.view import NodeRegistry, RegistryView
from tools.ui import Passphrase, emit_json, printable, remark, say

Directory = Annotated[Path, typer.Option("--dir", metavar="DIR", help="The directory of whoever signs.")]
Propose = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Send nothing: write the change, and the signatures made here, for others to sign.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the change; sign and send nothing.")]
FirstTrust = Annotated[
    Path | None,
    typer.Option(
        "--trust",
        metavar="TRUST.json",
        exists=True,
        dir_okay=False,
        help="The authority's trust file: pins an agency's directory, at first use.",
    ),
]
Number = Annotated[int, typer.Argument(metavar="AGENCY", min=1, help="The agency's number.")]
Names = Annotated[
    list[str],
    typer.Option(
        "--name",
        metavar="LANG=NAME",
        help="Its name in a language (BCP 47: ar, ckb, kmr, en …), like en=Registry. Repeatable.",
    ),
]


@dataclass(frozen=True, slots=True)
class How:
    """What the shared options say."""

    directory: Path
    node: str
    trust: Path | None = None
    propose: Path | None = None
    dry_run: bool = False
    passphrase_file: Path | None = None
    as_json: bool = False


@dataclass(frozen=True, slots=True)
class Context:
    """What a wish is made from: the node, the registry as it says, and who signs (0 the authority)."""

    client: LedgerClient
    seat: Seat
    by: int
    view: RegistryView


@dataclass(frozen=True, slots=True)
class Report:
    """How a change that was made, or is so already, is told: for people, and for scripts."""

    text: Callable[[Made], str]
    json: Callable[[Made], Json] = lambda made: {"subject": str(made.subject), "index": str(made.index)}


def carry_out(
    how: How,
    wish: Callable[[Context], Wish | Made],
    report: Report | None = None,
    *,
    warn: Callable[[Context], Sequence[str]] = lambda _: (),
    confirm: bool = False,
) -> Made | None:
    """Go the whole way of one change; None when it was only shown or proposed.

    ``wish`` may find that it was made already. Without a ``report`` nothing is told of what was made.
    ``warn`` gives lines to be read before anything is signed; with ``confirm`` a person must agree.

    Raises whatever stands in the way; a refusal leaves nothing behind.
    """
    check_directory(how.directory)
    with locked(how.directory), connect(how.node) as client:
        pin(how.directory, how.trust, client)
        seat = open_seat(how.directory)
        check_node(client, seat.ledger)
        by = agency_of(seat, client)
        passphrase = Passphrase(how.passphrase_file)
        pending = Pending(seat, client, passphrase)
        _finish(pending, how.dry_run)
        context = Context(client, seat, by, NodeRegistry(client))
        wished = wish(context)
        made = wished if isinstance(wished, Made) else _already(wished, context)
        if made is not None:
            _tell(how, report, made, already=True)
            return made
        assert isinstance(wished, Wish)
        proposal = prepare(client, seat.ledger.genesis, by, wished)
        for line in warn(context):
            remark(line)
        if how.dry_run:
            _show(how, proposal, context)
            return None
        if confirm:
            ask("Go on?")
        if how.propose is not None:
            _propose(how, how.propose, seat.sign(proposal, passphrase), context)
            return None
        try:
            made = pending.make(proposal)
        except SignaturesMissing as error:
            error.fix = "write a proposal for the holders of the other keys: --propose FILE"
            raise
        _tell(how, report, made, already=False)
        return made


def ask(question: str) -> None:
    """Go on only when the person at the terminal says yes. Raises Usage when nobody is there to ask."""
    if not sys.stdin.isatty():
        raise Usage("this has to be confirmed, and nobody is at the terminal", fix="give --yes")
    typer.confirm(question, abort=True, err=True)


def _finish(pending: Pending, dry_run: bool) -> None:
    if dry_run:
        if pending.is_there:
            remark("A change is on its way from this directory, and not in what is shown")
        return
    earlier = pending.finish()
    if isinstance(earlier, Made):
        remark(f"Finished a change that was begun earlier: {earlier.subject}, index {earlier.index}")
    elif isinstance(earlier, SudurError):
        remark(f"A change that was begun earlier was refused, and is not made: {earlier}")


def _already(wish: Wish, context: Context) -> Made | None:
    subject = is_so(wish, context.by, context.view)
    if subject is None:
        return None
    return Made(subject, context.client.record(str(subject)).last_change_index)


def _tell(how: How, report: Report | None, made: Made, *, already: bool) -> None:
    if report is None:
        return
    if already:
        remark("The registry says so already; nothing was changed")
    if how.as_json:
        emit_json(report.json(made))
    else:
        say(report.text(made))


def _show(how: How, proposal: Proposal, context: Context) -> None:
    if how.as_json:
        emit_json(proposal_json(proposal))
        return
    for line in change_lines(proposal, context.view):
        say(line)
    say(f"The change as it would be signed: {proposal.json.decode()}")
    remark("A dry run: nothing was signed or sent")


def _propose(how: How, path: Path, proposal: Proposal, context: Context) -> None:
    save_new_proposal(path, proposal)
    if how.as_json:
        emit_json({"proposal": str(path), **proposal_json(proposal)})
        return
    for line in (*change_lines(proposal, context.view), *state_lines(proposal)):
        say(line)
    say(f"The proposal:  {path}")


def proposal_json(proposal: Proposal) -> dict[str, Json]:
    """A proposal for scripts."""
    made = proposal.change()
    count, incoming = proposal.missing()
    return {
        "change": made.body.NAME,
        "subject": str(made.subject),
        **made.body.body(),
        "by": proposal.by,
        "needed": proposal.needed,
        "signed": [one.number for one in proposal.signatures],
        "missing": count,
        "missing_new_keys": list(incoming),
    }


def change_lines(proposal: Proposal, view: RegistryView | None) -> list[str]:
    """What a proposal changes, and the keys that follow an enrolment, with their fingerprints."""
    keys = (f"  then {new_key_words(key)}" for key in proposal.then)
    return [*describe(proposal.change(), view), *keys]


def state_lines(proposal: Proposal) -> list[str]:
    """How far a proposal is, and what will follow it."""
    signed = ", ".join(str(one.number) for one in proposal.signatures) or "none yet"
    lines = [f"Signed by keys: {signed}"]
    try:
        proposal.check_complete()
        lines.append("Nothing is missing: it can be sent")
    except SignaturesMissing as error:
        lines.append(error.what[:1].upper() + error.what[1:])
    if proposal.then:
        lines.append(
            f"A second change will add {len(proposal.then)} keys to the agency, once it has its number"
        )
    return lines


# --- what the options say ----------------------------------------------------------------------


def names_of(values: Sequence[str]) -> dict[str, str]:
    """LANG=NAME as names by language. Raises Usage, DocumentFormatError."""
    names: dict[str, str] = {}
    for value in values:
        language, equals, text = value.partition("=")
        if not equals or not language or not text:
            raise Usage(
                f"{printable(value)!r} is not LANG=NAME", where="--name", fix="write it like en=Registry"
            )
        if language in names:
            raise Usage(f"{language} is given twice", where="--name")
        check_composed(f"--name {language}", text)
        names[language] = text
    return names


def new_keys(paths: Sequence[Path], first: int = 1) -> tuple[NewKey, ...]:
    """The public keys in these files, numbered from ``first``. Raises Usage, KeyFileError, FileProblem."""
    keys: list[NewKey] = []
    for number, path in enumerate(paths, first):
        public = load_public_key(path)
        if public.use not in USES:
            raise Usage(f"a key for {public.use} is no agency's", where=str(path))
        if any(one.public_key == public.key for one in keys):
            raise Usage("one key is given twice", where="--key")
        keys.append(NewKey(number, public.algorithm, public.key, public.use, public.label))
    return tuple(keys)


def agency(number: int) -> Subject:
    """The subject of an agency's changes."""
    return Subject("agency", number)
