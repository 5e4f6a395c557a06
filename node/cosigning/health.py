"""How each witness is, for operators: one value a witness, and what /metrics shows of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector as PrometheusCollector

from node.cosigning.answers import Trouble
from node.cosigning.policies import policy_at
from node.ledger_copy import LedgerCopy


@dataclass(frozen=True, slots=True)
class WitnessHealth:
    """A witness of the policy in force, as this node knows it.

    ``url``: where it is asked; "" when this node does not ask it. ``size``: the largest that it cosigned,
    and ``time_s`` the time that it wrote there, seconds since 1970; 0 for none. ``trouble``: why it
    does not cosign now, ``what`` in words; ``failures``: so many times in a row. ``took_s``: how long its
    last answer took.
    """

    name: str
    key: str
    url: str
    size: int = 0
    time_s: int = 0
    trouble: Trouble | None = None
    what: str = ""
    failures: int = 0
    took_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Cosigning:
    """How far publication is. ``published``: 0 for nothing yet. ``asked``: whether a policy is in force."""

    signed: int
    published: int
    asked: bool
    witnesses: Sequence[WitnessHealth]


def cosigning_of(copy: LedgerCopy, known: Sequence[WitnessHealth] = ()) -> Cosigning:
    """How it stands here: what this node knows of the witnesses that it asks, and what is kept of them.

    About 50 µs a witness.
    """
    signed, newest = copy.published, copy.witnessed.newest
    published = 0 if newest is None else newest.size
    policy = policy_at(signed.state.registry.ledger, signed.size)
    if policy is None:
        return Cosigning(signed.size, published, False, ())
    asked = {one.name: one for one in known}
    kept = {} if newest is None else {one.key: one.time_s for one in copy.witnessed.cosignatures(newest.size)}
    found = []
    for one in policy.witnesses:
        health = asked.get(one.name) or WitnessHealth(one.name, one.key.format(), "")
        time_s = kept.get(one.key)
        if time_s is not None and published >= health.size:
            health = replace(health, size=published, time_s=max(time_s, health.time_s))
        found.append(health)
    return Cosigning(signed.size, published, True, found)


_LABEL: Final = ("witness",)


class WitnessMetrics(PrometheusCollector):
    """The gauges of all witnesses, read at each scrape."""

    def __init__(self, cosigning: Callable[[], Cosigning]) -> None:
        self._cosigning = cosigning

    def collect(self) -> Iterable[Metric]:
        """See prometheus_client."""
        now = self._cosigning()
        size = GaugeMetricFamily(
            "sudur_witness_cosigned_size", "Leaves under its newest cosignature", labels=_LABEL
        )
        time = GaugeMetricFamily(
            "sudur_witness_cosigned_timestamp_seconds",
            "Time in its newest cosignature; 0: none",
            labels=_LABEL,
        )
        lag = GaugeMetricFamily(
            "sudur_witness_lag_leaves", "Leaves signed since what it cosigned", labels=_LABEL
        )
        failures = GaugeMetricFamily(
            "sudur_witness_failures", "Times in a row that it did not cosign", labels=_LABEL
        )
        alarm = GaugeMetricFamily(
            "sudur_witness_alarm",
            "1 while it says that it has seen more of this log, or another history",
            labels=_LABEL,
        )
        for one in now.witnesses:
            name = [one.name]
            size.add_metric(name, one.size)
            time.add_metric(name, one.time_s)
            lag.add_metric(name, max(0, now.signed - one.size))
            failures.add_metric(name, one.failures)
            alarm.add_metric(name, float(one.trouble is not None and one.trouble.is_alarm))
        return (size, time, lag, failures, alarm)
