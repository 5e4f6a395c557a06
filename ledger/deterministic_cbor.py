"""CBOR as RFC 8949 section 4.2.1 has it, deterministic, and read as strictly as it is written.

Only what COSE receipts are made of: integers to 64 bits, byte strings, UTF-8 text, arrays, maps with
integer or text keys, and null. No tags, floats or indefinite lengths. The heads of all items are looked at
before anything is decoded, so that no length is believed that the bytes do not bear out.
"""

from __future__ import annotations

from typing import Any, Final

import cbor2

from ledger.errors import PortableFormatError, TooLarge

Cbor = Any
MAX_DEPTH: Final = 8
_NULL: Final = 0xF6
_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP = range(6)


def encode(value: Cbor) -> bytes:
    """The one encoding of ``value``: shortest heads, map keys in the order of their encodings."""
    return cbor2.dumps(_ordered(value))


def parse(data: bytes, *, limit: int, where: str = "CBOR") -> Cbor:
    """Read one item of at most ``limit`` bytes, with nothing after it, that encodes to these very bytes.

    Raises PortableFormatError, TooLarge.
    """
    if len(data) > limit:
        raise TooLarge(f"{len(data)} bytes, at most {limit} are read", where=where)
    _check_heads(data, where)
    try:
        value = cbor2.loads(data, max_depth=MAX_DEPTH, allow_indefinite=False, allow_duplicate_keys=False)
        canonical = encode(value) == data
    except (cbor2.CBORError, ValueError, TypeError) as error:
        raise PortableFormatError(f"not CBOR: {str(error)[:120]}", where=where) from error
    if not canonical:
        raise PortableFormatError("CBOR that is not in its deterministic form (RFC 8949)", where=where)
    return value


def _ordered(value: Cbor) -> Cbor:
    if isinstance(value, dict):
        if not all(type(key) in (int, str) for key in value):
            raise TypeError("a map key is an integer or a text")
        return {key: _ordered(value[key]) for key in sorted(value, key=cbor2.dumps)}
    if isinstance(value, list | tuple):
        return [_ordered(item) for item in value]
    return value


def _check_heads(data: bytes, where: str) -> None:
    """Walk over the items without decoding them: their kinds, depth, and that all of each is there."""
    at, open_items = 0, [1]
    while open_items:
        open_items[-1] -= 1
        major, value, at = _head(data, at, where)
        if major in (_BYTES, _TEXT):
            at += value
        elif major in (_ARRAY, _MAP):
            if len(open_items) > MAX_DEPTH:
                raise PortableFormatError("nested too deeply", where=where)
            open_items.append(value * (major - _ARRAY + 1))
        # Each item that is still to come has a byte at least.
        if at > len(data) or open_items[-1] > len(data) - at:
            raise PortableFormatError("is cut short", where=where)
        while open_items and not open_items[-1]:
            open_items.pop()
    if at != len(data):
        raise PortableFormatError("bytes stand after its end", where=where)


def _head(data: bytes, at: int, where: str) -> tuple[int, int, int]:
    """(major type, value, where the head ends) of the item at ``at``."""
    if at >= len(data):
        raise PortableFormatError("is cut short", where=where)
    first = data[at]
    major, info = first >> 5, first & 31
    if first == _NULL:
        return major, 0, at + 1
    if major > _MAP or info > 27:
        raise PortableFormatError("a tag, a float or an indefinite length, which have no place", where=where)
    if info < 24:
        return major, info, at + 1
    end = at + 1 + (1 << info - 24)
    if end > len(data):
        raise PortableFormatError("is cut short", where=where)
    return major, int.from_bytes(data[at + 1 : end], "big"), end
