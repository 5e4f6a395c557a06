"""One round of an audit: from a source's newest checkpoint to a report. Whoever follows a log runs many."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from ledger.checkpoints import SignedCheckpoint
from ledger.errors import (
    CheckpointUntrusted,
    FormatError,
    PolicyUnmet,
    RulesVersionUnknown,
    SignatureInvalid,
    SudurError,
    VerificationError,
)
from ledger.resources import CHECKPOINT, Resources, checkpoint_path
from ledger.state import State
from tools.audit.accusing import keep_evidence
from tools.audit.backup_source import BackupResources
from tools.audit.engine import AuditedLog, Feed, Watch
from tools.audit.errors import LogLied, NotServed, ServedWrong, StateDamaged
from tools.audit.feed import fetched, portions
from tools.audit.report import Finding, Report, Severity
from tools.audit.served_state import ServedFigures, ServedState
from tools.errors import AnswerWrong, CannotTell, FileProblem, NotFound, Unavailable

CLOCK_MS: Final = 5 * 60_000
"""How far a new seal's time may be from this machine's clock."""
_HELD: Final = 256
"""So many checkpoints of earlier sizes are asked for in a round."""
_UNSURE: Final = (
    Unavailable,
    CannotTell,
    CheckpointUntrusted,
    RulesVersionUnknown,
    FileProblem,
    NotFound,
    NotServed,
    # What a proxy says, or a page to log in at, comes with nobody's signature.
    AnswerWrong,
    FormatError,
)


class Source(Resources, Protocol):
    """Where a round reads. ``name``: as the person gave it."""

    name: str

    def close(self) -> None: ...


class Rounds:
    """Audits of one source, one after another, in one open directory."""

    def __init__(
        self,
        log: AuditedLog,
        source: Source,
        *,
        clock_ms: Callable[[], int],
        feed: Feed = portions,
        watch: Watch | None = None,
        greatest_age_s: int | None = None,
        figures_every_s: float = 0.0,
    ) -> None:
        """``greatest_age_s``: how old the cosignatures may be at most that a policy asks for.

        ``figures_every_s``: figures are asked for no more often than this, since a server has to read them
        all; everything else is compared in every round.
        """
        self._log = log
        self._source = source
        self._clock_ms = clock_ms
        self._feed = feed
        self._watch = watch or Watch()
        self._greatest_age_s = greatest_age_s
        self._served = ServedState(source)
        self._held: set[int] = set()
        self._looked_ms: int | None = None
        self._figures_every_s = figures_every_s
        self._figures_s = float("-inf")

    @property
    def source(self) -> str:
        return self._source.name

    @property
    def size(self) -> int:
        """Leaves replayed."""
        return self._log.size

    @property
    def head_size(self) -> int:
        """Leaves of the greatest checkpoint that was ever seen."""
        newest = self._log.heads.newest()
        return 0 if newest is None else newest.checkpoint.size

    def run(self) -> Report:
        """All checks, as of the newest checkpoint. Raises StateDamaged and OSError; all else is reported."""
        log = self._log
        began = time.monotonic()
        report = Report(self._source.name, log.trusted.genesis, log.trusted.origin, now_ms=self._clock_ms())
        before = log.tiles
        try:
            self._audit(report)
            self._name_tiles(report, log.tiles.differing[len(before.differing) :])
        except LogLied as error:
            report.findings.append(Finding.of(Severity.LIE, error, keep_evidence(log, error, self._source)))
        except StateDamaged:
            raise
        except _UNSURE as error:
            report.findings.append(Finding.of(Severity.DOUBT, error))
        except (ServedWrong, VerificationError) as error:
            report.findings.append(Finding.of(Severity.LIE, error))
        checked = report.checked
        checked.tiles = log.tiles.compared - before.compared
        checked.tiles_missing = log.tiles.missing - before.missing
        checked.seconds = time.monotonic() - began
        checked.size, report.state = log.size, log.state
        return report

    def _name_tiles(self, report: Report, differing: Sequence[str]) -> None:
        """Tiles that are not what the entries make them, now that these are known to be right."""
        for path in differing:
            report.add(
                Severity.LIE,
                "SERVED_WRONG",
                "the tile is not what the entries make it",
                where=path,
                fix="ask another server; and tell the operator of this one",
            )

    def _audit(self, report: Report) -> None:
        log = self._log
        known = log.heads.newest()
        signed = self._newest()
        report.signed = signed
        self._judge_age(report, known, signed)
        state = self._advance(report, signed, Watch())
        has_more = not isinstance(self._source, BackupResources)  # a backup is the log, and nothing else
        if has_more and time.monotonic() - self._figures_s >= self._figures_every_s:
            state, signed = self._compare_figures(report, state, signed)
            self._figures_s = time.monotonic()
        for beyond in log.check_heads():
            if self._is_shown(beyond.signed):
                continue  # signed, and not yet witnessed: the newest that is published is older
            report.add(
                Severity.DOUBT,
                "STALE",
                f"a checkpoint of {beyond.size} leaves was seen before, and is not shown here",
                where=f"size {beyond.size}",
                fix="ask again later, or another server: this one may be behind, or hide the rest",
            )
        self._hold_past(report)
        self._judge_witnesses(report, signed)
        if log.size == signed.checkpoint.size and has_more:
            report.checked.status_chunks, wrong = self._served.status(log, state)
            report.findings += wrong
            report.checked.registry_records, wrong = self._served.registry(state)
            report.findings += wrong

    def _compare_figures(
        self, report: Report, state: State, signed: SignedCheckpoint
    ) -> tuple[State, SignedCheckpoint]:
        """Compare them at the sizes that they are as of; returns where the audit stands then."""
        log = self._log
        figures = ServedFigures(self._source, len(state.registry.agencies))
        figures.compare(log, state)
        if figures.greatest > log.size:
            newer = self._newest()
            if newer.checkpoint.size > log.size:
                state = self._advance(report, newer, Watch(block=lambda at: figures.compare(log, at)))
                report.signed = signed = newer
        figures.finish(log)
        report.checked.figures = figures.compared
        report.findings += figures.findings
        return state, signed

    def _newest(self) -> SignedCheckpoint:
        return self._log.open_note(self._source.fetch(CHECKPOINT))

    def _is_shown(self, signed: SignedCheckpoint) -> bool:
        """Whether it is served by its size, as what was signed and not published is."""
        try:
            shown = self._log.open_note(self._source.fetch(checkpoint_path(signed.checkpoint.size)))
        except (VerificationError, FormatError, NotFound, AnswerWrong):
            return False
        return shown.checkpoint == signed.checkpoint

    # --- time ---

    def _judge_age(self, report: Report, known: SignedCheckpoint | None, signed: SignedCheckpoint) -> None:
        size = signed.checkpoint.size
        if known is not None and size < known.checkpoint.size <= self._log.size:
            report.add(
                Severity.DOUBT,
                "STALE",
                f"its newest checkpoint is of {size} leaves, one of {known.checkpoint.size} was seen before",
                where=CHECKPOINT,
                fix="ask again later, or another server: this one may be behind, or hide the rest",
            )

    def _advance(self, report: Report, signed: SignedCheckpoint, also: Watch) -> State:
        """Replay, and hold the times of new seals against the clock.

        Blocks that were not there when this source was last looked at cannot be older than that look.
        """
        log, outer = self._log, self._watch
        first: list[State] = []

        def block(state: State) -> None:
            report.checked.blocks += 1
            if not first:
                first.append(state)
            also.block(state)
            outer.block(state)

        def moved(more: int) -> None:
            report.checked.replayed += more
            outer.moved(more)

        looked_ms, now_ms = self._looked_ms, self._clock_ms()
        state = log.advance(
            self._source,
            signed,
            watch=Watch(toward=outer.toward, moved=moved, block=block, stop=outer.stop),
            feed=self._feed,
        )
        if first and looked_ms is not None and first[0].time_ms < looked_ms - CLOCK_MS:
            report.add(
                Severity.DOUBT,
                "SEAL_TIME",
                f"a block that was not there {(now_ms - looked_ms) // 1000} s ago is sealed"
                f" {(looked_ms - first[0].time_ms) // 1000} s before that",
                where=f"block {first[0].block}",
                fix="check this machine's clock; else the operator has dated a block back, or held it back",
            )
        if state.time_ms > self._clock_ms() + CLOCK_MS:
            report.add(
                Severity.DOUBT,
                "SEAL_TIME",
                f"its seal is {(state.time_ms - self._clock_ms()) // 1000} s ahead of this machine's clock",
                where=f"block {state.block}",
                fix="check this machine's clock; else the operator's is wrong",
            )
        if log.size == signed.checkpoint.size:
            self._looked_ms = now_ms
        return state

    def _judge_witnesses(self, report: Report, signed: SignedCheckpoint) -> None:
        try:
            report.witnessed_s = self._log.trust.witnessed(
                signed, now_s=self._clock_ms() // 1000, greatest_age_s=self._greatest_age_s
            )
        except PolicyUnmet as error:
            report.findings.append(Finding.of(Severity.DOUBT, error))
        except SignatureInvalid as error:
            report.findings.append(Finding.of(Severity.LIE, error))

    # --- what was signed before ---

    def _hold_past(self, report: Report) -> None:
        """Ask for the checkpoints of earlier sizes: whatever is signed there must be what was replayed."""
        log = self._log
        sizes = [one.size for one in log.heads.all if one.size <= log.size and one.size not in self._held]
        sizes = list(dict.fromkeys(sizes))[-_HELD:]
        for size, note in zip(sizes, fetched(self._source, map(checkpoint_path, sizes)), strict=True):
            if isinstance(note, NotFound):
                continue
            try:
                signed = log.open_note(note)
            except SudurError as error:
                report.findings.append(Finding.of(Severity.LIE, error))
                continue
            log.see(signed)
            report.checked.checkpoints += 1
            self._held.add(size)
