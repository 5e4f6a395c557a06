"""The parts that read what others wrote: packed leaves, roots of submissions, HTTP, what was kept."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.checkpoints import Checkpoint, sign_checkpoint
from ledger.errors import FormatError, OutOfRange, TileFormatError
from ledger.hashing import leaf_hashes, merkle_root
from ledger.leaves import LeafType
from ledger.submissions import SubmissionLeaf, pack, records_roots
from ledger.tiles import parse_bundle
from tests.ledger.world import ORIGIN, issue
from tests.tools.audit.logs import LOG, ServedWorld
from tests.tools.audit.serving import over_http
from tools.audit import heads
from tools.audit.bundles import split
from tools.audit.engine import AuditedLog
from tools.audit.errors import StateDamaged
from tools.audit.many_http import ManyHttp
from tools.audit.shown import source_of
from tools.audit.snapshot import Snapshot
from tools.audit.sources import DirectoryResources
from tools.client_tls import ClientTls
from tools.errors import AnswerWrong, NotFound, Unavailable

LEAVES = st.one_of(st.binary(max_size=60), st.integers(0, 9).map(lambda n: issue(n, n)))


@given(st.lists(LEAVES, min_size=1, max_size=12), st.integers(0, 400), st.booleans())
def test_packed_leaves_are_cut_as_a_bundle_is(leaves: list[bytes], cut: int, whole: bool) -> None:
    data = pack(leaves)
    data = data if whole else data[: cut % len(data)] or b"\x00"
    try:
        wanted = parse_bundle(data)
    except FormatError:
        with pytest.raises(TileFormatError):
            split(data)
        return
    found, seals = split(data)
    assert found == wanted
    assert seals == [at for at, leaf in enumerate(wanted) if leaf[1:2] == bytes((LeafType.SEAL,))]


def test_roots_of_submissions() -> None:
    world = ServedWorld()
    world.live(range(1))
    leaves = world.reader.leaves
    hashes = leaf_hashes(leaves)
    roots = records_roots(leaves, hashes, 1000)
    submissions = [at for at, leaf in enumerate(leaves) if leaf[1] == LeafType.SUBMISSION]
    assert sorted(roots) == [1000 + at for at in submissions]
    for at in submissions:
        count = SubmissionLeaf.decode(leaves[at]).count
        assert roots[1000 + at] == merkle_root(hashes[at + 1 : at + 1 + count])
    last = submissions[-1]
    assert 1000 + last not in records_roots(leaves[: last + 1], hashes[: last + 1], 1000)


@given(st.binary(max_size=300))
def test_a_snapshot_is_read_or_named_as_damaged(data: bytes) -> None:
    with pytest.raises(StateDamaged):
        Snapshot.decode(data, "here")


def test_many_at_once_over_http() -> None:
    files: dict[str, bytes | int] = {f"tile/0/{n:03d}": bytes((n % 256,)) * 8192 for n in range(100)}
    with over_http(files) as url, ManyHttp(url, ClientTls()) as source:
        paths = list(files)
        assert list(source.fetch_many(paths)) == list(files.values())
        mixed = list(source.fetch_many([*paths[:3], "tile/0/x999/999", *paths[3:5]]))
        assert [isinstance(one, NotFound) for one in mixed] == [False] * 3 + [True] + [False] * 2
        for answer, error in ((bytes(8193), AnswerWrong), (302, AnswerWrong), (503, Unavailable)):
            files["tile/0/004"] = answer
            with pytest.raises(error):
                list(source.fetch_many(paths))
        files["tile/0/004"] = b"again"
        assert list(source.fetch_many(paths))[4] == b"again"
    with ManyHttp(url, ClientTls()) as source, pytest.raises(Unavailable):
        list(source.fetch_many(paths))


def test_a_directory_gives_only_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "secret").write_text("x")
    source = DirectoryResources(tmp_path / "log")
    for path in ("../secret", "/etc/passwd", "tile/../../secret", "tile//0", "..", ""):
        with pytest.raises(OutOfRange, match="no path"):
            source.fetch(path)
    with pytest.raises(NotFound):
        source.fetch("tile/0/000")


def test_a_file_that_cannot_be_read_hides_none_beside_it(tmp_path: Path) -> None:
    world = ServedWorld()
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "1").symlink_to(tmp_path / "nowhere")
    (kept / "2").write_bytes(world.files.checkpoint)
    source = source_of(str(kept), world.trusted, lambda _: pytest.fail("nothing is asked"))
    assert [one.data for one in source.heads] == [world.files.checkpoint]
    assert "cannot be read" in source.fault


def test_a_log_that_signs_and_shows_nothing_fills_no_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heads, "MOST_KEPT", 3)
    world = ServedWorld()
    with AuditedLog.open(tmp_path, world.trusted) as log:
        for size in range(100, 110):
            log.see(log.open_note(sign_checkpoint(Checkpoint(ORIGIN, size, bytes(32)), [LOG])))
        assert len(log.heads.all) == 3
        signed = log.open_note(world.files.checkpoint)
        assert log.advance(world.files, signed) == world.state
