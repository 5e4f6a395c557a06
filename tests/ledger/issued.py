"""A document issued in a small ledger, with its static resources: where receipt tests start."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256

from ledger.documents import Document, Field
from ledger.receipt_builder import ReceiptBuilder
from ledger.receipts import Receipt
from ledger.records import Basis, Issue, Status
from ledger.rules import apply
from ledger.signing_policy import SigningPolicy
from ledger.trust import Trust, TrustedLedger
from tests.ledger.static import StaticLedger
from tests.ledger.world import ORIGIN, MemoryReader, World, status

SEED = bytes(range(16))
FILE = b"the bytes of a scanned certificate"


@dataclass
class Issued:
    """One agency (two submit keys, one registry key), one type, one document among others."""

    expires: str = ""
    basis: Basis = Basis.ORIGINAL
    policy: SigningPolicy | None = None
    signed_by: tuple[int, ...] = (1,)
    world: World = field(default_factory=World)

    def __post_init__(self) -> None:
        world = self.world
        self.type = world.define_type()
        self.agency = world.enrol(types=(0, self.type), policy=self.policy, submit=2, registry=1)
        self.document = Document.build(
            self.agency,
            self.type,
            [
                Field.text("holder", "ئازاد حسن"),
                Field.text("expires", self.expires),
                Field.file("scan.pdf", sha256(FILE).digest()),
            ],
        )
        commitment = self.document.commitment(world.genesis, SEED)
        leaf = Issue(self.agency, self.type, self.basis, commitment).encode()
        before = [
            Issue(self.agency, 0, Basis.ORIGINAL, sha256(b"%d" % i).digest()).encode() for i in range(5)
        ]
        self.submission = world.submit(self.agency, [*before, leaf, *_more()], keys=self.signed_by)
        self.index = self.submission + 1 + len(before)

    def set_status(self, to: Status, previous: int | None = None) -> int:
        """Log a STATUS of the document; returns its index."""
        last = self.index if previous is None else previous
        return 1 + self.world.submit(self.agency, [status(self.agency, self.index, last, to)])

    def static(self) -> StaticLedger:
        """The resources of all blocks so far, from a replay of the leaves."""
        served, copy = StaticLedger(ORIGIN, self.world.log), MemoryReader()
        for leaves in self.world.blocks:
            transition = apply(copy.state, copy, leaves)
            copy.apply(transition)
            served.add(transition)
        return served

    def trusted(self, witness_policy: str = "") -> TrustedLedger:
        return TrustedLedger.founded(self.world.genesis, ORIGIN, self.world.log_keys, witness_policy)

    def trust(self) -> Trust:
        return Trust((self.trusted(),))

    def receipt(self, hidden: frozenset[str] = frozenset()) -> Receipt:
        static = self.static()
        builder = ReceiptBuilder(static, self.trusted(), static.checkpoint)
        return builder.build(self.document.disclose(SEED, hidden), self.index)


def _more() -> list[bytes]:
    return [Issue(1, 0, Basis.ORIGINAL, sha256(b"after %d" % i).digest()).encode() for i in range(3)]
