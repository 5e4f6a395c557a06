"""What an error of a call to etcd means: was it carried out, and may another endpoint do better?

The answer that must never be wrong is "certainly not carried out". It is given only for what etcd says
before it proposes anything to its members, and for calls that never left this process.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

import grpc

from node.errors import EtcdError, EtcdFull, EtcdRefused, EtcdUnavailable, LeaseGone, OutcomeUnknown


class Fate(Enum):
    """What became of a request that failed."""

    NOT_DONE = "certainly not carried out"
    OPEN = "carried out, or not, or yet to be"


@dataclass(frozen=True, slots=True)
class Failure:
    """``elsewhere``: another endpoint, or a later moment, may do better."""

    error: EtcdError
    fate: Fate
    elsewhere: bool


_REFUSALS: Final = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.FAILED_PRECONDITION,
    }
)


def judge(error: grpc.RpcError, address: str, what: str) -> Failure:
    """What an error of gRPC means. When in doubt, the fate is open."""
    code, details = code_of(error), _details(error)
    said = f"{what}: {details or code.name.lower()}"
    if "database space exceeded" in details:
        full = EtcdFull(
            f"{what}: etcd has used up its quota",
            where=address,
            fix="compact and defragment etcd, disarm its NOSPACE alarm, and see docs/operations.md",
        )
        return Failure(full, Fate.NOT_DONE, elsewhere=False)
    if details == "etcdserver: requested lease not found":
        gone = LeaseGone(f"{what}: the lease ran out or was revoked", where=address, fix="ask for a new one")
        return Failure(gone, Fate.NOT_DONE, elsewhere=False)
    if code is grpc.StatusCode.DATA_LOSS:
        corrupt = EtcdRefused(
            f"{what}: etcd's members found that they differ",
            where=address,
            fix="rebuild etcd as its manual says; the ledger is with the nodes, see `sudur node reseed`",
        )
        return Failure(corrupt, Fate.OPEN, elsewhere=False)
    if code in _REFUSALS:
        refused = EtcdRefused(said, where=address, fix="check what serves at this address, and its rights")
        return Failure(refused, Fate.NOT_DONE, elsewhere=False)
    if details.startswith(("failed to connect to all addresses", "DNS resolution failed")):
        # gRPC's own words for a call that never left: another wording only makes the answer less exact.
        return Failure(
            EtcdUnavailable(said, where=address, fix=_connection_fix(details)), Fate.NOT_DONE, True
        )
    if details in ("etcdserver: no leader", "etcdserver: too many requests"):
        absent = EtcdUnavailable(said, where=address, fix="see that a majority of etcd's members runs")
        return Failure(absent, Fate.NOT_DONE, elsewhere=True)
    lost = EtcdUnavailable(said, where=address, fix="see that a majority of etcd's members runs")
    return Failure(lost, Fate.OPEN, elsewhere=True)


def _connection_fix(details: str) -> str:
    if any(word in details for word in ("CERTIFICATE", "Hostname Verification", "verification check")):
        return "check that both sides have certificates of one CA, valid today, with this host's name"
    if "handshake" in details.lower() or "WRONG_VERSION" in details:
        return "one side speaks TLS and the other does not, or not as this one does"
    return "see that etcd runs there and can be reached"


def unknown(failure: Failure, what: str) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"{what}: no answer came in time, so it may have been done or not (last: {failure.error})",
        where=failure.error.where,
        fix="read what stands there; send nothing but the identical request again",
    )


def code_of(error: grpc.RpcError) -> grpc.StatusCode:
    assert isinstance(error, grpc.Call)
    return error.code()


def _details(error: grpc.RpcError) -> str:
    assert isinstance(error, grpc.Call)
    return error.details() or ""
