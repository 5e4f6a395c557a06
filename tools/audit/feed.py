"""The leaves of a log from static resources, hashed into a tree, and each tile held against the one served.

No rule is known here and no signature: what comes out is what was served, hashed. It may run in a process
of its own, since it takes half of an audit's time.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from ledger.errors import FormatError, SudurError, TileFormatError
from ledger.hashing import leaf_hashes
from ledger.resources import ManyResources, Resources
from ledger.submissions import records_roots
from ledger.tiles import TILE_WIDTH, Tile, entries_path, tile_path, tile_width
from ledger.tree import Tree
from tools.audit.backup_source import BackupResources
from tools.audit.bundles import split
from tools.audit.errors import NotServed, ServedWrong
from tools.errors import NotFound

PORTION_BUNDLES: Final = 128


@dataclass(frozen=True, slots=True)
class Portion:
    """Leaves from ``first`` on: ``bundles`` as they were served, less ``skip`` leaves of the first that were
    there before. ``hashes``: of each leaf, 32 bytes; ``roots``: as :class:`ledger.submissions.Hashed` has
    them. ``tiles``: what :meth:`Tree.append` gave, ``tree`` the
    tree after them. Of the tiles served, ``compared`` so many, the paths of ``differing`` are not those, and
    ``missing`` so many are not served at all.
    """

    first: int
    skip: int
    bundles: tuple[bytes, ...]
    hashes: bytes
    roots: dict[int, bytes]
    tiles: tuple[Tile, ...]
    tree: Tree
    compared: int
    differing: tuple[str, ...]
    missing: int


def portions(
    resources: Resources, tree: Tree, size: int, *, bundles: int = PORTION_BUNDLES
) -> Generator[Portion, None, None]:
    """The leaves of the tree of ``size`` leaves that ``tree`` lacks. About 2 µs a leaf.

    A backup has no tiles to compare, only leaves. Raises ServedWrong for a bundle that is
    not as its name says, and what fetching raises.
    """
    with_tiles = not isinstance(resources, BackupResources)
    last = -(-size // TILE_WIDTH)
    number = tree.size // TILE_WIDTH
    while number < last:
        upto = min(number + bundles, last)
        wanted = [entries_path(n, min(TILE_WIDTH, size - n * TILE_WIDTH)) for n in range(number, upto)]
        arrived = zip(wanted, fetched(resources, wanted), strict=True)
        served = tuple(_served(path, data) for path, data in arrived)
        first, skip = tree.size, tree.size - number * TILE_WIDTH
        leaves: list[bytes] = []
        for path, data in zip(wanted, served, strict=True):
            leaves += _leaves(path, data, min(TILE_WIDTH, size - number * TILE_WIDTH))
            number += 1
        del leaves[:skip]
        hashes = leaf_hashes(leaves)
        roots = records_roots(leaves, hashes, first)
        tree, made = tree.append(hashes)
        compared = _compare(resources, made, size) if with_tiles else (0, (), 0)
        kept = tuple(one for one in made if one.id.level and one.id.width == TILE_WIDTH)
        yield Portion(first, skip, served, b"".join(hashes), roots, kept, tree, *compared)


def fetched(resources: Resources, paths: Iterable[str]) -> Iterator[bytes | NotFound]:
    """What is at each path, in that order: several at a time where the source can."""
    many = resources.fetch_many(paths) if isinstance(resources, ManyResources) else _each(resources, paths)
    for found in many:
        if isinstance(found, SudurError) and not isinstance(found, NotFound):
            raise found
        yield found


def _each(resources: Resources, paths: Iterable[str]) -> Iterator[bytes | SudurError]:
    for path in paths:
        try:
            yield resources.fetch(path)
        except NotFound as error:
            yield error


def _served(path: str, data: bytes | NotFound) -> bytes:
    if isinstance(data, NotFound):
        raise NotServed("entries under the checkpoint that it serves are not there", path=path) from data
    return data


def _leaves(path: str, data: bytes, width: int) -> list[bytes]:
    try:
        leaves, _ = split(data)
        if len(leaves) != width:
            raise TileFormatError(f"{len(leaves)} entries where {width} belong")
    except FormatError as error:
        raise ServedWrong(f"the entries cannot be read: {error.what}", path=path) from error
    return leaves


def _compare(resources: Resources, made: list[Tile], size: int) -> tuple[int, tuple[str, ...], int]:
    """Hold the full tiles, and at the end of the tree the partial ones, against those served."""
    wanted = [one for one in made if one.id.width == tile_width(one.id.level, one.id.index, size)]
    paths = [tile_path(one.id.level, one.id.index, one.id.width) for one in wanted]
    differing: list[str] = []
    missing = 0
    for one, path, data in zip(wanted, paths, fetched(resources, paths), strict=True):
        if isinstance(data, NotFound):
            missing += 1
        elif data != one.data:
            differing.append(path)
    return len(paths) - missing, tuple(differing), missing
