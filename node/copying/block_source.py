"""Blocks as they travel between nodes: what a source of them is, and the source that a store is.

A block travels as the bytes that its digest is over: its leaves as :func:`ledger.submissions.pack` gives
them. Nothing that a source says is believed (node/copying/catch_up.py checks it); so a store checks no
more than that it hands out what it was given.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Protocol

from ledger.errors import OutOfRange
from ledger.tiles import TILE_WIDTH
from node.codec import BlockInfo
from node.errors import NotFound, StoreDamaged
from node.proofs import Proofs
from node.store import Store

MAX_MESSAGE: Final = 1 << 20
"""Bytes of one message of StreamBlocks, its framing included."""
MAX_PIECES: Final = 1_024
"""Blocks that begin in one message: some 20 ms of reading, when they are as small as they get."""
_FRAMING: Final = 48
"""More than protobuf adds to the bytes of one piece."""


@dataclass(frozen=True, slots=True)
class Block:
    """A whole block. ``packed``: its leaves; ``note``: the signed checkpoint after it, if there is one."""

    number: int
    packed: bytes
    note: bytes | None


@dataclass(frozen=True, slots=True)
class Pulse:
    """No block: the source is there, and its newest block is ``newest``. ``note``: its newest published
    checkpoint, if that has new cosignatures."""

    newest: int
    note: bytes = b""


class BlockSource(Protocol):
    """Where blocks come from: a peer, a mirror, a backup, a store. Used by one call of catch-up at a time.

    *Trust*: none. *Errors*: PeerSilent when it cannot be reached (any more), PeerShort when it does not
    have what was asked for.
    """

    @property
    def name(self) -> str:
        """Who it is, for people: an address, a directory."""
        ...

    @property
    def received(self) -> int:
        """Bytes that have come from it, those of blocks that are not yet whole included."""
        ...

    def blocks(self, start: int) -> Iterator[Block | Pulse]:
        """The blocks from number ``start`` on, in order. Runs on a thread of catch-up's."""
        ...

    def consistency(self, old: int, new: int) -> Sequence[bytes]:
        """The proof that the tree of ``old`` leaves begins that of ``new``. From any thread."""
        ...

    def cancel(self) -> None:
        """Have :meth:`blocks` end soon, wherever it waits. From any thread, at any time, more than once."""
        ...


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a block; ``last``: the block ends here, and ``note`` is its checkpoint, if it has one."""

    number: int
    packed: bytes
    last: bool
    note: bytes | None = None

    @property
    def weight(self) -> int:
        """About its bytes on the wire, rather more than less."""
        return len(self.packed) + len(self.note or b"") + _FRAMING


class StoredBlocks:
    """The blocks of an open store. From any thread; what is shown to others, the caller bounds."""

    def __init__(self, store: Store, name: str = "store") -> None:
        self._store = store
        self._name = name
        self._proofs = Proofs(store)
        self._cancelled = False
        self._received = 0

    def messages(self, start: int, end: int, skip: int = 0) -> Iterator[list[Piece]]:
        """Blocks ``start`` up to, without, ``end``, in messages of at most 1 MiB, each read when asked for.

        Of the first block ``skip`` bytes are left out. About 0.1 µs a leaf, 10 µs a block. Raises NotFound
        for a block that is not there, OutOfRange for one with fewer bytes, StoreDamaged for one that is not
        what was stored.
        """
        pieces: list[Piece] = []
        weight = 0
        for piece in self._pieces(start, end, skip):
            if pieces and (weight + piece.weight > MAX_MESSAGE or len(pieces) == MAX_PIECES):
                yield pieces
                pieces, weight = [], 0
            pieces.append(piece)
            weight += piece.weight
        if pieces:
            yield pieces

    def _pieces(self, start: int, end: int, skip: int) -> Iterator[Piece]:
        if start >= end:
            return
        cursor = _Cursor(self._store, self._store.block(start).first_index, self._store.block(end - 1).size)
        for number in range(start, end):
            info = self._store.block(number)
            note = self._note(info)
            room = MAX_MESSAGE - _FRAMING - len(note or b"")
            digest = sha256()
            data = b""
            for part in cursor.take(info.size - info.first_index):
                digest.update(part)
                cut = min(skip, len(part))
                skip -= cut
                data += part[cut:] if cut else part
                # The last bytes are kept back until the digest is known: a block that is not whole
                # never ends.
                while len(data) > room:
                    yield Piece(number, data[:room], False)
                    data = data[room:]
            if digest.digest() != info.digest:
                raise StoreDamaged(
                    "its leaves are not those that were stored",
                    where=f"block {number}",
                    fix="run `sudur node fsck`; restore the data directory from a replica",
                )
            if skip:
                raise OutOfRange(f"it is {skip} bytes shorter than what is left out", where=f"block {number}")
            yield Piece(number, data, True, note)

    def _note(self, info: BlockInfo) -> bytes | None:
        try:
            return self._store.checkpoint(info.size)
        except NotFound:
            return None

    # --- BlockSource, up to the newest committed block ---

    @property
    def name(self) -> str:
        return self._name

    @property
    def received(self) -> int:
        return self._received

    def blocks(self, start: int) -> Iterator[Block | Pulse]:
        """See :class:`BlockSource`."""
        head = self._store.head()
        parts: list[bytes] = []
        for message in self.messages(start, 0 if head is None else head.block + 1):
            for piece in message:
                if self._cancelled:
                    return
                self._received += len(piece.packed)
                parts.append(piece.packed)
                if piece.last:
                    yield Block(piece.number, b"".join(parts), piece.note)
                    parts = []

    def consistency(self, old: int, new: int) -> Sequence[bytes]:
        """See :class:`BlockSource`."""
        return self._proofs.consistency(old, new)

    def cancel(self) -> None:
        """See :class:`BlockSource`."""
        self._cancelled = True


class _Cursor:
    """Reads packed leaves in order, each bundle once."""

    def __init__(self, store: Store, index: int, end: int) -> None:
        self._store = store
        self._end = end
        self._index = index
        self._data = b""
        self._at = 0
        if index % TILE_WIDTH:
            self._load()
            self._at = self._after(index % TILE_WIDTH)

    def take(self, count: int) -> Iterator[bytes]:
        """The next ``count`` leaves, in as many slices as they have bundles."""
        while count:
            if self._index % TILE_WIDTH == 0:
                self._load()
            held = min(self._end, (self._index // TILE_WIDTH + 1) * TILE_WIDTH) - self._index
            taken = min(count, held)
            after = len(self._data) if taken == held else self._after(taken)
            yield self._data[self._at : after]
            self._at = after
            self._index += taken
            count -= taken

    def _load(self) -> None:
        number = self._index // TILE_WIDTH
        self._data = self._store.bundle(number, min(TILE_WIDTH, self._end - number * TILE_WIDTH))
        self._at = 0

    def _after(self, count: int) -> int:
        """Where the leaf ``count`` leaves after the present one begins."""
        data, at = self._data, self._at
        for _ in range(count):
            if at + 2 > len(data):
                raise StoreDamaged("its bundle is too short", where=f"leaf {self._index}")
            at += 2 + (data[at] << 8 | data[at + 1])
        return at
