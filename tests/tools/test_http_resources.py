"""Static resources over HTTP: caps while bytes arrive, no redirects, what never changes fetched once."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import httpx
import pytest

from tools.errors import AnswerWrong, NotFound, RateLimited, Unavailable, Usage
from tools.http_resources import HttpResources


class Endless(httpx.SyncByteStream):
    """A body that never ends, and counts how much of it was taken."""

    def __init__(self) -> None:
        self.taken = 0

    def __iter__(self) -> Iterator[bytes]:
        while True:
            self.taken += 4096
            yield bytes(4096)


def served(response: httpx.Response | Exception) -> tuple[HttpResources, list[str]]:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        assert request.headers["Accept-Encoding"] == "identity"
        if isinstance(response, Exception):
            raise response
        return response

    return HttpResources("http://node.example/base/", transport=httpx.MockTransport(answer)), asked


def test_what_never_changes_is_fetched_once() -> None:
    resources, asked = served(httpx.Response(200, stream=httpx.ByteStream(b"tile")))
    assert resources.fetch("tile/0/000.p/3") == resources.fetch("tile/0/000.p/3") == b"tile"
    assert asked == ["/base/tile/0/000.p/3"]


@pytest.mark.parametrize("path", ["checkpoint", "status/events/0", "v1/figures/7", "v1/reference/098"])
def test_what_changes_is_fetched_each_time(path: str) -> None:
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        return httpx.Response(200, stream=httpx.ByteStream(b"note"))

    resources = HttpResources("http://node.example", transport=httpx.MockTransport(answer))
    resources.fetch(path)
    resources.fetch(path)
    assert asked == [f"/{path}", f"/{path}"]


@pytest.mark.parametrize(
    ("path", "cap"),
    [("tile/0/000", 8192), ("status/chunk/00", 32_768), ("checkpoint", 1 << 20), ("other", 0)],
)
def test_a_body_without_end_is_cut_off(path: str, cap: int) -> None:
    body = Endless()
    resources, _ = served(httpx.Response(200, stream=body))
    with pytest.raises(AnswerWrong, match="never has"):
        resources.fetch(path)
    assert body.taken <= cap + 4096


@pytest.mark.parametrize(
    ("response", "error"),
    [
        (httpx.Response(404), NotFound),
        (httpx.Response(503), Unavailable),
        (httpx.Response(429, headers={"Retry-After": "61"}), RateLimited),
        (httpx.Response(302, headers={"Location": "http://elsewhere.example"}), AnswerWrong),
        (httpx.Response(400), AnswerWrong),
        (httpx.ConnectError("refused"), Unavailable),
        (httpx.ReadTimeout(""), Unavailable),
    ],
)
def test_answers_that_are_none(response: httpx.Response | Exception, error: type[Exception]) -> None:
    resources, _ = served(response)
    with pytest.raises(error):
        resources.fetch("checkpoint")


@pytest.mark.parametrize(("said", "delay"), [("7", 7.0), ("", 1.0), ("0", 1.0), ("Tue, 24 Nov 2026", 1.0)])
def test_who_asks_too_often_waits_as_long_as_it_is_told(said: str, delay: float) -> None:
    answers = [httpx.Response(429, headers={"Retry-After": said})] * 3
    answers.append(httpx.Response(200, stream=httpx.ByteStream(b"note")))
    pauses: list[float] = []
    transport = httpx.MockTransport(lambda request: answers.pop(0))
    resources = HttpResources("http://node.example", transport=transport, pause=pauses.append)
    assert resources.fetch("checkpoint") == b"note"
    assert pauses == [delay] * 3


def test_who_asks_too_often_gives_up_in_the_end() -> None:
    pauses: list[float] = []
    transport = httpx.MockTransport(lambda request: httpx.Response(429, headers={"Retry-After": "20"}))
    resources = HttpResources("http://node.example", transport=transport, pause=pauses.append)
    with pytest.raises(RateLimited, match="too often"):
        resources.fetch("checkpoint")
    assert pauses == [20.0] * 3


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nX: ",
        b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
    ],
)
def test_an_answer_in_drops_is_not_waited_for(head: bytes) -> None:
    """Each byte comes well within the time for one wait; only the deadline of the whole can end it."""
    over = threading.Event()

    def drip(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, suppress(OSError):
            connection.sendall(head)
            while not over.wait(0.01):
                connection.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        dripping = threading.Thread(target=drip, args=(listener,))
        dripping.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            with (
                HttpResources(url, deadline_s=0.2) as resources,
                pytest.raises(Unavailable, match="no whole answer came"),
            ):
                resources.fetch("checkpoint")
        finally:
            over.set()
            dripping.join()


@pytest.mark.parametrize(
    "url", ["", "node", "ftp://node", "http://", "http://a b", "http://n/?q", "//n", "http://[:"]
)
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(Usage):
        HttpResources(url)
