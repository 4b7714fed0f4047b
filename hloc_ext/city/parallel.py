"""Work on all cores: forked workers, which share what the parent process holds."""

from __future__ import annotations

import gc
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

import cv2
from tqdm import tqdm

from .. import logger
from ..errors import HlocExtError

Task = TypeVar("Task")

_function: Callable[[Any], object] | None = None


def available_cores() -> int:
    """Number of cores that this process may use, at most eight: each renderer takes memory."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 8)


class WorkerError(HlocExtError, RuntimeError):
    """A worker process has ended before its work, mostly because the system had no memory left."""


def run_all(
    tasks: Sequence[Task], function: Callable[[Task], object], workers: int, description: str
) -> None:
    """Call `function` with each task, in forked processes, with a progress bar.

    The workers see whatever `function` refers to (a renderer, for instance) as it is at this moment, without
    a copy; what it returns is thrown away: it writes files. Where processes cannot be forked, one does all.

    Args:
        tasks: arguments; they and nothing else are sent to the workers.
        function: called in any order.
        workers: number of processes.
        description: of the progress bar.

    Raises:
        WorkerError: a worker was killed.
        Exception: the first that `function` raises; tasks that have not begun are dropped.
    """
    # macOS can fork, but its system libraries crash in the copies.
    forks = "fork" in multiprocessing.get_all_start_methods() and sys.platform != "darwin"
    if workers > 1 and not forks:
        logger.warning("Processes cannot be forked here: one process works instead of %d.", workers)
        workers = 1
    if workers <= 1 or len(tasks) <= 1:
        for task in tqdm(tasks, desc=description, dynamic_ncols=True):
            function(task)
        return
    global _function
    _function = function
    context = multiprocessing.get_context("fork")
    # A forked process waits for ever for the threads of OpenCV that its parent had: there must be none.
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    # The collector writes to every object that it looks at, and each process would get its own copy of it.
    gc.collect()
    gc.freeze()
    try:
        with ProcessPoolExecutor(workers, context, _end_with, (os.getpid(),)) as pool:
            futures = [pool.submit(_call, task) for task in tasks]
            try:
                for future in tqdm(
                    as_completed(futures), total=len(futures), desc=description, dynamic_ncols=True
                ):
                    future.result()
            except BrokenProcessPool as error:
                raise WorkerError(
                    f"{description}: a worker process was killed, probably for lack of memory. Run the same"
                    " command again with fewer workers; what is done is kept."
                ) from error
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    finally:
        gc.unfreeze()
        _function = None
        cv2.setNumThreads(threads)


def _end_with(parent: int) -> None:
    """End this process when its parent is gone: nobody would take its results."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _call(task: Any) -> None:
    assert _function is not None
    _function(task)
