"""Which checkpoints somebody believes who has a trust file and no part in the ledger: a mirror, a restore."""

from __future__ import annotations

from ledger.checkpoints import SignedCheckpoint, open_checkpoint, parse_checkpoint
from ledger.cosignatures import verify_cosignatures
from ledger.notes import VerifierKey, parse_note
from ledger.state import State
from ledger.trust import TrustedLedger


class CheckpointJudge:
    """By a trust file, and what the log itself has proven since."""

    def __init__(self, trusted: TrustedLedger) -> None:
        self.trusted = trusted
        self._policy = trusted.policy()

    def open(self, note: bytes, state: State | None) -> SignedCheckpoint:
        """A checkpoint that a key of the log has signed, and that meets the witness policy, of any age.

        A key is the log's when the trust file names it, or the registry as of ``state``, which the log
        itself has proven; and not for sizes past the one at which that registry has ended it. Raises
        CheckpointUntrusted, SignatureInvalid, PolicyUnmet, NoteFormatError.
        """
        size = parse_checkpoint(parse_note(note).text).size
        signed = open_checkpoint(note, self.trusted.origin, self._keys(state, size))
        if self._policy is not None:
            witnessed = verify_cosignatures(signed.note, self._policy.witness_keys)
            self._policy.check(witnessed, now_s=None, greatest_age_s=None)
        return signed

    def _keys(self, state: State | None, size: int) -> list[VerifierKey]:
        listed = {} if state is None else {one.vkey: one for one in state.registry.ledger.log_keys}
        pinned = {key.format(): key for key in self.trusted.log_keys}
        known = pinned | {vkey: VerifierKey.parse(vkey) for vkey in listed.keys() - pinned.keys()}
        ended = {one.vkey for one in listed.values() if one.last_size is not None and one.last_size < size}
        return [key for vkey, key in known.items() if vkey not in ended]
