"""Signature algorithms, signers in memory, strict Ed25519.

Ed25519 (RFC 8032) leaves room: libraries differ on keys of small order, on encodings that are not
canonical and on the cofactor. A ledger that many programs replay cannot, so a signature R ‖ S of a
message M by the key A is valid exactly when

- A is the canonical encoding of a point that is not of small order,
- R is not the encoding of a point of small order,
- S, little-endian, is below the group order L,
- R equals, byte for byte, the encoding of S·B - H(R ‖ A ‖ M)·A (no cofactor).

tests/vectors/ed25519.json has a case for each edge. ML-DSA-44 is in :mod:`ledger.ml_dsa`.

Algorithm 3 is both side by side over the same message: the key is Ed25519 ‖ ML-DSA-44, so is the
signature, and it is valid exactly when both halves are. So it stands as long as one of the two does.
"""

from __future__ import annotations

from enum import IntEnum
from hashlib import sha256
from typing import ClassVar, Final, NoReturn, Protocol

from nacl.bindings import (
    crypto_core_ed25519_add,
    crypto_sign,
    crypto_sign_BYTES,
    crypto_sign_open,
    crypto_sign_seed_keypair,
)
from nacl.exceptions import BadSignatureError
from nacl.exceptions import RuntimeError as SodiumError

from ledger import ml_dsa
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

    @property
    def label(self) -> str:
        """The name that people know it by."""
        return _LABELS[self]


PUBLIC_KEY_SIZES: Final = {
    Algorithm.ED25519: 32,
    Algorithm.ML_DSA_44: ml_dsa.PUBLIC_KEY_SIZE,
    Algorithm.ED25519_ML_DSA_44: ED25519_KEY_SIZE + ml_dsa.PUBLIC_KEY_SIZE,
    Algorithm.X25519: 32,
}
SIGNATURE_SIZES: Final = {
    Algorithm.ED25519: 64,
    Algorithm.ML_DSA_44: ml_dsa.SIGNATURE_SIZE,
    Algorithm.ED25519_ML_DSA_44: ED25519_SIGNATURE_SIZE + ml_dsa.SIGNATURE_SIZE,
}

_LABELS: Final = {
    Algorithm.ED25519: "Ed25519",
    Algorithm.ML_DSA_44: "ML-DSA-44",
    Algorithm.ED25519_ML_DSA_44: "Ed25519 with ML-DSA-44",
    Algorithm.X25519: "X25519",
}

_ED25519_HALF: Final = b"sudur/v1/seed/ed25519\n"
_ML_DSA_44_HALF: Final = b"sudur/v1/seed/ml-dsa-44\n"

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


class _Signer:
    """What the signers in memory share. Their ``repr`` names the public key only."""

    __slots__ = ("public_key",)

    algorithm: ClassVar[Algorithm]
    public_key: bytes

    def __repr__(self) -> str:
        name = key_fingerprint(self.algorithm, self.public_key).hex()
        return f"{type(self).__name__}(fingerprint={name})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a private key is not pickled; load it from its file where it is needed")


class Ed25519Signer(_Signer):
    """An Ed25519 key in memory. Signing: about 20 µs."""

    __slots__ = ("_secret",)

    algorithm: ClassVar[Algorithm] = Algorithm.ED25519

    def __init__(self, seed: bytes) -> None:
        """``seed``: the 32 secret bytes of RFC 8032, section 5.1.5. FormatError for another size."""
        _check_seed(seed)
        self.public_key, self._secret = crypto_sign_seed_keypair(seed)

    def sign(self, message: bytes) -> bytes:
        return crypto_sign(message, self._secret)[:ED25519_SIGNATURE_SIZE]


class MlDsa44Signer(_Signer):
    """An ML-DSA-44 key in memory. Signing: about 0.7 ms, and another signature each time."""

    __slots__ = ("_key",)

    algorithm: ClassVar[Algorithm] = Algorithm.ML_DSA_44

    def __init__(self, seed: bytes) -> None:
        """``seed``: the 32 secret bytes of FIPS 204, algorithm 1. FormatError for another size."""
        _check_seed(seed)
        self._key = ml_dsa.SigningKey(seed)
        self.public_key = self._key.public_key

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message)


class HybridSigner(_Signer):
    """A key pair of each kind in memory (algorithm 3), made of one seed. It signs with both."""

    __slots__ = ("_halves",)

    algorithm: ClassVar[Algorithm] = Algorithm.ED25519_ML_DSA_44

    def __init__(self, seed: bytes) -> None:
        """``seed``: 32 secret bytes, of which each half gets its own, SHA-256(label ‖ seed).

        So neither half's secret tells anything of the other's. FormatError for another size.
        """
        _check_seed(seed)
        classical = Ed25519Signer(sha256(_ED25519_HALF + seed).digest())
        lattice = MlDsa44Signer(sha256(_ML_DSA_44_HALF + seed).digest())
        self._halves = (classical, lattice)
        self.public_key = classical.public_key + lattice.public_key

    def sign(self, message: bytes) -> bytes:
        return b"".join(half.sign(message) for half in self._halves)


def signer_of(algorithm: int, seed: bytes) -> Ed25519Signer | MlDsa44Signer | HybridSigner:
    """The signer of a key that is kept as its 32-byte seed.

    FormatError for a seed of another size and for an algorithm that signs nothing.
    """
    match algorithm:
        case Algorithm.ED25519:
            return Ed25519Signer(seed)
        case Algorithm.ML_DSA_44:
            return MlDsa44Signer(seed)
        case Algorithm.ED25519_ML_DSA_44:
            return HybridSigner(seed)
    raise FormatError(f"algorithm {algorithm} signs nothing", where="private key")


def key_fingerprint(algorithm: int, public_key: bytes) -> bytes:
    """SHA-256(algorithm u8 ‖ public key), 32 bytes: how signed messages name their signer's key."""
    return sha256(bytes((algorithm,)) + public_key).digest()


def key_fingerprints(algorithm: int, public_key: bytes) -> tuple[bytes, ...]:
    """The fingerprints of a key and, of one of algorithm 3, of either half as a key of its own.

    Whoever must not meet the same secret twice compares all of them.
    """
    own = key_fingerprint(algorithm, public_key)
    if algorithm != Algorithm.ED25519_ML_DSA_44:
        return (own,)
    return (
        own,
        key_fingerprint(Algorithm.ED25519, public_key[:ED25519_KEY_SIZE]),
        key_fingerprint(Algorithm.ML_DSA_44, public_key[ED25519_KEY_SIZE:]),
    )


def check_public_key(algorithm: int, public_key: bytes) -> None:
    """Whether a key may be registered. About 30 µs.

    FormatError for an unknown algorithm, a wrong size, an encoding that is not canonical, a point
    that is not on the curve or is of small order, an ML-DSA-44 key under which anybody can sign. An
    X25519 key is checked for its size, its encoding and small order.
    """
    known = _algorithm(algorithm)
    if known is None:
        raise FormatError(f"algorithm {algorithm} is unknown", where="public key")
    if len(public_key) != PUBLIC_KEY_SIZES[known]:
        raise FormatError(
            f"{len(public_key)} bytes, {known.name} has {PUBLIC_KEY_SIZES[known]}", where="public key"
        )
    match known:
        case Algorithm.ED25519:
            _check_ed25519_key(public_key)
        case Algorithm.ML_DSA_44:
            _check_ml_dsa_44_key(public_key)
        case Algorithm.ED25519_ML_DSA_44:
            _check_ed25519_key(public_key[:ED25519_KEY_SIZE])
            _check_ml_dsa_44_key(public_key[ED25519_KEY_SIZE:])
        case Algorithm.X25519:
            if int.from_bytes(public_key, "little") >= _FIELD_PRIME or public_key in SMALL_ORDER_X25519:
                raise FormatError("not canonical, or of small order", where="public key")


def verify(algorithm: int, public_key: bytes, message: bytes, signature: bytes) -> None:
    """Raise SignatureInvalid unless ``signature`` is ``public_key``'s over ``message``.

    ``algorithm``: the number from the leaf or record. About 50 µs for 1, 100 for 2, 150 for 3.
    """
    match algorithm:
        case Algorithm.ED25519:
            verify_ed25519(public_key, message, signature)
        case Algorithm.ML_DSA_44:
            ml_dsa.verify(public_key, message, signature)
        case Algorithm.ED25519_ML_DSA_44:
            verify_ed25519(public_key[:ED25519_KEY_SIZE], message, signature[:ED25519_SIGNATURE_SIZE])
            ml_dsa.verify(public_key[ED25519_KEY_SIZE:], message, signature[ED25519_SIGNATURE_SIZE:])
        case _:
            raise SignatureInvalid(
                f"algorithm {algorithm} signs nothing that is known here",
                where="signature",
                fix="use algorithm 1, 2 or 3, or a newer build",
            )


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


def _check_ed25519_key(public_key: bytes) -> None:
    fault = _key_fault(public_key)
    if fault:
        raise FormatError(fault, where="public key", fix="make a new key pair")
    try:
        crypto_core_ed25519_add(public_key, public_key)
    except SodiumError:
        raise FormatError("not a point on the curve", where="public key", fix="make a new key pair") from None


def _check_ml_dsa_44_key(public_key: bytes) -> None:
    fault = ml_dsa.key_fault(public_key)
    if fault:
        raise FormatError(fault, where="public key", fix="make a new key pair")


def _check_seed(seed: bytes) -> None:
    if len(seed) != SEED_SIZE:
        raise FormatError(f"{len(seed)} bytes, a seed has {SEED_SIZE}", where="private key")


def _algorithm(number: int) -> Algorithm | None:
    try:
        return Algorithm(number)
    except ValueError:
        return None
