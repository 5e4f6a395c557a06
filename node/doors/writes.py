"""The writing side of a node: from an event loop to the sequencer's thread and back.

A submission costs the loop one future and one entry in a queue. Answers come from the sequencer's
thread, which wakes the loop once for all the answers of a block.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from ledger.errors import FormatError, SudurError, TooLarge, WrongLedger
from ledger.hashing import HASH_SIZE
from node.config import MAX_BULK
from node.doors.forward import Forward
from node.doors.grpc_errors import reason_of
from node.errors import CallerGone, ReadOnly, RetryableError, Stopping
from node.ledger_copy import LedgerCopy
from node.letters.envelopes import Letters, may_name
from node.metrics import Metrics
from node.publish import Published
from node.sequencer import Abandon, Outcome, Placement
from node.submitter import Submitter

UNKNOWN_REASON: Final = "INTERNAL"


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of each submission, in order, and a signed checkpoint that covers all placements."""

    outcomes: Sequence[Outcome]
    checkpoint: bytes


class Writes:
    """Hands submissions on. Belongs to the event loop that it is made on."""

    def __init__(
        self,
        copy: LedgerCopy,
        submitter: Submitter,
        envelopes: Letters,
        metrics: Metrics,
        forward: Forward | None = None,
    ) -> None:
        self._copy = copy
        self._submitter = submitter
        self._envelopes = envelopes
        self._metrics = metrics
        self._forward = forward
        self._loop = asyncio.get_running_loop()
        self._arrived: deque[tuple[asyncio.Future[Answer], list[Outcome], Published]] = deque()
        submitter.on_answers(self._wake)
        self.stopping = asyncio.Event()

    def check_ledger(self, genesis: bytes) -> None:
        """That a request is meant for this ledger. Raises FormatError, WrongLedger."""
        ours = self._genesis
        if genesis == ours:
            return
        if len(genesis) != HASH_SIZE:
            raise FormatError(
                f"{len(genesis)} bytes, a genesis hash has {HASH_SIZE}",
                where="genesis",
                fix="send the hash that GetLedger gives and you have pinned",
            )
        raise WrongLedger(
            f"meant for the ledger {genesis.hex()}, this is {ours.hex()}",
            where="genesis",
            fix="use the node of the right ledger",
        )

    @property
    def _genesis(self) -> bytes:
        return self._copy.published.state.genesis

    async def submit(self, leaf: bytes, records: bytes) -> tuple[Placement, bytes]:
        """Append one submission; returns when it is under a signed checkpoint. Raises its refusal."""
        self._check_running()
        if self._forward is not None and self._forward.is_elsewhere:
            with self._counted(1):
                return _placed(Answer(*await self._forward.submit(self._genesis, ((leaf, records),))))
        refusal = await self._check_envelopes(leaf, records)
        if refusal is not None:
            self._count([refusal])
            raise refusal
        answer = await self._send(partial(self._submitter.submit, ((leaf, records),)))
        return _placed(answer)

    async def submit_bulk(self, submissions: Sequence[tuple[bytes, bytes]]) -> Answer:
        """Append 1 to 64 submissions (:func:`check_bulk`), each for itself.

        Raises ReadOnly and Stopping when none was judged; every other refusal is in the answer.
        """
        self._check_running()
        if self._forward is not None and self._forward.is_elsewhere:
            with self._counted(len(submissions)):
                return Answer(*await self._forward.submit(self._genesis, submissions))
        refusals = [await self._check_envelopes(*one) for one in submissions]
        judged = [one for one, refusal in zip(submissions, refusals, strict=True) if refusal is None]
        refused = [one for one in refusals if one is not None]
        self._count(refused)
        if not judged:
            return Answer(refused, self._copy.published.checkpoint)
        answer = await self._submit_judged(judged)
        outcomes = iter(answer.outcomes)
        return Answer([one or next(outcomes) for one in refusals], answer.checkpoint)

    async def _submit_judged(self, submissions: Sequence[tuple[bytes, bytes]]) -> Answer:
        try:
            answer = await self._send(partial(self._submitter.submit, submissions))
        except (ReadOnly, Stopping):
            raise
        except RetryableError as error:
            self._count([error] * (len(submissions) - 1))
            return Answer([error] * len(submissions), self._copy.published.checkpoint)
        first = answer.outcomes[0]
        if isinstance(first, ReadOnly | Stopping) and all(
            isinstance(one, ReadOnly | Stopping) for one in answer.outcomes
        ):
            raise first
        return answer

    async def change(self, leaf: bytes) -> tuple[Placement, bytes]:
        """Append one registry change; as :meth:`submit`."""
        self._check_running()
        if self._forward is not None and self._forward.is_elsewhere:
            with self._counted(1):
                outcome, checkpoint = await self._forward.change(self._genesis, leaf)
            return _placed(Answer((outcome,), checkpoint))
        placement, checkpoint = _placed(await self._send(partial(self._submitter.change, leaf)))
        self._metrics.changes.inc()
        return placement, checkpoint

    async def _check_envelopes(self, leaf: bytes, records: bytes) -> SudurError | None:
        """Why a submission may not name the envelopes that it names; None when it may, or names none."""
        if not may_name(records):
            return None
        try:
            await asyncio.to_thread(self._envelopes.check_named, leaf, records)
        except SudurError as error:
            return error
        return None

    def _check_running(self) -> None:
        if self.stopping.is_set():
            raise Stopping("this node is shutting down", fix="connect again, or to another node")

    async def _send(self, send: Callable[[Callable[[list[Outcome], Published], None]], Abandon]) -> Answer:
        future: asyncio.Future[Answer] = self._loop.create_future()
        try:
            abandon = send(partial(self._deliver, future))
        except SudurError as error:
            self._count([error])
            raise
        try:
            return await future
        except asyncio.CancelledError:  # the caller has gone, or its deadline has passed
            abandon()
            raise

    def _deliver(self, future: asyncio.Future[Answer], outcomes: list[Outcome], published: Published) -> None:
        """Called on the sequencer's thread. Appending is atomic under Python's lock."""
        self._arrived.append((future, outcomes, published))

    def _wake(self) -> None:
        """Called on the sequencer's thread, after all the answers of a block."""
        if self._arrived:
            self._loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        while self._arrived:
            future, outcomes, published = self._arrived.popleft()
            self._count(outcomes)
            if not future.done():  # its caller has gone, or its deadline has passed
                future.set_result(Answer(outcomes, published.checkpoint))

    @contextmanager
    def _counted(self, submissions: int) -> Iterator[None]:
        """Count what could not be handed on; what was, is counted where it was judged."""
        try:
            yield
        except RetryableError as error:
            self._count([error] * submissions)
            raise

    def _count(self, outcomes: Sequence[Outcome]) -> None:
        metrics = self._metrics
        for one in outcomes:
            if isinstance(one, CallerGone):
                metrics.abandoned.inc()
            elif not isinstance(one, Placement):
                metrics.refused.labels(reason_of(one) or UNKNOWN_REASON).inc()
            elif one.repeat:
                metrics.repeated.inc()
            elif one.record_count:
                metrics.accepted.inc()
                metrics.records.inc(one.record_count)


def check_bulk(submissions: Sequence[tuple[bytes, bytes]]) -> None:
    """That one call may hold them. Raises FormatError for none, TooLarge above 64."""
    if not submissions:
        raise FormatError("holds no submission", where="submissions", fix="send 1 to 64")
    if len(submissions) > MAX_BULK:
        raise TooLarge(f"{len(submissions)} submissions", where="submissions", fix=f"send at most {MAX_BULK}")


def _placed(answer: Answer) -> tuple[Placement, bytes]:
    (outcome,) = answer.outcomes
    if isinstance(outcome, Placement):
        return outcome, answer.checkpoint
    raise outcome
