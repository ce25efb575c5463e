"""Measures, in one or more environments, and writes the table.

python -m benchmarks.cost
python -m benchmarks.cost --with jax=ENV/bin/python --part steps
python -m benchmarks.cost --table
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.cost.measure import ENVIRONMENTS
from benchmarks.cost.measure import PARTS
from benchmarks.cost.table import write_table

_HERE = Path(__file__).parent
_ROOT = _HERE.parent.parent
# Threads that share out one small step wait for each other, for as long as
# another program holds a core: ten times the step. One thread does not.
_ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
}


def main() -> None:
    """Does what the command line says."""
    chosen = _arguments()
    for name, python in [] if chosen.table else _pythons(chosen):
        print(f"== {name}", flush=True)
        subprocess.run(
            [
                *(python, "-m", "benchmarks.cost.measure", name),
                str(_HERE / "results" / f"{name}.json"),
                *(f"--part={part}" for part in chosen.part or ()),
                *(["--quick"] if chosen.quick else []),
            ],
            check=True,
            cwd=_ROOT,
            env=_environment(name),
        )
    write_table(_HERE / "results", _HERE / "RESULTS.md")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cost", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--with",
        dest="pythons",
        action="append",
        metavar="NAME=PYTHON",
        help="measure NAME, one of "
        f"{', '.join(ENVIRONMENTS)}, with this interpreter; may be given "
        "several times. Default: the backend that Keras uses here, with "
        "this interpreter",
    )
    parser.add_argument(
        "--part",
        action="append",
        choices=PARTS,
        help="measure only this; may be given several times",
    )
    parser.add_argument(
        "--quick", action="store_true", help="try out: figures mean nothing"
    )
    parser.add_argument(
        "--table", action="store_true", help="write the table, measure nothing"
    )
    return parser.parse_args()


def _pythons(chosen: argparse.Namespace) -> list[tuple[str, str]]:
    if not chosen.pythons:
        backend = os.environ.get("KERAS_BACKEND", "tensorflow")
        return [(backend, sys.executable)]
    pairs = [text.partition("=")[::2] for text in chosen.pythons]
    for name, python in pairs:
        if name not in ENVIRONMENTS or not python:
            raise SystemExit(f"--with takes NAME=PYTHON. Received: {name}")
    return pairs


def _environment(name: str) -> dict[str, str]:
    backends = {"packages": "tensorflow", "peers": "torch"}
    return {
        **os.environ,
        **_ONE_THREAD,
        "KERAS_BACKEND": backends.get(name, name),
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }


if __name__ == "__main__":
    main()
