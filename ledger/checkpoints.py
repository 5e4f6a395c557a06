"""Checkpoints (C2SP tlog-checkpoint): what a log says of its tree, as a signed note.

    <origin>
    <size, decimal>
    <base64 of the root hash>

This ledger's checkpoints have no extension lines, and none are accepted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ledger.canonical_json import base64_text
from ledger.errors import CheckpointUntrusted, NoteFormatError
from ledger.hashing import HASH_SIZE
from ledger.notes import (
    NamedSigner,
    Note,
    SignatureType,
    VerifierKey,
    known_signatures,
    parse_base64,
    parse_note,
    sign_note,
    verify_text,
)
from ledger.signatures import Signer

MAX_ORIGIN_SIZE: Final = 255
MAX_TREE_SIZE: Final = 2**63 - 1
_MAX_DIGITS: Final = len(str(MAX_TREE_SIZE))


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The root of the first ``size`` leaves of the log named ``origin``. Always well formed.

    ``origin``: 1 to 255 bytes of UTF-8 without control characters; ``size``: 0 to 2^63-1; ``root``:
    32 bytes. NoteFormatError otherwise.
    """

    origin: str
    size: int
    root: bytes

    def __post_init__(self) -> None:
        check_origin(self.origin)
        if not 0 <= self.size <= MAX_TREE_SIZE:
            raise NoteFormatError(f"size {self.size} is not between 0 and 2^63-1", where="checkpoint")
        if len(self.root) != HASH_SIZE:
            raise NoteFormatError(f"a root of {len(self.root)} bytes, not {HASH_SIZE}", where="checkpoint")


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    """A checkpoint whose log signature was verified. ``data``: the note exactly as it came."""

    checkpoint: Checkpoint
    data: bytes
    note: Note


def check_origin(origin: str) -> None:
    """NoteFormatError unless ``origin`` is 1 to 255 bytes of text without control characters."""
    if any(ord(character) < 0x20 or 0x7F <= ord(character) < 0xA0 for character in origin):
        raise NoteFormatError("control character", where="origin")
    try:
        size = len(origin.encode())
    except UnicodeEncodeError:
        raise NoteFormatError("not Unicode text", where="origin") from None
    if not 1 <= size <= MAX_ORIGIN_SIZE:
        raise NoteFormatError(f"{size} bytes, 1 to {MAX_ORIGIN_SIZE} are allowed", where="origin")


def format_checkpoint(checkpoint: Checkpoint) -> bytes:
    """The note text: three lines, each with its newline."""
    return f"{checkpoint.origin}\n{checkpoint.size}\n{base64_text(checkpoint.root)}\n".encode()


def parse_checkpoint(text: bytes) -> Checkpoint:
    """The inverse of :func:`format_checkpoint`; NoteFormatError for any other bytes."""
    try:
        lines = text.decode().split("\n")
    except UnicodeDecodeError:
        raise NoteFormatError("not UTF-8", where="checkpoint") from None
    if len(lines) != 4 or lines[3]:
        raise NoteFormatError(
            "not three lines: origin, size, root",
            where="checkpoint",
            fix="extension lines are not accepted",
        )
    origin, size, root, _ = lines
    return Checkpoint(origin, _parse_size(size), parse_base64(root, where="checkpoint root"))


def sign_checkpoint(checkpoint: Checkpoint, signers: Sequence[Signer]) -> bytes:
    """The signed note: one Ed25519 line for each of the log's keys, under the origin as key name.

    NoteFormatError when there is no signer, or the origin cannot be a key name (spaces, ``+``).
    """
    named = [NamedSigner(checkpoint.origin, signer) for signer in signers]
    return sign_note(format_checkpoint(checkpoint), named)


def log_key(origin: str, public_key: bytes) -> VerifierKey:
    """The key with which the log ``origin`` signs its checkpoints. NoteFormatError for a bad key."""
    return VerifierKey(origin, SignatureType.ED25519, public_key)


def open_checkpoint(data: bytes, origin: str, log_keys: Sequence[VerifierKey]) -> SignedCheckpoint:
    """Read and verify a checkpoint of the log ``origin``. About 40 µs, and 55 for each key that signed.

    Of ``log_keys`` those count that are named ``origin`` and are of type 01; at least one must have
    signed, and each that did must verify. CheckpointUntrusted for another log's checkpoint or
    when none of them signed, SignatureInvalid for a line of theirs that does not verify, NoteFormatError
    or TooLarge for what cannot be read.
    """
    note = parse_note(data)
    checkpoint = parse_checkpoint(note.text)
    if checkpoint.origin != origin:
        raise CheckpointUntrusted(
            f"it is of the log {checkpoint.origin}, not of {origin}", where="checkpoint"
        )
    own = [key for key in log_keys if key.name == origin and key.type is SignatureType.ED25519]
    signed = known_signatures(note, own)
    for signature, key in signed:
        verify_text(key, note.text, signature.blob)
    if not signed:
        raise CheckpointUntrusted(
            f"no trusted key of {origin} signed it",
            where="checkpoint",
            fix="renew the trust file if the log has new keys",
        )
    return SignedCheckpoint(checkpoint, data, note)


def _parse_size(text: str) -> int:
    canonical = text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS
    if not canonical or (text[0] == "0" and text != "0"):
        raise NoteFormatError("not a decimal number without leading zeros", where="checkpoint size")
    return int(text)
