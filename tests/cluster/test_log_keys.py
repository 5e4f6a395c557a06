"""A cluster whose log has keys of both algorithms: each member signs with both, and takes others' notes."""

from __future__ import annotations

from pathlib import Path

import pytest

from ledger.checkpoints import SignedCheckpoint, log_key, open_checkpoint
from ledger.signatures import MlDsa44Signer
from tests.cluster.etcds import Etcds
from tests.cluster.serving import Node, cluster, until
from tests.ledger.world import ORIGIN
from tests.node.served import LOG

pytestmark = pytest.mark.cluster
KEYS = (LOG, MlDsa44Signer(bytes(32)))
VERIFIERS = [log_key(ORIGIN, one.public_key, one.algorithm) for one in KEYS]


async def newest(node: Node) -> SignedCheckpoint:
    """What a member serves, opened with both keys: either must have signed."""
    return open_checkpoint((await node.served.http.get("/checkpoint")).content, ORIGIN, VERIFIERS)


async def test_another_leader_signs_with_both_keys_as_well(tmp_path: Path, etcds: Etcds) -> None:
    async with cluster(tmp_path, etcds, KEYS) as nodes:
        first = nodes.leader
        agency = await first.served.enrol()
        await first.served.submit(agency)
        size = (await newest(first)).checkpoint.size

        async def all_show(least: int) -> bool:
            return all([(await newest(one)).checkpoint.size >= least for one in nodes.nodes])

        await until(lambda: all_show(size), "all members serve what the leader signed")
        await first.stop()
        nodes.nodes.remove(first)
        await nodes.agree()
        second = nodes.leader
        second.served.keys, second.served.names = first.served.keys, first.served.names
        await second.served.submit(agency)
        await until(lambda: all_show(size + 3), "the others serve what the new leader signed")
