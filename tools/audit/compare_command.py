"""``sudur audit compare``: what nodes, mirrors, witnesses and people show of one ledger, held together."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from ledger.canonical_json import Json
from ledger.errors import EvidenceIncomplete, SudurError
from ledger.trust import TrustedLedger
from tools.audit.accusing import DIRECTORY, judged, write_evidence
from tools.audit.compare import Comparison, Newest, compare
from tools.audit.engine import AuditedLog, wall_ms
from tools.audit.shown import Source, source_of
from tools.errors import EXIT_CANNOT_TELL, EXIT_NOT_GENUINE, EXIT_OK
from tools.options import Json_, TrustFile, static_resources
from tools.pinning import load_trust, only_ledger
from tools.ui import emit_json, printable, say


def compare_sources(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="URL|PATH…",
            help="Nodes, mirrors and witnesses by URL; kept checkpoints and receipts, or the directory of an"
            " audit, by path.",
        ),
    ],
    trust: TrustFile,
    state: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            file_okay=False,
            help="The directory of your audit: its checkpoints are compared too, what is shown is kept there,"
            " and evidence goes below it. Else evidence goes into the present directory.",
        ),
    ] = None,
    as_json: Json_ = False,
) -> None:
    """Ask several for the checkpoints that they show, and prove that all are of one history.

    The log may show different people different histories, now or once: give all that you can ask, and what
    people have kept. Two that cannot both be become an evidence file.

    Exit codes: 0 one history; 1 the log signed two, or what it must not sign; 2 cannot tell (somebody does
    not answer, or nobody shows that two are of one history); 64 wrong usage.

    Example: sudur audit compare http://node:7080 http://witness:7200 receipts/ --trust trust.json
    """
    ledger = only_ledger(load_trust(trust))
    with ExitStack() as opened:
        found = [source_of(one, ledger, static_resources) for one in sources]
        for one in found:
            if one.resources is not None:
                opened.callback(one.resources.close)
        if state is not None:
            log = opened.enter_context(AuditedLog.open(state, ledger))
            found.append(Source(str(state), "audit", [one.signed for one in log.heads.all]))
        comparison = compare(found, ledger)
        if state is not None:
            for source in found:
                for signed in source.heads:
                    log.heads.keep(signed, wall_ms())
    directory = Path() if state is None else state / DIRECTORY
    files = _written(comparison, ledger, directory)
    code = _code(comparison, found, files)
    if as_json:
        emit_json(_json(comparison, found, files, code))
    else:
        say("\n".join(_lines(comparison, found, files, code)))
    raise typer.Exit(code)


def _written(comparison: Comparison, ledger: TrustedLedger, directory: Path) -> list[tuple[Path, str]]:
    """(file, what it proves) of each piece of evidence; one that would prove nothing is not written."""
    files = []
    for evidence in comparison.evidence:
        try:
            verdict = judged(evidence, ledger)
        except SudurError as error:
            comparison.doubts.append(f"what looked like evidence proves nothing: {error}")
            continue
        what = str(verdict) if isinstance(verdict, EvidenceIncomplete) else verdict.what
        files.append((write_evidence(directory, evidence), what))
    return files


def _code(comparison: Comparison, sources: list[Source], files: list[tuple[Path, str]]) -> int:
    if files:
        return EXIT_NOT_GENUINE
    unsure = comparison.unshown or comparison.doubts or not comparison.newest
    if unsure or any(one.fault or one.foreign for one in sources):
        return EXIT_CANNOT_TELL
    return EXIT_OK


def _lines(
    comparison: Comparison, sources: list[Source], files: list[tuple[Path, str]], code: int
) -> list[str]:
    now = wall_ms()
    lines = [
        f"{printable(one.source.name)} ({one.source.kind}): {_shown(one, now)}" for one in comparison.newest
    ]
    for source in sources:
        if source.fault:
            lines.append(f"{printable(source.name)} ({source.kind}): CANNOT TELL, {printable(source.fault)}")
        lines += [
            f"{printable(source.name)}: shows what the log has not signed: {printable(one)}"
            for one in source.foreign
        ]
    lines += [f"CANNOT TELL: {printable(one)}" for one in comparison.unshown]
    lines += [f"DOUBT: {printable(one)}" for one in comparison.doubts]
    for path, what in files:
        lines.append(f"THE LOG LIED: {printable(what)}")
        lines.append(f"  Evidence: {path}")
        lines.append("  Hand it to the authority and to other auditors: sudur verify-evidence explains it.")
    checkpoints = sum(len(one.heads) for one in comparison.histories)
    if code == EXIT_OK:
        lines.append(f"ONE HISTORY: all {checkpoints} checkpoints are of one tree.")
    elif code == EXIT_NOT_GENUINE:
        lines.append(f"NOT ONE HISTORY: {checkpoints} checkpoints; proven against the log: {len(files)}.")
    else:
        lines.append(f"CANNOT TELL, see above; of {checkpoints} checkpoints none is proven another tree's.")
    return lines


def _shown(one: Newest, now_ms: int) -> str:
    checkpoint = one.signed.checkpoint
    text = f"{checkpoint.size} leaves, root {checkpoint.root.hex()[:16]}"
    text += f", {one.behind} behind the largest" if one.behind else ", the largest"
    if one.sealed_ms is not None:
        text += f", sealed {_moment(one.sealed_ms // 1000)} ({_ago(now_ms - one.sealed_ms)})"
    if one.cosigned_s is not None:
        text += f", cosigned {_moment(one.cosigned_s)}"
    if len(one.source.heads) > 1:
        text += f"; {len(one.source.heads)} checkpoints in all"
    return text


def _ago(age_ms: int) -> str:
    seconds = age_ms // 1000
    if seconds < 0:
        return "ahead of this clock"
    for unit, length in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit} ago"
    return f"{seconds} s ago"


def _moment(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return f"{seconds} s"


def _json(comparison: Comparison, sources: list[Source], files: list[tuple[Path, str]], code: int) -> Json:
    return {
        "verdict": {EXIT_OK: "one history", EXIT_NOT_GENUINE: "not one history"}.get(code, "cannot tell"),
        "sources": [
            {
                "name": one.name,
                "kind": one.kind,
                "checkpoints": len(one.heads),
                "fault": one.fault,
                "foreign": list[Json](one.foreign),
            }
            for one in sources
        ],
        "newest": [
            {
                "name": one.source.name,
                "size": str(one.signed.checkpoint.size),
                "root": one.signed.checkpoint.root.hex(),
                "behind": str(one.behind),
                "sealed_ms": None if one.sealed_ms is None else str(one.sealed_ms),
                "cosigned_s": None if one.cosigned_s is None else str(one.cosigned_s),
            }
            for one in comparison.newest
        ],
        "unshown": list[Json](comparison.unshown),
        "doubts": list[Json](comparison.doubts),
        "evidence": [{"file": str(path), "what": what} for path, what in files],
    }
