"""Bulk ingest through gRPC: signed, deduplicated, durable, from an empty ledger to ten million entries.

Node and client are a process each and share the machine's cores; the client makes, hashes, packs
and signs its commitments as it goes. Four calls are in flight at a time. The baseline is the hashing
alone that nobody can avoid: three SHA-256 a commitment on the node (its leaf, its share of the records
root and of the log's tree).
"""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from hashlib import sha256
from pathlib import Path

from benchmarks.agency import Agency, check_placed
from benchmarks.report import Row, best, markdown
from benchmarks.serve import serving

ENTRIES = 10_000_000
IN_FLIGHT = 4


def fill(address: str, entries: int) -> list[tuple[int, float]]:
    """Submit that many commitments; returns (commitments so far, seconds so far) for each million."""
    agency = Agency.at(address)
    waiting: deque[object] = deque()
    done, marks = 0, []
    began = time.perf_counter()
    next_mark = min(entries, 1_000_000)
    while done < entries or waiting:
        while done + 16_384 * len(waiting) < entries and len(waiting) < IN_FLIGHT:
            waiting.append(agency.stub.SubmitBulk.future(agency.bulk()))
        answer = waiting.popleft().result()  # type: ignore[attr-defined]
        check_placed(answer)
        done += 16_384
        if done >= next_mark:
            marks.append((done, time.perf_counter() - began))
            next_mark += 1_000_000
            print(f"  {done:,} in {marks[-1][1]:.1f} s", file=sys.stderr, flush=True)
    if not marks or marks[-1][0] < done:
        marks.append((done, time.perf_counter() - began))
    return marks


def disk_bytes(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def run(directory: Path, entries: int = ENTRIES) -> list[Row]:
    data = os.urandom(65)
    hashing = best(lambda: [sha256(data).digest() for _ in range(30_000)], 5) / 10_000
    # Killed at the end, so that the next start has a write-ahead log to replay.
    with serving(directory, kill=True) as node:
        marks = fill(node.grpc, entries)
        resident = node.resident_mib()
    done, seconds = marks[-1]
    rate = done / seconds
    last = marks[-1] if len(marks) < 2 else (done - marks[-2][0], seconds - marks[-2][1])
    bare = f"its three hashes alone {1 / hashing:,.0f}/s"
    return [
        Row("bulk ingest, empty to the end", rate, "/s", bare, rate * hashing, "≥ 200,000/s"),
        Row("bulk ingest, the last million", last[0] / last[1], "/s", bare, last[0] / last[1] * hashing, ""),
        Row("resident memory of the node, peak", resident, "MiB", "", None, "< 1,536 MiB"),
        Row("disk per document", disk_bytes(directory) / done, "bytes", "", None, "≤ 200"),
    ]


if __name__ == "__main__":
    count = int(sys.argv[2]) if len(sys.argv) > 2 else ENTRIES
    print(markdown(run(Path(sys.argv[1]), count)))
