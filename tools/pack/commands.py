"""``sudur pack``: the whole ledger in a file of a few megabytes, to verify with no network."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ledger.canonical_json import Json
from ledger.checks import check_witnesses
from ledger.errors import SudurError
from ledger.hashing import HASH_SIZE
from ledger.opened_pack import OpenedPack
from ledger.pack_bytes import statuses_in
from ledger.packs import Form
from ledger.references import reference_text
from ledger.seals import Seal
from tools.audit.sources import open_source
from tools.describe import moment, verdict_json
from tools.errors import EXIT_CANNOT_TELL, EXIT_NOT_GENUINE, EXIT_OK, Usage
from tools.options import Json_, TrustFile, static_resources, tls_of_command
from tools.pack.files import PackFile, is_delta, read_delta, read_pack
from tools.pack.making import Made, Maker, verify_file
from tools.pack.queue import read_queue, settle
from tools.pinning import load_trust
from tools.ui import emit_json, printable, progress, say

app = typer.Typer(no_args_is_help=True, help="Offline packs: to verify with no network.")

_Pack = Annotated[Path, typer.Argument(metavar="PACK", exists=True, dir_okay=False, help="A pack.")]
_SOURCE = "A node's, mirror's or cache's URL, or a directory with its static files."


class FormName(StrEnum):
    """What a pack holds of the tree."""

    SUBTREES = "subtrees"
    LEAVES = "leaves"

    @property
    def form(self) -> Form:
        return Form[self.name]


@app.command()
def create(
    source: Annotated[str, typer.Argument(metavar="URL", help=_SOURCE)],
    trust: TrustFile,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", dir_okay=False, help="Where to write it.")],
    form: Annotated[
        FormName | None,
        typer.Option(
            help="subtrees: small, but a code has to bear its path. leaves: 32 bytes a leaf, and any code"
            " will do. Default: subtrees."
        ),
    ] = None,
    delta_from: Annotated[
        Path | None,
        typer.Option(
            "--delta-from",
            metavar="PACK",
            exists=True,
            dir_okay=False,
            help="Write only what is new since this pack, for all who have it.",
        ),
    ] = None,
    as_json: Json_ = False,
) -> None:
    """Make a pack of a ledger as of its newest checkpoint, or a delta to a pack that is there.

    All of it is proven against the trust file before it is written.

    Example: sudur pack create https://ledger.example.gov --trust trust.json --out ledger.pack
    """
    if delta_from is not None and form is not None:
        raise Usage("a delta has the form of its pack", where="--form", fix="leave it out")
    opened = open_source(source, tls_of_command())
    with closing(opened) as resources, _maker(trust, "Resources fetched") as maker:
        if delta_from is not None:
            made = maker.delta(read_pack(delta_from), resources, out)
        else:
            made = maker.create(resources, (form or FormName.SUBTREES).form, out)
    _tell(made, out, "delta" if delta_from is not None else "pack", as_json)


@app.command()
def update(
    pack: _Pack,
    source: Annotated[str, typer.Argument(metavar="URL|DELTA", help=f"{_SOURCE} Or a delta's file.")],
    trust: TrustFile,
    as_json: Json_ = False,
) -> None:
    """Lead a pack over to the newest checkpoint, or to where a delta leads; only what is new is fetched.

    The old pack stays as it is until the new one is proven and on disk.

    Example: sudur pack update ledger.pack https://ledger.example.gov --trust trust.json
    """
    old = read_pack(pack)
    with _maker(trust, "Resources fetched") as maker:
        if Path(source).is_file():
            if not is_delta(Path(source)):
                raise Usage("is no delta", where=source, fix="make one with sudur pack create --delta-from")
            made = maker.apply(old, read_delta(Path(source)))
        else:
            with closing(open_source(source, tls_of_command())) as resources:
                made = maker.update(old, resources)
    _tell(made, pack, "pack", as_json, since=old)


@app.command()
def verify(
    pack: _Pack,
    trust: TrustFile,
    max_age: Annotated[
        int | None, typer.Option(metavar="SECONDS", min=0, help="The oldest pack that you accept.")
    ] = None,
    as_json: Json_ = False,
) -> None:
    """Prove all of a pack against a trust file, every leaf hash too.

    Each use of a pack proves it again, but for the leaf hashes that are not looked at. Exit codes: 0 sound;
    1 not sound, or not of this ledger; 2 cannot tell (too old, not witnessed, a wrong clock).

    Example: sudur pack verify ledger.pack --trust trust.json
    """
    began = time.perf_counter()
    with progress("Runs of 256 leaves", None) as tick:
        opened = verify_file(pack, load_trust(trust), tick)
    seconds = time.perf_counter() - began
    fault = ""
    try:
        check_witnesses(opened.ledger, opened.signed, opened.sealed.seal, _now_ms(), max_age)
    except SudurError as error:
        fault = str(error)
    if as_json:
        emit_json({**_opened_json(opened, pack), "fault": fault, "seconds": round(seconds, 3)})
    else:
        say(f"Not to be relied on now: {printable(fault)}" if fault else "Sound, all of it")
        for line in _opened_lines(opened, pack):
            say(line)
        say(f"Checked in {seconds:.2f} s")
    raise typer.Exit(EXIT_CANNOT_TELL if fault else EXIT_OK)


@app.command()
def show(pack: _Pack, as_json: Json_ = False) -> None:
    """Show what a pack says of itself. Nothing of it is verified: sudur pack verify does that.

    Example: sudur pack show ledger.pack
    """
    file = read_pack(pack)
    parts = _parts(file)
    seal = Seal.decode(file.pack.seal.leaf)
    if as_json:
        emit_json(
            {
                "form": FormName[file.pack.form.name].value,
                "genesis": file.pack.genesis.hex(),
                "size": str(file.pack.size),
                "as_of_ms": seal.time_ms,
                "documents": str(seal.documents),
                "bytes": file.size,
                "parts": parts,
                "verified": False,
            }
        )
        return
    pack_ = file.pack
    say(f"A pack of the form {FormName[pack_.form.name].value}; what it says of itself, not verified:")
    say(f"  of the ledger {pack_.genesis.hex()[:16]}…, {pack_.size} leaves, {seal.documents} documents")
    say(f"  as of {moment(seal.time_ms)}")
    for name, value in parts.items():
        say(f"  {name.replace('_', ' ')}: {value}")
    say(f"  {file.size} bytes in all")


@app.command()
def queue(
    file: Annotated[Path, typer.Argument(metavar="QUEUE", dir_okay=False, help="The queue's file.")],
    url: Annotated[
        str | None, typer.Option(metavar="URL", help="Where to ask. Default: only show what is open.")
    ] = None,
    trust: Annotated[
        Path | None,
        typer.Option(metavar="TRUST.json", exists=True, dir_okay=False, help="Needed with --url."),
    ] = None,
    as_json: Json_ = False,
) -> None:
    """Find out what was left open by sudur verify --pack --queue, now that there is a network.

    Whole tiles, chunks and records are fetched: whoever serves them learns which 256 leaves are looked at,
    not which document. What is settled leaves the queue. Exit codes: 0 all genuine; 1 something was
    accepted that should not have been; 2 something is still open.

    Example: sudur pack queue queue.json --url https://ledger.example.gov --trust trust.json
    """
    if url is None:
        _show_queue(file, as_json)
        return
    if trust is None:
        raise Usage("is needed to judge what comes", where="--trust", fix="give the trust file")
    with static_resources(url) as resources:
        found = settle(file, load_trust(trust), resources, _now_ms())
    left = len(read_queue(file))
    if as_json:
        emit_json(
            {
                "settled": [
                    {**verdict_json(verdict), "index": str(one.index), "asked_ms": one.asked_ms}
                    for one, verdict in found
                ],
                "left_open": left,
            }
        )
    else:
        for one, verdict in found:
            say(f"{reference_text(one.index)}, asked about {moment(one.asked_ms)}: {verdict.headline}")
            if verdict.reason:
                say(f"  {printable(verdict.reason)}")
        say(f"{left} left open" if left else "Nothing is left open")
    codes = {verdict.code.exit_code for _, verdict in found}
    if EXIT_NOT_GENUINE in codes:
        raise typer.Exit(EXIT_NOT_GENUINE)
    raise typer.Exit(EXIT_CANNOT_TELL if left or EXIT_CANNOT_TELL in codes else EXIT_OK)


def _show_queue(file: Path, as_json: bool) -> None:
    entries = read_queue(file)
    if as_json:
        emit_json({"left_open": [one.to_json() for one in entries]})
        return
    for one in entries:
        say(f"{reference_text(one.index)} (index {one.index}), asked about {moment(one.asked_ms)}")
    say(f"{len(entries)} left open" if entries else "Nothing is left open")


# --- what is said ------------------------------------------------------------------------------


@contextmanager
def _maker(trust: Path, what: str) -> Iterator[Maker]:
    known = load_trust(trust)
    with progress(what, None) as tick:
        yield Maker(known, _now_ms(), tick)


def _tell(made: Made, path: Path, what: str, as_json: bool, since: PackFile | None = None) -> None:
    if as_json:
        emit_json(
            {
                **_opened_json(made.opened, path),
                "written": what,
                "bytes": made.file_bytes,
                "fetches": made.fetches,
                "fetched_bytes": made.fetched_bytes,
                "seconds": round(made.seconds, 3),
                "from_size": None if since is None else str(since.pack.size),
            }
        )
        return
    for line in _opened_lines(made.opened, path):
        say(line)
    grown = "" if since is None else f", {made.opened.size - since.pack.size} leaves more than before"
    say(f"The {what} has {made.file_bytes} bytes{grown}")
    say(f"{made.fetches} resources fetched, {made.fetched_bytes} bytes, {made.seconds:.2f} s")


def _opened_json(opened: OpenedPack, path: Path) -> dict[str, Json]:
    return {
        "pack": str(path),
        "origin": opened.ledger.origin,
        "training": opened.ledger.training,
        "form": FormName[opened.pack.form.name].value,
        "size": str(opened.size),
        "as_of_ms": opened.as_of_ms,
        "documents": str(opened.sealed.seal.documents),
    }


def _opened_lines(opened: OpenedPack, path: Path) -> list[str]:
    training = "TRAINING LEDGER, NOT REAL DOCUMENTS. " if opened.ledger.training else ""
    return [
        f"{training}{path}: {printable(opened.ledger.origin)}, form {FormName[opened.pack.form.name].value}",
        f"{opened.size} leaves, {opened.sealed.seal.documents} documents, as of {moment(opened.as_of_ms)}",
    ]


def _parts(file: PackFile) -> dict[str, int]:
    pack = file.pack
    return {
        "roots": len(pack.subtrees) // HASH_SIZE,
        "leaf_hashes_behind_them": len(pack.tail) // HASH_SIZE,
        "statuses_not_valid": sum(1 for _ in statuses_in(pack.statuses)),
        "agencies": len(pack.records.agencies),
        "types": len(pack.records.types),
        "head_bytes": len(pack.encode()),
    }


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
