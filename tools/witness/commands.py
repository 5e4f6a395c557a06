"""``sudur witness``: make one, run it, tell it which logs to cosign for."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from ledger.canonical_json import Json, base64_text
from ledger.cosignatures import witness_key
from ledger.signatures import Algorithm, Signer
from tools.errors import KeyFileError, Usage
from tools.keyfile import KeyFile, make_key, save_key
from tools.options import Json_, PassphraseFile
from tools.tls_options import tls_files
from tools.ui import Passphrase, emit_json, printable, remark, say, show_table
from tools.witness.logs import WitnessedLog, log_key, read_logs

if TYPE_CHECKING:
    from tools.witness.heads import Head
    from tools.witness.known_logs import KnownLogs

app = typer.Typer(no_args_is_help=True, help="For witnesses: cosign what logs say, and never take it back.")

_Data = Annotated[
    Path, typer.Option("--data", metavar="DIR", file_okay=False, help="The witness's data directory.")
]
_Logs = Annotated[
    list[Path] | None,
    typer.Option(
        "--log",
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="Logs to cosign for: a list (logs/v0), or a trust file. Repeatable. What is new in it is added.",
    ),
]
_Origin = Annotated[str, typer.Argument(metavar="ORIGIN", help="The log, as sudur witness list shows it.")]
_Url = Annotated[
    str, typer.Option(metavar="URL", help="Where the public resources of a trust file's only ledger are.")
]


class LogFormat(StrEnum):
    JSON = "json"
    CONSOLE = "console"


@app.command()
def init(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="As a URL without scheme, like witness.example.org/w1.")
    ],
    key: Annotated[Path, typer.Option("--key", metavar="FILE", dir_okay=False, help="The new private key.")],
    audit: Annotated[
        bool, typer.Option("--audit", help="It will say of each log that it has checked every rule.")
    ] = False,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Make a witness's key, and its mark beside it; prints the vkey that goes into policies.

    The mark remembers how far the key has gone. Key and mark stay together, on one machine.

    Example: sudur witness init witness.example.org/w1 --key witness.key.json
    """
    from tools.witness.mark import Identity, Mark

    made = make_key("witness", "witness")
    identity = Identity(witness_key(name, made.public.key), audit)
    mark = Mark.path_for(key)
    if mark.exists():
        raise KeyFileError("there is another key's mark already", where=str(mark), fix="choose another name")
    save_key(key, made, Passphrase(passphrase_file).to_make())
    Mark.create(mark, identity)
    remark(f"The key is in {key}, its mark in {mark}.")
    say(identity.key.format())


@app.command()
def keygen(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The witness's name, as its first key has it.")],
    key: Annotated[Path, typer.Option("--key", metavar="FILE", dir_okay=False, help="The new private key.")],
    passphrase_file: PassphraseFile = None,
) -> None:
    """Make a further key, of ML-DSA-44, which withstands quantum computers; prints its vkey.

    It cosigns beside the first one: sudur witness start --key FIRST --key THIS. It has no mark of its own.

    Example: sudur witness keygen witness.example.org/w1 --key witness-ml-dsa-44.key.json
    """
    made = make_key("witness", "witness", Algorithm.ML_DSA_44)
    vkey = witness_key(name, made.public.key, Algorithm.ML_DSA_44)
    save_key(key, made, Passphrase(passphrase_file).to_make())
    say(vkey.format())


@app.command()
def start(
    data: _Data,
    key: Annotated[
        list[Path],
        typer.Option(
            "--key",
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="The witness's key. Repeatable: further keys cosign under the same name.",
        ),
    ],
    listen: Annotated[str, typer.Option(metavar="ADDR", help="Where HTTP listens.")] = "127.0.0.1:7170",
    log: _Logs = None,
    url: _Url = "",
    mark: Annotated[
        Path | None,
        typer.Option(metavar="FILE", dir_okay=False, help="The key's mark. Default: beside the (first) key."),
    ] = None,
    tls_cert: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Speak TLS, and show this certificate (PEM).")
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Its private key (PEM, not encrypted).")
    ] = None,
    clock_is_right: Annotated[
        bool,
        typer.Option(
            "--clock-is-right", help="You have looked at the clock: begin again after more than 7 days."
        ),
    ] = False,
    log_format: Annotated[
        LogFormat, typer.Option(help="How the witness's own log is written.")
    ] = LogFormat.JSON,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Run a witness (C2SP tlog-witness) until SIGTERM or Ctrl-C.

    It prints its address and vkey, as one line of JSON, as soon as it serves; its log goes to stderr.

    Example: sudur witness start --data witness --key witness.key.json --log logs.txt
    """
    from node.config import Address
    from node.errors import NodeError
    from node.logs import configure_logs
    from tools.witness.mark import Mark
    from tools.witness.run import RunningWitness, WitnessSettings, run_witness

    try:
        address = Address.parse(listen)
    except NodeError as error:
        raise Usage(error.what, where="--listen", fix=error.fix) from None
    settings = WitnessSettings(
        data_dir=data,
        mark_path=mark or Mark.path_for(key[0]),
        http=address,
        logs=_read(log or [], url),
        tls=tls_files("--tls-cert", tls_cert, "--tls-key", tls_key, "", None),
        clock_is_right=clock_is_right,
    )
    signers = _open_keys(key, Passphrase(passphrase_file))
    configure_logs(log_format.value)

    def ready(running: RunningWitness) -> None:
        typer.echo(json.dumps({"url": running.url, "vkeys": running.vkeys}))
        sys.stdout.flush()

    asyncio.run(run_witness(settings, signers, ready=ready))


@app.command("add-log")
def add_log(
    data: _Data,
    vkey: Annotated[
        list[str] | None, typer.Argument(metavar="[VKEY]…", help="Keys of one log, as it publishes them.")
    ] = None,
    origin: Annotated[
        str, typer.Option(metavar="TEXT", help="How its checkpoints begin, if not with the key's name.")
    ] = "",
    log: _Logs = None,
    url: _Url = "",
) -> None:
    """Cosign for further logs, or accept further keys of known ones. The witness may be running.

    Example: sudur witness add-log --data witness log.example+1a2b3c4d+AQ… --origin 'the log of example'

    Example: sudur witness add-log --data witness --log trust.json --url https://ledger.example.gov
    """
    if bool(vkey) == bool(log):
        raise Usage("give keys of one log, or --log")
    if vkey:
        if url:
            raise Usage("only a ledger with a trust file is read by its URL", where="--url")
        keys = tuple(log_key(one) for one in vkey)
        told: tuple[WitnessedLog, ...] = (WitnessedLog(origin or keys[0].name, keys),)
    else:
        told = _read(log or [], url)
    with _known(data) as known:
        if vkey:
            known.refuse_keys_beside_trust(told[0])
        changed = known.add(told)
    say(f"{len(told)} logs read, {changed} of them new or changed.")


@app.command("remove-key")
def remove_key(
    data: _Data, origin: _Origin, vkey: Annotated[str, typer.Argument(metavar="VKEY", help="The key.")]
) -> None:
    """Believe a log by one of its keys no more. The witness may be running.

    Example: sudur witness remove-key --data witness log.example log.example+1a2b3c4d+AQ…
    """
    with _known(data) as known:
        known.remove_key(origin, log_key(vkey))
    say(f"{printable(origin)}: the key is removed.")


@app.command("switch")
def switch(
    data: _Data,
    origin: _Origin,
    off: Annotated[bool, typer.Option("--off/--on", help="Cosign for it no more, or again.")],
) -> None:
    """Stop cosigning for a log, or go on with it. What was cosigned stays remembered in both cases.

    Example: sudur witness switch --data witness log.example --off
    """
    with _known(data) as known:
        known.switch(origin, off=off)
    say(f"{printable(origin)}: {'off' if off else 'on'}.")


@app.command("list")
def list_logs(data: _Data, as_json: Json_ = False) -> None:
    """The logs, and what was cosigned of each last. The witness may be running.

    Example: sudur witness list --data witness
    """
    with _known(data) as known:
        heads = _heads(data)
        rows = [(log, heads.get(origin)) for origin, log in sorted(known.logs().items())]
    if as_json:
        emit_json([_json(log, head) for log, head in rows])
        return
    table = Table("log", "keys", "size", "cosigned")
    for log, head in rows:
        size, when = ("", "never") if head is None else (str(head.checkpoint.size), _when(head.time_s))
        table.add_row(printable(log.origin) + (" (off)" if log.off else ""), str(len(log.keys)), size, when)
    show_table(table)


@app.command()
def show(data: _Data, origin: _Origin, as_json: Json_ = False) -> None:
    """One log: its keys, and the checkpoint that was cosigned last. The witness may be running.

    Example: sudur witness show --data witness log.example
    """
    with _known(data) as known:
        log = known.logs().get(origin)
        head = _heads(data).get(origin)
    if log is None:
        raise Usage(f"no log {origin!a} is known here", fix="sudur witness list names them")
    if as_json:
        emit_json(_json(log, head))
        return
    say(f"log       {printable(log.origin)}{' (off)' if log.off else ''}")
    for key in log.keys:
        say(f"key       {key.format()}")
    if log.url:
        say(f"url       {printable(log.url)}")
    if log.ledger is not None:
        say(f"ledger    {log.ledger.genesis.hex()}")
    if log.caught:
        say(f"caught    {printable(log.caught)}")
    if head is None:
        say("cosigned  never")
        return
    say(f"cosigned  {_when(head.time_s)}")
    say()
    for line in head.note.decode().removesuffix("\n").split("\n"):
        say(printable(line))


def _read(paths: list[Path], url: str) -> tuple[WitnessedLog, ...]:
    if url and len(paths) != 1:
        raise Usage("one URL belongs to one trust file", where="--url", fix="add the others with add-log")
    return tuple(log for path in paths for log in read_logs(path, url))


def _open_keys(paths: list[Path], passphrase: Passphrase) -> list[Signer]:
    signers = []
    for path in paths:
        file = KeyFile(path)
        if file.public.use != "witness":
            raise KeyFileError(f"is a key for {file.public.use}, not a witness's", where=str(path))
        known = passphrase.to_open(path.name) if file.is_encrypted else None
        signers.append(file.open(known).signer)
    return signers


@contextmanager
def _known(data: Path) -> Iterator[KnownLogs]:
    from tools.files import make_private_directory
    from tools.witness.known_logs import KnownLogs

    make_private_directory(data)
    known = KnownLogs(data)
    try:
        yield known
    finally:
        known.close()


def _heads(data: Path) -> dict[str, Head]:
    """What was cosigned, read beside a witness that may be running."""
    from tools.witness.head_store import SqliteHeads
    from tools.witness.run import HEADS

    path = data / HEADS
    if not path.exists():
        return {}
    store = SqliteHeads(path)
    try:
        return dict(store.load().heads)
    finally:
        store.close()


def _json(log: WitnessedLog, head: Head | None) -> Json:
    return {
        "origin": log.origin,
        "vkeys": [key.format() for key in log.keys],
        "url": log.url,
        "off": log.off,
        "caught": log.caught,
        "genesis": None if log.ledger is None else log.ledger.genesis.hex(),
        "size": None if head is None else head.checkpoint.size,
        "root": None if head is None else base64_text(head.checkpoint.root),
        "time": None if head is None else head.time_s,
        "note": None if head is None else head.note.decode(),
    }


def _when(time_s: int) -> str:
    return f"{datetime.fromtimestamp(time_s, UTC):%Y-%m-%d %H:%M:%S} UTC"
