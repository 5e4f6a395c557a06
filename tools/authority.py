"""``sudur authority``: a new ledger's keys and genesis, agencies, document types."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ledger.canonical_json import Json, Reader, encode, parse
from ledger.changes import (
    AUTHORITY,
    ROLES,
    USES,
    AgencyEnrolled,
    Change,
    ChangeBody,
    Entitlement,
    KeysAdded,
    NewKey,
    Subject,
    TypeDefined,
    parse_change,
)
from ledger.documents import check_composed
from ledger.errors import FormatError, RuleError, UnknownAgency
from ledger.leaves import NONE
from ledger.notes import check_key_name
from ledger.registry_leaf import RegistryLeaf
from ledger.registry_records import AgencyRecord, LedgerRecord
from ledger.signatures import key_fingerprint
from ledger.signing_policy import SigningPolicy
from ledger.trust import TrustedLedger
from tools.authority_dir import MAX_KEYS, AuthorityDirectory, Enrolment
from tools.client import LedgerClient
from tools.errors import Usage
from tools.files import locked, read_file
from tools.keyfile import PublicKey, load_public_key
from tools.options import Json_, Node, PassphraseFile, connect
from tools.pinning import check_node
from tools.registered import newest_agencies, registered_keys
from tools.signing import NumberedSigner, signed_change
from tools.ui import Passphrase, emit_json, remark, say

app = typer.Typer(
    no_args_is_help=True, help="For the authority: begin a ledger, enrol agencies, define types."
)

_Directory = Annotated[Path, typer.Option("--dir", metavar="DIR", help="The authority's directory.")]
_MAX_INPUT = 1 << 20


@app.command()
def init(
    directory: _Directory,
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
    passphrase_file: PassphraseFile = None,
    as_json: Json_ = False,
) -> None:
    """Make the keys, the genesis leaf and the trust file of a new ledger.

    A node is then started with genesis.leaf and log.key.json; trust.json is what verifiers pin.

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
        passphrase=passphrase,
    )
    ledger = made.ledger()
    if passphrase is None:
        remark("The authority's private keys are not encrypted: give a passphrase to protect them.")
    files = {"genesis": made.genesis_path, "trust": made.trust_path, "log_key": made.log_key_path}
    if as_json:
        emit_json(
            {
                "ledger": ledger.genesis.hex(),
                "origin": ledger.origin,
                **{name: str(path) for name, path in files.items()},
            }
        )
        return
    say(f"Ledger {ledger.origin}")
    say(f"  its name for machines: {ledger.genesis.hex()}")
    say(f"  {threshold} of {keys} authority keys decide" + (", for training only" if training else ""))
    say(f"  for the node:      {made.genesis_path} and {made.log_key_path}")
    say(f"  for verifiers:     {made.trust_path}")


@app.command()
def enrol(
    directory: _Directory,
    node: Node,
    name: Annotated[
        list[str],
        typer.Option(
            metavar="LANG=NAME",
            help="The agency's name in a language (BCP 47), like en=Registry. Repeatable.",
        ),
    ],
    key: Annotated[
        list[Path],
        typer.Option(metavar="FILE", help="A public key file (.pub.json) of the agency. Repeatable."),
    ],
    role: Annotated[
        list[str], typer.Option(metavar="ROLE", help=f"One of {', '.join(ROLES)}. Repeatable.")
    ] = ["issue"],  # noqa: B006 - Typer reads the default, nothing changes it
    type_: Annotated[
        list[int] | None,
        typer.Option(
            "--type", metavar="ID", help="A document type that it may issue; 0 is none in particular."
        ),
    ] = None,
    policy: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Its signing policy, JSON by kind of record.")
    ] = None,
    parent: Annotated[int, typer.Option(min=0, help="The agency above it; 0: the authority.")] = AUTHORITY,
    passphrase_file: PassphraseFile = None,
    as_json: Json_ = False,
) -> None:
    """Enrol an agency with its keys, and print its number.

    Two changes are logged, each signed by k of the authority's keys. When the second could not be sent,
    the same command finishes it and enrols nobody twice.

    Example: sudur authority enrol --dir authority --node 127.0.0.1:7070 --name "en=Civil Registry"
    --name "ar=السجل المدني" --role issue --type 1 --key submit.pub.json
    """
    authority = AuthorityDirectory.open(directory)
    body = AgencyEnrolled(
        _names(name),
        parent,
        Entitlement(tuple(sorted(set(role))), tuple(sorted(set(type_ or ()))), _policy(policy)),
    )
    keys = _new_keys(key)
    _check_body(Subject("agency", 1), body)
    with locked(authority.path), connect(node) as client:
        ledger = authority.ledger()
        check_node(client, ledger)
        signers = _signers(authority, client, Passphrase(passphrase_file))
        enrolment = authority.enrolment()
        if enrolment is not None and not _is_same(enrolment, body, keys):
            number = _finish(authority, client, ledger, signers, enrolment)
            remark(f"Finished an enrolment that was begun earlier: agency {number}")
            enrolment = None
        if enrolment is None:
            _check_new(client, keys)
            agency = _ledger_record(client).agencies + 1
            leaf = signed_change(Change(Subject("agency", agency), NONE, body), ledger.genesis, signers)
            enrolment = Enrolment(agency, leaf, keys)
            authority.begin(enrolment)
        number = _finish(authority, client, ledger, signers, enrolment)
    if as_json:
        emit_json({"agency": number, "keys": [one.number for one in keys]})
    else:
        say(f"Agency {number} is enrolled, with {len(keys)} key{'s' if len(keys) > 1 else ''}")


@app.command()
def define_type(
    definition: Annotated[
        Path, typer.Argument(metavar="TYPE.json", exists=True, dir_okay=False, help="Labels and fields.")
    ],
    directory: _Directory,
    node: Node,
    passphrase_file: PassphraseFile = None,
    as_json: Json_ = False,
) -> None:
    """Define a document type, for ever, and print its number.

    The file: {"labels": {"en": "Birth record"}, "fields": [{"name": "child", "labels": {"en": "Child"},
    "required": true, "shown": true, "expiry": false, "identity": true}]}. The four flags may be left out
    when they are false, a field's labels when its name will do.

    Example: sudur authority define-type --dir authority --node 127.0.0.1:7070 birth.json
    """
    authority = AuthorityDirectory.open(directory)
    body = _read_type(definition)
    with locked(authority.path), connect(node) as client:
        ledger = authority.ledger()
        check_node(client, ledger)
        signers = _signers(authority, client, Passphrase(passphrase_file))
        number = _ledger_record(client).types + 1
        leaf = signed_change(Change(Subject("type", number), NONE, body), ledger.genesis, signers)
        client.change_registry(ledger.genesis, leaf)
    if as_json:
        emit_json({"type": number})
    else:
        say(f"Document type {number} is defined: {next(iter(body.labels.values()))}")


# --- signing and sending -----------------------------------------------------------------------


def _ledger_record(client: LedgerClient) -> LedgerRecord:
    """Unproven: a wrong count makes a change that the ledger refuses, nothing worse."""
    return LedgerRecord.decode(client.record("ledger").record)


def _signers(
    authority: AuthorityDirectory, client: LedgerClient, passphrase: Passphrase
) -> list[NumberedSigner]:
    """k of the keys in the directory, opened. Raises Usage when fewer are here."""
    record = _ledger_record(client)
    active = {one.number: one for one in record.authority_keys if one.ended is None}
    files = [
        (number, file)
        for number, file in authority.key_files()
        if number in active and active[number].public_key == file.public.key
    ]
    if len(files) < record.k:
        raise Usage(
            f"{record.k} authority keys must sign, {len(files)} lie in {authority.path}",
            where="--dir",
            fix="bring the other keys' files there",
        )
    signers = []
    for number, file in files[: record.k]:
        known = passphrase.to_open(file.path.name) if file.is_encrypted else None
        signers.append(NumberedSigner(number, file.open(known).signer))
    return signers


def _finish(
    authority: AuthorityDirectory,
    client: LedgerClient,
    ledger: TrustedLedger,
    signers: Sequence[NumberedSigner],
    enrolment: Enrolment,
) -> int:
    """Send both changes; the agency's number. What was logged before is recognised, not repeated."""
    subject = Subject("agency", enrolment.agency)
    try:
        previous = client.change_registry(ledger.genesis, enrolment.leaf)
    except (RuleError, FormatError):
        record = _enrolled(client, enrolment)
        if record is None:
            authority.end()
            raise
        if record.key_count:
            authority.end()
            return enrolment.agency
        previous = record.changed
    added = signed_change(Change(subject, previous, KeysAdded(enrolment.keys)), ledger.genesis, signers)
    try:
        client.change_registry(ledger.genesis, added)
    except (RuleError, FormatError) as error:
        authority.end()
        error.where = f"agency {enrolment.agency} is enrolled, but its keys were refused"
        raise
    authority.end()
    return enrolment.agency


def _enrolled(client: LedgerClient, enrolment: Enrolment) -> AgencyRecord | None:
    """The agency's record, when it was this very enrolment that made it."""
    try:
        record = AgencyRecord.decode(client.record(f"agency/{enrolment.agency}").record)
    except UnknownAgency:
        return None
    made = next(client.entries(record.enrolled, record.enrolled + 1), b"")
    return record if made == enrolment.leaf else None


def _check_new(client: LedgerClient, keys: Sequence[NewKey]) -> None:
    """Refuse a key that is registered already; else the agency would be enrolled, and its keys refused.

    The newest agencies are looked through, and the authority's own keys; the ledger knows them all.
    Raises Usage.
    """
    wanted = {key_fingerprint(key.algorithm, key.public_key).hex(): key.label for key in keys}
    if len(wanted) != len(keys):
        raise Usage("one key is given twice", where="--key")
    known = {
        key_fingerprint(one.algorithm, one.public_key).hex(): "the authority"
        for one in _ledger_record(client).authority_keys
    }
    for agency in newest_agencies(client):
        known |= dict.fromkeys(registered_keys(client, agency), f"agency {agency}")
    for fingerprint in wanted.keys() & known.keys():
        raise Usage(
            f"the key {wanted[fingerprint]} is registered already, with {known[fingerprint]}",
            where="--key",
            fix="have the agency make a new one: sudur agency keygen",
        )


def _is_same(enrolment: Enrolment, body: AgencyEnrolled, keys: tuple[NewKey, ...]) -> bool:
    return RegistryLeaf.decode(enrolment.leaf).change().body == body and enrolment.keys == keys


# --- what the options and files say ------------------------------------------------------------


def _names(values: Sequence[str]) -> dict[str, str]:
    names: dict[str, str] = {}
    for value in values:
        language, equals, text = value.partition("=")
        if not equals or not language or not text:
            raise Usage(f"{value!r} is not LANG=NAME", where="--name", fix="write it like en=Registry")
        if language in names:
            raise Usage(f"{language} is given twice", where="--name")
        check_composed(f"--name {language}", text)
        names[language] = text
    return names


def _policy(path: Path | None) -> SigningPolicy:
    if path is None:
        return SigningPolicy()
    return SigningPolicy.from_json(_read_json(path), str(path))


def _new_keys(paths: Sequence[Path]) -> tuple[NewKey, ...]:
    publics: list[PublicKey] = []
    for path in paths:
        public = load_public_key(path)
        if public.use not in USES:
            raise Usage(f"a key for {public.use} is no agency's", where=str(path))
        publics.append(public)
    return tuple(
        NewKey(number, public.algorithm, public.key, public.use, public.label)
        for number, public in enumerate(publics, 1)
    )


def _read_json(path: Path) -> Json:
    """JSON as people write it; what canonical JSON cannot say is refused. Raises FormatError, FileProblem."""
    data = read_file(path, _MAX_INPUT)
    try:
        return parse(encode(json.loads(data, object_pairs_hook=_object)), limit=2 * _MAX_INPUT)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"is not JSON: {error}", where=str(path)) from None
    except FormatError as error:
        raise FormatError(error.what, where=str(path)) from None


def _object(pairs: list[tuple[str, Json]]) -> Json:
    """A JSON object in which each name stands once: else a reader may take the other value."""
    value: dict[str, Json] = {}
    for name, one in pairs:
        if name in value:
            raise FormatError(f"the name {name!a} stands twice in one object")
        value[name] = one
    return value


def _read_type(path: Path) -> TypeDefined:
    """A type as people write it; what is left out gets its plain value. Raises FormatError."""
    value = _read_json(path)
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
    _check_body(Subject("type", 1), body)
    return body


def _check_body(subject: Subject, body: ChangeBody) -> None:
    """Refuse here what no node would take. Raises FormatError."""
    parse_change(Change(subject, NONE, body).to_json())
