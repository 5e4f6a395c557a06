"""What a cluster promises while something is broken, one fault at a time. All share one cluster."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import grpc
import httpx
import pytest
from nacl.public import SealedBox

from ledger.documents import Document, Field
from ledger.envelope_bodies import Letter, letter_plaintext
from ledger.envelopes import Envelope
from ledger.leaves import NONE
from ledger.records import Send, SendKind
from tests.cluster.asking import check_reads, refusal_at, submit
from tests.cluster.etcds import wait_until
from tests.cluster.ledgers import HALF_OPEN, Cluster, Node
from tests.cluster.links import State
from tests.fault.processes import now_ms
from tests.node.letters import envelope_secret
from tools.client import EnvelopeAccess
from tools.signing import NumberedSigner, SignedSubmission

pytestmark = [pytest.mark.slow, pytest.mark.cluster, pytest.mark.filterwarnings(HALF_OPEN)]

SOON_S = 20.0
"""An upper bound that a busy machine keeps, too; what it took is printed."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("promises"), quota_bytes=8 << 20) as cluster:
        yield cluster.start()


@pytest.fixture
def cluster(running: Cluster) -> Iterator[Cluster]:
    """All well before the test, and after it again, by itself."""
    running.heal()
    running.wait_level()
    yield running
    running.heal()
    assert submit(running) is not None
    running.wait_level()


def timed(what: str, work: Callable[[], object]) -> float:
    """Do it, and print how long it took."""
    began = time.monotonic()
    work()
    took = time.monotonic() - began
    print(f"{what}: {took:.2f} s")
    return took


# --- who leads ---------------------------------------------------------------------------------


def test_the_leader_is_killed(cluster: Cluster) -> None:
    cluster.wait_led().kill()
    assert timed("first answer after the leader was killed", lambda: submit(cluster)) < SOON_S


def test_the_leader_is_told_to_stop(cluster: Cluster) -> None:
    leader = cluster.wait_led()
    leader.ask_to_stop()
    assert timed("first answer after the leader was told to stop", lambda: submit(cluster)) < SOON_S
    assert leader.wait_stopped() == 0


def test_the_leader_stands_still_and_goes_on(cluster: Cluster) -> None:
    """It believes that it leads until it looks; what it was given meanwhile has one place, or none."""
    leader = cluster.wait_led()
    leader.pause()
    first = cluster.issues()
    assert timed("first answer after the leader was stopped", lambda: submit(cluster, first)) < SOON_S
    leader.resume()
    second = cluster.issues()
    placed = submit(cluster, second)
    cluster.wait_level()
    with leader.client(patience_s=30) as client:
        again, _ = client.submit(cluster.world.genesis, second)
    assert again.repeat
    assert again.submission_index == placed.submission_index


def test_the_leader_cannot_reach_the_others(cluster: Cluster) -> None:
    """It reaches etcd, and keeps its lease; but a majority is elsewhere, and must be able to go on."""
    leader = cluster.wait_led()
    cluster.isolate(leader, State.STILL, etcd=False)
    assert timed("first answer, leader off its peers", lambda: submit(cluster)) < SOON_S


def test_the_leader_cannot_reach_etcd(cluster: Cluster) -> None:
    leader = cluster.wait_led()
    cluster.isolate(leader, State.STILL, peers=False)
    assert timed("first answer, leader off etcd", lambda: submit(cluster)) < SOON_S


def test_the_leader_is_cut_off_from_all(cluster: Cluster) -> None:
    leader = cluster.wait_led()
    placed = submit(cluster)
    cluster.wait_level()
    cluster.isolate(leader, State.CUT)
    assert timed("first answer, leader off all", lambda: submit(cluster)) < SOON_S
    check_reads(cluster, leader, placed)
    found = refusal_at(cluster, leader)
    assert found.code is grpc.StatusCode.UNAVAILABLE, found
    assert found.reason, found


def test_who_is_cut_off_vouches_for_no_status(cluster: Cluster) -> None:
    """An old list must not be signed as of now: a revocation may have been logged among the others."""
    leader, others = cluster.wait_led(), cluster.followers()
    for node in cluster.nodes:
        wait_until(partial(_signs, node), f"{node.name} signs")
    cluster.isolate(leader, State.CUT)
    wait_until(lambda: token_at(leader) == (503, "READ_ONLY"), "the one that is cut off signs no more")
    submit(cluster)
    for node in others:
        wait_until(partial(_signs, node), f"{node.name} signs again")
    assert token_at(leader) == (503, "READ_ONLY")


def _signs(node: Node) -> bool:
    return token_at(node) == (200, "")


def token_at(node: Node) -> tuple[int, str]:
    """The status and the code of what a member answers when a status token is asked for."""
    answer = httpx.get(f"http://127.0.0.1:{node.place.http}/status/token/0", trust_env=False, timeout=10)
    return answer.status_code, "" if answer.status_code == 200 else answer.json()["code"]


def test_a_follower_cannot_reach_the_leader(cluster: Cluster) -> None:
    """Only from there; the leader reaches it, so it keeps up, and says so to whom it cannot help."""
    leader, follower = cluster.wait_led(), cluster.followers()[0]
    cluster.links.link(follower.name, leader.name).set(State.CUT)
    found = refusal_at(cluster, follower)
    assert (found.code, found.reason) == (grpc.StatusCode.UNAVAILABLE, "NO_LEADER"), found
    submit(cluster)
    cluster.wait_level()


# --- no majority -------------------------------------------------------------------------------


def test_without_a_majority_of_nodes(cluster: Cluster) -> None:
    leader, followers = cluster.wait_led(), cluster.followers()
    placed = submit(cluster)
    cluster.wait_level()
    for node in followers:
        node.kill()
    waiting = cluster.issues()
    found = refusal_at(cluster, leader, waiting)
    assert found.code is grpc.StatusCode.UNAVAILABLE, found
    assert found.reason in ("NO_MAJORITY", "NO_LEADER"), found
    assert found.retry is not None
    check_reads(cluster, leader, placed)
    cluster.restart(followers[0])
    timed("first answer once two of three nodes run", lambda: submit(cluster, waiting))


def test_without_a_majority_of_etcd(cluster: Cluster) -> None:
    leader, follower = cluster.wait_led(), cluster.followers()[0]
    placed = submit(cluster)
    cluster.wait_level()
    for member in cluster.etcds.members[1:]:
        member.kill()
    for node in (leader, follower):
        found = refusal_at(cluster, node)
        assert found.code is grpc.StatusCode.UNAVAILABLE, found
        assert found.reason, found
        check_reads(cluster, node, placed)
    cluster.etcds.restart()
    timed("first answer once etcd is back", lambda: submit(cluster))


def test_etcd_is_full(cluster: Cluster) -> None:
    leader = cluster.wait_led()
    placed = submit(cluster)
    cluster.wait_level()
    cluster.fill_etcd()
    for node in cluster.nodes:
        found = refusal_at(cluster, node)
        assert found.code is grpc.StatusCode.UNAVAILABLE, found
        assert "quota" in found.message, found
        check_reads(cluster, node, placed)
    leader.kill()
    cluster.restart(leader)
    cluster.etcds.free_space()
    cluster.full = False
    timed("first answer once etcd has space", lambda: submit(cluster))


def test_all_is_killed_and_started_again(cluster: Cluster) -> None:
    placed = submit(cluster)
    for node in cluster.nodes:
        node.kill()
    cluster.etcds.stop()
    cluster.etcds.restart()
    cluster.restart()
    timed("first answer after everything was started", lambda: submit(cluster))
    cluster.wait_level()
    for node in cluster.nodes:
        check_reads(cluster, node, placed)


# --- catching up -------------------------------------------------------------------------------


def test_a_follower_that_was_away_catches_up(cluster: Cluster) -> None:
    away = cluster.followers()[0]
    away.kill()
    with cluster.client() as client:
        for _ in range(20):
            client.submit_bulk(cluster.world.genesis, [cluster.issues(50) for _ in range(64)])
    cluster.restart(away)
    timed("64,000 records caught up, start included", cluster.wait_level)


def test_a_follower_without_its_disk_is_no_member(cluster: Cluster, tmp_path: Path) -> None:
    """Its mark is what makes it one: with another it reads along, and does not vote."""
    lost = cluster.followers()[0]
    lost.kill()
    lost.copy_to(tmp_path / "kept")
    lost.wipe()
    cluster.restart(lost)
    cluster.wait_level()
    submit(cluster)
    cluster.wait_level()
    state = lost.state()
    assert state is not None
    other = cluster.wait_led()
    other.kill()
    # Two of three are up, but only one of those is a member.
    found = refusal_at(cluster, lost)
    assert found.code is grpc.StatusCode.UNAVAILABLE, found
    wait_until(lambda: "with a mark of its own" in lost.tail(), "it says that it is another")
    lost.kill()
    lost.restore_from(tmp_path / "kept")
    cluster.restart()


# --- envelopes ---------------------------------------------------------------------------------


def test_an_envelope_outlives_the_leader(cluster: Cluster) -> None:
    """Put through one node; the leader dies; named through another, and fetched from a third."""
    world = cluster.world
    genesis = world.genesis
    writer = EnvelopeAccess(1, NumberedSigner(1, world.officers[0]))
    reader = EnvelopeAccess(2, NumberedSigner(1, world.officers[1]))
    leader = cluster.wait_led()
    second, third = cluster.followers()
    envelope = sealed(genesis)
    with second.client(patience_s=20) as client:
        digest = client.put_envelope(genesis, writer, envelope)
    leader.kill()
    record = Send(1, 2, world.commitments(1)[0], SendKind.REQUEST, 0, NONE, digest).encode()
    made = SignedSubmission(*world.submission([record], claimed_ms=now_ms()))
    with second.client(patience_s=60, deadline_s=20) as client:
        client.submit(genesis, made)
    with third.client(patience_s=20) as client:
        assert client.get_envelope(genesis, reader, digest) == envelope
    cluster.restart(leader)
    cluster.wait_level()
    with leader.client(patience_s=20) as client:
        assert client.get_envelope(genesis, reader, digest) == envelope
        assert client.drop_envelope(genesis, reader, digest)


def sealed(genesis: bytes) -> bytes:
    """A letter from agency 1 to key 2 of agency 2."""
    letter = Letter(Document.build(1, 0, [Field.text("text", "a question")]), bytes(16), ())
    _, plaintext = letter_plaintext(letter, genesis, 2)
    box = bytes(SealedBox(envelope_secret(2, 2).public_key).encrypt(plaintext))
    return Envelope(2, 2, box).encode()
