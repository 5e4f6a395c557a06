"""Checkpoints (C2SP tlog-checkpoint): what a log says of its tree, as a signed note.

    <origin>
    <size, decimal>
    <base64 of the root hash>

This ledger's checkpoints have no extension lines, and none are accepted. A log signs with Ed25519 (type
01), always, and with ML-DSA-44 (type 06) beside it if it has such a key. Who knows only Ed25519 ignores
that line; who knows the key demands it, or whoever breaks Ed25519 would leave it out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ledger.canonical_json import base64_text
from ledger.errors import CheckpointUntrusted, LogKeyUnknown, NoteFormatError
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
from ledger.signatures import Algorithm, Signer
from ledger.subtrees import NO_TIME, sign_tree, verify_tree

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
    """The signed note: one line for each of the log's keys, under the origin as key name.

    About 20 µs for an Ed25519 key, 0.7 ms for ML-DSA-44. NoteFormatError when none of the signers is
    of Ed25519, one is of neither, one signs twice, or the origin cannot be a key name (spaces, ``+``).
    """
    kinds = [log_key_type(signer.algorithm) for signer in signers]
    if SignatureType.ED25519 not in kinds:
        raise NoteFormatError("a checkpoint needs an Ed25519 signature of its log", where="checkpoint")
    named = [NamedSigner(checkpoint.origin, signer) for signer in signers]
    classical = [one for one, kind in zip(named, kinds, strict=True) if kind is SignatureType.ED25519]
    note = parse_note(sign_note(format_checkpoint(checkpoint), classical))
    trees = [
        sign_tree(one, NO_TIME, checkpoint.origin, checkpoint.size, checkpoint.root)
        for one, kind in zip(named, kinds, strict=True)
        if kind is SignatureType.ML_DSA_44
    ]
    if len({line.key_id for line in trees}) != len(trees):
        raise NoteFormatError("a key signs twice", where="checkpoint")
    return note.with_signatures(trees).encode()


def log_key_type(algorithm: int) -> SignatureType:
    """How a log key of that algorithm signs. NoteFormatError for one that is no log key's."""
    match algorithm:
        case Algorithm.ED25519:
            return SignatureType.ED25519
        case Algorithm.ML_DSA_44:
            return SignatureType.ML_DSA_44
    raise NoteFormatError(
        f"a key of algorithm {algorithm:d} signs no checkpoint",
        where="log key",
        fix="a log has Ed25519 (1) and ML-DSA-44 (2) keys, each of its own",
    )


def log_key(origin: str, public_key: bytes, algorithm: Algorithm = Algorithm.ED25519) -> VerifierKey:
    """The key with which the log ``origin`` signs its checkpoints. NoteFormatError for a bad key."""
    return VerifierKey(origin, log_key_type(algorithm), public_key)


def open_checkpoint(data: bytes, origin: str, log_keys: Sequence[VerifierKey]) -> SignedCheckpoint:
    """Read and verify a checkpoint of the log ``origin``.

    Of ``log_keys`` those count that are named ``origin`` and are of type 01 or 06, and the caller gives
    those that are in force at the checkpoint's size. Each that signed must verify. At least one of type
    01 must have signed, and one of type 06 if there are any among them. About 40 µs, and 55 for each key
    that signed, 100 for one of type 06. CheckpointUntrusted for another log's checkpoint or when too few
    of them signed, SignatureInvalid for a line of theirs that does not verify, NoteFormatError or
    TooLarge for what cannot be read.
    """
    note, checkpoint = _read(data, origin)
    signed = {key.type for key in _verify_lines(note, checkpoint, log_keys)}
    if SignatureType.ED25519 not in signed:
        raise LogKeyUnknown(
            f"no trusted key of {origin} signed it",
            where="checkpoint",
            fix="renew the trust file if the log has new keys",
        )
    if SignatureType.ML_DSA_44 not in signed and any(
        key.name == origin and key.type is SignatureType.ML_DSA_44 for key in log_keys
    ):
        raise CheckpointUntrusted(
            f"no trusted ML-DSA-44 key of {origin} signed it, only Ed25519",
            where="checkpoint",
            fix="renew the trust file if the log has no such key any more; ask the operator otherwise",
        )
    return SignedCheckpoint(checkpoint, data, note)


def open_signed_by_any(data: bytes, origin: str, log_keys: Sequence[VerifierKey]) -> SignedCheckpoint:
    """The same when one line of any of ``log_keys`` is enough, of whichever type.

    For a witness of logs that need not sign with Ed25519, and for what this node itself has signed.
    Costs and raises as :func:`open_checkpoint`.
    """
    note, checkpoint = _read(data, origin)
    if not _verify_lines(note, checkpoint, log_keys):
        raise CheckpointUntrusted(f"no known key of {origin} signed it", where="checkpoint")
    return SignedCheckpoint(checkpoint, data, note)


def _read(data: bytes, origin: str) -> tuple[Note, Checkpoint]:
    note = parse_note(data)
    checkpoint = parse_checkpoint(note.text)
    if checkpoint.origin != origin:
        raise CheckpointUntrusted(
            f"it is of the log {checkpoint.origin}, not of {origin}", where="checkpoint"
        )
    return note, checkpoint


def _verify_lines(
    note: Note, checkpoint: Checkpoint, log_keys: Sequence[VerifierKey]
) -> tuple[VerifierKey, ...]:
    """Those of ``log_keys`` that signed. Raises SignatureInvalid when a line of theirs does not verify."""
    own = [
        key
        for key in log_keys
        if key.name == checkpoint.origin and key.type in (SignatureType.ED25519, SignatureType.ML_DSA_44)
    ]
    signed = known_signatures(note, own)
    for signature, key in signed:
        if key.type is SignatureType.ML_DSA_44:
            verify_tree(key, signature.blob, checkpoint.origin, checkpoint.size, checkpoint.root)
        else:
            verify_text(key, note.text, signature.blob)
    return tuple(key for _, key in signed)


def _parse_size(text: str) -> int:
    canonical = text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS
    if not canonical or (text[0] == "0" and text != "0"):
        raise NoteFormatError("not a decimal number without leading zeros", where="checkpoint size")
    return int(text)
