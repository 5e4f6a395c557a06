"""What every row of the database must be, as a replay of the entries gives it.

:class:`RowChecker` is the reader that the replay runs with and the judge of the rows beside it. An
index row is looked up where the rules ask for it, never believed, and compared once the block's
outcome is known; what belongs to nothing shows by counting.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ledger.checkpoints import Checkpoint, open_checkpoint, open_signed_by_any
from ledger.errors import SudurError
from ledger.exchanges import Exchange
from ledger.figures import Figures
from ledger.hashing import EMPTY_ROOT, leaf_hash
from ledger.leaves import LeafType
from ledger.merkle_list import MerkleList
from ledger.notes import VerifierKey
from ledger.records import Attest, Issue, Send
from ledger.registry_records import LedgerRecord
from ledger.rules_v1 import CLAIMED_PAST_MS
from ledger.signing_policy import RecordKind
from ledger.state import State, Transition
from ledger.status import EMPTY_CHUNK, EMPTY_CHUNK_HASH
from ledger.submissions import SubmissionLeaf, unpack
from ledger.tiles import TILE_WIDTH, Tile, tile_width
from node import codec
from node.checking.entries import EntriesDamaged
from node.codec import BlockInfo
from node.cosigning.policies import sound_lines
from node.database import (
    ATTESTED,
    ATTESTS,
    BLOCKS,
    CHECKPOINTS,
    COSIGNATURES,
    DAILY,
    ENTRIES,
    EXCHANGES,
    EXPIRIES,
    FIGURES,
    ISSUES,
    LISTS,
    META,
    OBJECTS,
    SEALS,
    SENDS,
    STATUSES,
    SUBMISSIONS,
    SUPERSEDED,
    TILES,
    Database,
)
from node.errors import StoreDamaged
from node.head import Head
from node.journal import CandidateBlock
from node.store import KEEP_SUPERSEDED_MS

HEAD_KEY: Final = b"head"
_SHOWN: Final = 40
# Older than this, what was superseded has been deleted, or waits for it: both are in order.
_FORGET_MS: Final = 2 * KEEP_SUPERSEDED_MS


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of damage: how often, and the first case in words.

    ``part``: a family of the database, ``mark``, ``log`` or ``database``. ``kind``: ``missing``,
    ``wrong``, ``extra`` or ``unreadable``. ``repairable``: whether ``--repair`` rebuilds it.
    """

    part: str
    kind: str
    first: str
    count: int
    repairable: bool

    def __str__(self) -> str:
        more = f" (and {self.count - 1} more)" if self.count > 1 else ""
        return f"{self.part}: {self.first}{more}"


class Findings:
    """Collects findings: the first of each kind in words, the others by number."""

    def __init__(self, known: Iterable[Finding] = ()) -> None:
        self._found = {(one.part, one.kind): one for one in known}

    def add(self, part: str, kind: str, text: str, *, repairable: bool = True, count: int = 1) -> None:
        before = self._found.get((part, kind))
        first, number = (text, 0) if before is None else (before.first, before.count)
        self._found[part, kind] = Finding(part, kind, first, number + count, repairable)

    def all(self) -> tuple[Finding, ...]:
        """In the order in which their first cases were found."""
        return tuple(self._found.values())


class RowChecker:
    """The :class:`ledger.state.Reader` of a replay, and the judge of every row.

    For each block: :meth:`begin`, ``rules.apply`` with this as its reader, :meth:`check_block`; at the
    end :meth:`finish`. ``final_ms``: the time of the newest seal, so that what may have been deleted by
    then is not missed. ``look_up``: whether the issues are looked up one by one.
    """

    def __init__(
        self, database: Database, findings: Findings, final_ms: int, *, look_up: bool, of_cluster: bool
    ) -> None:
        """``of_cluster``: the database is a member's, who may have missed when others released."""
        self._db = database
        self._of_cluster = of_cluster
        self._look_up = look_up
        self._secret = secrets.token_bytes(16)
        self._issue_sum = 0
        self._findings = findings
        self._final_ms = final_ms
        self._size = 0
        # Rows that the replay looked up and found, right or wrong: what is beyond them is extra.
        self._present: Counter[str] = Counter()
        self._issue_rows: list[bytes | None] = []
        self._submission_rows: dict[tuple[int, bytes], bytes | None] = {}
        self._daily: dict[bytes, int] = {}
        self._statuses: dict[int, tuple[int, int | None]] = {}
        self._chunks: dict[int, bytes] = {}
        self._attests: dict[bytes, int] = {}
        self._exchanges: dict[int, bytes] = {}
        self._figures: Figures = Counter()
        self._partials: dict[int, Tile] = {}
        self._records: set[bytes] = set()
        self._old_objects: dict[bytes, int] = {}
        self._old_lists: dict[bytes, int] = {}
        self._expiries: set[tuple[int, bytes]] = set()
        self._forget_at = 10_000
        self._without_checkpoint: int | None = None
        self._bundle: tuple[int, list[bytes]] = (-1, [])

    # --- ledger.state.Reader ---

    def begin(self, size: int) -> None:
        """A block on top of ``size`` leaves comes next."""
        self._size = size
        self._issue_rows.clear()
        self._submission_rows.clear()

    def find_issues(self, keys: Sequence[bytes]) -> list[int | None]:
        """See :class:`ledger.state.Reader`."""
        if not self._look_up:
            return [None] * len(keys)
        try:
            rows = self._db.get_many(ISSUES, keys)
        except StoreDamaged as error:
            self._unreadable(error)
            rows = [None] * len(keys)
        self._issue_rows += rows
        first = codec.u64(self._size)
        if all(row is not None and row >= first for row in rows):
            return [None] * len(keys)
        return [self._believed(row, key, _is_issue) for row, key in zip(rows, keys, strict=True)]

    def find_submission(self, claimed_ms: int, identity: bytes) -> int | None:
        """See :class:`ledger.state.Reader`."""
        key = codec.submission_key(claimed_ms, identity)
        row = self._submission_rows[claimed_ms, identity] = self._get(SUBMISSIONS, key)
        return self._believed(row, identity, self._is_submission)

    def daily_count(self, agency: int, kind: RecordKind, day: int) -> int:
        """See :class:`ledger.state.Reader`."""
        return self._daily.get(codec.daily_key(agency, kind, day), 0)

    def leaf(self, index: int) -> bytes:
        """See :class:`ledger.state.Reader`. Raises EntriesDamaged."""
        number, position = divmod(index, TILE_WIDTH)
        if self._bundle[0] != number:
            try:
                row = self._db.get(ENTRIES, codec.u64(number))
                self._bundle = (number, unpack(row or b"", most=TILE_WIDTH))
            except SudurError as error:
                raise EntriesDamaged(str(error), first=index, where=f"leaf {index}") from error
        leaves = self._bundle[1]
        if position >= len(leaves):
            self._bundle = (number, unpack(self._db.get(ENTRIES, codec.u64(number)) or b"", most=TILE_WIDTH))
            leaves = self._bundle[1]
        return leaves[position]

    def latest_status(self, subject: int) -> int | None:
        """See :class:`ledger.state.Reader`."""
        held = self._statuses.get(subject)
        return None if held is None else held[0]

    def status_chunk(self, number: int) -> bytes:
        """See :class:`ledger.state.Reader`."""
        return self._chunks.get(number, EMPTY_CHUNK)

    def find_attest(self, leaf_hash: bytes) -> int | None:
        """See :class:`ledger.state.Reader`."""
        return self._attests.get(leaf_hash)

    def exchange(self, send: int) -> Exchange:
        """See :class:`ledger.state.Reader`."""
        return codec.read_exchange(self._exchanges[send])

    def _believed(self, row: bytes | None, key: bytes, holds: Callable[[bytes, bytes], bool]) -> int | None:
        """The index in a row when it is below this block and the leaf there bears the key out."""
        if row is None or len(row) != 8:
            return None
        index = int.from_bytes(row, "big")
        return index if index < self._size and holds(self.leaf(index), key) else None

    def _is_submission(self, leaf: bytes, identity: bytes) -> bool:
        if leaf[1] != LeafType.SUBMISSION:
            return False
        return SubmissionLeaf.decode(leaf).identity(leaf_hash(self.leaf(0))) == identity

    # --- one block ---

    def check_block(self, block: CandidateBlock, keys: Sequence[VerifierKey]) -> None:
        """Compare what follows from a valid block; ``keys``: the log keys that may sign its size."""
        transition, head = block.transition, block.head
        before, state = transition.before, transition.state
        self._check_issues(transition)
        self._check_submissions(transition)
        self._check_tiles(block)
        info = BlockInfo(head.block, transition.first_index, head.size, state.time_ms, head.root, head.digest)
        self._compare(BLOCKS, codec.u64(head.block), info.encode(), f"block {head.block}")
        self._compare(
            SEALS, codec.u64(info.seal_index), codec.u64(head.block), f"the seal at {info.seal_index}"
        )
        self._check_checkpoint(head, state.registry.ledger.origin, keys)
        self._check_cosignatures(head, state.registry.ledger)
        for (agency, kind, day), count in transition.daily.items():
            self._daily[codec.daily_key(agency, kind, day)] = count
        for subject, index in transition.statuses.items():
            self._statuses[subject] = index, self.latest_status(subject)
        self._chunks.update(transition.status_chunks)
        self._check_records(transition)
        self._follow(before, transition)

    def _check_issues(self, transition: Transition) -> None:
        indexes = list(transition.issues.values())
        wanted = codec.u64s(indexes)
        if not self._look_up:
            self._issue_sum += self._sum(zip(transition.issues, wanted, strict=True))
            return
        rows = self._issue_rows
        if rows == wanted:
            self._present[ISSUES] += len(rows)
            return
        for (key, index), row, want in zip(transition.issues.items(), rows, wanted, strict=True):
            name = f"commitment {key[:32].hex()} of agency {int.from_bytes(key[32:], 'big')}, leaf {index}"
            self._judge(ISSUES, row, want, name)

    def _check_records(self, transition: Transition) -> None:
        self._attests.update(transition.attests)
        for index, exchange in transition.exchanges.items():
            self._exchanges[index] = codec.exchange_row(exchange)
        for subject, index in transition.attested:
            key = codec.attested_key(subject, index)
            self._compare(ATTESTED, key, b"", f"the ATTEST at leaf {index} on leaf {subject}")
        for recipient, index in transition.sends:
            self._compare(SENDS, codec.send_key(recipient, index), b"", f"the SEND at leaf {index}")
        self._figures.update(transition.figures)

    def _check_submissions(self, transition: Transition) -> None:
        for key, index in transition.submissions.items():
            row = self._submission_rows[key]
            # The rules refuse one this old for its time, so its row may be gone.
            if row is not None or key[0] >= self._final_ms - CLAIMED_PAST_MS:
                self._judge(SUBMISSIONS, row, codec.u64(index), f"submission at leaf {index}")

    def _check_tiles(self, block: CandidateBlock) -> None:
        for tile in block.tiles:
            if tile.id.width == TILE_WIDTH:
                self._check_tile(tile)
                self._partials.pop(tile.id.level, None)
        for tile in block.tiles:
            if tile.id.width != TILE_WIDTH:
                self._partials[tile.id.level] = tile

    def _check_tile(self, tile: Tile) -> None:
        key = codec.tile_key(tile.id.level, tile.id.index)
        row, want = self._get(TILES, key), tile.data + tile.mids
        if row is not None and row != want:
            at = next((i for i, (a, b) in enumerate(zip(row, want, strict=False)) if a != b), len(want))
            where = (
                f"hash {at // 32}" if at < len(tile.data) else f"interior node {(at - len(tile.data)) // 32}"
            )
            self._present[TILES] += 1
            self._findings.add(
                TILES,
                "wrong",
                f"{tile.id.path()} differs from byte {at} on ({where}); it has {len(row)} bytes,"
                f" {len(want)} belong there",
            )
            return
        self._judge(TILES, row, want, tile.id.path())

    def _check_checkpoint(self, head: Head, origin: str, keys: Sequence[VerifierKey]) -> None:
        if self._without_checkpoint is not None and not self._of_cluster:
            # Only the newest may be missing: a crash before the next block's sync costs it.
            self._findings.add(
                CHECKPOINTS,
                "missing",
                f"no signed checkpoint is kept for size {self._without_checkpoint}",
                repairable=False,
            )
        self._without_checkpoint = None
        note = self._get(CHECKPOINTS, codec.u64(head.size))
        if note is None:
            self._without_checkpoint = head.size
            return
        self._present[CHECKPOINTS] += 1
        try:
            found = open_checkpoint(note, origin, keys).checkpoint
        except SudurError as error:
            self._findings.add(CHECKPOINTS, "wrong", f"that of size {head.size} does not verify: {error}")
            return
        if found.size != head.size:
            self._findings.add(
                CHECKPOINTS, "wrong", f"that of size {found.size} is kept under size {head.size}"
            )
        elif found.root != head.root:
            raise EntriesDamaged(
                f"the entries have the root {head.root.hex()}, the log has signed {found.root.hex()}"
                f" for size {head.size}",
                first=self._size,
                where=f"leaves {self._size} to {head.size - 1}",
            )

    def _check_cosignatures(self, head: Head, record: LedgerRecord) -> None:
        """The lines of witnesses: none has to be there, and those that are must verify."""
        lines = self._get(COSIGNATURES, codec.u64(head.size))
        if lines is None:
            return
        self._present[COSIGNATURES] += 1
        if sound_lines(record, Checkpoint(record.origin, head.size, head.root), lines) != lines:
            self._findings.add(
                COSIGNATURES, "wrong", f"those of size {head.size} do not verify, or are no witness's"
            )

    def _check_beyond(self, state: State) -> None:
        """A checkpoint that the log did sign, for more than the entries hold, means that some are lost."""
        ledger = state.registry.ledger
        keys = [VerifierKey.parse(key.vkey) for key in ledger.log_keys]  # whichever, and whenever
        for _, note in self._rows(CHECKPOINTS, codec.u64(state.size + 1)):
            try:
                signed = open_signed_by_any(note, ledger.origin, keys).checkpoint
            except SudurError:
                continue
            if signed.size > state.size:
                raise EntriesDamaged(
                    f"the log has signed a tree of {signed.size} leaves, the entries end at {state.size}",
                    first=state.size,
                    where=f"leaf {state.size}",
                )

    # --- records, chunks and lists: what there was, and when something newer took its place ---

    def _follow(self, before: State | None, transition: Transition) -> None:
        state = transition.state
        for subject in transition.subjects:
            self._records.add(leaf_hash(state.registry.record(subject)))
            if subject.kind == "agency":
                self._records.update(state.registry.agency(subject.number).key_tree.hashes)
        if before is None:
            return
        objects = {
            before.status.hashes[number] for number in transition.status_chunks if number < len(before.status)
        }
        lists = {
            before.registry.agencies[subject.number].record.keys_root
            for subject in transition.subjects
            if subject.kind == "agency" and subject.number in before.registry.agencies
        }
        if before.status.root != state.status.root:
            lists.add(before.status.root)
        if before.registry.root != state.registry.root:
            lists.add(before.registry.root)
        if not objects and not lists:
            return
        used_objects, used_lists = used_by(state)
        for old, used, kept in (
            (objects, used_objects, self._old_objects),
            (lists, used_lists, self._old_lists),
        ):
            for digest in old - used - {EMPTY_CHUNK_HASH, EMPTY_ROOT}:
                kept[digest] = state.time_ms
                self._expiries.add((state.time_ms, digest))
        if len(self._expiries) > self._forget_at:
            self._forget(state.time_ms - _FORGET_MS)

    def _forget(self, before_ms: int) -> None:
        for kept in (self._old_objects, self._old_lists):
            for digest in [digest for digest, time_ms in kept.items() if time_ms < before_ms]:
                del kept[digest]
        self._expiries = {one for one in self._expiries if one[0] >= before_ms}
        self._forget_at = 2 * len(self._expiries) + 10_000

    # --- the end ---

    def finish(self, state: State, head: Head) -> bool:
        """Compare what only the end decides, and find rows that belong to nothing.

        False when the issues do not sum up, and a replay that looks them up has to say why.
        """
        for tile in self._partials.values():
            self._check_tile(tile)
        self._check_meta(head)
        size = state.size
        self._size = size
        if self._look_up:
            self._find_extra(ISSUES, lambda key, row: self._believed(row, key, _is_issue) is not None)
        elif self._sum(self._rows(ISSUES)) != self._issue_sum:
            return False
        self._find_extra(
            SUBMISSIONS, lambda key, row: self._believed(row, key[8:], self._is_submission) is not None
        )
        self._find_extra(TILES, lambda key, row: _is_tile(key, size))
        self._find_extra(BLOCKS, lambda key, row: len(key) == 8 and codec.read_u64(key) <= state.block)
        self._find_extra(SEALS, lambda key, row: len(key) == 8 and self._is_seal(codec.read_u64(key)))
        self._check_beyond(state)
        self._find_extra(
            CHECKPOINTS, lambda key, row: len(key) == 8 and self._is_seal(codec.read_u64(key) - 1)
        )
        self._find_extra(
            COSIGNATURES, lambda key, row: len(key) == 8 and self._is_seal(codec.read_u64(key) - 1)
        )
        self._check_all(DAILY, {key: codec.u32(count) for key, count in self._daily.items()})
        self._check_all(
            STATUSES, {codec.u64(one): codec.status_row(*at) for one, at in self._statuses.items()}
        )
        self._check_all(ATTESTS, {key: codec.u64(at) for key, at in self._attests.items()})
        self._check_all(EXCHANGES, {codec.u64(at): row for at, row in self._exchanges.items()})
        self._find_extra(
            ATTESTED, lambda key, row: len(key) == 16 and self._is_attest(*codec.split_attested(key))
        )
        self._find_extra(SENDS, lambda key, row: len(key) == 12 and self._is_send(*codec.split_send(key)))
        figures = {codec.figure_key(key): codec.u64(count) for key, count in self._figures.items() if count}
        self._check_all(FIGURES, {**figures, b"": codec.u64(size)})
        self._check_hashed(state)
        return True

    def _sum(self, rows: Iterable[tuple[bytes, bytes]]) -> int:
        """A sum that two collections of rows share only when they are the same; about 0.2 µs a row."""
        secret = self._secret
        return sum(hash(secret + key + row) for key, row in rows)

    def _check_meta(self, head: Head) -> None:
        row = self._get(META, HEAD_KEY)
        self._present[META] += row is not None
        if row is None:
            self._findings.add(META, "missing", f"there is no head; block {head.block} belongs there")
        elif row != head.encode():
            try:
                said = Head.decode(row)
                fields = [name for name in Head.__slots__ if getattr(said, name) != getattr(head, name)]
                text = ", ".join(f"{name} {_shown(getattr(said, name))}" for name in fields)
            except StoreDamaged:
                text = f"{len(row)} bytes that are no head"
            self._findings.add(
                META,
                "wrong",
                f"the head has {text}; the entries end with block {head.block}, size {head.size}",
            )
        self._find_extra(META, lambda key, row: key == HEAD_KEY)

    def _check_all(self, family: str, wanted: Mapping[bytes, bytes]) -> None:
        """Compare a whole family with a mapping, both ways."""
        seen = 0
        for key, row in self._rows(family):
            want = wanted.get(key)
            seen += want is not None
            if want is None:
                self._findings.add(family, "extra", f"row {_shown(key)} belongs to nothing")
            elif row != want:
                self._findings.add(
                    family, "wrong", f"row {_shown(key)} is {_shown(row)}, {_shown(want)} belongs there"
                )
        if seen < len(wanted):
            first = next(key for key in wanted if self._get(family, key) is None)
            text = f"row {_shown(first)} is missing, {_shown(wanted[first])} belongs there"
            self._findings.add(family, "missing", text, count=len(wanted) - seen)

    def _check_hashed(self, state: State) -> None:
        """Objects and lists under their hashes, and the two families that say when some may go."""
        fresh_ms = self._final_ms - KEEP_SUPERSEDED_MS
        used_objects, used_lists = used_by(state)
        needed = {digest for digest, time_ms in self._old_objects.items() if time_ms > fresh_ms}
        self._check_digests(OBJECTS, self._records | used_objects | needed, self._old_objects, leaf_hash)
        needed = {digest for digest, time_ms in self._old_lists.items() if time_ms > fresh_ms}
        self._check_digests(LISTS, used_lists | needed, self._old_lists, _list_root)
        old = {**self._old_objects, **self._old_lists}
        times = {digest: codec.u64(time_ms) for digest, time_ms in old.items()}
        self._check_times(SUPERSEDED, times, _row_time)
        self._check_times(EXPIRIES, {codec.superseded_key(*one): b"" for one in self._expiries}, _key_time)

    def _check_digests(
        self,
        family: str,
        needed: set[bytes],
        old: Mapping[bytes, int],
        hash_of: Callable[[bytes], bytes | None],
    ) -> None:
        seen: set[bytes] = set()
        for key, row in self._rows(family):
            if hash_of(row) != key:
                self._findings.add(family, "wrong", f"what is stored under {_shown(key)} has another hash")
            if key in needed:
                seen.add(key)
            # The empty chunk is stored by chance, and the list of it alone has the same hash.
            elif key not in old and key != EMPTY_CHUNK_HASH and not self._waits(key):
                self._findings.add(family, "extra", f"{_shown(key)} belongs to nothing")
        missing = needed - seen
        if missing:
            text = f"nothing is stored under {_shown(min(missing))}"
            self._findings.add(family, "missing", text, count=len(missing))

    def _waits(self, digest: bytes) -> bool:
        """Whether it was superseded so long ago that the replay has forgotten, and waits to be deleted."""
        row = self._get(SUPERSEDED, digest)
        return row is not None and len(row) == 8 and codec.read_u64(row) < self._final_ms - _FORGET_MS

    def _check_times(
        self, family: str, wanted: Mapping[bytes, bytes], time_of: Callable[[bytes, bytes], int]
    ) -> None:
        seen: set[bytes] = set()
        for key, row in self._rows(family):
            want = wanted.get(key)
            if want is not None:
                seen.add(key)
            if want is None and time_of(key, row) >= self._final_ms - _FORGET_MS:
                self._findings.add(family, "extra", f"row {_shown(key)} belongs to nothing")
            elif want is not None and row != want:
                text = f"row {_shown(key)} is {_shown(row)}, {_shown(want)} belongs there"
                self._findings.add(family, "wrong", text)
        fresh_ms = self._final_ms - KEEP_SUPERSEDED_MS
        missing = [key for key, row in wanted.items() if time_of(key, row) > fresh_ms and key not in seen]
        if missing:
            text = f"row {_shown(min(missing))} is missing"
            self._findings.add(family, "missing", text, count=len(missing))

    def _find_extra(self, family: str, belongs: Callable[[bytes, bytes], bool]) -> None:
        extra = sum(1 for _ in self._rows(family)) - self._present[family]
        if extra <= 0:
            return
        for key, row in self._rows(family):
            if not belongs(key, row):
                text = f"row {_shown(key)}, which is {_shown(row)}, belongs to nothing"
                self._findings.add(family, "extra", text, count=extra)
                return
        self._findings.add(family, "extra", "there are more rows than the log gives", count=extra)

    def _is_seal(self, index: int) -> bool:
        return 0 <= index < self._size and self.leaf(index)[1] == LeafType.SEAL

    def _is_attest(self, subject: int, index: int) -> bool:
        leaf = self.leaf(index) if index < self._size else b"  "
        return leaf[1] == LeafType.ATTEST and Attest.decode(leaf).subject == subject

    def _is_send(self, recipient: int, index: int) -> bool:
        leaf = self.leaf(index) if index < self._size else b"  "
        return leaf[1] == LeafType.SEND and Send.decode(leaf).recipient == recipient

    # --- rows ---

    def _compare(self, family: str, key: bytes, want: bytes, name: str) -> None:
        self._judge(family, self._get(family, key), want, name)

    def _judge(self, family: str, row: bytes | None, want: bytes, name: str) -> None:
        self._present[family] += row is not None
        if row is None:
            self._findings.add(family, "missing", f"the row of {name} is missing")
        elif row != want:
            self._findings.add(
                family, "wrong", f"the row of {name} is {_shown(row)}, {_shown(want)} belongs there"
            )

    def _get(self, family: str, key: bytes) -> bytes | None:
        try:
            return self._db.get(family, key)
        except StoreDamaged as error:
            self._unreadable(error)
            return None

    def _rows(self, family: str, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        try:
            yield from self._db.rows(family, start)
        except StoreDamaged as error:
            self._unreadable(error)

    def _unreadable(self, error: StoreDamaged) -> None:
        self._findings.add(error.where, "unreadable", error.what)


def used_by(state: State) -> tuple[set[bytes], set[bytes]]:
    """The objects (status chunks) and the lists that a state's seal leads to."""
    lists = {state.registry.root, state.status.root}
    lists.update(agency.record.keys_root for agency in state.registry.agencies.values())
    return set(state.status.hashes) - {EMPTY_CHUNK_HASH}, lists - {EMPTY_ROOT}


def _is_issue(leaf: bytes, key: bytes) -> bool:
    if leaf[1] != LeafType.ISSUE:
        return False
    issue = Issue.decode(leaf)
    return issue.commitment + issue.agency.to_bytes(4, "big") == key


def _is_tile(key: bytes, size: int) -> bool:
    level, index = key[:1], int.from_bytes(key[1:], "big")
    return len(key) == 9 and tile_width(level[0], index, size) > 0


def _list_root(row: bytes) -> bytes | None:
    try:
        return MerkleList.of(codec.split_hashes(row)).root
    except StoreDamaged:
        return None


def _row_time(key: bytes, row: bytes) -> int:
    return int.from_bytes(row[:8], "big")


def _key_time(key: bytes, row: bytes) -> int:
    return int.from_bytes(key[:8], "big")


def _shown(value: object) -> str:
    if not isinstance(value, bytes):
        return str(value)
    if len(value) <= _SHOWN:
        return value.hex() or "empty"
    return f"{value[:_SHOWN].hex()}… ({len(value)} bytes)"
