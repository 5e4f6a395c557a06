"""Who may put, get and drop an envelope, and whether a submission may name one.

Every request is signed by a submit key of the agency that asks. An enrolled agency puts what it likes,
to any key that is registered for envelopes and in use, up to its share of the space. The agency in the
header gets and drops it, or a successor; who put it may get it too.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from ledger.envelopes import REQUEST_WINDOW_MS, Envelope, Verb, digest_of, request_message
from ledger.errors import (
    AgencySuspended,
    ClaimedTimeOutsideWindow,
    EnvelopeMissing,
    EnvelopeWrongRecipient,
    FormatError,
    NotEntitled,
    SudurError,
)
from ledger.hashing import HASH_SIZE
from ledger.leaves import LeafType
from ledger.records import MAX_RECORDS, NO_HASH, Answer, Issue, Send, parse_record
from ledger.registry import Registry
from ledger.registry_changes import usable_key
from ledger.signatures import key_fingerprint, verify
from ledger.submissions import SubmissionLeaf, open_submission, unpack
from node.config import EnvelopeLimits
from node.disk import free_bytes
from node.errors import DiskFull, EnvelopeQuota, NotFound
from node.ledger_copy import LedgerCopy
from node.letters.envelope_store import EnvelopeStore
from node.metrics import Metrics

_ISSUE_STRIDE: Final = 2 + Issue.LAYOUT.size
_TYPE_AT: Final = 3


@dataclass(frozen=True, slots=True)
class Authorization:
    """Who asks: the agency, which of its submit keys signed, when, and the signature."""

    agency: int
    key_number: int
    time_ms: int
    signature: bytes


@dataclass(frozen=True, slots=True)
class Kept:
    """An envelope that is held, and until when, as things stand."""

    digest: bytes
    until_ms: int


class Letters(Protocol):
    """What the doors ask of whoever keeps envelopes: :class:`Envelopes`, or a mirror, which keeps none."""

    def put(self, asked: Authorization, data: bytes) -> Kept:
        """See :class:`Envelopes`."""

    def get(self, asked: Authorization, digest: bytes) -> bytes:
        """See :class:`Envelopes`."""

    def drop(self, asked: Authorization, digest: bytes) -> bool:
        """See :class:`Envelopes`."""

    def check_named(self, leaf: bytes, packed: bytes) -> None:
        """See :class:`Envelopes`."""


class Envelopes:
    """The node's envelopes, as its callers see them. Blocks for a disk access: not for an event loop."""

    def __init__(
        self,
        copy: LedgerCopy,
        store: EnvelopeStore,
        limits: EnvelopeLimits,
        metrics: Metrics,
        *,
        data_dir: Path,
        disk_floor: int,
        wall_ms: Callable[[], int],
    ) -> None:
        self._copy = copy
        self._store = store
        self._limits = limits
        self._metrics = metrics
        self._data_dir = data_dir
        self._disk_floor = disk_floor
        self._wall_ms = wall_ms
        self._putting = threading.Lock()

    # --- the three requests ---

    def put(self, asked: Authorization, data: bytes) -> Kept:
        """Keep an envelope. The same again: the same answer, and an orphan's hour begins anew.

        Raises TooLarge, EnvelopeFormatError, and as :meth:`check`; UnknownAgency, KeyUnknown, KeyUse,
        KeyEnded, KeyStolen for the key that it is sealed to; EnvelopeQuota, DiskFull, ReadOnly.
        """
        envelope = Envelope.decode(data)
        digest = digest_of(data)
        self.check(asked, Verb.PUT, digest)
        state = self._copy.published.state
        usable_key(state.registry.agency(envelope.recipient), envelope.key_number, "envelope", state.size)
        with self._putting:
            if self._store.find(digest) is None:
                self._check_room(asked.agency, len(data))
            held = self._store.put(
                data, recipient=envelope.recipient, sender=asked.agency, now_ms=self._wall_ms()
            )
        self._metrics.envelopes_put.inc()
        return Kept(digest, held.ends_ms)

    def get(self, asked: Authorization, digest: bytes) -> bytes:
        """The bytes, for their recipient or who put them. Raises as :meth:`check`; NotFound, NotEntitled."""
        self.check(asked, Verb.GET, digest)
        held = self._store.find(digest)
        data = None if held is None else self._store.data(digest)
        if held is None or data is None:
            raise NotFound(
                "no such envelope is held here",
                where=digest.hex(),
                fix="it was never put, or it has been dropped, answered or kept for its time",
            )
        if asked.agency not in (held.sender, *self._heirs(held.recipient)):
            raise NotEntitled(f"agency {asked.agency} neither put this envelope nor is it for it")
        self._metrics.envelopes_fetched.inc()
        return data

    def drop(self, asked: Authorization, digest: bytes) -> bool:
        """Delete it, for its recipient; False when none is held. Raises as :meth:`check`; NotEntitled."""
        self.check(asked, Verb.DROP, digest)
        held = self._store.find(digest)
        if held is not None and asked.agency not in self._heirs(held.recipient):
            raise NotEntitled(f"the envelope is not for agency {asked.agency}: only who it is for drops it")
        dropped = self._store.drop(digest)
        self._metrics.envelopes_dropped.inc(dropped)
        return dropped

    def check(self, asked: Authorization, verb: Verb, digest: bytes) -> None:
        """That one of the agency's submit keys signed this request, just now.

        Raises FormatError, ClaimedTimeOutsideWindow, UnknownAgency, AgencySuspended, KeyUnknown, KeyUse,
        KeyEnded, KeyStolen, SignatureInvalid.
        """
        if len(digest) != HASH_SIZE:
            raise FormatError(f"{len(digest)} bytes, a digest has {HASH_SIZE}", where="digest")
        off_ms = asked.time_ms - self._wall_ms()
        if abs(off_ms) > REQUEST_WINDOW_MS:
            raise ClaimedTimeOutsideWindow(
                f"the request is of {abs(off_ms) // 1000} s {'after' if off_ms > 0 else 'before'} now",
                where="authorization.time_ms",
                fix="sign it anew, and set the clock of the computer that signs",
            )
        state = self._copy.published.state
        agency = state.registry.agency(asked.agency)
        if agency.record.suspended.latest is not None:
            raise AgencySuspended(f"agency {asked.agency} is suspended")
        key = usable_key(agency, asked.key_number, "submit", state.size)
        fingerprint = key_fingerprint(key.algorithm, key.public_key)
        message = request_message(state.genesis, fingerprint, verb, asked.agency, digest, asked.time_ms)
        verify(key.algorithm, key.public_key, message, asked.signature)

    def _check_room(self, sender: int, size: int) -> None:
        if free_bytes(self._data_dir) - size < self._disk_floor:
            raise DiskFull(
                "too little space is left for envelopes", where=str(self._data_dir), retry_ms=10_000
            )
        held, share = self._store.size_of(sender), self._limits.agency_bytes
        if held + size > share:
            raise EnvelopeQuota(
                f"agency {sender} has {held} bytes of envelopes here, its share is {share}",
                where="envelope",
                fix="wait until some are answered, or ask the operator for a larger share",
            )
        if self._store.usage.size + size > self._limits.bytes:
            raise EnvelopeQuota(
                f"this node keeps {self._limits.bytes} bytes of envelopes and no more",
                where="envelope",
                fix="send it again later, or ask the operator for more space",
            )

    # --- submissions that name envelopes ---

    def check_named(self, leaf: bytes, packed: bytes) -> None:
        """That every envelope that a submission names is here, and for whom its record says.

        What cannot be read, or breaks a rule, passes: the sequencer says so better. So does what is in
        the log already, since it gets its first answer again. Raises EnvelopeMissing,
        EnvelopeWrongRecipient.
        """
        now_ms = self._wall_ms()
        for position, record in named_records(packed):
            if record.envelope == NO_HASH:
                continue
            held = self._store.find(record.envelope)
            if held is None or not held.may_be_named(now_ms):
                if self._is_repeat(leaf):
                    return
                raise EnvelopeMissing(
                    f"names the envelope {record.envelope.hex()}, which is not held here",
                    where=f"record {position}",
                    fix="put the envelope first, then submit",
                )
            wanted = record.recipient if isinstance(record, Send) else self._asker(record)
            if wanted is not None and held.recipient not in self._heirs(wanted):
                raise EnvelopeWrongRecipient(
                    f"names an envelope for agency {held.recipient}, and is itself for agency {wanted}",
                    where=f"record {position}",
                    fix="seal it to a key of the agency that is to read it",
                )

    def is_new(self, leaf: bytes, packed: bytes) -> bool:
        """Whether a submission is whole, signed by keys of its agency, and not in the log already.

        Only then it is worth asking anybody for what it names. About 0.1 ms a signature.
        """
        state = self._copy.published.state
        try:
            head = open_submission(leaf, packed).head
            agency = state.registry.agency(head.agency)
            for one in head.signatures:
                key = usable_key(agency, one.number, "submit", state.size)
                message = head.message(state.genesis, key_fingerprint(key.algorithm, key.public_key))
                verify(key.algorithm, key.public_key, message, one.signature)
        except SudurError:
            return False
        return bool(head.signatures) and not self._is_repeat(leaf)

    def _asker(self, answer: Answer) -> int | None:
        """Who sent what is answered; None when the subject is no SEND of the log."""
        if answer.subject >= self._copy.published.size:
            return None
        leaf = self._copy.store.leaf(answer.subject)
        return Send.decode(leaf).agency if leaf[1] == LeafType.SEND else None

    def _is_repeat(self, leaf: bytes) -> bool:
        head = SubmissionLeaf.decode(leaf)
        identity = head.identity(self._copy.published.state.genesis)
        return self._copy.store.find_submission(head.claimed_ms, identity) is not None

    def _heirs(self, number: int) -> tuple[int, ...]:
        """An agency, its successor, that one's successor, and so on."""
        return heirs(self._copy.published.state.registry, number)


def heirs(registry: Registry, number: int) -> tuple[int, ...]:
    """An agency and all that succeed it, in order; just the number for an agency that is not enrolled."""
    found = [number]
    while number in registry.agencies:
        successor = registry.agency(number).record.successor.latest
        if successor is None:
            break
        found.append(successor)
        number = successor
    return tuple(found)


def may_name(packed: bytes) -> bool:
    """Whether packed records may hold a SEND or an ANSWER: False for ISSUEs alone. About 1 ns a byte."""
    types = packed[_TYPE_AT::_ISSUE_STRIDE]
    return len(packed) % _ISSUE_STRIDE != 0 or types.count(LeafType.ISSUE) != len(types)


def named_records(packed: bytes) -> list[tuple[int, Send | Answer]]:
    """The SENDs and ANSWERs of a submission, with their positions; none when any record cannot be read."""
    try:
        records = [parse_record(leaf) for leaf in unpack(packed, most=MAX_RECORDS)]
    except FormatError:
        return []
    return [(position, one) for position, one in enumerate(records) if isinstance(one, Send | Answer)]
