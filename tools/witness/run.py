"""A running witness: mark, state and logs behind one door, until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Final

import structlog

from ledger.cosignatures import witness_key
from ledger.notes import NamedSigner
from ledger.signatures import Signer
from ledger.trust import TrustedLedger
from node.clock import Clock, SystemClock
from node.config import Address, HttpLimits
from node.disk import free_bytes
from node.doors.http_server import HttpServer, listen_at
from node.stopping import until_told
from node.tls import TlsCredentials
from tools.errors import KeyFileError, Usage
from tools.files import locked, make_private_directory
from tools.options import static_resources
from tools.witness.auditing import WAIT_S, Auditing
from tools.witness.auditor import Auditor, EngineAuditor
from tools.witness.door import Door
from tools.witness.head_store import SqliteHeads
from tools.witness.heads import HeadStore
from tools.witness.keeper import MAX_GROUP, Keeper
from tools.witness.known_logs import KnownLogs
from tools.witness.logs import WitnessedLog
from tools.witness.mark import Mark
from tools.witness.metrics import WitnessMetrics
from transport.certificates import Purpose, TlsFiles

HEADS: Final = "heads.db"
DEFAULT_ADDRESS: Final = Address("127.0.0.1", 7170)
_log = structlog.get_logger("witness")


@dataclass(frozen=True, slots=True)
class WitnessSettings:
    """How a witness runs. ``logs``: added to those that it was told of before. ``audit_wait_s``: how long a
    request waits for its audit."""

    data_dir: Path
    mark_path: Path
    http: Address = DEFAULT_ADDRESS
    logs: Sequence[WitnessedLog] = ()
    tls: TlsFiles | None = None
    limits: HttpLimits = field(default_factory=HttpLimits)
    clock_is_right: bool = False
    max_group: int = MAX_GROUP
    audit_wait_s: float = WAIT_S


@dataclass(frozen=True, slots=True)
class RunningWitness:
    """A witness that serves. ``url``: its submission and monitoring prefix."""

    url: str
    vkeys: tuple[str, ...]
    keeper: Keeper
    logs: KnownLogs


async def run_witness(
    settings: WitnessSettings,
    signers: Sequence[Signer],
    *,
    ready: Callable[[RunningWitness], None] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then answer what is in work, and stop.

    ``signers``: the key that the mark names, and further ones. ``ready`` is called once it listens. Raises
    StateLost, StorageFailed, DataInUse, KeyFileError, NodeError, TlsProblem before that.
    """

    async def serving(stop: asyncio.Event) -> None:
        async with start_witness(settings, signers) as running:
            if ready is not None:
                ready(running)
            await stop.wait()

    await until_told(serving)


@contextlib.asynccontextmanager
async def start_witness(
    settings: WitnessSettings,
    signers: Sequence[Signer],
    *,
    clock: Clock | None = None,
    store: HeadStore | None = None,
    auditors: Callable[[TrustedLedger, str], Auditor] | None = None,
) -> AsyncIterator[RunningWitness]:
    """A witness that serves while the context lasts. Errors as :func:`run_witness`.

    ``clock``, ``store`` and ``auditors``: others than the system's, the data directory's and the real ones.
    """
    clock = clock or SystemClock()
    metrics = WitnessMetrics(version("sudur"))
    tls = None if settings.tls is None else TlsCredentials(settings.tls, Purpose.SERVER)
    listener = listen_at("HTTP", settings.http)
    with contextlib.ExitStack() as stack:
        stack.callback(listener.close)
        make_private_directory(settings.data_dir)
        stack.enter_context(locked(settings.data_dir))
        mark = Mark.open(settings.mark_path)
        stack.callback(mark.close)
        named = _named(mark, signers)
        logs = KnownLogs(settings.data_dir)
        stack.callback(logs.close)
        logs.add(settings.logs)
        _check_audited(mark, logs)
        heads = store or SqliteHeads(settings.data_dir / HEADS)
        stack.callback(heads.close)
        keeper = Keeper(
            heads,
            mark,
            named,
            clock,
            metrics,
            clock_is_right=settings.clock_is_right,
            max_group=settings.max_group,
        )
        vkeys = tuple(vkey_of(one) for one in named)
        about = {"witness": mark.identity.key.name, "vkeys": list(vkeys), "audits": mark.identity.audits}
        auditing = None
        if mark.identity.audits:
            make = auditors or _auditors(settings.data_dir)
            auditing = Auditing(make, clock, logs.catch, wait_s=settings.audit_wait_s)
            # They end even if what follows fails; to stop twice is no error.
            stack.callback(auditing.stop)
            for log in logs.logs().values():
                if log.ledger is not None and not log.off:
                    auditing.resume(log.ledger, log.url)
        metrics.watch(
            ready=lambda: keeper.fault is None,
            free_bytes=lambda: float(free_bytes(settings.data_dir)),
            tls=tls,
        )
        metrics.known(keeper.heads)
        if auditing is not None:
            metrics.audits(lambda: auditing.replayed)
        server = HttpServer(Door(keeper, logs, metrics, about, auditing), settings.limits, tls)
        address = Address(settings.http.host, listener.getsockname()[1])
        keeper.start()
        try:
            await server.start(listener)
            url = f"{'http' if tls is None else 'https'}://{address}"
            _log.info("serving", url=url, vkeys=vkeys, logs=len(logs.logs()), cosigned=len(keeper.heads))
            try:
                yield RunningWitness(url, vkeys, keeper, logs)
            finally:
                _log.info("stopping")
                await server.stop()
        finally:
            # Off the loop, which has to deliver the answers of the last group meanwhile.
            await asyncio.to_thread(keeper.stop)
            if auditing is not None:
                await asyncio.to_thread(auditing.stop)
    _log.info("stopped")


def vkey_of(signer: NamedSigner) -> str:
    """How policies name a witness's key."""
    return witness_key(signer.name, signer.signer.public_key, signer.signer.algorithm).format()


def _named(mark: Mark, signers: Sequence[Signer]) -> tuple[NamedSigner, ...]:
    identity = mark.identity
    if not signers or signers[0].public_key != identity.key.public_key:
        raise KeyFileError(
            f"the first key is not that of the witness {identity.key.name}",
            where=str(mark.path),
            fix="give the key that this mark was made with first",
        )
    return tuple(NamedSigner(identity.key.name, signer) for signer in signers)


def _check_audited(mark: Mark, logs: KnownLogs) -> None:
    """A key says the same of each log that it cosigns: an auditing one knows only what it can audit."""
    for log in logs.logs().values():
        if mark.identity.audits and (log.ledger is None or not log.url):
            raise Usage(
                f"{log.origin} cannot be audited, and this key says that it audits all that it cosigns",
                fix="add it with its trust file and --url; or cosign for it with another witness",
            )


def _auditors(directory: Path) -> Callable[[TrustedLedger, str], Auditor]:
    def make(ledger: TrustedLedger, url: str) -> Auditor:
        name = sha256(ledger.origin.encode()).hexdigest()[:32]
        return EngineAuditor(directory / "audits" / name, ledger, static_resources(url))

    return make
