"""What a server shows of the tree under a checkpoint: prefixes of it, proven; and which bundle is wrong."""

from __future__ import annotations

from ledger.checkpoints import SignedCheckpoint
from ledger.errors import FormatError, OutOfRange, ProofInvalid
from ledger.hashing import HASH_SIZE, leaf_hash
from ledger.proofs import prove_consistency, prove_inclusion, verify_consistency, verify_inclusion
from ledger.resources import LogTiles, Resources
from ledger.tiles import TILE_WIDTH, TileId, TileNodeReader, entries_path, tile_width
from ledger.tree import Tree
from tools.audit.bundles import split
from tools.audit.errors import NotServed, ServedWrong
from tools.errors import AnswerWrong, NotFound

UNSHOWN: tuple[type[Exception], ...] = (ProofInvalid, FormatError, OutOfRange, NotFound, AnswerWrong)
"""How it shows that a server's tiles do not lead to the root that it serves."""


class ServedTree:
    """The tiles at ``resources``, under ``signed``. Nothing of them is believed before it is proven."""

    def __init__(self, resources: Resources, signed: SignedCheckpoint) -> None:
        self._resources = resources
        self._signed = signed
        self._tiles = LogTiles(resources)
        self._nodes = TileNodeReader(self._tiles, signed.checkpoint.size)

    def begins_with(self, size: int, root: bytes) -> tuple[bytes, ...]:
        """The consistency proof that the tree of ``size`` leaves with this root is the beginning of it.

        Two or three tiles a level. Raises one of :data:`UNSHOWN`, and what fetching raises.
        """
        whole = self._signed.checkpoint
        path = prove_consistency(self._nodes, size, whole.size)
        verify_consistency(size, root, whole.size, whole.root, path)
        return tuple(path)

    def beginning(self, size: int) -> tuple[bytes, tuple[bytes, ...]]:
        """The root that it has at ``size``, and the consistency proof of it. Raises as above."""
        whole = self._signed.checkpoint
        tree = Tree.from_edge(size, self._read)
        path = prove_consistency(self._nodes, size, whole.size)
        root = tree.root()
        verify_consistency(size, root, whole.size, whole.root, path)
        return root, tuple(path)

    def _read(self, tile: TileId) -> bytes:
        width = tile_width(tile.level, tile.index, self._signed.checkpoint.size)
        return self._tiles.tile(tile.level, tile.index, width)[: tile.width * HASH_SIZE]

    def wrong_bundle(self, start: int) -> ServedWrong | None:
        """The first bundle from leaf ``start`` on whose leaves are not those of its proven tile.

        Reads all of them, and is asked only when something was found to be wrong.
        """
        size = self._signed.checkpoint.size
        for number in range(start // TILE_WIDTH, -(-size // TILE_WIDTH)):
            width = tile_width(0, number, size)
            path = entries_path(number, width)
            try:
                hashes = self._proven_tile(number, width)
            except UNSHOWN:
                return None
            try:
                leaves, _ = split(self._resources.fetch(path))
            except (NotFound, AnswerWrong) as error:
                return NotServed(f"the entries are not served: {error.what}", path=path)
            except FormatError as error:
                return ServedWrong(f"the entries cannot be read: {error}", path=path)
            for position, leaf in enumerate(leaves):
                if position == width or leaf_hash(leaf) != hashes[position]:
                    index = number * TILE_WIDTH + position
                    return ServedWrong(f"entry {index} is not the one that the log signed", path=path)
            if len(leaves) != width:
                return ServedWrong(f"{len(leaves)} entries where {width} belong", path=path)
        return None

    def _proven_tile(self, number: int, width: int) -> list[bytes]:
        """The hashes of a tile of level 0, shown to be under the root.

        The path of its first leaf is made of all the others, so it proves them with it.
        """
        whole, first = self._signed.checkpoint, number * TILE_WIDTH
        hashes = self._nodes.nodes([(0, first + position) for position in range(width)])
        verify_inclusion(
            hashes[0], first, whole.size, prove_inclusion(self._nodes, first, whole.size), whole.root
        )
        return hashes
