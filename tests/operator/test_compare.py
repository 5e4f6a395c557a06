"""Compare: nodes, mirrors, witnesses and kept receipts of one log, and a log with two faces among them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from ledger import changes
from ledger.changes import LEDGER
from ledger.checkpoints import Checkpoint, sign_checkpoint
from ledger.resources import CHECKPOINT
from ledger.trust import SeenHead
from tests.ledger.issued import Issued
from tests.ledger.world import issue, signer
from tests.operator.attacks import books
from tests.operator.cheating import Books
from tests.operator.serving import served
from tests.witnesses import policy
from tools.audit.engine import AuditedLog
from tools.cli import run
from tools.http_resources import HttpResources


def faces(longer: int = 0) -> tuple[Books, Books]:
    """Two histories of one log that part after a few blocks; the second longer by so many blocks."""
    one, other = books(), books()
    one.submit(1, [issue(1, "shown to some")])
    other.submit(1, [issue(1, "shown to others")])
    for _ in range(longer):
        other.idle()
    return one, other


def witness_of(note: bytes, origin: str) -> dict[str, bytes]:
    """What a witness that has seen only this checkpoint serves."""
    return {f"{sha256(origin.encode()).hexdigest()}/{CHECKPOINT}": note}


@dataclass
class Asked:
    """A run of the command."""

    code: int
    out: str
    directory: Path

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def evidence(self) -> list[str]:
        return [one["file"] for one in self.json["evidence"]]


class Asking:
    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.directory = directory
        self._capsys = capsys

    def __call__(self, made: Books, *sources: str | Path, state: str = "state") -> Asked:
        trust = self.directory / "trust.json"
        trust.write_bytes(made.trust().encode())
        where = self.directory / state
        options = ["--trust", str(trust), "--state", str(where), "--json"]
        code = run(["audit", "compare", *map(str, sources), *options])
        return Asked(code, self._capsys.readouterr().out, where)

    def proves(self, file: str, words: str) -> None:
        """That a third person, with no trust file and no network, is told so."""
        assert run(["verify-evidence", file]) == 0
        assert words in self._capsys.readouterr().out


@pytest.fixture
def ask(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Asking:
    return Asking(tmp_path, capsys)


@contextmanager
def node(made: Books) -> Iterator[str]:
    with served(made.static.files.get) as url:
        yield url


def test_one_history_is_one_history(ask: Asking, tmp_path: Path) -> None:
    made = books()
    old = dict(made.static.files)
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "checkpoint.txt").write_bytes(made.static.checkpoint)
    (kept / "letter.txt").write_bytes(b"nothing of the kind")
    for _ in range(300):
        made.idle()
    witness = witness_of(made.sign_size(made.size - 5), made.origin)
    with node(made) as newest, served(old.get) as mirror, served(witness.get) as watching:
        asked = ask(made, newest, mirror, watching, kept)
    assert asked.code == 0
    shown = {one["name"]: one for one in asked.json["newest"]}
    assert shown[newest]["behind"] == "0"
    assert shown[mirror]["behind"] == str(300)
    assert shown[watching]["behind"] == "5"
    assert shown[newest]["sealed_ms"] == str(made.state.time_ms)
    assert [one["kind"] for one in asked.json["sources"]] == ["node", "node", "witness", "kept", "audit"]


@pytest.mark.parametrize("longer", [0, 3])
def test_two_nodes_with_two_histories(longer: int, ask: Asking) -> None:
    one, other = faces(longer)
    with node(one) as here, node(other) as there:
        asked = ask(one, here, there)
    assert asked.code == 1
    (file,) = asked.evidence
    ask.proves(file, "was not honest (fork)")
    assert Path(file).parent == asked.directory / "evidence"


def test_a_mirror_is_shown_another_policy(ask: Asking) -> None:
    """The ledger record says to some that no witness is needed: it is under the seal, so it is a fork."""
    one, other = books(), books()
    asks = changes.WitnessPolicyChanged(policy(1, "one"))
    one.change(LEDGER, asks)
    other.change(LEDGER, changes.WitnessPolicyChanged(policy(1, "the-operators-own")))
    with node(one) as here, node(other) as there:
        asked = ask(one, here, there)
    assert asked.code == 1
    ask.proves(asked.evidence[0], "fork")


def test_a_witness_was_shown_another_history(ask: Asking) -> None:
    """The node shows all comers one face; the witness alone was fed the other."""
    one, other = faces(4)
    with node(other) as url, served(witness_of(one.static.checkpoint, one.origin).get) as witness:
        asked = ask(one, url, witness)
    assert asked.code == 1
    ask.proves(asked.evidence[0], "fork")


def test_a_receipt_of_long_ago_shows_a_past_split(ask: Asking, tmp_path: Path) -> None:
    """Everybody is shown one history today; a receipt that somebody kept is of the other."""
    here = Issued()
    today = Books()
    receipt = tmp_path / "birth.receipt.json"
    receipt.write_bytes(here.receipt().encode())
    for _ in range(20):
        today.idle()
    with node(today) as url:
        asked = ask(today, url, receipt)
    assert asked.code == 1
    ask.proves(asked.evidence[0], "fork")


def test_an_audits_memory_shows_a_past_split(ask: Asking, tmp_path: Path) -> None:
    one, other = faces(2)
    with (
        node(one) as url,
        HttpResources(url) as resources,
        AuditedLog.open(tmp_path / "state", one.trusted()) as log,
    ):
        log.advance(resources, log.open_note(one.static.checkpoint))
    with node(other) as url:
        asked = ask(one, url)
    assert asked.code == 1
    ask.proves(asked.evidence[0], "fork")
    with node(other) as url:  # and as a source of somebody else's comparison, which leaves it alone
        again = ask(one, url, tmp_path / "state", state="another")
    assert again.code == 1
    assert [Path(one).name for one in again.evidence] == [Path(one).name for one in asked.evidence]


def test_a_head_amid_a_block_is_evidence(ask: Asking) -> None:
    made = books()
    cut = made.size - 1
    whole = made.static.files
    made.serve_size(cut)
    with served(whole.get) as url:
        asked = ask(made, url)
    assert asked.code == 1
    ask.proves(asked.evidence[0], "unsealed head")


def test_a_tree_that_nobody_shows_is_not_called_one_history(ask: Asking) -> None:
    """The larger head is held by a witness only: no node shows its tree."""
    one, other = faces(4)
    with node(one) as url, served(witness_of(other.static.checkpoint, other.origin).get) as witness:
        asked = ask(one, url, witness)
    assert asked.code == 2
    assert asked.json["verdict"] == "cannot tell"
    assert "nobody shows" in asked.json["unshown"][0]


def test_a_node_that_hides_its_tiles_is_not_believed(ask: Asking) -> None:
    made = books()
    small = made.static.checkpoint
    made.idle()
    bare = {CHECKPOINT: made.static.checkpoint}
    with served(bare.get) as url, served(witness_of(small, made.origin).get) as witness:
        asked = ask(made, url, witness)
    assert asked.code == 2


def test_tiles_of_another_tree_accuse_nobody(ask: Asking) -> None:
    """A node, or whoever stands before it, serves the honest head with the tiles of another history."""
    one, other = faces(3)
    old = books().static.checkpoint
    mixed = {**other.static.files, CHECKPOINT: one.static.checkpoint}
    with served(mixed.get) as url, served(witness_of(old, one.origin).get) as witness:
        asked = ask(one, url, witness)
    assert asked.code == 2
    assert asked.evidence == []


def test_what_the_log_has_not_signed_is_nobodys_head(ask: Asking) -> None:
    made = books()
    forged = sign_checkpoint(Checkpoint(made.origin, 7, bytes(32)), [signer("somebody")])
    with node(made) as url, served({CHECKPOINT: forged}.get) as liar:
        asked = ask(made, url, liar)
    assert asked.code == 2
    assert "no trusted key" in asked.json["sources"][1]["foreign"][0]


def test_the_head_that_the_trust_file_was_renewed_by(ask: Asking) -> None:
    """Its signature was not kept: it is a doubt, and no evidence."""
    one, other = faces(2)
    head = one.opened().checkpoint
    other.head = one.head = SeenHead(head.size, head.root, one.state.time_ms)
    with node(one) as url:
        assert ask(one, url).code == 0
    with node(other) as url:
        asked = ask(other, url, state="another")
    assert asked.code == 2
    assert "trust file was renewed by" in asked.json["doubts"][0]


def test_it_reads_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = faces(2)
    trust = tmp_path / "trust.json"
    trust.write_bytes(one.trust().encode())
    with node(one) as here, node(other) as there:
        options = ["--trust", str(trust), "--state", str(tmp_path / "state")]
        code = run(["audit", "compare", here, there, *options])
    told = capsys.readouterr().out
    assert code == 1
    assert f"{there} (node): {other.size} leaves" in told
    assert "the largest, sealed 2026-01-01 00:00:" in told
    assert f"{other.size - one.size} behind the largest" in told
    assert "THE LOG LIED: it signed a tree of" in told
    assert "NOT ONE HISTORY: 2 checkpoints; proven against the log: 1." in told


def test_who_does_not_answer_is_named(ask: Asking) -> None:
    made = books()
    empty: dict[str, bytes] = {}
    with node(made) as url, served(empty.get) as nothing:
        asked = ask(made, url, nothing, "http://127.0.0.1:9")
    assert asked.code == 2
    faults = [one["fault"] for one in asked.json["sources"]]
    assert "neither a node" in faults[1]
    assert "cannot be reached" in faults[2]


def test_a_seal_ahead_of_the_witnesses_clocks(ask: Asking) -> None:
    """The operator dates blocks into the future; the cosignatures say when the witness saw it."""
    made = books()
    made.idle(later_ms=3_600_000)
    made.cosign("one", made.state.time_ms // 1000 - 3_600)
    made.policy = policy(1, "one")
    with node(made) as url:
        asked = ask(made, url)
    assert asked.code == 2
    assert "after the witness's clock" in asked.json["doubts"][0]


def test_a_wrong_leaf_is_no_evidence(ask: Asking) -> None:
    """Anybody on the way can spoil an entry; only what leads to the signed root counts."""
    made = books()
    for path, body in made.static.files.items():
        if path.startswith("tile/entries/"):
            made.static.files[path] = body[:-1] + b"\xff"
    with node(made) as url:
        asked = ask(made, url)
    assert asked.code == 0
    assert asked.json["newest"][0]["sealed_ms"] is None
