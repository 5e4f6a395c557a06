"""Why a TLS connection fails: against real servers, of OpenSSL here; gRPC's own are in tests/node."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.transport.authorities import CLIENT, SERVER, Authority, Issued
from transport.reasons import client_context, speaks_tls, why_tls_fails

Behaviour = Callable[[socket.socket], None]


@contextmanager
def listening(behaviour: Behaviour) -> Iterator[int]:
    """A server that treats each connection so; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):  # the listener is closed at the end
                while True:
                    connection, _ = listener.accept()
                    with connection, suppress(OSError):
                        behaviour(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def tls_server(shown: Issued, clients: Path | None = None) -> Behaviour:
    """Shakes hands and answers; with ``clients`` it asks for a certificate from there."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(shown.certificate, shown.key)
    if clients is not None:
        context.load_verify_locations(clients)
        context.verify_mode = ssl.CERT_REQUIRED

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            secured.recv(100)
            secured.sendall(b"answer")

    return serve


def plaintext(connection: socket.socket) -> None:
    connection.recv(100)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def closes(connection: socket.socket) -> None:
    connection.recv(100)


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ca")


def why(port: int, ca: Authority, shown: Issued | None = None, host: str = "127.0.0.1") -> str:
    context = client_context(ca.path.read_bytes())
    if shown is not None:
        context.load_cert_chain(shown.certificate, shown.key)
    return str(why_tls_fails(host, port, context, shows_certificate=shown is not None, timeout_s=0.5))


def test_nothing_is_wrong(ca: Authority) -> None:
    with listening(tls_server(ca.issue("n"), ca.path)) as port:
        assert why(port, ca, ca.issue("client", (), usages=CLIENT)) == "None"
        assert speaks_tls("127.0.0.1", port)


def test_the_servers_certificate_is_refused(tmp_path: Path, ca: Authority) -> None:
    refused = {
        "has expired": ca.issue("expired", start=-9, days=8),
        "is not valid yet": ca.issue("future", start=1),
        "is not for the address 127.0.0.1": ca.issue("elsewhere", ["n1.example.gov"]),
        "is not for a server": ca.issue("client", usages=CLIENT),
        "does not come from an authority that is trusted": Authority(tmp_path, "other").issue("n"),
    }
    for says, shown in refused.items():
        with listening(tls_server(shown)) as port:
            told = why(port, ca)
            assert says in told
            assert told.startswith(f"127.0.0.1:{port}: ")
    with listening(tls_server(ca.issue("n", ["127.0.0.1"]))) as port:
        assert "is not for the name localhost" in why(port, ca, host="localhost")


def test_our_certificate_is_refused_or_missing(tmp_path: Path, ca: Authority) -> None:
    with listening(tls_server(ca.issue("n"), ca.path)) as port:
        assert "it asks for a certificate" in why(port, ca)
        for shown in (
            Authority(tmp_path, "other").issue("stranger"),
            ca.issue("late", start=-9, days=8),
            ca.issue("server only", usages=SERVER),
        ):
            assert "after it had seen our certificate" in why(port, ca, shown)


def test_a_port_without_tls(ca: Authority) -> None:
    with listening(plaintext) as port:
        assert "does not speak TLS" in why(port, ca)
        assert not speaks_tls("127.0.0.1", port)


def test_a_port_that_asks_for_a_certificate_speaks_tls(ca: Authority) -> None:
    with listening(tls_server(ca.issue("n"), ca.path)) as port:
        assert speaks_tls("127.0.0.1", port)


def test_what_may_pass_is_not_blamed_on_tls(ca: Authority) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert why(port, ca) == "None"
    assert not speaks_tls("127.0.0.1", port)
    with listening(closes) as port:
        assert why(port, ca) == "None"
        assert not speaks_tls("127.0.0.1", port)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # like a process that is stopped
        port = silent.getsockname()[1]
        assert why(port, ca) == "None"
        assert not speaks_tls("127.0.0.1", port, 0.2)
