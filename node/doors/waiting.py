"""What callers hear at doors behind which nothing is served yet: why, and at once.

A new member of a cluster, or a new mirror, has nothing to show before its first signed checkpoint. It is
alive, it can be measured, and it says what it waits for.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Final

from fastapi import FastAPI, Response

from node.doors.http_edge import Edge, problem_of
from node.doors.http_models import Alive, Readiness
from node.doors.http_server import HttpServer
from node.doors.limits import CallerLimits
from node.doors.resources import JSON, NEVER
from node.doors.serving import Doors
from node.errors import RetryableError
from node.metrics import MEDIA_TYPE, Metrics

_NEVER: Final = {"cache-control": NEVER}


@contextlib.asynccontextmanager
async def waiting(doors: Doors, why: Callable[[], RetryableError]) -> AsyncIterator[None]:
    """Refuse with what ``why`` gives while the context lasts; then the doors are for whoever serves."""
    limits = CallerLimits(doors.settings.rates, lambda scope: doors.metrics.limited.labels(scope).inc())
    edge = Edge(_app(doors.metrics, why), doors.metrics, limits)
    http_server = HttpServer(edge, doors.settings.http_limits, doors.tls)
    await doors.grpc_server.set_serving(False)
    await doors.grpc_server.wait(why)
    # A second handle of the one listening socket: this server closes its own at its end.
    await http_server.start(doors.listener.dup())
    try:
        yield
    finally:
        await http_server.stop()


def _app(metrics: Metrics, why: Callable[[], RetryableError]) -> FastAPI:
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)

    @app.get("/healthz")
    async def alive() -> Response:
        return Response(Alive(mirror=None).model_dump_json(exclude_none=True), 200, _NEVER, JSON)

    @app.get("/readyz")
    async def ready() -> Response:
        fault = why()
        answer = Readiness(ready=False, reasons=[f"{fault.code}: {fault}"], size=0, block=0)
        return Response(answer.model_dump_json(), 503, _NEVER, JSON)

    @app.get("/metrics")
    async def prometheus() -> Response:
        return Response(metrics.text(), 200, _NEVER, MEDIA_TYPE)

    @app.get("/{path:path}")
    async def nothing_yet(path: str) -> Response:
        answer = problem_of(why())
        assert answer is not None, "what may be tried again has a reason"
        return answer

    return app
