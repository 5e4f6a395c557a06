"""ML-DSA-44 (FIPS 204): the pure form with an empty context, over a message that is not hashed before.

The one module of the core that uses ``cryptography`` (OpenSSL 3.5 or newer), which PyNaCl does not
replace. Signing is hedged, as FIPS 204 recommends: the library mixes fresh randomness in, so two
signatures over one message differ. Nothing in the ledger may therefore depend on a signature's bytes;
verifying depends on nothing but its arguments. FIPS 204 leaves a verifier no room: every 1,312 bytes
encode one key, and a signature has one encoding, which OpenSSL insists on.
"""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA44PublicKey

from ledger.errors import SignatureInvalid

SEED_SIZE: Final = 32
PUBLIC_KEY_SIZE: Final = 1312
SIGNATURE_SIZE: Final = 2420
_WHERE: Final = "ML-DSA-44 signature"
# A public key is the 32 bytes of rho, from which the matrix is made, and t1.
_RHO_SIZE: Final = 32
_NO_T1: Final = bytes(PUBLIC_KEY_SIZE - _RHO_SIZE)


class SigningKey:
    """A private key in memory, made of the 32-byte seed of FIPS 204, algorithm 1. 0.2 ms to make."""

    __slots__ = ("_key", "public_key")

    def __init__(self, seed: bytes) -> None:
        """``seed``: exactly 32 bytes; the caller has checked that."""
        self._key = MLDSA44PrivateKey.from_seed_bytes(seed)
        self.public_key: bytes = self._key.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """2,420 bytes, others each time. About 0.7 ms, now and then several times that."""
        return self._key.sign(message)


def key_fault(public_key: bytes) -> str:
    """What is wrong with 1,312 bytes as a key to be registered; "" if nothing.

    With t1 = 0 the equation that a verifier checks does not hold the challenge: anybody can sign. FIPS
    204 lets such a key verify, and so does :func:`verify`; it is refused before anything rests on it.
    """
    return "one under which anybody can sign (t1 is 0)" if public_key[_RHO_SIZE:] == _NO_T1 else ""


def verify(public_key: bytes, message: bytes, signature: bytes) -> None:
    """Raise SignatureInvalid unless ``signature`` is ``public_key``'s over ``message``. About 0.1 ms.

    FIPS 204, algorithm 3, with an empty context; nothing else is refused, and nothing else accepted.
    """
    if len(public_key) != PUBLIC_KEY_SIZE or len(signature) != SIGNATURE_SIZE:
        raise SignatureInvalid("the key or the signature has a wrong size", where=_WHERE)
    try:
        MLDSA44PublicKey.from_public_bytes(public_key).verify(signature, message)
    except InvalidSignature:
        raise SignatureInvalid("it is not this key's signature of these bytes", where=_WHERE) from None
