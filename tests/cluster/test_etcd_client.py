"""The client of etcd against real etcd that is killed, stopped, filled, restored and secured."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import grpc
import pytest

from node.cluster.etcd_client import EtcdClient, Found, Guard, Put, parse_endpoints
from node.cluster.etcd_failures import Fate, judge
from node.cluster.etcd_watch import Watch
from node.cluster.watched_key import WatchedKey
from node.errors import (
    EtcdFull,
    EtcdRefused,
    EtcdUnavailable,
    LeaseGone,
    NodeError,
    OutcomeUnknown,
)
from node.tls import TlsCredentials
from tests.cluster.etcds import Etcds, Tls, wait_until
from tests.transport.authorities import Authority, Issued

pytestmark = pytest.mark.cluster


@pytest.fixture
def key() -> bytes:
    return f"test/{secrets.token_hex(8)}".encode()


def value_of(found: Found | None) -> bytes | None:
    return None if found is None else found.value


# --- what it does ------------------------------------------------------------------------------


def test_swap_and_get(client: EtcdClient, key: bytes) -> None:
    assert client.get(key) is None
    made = client.swap([Guard(key, None)], [Put(key, b"one")])
    assert made.done
    assert client.get(key) == Found(b"one", made.revision, 0)
    again = client.swap([Guard(key, None)], [Put(key, b"two")])
    assert (again.done, again.found) == (False, (Found(b"one", made.revision, 0),))
    assert not client.swap([Guard(key, b"other")], [Put(key, b"two")]).done
    assert not client.swap([Guard(key, b"one", made.revision + 1)], [Put(key, b"two")]).done
    assert client.swap([Guard(key, b"one", made.revision)], [Put(key, b"two")]).done
    assert value_of(client.get(key)) == b"two"


def test_a_swap_of_several_keys_is_one(client: EtcdClient, key: bytes) -> None:
    other = key + b"/other"
    client.swap([], [Put(other, b"x")])
    both = [Guard(key, None), Guard(other, b"y")]
    refused = client.swap(both, [Put(key, b"1"), Put(other, b"2")])
    assert (refused.done, [value_of(one) for one in refused.found]) == (False, [None, b"x"])
    assert client.get(key) is None


def test_a_value_that_is_empty_is_not_an_absent_key(client: EtcdClient, key: bytes) -> None:
    assert not client.swap([Guard(key, b"")], [Put(key, b"x")]).done
    assert client.swap([Guard(key, None)], [Put(key, b"")]).done
    assert value_of(client.get(key)) == b""
    assert not client.swap([Guard(key, None)], [Put(key, b"x")]).done


def test_leases(client: EtcdClient, key: bytes) -> None:
    lease, ttl_s = client.grant(2)
    assert ttl_s >= 2
    client.swap([], [Put(key, b"x", lease)])
    found = client.get(key)
    assert found is not None
    assert found.lease == lease
    assert client.renew(lease) == ttl_s
    client.revoke(lease)
    client.revoke(lease)
    assert client.get(key) is None
    with pytest.raises(LeaseGone):
        client.renew(lease)


def test_a_put_under_a_lease_that_is_over_is_not_made(client: EtcdClient, key: bytes) -> None:
    lease, _ = client.grant(2)
    client.revoke(lease)
    with pytest.raises(LeaseGone):
        client.swap([], [Put(key, b"x", lease)])
    assert client.get(key) is None


def test_status_and_members(steady: Etcds, client: EtcdClient) -> None:
    (member,) = steady.members
    status = client.status(member.endpoint)
    assert status.leader == status.member_id
    assert status.version.startswith("3.")
    assert status.db_bytes >= status.db_bytes_in_use > 0
    assert (status.full, status.problems) == (False, ())
    (listed,) = client.members()
    assert (listed.id, listed.name) == (status.member_id, member.name)
    assert (listed.client_urls, listed.peer_urls) == ((member.url,), (member.peer_url,))


def test_compaction_forgets_old_values_only(client: EtcdClient, key: bytes) -> None:
    for n in range(5):
        revision = client.swap([], [Put(key, b"%d" % n)]).revision
    for _ in range(2):
        client.compact(revision)
    assert client.get(key) == Found(b"4", revision, 0)


@pytest.mark.parametrize(
    ("text", "endpoints"),
    [
        ("etcd://one:2379", ("one:2379",)),
        ("etcd://10.0.0.1:2379,10.0.0.2:2379", ("10.0.0.1:2379", "10.0.0.2:2379")),
        ("etcd://[::1]:1", ("[::1]:1",)),
        ("etcd://one", None),
        ("etcd://one:0", None),
        ("etcd://one:70000", None),
        ("etcd://one:1,", None),
        ("etcd://one:1,one:1", None),
        ("http://one:1", None),
        ("", None),
    ],
)
def test_endpoints(text: str, endpoints: tuple[str, ...] | None) -> None:
    if endpoints is not None:
        assert parse_endpoints(text) == endpoints
        return
    with pytest.raises(NodeError, match="endpoint"):
        parse_endpoints(text)


# --- what its errors mean ----------------------------------------------------------------------


class Failed(grpc.RpcError, grpc.Call):
    """An error as gRPC raises it; only what is read of it is there."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        self._code, self._details = code, details

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details

    def initial_metadata(self) -> tuple[()]:
        return ()

    def trailing_metadata(self) -> tuple[()]:
        return ()

    def is_active(self) -> bool:
        return False

    def time_remaining(self) -> float:
        return 0.0

    def cancel(self) -> bool:
        return False

    def add_callback(self, callback: object) -> bool:
        return False


UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("code", "details", "kind", "fate", "elsewhere"),
    [
        (UNAVAILABLE, "etcdserver: no leader", EtcdUnavailable, Fate.NOT_DONE, True),
        (UNAVAILABLE, "failed to connect to all addresses; x", EtcdUnavailable, Fate.NOT_DONE, True),
        (UNAVAILABLE, "etcdserver: request timed out", EtcdUnavailable, Fate.OPEN, True),
        (UNAVAILABLE, "Socket closed", EtcdUnavailable, Fate.OPEN, True),
        (UNAVAILABLE, "", EtcdUnavailable, Fate.OPEN, True),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", EtcdUnavailable, Fate.OPEN, True),
        (grpc.StatusCode.CANCELLED, "Channel closed!", EtcdUnavailable, Fate.OPEN, True),
        (grpc.StatusCode.UNKNOWN, "raft proposal dropped", EtcdUnavailable, Fate.OPEN, True),
        (grpc.StatusCode.INTERNAL, "x", EtcdUnavailable, Fate.OPEN, True),
        (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "etcdserver: too many requests",
            EtcdUnavailable,
            Fate.NOT_DONE,
            True,
        ),
        (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "etcdserver: mvcc: database space exceeded",
            EtcdFull,
            Fate.NOT_DONE,
            False,
        ),
        (
            grpc.StatusCode.NOT_FOUND,
            "etcdserver: requested lease not found",
            LeaseGone,
            Fate.NOT_DONE,
            False,
        ),
        (grpc.StatusCode.DATA_LOSS, "etcdserver: corrupt cluster", EtcdRefused, Fate.OPEN, False),
        (grpc.StatusCode.PERMISSION_DENIED, "x", EtcdRefused, Fate.NOT_DONE, False),
        (grpc.StatusCode.UNIMPLEMENTED, "x", EtcdRefused, Fate.NOT_DONE, False),
    ],
)
def test_judging_errors(
    code: grpc.StatusCode, details: str, kind: type[Exception], fate: Fate, elsewhere: bool
) -> None:
    failure = judge(Failed(code, details), "10.0.0.1:2379", "swapping head")
    assert (type(failure.error), failure.fate, failure.elsewhere) == (kind, fate, elsewhere)
    assert failure.error.where == "10.0.0.1:2379"
    assert "swapping head" in failure.error.what
    assert failure.error.fix


def test_a_server_that_is_no_etcd_is_refused() -> None:
    with ThreadPoolExecutor(1) as pool:
        server = grpc.server(pool)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            with closing(EtcdClient([f"127.0.0.1:{port}"])) as client:
                with pytest.raises(EtcdRefused):
                    client.get(b"x")
                with pytest.raises(EtcdRefused):
                    client.swap([], [Put(b"x", b"y")])
        finally:
            server.stop(None).wait()


def test_a_closed_client_says_so(steady: Etcds) -> None:
    client = steady.client()
    client.get(b"x")
    client.close()
    for call in (
        lambda: client.get(b"x"),
        lambda: client.swap([], [Put(b"x", b"y")]),
        lambda: client.grant(2),
    ):
        with pytest.raises(EtcdUnavailable, match="closed"):
            call()
    with pytest.raises(EtcdUnavailable, match="closed"):
        client.status(steady.endpoints[0])


# --- etcd fails --------------------------------------------------------------------------------


def test_all_members_down_is_certainly_not_done(etcds: Etcds, key: bytes) -> None:
    with closing(etcds.client(deadline_s=0.5)) as client:
        client.swap([], [Put(key, b"before")])
        etcds.stop()
        # What was connected may be in doubt; what finds no connection is not.
        with pytest.raises(EtcdUnavailable):
            client.get(key)
        with pytest.raises(EtcdUnavailable, match="connect") as error:
            client.swap([Guard(key, b"before")], [Put(key, b"after")])
        assert error.value.fix
        etcds.restart()
        assert value_of(client.get(key)) == b"before"


def test_without_a_majority_nothing_is_answered(etcds: Etcds, key: bytes) -> None:
    survivor, *others = etcds.members
    for member in others:
        member.kill()
    with closing(etcds.client(survivor.endpoint, deadline_s=3.0)) as client:
        with pytest.raises(EtcdUnavailable):
            client.get(key)
        wait_until(lambda: client.status(survivor.endpoint).leader == 0, "it knows that it has no leader")
        # etcd says so before it proposes anything: certainly not done.
        with pytest.raises(EtcdUnavailable, match="no leader"):
            client.swap([], [Put(key, b"x")])
        etcds.restart()
        assert client.get(key) is None


def test_counting_through_the_death_of_members(etcds: Etcds, key: bytes) -> None:
    """Each increment counts once, whatever was sent twice."""
    count = 0
    with closing(etcds.client()) as client:
        client.swap([], [Put(key, b"0")])

        def increment() -> None:
            nonlocal count
            answer = client.swap([Guard(key, b"%d" % count)], [Put(key, b"%d" % (count + 1))])
            count += 1
            assert answer.done or value_of(answer.found[0]) == b"%d" % count

        for end in ("kill", "pause"):
            victim = etcds.leader()
            with ThreadPoolExecutor(1) as pool:
                gone = pool.submit(getattr(victim, end))
                for _ in range(100):
                    increment()
                gone.result()
            if end == "kill":
                etcds.restart(victim)
            else:
                victim.resume()
            for _ in range(20):
                increment()
        assert value_of(client.get(key)) == b"%d" % count


def test_a_change_without_an_answer_may_be_made_later(etcds: Etcds, key: bytes) -> None:
    leader = etcds.leader()
    followers = etcds.followers()
    with closing(etcds.client(leader.endpoint, attempt_s=0.3, deadline_s=0.3)) as client:
        client.swap([], [Put(key, b"before")])
        for member in followers:
            member.pause()
        # The leader has it in its log, and nobody to agree.
        with pytest.raises(OutcomeUnknown) as error:
            client.swap([Guard(key, b"before")], [Put(key, b"after")])
        assert "identical" in error.value.fix
        for member in followers:
            member.resume()
    with closing(etcds.client()) as client:
        wait_until(lambda: value_of(client.get(key)) == b"after", "the change is made after all")
        again = client.swap([Guard(key, b"before")], [Put(key, b"after")])
        assert (again.done, value_of(again.found[0])) == (False, b"after")


def test_a_stopped_member_costs_one_attempt(etcds: Etcds, key: bytes) -> None:
    first, *_ = etcds.members
    with closing(etcds.client(attempt_s=0.3)) as client:
        client.swap([], [Put(key, b"x")])
        if etcds.leader() is first:  # then the others must elect first, which is another test
            first, *_ = etcds.followers()
        with closing(etcds.client(first.endpoint, *etcds.endpoints, attempt_s=0.3)) as other:
            first.pause()
            assert value_of(other.get(key)) == b"x"
            assert value_of(other.get(key)) == b"x"
            first.resume()


def test_full_and_emptied(tmp_path: Path, key: bytes) -> None:
    with Etcds(tmp_path / "etcd", 1, quota_bytes=4 << 20) as cluster:
        cluster.start()
        (endpoint,) = cluster.endpoints
        with closing(cluster.client()) as client:
            lease, _ = client.grant(60)
            client.swap([], [Put(key, b"small")])

            def fill() -> None:
                for _ in range(100):
                    client.swap([], [Put(key + b"/big", bytes(200_000))])

            with pytest.raises(EtcdFull) as error:
                fill()
            assert "quota" in error.value.what
            assert "compact" in error.value.fix
            assert value_of(client.get(key)) == b"small", "reads go on"
            assert client.renew(lease) > 0, "and so do leases that are there"
            assert client.status(endpoint).full
            with pytest.raises(EtcdFull):
                client.grant(2)
            with pytest.raises(EtcdFull):
                client.swap([Guard(key, b"small")], [Put(key, b"other")])
            cluster.free_space()
            assert client.swap([Guard(key, b"small")], [Put(key, b"other")]).done
            assert not client.status(endpoint).full


def test_a_restored_snapshot_a_forced_cluster_and_a_wiped_one(
    etcds: Etcds, tmp_path: Path, key: bytes
) -> None:
    """What operators do; the journal's tests say what that means for a ledger."""
    with closing(etcds.client()) as client:
        before = client.swap([], [Put(key, b"1")])
        snapshot = etcds.snapshot(tmp_path / "snapshot")
        after = client.swap([], [Put(key, b"2")])
        etcds.restore(snapshot)
        assert client.get(key) == Found(b"1", before.revision, 0)
        assert client.swap([], [Put(key, b"other")]).revision == after.revision, "revisions repeat"
        survivor = etcds.members[1]
        etcds.force_new_cluster(survivor)
        # A survivor that had not heard of the last commit drops it, though it was answered.
        assert value_of(client.get(key)) in (b"1", b"other")
        assert [member.name for member in client.members()] == [survivor.name]
        etcds.wipe()
        assert client.get(key) is None


# --- watching ----------------------------------------------------------------------------------


class Wakes:
    """Counts wake-ups, and waits for the next."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.count = 0

    def __call__(self) -> None:
        with self.changed:
            self.count += 1
            self.changed.notify_all()

    def wait_beyond(self, count: int) -> int:
        with self.changed:
            assert self.changed.wait_for(lambda: self.count > count, 60), "no wake-up came"
            return self.count


def test_a_watch_wakes_at_each_change_and_ends_when_closed(client: EtcdClient, key: bytes) -> None:
    wakes = Wakes()
    watch = Watch(client, key, wakes)
    count = wakes.wait_beyond(0)  # it has begun
    for n in range(3):
        client.swap([], [Put(key, b"%d" % n)])
        count = wakes.wait_beyond(count)
    for _ in range(2):
        watch.close()
    client.swap([], [Put(key, b"more")])
    client.get(key)
    assert wakes.count == count


def test_a_watch_outlives_members_and_compaction(etcds: Etcds, key: bytes) -> None:
    wakes = Wakes()
    with closing(etcds.client()) as client, closing(Watch(client, key, wakes)):
        count = wakes.wait_beyond(0)
        for member in etcds.members:
            member.kill()
            revision = client.swap([], [Put(key, member.name.encode())]).revision
            client.compact(revision)
            etcds.restart(member)
            count = wakes.wait_beyond(count)
        count = wakes.count
        client.swap([], [Put(key, b"end")])
        wakes.wait_beyond(count)


@pytest.mark.slow
def test_a_watch_leaves_a_member_that_stands_still(etcds: Etcds, key: bytes) -> None:
    still, other = etcds.followers()
    wakes = Wakes()
    with (
        closing(etcds.client(still.endpoint, other.endpoint)) as client,
        closing(Watch(client, key, wakes)),
    ):
        count = wakes.wait_beyond(0)
        still.pause()
        count = wakes.wait_beyond(count)  # begun elsewhere
        assert client.swap([], [Put(key, b"x")]).done
        wakes.wait_beyond(count)


def test_closing_the_client_ends_its_watches(steady: Etcds, key: bytes) -> None:
    wakes = Wakes()
    client = steady.client()
    watch = Watch(client, key, wakes)
    wakes.wait_beyond(0)
    client.close()
    watch.close()


def test_closing_ends_whoever_waits(client: EtcdClient, key: bytes) -> None:
    watched = WatchedKey(client, key)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(watched.wait, None, 60)
        client.get(key)
        watched.close()
        with pytest.raises(EtcdUnavailable, match="closed"):
            waiting.result(60)


def test_waiting_outlasts_an_outage(etcds: Etcds, key: bytes) -> None:
    with (
        closing(etcds.client()) as client,
        closing(WatchedKey(client, key)) as watched,
        ThreadPoolExecutor(1) as pool,
    ):
        assert watched.wait(None, 0.01) is None
        waiting = pool.submit(watched.wait, None, 60)
        etcds.stop()
        etcds.restart()
        client.swap([], [Put(key, b"x")])
        assert value_of(waiting.result(60)) == b"x"


# --- TLS ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"), "ca")


@pytest.fixture(scope="module")
def own(authority: Authority) -> Issued:
    """The client's certificate."""
    return authority.issue("client")


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory, authority: Authority, own: Issued) -> Iterator[Etcds]:
    server = authority.issue("server")
    tls = Tls(authority.path, server.certificate, server.key, authority.credentials(own))
    with Etcds(tmp_path_factory.mktemp("secured"), 1, tls=tls) as cluster:
        yield cluster.start()


def test_tls_on_both_sides(secured: Etcds, key: bytes) -> None:
    with closing(secured.client()) as client:
        assert client.swap([Guard(key, None)], [Put(key, b"x")]).done


def refusal(endpoint: str, credentials: TlsCredentials | None) -> EtcdUnavailable:
    with (
        closing(EtcdClient([endpoint], credentials, deadline_s=1.0)) as client,
        pytest.raises(EtcdUnavailable) as error,
    ):
        client.get(b"x")
    return error.value


def test_an_etcd_of_another_ca_is_refused(secured: Etcds, tmp_path: Path) -> None:
    other = Authority(tmp_path, "other")
    error = refusal(secured.endpoints[0], other.credentials(other.issue("client")))
    assert "one CA" in error.fix
    assert "CERTIFICATE_VERIFY_FAILED" in error.what


def test_a_client_of_another_ca_is_refused(secured: Etcds, authority: Authority, tmp_path: Path) -> None:
    refusal(secured.endpoints[0], authority.credentials(Authority(tmp_path, "other").issue("client")))


def test_a_renewed_certificate_is_used_from_the_next_call_on(
    secured: Etcds, authority: Authority, tmp_path: Path, key: bytes
) -> None:
    """Told by etcd itself: what replaces the good certificate is another CA's, and is refused."""
    shown, stranger = authority.issue("to be replaced"), Authority(tmp_path, "other").issue("stranger")
    with closing(EtcdClient(secured.endpoints, authority.credentials(shown), deadline_s=1.0)) as client:
        assert client.get(key) is None
        stranger.key.replace(shown.key)
        stranger.certificate.replace(shown.certificate)
        with pytest.raises(EtcdUnavailable):
            client.get(key)
        again = authority.issue("to be replaced")
        assert again == shown
        assert client.get(key) is None


def test_plaintext_is_refused(secured: Etcds, steady: Etcds, authority: Authority, own: Issued) -> None:
    refusal(secured.endpoints[0], None)
    error = refusal(steady.endpoints[0], authority.credentials(own))
    assert "TLS" in error.fix


@pytest.mark.parametrize(("address", "expired"), [("127.0.0.2", False), ("127.0.0.1", True)])
def test_a_wrong_name_and_an_expired_certificate_are_refused(
    tmp_path: Path, authority: Authority, own: Issued, address: str, expired: bool
) -> None:
    bad = authority.issue("bad", [address], start=-3 if expired else -1, days=2)
    good = authority.credentials(own)
    with Etcds(tmp_path / "etcd", 1, tls=Tls(authority.path, bad.certificate, bad.key, good)) as cluster:
        (member,) = cluster.members
        member.spawn(f"--initial-cluster={member.name}={member.peer_url}")
        wait_until(lambda: "ready to serve client requests" in member.log.read_text(), "it serves")
        error = refusal(member.endpoint, good)
        assert "certificates of one CA, valid today, with this host's name" in error.fix, error.what
