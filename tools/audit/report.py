"""What an audit found, and what it looked at: for a person, and for a script."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

from ledger.canonical_json import Json
from ledger.checkpoints import SignedCheckpoint
from ledger.errors import SudurError
from ledger.state import State
from tools.audit.errors import Interrupted
from tools.describe import moment
from tools.errors import EXIT_CANNOT_TELL, EXIT_NOT_GENUINE, EXIT_OK
from tools.ui import printable


class Severity(IntEnum):
    """How bad, worst first.

    ``LIE``: something is not as it was signed, or was signed and cannot be. ``DOUBT``: it cannot be told.
    ``REMARK``: worth knowing.
    """

    LIE = 1
    DOUBT = 2
    REMARK = 3


_WORDS = {Severity.LIE: "LIE", Severity.DOUBT: "doubt", Severity.REMARK: "remark"}
_VERDICTS = {Severity.LIE: "lie", Severity.DOUBT: "cannot_tell", Severity.REMARK: "clean"}
_EXITS = {Severity.LIE: EXIT_NOT_GENUINE, Severity.DOUBT: EXIT_CANNOT_TELL, Severity.REMARK: EXIT_OK}


@dataclass(frozen=True, slots=True)
class Finding:
    """``code``: a stable word. ``evidence``: the file that proves it to a third person, if there is one."""

    severity: Severity
    code: str
    what: str
    where: str = ""
    fix: str = ""
    evidence: Path | None = None

    @classmethod
    def of(cls, severity: Severity, error: SudurError, evidence: Path | None = None) -> Finding:
        return cls(severity, error.code, error.what, error.where, error.fix, evidence)

    def to_json(self) -> Json:
        return {
            "severity": self.severity.name.lower(),
            "code": self.code,
            "what": self.what,
            "where": self.where,
            "fix": self.fix,
            "evidence": None if self.evidence is None else str(self.evidence),
        }

    def lines(self) -> Iterator[str]:
        where = f"{printable(self.where)}: " if self.where else ""
        yield f"{_WORDS[self.severity]:<7} {self.code}: {where}{printable(self.what)}"
        if self.fix:
            yield f"        {printable(self.fix)}"
        if self.evidence is not None:
            yield f"        evidence: {printable(str(self.evidence))}"


@dataclass(slots=True)
class Checked:
    """What one audit looked at. ``replayed``: in this run; ``size``: in all, this run and those before."""

    size: int = 0
    replayed: int = 0
    blocks: int = 0
    tiles: int = 0
    tiles_missing: int = 0
    checkpoints: int = 0
    status_chunks: int = 0
    registry_records: int = 0
    figures: int = 0
    seconds: float = 0.0

    def to_json(self) -> Json:
        return {name: getattr(self, name) for name in Checked.__slots__}


@dataclass(slots=True)
class Report:
    """One audit of one source. ``signed`` and ``state``: as of which it all was, None when nothing was."""

    source: str
    genesis: bytes
    origin: str
    checked: Checked = field(default_factory=Checked)
    findings: list[Finding] = field(default_factory=list)
    signed: SignedCheckpoint | None = None
    state: State | None = None
    witnessed_s: int | None = None
    now_ms: int = 0

    @property
    def worst(self) -> Severity:
        return min((one.severity for one in self.findings), default=Severity.REMARK)

    @property
    def exit_code(self) -> int:
        return _EXITS[self.worst]

    @property
    def verdict(self) -> str:
        """``clean``, ``lie`` or ``cannot_tell``."""
        return _VERDICTS[self.worst]

    @property
    def is_interrupted(self) -> bool:
        """Whether it was asked to stop."""
        return any(one.code == Interrupted.code for one in self.findings)

    def add(self, severity: Severity, code: str, what: str, *, where: str = "", fix: str = "") -> None:
        self.findings.append(Finding(severity, code, what, where, fix))

    def to_json(self) -> Json:
        return {
            "verdict": self.verdict,
            "source": self.source,
            "genesis": self.genesis.hex(),
            "origin": self.origin,
            "size": self.checked.size,
            "root": None if self.signed is None else self.signed.checkpoint.root.hex(),
            "block": None if self.state is None else self.state.block,
            "sealed_ms": None if self.state is None else self.state.time_ms,
            "witnessed_s": self.witnessed_s,
            "audited_ms": self.now_ms,
            "checkpoint": None if self.signed is None else self.signed.data.decode(),
            "checked": self.checked.to_json(),
            "findings": [one.to_json() for one in sorted(self.findings, key=lambda one: one.severity)],
        }

    def lines(self) -> Iterator[str]:
        """As text."""
        yield f"Audit of {printable(self.origin)} ({self.genesis.hex()[:16]}) at {printable(self.source)}"
        if self.state is None:
            yield "Nothing was replayed."
        else:
            block, sealed = self.state.block, moment(self.state.time_ms)
            yield f"As of size {self.checked.size}, block {block}, sealed {sealed}{self._witnessed()}."
            yield from self._looked_at()
        for one in sorted(self.findings, key=lambda one: one.severity):
            yield from one.lines()
        yield {
            Severity.LIE: "NOT as it was signed: see above.",
            Severity.DOUBT: "It cannot be told whether all is well: see above.",
            Severity.REMARK: "Clean: all of it follows the rules, and is what was signed.",
        }[self.worst]

    def _witnessed(self) -> str:
        if self.witnessed_s is None:
            return ", no witness is asked for"
        return f", witnessed {max(0, self.now_ms // 1000 - self.witnessed_s)} s ago"

    def _looked_at(self) -> Iterator[str]:
        one = self.checked
        rate = f", {one.replayed / one.seconds:,.0f}/s" if one.seconds and one.replayed else ""
        yield f"  replayed now:      {one.replayed} entries, {one.blocks} blocks in {one.seconds:.1f} s{rate}"
        missing = f" ({one.tiles_missing} are not served here)" if one.tiles_missing else ""
        yield f"  tiles compared:    {one.tiles}{missing}"
        yield f"  checkpoints held:  {one.checkpoints}"
        yield f"  status chunks:     {one.status_chunks}"
        yield f"  registry records:  {one.registry_records}"
        yield f"  figures:           {one.figures}"
