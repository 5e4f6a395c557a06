"""What several commands share: options that read the same everywhere, and the way to a node."""

from __future__ import annotations

import re
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Final

import typer

from ledger.errors import SudurError
from tools.client import LedgerClient
from tools.client_tls import ClientTls
from tools.errors import Usage
from tools.http_resources import HttpResources
from tools.ui import remark

Node = Annotated[
    str,
    typer.Option(
        metavar="ADDR", help="The node's gRPC address, like 127.0.0.1:7070 or grpcs://node:7070 (TLS)."
    ),
]
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


_tls: ContextVar[ClientTls] = ContextVar("tls", default=ClientTls())  # noqa: B039 - it is frozen
_SECURE: Final = "grpcs://"
_ADDRESS: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+):([0-9]{1,5})", re.ASCII)


def use_tls(tls: ClientTls) -> None:
    """What all connections of this command go by: options that come before the command's name."""
    _tls.set(tls)


def connect(address: str, patience_s: float = 30.0) -> LedgerClient:
    """A client that tells the person at the terminal when it has to wait for the node. Raises Usage.

    With TLS where the address begins with grpcs://, and always when anything was said of TLS.
    """
    bare = address.removeprefix(_SECURE)
    match = _ADDRESS.fullmatch(bare)
    if match is None or not 1 <= int(match[2]) <= 65_535:
        raise Usage(
            f"{address!r} is no address", where="--node", fix="write it as HOST:PORT or grpcs://HOST:PORT"
        )

    def waiting(error: SudurError) -> None:
        remark(f"Trying again for {patience_s:.0f} s: {error}")

    tls = _tls.get()
    wanted = tls if tls.is_given or bare != address else None
    return LedgerClient(bare, tls=wanted, patience_s=patience_s, waiting=waiting)


def static_resources(url: str) -> HttpResources:
    """A node's, mirror's or cache's static resources, by this command's TLS. Raises Usage."""
    return HttpResources(url, tls=_tls.get())
