"""Witness policies (C2SP tlog-policy): which witnesses must have cosigned a checkpoint.

    log <vkey> [<url>]
    witness <name> <vkey> [<url>]
    group <name> all|any|<k> <name>...
    quorum <name>|none

Names of witnesses and groups mean nothing outside the policy. The text is UTF-8, although the
specification would let other bytes pass in names, URLs and comments: a policy is shown to people.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ledger.cosignatures import Cosignature
from ledger.errors import FormatError, PolicyUnmet, TooLarge, TrustFormatError
from ledger.notes import SignatureType, VerifierKey

MAX_POLICY_SIZE: Final = 65_536
MAX_POLICY_ENTRIES: Final = 64
"""Of logs, of witnesses and of groups, each."""
MAX_FUTURE_S: Final = 300
"""A cosignature further ahead of the verifier's clock than this does not count."""

_BLANKS: Final = re.compile(r"[ \t]+")
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_THRESHOLD: Final = re.compile(r"[1-9][0-9]{0,3}", re.ASCII)
_NONE: Final = "none"
_LOG_TYPES: Final = (SignatureType.ED25519, SignatureType.ML_DSA_44)
_WITNESS_TYPES: Final = (SignatureType.ED25519_COSIGNATURE, SignatureType.ML_DSA_44)


@dataclass(frozen=True, slots=True)
class PolicyLog:
    """A log that the policy accepts. ``url``: as written, "" if absent."""

    key: VerifierKey
    url: str


@dataclass(frozen=True, slots=True)
class Witness:
    """A witness under the policy's own name for it. ``url``: as written, "" if absent."""

    name: str
    key: VerifierKey
    url: str


@dataclass(frozen=True, slots=True)
class Group:
    """Has cosigned when at least ``threshold`` of ``members`` (witnesses, earlier groups) have."""

    name: str
    threshold: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WitnessPolicy:
    """A parsed policy. ``quorum``: the name of a witness or group, None for ``quorum none``."""

    logs: tuple[PolicyLog, ...]
    witnesses: tuple[Witness, ...]
    groups: tuple[Group, ...]
    quorum: str | None

    @property
    def witness_keys(self) -> tuple[VerifierKey, ...]:
        """What :func:`ledger.cosignatures.verify_cosignatures` needs."""
        return tuple(witness.key for witness in self.witnesses)

    @property
    def log_keys(self) -> tuple[VerifierKey, ...]:
        """What :func:`ledger.checkpoints.open_checkpoint` needs."""
        return tuple(log.key for log in self.logs)

    def check(
        self, cosignatures: Sequence[Cosignature], *, now_s: int | None, greatest_age_s: int | None
    ) -> int | None:
        """Raise PolicyUnmet unless verified ``cosignatures`` meet the quorum, freshly enough.

        Returns the newest time T (seconds since 1970) such that the cosignatures made at or after T
        meet the quorum: a checkpoint is as old as that. None for ``quorum none``, whatever the age.

        With ``now_s`` None neither age nor clock is judged; otherwise cosignatures more than five
        minutes ahead of it do not count, and T must be at most ``greatest_age_s`` before it (None:
        any age). Cosignatures by keys that the policy does not name do not count either, nor those of
        type 06 without a time, which do not say that this was the largest tree that the witness had seen.
        """
        if self.quorum is None:
            return None
        timed = [one for one in cosignatures if one.time_s or one.key.type is not SignatureType.ML_DSA_44]
        counted = [one for one in timed if now_s is None or one.time_s <= now_s + MAX_FUTURE_S]
        times = self._times(counted)
        newest = times.get(self.quorum)
        if newest is None:
            ahead = len(timed) - len(counted)
            raise PolicyUnmet(
                "; ".join(self._missing(self.quorum, times)),
                where="witness policy",
                fix=f"{ahead} cosignatures are dated ahead of this clock: check it" if ahead else "",
            )
        if now_s is not None and greatest_age_s is not None and now_s - newest > greatest_age_s:
            raise PolicyUnmet(
                f"the quorum's cosignatures are {now_s - newest} s old, "
                f"at most {greatest_age_s} s are accepted",
                where="witness policy",
                fix="get a newer checkpoint, and check this clock",
            )
        return newest

    def _times(self, cosignatures: Sequence[Cosignature]) -> dict[str, int]:
        """For each witness and group that has cosigned, the newest time at which it had."""
        by_key: dict[VerifierKey, int] = {}
        for one in cosignatures:
            by_key[one.key] = max(one.time_s, by_key.get(one.key, one.time_s))
        times = {witness.name: by_key[witness.key] for witness in self.witnesses if witness.key in by_key}
        for group in self.groups:
            members = sorted((times[name] for name in group.members if name in times), reverse=True)
            if len(members) >= group.threshold:
                times[group.name] = members[group.threshold - 1]
        return times

    def _missing(self, name: str, times: dict[str, int]) -> list[str]:
        """What ``name``, which has not cosigned, lacks: itself, or its group, then the groups in it."""
        group = next((one for one in self.groups if one.name == name), None)
        if group is None:
            return [f"no cosignature by witness {name}"]
        absent = [member for member in group.members if member not in times]
        have = len(group.members) - len(absent)
        line = (
            f"group {name} has {have} of the {group.threshold} it needs, "
            f"{group.threshold - have} missing ({', '.join(absent)} did not cosign)"
        )
        lines = [line]
        groups = {one.name for one in self.groups}
        for member in absent:
            if member in groups:
                lines += self._missing(member, times)
        return lines


def parse_policy(data: bytes) -> WitnessPolicy:
    """Read a policy. TooLarge above 64 KiB or 64 entries of a kind, TrustFormatError with the line
    number for anything that the specification does not allow."""
    if len(data) > MAX_POLICY_SIZE:
        raise TooLarge(f"{len(data)} bytes, at most {MAX_POLICY_SIZE} are read", where="witness policy")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise TrustFormatError("not UTF-8", where="witness policy") from None
    if not text.endswith("\n"):
        raise TrustFormatError("the last line has no newline", where="witness policy")
    if _CONTROLS.search(text):
        raise TrustFormatError("control character other than tab and newline", where="witness policy")
    reader = _Reader()
    for number, line in enumerate(text[:-1].split("\n"), 1):
        reader.read(line.strip(" \t"), f"witness policy, line {number}")
    return reader.policy()


class _Reader:
    """What has been defined so far, while the lines are read."""

    def __init__(self) -> None:
        self._logs: list[PolicyLog] = []
        self._witnesses: list[Witness] = []
        self._groups: list[Group] = []
        self._quorum: str | None = None
        self._names: set[str] = set()
        self._grouped: set[str] = set()

    def read(self, line: str, where: str) -> None:
        if not line or line.startswith("#"):
            return
        keyword, *items = _BLANKS.split(line)
        match keyword, items:
            case "log", [vkey, *url] if len(url) <= 1:
                self._log(vkey, "".join(url), where)
            case "witness", [name, vkey, *url] if len(url) <= 1:
                self._witness(name, vkey, "".join(url), where)
            case "group", [name, threshold, *members] if members:
                self._group(name, threshold, members, where)
            case "quorum", [name]:
                self._set_quorum(name, where)
            case _:
                raise TrustFormatError(
                    "not a log, witness, group or quorum line",
                    where=where,
                    fix="see C2SP tlog-policy for the four forms",
                )

    def policy(self) -> WitnessPolicy:
        if self._quorum is None:
            raise TrustFormatError(
                "no quorum line", where="witness policy", fix='end it with "quorum NAME" or "quorum none"'
            )
        quorum = None if self._quorum == _NONE else self._quorum
        return WitnessPolicy(tuple(self._logs), tuple(self._witnesses), tuple(self._groups), quorum)

    def _log(self, vkey: str, url: str, where: str) -> None:
        _check_room(len(self._logs), "logs", where)
        key = _parse_key(vkey, _LOG_TYPES, where)
        if any(log.key.public_key == key.public_key for log in self._logs):
            raise TrustFormatError("another log line has this public key", where=where)
        self._logs.append(PolicyLog(key, url))

    def _witness(self, name: str, vkey: str, url: str, where: str) -> None:
        _check_room(len(self._witnesses), "witnesses", where)
        key = _parse_key(vkey, _WITNESS_TYPES, where)
        if any(witness.key.public_key == key.public_key for witness in self._witnesses):
            raise TrustFormatError("another witness line has this public key", where=where)
        self._define(name, where)
        self._witnesses.append(Witness(name, key, url))

    def _group(self, name: str, threshold: str, members: list[str], where: str) -> None:
        _check_room(len(self._groups), "groups", where)
        for member in members:
            if member not in self._names:
                raise TrustFormatError(f"{member} is not defined above", where=where)
            if member in self._grouped:
                raise TrustFormatError(f"{member} is a member of a group already", where=where)
            self._grouped.add(member)
        self._define(name, where)
        self._groups.append(Group(name, _parse_threshold(threshold, len(members), where), tuple(members)))

    def _set_quorum(self, name: str, where: str) -> None:
        if self._quorum is not None:
            raise TrustFormatError("a second quorum line", where=where)
        if name != _NONE and name not in self._names:
            raise TrustFormatError(f"{name} is not defined above", where=where)
        self._quorum = name

    def _define(self, name: str, where: str) -> None:
        if name == _NONE or name in self._names:
            raise TrustFormatError(f"the name {name} is taken", where=where)
        self._names.add(name)


def _check_room(count: int, kind: str, where: str) -> None:
    if count >= MAX_POLICY_ENTRIES:
        raise TooLarge(f"more than {MAX_POLICY_ENTRIES} {kind}", where=where)


def _parse_key(vkey: str, kinds: tuple[SignatureType, ...], where: str) -> VerifierKey:
    try:
        key = VerifierKey.parse(vkey)
    except FormatError as error:
        raise TrustFormatError(str(error), where=where) from None
    if key.type not in kinds:
        raise TrustFormatError(
            f"a key of type {key.type:02x}, {' or '.join(f'{kind:02x}' for kind in kinds)} is needed",
            where=where,
            fix="logs sign with types 01 and 06, witnesses cosign with types 04 and 06",
        )
    return key


def _parse_threshold(text: str, members: int, where: str) -> int:
    if text == "all":
        return members
    if text == "any":
        return 1
    if not _THRESHOLD.fullmatch(text) or int(text) > members:
        raise TrustFormatError(f"{text} is not all, any or a number from 1 to {members}", where=where)
    return int(text)
