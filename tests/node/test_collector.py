"""A node asks its witnesses: what it makes of honest ones, and of all the others."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from ledger.changes import WitnessPolicyChanged
from ledger.checkpoints import log_key
from ledger.cosignatures import cosign, verify_cosignatures
from ledger.notes import parse_note
from ledger.witnessing import SIZE_TYPE
from node.cosigning.answers import MAX_ANSWER, Trouble
from node.cosigning.collector import Circumstances, Collector
from node.cosigning.health import WitnessHealth
from node.cosigning.settings import CosigningSettings
from node.node import LedgerNode
from tests.node.world import ORIGIN, World, placed, submit
from tests.witnesses import (
    FakeWitness,
    Lie,
    Request,
    cosigned,
    cosigner,
    cosigner_key,
    policy,
    wait_for,
)

NAMES = ("one", "two", "three")
FAST = CosigningSettings(first_pause_s=0.05, longest_pause_s=0.2, timeout_s=5.0)


class Watched:
    """A node, three witnesses of which two are enough, and the node's collector."""

    def __init__(self, data: Path, settings: CosigningSettings = FAST, *, needed: int = 2) -> None:
        self.world = World()
        key = log_key(ORIGIN, self.world.log.public_key)
        self.witnesses = {name: FakeWitness(name, key).start() for name in NAMES}
        self.world.policy = policy(needed, **{name: one.url for name, one in self.witnesses.items()})
        self.data = data
        self.settings = settings
        self.outcomes: list[tuple[str, str]] = []
        self.node: LedgerNode = self.world.furnished(data)
        self.collector = self._collector()

    def _collector(self) -> Collector:
        observed = Circumstances(observe=lambda name, told, _: self.outcomes.append((name, told)))
        return Collector(self.node, self.settings, observed)

    def start(self) -> None:
        self.collector.start()

    def restart(self) -> None:
        self.collector.stop()
        self.node.close()
        self.node = self.world.open(self.data)
        self.collector = self._collector()

    def issue(self) -> int:
        return placed(submit(self.node.sequencer, self.world.issues())[0][0]).block_size

    @property
    def published(self) -> int:
        newest = self.node.witnessed.newest
        return 0 if newest is None else newest.size

    def wait_published(self, size: int | None = None) -> None:
        wanted = self.node.published.size if size is None else size
        wait_for(lambda: self.published >= wanted, f"publication of {wanted}")

    def health(self, name: str) -> WitnessHealth:
        return next(one for one in self.collector.cosigning().witnesses if one.name == name)

    def close(self) -> None:
        self.collector.stop()
        for one in self.witnesses.values():
            one.stop()
        self.node.close()


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    made = Watched(tmp_path / "data")
    try:
        yield made
    finally:
        made.close()


def test_three_witnesses_publish_each_block_and_one_request_is_under_way_at_a_time(watched: Watched) -> None:
    watched.start()
    for _ in range(20):
        size = watched.issue()
        watched.wait_published(size)
    note = watched.node.witnessed.newest
    assert note is not None
    wait_for(lambda: all(watched.health(name).size == size for name in NAMES), "the third cosignature")
    assert {one.most for one in watched.witnesses.values()} == {1}
    for name in NAMES:
        wait_for(lambda name=name: watched.health(name).took_s > 0)  # type: ignore[misc]
        health = watched.health(name)
        assert (health.trouble, health.failures, health.url) == (None, 0, watched.witnesses[name].url)
        assert abs(health.time_s - time.time()) < 60
    # Each asked from what it had; only the first time did the node not know.
    one = watched.witnesses["one"].requests
    assert one[0][0] == 0
    assert all(old == before[1] for before, (old, _) in pairwise(one))


def test_blocks_that_come_faster_than_witnesses_answer_are_skipped(watched: Watched) -> None:
    watched.start()
    watched.wait_published()
    for one in watched.witnesses.values():
        one.gate.clear()
    first = watched.issue()
    wait_for(lambda: all(one.most == 1 for one in watched.witnesses.values()))
    later = [watched.issue() for _ in range(10)]
    assert watched.published < first, "commits have gone on without them"
    for one in watched.witnesses.values():
        one.gate.set()
    watched.wait_published(later[-1])
    asked = [size for _, size in watched.witnesses["two"].requests]
    assert len(set(asked) & set(later)) < len(later)


def test_one_down_is_no_matter_and_it_catches_up(watched: Watched) -> None:
    down = watched.witnesses["three"]
    down.stop()
    watched.start()
    watched.issue()
    watched.wait_published()
    wait_for(lambda: watched.health("three").failures > 1)
    assert watched.health("three").trouble is Trouble.SILENT
    size = watched.issue()
    watched.wait_published(size)
    down.start()
    wait_for(lambda: watched.health("three").trouble is None)
    assert watched.health("three").size == size


def test_a_slow_one_holds_nobody_up(watched: Watched) -> None:
    slow = watched.witnesses["two"]
    slow.gate.clear()
    watched.start()
    for _ in range(5):
        watched.wait_published(watched.issue())
    assert slow.requests == []
    slow.gate.set()
    wait_for(lambda: watched.health("two").size == watched.node.published.size)


def flipped(request: Request) -> tuple[int, str, bytes]:
    line = cosigned(request.note, request.witness.name, int(time.time()))
    blob = line.blob[:-1] + bytes((line.blob[-1] ^ 1,))
    return 200, "text/plain", type(line)(line.name, line.key_id, blob).line()


def other_size(request: Request) -> tuple[int, str, bytes]:
    origin, size, root, *_ = parse_note(request.note).text.split(b"\n")
    text = b"\n".join((origin, b"%d" % (int(size) - 1), root, b""))
    return 200, "text/plain", cosign(text, cosigner(request.witness.name), int(time.time())).line()


def dated(offset_s: int) -> Lie:
    def lie(request: Request) -> tuple[int, str, bytes]:
        line = cosigned(request.note, request.witness.name, int(time.time()) + offset_s)
        return 200, "text/plain", line.line()

    return lie


def says(status: int, body: bytes = b"", kind: str = "text/plain") -> Lie:
    return lambda _: (status, kind, body)


LIES: dict[str, tuple[Lie, Trouble]] = {
    "bad signature": (flipped, Trouble.WRONG),
    "cosignature of another size": (other_size, Trouble.WRONG),
    "dated ahead": (dated(3_600), Trouble.WRONG),
    "dated back": (dated(-3_600), Trouble.WRONG),
    "another's line": (
        lambda request: (200, "text/plain", cosigned(request.note, "stranger", 1).line()),
        Trouble.WRONG,
    ),
    "rubbish": (says(200, b"\xff\x00 no line"), Trouble.WRONG),
    "nothing": (says(200), Trouble.WRONG),
    "too much": (says(200, b"\xe2\x80\x94 a b\n" * MAX_ANSWER), Trouble.WRONG),
    "no size": (says(409, b"many\n", SIZE_TYPE), Trouble.WRONG),
    "a size of another type": (says(409, b"3\n"), Trouble.WRONG),
    "ahead": (says(409, b"1000000\n", SIZE_TYPE), Trouble.AHEAD),
    "another history": (says(422), Trouble.FORKED),
    "caught": (says(422, b"CAUGHT: a block breaks the rules\n"), Trouble.CAUGHT),
    "an old head": (says(503, b"SEAL_OLD: sealed an hour ago\n"), Trouble.OLD_SEAL),
    "an audit under way": (says(503, b"CATCHING_UP: 3 of 9\n"), Trouble.AUDITING),
    "unknown log": (says(404), Trouble.UNKNOWN_LOG),
    "unknown key": (says(403), Trouble.UNKNOWN_LOG),
    "a fault of its own": (says(500), Trouble.REFUSING),
    "elsewhere": (says(302), Trouble.REFUSING),
}


@pytest.fixture(scope="module")
def lied_to(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    made = Watched(tmp_path_factory.mktemp("lied to") / "data")
    made.start()
    try:
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("name", LIES)
def test_whatever_a_witness_answers_is_told_and_believed_by_nobody(lied_to: Watched, name: str) -> None:
    watched = lied_to
    lie, trouble = LIES[name]
    watched.witnesses["one"].lie = lie
    size = watched.issue()
    watched.wait_published(size)
    wait_for(lambda: watched.health("one").failures > 0)
    health = watched.health("one")
    assert (health.trouble, bool(health.what)) == (trouble, True)
    note = parse_note(watched.node.store.checkpoint(size))
    keys = [cosigner_key(one) for one in NAMES]
    good = {one.key.name for one in verify_cosignatures(note, keys)}
    assert len(good) >= 2
    assert cosigner("one").name not in good or name == "dated back", "only that one verifies"
    watched.witnesses["one"].lie = None
    wait_for(lambda: watched.health("one").trouble is None)


def test_a_size_that_wanders_ends_in_a_pause(watched: Watched) -> None:
    sizes = iter(range(1, 10_000))
    watched.witnesses["one"].lie = lambda _: (409, SIZE_TYPE, b"%d\n" % (next(sizes) % 4))
    watched.start()
    wait_for(lambda: watched.health("one").trouble is Trouble.WRONG)


def test_a_witness_that_forgot_is_taken_from_where_it_is(watched: Watched) -> None:
    watched.start()
    watched.wait_published(watched.issue())
    wait_for(lambda: watched.health("one").size == watched.node.published.size)
    watched.witnesses["one"].seen = None
    size = watched.issue()
    wait_for(lambda: watched.health("one").size == size)
    assert (0, size) in watched.witnesses["one"].requests


def test_two_liars_of_three_publish_nothing_and_stop_nobody(watched: Watched) -> None:
    for name in ("one", "two"):
        watched.witnesses[name].lie = flipped
    watched.start()
    sizes = [watched.issue() for _ in range(3)]
    wait_for(lambda: watched.health("three").size == sizes[-1])
    wait_for(lambda: watched.health("one").failures > 1)
    assert watched.published == 0
    assert watched.node.published.size == sizes[-1]
    watched.witnesses["one"].lie = None
    watched.wait_published(sizes[-1])


def test_who_found_a_seal_too_old_is_asked_for_the_next_one_at_once(tmp_path: Path) -> None:
    slow = CosigningSettings(first_pause_s=600.0, longest_pause_s=600.0)
    watched = Watched(tmp_path / "data", slow, needed=3)
    watched.witnesses["one"].lie = says(503, b"SEAL_OLD: sealed an hour ago\n")
    watched.start()
    try:
        wait_for(lambda: watched.health("one").trouble is Trouble.OLD_SEAL)
        watched.witnesses["one"].lie = None
        watched.wait_published(watched.issue())
    finally:
        watched.close()


def test_a_head_that_stands_still_is_cosigned_anew(tmp_path: Path) -> None:
    watched = Watched(tmp_path / "data", CosigningSettings(refresh_s=0.1, first_pause_s=0.05))
    moment = [int(time.time()) - 100]
    for one in watched.witnesses.values():
        one.time_s = lambda: moment[0]
    try:
        watched.start()
        watched.wait_published()
        size = watched.published
        wait_for(lambda: all(watched.health(name).time_s == moment[0] for name in NAMES))
        moment[0] += 60
        wait_for(lambda: all(watched.health(name).time_s == moment[0] for name in NAMES))
        newest = watched.node.witnessed.newest
        assert newest is not None
        assert newest.size == size == watched.node.published.size
        times = {one.time_s for one in watched.node.witnessed.cosignatures(size)}
        assert times == {moment[0]}
        assert watched.witnesses["one"].requests[-1] == (size, size)
    finally:
        watched.close()


def test_a_restart_goes_on_where_it_was(watched: Watched) -> None:
    watched.start()
    size = watched.issue()
    watched.wait_published(size)
    watched.restart()
    assert watched.published == size
    watched.start()
    more = watched.issue()
    watched.wait_published(more)
    # It knew from its own store what they have: none had to say so.
    assert all(old in (0, size, more) for old, _ in watched.witnesses["one"].requests[-2:])


def test_a_policy_that_changes_under_load_asks_the_others(watched: Watched) -> None:
    key = watched.witnesses["one"].log_keys[0]
    fresh = {name: FakeWitness(name, key).start() for name in ("four", "five")}
    watched.witnesses |= fresh
    watched.start()
    stop = threading.Event()
    sizes: list[int] = []

    def load() -> None:
        while not stop.is_set():
            sizes.append(watched.issue())

    thread = threading.Thread(target=load)
    thread.start()
    try:
        watched.wait_published(watched.node.published.size)
        last = watched.node.published.state.registry.ledger.changed
        text = policy(2, **{name: one.url for name, one in fresh.items()})
        leaf = watched.world.change("ledger", last, WitnessPolicyChanged(text))
        made = watched.world.make(watched.node, leaf)
        watched.wait_published(made.block_size)
        wait_for(lambda: watched.published > made.block_size)
    finally:
        stop.set()
        thread.join()
    watched.wait_published()
    old = watched.witnesses["one"].requests
    assert max(size for _, size in old) < made.block_size, "who is not asked for any more is not asked"
    assert [one.name for one in watched.collector.cosigning().witnesses] == ["four", "five"]


def test_a_policy_without_urls_takes_them_from_the_settings(tmp_path: Path) -> None:
    world = World(policy=policy(1, "one"))
    node = world.furnished(tmp_path / "data")
    fake = FakeWitness("one", log_key(ORIGIN, world.log.public_key)).start()
    plain = Collector(node, FAST)
    settings = CosigningSettings(urls={"one": fake.url})
    named = Collector(node, settings)
    try:
        plain.start()
        assert [one.url for one in plain.cosigning().witnesses] == [""]
        named.start()
        size = node.published.size
        wait_for(lambda: node.witnessed.newest is not None and node.witnessed.newest.size == size)
    finally:
        plain.stop()
        named.stop()
        fake.stop()
        node.close()


def test_it_stops_while_a_witness_hangs(watched: Watched) -> None:
    watched.witnesses["one"].gate.clear()
    watched.start()
    wait_for(lambda: watched.witnesses["one"].most == 1)
    started = time.monotonic()
    watched.collector.stop()
    assert time.monotonic() - started < 2.0
