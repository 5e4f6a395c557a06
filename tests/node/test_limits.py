"""Rates by agency and by address: who pays for what, and that the delay that is told is true."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from contextlib import ExitStack
from pathlib import Path

import grpc.aio
import pytest
from google.rpc import status_pb2
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import DuplicateIssue, SignatureInvalid, SudurError
from ledger.submissions import SubmissionLeaf
from node.config import UNLIMITED, RateLimits
from node.doors.forward import ForwardedRefusal
from node.doors.limits import Buckets, CallerLimits, Tally, host_address, peer_address
from node.errors import NodeError, QueueFull, RateLimited
from node.publish import Published
from node.sequencer import Outcome, Placement
from sudur.v1 import ledger_pb2 as pb
from tests.ledger.world import issue
from tests.node.served import Refused, refused, serve, taken_apart

HERE, THERE = "192.0.2.1", "192.0.2.2"

# --- buckets -----------------------------------------------------------------------------------


def test_a_bucket_is_used_up_and_fills_again() -> None:
    buckets: Buckets[str] = Buckets(per_s=10, burst=5)
    for _ in range(6):
        assert buckets.wait_s("a", 0.0) == 0
        buckets.pay("a", 1, 0.0)
    assert buckets.wait_s("a", 0.0) == pytest.approx(0.1)
    assert buckets.wait_s("b", 0.0) == 0
    assert buckets.wait_s("a", 0.05) == pytest.approx(0.05)
    assert buckets.wait_s("a", 0.1) == pytest.approx(0)
    buckets.pay("a", 100, 0.1)
    assert buckets.wait_s("a", 0.1) == pytest.approx(10)
    buckets.pay("a", -1_000, 0.1)
    for _ in range(6):
        buckets.pay("a", 1, 0.1)
    assert buckets.wait_s("a", 0.1) == pytest.approx(0.1), "no more is given back than it holds"


@given(st.lists(st.tuples(st.floats(0, 20), st.floats(0, 10)), max_size=40), st.floats(0.5, 100))
def test_the_wait_is_true_and_no_more_passes_than_the_rate_lets(
    tries: list[tuple[float, float]], per_s: float
) -> None:
    buckets: Buckets[int] = Buckets(per_s, burst=20)
    now, passed, most = 0.0, 0.0, 0.0
    for amount, later in tries:
        now += later
        wait = buckets.wait_s(1, now)
        if wait:
            assert buckets.wait_s(1, now + wait / 2) > 0
            assert buckets.wait_s(1, now + wait) == pytest.approx(0, abs=1e-6)
            continue
        buckets.pay(1, amount, now)
        passed, most = passed + amount, max(most, amount)
        assert passed <= 20 + most + now * per_s + 1e-6


def test_only_so_many_are_remembered_and_the_longest_silent_goes_first() -> None:
    buckets: Buckets[int] = Buckets(per_s=1, burst=0, most=3)
    for key in (1, 2, 3, 1, 4):
        buckets.pay(key, 5, 0.0)
    assert len(buckets) == 3
    assert [buckets.wait_s(key, 0.0) for key in (1, 2, 3, 4)] == [10, 0, 5, 5]


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:192.0.2.7:41002", "192.0.2.7"),
        ("ipv6:%5B2001:db8:1:2:3:4:5:6%5D:41002", "2001:db8:1:2::/64"),
        ("ipv6:[2001:db8:1:2:ffff::1]:1", "2001:db8:1:2::/64"),
        ("ipv6:[::ffff:192.0.2.7]:1", "192.0.2.7"),
        ("ipv6:%5Bfe80::1%25eth0%5D:1", "fe80::/64"),
        ("unix:/run/node.sock", ""),
        ("", ""),
    ],
)
def test_who_counts_as_one_caller(peer: str, address: str) -> None:
    assert peer_address(peer) == address


def test_over_http_it_is_the_same_caller() -> None:
    assert host_address("2001:db8:1:2::9") == peer_address("ipv6:[2001:db8:1:2::1]:1")
    assert host_address("192.0.2.7") == peer_address("ipv4:192.0.2.7:1")


# --- who pays ----------------------------------------------------------------------------------


class Desk:
    """Limits of 10 records and 1,000 bytes a second, 10 calls and 10 ms of refusals, and a clock."""

    def __init__(self, **more: int) -> None:
        usual = {
            "agency_records": 10,
            "agency_bytes": 100_000,
            "agency_burst_s": 10,
            "address_calls": 10,
            "address_refused_ms": 10,
        }
        self.now = 0.0
        self.counted: list[str] = []
        self.limits = CallerLimits(
            RateLimits(**{**usual, **more}), self.counted.append, clock=lambda: self.now
        )

    def submit(self, agency: int, outcome: Outcome, address: str = HERE, records: int = 1) -> None:
        """One submission in the name of an agency, and what became of it. Raises RateLimited."""
        item = (SubmissionLeaf(agency, records, bytes(32), 0, ()).encode(), bytes(100))
        with self.limits.submissions(address, [item]) as tally:
            if tally.barred[0] is not None:
                raise tally.barred[0]
            if isinstance(outcome, SudurError):
                raise outcome
            tally.settle([outcome])


def placed(records: int = 1, *, repeat: bool = False) -> Placement:
    return Placement(5, 6, records, 3, 8, 0, repeat)


def until_limited(desk: Desk, agency: int, outcome: Outcome, most: int = 2_000) -> RateLimited | None:
    for _ in range(most):
        try:
            desk.submit(agency, outcome)
        except RateLimited as error:
            return error
        except SudurError:
            pass
    return None


def test_an_agency_pays_for_what_it_appends() -> None:
    desk = Desk()
    desk.submit(1, placed(151), records=151)
    with pytest.raises(RateLimited, match="agency 1 has appended") as caught:
        desk.submit(1, placed())
    assert (caught.value.retry_ms, caught.value.where) == (5_101, "agency")
    desk.submit(2, placed())
    desk.now = caught.value.retry_ms / 1_000
    desk.submit(1, placed())
    assert desk.counted == ["agency"]


def test_bytes_count_as_well() -> None:
    desk = Desk(agency_bytes=1, agency_burst_s=400)
    for _ in range(3):
        desk.submit(1, placed())
    with pytest.raises(RateLimited, match="agency 1"):
        desk.submit(1, placed())


def test_a_stranger_uses_up_no_share_of_an_agency_but_the_address_s() -> None:
    """Bad signatures, and replays of what stands in the log, in the name of agency 1."""
    desk = Desk()
    for _ in range(1_000):
        desk.submit(1, placed(256, repeat=True))
    error = until_limited(desk, 1, SignatureInvalid("no"))
    assert error is not None
    assert error.where == "refusals"
    desk.submit(1, placed(), THERE)
    with pytest.raises(RateLimited):
        desk.submit(2, placed())
    desk.now += error.retry_ms / 1_000
    desk.submit(2, placed())


def test_what_is_no_fault_of_the_caller_is_given_back() -> None:
    desk = Desk()
    assert until_limited(desk, 1, QueueFull("full")) is None
    full, bad = status_pb2.Status(code=8, message="full"), status_pb2.Status(code=16, message="bad")
    assert until_limited(desk, 1, ForwardedRefusal(full)) is None
    assert until_limited(Desk(), 1, ForwardedRefusal(bad)) is not None
    assert until_limited(desk, 1, DuplicateIssue("again", index=3)) is not None


def test_what_is_under_way_is_bounded_and_comes_back() -> None:
    desk = Desk(address_refused_ms=1)
    item = (SubmissionLeaf(1, 1, bytes(32), 0, ()).encode(), bytes(100))
    with ExitStack() as under_way:
        tallies: list[Tally] = []
        while len(tallies) < 1_000:
            try:
                tallies.append(under_way.enter_context(desk.limits.submissions(HERE, [item])))
            except RateLimited:
                break
        assert 50 < len(tallies) < 150
        for tally in tallies:
            tally.settle([placed(repeat=True)])
    assert set(desk.counted) == {"refusals"}
    assert until_limited(desk, 1, placed(repeat=True)) is None


def test_who_does_not_wait_for_the_answer_has_paid() -> None:
    desk = Desk(address_refused_ms=1)
    item = (SubmissionLeaf(1, 1, bytes(32), 0, ()).encode(), bytes(100))

    def leave() -> None:
        with desk.limits.submissions(HERE, [item]):
            raise asyncio.CancelledError

    left = 0
    with contextlib.suppress(RateLimited):
        while left < 1_000:
            try:
                leave()
            except asyncio.CancelledError:
                left += 1
    assert 50 < left < 150


def test_in_a_bulk_each_stands_for_itself() -> None:
    desk = Desk()
    desk.submit(1, placed(200), records=200)
    items = [(SubmissionLeaf(agency, 1, bytes(32), 0, ()).encode(), b"") for agency in (1, 2, 1, 3)]
    with desk.limits.submissions(HERE, items) as tally:
        assert tally.admitted == [items[1], items[3]]
        refusal = DuplicateIssue("again", index=3)
        outcomes = tally.settle([placed(), refusal])
    assert [type(one) for one in outcomes] == [RateLimited, Placement, RateLimited, DuplicateIssue]
    assert outcomes[3] is refusal


def test_a_registry_change_pays_by_its_length() -> None:
    def tries(size: int) -> int:
        desk = Desk()
        for number in range(5_000):
            try:
                with desk.limits.change(HERE, bytes(size)):
                    raise SignatureInvalid("no")
            except RateLimited:
                return number
            except SignatureInvalid:
                pass
        raise AssertionError("never limited")

    assert tries(13_000) < 20 < 200 < tries(300)


def test_changes_and_envelopes_that_pass_cost_nothing() -> None:
    desk = Desk()
    for _ in range(2_000):
        with desk.limits.change(HERE, bytes(60_000)):
            pass
        with desk.limits.envelope(HERE):
            pass
        with pytest.raises(QueueFull), desk.limits.change(HERE, bytes(60_000)):
            raise QueueFull("full")


def test_calls_of_an_address() -> None:
    desk = Desk()
    for _ in range(101):
        desk.limits.call(HERE)
    with pytest.raises(RateLimited, match="as many calls") as caught:
        desk.limits.call(HERE)
    assert (caught.value.retry_ms, caught.value.where) == (101, "address")
    desk.limits.call(THERE, weight=500)
    with pytest.raises(RateLimited) as caught:
        desk.limits.call(THERE)
    assert caught.value.retry_ms == 40_001


def test_by_default_an_archive_goes_in_at_full_speed() -> None:
    """115,000 records a second in calls of 16,384, four at a time, until ten million are there."""
    desk = Desk()
    limits = CallerLimits(RateLimits(), desk.counted.append, clock=lambda: desk.now)
    packed = bytes(256 * 45)
    item = (SubmissionLeaf(1, 256, bytes(32), 0, ()).encode(), packed)
    done = 0
    while done < 10_000_000:
        open_calls = [limits.submissions(HERE, [item] * 64) for _ in range(4)]
        tallies = [one.__enter__() for one in open_calls]
        for one, tally in zip(open_calls, tallies, strict=True):
            assert len(tally.admitted) == 64
            tally.settle([placed(256)] * 64)
            one.__exit__(None, None, None)
            done += 16_384
        desk.now += 65_536 / 115_000
    assert desk.counted == []


def test_rates_are_checked() -> None:
    with pytest.raises(NodeError, match="at least 1"):
        RateLimits(address_calls=0)
    assert UNLIMITED.agency_records > 10**12


# --- over real sockets -------------------------------------------------------------------------


async def test_over_grpc_and_http(tmp_path: Path) -> None:
    rates = RateLimits(address_calls=1)
    async with serve(tmp_path / "data", rates=rates) as served:
        told: Refused | None = None
        for _ in range(30):
            try:
                await served.stub.GetCheckpoint(pb.GetCheckpointRequest())
            except grpc.aio.AioRpcError as error:
                told = refused(error)
        assert told is not None
        assert (told.code, told.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
        assert told.retry is not None
        assert 0 < told.retry.retry_delay.ToMilliseconds() <= 1_001
        answer = await served.http.get("/checkpoint")
        assert (answer.status_code, answer.json()["code"]) == (429, "RATE_LIMITED")
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["retry-after"] in ("1", "2")
        stream = served.stub.StreamEntries(pb.StreamEntriesRequest())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stream.read()
        assert refused(caught.value).reason == "RATE_LIMITED"
        for probe in ("/healthz", "/readyz"):
            assert (await served.http.get(probe)).status_code == 200


async def test_an_agency_over_its_share(tmp_path: Path) -> None:
    async with serve(tmp_path / "data", rates=RateLimits(agency_records=1, agency_burst_s=2)) as served:
        other = await served.enrol()
        await served.submit(1, [issue(1, f"{n}", 0) for n in range(8)])
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.submit(1)
        told = refused(caught.value)
        assert (told.reason, told.info is not None and told.info.metadata["where"]) == (
            "RATE_LIMITED",
            "agency",
        )
        assert told.retry is not None
        assert 4_000 < told.retry.retry_delay.ToMilliseconds() <= 6_001
        bulk = await served.stub.SubmitBulk(
            pb.SubmitBulkRequest(
                genesis=served.genesis, submissions=[served.submission(1), served.submission(other)]
            )
        )
        one, two = bulk.results
        assert taken_apart(one.error, grpc.StatusCode.RESOURCE_EXHAUSTED).reason == "RATE_LIMITED"
        assert two.HasField("placement")
        only = await served.stub.SubmitBulk(
            pb.SubmitBulkRequest(genesis=served.genesis, submissions=[served.submission(1)])
        )
        assert only.results[0].HasField("error")
        assert served.open(only.checkpoint).size == served.size
        page = (await served.http.get("/metrics")).text
        assert 'sudur_limited_total{scope="agency"} 3.0' in page


async def test_bad_signatures_are_paid_for_by_the_address_alone(tmp_path: Path) -> None:
    async with serve(tmp_path / "data", rates=RateLimits(address_refused_ms=1)) as served:
        reasons = []
        for _ in range(200):
            request = served.request(served.submission(1))
            request.submission.leaf = request.submission.leaf[:-1] + b"\xff"
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await served.stub.Submit(request)
            reasons.append(refused(caught.value).reason)
            if reasons[-1] == "RATE_LIMITED":
                break
        assert 50 < len(reasons) < 150
        assert set(reasons[:-1]) == {"SIGNATURE_INVALID"}


async def test_a_submission_whose_caller_has_gone_is_not_worked_on(tmp_path: Path) -> None:
    async with serve(tmp_path / "data") as served:
        reached, go_on = threading.Event(), threading.Event()

        def hold(published: Published) -> None:
            reached.set()
            assert go_on.wait(30)

        served.node.ledger.publications.on_publish(hold)
        first = asyncio.create_task(served.submit())
        assert await asyncio.to_thread(reached.wait, 30)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.stub.Submit(served.request(served.submission(1)), timeout=0.2)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        cancelled = 'sudur_grpc_calls_total{code="CANCELLED",method="Submit"}'
        async with asyncio.timeout(30):
            while cancelled not in (await served.http.get("/metrics")).text:
                pass
        go_on.set()
        await first
        second = await served.submit()
        assert second.placement.submission_index == (await first).placement.block_size
        page = (await served.http.get("/metrics")).text
        assert "sudur_submissions_abandoned_total 1.0" in page
