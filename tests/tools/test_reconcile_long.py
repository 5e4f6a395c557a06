"""``sudur agency reconcile`` on a long log, killed on its way."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest

from ledger.notes import VerifierKey
from ledger.trust import TrustedLedger
from tests.ledger.world import ORIGIN, log_key
from tests.tools.helpers import finish, start
from tests.tools.nodes import LongLog, serving
from tools.agency.directory import AgencyDirectory, Membership


@pytest.mark.slow
def test_a_million_leaves_and_a_kill_on_the_way(tmp_path: Path) -> None:
    log = LongLog(1_000_000)  # type: ignore[abstract]  # nothing else is called
    here = AgencyDirectory.create(tmp_path / "office")
    vkey = VerifierKey.parse(log_key("log"))
    here.pin(TrustedLedger.founded(bytes(32), ORIGIN, (vkey,)))
    here.remember(Membership(1, {}))
    with serving(log) as address:
        log.stop_at = 600_000
        wanted = ("agency", "reconcile", "--dir", here.path, "--node", address, "--from", "0", "--json")
        process: subprocess.Popen[str] = start(*wanted)
        try:
            assert log.reached.wait(100)
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            log.go_on.set()
        log.stop_at = None
        ended = finish(start(*[one for one in wanted if one not in ("--from", "0")]))
    assert ended.code == 1, ended
    said = json.loads(ended.out)
    assert log.starts[0] == 0
    assert log.starts[1] >= 260_000, "it went on from what was proven and kept"
    assert (said["complete"], said["size"]) == (True, str(len(log.leaves)))
    assert said["read"]["leaves"] == len(log.leaves)
    (alarm,) = said["alarms"]
    assert (alarm["index"], alarm["new"], alarm["facts"]["records"]) == (str(log.own), True, 256)
    assert alarm["facts"]["signatures"] == "unchecked"
