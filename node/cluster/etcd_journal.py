"""The journal of a cluster: the head is one key in etcd, and a block is committed by swapping it.

etcd holds heads and members, never blocks. The keys stand under ``sudur/<G in hex>/``: ``head`` (as Head
encodes itself), ``members`` (bytes here; node/cluster/members.py reads them), ``leader``
(node/cluster/lease.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from node.cluster.etcd_client import EtcdClient, Found, Guard, Put
from node.cluster.watched_key import WatchedKey
from node.errors import Conflict, EtcdError, TermEnded
from node.head import Head
from node.journal import CandidateBlock

APPEND_S: Final = 10.0
"""How long an append asks etcd, through elections and lost answers, before its outcome is unknown."""
COMPACT_EVERY: Final = 1_000
"""Appends between two compactions. etcd keeps each head, some 300 bytes, until told to forget it."""


@dataclass(frozen=True, slots=True)
class Keys:
    """Where one ledger stands in etcd."""

    head: bytes
    members: bytes
    leader: bytes

    @classmethod
    def of(cls, genesis: bytes) -> Keys:
        """The keys of the ledger with genesis hash G."""
        prefix = f"sudur/{genesis.hex()}/".encode()
        return cls(prefix + b"head", prefix + b"members", prefix + b"leader")


class EtcdJournal:
    """The Journal (node/journal.py) of one term, on etcd.

    What a term may build on is pinned: the revision of the head that it saw last, and the member list's
    value. When either is another at an append, TermEnded is raised and nothing was committed: after
    etcd was restored from a snapshot, an equal value at another revision is somebody else's. A new
    term takes a new journal. One that only reads and waits may live on through any number of terms.

    :meth:`wait` and :meth:`close` may come from any thread, the others from one at a time.
    """

    def __init__(
        self, client: EtcdClient, keys: Keys, members: bytes | None = None, *, append_s: float = APPEND_S
    ) -> None:
        """``members``: the member list's value that this term decides under; None does not compare it."""
        self._client = client
        self._keys = keys
        self._members = members
        self._append_s = append_s
        self._head = WatchedKey(client, keys.head)
        self._pin: tuple[Head, int] | None = None
        self._appends = 0

    def head(self) -> Head | None:
        """See Journal. Linearizable, about 1 ms. Raises EtcdUnavailable, EtcdRefused."""
        return self._seen(self._head.read())

    def append(self, expected: Head | None, block: CandidateBlock) -> Head:
        """See Journal. One transaction, about 1 ms, and the identical one again when no answer comes.

        Raises Conflict and TermEnded: certainly not committed, and what was to be led is not as it was;
        EtcdUnavailable, EtcdFull, EtcdRefused: certainly not committed, the same call may succeed later;
        OutcomeUnknown: committed, or not, or yet to be: pass the identical block again, or end the term.
        """
        pin = self._pin
        pinned = pin[1] if pin is not None and pin[0] == expected else None
        value = block.head.encode()
        guards = [Guard(self._keys.head, None if expected is None else expected.encode(), pinned)]
        if self._members is not None:
            guards.append(Guard(self._keys.members, self._members))
        answer = self._client.swap(guards, [Put(self._keys.head, value)], deadline_s=self._append_s)
        if answer.done:
            self._pin = (block.head, answer.revision)
            self._tidy(answer.revision)
            return block.head
        found = answer.found[0]
        current = self._seen(found)
        if current == block.head:
            return block.head  # an attempt whose answer was lost, now or in an earlier call
        if current != expected:
            raise Conflict(
                f"the head is block {_number(current)}, the block was built on {_number(expected)}",
                where="etcd",
                fix="load the head again and build the block anew",
            )
        if found is not None and pinned is not None and found.mod_revision != pinned:
            raise TermEnded(
                f"block {_number(current)} stands at revision {found.mod_revision} and not at {pinned}:"
                " etcd was restored, or another leader was there",
                where="etcd",
                fix="begin a new term",
            )
        raise TermEnded("the member list is another", where="etcd", fix="begin a new term")

    def wait(self, after: Head | None, timeout_s: float) -> Head | None:
        """See Journal. Raises EtcdUnavailable when etcd could not be read, or close() was called."""
        found = self._head.wait(None if after is None else after.encode(), timeout_s)
        return None if found is None else Head.decode(found.value)

    def close(self) -> None:
        """End whoever waits. Closing twice is no error; the client is the caller's."""
        self._head.close()

    def _seen(self, found: Found | None) -> Head | None:
        """Decode, and pin the revision, unless an equal head is pinned already."""
        if found is None:
            return None
        head = Head.decode(found.value)
        if self._pin is None or self._pin[0] != head:
            self._pin = (head, found.mod_revision)
        return head

    def _tidy(self, revision: int) -> None:
        """Let etcd forget old heads, now and then; if it does not work now, the next one makes up for it."""
        self._appends += 1
        if self._appends % COMPACT_EVERY == 0:
            try:
                self._client.compact(revision)
            except EtcdError:
                return


class MemberList:
    """The value of the members key: bytes in, bytes out, changed by compare-and-swap only."""

    def __init__(self, client: EtcdClient, keys: Keys) -> None:
        self._client = client
        self._key = keys.members

    def read(self) -> bytes | None:
        """The list; None before the founding. Linearizable. Raises EtcdUnavailable, EtcdRefused."""
        found = self._client.get(self._key)
        return None if found is None else found.value

    def swap(self, expected: bytes | None, new: bytes) -> None:
        """Put ``new`` where ``expected`` stands (None: nothing). If it stands there already, that is success.

        Raises Conflict when something else does, and as :meth:`EtcdClient.swap`.
        """
        answer = self._client.swap([Guard(self._key, expected)], [Put(self._key, new)])
        found = None if answer.done else answer.found[0]
        if not answer.done and (found is None or found.value != new):
            raise Conflict(
                "the member list is another than the one that was to be changed",
                where="etcd",
                fix="read it again, and repeat the change if it is still wanted",
            )


def _number(head: Head | None) -> str:
    return "none" if head is None else str(head.block)
