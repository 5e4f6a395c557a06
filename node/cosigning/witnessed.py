"""Which checkpoint is published: the newest that meets the witness policy in force at its size.

What the node has signed may still be denied by its operator; what enough witnesses have cosigned cannot
be. Verifiers begin with the newest one of the second kind, and the policy that says what is enough stands
in the log's own registry: a change of it holds for every size behind the index of that change. Where it
asks for nobody, signed is enough.

Cosignatures come in one by one, from this node's own asking (node/cosigning/collector.py), or in notes
that others have gathered. Each is verified here before it is kept, and kept, durably, before anybody is
shown it: what was published once is so after a crash.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from ledger.cosignatures import Cosignature, verify_cosignatures
from ledger.errors import SudurError
from ledger.notes import Note, NoteSignature, known_signatures, parse_note
from ledger.registry_records import LedgerRecord
from ledger.witness_policy import WitnessPolicy
from node.cosigning.lines import join_lines, signatures_of
from node.cosigning.policies import meets, policy_at
from node.errors import NotFound
from node.logs import guarded
from node.publish import Publications, Published
from node.store import Store

_log: Final = structlog.get_logger("node.cosigning")


@dataclass(frozen=True, slots=True)
class Witnessed:
    """A published checkpoint. ``note``: signed, with all cosignatures that came for it so far."""

    size: int
    block: int
    note: bytes


class WitnessedHeads:
    """Any thread. ``newest`` is one attribute read, and never goes back to a smaller size."""

    def __init__(self, store: Store, publications: Publications) -> None:
        """Find the newest published checkpoint among what is stored."""
        self._store = store
        self._publications = publications
        self._taking = threading.Lock()
        # Held for moments only: whoever commits blocks waits for it.
        self._lock = threading.Lock()
        self._hooks: tuple[Callable[[Witnessed], None], ...] = ()
        self._newest: Witnessed | None = None
        publications.on_publish(self._released)
        found = self._find()
        if found is not None:
            self._publish(found)

    @property
    def newest(self) -> Witnessed | None:
        """The newest published checkpoint; None for a ledger whose witnesses have not cosigned one yet."""
        return self._newest

    @property
    def signed(self) -> Published:
        """The newest signed one, which may be further."""
        return self._publications.newest

    def policy(self, size: int) -> WitnessPolicy | None:
        """See :func:`policy_at`."""
        return policy_at(self.signed.state.registry.ledger, size)

    def on_publish(self, callback: Callable[[Witnessed], None]) -> None:
        """Have ``callback`` called after each new published checkpoint, or new cosignatures of it.

        On whichever thread brought it.
        """
        with self._lock:
            self._hooks = (*self._hooks, callback)

    def take(self, size: int, signatures: Sequence[NoteSignature]) -> tuple[Cosignature, ...]:
        """Verify cosignatures of a checkpoint that is here, keep them, and publish it if that is enough.

        Returns those by witnesses of its policy. Lines of other keys are dropped; of two by one witness
        the later time stays. About 50 µs each, and one fsync. Raises SignatureInvalid when one by a known
        key does not verify: then none is kept; NotFound where no checkpoint of that size was signed.
        """
        policy = self.policy(size)
        if policy is None:
            return ()
        note = Note(parse_note(self._store.signed_checkpoint(size)).text, tuple(signatures))
        found = verify_cosignatures(note, policy.witness_keys)
        if not found:
            return ()
        new = {one.key: one for one in found}
        with self._taking:
            held = self._store.cosignatures(size)
            times = {one.key: one.time_s for one in self._verified(note.text, held, policy)}
            fresh = [
                line
                for line, key in known_signatures(note, policy.witness_keys)
                if new[key].time_s > times.get(key, -1)
            ]
            if fresh:
                lines = join_lines(held, b"".join(line.line() for line in fresh))
                self._store.keep_cosignatures(size, lines)
                self._judge(size, policy)
        return found

    def take_note(self, note: bytes) -> None:
        """The same with the lines of a note from another node, if it is the very checkpoint that is here.

        Raises as :meth:`take`, and NoteFormatError.
        """
        parsed = parse_note(note)
        size = int(parsed.text.split(b"\n", 2)[1])
        if parse_note(self._store.signed_checkpoint(size)).text == parsed.text:
            self.take(size, parsed.signatures)

    def look(self, size: int) -> None:
        """Something was stored for a size: publish it, if it is enough by now. One fsync."""
        policy = self.policy(size)
        if policy is not None and self._store.cosignatures(size):
            self._store.sync()
            self._judge(size, policy)

    def cosignatures(self, size: int) -> tuple[Cosignature, ...]:
        """Those that are kept for a size, by witnesses of its policy."""
        policy = self.policy(size)
        if policy is None:
            return ()
        try:
            text = parse_note(self._store.signed_checkpoint(size)).text
        except NotFound:
            return ()
        return self._verified(text, self._store.cosignatures(size), policy)

    # --- what is published ---

    def _released(self, published: Published) -> None:
        """On the thread that released it: where nobody is asked, that is all; else a note may bear more."""
        size = published.size
        policy = policy_at(published.state.registry.ledger, size)
        if policy is None:
            self._publish(Witnessed(size, published.head.block, published.checkpoint))
        elif self._store.cosignatures(size):
            self._judge(size, policy)

    def _judge(self, size: int, policy: WitnessPolicy) -> None:
        """Publish a size whose cosignatures are enough."""
        newest = self._newest
        if size > self.signed.size or (newest is not None and size < newest.size):
            return
        found = self._met(size, policy)
        if found is not None:
            self._publish(found)

    def _met(self, size: int, policy: WitnessPolicy) -> Witnessed | None:
        try:
            note = self._store.checkpoint(size)
            parsed = parse_note(note)
            enough = meets(policy, verify_cosignatures(parsed, policy.witness_keys))
        except SudurError as error:
            # A row that a crash or a fault has left; the witnesses are asked again.
            _log.warning("cosigned_checkpoint_unusable", size=size, error=str(error))
            return None
        return Witnessed(size, self._store.block_of(size - 1).number, note) if enough else None

    def _publish(self, found: Witnessed) -> None:
        with self._lock:
            if self._newest is not None and found.size < self._newest.size:
                return
            self._newest = found
            self._store.published_size = found.size
            for hook in self._hooks:
                guarded(hook, found)

    def _find(self) -> Witnessed | None:
        """The newest one, from the store. Reads only sizes that have cosignatures, from the newest down."""
        signed = self.signed
        record = signed.state.registry.ledger
        if policy_at(record, signed.size) is None:
            return Witnessed(signed.size, signed.head.block, signed.checkpoint)
        free = self._last_free(record, signed.size)
        for size, _ in self._store.cosigned():
            if free is not None and size <= free.size:
                break
            policy = policy_at(record, size) if size <= signed.size else None
            found = None if policy is None else self._met(size, policy)
            if found is not None:
                return found
        return free

    def _last_free(self, record: LedgerRecord, below: int) -> Witnessed | None:
        """The newest size for which nobody was asked, before the policy of ``below`` came into force."""
        for since, _ in reversed(record.witness_policy.entries):
            if since >= below or since == 0:
                continue
            size = self._store.block_of(since).first_index
            if policy_at(record, size) is None:
                try:
                    note = self._store.checkpoint(size)
                except NotFound:
                    continue
                return Witnessed(size, self._store.block_of(size - 1).number, note)
        return None

    def _verified(self, text: bytes, lines: bytes, policy: WitnessPolicy) -> tuple[Cosignature, ...]:
        try:
            return verify_cosignatures(Note(text, signatures_of(lines)), policy.witness_keys)
        except SudurError as error:
            _log.warning("cosignatures_unusable", error=str(error))
            return ()
