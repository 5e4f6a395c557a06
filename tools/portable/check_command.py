"""``sudur verify-proof``: what a tlog-proof, a COSE receipt or a status token shows, and what it does not."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ledger.canonical_json import Json
from ledger.documents import Field, FieldKind
from ledger.errors import PolicyUnmet, SudurError
from ledger.notes import MAX_NOTE_SIZE
from ledger.receipt_keys import KeyStatement, open_statement
from ledger.receipts import MAX_RECEIPT, parse_receipt
from ledger.records import Status
from ledger.tlog_proof import MAX_TLOG_PROOF, parse_tlog_proof
from ledger.trust import TrustedLedger
from ledger.verdicts import BASES
from tools.agency.issuing import digest_file
from tools.describe import moment
from tools.errors import EXIT_CANNOT_TELL, EXIT_NOT_GENUINE, EXIT_OK, Unavailable, Usage
from tools.files import read_file
from tools.options import Json_, TrustFile, static_resources
from tools.pinning import load_trust
from tools.portable.checking import Logged, Told, check_cose, check_tlog_proof, check_token
from tools.portable.exporting import key_statement
from tools.ui import emit_json, printable, quoted, say

_NOT_SHOWN = "Not shown: that it is still valid, and who signed it. A receipt shows both (sudur verify)."
_NOT_WITNESSED = "Not shown either: that a witness saw it. It is the word of whoever holds the receipt key."
_NO_PROOF = "Not shown: that the log says so too. It is the word of whoever holds the receipt key."


def verify_proof(
    proof: Annotated[
        Path,
        typer.Argument(
            metavar="PROOF", exists=True, dir_okay=False, help="A tlog-proof, COSE receipt or status token."
        ),
    ],
    trust: TrustFile,
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FILE", exists=True, dir_okay=False, help="Files to compare with those issued."
        ),
    ] = None,
    receipt: Annotated[
        Path | None,
        typer.Option(
            metavar="RECEIPT",
            exists=True,
            dir_okay=False,
            help="The document, in its receipt. A COSE receipt and a status token need it.",
        ),
    ] = None,
    keys: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", exists=True, dir_okay=False, help="The receipt keys, as a node states them."
        ),
    ] = None,
    url: Annotated[
        str | None, typer.Option(metavar="URL", help="Ask this node for its statement of receipt keys.")
    ] = None,
    max_age: Annotated[
        int | None, typer.Option(metavar="SECONDS", min=0, help="The oldest proof that you accept.")
    ] = None,
    as_json: Json_ = False,
) -> None:
    """Say what a portable proof shows of a document, and what it leaves open; offline unless --url is given.

    Exit codes: 0 it shows what it is for; 1 it does not, or the status is another than valid; 2 cannot tell;
    64 wrong usage.

    Example: sudur verify-proof birth.pdf.tlog-proof birth.pdf --trust trust.json
    """
    try:
        found = _checked(proof, trust, files or [], receipt, keys, url, max_age)
    except SudurError as error:
        if isinstance(error, Usage):
            raise
        cannot_tell = isinstance(error, PolicyUnmet | Unavailable)
        _failed(error, "Cannot tell" if cannot_tell else "Not proven", as_json)
        raise typer.Exit(EXIT_CANNOT_TELL if cannot_tell else EXIT_NOT_GENUINE) from None
    if as_json:
        emit_json(_as_json(found))
    else:
        for line in _logged_lines(found) if isinstance(found, Logged) else _told_lines(found):
            say(line)
    valid = isinstance(found, Logged) or found.status is Status.VALID
    raise typer.Exit(EXIT_OK if valid else EXIT_NOT_GENUINE)


def _checked(
    proof: Path,
    trust_path: Path,
    files: Sequence[Path],
    receipt_path: Path | None,
    keys: Path | None,
    url: str | None,
    max_age: int | None,
) -> Logged | Told:
    data = read_file(proof, MAX_TLOG_PROOF)
    trust = load_trust(trust_path)
    digests = [digest_file(file) for file in files]
    receipt = None if receipt_path is None else parse_receipt(read_file(receipt_path, MAX_RECEIPT + 1))
    now_s = time.time_ns() // 1_000_000_000
    if data.startswith(b"c2sp.org/"):
        return check_tlog_proof(parse_tlog_proof(data), trust, receipt, digests, now_s, max_age)
    if not data.startswith((b"\xd2", b"ey")):
        raise Usage("is no tlog-proof, COSE receipt or status token", where=str(proof))
    if receipt is None:
        raise Usage("it does not hold its document", where=str(proof), fix="give --receipt RECEIPT")
    ledger = trust.ledger(receipt.genesis)
    statement = _statement(ledger, keys, url)
    if data.startswith(b"\xd2"):
        return check_cose(data, receipt, ledger, statement, digests)
    if digests:
        raise Usage("a status token says nothing of files", where="FILE")
    return check_token(data, receipt, ledger, statement, now_s, max_age)


def _statement(ledger: TrustedLedger, keys: Path | None, url: str | None) -> KeyStatement:
    if (keys is None) == (url is None):
        raise Usage(
            "whose keys sign receipts, the log says", fix="give --keys FILE or --url URL: one of the two"
        )
    if keys is not None:
        return open_statement(read_file(keys, MAX_NOTE_SIZE), ledger)
    with static_resources(url or "") as resources:
        return key_statement(resources, ledger)[1]


# --- in words ----------------------------------------------------------------------------------


def _failed(error: SudurError, headline: str, as_json: bool) -> None:
    if as_json:
        emit_json({"proven": False, "code": error.code, "reason": str(error)})
    else:
        say(f"{headline}: {printable(str(error))}")


def _training(found: Logged | Told) -> list[str]:
    return ["TRAINING LEDGER, NOT A REAL DOCUMENT."] if found.training else []


def _logged_lines(found: Logged) -> list[str]:
    place = f"leaf {found.index} of the {found.size} that {printable(found.origin)} signed for"
    lines = [*_training(found), f"Logged: {place}"]
    if found.issue is None:
        return [*lines, f"  a leaf of type {found.kind.name}, no document"]
    issue = found.issue
    lines.append(f"  agency {issue.agency}, document type {issue.document_type}, {BASES[issue.basis]}")
    if found.document is None:
        lines.append("  what the document says is not in this proof")
    lines += [f"  {_field(one)}" for one in found.document or ()]
    if found.as_of_s is not None:
        lines.append(f"  as of {moment(found.as_of_s * 1_000)}, as its signer says")
    elif found.witnessed_s is not None:
        lines.append(f"  seen by the witnesses since {moment(found.witnessed_s * 1_000)}")
    else:
        lines.append("  the trust file asks for no witness")
    return [*lines, _NOT_SHOWN, *([_NOT_WITNESSED] if found.as_of_s is not None else [])]


def _field(one: Field) -> str:
    if one.kind is FieldKind.FILE:
        return f"{printable(one.name)}: file, SHA-256 {one.value.hex()}"
    return f"{printable(one.name)}: {quoted(one.value.decode('utf-8'))}"


def _told_lines(found: Told) -> list[str]:
    said = "valid" if found.status is Status.VALID else f"{found.status.name.lower()}: do not accept"
    return [
        *_training(found),
        f"Status: {said}",
        f"  leaf {found.index}, as of {moment(found.issued_s * 1_000)}",
        f"  the token counts until {moment(found.expires_s * 1_000)}",
        _NO_PROOF,
    ]


def _as_json(found: Logged | Told) -> dict[str, Json]:
    shown: dict[str, Json] = {
        "proven": True,
        "origin": found.origin,
        "training": found.training,
        "size": str(found.size),
        "index": str(found.index),
    }
    if isinstance(found, Told):
        times = {"issued_s": found.issued_s, "expires_s": found.expires_s}
        return {**shown, "kind": "status-token", "status": found.status.name.lower(), **times}
    return {
        **shown,
        "kind": "tlog-proof" if found.as_of_s is None else "cose",
        "leaf": found.kind.name,
        "witnessed_s": found.witnessed_s,
        "as_of_s": found.as_of_s,
        "fields": None
        if found.document is None
        else [
            {"name": one.name, "value": one.value.decode("utf-8")}
            if one.kind is FieldKind.TEXT
            else {"name": one.name, "sha256": one.value.hex()}
            for one in found.document
        ],
    }
