"""What is served: a verified copy of the ledger, whoever brings it forward."""

from __future__ import annotations

from node.cosigning.witnessed import WitnessedHeads
from node.proofs import Proofs
from node.publish import Publications, Published
from node.store import Store


class LedgerCopy:
    """A store with its proofs, what of it is released, and what of that is published.

    ``store`` and ``proofs`` answer as of the committed size: clamp to ``published.size`` what is
    shown to others.
    """

    def __init__(self, store: Store, publications: Publications) -> None:
        self.store = store
        self.proofs = Proofs(store)
        self.publications = publications
        self.witnessed = WitnessedHeads(store, publications)

    @property
    def published(self) -> Published:
        """The newest released snapshot."""
        return self.publications.newest
