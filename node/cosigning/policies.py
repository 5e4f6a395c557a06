"""Which policy is in force for a checkpoint, and what it makes of cosignatures. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache

from ledger.checkpoints import Checkpoint, format_checkpoint
from ledger.cosignatures import Cosignature, verify_cosignatures
from ledger.errors import PolicyUnmet, SudurError
from ledger.notes import Note
from ledger.registry_records import LedgerRecord
from ledger.witness_policy import WitnessPolicy, parse_policy
from node.cosigning.lines import signatures_of


@lru_cache(maxsize=16)
def _parsed(text: str) -> WitnessPolicy:
    return parse_policy(text.encode())


def policy_at(record: LedgerRecord, size: int) -> WitnessPolicy | None:
    """The policy in force for the checkpoint of a size; None where it asks for nobody."""
    text = record.witness_policy.at(size - 1)
    policy = _parsed(text) if text else None
    return None if policy is None or policy.quorum is None else policy


def meets(policy: WitnessPolicy, cosignatures: Sequence[Cosignature]) -> bool:
    """Whether verified cosignatures are enough, whenever they were made."""
    try:
        policy.check(cosignatures, now_s=None, greatest_age_s=None)
    except PolicyUnmet:
        return False
    return True


def sound_lines(record: LedgerRecord, checkpoint: Checkpoint, lines: bytes) -> bytes:
    """Those of the lines that witnesses of the policy in force have made for this checkpoint.

    What was kept without a check, as the rest of a note from elsewhere, goes.
    """
    policy = policy_at(record, checkpoint.size)
    if not lines or policy is None:
        return b""
    text = format_checkpoint(checkpoint)
    sound = b""
    try:
        signatures = signatures_of(lines)
    except SudurError:
        return b""
    for one in signatures:
        with suppress(SudurError):
            if verify_cosignatures(Note(text, (one,)), policy.witness_keys):
                sound += one.line()
    return sound
