"""Making a registry change: prepared on the newest record, signed, saved, sent, and recognised afterwards.

A change that is signed here and sent at once is saved in the directory first, so that a command given
again after a crash or a lost answer finishes it and does not make it twice. A change that needs keys from
elsewhere travels as a proposal, whose file is all that there is to keep.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from ledger import changes as change
from ledger.changes import (
    AUTHORITY,
    AuthorityKey,
    Change,
    ChangeBody,
    KeysAdded,
    NewKey,
    Subject,
    parse_change,
)
from ledger.errors import (
    FormatError,
    RegistryConflict,
    RuleError,
    SignatureInvalid,
    SudurError,
    UnknownAgency,
    UnknownType,
    WrongLedger,
)
from ledger.leaves import NONE
from ledger.registry_leaf import RegistryLeaf
from ledger.signing_policy import REGISTRY_KIND
from tools.client import LedgerClient
from tools.errors import AnswerWrong
from tools.files import remove_file, write_file
from tools.registry.proposals import Proposal, load_proposal
from tools.registry.seats import Seat
from tools.registry.view import NodeRegistry, RegistryView, agency_or_none
from tools.ui import Passphrase

_PENDING: Final = "change.pending.json"
_REFUSALS: Final = (RuleError, FormatError, SignatureInvalid)


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be changed. ``subject`` without a number: the next agency or type.

    ``then``: keys for the agency that is enrolled, numbered from 1.
    """

    subject: Subject
    body: ChangeBody
    then: tuple[NewKey, ...] = ()


@dataclass(frozen=True, slots=True)
class Made:
    """A change that is in the ledger: its subject, and the index of its leaf."""

    subject: Subject
    index: int


def check_body(kind: str, body: ChangeBody) -> None:
    """Refuse here what no node would take. Raises FormatError."""
    subject = Subject(kind, 0 if kind == "ledger" else 1)
    parse_change(Change(subject, NONE, body).to_json())


# --- preparing ---------------------------------------------------------------------------------


def prepare(client: LedgerClient, genesis: bytes, by: int, wish: Wish) -> Proposal:
    """The change on the newest record, unsigned, with the keys that may sign it as the node has them.

    Raises FormatError, UnknownAgency, UnknownType, Unavailable.
    """
    view = NodeRegistry(client)
    subject = wish.subject
    if subject.kind != "ledger" and subject.number == 0:
        ledger = view.ledger
        count = ledger.agencies if subject.kind == "agency" else ledger.types
        subject, previous = Subject(subject.kind, count + 1), NONE
    else:
        previous = client.record(str(subject)).last_change_index
    needed, keys = _eligible(view, by)
    return Proposal(genesis, by, needed, keys, Change(subject, previous, wish.body).to_json(), wish.then)


def _eligible(view: RegistryView, by: int) -> tuple[int, tuple[AuthorityKey, ...]]:
    if by == AUTHORITY:
        ledger = view.ledger
        active = [key for key in ledger.authority_keys if key.ended is None]
        return ledger.k, tuple(AuthorityKey(one.number, one.algorithm, one.public_key) for one in active)
    needed = view.agency(by).policy.latest.of(REGISTRY_KIND).first_step
    return needed, tuple(
        AuthorityKey(one.number, one.algorithm, one.public_key)
        for one in view.keys(by)
        if one.use == "registry" and one.ended is None and one.stolen is None
    )


def is_so(wish: Wish, by: int, view: RegistryView) -> Subject | None:
    """The subject of which the registry says already what is wished, if there is one.

    So that a command given twice changes nothing the second time. An enrolment is not looked for here: its
    keys tell.
    """
    body, subject = wish.body, wish.subject
    if isinstance(body, change.TypeDefined):
        for number in range(1, view.ledger.types + 1):
            one = view.type(number)
            if (dict(one.labels), one.fields) == (dict(body.labels), body.fields):
                return Subject("type", number)
        return None
    if subject.kind == "ledger":
        return subject if _ledger_is_so(body, view) else None
    record = agency_or_none(view, subject.number) if subject.number else None
    if record is None:
        return None
    now: list[object] = []
    wished: list[object] = []
    if isinstance(body, change.AgencyRenamed):
        now, wished = [dict(record.names.latest)], [dict(body.names)]
    elif isinstance(body, change.AgencyMoved):
        now, wished = [record.parent.latest], [body.parent]
    elif isinstance(body, change.AgencyEntitled):
        now = [record.roles.latest, record.types.latest, record.policy.latest]
        wished = [body.entitlement.roles, body.entitlement.types, body.entitlement.policy]
    elif isinstance(body, change.SuccessorNamed):
        now, wished = [record.successor.latest], [body.successor]
    elif isinstance(body, change.AgencySuspended):
        now, wished = [record.suspended.latest], [by]
    elif isinstance(body, change.AgencyReinstated):
        now, wished = [record.suspended.latest], [None]
    elif isinstance(body, change.KeyEnded | change.KeyStolen) and body.number <= record.key_count:
        key = view.key(record.number, body.number)
        if isinstance(body, change.KeyEnded):
            now, wished = [key.ended is not None], [True]
        else:
            now, wished = [None if key.stolen is None else key.stolen.since], [body.since]
    elif isinstance(body, KeysAdded):
        there = {(one.algorithm, one.public_key) for one in view.keys(record.number)}
        now = [all((one.algorithm, one.public_key) in there for one in body.keys)]
        wished = [True]
    return subject if wished and now == wished else None


def _ledger_is_so(body: ChangeBody, view: RegistryView) -> bool:
    ledger = view.ledger
    if isinstance(body, change.LogKeyAdded):
        return any(one.vkey == body.vkey for one in ledger.log_keys)
    if isinstance(body, change.LogKeyEnded):
        return any((one.vkey, one.last_size) == (body.vkey, body.last_size) for one in ledger.log_keys)
    if isinstance(body, change.WitnessPolicyChanged):
        return ledger.witness_policy.latest == body.policy
    if isinstance(body, change.RulesRaised):
        return (body.block, body.rules) in ledger.rules.entries
    if isinstance(body, change.LedgerClosed):
        closed = ledger.closed
        return closed is not None and (closed.genesis, closed.origin) == (body.genesis, body.origin)
    if isinstance(body, change.AuthorityReplaced):
        active = [one for one in ledger.authority_keys if one.ended is None]
        there = [(one.number, one.algorithm, one.public_key) for one in active]
        wished = [(one.number, one.algorithm, one.public_key) for one in body.authority.keys]
        return (ledger.k, there) == (body.authority.k, wished)
    return False


# --- sending -----------------------------------------------------------------------------------


def send(client: LedgerClient, proposal: Proposal) -> Made:
    """Log a change that is signed by enough; one that is in the ledger already is recognised.

    Raises SignaturesMissing; RegistryConflict, naming the newer change, for one on an older record;
    whatever else the ledger refuses it for; Unavailable: send the same again.
    """
    leaf = proposal.leaf()
    made = proposal.change()
    if client.ledger().genesis != proposal.genesis:
        raise WrongLedger(
            "the node serves another ledger than the proposal is for",
            where=client.address,
            fix="give the address of a node of that ledger",
        )
    try:
        return Made(made.subject, client.change_registry(proposal.genesis, leaf))
    except RegistryConflict:
        newer = following(client, made)
        if newer is not None and newer[1].json == proposal.json:
            return Made(made.subject, newer[0])
        raise stale(made, newer) from None


def stale(made: Change, newer: tuple[int, RegistryLeaf] | None) -> RegistryConflict:
    """What to say of a change that was made on an older record."""
    if newer is None:
        return RegistryConflict(
            f"{made.subject} has no change at the index that this one follows",
            index=NONE,
            fix="make it again",
        )
    return RegistryConflict(
        f"{made.subject} was changed since: {newer[1].change().body.NAME} at index {newer[0]}",
        index=newer[0],
        fix="look at that change, and make this one again on the newest record",
    )


def following(client: LedgerClient, made: Change) -> tuple[int, RegistryLeaf] | None:
    """The change that followed on the one that ``made`` follows, if there is one: perhaps ``made`` itself."""
    for index, leaf in changes_of(client, made.subject):
        if leaf.change().previous == made.previous:
            return index, leaf
    return None


def changes_of(client: LedgerClient, subject: Subject) -> Iterator[tuple[int, RegistryLeaf]]:
    """The changes of a subject, the newest first, each one call. Raises AnswerWrong, UnknownAgency …"""
    try:
        index = client.record(str(subject)).last_change_index
    except (UnknownAgency, UnknownType):
        return
    yield from chain(index, lambda at: next(client.entries(at, at + 1), b""))


def chain(last: int, read: Callable[[int], bytes]) -> Iterator[tuple[int, RegistryLeaf]]:
    """The changes of one subject from the ``last`` on backwards, each naming the one before it.

    ``read`` gives a leaf by its index. Raises AnswerWrong, LeafFormatError, and what ``read`` raises.
    """
    index = last
    while index != NONE:
        leaf = RegistryLeaf.decode(read(index))
        yield index, leaf
        earlier = leaf.change().previous
        if earlier != NONE and earlier >= index:
            raise AnswerWrong("a change follows a later one", where=f"index {index}")
        index = earlier


def keys_to_follow(client: LedgerClient, proposal: Proposal, agency: int) -> Proposal | None:
    """The change that adds the keys of an agency just enrolled, unsigned; None when they are there."""
    view = NodeRegistry(client)
    there = {(one.algorithm, one.public_key) for one in view.keys(agency)}
    new = [one for one in proposal.then if (one.algorithm, one.public_key) not in there]
    if not new:
        return None
    first = view.agency(agency).key_count + 1
    keys = tuple(replace(one, number=number) for number, one in enumerate(new, first))
    return prepare(client, proposal.genesis, proposal.by, Wish(Subject("agency", agency), KeysAdded(keys)))


# --- signed here and sent at once --------------------------------------------------------------


class Pending:
    """The change of a directory that was signed and perhaps sent, and not seen to its end."""

    def __init__(self, seat: Seat, client: LedgerClient, passphrase: Passphrase) -> None:
        self._seat = seat
        self._client = client
        self._passphrase = passphrase
        self._path = pending_path(seat.path)

    @property
    def is_there(self) -> bool:
        """Whether an earlier command left a change."""
        return self._path.exists()

    def finish(self) -> Made | SudurError | None:
        """Finish what an earlier command left: what it made, or why it was refused; None: nothing was left.

        Raises Unavailable, ProposalProblem for a damaged file.
        """
        if not self.is_there:
            return None
        proposal = load_proposal(self._path)
        try:
            return self._complete(proposal)
        except _REFUSALS as error:
            if self.is_there:
                raise
            return error

    def make(self, proposal: Proposal) -> Made:
        """Sign with the keys here, save, send. Raises what signing and :func:`send` raise."""
        signed = self._seat.sign(proposal, self._passphrase)
        signed.check_complete()
        write_file(self._path, signed.encode())
        return self._complete(signed)

    def _complete(self, proposal: Proposal) -> Made:
        try:
            made = send(self._client, proposal)
        except _REFUSALS:
            remove_file(self._path)  # it is not in the ledger, and these bytes never will be
            raise
        if proposal.then:
            self._add_keys(proposal, made.subject.number)
        remove_file(self._path)
        return made

    def _add_keys(self, proposal: Proposal, agency: int) -> None:
        try:
            added = keys_to_follow(self._client, proposal, agency)
            if added is not None:
                send(self._client, self._seat.sign(added, self._passphrase))
        except _REFUSALS as error:
            if not isinstance(error, RegistryConflict):  # that one goes away when it is tried again
                remove_file(self._path)
            error.where = f"agency {agency} is enrolled, but its keys were refused"
            raise


def pending_path(directory: Path) -> Path:
    """Where a directory keeps the change that is on its way."""
    return directory / _PENDING


def numbered(keys: Sequence[NewKey], first: int) -> tuple[NewKey, ...]:
    """The same keys, numbered from ``first`` on."""
    return tuple(replace(one, number=number) for number, one in enumerate(keys, first))
