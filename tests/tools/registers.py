"""Registers for tests: in a temporary directory, under an open key, with documents in them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ledger.documents import Document, Field
from ledger.records import Basis
from tools.agency.directory import AgencyDirectory
from tools.register.documents import NO_SEED, NewDocument, text_of
from tools.register.store import Register
from tools.ui import Passphrase

GENESIS = bytes(range(32))


def open_register(path: Path) -> Register:
    """The register of an agency's directory, made when it is new."""
    return Register.open(AgencyDirectory.create(path), Passphrase(None))


def new_document(text: str, external: str = "", row: int | None = None) -> NewDocument:
    """A document with a name, as an import has it."""
    fields = Document.build(1, 0, [Field.text("name", text)]).fields
    return NewDocument(row, external, NO_SEED, None, [one.slot() for one in fields], text_of(fields))


def add(register: Register, documents: Sequence[NewDocument]) -> int:
    """Keep documents under a work of their own; the number of the first."""
    with register.transaction():
        work = register.run("INSERT INTO works (kind, made_ms, closed, sealed) VALUES ('import', 1, 1, x'')")
        return register.documents.add(work, 0, Basis.ARCHIVE, documents)
