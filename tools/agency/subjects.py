"""Which documents and attestations a command is about, and where each stands: proven before it is touched.

A change of status cannot be taken back, so nothing here is believed on a node's word: which key signed
what is read from SUBMISSIONs that are proven, and each status from the proven status list.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ledger.errors import FormatError, ProofInvalid, SudurError
from ledger.hashing import leaf_hashes, merkle_root
from ledger.leaves import LeafType
from ledger.proven_log import ProvenLog
from ledger.proven_status import ProvenStatus
from ledger.receipts import MAX_RECEIPT, parse_receipt
from ledger.records import MAX_RECORDS, Attest, Issue, Status, StatusChange, parse_record
from ledger.references import parse_reference
from ledger.resources import SubjectEvents
from ledger.seals import Seal
from ledger.submissions import SubmissionLeaf
from tools.agency.session import Session
from tools.errors import Usage
from tools.files import read_file

MAX_LIST: Final = 64 << 20
FINAL: Final = (Status.REVOKED, Status.SUPERSEDED)
"""What cannot be taken back, but for what a stolen key did."""

_MAX_LINES: Final = 4_000_000


@dataclass(frozen=True, slots=True)
class Subject:
    """An ISSUE or ATTEST, its status now, and the index of the STATUS that says so (itself: none)."""

    index: int
    agency: int
    status: Status
    latest: int


@dataclass(frozen=True, slots=True)
class Selection:
    """Which records of which SUBMISSIONs are meant.

    ``key``: among its signers, when given; ``since`` and ``until``: the first and the last index of a
    record; ``from_ms`` and ``to_ms``: the time of its seal, the end not included.
    """

    agency: int
    key: int | None = None
    since: int = 0
    until: int | None = None
    from_ms: int = 0
    to_ms: int | None = None

    def takes(self, index: int, head: SubmissionLeaf) -> bool:
        return (
            head.agency == self.agency
            and index + head.count >= self.since
            and (self.until is None or index < self.until)
            and (self.key is None or any(one.number == self.key for one in head.signatures))
        )

    def takes_record(self, index: int) -> bool:
        return index >= self.since and (self.until is None or index <= self.until)

    def takes_time(self, time_ms: int) -> bool:
        return self.from_ms <= time_ms and (self.to_ms is None or time_ms < self.to_ms)


class Subjects:
    """Looks subjects up as of the newest checkpoint."""

    def __init__(self, session: Session) -> None:
        """Raises CheckpointUntrusted, ProofInvalid, Unavailable."""
        self._session = session
        self._log = ProvenLog(session.resources, session.ledger, session.client.checkpoint(signed=True))
        self._status = ProvenStatus(session.resources, self._log)
        self._events = SubjectEvents(session.resources, self._log.size)

    def get(self, index: int) -> Subject:
        """Raises OutOfRange, ProofInvalid; Usage for a leaf that has no status."""
        leaf = self._log.leaf(index).leaf
        record = parse_record(leaf) if leaf[1] in (LeafType.ISSUE, LeafType.ATTEST) else None
        if not isinstance(record, Issue | Attest):
            raise Usage(
                f"leaf {index} is a {LeafType(leaf[1]).name}: only documents and attestations have a status",
                fix="look at it: sudur log entry",
            )
        changes = self._events.on(index, LeafType.STATUS)
        status = self._status.status(index)
        return Subject(index, record.agency, status, changes[-1] if changes else index)

    def signed(self, wanted: Selection, advance: Callable[[int], None]) -> list[int]:
        """The indexes of all documents and attestations in the SUBMISSIONs of a selection."""
        return self._scan(wanted, (LeafType.ISSUE, LeafType.ATTEST), advance)

    def changed(self, wanted: Selection, advance: Callable[[int], None]) -> list[int]:
        """The subjects of all STATUSes in the SUBMISSIONs of a selection, each once."""
        found = self._scan(wanted, (LeafType.STATUS,), advance)
        subjects = [StatusChange.decode(self._log.raw_leaf(index)).subject for index in found]
        return list(dict.fromkeys(subjects))

    def _scan(
        self, wanted: Selection, kinds: Sequence[LeafType], advance: Callable[[int], None]
    ) -> list[int]:
        """Reads the log as the node streams it; each SUBMISSION that counts is proven, its records by it."""
        found: list[int] = []
        block: list[int] = []
        pending: tuple[int, SubmissionLeaf, list[bytes]] | None = None
        # The SUBMISSION of a record stands less than 257 leaves before it.
        told = start = max(0, wanted.since - MAX_RECORDS)
        stream = self._session.client.entries(start, self._log.size)
        for index, leaf in enumerate(stream, start):
            if index - told == 4_096:
                advance(4_096)
                told = index
            if pending is not None:
                at, head, records = pending
                records.append(leaf)
                if len(records) == head.count:
                    taken = self._proven(at, head, records, kinds)
                    block += [one for one in taken if wanted.takes_record(one)]
                    pending = None
            elif leaf[1] == LeafType.SUBMISSION:
                head = SubmissionLeaf.decode(leaf)
                if wanted.takes(index, head):
                    pending = (index, head, [])
            elif leaf[1] == LeafType.SEAL:
                if block and wanted.takes_time(Seal.decode(self._log.leaf(index).leaf).time_ms):
                    found += block
                block = []
        advance(self._log.size - told)
        return found

    def _proven(
        self, at: int, head: SubmissionLeaf, records: Sequence[bytes], kinds: Sequence[LeafType]
    ) -> list[int]:
        if self._log.leaf(at).leaf != head.encode() or merkle_root(leaf_hashes(records)) != head.records_root:
            raise ProofInvalid(
                f"what the node streams at leaf {at} is not what the log holds",
                fix="report this node to the authority, and use another",
            )
        return [at + 1 + i for i, leaf in enumerate(records) if leaf[1] in kinds]

    @property
    def size(self) -> int:
        return self._log.size


def named(texts: Sequence[str]) -> list[int]:
    """The indexes that arguments name: an index, ``ref:`` and a reference number, or a receipt file.

    Raises Usage, FormatError, FileProblem.
    """
    return [_named(text) for text in texts]


def listed(path: Path) -> list[int]:
    """The same from a file, one a line; empty lines and those that begin with # count for nothing."""
    try:
        lines = read_file(path, MAX_LIST).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise Usage("is not UTF-8 text", where=str(path), fix="save it as UTF-8") from None
    if len(lines) > _MAX_LINES:
        raise Usage(f"{len(lines)} lines, at most {_MAX_LINES} are taken", where=str(path))
    found = []
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        try:
            found.append(_named(text))
        except SudurError as error:
            error.where = f"{path}, line {number}"
            raise
    return found


def _named(text: str) -> int:
    if text.startswith("ref:"):
        return parse_reference(text.removeprefix("ref:"))
    if text.isascii() and text.isdigit() and len(text) <= 20:
        return int(text)
    if Path(text).is_file():
        try:
            return parse_receipt(read_file(Path(text), MAX_RECEIPT + 1)).issue.index
        except FormatError as error:
            raise Usage(f"is no receipt: {error.what}", where=text) from error
    raise Usage(
        f"{text!a} names no leaf",
        fix="give an index, a receipt file, or ref: and a reference number",
    )
