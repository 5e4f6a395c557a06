"""Changes of the ledger itself: who decides, which keys sign for the log, its witnesses, its rules."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from ledger.changes import (
    LEDGER,
    MAX_POLICY,
    AuthorityKey,
    AuthorityReplaced,
    AuthoritySet,
    LedgerClosed,
    LogKeyAdded,
    LogKeyEnded,
    RulesRaised,
    WitnessPolicyChanged,
)
from ledger.checkpoints import log_key
from ledger.errors import FormatError
from ledger.leaves import MAX_LEAF_SIZE
from ledger.notes import VerifierKey
from ledger.registry_changes import found
from ledger.witness_policy import parse_policy
from tools.errors import KeyFileError, Usage
from tools.files import read_file
from tools.keyfile import KeyFile, load_public_key
from tools.options import Json_, Node, PassphraseFile
from tools.registry.authority_directory import MAX_KEYS, AuthorityDirectory
from tools.registry.change_commands import Context, Directory, DryRun, How, Propose, Report, carry_out
from tools.registry.changing import Wish, check_body

_LogKey = Annotated[
    str,
    typer.Argument(
        metavar="KEY",
        help="The log key: its public key file, its key file (of which that half is read), or a vkey.",
    ),
]


def replace_authority(
    directory: Directory,
    node: Node,
    threshold: Annotated[
        int, typer.Option(min=1, max=MAX_KEYS, help="How many of the new set must sign a change (k).")
    ],
    keep: Annotated[
        list[int] | None,
        typer.Option(metavar="N", help="A key that stays. Repeatable. Default: all that are in use."),
    ] = None,
    add: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="A new key's public file (authority-N.pub.json). Repeatable."),
    ] = None,
    drop: Annotated[
        list[int] | None, typer.Option(metavar="N", help="A key that ends; the others stay. Repeatable.")
    ] = None,
    propose: Propose = None,
    dry_run: DryRun = False,
    passphrase_file: PassphraseFile = None,
    as_json: Json_ = False,
) -> None:
    """Replace the set of keys that decide: k of the old ones must sign, and each of the new.

    Example: sudur authority replace-authority --dir authority --node 127.0.0.1:7070 --threshold 2 --drop 3
    --add authority-4.pub.json --propose succession.proposal
    """
    if keep and drop:
        raise Usage("say which stay or which end, not both", where="--keep")
    publics = [load_public_key(path) for path in add or ()]
    for path, public in zip(add or (), publics, strict=True):
        if public.use != "authority":
            raise Usage(f"a key for {public.use} is no authority's", where=str(path))

    def wish(context: Context) -> Wish:
        known = context.view.ledger.authority_keys
        active = {one.number: one for one in known if one.ended is None}
        for number in (*(keep or ()), *(drop or ())):
            if number not in active:
                raise Usage(f"the authority has no key {number} in use", where="--keep" if keep else "--drop")
        staying = set(keep) if keep else active.keys() - set(drop or ())
        fresh = [one for one in publics if all(one.key != active[n].public_key for n in staying)]
        first = max(one.number for one in known) + 1
        keys = (
            *(AuthorityKey(n, active[n].algorithm, active[n].public_key) for n in sorted(staying)),
            *(AuthorityKey(n, one.algorithm, one.key) for n, one in enumerate(fresh, first)),
        )
        if threshold > len(keys):
            raise Usage(f"{threshold} of {len(keys)} keys cannot sign", where="--threshold")
        body = AuthorityReplaced(AuthoritySet(threshold, keys))
        check_body("ledger", body)
        return Wish(LEDGER, body)

    carry_out(
        How(directory, node, None, propose, dry_run, passphrase_file, as_json),
        wish,
        Report(lambda made: f"The authority is replaced, at index {made.index}"),
    )


def add_log_key(
    key: _LogKey,
    directory: Directory,
    node: Node,
    propose: Propose = None,
    dry_run: DryRun = False,
    passphrase_file: PassphraseFile = None,
    as_json: Json_ = False,
) -> None:
    """Let a further key sign for the log; verifiers who renew their trust believe it from then on.

    Start every node with the key first (sudur node keygen makes one): once a key of ML-DSA-44 is
    registered, no checkpoint is signed without.

    Example: sudur authority add-log-key log-2.pub.json --dir authority --node 127.0.0.1:7070
    """
    body = LogKeyAdded(_vkey(key, directory))
    carry_out(
        How(directory, node, None, propose, dry_run, passphrase_file, as_json),
        lambda _: Wish(LEDGER, body),
        Report(lambda _: f"The log key is registered: {body.vkey}"),
    )


def end_log_key(
    key: _LogKey,
    directory: Directory,
    node: Node,
    last_size: Annotated[
        int, typer.Option(metavar="SIZE", min=1, help="The largest tree that it may have signed.")
    ],
    propose: Propose = None,
    dry_run: DryRun = False,
    passphrase_file: PassphraseFile = None,
    as_json: Json_ = False,
) -> None:
    """Say up to which size of the tree a log key signs. Another key must be there already, or the ledger
    be closed: then the log ends with that size.

    Example: sudur authority end-log-key log.key.json --last-size 250000 --dir authority
    --node 127.0.0.1:7070
    """
    body = LogKeyEnded(_vkey(key, directory), last_size)
    carry_out(
        How(directory, node, None, propose, dry_run, passphrase_file, as_json),
        lambda _: Wish(LEDGER, body),
        Report(lambda _: f"The log key signs no tree larger than {last_size}"),
    )


def witness_policy(
    directory: Directory,
    node: Node,
    policy: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", exists=True, dir_okay=False, help="A C2SP witness policy, text."),
    ] = None,
    none: Annotated[bool, typer.Option("--none", help="Ask for no witness.")] = False,
    propose: Propose = None,
    dry_run: DryRun = False,
    passphrase_file: PassphraseFile = None,
    as_json: Json_ = False,
) -> None:
    """Change which witnesses must have cosigned a checkpoint before it is believed.

    Example: sudur authority witness-policy policy.txt --dir authority --node 127.0.0.1:7070
    """
    if (policy is None) is not none:
        raise Usage("give a policy file, or --none", where="FILE")
    text = "" if policy is None else _policy_text(policy)
    carry_out(
        How(directory, node, None, propose, dry_run, passphrase_file, as_json),
        lambda _: Wish(LEDGER, WitnessPolicyChanged(text)),
        Report(lambda made: f"The witness policy holds from index {made.index} on"),
    )


def raise_rules(
    version: Annotated[int, typer.Argument(metavar="VERSION", min=1, max=65_535, help="The new version.")],
    directory: Directory,
    node: Node,
    block: Annotated[int, typer.Option(metavar="N", min=1, help="The first block under them.")],
    propose: Propose = None,
    dry_run: DryRun = False,
    passphrase_file: PassphraseFile = None,
    as_json: Json_ = False,
) -> None:
    """Raise the rules of the ledger to another version, from a block to come.

    Nodes, auditors and witnesses that do not know that version stop there: agree on it first.

    Example: sudur authority raise-rules 2 --block 90000 --dir authority --node 127.0.0.1:7070
    """
    carry_out(
        How(directory, node, None, propose, dry_run, passphrase_file, as_json),
        lambda _: Wish(LEDGER, RulesRaised(version, block)),
        Report(lambda _: f"Rules {version} hold from block {block} on"),
    )


def close_ledger(
    directory: Directory,
    node: Node,
    successor: Annotated[
        Path,
        typer.Option(
            metavar="GENESIS.leaf",
            exists=True,
            dir_okay=False,
            help="The genesis leaf of the ledger that follows this one.",
        ),
    ],
    propose: Propose = None,
    dry_run: DryRun = False,
    passphrase_file: PassphraseFile = None,
    as_json: Json_ = False,
) -> None:
    """Close the ledger, for ever, and name the one that follows: verifiers' trust goes on to that one.

    Nothing new is issued, attested or sent here after it. What stands can still be revoked, suspended,
    affirmed and answered, and keys looked after. To end the log itself, end its last log key later.

    Example: sudur authority close-ledger --successor next/genesis.leaf --dir authority
    --node 127.0.0.1:7070 --propose close.proposal
    """
    following = found(read_file(successor, MAX_LEAF_SIZE))
    body = LedgerClosed(following.genesis, following.ledger.origin)
    carry_out(
        How(directory, node, None, propose, dry_run, passphrase_file, as_json),
        lambda _: Wish(LEDGER, body),
        Report(lambda made: f"The ledger is closed at index {made.index}, followed by {body.origin}"),
    )


def _vkey(text: str, directory: Path) -> str:
    """A vkey, given as such or as the log's key file. Raises Usage, KeyFileError, NoteFormatError."""
    path = Path(text)
    if not path.is_file():
        try:
            return VerifierKey.parse(text).format()
        except FormatError as error:
            raise Usage(f"is neither a key file nor a vkey: {error.what}", where="KEY") from None
    try:
        public = load_public_key(path)
    except KeyFileError:
        public = KeyFile(path).public
    if public.use != "log":
        raise Usage(f"a key for {public.use} is no log key", where=str(path))
    return log_key(AuthorityDirectory.open(directory).ledger().origin, public.key, public.algorithm).format()


def _policy_text(path: Path) -> str:
    data = read_file(path, MAX_POLICY)
    try:
        parse_policy(data)
    except FormatError as error:
        raise FormatError(error.what, where=f"{path}: {error.where}", fix=error.fix) from None
    return data.decode("utf-8")


COMMANDS: tuple[Callable[..., Any], ...] = (
    replace_authority,
    add_log_key,
    end_log_key,
    witness_policy,
    raise_rules,
    close_ledger,
)
