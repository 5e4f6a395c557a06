"""What several commands share: options that read the same everywhere, and the way to a node."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import grpc
import typer

from ledger.errors import SudurError
from ledger.resources import Resources
from ledger.signatures import Algorithm
from tools.client import LedgerClient
from tools.client_tls import ClientTls
from tools.errors import Usage
from tools.http_resources import HttpResources
from tools.node_resources import NodeResources
from tools.ui import remark

NODES: Final = "ADDR[,ADDR…]"
"""How an option shows that it takes a node, or all of a cluster."""
_TELL_AGAIN_S = 10.0

Node = Annotated[
    str,
    typer.Option(
        metavar=NODES,
        help="The node's gRPC address, like 127.0.0.1:7070 or grpcs://node:7070 (TLS); of a cluster all of"
        " them, with commas between.",
    ),
]
MaybeNode = Annotated[
    str | None,
    typer.Option(
        "--node", metavar=NODES, help="Ask a node over gRPC, like localhost:7070, or one of several."
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


class KeyAlgorithm(StrEnum):
    """What a new key signs with."""

    ED25519 = "ed25519"
    ML_DSA_44 = "ml-dsa-44"
    BOTH = "both"

    @property
    def number(self) -> Algorithm:
        return {
            KeyAlgorithm.ED25519: Algorithm.ED25519,
            KeyAlgorithm.ML_DSA_44: Algorithm.ML_DSA_44,
            KeyAlgorithm.BOTH: Algorithm.ED25519_ML_DSA_44,
        }[self]


OfAlgorithm = Annotated[
    KeyAlgorithm | None,
    typer.Option(
        "--algorithm",
        help="ml-dsa-44 withstands quantum computers; with both, a signature is good only if both parts are.",
    ),
]


def number_of(algorithm: KeyAlgorithm | None) -> Algorithm | None:
    """The algorithm that was asked for; None: whatever is usual."""
    return None if algorithm is None else algorithm.number


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


def tls_of_command() -> ClientTls:
    """What :func:`use_tls` was told: for connections that are made in other ways than the ones here."""
    return _tls.get()


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
    """A client of the nodes at one address, or at several with commas between, as a ``Node`` option gives.

    With TLS where one begins with grpcs://, and always when anything was said of TLS. It tells the person
    at the terminal when it has to wait, and for which node. Raises Usage.
    """
    several = address.split(",")
    found = [_secured(one, "--node") for one in several]
    bare = [one for one, _ in found]
    if len(set(bare)) < len(bare):
        raise Usage("names a node twice", where="--node", fix="write each node once")

    told: dict[str, float] = {}

    def waiting(error: SudurError, node: str) -> None:
        said = str(error) if error.where == node else f"{node}: {error}"
        # Many calls may wait for the same thing: it is told now and then, not for each.
        now = time.monotonic()
        if now - told.get(said, float("-inf")) >= _TELL_AGAIN_S:
            told[said] = now
            remark(f"Trying again for {patience_s:.0f} s: {said}")

    wanted = next((tls for _, tls in found if tls is not None), None)
    return LedgerClient(",".join(bare), tls=wanted, patience_s=patience_s, waiting=waiting)


@contextmanager
def node_resources(client: LedgerClient, said: str, url: str | None = None) -> Iterator[Resources]:
    """The static resources at ``url``; without one those of the client's nodes, of which one ``said`` where.

    Raises Usage.
    """
    with NodeResources(client, said, static_resources) if url is None else static_resources(url) as opened:
        yield opened


def static_resources(url: str) -> HttpResources:
    """A node's, mirror's or cache's static resources, by this command's TLS. Raises Usage."""
    return HttpResources(url, tls=_tls.get())
