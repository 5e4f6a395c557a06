"""What every command of an agency begins with: its directory, pinned ledger, keys, register and node."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

from ledger.resources import Resources
from ledger.trust import TrustedLedger
from tools.agency.directory import AgencyDirectory, Membership
from tools.agency.outbox import Outbox
from tools.client import LedgerClient
from tools.errors import Usage
from tools.files import locked
from tools.keyfile import KeyFile
from tools.options import connect, node_resources
from tools.pinning import check_node, load_trust, only_ledger, pinned_by_node
from tools.publication import DEFAULT_WAIT_S, Publication
from tools.register.store import Register
from tools.registry.registered import newest_agencies, registered_keys
from tools.signing import NumberedSigner
from tools.ui import Passphrase, printable, remark

Directory = Annotated[Path, typer.Option("--dir", metavar="DIR", help="The agency's directory.")]
Signers = Annotated[
    list[str] | None,
    typer.Option(
        "--signer",
        metavar="KEY",
        help="The key that signs, by label or path; repeat it for four-eyes. Default: the only one.",
    ),
]
AgencyNumber = Annotated[
    int | None,
    typer.Option(
        "--agency", min=1, help="The agency's number, for a first use; else it is looked for by its keys."
    ),
]
FirstTrust = Annotated[
    Path | None,
    typer.Option(
        "--trust",
        metavar="TRUST.json",
        exists=True,
        dir_okay=False,
        help="The authority's trust file: pins the ledger, at first use.",
    ),
]
OnFirstUse = Annotated[
    bool,
    typer.Option("--trust-on-first-use", help="Without a trust file: believe the node, this once."),
]
ResourcesUrl = Annotated[
    str | None,
    typer.Option("--url", metavar="URL", help="Static resources elsewhere than the node says."),
]


_PATIENCE_S: Final = 2.0
"""How long a command waits for its turn: the monitor, which follows the log, takes a moment now and then."""


@dataclass(frozen=True, slots=True)
class Session:
    """An agency at work, with its directory locked. Everything is closed when the session ends."""

    here: AgencyDirectory
    client: LedgerClient
    ledger: TrustedLedger
    resources: Resources
    membership: Membership
    register: Register
    outbox: Outbox
    publication: Publication

    @property
    def agency(self) -> int:
        return self.membership.agency


@contextmanager
def agency_session(
    directory: Path,
    node: str,
    *,
    signer: Sequence[str] = (),
    agency: int | None = None,
    trust: Path | None = None,
    trust_on_first_use: bool = False,
    url: str | None = None,
    passphrase: Passphrase | None = None,
    wait_s: float = DEFAULT_WAIT_S,
) -> Iterator[Session]:
    """Begin to work for an agency: pinned, known by its keys, with its register open.

    ``signer``: labels or paths of the keys that sign; by default the only one. ``wait_s``: how long the
    command waits for witnesses, in all. For the length of the block no other command works in the
    directory. Raises Usage, DirectoryInUse, WrongLedger, KeyFileError, WrongPassphrase, RegisterProblem,
    Unavailable.
    """
    words = passphrase or Passphrase(None)
    here = AgencyDirectory.open(directory)
    files = key_files(here, signer)
    with ExitStack() as stack:
        stack.enter_context(locked(here.path, _PATIENCE_S))
        client = stack.enter_context(connect(node))
        ledger, resources_url = pinned(here, client, trust, trust_on_first_use)
        membership = known_membership(here, client, agency, files)
        signers = open_keys(files, membership, words)
        register = stack.enter_context(Register.open(here, words))
        resources = stack.enter_context(node_resources(client, resources_url, url))
        outbox = Outbox(register, ledger, membership.agency, signers, client, officer=labels(files))
        publication = Publication(client, wait_s)
        yield Session(here, client, ledger, resources, membership, register, outbox, publication)


def labels(files: Sequence[KeyFile]) -> str:
    """How the journal names the officers whose keys these are."""
    return "+".join(sorted(file.public.label for file in files)) or "-"


def pinned(
    here: AgencyDirectory, client: LedgerClient, trust: Path | None, trust_on_first_use: bool
) -> tuple[TrustedLedger, str]:
    """The pinned ledger, and the URL of its static resources; pinned now, when this is the first use.

    That is done only when the node shows this very ledger, signed by its keys: a wrong pin is not
    easily undone. Raises Usage, WrongLedger, CheckpointUntrusted.
    """
    pinned = here.pinned()
    given = None if trust is None else only_ledger(load_trust(trust))
    if pinned is not None:
        if given is not None and given.genesis != pinned.genesis:
            raise Usage(
                f"{here.path} is pinned to another ledger",
                where="--trust",
                fix="use another directory for it",
            )
        return pinned, check_node(client, pinned)
    if given is None and not trust_on_first_use:
        raise Usage(
            "at first use the ledger is not known yet",
            where="--trust",
            fix="give the authority's trust file; or --trust-on-first-use, to believe the node this once",
        )
    ledger = pinned_by_node(client) if given is None else given
    resources_url = check_node(client, ledger)
    ledger.open(client.checkpoint(signed=True))
    here.pin(ledger)
    if given is None:
        remark(
            f"Pinned to the ledger that the node shows, {printable(ledger.origin)}: compare its name"
            f" {ledger.genesis.hex()} with what the authority publishes"
        )
    return ledger, resources_url


def key_files(here: AgencyDirectory, names: Sequence[str]) -> list[KeyFile]:
    if names:
        files = [here.find_key(name) for name in names]
        if len({file.public.key for file in files}) != len(files):
            raise Usage("one key is named twice", where="--signer")
        wrong = [file for file in files if file.public.use != "submit"]
        if wrong:
            raise Usage(f"{wrong[0].path} is a key for {wrong[0].public.use}", where="--signer")
        return files
    files = here.key_files("submit")
    if not files:
        raise Usage(
            f"there is no submit key in {here.path}", where="--dir", fix="make one: sudur agency keygen"
        )
    if len(files) > 1:
        raise Usage(
            f"{len(files)} submit keys lie in {here.path}", where="--signer", fix="say which are to sign"
        )
    return files


def known_membership(
    here: AgencyDirectory,
    client: LedgerClient,
    agency: int | None,
    files: Sequence[KeyFile],
    *,
    anew: bool = False,
) -> Membership:
    """The agency's number and the numbers of these keys: remembered, or found and then remembered.

    ``anew``: look even if these keys are known, since others may have come. Raises Usage, Unavailable.
    """
    known = here.membership()
    if known is not None and agency is not None and agency != known.agency:
        raise Usage(f"this directory is agency {known.agency}'s", where="--agency")
    wanted = {file.public.fingerprint for file in files}
    if known is not None and not anew and wanted <= known.keys.keys():
        return known
    number = agency if known is None else known.agency
    for candidate in newest_agencies(client) if number is None else [number]:
        keys = registered_keys(client, candidate)
        if wanted <= keys.keys():
            membership = Membership(candidate, keys)
            here.remember(membership)
            return membership
    raise Usage(
        "these keys are not registered" + (f" with agency {number}" if number else ""),
        where=", ".join(file.public.label for file in files),
        fix="hand the public key file to the authority first; or name the agency with --agency",
    )


def open_keys(
    files: Sequence[KeyFile], membership: Membership, passphrase: Passphrase
) -> list[NumberedSigner]:
    signers = []
    for file in files:
        known = passphrase.to_open(file.path.name) if file.is_encrypted else None
        number = membership.keys[file.public.fingerprint]
        signers.append(NumberedSigner(number, file.open(known).signer))
    return signers
