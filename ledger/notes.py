"""Signed notes (C2SP signed-note): a text, a blank line, and signature lines.

    <text, ending in a newline>
    <blank line>
    — <key name> base64(key ID ‖ signature)

A key is known by its name and its key ID together. What a note says counts only after
:func:`open_note`, or :func:`ledger.checkpoints.open_checkpoint`, has verified it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from hashlib import sha256
from typing import Final

from ledger import canonical_json
from ledger.canonical_json import base64_text
from ledger.errors import FormatError, NoteFormatError, SignatureInvalid, TooLarge
from ledger.signatures import Algorithm, Signer, check_public_key, verify_ed25519

MAX_NOTE_SIZE: Final = 131_072
"""Holds sixteen of the largest post-quantum signatures, which the specification asks for."""
MAX_NOTE_SIGNATURES: Final = 100
MAX_KEY_NAME_SIZE: Final = 255
KEY_ID_SIZE: Final = 4

_MAX_VKEY_SIZE: Final = 2_048
_DASH: Final = "— "
# The Unicode property White_Space, written out: what a name may hold must not depend on the
# version of a Unicode table.
_SPACES: Final = frozenset(
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
_CONTROLS: Final = bytes(byte for byte in range(0x20) if byte != 0x0A)


class SignatureType(IntEnum):
    """The type byte that goes into a key ID: what a key signs, and how."""

    ED25519 = 0x01
    """Ed25519 over the note's text."""
    ED25519_COSIGNATURE = 0x04
    """A timestamped witness cosignature; see :mod:`ledger.cosignatures`."""
    ML_DSA_44 = 0x06
    """A timestamped ML-DSA-44 signature of a tree, by a log or a witness; see :mod:`ledger.subtrees`."""

    @property
    def algorithm(self) -> Algorithm:
        """Of the keys that sign so."""
        return Algorithm.ML_DSA_44 if self is SignatureType.ML_DSA_44 else Algorithm.ED25519


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line. ``key_id``: 4 bytes; ``blob``: at least 1 byte, its meaning by the key."""

    name: str
    key_id: bytes
    blob: bytes

    def line(self) -> bytes:
        """The line, with its newline."""
        return f"{_DASH}{self.name} {base64_text(self.key_id + self.blob)}\n".encode()


@dataclass(frozen=True, slots=True)
class Note:
    """A text (UTF-8, its last newline included) and its signatures, verified or not."""

    text: bytes
    signatures: tuple[NoteSignature, ...]

    def encode(self) -> bytes:
        """The note's one form."""
        return b"".join((self.text, b"\n", *(signature.line() for signature in self.signatures)))

    def with_signatures(self, signatures: Sequence[NoteSignature]) -> Note:
        """This note with ``signatures`` at the end, in place of earlier ones by the same keys."""
        replaced = {(one.name, one.key_id) for one in signatures}
        kept = (one for one in self.signatures if (one.name, one.key_id) not in replaced)
        return Note(self.text, (*kept, *signatures))


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key under a name, for one type of signature. Always well formed and verifiable.

    NoteFormatError when the name or the key is not.
    """

    name: str
    type: SignatureType
    public_key: bytes

    def __post_init__(self) -> None:
        check_key_name(self.name)
        try:
            check_public_key(self.algorithm, self.public_key)
        except FormatError as error:
            raise NoteFormatError(error.what, where=f"key {self.name}", fix=error.fix) from None

    @property
    def algorithm(self) -> Algorithm:
        return self.type.algorithm

    @property
    def key_id(self) -> bytes:
        """SHA-256(name ‖ newline ‖ type ‖ public key)[:4]."""
        return key_id(self.name, self.type, self.public_key)

    @classmethod
    def parse(cls, vkey: str) -> VerifierKey:
        """From ``name+hex8+base64(type ‖ public key)``. NoteFormatError for anything else."""
        if len(vkey) > _MAX_VKEY_SIZE:
            raise NoteFormatError(f"longer than {_MAX_VKEY_SIZE} characters", where="verifier key")
        parts = vkey.split("+", 2)
        if len(parts) != 3:
            raise NoteFormatError("not of the form name+id+key", where="verifier key")
        name, hexadecimal, encoded = parts
        material = parse_base64(encoded, where="verifier key")
        if not material or material[0] not in list(SignatureType):
            raise NoteFormatError(
                "unknown signature type",
                where="verifier key",
                fix="known here are Ed25519 (01, 04) and ML-DSA-44 (06)",
            )
        key = cls(name, SignatureType(material[0]), material[1:])
        if hexadecimal != key.key_id.hex():
            raise NoteFormatError(
                "the key ID does not belong to this name and key",
                where="verifier key",
                fix="copy the whole key again",
            )
        return key

    def format(self) -> str:
        """``name+hex8+base64(type ‖ public key)``."""
        return f"{self.name}+{self.key_id.hex()}+{base64_text(bytes((self.type,)) + self.public_key)}"


@dataclass(frozen=True, slots=True)
class NamedSigner:
    """A private key and the name under which its signatures stand."""

    name: str
    signer: Signer

    def key(self, kind: SignatureType = SignatureType.ED25519) -> VerifierKey:
        """The public half, for signatures of type ``kind``. NoteFormatError for another algorithm's key."""
        if self.signer.algorithm is not kind.algorithm:
            raise NoteFormatError(
                f"a key of algorithm {self.signer.algorithm:d} makes no signature of type {kind:02x}",
                where=f"key {self.name}",
            )
        return _checked_key(self.name, kind, self.signer.public_key)


@lru_cache(maxsize=256)
def _checked_key(name: str, kind: SignatureType, public_key: bytes) -> VerifierKey:
    """Checking a key takes longer than signing with it, and the same few sign again and again."""
    return VerifierKey(name, kind, public_key)


def key_id(name: str, kind: int, public_key: bytes) -> bytes:
    """SHA-256(name ‖ newline ‖ type u8 ‖ public key)[:4]."""
    return sha256(name.encode() + b"\n" + bytes((kind,)) + public_key).digest()[:KEY_ID_SIZE]


def check_key_name(name: str) -> None:
    """NoteFormatError unless ``name`` can stand in a signature line and is at most 255 bytes."""
    if not name or "+" in name or not _SPACES.isdisjoint(name):
        raise NoteFormatError("a key name is not empty and has neither spaces nor +", where="key name")
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        raise NoteFormatError("not Unicode text", where="key name") from None
    if len(encoded) > MAX_KEY_NAME_SIZE:
        raise NoteFormatError(f"longer than {MAX_KEY_NAME_SIZE} bytes", where="key name")
    if _has_controls(encoded):
        raise NoteFormatError("control character", where="key name")


def parse_note(data: bytes) -> Note:
    """Read a note; nothing is verified. ``parse_note(data).encode() == data`` for all it accepts.

    TooLarge above 128 KiB or 100 signature lines, NoteFormatError for what is no note.
    """
    _check_characters(data)
    end = data.rfind(b"\n\n")
    if end < 0:
        raise NoteFormatError("no blank line before the signatures", where="note")
    return Note(data[: end + 1], _parse_lines(data[end + 2 :]))


def parse_signatures(data: bytes) -> tuple[NoteSignature, ...]:
    """Read bare signature lines, as a witness answers them: at least one. Errors as parse_note."""
    _check_characters(data)
    return _parse_lines(data)


def known_signatures(
    note: Note, keys: Sequence[VerifierKey]
) -> tuple[tuple[NoteSignature, VerifierKey], ...]:
    """The lines whose name and key ID are those of one of ``keys``, in order; none is verified yet.

    Lines of other keys are left out, as the specification demands. SignatureInvalid when a key has
    two lines, since which of them counts would be a matter of order, or when two different keys
    share name and ID.
    """
    by_id: dict[tuple[str, bytes], VerifierKey] = {}
    for key in keys:
        if by_id.setdefault((key.name, key.key_id), key) != key:
            raise SignatureInvalid("two known keys share this name and ID", where=f"key {key.name}")
    found: dict[tuple[str, bytes], tuple[NoteSignature, VerifierKey]] = {}
    for signature in note.signatures:
        place = (signature.name, signature.key_id)
        known = by_id.get(place)
        if known is None:
            continue
        if place in found:
            raise SignatureInvalid("the note has two signatures by this key", where=f"key {known.name}")
        found[place] = (signature, known)
    return tuple(found.values())


def verify_text(key: VerifierKey, text: bytes, blob: bytes) -> None:
    """SignatureInvalid unless ``blob`` is ``key``'s Ed25519 signature (type 01) of ``text``."""
    if key.type is not SignatureType.ED25519:
        raise SignatureInvalid("a cosigner's key does not sign note texts", where=f"key {key.name}")
    try:
        verify_ed25519(key.public_key, text, blob)
    except SignatureInvalid as error:
        raise SignatureInvalid(error.what, where=f"note signature by {key.name}") from None


def open_note(data: bytes, keys: Sequence[VerifierKey]) -> tuple[Note, tuple[VerifierKey, ...]]:
    """The note, and those of ``keys`` (type 01) that signed it, in the order of the lines.

    Lines of unknown keys are ignored. SignatureInvalid when a known key's line does not verify, or
    when no known key signed; format errors as :func:`parse_note`.
    """
    note = parse_note(data)
    signed = known_signatures(note, keys)
    for signature, key in signed:
        verify_text(key, note.text, signature.blob)
    if not signed:
        raise SignatureInvalid("no known key signed it", where="note")
    return note, tuple(key for _, key in signed)


def sign_note(text: bytes, signers: Sequence[NamedSigner]) -> bytes:
    """``text`` signed by each of ``signers`` with Ed25519 (type 01).

    NoteFormatError when the text is none (not UTF-8, without its last newline), nobody signs or a
    key signs twice.
    """
    if not text.endswith(b"\n"):
        raise NoteFormatError("the text does not end in a newline", where="note")
    if not signers:
        raise NoteFormatError("a note needs a signer", where="note")
    signatures = tuple(_sign(text, one) for one in signers)
    if len({(one.name, one.key_id) for one in signatures}) != len(signatures):
        raise NoteFormatError("a key signs twice", where="note")
    data = Note(text, signatures).encode()
    _check_characters(data)
    return data


def parse_base64(text: str, *, where: str) -> bytes:
    """The bytes of canonical standard base64; NoteFormatError for any other spelling."""
    try:
        return canonical_json.parse_base64(text, where, limit=MAX_NOTE_SIZE)
    except FormatError as error:
        raise NoteFormatError(error.what, where=where) from None


def _sign(text: bytes, signer: NamedSigner) -> NoteSignature:
    return NoteSignature(signer.name, signer.key().key_id, signer.signer.sign(text))


def _has_controls(data: bytes) -> bool:
    return len(data.translate(None, _CONTROLS)) != len(data)


def _check_characters(data: bytes) -> None:
    if len(data) > MAX_NOTE_SIZE:
        raise TooLarge(f"{len(data)} bytes, a note has at most {MAX_NOTE_SIZE}", where="note")
    if _has_controls(data):
        raise NoteFormatError("control character other than newline", where="note")
    try:
        data.decode()
    except UnicodeDecodeError:
        raise NoteFormatError("not UTF-8", where="note") from None


def _parse_lines(data: bytes) -> tuple[NoteSignature, ...]:
    if not data.endswith(b"\n"):
        raise NoteFormatError("the last signature line has no newline", where="note")
    if data.count(b"\n") > MAX_NOTE_SIGNATURES:
        raise TooLarge(f"more than {MAX_NOTE_SIGNATURES} signatures", where="note")
    lines = data[:-1].decode().split("\n")
    return tuple(_parse_line(line, f"signature line {number}") for number, line in enumerate(lines, 1))


def _parse_line(line: str, where: str) -> NoteSignature:
    name, _, encoded = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or not name or "+" in name or not _SPACES.isdisjoint(name):
        raise NoteFormatError("not of the form: — name signature", where=where)
    raw = parse_base64(encoded, where=where)
    if len(raw) <= KEY_ID_SIZE:
        raise NoteFormatError("a key ID without a signature", where=where)
    return NoteSignature(name, raw[:KEY_ID_SIZE], raw[KEY_ID_SIZE:])
