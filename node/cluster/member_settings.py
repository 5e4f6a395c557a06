"""What a member is told before it starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from node.cluster.observer import UNOBSERVED, Observer
from node.config import Address
from node.cosigning.settings import CosigningSettings
from node.disk import FreeBytes, free_bytes
from node.sequencer import SequencerSettings


@dataclass(frozen=True, slots=True)
class MemberSettings:
    """``name``: its own; ``peer``: where the other members reach it; ``founding``: names and addresses of
    all first members, to found the ledger in etcd with if it was not founded yet."""

    name: str
    peer: Address
    genesis_leaf: bytes | None = None
    founding: tuple[tuple[str, Address], ...] = ()
    data_dir: Path = Path()
    sequencer: SequencerSettings = field(default_factory=SequencerSettings)
    free: FreeBytes = free_bytes
    observer: Observer = UNOBSERVED
    cosigning: CosigningSettings = field(default_factory=CosigningSettings)
