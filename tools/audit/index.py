"""What the rules ask about the log so far, kept by an auditor: :class:`ledger.state.Reader` on disk.

What blocks change is held in memory until :meth:`Index.commit` writes all of it in one synced batch,
together with what the state is made of; so what stands on disk is always as of one block. In memory: the
changes since then, which the caller bounds (:attr:`Index.held`), and some 100 MB however long the log.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from struct import Struct
from typing import Final

from ledger.changes import LEDGER, Subject
from ledger.errors import FormatError
from ledger.exchanges import Exchange
from ledger.figures import FigureKey, Metric
from ledger.leaves import NONE
from ledger.registry import Registry
from ledger.registry_records import Agency, AgencyRecord, KeyRecord, LedgerRecord, TypeRecord
from ledger.rules_v1 import CLAIMED_PAST_MS
from ledger.signing_policy import RecordKind
from ledger.state import State, Transition
from ledger.status import EMPTY_CHUNK
from ledger.tiles import TILE_WIDTH, Tile
from ledger.tree import Tree
from tools.audit.bundles import BundleFile
from tools.audit.errors import StateDamaged
from tools.audit.issues import IssueIndex
from tools.audit.snapshot import Snapshot, tail_of
from tools.audit.table import Batch, Table

_U32: Final = Struct(">I")
_U64: Final = Struct(">Q")
_SUBMISSION: Final = Struct(">Q32s")
_EXCHANGE: Final = Struct(">QQQQ")
_FIGURE: Final = Struct(">IBQHB")
_TILE: Final = Struct(">BQ")
_KEY: Final = Struct(">II")
_META: Final = b"m"
_CHUNK_ROWS: Final = 50
"""A status chunk weighs as much as so many other rows."""


class Index:
    """The leaves, tiles and rows of an audit, as of :attr:`state`. For one thread."""

    def __init__(self, directory: Path) -> None:
        """Opens what was committed. Raises StateDamaged when it does not fit together."""
        self._directory = directory
        directory.mkdir(mode=0o700, exist_ok=True)
        self._table = Table(directory / "table")
        self._bundles = BundleFile(directory)
        try:
            self.reset()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._bundles.close()
        self._table.close()

    def reset(self) -> None:
        """Go back to what was committed. Raises StateDamaged."""
        self._changed: dict[bytes, bytes] = {}
        self._chunks = 0
        self._figures: Counter[FigureKey] = Counter()
        self._tiles: dict[tuple[int, int], bytes] = {}
        self._subjects: set[Subject] = set()
        self._daily: dict[tuple[int, RecordKind, int], int] = {}
        self.state: State | None = None
        self.tree = Tree.empty()
        self._tail: list[bytes] = []
        self._pruned_ms = 0
        if self._row(_META) is None:
            self._bundles.cut(0)
            self.issues = IssueIndex(self._table, ())
            return
        meta = self._meta()
        self._bundles.cut(meta.full)
        self.tree = meta.tree
        self._tail = tail_of(meta)
        self._daily = dict(meta.daily)
        self.issues = IssueIndex(self._table, meta.runs)
        try:
            registry = self._registry(meta.genesis)
        except FormatError as error:
            raise StateDamaged(f"its registry cannot be read: {error}", where=str(self._directory)) from error
        self.state = meta.state(registry, self.leaf(meta.tree.size - 1))

    @property
    def size(self) -> int:
        return 0 if self.state is None else self.state.size

    @property
    def held(self) -> int:
        """Rows that wait for a commit, apart from ISSUEs: about 300 bytes of memory each."""
        return len(self._changed) + len(self._figures) + _CHUNK_ROWS * self._chunks

    # --- blocks ---

    @property
    def tail(self) -> list[bytes]:
        """The leaves of the bundle that is not full yet."""
        return self._tail

    def add_leaves(self, leaves: Sequence[bytes], bundles: list[bytes]) -> None:
        """Take over a block's leaves. ``bundles``, packed, begin with the one of :attr:`tail`: those that are
        full now are taken out of the list.
        """
        self._tail += leaves
        full = len(self._tail) // TILE_WIDTH
        if full:
            self._bundles.append(bundles[:full])
            del bundles[:full]
            del self._tail[: full * TILE_WIDTH]

    def add_tiles(self, tiles: Sequence[Tile]) -> None:
        """Take over full tiles of level 1 and above; those of level 0 follow from the leaves."""
        for one in tiles:
            if one.id.width == TILE_WIDTH and one.id.level:
                self._tiles[one.id.level, one.id.index] = one.data

    def apply(self, transition: Transition) -> None:
        """Take over what a block changes; its leaves were added before."""
        changed = self._changed
        self.issues.add(transition.issues)
        for (claimed_ms, identity), index in transition.submissions.items():
            changed[b"u" + _SUBMISSION.pack(claimed_ms, identity)] = _U64.pack(index)
        for digest, index in transition.attests.items():
            changed[b"a" + digest] = _U64.pack(index)
        for subject, index in transition.statuses.items():
            changed[b"s" + _U64.pack(subject)] = _U64.pack(index)
        for send, exchange in transition.exchanges.items():
            changed[b"x" + _U64.pack(send)] = _exchange_row(exchange)
        for number, chunk in transition.status_chunks.items():
            changed[b"c" + _U32.pack(number)] = chunk
        self._chunks += len(transition.status_chunks)
        self._figures.update(transition.figures)
        self._daily.update(transition.daily)
        self._subjects |= transition.subjects
        self.state = transition.state

    def commit(self, tree: Tree) -> None:
        """Make all of it durable, as of the block that ``tree`` ends with."""
        state = self.state
        assert state is not None
        assert tree.size == state.size
        self._bundles.sync()
        batch = Batch()
        for key, row in sorted(self._changed.items()):
            batch.put(key, row)
        for counter, more in self._figures.items():
            name = b"f" + _FIGURE.pack(*counter)
            batch.put(name, _U64.pack((self._number(name) or 0) + more))
        for (level, index), data in self._tiles.items():
            batch.put(b"t" + _TILE.pack(level, index), data)
        for subject in self._subjects:
            _put_record(batch, state.registry, subject)
        self._prune(batch, state.time_ms)
        self.issues.write(batch)
        made = Snapshot.of(state, tree, self._tail, self._daily, self.issues.runs)
        batch.put(_META, made.encode())
        self._table.write(batch)
        self.tree = tree
        self._changed, self._tiles, self._subjects = {}, {}, set()
        self._figures, self._chunks = Counter(), 0

    def _prune(self, batch: Batch, now_ms: int) -> None:
        """What the rules do not ask for any more: submissions too old to come again, yesterday's counts."""
        oldest = max(0, now_ms - CLAIMED_PAST_MS)
        if oldest > self._pruned_ms:
            batch.delete_range(b"u", b"u" + _U64.pack(oldest))
            self._pruned_ms = oldest
        today = max((day for _, _, day in self._daily), default=0)
        self._daily = {key: count for key, count in self._daily.items() if key[2] == today}

    # --- ledger.state.Reader ---

    def find_issues(self, keys: Sequence[bytes]) -> list[int | None]:
        return self.issues.find(keys, self.leaf)

    def find_submission(self, claimed_ms: int, identity: bytes) -> int | None:
        return self._number(b"u" + _SUBMISSION.pack(claimed_ms, identity))

    def daily_count(self, agency: int, kind: RecordKind, day: int) -> int:
        return self._daily.get((agency, kind, day), 0)

    def leaf(self, index: int) -> bytes:
        number, position = divmod(index, TILE_WIDTH)
        if number == self._bundles.count:
            return self._tail[position]
        return self._bundles.leaves(number)[position]

    def latest_status(self, subject: int) -> int | None:
        return self._number(b"s" + _U64.pack(subject))

    def status_chunk(self, number: int) -> bytes:
        return self._row(b"c" + _U32.pack(number)) or EMPTY_CHUNK

    def find_attest(self, leaf_hash: bytes) -> int | None:
        return self._number(b"a" + leaf_hash)

    def exchange(self, send: int) -> Exchange:
        row = self._row(b"x" + _U64.pack(send))
        if row is None:
            raise StateDamaged(f"the SEND at {send} is missing", where=str(self._directory))
        sent_ms, *indexes = _EXCHANGE.unpack(row)
        received, final, reminds = (None if one == NONE else one for one in indexes)
        return Exchange(sent_ms, received, final, reminds)

    # --- for what is compared with the log ---

    def figures(self, agency: int) -> dict[FigureKey, int]:
        """The counters of an agency, those above 0."""
        found: Counter[FigureKey] = Counter()
        for name, row in self._table.prefixed(b"f" + _U32.pack(agency)):
            _, metric, period, a, b = _FIGURE.unpack(name[1:])
            found[FigureKey(agency, Metric(metric), period, a, b)] = int.from_bytes(row, "big")
        for key, more in self._figures.items():
            if key.agency == agency:
                found[key] += more
        return {key: count for key, count in found.items() if count}

    def tile(self, level: int, index: int) -> bytes | None:
        """A full tile of level 1 or above."""
        return self._tiles.get((level, index)) or self._row(b"t" + _TILE.pack(level, index))

    # --- rows ---

    def _row(self, key: bytes) -> bytes | None:
        row = self._changed.get(key)
        return self._table.get(key) if row is None else row

    def _number(self, key: bytes) -> int | None:
        row = self._row(key)
        return None if row is None else int.from_bytes(row, "big")

    def _meta(self) -> Snapshot:
        return Snapshot.decode(self._row(_META) or b"", str(self._directory))

    def _registry(self, genesis: bytes) -> Registry:
        """The registry from its rows; what it comes to is held against the newest seal."""
        ledger = LedgerRecord.decode(self._row(b"gl") or b"")
        types = [TypeRecord.decode(row) for _, row in self._table.prefixed(b"gt")]
        keys: dict[int, list[KeyRecord]] = {}
        for name, row in self._table.prefixed(b"gk"):
            agency, _ = _KEY.unpack(name[2:])
            keys.setdefault(agency, []).append(KeyRecord.decode(row))
        agencies = [
            Agency.of(AgencyRecord.decode(row), keys.get(_U32.unpack(name[2:])[0], []))
            for name, row in self._table.prefixed(b"ga")
        ]
        return Registry.of(genesis, ledger, agencies, types)


def _put_record(batch: Batch, registry: Registry, subject: Subject) -> None:
    record = registry.record(subject)
    if subject == LEDGER:
        batch.put(b"gl", record)
    elif subject.kind == "type":
        batch.put(b"gt" + _U32.pack(subject.number), record)
    else:
        batch.put(b"ga" + _U32.pack(subject.number), record)
        for key in registry.agency(subject.number).keys:
            batch.put(b"gk" + _KEY.pack(key.agency, key.number), key.encode())


def _exchange_row(exchange: Exchange) -> bytes:
    indexes = (exchange.received, exchange.final, exchange.reminds)
    return _EXCHANGE.pack(exchange.sent_ms, *(NONE if one is None else one for one in indexes))


def first_difference(
    stated: Mapping[FigureKey, int], replayed: Mapping[FigureKey, int]
) -> tuple[FigureKey, int, int] | None:
    """(counter, stated, replayed) of the first that is not the same; None when all are."""
    for key in sorted(stated.keys() | replayed.keys()):
        one, other = stated.get(key, 0), replayed.get(key, 0)
        if one != other:
            return key, one, other
    return None
