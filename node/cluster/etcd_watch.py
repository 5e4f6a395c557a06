"""A watch on one key of etcd, used to wake somebody up and for nothing else."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Final

import grpc

from node.cluster.etcd_client import EtcdClient, WatchStream
from sudur.etcd import v3_pb2 as pb

_PAUSE_S: Final = 0.25


class Watch:
    """Wakes somebody up when a key may have changed, until it is closed.

    A wake-up says nothing but "look again". One comes each time that the watch is begun anew, since what
    was missed in between is unknown; so nothing depends on revisions, and compaction cannot break it. A
    connection that is dead without saying so is noticed after some 8 s only: poll besides.
    """

    def __init__(self, client: EtcdClient, key: bytes, wake: Callable[[], None]) -> None:
        """Call ``wake``, on a thread of its own, whenever ``key`` may have changed."""
        self._client = client
        self._key = key
        self._wake = wake
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._call: WatchStream | None = None
        self._thread = threading.Thread(target=self._run, name="etcd watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it; no wake-up comes after this. Closing twice is no error."""
        with self._lock:
            self._closed.set()
            if self._call is not None:
                self._call.cancel()
        self._thread.join()

    def _run(self) -> None:
        turn = 0
        while not self._closed.is_set() and not self._client.closed:
            # The next endpoint, unless this one did serve; a pause, so that no fault makes it spin.
            turn = 0 if self._follow(turn) else turn + 1
            self._closed.wait(_PAUSE_S)

    def _follow(self, turn: int) -> bool:
        """Follow one stream to its end; returns whether the watch was ever begun."""
        begun = False
        # gRPC reads the requests on a thread of its own, and the stream is open for as long as they last.
        requests: SimpleQueue[pb.WatchRequest | None] = SimpleQueue()
        requests.put(pb.WatchRequest(create_request=pb.WatchCreateRequest(key=self._key)))
        try:
            with self._lock:
                if self._closed.is_set():
                    return False
                self._call = call = self._client.watch(turn, _until_none(requests))
            for answer in call:
                begun |= answer.created
                if self._closed.is_set():
                    break
                self._wake()
                if answer.canceled:
                    break
        except (grpc.RpcError, ValueError):
            pass  # ended by etcd, the network or close(): whoever polls will be told the reason
        finally:
            requests.put(None)
            with self._lock:
                if self._call is not None:
                    self._call.cancel()
                    self._call = None
        return begun


def _until_none(requests: SimpleQueue[pb.WatchRequest | None]) -> Iterator[pb.WatchRequest]:
    while (request := requests.get()) is not None:
        yield request
