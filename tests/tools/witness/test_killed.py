"""A witness process killed at moments that nobody chose, filled up, and started again."""

from __future__ import annotations

import random
import resource
import threading
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from ledger.witnessing import parse_known_size
from tests.tools.witness.promises import Promises
from tests.tools.witness.serving import Files, WitnessProcess, start_process
from tests.tools.witness.some_log import SomeLog

KILLS = 3
LOGS = 5


class Asking(threading.Thread):
    """One log that asks on and on, mostly honestly: now and then with another branch, or an old size."""

    def __init__(self, number: int, promises: Promises) -> None:
        super().__init__()
        self._honest = SomeLog(f"log.example/{number}")
        self._branches = [self._honest] * 6 + [self._honest.forked(at, f"b{at}") for at in (2, 9, 30)]
        self._chance = random.Random(number)
        self._promises = promises
        self._known = 0
        self.witness: WitnessProcess | None = None
        self.changed = threading.Condition()
        self.done = False

    @property
    def log(self) -> SomeLog:
        return self._honest

    def run(self) -> None:
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.done or self.witness is not None)
                if self.done:
                    return
                witness = self.witness
            assert witness is not None
            # When it is killed, whether it has written only it knows.
            with suppress(httpx.TransportError):
                self._ask(witness)

    def _ask(self, witness: WitnessProcess) -> None:
        log = self._chance.choice(self._branches)
        old = self._chance.choice([self._known, self._known, self._known, 0])
        new = old + self._chance.randrange(0, 3)
        answer = witness.ask(log.request(old, new))
        if answer.status_code == 409:
            self._known = parse_known_size(answer.content)
        elif answer.status_code == 200:
            self._known = new
            self._promises.heard(log, new, witness.verified(log.note(new), answer.content).time_s)
        else:
            assert answer.status_code == 422, answer.text


def serve(asking: list[Asking], witness: WitnessProcess | None) -> None:
    for one in asking:
        with one.changed:
            one.witness = witness
            one.changed.notify()


@pytest.mark.slow
def test_killed_again_and_again_it_takes_nothing_back(tmp_path: Path) -> None:
    files, promises, chance = Files(tmp_path), Promises(), random.Random(2026)
    asking = [Asking(number, promises) for number in range(LOGS)]
    lines = ["logs/v0", *(f"vkey {one.log.signer.key().format()}" for one in asking)]
    (tmp_path / "logs").write_text("\n".join(lines) + "\n")
    for one in asking:
        one.start()
    try:
        for _ in range(KILLS):
            witness = start_process(files, "--log", tmp_path / "logs")
            serve(asking, witness)
            promises.wait_for(chance.randrange(5, 60))
            witness.kill()
            serve(asking, None)
        witness = start_process(files)
        for one in asking:
            newest = promises.newest(one.log.origin)
            shown = next(
                log for log in witness.get("/logs").json()["logs"] if log["origin"] == one.log.origin
            )
            assert shown["size"] >= newest.size, "what was answered is remembered"
        assert witness.stop().code == 0
    finally:
        for one in asking:
            with one.changed:
                one.done = True
                one.changed.notify()
            one.join()
    promises.check()


def test_a_full_disk_stops_it_and_it_goes_on_by_itself(tmp_path: Path) -> None:
    files, log = Files(tmp_path), SomeLog()
    (tmp_path / "logs").write_text(f"logs/v0\nvkey {log.signer.key().format()}\n")
    witness = start_process(files, "--log", tmp_path / "logs")
    try:
        witness.cosign(log, 0, 5)
        # From here on no file of its may grow beyond what it has: as on a full disk, a write fails.
        grown = (files.data / "heads.db-wal").stat().st_size
        _, hard = resource.prlimit(witness.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(witness.process.pid, resource.RLIMIT_FSIZE, (grown, hard))
        for _ in range(3):
            answer = witness.ask(log.request(5, 6))
            assert answer.status_code == 503, answer.text
            assert int(answer.headers["retry-after"]) >= 1
        ready = witness.get("/readyz")
        assert (ready.status_code, "STORAGE" in ready.text) == (503, True)
        assert witness.get("/healthz").status_code == 200
        shown = witness.get("/logs").json()["logs"][0]
        assert shown["size"] == 5, "reading goes on"
        resource.prlimit(witness.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
        while witness.get("/readyz").status_code != 200:
            assert witness.process.poll() is None
        assert witness.ask(log.request(5, 6)).status_code in (200, 409)
        metrics = witness.get("/metrics").text
        assert "sudur_witnessing_storage_failures_total 0.0" not in metrics
    finally:
        ended = witness.stop()
    assert ended.code == 0, ended
