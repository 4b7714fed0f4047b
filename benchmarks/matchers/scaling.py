"""Time and memory of KD-Mamba's backbone against the number of tokens."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.tables import Table

from .cost import MEBIBYTE, MeasurementError
from .memory import peak_memory, resident_memory
from .methods import Method
from .options import Options

#: Width and height; the number of tokens doubles from each to the next (within 2 %).
SIZES = ((320, 240), (448, 344), (640, 480), (904, 680), (1280, 960), (1808, 1360))
CONFIGS = ("nano", "small")


def evaluate(methods: Sequence[Method], options: Options) -> list[Table]:
    """A row for each size and configuration; which `methods` are asked for does not matter."""
    table = Table(
        "Backbone of KD-Mamba against the number of tokens",
        [
            "encoder of both images and joint scan (KDMamba.encode, KDMamba.describe), without coarse and"
            " fine matching; random weights, float32",
            f"{options.threads} threads; median of {options.repeats} runs after one that is not counted; a"
            " process for each row",
            "growth: ratio to the row above, per doubling of the tokens",
        ],
        [
            "configuration",
            "size",
            "tokens of both images",
            "ms",
            "growth",
            "MiB above the model",
            "growth of MiB",
        ],
    )
    for config in CONFIGS:
        last: dict[str, Any] | None = None
        for width, height in SIZES:
            row = measure(config, width, height, options)
            if last is not None:
                doublings = row["tokens of both images"] / last["tokens of both images"] / 2
                row["growth"] = row["ms"] / last["ms"] / doublings
                row["growth of MiB"] = row["MiB above the model"] / last["MiB above the model"] / doublings
            table.rows.append(row)
            options.report(row)
            last = row
    return [table]


def measure(config: str, width: int, height: int, options: Options) -> dict[str, Any]:
    """Row of one size, without its growth, from a process of its own.

    Raises:
        MeasurementError: the process failed.
    """
    command = [sys.executable, "-m", "benchmarks.matchers.scaling", config, str(width), str(height)]
    command += ["--threads", str(options.threads), "--repeats", str(options.repeats)]
    environment = dict(os.environ) | {"OMP_NUM_THREADS": str(options.threads)}
    finished = subprocess.run(command, env=environment, capture_output=True, text=True)
    if finished.returncode:
        raise MeasurementError(f"{' '.join(command[2:])} failed:\n{finished.stderr[-2000:]}")
    return json.loads(finished.stdout.splitlines()[-1])


def run(config: str, width: int, height: int, repeats: int) -> dict[str, Any]:
    """Row of one size, in this process."""
    import torch

    from hloc_ext.models.kd_mamba import KDMAMBA_CONFIGS, KDMamba

    torch.manual_seed(0)
    model = KDMamba(KDMAMBA_CONFIGS[config]).eval()
    images = torch.rand(2, 1, 1, height, width)
    before = resident_memory()
    seconds = []
    with torch.no_grad():
        for _ in range(repeats + 1):
            start = time.perf_counter()
            model.describe(model.encode(images[0]), model.encode(images[1]))
            seconds.append(time.perf_counter() - start)
    return {
        "configuration": config,
        "size": f"{width}×{height}",
        "tokens of both images": 2 * -(-width // 8) * -(-height // 8),
        "ms": 1000 * statistics.median(seconds[1:]),
        "MiB above the model": (peak_memory() - before) / MEBIBYTE,
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Measure in this process and print JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.matchers.scaling", description=__doc__)
    parser.add_argument("config", choices=CONFIGS)
    parser.add_argument("width", type=int)
    parser.add_argument("height", type=int)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args(argv)
    import torch

    torch.set_num_threads(args.threads)
    print(json.dumps(run(args.config, args.width, args.height, args.repeats)))


if __name__ == "__main__":
    main()
