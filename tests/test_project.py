"""The frame: locks that bind nobody to a host, one version, samples that are what they say."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
import unicodedata
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
LOCKS = ["requirements.lock", "requirements-oracle.lock", "requirements-fuzz.lock"]
REQUIREMENT = re.compile(
    r"(?P<name>[a-z0-9-]+)==(?P<version>[^ ;]+)(?: ; [^\\]+?)?(?P<hashes>( +--hash=sha256:[0-9a-f]{64})+)"
)
SAMPLES = sorted((ROOT / "samples" / "documents").iterdir())
MAGIC = {".pdf": b"%PDF-1.", ".png": b"\x89PNG\r\n\x1a\n", ".jpg": b"\xff\xd8\xff"}


def locked(name: str) -> dict[str, str]:
    """Package -> version of a lock; fails on a line that is not one pinned, hashed requirement."""
    found: dict[str, str] = {}
    for line in (ROOT / name).read_text().replace("\\\n", " ").splitlines():
        if line.startswith("#"):
            continue
        match = REQUIREMENT.fullmatch(line)
        assert match, f"{name}: not a pinned and hashed requirement: {line[:80]}"
        assert match["name"] not in found, f"{name}: {match['name']} is listed twice"
        found[match["name"]] = match["version"]
    return found


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=]", requirement)[0] for requirement in requirements}


@pytest.mark.parametrize("name", LOCKS)
def test_lock_is_pinned_hashed_and_names_no_host(name: str) -> None:
    assert locked(name)
    assert "://" not in (ROOT / name).read_text()


def test_lock_holds_what_the_project_asks_for() -> None:
    data = pyproject()
    groups = data["dependency-groups"]
    wanted = names([*data["project"]["dependencies"], *groups["build"], *groups["test"]])
    assert wanted - set(locked("requirements.lock")) == set()


def test_generator_and_run_time_are_of_one_release() -> None:
    lock = locked("requirements.lock")
    assert lock["grpcio-tools"] == lock["grpcio"]
    pins = dict(item.split("==") for item in pyproject()["dependency-groups"]["test"] if "==" in item)
    assert pins == {name: lock[name] for name in ("grpcio-tools", "mypy-protobuf")}


@pytest.mark.parametrize("name", ["grpcio", "protobuf", "pynacl", "rocksdict", "merkletools", "hypothesis"])
def test_the_environment_is_the_locked_one(name: str) -> None:
    lock = locked("requirements.lock") | locked("requirements-oracle.lock")
    assert version(name) == lock[name], "the environment is older than the lock; run make setup"


def test_installed_version_is_the_projects() -> None:
    assert version("sudur") == pyproject()["project"]["version"]


@pytest.mark.parametrize("package", ["ledger", "transport", "node", "tools", "proto/sudur"])
def test_packages_are_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").read_bytes() == b""


def test_scripts_are_executable_and_parse() -> None:
    for script in ("run", "lock", "etcd"):
        path = ROOT / ".ci" / script
        assert path.stat().st_mode & 0o111
        subprocess.run(["bash", "-n", str(path)], check=True)


def test_find_python_says_what_is_missing() -> None:
    result = subprocess.run(
        ["sh", str(ROOT / ".ci" / "find-python"), "no-such-python"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert result.stdout == ""
    assert "no-such-python" in result.stderr
    assert "PYTHON=" in result.stderr


def test_etcd_is_left_alone_when_it_is_here(tmp_path: Path) -> None:
    script = str(ROOT / ".ci" / "etcd")
    for name in ("etcd", "etcdctl"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    bash = shutil.which("bash")
    assert bash is not None
    done = subprocess.run([bash, script], env={"PATH": str(tmp_path)}, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_machine_that_cannot_install_etcd_says_what_to_do(tmp_path: Path) -> None:
    bash = shutil.which("bash")
    assert bash is not None
    done = subprocess.run(
        [bash, str(ROOT / ".ci" / "etcd")],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "etcd-server etcd-client" in done.stdout
    assert "apt-get" in done.stderr
    assert "not cluster" in done.stderr


def test_samples_are_small_and_in_three_languages() -> None:
    assert sum(path.stat().st_size for path in SAMPLES) < 300_000
    assert {path.stem.rsplit("-", 1)[1] for path in SAMPLES} == {"ar", "ckb", "en"}
    assert {path.suffix for path in SAMPLES} == {".txt", *MAGIC}


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_sample_is_of_its_kind(path: Path) -> None:
    data = path.read_bytes()
    if path.suffix in MAGIC:
        assert data.startswith(MAGIC[path.suffix])
        return
    text = data.decode()
    assert unicodedata.is_normalized("NFC", text)
    assert "\r" not in text  # committed byte for byte: a converted line end would be another document
    assert text.startswith(("نموذج", "نموونە"))
