"""What is believed, and what a renewal changes, in plain words."""

from __future__ import annotations

from ledger.errors import FormatError
from ledger.notes import SignatureType, VerifierKey
from ledger.signatures import Algorithm, key_fingerprint
from ledger.trust import Trust, TrustedKey, TrustedLedger
from ledger.trust_renewal import Renewed
from ledger.witness_policy import WitnessPolicy, parse_policy
from tools.describe import moment
from tools.trust.renewing import Outcome
from tools.ui import printable

_DAY_MS = 86_400_000


def trust_lines(trust: Trust, now_ms: int) -> list[str]:
    """``sudur trust show``."""
    lines: list[str] = []
    for one in trust.ledgers:
        lines += [*ledger_lines(one, now_ms), ""]
    return lines[:-1]


def ledger_lines(one: TrustedLedger, now_ms: int) -> list[str]:
    training = ", for training only: nothing on it is a real document" if one.training else ""
    lines = [f"{printable(one.origin)}{training}", f"  genesis: {one.genesis.hex()}"]
    if one.head is None:
        lines.append("  as its genesis made it: never renewed; newer keys and policies are not known here")
    else:
        lines.append(f"  as of {moment(one.head.time_ms)}, {one.head.size} entries{_old(one, now_ms)}")
        lines.append(f"  resting on the ledger's changes up to index {one.changed}")
    lines += [f"  log key {key_line(key)}" for key in one.log_keys]
    entries = one.witness_policy.entries
    for (since, text), until in zip(entries, [*(at for at, _ in entries[1:]), None], strict=True):
        sizes = f"sizes above {since}" if until is None else f"sizes {since + 1} to {until}"
        lines.append(f"  witnesses for {sizes}: {policy_words(text)}")
    if one.own_policy:
        lines.append(f"  asked for here besides, of every checkpoint: {policy_words(one.own_policy)}")
    if one.closed is not None:
        lines.append(
            f"  closed at index {one.closed.since}, followed by {printable(one.closed.origin)}"
            f" ({one.closed.genesis.hex()})"
        )
    if one.end is not None:
        seen = "its last head is known" if one.is_final(one.end) else "its last head was not seen yet"
        lines.append(f"  ends with {one.end} entries; {seen}")
    return lines


def _old(one: TrustedLedger, now_ms: int) -> str:
    if one.head is None or one.is_final(one.head.size):
        return ", its last: nothing newer can come"
    days = (now_ms - one.head.time_ms) // _DAY_MS
    return f", {days} days ago" if days > 0 else ""


def key_line(key: TrustedKey) -> str:
    last = "in use" if key.last_size is None else f"up to {key.last_size} entries"
    return f"{fingerprint(key.key)}, {last}"


def fingerprint(key: VerifierKey) -> str:
    """The fingerprint that is read to somebody by telephone: of the key, whatever its name."""
    ed25519 = key.type in (SignatureType.ED25519, SignatureType.ED25519_COSIGNATURE)
    algorithm = Algorithm.ED25519 if ed25519 else Algorithm.ML_DSA_44
    digest = key_fingerprint(algorithm, key.public_key).hex()
    return f"{digest[:32]}… ({algorithm.name.replace('_', '-')})"


def policy_words(text: str) -> str:
    """A policy in one line."""
    policy = _parsed(text)
    if policy is None:
        return "none is asked for"
    least = least_witnesses(policy)
    names = ", ".join(printable(one.key.name) for one in policy.witnesses)
    return f"at least {least} of {len(policy.witnesses)} ({names})"


def _parsed(text: str) -> WitnessPolicy | None:
    """The policy, if it asks for anybody."""
    policy = parse_policy(text.encode("utf-8")) if text else None
    return None if policy is None or policy.quorum is None else policy


def least_witnesses(policy: WitnessPolicy) -> int:
    """With how few witnesses a policy that asks for somebody can be met."""
    least = {one.name: 1 for one in policy.witnesses}
    for group in policy.groups:
        least[group.name] = sum(sorted(least[name] for name in group.members)[: group.threshold])
    return least[policy.quorum or ""]


# --- what changes ------------------------------------------------------------------------------


def outcome_lines(outcome: Outcome) -> list[str]:
    """What a renewal changes, ledger by ledger."""
    lines: list[str] = []
    for one in outcome.renewed:
        lines += renewed_lines(one)
    for one in outcome.added:
        lines += [f"{printable(one.ledger.origin)}: added, since a ledger in this file is followed by it"]
        lines += [f"  {line}" for line in ledger_lines(one.ledger, one.time_ms)[1:]]
    for waiting in outcome.waiting:
        assert waiting.closed is not None
        lines.append(
            f"{printable(waiting.origin)} is followed by {printable(waiting.closed.origin)}"
            f" ({waiting.closed.genesis.hex()[:16]}), which is not in this file yet:"
            " give --url of a node of that one as well"
        )
    return lines


def renewed_lines(one: Renewed) -> list[str]:
    old, new = one.before, one.ledger
    since = "" if one.witnessed_s is None else f", witnessed since {moment(one.witnessed_s * 1000)}"
    lines = [
        f"{printable(new.origin)}: as of {moment(one.time_ms)}, {one.signed.checkpoint.size} entries{since}"
    ]
    known = {key.key: key for key in old.log_keys}
    for key in new.log_keys:
        if key.key not in known:
            lines.append(f"  a further log key is believed: {key_line(key)}")
        elif key != known[key.key]:
            lines.append(f"  a log key was ended: {key_line(key)}")
    named = {key.key for key in new.log_keys}
    lines += [
        f"  a log key in this file is not the ledger's, and is dropped: {key_line(key)}"
        for key in old.log_keys
        if key.key not in named
    ]
    for at, text in new.witness_policy.entries[len(old.witness_policy.entries) :]:
        lines.append(f"  the witness policy changed at index {at}: {policy_words(text)}")
    if new.closed is not None and old.closed is None:
        lines.append(
            f"  it was closed at index {new.closed.since}, and is followed by {printable(new.closed.origin)}"
        )
    if new.end is not None and old.end is None:
        lines.append(f"  it ends with {new.end} entries")
    return lines if len(lines) > 1 else [*lines, "  keys and policy are what they were"]


def why_weaker(outcome: Outcome) -> list[str]:
    """What a careful person would want to be asked about first; empty when nothing is let through more."""
    why = [line for one in outcome.renewed for line in _weaker_policy(one)]
    why += [
        f"{printable(one.ledger.origin)} ({one.ledger.genesis.hex()[:16]}) comes to be believed"
        for one in outcome.added
    ]
    return why


def _weaker_policy(one: Renewed) -> list[str]:
    """Of each policy since, not only of the last: one in between holds for the sizes of its time for ever."""
    before, origin = one.before.witness_policy, printable(one.ledger.origin)
    why = [
        line
        for _, text in one.ledger.witness_policy.entries[len(before.entries) :]
        if text != before.latest
        for line in _weaker(_parsed(before.latest), _parsed(text), origin)
    ]
    if _lattice(one.before) and not _lattice(one.ledger):
        why.append(f"{origin}: no ML-DSA-44 signature of the log is asked for any more")
    return list(dict.fromkeys(why))


def _lattice(ledger: TrustedLedger) -> bool:
    """Whether larger sizes than all there are need an ML-DSA-44 signature."""
    kinds = {key.key.type for key in ledger.log_keys if key.last_size is None}
    return SignatureType.ML_DSA_44 in kinds or ledger.end is not None


def _weaker(old: WitnessPolicy | None, new: WitnessPolicy | None, origin: str) -> list[str]:
    if old is None:
        return []
    if new is None:
        return [f"{origin}: there were sizes for which no witness is asked, or are from now on"]
    why = []
    if least_witnesses(new) < least_witnesses(old):
        why.append(
            f"{origin}: at least {least_witnesses(new)} witnesses asked for, {least_witnesses(old)} before"
        )
    strangers = {key for key in new.witness_keys if key not in old.witness_keys}
    why += [f"{origin}: {printable(key.name)} counts as a witness" for key in sorted(strangers, key=str)]
    return why


def warnings(trust: Trust, now_ms: int, greatest_days: int) -> list[str]:
    """What is in order, and yet should not stay so."""
    found: list[str] = []
    for one in trust.ledgers:
        origin = printable(one.origin)
        if one.head is None:
            found.append(f"{origin}: never renewed")
        elif not one.is_final(one.head.size) and now_ms - one.head.time_ms > greatest_days * _DAY_MS:
            found.append(f"{origin}: renewed {(now_ms - one.head.time_ms) // _DAY_MS} days ago")
        try:
            asks = any(_parsed(text) for text in (one.witness_policy.latest, one.own_policy))
        except FormatError as error:  # not reachable for a file that was read; says so if it ever is
            found.append(f"{origin}: {error}")
            continue
        if not asks:
            found.append(f"{origin}: no witness is asked for: the operator's word is all there is")
        if one.closed is not None and all(other.genesis != one.closed.genesis for other in trust.ledgers):
            found.append(f"{origin}: followed by {printable(one.closed.origin)}, which is not in this file")
    return found
