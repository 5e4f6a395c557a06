"""Makes packs and deltas from static resources, and leads packs over to what is newer.

In every case a pack is proven as a whole, and by its witnesses, before it takes the place of the old one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from ledger.checks import check_witnesses
from ledger.errors import ProofInvalid
from ledger.hashing import HASH_SIZE
from ledger.opened_pack import OpenedPack, check_run, open_pack
from ledger.pack_builder import PackBuilder
from ledger.pack_deltas import Delta, apply_delta
from ledger.packs import Form, Pack
from ledger.resources import CHECKPOINT, Resources, fetch_all
from ledger.tiles import FULL_TILE_BYTES
from ledger.trust import Trust
from tools.pack.files import DeltaFile, PackFile, read_pack, write_delta, write_pack
from tools.pinning import ledger_of

Tick = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Made:
    """What was written: ``file_bytes``, and what it took. ``fetches`` and ``fetched_bytes`` are 0 offline."""

    opened: OpenedPack
    file_bytes: int
    fetches: int
    fetched_bytes: int
    seconds: float


class Counted:
    """``Resources`` that count what is fetched, and say so as it goes."""

    def __init__(self, resources: Resources, tick: Tick) -> None:
        self._resources = resources
        self._tick = tick
        self.fetches = 0
        self.bytes = 0

    def fetch(self, path: str) -> bytes:
        return self._counted(self._resources.fetch(path))

    def fetch_many(self, paths: Iterable[str]) -> Iterator[bytes]:
        """Several at a time where the source can."""
        return map(self._counted, fetch_all(self._resources, paths))

    def _counted(self, data: bytes) -> bytes:
        self.fetches += 1
        self.bytes += len(data)
        self._tick(1)
        return data


class Maker:
    """Works for one trust file, by one clock. ``tick`` is told of each resource that arrived.

    Every method raises CheckpointUntrusted, PolicyUnmet when the newest checkpoint is not witnessed as the
    trust file asks, ProofInvalid for another history, FileProblem, and what the source raises.
    """

    def __init__(self, trust: Trust, now_ms: int, tick: Tick = lambda _: None) -> None:
        self._trust = trust
        self._now_ms = now_ms
        self._tick = tick

    def create(self, resources: Resources, form: Form, out: Path) -> Made:
        """A whole pack."""
        began = time.perf_counter()
        source, builder = self._builder(resources)
        pack = self._proven(apply_delta(None, builder.delta(form, None)))
        runs = _runs(builder, pack.pack, 0)
        written = write_pack(out, pack.pack, runs)
        return _made(pack, written, source, began)

    def update(self, old: PackFile, resources: Resources) -> Made:
        """The pack in the place of the old one, with only what is new fetched."""
        began = time.perf_counter()
        source, builder = self._builder(resources)
        opened = old.open(self._trust)
        delta = builder.delta(old.pack.form, opened)
        pack = self._led_over(old.pack, delta)
        runs = _runs(builder, pack.pack, opened.pack.full)
        written = write_pack(old.path, pack.pack, chain(_kept(old), runs))
        return _made(pack, written, source, began)

    def apply(self, old: PackFile, delta: DeltaFile) -> Made:
        """The pack in the place of the old one, by a delta that was brought; no network."""
        began = time.perf_counter()
        old.open(self._trust)
        pack = self._led_over(old.pack, delta.delta)
        written = write_pack(old.path, pack.pack, chain(_kept(old), _checked(delta, pack.pack)))
        return Made(pack, written, 0, 0, time.perf_counter() - began)

    def delta(self, old: PackFile, resources: Resources, out: Path) -> Made:
        """What leads ``old`` over to the newest checkpoint, as a file for others who have that pack."""
        began = time.perf_counter()
        source, builder = self._builder(resources)
        opened = old.open(self._trust)
        delta = builder.delta(old.pack.form, opened)
        pack = self._led_over(old.pack, delta)
        written = write_delta(out, delta, _runs(builder, pack.pack, opened.pack.full))
        return _made(pack, written, source, began)

    def _builder(self, resources: Resources) -> tuple[Counted, PackBuilder]:
        source = Counted(resources, self._tick)
        note = source.fetch(CHECKPOINT)
        return source, PackBuilder(source, ledger_of(self._trust, note), note)

    def _led_over(self, old: Pack, delta: Delta) -> OpenedPack:
        """The new pack, proven; it begins with all of the old one, which was proven before."""
        try:
            return self._proven(apply_delta(old, delta))
        except ProofInvalid as error:
            raise ProofInvalid(
                f"what is new does not continue this pack: {error.what}",
                where=error.where,
                fix="try another source; if it is the same there, keep the pack and report it: this may be"
                " another history",
            ) from error

    def _proven(self, pack: Pack) -> OpenedPack:
        opened = open_pack(pack, self._trust)
        check_witnesses(opened.ledger, opened.signed, opened.sealed.seal, self._now_ms, None)
        return opened


def verify_file(path: Path, trust: Trust, tick: Tick = lambda _: None) -> OpenedPack:
    """Read a pack and prove all of it, every leaf hash too; ``tick`` is told of each run of 256.

    Raises as :func:`open_pack` and :func:`read_pack`.
    """
    opened = read_pack(path).open(trust)
    opened.check_leaves(tick)
    return opened


def _runs(builder: PackBuilder, pack: Pack, first: int) -> Iterable[bytes]:
    return builder.runs(first, pack.full, pack.subtrees) if pack.form is Form.LEAVES else ()


def _kept(old: PackFile) -> Iterable[bytes]:
    return () if old.runs is None else old.runs.runs(old.pack.full)


def _checked(delta: DeltaFile, pack: Pack) -> Iterator[bytes]:
    """The runs that a delta brings, each held against its root in the proven pack."""
    if delta.runs is None:
        return
    for run in range(*delta.delta.runs):
        hashes = delta.runs.tile(0, run, FULL_TILE_BYTES // HASH_SIZE)
        _check(hashes, run, pack)
        yield hashes


def _check(hashes: bytes, run: int, pack: Pack) -> None:
    check_run(hashes, run, pack.subtrees[run * HASH_SIZE : (run + 1) * HASH_SIZE])


def _made(pack: OpenedPack, written: int, source: Counted, began: float) -> Made:
    return Made(pack, written, source.fetches, source.bytes, time.perf_counter() - began)
