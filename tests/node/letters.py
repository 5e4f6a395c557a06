"""Sealed letters for tests of the node, and signed requests about them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import count
from typing import Any

from nacl.public import PrivateKey, SealedBox

from ledger import changes
from ledger.changes import Subject
from ledger.documents import Document, Field
from ledger.envelope_bodies import Letter, letter_plaintext
from ledger.envelopes import Attachment, Envelope, Verb, digest_of, request_message
from ledger.signatures import Algorithm, key_fingerprint
from sudur.v1 import ledger_pb2
from tests.node.served import Served

MINUTE_MS = 60_000
SEED = bytes(range(16))


def envelope_secret(agency: int, number: int) -> PrivateKey:
    """The X25519 key of that number; the same in every run."""
    return PrivateKey(sha256(f"envelope key {number} of agency {agency}".encode()).digest())


async def add_envelope_key(served: Served, agency: int) -> int:
    """Register the agency's next key, for envelopes; returns its number."""
    number = len(served.node.ledger.published.state.registry.agency(agency).keys) + 1
    public = bytes(envelope_secret(agency, number).public_key)
    key = changes.NewKey(number, Algorithm.X25519, public, "envelope", "post")
    await served.change(Subject("agency", agency), changes.KeysAdded((key,)))
    return number


@dataclass
class Post:
    """Seals letters of agency ``sender`` to key ``key`` of agency ``recipient``, each another one."""

    served: Served
    sender: int
    recipient: int
    key: int
    numbers: Any = field(default_factory=count)

    def sealed(self, text: str = "", scan: bytes = b"") -> bytes:
        """An envelope; ``text`` is in a field of the letter, ``scan`` in a file."""
        files = (Attachment("scan", scan),)
        fields = [Field.text("text", text or f"letter {next(self.numbers)}")]
        fields += [Field.file(one.name, one.digest) for one in files]
        letter = Letter(Document.build(self.sender, 0, fields), SEED, files)
        _, plaintext = letter_plaintext(letter, self.served.genesis, self.recipient)
        box = bytes(SealedBox(envelope_secret(self.recipient, self.key).public_key).encrypt(plaintext))
        return Envelope(self.recipient, self.key, box).encode()

    # --- requests ---

    def authorization(
        self,
        verb: Verb,
        agency: int,
        digest: bytes,
        *,
        number: int = 1,
        off_ms: int = 0,
        genesis: bytes | None = None,
    ) -> ledger_pb2.EnvelopeAuthorization:
        """Signed by the agency's key of that number, ``off_ms`` from now."""
        key = self.served.keys[agency][number]
        fingerprint = key_fingerprint(key.algorithm, key.public_key)
        now_ms = time.time_ns() // 1_000_000 + off_ms
        message = request_message(genesis or self.served.genesis, fingerprint, verb, agency, digest, now_ms)
        return ledger_pb2.EnvelopeAuthorization(
            agency=agency, key_number=number, time_ms=now_ms, signature=key.sign(message)
        )

    def put_request(
        self, envelope: bytes, *, agency: int | None = None, **how: Any
    ) -> ledger_pb2.PutEnvelopeRequest:
        asked = self.authorization(Verb.PUT, agency or self.sender, digest_of(envelope), **how)
        return ledger_pb2.PutEnvelopeRequest(
            genesis=self.served.genesis, authorization=asked, envelope=envelope
        )

    async def put(self, envelope: bytes, **how: Any) -> bytes:
        return (await self.served.stub.PutEnvelope(self.put_request(envelope, **how))).digest

    async def get(self, digest: bytes, agency: int | None = None, **how: Any) -> bytes:
        asked = self.authorization(Verb.GET, agency or self.recipient, digest, **how)
        request = ledger_pb2.GetEnvelopeRequest(
            genesis=self.served.genesis, authorization=asked, digest=digest
        )
        return (await self.served.stub.GetEnvelope(request)).envelope

    async def drop(self, digest: bytes, agency: int | None = None, **how: Any) -> bool:
        asked = self.authorization(Verb.DROP, agency or self.recipient, digest, **how)
        request = ledger_pb2.DropEnvelopeRequest(
            genesis=self.served.genesis, authorization=asked, digest=digest
        )
        return (await self.served.stub.DropEnvelope(request)).dropped
