"""Clients that load a cluster while it is being broken, what they were told, and whether it is true."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Final

from ledger.checkpoints import Checkpoint, log_key, open_checkpoint
from ledger.errors import SudurError
from ledger.hashing import leaf_hashes
from ledger.leaves import LeafType
from ledger.seals import Seal
from ledger.submissions import unpack
from ledger.tree import Tree
from tests.cluster.etcds import DEADLINE_S
from tests.cluster.ledgers import Cluster, Node
from tests.fault.processes import now_ms
from tests.node.world import ORIGIN, World
from tools.client import LedgerClient, Placed
from tools.signing import SignedSubmission

PATIENCE_S: Final = 150.0
POLL_S: Final = 0.1
CLIENTS: Final = (1, 1, 1, 4, 32)
"""Submissions in each call of each client."""
RECORDS: Final = 3
_REPEATS: Final = 0.005
"""The chance that one of a client's 200 newest submissions is sent once more."""
_loads = count(1)


@dataclass
class Told:
    """What all clients were told together. Any thread."""

    changed: threading.Condition = field(default_factory=threading.Condition)
    handed_in: dict[bytes, bytes] = field(default_factory=dict)
    """Each leaf, and its records, before it was first sent."""
    placed: dict[bytes, Placed] = field(default_factory=dict)
    checkpoints: dict[bytes, str] = field(default_factory=dict)
    """Each signed note that anybody saw, and who gave it first."""
    wrong: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    """When answers came."""

    def place(self, submission: SignedSubmission, placed: Placed) -> None:
        with self.changed:
            first = self.placed.setdefault(submission.leaf, placed)
            if _where(first) != _where(placed):
                self.wrong.append(f"one submission, two answers: {first} and {placed}")
            self.times.append(time.monotonic())
            self.changed.notify_all()

    def see(self, note: bytes, who: str) -> None:
        with self.changed:
            self.checkpoints.setdefault(note, who)

    def fail(self, what: str) -> None:
        with self.changed:
            self.wrong.append(what)
            self.changed.notify_all()

    def wait_for_more(self, count: int = 10, deadline_s: float = DEADLINE_S) -> float:
        """Wait for so many answers more; returns the seconds until the first of them."""
        began = time.monotonic()
        with self.changed:
            before = len(self.times)
            enough = self.changed.wait_for(
                lambda: len(self.times) >= before + count or bool(self.wrong), deadline_s
            )
            assert not self.wrong, self.wrong
            assert enough, f"only {len(self.times) - before} of {count} answers came"
            return self.times[before] - began

    def longest_gap(self) -> float:
        """The longest time without an answer, in seconds."""
        with self.changed:
            return max((b - a for a, b in zip(self.times, self.times[1:], strict=False)), default=0.0)


def _where(placed: Placed) -> tuple[int, ...]:
    return (
        placed.submission_index,
        placed.first_record_index,
        placed.record_count,
        placed.block,
        placed.block_size,
        placed.time_ms,
    )


class Load:
    """Clients, and readers of every node. A context: what is under way ends with it."""

    def __init__(
        self,
        cluster: Cluster,
        clients: Sequence[int] = CLIENTS,
        seed: int = 1,
        also_read: Sequence[Node] = (),
    ) -> None:
        self.told = Told()
        self._number = next(_loads)
        self._cluster = cluster
        self._stopping = threading.Event()
        self._done = threading.Event()
        self._writers = [
            _Thread(f"client {number}", self.told, lambda n=number, b=bulk: self._write(n, b, seed))  # type: ignore[misc]
            for number, bulk in enumerate(clients, 1)
        ]
        self._readers = [
            _Thread(f"reader of {node.name}", self.told, lambda node=node: self._read(node))  # type: ignore[misc]
            for node in (*cluster.nodes, *also_read)
        ]

    def __enter__(self) -> Told:
        for one in (*self._writers, *self._readers):
            one.start()
        return self.told

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stopping.set()
        if kind is None:
            self.finish()
        else:
            self._done.set()

    def finish(self) -> None:
        """Let every client get its last answer, and end."""
        self._stopping.set()
        for one in self._writers:
            one.join(PATIENCE_S)
            assert not one.is_alive(), f"{one.name} still waits for its answer"
        self._done.set()
        for one in self._readers:
            one.join(DEADLINE_S)

    def _client(self, number: int) -> LedgerClient:
        """One that begins with another node than the client before it."""
        nodes = self._cluster.nodes
        turned = [nodes[(number + at) % len(nodes)].address for at in range(len(nodes))]
        return LedgerClient(",".join(turned), patience_s=PATIENCE_S)

    def _write(self, number: int, bulk: int, seed: int) -> None:
        # Documents that no other client, and no load before, has.
        world = World(counter=(self._number << 48) + (number << 32))
        chance = random.Random(seed + number)
        kept: list[SignedSubmission] = []
        with self._client(number) as client:
            while not self._stopping.is_set():
                made = [SignedSubmission(*world.issues(RECORDS, claimed_ms=now_ms())) for _ in range(bulk)]
                with self.told.changed:
                    self.told.handed_in.update((one.leaf, one.records) for one in made)
                kept += made
                sent = made + [one for one in kept[-200:] if chance.random() < _REPEATS][: 64 - bulk]
                self._send(client, world.genesis, sent)

    def _send(self, client: LedgerClient, genesis: bytes, sent: Sequence[SignedSubmission]) -> None:
        if len(sent) == 1:
            placed, note = client.submit(genesis, sent[0])
            self.told.see(note, client.address)
            self.told.place(sent[0], placed)
            return
        answer = client.submit_bulk(genesis, sent)
        self.told.see(answer.checkpoint, client.address)
        for one, outcome in zip(sent, answer.outcomes, strict=True):
            if not isinstance(outcome, Placed):
                raise outcome
            self.told.place(one, outcome)

    def _read(self, node: Node) -> None:
        with node.client() as client:
            while not self._done.wait(POLL_S):
                with suppress(SudurError):
                    self.told.see(client.checkpoint(), node.name)


class _Thread(threading.Thread):
    """One whose failure is told."""

    def __init__(self, name: str, told: Told, work: Callable[[], None]) -> None:
        super().__init__(name=name, daemon=True)
        self._told = told
        self._work = work

    def run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            self._told.fail(f"{self.name}: {type(error).__name__}: {error}")


# --- the end ------------------------------------------------------------------------------------


def audit(cluster: Cluster, told: Told, *, alone: bool = True) -> None:
    """Hold everything that anybody was told against the ledger at its end, and all copies of it against each
    other. Stops the nodes. ``alone``: nobody else has submitted anything."""
    assert not told.wrong, told.wrong
    final = _opened(cluster.world, cluster.wait_level())
    with cluster.client() as client:
        leaves = list(client.entries(0, final.size))
    assert len(leaves) == final.size
    _all_in_their_place(leaves, told)
    _once_each(leaves, told, alone)
    _one_tree(cluster.world, leaves, [*told.checkpoints.items(), (cluster.wait_level(), "at the end")])
    cluster.fsck(final.size)


def _all_in_their_place(leaves: list[bytes], told: Told) -> None:
    for leaf, placed in told.placed.items():
        at, records = placed.first_record_index, unpack(told.handed_in[leaf], most=256)
        assert leaves[placed.submission_index] == leaf, f"lost: {placed}"
        assert leaves[at : at + placed.record_count] == records, f"lost: {placed}"
        seal = Seal.decode(leaves[placed.block_size - 1])
        assert (seal.block, seal.time_ms) == (placed.block, placed.time_ms), (seal, placed)


def _once_each(leaves: list[bytes], told: Told, alone: bool) -> None:
    logged = [leaf for leaf in leaves if leaf[1] == LeafType.SUBMISSION]
    assert len(logged) == len(set(logged)), "a submission stands in the log twice"
    assert set(told.placed) == set(told.handed_in), "a client has no answer"
    assert set(told.placed) <= set(logged), "answered submissions are not in the log"
    assert not alone or set(told.placed) == set(logged), "the log has what nobody submitted"


def _one_tree(world: World, leaves: list[bytes], notes: Sequence[tuple[bytes, str]]) -> None:
    """Every checkpoint has the root of its size: so all of them are consistent with each other."""
    tree = Tree.empty()
    for checkpoint, who in sorted(
        ((_opened(world, note), who) for note, who in notes), key=lambda one: one[0].size
    ):
        assert checkpoint.size <= len(leaves), f"{who} released {checkpoint.size}, the log ends before"
        tree, _ = tree.append(leaf_hashes(leaves[tree.size : checkpoint.size]))
        assert tree.root() == checkpoint.root, f"a fork: {who} released another tree of {checkpoint.size}"


def _opened(world: World, note: bytes) -> Checkpoint:
    return open_checkpoint(note, ORIGIN, [log_key(ORIGIN, world.log.public_key)]).checkpoint
