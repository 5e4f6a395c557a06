"""Envelopes: what one agency sends another, sealed, beside the log and never in it.

A SEND or an ANSWER names an envelope by its digest; the bytes go through the nodes, which cannot read
them. Outside are the recipient's agency and key number, and a libsodium sealed box. Inside, what binds
it to its record in the log (ledger, sender, recipient, commitment), then a body: a letter or a reply
(ledger/envelope_bodies.py). Sealing needs randomness, so it is done elsewhere (tools/letters/envelopes.py);
here are the bytes before it and behind it. Format: docs/format.md, section Envelopes.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from enum import IntEnum
from hashlib import sha256
from struct import Struct
from typing import Final

from ledger.changes import MAX_AGENCY
from ledger.errors import (
    EnvelopeFormatError,
    EnvelopeWrongCommitment,
    EnvelopeWrongDigest,
    EnvelopeWrongLedger,
    EnvelopeWrongRecipient,
    EnvelopeWrongSender,
    TooLarge,
)
from ledger.records import Answer, Send
from ledger.signatures import Algorithm

VERSION: Final = 1
MAX_ENVELOPE: Final = 65_536
"""Most bytes of an envelope, its header included."""
BOX_OVERHEAD: Final = 48
"""What a sealed box adds: a public key of 32 bytes and a tag of 16."""
REQUEST_WINDOW_MS: Final = 5 * 60_000
"""How far the time in a request may be off the node's."""
_HEADER: Final = Struct(">BBIH")
_INNER: Final = Struct(">32sII32s")
_REQUEST: Final = Struct(">BI32sQ")
_REQUEST_LABEL: Final = b"sudur/v1/envelope\n"
_STEP: Final = 4_096
MAX_PLAINTEXT: Final = MAX_ENVELOPE - _HEADER.size - BOX_OVERHEAD
MAX_BODY: Final = MAX_PLAINTEXT - _INNER.size
"""Most bytes of a body."""
_WHERE: Final = "envelope"


@dataclass(frozen=True, slots=True)
class Envelope:
    """The outer form: for whom, under which of its keys, and the sealed box."""

    recipient: int
    key_number: int
    ciphertext: bytes

    def encode(self) -> bytes:
        return _HEADER.pack(VERSION, Algorithm.X25519, self.recipient, self.key_number) + self.ciphertext

    @classmethod
    def decode(cls, data: bytes) -> Envelope:
        """Raises EnvelopeFormatError, TooLarge. What the box holds is not looked at."""
        if len(data) > MAX_ENVELOPE:
            raise TooLarge(
                f"{len(data)} bytes, at most {MAX_ENVELOPE} are carried",
                where=_WHERE,
                fix="send large files another way; their digests in the letter prove them",
            )
        if len(data) < _HEADER.size:
            raise EnvelopeFormatError(f"{len(data)} bytes are too few", where=_WHERE)
        version, algorithm, recipient, number = _HEADER.unpack_from(data)
        if version != VERSION:
            raise EnvelopeFormatError(f"version {version} is not known, only {VERSION}", where=_WHERE)
        if algorithm != Algorithm.X25519:
            raise EnvelopeFormatError(
                f"algorithm {algorithm} seals no envelope, only {int(Algorithm.X25519)}", where=_WHERE
            )
        if recipient == 0 or number == 0:
            raise EnvelopeFormatError("it names no agency, or no key", where=_WHERE)
        size = len(data) - _HEADER.size - BOX_OVERHEAD
        if size <= _INNER.size or size != padded_size(size):
            raise EnvelopeFormatError(f"no padded plaintext has {size} bytes", where=_WHERE)
        return cls(recipient, number, data[_HEADER.size :])


def digest_of(data: bytes) -> bytes:
    """The 32 bytes by which a SEND or an ANSWER names an envelope: SHA-256 over all of it."""
    return sha256(data).digest()


def check_digest(data: bytes, digest: bytes) -> None:
    """Raises EnvelopeWrongDigest unless these are the bytes that the log names."""
    if not hmac.compare_digest(digest_of(data), digest):
        raise EnvelopeWrongDigest(
            "these are not the bytes that the log names",
            where=_WHERE,
            fix="fetch it again, from another node if there is one",
        )


def padded_size(size: int) -> int:
    """What a plaintext of ``size`` bytes is filled up to, so that its length tells little of it."""
    return min(-(-size // _STEP) * _STEP, MAX_PLAINTEXT)


# --- what is sealed ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Route:
    """What binds an envelope to its record: the ledger's G, who to whom, and the record's commitment."""

    genesis: bytes
    sender: int
    recipient: int
    commitment: bytes

    @classmethod
    def of_send(cls, genesis: bytes, send: Send) -> Route:
        return cls(genesis, send.agency, send.recipient, send.commitment)

    @classmethod
    def of_answer(cls, genesis: bytes, answer: Answer, send: Send) -> Route:
        """``send`` is the SEND that the ANSWER is to."""
        return cls(genesis, answer.agency, send.agency, answer.commitment)

    def check(self, found: Route) -> None:
        """That an opened envelope is on this route, as the log has it.

        Raises EnvelopeWrongLedger, EnvelopeWrongSender, EnvelopeWrongRecipient, EnvelopeWrongCommitment.
        """
        if found.genesis != self.genesis:
            raise EnvelopeWrongLedger(
                f"was sealed for the ledger {found.genesis.hex()}, not for {self.genesis.hex()}", where=_WHERE
            )
        if found.sender != self.sender:
            raise EnvelopeWrongSender(
                f"says that agency {found.sender} sent it; in the log it is agency {self.sender}",
                where=_WHERE,
                fix="believe nothing of it, and tell agency "
                f"{self.sender}: somebody passes on another's envelope",
            )
        if found.recipient != self.recipient:
            raise EnvelopeWrongRecipient(
                f"is meant for agency {found.recipient}; in the log it is agency {self.recipient}",
                where=_WHERE,
            )
        if found.commitment != self.commitment:
            raise EnvelopeWrongCommitment("belongs to another record than names it", where=_WHERE)


def write_plaintext(route: Route, body: bytes) -> bytes:
    """What is sealed: the route, the body, zeros up to the padded size. Raises TooLarge."""
    size = _INNER.size + len(body)
    if size > MAX_PLAINTEXT:
        raise TooLarge(
            f"{len(body)} bytes to seal, at most {MAX_BODY} fit",
            where=_WHERE,
            fix="leave large files out and send them another way; their digests in the letter prove them",
        )
    head = _INNER.pack(route.genesis, route.sender, route.recipient, route.commitment)
    return (head + body).ljust(padded_size(size), b"\0")


def read_plaintext(plaintext: bytes) -> tuple[Route, bytes]:
    """The route, and the body with its padding. Raises EnvelopeFormatError, TooLarge."""
    if len(plaintext) > MAX_PLAINTEXT:
        raise TooLarge(f"{len(plaintext)} bytes, at most {MAX_PLAINTEXT} are sealed", where=_WHERE)
    if len(plaintext) <= _INNER.size:
        raise EnvelopeFormatError(f"{len(plaintext)} bytes inside are too few", where=_WHERE)
    route = Route(*_INNER.unpack_from(plaintext))
    if not 1 <= route.sender <= MAX_AGENCY or not 1 <= route.recipient <= MAX_AGENCY:
        raise EnvelopeFormatError("no agency has the number 0", where=_WHERE)
    return route, plaintext[_INNER.size :]


# --- a body's parts ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file in an envelope, under the name of the field that its SHA-256 stands in."""

    name: str
    data: bytes

    @property
    def digest(self) -> bytes:
        return sha256(self.data).digest()


def write_parts(json: bytes, attachments: tuple[Attachment, ...]) -> bytes:
    """A body from its canonical JSON and its files. Raises TooLarge above 255 files."""
    if len(attachments) > 255:
        raise TooLarge(f"{len(attachments)} files, at most 255 are allowed", where=_WHERE)
    parts = [len(json).to_bytes(4, "big"), json, bytes((len(attachments),))]
    for one in attachments:
        name = one.name.encode("utf-8")
        parts += (bytes((len(name),)), name, len(one.data).to_bytes(4, "big"), one.data)
    return b"".join(parts)


def read_parts(body: bytes) -> tuple[bytes, tuple[Attachment, ...]]:
    """The JSON and the files of a padded body. Raises EnvelopeFormatError; the JSON is not read."""
    at = 0

    def take(size: int) -> bytes:
        nonlocal at
        at += size
        if at > len(body):
            raise EnvelopeFormatError("its body is cut short", where=_WHERE)
        return body[at - size : at]

    json = take(int.from_bytes(take(4), "big"))
    attachments = []
    for _ in range(take(1)[0]):
        try:
            name = take(take(1)[0]).decode("utf-8")
        except UnicodeDecodeError:
            raise EnvelopeFormatError("a file's name is not UTF-8", where=_WHERE) from None
        attachments.append(Attachment(name, take(int.from_bytes(take(4), "big"))))
    if any(body[at:]) or len(body) + _INNER.size != padded_size(at + _INNER.size):
        raise EnvelopeFormatError("something other than its padding follows the body", where=_WHERE)
    return json, tuple(attachments)


# --- asking a node -----------------------------------------------------------------------------


class Verb(IntEnum):
    """What an agency asks a node to do with an envelope."""

    PUT = 1
    GET = 2
    DROP = 3


def request_message(
    genesis: bytes, key_fingerprint: bytes, verb: Verb, agency: int, digest: bytes, time_ms: int
) -> bytes:
    """What one of the agency's submit keys signs, so that nobody else puts, gets or drops."""
    body = _REQUEST.pack(verb, agency, digest, time_ms)
    return _REQUEST_LABEL + genesis + key_fingerprint + body
