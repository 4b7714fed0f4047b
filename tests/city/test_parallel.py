from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from hloc_ext.city.parallel import WorkerError, run_all


@pytest.mark.parametrize("workers", [1, 2])
def test_every_task_is_done_once(tmp_path: Path, workers: int) -> None:
    run_all(range(20), lambda n: (tmp_path / str(n)).write_text(str(n * n)), workers, "squares")
    assert sorted(int(path.read_text()) for path in tmp_path.iterdir()) == [n * n for n in range(20)]


@pytest.mark.parametrize("workers", [1, 2])
def test_errors_reach_the_caller(workers: int) -> None:
    def fail(number: int) -> None:
        raise ValueError(f"task {number}")

    with pytest.raises(ValueError, match="task"):
        run_all([1, 2, 3], fail, workers, "failing")


def test_a_killed_worker_is_named() -> None:
    with pytest.raises(WorkerError, match="fewer workers"):
        run_all([1, 2, 3], lambda _: os.kill(os.getpid(), signal.SIGKILL), 2, "killed")
