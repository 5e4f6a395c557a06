"""Words as a search compares them: letters that people type for one another made one.

Arabic and Kurdish keyboards, and the clerks of forty years, write one name in many ways: ى or ي or ی,
ک or ك, ة or ه, أ إ آ or ا, ؤ or و, with or without vowel signs and tatweel, digits ٠-٩ or ۰-۹ or 0-9.
Here all of these fall together, and so do the Kurdish letters that Arabic typewriters lacked. This is
for searching alone, where one name too many is shown to a person who decides: what a document *is*
is its exact bytes, and never folded.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

_ALIKE: Final = {
    "ا": "ٱٲٳٵ",
    "ب": "پ",
    "ج": "چ",
    "ر": "ڕڒړ",
    "ز": "ژ",
    "ف": "ڤڥ",
    "ك": "کڪگڬڭ",
    "ل": "ڵڶ",
    "ه": "ةەھہۂۃۀ",
    "و": "ۆۇۈۋٶ",
    "ي": "ىیێېےۍٸ",
}
_NOTHING: Final = "ءـ\u200c\u200d\u200e\u200f\u061c\u00ad\ufeff"
_LETTERS: Final = {
    **{ord(one): letter for letter, others in _ALIKE.items() for one in others},
    **{ord(one): None for one in _NOTHING},
    **{zero + digit: str(digit) for zero in (0x660, 0x6F0) for digit in range(10)},
    **{ord(one): two for one, two in (("đ", "d"), ("ı", "i"), ("ł", "l"), ("ø", "o"), ("æ", "ae"))},
}
_MARKS: Final = re.compile("[\u0300-\u036f\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06ed]+")
_CARRIER: Final = re.compile("\\b\u064a\u0654(?=\\w)")
"""ئ at the beginning of a Kurdish word, which only carries the vowel after it."""

_WORD: Final = re.compile(r"[^\W_]+")


def words(text: str) -> list[str]:
    """The words of a text, folded, in order. About 10 µs for a line."""
    if text.isascii():
        return _WORD.findall(text.lower())
    # NFKD takes vowel signs, hamzas and accents off their letters, and presentation forms apart; once more,
    # since the small letter of some capitals has an accent of its own.
    small = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    bare = _MARKS.sub("", _CARRIER.sub("", small))
    return _WORD.findall(bare.translate(_LETTERS))
