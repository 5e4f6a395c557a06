"""A block that the store has and nobody has published: no answer speaks of it, and figures wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
import pytest_asyncio

from ledger.errors import OutOfRange
from ledger.figures import FigureKey, Metric
from ledger.inquiries import Standing
from ledger.leaves import NONE
from ledger.records import NO_HASH, Answer, Outcome, Send, SendKind, Status, StatusChange
from ledger.references import reference_digits
from node.codec import BlockInfo
from node.doors import inquiries as module
from node.doors.inquiries import Inquiries
from node.doors.reads import Reads
from node.doors.releases import Releases
from node.doors.resources import Resources
from node.errors import NotFound, ReadOnly, Stopping
from node.node import LedgerNode
from node.publish import Published
from node.store import Store
from tests.ledger.world import commitment, issue
from tests.node.served import serve

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Applying:
    """A store amid applying a block: its rows are there, and nothing may be read that they point to."""

    def __init__(self, store: Store, size: Callable[[], int]) -> None:
        self._store = store
        self._size = size

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def leaf(self, index: int) -> bytes:
        assert index < self._size()
        return self._store.leaf(index)

    def block_of(self, index: int) -> BlockInfo:
        assert index < self._size()
        return self._store.block_of(index)


@dataclass
class Behind:
    """A node, and a keeper of who waits for its blocks, that published ``published`` last."""

    store: Store
    published: Published
    stopping: bool = False
    released: asyncio.Event = field(default_factory=asyncio.Event)
    proofs: None = None

    async def block(self, number: int) -> None:
        if self.published.head.block < number and not self.stopping:
            await self.released.wait()


@dataclass
class Ahead:
    """The same node after one more block, and the indexes of what it speaks of."""

    behind: Behind
    newest: Published
    document: int
    waiting: int

    @property
    def inquiries(self) -> Inquiries:
        return Inquiries(cast("LedgerNode", self.behind), cast("Releases", self.behind))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def logged(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ahead]:
    async with serve(tmp_path_factory.mktemp("node") / "data") as served:
        assert await served.enrol(roles=("issue", "request")) == 2
        assert await served.enrol() == 3

        async def log(agency: int, *records: bytes) -> int:
            return (await served.submit(agency, records)).placement.first_record_index

        def asked(name: str) -> bytes:
            return Send(2, 3, commitment(name), SendKind.REQUEST, 5, NONE, NO_HASH).encode()

        document = await log(2, issue(2, "a", 0))
        suspended = await log(2, StatusChange(2, document, document, Status.SUSPENDED, 1, NONE).encode())
        waiting = await log(2, asked("x"))
        old = served.node.ledger.published
        first = StatusChange(2, document, suspended, Status.VALID, 0, NONE).encode()
        place = await log(2, first)
        await log(2, StatusChange(2, document, place, Status.REVOKED, 2, NONE).encode(), asked("y"))
        await log(3, Answer(3, waiting, Outcome.ANSWERED, commitment("z"), NO_HASH).encode())
        behind = Behind(served.node.ledger.store, old)
        yield Ahead(behind, served.node.ledger.published, document, waiting)


@pytest.fixture
def ahead(logged: Ahead) -> Ahead:
    behind = Behind(logged.behind.store, logged.behind.published)
    behind.store = cast("Store", Applying(behind.store, lambda: behind.published.size))
    return Ahead(behind, logged.newest, logged.document, logged.waiting)


async def test_nothing_of_it_is_told(ahead: Ahead) -> None:
    inquiries, size = ahead.inquiries, ahead.behind.published.size
    found, as_of = inquiries.reference(reference_digits(ahead.document))
    assert as_of.size == size
    assert found.standing is not None
    assert (found.standing.status, found.standing.reason) == (Status.SUSPENDED, 1)
    (sent,), _ = await inquiries.exchanges([ahead.waiting])
    assert (sent.received, sent.final) == (None, None)
    page = await inquiries.sends_to(3, 0, 0)
    assert ([one.index for one in page.sends], page.next) == ([ahead.waiting], None)
    for index in range(size, ahead.newest.size):
        with pytest.raises(OutOfRange, match=f"the ledger has {size} leaves"):
            inquiries.reference(reference_digits(index))
        with pytest.raises(OutOfRange, match=f"which has {size} leaves"):
            await inquiries.exchanges([ahead.waiting, index])
    assert len(_resources(ahead).status_events(0).data) == 11


async def test_published_it_is_told(ahead: Ahead) -> None:
    ahead.behind.published = ahead.newest
    inquiries = ahead.inquiries
    found, as_of = inquiries.reference(reference_digits(ahead.document))
    assert (as_of.size, as_of.time_ms) == (ahead.newest.size, ahead.newest.state.time_ms)
    assert isinstance(found.standing, Standing)
    assert (found.standing.status, found.standing.reason) == (Status.REVOKED, 2)
    (sent,), _ = await inquiries.exchanges([ahead.waiting])
    assert sent.final is not None
    assert len((await inquiries.sends_to(3, 0, 0)).sends) == 2
    assert len(_resources(ahead).status_events(0).data) == 11


async def test_figures_wait_until_it_is_published(ahead: Ahead) -> None:
    task = asyncio.create_task(ahead.inquiries.figures(3))
    done, _ = await asyncio.wait([task], timeout=0.2)
    assert not done
    ahead.behind.published = ahead.newest
    ahead.behind.released.set()
    answer = await task
    assert answer.as_of.size == ahead.newest.size
    month = next(key.period for key in answer.figures if key.metric is Metric.ASKED)
    assert answer.figures[FigureKey(3, Metric.ASKED, month, SendKind.REQUEST)] == 2


async def test_figures_do_not_wait_for_ever(ahead: Ahead, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RELEASE_WAIT_S", 0.01)
    with pytest.raises(ReadOnly, match="not published yet"):
        await ahead.inquiries.figures(0)
    ahead.behind.stopping = True
    with pytest.raises(Stopping, match="shutting down"):
        await ahead.inquiries.figures(0)


async def test_figures_are_kept_while_nothing_is_published(ahead: Ahead) -> None:
    ahead.behind.published = ahead.newest
    inquiries = ahead.inquiries
    first = await inquiries.figures(0)
    assert await inquiries.figures(0) is first
    for agency in (1, 2, 3, 0):
        assert (await inquiries.figures(agency)).agency.number == agency


async def test_who_asks_for_the_same_figures_shares_one_computation(
    ahead: Ahead, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[int] = []
    figures = Store.figures

    def counting(store: Store, agency: int) -> tuple[Mapping[FigureKey, int], int]:
        counted.append(agency)
        return figures(store, agency)

    monkeypatch.setattr(Store, "figures", counting)
    inquiries = ahead.inquiries
    tasks = [asyncio.create_task(inquiries.figures(agency)) for agency in (3, 3, 0, 3, 3)]
    tasks[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]
    ahead.behind.published = ahead.newest
    ahead.behind.released.set()
    answers = await asyncio.gather(*tasks[1:])
    assert sorted(counted) == [0, 3]
    assert answers[0] is answers[2] is answers[3]
    assert answers[1].agency.number == 0


def _resources(ahead: Ahead) -> Resources:
    node = cast("LedgerNode", ahead.behind)
    return Resources(node, Reads(node))


async def test_no_events_beyond_the_published_chunks(ahead: Ahead) -> None:
    with pytest.raises(NotFound, match="has 1 lists of events"):
        _resources(ahead).status_events(1)
