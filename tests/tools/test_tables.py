"""Tables: read one way or not at all; each bad row named and the others let through."""

from __future__ import annotations

import contextlib
import io
import zipfile
from collections.abc import Iterator
from datetime import date, datetime, time
from pathlib import Path
from time import perf_counter
from typing import Any

import openpyxl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.changes import FieldDefinition
from ledger.documents import Field
from ledger.errors import SudurError
from ledger.registry_records import TypeRecord
from tools.errors import FileProblem, TableProblem
from tools.tables.bulk import Sieve
from tools.tables.columns import RowJudge, column_names, map_columns
from tools.tables.portions import Entry
from tools.tables.proof_sheet import ProofSheet
from tools.tables.reading import Fault, Row, read_csv
from tools.tables.rejects import Rejects
from tools.tables.sheets import read_xlsx


def field(name: str, label: str, *, required: bool = False, expiry: bool = False) -> FieldDefinition:
    return FieldDefinition(name, {"en": name.title(), "ar": label}, required, expiry, expiry, False)


BIRTH = TypeRecord(
    1,
    5,
    {"en": "Birth"},
    (
        field("child", "الطفل", required=True),
        field("until", "صالح لغاية", expiry=True),
        field("remark", "ملاحظة"),
    ),
)
MIDNIGHT = datetime.combine(date(2030, 1, 31), time())
HEADER = "child,until,remark\n"


def rows(path: Path, text: str | bytes, known: frozenset[str] = frozenset()) -> list[Any]:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return list(read_csv(path, known))


def judged(path: Path, text: str, *, normalize: bool = False, **columns: str) -> list[Entry | Fault]:
    """What becomes of each row of a table of births."""
    path.write_text(text)
    options = (columns.get("id_column"), columns.get("file_column"))
    found = read_csv(path, column_names(BIRTH, *options))
    header = next(found)
    assert isinstance(header, list)
    judge = RowJudge(map_columns(path, header, BIRTH, *options), path.parent, normalize=normalize)
    return [entry for _, entry in Sieve(judge).sift(found)]


def test_a_table_pasted_twice_costs_twice_as_much(tmp_path: Path) -> None:
    """Each row of the second half repeats one far up; finding which must not search for it."""
    once = "".join(f"child {at},,\n" for at in range(20_000))
    began = perf_counter()
    found = judged(tmp_path / "t.csv", HEADER + once + once)
    assert perf_counter() - began < 6
    repeated = found[20_000:]
    assert [one.reason for one in repeated if isinstance(one, Fault)] == [
        f"says the same as row {at}" for at in range(2, 20_002)
    ]


def values(entry: Entry | Fault) -> list[str]:
    assert isinstance(entry, Entry), entry
    return [Field.from_slot(slot).value.decode() for slot in entry.slots[1:]]


# --- CSV as a whole ----------------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_usual_forms_are_read(tmp_path: Path, delimiter: str, mark: str, end: str) -> None:
    text = end.join(delimiter.join(row) for row in (["a", "b"], ["1", "نور"], ['"x, y; ""z"""', ""]))
    header, *found = rows(tmp_path / "t.csv", mark + text + end + end)
    assert header == ["a", "b"]
    assert [(one.number, one.cells) for one in found] == [(2, ["1", "نور"]), (3, ['x, y; "z"', ""])]


@pytest.mark.parametrize(
    ("data", "parts"),
    [
        (b"", ["is empty"]),
        (b"\n", ["has no header"]),
        ("a,b\n1,ي\n".encode("utf-16"), ["UTF-16", "CSV UTF-8"]),
        ("a,b\n1,ي\n".encode("utf-16-le"), ["UTF-16"]),
        ("الطفل,b\n".encode("windows-1256"), ["Windows-1256", "iconv"]),
        (b"a,b\n" + b"1,2\n" * 20_000 + "نور,محمد\n".encode("windows-1256"), ["row 20002", "UTF-8"]),
        (b"a,b\n\xff\n", ["not UTF-8"]),
        (b"PK\x03\x04", ["--xlsx"]),
        (b"a,b;c\n1,2;3\n", ["commas and semicolons", "not certain"]),
        (b"a,a\n", ["two columns", "column a"]),
        (b"a,,b\n", ["column 2", "no name"]),
        (b'a,b\n1,"2\n', ["row 2", "quotation mark"]),
        (b'a,b\n1,"2"x\n', ["row 2", "CSV"]),
        (b"a,b\n1," + b"x" * 10_000_000 + b"\n", ["row 2", "megabytes"]),
        (b"x" * 3_000_000, ["row 1", "megabytes"]),
        (",".join(f"c{n}" for n in range(300)).encode(), ["300 columns"]),
    ],
)
def test_a_table_that_is_no_table_is_named(tmp_path: Path, data: bytes, parts: list[str]) -> None:
    with pytest.raises(TableProblem) as caught:
        rows(tmp_path / "t.csv", data)
    for part in parts:
        assert part in str(caught.value)


def test_names_settle_the_delimiter(tmp_path: Path) -> None:
    header, row = rows(tmp_path / "t.csv", "a;b,c\n1;2\n", frozenset(["a", "b,c"]))
    assert (header, row.cells) == (["a", "b,c"], ["1", "2"])


def test_a_row_of_another_width_is_a_fault(tmp_path: Path) -> None:
    _, short, good, long = rows(tmp_path / "t.csv", "a,b\n1\n1,2\n1,2,3\n")
    assert short.fault == Fault("", "has 1 cells, the header has 2")
    assert good.fault is None
    assert long.fault == Fault("", "has 3 cells, the header has 2")


def test_too_many_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.tables.reading.MAX_ROWS", 3)
    with pytest.raises(TableProblem, match="more than"):
        rows(tmp_path / "t.csv", "a\n1\n2\n3\n4\n")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for read in (lambda path: read_csv(path, frozenset()), read_xlsx):
        with pytest.raises(FileProblem):
            list(read(tmp_path / "absent"))


@given(st.binary(max_size=300))
def test_any_bytes_give_rows_or_our_errors(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("t") / "t"
    path.write_bytes(data)
    for found in (read_csv(path, frozenset()), read_xlsx(path)):
        with contextlib.suppress(SudurError):
            list(found)


# --- columns -----------------------------------------------------------------------------------


@pytest.mark.parametrize("header", [["child", "until"], ["الطفل", "صالح لغاية"], ["Until", "Child"]])
def test_columns_are_fields_by_name_or_label(tmp_path: Path, header: list[str]) -> None:
    columns = map_columns(tmp_path, header, BIRTH, None, None)
    found = dict(columns.mapping())
    assert sorted(found.values()) == sorted(["", *header])
    assert found["remark"] == ""


@pytest.mark.parametrize(
    ("header", "id_column", "parts"),
    [
        (["until"], None, ["no column for the field child"]),
        (["child", "colour"], None, ["column colour", "its fields are: child, until, remark"]),
        (["child", "Child"], None, ["the field child", "column Child"]),
        (["child"], "id", ["no column id"]),
    ],
)
def test_columns_that_do_not_fit_are_named(
    tmp_path: Path, header: list[str], id_column: str | None, parts: list[str]
) -> None:
    with pytest.raises(TableProblem) as caught:
        map_columns(tmp_path, header, BIRTH, id_column, None)
    for part in parts:
        assert part in str(caught.value)


def test_a_label_of_two_fields_is_no_name(tmp_path: Path) -> None:
    twice = TypeRecord(1, 5, {"en": "x"}, (field("a", "اسم"), field("b", "اسم")))
    with pytest.raises(TableProblem, match="several fields: a, b"):
        map_columns(tmp_path, ["اسم"], twice, None, None)


def test_without_a_type_the_columns_are_the_fields(tmp_path: Path) -> None:
    columns = map_columns(tmp_path, ["b", "id", "a"], None, "id", None)
    assert columns.fields == (("b", 0), ("a", 2))
    with pytest.raises(TableProblem, match="may be named type"):
        map_columns(tmp_path, ["type"], None, None, None)


# --- rows --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "column", "part"),
    [
        (",,", "child", "is empty"),
        ("  ,,", "child", "is empty"),
        ("a,31.12.2030,", "until", "YYYY-MM-DD"),
        ("a,2030-02-30,", "until", "YYYY-MM-DD"),
        ("a\u202eb,,", "child", "U+202E"),
        ('"a\nb",,', "child", "U+000A"),
        ("a,,\x00", "remark", "U+0000"),
        ("e\u0301,,", "child", "--normalize"),
        ("نور,,٠١٢ 012", "remark", "mixes digits"),
        ("نور,,۱۲ ٣٤", "remark", "mixes digits"),
        (f"a,,{'ن' * 8193}", "remark", "16386 bytes"),
        (f"a,,{'x' * 16_385}", "remark", "16385 bytes"),
    ],
)
def test_a_row_that_cannot_be_issued_is_named(tmp_path: Path, row: str, column: str, part: str) -> None:
    bad, good = judged(tmp_path / "t.csv", f"{HEADER}{row}\nنور,2030-01-31,٠١٢\n")
    assert isinstance(bad, Fault)
    assert bad.column == column
    assert part in bad.reason
    assert values(good) == ["نور", "2030-01-31", "٠١٢"]


def test_values_are_brought_into_nfc_when_asked(tmp_path: Path) -> None:
    (entry,) = judged(tmp_path / "t.csv", f"{HEADER}e\u0301,,\n", normalize=True)
    assert values(entry)[0] == "é"


def test_largest_cells_are_kept(tmp_path: Path) -> None:
    (entry,) = judged(tmp_path / "t.csv", f"{HEADER}a,,{'ن' * 8192}\n")
    assert len(values(entry)[2]) == 8192


def test_the_same_content_is_let_through_once(tmp_path: Path) -> None:
    found = judged(tmp_path / "t.csv", f"{HEADER}a,,\nb,,\na,,\na,,x\na,,\n")
    assert [one.reason if isinstance(one, Fault) else one.row for one in found] == [
        2, 3, "says the same as row 2", 5, "says the same as row 2",
    ]  # fmt: skip
    again = judged(tmp_path / "t.csv", "id,child\n1,a\n2,a\n1,a\n,b\n", id_column="id")
    assert [isinstance(one, Fault) for one in again] == [False, False, True, True]
    assert "an id has 1 to 255 bytes" in getattr(again[3], "reason", "")


def test_files_of_a_column_are_read(tmp_path: Path) -> None:
    (tmp_path / "scan.pdf").write_bytes(b"the file")
    (tmp_path / "child").write_bytes(b"x")
    good, absent, none, clash, folder = judged(
        tmp_path / "t.csv", "child,file\na,scan.pdf\nb,absent\nc,\nd,child\ne,.\n", file_column="file"
    )
    assert isinstance(good, Entry)
    assert Field.from_slot(good.slots[-1]).name == "scan.pdf"
    for one, part in (
        (absent, "cannot be read"),
        (none, "no file"),
        (clash, "name of the field"),
        (folder, ""),
    ):
        assert isinstance(one, Fault)
        assert one.column == "file"
        assert part in one.reason


def test_rejected_rows_come_back_as_a_table(tmp_path: Path) -> None:
    path = tmp_path / "t.csv.rejected.csv"
    with Rejects(path, ["a", "b"]) as rejects:
        rejects.add(Row(7, ["=1+1", "نور"]), Fault("b", "is wrong"))
        assert not path.exists()
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")
    assert path.read_text(encoding="utf-8-sig").splitlines()[1] == "7,b,is wrong,=1+1,نور"
    with pytest.raises(ZeroDivisionError), Rejects(path, ["a"]):
        _ = 1 // 0
    assert path.exists()
    with Rejects(path, ["a"]):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_proof_sheet_shows_both_ends_and_some_between(tmp_path: Path) -> None:
    columns = map_columns(tmp_path, ["child"], BIRTH, None, None)
    judge = RowJudge(columns, tmp_path, normalize=False)
    sheet = ProofSheet(columns)
    for number in range(2, 102):
        entry = judge.judge(Row(number, [f"<b>نور {number}"]))
        assert isinstance(entry, Entry)
        sheet.add(entry)
    shown = [one.row for one in sheet.entries()]
    assert (shown[:3], shown[-3:], len(set(shown))) == ([2, 3, 4], [99, 100, 101], 12)
    sheet.write(tmp_path / "proof.html", "births", ["100 of 100 rows"])
    page = (tmp_path / "proof.html").read_text()
    assert "&lt;b&gt;نور 101" in page
    assert "<b>" not in page
    assert "Child · الطفل" in page


# --- .xlsx -------------------------------------------------------------------------------------


def workbook(path: Path, cells: list[list[Any]], formats: dict[str, str] | None = None) -> Path:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    for row in cells:
        sheet.append(row)
    for place, text in (formats or {}).items():
        sheet[place].number_format = text
    book.save(path)
    return path


def test_a_spreadsheet_is_read_as_it_reads(tmp_path: Path) -> None:
    path = workbook(
        tmp_path / "t.xlsx",
        [
            ["child", "until", "n", None],
            ["نور", date(2030, 1, 31), 12, None],
            [],
            ["سارا", MIDNIGHT, 12.0],
            ["٠١٢", None, "007"],
        ],
    )
    header, *found = read_xlsx(path)
    assert header == ["child", "until", "n"]
    assert [(one.number, one.cells, one.fault) for one in found if isinstance(one, Row)] == [
        (2, ["نور", "2030-01-31", "12"], None),
        (4, ["سارا", "2030-01-31", "12"], None),
        (5, ["٠١٢", "", "007"], None),
    ]


@pytest.mark.parametrize(
    ("value", "form", "part"),
    [
        (1.5, "General", "fraction"),
        (10**16, "General", "15 digits"),
        (123, "00000", "shows it as 00000"),
        (0.25, "0%", "fraction"),
        (True, "General", "TRUE or FALSE"),
        (MIDNIGHT.replace(hour=8), "yyyy-mm-dd", "time of day"),
        (time(8, 30), "hh:mm", "fraction"),
        ("#N/A", "General", "error #N/A"),
    ],
)
def test_a_cell_that_is_not_what_it_seems_is_a_fault(
    tmp_path: Path, value: Any, form: str, part: str
) -> None:
    path = workbook(tmp_path / "t.xlsx", [["child", "n"], ["a", value]], {"B2": form})
    _, row = read_xlsx(path)
    assert isinstance(row, Row)
    assert row.fault is not None
    assert row.fault.column == "n"
    assert part in row.fault.reason


def test_a_cell_past_the_header_is_a_fault(tmp_path: Path) -> None:
    _, row = read_xlsx(workbook(tmp_path / "t.xlsx", [["child"], ["a", None, "b"]]))
    assert isinstance(row, Row)
    assert row.fault == Fault("", "has a cell in column C, past the header")


def test_a_formula_is_named_with_its_cell(tmp_path: Path) -> None:
    path = workbook(tmp_path / "t.xlsx", [["child", "n"], ["a", 1], ["b", "=1+1"]])
    with pytest.raises(TableProblem, match=r"cell B3: holds a formula.*paste it as values"):
        list(read_xlsx(path))


def test_two_sheets_are_not_guessed_at(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.create_sheet("other")
    book.save(tmp_path / "t.xlsx")
    with pytest.raises(TableProblem, match="has 2 sheets"):
        list(read_xlsx(tmp_path / "t.xlsx"))


def changed(path: Path, name: str, data: bytes) -> Path:
    """A workbook with one of its files put in place of another."""
    old = io.BytesIO(path.read_bytes())
    with zipfile.ZipFile(old) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for one in source.infolist():
            target.writestr(one.filename, data if one.filename == name else source.read(one))
        if name not in source.namelist():
            target.writestr(name, data)
    return path


SHEET = "xl/worksheets/sheet1.xml"
BILLION = (
    b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">'
    + b"".join(b'<!ENTITY %c "%s">' % (98 + n, b"&%c;" % (97 + n) * 10) for n in range(8))
    + b"]>"
)


@pytest.mark.parametrize(
    ("name", "data", "part"),
    [
        ("bomb.bin", bytes(100 << 20), "zip bomb"),
        (
            SHEET,
            BILLION + b"<worksheet><sheetData><row><c><v>&i;</v></c></row></sheetData></worksheet>",
            "sound",
        ),
        (SHEET, b"<worksheet>", "sound|empty"),
        ("xl/workbook.xml", b"<nothing/>", "0 sheets"),
        ("[Content_Types].xml", b"", "sound"),
    ],
)
def test_a_hostile_spreadsheet_is_named(tmp_path: Path, name: str, data: bytes, part: str) -> None:
    path = changed(workbook(tmp_path / "t.xlsx", [["child"], ["a"]]), name, data)
    with pytest.raises(TableProblem, match=part):
        list(read_xlsx(path))


def test_too_many_files_or_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = workbook(tmp_path / "t.xlsx", [["child"], ["a"]])
    changed(path, "xl/sharedStrings.xml", b"<sst/>")
    for name in ("_MAX_FILES", "MAX_STRINGS", "MAX_UNPACKED"):
        with monkeypatch.context() as patch:
            patch.setattr(f"tools.tables.sheets.{name}", 1)
            with pytest.raises(TableProblem, match="would unpack to"):
                list(read_xlsx(path))


def test_a_sheet_that_lies_about_its_size(tmp_path: Path) -> None:
    path = workbook(tmp_path / "t.xlsx", [["child"], ["a"]])
    with zipfile.ZipFile(path) as archive:
        sheet = archive.read(SHEET)
    assert b'ref="A1:A2"' in sheet
    changed(path, SHEET, sheet.replace(b'ref="A1:A2"', b'ref="A1:XFD1048576"'))
    assert len(list(read_xlsx(path))) == 2


def test_reading_stops_when_nobody_reads(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a\n" + "1\n" * 1000)
    found: Iterator[Any] = read_csv(path, frozenset())
    next(found)
    found.close()  # type: ignore[attr-defined]
