"""The options of a command that writes into a verifying office's journal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

JournalFile = Annotated[
    Path | None,
    typer.Option(
        "--journal",
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="Write the check into this signed journal (sudur journal init), and print a slip.",
    ),
]
Officer = Annotated[
    str | None, typer.Option("--officer", metavar="NAME", help="With --journal: who checks, a pseudonym.")
]
JournalKeyFile = Annotated[
    Path | None,
    typer.Option(
        "--key",
        metavar="KEYFILE",
        exists=True,
        dir_okay=False,
        help="The journal's key. Default: beside it, FILE.key.json.",
    ),
]
