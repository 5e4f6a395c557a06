"""``sudur figures``: what agencies did, and how long they left others waiting; and whether it is so."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

from ledger.canonical_json import Json
from ledger.changes import AUTHORITY, MAX_AGENCY
from ledger.figures import Backlog, Delays, FigureKey, month_text
from ledger.inquiries import AsOf, as_of_json
from ledger.records import SendKind
from ledger.reports import (
    BY_DAY,
    Exchanged,
    Month,
    Report,
    backlog_json,
    delay_text,
    delays_json,
    figures_csv,
    key_text,
    report,
    report_json,
)
from ledger.resources import checkpoint_path, fetch_leaves
from ledger.state import State
from tools.answers import FiguresAnswer
from tools.audit.engine import AuditedLog, Watch
from tools.audit.index import first_difference
from tools.describe import moment
from tools.errors import AnswerWrong, FiguresDiffer, Usage
from tools.inquiring import Inquiry, ask
from tools.options import Json_, MaybeNode
from tools.pinning import ledger_of, load_trust, trusted_by_genesis
from tools.ui import emit_json, printable, progress, remark, say

_MONTH: Final = re.compile(r"([1-9][0-9]{3})-(0[1-9]|1[0-2])", re.ASCII)
_KINDS: Final = {SendKind.REQUEST: "requests", SendKind.CIRCULATED: "circulated"}


def figures(
    agency: Annotated[
        int,
        typer.Argument(
            metavar="[AGENCY]", min=0, max=MAX_AGENCY, help="The agency's number; 0: the whole ledger."
        ),
    ] = AUTHORITY,
    node: MaybeNode = None,
    url: Annotated[
        str | None, typer.Option("--url", metavar="URL", help="Ask over HTTP, like http://localhost:7080.")
    ] = None,
    month: Annotated[
        str | None, typer.Option(metavar="YYYY-MM", help="This month alone (UTC); what is open is as of now.")
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print every counter as a row.")] = False,
    ranking: Annotated[
        bool, typer.Option("--ranking", help="All agencies in one table, the most overdue first.")
    ] = False,
    recompute: Annotated[
        bool,
        typer.Option(
            "--recompute",
            help="Replay the whole log and compare every counter; of all agencies, when none is named.",
        ),
    ] = False,
    trust: Annotated[
        Path | None,
        typer.Option(
            metavar="TRUST.json",
            exists=True,
            dir_okay=False,
            help="With --recompute: the log must be the one that this trust file pins.",
        ),
    ] = None,
    as_json: Json_ = False,
) -> None:
    """Print figures: documents, status changes, requests and answers by month, what is open and overdue.

    An agency's figures include those of all agencies below it. With --recompute nothing is believed:
    exit 0 means that the log, replayed by its rules, comes to the very same numbers.

    Exit codes: 0 printed, or the same; 1 another number, or a log that breaks its rules; 2 nobody
    answers; 64 wrong usage.

    Example: sudur figures 7 --url http://localhost:7080 --month 2026-03
    """
    wanted = _month(month)
    if sum((as_csv, as_json)) > 1 or sum((as_csv, ranking, recompute)) > 1:
        raise Usage("choose one", where="--csv, --json, --ranking, --recompute")
    if trust is not None and not recompute:
        raise Usage("is of use with --recompute only", where="--trust")
    inquiry = ask(node, url)
    try:
        if recompute:
            _recompute(inquiry, agency, trust, as_json)
        elif ranking:
            _rank(inquiry, wanted, as_json)
        else:
            _print(inquiry.figures(agency), wanted, as_csv, as_json)
    finally:
        inquiry.close()


def _month(text: str | None) -> int | None:
    """The number of a month since January 1970. Raises Usage."""
    if text is None:
        return None
    match = _MONTH.fullmatch(text)
    if match is None or int(match[1]) < 1970:
        raise Usage(f"{text!a} is no month", where="--month", fix="write it like 2026-03")
    return (int(match[1]) - 1970) * 12 + int(match[2]) - 1


def _print(answer: FiguresAnswer, month: int | None, as_csv: bool, as_json: bool) -> None:
    if as_csv:
        kept = {
            key: count
            for key, count in answer.figures.items()
            if month is None or key.metric in BY_DAY or key.period == month
        }
        say(figures_csv(answer.agency.number, kept, answer.as_of).rstrip("\r\n"))
        return
    made = report(answer.agency.number, answer.figures, answer.as_of, month)
    if as_json:
        emit_json(report_json(made, answer.agency.names))
    else:
        say("\n".join(_lines(made, answer.agency.names)))


# --- as text -----------------------------------------------------------------------------------


def _lines(made: Report, names: Mapping[str, str]) -> list[str]:
    as_of = f"As of {moment(made.as_of.time_ms)}, {made.as_of.size} entries."
    lines = [_whose(made.agency, names), f"{as_of} Not proven: --recompute checks it."]
    lines += ["", f"{'Waiting for an answer':<24}{'open':>10}{'overdue':>10}{'median age':>14}{'oldest':>12}"]
    for kind, backlog in made.backlogs.items():
        ages = [_days(backlog.median_age), _days(backlog.oldest_age)]
        lines.append(f"  {_KINDS[kind]:<22}{backlog.open:>10}{backlog.overdue:>10}{ages[0]:>14}{ages[1]:>12}")
    lines += ["", f"{'Time to the answer':<24}{'answers':>10}{'median':>18}{'nine of ten':>18}"]
    for kind, delays in made.delays.items():
        lines.append(f"  {_KINDS[kind]:<22}{delays.answers:>10}{_median(delays):>18}{_ninth(delays):>18}")
    for month in made.months:
        lines += ["", *_month_lines(month)]
    return lines


def _whose(agency: int, names: Mapping[str, str]) -> str:
    if agency == AUTHORITY:
        return "The whole ledger"
    return f"{_names(names)} (agency {agency}), with all agencies below it"


def _names(names: Mapping[str, str]) -> str:
    return " / ".join(printable(name) for name in names.values())


def _month_lines(month: Month) -> Iterator[str]:
    yield month_text(month.month)
    if month.documents:
        parts = [f"type {t} {b.name.lower()} {n}" for (t, b), n in month.documents.items()]
        yield f"  documents:     {sum(month.documents.values())} ({', '.join(parts)})"
    if month.statuses:
        yield f"  status set to: {', '.join(f'{s.name.lower()} {n}' for s, n in month.statuses.items())}"
    if month.attestations:
        parts = [f"kind {kind} {count}" for kind, count in month.attestations.items()]
        yield f"  attestations:  {sum(month.attestations.values())} ({', '.join(parts)})"
    for kind, one in month.exchanged.items():
        if any((one.sent, one.asked, one.reminded, one.received, one.delays.answers)):
            yield f"  {_KINDS[kind] + ':':<15}{_exchanged(one)}"


def _exchanged(one: Exchanged) -> str:
    text = (
        f"sent {one.sent}, asked {one.asked}, reopened {one.reopened}, reminded {one.reminded},"
        f" received {one.received}, answered {one.answered}, returned {one.returned}, late {one.late}"
    )
    if one.delays.answers:
        text += f"; median {_median(one.delays)}, nine of ten {_ninth(one.delays)}"
    return text


def _median(delays: Delays) -> str:
    return delay_text(delays.median_ms) if delays.answers else "-"


def _ninth(delays: Delays) -> str:
    return delay_text(delays.ninth_ms) if delays.answers else "-"


def _days(age: int | None) -> str:
    return "-" if age is None else f"{age} day{'' if age == 1 else 's'}"


# --- all agencies ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Ranked:
    """An agency's place in the table of one kind of SEND."""

    kind: SendKind
    agency: int
    names: Mapping[str, str]
    as_of: AsOf
    backlog: Backlog
    delays: Delays

    @property
    def place(self) -> tuple[int, int, float]:
        """The most overdue first, then the most open, then the slowest."""
        slow = 0.0 if not self.delays.answers else self.delays.median_ms or float("inf")
        return -self.backlog.overdue, -self.backlog.open, -slow


def _rank(inquiry: Inquiry, month: int | None, as_json: bool) -> None:
    """One call an agency, about 10 ms each."""
    count = inquiry.agencies()
    found: dict[SendKind, list[_Ranked]] = {kind: [] for kind in SendKind}
    with progress("agencies", count) as tell:
        for number in range(1, count + 1):
            answer = inquiry.figures(number)
            made = report(number, answer.figures, answer.as_of, month)
            for kind, ranked in found.items():
                if made.backlogs[kind].open or made.delays[kind].answers:
                    backlog, delays = made.backlogs[kind], made.delays[kind]
                    ranked.append(_Ranked(kind, number, answer.agency.names, made.as_of, backlog, delays))
            tell(1)
    rows = [one for ranked in found.values() for one in sorted(ranked, key=lambda one: one.place)]
    if as_json:
        emit_json([_rank_json(one) for one in rows])
        return
    if not rows:
        say("No agency was asked for anything.")
    kind_before = None
    for one in rows:
        if one.kind is not kind_before:
            say(f"{_KINDS[one.kind]:<12}{'open':>8}{'overdue':>9}{'oldest':>11}{'median':>16}  agency")
            kind_before = one.kind
        oldest, median = _days(one.backlog.oldest_age), _median(one.delays)
        whose = f"{one.agency} {_names(one.names)}"
        say(f"{'':<12}{one.backlog.open:>8}{one.backlog.overdue:>9}{oldest:>11}{median:>16}  {whose}")
    if rows:
        say("Each agency with all below it. Not proven: --recompute checks it.")


def _rank_json(one: _Ranked) -> Json:
    return {
        "kind": one.kind.name.lower(),
        "agency": one.agency,
        "names": dict(one.names),
        **as_of_json(one.as_of),
        **backlog_json(one.backlog),
        "delays": delays_json(one.delays),
    }


# --- recomputed --------------------------------------------------------------------------------


def _recompute(inquiry: Inquiry, agency: int, trust_path: Path | None, as_json: bool) -> None:
    """Audit the log up to the newest size that was answered for, and compare at each.

    Raises FiguresDiffer for the first counter that is not the same, and as :meth:`AuditedLog.advance`.
    """
    trust = None if trust_path is None else load_trust(trust_path)
    numbers = [agency] if agency != AUTHORITY else range(inquiry.agencies() + 1)
    answers: dict[int, list[FiguresAnswer]] = {}
    for number in numbers:
        answer = inquiry.figures(number)
        answers.setdefault(answer.as_of.size, []).append(answer)
    end = max(answers)
    note = inquiry.resources.fetch(checkpoint_path(end))
    if trust is None:
        remark("Without --trust the checkpoint is the node's word: two nodes might show two logs")
        (genesis,) = fetch_leaves(inquiry.resources, 0, 1, end)
        ledger = trusted_by_genesis(genesis)
    else:
        ledger = ledger_of(trust, note)
    compared = 0
    with (
        tempfile.TemporaryDirectory(prefix="sudur-replay-") as directory,
        AuditedLog.open(Path(directory), ledger) as log,
        progress("entries", end) as tell,
    ):

        def block(state: State) -> None:
            nonlocal compared
            for answer in answers.pop(state.size, ()):
                compared += _compare(answer, state.time_ms, log.figures(answer.agency.number))

        log.advance(inquiry.resources, log.open_note(note), watch=Watch(moved=tell, block=block))
    if answers:
        raise AnswerWrong("the node's sizes are not those of its blocks", where=f"size {min(answers)}")
    if as_json:
        emit_json({"same": True, "counters": compared, "agencies": len(numbers), "entries": end})
    else:
        say(f"The same: {compared} counters of {_many(len(numbers))}, recomputed from {end} entries.")


def _compare(answer: FiguresAnswer, time_ms: int, replayed: Mapping[FigureKey, int]) -> int:
    """How many counters were the same. Raises FiguresDiffer."""
    number = answer.agency.number
    if answer.as_of.time_ms != time_ms:
        raise FiguresDiffer(
            f"the node says as of {answer.as_of.time_ms} ms, the log {time_ms}", where=f"agency {number}"
        )
    found = first_difference(answer.figures, replayed)
    if found is not None:
        key, stated, counted = found
        raise FiguresDiffer(
            f"the node says {stated} for {key_text(key)}, its log comes to {counted}",
            where=f"agency {number}",
            fix="keep the checkpoint and the node's answer, and report both to the authority",
        )
    return len(answer.figures)


def _many(agencies: int) -> str:
    return "1 agency" if agencies == 1 else f"{agencies} agencies (the whole ledger, agency 0, among them)"
