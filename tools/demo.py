"""``sudur demo``: the whole way once, with the very commands that one would type.

A node starts in this process; everything else is a command of its own, shown before it runs.
"""

from __future__ import annotations

import asyncio
import json
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final

import typer

from ledger.leaves import MAX_LEAF_SIZE
from ledger.receipts import MAX_RECEIPT
from ledger.registry_records import LedgerRecord
from tools.agency.directory import AgencyDirectory
from tools.client import LedgerClient
from tools.errors import EXIT_NOT_GENUINE, ToolError, Unavailable, Usage
from tools.files import make_private_directory, read_file, write_file
from tools.keyfile import KeyFile
from tools.registry.authority_directory import AuthorityDirectory
from tools.ui import say

SAMPLES: Final = Path(__file__).parent.parent / "samples" / "documents"
ORIGIN: Final = "demo.sudur.example/training"
_START_S: Final = 60.0
_TYPE: Final = {
    "labels": {"en": "Sample document", "ar": "وثيقة نموذجية", "ckb": "بەڵگەنامەی نموونە"},
    "fields": [
        {
            "name": "office",
            "labels": {"en": "Office", "ar": "الدائرة", "ckb": "فەرمانگە"},
            "required": True,
            "shown": True,
        },
        {
            "name": "valid_until",
            "labels": {"en": "Valid until", "ar": "صالحة لغاية", "ckb": "بەسەرچوون"},
            "required": True,
            "shown": True,
            "expiry": True,
        },
    ],
}


def demo(
    exit_: Annotated[bool, typer.Option("--exit", help="Exit when all is shown, with code 0.")] = False,
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            metavar="DIR",
            file_okay=False,
            help="Where everything is kept; a second run goes on with it.",
        ),
    ] = Path("demo-data"),
    documents: Annotated[
        Path | None,
        typer.Option(
            "--documents",
            metavar="DIR",
            exists=True,
            file_okay=False,
            help="Files to issue. Default: the samples.",
        ),
    ] = None,
) -> None:
    """Show everything once: a node, an authority, an agency, documents, receipts, verdicts.

    The ledger is one for training. Afterwards the node stays up until Ctrl-C, so that you can go on.

    Example: sudur demo --exit --data /tmp/demo
    """
    source = documents or SAMPLES
    files = sorted(path for path in source.iterdir() if path.is_file()) if source.is_dir() else []
    if not files:
        raise Usage(f"no files are in {source}", where="--documents", fix="name a directory with files")
    make_private_directory(data)
    authority, agency = data / "authority", data / "agency"
    trust = authority / "trust.json"

    say("1. An authority: three keys, of which two decide, and a ledger's first leaf.")
    if trust.exists():
        say(f"   It is there from an earlier run: {authority}")
    else:
        _sudur(
            "authority", "init", "--dir", authority, "--origin", ORIGIN,
            "--keys", "3", "--threshold", "2", "--training",
        )  # fmt: skip
    say()
    with _node(data / "node", AuthorityDirectory.open(authority)) as (grpc, url):
        say(f"2. A node serves: gRPC at {grpc}, HTTP at {url}")
        say()
        with LedgerClient(grpc) as client:
            record = LedgerRecord.decode(client.record("ledger").record)
        say("3. A document type, and an agency that may issue it.")
        if record.types:
            say("   Type 1 is defined already.")
        else:
            definition = data / "type.json"
            write_file(definition, json.dumps(_TYPE, ensure_ascii=False, indent=1).encode())
            _sudur("authority", "define-type", definition, "--dir", authority, "--node", grpc)
        if not (agency / "submit.key.json").exists():
            _sudur("agency", "keygen", "--dir", agency)
        if record.agencies:
            say("   Agency 1 is enrolled already.")
        else:
            _sudur(
                "authority", "enrol", "--dir", authority, "--node", grpc,
                "--name", "en=Sample Registry", "--name", "ar=السجل النموذجي", "--name", "ckb=تۆماری نموونە",
                "--role", "issue", "--type", "1", "--key", AgencyDirectory(agency).public_path("submit"),
            )  # fmt: skip
        say()
        say(f"4. The agency issues {len(files)} documents; only hashes leave its hands.")
        until = (datetime.now(UTC) + timedelta(days=365)).date().isoformat()
        answer = _sudur(
            "agency", "issue", "--node", grpc, "--dir", agency, "--trust", trust, "--type", "1",
            "--field", "office=Sample Registry", "--field", f"valid_until={until}", "--json", *files,
            show=False,
        )  # fmt: skip
        issued = json.loads(answer)["issued"]
        receipts = [Path(one["receipt"]) for one in issued][-len(files) :]
        for one in issued:
            say(f"   {one['receipt']}  index {one['index']}")
        say()
        say("5. Whoever receives a document verifies it: a new process each time, and no network.")
        _verify_all(receipts, files, trust)
        say()
        say("6. A copy in which one bit is changed:")
        _show_tampered(receipts[0], files[0], trust, data / f"tampered-{files[0].name}")
        say()
        say("7. The agency revokes the first one. Whoever asks a node for the status of now sees it:")
        _show_revoked(receipts[0], trust, agency, grpc, url)
        say()
        say("8. What the agency has done, by the month; anybody can recompute it from the log:")
        _sudur("figures", "1", "--node", grpc)
        _sudur("figures", "1", "--node", grpc, "--recompute")
        say()
        say("All of it worked.")
        if exit_:
            return
        say()
        say(f"The node stays up until Ctrl-C. gRPC: {grpc}   HTTP: {url}")
        say(f"  {url}/checkpoint")
        say(f"  sudur log head --url {url} --trust {trust}")
        say(f"  sudur verify {shlex.quote(str(receipts[0]))} --trust {trust} --url {url}")
        _wait_for_signal()


def _verify_all(receipts: Sequence[Path], files: Sequence[Path], trust: Path) -> None:
    for position, (receipt, file) in enumerate(zip(receipts, files, strict=True)):
        arguments = ("verify", receipt, file, "--trust", trust)
        if position == 0:
            _sudur(*arguments)
            continue
        verdict = json.loads(_sudur(*arguments, "--json", show=False, name=False))
        say(f"   {file.name}: {verdict['headline']}")


def _show_tampered(receipt: Path, file: Path, trust: Path, copy: Path) -> None:
    changed = bytearray(read_file(file, 1 << 30))
    changed[len(changed) // 2] ^= 1
    write_file(copy, bytes(changed))
    _sudur("verify", receipt, copy, "--trust", trust, wanted=EXIT_NOT_GENUINE)


def _show_revoked(receipt: Path, trust: Path, agency: Path, grpc: str, url: str) -> None:
    index = json.loads(read_file(receipt, MAX_RECEIPT + 1))["issue"]["index"]
    _sudur("agency", "revoke", index, "--reason", "1", "--yes", "--dir", agency, "--node", grpc)
    _sudur("verify", receipt, "--trust", trust, "--url", url, wanted=EXIT_NOT_GENUINE)


def _sudur(*arguments: str | Path, wanted: int = 0, show: bool = True, name: bool = True) -> str:
    """Run a command as a process of its own; its output. Raises ToolError for another exit code."""
    words = [str(argument) for argument in arguments]
    if name:
        line = " ".join(["sudur", *(shlex.quote(word) for word in words)])
        say(f"   $ {line if len(line) < 240 else line[:237] + '...'}")
    done = subprocess.run(
        [sys.executable, "-m", "tools.cli", *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    if show:
        for one in done.stdout.splitlines():
            say(f"     {one}")
    if done.returncode != wanted:
        raise ToolError(
            f"ended with {done.returncode}, not {wanted}: {done.stderr.strip() or done.stdout.strip()}",
            where=f"sudur {words[0]}",
        )
    return done.stdout


@contextmanager
def _node(data: Path, authority: AuthorityDirectory) -> Iterator[tuple[str, str]]:
    """A node on a thread of this process, so that it cannot outlive it; its gRPC address and its URL."""
    from node.config import Address, Settings
    from node.logs import configure_logs
    from node.run import RunningNode, start_node

    settings = Settings(
        data_dir=data,
        grpc=Address("127.0.0.1", _free_port(7070)),
        http=Address("127.0.0.1", _free_port(7080)),
    )
    signer = KeyFile(authority.log_key_path).open(None).signer
    leaf = read_file(authority.genesis_path, MAX_LEAF_SIZE)
    configure_logs("console", 40)
    running: list[RunningNode] = []
    failed: list[BaseException] = []
    up = threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        async with start_node(settings, [signer], leaf) as node:
            running.append(node)
            up.set()
            await stop.wait()

    def work() -> None:
        try:
            loop.run_until_complete(serve())
        except BaseException as error:
            failed.append(error)
        finally:
            up.set()
            loop.close()

    thread = threading.Thread(target=work, name="node")
    thread.start()
    try:
        if not up.wait(_START_S):
            raise Unavailable("the node did not start in time", where=str(data))
        if failed:
            raise failed[0]
        yield str(running[0].grpc), running[0].resources_url
    finally:
        if thread.is_alive():
            loop.call_soon_threadsafe(stop.set)
        thread.join()
    if failed:
        raise failed[0]


def _free_port(wanted: int) -> int:
    """The usual port, or 0 for any when it is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            return 0
    return wanted


def _wait_for_signal() -> None:
    """Until Ctrl-C or SIGTERM."""
    asked = threading.Event()
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, lambda *_: asked.set())
    asked.wait()
