"""The keys of receipts and status tokens, and the statement that binds them to a ledger.

COSE and JOSE verifiers want keys in their own forms, and signatures of their own kinds. The log's key makes
none of those: it signs notes only. So a node may have a receipt key beside it, and the log's key says once,
in a signed note, which receipt keys are this ledger's:

    sudur/v1/receipt-keys
    genesis <base64 of G>
    origin <origin>
    size <decimal>
    key <base64 of an Ed25519 public key>

No second line of a checkpoint begins with a word, so neither note passes for the other. Whoever trusts the
log's key can follow the statement to the keys; nobody else has a reason to believe them. Format:
docs/format.md, section Receipt keys.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from ledger.canonical_json import Json, base64_text, parse_base64
from ledger.canonical_json import encode as encode_json
from ledger.checkpoints import MAX_TREE_SIZE, check_origin
from ledger.deterministic_cbor import encode as encode_cbor
from ledger.errors import CheckpointUntrusted, FormatError, PortableFormatError
from ledger.notes import NamedSigner, open_note, parse_note, sign_note
from ledger.signatures import Algorithm, Signer, check_public_key
from ledger.trust import TrustedLedger

MAX_RECEIPT_KEYS: Final = 16
EDDSA: Final = -8
"""The COSE algorithm EdDSA; with JOSE it has its name."""
_FIRST: Final = "sudur/v1/receipt-keys"
_WHERE: Final = "receipt keys"
_DECIMAL: Final = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)


@dataclass(frozen=True, slots=True)
class ReceiptKey:
    """An Ed25519 public key in the forms that COSE and JOSE have. Always one that can be verified with.

    FormatError for another. Both names are thumbprints, so a key cannot stand under another's.
    """

    public_key: bytes

    def __post_init__(self) -> None:
        check_public_key(Algorithm.ED25519, self.public_key)

    @property
    def cose_kid(self) -> bytes:
        """The COSE key thumbprint (RFC 9679), SHA-256."""
        return sha256(encode_cbor(self._cose())).digest()

    @property
    def jose_kid(self) -> str:
        """The JWK thumbprint (RFC 7638), SHA-256, base64url."""
        return base64url(sha256(encode_json(self._jwk())).digest())

    def jwk(self) -> Json:
        """As a JSON Web Key (RFC 8037)."""
        return {**self._jwk(), "alg": "EdDSA", "kid": self.jose_kid, "use": "sig"}

    def cose_key(self) -> dict[int, int | bytes]:
        """As a COSE_Key (RFC 9053 section 7.2)."""
        return {**self._cose(), 2: self.cose_kid, 3: EDDSA}

    def _jwk(self) -> dict[str, str]:
        return {"crv": "Ed25519", "kty": "OKP", "x": base64url(self.public_key)}

    def _cose(self) -> dict[int, int | bytes]:
        return {1: 1, -1: 6, -2: self.public_key}


def jwk_set(keys: Sequence[ReceiptKey]) -> bytes:
    """The keys as a JWK Set (RFC 7517 section 5)."""
    return encode_json({"keys": [key.jwk() for key in keys]})


def cose_key_set(keys: Sequence[ReceiptKey]) -> bytes:
    """The keys as a COSE_KeySet (RFC 9052 section 7)."""
    return encode_cbor([key.cose_key() for key in keys])


@dataclass(frozen=True, slots=True)
class KeyStatement:
    """What the log says: these are the receipt keys of the ledger ``genesis`` as of ``size`` leaves.

    1 to 16 ``keys``, each once; those that sign no more may stay, for what they have signed.
    """

    genesis: bytes
    origin: str
    size: int
    keys: tuple[ReceiptKey, ...]

    def text(self) -> bytes:
        """The note's text."""
        lines = [
            _FIRST,
            f"genesis {base64_text(self.genesis)}",
            f"origin {self.origin}",
            f"size {self.size}",
            *(f"key {base64_text(key.public_key)}" for key in self.keys),
        ]
        return "".join(f"{line}\n" for line in lines).encode()

    def sign(self, log_keys: Sequence[Signer]) -> bytes:
        """The statement, signed by each of the log's Ed25519 keys under the origin as its name."""
        classical = [one for one in log_keys if one.algorithm is Algorithm.ED25519]
        return sign_note(self.text(), [NamedSigner(self.origin, one) for one in classical])

    def by_cose_kid(self, kid: bytes) -> ReceiptKey:
        """Raises CheckpointUntrusted for a key that is not stated."""
        return self._by(kid.hex(), {key.cose_kid.hex(): key for key in self.keys})

    def by_jose_kid(self, kid: str) -> ReceiptKey:
        """Raises CheckpointUntrusted for a key that is not stated."""
        return self._by(kid, {key.jose_kid: key for key in self.keys})

    def _by(self, kid: str, keys: dict[str, ReceiptKey]) -> ReceiptKey:
        if kid not in keys:
            raise CheckpointUntrusted(
                f"the key {kid[:16]} is not among the receipt keys of {self.origin}",
                where=_WHERE,
                fix="fetch the newest statement; if the key is not there either, do not believe it",
            )
        return keys[kid]


def open_statement(data: bytes, ledger: TrustedLedger) -> KeyStatement:
    """Read a statement that a log key of ``ledger`` signed, one that may sign the size that it names.

    Raises SignatureInvalid, CheckpointUntrusted for another ledger's, PortableFormatError, NoteFormatError.
    """
    statement = parse_statement(parse_note(data).text)
    if (statement.genesis, statement.origin) != (ledger.genesis, ledger.origin):
        raise CheckpointUntrusted(f"they are of the ledger {statement.origin}", where=_WHERE)
    open_note(data, ledger.keys_at(statement.size))
    return statement


def parse_statement(text: bytes) -> KeyStatement:
    """The inverse of :meth:`KeyStatement.text`. Raises PortableFormatError."""
    try:
        lines = text.decode().split("\n")
        first, genesis, origin, size, *keys, end = lines
        if first != _FIRST or end or not 1 <= len(keys) <= MAX_RECEIPT_KEYS:
            raise ValueError
        statement = KeyStatement(
            parse_base64(_value(genesis, "genesis"), _WHERE, limit=32),
            _value(origin, "origin"),
            _number(_value(size, "size")),
            tuple(ReceiptKey(parse_base64(_value(key, "key"), _WHERE, limit=32)) for key in keys),
        )
        check_origin(statement.origin)
    except FormatError as error:
        raise PortableFormatError(error.what, where=_WHERE) from error
    except ValueError:
        raise PortableFormatError("is no statement of receipt keys", where=_WHERE) from None
    if len(statement.genesis) != 32 or len(set(statement.keys)) != len(statement.keys):
        raise PortableFormatError("a bad genesis, or a key that stands twice", where=_WHERE)
    return statement


def base64url(data: bytes) -> str:
    """base64url without padding (RFC 7515)."""
    return urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _value(line: str, name: str) -> str:
    label, space, value = line.partition(" ")
    if label != name or not space:
        raise ValueError
    return value


def _number(text: str) -> int:
    if not _DECIMAL.fullmatch(text) or int(text) > MAX_TREE_SIZE:
        raise ValueError
    return int(text)
