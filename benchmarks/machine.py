"""What the figures depend on besides the code."""

from __future__ import annotations

import importlib.util
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import numpy as np
import pycolmap
import torch

import hloc_ext


def describe_machine() -> list[str]:
    """Processor cores, memory, load and versions, one fact per line."""
    gibibytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    return [
        f"machine: {os.cpu_count()} cores ({platform.machine()}), {gibibytes:.0f} GiB memory, {gpu}",
        f"load average before the run (1, 5, 15 minutes): {load}",
        f"versions: hloc_ext {hloc_ext.__version__} ({commit(Path(hloc_ext.__file__).parent)}),"
        f" Python {platform.python_version()}, pycolmap {pycolmap.__version__}, torch {torch.__version__}"
        f" ({torch.get_num_threads()} threads), NumPy {np.__version__}",
    ]


def describe_host(host: str | None) -> str:
    """The HLOC that is compared with."""
    if host is None:
        return "HLOC: not installed"
    package, _, child = host.partition(".")
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return f"HLOC: {host}"
    folder = Path(next(iter(spec.submodule_search_locations)), child)
    try:
        version = f"version {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        version = commit(folder)
    kind = "official HLOC" if host == "hloc" else "imcui.hloc (official HLOC is not installed)"
    return f"HLOC: {kind}, {version}"


def commit(folder: Path) -> str:
    """Commit of the checkout that a folder belongs to."""
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--exclude", "*"]
    try:
        finished = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        return "commit unknown"
    return f"commit {finished.stdout.strip()}" if finished.returncode == 0 else "commit unknown"
