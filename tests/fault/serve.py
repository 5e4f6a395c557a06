"""A node as a process of its own, with the keys of the tests' world: ``python -m tests.fault.serve``."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from ledger.errors import SudurError
from node.config import Address, Settings
from node.logs import configure_logs
from node.run import RunningNode, run
from tests.node.world import World

ANY_PORT = Address("127.0.0.1", 0)


def main(data_dir: str, disk_floor: str) -> int:
    """Serve; print the addresses as JSON. An error of ours is one line on stderr and exit code 1."""
    world = World()
    settings = Settings(
        data_dir=Path(data_dir), grpc=ANY_PORT, http=ANY_PORT, disk_floor=int(disk_floor), stop_grace_s=2.0
    )

    def ready(running: RunningNode) -> None:
        print(json.dumps({"grpc": str(running.grpc), "http": str(running.http)}), flush=True)

    configure_logs()
    try:
        asyncio.run(run(settings, [world.log], world.genesis_leaf, ready=ready))
    except SudurError as error:
        print(f"{error.code}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
