"""A node's certificates at work: for gRPC, for HTTP, towards peers and etcd, without a restart when renewed.

The files are looked at for every connection (about 10 µs); when they changed they are read and
checked anew. New ones that cannot be used are named once in the log, and the old ones stay in use:
so it does no harm that a certificate and its key are put in place one after the other. Connections
that stand are not touched.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import grpc
import structlog

from node.config import Address
from transport.certificates import (
    Authorities,
    Identity,
    Purpose,
    TlsFiles,
    check_issued,
    read_authorities,
    read_identity,
)
from transport.errors import TlsProblem
from transport.reasons import TIMEOUT_S, client_context, why_tls_fails

_log = structlog.get_logger("node.tls")
_Stamp = tuple[tuple[int, ...] | None, ...]


@dataclass(frozen=True, slots=True)
class _Loaded:
    """What the files held when they were read last, and what was made of it."""

    identity: Identity
    authorities: Authorities | None
    number: int


class TlsCredentials:
    """The certificate, key and authorities in ``files``, always the newest that can be used.

    Raises TlsProblem when they cannot be used at the start. Every method may be called from any thread.
    """

    def __init__(self, files: TlsFiles, purpose: Purpose, *, clock: Callable[[], float] = time.time) -> None:
        if files.ca is None and purpose is not Purpose.SERVER:
            raise TlsProblem(
                "no authority is given that the other side's certificate has to come from",
                where=str(files.certificate),
                fix="give its certificate as well (--peer-ca, --etcd-ca)",
            )
        self.files = files
        self._purpose = purpose
        self._clock = clock
        self._lock = threading.Lock()
        self._stamp = self._look()
        self._loaded = self._load(1)
        self._channel: tuple[int, grpc.ChannelCredentials] | None = None
        self._context = 1, self._make_server_context()

    @property
    def number(self) -> int:
        """Goes up by one when renewed files have been taken into use."""
        return self._current().number

    def server_credentials(self) -> grpc.ServerCredentials:
        """For a gRPC server (sync or aio), which has to be kept alive together with them.

        With an authority in the files, a caller must show a certificate that comes from it. A renewed
        certificate, and a renewed authority, are there at the next connection.
        """
        served = 0

        def renewed() -> grpc.ServerCertificateConfiguration | None:
            nonlocal served  # gRPC's threads may both see a renewal: it is then only handed out twice
            now = self._current()
            if now.number == served:
                return None
            served = now.number
            return _configuration(now)

        first = self._current()
        served = first.number
        return grpc.dynamic_ssl_server_credentials(
            _configuration(first),
            renewed,  # type: ignore[arg-type]  # None: nothing new, says grpc's documentation
            require_client_authentication=first.authorities is not None,
        )

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """For a gRPC client. The same object until the files change: then a new channel is needed."""
        now = self._current()
        kept = self._channel
        if kept is None or kept[0] != now.number:
            roots = None if now.authorities is None else now.authorities.pem
            kept = now.number, grpc.ssl_channel_credentials(roots, now.identity.key, now.identity.chain)
            self._channel = kept
        return kept[1]

    def server_context(self) -> ssl.SSLContext:
        """For one more HTTPS connection: the same context until the files change. Asks for no certificate."""
        now = self._current()
        if self._context[0] != now.number:
            # When the files change under our hands, another look follows at the next call.
            with suppress(TlsProblem):
                self._context = now.number, self._make_server_context()
        return self._context[1]

    def expiries(self) -> Mapping[Path, float]:
        """By file, when its certificate expires (the first of several authorities), in s since 1970 UTC."""
        now = self._current()
        found = {self.files.certificate: now.identity.not_after}
        if self.files.ca is not None and now.authorities is not None:
            found[self.files.ca] = now.authorities.not_after
        return found

    def why_it_fails(self, address: Address, timeout_s: float = TIMEOUT_S) -> TlsProblem | None:
        """Why a gRPC connection to ``address`` with these certificates fails; None: not because of TLS.

        Costs a connection, and up to ``timeout_s`` for each of its steps.
        """
        now = self._current()
        try:
            context = client_context(None if now.authorities is None else now.authorities.pem)
            context.load_cert_chain(self.files.certificate, self.files.key, password="")
        except (OSError, ValueError):  # the files change under our hands
            return None
        return why_tls_fails(address.host, address.port, context, shows_certificate=True, timeout_s=timeout_s)

    def _current(self) -> _Loaded:
        with self._lock:
            stamp = self._look()
            if stamp != self._stamp:
                self._stamp = stamp
                try:
                    self._loaded = self._load(self._loaded.number + 1)
                except TlsProblem as problem:
                    _log.warning("renewed certificate not usable, the old one stays", problem=str(problem))
                else:
                    _log.info(
                        "certificate renewed",
                        file=str(self.files.certificate),
                        until=self._loaded.identity.certificate.not_valid_after_utc.isoformat(),
                    )
            return self._loaded

    def _look(self) -> _Stamp:
        paths = (self.files.certificate, self.files.key, self.files.ca)
        return tuple(None if path is None else _stamp_of(path) for path in paths)

    def _load(self, number: int) -> _Loaded:
        files = self.files
        now_s = self._clock()
        identity = read_identity(files.certificate, files.key, self._purpose, now_s)
        if files.ca is None:
            return _Loaded(identity, None, number)
        authorities = read_authorities(files.ca, now_s)
        if self._purpose is Purpose.MEMBER:
            check_issued(files.certificate, identity, files.ca, authorities)
        return _Loaded(identity, authorities, number)

    def _make_server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(self.files.certificate, self.files.key, password="")
        except (OSError, ValueError) as error:
            raise TlsProblem(
                f"cannot be used: {error}", where=str(self.files.certificate), fix="check the file"
            ) from None
        return context


def _configuration(loaded: _Loaded) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(loaded.identity.key, loaded.identity.chain)],
        root_certificates=None if loaded.authorities is None else loaded.authorities.pem,
    )


def _stamp_of(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino
