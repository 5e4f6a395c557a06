"""``sudur audit``: everything that a ledger says, replayed and compared; once, or for ever."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ledger.trust import TrustedLedger
from tools.audit.compare_command import compare_sources
from tools.audit.engine import AuditedLog, forget_replayed, wall_ms
from tools.audit.helper import HelperFeed
from tools.audit.rounds import Rounds
from tools.audit.sources import open_source
from tools.default_command import group_with_default
from tools.options import Json_, TrustFile, tls_of_command
from tools.pinning import load_trust, only_ledger
from tools.ui import emit_json, say

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
    rebuild: Annotated[
        bool,
        typer.Option("--rebuild", help="Begin anew; the checkpoints that were seen are kept, and hold."),
    ] = False,
    as_json: Json_ = False,
) -> None:
    """Replay a ledger from public static resources alone, and compare all that is served with it.

    Nothing is believed but the trust file: every entry goes through the rules, every root, seal, status
    chunk, registry record and figure is recomputed, and each checkpoint has to extend all that were seen
    before. Run it again at any time: it goes on where it stands.

    Exit codes: 0 clean; 1 a lie was found, and where its evidence is; 2 cannot tell (nobody answers, behind,
    not witnessed); 64 wrong usage.

    Example: sudur audit http://localhost:7080 --trust trust.json --state audit
    """
    ledger = only_ledger(load_trust(trust))
    raise typer.Exit(_once(source, ledger, state, rebuild, as_json))


def _once(where: str, ledger: TrustedLedger, directory: Path, rebuild: bool, as_json: bool) -> int:
    if rebuild and directory.is_dir():
        forget_replayed(directory)
    tls = tls_of_command()
    source = open_source(where, tls)
    try:
        with AuditedLog.open(directory, ledger) as log:
            report = Rounds(log, source, clock_ms=wall_ms, feed=HelperFeed(where, tls, with_tiles=True)).run()
    finally:
        source.close()
    if as_json:
        emit_json(report.to_json())
    else:
        say("\n".join(report.lines()))
    return report.exit_code
