"""A backup or a restore as a process of its own, which says how far it is: to be killed."""

from __future__ import annotations

import sys
from pathlib import Path

from node.copying import archive, catch_up
from node.copying.backup import back_up, restore
from tests.node.blocks import Log, small_world
from tests.node.test_backup import FakeNode, trusted_of

BLOCKS = 60


def main() -> None:
    """``backup DIR`` or ``restore DIR DATA``; each line of output is the leaves that are done."""
    # So small that there is much to be cut short.
    archive.FILE_BYTES = 2_000  # type: ignore[misc]
    catch_up.RUN_BYTES = 1_000  # type: ignore[misc]
    work, directory, *rest = sys.argv[1:]
    log = Log.of(small_world(BLOCKS))

    def told(done: int, total: int) -> None:
        print(done, flush=True)

    if work == "backup":
        back_up(FakeNode(log), Path(directory), trusted_of(log), wall_ms=lambda: 1, progress=told)
    else:
        restore(Path(directory), Path(rest[0]), trusted_of(log), progress=told, floor=0, may_sign=True)


if __name__ == "__main__":
    main()
