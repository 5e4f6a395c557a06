"""What several commands share: options that read the same everywhere, and the way to a node."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any, Final

import grpc
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


def _secured(address: str, where: str) -> tuple[str, ClientTls | None]:
    """(host:port, TLS to speak with it or None). Raises Usage."""
    bare = address.removeprefix(_SECURE)
    match = _ADDRESS.fullmatch(bare)
    if match is None or not 1 <= int(match[2]) <= 65_535:
        raise Usage(
            f"{address!r} is no address", where=where, fix="write it as HOST:PORT or grpcs://HOST:PORT"
        )
    tls = _tls.get()
    return bare, tls if tls.is_given or bare != address else None


def channels(addresses: Sequence[str], where: str, options: Any = ()) -> Callable[[str], grpc.Channel]:
    """What makes a bare channel to one of ``addresses``, by this command's TLS, read anew. Raises Usage."""
    known = {address: _secured(address, where) for address in addresses}

    def channel(address: str) -> grpc.Channel:
        bare, tls = known[address]
        if tls is None:
            return grpc.insecure_channel(bare, options=options)
        return grpc.secure_channel(bare, tls.channel_credentials(), options=options)

    return channel


def connect(address: str, patience_s: float = 30.0) -> LedgerClient:
    """A client that tells the person at the terminal when it has to wait for the node. Raises Usage.

    With TLS where the address begins with grpcs://, and always when anything was said of TLS.
    """
    bare, wanted = _secured(address, "--node")

    def waiting(error: SudurError) -> None:
        remark(f"Trying again for {patience_s:.0f} s: {error}")

    return LedgerClient(bare, tls=wanted, patience_s=patience_s, waiting=waiting)


def static_resources(url: str) -> HttpResources:
    """A node's, mirror's or cache's static resources, by this command's TLS. Raises Usage."""
    return HttpResources(url, tls=_tls.get())
