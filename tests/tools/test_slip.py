"""Slips: every answer in every language, and nothing on them that could do anything."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from itertools import product

import pytest

from ledger.documents import Field
from ledger.envelope_bodies import ReplyOutcome
from ledger.verdicts import VerdictCode
from tools.letters.slip import Language, Slip, slip_html

HOSTILE = "</td></table><script>alert(1)</script><img src=x onerror=y>\u202e\u200f&quot;'\""
SLIP = Slip(
    origin="test.example",
    genesis="00" * 32,
    asker={"en": "Registry", "ckb": "تۆمار"},
    asker_number=1,
    answerer={"ar": "جامعة"},
    answerer_number=2,
    request="170 000 0079",
    answer="170 000 0176",
    asked_ms=1_700_000_000_000,
    answered_ms=1_700_000_100_000,
    question=(Field.text("holder", "نور"), Field.file("scan", bytes(32))),
    outcome=ReplyOutcome.CONFIRMED,
    note="",
    successor="",
    document="170 000 0273",
    confirmed=(Field.text("holder", "نور"),),
    verdict=VerdictCode.GENUINE,
    reason="",
    doubtful=False,
    as_of_ms=1_700_000_200_000,
    size=17_000_003,
)


class Tags(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in ("meta", "!doctype"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize(("language", "outcome"), list(product(Language, ReplyOutcome)))
def test_every_answer_in_every_language(language: Language, outcome: ReplyOutcome) -> None:
    text = slip_html(replace(SLIP, outcome=outcome), language)
    page = Tags()
    page.feed(text)
    assert page.open == []
    assert not {"script", "img", "link", "iframe", "a"} & set(page.tags)
    assert page.attributes <= {"lang", "dir", "charset", "http-equiv", "content", "class"}
    assert ('dir="rtl"' in text) == (language is not Language.EN)
    assert text.count("170 000 0079") == 2
    assert "2023-11-14 22:16:40 UTC" in text


@pytest.mark.parametrize("language", Language)
def test_what_comes_from_elsewhere_is_text(language: Language) -> None:
    hostile = replace(
        SLIP,
        asker={"en": HOSTILE},
        answerer={"xx": HOSTILE},
        note=HOSTILE,
        successor=HOSTILE,
        reason=HOSTILE,
        origin=HOSTILE,
        question=(Field(SLIP.question[0].kind, HOSTILE, HOSTILE.encode()),),
        confirmed=(Field(SLIP.question[0].kind, HOSTILE, HOSTILE.encode()),),
    )
    text = slip_html(hostile, language)
    page = Tags()
    page.feed(text)
    assert page.open == []
    assert not {"script", "img"} & set(page.tags)
    assert "onerror" not in page.attributes
    assert "\u202e" not in text
    assert "\u200f" not in text
    assert "\\u202e" in text


@pytest.mark.parametrize("verdict", VerdictCode)
def test_what_is_not_genuine_stands_at_the_top(verdict: VerdictCode) -> None:
    for language in Language:
        text = slip_html(replace(SLIP, verdict=verdict, reason="why"), language)
        head = text[: text.index("<table>")]
        assert head.count('class="result"') == 2
        assert "why" in head
    doubtful = slip_html(replace(SLIP, verdict=None, doubtful=True), Language.EN)
    assert "Doubtful" in doubtful[: doubtful.index("<table>")]


def test_names_are_in_the_language_of_the_slip() -> None:
    assert "تۆمار" in slip_html(SLIP, Language.CKB)
    assert "Registry" not in slip_html(SLIP, Language.CKB)
    assert "Registry · تۆمار" in slip_html(SLIP, Language.AR)
