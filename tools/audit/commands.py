"""``sudur audit``: everything that a ledger says, replayed and compared; once, or for ever."""

from __future__ import annotations

import signal
import threading
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Final

import structlog
import typer

from ledger.errors import SudurError
from node.logs import configure_logs
from tools.audit.compare_command import compare_sources
from tools.audit.engine import AuditedLog, Feed, Watch, forget_replayed, wall_ms
from tools.audit.following import PAUSE_S, follow
from tools.audit.helper import HelperFeed, seldom_collect
from tools.audit.metrics import AuditMetrics
from tools.audit.rounds import Rounds, Source
from tools.audit.sources import open_source
from tools.default_command import group_with_default
from tools.errors import CannotTell, Unavailable, Usage
from tools.options import Json_, TrustFile, tls_of_command
from tools.pinning import load_trust, only_ledger
from tools.ui import emit_json, say, stretch

_FIGURES_EVERY_S: Final = 600.0

app = group_with_default("run", help="Audit a whole ledger: replay every entry, recompute every root.")
app.command(name="compare")(compare_sources)

StateDirectory = Annotated[
    Path,
    typer.Option(
        metavar="DIR",
        file_okay=False,
        help="Where the audit keeps what it replayed, and the checkpoints it has seen: one for a ledger.",
    ),
]


@app.command()
def run(
    source: Annotated[
        str,
        typer.Argument(
            metavar="URL",
            help="A node, mirror or cache (http://…), a directory of static files, or a backup's directory.",
        ),
    ],
    trust: TrustFile,
    state: StateDirectory,
    follow_it: Annotated[
        bool, typer.Option("--follow", help="Go on for ever: a round every few seconds, a line for news.")
    ] = False,
    metrics: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="With --follow: serve Prometheus metrics here."),
    ] = None,
    pause: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.05, help="With --follow: between two rounds.")
    ] = PAUSE_S,
    max_age: Annotated[
        int | None,
        typer.Option(metavar="SECONDS", min=0, help="The oldest cosignatures that you accept."),
    ] = None,
    rebuild: Annotated[
        bool,
        typer.Option("--rebuild", help="Begin anew; the checkpoints that were seen are kept, and hold."),
    ] = False,
    as_json: Json_ = False,
) -> None:
    """Replay a ledger from public static resources alone, and compare all that is served with it.

    Nothing is believed but the trust file: every entry goes through the rules, every root, seal, status
    chunk, registry record and figure is recomputed, and each checkpoint has to extend all that were seen
    before. Run it again at any time: it goes on where it stands. With --follow, --json writes its lines as
    JSON.

    Exit codes: 0 clean; 1 a lie was found, and where its evidence is; 2 cannot tell (nobody answers, behind,
    not witnessed); 64 wrong usage.

    Example: sudur audit http://localhost:7080 --trust trust.json --state audit
    """
    if metrics is not None and not follow_it:
        raise Usage("is of use with --follow only", where="--metrics")
    tls = tls_of_command()
    seldom_collect()
    try:
        ledger = only_ledger(load_trust(trust))
        if rebuild and state.is_dir():
            forget_replayed(state)
        with closing(open_source(source, tls)) as served, AuditedLog.open(state, ledger) as log:
            feed = HelperFeed(source, tls)
            if follow_it:
                code = _follow(log, served, feed, metrics, pause, max_age, as_json)
            else:
                code = _once(log, served, feed, max_age, as_json)
    except (Usage, Unavailable, CannotTell):
        raise
    except SudurError as error:  # exit 1 is for lies alone, and those are in the report
        raise CannotTell(error.what, where=error.where, fix=error.fix) from error
    raise typer.Exit(code)


def _once(log: AuditedLog, source: Source, feed: Feed, max_age: int | None, as_json: bool) -> int:
    with stretch("entries", log.size) as shown:
        watch = Watch(moved=shown.moved, toward=shown.toward)
        rounds = Rounds(log, source, clock_ms=wall_ms, feed=feed, watch=watch, greatest_age_s=max_age)
        report = rounds.run()
    if as_json:
        emit_json(report.to_json())
    else:
        say("\n".join(report.lines()))
    return report.exit_code


def _follow(
    log: AuditedLog,
    source: Source,
    feed: Feed,
    address: str | None,
    pause_s: float,
    max_age: int | None,
    as_json: bool,
) -> int:
    configure_logs("json" if as_json else "console")
    shown = AuditMetrics(version("sudur"))
    if address is not None:
        structlog.get_logger("audit").info("metrics", url=shown.serve(address))
    stop = threading.Event()
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, lambda *_: stop.set())
    goal = log.size

    def toward(size: int) -> None:
        nonlocal goal
        goal = size

    def moved(more: int) -> None:
        shown.entries.inc(more)
        shown.seen(goal, log.size)

    rounds = Rounds(
        log,
        source,
        clock_ms=wall_ms,
        feed=feed,
        watch=Watch(moved=moved, toward=toward, stop=stop.is_set),
        greatest_age_s=max_age,
        figures_every_s=_FIGURES_EVERY_S,
    )
    return follow(rounds, stop, metrics=shown, pause_s=pause_s)
