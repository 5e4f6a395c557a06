"""``sudur verify``: a receipt or a code, and the files that came with it, against a trust file."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from ledger.attestations import WantedAttestation
from ledger.errors import ReceiptFormatError, SudurError, TooLarge, TrustFormatError
from ledger.judging import Asked
from ledger.receipts import MAX_RECEIPT, parse_receipt
from ledger.trust import Trust
from ledger.verdicts import Verdict, VerdictCode
from ledger.verifier import verify_receipt
from ledger.witness_policy import MAX_POLICY_SIZE, parse_policy
from tools.agency.issuing import digest_file
from tools.describe import verdict_json, verdict_text
from tools.errors import FileProblem, Usage
from tools.files import read_file
from tools.options import Json_, PassphraseFile, TrustFile, static_resources
from tools.pack.verifying import cannot_tell, is_code, judge_code, judge_receipt_with_pack, need_a_source
from tools.pinning import load_trust
from tools.receipt_renewal import attestation_kind, renewed
from tools.ui import Passphrase, emit_json, printable, say
from tools.verifying.options import JournalFile, JournalKeyFile, Officer
from tools.verifying.recording import Unread, open_recorder
from tools.verifying.slip import slip_text


def verify(
    given: Annotated[
        str,
        typer.Argument(
            metavar="RECEIPT|CODE",
            help="A .receipt.json file, or a code's digits; - reads either from standard input.",
        ),
    ],
    trust: TrustFile,
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FILE", exists=True, dir_okay=False, help="Files to compare with those issued."
        ),
    ] = None,
    max_age: Annotated[
        int | None,
        typer.Option(
            metavar="SECONDS",
            min=0,
            help="The oldest proof of status that you accept: since when enough witnesses have cosigned it;"
            " where none is asked for, since its seal.",
        ),
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="A C2SP witness policy (k of n, groups) to be met besides the authority's; in place of one"
            " that the trust file has by `sudur trust own-policy`.",
        ),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Ask a node for the status of now: a later revocation shows."),
    ] = None,
    expect_type: Annotated[
        int | None,
        typer.Option("--type", metavar="T", min=0, max=65_535, help="The document type that it has to be."),
    ] = None,
    pack: Annotated[
        Path | None,
        typer.Option(
            metavar="PACK",
            exists=True,
            dir_okay=False,
            help="Check against an offline pack, with no network: a code, or a receipt's status.",
        ),
    ] = None,
    queue: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            dir_okay=False,
            help="With --pack: keep here what only a network can tell, for sudur pack queue.",
        ),
    ] = None,
    attested: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND[:AGENCY]",
            help="An attestation that it has to bear: legalisation, certified-copy, translation or a number,"
            " and the agency that has to have given it. Repeatable.",
        ),
    ] = None,
    journal: JournalFile = None,
    officer: Officer = None,
    key: JournalKeyFile = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json_ = False,
) -> None:
    """Say whether a document is genuine, in plain words; without --url, with no network at all.

    A code needs --url or --pack. With --pack everything is as of the pack, and says so.

    With --journal the check is written down, signed, before anything is said, and a slip is printed.

    Exit codes: 0 genuine; 1 not to be accepted (not genuine, revoked, expired …); 2 cannot tell; 64 wrong
    usage.

    Example: sudur verify birth.pdf.receipt.json birth.pdf --trust trust.json

    Example: sudur verify birth.pdf.receipt.json --trust trust.json --policy policy.txt --max-age 86400

    Example: scanner | sudur verify - --pack ledger.pack --trust trust.json
    """
    if url is not None and pack is not None:
        raise Usage("either a node is asked or a pack", where="--pack", fix="leave out --url or --pack")
    if queue is not None and pack is None:
        raise Usage("only an offline check leaves something open", where="--queue", fix="give --pack")
    if is_code(given):
        need_a_source(url, pack)
    elif given != "-" and not Path(given).exists():
        raise Usage(f"{printable(given)!r} does not exist, and is no code", where="RECEIPT|CODE")
    wanted = [_wanted(one) for one in attested or ()]
    recorder = open_recorder(journal, officer, key, Passphrase(passphrase_file))
    data = _read(given)
    verdict = judge(
        data,
        files or [],
        trust,
        max_age,
        url,
        expect_type,
        wanted,
        pack=pack,
        queue=queue,
        policy=policy,
    )
    entry = None if recorder is None else recorder.record(data, verdict)
    if as_json:
        emit_json({**verdict_json(verdict), **({} if entry is None else {"slip": entry.code})})
    else:
        say(verdict_text(verdict))
        if entry is not None:
            say(f"\n{slip_text(entry, verdict.origin)}")
    raise typer.Exit(verdict.code.exit_code)


def judge(
    data: bytes | str | Unread,
    files: list[Path],
    trust_path: Path,
    max_age: int | None,
    url: str | None,
    expect_type: int | None,
    attested: Sequence[WantedAttestation] = (),
    *,
    pack: Path | None = None,
    queue: Path | None = None,
    policy: Path | None = None,
) -> Verdict:
    """The verdict on a receipt's bytes or a code. What cannot be read leads to CANNOT_TELL.

    ``policy``: to be met as well. Raises Usage, and what writing the queue raises.
    """
    now_ms = time.time_ns() // 1_000_000
    try:
        trust = load_trust(trust_path)
        if policy is not None:
            trust = under_policy(trust, read_file(policy, MAX_POLICY_SIZE + 1))
        asked = Asked(now_ms, tuple(map(digest_file, files)), expect_type, tuple(attested))
        if isinstance(data, Unread):
            return cannot_tell(data.why)
        if isinstance(data, str):
            return judge_code(data, trust, asked, max_age=max_age, url=url, pack=pack, queue=queue)
        receipt = parse_receipt(data)
    except TrustFormatError as error:
        return cannot_tell(f"what is to be trusted cannot be used: {error}")
    except ReceiptFormatError as error:
        return cannot_tell(f"this is not a receipt, or it is cut short or damaged: {error}")
    except FileProblem as error:
        return cannot_tell(str(error))
    if pack is not None:
        return judge_receipt_with_pack(receipt, trust, asked, max_age=max_age, pack=pack)
    if url is not None:
        verdict = verify_receipt(
            receipt, trust, now_ms=now_ms, file_digests=asked.file_digests, expected_type=expect_type
        )
        if verdict.proven is None and verdict.code is not VerdictCode.CANNOT_TELL:
            return verdict  # no news can mend it
        try:
            with static_resources(url) as resources:
                receipt = renewed(receipt, trust.ledger(receipt.genesis), resources)
        except SudurError as error:
            return cannot_tell(f"the status of now could not be had from {url}: {error}")
    return verify_receipt(
        receipt,
        trust,
        now_ms=now_ms,
        greatest_age_s=max_age,
        file_digests=asked.file_digests,
        expected_type=expect_type,
        attested=attested,
    )


def _read(given: str) -> bytes | str | Unread:
    """A receipt's bytes, or a code's text."""
    if given == "-":
        data = sys.stdin.buffer.read(MAX_RECEIPT + 2)
        return data if data.startswith(b"{") else data.decode("utf-8", "replace")
    if is_code(given):
        return given
    try:
        return read_file(Path(given), MAX_RECEIPT + 1)
    except FileProblem as error:
        return Unread(str(error))


def under_policy(trust: Trust, policy: bytes) -> Trust:
    """The same ledgers, each with this as the verifier's own policy; never less than the authority's.

    Raises TrustFormatError.
    """
    try:
        parse_policy(policy)
    except TooLarge as error:
        raise TrustFormatError(error.what, where=error.where) from None
    return Trust(tuple(replace(one, own_policy=policy.decode()) for one in trust.ledgers))


def _wanted(text: str) -> WantedAttestation:
    """``legalisation`` or ``legalisation:7``. Raises Usage."""
    kind, _, agency = text.partition(":")
    if agency and not (agency.isascii() and agency.isdigit() and len(agency) <= 10):
        raise Usage(
            f"{text!a} names no agency by its number", where="--attested", fix="write it like translation:7"
        )
    return WantedAttestation(attestation_kind(kind, "--attested"), int(agency) if agency else None)
