"""Why a connection to a TLS port does not come about: asked once more, by means that tell.

gRPC says little more than that it could not connect, and nothing at all when it is the other side
that refuses. So a connection that failed is tried again here with the ``ssl`` module, whose errors
name the reason. Only what TLS certainly is to blame for is named: a server that is stopped, that
restarts or is gone may be well again at the next try. This costs one connection, at most
``timeout_s`` for each of its steps, and blocks.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
from typing import Final

from transport.errors import TlsProblem

TIMEOUT_S: Final = 3.0
_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
_REQUEST: Final = b"HEAD / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
_PLAINTEXT: Final = frozenset(
    ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "UNKNOWN_PROTOCOL")
)
# Of OpenSSL, include/openssl/x509_vfy.h.
_NOT_YET_VALID: Final = 9
_EXPIRED: Final = 10
_UNKNOWN_ISSUER: Final = frozenset((2, 18, 19, 20, 21, 24))
_PURPOSE: Final = 26
_WRONG_HOST: Final = frozenset((62, 64))


def client_context(ca_pem: bytes | None) -> ssl.SSLContext:
    """TLS 1.2 or later; the other side's certificate must name the host, and come from ``ca_pem``
    (None: from the system's authorities)."""
    context = ssl.create_default_context(cadata=None if ca_pem is None else ca_pem.decode("ascii", "ignore"))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def why_tls_fails(
    host: str,
    port: int,
    context: ssl.SSLContext,
    *,
    shows_certificate: bool,
    http2: bool = True,
    timeout_s: float = TIMEOUT_S,
) -> TlsProblem | None:
    """Why a TLS connection with ``context`` fails; None when it does not, or not because of TLS.

    ``shows_certificate``: whether the context has a certificate of its own. ``http2``: what is
    spoken after the handshake, which must have begun before a refused certificate shows (TLS 1.3).
    """
    where = f"{host}:{port}"
    context.set_alpn_protocols(["h2" if http2 else "http/1.1"])
    try:
        connection = socket.create_connection((host, port), timeout_s)
    except OSError:
        return None
    with connection:
        try:
            secured = context.wrap_socket(connection, server_hostname=host)
        except ssl.SSLCertVerificationError as error:
            return _certificate_refused(error, host, where)
        except ssl.SSLError as error:
            return _handshake_failed(error, where, shows_certificate)
        except OSError:
            return None
        with secured:
            try:
                secured.sendall(_PREFACE if http2 else _REQUEST)
                if secured.recv(1):
                    return None
            except TimeoutError:
                return None
            except OSError:
                pass
        # A server that is well speaks first (HTTP/2), or answers. It is gone, or will not have us.
        return _own_certificate_refused(where, shows_certificate)


def speaks_tls(host: str, port: int, timeout_s: float = TIMEOUT_S) -> bool:
    """Whether what listens there answers a TLS handshake. Nothing is checked, nothing is sent."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection((host, port), timeout_s) as connection,
            context.wrap_socket(connection, server_hostname=host),
        ):
            return True
    except ssl.SSLError as error:
        return (error.reason or "").startswith(("SSLV3_ALERT", "TLSV1_ALERT", "TLSV13_ALERT"))
    except OSError:
        return False


def _certificate_refused(error: ssl.SSLCertVerificationError, host: str, where: str) -> TlsProblem:
    code = error.verify_code
    if code == _EXPIRED:
        return TlsProblem(
            "its certificate, or the authority's, has expired",
            where=where,
            fix="have the operator renew it; if it was renewed, check this machine's clock",
        )
    if code == _NOT_YET_VALID:
        return TlsProblem(
            "its certificate is not valid yet", where=where, fix="check this machine's clock, and the other's"
        )
    if code in _WRONG_HOST:
        return TlsProblem(
            f"its certificate is not for {'the address' if _is_address(host) else 'the name'} {host}",
            where=where,
            fix="connect by a name that the certificate holds, or have one issued for this name",
        )
    if code in _UNKNOWN_ISSUER:
        return TlsProblem(
            "its certificate does not come from an authority that is trusted here",
            where=where,
            fix="give the authority's certificate (--tls-ca, --peer-ca or --etcd-ca); if that was given,"
            " this is another server, or somebody between",
        )
    if code == _PURPOSE:
        return TlsProblem(
            "its certificate is not for a server",
            where=where,
            fix="have the operator use a server's certificate",
        )
    return TlsProblem(f"its certificate is refused ({error.verify_message})", where=where)


def _handshake_failed(error: ssl.SSLError, where: str, shows_certificate: bool) -> TlsProblem | None:
    reason = error.reason or ""
    if reason in _PLAINTEXT:
        return _no_tls(where)
    if "CERTIFICATE" in reason or reason.endswith(("UNKNOWN_CA", "HANDSHAKE_FAILURE", "ACCESS_DENIED")):
        return _own_certificate_refused(where, shows_certificate)
    if isinstance(error, ssl.SSLEOFError) or not reason:
        return None
    return TlsProblem(
        f"the TLS handshake fails ({reason.lower().replace('_', ' ')})",
        where=where,
        fix="check that both sides speak TLS 1.2 or later",
    )


def _no_tls(where: str) -> TlsProblem:
    return TlsProblem(
        "does not speak TLS",
        where=where,
        fix="check the address and the port; if it is the right one, TLS has to be set up there",
    )


def _own_certificate_refused(where: str, shows_certificate: bool) -> TlsProblem:
    if shows_certificate:
        return TlsProblem(
            "ended the connection after it had seen our certificate: it is refused there, most likely",
            where=where,
            fix="check that it comes from the authority which that side trusts, and by that side's clock"
            " is valid (sudur tls show)",
        )
    return TlsProblem(
        "ended the connection because it asks for a certificate, most likely",
        where=where,
        fix="give a client certificate and its key (--tls-cert, --tls-key)",
    )


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
