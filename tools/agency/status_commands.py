"""``sudur agency revoke``, ``suspend``, ``reinstate``, ``supersede``, ``affirm``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Final

import typer

from ledger.canonical_json import Json
from ledger.leaves import NONE
from ledger.records import REASONS, Affirm, Status, StatusChange
from ledger.references import reference_text
from ledger.registry_records import AgencyRecord
from ledger.signing_policy import DAY_MS
from tools.agency.acting import Prepare, act, finish_earlier
from tools.agency.session import Session
from tools.agency.session_command import in_session
from tools.agency.subjects import FINAL, Selection, Subject, Subjects, listed, named
from tools.errors import Usage
from tools.options import Json_
from tools.ui import emit_json, progress, remark, say

STATUS_WORK: Final = "status"
AFFIRM_WORK: Final = "affirm"
_SHOWN: Final = 5

_Which = Annotated[
    list[str] | None,
    typer.Argument(metavar="DOCUMENT", help="An index, a receipt file, or ref: and a reference number."),
]
_List = Annotated[
    Path | None,
    typer.Option("--list", metavar="FILE", exists=True, dir_okay=False, help="The same, one a line."),
]
_ByKey = Annotated[
    int | None,
    typer.Option("--by-key", metavar="K", min=1, max=65_535, help="All that key K of the agency signed."),
]
_Since = Annotated[
    int | None,
    typer.Option(
        "--since",
        metavar="INDEX",
        min=0,
        help="Only what stands at this index of the log or after it.",
    ),
]
_Until = Annotated[
    int | None,
    typer.Option(
        "--until",
        metavar="INDEX",
        min=0,
        help="Only what stands at this index of the log or before it.",
    ),
]
_From = Annotated[
    str | None, typer.Option("--from", metavar="DAY", help="All since this day (YYYY-MM-DD, UTC) …")
]
_To = Annotated[str | None, typer.Option("--to", metavar="DAY", help="… through this day.")]
_Of = Annotated[
    int | None,
    typer.Option("--of", metavar="AGENCY", min=1, help="An agency below this one, whose documents they are."),
]
_Reason = Annotated[
    int,
    typer.Option(
        metavar="N",
        min=0,
        max=255,
        help="Why, public for ever: " + ", ".join(f"{n} {text}" for n, text in REASONS.items()) + ".",
    ),
]
_Yes = Annotated[bool, typer.Option("--yes", help="Do not ask first.")]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be changed; change nothing.")]


@dataclass(frozen=True, slots=True)
class Chosen:
    """How a command line names its subjects."""

    which: Sequence[str] = ()
    list_: Path | None = None
    by_key: int | None = None
    since: int | None = None
    until: int | None = None
    from_: str | None = None
    to: str | None = None
    of: int | None = None
    changed_by_key: int | None = None

    @property
    def is_scan(self) -> bool:
        return any(one is not None for one in (self.by_key, self.from_, self.to, self.changed_by_key))

    def check(self) -> None:
        """Raises Usage unless it names something, in one way."""
        ways = [bool(self.which), self.list_ is not None, self.is_scan]
        if sum(ways) != 1:
            raise Usage(
                "say which documents, in one way",
                where="DOCUMENT",
                fix="name them, or give --list FILE, --by-key K, or --from and --to",
            )
        if not self.is_scan and (self.since is not None or self.until is not None):
            raise Usage("goes with --by-key, --from or --to", where="--since and --until")
        if self.by_key is not None and self.changed_by_key is not None:
            raise Usage("are two different things", where="--by-key and --changed-by-key")

    def selection(self, agency: int, enrolled: int) -> Selection:
        key = self.by_key if self.changed_by_key is None else self.changed_by_key
        return Selection(
            agency,
            key,
            max(self.since or 0, enrolled),
            self.until,
            _day_ms(self.from_, "--from") if self.from_ is not None else 0,
            _day_ms(self.to, "--to") + DAY_MS if self.to is not None else None,
        )


@in_session
def revoke(
    session: Session,
    which: _Which = None,
    list_: _List = None,
    by_key: _ByKey = None,
    since: _Since = None,
    until: _Until = None,
    from_: _From = None,
    to: _To = None,
    of: _Of = None,
    reason: _Reason = 0,
    dry_run: _DryRun = False,
    yes: _Yes = False,
    prepare: Prepare = None,
    as_json: Json_ = False,
) -> None:
    """Revoke documents or attestations, for ever.

    One by one, from a list, or all that a key signed or a period saw. What is revoked already is passed
    over, so the same command can be given again after any interruption.

    Example: sudur agency revoke 5012 --reason 1 --dir registry --node 127.0.0.1:7070
    """
    chosen = Chosen(which or (), list_, by_key, since, until, from_, to, of)
    _change(session, Status.REVOKED, chosen, reason, NONE, dry_run, yes, prepare, as_json)


@in_session
def suspend(
    session: Session,
    which: _Which = None,
    list_: _List = None,
    by_key: _ByKey = None,
    since: _Since = None,
    until: _Until = None,
    from_: _From = None,
    to: _To = None,
    of: _Of = None,
    reason: _Reason = 0,
    dry_run: _DryRun = False,
    yes: _Yes = False,
    prepare: Prepare = None,
    as_json: Json_ = False,
) -> None:
    """Suspend documents or attestations until they are reinstated, or revoked.

    Example: sudur agency suspend --list doubtful.txt --dir registry --node 127.0.0.1:7070
    """
    chosen = Chosen(which or (), list_, by_key, since, until, from_, to, of)
    _change(session, Status.SUSPENDED, chosen, reason, NONE, dry_run, yes, prepare, as_json)


@in_session
def reinstate(
    session: Session,
    which: _Which = None,
    list_: _List = None,
    by_key: _ByKey = None,
    since: _Since = None,
    until: _Until = None,
    from_: _From = None,
    to: _To = None,
    of: _Of = None,
    changed_by_key: Annotated[
        int | None,
        typer.Option(
            "--changed-by-key",
            metavar="K",
            min=1,
            max=65_535,
            help="All whose status key K changed: undoes what a thief revoked.",
        ),
    ] = None,
    reason: _Reason = 0,
    dry_run: _DryRun = False,
    yes: _Yes = False,
    prepare: Prepare = None,
    as_json: Json_ = False,
) -> None:
    """Make suspended documents valid again; and what a stolen key revoked or superseded.

    A revocation is final, but for one that a key made after it was stolen, once the authority has declared
    the theft.

    Example: sudur agency reinstate --changed-by-key 2 --since 81344 --dir registry --node 127.0.0.1:7070
    """
    chosen = Chosen(which or (), list_, by_key, since, until, from_, to, of, changed_by_key)
    _change(session, Status.VALID, chosen, reason, NONE, dry_run, yes, prepare, as_json)


@in_session
def supersede(
    session: Session,
    which: _Which = None,
    list_: _List = None,
    by_: Annotated[
        str | None,
        typer.Option(
            "--by",
            metavar="DOCUMENT",
            help="The document in its place. Think first: whoever has the one can then find the other.",
        ),
    ] = None,
    of: _Of = None,
    reason: _Reason = 0,
    dry_run: _DryRun = False,
    yes: _Yes = False,
    prepare: Prepare = None,
    as_json: Json_ = False,
) -> None:
    """Say that newer documents have taken the place of these, for ever.

    Example: sudur agency supersede 5012 --dir registry --node 127.0.0.1:7070
    """
    chosen = Chosen(which or (), list_, of=of)
    if by_ is not None and (list_ is not None or len(which or ()) != 1):
        raise Usage("names what takes the place of one document", where="--by")
    replacement = NONE if by_ is None else named([by_])[0]
    _change(session, Status.SUPERSEDED, chosen, reason, replacement, dry_run, yes, prepare, as_json)


@in_session
def affirm(
    session: Session,
    first: Annotated[int, typer.Argument(metavar="FIRST", min=0, help="The first index that is genuine.")],
    last: Annotated[int, typer.Argument(metavar="LAST", min=0, help="The last one, inclusive.")],
    of: _Of = None,
    yes: _Yes = False,
    prepare: Prepare = None,
    as_json: Json_ = False,
) -> None:
    """After a key theft: say that the agency's leaves from FIRST to LAST are genuine.

    Revoke first what is not: an affirmation covers the whole range. sudur agency reconcile names what the
    agency did not issue.

    Example: sudur agency affirm 81344 81501 --dir registry --node 127.0.0.1:7070
    """
    finish_earlier(session)
    target = session.agency if of is None else of
    record = AgencyRecord.decode(session.client.record(f"agency/{target}").record)
    known = next((one for one in record.affirmed if one.first <= first and last <= one.last), None)
    if known is None and not yes:
        _ask(f"Affirm all leaves of agency {target} from {first} to {last}?")
    if known is None:
        leaf = Affirm(session.agency, target, first, last).encode()
        acted = act(session, AFFIRM_WORK, [leaf], {"target": target}, prepare)
        if acted.placed is None:
            return
    if as_json:
        emit_json({"agency": target, "first": str(first), "last": str(last), "already": known is not None})
    else:
        already = " already" if known is not None else ""
        say(f"The leaves of agency {target} from {first} to {last} are affirmed{already}")


def _change(
    session: Session,
    to: Status,
    chosen: Chosen,
    reason: int,
    replacement: int,
    dry_run: bool,
    yes: bool,
    prepare: Path | None,
    as_json: bool,
) -> None:
    chosen.check()
    finish_earlier(session)
    subjects = Subjects(session)
    found = _find(session, subjects, chosen)
    with progress("Looking at each", len(found)) as advance:
        looked = []
        for index in found:
            looked.append(subjects.get(index))
            advance(1)
    meant, passed = _sort(looked, to, undo=chosen.changed_by_key is not None)
    _tell(meant, passed, to)
    if dry_run or not meant:
        _report([], passed, meant if dry_run else [], as_json)
        return
    if not yes and (to in FINAL or chosen.is_scan):
        _ask(f"{_DOING[to]} {len(meant)}?")
    records = [
        StatusChange(session.agency, one.index, one.latest, to, reason, replacement).encode() for one in meant
    ]
    note: dict[str, Json] = {"to": to.name.lower(), "subjects": len(meant)}
    acted = act(session, STATUS_WORK, records, note, prepare)
    changed = [] if acted.placed is None else list(zip(meant, acted.indexes(), strict=True))
    published = not changed or session.publication.is_published(changed[-1][1])
    _report(changed, passed, [], as_json, published=published)


_DOING: Final = {
    Status.VALID: "Reinstate",
    Status.REVOKED: "Revoke, for ever,",
    Status.SUSPENDED: "Suspend",
    Status.SUPERSEDED: "Supersede, for ever,",
}


def _find(session: Session, subjects: Subjects, chosen: Chosen) -> list[int]:
    if chosen.which:
        return list(dict.fromkeys(named(chosen.which)))
    if chosen.list_ is not None:
        return list(dict.fromkeys(listed(chosen.list_)))
    target = session.agency if chosen.of is None else chosen.of
    record = AgencyRecord.decode(session.client.record(f"agency/{target}").record)
    wanted = chosen.selection(target, record.enrolled)
    look: Callable[[Selection, Callable[[int], None]], list[int]]
    look = subjects.signed if chosen.changed_by_key is None else subjects.changed
    with progress("Reading the log", max(subjects.size - wanted.since, 0)) as advance:
        return look(wanted, advance)


def _sort(
    looked: Sequence[Subject], to: Status, *, undo: bool
) -> tuple[list[Subject], list[tuple[Subject, str]]]:
    """What is to be changed, and what is passed over and why."""
    meant, passed = [], []
    for one in looked:
        if one.status is to:
            passed.append((one, f"is {to.name.lower()} already"))
        elif one.status in FINAL and not undo:
            passed.append((one, f"is {one.status.name.lower()} for good"))
        else:
            meant.append(one)
    return meant, passed


def _tell(meant: Sequence[Subject], passed: Sequence[tuple[Subject, str]], to: Status) -> None:
    for one in meant[:_SHOWN]:
        remark(
            f"  {one.index} ({reference_text(one.index)}), of agency {one.agency}:"
            f" {one.status.name.lower()} → {to.name.lower()}"
        )
    if len(meant) > _SHOWN:
        remark(f"  and {len(meant) - _SHOWN} more, up to index {max(one.index for one in meant)}")
    for one, why in passed[:_SHOWN]:
        remark(f"  {one.index} {why}")
    if len(passed) > _SHOWN:
        remark(f"  and {len(passed) - _SHOWN} more are passed over")


def _report(
    changed: Sequence[tuple[Subject, int]],
    passed: Sequence[tuple[Subject, str]],
    would: Sequence[Subject],
    as_json: bool,
    *,
    published: bool = True,
) -> None:
    if not published:
        remark("Committed, not yet witnessed: verifiers see it once witnesses have cosigned.")
    if as_json:
        emit_json(
            {
                "changed": [{"subject": str(one.index), "index": str(at)} for one, at in changed],
                "passed_over": [{"subject": str(one.index), "why": why} for one, why in passed],
                "would_change": [str(one.index) for one in would],
                "published": published,
            }
        )
    else:
        say(f"{len(changed)} changed" + (f", {len(passed)} passed over" if passed else ""))


def _ask(question: str) -> None:
    """Raises Usage when nobody is there to answer, or the answer is no."""
    if not sys.stdin.isatty():
        raise Usage("nobody is there to confirm it", where="--yes", fix="give --yes, or --dry-run to look")
    if not typer.confirm(question, err=True):
        raise Usage("nothing was changed")


def _day_ms(text: str, where: str) -> int:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise Usage(f"{text!a} is no day", where=where, fix="write it as YYYY-MM-DD") from None
    return (day - date(1970, 1, 1)).days * DAY_MS
