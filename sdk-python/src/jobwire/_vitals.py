"""Resident memory and CPU share of this process, for the worker's line on the dashboard."""

from __future__ import annotations

import os
import sys
import time

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]


class Vitals:
    """Called: resident bytes now, and CPU percent since the last call (100 = one core)."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.monotonic(), time.process_time()

    def __call__(self) -> tuple[int, float]:
        wall, cpu = time.monotonic(), time.process_time()
        share = 100.0 * (cpu - self._cpu) / max(wall - self._wall, 1e-3)
        self._wall, self._cpu = wall, cpu
        return resident_bytes(), share


def resident_bytes() -> int:
    """Memory of this process now; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, AttributeError):
        if resource is None:
            return 0
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # the peak is the best that other systems tell
        return peak if sys.platform == "darwin" else peak * 1024
