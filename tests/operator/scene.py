"""A document in the operator's ledger, its holder's receipt, and a light client that asks the operator."""

from __future__ import annotations

from ledger.documents import Document, Field
from ledger.errors import SudurError
from ledger.receipt_builder import ReceiptBuilder
from ledger.receipts import Receipt
from ledger.records import Basis, Issue, Status
from ledger.registry_records import KeyRecord
from ledger.resources import Resources
from ledger.submissions import Submission
from ledger.verifier import verify_receipt
from tests.ledger.issued import SEED, Issued
from tests.ledger.world import Keys, signer, status
from tests.operator.cheating import Books
from tests.operator.serving import Answer, served
from tools.http_resources import HttpResources
from tools.receipt_renewal import renewed


class Scene:
    """Agency 1, its document, and the receipt that its holder got. Alike each time that it is made."""

    def __init__(self) -> None:
        self.books = Books()
        self.issued = Issued(world=self.books)
        self.index = self.issued.index
        self.receipt = self.receipt_at(self.issued.document, self.index)

    # --- what the agency and the operator do ---

    def revocation(self) -> Submission:
        """The agency's own, of the document."""
        return self.books.submission(1, [status(1, self.index, self.index, Status.REVOKED)])

    def revoke(self) -> None:
        draft = self.books.begin()
        draft.add_submission(self.revocation())
        self.books.seal(draft)

    def forged(self, keys: Keys, claimed_ms: int | None = None) -> tuple[Document, Submission]:
        """A document that the agency never issued, and a submission of it by these keys."""
        document = Document.build(
            1, self.issued.type, [Field.text("holder", "a forger"), Field.text("expires", "")]
        )
        commitment = document.commitment(self.books.genesis, SEED)
        leaf = Issue(1, self.issued.type, Basis.ORIGINAL, commitment).encode()
        return document, self.books.submission(1, [leaf], keys=keys, claimed_ms=claimed_ms)

    def forge_with_own_key(self) -> tuple[Document, int]:
        """Put the operator's own key into the registry root, and issue with it; (document, its index)."""
        draft = self.books.lawless()
        agency = draft.registry.agency(1)
        own = signer("the operator")
        key = KeyRecord(1, len(agency.keys) + 1, 1, own.public_key, "submit", "", 4, ((0, 1), (0, 2)))
        draft.registry = draft.registry.with_agency(agency.with_key(key))
        self.books.seal_lawless(draft)
        document, submission = self.forged({key.number: own})
        draft = self.books.lawless()
        at = draft.force_submission(submission)
        self.books.seal_lawless(draft)
        return document, at + 1

    # --- what a light client sees ---

    def receipt_at(self, document: Document, index: int, resources: Resources | None = None) -> Receipt:
        static = resources or self.books.static
        builder = ReceiptBuilder(static, self.books.trusted(), static.fetch("checkpoint"))
        return builder.build(document.disclose(SEED, frozenset()), index)

    def look(self, document: Document, index: int) -> str:
        """Of a document at an index: the verdict's word; CANNOT_TELL and why, when no receipt can be made."""
        try:
            receipt = self.receipt_at(document, index)
        except SudurError as error:
            return f"CANNOT_TELL {error.code}"
        return self.verdict(receipt)

    def verdict(
        self, receipt: Receipt | None = None, *, now_ms: int | None = None, max_age_s: int | None = None
    ) -> str:
        """Of a receipt, with no network: the verdict's word."""
        now = self.books.state.time_ms if now_ms is None else now_ms
        shown = receipt or self.receipt
        return verify_receipt(shown, self.books.trust(), now_ms=now, greatest_age_s=max_age_s).code.name

    def ask(
        self,
        answer: Answer | None = None,
        *,
        receipt: Receipt | None = None,
        now_ms: int | None = None,
        max_age_s: int | None = None,
    ) -> str:
        """Of the receipt, renewed from what is served; CANNOT_TELL and why, when that does not fit."""
        with served(answer or self.books.static.files.get) as url, HttpResources(url) as resources:
            try:
                newest = renewed(receipt or self.receipt, self.books.trusted(), resources)
            except SudurError as error:
                return f"CANNOT_TELL {error.code}"
        return self.verdict(newest, now_ms=now_ms, max_age_s=max_age_s)
