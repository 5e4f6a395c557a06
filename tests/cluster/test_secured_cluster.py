"""A whole cluster over TLS, with what ``sudur tls init`` makes: three nodes, etcd and clients; renewals."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from node.config import Address
from node.tls import TlsCredentials
from tests.cluster.etcds import Etcds, Tls, free_ports, wait_until
from tests.tools.helpers import Commands, Done, assert_one_line, finish, start
from tools.cli import run
from transport.certificates import Purpose, TlsFiles

NAMES = ("n1", "n2", "n3")


@dataclass
class Secured:
    """Nodes by name, and where gRPC of each is reached."""

    root: Path
    journal: str
    peers: dict[str, int] = field(default_factory=lambda: dict(zip(NAMES, free_ports(3), strict=True)))
    nodes: dict[str, subprocess.Popen[str]] = field(default_factory=dict)
    grpc: dict[str, str] = field(default_factory=dict)
    url: dict[str, str] = field(default_factory=dict)

    @property
    def tls(self) -> Path:
        return self.root / "tls"

    @property
    def authority(self) -> Path:
        return self.root / "authority"

    @property
    def client(self) -> list[str]:
        """What comes before a command's name."""
        files = {"ca": "ca.pem", "cert": "client.pem", "key": "client.key"}
        return [one for name, file in files.items() for one in (f"--tls-{name}", str(self.tls / file))]

    def start(self, name: str, peer: TlsFiles | None = None) -> None:
        """Start a node. ``peer``: what it shows to the others, if not its own certificate."""
        tls = self.tls
        cert, key, ca = tls / f"{name}.pem", tls / f"{name}.key", tls / "ca.pem"
        peer = peer or TlsFiles(cert, key, ca)
        assert peer.ca is not None
        members = ",".join(f"{one}=127.0.0.1:{port}" for one, port in self.peers.items())
        self.nodes[name] = start(
            "node", "start", "--data", self.root / name, "--name", name, "--journal", self.journal,
            "--members", members, "--peer", f"127.0.0.1:{self.peers[name]}",
            "--log-key", self.authority / "log.key.json", "--genesis", self.authority / "genesis.leaf",
            "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0",
            "--tls-cert", cert, "--tls-key", key, "--client-ca", tls / "client-ca.pem",
            "--peer-cert", peer.certificate, "--peer-key", peer.key, "--peer-ca", peer.ca,
            "--etcd-cert", cert, "--etcd-key", key, "--etcd-ca", ca,
        )  # fmt: skip

    def wait(self, name: str) -> None:
        """Until it serves."""
        node = self.nodes[name]
        assert node.stdout is not None
        line = node.stdout.readline()
        assert line, node.stderr.read() if node.stderr else ""
        addresses = json.loads(line)
        self.grpc[name], self.url[name] = addresses["grpc"], addresses["url"]

    def stop(self, name: str) -> Done:
        node = self.nodes.pop(name)
        with suppress(ProcessLookupError):
            node.send_signal(signal.SIGTERM)
        return finish(node)


@pytest.fixture
def sudur(capsys: pytest.CaptureFixture[str]) -> Commands:
    """Runs a command line in this process."""
    return Commands(capsys)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Secured]:
    tls = tmp_path / "tls"
    nodes = [one for name in NAMES for one in ("--node", name)]
    assert run(["tls", "init", str(tls), *nodes]) == 0
    assert (
        run(["authority", "init", "--dir", str(tmp_path / "authority"), "--origin", "tls.example/main"]) == 0
    )
    mine = TlsCredentials(TlsFiles(tls / "n1.pem", tls / "n1.key", tls / "ca.pem"), Purpose.CLIENT)
    shown = Tls(tls / "ca.pem", tls / "etcd.pem", tls / "etcd.key", mine)
    with ExitStack() as stack:
        etcds = stack.enter_context(Etcds(tmp_path / "etcd", 1, tls=shown)).start()
        here = Secured(tmp_path, etcds.journal)
        stack.callback(lambda: [here.stop(name) for name in tuple(here.nodes)])
        for name in NAMES:
            here.start(name)
        for name in NAMES:
            here.wait(name)
        yield here


def define_type(sudur: Commands, cluster: Secured, at: str, name: str) -> None:
    """Define a document type through one node, and wait until all have it."""
    file = cluster.root / f"{name}.json"
    file.write_text(json.dumps({"labels": {"en": name}, "fields": [{"name": "holder"}]}))
    before = size(sudur, cluster, at)
    authority = ("--dir", cluster.authority, "--node", cluster.grpc[at])
    done = sudur(*cluster.client, "authority", "define-type", file, *authority)
    assert done.code == 0, done.err
    wait_until(lambda: {size(sudur, cluster, name) for name in NAMES} == {before + 2}, "all have it")


def size(sudur: Commands, cluster: Secured, at: str) -> int:
    trust = cluster.authority / "trust.json"
    done = sudur(*cluster.client, "log", "head", "--url", cluster.url[at], "--trust", trust, "--json")
    assert done.code == 0, done.err
    return int(json.loads(done.out)["size"])


def test_writes_through_each_node_before_and_after_renewal(cluster: Secured, sudur: Commands) -> None:
    """Two of the three hand them on to the leader, over the members' door."""
    for name in NAMES:
        define_type(sudur, cluster, name, f"first-{name}")
    for name in (*NAMES, "etcd", "client"):
        assert sudur("tls", "renew", cluster.tls / f"{name}.pem", "--days", "30").code == 0
    for name in NAMES:
        define_type(sudur, cluster, name, f"second-{name}")
    for name in NAMES:
        done = cluster.stop(name)
        assert done.code == 0
        events = [json.loads(line) for line in done.err.splitlines()]  # nothing of gRPC's own
        assert [event for event in events if event["level"] == "error"] == []
        said = [event["event"] for event in events]
        said = said[: said.index("stopping")]
        assert "certificate renewed" in said
        assert "term ended" not in said  # no renewal costs the leader its term


def test_who_is_no_member_hears_so_at_the_members_door(cluster: Secured, sudur: Commands) -> None:
    door = Address("127.0.0.1", cluster.peers["n1"])
    tls = cluster.tls
    client = TlsFiles(tls / "client.pem", tls / "client.key", tls / "ca.pem")
    assert "had seen our certificate" in str(TlsCredentials(client, Purpose.CLIENT).why_it_fails(door))
    at_door = sudur(*cluster.client, "log", "head", "--node", str(door))
    assert_one_line(at_door, 2, "had seen our certificate")
    etcd = [
        "--tls-ca",
        str(tls / "ca.pem"),
        "--tls-cert",
        str(tls / "etcd.pem"),
        "--tls-key",
        str(tls / "etcd.key"),
    ]
    assert_one_line(
        sudur(*etcd, "log", "head", "--node", str(door)), 1, "only members of the cluster may call"
    )


def test_a_member_with_a_strangers_certificate_does_not_start(cluster: Secured, tmp_path: Path) -> None:
    assert cluster.stop("n3").code == 0
    other = tmp_path / "other"
    assert run(["tls", "init", str(other), "--node", "n3"]) == 0
    tls = cluster.tls
    wrong = {
        "was not issued by the authority in": TlsFiles(other / "n3.pem", other / "n3.key", tls / "ca.pem"),
        "does not name a member of the cluster": TlsFiles(tls / "etcd.pem", tls / "etcd.key", tls / "ca.pem"),
        "is not for a member": TlsFiles(tls / "client.pem", tls / "client.key", tls / "ca.pem"),
    }
    for files in wrong.values():
        cluster.start("n3", files)
        done = finish(cluster.nodes.pop("n3"))
        says = next(says for says, one in wrong.items() if one is files)
        assert_one_line(done, 1, says)
