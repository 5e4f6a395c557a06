"""What another member says is checked before it is believed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Any

import pytest

from node.cluster.peers import PeerLink
from node.config import Address
from node.errors import PeerWrong
from sudur.v1 import peer_pb2


class Answering(PeerLink):
    """A link whose other end answers ``answer`` to whatever it is asked."""

    answer: object

    def call(self, ask: Callable[[Any, float], Any], timeout_s: float = 0) -> Any:
        return self.answer


@pytest.fixture
def link() -> Iterator[Answering]:
    one = Answering("n2", Address("127.0.0.1", 1), None)
    yield one
    one.close()


def test_a_body_has_the_digest_that_was_asked_for(link: Answering) -> None:
    """Else the next member is asked: it is not this one's store that is damaged."""
    link.answer = peer_pb2.FetchBodyResponse(packed=b"flipped")
    assert link.body(5, sha256(b"flipped").digest()) == b"flipped"
    with pytest.raises(PeerWrong, match="n2"):
        link.body(5, sha256(b"as it was").digest())


def test_garbage_is_no_vote(link: Answering) -> None:
    link.answer = peer_pb2.HearResponse(vote=b"garbage")
    with pytest.raises(PeerWrong, match="no vote"):
        link.hear()
    with pytest.raises(PeerWrong, match="no vote"):
        link.freeze(2)
