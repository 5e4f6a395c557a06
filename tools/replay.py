"""Replays a log by its rules, as an auditor does, to arrive at its figures without believing anybody.

What grows with the documents stands on disk, in a directory that the caller removes: a few hundred MB of
memory do for any log. Nothing here needs to survive a crash; a replay begins anew.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from struct import Struct
from types import TracebackType
from typing import Final, Self, cast

from rocksdict import Options, Rdict, WriteBatch, WriteOptions

from ledger import rules
from ledger.errors import BlockRefused
from ledger.exchanges import Exchange
from ledger.figures import FigureKey, Metric
from ledger.leaves import NONE, LeafType
from ledger.rules_v1 import CLAIMED_PAST_MS, MAX_BLOCK_LEAVES
from ledger.signing_policy import RecordKind
from ledger.state import State, Transition
from ledger.status import EMPTY_CHUNK
from ledger.submissions import pack, unpack
from ledger.tiles import TILE_WIDTH
from ledger.tree import Tree
from tools.errors import AnswerWrong

_U64: Final = Struct(">Q")
_EXCHANGE: Final = Struct(">QQQQ")
_FIGURE: Final = Struct(">IBQHB")
_PRUNE_STEP_MS: Final = 3_600_000


class ReplayReader:
    """``ledger.state.Reader`` over the blocks that were given to :meth:`apply`, in order.

    In memory: what the rules ask of the last seven days, the status chunks, and 8 bytes for 256 leaves.
    """

    def __init__(self, directory: Path) -> None:
        """``directory`` is empty, and this reader's alone."""
        self._leaves = (directory / "leaves").open("w+b")
        self._bundles = array("Q", (0,))
        self._tail: list[bytes] = []
        self._table = Rdict(str(directory / "table"), Options(raw_mode=True))
        self._unlogged = WriteOptions()
        # Its type stub takes this property for a method.
        self._unlogged.disable_wal = True  # type: ignore[method-assign,assignment]
        self._submissions: dict[tuple[int, bytes], int] = {}
        self._pruned_ms = 0
        self._daily: dict[tuple[int, RecordKind, int], int] = {}
        self._chunks: dict[int, bytes] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._table.close()
        self._leaves.close()

    def apply(self, transition: Transition) -> None:
        """Take over what a block changes."""
        self._append(transition.leaves)
        batch = WriteBatch(raw_mode=True)
        for key, index in sorted(transition.issues.items()):
            batch.put(key, _U64.pack(index))
        for digest, index in transition.attests.items():
            batch.put(b"a" + digest, _U64.pack(index))
        for subject, index in transition.statuses.items():
            batch.put(b"s" + _U64.pack(subject), _U64.pack(index))
        for send, exchange in transition.exchanges.items():
            batch.put(b"x" + _U64.pack(send), _exchange_row(exchange))
        for counter, more in transition.figures.items():
            name = b"f" + _FIGURE.pack(*counter)
            batch.put(name, _U64.pack((self._index(name) or 0) + more))
        self._table.write(batch, self._unlogged)
        self._chunks.update(transition.status_chunks)
        self._submissions.update(transition.submissions)
        self._daily.update(transition.daily)
        self._prune(transition.state.time_ms)

    def figures(self, agency: int) -> dict[FigureKey, int]:
        """The counters of an agency, those above 0."""
        prefix = b"f" + agency.to_bytes(4, "big")
        found = {}
        for name, row in cast("Iterable[tuple[bytes, bytes]]", self._table.items(from_key=prefix)):
            if not name.startswith(prefix):
                break
            _, metric, period, a, b = _FIGURE.unpack(name[1:])
            (count,) = _U64.unpack(row)
            if count:
                found[FigureKey(agency, Metric(metric), period, a, b)] = count
        return found

    # --- ledger.state.Reader ---

    def find_issues(self, keys: Sequence[bytes]) -> list[int | None]:
        return [self._index(key) for key in keys]

    def find_submission(self, claimed_ms: int, identity: bytes) -> int | None:
        return self._submissions.get((claimed_ms, identity))

    def daily_count(self, agency: int, kind: RecordKind, day: int) -> int:
        return self._daily.get((agency, kind, day), 0)

    def leaf(self, index: int) -> bytes:
        number, position = divmod(index, TILE_WIDTH)
        if number == len(self._bundles) - 1:
            return self._tail[position]
        start, end = self._bundles[number : number + 2]
        self._leaves.seek(start)
        return unpack(self._leaves.read(end - start), most=TILE_WIDTH)[position]

    def latest_status(self, subject: int) -> int | None:
        return self._index(b"s" + _U64.pack(subject))

    def status_chunk(self, number: int) -> bytes:
        return self._chunks.get(number, EMPTY_CHUNK)

    def find_attest(self, leaf_hash: bytes) -> int | None:
        return self._index(b"a" + leaf_hash)

    def exchange(self, send: int) -> Exchange:
        sent_ms, *indexes = _EXCHANGE.unpack(self._row(b"x" + _U64.pack(send)) or b"")
        received, final, reminds = (None if one == NONE else one for one in indexes)
        return Exchange(sent_ms, received, final, reminds)

    # --- on disk ---

    def _append(self, leaves: Sequence[bytes]) -> None:
        self._tail += leaves
        full = len(self._tail) // TILE_WIDTH * TILE_WIDTH
        self._leaves.seek(self._bundles[-1])
        for at in range(0, full, TILE_WIDTH):
            bundle = pack(self._tail[at : at + TILE_WIDTH])
            self._leaves.write(bundle)
            self._bundles.append(self._bundles[-1] + len(bundle))
        del self._tail[:full]

    def _row(self, key: bytes) -> bytes | None:
        return cast("bytes | None", self._table.get(key))

    def _index(self, key: bytes) -> int | None:
        row = self._row(key)
        return None if row is None else int.from_bytes(row, "big")

    def _prune(self, now_ms: int) -> None:
        """What the rules do not ask for any more: submissions too old to come again, yesterday's counts."""
        oldest = now_ms - CLAIMED_PAST_MS
        if oldest - self._pruned_ms < _PRUNE_STEP_MS:
            return
        self._pruned_ms = oldest
        self._submissions = {key: index for key, index in self._submissions.items() if key[0] >= oldest}
        today = max((day for _, _, day in self._daily), default=0)
        self._daily = {key: count for key, count in self._daily.items() if key[2] == today}


def _exchange_row(exchange: Exchange) -> bytes:
    indexes = (exchange.received, exchange.final, exchange.reminds)
    return _EXCHANGE.pack(exchange.sent_ms, *(NONE if one is None else one for one in indexes))


def replay(
    leaves: Iterable[bytes], reader: ReplayReader, progress: Callable[[int], None] = lambda _: None
) -> Iterator[tuple[State, Tree]]:
    """The state and the tree after each block, by the rules alone; about 10 µs a leaf.

    Raises BlockRefused for a block that breaks them, AnswerWrong when the leaves end amid a block.
    """
    state: State | None = None
    tree = Tree.empty()
    block: list[bytes] = []
    for leaf in leaves:
        block.append(leaf)
        if len(block) > MAX_BLOCK_LEAVES:
            raise BlockRefused(f"no seal within {MAX_BLOCK_LEAVES} leaves", where=f"leaf {tree.size}")
        if leaf[1:2] != bytes((LeafType.SEAL,)):
            continue
        transition = rules.apply(state, reader, block)
        reader.apply(transition)
        state = transition.state
        tree, _ = tree.append(transition.leaf_hashes)
        progress(len(block))
        block = []
        yield state, tree
    if block:
        raise AnswerWrong("the entries end amid a block", where=f"leaf {tree.size}")


def first_difference(
    stated: Mapping[FigureKey, int], replayed: Mapping[FigureKey, int]
) -> tuple[FigureKey, int, int] | None:
    """(counter, stated, replayed) of the first that is not the same; None when all are."""
    for key in sorted(stated.keys() | replayed.keys()):
        one, other = stated.get(key, 0), replayed.get(key, 0)
        if one != other:
            return key, one, other
    return None
