"""Leaves that are proven to stand under one checkpoint, read from static resources.

Everything fetched is checked against the checkpoint's root before it is given.
"""

from __future__ import annotations

from typing import Final

from ledger.checkpoints import SignedCheckpoint, open_checkpoint
from ledger.errors import OutOfRange
from ledger.hashing import leaf_hash
from ledger.proofs import prove_verified
from ledger.receipts import ProvenLeaf
from ledger.resources import LogTiles, Resources, fetch_leaves
from ledger.seals import Seal
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
        self.signed: SignedCheckpoint = open_checkpoint(checkpoint, ledger.origin, ledger.log_keys)
        self._nodes = TileNodeReader(LogTiles(resources), self.size)
        self._bundles: dict[int, list[bytes]] = {}
        self.seal_proof = self.leaf(self.size - 1)
        self.seal = Seal.decode(self.seal_proof.leaf)

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
