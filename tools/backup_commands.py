"""``sudur node backup``, ``verify-backup``, ``restore`` and ``drill``: the log in a directory, and back."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ledger.canonical_json import Json
from ledger.trust import TrustedLedger
from tools.errors import Usage
from tools.options import Json_, channels
from tools.pinning import load_trust, only_ledger
from tools.ui import emit_json, progress, say

if TYPE_CHECKING:
    from ledger.backups import Manifest
    from node.copying.backup import Progress

_Trust = Annotated[
    Path,
    typer.Option("--trust", metavar="TRUST.json", exists=True, dir_okay=False, help="What is believed."),
]
_From = Annotated[
    Path, typer.Option("--from", metavar="DIR", exists=True, file_okay=False, help="The backup.")
]


def backup(
    node: Annotated[
        str,
        typer.Option(
            metavar="ADDR", help="One node or mirror: 127.0.0.1:7070, or grpcs://node:7070 for TLS."
        ),
    ],
    to: Annotated[Path, typer.Option("--to", metavar="DIR", file_okay=False, help="Where the backup is.")],
    trust: _Trust,
    letters: Annotated[
        Path | None,
        typer.Option(
            metavar="DATA",
            exists=True,
            file_okay=False,
            help="On the node's own machine: its data directory, to copy the letters that it keeps as well.",
        ),
    ] = None,
    as_json: Json_ = False,
) -> None:
    """Bring a backup up to what a running node or mirror has. Only what is new is fetched.

    Everything is proven against the node's newest signed checkpoint before it is written. Interrupted, the
    same command goes on. The letters are no part of the log: see docs/operations.md on what their copy is.

    Example: sudur node backup --node 127.0.0.1:7070 --to /backup/ledger --trust trust.json
    """
    from node.copying.backup import add_letters

    manifest = _backed_up(node, to, only_ledger(load_trust(trust)))
    if letters is not None:
        manifest = add_letters(to, letters)
    _tell(manifest, f"backed up to {to}", as_json)


def verify_backup(
    directory: Annotated[Path, typer.Argument(metavar="DIR", exists=True, file_okay=False)],
    trust: _Trust,
    as_json: Json_ = False,
) -> None:
    """Check a backup: that every file is whole, and that its blocks are those the log has signed.

    Exit codes: 0 it is, 1 it is not.

    Example: sudur node verify-backup /backup/ledger --trust trust.json
    """
    from node.copying.backup import verify_backup as verify

    with _shown("Verifying") as told:
        manifest = verify(directory, only_ledger(load_trust(trust)), progress=told)
    _tell(manifest, "whole, and the log's", as_json)


def restore(
    backup_dir: _From,
    data: Annotated[
        Path,
        typer.Option("--data", metavar="DIR", file_okay=False, help="The data directory that is made."),
    ],
    trust: _Trust,
    mark: Annotated[
        Path | None,
        typer.Option(metavar="FILE", dir_okay=False, help="Its mark. Default: beside the data directory."),
    ] = None,
    sign_from_here: Annotated[
        bool,
        typer.Option(
            "--sign-from-here",
            help="For a node alone: you have made sure that nobody has seen a newer checkpoint.",
        ),
    ] = False,
    as_json: Json_ = False,
) -> None:
    """Make a node's data from a backup, checking every block by the rules. Interrupted, it goes on.

    What is made has an identity of its own, which has neither signed nor voted. Nothing is restored over
    anything.

    Example: sudur node restore --from /backup/ledger --data /var/lib/sudur/data --trust trust.json
    """
    from node.copying.backup import restore as bring_back

    with _shown("Restoring") as told:
        made = bring_back(
            backup_dir,
            data,
            only_ledger(load_trust(trust)),
            mark_path=mark,
            may_sign=sign_from_here,
            progress=told,
        )
    if as_json:
        emit_json(
            {"size": made.size, "blocks": made.blocks, "root": made.root.hex(), "letters_bytes": made.letters}
        )
        return
    say(f"restored: {made.size:,} leaves in {made.blocks:,} blocks, root {made.root.hex()}")
    say(f"in {data}")
    say()
    say("Next: a mirror (--follow), or a member of a cluster (--journal), fetches the rest by itself.")
    if sign_from_here:
        say("It may also be started alone, with --log-key.")
        return
    say("A node alone does not sign with it. If it must: make sure that nobody has seen a newer checkpoint")
    say("(the old node's mark, a mirror, a monitor, another backup), and restore with --sign-from-here. What")
    say("was issued after it is not in here, and to sign over it would fork the log.")


def drill(
    trust: _Trust,
    backup_dir: Annotated[
        Path | None,
        typer.Option("--from", metavar="DIR", exists=True, file_okay=False, help="An existing backup."),
    ] = None,
    node: Annotated[
        str, typer.Option(metavar="ADDR", help="Or: make a fresh backup of this node, for the drill alone.")
    ] = "",
    scratch: Annotated[
        Path | None,
        typer.Option(metavar="DIR", file_okay=False, help="Where there is room. Default: the system's."),
    ] = None,
    as_json: Json_ = False,
) -> None:
    """Show that a backup brings the ledger back: restore it elsewhere, check it wholly, and remove it.

    Exit codes: 0 the ledger came back whole, 1 it did not.

    Example: sudur node drill --from /backup/ledger --trust trust.json
    """
    from node.copying.drill import drill as run_drill

    if (backup_dir is None) == (not node):
        raise Usage("one of --from and --node says what is drilled")
    trusted = only_ledger(load_trust(trust))
    if scratch is not None:
        scratch.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix="sudur-drill-", dir=scratch))
    try:
        began = time.monotonic()
        if backup_dir is None:
            backup_dir = place / "backup"
            _backed_up(node, backup_dir, trusted)
        backup_s = time.monotonic() - began
        with _shown("Drilling") as told:
            found = run_drill(backup_dir, place, trusted, told)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    if as_json:
        emit_json({**found.to_json(), "backup_s": round(backup_s, 3)})
        return
    say(f"the ledger came back: {found.size:,} leaves in {found.blocks:,} blocks, root {found.root.hex()}")
    parts = [("backed up", backup_s)] if node else []
    parts += [("verified", found.verify_s), ("restored", found.restore_s), ("checked", found.fsck_s)]
    say(", ".join(f"{what} in {seconds:.1f} s" for what, seconds in parts))


def _backed_up(node: str, to: Path, trusted: TrustedLedger) -> Manifest:
    from node.copying.backup import back_up
    from node.copying.remote_blocks import CHANNEL_OPTIONS, RemoteBlocks
    from node.doors.grpc_api import now_ms

    with (
        channels([node], "--node", CHANNEL_OPTIONS)(node) as link,
        _shown("Backing up") as told,
    ):
        return back_up(RemoteBlocks(link, node), to, trusted, wall_ms=now_ms, progress=told)


def _tell(manifest: Manifest, what: str, as_json: bool) -> None:
    if as_json:
        told: Json = {
            "genesis": manifest.genesis.hex(),
            "origin": manifest.origin,
            "size": manifest.size,
            "blocks": manifest.blocks,
            "root": manifest.root.hex(),
            "made_ms": manifest.made_ms,
            "files": len(manifest.files),
            "bytes": sum(one.length for one in manifest.files),
            "letters_bytes": None if manifest.letters is None else manifest.letters.length,
        }
        emit_json(told)
        return
    length = sum(one.length for one in manifest.files)
    say(f"{what}: {manifest.size:,} leaves in {manifest.blocks:,} blocks, {length / (1 << 20):,.1f} MiB")
    say(f"root {manifest.root.hex()}")
    if manifest.letters is not None:
        say(f"and letters, {manifest.letters.length / (1 << 20):,.1f} MiB")


@contextmanager
def _shown(what: str) -> Iterator[Progress]:
    """A count at a terminal of the leaves that are done."""
    with progress(what, None) as advance:
        done = 0

        def told(now: int, total: int) -> None:
            nonlocal done
            advance(now - done if now > done else 0)
            done = max(done, now)

        yield told
