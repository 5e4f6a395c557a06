"""The status list as of one checkpoint: each chunk proven under the root that the newest seal names."""

from __future__ import annotations

from ledger.errors import ProofInvalid
from ledger.merkle_list import MerkleList
from ledger.proven_log import ProvenLog
from ledger.receipts import ProvenChunk
from ledger.records import Status
from ledger.resources import Resources, fetch_status_chunk, fetch_status_list
from ledger.status import chunk_count, chunk_of, read_status


class ProvenStatus:
    """Raises ProofInvalid, here and in every method, when what is fetched is not what the seal names.

    A chunk is fetched once, and serves 65,536 indexes. An index that bears no subject reads as valid.
    """

    def __init__(self, resources: Resources, log: ProvenLog) -> None:
        self._resources = resources
        root = log.seal.status_root
        self._list = MerkleList.of(fetch_status_list(resources, root, chunk_count(log.size)))
        if self._list.root != root:
            raise ProofInvalid("the status list does not have the root that the seal names")
        self._chunks: dict[int, ProvenChunk] = {}

    def chunk(self, index: int) -> ProvenChunk:
        """The chunk that covers a leaf, with its path to the status root."""
        number = chunk_of(index)
        if number not in self._chunks:
            chunk = fetch_status_chunk(self._resources, self._list.hashes[number])
            self._chunks[number] = ProvenChunk(chunk, tuple(self._list.path(number)))
        return self._chunks[number]

    def status(self, index: int) -> Status:
        """The status of leaf ``index``, which has to be proven itself."""
        return read_status(self.chunk(index).chunk, index)
