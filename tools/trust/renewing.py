"""A whole trust file renewed: each ledger by whatever serves it, and on into the ledger that follows.

A ledger comes into the file in one way only: one that is there was closed, by k of its n, and names it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from ledger.checkpoints import parse_checkpoint
from ledger.errors import CheckpointUntrusted, FormatError, ProofInvalid, WrongLedger
from ledger.hashing import leaf_hash
from ledger.notes import parse_note
from ledger.resources import CHECKPOINT, Resources, fetch_leaves
from ledger.trust import Trust, TrustedLedger
from ledger.trust_renewal import Renewal, Renewed, gather, parse_renewal, renew
from tools.errors import AnswerWrong
from tools.pinning import trusted_by_genesis


class Source(Protocol):
    """What one ledger can be renewed by. Nothing it gives is believed."""

    @property
    def name(self) -> str: ...

    @property
    def genesis_leaf(self) -> bytes: ...

    def renewal(self, trusted: TrustedLedger) -> Renewal: ...


class ServedSource:
    """Static resources. Raises what fetching raises, and AnswerWrong for what cannot be read."""

    def __init__(self, name: str, resources: Resources) -> None:
        self.name = name
        self._resources = resources
        try:
            size = parse_checkpoint(parse_note(resources.fetch(CHECKPOINT)).text).size
            (self.genesis_leaf,) = fetch_leaves(resources, 0, min(1, size), size)
        except (FormatError, ProofInvalid, ValueError) as error:
            raise AnswerWrong(f"what is served there is no ledger: {error}", where=name) from None

    @property
    def genesis(self) -> bytes:
        """The G of what is served there, by its own word."""
        return leaf_hash(self.genesis_leaf)

    def renewal(self, trusted: TrustedLedger) -> Renewal:
        return gather(self._resources, trusted)


class CarriedSource:
    """A renewal in a file, as ``sudur trust bundle`` makes it. Raises TrustFormatError."""

    def __init__(self, name: str, data: bytes) -> None:
        self.name = name
        self._renewal = parse_renewal(data)
        self.genesis_leaf = self._renewal.chain[0].leaf

    def renewal(self, trusted: TrustedLedger) -> Renewal:
        return self._renewal


@dataclass(frozen=True, slots=True)
class Outcome:
    """The trust as it would be, and what became of each ledger: ``added`` are those that came into it.

    ``waiting``: closed ledgers whose successor nothing was given for.
    """

    trust: Trust
    renewed: tuple[Renewed, ...]
    added: tuple[Renewed, ...]
    waiting: tuple[TrustedLedger, ...]


def renew_all(trust: Trust, sources: Sequence[Source], *, now_ms: int, greatest_age_s: int | None) -> Outcome:
    """Renew what the sources serve. Raises WrongLedger for one that has nothing to do with this file; as
    :func:`ledger.trust_renewal.renew`.
    """
    ledgers = {one.genesis: one for one in trust.ledgers}
    pending = {leaf_hash(one.genesis_leaf): one for one in sources}
    renewed: list[Renewed] = []
    added: list[Renewed] = []
    while True:
        here = next((genesis for genesis in pending if genesis in ledgers), None)
        if here is not None:
            source = pending.pop(here)
            found = renew(
                ledgers[here],
                source.renewal(ledgers[here]),
                now_ms=now_ms,
                greatest_age_s=greatest_age_s,
            )
            ledgers[here] = found.ledger
            (renewed if trust_has(trust, here) else added).append(found)
            continue
        before = next((one for one in ledgers.values() if one.closed and one.closed.genesis in pending), None)
        if before is None or before.closed is None:
            break
        ledgers[before.closed.genesis] = _successor(before, pending[before.closed.genesis])
    for genesis, source in pending.items():
        raise WrongLedger(
            f"it serves the ledger {genesis.hex()[:16]}; the trust file has neither that nor one before it",
            where=source.name,
            fix="a trust file of another ledger comes from that ledger's authority",
        )
    waiting = [one for one in ledgers.values() if one.closed and one.closed.genesis not in ledgers]
    return Outcome(Trust(tuple(ledgers.values())), tuple(renewed), tuple(added), tuple(waiting))


def trust_has(trust: Trust, genesis: bytes) -> bool:
    return any(one.genesis == genesis for one in trust.ledgers)


def _successor(before: TrustedLedger, source: Source) -> TrustedLedger:
    """What the successor's genesis lets one pin; the verifier's own policy goes with it.

    Raises CheckpointUntrusted when it is not what was named, or would make a real ledger of one for training.
    """
    pinned = trusted_by_genesis(source.genesis_leaf)
    if before.closed is None or pinned.origin != before.closed.origin:
        raise CheckpointUntrusted(
            f"{before.origin} names another origin for the ledger that follows it than {pinned.origin}",
            where=source.name,
        )
    if before.training and not pinned.training:
        raise CheckpointUntrusted(
            f"{before.origin} is for training, and cannot hand on trust to {pinned.origin}, which is not",
            where=source.name,
            fix="the trust file of a real ledger comes from its authority",
        )
    return replace(pinned, own_policy=before.own_policy)
