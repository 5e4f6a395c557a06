"""What the node has released: the one snapshot that all reads are served as of.

A block that is committed and not yet signed is nobody's business: only what a released checkpoint
covers may be shown, since only that can never be taken back.
"""

from __future__ import annotations

from dataclasses import dataclass

from ledger.state import State
from ledger.tree import Tree
from node.head import Head


@dataclass(frozen=True, slots=True)
class Published:
    """The newest released block. ``checkpoint``: its signed note, byte for byte as it is served.

    Immutable, so a reader takes the reference once and has one consistent view for as long as it
    likes; a newer one never contradicts it.
    """

    head: Head
    checkpoint: bytes
    state: State
    tree: Tree

    @property
    def size(self) -> int:
        """Leaves in the released tree: what a read may reach ends here."""
        return self.head.size
