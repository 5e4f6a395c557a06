"""What ``sudur verify`` writes into the journal of a check that it has made."""

from __future__ import annotations

import time
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from ledger.canonical_json import encode
from ledger.codes import parse_code
from ledger.errors import SudurError
from ledger.receipts import Receipt, disclosure_to_json, parse_receipt
from ledger.submissions import SubmissionLeaf
from ledger.verdicts import Verdict
from tools.errors import KeyFileError, Usage
from tools.keyfile import KeyFile, check_label
from tools.ui import Passphrase, remark
from tools.verifying.entries import Entry, JournalKey, RecheckBy, Relied
from tools.verifying.journal import append

_RECEIPT: Final = b"receipt\n"
_CODE: Final = b"code\n"
_BYTES: Final = b"bytes\n"


@dataclass(frozen=True, slots=True)
class Unread:
    """Nothing could be read of what was to be checked, and why."""

    why: str


@dataclass(frozen=True, slots=True)
class Recorder:
    """A journal, opened to be written to by one officer (a pseudonym)."""

    path: Path
    officer: str
    key: JournalKey

    def record(self, given: bytes | str | Unread, verdict: Verdict) -> Entry | None:
        """Journal a check, durably; None where there was nothing to check.

        Raises JournalProblem, FileProblem; then nothing was journalled.
        """
        if isinstance(given, Unread):
            return None
        digest, now_ms = digest_of(given), time.time_ns() // 1_000_000
        proven = verdict.proven
        relied, by = None, None
        if proven is not None:
            relied = Relied(proven.genesis, proven.size, proven.root, proven.as_of_ms)
            by = RecheckBy(proven.index, proven.agency, int(proven.basis), _signed(given))

        def make(number: int, before: bytes) -> Entry:
            return Entry(
                number=number,
                time_ms=now_ms,
                officer=self.officer,
                checked=self.key.checked(number, digest),
                verdict=verdict.code,
                relied=relied,
                sealed=None if by is None else self.key.seal(number, by),
                before=before,
            )

        entry, torn = append(self.path, self.key, make)
        if torn:
            remark("A line that a crash had cut off, and that nobody was told, was taken out of the journal.")
        return entry


def open_recorder(
    journal: Path | None, officer: str | None, key: Path | None, passphrase: Passphrase
) -> Recorder | None:
    """From the options of a command; None when no journal is kept. Raises Usage, KeyFileError …"""
    if journal is None:
        if officer is not None or key is not None:
            raise Usage("nothing is written down without a journal", where="--officer", fix="give --journal")
        return None
    if officer is None:
        raise Usage("a journal says who checked", where="--journal", fix="give --officer, a pseudonym")
    try:
        check_label(officer)
    except KeyFileError as error:
        raise Usage(error.what, where="--officer") from None
    return Recorder(journal, officer, open_journal_key(journal, key, passphrase))


def key_path(journal: Path) -> Path:
    """Where a journal's key lies unless it is said."""
    return journal.with_name(f"{journal.name}.key.json")


def open_journal_key(journal: Path, key: Path | None, passphrase: Passphrase) -> JournalKey:
    """Raises FileProblem, KeyFileError, WrongPassphrase, JournalProblem."""
    file = KeyFile(key_path(journal) if key is None else key)
    return JournalKey(file.open(passphrase.to_open(file.path.name) if file.is_encrypted else None))


def digest_of(given: bytes | str) -> bytes:
    """SHA-256 of what was checked, the same however it travelled.

    Of a receipt: its ledger, its index and the document as it was shown, not the proofs around it, which
    change with each renewal. Of a code: its bytes. Of what is neither: the bytes as they came.
    """
    if isinstance(given, str):
        try:
            return sha256(_CODE + parse_code(given).encode()).digest()
        except SudurError:
            return sha256(_BYTES + given.encode("utf-8", "surrogatepass")).digest()
    receipt = _receipt(given)
    if receipt is None:
        return sha256(_BYTES + given).digest()
    shown = encode(disclosure_to_json(receipt.document))
    return sha256(_RECEIPT + receipt.genesis + receipt.issue.index.to_bytes(8, "big") + shown).digest()


def _receipt(given: bytes | str) -> Receipt | None:
    try:
        return None if isinstance(given, str) else parse_receipt(given)
    except SudurError:
        return None


def _signed(given: bytes | str) -> tuple[int, tuple[int, ...]] | None:
    """Where the SUBMISSION over a proven receipt's document stands, and which keys signed it."""
    receipt = _receipt(given)
    if receipt is None:
        return None
    proof = receipt.submission.head
    return proof.index, tuple(one.number for one in SubmissionLeaf.decode(proof.leaf).signatures)
