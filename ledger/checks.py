"""What every verifier checks in the same way, with a receipt or with an offline pack, and how it keeps count.

Each check is a named step that either shows something or raises; the first that raises decides the
verdict. Format: docs/format.md, section Verification.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from ledger.checkpoints import SignedCheckpoint
from ledger.errors import CheckpointUntrusted, LogKeyUnknown, PolicyUnmet, RulesVersionUnknown, SudurError
from ledger.registry_records import LedgerRecord
from ledger.rules import SUPPORTED
from ledger.rules_v1 import CLAIMED_FUTURE_MS
from ledger.seals import Seal
from ledger.trust import TrustedLedger
from ledger.verdicts import Step, Verdict, VerdictCode

CHECKS: Final = (
    "checkpoint",
    "witnesses",
    "inclusion",
    "seal",
    "status",
    "submission",
    "entitlement",
    "document",
    "attestations",
)
_LAST_MS: Final = 253_402_300_799_999  # the last ms of year 9999


class CheckFailed(Exception):
    """A check failed; ends the run. ``code`` is the verdict that it leads to."""

    def __init__(self, code: VerdictCode, error: SudurError) -> None:
        super().__init__(str(error))
        self.code = code
        self.error = error


@dataclass(slots=True)
class Steps:
    """The checks of one run so far. ``ledger``: the trusted ledger, once it is known."""

    taken: list[Step] = field(default_factory=list)
    ledger: TrustedLedger | None = None

    @contextmanager
    def step(self, name: str, code: VerdictCode) -> Iterator[None]:
        """Turn whatever one of our errors says within into this step's verdict.

        An unknown log key leaves it open: a trust file that is older than the log's new key is no sign of
        forgery.
        """
        try:
            yield
        except LogKeyUnknown as error:
            self.taken.append(Step(name, False, str(error)))
            raise CheckFailed(VerdictCode.CANNOT_TELL, error) from error
        except SudurError as error:
            self.taken.append(Step(name, False, str(error)))
            raise CheckFailed(code, error) from error

    def passed(self, detail: str) -> None:
        """The next check held."""
        self.taken.append(Step(CHECKS[len(self.taken)], True, detail))

    def left_out(self, detail: str) -> None:
        """The next check cannot be made here, and why."""
        self.taken.append(Step(CHECKS[len(self.taken)], None, detail))

    def verdict(self, run: Callable[[], Verdict]) -> Verdict:
        """What ``run`` comes to; where a check in it fails, the verdict that this leads to."""
        try:
            return run()
        except CheckFailed as failed:
            return Verdict(
                code=failed.code,
                reason=str(failed.error),
                steps=tuple(self.taken),
                proven=None,
                origin=None if self.ledger is None else self.ledger.origin,
                training=self.ledger is not None and self.ledger.training,
            )


def check_seal_shape(leaf: bytes, steps: Steps) -> Seal:
    """The SEAL that a checkpoint is said to end in, under rules that this program knows."""
    with steps.step("seal", VerdictCode.NOT_IN_LEDGER):
        seal = Seal.decode(leaf)
    with steps.step("seal", VerdictCode.CANNOT_TELL):
        if seal.rules not in SUPPORTED:
            raise RulesVersionUnknown(
                f"the ledger is under rules version {seal.rules}", fix="update this program and try again"
            )
    return seal


def check_witnesses(
    ledger: TrustedLedger, signed: SignedCheckpoint, seal: Seal, now_ms: int, greatest_age_s: int | None
) -> tuple[int | None, str]:
    """Since when the witness policy is met (None: it asks for nobody), and that in words.

    The last head of a ledger that has ended has no age: nothing newer can come. Raises PolicyUnmet, for a
    clock that is behind as well; SignatureInvalid.
    """
    if now_ms < seal.time_ms - CLAIMED_FUTURE_MS:
        raise PolicyUnmet(
            "this computer's clock is behind the ledger's time", fix="set the clock and try again"
        )
    if ledger.is_final(signed.checkpoint.size):
        greatest_age_s = None
    witnessed = ledger.witnessed(signed, now_s=now_ms // 1000, greatest_age_s=greatest_age_s)
    if witnessed is None:
        age_s = (now_ms - seal.time_ms) // 1000
        if greatest_age_s is not None and age_s > greatest_age_s:
            raise PolicyUnmet(
                f"the proof is {age_s} s old, you accept at most {greatest_age_s} s",
                fix="fetch the current status from a node",
            )
        return None, "the trust file asks for none"
    return witnessed, f"the policy is met since {moment(witnessed * 1000)}"


def check_ledger_record(record: LedgerRecord, ledger: TrustedLedger, signed: SignedCheckpoint) -> None:
    """That a proven ledger record is the trusted ledger's, and lets a key that signed sign at this size.

    Raises CheckpointUntrusted.
    """
    if record.origin != ledger.origin or record.training != ledger.training:
        raise CheckpointUntrusted("the registry is of another ledger")
    names = {(one.name, one.key_id) for one in signed.note.signatures}
    size = signed.checkpoint.size
    listed = set(record.log_keys_at(size))
    signers = [key for key in ledger.keys_at(size) if (key.name, key.key_id) in names]
    if listed.isdisjoint(signers):
        raise CheckpointUntrusted("the log key had ended before it signed this checkpoint")


def moment(time_ms: int) -> str:
    """A time as ``2026-01-31 09:30:00 UTC``; one that no calendar has, as its milliseconds."""
    if time_ms > _LAST_MS:
        return f"{time_ms} ms"
    return datetime.fromtimestamp(time_ms // 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
