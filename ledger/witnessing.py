"""What a log asks of a witness (C2SP tlog-witness): the body of add-checkpoint, written and read.

old <size of the last checkpoint that the witness cosigned>
<base64 of a hash of the consistency proof>, up to 63 lines
<blank line>
<the checkpoint, a signed note>
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ledger.canonical_json import base64_text
from ledger.checkpoints import MAX_TREE_SIZE, Checkpoint, parse_checkpoint
from ledger.errors import NoteFormatError, TooLarge
from ledger.hashing import HASH_SIZE
from ledger.notes import MAX_NOTE_SIZE, parse_base64

ADD_CHECKPOINT: Final = "add-checkpoint"
"""The last part of the path, below the witness's submission prefix."""
SIZE_TYPE: Final = "text/x.tlog.size"
"""The media type of a 409: the size that the witness has, decimal, and a newline."""
MAX_PROOF: Final = 63
MAX_ADD_CHECKPOINT: Final = MAX_NOTE_SIZE + 4 + 19 + 1 + MAX_PROOF * 45 + 1

_WHERE: Final = "add-checkpoint"
_OLD: Final = re.compile(rb"old (0|[1-9][0-9]{0,18})", re.ASCII)


@dataclass(frozen=True, slots=True)
class AddCheckpoint:
    """A request. ``proof``: hashes of 32 bytes; ``note``: the checkpoint as it came, nothing of it read."""

    old_size: int
    proof: tuple[bytes, ...]
    note: bytes


def format_add_checkpoint(old_size: int, proof: Sequence[bytes], note: bytes) -> bytes:
    """The body to send. NoteFormatError for a proof of more than 63 hashes, or a size that none has."""
    if len(proof) > MAX_PROOF or not 0 <= old_size <= MAX_TREE_SIZE:
        raise NoteFormatError(f"{len(proof)} hashes from size {old_size}", where=_WHERE)
    lines = [f"old {old_size}", *map(base64_text, proof)]
    return "".join(f"{line}\n" for line in lines).encode() + b"\n" + note


def parse_add_checkpoint(data: bytes) -> AddCheckpoint:
    """The inverse. TooLarge for more than its greatest length, NoteFormatError for anything else."""
    if len(data) > MAX_ADD_CHECKPOINT:
        raise TooLarge(f"{len(data)} bytes, at most {MAX_ADD_CHECKPOINT} are read", where=_WHERE)
    head, blank, note = data.partition(b"\n\n")
    old, *lines = head.split(b"\n", MAX_PROOF + 1)
    matched = _OLD.fullmatch(old)
    if not blank or matched is None or int(matched[1]) > MAX_TREE_SIZE:
        raise NoteFormatError("it does not begin with an old size, and a blank line after it", where=_WHERE)
    if len(lines) > MAX_PROOF:
        raise NoteFormatError(f"more than {MAX_PROOF} lines of proof", where=_WHERE)
    return AddCheckpoint(int(matched[1]), tuple(_parse_hash(line) for line in lines), note)


def parse_any_checkpoint(text: bytes) -> Checkpoint:
    """What a checkpoint of any C2SP log says: its first three lines. NoteFormatError.

    Lines after them are the log's own business, and only this ledger's logs have none
    (:func:`ledger.checkpoints.parse_checkpoint`): a witness says nothing of them.
    """
    lines = text.split(b"\n")
    if len(lines) < 4 or lines.pop() or not all(lines):
        raise NoteFormatError("not three lines or more, none of them empty", where="checkpoint")
    return parse_checkpoint(b"\n".join(lines[:3]) + b"\n")


def has_extensions(text: bytes) -> bool:
    """Whether a checkpoint that :func:`parse_any_checkpoint` has read has more than its three lines."""
    return text.count(b"\n") > 3


def parse_known_size(data: bytes) -> int:
    """The size in the body of a 409. NoteFormatError for anything else."""
    matched = _OLD.fullmatch(b"old " + data[:-1]) if data.endswith(b"\n") and len(data) <= 20 else None
    if matched is None or int(matched[1]) > MAX_TREE_SIZE:
        raise NoteFormatError("not a size and a newline", where="size of a witness")
    return int(matched[1])


def _parse_hash(line: bytes) -> bytes:
    try:
        value = parse_base64(line.decode("ascii"), where="consistency proof")
    except UnicodeDecodeError:
        raise NoteFormatError("not base64", where="consistency proof") from None
    if len(value) != HASH_SIZE:
        raise NoteFormatError(f"{len(value)} bytes, a hash has {HASH_SIZE}", where="consistency proof")
    return value
