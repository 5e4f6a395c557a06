"""The feed of an audit in a process of its own, so that both of two cores work.

The helper fetches, hashes, and compares tiles; the rules and all that is remembered stay in the process that
was started. Nothing of the helper's is durable, so whichever of the two is killed, nothing is lost.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Generator
from multiprocessing.connection import Connection
from typing import Any, Final

from ledger.errors import SudurError
from ledger.resources import Resources
from ledger.tree import Tree
from tools.audit.feed import Portion, portions
from tools.audit.sources import open_source
from tools.client_tls import ClientTls
from tools.errors import Unavailable

_AHEAD: Final = 2
"""Portions that wait in the helper, of some 5 MB each."""
WORTHWHILE: Final = 200_000
"""For fewer leaves than this, no process is started: that takes a second."""

_Sent = tuple[str, Any]


class HelperFeed:
    """A :data:`tools.audit.engine.Feed` that reads ``where`` by itself, in another process."""

    def __init__(self, where: str, tls: ClientTls, worthwhile: int = WORTHWHILE) -> None:
        self._where = where
        self._tls = tls
        self._worthwhile = worthwhile

    def __call__(self, resources: Resources, tree: Tree, size: int) -> Generator[Portion, None, None]:
        """Raises as :func:`tools.audit.feed.portions`, and Unavailable when the helper is gone."""
        if size - tree.size < self._worthwhile:
            yield from portions(resources, tree, size)
            return
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe(duplex=False)
        arguments = (theirs, self._where, self._tls, tree, size)
        process = context.Process(target=_help, args=arguments, daemon=True, name="audit-feed")
        process.start()
        theirs.close()
        try:
            while (portion := _received(ours)) is not None:
                yield portion
        finally:
            ours.close()
            process.terminate()
            process.join()
            process.close()


def seldom_collect() -> None:
    """Have this process look for cyclic garbage seldom: hardly any is made, and each look takes its time."""
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)


def _received(connection: Connection) -> Portion | None:
    try:
        kind, value = connection.recv()
    except (EOFError, OSError):
        raise Unavailable(
            "the helper process has ended", where="audit", fix="run it again: it goes on where it stands"
        ) from None
    if kind == "error":
        raise _restored(*value)
    assert value is None or isinstance(value, Portion)
    return value


def _help(connection: Connection, where: str, tls: ClientTls, tree: Tree, size: int) -> None:
    """The helper's whole life. It ends when nobody reads what it sends."""
    seldom_collect()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to both: the other one decides
    outgoing: queue.Queue[_Sent] = queue.Queue(_AHEAD)
    sender = threading.Thread(target=_send, args=(connection, outgoing))
    sender.start()
    try:
        source = open_source(where, tls)
        for portion in portions(source, tree, size):
            outgoing.put(("portion", portion))
        outgoing.put(("end", None))
    except SudurError as error:
        outgoing.put(("error", (type(error), error.args, error.__dict__)))
    sender.join()


def _send(connection: Connection, outgoing: queue.Queue[_Sent]) -> None:
    try:
        while True:
            message = outgoing.get()
            connection.send(message)
            if message[0] != "portion":
                return
    except OSError:
        os._exit(0)  # whoever read it is gone, and nothing here is worth keeping


def _restored(kind: type[SudurError], arguments: tuple[Any, ...], members: dict[str, Any]) -> SudurError:
    """An error as it was in the helper: its class may be made in another way than from its message."""
    error = kind.__new__(kind, *arguments)
    error.args = arguments
    error.__dict__.update(members)
    return error
