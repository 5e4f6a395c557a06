"""How the registry changes: founded by the genesis, amended by each REGISTRY leaf after it.

Who signed comes first, then whether they may, then whether what would come of it is consistent.
Every refusal is a named error, and leaves the registry that was. Format: docs/format.md, sections
REGISTRY and How a change is checked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from ledger import changes as change
from ledger.changes import AUTHORITY, AuthoritySet, Change, Subject
from ledger.checkpoints import check_origin
from ledger.errors import (
    AgencySuspended,
    ChangeRefused,
    KeyEnded,
    KeyReused,
    KeyStolen,
    KeyUnknown,
    KeyUse,
    LedgerClosed,
    NotEntitled,
    RegistryConflict,
    TooFewSignatures,
)
from ledger.hashing import leaf_hash
from ledger.leaves import NONE, LeafType
from ledger.merkle_list import MerkleList
from ledger.notes import SignatureType, VerifierKey
from ledger.registry import Registry
from ledger.registry_leaf import NO_GENESIS, RegistryLeaf
from ledger.registry_records import (
    MAX_LEDGER_KEYS,
    MAX_RECORD,
    Agency,
    AgencyRecord,
    AuthorityKeyRecord,
    ClosedRecord,
    History,
    KeyRecord,
    LedgerRecord,
    LogKeyRecord,
    Theft,
    TypeRecord,
)
from ledger.signatures import Algorithm, verify
from ledger.signing_policy import RECORD_KINDS, REGISTRY_KIND
from ledger.witness_policy import parse_policy

FIRST_RULES: Final = 1
MAX_AGENCY_KEYS: Final = 1_024
MAX_DEPTH: Final = 16

# A record keeps its history, so it grows with every change; what could not be read back must not be
# made. An agency cannot fill a record (its child's) so far that the authority could not suspend it,
# and the authority leaves room for what comes by itself: affirmations, thefts.
MAX_RECORD_BY_AGENCY: Final = MAX_RECORD // 2
MAX_RECORD_BY_AUTHORITY: Final = MAX_RECORD - (1 << 18)


# --- genesis -----------------------------------------------------------------------------------


def found(leaf: bytes) -> Registry:
    """The registry of a new ledger, from its leaf 0. Raises RuleError, FormatError, SignatureInvalid."""
    registry_leaf = RegistryLeaf.decode(leaf)
    made = registry_leaf.change()
    if not isinstance(made.body, change.Genesis) or made.previous != NONE:
        raise ChangeRefused("a ledger begins with its genesis, whose previous is none")
    body = made.body
    check_origin(body.origin)
    _check_log_keys(body.origin, body.log_keys)
    if not any(LogKeyRecord(vkey, 0).is_classical for vkey in body.log_keys):
        raise ChangeRefused("a ledger needs an Ed25519 log key", fix="name a key of type 01, too")
    _check_witnesses(body.witness_policy, body.log_keys)
    empty = Registry(leaf_hash(leaf), _first_record(body), {}, {}, frozenset(), MerkleList())
    keys = body.authority.keys
    registry = empty.with_fingerprints((key.algorithm, key.public_key) for key in keys)
    expected = [(AUTHORITY, key.number) for key in keys]
    if [(one.agency, one.number) for one in registry_leaf.signatures] != expected:
        raise TooFewSignatures("the genesis must be signed by every authority key that it names")
    message = registry_leaf.message(NO_GENESIS)
    for key, one in zip(keys, registry_leaf.signatures, strict=True):
        _verify(key.algorithm, key.public_key, message, one.algorithm, one.signature)
    return registry._hashed()


def _first_record(body: change.Genesis) -> LedgerRecord:
    return LedgerRecord(
        origin=body.origin,
        training=body.training,
        changed=0,
        agencies=0,
        types=0,
        threshold=History.start(0, body.authority.k),
        authority_keys=tuple(
            AuthorityKeyRecord(key.number, key.algorithm, key.public_key, 0) for key in body.authority.keys
        ),
        log_keys=tuple(LogKeyRecord(vkey, 0) for vkey in body.log_keys),
        witness_policy=History.start(0, body.witness_policy),
        rules=History.start(0, FIRST_RULES),
    )


def _check_log_keys(origin: str, vkeys: Iterable[str]) -> None:
    seen = set()
    for vkey in vkeys:
        key = VerifierKey.parse(vkey)
        if key.name != origin:
            raise ChangeRefused(f"the log key is named {key.name!r}, the ledger's origin is {origin!r}")
        if key.type is SignatureType.ED25519_COSIGNATURE:
            raise ChangeRefused(
                "a witness's key cannot sign for the log", fix="name a key of type 01, or 06 beside it"
            )
        if key.public_key in seen:
            raise KeyReused("a log key is named twice")
        seen.add(key.public_key)


def _check_witnesses(policy: str, log_keys: Iterable[str]) -> None:
    """Whether a policy can be read, and asks nobody for a cosignature who signs for the log.

    With a key of type 06 the log's own line would count as its witness's.
    """
    if not policy:
        return
    own = {VerifierKey.parse(vkey).public_key for vkey in log_keys}
    for witness in parse_policy(policy.encode()).witnesses:
        if witness.key.public_key in own:
            raise KeyReused(f"the witness {witness.name} has a key of the log", fix="give it one of its own")


# --- who signed --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Signers:
    """The keys whose signatures on a change verify: those of the authority, or of one agency."""

    agency: int
    numbers: frozenset[int]

    @property
    def references(self) -> tuple[tuple[int, int], ...]:
        return tuple((self.agency, number) for number in sorted(self.numbers))


def _signers(registry: Registry, leaf: RegistryLeaf, body: change.ChangeBody, index: int) -> Signers:
    message = leaf.message(registry.genesis)
    agencies = {one.agency for one in leaf.signatures}
    if len(agencies) != 1:
        raise NotEntitled("a change is signed by the authority or by one agency, not by several")
    (agency,) = agencies
    incoming = (
        {key.number: key for key in body.authority.keys} if isinstance(body, change.AuthorityReplaced) else {}
    )
    for one in leaf.signatures:
        if agency == AUTHORITY:
            algorithm, public_key = _authority_key(registry, incoming, one.number)
        else:
            key = _registry_key(registry, agency, one.number, index)
            algorithm, public_key = key.algorithm, key.public_key
        _verify(algorithm, public_key, message, one.algorithm, one.signature)
    return Signers(agency, frozenset(one.number for one in leaf.signatures))


def _authority_key(
    registry: Registry, incoming: Mapping[int, change.AuthorityKey], number: int
) -> tuple[int, bytes]:
    known = registry.ledger.authority_key(number)
    if known is None:
        if number not in incoming:
            raise KeyUnknown(f"the authority has no key {number}")
        return incoming[number].algorithm, incoming[number].public_key
    if known.ended is not None:
        raise KeyEnded(f"the authority's key {number} ended at index {known.ended}")
    return known.algorithm, known.public_key


def _registry_key(registry: Registry, number: int, key_number: int, index: int) -> KeyRecord:
    agency = registry.agency(number)
    if agency.record.suspended.latest is not None:
        raise AgencySuspended(f"agency {number} is suspended")
    return usable_key(agency, key_number, "registry", index)


def usable_key(agency: Agency, number: int, use: str, index: int) -> KeyRecord:
    """The agency's key, if it may sign for ``use`` at ``index``.

    Raises KeyUnknown, KeyUse, KeyEnded, KeyStolen.
    """
    name = f"key {number} of agency {agency.record.number}"
    key = agency.key(number)
    if key is None:
        raise KeyUnknown(f"{name} is not registered")
    if key.use != use:
        raise KeyUse(f"{name} is registered for {key.use}, not for {use}")
    if not key.active_at(index):
        raise KeyEnded(f"{name} ended at index {key.ended}", fix="sign with a key that is in use")
    if key.stolen is not None:
        raise KeyStolen(f"{name} is reported stolen", fix="sign with a key that is in use")
    return key


def _verify(algorithm: int, public_key: bytes, message: bytes, signed_with: int, signature: bytes) -> None:
    if signed_with != algorithm:
        raise KeyUse(f"the key is of algorithm {algorithm}, the signature of {signed_with}")
    verify(algorithm, public_key, message, signature)


# --- changes -----------------------------------------------------------------------------------


def amend(registry: Registry, leaf: RegistryLeaf, index: int, block: int) -> Registry:
    """The registry after the REGISTRY leaf at ``index`` in ``block``.

    Raises RuleError, FormatError or SignatureInvalid, each naming what stands in the way.
    """
    made = leaf.change()
    body = made.body
    last = registry.changed(made.subject)
    if made.previous != last:
        raise RegistryConflict(
            f"{made.subject} was last changed at {_name(last)}, this change follows {_name(made.previous)}",
            index=last,
            fix="make the change again on the newest record",
        )
    signers = _signers(registry, leaf, body, index)
    _entitle(registry, made, signers)
    if made.subject.kind == "ledger":
        amended = _amend_ledger(registry, body, signers, index, block)
    elif isinstance(body, change.TypeDefined):
        amended = _define(registry, made, body, index)
    elif isinstance(body, change.AgencyEnrolled):
        amended = _enrol(registry, made, body, index)
    else:
        amended = _amend_agency(registry, registry.agency(made.subject.number), body, signers, index)
    _check_room(amended, made.subject, signers)
    return amended


def _check_room(amended: Registry, subject: Subject, signers: Signers) -> None:
    """Raises ChangeRefused for a record that has grown past what its readers take."""
    most = MAX_RECORD_BY_AUTHORITY if signers.agency == AUTHORITY else MAX_RECORD_BY_AGENCY
    size = len(amended.record(subject))
    if size > most:
        raise ChangeRefused(f"the record of {subject} would have {size} bytes, at most {most} are allowed")
    ledger = amended.ledger
    if max(len(ledger.authority_keys), len(ledger.log_keys)) > MAX_LEDGER_KEYS:
        raise ChangeRefused(f"a ledger has at most {MAX_LEDGER_KEYS} authority keys and log keys ever")


def _name(index: int) -> str:
    return "no index" if index == NONE else f"index {index}"


def _entitle(registry: Registry, made: Change, signers: Signers) -> None:
    """Whether these signers may make this change. Raises NotEntitled or TooFewSignatures."""
    body = made.body
    if signers.agency == AUTHORITY:
        old = [n for n in signers.numbers if registry.ledger.authority_key(n) is not None]
        if len(old) < registry.ledger.k:
            raise TooFewSignatures(
                f"{registry.ledger.k} authority keys must sign this change, {len(old)} did"
            )
        return
    agency = registry.agency(signers.agency).record
    needed = agency.policy.latest.of(REGISTRY_KIND).first_step
    if len(signers.numbers) < needed:
        raise TooFewSignatures(
            f"{needed} registry keys of agency {agency.number} must sign, {len(signers.numbers)} did"
        )
    target = made.subject.number
    by_self = made.subject.kind == "agency" and target == signers.agency
    if isinstance(body, change.AgencyEnrolled):
        allowed = body.parent == signers.agency and "enrol" in agency.roles.latest
        _within(agency, body.entitlement)
    elif isinstance(body, change.KeysAdded | change.KeyEnded):
        allowed = by_self or _senior(registry, signers.agency, target)
    elif isinstance(body, change.AgencyEntitled):
        allowed = _senior(registry, signers.agency, target)
        _within(agency, body.entitlement)
    elif isinstance(
        body,
        change.AgencyRenamed | change.AgencySuspended | change.AgencyReinstated | change.SuccessorNamed,
    ):
        allowed = _senior(registry, signers.agency, target)
    else:
        allowed = False
    if not allowed:
        raise NotEntitled(f"agency {signers.agency} may not make the change {body.NAME} of {made.subject}")


def _senior(registry: Registry, agency: int, target: int) -> bool:
    return target in registry.agencies and registry.is_above(agency, target)


def _within(parent: AgencyRecord, entitlement: change.Entitlement) -> None:
    beyond = [role for role in entitlement.roles if role not in parent.roles.latest]
    beyond += [f"type {one}" for one in entitlement.types if one not in parent.types.latest]
    if beyond:
        raise NotEntitled(f"agency {parent.number} cannot give what it does not have: {beyond[0]}")


def _amend_ledger(
    registry: Registry, body: change.ChangeBody, signers: Signers, index: int, block: int
) -> Registry:
    record = replace(registry.ledger, changed=index)
    if isinstance(body, change.AuthorityReplaced):
        return _replace_authority(registry, record, body.authority, signers, index)
    if isinstance(body, change.LogKeyAdded):
        _check_log_keys(record.origin, [body.vkey])
        if any(key.vkey == body.vkey for key in record.log_keys):
            raise KeyReused("this log key has been registered before")
        _check_witnesses(record.witness_policy.latest, [body.vkey])
        keys = (*record.log_keys, LogKeyRecord(body.vkey, index))
        return registry.with_ledger(replace(record, log_keys=keys))
    if isinstance(body, change.LogKeyEnded):
        return registry.with_ledger(_end_log_key(record, body, index))
    if isinstance(body, change.WitnessPolicyChanged):
        _check_witnesses(body.policy, [key.vkey for key in record.log_keys])
        policy = record.witness_policy.then(index, body.policy)
        return registry.with_ledger(replace(record, witness_policy=policy))
    if isinstance(body, change.RulesRaised):
        last_block, last_version = record.rules.entries[-1]
        if body.block <= max(block, last_block) or body.rules <= last_version:
            raise ChangeRefused(
                f"rules {body.rules} from block {body.block} do not come after rules {last_version},"
                f" block {max(block, last_block)}"
            )
        return registry.with_ledger(replace(record, rules=record.rules.then(body.block, body.rules)))
    if isinstance(body, change.LedgerClosed):
        return registry.with_ledger(_close(registry, record, body, index))
    raise ChangeRefused("a ledger has one genesis, its leaf 0")


def _replace_authority(
    registry: Registry, record: LedgerRecord, incoming: AuthoritySet, signers: Signers, index: int
) -> Registry:
    known = {key.number: key for key in record.authority_keys}
    fresh = [key for key in incoming.keys if key.number not in known]
    for key in incoming.keys:
        old = known.get(key.number)
        if old is not None and (
            old.ended is not None or (old.algorithm, old.public_key) != (key.algorithm, key.public_key)
        ):
            raise ChangeRefused(f"authority key number {key.number} stands for another key")
    start = max(known) + 1
    if [key.number for key in fresh] != list(range(start, start + len(fresh))):
        raise ChangeRefused(f"new authority keys are numbered from {start} on")
    missing = [key.number for key in incoming.keys if key.number not in signers.numbers]
    if missing:
        raise TooFewSignatures(f"key {missing[0]} of the new authority did not sign")
    staying = {key.number for key in incoming.keys}
    keys = [
        key if key.ended is not None or key.number in staying else replace(key, ended=index)
        for key in record.authority_keys
    ]
    keys += [AuthorityKeyRecord(key.number, key.algorithm, key.public_key, index) for key in fresh]
    registry = registry.with_fingerprints((key.algorithm, key.public_key) for key in fresh)
    threshold = record.threshold.then(index, incoming.k)
    return registry.with_ledger(replace(record, authority_keys=tuple(keys), threshold=threshold))


def _end_log_key(record: LedgerRecord, body: change.LogKeyEnded, index: int) -> LedgerRecord:
    if all(key.vkey != body.vkey or key.last_size is not None for key in record.log_keys):
        raise ChangeRefused("no such log key is in use")
    keys = tuple(
        replace(key, last_size=body.last_size) if key.vkey == body.vkey else key for key in record.log_keys
    )
    if body.last_size <= index:
        raise ChangeRefused(f"a log key can only end at a size above {index}, not in the past")
    if any(key.last_size is None and key.is_classical for key in keys):
        return replace(record, log_keys=keys)
    if record.closed is None:
        raise ChangeRefused("the last Ed25519 log key cannot be ended", fix="add its successor first")
    # With it the log ends; the block that says so has to be signed yet.
    ended = replace(record, log_keys=keys)
    if ended.end is not None and ended.end < index + 2:
        raise ChangeRefused(f"the log cannot end below {index + 2} leaves, where this block may end")
    return ended


def _close(registry: Registry, record: LedgerRecord, body: change.LedgerClosed, index: int) -> LedgerRecord:
    if record.closed is not None:
        raise ChangeRefused(f"the ledger was closed at index {record.closed.since}, once and for all")
    if body.genesis == registry.genesis:
        raise ChangeRefused("a ledger cannot follow itself")
    check_origin(body.origin)
    if body.origin == record.origin:
        raise ChangeRefused("the ledger that follows needs an origin of its own: witnesses know logs by it")
    return replace(record, closed=ClosedRecord(index, body.genesis, body.origin))


def refuse_when_closed(registry: Registry, what: str) -> None:
    """Raises LedgerClosed, naming the ledger that follows, when this one takes nothing new."""
    closed = registry.ledger.closed
    if closed is not None:
        raise LedgerClosed(
            f"{what}: the ledger was closed at index {closed.since}, and takes nothing new",
            fix=f"use the ledger that follows it, {closed.origin} ({closed.genesis.hex()[:16]})",
        )


def _define(registry: Registry, made: Change, body: change.TypeDefined, index: int) -> Registry:
    refuse_when_closed(registry, "no document type is defined")
    number = made.subject.number
    if number != len(registry.types) + 1:
        raise ChangeRefused(
            f"document types are numbered in order: the next one is {len(registry.types) + 1}"
            if number > len(registry.types)
            else f"document type {number} is defined and never changes"
        )
    return registry.with_type(TypeRecord(number, index, body.labels, body.fields))


def _enrol(registry: Registry, made: Change, body: change.AgencyEnrolled, index: int) -> Registry:
    refuse_when_closed(registry, "no agency is enrolled")
    number = made.subject.number
    if number != len(registry.agencies) + 1:
        raise ChangeRefused(f"agencies are numbered in order: the next one is {len(registry.agencies) + 1}")
    _check_depth(registry, body.parent)
    _check_types(registry, body.entitlement)
    record = AgencyRecord(
        number=number,
        changed=index,
        names=History.start(index, body.names),
        parent=History.start(index, body.parent),
        roles=History.start(index, body.entitlement.roles),
        types=History.start(index, body.entitlement.types),
        policy=History.start(index, body.entitlement.policy),
        suspended=History.start(index, None),
        successor=History.start(index, None),
        affirmed=(),
        key_count=0,
        keys_root=MerkleList().root,
        stolen_since=None,
    )
    return registry.with_agency(Agency(record))


def _height(registry: Registry, number: int) -> int:
    """How many steps the deepest agency under this one stands below it."""
    below = [other for other in registry.agencies if registry.is_above(number, other)]
    return max(map(registry.depth, below), default=registry.depth(number)) - registry.depth(number)


def _check_depth(registry: Registry, parent: int, height: int = 0) -> None:
    """Whether an agency, with ``height`` steps below it, may come under ``parent``.

    So that looking for an ancestor stays cheap, whoever asks.
    """
    if registry.depth(parent) + height >= MAX_DEPTH:
        raise ChangeRefused(f"agencies stand at most {MAX_DEPTH} deep under the authority")


def _check_types(registry: Registry, entitlement: change.Entitlement) -> None:
    for number in entitlement.types:
        if number != 0:
            registry.document_type(number)


def _amend_agency(
    registry: Registry, agency: Agency, body: change.ChangeBody, signers: Signers, index: int
) -> Registry:
    record = replace(agency.record, changed=index)
    if isinstance(body, change.KeysAdded):
        return _add_keys(registry, replace(agency, record=record), body, signers, index)
    if isinstance(body, change.KeyEnded):
        key = agency.key(body.number)
        if key is None or key.ended is not None:
            raise KeyUnknown(f"agency {record.number} has no key {body.number} in use")
        ended = replace(key, ended=index)
        return registry.with_agency(replace(agency, record=record).with_key(ended))
    if isinstance(body, change.KeyStolen):
        if signers.agency != AUTHORITY:
            raise NotEntitled("only the authority declares a key stolen")
        registry = registry.with_agency(replace(agency, record=record))
        return _declare_stolen(registry, record.number, body.number, body.since, index)
    if isinstance(body, change.AgencyRenamed):
        record = replace(record, names=record.names.then(index, body.names))
    elif isinstance(body, change.AgencyMoved):
        _check_depth(registry, body.parent, _height(registry, record.number))
        if body.parent != AUTHORITY and (
            body.parent == record.number or registry.is_above(record.number, body.parent)
        ):
            raise ChangeRefused("an agency cannot come under itself")
        record = replace(record, parent=record.parent.then(index, body.parent))
    elif isinstance(body, change.AgencyEntitled):
        _check_types(registry, body.entitlement)
        record = replace(
            record,
            roles=record.roles.then(index, body.entitlement.roles),
            types=record.types.then(index, body.entitlement.types),
            policy=record.policy.then(index, body.entitlement.policy),
        )
    elif isinstance(body, change.AgencySuspended):
        by = record.suspended.latest
        if by is not None and not _outranks(registry, signers.agency, by):
            raise ChangeRefused(f"agency {record.number} is suspended already")
        record = replace(record, suspended=record.suspended.then(index, signers.agency))
    elif isinstance(body, change.AgencyReinstated):
        record = replace(record, suspended=_reinstate(registry, record, signers, index))
    elif isinstance(body, change.SuccessorNamed):
        successor = registry.agency(body.successor).record.number
        while successor is not None:
            if successor == record.number:
                raise ChangeRefused("an agency cannot succeed itself")
            following = registry.agency(successor).record.successor.latest
            if following is None:
                break
            successor = following
        record = replace(record, successor=record.successor.then(index, body.successor))
    return registry.with_agency(replace(agency, record=record))


def _outranks(registry: Registry, agency: int, other: int) -> bool:
    """Whether ``agency`` stands above ``other``; so a suspension can be taken over from below."""
    return other != AUTHORITY and registry.is_above(agency, other)


def _reinstate(registry: Registry, record: AgencyRecord, signers: Signers, index: int) -> History[int | None]:
    by = record.suspended.latest
    if by is None:
        raise ChangeRefused(f"agency {record.number} is not suspended")
    if signers.agency != by and not _outranks(registry, signers.agency, by):
        raise NotEntitled("whoever suspended an agency, or stands above, reinstates it")
    return record.suspended.then(index, None)


def _add_keys(
    registry: Registry, agency: Agency, body: change.KeysAdded, signers: Signers, index: int
) -> Registry:
    registry = registry.with_fingerprints((key.algorithm, key.public_key) for key in body.keys)
    if len(agency.keys) + len(body.keys) > MAX_AGENCY_KEYS:
        raise ChangeRefused(f"an agency registers at most {MAX_AGENCY_KEYS} keys, ended ones included")
    for key in body.keys:
        if key.number != len(agency.keys) + 1:
            raise ChangeRefused(
                f"keys are numbered in order: the next one of agency {agency.record.number}"
                f" is {len(agency.keys) + 1}"
            )
        if (key.use == "envelope") != (key.algorithm == Algorithm.X25519):
            raise KeyUse("envelope keys, and only they, are of algorithm 4 (X25519)")
        agency = agency.with_key(
            KeyRecord(
                agency=agency.record.number,
                number=key.number,
                algorithm=key.algorithm,
                public_key=key.public_key,
                use=key.use,
                label=key.label,
                added=index,
                added_by=signers.references,
            )
        )
    return registry.with_agency(agency)


def _declare_stolen(registry: Registry, number: int, key_number: int, since: int, index: int) -> Registry:
    """Mark a key stolen, and with it every key that it helped to add at or after ``since``."""
    key = registry.agency(number).key(key_number)
    if key is None:
        raise KeyUnknown(f"agency {number} has no key {key_number}")
    if since > index:
        raise ChangeRefused(f"a theft cannot begin at {since}, after its declaration at {index}")
    if key.stolen is not None and key.stolen.since <= since:
        raise ChangeRefused(f"the theft can only move to before index {key.stolen.since}")
    pending = [(key, since)]
    while pending:
        key, since = pending.pop()
        agency = registry.agency(key.agency)
        current = agency.key(key.number)
        if current is None or (current.stolen is not None and current.stolen.since <= since):
            continue
        registry = registry.with_agency(agency.with_key(replace(current, stolen=Theft(since, index))))
        thief = (key.agency, key.number)
        for other in registry.agencies.values():
            pending += [
                (one, one.added) for one in other.keys if thief in one.added_by and one.added >= since
            ]
    return _void_affirmations(registry)


def _void_affirmations(registry: Registry) -> Registry:
    """Without the affirmations whose own signers turn out unsound: a thief must not vouch for the theft."""
    for agency in registry.agencies.values():
        standing = tuple(
            one
            for one in agency.record.affirmed
            if registry.agency(one.by).sound(one.keys, RECORD_KINDS[LeafType.AFFIRM], one.at)
        )
        if len(standing) != len(agency.record.affirmed):
            record = replace(agency.record, affirmed=standing)
            registry = registry.with_agency(replace(agency, record=record))
    return registry
