"""All measured claims: ``python -m benchmarks [--entries N] [--write]``.

Everything is measured in one run on one machine, each figure beside its baseline. ``--write`` puts the
tables into docs/benchmarks.md; without it they are printed. The data goes to a temporary directory.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import (
    auditing,
    catching_up,
    cluster,
    ingest,
    inquiries,
    issuing,
    national,
    packs,
    publication,
    revocations,
    rules,
    signing,
    single,
    stored,
    tree,
    witness,
)
from benchmarks.report import Row, markdown

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"
BEGIN, END = "<!-- begin measured -->\n", "<!-- end measured -->\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--entries", type=int, default=ingest.ENTRIES, help="documents to ingest")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/benchmarks.md")
    options = parser.parse_args()
    sections: list[tuple[str, list[Row]]] = []

    def section(title: str, rows: list[Row]) -> None:
        sections.append((title, rows))
        print(f"\n{title}\n\n{markdown(rows)}", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory(prefix="sudur-benchmarks-") as temporary:
        data = Path(temporary) / "data"
        section("Bulk ingest", ingest.run(data, options.entries))
        section("Single calls, on that data", single.run(data))
        section("Proofs, on that data", stored.run(data))
        section("Revocations, on that data", revocations.run(data))
    with tempfile.TemporaryDirectory(prefix="sudur-benchmarks-") as temporary:
        section("Auditing", auditing.run(Path(temporary)))
    with tempfile.TemporaryDirectory(prefix="sudur-benchmarks-") as temporary:
        section("Catching up", catching_up.run(Path(temporary)))
    with tempfile.TemporaryDirectory(prefix="sudur-benchmarks-") as temporary:
        section("Three members and three of etcd", cluster.run(Path(temporary) / "cluster"))
    section("Figures and status proofs", inquiries.run())
    with tempfile.TemporaryDirectory(prefix="sudur-benchmarks-") as temporary:
        section("Issuing a table", issuing.run(Path(temporary)))
    with tempfile.TemporaryDirectory(prefix="sudur-benchmarks-") as temporary:
        section("A national scenario", national.run(Path(temporary) / "data"))
    with tempfile.TemporaryDirectory(prefix="sudur-benchmarks-") as temporary:
        section("Offline packs", packs.run(Path(temporary)))
    with tempfile.TemporaryDirectory(prefix="sudur-benchmarks-") as temporary:
        section("Publication", publication.run(Path(temporary)))
    with tempfile.TemporaryDirectory(prefix="sudur-benchmarks-") as temporary:
        section("A witness", witness.run(Path(temporary)))
    section("Rules", rules.run())
    section("Signature algorithms", signing.run())
    section("Tree", tree.run())
    text = _machine() + "".join(f"\n### {title}\n\n{markdown(rows)}" for title, rows in sections)
    if options.write:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(before + BEGIN + text + END + rest.partition(END)[2])
    else:
        print(text)


def _machine() -> str:
    day = time.strftime("%Y-%m-%d", time.gmtime())
    load = os.getloadavg()[0]
    return (
        f"{day}, {os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()},"
        f" load average {load:.1f} at the end.\n"
    )


if __name__ == "__main__":
    main()
