"""Catch-up: what an honest source leads to, and each way in which another one is found out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from ledger.checkpoints import Checkpoint, sign_checkpoint
from ledger.errors import PolicyUnmet
from ledger.hashing import leaf_hashes
from ledger.seals import Seal
from ledger.submissions import pack, unpack
from node.copying.block_source import MAX_MESSAGE, Block, Piece, Pulse, StoredBlocks
from node.copying.catch_up import Terms, TrustedHead, catch_up
from node.errors import PeerShort, PeerSilent, PeerWrong, RulesBroken, StoreDamaged
from node.head import Head
from node.store import Snapshot, Store
from tests.ledger.world import ORIGIN, World, issue, signer
from tests.node.blocks import FakeSource, Log, filled, small_world

WORLD = small_world(12)
LOG = Log.of(WORLD)
END = LOG.size


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "new")
    yield made
    made.close()


def bring(
    store: Store,
    source: FakeSource | StoredBlocks,
    *,
    log: Log = LOG,
    head: TrustedHead | None = None,
    terms: Terms | None = None,
    until: int | None = None,
) -> Snapshot | None:
    """Catch up with all of ``log``."""
    head = head or log.head()
    return catch_up(
        store, source, lambda *_: head, genesis=log.genesis, until=until or head.size, terms=terms
    )


def short_runs(leaves: int = 8, **more: object) -> Terms:
    return replace(Terms(run_leaves=leaves, patience_s=10.0), **more)  # type: ignore[arg-type]


def holds(store: Store, log: Log, blocks: int) -> bool:
    """Whether the store holds exactly the log's first ``blocks`` blocks, checkpoints and all."""
    head = store.head()
    if head is None:
        return blocks == 0
    if head.block != blocks - 1 or head.root != log.root(head.size):
        return False
    return list(StoredBlocks(store).blocks(0)) == log.blocks[:blocks]


# --- an honest source --------------------------------------------------------------------------


@pytest.mark.parametrize("leaves", [1, 8, 65_536])
def test_an_empty_store_takes_all_of_it(store: Store, leaves: int) -> None:
    reached: list[int] = []
    terms = short_runs(leaves, reached=lambda at: reached.append(at.head.size))
    at = bring(store, FakeSource(LOG), terms=terms)
    assert at is not None
    assert (at.head, at.state) == (store.head(), WORLD.state)
    assert holds(store, LOG, len(LOG.blocks))
    assert reached[-1] == END
    assert reached == sorted(set(reached))
    assert store.load().state == WORLD.state


def test_a_store_that_was_away_takes_the_rest_alone(tmp_path: Path) -> None:
    store = filled(tmp_path / "behind", WORLD, LOG, 5)
    source = FakeSource(LOG)
    bring(store, source)
    assert source.asked == [5]
    assert source.proofs == []
    assert holds(store, LOG, len(LOG.blocks))
    store.close()


def test_runs_before_the_head_are_proven_against_it(store: Store) -> None:
    source = FakeSource(LOG)
    bring(store, source, terms=short_runs(8))
    assert len(source.proofs) > 1
    assert all(new == END for _, new in source.proofs)


def test_a_source_without_checkpoints_gives_the_same_leaves(store: Store) -> None:
    bare = Log.of(WORLD, signed=False)
    bring(store, FakeSource(bare), log=bare)
    assert holds(store, bare, len(bare.blocks))


def test_a_store_is_a_source(tmp_path: Path, store: Store) -> None:
    whole = filled(tmp_path / "whole", WORLD, LOG)
    bring(store, StoredBlocks(whole), terms=short_runs(8))
    assert holds(store, LOG, len(LOG.blocks))
    whole.close()


def test_heads_are_stored_as_the_caller_dresses_them(store: Store) -> None:
    def dress(head: Head) -> Head:
        return replace(head, epoch=7)

    at = bring(store, FakeSource(LOG), terms=Terms(dress=dress))
    assert at is not None
    assert at.head.epoch == 7
    assert store.head() == at.head


def test_without_an_end_it_goes_on_until_the_source_ends_and_hears_of_every_pulse(store: Store) -> None:
    heard: list[Block | Pulse] = []

    def alter(block: Block) -> Sequence[Block | Pulse]:
        return block, Pulse(block.number)

    source = FakeSource(LOG, alter)
    heads = {size: LOG.head(size) for size in LOG.sizes}
    reached: list[int] = []
    terms = Terms(alive=heard.append, reached=lambda at: reached.append(at.head.size))
    catch_up(store, source, lambda size, _: heads[size], genesis=LOG.genesis, terms=terms)
    assert holds(store, LOG, len(LOG.blocks))
    assert len(heard) == 2 * len(LOG.blocks)
    assert reached == LOG.sizes
    assert source.proofs == []


def test_stopping_leaves_a_store_that_goes_on(store: Store) -> None:
    stop = threading.Event()
    terms = short_runs(4, stop=stop, reached=lambda _: stop.set())
    bring(store, FakeSource(LOG), terms=terms)
    head = store.head()
    assert head is not None
    assert 0 < head.size < END
    bring(store, FakeSource(LOG))
    assert holds(store, LOG, len(LOG.blocks))


def test_the_fetch_stays_ahead_by_a_bounded_amount(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.copying.catch_up.FETCHED_BYTES", 1024)
    source = FakeSource(LOG)
    ahead: list[int] = []

    def reached(at: Snapshot) -> None:
        ahead.append(source.received - sum(len(one.packed) for one in LOG.blocks[: at.head.block + 1]))

    bring(store, source, terms=short_runs(1, reached=reached))
    assert max(ahead) < 1024 + 256 + max(len(one.packed) for one in LOG.blocks) * 2
    assert holds(store, LOG, len(LOG.blocks))


# --- a source that is not honest ---------------------------------------------------------------


def flipped(block: Block) -> Block:
    """One bit of a document's commitment is another."""
    at = block.packed.rindex(unpack(block.packed, most=99)[-2]) + 20
    return replace(block, packed=block.packed[:at] + bytes((block.packed[at] ^ 1,)) + block.packed[at + 1 :])


def without_a_leaf(block: Block) -> Block:
    leaves = unpack(block.packed, most=99)
    return replace(block, packed=pack([*leaves[:-2], leaves[-1]]))


def resealed(block: Block) -> Block:
    leaves = unpack(block.packed, most=99)
    seal = Seal.decode(leaves[-1])
    return replace(block, packed=pack([*leaves[:-1], replace(seal, documents=seal.documents + 1).encode()]))


Change = Callable[[Block], Sequence[Block | Pulse]]


def at_block(number: int, change: Change) -> Change:
    return lambda block: change(block) if block.number == number else (block,)


ENDLESS = Block(6, bytes((8 << 20) + 1), None)
LIES: dict[str, tuple[Change, str]] = {
    "a bit flipped": (at_block(6, lambda b: [flipped(b)]), "root"),
    "a leaf left out": (at_block(6, lambda b: [without_a_leaf(b)]), "root"),
    "another seal": (at_block(6, lambda b: [resealed(b)]), "root"),
    "a block left out": (at_block(6, lambda _: []), "block 7 came in its place"),
    "a block twice": (at_block(6, lambda b: [b, b]), "block 6 came in its place"),
    "out of order": (at_block(6, lambda _: [LOG.blocks[7]]), "block 7 came in its place"),
    "under a wrong number": (
        at_block(6, lambda _: [replace(LOG.blocks[7], number=6)]),
        "its seal is that of block 7",
    ),
    "cut short": (at_block(6, lambda b: [replace(b, packed=b.packed[:-1])]), "no block"),
    "no seal": (at_block(6, lambda b: [replace(b, packed=pack(unpack(b.packed, most=99)[:-1]))]), "no block"),
    "nothing in it": (at_block(6, lambda b: [replace(b, packed=b"")]), "no block"),
    "two blocks in one": (
        at_block(6, lambda b: [replace(b, packed=LOG.blocks[5].packed + b.packed)]),
        "seals a block within it",
    ),
    "no end": (at_block(6, lambda _: [ENDLESS]), "without an end"),
    "too many leaves": (at_block(6, lambda b: [replace(b, packed=pack([b""] * 65_537))]), "no block"),
}


@pytest.mark.parametrize("name", LIES)
@pytest.mark.parametrize("runs", [4, 65_536])
def test_a_lie_is_found_and_named_and_not_written(store: Store, name: str, runs: int) -> None:
    alter, what = LIES[name]
    source = FakeSource(LOG, alter)
    with pytest.raises(PeerWrong) as caught:
        bring(store, source, terms=short_runs(runs))
    assert caught.value.peer == "peer one"
    assert what in str(caught.value)
    assert "block" in caught.value.where
    assert source.cancelled.is_set()
    head = store.head()
    written = 0 if head is None else head.block + 1
    assert written <= 7
    assert holds(store, LOG, written)
    # An honest one does the rest.
    bring(store, FakeSource(LOG))
    assert holds(store, LOG, len(LOG.blocks))


def test_a_lie_in_the_only_run_leaves_the_store_empty(store: Store) -> None:
    with pytest.raises(PeerWrong):
        bring(store, FakeSource(LOG, at_block(11, lambda b: [flipped(b)])))
    assert store.head() is None


def test_another_ledger_is_named(store: Store) -> None:
    other = Log.of(small_world(1))
    world = World(k=1, n=1)
    foreign = Log.of(world)
    with pytest.raises(PeerWrong, match="another ledger"):
        bring(store, FakeSource(foreign), log=other)
    assert store.head() is None


def test_a_fork_is_found_by_its_root(tmp_path: Path) -> None:
    fork = small_world(5)
    fork.submit(1, [issue(1, "another"), issue(1, "history")])
    forked = Log.of(fork)
    store = filled(tmp_path / "node", fork, forked)
    with pytest.raises(PeerWrong, match="root"):
        bring(store, FakeSource(LOG))
    assert holds(store, forked, len(forked.blocks))
    store.close()


def test_a_bad_consistency_proof_is_refused(store: Store) -> None:
    source = FakeSource(LOG, prove=lambda path: [bytes(32), *path[1:]])
    with pytest.raises(PeerWrong, match="nothing proves"):
        bring(store, source, terms=short_runs(4))
    assert store.head() is None


def test_blocks_beyond_the_trusted_head_are_refused(store: Store) -> None:
    head = LOG.head(LOG.sizes[4])
    with pytest.raises(PeerWrong, match="past"):
        bring(store, FakeSource(LOG), head=TrustedHead(head.size + 1, head.root))
    with pytest.raises(PeerWrong, match="beyond the trusted head"):
        catch_up(store, FakeSource(LOG), lambda *_: head, genesis=LOG.genesis)
    assert store.head() is None


@pytest.mark.parametrize("signed_by", ["log", "thief"])
def test_a_checkpoint_that_is_not_the_blocks_is_refused(store: Store, signed_by: str) -> None:
    def alter(block: Block) -> Sequence[Block]:
        checkpoint = Checkpoint(
            ORIGIN, LOG.sizes[6], bytes(32) if signed_by == "log" else LOG.root(LOG.sizes[6])
        )
        return [replace(block, note=sign_checkpoint(checkpoint, [signer(signed_by)]))]

    reached: list[Snapshot] = []
    with pytest.raises(PeerWrong, match="checkpoint") as caught:
        bring(store, FakeSource(LOG, at_block(6, alter)), terms=Terms(reached=reached.append))
    assert "block 6" in caught.value.where
    assert holds(store, LOG, 6)
    # What was proven and written before is told of, so that whoever keeps a snapshot can go on from it.
    assert [at.head for at in reached] == [store.head()]


def test_one_that_ends_early_is_named(store: Store) -> None:
    short = replace(LOG, blocks=LOG.blocks[:7])
    with pytest.raises(PeerShort, match="after block 6"):
        bring(store, FakeSource(short), terms=short_runs(4))
    assert holds(store, LOG, 7)


def test_one_that_breaks_keeps_what_came_whole(store: Store) -> None:
    short = replace(LOG, blocks=LOG.blocks[:7])
    broken = PeerSilent("the link is down", peer="peer one")
    with pytest.raises(PeerSilent, match="down"):
        bring(store, FakeSource(short, then=broken))
    assert holds(store, LOG, 7)


def test_one_that_stalls_is_left(store: Store) -> None:
    source = FakeSource(LOG, hangs_at=5)
    with pytest.raises(PeerSilent, match="no whole block"):
        bring(store, source, terms=Terms(patience_s=0.3, linger_s=0.05))
    assert source.cancelled.is_set()
    assert holds(store, LOG, 5)


def test_one_that_only_says_it_is_there_is_left_too(store: Store) -> None:
    ever = threading.Event()

    class Idle(FakeSource):
        def blocks(self, start: int) -> Iterator[Block | Pulse]:
            while not ever.wait(0.01) and not self.cancelled.is_set():
                yield Pulse(99)

    with pytest.raises(PeerSilent):
        bring(store, Idle(LOG), terms=Terms(patience_s=0.3))


def test_what_the_judge_raises_passes_and_nothing_is_written(store: Store) -> None:
    def judge(size: int, note: bytes | None) -> TrustedHead:
        raise PolicyUnmet("no witness")

    with pytest.raises(PolicyUnmet):
        catch_up(store, FakeSource(LOG), judge, genesis=LOG.genesis)
    assert store.head() is None


def test_a_log_that_breaks_its_rules_is_named_with_block_leaf_and_rule(store: Store) -> None:
    """Here the source is honest: the trusted head itself is over a block that must not be."""
    bad = [*WORLD.blocks]
    *body, seal = bad[8]
    bad[8] = (*body[:-1], issue(1, "never signed"), seal)
    world = World()
    world.blocks = bad
    log = Log.of(world)
    with pytest.raises(RulesBroken) as caught:
        bring(store, FakeSource(log), log=log)
    assert caught.value.where == "block 8"
    assert "WRONG_RECORDS_ROOT" in str(caught.value)
    assert f"leaf {log.sizes[7]}" in str(caught.value)
    assert holds(store, LOG, 8)


# --- what a store hands out --------------------------------------------------------------------


def joined(messages: Sequence[Sequence[Piece]]) -> list[tuple[int, bytes]]:
    found: dict[int, bytes] = {}
    for piece in (piece for message in messages for piece in message):
        found[piece.number] = found.get(piece.number, b"") + piece.packed
    return sorted(found.items())


@pytest.mark.parametrize("most", [200, 1_000, MAX_MESSAGE])
def test_messages_are_bounded_and_give_every_block(
    tmp_path: Path, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.copying.block_source.MAX_MESSAGE", most + 300)
    store = filled(tmp_path / "whole", WORLD, LOG)
    stored = StoredBlocks(store)
    for start in range(len(LOG.blocks) + 1):
        for end in range(start, len(LOG.blocks) + 1):
            messages = list(stored.messages(start, end))
            assert joined(messages) == [(one.number, one.packed) for one in LOG.blocks[start:end]]
            for message in messages:
                assert sum(piece.weight for piece in message) <= most + 300
                assert [one.note for one in message if one.last] == [
                    LOG.blocks[one.number].note for one in message if one.last
                ]
    store.close()


def test_a_stream_goes_on_within_a_block(tmp_path: Path) -> None:
    store = filled(tmp_path / "whole", WORLD, LOG)
    packed = LOG.blocks[6].packed
    for skip in (0, 1, len(packed) - 1, len(packed)):
        (message,) = StoredBlocks(store).messages(6, 8, skip)
        assert [piece.packed for piece in message] == [packed[skip:], LOG.blocks[7].packed]
        assert all(piece.last for piece in message)
    store.close()


def test_blocks_across_bundles(tmp_path: Path) -> None:
    world = small_world(4, each=250)
    log = Log.of(world)
    store = filled(tmp_path / "whole", world, log)
    assert list(StoredBlocks(store).blocks(0)) == log.blocks
    assert list(StoredBlocks(store).blocks(5)) == log.blocks[5:]
    store.close()


def test_a_block_that_is_damaged_in_the_store_never_ends(tmp_path: Path) -> None:
    store = filled(tmp_path / "whole", WORLD, LOG)
    bundle = store.bundle(0, 256 if END > 256 else END)
    batch = store._db.batch()
    at = len(bundle) - 150
    batch.put("entries", bytes(8), bundle[:at] + bytes((bundle[at] ^ 1,)) + bundle[at + 1 :])
    store._db.write(batch)
    with pytest.raises(StoreDamaged, match="block"):
        list(StoredBlocks(store).messages(0, len(LOG.blocks)))
    store.close()


def test_hashes_are_those_of_the_world() -> None:
    assert LOG.hashes == [one for block in WORLD.blocks for one in leaf_hashes(block)]
