"""SUBMISSION: one signature, or several, over up to 256 records of one agency.

The leaf stands right before its records. Its keys sign, each for itself,

    "sudur/v1/submission\\n" ‖ G ‖ SHA-256(algorithm ‖ public key) ‖ m

where m is the leaf before its signature count, so an operator can neither forge an issuance, nor
move it to another ledger, nor pass one officer's signature off as another's. Format:
docs/format.md, section SUBMISSION.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from struct import Struct
from typing import Final

from ledger.errors import ForeignRecord, LeafFormatError, TooLarge, WrongCount, WrongRecordsRoot
from ledger.hashing import leaf_hashes, merkle_root
from ledger.leaves import FORMAT_VERSION, MAX_LEAF_SIZE, LeafType, expect_type
from ledger.records import MAX_RECORDS, Basis, Issue, Record, parse_record

MAX_SIGNATURES: Final = 16
_LABEL: Final = b"sudur/v1/submission\n"
_BODY: Final = Struct(">BBII32sQ")
_SIGNATURE: Final = Struct(">HBH")
_LENGTH: Final = Struct(">H")
_SUBMISSION_TYPE: Final = bytes((LeafType.SUBMISSION,))


@dataclass(frozen=True, slots=True)
class KeySignature:
    """One key's signature. ``number`` is the key's number within its agency."""

    number: int
    algorithm: int
    signature: bytes


@dataclass(frozen=True, slots=True)
class SubmissionLeaf:
    """The fields of a SUBMISSION. ``claimed_ms``: when it was made, in ms since 1970, by its maker."""

    agency: int
    count: int
    records_root: bytes
    claimed_ms: int
    signatures: tuple[KeySignature, ...]

    def body(self) -> bytes:
        """m: the leaf up to, and without, its signature count. 50 bytes."""
        return _BODY.pack(
            FORMAT_VERSION,
            LeafType.SUBMISSION,
            self.agency,
            self.count,
            self.records_root,
            self.claimed_ms,
        )

    def encode(self) -> bytes:
        parts = [self.body(), bytes((len(self.signatures),))]
        for one in self.signatures:
            parts += (_SIGNATURE.pack(one.number, one.algorithm, len(one.signature)), one.signature)
        return b"".join(parts)

    @classmethod
    def decode(cls, leaf: bytes) -> SubmissionLeaf:
        expect_type(leaf, LeafType.SUBMISSION)
        if len(leaf) < _BODY.size + 1:
            raise LeafFormatError(f"{len(leaf)} bytes are too few", where="SUBMISSION")
        _, _, agency, count, records_root, claimed_ms = _BODY.unpack_from(leaf)
        if not 1 <= count <= MAX_RECORDS:
            raise LeafFormatError(f"{count} records, 1 to {MAX_RECORDS} are allowed", where="SUBMISSION")
        signatures = _decode_signatures(leaf, _BODY.size)
        return cls(agency, count, records_root, claimed_ms, signatures)

    def message(self, genesis: bytes, key_fingerprint: bytes) -> bytes:
        """What a key signs. ``key_fingerprint``: SHA-256(algorithm ‖ public key)."""
        return _LABEL + genesis + key_fingerprint + self.body()

    def identity(self, genesis: bytes) -> bytes:
        """The submission's id, 32 bytes: over m and not over the signatures, which may be randomised."""
        return sha256(_LABEL + genesis + self.body()).digest()


def _decode_signatures(leaf: bytes, at: int) -> tuple[KeySignature, ...]:
    count, at = leaf[at], at + 1
    if not 1 <= count <= MAX_SIGNATURES:
        raise LeafFormatError(f"{count} signatures, 1 to {MAX_SIGNATURES} are allowed", where="SUBMISSION")
    signatures = []
    for _ in range(count):
        if len(leaf) < at + _SIGNATURE.size:
            raise LeafFormatError("ends within a signature", where="SUBMISSION")
        number, algorithm, size = _SIGNATURE.unpack_from(leaf, at)
        at += _SIGNATURE.size
        if len(leaf) < at + size:
            raise LeafFormatError("ends within a signature", where="SUBMISSION")
        signatures.append(KeySignature(number, algorithm, leaf[at : at + size]))
        at += size
    if at != len(leaf):
        raise LeafFormatError(f"{len(leaf) - at} bytes after its end", where="SUBMISSION")
    numbers = [one.number for one in signatures]
    if any(a >= b for a, b in pairwise(numbers)):
        raise LeafFormatError("key numbers must strictly ascend", where="SUBMISSION")
    return tuple(signatures)


# --- the records that follow -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class IssueColumns:
    """The ISSUE records of a submission, column by column, so that a bulk costs no object a record.

    ``positions`` are those within the submission; ``keys`` what the store knows each ISSUE by, its
    commitment ‖ agency u32. ``grounds`` counts each (document type, basis).
    """

    positions: Sequence[int]
    keys: Sequence[bytes]
    grounds: dict[tuple[int, Basis], int]


@dataclass(frozen=True, slots=True)
class Submission:
    """A SUBMISSION with its records, of the right shape and bound together; signatures unchecked."""

    leaf: bytes
    head: SubmissionLeaf
    records: tuple[bytes, ...]
    record_hashes: tuple[bytes, ...]
    issues: IssueColumns
    others: tuple[tuple[int, Record], ...]
    size: int
    """Bytes of the leaf and its records."""

    @property
    def leaves(self) -> tuple[bytes, ...]:
        return (self.leaf, *self.records)


def pack(leaves: Iterable[bytes]) -> bytes:
    """Leaves one after another, each behind its u16 length. TooLarge for one that no length fits."""
    parts = []
    for leaf in leaves:
        if len(leaf) > MAX_LEAF_SIZE:
            raise TooLarge(f"a leaf of {len(leaf)} bytes, at most {MAX_LEAF_SIZE} are allowed")
        parts.append(_LENGTH.pack(len(leaf)) + leaf)
    return b"".join(parts)


def unpack(packed: bytes, *, most: int) -> list[bytes]:
    """The inverse of :func:`pack`. LeafFormatError unless it ends exactly; TooLarge past ``most``."""
    leaves: list[bytes] = []
    at, end = 0, len(packed)
    while at < end:
        if len(leaves) == most:
            raise TooLarge(f"more than {most} leaves")
        if at + 2 > end:
            raise LeafFormatError(f"leaf {len(leaves)} ends within its length")
        size = packed[at] << 8 | packed[at + 1]
        at += 2
        leaf = packed[at : at + size]
        if len(leaf) != size:
            raise LeafFormatError(f"leaf {len(leaves)} is cut short: {len(leaf)} of {size} bytes")
        leaves.append(leaf)
        at += size
    return leaves


def open_submission(leaf: bytes, packed: bytes) -> Submission:
    """Read a SUBMISSION leaf and its packed records and check that they belong together.

    Shape, count, agency and records root are settled here, without any state, so that this work
    can be done before and beside the commit of other blocks; keys and policy are the rules' part.
    About 1.2 µs a record. Raises LeafFormatError, TooLarge, WrongCount, ForeignRecord,
    WrongRecordsRoot.
    """
    if len(packed) > MAX_RECORDS * (MAX_LEAF_SIZE + 2):
        raise TooLarge(f"{len(packed)} bytes of records")
    head = SubmissionLeaf.decode(leaf)
    columns = _issue_columns(head.agency, head.count, packed, _LENGTH.pack(_ISSUE_SIZE))
    if columns is not None:
        stride = _PACKED_ISSUE
        records = [packed[at + 2 : at + stride] for at in range(0, len(packed), stride)]
        others: list[tuple[int, Record]] = []
    else:
        records = unpack(packed, most=MAX_RECORDS)
        columns, others = _sort_records(head.agency, records)
    return _bind(leaf, head, records, leaf_hashes(records), columns, others)


@dataclass(frozen=True, slots=True)
class Hashed:
    """What a caller has hashed of leaves already, and is trusted to have hashed right: the leaf hash of each,
    and by the index of a SUBMISSION in the log the root over its records, for some or all.
    """

    hashes: Sequence[bytes]
    roots: Mapping[int, bytes]


def records_roots(leaves: Sequence[bytes], hashes: Sequence[bytes], first: int) -> dict[int, bytes]:
    """The roots that :class:`Hashed` asks for, of leaves from index ``first`` on. About 0.6 µs a record.

    One whose records are not all there is left out.
    """
    roots, at = {}, 0
    while at < len(leaves):
        leaf = leaves[at]
        at += 1
        if leaf[1:2] == _SUBMISSION_TYPE and len(leaf) >= _BODY.size:
            after = at + int(_BODY.unpack_from(leaf)[3])
            if after <= len(leaves):
                roots[first + at - 1] = merkle_root(hashes[at:after])
                at = after
    return roots


def gather_submission(
    leaf: bytes,
    records: Sequence[bytes],
    hashes: Sequence[bytes] | None = None,
    root: bytes | None = None,
) -> Submission:
    """:func:`open_submission` for records that are already apart, as in a block or a bundle.

    ``hashes``: the leaf hash of each record, and ``root`` the root over them, when the caller has them; they
    are taken as they are. Then it costs about 0.3 µs a record.
    """
    head = SubmissionLeaf.decode(leaf)
    columns: IssueColumns | None = None
    others: list[tuple[int, Record]] = []
    if set(map(len, records)) == {_ISSUE_SIZE}:
        columns = _issue_columns(head.agency, head.count, b"".join(records), b"")
    if columns is None:
        columns, others = _sort_records(head.agency, records)
    known = leaf_hashes(records) if hashes is None else hashes
    return _bind(leaf, head, records, known, columns, others, root)


def _bind(
    leaf: bytes,
    head: SubmissionLeaf,
    records: Sequence[bytes],
    hashes: Sequence[bytes],
    columns: IssueColumns,
    others: list[tuple[int, Record]],
    root: bytes | None = None,
) -> Submission:
    if len(records) != head.count:
        raise WrongCount(f"the submission names {head.count} records, {len(records)} came with it")
    if (merkle_root(hashes) if root is None else root) != head.records_root:
        raise WrongRecordsRoot(
            "the records are not those that the submission's root covers",
            fix="sign the submission again over the records that are sent",
        )
    size = len(leaf) + sum(map(len, records))
    return Submission(leaf, head, tuple(records), tuple(hashes), columns, tuple(others), size)


_ISSUE_SIZE: Final = Issue.LAYOUT.size
_PACKED_ISSUE: Final = 2 + _ISSUE_SIZE
_BASES: Final = {int(basis): basis for basis in Basis}


def _issue_columns(agency: int, count: int, data: bytes, length: bytes) -> IssueColumns | None:
    """The columns of records that are all ISSUEs of ``agency``; None when any is something else.

    ``data``: the records one after another, each behind ``length``.

    Slices with a stride compare one byte of every record at a time: the usual bulk is checked
    with a dozen comparisons. Whatever differs goes the general way, where its fault gets a name.
    """
    stride = len(length) + _ISSUE_SIZE
    if len(data) != count * stride:
        return None
    suffix = agency.to_bytes(4, "big")
    header = length + bytes((FORMAT_VERSION, LeafType.ISSUE)) + suffix
    if any(data[at::stride] != bytes((byte,)) * count for at, byte in enumerate(header)):
        return None
    at = len(header)
    high, low, bases = data[at::stride], data[at + 1 :: stride], data[at + 2 :: stride]
    if max(bases) > max(_BASES):
        return None
    if high + low + bases == high[:1] * count + low[:1] * count + bases[:1] * count:
        seen = {(high[0], low[0], bases[0]): count}
    else:
        seen = Counter(zip(high, low, bases, strict=True))
    grounds = {(top << 8 | end, _BASES[basis]): number for (top, end, basis), number in seen.items()}
    keys = [data[i : i + 32] + suffix for i in range(at + 3, len(data), stride)]
    return IssueColumns(range(count), keys, grounds)


def _sort_records(agency: int, records: Sequence[bytes]) -> tuple[IssueColumns, list[tuple[int, Record]]]:
    positions: list[int] = []
    keys: list[bytes] = []
    grounds: Counter[tuple[int, Basis]] = Counter()
    suffix = agency.to_bytes(4, "big")
    others: list[tuple[int, Record]] = []
    for position, leaf in enumerate(records):
        record = parse_record(leaf)
        if record.agency != agency:
            raise ForeignRecord(
                f"bears agency {record.agency}, its submission agency {agency}",
                where=f"record {position}",
            )
        if isinstance(record, Issue):
            positions.append(position)
            keys.append(record.commitment + suffix)
            grounds[record.document_type, record.basis] += 1
        else:
            others.append((position, record))
    return IssueColumns(positions, keys, dict(grounds)), others
