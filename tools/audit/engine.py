"""The audit of one log: every leaf replayed by the rules, every root recomputed, and all of it remembered.

:class:`AuditedLog` stands in a directory. :meth:`AuditedLog.advance` brings it to a signed checkpoint from
static resources that nobody needs to believe, or raises what it found (``tools.audit.errors``). What is
committed was shown to stand under a signature, so a server that gives wrong entries leaves nothing behind,
and a crash at any moment loses only what was not committed yet.

    ledger.json     which ledger this is an audit of
    heads           the signed checkpoints that were seen (``heads``)
    replay/         what follows from the log alone, and can be made anew: entries, table
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final

from ledger import rules
from ledger.canonical_json import Reader, encode, parse
from ledger.checkpoints import SignedCheckpoint
from ledger.errors import BlockRefused, FormatError, OutOfRange, VerificationError, WrongLedger
from ledger.evidence_making import refusal
from ledger.figures import FigureKey
from ledger.hashing import HASH_SIZE, leaf_hashes
from ledger.leaves import LeafType
from ledger.proofs import prove_consistency
from ledger.resources import Resources, checkpoint_path
from ledger.rules_v1 import MAX_BLOCK_LEAVES
from ledger.state import State
from ledger.submissions import Hashed
from ledger.tiles import TILE_WIDTH, TileNodeReader, entries_path
from ledger.tree import Tree
from ledger.trust import TrustedLedger
from tools.audit.bundles import split
from tools.audit.errors import (
    AuditError,
    BlockBroken,
    EndsAmidBlock,
    HistoryForked,
    Interrupted,
    ServedWrong,
    StateDamaged,
    StateOfAnother,
)
from tools.audit.feed import Portion, portions
from tools.audit.heads import Heads, Seen
from tools.audit.index import Index
from tools.audit.served import UNSHOWN, ServedTree
from tools.errors import AnswerWrong, CannotTell, NotFound, ToolError
from tools.files import locked, make_private_directory, read_file, write_file

STRETCH_ISSUES: Final = 2_000_000
STRETCH_ROWS: Final = 200_000
STRETCH_S: Final = 60.0
"""What is replayed before it is committed: so many ISSUEs, or other rows, or for so long."""
FAR: Final = 65_536
"""Behind by more leaves than this, commitments are compared in bulk and not one by one."""

Feed = Callable[[Resources, Tree, int], Generator[Portion, None, None]]
_FORMAT: Final = "sudur-audit/v1"
_NAMED: Final = 16
"""So many tiles that differ are named."""
_NAME: Final = "ledger.json"
_REPLAY: Final = "replay"
_SEAL: Final = bytes((LeafType.SEAL,))


def wall_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass(slots=True)
class Watch:
    """Who is told of an audit's way, and may end it.

    ``toward``: the size it goes to; ``moved``: so many more leaves; ``block``: after each block, with the
    state as of it; ``stop``: whether to end after the block.
    """

    toward: Callable[[int], None] = lambda _: None
    moved: Callable[[int], None] = lambda _: None
    block: Callable[[State], None] = lambda _: None
    stop: Callable[[], bool] = lambda: False


@dataclass(frozen=True, slots=True)
class ServedTiles:
    """How the tiles compared that were served along the way: equal to those of the leaves, or not."""

    compared: int = 0
    differing: tuple[str, ...] = ()
    missing: int = 0


class AuditedLog:
    """An open audit. For one thread, and one process: its directory is locked."""

    def __init__(self, directory: Path, trusted: TrustedLedger, clock_ms: Callable[[], int]) -> None:
        """Use :meth:`open`."""
        self.directory = directory
        self.trusted = trusted
        self._clock_ms = clock_ms
        self._index = Index(directory / _REPLAY)
        try:
            self.heads = Heads(directory, self.open_note)
        except BaseException:
            self._index.close()
            raise
        self._agreed: set[bytes] = set()
        self.tiles = ServedTiles()

    @classmethod
    def open(
        cls, directory: Path, trusted: TrustedLedger, *, clock_ms: Callable[[], int] = wall_ms
    ) -> AuditSession:
        """``with AuditedLog.open(…) as audited:``; the directory is made when it is missing.

        Raises DirectoryInUse, StateOfAnother, StateDamaged, FileProblem.
        """
        return AuditSession(directory, trusted, clock_ms)

    def close(self) -> None:
        self._index.close()

    # --- where it stands ---

    @property
    def size(self) -> int:
        """Leaves replayed, and shown to be the log's."""
        return self._index.tree.size

    @property
    def state(self) -> State | None:
        return self._index.state

    @property
    def tree(self) -> Tree:
        return self._index.tree

    @property
    def trust(self) -> TrustedLedger:
        """The trust file, with the log keys and policies that were replayed since."""
        state = self._index.state
        return self.trusted if state is None else self.trusted.with_replayed(state.registry.ledger)

    def open_note(self, note: bytes) -> SignedCheckpoint:
        """A checkpoint that the ledger signed, by :attr:`trust`.

        Raises CheckpointUntrusted, SignatureInvalid, NoteFormatError, TooLarge, ProofInvalid.
        """
        return self.trust.open(note)

    def leaf(self, index: int) -> bytes:
        """A replayed leaf. Raises OutOfRange, StateDamaged."""
        if not 0 <= index < self.size:
            raise OutOfRange(f"{self.size} leaves were replayed", where=f"leaf {index}")
        return self._index.leaf(index)

    def is_block_end(self, size: int) -> bool:
        """Whether a block ends at ``size``. Raises OutOfRange, StateDamaged."""
        return self.leaf(size - 1)[1:2] == _SEAL

    def status_chunk(self, number: int) -> bytes:
        return self._index.status_chunk(number)

    def figures(self, agency: int) -> dict[FigureKey, int]:
        """The counters of an agency that replay has come to, those above 0."""
        return self._index.figures(agency)

    def nodes(self, size: int) -> TileNodeReader:
        """The replayed tree at a size, to make proofs of. A path costs one bundle's hashes."""
        return TileNodeReader(_OwnTiles(self._index), size)

    def root_at(self, size: int) -> bytes:
        """The root of the first ``size`` replayed leaves; about 1 ms. Raises OutOfRange."""
        return self.tree_at(size).root()

    def tree_at(self, size: int) -> Tree:
        """The tree of the first ``size`` replayed leaves. Raises OutOfRange."""
        if not 0 <= size <= self.size:
            raise OutOfRange(f"{self.size} leaves were replayed", where=f"size {size}")
        if size == self.size:
            return self._index.tree
        tiles = _OwnTiles(self._index)
        return Tree.from_edge(size, lambda one: tiles.tile(one.level, one.index, one.width))

    # --- heads ---

    def see(self, signed: SignedCheckpoint) -> None:
        """Keep a signed checkpoint for ever, and hold it against all that was replayed.

        Raises HistoryForked, EndsAmidBlock.
        """
        self.heads.keep(signed, self._clock_ms())
        if signed.checkpoint.size <= self.size:
            self._check_past(signed)

    def check_heads(self) -> list[Seen]:
        """Hold every checkpoint that was ever seen against what was replayed; those beyond are returned.

        About 1 ms each, once while this is open. Raises HistoryForked, EndsAmidBlock.
        """
        beyond = []
        for one in self.heads.all:
            text = one.signed.note.text
            if one.size > self.size:
                beyond.append(one)
            elif text not in self._agreed:
                self._check_past(one.signed)
                self._agreed.add(text)
        return beyond

    def _check_past(self, signed: SignedCheckpoint) -> None:
        checkpoint = signed.checkpoint
        root = self.root_at(checkpoint.size)
        if root != checkpoint.root:
            raise self._forked(signed, root)
        if checkpoint.size and not self.is_block_end(checkpoint.size):
            raise EndsAmidBlock(signed=signed, leaf=self.leaf(checkpoint.size - 1))

    def _forked(self, other: SignedCheckpoint, root: bytes) -> ToolError:
        """``other`` does not have the ``root`` that was replayed at its size, and some head vouches for."""
        vouched, earlier = self._vouched(), other.checkpoint.size
        if vouched is None or vouched.checkpoint.size < earlier:
            return CannotTell(
                "another root was signed for this size than was replayed, in an audit that was cut short",
                where=f"size {earlier}",
                fix="run the audit on, to a newer checkpoint: it will tell which of the two was served wrong",
            )
        path = prove_consistency(self.nodes(vouched.checkpoint.size), earlier, vouched.checkpoint.size)
        return HistoryForked(signed=vouched, earlier=other, root=root, path=tuple(path))

    # --- on ---

    def advance(
        self,
        resources: Resources,
        signed: SignedCheckpoint,
        *,
        watch: Watch | None = None,
        feed: Feed = portions,
    ) -> State:
        """Replay the log up to a checkpoint that :meth:`open_note` opened; returns the state as of it.

        About 4 µs a leaf in one process. ``feed`` may get the leaves elsewhere. Raises BlockBroken,
        HistoryForked, EndsAmidBlock (the log lied), ServedWrong (this server did), Interrupted,
        RulesVersionUnknown, StateDamaged, and what fetching raises; then this stands where it last
        committed, and may be asked again.
        """
        self.see(signed)
        if signed.checkpoint.size > self.size:
            try:
                self._replay(_Way(resources, signed, watch or Watch(), feed))
            except BaseException:
                self._index.reset()
                raise
            self.check_heads()
            self.heads.thin(self.size)
        assert self._index.state is not None, "a signed log has at least its genesis"
        return self._index.state

    def _replay(self, way: _Way, *, deferring: bool = True) -> None:
        index, size = self._index, way.signed.checkpoint.size
        served = ServedTree(way.resources, way.signed)
        if deferring and size - index.size > FAR:
            index.issues.defer()
        run = _Run(index, self.trusted, way.watch)
        way.watch.toward(size)
        began = time.monotonic()
        try:
            with closing(way.feed(way.resources, index.tree, size)) as arriving:
                for portion in arriving:
                    self._count_tiles(portion)
                    run.take(portion)
                    if _is_due(index, began) and run.size < size:
                        self._commit(run, served, way)
                        began = time.monotonic()
                    if way.watch.stop() and run.size < size:
                        self._commit(run, served, way)
                        raise Interrupted("stopped; what was replayed is kept", where=f"leaf {index.size}")
            if run.tree.root() != way.signed.checkpoint.root:
                raise _unlike(way.signed)
            run.finish(way.signed)
            self._settle(run)
            index.issues.settle()
        except BlockRefused as refused:
            raise self._broken(run, refused, served, way.signed) from refused
        except ServedWrong as wrong:
            raise self._explained(served, way.signed, wrong) from wrong
        except _Repeated:
            # Some commitment stands there twice: replay the stretch with every question answered at once.
            index.reset()
            self._replay(way, deferring=False)

    def _count_tiles(self, portion: Portion) -> None:
        found = self.tiles
        self.tiles = ServedTiles(
            found.compared + portion.compared,
            (*found.differing, *portion.differing)[:_NAMED],
            found.missing + portion.missing,
        )

    def _commit(self, run: _Run, served: ServedTree, way: _Way) -> None:
        """Commit the blocks replayed so far, when they are shown to be the log's; else only a few wait."""
        tree = run.block_tree()
        if tree.size == self._index.tree.size:
            return
        if self._is_signed(tree, way.resources):
            self._settle(run)
            return
        try:
            served.begins_with(tree.size, tree.root())
        except UNSHOWN as error:
            if self._index.issues.unsorted < 4 * STRETCH_ISSUES and self._index.held < 4 * STRETCH_ROWS:
                return
            raise _unlike(way.signed) from error
        self._settle(run)

    def _is_signed(self, tree: Tree, resources: Resources) -> bool:
        """Whether a checkpoint of this very size says so."""
        try:
            signed = self.open_note(resources.fetch(checkpoint_path(tree.size)))
        except (VerificationError, FormatError, NotFound, AnswerWrong):
            return False
        if signed.checkpoint.size != tree.size:
            return False
        self.heads.keep(signed, self._clock_ms())
        return signed.checkpoint.root == tree.root()

    def _settle(self, run: _Run) -> None:
        """Commit, once nothing is there twice. Raises _Repeated."""
        index = self._index
        if index.issues.repeats(index.leaf):
            raise _Repeated
        index.commit(run.block_tree())

    # --- what is wrong ---

    def _broken(
        self, run: _Run, refused: BlockRefused, served: ServedTree, signed: SignedCheckpoint
    ) -> AuditError:
        """A block was refused: the log's lie if it is shown to be under its signature, else the server's."""
        before, after, leaves = run.refused()
        try:
            path = served.begins_with(after.size, after.root())
        except UNSHOWN:
            return self._explained(served, signed, _unlike(signed))
        return BlockBroken(
            signed=signed,
            leaves=leaves,
            tree=before,
            path=path,
            before=self._index.state,
            refused=refused,
            refusal=refusal(self._index.state, self._index, leaves),
        )

    def _explained(self, served: ServedTree, signed: SignedCheckpoint, found: ServedWrong) -> AuditError:
        """Why what is served does not come to the root of its checkpoint: a fork, or wrong bytes."""
        vouched = self._vouched()
        if vouched is not None:
            size = vouched.checkpoint.size
            try:
                root, path = served.beginning(size)
            except UNSHOWN:
                pass
            else:
                if root != vouched.checkpoint.root:
                    return HistoryForked(signed=signed, earlier=vouched, root=root, path=path)
        return served.wrong_bundle(self.size) or found

    def _vouched(self) -> SignedCheckpoint | None:
        """The newest checkpoint that signs a part of what was replayed."""
        for one in reversed(self.heads.all):
            if 0 < one.size <= self.size and one.signed.checkpoint.root == self.root_at(one.size):
                return one.signed
        return None


class AuditSession:
    """An audit's directory, locked while it is open. See :meth:`AuditedLog.open`."""

    def __init__(self, directory: Path, trusted: TrustedLedger, clock_ms: Callable[[], int]) -> None:
        self._directory = directory
        self._trusted = trusted
        self._clock_ms = clock_ms
        self._held = ExitStack()

    def __enter__(self) -> AuditedLog:
        make_private_directory(self._directory)
        with ExitStack() as opened:
            opened.enter_context(locked(self._directory))
            _claim(self._directory, self._trusted)
            log = AuditedLog(self._directory, self._trusted, self._clock_ms)
            opened.callback(log.close)
            self._held = opened.pop_all()
        return log

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.close()


def forget_replayed(directory: Path) -> None:
    """Remove what can be made anew; the checkpoints that were seen stay. Raises DirectoryInUse."""
    with locked(directory):
        shutil.rmtree(directory / _REPLAY, ignore_errors=True)


def _claim(directory: Path, trusted: TrustedLedger) -> None:
    """That this directory is this ledger's, or nobody's yet. Raises StateOfAnother, StateDamaged."""
    path = directory / _NAME
    if not path.exists():
        others = [one.name for one in directory.iterdir() if one.name != ".lock"]
        if others:
            raise StateOfAnother(
                f"it holds no audit, but {others[0]} and others",
                where=str(directory),
                fix="choose an empty directory, or that of an earlier audit",
            )
        named = {"format": _FORMAT, "genesis": trusted.genesis.hex(), "origin": trusted.origin}
        write_file(path, encode(named))
        return
    try:
        reader = Reader(parse(read_file(path, 4096), limit=4096, where=_NAME), _NAME)
        found = reader.text("format"), reader.text("genesis"), reader.text("origin")
    except FormatError as error:
        raise StateDamaged(str(error), where=str(path)) from error
    if found[1] != trusted.genesis.hex():
        raise StateOfAnother(
            f"it is the audit of another ledger, {found[1][:16]} ({found[2]!a}), and not of"
            f" {trusted.genesis.hex()[:16]} ({trusted.origin})",
            where=str(directory),
            fix="give each ledger a directory of its own",
        )


def _unlike(signed: SignedCheckpoint) -> ServedWrong:
    return ServedWrong(
        "what it serves does not come to the root that its checkpoint signs",
        path=checkpoint_path(signed.checkpoint.size),
    )


def _is_due(index: Index, began: float) -> bool:
    return (
        index.issues.unsorted >= STRETCH_ISSUES
        or index.held >= STRETCH_ROWS
        or time.monotonic() - began >= STRETCH_S
    )


@dataclass(frozen=True, slots=True)
class _Way:
    """Where an audit goes, and by what."""

    resources: Resources
    signed: SignedCheckpoint
    watch: Watch
    feed: Feed


class _Repeated(Exception):
    """A commitment stands in the log twice."""


class _Run:
    """Cuts what arrives into blocks and has each judged. ``tree`` is the one of all that arrived."""

    def __init__(self, index: Index, trusted: TrustedLedger, watch: Watch) -> None:
        self._index = index
        self._trusted = trusted
        self._watch = watch
        self.tree = index.tree
        self._arrived: list[tuple[Tree, list[bytes]]] = []
        self._block: list[bytes] = []
        self._hashes: list[bytes] = []
        self._roots: dict[int, bytes] = {}
        self._bundles: list[bytes] = []

    @property
    def size(self) -> int:
        """Leaves in whole blocks that were judged."""
        return self._index.size

    def take(self, portion: Portion) -> None:
        """Judge the blocks that end in it. Raises BlockRefused, ServedWrong, WrongLedger."""
        leaves, seals = split(b"".join(portion.bundles))
        skip = portion.skip
        if skip and leaves[:skip] != self._index.tail:
            raise ServedWrong(
                "the first entries in it are not those that were replayed before",
                path=entries_path(portion.first // TILE_WIDTH, len(leaves[:TILE_WIDTH])),
            )
        data = portion.hashes
        hashes = [data[at : at + HASH_SIZE] for at in range(0, len(data), HASH_SIZE)]
        self._arrived.append((self.tree, hashes))
        self.tree = portion.tree
        self._bundles += portion.bundles
        self._roots = portion.roots if not self._block else {**self._roots, **portion.roots}
        self._index.add_tiles(portion.tiles)
        at = skip
        for seal in seals:
            if seal >= skip:
                self._block += leaves[at : seal + 1]
                self._hashes += hashes[at - skip : seal + 1 - skip]
                at = seal + 1
                self._judge()
        self._block += leaves[at:]
        self._hashes += hashes[at - skip :]
        if len(self._block) >= MAX_BLOCK_LEAVES:
            raise BlockRefused(f"no seal within {MAX_BLOCK_LEAVES} leaves", where=f"leaf {self.size}")
        while len(self._arrived) > 1 and self._arrived[1][0].size <= self.size:
            del self._arrived[0]
        self._watch.moved(len(hashes))

    def _judge(self) -> None:
        index = self._index
        transition = rules.apply(index.state, index, self._block, Hashed(self._hashes, self._roots))
        if index.state is None and transition.state.genesis != self._trusted.genesis:
            raise WrongLedger(
                "the log begins with another genesis than the trust file pins",
                where="entry 0",
                fix="give the address of the pinned ledger, or its trust file",
            )
        index.add_leaves(self._block, self._bundles)
        index.apply(transition)
        self._block, self._hashes = [], []
        self._watch.block(transition.state)

    def block_tree(self) -> Tree:
        """The tree as of the newest block that was judged. Hashes a portion's nodes again."""
        size = self.size
        if size == self.tree.size:
            return self.tree
        tree = self._arrived[0][0] if self._arrived else self.tree
        hashes = [one for _, arrived in self._arrived for one in arrived]
        tree, _ = tree.append(hashes[: size - tree.size])
        return tree

    def refused(self) -> tuple[Tree, Tree, tuple[bytes, ...]]:
        """The block at fault: the trees before and after it, and its leaves."""
        before = self.block_tree()
        after, _ = before.append(self._hashes[:MAX_BLOCK_LEAVES])
        return before, after, tuple(self._block[:MAX_BLOCK_LEAVES])

    def finish(self, signed: SignedCheckpoint) -> None:
        """Raises EndsAmidBlock when what arrived, which has the signed root, does not end in a seal."""
        if self._block:
            raise EndsAmidBlock(signed=signed, leaf=self._block[-1])


class _OwnTiles:
    """The tiles of what was replayed, as a ``TileReader``."""

    def __init__(self, index: Index) -> None:
        self._index = index

    def tile(self, level: int, index: int, width: int) -> bytes:
        if level == 0:
            first = index * TILE_WIDTH
            return b"".join(leaf_hashes(self._index.leaf(first + n) for n in range(width)))
        full = self._index.tile(level, index)
        data = self._index.tree.partials[level] if full is None else full
        return data[: width * HASH_SIZE]
