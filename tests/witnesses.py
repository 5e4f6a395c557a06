"""Witnesses for tests: their keys, their cosignatures, and policies that ask for them."""

from __future__ import annotations

from hashlib import sha256

from ledger.cosignatures import cosign
from ledger.notes import NamedSigner, NoteSignature, SignatureType, VerifierKey, parse_note
from ledger.signatures import Ed25519Signer


def cosigner(name: str) -> NamedSigner:
    """The key of a witness; it follows from the name."""
    return NamedSigner(f"witness.example/{name}", Ed25519Signer(sha256(f"witness {name}".encode()).digest()))


def cosigner_key(name: str) -> VerifierKey:
    return cosigner(name).key(SignatureType.ED25519_COSIGNATURE)


def cosigned(note: bytes, name: str, time_s: int) -> NoteSignature:
    """The line that the witness adds to a checkpoint."""
    return cosign(parse_note(note).text, cosigner(name), time_s)


def policy(needed: int, *names: str, **urls: str) -> str:
    """So many of these witnesses, and of those in ``urls``, by name."""
    every = [*names, *urls]
    lines = [f"witness {one} {cosigner_key(one).format()} {urls.get(one, '')}".rstrip() for one in every]
    return "\n".join([*lines, f"group enough {needed} {' '.join(every)}", "quorum enough", ""])
