"""A rolling upgrade: one member after the other, and rules that rise only when every one has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ledger.changes import RulesRaised
from ledger.errors import RulesVersionUnknown
from sudur.v1 import ledger_pb2
from tests.cluster.ledgers import Cluster

pytestmark = [pytest.mark.slow, pytest.mark.cluster]


def test_rules_rise_when_every_member_has_them(tmp_path: Path) -> None:
    with Cluster(tmp_path / "cluster") as cluster:
        cluster.start()
        for position, node in enumerate(cluster.nodes):
            node.stop()
            node.next_rules = True
            node.spawn()
            cluster.wait_led()
            cluster.wait_level()
            state = node.state()
            assert state is not None
            block = state.head.block + 3
            raised = cluster.world.change("ledger", 0, RulesRaised(2, block))
            with cluster.client() as client:
                if position < 2:
                    # Whoever leads: one member, at least, could not go on after that block.
                    with pytest.raises(RulesVersionUnknown, match="rules version 2"):
                        client.change_registry(cluster.world.genesis, raised)
                    client.submit(cluster.world.genesis, cluster.issues())
                else:
                    client.change_registry(cluster.world.genesis, raised)
                    for _ in range(4):
                        placed, _ = client.submit(cluster.world.genesis, cluster.issues())
                    assert placed.block > block
        cluster.wait_level()
        for node in cluster.nodes:
            with node.stub() as stub:
                answer = stub.GetLedger(ledger_pb2.GetLedgerRequest(), timeout=10)
            assert answer.rules_version == 2, "what was decided under them is applied by all"
