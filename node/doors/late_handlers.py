"""Handlers of a gRPC server that are not there from the start, or not the same all the time."""

from __future__ import annotations

from typing import Any

import grpc


class LateHandlers(grpc.GenericRpcHandler):
    """Added to a server once; ``inner`` is exchanged while it runs. None: no such method."""

    def __init__(self) -> None:
        self.inner: grpc.GenericRpcHandler | None = None

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """See grpc."""
        return None if self.inner is None else self.inner.service(handler_call_details)
