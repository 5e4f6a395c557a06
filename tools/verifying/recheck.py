"""What has become of the documents that an office has relied on, asked without saying which they are.

From a node everything is fetched, whatever the journal holds: all chunks of the status list, every agency's
record, and all keys of agencies of which any was reported stolen. So what is asked for tells nobody what was
checked; only how large the log was when something was checked last. From an offline pack nothing is asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from ledger.errors import ProofInvalid, UnknownAgency
from ledger.opened_pack import OpenedPack
from ledger.proofs import prove_consistency, verify_consistency
from ledger.proven_registry import ProvenRegistry
from ledger.proven_status import ProvenStatus
from ledger.records import Basis, Status
from ledger.registry_records import AgencyRecord, KeyRecord
from ledger.resources import CHECKPOINT, LogTiles, Resources
from ledger.signing_policy import ISSUE_KINDS
from ledger.status import chunk_count
from ledger.tiles import TileNodeReader
from ledger.trust import TrustedLedger
from ledger.verdicts import VerdictCode
from tools.verifying.entries import Entry, JournalKey, RecheckBy, Relied

_STATUSES = {
    Status.REVOKED: VerdictCode.REVOKED,
    Status.SUSPENDED: VerdictCode.SUSPENDED,
    Status.SUPERSEDED: VerdictCode.SUPERSEDED,
}
_CHUNK_SPAN = 65_536
_RELIED_ON = (VerdictCode.GENUINE, VerdictCode.GENUINE_EXPIRED, VerdictCode.ATTESTED_COPY)


class Now(Protocol):
    """A ledger's statuses and keys as of one proven checkpoint."""

    @property
    def genesis(self) -> bytes: ...

    @property
    def size(self) -> int: ...

    @property
    def root(self) -> bytes: ...

    @property
    def as_of_ms(self) -> int: ...

    def check_continues(self, size: int, root: bytes) -> None:
        """That it begins with a tree that was relied on, as far as it can show that. Raises ProofInvalid."""
        ...

    def verdict(self, by: RecheckBy) -> VerdictCode:
        """REVOKED, SUSPENDED, SUPERSEDED, DOUBTFUL, or GENUINE for what stands."""
        ...


class FetchedNow:
    """From static resources, all of it. Raises CheckpointUntrusted, PolicyUnmet, ProofInvalid …"""

    def __init__(self, resources: Resources, ledger: TrustedLedger, now_ms: int) -> None:
        registry = ProvenRegistry(resources, ledger, resources.fetch(CHECKPOINT))
        ledger.witnessed(registry.log.signed, now_s=now_ms // 1000, greatest_age_s=None)
        self.genesis = ledger.genesis
        self.size = registry.log.size
        self.root = registry.log.signed.checkpoint.root
        self.as_of_ms = registry.log.seal.time_ms
        self._resources = resources
        self._status = ProvenStatus(resources, registry.log)
        for number in range(chunk_count(self.size)):
            self._status.chunk(number * _CHUNK_SPAN)
        self._agencies = [registry.agency(number) for number in range(1, registry.ledger.agencies + 1)]
        self._keys: dict[int, tuple[KeyRecord, ...]] = {
            one.number: registry.keys(one.number) for one in self._agencies if one.stolen_since is not None
        }

    def check_continues(self, size: int, root: bytes) -> None:
        nodes = TileNodeReader(LogTiles(self._resources), self.size)
        path = prove_consistency(nodes, size, self.size)
        verify_consistency(size, root, self.size, self.root, path)

    def verdict(self, by: RecheckBy) -> VerdictCode:
        status = self._status.status(by.index)
        if status is not Status.VALID:
            return _STATUSES[status]
        if not 1 <= by.agency <= len(self._agencies):
            raise UnknownAgency(f"agency {by.agency} is not enrolled, as of size {self.size}")
        agency = self._agencies[by.agency - 1]
        doubtful = _doubtful(agency, self._keys.get(by.agency, ()), by)
        return VerdictCode.DOUBTFUL if doubtful else VerdictCode.GENUINE


class PackedNow:
    """From a proven offline pack, in which any stolen key of the agency counts."""

    def __init__(self, pack: OpenedPack) -> None:
        self._pack = pack
        self.genesis = pack.ledger.genesis
        self.size = pack.size
        self.root = pack.signed.checkpoint.root
        self.as_of_ms = pack.as_of_ms

    def check_continues(self, size: int, root: bytes) -> None:
        """A pack proves nothing of other sizes than its own, and that is compared anyway."""

    def verdict(self, by: RecheckBy) -> VerdictCode:
        status = self._pack.status(by.index)
        if status is not Status.VALID:
            return _STATUSES[status]
        doubtful = self._pack.doubtful(by.agency, by.index)
        return VerdictCode.DOUBTFUL if doubtful else VerdictCode.GENUINE


def _doubtful(agency: AgencyRecord, keys: tuple[KeyRecord, ...], by: RecheckBy) -> bool:
    """As a light verifier judges it now; for a code any stolen key of its agency counts."""
    if agency.stolen_since is None or agency.affirmed_at(by.index):
        return False
    if by.signed is None:
        return agency.stolen_since <= by.index
    at, numbers = by.signed
    needed = agency.policy.at(at).of(ISSUE_KINDS[Basis(by.basis)]).first_step
    return sum(not keys[number - 1].stolen_at(at) for number in numbers) < needed


@dataclass(frozen=True, slots=True)
class Finding:
    """A document that was relied on, and is not any more what it was."""

    entry: Entry
    now: VerdictCode


@dataclass(slots=True)
class Recheck:
    """What a recheck has come to. ``other``: entries of ledgers that nothing was given for."""

    rechecked: int = 0
    other: int = 0
    unproven: int = 0
    findings: tuple[Finding, ...] = ()


def recheck(entries: Iterable[Entry], key: JournalKey, now: Now) -> Recheck:
    """Hold every entry that relied on this ledger against what it says now.

    Raises JournalProblem for another key's journal; ProofInvalid where the journal has relied on more of the
    ledger than there is now, or on another history of it.
    """
    report = Recheck()
    report.findings = tuple(_findings(entries, key, now, report))
    return report


def _findings(entries: Iterable[Entry], key: JournalKey, now: Now, report: Recheck) -> Iterator[Finding]:
    newest: Relied | None = None
    roots: dict[int, bytes] = {now.size: now.root}
    for entry in entries:
        if entry.relied is None:
            report.unproven += 1
            continue
        if entry.relied.genesis != now.genesis:
            report.other += 1
            continue
        by = key.unseal(entry)
        if entry.relied.size > now.size or by is None:
            raise ProofInvalid(
                f"entry {entry.number} relied on {entry.relied.size} leaves, there are {now.size} now",
                where="journal",
                fix="take a newer source; if there is none, the ledger was set back: report it",
            )
        if roots.setdefault(entry.relied.size, entry.relied.root) != entry.relied.root:
            raise ProofInvalid(
                f"entry {entry.number} relied on another history of {entry.relied.size} leaves",
                where="journal",
                fix="keep the journal and the receipts, and report it: two histories were shown",
            )
        report.rechecked += 1
        newest = entry.relied if newest is None or entry.relied.size > newest.size else newest
        found = now.verdict(by)
        if entry.verdict in _RELIED_ON and found is not VerdictCode.GENUINE:
            yield Finding(entry, found)
    if newest is not None:
        now.check_continues(newest.size, newest.root)
