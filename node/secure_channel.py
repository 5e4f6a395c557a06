"""A gRPC channel to another server that follows renewals of our certificate, and knows why it fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import grpc

from node.config import Address
from node.tls import TlsCredentials
from transport.errors import TlsProblem
from transport.reasons import speaks_tls

OLD_S: Final = 30.0
"""So long the calls on a channel may last when there is a newer one."""
_ASK_AGAIN_S: Final = 10.0
_PROBE_S: Final = 1.0


class SecureChannel:
    """A channel to one address. ``credentials`` None: without TLS. Methods may be called from any thread."""

    def __init__(
        self,
        address: Address,
        credentials: TlsCredentials | None,
        options: Sequence[tuple[str, Any]] = (),
        *,
        old_s: float = OLD_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Connects when first used. ``old_s``: see :data:`OLD_S`."""
        self.address = address
        self._credentials = credentials
        self._options = tuple(options)
        self._old_s = old_s
        self._clock = clock
        self._lock = threading.Lock()
        self._made_of: grpc.ChannelCredentials | None = None
        self._channel: grpc.Channel | None = None
        self._old: dict[grpc.Channel, threading.Timer] = {}
        self._closed = False
        self._asked_at = -_ASK_AGAIN_S
        self._reason: TlsProblem | None = None

    def current(self) -> grpc.Channel:
        """The channel for the next call, not to be kept; about 15 µs. Raises ValueError when closed."""
        newest = None if self._credentials is None else self._credentials.channel_credentials()
        with self._lock:
            if self._closed:
                raise ValueError("the channel is closed")
            if self._channel is None or newest is not self._made_of:
                if self._channel is not None:
                    self._retire(self._channel)
                self._made_of = newest
                self._channel = self._make(newest)
            return self._channel

    def why_it_fails(self) -> TlsProblem | None:
        """Why calls end UNAVAILABLE, if TLS is to blame. To be asked then.

        Costs a connection and up to some seconds, at most once in ten seconds; else it says the same again.
        """
        with self._lock:
            now = self._clock()
            if now - self._asked_at < _ASK_AGAIN_S:
                return self._reason
            self._asked_at = now
        if self._credentials is not None:
            reason = self._credentials.why_it_fails(self.address, _PROBE_S)
        elif speaks_tls(self.address.host, self.address.port, _PROBE_S):
            reason = TlsProblem(
                "speaks TLS, and was spoken to without",
                where=str(self.address),
                fix="give this node its certificates for that (--peer-cert, --etcd-cert …)",
            )
        else:
            reason = None
        with self._lock:
            self._reason = reason
        return reason

    def close(self) -> None:
        """End all calls. Closing twice is no error."""
        with self._lock:
            self._closed = True
            channels = [*self._old, *([self._channel] if self._channel is not None else [])]
            for timer in self._old.values():
                timer.cancel()
            self._old.clear()
            self._channel = None
        for channel in channels:
            channel.close()

    def _make(self, credentials: grpc.ChannelCredentials | None) -> grpc.Channel:
        target = str(self.address)
        if credentials is None:
            return grpc.insecure_channel(target, options=self._options)
        return grpc.secure_channel(target, credentials, options=self._options)

    def _retire(self, channel: grpc.Channel) -> None:
        timer = threading.Timer(self._old_s, self._end, (channel,))
        timer.daemon = True
        self._old[channel] = timer
        timer.start()

    def _end(self, channel: grpc.Channel) -> None:
        with self._lock:
            self._old.pop(channel, None)
        channel.close()
