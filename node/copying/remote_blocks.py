"""Blocks of another node, over gRPC: one StreamBlocks for all of them, and a proof now and then.

Blocking, for catch-up's threads. Made for links that are slow and break: one call streams everything, what
has come of a block is kept when the stream breaks, and the next call asks for the rest of it alone. That a
silent link is dead is found by pings below HTTP/2, and by catch-up's patience above it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any, Final

import grpc

from ledger.checkpoints import parse_checkpoint
from ledger.errors import FormatError
from ledger.notes import parse_note
from ledger.rules_v1 import MAX_BLOCK_BYTES
from node.copying.block_source import MAX_MESSAGE, Block, Pulse
from node.errors import PeerError, PeerShort, PeerSilent, PeerWrong
from sudur.v1 import ledger_pb2
from sudur.v1.ledger_pb2_grpc import LedgerServiceStub

CHANNEL_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_MESSAGE + (1 << 16)),
    # Slower than a node's own least interval, or it would hang up on us.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    # A channel of its own for each: two sources must not wait for each other's lost connection.
    ("grpc.use_local_subchannel_pool", 1),
)
CALL_S: Final = 30.0
"""For a call with a small answer, on the slowest link: connecting takes two round trips, and may lose one."""
_SHORT: Final = (grpc.StatusCode.OUT_OF_RANGE, grpc.StatusCode.NOT_FOUND)
_WRONG: Final = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.INTERNAL)


class RemoteBlocks:
    """A :class:`node.copying.block_source.BlockSource`: the node behind ``channel``, which the caller closes.

    ``follow``: the stream does not end, but goes on with each new block that is published. Else it ends
    before block ``end`` (0: behind the newest).
    """

    def __init__(
        self,
        channel: grpc.Channel,
        name: str,
        *,
        follow: bool = False,
        end: int = 0,
    ) -> None:
        self._stub = LedgerServiceStub(channel)
        self._stream: Any = self._stub.StreamBlocks
        self._prove: Any = self._stub.GetConsistencyProof
        self._name = name
        self._follow = follow
        self._end = end
        self._lock = threading.Lock()
        self._call: Any = None
        self._cancelled = False
        self._received = 0
        self._partial: tuple[int, bytearray] = (0, bytearray())

    @property
    def name(self) -> str:
        """See BlockSource."""
        return self._name

    @property
    def received(self) -> int:
        """See BlockSource."""
        return self._received

    def blocks(self, start: int) -> Iterator[Block | Pulse]:
        """See BlockSource. What came of block ``start`` in an earlier call is not asked for again."""
        number, data = self._partial
        if number != start:
            number, data = start, bytearray()
        request = ledger_pb2.StreamBlocksRequest(
            from_block=start,
            end_block=self._end,
            skip_bytes=len(data),
            follow=self._follow,
            published=self._follow,
        )
        with self._lock:
            if self._cancelled:
                return
            call = self._call = self._stream(request)
        try:
            for message in call:
                if not message.pieces:
                    yield Pulse(message.newest_block, message.checkpoint)
                for piece in message.pieces:
                    if piece.number != number or len(data) + len(piece.packed) > MAX_BLOCK_BYTES:
                        self._partial = (0, bytearray())
                        raise PeerWrong(
                            f"a piece of block {piece.number}, {len(piece.packed)} bytes, came behind"
                            f" {len(data)} bytes of block {number}",
                            peer=self._name,
                            where=f"block {number}",
                            fix="do not use it; ask another node",
                        )
                    self._received += len(piece.packed)
                    data += piece.packed
                    if piece.last:
                        yield Block(number, bytes(data), piece.checkpoint or None)
                        number, data = number + 1, bytearray()
                        self._partial = (number, data)
                    else:
                        self._partial = (number, data)
        except grpc.RpcError as error:
            if self._cancelled:
                return
            raise peer_error(error, self._name) from None
        finally:
            call.cancel()

    def consistency(self, old: int, new: int) -> Sequence[bytes]:
        """See BlockSource."""
        request = ledger_pb2.GetConsistencyProofRequest(old_size=old, new_size=new)
        try:
            return tuple(self._prove(request, timeout=CALL_S).path)
        except grpc.RpcError as error:
            raise peer_error(error, self._name) from None

    def ledger(self) -> ledger_pb2.GetLedgerResponse:
        """Which ledger the node says that it serves, and its newest checkpoint. Raises PeerError."""
        try:
            return self._stub.GetLedger(ledger_pb2.GetLedgerRequest(), timeout=CALL_S)
        except grpc.RpcError as error:
            raise peer_error(error, self._name) from None

    def forget(self) -> None:
        """Let go of what came of a block that is not whole: it may have been a lie."""
        self._partial = (0, bytearray())

    def cancel(self) -> None:
        """See BlockSource. It cannot be used again."""
        with self._lock:
            self._cancelled = True
            if self._call is not None:
                self._call.cancel()


def size_of(note: bytes, peer: str) -> int:
    """The size that a checkpoint states, signed by whomever. Raises PeerWrong for what is none."""
    try:
        return parse_checkpoint(parse_note(note).text).size
    except FormatError as error:
        raise PeerWrong(f"its newest checkpoint cannot be read: {error}", peer=peer) from error


def peer_error(error: grpc.RpcError, peer: str) -> PeerError:
    """What a failed call says of the node at its other end."""
    code, details = error.code(), error.details() or "no reason given"
    text = f"{code.name}: {details}"
    if code in _SHORT:
        return PeerShort(text, peer=peer, fix="ask another node, or later")
    if code in _WRONG:
        return PeerWrong(text, peer=peer, fix="look at that node's log; ask another node")
    return PeerSilent(text, peer=peer, fix="it is tried again; see that the address is right and the link up")
