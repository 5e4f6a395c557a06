"""An agency's working directory: its keys, the ledger it is pinned to, and work not yet finished.

    <label>.key.json       a private key (0600)          <label>.pub.json   its public half
    trust.json             the pinned ledger             agency.json        its number, and its keys'
    pending/<n>/           one command's submissions, signed and saved before they were sent (0600)
    receipts/              one file a document (0600), unless another place is named
    issued/<index>.json    the seeds of one submission's documents (0600), by its first record's index

The salts of a document come from its seed, and a receipt holds the salts alone: what is derived from
the seed later needs what is in issued/. It is canonical JSON: {"format": "sudur-issued/v1", "genesis",
"agency", "documents": [{"index", "type", "commitment", "seed", "receipt"}]}, bytes in base64 and the
index in decimal text; ``receipt`` is where the receipt was to be written. A seed opens its document's
commitment as a receipt does, and is to be kept as private.

A pending batch holds everything that its receipts need, so whatever happens between the first byte
sent and the last receipt written, running the command again sends the very same submissions and
gets the first answers: nothing is lost and nothing is issued twice. A batch comes and goes by one
rename each, so it is never there in part.
"""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from ledger.canonical_json import Json, Reader, base64_text, encode, parse, u64_text
from ledger.changes import MAX_AGENCY, MAX_KEY_NUMBER
from ledger.documents import SEED_SIZE, Disclosure, Document
from ledger.errors import FormatError, ReceiptFormatError
from ledger.receipts import MAX_RECEIPT, Receipt, disclosure_from_json, disclosure_to_json, parse_receipt
from ledger.records import MAX_RECORDS, Basis
from ledger.trust import Trust, TrustedLedger
from tools.errors import FileProblem, NameTaken, Usage
from tools.files import (
    PUBLIC,
    make_private_directory,
    read_file,
    rename,
    write_file,
    write_new_file,
)
from tools.keyfile import KeyFile, PrivateKey, save_key, save_public_key
from tools.pinning import load_trust, only_ledger
from tools.signing import SignedSubmission

MAX_JOB: Final = 256 << 20
MAX_JOB_SUBMISSIONS: Final = 64
_BATCH: Final = re.compile(r"[0-9]{8}", re.ASCII)
_LEFT_OVER: Final = re.compile(r"\.(new|done)-[0-9a-f]{12}", re.ASCII)
MAX_NAME: Final = 255
"""Most bytes of a file's name."""
_ENDING: Final = ".receipt.json"
_JOB_FORMAT: Final = "sudur-pending/v1"
_ISSUED_FORMAT: Final = "sudur-issued/v1"
_AGENCY_FORMAT: Final = "sudur-agency/v1"


@dataclass(frozen=True, slots=True)
class PendingDocument:
    """A document as its receipt will show it, the seed of its salts, and where that receipt goes."""

    disclosure: Disclosure
    seed: bytes
    receipt: Path

    @classmethod
    def of(cls, document: Document, seed: bytes, receipt: Path) -> PendingDocument:
        """Raises DocumentFormatError for a seed that is not 16 bytes."""
        return cls(document.disclose(seed), seed, receipt)


@dataclass(frozen=True, slots=True)
class Job:
    """What one call sends: signed submissions, and their documents in the order of the records."""

    genesis: bytes
    agency: int
    basis: Basis
    documents: tuple[PendingDocument, ...]
    submissions: tuple[SignedSubmission, ...]

    def documents_of(self, position: int) -> tuple[PendingDocument, ...]:
        """The documents of submission ``position``: every one but the last is full."""
        return self.documents[position * MAX_RECORDS : (position + 1) * MAX_RECORDS]

    def with_submission(self, position: int, submission: SignedSubmission) -> Job:
        changed = list(self.submissions)
        changed[position] = submission
        return replace(self, submissions=tuple(changed))

    def encode(self) -> bytes:
        return encode(
            {
                "format": _JOB_FORMAT,
                "genesis": base64_text(self.genesis),
                "agency": self.agency,
                "basis": int(self.basis),
                "documents": [
                    {
                        "document": disclosure_to_json(one.disclosure),
                        "seed": base64_text(one.seed),
                        "receipt": str(one.receipt),
                    }
                    for one in self.documents
                ],
                "submissions": [
                    {"leaf": base64_text(one.leaf), "records": base64_text(one.records)}
                    for one in self.submissions
                ],
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> Job:
        """Raises FormatError."""
        reader = Reader(parse(data, limit=MAX_JOB, where="pending job"), "pending job")
        if reader.text("format") != _JOB_FORMAT:
            raise FormatError(f"is not {_JOB_FORMAT}", where=reader.at("format"))
        job = cls(
            reader.data("genesis", size=32),
            reader.number("agency", 1, MAX_AGENCY),
            Basis(reader.number("basis", min(Basis), max(Basis))),
            tuple(
                _document(one) for one in reader.members("documents", limit=MAX_RECORDS * MAX_JOB_SUBMISSIONS)
            ),
            tuple(_submission(one) for one in reader.members("submissions", limit=MAX_JOB_SUBMISSIONS)),
        )
        reader.done()
        if len(job.submissions) != -(-len(job.documents) // MAX_RECORDS):
            raise FormatError("documents and submissions do not fit each other", where="pending job")
        return job


@dataclass(frozen=True, slots=True)
class Membership:
    """The agency's number, and the number of each of its keys by fingerprint."""

    agency: int
    keys: dict[str, int]

    def encode(self) -> bytes:
        body: Json = {"format": _AGENCY_FORMAT, "agency": self.agency, "keys": self.keys}
        return encode(body) + b"\n"

    @classmethod
    def decode(cls, data: bytes) -> Membership:
        """Raises FormatError."""
        value = parse(data.removesuffix(b"\n"), limit=1 << 20, where="agency.json")
        reader = Reader(value, "agency.json")
        if reader.text("format") != _AGENCY_FORMAT:
            raise FormatError(f"is not {_AGENCY_FORMAT}", where=reader.at("format"))
        number = reader.number("agency", 1, MAX_AGENCY)
        names = reader.any("keys")
        keys = Reader(names, reader.at("keys"))
        reader.done()
        return cls(number, {name: keys.number(name, 1, MAX_KEY_NUMBER) for name in names})


class AgencyDirectory:
    """The directory at ``path``. Writers hold its lock (``tools.files.locked``)."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def open(cls, path: Path) -> AgencyDirectory:
        """One that exists. Raises Usage."""
        if not path.is_dir():
            raise Usage(f"{path} is no directory", where="--dir", fix="make keys first: sudur agency keygen")
        return cls(path)

    @classmethod
    def create(cls, path: Path) -> AgencyDirectory:
        """One that exists, or a new one that only its owner enters. Raises FileProblem."""
        make_private_directory(path)
        return cls(path)

    # --- keys ---

    def add_key(self, key: PrivateKey, passphrase: str | None) -> tuple[Path, Path]:
        """Save a new key pair; the paths of the private and the public file. Raises FileProblem."""
        private, public = self._key_path(key.public.label), self.public_path(key.public.label)
        save_key(private, key, passphrase)
        save_public_key(public, key.public)
        return private, public

    def free_label(self, use: str) -> str:
        """``submit``, or ``submit-2`` and so on when that is taken."""
        number = 1
        while True:
            label = use if number == 1 else f"{use}-{number}"
            if not self._key_path(label).exists() and not self.public_path(label).exists():
                return label
            number += 1

    def key_files(self, use: str) -> list[KeyFile]:
        """The key files of a use, by name. Raises FileProblem, KeyFileError."""
        files = [KeyFile(path) for path in sorted(self.path.glob("*.key.json"))]
        return [one for one in files if one.public.use == use]

    def find_key(self, name: str) -> KeyFile:
        """A key by its label here, or by a path. Raises Usage, KeyFileError."""
        for path in (self._key_path(name), Path(name)):
            if path.is_file():
                return KeyFile(path)
        raise Usage(
            f"there is no key {name!r}", where="--signer", fix=f"name a key in {self.path}, or a key file"
        )

    def _key_path(self, label: str) -> Path:
        return self.path / f"{label}.key.json"

    def public_path(self, label: str) -> Path:
        return self.path / f"{label}.pub.json"

    # --- the ledger and the agency's place in it ---

    def pinned(self) -> TrustedLedger | None:
        """The pinned ledger; None before the first use. Raises FileProblem, TrustFormatError."""
        path = self.path / "trust.json"
        return only_ledger(load_trust(path)) if path.exists() else None

    def pin(self, ledger: TrustedLedger) -> Path:
        """Pin the ledger, once. Raises FileProblem."""
        path = self.path / "trust.json"
        write_new_file(path, Trust((ledger,)).encode() + b"\n", PUBLIC)
        return path

    def membership(self) -> Membership | None:
        """What is known of the agency's number and keys. Raises FileProblem."""
        path = self.path / "agency.json"
        if not path.exists():
            return None
        try:
            return Membership.decode(read_file(path, 1 << 20))
        except FormatError as error:
            raise FileProblem(
                f"is damaged: {error}", where=str(path), fix="remove it: it is found again"
            ) from error

    def remember(self, membership: Membership) -> None:
        write_file(self.path / "agency.json", membership.encode())

    # --- what was issued ---

    @property
    def receipts(self) -> Path:
        """Where receipts go when no other place is named."""
        return self.path / "receipts"

    def keep_seeds(self, job: Job, position: int, first: int) -> None:
        """Keep the seeds of submission ``position``, whose first record is at index ``first``.

        The same submission again gives the same file. Raises FileProblem.
        """
        body: Json = {
            "format": _ISSUED_FORMAT,
            "genesis": base64_text(job.genesis),
            "agency": job.agency,
            "documents": [
                {
                    "index": u64_text(index),
                    "type": one.disclosure.document_type,
                    "commitment": base64_text(one.disclosure.commitment(job.genesis)),
                    "seed": base64_text(one.seed),
                    "receipt": str(one.receipt),
                }
                for index, one in enumerate(job.documents_of(position), first)
            ],
        }
        make_private_directory(self.path / "issued")
        write_file(self.path / "issued" / f"{first:020}.json", encode(body) + b"\n")

    # --- pending work ---

    @property
    def _pending(self) -> Path:
        return self.path / "pending"

    def pending(self) -> list[Path]:
        """The batches that were saved and not finished, the oldest first. Raises FileProblem."""
        if not self._pending.is_dir():
            return []
        for path in self._pending.iterdir():
            if _LEFT_OVER.fullmatch(path.name):
                shutil.rmtree(path, ignore_errors=True)
        return sorted(path for path in self._pending.iterdir() if _BATCH.fullmatch(path.name))

    def jobs(self, batch: Path) -> list[Path]:
        """The jobs of a batch, in order."""
        return sorted(batch.glob("*.json"))

    def load(self, path: Path) -> Job:
        """Raises FileProblem; a damaged job is never skipped, since it may have been sent."""
        try:
            return Job.decode(read_file(path, MAX_JOB))
        except FormatError as error:
            raise FileProblem(
                f"is damaged: {error}",
                where=str(path),
                fix="keep a copy of it, and move it away to go on without it",
            ) from error

    def save(self, jobs: Sequence[Job]) -> Path:
        """Save the jobs of one command as a batch; all are on disk when it returns. Raises FileProblem."""
        make_private_directory(self._pending)
        last = self.pending()
        number = int(last[-1].name) + 1 if last else 1
        new, batch = self._temporary("new"), self._pending / f"{number:08}"
        make_private_directory(new)
        for position, job in enumerate(jobs):
            write_new_file(new / f"{position:06}.json", job.encode())
        rename(new, batch)
        return batch

    def replace(self, path: Path, job: Job) -> None:
        """Save a job in place of its earlier form. Raises FileProblem."""
        write_file(path, job.encode())

    def finish(self, batch: Path) -> None:
        """Forget a batch: every receipt of it is on disk, or refused for good. Raises FileProblem."""
        done = self._temporary("done")
        rename(batch, done)
        shutil.rmtree(done, ignore_errors=True)

    def _temporary(self, name: str) -> Path:
        return self._pending / f".{name}-{secrets.token_hex(6)}"


def receipt_paths(directory: Path, names: Sequence[str]) -> list[Path]:
    """A free path for each receipt: ``<name>.receipt.json``, or ``<name>.2.receipt.json`` and so on."""
    taken: set[Path] = set()
    paths = []
    for name in names:
        path = next(one for one in _paths(directory, name) if one not in taken and not one.exists())
        taken.add(path)
        paths.append(path)
    return paths


def write_receipt(path: Path, receipt: Receipt) -> Path:
    """Write a receipt at ``path``, or at the next name that is free; returns where it went.

    Only an earlier receipt of the same document is replaced: any other may be the only copy of its
    salts. The directory is made when it is not there. Raises FileProblem.
    """
    data = receipt.encode()
    make_private_directory(path.parent)
    others = _paths(path.parent, path.name.removesuffix(_ENDING), 2)
    while True:
        try:
            write_new_file(path, data)
            return path
        except NameTaken:
            if _is_of_same_document(path, receipt):
                write_file(path, data)
                return path
            path = next(others)


def _paths(directory: Path, name: str, number: int = 1) -> Iterator[Path]:
    """``name`` with the ending of a receipt, then numbered; shortened to what a file system takes."""
    while True:
        ending = _ENDING if number == 1 else f".{number}{_ENDING}"
        short = name.encode()[: MAX_NAME - len(ending)].decode(errors="ignore")
        yield directory / f"{short}{ending}"
        number += 1


def _is_of_same_document(path: Path, receipt: Receipt) -> bool:
    try:
        there = parse_receipt(read_file(path, MAX_RECEIPT + 1))
    except (FileProblem, ReceiptFormatError):
        return False
    return there.document.commitment(there.genesis) == receipt.document.commitment(receipt.genesis)


def _document(reader: Reader) -> PendingDocument:
    disclosure = disclosure_from_json(reader.member("document"))
    seed = reader.data("seed", size=SEED_SIZE)
    path = Path(reader.text("receipt", limit=4096))
    reader.done()
    document = Document(disclosure.agency, disclosure.document_type, disclosure.shown)
    if document.disclose(seed) != disclosure:
        raise FormatError("is not the seed of the document's salts", where=reader.at("seed"))
    return PendingDocument(disclosure, seed, path)


def _submission(reader: Reader) -> SignedSubmission:
    submission = SignedSubmission(reader.data("leaf"), reader.data("records", limit=1 << 20))
    reader.done()
    return submission
