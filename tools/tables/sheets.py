"""Reading .xlsx files: one sheet of values, row by row, with nothing in it that is not what it seems.

The file is a zip of XML, made by anybody: what it would unpack to is summed up from its directory before
it is opened, and entities are refused (defusedxml). A formula is not a value; a number that is shown
otherwise than it is kept is not what the clerk read. Both are refused, never guessed.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import closing
from datetime import date, datetime, time
from itertools import islice
from pathlib import Path
from typing import Any, Final

import openpyxl
from openpyxl.utils import get_column_letter
from openpyxl.xml import DEFUSEDXML

from ledger.errors import SudurError
from tools.errors import FileProblem, TableProblem
from tools.files import open_file, reason
from tools.tables.reading import MAX_COLUMNS, MAX_ROWS, Fault, Row, check_header, too_long

MAX_UNPACKED: Final = 1 << 30
MAX_STRINGS: Final = 256 << 20
"""Most bytes of the table of texts, which is read into memory."""

_MAX_RATIO: Final = 200
_SMALL: Final = 1 << 20
_MAX_FILES: Final = 10_000
_PLAIN_FORMATS: Final = ("General", "0", "@", "")
_GREATEST: Final = 10**15
"""Spreadsheets keep 15 digits of a number."""

assert DEFUSEDXML, "openpyxl must use defusedxml"


def read_xlsx(path: Path) -> Iterator[Row | list[str]]:
    """The header, then the rows of the only sheet. Raises TableProblem, FileProblem."""
    try:
        with open_file(path) as file:
            _check_zip(path, file)
            with closing(openpyxl.load_workbook(file, read_only=True, data_only=False)) as book:
                if len(book.worksheets) != 1:
                    raise TableProblem(
                        f"has {len(book.worksheets)} sheets",
                        where=str(path),
                        fix="keep the one that is meant",
                    )
                sheet: Any = book.worksheets[0]
                sheet.reset_dimensions()  # what the file says of its size need not be so
                yield from _rows(path, sheet)
    except OSError as error:
        raise FileProblem(f"cannot be read: {reason(error)}", where=str(path)) from None
    except SudurError:
        raise
    except Exception as error:
        # openpyxl raises whatever its parsers do; all of it means the same here.
        raise TableProblem(
            f"is no sound .xlsx file: {type(error).__name__}: {str(error)[:120]}",
            where=str(path),
            fix="save it again as .xlsx, or as CSV UTF-8",
        ) from None


def _check_zip(path: Path, file: Any) -> None:
    """What it would unpack to, from the directory alone. Raises TableProblem."""
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise TableProblem(f"is no .xlsx file: {error}", where=str(path)) from None
    total = sum(one.file_size for one in entries)
    dense = [
        one for one in entries if one.file_size > _SMALL and one.file_size > _MAX_RATIO * one.compress_size
    ]
    strings = sum(one.file_size for one in entries if "sharedstrings" in one.filename.lower())
    if len(entries) > _MAX_FILES or total > MAX_UNPACKED or dense or strings > MAX_STRINGS:
        raise TableProblem(
            f"would unpack to {total} bytes in {len(entries)} files: a zip bomb, or too large",
            where=str(path),
            fix="save it as CSV UTF-8",
        )
    file.seek(0)


def _rows(path: Path, sheet: Any) -> Iterator[Row | list[str]]:
    header: list[str] = []
    for number, cells in enumerate(sheet.iter_rows(), 1):
        if number > MAX_ROWS:
            raise too_long(path)
        if not header:
            texts = [
                _text(path, number, at, cell)[0] for at, cell in enumerate(islice(cells, MAX_COLUMNS + 1))
            ]
            while texts and not texts[-1].strip():
                texts.pop()
            header = check_header(path, texts)
            yield header
            continue
        texts, fault = [], None
        for at, cell in enumerate(cells):
            text, wrong = _text(path, number, at, cell)
            if at < len(header):
                texts.append(text)
                fault = fault or (Fault(header[at], wrong) if wrong else None)
            elif text:
                fault = fault or Fault(
                    "", f"has a cell in column {get_column_letter(at + 1)}, past the header"
                )
        texts += [""] * (len(header) - len(texts))
        if any(texts) or fault:
            yield Row(number, texts, fault)
    if not header:
        raise TableProblem("is empty", where=str(path), fix="put the names of the fields into its first row")


def _text(path: Path, row: int, at: int, cell: Any) -> tuple[str, str]:
    """A cell's text, and what is wrong with it. Raises TableProblem for a formula."""
    value = cell.value
    if value is None:
        return "", ""
    if cell.data_type == "f":
        raise TableProblem(
            "holds a formula, not a value",
            where=f"{path}, cell {get_column_letter(at + 1)}{row}",
            fix="copy the sheet and paste it as values",
        )
    if cell.data_type == "e":
        return str(value), f"holds the spreadsheet's error {value}"
    if isinstance(value, str):
        return value, ""
    if isinstance(value, bool):
        return str(value).upper(), "holds TRUE or FALSE: write a word"
    if isinstance(value, datetime):
        whole = value.time() == time()
        return (
            value.date().isoformat() if whole else value.isoformat(" "),
            "" if whole else "holds a time of day: write it as text",
        )
    if isinstance(value, date):
        return value.isoformat(), ""
    if isinstance(value, int | float) and value == int(value) and abs(value) < _GREATEST:
        if cell.number_format in _PLAIN_FORMATS:
            return str(int(value)), ""
        return str(int(value)), f"holds {int(value)} and shows it as {cell.number_format}: make it text"
    return str(value), "holds a number with a fraction, or of more than 15 digits: make it text"
