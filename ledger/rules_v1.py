"""Rules version 1: what a block may hold.

A :class:`Draft` takes submissions and registry changes one by one; each is either added whole or
refused with a named error and leaves the draft as it was. Sealing gives the block and everything
that it changes. Nothing here reads a clock: the block's time comes in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ledger.changes import AUTHORITY, LEDGER, Genesis, Subject
from ledger.errors import (
    AgencySuspended,
    BlockRefused,
    ClaimedTimeOutsideWindow,
    DuplicateIssue,
    KeyEnded,
    KeyUnknown,
    KeyUse,
    LedgerClosed,
    NotEntitled,
    SubmissionRepeated,
    TooFewSignatures,
    TypeNotPermitted,
)
from ledger.figures import Metric, Tally
from ledger.hashing import leaf_hash
from ledger.leaves import NONE
from ledger.merkle_list import MerkleList
from ledger.records import Attest, Send, StatusChange
from ledger.registry import Registry
from ledger.registry_changes import amend, refuse_when_closed, usable_key
from ledger.registry_leaf import RegistryLeaf
from ledger.registry_records import Agency
from ledger.rules_v1_records import Edits, RecordRules
from ledger.seals import Seal
from ledger.signatures import key_fingerprint, verify
from ledger.signing_policy import ISSUE_KINDS, RECORD_KINDS, RecordKind, utc_day
from ledger.state import Reader, State, Transition
from ledger.status import EMPTY_CHUNK, chunk_of, grown, write_status
from ledger.submissions import IssueColumns, KeySignature, Submission

VERSION: Final = 1
MAX_BLOCK_LEAVES: Final = 65_536
MAX_BLOCK_BYTES: Final = 8 << 20
CLAIMED_PAST_MS: Final = 7 * 86_400_000
CLAIMED_FUTURE_MS: Final = 5 * 60_000
_SEAL_ROOM: Final = 101 + 2


class Draft:
    """The block after ``state``, being put together. Not safe to share between threads."""

    def __init__(self, state: State, reader: Reader, time_ms: int) -> None:
        if time_ms <= state.time_ms:
            raise BlockRefused(
                f"a seal's time, {time_ms}, must be later than the one before it, {state.time_ms}"
            )
        self._before = state
        self._reader = reader
        self.time_ms = time_ms
        self._day = utc_day(time_ms)
        self.registry: Registry = state.registry
        self.leaves: list[bytes] = []
        self._hashes: list[bytes] = []
        self._bytes = 0
        self._documents = state.documents
        self._issues: dict[bytes, int] = {}
        self._submissions: dict[tuple[int, bytes], int] = {}
        self._daily: dict[tuple[int, RecordKind, int], int] = {}
        self._edits = Edits()
        self._tally = Tally(time_ms)
        self._subjects: set[Subject] = set()

    @property
    def next_index(self) -> int:
        return self._before.size + len(self.leaves)

    def fits(self, leaves: int, size: int) -> bool:
        """Whether that many more leaves, of that many bytes in all, leave room for the seal."""
        room = MAX_BLOCK_BYTES - self._bytes - _SEAL_ROOM
        return len(self.leaves) + leaves < MAX_BLOCK_LEAVES and size + 2 * leaves <= room

    # --- registry changes ---

    def add_change(self, leaf: bytes) -> int:
        """Add a REGISTRY leaf; returns its index. Raises RuleError, FormatError, SignatureInvalid."""
        index = self.next_index
        decoded = RegistryLeaf.decode(leaf)
        self._require_room(1, len(leaf))
        self._require_open(1)
        before, after = self.registry, amend(self.registry, decoded, index, self._before.block + 1)
        self.registry = after
        self._subjects |= _touched(before, after)
        self._append([leaf], [leaf_hash(leaf)], len(leaf))
        return index

    # --- submissions ---

    def add_submission(self, submission: Submission) -> int:
        """Add a submission with its records; returns the SUBMISSION's index.

        Costs one signature check a key (about 50 µs) and about 1 µs an ISSUE. Raises RuleError or
        SignatureInvalid, with the record named where one is at fault.
        """
        head, index = submission.head, self.next_index
        self._require_room(1 + head.count, submission.size)
        self._check_claimed_time(head.claimed_ms)
        identity = head.identity(self._before.genesis)
        self._check_repeated((head.claimed_ms, identity))
        self._require_open(1 + head.count)
        self._check_nothing_new(submission)
        if head.agency == AUTHORITY:
            self._check_authority(submission)
            agency = None
        else:
            agency = self.registry.agency(head.agency)
            self._check_agency(agency, submission, index)
        counts = self._count(submission)
        if agency is not None:
            policy = agency.record.policy.latest
            for (_, kind, _), total in counts.items():
                policy.check(kind, total, len(head.signatures))
        issues = self._check_issues(agency, head.agency, submission.issues, index + 1)
        others = self._check_others(submission, index)

        self._issues.update(issues)
        self._documents += len(issues)
        for (document_type, basis), number in submission.issues.grounds.items():
            self._tally.add(self.registry, head.agency, Metric.DOCUMENTS, document_type, basis, number)
        if others is not None:
            self._take_over(others)
        self._daily.update(counts)
        self._submissions[head.claimed_ms, identity] = index
        hashes = [leaf_hash(submission.leaf), *submission.record_hashes]
        self._append(submission.leaves, hashes, submission.size)
        return index

    def _require_room(self, leaves: int, size: int) -> None:
        if not self.fits(leaves, size):
            raise BlockRefused(f"a block holds at most {MAX_BLOCK_LEAVES} leaves and {MAX_BLOCK_BYTES} bytes")

    def _require_open(self, leaves: int) -> None:
        """That so many leaves, and the seal, stand below the size at which the log ends, if it does."""
        end, closed = self.registry.ledger.end, self.registry.ledger.closed
        if end is not None and closed is not None and self.next_index + leaves + 1 > end:
            raise LedgerClosed(
                f"the ledger ends with {end} leaves",
                fix=f"use the ledger that follows it, {closed.origin} ({closed.genesis.hex()[:16]})",
            )

    def _check_nothing_new(self, submission: Submission) -> None:
        """What stands in a closed ledger can still be revoked, affirmed and answered; nothing is added."""
        if self.registry.ledger.closed is None:
            return
        if submission.issues.keys or any(isinstance(one, Attest | Send) for _, one in submission.others):
            refuse_when_closed(self.registry, "nothing is issued, attested or sent")

    def _check_claimed_time(self, claimed_ms: int) -> None:
        if claimed_ms < self.time_ms - CLAIMED_PAST_MS:
            raise ClaimedTimeOutsideWindow(
                f"made at {claimed_ms} ms, more than 7 days before the block's time {self.time_ms}",
                fix="make and sign the submission again, with the time of now",
            )
        if claimed_ms > self.time_ms + CLAIMED_FUTURE_MS:
            raise ClaimedTimeOutsideWindow(
                f"made at {claimed_ms} ms, more than 5 minutes after the block's time {self.time_ms}",
                fix="set the clock of the computer that signs",
            )

    def _check_repeated(self, key: tuple[int, bytes]) -> None:
        first = self._submissions.get(key)
        if first is None:
            first = self._reader.find_submission(*key)
        if first is not None:
            raise SubmissionRepeated(f"this submission is in the ledger, at index {first}", index=first)

    def _check_authority(self, submission: Submission) -> None:
        if submission.issues.keys or any(
            not isinstance(record, StatusChange) for _, record in submission.others
        ):
            raise NotEntitled("the authority itself submits status changes only")
        ledger = self.registry.ledger
        if len(submission.head.signatures) < ledger.k:
            raise TooFewSignatures(
                f"{ledger.k} authority keys must sign, {len(submission.head.signatures)} did"
            )
        for one in submission.head.signatures:
            key = ledger.authority_key(one.number)
            if key is None:
                raise KeyUnknown(f"the authority has no key {one.number}")
            if key.ended is not None:
                raise KeyEnded(f"the authority's key {one.number} ended at index {key.ended}")
            self._verify(submission, one, key.algorithm, key.public_key)

    def _check_agency(self, agency: Agency, submission: Submission, index: int) -> None:
        if agency.record.suspended.latest is not None:
            raise AgencySuspended(
                f"agency {agency.record.number} is suspended",
                fix="ask the authority, or the agency above, to reinstate it",
            )
        for one in submission.head.signatures:
            key = usable_key(agency, one.number, "submit", index)
            self._verify(submission, one, key.algorithm, key.public_key)

    def _verify(self, submission: Submission, one: KeySignature, algorithm: int, public_key: bytes) -> None:
        if one.algorithm != algorithm:
            raise KeyUse(f"key {one.number} is of algorithm {algorithm}, its signature of {one.algorithm}")
        message = submission.head.message(self._before.genesis, key_fingerprint(algorithm, public_key))
        verify(algorithm, public_key, message, one.signature)

    def _count(self, submission: Submission) -> dict[tuple[int, RecordKind, int], int]:
        """The day's totals by kind with this submission included."""
        numbers: dict[RecordKind, int] = {}
        for (_, basis), number in submission.issues.grounds.items():
            kind = ISSUE_KINDS[basis]
            numbers[kind] = numbers.get(kind, 0) + number
        for _, record in submission.others:
            kind = RECORD_KINDS[record.TYPE]
            numbers[kind] = numbers.get(kind, 0) + 1
        totals = {}
        for kind, number in numbers.items():
            key = (submission.head.agency, kind, self._day)
            so_far = self._daily.get(key)
            totals[key] = number + (self._reader.daily_count(*key) if so_far is None else so_far)
        return totals

    # --- ISSUE ---

    def _check_issues(
        self, agency: Agency | None, number: int, issues: IssueColumns, first: int
    ) -> dict[bytes, int]:
        keys = issues.keys
        if agency is None or not keys:
            return {}
        roles, types = agency.record.roles.latest, agency.record.types.latest
        if "issue" not in roles:
            raise NotEntitled(f"agency {number} does not have the role issue")
        for document_type, _ in issues.grounds:
            if document_type not in types:
                raise TypeNotPermitted(
                    f"agency {number} may not issue documents of type {document_type}",
                    fix=f"it may issue types {', '.join(map(str, types)) or 'none'}",
                )
        fresh = dict(zip(keys, map(first.__add__, issues.positions), strict=True))
        if len(fresh) != len(keys) or not self._issues.keys().isdisjoint(fresh):
            self._name_duplicate(keys, issues.positions)
        earlier = self._reader.find_issues(keys)
        if earlier.count(None) != len(keys):
            for position, index in zip(issues.positions, earlier, strict=True):
                if index is not None:
                    raise _duplicate(position, index)
        return fresh

    def _name_duplicate(self, keys: Sequence[bytes], positions: Sequence[int]) -> None:
        seen: dict[bytes, int] = {}
        for position, key in zip(positions, keys, strict=True):
            earlier = self._issues.get(key)
            if earlier is not None:
                raise _duplicate(position, earlier)
            if key in seen:
                # Neither of the two is in the ledger: there is no index that could be looked up.
                raise DuplicateIssue(
                    f"has the same commitment as record {seen[key]}",
                    index=NONE,
                    where=f"record {position}",
                    fix="send each document once",
                )
            seen[key] = position

    # --- the other records ---

    def _check_others(self, submission: Submission, index: int) -> RecordRules | None:
        if not submission.others:
            return None
        rules = RecordRules(
            submission,
            index,
            self.registry,
            self._reader,
            self._leaf,
            self._before.size,
            self._edits,
            self.time_ms,
        )
        rules.check()
        return rules

    def _leaf(self, index: int) -> bytes:
        start = self._before.size
        return self._reader.leaf(index) if index < start else self.leaves[index - start]

    def _take_over(self, rules: RecordRules) -> None:
        self._edits.update(rules.own)
        self._tally.figures.update(rules.tally.figures)
        if rules.registry is not self.registry:
            self._subjects |= _touched(self.registry, rules.registry)
            self.registry = rules.registry

    # --- sealing ---

    def _append(self, leaves: Sequence[bytes], hashes: list[bytes], size: int) -> None:
        self.leaves += leaves
        self._hashes += hashes
        self._bytes += size + 2 * len(leaves)

    def seal(self) -> Transition:
        """End the block, which may hold nothing but its seal. Raises LedgerClosed where the log has ended."""
        self._require_open(0)
        before, index = self._before, self.next_index
        chunks = grown(before.status, index + 1)
        edited: dict[int, bytearray] = {}
        for subject, (_, status) in self._edits.statuses.items():
            number = chunk_of(subject)
            if number not in edited:
                known = number < len(before.status)
                edited[number] = bytearray(self._reader.status_chunk(number) if known else EMPTY_CHUNK)
            write_status(edited[number], subject, status)
        for number, chunk in edited.items():
            chunks = chunks.set(number, leaf_hash(bytes(chunk)))
        state = State(
            registry=self.registry,
            block=before.block + 1,
            seal_index=index,
            time_ms=self.time_ms,
            documents=self._documents,
            status=chunks,
        )
        leaf = _seal_of(state, before.seal_index)
        return Transition(
            before=before,
            state=state,
            leaves=(*self.leaves, leaf),
            leaf_hashes=(*self._hashes, leaf_hash(leaf)),
            issues=self._issues,
            submissions=self._submissions,
            daily=self._daily,
            statuses={subject: last for subject, (last, _) in self._edits.statuses.items()},
            status_chunks={number: bytes(chunk) for number, chunk in edited.items()},
            subjects=frozenset(self._subjects),
            attests=self._edits.attests,
            exchanges=self._edits.exchanges,
            attested=tuple(self._edits.attested),
            sends=tuple(self._edits.sends),
            figures={key: count for key, count in self._tally.figures.items() if count},
        )


def seal_genesis(registry: Registry, leaf: bytes) -> Transition:
    """Block 0: the genesis leaf, of which ``registry`` was made, and its seal."""
    body = RegistryLeaf.decode(leaf).change().body
    if not isinstance(body, Genesis):
        raise BlockRefused("leaf 0 is no genesis")
    state = State(
        registry=registry,
        block=0,
        seal_index=1,
        time_ms=body.time_ms,
        documents=0,
        status=grown(MerkleList(), 2),
    )
    seal = _seal_of(state, NONE)
    return Transition(
        before=None,
        state=state,
        leaves=(leaf, seal),
        leaf_hashes=(leaf_hash(leaf), leaf_hash(seal)),
        issues={},
        submissions={},
        daily={},
        statuses={},
        status_chunks={},
        subjects=frozenset((LEDGER,)),
    )


def _seal_of(state: State, previous: int) -> bytes:
    return Seal(
        rules=VERSION,
        block=state.block,
        time_ms=state.time_ms,
        previous=previous,
        documents=state.documents,
        status_root=state.status.root,
        registry_root=state.registry.root,
    ).encode()


def _touched(before: Registry, after: Registry) -> set[Subject]:
    """The subjects whose records a change has altered."""
    subjects = {LEDGER} if before.ledger is not after.ledger else set()
    subjects |= {
        Subject("agency", number)
        for number, agency in after.agencies.items()
        if before.agencies.get(number) is not agency
    }
    subjects |= {Subject("type", number) for number in after.types if number not in before.types}
    return subjects


def _duplicate(position: int, index: int) -> DuplicateIssue:
    return DuplicateIssue(
        f"this commitment was issued before, at index {index}",
        index=index,
        where=f"record {position}",
        fix="it is in the ledger already: do not issue it again",
    )
