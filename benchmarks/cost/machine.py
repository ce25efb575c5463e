"""Which machine and which versions the figures belong to."""

from __future__ import annotations

import datetime
import glob
import os
import platform
from collections.abc import Iterable
from importlib import metadata

__all__ = ["describe_machine", "load", "versions"]


def describe_machine() -> dict[str, object]:
    """Returns what can be said of the machine without asking anybody."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory": f"{_memory() / 2**30:.0f} GiB",
        "gpu": "NVIDIA" if glob.glob("/dev/nvidia[0-9]*") else "none",
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
    }


def load() -> float:
    """Returns how many processes wanted to run, over the last minute."""
    return os.getloadavg()[0]


def versions(names: Iterable[str]) -> dict[str, str]:
    """Returns the versions of those packages that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
