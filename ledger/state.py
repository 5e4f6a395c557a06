"""What the rules read and what they produce: values that pass between the core and a store.

The state is what every block needs (a few hundred kilobytes however long the log); what grows with
the log is asked of a :class:`Reader`. A :class:`Transition` is everything that a block changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ledger.changes import Subject
from ledger.exchanges import Exchange
from ledger.figures import FigureKey
from ledger.merkle_list import MerkleList
from ledger.registry import Registry
from ledger.signing_policy import RecordKind


@dataclass(frozen=True, slots=True)
class State:
    """The ledger after a block.

    ``block``, ``seal_index`` and ``time_ms`` are of its newest seal; ``documents`` counts all
    ISSUEs; ``status`` is over the hashes of the status chunks.
    """

    registry: Registry
    block: int
    seal_index: int
    time_ms: int
    documents: int
    status: MerkleList

    @property
    def size(self) -> int:
        """Leaves in the tree."""
        return self.seal_index + 1

    @property
    def genesis(self) -> bytes:
        """G, the hash of leaf 0: the name of this very ledger."""
        return self.registry.genesis

    @property
    def rules(self) -> int:
        """The rules version of the next block."""
        return self.registry.ledger.rules.at(self.block + 1)


class Reader(Protocol):
    """Look-ups in the leaves below ``State.size``, answered as of exactly that size.

    Trusted: what it says is believed, so it is the node's own store or a replayed copy. Each may
    raise the store's own error when it cannot read; none blocks on a network.
    """

    def find_issues(self, keys: Sequence[bytes]) -> list[int | None]:
        """For each key (commitment [32] ‖ agency u32) the index of its ISSUE, or None."""
        ...

    def find_submission(self, claimed_ms: int, identity: bytes) -> int | None:
        """The index of the SUBMISSION with this claimed time and id, or None."""
        ...

    def daily_count(self, agency: int, kind: RecordKind, day: int) -> int:
        """Records of this agency and kind in this UTC day, by seal time."""
        ...

    def leaf(self, index: int) -> bytes:
        """The leaf at ``index``, below the state's size."""
        ...

    def latest_status(self, subject: int) -> int | None:
        """The index of the latest STATUS leaf on a subject, or None."""
        ...

    def status_chunk(self, number: int) -> bytes:
        """A status chunk, 16,384 bytes; zeros where no status ever changed."""
        ...

    def find_attest(self, leaf_hash: bytes) -> int | None:
        """The index of the latest ATTEST with this leaf hash, or None."""
        ...

    def exchange(self, send: int) -> Exchange:
        """What has become of the SEND at this index. There is one for every SEND."""
        ...


@dataclass(frozen=True, slots=True)
class Transition:
    """One valid block and all that it changes; ``state`` is the state after it.

    ``issues`` maps commitment ‖ agency to the ISSUE's index, ``submissions`` (claimed ms, id) to the
    SUBMISSION's; ``daily`` holds new totals; ``statuses`` each subject's latest STATUS. ``attests`` maps
    an ATTEST's leaf hash to its index, ``exchanges`` a SEND's index to its state now. ``attested`` are
    (subject, index) of each ATTEST, ``sends`` (recipient, index) of each SEND; ``figures`` is what the
    block adds to each counter, never zero.
    """

    before: State | None
    state: State
    leaves: Sequence[bytes]
    leaf_hashes: Sequence[bytes]
    issues: Mapping[bytes, int]
    submissions: Mapping[tuple[int, bytes], int]
    daily: Mapping[tuple[int, RecordKind, int], int]
    statuses: Mapping[int, int]
    status_chunks: Mapping[int, bytes]
    subjects: frozenset[Subject]
    attests: Mapping[bytes, int] = field(default_factory=dict)
    exchanges: Mapping[int, Exchange] = field(default_factory=dict)
    attested: Sequence[tuple[int, int]] = ()
    sends: Sequence[tuple[int, int]] = ()
    figures: Mapping[FigureKey, int] = field(default_factory=dict)

    @property
    def first_index(self) -> int:
        """Index of the block's first leaf."""
        return self.state.size - len(self.leaves)
