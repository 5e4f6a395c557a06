"""``sudur audit`` as people run it: over files and over HTTP, and every lie about the newest state."""

from __future__ import annotations

import json
import signal
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ledger.checkpoints import Checkpoint, sign_checkpoint
from ledger.figures import FigureKey
from ledger.hashing import leaf_hash
from ledger.inquiries import AsOf
from ledger.reports import figures_json, report
from ledger.resources import (
    CHECKPOINT,
    registry_record_path,
    registry_tile_path,
    status_chunk_path,
    status_list_path,
)
from ledger.status import compress_chunk
from ledger.trust import Trust
from tests.ledger.world import ORIGIN, signer
from tests.tools.audit.logs import LOG, Files, ServedWorld, write
from tests.tools.audit.serving import over_http
from tests.tools.helpers import Commands, assert_one_line, start
from tools.audit.engine import AuditedLog, wall_ms
from tools.audit.errors import StateDamaged
from tools.audit.rounds import Rounds
from tools.audit.sources import open_source
from tools.client_tls import ClientTls


@pytest.fixture(scope="module")
def world() -> ServedWorld:
    """Not to be changed: copy it."""
    made = ServedWorld()
    made.live(range(4))
    for agency in range(3):
        figures = {key: n for key, n in made.reader.figures.items() if key.agency == agency and n}
        made.files.files[f"v1/figures/{agency}"] = stated(made, agency, figures)
    return made


def stated(world: ServedWorld, agency: int, figures: dict[FigureKey, int], **other: int) -> bytes:
    """Figures as a node states them."""
    as_of = replace(AsOf(world.state.size, world.state.time_ms), **other)
    return json.dumps(figures_json(figures, report(agency, figures, as_of), {})).encode()


@pytest.fixture
def trust(world: ServedWorld, tmp_path: Path) -> Path:
    path = tmp_path / "trust.json"
    path.write_bytes(Trust((world.trusted,)).encode())
    return path


def test_clean_over_files_and_over_http(
    sudur: Commands, world: ServedWorld, trust: Path, tmp_path: Path
) -> None:
    files = write(world.files, tmp_path / "log")
    done = sudur("audit", files, "--trust", trust, "--state", tmp_path / "state")
    assert (done.code, done.err) == (0, "")
    assert f"As of size {world.state.size}" in done.out
    assert "Clean: " in done.out
    with over_http(world.files.files) as url:
        for replayed in (world.state.size, 0):
            line = ("audit", url, "--trust", trust, "--state", tmp_path / "other", "--json")
            found = json.loads(sudur(*line).out)
            assert (found["verdict"], found["findings"]) == ("clean", [])
            assert found["root"] == world.files.tree.root().hex()
            checked = found["checked"]
            assert (checked["size"], checked["replayed"]) == (world.state.size, replayed)
            assert (checked["figures"], checked["status_chunks"]) == (3, 1)
            assert checked["registry_records"] > 5


def _flip(data: bytes) -> bytes:
    return data[:-1] + bytes((data[-1] ^ 1,))


def _chunk(world: ServedWorld, files: dict[str, bytes]) -> None:
    path = status_chunk_path(world.state.status.hashes[0])
    files[path] = compress_chunk(_flip(world.reader.status_chunk(0)))


def _no_zlib(world: ServedWorld, files: dict[str, bytes]) -> None:
    files[status_chunk_path(world.state.status.hashes[0])] = b"\x78\x9c" + bytes(1 << 14)


def _status_list(world: ServedWorld, files: dict[str, bytes]) -> None:
    files[status_list_path(world.state.status.root)] = bytes(32)


def _record(world: ServedWorld, files: dict[str, bytes]) -> None:
    path = registry_record_path(leaf_hash(world.state.registry.agencies[2].record.encode()))
    files[path] = _flip(files[path])


def _key(world: ServedWorld, files: dict[str, bytes]) -> None:
    path = registry_record_path(world.state.registry.agencies[1].key_tree.hashes[0])
    files[path] = _flip(files[path])


def _tile(world: ServedWorld, files: dict[str, bytes]) -> None:
    path = registry_tile_path(world.state.registry.root, 0, 0, len(world.state.registry.tree))
    files[path] = _flip(files[path])


def _counter(world: ServedWorld, files: dict[str, bytes]) -> None:
    figures = {key: n for key, n in world.reader.figures.items() if key.agency == 1 and n}
    key = next(iter(figures))
    files["v1/figures/1"] = stated(world, 1, {**figures, key: figures[key] + 1})


def _backdated(world: ServedWorld, files: dict[str, bytes]) -> None:
    figures = {key: n for key, n in world.reader.figures.items() if key.agency == 1 and n}
    files["v1/figures/1"] = stated(world, 1, figures, time_ms=5)


def _amid(world: ServedWorld, files: dict[str, bytes]) -> None:
    files["v1/figures/1"] = stated(world, 1, {}, size=7)


def _others(world: ServedWorld, files: dict[str, bytes]) -> None:
    files["v1/figures/1"] = files["v1/figures/2"]


def _not_json(world: ServedWorld, files: dict[str, bytes]) -> None:
    files["v1/figures/1"] = b"[" * 100_000


def _forged(world: ServedWorld, files: dict[str, bytes]) -> None:
    note = files[CHECKPOINT]
    files[CHECKPOINT] = note[:-10] + (b"AAAAAAAA" if note[-10:-2] != b"AAAAAAAA" else b"BBBBBBBB") + note[-2:]


def _another_root(world: ServedWorld, files: dict[str, bytes]) -> None:
    files[CHECKPOINT] = sign_checkpoint(Checkpoint(ORIGIN, world.state.size, bytes(32)), [LOG])


def _old_fork(world: ServedWorld, files: dict[str, bytes]) -> None:
    """The newest is honest; that of an earlier size, which was seen, is of another history now."""
    size = len(world.blocks[0]) + len(world.blocks[1])
    files[f"checkpoint/{size}"] = sign_checkpoint(Checkpoint(ORIGIN, size, bytes(32)), [LOG])


Lie = Callable[[ServedWorld, dict[str, bytes]], None]


@pytest.mark.parametrize(
    ("lie", "code", "part"),
    [
        (_chunk, "SERVED_WRONG", "status/chunk/"),
        (_no_zlib, "SERVED_WRONG", "status/chunk/"),
        (_status_list, "SERVED_WRONG", "status/list/"),
        (_record, "SERVED_WRONG", "registry/record/"),
        (_key, "SERVED_WRONG", "registry/record/"),
        (_tile, "SERVED_WRONG", "registry/tile/"),
        (_counter, "FIGURES_DIFFER", "v1/figures/1"),
        (_backdated, "FIGURES_DIFFER", "v1/figures/1"),
        (_amid, "FIGURES_DIFFER", "size 7"),
        (_others, "FIGURES_DIFFER", "v1/figures/1"),
        (_not_json, "FIGURES_DIFFER", "v1/figures/1"),
        (_forged, "SIGNATURE_INVALID", ""),
        (_another_root, "SERVED_WRONG", "checkpoint/"),
    ],
    ids=lambda one: getattr(one, "__name__", None),
)
def test_a_lie_about_the_newest_state(
    sudur: Commands, world: ServedWorld, trust: Path, tmp_path: Path, lie: Lie, code: str, part: str
) -> None:
    files = world.files.copied()
    lie(world, files.files)
    found = _audit(sudur, files, trust, tmp_path, 1)
    (finding,) = found["findings"]
    assert (found["verdict"], finding["severity"], finding["code"]) == ("lie", "lie", code)
    assert part in finding["where"]
    text = sudur("audit", tmp_path / "log", "--trust", trust, "--state", tmp_path / "state")
    assert text.code == 1
    assert "LIE" in text.out
    assert "NOT as it was signed" in text.out


def _audit(sudur: Commands, files: Files, trust: Path, tmp_path: Path, code: int) -> Any:
    log = write(files, tmp_path / "log")
    done = sudur("audit", log, "--trust", trust, "--state", tmp_path / "state", "--json")
    assert done.code == code, done
    return json.loads(done.out)


def test_a_second_history_is_kept_as_evidence(
    sudur: Commands, world: ServedWorld, trust: Path, tmp_path: Path
) -> None:
    files = world.files.copied()
    assert _audit(sudur, files, trust, tmp_path, 0)["verdict"] == "clean"
    other = world.copied()
    other.live([9], documents=5)
    longer = world.copied()
    longer.live([10], documents=9)
    assert _audit(sudur, other.files, trust, tmp_path, 0)["verdict"] == "clean"
    for path in (tmp_path / "log").rglob("*"):
        if path.is_file():
            path.unlink()
    (finding,) = _audit(sudur, longer.files, trust, tmp_path, 1)["findings"]
    assert finding["code"] == "HISTORY_FORKED"
    done = sudur("verify-evidence", finding["evidence"], "--trust", trust)
    assert done.code == 0, done


def test_an_earlier_checkpoint_that_was_signed_anew(
    sudur: Commands, world: ServedWorld, trust: Path, tmp_path: Path
) -> None:
    early = ServedWorld()
    seen = early.files.checkpoint
    assert early.genesis == world.genesis
    _audit(sudur, early.files, trust, tmp_path, 0)
    files = world.files.copied()
    size = early.state.size
    assert files.files[f"checkpoint/{size}"] == seen
    files.files[f"checkpoint/{size}"] = sign_checkpoint(Checkpoint(ORIGIN, size, bytes(32)), [LOG])
    (finding,) = _audit(sudur, files, trust, tmp_path, 1)["findings"]
    assert finding["code"] == "HISTORY_FORKED"


def test_what_cannot_be_told(sudur: Commands, world: ServedWorld, trust: Path, tmp_path: Path) -> None:
    state = ("--trust", trust, "--state", tmp_path / "state")
    done = sudur("audit", "http://127.0.0.1:9", *state)
    assert done.code == 2
    assert "UNAVAILABLE" in done.out
    _audit(sudur, world.files, trust, tmp_path, 0)
    early = ServedWorld()
    found = _audit(sudur, early.files, trust, tmp_path, 2)
    assert [one["code"] for one in found["findings"]] == ["STALE"]
    files = world.files.copied()
    files.files[CHECKPOINT] = sign_checkpoint(
        Checkpoint(ORIGIN, world.state.size, world.files.tree.root()), [signer("stranger")]
    )
    found = _audit(sudur, files, trust, tmp_path, 2)
    assert [one["code"] for one in found["findings"]] == ["CHECKPOINT_UNTRUSTED"]
    files = world.files.copied()
    del files.files[status_list_path(world.state.status.root)]
    for path in (tmp_path / "log" / "status" / "list").iterdir():
        path.unlink()
    found = _audit(sudur, files, trust, tmp_path, 2)
    assert [one["code"] for one in found["findings"]] == ["NOT_SERVED"]


def test_a_server_that_fails_amid_it(
    sudur: Commands, world: ServedWorld, trust: Path, tmp_path: Path
) -> None:
    served: dict[str, bytes | int] = dict(world.files.files)
    line = ("--trust", trust, "--state", tmp_path / "state", "--json")
    with over_http(served) as url:
        path = "tile/entries/000"
        honest, served[path] = served[path], 503
        found = json.loads(sudur("audit", url, *line).out)
        assert [one["code"] for one in found["findings"]] == ["UNAVAILABLE"]
        served[path] = honest
        assert json.loads(sudur("audit", url, *line).out)["verdict"] == "clean"


@pytest.mark.parametrize("answer", [403, 302, b"<html>log in</html>", b""])
def test_what_a_proxy_says_is_no_lie(
    sudur: Commands, trust: Path, tmp_path: Path, answer: int | bytes
) -> None:
    with over_http({CHECKPOINT: answer}) as url:
        assert sudur("audit", url, "--trust", trust, "--state", tmp_path / "state").code == 2


def test_entries_that_are_not_served_are_no_lie(
    sudur: Commands, world: ServedWorld, trust: Path, tmp_path: Path
) -> None:
    for answer in (404, 403):
        with over_http({**world.files.files, "tile/entries/000": answer}) as url:
            done = sudur("audit", url, "--trust", trust, "--state", tmp_path / "state")
        assert (done.code, "LIE" in done.out) == (2, False), done.out


def test_whoever_follows_with_a_damaged_directory_is_told(
    world: ServedWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(*_: object, **__: object) -> None:
        raise StateDamaged("a bundle is missing", where="entries")

    monkeypatch.setattr(AuditedLog, "advance", damaged)
    files = write(world.files, tmp_path / "log")
    with AuditedLog.open(tmp_path / "state", world.trusted) as log:
        rounds = Rounds(log, open_source(str(files), ClientTls()), clock_ms=wall_ms)
        with pytest.raises(StateDamaged):
            rounds.run()


def test_usage(sudur: Commands, trust: Path, tmp_path: Path) -> None:
    state = ("--trust", trust, "--state", tmp_path / "state")
    assert_one_line(sudur("audit", tmp_path / "absent", *state), 64, "neither a URL nor a directory")
    assert_one_line(sudur("audit", "http://x", *state, "--metrics", "h:1"), 64, "--follow")
    assert_one_line(sudur("audit", tmp_path, "--trust", trust), 64, "--state")
    assert "compare" in sudur("audit", "--help").out


def test_followed_for_a_while(world: ServedWorld, trust: Path, tmp_path: Path) -> None:
    served: dict[str, bytes | int] = {}
    later = world.copied()
    later.live([7], documents=5)
    with over_http(served) as url:
        line = ("audit", url, "--trust", trust, "--state", tmp_path / "state")
        process = start(*line, "--follow", "--pause", "0.05", "--json", "--metrics", "127.0.0.1:0")
        assert process.stderr is not None

        def until(**wanted: Any) -> dict[str, Any]:
            assert process.stderr is not None
            for text in process.stderr:
                event: dict[str, Any] = json.loads(text)
                if wanted.items() <= event.items():
                    return event
            raise AssertionError(f"it ended before {wanted}")

        metrics = until(event="metrics")["url"]
        until(event="finding", code="NOT_FOUND")
        served.update(world.files.files)
        until(event="audited", size=world.state.size)
        served.update(later.files.files)
        served.update({path: 404 for path in served if path.startswith("v1/")})
        until(event="audited", size=later.state.size)
        chunk = status_chunk_path(later.state.status.hashes[0])
        with urllib.request.urlopen(metrics) as answer:
            text = answer.read().decode()
        assert f"sudur_audit_size {later.state.size}.0" in text
        assert chunk in served
        served[CHECKPOINT] = sign_checkpoint(Checkpoint(ORIGIN, later.state.size, bytes(32)), [LOG])
        until(event="finding", code="HISTORY_FORKED")
        process.send_signal(signal.SIGTERM)
        until(event="stopped", lied=True)
        process.communicate(timeout=30)
        assert process.returncode == 1
