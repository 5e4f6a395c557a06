"""What the node has released: the one snapshot that all reads are served as of.

Released means signed, and given out. That enough witnesses have cosigned it, too, so that verifiers begin
with it, comes after: node/cosigning/witnessed.py.

A block that is committed and not yet signed is nobody's business: only what a released checkpoint
covers may be shown, since only that can never be taken back.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from ledger.state import State
from ledger.tree import Tree
from node.head import Head
from node.logs import guarded


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


class Publications:
    """Where released snapshots appear, one after the other, and who is told of them.

    Any thread publishes: the sequencer's, and whoever takes what others have released. It never goes back:
    of two that come at once, as from a leader that stood still and from the next one, the later block stays.
    From any thread the newest is one attribute read.
    """

    def __init__(self, newest: Published) -> None:
        self._newest = newest
        self._lock = threading.Lock()
        self._publishing = threading.Lock()
        self._hooks: tuple[Callable[[Published], None], ...] = ()

    @property
    def newest(self) -> Published:
        """The newest released snapshot."""
        return self._newest

    def on_publish(self, callback: Callable[[Published], None]) -> None:
        """Have ``callback`` called in the publishing thread after each release, before its answers."""
        with self._lock:
            self._hooks = (*self._hooks, callback)

    def publish(self, published: Published) -> None:
        """Release a newer snapshot; one that is not newer does nothing."""
        with self._publishing:
            if published.head.block <= self._newest.head.block:
                return
            self._newest = published
            for hook in self._hooks:
                guarded(hook, published)
