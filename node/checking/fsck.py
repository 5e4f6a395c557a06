"""fsck: rebuild everything from the entries, compare it with what the data directory holds, repair it.

Every block is replayed through ``ledger.rules.apply`` (signatures, policies, totals and roots in the
seal), its root is compared with the checkpoint that was signed, and every row that follows from it
with the row that is stored (node/checking/fsck_rows.py). Memory stays bounded however long the log: some
hundred MiB, and about 150 bytes for each subject whose status ever changed and for each agency, day
and kind of record. Checking changes no row (RocksDB may flush its write-ahead log, as at any start).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from ledger import rules
from ledger.canonical_json import Json
from ledger.checkpoints import Checkpoint, open_checkpoint, parse_checkpoint
from ledger.errors import FormatError, RuleError, RulesVersionUnknown, SudurError, VerificationError
from ledger.hashing import HASH_SIZE, leaf_hashes
from ledger.notes import parse_note
from ledger.seals import Seal
from ledger.signatures import Signer
from ledger.state import State
from ledger.submissions import unpack
from ledger.tiles import FULL_TILE_BYTES, TILE_WIDTH
from ledger.tree import Tree
from ledger.trust import Trust
from node import codec
from node.checking.entries import RESTORE, EntriesDamaged, EntryReader
from node.checking.fsck_rows import HEAD_KEY, Finding, Findings, RowChecker
from node.checking.repair import exchange, finish_exchange, prepare, rebuild
from node.commit import LogKeys
from node.database import BLOCKS, ENTRIES, META, TILES, Database
from node.errors import NotFound, ReadOnly, StoreDamaged
from node.head import Head
from node.journal import candidate_block
from node.letters.envelope_store import ENVELOPE_DIRECTORY, EnvelopeStore
from node.mark import Mark
from node.node import DATABASE_DIRECTORY, default_mark_path, holds_database

Progress = Callable[[str], None]
_PROGRESS_LEAVES: Final = 1_000_000
_ENTRIES: Final = "entries"


@dataclass(frozen=True, slots=True)
class Report:
    """What fsck found.

    ``size``, ``blocks``, ``documents``: what the entries were replayed to; nothing at or after ``size``
    is vouched for when a finding is about the entries. ``findings``: what is wrong, the first found
    first. ``repaired``: what was wrong before a repair; ``kept``: where it put the damaged database.
    """

    size: int
    blocks: int
    documents: int
    findings: tuple[Finding, ...] = ()
    repaired: tuple[Finding, ...] = ()
    kept: Path | None = None

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong (any more)."""
        return not self.findings

    @property
    def entries_sound(self) -> bool:
        """Whether the entries are those that the log has signed, to their end."""
        return all(one.part not in (_ENTRIES, "database") for one in self.findings)

    @property
    def repairable(self) -> bool:
        """Whether the entries are sound, and something is wrong that follows from them."""
        return self.entries_sound and any(one.repairable for one in self.findings)

    def to_json(self) -> Json:
        """For scripts: the fields, and ``sound``."""
        return {
            "sound": self.sound,
            "entries_sound": self.entries_sound,
            "repairable": self.repairable,
            "size": self.size,
            "blocks": self.blocks,
            "documents": self.documents,
            "findings": [_finding_json(one) for one in self.findings],
            "repaired": [_finding_json(one) for one in self.repaired],
            "kept": None if self.kept is None else str(self.kept),
        }

    def __str__(self) -> str:
        held = f"{self.size:,} leaves in {self.blocks:,} blocks, {self.documents:,} documents"
        lines = [f"repaired: {one}" for one in self.repaired]
        if self.kept is not None:
            lines.append(f"the damaged database is kept in {self.kept}; remove it when all is well")
        if self.sound:
            return "\n".join([*lines, f"sound: {held}; all of it agrees with the entries"])
        lines += [f"DAMAGED: {self.findings[0]}", *(f"also: {one}" for one in self.findings[1:])]
        if self.entries_sound:
            lines.append(f"the entries are sound: {held}")
            if self.repairable:
                lines.append("what follows from them can be rebuilt: sudur node fsck --repair")
        else:
            lines.append(f"from leaf {self.size:,} on nothing can be vouched for")
            lines.append(RESTORE)
        return "\n".join(lines)


def run_fsck(
    data_dir: Path,
    repair: bool = False,
    trust: Trust | None = None,
    progress: Progress = lambda text: None,
    *,
    mark_path: Path | None = None,
    signers: Sequence[Signer] = (),
) -> Report:
    """Check a data directory; with ``repair``, rebuild what follows from the entries and check again.

    ``trust``: by which the newest checkpoint must open as well, with what the replayed log has changed
    since; the keys that the ledger itself names are always used. ``signers``: the log's own keys, with
    which a repair signs checkpoints that are missing again. ``progress`` gets a line every million leaves.

    No row changes without ``repair``, nor with it while the entries are at fault. The node
    must be down. Raises DataInUse, NotFound, RulesVersionUnknown, and in a repair DiskFull, NodeError.
    """
    if repair:
        finish_exchange(data_dir)
    if not holds_database(data_dir):
        raise NotFound("no ledger was begun here", where=str(data_dir))
    about_mark = Findings()
    mark = _open_mark(mark_path or default_mark_path(data_dir), about_mark)
    try:
        check = _Check(data_dir, mark, trust, progress)
        report = check.run(about_mark.all())
        may_sign = bool(signers) and report.entries_sound and not report.sound
        if not repair or not (report.repairable or may_sign):
            return report
        prepare(data_dir)
        kept = check.repair(signers)
        after = _Check(data_dir, mark, trust, progress).run(about_mark.all())
        return replace(after, repaired=report.findings, kept=kept)
    finally:
        if mark is not None:
            mark.close()


class _Check:
    """One pass over a data directory."""

    def __init__(self, data_dir: Path, mark: Mark | None, trust: Trust | None, progress: Progress) -> None:
        self._data_dir = data_dir
        self._mark = mark
        self._trust = trust
        self._progress = progress
        self._done = 0
        self._head: Head | None = None
        self._state: State | None = None

    def run(self, known: Iterable[Finding]) -> Report:
        """Replay, compare, report; ``known``: what was found before."""
        findings = Findings(known)
        try:
            database = Database(self._data_dir / DATABASE_DIRECTORY)
        except StoreDamaged as error:
            findings.add("database", "unreadable", str(error), repairable=False)
            return self._report(findings, 0)
        _check_envelopes(self._data_dir / ENVELOPE_DIRECTORY, findings)
        vouched: int | None = None
        try:
            try:
                if not self._replay(database, findings, look_up=False):
                    findings = Findings(known)
                    self._replay(database, findings, look_up=True)
            except EntriesDamaged as error:
                findings.add(_ENTRIES, "wrong", f"{error.where}: {error.what}", repairable=False)
                self._count_damaged(database, error.first, findings)
                vouched = error.first
        finally:
            database.close()
        return self._report(findings, vouched)

    def repair(self, signers: Sequence[Signer]) -> Path:
        """Rebuild the database that :meth:`run` found sound in its entries."""
        assert self._head is not None
        assert self._state is not None
        keys = LogKeys(self._state.registry.ledger.origin, signers) if signers else None
        marked = _marked(self._mark)
        self._done = 0

        def note_for(head: Head, state: State, stored: bytes | None) -> bytes | None:
            try:
                if stored is not None:
                    record = state.registry.ledger
                    found = open_checkpoint(stored, record.origin, record.log_keys_at(head.size))
                    if (found.checkpoint.size, found.checkpoint.root) == (head.size, head.root):
                        return stored
            except SudurError:
                pass
            # Nothing is signed that the mark does not show this node to have signed already.
            if keys is None or marked is None or head.size > marked.size:
                return None
            return keys.sign(state, head)

        database = Database(self._data_dir / DATABASE_DIRECTORY)
        try:
            rebuild(database, self._data_dir, self._head, note_for, lambda more: self._tell("rebuilt", more))
        finally:
            database.close()
        return exchange(self._data_dir)

    def _replay(self, database: Database, findings: Findings, *, look_up: bool) -> bool:
        """Replay and compare; False when what is wrong with the issues shows only to ``look_up``."""
        self._head, self._state, self._done = None, None, 0
        stored = _stored_head(database)
        marked = _marked(self._mark)
        reader = EntryReader(database)
        checker = RowChecker(
            database,
            findings,
            _newest_seal_ms(database, stored),
            look_up=look_up,
            of_cluster=stored is not None and stored.members > 0,
        )
        tree = Tree.empty()
        marked_root: bytes | None = None
        for leaves, packed in reader.blocks():
            start = tree.size
            checker.begin(start)
            try:
                transition = rules.apply(self._state, checker, leaves)
            except RulesVersionUnknown:
                raise
            except (RuleError, FormatError, VerificationError) as error:
                raise _at_fault(database, start, leaves, error) from error
            block = candidate_block(self._head, tree, transition, packed)
            checker.check_block(block, transition.state.registry.ledger.log_keys_at(block.head.size))
            self._head, self._state, tree = block.head, transition.state, block.tree
            self._tell("checked", len(leaves))
            if marked is not None and marked.size == block.head.size:
                marked_root = block.head.root
            if stored is not None and block.head.same_tree(stored):
                # These two do not follow from the entries: a cluster says them.
                self._head = replace(block.head, epoch=stored.epoch, members=stored.members)
                if marked is None or marked.size <= block.head.size:
                    break
        if self._head is None or self._state is None:
            raise EntriesDamaged("there are none", first=0, where="leaf 0")
        size = self._head.size
        if marked is not None and marked.size > size:
            raise EntriesDamaged(
                f"this node has signed a tree of {marked.size} leaves, the entries end at {size}",
                first=size,
                where=f"leaf {size}",
            )
        if stored is not None and stored.size > size and _was_committed(database, stored):
            raise EntriesDamaged(
                f"block {stored.block} was committed with {stored.size} leaves, the entries end at {size}",
                first=size,
                where=f"leaf {size}",
            )
        self._check_end(database, reader, size)
        agreed = checker.finish(self._state, self._head)
        self._check_mark(marked, marked_root, findings)
        return agreed

    def _check_end(self, database: Database, reader: EntryReader, size: int) -> None:
        if reader.read > size:
            raise EntriesDamaged(
                f"{reader.read - size} leaves stand behind the newest block", first=size, where=f"leaf {size}"
            )
        for key, _ in database.rows(ENTRIES, codec.u64(reader.bundles)):
            raise EntriesDamaged(
                f"row {key.hex()} stands behind the newest block", first=size, where=f"leaf {size}"
            )

    def _check_mark(self, marked: Head | Checkpoint | None, root: bytes | None, findings: Findings) -> None:
        assert self._state is not None
        if self._mark is None:
            return
        if marked is None:
            if self._state.block > 0:
                _wrong_mark(findings, "it is empty, though the ledger has blocks: it is not this node's")
            return
        if self._mark.note is not None and not self._check_note(self._mark.note, findings):
            return
        if root != marked.root:
            found = "no block ends there" if root is None else f"the entries have the root {root.hex()}"
            raise EntriesDamaged(
                f"this node has signed the root {marked.root.hex()} for size {marked.size}, and {found}:"
                " they are not the entries that it released",
                first=0,
                where=f"leaves 0 to {marked.size - 1}",
            )

    def _check_note(self, note: bytes, findings: Findings) -> bool:
        """Whether the mark's checkpoint is signed by keys of this log, and one that the trust file knows."""
        assert self._state is not None
        origin = self._state.registry.ledger.origin
        size = parse_checkpoint(parse_note(note).text).size
        try:
            open_checkpoint(note, origin, self._state.registry.ledger.log_keys_at(size))
        except SudurError as error:
            _wrong_mark(findings, f"its checkpoint of size {size} does not verify: {error}")
            return False
        if self._trust is not None:
            try:
                pinned = self._trust.ledger(self._state.genesis)
                pinned.with_replayed(self._state.registry.ledger).open(note)
            except SudurError as error:
                _wrong_mark(findings, f"the trust file does not know who signed it: {error}")
        return True

    def _count_damaged(self, database: Database, first: int, findings: Findings) -> None:
        """Bundles behind the first damage whose leaves are not those of the stored tiles."""
        number = first // TILE_WIDTH
        try:
            for key, row in database.rows(ENTRIES, codec.u64(number + 1)):
                tile = database.get(TILES, codec.tile_key(0, codec.read_u64(key)))
                try:
                    hashes = b"".join(leaf_hashes(unpack(row, most=TILE_WIDTH)))
                except SudurError:
                    hashes = b""
                if tile is None or hashes != tile[:FULL_TILE_BYTES]:
                    text = f"bundle {codec.read_u64(key)} is not what its tile says"
                    findings.add(_ENTRIES, "wrong", text, repairable=False)
        except StoreDamaged as error:
            findings.add(_ENTRIES, "unreadable", str(error), repairable=False)

    def _tell(self, what: str, more: int) -> None:
        before, self._done = self._done, self._done + more
        if before // _PROGRESS_LEAVES != self._done // _PROGRESS_LEAVES:
            self._progress(f"{what} {self._done:,} leaves")

    def _report(self, findings: Findings, vouched: int | None) -> Report:
        state = self._state
        if state is None:
            return Report(0, 0, 0, findings.all())
        size = state.size if vouched is None else min(state.size, vouched)
        return Report(size, state.block + 1, state.documents, findings.all())


def _at_fault(database: Database, start: int, leaves: list[bytes], error: SudurError) -> EntriesDamaged:
    """Which leaf of a block that the rules refuse is to blame: the first that its tile does not know."""
    for at, found in enumerate(leaf_hashes(leaves)):
        number, position = divmod(start + at, TILE_WIDTH)
        try:
            tile = database.get(TILES, codec.tile_key(0, number))
        except StoreDamaged:
            tile = None
        if tile is not None and tile[position * HASH_SIZE :][:HASH_SIZE] != found:
            return EntriesDamaged(
                f"its bytes in bundle {number} have not the hash that the tree holds for it ({error})",
                first=start + at,
                where=f"leaf {start + at}",
            )
    return EntriesDamaged(
        f"the log itself breaks the rules: {error}", first=start, where=f"leaves {start} on"
    )


def _stored_head(database: Database) -> Head | None:
    try:
        row = database.get(META, HEAD_KEY)
        return None if row is None else Head.decode(row)
    except StoreDamaged:
        return None


def _newest_seal_ms(database: Database, head: Head | None) -> int:
    """The time of the newest seal as the head points to it; far in the future when it cannot be read."""
    unknown = 1 << 62
    if head is None or head.size == 0:
        return unknown
    number, position = divmod(head.size - 1, TILE_WIDTH)
    try:
        leaves = unpack(database.get(ENTRIES, codec.u64(number)) or b"", most=TILE_WIDTH)
        return Seal.decode(leaves[position]).time_ms
    except (SudurError, IndexError):
        return unknown


def _was_committed(database: Database, head: Head) -> bool:
    """Whether the block's own row agrees with a head: then it is not the head that is wrong."""
    try:
        row = database.get(BLOCKS, codec.u64(head.block))
        if row is None:
            return False
        info = codec.BlockInfo.decode(head.block, row)
    except StoreDamaged:
        return False
    return (info.size, info.root, info.digest) == (head.size, head.root, head.digest)


def _open_mark(path: Path, findings: Findings) -> Mark | None:
    try:
        return Mark.open(path)
    except NotFound:
        _no_mark(path, findings)
    except StoreDamaged as error:
        findings.add("mark", "unreadable", str(error), repairable=False)
    return None


def _check_envelopes(directory: Path, findings: Findings) -> None:
    """Each by its digest: nothing in the log says what is in them, so nothing of them can be rebuilt."""
    if not directory.exists():
        return
    try:
        store = EnvelopeStore(directory)
    except StoreDamaged as error:
        findings.add("envelopes", "unreadable", str(error), repairable=False)
        return
    try:
        for line in store.damaged():
            findings.add("envelopes", "wrong", line, repairable=False)
    except (StoreDamaged, ReadOnly) as error:
        findings.add("envelopes", "unreadable", str(error), repairable=False)
    finally:
        store.close()


def _no_mark(path: Path, findings: Findings) -> None:
    text = f"there is no mark file at {path}: nobody can tell whether this copy is the newest"
    findings.add("mark", "missing", text, repairable=False)


def _wrong_mark(findings: Findings, text: str) -> None:
    findings.add("mark", "wrong", text, repairable=False)


def _marked(mark: Mark | None) -> Head | Checkpoint | None:
    """The newest tree that the mark says this node has released or voted for, unverified."""
    if mark is None:
        return None
    noted = None if mark.note is None else parse_checkpoint(parse_note(mark.note).text)
    voted = mark.vote.head
    if noted is None or (voted is not None and voted.size >= noted.size):
        return voted
    return noted


def _finding_json(finding: Finding) -> Json:
    return {
        "part": finding.part,
        "kind": finding.kind,
        "first": finding.first,
        "count": finding.count,
        "repairable": finding.repairable,
    }
