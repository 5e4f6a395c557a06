"""Reference numbers: what is read out comes back, and whatever is misread is noticed."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import FormatError, ReferenceInvalid, SudurError, TooLarge
from ledger.leaves import NONE
from ledger.references import MAX_REFERENCE, parse_reference, reference_digits, reference_text

GREATEST = NONE - 1
SAMPLES = [0, 1, 7, 10, 96, 97, 98, 100, 970, 12_345, 17_000_000, 99_999_999, 10**15 + 7, GREATEST]


def naive_check_digits(index: int) -> str:
    """ISO 7064 MOD 97-10 as the standard's formula has it: the whole number is 1 modulo 97."""
    return f"{98 - index * 100 % 97:02}"


@pytest.mark.parametrize("index", SAMPLES)
def test_what_is_printed_is_read(index: int) -> None:
    digits = reference_digits(index)
    assert digits == f"{index}{naive_check_digits(index)}"
    assert int(digits) % 97 == 1
    assert parse_reference(digits) == parse_reference(reference_text(index)) == index


def test_every_short_number_is_read_and_no_other() -> None:
    found = {}
    for number in range(30_000):
        try:
            found[str(number)] = parse_reference(str(number))
        except FormatError:
            continue
    assert found == {reference_digits(index): index for index in range(1, 300)}
    assert parse_reference("098") == 0


@pytest.mark.parametrize("index", SAMPLES)
def test_every_wrong_digit_is_noticed(index: int) -> None:
    digits = reference_digits(index)
    for at, right in enumerate(digits):
        for wrong in set("0123456789") - {right}:
            assert_invalid(digits[:at] + wrong + digits[at + 1 :])


@pytest.mark.parametrize("index", SAMPLES)
def test_any_two_digits_in_each_others_place_are_noticed(index: int) -> None:
    digits = reference_digits(index)
    for one, other in combinations(range(len(digits)), 2):
        if digits[one] != digits[other]:
            swapped = list(digits)
            swapped[one], swapped[other] = digits[other], digits[one]
            assert_invalid("".join(swapped))


def assert_invalid(text: str) -> None:
    with pytest.raises(ReferenceInvalid, match="a digit is wrong, or two stand in each other's place"):
        parse_reference(text)


def test_the_same_holds_of_all_numbers() -> None:
    """The check is linear modulo 97, so this is the whole proof for up to 22 digits."""
    weights = [pow(10, place, 97) for place in range(22)]
    assert all(difference * weight % 97 for weight in weights for difference in range(1, 10))
    for one, other in combinations(weights, 2):
        assert all(difference * (one - other) % 97 for difference in range(1, 10))


@pytest.mark.parametrize(
    ("index", "text"),
    [
        (0, "098"),
        (7, "777"),
        (1_017, "101 754"),
        (12_345, "123 4520"),
        (17_000_000, "170 000 0079"),
        (123_456_789, "123 456 78978"),
        (GREATEST, "184 467 440 737 095 516 1418"),
    ],
)
def test_groups(index: int, text: str) -> None:
    assert reference_text(index) == text


@pytest.mark.parametrize(
    "text",
    [
        "1700000079",
        " 170 000-0079 ",
        "١٧٠ ٠٠٠ ٠٠٧٩",
        "۱۷۰۰۰۰۰۰۷۹",
        "1٧0‑000–۰۰79",
        "\u200f170\u00a0000\u200e0079",
    ],
)
def test_it_may_be_typed_as_people_type(text: str) -> None:
    assert parse_reference(text) == 17_000_000


@pytest.mark.parametrize(
    "text",
    ["", "-", "98", "abc", "17x00079", "1700000079.", "²170", "१७०", "+98", "00098", "0197", "1" * 23],
)
def test_what_is_no_reference_number_is_refused(text: str) -> None:
    with pytest.raises(FormatError):
        parse_reference(text)


def test_bounds() -> None:
    with pytest.raises(TooLarge, match="65 characters"):
        parse_reference(" " * MAX_REFERENCE + "1")
    with pytest.raises(FormatError, match="so high an index"):
        parse_reference(reference_digits(NONE))


@given(st.text(max_size=80))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        index = parse_reference(text)
    except SudurError:
        return
    assert parse_reference(reference_digits(index)) == index


@given(st.integers(0, GREATEST))
def test_round_trip(index: int) -> None:
    assert parse_reference(reference_text(index)) == index
