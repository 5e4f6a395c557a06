"""What /metrics shows of a member of a cluster, beside what it shows of any node.

Counted as it happens (:class:`ClusterMetrics`), or read at each scrape from what the member knows anyway
(:class:`MemberGauges`): no scrape waits for a disk, a member or etcd.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from node.cluster.errors import EtcdAbsent, EtcdBehind, EtcdDiffers, MemberUnknown
from node.cluster.member import STORE_FAILED, ClusterMember
from node.cluster.observer import Observer
from node.cluster.rounds import Rounds
from node.metrics import Metrics

ALARMS: Final = (EtcdAbsent.code, EtcdBehind.code, EtcdDiffers.code, MemberUnknown.code, STORE_FAILED)
_CALL_BUCKETS: Final = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.03, 0.06, 0.1, 0.3, 1, 3, 10)


class ClusterMetrics(Observer):
    """Counts what an observer is told. Costs some µs a time."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self.registry: CollectorRegistry = metrics.registry
        self.decided_block = -1
        self._begun = self._counter("cluster_terms_begun", "Times that this member began to lead")
        self._ended = self._counter("cluster_terms_ended", "Times that it ceased to, by reason", "reason")
        self._peer_calls = self._counter(
            "peer_calls", "Calls to another member, by member and code", "member", "code"
        )
        self._peer_seconds = self._histogram("peer_call_seconds", "Time of a call to a member", "member")
        self._confirms = self._counter(
            "cluster_confirm_retries", "Times that members were asked again whether they had applied a block"
        )
        self._entries = self._counter("catch_up_entries", "Entries fetched from other members and applied")
        self._catch_ups = self._counter("catch_ups", "Runs of missing blocks fetched, by code", "code")
        self._etcd_calls = self._counter(
            "etcd_calls", "Tries of calls to etcd, by kind and code", "kind", "code"
        )
        self._etcd_seconds = self._histogram("etcd_call_seconds", "Time of a try of a call to etcd", "kind")
        self._etcd_retries = self._counter("etcd_retries", "Calls to etcd that were sent again", "kind")

    def step(self, name: str, seconds: float) -> None:
        self._metrics.commit_step(name, seconds)

    def decided(self, block: int) -> None:
        self.decided_block = block

    def term_begun(self) -> None:
        self._begun.inc()

    def term_ended(self, why: str) -> None:
        self._ended.labels(why).inc()

    def peer_called(self, member: str, code: str, seconds: float) -> None:
        self._peer_calls.labels(member, code).inc()
        self._peer_seconds.labels(member).observe(seconds)

    def confirm_repeated(self) -> None:
        self._confirms.inc()

    def caught_up(self, entries: int) -> None:
        self._entries.inc(entries)

    def catch_up_ended(self, code: str) -> None:
        self._catch_ups.labels(code).inc()

    def etcd_called(self, kind: str, code: str, seconds: float) -> None:
        self._etcd_calls.labels(kind, code).inc()
        self._etcd_seconds.labels(kind).observe(seconds)

    def etcd_retried(self, kind: str) -> None:
        self._etcd_retries.labels(kind).inc()

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"sudur_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, *labels: str) -> Histogram:
        return Histogram(f"sudur_{name}", text, labels, registry=self.registry, buckets=_CALL_BUCKETS)


class MemberGauges(Collector):
    """What a member is at the moment, and how the others were in the last round."""

    def __init__(self, metrics: ClusterMetrics, member: ClusterMember, rounds: Rounds) -> None:
        self._metrics = metrics
        self._member = member
        self._rounds = rounds

    def collect(self) -> Iterable[Metric]:
        """Read all, for one scrape."""
        member, decided = self._member, self._metrics.decided_block
        vote = member.replica.vote
        applied = -1 if vote.head is None else vote.head.block
        yield _gauge("leads", "1 while this member leads", member.leads)
        yield _gauge("epoch", "The epoch that this member votes in", vote.epoch)
        yield _gauge("frozen", "1 while it votes in none, and waits for a reseed to end", vote.is_frozen)
        yield _gauge("decided_block", "The newest block that it has seen in etcd; -1: none", decided)
        yield _gauge("applied_block", "The newest block that it has applied; -1: none", applied)
        yield _gauge(
            "blocks_behind", "Blocks that it has seen in etcd and not applied", max(0, decided - applied)
        )
        yield _gauge(
            "catching_up", "1 while it fetches blocks from another member", member.replica.is_catching_up
        )
        alarms = GaugeMetricFamily(
            "sudur_cluster_alarm", "1 while an operator has to act, by reason", labels=["reason"]
        )
        for reason in ALARMS:
            alarms.add_metric([reason], float(member.alarm_reason == reason))
        yield alarms
        yield from self._others(applied)
        yield from self._endpoints()

    def _others(self, applied: int) -> Iterable[Metric]:
        up = GaugeMetricFamily("sudur_peer_up", "1 if another member answers", labels=["member"])
        behind = GaugeMetricFamily(
            "sudur_peer_blocks_behind", "Blocks applied here that it has not applied", labels=["member"]
        )
        clock = GaugeMetricFamily(
            "sudur_peer_clock_offset_seconds", "How far its clock is ahead of this one's", labels=["member"]
        )
        for name, found in self._rounds.peers.items():
            up.add_metric([name], float(found.up))
            if found.up:
                behind.add_metric([name], max(0, applied - found.applied))
                clock.add_metric([name], found.clock_ahead_s)
        return up, behind, clock

    def _endpoints(self) -> Iterable[Metric]:
        up = GaugeMetricFamily("sudur_etcd_up", "1 if this endpoint of etcd answers", labels=["endpoint"])
        complains = GaugeMetricFamily(
            "sudur_etcd_complains", "1 if it complains, or knows no leader", labels=["endpoint"]
        )
        size = GaugeMetricFamily("sudur_etcd_database_bytes", "Size of its database", labels=["endpoint"])
        for endpoint, found in self._rounds.etcd.items():
            up.add_metric([endpoint], float(found.up))
            if found.up:
                complains.add_metric([endpoint], float(found.complains))
                size.add_metric([endpoint], found.database_bytes)
        return up, complains, size


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"sudur_cluster_{name}", text, value=float(value))
