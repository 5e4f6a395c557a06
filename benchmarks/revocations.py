"""A thousand revocations in one block, on the data that the ingest benchmark has left.

Four submissions of 250 STATUS each, on documents all over the log: so nearly every status chunk is read,
changed and hashed, and nearly every subject is a bundle that nobody has touched. What the rules do is
measured apart from the commit, which writes and syncs.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

from benchmarks.report import Row, best, markdown
from ledger import rules
from ledger.leaves import LeafType
from ledger.records import Status
from ledger.rules_v1 import Draft
from ledger.submissions import Submission, gather_submission, pack
from node.node import LedgerNode
from tests.ledger.world import sign_submission, signer, status

REVOCATIONS = 1_000
A_SUBMISSION = 250
ROUNDS = 5


def run(directory: Path) -> list[Row]:
    """Choose the subjects, then measure on a node that was opened anew and has read none of them."""
    node = _open(directory)
    submissions = _revocations(node, node.committer.snapshot.state.time_ms)
    node.close()
    node = _open(directory)
    try:
        return _measure(node, submissions)
    finally:
        node.close()


def _open(directory: Path) -> LedgerNode:
    return LedgerNode.open(directory, [signer("log")])


def _measure(node: LedgerNode, submissions: list[Submission]) -> list[Row]:
    state = node.committer.snapshot.state
    time_ms = state.time_ms + 1

    def draft() -> Draft:
        made = rules.begin(state, node.store, time_ms)
        for submission in submissions:
            made.add_submission(submission)
        return made

    began = time.perf_counter()
    draft().seal()
    cold = time.perf_counter() - began
    adding = best(draft, ROUNDS)
    whole = best(lambda: draft().seal(), ROUNDS)
    built = draft().seal()
    packed = pack(built.leaves)
    began = time.perf_counter()
    node.committer.commit(built, packed)
    committing = time.perf_counter() - began
    at = f"{REVOCATIONS:,} revocations in a block, at {state.size:,} leaves"
    chunks = f"of it the seal with {len(built.status_chunks)} status chunks, {(whole - adding) * 1e3:.0f} ms"
    return [
        Row(f"{at}: the rules, the node just opened", cold * 1e3, "ms", target="< 100 ms"),
        Row(f"{at}: the rules, warm", whole * 1e3, "ms", chunks),
        Row(f"{at}: its commit, synced and signed", committing * 1e3, "ms"),
    ]


def _revocations(node: LedgerNode, claimed_ms: int) -> list[Submission]:
    """Signed by the agency that filled the ledger, on documents that nothing happened to."""
    size, genesis = node.published.size, node.published.head.ledger
    choose = random.Random(6962)
    subjects: set[int] = set()
    while len(subjects) < REVOCATIONS:
        index = choose.randrange(size)
        # The neighbour is looked at, so that the subject's own bundle is mostly still unread.
        if node.store.latest_status(index) is None and node.store.leaf(index)[1] == LeafType.ISSUE:
            subjects.add(index)
    ordered = list(subjects)
    choose.shuffle(ordered)
    key = {1: signer("benchmark agency")}
    made = []
    for start in range(0, REVOCATIONS, A_SUBMISSION):
        records = [status(1, one, one, Status.REVOKED) for one in ordered[start : start + A_SUBMISSION]]
        made.append(gather_submission(sign_submission(genesis, 1, records, claimed_ms, key), records))
    return made


if __name__ == "__main__":
    print(markdown(run(Path(sys.argv[1]))))
