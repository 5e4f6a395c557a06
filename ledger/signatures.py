"""Signature algorithms, strict Ed25519, and who may sign.

Ed25519 (RFC 8032) leaves room: libraries differ on keys of small order, on encodings that are not
canonical and on the cofactor. A ledger that many programs replay cannot, so a signature R ‖ S of a
message M by the key A is valid exactly when

- A is the canonical encoding of a point that is not of small order,
- R is not the encoding of a point of small order,
- S, little-endian, is below the group order L,
- R equals, byte for byte, the encoding of S·B - H(R ‖ A ‖ M)·A (no cofactor).

tests/vectors/ed25519.json has a case for each edge.
"""

from __future__ import annotations

from enum import IntEnum
from hashlib import sha256
from typing import Final, NoReturn, Protocol

from nacl.bindings import (
    crypto_core_ed25519_add,
    crypto_sign,
    crypto_sign_BYTES,
    crypto_sign_open,
    crypto_sign_seed_keypair,
)
from nacl.exceptions import BadSignatureError
from nacl.exceptions import RuntimeError as SodiumError

from ledger.errors import FormatError, SignatureInvalid

SEED_SIZE: Final = 32
ED25519_KEY_SIZE: Final = 32
ED25519_SIGNATURE_SIZE: Final = crypto_sign_BYTES


class Algorithm(IntEnum):
    """The numbers of algorithms in leaves and records."""

    ED25519 = 1
    ML_DSA_44 = 2
    ED25519_ML_DSA_44 = 3
    """Both, concatenated, Ed25519 first."""
    X25519 = 4
    """For envelopes only; it signs nothing."""


PUBLIC_KEY_SIZES: Final = {
    Algorithm.ED25519: 32,
    Algorithm.ML_DSA_44: 1312,
    Algorithm.ED25519_ML_DSA_44: 1344,
    Algorithm.X25519: 32,
}
SIGNATURE_SIZES: Final = {
    Algorithm.ED25519: 64,
    Algorithm.ML_DSA_44: 2420,
    Algorithm.ED25519_ML_DSA_44: 2484,
}

_FIELD_PRIME: Final = 2**255 - 19
_GROUP_ORDER: Final = 2**252 + 27742317777372353535851937790883648493
_SIGN_BIT: Final = 1 << 255

# Every 32-byte string that decodes to one of the eight points of small order. The canonical ones
# first, then those with a sign bit on x = 0 or with y not below the prime.
SMALL_ORDER_ENCODINGS: Final = frozenset(
    bytes.fromhex(text)
    for text in (
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "0100000000000000000000000000000000000000000000000000000000000080",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    )
)

# The canonical X25519 public keys with which every shared secret is zero.
SMALL_ORDER_X25519: Final = frozenset(
    bytes.fromhex(text)
    for text in (
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    )
)


class Signer(Protocol):
    """A private key. It may live in this process, in a token or in another program."""

    @property
    def algorithm(self) -> Algorithm: ...

    @property
    def public_key(self) -> bytes: ...

    def sign(self, message: bytes) -> bytes:
        """The signature over ``message``, of the size that ``SIGNATURE_SIZES`` gives."""
        ...


class Ed25519Signer:
    """An Ed25519 key in memory. Its ``repr`` names the public key only. Signing: about 20 µs."""

    __slots__ = ("_secret", "public_key")

    algorithm: Final = Algorithm.ED25519
    public_key: bytes

    def __init__(self, seed: bytes) -> None:
        """``seed``: the 32 secret bytes of RFC 8032, section 5.1.5. FormatError for another size."""
        if len(seed) != SEED_SIZE:
            raise FormatError(f"{len(seed)} bytes, a seed has {SEED_SIZE}", where="Ed25519 seed")
        self.public_key, self._secret = crypto_sign_seed_keypair(seed)

    def __repr__(self) -> str:
        return f"Ed25519Signer(public_key={self.public_key.hex()})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a private key is not pickled; load it from its file where it is needed")

    def sign(self, message: bytes) -> bytes:
        return crypto_sign(message, self._secret)[:ED25519_SIGNATURE_SIZE]


def key_fingerprint(algorithm: int, public_key: bytes) -> bytes:
    """SHA-256(algorithm u8 ‖ public key), 32 bytes: how signed messages name their signer's key."""
    return sha256(bytes((algorithm,)) + public_key).digest()


def check_public_key(algorithm: int, public_key: bytes) -> None:
    """Whether a key may be registered. About 30 µs.

    FormatError for an unknown algorithm, a wrong size, an encoding that is not canonical, a point
    that is not on the curve or is of small order; SignatureInvalid for an algorithm that this build
    cannot verify. An X25519 key is checked for its size, its encoding and small order.
    """
    known = _algorithm(algorithm)
    if known is None:
        raise FormatError(f"algorithm {algorithm} is unknown", where="public key")
    if len(public_key) != PUBLIC_KEY_SIZES[known]:
        raise FormatError(
            f"{len(public_key)} bytes, {known.name} has {PUBLIC_KEY_SIZES[known]}", where="public key"
        )
    if known is Algorithm.X25519:
        if int.from_bytes(public_key, "little") >= _FIELD_PRIME or public_key in SMALL_ORDER_X25519:
            raise FormatError("not canonical, or of small order", where="public key")
        return
    if known is not Algorithm.ED25519:
        raise _ed25519_only(known)
    fault = _key_fault(public_key)
    if fault:
        raise FormatError(fault, where="public key", fix="make a new key pair")
    try:
        crypto_core_ed25519_add(public_key, public_key)
    except SodiumError:
        raise FormatError("not a point on the curve", where="public key", fix="make a new key pair") from None


def verify(algorithm: int, public_key: bytes, message: bytes, signature: bytes) -> None:
    """Raise SignatureInvalid unless ``signature`` is ``public_key``'s over ``message``.

    ``algorithm``: the number from the leaf or record; this build verifies Ed25519 only.
    """
    if algorithm != Algorithm.ED25519:
        raise _ed25519_only(_algorithm(algorithm) or algorithm)
    verify_ed25519(public_key, message, signature)


def verify_ed25519(public_key: bytes, message: bytes, signature: bytes) -> None:
    """Raise SignatureInvalid unless the signature is valid as the module says. About 50 µs."""
    if len(public_key) != ED25519_KEY_SIZE or len(signature) != ED25519_SIGNATURE_SIZE:
        raise SignatureInvalid("the key or the signature has a wrong size", where="Ed25519 signature")
    fault = _key_fault(public_key)
    if fault:
        raise SignatureInvalid(f"the key is {fault}", where="Ed25519 signature")
    if signature[:32] in SMALL_ORDER_ENCODINGS:
        raise SignatureInvalid("R is of small order", where="Ed25519 signature")
    if int.from_bytes(signature[32:], "little") >= _GROUP_ORDER:
        raise SignatureInvalid("S is not below the group order", where="Ed25519 signature")
    try:
        crypto_sign_open(signature + message, public_key)
    except BadSignatureError:
        raise SignatureInvalid(
            "it is not this key's signature of these bytes", where="Ed25519 signature"
        ) from None


def _key_fault(public_key: bytes) -> str:
    """What is wrong with 32 bytes as an Ed25519 key, as far as their encoding shows; "" if nothing."""
    if public_key in SMALL_ORDER_ENCODINGS:
        return "of small order"
    if int.from_bytes(public_key, "little") % _SIGN_BIT >= _FIELD_PRIME:
        return "not canonically encoded"
    return ""


def _algorithm(number: int) -> Algorithm | None:
    try:
        return Algorithm(number)
    except ValueError:
        return None


def _ed25519_only(algorithm: int) -> SignatureInvalid:
    name = algorithm.name if isinstance(algorithm, Algorithm) else algorithm
    return SignatureInvalid(
        f"algorithm {name} cannot be verified; this build verifies Ed25519 only",
        where="signature",
        fix="use Ed25519, or a newer build",
    )
