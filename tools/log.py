"""``sudur log``: look at the log itself, over gRPC or at its static tiles."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Protocol

import typer

from ledger.canonical_json import Json
from ledger.checkpoints import Checkpoint, parse_checkpoint
from ledger.errors import OutOfRange
from ledger.hashing import leaf_hash
from ledger.leaves import leaf_type
from ledger.notes import parse_note
from ledger.proofs import prove_inclusion, verify_inclusion
from ledger.resources import CHECKPOINT, LogTiles, Resources, fetch_leaves
from ledger.seals import Seal
from ledger.tiles import TileNodeReader
from tools.describe import leaf_json, leaf_text, moment
from tools.errors import NotFound, Usage
from tools.options import Json_, MaybeNode, connect, static_resources
from tools.pinning import ledger_of, load_trust
from tools.ui import emit_json, printable, remark, say

app = typer.Typer(no_args_is_help=True, help="Look at the log: newest checkpoint, entries, inclusion proofs.")

_Url = Annotated[
    str | None,
    typer.Option("--url", metavar="URL", help="Read static resources, like http://localhost:7080."),
]
_Trust = Annotated[
    Path | None,
    typer.Option(
        "--trust", metavar="TRUST.json", exists=True, dir_okay=False, help="Verify against this trust file."
    ),
]
# So that -1 is a number out of range and not an option that nobody knows.
_NUMBERS: Final = {"ignore_unknown_options": True}
_Index = Annotated[int, typer.Argument(metavar="N", min=0, help="The entry's index, from 0.")]


class Source(Protocol):
    """A place to read the log from. Nothing it says is believed before it is proven."""

    def checkpoint(self) -> bytes:
        """The newest signed checkpoint."""
        ...

    def leaf(self, index: int, size: int) -> bytes: ...

    def path(self, index: int, size: int) -> tuple[bytes, ...]:
        """The inclusion path of a leaf in the tree of ``size``."""
        ...

    def close(self) -> None: ...


class GrpcSource:
    """A node's gRPC service."""

    def __init__(self, address: str) -> None:
        self._client = connect(address, 5.0)

    def checkpoint(self) -> bytes:
        return self._client.checkpoint()

    def leaf(self, index: int, size: int) -> bytes:
        for leaf in self._client.entries(index, index + 1):
            return leaf
        raise NotFound("the node sent no entry", where=f"entry {index}")

    def path(self, index: int, size: int) -> tuple[bytes, ...]:
        return self._client.inclusion(index, size).path

    def close(self) -> None:
        self._client.close()


class TileSource:
    """Static tiles; asking for whole tiles, it tells nobody which entry is looked at."""

    def __init__(self, url: str) -> None:
        self._http = static_resources(url)
        self._resources: Resources = self._http

    def checkpoint(self) -> bytes:
        return self._resources.fetch(CHECKPOINT)

    def leaf(self, index: int, size: int) -> bytes:
        return fetch_leaves(self._resources, index, index + 1, size)[0]

    def path(self, index: int, size: int) -> tuple[bytes, ...]:
        return tuple(prove_inclusion(TileNodeReader(LogTiles(self._resources), size), index, size))

    def close(self) -> None:
        self._http.close()


@app.command()
def head(node: MaybeNode = None, url: _Url = None, trust: _Trust = None, as_json: Json_ = False) -> None:
    """Print the newest checkpoint: size, root and time; verified when a trust file is given.

    Example: sudur log head --url http://localhost:7080 --trust trust.json
    """
    source = _source(node, url)
    try:
        note = source.checkpoint()
        checkpoint = _opened(note, trust)
        seal = Seal.decode(_proven_leaf(source, checkpoint, checkpoint.size - 1)[0])
    finally:
        source.close()
    _remark_unverified(trust)
    if as_json:
        emit_json(
            {
                "origin": checkpoint.origin,
                "size": str(checkpoint.size),
                "root": checkpoint.root.hex(),
                "block": str(seal.block),
                "documents": str(seal.documents),
                "time_ms": seal.time_ms,
                "verified": trust is not None,
                "checkpoint": note.decode("utf-8"),
            }
        )
        return
    say(f"{printable(checkpoint.origin)}")
    say(f"  size:       {checkpoint.size}")
    say(f"  root:       {checkpoint.root.hex()}")
    say(f"  block:      {seal.block}, sealed {moment(seal.time_ms)}")
    say(f"  documents:  {seal.documents}")
    say(f"  signature:  {_judged(trust)}")


@app.command(context_settings=_NUMBERS)
def entry(
    index: _Index, node: MaybeNode = None, url: _Url = None, trust: _Trust = None, as_json: Json_ = False
) -> None:
    """Print an entry, decoded; it is proven to be in the tree of the newest checkpoint.

    Example: sudur log entry 0 --node localhost:7070
    """
    source = _source(node, url)
    try:
        checkpoint = _opened(source.checkpoint(), trust)
        leaf, _ = _proven_leaf(source, checkpoint, index)
    finally:
        source.close()
    _remark_unverified(trust)
    if as_json:
        emit_json({"index": str(index), "leaf_hash": leaf_hash(leaf).hex(), **leaf_json(leaf)})
    else:
        say(leaf_text(index, leaf))


@app.command(context_settings=_NUMBERS)
def prove(
    index: _Index, node: MaybeNode = None, url: _Url = None, trust: _Trust = None, as_json: Json_ = False
) -> None:
    """Print an entry's inclusion proof under the newest checkpoint; it is verified before it is printed.

    Example: sudur log prove 7 --url http://localhost:7080 --trust trust.json
    """
    source = _source(node, url)
    try:
        note = source.checkpoint()
        checkpoint = _opened(note, trust)
        leaf, path = _proven_leaf(source, checkpoint, index)
    finally:
        source.close()
    _remark_unverified(trust)
    if as_json:
        result: Json = {
            "index": str(index),
            "size": str(checkpoint.size),
            "leaf_hash": leaf_hash(leaf).hex(),
            "path": [one.hex() for one in path],
            "root": checkpoint.root.hex(),
            "verified": trust is not None,
            "checkpoint": note.decode("utf-8"),
        }
        emit_json(result)
        return
    say(f"Entry {index} ({leaf_type(leaf).name}) is in the tree of {checkpoint.size} entries")
    say(f"  leaf hash:  {leaf_hash(leaf).hex()}")
    for position, one in enumerate(path):
        say(f"  path {position:>2}:    {one.hex()}")
    say(f"  root:       {checkpoint.root.hex()}")
    say(f"  signature:  {_judged(trust)}")


def _source(node: str | None, url: str | None) -> Source:
    if (node is None) == (url is None):
        raise Usage("say where the log is, in one way", where="--node or --url")
    return GrpcSource(node) if node is not None else TileSource(url or "")


def _opened(note: bytes, trust_path: Path | None) -> Checkpoint:
    """The checkpoint of a note; verified when there is a trust file. Raises CheckpointUntrusted …"""
    checkpoint = parse_checkpoint(parse_note(note).text)
    if trust_path is not None:
        ledger = ledger_of(load_trust(trust_path), note)
        checkpoint = ledger.open(note).checkpoint
    if checkpoint.size < 1:
        raise OutOfRange("the log is empty", where="checkpoint")
    return checkpoint


def _proven_leaf(source: Source, checkpoint: Checkpoint, index: int) -> tuple[bytes, tuple[bytes, ...]]:
    """A leaf and its path, verified against the checkpoint's root. Raises OutOfRange, ProofInvalid."""
    if index >= checkpoint.size:
        raise OutOfRange(f"the log has {checkpoint.size} entries", where=f"entry {index}")
    leaf = source.leaf(index, checkpoint.size)
    path = source.path(index, checkpoint.size)
    verify_inclusion(leaf_hash(leaf), index, checkpoint.size, path, checkpoint.root)
    return leaf, path


def _remark_unverified(trust: Path | None) -> None:
    if trust is None:
        remark("Not verified: without --trust this is what the node says")


def _judged(trust: Path | None) -> str:
    return "verified against the trust file" if trust is not None else "not verified (no --trust)"
