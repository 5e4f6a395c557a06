"""How long after its block a checkpoint is published, with three witnesses of which two are enough.

The witnesses are processes of their own (``sudur witness start``), each with its fsync; the node is in this
process, and its collector on a thread of its own. Baseline: the commit of the same block, as its
submitter waits for it. Once block after block, each published before the next is submitted, and once under
load, with submitters that do not wait for publication.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.report import Row, markdown
from ledger.checkpoints import log_key
from ledger.trust import Trust, TrustedLedger
from node.cosigning.collector import collecting
from node.cosigning.settings import CosigningSettings
from node.node import LedgerNode
from tests.node.world import ORIGIN, World, submit
from tests.tools.witness.serving import Files, WitnessProcess, start_process

BLOCKS = 500
LOAD_S = 10.0
SUBMITTERS = 4


def run(root: Path) -> list[Row]:
    """Start witnesses and a node in ``root``, and measure."""
    with ExitStack() as stack:
        bare = World()
        alone = bare.furnished(root / "alone")
        stack.callback(alone.close)
        commits = sorted(_commit(bare, alone) for _ in range(BLOCKS))
        world = World()
        key = log_key(ORIGIN, world.log.public_key)
        trusted = TrustedLedger.founded(world.genesis, ORIGIN, (key,), "", True)
        (root / "trust.json").write_bytes(Trust((trusted,)).encode())
        witnesses = [_witness(root, number, stack) for number in (1, 2, 3)]
        names = [f"w{number}" for number in (1, 2, 3)]
        lines = [f"witness {n} {w.key.format()} {w.url}" for n, w in zip(names, witnesses, strict=True)]
        world.policy = "\n".join([*lines, f"group enough 2 {' '.join(names)}", "quorum enough", ""])
        node = world.furnished(root / "data")
        stack.callback(node.close)
        stack.enter_context(collecting(node, CosigningSettings()))
        watch = _Watch(node)
        watch.wait(node.published.size)
        waited, published = [], []
        for _ in range(BLOCKS):
            waited.append(_commit(world, node))
            published.append(watch.wait(node.published.size))
        lags, blocks, loaded = _load(world, node, watch)
    waited.sort()
    published.sort()
    lags.sort()
    rate = f"under load, {blocks / LOAD_S:.0f} blocks/s"
    return [
        Row("commit of one block, no witnesses: p50", _at(commits, 0.5) * 1_000, "ms"),
        _row("the same with three: p50", waited, commits, 0.5),
        _row("from the commit to publication: p50", published, commits, 0.5, "≤ 1 s"),
        _row("from the commit to publication: p99", published, commits, 0.99, "≤ 1 s"),
        _row(f"{rate}, from a commit to publication: p50", lags, loaded, 0.5, "≤ 1 s"),
        _row(f"{rate}, from a commit to publication: p99", lags, loaded, 0.99, "≤ 1 s"),
    ]


class _Watch:
    """When which size was published."""

    def __init__(self, node: LedgerNode) -> None:
        self._node = node
        self._changed = threading.Condition()
        self.times: list[tuple[int, float]] = []
        node.witnessed.on_publish(lambda found: self._told(found.size))

    def _told(self, size: int) -> None:
        with self._changed:
            self.times.append((size, time.perf_counter()))
            self._changed.notify_all()

    def wait(self, size: int) -> float:
        """Seconds until ``size`` is published."""
        began = time.perf_counter()
        with self._changed:

            def there() -> bool:
                newest = self._node.witnessed.newest
                return newest is not None and newest.size >= size

            assert self._changed.wait_for(there, 60), "nothing is published"
        return time.perf_counter() - began

    def after(self, size: int, moment: float) -> float:
        """Seconds from a moment until the first size that covers ``size`` was published."""
        return next(at for known, at in self.times if known >= size) - moment


def _witness(root: Path, number: int, stack: ExitStack) -> WitnessProcess:
    files = Files(root / f"w{number}")
    files.root.mkdir()
    made = start_process(files, "--log", root / "trust.json", name=f"witness.example/w{number}")
    stack.callback(made.stop)
    return made


def _commit(world: World, node: LedgerNode) -> float:
    submission = world.issues()
    began = time.perf_counter()
    submit(node.sequencer, submission)
    return time.perf_counter() - began


def _load(world: World, node: LedgerNode, watch: _Watch) -> tuple[list[float], int, list[float]]:
    """(from each commit to publication, blocks, how long each commit took) under load."""
    until = time.perf_counter() + LOAD_S
    first = node.published.head.block
    ends: list[tuple[int, float]] = []
    took: list[float] = []
    lock = threading.Lock()

    def submitter() -> None:
        while time.perf_counter() < until:
            with lock:
                submission = world.issues()
            began = time.perf_counter()
            _, published = submit(node.sequencer, submission)
            now = time.perf_counter()
            with lock:
                took.append(now - began)
                ends.append((published.size, now))

    threads = [threading.Thread(target=submitter) for _ in range(SUBMITTERS)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    watch.wait(node.published.size)
    took.sort()
    return [max(0.0, watch.after(*one)) for one in ends], node.published.head.block - first, took


def _at(times: Sequence[float], share: float) -> float:
    return times[min(len(times) - 1, int(share * len(times)))]


def _row(name: str, times: Sequence[float], base: Sequence[float], share: float, target: str = "") -> Row:
    found, beside = _at(times, share), _at(base, share)
    baseline = f"the commit: {beside * 1_000:.1f} ms"
    return Row(name, found * 1_000, "ms", baseline, found / beside, target)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="sudur-benchmarks-") as temporary:
        print(markdown(run(Path(temporary))), file=sys.stdout)


if __name__ == "__main__":
    main()
