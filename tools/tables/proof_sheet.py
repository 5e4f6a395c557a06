"""A proof sheet: rows of a table as they will be issued, to be printed, read and signed off."""

from __future__ import annotations

import random
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Final

from ledger.documents import Field, FieldKind
from tools.files import write_file
from tools.tables.columns import Columns
from tools.tables.portions import Entry
from tools.ui import printable

ENDING: Final = ".proof.html"
_ENDS: Final = 3
_CHOSEN: Final = 6

_PAGE: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 11pt/1.4 sans-serif; margin: 2em; }}
h1 {{ font-size: 14pt; }}
table {{ border-collapse: collapse; margin: 0 0 1.5em; page-break-inside: avoid; width: 100%; }}
caption {{ text-align: start; font-weight: bold; padding: .3em 0; }}
td, th {{ border: 1px solid #999; padding: .2em .5em; text-align: start; vertical-align: top; }}
th {{ width: 35%; font-weight: normal; background: #f2f2f2; }}
</style>
<h1>{title}</h1>
<p>{facts}</p>
{tables}
<p>Checked against the source by: ____________________ &emsp; Day: ______________</p>
</html>
"""


class ProofSheet:
    """Gathers the first rows, the last, and some between that chance names (reservoir sampling)."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self._first: list[Entry] = []
        self._last: list[Entry] = []
        self._chosen: list[Entry] = []
        self._between = 0
        self._random = random.SystemRandom()

    def add(self, entry: Entry) -> None:
        if len(self._first) < _ENDS:
            self._first.append(entry)
            return
        self._last.append(entry)
        if len(self._last) <= _ENDS:
            return
        entry = self._last.pop(0)
        self._between += 1
        if len(self._chosen) < _CHOSEN:
            self._chosen.append(entry)
        elif (at := self._random.randrange(self._between)) < _CHOSEN:
            self._chosen[at] = entry

    def entries(self) -> list[Entry]:
        """The rows that are shown, in their order."""
        return sorted([*self._first, *self._chosen, *self._last], key=lambda one: one.row)

    def write(self, path: Path, title: str, facts: Sequence[str]) -> None:
        """Write the page, for its owner alone. Raises FileProblem."""
        page = _PAGE.format(
            title=escape(printable(title)),
            facts="<br>\n".join(escape(printable(fact)) for fact in facts),
            tables="\n".join(self._table(entry) for entry in self.entries()),
        )
        write_file(path, page.encode())

    def _table(self, entry: Entry) -> str:
        lines = []
        for slot in entry.slots[1:]:
            field = Field.from_slot(slot)
            if field.kind is FieldKind.FILE:
                name, value = f"file {field.name}", f"SHA-256 {field.value.hex()}"
            else:
                name, value = self._columns.label(field.name), field.value.decode()
            lines.append(f'<tr><th>{escape(name)}</th><td dir="auto">{escape(printable(value))}</td></tr>')
        about = f" · id {entry.external}" if entry.external else ""
        caption = escape(printable(f"Row {entry.row}{about}"))
        return f"<table><caption>{caption}</caption>\n" + "\n".join(lines) + "\n</table>"
