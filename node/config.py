"""What an operator sets before a node starts. Nothing here is read again while it runs."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ledger.signatures import Signer
from node.clock import IDLE_SEAL_S
from node.cosigning.settings import CosigningSettings
from node.disk import DEFAULT_FLOOR
from node.errors import NodeError
from transport.certificates import TlsFiles

MAX_BULK: Final = 64
"""Submissions in one call."""
MAX_PROOFS: Final = 1_024
"""Inclusion proofs in one call."""
KIBIBYTE: Final = 1 << 10
MEBIBYTE: Final = 1 << 20
GIBIBYTE: Final = 1 << 30
# With no floor at all RocksDB could not be opened again after a write that found the disk full.
_LEAST_FLOOR: Final = 4_096


@dataclass(frozen=True, slots=True)
class Address:
    """A host and a TCP port to listen at; port 0: any that is free."""

    host: str
    port: int

    def __post_init__(self) -> None:
        if not self.host or not 0 <= self.port <= 65_535:
            raise NodeError(
                f"{self.host!r} and {self.port} make no address", fix="write it as HOST:PORT, 0 to 65535"
            )

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Address:
        """From ``host:port`` or ``[IPv6 host]:port``. Raises NodeError for anything else."""
        host, colon, port = text.rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        if not colon or not (port.isascii() and port.isdigit()) or (":" in host and not bracketed):
            raise NodeError(f"{text!a} is no address", fix="write it as HOST:PORT, as 127.0.0.1:7070")
        return cls(host[1:-1] if bracketed else host, int(port) if len(port) <= 5 else 65_536)


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """How much the node takes on for its callers at a time.

    ``max_request_bytes`` caps a whole gRPC request, and is checked before any of it is parsed.
    ``max_streams`` caps the calls in flight on one connection, ``max_calls`` those on all together;
    ``max_watches`` the calls answered with a stream, which may last for ever, and ``max_peer_watches``
    those of one peer address. ``max_http_connections`` and ``max_peer_connections`` are the same for
    connections over HTTP. (Behind a proxy all callers have one address: it has to divide them itself.)
    """

    max_request_bytes: int = 4 * MEBIBYTE
    max_streams: int = 1_024
    max_calls: int = 8_192
    max_watches: int = 1_024
    max_peer_watches: int = 64
    max_http_connections: int = 4_096
    max_peer_connections: int = 1_024


@dataclass(frozen=True, slots=True)
class RateLimits:
    """What one caller may use as time goes on (node/doors/limits.py).

    ``agency_records`` and ``agency_bytes``: what an agency may append a second for good, and
    ``agency_burst_s`` seconds' worth of both at once: by default ten million records, an archive, at
    whatever speed the node has. ``address_calls``: calls a second from one address. Behind it may sit a
    ministry. ``address_refused_ms``: work a second, in ms, that one address may cause with what is refused.
    """

    agency_records: int = 20_000
    agency_bytes: int = 4 * MEBIBYTE
    agency_burst_s: int = 500
    address_calls: int = 2_000
    address_refused_ms: int = 100

    def __post_init__(self) -> None:
        if min(getattr(self, name) for name in self.__slots__) < 1:
            raise NodeError("a rate is at least 1", where="settings")


_ANY: Final = 1 << 50
UNLIMITED: Final = RateLimits(_ANY, _ANY, 1, _ANY, _ANY)
"""For what comes from another node, which has limited it already."""


@dataclass(frozen=True, slots=True)
class EnvelopeLimits:
    """How many envelopes the node keeps, and how long.

    ``bytes`` of all, ``agency_bytes`` of those that one agency put. ``days``: how long one stays that
    is never answered, or never fetched.
    """

    bytes: int = 16 * GIBIBYTE
    agency_bytes: int = GIBIBYTE
    days: int = 90

    def __post_init__(self) -> None:
        if self.bytes < 0 or self.agency_bytes < 0 or not 1 <= self.days <= 3_650:
            raise NodeError("envelopes are kept 1 to 3,650 days, in no negative space", where="settings")


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """``connections``: open at a time; ``peer_connections``: of one address. ``stop_grace_s``: how long
    answers in flight may take when the server stops."""

    connections: int = 4_096
    peer_connections: int = 1_024
    stop_grace_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Settings:
    """How a node runs.

    ``data_dir`` holds the store and nothing else does; ``mark_path`` is the file of the signed
    high-water mark (None: a sibling of the data directory). ``public_url`` is the address at which
    readers reach the static resources, without a trailing slash (empty: the HTTP address itself).
    ``cosigning`` says how witnesses are asked, ``idle_seal_s`` after how many seconds without a block an
    empty one is sealed, so that the ledger's time moves.
    ``disk_floor`` is the free space, in bytes, below which no block is built. ``clock_is_right``: the
    operator vouches for the clock, however long the ledger stood still. ``stop_grace_s`` is how long
    answers in flight may take when the node stops.

    ``tls`` is what gRPC and HTTP show to the public (None: both speak plaintext); with an authority
    in it, gRPC callers must show a certificate from there, while HTTP stays open to everyone, like
    what it serves. ``peer_tls`` is for the traffic between members, ``etcd_tls`` for that to etcd.

    ``receipt_keys`` sign COSE receipts and status tokens: the first does, the others are published for what
    they have signed.
    """

    data_dir: Path
    grpc: Address = Address("127.0.0.1", 7070)
    http: Address = Address("127.0.0.1", 7080)
    public_url: str = ""
    mark_path: Path | None = None
    disk_floor: int = DEFAULT_FLOOR
    clock_is_right: bool = False
    stop_grace_s: float = 5.0
    limits: RequestLimits = field(default_factory=RequestLimits)
    rates: RateLimits = field(default_factory=RateLimits)
    envelopes: EnvelopeLimits = field(default_factory=EnvelopeLimits)
    tls: TlsFiles | None = None
    peer_tls: TlsFiles | None = None
    etcd_tls: TlsFiles | None = None
    cosigning: CosigningSettings = field(default_factory=CosigningSettings)
    idle_seal_s: float = IDLE_SEAL_S
    receipt_keys: tuple[Signer, ...] = ()

    def __post_init__(self) -> None:
        if self.public_url.endswith("/") or (
            self.public_url and not self.public_url.startswith(("http://", "https://"))
        ):
            raise NodeError(
                f"the public URL {self.public_url!a} is not usable",
                fix="write it as https://host/path, without a slash at the end",
            )
        if self.disk_floor < _LEAST_FLOOR or not (
            math.isfinite(self.stop_grace_s) and self.stop_grace_s >= 0
        ):
            raise NodeError(f"the disk floor is at least {_LEAST_FLOOR} bytes, a time to stop not negative")

    @property
    def http_limits(self) -> HttpLimits:
        """What the HTTP server keeps to."""
        return HttpLimits(
            self.limits.max_http_connections, self.limits.max_peer_connections, self.stop_grace_s
        )
