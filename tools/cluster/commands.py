"""``sudur cluster``: try a replicated ledger on one machine, and see how one is."""

from __future__ import annotations

import shlex
import signal
import threading
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from ledger.canonical_json import Json
from ledger.errors import SudurError
from sudur.v1 import ledger_pb2 as pb
from tools.client import LedgerClient
from tools.cluster import administration
from tools.cluster.local import LocalCluster
from tools.errors import EXIT_NOT_GENUINE
from tools.options import Json_, Node, connect
from tools.ui import emit_json, remark, say, show_table

app = typer.Typer(no_args_is_help=True, help="For operators of several nodes: try a cluster, see how one is.")
app.add_typer(administration.app, name="member")

_WATCH_S = 0.5
_START_S = 60.0


@app.command()
def up(
    directory: Annotated[
        Path, typer.Option("--dir", metavar="DIR", file_okay=False, help="Where everything is kept.")
    ] = Path("cluster-data"),
    nodes: Annotated[int, typer.Option(min=1, max=9, metavar="N", help="How many nodes; 3 or 5.")] = 3,
    port: Annotated[
        int,
        typer.Option(min=1_024, max=64_000, metavar="PORT", help="Node 1 takes PORT+10 and the ones behind."),
    ] = 7_100,
) -> None:
    """Start a whole cluster on this machine, etcd included, and keep it up until Ctrl-C.

    A second run with the same directory goes on with it. The ledger is one for training.

    Example: sudur cluster up --nodes 3 --dir /tmp/cluster
    """
    cluster = LocalCluster(directory, nodes, port)
    if cluster.found():
        remark(f"A new authority and ledger for training are in {cluster.authority}.")
    remark(f"Starting {nodes} members of etcd and {nodes} nodes; their logs are in {directory}.")
    try:
        cluster.start(lambda at: _serves(cluster, at), _START_S)
        say(f"{nodes} nodes serve, and {nodes} members of etcd decide.")
        for process in cluster.processes:
            say(f"  {process.name}  pid {process.pid}  log {process.log}")
        say()
        authority = shlex.quote(str(cluster.authority))
        say(f"  sudur cluster status --node {cluster.nodes}")
        say(f"  sudur authority enrol --dir {authority} --node {cluster.nodes} --name 'en=An Agency'")
        say(f"  kill -9 a pid, and look again; the journal is {cluster.journal}")
        say()
        remark("Ctrl-C stops all of it.")
        _keep_up(cluster)
    finally:
        cluster.stop()


def _serves(cluster: LocalCluster, at: int) -> bool:
    with LedgerClient(f"127.0.0.1:{cluster.ports[at].grpc}", patience_s=0.0, deadline_s=2.0) as client:
        try:
            state = client.cluster()
        except SudurError:
            return False
    return bool(state.leader)


def _keep_up(cluster: LocalCluster) -> None:
    """Until told to stop; says when a process ends, since killing one is what this is for."""
    asked = threading.Event()
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, lambda *_: asked.set())
    up = {process.name for process in cluster.processes}
    while not asked.wait(_WATCH_S):
        for process in cluster.processes:
            if process.name in up and not process.pid:
                up.discard(process.name)
                command = " ".join(shlex.quote(word) for word in process.command)
                remark(f"{process.name} has ended. To start it again:\n  {command}")


@app.command()
def status(node: Node, as_json: Json_ = False) -> None:
    """Show what each member has applied, who leads, and how etcd is, as one member sees it.

    Exit codes: 0 all is well, 1 something is not.

    Example: sudur cluster status --node 127.0.0.1:7110,127.0.0.1:7120,127.0.0.1:7130
    """
    with connect(node) as client:
        state = client.cluster()
    problems = _problems(state)
    if as_json:
        emit_json({**_json(state), "problems": list(problems)})
    else:
        _show(state, problems)
    if problems:
        raise typer.Exit(EXIT_NOT_GENUINE)


def _problems(state: pb.GetClusterResponse) -> list[str]:
    found = []
    if not state.leader and not any(one.leads for one in state.members):
        found.append("nobody leads")
    if state.trouble:
        found.append(f"{state.name}: {state.trouble}")
    for member in state.members:
        if member.unheard:
            found.append(f"{member.name} was not heard: {member.unheard}")
        elif member.trouble and member.trouble != state.trouble:
            found.append(f"{member.name}: {member.trouble}")
        if member.frozen:
            found.append(f"{member.name} waits for epoch {member.frozen}")
    rules = {one.name: ", ".join(map(str, one.rules)) for one in state.members if not one.unheard}
    if len(set(rules.values())) > 1:
        found.append("the members have different rules: " + "; ".join(f"{n}: {v}" for n, v in rules.items()))
    found += [f"etcd at {one.address}: {one.trouble}" for one in state.etcd if one.trouble]
    return found


def _show(state: pb.GetClusterResponse, problems: list[str]) -> None:
    head = state.head
    if state.HasField("head"):
        say(f"etcd holds block {head.block}, {head.size} leaves, epoch {head.epoch}.")
    say(f"Leader: {state.leader or 'none'}. As {state.name} sees it:")
    say()
    table = Table("member", "role", "applied", "behind", "released", "software", "clock", box=None)
    for member in state.members:
        if member.unheard:
            table.add_row(member.name, "not heard", "", "", "", "", "")
            continue
        applied = member.applied
        behind = head.block - applied.block if state.HasField("head") and member.HasField("applied") else None
        table.add_row(
            member.name,
            "leads" if member.leads else "follows",
            f"block {applied.block}, epoch {applied.epoch}" if member.HasField("applied") else "nothing",
            "" if behind is None else str(max(0, behind)),
            f"block {member.released - 1}" if member.released else "nothing",
            member.software_version,
            f"{member.time_ms - state.time_ms:+d} ms",
        )
    show_table(table)
    say()
    etcd = Table("etcd", "role", "database", "version", box=None)
    for one in state.etcd:
        if one.trouble:
            etcd.add_row(one.address, "in trouble", "", one.version)
        else:
            role = "leads" if one.leads else "follows"
            etcd.add_row(one.address, role, f"{one.database_bytes >> 10} KiB", one.version)
    show_table(etcd)
    for problem in problems:
        say(f"! {problem}")


def _json(state: pb.GetClusterResponse) -> dict[str, Json]:
    members: list[Json] = [
        {
            "name": one.name,
            "heard": not one.unheard,
            "leads": one.leads,
            "applied": _head_json(one.applied) if one.HasField("applied") else None,
            "released_block": one.released - 1 if one.released else None,
            "frozen": one.frozen or None,
            "trouble": one.trouble or one.unheard or None,
            "software": one.software_version,
            "rules": list(one.rules),
            "clock_offset_ms": 0 if one.unheard else one.time_ms - state.time_ms,
        }
        for one in state.members
    ]
    etcd: list[Json] = [
        {
            "address": one.address,
            "leads": one.leads,
            "database_bytes": one.database_bytes,
            "version": one.version,
            "trouble": one.trouble or None,
        }
        for one in state.etcd
    ]
    return {
        "name": state.name,
        "leader": state.leader or None,
        "head": _head_json(state.head) if state.HasField("head") else None,
        "members_version": state.members_version,
        "members": members,
        "etcd": etcd,
        "trouble": state.trouble or None,
    }


def _head_json(head: pb.ClusterHead) -> Json:
    return {"epoch": head.epoch, "block": head.block, "size": head.size, "root": head.root.hex()}
