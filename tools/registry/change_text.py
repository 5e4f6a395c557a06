"""Registry changes in plain words: what a signer reads before signing, and what a history shows.

With a view of the registry at hand, what is replaced stands before what replaces it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ledger import changes as change
from ledger.changes import AUTHORITY, AuthoritySet, Change, FieldDefinition, NewKey
from ledger.errors import FormatError, RuleError
from ledger.notes import VerifierKey
from ledger.registry_records import AgencyRecord, KeyRecord, LedgerRecord
from ledger.signatures import Algorithm, key_fingerprint
from tools.errors import NotFound
from tools.registry.policy_options import policy_words
from tools.registry.view import RegistryView, agency_or_none
from tools.ui import printable, quoted


def all_names(names: Mapping[str, str]) -> str:
    """Every name with its language."""
    return ", ".join(f"{language} {quoted(name)}" for language, name in sorted(names.items()))


def one_name(names: Mapping[str, str], languages: Sequence[str] = ()) -> str:
    """The name in the first language of ``languages`` that there is; else in English, else the first."""
    return printable(_chosen(names, languages))


def _chosen(names: Mapping[str, str], languages: Sequence[str]) -> str:
    return next((names[language] for language in (*languages, "en", *names) if language in names), "")


def agency_words(number: int, view: RegistryView | None, languages: Sequence[str] = ()) -> str:
    """``agency 7 ("Civil Registry")``; 0 is the authority. No name can end its quotes, and go on as ours."""
    if number == AUTHORITY:
        return "the authority"
    record = None if view is None else agency_or_none(view, number)
    name = "" if record is None else f" ({quoted(_chosen(record.names.latest, languages))})"
    return f"agency {number}{name}"


def fingerprint(algorithm: int, public_key: bytes) -> str:
    return key_fingerprint(algorithm, public_key).hex()


def new_key_words(key: NewKey) -> str:
    label = f", {quoted(key.label)}" if key.label else ""
    name = fingerprint(key.algorithm, key.public_key)
    return f"key {key.number} for {key.use}{label},{kind_words(key.algorithm)} fingerprint {name}"


def kind_words(algorithm: int) -> str:
    """The algorithm, where it is not the usual one, as `` of ML-DSA-44,``."""
    unusual = (Algorithm.ML_DSA_44, Algorithm.ED25519_ML_DSA_44)
    return f" of {Algorithm(algorithm).label}," if algorithm in unusual else ""


def vkey_words(vkey: str) -> str:
    """A verifier key as people compare it: one of ML-DSA-44 is too long for that but for its fingerprint."""
    try:
        key = VerifierKey.parse(vkey)
    except FormatError:
        return printable(vkey)
    if key.algorithm is Algorithm.ED25519:
        return printable(vkey)
    short = f"{printable(key.name)}+{key.key_id.hex()}"
    return f"{short} ({key.algorithm.label}, fingerprint {fingerprint(key.algorithm, key.public_key)})"


def field_words(one: FieldDefinition) -> str:
    """A field of a type: its name, labels and flags."""
    flags = [name for name in ("required", "shown", "expiry", "identity") if getattr(one, name)]
    said = f" ({', '.join(flags)})" if flags else ""
    return f"{quoted(one.name)}{said}: {all_names(one.labels)}"


def describe(made: Change, view: RegistryView | None = None) -> list[str]:
    """The change, the first line saying what it is. With a ``view``, what was before."""
    body, number = made.body, made.subject.number
    if isinstance(body, change.AgencyEnrolled):
        return [
            f"Enrol agency {number} under {agency_words(body.parent, view)}",
            f"  names: {all_names(body.names)}",
            *_entitlement(body.entitlement, None),
        ]
    if isinstance(body, change.TypeDefined):
        return [
            f"Define document type {number}, for ever: {all_names(body.labels)}",
            *(f"  field {field_words(one)}" for one in body.fields),
        ]
    if made.subject.kind == "ledger":
        return _ledger_lines(body, None if view is None else view.ledger)
    record = None if view is None else agency_or_none(view, number)
    return _agency_lines(body, agency_words(number, view), record, view)


def _agency_lines(
    body: change.ChangeBody, who: str, record: AgencyRecord | None, view: RegistryView | None
) -> list[str]:
    if isinstance(body, change.AgencyRenamed):
        before = None if record is None else all_names(record.names.latest)
        return [f"Rename {who}", *_turn("names", before, all_names(body.names))]
    if isinstance(body, change.AgencyMoved):
        before = None if record is None else agency_words(record.parent.latest, view)
        return [f"Move {who}", *_turn("under", before, agency_words(body.parent, view))]
    if isinstance(body, change.AgencyEntitled):
        return [f"Change what {who} may do", *_entitlement(body.entitlement, record)]
    if isinstance(body, change.AgencySuspended):
        return [f"Suspend {who}: nothing more is logged in its name"]
    if isinstance(body, change.AgencyReinstated):
        return [f"Reinstate {who}: its suspension ends"]
    if isinstance(body, change.SuccessorNamed):
        return [f"Name {agency_words(body.successor, view)} the successor of {who}"]
    if isinstance(body, change.KeysAdded):
        return [f"Add keys to {who}", *(f"  {new_key_words(one)}" for one in body.keys)]
    if isinstance(body, change.KeyEnded):
        return [
            f"End key {body.number} of {who}: from now on it signs nothing",
            *_key(body.number, record, view),
        ]
    if isinstance(body, change.KeyStolen):
        said = f"Declare key {body.number} of {who} stolen since index {body.since}"
        return [
            f"{said}: whatever it signed from there on is doubtful",
            *_key(body.number, record, view),
        ]
    raise AssertionError(body)


def _ledger_lines(body: change.ChangeBody, record: LedgerRecord | None) -> list[str]:
    if isinstance(body, change.Genesis):
        training = ", for training" if body.training else ""
        return [
            f"Begin the ledger {printable(body.origin)}{training}",
            *_authority(body.authority, None),
            *(f"  log key {vkey_words(one)}" for one in body.log_keys),
            *_turn("witness policy", None, _policy_text(body.witness_policy)),
        ]
    if isinstance(body, change.AuthorityReplaced):
        return ["Replace the authority's keys", *_authority(body.authority, record)]
    if isinstance(body, change.LogKeyAdded):
        return [f"Add the log key {vkey_words(body.vkey)}: verifiers will believe what it signs"]
    if isinstance(body, change.LogKeyEnded):
        return [f"End the log key {vkey_words(body.vkey)}: it signs no tree larger than {body.last_size}"]
    if isinstance(body, change.WitnessPolicyChanged):
        before = None if record is None else _policy_text(record.witness_policy.latest)
        return ["Change the witness policy", *_turn("policy", before, _policy_text(body.policy))]
    if isinstance(body, change.RulesRaised):
        before = None if record is None else str(record.rules.latest)
        return [f"Raise the rules from block {body.block} on", *_turn("version", before, str(body.rules))]
    if isinstance(body, change.LedgerClosed):
        return [
            "Close the ledger, for ever: nothing new is issued, attested, sent, enrolled or defined in it",
            f"  it is followed by {printable(body.origin)}",
            f"  whose genesis is {body.genesis.hex()}",
        ]
    raise AssertionError(body)


def _turn(what: str, before: str | None, after: str) -> list[str]:
    return [f"  {what}: {after}"] if before is None else [f"  {what}: {before} → {after}"]


def _policy_text(policy: str) -> str:
    return "; ".join(policy_lines(policy)) or "no witness is asked for"


def policy_lines(policy: str) -> list[str]:
    """A witness policy's lines, with long keys by their fingerprints."""
    lines = [line.split() for line in policy.splitlines() if line.strip()]
    return [" ".join(vkey_words(word) if "+" in word else printable(word) for word in line) for line in lines]


def _entitlement(after: change.Entitlement, record: AgencyRecord | None) -> list[str]:
    before: list[str | None] = [None, None, None]
    if record is not None:
        before = [
            _listed(record.roles.latest),
            _listed(record.types.latest),
            "; ".join(policy_words(record.policy.latest)),
        ]
    return [
        *_turn("roles", before[0], _listed(after.roles)),
        *_turn("types", before[1], _listed(after.types)),
        *_turn("signing", before[2], "; ".join(policy_words(after.policy))),
    ]


def _listed(values: Sequence[object]) -> str:
    return ", ".join(str(one) for one in values) or "none"


def _key(number: int, record: AgencyRecord | None, view: RegistryView | None) -> list[str]:
    if record is None or view is None:
        return []
    try:
        key: KeyRecord = view.key(record.number, number)
    except (RuleError, NotFound):
        return []
    label = f", {quoted(key.label)}" if key.label else ""
    name = fingerprint(key.algorithm, key.public_key)
    return [f"  it is for {key.use}{label},{kind_words(key.algorithm)} fingerprint {name}"]


def _authority(after: AuthoritySet, record: LedgerRecord | None) -> list[str]:
    before = None
    staying: set[int] = set()
    lines: list[str] = []
    if record is not None:
        active = [key for key in record.authority_keys if key.ended is None]
        before = f"{record.k} of {len(active)} keys"
        staying = {key.number for key in active}
        ending = sorted(staying - {key.number for key in after.keys})
        lines = [f"  key {number} ends" for number in ending]
    for key in after.keys:
        said = "stays" if key.number in staying else "new"
        said = "" if record is None else f" {said},"
        said += kind_words(key.algorithm)
        lines.append(f"  key {key.number}:{said} fingerprint {fingerprint(key.algorithm, key.public_key)}")
    return [*_turn("deciding", before, f"{after.k} of {len(after.keys)} keys"), *lines]
