"""What is new between two sizes of a ledger, for whoever holds the pack of the smaller one.

A delta fits one pack alone: it names the size and root that it begins at. It carries the leaf hashes that
fill up the run of 256 in which the old pack ended, so that whoever applies it sees that the old tree is
still there. Making a pack is applying the delta that begins at nothing. Format: docs/format.md, section
Packs.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from ledger.checkpoints import parse_checkpoint
from ledger.errors import FormatError, PackFormatError, ProofInvalid, TooLarge
from ledger.hashing import EMPTY_ROOT, HASH_SIZE, merkle_root
from ledger.notes import parse_note
from ledger.pack_bytes import (
    MAX_HEAD,
    U8,
    U32,
    U64,
    PackReader,
    checked_body,
    encode_compressed,
    encode_sealed,
    encode_statuses,
    read_compressed,
    read_record,
    read_sealed,
    read_statuses,
    split,
    with_statuses,
)
from ledger.packs import Form, Pack, Records
from ledger.receipts import ProvenLeaf
from ledger.registry_records import LedgerRecord
from ledger.tiles import TILE_WIDTH

DELTA_MAGIC: Final = b"sudur-pack-delta/v1\n"
DELTA_FRONT_BYTES: Final = len(DELTA_MAGIC) + U8.size + U32.size
MAX_CHANGES: Final = 1 << 20
"""Statuses that one delta changes, at most: past that, take a whole pack."""
_WHAT: Final = "delta"
_LEDGER, _AGENCY, _TYPE = range(3)

RecordName = tuple[int, int]
"""(kind, number): 0 the ledger record, number 0; 1 an agency; 2 a type."""


@dataclass(frozen=True, slots=True)
class Delta:
    """From the tree (``old_size``, ``old_root``), or from nothing (0, the empty root), to ``checkpoint``'s.

    ``rest``: the leaf hashes that fill up the run in which the old tree ended; none when it ended between
    two runs, or when no run has become full since. ``subtrees``: the roots of the runs that are full now and
    are neither the old tree's nor that one. ``tail``: the leaf hashes behind the full runs, without those
    that the old tree has. ``statuses``: (index, status) of what changed. ``records``: those new or changed.
    """

    form: Form
    genesis: bytes
    old_size: int
    old_root: bytes
    checkpoint: bytes
    size: int
    seal: ProvenLeaf
    rest: bytes
    subtrees: bytes
    tail: bytes
    statuses: tuple[tuple[int, int], ...]
    records: tuple[tuple[RecordName, bytes], ...]

    @property
    def runs(self) -> tuple[int, int]:
        """The first and one past the last of the runs that became full: in the leaves form these follow."""
        return self.old_size // TILE_WIDTH, self.size // TILE_WIDTH

    def encode(self) -> bytes:
        """Its bytes, without the leaf hashes that follow. Raises TooLarge."""
        if len(self.statuses) > MAX_CHANGES:
            raise TooLarge(
                f"{len(self.statuses)} statuses have changed, a delta has at most {MAX_CHANGES}",
                where=_WHAT,
                fix="take a whole pack",
            )
        records = b"".join(
            [
                U8.pack(kind) + U32.pack(number) + U32.pack(len(record)) + record
                for (kind, number), record in self.records
            ]
        )
        body = b"".join(
            [
                self.genesis,
                U64.pack(self.old_size),
                self.old_root,
                encode_sealed(self.checkpoint, self.seal),
                self.rest,
                self.subtrees,
                self.tail,
                encode_statuses(self.statuses),
                encode_compressed(records),
            ]
        )
        size = DELTA_FRONT_BYTES + len(body) + HASH_SIZE
        if size > MAX_HEAD:
            raise TooLarge(f"{size} bytes, a delta has at most {MAX_HEAD}", where=_WHAT)
        data = DELTA_MAGIC + U8.pack(self.form) + U32.pack(size) + body
        return data + sha256(data).digest()


def delta_size(front: bytes) -> int:
    """How long a delta is, from its first ``DELTA_FRONT_BYTES``. Raises PackFormatError."""
    reader = PackReader(front, _WHAT)
    _read_front(reader)
    return reader.number(U32)


def parse_delta(data: bytes) -> Delta:
    """Read a delta, which ``data`` ends with. Raises PackFormatError, TooLarge; nothing is proven yet."""
    if len(data) > MAX_HEAD:
        raise TooLarge(f"{len(data)} bytes, a delta has at most {MAX_HEAD}", where=_WHAT)
    form = _read_front(PackReader(data, _WHAT))
    size = delta_size(data)
    if len(data) != size:
        what = "it is cut short" if len(data) < size else f"{len(data) - size} bytes too many"
        raise PackFormatError(what, where=_WHAT, fix="copy or fetch it again")
    reader = PackReader(checked_body(data, _WHAT), _WHAT)
    reader.take(DELTA_FRONT_BYTES)
    genesis = reader.hashes(1)
    old_size, old_root = reader.number(U64), reader.hashes(1)
    note, leaves, seal = read_sealed(reader)
    if old_size > leaves or (old_size == 0) != (old_root == EMPTY_ROOT):
        raise reader.error("it does not begin at a smaller tree")
    rest, subtrees, tail = (reader.hashes(count) for count in hash_counts(old_size, leaves))
    statuses = tuple(read_statuses(reader, leaves, least=0, most=MAX_CHANGES))
    records = _read_records(PackReader(read_compressed(reader), "a delta's records"))
    reader.done()
    return Delta(
        form, genesis, old_size, old_root, note, leaves, seal, rest, subtrees, tail, statuses, records
    )


def hash_counts(old: int, new: int) -> tuple[int, int, int]:
    """How many hashes a delta has to fill up the old run, of full runs, and behind them."""
    old_full, old_tail = divmod(old, TILE_WIDTH)
    full, tail = divmod(new, TILE_WIDTH)
    if full == old_full:
        return 0, 0, tail - old_tail
    rest = TILE_WIDTH - old_tail if old_tail else 0
    return rest, full - old_full - bool(rest), tail


def apply_delta(old: Pack | None, delta: Delta) -> Pack:
    """The pack that comes of it; :func:`ledger.opened_pack.open_pack` has to prove it.

    Raises PackFormatError for a delta that does not begin at this pack, or whose records leave a gap.
    """
    if old is None:
        if delta.old_size:
            raise PackFormatError("it begins at a pack, and there is none", where=_WHAT)
        subtrees, tail, chunks = delta.subtrees, delta.tail, with_statuses({}, delta.statuses)
    else:
        _check_fits(old, delta)
        subtrees, tail = _joined(old, delta)
        chunks = with_statuses(old.statuses, delta.statuses)
    records = _with_records(None if old is None else old.records, delta.records)
    return Pack(
        delta.form, delta.genesis, delta.checkpoint, delta.size, delta.seal, subtrees, tail, chunks, records
    )


def pack_root(pack: Pack) -> bytes:
    """The root of the whole tree, from the roots of the full runs and the leaf hashes behind them.

    A hash for each run of 256.
    """
    row = list(split(pack.subtrees))
    if pack.tail:
        row.append(merkle_root(split(pack.tail)))
    return merkle_root(row)


def _check_fits(old: Pack, delta: Delta) -> None:
    if (old.genesis, old.form) != (delta.genesis, delta.form):
        raise PackFormatError("it is for a pack of another ledger, or of the other form", where=_WHAT)
    checkpoint = parse_checkpoint(parse_note(old.checkpoint).text)
    if (checkpoint.size, checkpoint.root) != (delta.old_size, delta.old_root):
        raise PackFormatError(
            f"it begins at {delta.old_size} leaves, the pack has {old.size}",
            where=_WHAT,
            fix=f"take the delta that begins at {old.size}, or a whole pack",
        )


def _joined(old: Pack, delta: Delta) -> tuple[bytes, bytes]:
    """The roots and the tail of the new tree; both begin with all of the old one."""
    if delta.size // TILE_WIDTH == old.full:
        return old.subtrees, old.tail + delta.tail
    if not old.tail:
        return old.subtrees + delta.subtrees, delta.tail
    filled = merkle_root(split(old.tail + delta.rest))
    return old.subtrees + filled + delta.subtrees, delta.tail


def changed_records(old: Records | None, new: Records) -> tuple[tuple[RecordName, bytes], ...]:
    """The records of ``new`` that are not the same in ``old``, in their order."""
    known = {} if old is None else dict(_named(old))
    return tuple((name, record) for name, record in _named(new) if known.get(name) != record)


def _named(records: Records) -> list[tuple[RecordName, bytes]]:
    return [
        ((_LEDGER, 0), records.ledger),
        *(((_AGENCY, number), record) for number, record in enumerate(records.agencies, 1)),
        *(((_TYPE, number), record) for number, record in enumerate(records.types, 1)),
    ]


def _with_records(old: Records | None, changes: tuple[tuple[RecordName, bytes], ...]) -> Records:
    ledger = b"" if old is None else old.ledger
    lists = {
        _AGENCY: [] if old is None else list(old.agencies),
        _TYPE: [] if old is None else list(old.types),
    }
    for (kind, number), record in changes:
        if kind == _LEDGER:
            ledger = record
            continue
        known = lists[kind]
        if number > len(known) + 1:
            raise PackFormatError("its records leave a gap", where=_WHAT)
        known[number - 1 : number] = [record]
    records = Records(ledger, tuple(lists[_AGENCY]), tuple(lists[_TYPE]))
    try:
        counts = LedgerRecord.decode(ledger)
    except FormatError as error:
        raise PackFormatError(f"its ledger record cannot be read: {error}", where=_WHAT) from error
    if (counts.agencies, counts.types) != (len(records.agencies), len(records.types)):
        raise ProofInvalid("its records are not as many as its ledger record says", where=_WHAT)
    return records


def _read_front(reader: PackReader) -> Form:
    if reader.take(len(DELTA_MAGIC)) != DELTA_MAGIC:
        raise reader.error("this is no delta of a version that is known here")
    try:
        return Form(reader.number(U8))
    except ValueError:
        raise reader.error("its form is not known") from None


def _read_records(reader: PackReader) -> tuple[tuple[RecordName, bytes], ...]:
    found: list[tuple[RecordName, bytes]] = []
    while not reader.is_done:
        name = (reader.number(U8), reader.number(U32))
        if not (name == (_LEDGER, 0) or (name[0] in (_AGENCY, _TYPE) and name[1])):
            raise reader.error("a record of no known kind and number")
        if found and name <= found[-1][0]:
            raise reader.error("records must ascend")
        found.append((name, read_record(reader)))
    return tuple(found)
