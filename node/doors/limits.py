"""How much one caller may use as time goes on, so that none uses up what is there for all.

Three token buckets, and who pays into which is the point:

- **An agency pays for what it appends**, in records and in bytes, once it is appended. Whoever claims an
  agency's number without its signature appends nothing, so no stranger uses up its share.
- **An address pays for its calls**, over gRPC and over HTTP.
- **An address pays for the work that refusals cost.** What is submitted is paid for when it comes in, as if
  it were refused, and given back when it is not: so what is under way is bounded as well.

A bucket may be overdrawn by one call, whose caller then waits for longer: no call is too large for ever.
Limits hold at the node that a caller reached; what a node forwards has been counted there.
"""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Final, Generic, Literal, TypeVar
from urllib.parse import unquote

from google.rpc import code_pb2

from ledger.errors import SudurError
from ledger.leaves import MAX_LEAF_SIZE
from node.config import RateLimits
from node.doors.forward import ForwardedRefusal
from node.doors.outgoing import Outgoing
from node.errors import RateLimited, RetryableError
from node.sequencer import Outcome, Placement

Scope = Literal["agency", "address", "refusals"]

_MOST_CALLERS: Final = 65_536
_CALLS_BURST_S: Final = 10
_REFUSALS_BURST_S: Final = 100
# What it takes the one thread that writes to refuse something, at most, in seconds.
_SUBMISSION_S: Final = 0.001
_SIGNATURE_S: Final = 0.000_1
_BYTE_S: Final = 0.000_000_1
_CHANGE_BYTE_S: Final = 0.000_007
_ENVELOPE_S: Final = 0.001
_AGENCY: Final = slice(2, 6)
_SIGNATURES_AT: Final = 50

_PASSING: Final = frozenset((code_pb2.RESOURCE_EXHAUSTED, code_pb2.UNAVAILABLE))

_Key = TypeVar("_Key")


class Buckets(Generic[_Key]):
    """Token buckets of one size, by key. Time comes in, in seconds of a clock that never goes back.

    Remembers the ``most`` keys that paid last; one that is forgotten has a full bucket again.
    """

    def __init__(self, per_s: float, burst: float, most: int = _MOST_CALLERS) -> None:
        self._per_s = per_s
        self._burst = burst
        self._most = most
        self._levels: OrderedDict[_Key, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._levels)

    def wait_s(self, key: _Key, now: float) -> float:
        """How long until :meth:`pay` is in order, if nobody else pays meanwhile; 0 when it is."""
        return max(0.0, -self._level(key, now) / self._per_s)

    def pay(self, key: _Key, amount: float, now: float) -> None:
        """Take ``amount`` out, below nothing too; a negative one is given back."""
        self._levels[key] = min(self._burst, self._level(key, now) - amount), now
        self._levels.move_to_end(key)
        if len(self._levels) > self._most:
            self._levels.popitem(last=False)

    def _level(self, key: _Key, now: float) -> float:
        held = self._levels.get(key)
        return self._burst if held is None else min(self._burst, held[0] + (now - held[1]) * self._per_s)


class Tally:
    """One call's submissions on their way.

    ``barred``: for each, why nothing can be taken from its agency now, or None; ``admitted``: the others.
    """

    def __init__(self, limits: CallerLimits, address: str, items: Sequence[tuple[bytes, bytes]]) -> None:
        self._limits = limits
        self._address = address
        self._items = items
        self.barred = [limits.bar(leaf) for leaf, _ in items]
        self.admitted = [one for one, barred in zip(items, self.barred, strict=True) if barred is None]

    def settle(self, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """What became of each of the call's submissions, given what became of those admitted. Call once."""
        coming = iter(outcomes)
        settled = [next(coming) if barred is None else barred for barred in self.barred]
        for item, outcome in zip(self._items, settled, strict=True):
            self._limits.settle(self._address, item, outcome)
        return settled


class CallerLimits:
    """The limits of one node's callers. Belongs to one event loop; about 2 µs a call.

    ``count`` is told the scope of each refusal; ``answers`` are those not taken yet. What raises, raises
    RateLimited, whose delay is true: the same would pass after it, unless others of the agency, or of the
    address, come first.
    """

    def __init__(
        self,
        rates: RateLimits,
        count: Callable[[Scope], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        burst_s = rates.agency_burst_s
        self._records: Buckets[int] = Buckets(rates.agency_records, rates.agency_records * burst_s)
        self._bytes: Buckets[int] = Buckets(rates.agency_bytes, rates.agency_bytes * burst_s)
        self._calls: Buckets[str] = Buckets(rates.address_calls, rates.address_calls * _CALLS_BURST_S)
        refused_s = rates.address_refused_ms / 1_000
        self._refused: Buckets[str] = Buckets(refused_s, refused_s * _REFUSALS_BURST_S)
        self.answers = Outgoing()
        self._count = count
        self._clock = clock

    def call(self, address: str, weight: int = 1) -> None:
        """Count a call from an address, as ``weight`` calls when it asks for much.

        Raises AnswersWaiting as well.
        """
        self.answers.check(address)
        now = self._clock()
        wait_s = self._calls.wait_s(address, now)
        if wait_s:
            raise self._limited("address", wait_s, "this address has sent as many calls as it may")
        self._calls.pay(address, weight, now)

    @contextmanager
    def submissions(self, address: str, items: Sequence[tuple[bytes, bytes]]) -> Iterator[Tally]:
        """For as long as a call's submissions, 1 to 64 (leaf, packed records), are on their way.

        Last of all within, :meth:`Tally.settle` them; an error settles all alike. What its caller does not
        wait for stays paid.
        """
        with self._paid(address, sum([_work(item) for item in items])):
            tally = Tally(self, address, items)
            try:
                yield tally
            except SudurError as error:
                tally.settle([error] * len(tally.admitted))
                raise

    @contextmanager
    def change(self, address: str, leaf: bytes) -> Iterator[None]:
        """For as long as a registry change is on its way."""
        work = _SUBMISSION_S + _CHANGE_BYTE_S * min(len(leaf), MAX_LEAF_SIZE)
        with self._returned(address, work):
            yield

    @contextmanager
    def envelope(self, address: str) -> Iterator[None]:
        """For as long as a request about an envelope is in work."""
        with self._returned(address, _ENVELOPE_S):
            yield

    # --- for Tally ---

    def bar(self, leaf: bytes) -> RateLimited | None:
        """Why nothing can be taken now from the agency that a SUBMISSION names, whoever sent it."""
        agency = claimed_agency(leaf)
        now = self._clock()
        wait_s = max(self._records.wait_s(agency, now), self._bytes.wait_s(agency, now))
        if not wait_s:
            return None
        return self._limited("agency", wait_s, f"agency {agency} has appended as much as it may")

    def settle(self, address: str, item: tuple[bytes, bytes], outcome: Outcome) -> None:
        now = self._clock()
        if isinstance(outcome, Placement) or _passes(outcome):
            self._refused.pay(address, -_work(item), now)
        if isinstance(outcome, Placement) and not outcome.repeat:
            agency = claimed_agency(item[0])
            self._records.pay(agency, outcome.record_count, now)
            self._bytes.pay(agency, len(item[0]) + len(item[1]), now)

    # --- one address ---

    @contextmanager
    def _paid(self, address: str, work_s: float) -> Iterator[None]:
        now = self._clock()
        wait_s = self._refused.wait_s(address, now)
        if wait_s:
            raise self._limited("refusals", wait_s, "too much of what this address submits is refused")
        self._refused.pay(address, work_s, now)
        yield

    @contextmanager
    def _returned(self, address: str, work_s: float) -> Iterator[None]:
        with self._paid(address, work_s):
            try:
                yield
            except SudurError as error:
                if _passes(error):
                    self._refused.pay(address, -work_s, self._clock())
                raise
            self._refused.pay(address, -work_s, self._clock())

    def _limited(self, scope: Scope, wait_s: float, what: str) -> RateLimited:
        self._count(scope)
        wait_ms = math.ceil(wait_s * 1_000) + 1
        return RateLimited(
            f"{what} for now", where=scope, fix=f"send the same again in {wait_ms} ms", retry_ms=wait_ms
        )


def _passes(error: SudurError) -> bool:
    """Whether it is no fault of the caller's: the same may be taken later, here or by whoever leads."""
    if isinstance(error, ForwardedRefusal):
        return error.status.code in _PASSING
    return isinstance(error, RetryableError)


def _work(item: tuple[bytes, bytes]) -> float:
    """Seconds that refusing a submission takes at most."""
    leaf, packed = item
    signatures = leaf[_SIGNATURES_AT] if len(leaf) > _SIGNATURES_AT else 0
    return _SUBMISSION_S + _SIGNATURE_S * min(signatures, 16) + _BYTE_S * (len(leaf) + len(packed))


def claimed_agency(leaf: bytes) -> int:
    """The agency that a SUBMISSION bears, whoever made it; of other bytes anything."""
    return int.from_bytes(leaf[_AGENCY], "big")


# --- who calls ---------------------------------------------------------------------------------


def peer_address(peer: str) -> str:
    """The address in a peer as gRPC names it, such as ``ipv4:192.0.2.7:41002``."""
    return host_address(unquote(peer.partition(":")[2]).rpartition(":")[0].strip("[]"))


@lru_cache(4_096)
def host_address(host: str) -> str:
    """What a caller's IP address counts as: IPv6 by its /64, of which one host may use each address."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False))
