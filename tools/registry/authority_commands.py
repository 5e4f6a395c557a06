"""``sudur authority``: a new ledger's keys and genesis, and every change of its registry."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ledger.canonical_json import Reader
from ledger.changes import MAX_AGENCY, MAX_KEY_NUMBER, AgencyMoved, Subject, TypeDefined
from ledger.documents import check_composed
from ledger.errors import FormatError
from ledger.leaves import MAX_LEAF_SIZE
from ledger.notes import check_key_name
from tools.errors import Usage
from tools.files import locked, read_file
from tools.keyfile import KeyFile
from tools.options import Json_, Node, OfAlgorithm, PassphraseFile, number_of
from tools.people_json import read_json
from tools.registry import agency_commands, ledger_commands, proposal_commands
from tools.registry.authority_directory import MAX_KEYS, AuthorityDirectory, join, split
from tools.registry.change_commands import Directory, DryRun, How, Number, Propose, Report, agency, carry_out
from tools.registry.change_text import one_name
from tools.registry.changing import Wish, check_body, pending_path
from tools.registry.stolen_command import stolen
from tools.ui import Passphrase, emit_json, remark, say

app = typer.Typer(
    no_args_is_help=True,
    help="For the authority: begin a ledger, enrol agencies, define types; every change of the registry.",
)


# --- the authority's own keys ------------------------------------------------------------------


@app.command()
def init(
    directory: Directory,
    origin: Annotated[
        str, typer.Option(metavar="ORIGIN", help="The log's name, for ever: like ledger.example.gov/main")
    ],
    keys: Annotated[int, typer.Option(min=1, max=MAX_KEYS, help="How many authority keys (n).")] = 1,
    threshold: Annotated[
        int, typer.Option(min=1, max=MAX_KEYS, help="How many of them must sign a change (k).")
    ] = 1,
    training: Annotated[
        bool, typer.Option("--training", help="Mark the ledger as one for training, unmistakably.")
    ] = False,
    post_quantum: Annotated[
        bool,
        typer.Option(
            "--post-quantum",
            help="Authority keys of Ed25519 and ML-DSA-44 together, and a log key of ML-DSA-44 as well.",
        ),
    ] = False,
    passphrase_file: PassphraseFile = None,
    as_json: Json_ = False,
) -> None:
    """Make the keys, the genesis leaf and the trust file of a new ledger.

    A node is then started with genesis.leaf and log.key.json, and with --post-quantum also with
    log-ml-dsa-44.key.json; trust.json is what verifiers pin.

    Example: sudur authority init --dir authority --origin ledger.example.gov/main --keys 3 --threshold 2
    """
    if threshold > keys:
        raise Usage(f"{threshold} of {keys} keys cannot sign", where="--threshold")
    try:
        check_key_name(origin)  # the log's keys bear it
    except FormatError as error:
        raise Usage(error.what, where="--origin", fix=error.fix) from None
    passphrase = Passphrase(passphrase_file).to_make()
    made = AuthorityDirectory.create(
        directory,
        origin=origin,
        keys=keys,
        threshold=threshold,
        training=training,
        post_quantum=post_quantum,
        passphrase=passphrase,
    )
    ledger = made.ledger()
    if passphrase is None:
        remark("The authority's private keys are not encrypted: give a passphrase to protect them.")
    logs = made.log_key_paths()
    files = {"genesis": made.genesis_path, "trust": made.trust_path, "log_key": made.log_key_path}
    if as_json:
        emit_json(
            {
                "ledger": ledger.genesis.hex(),
                "origin": ledger.origin,
                **{name: str(path) for name, path in files.items()},
                "log_keys": [str(path) for path in logs],
            }
        )
        return
    say(f"Ledger {ledger.origin}")
    say(f"  its name for machines: {ledger.genesis.hex()}")
    say(f"  {threshold} of {keys} authority keys decide" + (", for training only" if training else ""))
    say(f"  for the node:      {', '.join(map(str, (made.genesis_path, *logs)))}")
    say(f"  for verifiers:     {made.trust_path}")


@app.command("split")
def split_(
    directory: Directory,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the directories of the holders go.")],
    as_json: Json_ = False,
) -> None:
    """Move each authority key to a directory of its own, with the genesis and the trust file beside it.

    Each holder takes one away, to a machine of theirs; what is left here signs nothing. Cut off half-way,
    the same command goes on.

    Example: sudur authority split --dir authority --out holders
    """
    source = AuthorityDirectory.open(directory)
    with locked(source.path):
        if pending_path(source.path).exists():
            raise Usage(
                "a change is on its way here", where="--dir", fix="give the command again that began it"
            )
        made = split(source, out)
    if not made:
        raise Usage(f"there is no authority key in {directory}", where="--dir")
    if as_json:
        emit_json({"directories": [str(path) for path in made]})
        return
    for path in made:
        say(f"For one holder:  {path}")


@app.command()
def keygen(
    directory: Directory,
    number: Annotated[
        int,
        typer.Option(min=1, max=MAX_KEY_NUMBER, help="Its number: the next that the authority never had."),
    ],
    genesis: Annotated[
        Path, typer.Option(metavar="FILE", exists=True, dir_okay=False, help="The ledger's genesis.leaf.")
    ],
    algorithm: OfAlgorithm = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json_ = False,
) -> None:
    """Make a key for an authority that is there, in a directory of its holder's.

    The public file is for whoever prepares the change: sudur authority replace-authority --add FILE.

    Example: sudur authority keygen --dir key-4 --number 4 --genesis genesis.leaf
    """
    if directory.exists() and not directory.is_dir():
        raise Usage(f"{directory} is a file", where="--dir")
    leaf = read_file(genesis, MAX_LEAF_SIZE)
    passphrase = Passphrase(passphrase_file).to_make()
    public = join(directory, leaf, number, passphrase, number_of(algorithm))
    if passphrase is None:
        remark("The private key is not encrypted: give a passphrase to protect it.")
    key = KeyFile(AuthorityDirectory(directory).key_path(number)).public
    if as_json:
        emit_json({"public_key_file": str(public), "fingerprint": key.fingerprint})
        return
    say(f"To be handed over:  {public}")
    say(f"Its fingerprint:    {key.fingerprint}")


# --- changes -----------------------------------------------------------------------------------


@app.command()
def define_type(
    definition: Annotated[
        Path, typer.Argument(metavar="TYPE.json", exists=True, dir_okay=False, help="Labels and fields.")
    ],
    directory: Directory,
    node: Node,
    propose: Propose = None,
    dry_run: DryRun = False,
    passphrase_file: PassphraseFile = None,
    as_json: Json_ = False,
) -> None:
    """Define a document type, for ever, and print its number.

    The file: {"labels": {"en": "Birth record"}, "fields": [{"name": "child", "labels": {"en": "Child"},
    "required": true, "shown": true, "expiry": false, "identity": true}]}. The four flags may be left out
    when they are false, a field's labels when its name will do. The very same type is not defined twice.

    Example: sudur authority define-type --dir authority --node 127.0.0.1:7070 birth.json
    """
    AuthorityDirectory.open(directory)
    body = _read_type(definition)
    label = one_name(body.labels)
    carry_out(
        How(directory, node, None, propose, dry_run, passphrase_file, as_json),
        lambda _: Wish(Subject("type"), body),
        Report(
            lambda made: f"Document type {made.subject.number} is defined: {label}",
            lambda made: {"type": made.subject.number},
        ),
    )


@app.command()
def move(
    number: Number,
    directory: Directory,
    node: Node,
    parent: Annotated[
        int, typer.Option(min=0, max=MAX_AGENCY, help="The agency it comes under; 0: the authority itself.")
    ],
    propose: Propose = None,
    dry_run: DryRun = False,
    passphrase_file: PassphraseFile = None,
    as_json: Json_ = False,
) -> None:
    """Put an agency under another one, with all that stand below it.

    Example: sudur authority move 7 --parent 3 --dir authority --node 127.0.0.1:7070
    """
    carry_out(
        How(directory, node, None, propose, dry_run, passphrase_file, as_json),
        lambda _: Wish(agency(number), AgencyMoved(parent)),
        Report(lambda _: f"Agency {number} stands under {f'agency {parent}' if parent else 'the authority'}"),
    )


for _command in agency_commands.COMMANDS:
    app.command()(_command)
app.command()(stolen)
for _command in ledger_commands.COMMANDS:
    app.command()(_command)
for _name, _command in proposal_commands.COMMANDS:
    app.command(_name)(_command)


def _read_type(path: Path) -> TypeDefined:
    """A type as people write it; what is left out gets its plain value. Raises FormatError."""
    value = read_json(path)
    if not isinstance(value, dict) or not isinstance(value.get("fields"), list):
        raise FormatError('{"labels": {…}, "fields": […]} is expected', where=str(path))
    plain = {"required": False, "shown": False, "expiry": False, "identity": False}
    for field in value["fields"]:
        if not isinstance(field, dict):
            raise FormatError("each field is an object", where=f"{path}: fields")
        # An expiry is always shown, so nobody has to say so.
        shown = {"shown": field.get("expiry") is True}
        field.update({"labels": {"en": field.get("name")}, **plain, **shown, **field})
    reader = Reader(value, str(path))
    body = TypeDefined.read(reader)
    reader.done()
    for one in body.fields:
        for text in (one.name, *one.labels.values()):
            check_composed(f"{path}: field {one.name}", text)
    for text in body.labels.values():
        check_composed(f"{path}: labels", text)
    check_body("type", body)
    return body
