"""Issuing the rows of a table, many thousands a second, each of them once.

Rows go in portions of one call: their documents, the signed submissions and how far the table is read
are one transaction of the register, and while a portion travels the next is made. Killed at any moment,
the same command finds its work by the table's own bytes, sends what is saved, and goes on with the first
row that is not. A table is issued once: given again, it answers with what was done.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Final

from ledger.canonical_json import encode
from ledger.documents import SEED_SIZE, Commitments
from ledger.errors import SudurError, TooFewSignatures
from ledger.records import MAX_RECORDS, Basis
from ledger.signing_policy import ISSUE_KINDS, SigningPolicy
from tools.client import BulkAnswer
from tools.columns import Columns, Entry, RowJudge
from tools.errors import TableProblem
from tools.issuing import WORK, digest_file, issue_record
from tools.outbox import CALL_SUBMISSIONS, Outbox, Settled, State, Submitted, Work
from tools.register import Register
from tools.register_documents import NewDocument
from tools.rejects import Rejects
from tools.tables import Fault, Row

PORTION: Final = MAX_RECORDS * CALL_SUBMISSIONS
"""Rows that are saved and sent together: 16,384."""

MAX_PREPARED: Final = 65_536
"""Most rows that one submission file takes to another officer."""


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

    Content counts with its external id. Of each row eight bytes of a keyed hash stay in memory.
    """

    def __init__(self, judge: RowJudge) -> None:
        self._judge = judge
        self._seen: set[int] = set()
        self._order = array("Q")
        self._rows = array("I")
        self._key = os.urandom(16)
        self._ids: dict[str, int] = {}

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
                if mark in seen:
                    first = self._rows[self._order.index(mark)]
                    yield row, Fault("", f"says the same as row {first}")
                    continue
                seen.add(mark)
                self._order.append(mark)
                self._rows.append(row.number)
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
        self._commitments = Commitments(outbox.ledger.genesis, outbox.agency)
        self._pending: list[Entry] = []
        self._pending_ids: dict[str, int] = {}
        self._travelling: tuple[Sequence[Submitted], Future[BulkAnswer]] | None = None

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
        work = self._outbox.work_by_identity(identity)
        if work is None:
            with self._register.transaction():
                work = self._outbox.begin(WORK, {"table": self._name}, identity)
        summary = Summary()
        with ThreadPoolExecutor(1) as sender:
            if not work.closed:
                self._outbox.again(work, waiting=prepare)
                self._settle(self._outbox.finish(work), summary, advance)
            self._read(work, rows, rejects, summary, limit, prepare, sender, advance)
            self._arrive(summary, advance)
            self._settle(self._outbox.finish(work), summary, advance)
        self._sum_up(work, summary)
        if summary.complete and not summary.refused and not summary.waiting and not work.closed:
            self._outbox.close(work)
        return work, summary

    # --- reading ---

    def _read(
        self,
        work: Work,
        rows: Iterator[tuple[Row, Entry | Fault]],
        rejects: Rejects,
        summary: Summary,
        limit: int | None,
        prepare: bool,
        sender: ThreadPoolExecutor,
        advance: Callable[[int], None],
    ) -> None:
        last = 0
        for row, entry in rows:
            if limit is not None and summary.rows == limit:
                break
            summary.rows += 1
            last = row.number
            if isinstance(entry, Fault):
                rejects.add(row, entry)
            elif row.number > work.rows:
                fault = self._against_ids(entry, summary) if entry.external else None
                if isinstance(fault, Fault):
                    rejects.add(row, fault)
                elif fault is None:
                    self._pending.append(entry)
            elif entry.external and (other := self._taken(entry, work, summary)):
                rejects.add(row, other)
            if len(self._pending) >= (MAX_PREPARED + 1 if prepare else PORTION):
                if prepare:
                    raise TableProblem(
                        f"has more than {MAX_PREPARED} rows, which is as many as one submission file takes",
                        where=self._name,
                        fix="split the table",
                    )
                self._portion(work, last, summary, sender, advance)
                if summary.errors and not summary.issued:
                    return
        else:
            summary.complete = True
        if self._pending or last > work.rows:
            self._portion(work, last, summary, None if prepare else sender, advance)
        summary.rejected = rejects.count

    def _against_ids(self, entry: Entry, summary: Summary) -> Fault | bool | None:
        """A fault when the id stands for something else, True when the row is issued already."""
        column = self._columns.header[self._columns.id_column or 0]
        if entry.external in self._pending_ids:
            return Fault(
                column, f"the id stands for other contents in row {self._pending_ids[entry.external]}"
            )
        there = self._register.documents.by_external(entry.external)
        if there is None:
            self._pending_ids[entry.external] = entry.row
            return None
        if [one.slot() for one in there.fields] != entry.slots:
            place = "" if there.index is None else f", at index {there.index}"
            return Fault(column, f"the id stands for a document with other contents{place}")
        summary.repeated += 1
        return True

    def _taken(self, entry: Entry, work: Work, summary: Summary) -> Fault | None:
        """For a row that an earlier run has read: the fault by which it was rejected then, if it was."""
        there = self._register.documents.by_external(entry.external)
        if there is None or there.work == work.number:
            return None
        if [one.slot() for one in there.fields] == entry.slots:
            summary.repeated += 1
            return None
        column = self._columns.header[self._columns.id_column or 0]
        return Fault(column, "the id stands for a document with other contents")

    # --- saving and sending ---

    def _portion(
        self,
        work: Work,
        last: int,
        summary: Summary,
        sender: ThreadPoolExecutor | None,
        advance: Callable[[int], None],
    ) -> None:
        """Save what is pending, and let it travel while the next is made."""
        entries, self._pending, self._pending_ids = self._pending, [], {}
        if entries:
            self._check_keys(len(entries), sender is None)
        self._save(work, entries, last, waiting=sender is None)
        if sender is None:
            return
        self._arrive(summary, advance)
        call = self._outbox.next_call(work)
        if call:
            self._travelling = call, sender.submit(self._outbox.send, call)

    def _arrive(self, summary: Summary, advance: Callable[[int], None]) -> None:
        """Wait for what travels, and record what became of it."""
        if self._travelling is not None:
            (call, answer), self._travelling = self._travelling, None
            self._settle(self._outbox.settle(call, answer.result()), summary, advance)

    def _settle(self, settled: Settled, summary: Summary, advance: Callable[[int], None]) -> None:
        summary.issued += sum(one.count for one in settled.placed)
        summary.errors += [one.error for one in settled.refused[:1]]
        advance(settled.records)

    def _check_keys(self, count: int, prepare: bool) -> None:
        needed = self._outbox.keys_needed(self._policy, {ISSUE_KINDS[self._basis]: count})
        signers = len(self._outbox.signers)
        if signers < needed and not prepare:
            raise TooFewSignatures(
                f"{needed} keys must sign {count} documents more today, {signers} did",
                where=self._name,
                fix="name them with --signer, or take the work to the other officer: --prepare FILE",
            )

    def _save(self, work: Work, entries: Sequence[Entry], last: int, *, waiting: bool) -> None:
        """Documents, submissions and how far the table is read: one transaction."""
        outbox, of = self._outbox, self._commitments.of
        seeds = os.urandom(SEED_SIZE * len(entries))
        documents = []
        for position, entry in enumerate(entries):
            seed = seeds[SEED_SIZE * position : SEED_SIZE * (position + 1)]
            documents.append(
                NewDocument(entry.row, entry.external, seed, of(seed, entry.slots), entry.slots, entry.words)
            )
        with self._register.transaction():
            if documents:
                kind = self._columns.document_type
                first = self._register.documents.add(work.number, kind, self._basis, documents)
                records = [issue_record(outbox.agency, kind, self._basis, one) for one in documents]
                outbox.add(work, records, document=first, waiting=waiting)
                self._register.journal.write(
                    outbox.officer,
                    WORK,
                    {"work": work.number, "documents": len(documents), "waiting": waiting, "to row": last},
                )
            self._register.run("UPDATE works SET rows = max(rows, ?) WHERE id = ?", (last, work.number))

    def _sum_up(self, work: Work, summary: Summary) -> None:
        """What the register says of this work, whichever run did it."""
        counts = dict.fromkeys(State, 0)
        firsts: list[int] = []
        for state, count, low, high in self._register.rows(
            "SELECT state, sum(count), min(first), max(first + count - 1) FROM submissions WHERE work = ?"
            " GROUP BY state",
            (work.number,),
        ):
            counts[State(state)] = count
            firsts += [] if low is None else [low, high]
        summary.issued = counts[State.PLACED]
        summary.refused = counts[State.REFUSED]
        summary.waiting = counts[State.WAITING]
        if firsts:
            summary.first_index, summary.last_index = min(firsts), max(firsts)
