"""Merkle proofs of RFC 6962 (RFC 9162 sections 2.1.3 and 2.1.4): which nodes, made of them, checked.

A proof is a list of 32-byte hashes, as on the wire. Its shape follows from the numbers alone, so the
numbers must come from somewhere trusted (a signed checkpoint; a code): a path by itself does not fix an
index. Everything here takes sizes up to 2^64-1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ledger.errors import OutOfRange, ProofInvalid
from ledger.hashing import EMPTY_ROOT, HASH_SIZE, node_hash
from ledger.tiles import MAX_SIZE, NodeId, NodeReader


@dataclass(frozen=True, slots=True)
class ProofNodes:
    """The stored nodes that make up one proof, in the order of its hashes.

    A proof may need the node over the tree's right edge, which is not complete and so is not stored: it
    is hashed from the complete subtrees ``ids[begin:end]``, the largest and leftmost first. The other
    nodes are hashes of the proof as they are. ``begin == end`` when there is no such node.
    """

    ids: list[NodeId]
    begin: int
    end: int

    def path(self, hashes: Sequence[bytes]) -> list[bytes]:
        """The proof, from the hash of each of ``ids``; at most log2(size) hashes for the right edge."""
        if self.begin == self.end:
            return list(hashes)
        edge = hashes[self.end - 1]
        for i in range(self.end - 2, self.begin - 1, -1):
            edge = node_hash(hashes[i], edge)
        return [*hashes[: self.begin], edge, *hashes[self.end :]]


def inclusion_nodes(index: int, size: int) -> ProofNodes:
    """The nodes that prove leaf ``index`` in the tree of ``size`` leaves. Raises OutOfRange."""
    _check_index(index, size)
    return _audit_nodes(0, index, size)


def consistency_nodes(old: int, new: int) -> ProofNodes:
    """The nodes that prove that the tree of ``new`` leaves begins with that of ``old``.

    None when the sizes are equal or ``old`` is 0. Raises OutOfRange when ``old`` exceeds ``new``.
    """
    _check_sizes(old, new)
    if old in (0, new):
        return ProofNodes([], 0, 0)
    height, index = _last_complete(old)
    audit = _audit_nodes(height, index, new)
    if index == 0:
        return audit
    return ProofNodes([(height, index), *audit.ids], audit.begin + 1, audit.end + 1)


def prove_inclusion(reader: NodeReader, index: int, size: int) -> list[bytes]:
    """The inclusion proof of leaf ``index`` in the tree of ``size`` leaves, leaf to root; one read.

    Raises OutOfRange, and what the reader raises.
    """
    plan = inclusion_nodes(index, size)
    return plan.path(reader.nodes(plan.ids))


def prove_inclusions(reader: NodeReader, indexes: Sequence[int], size: int) -> list[list[bytes]]:
    """The inclusion proof of each index, in order; one read, each shared node once.

    Raises OutOfRange, and what the reader raises.
    """
    plans = [inclusion_nodes(index, size) for index in indexes]
    ids = list(dict.fromkeys(id_ for plan in plans for id_ in plan.ids))
    hashes = dict(zip(ids, reader.nodes(ids), strict=True))
    return [plan.path([hashes[id_] for id_ in plan.ids]) for plan in plans]


def prove_consistency(reader: NodeReader, old: int, new: int) -> list[bytes]:
    """The consistency proof between two sizes of a tree (RFC 9162 section 2.1.4.1); one read.

    Empty when the sizes are equal or ``old`` is 0. Raises OutOfRange, and what the reader raises.
    """
    plan = consistency_nodes(old, new)
    return plan.path(reader.nodes(plan.ids))


def prove_verified(reader: NodeReader, leaf_hash: bytes, index: int, size: int, root: bytes) -> list[bytes]:
    """An inclusion proof made from an untrusted reader, given only once it leads to a trusted ``root``.

    Raises ProofInvalid when the reader's nodes do not, OutOfRange, and what the reader raises.
    """
    path = prove_inclusion(reader, index, size)
    verify_inclusion(leaf_hash, index, size, path, root)
    return path


def verify_inclusion(leaf_hash: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> None:
    """Return if ``path`` shows the leaf at ``index`` of the tree with this size and root.

    At most 64 hashes. Raises ProofInvalid if it does not, OutOfRange for an index that the size lacks.
    """
    if root_from_inclusion(leaf_hash, index, size, path) != root:
        raise ProofInvalid(
            "the path does not lead to the root",
            where=f"inclusion of leaf {index} in a tree of size {size}",
            fix="fetch the proof again, for this index and checkpoint",
        )


def root_from_inclusion(leaf_hash: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """The root that ``path`` leads to (RFC 9162 section 2.1.3.2); proves nothing until compared.

    Raises ProofInvalid, before hashing, for a path of the wrong length or anything in it that is not 32
    bytes; OutOfRange for an index that the size lacks.
    """
    _check_index(index, size)
    where = "inclusion proof"
    _check_hashes([leaf_hash], where)
    return _climb(leaf_hash, index, size - 1, path, where)


def verify_consistency(old: int, old_root: bytes, new: int, new_root: bytes, path: Sequence[bytes]) -> None:
    """Return if ``path`` shows that the tree (new, new_root) begins with all of (old, old_root).

    RFC 9162 section 2.1.4.2, and for its missing case: every tree begins with the empty one, whose root is
    SHA-256 of nothing and whose proof is empty. At most 129 hashes. Raises ProofInvalid if it does not,
    OutOfRange when ``old`` exceeds ``new``.
    """
    _check_sizes(old, new)
    where = f"consistency of sizes {old} and {new}"
    _check_hashes([old_root, new_root], where)
    if old in (0, new):
        _check_length(path, 0, where)
        _check_root(old_root, EMPTY_ROOT if old == 0 else new_root, where)
        _check_root(new_root, EMPTY_ROOT if new == 0 else new_root, where)
        return
    height, index = _last_complete(old)
    last = (new - 1) >> height
    if index == 0:
        node, rest = old_root, path
    else:
        _check_length(path, 1 + _path_length(index, last), where)
        _check_hashes(path, where)
        node, rest = path[0], path[1:]
    _check_root(_climb(node, index, last, rest, where), new_root, where)
    _check_root(_climb_left(node, index, last, rest), old_root, where)


def _audit_nodes(height: int, index: int, size: int) -> ProofNodes:
    """The siblings on the way up from the complete node (height, index) to the root of ``size`` leaves."""
    inner = (index ^ ((size - 1) >> height)).bit_length()
    # Below the top of the inner part every sibling lies within the left half there, which is complete.
    ids: list[NodeId] = [(height + i, (index >> i) ^ 1) for i in range(inner - 1)]
    begin = len(ids)
    if inner:
        top = height + inner - 1
        ids += _complete_subtrees(((index >> (inner - 1)) + 1) << top, size)
    end = len(ids)
    above = index >> inner
    ids += [(height + inner + i, (above >> i) - 1) for i in range(above.bit_length()) if above >> i & 1]
    return ProofNodes(ids, begin, end)


def _complete_subtrees(start: int, end: int) -> list[NodeId]:
    """The complete subtrees that make up leaves [start, end), largest first; start a multiple of them all."""
    ids: list[NodeId] = []
    while start < end:
        height = (end - start).bit_length() - 1
        ids.append((height, start >> height))
        start += 1 << height
    return ids


def _last_complete(size: int) -> NodeId:
    """The smallest of the complete subtrees that make up a tree: the last one. Index 0: the whole tree."""
    height = (size & -size).bit_length() - 1
    return height, (size - 1) >> height


def _path_length(index: int, last: int) -> int:
    """How many siblings node ``index`` of a row that ends with ``last`` has on the way to the root."""
    inner = (index ^ last).bit_length()
    return inner + (index >> inner).bit_count()


def _climb(node: bytes, index: int, last: int, path: Sequence[bytes], where: str) -> bytes:
    """The root over ``node`` at ``index`` of a row that ends with ``last``; checks the path's shape first."""
    _check_length(path, _path_length(index, last), where)
    _check_hashes(path, where)
    inner = (index ^ last).bit_length()
    for sibling in path[:inner]:
        node = node_hash(sibling, node) if index & 1 else node_hash(node, sibling)
        index >>= 1
    for sibling in path[inner:]:
        node = node_hash(sibling, node)
    return node


def _climb_left(node: bytes, index: int, last: int, path: Sequence[bytes]) -> bytes:
    """The root over the row that ends with ``node`` itself: its left siblings only, from a checked path."""
    inner = (index ^ last).bit_length()
    for sibling in path[:inner]:
        if index & 1:
            node = node_hash(sibling, node)
        index >>= 1
    for sibling in path[inner:]:
        node = node_hash(sibling, node)
    return node


def _check_index(index: int, size: int) -> None:
    if not 0 <= index < size <= MAX_SIZE:
        raise OutOfRange(
            "the index is not in a tree of that size",
            where="inclusion proof",
            fix="ask for an index below the size, and a size below 2^64",
        )


def _check_sizes(old: int, new: int) -> None:
    if not 0 <= old <= new <= MAX_SIZE:
        raise OutOfRange(
            "the old size is not within the new one",
            where="consistency proof",
            fix="give the smaller size first, and sizes below 2^64",
        )


def _check_length(path: Sequence[bytes], want: int, where: str) -> None:
    if len(path) != want:
        raise ProofInvalid(
            f"{len(path)} hashes where {want} belong",
            where=where,
            fix="fetch the proof for these sizes",
        )


def _check_hashes(hashes: Sequence[bytes], where: str) -> None:
    if not (set(map(type, hashes)) <= {bytes} and set(map(len, hashes)) <= {HASH_SIZE}):
        raise ProofInvalid("something in it is not a 32-byte hash", where=where, fix="fetch the proof again")


def _check_root(found: bytes, want: bytes, where: str) -> None:
    if found != want:
        raise ProofInvalid(
            "the path does not lead to both roots",
            where=where,
            fix="keep both checkpoints: this may be a fork",
        )
