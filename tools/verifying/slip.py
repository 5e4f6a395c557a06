"""The slip that goes to the papers, or to the person who brought them: text, for any printer.

It says that something was checked, when, by whom and with what verdict, under a code by which the journal
finds it. It says nothing of the document.
"""

from __future__ import annotations

from ledger.verdicts import HEADLINES
from tools.describe import moment
from tools.ui import printable
from tools.verifying.entries import Entry

_WIDTH = 46
_GROUP = 5


def slip_text(entry: Entry, origin: str | None) -> str:
    """One slip, of lines of at most 46 characters where the words allow it."""
    lines = [
        "=" * _WIDTH,
        "DOCUMENT CHECKED",
        "",
        HEADLINES[entry.verdict],
        "",
        f"on       {moment(entry.time_ms)}",
        f"by       {printable(entry.officer)}",
    ]
    if entry.relied is not None:
        lines.append(f"as of    {moment(entry.relied.as_of_ms)}")
    if origin is not None:
        lines.append(f"ledger   {printable(origin)}")
    lines += [f"entry    {entry.number}", "", *code_lines(entry), "=" * _WIDTH]
    return "\n".join(lines)


def code_lines(entry: Entry) -> list[str]:
    """The code in groups of five digits, which are easy to type."""
    code = entry.code
    groups = [code[at : at + _GROUP] for at in range(0, len(code), _GROUP)]
    return [" ".join(groups[at : at + 4]) for at in range(0, len(groups), 4)]
