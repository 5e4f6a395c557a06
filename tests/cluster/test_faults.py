"""Three nodes and three members of etcd, broken in every way, again and again, under load.

``SUDUR_FAULT_SECONDS`` and ``SUDUR_FAULT_SEED`` make it longer, and another; a failure prints its seed.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

import pytest

from tests.cluster.fault_plan import plan
from tests.cluster.ledgers import HALF_OPEN, Cluster
from tests.cluster.load import Load, Told, audit

SECONDS: Final = float(os.environ.get("SUDUR_FAULT_SECONDS", "35"))
SEED: Final = int(os.environ.get("SUDUR_FAULT_SEED", "20261124"))
_QUOTA: Final = 8 << 20


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.filterwarnings(HALF_OPEN)
@pytest.mark.timeout(300 + 2 * SECONDS)
def test_no_fault_loses_an_answer_or_forks_the_log(tmp_path: Path) -> None:
    print(f"seed {SEED}, {SECONDS:.0f} s; logs in {tmp_path}")
    with Cluster(tmp_path / "cluster", quota_bytes=_QUOTA) as cluster:
        cluster.start()
        with Load(cluster, seed=SEED) as told:
            _break(cluster, told)
        audit(cluster, told)
        print(
            f"{len(told.placed)} submissions answered, {len(told.checkpoints)} checkpoints seen,"
            f" longest time without an answer {told.longest_gap():.1f} s"
        )


def _break(cluster: Cluster, told: Told) -> None:
    began = time.monotonic()
    told.wait_for_more()
    for step in plan(SEED):
        if time.monotonic() - began > SECONDS:
            return
        print(f"{time.monotonic() - began:6.1f} s: {step}", flush=True)
        what = step.inject(cluster)
        print(f"{time.monotonic() - began:6.1f} s:   {what}", flush=True)
        time.sleep(step.hold_s)
        cluster.heal()
        waited = told.wait_for_more()
        print(f"{time.monotonic() - began:6.1f} s:   mended, next answer after {waited:.1f} s", flush=True)
