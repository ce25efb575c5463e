"""Measures parts of what a range test costs, and writes the table.

python -m benchmarks.cost                 all parts, on Keras's backend here
python -m benchmarks.cost order           one of them
python -m benchmarks.cost snapshot --gb 4
python -m benchmarks.cost --table         only write RESULTS.md
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.cost import pairing
from benchmarks.cost.table import write_table
from keras_lrfinder.version import __version__

_HERE = Path(__file__).parent
# The module of each part; the first two on all threads.
PARTS = {
    "order": "order",
    "snapshot": "memory",
    "steps": "steps",
    "hooks": "steps",
    "calls": "calls",
    "memory": "memory",
    "imports": "small",
    "analysis": "small",
}
_ALL_THREADS = ("order", "snapshot")
_ON_GPU = ("snapshot", "steps", "calls", "memory")
# Threads that share out one small step wait for each other, for as long as
# another program holds a core: ten times the step. One thread does not.
_ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
}
_NAMED = "keras tensorflow tensorflow-cpu jax torch numpy scipy matplotlib"


def main() -> None:
    """Does what the command line says."""
    chosen = _arguments()
    name = os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    # The analysis is plain NumPy: once is enough. PyTorch traces nothing.
    left_out = {"jax": ["analysis"], "torch": ["analysis", "order"]}
    default = [part for part in PARTS if part not in left_out.get(name, ())]
    wanted = chosen.parts or (_ON_GPU if chosen.gpu else default)
    results = chosen.results or _HERE / "results"
    file = results / f"{name}{'-gpu' if chosen.gpu else ''}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    # In this order: what is set for one thread stays set.
    for part in PARTS if not chosen.table else ():
        if part in wanted:
            found = json.loads(file.read_text()) if file.exists() else {}
            found[part] = _measure(part, chosen)
            file.write_text(json.dumps(found, indent=1) + "\n")
            print(f"{part}: {found[part]['seconds']} s", flush=True)
    write_table(results, results.parent / "RESULTS.md")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cost", description=__doc__.splitlines()[0]
    )
    add = parser.add_argument
    add("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    add("--gpu", action="store_true", help="the models for a GPU")
    add("--gb", type=float, default=1.0, help="weights of `snapshot`")
    add("--quick", action="store_true", help="try out: figures mean nothing")
    add("--results", type=Path, help="directory of the stored figures")
    add("--table", action="store_true", help="measure nothing")
    chosen = parser.parse_args()
    if unknown := set(chosen.parts) - set(PARTS):
        parser.error(f"PART is one of {', '.join(PARTS)}. Received: {unknown}")
    return chosen


def _measure(part: str, chosen: argparse.Namespace) -> dict[str, Any]:
    """Measures in a process that has not imported a backend yet."""
    if part not in _ALL_THREADS and not chosen.gpu:
        os.environ.update(_ONE_THREAD)
    start, load = time.perf_counter(), os.getloadavg()[0]
    module, given = f"benchmarks.cost.{PARTS[part]}", [chosen.quick, chosen.gpu]
    if part == "snapshot":
        given.append(chosen.gb)
    rows = pairing.fresh(module, f"measure_{part}", *given)
    now = datetime.datetime.now(datetime.timezone.utc)
    return {
        "rows": rows,
        "quick": chosen.quick,
        "seconds": round(time.perf_counter() - start),
        "load": [round(load, 1), round(os.getloadavg()[0], 1)],
        "machine": _machine(chosen.gpu),
        "versions": _versions(),
        "date": now.date().isoformat(),
    }


def _machine(gpu: bool) -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(": ")[2] for line in lines if "model name" in line]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{(names or ['unknown'])[0]}, {os.cpu_count()} cores, "
        f"{memory:.0f} GiB, {'a GPU' if gpu else 'no GPU'}"
    )


def _versions() -> str:
    found = [
        f"keras_lrfinder {__version__}",
        f"Python {sys.version.split()[0]}",
    ]
    for name in _NAMED.split():
        with contextlib.suppress(metadata.PackageNotFoundError):
            found.append(f"{name} {metadata.version(name)}")
    return ", ".join(found)


if __name__ == "__main__":
    main()
