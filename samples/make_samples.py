"""Make the sample documents in ``samples/documents``: python samples/make_samples.py.

Every person, office and number is invented, and every document says so in its own language. The
results are committed, so nobody needs to run this; it needs fpdf2, uharfbuzz and pillow (with Raqm),
which are the dependency group ``samples``, and the Amiri fonts (SIL Open Font License; Debian:
fonts-hosny-amiri). With the same versions of these the same bytes come out.
"""

from __future__ import annotations

import argparse
import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from fpdf import FPDF
from PIL import Image, ImageDraw, ImageFont

FONTS = Path("/usr/share/fonts/opentype/fonts-hosny-amiri")
MADE = datetime(2026, 1, 1, tzinfo=UTC)  # a fixed date, or the bytes would differ from run to run
Colour = tuple[int, int, int]
GREEN = (20, 83, 61)
GREY = (110, 110, 110)
INK = (25, 25, 25)
RED = (170, 30, 30)


@dataclass(frozen=True, slots=True)
class Sample:
    """One document: what it says, in one language."""

    language: str  # BCP 47
    issuer: str
    title: str
    marking: str  # "this is a sample", in the document's language
    rows: tuple[tuple[str, str], ...]
    body: tuple[str, ...]

    @property
    def right_to_left(self) -> bool:
        return self.language in ("ar", "ckb")


DEGREE = Sample(
    language="ar",
    issuer="جامعة النموذج – كلية الهندسة",
    title="شهادة تخرّج",
    marking="نموذج للتجربة – ليست وثيقة رسمية",
    rows=(
        ("الاسم", "سارة كريم حسن"),
        ("القسم", "الهندسة المدنية"),
        ("الشهادة", "بكالوريوس"),
        ("التقدير", "جيد جداً"),
        ("المعدل", "٨٤٫٦"),
        ("سنة التخرّج", "٢٠٢٤ – ٢٠٢٥"),
        ("رقم الوثيقة", "ن/٠٠١٢٣/٢٠٢٥"),
    ),
    body=(
        "تشهد الجامعة أن صاحبة الاسم أعلاه أكملت متطلبات الدراسة بنجاح،",
        "وبناءً على طلبها صدرت هذه الوثيقة.",
    ),
)

BIRTH = Sample(
    language="ckb",
    issuer="فەرمانگەی نموونەیی باری شارستانی",
    title="تۆماری لەدایکبوون",
    marking="نموونەیە – بەڵگەنامەی فەرمی نییە",
    rows=(
        ("ناو", "ڕێژین ئازاد کەریم"),
        ("ڕەگەز", "مێ"),
        ("ڕێکەوتی لەدایکبوون", "٢٠٢٤/٠٣/٢١"),
        ("شوێنی لەدایکبوون", "هەولێر"),
        ("ناوی باوک", "ئازاد کەریم ڕەسوڵ"),
        ("ناوی دایک", "شیلان ئەحمەد عەلی"),
        ("ژمارەی تۆمار", "ن/٠٠٤٥٦/٢٠٢٤"),
    ),
    body=("ئەم تۆمارە لەسەر داوای باوکی منداڵەکە دەرکراوە.",),
)

LETTER = Sample(
    language="en",
    issuer="Ministry of Samples – Directorate of Records",
    title="To whom it may concern",
    marking="SAMPLE – not an official document",
    rows=(
        ("Reference", "MS/2026/0789"),
        ("Date", "4 January 2026"),
        ("Subject", "Years of service of Mr Dara Yusuf Aziz"),
    ),
    body=(
        "We confirm that the above-named was employed by this Directorate as",
        "an archivist from 1 September 2011 to 31 December 2025, and that he",
        "left the service at his own request and in good standing.",
        "",
        "This letter was issued at his request for submission to an employer",
        "abroad. It is complete on one page.",
    ),
)

MEDICAL = Sample(
    language="ar",
    issuer="مستشفى النموذج التعليمي – شعبة الطب الباطني",
    title="تقرير طبي",
    marking="نموذج للتجربة – ليس تقريراً حقيقياً",
    rows=(
        ("اسم المريض", "علي محمود جاسم"),
        ("تاريخ الميلاد", "١٩٧٨/١١/٠٥"),
        ("تاريخ الفحص", "٢٠٢٦/٠١/٠٣"),
        ("الطبيب", "د. هدى سليم"),
        ("رقم التقرير", "ن/٠٠٩٩١/٢٠٢٦"),
    ),
    body=(
        "راجع المريض المستشفى شاكياً من صداع متكرر منذ أسبوعين. الفحص السريري",
        "والتحاليل ضمن الحدود الطبيعية. يُنصح بالراحة خمسة أيام وبمراجعة الشعبة",
        "بعد شهر.",
    ),
)

RESIDENCE = Sample(
    language="ar",
    issuer="دائرة النموذج لشؤون السكن",
    title="بطاقة سكن",
    marking="نموذج – نموونە – SAMPLE",
    rows=(
        ("الاسم", "نور عبد الله خالد"),
        ("المحافظة", "البصرة"),
        ("المحلة", "٣١٤"),
        ("رقم البطاقة", "ن/٠٧٧٠٥"),
    ),
    body=(),
)


def write_text(sample: Sample, path: Path) -> None:
    """Plain UTF-8 with line feeds; the order of the characters is the logical one."""
    lines = [sample.marking, "", sample.issuer, sample.title, ""]
    lines += [f"{label}: {value}" for label, value in sample.rows]
    lines += ["", *sample.body]
    path.write_bytes(("\n".join(lines) + "\n").encode())


def write_pdf(sample: Sample, path: Path, fonts: Path) -> None:
    """One A4 page, text shaped by HarfBuzz, fonts embedded as subsets."""
    pdf = FPDF(format="A4")
    pdf.set_creation_date(MADE)
    pdf.set_title(f"{sample.title} ({sample.marking})")
    pdf.set_lang(sample.language)
    pdf.add_font("Amiri", "", fonts / "Amiri-Regular.ttf")
    pdf.add_font("Amiri", "B", fonts / "Amiri-Bold.ttf")
    pdf.set_auto_page_break(False)
    pdf.add_page()
    if sample.right_to_left:
        pdf.set_text_shaping(True, direction="rtl", script="arab")
    else:
        pdf.set_text_shaping(True, direction="ltr", script="latn")
    side = "R" if sample.right_to_left else "L"

    def line(text: str, size: int, *, bold: bool = False, align: str, height: float) -> None:
        pdf.set_font("Amiri", "B" if bold else "", size)
        pdf.set_x(25)
        pdf.cell(160, height, text, align=align, new_x="LMARGIN", new_y="NEXT")

    pdf.set_draw_color(*GREEN)
    pdf.set_line_width(0.8)
    pdf.rect(12, 12, 186, 273)
    pdf.set_line_width(0.2)
    pdf.rect(14, 14, 182, 269)
    pdf.set_y(24)
    pdf.set_text_color(*GREEN)
    line(sample.issuer, 18, bold=True, align="C", height=12)
    pdf.line(60, pdf.get_y() + 2, 150, pdf.get_y() + 2)
    pdf.set_y(pdf.get_y() + 10)
    pdf.set_text_color(*INK)
    line(sample.title, 26, bold=True, align="C", height=16)
    pdf.set_y(pdf.get_y() + 8)
    for label, value in sample.rows:
        top = pdf.get_y()
        label_x, value_x = (145, 25) if sample.right_to_left else (25, 65)
        pdf.set_text_color(*GREY)
        pdf.set_font("Amiri", "", 14)
        pdf.set_xy(label_x, top)
        pdf.cell(40, 11, label, align=side)
        pdf.set_text_color(*INK)
        pdf.set_font("Amiri", "B", 15)
        pdf.set_xy(value_x, top)
        pdf.cell(120, 11, value, align=side)
        pdf.set_y(top + 11)
    pdf.set_y(pdf.get_y() + 10)
    for text in sample.body:
        line(text, 15, align=side, height=10)
    pdf.set_xy(25, 262)
    pdf.set_text_color(*RED)
    line(sample.marking, 16, bold=True, align="C", height=12)
    pdf.output(str(path))


def draw(sample: Sample, size: tuple[int, int], fonts: Path) -> Image.Image:
    """A picture as a scanner would give it; text shaped by Raqm."""
    image = Image.new("RGB", size, (252, 250, 244))
    pen = ImageDraw.Draw(image)
    width, height = size
    direction = "rtl" if sample.right_to_left else "ltr"
    step = height // (len(sample.rows) + len(sample.body) + 6)

    def put(text: str, y: int, scale: float, *, x: int, anchor: str, bold: bool, colour: Colour) -> None:
        file = fonts / ("Amiri-Bold.ttf" if bold else "Amiri-Regular.ttf")
        font = ImageFont.truetype(str(file), int(step * scale), layout_engine=ImageFont.Layout.RAQM)
        pen.text(
            (x, y), text, fill=colour, font=font, anchor=anchor, direction=direction, language=sample.language
        )

    pen.rectangle((10, 10, width - 11, height - 11), outline=GREEN, width=4)
    middle = width // 2
    start, anchor = (width - 50, "rm") if sample.right_to_left else (50, "lm")
    indent = int(width * 0.36)
    value_x = start - indent if sample.right_to_left else start + indent
    y = int(step * 1.2)
    put(sample.issuer, y, 0.62, x=middle, anchor="mm", bold=True, colour=GREEN)
    y += int(step * 1.3)
    put(sample.title, y, 0.85, x=middle, anchor="mm", bold=True, colour=INK)
    y += int(step * 1.3)
    for label, value in sample.rows:
        put(label, y, 0.5, x=start, anchor=anchor, bold=False, colour=GREY)
        put(value, y, 0.55, x=value_x, anchor=anchor, bold=True, colour=INK)
        y += step
    for text in sample.body:
        put(text, y, 0.5, x=start, anchor=anchor, bold=False, colour=INK)
        y += step
    put(sample.marking, height - int(step * 0.9), 0.55, x=middle, anchor="mm", bold=True, colour=RED)
    return image


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the sample documents.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "documents")
    parser.add_argument("--fonts", type=Path, default=FONTS, help="folder with the Amiri fonts")
    arguments = parser.parse_args()
    out: Path = arguments.out
    fonts: Path = arguments.fonts
    for sample in (DEGREE, BIRTH, LETTER, MEDICAL, RESIDENCE):
        for text in (
            sample.title,
            sample.issuer,
            sample.marking,
            *sample.body,
            *(part for row in sample.rows for part in row),
        ):
            if not unicodedata.is_normalized("NFC", text):
                raise SystemExit(f"not in NFC: {text}")
    out.mkdir(parents=True, exist_ok=True)
    write_pdf(DEGREE, out / "degree-certificate-ar.pdf", fonts)
    write_pdf(LETTER, out / "ministry-letter-en.pdf", fonts)
    write_text(BIRTH, out / "birth-record-ckb.txt")
    write_text(MEDICAL, out / "medical-report-ar.txt")
    draw(BIRTH, (900, 680), fonts).quantize(32, dither=Image.Dither.NONE).save(
        out / "birth-record-ckb.png", optimize=True
    )
    draw(RESIDENCE, (860, 540), fonts).save(out / "residence-card-ar.jpg", quality=80, optimize=True)


if __name__ == "__main__":
    main()
