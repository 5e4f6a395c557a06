"""The store: what it gives back, what it refuses, what it forgets, and what it notices at a start."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ledger import rules
from ledger.errors import DuplicateAttest
from ledger.exchanges import Exchange
from ledger.figures import FigureKey, Metric, month_of
from ledger.hashing import EMPTY_ROOT, leaf_hash, leaf_hashes, merkle_root
from ledger.leaves import NONE, LeafType
from ledger.records import (
    NO_HASH,
    Answer,
    Attest,
    Basis,
    Issue,
    Outcome,
    Send,
    SendKind,
    Status,
    StatusChange,
)
from ledger.seals import Seal
from ledger.signing_policy import ALL_KINDS, utc_day
from ledger.status import EMPTY_CHUNK, EMPTY_CHUNK_HASH, read_status
from ledger.submissions import open_submission, pack
from ledger.tiles import encode_bundle
from node import codec, database
from node.database import Database
from node.errors import DataInUse, NotFound, ReadOnly, StoreDamaged
from node.node import LedgerNode
from node.store import KEEP_SUPERSEDED_MS, Store
from tests.node.world import World, placed, submit


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def node(world: World, tmp_path: Path) -> Iterator[LedgerNode]:
    node = world.furnished(tmp_path / "data")
    yield node
    node.close()


# --- reads -------------------------------------------------------------------------------------


def test_leaves_bundles_and_tiles(world: World, node: LedgerNode) -> None:
    for count in (1, 100, 256, 256, 40):
        placed(submit(node.sequencer, world.issues(count))[0][0])
    store, size = node.store, node.published.size
    leaves = store.leaves(0, size)
    assert [store.leaf(index) for index in range(size)] == leaves
    assert store.leaves(250, 520) == leaves[250:520]
    assert store.leaves(5, 5) == []
    for number in range(size // 256):
        assert store.bundle(number) == encode_bundle(leaves[number * 256 : (number + 1) * 256])
    start = size // 256 * 256
    for number, width in ((0, 1), (1, 255), (size // 256, 1), (size // 256, size - start)):
        at = number * 256
        assert store.bundle(number, width) == encode_bundle(leaves[at : at + width])
    hashes = leaf_hashes(leaves)
    for number, width in ((0, 256), (0, 7), (size // 256, size - start), (size // 256, 1)):
        at = number * 256
        assert store.tile(0, number, width) == b"".join(hashes[at : at + width])
    assert store.tile(1, 0, 1) == merkle_root(hashes[:256])
    mids = b"".join(merkle_root(hashes[at : at + 16]) for at in range(0, 256, 16))
    assert store.tile_with_mids(0, 0) == (b"".join(hashes[:256]), mids)


def test_what_is_not_there(node: LedgerNode) -> None:
    store, size = node.store, node.published.size
    asks: list[Callable[[], object]] = [
        lambda: store.leaf(size),
        lambda: store.leaf(-1),
        lambda: store.leaves(0, size + 1),
        lambda: store.bundle(0),
        lambda: store.bundle(0, size + 1),
        lambda: store.bundle(1, 1),
        lambda: store.tile(0, 0, size + 1),
        lambda: store.tile(0, 0),
        lambda: store.tile(1, 0, 1),
        lambda: store.tile(63, 0, 1),
        lambda: store.block(99),
        lambda: store.block(-1),
        lambda: store.block_of(size),
        lambda: store.checkpoint(1),
        lambda: store.checkpoint(2**80),
        lambda: store.object(bytes(32)),
        lambda: store.tree_hashes(bytes(32)),
        lambda: store.status_chunk(1),
    ]
    for ask in asks:
        with pytest.raises(NotFound):
            ask()


def test_blocks_and_their_leaves(world: World, node: LedgerNode) -> None:
    placements = [placed(submit(node.sequencer, world.issues(n))[0][0]) for n in (1, 3, 2)]
    for placement in placements:
        info = node.store.block(placement.block)
        assert (info.size, info.time_ms) == (placement.block_size, placement.time_ms)
        for index in range(info.first_index, info.size):
            assert node.store.block_of(index) == info
        assert Seal.decode(node.store.leaf(info.seal_index)).block == info.number
    assert node.store.block_of(0).number == 0


def test_look_ups(world: World, node: LedgerNode) -> None:
    submission = world.issues(3)
    placement = placed(submit(node.sequencer, submission)[0][0])
    opened = open_submission(*submission)
    keys = list(opened.issues.keys)
    first = placement.first_record_index
    stranger = world.commitments(1)[0] + b"\0\0\0\1"
    assert node.store.find_issues([*keys, stranger]) == [first, first + 1, first + 2, None]
    assert node.store.find_issues([stranger]) == [None]
    assert node.store.find_issues([keys[0][:32] + b"\0\0\0\2"]) == [None]
    identity = opened.head.identity(world.genesis)
    assert node.store.find_submission(opened.head.claimed_ms, identity) == placement.submission_index
    assert node.store.find_submission(opened.head.claimed_ms + 1, identity) is None
    day = utc_day(placement.time_ms)
    assert node.store.daily_count(1, "issue.original", day) == 3
    assert node.store.daily_count(1, "issue.archive", day) == 0
    assert node.store.daily_count(1, "issue.original", day + 1) == 0


def test_every_kind_of_record_has_a_counter_of_its_own() -> None:
    assert len({codec.daily_key(1, kind, 1) for kind in ALL_KINDS}) == len(ALL_KINDS)


def test_registry_records_by_hash(world: World, node: LedgerNode) -> None:
    state = node.published.state
    hashes = node.store.tree_hashes(state.registry.root)
    assert hashes == state.registry.tree.hashes
    assert [leaf_hash(node.store.object(one)) for one in hashes] == list(hashes)
    agency = state.registry.agency(1)
    assert node.store.tree_hashes(agency.record.keys_root) == agency.key_tree.hashes
    assert node.store.object(agency.key_tree.hashes[0]) == agency.keys[0].encode()
    assert node.store.tree_hashes(EMPTY_ROOT) == ()


def test_status_changes(world: World, node: LedgerNode) -> None:
    placement = placed(submit(node.sequencer, world.issues(2))[0][0])
    subject = placement.first_record_index
    assert node.store.status_chunk(0) == EMPTY_CHUNK
    suspended = placed(submit(node.sequencer, world.status(subject, subject, Status.SUSPENDED))[0][0])
    at = suspended.first_record_index
    assert node.store.latest_status(subject) == at
    assert node.store.latest_status(subject + 1) is None
    chunk = node.store.status_chunk(0)
    assert read_status(chunk, subject) is Status.SUSPENDED
    assert node.store.object(leaf_hash(chunk)) == chunk
    placed(submit(node.sequencer, world.status(subject, at, Status.VALID))[0][0])
    assert node.store.status_chunk(0) == EMPTY_CHUNK


# --- what is forgotten -------------------------------------------------------------------------


def test_superseded_chunks_and_lists_stay_for_an_hour(world: World, node: LedgerNode) -> None:
    store = node.store
    subject = placed(submit(node.sequencer, world.issues(2))[0][0]).first_record_index
    roots, previous = [node.published.state.status.root], {subject: subject, subject + 1: subject + 1}

    def turn(which: int, status: Status) -> bytes:
        outcome = submit(node.sequencer, world.status(which, previous[which], status))[0][0]
        previous[which] = placed(outcome).first_record_index
        roots.append(node.published.state.status.root)
        return node.published.state.status.hashes[0]

    one = turn(subject, Status.SUSPENDED)
    two = turn(subject + 1, Status.SUSPENDED)
    again = turn(subject + 1, Status.VALID)
    assert again == one != two
    world.clock.ms += KEEP_SUPERSEDED_MS // 2
    three = turn(subject + 1, Status.SUSPENDED)
    assert three == two
    for root in roots:
        assert store.tree_hashes(root)
    # An hour after "one" was first superseded: it has been in use since, and superseded later once more.
    world.clock.ms += KEEP_SUPERSEDED_MS // 2 + 1
    placed(submit(node.sequencer, world.issues())[0][0])
    for digest in (one, two):
        assert store.object(digest)
    assert store.tree_hashes(roots[1])
    world.clock.ms += KEEP_SUPERSEDED_MS
    placed(submit(node.sequencer, world.issues())[0][0])
    with pytest.raises(NotFound):
        store.object(one)
    with pytest.raises(NotFound):
        store.tree_hashes(roots[1])
    assert store.object(two) == store.status_chunk(0)
    assert store.object(EMPTY_CHUNK_HASH) == EMPTY_CHUNK
    assert store.tree_hashes(node.published.state.registry.root)


def test_what_is_superseded_again_just_now_stays_for_another_hour(world: World, node: LedgerNode) -> None:
    subject = placed(submit(node.sequencer, world.issues(2))[0][0]).first_record_index

    def turn(which: int, previous: int, status: Status) -> int:
        outcome = submit(node.sequencer, world.status(which, previous, status))[0][0]
        return placed(outcome).first_record_index

    turn(subject, subject, Status.SUSPENDED)
    chunk = node.store.status_chunk(0)
    at = turn(subject + 1, subject + 1, Status.SUSPENDED)
    at = turn(subject + 1, at, Status.VALID)
    assert node.store.status_chunk(0) == chunk
    world.clock.ms += KEEP_SUPERSEDED_MS
    # This block looks at the first time that the chunk was superseded, and supersedes it once more.
    turn(subject + 1, at, Status.SUSPENDED)
    assert node.store.object(leaf_hash(chunk)) == chunk
    world.clock.ms += KEEP_SUPERSEDED_MS
    placed(submit(node.sequencer, world.issues())[0][0])
    with pytest.raises(NotFound):
        node.store.object(leaf_hash(chunk))


def test_the_hour_goes_on_over_a_restart(world: World, tmp_path: Path) -> None:
    node = world.furnished(tmp_path / "data")
    before = node.published.state.registry.root
    world.enrol(node, 2)
    assert node.store.tree_hashes(before)
    node.close()
    node = world.open(tmp_path / "data")
    world.clock.ms += KEEP_SUPERSEDED_MS + 1
    placed(submit(node.sequencer, world.issues())[0][0])
    with pytest.raises(NotFound):
        node.store.tree_hashes(before)
    node.close()
    world.open(tmp_path / "data").close()


def test_submissions_are_forgotten_once_the_rules_would_refuse_them(world: World, node: LedgerNode) -> None:
    submission = world.issues()
    placed(submit(node.sequencer, submission)[0][0])
    head = open_submission(*submission).head
    key = (head.claimed_ms, head.identity(world.genesis))
    world.clock.ms += 7 * 86_400_000 - 1_000
    placed(submit(node.sequencer, world.issues())[0][0])
    assert placed(submit(node.sequencer, submission)[0][0]).repeat
    world.clock.ms += 2 * 3_600_000
    placed(submit(node.sequencer, world.issues())[0][0])
    assert node.store.find_submission(*key) is None


# --- records other than ISSUE ----------------------------------------------------------------


def send(to: int = 1, follows: int = NONE, due: int = 0) -> Send:
    return Send(2, to, bytes(32), SendKind.REQUEST, due, follows, NO_HASH)


@pytest.fixture
def pair(world: World, node: LedgerNode) -> LedgerNode:
    """With agency 2, which attests and asks agency 1."""
    world.enrol(node, 2, "attest", "request")
    return node


def test_attestations_by_their_hash(world: World, pair: LedgerNode) -> None:
    """The latest of its kind is found, and the store stays as it is when the rules refuse."""
    subject = world.put(pair, 1, Issue(1, 1, Basis.ORIGINAL, bytes(32)))
    attest = Attest(2, subject, 1, NO_HASH)
    digest = leaf_hash(attest.encode())
    assert pair.store.find_attest(digest) is None
    first = world.put(pair, 2, attest)
    assert pair.store.find_attest(digest) == first
    refusal = submit(pair.sequencer, world.submission([attest.encode()], agency=2))[0][0]
    assert isinstance(refusal, DuplicateAttest)
    assert refusal.details() == {"index": str(first)}
    world.put(pair, 2, StatusChange(2, first, first, Status.REVOKED, 0, NONE))
    second = world.put(pair, 2, attest)
    assert pair.store.find_attest(digest) == second


def test_exchanges(world: World, pair: LedgerNode) -> None:
    asked = world.put(pair, 2, send())
    sent_ms = pair.published.state.time_ms
    assert pair.store.exchange(asked) == Exchange(sent_ms)
    received = world.put(pair, 1, Answer(1, asked, Outcome.RECEIVED, NO_HASH, NO_HASH))
    reminder = world.put(pair, 2, send(follows=asked))
    assert pair.store.exchange(reminder) == Exchange(pair.published.state.time_ms, reminds=asked)
    final = world.put(pair, 1, Answer(1, asked, Outcome.RETURNED, NO_HASH, NO_HASH))
    assert pair.store.exchange(asked) == Exchange(sent_ms, received, final)
    for index in (asked - 1, received, 0, 1 << 40, NONE):
        with pytest.raises(NotFound, match="no SEND"):
            pair.store.exchange(index)


def test_sends_to_an_agency(world: World, pair: LedgerNode) -> None:
    world.enrol(pair, 3)
    first = world.put(pair, 2, send(1), send(3), send(1))
    last = world.put(pair, 2, send(3))
    sends_to = pair.store.sends_to
    assert list(sends_to(1, 0)) == [first, first + 2]
    assert list(sends_to(3, 0)) == [first + 1, last]
    assert list(sends_to(3, first + 2)) == [last]
    assert list(sends_to(1, first)) == [first, first + 2]
    for nobody in (0, 2, 4, 2**32 - 1):
        assert list(sends_to(nobody, 0)) == []
    assert list(sends_to(1, NONE)) == []


def test_events_of_subjects(world: World, pair: LedgerNode) -> None:
    """Two documents, an attestation, and what happened to the three, by subject and then by index."""
    one = world.put(pair, 1, Issue(1, 1, Basis.ORIGINAL, bytes(32)), Issue(1, 1, Basis.ORIGINAL, b"2" * 32))
    attested = world.put(pair, 2, Attest(2, one + 1, 1, NO_HASH), Attest(2, one, 1, NO_HASH))
    changed = world.put(pair, 1, StatusChange(1, one, one, Status.SUSPENDED, 0, NONE))
    undone = world.put(pair, 2, StatusChange(2, attested, attested, Status.REVOKED, 0, NONE))
    again = world.put(pair, 1, StatusChange(1, one, changed, Status.VALID, 0, NONE))
    everything = [
        (one, attested + 1, LeafType.ATTEST),
        (one, again, LeafType.STATUS),
        (one + 1, attested, LeafType.ATTEST),
        (attested, undone, LeafType.STATUS),
    ]
    size = pair.published.size
    assert list(pair.store.events(0, 4_096, size)) == everything
    assert list(pair.store.events(one + 1, attested, size)) == everything[2:3]
    assert list(pair.store.events(one, one, size)) == []
    assert list(pair.store.events(4_096, 8_192, size)) == []
    assert list(pair.store.events(one, one + 1, again)) == [everything[0], (one, changed, LeafType.STATUS)]
    assert list(pair.store.events(one, one + 1, changed)) == everything[:1]
    assert list(pair.store.events(one, one + 1, attested + 1)) == []


def test_a_status_that_toggles_takes_one_row(world: World, pair: LedgerNode) -> None:
    """However often, in one block or in several; and what came before a block is known beside it."""
    one = world.put(pair, 1, Issue(1, 1, Basis.ORIGINAL, bytes(32)))
    earlier = world.put(pair, 1, StatusChange(1, one, one, Status.SUSPENDED, 0, NONE))
    toggled: list[StatusChange] = []
    last = earlier
    for at in range(pair.published.size + 1, pair.published.size + 201):
        status = Status.SUSPENDED if len(toggled) % 2 else Status.VALID
        toggled.append(StatusChange(1, one, last, status, 0, NONE))
        last = at
    first = world.put(pair, 1, *toggled)
    assert list(pair.store.events(0, 4_096, pair.published.size)) == [(one, first + 199, LeafType.STATUS)]
    assert pair.store.status_before(one, first + 200) == first + 199
    assert pair.store.status_before(one, first) == earlier
    assert pair.store.status_before(one, earlier) is None
    again = world.put(pair, 1, StatusChange(1, one, first + 199, Status.VALID, 0, NONE))
    for size in range(first, first + 200):
        before = earlier if size == first else size - 1
        assert pair.store.status_before(one, size) == before
    assert pair.store.status_before(one, again) == first + 199


def test_a_flood_on_one_subject_buries_no_other(world: World, pair: LedgerNode) -> None:
    one = world.put(pair, 1, Issue(1, 1, Basis.ORIGINAL, bytes(32)), Issue(1, 1, Basis.ORIGINAL, b"2" * 32))
    first = world.put(pair, 2, *(Attest(2, one, 3, b"%032d" % n) for n in range(100)))
    changed = world.put(pair, 1, StatusChange(1, one, one, Status.SUSPENDED, 0, NONE))
    other = world.put(pair, 2, Attest(2, one + 1, 1, NO_HASH))
    flood = [(one, first + n, LeafType.ATTEST) for n in range(64)]
    size = pair.published.size
    assert list(pair.store.events(0, 4_096, size)) == [
        *flood,
        (one, changed, LeafType.STATUS),
        (one + 1, other, LeafType.ATTEST),
    ]
    assert list(pair.store.events(one, one + 1, size)) == [*flood, (one, changed, LeafType.STATUS)]


def test_figures_are_as_of_a_size(world: World, pair: LedgerNode, tmp_path: Path) -> None:
    asked = world.put(pair, 2, send(due=3), send())
    day, month = utc_day(pair.published.state.time_ms), month_of(pair.published.state.time_ms)
    mine, size = pair.store.figures(1)
    assert size == pair.published.size
    assert mine == {
        FigureKey(1, Metric.ASKED, month, 1): 2,
        FigureKey(1, Metric.OPEN, day, 1): 2,
        FigureKey(1, Metric.DUE, day + 3, 1): 1,
    }
    world.put(pair, 1, *[Answer(1, asked + n, Outcome.ANSWERED, b"a" * 32, NO_HASH) for n in (0, 1)])
    mine, size = pair.store.figures(1)
    assert size == pair.published.size
    assert mine == {
        FigureKey(1, Metric.ASKED, month, 1): 2,
        FigureKey(1, Metric.ANSWERED, month, 1, Outcome.ANSWERED): 2,
        FigureKey(1, Metric.DELAY, month, 1, 0): 2,
    }, "what is back at nothing has no row"
    assert pair.store.figures(7) == ({}, size)
    everything = {agency: pair.store.figures(agency) for agency in (0, 1, 2)}
    pair.close()
    store = Store(tmp_path / "data" / "db")
    assert {agency: store.figures(agency) for agency in (0, 1, 2)} == everything
    store.close()


@pytest.mark.parametrize(
    ("family", "key", "row", "ask"),
    [
        (database.EXCHANGES, codec.u64(99), b"short", lambda store: store.exchange(99)),
        (database.ATTESTS, bytes(32), b"short", lambda store: store.find_attest(bytes(32))),
        (database.FIGURES, b"\0\0\0\x09no key", bytes(8), lambda store: store.figures(9)),
        (database.FIGURES, codec.u32(9) + b"\xff" + bytes(11), bytes(8), lambda store: store.figures(9)),
        (database.FIGURES, b"", b"short", lambda store: store.figures(1)),
    ],
)
def test_rows_that_are_damaged_are_named(
    tmp_path: Path, family: str, key: bytes, row: bytes, ask: Callable[[Store], object]
) -> None:
    db = Database(tmp_path / "db")
    batch = db.batch()
    batch.put(family, key, row)
    db.write(batch)
    db.close()
    store = Store(tmp_path / "db")
    with pytest.raises(StoreDamaged):
        ask(store)
    store.close()


# --- starts ------------------------------------------------------------------------------------


def test_what_is_loaded_is_what_was_committed(world: World, tmp_path: Path) -> None:
    node = world.furnished(tmp_path / "data")
    subject = placed(submit(node.sequencer, world.issues(256), world.issues(100))[0][0]).first_record_index
    placed(submit(node.sequencer, world.status(subject, subject, Status.REVOKED))[0][0])
    before = node.committer.snapshot
    node.close()
    store = Store(tmp_path / "data" / "db")
    assert store.load() == before
    store.close()


@pytest.mark.parametrize(
    ("family", "pick"),
    [
        (database.META, 0),
        (database.TILES, 0),
        (database.BLOCKS, -1),
        (database.ENTRIES, -1),
        *[(database.OBJECTS, n) for n in range(3)],
    ],
)
def test_damage_is_noticed_at_the_start(world: World, tmp_path: Path, family: str, pick: int) -> None:
    world.furnished(tmp_path / "data").close()
    db = Database(tmp_path / "data" / "db")
    rows = list(db.rows(family))
    key, row = rows[pick]
    batch = db.batch()
    batch.put(family, key, row[:-1] + bytes((row[-1] ^ 1,)))
    db.write(batch)
    db.sync()
    db.close()
    if family == database.OBJECTS:
        # Old records stay, and nobody reads them at a start: some of these damage what is current.
        try:
            world.open(tmp_path / "data").close()
        except StoreDamaged:
            return
        store = Store(tmp_path / "data" / "db")
        with pytest.raises(StoreDamaged, match="another hash"):
            store.object(key)
        store.close()
        return
    with pytest.raises(StoreDamaged) as caught:
        world.open(tmp_path / "data")
    assert caught.value.fix


def test_a_list_that_is_missing_is_noticed(world: World, tmp_path: Path) -> None:
    node = world.furnished(tmp_path / "data")
    root = node.published.state.registry.root
    node.close()
    db = Database(tmp_path / "data" / "db")
    batch = db.batch()
    batch.delete(database.LISTS, root)
    db.write(batch)
    db.close()
    with pytest.raises(StoreDamaged, match=root.hex()):
        world.open(tmp_path / "data")


def test_a_damaged_table_file_is_named(world: World, tmp_path: Path) -> None:
    world.furnished(tmp_path / "data").close()
    (tmp_path / "data" / "db" / "CURRENT").write_bytes(b"nonsense\n")
    with pytest.raises(StoreDamaged, match="RocksDB"):
        world.open(tmp_path / "data")


def test_one_process_at_a_time_and_closing_twice(tmp_path: Path) -> None:
    store = Store(tmp_path / "db")
    with pytest.raises(DataInUse) as caught:
        Store(tmp_path / "db")
    assert str(tmp_path / "db") in str(caught.value)
    assert store.head() is None
    with pytest.raises(NotFound, match="no ledger"):
        store.load()
    store.close()
    store.close()
    with pytest.raises(ReadOnly):
        store.find_submission(1, bytes(32))
    Store(tmp_path / "db").close()


def test_a_block_that_only_seals(world: World, node: LedgerNode) -> None:
    """An idle ledger may let its time move."""
    before = node.committer.snapshot.state
    transition = rules.begin(before, node.store, before.time_ms + 5).seal()
    node.sequencer.stop()
    published = node.committer.commit(transition, pack(transition.leaves))
    assert published.size == before.size + 1
    assert Seal.decode(node.store.leaf(published.size - 1)).previous != NONE


def test_another_process_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path / "db")
    script = f"from pathlib import Path; from node.store import Store; Store(Path({str(tmp_path / 'db')!r}))"
    other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert other.returncode == 1
    assert "another process has this data directory open" in other.stderr
    store.close()
