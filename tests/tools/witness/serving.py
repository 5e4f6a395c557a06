"""Witnesses that really serve: on a loop of their own in this process, or as processes."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx

from ledger.cosignatures import Cosignature, verify_cosignatures, witness_key
from ledger.notes import Note, VerifierKey, parse_note, parse_signatures
from ledger.signatures import Signer
from ledger.trust import TrustedLedger
from ledger.witnessing import ADD_CHECKPOINT
from node.clock import Clock
from node.config import Address
from tests.tools.helpers import Done, finish, start
from tests.tools.witness.some_log import SomeLog, signer
from tools.witness.auditor import Auditor
from tools.witness.heads import HeadStore
from tools.witness.logs import WitnessedLog
from tools.witness.mark import Identity, Mark
from tools.witness.run import RunningWitness, WitnessSettings, start_witness
from transport.certificates import TlsFiles

NAME = "witness.example/w1"


@dataclass(frozen=True, slots=True)
class Witness:
    """A witness that serves at ``url``, with the one key ``key``."""

    url: str
    key: VerifierKey

    def ask(self, body: bytes) -> httpx.Response:
        """POST a body to add-checkpoint."""
        # Without TLS there is nothing to verify, and reading the authorities takes longer than the call.
        return httpx.post(f"{self.url}/{ADD_CHECKPOINT}", content=body, timeout=30, verify=False)

    def get(self, path: str) -> httpx.Response:
        """GET a path."""
        return httpx.get(f"{self.url}{path}", timeout=30, verify=False)

    def cosign(self, log: SomeLog, old: int, new: int) -> Cosignature:
        """Have a log's checkpoint cosigned; what came back, verified."""
        answer = self.ask(log.request(old, new))
        assert answer.status_code == 200, (answer.status_code, answer.text)
        return self.verified(log.note(new), answer.content)

    def verified(self, note: bytes, lines: bytes) -> Cosignature:
        """The one cosignature that an answer to this note holds."""
        signed = Note(parse_note(note).text, parse_signatures(lines))
        (found,) = verify_cosignatures(signed, (self.key,))
        return found


@dataclass(frozen=True, slots=True)
class Files:
    """Where a witness's key, mark and data are."""

    root: Path

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def key(self) -> Path:
        return self.root / "witness.key.json"

    @property
    def mark(self) -> Path:
        return Mark.path_for(self.key)


def settings(root: Path, logs: Sequence[WitnessedLog], *, audits: bool = False) -> WitnessSettings:
    """Settings of a witness named NAME, its mark made if it is new."""
    files = Files(root)
    if not files.mark.exists():
        Mark.create(files.mark, Identity(witness_key(NAME, signer(NAME).public_key), audits))
    return WitnessSettings(files.data, files.mark, Address("127.0.0.1", 0), tuple(logs))


@contextmanager
def witness(
    root: Path,
    *logs: WitnessedLog,
    clock: Clock | None = None,
    store: HeadStore | None = None,
    max_group: int | None = None,
    auditors: Callable[[TrustedLedger, str], Auditor] | None = None,
    audit_wait_s: float | None = None,
    further: Sequence[Signer] = (),
    tls: TlsFiles | None = None,
) -> Iterator[tuple[Witness, RunningWitness]]:
    """A witness in this process, on a loop in a thread of its own; the same again for the same ``root``."""
    chosen = settings(root, logs, audits=auditors is not None)
    if max_group is not None:
        chosen = replace(chosen, max_group=max_group)
    chosen = replace(chosen, tls=tls)
    if audit_wait_s is not None:
        chosen = replace(chosen, audit_wait_s=audit_wait_s)
    started: Future[RunningWitness] = Future()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        async with start_witness(
            chosen, [signer(NAME), *further], clock=clock, store=store, auditors=auditors
        ) as running:
            started.set_result(running)
            await stop.wait()

    def run() -> None:
        try:
            loop.run_until_complete(serve())
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)
        finally:
            loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        running = started.result(60)
        yield Witness(running.url, witness_key(NAME, signer(NAME).public_key)), running
    finally:
        if not loop.is_closed():
            loop.call_soon_threadsafe(stop.set)
        thread.join(60)


@dataclass(frozen=True, slots=True)
class WitnessProcess(Witness):
    """The same as a process of its own."""

    process: subprocess.Popen[str]

    def kill(self) -> None:
        """Without a word."""
        self.process.send_signal(signal.SIGKILL)
        finish(self.process)

    def stop(self) -> Done:
        """In good order."""
        self.process.send_signal(signal.SIGTERM)
        return finish(self.process)


def start_process(files: Files, *options: str | Path, name: str = NAME, **environment: str) -> WitnessProcess:
    """Start ``sudur witness start``, with a new key when there is none; whoever calls this ends it."""
    if not files.key.exists():
        assert finish(start("witness", "init", name, "--key", files.key)).code == 0
    process = start(
        "witness", "start", "--data", files.data, "--key", files.key, "--listen", "127.0.0.1:0", *options,
        **environment,
    )  # fmt: skip
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, finish(process)
    told = json.loads(line)
    return WitnessProcess(told["url"], VerifierKey.parse(told["vkeys"][0]), process)
