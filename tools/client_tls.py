"""TLS as a client of a node: whom to believe, what to show, and why a connection does not come about."""

from __future__ import annotations

import ssl
import time
from dataclasses import dataclass
from pathlib import Path

import grpc

from tools.errors import NoSecureConnection, Usage
from transport.errors import TlsProblem
from transport.reasons import client_context, speaks_tls, why_tls_fails


@dataclass(frozen=True, slots=True)
class ClientTls:
    """``ca``: the authorities to believe, in place of the system's. ``certificate`` and ``key``: what to
    show to a server that asks for it. All are PEM files."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise Usage("a client certificate and its key go together", where="--tls-cert, --tls-key")

    @property
    def is_given(self) -> bool:
        """Whether anything is set: then no node is spoken to without TLS."""
        return self != ClientTls()

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """For one gRPC channel. Raises Usage for files that cannot be used."""
        ca, chain, key = self._read()
        return grpc.ssl_channel_credentials(ca, key, chain)

    def context(self) -> ssl.SSLContext:
        """For HTTPS. Raises Usage for files that cannot be used. Without a ``ca`` it takes 30 ms."""
        ca, _, _ = self._read()
        context = client_context(ca)
        if self.certificate is not None:
            try:
                context.load_cert_chain(self.certificate, self.key, password="")
            except (OSError, ValueError) as error:
                raise Usage(f"cannot be used: {error}", where=str(self.certificate)) from None
        return context

    def _read(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        """The authorities, the certificate and its key, as gRPC wants them."""
        if not self.is_given:
            return None, None, None
        # Only now, since cryptography takes 0.1 s to load.
        from transport.certificates import Purpose, read_authorities, read_identity

        now_s = time.time()
        try:
            ca = None if self.ca is None else read_authorities(self.ca, now_s).pem
            if self.certificate is None or self.key is None:
                return ca, None, None
            identity = read_identity(self.certificate, self.key, Purpose.CLIENT, now_s)
        except TlsProblem as problem:
            raise Usage(problem.what, where=problem.where, fix=problem.fix) from None
        return ca, identity.chain, identity.key


def why_unreachable(
    host: str, port: int, tls: ClientTls | None, *, http2: bool = True
) -> NoSecureConnection | None:
    """Why nothing can be had from there, if TLS is to blame. Costs a connection; up to some seconds.

    ``tls`` None: it was tried without. ``http2``: with gRPC, else with HTTP/1.1.
    """
    if tls is not None:
        shows = tls.certificate is not None
        problem = why_tls_fails(host, port, tls.context(), shows_certificate=shows, http2=http2)
        if problem is None:
            return None
        return NoSecureConnection(problem.what, where=problem.where, fix=problem.fix)
    if not speaks_tls(host, port):
        return None
    secure = "write the address as grpcs://HOST:PORT, or give --tls-ca" if http2 else "write https://"
    return NoSecureConnection("speaks TLS, and was spoken to without", where=f"{host}:{port}", fix=secure)
