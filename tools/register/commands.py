"""``sudur agency register``: look into the register, take an archive in, copy it, put a copy back."""

from __future__ import annotations

import csv
import json
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from ledger.canonical_json import Json
from ledger.documents import FieldKind
from ledger.receipts import MAX_RECEIPT, Receipt, parse_receipt
from ledger.records import Basis
from ledger.registry_records import TypeRecord
from tools.agency.directory import AgencyDirectory, write_receipt
from tools.agency.issuing import ReceiptMaker
from tools.agency.outbox import Outbox, State
from tools.agency.session import Directory, agency_session
from tools.describe import moment
from tools.errors import RegisterProblem, Usage
from tools.files import locked
from tools.options import NODES, Json_, PassphraseFile, connect
from tools.publication import DEFAULT_WAIT_S
from tools.register.documents import NO_SEED, NewDocument, StoredDocument
from tools.register.store import Register, restore
from tools.tables.bulk import PORTION, Sieve, table_identity
from tools.tables.commands import TableOptions, opened, type_record
from tools.tables.portions import Entry
from tools.tables.reading import Fault
from tools.tables.rejects import Rejects
from tools.ui import Passphrase, emit_json, printable, progress, quoted, say

app = typer.Typer(no_args_is_help=True, help="The agency's own register: search, import, export, backup.")

IMPORT: Final = "import"
"""The kind of a work that takes an archive in; it has no submissions."""


class Format(StrEnum):
    """What an export is written as."""

    CSV = "csv"
    JSONL = "jsonl"


@app.command("import")
def import_(
    table: Annotated[
        Path, typer.Argument(metavar="TABLE", exists=True, dir_okay=False, help=".csv or .xlsx")
    ],
    directory: Directory,
    node: Annotated[
        str | None, typer.Option(metavar=NODES, help="A node that knows the document type; not for type 0.")
    ] = None,
    type_: Annotated[
        int, typer.Option("--type", metavar="T", min=0, max=65_535, help="The document type; 0: undeclared.")
    ] = 0,
    id_column: Annotated[
        str | None, typer.Option("--id-column", metavar="COLUMN", help="Your own id of each document.")
    ] = None,
    file_column: Annotated[
        str | None,
        typer.Option("--file-column", metavar="COLUMN", help="A file that belongs to the document."),
    ] = None,
    normalize: Annotated[
        bool, typer.Option("--normalize", help="Bring values into Unicode's composed form (NFC).")
    ] = False,
    passphrase_file: PassphraseFile = None,
    as_json: Json_ = False,
) -> None:
    """Take an archive into the register, so that requests find it; nothing is logged.

    The columns are the type's fields, as for issuing. Rows that cannot be taken go to TABLE.rejected.csv.
    After an interruption give the same command again; a table is taken in once.

    Example: sudur agency register import births-1987.csv --type 1 --dir registry --node 127.0.0.1:7070
    """
    definition: TypeRecord | None = None
    if type_:
        if node is None:
            raise Usage("is needed to learn the fields of the type", where="--node")
        with connect(node) as client:
            definition = type_record(client, type_)
    sheet = table.suffix.lower() == ".xlsx"
    options = TableOptions(table, sheet, type_, Basis.ARCHIVE, id_column, file_column, normalize, None)
    with _writing(directory, passphrase_file) as register:
        taken, rejected = _take_in(register, options, definition)
    if as_json:
        emit_json(
            {
                "taken": taken,
                "rejected": rejected,
                "rejected_file": str(options.rejected) if rejected else None,
            }
        )
        return
    say(f"{taken} documents of {table.name} are in the register.")
    if rejected:
        say(f"{rejected} rows were rejected; they are in {options.rejected}, with reasons.")


@app.command()
def search(
    words: Annotated[list[str], typer.Argument(metavar="WORDS")],
    directory: Directory,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, max=1000)] = 10,
    passphrase_file: PassphraseFile = None,
    as_json: Json_ = False,
) -> None:
    """Find documents by what stands in them, the likeliest first.

    Letters that are written for one another count as one (ى ي ی, ک ك, ة ه, أ ا, ۆ و …), vowel signs and
    case not at all, digits whatever their script.

    Example: sudur agency register search "محمد علی" 1987 --dir registry
    """
    with _reading(directory, passphrase_file) as register:
        found = register.documents.candidates(" ".join(words), limit)
        register.journal.write("-", "search", {"words": " ".join(words)[:1000], "found": len(found)})
    if as_json:
        emit_json([{"score": round(score, 4), **_facts(one)} for score, one in found])
        return
    for score, one in found:
        say(f"{100 * score:3.0f} %  {_place(one)}")
        say(
            "       "
            + "  ".join(f"{printable(name)} {quoted(value)}" for name, value in one.values().items())
        )
    if not found:
        say("Nothing is found.")


@app.command()
def show(
    directory: Directory,
    index: Annotated[int | None, typer.Argument(metavar="[INDEX]", min=0)] = None,
    external: Annotated[str | None, typer.Option("--id", metavar="ID", help="Your own id of it.")] = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json_ = False,
) -> None:
    """Show a document by its index in the log, or by your own id of it.

    Example: sudur agency register show 5012 --dir registry
    """
    with _reading(directory, passphrase_file) as register:
        one = find(register, index, external)
        register.journal.write("-", "show", {"document": one.number})
    if as_json:
        emit_json(_facts(one))
        return
    say(_place(one))
    for name, value in one.values().items():
        say(f"  {printable(name)}: {quoted(value)}")


@app.command()
def export(
    directory: Directory,
    format_: Annotated[
        Format, typer.Option("--format", help="csv: one column a field; jsonl: all.")
    ] = Format.CSV,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Write all documents to standard output, readable: guard it as you guard the documents.

    Example: sudur agency register export --dir registry --format jsonl
    """
    with _reading(directory, passphrase_file) as register:
        register.journal.write("-", "export", {"format": format_.value})
        if format_ is Format.JSONL:
            for one in register.documents.every():
                typer.echo(json.dumps(_facts(one), ensure_ascii=False))
            return
        names = {name: None for one in register.documents.every() for name in one.values()}
        writer = csv.writer(sys.stdout)
        head = ("document", "index", "id", "type", "basis", "state")
        writer.writerow([*head, *names])
        for one in register.documents.every():
            facts, values = _facts(one), one.values()
            writer.writerow([*(facts[name] for name in head), *(values.get(name, "") for name in names)])


@app.command()
def journal(
    directory: Directory,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=1, help="Only the newest N entries.")
    ] = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json_ = False,
) -> None:
    """Show what each officer did, after checking that no entry is missing or altered.

    Example: sudur agency register journal --dir registry --limit 20
    """
    with _reading(directory, passphrase_file) as register:
        entries = list(register.journal.entries())[-(limit or 0) :]
    if as_json:
        emit_json(
            [
                {
                    "number": one.number,
                    "time_ms": one.time_ms,
                    "officer": one.officer,
                    "action": one.action,
                    "detail": one.detail,
                }
                for one in entries
            ]
        )
        return
    for one in entries:
        detail = "  ".join(f"{name} {printable(str(value))}" for name, value in one.detail.items())
        say(f"{one.number:6}  {moment(one.time_ms)}  {printable(one.officer)}  {one.action}  {detail}")


@app.command()
def works(
    directory: Directory,
    passphrase_file: PassphraseFile = None,
    as_json: Json_ = False,
) -> None:
    """List what is not finished: what waits for other officers, was refused, or was cut off.

    Example: sudur agency register works --dir registry
    """
    with _reading(directory, passphrase_file) as register:
        found = list(
            register.rows(
                "SELECT w.id, w.kind, w.made_ms, s.state, sum(s.count), max(s.error) FROM works w"
                " JOIN submissions s ON s.work = w.id WHERE w.closed = 0 GROUP BY w.id, s.state"
            )
        )
    if as_json:
        emit_json(
            [
                {"work": number, "kind": kind, "made_ms": ms, "state": State(state).name.lower(),
                 "records": count, "error": error}
                for number, kind, ms, state, count, error in found
            ]
        )  # fmt: skip
        return
    for number, kind, ms, state, count, error in found:
        why = f"  {printable(error)}" if error else ""
        say(f"work {number}  {moment(ms)}  {printable(kind)}  {count} {State(state).name.lower()}{why}")


@app.command()
def drop(
    work: Annotated[int, typer.Argument(metavar="WORK", min=1, help="Its number, as works lists it.")],
    directory: Directory,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Give up a work that waits for other officers: its submission file is then refused.

    Example: sudur agency register drop 12 --dir registry
    """
    here = AgencyDirectory.open(directory)
    ledger, membership = here.pinned(), here.membership()
    if ledger is None or membership is None:
        raise RegisterProblem("is not in the register", where=f"work {work}")
    with _writing(directory, passphrase_file) as register:
        outbox = Outbox(register, ledger, membership.agency)
        outbox.drop(outbox.work(work))
    say(f"Work {work} is given up.")


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file; sealed as the register is.")],
    directory: Directory,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Copy the register while it is in use, and check the copy.

    It is worth nothing without register.key.json: keep a copy of that too, and elsewhere.

    Example: sudur agency register backup /media/usb/register-2026-03-01.db --dir registry
    """
    with _reading(directory, passphrase_file) as register:
        register.backup(file)
    say(f"Copied and checked: {file}")


@app.command("restore")
def restore_(
    file: Annotated[Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False)],
    directory: Directory,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Put a backup where there is no register. register.key.json has to be there.

    What was logged since the backup is still in the log, and the register does not know it: the same table
    would be issued twice. So it sends what it had prepared, and makes nothing new, until sudur agency
    reconcile has found all that the log holds in it, or what it lacks is acknowledged.

    Example: sudur agency register restore /media/usb/register-2026-03-01.db --dir registry
    """
    here = AgencyDirectory.open(directory)
    words = Passphrase(passphrase_file)
    with locked(here.path):
        restore(here, file, words)
        with Register.open(here, words) as register:
            register.journal.write("-", "restore", {"file": file.name})
    say(f"Restored from {file}")
    say("Before anything new is made, see what it lacks: sudur agency reconcile")


def find(register: Register, index: int | None, external: str | None) -> StoredDocument:
    """A document by its index, or by the agency's own id. Raises Usage, RegisterProblem."""
    if (index is None) == (external is None):
        raise Usage("give an index, or --id", where="INDEX")
    if index is not None:
        one, where = register.documents.by_index(index), f"index {index}"
    else:
        one, where = register.documents.by_external(external or ""), f"id {external}"
    if one is None:
        raise RegisterProblem("is not in the register", where=where)
    return one


def write_one_receipt(
    directory: Path,
    index: int | None,
    external: str | None,
    node: str | None,
    out: Path | None,
    url: str | None,
    signer: Sequence[str],
    passphrase: Passphrase,
    wait_s: float = DEFAULT_WAIT_S,
) -> Path:
    """Write the receipt of one document: made anew by a node's help, or the newest that was made.

    Raises RegisterProblem, NotWitnessed, what the receipt's parts raise, Unavailable.
    """
    if node is not None:
        with agency_session(
            directory, node, signer=signer, url=url, passphrase=passphrase, wait_s=wait_s
        ) as session:
            one = find(session.register, index, external)
            made = ReceiptMaker(session.outbox, session.resources, session.publication).make(one)
            place = out or session.here.receipts
            session.register.journal.write(session.outbox.officer, "receipt", {"document": one.number})
    else:
        here = AgencyDirectory.open(directory)
        with locked(here.path), _open(here, passphrase) as register:
            one = find(register, index, external)
            made = kept_receipt(register, one)
            place = out or here.receipts
            register.journal.write("-", "receipt", {"document": one.number})
    return write_receipt(place / f"{one.index}.receipt.json", made)


def kept_receipt(register: Register, document: StoredDocument) -> Receipt:
    """The newest receipt that was made of a document. Raises RegisterProblem when none was."""
    where = f"document {document.number}"
    found = register.row("SELECT sealed FROM receipts WHERE document = ?", (document.number,))
    if found is None:
        raise RegisterProblem("has no receipt yet", where=where, fix="give --node, to make it")
    data = zlib.decompressobj().decompress(
        register.box.open("receipt", document.number, found[0]), MAX_RECEIPT + 1
    )
    return parse_receipt(data)


@contextmanager
def _writing(directory: Path, passphrase_file: Path | None) -> Iterator[Register]:
    """The register of a directory, which no other command uses for that long."""
    here = AgencyDirectory.open(directory)
    with locked(here.path), _open(here, Passphrase(passphrase_file)) as register:
        yield register


@contextmanager
def _reading(directory: Path, passphrase_file: Path | None) -> Iterator[Register]:
    """The register of a directory, while other commands may be at work there."""
    with _open(AgencyDirectory.open(directory), Passphrase(passphrase_file)) as register:
        yield register


def _open(here: AgencyDirectory, passphrase: Passphrase) -> Register:
    return Register.open(here, passphrase)


def _take_in(register: Register, options: TableOptions, definition: TypeRecord | None) -> tuple[int, int]:
    """Take in the rows that are not there yet; how many of the table are, and how many cannot be."""
    identity = table_identity(register, options.path, {"import": True, **options.identity()})
    found = register.row("SELECT id, rows FROM works WHERE identity = ?", (identity,))
    with opened(options, definition) as (columns, rows, judge):
        with register.transaction():
            if found is None:
                made = register.row("SELECT coalesce(max(id), 0) + 1 FROM works")
                assert made is not None
                found = (made[0], 0)
                note = register.box.seal("work", found[0], b"{}")
                register.run(
                    "INSERT INTO works (id, kind, made_ms, closed, identity, sealed)"
                    " VALUES (?, ?, ?, 1, ?, ?)",
                    (found[0], IMPORT, register.now_ms(), identity, note),
                )
        work, known = found
        pending: list[NewDocument] = []
        ids: set[str] = set()
        taken = last = 0

        def save() -> None:
            if not pending:
                return
            with register.transaction():
                register.documents.add(work, options.document_type, options.basis, pending)
                register.run("UPDATE works SET rows = max(rows, ?) WHERE id = ?", (last, work))
                register.journal.write("-", IMPORT, {"work": work, "documents": len(pending), "to row": last})
            pending.clear()
            ids.clear()

        with (
            Rejects(options.rejected, columns.header) as rejects,
            progress("Taking rows in", None) as advance,
        ):
            for row, entry in Sieve(judge).sift(rows):
                last = row.number
                advance(1)
                if not isinstance(entry, Entry):
                    rejects.add(row, entry)
                    continue
                there = register.documents.by_external(entry.external) if entry.external else None
                other = there and [field.slot() for field in there.fields] != entry.slots
                if entry.external in ids or other:
                    rejects.add(row, Fault(options.id_column or "", "the id stands for other contents"))
                    continue
                taken += 1
                if row.number > known and there is None:
                    ids.add(entry.external)
                    pending.append(
                        NewDocument(entry.row, entry.external, NO_SEED, None, entry.slots, entry.words)
                    )
                    ids.discard("")
                if len(pending) == PORTION:
                    save()
            save()
        return taken, rejects.count


def _facts(one: StoredDocument) -> dict[str, Json]:
    return {
        "document": one.number,
        "index": None if one.index is None else str(one.index),
        "id": one.external,
        "type": one.document_type,
        "basis": one.basis.name.lower(),
        "state": _state(one),
        "commitment": None if one.commitment is None else one.commitment.hex(),
        "fields": [
            {"name": field.name, "value": field.value.decode()}
            if field.kind is FieldKind.TEXT
            else {"name": field.name, "sha256": field.value.hex()}
            for field in one.fields[1:]
        ],
    }


def _state(one: StoredDocument) -> str:
    if one.commitment is None:
        return "imported"
    if one.index is not None:
        return State.PLACED.name.lower()
    return State.REFUSED.name.lower() if one.refused else State.PREPARED.name.lower()


def _place(one: StoredDocument) -> str:
    place = "imported, not in the log" if one.commitment is None else "not in the log yet"
    if one.index is not None:
        place = f"index {one.index}"
    about = f", id {printable(one.external)}" if one.external else ""
    return f"document {one.number}, {place}, type {one.document_type}, {one.basis.name.lower()}{about}"
