"""Key files: a private key at rest, and the public half that is handed to the authority.

Both are canonical JSON with a newline. The secret is 32 bytes: the seed of a signing key, of whichever
algorithm, or the X25519 private key. With a passphrase it lies in a libsodium secretbox under a key that
Argon2id makes of the passphrase; without, it lies open, and only the file's mode protects it. A key file is
written once, mode 0600, and refused when others may read it. Nothing here prints a secret.
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from nacl.bindings import crypto_scalarmult_base
from nacl.exceptions import CryptoError
from nacl.pwhash import argon2id
from nacl.secret import SecretBox
from nacl.utils import random as random_bytes

from ledger.canonical_json import Json, Reader, base64_text, encode, parse
from ledger.changes import USES
from ledger.errors import FormatError
from ledger.signatures import (
    PUBLIC_KEY_SIZES,
    Algorithm,
    Signer,
    check_public_key,
    key_fingerprint,
    signer_of,
)
from tools.errors import FileProblem, KeyFileError, WrongPassphrase
from tools.files import PRIVATE, PUBLIC, read_file, reason, write_new_file

MAX_KEY_FILE: Final = 16_384
SECRET_SIZE: Final = 32
FILE_USES: Final = (*USES, "authority", "log", "register", "witness", "receipt", "journal")
_SECRET_USES: Final = ("envelope", "register")
_NOTE_USES: Final = ("log", "witness")
_FORMAT: Final = "sudur-key/v1"
_PUBLIC_FORMAT: Final = "sudur-public-key/v1"
_LABEL: Final = re.compile(r"[\w][\w.-]*")
_MAX_MEMORY: Final = 1 << 30
_MAX_OPERATIONS: Final = 16


@dataclass(frozen=True, slots=True)
class KdfCost:
    """What Argon2id spends: passes, and bytes of memory."""

    operations: int
    memory: int


STRONG: Final = KdfCost(argon2id.OPSLIMIT_MODERATE, argon2id.MEMLIMIT_MODERATE)
"""About 0.7 s and 256 MiB for each guess at a passphrase."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key as it is handed over. ``label`` is a pseudonym, no personal name."""

    algorithm: Algorithm
    key: bytes
    use: str
    label: str

    @property
    def fingerprint(self) -> str:
        """SHA-256(algorithm ‖ key) in hex: to be compared by telephone."""
        return key_fingerprint(self.algorithm, self.key).hex()

    def members(self) -> dict[str, Json]:
        return {
            "algorithm": int(self.algorithm),
            "public_key": base64_text(self.key),
            "use": self.use,
            "label": self.label,
        }

    def encode(self) -> bytes:
        return encode({"format": _PUBLIC_FORMAT, **self.members()}) + b"\n"

    @classmethod
    def read(cls, reader: Reader) -> PublicKey:
        """From a JSON object that may have more members. Raises FormatError."""
        number = reader.number("algorithm", 1, 255)
        if number not in list(Algorithm):
            raise FormatError(f"algorithm {number} is not known here", where=reader.at("algorithm"))
        algorithm = Algorithm(number)
        key = cls(
            algorithm,
            reader.data("public_key", size=PUBLIC_KEY_SIZES[algorithm]),
            _use(reader),
            _label(reader),
        )
        if algorithm not in algorithms_for(key.use):
            raise FormatError(f"{algorithm.label} is not for {key.use}", where=reader.at("use"))
        check_public_key(key.algorithm, key.key)
        return key


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """A key pair in memory. Its ``repr`` leaves the secret out."""

    public: PublicKey
    secret: bytes = field(repr=False)

    @property
    def signer(self) -> Signer:
        """Raises KeyFileError for a key that cannot sign."""
        if self.public.algorithm is Algorithm.X25519:
            raise KeyFileError(f"a key for {self.public.use} signs nothing", where=self.public.label)
        return signer_of(self.public.algorithm, self.secret)


def algorithms_for(use: str) -> tuple[Algorithm, ...]:
    """What a key for ``use`` may be of; the first is what it is unless another is asked for.

    A key that signs notes has one algorithm: who knows only the other ignores that line.
    """
    if use in _SECRET_USES:
        return (Algorithm.X25519,)
    if use in _NOTE_USES:
        return Algorithm.ED25519, Algorithm.ML_DSA_44
    return Algorithm.ED25519, Algorithm.ML_DSA_44, Algorithm.ED25519_ML_DSA_44


def make_key(use: str, label: str, algorithm: Algorithm | None = None) -> PrivateKey:
    """A new random key pair; without ``algorithm`` X25519 for envelopes and the register, else Ed25519.

    Raises KeyFileError for a bad label, and for an algorithm that is not for this use.
    """
    check_label(label)
    algorithm = algorithms_for(use)[0] if algorithm is None else algorithm
    check_algorithm(use, algorithm)
    secret = random_bytes(SECRET_SIZE)
    return PrivateKey(PublicKey(algorithm, _public_half(algorithm, secret), use, label), secret)


def check_algorithm(use: str, algorithm: Algorithm) -> None:
    """Raises KeyFileError for an algorithm that is not for this use."""
    able = algorithms_for(use)
    if algorithm not in able:
        raise KeyFileError(
            f"a key for {use} is not of {algorithm.label}",
            where="--algorithm",
            fix=f"make one of {' or '.join(one.label for one in able)}",
        )


def check_label(label: str) -> None:
    """Labels name files and stand in the public registry. Raises KeyFileError."""
    if not _LABEL.fullmatch(label) or len(label.encode()) > 64:
        raise KeyFileError(
            "a label has letters, digits, '-', '_' and '.', at most 64 bytes", where=repr(label)[:80]
        )


def encode_key(key: PrivateKey, passphrase: str | None, cost: KdfCost = STRONG) -> bytes:
    """The bytes of a key file. With a passphrase it costs what ``cost`` says."""
    return encode({"format": _FORMAT, **key.public.members(), "secret": _seal(key, passphrase, cost)}) + b"\n"


def save_key(path: Path, key: PrivateKey, passphrase: str | None, cost: KdfCost = STRONG) -> None:
    """Write a new key file, mode 0600. Raises FileProblem when the name is taken."""
    write_new_file(path, encode_key(key, passphrase, cost), PRIVATE)


def save_public_key(path: Path, key: PublicKey) -> None:
    """Write the file that is handed to the authority. Raises FileProblem when the name is taken."""
    write_new_file(path, key.encode(), PUBLIC)


def load_public_key(path: Path) -> PublicKey:
    """Read a public key file. Raises FileProblem, KeyFileError."""
    try:
        reader = _open(path, _PUBLIC_FORMAT)
        key = PublicKey.read(reader)
        reader.done()
    except FormatError as error:
        raise _damaged(path, error) from error
    return key


class KeyFile:
    """A key file that was read and not yet opened: its public half is known without a passphrase."""

    __slots__ = ("_secret", "path", "public")

    def __init__(self, path: Path) -> None:
        """Raises FileProblem; KeyFileError when it is damaged or open to others."""
        try:
            mode = path.stat().st_mode
        except OSError as error:
            raise FileProblem(f"cannot be read: {reason(error)}", where=str(path)) from None
        if mode & 0o077:
            raise KeyFileError(
                "others than its owner may read or write this private key",
                where=str(path),
                fix=f"run chmod 600 {path}, and replace the key if somebody may have copied it",
            )
        try:
            reader = _open(path, _FORMAT)
            self.path = path
            self.public = PublicKey.read(reader)
            self._secret = _Secret.read(reader.member("secret"))
            reader.done()
        except FormatError as error:
            raise _damaged(path, error) from error

    @property
    def is_encrypted(self) -> bool:
        return self._secret.salt is not None

    def open(self, passphrase: str | None) -> PrivateKey:
        """The key pair. Raises WrongPassphrase (also when one is needed), KeyFileError when damaged."""
        secret = self._secret.open(str(self.path), passphrase)
        if not hmac.compare_digest(_public_half(self.public.algorithm, secret), self.public.key):
            raise KeyFileError(
                "the private key does not belong to the public key beside it",
                where=str(self.path),
                fix="restore the file from its copy",
            )
        return PrivateKey(self.public, secret)


@dataclass(frozen=True, slots=True)
class _Secret:
    """The secret as the file holds it: open when ``salt`` is None, else nonce and box."""

    data: bytes = field(repr=False)
    salt: bytes | None = None
    cost: KdfCost = STRONG

    @classmethod
    def read(cls, reader: Reader) -> _Secret:
        if reader.has("open"):
            secret = cls(reader.data("open", size=SECRET_SIZE))
        else:
            size = SecretBox.NONCE_SIZE + SecretBox.MACBYTES + SECRET_SIZE
            operations = reader.number("operations", 1, _MAX_OPERATIONS)
            memory = reader.number("memory", argon2id.MEMLIMIT_MIN, _MAX_MEMORY)
            salt = reader.data("salt", size=argon2id.SALTBYTES)
            if reader.text("kdf", limit=16) != "argon2id13":
                raise FormatError("is not argon2id13", where=reader.at("kdf"))
            secret = cls(reader.data("box", size=size), salt, KdfCost(operations, memory))
        reader.done()
        return secret

    def open(self, where: str, passphrase: str | None) -> bytes:
        if self.salt is None:
            return self.data
        if not passphrase:
            raise WrongPassphrase(
                "the key is encrypted and needs its passphrase",
                where=where,
                fix="give --passphrase-file FILE, or set SUDUR_PASSPHRASE",
            )
        try:
            return SecretBox(_derive(passphrase, self.salt, self.cost)).decrypt(self.data)
        except CryptoError:
            raise WrongPassphrase(
                "the passphrase is not this key's, or the file was damaged",
                where=where,
                fix="try the passphrase again",
            ) from None


def _seal(key: PrivateKey, passphrase: str | None, cost: KdfCost) -> Json:
    if not passphrase:
        return {"open": base64_text(key.secret)}
    salt = random_bytes(argon2id.SALTBYTES)
    box = SecretBox(_derive(passphrase, salt, cost)).encrypt(key.secret)
    return {
        "kdf": "argon2id13",
        "operations": cost.operations,
        "memory": cost.memory,
        "salt": base64_text(salt),
        "box": base64_text(bytes(box)),
    }


def _derive(passphrase: str, salt: bytes, cost: KdfCost) -> bytes:
    return argon2id.kdf(
        SecretBox.KEY_SIZE, passphrase.encode("utf-8", "surrogateescape"), salt, cost.operations, cost.memory
    )


def _public_half(algorithm: Algorithm, secret: bytes) -> bytes:
    if algorithm is Algorithm.X25519:
        return crypto_scalarmult_base(secret)
    return signer_of(algorithm, secret).public_key


def _open(path: Path, wanted: str) -> Reader:
    data = read_file(path, MAX_KEY_FILE)
    reader = Reader(parse(data.removesuffix(b"\n"), limit=MAX_KEY_FILE, where="key file"), "key file")
    found = reader.text("format", limit=64)
    if found != wanted:
        raise FormatError(f"{wanted} is expected, this is {found!r}", where=reader.at("format"))
    return reader


def _use(reader: Reader) -> str:
    use = reader.text("use", limit=16)
    if use not in FILE_USES:
        raise FormatError(f"is none of {', '.join(FILE_USES)}", where=reader.at("use"))
    return use


def _label(reader: Reader) -> str:
    label = reader.text("label", limit=64)
    try:
        check_label(label)
    except KeyFileError as error:
        raise FormatError(error.what, where=reader.at("label")) from None
    return label


def _damaged(path: Path, error: FormatError) -> KeyFileError:
    return KeyFileError(f"is no undamaged key file: {error}", where=str(path), fix="restore it from its copy")
