"""The agency's monitor: every leaf of the log since the last reading, against the agency's register.

    monitor = Monitor(register, client, resources, ledger, agency, ...)
    report = monitor.read()

One reading goes: the newest checkpoint, which has to extend the one accepted before; the leaves, chunk
by chunk, each proven before it is looked at; what concerns the agency, against the register. What was
found and how far was read are kept in one transaction a chunk: cut off anywhere, the next reading goes on
from there. Memory is bounded by one chunk (tools/monitor/log.py). While leaves are read, officers work on;
the directory is locked only for the moment in which a chunk is judged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from ledger.canonical_json import Json
from ledger.checkpoints import SignedCheckpoint, parse_checkpoint
from ledger.errors import SudurError
from ledger.notes import parse_note
from ledger.proven_registry import ProvenRegistry
from ledger.registry_records import KeyRecord
from ledger.resources import Resources
from ledger.trust import TrustedLedger
from tools.errors import DirectoryInUse, LogAlarm, Unavailable, Usage
from tools.monitor.findings import MAX_WHY, Finding, Findings, Level, Standing
from tools.monitor.habits import BAGHDAD, HOUR_MS, Habits, OfficeHours
from tools.monitor.judge import Judge
from tools.monitor.log import (
    Chunk,
    LogSource,
    check_extends,
    newest_checkpoint,
    proven_chunks,
    tree_at,
)
from tools.monitor.registers import OtherRegister, OwnRegister
from tools.monitor.scan import concerning
from tools.monitor.state import Seen, Tally
from tools.register.store import RESTORED, Register

_SILENT_LOG_MS: Final = 24 * HOUR_MS
_JOURNALLED: Final = 100


@dataclass(frozen=True, slots=True)
class Reading:
    """What is to be reported. ``read_ms``: when this was read; ``agreed_before_ms``: when all had been read
    before, None: never.

    ``size`` and ``root`` are of what was read; ``complete``: up to the newest checkpoint. ``findings`` are
    the open alarms, what was not told yet, and all that was acknowledged.
    """

    agency: int
    origin: str
    start: int
    size: int
    root: bytes
    sealed_ms: int | None
    complete: bool
    read_ms: int
    agreed_ms: int | None
    agreed_before_ms: int | None
    tally: Tally
    findings: tuple[Finding, ...]

    @property
    def alarms(self) -> list[Finding]:
        return [one for one in self.findings if one.is_open_alarm]

    @property
    def news(self) -> list[Finding]:
        """What was not told before."""
        return [one for one in self.findings if not one.told]


@dataclass(frozen=True, slots=True)
class Judging:
    """By what is judged. ``offset`` and ``office``: local time and hours; ``held``: public keys at hand."""

    others: Sequence[OtherRegister] = ()
    offset: int = BAGHDAD
    office: OfficeHours | None = None
    held: frozenset[bytes] = frozenset()


class Monitor:
    """Reads for one agency. ``lock`` keeps other commands away from the register for a moment."""

    def __init__(
        self,
        register: Register,
        source: LogSource,
        resources: Resources,
        ledger: TrustedLedger,
        agency: int,
        judging: Judging,
        lock: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._register = register
        self._own = OwnRegister(register)
        self._keys: dict[int, KeyRecord] = {}
        self._source = source
        self._resources = resources
        self._ledger = ledger
        self._agency = agency
        self._judging = judging
        self._lock = lock

    def read(self, start: int | None = None, advance: Callable[[int], None] = lambda _: None) -> Reading:
        """One reading, up to the newest checkpoint. ``start``: read again from this index, not from where
        the last reading ended; at first from the agency's enrolment.

        What is wrong with the log itself is a finding too, and ends the reading. Raises Usage,
        Unavailable, RegisterProblem, DirectoryInUse, CheckpointUntrusted, PolicyUnmet, FormatError.
        """
        signed = newest_checkpoint(self._source, self._ledger, self._register.now_ms())
        seen = self._load()
        before = None if seen is None else seen.agreed_ms
        complete = False
        try:
            seen = self._begin(seen, signed, start)
            for chunk in proven_chunks(self._source, seen.tree, signed, advance):
                seen = self._take(seen, chunk)
            self._conclude(signed)
            complete = True
        except LogAlarm as alarm:
            self._accuse(alarm)
        return self._reading(complete, before)

    def tell(self, told: Sequence[Finding]) -> None:
        """They were reported, and what was counted since the last report with them."""
        with self._writing() as (seen, findings):
            if seen is None or not (told or seen.tally.leaves):
                return
            findings.tell(told)
            seen.tally = Tally()
            seen.save(self._register)

    # --- the parts of a reading ---

    def _begin(self, seen: Seen | None, signed: SignedCheckpoint, start: int | None) -> Seen:
        """Where to read from, kept, with the newest checkpoint accepted and the register looked through."""
        if seen is not None:
            note = parse_note(seen.checkpoint)  # verified when it was accepted, maybe by a key of then
            accepted = SignedCheckpoint(parse_checkpoint(note.text), seen.checkpoint, note)
            check_extends(self._source, accepted, signed)
            if start is not None and start > seen.tree.size:
                raise Usage(
                    f"everything between {seen.tree.size} and {start} would never be read",
                    where="--from",
                    fix=f"name an index up to {seen.tree.size}, or none",
                )
        if start is not None and start >= signed.checkpoint.size:
            raise Usage(f"the log has {signed.checkpoint.size} leaves", where="--from")
        if seen is None and start is None:
            registry = ProvenRegistry(self._resources, self._ledger, signed.data)
            start = registry.agency(self._agency).enrolled
        self._keys = self._registered(signed)
        self._own = OwnRegister(self._register)
        tree = None if start is None else tree_at(self._resources, start, signed)
        with self._writing() as (stored, findings):
            if (None if stored is None else stored.tree) != (None if seen is None else seen.tree):
                raise _elsewhere()
            if stored is None:
                assert start is not None
                assert tree is not None
                habits = Habits(self._judging.offset, self._judging.office)
                stored = Seen(start, tree, signed.data, 0, {}, 0, start, None, None, 0, Tally(), habits)
            else:
                with self._judging_into(stored, findings) as judge:
                    judge.review()
                if start is not None and tree is not None:
                    stored.start, stored.tree = min(stored.start, start), tree
                    stored.placed = self._own.count(stored.start, start)
            stored.checkpoint = signed.data
            stored.save(self._register)
        return stored

    def _take(self, seen: Seen, chunk: Chunk) -> Seen:
        """Judge a chunk and keep what comes of it."""
        found = concerning(chunk.leaves, chunk.first, self._agency)
        with self._writing() as (stored, findings):
            if stored is None or stored.tree != seen.tree:
                raise _elsewhere()
            with self._judging_into(stored, findings) as judge:
                judge.take(chunk, found)
            stored.save(self._register)
        return stored

    def _conclude(self, signed: SignedCheckpoint) -> None:
        """All was read: note when, and whether the log itself has been silent for long. A register that was
        restored and lacks nothing logs again.
        """
        now_ms = self._register.now_ms()
        with self._writing() as (stored, findings):
            if stored is None or stored.tree.size != signed.checkpoint.size:
                raise _elsewhere()
            if stored.sealed_ms is not None and now_ms - stored.sealed_ms > _SILENT_LOG_MS:
                hours = (now_ms - stored.sealed_ms) // HOUR_MS
                facts: dict[str, Json] = {"sealed_ms": stored.sealed_ms, "hours": hours}
                findings.put_once(
                    Level.WARNING, "LOG_SILENT", f"LOG_SILENT {stored.sealed_ms} {hours // 24}", None, facts
                )
                stored.findings = len(findings)
            if not findings.alarms():
                self._register.drop_fact(RESTORED)
            stored.agreed_ms = now_ms
            stored.save(self._register)

    def _accuse(self, alarm: LogAlarm) -> None:
        """Keep what the node did, with the checkpoints that say so."""
        digest = sha256(b"".join(alarm.evidence)).hexdigest()
        with self._writing() as (stored, findings):
            if stored is None:
                raise alarm  # at the very first reading there is nothing yet to keep it with
            facts: dict[str, Json] = {
                "what": alarm.what,
                "where": alarm.where,
                "evidence": [one.decode("utf-8", "replace") for one in alarm.evidence],
            }
            found = findings.put(Level.ALARM, alarm.code, f"{alarm.code} {digest[:16]}", None, facts)
            stored.findings = len(findings)
            self._journal([] if found is None else [found])
            stored.save(self._register)

    def _journal(self, alarms: Sequence[Finding]) -> None:
        if alarms:
            detail: dict[str, Json] = {
                "findings": [one.number for one in alarms[:_JOURNALLED]],
                "codes": sorted({one.code for one in alarms}),
                "number": len(alarms),
            }
            self._register.journal.write("-", "alarm", detail)

    @contextmanager
    def _judging_into(self, seen: Seen, findings: Findings) -> Iterator[Judge]:
        """A judge; the alarms that it raises are journalled."""
        known = len(findings)
        yield Judge(
            self._ledger.genesis,
            self._agency,
            self._own,
            self._judging.others,
            self._keys,
            self._judging.held,
            seen,
            findings,
        )
        self._journal([one for one in findings.alarms() if one.number > known])

    def _registered(self, signed: SignedCheckpoint) -> dict[int, KeyRecord]:
        """The agency's keys; none when they cannot be had: an alarm without labels is still an alarm."""
        try:
            registry = ProvenRegistry(self._resources, self._ledger, signed.data)
            return {key.number: key for key in registry.keys(self._agency)}
        except SudurError:
            return {}

    # --- what is kept ---

    def _load(self) -> Seen | None:
        return Seen.load(self._register, self._judging.offset, self._judging.office)

    @contextmanager
    def _writing(self) -> Iterator[tuple[Seen | None, Findings]]:
        """What is kept, as it is now, while nobody else writes."""
        with self._lock(), self._register.transaction():
            seen = self._load()
            yield seen, Findings(self._register, 0 if seen is None else seen.findings)

    def _reading(self, complete: bool, before: int | None) -> Reading:
        seen = self._load()
        if seen is None:
            raise Unavailable("nothing was read yet", where="log")
        findings = Findings(self._register, seen.findings)
        shown = [
            one
            for one in findings.all()
            if one.is_open_alarm or not one.told or one.standing is Standing.ACKNOWLEDGED
        ]
        return Reading(
            self._agency,
            self._ledger.origin,
            seen.start,
            seen.tree.size,
            seen.tree.root(),
            seen.sealed_ms,
            complete,
            self._register.now_ms(),
            seen.agreed_ms,
            before,
            seen.tally,
            tuple(shown),
        )


def acknowledge(register: Register, indexes: Sequence[int], log: bool, why: str) -> list[Finding]:
    """Alarms about these indexes, and with ``log`` those about the log itself, are alarms no more.

    It is journalled. The caller holds the directory's lock. Raises Usage for an index without an alarm.
    """
    if not why.strip() or len(why) > MAX_WHY:
        raise Usage(f"say why, in up to {MAX_WHY} letters", where="--why")
    with register.transaction():
        seen = Seen.load(register, 0, None)
        findings = Findings(register, 0 if seen is None else seen.findings)
        chosen = []
        for index in indexes:
            about = [one for one in findings.alarms() if one.index == index]
            if not about:
                raise Usage("there is no open alarm about this index", where=str(index))
            chosen += about
        if log:
            chosen += [one for one in findings.alarms() if one.index is None]
            if not chosen:
                raise Usage("there is no open alarm about the log or the register", where="--log")
        settled = [findings.settle(one, Standing.ACKNOWLEDGED, why) for one in chosen]
        detail: dict[str, Json] = {
            "findings": [one.number for one in chosen[:_JOURNALLED]],
            "indexes": [str(index) for index in indexes[:_JOURNALLED]],
            "number": len(chosen),
            "why": why,
        }
        register.journal.write("-", "acknowledge", detail)
    return settled


def _elsewhere() -> DirectoryInUse:
    return DirectoryInUse(
        "another reconciliation went on meanwhile", where="register", fix="give the command again"
    )
