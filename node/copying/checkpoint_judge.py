"""Which checkpoints somebody believes who has a trust file and no part in the ledger: a mirror, a restore."""

from __future__ import annotations

from ledger.checkpoints import SignedCheckpoint
from ledger.state import State
from ledger.trust import TrustedLedger


class CheckpointJudge:
    """By a trust file, and what the log itself has proven since."""

    def __init__(self, trusted: TrustedLedger) -> None:
        self.trusted = trusted

    def open(self, note: bytes, state: State | None) -> SignedCheckpoint:
        """A checkpoint that a key of the log has signed, and that meets the witness policy, of any age.

        Keys and policies are those of the trust file, and those of the registry as of ``state``, which the
        log itself has proven: it adds keys, ends them, and changes the policy. Raises CheckpointUntrusted,
        SignatureInvalid, PolicyUnmet, NoteFormatError, ProofInvalid.
        """
        trusted = self.trusted if state is None else self.trusted.with_replayed(state.registry.ledger)
        signed = trusted.open(note)
        trusted.witnessed(signed, now_s=None, greatest_age_s=None)
        return signed
