"""The registry as of one checkpoint: each record proven under the root that the newest seal names.

Records are fetched from static resources when they are asked for, and each is checked on its way: its
hash, its path to the registry root (a key's: to its agency's key root), and that it is the record that
was asked for. So whatever is returned is what the log's signature commits to, whoever served it.
"""

from __future__ import annotations

from typing import Final, Protocol, TypeVar

from ledger.errors import KeyUnknown, ProofInvalid, UnknownAgency, UnknownType
from ledger.hashing import leaf_hash
from ledger.proofs import prove_verified
from ledger.proven_log import ProvenLog
from ledger.receipts import ProvenRecord
from ledger.registry_records import AgencyRecord, KeyRecord, LedgerRecord, TypeRecord
from ledger.resources import RegistryTiles, Resources, fetch_record, registry_ledger_path
from ledger.tiles import TileNodeReader
from ledger.trust import TrustedLedger

_LEDGER_POSITION: Final = 0


class ProvenRegistry:
    """Raises CheckpointUntrusted unless the trusted ledger signed the checkpoint; ProofInvalid and
    FormatError, here and in every method, when what is fetched is not what the checkpoint commits to.

    A record costs one fetch and the tiles of its path, once: 256 records share a tile. ``log`` gives
    proven leaves under the same checkpoint.
    """

    def __init__(self, resources: Resources, ledger: TrustedLedger, checkpoint: bytes) -> None:
        self._resources = resources
        self.log = ProvenLog(resources, ledger, checkpoint)
        self.root = self.log.seal.registry_root
        record = resources.fetch(registry_ledger_path(self.root))
        self.ledger = LedgerRecord.decode(record)
        self._size = 1 + self.ledger.agencies + self.ledger.types
        self._nodes = TileNodeReader(RegistryTiles(resources, self.root), self._size)
        path = prove_verified(self._nodes, leaf_hash(record), _LEDGER_POSITION, self._size, self.root)
        self.ledger_proof = ProvenRecord(record, tuple(path))
        self._proofs: dict[int, ProvenRecord] = {}
        self._agencies: dict[int, AgencyRecord] = {}
        self._key_nodes: dict[int, TileNodeReader] = {}
        self._keys: dict[tuple[int, int], ProvenRecord] = {}

    # --- records ---

    def agency(self, number: int) -> AgencyRecord:
        """Raises UnknownAgency."""
        if number not in self._agencies:
            record = AgencyRecord.decode(self.agency_proof(number).record)
            self._agencies[number] = _checked(record, record.number == number, f"agency {number}")
        return self._agencies[number]

    def key(self, agency: int, number: int) -> KeyRecord:
        """Raises UnknownAgency, KeyUnknown."""
        record = KeyRecord.decode(self.key_proof(agency, number).record)
        is_it = (record.agency, record.number) == (agency, number)
        return _checked(record, is_it, f"key {number} of agency {agency}")

    def keys(self, agency: int) -> tuple[KeyRecord, ...]:
        """All of an agency's keys by number, ended ones included. Raises UnknownAgency."""
        count = self.agency(agency).key_count
        return tuple(self.key(agency, number) for number in range(1, count + 1))

    def type(self, number: int) -> TypeRecord:
        """Raises UnknownType."""
        record = TypeRecord.decode(self.type_proof(number).record)
        return _checked(record, record.number == number, f"type {number}")

    # --- records with their paths, for receipts ---

    def agency_proof(self, number: int) -> ProvenRecord:
        """Raises UnknownAgency."""
        if not 1 <= number <= self.ledger.agencies:
            raise UnknownAgency(f"agency {number} is not enrolled, as of size {self.log.size}")
        return self._proof(number)

    def type_proof(self, number: int) -> ProvenRecord:
        """Raises UnknownType."""
        if not 1 <= number <= self.ledger.types:
            raise UnknownType(f"document type {number} is not defined, as of size {self.log.size}")
        return self._proof(self.ledger.agencies + number)

    def key_proof(self, agency: int, number: int) -> ProvenRecord:
        """The path leads to the agency's key root. Raises UnknownAgency, KeyUnknown."""
        key = (agency, number)
        if key not in self._keys:
            record = self.agency(agency)
            if not 1 <= number <= record.key_count:
                raise KeyUnknown(f"agency {agency} has no key {number}, as of size {self.log.size}")
            if agency not in self._key_nodes:
                tiles = RegistryTiles(self._resources, record.keys_root)
                self._key_nodes[agency] = TileNodeReader(tiles, record.key_count)
            nodes = self._key_nodes[agency]
            self._keys[key] = self._fetch(nodes, number - 1, record.key_count, record.keys_root)
        return self._keys[key]

    def _proof(self, position: int) -> ProvenRecord:
        if position not in self._proofs:
            self._proofs[position] = self._fetch(self._nodes, position, self._size, self.root)
        return self._proofs[position]

    def _fetch(self, nodes: TileNodeReader, position: int, size: int, root: bytes) -> ProvenRecord:
        (record_hash,) = nodes.nodes([(0, position)])
        path = prove_verified(nodes, record_hash, position, size, root)
        return ProvenRecord(fetch_record(self._resources, record_hash), tuple(path))


class _Record(Protocol):
    def encode(self) -> bytes: ...


_R = TypeVar("_R", bound=_Record)


def _checked(record: _R, is_it: bool, wanted: str) -> _R:
    """The log signs whatever it is given; a record in another's place is not believed for all that."""
    if not is_it:
        raise ProofInvalid(f"in the place of {wanted} stands another record")
    return record
