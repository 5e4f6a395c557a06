"""Issuing documents: from files and fields to signed submissions, and from placements to receipts.

Documents and their submissions go into the register in one transaction, and out through the outbox; the
receipts are built from static resources, written, and only then is the work closed. A crash anywhere
leaves either nothing, or a work that the next run finishes with the same bytes.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ledger.canonical_json import Json
from ledger.document_form import check_document_form
from ledger.documents import SEED_SIZE, Commitments, Document, Field
from ledger.errors import DocumentFormatError, SudurError
from ledger.receipt_builder import ReceiptBuilder
from ledger.receipts import Receipt
from ledger.records import Basis, Issue
from ledger.registry_records import TypeRecord
from ledger.resources import Resources
from ledger.trust import Trust
from ledger.verdicts import VerdictCode
from ledger.verifier import verify_receipt
from tools.agency.directory import receipt_paths, write_receipt
from tools.agency.outbox import Outbox, State, Work
from tools.client import LedgerClient
from tools.errors import (
    ExternalIdTaken,
    FileProblem,
    NotWitnessed,
    RegisterProblem,
    RemoteError,
    Unavailable,
    Usage,
)
from tools.files import make_private_directory, open_file, reason
from tools.publication import DEFAULT_WAIT_S, Publication
from tools.register.documents import MAX_EXTERNAL, NewDocument, StoredDocument, text_of

WORK: Final = "issue"
"""The kind of an issuing work in the register. Its note has ``receipts``: a path for each document, or
``table``: the name of the table that it issues."""

MIXED_DIGITS: Final = "mixes digits of several scripts (0-9, ٠-٩, ۰-۹)"
_DIGIT_KINDS: Final = (re.compile("[0-9]"), re.compile("[٠-٩]"), re.compile("[۰-۹]"))


@dataclass(frozen=True, slots=True)
class Issued:
    """A document that is in the ledger, with its receipt on disk, and what the receipt proves now.

    ``elsewhere``: why the receipt is not in the directory that was asked for, or None.
    """

    fields: tuple[Field, ...]
    basis: Basis
    receipt: Path
    elsewhere: FileProblem | None
    index: int
    commitment: bytes
    verdict: VerdictCode
    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Documents that the node refused together; none of them is in the ledger."""

    receipts: tuple[Path, ...]
    error: SudurError


@dataclass(frozen=True, slots=True)
class Stuck:
    """An earlier work that could not be finished and stays open: what it holds, and why."""

    work: int
    documents: tuple[tuple[Basis, tuple[Field, ...]], ...]
    error: SudurError


@dataclass(frozen=True, slots=True)
class Committed:
    """A document that is in the ledger, committed, not yet witnessed: it has no receipt, and its work stays
    open until it has."""

    fields: tuple[Field, ...]
    basis: Basis
    index: int
    commitment: bytes


@dataclass(frozen=True, slots=True)
class Outcome:
    issued: tuple[Issued, ...] = ()
    refused: tuple[Refused, ...] = ()
    stuck: tuple[Stuck, ...] = ()
    unwitnessed: tuple[Committed, ...] = ()


def check_path(path: Path) -> None:
    """Refuse a path that no receipt or saved job can name. Raises Usage."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise Usage("the name is not UTF-8", where=str(path), fix="rename it first") from None


def file_name(path: Path) -> str:
    """The name of a file's field: its base name in NFC, since file systems differ in that."""
    return unicodedata.normalize("NFC", path.name)


def digest_file(path: Path) -> bytes:
    """SHA-256 of a regular file's bytes, read in pieces. Raises FileProblem."""
    try:
        with open_file(path) as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise FileProblem(f"cannot be read: {reason(error)}", where=str(path)) from None


def mixes_digits(text: str) -> bool:
    """Whether a value has digits of more than one script: two that look the same would differ."""
    return sum(kind.search(text) is not None for kind in _DIGIT_KINDS) > 1


def type_fields(definition: TypeRecord | None, values: Sequence[tuple[str, str]]) -> list[Field]:
    """The given values as the fields of a type, in its order; without a type as they were given.

    Raises DocumentFormatError for a name that the type does not have or that is given twice, for a
    required field without a value, and for a value with digits of several scripts.
    """
    names = [name for name, _ in values]
    for name in names:
        if names.count(name) > 1:
            raise DocumentFormatError("is given twice", where=f"field {name}")
    for name, value in values:
        if mixes_digits(value):
            raise DocumentFormatError(MIXED_DIGITS, where=f"field {name}", fix="write it with one kind")
    if definition is None:
        return [Field.text(name, value) for name, value in values]
    known = [one.name for one in definition.fields]
    for name in names:
        if name not in known:
            raise DocumentFormatError(
                f"type {definition.number} has no such field",
                where=f"field {name}",
                fix=f"its fields are: {', '.join(known) or 'none'}",
            )
    given = dict(values)
    for one in definition.fields:
        if one.required and not given.get(one.name):
            raise DocumentFormatError(
                f"type {definition.number} requires it",
                where=f"field {one.name}",
                fix=f"add --field {one.name}=VALUE",
            )
    return [Field.text(one.name, given.get(one.name, "")) for one in definition.fields]


def not_issued(documents: Sequence[Document], basis: Basis, earlier: Outcome) -> list[int]:
    """Positions of the documents that are not among those of earlier work; each of those counts once.

    So the same command, given again after a crash, finishes its work and does not begin it anew. What
    is stuck counts as well, since it may be in the ledger.
    """
    there = Counter(one.fields for one in earlier.issued if one.basis is basis)
    there.update(one.fields for one in earlier.unwitnessed if one.basis is basis)
    there.update(fields for one in earlier.stuck for ground, fields in one.documents if ground is basis)
    left = []
    for position, document in enumerate(documents):
        if there[document.fields]:
            there[document.fields] -= 1
        else:
            left.append(position)
    return left


def make_document(
    agency: int, definition: TypeRecord | None, fields: Sequence[Field], path: Path
) -> Document:
    """The document of one file. Raises DocumentFormatError, CommitmentMismatch, FileProblem."""
    number = 0 if definition is None else definition.number
    document = Document.build(agency, number, [*fields, Field.file(file_name(path), digest_file(path))])
    if definition is not None:
        try:
            check_document_form(document, definition)
        except DocumentFormatError as error:
            expiry = next((one.name for one in definition.fields if one.expiry), "")
            raise DocumentFormatError(error.what, where=f"field {expiry}", fix=error.fix) from error
    return document


class Issuer:
    """Issues through an outbox. ``own_receipts``: where receipts go when their place will not have them."""

    def __init__(
        self,
        outbox: Outbox,
        client: LedgerClient,
        resources: Resources,
        own_receipts: Path,
        publication: Publication | None = None,
    ) -> None:
        """``publication``: waits for witnesses before a receipt is made; by default as long as is usual."""
        self._outbox = outbox
        self._publication = publication or Publication(client, DEFAULT_WAIT_S)
        self._register = outbox.register
        self._client = client
        self._resources = resources
        self._own = own_receipts.absolute()
        self._commitments = Commitments(outbox.ledger.genesis, outbox.agency)

    # --- one by one, each with a receipt ---

    def issue(
        self,
        documents: Sequence[Document],
        names: Sequence[str],
        basis: Basis,
        out: Path,
        advance: Callable[[int], None],
    ) -> Outcome:
        """Issue each document; ``names`` name the receipts. Raises Unavailable: run the command again."""
        if not documents:
            return Outcome()
        make_private_directory(out)
        paths = receipt_paths(out.absolute(), names)
        note: dict[str, Json] = {"receipts": [str(path) for path in paths]}
        return self._complete(self._save(documents, ["" for _ in documents], basis, note), advance)

    def prepare(self, documents: Sequence[Document], names: Sequence[str], basis: Basis, out: Path) -> Work:
        """Save each document for other officers to sign; nothing is sent."""
        paths = receipt_paths(out.absolute(), names)
        note: dict[str, Json] = {"receipts": [str(path) for path in paths]}
        return self._save(documents, ["" for _ in documents], basis, note, waiting=True)

    def waiting(self, documents: Sequence[Document], basis: Basis) -> Work | None:
        """The work in which exactly these documents wait for other officers, if there is one."""
        wanted = [(basis, one.fields) for one in documents]
        for work in self._outbox.open_works(WORK):
            states = {one.state for one in self._outbox.submissions(work)}
            if states == {State.WAITING}:
                there = [(one.basis, one.fields) for one in self._documents(work)]
                if there == wanted:
                    return work
        return None

    def finish_pending(self) -> Outcome:
        """Finish what an earlier run began. Raises Unavailable: then it stays open.

        A work that cannot be finished for a reason of its own is left as it is and told of, and does not
        stop the others. Tables go on with their own command; what is saved of them is sent here.
        """
        return _joined([self._finish(work) for work in self._outbox.open_works()])

    def complete(self, work: Work) -> Outcome:
        """Finish one work. Raises Unavailable, and what its receipts raise."""
        return self._complete(work, lambda _: None)

    def _finish(self, work: Work) -> Outcome:
        try:
            if "receipts" not in work.note:
                self._outbox.finish(work)
                return Outcome()
            return self._complete(work, lambda _: None)
        except Unavailable:
            raise
        except SudurError as error:
            documents = tuple((one.basis, one.fields) for one in self._documents(work))
            return Outcome(stuck=(Stuck(work.number, documents, error),))

    # --- for connectors: by their own ids, without receipts ---

    def issue_once(
        self, documents: Sequence[Document], external: Sequence[str], basis: Basis = Basis.ORIGINAL
    ) -> list[int]:
        """Issue each document under the agency's own id of it; the index of each in the log.

        The same id with the same contents is issued once, however often it is asked for: a retry gets the
        first index. All are saved before any is sent. Raises ExternalIdTaken for an id that stands for
        other contents, the node's refusal when one of them is refused, and Unavailable: ask again.
        """
        fresh: list[tuple[str, Document]] = []
        for one, name in zip(documents, external, strict=True):
            known = self.known(name, one.fields, one.document_type)
            if known is None and (name, one) not in fresh:
                fresh.append((name, one))
        names = [name for name, _ in fresh]
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ExternalIdTaken("is given twice with different contents", where=f"id {twice}")
        if fresh:
            self._save([one for _, one in fresh], names, basis, {"table": "-"})
        for work in self._outbox.open_works(WORK):
            if "table" not in work.note or work.note["table"] != "-":
                continue
            settled = self._outbox.finish(work)
            self._outbox.close(work)
            if settled.refused:
                raise settled.refused[0].error
        return [self._index_of(name) for name in external]

    def save_once(self, document: Document, external: str, basis: Basis, *, waiting: bool = False) -> Work:
        """Save a document under the agency's own id of it, if it is not there; its work. Nothing is sent.

        ``waiting``: not to be sent before other officers have signed as well. Raises ExternalIdTaken.
        """
        known = self.known(external, document.fields, document.document_type)
        if known is not None:
            return self._outbox.work(known.work)
        return self._save([document], [external], basis, {"table": "-"}, waiting=waiting)

    def known(self, external: str, fields: Sequence[Field], document_type: int) -> StoredDocument | None:
        """The document of this external id, if there is one. Raises ExternalIdTaken when it is another."""
        check_external(external)
        there = self._register.documents.by_external(external)
        if there is None:
            return None
        if there.fields != tuple(fields) or there.document_type != document_type:
            place = "that is not yet placed" if there.index is None else f"at index {there.index}"
            raise ExternalIdTaken(
                f"stands for a document with other contents, {place}",
                where=f"id {external}",
                fix="give the changed document an id of its own, and supersede the old one",
            )
        return there

    def _index_of(self, external: str) -> int:
        there = self._register.documents.by_external(external)
        if there is None or there.index is None:
            raise RegisterProblem("is not placed", where=f"id {external}", fix="ask again")
        return there.index

    # --- saving ---

    def _save(
        self,
        documents: Sequence[Document],
        external: Sequence[str],
        basis: Basis,
        note: dict[str, Json],
        *,
        waiting: bool = False,
    ) -> Work:
        outbox = self._outbox
        with self._register.transaction():
            work = outbox.begin(WORK, note)
            number = {one.document_type for one in documents}
            for document_type in sorted(number):
                chosen = [
                    (one, name)
                    for one, name in zip(documents, external, strict=True)
                    if one.document_type == document_type
                ]
                rows = [self._new(one, name) for one, name in chosen]
                first = self._register.documents.add(work.number, document_type, basis, rows)
                commitments = [one.commitment for one in rows]
                records = issue_records(outbox.agency, document_type, basis, commitments)
                outbox.add(work, records, document=first, waiting=waiting)
            self._register.journal.write(
                outbox.officer, WORK, {"work": work.number, "documents": len(documents), "waiting": waiting}
            )
        return work

    def _new(self, document: Document, external: str) -> NewDocument:
        seed = os.urandom(SEED_SIZE)
        slots = [field.slot() for field in document.fields]
        commitment = self._commitments.of(seed, slots)
        return NewDocument(None, external, seed, commitment, slots, text_of(document.fields))

    # --- finishing ---

    def _documents(self, work: Work) -> list[StoredDocument]:
        found: list[StoredDocument] = []
        for one in self._outbox.submissions(work):
            if one.document is not None:
                found += self._register.documents.run(one.document, one.count)
        return found

    def _complete(self, work: Work, advance: Callable[[int], None]) -> Outcome:
        """Send until every submission is placed or refused, write the receipts, and close the work."""
        outbox = self._outbox
        errors = {one.submission.number: one.error for one in outbox.finish(work).refused}
        submissions = outbox.submissions(work)
        if any(one.state is State.WAITING for one in submissions):
            return Outcome()
        issued: list[Issued] = []
        refused: list[Refused] = []
        paths = [Path(path) for path in work.note["receipts"]]
        maker = ReceiptMaker(outbox, self._resources, self._publication)
        unwitnessed: list[Committed] = []
        at = 0
        for one in submissions:
            places, at = paths[at : at + one.count], at + one.count
            if one.state is State.REFUSED:
                error = errors.get(one.number) or RemoteError(f"the node refused: {one.error}")
                refused.append(Refused(tuple(places), error))
                continue
            assert one.document is not None
            for path, document in zip(
                places, self._register.documents.run(one.document, one.count), strict=True
            ):
                advance(1)
                if not unwitnessed:
                    try:
                        issued.append(self._write(path, document, maker))
                        continue
                    except NotWitnessed:
                        pass  # those behind it are no better off
                assert document.index is not None
                assert document.commitment is not None
                unwitnessed.append(
                    Committed(document.fields, document.basis, document.index, document.commitment)
                )
        if not unwitnessed:
            outbox.close(work)
        return Outcome(tuple(issued), tuple(refused), unwitnessed=tuple(unwitnessed))

    def _write(self, path: Path, document: StoredDocument, maker: ReceiptMaker) -> Issued:
        """Write a receipt; among the agency's own when the place that was asked for will not have it."""
        receipt = maker.make(document)
        verdict = verify_receipt(receipt, Trust((self._outbox.ledger,)), now_ms=self._register.now_ms())
        elsewhere = None
        try:
            path = write_receipt(path, receipt)
        except FileProblem as error:
            if path.parent == self._own:
                raise
            elsewhere = error
            path = write_receipt(self._own / path.name, receipt)
        assert document.index is not None
        assert document.commitment is not None
        return Issued(
            document.fields,
            document.basis,
            path,
            elsewhere,
            document.index,
            document.commitment,
            verdict.code,
            verdict.reason,
        )


class ReceiptMaker:
    """Makes receipts of documents of the register, as of now, and keeps each there too.

    Under published checkpoints alone: a receipt is final.
    """

    def __init__(self, outbox: Outbox, resources: Resources, publication: Publication) -> None:
        self._outbox = outbox
        self._resources = resources
        self._publication = publication
        self._note = b""
        self._builder: ReceiptBuilder | None = None

    def make(self, document: StoredDocument) -> Receipt:
        """Raises RegisterProblem for a document that is not in the log, NotWitnessed for one that is not
        published in time, and what the builder raises."""
        if document.index is None:
            raise RegisterProblem("is not in the log", where=f"document {document.number}")
        outbox = self._outbox
        note = self._publication.covering(document.index)
        if self._builder is None or note != self._note:
            self._builder, self._note = ReceiptBuilder(self._resources, outbox.ledger, note), note
        disclosure = document.document(outbox.agency).disclose(document.seed)
        receipt = self._builder.build(disclosure, document.index)
        sealed = outbox.register.box.seal("receipt", document.number, zlib.compress(receipt.encode()))
        outbox.register.run("INSERT OR REPLACE INTO receipts VALUES (?, ?)", (document.number, sealed))
        return receipt


def issue_records(
    agency: int, document_type: int, basis: Basis, commitments: Sequence[bytes | None]
) -> list[bytes]:
    """The ISSUE leaves of documents that are to be logged."""
    head = Issue(agency, document_type, basis, bytes(32)).encode()[:-32]
    return [head + commitment for commitment in commitments if commitment is not None]


def check_external(external: str) -> None:
    """Refuse an external id that is empty or too long. Raises Usage."""
    if not 1 <= len(external.encode("utf-8", "surrogatepass")) <= MAX_EXTERNAL:
        raise Usage(f"an id has 1 to {MAX_EXTERNAL} bytes", where="external id")


def _joined(outcomes: Sequence[Outcome]) -> Outcome:
    return Outcome(
        tuple(one for outcome in outcomes for one in outcome.issued),
        tuple(one for outcome in outcomes for one in outcome.refused),
        tuple(one for outcome in outcomes for one in outcome.stuck),
        tuple(one for outcome in outcomes for one in outcome.unwitnessed),
    )
