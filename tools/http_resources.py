"""The static resources of a node, mirror or cache over HTTP. Nothing fetched is believed here.

Each kind of resource has its own size cap, which holds while the body arrives; redirects are not
followed. A fetch has a deadline for all of it, so that a server that sends a byte now and then holds
nobody up; one that says 429 is asked again when it says so. What never changes is fetched once: it stays
in memory, up to 64 MiB, so that many receipts of one block cost few requests.
"""

from __future__ import annotations

import re
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Final, Self

import httpx

from ledger.notes import MAX_NOTE_SIZE
from ledger.resources import MAX_EVENTS_BYTES
from ledger.status_tokens import MAX_STATUS_TOKEN
from ledger.tiles import FULL_TILE_BYTES, MAX_BUNDLE_BYTES
from tools.client_tls import ClientTls, why_unreachable
from tools.errors import AnswerWrong, NotFound, RateLimited, Unavailable, Usage

_CAPS: Final = (
    ("checkpoint", 1 << 20),
    ("tile/entries/", MAX_BUNDLE_BYTES),
    ("tile/", FULL_TILE_BYTES),
    ("registry/tile/", FULL_TILE_BYTES),
    ("registry/", 1 << 20),
    ("status/chunk/", 32_768),
    ("status/list/", 16 << 20),
    ("status/events/", MAX_EVENTS_BYTES),
    ("status/token/", MAX_STATUS_TOKEN),
    ("receipt-keys", MAX_NOTE_SIZE),
    ("v1/figures/", 128 << 20),
    ("v1/", 1 << 20),
)
_WITNESSED: Final = "/checkpoint"
"""Under a name of the log's: the newest that a witness has cosigned."""
_MAX_NOTE: Final = 1 << 20
_CHANGING: Final = ("checkpoint", "status/events/", "status/token/", "receipt-keys", "v1/")
_HOST: Final = re.compile(rb"[A-Za-z0-9_.:-]+")
_CACHE_BYTES: Final = 64 << 20


class AskedTooOften(RateLimited):
    """Status 429. ``delay_s``: what its Retry-After says."""

    def __init__(self, where: str, delay_s: float) -> None:
        super().__init__("the server answers 429, asked too often", where=where, fix="try again later")
        self.delay_s = delay_s


class HttpResources:
    """``Resources`` at a base URL. For one thread at a time."""

    def __init__(
        self,
        url: str,
        *,
        tls: ClientTls | None = None,
        timeout_s: float = 20.0,
        deadline_s: float = 60.0,
        transport: httpx.BaseTransport | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """``timeout_s`` bounds each wait, ``deadline_s`` a whole fetch once there is a connection, and how
        long it is asked again. ``pause`` is there for tests.

        ``tls``: whom to believe when the URL is https (None: the system's authorities).
        Raises Usage for what is no http or https URL, and for certificate files that cannot be used.
        """
        try:
            base = httpx.URL(url)
        except httpx.InvalidURL:
            base = httpx.URL("")
        usable = base.scheme in ("http", "https") and _HOST.fullmatch(base.raw_host) is not None
        if not usable or base.query or base.fragment:
            raise Usage(f"{url!r} is no http:// or https:// address", where="--url")
        self.url = self.name = url.rstrip("/")
        self._host, self._port = base.host, base.port or (443 if base.scheme == "https" else 80)
        self._tls = (tls or ClientTls()) if base.scheme == "https" else None
        self._client = httpx.Client(
            timeout=timeout_s,
            transport=transport,
            follow_redirects=False,
            trust_env=False,
            verify=self._tls.context() if self._tls is not None else False,
            headers={"Accept-Encoding": "identity"},  # so that the caps bound what is held in memory
        )
        self._deadline_s = deadline_s
        self._pause = pause
        self._connection: socket.socket | None = None
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._kept_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._client.close()
        self._forget_connection()

    def fetch(self, path: str) -> bytes:
        """The bytes at ``path``. Raises NotFound, Unavailable, AnswerWrong (too long, redirected)."""
        kept = self._kept.get(path)
        if kept is not None:
            self._kept.move_to_end(path)
            return kept
        data = self._get(path)
        if not path.startswith(_CHANGING):
            self._keep(path, data)
        return data

    def fetch_form(self, path: str, media_type: str) -> bytes:
        """One form of what is at ``path``. Raises as :meth:`fetch`, NotFound for a form that it lacks."""
        return self._get(path, media_type)

    def _keep(self, path: str, data: bytes) -> None:
        self._kept[path] = data
        self._kept_bytes += len(data)
        while self._kept_bytes > _CACHE_BYTES:
            _, oldest = self._kept.popitem(last=False)
            self._kept_bytes -= len(oldest)

    def _get(self, path: str, accept: str = "*/*") -> bytes:
        waited_s = 0.0
        while True:
            try:
                return self._get_once(path, accept)
            except AskedTooOften as error:
                waited_s += error.delay_s
                if waited_s > self._deadline_s:
                    raise
                self._pause(error.delay_s)

    def _get_once(self, path: str, accept: str) -> bytes:
        where = f"{self.url}/{path}"
        cap = cap_of(path)
        try:
            with (
                self._deadline(where),
                self._client.stream(
                    "GET", where, headers={"Accept": accept}, extensions={"trace": self._traced}
                ) as response,
            ):
                if response.status_code in (404, 410):
                    raise NotFound("is not there", where=where)
                if response.status_code == 406:
                    raise NotFound(
                        f"is not to be had as {accept}: that node may have no receipt key",
                        where=where,
                        fix="ask another node",
                    )
                if response.status_code == 429:
                    raise AskedTooOften(where, delay_s(response.headers.get("retry-after", "")))
                if response.status_code >= 500:
                    raise Unavailable(
                        f"the server answers {response.status_code}", where=where, fix="try again later"
                    )
                if response.status_code != 200:
                    raise AnswerWrong(
                        f"the server answers {response.status_code}", where=where, fix="check the address"
                    )
                data = bytearray()
                for part in response.iter_raw():
                    data += part
                    if len(data) > cap:
                        raise AnswerWrong(f"more than {cap} bytes come, which this never has", where=where)
                return bytes(data)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            if isinstance(error, httpx.ConnectError | httpx.RemoteProtocolError | httpx.ReadError):
                refused = why_unreachable(self._host, self._port, self._tls, http2=False)
                if refused is not None:
                    raise refused from None
            raise Unavailable(
                f"cannot be reached ({str(error) or type(error).__name__})",
                where=where,
                fix="check the address and the network",
            ) from None

    @contextmanager
    def _deadline(self, where: str) -> Iterator[None]:
        """Break the connection when the block takes longer than the deadline. Raises Unavailable then."""
        late = threading.Event()

        def end() -> None:
            late.set()
            connection = self._connection
            if connection is not None:
                with suppress(OSError):  # it may be over already
                    connection.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(self._deadline_s, end)
        timer.daemon = True
        timer.start()
        try:
            yield
        except httpx.HTTPError:
            if not late.is_set():
                raise
        finally:
            timer.cancel()
        if late.is_set():  # even without an error: a broken connection can look like the end of a body
            raise Unavailable(
                f"no whole answer came in {self._deadline_s:g} s", where=where, fix="try another server"
            )

    def _traced(self, event: str, info: dict[str, Any]) -> None:
        """Keep a handle of the newest connection: its own, since TLS takes over the socket object."""
        if event == "connection.connect_tcp.complete":
            self._forget_connection()
            self._connection = info["return_value"].get_extra_info("socket").dup()

    def _forget_connection(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def cap_of(path: str) -> int:
    """The most bytes that the resource at ``path`` can have; 0 for what no ledger serves."""
    if path.endswith(_WITNESSED):
        return _MAX_NOTE
    return next((cap for prefix, cap in _CAPS if path.startswith(prefix)), 0)


def delay_s(retry_after: str) -> float:
    """What a Retry-After says: the seconds in a Retry-After; a little while for a date, or nothing."""
    said = float(retry_after) if retry_after.isascii() and retry_after.isdigit() else 0.0
    return said or 1.0
