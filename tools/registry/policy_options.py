"""A signing policy from a JSON file, and from plain options for the usual cases.

--two-officers issue.original          two keys for each submission of that kind
--two-officers issue.original=100      two keys from the hundredth document of a day on
--daily-cap issue.original=5000        no more than so many a day
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from ledger.signing_policy import ALL_KINDS, MAX_DAILY, REGISTRY_KIND, KindPolicy, SigningPolicy
from tools.errors import Usage
from tools.people_json import read_json
from tools.ui import printable

_KINDS: Final = ", ".join(sorted(ALL_KINDS))


def signing_policy(file: Path | None, two_officers: Sequence[str], daily_cap: Sequence[str]) -> SigningPolicy:
    """The file's policy, with what the options say of kinds. Raises Usage, FormatError, FileProblem."""
    policy = SigningPolicy() if file is None else SigningPolicy.from_json(read_json(file), str(file))
    kinds = dict(policy.kinds)
    for kind, first in _by_kind(two_officers, "--two-officers", 1):
        steps = ((1, 2),) if first == 1 else ((1, 1), (first, 2))
        if kind == REGISTRY_KIND and first != 1:
            raise Usage(
                "changes are not counted by day", where="--two-officers", fix=f"write {REGISTRY_KIND}"
            )
        kinds[kind] = replace(kinds.get(kind, KindPolicy()), steps=steps)
    for kind, cap in _by_kind(daily_cap, "--daily-cap", None):
        if kind == REGISTRY_KIND:
            raise Usage("changes are not counted by day", where="--daily-cap")
        kinds[kind] = replace(kinds.get(kind, KindPolicy()), cap=cap)
    return SigningPolicy(kinds)


def policy_words(policy: SigningPolicy) -> list[str]:
    """The policy for people, a line a kind. A kind that is not named needs one key, uncapped."""
    lines = []
    for kind, one in sorted(policy.kinds.items()):
        steps = [f"{keys} key{'s' if keys > 1 else ''}" + _from(start) for start, keys in one.steps]
        cap = "" if one.cap is None else f"; at most {one.cap} a day"
        lines.append(f"{kind}: {', '.join(steps)}{cap}")
    return lines or ["one key for everything, no daily cap"]


def _from(start: int) -> str:
    return "" if start == 1 else f" from {start} a day on"


def _by_kind(values: Sequence[str], option: str, default: int | None) -> list[tuple[str, int]]:
    found: dict[str, int] = {}
    for value in values:
        kind, equals, text = value.partition("=")
        if kind not in ALL_KINDS:
            raise Usage(f"{printable(kind)!r} is none of {_KINDS}", where=option)
        if kind in found:
            raise Usage(f"{kind} is given twice", where=option)
        if not equals and default is not None:
            found[kind] = default
            continue
        if not (text.isascii() and text.isdecimal() and len(text) <= 10 and int(text) <= MAX_DAILY):
            raise Usage(
                f"{printable(text)!r} is no number", where=f"{option} {kind}", fix="write KIND=NUMBER"
            )
        if default is not None and int(text) < 1:
            raise Usage("days are counted from 1", where=f"{option} {kind}")
        found[kind] = int(text)
    return list(found.items())
