"""Issuing a table end to end: ``sudur agency issue --csv``, as an agency runs it, against a node beside it.

A row has eight fields of Arabic and Kurdish words, numbers and days. Reading, checking, salting, sealing
and indexing, the register on disk, signing, sending and recording the answers are all in the figure, and
starting the program too. The baseline is the hashing alone that nobody can avoid: for each of nine fields
(the type is one) a salt (two SHA-256) and a leaf, the tree over them, and the commitment.
"""

from __future__ import annotations

import csv
import json
import os
import random
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path

from benchmarks.agency import Agency
from benchmarks.report import Row, best, markdown
from benchmarks.serve import serving
from ledger.signatures import Algorithm
from tools.agency.directory import AgencyDirectory
from tools.keyfile import PrivateKey, PublicKey

ROWS = 200_000
_HASHES = 9 * 3 + 8 + 1
_NAMES = (
    *("محمد", "علي", "حسن", "حسين", "زينب", "فاطمة", "نور", "سارا", "ئازاد", "شێرکۆ", "کاوە", "رۆژ"),
    *("أحمد", "إبراهيم", "مصطفى", "هدى", "ليلى", "مريم"),
)
_PLACES = ("بغداد", "الكرخ", "الرصافة", "سلێمانی", "أربيل", "كركوك", "البصرة", "الموصل", "النجف", "دهوك")
_HEADER = ("id", "child", "father", "mother", "place", "born", "number", "page", "remark")


def write_table(path: Path, rows: int) -> None:
    """A table of births: an id, and eight fields."""
    chance = random.Random(rows)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(_HEADER)
        for number in range(rows):
            names = [" ".join(chance.choices(_NAMES, k=3)) for _ in range(3)]
            day = f"{chance.randint(1930, 2020)}-{chance.randint(1, 12):02}-{chance.randint(1, 28):02}"
            page, remark = str(chance.randint(1, 400)), chance.choice(("", "نسخة", "مطابق للأصل"))
            writer.writerow(
                [f"B-{number}", *names, chance.choice(_PLACES), day, str(10**7 + number), page, remark]
            )


def run(directory: Path, rows: int = ROWS) -> list[Row]:
    """Issue a table of so many rows; the data goes below ``directory``."""
    data = os.urandom(65)
    hashing = _HASHES * best(lambda: [sha256(data).digest() for _ in range(100_000)], 5) / 100_000
    table = directory / "births.csv"
    write_table(table, rows)
    with serving(directory / "data") as node:
        here = _agency(directory / "agency", Agency.at(node.grpc))
        command = [
            sys.executable, "-m", "tools.cli", "agency", "issue", "--csv", str(table), "--id-column", "id",
            "--node", node.grpc, "--dir", str(here.path), "--trust-on-first-use", "--json",
        ]  # fmt: skip
        began = time.perf_counter()
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
        seconds = time.perf_counter() - began
    if json.loads(done.stdout)["issued"] != rows:
        raise RuntimeError(f"not all rows were issued: {done.stdout!r}")
    rate = rows / seconds
    size = sum(path.stat().st_size for path in here.path.glob("register.db*")) / rows
    bare = f"its {_HASHES} hashes alone {1 / hashing:,.0f}/s"
    return [
        Row(
            "issue --csv, eight fields and an id, end to end",
            rate,
            "rows/s",
            bare,
            rate * hashing,
            "≥ 15,000/s",
        ),
        Row("register on disk per document", size, "bytes", "", None, ""),
    ]


def _agency(path: Path, agency: Agency) -> AgencyDirectory:
    """A directory with the key under which the benchmarks' agency is enrolled."""
    here = AgencyDirectory.create(path)
    secret = sha256(b"test key benchmark agency").digest()
    key = PrivateKey(PublicKey(Algorithm.ED25519, agency.key.public_key, "submit", "submit"), secret)
    here.add_key(key, None)
    return here


if __name__ == "__main__":
    count = int(sys.argv[2]) if len(sys.argv) > 2 else ROWS
    Path(sys.argv[1]).mkdir(parents=True)
    print(markdown(run(Path(sys.argv[1]), count)))
