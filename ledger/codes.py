"""The full code: a document with what opens its commitment, as digits that fit a QR code.

It says which ledger, who issued it, of what type, where it was logged, and what it says. Nothing in it
proves anything by itself: whoever reads it rebuilds the ISSUE leaf and looks for that in the ledger. A
link may stand in front, for cameras; it is no part of the code, and no verdict comes from it.
Format: docs/format.md, section Codes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from hashlib import sha256
from struct import Struct
from typing import Final

from ledger.changes import MAX_AGENCY
from ledger.checkpoints import MAX_TREE_SIZE
from ledger.digits import GROUP_DIGITS, are_digits, digit_count, folded, from_digits, to_digits
from ledger.documents import (
    MAX_FIELDS,
    SALT_SIZE,
    TYPE_FIELD,
    Disclosure,
    Document,
    Field,
    FieldKind,
    Hidden,
    Shown,
    salt,
)
from ledger.errors import (
    CheckpointUntrusted,
    CodeCutShort,
    CodeFormatError,
    CodeMisread,
    CommitmentMismatch,
    DocumentFormatError,
    FormatError,
    TooLarge,
)
from ledger.hashing import HASH_SIZE
from ledger.records import UNDECLARED_TYPE, Basis, Issue
from ledger.registry_records import TypeRecord
from ledger.tiles import TILE_HEIGHT, TILE_WIDTH
from ledger.trust import Trust, TrustedLedger

MAX_CODE: Final = 4_096
"""Bytes of the longest code. A QR code of the largest kind holds 2,953 of them."""
MAX_CODE_TEXT: Final = 16_384
"""Characters that are looked at, link, spaces and marks included."""
MAX_LINK: Final = 255
PATH_HASHES: Final = TILE_HEIGHT
"""Hashes from a leaf to the root of the 256 leaves that it stands among."""

_VERSION: Final = 1
_HEAD: Final = Struct(">HBB4sIHBQ16sB")
_SLOT: Final = Struct(">H")
_CHECK_SIZE: Final = 2
_SALTED, _WITH_PATH = 1, 2
_TEXT, _FILE, _HIDDEN, _NAMED = range(4)
_LENGTH_BITS: Final = 14
_LEAST: Final = _HEAD.size + _CHECK_SIZE
_LINK: Final = re.compile(r"https://([a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?(?::[0-9]{1,5})?)/", re.ASCII)
_SYMBOLOGY: Final = re.compile(r"\]Q[0-9]", re.ASCII)
_WHERE: Final = "code"
_AGAIN: Final = "scan it again, all of it, or type it in"


@dataclass(frozen=True, slots=True)
class CodeField:
    """A field that a code shows. ``name`` is None where the document's type gives it.

    ``salt`` is None in a code that bears the seed.
    """

    kind: FieldKind
    name: str | None
    value: bytes
    salt: bytes | None


@dataclass(frozen=True, slots=True)
class Code:
    """A code as it was read: well formed, and nothing more.

    ``ledger``: the first 4 bytes of G. ``opening``: the seed, or, when ``salted``, the salt of field 0, and
    then each shown field has its own. ``slots``: the fields behind field 0. ``path``: none, or the 8 hashes
    from the leaf to the root of its 256 leaves. ``link``: what stood in front.
    """

    ledger: bytes
    agency: int
    document_type: int
    basis: Basis
    index: int
    opening: bytes
    salted: bool
    slots: tuple[CodeField | Hidden, ...]
    path: tuple[bytes, ...] = ()
    link: str = ""

    @property
    def host(self) -> str | None:
        """The host that the link names, if it is a link as codes have it."""
        match = _LINK.fullmatch(self.link.lower())
        return None if match is None else match[1]

    def encode(self) -> bytes:
        """The code's bytes. Raises TooLarge beyond 4,096, CodeFormatError for what no code can hold."""
        flags = _SALTED * self.salted | _WITH_PATH * bool(self.path)
        body = b"".join([*map(_encode_slot, self.slots), *self.path])
        size = _LEAST + len(body)
        if size > MAX_CODE:
            raise TooLarge(
                f"{size} bytes, a code has at most {MAX_CODE}",
                where=_WHERE,
                fix="the document is too long for one: hand over its receipt",
            )
        head = _HEAD.pack(
            size,
            _VERSION,
            flags,
            self.ledger,
            self.agency,
            self.document_type,
            self.basis,
            self.index,
            self.opening,
            len(self.slots),
        )
        data = head + body
        data += _check(data)
        if decode_code(data) != replace(self, link=""):
            raise CodeFormatError("it is not one that could be read again", where=_WHERE)
        return data

    def text(self) -> str:
        """The digits."""
        return to_digits(self.encode())

    def disclosure(self, definition: TypeRecord | None) -> Disclosure:
        """The document, with the names that its type gives; None for type 0.

        Raises CommitmentMismatch when it does not have the fields of its type, DocumentFormatError.
        """
        names = [] if definition is None else [one.name for one in definition.fields]
        if len(self.slots) < len(names):
            raise CommitmentMismatch("it does not have all the fields of its type", where=_WHERE)
        field = Field.text(TYPE_FIELD, str(self.document_type))
        slots: list[Shown | Hidden] = [Shown(field, self.opening if self.salted else salt(self.opening, 0))]
        for position, slot in enumerate(self.slots, 1):
            if isinstance(slot, Hidden):
                slots.append(slot)
                continue
            if slot.name is None and position > len(names):
                raise CommitmentMismatch("it has more fields than its type", where=_WHERE)
            name = names[position - 1] if slot.name is None else slot.name
            salted = salt(self.opening, position) if slot.salt is None else slot.salt
            slots.append(Shown(Field(slot.kind, name, slot.value), salted))
        found = Disclosure(self.agency, self.document_type, tuple(slots))
        found.check()
        return found

    def issue(self, document: Disclosure, genesis: bytes) -> Issue:
        """The record that the ledger has to hold at ``index``, if what the code says is so."""
        return Issue(self.agency, self.document_type, self.basis, document.commitment(genesis))


def code_of(
    document: Disclosure | tuple[Document, bytes],
    genesis: bytes,
    basis: Basis,
    index: int,
    path: tuple[bytes, ...] = (),
) -> Code:
    """The code of a document: as its holder shows it, or whole with its seed, which makes a shorter one."""
    if isinstance(document, Disclosure):
        first = document.slots[0]
        if not isinstance(first, Shown):
            raise DocumentFormatError("the first field must show the document's type")
        opening, salted, number, agency = first.salt, True, document.document_type, document.agency
        slots = tuple(_slot_of(one, number) for one in document.slots[1:])
    else:
        whole, opening = document
        salted, number, agency = False, whole.document_type, whole.agency
        slots = tuple(
            CodeField(one.kind, _kept_name(one, number), one.value, None) for one in whole.fields[1:]
        )
    return Code(genesis[:4], agency, number, basis, index, opening, salted, slots, path)


def path_of(index: int, size: int, path: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """The part of an inclusion path at ``size`` leaves that a code bears: none while its 256 are not full."""
    return path[:PATH_HASHES] if (index // TILE_WIDTH + 1) * TILE_WIDTH <= size else ()


def check_link(link: str) -> None:
    """Whether a link may stand in front of a code: ``https://host/``. Raises CodeFormatError."""
    if len(link) > MAX_LINK or _LINK.fullmatch(link) is None:
        raise CodeFormatError(
            f"{link!a} is no link for a code", where=_WHERE, fix="write it like https://verify.example.gov/"
        )


def parse_code(text: str) -> Code:
    """Read a code as it was scanned, typed or copied.

    A link in front (up to the last ``#``) is set aside; spaces, hyphens and marks are passed over, Arabic
    and Persian digits folded. Raises TooLarge; CodeCutShort for a scan that ended too early, CodeMisread
    when its check does not fit, CodeFormatError for what is no code, or has more behind it.
    """
    if len(text) > MAX_CODE_TEXT:
        raise TooLarge(f"{len(text)} characters, no code has more than {MAX_CODE_TEXT}", where=_WHERE)
    link, mark, rest = text.rpartition("#")
    link = (link + mark).strip()
    if len(link) > MAX_LINK:
        raise CodeFormatError("what stands in front of it is no link", where=_WHERE, fix=_AGAIN)
    digits = folded(_SYMBOLOGY.sub("", rest.strip(), count=1) if not link else rest)
    if not are_digits(digits):
        raise CodeFormatError("a code is digits and nothing else", where=_WHERE, fix=_AGAIN)
    _check_length(digits)
    try:
        code = decode_code(from_digits(digits))
    except CodeFormatError:
        raise
    except FormatError as error:
        raise CodeMisread(f"a digit is wrong: {error.what}", where=_WHERE, fix=_AGAIN) from error
    return replace(code, link=_SYMBOLOGY.sub("", link, count=1).removesuffix("#"))


def decode_code(data: bytes) -> Code:
    """Read a code's bytes, which end with it. Raises TooLarge, CodeMisread, CodeFormatError."""
    if len(data) > MAX_CODE:
        raise TooLarge(f"{len(data)} bytes, a code has at most {MAX_CODE}", where=_WHERE)
    if len(data) < _LEAST or int.from_bytes(data[:2], "big") != len(data):
        raise CodeFormatError(f"{len(data)} bytes are not a whole code", where=_WHERE, fix=_AGAIN)
    body, end = memoryview(data)[:-_CHECK_SIZE], data[-_CHECK_SIZE:]
    if _check(body) != end:
        raise CodeMisread("its check does not fit: a digit is wrong", where=_WHERE, fix=_AGAIN)
    _, version, flags, ledger, agency, number, basis, index, opening, count = _HEAD.unpack_from(data)
    if version != _VERSION:
        raise CodeFormatError(
            f"a code of version {version}, this program knows {_VERSION}", where=_WHERE, fix="update it"
        )
    if flags > _SALTED | _WITH_PATH or not 1 <= agency <= MAX_AGENCY or index > MAX_TREE_SIZE:
        raise CodeFormatError("its head is none that a code has", where=_WHERE)
    salted, end_of_slots = bool(flags & _SALTED), len(body)
    path: tuple[bytes, ...] = ()
    if flags & _WITH_PATH:
        end_of_slots -= PATH_HASHES * HASH_SIZE
        if end_of_slots < _HEAD.size:
            raise CodeFormatError("its path is cut short", where=_WHERE)
        path = tuple(data[at : at + HASH_SIZE] for at in range(end_of_slots, len(body), HASH_SIZE))
    try:
        known = Basis(basis)
    except ValueError:
        raise CodeFormatError(f"basis {basis} is not known", where=_WHERE) from None
    slots = _Slots(data[_HEAD.size : end_of_slots], number, salted).read(count)
    return Code(ledger, agency, number, known, index, opening, salted, slots, path)


def ledger_of_code(code: Code, trust: Trust) -> TrustedLedger:
    """The trusted ledger that a code says it is of. Raises CheckpointUntrusted for none, or several."""
    found = [one for one in trust.ledgers if one.genesis[:4] == code.ledger]
    if len(found) > 1:
        raise CheckpointUntrusted(
            "several ledgers of the trust file begin like the code's", fix="give one that names only its own"
        )
    if not found:
        raise CheckpointUntrusted(
            f"ledger {code.ledger.hex()}… is not in the trust file",
            fix="it is of another ledger; a trust file comes from its authority, never from the document",
        )
    return found[0]


# --- the slots ---------------------------------------------------------------------------------


def _slot_of(slot: Shown | Hidden, number: int) -> CodeField | Hidden:
    if isinstance(slot, Hidden):
        return slot
    return CodeField(slot.field.kind, _kept_name(slot.field, number), slot.field.value, slot.salt)


def _kept_name(field: Field, number: int) -> str | None:
    """The name, where the type does not give it."""
    return field.name if number == UNDECLARED_TYPE or field.kind is FieldKind.FILE else None


def _encode_slot(slot: CodeField | Hidden) -> bytes:
    if isinstance(slot, Hidden):
        return _slot_head(_HIDDEN, 0) + slot.leaf
    name = None if slot.name is None else slot.name.encode("utf-8", "surrogatepass")
    own_salt = slot.salt or b""
    if slot.kind is FieldKind.FILE:
        name = name or b""
        return _slot_head(_FILE, len(name)) + own_salt + name + slot.value
    if name is None:
        return _slot_head(_TEXT, len(slot.value)) + own_salt + slot.value
    length = bytes((len(name) & 255,))
    return b"".join([_slot_head(_NAMED, len(slot.value)), own_salt, length, name, slot.value])


def _slot_head(kind: int, length: int) -> bytes:
    if length >> _LENGTH_BITS:
        raise TooLarge(f"a field of {length} bytes is too long for a code", where=_WHERE)
    return _SLOT.pack(kind << _LENGTH_BITS | length)


class _Slots:
    """Reads the fields behind field 0, to the last byte."""

    def __init__(self, data: bytes, number: int, salted: bool) -> None:
        self._data = data
        self._at = 0
        self._declared = number != UNDECLARED_TYPE
        self._salted = salted

    def read(self, count: int) -> tuple[CodeField | Hidden, ...]:
        if count >= MAX_FIELDS:
            raise CodeFormatError(f"{count + 1} fields, at most {MAX_FIELDS} are allowed", where=_WHERE)
        slots = tuple(self._slot() for _ in range(count))
        if self._at != len(self._data):
            raise CodeFormatError("more stands in it than its fields", where=_WHERE)
        self._check(slots)
        return slots

    def _slot(self) -> CodeField | Hidden:
        (head,) = _SLOT.unpack(self._take(_SLOT.size))
        kind, length = head >> _LENGTH_BITS, head & (1 << _LENGTH_BITS) - 1
        if kind == _HIDDEN:
            if length or not self._salted:
                raise CodeFormatError("a field is hidden where none can be", where=_WHERE)
            return Hidden(self._take(HASH_SIZE))
        own_salt = self._take(SALT_SIZE) if self._salted else None
        if kind == _FILE:
            name = self._name(length)
            return CodeField(FieldKind.FILE, name, self._take(HASH_SIZE), own_salt)
        if (kind == _TEXT) != self._declared:
            raise CodeFormatError("its fields do not bear their names as its type asks", where=_WHERE)
        named = None if kind == _TEXT else self._name(self._take(1)[0])
        return CodeField(FieldKind.TEXT, named, self._take(length), own_salt)

    def _name(self, length: int) -> str:
        try:
            return self._take(length).decode("utf-8")
        except UnicodeDecodeError:
            raise CodeFormatError("a field's name is not UTF-8", where=_WHERE) from None

    def _take(self, size: int) -> bytes:
        start, self._at = self._at, self._at + size
        if self._at > len(self._data):
            raise CodeFormatError("a field is cut short", where=_WHERE)
        return self._data[start : self._at]

    def _check(self, slots: Iterable[CodeField | Hidden]) -> None:
        """The fields as any document has them; a text whose type names it stands before the files."""
        names: set[str] = {TYPE_FIELD}
        filed = False
        for slot in slots:
            if isinstance(slot, Hidden):
                continue
            filed = filed or slot.kind is FieldKind.FILE
            if slot.name is None and filed:
                raise CodeFormatError("a text stands behind a file", where=_WHERE)
            if slot.name in names:
                raise CodeFormatError("two fields bear one name", where=_WHERE)
            if slot.name is not None:
                names.add(slot.name)
            try:
                Field(slot.kind, "?" if slot.name is None else slot.name, slot.value).check()
            except DocumentFormatError as error:
                raise CodeFormatError(error.what, where=_WHERE) from None


# --- the digits --------------------------------------------------------------------------------


def _check(body: bytes | memoryview) -> bytes:
    return sha256(body).digest()[:_CHECK_SIZE]


def _check_length(digits: str) -> None:
    """Whether there are as many digits as the first of them say; names what is wrong if not."""
    if len(digits) < GROUP_DIGITS:
        raise CodeCutShort(f"only {len(digits)} digits came", where=_WHERE, fix=_AGAIN)
    size = int(digits[:GROUP_DIGITS]) >> 40
    if not _LEAST <= size <= MAX_CODE:
        what = "these digits are no code, or begin in the middle of one"
        raise CodeFormatError(what, where=_WHERE, fix=_AGAIN)
    want = digit_count(size)
    if len(digits) < want:
        raise CodeCutShort(
            f"the scan was cut short: {len(digits)} of {want} digits came", where=_WHERE, fix=_AGAIN
        )
    if len(digits) > want:
        twice = digits == digits[:want] * (len(digits) // want)
        what = "it was scanned twice" if twice else "something is appended to it"
        raise CodeFormatError(f"{what}: {len(digits)} digits, not {want}", where=_WHERE, fix=_AGAIN)
