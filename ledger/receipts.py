"""The receipt: a document together with everything that proves it, in one file.

It holds the document as its holder shows it, the ISSUE leaf, and the proofs that a light verifier
checks, so that it verifies with no network against a trust file alone. Canonical JSON. A receipt
that shows its fields is as private as the document. Format: docs/format.md, section Receipt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ledger.canonical_json import Json, Reader, base64_text, encode, parse, u64_text
from ledger.changes import MAX_AGENCY, MAX_TYPE
from ledger.documents import (
    MAX_FIELDS,
    MAX_VALUE,
    SALT_SIZE,
    Disclosure,
    Field,
    FieldKind,
    Hidden,
    Shown,
)
from ledger.errors import FormatError, ReceiptFormatError
from ledger.leaves import MAX_LEAF_SIZE
from ledger.notes import MAX_NOTE_SIZE
from ledger.registry_records import MAX_RECORD
from ledger.status import CHUNK_SIZE, compress_chunk, expand_chunk

MAX_RECEIPT: Final = 8 << 20
_FORMAT: Final = "sudur-receipt/v1"
MAX_ATTESTATIONS: Final = 64
"""Most attestations that one receipt carries."""
_MAX_PATH: Final = 64


@dataclass(frozen=True, slots=True)
class ProvenLeaf:
    """A leaf of the log and its inclusion path to the checkpoint's root."""

    index: int
    leaf: bytes
    path: tuple[bytes, ...]

    def to_json(self) -> Json:
        return {"index": u64_text(self.index), "leaf": base64_text(self.leaf), "path": path_json(self.path)}

    @classmethod
    def from_json(cls, reader: Reader) -> ProvenLeaf:
        proven = cls(reader.u64("index"), reader.data("leaf", limit=MAX_LEAF_SIZE), read_path(reader))
        reader.done()
        return proven


@dataclass(frozen=True, slots=True)
class ProvenRecord:
    """A registry record and its path to the registry root, or to its agency's keys root."""

    record: bytes
    path: tuple[bytes, ...]

    def to_json(self) -> Json:
        return {"record": self.record.decode("utf-8"), "path": path_json(self.path)}

    @classmethod
    def from_json(cls, reader: Reader) -> ProvenRecord:
        record = reader.text("record", limit=MAX_RECORD).encode("utf-8")
        proven = cls(record, read_path(reader))
        reader.done()
        return proven


@dataclass(frozen=True, slots=True)
class ProvenChunk:
    """A status chunk (16,384 bytes) and its path to the status root."""

    chunk: bytes
    path: tuple[bytes, ...]

    def to_json(self) -> Json:
        return {"zlib": base64_text(compress_chunk(self.chunk)), "path": path_json(self.path)}

    @classmethod
    def from_json(cls, reader: Reader) -> ProvenChunk:
        data = reader.data("zlib", limit=2 * CHUNK_SIZE)
        proven = cls(expand_chunk(data), read_path(reader))
        reader.done()
        return proven


@dataclass(frozen=True, slots=True)
class ProvenSubmission:
    """The SUBMISSION that covers the ISSUE, and the ISSUE's path to its records root."""

    head: ProvenLeaf
    records_path: tuple[bytes, ...]

    def to_json(self) -> Json:
        return {**self.head.to_json(), "records_path": path_json(self.records_path)}

    @classmethod
    def from_json(cls, reader: Reader) -> ProvenSubmission:
        head = ProvenLeaf(reader.u64("index"), reader.data("leaf", limit=MAX_LEAF_SIZE), read_path(reader))
        proven = cls(head, read_path(reader, "records_path"))
        reader.done()
        return proven


@dataclass(frozen=True, slots=True)
class ProvenChange:
    """The STATUS that made a document what it is now, the SUBMISSION that covers it, and who made it.

    ``agency`` is None, and there are no ``keys``, when that was the authority.
    """

    leaf: ProvenLeaf
    submission: ProvenSubmission
    agency: ProvenRecord | None
    keys: tuple[ProvenRecord, ...]

    def to_json(self) -> Json:
        return {
            "change": self.leaf.to_json(),
            "submission": self.submission.to_json(),
            "agency": None if self.agency is None else self.agency.to_json(),
            "keys": [key.to_json() for key in self.keys],
        }

    @classmethod
    def from_json(cls, reader: Reader) -> ProvenChange:
        change = cls(
            ProvenLeaf.from_json(reader.member("change")),
            ProvenSubmission.from_json(reader.member("submission")),
            None if reader.any("agency") is None else ProvenRecord.from_json(reader.member("agency")),
            tuple(ProvenRecord.from_json(one) for one in reader.members("keys", limit=16)),
        )
        reader.done()
        return change


@dataclass(frozen=True, slots=True)
class RegistryProof:
    """The records that a verdict needs; ``document_type`` is None for an undeclared type."""

    ledger: ProvenRecord
    agency: ProvenRecord
    keys: tuple[ProvenRecord, ...]
    document_type: ProvenRecord | None

    def to_json(self) -> Json:
        return {
            "ledger": self.ledger.to_json(),
            "agency": self.agency.to_json(),
            "keys": [key.to_json() for key in self.keys],
            "type": None if self.document_type is None else self.document_type.to_json(),
        }

    @classmethod
    def from_json(cls, reader: Reader) -> RegistryProof:
        proof = cls(
            ProvenRecord.from_json(reader.member("ledger")),
            ProvenRecord.from_json(reader.member("agency")),
            tuple(ProvenRecord.from_json(one) for one in reader.members("keys", limit=16)),
            None if reader.any("type") is None else ProvenRecord.from_json(reader.member("type")),
        )
        reader.done()
        return proof


@dataclass(frozen=True, slots=True)
class ProvenAttestation:
    """An ATTEST with all that attributes it to its agency, and its own status.

    ``copy`` opens its commitment: the attested translation or copy; None when there is none, or it is
    not shown.
    """

    leaf: ProvenLeaf
    status: ProvenChunk
    submission: ProvenSubmission
    agency: ProvenRecord
    keys: tuple[ProvenRecord, ...]
    copy: Disclosure | None

    def to_json(self) -> Json:
        return {
            "attest": self.leaf.to_json(),
            "status": self.status.to_json(),
            "submission": self.submission.to_json(),
            "agency": self.agency.to_json(),
            "keys": [key.to_json() for key in self.keys],
            "copy": None if self.copy is None else disclosure_to_json(self.copy),
        }

    @classmethod
    def from_json(cls, reader: Reader) -> ProvenAttestation:
        attestation = cls(
            ProvenLeaf.from_json(reader.member("attest")),
            ProvenChunk.from_json(reader.member("status")),
            ProvenSubmission.from_json(reader.member("submission")),
            ProvenRecord.from_json(reader.member("agency")),
            tuple(ProvenRecord.from_json(one) for one in reader.members("keys", limit=16)),
            None if reader.any("copy") is None else disclosure_from_json(reader.member("copy")),
        )
        reader.done()
        return attestation


@dataclass(frozen=True, slots=True)
class Receipt:
    """Everything in one place. ``genesis`` is G; ``checkpoint`` the signed note as it was served.

    ``attestations`` are in the order of the log, so each stands behind what it attests. ``changed``: when
    and by whom the document was revoked, suspended or superseded, where that is known.
    """

    genesis: bytes
    document: Disclosure
    checkpoint: bytes
    issue: ProvenLeaf
    seal: ProvenLeaf
    status: ProvenChunk
    submission: ProvenSubmission
    registry: RegistryProof
    attestations: tuple[ProvenAttestation, ...] = ()
    changed: ProvenChange | None = None

    def encode(self) -> bytes:
        """The file's bytes: canonical JSON and a newline."""
        return (
            encode(
                {
                    "format": _FORMAT,
                    "genesis": base64_text(self.genesis),
                    "document": disclosure_to_json(self.document),
                    "checkpoint": self.checkpoint.decode("utf-8"),
                    "issue": self.issue.to_json(),
                    "seal": self.seal.to_json(),
                    "status": self.status.to_json(),
                    "submission": self.submission.to_json(),
                    "registry": self.registry.to_json(),
                    "attestations": [one.to_json() for one in self.attestations],
                    "changed": None if self.changed is None else self.changed.to_json(),
                }
            )
            + b"\n"
        )


def parse_receipt(data: bytes) -> Receipt:
    """Read a receipt file, of at most 8 MiB. Raises ReceiptFormatError; nothing is verified yet."""
    if not data.endswith(b"\n"):
        raise ReceiptFormatError("does not end with its newline: it may be cut short", where="receipt")
    try:
        reader = Reader(parse(data[:-1], limit=MAX_RECEIPT, where="receipt"), "receipt")
        if reader.text("format") != _FORMAT:
            raise FormatError(f"is not {_FORMAT}", where=reader.at("format"))
        receipt = Receipt(
            genesis=reader.data("genesis", size=32),
            document=disclosure_from_json(reader.member("document")),
            checkpoint=reader.text("checkpoint", limit=MAX_NOTE_SIZE).encode("utf-8"),
            issue=ProvenLeaf.from_json(reader.member("issue")),
            seal=ProvenLeaf.from_json(reader.member("seal")),
            status=ProvenChunk.from_json(reader.member("status")),
            submission=ProvenSubmission.from_json(reader.member("submission")),
            registry=RegistryProof.from_json(reader.member("registry")),
            attestations=tuple(
                ProvenAttestation.from_json(one)
                for one in reader.members("attestations", limit=MAX_ATTESTATIONS)
            ),
            changed=(
                None if reader.any("changed") is None else ProvenChange.from_json(reader.member("changed"))
            ),
        )
        reader.done()
    except FormatError as error:
        raise ReceiptFormatError(error.what, where=error.where, fix=error.fix) from error
    return receipt


# --- the document in it ------------------------------------------------------------------------


def disclosure_to_json(document: Disclosure) -> Json:
    """Shown fields with value and salt, hidden ones as their leaf hash, in the document's order."""
    return {
        "agency": document.agency,
        "type": document.document_type,
        "fields": [_slot_to_json(slot) for slot in document.slots],
    }


def disclosure_from_json(reader: Reader) -> Disclosure:
    """The inverse; the disclosure's own checks included. Raises FormatError."""
    document = Disclosure(
        reader.number("agency", 1, MAX_AGENCY),
        reader.number("type", 0, MAX_TYPE),
        tuple(_slot_from_json(one) for one in reader.members("fields", limit=MAX_FIELDS)),
    )
    reader.done()
    document.check()
    return document


def _slot_to_json(slot: Shown | Hidden) -> Json:
    if isinstance(slot, Hidden):
        return {"hidden": base64_text(slot.leaf)}
    field = slot.field
    content = (
        {"value": field.value.decode("utf-8")}
        if field.kind is FieldKind.TEXT
        else {"sha256": base64_text(field.value)}
    )
    return {"name": field.name, "salt": base64_text(slot.salt), **content}


def _slot_from_json(reader: Reader) -> Shown | Hidden:
    slot: Shown | Hidden
    if reader.has("hidden"):
        slot = Hidden(reader.data("hidden", size=32))
    else:
        name, salt = reader.text("name"), reader.data("salt", size=SALT_SIZE)
        if reader.has("sha256"):
            field = Field.file(name, reader.data("sha256", size=32))
        else:
            field = Field.text(name, reader.text("value", limit=MAX_VALUE, empty=True))
        slot = Shown(field, salt)
    reader.done()
    return slot


def path_json(hashes: tuple[bytes, ...]) -> Json:
    return [base64_text(one) for one in hashes]


def read_path(reader: Reader, name: str = "path") -> tuple[bytes, ...]:
    values = reader.items(name, limit=_MAX_PATH)
    inner = Reader({str(i): value for i, value in enumerate(values)}, reader.at(name))
    return tuple(inner.data(str(i), size=32) for i in range(len(values)))
