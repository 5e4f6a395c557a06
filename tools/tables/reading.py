"""Tables that an agency hands over, read row by row: CSV strictly, .xlsx in tools/tables/sheets.py.

What is wrong with the table as a whole (its encoding, delimiter, header) is a TableProblem; what is wrong
with one row comes out as that row with a fault, and the others go on. Rows are numbered as a spreadsheet
shows them, the header being row 1. Nothing is guessed: a table that can be read two ways is refused.
"""

from __future__ import annotations

import csv
import io
from codecs import BOM_UTF8
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tools.errors import FileProblem, TableProblem
from tools.files import open_file, reason

MAX_ROWS: Final = 2_000_000
MAX_COLUMNS: Final = 256
MAX_CELL: Final = 16_384
"""Most bytes of a cell: what a field's value may have."""

_MAX_LINE: Final = 1 << 20
_SNIFFED: Final = 1 << 16
_DELIMITERS: Final = {",": "commas", ";": "semicolons", "\t": "tabs"}


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a row cannot be issued. ``column`` is empty when it is the row as a whole."""

    column: str
    reason: str


@dataclass(frozen=True, slots=True)
class Row:
    """A row as it was read: its number, and a text for each column of the header."""

    number: int
    cells: list[str]
    fault: Fault | None = None


def read_csv(path: Path, known: frozenset[str]) -> Iterator[Row | list[str]]:
    """The header, then the rows of a CSV file. Raises TableProblem, FileProblem.

    ``known``: names that columns may have, which settle what the delimiter is if two are possible. UTF-8,
    with or without byte order mark; commas, semicolons or tabs.
    """
    try:
        with open_file(path) as raw:
            head = raw.read(_SNIFFED)
            _check_encoding(path, head)
            raw.seek(len(BOM_UTF8) if head.startswith(BOM_UTF8) else 0)
            yield from _records(path, raw, _delimiter(path, head, known))
    except OSError as error:
        raise FileProblem(f"cannot be read: {reason(error)}", where=str(path)) from None


def _records(path: Path, raw: io.BufferedReader, delimiter: str) -> Iterator[Row | list[str]]:
    reader = csv.reader(_lines(raw), delimiter=delimiter, strict=True)
    number = 0
    header: list[str] = []
    while True:
        number += 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise TableProblem(
                f"cannot be read as CSV: {error}",
                where=f"{path}, row {number}",
                fix="look for a quotation mark that is not closed, or a cell of megabytes",
            ) from None
        except UnicodeDecodeError:
            raise _not_utf8(path, f"row {number}") from None
        if cells is None:
            break
        if number == 1:
            header = check_header(path, cells)
            yield header
        elif number > MAX_ROWS:
            raise too_long(path)
        elif not cells:
            continue
        elif len(cells) != len(header):
            what = f"has {len(cells)} cells, the header has {len(header)}"
            yield Row(number, cells, Fault("", what))
        else:
            yield Row(number, cells)
    if not header:
        raise TableProblem("is empty", where=str(path), fix="put the names of the fields into its first row")


def _lines(raw: io.BufferedReader) -> Iterator[str]:
    """Lines of at most a megabyte, so that a file without any does not fill the memory."""
    readline = raw.readline
    while line := readline(_MAX_LINE):
        if len(line) == _MAX_LINE:
            raise csv.Error(f"a line of more than {_MAX_LINE} bytes")
        yield line.decode()


def check_header(path: Path, cells: list[str]) -> list[str]:
    """The names of the columns. Raises TableProblem for names that are missing or there twice."""
    names = [cell.strip() for cell in cells]
    if not any(names):
        raise TableProblem(
            "has no header", where=str(path), fix="put the names of the fields into its first row"
        )
    if len(names) > MAX_COLUMNS:
        raise TableProblem(f"has {len(names)} columns, at most {MAX_COLUMNS}", where=str(path))
    for position, name in enumerate(names, 1):
        if not name:
            raise TableProblem(
                "has no name", where=f"{path}, column {position}", fix="name it, or remove the column"
            )
        if names.count(name) > 1:
            raise TableProblem(
                "two columns bear this name", where=f"{path}, column {name}", fix="remove or rename one"
            )
    return names


def too_long(path: Path) -> TableProblem:
    return TableProblem(f"has more than {MAX_ROWS} rows", where=str(path), fix="split it")


def _check_encoding(path: Path, head: bytes) -> None:
    """Name the encodings that spreadsheets of the region write by habit. Raises TableProblem."""
    if head[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\x00" in head[:2]:
        raise TableProblem("is in UTF-16, not UTF-8", where=str(path), fix='save it again as "CSV UTF-8"')
    if head[:4] == b"PK\x03\x04":
        raise TableProblem("is a spreadsheet file, not CSV", where=str(path), fix="give it with --xlsx")
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3 or len(head) < _SNIFFED:
            raise _not_utf8(path, f"byte {error.start}", head) from None


def _not_utf8(path: Path, place: str, head: bytes = b"") -> TableProblem:
    text = head.decode("windows-1256", "replace")
    arabic = sum("\u0621" <= one <= "\u06d5" for one in text)
    what = "looks like Windows-1256" if arabic > 2 else "is not UTF-8"
    return TableProblem(
        f"{what}: only UTF-8 is read, for letters would be lost",
        where=f"{path}, {place}",
        fix='save it again as "CSV UTF-8", or run iconv -f WINDOWS-1256 -t UTF-8',
    )


def _delimiter(path: Path, head: bytes, known: frozenset[str]) -> str:
    """What separates the cells of the first row. Raises TableProblem when that is not certain."""
    text = head.decode("utf-8", "ignore").removeprefix("\ufeff")
    found: dict[str, list[str]] = {}
    for delimiter in _DELIMITERS:
        try:
            cells = next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True), [])
        except csv.Error:
            continue
        found[delimiter] = [cell.strip() for cell in cells]
    several = [one for one, cells in found.items() if len(cells) > 1]
    if not several:
        return ","
    certain = [one for one in several if known.issuperset(found[one])] if len(several) > 1 else several
    if len(certain) != 1:
        names = " and ".join(_DELIMITERS[one] for one in several)
        raise TableProblem(
            f"its first row has {names}: which of them separates the columns is not certain",
            where=str(path),
            fix="use one of them only, and none in the names of the columns",
        )
    return certain[0]
