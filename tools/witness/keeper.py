"""The one writer of a witness: it decides, persists, and only then lets a cosignature out.

What arrived while the last group was written makes the next: one write of the state and one of the mark
for all of them. So a check and its write cannot be torn apart by another request, whoever asks at the same
time, and a disk that does 500 writes a second cosigns for thousands of requests.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Protocol

import structlog

from ledger.checkpoints import Checkpoint
from ledger.cosignatures import cosign
from ledger.errors import OutOfRange, ProofInvalid, SudurError
from ledger.hashing import EMPTY_ROOT
from ledger.notes import NamedSigner, Note, NoteSignature
from ledger.proofs import verify_consistency
from ledger.signatures import Algorithm
from ledger.witnessing import has_extensions
from node.clock import MAX_BEHIND_MS, MAX_PAUSE_MS, Clock
from node.errors import ClockUnsound
from node.logs import report
from tools.witness.heads import Head, HeadStore, Remembered
from tools.witness.mark import Mark
from tools.witness.refusals import (
    Busy,
    ClockWrong,
    Forked,
    Inconsistent,
    Malformed,
    NotNow,
    Refusal,
    Stale,
    StateLost,
    Stopped,
    StorageFailed,
)

MAX_GROUP: Final = 1_024
MAX_WAITING: Final = 8_192
_RETRY_S: Final = 1.0
_log = structlog.get_logger("witness.keeper")


@dataclass(frozen=True, slots=True)
class Asked:
    """A request. ``lines``: its signatures; those by the log's own keys alone, once they are verified."""

    old_size: int
    proof: Sequence[bytes]
    checkpoint: Checkpoint
    text: bytes
    lines: Sequence[NoteSignature]


class Observer(Protocol):
    """Is told what happens; called from the keeper's thread, and must neither block nor fail."""

    def group(self, requests: int, seconds: float) -> None: ...

    def cosigned(self, head: Head) -> None: ...

    def storage_failed(self) -> None: ...


@dataclass(slots=True)
class _Waiting:
    asked: Asked
    answer: Future[bytes]


@dataclass(frozen=True, slots=True)
class _Decided:
    waiting: _Waiting
    head: Head
    lines: bytes


class Keeper:
    """Decides over all logs of a witness, in a thread of its own.

    :meth:`ask` and :attr:`heads` may be called from any thread.
    """

    def __init__(
        self,
        store: HeadStore,
        mark: Mark,
        signers: Sequence[NamedSigner],
        clock: Clock,
        observer: Observer,
        *,
        clock_is_right: bool = False,
        max_group: int = MAX_GROUP,
    ) -> None:
        """Takes store and mark over. Raises StateLost when it is not the newest, StorageFailed."""
        self._store = store
        self._mark = mark
        self._signers = signers
        self._clock = clock
        self._observer = observer
        self._vouched = clock_is_right
        self._max_group = max_group
        self._queue: queue.Queue[_Waiting | None] = queue.Queue(MAX_WAITING)
        self._stopping = threading.Event()
        self._fault: Refusal | StateLost | None = None
        self._state = self._load()
        self._heads = dict(self._state.heads)
        self._thread = threading.Thread(target=self._run, name="keeper")

    @property
    def heads(self) -> Mapping[str, Head]:
        """The newest durable head of each log."""
        return MappingProxyType(self._heads)

    @property
    def fault(self) -> SudurError | None:
        """Why nothing is cosigned at the moment; None when all is well."""
        if self._stopping.is_set():
            return Stopped("the witness is shutting down")
        if self._fault is not None:
            return self._fault
        try:
            self._now_s()
        except ClockWrong as error:
            return error
        return None

    def start(self) -> None:
        """Begin to decide."""
        self._thread.start()

    def stop(self) -> None:
        """Finish what waits, and close store and mark. Blocks."""
        self._stopping.set()
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()
        self._store.close()
        self._mark.close()

    def ask(self, asked: Asked) -> Future[bytes]:
        """Have a request decided. The result: the signature lines; or a Refusal. Raises Busy, Stopped."""
        waiting = _Waiting(asked, Future())
        if self._stopping.is_set():
            raise Stopped("the witness is shutting down")
        try:
            self._queue.put_nowait(waiting)
        except queue.Full:
            raise Busy(f"{MAX_WAITING} requests wait") from None
        return waiting.answer

    def precheck(self, asked: Asked) -> None:
        """Raise what :meth:`ask` would refuse with, as of now; for whoever has dear work to do in between."""
        check(self._heads.get(asked.checkpoint.origin), asked)

    # --- the thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        going_on = True
        while going_on:
            group: list[_Waiting] = []
            going_on = self._gather(group)
            if not group:
                self._try_again()
                continue
            started = time.perf_counter()
            try:
                self._decide(group)
            except SudurError as error:
                _refuse(group, error if isinstance(error, Refusal) else NotNow(str(error)))
            except Exception as error:
                report("group_failed", error, log=_log)
                self._fault = StorageFailed("an unexpected fault; the log tells")
                _refuse(group, self._fault)
            self._observer.group(len(group), time.perf_counter() - started)
        while not self._queue.empty():
            late = self._queue.get_nowait()
            if late is not None:
                _refuse([late], Stopped("the witness is shutting down"))

    def _gather(self, group: list[_Waiting]) -> bool:
        """What waits; nothing when it is time to try a faulty storage again. False: it is time to stop."""
        try:
            one = self._queue.get(timeout=None if self._fault is None else _RETRY_S)
            while one is not None:
                group.append(one)
                if len(group) >= self._max_group:
                    return True
                one = self._queue.get_nowait()
        except queue.Empty:
            return True
        return False

    def _decide(self, group: Sequence[_Waiting]) -> None:
        """Decide, persist, answer. Whatever fails before the end, no cosignature has left.

        A crash before the store's write: nothing happened. After it, and before the mark is kept: the state
        is one write ahead of the mark, which the next start knows how to take. After that the answer is lost,
        and the log, asking again, hears the size (409) and goes on from there.
        """
        if self._fault is not None:
            self._reload()
        now_s = self._now_s()
        draft: dict[str, Head] = {}
        decided: list[_Decided] = []
        refused: list[tuple[_Waiting, Refusal]] = []
        for waiting in group:
            asked = waiting.asked
            origin = asked.checkpoint.origin
            try:
                check(draft.get(origin) or self._heads.get(origin), asked)
            except Refusal as error:
                refused.append((waiting, error))
                continue
            one = self._sign(waiting, now_s)
            draft[origin] = one.head
            decided.append(one)
        if draft:
            self._persist(list(draft.values()), now_s)
        for one in decided:
            self._observer.cosigned(one.head)
            _resolve(one.waiting.answer, one.lines)
        # Only now: what stands in the way of some is itself a part of this group.
        for waiting, refusal in refused:
            _refuse([waiting], refusal)

    def _sign(self, waiting: _Waiting, now_s: int) -> _Decided:
        asked = waiting.asked
        lines = [cosign(asked.text, signer, now_s) for signer in self._able(asked)]
        note = Note(asked.text, (*asked.lines, *lines))
        head = Head(asked.checkpoint, now_s, note.encode())
        return _Decided(waiting, head, b"".join(line.line() for line in lines))

    def _able(self, asked: Asked) -> Sequence[NamedSigner]:
        """ML-DSA-44 would sign no lines after the third, so it signs no checkpoint that has some."""
        if not has_extensions(asked.text):
            return self._signers
        return [one for one in self._signers if one.signer.algorithm is Algorithm.ED25519]

    def _persist(self, heads: Sequence[Head], now_s: int) -> None:
        place = self._state.place.after(heads)
        try:
            self._store.write(heads, place, now_s)
            self._mark.keep(place)
        except (Refusal, StateLost, OSError) as error:
            self._failed(error)
            raise self._fault or error from None
        self._vouched = True
        # A new one: others read it meanwhile.
        self._heads = {**self._heads, **{head.checkpoint.origin: head for head in heads}}
        self._state = Remembered(place, self._state.place, now_s, self._heads)

    def _load(self) -> Remembered:
        found = self._store.load()
        self._mark.check(found)
        self._mark.keep(found.place)
        return found

    def _reload(self) -> None:
        """After a failed write only the disk knows what was written; nothing is decided until it has told."""
        try:
            self._state = self._load()
        except (Refusal, StateLost, OSError) as error:
            self._failed(error)
            raise
        self._heads = dict(self._state.heads)
        self._fault = None
        _log.info("storage answers again", sequence=self._state.place.sequence)

    def _try_again(self) -> None:
        with suppress(Refusal, StateLost, OSError):
            if self._fault is not None:
                self._reload()

    def _failed(self, error: Exception) -> None:
        if isinstance(error, OSError):
            error = StorageFailed(f"the mark cannot be written: {error.strerror or error}")
        assert isinstance(error, Refusal | StateLost)
        if self._fault is None or str(self._fault) != str(error):
            _log.error("storage failed", reason=str(error))
        self._fault = error
        self._observer.storage_failed()

    def _now_s(self) -> int:
        """The time of the next cosignatures: never before that of an earlier one. Raises ClockWrong."""
        last_s = self._state.time_s
        try:
            now_ms = self._clock.now_ms()
        except ClockUnsound as error:
            raise ClockWrong(error.what, where="clock", fix=error.fix) from None
        now_s = now_ms // 1_000
        if now_s < last_s - MAX_BEHIND_MS // 1_000:
            raise ClockWrong(
                f"this clock is {last_s - now_s} s behind the newest cosignature",
                where="clock",
                fix="set it right; the witness goes on by itself",
            )
        # Later the clock itself is watched (node/clock.py); what it did before the start only this can tell.
        if last_s and not self._vouched and now_s - last_s > MAX_PAUSE_MS // 1_000:
            raise ClockWrong(
                f"this clock is {(now_s - last_s) / 86_400:.1f} days past the newest cosignature",
                where="clock",
                fix="if the time is right, restart with --clock-is-right; else set it right",
            )
        return max(now_s, last_s)


def check(known: Head | None, asked: Asked) -> None:
    """Return if the witness may cosign what is asked after ``known`` (None: nothing yet).

    The order of the answers is the specification's. Raises Malformed, Stale, Forked, Inconsistent.
    """
    new = asked.checkpoint
    if asked.old_size > new.size:
        raise Malformed(f"the old size {asked.old_size} is above the new one, {new.size}")
    before = Checkpoint(new.origin, 0, EMPTY_ROOT) if known is None else known.checkpoint
    known_size, known_root = before.size, before.root
    if asked.old_size != known_size:
        raise Stale(known_size, asked.old_size)
    if not new.size and new.root != EMPTY_ROOT:
        raise Inconsistent("an empty tree has another root", where=new.origin)
    if new.size == known_size and new.root != known_root:
        raise Forked(f"another root for size {new.size} than the one cosigned", where=new.origin)
    try:
        verify_consistency(known_size, known_root, new.size, new.root, asked.proof)
    except (ProofInvalid, OutOfRange) as error:
        raise Inconsistent(error.what, where=f"{new.origin}: {error.where}") from None


def _resolve(answer: Future[bytes], lines: bytes) -> None:
    if answer.set_running_or_notify_cancel():
        answer.set_result(lines)


def _refuse(group: Sequence[_Waiting], error: Refusal) -> None:
    for waiting in group:
        if not waiting.answer.done() and waiting.answer.set_running_or_notify_cancel():
            waiting.answer.set_exception(error)
