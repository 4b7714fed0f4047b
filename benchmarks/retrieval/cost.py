"""What a descriptor costs: parameters, multiplications, time, bytes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.matchers.options import require_folder
from benchmarks.tables import Table
from hloc_ext.formats.images import list_images

from .methods import Method, Photos
from .options import RetrievalOptions
from .photos import sfm_scene

SOURCE = "south_building"
#: Images of a timed run.
NUM_IMAGES = 16


def evaluate(methods: Sequence[Method], options: RetrievalOptions) -> list[Table]:
    """A row for each method; the teacher takes part only where a model of the photos is given."""
    folder = require_folder(options.data / SOURCE / "images")
    names = list_images(folder)[: options.limit or NUM_IMAGES]
    scene = sfm_scene(SOURCE, folder, options) if SOURCE in options.models else None
    chosen = [method for method in methods if scene is not None or not method.needs_model]
    photos = Photos(folder, names, scene)
    columns = ["method", "weights", "parameters M", "GMACs", "ms/image", "images/s", "numbers", "bytes"]
    table = Table(
        "Cost of a descriptor",
        [
            f"{options.threads} threads; median of {options.repeats} runs over {len(names)} photos of"
            f" {SOURCE}, in turn with the other methods, after one that is not counted; from JPEG files,"
            f" decoding included; networks on the {'GPU' if torch.cuda.is_available() else 'CPU'}",
            "GMACs: half of the floating-point operations of torch.utils.flop_counter, which counts matrix"
            " products and convolutions, nothing element-wise",
            "bytes: of a descriptor in 16 bits",
        ],
        columns,
    )
    seconds: dict[str, list[float]] = {method.name: [] for method in chosen}
    for turn in range(options.repeats + 1):
        for method in chosen:
            start = time.perf_counter()
            method.describe(photos)
            if turn > 0:
                seconds[method.name].append((time.perf_counter() - start) / len(names))
    for method in chosen:
        elapsed = statistics.median(seconds[method.name])
        length = method.describe(Photos(folder, names[:1], scene)).shape[1]
        row: dict[str, Any] = {"method": method.name, "weights": method.weights}
        row |= {"ms/image": 1000 * elapsed, "images/s": 1 / elapsed}
        row |= {"numbers": length, "bytes": length * np.dtype(np.float16).itemsize}
        if method.network is not None:
            row["parameters M"] = sum(p.numel() for p in method.network.parameters()) / 1e6
            row["GMACs"] = count_macs(method, Photos(folder, names[:1], scene)) / 1e9
        table.rows.append({column: row.get(column) for column in columns})
        options.report(table.rows[-1])
    table.notes += [
        f"{method.name}: left out, give a model of the photos (--models {SOURCE}=DIR)"
        for method in methods
        if method not in chosen
    ]
    return [table]


def count_macs(method: Method, photos: Photos) -> float:
    """Multiplications with additions for each of some photos."""
    with FlopCounterMode(display=False) as counter:
        method.describe(photos)
    return counter.get_total_flops() / 2 / len(photos.names)
