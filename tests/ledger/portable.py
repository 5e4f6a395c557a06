"""A ledger with a document in it, a receipt key, and its statement: for tests of portable proofs."""

from __future__ import annotations

from dataclasses import dataclass, field

from ledger.cose_receipts import Inclusion
from ledger.presented_documents import PresentedDocument
from ledger.receipt_keys import KeyStatement, ReceiptKey
from ledger.receipts import Receipt
from ledger.seals import Seal
from ledger.status_tokens import StatusToken
from ledger.tlog_proof import TlogProof
from ledger.trust import TrustedLedger
from tests.ledger.issued import Issued
from tests.ledger.world import signer

KEY = signer("receipts")
URI = "https://ledger.example/status/token/0"


@dataclass
class Portable:
    """A document and everything that says it was logged."""

    issued: Issued = field(default_factory=Issued)

    def __post_init__(self) -> None:
        self.receipt: Receipt = self.issued.receipt()
        self.trusted: TrustedLedger = self.issued.trusted()
        self.checkpoint = self.trusted.open(self.receipt.checkpoint).checkpoint
        self.leaf = self.receipt.issue.leaf

    def statement(self, *keys: str) -> KeyStatement:
        public = [ReceiptKey(signer(name).public_key) for name in keys or ("receipts",)]
        genesis, origin = self.trusted.genesis, self.trusted.origin
        return KeyStatement(genesis, origin, self.checkpoint.size, tuple(public))

    def tlog_proof(self, extra: bytes | None = None) -> TlogProof:
        said = PresentedDocument.of(self.receipt).encode() if extra is None else extra
        issue = self.receipt.issue
        return TlogProof(issue.index, issue.path, self.receipt.checkpoint, said)

    def inclusion(self) -> Inclusion:
        issue, seal = self.receipt.issue, Seal.decode(self.receipt.seal.leaf)
        genesis, origin, size = self.trusted.genesis, self.trusted.origin, self.checkpoint.size
        return Inclusion(genesis, origin, size, issue.index, seal.time_ms // 1_000, issue.path)

    def cose(self) -> bytes:
        return self.inclusion().sign(self.checkpoint.root, KEY)

    def token(self) -> StatusToken:
        genesis, origin, size = self.trusted.genesis, self.trusted.origin, self.checkpoint.size
        chunk = self.receipt.status.chunk
        return StatusToken(URI, genesis, origin, size, 1_800_000_000, 1_800_021_600, 300, chunk)
