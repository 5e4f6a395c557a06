"""Static resources of a cluster: of another node when the one that was asked is gone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import httpx
import pytest

from tools.client import LedgerClient
from tools.errors import NotFound, RateLimited, Unavailable
from tools.http_resources import HttpResources
from tools.node_resources import NodeResources


@dataclass
class Cluster:
    """Nodes by URL with what each answers, and the URL that the node which answers gRPC gives."""

    answers: dict[str, httpx.Response | Exception]
    now: str
    asked: list[str] = field(default_factory=list)

    @property
    def resources_url(self) -> str:
        return self.now

    def ledger(self) -> Cluster:
        return self

    def connect(self, url: str) -> HttpResources:
        def answer(request: httpx.Request) -> httpx.Response:
            self.asked.append(request.url.host)
            found = self.answers[request.url.host]
            if isinstance(found, Exception):
                raise found
            return httpx.Response(found.status_code, headers=found.headers, stream=httpx.ByteStream(b"note"))

        return HttpResources(url, transport=httpx.MockTransport(answer), pause=lambda _: None)

    def resources(self, url: str) -> NodeResources:
        return NodeResources(cast("LedgerClient", self), url, self.connect)


GONE = httpx.ReadTimeout("")


def test_another_node_is_asked_and_then_kept_to() -> None:
    cluster = Cluster({"one": GONE, "two": httpx.Response(200)}, "http://two/")
    with cluster.resources("http://one") as resources:
        assert resources.fetch("checkpoint") == resources.fetch("checkpoint") == b"note"
    assert cluster.asked == ["one", "two", "two"]


def test_the_only_node_that_answers_has_none_either() -> None:
    cluster = Cluster({"one": GONE}, "http://one")
    with cluster.resources("http://one") as resources, pytest.raises(Unavailable):
        resources.fetch("checkpoint")
    assert cluster.asked == ["one"]


def test_it_does_not_go_round_for_ever() -> None:
    cluster = Cluster({"one": GONE, "two": GONE}, "http://two")

    def other() -> Cluster:
        cluster.now = "http://one" if cluster.now == "http://two" else "http://two"
        return cluster

    cluster.ledger = other  # type: ignore[method-assign]
    with cluster.resources("http://one") as resources, pytest.raises(Unavailable):
        resources.fetch("checkpoint")
    assert len(cluster.asked) < 20


@pytest.mark.parametrize(
    ("answer", "error"),
    [(httpx.Response(404), NotFound), (httpx.Response(429, headers={"Retry-After": "99"}), RateLimited)],
)
def test_an_answer_is_an_answer(answer: httpx.Response, error: type[Exception]) -> None:
    cluster = Cluster({"one": answer}, "http://two")
    with cluster.resources("http://one") as resources, pytest.raises(error):
        resources.fetch("checkpoint")
    assert cluster.asked == ["one"]
