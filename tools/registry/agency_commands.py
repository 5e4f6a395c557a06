"""Changes of agencies: by the authority, and by an agency of those below it, with the same commands.

``sudur authority enrol`` and ``sudur agency change enrol`` differ in the directory that signs alone; who
may do what is for the ledger's rules to say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from ledger.canonical_json import Json
from ledger.changes import (
    MAX_AGENCY,
    MAX_KEY_NUMBER,
    ROLES,
    AgencyEnrolled,
    AgencyEntitled,
    AgencyReinstated,
    AgencyRenamed,
    AgencySuspended,
    ChangeBody,
    Entitlement,
    KeyEnded,
    KeysAdded,
    NewKey,
    Subject,
    SuccessorNamed,
)
from ledger.registry_records import AgencyRecord
from ledger.signatures import key_fingerprint
from tools.errors import Usage
from tools.options import Json_, Node, PassphraseFile
from tools.registry.change_commands import (
    Context,
    Directory,
    DryRun,
    FirstTrust,
    How,
    Names,
    Number,
    Propose,
    Report,
    agency,
    carry_out,
    names_of,
    new_keys,
)
from tools.registry.change_text import agency_words
from tools.registry.changing import Made, Wish, check_body, numbered
from tools.registry.policy_options import signing_policy
from tools.registry.registered import Holder, KeyIndex
from tools.registry.seats import check_directory

_ROLE_HELP = f"One of {', '.join(ROLES)}. Repeatable."
_Key = Annotated[
    list[Path],
    typer.Option("--key", metavar="FILE", help="A public key file (.pub.json) of the agency. Repeatable."),
]
_Types = Annotated[
    list[int] | None,
    typer.Option("--type", metavar="ID", help="A document type that it may issue; 0 is none in particular."),
]
_Policy = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Its signing policy, JSON by kind of record.")
]
_TwoOfficers = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KIND[=N]",
        help="Two keys must sign that kind of record, from the Nth of a day on. Repeatable.",
    ),
]
_DailyCap = Annotated[
    list[str] | None,
    typer.Option(metavar="KIND=N", help="At most N records of that kind a day. Repeatable."),
]


def enrol(
    directory: Directory,
    node: Node,
    name: Names,
    key: _Key,
    role: Annotated[list[str], typer.Option(metavar="ROLE", help=_ROLE_HELP)] = ["issue"],  # noqa: B006 - Typer reads the default, nothing changes it
    type_: _Types = None,
    policy: _Policy = None,
    two_officers: _TwoOfficers = None,
    daily_cap: _DailyCap = None,
    parent: Annotated[
        int | None,
        typer.Option(min=0, max=MAX_AGENCY, help="The agency above it, 0 the authority. Default: who signs."),
    ] = None,
    trust: FirstTrust = None,
    propose: Propose = None,
    dry_run: DryRun = False,
    passphrase_file: PassphraseFile = None,
    as_json: Json_ = False,
) -> None:
    """Enrol an agency with its keys, and print its number.

    Two changes are logged: the agency, then its keys. When the second could not be sent, the same command
    finishes it and enrols nobody twice.

    Example: sudur authority enrol --dir authority --node 127.0.0.1:7070 --name "en=Civil Registry"
    --name "ar=السجل المدني" --role issue --type 1 --key submit.pub.json --two-officers issue.original=100
    """
    check_directory(directory)
    entitlement = Entitlement(
        tuple(sorted(set(role))),
        tuple(sorted(set(type_ or ()))),
        signing_policy(policy, two_officers or (), daily_cap or ()),
    )
    body = AgencyEnrolled(names_of(name), 0 if parent is None else parent, entitlement)
    keys = new_keys(key)
    check_body("agency", body)

    def wish(context: Context) -> Wish | Made:
        mine = replace(body, parent=context.by) if parent is None else body
        there = _enrolled_with(context, mine, keys)
        return Wish(Subject("agency"), mine, keys) if there is None else there

    count = f"{len(keys)} key{'s' if len(keys) > 1 else ''}"
    carry_out(
        How(directory, node, trust, propose, dry_run, passphrase_file, as_json),
        wish,
        Report(
            lambda made: f"Agency {made.subject.number} is enrolled, with {count}",
            lambda made: {"agency": made.subject.number, "keys": [one.number for one in keys]},
        ),
    )


def rename(
    number: Number,
    directory: Directory,
    node: Node,
    name: Names,
    trust: FirstTrust = None,
    propose: Propose = None,
    dry_run: DryRun = False,
    passphrase_file: PassphraseFile = None,
    as_json: Json_ = False,
) -> None:
    """Give an agency new names: all of them, for the old ones go out of use together.

    Example: sudur authority rename 7 --dir authority --node 127.0.0.1:7070 --name "en=Civil Status"
    """
    body = AgencyRenamed(names_of(name))
    check_body("agency", body)
    carry_out(
        How(directory, node, trust, propose, dry_run, passphrase_file, as_json),
        lambda _: Wish(agency(number), body),
        Report(lambda _: f"Agency {number} is renamed"),
    )


def entitle(
    number: Number,
    directory: Directory,
    node: Node,
    role: Annotated[
        list[str] | None, typer.Option(metavar="ROLE", help=f"{_ROLE_HELP} Left out: as they are.")
    ] = None,
    no_roles: Annotated[bool, typer.Option("--no-roles", help="Take all roles away.")] = False,
    type_: _Types = None,
    no_types: Annotated[bool, typer.Option("--no-types", help="Take all document types away.")] = False,
    policy: _Policy = None,
    two_officers: _TwoOfficers = None,
    daily_cap: _DailyCap = None,
    no_policy: Annotated[
        bool, typer.Option("--no-policy", help="Back to one key for everything, and no caps.")
    ] = False,
    trust: FirstTrust = None,
    propose: Propose = None,
    dry_run: DryRun = False,
    passphrase_file: PassphraseFile = None,
    as_json: Json_ = False,
) -> None:
    """Say anew what an agency may do: its roles, its document types, how it must sign.

    Of the three, what is not mentioned stays; what is mentioned replaces all that was.

    Example: sudur authority entitle 7 --dir authority --node 127.0.0.1:7070 --type 1 --type 4
    --two-officers issue.original=100 --daily-cap issue.original=5000
    """
    for given, none, name in (
        (role, no_roles, "roles"),
        (type_, no_types, "types"),
        (policy or two_officers or daily_cap, no_policy, "policy"),
    ):
        if given and none:
            raise Usage(f"--no-{name} leaves nothing to be given", where=f"--no-{name}")
    asked = signing_policy(policy, two_officers or (), daily_cap or ())
    new_policy = bool(policy or two_officers or daily_cap or no_policy)
    check_body("agency", AgencyEntitled(Entitlement(tuple(sorted(set(role or ()))), (), asked)))

    def wish(context: Context) -> Wish:
        record = context.view.agency(number)
        entitlement = Entitlement(
            tuple(sorted(set(role or ()))) if role or no_roles else record.roles.latest,
            tuple(sorted(set(type_ or ()))) if type_ or no_types else record.types.latest,
            asked if new_policy else record.policy.latest,
        )
        return Wish(agency(number), AgencyEntitled(entitlement))

    carry_out(
        How(directory, node, trust, propose, dry_run, passphrase_file, as_json),
        wish,
        Report(lambda _: f"What agency {number} may do is as you said"),
    )


def suspend(
    number: Number,
    directory: Directory,
    node: Node,
    trust: FirstTrust = None,
    propose: Propose = None,
    dry_run: DryRun = False,
    passphrase_file: PassphraseFile = None,
    as_json: Json_ = False,
) -> None:
    """Suspend an agency: nothing more is logged in its name. What it issued before stays as it is.

    Only who suspended it, or somebody above them, reinstates it.

    Example: sudur authority suspend 7 --dir authority --node 127.0.0.1:7070
    """
    carry_out(
        How(directory, node, trust, propose, dry_run, passphrase_file, as_json),
        lambda _: Wish(agency(number), AgencySuspended()),
        Report(lambda _: f"Agency {number} is suspended"),
    )


def reinstate(
    number: Number,
    directory: Directory,
    node: Node,
    trust: FirstTrust = None,
    propose: Propose = None,
    dry_run: DryRun = False,
    passphrase_file: PassphraseFile = None,
    as_json: Json_ = False,
) -> None:
    """End an agency's suspension.

    Example: sudur authority reinstate 7 --dir authority --node 127.0.0.1:7070
    """
    carry_out(
        How(directory, node, trust, propose, dry_run, passphrase_file, as_json),
        lambda _: Wish(agency(number), AgencyReinstated()),
        Report(lambda _: f"Agency {number} is reinstated"),
    )


def successor(
    number: Number,
    by: Annotated[int, typer.Argument(metavar="SUCCESSOR", min=1, max=MAX_AGENCY, help="Who takes over.")],
    directory: Directory,
    node: Node,
    trust: FirstTrust = None,
    propose: Propose = None,
    dry_run: DryRun = False,
    passphrase_file: PassphraseFile = None,
    as_json: Json_ = False,
) -> None:
    """Name the agency that takes over from another: it may then revoke and answer in its place.

    Example: sudur authority successor 7 12 --dir authority --node 127.0.0.1:7070
    """
    carry_out(
        How(directory, node, trust, propose, dry_run, passphrase_file, as_json),
        lambda _: Wish(agency(number), SuccessorNamed(by)),
        Report(lambda _: f"Agency {by} is the successor of agency {number}"),
    )


def add_keys(
    number: Number,
    directory: Directory,
    node: Node,
    key: _Key,
    trust: FirstTrust = None,
    propose: Propose = None,
    dry_run: DryRun = False,
    passphrase_file: PassphraseFile = None,
    as_json: Json_ = False,
) -> None:
    """Register further keys of an agency, and print their numbers.

    Example: sudur authority add-keys 7 --dir authority --node 127.0.0.1:7070 --key desk-2.pub.json
    """
    add_keys_of(
        lambda _: number,
        key,
        How(directory, node, trust, propose, dry_run, passphrase_file, as_json),
    )


def add_keys_of(whose: Callable[[Context], int], files: Sequence[Path], how: How) -> None:
    """Register the public keys in these files with an agency, and tell their numbers."""
    check_directory(how.directory)
    keys = new_keys(files)
    check_body("agency", KeysAdded(keys))
    numbers: list[int] = []

    def wish(context: Context) -> Wish:
        of = whose(context)
        there = {(one.algorithm, one.public_key): one.number for one in context.view.keys(of)}
        added = numbered(keys, len(there) + 1)
        numbers.extend(there.get((one.algorithm, one.public_key), one.number) for one in added)
        return Wish(agency(of), KeysAdded(added))

    def text(made: Made) -> str:
        listed = ", ".join(map(str, numbers))
        return f"Registered with {made.subject}: key{'s' if len(numbers) > 1 else ''} {listed}"

    def value(made: Made) -> dict[str, Json]:
        return {"agency": made.subject.number, "keys": list(numbers)}

    carry_out(how, wish, Report(text, value))


def end_key(
    number: Number,
    key: Annotated[int, typer.Argument(metavar="KEY", min=1, max=MAX_KEY_NUMBER, help="The key's number.")],
    directory: Directory,
    node: Node,
    trust: FirstTrust = None,
    propose: Propose = None,
    dry_run: DryRun = False,
    passphrase_file: PassphraseFile = None,
    as_json: Json_ = False,
) -> None:
    """End a key of an agency: it signs nothing more. What it signed stays sound.

    A key in wrong hands is not merely ended: the authority declares it stolen.

    Example: sudur authority end-key 7 2 --dir authority --node 127.0.0.1:7070
    """
    carry_out(
        How(directory, node, trust, propose, dry_run, passphrase_file, as_json),
        lambda _: Wish(agency(number), KeyEnded(key)),
        Report(lambda _: f"Key {key} of agency {number} has ended"),
    )


COMMANDS: tuple[Callable[..., Any], ...] = (
    enrol,
    rename,
    entitle,
    suspend,
    reinstate,
    successor,
    add_keys,
    end_key,
)
"""What the authority does to any agency, and an agency to those below it."""


def _enrolled_with(context: Context, body: AgencyEnrolled, keys: tuple[NewKey, ...]) -> Made | None:
    """The agency that this very enrolment made, with these keys, if it was made before.

    The ledger would take the agency and then refuse its keys. Raises Usage when a key is registered
    otherwise.
    """
    wanted = {key_fingerprint(one.algorithm, one.public_key).hex(): one for one in keys}
    found = KeyIndex(context.seat.path / "registered.json", context.client).find(wanted)
    if not found:
        return None
    holders = {one.agency for one in found.values()}
    if len(found) == len(keys) and len(holders) == 1 and 0 not in holders:
        record = context.view.agency(holders.pop())
        if _is_enrolment_of(record, body):
            return Made(agency(record.number), record.enrolled)
    name, holder = min(found.items(), key=lambda item: wanted[item[0]].number)
    raise Usage(
        f"the key {wanted[name].label} is registered already, with {_holder(holder, context)}",
        where="--key",
        fix="have the agency make a new one: sudur agency keygen",
    )


def _holder(holder: Holder, context: Context) -> str:
    return agency_words(holder.agency, context.view)


def _is_enrolment_of(record: AgencyRecord, body: ChangeBody) -> bool:
    first = AgencyEnrolled(
        record.names.entries[0][1],
        record.parent.entries[0][1],
        Entitlement(record.roles.entries[0][1], record.types.entries[0][1], record.policy.entries[0][1]),
    )
    return first == body
