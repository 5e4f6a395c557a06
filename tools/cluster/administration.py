"""``sudur cluster member`` and ``sudur node reseed``: what an operator does to a cluster that runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ledger.checkpoints import Checkpoint
from ledger.errors import SudurError
from ledger.notes import MAX_NOTE_SIZE
from tools.errors import Usage
from tools.files import read_file
from tools.pinning import load_trust, only_ledger
from tools.tls_options import tls_files
from tools.ui import remark, say

if TYPE_CHECKING:
    from node.cluster.administration import Cluster
    from node.config import Address

app = typer.Typer(no_args_is_help=True, help="Who may vote: add a member, or take one away.")


_Journal = Annotated[str, typer.Option(metavar="etcd://HOST:PORT,…", help="The cluster's etcd.")]
_Peers = Annotated[str, typer.Option(metavar="ADDR[,ADDR…]", help="Peer addresses of members: their --peer.")]
_File = Annotated[Path | None, typer.Option(metavar="FILE", help="As at `sudur node start`.")]
_Wait = Annotated[
    int, typer.Option(metavar="SECONDS", min=0, help="How long to wait until the change is safe.")
]


@app.command()
def add(
    member: Annotated[str, typer.Argument(metavar="NAME=ADDR", help="The node's --name and --peer.")],
    journal: _Journal,
    peers: _Peers,
    wait: _Wait = 60,
    peer_cert: _File = None,
    peer_key: _File = None,
    peer_ca: _File = None,
    etcd_cert: _File = None,
    etcd_key: _File = None,
    etcd_ca: _File = None,
) -> None:
    """Let a node vote that runs with --journal and has caught up. One at a time.

    Example: sudur cluster member add n4=10.0.0.4:7090 --journal etcd://10.0.0.1:2379 --peers 10.0.0.1:7090
    """
    from node.cluster.administration import add_member, ledger_of
    from node.cluster.members import check_name

    name, _, address = member.partition("=")
    with _cluster(journal, peer_cert, peer_key, peer_ca, etcd_cert, etcd_key, etcd_ca) as cluster:
        with _usage():
            name, where = check_name(name), _addresses(address)[0]
        genesis = ledger_of(cluster, _addresses(peers))
        add_member(cluster, genesis, name, where, wait, say)


@app.command()
def remove(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The member that is to go.")],
    journal: _Journal,
    peers: _Peers,
    wait: _Wait = 60,
    peer_cert: _File = None,
    peer_key: _File = None,
    peer_ca: _File = None,
    etcd_cert: _File = None,
    etcd_key: _File = None,
    etcd_ca: _File = None,
) -> None:
    """Take a member's vote away; it may be down. A member whose mark is lost is removed, then added anew.

    Example: sudur cluster member remove n2 --journal etcd://10.0.0.1:2379 --peers 10.0.0.1:7090
    """
    from node.cluster.administration import ledger_of, remove_member

    with _cluster(journal, peer_cert, peer_key, peer_ca, etcd_cert, etcd_key, etcd_ca) as cluster:
        genesis = ledger_of(cluster, _addresses(peers))
        remove_member(cluster, genesis, name, wait, say)


def reseed(
    journal: _Journal,
    peers: _Peers,
    without: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Go on without this member, which does not answer. Repeatable."),
    ] = None,
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="A signed checkpoint known elsewhere (a mirror, a witness): the kept chain must hold it."
            " Repeatable; needs --trust.",
        ),
    ] = None,
    trust: Annotated[
        Path | None,
        typer.Option(metavar="TRUST.json", exists=True, dir_okay=False, help="Whose checkpoints those are."),
    ] = None,
    survivors_only: Annotated[
        bool,
        typer.Option(
            "--survivors-only",
            help="The members that answer are the cluster from now on, however few: answers may be lost.",
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    peer_cert: _File = None,
    peer_key: _File = None,
    peer_ca: _File = None,
    etcd_cert: _File = None,
    etcd_key: _File = None,
    etcd_ca: _File = None,
) -> None:
    """Open a new epoch, after etcd was restored, wiped, or has lost what was decided.

    Each member that answers first promises to vote no more before it; then the chain is kept that a majority
    can have applied, and etcd is told. No answer is lost that way, and no checkpoint contradicted. Never
    found the ledger anew instead. It may be killed and given again.

    Example: sudur node reseed --journal etcd://10.0.0.1:2379 --peers 10.0.0.1:7090,10.0.0.2:7090
    """
    from node.cluster.administration import ReseedPlan
    from node.cluster.administration import reseed as open_epoch

    released = _checkpoints(checkpoint or [], trust)
    if survivors_only and not yes:
        remark("What was answered and is held by none of those that answer now is lost, and checkpoints")
        remark("of it contradict what comes. First look for a mirror that has more; give its --checkpoint.")
        if not typer.confirm("Go on with the survivors only?", err=True):
            raise typer.Exit(1)
    with _cluster(journal, peer_cert, peer_key, peer_ca, etcd_cert, etcd_key, etcd_ca) as cluster:
        plan = ReseedPlan(_addresses(peers), tuple(without or ()), survivors_only, released)
        done = open_epoch(cluster, plan, say)
    if done.behind:
        say(f"{', '.join(done.behind)} will fetch what they lack, by themselves.")
    if done.parted:
        say(
            f"{', '.join(done.parted)} had applied what was not kept, and nobody was told of: they begin"
            " anew, by themselves, and put the old database aside."
        )
    say("Look at `sudur cluster status` until all are level.")


def _checkpoints(paths: list[Path], trust: Path | None) -> tuple[Checkpoint, ...]:
    if paths and trust is None:
        raise Usage("nobody knows whose checkpoints they are", where="--checkpoint", fix="give --trust")
    found = []
    for path in paths:
        assert trust is not None
        ledger = only_ledger(load_trust(trust))
        found.append(ledger.open(read_file(path, MAX_NOTE_SIZE)).checkpoint)
    return tuple(found)


@contextmanager
def _usage() -> Iterator[None]:
    """What the operator wrote wrongly is wrong usage."""
    try:
        yield
    except SudurError as error:
        raise Usage(error.what, where=error.where, fix=error.fix) from None


def _addresses(text: str) -> list[Address]:
    from node.config import Address

    with _usage():
        return [Address.parse(one.strip()) for one in text.split(",")]


@contextmanager
def _cluster(
    journal: str,
    peer_cert: Path | None,
    peer_key: Path | None,
    peer_ca: Path | None,
    etcd_cert: Path | None,
    etcd_key: Path | None,
    etcd_ca: Path | None,
) -> Iterator[Cluster]:
    from node.cluster.administration import Cluster
    from node.cluster.etcd_client import EtcdClient, parse_endpoints
    from node.tls import TlsCredentials
    from transport.certificates import Purpose

    peer = tls_files("--peer-cert", peer_cert, "--peer-key", peer_key, "--peer-ca", peer_ca, mutual=True)
    etcd = tls_files("--etcd-cert", etcd_cert, "--etcd-key", etcd_key, "--etcd-ca", etcd_ca, mutual=True)
    with _usage():
        endpoints = parse_endpoints(journal)
    client = EtcdClient(endpoints, None if etcd is None else TlsCredentials(etcd, Purpose.CLIENT))
    try:
        yield Cluster(client, None if peer is None else TlsCredentials(peer, Purpose.MEMBER))
    finally:
        client.close()
