"""The gRPC server for other members: PeerService from the start, LedgerService once this node serves."""

from __future__ import annotations

import grpc
import grpc.aio

from node.cluster.peer_api import PeerServicer
from node.cluster.peers import MAX_PEER_MESSAGE
from node.config import Address
from node.doors.grpc_api import LedgerServicer, ledger_handlers
from node.doors.http_server import listen_at
from node.doors.late_handlers import LateHandlers
from node.doors.members_only import MembersOnly
from node.errors import NodeError
from node.tls import TlsCredentials
from sudur.v1 import peer_pb2_grpc


class PeerDoor:
    """:meth:`listen`, then :meth:`start`; :meth:`stop` after either."""

    def __init__(self, address: Address, credentials: TlsCredentials | None) -> None:
        """``credentials`` None: plaintext, for nodes on one machine. Then the address has to be of it."""
        self._address = address
        self._credentials = None if credentials is None else credentials.server_credentials()
        self._late = LateHandlers()
        self._servicer: PeerServicer | None = None
        self._server = grpc.aio.server(
            interceptors=[] if credentials is None else [MembersOnly()],
            options=[
                ("grpc.max_receive_message_length", MAX_PEER_MESSAGE),
                ("grpc.max_send_message_length", MAX_PEER_MESSAGE),
                ("grpc.so_reuseport", 0),
                ("grpc.keepalive_time_ms", 10_000),
                ("grpc.keepalive_timeout_ms", 5_000),
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
            ],
        )

    def listen(self) -> Address:
        """Take the port. Returns the address with its port. Raises NodeError."""
        # gRPC would write lines of its own to stderr about a port that is taken.
        listen_at("peer", self._address).close()
        address = str(self._address)
        try:
            port = (
                self._server.add_insecure_port(address)
                if self._credentials is None
                else self._server.add_secure_port(address, self._credentials)
            )
        except RuntimeError:
            port = 0
        if port == 0:
            raise NodeError(
                "cannot listen there: the port is in use, or the host is not this machine's",
                where=f"peer address {address}",
                fix="stop what listens there, or choose another address",
            )
        return Address(self._address.host, port)

    async def start(self, servicer: PeerServicer) -> None:
        """Answer other members."""
        peer_pb2_grpc.add_PeerServiceServicer_to_server(servicer, self._server)
        self._server.add_generic_rpc_handlers((self._late,))
        self._servicer = servicer
        await self._server.start()

    def serve_ledger(self, servicer: LedgerServicer) -> None:
        """Take what other members hand on, too."""
        self._late.inner = ledger_handlers(servicer)

    async def stop(self) -> None:
        """Cut off what is under way."""
        self._late.inner = None
        if self._servicer is None:
            await self._server.start()
        await self._server.stop(0)
        if self._servicer is not None:
            self._servicer.close()
