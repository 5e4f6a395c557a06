"""TLS of a node with real sockets: who is refused, what is told, renewal without a restart, HTTP's door."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import httpx
import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families

from node.cluster.peers import PeerLink
from node.config import Address, RequestLimits
from node.doors.http_server import HttpServer
from node.doors.members_only import MembersOnly, member_name
from node.errors import PeerSilent
from node.run import RunningNode, start_node
from node.secure_channel import SecureChannel
from node.tls import TlsCredentials
from sudur.v1 import ledger_pb2, ledger_pb2_grpc, peer_pb2
from tests.ledger.world import signer
from tests.node.served import genesis_leaf, settings
from tests.transport.authorities import CLIENT, SERVER, Authority, Issued
from transport.certificates import Purpose, TlsFiles
from transport.errors import TlsProblem

WHO = "/test.Peer/Who"
COUNT = "/test.Peer/Count"


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ca")


async def _who(request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
    return member_name(context).encode()


async def _count(request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[bytes]:
    for number in range(3):
        yield bytes([number])


@contextlib.asynccontextmanager
async def peer_server(files: TlsFiles) -> AsyncIterator[Address]:
    """A member's door, as a cluster has it: mutual TLS, members only."""
    server = grpc.aio.server(interceptors=[MembersOnly()])
    methods: dict[str, Any] = {
        "Who": grpc.unary_unary_rpc_method_handler(_who),
        "Count": grpc.unary_stream_rpc_method_handler(_count),
    }
    peer_service = peer_pb2.DESCRIPTOR.services_by_name["PeerService"].full_name
    handlers = [
        grpc.method_handlers_generic_handler("test.Peer", methods),
        grpc.method_handlers_generic_handler(peer_service, {"Hear": methods["Who"]}),
    ]
    server.add_generic_rpc_handlers(handlers)
    credentials = TlsCredentials(files, Purpose.MEMBER).server_credentials()
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    try:
        yield Address("127.0.0.1", port)
    finally:
        await server.stop(0)


@contextlib.contextmanager
def peer(
    address: Address, files: TlsFiles, purpose: Purpose = Purpose.MEMBER, *, old_s: float = 30.0
) -> Iterator[SecureChannel]:
    with contextlib.closing(SecureChannel(address, TlsCredentials(files, purpose), old_s=old_s)) as channel:
        yield channel


async def call(channel: SecureChannel, method: str = WHO) -> bytes:
    """Off the loop, as the server is on it."""
    ask: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.current().unary_unary(method)
    return await asyncio.to_thread(ask, b"", timeout=20)


async def count(channel: SecureChannel) -> list[bytes]:
    ask: grpc.UnaryStreamMultiCallable[bytes, bytes] = channel.current().unary_stream(COUNT)
    return await asyncio.to_thread(lambda: list(ask(b"", timeout=20)))


async def refused(channel: SecureChannel) -> tuple[grpc.StatusCode, str]:
    """How a call ends, and what the channel says of the reason."""
    with pytest.raises(grpc.RpcError) as caught:
        await call(channel)
    assert isinstance(caught.value, grpc.Call)
    return caught.value.code(), str(await asyncio.to_thread(channel.why_it_fails))


# --- between members ---------------------------------------------------------------------------


async def test_members_know_each_other(ca: Authority) -> None:
    async with peer_server(ca.member("n1").files(ca.path)) as address:
        with peer(address, ca.member("n2").files(ca.path)) as channel:
            assert await call(channel) == b"n2"
            assert await count(channel) == [b"\0", b"\1", b"\2"]
            assert await asyncio.to_thread(channel.why_it_fails) is None


async def test_of_the_same_authority_but_no_member(ca: Authority) -> None:
    stranger = ca.issue("clerk", uris=["sudur:client:clerk"]).files(ca.path)
    async with peer_server(ca.member("n1").files(ca.path)) as address:
        with peer(address, stranger, Purpose.CLIENT) as channel:
            assert await refused(channel) == (grpc.StatusCode.PERMISSION_DENIED, "None")
            with pytest.raises(grpc.RpcError, match="only members of the cluster may call here"):
                await count(channel)
            with pytest.raises(grpc.RpcError, match="UNIMPLEMENTED"):
                await call(channel, "/test.Peer/What")


async def test_callers_that_are_refused_learn_why(tmp_path: Path, ca: Authority) -> None:
    other = Authority(tmp_path, "other")
    cases: list[tuple[TlsFiles, str]] = [
        (other.member("n2").files(ca.path), "had seen our certificate"),
        (ca.member("n2").files(other.path), "not come from an authority that is trusted here"),
    ]
    async with peer_server(ca.member("n1").files(ca.path)) as address:
        for files, says in cases:
            with peer(address, files, Purpose.CLIENT) as channel:
                code, reason = await refused(channel)
            assert code is grpc.StatusCode.UNAVAILABLE
            assert says in reason


async def test_servers_that_are_refused_and_why(ca: Authority) -> None:
    files = ca.member("n2").files(ca.path)
    shown = {
        "has expired": ca.issue("expired", start=-9, days=8),
        "is not valid yet": ca.issue("future", start=1),
        "is not for the address 127.0.0.1": ca.issue("elsewhere", ["n1.example.gov"]),
        "does not speak TLS": None,
    }
    server = grpc.aio.server()
    ports: dict[str, int] = {}
    for says, one in shown.items():
        if one is None:
            ports[says] = server.add_insecure_port("127.0.0.1:0")
        else:
            pair = (one.key.read_bytes(), one.certificate.read_bytes())
            ports[says] = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    await server.start()
    try:
        for says, port in ports.items():
            with peer(Address("127.0.0.1", port), files) as channel:
                code, reason = await refused(channel)
            assert code is grpc.StatusCode.UNAVAILABLE
            assert says in reason
    finally:
        await server.stop(0)


async def test_without_tls_nothing_is_answered(ca: Authority) -> None:
    async with peer_server(ca.member("n1").files(ca.path)) as address:
        with contextlib.closing(SecureChannel(address, None)) as channel:
            code, reason = await refused(channel)
    assert code is grpc.StatusCode.UNAVAILABLE
    assert "speaks TLS, and was spoken to without" in reason


async def test_a_link_to_another_member_says_why(tmp_path: Path, ca: Authority) -> None:
    other = Authority(tmp_path, "other")
    async with peer_server(ca.member("n1").files(ca.path)) as address:
        for files, says in (
            (ca.member("n2").files(other.path), "authority that is trusted here"),
            (other.member("n2").files(ca.path), "had seen our certificate"),
            (ca.issue("etcd").files(ca.path), "PERMISSION_DENIED: only members of the cluster may call here"),
        ):
            link = PeerLink("n1", address, TlsCredentials(files, Purpose.CLIENT))
            with contextlib.closing(link), pytest.raises(PeerSilent, match=says) as caught:
                await asyncio.to_thread(link.hear)
            assert caught.value.where.startswith("n1")


async def test_the_reason_is_asked_for_now_and_then(ca: Authority) -> None:
    now = [0.0]
    files = ca.member("n2").files(ca.path)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = Address("127.0.0.1", listener.getsockname()[1])
    credentials = TlsCredentials(files, Purpose.MEMBER)
    with contextlib.closing(SecureChannel(address, credentials, clock=lambda: now[0])) as channel:
        assert await asyncio.to_thread(channel.why_it_fails) is None  # nobody is there
        server = grpc.aio.server()
        assert server.add_insecure_port(str(address)) == address.port
        await server.start()
        try:
            assert await asyncio.to_thread(channel.why_it_fails) is None
            now[0] = 11.0
            assert "does not speak TLS" in str(await asyncio.to_thread(channel.why_it_fails))
        finally:
            await server.stop(0)


async def test_a_channel_follows_a_renewal(ca: Authority) -> None:
    mine = ca.member("n2")
    async with peer_server(ca.member("n1").files(ca.path)) as address:
        with peer(address, mine.files(ca.path), old_s=60) as channel:
            first = channel.current()
            assert await call(channel) == b"n2"
            assert channel.current() is first
            mine.replace_by(ca.member("n4"))
            assert channel.current() is not first
            assert await call(channel) == b"n4"
            old: grpc.UnaryUnaryMultiCallable[bytes, bytes] = first.unary_unary(WHO)
            assert await asyncio.to_thread(old, b"", timeout=20) == b"n2"  # what stands lives on
        with pytest.raises(ValueError, match="closed"):
            await asyncio.to_thread(old, b"", timeout=20)
        with pytest.raises(ValueError, match="closed"):
            channel.current()


async def test_an_old_channel_is_ended_after_a_while(ca: Authority) -> None:
    mine = ca.member("n2")
    async with peer_server(ca.member("n1").files(ca.path)) as address:
        with peer(address, mine.files(ca.path), old_s=0.05) as channel:
            first = channel.current()
            mine.replace_by(ca.member("n4"))
            assert await call(channel) == b"n4"
            old: grpc.UnaryUnaryMultiCallable[bytes, bytes] = first.unary_unary(WHO)

            async def ended() -> bool:
                try:
                    await asyncio.to_thread(old, b"", timeout=20)
                except ValueError:
                    return True
                except grpc.RpcError as error:  # it was ended under this very call
                    return error.code() is grpc.StatusCode.CANCELLED
                return False

            await _until(ended)


# --- files that cannot be used, at the start and later -----------------------------------------


def test_a_member_needs_an_authority_and_comes_from_it(tmp_path: Path, ca: Authority) -> None:
    issued = ca.member("n1")
    with pytest.raises(TlsProblem, match="no authority is given"):
        TlsCredentials(issued.files(), Purpose.MEMBER)
    with pytest.raises(TlsProblem, match="not issued by the authority"):
        TlsCredentials(issued.files(Authority(tmp_path, "other").path), Purpose.MEMBER)


def test_what_cannot_be_used_leaves_the_old_in_use(tmp_path: Path, ca: Authority) -> None:
    issued = ca.issue("n1")
    credentials = TlsCredentials(issued.files(), Purpose.SERVER)
    context = credentials.server_context()
    newer = ca.issue("newer")
    with structlog.testing.capture_logs() as logs:
        newer.key.replace(issued.key)
        for _ in range(3):
            assert credentials.number == 1
        assert credentials.server_context() is context
        newer.certificate.replace(issued.certificate)
        assert credentials.number == 2
        assert credentials.server_context() is not context
        issued.certificate.unlink()
        assert credentials.number == 2
    assert [entry["event"] for entry in logs] == [
        "renewed certificate not usable, the old one stays",
        "certificate renewed",
        "renewed certificate not usable, the old one stays",
    ]
    assert "is not the key of" in logs[0]["problem"]


def test_an_expired_renewal_is_not_taken(ca: Authority) -> None:
    issued = ca.issue("n1")
    credentials = TlsCredentials(issued.files(), Purpose.SERVER)
    until = credentials.expiries()
    issued.replace_by(ca.issue("late", start=-9, days=8))
    assert credentials.expiries() == until


# --- a whole node ------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def serving(directory: Path, files: TlsFiles) -> AsyncIterator[RunningNode]:
    async with start_node(settings(directory / "data", tls=files), [signer("log")], genesis_leaf()) as node:
        yield node


def credentials_for(ca: Authority, shown: Issued | None = None) -> grpc.ChannelCredentials:
    if shown is None:
        return grpc.ssl_channel_credentials(ca.path.read_bytes())
    return grpc.ssl_channel_credentials(
        ca.path.read_bytes(), shown.key.read_bytes(), shown.certificate.read_bytes()
    )


async def origin(channel: grpc.aio.Channel) -> str:
    stub: ledger_pb2_grpc.LedgerServiceAsyncStub = ledger_pb2_grpc.LedgerServiceStub(channel)
    return (await stub.GetLedger(ledger_pb2.GetLedgerRequest(), timeout=20)).resources_url


def serial(node_address: Address, ca: Authority) -> int:
    """The number of the certificate that is shown there."""
    context = ssl.create_default_context(cafile=ca.path)
    with (
        socket.create_connection((node_address.host, node_address.port), 20) as connection,
        context.wrap_socket(connection, server_hostname="127.0.0.1") as secured,
    ):
        return int(secured.getpeercert()["serialNumber"], 16)  # type: ignore[index,arg-type]


async def test_grpc_and_http_over_tls_and_renewal_without_a_restart(tmp_path: Path, ca: Authority) -> None:
    issued = ca.issue("n1")
    verify = ssl.create_default_context(cafile=ca.path)
    async with (
        serving(tmp_path, issued.files()) as node,
        grpc.aio.secure_channel(str(node.grpc), credentials_for(ca)) as channel,
        httpx.AsyncClient(base_url=f"https://{node.http}", trust_env=False, verify=verify) as http,
    ):
        assert await origin(channel) == f"https://{node.http}"
        answer = await http.get("/checkpoint")
        assert answer.status_code == 200
        first = await asyncio.to_thread(serial, node.grpc, ca)
        assert await asyncio.to_thread(serial, node.http, ca) == first

        stub: ledger_pb2_grpc.LedgerServiceAsyncStub = ledger_pb2_grpc.LedgerServiceStub(channel)
        stream = stub.WatchBlocks(ledger_pb2.WatchBlocksRequest())
        first_block = await stream.read()
        assert isinstance(first_block, ledger_pb2.WatchBlocksResponse)
        newer = ca.issue("newer", days=30)
        issued.replace_by(newer)
        second = await asyncio.to_thread(serial, node.grpc, ca)
        assert second != first
        assert await asyncio.to_thread(serial, node.http, ca) == second
        assert await origin(channel) == f"https://{node.http}"  # the old connection lives on
        assert not stream.done()
        stream.cancel()

        metrics = (await http.get("/metrics")).text
        (family,) = [
            one
            for one in text_string_to_metric_families(metrics)
            if one.name == "sudur_tls_certificate_expiry_timestamp_seconds"
        ]
        (sample,) = family.samples
        assert sample.labels == {"file": str(issued.certificate)}
        renewed = TlsCredentials(issued.files(), Purpose.SERVER).expiries()[issued.certificate]
        assert sample.value == renewed


async def test_renewed_authority_of_clients(tmp_path: Path, ca: Authority) -> None:
    clients, later = Authority(tmp_path, "clients"), Authority(tmp_path, "later")
    old, new = clients.issue("old", (), usages=CLIENT), later.issue("new", (), usages=CLIENT)
    async with serving(tmp_path, ca.issue("n1", usages=SERVER).files(clients.path)) as node:

        async def admitted(shown: Issued | None) -> bool:
            async with grpc.aio.secure_channel(str(node.grpc), credentials_for(ca, shown)) as channel:
                try:
                    return bool(await origin(channel))
                except grpc.aio.AioRpcError as error:
                    if error.code() is not grpc.StatusCode.UNAVAILABLE:
                        raise
                    return False

        assert [await admitted(shown) for shown in (old, new, None)] == [True, False, False]
        later.path.replace(clients.path)
        assert [await admitted(shown) for shown in (old, new, None)] == [False, True, False]
        verify = ssl.create_default_context(cafile=ca.path)
        async with httpx.AsyncClient(trust_env=False, verify=verify) as http:  # which anybody may read
            assert (await http.get(f"https://{node.http}/checkpoint")).status_code == 200


async def test_a_node_does_not_start_with_files_that_cannot_be_used(tmp_path: Path, ca: Authority) -> None:
    files = ca.issue("n1", start=-9, days=8).files()
    with pytest.raises(TlsProblem, match="expired"):
        async with serving(tmp_path, files):
            pass
    assert not (tmp_path / "data").exists()


# --- HTTP's door -------------------------------------------------------------------------------


def _old_tls(host: Address) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_connection((host.host, host.port), 20) as connection:
        context.wrap_socket(connection)


def _send(address: Address, data: bytes) -> bytes:
    """What comes back until the other side closes."""
    with socket.create_connection((address.host, address.port), 20) as connection:
        connection.sendall(data)
        answer = b""
        with contextlib.suppress(ConnectionError):
            while part := connection.recv(4_096):
                answer += part
        return answer


def _vanish(address: Address) -> None:
    """Begin a handshake and reset the connection."""
    with socket.create_connection((address.host, address.port), 20) as connection:
        connection.sendall(b"\x16\x03\x01\x02\x00\x01")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning")
async def test_whatever_is_sent_ends_the_connection_without_a_word_in_the_log(
    tmp_path: Path, ca: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    verify = ssl.create_default_context(cafile=ca.path)
    loop_errors: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: loop_errors.append(context))
    async with serving(tmp_path, ca.issue("n1").files()) as node:
        for data in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01" + bytes(300), bytes(20_000)):
            answer = await asyncio.to_thread(_send, node.http, data)
            assert len(answer) < 16  # nothing, or TLS's own alert
        await asyncio.to_thread(_vanish, node.http)
        with pytest.raises(OSError):
            await asyncio.to_thread(_old_tls, node.http)
        async with httpx.AsyncClient(trust_env=False) as http:
            with pytest.raises(httpx.TransportError, match="CERTIFICATE_VERIFY_FAILED"):
                await http.get(f"https://{node.http}/")
        async with httpx.AsyncClient(trust_env=False, verify=verify) as http:
            assert (await http.get(f"https://{node.http}/healthz")).status_code == 200
    assert loop_errors == []
    assert [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []


async def test_a_slow_handshake_is_ended_and_counted(
    tmp_path: Path, ca: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HttpServer.__init__, "__kwdefaults__", {"head_s": 0.3})
    async with serving(tmp_path, ca.issue("n1").files()) as node:
        assert await asyncio.to_thread(_send, node.http, b"\x16\x03\x01") == b""


async def test_unfinished_handshakes_count_among_the_connections_of_a_peer(
    tmp_path: Path, ca: Authority
) -> None:

    data = settings(
        tmp_path / "data", tls=ca.issue("n1").files(), limits=RequestLimits(max_peer_connections=2)
    )
    verify = ssl.create_default_context(cafile=ca.path)
    async with start_node(data, [signer("log")], genesis_leaf()) as node:
        where = (node.http.host, node.http.port)
        with socket.create_connection(where), socket.create_connection(where) as second:
            async with httpx.AsyncClient(trust_env=False, verify=verify) as http:

                async def refused() -> bool:
                    try:
                        await http.get(f"https://{node.http}/healthz")
                    except httpx.TransportError:
                        return True
                    return False

                await _until(refused)
                second.close()

                async def served() -> bool:
                    return not await refused()

                await _until(served)


async def test_a_node_stops_although_a_handshake_is_unfinished(tmp_path: Path, ca: Authority) -> None:
    async with serving(tmp_path, ca.issue("n1").files()) as node:
        connection = socket.create_connection((node.http.host, node.http.port))
    with connection:
        assert await asyncio.to_thread(connection.recv, 1) == b""


async def test_a_request_that_comes_with_the_end_of_the_handshake_is_answered(
    tmp_path: Path, ca: Authority
) -> None:
    context = ssl.create_default_context(cafile=ca.path)

    def ask(address: Address) -> bytes:
        """The last flight of the handshake and the request in one write."""
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
        with socket.create_connection((address.host, address.port), 20) as connection:
            while True:
                try:
                    tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    connection.sendall(outgoing.read())
                    incoming.write(connection.recv(65_536))
            tls.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            connection.sendall(outgoing.read())
            while True:
                incoming.write(connection.recv(65_536))
                with contextlib.suppress(ssl.SSLWantReadError):
                    return tls.read(100)

    async with serving(tmp_path, ca.issue("n1").files()) as node:
        for _ in range(20):
            assert (await asyncio.to_thread(ask, node.http)).startswith(b"HTTP/1.1 200")


async def _until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(20):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.01)
