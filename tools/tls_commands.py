"""``sudur tls``: certificates for trying TLS, or for a cluster that has no authority of its own."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ledger.canonical_json import Json
from tools.errors import EXIT_NOT_GENUINE, Usage
from tools.options import Json_
from tools.ui import emit_json, printable, remark, say

if TYPE_CHECKING:
    from tools.tls_files import Kind, Shown, TlsDirectory, Wanted

app = typer.Typer(
    no_args_is_help=True,
    help="For operators: certificates for nodes, etcd and clients; look at them, renew them.",
)

_SOON_DAYS = 30
_Directory = Annotated[Path, typer.Argument(metavar="DIR", file_okay=False, help="Where the files go.")]
_Nodes = Annotated[
    list[str] | None,
    typer.Option(
        "--node", metavar="NAME[=HOST,…]", help="A node and the hosts it is reached at. Repeatable."
    ),
]
_Etcds = Annotated[
    list[str] | None,
    typer.Option("--etcd", metavar="NAME[=HOST,…]", help="A member of etcd, likewise. Repeatable."),
]
_Clients = Annotated[list[str] | None, typer.Option("--client", metavar="NAME", help="A client. Repeatable.")]
_Days = Annotated[int, typer.Option(metavar="N", min=1, max=825, help="How many days it is valid.")]


@app.command()
def init(
    directory: _Directory,
    node: _Nodes = None,
    etcd: _Etcds = None,
    client: _Clients = None,
    days: _Days = 90,
    as_json: Json_ = False,
) -> None:
    """Make two authorities, and certificates of theirs for nodes, etcd and clients.

    Without names: for node n1, etcd and one client. A name without hosts is for this machine alone
    (localhost, 127.0.0.1, ::1). Nothing is overwritten.

    Example: sudur tls init tls --node n1=n1.example.gov,10.0.0.1 --node n2=n2.example.gov,10.0.0.2
    """
    from tools.tls_files import TlsDirectory

    made = TlsDirectory(directory)
    paths = made.create(_wanted(node or ["n1"], etcd or ["etcd"], client or ["client"]), days)
    if as_json:
        emit_json(
            {"ca": str(made.ca), "client_ca": str(made.client_ca), "certificates": [str(p) for p in paths]}
        )
        return
    say(f"Authorities, valid for ten years, in {directory}:")
    say("  ca.pem         of nodes and etcd. Everybody who connects needs it")
    say("  client-ca.pem  of clients. Only nodes need it")
    say("  ca.key and client-ca.key make certificates: keep them off the machines that serve")
    _say_made(made, paths)


@app.command()
def add(
    directory: _Directory,
    node: _Nodes = None,
    etcd: _Etcds = None,
    client: _Clients = None,
    days: _Days = 90,
    as_json: Json_ = False,
) -> None:
    """Make more certificates under the authorities that ``sudur tls init`` made.

    Example: sudur tls add tls --node n4=n4.example.gov
    """
    from tools.tls_files import TlsDirectory

    made = TlsDirectory(directory)
    wanted = _wanted(node or [], etcd or [], client or [])
    if not wanted:
        raise Usage("nothing to make was named", fix="give --node, --etcd or --client")
    paths = made.add(wanted, days)
    if as_json:
        emit_json({"certificates": [str(path) for path in paths]})
        return
    _say_made(made, paths)


@app.command()
def renew(
    certificate: Annotated[
        Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="The certificate (NAME.pem).")
    ],
    ca_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            exists=True,
            file_okay=False,
            help="Where the authorities are. Default: beside the certificate.",
        ),
    ] = None,
    days: _Days = 90,
) -> None:
    """Put new dates on a certificate: the same names and the same key, from the same authority.

    The file is replaced at once. A running node takes it into use at the next connection.

    Example: sudur tls renew tls/n1.pem
    """
    from tools.tls_files import TlsDirectory, show

    TlsDirectory(ca_dir or certificate.parent).renew(certificate, days)
    say(f"{certificate}: valid until {show(certificate)[0].not_after:%F %T} UTC")


@app.command("show")
def show_(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE…", exists=True, dir_okay=False, help="Certificates (PEM)."),
    ],
    as_json: Json_ = False,
) -> None:
    """Say what certificates are for, who issued them and how long they are valid.

    Exit codes: 0 all are valid for 30 days or more, 1 one is not, or not yet.

    Example: sudur tls show tls/*.pem
    """
    from tools.tls_files import show

    now = datetime.now(UTC)
    shown = [one for path in files for one in show(path)]
    if as_json:
        emit_json([_json(one, now) for one in shown])
    else:
        for one in shown:
            _say(one, now)
    if any(one.days_left(now) < _SOON_DAYS or one.not_before > now for one in shown):
        raise typer.Exit(EXIT_NOT_GENUINE)


def _wanted(nodes: list[str], etcds: list[str], clients: list[str]) -> list[Wanted]:
    from tools.tls_files import Kind, Wanted

    return [
        *(_with_hosts(Kind.NODE, text) for text in nodes),
        *(_with_hosts(Kind.ETCD, text) for text in etcds),
        *(Wanted(Kind.CLIENT, name) for name in clients),
    ]


def _with_hosts(kind: Kind, text: str) -> Wanted:
    from tools.tls_files import LOCAL_HOSTS, Wanted

    name, equals, hosts = text.partition("=")
    if not equals:
        return Wanted(kind, name, LOCAL_HOSTS)
    named = tuple(host.strip() for host in hosts.split(","))
    if not all(named):
        raise Usage(f"{text!a} lacks a host", where=f"--{kind.value}", fix="write NAME=HOST,HOST")
    return Wanted(kind, name, named)


def _say_made(made: TlsDirectory, paths: list[Path]) -> None:
    from tools.tls_files import Kind, show

    certificates = [show(path)[0] for path in paths]
    for one in certificates:
        key = one.path.with_suffix(".key")
        say()
        hosts = f" at {', '.join(one.hosts)}" if one.hosts else ""
        say(f"{one.kind.value} {one.name}{hosts}, until {one.not_after:%F}:")
        if one.kind is Kind.NODE:
            say(f"  public:  --tls-cert {one.path} --tls-key {key}")
            say(f"           and, if clients are to show a certificate: --client-ca {made.client_ca}")
            say(f"  peers:   --peer-cert {one.path} --peer-key {key} --peer-ca {made.ca}")
            say(f"  to etcd: --etcd-cert {one.path} --etcd-key {key} --etcd-ca {made.ca}")
        elif one.kind is Kind.ETCD:
            say(f"  --cert-file {one.path} --key-file {key} --trusted-ca-file {made.ca} --client-cert-auth")
            say(f"  --peer-cert-file {one.path} --peer-key-file {key} --peer-trusted-ca-file {made.ca}")
            say("  --peer-client-cert-auth")
        else:
            say(f"  sudur --tls-ca {made.ca} --tls-cert {one.path} --tls-key {key} …")
            say("  or SUDUR_TLS_CA, SUDUR_TLS_CERT, SUDUR_TLS_KEY")
    remark("Renew in time: sudur tls renew FILE. Nothing has to be restarted.")


def _say(one: Shown, now: datetime) -> None:
    what = "authority" if one.authority else one.kind.value
    say(f"{one.path}: {what} {printable(one.name)}")
    if one.hosts:
        say(f"  hosts:       {printable(', '.join(one.hosts))}")
    say(f"  issued by:   {printable(one.issuer)}")
    state = f"{one.days_left(now)} days left"
    if now > one.not_after:
        state = "EXPIRED"
    elif now < one.not_before:
        state = "NOT YET VALID"
    say(f"  valid:       {one.not_before:%F %T} to {one.not_after:%F %T} UTC ({state})")
    say(f"  SHA-256:     {one.fingerprint}")


def _json(one: Shown, now: datetime) -> Json:
    return {
        "file": str(one.path),
        "kind": "authority" if one.authority else one.kind.value,
        "name": one.name,
        "hosts": list(one.hosts),
        "issuer": one.issuer,
        "not_before": one.not_before.isoformat(),
        "not_after": one.not_after.isoformat(),
        "days_left": one.days_left(now),
        "sha256": one.fingerprint,
    }
