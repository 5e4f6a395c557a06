"""Cosignatures of witnesses (C2SP tlog-cosignature): Ed25519 (type 04) and ML-DSA-44 (type 06).

A witness says: at this time, this was the largest consistent tree of this log that I had seen. With
Ed25519 it signs

    cosignature/v1
    time <POSIX seconds, decimal>
    <the whole note text of the checkpoint>

and its signature line carries u64 time ‖ signature, 72 bytes. With ML-DSA-44 it signs the message of
:mod:`ledger.subtrees`, of 2,428 bytes with its time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Final

from ledger.checkpoints import parse_checkpoint
from ledger.errors import NoteFormatError, SignatureInvalid
from ledger.notes import NamedSigner, Note, NoteSignature, SignatureType, VerifierKey, known_signatures
from ledger.signatures import ED25519_SIGNATURE_SIZE, Algorithm, verify_ed25519
from ledger.subtrees import MAX_TIME_S, sign_tree, verify_tree

COSIGNATURE_TYPES: Final = {
    Algorithm.ED25519: SignatureType.ED25519_COSIGNATURE,
    Algorithm.ML_DSA_44: SignatureType.ML_DSA_44,
}
"""How a witness's key of each algorithm cosigns."""
_TIME: Final = Struct(">Q")


@dataclass(frozen=True, slots=True)
class Cosignature:
    """A verified cosignature: whose, and when. ``time_s``: seconds since 1970, as the witness says."""

    key: VerifierKey
    time_s: int

    @property
    def name(self) -> str:
        return self.key.name


def witness_key(name: str, public_key: bytes, algorithm: Algorithm = Algorithm.ED25519) -> VerifierKey:
    """The key with which the witness ``name`` cosigns. NoteFormatError for a bad name or key."""
    return VerifierKey(name, _type_of(algorithm), public_key)


def cosign(text: bytes, witness: NamedSigner, time_s: int) -> NoteSignature:
    """The witness's signature line for the checkpoint text ``text`` (its last newline included).

    Whether the checkpoint extends all that the witness saw is the caller's to know. An Ed25519 key
    that cosigns must sign nothing else under another name, since the name is not in the message.
    NoteFormatError for a time outside 0 to 2^63-1, for a key of another algorithm, and, with
    ML-DSA-44, for a text that is not the three lines of a checkpoint: further ones it would not sign.
    """
    if not 0 <= time_s <= MAX_TIME_S:
        raise NoteFormatError(f"time {time_s} is not between 0 and 2^63-1", where="cosignature")
    kind = _type_of(witness.signer.algorithm)
    if kind is SignatureType.ML_DSA_44:
        head = parse_checkpoint(text)
        return sign_tree(witness, time_s, head.origin, head.size, head.root)
    signature = witness.signer.sign(cosigned_message(text, time_s))
    return NoteSignature(witness.name, witness.key(kind).key_id, _TIME.pack(time_s) + signature)


def cosigned_message(text: bytes, time_s: int) -> bytes:
    """The bytes that a witness signs with Ed25519."""
    return b"cosignature/v1\ntime %d\n%b" % (time_s, text)


def verify_cosignatures(note: Note, witness_keys: Sequence[VerifierKey]) -> tuple[Cosignature, ...]:
    """The cosignatures of ``note`` by ``witness_keys`` (types 04, 06), in the order of the lines.

    Lines of other keys are ignored; an empty result is no error, the policy decides. About 50 µs
    each, 100 with ML-DSA-44. SignatureInvalid when a line of a known key does not verify or a key
    has two lines; NoteFormatError when one signed with ML-DSA-44 what is no checkpoint.
    """
    return tuple(
        Cosignature(key, _verify(key, note.text, signature.blob))
        for signature, key in known_signatures(note, witness_keys)
    )


def _verify(key: VerifierKey, text: bytes, blob: bytes) -> int:
    where = f"cosignature by {key.name}"
    if key.type is SignatureType.ML_DSA_44:
        head = parse_checkpoint(text)
        return verify_tree(key, blob, head.origin, head.size, head.root)
    if key.type is not SignatureType.ED25519_COSIGNATURE:
        raise SignatureInvalid("this key is not a cosigner's", where=where)
    if len(blob) != _TIME.size + ED25519_SIGNATURE_SIZE:
        raise SignatureInvalid(f"{len(blob)} bytes, a cosignature has 72", where=where)
    (time_s,) = _TIME.unpack_from(blob)
    if time_s > MAX_TIME_S:
        raise SignatureInvalid("its time is past 2^63-1", where=where)
    try:
        verify_ed25519(key.public_key, cosigned_message(text, time_s), blob[_TIME.size :])
    except SignatureInvalid as error:
        raise SignatureInvalid(error.what, where=where) from None
    return int(time_s)


def _type_of(algorithm: int) -> SignatureType:
    kind = COSIGNATURE_TYPES.get(Algorithm(algorithm))
    if kind is None:
        raise NoteFormatError(
            f"a key of algorithm {algorithm:d} cosigns nothing",
            where="witness key",
            fix="a witness has Ed25519 (1) and ML-DSA-44 (2) keys, each of its own",
        )
    return kind
