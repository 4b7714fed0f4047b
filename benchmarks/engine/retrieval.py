"""Retrieval among global descriptors: seconds and memory of a fresh process of each side."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np

from hloc_ext.formats.atomic import make_dir, replacing
from hloc_ext.formats.pairs import read_retrieval
from hloc_ext.host import available_hosts

from .comparison import Row, Setup, identical

NUM_DIMENSIONS = 1024
NUM_LARGE = 100_000
OURS = "hloc_ext"
MEBIBYTE = 2**20
REPOSITORY = Path(__file__).resolve().parents[2]


def compare(setup: Setup) -> list[Row]:
    """Each descriptor is a query; the database is all others."""
    host, folder = setup.require_host(), setup.scratch("retrieval")
    num, k = setup.num_descriptors, setup.num_matched
    descriptors = write_descriptors(setup.workdir, num)
    runs: dict[str, list[dict[str, float]]] = {host: [], OURS: []}
    for _ in range(setup.repeats):
        for package in runs:
            runs[package].append(run_process(package, descriptors, folder / f"pairs-{package}.txt", k))
    hloc, ours = (read_retrieval(folder / f"pairs-{package}.txt") for package in (host, OURS))
    same = sum(a == b for name in hloc for a, b in zip(hloc[name], ours.get(name, []), strict=False))
    equality = identical(same, sum(map(len, hloc.values())), "ranks")
    return [
        Row(
            f"retrieval {num}², top {k}, {unit}",
            [run[key] for run in runs[host]],
            [run[key] for run in runs[OURS]],
            equality,
        )
        for key, unit in (("seconds", "s"), ("mebibytes", "peak MiB"))
    ]


def measure_large(setup: Setup) -> list[Row]:
    """Ours with many descriptors, kept in 16 bits; HLOC's needs the square of their number in memory."""
    descriptors = write_descriptors(setup.workdir, NUM_LARGE)
    output = setup.scratch("retrieval") / "pairs-large.txt"
    run = run_process(OURS, descriptors, output, setup.num_matched, half=True)
    return [
        Row(f"retrieval {NUM_LARGE}², top {setup.num_matched}, {unit}", [], [run[key]], "ours, half=True")
        for key, unit in (("seconds", "s"), ("mebibytes", "peak MiB"))
    ]


def write_descriptors(folder: Path, num: int, seed: int = 0) -> Path:
    """Write random unit descriptors in 16 bits, as both extraction stages do; once."""
    path = make_dir(folder) / f"descriptors-{num}.h5"
    if not path.exists():
        rng = np.random.default_rng(seed)
        with replacing(path) as temporary, h5py.File(temporary, "w", libver="latest") as fd:
            for number in range(num):
                descriptor = rng.standard_normal(NUM_DIMENSIONS)
                descriptor /= np.linalg.norm(descriptor)
                fd[f"{number:06d}.jpg/global_descriptor"] = descriptor.astype(np.float16)
    return path


def run_process(
    package: str, descriptors: Path, output: Path, k: int, half: bool = False
) -> dict[str, float]:
    """Run the stage of a package in a fresh process.

    Returns:
        ``seconds`` of the stage without imports, and ``mebibytes``, the peak of the whole process.
    """
    command = [sys.executable, "-m", __name__, package, str(descriptors), str(output), str(k)]
    path = os.pathsep.join([str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])])
    finished = subprocess.run(
        [*command, "half"] if half else command,
        cwd=output.parent,  # imcui.hloc makes a log file in the current folder
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    if finished.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{finished.stderr[-2000:]}")
    return json.loads(finished.stdout.splitlines()[-1])


def main(package: str, descriptors: str, output: str, k: str, *half: str) -> None:
    """Run one stage in this process and print its seconds and memory."""
    from hloc_ext.report.memory import PeakMemory

    available_hosts()  # makes the checkout of HLOC_ROOT importable
    stage = importlib.import_module(f"{package}.pairs_from_retrieval")
    options = {"half": True} if half else {}
    start = time.perf_counter()
    with PeakMemory() as memory:
        stage.main(Path(descriptors), Path(output), int(k), **options)
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "mebibytes": (memory.peak or 0) / MEBIBYTE}))


if __name__ == "__main__":
    main(*sys.argv[1:])
