"""Evidence that a log was not honest: one file that a third person checks without asking anybody.

Three kinds. A *fork*: two heads that the log signed and that no one tree has. An *unsealed head*: a
signed head whose last leaf is no SEAL, so that it was signed amid a block. A *broken block*: a block
under a signed head that the rules refuse, with the state before it as the seal before it commits to, and
those earlier leaves that decide, each proven. Nothing in a file is believed; ``evidence_verdict`` says
what it proves. Canonical JSON. Format: docs/format.md, section Evidence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from ledger.canonical_json import Json, Reader, base64_text, encode, parse, u64_text
from ledger.checkpoints import MAX_TREE_SIZE
from ledger.errors import EvidenceFormatError, FormatError
from ledger.hashing import HASH_SIZE
from ledger.leaves import MAX_LEAF_SIZE
from ledger.notes import MAX_NOTE_SIZE
from ledger.receipts import ProvenLeaf
from ledger.registry_records import MAX_RECORD
from ledger.rules_v1 import MAX_BLOCK_LEAVES
from ledger.run_proofs import MAX_RUN_PROOF
from ledger.status import CHUNK_SIZE, compress_chunk, expand_chunk

MAX_EVIDENCE: Final = 64 << 20
MAX_CHUNKS: Final = 1_024
"""Most status chunks in a file; a block that needs more has to be replayed."""
MAX_EARLIER: Final = 16_384
"""Most earlier leaves in a file."""
_FORMAT: Final = "sudur-evidence/v1"
_MAX_REASON: Final = 2_048
_MAX_CONSISTENCY: Final = 129
_MAX_RECORDS: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Fork:
    """Two signed notes, ``small`` of no greater size than ``large``.

    ``root`` is what the tree under ``large`` has at the size of ``small``, shown by ``consistency``; at
    equal sizes it is the root of ``large`` itself, and there is nothing to show.
    """

    small: bytes
    large: bytes
    root: bytes
    consistency: tuple[bytes, ...]

    def to_json(self) -> Json:
        return {
            "kind": "fork",
            "small": self.small.decode("utf-8"),
            "large": self.large.decode("utf-8"),
            "root": base64_text(self.root),
            "consistency": _hashes(self.consistency),
        }

    @classmethod
    def from_json(cls, reader: Reader) -> Fork:
        fork = cls(
            _note(reader, "small"),
            _note(reader, "large"),
            reader.data("root", size=HASH_SIZE),
            _read_hashes(reader, "consistency", _MAX_CONSISTENCY),
        )
        reader.done()
        return fork


@dataclass(frozen=True, slots=True)
class UnsealedHead:
    """A signed note, and the last leaf of its tree."""

    checkpoint: bytes
    last: ProvenLeaf

    def to_json(self) -> Json:
        return {
            "kind": "unsealed",
            "checkpoint": self.checkpoint.decode("utf-8"),
            "last": self.last.to_json(),
        }

    @classmethod
    def from_json(cls, reader: Reader) -> UnsealedHead:
        head = cls(_note(reader, "checkpoint"), ProvenLeaf.from_json(reader.member("last")))
        reader.done()
        return head


@dataclass(frozen=True, slots=True)
class StateBefore:
    """What the seal before a block commits to: the whole registry, and the status list by its hashes.

    ``records`` are the registry's in the order of its tree, ``keys`` those of each agency by number;
    ``chunks`` are the status chunks that are shown, by number.
    """

    records: tuple[bytes, ...]
    keys: tuple[tuple[bytes, ...], ...]
    status: tuple[bytes, ...]
    chunks: tuple[tuple[int, bytes], ...]

    def to_json(self) -> Json:
        return {
            "records": [one.decode("utf-8") for one in self.records],
            "keys": [[one.decode("utf-8") for one in keys] for keys in self.keys],
            "status": base64_text(b"".join(self.status)),
            "chunks": [
                {"number": number, "zlib": base64_text(compress_chunk(chunk))}
                for number, chunk in self.chunks
            ],
        }

    @classmethod
    def from_json(cls, reader: Reader) -> StateBefore:
        keys = reader.items("keys", limit=_MAX_RECORDS)
        by_agency = Reader({str(i): one for i, one in enumerate(keys)}, reader.at("keys"))
        status = reader.data("status", limit=MAX_EVIDENCE)
        if len(status) % HASH_SIZE:
            raise FormatError("no whole number of hashes", where=reader.at("status"))
        before = cls(
            _records(reader, "records", _MAX_RECORDS),
            tuple(_records(by_agency, str(i), 1 << 16) for i in range(len(keys))),
            tuple(status[at : at + HASH_SIZE] for at in range(0, len(status), HASH_SIZE)),
            tuple(_chunk(one) for one in reader.members("chunks", limit=MAX_CHUNKS)),
        )
        reader.done()
        numbers = [number for number, _ in before.chunks]
        if numbers != sorted(set(numbers)):
            raise FormatError("numbers must strictly ascend", where=reader.at("chunks"))
        return before


@dataclass(frozen=True, slots=True)
class BrokenBlock:
    """A signed note, and under it a run of leaves: the seal before the block (none for block 0), the block.

    ``path`` proves the run, which begins at index ``first``. ``before`` is None for block 0. ``earlier``
    are leaves below the block, by index. ``reason``: what the one who made the file was told by the
    rules; nobody has to believe it.
    """

    checkpoint: bytes
    first: int
    run: tuple[bytes, ...]
    path: tuple[bytes, ...]
    before: StateBefore | None
    earlier: tuple[ProvenLeaf, ...]
    reason: str

    def to_json(self) -> Json:
        return {
            "kind": "block",
            "checkpoint": self.checkpoint.decode("utf-8"),
            "first": u64_text(self.first),
            "run": _hashes(self.run),
            "path": _hashes(self.path),
            "before": None if self.before is None else self.before.to_json(),
            "earlier": [one.to_json() for one in self.earlier],
            "reason": self.reason,
        }

    @classmethod
    def from_json(cls, reader: Reader) -> BrokenBlock:
        run = reader.items("run", limit=MAX_BLOCK_LEAVES + 2)
        leaves = Reader({str(i): one for i, one in enumerate(run)}, reader.at("run"))
        block = cls(
            _note(reader, "checkpoint"),
            reader.u64("first"),
            tuple(leaves.data(str(i), limit=MAX_LEAF_SIZE) for i in range(len(run))),
            _read_hashes(reader, "path", MAX_RUN_PROOF),
            None if reader.any("before") is None else StateBefore.from_json(reader.member("before")),
            tuple(ProvenLeaf.from_json(one) for one in reader.members("earlier", limit=MAX_EARLIER)),
            reader.text("reason", limit=_MAX_REASON, empty=True),
        )
        reader.done()
        if block.first > MAX_TREE_SIZE:
            raise FormatError("no tree has that many leaves", where=reader.at("first"))
        indexes = [one.index for one in block.earlier]
        if indexes != sorted(set(indexes)):
            raise FormatError("indexes must strictly ascend", where=reader.at("earlier"))
        return block


Breach: TypeAlias = Fork | UnsealedHead | BrokenBlock


@dataclass(frozen=True, slots=True)
class Evidence:
    """A breach, and what names the accused.

    ``genesis`` is leaf 0 under the breach's head, of a fork under either: it names the log's first keys
    and its G, for those who have no trust file. None where it could not be had.
    """

    genesis: ProvenLeaf | None
    breach: Breach

    def encode(self) -> bytes:
        """The file's bytes: canonical JSON and a newline."""
        genesis = None if self.genesis is None else self.genesis.to_json()
        return encode({"format": _FORMAT, "genesis": genesis, "breach": self.breach.to_json()}) + b"\n"


def parse_evidence(data: bytes) -> Evidence:
    """Read an evidence file, of at most 64 MiB. Raises EvidenceFormatError; nothing is verified yet."""
    if not data.endswith(b"\n"):
        raise EvidenceFormatError("does not end with its newline: it may be cut short", where="evidence")
    try:
        reader = Reader(parse(data[:-1], limit=MAX_EVIDENCE, where="evidence"), "evidence")
        if reader.text("format") != _FORMAT:
            raise FormatError(f"is not {_FORMAT}", where=reader.at("format"))
        genesis = None if reader.any("genesis") is None else ProvenLeaf.from_json(reader.member("genesis"))
        evidence = Evidence(genesis, _breach(reader.member("breach")))
        reader.done()
    except FormatError as error:
        raise EvidenceFormatError(error.what, where=error.where, fix=error.fix) from error
    return evidence


def _breach(reader: Reader) -> Breach:
    kind = reader.text("kind")
    if kind == "fork":
        return Fork.from_json(reader)
    if kind == "unsealed":
        return UnsealedHead.from_json(reader)
    if kind == "block":
        return BrokenBlock.from_json(reader)
    raise FormatError("is none of fork, unsealed, block", where=reader.at("kind"))


def _note(reader: Reader, name: str) -> bytes:
    return reader.text(name, limit=MAX_NOTE_SIZE).encode("utf-8")


def _chunk(reader: Reader) -> tuple[int, bytes]:
    one = reader.number("number", 0, 2**47), expand_chunk(reader.data("zlib", limit=2 * CHUNK_SIZE))
    reader.done()
    return one


def _records(reader: Reader, name: str, limit: int) -> tuple[bytes, ...]:
    items = reader.items(name, limit=limit)
    inner = Reader({str(i): one for i, one in enumerate(items)}, reader.at(name))
    return tuple(inner.text(str(i), limit=MAX_RECORD).encode("utf-8") for i in range(len(items)))


def _hashes(values: tuple[bytes, ...]) -> Json:
    return [base64_text(one) for one in values]


def _read_hashes(reader: Reader, name: str, limit: int) -> tuple[bytes, ...]:
    items = reader.items(name, limit=limit)
    inner = Reader({str(i): one for i, one in enumerate(items)}, reader.at(name))
    return tuple(inner.data(str(i), size=HASH_SIZE) for i in range(len(items)))
