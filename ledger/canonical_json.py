"""RFC 8785 JSON, read as strictly as it is written: bytes that re-encode to themselves, or nothing.

Integers are limited to ±(2^53-1) as the RFC demands; a u64 travels as a decimal string
(:func:`u64_text`, :func:`parse_u64`). Fractions do not occur in any format here and are refused.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from typing import Any, Final, NoReturn

import rfc8785

from ledger.errors import FormatError, TooLarge

Json = Any
_U64 = re.compile(r"0|[1-9][0-9]{0,19}", re.ASCII)
U64_MAX: Final = 2**64 - 1


def encode(value: Json) -> bytes:
    """The canonical UTF-8 bytes of ``value``. Raises FormatError for what JSON cannot say."""
    try:
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, UnicodeError, RecursionError) as error:
        raise FormatError(f"cannot be written as canonical JSON: {error}") from error


def parse(data: bytes, *, limit: int, where: str = "JSON") -> Json:
    """Read canonical JSON of at most ``limit`` bytes; FormatError unless it is the canonical form."""
    if len(data) > limit:
        raise TooLarge(f"{len(data)} bytes, at most {limit} are read", where=where)
    try:
        value = json.loads(data.decode("utf-8"), parse_float=_refuse, parse_constant=_refuse)
        canonical = rfc8785.dumps(value)
    except (ValueError, RecursionError, rfc8785.CanonicalizationError) as error:
        raise FormatError(f"not canonical JSON (RFC 8785): {_plain(error)}", where=where) from error
    if canonical != data:
        raise FormatError(
            "JSON that is not in its canonical form (RFC 8785: sorted names, no spaces)", where=where
        )
    return value


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"the number {text[:20]} is not an integer")


def _plain(error: Exception) -> str:
    return "too deeply nested" if isinstance(error, RecursionError) else str(error)[:120]


def u64_text(value: int) -> str:
    """A u64 as its decimal string."""
    return str(value)


class Reader:
    """Typed access to one JSON object; every miss is a FormatError that names the member.

    :meth:`done` refuses members that nobody asked for: a format has no room for extras.
    """

    __slots__ = ("_asked", "_members", "where")

    def __init__(self, value: Json, where: str) -> None:
        if not isinstance(value, dict):
            raise FormatError("an object is expected", where=where)
        self._members: Mapping[str, Json] = value
        self._asked: set[str] = set()
        self.where = where

    def at(self, name: str) -> str:
        return f"{self.where}.{name}"

    def any(self, name: str) -> Json:
        self._asked.add(name)
        if name not in self._members:
            raise FormatError("is missing", where=self.at(name))
        return self._members[name]

    def has(self, name: str) -> bool:
        return name in self._members

    def text(self, name: str, *, limit: int = 255, empty: bool = False) -> str:
        value = self.any(name)
        if not isinstance(value, str) or len(value.encode("utf-8")) > limit or not (value or empty):
            raise FormatError(f"a string of at most {limit} bytes is expected", where=self.at(name))
        return value

    def number(self, name: str, low: int, high: int) -> int:
        value = self.any(name)
        if type(value) is not int or not low <= value <= high:
            raise FormatError(f"an integer from {low} to {high} is expected", where=self.at(name))
        return value

    def flag(self, name: str) -> bool:
        value = self.any(name)
        if not isinstance(value, bool):
            raise FormatError("true or false is expected", where=self.at(name))
        return value

    def u64(self, name: str) -> int:
        return parse_u64(self.any(name), self.at(name))

    def optional_u64(self, name: str) -> int | None:
        value = self.any(name)
        return None if value is None else parse_u64(value, self.at(name))

    def data(self, name: str, *, size: int | None = None, limit: int = 65_535) -> bytes:
        value = parse_base64(self.any(name), self.at(name), limit=limit)
        if size is not None and len(value) != size:
            raise FormatError(f"{size} bytes are expected, not {len(value)}", where=self.at(name))
        return value

    def items(self, name: str, *, limit: int) -> list[Json]:
        value = self.any(name)
        if not isinstance(value, list) or len(value) > limit:
            raise FormatError(f"a list of at most {limit} items is expected", where=self.at(name))
        return value

    def member(self, name: str) -> Reader:
        return Reader(self.any(name), self.at(name))

    def optional_member(self, name: str) -> Reader | None:
        return None if self.any(name) is None else self.member(name)

    def members(self, name: str, *, limit: int) -> list[Reader]:
        items = self.items(name, limit=limit)
        return [Reader(item, f"{self.at(name)}[{i}]") for i, item in enumerate(items)]

    def done(self) -> None:
        extra = sorted(set(self._members) - self._asked)
        if extra:
            raise FormatError("no such member is known here", where=self.at(extra[0]))


def parse_u64(value: Json, where: str) -> int:
    """A decimal string without leading zeros, 0 to 2^64-1."""
    if isinstance(value, str) and _U64.fullmatch(value) and int(value) <= U64_MAX:
        return int(value)
    raise FormatError("a decimal string from 0 to 2^64-1 without leading zeros is expected", where=where)


def base64_text(data: bytes) -> str:
    """Standard base64 with padding."""
    return base64.b64encode(data).decode("ascii")


def parse_base64(value: Json, where: str, *, limit: int) -> bytes:
    """Standard base64 with padding, in its one canonical spelling, of at most ``limit`` bytes."""
    if not isinstance(value, str) or len(value) > (limit + 2) // 3 * 4:
        raise FormatError(f"base64 of at most {limit} bytes is expected", where=where)
    try:
        data = base64.b64decode(value.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeError) as error:
        raise FormatError("not base64", where=where) from error
    if len(data) > limit:
        raise FormatError(f"base64 of at most {limit} bytes is expected", where=where)
    if base64_text(data) != value:
        raise FormatError("not canonical base64", where=where)
    return data
