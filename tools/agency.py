"""``sudur agency``: key pairs, and issuing documents."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ledger.checkpoints import open_checkpoint
from ledger.documents import TYPE_FIELD, check_text
from ledger.records import Basis
from ledger.registry_records import TypeRecord
from ledger.trust import TrustedLedger
from tools.agency_dir import AgencyDirectory, Membership
from tools.client import LedgerClient
from tools.errors import KeyFileError, Usage
from tools.files import locked
from tools.http_resources import HttpResources
from tools.issuing import (
    Issuer,
    Outcome,
    check_path,
    file_name,
    make_document,
    not_issued,
    type_fields,
)
from tools.keyfile import KeyFile, check_label, make_key
from tools.options import Json_, Node, PassphraseFile, connect
from tools.pinning import check_node, load_trust, only_ledger, pinned_by_node
from tools.registered import newest_agencies, registered_keys
from tools.signing import NumberedSigner
from tools.ui import Passphrase, emit_json, printable, progress, remark, say

app = typer.Typer(no_args_is_help=True, help="For agencies: make keys, issue documents.")

_Directory = Annotated[Path, typer.Option("--dir", metavar="DIR", help="The agency's directory.")]


class Use(StrEnum):
    """What a key pair is for."""

    SUBMIT = "submit"
    REGISTRY = "registry"
    ENVELOPE = "envelope"


class Ground(StrEnum):
    """On what grounds a document is issued."""

    ORIGINAL = "original"
    ARCHIVE = "archive"
    MIGRATED = "migrated"
    REPLACEMENT = "replacement"


@app.command()
def keygen(
    directory: _Directory,
    use: Annotated[
        Use, typer.Option(help="submit: issue and revoke; registry: manage own keys; envelope: receive.")
    ] = Use.SUBMIT,
    label: Annotated[
        str | None,
        typer.Option(help="A pseudonym, public for ever, like desk-2. No personal names. Default: the use."),
    ] = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json_ = False,
) -> None:
    """Make a key pair; the public key file is what the authority is handed.

    The private key never leaves the directory, is encrypted when a passphrase is given, and is never
    printed. Read the fingerprint to the authority by telephone, so that nobody can swap the file.

    Example: sudur agency keygen --dir registry --label desk-1
    """
    if label is not None:
        try:
            check_label(label)
        except KeyFileError as error:
            raise Usage(error.what, where=f"--label {error.where}") from None
    agency = AgencyDirectory.create(directory)
    with locked(agency.path):
        key = make_key(use.value, agency.free_label(use.value) if label is None else label)
        passphrase = Passphrase(passphrase_file).to_make()
        private, public = agency.add_key(key, passphrase)
    if passphrase is None:
        remark("The private key is not encrypted: give a passphrase to protect it.")
    if as_json:
        emit_json(
            {
                "public_key_file": str(public),
                "private_key_file": str(private),
                "fingerprint": key.public.fingerprint,
                "use": use.value,
            }
        )
        return
    say(f"For the authority:  {public}")
    say(f"Its fingerprint:    {key.public.fingerprint}")
    say(f"Keep to yourself:   {private}")


@app.command()
def issue(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", exists=True, dir_okay=False, readable=True)],
    node: Node,
    directory: _Directory,
    type_: Annotated[
        int, typer.Option("--type", metavar="T", min=0, max=65_535, help="The document type; 0: undeclared.")
    ] = 0,
    field: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="A field of the document, the same for every FILE. Repeatable."
        ),
    ] = None,
    basis: Annotated[Ground, typer.Option(help="On what grounds.")] = Ground.ORIGINAL,
    signer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY",
            help="The key that signs, by label or path; repeat it for four-eyes. Default: the only one.",
        ),
    ] = None,
    agency: Annotated[
        int | None,
        typer.Option(min=1, help="The agency's number, for a first use; else it is looked for by its keys."),
    ] = None,
    trust: Annotated[
        Path | None,
        typer.Option(
            metavar="TRUST.json",
            exists=True,
            dir_okay=False,
            help="The authority's trust file: pins the ledger, at first use.",
        ),
    ] = None,
    trust_on_first_use: Annotated[
        bool,
        typer.Option("--trust-on-first-use", help="Without a trust file: believe the node, this once."),
    ] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where receipts go. Default: receipts in --dir.")
    ] = None,
    url: Annotated[
        str | None, typer.Option(metavar="URL", help="Static resources elsewhere than the node says.")
    ] = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json_ = False,
) -> None:
    """Issue one document for each FILE, and write one receipt for each.

    A document has the fields of its type and the file itself, of which only hashes leave this machine.
    What is signed is saved before it is sent: after a crash or a lost connection give the same command
    again, and it finishes that work, with nothing lost and nothing issued twice. Another command
    finishes it too, and first. When nothing is left to finish, the same file makes a new document.

    Example: sudur agency issue --node 127.0.0.1:7070 --dir registry --trust trust.json --type 1
    --field "child=نور" birth.pdf
    """
    for path in (directory, *files, *([out] if out else [])):
        check_path(path)
    values = _fields(field or ())
    here = AgencyDirectory.open(directory)
    key_files = _key_files(here, signer or ())
    with locked(here.path), connect(node) as client:
        ledger, resources_url = _pinned(here, client, trust, trust_on_first_use)
        membership = _membership(here, client, agency, key_files)
        signers = _open_keys(key_files, membership, Passphrase(passphrase_file))
        definition = TypeRecord.decode(client.record(f"type/{type_}").record) if type_ else None
        fields = type_fields(definition, values)
        with progress("Reading files", len(files)) as advance:
            documents = []
            for path in files:
                documents.append(make_document(membership.agency, definition, fields, path))
                advance(1)
        with HttpResources(url or resources_url) as resources:
            issuer = Issuer(here, client, resources, ledger, membership.agency, signers)
            if here.pending():
                remark("Finishing earlier work first")
            with progress("Writing receipts", len(files)) as advance:
                earlier = issuer.finish_pending()
                left = not_issued(documents, Basis[basis.name], earlier)
                outcome = issuer.issue(
                    [documents[position] for position in left],
                    [file_name(files[position]) for position in left],
                    Basis[basis.name],
                    out or here.receipts,
                    advance,
                )
    _report(earlier, outcome, as_json)


def _report(earlier: Outcome, outcome: Outcome, as_json: bool) -> None:
    issued = (*earlier.issued, *outcome.issued)
    refused = (*earlier.refused, *outcome.refused)
    if as_json:
        emit_json(
            {
                "issued": [
                    {
                        "receipt": str(one.receipt),
                        "index": one.index,
                        "commitment": one.commitment.hex(),
                        "verdict": one.verdict.value,
                    }
                    for one in issued
                ],
                "refused": [
                    {
                        "receipts": [str(path) for path in one.receipts],
                        "code": one.error.code,
                        "why": str(one.error),
                    }
                    for one in refused
                ],
            }
        )
    else:
        for one in issued:
            say(f"{one.receipt}  index {one.index}")
    doubted = [one for one in issued if one.verdict.exit_code != 0]
    if doubted:
        one = doubted[0]
        remark(f"{len(doubted)} receipts do not verify as genuine: {one.verdict.value}: {one.reason}")
    elsewhere = [(one.receipt, one.elsewhere) for one in issued if one.elsewhere is not None]
    if elsewhere:
        receipt, error = elsewhere[0]
        number = len(elsewhere)
        remark(f"{number} receipt{'s' if number > 1 else ''} had to go to {receipt.parent}: {error}")
    for stuck in earlier.stuck:
        remark(f"Earlier work is still not finished: {stuck.batch}")
    if refused:
        number = sum(len(one.receipts) for one in refused)
        remark(f"{number} document{'s were' if number > 1 else ' was'} refused and not issued")
        raise refused[0].error
    if earlier.stuck:
        raise earlier.stuck[0].error


# --- the ledger, the agency, the keys ----------------------------------------------------------


def _pinned(
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
    open_checkpoint(client.checkpoint(), ledger.origin, ledger.log_keys)
    here.pin(ledger)
    if given is None:
        remark(
            f"Pinned to the ledger that the node shows, {printable(ledger.origin)}: compare its name"
            f" {ledger.genesis.hex()} with what the authority publishes"
        )
    return ledger, resources_url


def _key_files(here: AgencyDirectory, names: Sequence[str]) -> list[KeyFile]:
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


def _membership(
    here: AgencyDirectory, client: LedgerClient, agency: int | None, files: Sequence[KeyFile]
) -> Membership:
    """The agency's number and the numbers of these keys: remembered, or found and then remembered."""
    known = here.membership()
    if known is not None and agency is not None and agency != known.agency:
        raise Usage(f"this directory is agency {known.agency}'s", where="--agency")
    wanted = {file.public.fingerprint for file in files}
    if known is not None and wanted <= known.keys.keys():
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


def _open_keys(
    files: Sequence[KeyFile], membership: Membership, passphrase: Passphrase
) -> list[NumberedSigner]:
    signers = []
    for file in files:
        known = passphrase.to_open(file.path.name) if file.is_encrypted else None
        number = membership.keys[file.public.fingerprint]
        signers.append(NumberedSigner(number, file.open(known).signer))
    return signers


def _fields(values: Sequence[str]) -> list[tuple[str, str]]:
    fields = []
    for value in values:
        name, equals, text = value.partition("=")
        if not equals or not name:
            raise Usage(f"{printable(value)!r} is not NAME=VALUE", where="--field")
        if name == TYPE_FIELD:
            raise Usage(f"{value!r}: no field is named {TYPE_FIELD}", where="--field", fix="give --type T")
        check_text(f"field {printable(name)}", text)
        fields.append((name, text))
    return fields
