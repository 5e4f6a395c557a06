"""The ``sudur`` command: its parts put together, and every ending turned into an exit code.

0 done or genuine; 1 refused, or not to be accepted (not genuine, revoked, expired …); 2 cannot tell,
nobody answers or nobody reads; 64 wrong usage; 130 interrupted. Whatever goes wrong is one line on
stderr, never a traceback.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Final

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from ledger.errors import SudurError
from tools import demo, log, node_cmd, tls_commands
from tools.agency import commands as agency
from tools.audit import commands as audit
from tools.client_tls import ClientTls
from tools.cluster import commands as cluster
from tools.cluster.administration import reseed
from tools.errors import EXIT_CANNOT_TELL, EXIT_OK, EXIT_USAGE, exit_code
from tools.figures import figures
from tools.lookup import lookup
from tools.options import use_tls
from tools.pack import commands as pack
from tools.portable.check_command import verify_proof
from tools.portable.export_command import export
from tools.registry import authority_commands as authority
from tools.registry import commands as registry
from tools.trust import commands as trust
from tools.ui import printable
from tools.verify import verify
from tools.verify_evidence import verify_evidence_file
from tools.verifying import commands as journal
from tools.witness import commands as witness

EXIT_INTERRUPTED: Final = 130

app = typer.Typer(
    name="sudur",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Sudur (صدور): a ledger with which anyone can verify official documents.",
    epilog="Exit codes: 0 done or genuine, 1 refused or not to be accepted (not genuine, revoked, expired …),"
    " 2 cannot tell, 64 wrong usage.",
)
app.add_typer(authority.app, name="authority")
app.add_typer(agency.app, name="agency")
app.add_typer(node_cmd.app, name="node")
node_cmd.app.command()(reseed)
app.add_typer(cluster.app, name="cluster")
app.command()(verify)
app.command()(export)
app.command()(verify_proof)
app.command(name="verify-evidence")(verify_evidence_file)
app.command()(lookup)
app.command()(figures)
app.add_typer(audit.app, name="audit")
app.add_typer(pack.app, name="pack")
app.add_typer(log.app, name="log")
app.add_typer(registry.app, name="registry")
app.add_typer(witness.app, name="witness")
app.add_typer(trust.app, name="trust")
app.add_typer(journal.app, name="journal")
app.add_typer(tls_commands.app, name="tls")
app.command()(demo.demo)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sudur {version('sudur')}")
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
    tls_ca: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            envvar="SUDUR_TLS_CA",
            help="Speak TLS with every node, and believe only this authority (PEM).",
        ),
    ] = None,
    tls_cert: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", envvar="SUDUR_TLS_CERT", help="The certificate to show to nodes that ask (PEM)."
        ),
    ] = None,
    tls_key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", envvar="SUDUR_TLS_KEY", help="Its private key (PEM, not encrypted)."),
    ] = None,
) -> None:
    """What comes before the command."""
    use_tls(ClientTls(tls_ca, tls_cert, tls_key))


@cache
def _command() -> TyperGroup:
    """The commands, put together once: it takes 0.1 s, which a test that runs many would pay each time."""
    return typer.main.get_group(app)


def run(arguments: Sequence[str]) -> int:
    """Run one command line; returns its exit code."""
    try:
        result = _command().main(list(arguments), prog_name="sudur", standalone_mode=False)
    except TyperException as error:
        message = error.format_message()  # empty when no command was given and the help was shown
        return _fail(message, EXIT_USAGE) if message else EXIT_USAGE
    except SudurError as error:
        return _fail(str(error), exit_code(error))
    except typer.Abort:
        return _fail("interrupted", EXIT_INTERRUPTED)
    except KeyboardInterrupt:
        return _fail("interrupted", EXIT_INTERRUPTED)
    except (BrokenPipeError, SystemExit):  # rich, which prints the help, makes the one into the other
        # Whoever read the output has gone; there is nobody to tell, and nothing more may be written.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_CANNOT_TELL
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{error.strerror or error}", EXIT_CANNOT_TELL)
    except MemoryError:
        return _fail("not enough memory for this", EXIT_CANNOT_TELL)
    except Exception as error:
        # A mistake of ours; whoever runs this can do nothing with a traceback, and a script needs a code.
        return _fail(f"a fault in this program, please report it: {error!r}", EXIT_CANNOT_TELL)
    return result if isinstance(result, int) else EXIT_OK


def main() -> None:
    """The ``sudur`` command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that lacks Arabic letters is no reason to fail
            stream.reconfigure(errors="backslashreplace")
    sys.exit(run(sys.argv[1:]))


def _fail(message: str, code: int) -> int:
    line = " ".join(message.split())
    typer.echo(f"sudur: {printable(line)}", err=True)
    return code


if __name__ == "__main__":
    main()
