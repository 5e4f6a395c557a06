"""``sudur verify``: a receipt, and the files that came with it, against a trust file."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ledger.attestations import WantedAttestation
from ledger.errors import ReceiptFormatError, SudurError, TrustFormatError
from ledger.receipts import MAX_RECEIPT, parse_receipt
from ledger.verdicts import Verdict, VerdictCode
from ledger.verifier import verify_receipt
from tools.agency.issuing import digest_file
from tools.describe import verdict_json, verdict_text
from tools.errors import FileProblem, Usage
from tools.files import read_file
from tools.options import Json_, TrustFile, static_resources
from tools.pinning import load_trust
from tools.receipt_renewal import attestation_kind, renewed
from tools.ui import emit_json, say


def verify(
    receipt: Annotated[
        Path, typer.Argument(metavar="RECEIPT", exists=True, dir_okay=False, help="A .receipt.json file.")
    ],
    trust: TrustFile,
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FILE", exists=True, dir_okay=False, help="Files to compare with those issued."
        ),
    ] = None,
    max_age: Annotated[
        int | None, typer.Option(metavar="SECONDS", min=0, help="The oldest proof of status that you accept.")
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Ask a node for the status of now: a later revocation shows."),
    ] = None,
    expect_type: Annotated[
        int | None,
        typer.Option("--type", metavar="T", min=0, max=65_535, help="The document type that it has to be."),
    ] = None,
    attested: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND[:AGENCY]",
            help="An attestation that it has to bear: legalisation, certified-copy, translation or a number,"
            " and the agency that has to have given it. Repeatable.",
        ),
    ] = None,
    as_json: Json_ = False,
) -> None:
    """Say whether a document is genuine, in plain words; without --url, with no network at all.

    Exit codes: 0 genuine; 1 not to be accepted (not genuine, revoked, expired …); 2 cannot tell; 64 wrong
    usage.

    Example: sudur verify birth.pdf.receipt.json birth.pdf --trust trust.json
    """
    wanted = [_wanted(one) for one in attested or ()]
    verdict = judge(receipt, files or [], trust, max_age, url, expect_type, wanted)
    if as_json:
        emit_json(verdict_json(verdict))
    else:
        say(verdict_text(verdict))
    raise typer.Exit(verdict.code.exit_code)


def judge(
    path: Path,
    files: list[Path],
    trust_path: Path,
    max_age: int | None,
    url: str | None,
    expect_type: int | None,
    attested: Sequence[WantedAttestation] = (),
) -> Verdict:
    """The verdict on a receipt file; what cannot be read leads to CANNOT_TELL. Raises Usage only."""
    try:
        trust = load_trust(trust_path)
        receipt = parse_receipt(read_file(path, MAX_RECEIPT + 1))
        digests = [digest_file(file) for file in files]
    except TrustFormatError as error:
        return _cannot_tell(f"the trust file cannot be used: {error}")
    except ReceiptFormatError as error:
        return _cannot_tell(f"this is not a receipt, or it is cut short or damaged: {error}")
    except FileProblem as error:
        return _cannot_tell(str(error))
    now_ms = time.time_ns() // 1_000_000
    if url is not None:
        verdict = verify_receipt(
            receipt, trust, now_ms=now_ms, file_digests=digests, expected_type=expect_type
        )
        if verdict.proven is None and verdict.code is not VerdictCode.CANNOT_TELL:
            return verdict  # no news can mend it
        try:
            with static_resources(url) as resources:
                receipt = renewed(receipt, trust.ledger(receipt.genesis), resources)
        except SudurError as error:
            return _cannot_tell(f"the status of now could not be had from {url}: {error}")
    return verify_receipt(
        receipt,
        trust,
        now_ms=now_ms,
        greatest_age_s=max_age,
        file_digests=digests,
        expected_type=expect_type,
        attested=attested,
    )


def _wanted(text: str) -> WantedAttestation:
    """``legalisation`` or ``legalisation:7``. Raises Usage."""
    kind, _, agency = text.partition(":")
    if agency and not (agency.isascii() and agency.isdigit() and len(agency) <= 10):
        raise Usage(
            f"{text!a} names no agency by its number", where="--attested", fix="write it like translation:7"
        )
    return WantedAttestation(attestation_kind(kind, "--attested"), int(agency) if agency else None)


def _cannot_tell(reason: str) -> Verdict:
    """A verdict on something that no check could even begin on."""
    return Verdict(
        code=VerdictCode.CANNOT_TELL, reason=reason, steps=(), proven=None, origin=None, training=False
    )
