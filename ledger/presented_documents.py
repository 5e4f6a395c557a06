"""From a document to its leaf: what a portable proof carries so that its bearer can go that way.

The leaf of a document is an ISSUE, made of the issuer, the type, the basis and a commitment to the fields,
so a verifier needs either the leaf or what it is made of. Nobody has to believe either: the leaf's hash is
what the proof shows. A leaf says nothing of the contents; a document that shows its fields is as private as
the paper. Format: docs/format.md, section Portable proofs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ledger.canonical_json import Reader, base64_text, encode, parse
from ledger.documents import Disclosure
from ledger.errors import FormatError, PortableFormatError
from ledger.leaves import leaf_type
from ledger.receipts import MAX_RECEIPT, Receipt, disclosure_from_json, disclosure_to_json
from ledger.records import Basis, Issue

_FORMAT: Final = "sudur-document/v1"
_WHERE: Final = "document"


@dataclass(frozen=True, slots=True)
class PresentedDocument:
    """A document as its holder shows it, with what else its leaf is made of. ``genesis`` is G."""

    genesis: bytes
    basis: Basis
    document: Disclosure

    @classmethod
    def of(cls, receipt: Receipt) -> PresentedDocument:
        """The document in a receipt. Raises LeafFormatError."""
        return cls(receipt.genesis, Issue.decode(receipt.issue.leaf).basis, receipt.document)

    @property
    def leaf(self) -> bytes:
        """The ISSUE that this document was logged with, if it was."""
        document = self.document
        commitment = document.commitment(self.genesis)
        return Issue(document.agency, document.document_type, self.basis, commitment).encode()

    def encode(self) -> bytes:
        return encode(
            {
                "format": _FORMAT,
                "genesis": base64_text(self.genesis),
                "basis": int(self.basis),
                "document": disclosure_to_json(self.document),
            }
        )


@dataclass(frozen=True, slots=True)
class Presented:
    """What stands in ``extra``: the leaf, and the document that it was computed from if that is there."""

    leaf: bytes
    document: PresentedDocument | None


def parse_presented(data: bytes) -> Presented:
    """Read ``extra``: the bytes of a leaf, or a document. Raises PortableFormatError, TooLarge."""
    try:
        if not data.startswith(b"{"):
            leaf_type(data)
            return Presented(data, None)
        reader = Reader(parse(data, limit=MAX_RECEIPT, where=_WHERE), _WHERE)
        if reader.text("format") != _FORMAT:
            raise FormatError(f"is not {_FORMAT}", where=reader.at("format"))
        document = PresentedDocument(
            reader.data("genesis", size=32),
            Basis(reader.number("basis", min(Basis), max(Basis))),
            disclosure_from_json(reader.member("document")),
        )
        reader.done()
        return Presented(document.leaf, document)
    except FormatError as error:
        raise PortableFormatError(error.what, where=error.where or _WHERE, fix=error.fix) from error
