"""Issuing documents: from files and fields to signed submissions, and from placements to receipts.

The order is what makes it safe: make and sign, save durably, send, build the receipts from static
resources, write them, and only then forget the batch. A crash anywhere leaves either nothing, or a
batch that the next run finishes with the same bytes.
"""

from __future__ import annotations

import hashlib
import secrets
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ledger.documents import SEED_SIZE, Document, Field
from ledger.errors import (
    ClaimedTimeOutsideWindow,
    DocumentFormatError,
    FormatError,
    RuleError,
    SudurError,
    VerificationError,
)
from ledger.receipt_builder import ReceiptBuilder
from ledger.receipts import Receipt
from ledger.records import MAX_RECORDS, Basis, Issue
from ledger.registry_records import TypeRecord
from ledger.resources import Resources
from ledger.submissions import unpack
from ledger.trust import Trust, TrustedLedger
from ledger.verdicts import VerdictCode
from ledger.verifier import check_document_form, verify_receipt
from tools.agency_dir import (
    MAX_JOB_SUBMISSIONS,
    AgencyDirectory,
    Job,
    PendingDocument,
    receipt_paths,
    write_receipt,
)
from tools.client import LedgerClient, Placed
from tools.errors import FileProblem, Unavailable, Usage
from tools.files import make_private_directory, open_file, reason
from tools.signing import NumberedSigner, SignedSubmission, signed_submission

JOB_DOCUMENTS: Final = MAX_RECORDS * MAX_JOB_SUBMISSIONS
"""Most documents that one call carries: 16,384."""


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
    """An earlier batch that could not be finished and stays saved: what it holds, and why."""

    batch: Path
    documents: tuple[tuple[Basis, tuple[Field, ...]], ...]
    error: SudurError


@dataclass(frozen=True, slots=True)
class Outcome:
    issued: tuple[Issued, ...] = ()
    refused: tuple[Refused, ...] = ()
    stuck: tuple[Stuck, ...] = ()


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


def type_fields(definition: TypeRecord | None, values: Sequence[tuple[str, str]]) -> list[Field]:
    """The given values as the fields of a type, in its order; without a type as they were given.

    Raises DocumentFormatError for a name that the type does not have, that is given twice, or for a
    required field without a value.
    """
    names = [name for name, _ in values]
    for name in names:
        if names.count(name) > 1:
            raise DocumentFormatError("is given twice", where=f"field {name}")
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
    """Issues for one agency through one node. ``now_ms`` is there for tests."""

    def __init__(
        self,
        directory: AgencyDirectory,
        client: LedgerClient,
        resources: Resources,
        ledger: TrustedLedger,
        agency: int,
        signers: Sequence[NumberedSigner],
        *,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._directory = directory
        self._client = client
        self._resources = resources
        self._ledger = ledger
        self._agency = agency
        self._signers = signers
        self._now_ms = now_ms

    def finish_pending(self) -> Outcome:
        """Finish what an earlier run began. Raises Unavailable: then it stays pending.

        A batch that cannot be finished for a reason of its own is left as it is and told of, and does
        not stop the others. Only a damaged one stops all, with FileProblem: nobody can tell which
        documents it holds, so any might be issued twice.
        """
        return _joined([self._finish(batch) for batch in self._directory.pending()])

    def _finish(self, batch: Path) -> Outcome:
        jobs = [self._directory.load(path) for path in self._directory.jobs(batch)]
        try:
            return self._complete(batch, lambda _: None)
        except Unavailable:
            raise
        except SudurError as error:
            documents = tuple((job.basis, one.disclosure.shown) for job in jobs for one in job.documents)
            return Outcome(stuck=(Stuck(batch, documents, error),))

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
        jobs = [
            self._job(documents[start : start + JOB_DOCUMENTS], paths[start : start + JOB_DOCUMENTS], basis)
            for start in range(0, len(documents), JOB_DOCUMENTS)
        ]
        return self._complete(self._directory.save(jobs), advance)

    def _job(self, documents: Sequence[Document], paths: Sequence[Path], basis: Basis) -> Job:
        pending = tuple(
            PendingDocument.of(document, secrets.token_bytes(SEED_SIZE), path)
            for document, path in zip(documents, paths, strict=True)
        )
        records = [
            Issue(
                self._agency,
                one.disclosure.document_type,
                basis,
                one.disclosure.commitment(self._ledger.genesis),
            ).encode()
            for one in pending
        ]
        submissions = tuple(
            self._signed(records[start : start + MAX_RECORDS])
            for start in range(0, len(records), MAX_RECORDS)
        )
        return Job(self._ledger.genesis, self._agency, basis, pending, submissions)

    def _signed(self, records: Sequence[bytes]) -> SignedSubmission:
        return signed_submission(self._agency, records, self._now_ms(), self._ledger.genesis, self._signers)

    def _complete(self, batch: Path, advance: Callable[[int], None]) -> Outcome:
        """Finish every job of a batch, and only then forget them all."""
        outcome = _joined([self._send(path, advance) for path in self._directory.jobs(batch)])
        self._directory.finish(batch)
        return outcome

    def _send(self, path: Path, advance: Callable[[int], None]) -> Outcome:
        """Send a saved job until every submission is placed or refused; then write its receipts."""
        job = self._directory.load(path)
        if job.genesis != self._ledger.genesis or job.agency != self._agency:
            raise FileProblem(
                "was saved for another ledger or agency", where=str(path), fix="finish it there first"
            )
        firsts: dict[int, int] = {}
        refused: dict[int, SudurError] = {}
        answer = self._client.submit_bulk(job.genesis, job.submissions)
        for position, outcome in enumerate(answer.outcomes):
            if isinstance(outcome, Placed):
                firsts[position] = outcome.first_record_index
            elif isinstance(outcome, Unavailable):
                raise outcome
            else:
                first = self._logged_before(job.documents_of(position))
                if first is not None:
                    firsts[position] = first
                elif isinstance(outcome, ClaimedTimeOutsideWindow):
                    job = self._signed_anew(path, job, position)
                    try:
                        placed, _ = self._client.submit(job.genesis, job.submissions[position])
                        firsts[position] = placed.first_record_index
                    except (FormatError, VerificationError, RuleError) as error:
                        refused[position] = error
                else:
                    refused[position] = outcome
        return Outcome(
            tuple(self._write_receipts(job, firsts, advance)),
            tuple(
                Refused(tuple(one.receipt for one in job.documents_of(position)), error)
                for position, error in refused.items()
            ),
        )

    def _logged_before(self, documents: Sequence[PendingDocument]) -> int | None:
        """The index of a submission's first record, when its documents are in the ledger already.

        A refused submission may have been logged by an earlier run whose answer was lost longer ago
        than the node remembers submissions. What the node says here is checked with the receipts.
        """
        commitment = documents[0].disclosure.commitment(self._ledger.genesis)
        indexes = self._client.lookup(self._agency, commitment)
        return indexes[0] if indexes else None

    def _signed_anew(self, path: Path, job: Job, position: int) -> Job:
        """With an old submission signed again at the time of now; saved before it is sent, as at first."""
        records = unpack(job.submissions[position].records, most=MAX_RECORDS)
        job = job.with_submission(position, self._signed(records))
        self._directory.replace(path, job)
        return job

    def _write_receipts(
        self, job: Job, firsts: dict[int, int], advance: Callable[[int], None]
    ) -> list[Issued]:
        if not firsts:
            return []
        builder = ReceiptBuilder(self._resources, self._ledger, self._client.checkpoint())
        trust = Trust((self._ledger,))
        issued = []
        for position, first in sorted(firsts.items()):
            self._directory.keep_seeds(job, position, first)
            for offset, one in enumerate(job.documents_of(position)):
                receipt = builder.build(one.disclosure, first + offset)
                verdict = verify_receipt(receipt, trust, now_ms=self._now_ms())
                path, elsewhere = self._write(one.receipt, receipt)
                commitment = one.disclosure.commitment(self._ledger.genesis)
                issued.append(
                    Issued(
                        one.disclosure.shown,
                        job.basis,
                        path,
                        elsewhere,
                        first + offset,
                        commitment,
                        verdict.code,
                        verdict.reason,
                    )
                )
                advance(1)
        return issued

    def _write(self, path: Path, receipt: Receipt) -> tuple[Path, FileProblem | None]:
        """Write a receipt; among the agency's own when the place that was asked for will not have it."""
        own = self._directory.receipts.absolute()
        try:
            return write_receipt(path, receipt), None
        except FileProblem as error:
            if path.parent == own:
                raise
            return write_receipt(own / path.name, receipt), error


def _joined(outcomes: Sequence[Outcome]) -> Outcome:
    return Outcome(
        tuple(one for outcome in outcomes for one in outcome.issued),
        tuple(one for outcome in outcomes for one in outcome.refused),
        tuple(one for outcome in outcomes for one in outcome.stuck),
    )
