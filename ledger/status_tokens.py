"""Status list tokens: a status chunk as an IETF Token Status List, a JWT that wallets and portals can read.

One token covers 65,536 indexes, as a chunk does, so whoever fetches it tells nobody which document is asked
for. Our two bits are the registered values: 0 VALID, 1 INVALID (revoked), 2 SUSPENDED; 3, which the draft
leaves to applications, is superseded. A token says what its signer says: unlike a status chunk with its
seal, it proves nothing against the log. Format: docs/format.md, section Status list token.

PyJWT does the JWS, because it is the most used and watched library for it and brings nothing along; the
signatures are ours, as strict as everywhere else.
"""

from __future__ import annotations

import binascii
import re
from base64 import urlsafe_b64decode
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import jwt
from jwt.algorithms import Algorithm

from ledger.canonical_json import Reader, encode, parse, u64_text
from ledger.checkpoints import check_origin
from ledger.errors import CheckpointUntrusted, FormatError, PortableFormatError, SignatureInvalid, TooLarge
from ledger.receipt_keys import KeyStatement, ReceiptKey, base64url
from ledger.signatures import Signer, verify_ed25519
from ledger.status import CHUNK_INDEXES, CHUNK_SIZE, compress_chunk, expand_chunk

MEDIA_TYPE: Final = "application/statuslist+jwt"
BITS: Final = 2
MAX_STATUS_TOKEN: Final = 65_536
"""A chunk that zlib can make nothing of takes some 30 KB in a token."""
_TYPE: Final = "statuslist+jwt"
_COMPACT: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)
_MAX_URI: Final = 2_048
_MAX_SECONDS: Final = 2**53 - 1
_WHERE: Final = "status token"


@dataclass(frozen=True, slots=True)
class StatusReference:
    """Where a document's status stands: what a ``status`` claim names of it."""

    uri: str
    index: int

    @classmethod
    def of(cls, index: int, base_url: str) -> StatusReference:
        """Of the leaf at ``index`` of the log, at the node or cache with this URL."""
        return cls(token_uri(base_url, index // CHUNK_INDEXES), index % CHUNK_INDEXES)

    def claim(self) -> dict[str, Any]:
        """The ``status`` claim of a token about the document."""
        return {"status_list": {"idx": self.index, "uri": self.uri}}


def token_path(chunk: int) -> str:
    """The resource of one chunk's token; it changes."""
    return f"status/token/{chunk}"


def token_uri(base_url: str, chunk: int) -> str:
    return f"{base_url}/{token_path(chunk)}"


@dataclass(frozen=True, slots=True)
class StatusToken:
    """What a token claims: one chunk of the status list under ``size`` leaves.

    ``uri``: its own (the ``sub`` claim). ``issued_s``: when its signer knew of nothing newer; ``expires_s``:
    from when on it counts no more; both seconds since 1970. ``ttl_s``: how long one may go without asking.
    """

    uri: str
    genesis: bytes
    origin: str
    size: int
    issued_s: int
    expires_s: int
    ttl_s: int
    chunk: bytes

    def claims(self) -> bytes:
        """The claims set: canonical JSON."""
        return encode(
            {
                "sub": self.uri,
                "iss": self.origin,
                "iat": self.issued_s,
                "exp": self.expires_s,
                "ttl": self.ttl_s,
                "status_list": {"bits": BITS, "lst": base64url(compress_chunk(self.chunk))},
                "sudur": {"genesis": self.genesis.hex(), "size": u64_text(self.size)},
            }
        )

    def sign(self, signer: Signer) -> bytes:
        """The JWT, compact. About 0.5 ms, most of it zlib; the same bytes each time."""
        header = {"kid": ReceiptKey(signer.public_key).jose_kid, "typ": _TYPE}
        return _jws(_Signing(signer)).encode(self.claims(), "", "EdDSA", headers=header).encode()


def open_status_token(data: bytes, statement: KeyStatement) -> StatusToken:
    """Read a token signed by a key that ``statement`` gives to this ledger.

    Whether it is too old, and whether its URI is the one asked for, is the caller's question. Raises
    PortableFormatError, TooLarge, CheckpointUntrusted, SignatureInvalid.
    """
    if len(data) > MAX_STATUS_TOKEN:
        raise TooLarge(f"{len(data)} bytes, at most {MAX_STATUS_TOKEN} are read", where=_WHERE)
    try:
        text = data.decode("ascii")
        if not _COMPACT.fullmatch(text):
            raise PortableFormatError("is no compact JWT", where=_WHERE)
        for part in text.split("."):
            _unbase64url(part, _WHERE)  # PyJWT would take other spellings of the same bytes
        header = jwt.get_unverified_header(text)
        if set(header) != {"alg", "kid", "typ"} or (header["alg"], header["typ"]) != ("EdDSA", _TYPE):
            raise PortableFormatError("its header is not a status list token's", where=_WHERE)
        key = statement.by_jose_kid(header["kid"])
        payload = _jws(_Verifying(key)).decode(text, "", algorithms=["EdDSA"])
    except (jwt.PyJWTError, FormatError, UnicodeDecodeError, RecursionError) as error:
        if isinstance(error, PortableFormatError):
            raise
        if isinstance(error, jwt.InvalidSignatureError):
            raise SignatureInvalid("it is not this key's signature", where=_WHERE) from None
        raise PortableFormatError(f"is no JWT: {str(error)[:120]}", where=_WHERE) from error
    token = _parse_claims(payload)
    if (token.genesis, token.origin) != (statement.genesis, statement.origin):
        raise CheckpointUntrusted(f"it is of the ledger {token.origin}", where=_WHERE)
    return token


def _parse_claims(payload: bytes) -> StatusToken:
    try:
        reader = Reader(parse(payload, limit=MAX_STATUS_TOKEN, where=_WHERE), _WHERE)
        listed, ours = reader.member("status_list"), reader.member("sudur")
        listed.number("bits", BITS, BITS)
        genesis = ours.text("genesis", limit=64)
        token = StatusToken(
            uri=reader.text("sub", limit=_MAX_URI),
            genesis=bytes.fromhex(genesis),
            origin=reader.text("iss"),
            size=ours.u64("size"),
            issued_s=reader.number("iat", 0, _MAX_SECONDS),
            expires_s=reader.number("exp", 0, _MAX_SECONDS),
            ttl_s=reader.number("ttl", 1, _MAX_SECONDS),
            chunk=expand_chunk(_unbase64url(listed.text("lst", limit=3 * CHUNK_SIZE), "lst")),
        )
        check_origin(token.origin)
        for one in (reader, listed, ours):
            one.done()
        if len(token.genesis) != 32 or token.genesis.hex() != genesis:
            raise FormatError("is no ledger id", where="sudur.genesis")
    except (FormatError, ValueError) as error:
        what = error.what if isinstance(error, FormatError) else str(error)[:120]
        raise PortableFormatError(what, where=_WHERE) from error
    return token


def _unbase64url(text: str, where: str) -> bytes:
    try:
        data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        data = b""
    if base64url(data) != text:
        raise FormatError("is not canonical base64url", where=where)
    return data


def _jws(algorithm: Algorithm) -> jwt.PyJWS:
    """A JWS that knows one algorithm and no other: EdDSA, by our own signatures."""
    jws = jwt.PyJWS(algorithms=[])
    jws.register_algorithm("EdDSA", algorithm)
    return jws


class _OwnEd25519(Algorithm):
    """The key is in the object; PyJWT is given none."""

    def prepare_key(self, key: Any) -> Any:
        return key

    def sign(self, msg: bytes, key: Any) -> bytes:
        raise NotImplementedError

    def verify(self, msg: bytes, key: Any, sig: bytes) -> bool:
        raise NotImplementedError

    @staticmethod
    def to_jwk(key_obj: Any, as_dict: bool = False) -> NoReturn:
        raise NotImplementedError

    @staticmethod
    def from_jwk(jwk: Any) -> NoReturn:
        raise NotImplementedError


class _Signing(_OwnEd25519):
    def __init__(self, signer: Signer) -> None:
        self._signer = signer

    def sign(self, msg: bytes, key: Any) -> bytes:
        return self._signer.sign(msg)


class _Verifying(_OwnEd25519):
    def __init__(self, key: ReceiptKey) -> None:
        self._key = key

    def verify(self, msg: bytes, key: Any, sig: bytes) -> bool:
        try:
            verify_ed25519(self._key.public_key, msg, sig)
        except SignatureInvalid:
            return False
        return True
