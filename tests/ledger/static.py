"""The static resources of a ledger in memory: what a node serves, without the node.

Built from the transitions of the rules alone, each path answered with bytes, so that receipts and
the verifier are tested against the same interface that a browser has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ledger.checkpoints import Checkpoint, sign_checkpoint
from ledger.errors import SudurError
from ledger.hashing import leaf_hash, leaf_hashes, merkle_root
from ledger.leaves import LeafType
from ledger.merkle_list import MerkleList
from ledger.registry import Registry
from ledger.resources import (
    CHECKPOINT,
    EVENTS_SPAN,
    Event,
    checkpoint_path,
    encode_events,
    registry_ledger_path,
    registry_record_path,
    registry_tile_path,
    status_chunk_path,
    status_events_path,
    status_list_path,
)
from ledger.signatures import Signer
from ledger.state import State, Transition
from ledger.status import EMPTY_CHUNK, compress_chunk
from ledger.tiles import TILE_WIDTH, encode_bundle, entries_path
from ledger.tree import Tree


class Missing(SudurError):
    code = "NOT_FOUND"


@dataclass
class StaticLedger:
    """Serves every resource of every block that was added."""

    origin: str
    signers: Sequence[Signer]
    tree: Tree = field(default_factory=Tree.empty)
    leaves: list[bytes] = field(default_factory=list)
    chunks: dict[int, bytes] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    fetched: list[str] = field(default_factory=list)
    attests: list[Event] = field(default_factory=list)
    statuses: dict[int, Event] = field(default_factory=dict)

    def add(self, transition: Transition) -> None:
        self.tree, tiles = self.tree.append(transition.leaf_hashes)
        self.leaves += transition.leaves
        for tile in tiles:
            self.files[tile.id.path()] = tile.data
        first = transition.first_index // TILE_WIDTH
        for number in range(first, -(-len(self.leaves) // TILE_WIDTH)):
            bundle = self.leaves[number * TILE_WIDTH : (number + 1) * TILE_WIDTH]
            self.files[entries_path(number, len(bundle))] = encode_bundle(bundle)
        self.chunks.update(transition.status_chunks)
        for subject, index in transition.attested:
            self.attests.append(Event(subject, LeafType.ATTEST, index))
        for subject, index in transition.statuses.items():
            self.statuses[subject] = Event(subject, LeafType.STATUS, index)
        for number in range(-(-len(self.leaves) // EVENTS_SPAN)):
            here = sorted(
                (
                    one
                    for one in (*self.attests, *self.statuses.values())
                    if one.subject // EVENTS_SPAN == number
                ),
                key=lambda one: (one.subject, one.index),
            )
            self.files[status_events_path(number)] = encode_events(here)
        self._add_status(transition.state)
        self._add_registry(transition.state.registry)
        note = sign_checkpoint(Checkpoint(self.origin, self.tree.size, self.tree.root()), self.signers)
        self.files[CHECKPOINT] = self.files[checkpoint_path(self.tree.size)] = note

    def fetch(self, path: str) -> bytes:
        self.fetched.append(path)
        if path not in self.files:
            raise Missing(f"no resource {path}")
        return self.files[path]

    def root_at(self, size: int) -> bytes:
        """The root of the first ``size`` leaves."""
        return merkle_root(leaf_hashes(self.leaves[:size]))

    @property
    def checkpoint(self) -> bytes:
        return self.files[CHECKPOINT]

    def _add_status(self, state: State) -> None:
        self.files[status_list_path(state.status.root)] = b"".join(state.status.hashes)
        for number in range(len(state.status)):
            chunk = self.chunks.get(number, EMPTY_CHUNK)
            self.files[status_chunk_path(leaf_hash(chunk))] = compress_chunk(chunk)

    def _add_registry(self, registry: Registry) -> None:
        self.files[registry_ledger_path(registry.root)] = registry.ledger.encode()
        records = [registry.ledger.encode()]
        for number in range(1, len(registry.agencies) + 1):
            agency = registry.agencies[number]
            records.append(agency.record.encode())
            keys = [key.encode() for key in agency.keys]
            self._add_small_tree(agency.key_tree, keys)
        records += [registry.types[number].encode() for number in range(1, len(registry.types) + 1)]
        self._add_small_tree(registry.tree, records)

    def _add_small_tree(self, tree: MerkleList, records: Sequence[bytes]) -> None:
        for record in records:
            self.files[registry_record_path(leaf_hash(record))] = record
        hashes, level = list(tree.hashes), 0
        while hashes:
            for number in range(-(-len(hashes) // TILE_WIDTH)):
                row = hashes[number * TILE_WIDTH : (number + 1) * TILE_WIDTH]
                self.files[registry_tile_path(tree.root, level, number, len(row))] = b"".join(row)
            full = len(hashes) // TILE_WIDTH
            hashes = [MerkleList.of(hashes[n * TILE_WIDTH : (n + 1) * TILE_WIDTH]).root for n in range(full)]
            level += 1
