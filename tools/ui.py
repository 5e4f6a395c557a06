"""What the commands say and ask: results on stdout, progress and remarks on stderr, passphrases."""

from __future__ import annotations

import getpass
import json
import os
import sys
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from ledger.canonical_json import Json
from tools.errors import FileProblem, WrongPassphrase
from tools.files import read_file

PASSPHRASE_VARIABLE: Final = "SUDUR_PASSPHRASE"
_MAX_PASSPHRASE: Final = 4096
_UNSEEN: Final = ("Cc", "Cf", "Cs", "Zl", "Zp")


def say(text: str = "") -> None:
    """A line of the result."""
    typer.echo(text)


def remark(text: str) -> None:
    """A line for the person at the terminal, on stderr, that no script reads."""
    typer.echo(text, err=True)


def emit_json(value: Json) -> None:
    """The result for a script: one JSON document with readable letters."""
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2))


def show_table(table: Table) -> None:
    """A table of the result, as wide as it is: a terminal may wrap it, a file must not."""
    Console(width=max(200, Console().width), highlight=False).print(table)


def printable(text: str) -> str:
    """Text from outside, made safe for a terminal: no controls, nothing that steers the direction.

    The joiners stay (U+200C, U+200D): Kurdish and Persian are not written without them.
    """
    return "".join(_escaped(one) if unicodedata.category(one) in _UNSEEN else one for one in text)


def quoted(text: str) -> str:
    """The same between quotation marks, of which the text can hold none of its own unescaped."""
    return '"' + printable(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def _escaped(one: str) -> str:
    if one in "\u200c\u200d":
        return one
    return f"\\u{ord(one):04x}" if ord(one) < 0x10000 else f"\\U{ord(one):08x}"


@contextmanager
def progress(description: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show how far a long work is, when somebody watches; yields a function that says "so many more".

    ``total``: how many there are in all, None when that is not known beforehand.
    """
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(description, total=total)
        yield lambda more: shown.update(task, advance=more)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:,.0f}/s")


@dataclass(frozen=True, slots=True)
class Stretch:
    """A work whose end is known once it has begun. ``toward``: where it ends; ``moved``: so many more."""

    toward: Callable[[int], None]
    moved: Callable[[int], None]


@contextmanager
def stretch(description: str, done: int) -> Iterator[Stretch]:
    """Show how far a long work is, how fast and how much longer, when somebody watches."""
    if not sys.stderr.isatty():
        yield Stretch(lambda _: None, lambda _: None)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True, speed_estimate_period=10) as shown:
        task = shown.add_task(description, total=None, completed=done)
        yield Stretch(
            lambda total: shown.update(task, total=total),
            lambda more: shown.update(task, advance=more),
        )


class Passphrase:
    """Where passphrases come from: a file, else the environment, else the person at the terminal.

    It is asked for once and used for all keys of a command.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._known: str | None = None

    def given(self) -> str | None:
        """The passphrase without asking anybody; None when there is none. Raises FileProblem."""
        if self._file is not None:
            data = read_file(self._file, _MAX_PASSPHRASE, pipe_okay=True)
            try:
                text = data.decode("utf-8")
            except UnicodeDecodeError:
                raise FileProblem("is not UTF-8 text", where=str(self._file)) from None
            text = text.removesuffix("\n").removesuffix("\r")
            if not text:
                raise FileProblem("holds no passphrase", where=str(self._file))
            return text
        return self._known or os.environ.get(PASSPHRASE_VARIABLE) or None

    def to_open(self, what: str) -> str | None:
        """For an encrypted key: asks when a person is there. None when there is nobody to ask."""
        known = self.given()
        if known is None and sys.stdin.isatty():
            self._known = known = getpass.getpass(f"Passphrase of {what}: ") or None
        return known

    def to_make(self) -> str | None:
        """For new keys: asks twice when a person is there; None: the keys are to lie open."""
        known = self.given()
        if known is not None or not sys.stdin.isatty():
            return known
        first = getpass.getpass("Passphrase for the new private keys (empty: none): ")
        if first and getpass.getpass("The same again: ") != first:
            raise WrongPassphrase("the two are not the same", fix="run the command again")
        self._known = first or None
        return self._known
