"""Real etcd clusters on loopback, for tests: start, kill, stop and go on, snapshot, restore, wipe, fill.

Every process is ended by its own pid. Logs go to files beside the data, so that no full pipe stops a member.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from node.cluster.etcd_client import EtcdClient
from node.errors import EtcdError
from node.tls import TlsCredentials

DEADLINE_S: Final = 40.0
# Elections within a second or so; a lease of 1 s is then the least that etcd grants.
_HEARTBEAT_MS: Final = 50
_ELECTION_MS: Final = 500


_GIVEN: Final[set[int]] = set()


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on, below those that systems give to outgoing connections.

    A member that is down for a while must find its port free again: none is given twice, and each of the
    processes that run tests side by side has ports of its own.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 4
    first = 20_000 + 3_000 * worker
    with ExitStack() as held:
        found: list[int] = []
        while len(found) < count:
            port = random.randrange(first, first + 3_000)
            if port in _GIVEN:
                continue
            one = held.enter_context(socket.socket())
            try:
                one.bind(("127.0.0.1", port))
            except OSError:
                continue
            found.append(port)
            _GIVEN.add(port)
        return found


def wait_until(holds: Callable[[], bool], what: str) -> None:
    """Look again and again until it holds; fails the test after a minute."""
    until = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < until, f"in vain: {what}"
        time.sleep(0.02)


@dataclass(frozen=True, slots=True)
class Tls:
    """Certificate files of the members, and the credentials of a client that they accept."""

    ca: Path
    certificate: Path
    key: Path
    client: TlsCredentials


class Member:
    """One etcd process and its directory."""

    def __init__(self, directory: Path, name: str, client_port: int, peer_port: int, tls: Tls | None) -> None:
        self.name = name
        self.directory = directory
        self.log = directory.with_name(f"{directory.name}.log")
        self.endpoint = f"127.0.0.1:{client_port}"
        self.peer_url = f"http://127.0.0.1:{peer_port}"
        self.url = f"{'http' if tls is None else 'https'}://{self.endpoint}"
        self.process: subprocess.Popen[bytes] | None = None
        self._tls = tls

    def spawn(self, *arguments: str) -> None:
        """Start the process; it may take a while to serve."""
        assert self.process is None, f"{self.name} runs already"
        tls = self._tls
        secured = (
            []
            if tls is None
            else [
                f"--cert-file={tls.certificate}",
                f"--key-file={tls.key}",
                f"--trusted-ca-file={tls.ca}",
                "--client-cert-auth",
            ]
        )
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    "etcd",
                    f"--name={self.name}",
                    f"--data-dir={self.directory}",
                    f"--listen-client-urls={self.url}",
                    f"--advertise-client-urls={self.url}",
                    f"--listen-peer-urls={self.peer_url}",
                    f"--initial-advertise-peer-urls={self.peer_url}",
                    f"--heartbeat-interval={_HEARTBEAT_MS}",
                    f"--election-timeout={_ELECTION_MS}",
                    *secured,
                    *arguments,
                ],
                env=_bare_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def kill(self) -> None:
        """SIGKILL, also when it is stopped; nothing happens when it is down."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(DEADLINE_S)
            self.process = None

    def pause(self) -> None:
        """SIGSTOP: connections stay, and nothing answers. Returns once it stands still."""
        self._signal(signal.SIGSTOP)
        assert self.process is not None
        _, status = os.waitpid(self.process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status), f"{self.name} ended: {self.log.read_text()[-2_000:]}"

    def resume(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self.process is not None, f"{self.name} is down"
        self.process.send_signal(number)


class Etcds:
    """A cluster of etcd members. Close it, or use it as a context, or processes stay behind."""

    def __init__(
        self,
        directory: Path,
        count: int = 3,
        *,
        tls: Tls | None = None,
        quota_bytes: int | None = None,
    ) -> None:
        """Nothing runs yet; see :meth:`start`. ``quota_bytes``: of each member's database."""
        self._directory = directory
        self._tls = tls
        self._more = [] if quota_bytes is None else [f"--quota-backend-bytes={quota_bytes}"]
        self._times = 0  # clusters that were founded here: each has a token of its own
        ports = free_ports(2 * count)
        self.members = [
            Member(directory / f"e{n + 1}", f"e{n + 1}", ports[2 * n], ports[2 * n + 1], tls)
            for n in range(count)
        ]
        directory.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Etcds:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def endpoints(self) -> list[str]:
        return [member.endpoint for member in self.members]

    @property
    def journal(self) -> str:
        """As ``sudur node start --journal`` takes it."""
        return f"etcd://{','.join(self.endpoints)}"

    def client(self, *endpoints: str, attempt_s: float = 1.0, deadline_s: float = 10.0) -> EtcdClient:
        """A client of these endpoints, of all by default. The caller closes it."""
        credentials = None if self._tls is None else self._tls.client
        return EtcdClient(
            endpoints or self.endpoints, credentials, attempt_s=attempt_s, deadline_s=deadline_s
        )

    # --- coming and going ---

    def start(self) -> Etcds:
        """Found a new, empty cluster, and wait until it serves. About a second."""
        self._times += 1
        for member in self.members:
            member.spawn(*self._founding(), "--initial-cluster-state=new", *self._more)
        self.wait_ready()
        return self

    def stop(self) -> None:
        """Kill all members; data stays."""
        for member in self.members:
            member.kill()

    def restart(self, *members: Member) -> None:
        """Start members that are down (default: all that are) from their data; waits for these."""
        down = list(members) or [member for member in self.members if member.process is None]
        for member in down:
            member.spawn(*self._more)
        self.wait_ready(down)

    def wait_ready(self, members: Sequence[Member] | None = None) -> None:
        """Wait until members (default: all that run) know a leader and answer reads."""
        for member in members or [one for one in self.members if one.process is not None]:
            self._wait_ready(member)

    def leader(self) -> Member:
        """The member that leads. Fails the test when there is none within a minute."""
        found: list[Member] = []

        def look() -> bool:
            found[:] = [member for member in self.members if self._leads(member)]
            return len(found) == 1

        wait_until(look, "one leader")
        return found[0]

    def followers(self) -> list[Member]:
        """The members that run and do not lead."""
        leader = self.leader()
        return [one for one in self.members if one is not leader and one.process is not None]

    # --- what operators do to it, wisely or not ---

    def snapshot(self, path: Path) -> Path:
        """`etcdctl snapshot save` from the first member that runs."""
        running = next(member for member in self.members if member.process is not None)
        self.etcdctl(running, "snapshot", "save", str(path))
        return path

    def restore(self, path: Path) -> None:
        """Kill all, and make every member's data anew from the snapshot: a rolled-back cluster. Starts it."""
        self.stop()
        self._times += 1
        for member in self.members:
            shutil.rmtree(member.directory)
            self._run_etcdctl(
                "snapshot",
                "restore",
                str(path),
                f"--name={member.name}",
                f"--data-dir={member.directory}",
                f"--initial-advertise-peer-urls={member.peer_url}",
                *self._founding(),
            )
        self.restart()

    def keep(self, directory: Path) -> None:
        """Kill all, copy every member's data there, and start again."""
        self.stop()
        for member in self.members:
            shutil.copytree(member.directory, directory / member.name)
        self.restart()

    def bring_back(self, directory: Path) -> None:
        """Kill all, and start with the data that was kept there."""
        self.stop()
        for member in self.members:
            shutil.rmtree(member.directory)
            shutil.copytree(directory / member.name, member.directory)
        self.restart()

    def force_new_cluster(self, survivor: Member) -> None:
        """Kill all, and start one member as a cluster of its own with what it has."""
        self.stop()
        survivor.spawn("--force-new-cluster", *self._more)
        self.wait_ready([survivor])

    def wipe(self) -> None:
        """Kill all, delete all data, found a new cluster at the same addresses."""
        self.stop()
        for member in self.members:
            shutil.rmtree(member.directory)
        self.start()

    def free_space(self) -> None:
        """What the runbook says after NOSPACE: compact, defragment every member, disarm the alarm."""
        member = self.leader()
        with self._closing(self.client(member.endpoint)) as client:
            client.compact(client.swap([], []).revision)
        for one in self.members:
            self.etcdctl(one, "defrag")
        self.etcdctl(member, "alarm", "disarm")

    def etcdctl(self, member: Member, *arguments: str) -> str:
        """Run etcdctl against one member; returns what it prints."""
        assert self._tls is None, "the tests have no etcdctl over TLS"
        return self._run_etcdctl(f"--endpoints={member.url}", *arguments)

    def etcdctl_error(self, member: Member, *arguments: str) -> str:
        """What etcdctl says when it fails; empty when it does not."""
        done = self._call_etcdctl(f"--endpoints={member.url}", *arguments)
        return "" if done.returncode == 0 else done.stderr

    # --- inside ---

    def _founding(self) -> list[str]:
        members = ",".join(f"{member.name}={member.peer_url}" for member in self.members)
        return [f"--initial-cluster={members}", f"--initial-cluster-token=test-{self._times}"]

    def _wait_ready(self, member: Member) -> None:
        with self._closing(self.client(member.endpoint, deadline_s=0.5)) as client:
            wait_until(lambda: _reads(client, member), f"{member.name} serves")

    def _leads(self, member: Member) -> bool:
        if member.process is None:
            return False
        with self._closing(self.client(member.endpoint, attempt_s=0.5)) as client:
            try:
                status = client.status(member.endpoint)
            except EtcdError:
                return False
        return status.leader == status.member_id

    def _run_etcdctl(self, *arguments: str) -> str:
        done = self._call_etcdctl(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    @staticmethod
    def _call_etcdctl(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["etcdctl", *arguments],
            env={**_bare_environment(), "ETCDCTL_API": "3"},
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )

    @staticmethod
    @contextmanager
    def _closing(client: EtcdClient) -> Iterator[EtcdClient]:
        try:
            yield client
        finally:
            client.close()


def _reads(client: EtcdClient, member: Member) -> bool:
    assert member.process is not None
    assert member.process.poll() is None, f"{member.name} ended: {member.log.read_text()[-2_000:]}"
    try:
        client.get(b"ready?")
    except EtcdError:
        return False
    return True


def _bare_environment() -> dict[str, str]:
    """Without ETCD_…, which would change what a member does, and without proxies."""
    return {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "TMPDIR", "LANG")}
