"""The static resources that a verifier reads, and their paths.

Nothing here is believed: a checkpoint carries its signature, everything else is checked against a
root that a checkpoint commits to. All but the newest checkpoint never change once they exist, so
any cache may stand in between. Format: docs/format.md, section Resources.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from struct import Struct
from typing import Final, Protocol, runtime_checkable

from ledger.errors import ProofInvalid, SudurError
from ledger.hashing import HASH_SIZE, leaf_hash
from ledger.leaves import LeafType
from ledger.status import expand_chunk
from ledger.tiles import TILE_WIDTH, entries_path, parse_bundle, tile_path

CHECKPOINT: Final = "checkpoint"


class Resources(Protocol):
    """Fetches a static resource by its path, without a leading slash. Untrusted.

    Raises the source's own SudurError when there is no such resource or it cannot be reached.
    """

    def fetch(self, path: str) -> bytes: ...


@runtime_checkable
class ManyResources(Resources, Protocol):
    """Resources that fetch several at a time: over a slow link the waiting is most of it."""

    def fetch_many(self, paths: Iterable[str]) -> Iterator[bytes | SudurError]:
        """The bytes at each path, in that order; the error where there is nothing. Raises as ``fetch``."""
        ...


def fetch_all(resources: Resources, paths: Iterable[str]) -> Iterator[bytes]:
    """What is at each path, in that order: several at a time where the source can. Raises as ``fetch``."""
    if not isinstance(resources, ManyResources):
        yield from map(resources.fetch, paths)
        return
    for found in resources.fetch_many(paths):
        if isinstance(found, SudurError):
            raise found
        yield found


def checkpoint_path(size: int) -> str:
    """The signed checkpoint of a size that was published."""
    return f"checkpoint/{size}"


def status_list_path(root: bytes) -> str:
    """The hashes of all status chunks under a status root, 32 bytes each."""
    return f"status/list/{root.hex()}"


def status_chunk_path(chunk_hash: bytes) -> str:
    """One status chunk, zlib, by its leaf hash."""
    return f"status/chunk/{chunk_hash.hex()}"


def status_events_path(number: int) -> str:
    """What happened to the subjects from ``EVENTS_SPAN`` times ``number`` on, as of now. Unlike all else
    but the newest checkpoint it changes.
    """
    return f"status/events/{number}"


def registry_ledger_path(root: bytes) -> str:
    """The ledger record under a registry root: it holds the counts that place all others."""
    return f"registry/ledger/{root.hex()}"


def registry_record_path(record_hash: bytes) -> str:
    """A registry record by its leaf hash."""
    return f"registry/record/{record_hash.hex()}"


def registry_tile_path(root: bytes, level: int, n: int, width: int = TILE_WIDTH) -> str:
    """A hash tile of the registry tree, or of an agency's key tree, under its root."""
    return f"registry/tile/{root.hex()}/{tile_path(level, n, width).removeprefix('tile/')}"


class LogTiles:
    """The log's own tiles, as a ``TileReader``."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources

    def tile(self, level: int, index: int, width: int) -> bytes:
        return self._resources.fetch(tile_path(level, index, width))


class RegistryTiles:
    """The tiles of a small tree named by its root, as a ``TileReader``."""

    def __init__(self, resources: Resources, root: bytes) -> None:
        self._resources = resources
        self._root = root

    def tile(self, level: int, index: int, width: int) -> bytes:
        return self._resources.fetch(registry_tile_path(self._root, level, index, width))


def fetch_leaves(resources: Resources, start: int, end: int, size: int) -> list[bytes]:
    """The leaves from ``start`` to ``end``, exclusive, of a tree of ``size``; whole bundles are read."""
    leaves: list[bytes] = []
    for number in range(start // TILE_WIDTH, -(-end // TILE_WIDTH)):
        first = number * TILE_WIDTH
        width = min(TILE_WIDTH, size - first)
        bundle = parse_bundle(resources.fetch(entries_path(number, width)))
        if len(bundle) != width:
            raise ProofInvalid(f"bundle {number} has {len(bundle)} of {width} entries")
        leaves += bundle[max(start - first, 0) : end - first]
    return leaves


def fetch_status_list(resources: Resources, root: bytes, count: int) -> tuple[bytes, ...]:
    """The ``count`` chunk hashes under a status root; the caller checks them against it."""
    data = resources.fetch(status_list_path(root))
    if len(data) != count * HASH_SIZE:
        raise ProofInvalid(f"a status list of {len(data)} bytes, {count * HASH_SIZE} are expected")
    return tuple(data[at : at + HASH_SIZE] for at in range(0, len(data), HASH_SIZE))


def fetch_status_chunk(resources: Resources, chunk_hash: bytes) -> bytes:
    """A status chunk, checked against its hash. Raises ProofInvalid."""
    return check_status_chunk(resources.fetch(status_chunk_path(chunk_hash)), chunk_hash)


def check_status_chunk(data: bytes, chunk_hash: bytes) -> bytes:
    """The chunk that was fetched by its hash. Raises ProofInvalid, FormatError."""
    chunk = expand_chunk(data)
    if leaf_hash(chunk) != chunk_hash:
        raise ProofInvalid("a status chunk does not have the hash that it was fetched by")
    return chunk


@dataclass(frozen=True, slots=True)
class Event:
    """The leaf at ``index``, a STATUS or ATTEST, speaks of ``subject``."""

    subject: int
    kind: LeafType
    index: int


_EVENT: Final = Struct(">HBQ")
_EVENT_TYPES: Final = (LeafType.STATUS, LeafType.ATTEST)
EVENTS_SPAN: Final = 4_096
"""Subjects in one list of events."""
ATTESTS_LISTED: Final = 64
"""Of one subject the first so many ATTESTs are listed, and its latest STATUS."""
MAX_EVENTS_BYTES: Final = EVENTS_SPAN * (ATTESTS_LISTED + 1) * _EVENT.size
"""The longest list that there can be: whatever agencies log, none is ever cut."""


def encode_events(events: Iterable[Event]) -> bytes:
    """The body of a list of events: offset u16 ‖ leaf type u8 ‖ index u64 each, in ascending order."""
    return b"".join([_EVENT.pack(one.subject % EVENTS_SPAN, one.kind, one.index) for one in events])


def fetch_events(resources: Resources, number: int) -> list[Event]:
    """What is said to have happened to the subjects of list ``number``.

    Only a hint where to look: each leaf has to be proven, and what is left out shows only in the status
    bits. Raises ProofInvalid for a body that is not in its form.
    """
    data = resources.fetch(status_events_path(number))
    if len(data) % _EVENT.size or len(data) > MAX_EVENTS_BYTES:
        raise ProofInvalid(f"{len(data)} bytes are no list of events")
    start = number * EVENTS_SPAN
    found = [(start + offset, kind, index) for offset, kind, index in _EVENT.iter_unpack(data)]
    if any((a[0], a[2]) >= (b[0], b[2]) for a, b in pairwise(found)):
        raise ProofInvalid("events must ascend by subject, then by index")
    if found and found[-1][0] >= start + EVENTS_SPAN:
        raise ProofInvalid(f"an event is of a subject beyond the {EVENTS_SPAN} of its list")
    if any(kind not in _EVENT_TYPES for _, kind, _ in found):
        raise ProofInvalid("an event is a STATUS or an ATTEST")
    return [Event(subject, LeafType(kind), index) for subject, kind, index in found]


class SubjectEvents:
    """Where a subject's STATUS and ATTEST leaves are said to stand, in a tree of ``size`` leaves.

    One fetch serves 4,096 subjects. A hint, as :func:`fetch_events` is.
    """

    def __init__(self, resources: Resources, size: int) -> None:
        self._resources = resources
        self._size = size
        self._known: dict[int, dict[int, list[Event]]] = {}

    def on(self, subject: int, kind: LeafType) -> list[int]:
        """The indexes of the leaves of that type on a subject, ascending. Raises ProofInvalid."""
        number = subject // EVENTS_SPAN
        if number not in self._known:
            self._known[number] = {}
            for one in fetch_events(self._resources, number):
                self._known[number].setdefault(one.subject, []).append(one)
        return [
            one.index
            for one in self._known[number].get(subject, ())
            if one.kind is kind and subject < one.index < self._size
        ]


def fetch_record(resources: Resources, record_hash: bytes) -> bytes:
    """A registry record, checked against its hash. Raises ProofInvalid."""
    return check_record(resources.fetch(registry_record_path(record_hash)), record_hash)


def check_record(record: bytes, record_hash: bytes) -> bytes:
    """A record that was fetched by its hash. Raises ProofInvalid."""
    if leaf_hash(record) != record_hash:
        raise ProofInvalid("a registry record does not have the hash that it was fetched by")
    return record
