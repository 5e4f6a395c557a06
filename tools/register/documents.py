"""The documents of the register: sealed as they were issued or imported, found by index, id or words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, repeat
from typing import TYPE_CHECKING, Any, Final

from ledger.documents import MAX_FIELDS, SEED_SIZE, Document, Field, FieldKind
from ledger.errors import FormatError
from ledger.records import Basis
from ledger.submissions import pack, unpack
from tools.errors import RegisterProblem
from tools.register.box import Box
from tools.register.search import Search, Tagger

if TYPE_CHECKING:
    from tools.register.store import Register

MAX_EXTERNAL: Final = 255
"""Most bytes of an external id."""

NO_SEED: Final = bytes(SEED_SIZE)
"""The seed of a document that was imported and not logged."""


@dataclass(frozen=True, slots=True)
class NewDocument:
    """A document to be kept. ``slots``: its fields as they are hashed (``Field.slot``), the type first.

    ``seed`` is NO_SEED and ``commitment`` None for one that is not to be logged. ``words``: the text that
    it is to be found by.
    """

    row: int | None
    external: str
    seed: bytes
    commitment: bytes | None
    slots: Sequence[bytes]
    words: str


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A document of the register. ``index``: its place in the log, None while it has none.

    ``external``: the agency's own id of it, empty when it has none. ``row``: of the table it came from.
    """

    number: int
    work: int
    row: int | None
    basis: Basis
    commitment: bytes | None
    external: str
    seed: bytes
    document_type: int
    fields: tuple[Field, ...]
    index: int | None
    refused: bool

    def document(self, agency: int) -> Document:
        return Document(agency, self.document_type, self.fields)

    def values(self) -> dict[str, str]:
        """Its text by field name, without the type; files with their SHA-256 in hex."""
        return {
            field.name: field.value.decode() if field.kind is FieldKind.TEXT else field.value.hex()
            for field in self.fields[1:]
        }


@dataclass(frozen=True, slots=True)
class Made:
    """Documents sealed for the numbers from ``first`` on, column by column, and their search postings."""

    first: int
    rows: list[int | None]
    commitments: list[bytes | None]
    marks: list[bytes | None]
    sealed: list[bytes]
    postings: bytes


class DocumentMaker:
    """Seals documents for the register. It needs the register's keys and not the register."""

    def __init__(self, box: Box) -> None:
        self._box = box
        self._tagger = Tagger(box)

    def make(self, first: int, documents: Sequence[NewDocument]) -> Made:
        """Seal documents for the numbers from ``first`` on. About 20 µs each."""
        mark = self._box.mark
        contents = [one.seed + pack((one.external.encode(), *one.slots)) for one in documents]
        return Made(
            first,
            [one.row for one in documents],
            [one.commitment for one in documents],
            [mark("external", one.external.encode()) if one.external else None for one in documents],
            self._box.seal_run("document", first, contents),
            self._tagger.postings([one.words for one in documents]),
        )


class Documents:
    """The documents of one register."""

    def __init__(self, register: Register) -> None:
        self._register = register
        self.search = Search(register)
        self._maker = DocumentMaker(register.box)

    def add(self, work: int, document_type: int, basis: Basis, documents: Sequence[NewDocument]) -> int:
        """Keep documents of one work, within a transaction of the caller's; the number of the first."""
        first = self.next_number()
        self.put(work, document_type, basis, self._maker.make(first, documents))
        return first

    def put(self, work: int, document_type: int, basis: Basis, made: Made) -> None:
        """Keep documents that were sealed for the next free numbers. About 6 µs each."""
        if made.first != self.next_number():
            raise RegisterProblem("has grown meanwhile", where=str(self._register.path), fix="run it again")
        self._register.run_many(
            "INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            zip(
                count(made.first),
                repeat(work),
                made.rows,
                repeat(document_type),
                repeat(int(basis)),
                made.commitments,
                made.marks,
                made.sealed,
                strict=False,
            ),
        )
        self.search.add(made.first, len(made.rows), made.postings)

    def next_number(self) -> int:
        """The number that the next document gets."""
        found = self._register.row("SELECT coalesce(max(id), 0) + 1 FROM documents")
        assert found is not None
        number: int = found[0]
        return number

    def get(self, number: int) -> StoredDocument:
        """Raises RegisterProblem when there is none, or it does not open."""
        found = next(self._select("d.id = ?", (number,)), None)
        if found is None:
            raise RegisterProblem("is not in the register", where=f"document {number}")
        return found

    def run(self, first: int, number: int) -> Iterator[StoredDocument]:
        """Documents that were added together."""
        return self._select("d.id BETWEEN ? AND ?", (first, first + number - 1))

    def every(self) -> Iterator[StoredDocument]:
        """All documents, in the order in which they came."""
        return self._select("1", ())

    def by_index(self, index: int) -> StoredDocument | None:
        """The document that was logged at an index."""
        found = self._register.row(
            "SELECT first, count, document FROM submissions WHERE first <= ? ORDER BY first DESC LIMIT 1",
            (index,),
        )
        if found is None or found[2] is None or index >= found[0] + found[1]:
            return None
        return self.get(found[2] + index - found[0])

    def by_external(self, external: str) -> StoredDocument | None:
        """The document with this external id, refused ones left out."""
        mark = self._register.box.mark("external", external.encode())
        if not self._register.has("SELECT 1 FROM documents WHERE external = ?", (mark,)):
            return None  # as for most rows of a bulk, which is why it is asked first
        for one in self._select("d.external = ?", (mark,)):
            if one.external == external and not one.refused:
                return one
        return None

    def came_from(self, external: str, work: int, row: int) -> bool:
        """Whether the document of this row of a work's table is here under this id. 5 µs."""
        mark = self._register.box.mark("external", external.encode())
        sql = "SELECT 1 FROM documents WHERE external = ? AND work = ? AND row = ?"
        return self._register.has(sql, (mark, work, row))

    def candidates(
        self, fields: Sequence[Field] | str, limit: int = 10
    ) -> list[tuple[float, StoredDocument]]:
        """The documents that share most with what was read off a paper, the likeliest first.

        Words are compared folded, and rare ones count more; the score is the share of what was asked for
        that was found, 0 to 1. About 0.1 s for each word at a million documents. Raises
        RegisterProblem.
        """
        text = fields if isinstance(fields, str) else text_of(fields)
        return [(match.score, self.get(match.document)) for match in self.search.find(text, limit)]

    def _select(self, where: str, values: Sequence[Any]) -> Iterator[StoredDocument]:
        sql = (
            "SELECT d.id, d.work, d.row, d.type, d.basis, d.commitment, d.sealed, s.first,"
            " s.document, s.state FROM documents d LEFT JOIN submissions s"
            " ON d.commitment IS NOT NULL AND s.id ="
            " (SELECT id FROM submissions WHERE document <= d.id ORDER BY document DESC LIMIT 1)"
            f" WHERE {where} ORDER BY d.id"
        )
        for number, work, row, kind, basis, commitment, sealed, first, start, state in self._register.rows(
            sql, values
        ):
            plain = self._register.box.open("document", number, sealed)
            try:
                external, *slots = unpack(plain[SEED_SIZE:], most=MAX_FIELDS + 1)
                fields = tuple(Field.from_slot(slot) for slot in slots)
            except (FormatError, ValueError) as error:
                raise RegisterProblem(f"is damaged: {error}", where=f"document {number}") from None
            yield StoredDocument(
                number,
                work,
                row,
                Basis(basis),
                commitment,
                external.decode(),
                plain[:SEED_SIZE],
                kind,
                fields,
                None if first is None else first + number - start,
                state == 3,
            )


def text_of(fields: Sequence[Field]) -> str:
    """What a document is found by: its text fields."""
    return "\n".join(field.value.decode() for field in fields if field.kind is FieldKind.TEXT)
