"""A mirror: a verified copy of the ledger that follows other nodes, and decides and signs nothing.

It believes its trust file. Every block is checked by the rules, every run of blocks against a checkpoint
that a key of the log has signed and that meets the witness policy (node/copying/catch_up.py), before a
reader sees any of it. Without a link it serves what it has, and says how old that is.

It follows one node at a time over one long call; when that node fails, or lies, the next of the list is
asked, with growing pauses. What it has served it never goes back below: its mark says so outside of the
database.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import grpc
import structlog

from ledger.errors import CheckpointUntrusted, SudurError
from ledger.trust import TrustedLedger
from node.copies import check_mark
from node.copying.block_source import Block, Pulse
from node.copying.catch_up import Terms, TrustedHead, catch_up
from node.copying.checkpoint_judge import CheckpointJudge
from node.copying.remote_blocks import CHANNEL_OPTIONS, RemoteBlocks
from node.database import Database
from node.disk import DEFAULT_FLOOR, FreeBytes, free_bytes, make_directories
from node.errors import DiskFull, IsMirror, NotFound, PeerSilent, PeerWrong, Stopping, StoreBehindMark
from node.ledger_copy import LedgerCopy
from node.letters.envelopes import Authorization, Kept
from node.logs import report
from node.mark import Mark
from node.node import DATABASE_DIRECTORY, default_mark_path, holds_database
from node.publish import Publications, Published
from node.sequencer import Abandon, Done
from node.store import Snapshot, Store

FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 10.0
PATIENCE_S: Final = 30.0
"""How long a node may be silent, though it says every five seconds that nothing is new."""
_log = structlog.get_logger("node.mirror")


def _insecure(address: str) -> grpc.Channel:
    return grpc.insecure_channel(address, options=CHANNEL_OPTIONS)


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class MirrorSettings:
    """``disk_floor``: the free space, in bytes, below which no block is written.

    ``failed`` is told the code of what ended each link. ``connect`` makes the channel to an address. The
    others are for tests.
    """

    disk_floor: int = DEFAULT_FLOOR
    free: FreeBytes = free_bytes
    database: Callable[[Path], Database] = Database
    sync_mark: Callable[[int], None] = os.fdatasync
    connect: Callable[[str], grpc.Channel] = _insecure
    wall_ms: Callable[[], int] = _wall_ms
    failed: Callable[[str], None] = lambda _: None
    patience_s: float = PATIENCE_S
    first_pause_s: float = FIRST_PAUSE_S


@dataclass(frozen=True, slots=True)
class Contact:
    """What a mirror knows of those that it follows.

    ``heard_ms``: when anything last came, in ms since 1970 by the mirror's clock; 0: never. ``newest``:
    their newest block as they last said. ``fault``: why there is no link; empty while there is one.
    """

    address: str
    heard_ms: int = 0
    newest: int = 0
    fault: str = ""


class NoLetters:
    """A mirror keeps no envelopes: they are not in the log. See :class:`node.letters.envelopes.Letters`."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror

    def put(self, asked: Authorization, data: bytes) -> Kept:
        """Raises IsMirror."""
        raise self._mirror.fault

    def get(self, asked: Authorization, digest: bytes) -> bytes:
        """Raises IsMirror."""
        raise self._mirror.fault

    def drop(self, asked: Authorization, digest: bytes) -> bool:
        """Raises IsMirror."""
        raise self._mirror.fault

    def check_named(self, leaf: bytes, packed: bytes) -> None:
        """Nothing to say: the submission itself is refused."""


class Mirror:
    """An open mirror. :meth:`open`, :meth:`start`; :meth:`close` in the end.

    It is also the node's :class:`node.submitter.Submitter`: one that refuses everything, and says where to
    go instead.
    """

    def __init__(
        self,
        data_dir: Path,
        store: Store,
        mark: Mark,
        trusted: TrustedLedger,
        addresses: Sequence[str],
        settings: MirrorSettings,
    ) -> None:
        """Use :meth:`open`."""
        self.store = store
        self.addresses = tuple(addresses)
        self._data_dir = data_dir
        self._mark = mark
        self._judge = CheckpointJudge(trusted)
        self._settings = settings
        self._contact = Contact(self.addresses[0])
        self._copy: LedgerCopy | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="mirror")
        self._when_ready: list[Callable[[], object]] = []
        self._at: Snapshot | None = None
        self._doubtful = False
        self._linking = threading.Lock()
        self._link: grpc.Channel | None = None
        if store.head() is not None:
            self._begin(store.load())

    @classmethod
    def open(
        cls,
        data_dir: Path,
        trusted: TrustedLedger,
        addresses: Sequence[str],
        *,
        mark_path: Path | None = None,
        settings: MirrorSettings | None = None,
    ) -> Mirror:
        """Open a mirror's data, or begin anew where there is none.

        Raises DataInUse, StoreDamaged, StoreBehindMark when it holds less than it has served, or its mark
        is gone, and CheckpointUntrusted when it is of another ledger than the trusted one.
        """
        settings = settings or MirrorSettings()
        mark_path = mark_path or default_mark_path(data_dir)
        if holds_database(data_dir) and not mark_path.exists():
            raise StoreBehindMark(
                "there is a data directory, but not the mark of what this mirror has served",
                where=str(mark_path),
                fix="bring the mark file back; or remove the data directory, and follow or restore anew",
            )
        make_directories(data_dir)
        mark = Mark.create(mark_path, sync=settings.sync_mark)
        try:
            store = Store(data_dir / DATABASE_DIRECTORY, database=settings.database)
            try:
                if store.head() is None and mark.note is not None:
                    raise StoreBehindMark(
                        "this mirror has served a ledger that is not here any more",
                        where=str(data_dir),
                        fix="bring its data directory back; or remove the mark too, and follow anew",
                    )
                return cls(data_dir, store, mark, trusted, addresses, settings)
            except BaseException:
                store.close()
                raise
        except BaseException:
            mark.close()
            raise

    def _begin(self, at: Snapshot) -> None:
        """Serve what is here already, if it ends under a checkpoint."""
        trusted = self._judge.trusted
        if at.state.genesis != trusted.genesis:
            raise CheckpointUntrusted(
                f"it holds the ledger {at.state.genesis.hex()[:16]}, the trust file pins"
                f" {trusted.genesis.hex()[:16]}",
                where=str(self._data_dir),
                fix="give the trust file of that ledger, or another directory",
            )
        if self._mark.note is not None:
            check_mark(at, self.store, self._mark, [one.key for one in trusted.log_keys])
        self._at = at
        self._publish(at)

    # --- what it has ---

    @property
    def copy(self) -> LedgerCopy | None:
        """What is served; None before the first block has come."""
        return self._copy

    @property
    def contact(self) -> Contact:
        """How it stands with those that it follows."""
        return self._contact

    @property
    def head_age_ms(self) -> int:
        """How long ago the newest block that is served was sealed."""
        assert self._copy is not None
        return max(0, self._settings.wall_ms() - self._copy.published.state.time_ms)

    @property
    def contact_age_ms(self) -> int | None:
        """How long ago anything came from those that it follows; None: never since it started."""
        heard = self._contact.heard_ms
        return max(0, self._settings.wall_ms() - heard) if heard else None

    @property
    def behind(self) -> int:
        """How many blocks are missing, as far as the mirror was told."""
        held = -1 if self._copy is None else self._copy.published.head.block
        return max(0, self._contact.newest - held)

    def when_ready(self, callback: Callable[[], object]) -> None:
        """Have ``callback`` called on the mirror's thread once there is something to serve. Before start."""
        self._when_ready.append(callback)

    # --- node.submitter.Submitter ---

    @property
    def fault(self) -> IsMirror:
        """See Submitter: the standing refusal."""
        return IsMirror(
            "this is a mirror: it takes no submissions, changes or letters",
            submit_at=self._contact.address,
            fix=f"send it to a node of the ledger; this mirror follows {', '.join(self.addresses)}",
        )

    @property
    def queued(self) -> tuple[int, int]:
        """See Submitter."""
        return 0, 0

    def submit(self, submissions: Sequence[tuple[bytes, bytes]], done: Done) -> Abandon:
        """See Submitter. Raises IsMirror."""
        raise self.fault

    def change(self, leaf: bytes, done: Done) -> Abandon:
        """See Submitter. Raises IsMirror."""
        raise self.fault

    def on_answers(self, callback: Callable[[], None]) -> None:
        """See Submitter: there are none."""

    # --- following ---

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def stop(self) -> None:
        """Follow no more; what was written is durable."""
        self._stop.set()
        with self._linking:
            if self._link is not None:
                # A call that waits for an answer which never comes ends with it.
                self._link.close()
        if self._thread.ident is not None:
            self._thread.join()

    def close(self) -> None:
        """Stop, and close everything. Closing twice is no error."""
        self.stop()
        self.store.close()
        self._mark.close()

    def _follow(self) -> None:
        pause = self._settings.first_pause_s
        for address in itertools.cycle(self.addresses):
            before = self._contact.heard_ms
            try:
                self._follow_one(address)
            except SudurError as error:
                self._failed(address, error)
            except Exception as error:
                if self._stop.is_set():
                    return  # gRPC raises what it likes from a channel that was closed
                report("mirror_failed", error, log=_log)
                self._failed(address, error)
            if self._contact.heard_ms != before:
                pause = self._settings.first_pause_s
            if self._stop.wait(pause):
                return
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def _failed(self, address: str, error: Exception) -> None:
        code = error.code if isinstance(error, SudurError) else "INTERNAL"
        self._settings.failed(code)
        fault = f"{code}: {error}"
        level = _log.warning if isinstance(error, PeerSilent) else _log.error
        if fault != self._contact.fault:
            level("link down", address=address, error=fault, contact_age_ms=self.contact_age_ms)
        self._contact = replace(self._contact, address=address, fault=fault)
        # A write may have failed: only what is read anew can be gone on from.
        self._doubtful = self._doubtful or not isinstance(error, SudurError)

    def _follow_one(self, address: str) -> None:
        """Follow one node until it fails or the mirror stops. Raises what catch-up does."""
        if self._doubtful:
            self.store.reopen()
            self._at = None if self.store.head() is None else self.store.load()
            if self._at is not None:
                self._publish(self._at)
            self._doubtful = False
        with self._linked(address) as link:
            source = RemoteBlocks(link, address, follow=True)
            newest = self._greet(source)

            def alive(item: Block | Pulse) -> None:
                told = item.newest if isinstance(item, Pulse) else max(item.number, self._contact.newest)
                self._heard(address, told)
                if isinstance(item, Pulse) and item.note:
                    self._cosigned(address, item.note)

            self._heard(address, newest)
            _log.info("following", address=address, newest=newest, behind=self.behind)
            catch_up(
                self.store,
                source,
                lambda size, note: self._head(source, size, note),
                genesis=self._judge.trusted.genesis,
                at=self._at,
                terms=Terms(
                    reached=self._reached,
                    alive=alive,
                    stop=self._stop,
                    patience_s=self._settings.patience_s,
                    linger_s=0.0,
                ),
            )
        if not self._stop.is_set():
            raise PeerSilent("it ended the stream", peer=address)

    @contextmanager
    def _linked(self, address: str) -> Iterator[grpc.Channel]:
        with self._linking:
            if self._stop.is_set():
                raise Stopping("the mirror stops", where=address)
            link = self._link = self._settings.connect(address)
        try:
            yield link
        finally:
            with self._linking:
                self._link = None
            link.close()

    def _greet(self, source: RemoteBlocks) -> int:
        """That the node serves the trusted ledger; returns its newest block. Raises PeerError."""
        ledger = source.ledger()
        if ledger.genesis != self._judge.trusted.genesis:
            raise PeerWrong(
                f"it serves the ledger {ledger.genesis.hex()[:16]} ({ledger.origin!a}), not"
                f" {self._judge.trusted.genesis.hex()[:16]}",
                peer=source.name,
                fix="correct the address, or give the trust file of that ledger",
            )
        return ledger.block

    def _cosigned(self, address: str, note: bytes) -> None:
        """Keep new cosignatures of a checkpoint that is here; another comes with its block."""
        if self._copy is None:
            return
        try:
            self._copy.witnessed.take_note(note)
        except NotFound:
            return
        except SudurError as error:
            raise PeerWrong(f"its published checkpoint cannot be used: {error}", peer=address) from error

    def _heard(self, address: str, newest: int) -> None:
        self._contact = Contact(address, self._settings.wall_ms(), newest)

    def _head(self, source: RemoteBlocks, size: int, note: bytes | None) -> TrustedHead:
        """What a run that ends at ``size`` is checked against: its own checkpoint, or else the newest."""
        room = self._settings.free(self._data_dir)
        if room < self._settings.disk_floor:
            raise DiskFull(
                f"{room >> 20} MiB are free, {self._settings.disk_floor >> 20} must stay so",
                where=str(self._data_dir),
                fix="free some space; the mirror serves on, and goes on by itself",
            )
        state = None if self._at is None else self._at.state
        try:
            found = None if note is None else self._judge.open(note, state).checkpoint
        except SudurError:
            # It may want cosignatures that the newest has.
            found = None
        if found is None or found.size != size:
            found = self._judge.open(source.ledger().checkpoint, state).checkpoint
        return TrustedHead(found.size, found.root)

    def _reached(self, at: Snapshot) -> None:
        self._at = at
        self._publish(at)

    def _publish(self, at: Snapshot) -> None:
        """Serve a run, if it ends under a checkpoint; another follows if it does not."""
        try:
            note = self.store.checkpoint(at.head.size)
        except NotFound:
            return
        # The mark before any reader: what was served once is never gone back below.
        self._mark.keep(note, signed=False)
        published = Published(at.head, note, at.state, at.tree)
        if self._copy is None:
            self._copy = LedgerCopy(self.store, Publications(published))
            for callback in self._when_ready:
                callback()
        else:
            self._copy.publications.publish(published)
