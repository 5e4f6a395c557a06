"""A member of the cluster: it follows, and leads while it holds the lease.

One thread decides what it is at the moment. It looks at etcd when the leader's key changes, when a peer
says that something is missing here, and every second anyway; then it catches up, enters a new epoch, leads a
term, or raises the alarm. Whatever it is, it goes on serving reads, and answers its peers.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import structlog

from ledger import rules
from ledger.errors import SudurError
from ledger.signatures import Signer
from ledger.submissions import pack
from node.clock import Clock, check_first_seal, seal_time
from node.cluster.cluster_copies import ClusterCopies
from node.cluster.errors import EtcdAlarm, MemberUnknown, NoMajority
from node.cluster.etcd_client import EtcdClient
from node.cluster.etcd_journal import EtcdJournal, Keys, MemberList
from node.cluster.founding import found, may_found
from node.cluster.lease import LeaderLease
from node.cluster.levelling import Levelling
from node.cluster.member_settings import MemberSettings
from node.cluster.members import Members
from node.cluster.peers import Heard, PeerLink, Peers
from node.cluster.protocol import (
    MOST_CLOCK_OFFSET_MS,
    Standing,
    check_may_lead,
    hearing,
    judge_etcd,
)
from node.cluster.replica import Replica
from node.commit import Committer
from node.copies import Copies
from node.cosigning.first_signature import Held, check_witnesses
from node.cosigning.lines import split_note
from node.errors import (
    BlockRefusedByPeer,
    ClockUnsound,
    DiskFull,
    NodeError,
    NoLeader,
    NotLeading,
    PeerError,
    ReadOnly,
    RetryableError,
    RulesBroken,
    StoreBehindMark,
    StoreDamaged,
)
from node.head import Head
from node.logs import report
from node.proofs import Proofs
from node.publish import Publications, Published
from node.sequencer import Abandon, Done, Sequencer
from node.store import Store
from node.tls import TlsCredentials

POLL_S: Final = 1.0
UNFIT_S: Final = 15.0
"""So long a member leaves the lead to others whose own disk, store or clock has failed it as a leader."""
SELF_S: Final = 10.0
"""How often a member looks whether it is itself that answers where the list has it."""
_BEARS_S: Final = 2.0
"""So long a leader bears such a fault, which may pass."""
_OWN_FAULT: Final = "its own fault"
_TERM_LOOK_S: Final = 0.1
_MOST_MISSED: Final = 2
"""So many times in a row a leader may fail to hear a majority, before it lets another try."""
STORE_FAILED: Final = "STORE_FAILED"
_log = structlog.get_logger("node.cluster")


class ClusterMember:
    """Implements :class:`node.submitter.Submitter` for this node: itself while it leads."""

    def __init__(
        self,
        settings: MemberSettings,
        genesis: bytes,
        store: Store,
        replica: Replica,
        etcd: EtcdClient,
        signers: Sequence[Signer],
        clock: Clock,
        peer_tls: TlsCredentials | None = None,
    ) -> None:
        """``genesis`` is G. Everything given is the caller's to close, after :meth:`stop`."""
        self.settings = settings
        self.genesis = genesis
        self.replica = replica
        self._store = store
        self._etcd = etcd
        self._signers = signers
        self._clock = clock
        self._peer_tls = peer_tls
        self._observer = settings.observer
        self._keys = Keys.of(genesis)
        self._journal = EtcdJournal(etcd, self._keys)
        self._list = MemberList(etcd, self._keys)
        self._lease = LeaderLease(etcd, self._keys.leader, settings.name.encode())
        self._peers: Peers | None = None
        self._sequencer: Sequencer | None = None
        self._leader: str | None = None
        self._process = secrets.token_bytes(16)
        self._stuck = ""
        self._stray: MemberUnknown | NoLeader | None = None
        self._found_in: Members | None = None
        self._found_at = 0.0
        self._unfit = ""
        self._unfit_until = 0.0
        self._fault: RetryableError | None = NoLeader("this member has just started", retry_ms=200)
        self._told = ""
        self._answer_hooks: tuple[Callable[[], None], ...] = ()
        self._first = threading.Event()
        self._nudge = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._witnesses_asked = False
        self._publishing = threading.Lock()
        self.cosigned: Callable[[int], None] = lambda size: None
        """Is told that the leader has sent the cosigned checkpoint of a size."""
        self._publications: Publications | None = None
        self._levelling = Levelling(store, replica, genesis, settings.genesis_leaf, settings.observer)
        newest = replica.newest_released()
        if newest is not None:
            self._publish(newest)

    # --- for everybody ---

    @property
    def publications(self) -> Publications:
        """Once :meth:`wait_released` has returned True."""
        assert self._publications is not None
        return self._publications

    def wait_released(self, timeout_s: float) -> bool:
        """Wait for the first signed checkpoint; True once there is one."""
        return self._first.wait(timeout_s)

    @property
    def leader(self) -> str | None:
        """The name of whoever leads, as far as this member knows."""
        return self._leader

    @property
    def leads(self) -> bool:
        """Whether this member leads, as far as it knows."""
        return self._sequencer is not None

    @property
    def peers(self) -> Peers | None:
        """The other members; None before the list of members is known."""
        return self._peers

    @property
    def fault(self) -> RetryableError | None:
        """See Submitter: why this node can neither commit nor hand on a submission."""
        sequencer = self._sequencer
        if sequencer is not None:
            return sequencer.fault
        return self._fault

    @property
    def behind(self) -> str:
        """Why this copy may not be the newest there is: it neither leads nor follows. Empty when it does."""
        if self.leads:
            return ""
        return self.alarm or ("" if self._fault is None else str(self._fault))

    @property
    def alarm(self) -> str:
        """What an operator has to look at; empty when nothing."""
        fault = self._stray if isinstance(self._stray, MemberUnknown) else self._fault
        return str(fault) if isinstance(fault, EtcdAlarm | MemberUnknown) else self._own_trouble

    @property
    def alarm_reason(self) -> str:
        """The code of :attr:`alarm`."""
        fault = self._stray if isinstance(self._stray, MemberUnknown) else self._fault
        if isinstance(fault, EtcdAlarm | MemberUnknown):
            return fault.code
        return STORE_FAILED if self._own_trouble else ""

    @property
    def _own_trouble(self) -> str:
        """What is wrong with this copy: it cannot be written to, cannot follow the others, or cannot lead."""
        unfit = self._unfit if time.monotonic() < self._unfit_until else ""
        return self.replica.trouble or self._stuck or unfit

    @property
    def queued(self) -> tuple[int, int]:
        """See Submitter."""
        sequencer = self._sequencer
        return (0, 0) if sequencer is None else sequencer.queued

    def submit(self, submissions: Sequence[tuple[bytes, bytes]], done: Done) -> Abandon:
        """See Submitter. Raises NotLeading, and what the sequencer raises."""
        return self._leading().submit(submissions, done)

    def change(self, leaf: bytes, done: Done) -> Abandon:
        """See Submitter. Raises as :meth:`submit`."""
        return self._leading().change(leaf, done)

    def on_answers(self, callback: Callable[[], None]) -> None:
        """See Submitter."""
        self._answer_hooks = (*self._answer_hooks, callback)

    def nudge(self) -> None:
        """Something is missing here, or has changed: look at etcd now."""
        self._nudge.set()

    def _leading(self) -> Sequencer:
        sequencer = self._sequencer
        if sequencer is not None:
            return sequencer
        fault = self._fault
        if fault is not None:
            raise fault
        raise NotLeading(f"{self._leader} leads, not this member", retry_ms=200)

    def start(self) -> None:
        """Start the thread. Once."""
        self._thread = threading.Thread(target=self._run, name="member", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Finish the block in work, hand the lease over, end the thread."""
        self._stopping.set()
        self.replica.halt.set()
        self._nudge.set()
        self._lease.close()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._journal.close()
        if self._peers is not None:
            self._peers.close()

    def heard(self, software: str) -> Heard:
        """What this member says of itself. Never waits for a disk."""
        publications = self._publications
        return Heard(
            name=self.settings.name,
            vote=self.replica.vote,
            time_ms=time.time_ns() // 1_000_000,
            rules=tuple(sorted(rules.SUPPORTED)),
            software=software,
            released=0 if publications is None else publications.newest.head.block + 1,
            leads=self.leads,
            trouble=self.alarm,
            genesis=self.genesis,
            process=self._process,
        )

    # --- what peers tell ---

    def released(self, head: Head, note: bytes) -> None:
        """The leader has released a head. Raises VerificationError, Conflict for what is not the log's."""
        published = self.replica.released(head, note)
        self.cosigned(head.size)
        if published is not None:
            self._publish(published)
        elif self.replica.vote.head is None or self.replica.vote.head.block < head.block:
            self.nudge()

    def _publish(self, published: Published) -> None:
        with self._publishing:
            if self._publications is None:
                self._publications = Publications(published)
                self._first.set()
                return
        self._publications.publish(published)

    # --- the thread ---

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._turn()
                self._tell(None)
            except RetryableError as error:
                self._tell(error)
            except NodeError as error:
                self._tell(NoLeader(str(error), where=error.where, fix=error.fix))
                if isinstance(error, BlockRefusedByPeer | RulesBroken | StoreDamaged | StoreBehindMark):
                    self._stuck = f"it cannot follow the others, its store or software differs: {error}"
            except Exception as error:
                if self._stopping.is_set():
                    break
                report("member_failed", error, log=_log)
                self._tell(NoLeader(f"this member failed: {error}", fix="see the node's log"))
            self._wait()

    def _tell(self, fault: RetryableError | None) -> None:
        """Say once what is the matter, and that it is over."""
        self._fault = fault
        self._stuck = ""
        if isinstance(fault, EtcdAlarm):
            self._leader = None  # whoever it was
        text = "" if fault is None else f"{type(fault).__name__}: {fault}"
        if text != self._told:
            self._told = text
            if fault is None:
                _log.info("well", leader=self._leader)
            else:
                _log.warning("trouble", reason=fault.code, what=fault.what, where=fault.where, fix=fault.fix)

    def _wait(self) -> None:
        """Until the leader changes, a nudge, or a second has passed."""
        if self._nudge.is_set() or self._fault is not None:
            self._nudge.wait(POLL_S / 4)
            self._nudge.clear()
            return
        known = None if self._leader is None else self._leader.encode()
        with suppress(RetryableError):
            self._lease.wait(known, POLL_S)

    def _turn(self) -> None:
        # The vote first: a leader may have more applied here while etcd answers, and etcd is not behind then.
        vote = self.replica.vote
        head = self._journal.head()
        if head is None and may_found(self.settings, vote):
            found(self.settings, self.genesis, vote.member, self._etcd, self._peer_tls)
            head = self._journal.head()
        if head is not None:
            self._observer.decided(head.block)
        standing = judge_etcd(vote, head)
        assert head is not None
        members = self._read_members()
        if standing is not Standing.LEVEL:
            try:
                self._levelling.level(standing, head, self._peers)
            except BlockRefusedByPeer as error:
                raise ReadOnly(
                    f"block {head.block}, which the cluster has decided, breaks the rules by this member's"
                    f" store: {error.what}",
                    where=error.where,
                    fix="its store or its software is not like the others': stop the node, run `sudur node"
                    " fsck --repair`, or move its data and mark away and have it replaced",
                ) from error
        self._fetch_release()
        leader = self._lease.leader()
        self._leader = None if leader is None else leader.decode()
        self._look_for_itself(members)
        if self._leader is not None and self._leader != self.settings.name:
            return
        if self._stray is not None:
            raise self._stray
        if self.replica.vote.is_frozen:
            raise NoLeader(
                f"this member is frozen for epoch {self.replica.vote.frozen}, which is not opened yet",
                fix="finish `sudur node reseed`, or run it again",
            )
        if self.replica.trouble:
            raise NoLeader(self.replica.trouble, fix="see the node's log; run `sudur node fsck`")
        if time.monotonic() < self._unfit_until:
            raise NoLeader(f"this member does not lead for now: {self._unfit}", retry_ms=1_000)
        # Heard before the lease is taken: who cannot reach a majority leaves it to those who can.
        peers = self._peers
        assert peers is not None
        heard = peers.hear(hearing(len(members)) - 1)
        self._check_clock(heard)
        self._ask_witnesses()
        if not self._lease.campaign():
            self.nudge()  # another was faster, and is there at the next look
            raise NoLeader("an election is under way", retry_ms=200)
        try:
            self._lead(members, peers, heard)
        except (StoreDamaged, StoreBehindMark, ReadOnly) as error:
            if not isinstance(error, EtcdAlarm):
                self._be_unfit(error)
            raise
        finally:
            self._lease.resign()
            self._leader = None
        self.nudge()

    def _be_unfit(self, error: NodeError) -> None:
        """Leave the lead to others for a while: what is wrong is wrong here, not with them."""
        self._unfit = str(error)
        self._unfit_until = time.monotonic() + UNFIT_S
        _log.error("unfit to lead", reason=self._unfit, fix=error.fix)

    # --- who is a member ---

    def _read_members(self) -> Members:
        value = self._list.read()
        if value is None:
            raise NoLeader("etcd holds a head and no list of members", where="etcd")
        members = Members.decode(value)
        known = self._peers
        if known is None or known.members != members:
            self._peers = Peers(members, self.replica.vote.member, self._peer_tls, self._observer)
            if known is not None:
                known.close()
        self.replica.know_members(value)
        return members

    def _look_for_itself(self, members: Members) -> None:
        """Whether the list means this very node, now and then while it does. What is wrong is an alarm
        whoever leads, and this node does not."""
        now = time.monotonic()
        if self._stray is None and members == self._found_in and now < self._found_at + SELF_S:
            return
        try:
            self._check_listed(members)
            self._stray, self._found_in, self._found_at = None, members, now
        except (MemberUnknown, NoLeader) as error:
            self._stray = error

    def _check_listed(self, members: Members) -> None:
        """That the list means this very node: a copy of a member, elsewhere, must not vote in its place."""
        listed = members.of(self.replica.vote.member)
        if listed is None:
            other = members.named(self.settings.name)
            raise MemberUnknown(
                f"this node is not a member of the cluster: {self.settings.name} is"
                f" {'not in the list' if other is None else 'another one, with a mark of its own'}",
                where="members",
                fix="it serves reads; have it added with `sudur cluster member`",
            )
        if listed.name != self.settings.name:
            raise MemberUnknown(
                f"the list has this member as {listed.name}, it was started as {self.settings.name}: to lead"
                " under another's name would send everybody there",
                where="members",
                fix=f"start it with --name {listed.name}",
            )
        link = PeerLink(listed.name, listed.peer, self._peer_tls)
        try:
            there = link.hear()
        except PeerError as error:
            raise NoLeader(f"this member does not reach itself at {listed.peer}: {error.what}") from None
        finally:
            link.close()
        if there.process != self._process:
            raise MemberUnknown(
                f"at {listed.peer}, where the list has member {listed.name}, another process answers: this is"
                " a copy of it, or it has moved",
                where="members",
                fix="a copy: stop it, and delete its data and mark. Moved: remove it and add it again with"
                " `sudur cluster member`, with its data and a new mark",
            )

    # --- what was released ---

    def _fetch_release(self) -> None:
        """The signed checkpoint of what is applied here, when the leader's word of it was missed."""
        snapshot = self.replica.snapshot
        if snapshot is None or self._peers is None:
            return
        newest = self._publications
        if newest is not None and newest.newest.head.block >= snapshot.head.block:
            return
        with suppress(SudurError):
            held = self._store.checkpoint(snapshot.head.size)
            self._publish(Published(snapshot.head, held, snapshot.state, snapshot.tree))
            return
        for link in self._peers.links:
            with suppress(SudurError):
                self.released(snapshot.head, link.checkpoint(snapshot.head.size))
                return

    # --- leading ---

    def _lead(self, members: Members, peers: Peers, heard: Sequence[Heard]) -> None:
        """One term, from the marks that were heard to the loss of the lease, or of a majority."""
        # A journal of the term's own: what it pins begins here, after the marks were heard.
        journal = EtcdJournal(self._etcd, self._keys, members.encode())
        try:
            vote = self.replica.vote
            head = journal.head()
            check_may_lead(
                vote,
                [one.vote for one in heard],
                len(members),
                members.version,
                head,
                self.replica.root_after,
            )
            assert head is not None
            copies: Copies = ClusterCopies(self.replica, peers, journal)
            committer = Committer(self._store, journal, copies, self._signers, self._observer.step)
            if head.members != members.version:
                # The next change of the list has to find this one on a majority's disks.
                self._seal_alone(committer)
            self._publish(committer.published)
            self._reign(committer, members, peers)
        finally:
            journal.close()

    def _reign(self, committer: Committer, members: Members, peers: Peers) -> None:
        """Take submissions, until the lease or the majority is lost, another decides, or the list changes."""
        sequencer = Sequencer(
            self._store,
            committer,
            self._clock,
            self.settings.sequencer,
            self.publications,
            disk_path=self.settings.data_dir,
            free=self.settings.free,
            supported=self._supported_rules,
        )
        sequencer.on_answers(self._answered)
        sequencer.start()
        self._leader = self.settings.name
        self._tell(None)
        self._sequencer = sequencer
        head = committer.snapshot.head
        _log.info("leading", epoch=head.epoch, block=head.block, size=head.size)
        self._observer.term_begun()
        why = ""
        try:
            look = time.monotonic() + POLL_S
            well, missed = time.monotonic(), 0
            while not (why := self._why_over(sequencer, well)):
                if not _is_own(sequencer.fault) and self._has_disk():
                    well = time.monotonic()
                if time.monotonic() >= look:
                    missed = 0 if _has_majority(peers) else missed + 1
                    if missed == _MOST_MISSED:
                        why = "no majority"
                        self._lease.resign()  # before this term's last block: another may reach one
                        break
                    look = time.monotonic() + POLL_S
                    self._check_etcd()
                    if self._list_changed(members):
                        why = "the list of members changed"
                        break
                self._nudge.wait(_TERM_LOOK_S)
                self._nudge.clear()
        finally:
            fault = sequencer.fault
            self._sequencer = None
            self._fault = NoLeader("the term has just ended", retry_ms=200)
            sequencer.stop()
            self._observer.term_ended(why or "failed")
            _log.info("term ended", why=why or "failed")
            if why == _OWN_FAULT and fault is None:
                fault = DiskFull("its disk is full, or does not answer", where=str(self.settings.data_dir))
            if sequencer.unbelieved is not None:
                self._be_unfit(sequencer.unbelieved)
            elif fault is not None and why == _OWN_FAULT:
                self._be_unfit(fault)

    def _why_over(self, sequencer: Sequencer, well: float) -> str:
        """Why a term is over; empty while it is not. ``well``: when this node last had no own fault."""
        if self._stopping.is_set():
            return "stopping"
        if not self._lease.held:
            return "lease lost"
        if self.replica.vote.is_frozen:
            return "frozen"
        if sequencer.over:
            return "another decides"
        if time.monotonic() - well > _BEARS_S:
            return _OWN_FAULT
        return ""

    def _has_disk(self) -> bool:
        """Whether there is room, and the database in its place: looked at though nobody submits. 10 µs."""
        try:
            self._store.check_place()
            return self.settings.free(self.settings.data_dir) >= self.settings.sequencer.disk_floor
        except (OSError, StoreDamaged):
            return False

    def _supported_rules(self) -> frozenset[int]:
        """The rules that all members' software has: a later version may only come when nobody is left behind.

        Raises NoMajority when a member was not heard.
        """
        supported = frozenset(rules.SUPPORTED)
        peers = self._peers
        if peers is not None:
            for heard in peers.hear(len(peers.links)):
                supported &= frozenset(heard.rules)
        return supported

    def _check_etcd(self) -> None:
        """That etcd was not set back: a restored snapshot brings a leader's lease back with it, and who leads
        and has nothing to commit would not notice. Raises EtcdAlarm."""
        vote = self.replica.vote
        try:
            head = self._journal.head()
        except RetryableError:
            return  # the lease says when that is for too long
        judge_etcd(vote, head)

    def _list_changed(self, members: Members) -> bool:
        with suppress(RetryableError):
            return self._list.read() != members.encode()
        return False

    def _seal_alone(self, committer: Committer) -> None:
        """Commit a block of nothing but its seal."""
        state = committer.snapshot.state
        time_ms = seal_time(self._clock, state.time_ms)
        if not self.settings.sequencer.clock_is_right:
            check_first_seal(time_ms, state.time_ms)
        draft = rules.begin(state, self._store, time_ms)
        transition = draft.seal()
        committer.commit(transition, pack(transition.leaves))

    def _check_clock(self, heard: Sequence[Heard]) -> None:
        """Refuse to lead with a clock that most others do not share. Raises ClockUnsound."""
        now = time.time_ns() // 1_000_000
        off = [one for one in heard if abs(one.time_ms - now) > MOST_CLOCK_OFFSET_MS]
        if heard and len(off) * 2 > len(heard):
            raise ClockUnsound(
                f"this clock is more than {MOST_CLOCK_OFFSET_MS // 1000} s off those of"
                f" {', '.join(one.name for one in off)}",
                where="clock",
                fix="set the clock; another member leads meanwhile",
            )

    def _ask_witnesses(self) -> None:
        """Once a process, before it first signs: whether they have seen what is not here.

        Disk and mark that were rolled back together show nowhere else. Raises WitnessesAhead,
        WitnessesSilent: another may lead meanwhile.
        """
        snapshot, publications = self.replica.snapshot, self._publications
        if self._witnesses_asked or snapshot is None or publications is None:
            return
        note, _ = split_note(publications.newest.checkpoint)
        held = Held(note, snapshot.head.size, snapshot.state.registry.ledger, may_lack=True)
        try:
            check_witnesses(held, Proofs(self._store), self.settings.cosigning)
        except ReadOnly as error:
            self._be_unfit(error)
            raise
        self._witnesses_asked = True

    def _answered(self) -> None:
        for hook in self._answer_hooks:
            hook()


def _is_own(fault: RetryableError | None) -> bool:
    """Whether it is this node's disk, store or clock that is at fault, and another would do better."""
    return isinstance(fault, DiskFull | ReadOnly) and not isinstance(fault, EtcdAlarm)


def _has_majority(peers: Peers) -> bool:
    try:
        peers.hear(hearing(len(peers.members)) - 1)
    except NoMajority:
        return False
    return True
