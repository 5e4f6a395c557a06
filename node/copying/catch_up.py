"""Catch-up: blocks from a source that nobody need trust, checked before any of them is written.

Blocks are taken in runs of some 65,536 leaves, and a run is checked twice.

1. *Is it the log?* Its leaves are hashed onto the tree, and the root that this gives must be that of a
   trusted head, or a consistency proof must lead from it to one. After this the bytes are proven: a source
   that lies, reorders, leaves out, repeats or makes up has been found, and nothing was written.
2. *Does the log keep its rules?* Block by block, ``rules.apply`` on what is written so far, then the store.
   Only here can a block fail that every honest source would give: then the log itself is broken.

A run's second part reads what its earlier blocks wrote, so it cannot come before writing. A crash leaves a
store that ends at some block of a proven run; catching up goes on from there.

While a run is checked, the next one is fetched, up to a bound.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from operator import itemgetter
from types import TracebackType
from typing import Final, Self

from ledger import rules
from ledger.checkpoints import open_checkpoint
from ledger.errors import BlockRefused, FormatError, RulesVersionUnknown, SudurError
from ledger.hashing import leaf_hash, leaf_hashes
from ledger.leaves import LeafType
from ledger.proofs import verify_consistency
from ledger.rules_v1 import MAX_BLOCK_BYTES, MAX_BLOCK_LEAVES
from ledger.seals import Seal
from ledger.state import State
from ledger.submissions import unpack
from ledger.tiles import Tile
from ledger.tree import Tree
from node.copying.block_source import Block, BlockSource, Pulse
from node.errors import PeerError, PeerShort, PeerSilent, PeerWrong, RulesBroken
from node.head import Head
from node.journal import hashed_block
from node.store import Snapshot, Store

RUN_LEAVES: Final = 65_536
RUN_BYTES: Final = 16 << 20
FETCHED_BYTES: Final = 32 << 20
"""What is fetched ahead of the checking, at most, but for the one block that passes it."""
SLOWEST: Final = 4_096
"""Bytes a second that a source has to give at least, once its patience is used up."""
_SEAL: Final = int(LeafType.SEAL)
_LEAST_FETCHED: Final = 256
"""What a small block counts for at least, as the objects that hold it weigh something too."""
_JOIN_S: Final = 5.0
_LOOK_S: Final = 0.1
"""How soon a wait notices ``stop``, and bytes of a block that is not yet whole."""


@dataclass(frozen=True, slots=True)
class TrustedHead:
    """A size and root that the caller vouches for: decided in etcd, or signed as the trust file asks."""

    size: int
    root: bytes


Judge = Callable[[int, bytes | None], TrustedHead | None]
"""Given the size at which a run ends and the checkpoint that came with it (if any): the head to check it by.

The head's size is at least that one. None leaves the proof to a later run, for whoever uses nothing before
that. It raises what it likes when there is none to be trusted.
"""


def _unchanged(head: Head) -> Head:
    return head


def _ignored(snapshot: Snapshot) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Terms:
    """How to catch up.

    ``reached`` is told of each run once it is durable, ``alive`` whenever the source was heard of.
    ``dress`` gives the head under which a block is stored: its epoch and member list do not travel
    with it. ``stop`` ends the work after the block in hand. ``patience_s`` is how long the source may take
    for a block, and a second longer for each 4 KiB that came of it meanwhile. ``linger_s``: a run that has
    waited so long since its first block is checked as it is, however short.
    """

    reached: Callable[[Snapshot], None] = _ignored
    alive: Callable[[Block | Pulse], None] = lambda _: None
    dress: Callable[[Head], Head] = _unchanged
    stop: threading.Event = field(default_factory=threading.Event)
    patience_s: float = 20.0
    linger_s: float = 2.0
    run_leaves: int = RUN_LEAVES


def catch_up(
    store: Store,
    source: BlockSource,
    judge: Judge,
    *,
    genesis: bytes,
    until: int | None = None,
    at: Snapshot | None = None,
    terms: Terms | None = None,
) -> Snapshot | None:
    """Bring ``store`` forward with what ``source`` has; returns where it then stands (None: still empty).

    It ends when the tree has ``until`` leaves (None: when the source ends), or when told to stop. About 9 µs
    a leaf in bulk, 0.4 ms a block, one sync a run. ``genesis`` is G; ``at`` is what the store holds, when the
    caller knows.

    Raises PeerWrong, PeerShort, PeerSilent, with the source and the block named, and RulesBroken: what was
    written until then is the log's, and durable. What the store raises passes through.
    """
    terms = terms or Terms()
    if at is None and store.head() is not None:
        at = store.load()
    start = 0 if at is None else at.head.block + 1
    tree = Tree.empty() if at is None else at.tree
    runs = proven_runs(source, judge, tree, start, genesis=genesis, until=until, terms=terms)
    with closing(runs):
        for run in runs:
            before = at
            try:
                for one in run.blocks:
                    at = _write(store, at, one, source.name, terms.dress)
                    if terms.stop.is_set():
                        break
            except (PeerError, RulesBroken):
                if at is not None and at is not before:
                    _settle(store, at, terms)
                raise
            if at is not None:
                _settle(store, at, terms)
    return at


def _settle(store: Store, at: Snapshot, terms: Terms) -> None:
    """One sync a run: until here a crash leaves some of its blocks, in order, and nobody was told of any."""
    store.sync()
    terms.reached(at)


# --- 1. is it the log? -------------------------------------------------------------------------


def proven_runs(
    source: BlockSource,
    judge: Judge,
    tree: Tree,
    start: int,
    *,
    genesis: bytes,
    until: int | None,
    terms: Terms,
) -> Generator[Run, None, None]:
    """The blocks from number ``start`` on, in runs that are proven to be the log's, before any is used.

    ``tree`` is the tree of the blocks before. About 1.2 µs a leaf. Close it, or the fetching goes on. Ends
    and raises as :func:`catch_up`, but for RulesBroken: nobody has looked at the rules.
    """
    with Fetch(source, start, terms.stop) as fetched:
        while not terms.stop.is_set() and (until is None or tree.size < until):
            run = Run(tree, start, source.name, genesis)
            run.gather(fetched, until, terms)
            if run.blocks:
                run.prove(judge, source)
                yield run
                tree, start = run.tree, run.next
            elif fetched.ended:
                break
    if until is not None and tree.size < until and not terms.stop.is_set():
        raise PeerShort(
            f"it ended at {tree.size} leaves of {until}",
            peer=source.name,
            where=f"after block {start - 1}",
            fix="ask another node",
        )


@dataclass(frozen=True, slots=True)
class HashedBlock:
    """A block of the run, hashed onto the tree of those before it."""

    block: Block
    leaves: Sequence[bytes]
    hashes: Sequence[bytes]
    tree: Tree
    tiles: Sequence[Tile]


class Run:
    """Blocks that follow a tree, hashed onto it; proven once :meth:`prove` has returned.

    ``tree`` and ``next``: the tree after them, and the number of the block that would follow.
    """

    def __init__(self, tree: Tree, start: int, name: str, genesis: bytes) -> None:
        self.blocks: list[HashedBlock] = []
        self.tree = tree
        self.next = start
        self._start = tree.size
        self._bytes = 0
        self._name = name
        self._genesis = genesis

    def gather(self, fetched: Fetch, until: int | None, terms: Terms) -> None:
        """Take blocks until the run is long enough, the source pauses, or ``until`` is reached.

        Raises PeerWrong, PeerSilent.
        """
        ends: float | None = None
        while self._leaves < terms.run_leaves and self._bytes < RUN_BYTES and self.tree.size != until:
            # Without an end, a run ends where a checkpoint does: only there can it be shown to anybody.
            amid = until is None and bool(self.blocks) and self.blocks[-1].block.note is None
            try:
                found = fetched.take(terms.patience_s, None if amid else ends)
            except PeerError:
                # What has come whole is used before a broken link is spoken of.
                if self.blocks:
                    break
                raise
            if found is None:
                break
            terms.alive(found)
            if isinstance(found, Pulse):
                # To a call that has an end, "nothing new" is no answer: its patience runs on.
                if until is None:
                    fetched.patient()
                    break
                continue
            fetched.patient()
            self._add(found, until)
            if ends is None:
                ends = time.monotonic() + terms.linger_s

    @property
    def _leaves(self) -> int:
        return self.tree.size - self._start

    def _wrong(self, what: str, fix: str = "do not use it; ask another node") -> PeerWrong:
        return PeerWrong(what, peer=self._name, where=f"block {self.next}", fix=fix)

    def _add(self, block: Block, until: int | None) -> None:
        if block.number != self.next:
            raise self._wrong(f"block {block.number} came in its place")
        if len(block.packed) > MAX_BLOCK_BYTES:
            raise self._wrong(f"more than {MAX_BLOCK_BYTES} bytes without an end")
        try:
            leaves = unpack(block.packed, most=MAX_BLOCK_LEAVES)
            seal = Seal.decode(leaves[-1] if leaves else b"")
        except FormatError as error:
            raise self._wrong(f"what came is no block: {error}") from error
        if min(map(len, leaves)) < 2:
            raise self._wrong("what came is no block: a leaf has less than 2 bytes")
        within = bytes(map(itemgetter(1), leaves)).index(_SEAL)
        if within != len(leaves) - 1:
            raise self._wrong(f"leaf {self.tree.size + within} seals a block within it")
        if seal.block != self.next:
            raise self._wrong(f"its seal is that of block {seal.block}")
        if self.next == 0 and leaf_hash(leaves[0]) != self._genesis:
            raise self._wrong(
                f"it is of another ledger: its genesis is {leaf_hash(leaves[0]).hex()}, not"
                f" {self._genesis.hex()}",
                fix="give a node of this ledger, or the trust file of that one",
            )
        if until is not None and self.tree.size + len(leaves) > until:
            raise self._wrong(f"it goes past {until} leaves, where a block is known to end")
        hashes = leaf_hashes(leaves)
        self.tree, tiles = self.tree.append(hashes)
        self.blocks.append(HashedBlock(block, leaves, hashes, self.tree, tiles))
        self._bytes += len(block.packed)
        self.next += 1

    def prove(self, judge: Judge, source: BlockSource) -> None:
        """Return if the run is the log's; at most one request to the source. Raises PeerError."""
        size, root = self.tree.size, self.tree.root()
        first, last = self.blocks[0].block.number, self.blocks[-1].block
        where = f"block {first}" if first == last.number else f"blocks {first} to {last.number}"
        trusted = judge(size, last.note)
        if trusted is None:
            return
        if trusted.size == size:
            if trusted.root != root:
                raise PeerWrong(
                    f"they lead to another root at {size} leaves than the trusted head has",
                    peer=self._name,
                    where=where,
                    fix="do not use it; ask another node",
                )
            return
        if trusted.size < size:
            raise PeerWrong(
                f"they go beyond the trusted head, which has {trusted.size} leaves",
                peer=self._name,
                where=where,
                fix="ask another node",
            )
        try:
            path = source.consistency(size, trusted.size)
            verify_consistency(size, root, trusted.size, trusted.root, path)
        except PeerError:
            raise
        except SudurError as error:
            raise PeerWrong(
                f"nothing proves that they lead to the trusted head of {trusted.size} leaves: {error.what}",
                peer=self._name,
                where=where,
                fix="do not use it; ask another node",
            ) from error


# --- 2. does the log keep its rules? -----------------------------------------------------------


def _write(
    store: Store, at: Snapshot | None, one: HashedBlock, name: str, dress: Callable[[Head], Head]
) -> Snapshot:
    """Check a proven block by the rules and write it, durably."""
    number = one.block.number
    try:
        transition = rules.apply(None if at is None else at.state, store, one.leaves)
    except (BlockRefused, RulesVersionUnknown) as error:
        raise RulesBroken(
            f"the log holds a block that cannot be accepted: {error}",
            where=f"block {number}",
            fix="upgrade, if it is under newer rules; else tell the operator and the auditors, and keep"
            " this copy: it is evidence",
        ) from error
    made = hashed_block(None if at is None else at.head, transition, one.block.packed, one.tree, one.tiles)
    made = replace(made, head=dress(made.head))
    note = one.block.note
    if note is not None:
        _check_note(note, transition.state, made.head, name)
    store.apply(made, note, durable=False)
    return Snapshot(made.head, transition.state, one.tree)


def _check_note(note: bytes, state: State, head: Head, name: str) -> None:
    """That ``note`` is the checkpoint of ``head``, signed by a key that the log's own registry has for it.

    About 0.1 ms. Raises PeerWrong.
    """
    record = state.registry.ledger
    try:
        found = open_checkpoint(note, record.origin, record.log_keys_at(head.size)).checkpoint
    except SudurError as error:
        what = f"its checkpoint is not the log's: {error.what}"
    else:
        if (found.size, found.root) == (head.size, head.root):
            return
        what = f"its checkpoint, signed by the log, is of another tree, of {found.size} leaves"
    raise PeerWrong(what, peer=name, where=f"block {head.block}", fix="keep it, and tell the auditors")


# --- the next run, meanwhile -------------------------------------------------------------------


class Fetch:
    """Takes blocks from a source on a thread of its own, so many bytes ahead and no more."""

    def __init__(self, source: BlockSource, start: int, stop: threading.Event) -> None:
        self._source = source
        self._start = start
        self._stop = stop
        self._changed = threading.Condition()
        self._items: deque[Block | Pulse] = deque()
        self._bytes = 0
        self._done = False
        self._closed = False
        self._error: BaseException | None = None
        self._since: tuple[float, int] | None = None
        self._thread = threading.Thread(target=self._fetch, name="fetch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._source.cancel()
        # A source that does not end when it is cancelled keeps a thread, and nobody waiting.
        self._thread.join(_JOIN_S)

    @property
    def ended(self) -> bool:
        """Whether all that the source had was taken."""
        with self._changed:
            return self._done and not self._items

    def take(self, patience_s: float, ends: float | None) -> Block | Pulse | None:
        """The next item; None when there is no more, at the time ``ends``, or when told to stop.

        Raises PeerSilent when the source uses up its patience, and what the source raised.
        """
        with self._changed:
            if self._since is None:
                self._since = time.monotonic(), self._source.received
            while not self._items:
                if self._error is not None:
                    raise self._error
                now = time.monotonic()
                if self._done or self._stop.is_set() or (ends is not None and now >= ends):
                    return None
                began, received = self._since
                came = self._source.received - received
                left = began + patience_s + came / SLOWEST - now
                if left <= 0:
                    raise PeerSilent(
                        f"no whole block in {now - began:.0f} s, and {came} bytes",
                        peer=self._source.name,
                        fix="try it again later, or another node",
                    )
                self._changed.wait(min(left, _LOOK_S, _LOOK_S if ends is None else ends - now))
            item = self._items.popleft()
            self._bytes -= _weight(item)
            self._changed.notify_all()
            return item

    def patient(self) -> None:
        """Let the source's patience begin anew: it has given what it should."""
        self._since = None

    def _fetch(self) -> None:
        error: BaseException | None = None
        try:
            for item in self._source.blocks(self._start):
                if not self._put(item):
                    return
        except BaseException as caught:
            error = caught
        finally:
            with self._changed:
                self._error, self._done = error, True
                self._changed.notify_all()

    def _put(self, item: Block | Pulse) -> bool:
        with self._changed:
            while self._bytes >= FETCHED_BYTES and not self._closed:
                self._changed.wait()
            if self._closed:
                return False
            self._items.append(item)
            self._bytes += _weight(item)
            self._changed.notify_all()
            return True


def _weight(item: Block | Pulse) -> int:
    return max(_LEAST_FETCHED, len(item.packed)) if isinstance(item, Block) else _LEAST_FETCHED
