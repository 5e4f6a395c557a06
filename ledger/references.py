"""Reference numbers: a leaf's index as people say it over the telephone.

The index in decimal and two ISO 7064 MOD 97-10 check digits behind it, printed in groups. One digit
that is wrong, and any two that stand in each other's place, are always noticed. A reference number
points at what the public log shows; it proves nothing about a paper. Format: docs/lookup.md.
"""

from __future__ import annotations

from typing import Final

from stdnum.iso7064 import mod_97_10

from ledger.digits import are_digits, folded
from ledger.errors import FormatError, ReferenceInvalid, TooLarge
from ledger.leaves import NONE

MAX_REFERENCE: Final = 64
"""Characters that are looked at, spaces and hyphens included."""

_CHECK_DIGITS: Final = 2
_MAX_DIGITS: Final = len(str(NONE)) + _CHECK_DIGITS
_GROUP: Final = 3
_WHERE: Final = "reference number"


def reference_digits(index: int) -> str:
    """The reference number of a leaf in its one form: digits alone, as paths and JSON have it."""
    text = str(index)
    return text + mod_97_10.calc_check_digits(text)


def reference_text(index: int) -> str:
    """The same in groups that are easy to read out: ``170 000 0079``.

    Threes from the left; the last group has what is left, three to five digits, or all when there are
    fewer.
    """
    digits = reference_digits(index)
    groups = [digits[at : at + _GROUP] for at in range(0, len(digits), _GROUP)]
    if len(groups) > 1 and len(groups[-1]) < _GROUP:
        groups[-2:] = ["".join(groups[-2:])]
    return " ".join(groups)


def parse_reference(text: str) -> int:
    """The index that a reference number is of, as it was typed or read out.

    Folds Arabic and Persian digits, spaces, hyphens and direction marks. Raises TooLarge, FormatError
    for what is no such number, ReferenceInvalid when the check digits do not fit.
    """
    if len(text) > MAX_REFERENCE:
        raise TooLarge(f"{len(text)} characters, none has more than {MAX_REFERENCE}", where=_WHERE)
    digits = folded(text)
    if not are_digits(digits) or not _CHECK_DIGITS < len(digits) <= _MAX_DIGITS:
        raise FormatError(
            f"{text!a} is not 3 to {_MAX_DIGITS} digits",
            where=_WHERE,
            fix="type the digits as they are printed; spaces and hyphens do not matter",
        )
    number = digits[:-_CHECK_DIGITS]
    if reference_digits(int(number)) != digits:
        raise ReferenceInvalid(
            "its check digits do not fit: a digit is wrong, or two stand in each other's place",
            where=_WHERE,
            fix="have it read out once more, digit by digit",
        )
    index = int(number)
    if index >= NONE:
        raise FormatError("no leaf has so high an index", where=_WHERE)
    return index
