"""A Reader that knows only leaves which are proven, and gives a block the benefit of every doubt.

The rules ask their Reader for what stands in the log, and often for what does not: no such ISSUE, no
later STATUS. A leaf can be proven; that there is none cannot, short of a replay. So each question is
answered in the block's favour unless a proven leaf, or a proven status chunk, says otherwise. If the
rules refuse the block even so, they would have refused it whatever else the log holds: no honest log
could bear it. Where a favourable answer is what lets the block pass, nothing is proven.

What is favourable, question by question, and why no honest block is ever refused: docs/format.md,
section Evidence.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Final

from ledger.changes import AUTHORITY
from ledger.errors import EvidenceIncomplete, FormatError
from ledger.exchanges import Exchange
from ledger.hashing import leaf_hash
from ledger.leaves import LeafType
from ledger.records import Answer, Issue, Outcome, Record, Send, Status, StatusChange, parse_record
from ledger.registry_changes import MAX_DEPTH
from ledger.signing_policy import RecordKind
from ledger.state import State
from ledger.status import chunk_of, read_status
from ledger.submissions import SubmissionLeaf

_FINAL: Final = frozenset((Status.REVOKED, Status.SUPERSEDED))


class FavouringReader:
    """``ledger.state.Reader`` for judging ``block`` on top of ``state``, None for block 0.

    ``leaves`` are proven leaves below ``state.size`` by index; ``chunks`` proven status chunks as of
    there, by number. Raises EvidenceIncomplete when the rules ask for a leaf or chunk that is not among
    them.
    """

    def __init__(
        self,
        state: State | None,
        block: Sequence[bytes],
        leaves: Mapping[int, bytes],
        chunks: Mapping[int, bytes],
    ) -> None:
        self._registry = None if state is None else state.registry
        self._size = 0 if state is None else state.size
        self._leaves = leaves
        self._chunks = chunks
        self._thefts = state is not None and any(
            key.stolen is not None for agency in state.registry.agencies.values() for key in agency.keys
        )
        self._issues: dict[bytes, int] = {}
        self._submissions: dict[bytes, int] = {}
        self._attests: dict[bytes, int] = {}
        self._statuses: dict[int, dict[int, Status]] = {}
        self._answers: dict[int, list[tuple[int, Answer]]] = {}
        if state is not None:
            for index, leaf in sorted(leaves.items()):
                self._note(state.genesis, index, leaf)
        # The first of several is what the log before the block has to agree with.
        self._previous: dict[int, int] = {}
        self._answered: set[int] = set()
        for record in _records(block):
            if isinstance(record, StatusChange):
                self._previous.setdefault(record.subject, record.previous)
            elif isinstance(record, Answer):
                self._answered.add(record.subject)

    def _note(self, genesis: bytes, index: int, leaf: bytes) -> None:
        if leaf[1:2] == bytes((LeafType.SUBMISSION,)):
            with suppress(FormatError):
                self._submissions[SubmissionLeaf.decode(leaf).identity(genesis)] = index
            return
        for record in _records((leaf,)):
            if isinstance(record, Issue):
                self._issues[record.commitment + record.agency.to_bytes(4, "big")] = index
            elif isinstance(record, StatusChange):
                self._statuses.setdefault(record.subject, {})[index] = record.status
            elif isinstance(record, Answer):
                self._answers.setdefault(record.subject, []).append((index, record))
            elif leaf[1] == LeafType.ATTEST:
                self._attests[leaf_hash(leaf)] = index

    # --- ledger.state.Reader ---

    def find_issues(self, keys: Sequence[bytes]) -> list[int | None]:
        return [self._issues.get(key) for key in keys]

    def find_submission(self, claimed_ms: int, identity: bytes) -> int | None:
        return self._submissions.get(identity)

    def daily_count(self, agency: int, kind: RecordKind, day: int) -> int:
        """None so far: what a policy asks for only grows with the count."""
        return 0

    def leaf(self, index: int) -> bytes:
        if index not in self._leaves:
            raise EvidenceIncomplete(f"leaf {index} decides, and is not in the evidence")
        return self._leaves[index]

    def latest_status(self, subject: int) -> int | None:
        """The one that the block's own STATUS names, unless a proven leaf shows that it is not."""
        known = self._statuses.get(subject, {})
        if subject not in self._previous:
            return self._of_status(subject, known)
        previous = self._previous[subject]
        if previous == subject:
            if not known and self._status(subject) not in (Status.VALID, None):
                raise EvidenceIncomplete(f"the latest STATUS on leaf {subject} is not in the evidence")
            return max(known, default=None)
        if previous >= self._size or (previous in self._leaves and previous not in known):
            return max(known, default=None)
        later = max((index for index in known if index > previous), default=None)
        return previous if later is None else later

    def _of_status(self, subject: int, known: Mapping[int, Status]) -> int | None:
        """A STATUS that says what the chunk says: which of several such it is decides nothing here."""
        present = self._status(subject)
        if present is None:
            raise EvidenceIncomplete(f"status chunk {chunk_of(subject)} decides, and is not in the evidence")
        if present is Status.VALID:
            return None
        fitting = [index for index, status in known.items() if status is present]
        if not fitting:
            raise EvidenceIncomplete(f"the latest STATUS on leaf {subject} is not in the evidence")
        return max(fitting)

    def _status(self, subject: int) -> Status | None:
        chunk = self._chunks.get(chunk_of(subject))
        return None if chunk is None else read_status(chunk, subject)

    def status_chunk(self, number: int) -> bytes:
        if number not in self._chunks:
            raise EvidenceIncomplete(f"status chunk {number} decides, and is not in the evidence")
        return self._chunks[number]

    def find_attest(self, leaf_hash: bytes) -> int | None:
        """A proven one that stands: without any theft it never lost its force, so it is the latest.

        A thief's revocation can be undone after the same was attested anew; then only a replay tells.
        """
        found = self._attests.get(leaf_hash)
        if found is None or self._thefts:
            return None
        present = self._status(found)
        return None if present is None or present in _FINAL else found

    def exchange(self, send: int) -> Exchange:
        """Open if the block answers it, else settled: then nothing in the block is a mere reminder.

        When it was sent is of no consequence to what is valid.
        """
        self._check_line(send)
        received, final = None, None
        for index, answer in self._answers.get(send, ()):
            if answer.outcome is Outcome.RECEIVED:
                received = index
            else:
                final = index
        if final is None and send not in self._answered:
            final = send
        return Exchange(0, received, final)

    def _check_line(self, send: int) -> None:
        """That all who stood above the recipient then stood under the authority: figures walk up there."""
        above = Send.decode(self.leaf(send)).recipient
        for _ in range(MAX_DEPTH + 1):
            if above == AUTHORITY or self._registry is None:
                return
            above = self._registry.agency(above).record.parent.at(send)
        raise EvidenceIncomplete("the registry before the block is itself against the rules")


def _records(leaves: Iterable[bytes]) -> Iterable[Record]:
    """Those of the leaves that are records and can be read; of the others the rules will say it."""
    for leaf in leaves:
        try:
            yield parse_record(leaf)
        except FormatError:
            continue
