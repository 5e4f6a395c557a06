"""Which of several forms of one resource a caller prefers: the Accept header (RFC 9110 section 12.5.1)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9a-z-]+"
_RANGE: Final = re.compile(rf"\s*({_TOKEN}/{_TOKEN})\s*((?:;[^;]*)*)", re.ASCII)
_QUALITY: Final = re.compile(r"\s*q\s*=\s*(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)\s*", re.ASCII)


def choose(accept: Sequence[str], offered: Sequence[str]) -> str | None:
    """The one of ``offered`` (media types without parameters, lower case) that a caller likes best.

    ``accept``: the values of all Accept headers; none, or none that can be read: whatever comes. Of several
    that are liked alike the first offered. None: the caller takes none of them. Parameters other than q
    are not looked at.
    """
    ranges = [found for value in accept for part in value.split(",") if (found := _read(part)) is not None]
    if not ranges:
        return offered[0]
    best = max(offered, key=lambda one: _quality(one, ranges))
    return best if _quality(best, ranges) > 0 else None


def _read(part: str) -> tuple[str, float] | None:
    """A media range and its weight; None for what is none, which is left out."""
    match = _RANGE.fullmatch(part.lower())
    if match is None:
        return None
    quality = 1.0
    for parameter in match[2].split(";")[1:]:
        if parameter.strip().startswith("q"):
            weight = _QUALITY.fullmatch(parameter)
            if weight is None:
                return None
            quality = float(weight[1])
    return match[1], quality


def _quality(media_type: str, ranges: Sequence[tuple[str, float]]) -> float:
    """By the most specific range that covers the type; 0 when none does."""
    for wanted in (media_type, media_type.partition("/")[0] + "/*", "*/*"):
        weights = [weight for name, weight in ranges if name == wanted]
        if weights:
            return max(weights)
    return 0.0
