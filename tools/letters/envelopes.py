"""Sealing letters and replies, and opening what came: the only place that meets an envelope's secret keys.

A sealed box hides who made it, so who sent an envelope is what the log says, and what is inside agrees
with it or is refused (ledger/envelope_bodies.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nacl.exceptions import CryptoError
from nacl.public import PrivateKey as BoxKey
from nacl.public import PublicKey as BoxPublicKey
from nacl.public import SealedBox

from ledger.documents import check_composed
from ledger.envelope_bodies import (
    Letter,
    Reply,
    letter_plaintext,
    open_letter,
    open_reply,
    reply_plaintext,
)
from ledger.envelopes import Envelope, Route, check_digest, digest_of
from ledger.errors import EnvelopeWrongKey, EnvelopeWrongRecipient, KeyEnded, KeyStolen, KeyUse
from ledger.proven_registry import ProvenRegistry
from ledger.records import Answer, Send
from ledger.registry_records import KeyRecord
from ledger.signatures import Algorithm, check_public_key
from tools.errors import NoEnvelopeKey
from tools.keyfile import PrivateKey


@dataclass(frozen=True, slots=True)
class Sealed:
    """An envelope as it is put, its digest, and the commitment that its record logs."""

    data: bytes
    digest: bytes
    commitment: bytes


@dataclass(frozen=True, slots=True)
class Addressee:
    """To whom an envelope goes: the agency that the log names, and a proven key to seal to.

    The key is that agency's, or one of an agency in ``successors``, its successors by the registry.
    """

    agency: int
    key: KeyRecord
    successors: tuple[int, ...] = ()

    def check(self) -> None:
        """Raises EnvelopeWrongRecipient, KeyUse, KeyEnded, KeyStolen, FormatError for a weak key."""
        name = f"key {self.key.number} of agency {self.key.agency}"
        if self.key.agency not in (self.agency, *self.successors):
            raise EnvelopeWrongRecipient(f"{name} is not agency {self.agency}'s, nor its successor's")
        if self.key.use != "envelope" or self.key.algorithm != Algorithm.X25519:
            raise KeyUse(f"{name} is registered for {self.key.use}, not for envelopes")
        if self.key.ended is not None:
            raise KeyEnded(f"{name} ended at index {self.key.ended}", fix="seal to a key that is in use")
        if self.key.stolen is not None:
            raise KeyStolen(f"{name} is reported stolen", fix="seal to a key that is in use")
        check_public_key(self.key.algorithm, self.key.public_key)


def find_addressee(registry: ProvenRegistry, agency: int) -> Addressee:
    """Whom to seal to, proven: the agency's newest key that is in use, or its last successor's that has one.

    Raises NoEnvelopeKey, UnknownAgency, and as the registry does. A fetch for each agency and key.
    """
    heirs = [agency]
    while (successor := registry.agency(heirs[-1]).successor.latest) is not None:
        heirs.append(successor)
    for heir in reversed(heirs):
        usable = [
            key
            for key in registry.keys(heir)
            if key.use == "envelope" and key.active_at(registry.log.size) and key.stolen is None
        ]
        if usable:
            return Addressee(agency, usable[-1], tuple(heirs[1:]))
    raise NoEnvelopeKey(
        f"agency {agency} has no key that an envelope could be sealed to",
        fix="have it register one: sudur agency keygen --use envelope",
    )


def seal_letter(letter: Letter, genesis: bytes, to: Addressee) -> Sealed:
    """An envelope for a SEND to ``to.agency``. Every call makes other bytes.

    Raises FormatError (TooLarge when it does not fit), CommitmentMismatch, and as Addressee.check.
    """
    route, plaintext = letter_plaintext(letter, genesis, to.agency)
    return _seal(route, plaintext, to)


def seal_reply(reply: Reply, genesis: bytes, sender: int, to: Addressee) -> Sealed:
    """An envelope for an ANSWER of ``sender`` to a SEND of ``to.agency``. Raises as :func:`seal_letter`."""
    check_composed("note", reply.note)
    route, plaintext = reply_plaintext(reply, genesis, sender, to.agency)
    return _seal(route, plaintext, to)


def unseal_letter(data: bytes, send: Send, genesis: bytes, keys: Sequence[PrivateKey]) -> Letter:
    """The letter of a SEND of the log, opened with whichever of ``keys`` fits.

    Raises EnvelopeWrongDigest, EnvelopeWrongKey, and as :func:`ledger.envelope_bodies.open_letter`.
    """
    return open_letter(_unseal(data, send.envelope, keys), Route.of_send(genesis, send))


def unseal_reply(
    data: bytes, answer: Answer, send: Send, genesis: bytes, keys: Sequence[PrivateKey]
) -> Reply:
    """The reply of an ANSWER of the log to ``send``. Raises as :func:`unseal_letter`."""
    return open_reply(_unseal(data, answer.envelope, keys), Route.of_answer(genesis, answer, send))


def _seal(route: Route, plaintext: bytes, to: Addressee) -> Sealed:
    to.check()
    box = bytes(SealedBox(BoxPublicKey(to.key.public_key)).encrypt(plaintext))
    data = Envelope(to.key.agency, to.key.number, box).encode()
    return Sealed(data, digest_of(data), route.commitment)


def _unseal(data: bytes, digest: bytes, keys: Sequence[PrivateKey]) -> bytes:
    envelope = Envelope.decode(data)
    check_digest(data, digest)
    for key in keys:
        if key.public.algorithm is not Algorithm.X25519:
            continue
        try:
            return bytes(SealedBox(BoxKey(key.secret)).decrypt(envelope.ciphertext))
        except CryptoError:
            continue
    raise EnvelopeWrongKey(
        f"none of the keys here opens it; it says that it was sealed to key {envelope.key_number}"
        f" of agency {envelope.recipient}",
        where="envelope",
        fix="give the file of that key, old ones too; if you did, ask the sender to seal it again",
    )
