"""A member as a process of its own, with the keys of the tests' world: ``python -m tests.cluster.serve``."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from ledger import rules, rules_v1
from ledger.errors import SudurError
from node.cluster.run_member import ClusterSettings, RunningMember, run_member
from node.config import Address, Settings
from node.logs import configure_logs
from tests.ledger.world import signer
from tests.node.world import World


def main(given: str) -> int:
    """Serve; print a line once it does. An error of ours is one line on stderr and exit code 1."""
    said: dict[str, Any] = json.loads(given)
    if said["next_rules"]:
        # What an upgrade would bring: a second version, which here says the same as the first.
        versions = {**rules._VERSIONS, 2: rules_v1}
        vars(rules).update(_VERSIONS=versions, SUPPORTED=frozenset(versions))
    world = World()
    settings = Settings(
        data_dir=Path(said["data"]),
        grpc=Address.parse(said["grpc"]),
        http=Address.parse(said["http"]),
        disk_floor=4_096,
        clock_is_right=True,
        stop_grace_s=2.0,
        receipt_keys=(signer("receipts"),),
    )
    cluster = ClusterSettings(
        name=said["name"],
        etcd=tuple(said["etcd"]),
        peer=Address.parse(said["peer"]),
        listen=Address.parse(said["listen"]),
        founding=tuple((name, Address.parse(at)) for name, at in said["members"]),
    )

    def ready(_: RunningMember) -> None:
        print("ready", flush=True)

    configure_logs()
    try:
        asyncio.run(run_member(settings, cluster, [world.log], world.genesis_leaf, ready=ready))
    except SudurError as error:
        print(f"{error.code}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
