"""ML-DSA-44 signatures of tree heads (C2SP tlog-cosignature, subtree/v1, type 06): of logs and of witnesses.

The signer says that the tree of this log with this many leaves has this root, and signs no note text but

    "subtree/v1\\n\\0" ‖ u8 length ‖ name ‖ u64 time ‖ u8 length ‖ origin ‖ u64 start ‖ u64 end ‖ root

with start 0 and end the tree's size. Its line carries u64 time ‖ signature, 2,428 bytes. A time other
than 0 says too that at that POSIX second this was the largest tree that the signer had seen; a log
leaves that to the seal, which bears its time, and signs with 0.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from ledger import ml_dsa
from ledger.errors import SignatureInvalid
from ledger.notes import NamedSigner, NoteSignature, SignatureType, VerifierKey
from ledger.signatures import Algorithm

MAX_TIME_S: Final = 2**63 - 1
NO_TIME: Final = 0
_LABEL: Final = b"subtree/v1\n\0"
_TIME: Final = Struct(">Q")
_RANGE: Final = Struct(">QQ")
_BLOB_SIZE: Final = _TIME.size + ml_dsa.SIGNATURE_SIZE


def subtree_message(name: str, time_s: int, origin: str, size: int, root: bytes) -> bytes:
    """The bytes that ``name`` signs. Name and origin: at most 255 bytes, as everywhere here."""
    signer, log = name.encode(), origin.encode()
    return b"".join(
        (
            _LABEL,
            bytes((len(signer),)),
            signer,
            _TIME.pack(time_s),
            bytes((len(log),)),
            log,
            _RANGE.pack(0, size),
            root,
        )
    )


def sign_tree(signer: NamedSigner, time_s: int, origin: str, size: int, root: bytes) -> NoteSignature:
    """The signature line (type 06) of an ML-DSA-44 key. NoteFormatError for a key of another kind."""
    key = signer.key(SignatureType.ML_DSA_44)
    signature = signer.signer.sign(subtree_message(signer.name, time_s, origin, size, root))
    return NoteSignature(signer.name, key.key_id, _TIME.pack(time_s) + signature)


def verify_tree(key: VerifierKey, blob: bytes, origin: str, size: int, root: bytes) -> int:
    """The time in ``blob``, a signature line's, if it is ``key``'s (type 06) of this tree; 0: none given.

    About 0.1 ms. SignatureInvalid otherwise.
    """
    where = f"signature by {key.name}"
    if key.type is not SignatureType.ML_DSA_44 or key.algorithm is not Algorithm.ML_DSA_44:
        raise SignatureInvalid("this key does not sign trees", where=where)
    if len(blob) != _BLOB_SIZE:
        raise SignatureInvalid(f"{len(blob)} bytes, one of ML-DSA-44 has {_BLOB_SIZE}", where=where)
    (time_s,) = _TIME.unpack_from(blob)
    if time_s > MAX_TIME_S:
        raise SignatureInvalid("its time is past 2^63-1", where=where)
    message = subtree_message(key.name, time_s, origin, size, root)
    try:
        ml_dsa.verify(key.public_key, message, blob[_TIME.size :])
    except SignatureInvalid as error:
        raise SignatureInvalid(error.what, where=where) from None
    return int(time_s)
