"""``sudur verify-evidence``: what an evidence file proves against a log, said in plain words."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Final, NoReturn

import typer

from ledger.canonical_json import Json
from ledger.errors import EvidenceIncomplete, SudurError, TrustFormatError
from ledger.evidence import MAX_EVIDENCE, BrokenBlock, Evidence, Fork, parse_evidence
from ledger.evidence_verdict import Breach, verify_evidence
from ledger.trust import Trust
from tools.audit.engine import AuditedLog
from tools.audit.errors import BlockBroken
from tools.audit.sources import open_source
from tools.errors import EXIT_CANNOT_TELL, EXIT_NOT_GENUINE, EXIT_OK, CannotTell, FileProblem, Usage
from tools.files import read_file
from tools.options import Json_, tls_of_command
from tools.pinning import ledger_of, load_trust
from tools.ui import emit_json, printable, say

_MEANINGS: Final = {
    "fork": "It has shown different histories to different people, and signed both.",
    "unsealed head": "It has signed a state in which nothing says what was revoked.",
    "broken block": "It has taken into the ledger, and signed, what the ledger's rules do not permit.",
}


def verify_evidence_file(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="An .evidence.json file.")
    ],
    trust: Annotated[
        Path | None,
        typer.Option(
            metavar="TRUST.json",
            exists=True,
            dir_okay=False,
            help="The log's keys as you know them. Without it they are those that the genesis in the file"
            " names, and you have to compare its fingerprint with the ledger's.",
        ),
    ] = None,
    audit: Annotated[
        str | None,
        typer.Option(
            metavar="URL|DIR",
            help="Where the file alone does not decide: replay the log from there, to see.",
        ),
    ] = None,
    as_json: Json_ = False,
) -> None:
    """Say what an evidence file proves against a log, and whether it does; without --audit, with no network.

    Exit codes: 0 it proves that the log's keys signed what no honest log signs; 1 it proves nothing; 2 the
    file alone does not decide (it says what would); 64 wrong usage.

    Example: sudur verify-evidence fork-1f00ba44.evidence.json --trust trust.json
    """
    try:
        known = None if trust is None else load_trust(trust)
        data = read_file(file, MAX_EVIDENCE + 1)
    except (FileProblem, TrustFormatError) as error:
        raise CannotTell(str(error)) from error
    try:
        evidence = parse_evidence(data)
        breach = verify_evidence(evidence, known)
    except EvidenceIncomplete as incomplete:
        if audit is not None:
            _replay(evidence, known, audit, as_json)
        _answer(as_json, {"proven": None, "why": str(incomplete)}, _undecided(incomplete))
        raise typer.Exit(EXIT_CANNOT_TELL) from None
    except SudurError as error:
        _answer(as_json, {"proven": False, "why": str(error)}, f"PROVES NOTHING: {printable(str(error))}")
        raise typer.Exit(EXIT_NOT_GENUINE) from None
    _answer(as_json, breach_json(breach), proven_text(breach, evidence))
    raise typer.Exit(EXIT_OK)


def _replay(evidence: Evidence, trust: Trust | None, where: str, as_json: bool) -> NoReturn:
    """Replay the log up to the head in question. Raises typer.Exit, and what an audit raises."""
    if trust is None:
        raise Usage("a replay needs to know whose log it is", where="--audit", fix="give --trust, too")
    assert isinstance(evidence.breach, BrokenBlock), "of the others the file alone decides"
    note = evidence.breach.checkpoint
    ledger = ledger_of(trust, note)
    source = open_source(where, tls_of_command())
    try:
        with TemporaryDirectory() as directory, AuditedLog.open(Path(directory), ledger) as log:
            signed = log.open_note(note)
            try:
                log.advance(source, signed)
            except BlockBroken as broken:
                value: Json = {"proven": True, "by": "replay", "where": broken.where, "what": broken.what}
                _answer(as_json, value, f"PROVEN by a replay: {printable(str(broken))}")
                raise typer.Exit(EXIT_OK) from None
            size = signed.checkpoint.size
    finally:
        source.close()
    why = f"the log was replayed up to size {size}, and every block of it is in order"
    _answer(as_json, {"proven": False, "by": "replay", "why": why}, f"PROVES NOTHING: {why}")
    raise typer.Exit(EXIT_NOT_GENUINE)


def breach_json(breach: Breach) -> Json:
    return {
        "proven": True,
        "kind": breach.kind,
        "origin": breach.origin,
        "genesis": None if breach.genesis is None else breach.genesis.hex(),
        "keys_trusted": breach.trusted,
        "signed_by": [key.format() for key in breach.signers],
        "size": str(breach.size),
        "what": breach.what,
    }


def proven_text(breach: Breach, evidence: Evidence) -> str:
    """What a court's expert reads: who, what, and what it rests on."""
    named = "your trust file" if breach.trusted else "the genesis in this file"
    lines = [
        f"PROVEN: the log {printable(breach.origin)} was not honest ({breach.kind}).",
        f"  What: {printable(breach.what)}.",
        f"  That means: {_MEANINGS[breach.kind]}",
    ]
    lines += [f"  Signed by: {printable(key.format())}" for key in breach.signers]
    lines.append(f"  Those are the log's keys by {named}.")
    if breach.genesis is not None:
        lines.append(f"  Ledger (G): {breach.genesis.hex()}")
    if not breach.trusted:
        lines.append(
            "  Compare G with the one that the ledger's authority publishes: anybody can make a ledger, and"
            " evidence against it. Whether a key had ended before it signed, only a trust file says."
        )
    lines.append(f"  It rests on: {_rests_on(evidence)}")
    return "\n".join(lines)


def _rests_on(evidence: Evidence) -> str:
    if isinstance(evidence.breach, Fork):
        return "the two signatures, and SHA-256. Whoever held the keys made both."
    if isinstance(evidence.breach, BrokenBlock):
        return "the signature, SHA-256, and the published rules of the ledger, which this program ran again."
    return "the signature, and SHA-256."


def _undecided(incomplete: EvidenceIncomplete) -> str:
    return "\n".join(
        (
            "NOT DECIDED by the file alone: it takes counting, or showing that something is not there.",
            f"  {printable(str(incomplete))}",
            "  Replay it: sudur verify-evidence FILE --trust TRUST.json --audit URL",
        )
    )


def _answer(as_json: bool, value: Json, text: str) -> None:
    if as_json:
        emit_json(value)
    else:
        say(text)
