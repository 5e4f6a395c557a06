"""A pack that was proven as a whole: every hash, status and record in it leads to one trusted checkpoint.

What that checkpoint is worth on the day, by witnesses and age, is asked anew for each document.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ledger.attribution import Sealed
from ledger.checkpoints import SignedCheckpoint
from ledger.checks import check_ledger_record
from ledger.errors import (
    PackBehind,
    PackFormatError,
    PathMissing,
    ProofInvalid,
    RulesVersionUnknown,
    UnknownAgency,
    UnknownType,
)
from ledger.hashing import HASH_SIZE, leaf_hash, leaf_hashes, merkle_root
from ledger.pack_bytes import split
from ledger.pack_deltas import pack_root
from ledger.packs import Form, Pack
from ledger.proofs import root_from_inclusion
from ledger.records import UNDECLARED_TYPE, Status
from ledger.registry_records import AgencyRecord, LedgerRecord, TypeRecord
from ledger.rules import SUPPORTED
from ledger.seals import Seal
from ledger.status import EMPTY_CHUNK, EMPTY_CHUNK_HASH, chunk_count, chunk_of, read_status
from ledger.tiles import FULL_TILE_BYTES, TILE_WIDTH, TileReader
from ledger.trust import Trust, TrustedLedger

_FIX: Final = "get a new pack"


class OpenedPack:
    """A proven pack. ``leaves``: where the leaf hashes of its full runs are read, in the leaves form.

    Those are not read before they are needed: each run is held against its root then.
    """

    def __init__(
        self,
        pack: Pack,
        ledger: TrustedLedger,
        signed: SignedCheckpoint,
        sealed: Sealed,
        record: LedgerRecord,
        leaves: TileReader | None,
    ) -> None:
        """Use :func:`open_pack`."""
        self.pack = pack
        self.ledger = ledger
        self.signed = signed
        self.sealed = sealed
        self.record = record
        self._leaves = leaves
        self._agencies: dict[int, AgencyRecord] = {}
        self._types: dict[int, TypeRecord] = {}

    @property
    def size(self) -> int:
        return self.pack.size

    @property
    def as_of_ms(self) -> int:
        """The time of its seal."""
        return self.sealed.seal.time_ms

    def agency(self, number: int) -> AgencyRecord:
        """Raises UnknownAgency, ProofInvalid for a record in another's place."""
        if number not in self._agencies:
            if not 1 <= number <= len(self.pack.records.agencies):
                raise UnknownAgency(f"agency {number} is not enrolled, as of size {self.size}")
            record = AgencyRecord.decode(self.pack.records.agencies[number - 1])
            if record.number != number:
                raise ProofInvalid(f"in the place of agency {number} stands another record")
            self._agencies[number] = record
        return self._agencies[number]

    def type(self, number: int) -> TypeRecord | None:
        """None for type 0. Raises UnknownType, ProofInvalid for a record in another's place."""
        if number == UNDECLARED_TYPE:
            return None
        if number not in self._types:
            if not 1 <= number <= len(self.pack.records.types):
                raise UnknownType(f"document type {number} is not defined, as of size {self.size}")
            record = TypeRecord.decode(self.pack.records.types[number - 1])
            if record.number != number:
                raise ProofInvalid(f"in the place of type {number} stands another record")
            self._types[number] = record
        return self._types[number]

    def status(self, index: int) -> Status:
        """The status of a leaf below ``size``, which has to be proven itself."""
        return read_status(self.pack.statuses.get(chunk_of(index), EMPTY_CHUNK), index)

    def check_leaf(self, index: int, leaf: bytes, path: tuple[bytes, ...] = ()) -> str:
        """That a leaf stands at ``index``; returns what showed it. About 20 µs, or 150 for a run of leaves.

        ``path``: the 8 hashes from the leaf to the root of its run, if they are known. Raises ProofInvalid;
        PackBehind when the pack ends below the index, PathMissing when only a path could show it, and
        PackFormatError when the pack's own leaves are damaged.
        """
        if index >= self.size:
            raise PackBehind(
                f"the pack ends at {self.size} leaves, this was logged at index {index}",
                fix="update the pack, or check it online",
            )
        found, run, position = leaf_hash(leaf), *divmod(index, TILE_WIDTH)
        if run == self.pack.full:
            held = split(self.pack.tail)[position]
            return _agree(held == found, index, f"its hash is in the pack, at index {index}")
        root = self.pack.subtrees[run * HASH_SIZE : (run + 1) * HASH_SIZE]
        if self._leaves is not None:
            held = self._run(self._leaves, run, root)[position]
            return _agree(held == found, index, f"its hash is in the pack, at index {index}")
        if not path:
            raise PathMissing(
                "the pack holds the roots of 256 leaves each, and no path to them is given",
                fix="check it online, or with a pack of the form leaves, or ask for a code with its path",
            )
        reached = root_from_inclusion(found, position, TILE_WIDTH, path)
        how = f"its path leads to the root of its 256 leaves, at index {index}"
        return _agree(reached == root, index, how)

    def check_leaves(self, tick: Callable[[int], None] = lambda _: None) -> None:
        """Hold every run of leaf hashes, if there are any, against its root: half a microsecond a leaf.

        ``tick`` is told of each run. Raises PackFormatError.
        """
        if self._leaves is None:
            return
        for run, root in enumerate(split(self.pack.subtrees)):
            self._run(self._leaves, run, root)
            tick(1)

    def _run(self, leaves: TileReader, run: int, root: bytes) -> tuple[bytes, ...]:
        hashes = leaves.tile(0, run, TILE_WIDTH)
        return check_run(hashes, run, root)

    def doubtful(self, agency: int, index: int) -> bool:
        """Whether a key of the agency is stolen since some leaf at or below ``index``, not affirmed there.

        Which key signed a leaf is not asked for here, so any of its agency's counts.
        """
        record = self.agency(agency)
        stolen = record.stolen_since is not None and record.stolen_since <= index
        return stolen and not record.affirmed_at(index)


def check_run(hashes: bytes, run: int, root: bytes) -> tuple[bytes, ...]:
    """The leaf hashes of a full run, held against its root. Raises PackFormatError."""
    found = split(hashes)
    if len(hashes) != FULL_TILE_BYTES or merkle_root(found) != root:
        raise PackFormatError(f"its leaf hashes of run {run} are damaged", where="pack", fix=_FIX)
    return found


def open_pack(pack: Pack, trust: Trust, leaves: TileReader | None = None) -> OpenedPack:
    """Prove a pack as a whole. Under a second for 17 million documents.

    Raises CheckpointUntrusted when no trusted ledger signed it, ProofInvalid when something in it does not
    lead to its checkpoint, RulesVersionUnknown, FormatError.
    """
    ledger = trust.ledger(pack.genesis)
    signed = ledger.open(pack.checkpoint)
    if pack_root(pack) != signed.checkpoint.root:
        raise ProofInvalid("its leaves do not have the root that the log signed", where="pack", fix=_FIX)
    seal = Seal.decode(pack.seal.leaf)
    if seal.rules not in SUPPORTED:
        raise RulesVersionUnknown(
            f"the ledger is under rules version {seal.rules}", fix="update this program and try again"
        )
    sealed = Sealed(pack.genesis, signed.checkpoint, seal)
    sealed.check_seal(pack.seal)
    ledger.check_time(pack.size, seal.time_ms)
    if status_root(pack) != seal.status_root:
        raise ProofInvalid("its statuses are not those under the seal", where="pack", fix=_FIX)
    if merkle_root(leaf_hashes(pack.records.all)) != seal.registry_root:
        raise ProofInvalid("its registry is not the one under the seal", where="pack", fix=_FIX)
    record = LedgerRecord.decode(pack.records.ledger)
    check_ledger_record(record, ledger, signed)
    return OpenedPack(pack, ledger, signed, sealed, record, leaves if pack.form is Form.LEAVES else None)


def status_root(pack: Pack) -> bytes:
    """The root over its status chunks; each that is not empty is hashed."""
    hashes = [EMPTY_CHUNK_HASH] * chunk_count(pack.size)
    for number, chunk in pack.statuses.items():
        hashes[number] = leaf_hash(chunk)
    return merkle_root(hashes)


def _agree(same: bool, index: int, how: str) -> str:
    if not same:
        raise ProofInvalid(
            f"what stands at index {index} of the ledger is something else",
            fix="it was altered, or never issued: do not accept it",
        )
    return how
