"""A whole cluster on one machine, for trying it: etcd's members and the nodes, as processes of their own.

Each is started as an operator would start it; what is printed can be typed. They listen on loopback.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tools.errors import ToolError, Unavailable, Usage
from tools.files import make_private_directory, write_file

STOP_S: Final = 20.0
_LOOK_S: Final = 0.2
_ETCD_MISSING: Final = "install it: apt-get install etcd-server (make test does)"


@dataclass(frozen=True, slots=True)
class Ports:
    """Of one node and its etcd member."""

    grpc: int
    http: int
    peer: int
    etcd: int
    etcd_peer: int

    @classmethod
    def of(cls, base: int, number: int) -> Ports:
        """Of node ``number``, from 1: grpc at base + 10 × number, the others behind it."""
        at = base + 10 * number
        return cls(at, at + 1, at + 2, at + 3, at + 4)


class Process:
    """One process, its log and its command line."""

    def __init__(self, name: str, command: Sequence[str], log: Path, environment: dict[str, str]) -> None:
        self.name = name
        self.command = tuple(command)
        self.log = log
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, in a process group of its own: Ctrl-C is for us to hand on."""
        with self.log.open("ab") as log:
            try:
                self._process = subprocess.Popen(
                    self.command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=self._environment,
                    start_new_session=True,
                )
            except OSError as error:
                raise ToolError(f"cannot be started: {error}", where=self.command[0]) from error

    @property
    def pid(self) -> int:
        """0 when it does not run."""
        return 0 if self._process is None or self._process.poll() is not None else self._process.pid

    def ask_to_stop(self) -> None:
        """SIGTERM."""
        if self.pid and self._process is not None:
            self._process.send_signal(signal.SIGTERM)

    def wait_stopped(self) -> None:
        """Until it has ended; SIGKILL when it takes too long."""
        if self._process is None:
            return
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def tail(self) -> str:
        """The last line of its log."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return lines[-1] if lines else "its log is empty"


class LocalCluster:
    """``nodes`` nodes and as many members of etcd, under ``directory``, which keeps everything."""

    def __init__(self, directory: Path, nodes: int, base_port: int) -> None:
        if shutil.which("etcd") is None:
            raise Usage("etcd is not on this machine", where="etcd", fix=_ETCD_MISSING)
        make_private_directory(directory)
        self.directory = directory
        self.ports = [Ports.of(base_port, number) for number in range(1, nodes + 1)]
        self.journal = "etcd://" + ",".join(f"127.0.0.1:{one.etcd}" for one in self.ports)
        self.nodes = ",".join(f"127.0.0.1:{one.grpc}" for one in self.ports)
        self.authority = directory / "authority"
        self._etcds = [self._etcd(number) for number in range(1, nodes + 1)]
        self._members = [self._node(number) for number in range(1, nodes + 1)]

    @property
    def processes(self) -> list[Process]:
        """etcd's first."""
        return [*self._etcds, *self._members]

    def _environment(self) -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if not name.startswith("ETCD")}

    def _etcd(self, number: int) -> Process:
        ports = self.ports[number - 1]
        url, peer = f"http://127.0.0.1:{ports.etcd}", f"http://127.0.0.1:{ports.etcd_peer}"
        initial = ",".join(
            f"e{at}=http://127.0.0.1:{one.etcd_peer}" for at, one in enumerate(self.ports, start=1)
        )
        command = (
            "etcd",
            f"--name=e{number}",
            f"--data-dir={self.directory / f'etcd{number}'}",
            f"--listen-client-urls={url}",
            f"--advertise-client-urls={url}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster={initial}",
            "--initial-cluster-token=sudur-local",
            "--initial-cluster-state=new",
        )
        return Process(f"e{number}", command, self.directory / f"etcd{number}.log", self._environment())

    def _node(self, number: int) -> Process:
        ports = self.ports[number - 1]
        members = ",".join(f"n{at}=127.0.0.1:{one.peer}" for at, one in enumerate(self.ports, start=1))
        command = (
            sys.executable, "-m", "tools.cli", "node", "start",
            "--data", str(self.directory / f"node{number}"),
            "--journal", self.journal,
            "--name", f"n{number}",
            "--peer", f"127.0.0.1:{ports.peer}",
            "--members", members,
            "--grpc", f"127.0.0.1:{ports.grpc}",
            "--http", f"127.0.0.1:{ports.http}",
            "--genesis", str(self.authority / "genesis.leaf"),
            "--log-key", str(self.authority / "log.key.json"),
        )  # fmt: skip
        return Process(f"n{number}", command, self.directory / f"node{number}.log", self._environment())

    def found(self) -> bool:
        """Make an authority and a genesis for training, unless they are there; whether they were made."""
        if (self.authority / "trust.json").exists():
            return False
        command = (
            sys.executable, "-m", "tools.cli", "authority", "init", "--dir", str(self.authority),
            "--origin", "ledger.example/local", "--keys", "3", "--threshold", "2", "--training",
        )  # fmt: skip
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ToolError(done.stderr.strip() or done.stdout.strip(), where="authority init")
        return True

    def start(self, serving: Callable[[int], bool], timeout_s: float) -> None:
        """Start all, and wait until ``serving`` says of each node that it serves. Raises Unavailable."""
        for process in self.processes:
            process.start()
        record = {process.name: process.pid for process in self.processes}
        write_file(self.directory / "pids.json", json.dumps(record, indent=1).encode())
        until = time.monotonic() + timeout_s
        waiting = list(range(len(self.ports)))
        while waiting:
            self.check()
            waiting = [at for at in waiting if not serving(at)]
            if waiting and time.monotonic() > until:
                late = self._members[waiting[0]]
                raise Unavailable(
                    f"it does not serve yet: {late.tail()}", where=late.name, fix=f"see {late.log}"
                )
            time.sleep(_LOOK_S)

    def check(self) -> None:
        """Raises ToolError when a process has ended by itself."""
        for process in self.processes:
            if not process.pid:
                raise ToolError(
                    f"it has ended: {process.tail()}", where=process.name, fix=f"see {process.log}"
                )

    def stop(self) -> None:
        """Stop the nodes, then etcd."""
        for group in (self._members, self._etcds):
            for process in group:
                process.ask_to_stop()
            for process in group:
                process.wait_stopped()
