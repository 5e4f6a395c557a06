"""The slip that goes into a paper file: what was asked, what was answered, by whom, and what proves it.

One HTML page without scripts, styles or pictures from elsewhere, which prints on one sheet; in Arabic and
Kurdish from right to left. Whatever came from another agency is escaped, and isolated in its direction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from html import escape
from typing import Final

from ledger.documents import Field, FieldKind
from ledger.envelope_bodies import ReplyOutcome
from ledger.verdicts import VerdictCode
from tools.describe import moment
from tools.ui import printable


class Language(StrEnum):
    """What a slip is written in."""

    EN = "en"
    AR = "ar"
    CKB = "ckb"


@dataclass(frozen=True, slots=True)
class Slip:
    """What stands on a slip. Times in ms; numbers as reference numbers in groups.

    ``document``: the number of the document that the answer confirmed; ``verdict`` and ``reason``
    what its receipt proves, None without one. ``doubtful``: a key that signed the answer was reported
    stolen. ``as_of_ms`` is the time of the newest seal.
    """

    origin: str
    genesis: str
    asker: Mapping[str, str]
    asker_number: int
    answerer: Mapping[str, str]
    answerer_number: int
    request: str
    answer: str
    asked_ms: int
    answered_ms: int
    question: Sequence[Field]
    outcome: ReplyOutcome
    note: str
    successor: str
    document: str
    confirmed: Sequence[Field]
    verdict: VerdictCode | None
    reason: str
    doubtful: bool
    as_of_ms: int
    size: int


_WORDS: Final[Mapping[Language, Mapping[str, str]]] = {
    Language.EN: {
        "title": "Answer to a request for confirmation",
        "asker": "Asked by",
        "answerer": "Answered by",
        "agency": "agency",
        "request": "Number of the request",
        "answer": "Number of the answer",
        "document": "Number of the document",
        "asked": "Asked on",
        "answered": "Answered on",
        "question": "What was read off the paper",
        "result": "Answer",
        "note": "Note",
        "successor": "Passed on to",
        "confirmed": "The document as its issuer has it",
        "proof": "What its proof shows",
        "as_of": "As of",
        "size": "leaves in the log",
        "ledger": "Ledger",
        "file": "file, SHA-256",
        "proves": "The ledger proves that this agency gave this answer to this request, and that neither was"
        " changed since. It proves nothing of a paper that anybody else holds out: verify its own code."
        " Whether the document is still valid is to be asked anew, by its number or its receipt.",
    },
    Language.AR: {
        "title": "جواب عن طلب صحة صدور",
        "asker": "الجهة الطالبة",
        "answerer": "الجهة المجيبة",
        "agency": "جهة رقم",
        "request": "رقم الطلب",
        "answer": "رقم الجواب",
        "document": "رقم الوثيقة",
        "asked": "تاريخ الطلب",
        "answered": "تاريخ الجواب",
        "question": "ما قُرئ من الورقة",
        "result": "الجواب",
        "note": "ملاحظة",
        "successor": "أُحيل إلى",
        "confirmed": "الوثيقة كما هي لدى جهة إصدارها",
        "proof": "ما يثبته برهانها",
        "as_of": "حتى تاريخ",
        "size": "قيداً في السجل",
        "ledger": "السجل",
        "file": "ملف، SHA-256",
        "proves": "يُثبت السجل أن هذه الجهة أعطت هذا الجواب عن هذا الطلب، وأن أياً منهما لم يُغيَّر بعد ذلك."
        " ولا يُثبت شيئاً عن ورقة يبرزها شخص آخر: تحقّق من رمزها. أما بقاء الوثيقة نافذة فيُسأل عنه من جديد"
        " برقمها أو بإيصالها.",
    },
    Language.CKB: {
        "title": "وەڵامی داواکاریی دڵنیابوونەوە لە دەرچوون",
        "asker": "لایەنی داواکار",
        "answerer": "لایەنی وەڵامدەرەوە",
        "agency": "لایەنی ژمارە",
        "request": "ژمارەی داواکاری",
        "answer": "ژمارەی وەڵام",
        "document": "ژمارەی بەڵگەنامە",
        "asked": "بەرواری داواکاری",
        "answered": "بەرواری وەڵام",
        "question": "ئەوەی لە کاغەزەکە خوێنرایەوە",
        "result": "وەڵام",
        "note": "تێبینی",
        "successor": "ڕەوانە کرا بۆ",
        "confirmed": "بەڵگەنامەکە وەک لای دەرکەرەکەیەتی",
        "proof": "ئەوەی سەلماندنەکە پیشانی دەدات",
        "as_of": "تا بەرواری",
        "size": "تۆمار لە تۆمارگەدا",
        "ledger": "تۆمارگە",
        "file": "پەڕگە، SHA-256",
        "proves": "تۆمارگەکە دەیسەلمێنێت کە ئەم لایەنە ئەم وەڵامەی بۆ ئەم داواکارییە داوە و هیچیان لەوساوە"
        " نەگۆڕدراون. هیچ شتێک لەبارەی کاغەزێکەوە ناسەلمێنێت کە کەسێکی تر پیشانی بدات: کۆدەکەی خۆی"
        " بپشکنە. بۆ ئەوەی بزانیت بەڵگەنامەکە هێشتا بەردەوامە، بە ژمارەکەی یان پسوولەکەی سەرلەنوێ بپرسە.",
    },
}

_OUTCOMES: Final[Mapping[Language, Mapping[ReplyOutcome, str]]] = {
    Language.EN: {
        ReplyOutcome.CONFIRMED: "CONFIRMED",
        ReplyOutcome.DENIED: "DENIED: it is not genuine",
        ReplyOutcome.NO_RECORD: "NO RECORD was found",
        ReplyOutcome.MORE_NEEDED: "MORE IS NEEDED to answer",
        ReplyOutcome.DIFFERS: "IT DIFFERS from what was issued",
        ReplyOutcome.TRANSFERRED: "PASSED ON to another agency",
    },
    Language.AR: {
        ReplyOutcome.CONFIRMED: "صحيحة الصدور",
        ReplyOutcome.DENIED: "غير صحيحة",
        ReplyOutcome.NO_RECORD: "لا يوجد لها قيد",
        ReplyOutcome.MORE_NEEDED: "يلزم المزيد من المعلومات للإجابة",
        ReplyOutcome.DIFFERS: "تختلف عمّا صدر",
        ReplyOutcome.TRANSFERRED: "أُحيل الطلب إلى جهة أخرى",
    },
    Language.CKB: {
        ReplyOutcome.CONFIRMED: "دەرچوونی ڕاستە",
        ReplyOutcome.DENIED: "ڕاست نییە",
        ReplyOutcome.NO_RECORD: "هیچ تۆمارێکی نییە",
        ReplyOutcome.MORE_NEEDED: "زانیاریی زیاتر پێویستە",
        ReplyOutcome.DIFFERS: "جیاوازە لەوەی دەرچووە",
        ReplyOutcome.TRANSFERRED: "ڕەوانەی لایەنێکی تر کرا",
    },
}

_VERDICTS: Final[Mapping[Language, Mapping[VerdictCode, str]]] = {
    Language.EN: {
        VerdictCode.GENUINE: "Genuine",
        VerdictCode.GENUINE_EXPIRED: "Genuine, but expired",
        VerdictCode.REVOKED: "Revoked: do not accept",
        VerdictCode.SUSPENDED: "Suspended: do not accept for now",
        VerdictCode.SUPERSEDED: "Superseded: ask for the newer document",
        VerdictCode.DOUBTFUL: "Doubtful: signed with a key that was reported stolen",
    },
    Language.AR: {
        VerdictCode.GENUINE: "صحيحة",
        VerdictCode.GENUINE_EXPIRED: "صحيحة لكنها منتهية النفاذ",
        VerdictCode.REVOKED: "ملغاة: لا تُقبل",
        VerdictCode.SUSPENDED: "موقوفة: لا تُقبل حالياً",
        VerdictCode.SUPERSEDED: "حلّت محلها وثيقة أحدث",
        VerdictCode.DOUBTFUL: "مشكوك فيها: وُقّعت بمفتاح مبلَّغ عن سرقته",
    },
    Language.CKB: {
        VerdictCode.GENUINE: "ڕاستە",
        VerdictCode.GENUINE_EXPIRED: "ڕاستە، بەڵام بەسەرچووە",
        VerdictCode.REVOKED: "هەڵوەشاوەتەوە: وەرمەگرە",
        VerdictCode.SUSPENDED: "ڕاگیراوە: ئێستا وەرمەگرە",
        VerdictCode.SUPERSEDED: "بەڵگەنامەیەکی نوێتر شوێنی گرتووەتەوە",
        VerdictCode.DOUBTFUL: "گومانلێکراوە: بە کلیلێکی دزراو واژۆ کراوە",
    },
}

_TAGS: Final = {Language.EN: ("en",), Language.AR: ("ar",), Language.CKB: ("ckb", "ku")}
"""Under which tags a name in that language stands in the registry."""

_STYLE: Final = (
    "body{font:11pt/1.45 serif;margin:2cm;color:#000;background:#fff}"
    "h1{font-size:15pt}h2{font-size:12pt;margin:1em 0 .3em}"
    "table{border-collapse:collapse;width:100%}"
    "th,td{border:1px solid #777;padding:.25em .5em;text-align:start;vertical-align:top}"
    "th{width:32%;font-weight:normal;color:#333}"
    ".result{font-size:15pt;font-weight:bold;border:2px solid #000;padding:.4em .7em;margin:.6em 0}"
    ".number,.hash{direction:ltr;unicode-bidi:isolate;font-family:monospace}"
    ".hash{font-size:8pt;word-break:break-all}"
    "footer{margin-top:1.2em;border-top:1px solid #777;font-size:9pt}"
    "@page{size:A4;margin:1cm}"
)


def slip_html(slip: Slip, language: Language) -> str:
    """The page. What is on it beside our own words is escaped, control characters shown as such."""
    words = _WORDS[language]
    direction = "ltr" if language is Language.EN else "rtl"
    rows = [
        (words["asker"], _agency(slip.asker, slip.asker_number, language)),
        (words["request"], _number(slip.request)),
        (words["asked"], _number(moment(slip.asked_ms))),
        (words["answerer"], _agency(slip.answerer, slip.answerer_number, language)),
        (words["answer"], _number(slip.answer)),
        (words["answered"], _number(moment(slip.answered_ms))),
    ]
    if slip.document:
        rows.append((words["document"], _number(slip.document)))
    if slip.successor:
        rows.append((words["successor"], _text(slip.successor)))
    if slip.note:
        rows.append((words["note"], _text(slip.note)))
    parts = [
        "<!DOCTYPE html>",
        f'<html lang="{language.value}" dir="{direction}"><head><meta charset="utf-8">',
        (
            '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; style-src'
            " 'unsafe-inline'\">"
        ),
        f"<title>{escape(words['title'])} {escape(slip.request)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(words['title'])}</h1>",
        f'<p class="result">{escape(_OUTCOMES[language][slip.outcome])}</p>',
        *_proof(slip, language),
        _table(rows),
        f"<h2>{escape(words['question'])}</h2>",
        _fields(slip.question, words["file"]),
    ]
    if slip.confirmed:
        parts += [f"<h2>{escape(words['confirmed'])}</h2>", _fields(slip.confirmed, words["file"])]
    parts += [
        (
            f"<footer><p>{escape(words['as_of'])} {_number(moment(slip.as_of_ms))}, {_number(str(slip.size))}"
            f" {escape(words['size'])}. {escape(words['proves'])}</p>"
        ),
        f'<p>{escape(words["ledger"])}: {_text(slip.origin)} <span class="hash">{slip.genesis}</span></p>',
        "</footer></body></html>\n",
    ]
    return "\n".join(parts)


def _proof(slip: Slip, language: Language) -> list[str]:
    """What the proof shows, right below the answer: nobody is to read "confirmed" and miss "revoked"."""
    parts = []
    found = [slip.verdict, VerdictCode.DOUBTFUL if slip.doubtful else None]
    for verdict in dict.fromkeys(one for one in found if one is not None):
        text = _VERDICTS[language].get(verdict, verdict.value)
        parts.append(f'<p class="result">{escape(_WORDS[language]["proof"])}: {escape(text)}</p>')
    if slip.reason:
        parts.append(f"<p>{_text(slip.reason)}</p>")
    return parts


def _agency(names: Mapping[str, str], number: int, language: Language) -> str:
    own = [names[tag] for tag in _TAGS[language] if tag in names]
    ordered = own[:1] or list(names.values())
    return f"{_text(' · '.join(ordered))} ({escape(_WORDS[language]['agency'])} {_number(str(number))})"


def _fields(fields: Sequence[Field], file: str) -> str:
    return _table(
        [
            (printable(one.name), _text(one.value.decode()))
            if one.kind is FieldKind.TEXT
            else (f"{printable(one.name)} ({file})", f'<span class="hash">{one.value.hex()}</span>')
            for one in fields
        ]
    )


def _table(rows: Sequence[tuple[str, str]]) -> str:
    lines = "".join(f"<tr><th><bdi>{escape(name)}</bdi></th><td>{value}</td></tr>" for name, value in rows)
    return f"<table>{lines}</table>"


def _text(text: str) -> str:
    """Text from elsewhere: escaped, and its direction kept to itself."""
    return f'<bdi dir="auto">{escape(printable(text))}</bdi>'


def _number(text: str) -> str:
    return f'<span class="number">{escape(text)}</span>'
