"""What a cluster does when disks lie: etcd set back, old and copied nodes, damaged stores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from node import codec
from node.database import ISSUES, TILES, Database
from node.node import DATABASE_DIRECTORY
from tests.cluster.asking import check_reads, refusal_at, submit
from tests.cluster.etcds import wait_until
from tests.cluster.ledgers import HALF_OPEN, Cluster, Node
from tests.cluster.load import Load, audit
from tests.fault.processes import now_ms
from tools.cli import run
from tools.client import Placed
from tools.errors import Unavailable
from tools.signing import SignedSubmission

pytestmark = [pytest.mark.slow, pytest.mark.cluster, pytest.mark.filterwarnings(HALF_OPEN)]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("disasters")) as cluster:
        yield cluster.start()


@pytest.fixture
def cluster(running: Cluster) -> Iterator[Cluster]:
    """All well before the test, and after it again."""
    running.heal()
    running.wait_level()
    yield running
    running.heal()
    submit(running)
    running.wait_level()


# --- etcd has lost what was decided --------------------------------------------------------------


Lose = Callable[[Cluster, Path], None]


def old_snapshot(cluster: Cluster, directory: Path) -> None:
    cluster.etcds.restore(directory / "snapshot")


def wiped_and_all_restarted(cluster: Cluster, directory: Path) -> None:
    """Nodes are started with --members still; who has a ledger does not found it anew."""
    cluster.etcds.wipe()
    for node in cluster.nodes:
        node.kill()
    cluster.restart()


def one_that_was_behind(cluster: Cluster, directory: Path) -> None:
    """The survivor of etcd was away when the last blocks were decided."""
    cluster.etcds.force_new_cluster(cluster.etcds.members[2])


@pytest.mark.parametrize("lose", [old_snapshot, wiped_and_all_restarted, one_that_was_behind])
def test_etcd_was_set_back(cluster: Cluster, tmp_path: Path, lose: Lose) -> None:
    """Nobody leads, everybody reads, and says what to do; once that is done, nothing is lost."""
    cluster.etcds.snapshot(tmp_path / "snapshot")
    cluster.etcds.members[2].kill()
    placed = [submit(cluster) for _ in range(3)]
    cluster.wait_level()
    cluster.etcds.stop()
    lose(cluster, tmp_path)
    waiting = cluster.issues()
    wait_until(lambda: all(_alarmed(node) for node in cluster.nodes), "all say that etcd was set back")
    for node in cluster.nodes:
        found = refusal_at(cluster, node, waiting)
        assert found.code is grpc.StatusCode.UNAVAILABLE, found
        assert found.info is not None
        assert "sudur node reseed" in found.info.metadata["fix"] + found.message, found
        check_reads(cluster, node, placed[-1])
    assert cluster.leader() is None

    addresses = ",".join(f"127.0.0.1:{node.place.peer}" for node in cluster.nodes)
    assert run(["node", "reseed", "--journal", cluster.etcds.journal, "--peers", addresses, "--yes"]) == 0
    after = submit(cluster, waiting)
    assert after.block == placed[-1].block + 1
    cluster.wait_level()
    for node in cluster.nodes:
        check_reads(cluster, node, placed[-1])
    if any(member.process is None for member in cluster.etcds.members):
        # The survivor knows of no others any more: from what it holds, three are made again.
        cluster.etcds.restore(cluster.etcds.snapshot(tmp_path / "of the survivor"))


def test_etcd_was_set_back_and_its_newest_data_came_back(cluster: Cluster, tmp_path: Path) -> None:
    """Then nothing was lost, and nothing has to be done."""
    placed = submit(cluster)
    cluster.etcds.keep(tmp_path)
    cluster.wait_level()
    cluster.etcds.wipe()
    wait_until(lambda: all(_alarmed(node) for node in cluster.nodes), "all say that etcd was set back")
    cluster.etcds.bring_back(tmp_path)
    assert submit(cluster).block == placed.block + 1


def _alarmed(node: Node) -> bool:
    state = node.state()
    return state is not None and "etcd" in state.trouble and not state.leader


# --- old disks, and copies of disks ----------------------------------------------------------------


def test_a_node_from_an_old_backup(cluster: Cluster, tmp_path: Path) -> None:
    """With the mark of that time it is where it was then, and catches up. Without, its mark knows better."""
    old = cluster.followers()[0]
    old.kill()
    old.copy_to(tmp_path / "old")
    cluster.restart(old)
    placed = [submit(cluster) for _ in range(3)][-1]
    cluster.wait_level()
    old.kill()
    old.copy_to(tmp_path / "newest")

    old.restore_from(tmp_path / "old")
    cluster.restart(old)
    cluster.wait_level()
    check_reads(cluster, old, placed)
    old.kill()

    old.copy_to(tmp_path / "caught up")
    (tmp_path / "old" / "mark").unlink()
    old.restore_from(tmp_path / "old")
    cluster.restart(old)
    said = old.refusal()
    assert "STORE_BEHIND_MARK" in said
    assert "bring its newest data directory back" in said

    old.restore_from(tmp_path / "caught up")
    mark = old.mark.read_bytes()
    old.mark.unlink()
    cluster.restart(old)
    assert "bring the mark file back" in old.refusal()
    old.mark.write_bytes(mark)
    cluster.restart(old)
    cluster.wait_level()


def test_a_cloned_node(cluster: Cluster) -> None:
    """One that claims to be where the node is, under load, while the leader comes and goes: whatever it says
    is of the one log."""
    of = cluster.followers()[0]
    of.pause()
    clone = cluster.clone(of)
    of.resume()
    clone.spawn()
    try:
        with Load(cluster, (1, 4), seed=7, also_read=(clone,)) as told:
            told.wait_for_more(30)
            cluster.wait_led().kill()
            told.wait_for_more(30)
            cluster.restart()
            of.kill()
            told.wait_for_more(30)
            cluster.restart()
            told.wait_for_more(30)
        wait_until(lambda: _serves_newest(cluster, clone), "the clone follows")
    finally:
        clone.kill()
        cluster.links.mend()
    audit(cluster, told, alone=False)
    cluster.restart()


def _serves_newest(cluster: Cluster, node: Node) -> bool:
    assert node.runs, node.tail()
    try:
        return node.checkpoint() == cluster.nodes[0].checkpoint()
    except Unavailable:
        return False


# --- damaged stores --------------------------------------------------------------------------------


def known_issue(cluster: Cluster) -> tuple[SignedSubmission, SignedSubmission]:
    """A submission of one document, and another one, later, of the very same."""
    world = cluster.world
    first = SignedSubmission(*world.issues(1, claimed_ms=now_ms()))
    world.counter -= 1
    second = SignedSubmission(*world.issues(1, claimed_ms=now_ms() + 1))
    return first, second


@contextmanager
def database_of(node: Node) -> Iterator[Database]:
    """Of a node that is down."""
    database = Database(node.data / DATABASE_DIRECTORY)
    try:
        yield database
    finally:
        database.close()


def put_row(node: Node, family: str, key: bytes, row: bytes | None) -> None:
    """Change what stands at a key, of a node that is down; None: delete it."""
    with database_of(node) as database:
        batch = database.batch()
        if row is None:
            batch.delete(family, key)
        else:
            batch.put(family, key, row)
        database.write(batch)
        database.sync()


def newest_issue(node: Node) -> tuple[bytes, bytes]:
    with database_of(node) as database:
        return max(database.rows(ISSUES), key=lambda row: codec.read_u64(row[1]))


def test_a_leader_that_forgot_a_document(cluster: Cluster) -> None:
    """It builds a block that breaks the rules: the others refuse it, by rule and leaf; the rest goes on."""
    first, second = known_issue(cluster)
    submit(cluster, first)
    cluster.wait_level()
    damaged = cluster.followers()[0]
    damaged.kill()
    row = newest_issue(damaged)
    put_row(damaged, ISSUES, row[0], None)
    cluster.restart(damaged)
    cluster.wait_level()
    cluster.make_lead(damaged)
    before = damaged.checkpoint()
    found = refusal_at(cluster, damaged, second)
    assert (found.code, found.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "REFUSED_BY_PEER"), found
    assert "leaf" in found.message, found
    assert damaged.checkpoint() == before
    submit(cluster)
    cluster.wait_level()
    others = [node for node in cluster.nodes if node is not damaged]
    assert any("block refused" in node.tail() for node in others)
    damaged.kill()
    put_row(damaged, ISSUES, *row)
    cluster.restart(damaged)


def test_a_follower_that_knows_of_a_document_too_many(cluster: Cluster) -> None:
    """It cannot hold what the others decide: it stays behind, says so, and does not lead."""
    first, _ = known_issue(cluster)
    placed = submit(cluster, first)
    cluster.wait_level()
    damaged = cluster.followers()[0]
    damaged.kill()
    key, _ = newest_issue(damaged)
    # A document that is to come, with a place of its own in the past.
    to_come, _ = known_issue(cluster)
    fake = to_come.records[-32:] + key[32:]
    put_row(damaged, ISSUES, fake, codec.u64(placed.first_record_index))
    cluster.restart(damaged)
    cluster.wait_level()
    submit(cluster, to_come)
    more: Placed = submit(cluster)
    wait_until(lambda: "block refused" in damaged.tail() or _in_trouble(damaged), "it says so")
    wait_until(lambda: _in_trouble(damaged), "it says what is the matter")
    check_reads(cluster, damaged, placed)
    assert cluster.wait_led() is not damaged
    damaged.kill()
    put_row(damaged, ISSUES, fake, None)
    cluster.restart(damaged)
    cluster.wait_level()
    check_reads(cluster, damaged, more)


def _in_trouble(node: Node) -> bool:
    state = node.state()
    return state is not None and any(one.name == node.name and one.trouble for one in state.members)


def test_a_leader_whose_disk_is_gone(cluster: Cluster, tmp_path: Path) -> None:
    """It leads no more, says why, and another does."""
    placed = submit(cluster)
    leader = cluster.wait_led()
    leader.data.rename(tmp_path / "gone")
    after = submit(cluster)
    assert after.block == placed.block + 1
    wait_until(lambda: _in_trouble(leader), "it says so")
    leader.kill()
    (tmp_path / "gone").rename(leader.data)
    cluster.restart(leader)


def test_a_tile_that_rotted(cluster: Cluster) -> None:
    """What a node would sign it recomputes: it does not start, or does not lead, and names its remedy."""
    submit(cluster)
    cluster.wait_level()
    damaged = cluster.followers()[0]
    damaged.kill()
    with database_of(damaged) as database:
        key, row = max(one for one in database.rows(TILES) if one[0][0] == 0)
    put_row(damaged, TILES, key, bytes([row[0] ^ 1]) + row[1:])
    cluster.restart(damaged)
    said = damaged.refusal()
    assert "sudur node fsck" in said, said
    put_row(damaged, TILES, key, row)
    cluster.restart(damaged)
