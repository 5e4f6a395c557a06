"""A small ledger with a document in a full run of 256 leaves, and packs of it: where pack tests start."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from ledger.codes import Code, code_of, path_of
from ledger.judging import Asked
from ledger.opened_pack import OpenedPack, open_pack
from ledger.pack_builder import PackBuilder
from ledger.pack_deltas import apply_delta
from ledger.pack_verifier import OfflineVerdict, verify_code
from ledger.packs import Form
from ledger.records import Basis, Issue
from tests.ledger.issued import SEED, Issued
from tests.ledger.static import StaticLedger


class Runs:
    """The leaf hashes of full runs in memory, as a ``TileReader``."""

    def __init__(self, runs: list[bytes]) -> None:
        self.runs = runs

    def tile(self, level: int, index: int, width: int) -> bytes:
        assert (level, width) == (0, 256)
        return self.runs[index]


@dataclass
class Packed:
    """An issued document, with as many others logged behind it as make its run full."""

    issued: Issued = field(default_factory=Issued)
    filled: bool = True
    _statics: dict[int, StaticLedger] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.filled:
            self.fill(300)

    def fill(self, count: int) -> None:
        """Log that many other documents, and a seal."""
        size = len(self.static().leaves)
        for at in range(0, count, 256):
            names = range(at, min(at + 256, count))
            leaves = [
                Issue(1, 0, Basis.ORIGINAL, sha256(b"%d %d" % (size, i)).digest()).encode() for i in names
            ]
            self.issued.world.submit(1, leaves)

    def static(self) -> StaticLedger:
        """Its resources of now."""
        blocks = len(self.issued.world.blocks)
        if blocks not in self._statics:
            self._statics[blocks] = self.issued.static()
        return self._statics[blocks]

    def open(
        self, form: Form = Form.SUBTREES, old: OpenedPack | None = None, static: StaticLedger | None = None
    ) -> OpenedPack:
        """The proven pack of now, whole or from an older one."""
        static = static or self.static()
        builder = PackBuilder(static, self.issued.trusted(), static.checkpoint)
        pack = apply_delta(None if old is None else old.pack, builder.delta(form, old))
        runs = Runs(list(builder.runs(0, pack.full, pack.subtrees)) if form is Form.LEAVES else [])
        return open_pack(pack, self.issued.trust(), runs)

    def code(self, hidden: frozenset[str] | None = None, with_path: bool = True) -> Code:
        """The code of the document; without ``hidden`` with its seed."""
        issued = self.issued
        receipt = issued.receipt()
        path = path_of(issued.index, receipt.seal.index + 1, receipt.issue.path) if with_path else ()
        document = (issued.document, SEED) if hidden is None else issued.document.disclose(SEED, hidden)
        return code_of(document, issued.world.genesis, issued.basis, issued.index, path)

    def judge(
        self, code: Code | None = None, pack: OpenedPack | None = None, **options: Any
    ) -> OfflineVerdict:
        age = options.pop("greatest_age_s", None)
        trust = options.pop("trust", self.issued.trust())
        asked = Asked(options.pop("now_ms", self.issued.world.now), **options)
        return verify_code(code or self.code(), pack or self.open(), trust, asked, greatest_age_s=age)
