"""Figures, look-ups and status proofs in process, on a store of 17 million leaves.

The tree, the status list and the counters are written as a node's own writer would leave them, without
the documents in between: what these reads cost does not depend on what the leaves say. A thousand
agencies have counters of sixty months, the whole ledger those of all.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

from benchmarks.report import Row, markdown
from ledger.figures import DELAY_BOUNDS_MS, FigureKey, Metric
from ledger.hashing import leaf_hash
from ledger.inquiries import AsOf
from ledger.merkle_list import MerkleList
from ledger.proofs import verify_inclusion
from ledger.records import Basis, Outcome, SendKind, Status
from ledger.reports import figures_csv, figures_json, report
from ledger.status import CHUNK_INDEXES, chunk_count, chunk_of, read_status, write_status
from ledger.tree import Tree
from node import codec
from node.database import FIGURES, OBJECTS, TILES, Database
from node.grpc_answers import figures_response
from node.inquiries import AgencyFigures
from node.proofs import Proofs
from node.store import Store
from ledger.inquiries import Named

LEAVES = 17_000_000
AGENCIES = 1_000
MONTHS = range(12 * 51, 12 * 56)
TODAY = 20_454
_SLICE = 65_536
_TYPES = 30
"""Document types in use; one agency issues five of them."""
