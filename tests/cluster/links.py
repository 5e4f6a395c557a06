"""TCP proxies of the tests' own: every link between two nodes, and from a node to etcd, can be cut by itself.

A member has one address, whoever calls; so the proxy before it asks the system which process calls, and
keeps a link for each. All run on one event loop, on a thread of their own.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from enum import Enum, auto
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.cluster.etcds import free_ports

_PIECE: Final = 64 << 10
_IN_FLIGHT: Final = 64
_CONNECT_S: Final = 5.0


class State(Enum):
    """How a link is."""

    UP = auto()
    CUT = auto()
    """Connections end, and no other comes about: a process that was killed, a firewall that says so."""
    STILL = auto()
    """Connections stay, and nothing comes through: a cable pulled out. What was sent comes later."""


class Link:
    """From one process to one address. Set from any thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str) -> None:
        self.name = name
        self.delay_s = 0.0
        self._loop = loop
        self._state = State.UP
        self._moving = asyncio.Event()
        self._moving.set()
        self._open: set[asyncio.StreamWriter] = set()

    @property
    def state(self) -> State:
        return self._state

    @property
    def cut(self) -> bool:
        return self._state is State.CUT

    def set(self, state: State) -> None:
        """Takes effect before this returns."""
        asyncio.run_coroutine_threadsafe(self._set(state), self._loop).result()

    async def _set(self, state: State) -> None:
        self._state = state
        if state is State.STILL:
            self._moving.clear()
        else:
            self._moving.set()
        if state is State.CUT:
            for one in self._open:
                one.transport.abort()

    async def passing(self) -> None:
        """Return once something may come through."""
        await self._moving.wait()

    async def carry(self, near: asyncio.StreamReader, back: asyncio.StreamWriter, target: int) -> None:
        """One connection, until either side ends it."""
        await self.passing()
        if self.cut:
            back.transport.abort()
            return
        try:
            opening = asyncio.open_connection("127.0.0.1", target)
            far, on = await asyncio.wait_for(opening, _CONNECT_S)
        except OSError:
            back.transport.abort()
            return
        self._open |= {back, on}
        try:
            if self.cut:
                return
            await asyncio.gather(self._pass_on(near, on), self._pass_on(far, back))
        finally:
            for one in (back, on):
                self._open.discard(one)
                one.transport.abort()

    async def _pass_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_IN_FLIGHT)

        async def read() -> None:
            data = b"more"
            while data:
                try:
                    data = await source.read(_PIECE)
                except OSError:
                    data = b""
                await under_way.put((time.monotonic() + self.delay_s, data))

        async def write() -> None:
            while True:
                at, data = await under_way.get()
                await asyncio.sleep(max(0.0, at - time.monotonic()))
                await self.passing()
                if not data:
                    break
                sink.write(data)
                await sink.drain()
            sink.write_eof()

        reading = asyncio.create_task(read())
        try:
            with suppress(OSError):
                await write()
        finally:
            # Whoever reads for a sink that is gone would wait for ever.
            reading.cancel()
            sink.transport.abort()


class Links:
    """All proxies of a test. A context; ``callers`` gives the names and pids of those who may call."""

    def __init__(self, callers: Callable[[], dict[str, int]]) -> None:
        self._callers = callers
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="links", daemon=True)
        self._links: dict[tuple[str, str], Link] = {}
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def link(self, caller: str, called: str) -> Link:
        """Of this direction: who opens the connection, and to whom."""
        found = self._links.get((caller, called))
        if found is None:
            found = self._links[caller, called] = Link(self._loop, f"{caller}→{called}")
        return found

    def all(self) -> Iterator[Link]:
        """Those that were ever named or used."""
        yield from list(self._links.values())

    def mend(self) -> None:
        """Everything as it was."""
        for one in self.all():
            one.delay_s = 0.0
            one.set(State.UP)

    def before(self, called: str, target: int, caller: str = "") -> int:
        """Listen before port ``target`` of ``called``; the port of the proxy. ``caller``: the only one."""
        (port,) = free_ports(1)
        asyncio.run_coroutine_threadsafe(self._listen(called, port, target, caller), self._loop).result()
        return port

    async def _listen(self, called: str, port: int, target: int, caller: str) -> None:
        async def serve(near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._tasks.add(task)
            try:
                who = caller or self._who(back.get_extra_info("peername")[1], port)
                await self.link(who, called).carry(near, back, target)
            except asyncio.CancelledError:
                pass  # we are closing; asyncio would log it
            finally:
                back.transport.abort()
                self._tasks.discard(task)

        self._servers.append(await asyncio.start_server(serve, "127.0.0.1", port))

    def _who(self, port: int, to: int) -> str:
        """Whose socket on this machine is connected from one port to the other."""
        socket = f"socket:[{_inode(port, to)}]"
        for name, pid in self._callers().items():
            if socket in _descriptors(pid):
                return name
        return "somebody"


def _inode(port: int, to: int) -> str:
    """Of the calling end of a connection; another may have the same port, and another target."""
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[1].endswith(f":{port:04X}") and fields[2].endswith(f":{to:04X}"):
                return fields[9]
    return "none"


def _descriptors(pid: int) -> set[str]:
    found = set()
    with suppress(OSError):
        for one in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                found.add(str(one.readlink()))
    return found
