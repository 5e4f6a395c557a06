"""A key of etcd that somebody waits on: read linearizably, when a watch says so and every second anyway."""

from __future__ import annotations

import threading
import time
from typing import Final

from node.cluster.etcd_client import EtcdClient, Found
from node.cluster.etcd_watch import Watch
from node.errors import EtcdUnavailable

POLL_S: Final = 1.0
"""How old what a waiter knows may get, if no watch wakes it."""


class WatchedKey:
    """Reads of one key, and waiting for it to change. Any thread. Close it before the client."""

    def __init__(self, client: EtcdClient, key: bytes) -> None:
        """The watch begins with the first wait."""
        self._client = client
        self.key = key
        self._changed = threading.Condition()
        self._wakes = 0
        self._watch: Watch | None = None
        self._closed = False

    def read(self) -> Found | None:
        """What it holds. Linearizable. Raises as :meth:`EtcdClient.get`."""
        return self._client.get(self.key)

    def wait(self, after: bytes | None, timeout_s: float) -> Found | None:
        """Return what it holds as soon as the value differs from ``after``, or as it is after ``timeout_s``.

        Absent counts as the value None. Raises EtcdUnavailable when etcd could not be read until then, or
        when this is closed meanwhile.
        """
        until = time.monotonic() + timeout_s
        while True:
            with self._changed:
                if self._closed:
                    raise EtcdUnavailable("closed while waiting for a change", where="etcd")
                if self._watch is None:
                    self._watch = Watch(self._client, self.key, self._wake)
                seen = self._wakes
            left = until - time.monotonic()
            try:
                # The last look gets time enough for an answer, or an impatient caller would never have one.
                found = self._client.get(self.key, deadline_s=max(left, POLL_S))
            except EtcdUnavailable:
                if self._client.closed or time.monotonic() >= until:
                    raise
            else:
                left = until - time.monotonic()
                if (None if found is None else found.value) != after or left <= 0:
                    return found
            self._sleep(seen, max(min(POLL_S, until - time.monotonic()), 0))

    def close(self) -> None:
        """End the watch and whoever waits. Closing twice is no error."""
        with self._changed:
            self._closed = True
            watch, self._watch = self._watch, None
            self._changed.notify_all()
        if watch is not None:
            watch.close()

    def _sleep(self, seen: int, timeout_s: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._wakes != seen, timeout_s)

    def _wake(self) -> None:
        with self._changed:
            self._wakes += 1
            self._changed.notify_all()
