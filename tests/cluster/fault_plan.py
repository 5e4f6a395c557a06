"""Faults by chance, from a seed: what is broken next, and for how long."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from tests.cluster.etcds import Member
from tests.cluster.ledgers import Cluster, Node
from tests.cluster.links import State

SHORTEST_S: Final = 0.5
LONGEST_S: Final = 4.0


@dataclass(frozen=True, slots=True)
class Step:
    """Break ``fault``, leave it for ``hold_s``, mend everything."""

    fault: str
    hold_s: float
    choice: int
    """For whatever the fault chooses among."""

    def __str__(self) -> str:
        return f"{self.fault} for {self.hold_s:.1f} s (choice {self.choice})"

    def inject(self, cluster: Cluster) -> str:
        """Break it; returns what exactly."""
        return FAULTS[self.fault](_Chosen(cluster, self.choice))


def plan(seed: int) -> Iterator[Step]:
    """Steps without end, all faults in one order, then in another: the same for the same seed."""
    chance = random.Random(seed)
    while True:
        faults = list(FAULTS)
        chance.shuffle(faults)
        for fault in faults:
            yield Step(fault, chance.uniform(SHORTEST_S, LONGEST_S), chance.randrange(1 << 16))


@dataclass(frozen=True, slots=True)
class _Chosen:
    """Whom a step meets, as things stand when it comes."""

    cluster: Cluster
    choice: int

    @property
    def leader(self) -> Node:
        return self.cluster.wait_led()

    @property
    def follower(self) -> Node:
        followers = self.cluster.followers()
        return followers[self.choice % len(followers)]

    @property
    def etcd_leader(self) -> Member:
        return self.cluster.etcds.leader()

    @property
    def etcd_follower(self) -> Member:
        followers = self.cluster.etcds.followers()
        return followers[self.choice % len(followers)]

    @property
    def state(self) -> State:
        """CUT or STILL."""
        return (State.CUT, State.STILL)[self.choice // 7 % 2]


def _kill(*whom: Node | Member) -> str:
    for one in whom:
        one.kill()
    return f"killed {', '.join(one.name for one in whom)}"


def _pause(*whom: Node | Member) -> str:
    for one in whom:
        one.pause()
    return f"stopped {', '.join(one.name for one in whom)}"


def _isolate(chosen: _Chosen, node: Node, *, peers: bool, etcd: bool) -> str:
    chosen.cluster.isolate(node, chosen.state, peers=peers, etcd=etcd)
    of = " and ".join(name for name, cut in (("its peers", peers), ("etcd", etcd)) if cut)
    return f"{node.name} off {of}, {chosen.state.name}"


def _one_way(chosen: _Chosen, caller: Node, called: Node) -> str:
    link = chosen.cluster.links.link(caller.name, called.name)
    link.set(chosen.state)
    return f"{link.name} {chosen.state.name}"


def _slow(chosen: _Chosen) -> str:
    for link in chosen.cluster.links.all():
        link.delay_s = 0.05
    return "every link 50 ms slow"


def _flap(chosen: _Chosen) -> str:
    for link in chosen.cluster.links.all():
        link.set(State.CUT)
        link.set(State.UP)
    return "every connection ended once"


def _terminate(chosen: _Chosen) -> str:
    leader = chosen.leader
    leader.stop()
    return f"{leader.name} was told to stop"


def _fill(chosen: _Chosen) -> str:
    chosen.cluster.fill_etcd()
    return "etcd is full"


FAULTS: Final[dict[str, Callable[[_Chosen], str]]] = {
    "kill the leader": lambda at: _kill(at.leader),
    "kill a follower": lambda at: _kill(at.follower),
    "kill etcd's leader": lambda at: _kill(at.etcd_leader),
    "kill an etcd follower": lambda at: _kill(at.etcd_follower),
    "kill the leader and etcd's": lambda at: _kill(at.leader, at.etcd_leader),
    "kill all nodes": lambda at: _kill(*at.cluster.nodes),
    "kill all of etcd": lambda at: _kill(*at.cluster.etcds.members),
    "kill everything": lambda at: _kill(*at.cluster.nodes, *at.cluster.etcds.members),
    "kill all followers": lambda at: _kill(*at.cluster.followers()),
    "stop the leader": lambda at: _pause(at.leader),
    "stop a follower": lambda at: _pause(at.follower),
    "stop etcd's leader": lambda at: _pause(at.etcd_leader),
    "terminate the leader": _terminate,
    "leader off its peers": lambda at: _isolate(at, at.leader, peers=True, etcd=False),
    "leader off etcd": lambda at: _isolate(at, at.leader, peers=False, etcd=True),
    "leader off all": lambda at: _isolate(at, at.leader, peers=True, etcd=True),
    "follower off all": lambda at: _isolate(at, at.follower, peers=True, etcd=True),
    "leader to a follower": lambda at: _one_way(at, at.leader, at.follower),
    "a follower to the leader": lambda at: _one_way(at, at.follower, at.leader),
    "slow links": _slow,
    "flapping links": _flap,
    "etcd full": _fill,
}
