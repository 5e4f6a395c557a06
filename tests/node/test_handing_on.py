"""What a node that hands writes on counts: what it could not hand on, and nothing that another has judged."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from google.rpc import status_pb2

from ledger.errors import SudurError
from node.doors.forward import ForwardedRefusal
from node.doors.writes import Writes
from node.errors import NoLeader
from node.metrics import Metrics
from node.sequencer import Outcome

PAIR = (b"leaf", b"records")
METHODS: dict[str, Callable[[Writes], Awaitable[object]]] = {
    "submit": lambda writes: writes.submit(*PAIR),
    "bulk of two": lambda writes: writes.submit_bulk([PAIR, PAIR]),
    "change": lambda writes: writes.change(b"leaf"),
}


class Refusing:
    """See Forward: refuses all for one reason."""

    is_elsewhere = True

    def __init__(self, error: SudurError) -> None:
        self.error = error

    async def submit(
        self, genesis: bytes, submissions: Sequence[tuple[bytes, bytes]]
    ) -> tuple[list[Outcome], bytes]:
        raise self.error

    async def change(self, genesis: bytes, leaf: bytes) -> tuple[Outcome, bytes]:
        raise self.error


def writes(error: SudurError, metrics: Metrics) -> Writes:
    published: Any = SimpleNamespace(state=SimpleNamespace(genesis=bytes(32)), checkpoint=b"")
    copy: Any = SimpleNamespace(published=published)
    submitter: Any = SimpleNamespace(on_answers=lambda _: None)
    letters: Any = None
    return Writes(copy, submitter, letters, metrics, Refusing(error))


@pytest.mark.parametrize("method", METHODS)
async def test_what_cannot_be_handed_on_is_counted_here(method: str) -> None:
    metrics = Metrics("test")
    with pytest.raises(NoLeader):
        await METHODS[method](writes(NoLeader("nobody leads"), metrics))
    found = metrics.registry.get_sample_value("sudur_submissions_refused_total", {"reason": "NO_LEADER"})
    assert found == (2 if "two" in method else 1)


@pytest.mark.parametrize("method", METHODS)
async def test_what_another_has_judged_is_counted_there(method: str) -> None:
    metrics = Metrics("test")
    with pytest.raises(ForwardedRefusal):
        await METHODS[method](writes(ForwardedRefusal(status_pb2.Status(code=3, message="no")), metrics))
    assert b"sudur_submissions_refused_total{" not in metrics.text()
