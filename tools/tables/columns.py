"""Which column is which field, and whether a row is a document that may be issued."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from ledger.changes import FieldDefinition
from ledger.document_form import check_expiry
from ledger.documents import MAX_FIELDS, TYPE_FIELD, Field, check_text
from ledger.errors import DocumentFormatError
from ledger.registry_records import TypeRecord
from tools.agency.issuing import MIXED_DIGITS, digest_file, file_name, mixes_digits
from tools.errors import FileProblem, TableProblem
from tools.register.documents import MAX_EXTERNAL
from tools.tables.portions import Entry
from tools.tables.reading import MAX_CELL, Fault, Row

_FOREIGN_DIGITS: Final = re.compile("[٠-٩۰-۹]")


@dataclass(frozen=True, slots=True)
class Columns:
    """What each column of a table is. ``fields``: (name, column or None where the table has none).

    ``document_type`` 0 has no definition: then every other column is a field of its own name.
    """

    header: Sequence[str]
    document_type: int
    definition: TypeRecord | None
    fields: tuple[tuple[str, int | None], ...]
    id_column: int | None
    file_column: int | None

    def mapping(self) -> list[tuple[str, str]]:
        """(field, column) for people; the column is empty where the table has none."""
        return [(name, "" if at is None else self.header[at]) for name, at in self.fields]

    def label(self, name: str) -> str:
        """A field as people know it, in all its languages."""
        if self.definition is None:
            return name
        labels = next(one.labels for one in self.definition.fields if one.name == name)
        return " · ".join(dict.fromkeys(labels.values())) or name


def column_names(
    definition: TypeRecord | None, id_column: str | None, file_column: str | None
) -> frozenset[str]:
    """All names that a column may have."""
    names = {one for one in (id_column, file_column) if one is not None}
    for field in definition.fields if definition is not None else ():
        names |= {field.name, *field.labels.values()}
    return frozenset(names)


def map_columns(
    path: Path,
    header: Sequence[str],
    definition: TypeRecord | None,
    id_column: str | None,
    file_column: str | None,
) -> Columns:
    """Find the columns by the fields' names, or by their labels in any language.

    Raises TableProblem for a column that is no field, a field that two columns are, or a required field
    that none is.
    """
    special = {}
    for option, name in (("--id-column", id_column), ("--file-column", file_column)):
        if name is not None and name not in header:
            raise TableProblem(f"has no column {name}, which {option} names", where=str(path))
        special[option] = None if name is None else list(header).index(name)
    left = [at for at in range(len(header)) if at not in special.values()]
    if definition is None:
        if any(header[at] == TYPE_FIELD for at in left):
            raise TableProblem(f"no field may be named {TYPE_FIELD}", where=f"{path}, column {TYPE_FIELD}")
        fields: list[tuple[str, int | None]] = [(header[at], at) for at in left]
    else:
        found: dict[str, int] = {}
        for at in left:
            field = _field_of(path, header[at], definition.fields)
            if field.name in found:
                raise TableProblem(
                    f"is the field {field.name}, and so is the column {header[found[field.name]]}",
                    where=f"{path}, column {header[at]}",
                    fix="keep one of them",
                )
            found[field.name] = at
        for field in definition.fields:
            if field.required and field.name not in found:
                raise TableProblem(
                    f"has no column for the field {field.name}, which type {definition.number} requires",
                    where=str(path),
                    fix=f"add a column named {field.name}",
                )
        fields = [(field.name, found.get(field.name)) for field in definition.fields]
    if len(fields) + 2 > MAX_FIELDS:
        raise TableProblem(f"has {len(fields)} fields, too many for a document", where=str(path))
    number = 0 if definition is None else definition.number
    columns = Columns(
        header, number, definition, tuple(fields), special["--id-column"], special["--file-column"]
    )
    for name, _ in fields:
        try:
            Field.text(name, "").check()
        except DocumentFormatError as error:
            raise TableProblem(str(error), where=f"{path}, column {name}") from None
    return columns


def _field_of(path: Path, name: str, fields: Sequence[FieldDefinition]) -> FieldDefinition:
    for one in fields:
        if one.name == name:
            return one
    labelled = [one for one in fields if name in one.labels.values()]
    if len(labelled) == 1:
        return labelled[0]
    if labelled:
        names = ", ".join(one.name for one in labelled)
        what = f"is the label of several fields: {names}"
    else:
        what = f"is no field of the type; its fields are: {', '.join(one.name for one in fields) or 'none'}"
    raise TableProblem(
        what, where=f"{path}, column {name}", fix="name the column as the field is named, or take it out"
    )


class RowJudge:
    """Turns rows into entries, or says why not. ``normalize``: bring values into NFC first.

    ``directory``: where relative names in the file column begin. About 10 µs a row without files.
    """

    def __init__(self, columns: Columns, directory: Path, *, normalize: bool) -> None:
        self._columns = columns
        self._directory = directory
        self._normalize = normalize
        self._type = Field.text(TYPE_FIELD, str(columns.document_type)).slot()
        self._fields = [(Field.text(name, "").slot(), at) for name, at in columns.fields]
        definition = columns.definition
        wanted = () if definition is None else definition.fields
        found = dict(columns.fields)
        self._required = [at for one in wanted if one.required and (at := found[one.name]) is not None]
        self._expiry = [at for one in wanted if one.expiry and (at := found[one.name]) is not None]

    def judge(self, row: Row) -> Entry | Fault:
        if row.fault is not None:
            return row.fault
        cells = row.cells
        joined = " ".join(cells)
        if not joined.isascii() and not unicodedata.is_normalized("NFC", joined) and self._normalize:
            cells = [unicodedata.normalize("NFC", cell) for cell in cells]
            joined = " ".join(cells)
        if _suspicious(joined):
            fault = self._closer(cells)
            if fault is not None:
                return fault
        header = self._columns.header
        for at in self._required:
            if not cells[at].strip():
                return Fault(header[at], "is empty, and the type requires it")
        for at in self._expiry:
            wrong = _no_day(cells[at])
            if wrong:
                return Fault(header[at], wrong)
        external = ""
        if self._columns.id_column is not None:
            external = cells[self._columns.id_column]
            if not 1 <= len(external.encode()) <= MAX_EXTERNAL:
                return Fault(header[self._columns.id_column], f"an id has 1 to {MAX_EXTERNAL} bytes")
        values = ["" if at is None else cells[at] for _, at in self._fields]
        slots = [self._type]
        slots += [head + value.encode() for (head, _), value in zip(self._fields, values, strict=True)]
        if self._columns.file_column is not None:
            file = self._file(cells[self._columns.file_column])
            if isinstance(file, Fault):
                return file
            slots.append(file.slot())
        return Entry(row.number, external, slots, " ".join(values))

    def _closer(self, cells: Sequence[str]) -> Fault | None:
        """Cell by cell: what is wrong, and where."""
        for name, cell in zip(self._columns.header, cells, strict=True):
            size = len(cell.encode("utf-8", "surrogatepass"))
            if size > MAX_CELL:
                return Fault(name, f"holds {size} bytes, at most {MAX_CELL} are allowed")
            try:
                check_text("", cell)
            except DocumentFormatError as error:
                return Fault(name, error.what)
            if not unicodedata.is_normalized("NFC", cell):
                return Fault(name, "is not in Unicode's composed form (NFC): --normalize brings it there")
            if mixes_digits(cell):
                return Fault(name, MIXED_DIGITS)
        return None

    def _file(self, name: str) -> Field | Fault:
        column = self._columns.header[self._columns.file_column or 0]
        if not name:
            return Fault(column, "names no file")
        path = self._directory / name
        try:
            field = Field.file(file_name(path), digest_file(path))
            field.check()
        except FileProblem as error:
            return Fault(column, str(error))
        except (DocumentFormatError, ValueError) as error:
            return Fault(column, f"cannot name a file: {error}")
        if any(field.name == name for name, _ in self._columns.fields) or field.name == TYPE_FIELD:
            return Fault(column, f"the file bears the name of the field {field.name}")
        return field


def _suspicious(joined: str) -> bool:
    """Whether a row has to be looked at cell by cell; few have."""
    if len(joined) > MAX_CELL // 4:
        return True
    try:
        check_text("", joined)
    except DocumentFormatError:
        return True
    if joined.isascii():
        return False
    return _FOREIGN_DIGITS.search(joined) is not None or not unicodedata.is_normalized("NFC", joined)


@lru_cache(maxsize=4096)
def _no_day(text: str) -> str:
    """Why a text is no day of expiry; empty when it is one, or is empty."""
    if text:
        try:
            check_expiry(text)
        except DocumentFormatError as error:
            return error.what
    return ""
