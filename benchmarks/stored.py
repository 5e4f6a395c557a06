"""Proofs out of the store itself, in process, on the data that the ingest benchmark has left."""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

from benchmarks.report import Row, markdown
from ledger.hashing import leaf_hash
from ledger.proofs import verify_inclusion
from node.node import LedgerNode
from tests.ledger.world import signer

PROOFS = 2_000
HOT = 500


def run(directory: Path) -> list[Row]:
    node = LedgerNode.open(directory, [signer("log")])
    try:
        size, root = node.published.size, node.published.head.root
        choose = random.Random(6962)
        indexes = [choose.randrange(size) for _ in range(PROOFS)]
        for index in range(0, size, 65_536 * 4):
            node.proofs.inclusion(index, size)

        def prove(wanted: list[int]) -> float:
            began = time.perf_counter()
            for index in wanted:
                node.proofs.inclusion(index, size)
            return (time.perf_counter() - began) / len(wanted)

        cold = prove(indexes)
        prove(indexes[:HOT])
        warm = min(prove(indexes[:HOT]) for _ in range(5))
        for index in indexes[:100]:
            path = node.proofs.inclusion(index, size)
            verify_inclusion(leaf_hash(node.store.leaf(index)), index, size, path, root)
        at = f"at {size:,} leaves, from the store"
        return [
            Row(f"inclusion proof {at}, level-0 tile cold", cold * 1e6, "µs", target="≤ 120 µs"),
            Row(f"inclusion proof {at}, warm", warm * 1e6, "µs", target="≤ 20 µs"),
        ]
    finally:
        node.close()


if __name__ == "__main__":
    print(markdown(run(Path(sys.argv[1]))))
