"""What describing a panorama and a tile costs: parameters, multiplications, time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.tables import Table
from hloc_ext.cross_view.descriptors import CrossViewNetworks
from hloc_ext.extractors.cross_view import CrossViewDescriptor
from hloc_ext.models.cross_view import VIEWS

#: Pictures of a timed run.
BATCH = 8


def cost_table(methods: Mapping[str, CrossViewNetworks], repeats: int) -> Table:
    """A row for each method and view, and the ratio to the first method.

    Args:
        methods: by name.
        repeats: timed runs of each, in turn.
    """
    first = next(iter(methods))
    columns = ["method", "view", "input", "parameters M", "GMACs", "ms/image"]
    columns += [f"parameters / {first}", f"GMACs / {first}", f"time / {first}"]
    table = Table(
        "Cost of a descriptor",
        [
            "parameters: of what describes the view; a shared encoder counts for each view",
            "GMACs: half of the floating-point operations of torch.utils.flop_counter, which counts matrix"
            " products and convolutions, nothing element-wise; of one picture",
            f"ms/image: median of {repeats} runs over {BATCH} pictures in memory, in turn with the other"
            f" methods, after one that is not counted; {torch.get_num_threads()} threads, on the"
            f" {'GPU' if torch.cuda.is_available() else 'CPU'}",
        ],
        columns,
    )
    for view in VIEWS:
        models = {name: networks.models[view] for name, networks in methods.items()}
        seconds = _seconds(models, repeats)
        rows = {name: _row(model, seconds[name]) for name, model in models.items()}
        for name, row in rows.items():
            base = rows[first]
            ratios = {
                f"{label} / {first}": row[column] / base[column]
                for label, column in (
                    ("parameters", "parameters M"),
                    ("GMACs", "GMACs"),
                    ("time", "ms/image"),
                )
            }
            table.rows.append({"method": name, "view": view, **row, **ratios})
    return table


def _row(model: CrossViewDescriptor, seconds: Sequence[float]) -> dict[str, Any]:
    height, width = model.input_size
    return {
        "input": f"{width}×{height}",
        "parameters M": sum(p.numel() for p in model.encoder.parameters()) / 1e6,
        "GMACs": count_macs(model) / 1e9,
        "ms/image": 1000 * statistics.median(seconds),
    }


def _pictures(model: CrossViewDescriptor, number: int) -> torch.Tensor:
    device = next(model.parameters()).device
    return torch.rand(number, 3, *model.input_size, generator=torch.Generator().manual_seed(0)).to(device)


@torch.inference_mode()
def count_macs(model: CrossViewDescriptor) -> float:
    """Multiplications with additions for one picture."""
    with FlopCounterMode(display=False) as counter:
        model.net(_pictures(model, 1), model.view)
    return counter.get_total_flops() / 2


@torch.inference_mode()
def _seconds(models: Mapping[str, CrossViewDescriptor], repeats: int) -> dict[str, list[float]]:
    """Seconds for one picture in each run."""
    found: dict[str, list[float]] = {name: [] for name in models}
    pictures = {name: _pictures(model, BATCH) for name, model in models.items()}
    for turn in range(repeats + 1):
        for name, model in models.items():
            start = time.perf_counter()
            model.net(pictures[name], model.view)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if turn:
                found[name].append((time.perf_counter() - start) / BATCH)
    return found
