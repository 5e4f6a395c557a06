"""Asks the witnesses of the policy in force to cosign what this node signs; on a thread and loop of its own.

Witnesses differ in how long they take, and a quorum has to meet on one size. So there is one *target* at a
time, which all are asked for. It gives way to the newest signed head, whatever came in between, as soon as
it is published, or everybody who could still cosign it has answered or failed. Whoever is slow then
misses targets, and holds nobody up who is not needed.

While the ledger stands still the same head is cosigned anew now and then: the time in a cosignature is what
tells a verifier how old a checkpoint is, and C2SP lets a log ask again for the size that a witness has.

Whoever commits blocks only wakes this. Nothing here can hold up a commit, or fail it.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Final

import structlog

from ledger.errors import SignatureInvalid, SudurError
from ledger.notes import NoteSignature
from ledger.witness_policy import MAX_FUTURE_S, Witness, WitnessPolicy
from node.cosigning.answers import Answer, Cosigned, Failed, HasSize, Trouble
from node.cosigning.health import Cosigning, WitnessHealth, cosigning_of
from node.cosigning.link import WitnessLink
from node.cosigning.policies import policy_at
from node.cosigning.settings import CosigningSettings, is_url
from node.errors import NotFound
from node.ledger_copy import LedgerCopy
from node.logs import report
from node.publish import Published

_log: Final = structlog.get_logger("node.cosigning")
LOOK_S: Final = 1.0
"""How often it is looked whether this node asks at all, and what others have gathered."""
_OTHERS_S: Final = 30.0
_MOST_CORRECTIONS: Final = 3
"""Sizes that a witness may name in a row, before it counts as wrong."""
_ALARM_PAUSE_S: Final = 5.0
"""An alarm is looked at again soon: another leader's request may just have been faster."""

Observe = Callable[[str, str, float], None]
"""Is told the name of a witness, what became of a request, and the seconds that it took."""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What differs between kinds of nodes.

    ``asks``: whether this node asks the witnesses now. ``gathered``: notes that others have, which this
    node merges: of the leader while it follows, of all others as it begins to lead; may block, and gives
    nothing where nobody answers. ``observe``: for metrics. ``now_s``: the time of day.
    """

    asks: Callable[[], bool] = lambda: True
    gathered: Callable[[], Iterable[bytes]] = tuple
    observe: Observe = lambda name, outcome, seconds: None
    now_s: Callable[[], float] = time.time


class Collector:
    """:meth:`start` it, :meth:`stop` it. The rest may be called from any thread."""

    def __init__(
        self, copy: LedgerCopy, settings: CosigningSettings, circumstances: Circumstances | None = None
    ) -> None:
        self._copy = copy
        self._settings = settings
        self._at = circumstances or Circumstances()
        self._context = settings.context()
        self._askers: dict[str, _Asker] = {}
        self._target: Published | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._woken = asyncio.Event()
        self._waking = False
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="cosigning", daemon=True)
        copy.publications.on_publish(lambda _: self.wake())

    def start(self) -> None:
        """Begin to ask. Once."""
        self._thread.start()

    def stop(self) -> None:
        """Ask no more. What was cosigned is kept; requests under way are given up."""
        self._stopping = True
        if self._thread.ident is not None:
            self.wake(anyway=True)
            self._thread.join()

    def wake(self, *, anyway: bool = False) -> None:
        """There is a newer head. About 5 µs."""
        loop = self._loop
        if loop is None or (self._waking and not anyway):
            return
        self._waking = True
        with suppress(RuntimeError):  # it has just ended
            loop.call_soon_threadsafe(self._woken.set)

    def cosigning(self) -> Cosigning:
        """How far publication is, and how each witness is."""
        healths = [one for asker in list(self._askers.values()) for one in asker.healths]
        return cosigning_of(self._copy, healths)

    # --- the thread ---

    def _run(self) -> None:
        try:
            asyncio.run(self._work())
        except Exception as error:
            report("cosigning_failed", error, log=_log)

    async def _work(self) -> None:
        self._loop = asyncio.get_running_loop()
        asked = False
        merged = 0.0
        try:
            while not self._stopping:
                asks = self._asks()
                if asks != asked or (not asks and self._is_behind(merged)):
                    # Who begins to ask takes over what others have; who does not, takes it now and then.
                    await self._merge()
                    merged = time.monotonic()
                asked = asks
                await self._appoint(self._policy() if asks else None)
                if asks:
                    self.advance()
                await _wait(self._woken, LOOK_S)
                self._woken.clear()
                self._waking = False
        finally:
            await self._appoint(None)

    def _asks(self) -> bool:
        try:
            return self._at.asks()
        except Exception as error:
            report("cosigning_failed", error, log=_log)
            return False

    def _is_behind(self, merged: float) -> bool:
        newest = self._copy.witnessed.newest
        behind = newest is None or newest.size < self._copy.published.size
        return time.monotonic() - merged >= (LOOK_S if behind else _OTHERS_S)

    async def _merge(self) -> None:
        for note in await asyncio.to_thread(self._gathered):
            try:
                await asyncio.to_thread(self._copy.witnessed.take_note, note)
            except NotFound:
                continue
            except SudurError as error:
                _log.warning("gathered_cosignatures_unusable", error=str(error))

    def _gathered(self) -> Sequence[bytes]:
        try:
            return tuple(one for one in self._at.gathered() if one)
        except Exception as error:
            report("cosigning_failed", error, log=_log)
            return ()

    def _policy(self) -> WitnessPolicy | None:
        signed = self._copy.published
        return policy_at(signed.state.registry.ledger, signed.size)

    async def _appoint(self, policy: WitnessPolicy | None) -> None:
        """Have one asker for each URL of the policy, and no other."""
        wanted: dict[str, list[Witness]] = {}
        for one in () if policy is None else policy.witnesses:
            url = self._settings.urls.get(one.name, one.url)
            if is_url(url):
                wanted.setdefault(url, []).append(one)
        for url, asker in list(self._askers.items()):
            if tuple(wanted.get(url, ())) != asker.witnesses:
                del self._askers[url]
                await asker.end()
        for url, witnesses in wanted.items():
            if url not in self._askers:
                link = WitnessLink(url, self._context, self._settings.timeout_s)
                self._askers[url] = _Asker(self, link, tuple(witnesses))

    def advance(self) -> None:
        """Turn to the newest head, unless somebody is still at the target who may make it published."""
        newest, target = self._copy.published, self._target
        if target is not None and newest.size > target.size:
            published = self._copy.witnessed.newest
            met = published is not None and published.size >= target.size
            if not met and any(one.may_yet(target) for one in self._askers.values()):
                return
        if target is None or newest.size > target.size:
            self._target = newest
        for one in self._askers.values():
            one.look()

    @property
    def target(self) -> Published | None:
        """What the witnesses are asked for now."""
        return self._target

    @property
    def settings(self) -> CosigningSettings:
        return self._settings

    @property
    def copy(self) -> LedgerCopy:
        return self._copy

    @property
    def circumstances(self) -> Circumstances:
        return self._at


async def _wait(event: asyncio.Event, seconds: float) -> None:
    """Until it is set, or the time is over. ``wait_for`` may lose a cancellation that comes with it."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


class _Asker:
    """Asks one witness, one request at a time, for as long as it is appointed.

    One program may hold several of the policy's keys: it is asked once for all of them.
    """

    def __init__(self, collector: Collector, link: WitnessLink, witnesses: tuple[Witness, ...]) -> None:
        self.witnesses = witnesses
        self._collector = collector
        self._link = link
        self._known: int | None = None
        self._done = 0
        self._cosigned_at = 0.0
        self._not_before = 0.0
        self._old_seal = -1
        self._pause = collector.settings.first_pause_s
        self._busy = False
        self._poked = asyncio.Event()
        self._healths = {
            one.name: WitnessHealth(one.name, one.key.format(), link.url) for one in self.witnesses
        }
        self._task = asyncio.create_task(self._run())

    @property
    def healths(self) -> tuple[WitnessHealth, ...]:
        return tuple(self._healths.values())

    async def end(self) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    def look(self) -> None:
        """The target may be another."""
        self._poked.set()

    def may_yet(self, target: Published) -> bool:
        """Whether it is about to answer for the target, as far as one can tell."""
        return self._busy or (self._done < target.size and time.monotonic() >= self._not_before_of(target))

    async def _run(self) -> None:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._link)
            while True:
                self._poked.clear()
                wait = self._wait_s()
                if wait > 0:
                    await _wait(self._poked, wait)
                    continue
                target = self._collector.target
                assert target is not None
                self._busy = True
                try:
                    await self._ask(target)
                except Exception as error:
                    report("cosigning_failed", error, log=_log)
                    self._fail(Failed(Trouble.SILENT, f"this node failed: {type(error).__name__}"))
                finally:
                    self._busy = False
                self._collector.advance()

    def _wait_s(self) -> float:
        """Seconds until something is to be asked."""
        target = self._collector.target
        if target is None:
            return LOOK_S
        now = time.monotonic()
        due = 0.0
        if target.size <= self._done:
            due = self._cosigned_at + self._collector.settings.refresh_s
        return max(due, self._not_before_of(target)) - now

    def _not_before_of(self, target: Published) -> float:
        """Whoever found the seal of an earlier head too old waits for just such a newer one."""
        return 0.0 if 0 <= self._old_seal < target.size else self._not_before

    async def _ask(self, target: Published) -> None:
        started = time.perf_counter()
        answer = await self._answer(target)
        took = time.perf_counter() - started
        outcome: Failed | None
        match answer:
            case Cosigned():
                outcome = await self._keep(target, answer.signatures)
            case HasSize():
                outcome = self._passed(target, answer.size)
            case Failed():
                outcome = answer
        self._healths = {name: replace(one, took_s=took) for name, one in self._healths.items()}
        told = "OK" if outcome is None else str(outcome.trouble)
        for one in self.witnesses:
            self._collector.circumstances.observe(one.name, told, took)
        self._old_seal = -1
        if outcome is not None:
            self._fail(outcome)
            if outcome.trouble is Trouble.OLD_SEAL:
                self._old_seal = target.size
            return
        self._be_well(target.size)
        if isinstance(answer, Cosigned):
            self._known = target.size
        self._done = target.size
        self._cosigned_at = time.monotonic()
        self._pause = self._collector.settings.first_pause_s
        self._not_before = 0.0

    async def _answer(self, target: Published) -> Answer:
        """Ask, and again where the witness says what size it has."""
        note = self._collector.copy.store.signed_checkpoint(target.size)
        proofs = self._collector.copy.proofs
        old = self._known
        if old is None:
            # A guess saves a request; where it is wrong, the witness says so.
            newest = self._collector.copy.witnessed.newest
            old = 0 if newest is None else newest.size
        for _ in range(_MOST_CORRECTIONS):
            answer = await self._link.add(note, target.size, min(old, target.size), proofs)
            if not isinstance(answer, HasSize):
                return answer
            self._known = old = answer.size
            if old > target.size:
                return answer
        return Failed(Trouble.WRONG, f"it names one size after the other, at last {old}")

    def _passed(self, target: Published, size: int) -> Failed | None:
        """It has cosigned more than the target: what another has asked it for, or what is not here."""
        signed = self._collector.copy.published.size
        if size <= signed:
            return None
        return Failed(Trouble.AHEAD, f"it has cosigned {size} leaves of this log, here are {signed}")

    async def _keep(self, target: Published, signatures: Sequence[NoteSignature]) -> Failed | None:
        """Verify what came, and keep it. None where each of its keys has cosigned."""
        own = {(one.key.name, one.key.key_id): one for one in self.witnesses}
        mine = [one for one in signatures if (one.name, one.key_id) in own]
        now = self._collector.circumstances.now_s()
        ahead = [one for one in mine if int.from_bytes(one.blob[:8], "big") > now + MAX_FUTURE_S]
        if ahead:
            # Kept, it would stand in the way of every later one, and count for no verifier.
            return Failed(Trouble.WRONG, "its cosignature is dated ahead of this node's clock")
        try:
            found = await asyncio.to_thread(self._collector.copy.witnessed.take, target.size, mine)
        except SignatureInvalid as error:
            return Failed(Trouble.WRONG, f"its cosignature does not verify: {error.what}")
        times = {one.key: one.time_s for one in found}
        for one in self.witnesses:
            if one.key in times:
                before = self._healths[one.name]
                self._healths[one.name] = replace(before, size=target.size, time_s=times[one.key])
        missing = [one.name for one in self.witnesses if one.key not in times]
        if missing:
            return Failed(Trouble.WRONG, f"it did not cosign with the key of {', '.join(missing)}")
        old = [one for one in times.values() if one < now - MAX_FUTURE_S]
        if old:
            return Failed(Trouble.WRONG, f"its cosignature is dated {(now - old[0]) / 60:.0f} minutes back")
        return None

    def _be_well(self, size: int) -> None:
        for name, before in self._healths.items():
            if before.trouble is not None:
                _log.info("witness_well", witness=name, size=size)
            self._healths[name] = replace(before, trouble=None, what="", failures=0)

    def _fail(self, failed: Failed) -> None:
        for name, before in self._healths.items():
            if (before.trouble, before.what) != (failed.trouble, failed.what):
                tell = _log.error if failed.trouble.is_alarm else _log.warning
                tell("witness_trouble", witness=name, trouble=str(failed.trouble), what=failed.what)
            self._healths[name] = replace(
                before, trouble=failed.trouble, what=failed.what, failures=before.failures + 1
            )
        longest = self._collector.settings.longest_pause_s
        pause = min(_ALARM_PAUSE_S, longest) if failed.trouble.is_alarm else self._pause
        self._pause = min(2 * self._pause, longest)
        # Jitter, so that not all nodes and logs come back to a witness at once.
        self._not_before = time.monotonic() + max(failed.again_s, pause * random.uniform(0.5, 1.0))


@contextmanager
def collecting(
    copy: LedgerCopy,
    settings: CosigningSettings,
    *,
    asks: Callable[[], bool] = lambda: True,
    gathered: Callable[[], Iterable[bytes]] = tuple,
    observe: Observe = lambda name, outcome, seconds: None,
) -> Iterator[Collector]:
    """A collector that works while the context lasts; see :class:`Circumstances`. Raises NodeError."""
    collector = Collector(copy, settings, Circumstances(asks, gathered, observe))
    collector.start()
    try:
        yield collector
    finally:
        collector.stop()
