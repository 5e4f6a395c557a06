"""Leaves that are proven to stand under one checkpoint, read from static resources.

Everything fetched is checked against the checkpoint's root before it is given.
"""

from __future__ import annotations

from typing import Final

from ledger.checkpoints import SignedCheckpoint
from ledger.errors import OutOfRange, ProofInvalid
from ledger.hashing import leaf_hash
from ledger.leaves import LeafType, leaf_type
from ledger.merkle_list import MerkleList
from ledger.proofs import prove_verified
from ledger.receipts import ProvenLeaf, ProvenSubmission
from ledger.records import MAX_RECORDS
from ledger.resources import LogTiles, Resources, fetch_leaves
from ledger.seals import Seal
from ledger.submissions import SubmissionLeaf
from ledger.tiles import TILE_WIDTH, TileNodeReader
from ledger.trust import TrustedLedger

_KEPT_BUNDLES: Final = 64


class ProvenLog:
    """The log as of one checkpoint, with the seal that it ends in.

    Raises CheckpointUntrusted unless the trusted ledger signed the checkpoint, ProofInvalid when what is
    fetched does not agree with it. Whether its witness policy is met is the verifier's question.
    """

    def __init__(self, resources: Resources, ledger: TrustedLedger, checkpoint: bytes) -> None:
        self._resources = resources
        self.signed: SignedCheckpoint = ledger.open(checkpoint)
        self._nodes = TileNodeReader(LogTiles(resources), self.size)
        self._bundles: dict[int, list[bytes]] = {}
        self._submissions: dict[int, tuple[ProvenLeaf, list[bytes]]] = {}
        self.seal_proof = self.leaf(self.size - 1)
        self.seal = Seal.decode(self.seal_proof.leaf)
        ledger.check_time(self.size, self.seal.time_ms)

    @property
    def size(self) -> int:
        return self.signed.checkpoint.size

    def leaf(self, index: int) -> ProvenLeaf:
        """A leaf with its inclusion path. Raises OutOfRange, ProofInvalid."""
        leaf = self.raw_leaf(index)
        root = self.signed.checkpoint.root
        path = prove_verified(self._nodes, leaf_hash(leaf), index, self.size, root)
        return ProvenLeaf(index, leaf, tuple(path))

    def raw_leaf(self, index: int) -> bytes:
        """A leaf as it was fetched, not proven. One bundle serves its 256 leaves. Raises OutOfRange."""
        if not 0 <= index < self.size:
            raise OutOfRange(f"leaf {index} is not in a tree of {self.size} leaves")
        number = index // TILE_WIDTH
        if number not in self._bundles:
            start = number * TILE_WIDTH
            end = min(start + TILE_WIDTH, self.size)
            if len(self._bundles) >= _KEPT_BUNDLES:
                self._bundles.pop(next(iter(self._bundles)))
            self._bundles[number] = fetch_leaves(self._resources, start, end, self.size)
        return self._bundles[number][index % TILE_WIDTH]

    def submission_over(self, index: int) -> ProvenSubmission:
        """The SUBMISSION that covers a record, with the record's path to its root. Raises ProofInvalid."""
        for at in range(index - 1, max(index - 1 - MAX_RECORDS, -1), -1):
            if leaf_type(self.raw_leaf(at)) is LeafType.SUBMISSION:
                head, records = self._submission(at)
                position = index - at - 1
                if position >= len(records):
                    break
                path = MerkleList.of(map(leaf_hash, records)).path(position)
                return ProvenSubmission(head, tuple(path))
        raise ProofInvalid(f"no submission covers leaf {index}")

    def _submission(self, at: int) -> tuple[ProvenLeaf, list[bytes]]:
        if at not in self._submissions:
            head = self.leaf(at)
            count = SubmissionLeaf.decode(head.leaf).count
            end = min(at + 1 + count, self.size)
            self._submissions[at] = head, [self.raw_leaf(i) for i in range(at + 1, end)]
        return self._submissions[at]
