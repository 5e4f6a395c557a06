"""Makes evidence files from what an auditor has: signed heads, tiles, and a replay up to the block.

Whatever is made here is checked against the signed head on the way, so tiles that are not of that head
make no file. Whether it proves anything by itself is for ``evidence_verdict`` to say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ledger import rules
from ledger.checkpoints import SignedCheckpoint
from ledger.errors import BlockRefused, EvidenceProvesNothing, FormatError
from ledger.evidence import MAX_CHUNKS, MAX_EARLIER, BrokenBlock, Evidence, Fork, StateBefore, UnsealedHead
from ledger.exchanges import Exchange
from ledger.hashing import leaf_hash, leaf_hashes
from ledger.proofs import prove_consistency, prove_verified, verify_consistency
from ledger.receipts import ProvenLeaf
from ledger.records import StatusChange, parse_record
from ledger.run_proofs import prove_run, root_at, verify_run
from ledger.signing_policy import RecordKind
from ledger.state import Reader, State
from ledger.status import chunk_of
from ledger.tiles import NodeReader

_MAX_REASON: Final = 500


def prove_fork(
    small: SignedCheckpoint, large: SignedCheckpoint, nodes: NodeReader, genesis: ProvenLeaf | None
) -> Evidence | None:
    """Evidence that the two heads are of no one tree, None when they are of one.

    ``nodes`` are those of the larger one's tree; none are read at equal sizes. ``genesis``: leaf 0 proven
    under either. Raises ProofInvalid when the nodes are not of that tree: then nothing is shown
    either way.
    """
    if small.checkpoint.size > large.checkpoint.size:
        small, large = large, small
    one, other = small.checkpoint, large.checkpoint
    if one.size == other.size:
        root, proof = other.root, list[bytes]()
    else:
        root = root_at(nodes, one.size)
        proof = prove_consistency(nodes, one.size, other.size)
        verify_consistency(one.size, root, other.size, other.root, proof)
    if root == one.root:
        return None
    return Evidence(genesis, Fork(small.data, large.data, root, tuple(proof)))


def prove_unsealed(signed: SignedCheckpoint, last: bytes, nodes: NodeReader, genesis: bytes) -> Evidence:
    """Evidence that a head does not end in a SEAL. Raises ProofInvalid when ``last`` is not its last leaf."""
    size = signed.checkpoint.size
    return Evidence(
        prove_leaf(signed, nodes, 0, genesis),
        UnsealedHead(signed.data, prove_leaf(signed, nodes, size - 1, last)),
    )


def prove_leaf(signed: SignedCheckpoint, nodes: NodeReader, index: int, leaf: bytes) -> ProvenLeaf:
    """A leaf with its path to a head. Raises ProofInvalid, OutOfRange."""
    checkpoint = signed.checkpoint
    path = prove_verified(nodes, leaf_hash(leaf), index, checkpoint.size, checkpoint.root)
    return ProvenLeaf(index, leaf, tuple(path))


class UsedReader:
    """A Reader that remembers which leaves and status chunks its answers rest on."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.leaves: dict[int, bytes] = {}
        self.chunks: dict[int, bytes] = {}
        self.subjects: set[int] = set()

    def show(self, index: int) -> int:
        """Have a leaf among those that are shown."""
        self.leaves.setdefault(index, self._reader.leaf(index))
        return index

    def find_issues(self, keys: Sequence[bytes]) -> list[int | None]:
        found = self._reader.find_issues(keys)
        # The first one is what the rules stop at.
        for index in found:
            if index is not None:
                self.show(index)
                break
        return found

    def find_submission(self, claimed_ms: int, identity: bytes) -> int | None:
        return self._shown(self._reader.find_submission(claimed_ms, identity))

    def daily_count(self, agency: int, kind: RecordKind, day: int) -> int:
        return self._reader.daily_count(agency, kind, day)

    def leaf(self, index: int) -> bytes:
        return self.leaves[self.show(index)]

    def latest_status(self, subject: int) -> int | None:
        self.subjects.add(subject)
        self.status_chunk(chunk_of(subject))
        return self._shown(self._reader.latest_status(subject))

    def status_chunk(self, number: int) -> bytes:
        if number not in self.chunks:
            self.chunks[number] = self._reader.status_chunk(number)
        return self.chunks[number]

    def find_attest(self, leaf_hash: bytes) -> int | None:
        return self._shown(self._reader.find_attest(leaf_hash))

    def exchange(self, send: int) -> Exchange:
        exchange = self._reader.exchange(send)
        self._shown(exchange.received)
        self._shown(exchange.final)
        return exchange

    def _shown(self, index: int | None) -> int | None:
        return None if index is None else self.show(index)


@dataclass(frozen=True, slots=True)
class Refused:
    """A block that the rules refuse on top of ``before``, with what the refusal rests on.

    ``seal`` is the leaf before the block, None for block 0; ``earlier`` the leaves and ``chunks`` the status
    chunks that the rules asked for; ``reason`` their words.
    """

    before: State | None
    genesis: bytes
    seal: bytes | None
    leaves: tuple[bytes, ...]
    earlier: Mapping[int, bytes]
    chunks: Mapping[int, bytes]
    reason: str


def refusal(before: State | None, reader: Reader, leaves: Sequence[bytes]) -> Refused:
    """What a refused block's evidence is made of; ``reader`` is as of ``before``.

    Costs checking the block once more. Raises EvidenceProvesNothing when the rules take the block, and
    what the reader raises.
    """
    used = UsedReader(reader)
    try:
        rules.apply(before, used, leaves)
    except BlockRefused as error:
        reason = str(error)[:_MAX_REASON]
    else:
        raise EvidenceProvesNothing("the rules take this block")
    if before is None:
        return Refused(None, leaves[0], None, tuple(leaves), {}, {}, reason)
    for index in _claimed(leaves, used.subjects, before.size):
        used.show(index)
    seal = reader.leaf(before.seal_index)
    return Refused(before, reader.leaf(0), seal, tuple(leaves), used.leaves, used.chunks, reason)


def prove_block(refused: Refused, signed: SignedCheckpoint, nodes: NodeReader) -> Evidence:
    """Evidence against a refused block that stands under ``signed``, of whose tree ``nodes`` are.

    A path for each earlier leaf that decides. Raises ProofInvalid when the block is not under that head,
    and what the nodes' reader raises. Whether the file proves the breach by itself, or needs a replay, is
    for ``verify_evidence`` to say.
    """
    before = refused.before
    if before is None or refused.seal is None:
        first, run = 0, refused.leaves
    else:
        first, run = before.seal_index, (refused.seal, *refused.leaves)
    size, root = signed.checkpoint.size, signed.checkpoint.root
    path = prove_run(nodes, first, first + len(run), size)
    verify_run(leaf_hashes(run), first, size, path, root)
    earlier = sorted(refused.earlier.items())[:MAX_EARLIER]
    return Evidence(
        prove_leaf(signed, nodes, 0, refused.genesis),
        BrokenBlock(
            checkpoint=signed.data,
            first=first,
            run=run,
            path=tuple(path),
            before=None if before is None else _state_before(before, refused.chunks),
            earlier=tuple(prove_leaf(signed, nodes, index, leaf) for index, leaf in earlier),
            reason=refused.reason,
        ),
    )


def _claimed(leaves: Iterable[bytes], subjects: set[int], size: int) -> Iterable[int]:
    """What the block's STATUS leaves on these subjects take for the latest one: it may be none."""
    for leaf in leaves:
        try:
            record = parse_record(leaf)
        except FormatError:
            continue
        if isinstance(record, StatusChange) and record.subject in subjects and record.previous < size:
            yield record.previous


def _state_before(state: State, chunks: Mapping[int, bytes]) -> StateBefore:
    registry = state.registry
    agencies = [registry.agencies[number] for number in sorted(registry.agencies)]
    return StateBefore(
        records=(
            registry.ledger.encode(),
            *(agency.record.encode() for agency in agencies),
            *(registry.types[number].encode() for number in sorted(registry.types)),
        ),
        keys=tuple(tuple(key.encode() for key in agency.keys) for agency in agencies),
        status=state.status.hashes,
        chunks=tuple(sorted(chunks.items())[:MAX_CHUNKS]),
    )
