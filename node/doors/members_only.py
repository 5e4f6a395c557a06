"""A server for the members of a cluster alone: who calls is read from the certificate that was shown."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio

from node.errors import NotAMember
from transport.certificates import MEMBER, member_of

_Context = grpc.aio.ServicerContext[Any, Any]


class MembersOnly(grpc.aio.ServerInterceptor):
    """Answers PERMISSION_DENIED to every call, of any method there is, by anybody who is no member.

    That the certificate comes from the right authority, TLS has checked before. Handlers are
    coroutines, or asynchronous generators where they answer with a stream.
    """

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """See grpc.aio."""
        handler = await continuation(handler_call_details)
        if handler is None:  # no such method
            return None
        coders = (handler.request_deserializer, handler.response_serializer)
        if handler.unary_unary:
            return grpc.unary_unary_rpc_method_handler(_guarded(handler.unary_unary), *coders)
        if handler.stream_unary:
            return grpc.stream_unary_rpc_method_handler(_guarded(handler.stream_unary), *coders)
        if handler.unary_stream:
            return grpc.unary_stream_rpc_method_handler(_guarded_stream(handler.unary_stream), *coders)
        return grpc.stream_stream_rpc_method_handler(_guarded_stream(handler.stream_stream), *coders)


def member_name(context: _Context) -> str:
    """The member of the cluster that calls, as its certificate says. Raises NotAMember."""
    uris = [uri.decode("utf-8", "replace") for uri in context.auth_context().get("peer_uri", ())]
    name = member_of(uris)
    if name is None:
        raise NotAMember(
            f"only members of the cluster may call here; this certificate has no URI name {MEMBER}NAME",
            fix="call the node's public address, or have a member's certificate issued",
        )
    return name


def _guarded(behaviour: Callable[[Any, _Context], Awaitable[Any]]) -> Callable[[Any, _Context], Any]:
    async def call(request: Any, context: _Context) -> Any:
        await _admit(context)
        return await behaviour(request, context)

    return call


def _guarded_stream(
    behaviour: Callable[[Any, _Context], AsyncIterator[Any]],
) -> Callable[[Any, _Context], Any]:
    async def call(request: Any, context: _Context) -> AsyncIterator[Any]:
        await _admit(context)
        async for answer in behaviour(request, context):
            yield answer

    return call


async def _admit(context: _Context) -> None:
    try:
        member_name(context)
    except NotAMember as error:
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, str(error))
