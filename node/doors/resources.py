"""The static resources: what never changes under its path, so that any cache may serve it.

The newest checkpoints, those that may still be cosigned, and the lists of events do change, and say so to
caches. Checkpoints, tiles and entry bundles are as C2SP tlog-tiles has them; status chunks and registry
records are addressed by their hash, and the small trees over them by their root. Nothing here needs to be
trusted: a reader hashes what it gets.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ledger.errors import FormatError
from ledger.hashing import HASH_SIZE, merkle_root
from ledger.resources import EVENTS_SPAN, Event, encode_events
from ledger.status import (
    CHUNK_SIZE,
    EMPTY_CHUNK,
    EMPTY_CHUNK_HASH,
    compress_chunk,
)
from ledger.tiles import TILE_WIDTH, TileId, parse_entries_path, parse_tile_path, tile_width
from node.doors.reads import Reads
from node.errors import NotFound
from node.ledger_copy import LedgerCopy

IMMUTABLE: Final = "public, max-age=31536000, immutable"
NEWEST: Final = "no-cache"
NEVER: Final = "no-store"
TEXT: Final = "text/plain; charset=utf-8"
BYTES: Final = "application/octet-stream"
JSON: Final = "application/json"
_MOST_KEPT: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class Resource:
    """Bytes with their media type, and how long a cache may keep them (a Cache-Control value)."""

    data: bytes
    media_type: str
    cache: str = IMMUTABLE


class Resources:
    """The static resources of one node, as of its newest checkpoint. Belongs to one event loop.

    All raise NotFound for what is not there, or not yet, and FormatError for a name that nothing has.
    """

    def __init__(self, copy: LedgerCopy, reads: Reads) -> None:
        self._store = copy.store
        self._reads = reads
        self._kept: OrderedDict[tuple[str, bytes, int], bytes] = OrderedDict()
        self._kept_bytes = 0

    def newest_checkpoint(self) -> Resource:
        """``/checkpoint``: the newest published checkpoint. It changes. Raises NotPublished."""
        return Resource(self._reads.checkpoint(0), TEXT, NEWEST)

    def signed_checkpoint(self) -> Resource:
        """``/checkpoint/signed``: the newest signed one, cosigned or not yet. It changes."""
        return Resource(self._reads.signed_checkpoint(), TEXT, NEWEST)

    def checkpoint(self, size: int) -> Resource:
        """``/checkpoint/<size>``, with its cosignatures so far. Raises OutOfRange beyond the tree."""
        if size == 0:
            raise NotFound("no checkpoint has size 0", where="size", fix="/checkpoint is the newest one")
        note = self._reads.checkpoint(size)
        return Resource(note, TEXT, NEWEST if self._reads.may_gain(size) else IMMUTABLE)

    def tile(self, path: str) -> Resource:
        """``/tile/<L>/<N>[.p/<W>]``, ``path`` being what follows ``/tile/``.

        A partial tile is there in every width up to that of the newest checkpoint, past ones too.
        """
        wanted = parse_tile_path(f"tile/{path}")
        _check_width(wanted.width, tile_width(wanted.level, wanted.index, self._reads.size))
        return Resource(self._store.tile(wanted.level, wanted.index, wanted.width), BYTES)

    def bundle(self, path: str) -> Resource:
        """``/tile/entries/<N>[.p/<W>]``, ``path`` being what follows ``/tile/entries/``."""
        wanted = parse_entries_path(f"tile/entries/{path}")
        _check_width(wanted.width, tile_width(0, wanted.index, self._reads.size))
        return Resource(self._store.bundle(wanted.index, wanted.width), BYTES)

    def status_list(self, root: str) -> Resource:
        """``/status/list/<status root>``: the hashes of the status chunks, 32 bytes each."""
        return Resource(b"".join(self._store.tree_hashes(_hash(root))), BYTES)

    def status_chunk(self, name: str) -> Resource:
        """``/status/chunk/<leaf hash>``: one status chunk, as zlib data."""
        chunk_hash = _hash(name)

        def compressed() -> bytes:
            chunk = EMPTY_CHUNK if chunk_hash == EMPTY_CHUNK_HASH else self._store.object(chunk_hash)
            if len(chunk) != CHUNK_SIZE:
                raise NotFound("that object is no status chunk", where="path")
            return compress_chunk(chunk)

        return Resource(self._keep(("chunk", chunk_hash, 0), compressed), BYTES)

    def status_events(self, number: int) -> Resource:
        """``/status/events/<number>``: the STATUS and ATTEST leaves on 4,096 subjects.

        As of the newest checkpoint, so it changes. May be called on any thread, and should be: an event
        takes about 3 µs, and there may be 266,240.
        """
        size = self._reads.size
        start = number * EVENTS_SPAN
        if start >= size:
            raise NotFound(
                f"a tree of {size} leaves has {-(-size // EVENTS_SPAN)} lists of events",
                where="path",
                fix="divide the subject's index by 4,096",
            )
        found = self._store.events(start, start + EVENTS_SPAN, size)
        listed = encode_events(Event(subject, kind, index) for subject, index, kind in found)
        return Resource(listed, BYTES, NEWEST)

    def registry_record(self, name: str) -> Resource:
        """``/registry/record/<leaf hash>``: a registry record, canonical JSON."""
        record = self._store.object(_hash(name))
        if not record.startswith(b"{"):
            raise NotFound("that object is no registry record", where="path")
        return Resource(record, JSON)

    def registry_ledger(self, root: str) -> Resource:
        """``/registry/ledger/<registry root>``: its ledger record, whose counts place all the others."""
        record = self._store.object(self._store.tree_hashes(_hash(root))[0])
        if not record.startswith(b'{"agencies":'):
            raise NotFound("that is the root of no registry", where="path")
        return Resource(record, JSON)

    def registry_tile(self, root: str, path: str) -> Resource:
        """``/registry/tile/<root>/<L>/<N>[.p/<W>]``: a tile of the registry tree, or a key tree."""
        tree_root = _hash(root)
        wanted = parse_tile_path(f"tile/{path}")
        hashes = self._store.tree_hashes(tree_root)
        _check_width(wanted.width, tile_width(wanted.level, wanted.index, len(hashes)))
        row = self._keep(("row", tree_root, wanted.level), lambda: _row(hashes, wanted))
        at = wanted.index * TILE_WIDTH * HASH_SIZE
        return Resource(row[at : at + wanted.width * HASH_SIZE], BYTES)

    def _keep(self, key: tuple[str, bytes, int], make: Callable[[], bytes]) -> bytes:
        kept = self._kept.get(key)
        if kept is None:
            kept = self._kept[key] = make()
            self._kept_bytes += len(kept)
            while self._kept_bytes > _MOST_KEPT:
                self._kept_bytes -= len(self._kept.popitem(last=False)[1])
        else:
            self._kept.move_to_end(key)
        return kept


def _row(hashes: tuple[bytes, ...], wanted: TileId) -> bytes:
    """All complete hashes of a level of a small tree."""
    row = list(hashes)
    for _ in range(wanted.level):
        complete = len(row) // TILE_WIDTH * TILE_WIDTH
        row = [merkle_root(row[at : at + TILE_WIDTH]) for at in range(0, complete, TILE_WIDTH)]
    return b"".join(row)


def _check_width(wanted: int, there: int) -> None:
    if wanted > there:
        raise NotFound(
            f"no tile of width {wanted} is here: this one has {there} hashes",
            where="path",
            fix="ask for the width that the size of a signed checkpoint gives",
        )


def _hash(text: str) -> bytes:
    """The 32 bytes of a hash written as 64 lower-case hexadecimal digits; FormatError otherwise."""
    if len(text) != 2 * HASH_SIZE or not set(text) <= set("0123456789abcdef"):
        raise FormatError(
            f"{text[:80]!a} is no hash", where="path", fix="write it as 64 lower-case hexadecimal digits"
        )
    return bytes.fromhex(text)
