"""Builds receipts from static resources: tiles, status chunk, registry records, checkpoint.

What a checkpoint commits to is fetched once for all receipts of that checkpoint; a receipt more
then costs the tiles that its own path needs. Everything fetched is checked against the
checkpoint's root before it is used, so a receipt that was built is a receipt that verifies.
"""

from __future__ import annotations

from ledger.checkpoints import SignedCheckpoint, open_checkpoint
from ledger.documents import Disclosure
from ledger.errors import CommitmentMismatch, OutOfRange, ProofInvalid
from ledger.hashing import leaf_hash
from ledger.leaves import LeafType, leaf_type
from ledger.merkle_list import MerkleList
from ledger.proofs import prove_inclusion, prove_verified, verify_inclusion
from ledger.receipts import (
    ProvenChunk,
    ProvenLeaf,
    ProvenRecord,
    ProvenSubmission,
    Receipt,
    RegistryProof,
)
from ledger.records import MAX_RECORDS, Issue
from ledger.registry_records import AgencyRecord, LedgerRecord
from ledger.resources import (
    LogTiles,
    RegistryTiles,
    Resources,
    fetch_leaves,
    fetch_record,
    fetch_status_chunk,
    fetch_status_list,
    registry_ledger_path,
)
from ledger.seals import Seal
from ledger.status import chunk_count, chunk_of
from ledger.submissions import SubmissionLeaf
from ledger.tiles import TILE_WIDTH, TileNodeReader
from ledger.trust import TrustedLedger


class ReceiptBuilder:
    """Receipts as of one checkpoint. Raises CheckpointUntrusted unless the trusted ledger signed it."""

    def __init__(self, resources: Resources, ledger: TrustedLedger, checkpoint: bytes) -> None:
        self._resources = resources
        self._ledger = ledger
        self._signed: SignedCheckpoint = open_checkpoint(checkpoint, ledger.origin, ledger.log_keys)
        self._nodes = TileNodeReader(LogTiles(resources), self.size)
        self._bundles: dict[int, list[bytes]] = {}
        self._chunks: dict[int, ProvenChunk] = {}
        self._agencies: dict[int, tuple[ProvenRecord, AgencyRecord]] = {}
        self._keys: dict[tuple[int, int], ProvenRecord] = {}
        self._types: dict[int, ProvenRecord] = {}
        self._submissions: dict[int, tuple[ProvenLeaf, list[bytes]]] = {}
        self.seal_proof = self.leaf(self.size - 1)
        self.seal = Seal.decode(self.seal_proof.leaf)
        self._status_list = self._fetch_status_list()
        self._ledger_proof = self._fetch_ledger()

    @property
    def size(self) -> int:
        return self._signed.checkpoint.size

    def build(self, document: Disclosure, index: int) -> Receipt:
        """The receipt of the document that was logged at ``index``.

        Raises CommitmentMismatch when that leaf is another document's, ProofInvalid when what was
        fetched does not agree with the checkpoint.
        """
        issue = self.leaf(index)
        record = Issue.decode(issue.leaf)
        if record.commitment != document.commitment(self._ledger.genesis):
            raise CommitmentMismatch(f"leaf {index} is of another document")
        submission = self._submission_over(index)
        head = SubmissionLeaf.decode(submission.head.leaf)
        agency_proof, agency = self._agency(record.agency)
        return Receipt(
            genesis=self._ledger.genesis,
            document=document,
            checkpoint=self._signed.data,
            issue=issue,
            seal=self.seal_proof,
            status=self._chunk(index),
            submission=submission,
            registry=RegistryProof(
                ledger=self._ledger_proof,
                agency=agency_proof,
                keys=tuple(self._key(agency, one.number) for one in head.signatures),
                document_type=self._type(record.document_type) if record.document_type else None,
            ),
        )

    def leaf(self, index: int) -> ProvenLeaf:
        """A leaf with its inclusion path, both checked against the checkpoint's root."""
        if not 0 <= index < self.size:
            raise OutOfRange(f"leaf {index} is not in a tree of {self.size} leaves")
        leaf = self._raw_leaf(index)
        root = self._signed.checkpoint.root
        path = prove_verified(self._nodes, leaf_hash(leaf), index, self.size, root)
        return ProvenLeaf(index, leaf, tuple(path))

    def _raw_leaf(self, index: int) -> bytes:
        number = index // TILE_WIDTH
        if number not in self._bundles:
            start = number * TILE_WIDTH
            end = min(start + TILE_WIDTH, self.size)
            self._bundles[number] = fetch_leaves(self._resources, start, end, self.size)
        return self._bundles[number][index % TILE_WIDTH]

    # --- the submission ---

    def _submission_over(self, index: int) -> ProvenSubmission:
        for at in range(index - 1, max(index - 1 - MAX_RECORDS, -1), -1):
            if leaf_type(self._raw_leaf(at)) is LeafType.SUBMISSION:
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
            records = [self._raw_leaf(i) for i in range(at + 1, min(at + 1 + count, self.size))]
            self._submissions[at] = head, records
        return self._submissions[at]

    # --- the status list ---

    def _fetch_status_list(self) -> MerkleList:
        hashes = fetch_status_list(self._resources, self.seal.status_root, chunk_count(self.size))
        tree = MerkleList.of(hashes)
        if tree.root != self.seal.status_root:
            raise ProofInvalid("the status list does not have the root that the seal names")
        return tree

    def _chunk(self, index: int) -> ProvenChunk:
        number = chunk_of(index)
        if number not in self._chunks:
            chunk = fetch_status_chunk(self._resources, self._status_list.hashes[number])
            self._chunks[number] = ProvenChunk(chunk, tuple(self._status_list.path(number)))
        return self._chunks[number]

    # --- the registry ---

    def _fetch_ledger(self) -> ProvenRecord:
        record = self._resources.fetch(registry_ledger_path(self.seal.registry_root))
        counts = LedgerRecord.decode(record)
        self._agency_count = counts.agencies
        self._record_count = 1 + counts.agencies + counts.types
        self._registry_nodes = TileNodeReader(
            RegistryTiles(self._resources, self.seal.registry_root), self._record_count
        )
        root, size = self.seal.registry_root, self._record_count
        path = prove_verified(self._registry_nodes, leaf_hash(record), 0, size, root)
        return ProvenRecord(record, tuple(path))

    def _agency(self, number: int) -> tuple[ProvenRecord, AgencyRecord]:
        if number not in self._agencies:
            proof = self._record(number)
            self._agencies[number] = proof, AgencyRecord.decode(proof.record)
        return self._agencies[number]

    def _type(self, number: int) -> ProvenRecord:
        if number not in self._types:
            self._types[number] = self._record(self._agency_count + number)
        return self._types[number]

    def _record(self, position: int) -> ProvenRecord:
        return self._small_tree_record(
            self._registry_nodes, self.seal.registry_root, position, self._record_count
        )

    def _key(self, agency: AgencyRecord, number: int) -> ProvenRecord:
        key = (agency.number, number)
        if key not in self._keys:
            tiles = RegistryTiles(self._resources, agency.keys_root)
            nodes = TileNodeReader(tiles, agency.key_count)
            self._keys[key] = self._small_tree_record(nodes, agency.keys_root, number - 1, agency.key_count)
        return self._keys[key]

    def _small_tree_record(
        self, nodes: TileNodeReader, root: bytes, position: int, size: int
    ) -> ProvenRecord:
        if not 0 <= position < size:
            raise ProofInvalid(f"the registry has no record at position {position}")
        (record_hash,) = nodes.nodes([(0, position)])
        record = fetch_record(self._resources, record_hash)
        path = prove_inclusion(nodes, position, size)
        verify_inclusion(leaf_hash(record), position, size, path, root)
        return ProvenRecord(record, tuple(path))
