"""``sudur export``: a document's proof in a form that others' programs read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ledger.receipts import MAX_RECEIPT, parse_receipt
from tools.errors import Usage
from tools.files import PRIVATE, read_file, write_new_file
from tools.options import Json_, TrustFile, static_resources
from tools.pinning import load_trust
from tools.portable.exporting import ENDINGS, Exported, Form, fetched, tlog_proof
from tools.ui import emit_json, printable, say

_PROVES = {
    Form.TLOG_PROOF: "It shows that the document is in the log, to whoever trusts the log's key and"
    " witnesses. Not that it is still valid.",
    Form.COSE: "It shows that the document is in the log, to whoever trusts the receipt key (receipt-keys)."
    " Not that it is still valid, and no witness stands behind it.",
    Form.STATUS_TOKEN: "It says which of 65,536 documents are valid, on the word of the receipt key.",
    Form.RECEIPT_KEYS: "The log's signed word on which receipt keys are its own.",
    Form.RECEIPT: "It shows all that sudur verify checks, as of now.",
}


def export(
    receipt: Annotated[
        Path, typer.Argument(metavar="RECEIPT", exists=True, dir_okay=False, help="A .receipt.json file.")
    ],
    trust: TrustFile,
    form: Annotated[Form, typer.Option("--format", help="What to make of it.")],
    url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="A node's address: for its signature, and for a proof as of now."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", dir_okay=False, help="Where to write it. Default: beside the receipt."),
    ] = None,
    leaf_only: Annotated[
        bool,
        typer.Option("--leaf-only", help="A tlog-proof without the document: it tells nothing of it."),
    ] = False,
    as_json: Json_ = False,
) -> None:
    """Hand out a document's proof as a C2SP tlog-proof, COSE Receipt, status list token or renewed receipt.

    A tlog-proof needs no network; the others come from a node, and are checked before they are written.

    Example: sudur export birth.pdf.receipt.json --format tlog-proof --trust trust.json
    """
    if url is None and form is not Form.TLOG_PROOF:
        raise Usage(f"a node has to give the {form.value}", where="--url", fix="give a node's address")
    if leaf_only and (form is not Form.TLOG_PROOF or url is not None):
        raise Usage("it is for a tlog-proof that is made of the receipt alone", where="--leaf-only")
    read = parse_receipt(read_file(receipt, MAX_RECEIPT + 1))
    ledger = load_trust(trust).ledger(read.genesis)
    if url is None:
        made = Exported(tlog_proof(read, ledger, leaf_only=leaf_only))
    else:
        with static_resources(url) as resources:
            made = fetched(form, read, ledger, resources)
    target = out or receipt.with_name(receipt.name.removesuffix(".receipt.json") + ENDINGS[form])
    write_new_file(target, made.data, PRIVATE)
    _tell(form, target, made, as_json)


def _tell(form: Form, target: Path, made: Exported, as_json: bool) -> None:
    reference = None if made.reference is None else made.reference.claim()
    if as_json:
        emit_json({"format": form.value, "file": str(target), "size": len(made.data), "status": reference})
        return
    say(f"Wrote {target}, {len(made.data)} bytes. {_PROVES[form]}")
    if made.reference is not None:
        say(f"This document: idx {made.reference.index} of {printable(made.reference.uri)}")
