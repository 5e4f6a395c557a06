"""The keeper with storage that fails, before or after it has written, and with clocks that go wrong."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ledger.cosignatures import verify_cosignatures, witness_key
from ledger.notes import NamedSigner, Note, parse_note, parse_signatures
from ledger.witnessing import parse_add_checkpoint
from node.clock import SystemClock
from tests.tools.witness.promises import Promises
from tests.tools.witness.serving import NAME
from tests.tools.witness.some_log import SomeLog, signer
from tools.witness.door import parse
from tools.witness.head_store import SqliteHeads
from tools.witness.heads import Head, Place, Remembered
from tools.witness.keeper import Asked, Keeper
from tools.witness.mark import Identity, Mark
from tools.witness.refusals import (
    ClockWrong,
    Forked,
    Inconsistent,
    NotNow,
    Refusal,
    Stale,
    StateLost,
    StorageFailed,
)

KEY = signer(NAME)
VKEY = witness_key(NAME, KEY.public_key)
START_MS = 1_800_000_000_000


@dataclass
class FakeClock:
    ms: int = START_MS

    def now_ms(self) -> int:
        return self.ms


@dataclass
class Silent:
    """An observer that only counts."""

    failures: int = 0
    groups: list[int] = field(default_factory=list)

    def group(self, requests: int, seconds: float) -> None:
        self.groups.append(requests)

    def cosigned(self, head: Head) -> None:
        pass

    def storage_failed(self) -> None:
        self.failures += 1


class FaultyHeads:
    """Real heads, whose writes fail as ``plan`` says: "lost", "kept" (written, and yet an error) or well."""

    def __init__(self, path: Path, plan: Iterator[str]) -> None:
        self._real = SqliteHeads(path)
        self._plan = plan

    def load(self) -> Remembered:
        if next(self._plan, "") == "lost":
            raise StorageFailed("injected: cannot be read")
        return self._real.load()

    def write(self, heads: Sequence[Head], place: Place, time_s: int) -> None:
        fate = next(self._plan, "")
        if fate == "lost":
            raise StorageFailed("injected: lost")
        self._real.write(heads, place, time_s)
        if fate == "kept":
            raise StorageFailed("injected: written, and yet an error")

    def close(self) -> None:
        self._real.close()


@dataclass
class FaultySync:
    """The mark's fsync, likewise."""

    plan: Iterator[str]

    def __call__(self, descriptor: int) -> None:
        if next(self.plan, "") != "":
            raise OSError(5, "injected")


NO_PLAN: Sequence[str] = ()


@contextmanager
def keeping(
    root: Path,
    *,
    clock: Any = None,
    heads: Sequence[str] = NO_PLAN,
    mark: Sequence[str] = NO_PLAN,
    **options: Any,
) -> Iterator[Keeper]:
    """A keeper on the files in ``root``; the first load, and the first mark, are well."""
    if not (root / "mark").exists():
        Mark.create(root / "mark", Identity(VKEY, audits=False))
    opened = Mark.open(root / "mark", sync=FaultySync(iter(mark)))
    try:
        store = FaultyHeads(root / "heads", iter(["", *heads] if heads else ()))
        keeper = Keeper(store, opened, [NamedSigner(NAME, KEY)], clock or FakeClock(), Silent(), **options)
    except BaseException:
        opened.close()
        raise
    keeper.start()
    try:
        yield keeper
    finally:
        keeper.stop()


def asked(log: SomeLog, old: int, new: int) -> Asked:
    return parse(log.request(old, new))


def cosign(keeper: Keeper, log: SomeLog, old: int, new: int) -> int:
    """The time of the cosignature. Raises what the keeper refuses with."""
    lines = keeper.ask(asked(log, old, new)).result(30)
    note = Note(parse_note(log.note(new)).text, parse_signatures(lines))
    (found,) = verify_cosignatures(note, (VKEY,))
    return found.time_s


# --- faults --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_whatever_fails_nothing_is_taken_back(tmp_path: Path, seed: int) -> None:
    """Writes lost, writes kept and yet an error, marks lost, restarts, forks: in any order."""
    chance = random.Random(seed)
    honest = SomeLog()
    branches = [honest, *(honest.forked(at, f"b{at}") for at in (3, 8, 20))]
    promises, known = Promises(), 0
    for _ in range(6):
        fates = [chance.choice(["", "", "", "lost", "kept"]) for _ in range(40)]
        syncs = ["", *(chance.choice(["", "", "", "", "failed"]) for _ in range(40))]
        with keeping(tmp_path, heads=fates, mark=syncs) as keeper:
            for _ in range(12):
                log = chance.choice(branches)
                old = chance.choice([known, known, known, 0, known + 1])
                new = old + chance.randrange(0, 4)
                try:
                    time_s = cosign(keeper, log, old, new)
                except Stale as stale:
                    known = stale.known_size
                except Refusal:
                    pass
                else:
                    promises.heard(log, new, time_s)
                    known = new
                    assert keeper.heads[log.origin].checkpoint == log.checkpoint(new)
    promises.check()
    assert promises.count, "some got through"


@pytest.mark.parametrize("fate", ["lost", "kept"])
def test_a_failed_write_is_no_cosignature_and_it_goes_on_by_itself(tmp_path: Path, fate: str) -> None:
    log = SomeLog()
    with keeping(tmp_path, heads=[fate]) as keeper:
        with pytest.raises(StorageFailed, match="injected") as refused:
            cosign(keeper, log, 0, 5)
        assert refused.value.status == 503
        while keeper.fault is not None:
            pass  # it tries by itself, though nobody asks
        if fate == "lost":
            assert keeper.heads == {}
            cosign(keeper, log, 0, 5)
        else:
            assert keeper.heads[log.origin].checkpoint.size == 5
            with pytest.raises(Stale) as stale:
                cosign(keeper, log, 0, 5)
            assert stale.value.known_size == 5
        cosign(keeper, log, 5, 6)


def test_a_mark_that_cannot_be_written_stops_it(tmp_path: Path) -> None:
    log = SomeLog()
    with keeping(tmp_path, mark=["", "failed", "failed", ""]) as keeper:
        with pytest.raises(StorageFailed, match="mark cannot be written"):
            cosign(keeper, log, 0, 5)
        with pytest.raises(NotNow):
            cosign(keeper, log, 0, 5)
        while keeper.fault is not None:
            pass
        cosign(keeper, log, 5, 6)
    with keeping(tmp_path) as keeper:
        cosign(keeper, log, 6, 7)


def test_a_crash_between_state_and_mark_is_no_loss(tmp_path: Path) -> None:
    log = SomeLog()
    with keeping(tmp_path) as keeper:
        cosign(keeper, log, 0, 5)
    older = (tmp_path / "mark").read_bytes()
    with keeping(tmp_path) as keeper:
        cosign(keeper, log, 5, 6)
        stale = (tmp_path / "mark").read_bytes()
        assert stale != older
        cosign(keeper, log, 6, 7)
    (tmp_path / "mark").write_bytes(stale)
    with keeping(tmp_path) as keeper:
        assert keeper.heads[log.origin].checkpoint.size == 7
        cosign(keeper, log, 7, 8)
    (tmp_path / "mark").write_bytes(older)
    with pytest.raises(StateLost, match="another mark"), keeping(tmp_path):
        pass


# --- one group -----------------------------------------------------------------------------------


def test_of_several_in_one_group_one_wins(tmp_path: Path) -> None:
    log, fork, other = SomeLog(), SomeLog().forked(1), SomeLog("log.example/two")
    Mark.create(tmp_path / "mark", Identity(VKEY, audits=False))
    seen = Silent()
    store, mark = SqliteHeads(tmp_path / "heads"), Mark.open(tmp_path / "mark")
    keeper = Keeper(store, mark, [NamedSigner(NAME, KEY)], FakeClock(), seen)
    group = [(log, 0, 5), (fork, 0, 6), (log, 5, 7), (log, 0, 7), (other, 0, 1)]
    answers = [keeper.ask(asked(*one)) for one in group]
    keeper.start()
    try:
        assert answers[0].result(30)
        with pytest.raises(Stale) as stale:
            answers[1].result(30)
        assert stale.value.known_size == 5
        assert answers[2].result(30)
        with pytest.raises(Stale) as stale:
            answers[3].result(30)
        assert stale.value.known_size == 7
        assert answers[4].result(30)
    finally:
        keeper.stop()
    assert seen.groups == [5]
    with pytest.raises(NotNow, match="shutting down"):
        keeper.ask(asked(log, 7, 8))


def test_what_the_log_cannot_deny_is_named(tmp_path: Path) -> None:
    log = SomeLog()
    with keeping(tmp_path) as keeper:
        cosign(keeper, log, 0, 5)
        with pytest.raises(Forked):
            cosign(keeper, log.forked(2), 5, 5)
        with pytest.raises(Inconsistent):
            cosign(keeper, log.forked(2), 5, 9)


# --- time ----------------------------------------------------------------------------------------


def test_time_never_goes_back(tmp_path: Path) -> None:
    log, clock = SomeLog(), FakeClock()
    with keeping(tmp_path, clock=clock) as keeper:
        first = cosign(keeper, log, 0, 5)
        assert first == START_MS // 1_000
        clock.ms -= 299_000
        assert cosign(keeper, log, 5, 6) == first, "a little back: it stands still"
        clock.ms -= 2_000
        with pytest.raises(ClockWrong, match="301 s behind") as wrong:
            cosign(keeper, log, 6, 7)
        assert wrong.value.status == 503
        assert keeper.fault is not None
    with keeping(tmp_path, clock=clock) as keeper, pytest.raises(ClockWrong, match="behind"):
        cosign(keeper, log, 6, 7)
    clock.ms = START_MS + 5_000
    with keeping(tmp_path, clock=clock) as keeper:
        assert keeper.fault is None
        assert cosign(keeper, log, 6, 7) == first + 5


def test_a_clock_far_ahead_at_the_start_is_believed_only_when_somebody_says_so(tmp_path: Path) -> None:
    log, clock = SomeLog(), FakeClock()
    with keeping(tmp_path, clock=clock) as keeper:
        cosign(keeper, log, 0, 5)
        clock.ms += 8 * 86_400_000
        cosign(keeper, log, 5, 6)  # it was watched all the time
        clock.ms += 8 * 86_400_000
    with keeping(tmp_path, clock=clock) as keeper, pytest.raises(ClockWrong, match="--clock-is-right"):
        cosign(keeper, log, 6, 7)
    with keeping(tmp_path, clock=clock, clock_is_right=True) as keeper:
        assert cosign(keeper, log, 6, 7) == clock.ms // 1_000


def test_a_clock_that_jumps_ahead_stops_it(tmp_path: Path) -> None:
    log, wall = SomeLog(), FakeClock()
    clock = SystemClock(lambda: wall.ms, lambda: 0)
    with keeping(tmp_path, clock=clock) as keeper:
        cosign(keeper, log, 0, 5)
        wall.ms += 61_000
        with pytest.raises(ClockWrong, match="jumped"):
            cosign(keeper, log, 5, 6)
        wall.ms -= 61_000
        cosign(keeper, log, 5, 6)


def test_what_is_parsed_is_what_was_sent() -> None:
    log = SomeLog()
    body = log.request(3, 9)
    assert parse(body).old_size == parse_add_checkpoint(body).old_size == 3
    assert parse(body).checkpoint == log.checkpoint(9)
