"""Folding for search: what people type for one another is one, and nothing else is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.register.folding import words


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("على", "علی"),
        ("علي", "علی"),
        ("كريم", "کریم"),
        ("فاطمة", "فاطمه"),
        ("أحمد", "احمد"),
        ("إبراهيم", "ابراهیم"),
        ("آمنة", "امنه"),
        ("مؤمن", "مومن"),
        ("رائد", "رايد"),
        ("سماء", "سما"),
        ("مُحَمَّد", "محمد"),
        ("محـــمد", "محمد"),
        ("سلێمانی", "سليماني"),
        ("رۆژ", "روز"),
        ("کوردستان", "كوردستان"),
        ("گوڵان", "كولان"),
        ("دڕندە", "درنده"),
        ("پەروین", "بهروين"),
        ("۱۹۸۷", "1987"),
        ("١٩٨٧", "1987"),
        ("Şêrko", "serko"),
        ("ئازاد", "ازاد"),
        ("ئێران", "يران"),
        ("ÉTAT", "etat"),
        ("ﻣﺤﻤﺪ", "محمد"),
        ("می\u200cرود", "ميرود"),
    ],
)
def test_what_is_written_for_one_another_is_one(one: str, other: str) -> None:
    assert words(one) == words(other) != []


@pytest.mark.parametrize(("one", "other"), [("نور", "نورا"), ("علي", "عمر"), ("1987", "1978"), ("ب", "ت")])
def test_what_is_not_the_same_stays_apart(one: str, other: str) -> None:
    assert words(one) != words(other)


def test_a_text_falls_into_words() -> None:
    assert words("نور، محمد-علي (1987/01/02)") == ["نور", "محمد", "علي", "1987", "01", "02"]
    assert words(" -_، ") == []


@given(st.text())
def test_folding_twice_changes_nothing(text: str) -> None:
    once = words(text)
    assert words(" ".join(once)) == once
