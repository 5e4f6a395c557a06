"""The ``sudur`` command: its parts put together, and every ending turned into an exit code.

0 done or genuine; 1 refused, or not to be accepted (not genuine, revoked, expired …); 2 cannot tell,
nobody answers or nobody reads; 64 wrong usage; 130 interrupted. Whatever goes wrong is one line on
stderr, never a traceback.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator, MutableMapping, Sequence
from functools import cache
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from ledger.errors import SudurError
from tools.client_tls import ClientTls
from tools.errors import EXIT_CANNOT_TELL, EXIT_OK, EXIT_USAGE, exit_code
from tools.options import use_tls
from tools.ui import printable

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

_PARTS: Final = {
    "authority": "tools.registry.authority_commands:app",
    "agency": "tools.agency.commands:app",
    "node": "tools.node_cmd:app",
    "cluster": "tools.cluster.commands:app",
    "verify": "tools.verify:verify",
    "export": "tools.portable.export_command:export",
    "verify-proof": "tools.portable.check_command:verify_proof",
    "verify-evidence": "tools.verify_evidence:verify_evidence_file",
    "lookup": "tools.lookup:lookup",
    "figures": "tools.figures:figures",
    "audit": "tools.audit.commands:app",
    "pack": "tools.pack.commands:app",
    "log": "tools.log:app",
    "registry": "tools.registry.commands:app",
    "witness": "tools.witness.commands:app",
    "trust": "tools.trust.commands:app",
    "journal": "tools.verifying.commands:app",
    "tls": "tools.tls_commands:app",
    "demo": "tools.demo:demo",
}
"""Each command, or group of them, and what it is made of."""


class _Parts(MutableMapping[str, Any]):
    """The commands, each imported when it is asked for: whoever verifies a code waits for nothing else."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            module, _, attribute = _PARTS[name].partition(":")
            self._made[name] = _made(name, getattr(import_module(module), attribute))
        return self._made[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._made[name] = command

    def __delitem__(self, name: str) -> None:
        del self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(_PARTS)

    def __len__(self) -> int:
        return len(_PARTS)


def _made(name: str, part: Any) -> Any:
    holder = typer.Typer(rich_markup_mode="markdown", callback=lambda: None)
    if isinstance(part, typer.Typer):
        holder.add_typer(part, name=name)
    else:
        holder.command(name=name)(part)
    return typer.main.get_group(holder).commands[name]


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
    """The commands, put together once: a test that runs many would pay each time."""
    group = typer.main.get_group(app)
    group.commands = _Parts()
    return group


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
