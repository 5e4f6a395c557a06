"""What a node tells its readers, whichever way they ask: gRPC and HTTP both call this.

Every answer is given as of the newest signed checkpoint, though the store may already hold more: what a
reader is shown can be proven. What verifiers begin with, "the newest checkpoint" without a size, is the
newest published one: enough witnesses have cosigned it (node/cosigning/witnessed.py), and it may be behind.
All of it takes microseconds; what could take longer (a range of leaves, a block's head) goes in batches,
so that an event loop does other things in between.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from ledger.changes import MAX_AGENCY, MAX_KEY_NUMBER, Subject
from ledger.errors import FormatError, OutOfRange, TooLarge
from ledger.hashing import HASH_SIZE
from ledger.leaves import LeafType
from ledger.state import State
from ledger.tiles import TILE_WIDTH
from node.codec import BlockInfo
from node.config import MAX_PROOFS
from node.copying.block_source import Piece, StoredBlocks
from node.cosigning.witnessed import Witnessed
from node.errors import NotFound, NotPublished
from node.ledger_copy import LedgerCopy
from node.publish import Published

MAX_BATCH_BYTES: Final = 1 << 18
MAX_BATCH_LEAVES: Final = 16 * TILE_WIDTH
"""So many leaves are read at a time, which keeps an event loop waiting for about a millisecond."""
_KEPT_BLOCKS: Final = 1_024
_MAY_GAIN_BLOCKS: Final = 1_024
"""So many blocks back a witness may still be answering for."""
_KEY_SUBJECT: Final = re.compile(r"agency/([1-9][0-9]{0,9})/key/([1-9][0-9]{0,4})", re.ASCII)


@dataclass(frozen=True, slots=True)
class InclusionProof:
    """That the leaf with ``leaf_hash`` is at ``index``; the path goes from the leaf up to the root."""

    index: int
    leaf_hash: bytes
    path: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Inclusions:
    """Proofs in the tree of ``size`` leaves, whose signed checkpoint is beside them."""

    size: int
    checkpoint: bytes
    proofs: Sequence[InclusionProof]


@dataclass(frozen=True, slots=True)
class Consistency:
    """That the tree of ``old`` leaves is the beginning of that of ``new``, which ``checkpoint`` signs."""

    old: int
    new: int
    path: Sequence[bytes]
    checkpoint: bytes


@dataclass(frozen=True, slots=True)
class CurrentRecord:
    """A registry record in a tree of ``size``. ``last_change``: the next change's ``previous``, or NONE."""

    record: bytes
    last_change: int
    size: int


@dataclass(frozen=True, slots=True)
class BlockHead:
    """A block without its leaves. ``kinds``: how many leaves of each type, types ascending."""

    info: BlockInfo
    checkpoint: bytes
    kinds: tuple[tuple[LeafType, int], ...]


class Reads:
    """The reading side of a node. Belongs to one event loop."""

    def __init__(self, copy: LedgerCopy) -> None:
        self._copy = copy
        self._store = copy.store
        self._proofs = copy.proofs
        self._stored = StoredBlocks(copy.store)
        self._blocks: OrderedDict[int, BlockHead] = OrderedDict()

    @property
    def published(self) -> Published:
        """The newest signed checkpoint and the state under it."""
        return self._copy.published

    @property
    def witnessed(self) -> Witnessed | None:
        """The newest published checkpoint; None while the witnesses of a new ledger have cosigned none."""
        return self._copy.witnessed.newest

    @property
    def size(self) -> int:
        """Leaves under the newest signed checkpoint."""
        return self._copy.published.head.size

    @property
    def state(self) -> State:
        """The ledger as of the newest signed checkpoint."""
        return self._copy.published.state

    # --- checkpoints and proofs ---

    def checkpoint(self, size: int) -> bytes:
        """The checkpoint of a size with its cosignatures so far; 0 for the newest published one.

        Raises OutOfRange, NotFound, NotPublished.
        """
        return self._signed(size)[1]

    def signed_checkpoint(self) -> bytes:
        """The newest signed one, with its cosignatures so far."""
        return self._store.checkpoint(self.size)

    def may_gain(self, size: int) -> bool:
        """Whether the checkpoint of a size may get more cosignatures: none is asked for another than the
        newest, but answers to what was asked last may be on their way."""
        if self._copy.witnessed.policy(size) is None:
            return False
        return self._store.block_of(size - 1).number + _MAY_GAIN_BLOCKS > self._copy.published.head.block

    def inclusions(self, indexes: Sequence[int], size: int) -> Inclusions:
        """Proofs of 1 to 1,024 leaves in the tree of ``size``; 0 for the newest published one.

        About 20 µs each when warm. Raises FormatError, TooLarge, OutOfRange, NotFound.
        """
        if not indexes:
            raise FormatError("names no leaf", where="indexes", fix="ask for 1 to 1,024 indexes")
        if len(indexes) > MAX_PROOFS:
            raise TooLarge(f"{len(indexes)} indexes", where="indexes", fix=f"ask for at most {MAX_PROOFS}")
        self._check_size(size, "tree_size")
        size, checkpoint = self._signed(size)
        if max(indexes) >= size:
            raise OutOfRange(
                f"index {max(indexes)} is not below the tree size, {size}",
                where="index",
                fix="ask for an index below the size, or again when the newest size is published",
            )
        paths = self._proofs.inclusions(indexes, size)
        hashes = self._proofs.leaf_hashes(indexes, size)
        proofs = [InclusionProof(*one) for one in zip(indexes, hashes, paths, strict=True)]
        return Inclusions(size, checkpoint, proofs)

    def consistency(self, old: int, new: int) -> Consistency:
        """Proof between two sizes; ``new`` 0 for the newest published one.

        Raises FormatError, OutOfRange, NotFound, NotPublished.
        """
        self._check_size(old, "old_size")
        self._check_size(new, "new_size")
        new, checkpoint = self._signed(new)
        if not 1 <= old <= new:
            raise FormatError(
                f"the old size, {old}, is not from 1 to the new one, {new}",
                where="old_size",
                fix="give the smaller size first",
            )
        return Consistency(old, new, self._proofs.consistency(old, new), checkpoint)

    def _signed(self, size: int) -> tuple[int, bytes]:
        if size == 0:
            public = self.witnessed
            if public is None:
                raise NotPublished(
                    "the witnesses have not cosigned any checkpoint of this ledger yet",
                    where="checkpoint",
                    fix="ask again in a moment; /checkpoint/signed has what is signed",
                )
            return public.size, public.note
        self._check_size(size, "size")
        try:
            return size, self._store.checkpoint(size)
        except NotFound:
            raise NotFound(
                f"no checkpoint was signed at size {size}",
                where="size",
                fix="ask for a size at which a block ended, as WatchBlocks and the seals give them",
            ) from None

    def _check_size(self, size: int, where: str) -> None:
        if size > self.size:
            raise OutOfRange(
                f"{size} is beyond the tree, which has {self.size} leaves",
                where=where,
                fix="ask again when the tree has grown, or at a smaller size",
            )

    # --- leaves and blocks ---

    def leaf(self, index: int) -> bytes:
        """One leaf. Raises OutOfRange."""
        if index >= self.size:
            raise OutOfRange(
                f"index {index} is beyond the tree, which has {self.size} leaves",
                where="index",
                fix="ask for an index below the size",
            )
        return self._store.leaf(index)

    def leaf_range(self, start: int, end: int) -> range:
        """The indexes from ``start`` to ``end`` (0: to the newest). Raises FormatError, OutOfRange."""
        self._check_size(start, "start")
        self._check_size(end, "end")
        end = end or self.size
        if start > end:
            raise FormatError(
                f"start {start} is above end {end}", where="start", fix="give the smaller first"
            )
        return range(start, end)

    def batches(self, wanted: range) -> Iterator[tuple[int, list[bytes]]]:
        """(first index, leaves) one after another: whole leaves, at most 256 KiB and 4,096 of them at once.

        Each step reads just its own batch, so a slow reader holds no more than that.
        """
        at = wanted.start
        while at < wanted.stop:
            after = min(wanted.stop, (at // TILE_WIDTH + 1) * TILE_WIDTH)
            leaves = self._store.leaves(at, after)
            size = sum(map(len, leaves))
            while size <= MAX_BATCH_BYTES and after < wanted.stop and len(leaves) < MAX_BATCH_LEAVES:
                more = self._store.leaves(after, min(wanted.stop, after + TILE_WIDTH))
                size += sum(map(len, more))
                if size > MAX_BATCH_BYTES:
                    break
                leaves += more
                after += len(more)
            for batch in _by_size(leaves):
                yield at, batch
                at += len(batch)

    @property
    def witnessed_note(self) -> bytes:
        """The newest published checkpoint; empty while there is none."""
        newest = self.witnessed
        return b"" if newest is None else newest.note

    def newest_block(self, *, published: bool) -> int:
        """The number of the newest block, signed or ``published``; -1 while none is."""
        if not published:
            return self._copy.published.head.block
        return -1 if self.witnessed is None else self.witnessed.block

    def block_range(self, start: int, end: int, *, published: bool = False) -> range:
        """The numbers from ``start`` to ``end`` (0: past the newest). Raises FormatError, OutOfRange."""
        newest = self.newest_block(published=published)
        if end and start > end:
            raise FormatError(f"{start} is above {end}", where="from_block", fix="give the smaller first")
        if max(start, end) > newest + 1:
            raise OutOfRange(
                f"the newest block is {newest}",
                where="end_block" if end > newest + 1 else "from_block",
                fix="ask again when there are more, or let the stream follow",
            )
        return range(start, end or newest + 1)

    def block_messages(self, wanted: range, skip: int) -> Iterator[list[Piece]]:
        """Published blocks in messages of at most 1 MiB; see :meth:`StoredBlocks.messages`."""
        return self._stored.messages(wanted.start, wanted.stop, skip)

    def block_of(self, index: int) -> BlockInfo:
        """The block that holds a leaf below the size."""
        return self._store.block_of(index)

    async def block_head(self, number: int) -> BlockHead:
        """The head of a published block. The newest 1,024 asked for are kept.

        Counting the leaves of the greatest block takes some 20 ms, so others run in between.
        """
        kept = self._blocks.get(number)
        if kept is not None:
            return kept
        info = self._store.block(number)
        counts: dict[int, int] = {}
        for _, leaves in self.batches(range(info.first_index, info.size)):
            for leaf in leaves:
                counts[leaf[1]] = counts.get(leaf[1], 0) + 1
            await asyncio.sleep(0)
        kinds = tuple((LeafType(kind), counts[kind]) for kind in sorted(counts))
        head = BlockHead(info, self.checkpoint(info.size), kinds)
        self._blocks[number] = head
        if len(self._blocks) > _KEPT_BLOCKS:
            self._blocks.popitem(last=False)
        return head

    # --- look-ups ---

    def lookup(self, agency: int, commitment: bytes) -> tuple[list[int], int]:
        """(indexes of that agency's ISSUEs with this commitment, tree size searched).

        Raises FormatError, UnknownAgency, NotFound. Unproven, and NotFound proves nothing.
        """
        if len(commitment) != HASH_SIZE:
            raise FormatError(f"{len(commitment)} bytes, a commitment has {HASH_SIZE}", where="commitment")
        published = self.published
        published.state.registry.agency(agency)
        (index,) = self._store.find_issues([commitment + agency.to_bytes(4, "big")])
        if index is None or index >= published.head.size:
            raise NotFound(
                f"agency {agency} has not logged this commitment",
                where="commitment",
                fix="check the agency and the commitment; a new document may take a moment",
            )
        return [index], published.head.size

    def record(self, subject: str) -> CurrentRecord:
        """The current record of ``ledger``, ``agency/7``, ``type/3`` or ``agency/7/key/2``.

        A key's changes are changes of its agency, so their ``previous`` is the agency's.
        Raises FormatError, UnknownAgency, UnknownType, NotFound.
        """
        published = self.published
        registry, size = published.state.registry, published.head.size
        match = _KEY_SUBJECT.fullmatch(subject)
        if match is None:
            parsed = Subject.parse(subject)
            return CurrentRecord(registry.record(parsed), registry.changed(parsed), size)
        number, key_number = int(match[1]), int(match[2])
        if number > MAX_AGENCY or key_number > MAX_KEY_NUMBER:
            raise FormatError("no agency or key has such a number", where="subject")
        agency = registry.agency(number)
        key = agency.key(key_number)
        if key is None:
            raise NotFound(
                f"agency {number} has no key {key_number}",
                where="subject",
                fix=f"its keys are numbered from 1 to {len(agency.keys)}",
            )
        return CurrentRecord(key.encode(), agency.record.changed, size)


def _by_size(leaves: list[bytes]) -> Iterator[list[bytes]]:
    """The leaves in batches of at most 256 KiB; usually one. A leaf alone is far below that."""
    batch: list[bytes] = []
    size = 0
    for leaf in leaves:
        if size + len(leaf) > MAX_BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(leaf)
        size += len(leaf)
    yield batch
