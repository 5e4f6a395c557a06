"""Fuzzes the parsers with libFuzzer, guided by which lines of the code an input reaches (`make fuzz`).

    python -m tests.fuzz [--seconds N] [--corpus DIR] [TARGET ...]

Each target runs in a process of its own, since libFuzzer never returns. What it finds stays in the corpus
for the next time. An input that breaks a parser is written to DIR/<target>.crash-*, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
from pathlib import Path

from tests.fuzz.targets import TARGETS, Target

_MAX_INPUT = 65_536
_MAX_RSS_MB = 2_048
_SLOWEST_S = 10
"""An input that takes longer is reported as a hang."""


def main() -> int:
    options = _options()
    if options.alone:
        fuzz(_named(options.targets[0]), options.corpus, options.seconds)
    broken = []
    for target in options.targets or [one.name for one in TARGETS]:
        print(f"fuzz: {target}, {options.seconds} s", flush=True)
        alone = [sys.executable, "-m", "tests.fuzz", "--alone", "--seconds", str(options.seconds)]
        command = [*alone, "--corpus", str(options.corpus), _named(target).name]
        if subprocess.run(command, check=False).returncode:
            broken.append(target)
    print(f"fuzz: broken: {', '.join(broken)}" if broken else "fuzz: nothing found")
    return 1 if broken else 0


def fuzz(target: Target, corpus: Path, seconds: int) -> None:
    """Does not return."""
    # Only here, since only `make fuzz` has it.
    atheris = importlib.import_module("atheris")
    seeds = corpus / target.name
    seeds.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds()):
        (seeds / f"seed-{number}").write_bytes(seed)
    atheris.instrument_all()
    limits = (f"-max_total_time={seconds}", f"-timeout={_SLOWEST_S}", f"-rss_limit_mb={_MAX_RSS_MB}")
    prefix = f"-artifact_prefix={corpus / target.name}."
    quiet = ("-print_final_stats=1", "-verbosity=0")
    atheris.Setup([sys.argv[0], str(seeds), f"-max_len={_MAX_INPUT}", *limits, prefix, *quiet], target.check)
    atheris.Fuzz()


def _named(name: str) -> Target:
    for target in TARGETS:
        if target.name == name:
            return target
    sys.exit(f"fuzz: no target is named {name}; there are {', '.join(one.name for one in TARGETS)}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz parsers with atheris.")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--corpus", type=Path, default=Path(".fuzz"), help="where inputs are kept")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="all when none is named")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
