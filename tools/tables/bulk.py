"""Issuing the rows of a table, many thousands a second, each of them once.

Rows go in portions of one call: their documents, the signed submissions and how far the table is read
are one transaction of the register, and while a portion travels the next is made. Killed at any moment,
the same command finds its work by the table's own bytes, sends what is saved, and goes on with the first
row that is not. A table is issued once: given again, it answers with what was done.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import Enum
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from ledger.canonical_json import encode
from ledger.errors import SudurError
from ledger.records import MAX_RECORDS, Basis
from ledger.signing_policy import ISSUE_KINDS, SigningPolicy
from tools.agency.issuing import WORK, digest_file, issue_records
from tools.agency.outbox import CALL_SUBMISSIONS, Outbox, Settled, State, Submitted, Work
from tools.client import BulkAnswer
from tools.errors import TableProblem
from tools.register.documents import Made
from tools.register.store import Register
from tools.tables.columns import Columns, RowJudge
from tools.tables.portions import Entry, PortionHelper, PortionMaker
from tools.tables.reading import Fault, Row
from tools.tables.rejects import Rejects

PORTION: Final = MAX_RECORDS * CALL_SUBMISSIONS
"""Rows that are saved and sent together: 16,384."""

MAX_PREPARED: Final = 65_536
"""Most rows that one submission file takes to another officer."""


class Repeat(Enum):
    """Whether a row's id was issued by another work, with these contents."""

    NO = 0
    ELSEWHERE = 1


@dataclass(slots=True)
class Summary:
    """What became of a table's rows. ``left``: saved and not yet in the log, or not yet read."""

    rows: int = 0
    issued: int = 0
    rejected: int = 0
    repeated: int = 0
    refused: int = 0
    waiting: int = 0
    complete: bool = False
    first_index: int | None = None
    last_index: int | None = None
    errors: list[SudurError] = field(default_factory=list)


class Sieve:
    """Lets through the rows that may be issued, and each content once.

    Content counts with its external id. Of each row its number and an eight-byte keyed hash are kept.
    """

    def __init__(self, judge: RowJudge) -> None:
        self._judge = judge
        self._seen: dict[int, int] = {}
        self._key = os.urandom(16)

    def sift(self, rows: Iterable[Row | list[str]]) -> Iterator[tuple[Row, Entry | Fault]]:
        judge, seen = self._judge.judge, self._seen
        for row in rows:
            assert isinstance(row, Row)
            entry = judge(row)
            if isinstance(entry, Entry):
                digest = blake2b(
                    b"\x00".join((entry.external.encode(), *entry.slots)), key=self._key, digest_size=8
                ).digest()
                mark = int.from_bytes(digest, "big")
                first = seen.setdefault(mark, row.number)
                if first != row.number:
                    yield row, Fault("", f"says the same as row {first}")
                    continue
            yield row, entry


def table_identity(register: Register, path: Path, options: dict[str, str | int | bool | None]) -> bytes:
    """What a table is known by: its very bytes, and how they are to be read. Raises FileProblem."""
    return register.box.mark("table", digest_file(path) + encode(options))


class BulkIssuer:
    """Issues one table through an outbox. ``policy``: the agency's, to know how many keys must sign."""

    def __init__(
        self, outbox: Outbox, columns: Columns, basis: Basis, policy: SigningPolicy, name: str
    ) -> None:
        self._outbox = outbox
        self._register = outbox.register
        self._columns = columns
        self._basis = basis
        self._policy = policy
        self._name = name

    def run(
        self,
        identity: bytes,
        rows: Iterator[tuple[Row, Entry | Fault]],
        rejects: Rejects,
        *,
        limit: int | None,
        prepare: bool,
        advance: Callable[[int], None],
    ) -> tuple[Work, Summary]:
        """Issue what is not issued yet. ``limit``: at most so many rows of the table, from its first.

        ``prepare``: save all for other officers to sign, and send nothing. Raises Unavailable (run it
        again), TooFewSignatures before anything is saved that could not be sent, TableProblem.
        """
        outbox = self._outbox
        work = outbox.work_by_identity(identity)
        if work is None:
            with self._register.transaction():
                work = outbox.begin(WORK, {"table": self._name}, identity)
        summary = Summary()
        pipeline = _Pipeline(outbox, work, self._columns.document_type, self._basis, summary, advance)
        try:
            with pipeline:
                if not work.closed:
                    outbox.again(work, waiting=prepare)
                    pipeline.settled(outbox.finish(work))
                self._read(work, rows, rejects, summary, limit, prepare, pipeline)
                if not prepare:
                    pipeline.finish()
        except SudurError:
            outbox.forget_if_empty(work)
            raise
        _sum_up(self._register, work, summary)
        if summary.complete and not summary.refused and not summary.waiting and not work.closed:
            outbox.close(work)
        return work, summary

    def _read(
        self,
        work: Work,
        rows: Iterator[tuple[Row, Entry | Fault]],
        rejects: Rejects,
        summary: Summary,
        limit: int | None,
        prepare: bool,
        pipeline: _Pipeline,
    ) -> None:
        """Judge every row, and hand on those that are not in the register, a portion at a time."""
        pending: list[Entry] = []
        ids: dict[str, int] = {}
        being_made: dict[str, int] = {}
        most = MAX_PREPARED + 1 if prepare else PORTION
        last = 0
        for row, entry in rows:
            if limit is not None and summary.rows == limit:
                break
            summary.rows += 1
            last = row.number
            verdict = self._against_ids(entry, work, ids, being_made) if isinstance(entry, Entry) else entry
            if isinstance(verdict, Fault):
                rejects.add(row, verdict)
            elif verdict is Repeat.ELSEWHERE:
                summary.repeated += 1
            elif row.number > work.rows:
                assert isinstance(entry, Entry)
                pending.append(entry)
                ids[entry.external] = row.number
            if len(pending) == most:
                if prepare:
                    raise _too_many(self._name)
                self._check_keys(len(pending) + pipeline.unsaved)
                pipeline.add(pending, last)
                pending, being_made, ids = [], ids, {}
                if summary.errors and not summary.issued:
                    return
        else:
            summary.complete = True
        if pending and not prepare:
            self._check_keys(len(pending) + pipeline.unsaved)
        if pending or last > work.rows:
            pipeline.add(pending, last, waiting=prepare)
        summary.rejected = rejects.count

    def _against_ids(self, entry: Entry, work: Work, *unsaved: dict[str, int]) -> Fault | Repeat:
        """Whether the row's id stands for something, this or another."""
        if not entry.external:
            return Repeat.NO
        column = self._columns.header[self._columns.id_column or 0]
        for ids in unsaved:
            if entry.external in ids:
                return Fault(column, f"the id stands for other contents in row {ids[entry.external]}")
        if entry.row <= work.rows and self._register.documents.came_from(
            entry.external, work.number, entry.row
        ):
            return Repeat.NO
        there = self._register.documents.by_external(entry.external)
        if there is None:
            return Repeat.NO
        if [one.slot() for one in there.fields] != entry.slots:
            place = "" if there.index is None else f", at index {there.index}"
            return Fault(column, f"the id stands for a document with other contents{place}")
        return Repeat.ELSEWHERE

    def _check_keys(self, count: int) -> None:
        self._outbox.check_keys({ISSUE_KINDS[self._basis]: count}, self._policy)


class _Pipeline:
    """Three steps that overlap: a portion is made, the one before is stored, the one before that travels.

    The first portion is made in this process; when there are more a helper makes them. What is made is
    in the register, with how far the table was read, before it travels; a crash loses what was being
    made, and the next run reads those rows again.
    """

    def __init__(
        self,
        outbox: Outbox,
        work: Work,
        document_type: int,
        basis: Basis,
        summary: Summary,
        advance: Callable[[int], None],
    ) -> None:
        self._outbox = outbox
        self._register = outbox.register
        self._work = work
        self._type = document_type
        self._basis = basis
        self._summary = summary
        self._advance = advance
        self._closing = ExitStack()
        self._sender = self._closing.enter_context(ThreadPoolExecutor(1))
        self._helper: PortionHelper | None = None
        self._making: tuple[int, int, int] | None = None
        self._travelling: tuple[Sequence[Submitted], Future[BulkAnswer]] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.close()

    @property
    def unsaved(self) -> int:
        """How many documents are being made."""
        return 0 if self._making is None else self._making[1]

    def add(self, entries: Sequence[Entry], last: int, *, waiting: bool = False) -> None:
        """Take a portion. ``last``: the table's row that it reaches to. ``waiting``: not to be sent."""
        keys = (self._register.box, self._outbox.ledger.genesis, self._outbox.agency)
        if self._helper is None and len(entries) == PORTION and not waiting:
            self._helper = self._closing.enter_context(PortionHelper(*keys))
        if self._helper is None:
            made = PortionMaker(*keys).make(self._register.documents.next_number(), entries)
            self._store(made, last, waiting=waiting)
            return
        if self._making is None:
            first = self._register.documents.next_number()
            self._helper.begin(first, entries)
            self._making = first, len(entries), last
            return
        first, count, reached = self._making
        made = self._helper.end()
        self._helper.begin(first + count, entries)
        self._making = first + count, len(entries), last
        self._store(made, reached)

    def finish(self) -> None:
        """Store and send what is left, and wait for every answer."""
        if self._making is not None and self._helper is not None:
            (_, _, reached), self._making = self._making, None
            self._store(self._helper.end(), reached)
        self._arrive()
        self.settled(self._outbox.finish(self._work))

    def settled(self, settled: Settled) -> None:
        """Count what became of submissions."""
        self._summary.issued += sum(one.count for one in settled.placed)
        self._summary.errors += [one.error for one in settled.refused[:1]]
        self._advance(settled.records)

    def _store(self, made: Made, last: int, *, waiting: bool = False) -> None:
        """Documents, submissions and how far the table is read: one transaction. Then send."""
        outbox = self._outbox
        with self._register.transaction():
            if made.rows:
                self._register.documents.put(self._work.number, self._type, self._basis, made)
                records = issue_records(outbox.agency, self._type, self._basis, made.commitments)
                outbox.add(self._work, records, document=made.first, waiting=waiting)
                detail = {
                    "work": self._work.number,
                    "documents": len(records),
                    "waiting": waiting,
                    "to row": last,
                }
                self._register.journal.write(outbox.officer, WORK, detail)
            self._register.run("UPDATE works SET rows = max(rows, ?) WHERE id = ?", (last, self._work.number))
        if not waiting:
            self._arrive()
            self._depart()

    def _depart(self) -> None:
        call = self._outbox.next_call(self._work)
        if call:
            self._travelling = call, self._sender.submit(self._outbox.send, call)

    def _arrive(self) -> None:
        """Wait for what travels, and record what became of it."""
        if self._travelling is not None:
            (call, answer), self._travelling = self._travelling, None
            self.settled(self._outbox.settle(call, answer.result()))


def _sum_up(register: Register, work: Work, summary: Summary) -> None:
    """What the register says of a work, whichever run did it."""
    counts = dict.fromkeys(State, 0)
    places: list[int] = []
    for state, count, low, high in register.rows(
        "SELECT state, sum(count), min(first), max(first + count - 1) FROM submissions WHERE work = ?"
        " GROUP BY state",
        (work.number,),
    ):
        counts[State(state)] = count
        places += [] if low is None else [low, high]
    summary.issued = counts[State.PLACED]
    summary.refused = counts[State.REFUSED]
    summary.waiting = counts[State.WAITING]
    if places:
        summary.first_index, summary.last_index = min(places), max(places)


def _too_many(name: str) -> TableProblem:
    return TableProblem(
        f"has more than {MAX_PREPARED} rows, which is as many as one submission file takes",
        where=name,
        fix="split the table",
    )
