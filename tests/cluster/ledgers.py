"""A whole cluster for tests: real nodes over real etcd, behind proxies, on loopback.

Every process is ended by its own pid. Logs go to files beside the data, so that no full pipe stops a node.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import grpc

from ledger.changes import AgencyEnrolled, Entitlement, KeysAdded, NewKey, TypeDefined
from ledger.errors import SudurError
from ledger.leaves import NONE
from ledger.signatures import Algorithm
from ledger.signing_policy import SigningPolicy
from node.checking.fsck import run_fsck
from node.cluster.etcd_client import Put
from node.errors import EtcdFull
from node.node import default_mark_path
from sudur.v1 import ledger_pb2, ledger_pb2_grpc
from tests.cluster.etcds import DEADLINE_S, Etcds, free_ports, wait_until
from tests.cluster.links import Links, State
from tests.fault.processes import now_ms
from tests.node.letters import envelope_secret
from tests.node.world import World
from tools.client import LedgerClient
from tools.signing import SignedSubmission

ROOT: Final = Path(__file__).parents[2]
LOOK_S: Final = 2.0
# Python's ssl leaves a socket to the collector whose connection was reset before the handshake: a client
# that asks why it reaches nobody meets that when a node is killed at this very moment.
HALF_OPEN: Final = "ignore:Exception ignored in. <ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node is, and whom it is told of. ``peer``: its own port; others reach it at ``listed``."""

    name: str
    data: Path
    grpc: int
    http: int
    peer: int
    listed: int
    etcd: tuple[int, ...]


class Node:
    """One member: its process, its data directory and its mark."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.members: Sequence[tuple[str, int]] = ()
        self.log = place.data.with_name(f"{place.data.name}.log")
        self.process: subprocess.Popen[bytes] | None = None
        self.paused = False
        self.next_rules = False
        """Whether its software has rules version 2 as well, from the next start on."""

    @property
    def name(self) -> str:
        return self.place.name

    @property
    def address(self) -> str:
        """For clients."""
        return f"127.0.0.1:{self.place.grpc}"

    @property
    def data(self) -> Path:
        return self.place.data

    @property
    def mark(self) -> Path:
        return default_mark_path(self.place.data)

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    # --- coming and going ---

    def spawn(self) -> None:
        """Start the process; it may take a while to serve."""
        assert self.process is None, f"{self.name} runs already"
        place = self.place
        given = {
            "name": place.name,
            "data": str(place.data),
            "grpc": f"127.0.0.1:{place.grpc}",
            "http": f"127.0.0.1:{place.http}",
            "peer": f"127.0.0.1:{place.listed}",
            "listen": f"127.0.0.1:{place.peer}",
            "next_rules": self.next_rules,
            "etcd": [f"127.0.0.1:{port}" for port in place.etcd],
            "members": [(name, f"127.0.0.1:{port}") for name, port in self.members],
        }
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.cluster.serve", json.dumps(given)],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'proto'}"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def kill(self) -> None:
        """SIGKILL, also when it stands still; nothing happens when it is down."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(DEADLINE_S)
            self.process = None
            self.paused = False

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        self.ask_to_stop()
        return self.wait_stopped()

    def wait_stopped(self) -> int:
        """Until it has ended; returns the exit code."""
        assert self.process is not None
        code = self.process.wait(DEADLINE_S)
        self.process = None
        return code

    def ask_to_stop(self) -> None:
        """SIGTERM, and do not wait."""
        assert self.process is not None, f"{self.name} is down"
        self.process.send_signal(signal.SIGTERM)

    def pause(self) -> None:
        """SIGSTOP: connections stay, and nothing answers. Returns once it stands still."""
        assert self.process is not None, f"{self.name} is down"
        self.process.send_signal(signal.SIGSTOP)
        _, status = os.waitpid(self.process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status), f"{self.name} ended: {self.tail()}"
        self.paused = True

    def resume(self) -> None:
        """SIGCONT."""
        assert self.process is not None, f"{self.name} is down"
        self.process.send_signal(signal.SIGCONT)
        self.paused = False

    def refusal(self) -> str:
        """What it says as it refuses to start."""
        assert self.process is not None
        code = self.process.wait(DEADLINE_S)
        self.process = None
        text = self.log.read_text()
        assert code == 1, (code, text[-2_000:])
        return text

    # --- its disk ---

    def wipe(self) -> None:
        """Delete data and mark, of a node that is down."""
        assert self.process is None, f"{self.name} runs"
        shutil.rmtree(self.data)
        self.mark.unlink()

    def copy_to(self, directory: Path, *, mark: bool = True) -> None:
        """Copy its data, and its mark, of a node that is down or stands still: an old disk to come."""
        shutil.copytree(self.data, directory / "data")
        if mark:
            shutil.copy2(self.mark, directory / "mark")

    def restore_from(self, directory: Path) -> None:
        """Put an old copy in the place of its data; its mark stays unless the copy has one, too."""
        assert self.process is None, f"{self.name} runs"
        shutil.rmtree(self.data)
        shutil.copytree(directory / "data", self.data)
        if (directory / "mark").exists():
            shutil.copy2(directory / "mark", self.mark)

    # --- what it says ---

    def tail(self) -> str:
        """The end of its log."""
        return self.log.read_text()[-3_000:] if self.log.exists() else ""

    @contextmanager
    def stub(self) -> Iterator[ledger_pb2_grpc.LedgerServiceStub]:
        """For calls that are to fail: a client of ours would try again."""
        with grpc.insecure_channel(self.address) as channel:
            yield ledger_pb2_grpc.LedgerServiceStub(channel)

    @contextmanager
    def client(self, patience_s: float = 0.0, deadline_s: float = LOOK_S) -> Iterator[LedgerClient]:
        with LedgerClient(self.address, patience_s=patience_s, deadline_s=deadline_s) as client:
            yield client

    def state(self) -> ledger_pb2.GetClusterResponse | None:
        """The cluster as it sees it; None when it does not answer."""
        with self.client(deadline_s=3 * LOOK_S) as client:
            try:
                return client.cluster()
            except SudurError:
                return None

    def checkpoint(self) -> bytes:
        """The newest that it serves. Raises Unavailable."""
        with self.client() as client:
            return client.checkpoint()


class Cluster:
    """``count`` nodes over ``count`` etcd members. Close it, or use it as a context."""

    def __init__(self, directory: Path, count: int = 3, *, quota_bytes: int | None = None) -> None:
        """Nothing runs yet; see :meth:`start`."""
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.world = World()
        self.etcds = Etcds(directory / "etcd", count, quota_bytes=quota_bytes)
        self.nodes: list[Node] = []
        self.full = False
        self._count = count
        self.links = Links(lambda: {one.name: one.process.pid for one in self.nodes if one.process})

    def __enter__(self) -> Self:
        self.links.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for node in self.nodes:
            node.kill()
        self.etcds.stop()
        self.links.__exit__(kind, error, trace)

    @property
    def addresses(self) -> str:
        """Of all nodes, as a client takes them."""
        return ",".join(node.address for node in self.nodes)

    def named(self, name: str) -> Node:
        return next(node for node in self.nodes if node.name == name)

    def place(self, name: str) -> Place:
        """Free ports and proxies for a node of this name."""
        at_grpc, at_http, at_peer = free_ports(3)
        etcd = tuple(
            self.links.before(one.name, int(one.endpoint.rpartition(":")[2]), name)
            for one in self.etcds.members
        )
        listed = self.links.before(name, at_peer)
        return Place(name, self.directory / name, at_grpc, at_http, at_peer, listed, etcd)

    def start(self) -> Self:
        """Found a ledger with a type, an agency that issues (1), and one that gets letters (2). Some 5 s."""
        self.etcds.start()
        self.nodes += [Node(self.place(f"n{at + 1}")) for at in range(self._count)]
        members = [(one.name, one.place.listed) for one in self.nodes]
        for node in self.nodes:
            node.members = members
            node.spawn()
        self.wait_led()
        with self.client() as client:
            self._furnish(client)
        self.wait_level()
        return self

    def _furnish(self, client: LedgerClient) -> None:
        world, G = self.world, self.world.genesis  # noqa: N806
        client.change_registry(G, world.change("type/1", NONE, TypeDefined({"en": "Certificate"}, ())))
        for number in (1, 2):
            entitlement = Entitlement(("issue", "request"), (0, 1), SigningPolicy())
            body = AgencyEnrolled({"en": f"Agency {number}"}, 0, entitlement)
            at = client.change_registry(G, world.change(f"agency/{number}", NONE, body))
            submit = NewKey(1, Algorithm.ED25519, world.officers[number - 1].public_key, "submit", "officer")
            post = NewKey(2, Algorithm.X25519, bytes(envelope_secret(number, 2).public_key), "envelope", "")
            client.change_registry(G, world.change(f"agency/{number}", at, KeysAdded((submit, post))))

    def restart(self, *nodes: Node) -> None:
        """Start nodes that are down (default: all that are)."""
        for node in list(nodes) or [one for one in self.nodes if one.process is None]:
            node.spawn()

    def clone(self, of: Node) -> Node:
        """Another machine with a copy of a node's data and mark, which claims to be where the node is."""
        data = self.directory / f"clone of {of.name} at {now_ms()}"
        place = replace(self.place(of.name), data=data, listed=of.place.listed)
        shutil.copytree(of.data, place.data)
        clone = Node(place)
        clone.members = of.members
        shutil.copy2(of.mark, clone.mark)
        return clone

    # --- cutting ---

    def isolate(self, node: Node, state: State = State.CUT, *, peers: bool = True, etcd: bool = True) -> None:
        """Cut a node off its peers, or etcd, or both; both ways."""
        for other in self.nodes:
            if peers and other is not node:
                self.links.link(node.name, other.name).set(state)
                self.links.link(other.name, node.name).set(state)
        for member in self.etcds.members:
            if etcd:
                self.links.link(node.name, member.name).set(state)

    def heal(self) -> None:
        """Everything runs, and reaches everything."""
        self.links.mend()
        for node in self.nodes:
            if node.paused:
                node.resume()
        for member in self.etcds.members:
            if member.process is not None:
                member.resume()
        if any(member.process is None for member in self.etcds.members):
            self.etcds.restart()
        self.etcds.wait_ready()
        if self.full:
            self.etcds.free_space()
            self.full = False
        self.restart()

    def make_lead(self, node: Node) -> None:
        """Have this very node lead: nobody else reaches etcd for a while."""
        for other in self.nodes:
            if other is not node:
                self.isolate(other, peers=False)
        wait_until(lambda: self.leader() is node, f"{node.name} leads")
        self.links.mend()

    # --- looking ---

    def client(self, patience_s: float = 60.0, deadline_s: float = 30.0) -> LedgerClient:
        """One that knows all nodes. The caller closes it."""
        return LedgerClient(self.addresses, patience_s=patience_s, deadline_s=deadline_s)

    def leader(self) -> Node | None:
        """Who says of itself that it leads; None when nobody does, or two do."""
        found = []
        for node in self.nodes:
            state = node.state() if node.runs and not node.paused else None
            if state is not None and any(one.leads and one.name == node.name for one in state.members):
                found.append(node)
        return found[0] if len(found) == 1 else None

    def wait_led(self) -> Node:
        """Wait for a leader that all who run know of."""
        found: list[Node] = []

        def look() -> bool:
            self.check()
            leader = self.leader()
            found[:] = [] if leader is None else [leader]
            return bool(found)

        wait_until(look, "a leader")
        return found[0]

    def followers(self) -> list[Node]:
        """All but the leader."""
        leader = self.wait_led()
        return [node for node in self.nodes if node is not leader]

    def wait_level(self) -> bytes:
        """Wait until all nodes serve the very same checkpoint, and it is etcd's head; returns it."""
        found: list[bytes] = []

        def look() -> bool:
            self.check()
            try:
                found[:] = [node.checkpoint() for node in self.nodes]
            except SudurError:
                return False
            return len(set(found)) == 1

        wait_until(look, "the same checkpoint at all nodes")
        return found[0]

    def check(self) -> None:
        """Fail the test when a node has ended by itself."""
        for node in self.nodes:
            assert node.process is None or node.runs, f"{node.name} ended: {node.tail()}"

    def issues(self, count: int = 1) -> SignedSubmission:
        """A submission of fresh ISSUEs of agency 1."""
        return SignedSubmission(*self.world.issues(count, claimed_ms=now_ms()))

    def fsck(self, size: int) -> None:
        """Stop all nodes; every row of every data directory is right, and all end at ``size``."""
        for node in self.nodes:
            if node.process is not None:
                assert node.stop() == 0, node.tail()
        for node in self.nodes:
            report = run_fsck(node.data)
            assert report.sound, f"{node.name}: {report}"
            assert report.size == size, f"{node.name}: {report}"

    # --- etcd's quota ---

    def fill_etcd(self) -> None:
        """Write until no more goes in: etcd then takes nothing but deletions."""
        with closing(self.etcds.client()) as client:
            while True:
                try:
                    client.swap([], [Put(b"big", bytes(500_000))])
                except EtcdFull:
                    self.full = True
                    return
