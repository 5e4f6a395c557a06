"""Making signed leaves: which bytes each key signs, and how signatures come together.

Signing and gathering are apart: a signature is a value that can come from this process, or from an
officer at another machine who signed the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ledger.changes import AUTHORITY, Change
from ledger.hashing import leaf_hashes, merkle_root
from ledger.registry_leaf import RegistryLeaf, RegistrySignature
from ledger.signatures import Signer, key_fingerprint
from ledger.submissions import KeySignature, SubmissionLeaf, pack


@dataclass(frozen=True, slots=True)
class NumberedSigner:
    """A key and its number with its agency, or with the authority."""

    number: int
    signer: Signer


@dataclass(frozen=True, slots=True)
class SignedSubmission:
    """A SUBMISSION leaf and its packed records, as they are sent."""

    leaf: bytes
    records: bytes


def sign_change(
    json: bytes, genesis: bytes, key: NumberedSigner, agency: int = AUTHORITY
) -> RegistrySignature:
    """One key's signature on a change, given as its JSON."""
    message = RegistryLeaf(json, ()).message(genesis)
    return RegistrySignature(agency, key.number, key.signer.algorithm, key.signer.sign(message))


def gather_change(json: bytes, signatures: Sequence[RegistrySignature]) -> bytes:
    """The REGISTRY leaf from a change's JSON and its signatures, in whatever order they came."""
    ordered = sorted(signatures, key=lambda one: (one.agency, one.number))
    return RegistryLeaf(json, tuple(ordered)).encode()


def signed_change(change: Change, genesis: bytes, keys: Sequence[NumberedSigner]) -> bytes:
    """A change signed here and now by keys of the authority."""
    json = change.to_json()
    return gather_change(json, [sign_change(json, genesis, key) for key in keys])


def signed_submission(
    agency: int, records: Sequence[bytes], claimed_ms: int, genesis: bytes, keys: Sequence[NumberedSigner]
) -> SignedSubmission:
    """A submission of 1 to 256 record leaves, signed by each of ``keys``. About 20 µs a key."""
    unsigned = SubmissionLeaf(agency, len(records), merkle_root(leaf_hashes(records)), claimed_ms, ())
    signatures = []
    for key in sorted(keys, key=lambda one: one.number):
        fingerprint = key_fingerprint(key.signer.algorithm, key.signer.public_key)
        message = unsigned.message(genesis, fingerprint)
        signatures.append(KeySignature(key.number, key.signer.algorithm, key.signer.sign(message)))
    leaf = SubmissionLeaf(agency, len(records), unsigned.records_root, claimed_ms, tuple(signatures))
    return SignedSubmission(leaf.encode(), pack(records))
