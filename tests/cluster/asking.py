"""Asking the nodes of a cluster that is being broken."""

from __future__ import annotations

import grpc
import pytest

from ledger.checkpoints import log_key, open_checkpoint
from ledger.hashing import leaf_hash
from ledger.proofs import verify_inclusion
from sudur.v1 import ledger_pb2
from tests.cluster.ledgers import Cluster, Node
from tests.fault.processes import refused
from tests.node.served import Refused
from tests.node.world import ORIGIN
from tools.client import Placed
from tools.signing import SignedSubmission


def submit(cluster: Cluster, submission: SignedSubmission | None = None) -> Placed:
    """Through whichever node takes it, with all the patience that there is."""
    with cluster.client() as client:
        return client.submit(cluster.world.genesis, submission or cluster.issues())[0]


def refusal_at(cluster: Cluster, node: Node, submission: SignedSubmission | None = None) -> Refused:
    """What a node says to a submission that it cannot have committed."""
    made = submission or cluster.issues()
    request = ledger_pb2.SubmitRequest(
        genesis=cluster.world.genesis,
        submission=ledger_pb2.Submission(leaf=made.leaf, records=made.records),
    )
    with node.stub() as stub, pytest.raises(grpc.RpcError) as caught:
        stub.Submit(request, timeout=40)
    return refused(caught.value)


def check_reads(cluster: Cluster, node: Node, placed: Placed) -> None:
    """That a node proves what it held before."""
    with node.client() as client:
        client.checkpoint()
        proof = client.inclusion(placed.submission_index)
        leaf = next(client.entries(placed.submission_index, placed.submission_index + 1))
        assert client.ledger().genesis == cluster.world.genesis
    with node.stub() as stub:
        answer = stub.GetConsistencyProof(ledger_pb2.GetConsistencyProofRequest(old_size=1), timeout=5)
    assert answer.new_size >= proof.tree_size
    keys = [log_key(ORIGIN, cluster.world.log.public_key)]
    root = open_checkpoint(proof.checkpoint, ORIGIN, keys).checkpoint.root
    verify_inclusion(leaf_hash(leaf), proof.index, proof.tree_size, proof.path, root)
