"""``sudur agency attest``: legalise, certify or translate a document that somebody else issued."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Annotated, Final

import typer

from ledger.attestations import attestation_name
from ledger.canonical_json import Json, Reader, base64_text, encode
from ledger.documents import SEED_SIZE, TYPE_FIELD, Disclosure, Document, Field
from ledger.receipts import MAX_RECEIPT, Receipt, parse_receipt
from ledger.records import NO_HASH, Attest
from ledger.trust import Trust
from ledger.verdicts import VerdictCode
from ledger.verifier import verify_receipt
from tools.agency.acting import Acted, Prepare, act, complete, finish_earlier
from tools.agency.directory import write_receipt
from tools.agency.issuing import digest_file, file_name
from tools.agency.session import Session
from tools.agency.session_command import in_session
from tools.agency.subjects import FINAL, Subjects
from tools.errors import NotGenuine, Usage
from tools.files import read_file
from tools.options import Json_
from tools.receipt_renewal import attestation_kind, renewed
from tools.ui import emit_json, printable, remark, say

ATTEST_WORK: Final = "attest"
"""The kind of an attesting work in the register. Its note holds the ``seed`` of the copy's salts."""

_ACCEPTED: Final = (VerdictCode.GENUINE, VerdictCode.GENUINE_EXPIRED)


@in_session
def attest(
    session: Session,
    receipt: Annotated[
        Path,
        typer.Argument(
            metavar="RECEIPT",
            exists=True,
            dir_okay=False,
            help="The document's receipt, as its holder has it.",
        ),
    ],
    kind: Annotated[
        str,
        typer.Option(
            metavar="KIND", help="legalisation, certified-copy, translation, or a number up to 255."
        ),
    ],
    file: Annotated[
        list[Path] | None,
        typer.Option(
            "--file",
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="The translation or copy that is attested. Repeatable.",
        ),
    ] = None,
    field: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="A field of the translation. Repeatable."),
    ] = None,
    on: Annotated[
        int | None,
        typer.Option(
            "--on",
            metavar="INDEX",
            min=0,
            help="What is attested: the document, or an attestation on it. Default: the newest that"
            " another agency gave.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where the new receipt goes. Default: receipts in --dir."),
    ] = None,
    prepare: Prepare = None,
    as_json: Json_ = False,
) -> None:
    """Attest a document: its receipt is verified first, and a new one bears the attestation.

    A document for abroad is translated, then legalised by Foreign Affairs, then by a consulate: each attests
    what the one before it did, and hands the new receipt back to the holder. Given again after an
    interruption, or because it was not yet witnessed, the command finishes its work and does not attest
    twice.

    Example: sudur agency attest degree.receipt.json --kind translation --file degree-en.pdf --dir bureau
    --node 127.0.0.1:7070
    """
    number = attestation_kind(kind, "--kind")
    document = parse_receipt(read_file(receipt, MAX_RECEIPT + 1))
    fields = _fields(field or (), file or ())
    finish_earlier(session)
    subject = _newest(document, session.agency) if on is None else on
    document = _checked(session, document)
    if subject not in (document.issue.index, *(one.leaf.index for one in document.attestations)):
        raise Usage(f"leaf {subject} is neither this document nor an attestation on it", where="--on")
    destination = (out or session.here.receipts).absolute() / receipt.name
    acted = _attested(session, document, subject, number, fields, prepare)
    if acted.placed is None:
        return
    (index,) = acted.indexes()
    session.publication.covering(index)
    document = renewed(
        document, session.ledger, session.resources, {index: _copy(session, document, fields, acted)}
    )
    path = write_receipt(destination, document)
    if as_json:
        emit_json({"index": str(index), "subject": str(subject), "receipt": str(path)})
    else:
        say(f"{path}  bears the {attestation_name(number)} at index {index}")


def _checked(session: Session, receipt: Receipt) -> Receipt:
    """The receipt as of now. Raises NotGenuine for what an office must not put its name to."""
    now_ms = session.register.now_ms()
    trust = Trust((session.ledger,))
    first = verify_receipt(receipt, trust, now_ms=now_ms)
    if first.proven is not None:
        receipt = renewed(receipt, session.ledger, session.resources)
        first = verify_receipt(receipt, trust, now_ms=session.register.now_ms())
    if first.code not in _ACCEPTED:
        raise NotGenuine(f"{first.headline}: {first.reason}", where="the receipt", fix="do not attest it")
    if first.code is VerdictCode.GENUINE_EXPIRED:
        remark(printable(f"{first.headline}: {first.reason}"))
    return receipt


def _newest(receipt: Receipt, agency: int) -> int:
    """The newest attestation that the receipt bears and another agency gave, or the document."""
    others = [one.leaf.index for one in receipt.attestations if Attest.decode(one.leaf.leaf).agency != agency]
    return max(others, default=receipt.issue.index)


def _fields(values: Sequence[str], files: Sequence[Path]) -> list[Field]:
    fields = []
    for value in values:
        name, equals, text = value.partition("=")
        if not equals or not name or name == TYPE_FIELD:
            raise Usage(f"{printable(value)!r} is not NAME=VALUE", where="--field")
        fields.append(Field.text(name, text))
    fields += [Field.file(file_name(path), digest_file(path)) for path in files]
    return fields


def _attested(
    session: Session,
    receipt: Receipt,
    subject: int,
    kind: int,
    fields: Sequence[Field],
    prepare: Path | None,
) -> Acted:
    """Attest, unless this very attestation was given before and stands: then that one."""
    document_type = receipt.document.document_type
    seed = os.urandom(SEED_SIZE)
    commitment = NO_HASH
    if fields:
        copy = Document.build(session.agency, document_type, fields)
        commitment = copy.commitment(session.ledger.genesis, seed, "attested")
    leaf = Attest(session.agency, subject, kind, commitment).encode()
    same: Json = [str(subject), kind, [[int(one.kind), one.name, one.value.hex()] for one in fields]]
    subjects = Subjects(session)
    for time in count():
        identity = session.register.box.mark(ATTEST_WORK, encode([same, time]))
        work = session.outbox.work_by_identity(identity)
        if work is None:
            return act(session, ATTEST_WORK, [leaf], {"seed": base64_text(seed)}, prepare, identity)
        session.outbox.again(work)
        acted = complete(session, work)
        if acted.placed is None or subjects.get(acted.indexes()[0]).status not in FINAL:
            return acted
    raise AssertionError("counting has no end")


def _copy(session: Session, receipt: Receipt, fields: Sequence[Field], acted: Acted) -> Disclosure | None:
    """What opens the attestation's commitment; None of nothing."""
    if not fields:
        return None
    seed = Reader(acted.work.note, "note").data("seed", size=SEED_SIZE)
    return Document.build(session.agency, receipt.document.document_type, fields).disclose(seed)
