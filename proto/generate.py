"""Makes the Python modules of the gRPC contract from the ``.proto`` files beside this program.

``generate.py`` writes them in place, ``generate.py DIR`` below another directory, and
``generate.py --check`` writes nothing and compares with what is committed. The same sources and the
pinned generators give the same bytes.

Exit code 0: done, or nothing differs; 1: ``--check`` found differences, named in one line; 2: a generator
is missing, has another version, or refuses the sources.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from google.rpc import status_pb2

ROOT: Final = Path(__file__).resolve().parent
PACKAGE: Final = "sudur"
PINNED: Final = {"grpcio-tools": "1.85.1", "mypy-protobuf": "5.1.0"}
GENERATED: Final = ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*_pb2_grpc.pyi")


class GenerateError(Exception):
    """The modules cannot be made; ``str(error)`` says why and what to do."""


def check_versions() -> None:
    """Raises :class:`GenerateError` unless every generator has its pinned version."""
    for name, wanted in PINNED.items():
        try:
            found = version(name)
        except PackageNotFoundError:
            found = "none"
        if found != wanted:
            raise GenerateError(
                f"{name} {wanted} is needed, {found} is installed; install the development group"
            )


def protoc(*arguments: str) -> None:
    """Runs the pinned protoc on all sources, in sorted order. Raises :class:`GenerateError` when it fails."""
    # grpc_tools adds the include directory of google.protobuf by itself.
    includes = [f"-I{ROOT}", f"-I{Path(status_pb2.__file__).parents[2]}"]
    sources = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / PACKAGE).rglob("*.proto"))
    command = [sys.executable, "-m", "grpc_tools.protoc", *includes, *arguments, *sources]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise GenerateError(f"protoc refused the sources:\n{done.stderr.strip()}")


def generate(directory: Path) -> None:
    """Writes the modules and their type stubs below ``directory``, which must exist."""
    check_versions()
    scripts = Path(sysconfig.get_path("scripts"))
    protoc(
        f"--plugin=protoc-gen-mypy={scripts / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={scripts / 'protoc-gen-mypy_grpc'}",
        f"--python_out={directory}",
        f"--grpc_python_out={directory}",
        f"--mypy_out=quiet:{directory}",
        f"--mypy_grpc_out=quiet:{directory}",
    )


def generated_files(directory: Path) -> dict[str, bytes]:
    """The generated files below ``directory``, by relative path."""
    found = (path for pattern in GENERATED for path in (directory / PACKAGE).rglob(pattern))
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in found}


def differences(committed: Path, fresh: Path) -> Iterator[str]:
    """What differs between two trees of generated files, as ``path (how)``, sorted; nothing when equal."""
    old, new = generated_files(committed), generated_files(fresh)
    for name in sorted(old.keys() | new.keys()):
        if name not in old:
            yield f"{name} (missing)"
        elif name not in new:
            yield f"{name} (has no source)"
        elif old[name] != new[name]:
            yield f"{name} (changed)"


def main() -> int:
    """The command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description="Make the Python modules of the gRPC contract.")
    parser.add_argument("directory", nargs="?", type=Path, default=ROOT, help="where to (default: in place)")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; compare DIRECTORY with a fresh run"
    )
    options = parser.parse_args()
    directory: Path = options.directory.resolve()
    try:
        if not options.check:
            directory.mkdir(parents=True, exist_ok=True)
            generate(directory)
            return 0
        with tempfile.TemporaryDirectory() as scratch:
            generate(Path(scratch))
            different = list(differences(directory, Path(scratch)))
    except GenerateError as error:
        print(error, file=sys.stderr)
        return 2
    if different:
        print(f"not as generated: {', '.join(different)}; run proto/generate.py and commit the result")
        return 1
    print("generated files are up to date")
    return 0


if __name__ == "__main__":
    sys.exit(main())
