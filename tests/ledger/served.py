"""A ledger whose log keys come and go, as static resources: each head signed by those that may sign it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ledger.checkpoints import log_key
from ledger.cosignatures import cosign
from ledger.notes import NamedSigner, parse_note
from ledger.resources import CHECKPOINT, checkpoint_path
from ledger.rules import apply
from ledger.signatures import Signer
from tests.ledger.static import StaticLedger
from tests.ledger.world import MemoryReader, World, signer


def served(
    world: World,
    log_signers: Sequence[Signer],
    *,
    blocks: int | None = None,
    witnesses: Mapping[str, int] | None = None,
) -> StaticLedger:
    """The resources of the first ``blocks`` blocks (None: all), cosigned by ``witnesses`` (name: when)."""
    static, copy = StaticLedger(world.origin, log_signers), MemoryReader()
    by_key = {_vkey(world.origin, one): one for one in log_signers}
    for leaves in world.blocks[:blocks]:
        transition = apply(copy.state, copy, leaves)
        size = transition.state.size
        static.signers = [
            by_key[key.vkey]
            for key in transition.state.registry.ledger.log_keys
            if key.vkey in by_key and key.may_sign(size)
        ]
        copy.apply(transition)
        static.add(transition)
        if witnesses:
            note = parse_note(static.files[CHECKPOINT])
            lines = [
                cosign(note.text, NamedSigner(f"{name}.example", signer(name)), time_s)
                for name, time_s in witnesses.items()
            ]
            data = note.with_signatures(lines).encode()
            static.files[CHECKPOINT] = static.files[checkpoint_path(size)] = data
    return static


def _vkey(origin: str, one: Signer) -> str:
    return log_key(origin, one.public_key, one.algorithm).format()
