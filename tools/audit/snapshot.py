"""Where an audit stands: the part of its state that every commit writes whole, as one row of JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from ledger.canonical_json import Json, Reader, base64_text, encode, parse, parse_base64, u64_text
from ledger.errors import SudurError
from ledger.hashing import HASH_SIZE
from ledger.merkle_list import MerkleList
from ledger.registry import Registry
from ledger.seals import Seal
from ledger.signing_policy import ALL_KINDS, RecordKind
from ledger.state import State
from ledger.submissions import pack, unpack
from ledger.tiles import FULL_TILE_BYTES, MAX_BUNDLE_BYTES, TILE_WIDTH
from ledger.tree import Tree
from tools.audit.errors import StateDamaged
from tools.audit.issues import Runs

_FORMAT: Final = "sudur-audit/v1"
_LIMIT: Final = 256 << 20

Daily = Mapping[tuple[int, RecordKind, int], int]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """As of the block that ``tree`` ends with. ``tail``: the packed leaves of the bundle that is not full."""

    genesis: bytes
    tree: Tree
    root: bytes
    tail: bytes
    status: bytes
    daily: tuple[tuple[tuple[int, RecordKind, int], int], ...]
    runs: Runs

    @property
    def full(self) -> int:
        """Full bundles."""
        return self.tree.size // TILE_WIDTH

    @classmethod
    def of(cls, state: State, tree: Tree, tail: Sequence[bytes], daily: Daily, runs: Runs) -> Self:
        return cls(
            state.genesis,
            tree,
            tree.root(),
            pack(tail),
            b"".join(state.status.hashes),
            tuple(daily.items()),
            runs,
        )

    def encode(self) -> bytes:
        return encode(
            {
                "format": _FORMAT,
                "genesis": base64_text(self.genesis),
                "size": u64_text(self.tree.size),
                "root": base64_text(self.root),
                "edge": [base64_text(one) for one in self.tree.partials],
                "tail": base64_text(self.tail),
                "status": base64_text(self.status),
                "daily": [[*key, u64_text(count)] for key, count in self.daily],
                "runs": [list(run) for run in self.runs],
            }
        )

    @classmethod
    def decode(cls, data: bytes, where: str) -> Self:
        """The inverse. Raises StateDamaged."""
        try:
            reader = Reader(parse(data, limit=_LIMIT, where="snapshot"), "snapshot")
            if reader.text("format") != _FORMAT:
                raise StateDamaged(f"it is not {_FORMAT}", where=where)
            edge = [_bytes(one, FULL_TILE_BYTES) for one in reader.items("edge", limit=8)]
            tree = Tree.from_edge(reader.u64("size"), lambda tile: edge[tile.level])
            root = reader.data("root", size=HASH_SIZE)
            if tree.root() != root:
                raise StateDamaged("its tree has another root than was written", where=where)
            return cls(
                reader.data("genesis", size=HASH_SIZE),
                tree,
                root,
                _bytes(reader.any("tail"), MAX_BUNDLE_BYTES),
                _bytes(reader.any("status"), _LIMIT),
                tuple(map(_daily, reader.items("daily", limit=1 << 24))),
                tuple(map(_run, reader.items("runs", limit=1 << 20))),
            )
        except StateDamaged:
            raise
        except (SudurError, LookupError, ValueError, TypeError) as error:
            raise StateDamaged(f"its snapshot cannot be read: {error}", where=where) from error

    def state(self, registry: Registry, newest: bytes) -> State:
        """With the registry, and what the ``newest`` leaf, the seal, says. Raises StateDamaged."""
        try:
            seal = Seal.decode(newest)
        except SudurError as error:
            raise StateDamaged(f"its newest seal cannot be read: {error}", where="entries") from error
        at = range(0, len(self.status), HASH_SIZE)
        status = MerkleList.of(self.status[i : i + HASH_SIZE] for i in at)
        if (registry.root, status.root) != (seal.registry_root, seal.status_root):
            raise StateDamaged("its registry or status list is not that of its newest seal", where="table")
        return State(
            registry=registry,
            block=seal.block,
            seal_index=self.tree.size - 1,
            time_ms=seal.time_ms,
            documents=seal.documents,
            status=status,
        )


def tail_of(snapshot: Snapshot) -> list[bytes]:
    """The leaves of the bundle that is not full yet. Raises StateDamaged."""
    try:
        leaves = unpack(snapshot.tail, most=TILE_WIDTH)
    except SudurError as error:
        raise StateDamaged(f"its last entries cannot be read: {error}", where="snapshot") from error
    if len(leaves) != snapshot.tree.size % TILE_WIDTH:
        raise StateDamaged("its last entries are missing", where="snapshot")
    return leaves


def _bytes(text: Any, limit: int) -> bytes:
    return parse_base64(text, "snapshot", limit=limit) if text else b""


def _daily(item: Json) -> tuple[tuple[int, RecordKind, int], int]:
    agency, kind, day, count = item
    if kind not in ALL_KINDS:
        raise ValueError(f"{kind} is no kind of record")
    return (int(agency), kind, int(day)), int(count)


def _run(item: Json) -> tuple[int, int]:
    number, count = item
    return int(number), int(count)
