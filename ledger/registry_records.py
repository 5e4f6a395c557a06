"""The registry's records: what the seal's registry root is over, and what a light verifier reads.

There is one record for the ledger itself, one for each agency, one for each document type, and one
for each key in its agency's own tree. A record is canonical JSON that bears its kind and number.
Nothing is forgotten: whatever can change keeps its history, so that today's record says what held
at any index. Format: docs/format.md, section Registry records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import pairwise
from typing import Any, Final, Generic, TypeVar

from ledger.canonical_json import Json, Reader, base64_text, encode, parse, u64_text
from ledger.changes import (
    MAX_AGENCY,
    MAX_KEY_NUMBER,
    MAX_POLICY,
    MAX_TYPE,
    ROLES,
    USES,
    FieldDefinition,
    labels,
    one_of,
)
from ledger.errors import FormatError
from ledger.hashing import leaf_hash
from ledger.merkle_list import MerkleList
from ledger.notes import SignatureType, VerifierKey
from ledger.signing_policy import RecordKind, SigningPolicy

MAX_RECORD: Final = 1 << 20
MAX_LEDGER_KEYS: Final = 1024
"""Most authority keys, and most log keys, that a ledger ever has."""
MAX_HISTORY: Final = 65_536
MAX_AFFIRMED: Final = 1_024
"""Most ranges that an agency's record holds as affirmed."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class History(Generic[T]):
    """A value through time: (index of the change, value from there on), indexes ascending."""

    entries: tuple[tuple[int, T], ...] = ()

    @classmethod
    def start(cls, index: int, value: T) -> History[T]:
        return cls(((index, value),))

    def at(self, index: int) -> T:
        """The value that a leaf at ``index`` stands under. KeyError before the first entry."""
        for since, value in reversed(self.entries):
            if since <= index:
                return value
        raise KeyError(index)

    @property
    def latest(self) -> T:
        return self.entries[-1][1]

    def then(self, index: int, value: T) -> History[T]:
        return History((*self.entries, (index, value)))

    def to_json(self, item: Callable[[T], Json]) -> Json:
        return [{"from": u64_text(since), "value": item(value)} for since, value in self.entries]


def read_history(reader: Reader, name: str, item: Callable[[Reader], T]) -> History[T]:
    """Read a history; ``item`` reads the member ``value`` of each entry."""
    entries = []
    for one in reader.members(name, limit=MAX_HISTORY):
        entries.append((one.u64("from"), item(one)))
        one.done()
    if not entries or any(a[0] >= b[0] for a, b in pairwise(entries)):
        raise FormatError("indexes must strictly ascend, from at least one", where=reader.at(name))
    return History(tuple(entries))


# --- keys --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Theft:
    """The key is in wrong hands from index ``since`` on; it was ``declared`` at that index."""

    since: int
    declared: int


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A key of an agency: a leaf of the agency's key tree, at position number - 1.

    ``added`` is the index of the change that registered it, ``added_by`` the keys that signed that
    change, ``ended`` the index as of which it may sign no more.
    """

    agency: int
    number: int
    algorithm: int
    public_key: bytes
    use: str
    label: str
    added: int
    added_by: tuple[tuple[int, int], ...]
    ended: int | None = None
    stolen: Theft | None = None

    def active_at(self, index: int) -> bool:
        return self.added < index and (self.ended is None or index < self.ended)

    def stolen_at(self, index: int) -> bool:
        return self.stolen is not None and self.stolen.since <= index

    def encode(self) -> bytes:
        return encode(
            {
                "kind": "key",
                "agency": self.agency,
                "number": self.number,
                "algorithm": self.algorithm,
                "key": base64_text(self.public_key),
                "use": self.use,
                "label": self.label,
                "added": u64_text(self.added),
                "added_by": [list(reference) for reference in self.added_by],
                "ended": None if self.ended is None else u64_text(self.ended),
                "stolen": None
                if self.stolen is None
                else {
                    "since": u64_text(self.stolen.since),
                    "declared": u64_text(self.stolen.declared),
                },
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> KeyRecord:
        reader = _open(data, "key")
        stolen = reader.any("stolen")
        record = cls(
            reader.number("agency", 1, MAX_AGENCY),
            reader.number("number", 1, MAX_KEY_NUMBER),
            reader.number("algorithm", 1, 255),
            reader.data("key", limit=4096),
            one_of(reader, "use", USES),
            reader.text("label", limit=64, empty=True),
            reader.u64("added"),
            _references(reader, "added_by"),
            reader.optional_u64("ended"),
            None if stolen is None else _theft(reader.member("stolen")),
        )
        reader.done()
        return record


def _theft(reader: Reader) -> Theft:
    theft = Theft(reader.u64("since"), reader.u64("declared"))
    reader.done()
    return theft


def _references(reader: Reader, name: str) -> tuple[tuple[int, int], ...]:
    references = []
    for item in reader.items(name, limit=32):
        if (
            not isinstance(item, list)
            or len(item) != 2
            or any(type(one) is not int for one in item)
            or not (0 <= item[0] <= MAX_AGENCY and 1 <= item[1] <= MAX_KEY_NUMBER)
        ):
            raise FormatError("[agency, key number] is expected", where=reader.at(name))
        references.append((item[0], item[1]))
    return tuple(references)


# --- agencies ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Affirmation:
    """The agency's leaves ``first`` to ``last`` are genuine, says an AFFIRM.

    ``at`` is the index of the SUBMISSION that bears it, ``by`` and ``keys`` who signed that: when
    those keys turn out to be stolen, the affirmation goes.
    """

    first: int
    last: int
    at: int
    by: int
    keys: tuple[int, ...]

    def to_json(self) -> Json:
        return {
            "first": u64_text(self.first),
            "last": u64_text(self.last),
            "at": u64_text(self.at),
            "by": self.by,
            "keys": list(self.keys),
        }


@dataclass(frozen=True, slots=True)
class AgencyRecord:
    """An agency. ``changed``: index of its latest REGISTRY change, the next change's ``previous``.

    ``suspended`` is who suspended it (0 the authority), None while it is not.
    ``keys_root`` is the RFC 6962 root over its ``key_count`` key records. ``stolen_since`` is the
    least index from which any of its submit keys is stolen, for verifiers that do not fetch keys.
    """

    number: int
    changed: int
    names: History[Mapping[str, str]]
    parent: History[int]
    roles: History[tuple[str, ...]]
    types: History[tuple[int, ...]]
    policy: History[SigningPolicy]
    suspended: History[int | None]
    successor: History[int | None]
    affirmed: tuple[Affirmation, ...]
    key_count: int
    keys_root: bytes
    stolen_since: int | None

    @property
    def enrolled(self) -> int:
        return self.parent.entries[0][0]

    def affirmed_at(self, index: int) -> bool:
        return any(one.first <= index <= one.last for one in self.affirmed)

    def encode(self) -> bytes:
        return encode(
            {
                "kind": "agency",
                "number": self.number,
                "changed": u64_text(self.changed),
                "names": self.names.to_json(dict),
                "parent": self.parent.to_json(int),
                "roles": self.roles.to_json(list),
                "types": self.types.to_json(list),
                "policy": self.policy.to_json(SigningPolicy.to_json),
                "suspended": self.suspended.to_json(lambda value: value),
                "successor": self.successor.to_json(lambda value: value),
                "affirmed": [one.to_json() for one in self.affirmed],
                "keys": {"count": self.key_count, "root": base64_text(self.keys_root)},
                "stolen_since": None if self.stolen_since is None else u64_text(self.stolen_since),
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> AgencyRecord:
        reader = _open(data, "agency")
        keys = reader.member("keys")
        record = cls(
            reader.number("number", 1, MAX_AGENCY),
            reader.u64("changed"),
            read_history(reader, "names", lambda one: labels(one, "value")),
            read_history(reader, "parent", lambda one: one.number("value", 0, MAX_AGENCY)),
            read_history(reader, "roles", _roles),
            read_history(reader, "types", _types),
            read_history(
                reader,
                "policy",
                lambda one: SigningPolicy.from_json(one.any("value"), one.at("value")),
            ),
            read_history(reader, "suspended", lambda one: _agency_or_none(one, 0)),
            read_history(reader, "successor", lambda one: _agency_or_none(one, 1)),
            tuple(_affirmation(one) for one in reader.members("affirmed", limit=MAX_AFFIRMED)),
            keys.number("count", 0, MAX_KEY_NUMBER),
            keys.data("root", size=32),
            reader.optional_u64("stolen_since"),
        )
        keys.done()
        reader.done()
        _same_start(
            reader,
            record.names,
            record.parent,
            record.roles,
            record.types,
            record.policy,
            record.suspended,
            record.successor,
        )
        return record


def _same_start(reader: Reader, *histories: History[Any]) -> None:
    if len({history.entries[0][0] for history in histories}) > 1:
        raise FormatError("its histories do not begin at the same index", where=reader.where)


def _roles(reader: Reader) -> tuple[str, ...]:
    values = reader.items("value", limit=len(ROLES))
    if any(not isinstance(one, str) or one not in ROLES for one in values):
        raise FormatError(f"is none of {', '.join(ROLES)}", where=reader.at("value"))
    return tuple(values)


def _types(reader: Reader) -> tuple[int, ...]:
    values = reader.items("value", limit=4096)
    if any(type(one) is not int or not 0 <= one <= MAX_TYPE for one in values):
        raise FormatError("document type ids are expected", where=reader.at("value"))
    return tuple(values)


def _agency_or_none(reader: Reader, least: int) -> int | None:
    return None if reader.any("value") is None else reader.number("value", least, MAX_AGENCY)


def _affirmation(reader: Reader) -> Affirmation:
    keys = reader.items("keys", limit=16)
    if not keys or any(type(one) is not int or not 1 <= one <= MAX_KEY_NUMBER for one in keys):
        raise FormatError("key numbers are expected", where=reader.at("keys"))
    if any(a >= b for a, b in pairwise(keys)):
        raise FormatError("key numbers must strictly ascend", where=reader.at("keys"))
    one = Affirmation(
        reader.u64("first"),
        reader.u64("last"),
        reader.u64("at"),
        reader.number("by", 1, MAX_AGENCY),
        tuple(keys),
    )
    reader.done()
    if not one.first <= one.last < one.at:
        raise FormatError("is no range of leaves below the AFFIRM", where=reader.where)
    return one


# --- document types ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TypeRecord:
    """A document type; it never changes once defined."""

    number: int
    defined: int
    labels: Mapping[str, str]
    fields: tuple[FieldDefinition, ...]

    def encode(self) -> bytes:
        return encode(
            {
                "kind": "type",
                "number": self.number,
                "defined": u64_text(self.defined),
                "labels": dict(self.labels),
                "fields": [one.to_json() for one in self.fields],
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> TypeRecord:
        reader = _open(data, "type")
        record = cls(
            reader.number("number", 1, MAX_TYPE),
            reader.u64("defined"),
            labels(reader, "labels"),
            tuple(FieldDefinition.from_json(one) for one in reader.members("fields", limit=200)),
        )
        reader.done()
        return record


# --- the ledger --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AuthorityKeyRecord:
    number: int
    algorithm: int
    public_key: bytes
    added: int
    ended: int | None = None

    def to_json(self) -> Json:
        return {
            "number": self.number,
            "algorithm": self.algorithm,
            "key": base64_text(self.public_key),
            "added": u64_text(self.added),
            "ended": None if self.ended is None else u64_text(self.ended),
        }

    @classmethod
    def from_json(cls, reader: Reader) -> AuthorityKeyRecord:
        record = cls(
            reader.number("number", 1, MAX_KEY_NUMBER),
            reader.number("algorithm", 1, 255),
            reader.data("key", limit=4096),
            reader.u64("added"),
            reader.optional_u64("ended"),
        )
        reader.done()
        return record


@dataclass(frozen=True, slots=True)
class LogKeyRecord:
    """A log key as a C2SP vkey. ``last_size``: the greatest size it may sign, None: no limit."""

    vkey: str
    added: int
    last_size: int | None = None

    @property
    def is_classical(self) -> bool:
        """Whether it is of Ed25519, which every checkpoint needs."""
        return _verifier_key(self.vkey).type is SignatureType.ED25519

    def may_sign(self, size: int) -> bool:
        """Whether it is in force for the tree of ``size``: registered in it, and not ended before."""
        return self.added < size and (self.last_size is None or size <= self.last_size)

    def to_json(self) -> Json:
        return {
            "vkey": self.vkey,
            "added": u64_text(self.added),
            "last_size": None if self.last_size is None else u64_text(self.last_size),
        }

    @classmethod
    def from_json(cls, reader: Reader) -> LogKeyRecord:
        record = cls(reader.text("vkey", limit=4096), reader.u64("added"), reader.optional_u64("last_size"))
        reader.done()
        return record


@dataclass(frozen=True, slots=True)
class ClosedRecord:
    """Closed at index ``since`` on, and followed by the ledger with this G and origin."""

    since: int
    genesis: bytes
    origin: str

    def to_json(self) -> Json:
        return {
            "from": u64_text(self.since),
            "genesis": base64_text(self.genesis),
            "origin": self.origin,
        }

    @classmethod
    def from_json(cls, reader: Reader) -> ClosedRecord:
        record = cls(reader.u64("from"), reader.data("genesis", size=32), reader.text("origin"))
        reader.done()
        return record


@dataclass(frozen=True, slots=True)
class LedgerRecord:
    """The first record: it holds the counts, and so the place of every other record in the root.

    ``rules`` is a history by *block* number; the other histories are by index.
    """

    origin: str
    training: bool
    changed: int
    agencies: int
    types: int
    threshold: History[int]
    authority_keys: tuple[AuthorityKeyRecord, ...]
    log_keys: tuple[LogKeyRecord, ...]
    witness_policy: History[str]
    rules: History[int]
    closed: ClosedRecord | None = None

    @property
    def end(self) -> int | None:
        """The size that the log does not grow beyond, for no Ed25519 key may sign more; None: none is set."""
        needed = [key for key in self.log_keys if key.is_classical]
        if self.closed is None or any(key.last_size is None for key in needed):
            return None
        return max((key.last_size or 0 for key in needed), default=None)

    @property
    def k(self) -> int:
        return self.threshold.latest

    @property
    def records(self) -> int:
        """How many records the registry has."""
        return 1 + self.agencies + self.types

    def authority_key(self, number: int) -> AuthorityKeyRecord | None:
        for key in self.authority_keys:
            if key.number == number:
                return key
        return None

    def log_keys_at(self, size: int) -> tuple[VerifierKey, ...]:
        """The log keys in force for the tree of ``size``: what its checkpoint is opened with."""
        return tuple(_verifier_key(key.vkey) for key in self.log_keys if key.may_sign(size))

    def encode(self) -> bytes:
        return encode(
            {
                "kind": "ledger",
                "origin": self.origin,
                "training": self.training,
                "changed": u64_text(self.changed),
                "agencies": self.agencies,
                "types": self.types,
                "threshold": self.threshold.to_json(int),
                "authority_keys": [key.to_json() for key in self.authority_keys],
                "log_keys": [key.to_json() for key in self.log_keys],
                "witness_policy": self.witness_policy.to_json(str),
                "rules": self.rules.to_json(int),
                "closed": None if self.closed is None else self.closed.to_json(),
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> LedgerRecord:
        reader = _open(data, "ledger")
        closed = reader.optional_member("closed")
        record = cls(
            reader.text("origin"),
            reader.flag("training"),
            reader.u64("changed"),
            reader.number("agencies", 0, MAX_AGENCY),
            reader.number("types", 0, MAX_TYPE),
            read_history(reader, "threshold", lambda one: one.number("value", 1, 16)),
            tuple(
                AuthorityKeyRecord.from_json(one)
                for one in reader.members("authority_keys", limit=MAX_LEDGER_KEYS)
            ),
            tuple(LogKeyRecord.from_json(one) for one in reader.members("log_keys", limit=MAX_LEDGER_KEYS)),
            read_history(reader, "witness_policy", read_policy),
            read_history(reader, "rules", lambda one: one.number("value", 1, 65_535)),
            None if closed is None else ClosedRecord.from_json(closed),
        )
        reader.done()
        return record


def read_policy(reader: Reader) -> str:
    """The text of one entry in a history of witness policies."""
    return reader.text("value", limit=MAX_POLICY, empty=True)


@lru_cache(maxsize=64)
def _verifier_key(vkey: str) -> VerifierKey:
    return VerifierKey.parse(vkey)


def _open(data: bytes, kind: str) -> Reader:
    reader = Reader(parse(data, limit=MAX_RECORD, where=f"{kind} record"), f"{kind} record")
    if reader.text("kind", limit=16) != kind:
        raise FormatError(f"is no {kind} record", where=reader.at("kind"))
    return reader


# --- an agency with its keys -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Agency:
    """An agency's record and its key records, with the tree over the keys."""

    record: AgencyRecord
    keys: tuple[KeyRecord, ...] = ()
    key_tree: MerkleList = field(default_factory=MerkleList)

    @classmethod
    def of(cls, record: AgencyRecord, keys: Iterable[KeyRecord]) -> Agency:
        """Put together from records as they are stored. FormatError for keys that the record is not of."""
        listed = tuple(keys)
        tree = MerkleList.of(leaf_hash(key.encode()) for key in listed)
        if (len(listed), tree.root) != (record.key_count, record.keys_root):
            raise FormatError("its keys are not those of its record", where=f"agency {record.number}")
        return cls(record, listed, tree)

    def key(self, number: int) -> KeyRecord | None:
        """Numbers are dense from 1."""
        return self.keys[number - 1] if 1 <= number <= len(self.keys) else None

    def sound(self, keys: Iterable[int], kind: RecordKind, at: int) -> bool:
        """Whether what these keys signed at index ``at`` still has the signatures that it needs.

        Stolen keys do not count. Needed is the first step of the policy of then, as everywhere where
        the day's count is not known. A record that is not sound is doubtful until it is affirmed.
        """
        found = [self.key(number) for number in keys]
        whole = sum(key is not None and not key.stolen_at(at) for key in found)
        return whole >= self.record.policy.at(at).of(kind).first_step

    def with_key(self, key: KeyRecord) -> Agency:
        """With a key added, or replaced by its newer record."""
        position = key.number - 1
        keys = (*self.keys[:position], key, *self.keys[position + 1 :])
        tree = self.key_tree.set(position, leaf_hash(key.encode()))
        thefts = [one.stolen.since for one in keys if one.stolen is not None and one.use == "submit"]
        record = replace(
            self.record,
            key_count=len(keys),
            keys_root=tree.root,
            stolen_since=min(thefts, default=None),
        )
        return Agency(record, keys, tree)
