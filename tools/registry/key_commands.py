"""``sudur agency keys`` and ``sudur agency change``: what an agency with registry keys does by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from ledger.canonical_json import Json, Reader, encode, parse
from ledger.changes import MAX_KEY_NUMBER, KeyEnded, KeysAdded, NewKey
from ledger.errors import FormatError
from ledger.registry_records import KeyRecord
from ledger.signatures import Algorithm
from tools.agency.directory import AgencyDirectory, Membership
from tools.errors import FileProblem, Usage
from tools.files import locked, read_file, remove_file, write_file
from tools.keyfile import KeyFile, check_algorithm, check_label, make_key
from tools.options import Json_, KeyAlgorithm, Node, OfAlgorithm, PassphraseFile, connect
from tools.pinning import check_node
from tools.registry import agency_commands, proposal_commands
from tools.registry.change_commands import (
    Context,
    Directory,
    DryRun,
    FirstTrust,
    How,
    Propose,
    Report,
    agency,
    carry_out,
)
from tools.registry.changing import Made, Wish
from tools.registry.registered import registered_keys
from tools.registry.seats import agency_of, open_seat, pin
from tools.registry.text import key_json, key_line
from tools.registry.view import NodeRegistry
from tools.ui import Passphrase, emit_json, quoted, remark, say

keys_app = typer.Typer(no_args_is_help=True, help="The agency's own keys in the registry.")
change_app = typer.Typer(
    no_args_is_help=True,
    help="With registry keys: enrol and manage the agencies below; sign and send proposals.",
)
for _command in agency_commands.COMMANDS:
    change_app.command()(_command)
for _name, _command in proposal_commands.COMMANDS:
    change_app.command(_name)(_command)

_ROTATION_FORMAT: Final = "sudur-rotation/v1"
_KeyNumber = Annotated[
    int, typer.Argument(metavar="KEY", min=1, max=MAX_KEY_NUMBER, help="The key's number.")
]


@keys_app.command("list")
def list_(directory: Directory, node: Node, trust: FirstTrust = None, as_json: Json_ = False) -> None:
    """List the agency's keys as they are registered, and say which of them lie in this directory.

    Example: sudur agency keys list --dir registry --node 127.0.0.1:7070
    """
    here = AgencyDirectory.open(directory)
    with locked(directory), connect(node) as client:
        pin(directory, trust, client)
        seat = open_seat(directory)
        check_node(client, seat.ledger)
        keys = NodeRegistry(client).keys(agency_of(seat, client))
    own = {one.public.key for use in ("submit", "registry", "envelope") for one in here.key_files(use)}
    if as_json:
        emit_json([{**key_json(one), "here": one.public_key in own} for one in keys])
        return
    for one in keys:
        say(f"{key_line(one)}{', in this directory' if one.public_key in own else ''}")


@keys_app.command("add")
def add(
    directory: Directory,
    node: Node,
    key: Annotated[
        list[Path],
        typer.Option("--key", metavar="FILE", help="A public key file (.pub.json). Repeatable."),
    ],
    trust: FirstTrust = None,
    propose: Propose = None,
    dry_run: DryRun = False,
    passphrase_file: PassphraseFile = None,
    as_json: Json_ = False,
) -> None:
    """Register further keys of the agency itself, signed by its registry keys.

    Example: sudur agency keys add --dir registry --node 127.0.0.1:7070 --key desk-2.pub.json
    """
    agency_commands.add_keys_of(
        lambda context: context.by,
        key,
        How(directory, node, trust, propose, dry_run, passphrase_file, as_json),
    )


@keys_app.command("end")
def end(
    key: _KeyNumber,
    directory: Directory,
    node: Node,
    trust: FirstTrust = None,
    propose: Propose = None,
    dry_run: DryRun = False,
    passphrase_file: PassphraseFile = None,
    as_json: Json_ = False,
) -> None:
    """End a key of the agency itself: it signs nothing more. What it signed stays sound.

    Example: sudur agency keys end 2 --dir registry --node 127.0.0.1:7070
    """
    carry_out(
        How(directory, node, trust, propose, dry_run, passphrase_file, as_json),
        lambda context: Wish(agency(context.by), KeyEnded(key)),
        Report(lambda _: f"Key {key} has ended"),
    )


@keys_app.command("rotate")
def rotate(
    key: _KeyNumber,
    directory: Directory,
    node: Node,
    label: Annotated[
        str | None, typer.Option(help="The new key's label, a pseudonym. Default: by its use.")
    ] = None,
    algorithm: OfAlgorithm = None,
    trust: FirstTrust = None,
    propose: Propose = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json_ = False,
) -> None:
    """Replace a key: make a new one of the same use here, register it, end the old one.

    It is of the old one's algorithm unless another is named: so an agency turns to ML-DSA-44, key by key.
    Cut off anywhere, the same command goes on where it was. With --propose each of the two changes is a
    proposal: send the first, then give the command again for the second.

    Example: sudur agency keys rotate 2 --dir registry --node 127.0.0.1:7070
    """
    here = AgencyDirectory.open(directory)
    old, new = _new_key(here, node, trust, key, label, algorithm, passphrase_file)
    how = How(directory, node, trust, propose, False, passphrase_file, as_json)

    def add_new(context: Context) -> Wish | Made:
        record = context.view.agency(context.by)
        there = next((one for one in context.view.keys(context.by) if one.public_key == new.public.key), None)
        if there is not None:
            return Made(agency(context.by), there.added)
        public = new.public
        body = KeysAdded(
            (NewKey(record.key_count + 1, public.algorithm, public.key, public.use, public.label),)
        )
        return Wish(agency(context.by), body)

    if carry_out(how, add_new) is None:
        remark("When that is sent, give the command again: it ends the old key")
        return
    _remember(here, node)
    ended = carry_out(how, lambda context: Wish(agency(context.by), KeyEnded(old)))
    if ended is None:
        remark("When that is sent, give the command once more: it sees that all is done")
        return
    remove_file(_rotation_path(here))
    if as_json:
        emit_json({"ended": old, "label": new.public.label, "index": str(ended.index)})
    else:
        say(f"Key {old} has ended, and {quoted(new.public.label)} is registered in its place")


# --- a rotation in the works -------------------------------------------------------------------


def _rotation_path(here: AgencyDirectory) -> Path:
    return here.path / "rotation.json"


def _new_key(
    here: AgencyDirectory,
    node: str,
    trust: Path | None,
    number: int,
    label: str | None,
    algorithm: KeyAlgorithm | None,
    passphrase_file: Path | None,
) -> tuple[int, KeyFile]:
    """The number of the old key and the file of the new one, made now unless it was made before.

    What is begun is written down before the key is made, so that no second one is made after a crash.
    """
    path = _rotation_path(here)
    with locked(here.path):
        if path.exists():
            old, name, use, kind = _read_rotation(path)
            if old != number:
                raise Usage(
                    f"key {old} is being rotated, to {name}",
                    where="KEY",
                    fix=f"finish that first: rotate {old}",
                )
        else:
            record = _rotated(here, node, trust, number)
            use, kind = record.use, algorithm.number if algorithm else Algorithm(record.algorithm)
            check_algorithm(use, kind)
            if label is not None:
                check_label(label)
            name = here.free_label(use) if label is None else label
            body: Json = {
                "format": _ROTATION_FORMAT,
                "old": number,
                "label": name,
                "use": use,
                "algorithm": int(kind),
            }
            write_file(path, encode(body) + b"\n")
        found = [one for one in here.key_files(use) if one.public.label == name]
        if not found:
            here.add_key(make_key(use, name, kind), Passphrase(passphrase_file).to_make())
            found = [one for one in here.key_files(use) if one.public.label == name]
    return number, found[0]


def _rotated(here: AgencyDirectory, node: str, trust: Path | None, number: int) -> KeyRecord:
    """The key to be rotated, as it is registered. Raises Usage when it is in use no more."""
    with connect(node) as client:
        pin(here.path, trust, client)
        seat = open_seat(here.path)
        check_node(client, seat.ledger)
        by = agency_of(seat, client)
        if not 1 <= number <= NodeRegistry(client).agency(by).key_count:
            raise Usage(f"agency {by} has no key {number}", where="KEY")
        key = NodeRegistry(client).key(by, number)
    if key.ended is not None:
        raise Usage(f"key {number} ended at index {key.ended}", where="KEY")
    return key


def _read_rotation(path: Path) -> tuple[int, str, str, Algorithm]:
    try:
        reader = Reader(parse(read_file(path, 4096).removesuffix(b"\n"), limit=4096), "rotation")
        if reader.text("format") != _ROTATION_FORMAT:
            raise FormatError(f"is not {_ROTATION_FORMAT}")
        old, label, use = reader.number("old", 1, MAX_KEY_NUMBER), reader.text("label"), reader.text("use")
        kind = Algorithm(reader.number("algorithm", min(Algorithm), max(Algorithm)))
        reader.done()
    except FormatError as error:
        raise FileProblem(f"is damaged: {error}", where=str(path)) from error
    return old, label, use, kind


def _remember(here: AgencyDirectory, node: str) -> None:
    """The agency's keys as they are registered now, so that the new one is found offline."""
    with locked(here.path), connect(node) as client:
        number = agency_of(open_seat(here.path), client)
        here.remember(Membership(number, registered_keys(client, number)))
