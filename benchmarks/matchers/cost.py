"""What a pair of images costs: parameters, multiplications, time, memory."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.tables import Table
from hloc_ext.errors import HlocExtError
from hloc_ext.formats.images import list_images, read_image, resize_image

from .memory import peak_memory, resident_memory
from .methods import Method, load, timed
from .options import Options, require_folder

SIZES = ((640, 480), (1024, 768))
SOURCE = "south_building"
#: What times are compared with.
REFERENCE = "loftr"
MEBIBYTE = 2**20


class MeasurementError(HlocExtError, RuntimeError):
    """A process that measures has failed."""


def evaluate(methods: Sequence[Method], options: Options) -> list[Table]:
    """A row for each method and size."""
    require_folder(options.data / SOURCE)
    from torch.cuda import is_available

    columns = ["size", "method", "weights", "parameters M", "GMACs", "CPU ms", f"ratio to {REFERENCE}"]
    columns += ["peak MiB", "of it above imports", *(["GPU ms"] if is_available() else [])]
    table = Table(
        "Cost of a pair",
        [
            f"photos of {SOURCE}; {options.threads} threads; median of {options.repeats} runs in turn"
            " with the other methods, each with another pair, after a pair that is not counted",
            f"ratio to {REFERENCE}: its time in a turn divided by that of the method, median",
            "GMACs: half of the floating-point operations of torch.utils.flop_counter, which counts matrix"
            " products and convolutions, nothing element-wise",
            "peak MiB: largest resident memory of a process of its own that matches one pair, and how much of"
            " it exceeds that after the imports",
        ],
        columns,
    )
    names = [method.name for method in methods]
    for width, height in SIZES:
        size = f"{width}x{height}"
        seconds = measure("time", names, size, options)
        on_gpu = measure("time", names, size, options, gpu=True) if is_available() else {}
        for method in methods:
            row = _fixed_columns(method, size)
            row |= _times(seconds, method.name)
            if method.name in on_gpu and method.network is not None:
                row["GPU ms"] = 1000 * statistics.median(on_gpu[method.name])
            used = measure("memory", [method.name], size, options)
            row["peak MiB"] = round(used["peak"] / MEBIBYTE)
            row["of it above imports"] = round((used["peak"] - used["imports"]) / MEBIBYTE)
            if method.network is not None:
                row["GMACs"] = measure("macs", [method.name], size, options)["macs"] / 1e9
            table.rows.append(row)
            options.report(row)
    return [table]


def _fixed_columns(method: Method, size: str) -> dict[str, Any]:
    weights = None if method.network is None else ("trained" if method.trained else "random")
    row: dict[str, Any] = {"size": size.replace("x", "×"), "method": method.name, "weights": weights}
    if method.network is not None:
        row["parameters M"] = sum(p.numel() for p in method.network.parameters()) / 1e6
    return row


def _times(seconds: dict[str, list[float]], name: str) -> dict[str, float]:
    times = {"CPU ms": 1000 * statistics.median(seconds[name])}
    if REFERENCE in seconds:
        ratios = [a / b for a, b in zip(seconds[REFERENCE], seconds[name], strict=True)]
        times[f"ratio to {REFERENCE}"] = statistics.median(ratios)
    return times


def measure(what: str, names: Sequence[str], size: str, options: Options, gpu: bool = False) -> Any:
    """Run this module in a process of its own.

    Args:
        what: ``time``, ``memory`` or ``macs``.
        names: of the methods.
        size: of the images, ``WIDTHxHEIGHT``.
        options: data, weights, threads and repeats.
        gpu: whether the process sees the GPU.

    Raises:
        MeasurementError: the process failed.
    """
    command = [sys.executable, "-m", "benchmarks.matchers.cost", what, "--size", size, "--methods", *names]
    command += ["--data", str(options.data), "--threads", str(options.threads)]
    command += ["--repeats", str(options.repeats)]
    command += [f"--weights={name}={path}" for name, path in options.weights.items() if name in names]
    environment = dict(os.environ) | {"OMP_NUM_THREADS": str(options.threads)}
    if not gpu:
        environment["CUDA_VISIBLE_DEVICES"] = ""
    finished = subprocess.run(command, env=environment, capture_output=True, text=True)
    if finished.returncode:
        raise MeasurementError(f"{' '.join(command[2:])} failed:\n{finished.stderr[-2000:]}")
    return json.loads(finished.stdout.splitlines()[-1])


def read_images(data: Path, size: tuple[int, int], count: int) -> list[np.ndarray]:
    """Grey photos of (width, height) pixels."""
    folder = require_folder(data / SOURCE)
    names = list_images(folder)
    return [resize_image(read_image(folder / names[i % len(names)], True), size) for i in range(count)]


def run_time(methods: Sequence[Method], images: Sequence[np.ndarray]) -> dict[str, list[float]]:
    """Seconds of each method, in turn: of four successive images the second pair is timed.

    The first pair brings the caches and the memory of the process back from the method before.
    """
    seconds: dict[str, list[float]] = {method.name: [] for method in methods}
    for start in range(0, len(images) - 3, 4):
        for method in methods:
            method.match(images[start], images[start + 1])
            _, elapsed = timed(method, images[start + 2], images[start + 3])
            seconds[method.name].append(elapsed)
    return seconds


def run_macs(method: Method, images: Sequence[np.ndarray]) -> dict[str, float]:
    """Multiplications with additions of one pair."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        method.match(images[0], images[1])
    return {"macs": counter.get_total_flops() / 2}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure in this process and print JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.matchers.cost", description=__doc__)
    parser.add_argument("what", choices=["time", "memory", "macs"])
    parser.add_argument("--methods", nargs="+", required=True)
    parser.add_argument("--size", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", action="append", default=[])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args(argv)
    import cv2
    import torch

    from hloc_ext.gis.registration import matching  # noqa: F401 (part of the imports)

    from . import learned  # noqa: F401

    torch.set_num_threads(args.threads)
    cv2.setNumThreads(args.threads)
    width, height = map(int, args.size.split("x"))
    images = read_images(args.data, (width, height), 4 * args.repeats if args.what == "time" else 2)
    imports = resident_memory()
    weights = dict(pair.split("=", 1) for pair in args.weights)
    methods, _ = load(args.methods, {name: Path(path) for name, path in weights.items()})
    result: dict[str, Any]
    if args.what == "time":
        result = run_time(methods, images)
    elif args.what == "macs":
        result = run_macs(methods[0], images)
    else:
        methods[0].match(images[0], images[1])
        result = {"peak": peak_memory(), "imports": imports}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
