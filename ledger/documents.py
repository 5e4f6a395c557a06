"""A document, and the commitment that hides and binds it.

A document is its type's fields in the type's order, then its files. Each field is hashed with a
salt of its own, so nobody can guess a short value from the log, and a holder can show some fields
and keep others hidden. Values are hashed as the exact UTF-8 bytes that travel, in NFC; letters are
never folded, since ى/ي and ک/ك are told apart by Arabic and Kurdish orthography. Format:
docs/format.md, section Documents.
"""

from __future__ import annotations

import hmac
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from hashlib import sha256
from typing import Final

from ledger.errors import CommitmentMismatch, DocumentFormatError
from ledger.hashing import HASH_SIZE, LEAF_PREFIX, leaf_hash, merkle_root

SEED_SIZE: Final = 16
SALT_SIZE: Final = 16
MAX_FIELDS: Final = 256
MAX_VALUE: Final = 16_384
TYPE_FIELD: Final = "type"

# Fixed code points, not a category looked up: whoever checks, with whichever Unicode, must agree.
_CONTROLS: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_HMAC_BLOCK: Final = 64
_INNER: Final = bytes(byte ^ 0x36 for byte in range(256))
_OUTER: Final = bytes(byte ^ 0x5C for byte in range(256))
_LABELS: Final = {
    "document": b"sudur/v1/document\n",
    "circulated": b"sudur/v1/circulated\n",
    "answer": b"sudur/v1/answer\n",
    "attested": b"sudur/v1/attested\n",
}


class FieldKind(IntEnum):
    TEXT = 0
    FILE = 1


@dataclass(frozen=True, slots=True)
class Field:
    """A named value: text, or the SHA-256 of a file (then ``value`` is its 32 bytes)."""

    kind: FieldKind
    name: str
    value: bytes

    @classmethod
    def text(cls, name: str, value: str) -> Field:
        """A text field; DocumentFormatError for values that no two people would read alike."""
        check_text(name, value)
        return cls(FieldKind.TEXT, name, value.encode("utf-8"))

    @classmethod
    def file(cls, name: str, digest: bytes) -> Field:
        """A file field, of the SHA-256 of the file's bytes."""
        return cls(FieldKind.FILE, name, digest)

    def slot(self) -> bytes:
        """What is hashed behind its salt: kind u8, length u8 of the name, name, value."""
        name = self.name.encode("utf-8")
        return bytes((self.kind, len(name))) + name + self.value

    @classmethod
    def from_slot(cls, slot: bytes) -> Field:
        """The inverse of :meth:`slot`, unchecked but for its shape. Raises DocumentFormatError."""
        try:
            end = 2 + slot[1]
            return cls(FieldKind(slot[0]), slot[2:end].decode("utf-8"), slot[end:])
        except (IndexError, ValueError):
            raise DocumentFormatError("is no field") from None

    def check(self) -> None:
        """Refuse a field that may not be committed to. Raises DocumentFormatError."""
        name = self.name.encode("utf-8", "surrogatepass")
        if not 1 <= len(name) <= 255:
            raise DocumentFormatError(f"a field's name has 1 to 255 bytes, not {len(name)}")
        check_text("a field's name", self.name)
        if self.kind is FieldKind.FILE and len(self.value) != HASH_SIZE:
            raise DocumentFormatError("a file's value is its SHA-256, 32 bytes", where=self.name)
        if self.kind is FieldKind.TEXT:
            if len(self.value) > MAX_VALUE:
                raise DocumentFormatError(
                    f"{len(self.value)} bytes, at most {MAX_VALUE} are allowed", where=self.name
                )
            try:
                check_text(self.name, self.value.decode("utf-8"))
            except UnicodeDecodeError:
                raise DocumentFormatError("not UTF-8", where=self.name) from None


@dataclass(frozen=True, slots=True)
class Document:
    """What an agency issues: ``fields[0]`` is the text field ``type``, the decimal id of the type."""

    agency: int
    document_type: int
    fields: tuple[Field, ...]

    @classmethod
    def build(cls, agency: int, document_type: int, fields: Sequence[Field]) -> Document:
        """A checked document from the fields behind the type field."""
        document = cls(agency, document_type, (Field.text(TYPE_FIELD, str(document_type)), *fields))
        document.check()
        for field in fields:
            check_composed("a field's name", field.name)
            if field.kind is FieldKind.TEXT:
                check_composed(field.name, field.value.decode("utf-8"))
        return document

    def check(self) -> None:
        """Raises DocumentFormatError unless every field, and field 0, may be committed to."""
        if not 1 <= len(self.fields) <= MAX_FIELDS:
            raise DocumentFormatError(f"{len(self.fields)} fields, 1 to {MAX_FIELDS} are allowed")
        if self.fields[0] != Field(FieldKind.TEXT, TYPE_FIELD, str(self.document_type).encode()):
            raise DocumentFormatError("the first field is not the document's type")
        for field in self.fields:
            field.check()
        names = [field.name for field in self.fields]
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise DocumentFormatError("two fields bear this name", where=twice)

    def disclose(self, seed: bytes, hidden: frozenset[str] = frozenset()) -> Disclosure:
        """Show the document but for the fields named in ``hidden``.

        Raises DocumentFormatError for a seed that is not 16 bytes, and for a name that no field
        bears, or that of the type: what was to be hidden would otherwise be shown without a word.
        """
        if len(seed) != SEED_SIZE:
            raise DocumentFormatError(f"a seed has {SEED_SIZE} bytes, not {len(seed)}")
        unknown = sorted(hidden - {field.name for field in self.fields[1:]})
        if unknown:
            raise DocumentFormatError("no field of this name can be hidden", where=unknown[0])
        slots: list[Shown | Hidden] = []
        for position, field in enumerate(self.fields):
            shown = Shown(field, salt(seed, position))
            slots.append(Hidden(shown.hash()) if field.name in hidden else shown)
        return Disclosure(self.agency, self.document_type, tuple(slots))

    def commitment(self, genesis: bytes, seed: bytes, purpose: str = "document") -> bytes:
        """The 32 bytes that an ISSUE logs (another record, by its purpose). About 3 µs a field."""
        return self.disclose(seed).commitment(genesis, purpose)


@dataclass(frozen=True, slots=True)
class Shown:
    """A field and the salt that opens it."""

    field: Field
    salt: bytes

    def hash(self) -> bytes:
        return leaf_hash(self.salt + self.field.slot())


@dataclass(frozen=True, slots=True)
class Hidden:
    """A field that the holder keeps to themselves: its leaf hash alone."""

    leaf: bytes

    def hash(self) -> bytes:
        return self.leaf


@dataclass(frozen=True, slots=True)
class Disclosure:
    """A document as its holder shows it: every field in its place, shown or hidden."""

    agency: int
    document_type: int
    slots: tuple[Shown | Hidden, ...]

    def commitment(self, genesis: bytes, purpose: str = "document") -> bytes:
        """The commitment that these slots open; hiding a field does not change it."""
        root = merkle_root([slot.hash() for slot in self.slots])
        return commitment(purpose, genesis, self.agency, len(self.slots), root)

    @property
    def shown(self) -> tuple[Field, ...]:
        return tuple(slot.field for slot in self.slots if isinstance(slot, Shown))

    def check(self) -> None:
        """DocumentFormatError for shown fields that may not be committed to, and for a hidden type."""
        if not 1 <= len(self.slots) <= MAX_FIELDS:
            raise DocumentFormatError(f"{len(self.slots)} fields, 1 to {MAX_FIELDS} are allowed")
        wanted = Field(FieldKind.TEXT, TYPE_FIELD, str(self.document_type).encode())
        first = self.slots[0]
        if not isinstance(first, Shown) or first.field != wanted:
            raise DocumentFormatError("the first field must show the document's type")
        for slot in self.slots:
            if isinstance(slot, Shown):
                slot.field.check()
                if len(slot.salt) != SALT_SIZE:
                    raise DocumentFormatError(f"a salt has {SALT_SIZE} bytes", where=slot.field.name)
            elif len(slot.leaf) != HASH_SIZE:
                raise DocumentFormatError(f"a hidden field's hash has {HASH_SIZE} bytes")
        names = [field.name for field in self.shown]
        if len(set(names)) != len(names):
            raise DocumentFormatError("two shown fields bear one name")

    def check_file(self, digest: bytes) -> Field:
        """The file field whose bytes have this SHA-256. Raises CommitmentMismatch."""
        for field in self.shown:
            if field.kind is FieldKind.FILE and hmac.compare_digest(field.value, digest):
                return field
        raise CommitmentMismatch(
            "this file is not one that the document was issued with",
            fix="it was altered, or it belongs to another document",
        )


class Commitments:
    """The commitments of many documents of one agency and ledger, without an object a field.

    Equal to :meth:`Document.commitment`, at a third of its cost: about 3 µs a field. HMAC is written
    out as its two hashes, since setting one up costs more than they do.
    """

    __slots__ = ("_genesis", "_messages", "agency")

    def __init__(self, genesis: bytes, agency: int) -> None:
        self.agency = agency
        self._genesis = genesis
        self._messages = [_salt_message(position) for position in range(MAX_FIELDS)]

    def of(self, seed: bytes, slots: Sequence[bytes]) -> bytes:
        """The commitment of the document with these fields (:meth:`Field.slot`), the type first.

        The fields are taken as they are: whoever writes them down has checked them.
        """
        padded = seed.ljust(_HMAC_BLOCK, b"\x00")
        inner, outer = padded.translate(_INNER), padded.translate(_OUTER)
        leaves = [
            sha256(
                LEAF_PREFIX + sha256(outer + sha256(inner + message).digest()).digest()[:SALT_SIZE] + slot
            ).digest()
            for message, slot in zip(self._messages, slots, strict=False)
        ]
        return commitment("document", self._genesis, self.agency, len(leaves), merkle_root(leaves))


def salt(seed: bytes, position: int) -> bytes:
    """The 16-byte salt of the field at ``position``."""
    return hmac.digest(seed, _salt_message(position), "sha256")[:SALT_SIZE]


def _salt_message(position: int) -> bytes:
    return b"sudur/v1/salt" + position.to_bytes(2, "big")


def commitment(purpose: str, genesis: bytes, agency: int, count: int, root: bytes) -> bytes:
    """SHA-256(label ‖ G ‖ agency ‖ count ‖ root over the field leaves). 32 bytes.

    ``purpose``: "document", "circulated", "answer" or "attested"; each has a label of its own, so
    a commitment made for one cannot be passed off as another.
    """
    head = _LABELS[purpose] + genesis + agency.to_bytes(4, "big") + count.to_bytes(2, "big")
    return sha256(head + root).digest()


def check_text(where: str, text: str) -> None:
    """Refuse text that can be read two ways: control characters and bidirectional overrides.

    The rules and every verifier apply this, so it depends on no version of Unicode.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise DocumentFormatError("holds half a character (a lone surrogate)", where=where) from None
    control = _CONTROLS.search(text)
    if control is not None:
        raise DocumentFormatError(
            f"holds the control character U+{ord(control[0]):04X}",
            where=where,
            fix="remove it: it can make a text look like another",
        )


def check_composed(where: str, text: str) -> None:
    """Refuse text that is not in NFC; for whoever writes it down first.

    Not for verifiers: what NFC is of characters not yet assigned differs between Unicode versions,
    and a document must not stop verifying with an upgrade.
    """
    if not unicodedata.is_normalized("NFC", text):
        raise DocumentFormatError(
            "is not in Unicode's composed form (NFC)", where=where, fix="normalise it to NFC first"
        )
