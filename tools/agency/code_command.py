"""``sudur agency code``: a document's code, as digits to be printed or sent."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from ledger.codes import Code, check_link, code_of, path_of
from ledger.documents import Disclosure, Document
from ledger.errors import CodeFormatError, SudurError
from ledger.receipts import MAX_RECEIPT, Receipt, parse_receipt
from ledger.records import Issue
from ledger.registry_records import TypeRecord
from ledger.trust import Trust
from ledger.verdicts import VerdictCode
from ledger.verifier import verify_receipt
from tools.agency.directory import AgencyDirectory
from tools.agency.session import Directory
from tools.errors import NotGenuine, ToolError, Usage
from tools.files import locked, read_file
from tools.options import Json_, PassphraseFile, static_resources
from tools.receipt_renewal import renewed
from tools.register.store import Register
from tools.ui import Passphrase, emit_json, printable, remark, say


class NoPathYet(ToolError):
    """The 256 leaves around a document are not full yet, so it has no path that would last."""

    code = "NO_PATH_YET"


def code(
    receipt: Annotated[
        Path, typer.Argument(metavar="RECEIPT", exists=True, dir_okay=False, help="A .receipt.json file.")
    ],
    directory: Directory,
    with_path: Annotated[
        bool, typer.Option("--with-path", help="With what verifies it against the small form of a pack.")
    ] = False,
    link: Annotated[
        str | None,
        typer.Option(metavar="URL", help="A link in front, like https://verify.example.gov/, for cameras."),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Renew the receipt from here first: a path may be there by now."),
    ] = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json_ = False,
) -> None:
    """Print the code of a document that was issued: digits that hold all of it, for a QR code or a text.

    A document of this agency's own register gets the shorter code with its seed; of any other receipt, and
    where the holder hides something, the salts of what is shown go into it. The receipt is verified first.

    Example: sudur agency code degree.receipt.json --dir university --with-path
    """
    if link is not None:
        try:
            check_link(link)
        except CodeFormatError as error:
            raise Usage(error.what, where="--link", fix=error.fix) from None
    here = AgencyDirectory.open(directory)
    ledger = here.pinned()
    if ledger is None:
        raise Usage("is not pinned to a ledger yet", where=str(here.path), fix="issue something first")
    document = parse_receipt(read_file(receipt, MAX_RECEIPT + 1))
    if url is not None:
        with static_resources(url) as resources:
            document = renewed(document, ledger, resources)
    verdict = verify_receipt(document, Trust((ledger,)), now_ms=time.time_ns() // 1_000_000)
    if verdict.proven is None:
        raise NotGenuine(f"{verdict.headline}: {verdict.reason}", where="the receipt")
    if verdict.code is not VerdictCode.GENUINE:
        remark(printable(f"{verdict.headline}: {verdict.reason}"))
    with locked(here.path, 2.0), Register.open(here, Passphrase(passphrase_file)) as register:
        whole = _from_register(register, document)
    made = _code(document, whole, with_path)
    text = made.text()
    if link is not None:
        text = f"{link}#{text}"
    if as_json:
        emit_json(
            {
                "code": text,
                "characters": len(text),
                "bytes": len(made.encode()),
                "with_path": bool(made.path),
                "with_seed": not made.salted,
                "index": str(made.index),
            }
        )
    else:
        say(text)


def _from_register(register: Register, receipt: Receipt) -> tuple[Document, bytes] | None:
    """The document with its seed, when it is this agency's own and the receipt shows all of it."""
    stored = register.documents.by_index(receipt.issue.index)
    if stored is None:
        return None
    document = stored.document(receipt.document.agency)
    return (document, stored.seed) if document.disclose(stored.seed) == receipt.document else None


def _code(receipt: Receipt, whole: tuple[Document, bytes] | None, with_path: bool) -> Code:
    """Raises NoPathYet, TooLarge for a document that no code holds."""
    index = receipt.issue.index
    path = path_of(index, receipt.seal.index + 1, receipt.issue.path) if with_path else ()
    if with_path and not path:
        raise NoPathYet(
            "the 256 leaves around it were not full as of the receipt",
            where="--with-path",
            fix="renew it with --url; if that says the same, they are not full yet: make the code later, or"
            " leave --with-path out and hand out packs of the form leaves",
        )
    basis = Issue.decode(receipt.issue.leaf).basis
    made = code_of(whole or receipt.document, receipt.genesis, basis, index, path)
    _check(made, receipt.document, receipt)
    return made


def _check(made: Code, document: Disclosure, receipt: Receipt) -> None:
    """That whoever reads it comes to this very document. Raises CodeFormatError."""
    record = receipt.registry.document_type
    definition = None if record is None else TypeRecord.decode(record.record)
    try:
        same = made.disclosure(definition) == document
    except SudurError:
        same = False
    if not same:
        raise CodeFormatError("this document cannot be written as a code", where="the receipt")
