"""The tail of the log, read whole and proven, in chunks: nothing is judged before it is proven.

A node may leave out a leaf, alter one, show another history, or go back to an older one. It cannot do
so unseen: the tree is hashed here, over every leaf, from where the last reading ended; each chunk is a
prefix of the tree that the newest checkpoint signs, and that checkpoint extends the one accepted before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final, Protocol

from ledger.checkpoints import Checkpoint, SignedCheckpoint
from ledger.errors import FormatError, OutOfRange, ProofInvalid
from ledger.hashing import HASH_SIZE, leaf_hashes
from ledger.leaves import FORMAT_VERSION, LeafType
from ledger.proofs import prove_consistency, verify_consistency
from ledger.resources import LogTiles, Resources
from ledger.tiles import TileId, TileNodeReader, tile_width
from ledger.tree import Tree
from ledger.trust import TrustedLedger
from tools.client import ConsistencyAnswer
from tools.errors import AnswerWrong, LogDiffers, LogForked, LogRolledBack, NotFound

CHUNK_LEAVES: Final = 1 << 18
CHUNK_BYTES: Final = 32 << 20
"""A chunk ends with the last block that ends before it has so many leaves, or bytes, or a little more."""

_PORTION: Final = 4096
_UNPROVEN: Final = (ProofInvalid, FormatError, OutOfRange, NotFound, AnswerWrong)
"""How a proof fails of something that the node has signed: it is wrong, or said not to be there."""

_SEAL: Final = bytes((FORMAT_VERSION, LeafType.SEAL))


class LogSource(Protocol):
    """Where the log is read: ``tools.client.LedgerClient`` is one. Nothing it gives is believed."""

    def checkpoint(self) -> bytes: ...

    def entries(self, start: int, end: int) -> Iterator[bytes]: ...

    def consistency(self, old_size: int, new_size: int) -> ConsistencyAnswer: ...


@dataclass(frozen=True, slots=True)
class Chunk:
    """Leaves from ``first`` on, up to a SEAL, proven. ``tree`` is the log's up to and with them."""

    first: int
    leaves: list[bytes]
    tree: Tree


def newest_checkpoint(source: LogSource, ledger: TrustedLedger, now_ms: int) -> SignedCheckpoint:
    """The newest checkpoint, signed and, if the ledger asks for witnesses, cosigned.

    Raises CheckpointUntrusted, SignatureInvalid, PolicyUnmet, FormatError, Unavailable.
    """
    signed = ledger.open(source.checkpoint())
    ledger.witnessed(signed, now_s=now_ms // 1000, greatest_age_s=None)
    return signed


def check_extends(source: LogSource, old: SignedCheckpoint, new: SignedCheckpoint) -> None:
    """Return if the tree of ``new`` begins with all of ``old``'s.

    Raises LogRolledBack, LogForked, with both as evidence; Unavailable.
    """
    before, now = old.checkpoint, new.checkpoint
    evidence = (old.data, new.data)
    if now.size < before.size:
        raise LogRolledBack(
            f"the node's newest checkpoint is of {now.size} leaves, one of {before.size} was accepted before",
            where="log",
            fix="the node is behind, or was set back: compare with another node, and ask its operator",
            evidence=evidence,
        )
    if now.size == before.size and now.root == before.root:
        return
    try:
        if now.size == before.size:
            raise ProofInvalid("two roots were signed for one size")
        answer = source.consistency(before.size, now.size)
        verify_consistency(before.size, before.root, now.size, now.root, answer.path)
    except _UNPROVEN as error:
        raise LogForked(
            f"the log of {now.size} leaves is not shown to extend the one of {before.size} leaves"
            f" that was accepted before ({error.what})",
            where="log",
            fix="keep both checkpoints and hand them to the authority and to auditors",
            evidence=evidence,
        ) from None


def tree_at(resources: Resources, size: int, signed: SignedCheckpoint) -> Tree:
    """The tree of the first ``size`` leaves, made from static tiles and proven under a checkpoint.

    Reads a tile or two a level. Raises LogDiffers when the tiles are not those that were signed,
    OutOfRange, and what fetching raises.
    """
    checkpoint = signed.checkpoint
    if size > checkpoint.size:
        raise OutOfRange(f"the log has {checkpoint.size} leaves", where=f"index {size}")
    tiles = LogTiles(resources)

    def read(tile: TileId) -> bytes:
        width = tile_width(tile.level, tile.index, checkpoint.size)
        return tiles.tile(tile.level, tile.index, width)[: tile.width * HASH_SIZE]

    try:
        tree = Tree.from_edge(size, read)
        path = prove_consistency(TileNodeReader(tiles, checkpoint.size), size, checkpoint.size)
        verify_consistency(size, tree.root(), checkpoint.size, checkpoint.root, path)
    except (ProofInvalid, FormatError) as error:
        raise LogDiffers(
            f"the static tiles are not those of the signed log ({error.what})",
            where=f"the first {size} leaves",
            evidence=(signed.data,),
        ) from None
    return tree


def proven_chunks(
    source: LogSource, tree: Tree, signed: SignedCheckpoint, advance: Callable[[int], None] = lambda _: None
) -> Iterator[Chunk]:
    """The leaves after those of ``tree`` up to the checkpoint's last, in chunks that end with a block.

    ``advance`` is told how many leaves more were read. Holds one chunk in memory; about 2 µs a leaf.
    Raises LogDiffers, with the checkpoint as evidence, when the leaves that the node gives are not those
    under its signature; Unavailable.
    """
    goal = signed.checkpoint
    entries = source.entries(tree.size, goal.size) if tree.size < goal.size else iter(())
    held: list[bytes] = []
    held_bytes = 0
    while tree.size < goal.size:
        try:
            more = list(islice(entries, _PORTION))
        except (AnswerWrong, OutOfRange) as error:
            raise _differs(tree.size, signed, error.what) from None
        held += more
        held_bytes += sum(map(len, more))
        advance(len(more))
        ended = len(more) < _PORTION
        if ended and tree.size + len(held) != goal.size:
            raise _differs(tree.size, signed, f"the node gave {tree.size + len(held)} of {goal.size} leaves")
        if not (ended or len(held) >= CHUNK_LEAVES or held_bytes >= CHUNK_BYTES):
            continue
        end = _after_last_seal(held)
        if end == 0:
            raise _differs(tree.size, signed, f"no block ends within {len(held)} leaves")
        leaves, held = held[:end], held[end:]
        held_bytes = sum(map(len, held))
        first = tree.size
        tree, _ = tree.append(leaf_hashes(leaves))
        _prove(source, tree, first, signed)
        yield Chunk(first, leaves, tree)


def _prove(source: LogSource, tree: Tree, first: int, signed: SignedCheckpoint) -> None:
    """Raises LogDiffers unless ``tree`` is the beginning of the checkpoint's."""
    goal: Checkpoint = signed.checkpoint
    try:
        if tree.size < goal.size:
            path = source.consistency(tree.size, goal.size).path
            verify_consistency(tree.size, tree.root(), goal.size, goal.root, path)
        elif (tree.size, tree.root()) != (goal.size, goal.root):
            raise ProofInvalid("their root is another than the signed one")
    except _UNPROVEN as error:
        raise _differs(first, signed, error.what) from None


def _differs(first: int, signed: SignedCheckpoint, why: str) -> LogDiffers:
    return LogDiffers(
        f"the leaves that the node gives from index {first} on are not those under its signature ({why})",
        where="log",
        fix="something is left out or altered: compare with another node, and tell the authority",
        evidence=(signed.data,),
    )


def _after_last_seal(leaves: list[bytes]) -> int:
    """The position after the last SEAL; 0 when there is none."""
    return next((end for end in range(len(leaves), 0, -1) if leaves[end - 1][:2] == _SEAL), 0)
