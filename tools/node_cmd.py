"""``sudur node``: start a node, check a node's data."""

from __future__ import annotations

import asyncio
import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ledger.leaves import MAX_LEAF_SIZE
from ledger.signatures import Signer
from tools import backup_commands
from tools.cluster.administration import reseed
from tools.errors import EXIT_NOT_GENUINE, KeyFileError, Usage
from tools.files import read_file
from tools.keyfile import KeyFile, make_key, save_key, save_public_key
from tools.options import Json_, OfAlgorithm, PassphraseFile, channels, number_of
from tools.pinning import load_trust, only_ledger
from tools.portable.key_command import receipt_key
from tools.tls_options import tls_files
from tools.ui import Passphrase, emit_json, remark, say

if TYPE_CHECKING:
    from node.cluster.run_member import ClusterSettings

app = typer.Typer(no_args_is_help=True, help="For operators: start a node, check its data, back it up.")

_Data = Annotated[
    Path, typer.Option("--data", metavar="DIR", file_okay=False, help="The node's data directory.")
]
_Mark = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        dir_okay=False,
        help="The signed high-water mark. Default: beside the data directory.",
    ),
]


for _command in (
    backup_commands.backup,
    backup_commands.verify_backup,
    backup_commands.restore,
    backup_commands.drill,
    receipt_key,
    reseed,
):
    app.command()(_command)


class LogFormat(StrEnum):
    JSON = "json"
    CONSOLE = "console"


@app.command()
def start(
    data: _Data,
    log_key: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="The log's private key (log.key.json). Repeatable: each signs that is registered. A mirror"
            " has none.",
        ),
    ] = None,
    receipt_keys: Annotated[
        list[Path] | None,
        typer.Option(
            "--receipt-key",
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="Signs COSE receipts and status tokens. Repeatable: the first signs, all are published.",
        ),
    ] = None,
    follow: Annotated[
        str,
        typer.Option(
            metavar="ADDR[,ADDR…]",
            help="Be a mirror: follow these nodes, the next when one fails. It needs --trust.",
        ),
    ] = "",
    trust: Annotated[
        Path | None,
        typer.Option(metavar="TRUST.json", exists=True, dir_okay=False, help="What a mirror believes."),
    ] = None,
    genesis: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", exists=True, dir_okay=False, help="At first start: the ledger's genesis.leaf."
        ),
    ] = None,
    grpc: Annotated[str, typer.Option(metavar="ADDR", help="Where gRPC listens.")] = "127.0.0.1:7070",
    http: Annotated[str, typer.Option(metavar="ADDR", help="Where HTTP listens.")] = "127.0.0.1:7080",
    public_url: Annotated[
        str,
        typer.Option(metavar="URL", help="Where readers reach the static resources, if elsewhere."),
    ] = "",
    tls_cert: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="gRPC and HTTP speak TLS, and show this certificate (PEM)."),
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Its private key (PEM, not encrypted).")
    ] = None,
    client_ca: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="gRPC callers must show a certificate that this authority issued (PEM)."
        ),
    ] = None,
    journal: Annotated[
        str,
        typer.Option(
            metavar="etcd://HOST:PORT,…",
            help="Be a member of a cluster: etcd decides. It needs --name and --peer.",
        ),
    ] = "",
    name: Annotated[str, typer.Option(metavar="NAME", help="This member's name, as n1.")] = "",
    peer: Annotated[str, typer.Option(metavar="ADDR", help="Where the other members reach this one.")] = "",
    peer_listen: Annotated[
        str,
        typer.Option(metavar="ADDR", help="Where it listens for them, if not at --peer, as 0.0.0.0:7090."),
    ] = "",
    members: Annotated[
        str,
        typer.Option(
            metavar="NAME=ADDR,…",
            help="At the first start of a cluster: all its members' names and peer addresses.",
        ),
    ] = "",
    peer_cert: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What this node shows to the cluster's other members (PEM)."),
    ] = None,
    peer_key: Annotated[Path | None, typer.Option(metavar="FILE", help="Its private key.")] = None,
    peer_ca: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The authority of the members' certificates.")
    ] = None,
    etcd_cert: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What this node shows to etcd (PEM).")
    ] = None,
    etcd_key: Annotated[Path | None, typer.Option(metavar="FILE", help="Its private key.")] = None,
    etcd_ca: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The authority of etcd's certificates.")
    ] = None,
    mark: _Mark = None,
    clock_is_right: Annotated[
        bool,
        typer.Option(
            "--clock-is-right", help="You have looked at the clock: begin again after more than 7 days."
        ),
    ] = False,
    witness_url: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=URL",
            help="Where to ask a witness of the policy, if it says no address, or another. Repeatable.",
        ),
    ] = None,
    witness_ca: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The authority of the witnesses' certificates (PEM)."),
    ] = None,
    witness_refresh: Annotated[
        int,
        typer.Option(metavar="SECONDS", min=1, help="How often a head that stands still is cosigned anew."),
    ] = 300,
    without_witness: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="At a start, neither wait for this witness nor believe it. You have made sure that this is"
            " the newest copy of the ledger, and the only one that signs. Repeatable.",
        ),
    ] = None,
    idle_seal: Annotated[
        int,
        typer.Option(metavar="SECONDS", min=1, help="Seal an empty block when none came for so long."),
    ] = 3_600,
    envelope_days: Annotated[
        int,
        typer.Option(metavar="N", min=1, max=3_650, help="How long an unanswered envelope is kept, in days."),
    ] = 90,
    envelope_space: Annotated[
        int, typer.Option(metavar="MIB", min=0, help="Space for all envelopes, in MiB.")
    ] = 16_384,
    envelope_share: Annotated[
        int, typer.Option(metavar="MIB", min=0, help="Space for the envelopes of one agency, in MiB.")
    ] = 1_024,
    agency_records: Annotated[
        int, typer.Option(metavar="N", min=1, help="Records a second that an agency may append for good.")
    ] = 20_000,
    agency_kib: Annotated[
        int, typer.Option(metavar="KIB", min=1, help="KiB a second that an agency may append for good.")
    ] = 4_096,
    agency_burst: Annotated[
        int, typer.Option(metavar="SECONDS", min=1, help="It may append so many seconds' worth at once.")
    ] = 500,
    address_calls: Annotated[
        int, typer.Option(metavar="N", min=1, help="Calls a second from one IP address, gRPC and HTTP.")
    ] = 2_000,
    address_refused: Annotated[
        int,
        typer.Option(metavar="MS", min=1, help="Work a second, in ms, that an address may cause in vain."),
    ] = 100,
    log_format: Annotated[
        LogFormat, typer.Option(help="How the node's own log is written.")
    ] = LogFormat.JSON,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Start a node and serve until SIGTERM or Ctrl-C.

    It prints its addresses, as one line of JSON, as soon as it serves; its log goes to stderr.

    A mirror (--follow) is a copy for reading: it checks all that it takes over, and serves it without a link.

    A member of a cluster (--journal) holds a copy like the others; one of them leads at a time.

    Example: sudur node start --data data --genesis authority/genesis.leaf --log-key authority/log.key.json

    Example: sudur node start --data mirror --follow node.example:7070 --trust trust.json
    """
    from node.cluster.run_member import run_member
    from node.config import KIBIBYTE, MEBIBYTE, Address, EnvelopeLimits, RateLimits, Settings
    from node.copying.mirror import MirrorSettings
    from node.copying.remote_blocks import CHANNEL_OPTIONS
    from node.copying.run_mirror import run_mirror
    from node.cosigning.settings import CosigningSettings
    from node.doors.serving import Running
    from node.errors import NodeError
    from node.logs import configure_logs
    from node.run import run

    if bool(follow) == bool(log_key):
        raise Usage(
            "a node that decides has the log's key, a mirror follows one and has none",
            where="--log-key, --follow",
            fix="give one of the two",
        )
    if bool(follow) != (trust is not None) or (follow and genesis is not None):
        raise Usage("a mirror needs --trust, and has no --genesis; another node has no --trust")
    if follow and receipt_keys:
        raise Usage("a mirror has no log key to state a receipt key with", where="--receipt-key")
    passphrase = Passphrase(passphrase_file)
    try:
        settings = Settings(
            data_dir=data,
            grpc=Address.parse(grpc),
            http=Address.parse(http),
            public_url=public_url,
            mark_path=mark,
            tls=tls_files("--tls-cert", tls_cert, "--tls-key", tls_key, "--client-ca", client_ca),
            peer_tls=tls_files(
                "--peer-cert", peer_cert, "--peer-key", peer_key, "--peer-ca", peer_ca, mutual=True
            ),
            etcd_tls=tls_files(
                "--etcd-cert", etcd_cert, "--etcd-key", etcd_key, "--etcd-ca", etcd_ca, mutual=True
            ),
            receipt_keys=tuple(open_keys("receipt", receipt_keys or [], passphrase)),
            clock_is_right=clock_is_right,
            cosigning=CosigningSettings(
                urls=_named_urls(witness_url or []),
                ca=witness_ca,
                without=tuple(without_witness or ()),
                refresh_s=witness_refresh,
            ),
            idle_seal_s=idle_seal,
            rates=RateLimits(
                agency_records=agency_records,
                agency_bytes=agency_kib * KIBIBYTE,
                agency_burst_s=agency_burst,
                address_calls=address_calls,
                address_refused_ms=address_refused,
            ),
            envelopes=EnvelopeLimits(
                bytes=envelope_space * MEBIBYTE, agency_bytes=envelope_share * MEBIBYTE, days=envelope_days
            ),
        )
    except NodeError as error:
        raise Usage(error.what, where=error.where, fix=error.fix) from None

    def ready(running: Running) -> None:
        told = {"grpc": str(running.grpc), "http": str(running.http), "url": running.resources_url}
        typer.echo(json.dumps(told))
        sys.stdout.flush()

    if trust is not None:
        addresses = [address.strip() for address in follow.split(",")]
        core = MirrorSettings(connect=channels(addresses, "--follow", CHANNEL_OPTIONS))
        trusted = only_ledger(load_trust(trust))
        configure_logs(log_format.value)
        asyncio.run(run_mirror(settings, trusted, addresses, ready=ready, mirror_settings=core))
        return
    cluster = _cluster(journal, name, peer, peer_listen, members)
    signers = open_keys("log", log_key or [], passphrase)
    leaf = None if genesis is None else read_file(genesis, MAX_LEAF_SIZE)
    configure_logs(log_format.value)
    if cluster is None:
        asyncio.run(run(settings, signers, leaf, ready=ready))
    else:
        asyncio.run(run_member(settings, cluster, signers, leaf, ready=ready))


def _named_urls(texts: list[str]) -> dict[str, str]:
    """Raises Usage."""
    found = {}
    for text in texts:
        name, equals, url = text.partition("=")
        if not equals or not name or name in found:
            raise Usage(
                f"{text!a} names no witness, or one twice", where="--witness-url", fix="write NAME=https://…"
            )
        found[name] = url
    return found


def _cluster(journal: str, name: str, peer: str, peer_listen: str, members: str) -> ClusterSettings | None:
    """How this node is a member of a cluster; None when it is a node alone. Raises Usage."""
    from node.cluster.etcd_client import parse_endpoints
    from node.cluster.members import check_name
    from node.cluster.run_member import ClusterSettings
    from node.config import Address
    from node.errors import NodeError

    if not journal:
        if name or peer or peer_listen or members:
            raise Usage("--name, --peer and --members are for a member of a cluster", fix="give --journal")
        return None
    if not name or not peer:
        raise Usage("a member of a cluster has a name and an address", fix="give --name and --peer")
    try:
        listed = []
        for one in members.split(",") if members else []:
            other, equals, address = one.partition("=")
            if not equals:
                raise Usage(
                    f"{one!r} names no member", where="--members", fix="write n1=HOST:PORT,n2=HOST:PORT,…"
                )
            listed.append((check_name(other), Address.parse(address)))
        own = Address.parse(peer)
        if listed and (name, own) not in listed:
            raise Usage(f"{name}={peer} is not among them", where="--members", fix="list this member, too")
        at = Address.parse(peer_listen) if peer_listen else None
        return ClusterSettings(check_name(name), parse_endpoints(journal), own, tuple(listed), at)
    except NodeError as error:
        raise Usage(error.what, where=error.where, fix=error.fix) from None


@app.command()
def keygen(
    out: Annotated[
        Path,
        typer.Option(metavar="NAME.key.json", dir_okay=False, help="The private key file to be made."),
    ],
    algorithm: OfAlgorithm = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json_ = False,
) -> None:
    """Make a further key for the log, beside or after its first one.

    Start every node with it (--log-key, each key once), then hand the public file to the authority, which
    registers it: sudur authority add-log-key NAME.pub.json. A log always has a key of Ed25519.

    Example: sudur node keygen --out log-ml-dsa-44.key.json --algorithm ml-dsa-44
    """
    name = out.name.removesuffix(".key.json")
    if name == out.name:
        raise Usage(f"{out.name} does not end in .key.json", where="--out")
    key = make_key("log", name, number_of(algorithm))
    save_key(out, key, Passphrase(passphrase_file).given())
    public = out.with_name(f"{name}.pub.json")
    save_public_key(public, key.public)
    if as_json:
        emit_json({"public_key_file": str(public), "fingerprint": key.public.fingerprint})
        return
    say(f"For the nodes:      {out}")
    say(f"For the authority:  {public}")
    say(f"Its fingerprint:    {key.public.fingerprint}")


@app.command()
def fsck(
    data: _Data,
    trust: Annotated[
        Path | None,
        typer.Option(
            metavar="TRUST.json",
            exists=True,
            dir_okay=False,
            help="Check signatures by these log keys as well.",
        ),
    ] = None,
    mark: _Mark = None,
    log_key: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="With --repair: the log's private key, to sign missing checkpoints again. Repeatable.",
        ),
    ] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Rebuild what is derived from the entries. Entries never change.")
    ] = False,
    passphrase_file: PassphraseFile = None,
    as_json: Json_ = False,
) -> None:
    """Rebuild everything from the entries and name the first thing that is wrong. The node must be down.

    Exit codes: 0 nothing is wrong (or all was repaired), 1 something is.

    Example: sudur node fsck --data data
    """
    from node.checking.fsck import run_fsck

    if not data.is_dir():
        raise Usage(f"{data} is no directory", where="--data")
    report = run_fsck(
        data,
        repair,
        None if trust is None else load_trust(trust),
        remark if sys.stderr.isatty() else lambda _: None,
        mark_path=mark,
        signers=open_keys("log", log_key or [], Passphrase(passphrase_file)),
    )
    if as_json:
        emit_json(report.to_json())
    else:
        say(str(report))
    if not report.sound:
        raise typer.Exit(EXIT_NOT_GENUINE)


def open_keys(use: str, paths: list[Path], passphrase: Passphrase) -> list[Signer]:
    """Private keys for signing. Raises KeyFileError for a key of another use, WrongPassphrase."""
    signers = []
    for path in paths:
        file = KeyFile(path)
        if file.public.use != use:
            raise KeyFileError(f"is a key for {file.public.use}, {use} is expected", where=str(path))
        known = passphrase.to_open(path.name) if file.is_encrypted else None
        signers.append(file.open(known).signer)
    return signers
