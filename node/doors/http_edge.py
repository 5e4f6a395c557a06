"""The outermost layer of the HTTP side: what holds for every request, whatever answers it.

It admits only paths in their one plain spelling, answers HEAD as GET without the body, sets the
headers that all answers share, counts, and turns an unexpected exception into a problem that says
nothing of its cause.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from functools import partial
from http import HTTPStatus
from typing import Any, Final

import structlog
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ledger.errors import FormatError, SudurError, TooLarge
from node.doors.grpc_errors import REASONS, reason_of
from node.doors.http_protocol import MAX_HEAD
from node.doors.limits import CallerLimits, host_address
from node.doors.outgoing import SMALL
from node.doors.request_ids import HEADER, begin_request, request_id_now
from node.doors.resources import NEVER
from node.errors import QueueFull, RateLimited, RetryableError
from node.metrics import Metrics

MAX_PATH: Final = 256
PROBLEM: Final = "application/problem+json"
OPERATIONS: Final = frozenset((b"/metrics", b"/healthz", b"/readyz"))
"""What is for the operator: readable by no other site's pages, and scrapers may add queries."""

_PROBES: Final = frozenset((b"/healthz", b"/readyz"))
"""Never limited: whoever asks whether the node is well must not be told that others ask too much."""
_REQUEST_ID: Final = HEADER.encode()
_PLAIN: Final = re.compile(rb"/[A-Za-z0-9/._-]*")
_STATUS: Final = {
    "INVALID_ARGUMENT": 400,
    "OUT_OF_RANGE": 404,
    "NOT_FOUND": 404,
    "UNAVAILABLE": 503,
    "RESOURCE_EXHAUSTED": 503,
}
_log = structlog.get_logger("node.http")


def problem(
    status: int,
    code: str,
    detail: str,
    facts: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """An error as application/problem+json (RFC 9457), never to be cached."""
    body = {
        "type": f"urn:sudur:error:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        **(facts or {}),
    }
    data = json.dumps(body, ensure_ascii=False).encode(errors="replace")
    return Response(data, status, {"cache-control": NEVER, **(headers or {})}, PROBLEM)


def problem_of(error: SudurError) -> Response | None:
    """The problem for an error of ours; None when it is a fault of the node."""
    reason = reason_of(error)
    status = None if reason is None else _STATUS.get(REASONS[reason].name)
    if isinstance(error, RateLimited):
        status = 429
    if reason is None or status is None:
        return None
    facts = {"where": error.where, "fix": error.fix, **error.details()}
    retry = {"retry-after": str(-(-error.retry_ms // 1_000))} if isinstance(error, RetryableError) else None
    return problem(status, reason, str(error), {k: v for k, v in facts.items() if v}, retry)


def fault(error: Exception, path: str) -> Response:
    """The answer to a request that failed for no reason of its sender's; the log tells the cause."""
    request_id = request_id_now()
    _log.error("request failed", path=path, exc_info=error)
    detail = f"the node failed; its log tells why under request {request_id}"
    return problem(500, "INTERNAL", detail, {"request_id": request_id})


class Edge:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, metrics: Metrics, limits: CallerLimits) -> None:
        self._app = app
        self._metrics = metrics
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            raise RuntimeError(f"the node speaks HTTP only, not {scope['type']}")
        started = time.perf_counter()
        address = host_address(scope["client"][0]) if scope["client"] else ""
        given = next((value for name, value in scope["headers"] if name == _REQUEST_ID), b"")
        request_id = begin_request(given)
        answer = _Answer(send, scope, request_id, partial(self._limits.answers.hold, address))
        # The server's own scope still says HEAD, so it leaves the body out.
        inner = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
        try:
            refused = self._limited(scope, address) or _refused(scope)
            await (refused or self._app)(inner, receive, answer.send)
        except Exception as error:
            if answer.status:
                raise  # too late for another answer: the server closes the connection
            await fault(error, scope["path"])(inner, receive, answer.send)
        finally:
            route = getattr(inner.get("route"), "path", "none")
            self._metrics.http_calls.labels(route, str(answer.status)).inc()
            self._metrics.http_seconds.labels(route).observe(time.perf_counter() - started)

    def _limited(self, scope: Scope, address: str) -> Response | None:
        if scope["raw_path"] in _PROBES:
            return None
        try:
            self._limits.call(address)
        except (RateLimited, QueueFull) as error:
            return problem_of(error)
        return None


class _Answer:
    """Passes one response on, with the shared headers, and its body as fast as it is taken.

    The server writes what it is given into a buffer that has no end, and waits before the next: so a
    long body goes in pieces, and counts as held (``hold``) until the last of them is given over.
    """

    def __init__(
        self, send: Send, scope: Scope, request_id: str, hold: Callable[[int], Callable[[], None]]
    ) -> None:
        self._send = send
        self._request_id = (_REQUEST_ID, request_id.encode())
        self._hold = hold
        self._headers = [(b"x-content-type-options", b"nosniff")]
        if scope["raw_path"] not in OPERATIONS:
            self._headers.append((b"access-control-allow-origin", b"*"))
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [*message["headers"], *self._headers]
            # What a cache keeps for others names no request.
            if (b"cache-control", NEVER.encode()) in headers:
                headers.append(self._request_id)
            message = {**message, "headers": headers}
        body = message.get("body", b"")
        if len(body) <= SMALL:
            await self._send(message)
            return
        release = self._hold(len(body))
        try:
            for at in range(0, len(body), SMALL):
                more = message.get("more_body", False) or at + SMALL < len(body)
                await self._send({**message, "body": body[at : at + SMALL], "more_body": more})
        finally:
            release()


def _refused(scope: Mapping[str, Any]) -> Response | None:
    """Percent-encoding, other bytes, queries: each would be a second name for one resource."""
    path: bytes = scope["raw_path"]
    if len(path) > MAX_PATH:
        return problem_of(TooLarge(f"a path of {len(path)} characters", fix=f"none here is over {MAX_PATH}"))
    # Each line has ": " and an end of two bytes besides.
    head = sum([len(name) + len(value) + 4 for name, value in scope["headers"]])
    if head > MAX_HEAD:
        return problem_of(TooLarge(f"headers of {head} bytes", fix=f"{MAX_HEAD} are taken"))
    if not _PLAIN.fullmatch(path):
        what = "a path here has letters, digits and / . _ - only, and none of them encoded"
        return problem_of(FormatError(what, where="path", fix="write it as the documentation does"))
    if scope["query_string"] and path not in OPERATIONS:
        return problem_of(
            FormatError("no resource here takes a query", where="query", fix="leave out ? and what follows")
        )
    return None
