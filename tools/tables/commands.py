"""``sudur agency issue --csv|--xlsx``: the options of a table, and what is said of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ledger.canonical_json import Json
from ledger.records import Basis
from ledger.registry_records import AgencyRecord, TypeRecord
from ledger.resources import Resources
from tools.agency.directory import write_receipt
from tools.agency.issuing import ReceiptMaker
from tools.agency.outbox import State, Work
from tools.agency.session import Session
from tools.agency.submission_files import export
from tools.client import LedgerClient
from tools.errors import NotWitnessed, TableProblem
from tools.tables.bulk import BulkIssuer, Sieve, Summary, table_identity
from tools.tables.columns import Columns, RowJudge, column_names, map_columns
from tools.tables.portions import Entry
from tools.tables.proof_sheet import ENDING as PROOF
from tools.tables.proof_sheet import ProofSheet
from tools.tables.reading import Row, read_csv
from tools.tables.rejects import ENDING as REJECTED
from tools.tables.rejects import Rejects
from tools.ui import emit_json, printable, progress, remark, say


@dataclass(frozen=True, slots=True)
class TableOptions:
    """How a table is to be read and issued. ``sheet``: it is .xlsx, not CSV."""

    path: Path
    sheet: bool
    document_type: int
    basis: Basis
    id_column: str | None
    file_column: str | None
    normalize: bool
    limit: int | None

    def identity(self) -> dict[str, str | int | bool | None]:
        """What makes it another work; the limit does not: without it the rest is issued."""
        return {
            "type": self.document_type,
            "basis": int(self.basis),
            "id": self.id_column,
            "file": self.file_column,
            "normalize": self.normalize,
        }

    @property
    def proof(self) -> Path:
        return self.path.with_name(self.path.name + PROOF)

    @property
    def rejected(self) -> Path:
        return self.path.with_name(self.path.name + REJECTED)


def type_record(client: LedgerClient, number: int) -> TypeRecord | None:
    """The definition of a type; None for type 0. Raises UnknownType, Unavailable."""
    return TypeRecord.decode(client.record(f"type/{number}").record) if number else None


@contextmanager
def opened(
    options: TableOptions, definition: TypeRecord | None
) -> Iterator[tuple[Columns, Iterator[Row | list[str]], RowJudge]]:
    """A table with its columns told apart, before its first row. Raises TableProblem, FileProblem."""
    known = column_names(definition, options.id_column, options.file_column)
    if options.sheet:
        # Loading what reads spreadsheets takes every command a tenth of a second, and few need it.
        from tools.tables.sheets import read_xlsx

        rows = read_xlsx(options.path)
    else:
        rows = read_csv(options.path, known)
    try:
        header = next(rows)
        assert isinstance(header, list)
        columns = map_columns(options.path, header, definition, options.id_column, options.file_column)
        for name, column in columns.mapping():
            remark(f"  {printable(name)} ← {printable(column) if column else '(empty)'}")
        yield columns, rows, RowJudge(columns, options.path.parent, normalize=options.normalize)
    finally:
        rows.close()  # type: ignore[attr-defined]


def check_table(options: TableOptions, definition: TypeRecord | None, as_json: bool) -> None:
    """``--dry-run``: every row is judged, nothing is issued; a proof sheet and the rejected rows."""
    rows_read = 0
    with opened(options, definition) as (columns, rows, judge):
        sheet = ProofSheet(columns)
        with (
            Rejects(options.rejected, columns.header) as rejects,
            progress("Checking rows", None) as advance,
        ):
            for row, entry in Sieve(judge).sift(rows):
                if options.limit is not None and rows_read == options.limit:
                    break
                rows_read += 1
                advance(1)
                if isinstance(entry, Entry):
                    sheet.add(entry)
                else:
                    rejects.add(row, entry)
    good = rows_read - rejects.count
    facts = [
        f"{good} of {rows_read} rows are to be issued, on the ground: {options.basis.name.lower()}.",
        f"Document type {options.document_type}.",
        *(f"{name} ← {column or '(empty)'}" for name, column in columns.mapping()),
    ]
    sheet.write(options.proof, options.path.name, facts)
    if as_json:
        emit_json(
            {
                "rows": rows_read,
                "good": good,
                "rejected": rejects.count,
                "proof_sheet": str(options.proof),
                "rejected_file": str(options.rejected) if rejects.count else None,
            }
        )
        return
    say(f"{good} of {rows_read} rows can be issued; nothing was issued.")
    say(f"Proof sheet: {options.proof}")
    if rejects.count:
        say(f"Rejected rows, with reasons: {options.rejected}")


def issue_table(
    session: Session,
    options: TableOptions,
    definition: TypeRecord | None,
    *,
    prepare: Path | None,
    receipts: Path | None,
    as_json: bool,
) -> None:
    """Issue the rows of a table that are not issued yet, and say what became of all.

    Raises the first refusal of the node, after all is said; Unavailable: run the command again.
    """
    identity = table_identity(session.register, options.path, options.identity())
    agency = AgencyRecord.decode(session.client.record(f"agency/{session.agency}").record)
    with opened(options, definition) as (columns, rows, judge):
        issuer = BulkIssuer(session.outbox, columns, options.basis, agency.policy.latest, options.path.name)
        with (
            Rejects(options.rejected, columns.header) as rejects,
            progress("Issuing rows", None) as advance,
        ):
            work, summary = issuer.run(
                identity,
                Sieve(judge).sift(rows),
                rejects,
                limit=options.limit,
                prepare=prepare is not None,
                advance=advance,
            )
    if prepare is not None and summary.waiting:
        export(session.outbox, session.outbox.work(work.number), prepare)
    published = summary.last_index is None or session.publication.is_published(summary.last_index)
    written = 0 if receipts is None else _write_receipts(session, session.resources, work, receipts)
    _tell(options, summary, work, prepare, written, published, as_json)
    if summary.errors:
        raise summary.errors[0]
    if receipts is not None and not published:
        raise NotWitnessed(
            "some rows are committed, and not yet witnessed: they have no receipts yet",
            where=str(options.path),
            fix="nothing is lost; give the same command again, and it writes those that are missing",
        )
    if summary.refused:
        raise TableProblem(
            f"{summary.refused} rows are refused", where=str(options.path), fix="run the command again"
        )


def _write_receipts(session: Session, resources: Resources, work: Work, out: Path) -> int:
    """A receipt for each document of a work that is published, named by its row."""
    maker = ReceiptMaker(session.outbox, resources, session.publication)
    done = 0
    for one in session.outbox.submissions(work):
        if one.state is not State.PLACED or one.document is None:
            continue
        for document in session.register.documents.run(one.document, one.count):
            try:
                made = maker.make(document)
            except NotWitnessed:
                return done
            write_receipt(out / f"row-{document.row}.receipt.json", made)
            done += 1
    return done


def _tell(
    options: TableOptions,
    summary: Summary,
    work: Work,
    prepare: Path | None,
    receipts: int,
    published: bool,
    as_json: bool,
) -> None:
    if not published:
        remark("Committed, not yet witnessed: verifiers will see the last of it once it is published.")
    if as_json:
        body: dict[str, Json] = {
            "work": work.number,
            "rows": summary.rows,
            "issued": summary.issued,
            "repeated": summary.repeated,
            "rejected": summary.rejected,
            "refused": summary.refused,
            "waiting": summary.waiting,
            "complete": summary.complete,
            "first_index": summary.first_index,
            "last_index": summary.last_index,
            "receipts": receipts,
            "published": published,
            "rejected_file": str(options.rejected) if summary.rejected else None,
            "submission_file": str(prepare) if prepare is not None and summary.waiting else None,
        }
        emit_json(body)
        return
    if work.closed:
        say("This table was issued before; nothing was issued twice.")
    places = "" if summary.first_index is None else f", at {summary.first_index} to {summary.last_index}"
    say(f"{summary.issued} of {summary.rows} rows are issued{places}.")
    if summary.repeated:
        say(f"{summary.repeated} had been issued before, under the same ids.")
    if summary.waiting and prepare is not None:
        say(f"{summary.waiting} wait for other officers: hand {prepare} to the next of them.")
    elif summary.waiting:
        say(f"{summary.waiting} wait for other officers' signatures.")
    if summary.rejected:
        say(f"{summary.rejected} were rejected; they are in {options.rejected}, with reasons.")
    if not summary.complete:
        say("Rows are left: give the command again, without --limit, to go on.")
    if receipts:
        say(f"{receipts} receipts were written.")
