"""Makes packs, and what is new for those that are there, from static resources alone.

A node, a mirror or a directory will do: nothing fetched is believed before the pack that it makes is
proven. What an older pack has already is not fetched again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ledger.errors import PackBehind, ProofInvalid
from ledger.hashing import EMPTY_ROOT, HASH_SIZE, leaf_hash
from ledger.opened_pack import OpenedPack, check_run
from ledger.pack_bytes import split, statuses_in
from ledger.pack_deltas import Delta, changed_records, hash_counts
from ledger.packs import Form, Records
from ledger.proven_registry import ProvenRegistry
from ledger.resources import (
    LogTiles,
    Resources,
    check_record,
    check_status_chunk,
    fetch_all,
    fetch_status_list,
    registry_record_path,
    registry_tile_path,
    status_chunk_path,
)
from ledger.status import EMPTY_CHUNK, EMPTY_CHUNK_HASH, chunk_count
from ledger.tiles import TILE_WIDTH, tile_path, tile_width
from ledger.trust import TrustedLedger

_FORK: Final = "keep the pack and report it: this may be another history than the one that you were shown"


class PackBuilder:
    """Packs as of one checkpoint.

    Raises CheckpointUntrusted unless the trusted ledger signed it, ProofInvalid here and in every method
    when what is fetched does not agree with it, and the source's own errors.
    """

    def __init__(self, resources: Resources, ledger: TrustedLedger, checkpoint: bytes) -> None:
        self._resources = resources
        self._ledger = ledger
        self._registry = ProvenRegistry(resources, ledger, checkpoint)
        self._log = self._registry.log
        self._tiles = LogTiles(resources)

    @property
    def size(self) -> int:
        return self._log.size

    def delta(self, form: Form, old: OpenedPack | None) -> Delta:
        """What is new since a pack; all there is when there is none.

        Costs a fetch for 65,536 new leaves, for each status chunk and each record that changed, and one or
        two more. Raises PackBehind when the checkpoint is older than the pack; ProofInvalid when the leaves
        that the pack ended with are not there any more.
        """
        if old is not None and old.size > self.size:
            raise PackBehind(
                f"it shows {self.size} leaves, the pack has {old.size}",
                where="checkpoint",
                fix="take it from a server that is not behind",
            )
        old_size = 0 if old is None else old.size
        rest, tail = self._edges(b"" if old is None else old.pack.tail, old_size)
        return Delta(
            form=form,
            genesis=self._ledger.genesis,
            old_size=old_size,
            old_root=EMPTY_ROOT if old is None else old.signed.checkpoint.root,
            checkpoint=self._log.signed.data,
            size=self.size,
            seal=self._log.seal_proof,
            rest=rest,
            subtrees=self._roots(old_size // TILE_WIDTH + bool(rest)),
            tail=tail,
            statuses=tuple(self._changed_statuses(old)),
            records=self._changed_records(old),
        )

    def runs(self, first: int, last: int, subtrees: bytes) -> Iterator[bytes]:
        """The leaf hashes of the full runs from ``first`` to ``last``, exclusive, each held against its root.

        A fetch for each. Raises PackFormatError.
        """
        paths = (tile_path(0, run) for run in range(first, last))
        for run, hashes in enumerate(fetch_all(self._resources, paths), first):
            check_run(hashes, run, subtrees[run * HASH_SIZE : (run + 1) * HASH_SIZE])
            yield hashes

    def _edges(self, old_tail: bytes, old_size: int) -> tuple[bytes, bytes]:
        """What fills up the old tree's last run, and what stands behind the new one's full runs."""
        rest, _, tail = hash_counts(old_size, self.size)
        run = old_size // TILE_WIDTH
        if rest:
            filled = self._tiles.tile(0, run, TILE_WIDTH)
            _check_kept(old_tail, filled)
            return filled[len(old_tail) :], self._tail() if tail else b""
        if run < self.size // TILE_WIDTH:
            return b"", self._tail()
        whole = self._tail()
        _check_kept(old_tail, whole)
        return b"", whole[len(old_tail) :]

    def _tail(self) -> bytes:
        run, width = divmod(self.size, TILE_WIDTH)
        return self._tiles.tile(0, run, width) if width else b""

    def _roots(self, first: int) -> bytes:
        """The roots of the full runs from ``first`` on: what level 1 holds."""
        numbers = range(first // TILE_WIDTH, -(-self.size // TILE_WIDTH**2))
        widths = [tile_width(1, number, self.size) for number in numbers]
        wanted = [(number, width) for number, width in zip(numbers, widths, strict=True) if width]
        found = fetch_all(self._resources, [tile_path(1, *one) for one in wanted])
        return b"".join(found)[first % TILE_WIDTH * HASH_SIZE :]

    def _changed_statuses(self, old: OpenedPack | None) -> Iterator[tuple[int, int]]:
        count, seal = chunk_count(self.size), self._log.seal
        if old is not None and seal.status_root == old.sealed.seal.status_root:
            return
        known = {} if old is None else old.pack.statuses
        hashes = fetch_status_list(self._resources, seal.status_root, count)
        held = {number: leaf_hash(chunk) for number, chunk in known.items()}
        changed = [n for n, one in enumerate(hashes) if one != held.get(n, EMPTY_CHUNK_HASH)]
        needed = [hashes[n] for n in changed if hashes[n] != EMPTY_CHUNK_HASH]
        arriving = fetch_all(self._resources, map(status_chunk_path, needed))
        for number in changed:
            wanted, chunk = hashes[number], known.get(number)
            new = EMPTY_CHUNK
            if wanted != EMPTY_CHUNK_HASH:
                new = check_status_chunk(next(arriving), wanted)
            before = dict(statuses_in({} if chunk is None else {number: chunk}))
            after = dict(statuses_in({number: new}))
            for index in sorted(before.keys() | after.keys()):
                if before.get(index, 0) != after.get(index, 0):
                    yield index, after.get(index, 0)

    def _changed_records(self, old: OpenedPack | None) -> tuple[tuple[tuple[int, int], bytes], ...]:
        registry = self._registry
        if old is not None and registry.root == old.sealed.seal.registry_root:
            return ()
        held = () if old is None else old.pack.records.all
        known = {leaf_hash(record): record for record in (*held, registry.ledger_proof.record)}
        count = registry.ledger.records
        paths = [
            registry_tile_path(registry.root, 0, number, tile_width(0, number, count))
            for number in range(-(-count // TILE_WIDTH))
        ]
        hashes = split(b"".join(fetch_all(self._resources, paths)))
        missing = [one for one in hashes if one not in known]
        arriving = fetch_all(self._resources, map(registry_record_path, missing))
        known.update({one: check_record(record, one) for one, record in zip(missing, arriving, strict=True)})
        found = [known[one] for one in hashes]
        if len(found) != count:
            raise ProofInvalid("the registry's tiles have not the records that it counts")
        agencies = registry.ledger.agencies + 1
        records = Records(found[0], tuple(found[1:agencies]), tuple(found[agencies:]))
        return changed_records(None if old is None else old.pack.records, records)


def _check_kept(old_tail: bytes, hashes: bytes) -> None:
    """That the leaves which the old tree ended with are there, where they were."""
    if not hashes.startswith(old_tail):
        raise ProofInvalid("it does not hold the leaves that the pack ends with", where="tiles", fix=_FORK)
