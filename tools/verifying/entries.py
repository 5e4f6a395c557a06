"""The lines of a verifying office's journal: what each says, how it is signed, chained and read.

A line is canonical JSON. The first names the journal's public key; each later one is an entry, bears the
hash of the line before it, and is signed over all but the signature. So nothing can be altered, left out,
put in or moved unseen, and whoever was shown a line's hash, the *head*, can tell later that all up to there
is as it was. Format: docs/format.md, section Journal of a verifying office.

A journal that is found by somebody must not tell whose papers were checked. What names a document stands in
it in two ways only: as a hash with a salt that only the key's holder can make, and sealed.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Final

from nacl.exceptions import CryptoError
from nacl.secret import SecretBox

from ledger.canonical_json import Json, Reader, base64_text, encode, parse, u64_text
from ledger.digits import are_digits, folded, from_digits, to_digits
from ledger.errors import FormatError, SudurError
from ledger.hashing import HASH_SIZE
from ledger.signatures import verify
from ledger.verdicts import VerdictCode
from tools.errors import JournalProblem
from tools.keyfile import PrivateKey, PublicKey, check_label

MAX_LINE: Final = 16_384
_FORMAT: Final = "sudur-journal/v1"
_SIGNED: Final = b"sudur/v1/journal\n"
_CHECKED: Final = b"sudur/v1/checked\n"
_NUMBER_BYTES: Final = 4
_CODE_BYTES: Final = _NUMBER_BYTES + 8


class JournalKey:
    """The journal's key pair, with the two secrets that follow from it."""

    def __init__(self, key: PrivateKey) -> None:
        """Raises JournalProblem for a key of another use."""
        if key.public.use != "journal":
            raise JournalProblem(f"a key for {key.public.use} signs no journal", where=key.public.label)
        self.public = key.public
        self.signer = key.signer
        self._salts = hmac.digest(key.secret, b"sudur/v1/journal salts", "sha256")
        self._box = SecretBox(hmac.digest(key.secret, b"sudur/v1/journal box", "sha256"))

    def checked(self, number: int, digest: bytes) -> bytes:
        """What entry ``number`` says of the thing with this digest; nobody else can try guesses on it."""
        salt = hmac.digest(self._salts, number.to_bytes(8, "big"), "sha256")[:16]
        return sha256(_CHECKED + salt + digest).digest()

    def seal(self, number: int, what: RecheckBy) -> bytes:
        return bytes(self._box.encrypt(number.to_bytes(8, "big") + what.encode()))

    def unseal(self, entry: Entry) -> RecheckBy | None:
        """What the entry is rechecked by; None when nothing was proven. Raises JournalProblem."""
        if entry.sealed is None:
            return None
        try:
            plain = self._box.decrypt(entry.sealed)
            if int.from_bytes(plain[:8], "big") != entry.number:
                raise FormatError("is sealed for another entry", where="entry")
            return RecheckBy.decode(plain[8:])
        except (CryptoError, FormatError, ValueError) as error:
            raise JournalProblem(
                f"entry {entry.number} was sealed with another key: {error}",
                where="journal",
                fix="give the key that the journal was made with",
            ) from None


@dataclass(frozen=True, slots=True)
class RecheckBy:
    """What it takes to see later what became of a document: where it stands, and who signed it there.

    ``signed``: the SUBMISSION's index and the numbers of its keys; None where only a code was checked.
    """

    index: int
    agency: int
    basis: int
    signed: tuple[int, tuple[int, ...]] | None

    def encode(self) -> bytes:
        signed: Json = None
        if self.signed is not None:
            signed = {"at": u64_text(self.signed[0]), "keys": list(self.signed[1])}
        return encode(
            {"index": u64_text(self.index), "agency": self.agency, "basis": self.basis, "signed": signed}
        )

    @classmethod
    def decode(cls, data: bytes) -> RecheckBy:
        reader = Reader(parse(data, limit=4096, where="sealed"), "sealed")
        by = reader.optional_member("signed")
        signed = None
        if by is not None:
            keys = by.items("keys", limit=16)
            if any(type(one) is not int for one in keys):
                raise FormatError("key numbers are expected", where=by.at("keys"))
            signed = by.u64("at"), tuple(one for one in keys if isinstance(one, int))
            by.done()
        found = cls(
            reader.u64("index"), reader.number("agency", 1, 2**32 - 1), reader.number("basis", 0, 3), signed
        )
        reader.done()
        return found


@dataclass(frozen=True, slots=True)
class Relied:
    """The checkpoint that a verdict rests on, and the time of its seal."""

    genesis: bytes
    size: int
    root: bytes
    as_of_ms: int

    def to_json(self) -> Json:
        return {
            "genesis": base64_text(self.genesis),
            "size": u64_text(self.size),
            "root": base64_text(self.root),
            "as_of_ms": u64_text(self.as_of_ms),
        }

    @classmethod
    def from_json(cls, reader: Reader) -> Relied:
        found = cls(
            reader.data("genesis", size=HASH_SIZE),
            reader.u64("size"),
            reader.data("root", size=HASH_SIZE),
            reader.u64("as_of_ms"),
        )
        reader.done()
        return found


@dataclass(frozen=True, slots=True)
class Entry:
    """One check. ``relied`` and ``sealed`` are None unless all was proven; ``before`` is of the last line."""

    number: int
    time_ms: int
    officer: str
    checked: bytes
    verdict: VerdictCode
    relied: Relied | None
    sealed: bytes | None
    before: bytes
    signature: bytes = b""

    def _members(self) -> dict[str, Json]:
        return {
            "number": u64_text(self.number),
            "time_ms": u64_text(self.time_ms),
            "officer": self.officer,
            "checked": base64_text(self.checked),
            "verdict": self.verdict.value,
            "relied": None if self.relied is None else self.relied.to_json(),
            "sealed": None if self.sealed is None else base64_text(self.sealed),
            "before": base64_text(self.before),
        }

    def message(self) -> bytes:
        """What is signed."""
        return _SIGNED + encode(self._members())

    def encode(self) -> bytes:
        """The line, without its newline."""
        return encode({**self._members(), "signature": base64_text(self.signature)})

    def signed_by(self, key: JournalKey) -> Entry:
        return replace(self, signature=key.signer.sign(self.message()))

    def check(self, key: PublicKey) -> None:
        """Raises SignatureInvalid."""
        verify(key.algorithm, key.key, self.message(), self.signature)

    @property
    def code(self) -> str:
        """The code on the slip: digits that find this entry, and fit no other line."""
        data = self.number.to_bytes(_NUMBER_BYTES, "big") + line_hash(self.encode())[:8]
        return to_digits(data + sha256(data).digest()[:2])


def line_hash(line: bytes) -> bytes:
    return sha256(line).digest()


def parse_slip_code(text: str) -> tuple[int, bytes]:
    """(entry number, first bytes of its line's hash) of a slip's code, as typed. Raises JournalProblem."""
    digits = folded(text[:256])
    try:
        data = from_digits(digits) if are_digits(digits) else b""
    except FormatError:
        data = b""
    body, check = data[:_CODE_BYTES], data[_CODE_BYTES:]
    if len(data) != _CODE_BYTES + 2 or sha256(body).digest()[:2] != check:
        raise JournalProblem(
            "is no code of a slip, or a digit is wrong", where=repr(text)[:80], fix="type it as it is printed"
        )
    return int.from_bytes(body[:_NUMBER_BYTES], "big"), body[_NUMBER_BYTES:]


def header(key: PublicKey, made_ms: int) -> bytes:
    """The first line."""
    return encode({"format": _FORMAT, "made_ms": u64_text(made_ms), "key": key.members()})


def parse_header(line: bytes) -> PublicKey:
    """The journal's public key. Raises FormatError."""
    reader = Reader(parse(line, limit=MAX_LINE, where="line 1"), "line 1")
    if reader.text("format") != _FORMAT:
        raise FormatError(f"is not {_FORMAT}", where="line 1")
    reader.u64("made_ms")
    inner = reader.member("key")
    key = PublicKey.read(inner)
    inner.done()
    reader.done()
    if key.use != "journal":
        raise FormatError(f"names a key for {key.use}", where="line 1")
    return key


def parse_entry(line: bytes, where: str) -> Entry:
    """Read a line; its signature is not checked here. Raises FormatError."""
    reader = Reader(parse(line, limit=MAX_LINE, where=where), where)
    relied = reader.optional_member("relied")
    sealed = None if reader.any("sealed") is None else reader.data("sealed", limit=4096)
    verdict = reader.text("verdict", limit=64)
    if verdict not in {one.value for one in VerdictCode}:
        raise FormatError("is no verdict", where=reader.at("verdict"))
    officer = reader.text("officer", limit=64)
    try:
        check_label(officer)
    except SudurError as error:
        raise FormatError(error.what, where=reader.at("officer")) from None
    entry = Entry(
        number=reader.u64("number"),
        time_ms=reader.u64("time_ms"),
        officer=officer,
        checked=reader.data("checked", size=HASH_SIZE),
        verdict=VerdictCode(verdict),
        relied=None if relied is None else Relied.from_json(relied),
        sealed=sealed,
        before=reader.data("before", size=HASH_SIZE),
        signature=reader.data("signature", limit=4096),
    )
    reader.done()
    if (entry.relied is None) != (entry.sealed is None):
        raise FormatError("what was relied on goes with what is sealed", where=where)
    return entry
