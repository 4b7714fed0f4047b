"""Peak memory of this process and its children, without a dependency."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

MEBIBYTE = 2**20


def _resident_bytes(pid: str) -> int:
    pages = Path("/proc", pid, "statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _children(pid: str) -> list[str]:
    found: list[str] = []
    for task in Path("/proc", pid, "task").iterdir():
        children = task / "children"
        if children.exists():
            found.extend(children.read_text().split())
    return found


def tree_memory(pid: str = "self") -> int:
    """Resident bytes of a process and its descendants; pages that they share count in each.

    Args:
        pid: process id, or ``self``.

    Returns:
        Bytes; 0 for a process that has ended meanwhile.

    Raises:
        NotImplementedError: the system has no ``/proc`` as Linux has it.
    """
    if not sys.platform.startswith("linux"):
        raise NotImplementedError("Memory of processes is read from /proc, which only Linux has.")
    try:
        return _resident_bytes(pid) + sum(tree_memory(child) for child in _children(pid))
    except (FileNotFoundError, ProcessLookupError):
        return 0


def _lifetime_peak() -> int | None:
    """Largest resident size that this process ever had, in bytes; None where the system keeps none."""
    if sys.platform.startswith("linux"):
        # Not ru_maxrss: a process inherits that of the one that started it.
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        return None
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class PeakMemory:
    """Context manager that records the peak memory of its block.

    On Linux a thread reads the resident sizes of the process tree every `interval` seconds, and the
    high-water mark of the process adds what lies between two readings. Elsewhere only the high-water
    mark is known, which belongs to the block if it rose there, and is an upper bound if not.

    Args:
        interval: seconds between two readings.
        on_sample: called after each reading, in the thread.

    Attributes:
        peak: bytes; None where the system tells nothing.
    """

    def __init__(self, interval: float = 0.05, on_sample: Callable[[], None] | None = None) -> None:
        self.peak: int | None = None
        self._interval = interval
        self._on_sample = on_sample
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._mark: int | None = None

    def _sample(self) -> None:
        self.peak = max(self.peak or 0, tree_memory())

    def _watch(self) -> None:
        while not self._stop.wait(self._interval):
            if sys.platform.startswith("linux"):
                self._sample()
            if self._on_sample is not None:
                self._on_sample()

    def __enter__(self) -> PeakMemory:
        self._mark = _lifetime_peak()
        if sys.platform.startswith("linux"):
            self._sample()
        self._thread = threading.Thread(target=self._watch, name="peak-memory", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        mark = _lifetime_peak()
        if mark is not None and (self.peak is None or self._mark is None or mark > self._mark):
            self.peak = max(self.peak or 0, mark)
