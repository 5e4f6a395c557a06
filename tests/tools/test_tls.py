"""``sudur tls``, and every command over TLS with what it made; each refusal is one line that says why."""

from __future__ import annotations

import json
import signal
import socket
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.tools.helpers import Commands, assert_one_line, finish, start
from tests.tools.ledger_process import Ledger, running
from tests.transport.authorities import Authority
from tools.cli import run
from tools.client_tls import ClientTls
from tools.errors import NoSecureConnection, Usage
from tools.http_resources import HttpResources
from tools.options import connect
from tools.tls_files import Kind, show


@dataclass(frozen=True, slots=True)
class Secured:
    """A node over TLS that asks gRPC callers for certificates, and the directory that it all came from."""

    ledger: Ledger
    tls: Path

    @property
    def ca(self) -> Path:
        return self.tls / "ca.pem"

    def options(self, client: str = "client") -> list[str]:
        """What comes before a command's name."""
        cert, key = self.tls / f"{client}.pem", self.tls / f"{client}.key"
        return ["--tls-ca", str(self.ca), "--tls-cert", str(cert), "--tls-key", str(key)]


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    root = tmp_path_factory.mktemp("secured")
    tls = root / "tls"
    assert run(["tls", "init", str(tls), "--node", "n1", "--client", "client", "--client", "clerk-7"]) == 0
    options = ["--tls-cert", str(tls / "n1.pem"), "--tls-key", str(tls / "n1.key")]
    options += ["--client-ca", str(tls / "client-ca.pem")]
    with running(root, options=options) as ledger:
        yield Secured(ledger, tls)


# --- files -------------------------------------------------------------------------------------


def test_what_init_makes(sudur: Commands, tmp_path: Path) -> None:
    tls = tmp_path / "tls"
    hosts = "n2=n2.example.gov,10.0.0.2,fd00::2"
    done = sudur("tls", "init", tls, "--node", "n1", "--node", hosts, "--days", "30")
    assert done.code == 0
    for option in ("--tls-cert", "--client-ca", "--peer-ca", "--etcd-ca", "--trusted-ca-file", "--tls-ca"):
        assert option in done.out
    for path in tls.iterdir():
        private = path.suffix == ".key" or path.name == ".lock"
        assert stat.S_IMODE(path.stat().st_mode) == (0o600 if private else 0o644), path
    assert stat.S_IMODE(tls.stat().st_mode) == 0o700

    first, second = show(tls / "n1.pem")[0], show(tls / "n2.pem")[0]
    assert (first.kind, first.name, first.hosts) == (Kind.NODE, "n1", ("localhost", "127.0.0.1", "::1"))
    assert second.hosts == ("n2.example.gov", "10.0.0.2", "fd00::2")
    assert (first.not_after - first.not_before).days == 30
    assert show(tls / "etcd.pem")[0].kind is Kind.ETCD
    client = show(tls / "client.pem")[0]
    assert (client.kind, client.hosts) == (Kind.CLIENT, ())
    assert client.issuer == show(tls / "client-ca.pem")[0].name != first.issuer


@pytest.mark.parametrize("taken", ["ca.pem", "client-ca.key", "n1.key", "client.pem"])
def test_nothing_is_overwritten(sudur: Commands, tmp_path: Path, taken: str) -> None:
    (tmp_path / taken).write_bytes(b"mine")
    assert_one_line(sudur("tls", "init", tmp_path), 1, taken, "is not overwritten")
    assert (tmp_path / taken).read_bytes() == b"mine"
    assert [path.name for path in tmp_path.iterdir() if path.name != ".lock"] == [taken]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--node", "../n1"], "makes no name"),
        (["--node", "ca"], "name of two files"),
        (["--node", "n1", "--client", "n1"], "name of two files"),
        (["--node", "n1="], "lacks a host"),
        (["--node", "n1=a,,b"], "lacks a host"),
        (["--node", "n1=host:7070"], "neither a host name nor an IP address"),
        (["--node", "n1=-bad.example"], "neither a host name nor an IP address"),
        (["--node", "n1=دائرة"], "neither a host name nor an IP address"),
    ],
)
def test_names_that_are_none(sudur: Commands, tmp_path: Path, options: list[str], says: str) -> None:
    assert_one_line(sudur("tls", "init", tmp_path / "tls", *options), 64, says)
    assert not (tmp_path / "tls").exists()


def test_more_certificates_under_the_same_authorities(sudur: Commands, tmp_path: Path) -> None:
    assert_one_line(sudur("tls", "add", tmp_path, "--node", "n4"), 64, "begin with sudur tls init")
    assert sudur("tls", "init", tmp_path / "tls").code == 0
    assert_one_line(sudur("tls", "add", tmp_path / "tls"), 64, "nothing to make")
    assert_one_line(sudur("tls", "add", tmp_path / "tls", "--node", "n1"), 1, "is not overwritten")
    done = sudur("tls", "add", tmp_path / "tls", "--node", "n4", "--json")
    assert json.loads(done.out) == {"certificates": [str(tmp_path / "tls" / "n4.pem")]}
    assert show(tmp_path / "tls" / "n4.pem")[0].issuer == show(tmp_path / "tls" / "n1.pem")[0].issuer


@pytest.mark.parametrize("name", ["n1", "etcd", "client"])
def test_renewed_is_the_same_but_for_the_dates(sudur: Commands, tmp_path: Path, name: str) -> None:
    tls, cert, key = tmp_path / "tls", tmp_path / "tls" / f"{name}.pem", tmp_path / "tls" / f"{name}.key"
    assert sudur("tls", "init", tls, "--days", "1").code == 0
    old, secret = show(cert)[0], key.read_bytes()
    assert sudur("tls", "show", cert).code == 1  # soon to expire
    assert sudur("tls", "renew", cert, "--days", "60").code == 0
    assert sudur("tls", "show", cert).code == 0
    new = show(cert)[0]
    assert (new.kind, new.name, new.hosts, new.issuer) == (old.kind, old.name, old.hosts, old.issuer)
    assert (new.not_after - old.not_after).days in (58, 59)
    assert new.fingerprint != old.fingerprint
    assert key.read_bytes() == secret
    assert stat.S_IMODE(cert.stat().st_mode) == 0o644


def test_only_what_was_issued_there_is_renewed(sudur: Commands, tmp_path: Path) -> None:
    assert sudur("tls", "init", tmp_path / "tls").code == 0
    stranger = Authority(tmp_path, "other").issue("n1").certificate
    before = stranger.read_bytes()
    done = sudur("tls", "renew", stranger, "--ca-dir", tmp_path / "tls")
    assert_one_line(done, 1, "was not issued by an authority in")
    assert_one_line(sudur("tls", "renew", stranger), 1, "ca.pem")
    assert stranger.read_bytes() == before


def test_show_says_what_there_is(sudur: Commands, tmp_path: Path) -> None:
    other = Authority(tmp_path, "other")
    expired = other.issue("late", start=-9, days=8).certificate
    done = sudur("tls", "show", other.path, expired)
    assert done.code == 1
    assert "authority other" in done.out
    assert "EXPIRED" in done.out
    shown = json.loads(sudur("tls", "show", expired, "--json").out)
    assert shown[0]["name"] == "late"
    assert shown[0]["days_left"] < 0
    (tmp_path / "none").write_bytes(b"nothing")
    assert_one_line(sudur("tls", "show", tmp_path / "none"), 1, "no certificate in PEM form")


# --- a node's options --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--tls-cert", "n1.pem"], "--tls-key must be given as well"),
        (["--client-ca", "ca.pem"], "--tls-cert and --tls-key must be given"),
        (["--peer-cert", "n1.pem", "--peer-key", "n1.key"], "--peer-ca must be given"),
        (["--etcd-ca", "ca.pem"], "--etcd-cert and --etcd-key must be given"),
    ],
)
def test_options_that_belong_together(
    sudur: Commands, secured: Secured, tmp_path: Path, options: list[str], says: str
) -> None:
    named = [str(secured.tls / one) if "." in one else one for one in options]
    key = secured.ledger.authority / "log.key.json"
    done = sudur("node", "start", "--data", tmp_path / "data", "--log-key", key, *named)
    assert_one_line(done, 64, says)


def test_a_node_says_what_is_wrong_with_its_files(secured: Secured, tmp_path: Path) -> None:
    late = Authority(tmp_path, "other").issue("late", start=-9, days=8)
    key = secured.ledger.authority / "log.key.json"
    genesis = secured.ledger.authority / "genesis.leaf"
    options: list[str | Path] = ["--data", tmp_path / "data", "--log-key", key, "--genesis", genesis]
    done = finish(start("node", "start", *options, "--tls-cert", late.certificate, "--tls-key", late.key))
    assert_one_line(done, 1, "late.pem", "expired on", "renew it")
    assert not (tmp_path / "data").exists()


# --- commands over TLS -------------------------------------------------------------------------


def test_commands_over_tls(sudur: Commands, secured: Secured) -> None:
    ledger = secured.ledger
    assert ledger.url.startswith("https://")
    by_grpc = sudur(*secured.options(), "log", "head", "--node", ledger.grpc, "--trust", ledger.trust)
    by_http = sudur("--tls-ca", secured.ca, "log", "head", "--url", ledger.url, "--trust", ledger.trust)
    assert (by_grpc.code, by_http.code) == (0, 0), by_grpc.err + by_http.err
    assert by_grpc.out == by_http.out
    both = sudur(*secured.options(), "registry", "list", "--node", ledger.grpc, "--trust", ledger.trust)
    assert both.code == 0, both.err


def test_the_environment_says_it_for_all_commands(secured: Secured) -> None:
    ledger = secured.ledger
    environment = {
        "SUDUR_TLS_CA": str(secured.ca),
        "SUDUR_TLS_CERT": str(secured.tls / "clerk-7.pem"),
        "SUDUR_TLS_KEY": str(secured.tls / "clerk-7.key"),
    }
    for address in (ledger.grpc, f"grpcs://{ledger.grpc}"):
        done = finish(start("log", "head", "--node", address, **environment))
        assert done.code == 0, done.err


def test_options_of_one_command_do_not_last(sudur: Commands, secured: Secured) -> None:
    assert sudur(*secured.options(), "log", "head", "--node", secured.ledger.grpc).code == 0
    assert_one_line(sudur("log", "head", "--node", secured.ledger.grpc), 2, "speaks TLS")


def test_each_refusal_is_one_line(secured: Secured, tmp_path: Path) -> None:
    """As processes of their own, so that whatever gRPC itself writes to stderr shows."""
    ledger, tls = secured.ledger, secured.tls
    other = Authority(tmp_path, "other")
    stranger = other.issue("clerk", ())
    late = other.issue("late", (), start=-9, days=8)
    port = ledger.grpc.rpartition(":")[2]
    ca = ["--tls-ca", str(secured.ca)]
    shown = ["--tls-cert", str(stranger.certificate), "--tls-key", str(stranger.key)]
    expired = ["--tls-cert", str(late.certificate), "--tls-key", str(late.key)]
    cases: list[tuple[list[str], str, int, str]] = [
        ([], ledger.grpc, 2, "speaks TLS, and was spoken to without; write the address as grpcs://"),
        (["--tls-ca", str(other.path)], ledger.grpc, 2, "does not come from an authority that is trusted"),
        ([], f"grpcs://{ledger.grpc}", 2, "does not come from an authority that is trusted"),
        (ca, ledger.grpc, 2, "it asks for a certificate"),
        ([*ca, *shown], ledger.grpc, 2, "after it had seen our certificate"),
        (secured.options(), f"127.0.0.2:{port}", 2, "check the address"),
        ([*ca, *expired], ledger.grpc, 64, "expired on"),
        (["--tls-cert", str(tls / "n1.pem")], ledger.grpc, 64, "go together"),
        (["--tls-ca", str(tls / "none.pem")], ledger.grpc, 64, "cannot be read: No such file"),
        (["--tls-ca", str(tls / "n1.pem")], ledger.grpc, 64, "is no authority's"),
    ]
    started = [start(*options, "log", "head", "--node", address) for options, address, _, _ in cases]
    for (_, _, code, says), process in zip(cases, started, strict=True):
        done = finish(process)
        lines = [line for line in done.err.splitlines() if not line.startswith("Trying again")]
        assert len(lines) == 1, done.err
        assert done.code == code, done.err
        assert says in lines[0]


def test_tls_to_a_node_without(sudur: Commands, secured: Secured, tmp_path: Path) -> None:
    with running(tmp_path) as ledger:
        done = sudur("--tls-ca", secured.ca, "log", "head", "--node", ledger.grpc)
        assert_one_line(done, 2, ledger.grpc, "does not speak TLS")
        url = ledger.url.replace("http://", "https://")
        done = sudur("--tls-ca", secured.ca, "log", "head", "--url", url)
        assert_one_line(done, 2, "does not speak TLS")


def test_over_http_too(sudur: Commands, secured: Secured, tmp_path: Path) -> None:
    url = secured.ledger.url
    other = Authority(tmp_path, "other")
    assert_one_line(sudur("log", "head", "--url", url), 2, "authority that is trusted here")
    done = sudur("--tls-ca", other.path, "log", "head", "--url", url)
    assert_one_line(done, 2, "authority that is trusted here")
    done = sudur("log", "head", "--url", url.replace("https", "http"))
    assert_one_line(done, 2, "speaks TLS, and was spoken to without; write https://")


def test_a_wrong_name_is_told_and_not_tried_again(secured: Secured, tmp_path: Path) -> None:
    root = tmp_path / "tls"
    assert run(["tls", "init", str(root), "--node", "n1=n1.example.gov"]) == 0
    options = ["--tls-cert", str(root / "n1.pem"), "--tls-key", str(root / "n1.key")]
    with running(tmp_path, options=options) as ledger:
        tls = ClientTls(root / "ca.pem")
        with (
            HttpResources(ledger.url, tls=tls) as resources,
            pytest.raises(NoSecureConnection, match=r"not for the address 127\.0\.0\.1"),
        ):
            resources.fetch("checkpoint")
        done = finish(start("--tls-ca", root / "ca.pem", "log", "head", "--node", ledger.grpc))
        assert_one_line(done, 2, "not for the address 127.0.0.1")  # with no "Trying again" before it


def test_a_node_logs_in_its_own_form_alone_whoever_knocks(secured: Secured, tmp_path: Path) -> None:
    authority = secured.ledger.authority
    node = start("node", "start", "--data", tmp_path / "data", "--genesis", authority / "genesis.leaf",
                 "--log-key", authority / "log.key.json", "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0",
                 "--tls-cert", secured.tls / "n1.pem", "--tls-key", secured.tls / "n1.key")  # fmt: skip
    assert node.stdout is not None
    addresses = json.loads(node.stdout.readline())
    for address in (addresses["grpc"], addresses["http"]):
        host, _, port = address.rpartition(":")
        for sent in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01" + bytes(300)):
            with socket.create_connection((host, int(port)), 20) as connection:
                connection.sendall(sent)
                with suppress(ConnectionError):
                    while connection.recv(4_096):
                        pass
    node.send_signal(signal.SIGTERM)
    done = finish(node)
    assert done.code == 0
    events = [json.loads(line)["event"] for line in done.err.splitlines()]
    assert "serving" in events
    assert "stopped" in events


def test_an_address_of_a_node_is_well_formed() -> None:
    for address in ("grpcs://", "https://n1:7070", "grpcs://n1", "grpcs://grpcs://n1:7070", "n1:0"):
        with pytest.raises(Usage, match="HOST:PORT"):
            connect(address)
