"""The audits of a witness: one thread for each ledger, and nobody who asks waits for long."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import structlog

from ledger.checkpoints import SignedCheckpoint
from ledger.errors import SudurError
from ledger.trust import TrustedLedger
from node.clock import Clock
from node.errors import ClockUnsound
from node.logs import report
from tools.witness.auditor import Auditor
from tools.witness.refusals import Busy, CatchingUp, Caught, ClockWrong, NotAudited, Refusal, Stopped

WAIT_S: Final = 3.0
"""So long a request waits for its audit; the audit itself goes on."""
MAX_WANTED: Final = 8
MAX_SEEN: Final = 1_024
_log = structlog.get_logger("witness.auditing")
_Head = tuple[int, bytes]


class Auditing:
    """Auditors by origin. Made and used on the event loop."""

    def __init__(
        self,
        make: Callable[[TrustedLedger, str], Auditor],
        clock: Clock,
        caught: Callable[[str, str], None],
        *,
        wait_s: float = WAIT_S,
    ) -> None:
        """``make``: an auditor for a ledger with its resources at a URL. ``caught``: told, from another
        thread, which log has lied and how, before anybody who asked."""
        self._make = make
        self._caught = caught
        self._clock = clock
        self._wait_s = wait_s
        self._workers: dict[str, _Worker] = {}

    async def approve(self, ledger: TrustedLedger, url: str, signed: SignedCheckpoint) -> None:
        """Return once the ledger is audited up to a checkpoint.

        Raises Caught, SealAhead, SealOld, ClockWrong; CatchingUp when that takes longer than a request may;
        NotAudited when it cannot be read.
        """
        worker = self._begun(ledger, url)
        try:
            now_ms = self._clock.now_ms()
        except ClockUnsound as error:
            raise ClockWrong(error.what, where="clock", fix=error.fix) from None
        wanted = asyncio.wrap_future(worker.want(signed, now_ms))
        # Its outcome is heard even when nobody waits for it any more.
        wanted.add_done_callback(lambda future: future.cancelled() or future.exception())
        done, _ = await asyncio.wait({wanted}, timeout=self._wait_s)
        if not done:
            raise CatchingUp(
                f"{worker.auditor.replayed} of {signed.checkpoint.size} leaves are audited",
                where=signed.checkpoint.origin,
                retry_s=2,
            )
        wanted.result()

    def resume(self, ledger: TrustedLedger, url: str) -> None:
        """Go on with an audit of before: what it knows of the ledger's keys is needed before anybody asks."""
        self._begun(ledger, url)

    def _begun(self, ledger: TrustedLedger, url: str) -> _Worker:
        worker = self._workers.get(ledger.origin)
        if worker is None:
            worker = self._workers[ledger.origin] = _Worker(self._make(ledger, url), self._caught)
        return worker

    def ledger(self, origin: str) -> TrustedLedger | None:
        """What its audit knows of a ledger's keys; None when there is none yet."""
        worker = self._workers.get(origin)
        return None if worker is None else worker.auditor.ledger

    @property
    def replayed(self) -> Mapping[str, int]:
        """Leaves audited, by origin."""
        return {origin: worker.auditor.replayed for origin, worker in self._workers.items()}

    def stop(self) -> None:
        """End after the blocks in work. Blocks."""
        for worker in self._workers.values():
            worker.stop()


@dataclass(frozen=True, slots=True)
class _Wanted:
    """``seen_ms``: when the checkpoint was asked for first."""

    signed: SignedCheckpoint
    seen_ms: int
    answer: Future[None]


class _Worker:
    """The thread of one ledger. What is wanted is audited in the order in which it came."""

    def __init__(self, auditor: Auditor, caught: Callable[[str, str], None]) -> None:
        self.auditor = auditor
        self._caught = caught
        self._changed = threading.Condition()
        self._wanted: OrderedDict[_Head, _Wanted] = OrderedDict()
        self._seen_ms: OrderedDict[_Head, int] = OrderedDict()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="auditor")
        self._thread.start()

    def want(self, signed: SignedCheckpoint, now_ms: int) -> Future[None]:
        """Have a checkpoint audited; the same one is audited once, whoever asks. Raises Busy, Stopped."""
        head = signed.checkpoint.size, signed.checkpoint.root
        with self._changed:
            if self._stopping:
                raise Stopped("the witness is shutting down")
            known = self._wanted.get(head)
            self._seen_ms.setdefault(head, now_ms)
            self._seen_ms.move_to_end(head)
            if len(self._seen_ms) > MAX_SEEN:
                self._seen_ms.popitem(last=False)
            if known is None:
                if len(self._wanted) >= MAX_WANTED:
                    raise Busy(f"{MAX_WANTED} checkpoints of this log wait for their audit", retry_s=2)
                known = self._wanted[head] = _Wanted(signed, self._seen_ms[head], Future())
                self._changed.notify()
            return known.answer

    def stop(self) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        try:
            while (wanted := self._next()) is not None:
                self._audit(wanted)
                with self._changed:
                    del self._wanted[wanted.signed.checkpoint.size, wanted.signed.checkpoint.root]
        finally:
            self.auditor.close()
            for wanted in self._wanted.values():
                _settle(wanted.answer, Stopped("the witness is shutting down"))

    def _next(self) -> _Wanted | None:
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or self._wanted)
            return None if self._stopping else next(iter(self._wanted.values()))

    def _audit(self, wanted: _Wanted) -> None:
        signed, answer = wanted.signed, wanted.answer
        origin, size = signed.checkpoint.origin, signed.checkpoint.size
        try:
            self.auditor.check(signed, wanted.seen_ms, lambda: self._stopping)
        except Refusal as error:
            if isinstance(error, Caught):
                _log.error("log has lied", origin=origin, size=size, reason=str(error))
                self._tell(origin, error)
            _settle(answer, error)
        except SudurError as error:
            _log.warning("audit stopped", origin=origin, size=size, code=error.code, reason=str(error))
            _settle(answer, NotAudited(str(error), where=origin, retry_s=2))
        except Exception as error:
            report("audit_failed", error, log=_log)
            _settle(answer, NotAudited("the audit failed; the log here tells why", where=origin, retry_s=5))
        else:
            _settle(answer, None)

    def _tell(self, origin: str, error: Caught) -> None:
        """Whatever comes of that, this thread goes on; the next audit comes to the same."""
        try:
            self._caught(origin, str(error))
        except Exception as failure:
            report("caught_not_kept", failure, log=_log)


def _settle(answer: Future[None], error: Refusal | None) -> None:
    # Whoever asked may have given up just now.
    with suppress(Exception):
        if error is None:
            answer.set_result(None)
        else:
            answer.set_exception(error)
