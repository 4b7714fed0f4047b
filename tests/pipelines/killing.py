"""Run a pipeline in another process and kill it in a given stage."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def start(module: str, *argv: object, output: Path) -> subprocess.Popen[bytes]:
    """Start a pipeline in another process; what it prints goes to the file `output`."""
    command = [sys.executable, "-m", module, *(str(argument) for argument in argv)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with output.open("wb") as file:
        return subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=file, stderr=file)


def kill_when(
    process: subprocess.Popen[bytes],
    condition: Callable[[], bool],
    output: Path,
    delay: float = 0.0,
    timeout: float = 300,
) -> bool:
    """SIGKILL the process once the condition holds; returns whether it was still running."""
    end = time.monotonic() + timeout
    while process.poll() is None and not condition():
        assert time.monotonic() < end, output.read_text(errors="replace")
        time.sleep(0.002)
    try:
        process.wait(delay)
    except subprocess.TimeoutExpired:
        process.kill()
    code = process.wait()
    assert code in (-9, 0), output.read_text(errors="replace")
    return code == -9


def running_stage(outputs: Path) -> str | None:
    """Name of the stage that the log of a run says is running."""
    try:
        stages = json.loads((outputs / "stages.json").read_text())["stages"]
    except FileNotFoundError:
        return None
    return next((stage["name"] for stage in stages if stage["state"] == "running"), None)


def stage_names(outputs: Path) -> list[str]:
    """Stages in the log of a run, in order."""
    return [stage["name"] for stage in json.loads((outputs / "stages.json").read_text())["stages"]]


def kill_at_random(
    module: str, arguments: Sequence[object], outputs: Path, stages: Sequence[str], seed: int
) -> int:
    """Start a pipeline three times and kill it each time, in a random stage or a moment after it began.

    Args:
        module: of the pipeline.
        arguments: of the pipeline, with the output folder.
        outputs: that folder.
        stages: all stages in order.
        seed: of the choice of stages and moments.

    Returns:
        How many of the runs were still running when they were killed.
    """
    generator = random.Random(seed)
    output = outputs.parent / "output.txt"
    kills = 0
    for number in sorted(generator.sample(range(len(stages)), 3)):
        process = start(module, *arguments, output=output)
        condition = partial(is_running_one, outputs, stages[number:])
        kills += kill_when(process, condition, output, generator.uniform(0, 0.7))
    return kills


def is_running_one(outputs: Path, stages: Sequence[str]) -> bool:
    """Whether the running stage is one of these."""
    return running_stage(outputs) in stages
