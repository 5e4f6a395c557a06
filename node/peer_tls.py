"""TLS between the members of a cluster: a channel that follows renewals, and a server for members only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Final

import grpc
import grpc.aio

from node.config import Address
from node.errors import NotAMember
from node.tls import TlsCredentials
from transport.certificates import MEMBER, member_of

_OLD_CHANNEL_S: Final = 30.0
_Context = grpc.aio.ServicerContext[Any, Any]


class PeerChannel:
    """A gRPC channel to one address, made anew when the certificates are renewed.

    ``credentials`` None: without TLS. For one event loop. The channel before lives on for the calls on
    it, for 30 s.
    """

    def __init__(
        self,
        address: Address,
        credentials: TlsCredentials | None,
        options: Sequence[tuple[str, Any]] = (),
    ) -> None:
        self.address = address
        self._credentials = credentials
        self._options = tuple(options)
        self._made_of: grpc.ChannelCredentials | None = None
        self._channel: grpc.aio.Channel | None = None
        self._ending: set[asyncio.Task[None]] = set()

    def current(self) -> grpc.aio.Channel:
        """The channel for the next call; not to be kept. About 15 µs."""
        newest = None if self._credentials is None else self._credentials.channel_credentials()
        if self._channel is not None and newest is self._made_of:
            return self._channel
        if self._channel is not None:
            task = asyncio.create_task(self._channel.close(_OLD_CHANNEL_S))
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)
        target = str(self.address)
        self._made_of = newest
        self._channel = (
            grpc.aio.insecure_channel(target, options=self._options)
            if newest is None
            else grpc.aio.secure_channel(target, newest, options=self._options)
        )
        return self._channel

    async def close(self) -> None:
        """End all calls and close."""
        ending = tuple(self._ending)
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        if self._channel is not None:
            await self._channel.close()
            self._channel = None


class MembersOnly(grpc.aio.ServerInterceptor):
    """Answers PERMISSION_DENIED to every call, of whatever method, by anybody who is no member.

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
