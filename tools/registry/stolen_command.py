"""``sudur authority stolen``: a key in wrong hands, and what declaring it makes doubtful."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import typer

from ledger.changes import MAX_KEY_NUMBER, KeyStolen
from ledger.leaves import LeafType, leaf_type
from ledger.registry_leaf import RegistryLeaf
from ledger.submissions import SubmissionLeaf
from tools.client import LedgerClient
from tools.options import Json_, Node, PassphraseFile
from tools.registry.change_commands import (
    Context,
    Directory,
    DryRun,
    How,
    Number,
    Propose,
    Report,
    agency,
    carry_out,
)
from tools.registry.changing import Wish


@dataclass(slots=True)
class Signed:
    """What a key signed from an index on: submissions with their records, and registry changes."""

    submissions: list[int] = field(default_factory=list)
    records: int = 0
    alone: int = 0
    changes: list[int] = field(default_factory=list)


def signed_since(client: LedgerClient, number: int, key: int, since: int) -> Signed:
    """What the key signed at index ``since`` or later, read from the log itself. Costs its whole tail."""
    found = Signed()
    for index, leaf in enumerate(client.entries(since), since):
        kind = leaf_type(leaf)
        if kind is LeafType.SUBMISSION:
            head = SubmissionLeaf.decode(leaf)
            if head.agency == number and any(one.number == key for one in head.signatures):
                found.submissions.append(index)
                found.records += head.count
                found.alone += len(head.signatures) == 1
        elif kind is LeafType.REGISTRY:
            change = RegistryLeaf.decode(leaf)
            if any((one.agency, one.number) == (number, key) for one in change.signatures):
                found.changes.append(index)
    return found


def stolen(
    number: Number,
    key: Annotated[int, typer.Argument(metavar="KEY", min=1, max=MAX_KEY_NUMBER, help="The key's number.")],
    since: Annotated[
        int, typer.Argument(metavar="SINCE", min=0, help="The first index at which it was in wrong hands.")
    ],
    directory: Directory,
    node: Node,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    propose: Propose = None,
    dry_run: DryRun = False,
    passphrase_file: PassphraseFile = None,
    as_json: Json_ = False,
) -> None:
    """Declare an agency's key stolen since an index; first show what that makes doubtful, and ask.

    What the key signed from there on is doubtful, unless other keys met the policy, until the agency
    affirms what is genuine. Keys that it helped to add are stolen with it. The index can later only be
    moved to an earlier one.

    Example: sudur authority stolen 7 2 180233 --dir authority --node 127.0.0.1:7070
    """

    def warn(context: Context) -> list[str]:
        found = signed_since(context.client, number, key, since)
        who, count = f"Key {key} of agency {number}", len(found.submissions)
        lines = [f"{who} signed {count} submissions since index {since}, {found.alone} of them alone"]
        lines.append(f"  they hold {found.records} records")
        if found.submissions:
            lines.append(f"  the first at index {found.submissions[0]}, the last at {found.submissions[-1]}")
        if found.changes:
            listed = ", ".join(str(index) for index in found.changes[:10])
            lines.append(f"  and {len(found.changes)} registry changes: at {listed}")
        return lines

    carry_out(
        How(directory, node, None, propose, dry_run, passphrase_file, as_json),
        lambda _: Wish(agency(number), KeyStolen(key, since)),
        Report(lambda _: f"Key {key} of agency {number} is declared stolen since index {since}"),
        warn=warn,
        confirm=not yes,
    )
