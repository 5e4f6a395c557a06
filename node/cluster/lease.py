"""Who leads, as etcd's lease has it: only so that nodes do not contend. Safety never rests on it.

The key ``leader`` is under a lease that its holder renews. When the holder dies, etcd deletes the key
after the lease's seconds, and the next one makes it. Two may believe that they hold it, for a while;
what they decide is decided by the journal.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import Final

from node.cluster.etcd_client import EtcdClient, Guard, Put
from node.cluster.watched_key import WatchedKey
from node.errors import EtcdError, LeaseGone

TTL_S: Final = 2
"""Also the least that etcd grants under its default election timeout."""
BEATS: Final = 4
"""Renewals within one life of the lease."""
_SOON_S: Final = 0.05


def boot_time() -> float:
    """Seconds that also count while the machine sleeps: a lease runs out then too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class LeaderLease:
    """This node's claim to lead, and the name of whoever does. Any thread."""

    def __init__(self, client: EtcdClient, key: bytes, value: bytes, *, ttl_s: int = TTL_S) -> None:
        """``value``: who this node is, for others to read; unlike that of any other node."""
        self._client = client
        self._value = value
        self._ttl_s = ttl_s
        self._key = WatchedKey(client, key)
        self._lock = threading.Lock()  # one campaign or resignation at a time
        self._beating: _Heartbeat | None = None

    @property
    def held(self) -> bool:
        """Whether this node's lease certainly lives, by this machine's clock."""
        beating = self._beating
        return beating is not None and beating.alive

    def leader(self) -> bytes | None:
        """The value of whoever leads; None when nobody does. Linearizable; raises EtcdUnavailable."""
        found = self._key.read()
        return None if found is None else found.value

    def wait(self, after: bytes | None, timeout_s: float) -> bytes | None:
        """Return who leads as soon as it is another than ``after``, or who does after ``timeout_s``.

        Raises EtcdUnavailable when etcd could not be read, or close() was called.
        """
        found = self._key.wait(after, timeout_s)
        return None if found is None else found.value

    def campaign(self) -> bool:
        """Lead, if nobody does; returns whether this node holds the lease now. Some 3 ms, never waits.

        From then on it is renewed until :meth:`resign`, or until it is lost. Raises EtcdError.
        """
        with self._lock:
            if self.held:
                return True
            self._stop()
            if self._key.read() is not None:
                return False  # without a lease granted in vain every time
            began = boot_time()
            lease, ttl_s = self._client.grant(self._ttl_s)
            try:
                answer = self._client.swap(
                    [Guard(self._key.key, None)], [Put(self._key.key, self._value, lease)]
                )
            except EtcdError:
                self._revoke(lease)
                raise
            found = None if answer.done else answer.found[0]
            # It may stand there by an attempt whose answer was lost.
            if not answer.done and (found is None or found.lease != lease):
                self._revoke(lease)
                return False
            self._beating = _Heartbeat(self._client, lease, ttl_s, began + ttl_s)
            return True

    def resign(self) -> None:
        """Lead no more; others may at once. When etcd cannot be told, the lease runs out by itself."""
        with self._lock:
            self._stop()

    def close(self) -> None:
        """Resign, and end whoever waits. Closing twice is no error."""
        self.resign()
        self._key.close()

    def _stop(self) -> None:
        beating, self._beating = self._beating, None
        if beating is not None:
            beating.close()
            self._revoke(beating.lease)

    def _revoke(self, lease: int) -> None:
        with suppress(EtcdError):
            self._client.revoke(lease)


class _Heartbeat:
    """Renews a lease on a thread of its own, until it is over."""

    def __init__(self, client: EtcdClient, lease: int, ttl_s: int, until: float) -> None:
        self.lease = lease
        self._client = client
        self._ttl_s = ttl_s
        self._until = until
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="etcd lease", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        return not self._closed.is_set() and boot_time() < self._until

    def close(self) -> None:
        self._closed.set()
        self._thread.join()

    def _run(self) -> None:
        pause = self._ttl_s / BEATS
        while not self._closed.wait(pause):
            # Counted from before the request: etcd cannot have begun to count earlier.
            began = boot_time()
            try:
                left = self._client.renew(self.lease, deadline_s=self._ttl_s / BEATS)
            except LeaseGone:
                self._until = began
                return
            except EtcdError:
                pause = _SOON_S  # another endpoint, while there is time
            else:
                pause = self._ttl_s / BEATS
                self._until = began + left
