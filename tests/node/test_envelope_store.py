"""Keeping envelopes: what the log says of them, when they go, and what a crash or a bad file means."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.changes import AgencyEnrolled, Entitlement, KeysAdded, NewKey
from ledger.envelopes import digest_of
from ledger.exchanges import Exchange
from ledger.leaves import NONE, LeafType
from ledger.records import NO_HASH, Answer, Outcome, Send, SendKind
from ledger.signatures import Algorithm
from ledger.signing_policy import SigningPolicy
from ledger.submissions import pack
from ledger.tiles import TILE_WIDTH
from node.checking.fsck import run_fsck
from node.codec import BlockInfo
from node.config import EnvelopeLimits
from node.errors import DiskFull, NodeError, NotFound, ReadOnly, StoreDamaged
from node.letters.envelope_keeper import DAY_MS, GRACE_MS, EnvelopeKeeper
from node.letters.envelope_store import MARGIN_MS, ORPHAN_MS, EnvelopeStore, Naming, Release
from node.metrics import Metrics
from node.node import LedgerNode
from tests.ledger.world import issue
from tests.node.world import START_MS, World, placed, submit

RETENTION_MS = 90 * DAY_MS
SEAL = b"\x01\x30"


def envelope(name: object) -> bytes:
    """Bytes that stand for an envelope: the store never looks inside."""
    return b"".join(sha256(f"{name} {n}".encode()).digest() for n in range(100))


@dataclass
class FakeLog:
    """A log of blocks, each with its seal; it answers as the store does."""

    infos: list[BlockInfo] = field(default_factory=list)
    held: list[bytes] = field(default_factory=list)
    looked_at: list[int] = field(default_factory=list)
    reminders: dict[int, int] = field(default_factory=dict)

    def add(self, *records: bytes, after_ms: int = 1000) -> int:
        """The index of the first record of a new block."""
        first = len(self.held)
        self.held += [*records, SEAL]
        time_ms = self.infos[-1].time_ms + after_ms if self.infos else START_MS
        self.infos.append(BlockInfo(len(self.infos), first, len(self.held), time_ms, bytes(32), bytes(32)))
        return first

    @property
    def time_ms(self) -> int:
        return self.infos[-1].time_ms

    def newest(self) -> tuple[int, int]:
        return len(self.infos) - 1, self.time_ms

    def block(self, number: int) -> BlockInfo:
        if not 0 <= number < len(self.infos):
            raise NotFound("no such block")
        self.looked_at.append(number)
        return self.infos[number]

    def bundle(self, number: int, width: int) -> bytes:
        first = number * TILE_WIDTH
        if first + width > len(self.held):
            raise NotFound("no such bundle")
        return pack(self.held[first : first + width])

    def exchange(self, send: int) -> Exchange:
        assert self.held[send][1] == LeafType.SEND
        return Exchange(START_MS, reminds=self.reminders.get(send))


@dataclass
class Desk:
    """A store with its keeper, a log, and a clock that only the test moves."""

    directory: Path
    log: FakeLog = field(default_factory=FakeLog)
    now_ms: int = START_MS

    def __post_init__(self) -> None:
        if not self.log.infos:
            self.log.add()
        self.metrics = Metrics("test")
        self.open()

    def open(self) -> None:
        self.store = EnvelopeStore(self.directory)
        self.keeper = EnvelopeKeeper(
            self.store,
            self.log,
            self.log.newest,
            self.metrics,
            retention_ms=RETENTION_MS,
            wall_ms=lambda: self.now_ms,
        )

    def reopen(self) -> None:
        self.store.close()
        self.open()

    def put(self, name: object, sender: int = 1, recipient: int = 2) -> bytes:
        data = envelope(name)
        self.store.put(data, recipient=recipient, sender=sender, now_ms=self.now_ms)
        return digest_of(data)

    def send(self, *digests: bytes, after_ms: int = 1000) -> int:
        """A block with a SEND for each digest; the index of the first."""
        return self.log.add(
            *(Send(1, 2, bytes(32), SendKind.REQUEST, 0, NONE, one).encode() for one in digests),
            after_ms=after_ms,
        )

    def answer(self, send: int, outcome: Outcome, digest: bytes = NO_HASH, after_ms: int = 1000) -> int:
        return self.log.add(Answer(2, send, outcome, bytes(32), digest).encode(), after_ms=after_ms)

    def tick(self) -> None:
        self.keeper.follow()
        self.keeper.sweep()

    def holds(self, digest: bytes) -> bool:
        return self.store.find(digest) is not None

    def expired(self, reason: str) -> float | None:
        labels = {"reason": reason}
        return self.metrics.registry.get_sample_value("sudur_envelopes_expired_total", labels)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "envelopes")


# --- when they go ------------------------------------------------------------------------------


def test_an_orphan_goes_after_an_hour(desk: Desk) -> None:
    digest = desk.put("orphan")
    desk.now_ms += ORPHAN_MS - 1
    held = desk.store.find(digest)
    assert held is not None
    assert held.may_be_named(desk.now_ms)
    desk.now_ms += 1
    assert not held.may_be_named(desk.now_ms)
    desk.tick()
    assert desk.holds(digest)  # what waits in the queue may name it yet
    desk.now_ms += MARGIN_MS
    desk.tick()
    assert not desk.holds(digest)
    assert (desk.expired("orphan"), desk.expired("ended")) == (1.0, 0.0)


def test_put_again_an_orphan_has_another_hour(desk: Desk) -> None:
    digest = desk.put("orphan")
    desk.now_ms += ORPHAN_MS
    desk.put("orphan", sender=3)
    desk.now_ms += ORPHAN_MS
    desk.tick()
    held = desk.store.find(digest)
    assert held is not None
    assert (held.sender, held.named) == (1, False)


def test_what_is_named_stays_for_the_retention_by_the_time_in_seals(desk: Desk) -> None:
    digest = desk.put("named")
    desk.send(digest)
    desk.now_ms += 1000 * DAY_MS  # a clock that is wrong deletes nothing that the log names
    desk.tick()
    assert desk.holds(digest)
    desk.log.add(after_ms=RETENTION_MS - 1)
    desk.tick()
    assert desk.holds(digest)
    desk.log.add(after_ms=1)
    desk.tick()
    assert not desk.holds(digest)
    assert (desk.expired("orphan"), desk.expired("ended")) == (0.0, 1.0)


@pytest.mark.parametrize("outcome", [Outcome.ANSWERED, Outcome.RETURNED])
def test_a_final_answer_lets_the_letter_go_after_a_day(desk: Desk, outcome: Outcome) -> None:
    letter, reply = desk.put("letter"), desk.put("reply", sender=2, recipient=1)
    index = desk.send(letter)
    desk.answer(index, Outcome.RECEIVED)
    desk.tick()
    desk.log.add(after_ms=2 * GRACE_MS)
    desk.tick()
    assert desk.holds(letter)  # received is not final
    desk.answer(index, outcome, reply)
    desk.log.add(after_ms=GRACE_MS - 1)
    desk.now_ms += DAY_MS
    desk.tick()
    assert desk.holds(letter)
    desk.log.add(after_ms=1)
    desk.tick()
    assert not desk.holds(letter)
    assert desk.holds(reply)


def test_an_envelope_that_two_records_name_stays_for_both(desk: Desk) -> None:
    digest = desk.put("letter and reminder")
    first = desk.send(digest, digest)
    desk.answer(first, Outcome.ANSWERED)
    desk.log.add(after_ms=GRACE_MS)
    desk.tick()
    assert desk.holds(digest)
    desk.answer(first + 1, Outcome.ANSWERED)
    desk.log.add(after_ms=GRACE_MS)
    desk.tick()
    assert not desk.holds(digest)


def test_a_final_answer_lets_reminders_go_too(desk: Desk) -> None:
    letter, reminder, other = (desk.put(name) for name in ("letter", "reminder", "other"))
    first = desk.send(letter, other)
    desk.log.reminders[desk.send(reminder)] = first
    desk.answer(first, Outcome.ANSWERED)
    desk.log.add(after_ms=GRACE_MS)
    desk.tick()
    assert [desk.holds(one) for one in (letter, reminder, other)] == [False, False, True]


def test_an_answer_to_what_names_nothing_is_no_matter(desk: Desk) -> None:
    index = desk.send(NO_HASH)
    desk.answer(index, Outcome.ANSWERED)
    desk.tick()
    assert desk.store.next_block == 3


def test_what_was_lost_can_be_put_again_and_is_known(desk: Desk) -> None:
    digest = desk.put("letter")
    desk.send(digest)
    desk.keeper.follow()
    assert desk.store.drop(digest)
    desk.put("letter")
    held = desk.store.find(digest)
    assert held is not None
    assert (held.named, held.ends_ms) == (True, desk.log.time_ms + RETENTION_MS)


def test_more_than_one_transaction_holds_is_swept(desk: Desk) -> None:
    for n in range(600):
        desk.put(n)
    desk.now_ms += ORPHAN_MS + MARGIN_MS
    kept = desk.put("kept")
    desk.tick()
    assert desk.expired("orphan") == 600.0
    assert desk.store.usage.envelopes == 1
    assert desk.holds(kept)


def test_records_are_found_wherever_they_stand(desk: Desk) -> None:
    """In every place of a bundle, among other leaves, and on both sides of a block's borders."""
    digests = []
    for n in range(300):
        digest = sha256(f"named {n}".encode()).digest()
        digests.append(digest)
        other = [issue(1, f"{n} {m}", 0) for m in range(n % 7)]
        letter = Send(1, 2, bytes(32), SendKind.CIRCULATED, 0, NONE, digest).encode()
        reply = Answer(2, 0, Outcome.ANSWERED, bytes(32), digest).encode()
        desk.log.add(*other, letter if n % 2 else reply)
        if n % 50 == 0:
            desk.keeper.follow()
    desk.keeper.follow()
    with sqlite3.connect(desk.store.path) as db:
        found = [row[0] for row in db.execute("SELECT digest FROM naming ORDER BY leaf")]
    db.close()
    assert found == digests


# --- restarts ----------------------------------------------------------------------------------


def test_a_restart_goes_on_where_it_was(desk: Desk) -> None:
    first, second = desk.put("first"), desk.put("second")
    index = desk.send(first)
    desk.keeper.follow()
    desk.answer(index, Outcome.ANSWERED)
    desk.send(second)
    desk.log.looked_at.clear()
    desk.reopen()
    desk.tick()
    assert desk.log.looked_at == [2, 3]
    desk.log.add(after_ms=GRACE_MS)
    desk.now_ms += DAY_MS
    desk.tick()
    assert (desk.holds(first), desk.holds(second)) == (False, True)


def test_a_sweep_saves_where_it_was_though_nothing_was_named(desk: Desk) -> None:
    for _ in range(5):
        desk.log.add()
    desk.tick()
    desk.reopen()
    desk.log.looked_at.clear()
    desk.tick()
    assert desk.log.looked_at == []


def test_an_answer_is_not_undone_by_following_again(desk: Desk) -> None:
    digest = desk.put("letter")
    index = desk.send(digest)
    desk.answer(index, Outcome.ANSWERED)
    desk.keeper.follow()
    answered = desk.store.find(digest)
    desk.store.follow([Naming(index, index, digest, desk.log.time_ms + RETENTION_MS)], 1)
    assert desk.store.find(digest) == answered


def test_a_store_that_was_lost_looks_back_as_far_as_it_needs(tmp_path: Path) -> None:
    log = FakeLog()
    for _ in range(200):
        log.add(after_ms=DAY_MS)
    desk = Desk(tmp_path / "envelopes", log)
    digest = digest_of(envelope("letter"))
    desk.send(digest)
    desk.keeper.follow()
    young = [info.number for info in log.infos if info.time_ms > log.time_ms - RETENTION_MS]
    assert len(young) == 91
    assert log.looked_at[-91:] == young
    assert len(log.looked_at) <= 91 + 8
    desk.put("letter")
    held = desk.store.find(digest)
    assert held is not None
    assert held.named
    desk.store.close()


def test_what_is_used_is_counted_again_at_a_start(desk: Desk) -> None:
    for n in range(5):
        desk.put(n, sender=n % 2)
    desk.store.drop(digest_of(envelope(4)))
    before = desk.store.usage, desk.store.size_of(0), desk.store.size_of(1), desk.store.size_of(9)
    assert before == (before[0], 6400, 6400, 0)
    desk.reopen()
    assert (desk.store.usage, desk.store.size_of(0), desk.store.size_of(1), desk.store.size_of(9)) == before


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), max_size=40))
@settings(max_examples=25, deadline=None)
def test_against_a_simple_model(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, int]]
) -> None:
    """What the log names and nobody has answered is held; what is held was put."""
    desk = Desk(tmp_path_factory.mktemp("model") / "envelopes")
    names: dict[int, list[int]] = {n: [] for n in range(4)}
    ends: dict[int, int] = {}
    put: set[int] = set()
    digests = [digest_of(envelope(n)) for n in range(4)]
    for what, which in steps:
        if what == 0:
            desk.put(which)
            put.add(which)
        elif what == 1 and which in put:
            index = desk.send(digests[which])
            names[which].append(index)
            ends[index] = desk.log.time_ms + RETENTION_MS
        elif what == 2 and names[which]:
            index = names[which][-1]
            desk.answer(index, Outcome.ANSWERED)
            ends[index] = min(ends[index], desk.log.time_ms + GRACE_MS)
        elif what == 3:
            desk.log.add(after_ms=DAY_MS // 2)
        else:
            desk.reopen()
        desk.tick()
        for n in set(put):
            if names[n] and max(ends[index] for index in names[n]) <= desk.log.time_ms:
                put.discard(n)
        assert {n for n in range(4) if desk.holds(digests[n])} == put
    desk.store.close()


# --- a real log --------------------------------------------------------------------------------


def correspondents(data: Path) -> tuple[World, LedgerNode]:
    """A node with agencies 1 and 2, which may ask each other."""
    world = World()
    node = world.create(data)
    for number in (1, 2):
        subject = f"agency/{number}"
        body = AgencyEnrolled({"en": subject}, 0, Entitlement(("request",), (), SigningPolicy()))
        enrolled = world.make(node, world.change(subject, NONE, body))
        key = NewKey(1, Algorithm.ED25519, world.officers[number - 1].public_key, "submit", "")
        world.make(node, world.change(subject, enrolled.submission_index, KeysAdded((key,))))
    return world, node


def test_a_real_exchange_from_letter_to_reply(tmp_path: Path) -> None:
    world, node = correspondents(tmp_path / "data")
    store = EnvelopeStore(tmp_path / "envelopes")

    def newest() -> tuple[int, int]:
        return node.published.head.block, node.published.state.time_ms

    def keeper() -> EnvelopeKeeper:
        return EnvelopeKeeper(
            store, node.store, newest, Metrics("test"), retention_ms=RETENTION_MS, wall_ms=lambda: 0
        )

    def log(agency: int, record: bytes) -> int:
        (outcome,), _ = submit(node.sequencer, world.submission([record], agency=agency))
        return placed(outcome).first_record_index

    def put(name: str, sender: int, recipient: int) -> bytes:
        store.put(envelope(name), recipient=recipient, sender=sender, now_ms=0)
        return digest_of(envelope(name))

    def ask(digest: bytes, follows: int = NONE) -> int:
        return log(1, Send(1, 2, b"c" * 32, SendKind.REQUEST, 0, follows, digest).encode())

    letter, reminder, again = (put(name, 1, 2) for name in ("letter", "reminder", "again"))
    reply = put("reply", 2, 1)
    first = ask(letter)
    ask(reminder, first)
    log(2, Answer(2, first, Outcome.RECEIVED, NO_HASH, NO_HASH).encode())
    following = keeper()
    following.follow()
    log(2, Answer(2, first, Outcome.ANSWERED, b"a" * 32, reply).encode())
    reopened = ask(again, first)
    world.clock.ms += GRACE_MS
    log(2, Answer(2, reopened, Outcome.RECEIVED, NO_HASH, NO_HASH).encode())
    for one in (following, keeper()):  # the second knows what the first saved, and no more
        one.follow()
        one.sweep()
        names = ("letter", "reminder", "again", "reply")
        held = [name for name in names if store.find(digest_of(envelope(name))) is not None]
        assert held == ["again", "reply"]
    node.close()
    store.close()


# --- on the disk -------------------------------------------------------------------------------


def bytes_in(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in directory.iterdir())


def test_files_are_for_their_owner_alone(desk: Desk) -> None:
    desk.put("x")
    assert stat.S_IMODE(desk.directory.stat().st_mode) == 0o700
    found = {path.name: stat.S_IMODE(path.stat().st_mode) for path in desk.directory.iterdir()}
    assert len(found) == 3
    assert set(found.values()) == {0o600}


def test_what_is_deleted_is_gone_from_every_file(desk: Desk) -> None:
    names = ["orphan", "dropped", "kept"]
    orphan, dropped, kept = (desk.put(name) for name in names)
    desk.send(kept)
    for name in names:
        assert envelope(name)[:1000] in bytes_in(desk.directory)
    desk.store.drop(dropped)
    desk.now_ms += ORPHAN_MS + MARGIN_MS
    desk.tick()
    assert (desk.holds(orphan), desk.holds(kept)) == (False, True)
    left = bytes_in(desk.directory)
    for name in ("orphan", "dropped"):
        data = envelope(name)
        assert not any(data[at : at + 32] in left for at in range(0, len(data), 32))
    assert envelope("kept")[:1000] in left


CRASH = """
import os, signal, sys
from pathlib import Path
from node.letters.envelope_store import EnvelopeStore
from tests.node.test_envelope_store import envelope
store = EnvelopeStore(Path(sys.argv[1]))
for n in range(int(sys.argv[2])):
    store.put(envelope(n), recipient=2, sender=1, now_ms=0)
    print(n, flush=True)
sys.stdin.read()
"""


def test_what_was_answered_survives_kill_9(tmp_path: Path) -> None:
    directory = tmp_path / "envelopes"
    with subprocess.Popen(
        [sys.executable, "-c", CRASH, str(directory), "1000"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": "proto"},
    ) as process:
        assert process.stdout is not None
        answered = [process.stdout.readline() for _ in range(50)][-1]
        process.kill()
        answered = (process.stdout.read().splitlines() or [answered])[-1]
    assert process.returncode == -signal.SIGKILL
    store = EnvelopeStore(directory)
    for n in range(int(answered) + 1):
        assert store.data(digest_of(envelope(n))) == envelope(n)
    assert list(store.damaged()) == []
    store.close()


def spoil(desk: Desk, sql: str) -> None:
    desk.store.close()
    with sqlite3.connect(desk.store.path) as db:
        db.execute(sql)
    db.close()


def test_other_bytes_than_the_digest_says(desk: Desk) -> None:
    digest = desk.put("x")
    desk.put("y")
    spoil(desk, "UPDATE envelope SET data = zeroblob(size) WHERE rowid = 1")
    desk.open()
    with pytest.raises(StoreDamaged, match="another digest"):
        desk.store.data(digest)
    assert list(desk.store.damaged()) == [f"envelope {digest.hex()} has other bytes than its digest says"]


def test_a_file_that_is_none_of_ours(desk: Desk) -> None:
    desk.put("x")
    spoil(desk, "PRAGMA user_version=2")
    with pytest.raises(StoreDamaged, match="version 2"):
        desk.open()
    desk.store.path.write_bytes(b"not a database at all" * 1000)
    with pytest.raises(StoreDamaged, match="fsck"):
        desk.open()


def test_a_full_disk_loses_nothing(desk: Desk) -> None:
    desk.put("before")
    desk.store._db.execute("PRAGMA max_page_count=20")
    with pytest.raises(DiskFull):
        [desk.put(n) for n in range(100)]
    assert desk.store.data(digest_of(envelope("before"))) == envelope("before")
    counted = desk.store.usage
    desk.reopen()
    assert desk.store.usage == counted
    desk.put("after")


def test_closed_it_says_so(desk: Desk) -> None:
    desk.store.close()
    desk.store.close()
    with pytest.raises(ReadOnly):
        desk.put("x")
    with pytest.raises(ReadOnly):
        desk.store.follow([Release(0, 0)], 0)


def test_the_thread_goes_on_after_an_error(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = desk.put("letter")
    desk.send(digest)
    faults: list[Exception] = [ZeroDivisionError("a bug"), ReadOnly("the store is being opened again")]
    looked, followed = threading.Semaphore(0), threading.Event()
    real, follow = desk.log.bundle, desk.store.follow

    def bundle(number: int, width: int) -> bytes:
        looked.release()
        if faults:
            raise faults.pop()
        return real(number, width)

    def tell(found: Iterable[Naming | Release], next_block: int) -> None:
        follow(found, next_block)
        followed.set()

    monkeypatch.setattr(desk.log, "bundle", bundle)
    monkeypatch.setattr(desk.store, "follow", tell)
    desk.keeper.start()
    for _ in range(2):
        assert looked.acquire(timeout=10)
        desk.keeper.wake()
    assert followed.wait(10)
    desk.keeper.stop()
    held = desk.store.find(digest)
    assert held is not None
    assert held.named


@pytest.mark.parametrize("limits", [{"bytes": -1}, {"agency_bytes": -1}, {"days": 0}, {"days": 3651}])
def test_limits_that_are_none(limits: dict[str, int]) -> None:
    with pytest.raises(NodeError):
        EnvelopeLimits(**limits)


# --- fsck --------------------------------------------------------------------------------------


def test_fsck_knows_them(tmp_path: Path) -> None:
    data = tmp_path / "data"
    World().create(data).close()
    assert run_fsck(data).sound
    desk = Desk(data / "envelopes")
    desk.put("x")
    desk.put("y")
    desk.store.close()
    assert run_fsck(data).sound
    spoil(desk, "UPDATE envelope SET data = zeroblob(size)")
    report = run_fsck(data, repair=True)
    assert [(one.part, one.kind, one.count) for one in report.findings] == [("envelopes", "wrong", 2)]
    assert report.entries_sound
    assert not report.repairable
    desk.store.path.write_bytes(b"no database" * 100)
    report = run_fsck(data)
    assert [(one.part, one.kind) for one in report.findings] == [("envelopes", "unreadable")]
