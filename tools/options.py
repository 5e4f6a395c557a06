"""What several commands share: options that read the same everywhere, and the way to a node."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Final

import typer

from ledger.errors import SudurError
from tools.client import LedgerClient
from tools.errors import Usage
from tools.ui import remark

Node = Annotated[str, typer.Option(metavar="ADDR", help="The node's gRPC address, like 127.0.0.1:7070.")]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="A file with the passphrase of the private keys. Else SUDUR_PASSPHRASE, else it is asked for.",
    ),
]
Json_ = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]
TrustFile = Annotated[
    Path,
    typer.Option(
        metavar="TRUST.json", exists=True, dir_okay=False, help="The trust file: which ledgers are believed."
    ),
]


_ADDRESS: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+):([0-9]{1,5})", re.ASCII)


def connect(address: str, patience_s: float = 30.0) -> LedgerClient:
    """A client that tells the person at the terminal when it has to wait for the node. Raises Usage."""
    match = _ADDRESS.fullmatch(address)
    if match is None or not 1 <= int(match[2]) <= 65_535:
        raise Usage(f"{address!r} is no address", where="--node", fix="write it as HOST:PORT")

    def waiting(error: SudurError) -> None:
        remark(f"Trying again for {patience_s:.0f} s: {error}")

    return LedgerClient(address, patience_s=patience_s, waiting=waiting)
