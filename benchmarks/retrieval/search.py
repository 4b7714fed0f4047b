"""How long a map of many descriptors is searched, and what memory it takes."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.matchers.cost import MEBIBYTE, MeasurementError
from benchmarks.matchers.memory import peak_memory, resident_memory
from benchmarks.tables import Table

from .methods import Method
from .options import RetrievalOptions

NUM_IMAGES, NUM_DIMENSIONS = 100_000, 512
#: Images that are retrieved, and queries of a batch.
K, NUM_SINGLE, BATCH = 20, 20, 256
INDICES = ("exact", "flat", "ivfpq")
_BLOCK = 8192


def evaluate(methods: Sequence[Method], options: RetrievalOptions) -> list[Table]:
    """A row for each index, each in a process of its own; the methods make no difference."""
    table = Table(
        f"Search among {NUM_IMAGES} descriptors of {NUM_DIMENSIONS} numbers",
        [
            f"random descriptors in 16 bits, the nearest {K}; {options.threads} threads",
            f"ms/query: median of {NUM_SINGLE} single queries after one that is not counted; in a batch: of"
            f" {BATCH} queries at once, median of {options.repeats}",
            "MiB: resident memory above that after the imports when the index is built and has been searched;"
            " peak MiB: its largest value, while the index is built",
        ],
        ["index", "build s", "ms/query", "ms/query in a batch", "MiB", "peak MiB"],
    )
    for kind in INDICES:
        found = run_process(kind, options)
        table.rows.append({"index": kind, **found})
        options.report(table.rows[-1])
    return [table]


def run_process(kind: str, options: RetrievalOptions) -> dict[str, float]:
    """Measure one index in a process of its own.

    Raises:
        MeasurementError: the process failed.
    """
    command = [
        sys.executable,
        "-m",
        __name__,
        kind,
        str(NUM_IMAGES),
        str(options.threads),
        str(options.repeats),
    ]
    environment = dict(os.environ) | {"OMP_NUM_THREADS": str(options.threads), "CUDA_VISIBLE_DEVICES": ""}
    finished = subprocess.run(command, env=environment, capture_output=True, text=True)
    if finished.returncode:
        raise MeasurementError(f"{' '.join(command[2:])} failed:\n{finished.stderr[-2000:]}")
    return json.loads(finished.stdout.splitlines()[-1])


def measure(kind: str, num_images: int, repeats: int) -> dict[str, float]:
    """Build an index and search it, in this process.

    Args:
        kind: of :data:`INDICES`.
        num_images: descriptors in the map.
        repeats: batches of queries.
    """
    from hloc_ext.search import build_index, top_k

    before = resident_memory()
    rng = np.random.default_rng(0)
    database = random_descriptors(num_images, rng)
    start = time.perf_counter()
    search: Callable[[npt.NDArray[Any]], Any]
    if kind == "exact":

        def search(queries: npt.NDArray[Any]) -> Any:
            return top_k(queries, database, K)
    else:
        index = build_index(database, kind)
        del database

        def search(queries: npt.NDArray[Any]) -> Any:
            return index.search(queries.astype(np.float32), K)

    result = {"build s": round(time.perf_counter() - start, 2)}
    queries = random_descriptors(BATCH, rng)
    single = [_timed(search, queries[i : i + 1]) for i in range(NUM_SINGLE + 1)][1:]
    result |= {"MiB": _above(resident_memory(), before), "peak MiB": _above(peak_memory(), before)}
    result["ms/query"] = 1000 * statistics.median(single)
    batches = [_timed(search, queries) for _ in range(repeats)]
    return result | {"ms/query in a batch": 1000 * statistics.median(batches) / BATCH}


def random_descriptors(number: int, rng: np.random.Generator) -> npt.NDArray[np.float16]:
    """Unit vectors, (number, 512); never more than a block of them in higher precision."""
    descriptors = np.empty((number, NUM_DIMENSIONS), np.float16)
    for start in range(0, number, _BLOCK):
        block = rng.standard_normal((min(_BLOCK, number - start), NUM_DIMENSIONS), np.float32)
        descriptors[start : start + _BLOCK] = block / np.linalg.norm(block, axis=1, keepdims=True)
    return descriptors


def _timed(function: Callable[[npt.NDArray[Any]], Any], queries: npt.NDArray[Any]) -> float:
    start = time.perf_counter()
    function(queries)
    return time.perf_counter() - start


def _above(memory: int, before: int) -> int:
    return round((memory - before) / MEBIBYTE)


def main(kind: str, num_images: str, threads: str, repeats: str) -> None:
    """Measure in this process and print JSON."""
    import faiss
    import torch

    import hloc_ext.search  # noqa: F401 (part of the imports)

    torch.set_num_threads(int(threads))
    faiss.omp_set_num_threads(int(threads))
    print(json.dumps(measure(kind, int(num_images), int(repeats))))


if __name__ == "__main__":
    main(*sys.argv[1:])
