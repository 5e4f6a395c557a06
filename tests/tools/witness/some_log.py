"""A C2SP log in memory, honest or not, for tests of witnesses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256

from ledger.checkpoints import Checkpoint, format_checkpoint
from ledger.hashing import leaf_hash, merkle_root
from ledger.notes import NamedSigner, sign_note
from ledger.proofs import prove_consistency
from ledger.signatures import Ed25519Signer
from ledger.tiles import NodeId
from ledger.witnessing import format_add_checkpoint
from tools.witness.logs import WitnessedLog


def signer(name: str) -> Ed25519Signer:
    """The key of this name; the same in every run."""
    return Ed25519Signer(sha256(b"test key " + name.encode()).digest())


class SomeLog:
    """``branch``: what its leaves are made of, from leaf ``fork`` on; two branches are a split view."""

    def __init__(self, origin: str = "log.example/one", *, branch: str = "", fork: int = 0) -> None:
        self.origin = origin
        self.signer = NamedSigner(origin, signer(origin))
        self._branch = branch
        self._fork = fork
        self._hashes: list[bytes] = []

    def forked(self, at: int, branch: str = "other") -> SomeLog:
        """The same log, by the same key, with other leaves from ``at`` on."""
        return SomeLog(self.origin, branch=branch, fork=at)

    @property
    def witnessed(self) -> WitnessedLog:
        return WitnessedLog(self.origin, (self.signer.key(),))

    def checkpoint(self, size: int) -> Checkpoint:
        return Checkpoint(self.origin, size, merkle_root(self._leaves(size)))

    def note(self, size: int, *signers: NamedSigner) -> bytes:
        """The signed checkpoint of a size; by others than its own key where some are given."""
        return sign_note(format_checkpoint(self.checkpoint(size)), signers or (self.signer,))

    def note_with_root(self, size: int, root: bytes) -> bytes:
        return sign_note(format_checkpoint(replace(self.checkpoint(size), root=root)), (self.signer,))

    def proof(self, old: int, new: int) -> list[bytes]:
        self._leaves(new)
        return prove_consistency(self, old, new)

    def request(self, old: int, new: int, *signers: NamedSigner) -> bytes:
        """The body with which this log asks for a cosignature."""
        proof = self.proof(old, new) if old <= new else []
        return format_add_checkpoint(old, proof, self.note(new, *signers))

    def nodes(self, ids: Sequence[NodeId]) -> list[bytes]:
        """See :class:`ledger.tiles.NodeReader`."""
        return [merkle_root(self._hashes[index << height : (index + 1) << height]) for height, index in ids]

    def _leaves(self, size: int) -> list[bytes]:
        while len(self._hashes) < size:
            at = len(self._hashes)
            branch = self._branch if at >= self._fork else ""
            self._hashes.append(leaf_hash(f"{self.origin} {branch} {at}".encode()))
        return self._hashes[:size]
