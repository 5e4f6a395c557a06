"""The registry: who may do what, as all REGISTRY leaves so far have made it.

An immutable value; ``registry_changes`` makes it from the genesis change, and from each later one.
Its root is over the ledger record, the agencies by number, the document types by number, in that
order, and stands in every seal. Format: docs/format.md, section Registry.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from ledger.changes import AUTHORITY, Subject
from ledger.errors import (
    KeyReused,
    UnknownAgency,
    UnknownType,
)
from ledger.hashing import leaf_hash
from ledger.leaves import NONE
from ledger.merkle_list import MerkleList
from ledger.registry_records import (
    Agency,
    LedgerRecord,
    TypeRecord,
)
from ledger.signatures import check_public_key, key_fingerprints


@dataclass(frozen=True, slots=True)
class Registry:
    """``genesis`` is G. ``fingerprints``: of every public key ever registered, alone or as half of one."""

    genesis: bytes
    ledger: LedgerRecord
    agencies: Mapping[int, Agency]
    types: Mapping[int, TypeRecord]
    fingerprints: frozenset[bytes]
    tree: MerkleList

    @classmethod
    def of(
        cls,
        genesis: bytes,
        ledger: LedgerRecord,
        agencies: Iterable[Agency],
        types: Iterable[TypeRecord],
    ) -> Registry:
        """Put a registry together from its records, as they are stored. One hash a record."""
        by_number = {agency.record.number: agency for agency in agencies}
        types_by_number = {one.number: one for one in types}
        keys = [(key.algorithm, key.public_key) for key in ledger.authority_keys]
        for agency in by_number.values():
            keys += [(key.algorithm, key.public_key) for key in agency.keys]
        fingerprints = {one for algorithm, key in keys for one in key_fingerprints(algorithm, key)}
        registry = cls(genesis, ledger, by_number, types_by_number, frozenset(fingerprints), MerkleList())
        return registry._hashed()

    def _hashed(self) -> Registry:
        records = [self.ledger.encode()]
        records += [self.agencies[n].record.encode() for n in range(1, len(self.agencies) + 1)]
        records += [self.types[n].encode() for n in range(1, len(self.types) + 1)]
        return replace(self, tree=MerkleList.of(map(leaf_hash, records)))

    @property
    def root(self) -> bytes:
        return self.tree.root

    def agency(self, number: int) -> Agency:
        """Raises UnknownAgency."""
        found = self.agencies.get(number)
        if found is None:
            raise UnknownAgency(f"agency {number} is not enrolled", fix="have the authority enrol it first")
        return found

    def document_type(self, number: int) -> TypeRecord:
        """Raises UnknownType."""
        found = self.types.get(number)
        if found is None:
            raise UnknownType(f"document type {number} is not defined")
        return found

    def changed(self, subject: Subject) -> int:
        """Index of the last REGISTRY leaf on a subject: the ``previous`` of its next change."""
        if subject.kind == "ledger":
            return self.ledger.changed
        if subject.kind == "agency" and subject.number in self.agencies:
            return self.agencies[subject.number].record.changed
        if subject.kind == "type" and subject.number in self.types:
            return self.types[subject.number].defined
        return NONE

    def position(self, subject: Subject) -> int:
        """Where the subject's record stands in the registry tree."""
        if subject.kind == "ledger":
            return 0
        if subject.kind == "agency":
            return self.agency(subject.number).record.number
        return len(self.agencies) + self.document_type(subject.number).number

    def record(self, subject: Subject) -> bytes:
        """The subject's current record. Raises UnknownAgency or UnknownType."""
        if subject.kind == "ledger":
            return self.ledger.encode()
        if subject.kind == "agency":
            return self.agency(subject.number).record.encode()
        return self.document_type(subject.number).encode()

    def is_above(self, senior: int, junior: int) -> bool:
        """Whether ``senior`` is the authority or an ancestor of ``junior``, now."""
        while junior != AUTHORITY:
            junior = self.agency(junior).record.parent.latest
            if junior == senior:
                return True
        return False

    def depth(self, number: int) -> int:
        """How many steps an agency stands under the authority: 1 for one that it enrolled itself."""
        steps = 0
        while number != AUTHORITY:
            number = self.agency(number).record.parent.latest
            steps += 1
        return steps

    # --- the next registry ---

    def with_ledger(self, record: LedgerRecord) -> Registry:
        return replace(self, ledger=record, tree=self.tree.set(0, leaf_hash(record.encode())))

    def with_agency(self, agency: Agency) -> Registry:
        number = agency.record.number
        agencies = {**self.agencies, number: agency}
        hashed = leaf_hash(agency.record.encode())
        if number in self.agencies:
            return replace(self, agencies=agencies, tree=self.tree.set(number, hashed))
        ledger = replace(self.ledger, agencies=len(agencies))
        hashes = self.tree.hashes
        tree = MerkleList.of((leaf_hash(ledger.encode()), *hashes[1:number], hashed, *hashes[number:]))
        return replace(self, agencies=agencies, ledger=ledger, tree=tree)

    def with_type(self, record: TypeRecord) -> Registry:
        types = {**self.types, record.number: record}
        tree = self.tree.set(len(self.tree), leaf_hash(record.encode()))
        return replace(self, types=types, tree=tree).with_ledger(replace(self.ledger, types=len(types)))

    def with_fingerprints(self, keys: Iterable[tuple[int, bytes]]) -> Registry:
        """Register public keys, each once ever. Raises KeyReused, SignatureInvalid for weak keys."""
        known = set(self.fingerprints)
        for algorithm, public_key in keys:
            check_public_key(algorithm, public_key)
            fingerprints = key_fingerprints(algorithm, public_key)
            if not known.isdisjoint(fingerprints):
                raise KeyReused("this public key has been registered before", fix="generate a key of its own")
            known.update(fingerprints)
        return replace(self, fingerprints=frozenset(known))
