"""Bytes as decimal digits, and digits as people and scanners hand them over.

Digits alone survive a scanner that types on any keyboard layout; a QR code packs three of them into ten
bits. Seven bytes make 17 digits. Format: docs/format.md, section Codes.
"""

from __future__ import annotations

from typing import Final

from ledger.errors import FormatError

GROUP_BYTES: Final = 7
_DIGITS: Final = (0, 3, 5, 8, 10, 13, 15, 17)
"""How many digits a group of so many bytes has."""
GROUP_DIGITS: Final = _DIGITS[GROUP_BYTES]
_BYTES: Final = {digits: size for size, digits in enumerate(_DIGITS)}

_FOLDED: Final = str.maketrans("٠١٢٣٤٥٦٧٨٩۰۱۲۳۴۵۶۷۸۹", "0123456789" * 2)
# Spaces and hyphens of all widths, the marks that a copy out of right-to-left text brings along, and what
# scanners send around a reading.
_NOISE: Final = dict.fromkeys(
    map(
        ord,
        " \t\n\r\x02\x03\x1d\u00a0\u00ad\u061c\u2009\u200b\u200e\u200f\u202f\u2060\ufeff"
        "-\u2010\u2011\u2012\u2013\u2212",
    )
)


def folded(text: str) -> str:
    """The text without spaces, hyphens and marks, Arabic and Persian digits turned into ASCII's.

    Whatever else stands in it stays, for the caller to refuse.
    """
    return text.translate(_NOISE).translate(_FOLDED)


def are_digits(text: str) -> bool:
    """Whether the text is ASCII digits alone, at least one."""
    return text.isascii() and text.isdigit()


def digit_count(size: int) -> int:
    """How many digits ``size`` bytes have."""
    groups, rest = divmod(size, GROUP_BYTES)
    return groups * GROUP_DIGITS + _DIGITS[rest]


def to_digits(data: bytes) -> str:
    """Each seven bytes as a big-endian number of 17 digits; a shorter last group has fewer."""
    groups = (data[at : at + GROUP_BYTES] for at in range(0, len(data), GROUP_BYTES))
    return "".join([str(int.from_bytes(one, "big")).zfill(_DIGITS[len(one)]) for one in groups])


def from_digits(text: str) -> bytes:
    """The inverse of :func:`to_digits`, for ASCII digits. Raises FormatError for any others."""
    found = []
    for at in range(0, len(text), GROUP_DIGITS):
        group = text[at : at + GROUP_DIGITS]
        size = _BYTES.get(len(group))
        if size is None or not are_digits(group):
            raise FormatError(f"{len(text)} characters are not the digits of any bytes", where="digits")
        value = int(group)
        if value >> 8 * size:
            raise FormatError(f"the group at digit {at} stands for no {size} bytes", where="digits")
        found.append(value.to_bytes(size, "big"))
    return b"".join(found)
