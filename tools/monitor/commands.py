"""``sudur agency reconcile``: the agency's monitor as a command, for a person, for cron, or as a service."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Final

import typer

from ledger.canonical_json import Json
from ledger.errors import SudurError
from tools.agency.directory import AgencyDirectory, Membership
from tools.agency.outbox import Outbox
from tools.agency.session import known_membership, pinned
from tools.client import LedgerClient
from tools.describe import moment
from tools.errors import (
    EXIT_NOT_GENUINE,
    EXIT_OK,
    CannotTell,
    DirectoryInUse,
    LogAlarm,
    NameTaken,
    Unavailable,
    Usage,
)
from tools.files import locked, make_private_directory, write_new_file
from tools.monitor.findings import Finding
from tools.monitor.habits import BAGHDAD, OfficeHours, parse_hours, parse_weekend
from tools.monitor.monitor import Judging, Monitor, Reading, acknowledge
from tools.monitor.registers import OtherRegister
from tools.monitor.report import Where, evidence_name, report_json, report_lines
from tools.monitor.state import last_agreed
from tools.options import NODES, PassphraseFile, connect, node_resources
from tools.register.store import Register
from tools.ui import Passphrase, emit_json, progress, remark, say

app = typer.Typer(invoke_without_command=True)

_PATIENCE_S: Final = 60.0
_PAUSE_S: Final = 5.0

_Dir = Annotated[
    Path | None, typer.Option("--dir", metavar="DIR", help="The agency's directory.", show_default=False)
]


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What the command line says."""

    directory: Path
    node: str
    start: int | None
    also: Sequence[Path]
    office: OfficeHours | None
    offset: int
    agency: int | None
    trust: Path | None
    url: str | None
    passphrase: Passphrase
    as_json: bool
    quiet: bool
    follow: bool


@app.callback()
def reconcile(
    context: typer.Context,
    directory: _Dir = None,
    node: Annotated[
        str | None, typer.Option(metavar=NODES, help="The node's gRPC address, like 127.0.0.1:7070.")
    ] = None,
    start: Annotated[
        int | None,
        typer.Option(
            "--from",
            metavar="INDEX",
            min=0,
            help="Read again from this index. Default: where the last ended.",
        ),
    ] = None,
    also: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="OTHER.db",
            exists=True,
            dir_okay=False,
            help="The register of another office of this agency. Repeatable.",
        ),
    ] = None,
    hours: Annotated[
        str | None,
        typer.Option(metavar="HH:MM-HH:MM", help="The office's hours. Default: learned from its history."),
    ] = None,
    weekend: Annotated[
        str, typer.Option(metavar="DAYS", help="With --hours: the days off, like fri,sat.")
    ] = "fri,sat",
    offset: Annotated[
        int, typer.Option("--utc-offset", metavar="HOURS", min=-12, max=14, help="The local time.")
    ] = BAGHDAD,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on for ever, and tell of each new block's at once.")
    ] = False,
    agency: Annotated[
        int | None, typer.Option("--agency", min=1, help="The agency's number, where none of its keys lies.")
    ] = None,
    trust: Annotated[
        Path | None,
        typer.Option(
            metavar="TRUST.json",
            exists=True,
            dir_okay=False,
            help="The authority's trust file: pins the ledger, at first use.",
        ),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option("--url", metavar="URL", help="Static resources elsewhere than the node says."),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Print nothing while there is no alarm and nothing new.")
    ] = False,
    passphrase_file: PassphraseFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a script.")] = False,
) -> int:
    """Compare every leaf of the log in the agency's name with its register.

    The first time from the agency's enrolment, then from where the last reading ended; each leaf is
    hashed, and all must agree with a signed checkpoint that extends the last one. Exit code 0: all is
    well; 1: an alarm, or one that nobody has acknowledged yet; 2: cannot tell.

    Example: sudur agency reconcile --dir registry --node 127.0.0.1:7070
    """
    if context.invoked_subcommand is not None:
        return EXIT_OK
    if directory is None or node is None:
        raise Usage("is missing", where="--dir" if directory is None else "--node")
    wanted = _Wanted(
        directory,
        node,
        start,
        also or (),
        None if hours is None else _office(hours, weekend),
        offset,
        agency,
        trust,
        url,
        Passphrase(passphrase_file),
        as_json,
        quiet,
        follow,
    )
    with _opened(wanted, math.inf if follow else _PATIENCE_S) as (monitor, client):
        reading = _read(monitor, wanted)
        _report(monitor, reading, wanted)
        if follow:
            _follow(monitor, client, reading, wanted)
        return EXIT_NOT_GENUINE if reading.alarms else EXIT_OK


@app.command("acknowledge")
def acknowledge_(
    directory: Annotated[Path, typer.Option("--dir", metavar="DIR", help="The agency's directory.")],
    why: Annotated[str, typer.Option(metavar="TEXT", help="Why it is right after all; kept in the journal.")],
    index: Annotated[
        list[int] | None, typer.Argument(metavar="[INDEX]...", min=0, help="What the alarms are about.")
    ] = None,
    log: Annotated[
        bool, typer.Option("--log", help="Also the alarms about the log or the register themselves.")
    ] = False,
    passphrase_file: PassphraseFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a script.")] = False,
) -> None:
    """Say that alarms are answered for; they are alarms no more, but shown in every report.

    Example: sudur agency reconcile acknowledge 5012 --why "Sent from the old machine" --dir registry
    """
    if not index and not log:
        raise Usage("name the index of an alarm, or --log", where="INDEX")
    here = AgencyDirectory.open(directory)
    with locked(here.path), Register.open(here, Passphrase(passphrase_file)) as register:
        settled = acknowledge(register, index or (), log, why)
    if as_json:
        emit_json([one.to_json() for one in settled])
    else:
        say(f"Acknowledged: {len(settled)}")


# --- reading -----------------------------------------------------------------------------------


@contextmanager
def _opened(wanted: _Wanted, patience_s: float) -> Iterator[tuple[Monitor, LedgerClient]]:
    """A monitor of the directory's agency; its errors say when all was last read."""
    here = AgencyDirectory.open(wanted.directory)
    said = ""
    try:
        with ExitStack() as stack:
            others = [stack.enter_context(OtherRegister(path)) for path in wanted.also]
            client = stack.enter_context(connect(wanted.node))
            with _lock(here.path, patience_s):
                register = None
                if here.membership() is not None:  # else it may be no agency's directory at all
                    register = stack.enter_context(Register.open(here, wanted.passphrase))
                    said = _last(last_agreed(register))
                ledger, resources_url = pinned(here, client, wanted.trust, False)
                membership = _membership(here, client, wanted.agency)
                if register is None:
                    register = stack.enter_context(Register.open(here, wanted.passphrase))
                Outbox(register, ledger, membership.agency)  # refuses the register of another agency
            resources = stack.enter_context(node_resources(client, resources_url, wanted.url))
            held = {
                one.public.key for use in ("submit", "registry", "envelope") for one in here.key_files(use)
            }
            judging = Judging(others, wanted.offset, wanted.office, frozenset(held))
            yield (
                Monitor(
                    register,
                    client,
                    resources,
                    ledger,
                    membership.agency,
                    judging,
                    lambda: _lock(here.path, patience_s),
                ),
                client,
            )
    except (Usage, LogAlarm, CannotTell):
        raise
    except SudurError as error:
        raise CannotTell(f"{error.what}{said}", where=error.where, fix=error.fix) from None


def _membership(here: AgencyDirectory, client: LedgerClient, agency: int | None) -> Membership:
    """Whose directory it is; where none of the agency's keys lies, the number has to be said."""
    known = here.membership()
    files = here.key_files("submit")
    if known is None and not files and agency is None:
        raise Usage("no key of the agency lies here", where="--agency", fix="give the agency's number")
    if known is not None and agency in (None, known.agency):
        return known
    return known_membership(here, client, agency, files)


def _read(monitor: Monitor, wanted: _Wanted) -> Reading:
    with progress("Reading the log", None) as advance:
        return monitor.read(wanted.start, advance)


def _report(monitor: Monitor, reading: Reading, wanted: _Wanted) -> None:
    """Print a reading, keep the evidence that it has, and remember that it was told."""
    for one in reading.news:
        _keep_evidence(wanted.directory, one)
    where = Where(wanted.directory, wanted.node)
    if wanted.quiet and not reading.news and not reading.alarms:
        pass
    elif wanted.as_json and wanted.follow:
        _emit_line(report_json(reading, where))
    elif wanted.as_json:
        emit_json(report_json(reading, where))
    else:
        for line in report_lines(reading, where):
            say(line)
    monitor.tell(reading.news)


def _follow(monitor: Monitor, client: LedgerClient, reading: Reading, wanted: _Wanted) -> None:
    """Read on with every new block, until interrupted."""
    number = 0 if reading.size == 0 else client.ledger().block
    where = Where(wanted.directory, wanted.node)
    while True:
        try:
            for block in client.watch(number):
                number = block.number + 1
                if reading.complete and block.size <= reading.size:
                    continue
                reading = monitor.read()
                for one in reading.news:
                    _keep_evidence(wanted.directory, one)
                if reading.news or not wanted.quiet:
                    _print_now(reading, where, wanted.as_json)
                monitor.tell(reading.news)
        except (Unavailable, DirectoryInUse) as error:
            remark(f"Trying again in {_PAUSE_S:.0f} s: {error}{_last(reading.agreed_ms)}")
            time.sleep(_PAUSE_S)


def _print_now(reading: Reading, where: Where, as_json: bool) -> None:
    """What is new, at once: one line of JSON, or the words; else a line that all is as it was."""
    new = replace(reading, findings=tuple(reading.news))
    if as_json:
        _emit_line(report_json(new, where))
    elif new.findings:
        for line in report_lines(new, where):
            say(line)
    else:
        alarms = f", {len(reading.alarms)} alarms are open" if reading.alarms else ""
        said = "were read" if reading.complete else "were read, NOT to the end of the log"
        say(f"{moment(reading.read_ms)}  {reading.size} leaves {said}{alarms}")


def _emit_line(value: Json) -> None:
    """JSON in one line, for a script that reads as it comes."""
    say(json.dumps(value, ensure_ascii=False))


def _last(agreed_ms: int | None) -> str:
    return "" if agreed_ms is None else f"; all was last read at {moment(agreed_ms)}"


def _keep_evidence(directory: Path, one: Finding) -> None:
    """Checkpoints that accuse a node, each in a file of its own, byte for byte."""
    for number, note in enumerate(one.facts.get("evidence", ()), 1):
        path = directory / evidence_name(one, number)
        make_private_directory(path.parent)
        try:
            write_new_file(path, note.encode())
        except NameTaken:
            continue  # by an earlier run that was cut off before it was told


# --- the command line ---------------------------------------------------------------------------


def _office(hours: str, weekend: str) -> OfficeHours:
    try:
        opens, closes = parse_hours(hours)
    except ValueError:
        raise Usage(f"{hours!r} are no hours", where="--hours", fix="write them as 07:00-16:00") from None
    try:
        return OfficeHours(opens, closes, parse_weekend(weekend))
    except ValueError:
        raise Usage(f"{weekend!r} are no days", where="--weekend", fix="write them as fri,sat") from None


@contextmanager
def _lock(directory: Path, patience_s: float, pause: Callable[[float], None] = time.sleep) -> Iterator[None]:
    """The directory's lock, waited for while another command works there. Raises DirectoryInUse."""
    until = time.monotonic() + patience_s
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(locked(directory))
                break
            except DirectoryInUse:
                if time.monotonic() >= until:
                    raise
                pause(0.1)
        yield
