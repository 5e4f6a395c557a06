"""Members come and go, under load; the last survivor, and a node that was alone, become clusters."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger.checkpoints import parse_checkpoint
from ledger.notes import parse_note
from node.errors import NodeError
from tests.cluster.etcds import wait_until
from tests.cluster.ledgers import ROOT, Cluster, Node
from tests.cluster.load import Load, audit
from tests.node.world import World

pytestmark = [pytest.mark.slow, pytest.mark.cluster]


def sudur(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The command, as an operator gives it."""
    return subprocess.run(
        [sys.executable, "-m", "tools.cli", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'proto'}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def at(*nodes: Node) -> list[str]:
    """How to reach the cluster: its etcd, and peer addresses."""
    etcd = "etcd://" + ",".join(f"127.0.0.1:{port}" for port in nodes[0].place.etcd)
    return ["--journal", etcd, "--peers", ",".join(f"127.0.0.1:{one.place.listed}" for one in nodes)]


def newcomer(cluster: Cluster, name: str) -> Node:
    """A node that runs with an empty disk, and is no member yet."""
    node = Node(cluster.place(name))
    cluster.nodes.append(node)
    node.spawn()
    return node


def names(node: Node) -> list[str]:
    state = node.state()
    return [] if state is None else [one.name for one in state.members]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path / "cluster") as made:
        yield made


def test_members_come_and_go_under_load(cluster: Cluster) -> None:
    cluster.start()
    leader = cluster.wait_led()
    with Load(cluster, seed=4) as told:
        told.wait_for_more()
        new = newcomer(cluster, "n4")
        reach = at(leader)
        done = sudur("cluster", "member", "add", f"n4=127.0.0.1:{new.place.listed}", *reach)
        assert done.returncode == 0, done.stderr
        assert "n1, n2, n3, n4; 3 of 4 decide" in done.stdout
        told.wait_for_more()
        # The one that leads goes: another has to.
        gone = cluster.wait_led()
        done = sudur("cluster", "member", "remove", gone.name, *at(new))
        assert done.returncode == 0, done.stderr
        assert "2 of 3 decide" in done.stdout
        told.wait_for_more()
        wait_until(lambda: cluster.wait_led() is not gone, "another leads")
    cluster.wait_level()
    assert names(new) == sorted({"n1", "n2", "n3", "n4"} - {gone.name})
    audit(cluster, told)


def test_what_is_not_safe_is_refused(cluster: Cluster) -> None:
    cluster.start()
    leader = cluster.wait_led()
    reach = at(leader)
    down = Node(cluster.place("n4"))
    for arguments, said in (
        (("add", f"n4=127.0.0.1:{down.place.listed}"), "n4"),
        (("add", f"n1=127.0.0.1:{leader.place.listed}"), "n1"),
        (("remove", "n9"), "no member of this name"),
        (("add", "n4"), "no address"),
    ):
        done = sudur("cluster", "member", *arguments, *reach, "--wait", 1)
        assert done.returncode != 0
        assert said in done.stderr
        assert len(done.stderr.splitlines()) == 1, done.stderr
    done = sudur("node", "reseed", *reach)
    assert done.returncode == 0, "reseeding a cluster that is well only costs an epoch"
    cluster.wait_level()
    with cluster.client() as client:
        client.submit(cluster.world.genesis, cluster.issues())


def test_the_last_survivor_is_a_cluster_again(cluster: Cluster) -> None:
    cluster.start()
    cluster.wait_level()
    survivor, *lost = cluster.nodes
    before = parse_checkpoint(parse_note(survivor.checkpoint()).text)
    for node in lost:
        node.kill()
        node.wipe()
        cluster.nodes.remove(node)
    cluster.etcds.wipe()
    wait_until(lambda: "ETCD_ABSENT" in survivor.tail() or "EtcdAbsent" in survivor.tail(), "the alarm")
    refused = sudur("node", "reseed", *at(survivor))
    assert refused.returncode == 1
    assert "--without" in refused.stderr
    refused = sudur("node", "reseed", *at(survivor), "--without", "n2", "--without", "n3")
    assert refused.returncode == 1
    assert "1 of 3 members answered, 2 have to" in refused.stderr
    done = sudur("node", "reseed", *at(survivor), "--survivors-only", "--yes")
    assert done.returncode == 0, done.stderr
    wait_until(lambda: cluster.leader() is survivor, "it leads")
    assert names(survivor) == ["n1"]
    with cluster.client() as client:
        placed, _ = client.submit(cluster.world.genesis, cluster.issues())
    assert placed.submission_index >= before.size
    for name in ("n5", "n6"):
        new = newcomer(cluster, name)
        done = sudur("cluster", "member", "add", f"{name}=127.0.0.1:{new.place.listed}", *at(survivor))
        assert done.returncode == 0, done.stderr
    cluster.wait_level()
    survivor.kill()
    with cluster.client() as client:
        client.submit(cluster.world.genesis, cluster.issues())


def test_a_member_does_not_decide_alone(cluster: Cluster) -> None:
    cluster.start()
    cluster.wait_level()
    node = cluster.nodes[0]
    node.stop()
    with pytest.raises(NodeError, match="member of a cluster"):
        cluster.world.open(node.data)
    with pytest.raises(NodeError, match="member of a cluster"):
        cluster.world.create(node.data)
    cluster.restart(node)
    cluster.wait_level()


def test_a_node_that_was_alone_becomes_a_cluster(cluster: Cluster) -> None:
    cluster.etcds.start()
    world = World()
    node = Node(cluster.place("n1"))
    alone = world.furnished(node.data)
    size = alone.published.size
    alone.close()
    shutil.rmtree(node.data / "envelopes", ignore_errors=True)
    cluster.nodes.append(node)
    node.spawn()
    wait_until(lambda: node.state() is not None, "it serves what it has")
    done = sudur("node", "reseed", *at(node), "--survivors-only", "--yes")
    assert done.returncode == 0, done.stderr
    wait_until(lambda: cluster.leader() is node, "it leads")
    new = newcomer(cluster, "n2")
    done = sudur("cluster", "member", "add", f"n2=127.0.0.1:{new.place.listed}", *at(node))
    assert done.returncode == 0, done.stderr
    note = cluster.wait_level()
    assert parse_checkpoint(parse_note(note).text).size >= size
