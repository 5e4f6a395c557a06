"""An agency's signing policy: how many keys must sign, and how much may be logged in a day.

Per *kind* of record there are steps, (records of that kind in that UTC day, those of this
submission included → distinct keys needed), and a daily cap; counting by day means that splitting
a bulk evades neither. A light verifier, which does not know the day's count, checks the first step.
Format: docs/format.md, section Signing policy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from ledger.canonical_json import Json, Reader
from ledger.errors import DailyCapExceeded, FormatError, TooFewSignatures
from ledger.leaves import LeafType
from ledger.records import Basis

DAY_MS: Final = 86_400_000
MAX_STEPS: Final = 8
MAX_DAILY: Final = 2**32 - 1

RecordKind = str
"""``issue.original`` … ``affirm``: what the policy tells apart; ``registry`` for an agency's own changes."""

ISSUE_KINDS: Final[dict[Basis, RecordKind]] = {basis: f"issue.{basis.name.lower()}" for basis in Basis}
RECORD_KINDS: Final[dict[LeafType, RecordKind]] = {
    LeafType.STATUS: "status",
    LeafType.ATTEST: "attest",
    LeafType.SEND: "send",
    LeafType.ANSWER: "answer",
    LeafType.AFFIRM: "affirm",
}
REGISTRY_KIND: Final[RecordKind] = "registry"
ALL_KINDS: Final = frozenset((*ISSUE_KINDS.values(), *RECORD_KINDS.values(), REGISTRY_KIND))


def utc_day(time_ms: int) -> int:
    """The UTC day number of a seal's time."""
    return time_ms // DAY_MS


@dataclass(frozen=True, slots=True)
class KindPolicy:
    """``steps``: (from this many records a day, keys needed), both ascending, the first from 1."""

    steps: tuple[tuple[int, int], ...] = ((1, 1),)
    cap: int | None = None

    def keys_needed(self, daily: int) -> int:
        """Distinct keys needed when the day's count, this submission included, is ``daily``."""
        return max(keys for start, keys in self.steps if start <= max(daily, 1))

    @property
    def first_step(self) -> int:
        return self.steps[0][1]

    def to_json(self) -> Json:
        return {"steps": [list(step) for step in self.steps], "cap": self.cap}

    @classmethod
    def from_json(cls, reader: Reader) -> KindPolicy:
        steps = []
        for item in reader.items("steps", limit=MAX_STEPS):
            if (
                not isinstance(item, list)
                or len(item) != 2
                or any(type(number) is not int or not 1 <= number <= MAX_DAILY for number in item)
                or item[1] > 16
            ):
                raise FormatError(
                    "a step is [from this many records a day, keys needed (1 to 16)]",
                    where=reader.at("steps"),
                )
            steps.append((item[0], item[1]))
        if not steps or steps[0][0] != 1:
            raise FormatError("the first step must start at 1", where=reader.at("steps"))
        if any(a[0] >= b[0] or a[1] >= b[1] for a, b in pairwise(steps)):
            raise FormatError("steps must strictly ascend", where=reader.at("steps"))
        cap = None if reader.any("cap") is None else reader.number("cap", 0, MAX_DAILY)
        reader.done()
        return cls(tuple(steps), cap)


_ONE_KEY: Final = KindPolicy()


@dataclass(frozen=True, slots=True)
class SigningPolicy:
    """Policies by kind; a kind that is not named needs one key and has no cap."""

    kinds: Mapping[RecordKind, KindPolicy] = field(default_factory=dict)

    def of(self, kind: RecordKind) -> KindPolicy:
        return self.kinds.get(kind, _ONE_KEY)

    def check(self, kind: RecordKind, daily: int, keys: int) -> None:
        """Raises TooFewSignatures or DailyCapExceeded; ``daily`` includes this submission."""
        policy = self.of(kind)
        if policy.cap is not None and daily > policy.cap:
            raise DailyCapExceeded(
                f"would make {daily} records of kind {kind} today, the agency's cap is {policy.cap}",
                fix="wait for the next UTC day, or have the cap raised",
            )
        needed = policy.keys_needed(daily)
        if keys < needed:
            raise TooFewSignatures(
                f"{needed} keys must sign {kind} at {daily} records a day, {keys} did",
                fix="have another officer sign the same submission",
            )

    def to_json(self) -> Json:
        return {kind: policy.to_json() for kind, policy in sorted(self.kinds.items())}

    @classmethod
    def from_json(cls, value: Json, where: str) -> SigningPolicy:
        if not isinstance(value, dict):
            raise FormatError("an object by kind of record is expected", where=where)
        unknown = sorted(set(value) - ALL_KINDS)
        if unknown:
            raise FormatError(f"is none of {', '.join(sorted(ALL_KINDS))}", where=f"{where}.{unknown[0]}")
        policy = cls(
            {kind: KindPolicy.from_json(Reader(item, f"{where}.{kind}")) for kind, item in value.items()}
        )
        changes = policy.of(REGISTRY_KIND)
        if len(changes.steps) > 1 or changes.cap is not None:
            raise FormatError(
                "changes are not counted by day: one step, and no cap", where=f"{where}.{REGISTRY_KIND}"
            )
        return policy
