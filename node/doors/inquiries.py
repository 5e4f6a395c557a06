"""What a node tells about leaves by reference number, about exchanges, and about agencies' figures.

All of it as of a published size. What the store has of a newer block is left out, or, for figures, which
only the newest block has, waited for: a few milliseconds.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ledger.changes import AUTHORITY
from ledger.errors import FormatError, OutOfRange, TooLarge
from ledger.figures import FigureKey
from ledger.inquiries import MAX_SENDS, AsOf, Issued, Named, Referred, Reply, Sent, Standing
from ledger.leaves import NONE, RECORD_TYPES, LeafType, leaf_type
from ledger.records import (
    UNDECLARED_TYPE,
    Affirm,
    Answer,
    Attest,
    Issue,
    Record,
    Send,
    StatusChange,
    parse_record,
)
from ledger.references import parse_reference
from ledger.status import chunk_of, read_status
from ledger.submissions import SubmissionLeaf
from node.doors.releases import Releases
from node.errors import NotFound, ReadOnly, Stopping
from node.ledger_copy import LedgerCopy
from node.publish import Published

_RELEASE_WAIT_S: Final = 5.0
_AT_ONCE: Final = 16
_KEPT_FIGURES: Final = 4


@dataclass(frozen=True, slots=True)
class SendsPage:
    """SENDs to an agency, ascending by index. ``next``: where the next page starts; None: no more."""

    sends: Sequence[Sent]
    next: int | None
    as_of: AsOf


@dataclass(frozen=True, slots=True)
class AgencyFigures:
    """All counters of an agency, those of the agencies below it included."""

    agency: Named
    figures: Mapping[FigureKey, int]
    as_of: AsOf


class Inquiries:
    """Answers of one node. Belongs to one event loop."""

    def __init__(self, copy: LedgerCopy, releases: Releases) -> None:
        self._copy = copy
        self._store = copy.store
        self._releases = releases
        self._figures: OrderedDict[int, AgencyFigures] = OrderedDict()
        self._counting: dict[int, asyncio.Task[AgencyFigures]] = {}

    # --- by reference number ---

    def reference(self, number: str) -> tuple[Referred, AsOf]:
        """The leaf that a reference number is of. Under 1 ms.

        Raises TooLarge, FormatError, ReferenceInvalid, and OutOfRange beyond the published size.
        """
        index = parse_reference(number)
        published = self._copy.published
        if index >= published.size:
            raise OutOfRange(
                f"the ledger has {published.size} leaves, and none with this number",
                where="reference number",
                fix="have it read out once more; a new document may take a moment",
            )
        leaf = self._store.leaf(index)
        kind = leaf_type(leaf)
        time_ms = self._store.block_of(index).time_ms
        if kind in RECORD_TYPES:
            found = self._record(published, index, kind, parse_record(leaf), time_ms)
        else:
            agency = SubmissionLeaf.decode(leaf).agency if kind is LeafType.SUBMISSION else AUTHORITY
            found = Referred(index, kind, self._named(published, agency), time_ms)
        return found, _as_of(published)

    def _record(
        self, published: Published, index: int, kind: LeafType, record: Record, time_ms: int
    ) -> Referred:
        agency = self._named(published, record.agency)
        match record:
            case Issue():
                issued = Issued(record.document_type, self._labels(published, record), record.basis)
                standing = self._standing(published, index)
                return Referred(index, kind, agency, time_ms, standing=standing, issued=issued)
            case Attest():
                return Referred(
                    index,
                    kind,
                    agency,
                    time_ms,
                    subject=record.subject,
                    standing=self._standing(published, index),
                    attestation=record.kind,
                )
            case Send():
                return Referred(
                    index,
                    kind,
                    agency,
                    time_ms,
                    sent=self._sent(published, index, record),
                    recipient=self._named(published, record.recipient),
                )
            case StatusChange() | Answer():
                return Referred(index, kind, agency, time_ms, subject=record.subject)
            case Affirm():
                return Referred(index, kind, agency, time_ms)

    def _named(self, published: Published, agency: int) -> Named:
        if agency == AUTHORITY:
            return Named(AUTHORITY, {})
        return Named(agency, published.state.registry.agency(agency).record.names.latest)

    def _labels(self, published: Published, record: Issue) -> Mapping[str, str]:
        if record.document_type == UNDECLARED_TYPE:
            return {}
        return published.state.registry.document_type(record.document_type).labels

    def _standing(self, published: Published, subject: int) -> Standing:
        """The bits as of the published seal, and the STATUS that set them."""
        chunk = self._store.object(published.state.status.hashes[chunk_of(subject)])
        status = read_status(chunk, subject)
        latest = self._store.status_before(subject, published.size)
        if latest is None:
            return Standing(status)
        change = StatusChange.decode(self._store.leaf(latest))
        time_ms = self._store.block_of(latest).time_ms
        replacement = None if change.replacement == NONE else change.replacement
        return Standing(status, latest, time_ms, change.reason, replacement)

    # --- exchanges ---

    async def exchanges(self, indexes: Sequence[int]) -> tuple[list[Sent], AsOf]:
        """What has become of 1 to 256 SENDs, in the order asked for.

        Raises FormatError for none, TooLarge, OutOfRange, NotFound for a leaf that is no SEND.
        """
        if not indexes:
            raise FormatError("names no SEND", where="indexes", fix=f"ask for 1 to {MAX_SENDS}")
        if len(indexes) > MAX_SENDS:
            raise TooLarge(f"{len(indexes)} indexes", where="indexes", fix=f"ask for at most {MAX_SENDS}")
        published = self._copy.published
        if max(indexes) >= published.size:
            raise OutOfRange(
                f"index {max(indexes)} is beyond the tree, which has {published.size} leaves",
                where="index",
                fix="ask for an index below the size",
            )
        return await self._sent_all(published, indexes), _as_of(published)

    async def sends_to(self, recipient: int, start: int, limit: int) -> SendsPage:
        """The SENDs to an agency from index ``start`` on, at most ``limit`` (0 or above 256: 256).

        Those that were sent to a predecessor stand under its number. Raises UnknownAgency.
        """
        published = self._copy.published
        published.state.registry.agency(recipient)
        most = min(limit or MAX_SENDS, MAX_SENDS)
        indexes: list[int] = []
        after = None
        for index in self._store.sends_to(recipient, start):
            if index >= published.size:
                break
            if len(indexes) == most:
                after = index
                break
            indexes.append(index)
        return SendsPage(await self._sent_all(published, indexes), after, _as_of(published))

    async def _sent_all(self, published: Published, indexes: Sequence[int]) -> list[Sent]:
        """About 100 µs each, so others run in between."""
        found = []
        for position, index in enumerate(indexes):
            if position % _AT_ONCE == _AT_ONCE - 1:
                await asyncio.sleep(0)
            leaf = self._store.leaf(index)
            if leaf_type(leaf) is not LeafType.SEND:
                raise NotFound(
                    f"leaf {index} is no SEND", where="index", fix="take the number of what was sent"
                )
            found.append(self._sent(published, index, Send.decode(leaf)))
        return found

    def _sent(self, published: Published, index: int, send: Send) -> Sent:
        exchange = self._store.exchange(index)
        return Sent(
            index=index,
            agency=send.agency,
            recipient=send.recipient,
            kind=send.kind,
            time_ms=exchange.sent_ms,
            due_days=send.due,
            follows=None if send.follows == NONE else send.follows,
            reminds=exchange.reminds,
            received=self._reply(published, exchange.received),
            final=self._reply(published, exchange.final),
        )

    def _reply(self, published: Published, index: int | None) -> Reply | None:
        if index is None or index >= published.size:
            return None
        answer = Answer.decode(self._store.leaf(index))
        return Reply(index, answer.agency, answer.outcome, self._store.block_of(index).time_ms)

    # --- figures ---

    async def figures(self, agency: int) -> AgencyFigures:
        """All counters of an agency; 0: of the whole ledger. About 2 µs a counter, off the event loop.

        As of what is published now, or later. Who asks for the same at the same time shares one
        computation. Raises UnknownAgency, Stopping, and ReadOnly when the store's newest block is not
        published within 5 s: the store has figures as of that one alone.
        """
        size = self._copy.published.size
        kept = self._figures.get(agency)
        while kept is None or kept.as_of.size < size:
            # Computed for others, it may be as of a block before this caller's.
            kept = await self._count(agency)
        return kept

    async def _count(self, agency: int) -> AgencyFigures:
        """Join in the computation that is under way, or begin one. It outlives a caller who goes away."""
        task = self._counting.get(agency)
        if task is None:
            task = asyncio.create_task(self._counted(agency, self._named(self._copy.published, agency)))
            self._counting[agency] = task
            task.add_done_callback(lambda done: self._end_count(agency, done))
        return await asyncio.shield(task)

    def _end_count(self, agency: int, done: asyncio.Task[AgencyFigures]) -> None:
        del self._counting[agency]
        if not done.cancelled():
            done.exception()  # asked for, or asyncio complains when all its callers have gone

    async def _counted(self, agency: int, named: Named) -> AgencyFigures:
        figures, size = await asyncio.to_thread(self._store.figures, agency)
        try:
            async with asyncio.timeout(_RELEASE_WAIT_S):
                await self._published(size)
        except TimeoutError:
            raise ReadOnly("the newest block is not published yet", where="figures") from None
        found = AgencyFigures(named, figures, AsOf(size, self._store.block_of(size - 1).time_ms))
        self._figures[agency] = found
        self._figures.move_to_end(agency)
        if len(self._figures) > _KEPT_FIGURES:
            self._figures.popitem(last=False)
        return found

    async def _published(self, size: int) -> None:
        """Return when the tree of ``size`` is published. Raises Stopping."""
        while (published := self._copy.published).size < size:
            await self._releases.block(published.head.block + 1)
            if self._copy.published is published:
                raise Stopping("this node is shutting down", fix="connect again, or to another node")


def _as_of(published: Published) -> AsOf:
    return AsOf(published.size, published.state.time_ms)
