"""``sudur agency``: key pairs, and issuing documents."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ledger.documents import TYPE_FIELD, check_text
from ledger.receipts import parse_receipt
from ledger.records import Basis
from ledger.signing_policy import ISSUE_KINDS
from tools.agency import attest_command, code_command, four_eyes_commands, status_commands
from tools.agency.acting import finish_earlier
from tools.agency.directory import AgencyDirectory
from tools.agency.issuing import (
    Issuer,
    Outcome,
    check_path,
    file_name,
    make_document,
    not_issued,
    type_fields,
)
from tools.agency.session import (
    AgencyNumber,
    Directory,
    FirstTrust,
    OnFirstUse,
    ResourcesUrl,
    Session,
    Signers,
    agency_session,
)
from tools.agency.session_command import in_session
from tools.agency.submission_files import export
from tools.errors import KeyFileError, NotWitnessed, Usage
from tools.files import locked
from tools.keyfile import check_label, make_key
from tools.letters import circulate_commands, inbox_commands, request_commands
from tools.monitor import commands as monitor_commands
from tools.options import NODES, Json_, Node, OfAlgorithm, PassphraseFile, connect, number_of
from tools.publication import DEFAULT_WAIT_S, Wait
from tools.register import commands as register_commands
from tools.register.store import REGISTER_KEY, make_register_key
from tools.registry import key_commands
from tools.tables.commands import TableOptions, check_table, issue_table, type_record
from tools.ui import Passphrase, emit_json, printable, progress, remark, say

app = typer.Typer(no_args_is_help=True, help="For agencies: make keys, issue documents, keep the register.")


class Use(StrEnum):
    """What a key pair is for."""

    SUBMIT = "submit"
    REGISTRY = "registry"
    ENVELOPE = "envelope"


class Ground(StrEnum):
    """On what grounds a document is issued."""

    ORIGINAL = "original"
    ARCHIVE = "archive"
    MIGRATED = "migrated"
    REPLACEMENT = "replacement"


@app.command()
def keygen(
    directory: Directory,
    use: Annotated[
        Use, typer.Option(help="submit: issue and revoke; registry: manage own keys; envelope: receive.")
    ] = Use.SUBMIT,
    label: Annotated[
        str | None,
        typer.Option(help="A pseudonym, public for ever, like desk-2. No personal names. Default: the use."),
    ] = None,
    algorithm: OfAlgorithm = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json_ = False,
) -> None:
    """Make a key pair; the public key file is what the authority is handed.

    The private key never leaves the directory, is encrypted when a passphrase is given, and is never
    printed. Read the fingerprint to the authority by telephone, so that nobody can swap the file. The
    first time, the key of the agency's register is made as well. Keys are of Ed25519 unless another
    algorithm is named; those for envelopes have one of their own.

    Example: sudur agency keygen --dir registry --label desk-1 --algorithm both
    """
    if label is not None:
        try:
            check_label(label)
        except KeyFileError as error:
            raise Usage(error.what, where=f"--label {error.where}") from None
        if label == REGISTER_KEY:
            raise Usage("is the name of the register's own key", where=f"--label {label}")
    agency = AgencyDirectory.create(directory)
    with locked(agency.path):
        name = agency.free_label(use.value) if label is None else label
        key = make_key(use.value, name, number_of(algorithm))
        words = Passphrase(passphrase_file)
        passphrase = words.to_make()
        private, public = agency.add_key(key, passphrase)
        register_key = make_register_key(agency, words)
    if passphrase is None:
        remark("The private key is not encrypted: give a passphrase to protect it.")
    if as_json:
        emit_json(
            {
                "public_key_file": str(public),
                "private_key_file": str(private),
                "fingerprint": key.public.fingerprint,
                "use": use.value,
                "algorithm": int(key.public.algorithm),
                "register_key_file": None if register_key is None else str(register_key),
            }
        )
        return
    say(f"For the authority:  {public}")
    say(f"Its fingerprint:    {key.public.fingerprint}")
    say(f"Keep to yourself:   {private}")
    if register_key is not None:
        say(f"Keep a copy safe:   {register_key}, without which the register is lost")


@app.command()
def issue(
    node: Node,
    directory: Directory,
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="FILE", exists=True, dir_okay=False, readable=True)
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option(
            "--csv", metavar="TABLE", exists=True, dir_okay=False, help="One document a row, UTF-8."
        ),
    ] = None,
    xlsx: Annotated[
        Path | None,
        typer.Option("--xlsx", metavar="TABLE", exists=True, dir_okay=False, help="The same, a spreadsheet."),
    ] = None,
    type_: Annotated[
        int, typer.Option("--type", metavar="T", min=0, max=65_535, help="The document type; 0: undeclared.")
    ] = 0,
    field: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="A field of the document, the same for every FILE. Repeatable."
        ),
    ] = None,
    basis: Annotated[Ground, typer.Option(help="On what grounds.")] = Ground.ORIGINAL,
    id_column: Annotated[
        str | None,
        typer.Option("--id-column", metavar="COLUMN", help="TABLE: your own id of each document."),
    ] = None,
    file_column: Annotated[
        str | None,
        typer.Option("--file-column", metavar="COLUMN", help="TABLE: a file that belongs to the document."),
    ] = None,
    normalize: Annotated[
        bool, typer.Option("--normalize", help="TABLE: bring values into Unicode's composed form (NFC).")
    ] = False,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=1, help="TABLE: no more than its first N rows.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="TABLE: check every row and write a proof sheet; issue nothing.")
    ] = False,
    receipts: Annotated[
        Path | None, typer.Option("--receipts", metavar="DIR", help="TABLE: write a receipt for each row.")
    ] = None,
    prepare: Annotated[
        Path | None,
        typer.Option(
            "--prepare",
            metavar="FILE",
            dir_okay=False,
            help="Send nothing: write a submission file for the next officer to sign.",
        ),
    ] = None,
    signer: Signers = None,
    agency: AgencyNumber = None,
    trust: FirstTrust = None,
    trust_on_first_use: OnFirstUse = False,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where receipts go. Default: receipts in --dir.")
    ] = None,
    url: ResourcesUrl = None,
    wait: Wait = DEFAULT_WAIT_S,
    passphrase_file: PassphraseFile = None,
    as_json: Json_ = False,
) -> None:
    """Issue one document for each FILE, with a receipt; or one for each row of a TABLE.

    A document has the fields of its type and the file itself, of which only hashes leave this machine.
    What is signed is saved before it is sent: after a crash or a lost connection give the same command
    again, and it finishes that work, with nothing lost and nothing issued twice. Another command
    finishes it too, and first. A receipt is made once the document is published, that is cosigned by enough
    witnesses; what is committed and not yet witnessed after --wait seconds is finished by any later
    command, or by sudur agency finish. When nothing is left to finish, the same FILE makes a new document; a
    TABLE is issued once.

    The columns of a TABLE are the type's fields, by name or by label in any language. Rows that cannot be
    issued go to TABLE.rejected.csv, with reasons. Receipts of its rows are made when they are asked for:
    sudur agency receipt.

    Example: sudur agency issue --node 127.0.0.1:7070 --dir registry --trust trust.json --type 1
    --field "child=نور" birth.pdf
    """
    paths = [one for one in (directory, *(files or ()), out, csv, xlsx, receipts, prepare) if one is not None]
    for path in paths:
        check_path(path)
    values = _fields(field or ())
    options = None
    if csv is not None or xlsx is not None:
        if files or values or (csv is not None and xlsx is not None):
            raise Usage("either FILEs with --field, or one --csv, or one --xlsx", where="issue")
        table = csv if csv is not None else xlsx
        assert table is not None
        options = TableOptions(
            table, xlsx is not None, type_, Basis[basis.name], id_column, file_column, normalize, limit
        )
    elif not files:
        raise Usage("there is nothing to issue", where="FILE", fix="name files, or a table: --csv TABLE")
    elif dry_run or id_column or file_column or normalize or limit or receipts:
        raise Usage("these options are for tables", where="FILE", fix="give the table with --csv or --xlsx")
    if options is not None and dry_run:
        with connect(node) as client:
            definition = type_record(client, type_)
        check_table(options, definition, as_json)
        return
    with agency_session(
        directory,
        node,
        signer=signer or (),
        agency=agency,
        trust=trust,
        trust_on_first_use=trust_on_first_use,
        url=url,
        passphrase=Passphrase(passphrase_file),
        wait_s=wait,
    ) as session:
        definition = type_record(session.client, type_)
        if options is not None:
            issue_table(session, options, definition, prepare=prepare, receipts=receipts, as_json=as_json)
            return
        chosen = files or []
        fields = type_fields(definition, values)
        with progress("Reading files", len(chosen)) as advance:
            documents = []
            for path in chosen:
                documents.append(make_document(session.agency, definition, fields, path))
                advance(1)
        issuer = Issuer(
            session.outbox, session.client, session.resources, session.here.receipts, session.publication
        )
        if session.outbox.open_works():
            remark("Finishing earlier work first")
        with progress("Writing receipts", len(chosen)) as advance:
            earlier = issuer.finish_pending()
            left = not_issued(documents, Basis[basis.name], earlier)
            documents = [documents[position] for position in left]
            names = [file_name(chosen[position]) for position in left]
            waiting = issuer.waiting(documents, Basis[basis.name])
            if waiting is not None and prepare is None:
                raise Usage(
                    f"these documents wait for another officer, as work {waiting.number}",
                    where="FILE",
                    fix="send their submission file; or give them up: sudur agency register drop",
                )
            if documents and prepare is None:
                session.outbox.check_keys({ISSUE_KINDS[Basis[basis.name]]: len(documents)})
            place = out or session.here.receipts
            if prepare is None or not documents:
                outcome = issuer.issue(documents, names, Basis[basis.name], place, advance)
            else:
                work = waiting or issuer.prepare(documents, names, Basis[basis.name], place)
                export(session.outbox, work, prepare)
                outcome = Outcome()
                remark(f"{len(left)} documents wait for other officers: hand {prepare} to the next of them")
    report(earlier, outcome, as_json)


@app.command()
def receipt(
    directory: Directory,
    index: Annotated[
        int | None, typer.Argument(metavar="[INDEX]", min=0, help="The document's index in the log.")
    ] = None,
    external: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="Your own id of it, instead of an index.")
    ] = None,
    node: Annotated[
        str | None,
        typer.Option(metavar=NODES, help="Make it anew, as of now. Without: the newest that was made."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where it goes. Default: receipts in --dir.")
    ] = None,
    url: ResourcesUrl = None,
    signer: Signers = None,
    wait: Wait = DEFAULT_WAIT_S,
    passphrase_file: PassphraseFile = None,
    as_json: Json_ = False,
) -> None:
    """Write the receipt of a document of the register.

    Example: sudur agency receipt 5012 --dir registry --node 127.0.0.1:7070
    """
    if (index is None) == (external is None):
        raise Usage("give an index, or --id", where="INDEX")
    path = register_commands.write_one_receipt(
        directory, index, external, node, out, url, signer or (), Passphrase(passphrase_file), wait
    )
    if as_json:
        emit_json({"receipt": str(path), "index": str(parse_receipt(path.read_bytes()).issue.index)})
    else:
        say(str(path))


@app.command()
@in_session
def finish(session: Session, as_json: Json_ = False) -> None:
    """Finish what earlier commands left open: what was not sent, and receipts of what is published by now.

    Exit codes: 0 nothing is left, 2 something is committed and not yet witnessed.

    Example: sudur agency finish --dir registry --node 127.0.0.1:7070
    """
    report(finish_earlier(session), Outcome(), as_json)


for _command in (
    status_commands.revoke,
    status_commands.suspend,
    status_commands.reinstate,
    status_commands.supersede,
    status_commands.affirm,
    attest_command.attest,
    code_command.code,
    request_commands.requests,
    inbox_commands.answer,
    circulate_commands.circulate,
    four_eyes_commands.sign,
    four_eyes_commands.send,
):
    app.command()(_command)
for _name, _group in (
    ("request", request_commands.app),
    ("inbox", inbox_commands.app),
    ("circulated", circulate_commands.app),
    ("register", register_commands.app),
    ("reconcile", monitor_commands.app),
    ("keys", key_commands.keys_app),
    ("change", key_commands.change_app),
):
    app.add_typer(_group, name=_name)


def report(earlier: Outcome, outcome: Outcome, as_json: bool) -> None:
    issued = (*earlier.issued, *outcome.issued)
    refused = (*earlier.refused, *outcome.refused)
    unwitnessed = (*earlier.unwitnessed, *outcome.unwitnessed)
    if as_json:
        emit_json(
            {
                "issued": [
                    {
                        "receipt": str(one.receipt),
                        "index": one.index,
                        "commitment": one.commitment.hex(),
                        "verdict": one.verdict.value,
                    }
                    for one in issued
                ],
                "refused": [
                    {
                        "receipts": [str(path) for path in one.receipts],
                        "code": one.error.code,
                        "why": str(one.error),
                    }
                    for one in refused
                ],
                "unwitnessed": [
                    {"index": one.index, "commitment": one.commitment.hex()} for one in unwitnessed
                ],
            }
        )
    else:
        for one in issued:
            say(f"{one.receipt}  index {one.index}")
        for committed in unwitnessed:
            say(f"index {committed.index}  committed, not yet witnessed: no receipt yet")
    doubted = [one for one in issued if one.verdict.exit_code != 0]
    if doubted:
        one = doubted[0]
        remark(f"{len(doubted)} receipts do not verify as genuine: {one.verdict.value}: {one.reason}")
    elsewhere = [(one.receipt, one.elsewhere) for one in issued if one.elsewhere is not None]
    if elsewhere:
        receipt, error = elsewhere[0]
        number = len(elsewhere)
        remark(f"{number} receipt{'s' if number > 1 else ''} had to go to {receipt.parent}: {error}")
    for stuck in earlier.stuck:
        remark(f"Earlier work is still not finished: work {stuck.work} of the register")
    if refused:
        number = sum(len(one.receipts) for one in refused)
        remark(f"{number} document{'s were' if number > 1 else ' was'} refused and not issued")
        raise refused[0].error
    if earlier.stuck:
        raise earlier.stuck[0].error
    if unwitnessed:
        number = len(unwitnessed)
        raise NotWitnessed(
            f"{number} document{'s are' if number > 1 else ' is'} committed, and not yet witnessed",
            fix="nothing is lost: sudur agency finish, or any later command, writes the receipts",
        )


def _fields(values: Sequence[str]) -> list[tuple[str, str]]:
    fields = []
    for value in values:
        name, equals, text = value.partition("=")
        if not equals or not name:
            raise Usage(f"{printable(value)!r} is not NAME=VALUE", where="--field")
        if name == TYPE_FIELD:
            raise Usage(f"{value!r}: no field is named {TYPE_FIELD}", where="--field", fix="give --type T")
        check_text(f"field {printable(name)}", text)
        fields.append((name, text))
    return fields
