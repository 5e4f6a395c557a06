"""What an offline verification left open, kept without the document, and settled when there is a network.

Of a document only its ISSUE leaf is kept, which the log shows to anybody: no field, no seed, no salt. That
is enough to find out whether it stands in the ledger, who signed it, and what became of it.
Format: docs/format.md, section Queue.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ledger.canonical_json import Json, Reader, base64_text, encode, parse, u64_text
from ledger.checks import Steps, check_witnesses, moment
from ledger.errors import (
    FormatError,
    OutOfRange,
    ProofInvalid,
    RuleError,
    TooLarge,
)
from ledger.judging import Asked, judge
from ledger.proven_records import Logged, ProvenRecords
from ledger.proven_registry import ProvenRegistry
from ledger.proven_status import ProvenStatus
from ledger.records import Issue
from ledger.resources import Resources
from ledger.trust import TrustedLedger
from ledger.verdicts import Verdict, VerdictCode

MAX_QUEUE: Final = 4 << 20
MAX_LEFT_OPEN: Final = 10_000
_FORMAT: Final = "sudur-queue/v1"


@dataclass(frozen=True, slots=True)
class LeftOpen:
    """Whether this ISSUE leaf stands at its index of the ledger G, and who signed it.

    ``expired``: the document was past its day when it was looked at. ``asked_ms``: when that was. ``size``:
    of the pack that it was looked up in, so that nothing older settles it.
    """

    genesis: bytes
    index: int
    issue: bytes
    expired: bool
    asked_ms: int
    size: int

    def to_json(self) -> Json:
        return {
            "genesis": base64_text(self.genesis),
            "index": u64_text(self.index),
            "issue": base64_text(self.issue),
            "expired": self.expired,
            "asked_ms": u64_text(self.asked_ms),
            "size": u64_text(self.size),
        }

    @classmethod
    def from_json(cls, reader: Reader) -> LeftOpen:
        found = cls(
            reader.data("genesis", size=32),
            reader.u64("index"),
            reader.data("issue", limit=Issue.LAYOUT.size),
            reader.flag("expired"),
            reader.u64("asked_ms"),
            reader.u64("size"),
        )
        reader.done()
        Issue.decode(found.issue)
        return found


def encode_queue(entries: Sequence[LeftOpen]) -> bytes:
    """Canonical JSON and a newline. Raises TooLarge beyond 10,000 entries."""
    if len(entries) > MAX_LEFT_OPEN:
        raise TooLarge(
            f"more than {MAX_LEFT_OPEN} are left open", where="queue", fix="settle them first, with a network"
        )
    return encode({"format": _FORMAT, "left_open": [one.to_json() for one in entries]}) + b"\n"


def parse_queue(data: bytes) -> tuple[LeftOpen, ...]:
    """Raises FormatError, TooLarge."""
    if not data.endswith(b"\n"):
        raise FormatError("does not end with its newline: it may be cut short", where="queue")
    reader = Reader(parse(data[:-1], limit=MAX_QUEUE, where="queue"), "queue")
    if reader.text("format") != _FORMAT:
        raise FormatError(f"is not {_FORMAT}", where=reader.at("format"))
    found = tuple(LeftOpen.from_json(one) for one in reader.members("left_open", limit=MAX_LEFT_OPEN))
    reader.done()
    return found


class Settling:
    """Settles what was left open, as of one checkpoint; what it needs is fetched as whole tiles and chunks.

    Raises CheckpointUntrusted, ProofInvalid, and what the source raises.
    """

    def __init__(self, resources: Resources, ledger: TrustedLedger, checkpoint: bytes, now_ms: int) -> None:
        self._ledger = ledger
        self._now_ms = now_ms
        self._registry = ProvenRegistry(resources, ledger, checkpoint)
        self._records = ProvenRecords(self._registry, ledger.genesis)
        self._status = ProvenStatus(resources, self._registry.log)

    def verdict(self, left: LeftOpen) -> Verdict:
        """What the network says of it; nothing of the document is in that.

        Raises what the source raises, and nothing for what was left open.
        """
        steps = Steps(ledger=self._ledger)
        return steps.verdict(lambda: self._settle(left, steps))

    def _settle(self, left: LeftOpen, steps: Steps) -> Verdict:
        log, ledger = self._registry.log, self._ledger
        steps.passed(f"signed by {ledger.origin} at {log.size} leaves")
        with steps.step("witnesses", VerdictCode.CANNOT_TELL):
            steps.passed(check_witnesses(ledger, log.signed, log.seal, self._now_ms, None)[1])
        with steps.step("inclusion", VerdictCode.CANNOT_TELL):
            if log.size < left.size:
                raise OutOfRange(
                    f"the node shows {log.size} leaves, the pack had {left.size} already",
                    fix="ask again later, or another node: this one is behind, or was set back",
                )
        with steps.step("inclusion", VerdictCode.NOT_IN_LEDGER):
            if left.index >= log.size:
                with steps.step("inclusion", VerdictCode.CANNOT_TELL):
                    raise OutOfRange(
                        f"the node shows {log.size} leaves, this was logged at index {left.index}",
                        fix="ask again later, or another node",
                    )
            if log.leaf(left.index).leaf != left.issue:
                raise ProofInvalid("what stands at its index is something else", fix="do not rely on it")
            steps.passed(f"logged at index {left.index}")
        steps.passed(f"block {log.seal.block}, {moment(log.seal.time_ms)}")
        status = self._status.status(left.index)
        steps.passed(f"{status.name.lower()} as of {moment(log.seal.time_ms)}")
        logged = self._logged(left.index, steps)
        steps.passed(f"signed {moment(logged.claimed_ms)}, as agency {logged.record.agency} says")
        steps.passed("a key is reported stolen" if logged.doubtful else "entitled to issue this type then")
        steps.left_out("what it says was looked at when the code was read")
        steps.left_out("a code bears none")
        code, reason = judge(
            Asked(self._now_ms),
            status=status,
            doubtful=logged.doubtful,
            expires=None,
            as_of_ms=log.seal.time_ms,
            fields=(),
        )
        if code is VerdictCode.GENUINE and left.expired:
            code, reason = VerdictCode.GENUINE_EXPIRED, "it was past its day when its code was read"
        return Verdict(code, reason, tuple(steps.taken), None, ledger.origin, ledger.training)

    def _logged(self, index: int, steps: Steps) -> Logged[Issue]:
        with steps.step("submission", VerdictCode.NOT_IN_LEDGER):
            try:
                return self._records.issue(index)
            except RuleError:
                with steps.step("entitlement", VerdictCode.NOT_ENTITLED):
                    raise
