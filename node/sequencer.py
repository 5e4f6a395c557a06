"""The sequencer: the one thread that decides the order of everything.

Submissions group by themselves: what arrived while the last block was being committed makes the
next one. There is no timer and no delay; a lone submission is a block of its own.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from ledger import rules
from ledger.changes import LogKeyAdded, RulesRaised
from ledger.errors import RulesVersionUnknown, SubmissionRepeated, SudurError
from ledger.leaves import LeafType, leaf_type
from ledger.registry_leaf import RegistryLeaf
from ledger.rules_v1 import MAX_BLOCK_LEAVES, Draft
from ledger.state import Transition
from ledger.submissions import Submission, SubmissionLeaf, open_submission, pack
from node.clock import IDLE_SEAL_S, Clock, check_first_seal, seal_time
from node.commit import Committer
from node.disk import DEFAULT_FLOOR, FreeBytes, free_bytes
from node.errors import (
    BlockRefusedByPeer,
    CallerGone,
    ClockUnsound,
    Conflict,
    DiskFull,
    NodeError,
    NotLeading,
    QueueFull,
    ReadOnly,
    RetryableError,
    Stopping,
)
from node.logs import guarded, report
from node.publish import Publications, Published
from node.store import Store

_LOG: Final = structlog.get_logger("node.sequencer")
# A submission that adds no leaves costs its sender nothing: so many, and then the block is committed.
_MOST_IN_VAIN: Final = 256


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a submission, or a registry change (then ``record_count`` is 0), stands.

    Record i is at ``first_record_index`` + i; the seal at ``block_size`` - 1 bears ``time_ms``.
    ``repeat``: this is the first answer to an earlier, identical submission, given again.
    """

    submission_index: int
    first_record_index: int
    record_count: int
    block: int
    block_size: int
    time_ms: int
    repeat: bool


Outcome = Placement | SudurError
Done = Callable[[list[Outcome], Published], None]
Abandon = Callable[[], None]
"""Says that nobody waits for the answer any more: what is still queued is dropped."""


@dataclass(frozen=True, slots=True)
class SequencerSettings:
    """``queue_bytes`` and ``queue_items``: what may wait. ``block_leaves``: when a block is full enough.

    ``disk_floor``: bytes that stay free; below it nothing is sealed. ``retry_s``: how often a failed
    store is tried again while nobody submits. ``clock_is_right``: an operator has looked at the clock,
    so the first block may come long after the last, whatever is in it. ``idle_s``: after so many seconds
    without a block a lone seal is appended, so that readers see how old what they are shown is.
    """

    queue_bytes: int = 128 << 20
    queue_items: int = 65_536
    block_leaves: int = 32_768
    disk_floor: int = DEFAULT_FLOOR
    retry_s: float = 1.0
    clock_is_right: bool = False
    idle_s: float = IDLE_SEAL_S

    def __post_init__(self) -> None:
        if not self.idle_s > 0:
            raise NodeError("an idle ledger is sealed after more than 0 s", where="settings")
        if not 512 <= self.block_leaves <= MAX_BLOCK_LEAVES:
            raise NodeError(f"block_leaves is from 512 to {MAX_BLOCK_LEAVES}", where="settings")


@dataclass(slots=True, eq=False)
class _Call:
    """What one caller handed in, and what has become of it so far."""

    items: Sequence[tuple[bytes, bytes]]
    is_change: bool
    done: Done
    outcomes: list[Outcome | None]
    left: int
    abandoned: bool = False

    def abandon(self) -> None:
        """Called on any thread: one attribute write."""
        self.abandoned = True

    def size_of(self, position: int) -> int:
        leaf, packed = self.items[position]
        return len(leaf) + len(packed)


@dataclass(slots=True)
class _Entry:
    """One submission or change that the draft has taken, at ``index``; ``first`` when it repeats one."""

    call: _Call
    position: int
    index: int
    submission: Submission | None
    repeat: bool = False

    @property
    def count(self) -> int:
        """Records behind the leaf at ``index``."""
        return 0 if self.submission is None else self.submission.head.count


@dataclass(slots=True)
class _Block:
    """A draft, those who wait for it, and its leaves packed, as they came in.

    ``refused``: judged by what the draft holds, so true only once that is in the ledger.
    """

    draft: Draft
    entries: list[_Entry] = field(default_factory=list)
    refused: list[tuple[_Call, int, SudurError]] = field(default_factory=list)
    packed: list[bytes] = field(default_factory=list)


class Sequencer:
    """Orders, commits and answers. :meth:`submit` and :meth:`change` may be called from any thread."""

    def __init__(
        self,
        store: Store,
        committer: Committer,
        clock: Clock,
        settings: SequencerSettings,
        publications: Publications,
        *,
        disk_path: Path,
        free: FreeBytes = free_bytes,
        supported: Callable[[], frozenset[int]] = lambda: rules.SUPPORTED,
    ) -> None:
        """``supported``: the rules versions that a change may raise the ledger to."""
        self._store = store
        self._committer = committer
        self._clock = clock
        self._settings = settings
        self._disk_path = disk_path
        self._free = free
        self._supported = supported
        self._queue: deque[tuple[_Call, int]] = deque()
        self._queued_bytes = 0
        self._wake = threading.Condition()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self.publications = publications
        self._fault: RetryableError | None = None
        self._over: NotLeading | None = None
        self.unbelieved: BlockRefusedByPeer | None = None
        """Why other members refuse whatever this node builds: its store or software is not like theirs."""
        self._broken = False
        self._clock_agreed = settings.clock_is_right
        self._finished: list[_Call] = []
        self._sealed_at = time.monotonic()
        self._answer_hooks: tuple[Callable[[], None], ...] = ()

    # --- for everybody ---

    @property
    def fault(self) -> RetryableError | None:
        """Why nothing can be committed at present; None while all is well."""
        return self._fault

    @property
    def over(self) -> bool:
        """Whether somebody else decides by now: this sequencer commits nothing any more."""
        return self._over is not None

    @property
    def queued(self) -> tuple[int, int]:
        """Submissions waiting, and their bytes."""
        return len(self._queue), self._queued_bytes

    def submit(self, submissions: Sequence[tuple[bytes, bytes]], done: Done) -> Abandon:
        """Queue submissions, each (SUBMISSION leaf, packed records); returns at once.

        ``done`` gets one outcome for each, in order, and a snapshot that covers every placement among
        them. It is called from the sequencer's thread, exactly once, and must not block; what it wakes
        up is best woken in :meth:`on_answers`, once for all. Raises QueueFull or Stopping, and then
        nothing was queued and ``done`` is never called. Those dropped after Abandon get CallerGone.
        """
        return self._put(submissions, False, done)

    def change(self, leaf: bytes, done: Done) -> Abandon:
        """Queue one REGISTRY leaf; otherwise as :meth:`submit`."""
        return self._put(((leaf, b""),), True, done)

    def on_answers(self, callback: Callable[[], None]) -> None:
        """Have ``callback`` called once after every group of ``done`` calls.

        So a ``done`` that only appends to a list, and one callback that wakes an event loop, answer a
        whole block of callers with a single wake-up.
        """
        with self._wake:
            self._answer_hooks = (*self._answer_hooks, callback)

    def start(self) -> None:
        """Start the thread. Once."""
        self._thread = threading.Thread(target=self._run, name="sequencer", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Finish the block in work, answer all that still waits with Stopping, end the thread."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._answer_queued(Stopping("the node is stopping", fix="try another node, or this one later"))
        self._flush_answers()

    def _put(self, items: Sequence[tuple[bytes, bytes]], is_change: bool, done: Done) -> Abandon:
        size = sum([len(leaf) + len(packed) for leaf, packed in items])
        call = _Call(items, is_change, done, [None] * len(items), len(items))
        with self._wake:
            if self._stopping:
                raise Stopping("the node is stopping", fix="try another node, or this one later")
            full = (
                len(self._queue) + len(items) > self._settings.queue_items
                or self._queued_bytes + size > self._settings.queue_bytes
            )
            # Alone in the queue anything goes: no call may be too large for ever.
            if full and self._queue:
                raise QueueFull(
                    f"{len(self._queue)} submissions of {self._queued_bytes} bytes are waiting",
                    where="queue",
                    fix="send it again in a moment",
                )
            if not items:
                raise NodeError("no submission was given", where="submit")
            self._queue.extend((call, position) for position in range(len(items)))
            self._queued_bytes += size
            self._wake.notify()
        return call.abandon

    # --- the thread ---

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._queue and not self._stopping:
                    # With a fault, look again now and then, though nobody asks.
                    idle = max(0.0, self._sealed_at + self._settings.idle_s - time.monotonic())
                    if not self._wake.wait(idle if self._fault is None else self._settings.retry_s):
                        break
                if self._stopping:
                    return
            try:
                self._turn()
            except Exception as error:
                # A bug, by definition. Nothing is left open: whoever waits is told, and the next turn
                # begins with a recovery.
                report("turn_failed", error, log=_LOG)
                self._broken = True
                self._fault = ReadOnly(f"the sequencer failed: {error}", where="sequencer")
                self._answer_queued(self._fault)
            self._flush_answers()

    def _turn(self) -> None:
        """One block, or the reason why there is none."""
        self._fault = self._look()
        if self._fault is not None:
            self._answer_queued(self._fault)
            return
        try:
            time_ms = seal_time(self._clock, self._committer.snapshot.state.time_ms)
            draft = rules.begin(self._committer.snapshot.state, self._store, time_ms)
        except SudurError as error:
            self._fault = error if isinstance(error, RetryableError) else ReadOnly(str(error))
            self._answer_queued(self._fault)
            return
        if not self._queue:
            self._seal_idle(draft)
            return
        block = _Block(draft)
        try:
            self._fill(block)
            transition = block.draft.seal() if block.draft.leaves else None
        except Exception as error:
            report("block_failed", error, log=_LOG)
            internal = _internal(error)
            self._answer(block, lambda _: internal, internal)
            return
        if self._store.head() != self._committer.snapshot.head:
            # Another leader's block was applied here meanwhile. What repeats one of its submissions, or is
            # refused because of it, may not be told before a majority has it.
            over = self._fault = self._end(Conflict("it has decided a block", where="store"))
            self._answer(block, lambda _: over, over)
            return
        if transition is None:
            self._answer(block, self._stored)
            return
        try:
            self._check_clock(block)
        except ClockUnsound as error:
            fault = error
            self._answer(block, lambda _: fault, fault)
            return
        self._commit(block, transition)

    def _seal_idle(self, draft: Draft) -> None:
        """A block of nothing but its seal, if none came for long: the ledger's time moves."""
        if time.monotonic() < self._sealed_at + self._settings.idle_s:
            return
        # Whatever comes of it, not again at once.
        self._sealed_at = time.monotonic()
        block = _Block(draft)
        try:
            self._check_clock(block)
            transition = draft.seal()
        except SudurError as error:
            _LOG.warning("idle_not_sealed", error=str(error))
            return
        if self._store.head() == self._committer.snapshot.head:
            self._commit(block, transition)

    def _look(self) -> RetryableError | None:
        """Why no block can be committed now; recovers from a failed write first, where it can."""
        if self._over is not None:
            return self._over
        try:
            room = self._free(self._disk_path)
            if room < self._settings.disk_floor:
                return _disk_full(
                    f"{room >> 20} MiB are free, {self._settings.disk_floor >> 20} MiB must stay so",
                    self._disk_path,
                )
            self._store.check_place()
            if self._broken:
                self.publications.publish(self._committer.recover())
                self._broken = False
                head = self._committer.published.head
                _LOG.info("recovered", block=head.block, size=head.size)
        except Conflict as error:
            return self._end(error)
        except Exception as error:
            if self._fault is None or str(error) not in str(self._fault):
                report("not_recovered", error, log=_LOG)
            return _fault_of(error, self._disk_path)
        return None

    def _fill(self, block: _Block) -> None:
        """Take from the queue what the block has room for.

        Ends after a bounded number of items, however many more keep coming: a flood of what is refused
        must not keep those waiting whose submissions the draft has taken.
        """
        in_vain = 0
        while (
            self._queue and len(block.draft.leaves) < self._settings.block_leaves and in_vain < _MOST_IN_VAIN
        ):
            call, position = self._queue[0]
            if call.abandoned:
                self._take(call, position)
                self._settle(call, position, CallerGone("nobody waits for the answer any more"))
                continue
            held = len(block.draft.leaves)
            try:
                if not self._add(block, call, position):
                    break
            except SudurError as error:
                self._take(call, position)
                self._refuse(block, call, position, error)
            except Exception as error:
                report("submission_failed", error, log=_LOG)
                self._take(call, position)
                self._settle(call, position, _internal(error))
                self._rebuild(block)
            else:
                self._take(call, position)
            in_vain += len(block.draft.leaves) == held

    def _take(self, call: _Call, position: int) -> None:
        """The first item leaves the queue."""
        with self._wake:
            self._queue.popleft()
            self._queued_bytes -= call.size_of(position)

    def _refuse(self, block: _Block, call: _Call, position: int, error: SudurError) -> None:
        """Answer a refusal: at once when only the ledger spoke, with the block when the draft may have."""
        if block.draft.leaves or self._store.head() != self._committer.snapshot.head:
            block.refused.append((call, position, error))
        else:
            self._settle(call, position, error)

    def _add(self, block: _Block, call: _Call, position: int) -> bool:
        """Add one item to the draft; False when it has to wait for the next block."""
        leaf, packed = call.items[position]
        draft = block.draft
        if call.is_change:
            if draft.leaves and not draft.fits(1, len(leaf)):
                return False
            self._check_change(leaf)
            block.entries.append(_Entry(call, position, draft.add_change(leaf), None))
            block.packed.append(pack((leaf,)))
            return True
        submission = open_submission(leaf, packed)
        count = submission.head.count
        if draft.leaves and not draft.fits(1 + count, len(leaf) + len(packed) - 2 * count):
            return False
        try:
            index, repeat = draft.add_submission(submission), False
        except SubmissionRepeated as error:
            index, repeat = error.index, True
        else:
            block.packed += (pack((leaf,)), packed)
        block.entries.append(_Entry(call, position, index, submission, repeat))
        return True

    def _check_change(self, leaf: bytes) -> None:
        """That this node can go on after a change: that it raises the rules to none that some software
        lacks, and asks for no kind of signature that it has no key for.
        """
        body = RegistryLeaf.decode(leaf).change().body
        if isinstance(body, LogKeyAdded):
            self._committer.check_log_key(body.vkey)
        if isinstance(body, RulesRaised) and body.rules not in (supported := self._supported()):
            raise RulesVersionUnknown(
                f"the software here, or that of another member, does not have rules version {body.rules}",
                where="change",
                fix=f"upgrade it first: all have versions {', '.join(map(str, sorted(supported)))}",
            )

    def _rebuild(self, block: _Block) -> None:
        """The same draft anew, without whatever an unexpected error may have left in it."""
        block.draft = rules.begin(self._committer.snapshot.state, self._store, block.draft.time_ms)
        for entry in block.entries:
            if entry.submission is None:
                block.draft.add_change(entry.call.items[entry.position][0])
            elif not entry.repeat:
                block.draft.add_submission(entry.submission)

    def _check_clock(self, block: _Block) -> None:
        """That the first block after a start may bear its time. Raises ClockUnsound."""
        if not self._clock_agreed and all(entry.submission is None for entry in block.entries):
            check_first_seal(block.draft.time_ms, self._committer.snapshot.state.time_ms)

    def _commit(self, block: _Block, transition: Transition) -> None:
        try:
            packed = b"".join((*block.packed, pack(transition.leaves[-1:])))
            published = self._committer.commit(transition, packed)
        except BlockRefusedByPeer as error:
            self._drop(block, error)
            return
        except Exception as error:
            if isinstance(error, RetryableError | Conflict):
                _LOG.warning("commit_failed", error=f"{type(error).__name__}: {error}")
            else:
                report("commit_failed", error, log=_LOG)
            self._broken = True
            self._fault = self._end(error) if isinstance(error, Conflict) else self._look()
            fault = self._fault
            if fault is not None:
                self._answer(block, lambda _: fault, fault)
            else:
                lost = error if isinstance(error, RetryableError) else _not_written()
                self._answer(
                    block,
                    lambda entry: self._found(entry) or lost,
                    None if self._holds(transition) else lost,
                )
            return
        self._clock_agreed = True
        self._sealed_at = time.monotonic()
        self.publications.publish(published)
        state = transition.state
        first = transition.first_index

        def placed(entry: _Entry) -> Outcome:
            if entry.index < first:
                return self._stored(entry)
            at, count = entry.index, entry.count
            return Placement(at, at + 1, count, state.block, state.size, state.time_ms, entry.repeat)

        self._answer(block, placed)

    def _end(self, error: Conflict) -> NotLeading:
        """Another leader has decided a block: whoever waits is to ask that one."""
        _LOG.warning("term_over", error=str(error))
        self._over = NotLeading(f"another member leads: {error}", fix="send it again", retry_ms=200)
        return self._over

    def _drop(self, block: _Block, error: BlockRefusedByPeer) -> None:
        """Refuse the one submission for which other members do not prepare the block; the rest goes on.

        It should not be: they run the same rules. It takes a member whose store or software is another.
        """
        blamed = [
            entry
            for entry in block.entries
            if error.leaf is not None and entry.index <= error.leaf <= entry.index + entry.count
        ]
        _LOG.error("block_refused", error=str(error), leaf=error.leaf, submissions=len(blamed))
        if not blamed:
            # Nothing that was submitted is to blame: it is what this node makes of it.
            self.unbelieved = error
            over = self._end(Conflict(f"the others refuse what it builds: {error.what}", where=error.where))
            self._answer(block, lambda _: over, over)
            return
        for entry in blamed:
            self._settle(entry.call, entry.position, error)
        again = [(entry.call, entry.position) for entry in block.entries if entry not in blamed]
        again += [(call, position) for call, position, _ in block.refused]
        with self._wake:
            self._queue.extendleft(reversed(again))
            self._queued_bytes += sum(call.size_of(position) for call, position in again)

    # --- what became of it ---

    def _stored(self, entry: _Entry) -> Outcome:
        """The placement of a submission that the log holds at the entry's index."""
        return self.placement(entry.index, repeat=entry.repeat)

    def placement(self, index: int, *, repeat: bool) -> Placement:
        """Where the SUBMISSION or REGISTRY leaf at ``index`` stands. Raises NotFound, LeafFormatError."""
        info = self._store.block_of(index)
        leaf = self._store.leaf(index)
        count = 0 if leaf_type(leaf) is LeafType.REGISTRY else SubmissionLeaf.decode(leaf).count
        return Placement(index, index + 1, count, info.number, info.size, info.time_ms, repeat)

    def _found(self, entry: _Entry) -> Placement | None:
        """After a recovery: where the log holds it, released, whatever the failed write had said."""
        if entry.submission is not None:
            head = entry.submission.head
            genesis = self._committer.snapshot.head.ledger
            index = self._store.find_submission(head.claimed_ms, head.identity(genesis))
        else:
            same = self._committer.snapshot.head.size > entry.index and (
                self._store.leaf(entry.index) == entry.call.items[entry.position][0]
            )
            index = entry.index if same else None
        if index is None or index >= self._committer.published.head.size:
            return None
        return self.placement(index, repeat=entry.repeat)

    def _holds(self, transition: Transition) -> bool:
        """After a recovery: whether the block is in the log, whatever the failed write had said."""
        size = transition.state.size
        held = self._committer.snapshot.head.size
        return held >= size and self._store.leaf(size - 1) == transition.leaves[-1]

    def _answer(
        self, block: _Block, outcome: Callable[[_Entry], Outcome], instead: SudurError | None = None
    ) -> None:
        """Settle all who wait for a block. ``instead`` of what they were refused for, those get whose
        refusal does not stand, because the draft it was judged by did not come into the ledger.
        """
        for call, position, error in block.refused:
            self._settle(call, position, instead or error)
        for entry in block.entries:
            try:
                result = outcome(entry)
            except SudurError as error:
                result = error
            self._settle(entry.call, entry.position, result)

    def _settle(self, call: _Call, position: int, outcome: Outcome) -> None:
        call.outcomes[position] = outcome
        call.left -= 1
        if call.left == 0:
            self._finished.append(call)

    def _answer_queued(self, error: RetryableError) -> None:
        with self._wake:
            waiting = list(self._queue)
            self._queue.clear()
            self._queued_bytes = 0
        for call, position in waiting:
            self._settle(call, position, error)

    def _flush_answers(self) -> None:
        if not self._finished:
            return
        finished, self._finished = self._finished, []
        for call in finished:
            outcomes = [outcome for outcome in call.outcomes if outcome is not None]
            guarded(call.done, outcomes, self.publications.newest)
        for hook in self._answer_hooks:
            guarded(hook)


def _not_written() -> RetryableError:
    return RetryableError("the block could not be written", where="store", fix="send it again")


def _disk_full(what: str, path: Path) -> DiskFull:
    return DiskFull(
        what,
        where=str(path),
        fix="reads go on; submissions are taken again by themselves once there is space",
        retry_ms=10_000,
    )


def _fault_of(error: Exception, path: Path) -> RetryableError:
    """What callers are told while a store cannot be brought back."""
    if isinstance(error, RetryableError):
        return error
    # RocksDB's errors have no number, only the system's text.
    if os.strerror(errno.ENOSPC) in str(error):
        return _disk_full(str(error), path)
    return ReadOnly(f"the store failed: {error}", where=str(path), fix="see the node's log")


def _internal(error: Exception) -> NodeError:
    return NodeError(f"an internal error: {type(error).__name__}", fix="report it; the node's log has more")
