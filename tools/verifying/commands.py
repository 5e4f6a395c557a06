"""``sudur journal``: begin one, look into it, prove it, and ask what became of what was relied on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from ledger.canonical_json import Json, base64_text, u64_text
from ledger.receipts import MAX_RECEIPT
from ledger.trust import Trust
from ledger.verdicts import HEADLINES, VerdictCode
from tools.describe import moment
from tools.errors import EXIT_NOT_GENUINE, JournalProblem, Usage
from tools.files import PRIVATE, PUBLIC, read_file, write_new_file
from tools.keyfile import KeyFile, PrivateKey, encode_key, load_public_key, make_key
from tools.options import Json_, PassphraseFile, TrustFile, static_resources
from tools.pack.files import read_pack
from tools.pinning import load_trust
from tools.trust.renewing import ServedSource
from tools.ui import Passphrase, emit_json, printable, remark, say
from tools.verifying.entries import Entry, JournalKey, parse_slip_code
from tools.verifying.journal import JournalReader, create
from tools.verifying.recheck import FetchedNow, Finding, Now, PackedNow, Recheck, recheck
from tools.verifying.recording import digest_of, key_path, open_journal_key
from tools.verifying.slip import slip_text

app = typer.Typer(
    help="The verifying office's own proof: a signed journal of what it has checked.", no_args_is_help=True
)

_Journal = Annotated[
    Path, typer.Argument(metavar="JOURNAL", exists=True, dir_okay=False, help="The journal's file.")
]
_Key = Annotated[
    Path | None,
    typer.Option(
        metavar="KEYFILE", exists=True, dir_okay=False, help="The journal's key. Default: JOURNAL.key.json."
    ),
]
_Code = Annotated[
    list[str] | None,
    typer.Argument(metavar="[CODE]…", help="The code on a slip, in groups or not: only that entry."),
]


@app.command()
def init(
    journal: Annotated[Path, typer.Argument(metavar="JOURNAL", help="The file to begin.")],
    key: Annotated[
        Path | None,
        typer.Option(metavar="KEYFILE", dir_okay=False, help="Its key, made unless it is there."),
    ] = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Begin a journal, with a key of its own.

    The public half goes to whoever is to check the journal one day, and so does its head, now and then:
    what a head covers can never be changed unseen.

    Example: sudur journal init counter-3.journal
    """
    place, words = (key_path(journal) if key is None else key), Passphrase(passphrase_file)
    if place.exists():
        made = KeyFile(place).open(words.to_open(place.name))
    else:
        made = make_key("journal", "journal")
        _save(place, made, words)
    opened = JournalKey(made)
    head = create(journal, opened, _now_ms())
    say(f"{journal}: begun")
    say(f"  key:  {made.public.fingerprint}")
    say(f"  head: 0 {head.hash.hex()}")


@app.command()
def show(
    journal: _Journal,
    groups: _Code = None,
    key: _Key = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json_ = False,
) -> None:
    """List the checks, or print again the slip of one of them. Every line up to there is verified.

    With the key it also says which leaf of the log each was of.

    Example: sudur journal show counter-3.journal 00000 02914 …
    """
    code = _joined(groups)
    opened = _maybe_key(journal, key, passphrase_file)
    found = list(_wanted(JournalReader(journal), code))
    if as_json:
        emit_json([_entry_json(one, opened) for one in found])
    elif code is not None:
        say(slip_text(found[0], None))
        for line in _sealed_lines(found[0], opened):
            say(line)
    else:
        for one in found:
            say(f"{one.number}  {moment(one.time_ms)}  {one.officer}  {HEADLINES[one.verdict]}")


@app.command()
def verify(
    journal: _Journal,
    groups: _Code = None,
    document: Annotated[
        Path | None,
        typer.Option(
            metavar="RECEIPT|-",
            help="Prove that this very receipt, or the code in this file, was what the entry is of.",
        ),
    ] = None,
    head: Annotated[
        str | None,
        typer.Option(metavar="HASH", help="A head that you were given: the journal must go through it."),
    ] = None,
    public: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.pub.json", exists=True, dir_okay=False, help="The journal's key, as handed over."
        ),
    ] = None,
    key: _Key = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json_ = False,
) -> None:
    """Prove the journal: every signature, and that no line was altered, left out or put in.

    Exit codes: 0 it is as it was written; 1 it is not, or does not hold what is asked for.

    Example: sudur journal verify counter-3.journal --head 5f0c…
    """
    code = _joined(groups)
    if document is not None and code is None:
        raise Usage("say which entry it is to be", where="--document", fix="give the code of the slip")
    pinned = None if public is None else load_public_key(public)
    reader, wanted = JournalReader(journal), None if code is None else parse_slip_code(code)
    found, given = None, (head or "").strip().lower()
    passed = head is None
    for entry in reader.entries():
        if wanted is not None and entry.number == wanted[0]:
            found = entry
        passed = passed or given in (entry.before.hex(), reader.head.hash.hex())
    passed = passed or given == reader.head.hash.hex()  # where there is no entry yet
    if pinned is not None and reader.key != pinned:
        raise JournalProblem("it is signed by another key than was handed over", where=str(journal))
    if not passed:
        raise JournalProblem(
            "it does not go through that head: it was begun anew, or lines were taken out or altered",
            where=str(journal),
            fix="keep it, and ask for a copy that does",
        )
    if wanted is not None and code is not None:
        _check_code(found, code, journal)
    if found is not None and document is not None:
        _check_document(found, document, open_journal_key(journal, key, Passphrase(passphrase_file)))
    assert reader.key is not None
    if as_json:
        emit_json(
            {
                "entries": u64_text(reader.head.number),
                "head": reader.head.hash.hex(),
                "key": reader.key.fingerprint,
                "torn": reader.torn,
            }
        )
        return
    say(f"{reader.head.number} entries, each as it was written")
    say(f"  key:  {reader.key.fingerprint}" + ("" if pinned else "  (as the journal itself says)"))
    say(f"  head: {reader.head.number} {reader.head.hash.hex()}")
    if reader.torn:
        say("  behind it a line that a crash cut off, and that nobody was told")
    if found is not None:
        what = "this document" if document is not None else "something"
        say(f"  entry {found.number}: {what} was checked on {moment(found.time_ms)} by {found.officer}:"
            f" {HEADLINES[found.verdict]}")  # fmt: skip


@app.command(name="recheck")
def recheck_command(
    journal: _Journal,
    trust: TrustFile,
    url: Annotated[
        str | None, typer.Option(metavar="URL", help="Static resources of a node, mirror or cache.")
    ] = None,
    pack: Annotated[
        Path | None,
        typer.Option(metavar="PACK", exists=True, dir_okay=False, help="An offline pack, with no network."),
    ] = None,
    key: _Key = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json_ = False,
) -> None:
    """Say which documents that were relied on have since been revoked, suspended or cast in doubt.

    Everything is fetched that could be asked about, so nobody learns which documents were checked here.

    Exit codes: 0 all stand; 1 some do not; 2 cannot tell.

    Example: sudur journal recheck counter-3.journal --url https://ledger.example.gov --trust trust.json
    """
    if (url is None) == (pack is None):
        raise Usage("name one source: --url or --pack")
    opened = open_journal_key(journal, key, Passphrase(passphrase_file))
    loaded = load_trust(trust)
    if url is not None:
        with static_resources(url) as resources:
            ledger = loaded.ledger(ServedSource(url, resources).genesis)
            now: Now = FetchedNow(resources, ledger, _now_ms())
            report = recheck(JournalReader(journal).entries(), opened, now)
    else:
        assert pack is not None
        now = _packed(pack, loaded)
        report = recheck(JournalReader(journal).entries(), opened, now)
    if as_json:
        emit_json(_report_json(report, now))
    else:
        _say_report(report, now)
    if report.findings:
        raise typer.Exit(EXIT_NOT_GENUINE)


# --- helpers -----------------------------------------------------------------------------------


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _save(place: Path, made: PrivateKey, words: Passphrase) -> None:
    passphrase = words.to_make()
    write_new_file(place, encode_key(made, passphrase), PRIVATE)
    public = place.with_name(place.name.removesuffix(".key.json") + ".pub.json")
    write_new_file(public, made.public.encode(), PUBLIC)
    if passphrase is None:
        remark("The private key is not encrypted: give a passphrase to protect it.")


def _packed(pack: Path, trust: Trust) -> PackedNow:
    return PackedNow(read_pack(pack).open(trust))


def _maybe_key(journal: Path, key: Path | None, passphrase_file: Path | None) -> JournalKey | None:
    if key is None and not key_path(journal).exists():
        return None
    return open_journal_key(journal, key, Passphrase(passphrase_file))


def _joined(groups: list[str] | None) -> str | None:
    return " ".join(groups) if groups else None


def _wanted(reader: JournalReader, code: str | None) -> Iterator[Entry]:
    """All entries, or the one that a slip's code is of. Raises JournalProblem when it is not there."""
    if code is None:
        yield from reader.entries()
        return
    number, _ = parse_slip_code(code)
    found = next((one for one in reader.entries() if one.number == number), None)
    yield _check_code(found, code, Path("journal"))


def _check_code(found: Entry | None, code: str, journal: Path) -> Entry:
    number, _ = parse_slip_code(code)
    if found is None or parse_slip_code(found.code) != parse_slip_code(code):
        raise JournalProblem(
            f"entry {number} is not the one that this slip is of",
            where=str(journal),
            fix="it is another office's slip, or of another journal",
        )
    return found


def _check_document(entry: Entry, document: Path, key: JournalKey) -> None:
    data = read_file(document, MAX_RECEIPT + 1)
    given = data if data.lstrip().startswith(b"{") else data.decode("utf-8", "replace").strip()
    if key.checked(entry.number, digest_of(given)) != entry.checked:
        raise JournalProblem(
            f"entry {entry.number} is of something else than {document}",
            where="--document",
            fix="a receipt that shows other fields is another; so is the code of the same document",
        )


def _sealed_lines(entry: Entry, key: JournalKey | None) -> list[str]:
    by = None if key is None else key.unseal(entry)
    return [] if by is None else [f"It is leaf {by.index} of the log, issued by agency {by.agency}."]


def _entry_json(entry: Entry, key: JournalKey | None) -> Json:
    by = None if key is None else key.unseal(entry)
    return {
        "number": u64_text(entry.number),
        "code": entry.code,
        "time_ms": u64_text(entry.time_ms),
        "officer": entry.officer,
        "verdict": entry.verdict.value,
        "checked": base64_text(entry.checked),
        "relied": None if entry.relied is None else entry.relied.to_json(),
        "index": None if by is None else u64_text(by.index),
    }


def _report_json(report: Recheck, now: Now) -> Json:
    return {
        "as_of_ms": u64_text(now.as_of_ms),
        "size": u64_text(now.size),
        "rechecked": report.rechecked,
        "of_other_ledgers": report.other,
        "not_proven_then": report.unproven,
        "findings": [
            {
                "number": u64_text(one.entry.number),
                "code": one.entry.code,
                "time_ms": u64_text(one.entry.time_ms),
                "officer": one.entry.officer,
                "was": one.entry.verdict.value,
                "now": one.now.value,
            }
            for one in report.findings
        ],
    }


def _say_report(report: Recheck, now: Now) -> None:
    say(f"{report.rechecked} checks, held against {now.size} entries as of {moment(now.as_of_ms)}")
    if report.other:
        say(f"{report.other} are of other ledgers, and were not looked at")
    if not report.findings:
        say("All that was relied on stands")
        return
    say(f"{len(report.findings)} that were relied on do not stand any more:")
    for day in sorted({_day(one) for one in report.findings}):
        say(f"  {day}")
        for one in report.findings:
            if _day(one) == day:
                say(
                    f"    entry {one.entry.number} ({printable(one.entry.officer)}): {_words(one.now)};"
                    f" slip {one.entry.code}"
                )


def _day(finding: Finding) -> str:
    return datetime.fromtimestamp(finding.entry.time_ms / 1000, UTC).strftime("%Y-%m-%d")


def _words(now: VerdictCode) -> str:
    return HEADLINES[now].lower()
