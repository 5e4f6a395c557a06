"""What a registry change says: its subject, the change it follows, and a body of its kind, as canonical JSON.

Each change names its subject and the index of that subject's previous change, so none can be replayed
or slipped in between. The leaf that carries it, with its signatures, is ``ledger.registry_leaf``.
Format: docs/format.md, section REGISTRY.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Final

from ledger.canonical_json import Json, Reader, base64_text, encode, parse, u64_text
from ledger.documents import check_text
from ledger.errors import FormatError
from ledger.leaves import MAX_LEAF_SIZE
from ledger.signing_policy import SigningPolicy

AUTHORITY: Final = 0
MAX_AGENCY: Final = 2**32 - 1
MAX_KEY_NUMBER: Final = 65_535
MAX_TYPE: Final = 65_535
MAX_POLICY: Final = 32_768
"""Bytes of a witness policy in the registry: room for 17 witnesses with ML-DSA-44 keys."""
USES: Final = ("submit", "registry", "envelope")
ROLES: Final = ("issue", "attest", "request", "circulate", "enrol")
_LANGUAGE: Final = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*", re.ASCII)
_SUBJECT: Final = re.compile(r"ledger|(agency|type)/(0|[1-9][0-9]{0,9})", re.ASCII)


@dataclass(frozen=True, slots=True)
class NewKey:
    """A public key to register. ``label`` is a pseudonym: no personal names stand in the registry."""

    number: int
    algorithm: int
    public_key: bytes
    use: str
    label: str

    def to_json(self) -> Json:
        return {
            "number": self.number,
            "algorithm": self.algorithm,
            "key": base64_text(self.public_key),
            "use": self.use,
            "label": self.label,
        }

    @classmethod
    def from_json(cls, reader: Reader) -> NewKey:
        key = cls(
            reader.number("number", 1, MAX_KEY_NUMBER),
            reader.number("algorithm", 1, 255),
            reader.data("key", limit=4096),
            one_of(reader, "use", USES),
            _plain(reader, "label", limit=64, empty=True),
        )
        reader.done()
        return key


@dataclass(frozen=True, slots=True)
class AuthorityKey:
    """One of the authority's n keys."""

    number: int
    algorithm: int
    public_key: bytes

    def to_json(self) -> Json:
        return {
            "number": self.number,
            "algorithm": self.algorithm,
            "key": base64_text(self.public_key),
        }

    @classmethod
    def from_json(cls, reader: Reader) -> AuthorityKey:
        key = cls(
            reader.number("number", 1, MAX_KEY_NUMBER),
            reader.number("algorithm", 1, 255),
            reader.data("key", limit=4096),
        )
        reader.done()
        return key


@dataclass(frozen=True, slots=True)
class AuthoritySet:
    """k of these keys decide."""

    k: int
    keys: tuple[AuthorityKey, ...]

    def to_json(self) -> Json:
        return {"k": self.k, "keys": [key.to_json() for key in self.keys]}

    @classmethod
    def from_json(cls, reader: Reader) -> AuthoritySet:
        keys = tuple(AuthorityKey.from_json(one) for one in reader.members("keys", limit=16))
        k = reader.number("k", 1, 16)
        reader.done()
        if k > len(keys):
            raise FormatError(f"k is {k}, there are only {len(keys)} keys", where=reader.where)
        if any(a.number >= b.number for a, b in pairwise(keys)):
            raise FormatError("key numbers must strictly ascend", where=reader.where)
        return cls(k, keys)


@dataclass(frozen=True, slots=True)
class FieldDefinition:
    """One field of a document type. ``labels`` by BCP 47 language.

    ``shown``: a holder can never hide it. ``expiry``: holds the day of expiry, YYYY-MM-DD, and so
    is always shown, or a holder could hide that a document has expired.
    ``identity``: identifies the person.
    """

    name: str
    labels: Mapping[str, str]
    required: bool
    shown: bool
    expiry: bool
    identity: bool

    def to_json(self) -> Json:
        return {
            "name": self.name,
            "labels": dict(self.labels),
            "required": self.required,
            "shown": self.shown,
            "expiry": self.expiry,
            "identity": self.identity,
        }

    @classmethod
    def from_json(cls, reader: Reader) -> FieldDefinition:
        definition = cls(
            _plain(reader, "name", limit=64),
            labels(reader, "labels"),
            reader.flag("required"),
            reader.flag("shown"),
            reader.flag("expiry"),
            reader.flag("identity"),
        )
        reader.done()
        return definition


@dataclass(frozen=True, slots=True)
class Genesis:
    """The first leaf: who decides, and which keys sign for the log.

    ``time_ms`` is when it was made; block 0 is sealed at that very time, so that founding the
    same ledger twice makes the same block, and not a fork.
    """

    origin: str
    nonce: bytes
    training: bool
    time_ms: int
    log_keys: tuple[str, ...]
    authority: AuthoritySet
    witness_policy: str
    NAME: ClassVar = "genesis"

    def body(self) -> dict[str, Json]:
        return {
            "origin": self.origin,
            "nonce": base64_text(self.nonce),
            "training": self.training,
            "time_ms": u64_text(self.time_ms),
            "log_keys": list(self.log_keys),
            "authority": self.authority.to_json(),
            "witness_policy": self.witness_policy,
        }

    @classmethod
    def read(cls, reader: Reader) -> Genesis:
        return cls(
            _plain(reader, "origin"),
            reader.data("nonce", size=32),
            reader.flag("training"),
            reader.u64("time_ms"),
            _texts(reader, "log_keys", most=8, limit=4096),
            AuthoritySet.from_json(reader.member("authority")),
            reader.text("witness_policy", limit=MAX_POLICY, empty=True),
        )


@dataclass(frozen=True, slots=True)
class AuthorityReplaced:
    authority: AuthoritySet
    NAME: ClassVar = "authority_replaced"

    def body(self) -> dict[str, Json]:
        return {"authority": self.authority.to_json()}

    @classmethod
    def read(cls, reader: Reader) -> AuthorityReplaced:
        return cls(AuthoritySet.from_json(reader.member("authority")))


@dataclass(frozen=True, slots=True)
class LogKeyAdded:
    vkey: str
    NAME: ClassVar = "log_key_added"

    def body(self) -> dict[str, Json]:
        return {"vkey": self.vkey}

    @classmethod
    def read(cls, reader: Reader) -> LogKeyAdded:
        return cls(reader.text("vkey", limit=4096))


@dataclass(frozen=True, slots=True)
class LogKeyEnded:
    """``last_size``: the greatest tree size that the key may sign."""

    vkey: str
    last_size: int
    NAME: ClassVar = "log_key_ended"

    def body(self) -> dict[str, Json]:
        return {"vkey": self.vkey, "last_size": u64_text(self.last_size)}

    @classmethod
    def read(cls, reader: Reader) -> LogKeyEnded:
        return cls(reader.text("vkey", limit=4096), reader.u64("last_size"))


@dataclass(frozen=True, slots=True)
class WitnessPolicyChanged:
    """``policy``: a C2SP tlog-policy; empty: no witness is asked for."""

    policy: str
    NAME: ClassVar = "witness_policy_changed"

    def body(self) -> dict[str, Json]:
        return {"policy": self.policy}

    @classmethod
    def read(cls, reader: Reader) -> WitnessPolicyChanged:
        return cls(reader.text("policy", limit=MAX_POLICY, empty=True))


@dataclass(frozen=True, slots=True)
class RulesRaised:
    """Rules version ``rules`` holds from block ``block`` on."""

    rules: int
    block: int
    NAME: ClassVar = "rules_raised"

    def body(self) -> dict[str, Json]:
        return {"rules": self.rules, "block": u64_text(self.block)}

    @classmethod
    def read(cls, reader: Reader) -> RulesRaised:
        return cls(reader.number("rules", 1, 65_535), reader.u64("block"))


@dataclass(frozen=True, slots=True)
class LedgerClosed:
    """Nothing new is logged any more; what is goes to the ledger with the G ``genesis``."""

    genesis: bytes
    origin: str
    NAME: ClassVar = "ledger_closed"

    def body(self) -> dict[str, Json]:
        return {"successor": {"genesis": base64_text(self.genesis), "origin": self.origin}}

    @classmethod
    def read(cls, reader: Reader) -> LedgerClosed:
        successor = reader.member("successor")
        closed = cls(successor.data("genesis", size=32), _plain(successor, "origin"))
        successor.done()
        return closed


@dataclass(frozen=True, slots=True)
class Entitlement:
    """What an agency may do: its roles, the document types it may issue, how it must sign."""

    roles: tuple[str, ...]
    types: tuple[int, ...]
    policy: SigningPolicy

    def to_json(self) -> dict[str, Json]:
        return {
            "roles": list(self.roles),
            "types": list(self.types),
            "policy": self.policy.to_json(),
        }

    @classmethod
    def read(cls, reader: Reader) -> Entitlement:
        roles = _texts(reader, "roles", most=len(ROLES), limit=32)
        if any(role not in ROLES for role in roles) or list(roles) != sorted(set(roles)):
            raise FormatError(f"roles are of {', '.join(ROLES)}, sorted, each once", where=reader.at("roles"))
        types = reader.items("types", limit=4096)
        if any(type(one) is not int or not 0 <= one <= MAX_TYPE for one in types) or types != sorted(
            set(types)
        ):
            raise FormatError("document type ids are expected, sorted, each once", where=reader.at("types"))
        policy = SigningPolicy.from_json(reader.any("policy"), reader.at("policy"))
        return cls(roles, tuple(types), policy)


@dataclass(frozen=True, slots=True)
class AgencyEnrolled:
    """``parent`` 0: the authority itself."""

    names: Mapping[str, str]
    parent: int
    entitlement: Entitlement
    NAME: ClassVar = "agency_enrolled"

    def body(self) -> dict[str, Json]:
        return {
            "names": dict(self.names),
            "parent": self.parent,
            **self.entitlement.to_json(),
        }

    @classmethod
    def read(cls, reader: Reader) -> AgencyEnrolled:
        return cls(labels(reader, "names"), reader.number("parent", 0, MAX_AGENCY), Entitlement.read(reader))


@dataclass(frozen=True, slots=True)
class AgencyRenamed:
    names: Mapping[str, str]
    NAME: ClassVar = "agency_renamed"

    def body(self) -> dict[str, Json]:
        return {"names": dict(self.names)}

    @classmethod
    def read(cls, reader: Reader) -> AgencyRenamed:
        return cls(labels(reader, "names"))


@dataclass(frozen=True, slots=True)
class AgencyMoved:
    """The agency comes under another parent; 0: under the authority itself."""

    parent: int
    NAME: ClassVar = "agency_moved"

    def body(self) -> dict[str, Json]:
        return {"parent": self.parent}

    @classmethod
    def read(cls, reader: Reader) -> AgencyMoved:
        return cls(reader.number("parent", 0, MAX_AGENCY))


@dataclass(frozen=True, slots=True)
class AgencyEntitled:
    entitlement: Entitlement
    NAME: ClassVar = "agency_entitled"

    def body(self) -> dict[str, Json]:
        return self.entitlement.to_json()

    @classmethod
    def read(cls, reader: Reader) -> AgencyEntitled:
        return cls(Entitlement.read(reader))


@dataclass(frozen=True, slots=True)
class AgencySuspended:
    NAME: ClassVar = "agency_suspended"

    def body(self) -> dict[str, Json]:
        return {}

    @classmethod
    def read(cls, reader: Reader) -> AgencySuspended:
        return cls()


@dataclass(frozen=True, slots=True)
class AgencyReinstated:
    NAME: ClassVar = "agency_reinstated"

    def body(self) -> dict[str, Json]:
        return {}

    @classmethod
    def read(cls, reader: Reader) -> AgencyReinstated:
        return cls()


@dataclass(frozen=True, slots=True)
class SuccessorNamed:
    successor: int
    NAME: ClassVar = "successor_named"

    def body(self) -> dict[str, Json]:
        return {"successor": self.successor}

    @classmethod
    def read(cls, reader: Reader) -> SuccessorNamed:
        return cls(reader.number("successor", 1, MAX_AGENCY))


@dataclass(frozen=True, slots=True)
class KeysAdded:
    keys: tuple[NewKey, ...]
    NAME: ClassVar = "keys_added"

    def body(self) -> dict[str, Json]:
        return {"keys": [key.to_json() for key in self.keys]}

    @classmethod
    def read(cls, reader: Reader) -> KeysAdded:
        keys = tuple(NewKey.from_json(one) for one in reader.members("keys", limit=64))
        if not keys:
            raise FormatError("no key is named", where=reader.at("keys"))
        return cls(keys)


@dataclass(frozen=True, slots=True)
class KeyEnded:
    number: int
    NAME: ClassVar = "key_ended"

    def body(self) -> dict[str, Json]:
        return {"number": self.number}

    @classmethod
    def read(cls, reader: Reader) -> KeyEnded:
        return cls(reader.number("number", 1, MAX_KEY_NUMBER))


@dataclass(frozen=True, slots=True)
class KeyStolen:
    """Whatever the key signed at index ``since`` or later is doubtful."""

    number: int
    since: int
    NAME: ClassVar = "key_stolen"

    def body(self) -> dict[str, Json]:
        return {"number": self.number, "since": u64_text(self.since)}

    @classmethod
    def read(cls, reader: Reader) -> KeyStolen:
        return cls(reader.number("number", 1, MAX_KEY_NUMBER), reader.u64("since"))


@dataclass(frozen=True, slots=True)
class TypeDefined:
    labels: Mapping[str, str]
    fields: tuple[FieldDefinition, ...]
    NAME: ClassVar = "type_defined"

    def body(self) -> dict[str, Json]:
        return {
            "labels": dict(self.labels),
            "fields": [one.to_json() for one in self.fields],
        }

    @classmethod
    def read(cls, reader: Reader) -> TypeDefined:
        fields = tuple(FieldDefinition.from_json(one) for one in reader.members("fields", limit=200))
        names = [one.name for one in fields]
        if len(set(names)) != len(names) or "type" in names:
            raise FormatError("field names must differ, and none be 'type'", where=reader.at("fields"))
        if any(one.expiry and not one.shown for one in fields):
            raise FormatError("the field that holds the expiry must be shown", where=reader.at("fields"))
        if sum(one.expiry for one in fields) > 1:
            raise FormatError("only one field can hold the expiry", where=reader.at("fields"))
        return cls(labels(reader, "labels"), fields)


ChangeBody = (
    Genesis
    | AuthorityReplaced
    | LogKeyAdded
    | LogKeyEnded
    | WitnessPolicyChanged
    | RulesRaised
    | LedgerClosed
    | AgencyEnrolled
    | AgencyRenamed
    | AgencyMoved
    | AgencyEntitled
    | AgencySuspended
    | AgencyReinstated
    | SuccessorNamed
    | KeysAdded
    | KeyEnded
    | KeyStolen
    | TypeDefined
)

_LEDGER_CHANGES: Final[tuple[type[ChangeBody], ...]] = (
    Genesis,
    AuthorityReplaced,
    LogKeyAdded,
    LogKeyEnded,
    WitnessPolicyChanged,
    RulesRaised,
    LedgerClosed,
)
_AGENCY_CHANGES: Final[tuple[type[ChangeBody], ...]] = (
    AgencyEnrolled,
    AgencyRenamed,
    AgencyMoved,
    AgencyEntitled,
    AgencySuspended,
    AgencyReinstated,
    SuccessorNamed,
    KeysAdded,
    KeyEnded,
    KeyStolen,
)
_KINDS: Final[dict[str, tuple[str, type[ChangeBody]]]] = {
    **{kind.NAME: ("ledger", kind) for kind in _LEDGER_CHANGES},
    **{kind.NAME: ("agency", kind) for kind in _AGENCY_CHANGES},
    TypeDefined.NAME: ("type", TypeDefined),
}


@dataclass(frozen=True, slots=True)
class Subject:
    """What a change is about: ``ledger``, ``agency/7`` or ``type/3``."""

    kind: str
    number: int = 0

    def __str__(self) -> str:
        return "ledger" if self.kind == "ledger" else f"{self.kind}/{self.number}"

    @classmethod
    def parse(cls, text: str, where: str = "subject") -> Subject:
        if not _SUBJECT.fullmatch(text):
            raise FormatError("is none of ledger, agency/N, type/N", where=where)
        kind, _, number = text.partition("/")
        most = {"ledger": 0, "agency": MAX_AGENCY, "type": MAX_TYPE}[kind]
        value = int(number or 0)
        if value > most or (kind != "ledger" and value == 0):
            raise FormatError(f"{kind} numbers go from 1 to {most}", where=where)
        return cls(kind, value)


LEDGER: Final = Subject("ledger")


@dataclass(frozen=True, slots=True)
class Change:
    """One change. ``previous``: index of the last REGISTRY leaf on the subject, NONE for the first."""

    subject: Subject
    previous: int
    body: ChangeBody

    def to_json(self) -> bytes:
        return encode(
            {
                "change": self.body.NAME,
                "subject": str(self.subject),
                "previous": u64_text(self.previous),
                **self.body.body(),
            }
        )


def parse_change(json: bytes) -> Change:
    """Read the JSON of a REGISTRY leaf. Raises FormatError."""
    reader = Reader(parse(json, limit=MAX_LEAF_SIZE, where="change"), "change")
    name = reader.text("change", limit=64)
    subject = Subject.parse(reader.text("subject", limit=32), reader.at("subject"))
    previous = reader.u64("previous")
    if name not in _KINDS:
        raise FormatError(f"{name!r} is no change that is known here", where=reader.at("change"))
    kind, body = _KINDS[name]
    if subject.kind != kind:
        raise FormatError(f"{name} is about an {kind}, not {subject}", where=reader.at("subject"))
    change = Change(subject, previous, body.read(reader))
    reader.done()
    return change


def one_of(reader: Reader, name: str, choices: tuple[str, ...]) -> str:
    value = reader.text(name, limit=32)
    if value not in choices:
        raise FormatError(f"is none of {', '.join(choices)}", where=reader.at(name))
    return value


def labels(reader: Reader, name: str) -> dict[str, str]:
    """Names by BCP 47 language: at least one, at most 16, of 255 bytes each."""
    value = reader.any(name)
    if not isinstance(value, dict) or not 1 <= len(value) <= 16:
        raise FormatError("names by language are expected, 1 to 16", where=reader.at(name))
    inner = Reader(value, reader.at(name))
    for language in value:
        if len(language) > 35 or not _LANGUAGE.fullmatch(language):
            raise FormatError("is no BCP 47 language tag", where=inner.at(language[:35]))
    return {language: _plain(inner, language) for language in value}


def _plain(reader: Reader, name: str, *, limit: int = 255, empty: bool = False) -> str:
    """Text that people read: without control characters, bidirectional overrides and the like."""
    text = reader.text(name, limit=limit, empty=empty)
    check_text(reader.at(name), text)
    return text


def _texts(reader: Reader, name: str, *, most: int, limit: int) -> tuple[str, ...]:
    values = reader.items(name, limit=most)
    if any(not isinstance(one, str) or not 1 <= len(one.encode("utf-8")) <= limit for one in values):
        raise FormatError(f"strings of 1 to {limit} bytes are expected", where=reader.at(name))
    return tuple(values)
