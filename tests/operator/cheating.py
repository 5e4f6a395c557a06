"""The cheating operator: it holds the log's keys, and builds and signs whatever it likes.

Its honest blocks come from the rules; :class:`Lawless` puts leaves into a block that the rules never saw.
Everything is deterministic, so two operators that were made alike hold the same history, and a second one
is the other face of the first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ledger import rules
from ledger.checkpoints import Checkpoint, SignedCheckpoint, sign_checkpoint
from ledger.errors import BlockRefused
from ledger.evidence import Evidence
from ledger.evidence_making import prove_block, refusal
from ledger.hashing import leaf_hash, leaf_hashes
from ledger.leaves import LeafType
from ledger.notes import VerifierKey, parse_note
from ledger.records import Issue, Status, StatusChange, parse_record
from ledger.resources import CHECKPOINT, LogTiles, checkpoint_path
from ledger.rules_v1 import Draft
from ledger.seals import Seal
from ledger.state import State, Transition
from ledger.submissions import Submission
from ledger.tiles import TILE_WIDTH, TileNodeReader, encode_bundle, entries_path
from ledger.tree import Tree
from ledger.trust import SeenHead, Trust, TrustedLedger
from tests.ledger.static import StaticLedger
from tests.ledger.world import ORIGIN, MemoryReader, World, issue, log_key, signer
from tests.witnesses import cosigned


class Lawless(Draft):
    """A block into which any leaf goes; what the operator can count, it counts, so that the seal fits."""

    def __init__(self, state: State, reader: MemoryReader, time_ms: int) -> None:
        super().__init__(state, reader, max(time_ms, state.time_ms + 1))
        self.time_ms = time_ms

    def force(self, leaves: Iterable[bytes]) -> int:
        """Leaves that nobody checked; returns the index of the first."""
        first = self.next_index
        for leaf in leaves:
            index = self.next_index
            self._append([leaf], [leaf_hash(leaf)], len(leaf))
            if leaf[1] not in (LeafType.ISSUE, LeafType.STATUS):
                continue
            record = parse_record(leaf)
            if isinstance(record, Issue):
                self._documents += 1
            elif isinstance(record, StatusChange):
                self._edits.statuses[record.subject] = index, record.status
        return first

    def force_submission(self, submission: Submission) -> int:
        return self.force(submission.leaves)

    def force_status(self, subject: int, status: Status) -> None:
        """Change a bit of the status list, without a leaf that says so."""
        self._edits.statuses[subject] = subject, status


@dataclass
class Books(World):
    """A world whose blocks are served as static resources, lawful or not."""

    static: StaticLedger = field(default_factory=lambda: StaticLedger(ORIGIN, [signer("log")]))
    sealed: list[Transition] = field(default_factory=list)
    policy: str = ""
    head: SeenHead | None = None
    """What others have in their trust file: its policy, and the head that it was renewed by."""

    def commit(self, transition: Transition) -> Transition:
        self.reader.take(transition)
        self.blocks.append(tuple(transition.leaves))
        self.sealed.append(transition)
        self.static.add(transition)
        return transition

    def lawless(self, later_ms: int = 1000) -> Lawless:
        self.now = self.state.time_ms + later_ms
        return Lawless(self.state, self.reader, self.now)

    def seal_lawless(self, draft: Draft, **says: Any) -> Transition:
        """Seal a draft; ``says``: fields of the SEAL in which it lies."""
        made = draft.seal()
        if says:
            leaf = replace(Seal.decode(made.leaves[-1]), **says).encode()
            hashes = (*made.leaf_hashes[:-1], leaf_hash(leaf))
            made = replace(made, leaves=(*made.leaves[:-1], leaf), leaf_hashes=hashes)
        return self.commit(made)

    def lawful_submission(self) -> None:
        """One more document of agency 1."""
        self.submit(1, [issue(1, f"lawful {self.size}")])

    # --- what the log says ---

    @property
    def size(self) -> int:
        return len(self.static.leaves)

    def sign(self, checkpoint: Checkpoint) -> bytes:
        return sign_checkpoint(checkpoint, self.static.signers)

    def sign_size(self, size: int) -> bytes:
        """A head of any size of its tree, block's end or not."""
        return self.sign(Checkpoint(self.origin, size, self.static.root_at(size)))

    def serve_size(self, size: int) -> None:
        """Sign a head of any size, and serve it as the newest with the tree under it."""
        tree, tiles = Tree.empty().append(leaf_hashes(self.static.leaves[:size]))
        for tile in tiles:
            self.static.files[tile.id.path()] = tile.data
        for number in range(-(-size // TILE_WIDTH)):
            bundle = self.static.leaves[number * TILE_WIDTH : min((number + 1) * TILE_WIDTH, size)]
            self.static.files[entries_path(number, len(bundle))] = encode_bundle(bundle)
        note = self.sign(Checkpoint(self.origin, size, tree.root()))
        self.static.files[CHECKPOINT] = self.static.files[checkpoint_path(size)] = note

    def cosign(self, witness: str, time_s: int) -> None:
        """Put a witness's cosignature on the newest head that is served."""
        note = self.static.checkpoint
        made = parse_note(note).with_signatures([cosigned(note, witness, time_s)]).encode()
        self.static.files[CHECKPOINT] = made

    # --- what others trust ---

    def trusted(self) -> TrustedLedger:
        key = VerifierKey.parse(log_key("log", self.origin))
        genesis = leaf_hash(self.static.leaves[0])
        return replace(TrustedLedger.founded(genesis, self.origin, (key,), self.policy), head=self.head)

    def trust(self) -> Trust:
        return Trust((self.trusted(),))

    def opened(self, note: bytes | None = None) -> SignedCheckpoint:
        return self.trusted().open(note or self.static.checkpoint)

    def nodes(self, size: int | None = None) -> TileNodeReader:
        return TileNodeReader(LogTiles(self.static), size or self.size)


def accusation(blocks: Sequence[Sequence[bytes]], books: Books) -> Evidence | None:
    """What an auditor makes of the first block that the rules refuse; None when they take all."""
    copy = MemoryReader()
    for leaves in blocks:
        try:
            transition = rules.apply(copy.state, copy, leaves)
        except BlockRefused:
            signed = books.opened()
            return prove_block(refusal(copy.state, copy, leaves), signed, books.nodes())
        copy.take(transition)
    return None
