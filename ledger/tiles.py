"""C2SP tlog-tiles: coordinates, paths, widths and entry bundles of the tiles that hold a tree.

Tiles have height 8. Entry ``i`` of tile ``index`` at ``level`` is the hash of the complete subtree over
leaves ``[(index*256 + i) * 256**level, (index*256 + i + 1) * 256**level)``. A full tile has 256 entries;
the newest of a level may be partial (1 to 255), is never hashed upward, and is never empty.

:class:`TileReader` is how storage of any kind, trusted or not, reaches the core.
:class:`NodeReader` is what proofs are made from, and :class:`TileNodeReader` makes one of the other.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from ledger.errors import OutOfRange, TileFormatError, TooLarge
from ledger.hashing import HASH_SIZE, parent_row

TILE_HEIGHT: Final = 8
TILE_WIDTH: Final = 256
FULL_TILE_BYTES: Final = TILE_WIDTH * HASH_SIZE
MID_HEIGHT: Final = 4
MIDS_BYTES: Final = (TILE_WIDTH >> MID_HEIGHT) * HASH_SIZE
MAX_LEVEL: Final = 63
MAX_SIZE: Final = 2**64 - 1
MAX_INDEX: Final = MAX_SIZE // TILE_WIDTH
MAX_ENTRY_BYTES: Final = 0xFFFF
MAX_BUNDLE_BYTES: Final = TILE_WIDTH * (2 + MAX_ENTRY_BYTES)
MAX_PATH_CHARS: Final = len("tile/entries/") + 6 * len("x000/") - len("x/") + len(".p/255")

_POSITION: Final = r"((?:x[0-9]{3}/){0,5}[0-9]{3})(?:\.p/([1-9][0-9]?|1[0-9]{2}|2[0-4][0-9]|25[0-5]))?"
_TILE_PATH: Final = re.compile(r"tile/([0-9]|[1-5][0-9]|6[0-3])/" + _POSITION)
_ENTRIES_PATH: Final = re.compile("tile/entries/" + _POSITION)
_EXAMPLE: Final = "write it as tile/0/x001/x234/067.p/8"


@dataclass(frozen=True, slots=True)
class TileId:
    """Where a Merkle tile is: its level (0 to 63), its index in the level, its width in hashes (1 to 256).

    Raises OutOfRange for coordinates that no tile has.
    """

    level: int
    index: int
    width: int = TILE_WIDTH

    def __post_init__(self) -> None:
        if not 0 <= self.level <= MAX_LEVEL:
            raise OutOfRange(
                f"tile level {_shown(self.level)} does not exist", where="tile", fix="levels are 0 to 63"
            )
        _check_position(self.index, self.width)

    def path(self) -> str:
        """Its canonical path, ``tile/<L>/<N>[.p/<W>]``."""
        return f"tile/{self.level}/{_position_text(self.index, self.width)}"


@dataclass(frozen=True, slots=True)
class BundleId:
    """Where an entry bundle is: its index and its width in entries (1 to 256).

    Raises OutOfRange for coordinates that no bundle has.
    """

    index: int
    width: int = TILE_WIDTH

    def __post_init__(self) -> None:
        _check_position(self.index, self.width)

    def path(self) -> str:
        """Its canonical path, ``tile/entries/<N>[.p/<W>]``."""
        return f"tile/entries/{_position_text(self.index, self.width)}"


@dataclass(frozen=True, slots=True)
class Tile:
    """A tile with its hashes.

    ``data`` is ``id.width * 32`` bytes, what C2SP serves. ``mids`` belongs to a full tile: the 16 node
    hashes at height 4 within it (512 bytes), kept beside it so that a path through a tile read from disk
    costs 22 hashes and not 247. A partial tile has empty ``mids``.
    """

    id: TileId
    data: bytes
    mids: bytes = b""


class TileReader(Protocol):
    """Reads stored tiles.

    The source need not be trusted: nothing read is believed before a root recomputed from it equals a
    root that is. One bad byte shows there as ProofInvalid.
    """

    def tile(self, level: int, index: int, width: int) -> bytes:
        """The ``width * 32`` bytes of a tile, ``width`` being :func:`tile_width` for a published size.

        A store that no longer has that partial tile may answer with the first ``width`` hashes of a wider
        one: entries never change. Any other length is refused by the caller with TileFormatError.
        Raises the source's own error, a SudurError, when it has no such tile or cannot read it.
        """
        ...


NodeId: TypeAlias = tuple[int, int]
"""(height, index): the node over leaves [index * 2^height, (index + 1) * 2^height), all of them there."""


class NodeReader(Protocol):
    """Reads the hashes of complete subtrees: the one way in which storage reaches proofs.

    Trusted only as far as what is made of it is checked against a root (:mod:`ledger.proofs`).
    """

    def nodes(self, ids: Sequence[NodeId]) -> list[bytes]:
        """The 32-byte hash of each node asked for, in that order; repeats allowed.

        Raises OutOfRange for a node that is not complete in the tree read, and the source's own errors.
        """
        ...


class TileNodeReader:
    """A :class:`NodeReader` of the tree of ``size`` leaves, over tiles.

    Keeps the tiles last used, each with the interior nodes computed so far: at most ``capacity`` of them,
    about 16 KiB each and never over 48. A node within a tile just read costs the hashes below it; with
    ``mids`` a whole path through a full tile costs 22, without it 247; what is kept costs a look-up.

    ``mids(level, index)`` gives the 512 bytes of a full tile's :attr:`Tile.mids`, or nothing when they
    are not kept. A bad tile from an untrusted source stays in here: after ProofInvalid, start anew.
    Not for several threads at once.
    """

    __slots__ = ("_capacity", "_kept", "_mids", "_size", "_tiles")

    def __init__(
        self,
        tiles: TileReader,
        size: int,
        *,
        mids: Callable[[int, int], bytes] | None = None,
        capacity: int = 1024,
    ) -> None:
        self._tiles = tiles
        self._size = size
        self._mids = mids
        self._capacity = capacity
        self._kept: OrderedDict[tuple[int, int, int], _ExpandedTile] = OrderedDict()

    def at(self, size: int) -> TileNodeReader:
        """A reader of the same tree at another size, sharing what is kept. O(1)."""
        other = TileNodeReader(self._tiles, size, mids=self._mids, capacity=self._capacity)
        other._kept = self._kept
        return other

    def nodes(self, ids: Sequence[NodeId]) -> list[bytes]:
        """See :class:`NodeReader`. Raises TileFormatError for a tile of the wrong length."""
        size = self._size
        found: list[bytes] = []
        level_here = index_here = -1
        for height, index in ids:
            if not 0 <= index < size >> height:
                raise OutOfRange(
                    f"node {index} at height {height} is not complete",
                    where=f"tree of size {size}",
                    fix="read a larger tree",
                )
            depth = 8 - (height & 7)
            tile_index = index >> depth
            if tile_index != index_here or height >> 3 != level_here:
                level_here, index_here = height >> 3, tile_index
                tile = self._tile(level_here, index_here)
                heap = tile.heap
            slot = index + (1 << depth) - (tile_index << depth)
            found.append(heap[slot] or tile.compute(slot))
        return found

    def _tile(self, level: int, index: int) -> _ExpandedTile:
        width = tile_width(level, index, self._size)
        key = (level, index, width)
        kept = self._kept.get(key)
        if kept is not None:
            self._kept.move_to_end(key)
            return kept
        data = self._tiles.tile(level, index, width)
        mids = self._mids(level, index) if self._mids is not None and width == TILE_WIDTH else b""
        if len(data) != width * HASH_SIZE or len(mids) not in (0, MIDS_BYTES):
            raise TileFormatError(
                f"{len(data)} bytes and {len(mids)} of mids for a width of {width}",
                where=f"tile {index} of level {level}",
                fix="fetch it again, or from another source",
            )
        tile = self._kept[key] = _ExpandedTile(data, mids)
        if len(self._kept) > self._capacity:
            self._kept.popitem(last=False)
        return tile


class _ExpandedTile:
    """A tile whose nodes fill in as they are asked for.

    ``heap[1]`` would be the tile's own root, ``heap[2 * slot]`` and the next one are the children of
    ``heap[slot]``, and entry i is at 256 + i: so a slot's bit length gives its depth.
    """

    __slots__ = ("_data", "_mids", "heap")

    def __init__(self, data: bytes, mids: bytes) -> None:
        self._data = data
        self._mids = mids
        self.heap: list[bytes | None] = [None] * (2 * TILE_WIDTH)

    def compute(self, slot: int) -> bytes:
        """The node at a slot, from the entries (or mids) below it; those between are kept too."""
        height = TILE_HEIGHT + 1 - slot.bit_length()
        from_mids = bool(self._mids) and height >= MID_HEIGHT
        source, base = (self._mids, MID_HEIGHT) if from_mids else (self._data, 0)
        count = 1 << height - base
        first = slot << height - base
        at = (first - (TILE_WIDTH >> base)) * HASH_SIZE
        row = [source[i : i + HASH_SIZE] for i in range(at, at + count * HASH_SIZE, HASH_SIZE)]
        self.heap[first : first + count] = row
        while count > 1:
            row = parent_row(row)
            first >>= 1
            count >>= 1
            self.heap[first : first + count] = row
        return row[0]


def tile_path(level: int, n: int, width: int = TILE_WIDTH) -> str:
    """``tile/<level>/<n>[.p/<width>]``; the suffix only below 256. Raises OutOfRange."""
    return TileId(level, n, width).path()


def entries_path(n: int, width: int = TILE_WIDTH) -> str:
    """``tile/entries/<n>[.p/<width>]``; the suffix only below 256. Raises OutOfRange."""
    return BundleId(n, width).path()


def parse_tile_path(path: str) -> TileId:
    """Read the one canonical form of a Merkle tile's path (no leading slash).

    Raises TileFormatError for anything else, among them padded numbers, a needless ``x000`` group,
    ``.p/256``, level 64, an index beyond any tree of 2^64-1 leaves, and text that is too long.
    """
    match = _matched(_TILE_PATH, path)
    return TileId(int(match[1]), _parsed_index(match[2], path), int(match[3] or TILE_WIDTH))


def parse_entries_path(path: str) -> BundleId:
    """Read the one canonical form of an entry bundle's path (no leading slash). Raises TileFormatError."""
    match = _matched(_ENTRIES_PATH, path)
    return BundleId(_parsed_index(match[1], path), int(match[2] or TILE_WIDTH))


def tile_width(level: int, n: int, size: int) -> int:
    """How many hashes tile ``n`` of ``level`` has in a tree of ``size`` leaves: 0 (no such tile) to 256."""
    rest = (size >> TILE_HEIGHT * level) - n * TILE_WIDTH
    if rest >= TILE_WIDTH:
        return TILE_WIDTH
    return rest if rest > 0 else 0


def encode_bundle(leaves: Sequence[bytes]) -> bytes:
    """The entry bundle of 1 to 256 leaves: each behind its length as a big-endian u16.

    Raises TooLarge for a leaf over 65,535 bytes, TileFormatError for any other count.
    """
    if not 1 <= len(leaves) <= TILE_WIDTH:
        raise TileFormatError(f"a bundle of {len(leaves)} entries", where="bundle", fix="1 to 256 fit in one")
    try:
        return b"".join([len(leaf).to_bytes(2, "big") + leaf for leaf in leaves])
    except OverflowError:
        raise TooLarge("an entry is longer than 65,535 bytes", where="bundle", fix="split it") from None


def parse_bundle(data: bytes) -> list[bytes]:
    """The 1 to 256 entries of a bundle, which must end with the last one.

    How many there should be is the caller's to check, against the width asked for.
    Raises TooLarge before reading more bytes than 256 longest entries take, else TileFormatError.
    """
    end = len(data)
    if end > MAX_BUNDLE_BYTES:
        raise TooLarge(f"{end} bytes", where="bundle", fix=f"a bundle has at most {MAX_BUNDLE_BYTES}")
    entries: list[bytes] = []
    at = 0
    while at < end:
        start = at + 2
        at = start + int.from_bytes(data[at:start], "big")
        if start > end or at > end:
            raise TileFormatError(
                "cut short", where=f"bundle entry {len(entries)}", fix="fetch the bundle again"
            )
        entries.append(data[start:at])
        if len(entries) > TILE_WIDTH:
            raise TileFormatError("more than 256 entries", where="bundle", fix="fetch the bundle again")
    if not entries:
        raise TileFormatError("no entries", where="bundle", fix="an empty bundle is never served")
    return entries


def _matched(pattern: re.Pattern[str], path: str) -> re.Match[str]:
    if len(path) > MAX_PATH_CHARS:
        raise TileFormatError(f"{len(path)} characters is too long", where="tile path", fix=_EXAMPLE)
    match = pattern.fullmatch(path)
    if match is None:
        raise TileFormatError(f"{path!a} is not a canonical path", where="tile path", fix=_EXAMPLE)
    return match


def _parsed_index(groups: str, path: str) -> int:
    if groups.startswith("x000/"):
        raise TileFormatError(f"{path!a} has a needless group x000", where="tile path", fix=_EXAMPLE)
    index = int(groups.replace("x", "").replace("/", ""))
    if index > MAX_INDEX:
        raise TileFormatError(f"no tree reaches tile {index}", where="tile path", fix="ask for a lower index")
    return index


def _position_text(index: int, width: int) -> str:
    digits = str(index)
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    groups = [digits[at : at + 3] for at in range(0, len(digits), 3)]
    suffix = "" if width == TILE_WIDTH else f".p/{width}"
    return "/".join([*(f"x{group}" for group in groups[:-1]), groups[-1]]) + suffix


def _check_position(index: int, width: int) -> None:
    if not 0 <= index <= MAX_INDEX:
        raise OutOfRange(f"tile {_shown(index)} does not exist", where="tile", fix="indexes end at 2^56-1")
    if not 1 <= width <= TILE_WIDTH:
        raise OutOfRange(f"no tile is {_shown(width)} wide", where="tile", fix="widths are 1 to 256")


def _shown(number: int) -> str:
    """The number for an error message; a huge one by its size, since printing it may itself be refused."""
    return str(number) if number.bit_length() <= 128 else f"of {number.bit_length()} bits"
