"""What an auditing witness asks before it cosigns: does every block obey the rules, is the newest of now?

The replay itself is the audit's (``tools.audit.engine``); here stands what a witness adds: that a new head
was sealed within five minutes of its own clock, so that no block is made to look older or younger.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import structlog

from ledger.checkpoints import SignedCheckpoint
from ledger.errors import SudurError
from ledger.resources import Resources
from ledger.seals import Seal
from ledger.trust import TrustedLedger
from tools.audit.accusing import keep_evidence
from tools.audit.engine import AuditedLog, Watch, forget_replayed
from tools.audit.errors import Interrupted, LogLied, StateDamaged
from tools.witness.refusals import Caught, SealAhead, SealOld

MAX_OFF_MS: Final = 5 * 60_000
"""How far a new seal may be from this witness's clock."""
_log = structlog.get_logger("witness.auditor")


class Auditor(Protocol):
    """Judges the heads of one ledger. Used by one thread, but for :attr:`ledger` and :attr:`replayed`."""

    @property
    def ledger(self) -> TrustedLedger:
        """What is trusted of the ledger, its changes of keys included as far as they were replayed."""
        ...

    @property
    def replayed(self) -> int:
        """Leaves that were found to be as the rules want them."""
        ...

    def check(self, signed: SignedCheckpoint, seen_ms: int, stop: Callable[[], bool]) -> None:
        """Return if every block up to a checkpoint obeys the rules, and the newest was new when it was seen.

        ``seen_ms``: when this witness was first shown it, by its own clock. It may take as long as the log
        is large; ``stop`` is asked after each block. Raises Caught when the log has signed what cannot be;
        SealAhead, SealOld; and what reading it raises, after which it may be asked again.
        """
        ...

    def close(self) -> None:
        """Give the files back."""
        ...


class EngineAuditor:
    """An :class:`Auditor` that replays into ``directory`` what is served under ``resources``."""

    def __init__(self, directory: Path, ledger: TrustedLedger, resources: Resources) -> None:
        """Opens at once what is there of an earlier audit, else at the first :meth:`check`."""
        self._directory = directory
        self._resources = resources
        self._opened: AuditedLog | None = None
        self._held = ExitStack()
        self.ledger = ledger
        self.replayed = 0
        if directory.exists():
            with suppress(SudurError, OSError):  # the first check says what is wrong, or mends it
                log = self._open()
                self.ledger, self.replayed = log.trust, log.size

    def check(self, signed: SignedCheckpoint, seen_ms: int, stop: Callable[[], bool]) -> None:
        """See :class:`Auditor`."""
        try:
            log = self._replay(signed, stop)
        except StateDamaged as error:
            # All of it follows from the log; and the checkpoints that were seen are kept.
            _log.error("audit begins anew", reason=str(error), directory=str(self._directory))
            self.close()
            forget_replayed(self._directory)
            log = self._replay(signed, stop)
        check_seal(log.leaf(signed.checkpoint.size - 1), seen_ms)

    def close(self) -> None:
        """See :class:`Auditor`."""
        self._opened = None
        self._held.close()

    def _replay(self, signed: SignedCheckpoint, stop: Callable[[], bool]) -> AuditedLog:
        log = self._open()
        watch = Watch(moved=self._moved, stop=stop)
        try:
            log.advance(_UntilStopped(self._resources, stop), signed, watch=watch)
        except LogLied as error:
            path = keep_evidence(log, error, self._resources)
            fix = f"the evidence is in {path}"
            raise Caught(str(error), where=signed.checkpoint.origin, fix=fix) from error
        finally:
            self.replayed = log.size
        self.ledger = log.trust
        return log

    def _open(self) -> AuditedLog:
        if self._opened is None:
            self._directory.parent.mkdir(mode=0o700, exist_ok=True)
            self._opened = self._held.enter_context(AuditedLog.open(self._directory, self.ledger))
        return self._opened

    def _moved(self, leaves: int) -> None:
        self.replayed += leaves


@dataclass(frozen=True, slots=True)
class _UntilStopped:
    """Resources that end with the witness: a slow server would hold up its end for hours, file by file."""

    resources: Resources
    stop: Callable[[], bool]

    def fetch(self, path: str) -> bytes:
        if self.stop():
            raise Interrupted("the witness is shutting down", where=path)
        return self.resources.fetch(path)


def check_seal(leaf: bytes, seen_ms: int) -> None:
    """Return if a SEAL is within five minutes of when it was seen. Raises SealAhead, SealOld."""
    off_ms = Seal.decode(leaf).time_ms - seen_ms
    if off_ms > MAX_OFF_MS:
        raise SealAhead(f"it was sealed {off_ms // 1_000} s ahead of this witness's clock")
    if off_ms < -MAX_OFF_MS:
        raise SealOld(
            f"it was sealed {-off_ms // 1_000} s before this witness was shown it, and it is new to it",
            retry_s=60,
            fix="a block that is sealed now will be cosigned, and this one with it",
        )
