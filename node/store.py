"""The store: everything that the ledger remembers, in one RocksDB directory.

Written by one thread, one batch a block; read by any. All reads are as of the newest *committed*
block; what is served to others must stay below the released size (node/publish.py).

Families (node/codec.py has their keys)

    default      "head" -> the newest head
    entries      bundle number -> up to 256 packed leaves, the newest partial
    tiles        level, index -> hashes, and behind a full tile's the 16 nodes at height 4
    issues       commitment ‖ agency -> index
    submissions  claimed ms, id -> index; only those that the rules still let in
    blocks       number -> first index, size, time, root, digest
    seals        seal index -> block number
    checkpoints  size -> note, signed by the log
    cosignatures size -> the lines that witnesses add to that note
    objects      leaf hash -> registry record, key record or status chunk
    lists        root -> leaf hashes of a small tree: registry, keys of an agency, status list
    superseded   hash of a list or chunk -> when something newer took its place (ms)
    expiries     ms ‖ hash -> nothing: the order in which those go
    daily        agency, day, kind -> count
    statuses     subject -> index of its latest STATUS leaf, and of the latest before that block
    attests      leaf hash of an ATTEST -> its index, the latest where there are several
    exchanges    index of a SEND -> what has become of it
    attested     subject, index of an ATTEST on it -> nothing
    sends        recipient, index -> nothing: who was sent what
    figures      agency, metric, period, a, b -> count; an empty key -> the size that they are as of
    prepared     block number, digest -> head, packed leaves; of blocks that may yet be decided
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import merge
from pathlib import Path
from typing import Final

from ledger.changes import Subject
from ledger.checkpoints import parse_checkpoint
from ledger.errors import SudurError
from ledger.exchanges import Exchange
from ledger.figures import FigureKey
from ledger.hashing import EMPTY_ROOT, HASH_SIZE, leaf_hash
from ledger.leaves import LeafType
from ledger.merkle_list import MerkleList
from ledger.notes import parse_note
from ledger.records import StatusChange
from ledger.registry import Registry
from ledger.registry_records import Agency, AgencyRecord, KeyRecord, LedgerRecord, TypeRecord
from ledger.resources import ATTESTS_LISTED
from ledger.rules_v1 import CLAIMED_PAST_MS
from ledger.seals import Seal
from ledger.signing_policy import RecordKind
from ledger.state import State, Transition
from ledger.status import CHUNK_SIZE, EMPTY_CHUNK, EMPTY_CHUNK_HASH
from ledger.submissions import unpack
from ledger.tiles import FULL_TILE_BYTES, MIDS_BYTES, TILE_WIDTH, TileId
from ledger.tree import Tree
from node import codec
from node.codec import BlockInfo
from node.cosigning.lines import join_lines, split_note
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
    PREPARED,
    SEALS,
    SENDS,
    STATUSES,
    SUBMISSIONS,
    SUPERSEDED,
    TILES,
    Batch,
    Database,
)
from node.disk import sync_directory
from node.errors import Conflict, NotFound, StoreDamaged
from node.head import HEAD_SIZE, Head
from node.journal import CandidateBlock

KEEP_SUPERSEDED_MS: Final = 3_600_000
"""How long a status chunk or a list stays after a newer one replaced it."""

_HEAD_KEY: Final = b"head"
_PRUNE_STEP_MS: Final = 3_600_000
_PRUNE_AT_ONCE: Final = 256
_LOOK_AGAIN_MS: Final = 60_000
"""How soon it is looked whether what an old published size needed may go."""
_FIX: Final = "run `sudur node fsck`; restore the data directory from a replica"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The committed ledger as it was loaded and checked."""

    head: Head
    state: State
    tree: Tree


class Store:
    """An open store; implements :class:`ledger.state.Reader` and :class:`ledger.tiles.TileReader`.

    :meth:`apply`, :meth:`keep_checkpoint` and :meth:`reopen` are the writer thread's; all else may
    be called from any thread, :meth:`keep_cosignatures` by one at a time. Whatever reads may raise
    StoreDamaged, and ReadOnly while the database is being reopened.
    """

    def __init__(self, path: Path, *, database: Callable[[Path], Database] = Database) -> None:
        """Open the RocksDB directory ``path``, made if missing. Raises DataInUse, StoreDamaged."""
        self.path = path
        self._factory = database
        self.published_size = 0
        """Where verifiers begin, maybe far behind: the lists and chunks of that size stay. 0: nowhere."""
        self._kept_for: tuple[int, frozenset[bytes]] = (0, frozenset())
        self._db = database(path)
        try:
            self._start()
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        """Sync and close."""
        self._db.close()

    def reopen(self) -> None:
        """Close the database and open it again: the only way on after a write that failed.

        The block that failed may then be there, or not. Raises as opening does; the store is closed
        in that case, and this can be called again.
        """
        self._db.close()
        self._db = self._factory(self.path)
        self._start()

    def begin_anew(self) -> Path:
        """Put all that is here aside and go on empty; returns where it is kept.

        A crash in between: the next opening finds no database, and makes an empty one.
        """
        self._db.close()
        kept = next(
            place
            for number in range(1, 1_000)
            if not (place := self.path.with_name(f"{self.path.name}.parted-{number}")).exists()
        )
        os.rename(self.path, kept)
        sync_directory(self.path.parent)
        self._db = self._factory(self.path)
        self._start()
        return kept

    def check_place(self) -> None:
        """That the database's files are still those that were opened. Raises StoreDamaged."""
        self._db.check_place()

    def _start(self) -> None:
        row = self._db.get(META, _HEAD_KEY)
        self._head = None if row is None else Head.decode(row)
        self._tail = b""
        if self._head is not None and self._head.size % TILE_WIDTH:
            self._tail = self.bundle(self._head.size // TILE_WIDTH, self._head.size % TILE_WIDTH)
        self._state: State | None = None
        self._prepared = {key for key, _ in self._db.rows(PREPARED)}
        self._pruned_ms = 0
        self._next_expiry_ms = self._first_expiry()

    # --- what is committed ---

    def head(self) -> Head | None:
        """The newest committed head; None for a new store."""
        return self._head

    def load(self, block: int | None = None) -> Snapshot:
        """The committed ledger, put together from the newest SEAL, its lists and the tree's edge; or what
        it was at an earlier block, as long as the lists of that one are still there.

        No scan: a few hundred reads, however long the log. The root recomputed from the edge tiles
        must be that of the head and of the newest block's row, the seal must be in the tree, and the
        registry and the status list must have the roots that it names. Raises StoreDamaged, NotFound
        for a new store.
        """
        newest = self._head
        if newest is None:
            raise NotFound("the store holds no ledger yet", where=str(self.path))
        head = newest if block is None else self._head_of(newest, block)
        try:
            tree = self.tree_at(head.size)
            _same(tree.root(), head.root, "the root of the stored tiles", "the head's")
            info = self.block(head.block)
            _same(
                (info.size, info.root, info.digest),
                (head.size, head.root, head.digest),
                "the row of the newest block",
                "the head",
            )
            leaf = self.leaf(head.size - 1)
            _same(leaf_hash(leaf), self._newest_leaf_hash(head.size), "the newest leaf", "its hash")
            seal = Seal.decode(leaf)
            _same((seal.block, seal.time_ms), (head.block, info.time_ms), "the newest seal", "its block")
            status = MerkleList.of(self.tree_hashes(seal.status_root))
            _same(status.root, seal.status_root, "the status list", "its root in the seal")
            registry = self._registry(head.ledger, seal.registry_root)
            _same(registry.root, seal.registry_root, "the registry", "its root in the seal")
            for digest in status.hashes:
                if digest != EMPTY_CHUNK_HASH:
                    self.object(digest)
        except StoreDamaged:
            raise
        except SudurError as error:
            raise StoreDamaged(str(error), where=str(self.path), fix=_FIX) from error
        state = State(
            registry=registry,
            block=seal.block,
            seal_index=head.size - 1,
            time_ms=seal.time_ms,
            documents=seal.documents,
            status=status,
        )
        if head is newest:
            self._state = state
        return Snapshot(head, state, tree)

    def _head_of(self, newest: Head, number: int) -> Head:
        """The head as it was after an earlier block."""
        info = self.block(number)
        return replace(newest, block=number, size=info.size, root=info.root, digest=info.digest)

    def tree_at(self, size: int) -> Tree:
        """The tree of the first ``size`` leaves, from at most 8 tiles; its root proves nothing yet."""
        return Tree.from_edge(size, lambda tile: self.tile(tile.level, tile.index, tile.width))

    def _newest_leaf_hash(self, size: int) -> bytes:
        index, width = divmod(size - 1, TILE_WIDTH)
        return self.tile(0, index, width + 1)[-HASH_SIZE:]

    def _registry(self, genesis: bytes, root: bytes) -> Registry:
        """The registry from its records, each checked by its hash, and each key list by its root."""
        hashes = self.tree_hashes(root)
        if not hashes:
            raise StoreDamaged("the registry has no records", where="lists", fix=_FIX)
        ledger = LedgerRecord.decode(self.object(hashes[0]))
        _same(len(hashes), 1 + ledger.agencies + ledger.types, "the number of registry records", "its counts")
        agencies = [self._agency(self.object(one)) for one in hashes[1 : 1 + ledger.agencies]]
        types = [TypeRecord.decode(self.object(one)) for one in hashes[1 + ledger.agencies :]]
        return Registry.of(genesis, ledger, agencies, types)

    def _agency(self, record_bytes: bytes) -> Agency:
        record = AgencyRecord.decode(record_bytes)
        hashes = self.tree_hashes(record.keys_root)
        tree = MerkleList.of(hashes)
        _same(tree.root, record.keys_root, f"the key list of agency {record.number}", "its root")
        return Agency(record, tuple(KeyRecord.decode(self.object(one)) for one in hashes), tree)

    # --- leaves, tiles, blocks ---

    def leaf(self, index: int) -> bytes:
        """One leaf, by walking its bundle: 10 to 40 µs. Raises NotFound beyond the committed size."""
        number, position = divmod(index, TILE_WIDTH)
        self._require_leaf(index)
        data = self._bundle(number)
        at = 0
        for _ in range(position):
            at += 2 + (data[at] << 8 | data[at + 1])
        leaf = data[at + 2 : at + 2 + (data[at] << 8 | data[at + 1])] if at + 1 < len(data) else b""
        if len(leaf) < 2:
            raise StoreDamaged("its bundle is too short", where=f"leaf {index}", fix=_FIX)
        return leaf

    def leaves(self, start: int, end: int) -> list[bytes]:
        """The leaves from ``start`` up to, without, ``end``. Raises NotFound beyond the committed size."""
        if start >= end:
            return []
        self._require_leaf(start)
        self._require_leaf(end - 1)
        first, last = start // TILE_WIDTH, (end - 1) // TILE_WIDTH
        found: list[bytes] = []
        for number in range(first, last + 1):
            found += _unpacked(self._bundle(number), number)
        leaves = found[start - first * TILE_WIDTH :][: end - start]
        if len(leaves) != end - start:
            raise StoreDamaged("a bundle is too short", where=f"leaves {start} to {end}", fix=_FIX)
        return leaves

    def bundle(self, number: int, width: int = TILE_WIDTH) -> bytes:
        """The first ``width`` packed leaves of a bundle: what C2SP serves. Raises NotFound."""
        size = self._head.size if self._head is not None else 0
        data = self._bundle(number)
        if width == TILE_WIDTH and (number + 1) * TILE_WIDTH <= size:
            return data
        # It may have grown since the size was read, so only a full one can go out unmeasured.
        at = 0
        for _ in range(width):
            if at + 2 > len(data):
                raise NotFound(f"the bundle has no {width} leaves yet", where=f"bundle {number}")
            at += 2 + (data[at] << 8 | data[at + 1])
        return data[:at]

    def _bundle(self, number: int) -> bytes:
        data = self._db.get(ENTRIES, codec.u64(number))
        if data is None:
            raise NotFound("no such entry bundle", where=f"bundle {number}")
        return data

    def _require_leaf(self, index: int) -> None:
        size = self._head.size if self._head is not None else 0
        if not 0 <= index < size:
            raise NotFound(f"the ledger has {size} leaves", where=f"leaf {index}")

    def tile(self, level: int, index: int, width: int = TILE_WIDTH) -> bytes:
        """The first ``width`` hashes of a tile: partial tiles never go. Raises NotFound."""
        return self.tile_with_mids(level, index, width)[0]

    def tile_with_mids(self, level: int, index: int, width: int = TILE_WIDTH) -> tuple[bytes, bytes]:
        """A tile, and the 512 bytes of its mids when it is asked for at full width."""
        row = self._db.get(TILES, codec.tile_key(level, index))
        if row is None or len(row) < width * HASH_SIZE:
            raise NotFound(
                f"no such tile at width {width}", where=f"tile {TileId(level, index, width).path()}"
            )
        mids = row[FULL_TILE_BYTES : FULL_TILE_BYTES + MIDS_BYTES] if width == TILE_WIDTH else b""
        return row[: width * HASH_SIZE], mids

    def block(self, number: int) -> BlockInfo:
        """A block by its number. Raises NotFound."""
        row = self._db.get(BLOCKS, codec.u64(number)) if number >= 0 else None
        if row is None:
            raise NotFound("no such block", where=f"block {number}")
        return BlockInfo.decode(number, row)

    def block_of(self, index: int) -> BlockInfo:
        """The block that holds a leaf. Raises NotFound beyond the committed size."""
        self._require_leaf(index)
        found = self._db.first_from(SEALS, codec.u64(index))
        if found is None:
            raise StoreDamaged("no seal stands at or after it", where=f"leaf {index}", fix=_FIX)
        return self.block(codec.read_u64(found[1]))

    def checkpoint(self, size: int) -> bytes:
        """The signed checkpoint of exactly that size, with the cosignatures that came for it.

        Raises NotFound: only block ends have one.
        """
        return self.signed_checkpoint(size) + self.cosignatures(size)

    def signed_checkpoint(self, size: int) -> bytes:
        """The same as the log signed it. Raises NotFound."""
        row = self._db.get(CHECKPOINTS, codec.u64(size)) if 0 <= size < 1 << 64 else None
        if row is None:
            raise NotFound("no checkpoint of that size was signed", where=f"size {size}")
        return row

    def cosignatures(self, size: int) -> bytes:
        """The lines of witnesses that stand under the checkpoint of a size; empty when there are none."""
        return self._db.get(COSIGNATURES, codec.u64(size)) or b""

    def cosigned(self) -> Iterator[tuple[int, bytes]]:
        """(size, lines) of all checkpoints that have cosignatures, from the largest down."""
        for key, row in self._db.rows_down(COSIGNATURES):
            yield codec.read_u64(key), row

    # --- ledger.state.Reader ---

    def find_issues(self, keys: Sequence[bytes]) -> list[int | None]:
        """See :class:`ledger.state.Reader`. Under 1 µs a key that is absent."""
        rows = self._db.get_many(ISSUES, keys)
        if not any(rows):
            return [None] * len(keys)
        return [None if row is None else codec.read_u64(row) for row in rows]

    def find_submission(self, claimed_ms: int, identity: bytes) -> int | None:
        """See :class:`ledger.state.Reader`."""
        row = self._db.get(SUBMISSIONS, codec.submission_key(claimed_ms, identity))
        return None if row is None else codec.read_u64(row)

    def daily_count(self, agency: int, kind: RecordKind, day: int) -> int:
        """See :class:`ledger.state.Reader`."""
        row = self._db.get(DAILY, codec.daily_key(agency, kind, day))
        return 0 if row is None else int.from_bytes(row, "big")

    def latest_status(self, subject: int) -> int | None:
        """See :class:`ledger.state.Reader`."""
        row = self._db.get(STATUSES, codec.u64(subject))
        return None if row is None else codec.read_status_row(row)[0]

    def status_before(self, subject: int, size: int) -> int | None:
        """The index of the latest STATUS on a subject among the first ``size`` leaves.

        No look at a leaf while ``size`` is where the newest block begins, or beyond.
        """
        row = self._db.get(STATUSES, codec.u64(subject))
        return None if row is None else self._status_before(subject, row, size)

    def _status_before(self, subject: int, row: bytes, size: int) -> int | None:
        # A leaf of the newest block cannot be read yet while the block is being applied.
        latest, before = codec.read_status_row(row)
        at = latest if latest < size else before
        while at is not None and at >= size:
            at = _previous(self.leaf(at), subject)
        return at

    def find_attest(self, leaf_hash: bytes) -> int | None:
        """See :class:`ledger.state.Reader`."""
        row = self._db.get(ATTESTS, leaf_hash)
        return None if row is None else codec.read_u64(row)

    def exchange(self, send: int) -> Exchange:
        """See :class:`ledger.state.Reader`. Raises NotFound for an index that is no SEND's."""
        row = self._db.get(EXCHANGES, codec.u64(send))
        if row is None:
            raise NotFound("no SEND stands there", where=f"leaf {send}")
        return codec.read_exchange(row)

    def status_chunk(self, number: int) -> bytes:
        """See :class:`ledger.state.Reader`: the chunk of the newest committed block. Raises NotFound."""
        hashes = () if self._state is None else self._state.status.hashes
        if not 0 <= number < len(hashes):
            raise NotFound("no such status chunk", where=f"chunk {number}")
        return self.object(hashes[number])

    # --- by hash ---

    def object(self, digest: bytes) -> bytes:
        """A registry record, a key record or a status chunk (raw), whose leaf hash is ``digest``.

        Registry and key records stay for good; a superseded chunk, for an hour. Raises NotFound, and
        StoreDamaged when the bytes do not have that hash.
        """
        if digest == EMPTY_CHUNK_HASH:
            return EMPTY_CHUNK
        row = self._db.get(OBJECTS, digest)
        if row is None:
            raise NotFound("nothing is stored under this hash", where=digest.hex())
        if leaf_hash(row) != digest:
            raise StoreDamaged("what is stored here has another hash", where=digest.hex(), fix=_FIX)
        return row

    def tree_hashes(self, root: bytes) -> tuple[bytes, ...]:
        """The leaf hashes of a small tree by its root: the registry, an agency's keys, the status list.

        That of the newest block, and of any block sealed in the last hour. Raises NotFound.
        """
        if root == EMPTY_ROOT:
            return ()
        row = self._db.get(LISTS, root)
        if row is None:
            raise NotFound("no list is stored under this root", where=root.hex())
        return codec.split_hashes(row)

    # --- by agency, by subject ---

    def events(self, start: int, end: int, size: int) -> Iterator[tuple[int, int, LeafType]]:
        """(subject, index, type): what happened to the subjects from ``start`` to, without, ``end``.

        Among the first ``size`` leaves: of each subject its latest STATUS and the first 64 ATTESTs, since
        anybody with the role to attest can put any number on one. Ascending by subject, then by index;
        about 2 µs each, however often a status changed.
        """
        return merge(self._changed(start, end, size), self._attested(start, end, size))

    def _changed(self, start: int, end: int, size: int) -> Iterator[tuple[int, int, LeafType]]:
        for key, row in self._db.rows(STATUSES, codec.u64(start)):
            subject = codec.read_u64(key)
            if subject >= end:
                return
            index = self._status_before(subject, row, size)
            if index is not None:
                yield subject, index, LeafType.STATUS

    def _attested(self, start: int, end: int, size: int) -> Iterator[tuple[int, int, LeafType]]:
        while start < end:
            subject, taken = start, 0
            for key, _ in self._db.rows(ATTESTED, codec.u64(start)):
                found, index = codec.split_attested(key)
                if found >= end:
                    return
                if found != subject:
                    subject, taken = found, 0
                if taken == ATTESTS_LISTED:
                    break
                taken += 1
                if index < size:
                    yield subject, index, LeafType.ATTEST
            else:
                return
            start = subject + 1

    def sends_to(self, recipient: int, start: int) -> Iterator[int]:
        """The indexes of the SENDs to an agency, from ``start`` on, ascending."""
        for key, _ in self._db.rows(SENDS, codec.send_key(recipient, start)):
            found, index = codec.split_send(key)
            if found != recipient:
                return
            yield index

    def figures(self, agency: int) -> tuple[Mapping[FigureKey, int], int]:
        """All counters of an agency (0: of the whole ledger), and the size that they are as of.

        Under 2 µs a counter, however many blocks come in meanwhile.
        """
        keys, rows, size = self._db.prefixed(FIGURES, codec.u32(agency), b"")
        return codec.read_figures(keys, rows), 0 if size is None else codec.read_u64(size)

    # --- writing ---

    def sync(self) -> None:
        """Make durable what was applied without being so. One fsync."""
        self._db.sync()

    def apply(self, block: CandidateBlock, note: bytes | None = None, *, durable: bool = True) -> None:
        """Write a block and all that follows from it, durably: one batch, one fsync.

        Not ``durable``: a crash before the next :meth:`sync` may lose it, and all blocks behind it.
        ``note`` is its signed checkpoint, for whoever has that from others. Applying the block that is
        the head already does nothing. Raises Conflict for a block that does not extend the store; any
        other error leaves the outcome unknown until :meth:`reopen`.
        """
        size = 0 if self._head is None else self._head.size
        if self._head == block.head:
            return
        if block.transition.first_index != size:
            raise Conflict(
                f"a block from leaf {block.transition.first_index} on cannot follow {size} leaves",
                where="store",
            )
        batch = self._db.batch()
        tail = self._put_entries(batch, block, size)
        self._put_indexes(batch, block)
        self._put_records(batch, block.transition)
        self._prune(batch, block.transition)
        self._put_registry(batch, block.transition)
        batch.put(META, _HEAD_KEY, block.head.encode())
        settled = {key for key in self._prepared if codec.read_u64(key[:8]) <= block.head.block}
        for key in settled:
            batch.delete(PREPARED, key)
        if note is not None:
            self._put_note(batch, block.head.size, note, block.transition.state)
        self._db.write(batch)
        if durable:
            self._db.sync()
        self._head, self._state, self._tail = block.head, block.transition.state, tail
        self._prepared -= settled

    def prepare(self, head: Head, packed: bytes) -> None:
        """Hold a block that may be decided, durably; rivals of one number stand beside each other.

        All of a number go when a block of that number is applied.
        """
        key = codec.prepared_key(head.block, head.digest)
        batch = self._db.batch()
        batch.put(PREPARED, key, head.encode() + packed)
        self._db.write(batch)
        self._db.sync()
        self._prepared.add(key)

    def prepared(self, number: int, digest: bytes) -> bytes | None:
        """The packed leaves of a block that was prepared here and is not applied yet."""
        row = self._db.get(PREPARED, codec.prepared_key(number, digest))
        return None if row is None else row[HEAD_SIZE:]

    def adopt(self, head: Head) -> None:
        """Bear the epoch of ``head``, which ends the chain that is here; durable. Raises Conflict."""
        if self._head is None or not self._head.same_tree(head):
            raise Conflict(f"block {head.block} of epoch {head.epoch} is not what is here", where="store")
        batch = self._db.batch()
        batch.put(META, _HEAD_KEY, head.encode())
        self._db.write(batch)
        self._db.sync()
        self._head = head

    def keep_checkpoint(self, size: int, note: bytes) -> None:
        """Store a signed checkpoint. Synced with the next block; a lost one is signed again.

        Cosignatures that are here already stay; those in ``note`` join them, if they are any by the policy.
        """
        batch = self._db.batch()
        self._put_note(batch, size, note, self._state)
        self._db.write(batch)

    def keep_cosignatures(self, size: int, lines: bytes) -> None:
        """Store the lines of witnesses under the checkpoint of a size, in place of those before; durable.

        Beside the writer, so an error says nothing of the store's other rows: try again later.
        """
        batch = self._db.batch()
        batch.put(COSIGNATURES, codec.u64(size), lines)
        self._db.write(batch)
        self._db.sync()

    def _put_note(self, batch: Batch, size: int, note: bytes, state: State | None) -> None:
        signed, others = split_note(note)
        batch.put(CHECKPOINTS, codec.u64(size), signed)
        if others and state is not None:
            lines = sound_lines(state.registry.ledger, parse_checkpoint(parse_note(note).text), others)
            if lines:
                batch.put(COSIGNATURES, codec.u64(size), join_lines(self.cosignatures(size), lines))

    def _put_entries(self, batch: Batch, block: CandidateBlock, size: int) -> bytes:
        """Bundles and tiles; returns the packed leaves of the bundle that is still partial."""
        leaves = block.transition.leaves
        data = self._tail + block.packed
        number, held = divmod(size, TILE_WIDTH)
        at, start, end = 0, 0, TILE_WIDTH - held
        width = len(self._tail)
        while end <= len(leaves):
            width += sum(map(len, leaves[start:end])) + 2 * (end - start)
            batch.put(ENTRIES, codec.u64(number), data[at : at + width])
            at, start, end = at + width, end, end + TILE_WIDTH
            number, width = number + 1, 0
        tail = data[at:]
        if tail:
            batch.put(ENTRIES, codec.u64(number), tail)
        for tile in block.tiles:
            batch.put(TILES, codec.tile_key(tile.id.level, tile.id.index), tile.data + tile.mids)
        return tail

    def _put_indexes(self, batch: Batch, block: CandidateBlock) -> None:
        transition, head = block.transition, block.head
        # In order of the keys: RocksDB then inserts them twice as fast.
        keys = sorted(transition.issues)
        batch.put_all(ISSUES, keys, codec.u64s(list(map(transition.issues.__getitem__, keys))))
        for (claimed_ms, identity), index in transition.submissions.items():
            batch.put(SUBMISSIONS, codec.submission_key(claimed_ms, identity), codec.u64(index))
        for (agency, kind, day), count in transition.daily.items():
            batch.put(DAILY, codec.daily_key(agency, kind, day), codec.u32(count))
        first, leaves = transition.first_index, transition.leaves
        for subject, index in transition.statuses.items():
            before: int | None = index
            while before is not None and before >= first:
                before = _previous(leaves[before - first], subject)
            batch.put(STATUSES, codec.u64(subject), codec.status_row(index, before))
        info = BlockInfo(
            head.block, transition.first_index, head.size, transition.state.time_ms, head.root, head.digest
        )
        batch.put(BLOCKS, codec.u64(head.block), info.encode())
        batch.put(SEALS, codec.u64(info.seal_index), codec.u64(head.block))

    def _put_records(self, batch: Batch, transition: Transition) -> None:
        """What follows from the records other than ISSUE, and the figures of all."""
        for digest, index in transition.attests.items():
            batch.put(ATTESTS, digest, codec.u64(index))
        for index, exchange in transition.exchanges.items():
            batch.put(EXCHANGES, codec.u64(index), codec.exchange_row(exchange))
        for subject, index in transition.attested:
            batch.put(ATTESTED, codec.attested_key(subject, index), b"")
        for recipient, index in transition.sends:
            batch.put(SENDS, codec.send_key(recipient, index), b"")
        for key, more in transition.figures.items():
            name = codec.figure_key(key)
            row = self._db.get(FIGURES, name)
            count = more + (0 if row is None else codec.read_u64(row))
            if count:
                batch.put(FIGURES, name, codec.u64(count))
            else:
                batch.delete(FIGURES, name)
        batch.put(FIGURES, b"", codec.u64(transition.state.size))

    def _put_registry(self, batch: Batch, transition: Transition) -> None:
        """New records, chunks and lists, and a note of when the old lists and chunks may go."""
        before, state = transition.before, transition.state
        old: set[bytes] = set()
        for number, chunk in transition.status_chunks.items():
            batch.put(OBJECTS, state.status.hashes[number], chunk)
            if before is not None and number < len(before.status):
                old.add(before.status.hashes[number])
        if before is None or before.status.root != state.status.root:
            batch.put(LISTS, state.status.root, b"".join(state.status.hashes))
            old |= set() if before is None else {before.status.root}
        for subject in transition.subjects:
            old |= self._put_record(batch, None if before is None else before.registry, state, subject)
        if before is None or before.registry.root != state.registry.root:
            batch.put(LISTS, state.registry.root, b"".join(state.registry.tree.hashes))
            old |= set() if before is None else {before.registry.root}
        if not old:
            return
        for digest in old - _in_use(state) - {EMPTY_CHUNK_HASH, EMPTY_ROOT}:
            batch.put(SUPERSEDED, digest, codec.u64(state.time_ms))
            batch.put(EXPIRIES, codec.superseded_key(state.time_ms, digest), b"")
            if self._next_expiry_ms is None:
                self._next_expiry_ms = state.time_ms + KEEP_SUPERSEDED_MS

    def _put_record(
        self, batch: Batch, before: Registry | None, state: State, subject: Subject
    ) -> set[bytes]:
        """One subject's record, an agency with its new keys; returns the key list that it replaces."""
        record = state.registry.record(subject)
        batch.put(OBJECTS, leaf_hash(record), record)
        if subject.kind != "agency":
            return set()
        agency = state.registry.agency(subject.number)
        earlier = None if before is None else before.agencies.get(subject.number)
        known = set() if earlier is None else set(earlier.key_tree.hashes)
        for key, digest in zip(agency.keys, agency.key_tree.hashes, strict=True):
            if digest not in known:
                batch.put(OBJECTS, digest, key.encode())
        if agency.key_tree.hashes:
            batch.put(LISTS, agency.record.keys_root, b"".join(agency.key_tree.hashes))
        return set() if earlier is None else {earlier.record.keys_root}

    # --- what may go ---

    def _prune(self, batch: Batch, transition: Transition) -> None:
        now = transition.state.time_ms
        # A submission this old is refused for its time, before anybody looks for it here.
        oldest = now - CLAIMED_PAST_MS
        if oldest - self._pruned_ms >= _PRUNE_STEP_MS:
            batch.delete_range(SUBMISSIONS, codec.u64(0), codec.u64(oldest))
            self._pruned_ms = oldest
        if self._next_expiry_ms is None or now < self._next_expiry_ms:
            return
        # What this very block supersedes counts as used: its hour begins now.
        used = _in_use(transition.state)
        if transition.before is not None:
            used |= _in_use(transition.before)
        published = self._published_uses(now)
        done, kept = 0, False
        for key, _ in self._db.rows(EXPIRIES):
            time_ms, digest = codec.split_superseded(key)
            if time_ms + KEEP_SUPERSEDED_MS > now or done == _PRUNE_AT_ONCE:
                due_ms = max(now, time_ms + KEEP_SUPERSEDED_MS)
                self._next_expiry_ms = min(due_ms, now + _LOOK_AGAIN_MS) if kept else due_ms
                return
            if digest in published and digest not in used:
                kept = True
                continue
            batch.delete(EXPIRIES, key)
            done += 1
            # It may have come back into use since, or been superseded once more, later.
            latest = self._db.get(SUPERSEDED, digest)
            if latest is None or codec.read_u64(latest) != time_ms:
                continue
            batch.delete(SUPERSEDED, digest)
            if digest not in used:
                batch.delete(LISTS, digest)
                # The root of a list of one is its item's hash, and that record may be in use.
                row = self._db.get(OBJECTS, digest)
                if row is not None and len(row) == CHUNK_SIZE:
                    batch.delete(OBJECTS, digest)
        self._next_expiry_ms = now + _LOOK_AGAIN_MS if kept else None

    def _published_uses(self, now: int) -> frozenset[bytes]:
        """What the published size needs, once it is so old that an hour would not keep it by itself."""
        size = self.published_size
        if size == 0 or self.block_of(size - 1).time_ms + KEEP_SUPERSEDED_MS >= now:
            return frozenset()
        if self._kept_for[0] != size:
            try:
                state = self.load(self.block_of(size - 1).number).state
            except StoreDamaged:
                # It was long behind when this node began to keep it: some is gone already.
                return frozenset()
            self._kept_for = (size, frozenset(_in_use(state)))
        return self._kept_for[1]

    def _first_expiry(self) -> int | None:
        first = self._db.first_from(EXPIRIES, b"")
        return None if first is None else codec.split_superseded(first[0])[0] + KEEP_SUPERSEDED_MS


def _in_use(state: State) -> set[bytes]:
    """Every list and chunk that the newest seal leads to."""
    used = {state.registry.root, state.status.root, *state.status.hashes}
    used.update(agency.record.keys_root for agency in state.registry.agencies.values())
    return used


def _previous(leaf: bytes, subject: int) -> int | None:
    """The STATUS before a STATUS on ``subject``; None when it was the first."""
    previous = StatusChange.decode(leaf).previous
    return None if previous == subject else previous


def _unpacked(data: bytes, number: int) -> list[bytes]:
    try:
        return unpack(data, most=TILE_WIDTH)
    except SudurError as error:
        raise StoreDamaged(str(error), where=f"bundle {number}", fix=_FIX) from error


def _same(found: object, wanted: object, what: str, other: str) -> None:
    if found != wanted:
        raise StoreDamaged(f"{what} is not the same as {other}", where="store", fix=_FIX)
