"""The drill: that a backup brings the ledger back, shown by doing it in a place of no account."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from ledger.canonical_json import Json
from ledger.trust import Trust, TrustedLedger
from node.checking.fsck import run_fsck
from node.copying.backup import Progress, restore, verify_backup
from node.errors import NodeError
from node.node import default_mark_path


@dataclass(frozen=True, slots=True)
class Drilled:
    """What a drill found: a ledger of this size and root came back, and how long each part took."""

    size: int
    blocks: int
    root: bytes
    made_ms: int
    verify_s: float
    restore_s: float
    fsck_s: float

    def to_json(self) -> Json:
        """For scripts."""
        return {
            "size": self.size,
            "blocks": self.blocks,
            "root": self.root.hex(),
            "made_ms": self.made_ms,
            "verify_s": round(self.verify_s, 3),
            "restore_s": round(self.restore_s, 3),
            "fsck_s": round(self.fsck_s, 3),
        }


def drill(directory: Path, scratch: Path, trusted: TrustedLedger, progress: Progress) -> Drilled:
    """Verify a backup, restore it into ``scratch``, check what came of it wholly, and remove it again.

    ``scratch`` is an empty place with room for the ledger. Raises as :func:`node.copying.backup.restore`, and
    NodeError when what was restored is not sound, or not what the log signed.
    """
    began = time.monotonic()
    manifest = verify_backup(directory, trusted, progress=progress)
    verified = time.monotonic()
    data = scratch / "data"
    try:
        # With a mark that says so, or fsck would find that there is none for these blocks.
        restored = restore(directory, data, trusted, may_sign=True, progress=progress)
        made = time.monotonic()
        report = run_fsck(data, trust=Trust((trusted,)))
        checked = time.monotonic()
        if not report.sound or (report.size, restored.root) != (manifest.size, manifest.root):
            raise NodeError(f"what was restored is not the ledger: {report}", where=str(directory))
    finally:
        for left in (data, data.with_name("data.restoring")):
            shutil.rmtree(left, ignore_errors=True)
        default_mark_path(data).unlink(missing_ok=True)
    return Drilled(
        manifest.size,
        manifest.blocks,
        manifest.root,
        manifest.made_ms,
        verified - began,
        made - verified,
        checked - made,
    )
