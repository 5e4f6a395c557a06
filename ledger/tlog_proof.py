"""C2SP tlog-proof: one leaf, its inclusion path and the signed checkpoint, in one text that stands alone.

    c2sp.org/tlog-proof@v1
    extra <base64>
    index <decimal>
    <base64 of each hash, leaf to root>
    <blank line>
    <the checkpoint, byte for byte>

Any verifier of such proofs can check it with the log's key, once it has the leaf. ``extra`` is what leads to
the leaf, and is believed by nobody: :mod:`ledger.presented_documents`. Format: docs/format.md, section
Portable proofs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from ledger.canonical_json import base64_text, parse_base64
from ledger.checkpoints import MAX_TREE_SIZE, Checkpoint
from ledger.errors import FormatError, PortableFormatError, TooLarge
from ledger.hashing import HASH_SIZE, leaf_hash
from ledger.notes import MAX_NOTE_SIZE
from ledger.proofs import verify_inclusion

MAX_EXTRA: Final = 8 << 20
"""As large as a receipt may be: a document with all its values has to fit."""
MAX_PATH: Final = 63
MAX_TLOG_PROOF: Final = (MAX_EXTRA + 2) // 3 * 4 + MAX_NOTE_SIZE + 4_096
_FIRST: Final = "c2sp.org/tlog-proof@v1"
_DECIMAL: Final = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
_WHERE: Final = "tlog-proof"


@dataclass(frozen=True, slots=True)
class TlogProof:
    """The leaf at ``index`` is under ``checkpoint``, a signed note as it was served. Nothing is verified yet.

    ``path``: hashes of 32 bytes, leaf to root. ``extra``: unauthenticated; empty: there is none.
    """

    index: int
    path: tuple[bytes, ...]
    checkpoint: bytes
    extra: bytes = b""

    def encode(self) -> bytes:
        """The text, UTF-8."""
        lines = [_FIRST]
        if self.extra:
            lines.append(f"extra {base64_text(self.extra)}")
        lines.append(f"index {self.index}")
        lines += map(base64_text, self.path)
        return "\n".join(lines).encode() + b"\n\n" + self.checkpoint

    def check(self, leaf: bytes, checkpoint: Checkpoint) -> None:
        """Return if ``leaf`` is at the index under ``checkpoint``, which is this proof's, opened by trust.

        Raises ProofInvalid, OutOfRange.
        """
        verify_inclusion(leaf_hash(leaf), self.index, checkpoint.size, self.path, checkpoint.root)


def parse_tlog_proof(data: bytes) -> TlogProof:
    """The inverse of :meth:`TlogProof.encode`, for nothing else. Raises PortableFormatError, TooLarge."""
    if len(data) > MAX_TLOG_PROOF:
        raise TooLarge(f"{len(data)} bytes, at most {MAX_TLOG_PROOF} are read", where=_WHERE)
    head, blank, checkpoint = data.partition(b"\n\n")
    try:
        lines = iter(head.decode("ascii").split("\n"))
    except UnicodeDecodeError:
        raise PortableFormatError("a character beyond ASCII", where=_WHERE) from None
    if next(lines) != _FIRST or not blank:
        raise PortableFormatError(
            f"does not begin with {_FIRST} and go on to a blank line",
            where=_WHERE,
            fix="it may be another file, or cut short",
        )
    line = next(lines, "")
    extra = b""
    if line.startswith("extra "):
        extra = _base64(line.removeprefix("extra "), MAX_EXTRA)
        if not extra:
            raise PortableFormatError("an extra line without data", where=_WHERE)
        line = next(lines, "")
    proof = TlogProof(_index(line), tuple(_hashes(lines)), checkpoint, extra)
    if not 0 < len(checkpoint) <= MAX_NOTE_SIZE:
        raise PortableFormatError("no checkpoint, or one that is too long", where=_WHERE)
    return proof


def _index(line: str) -> int:
    text = line.removeprefix("index ")
    if text == line or not _DECIMAL.fullmatch(text) or int(text) >= MAX_TREE_SIZE:
        raise PortableFormatError("no line with a decimal index where it belongs", where=_WHERE)
    return int(text)


def _hashes(lines: Iterator[str]) -> Iterator[bytes]:
    for number, line in enumerate(lines):
        found = _base64(line, HASH_SIZE)
        if number == MAX_PATH or len(found) != HASH_SIZE:
            raise PortableFormatError(f"at most {MAX_PATH} hashes of 32 bytes belong here", where=_WHERE)
        yield found


def _base64(text: str, limit: int) -> bytes:
    try:
        return parse_base64(text, _WHERE, limit=limit)
    except FormatError as error:
        raise PortableFormatError(error.what, where=_WHERE) from None
