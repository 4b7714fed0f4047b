"""What the command lines of the benchmarks share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection
from pathlib import Path

import cv2
import torch


def set_threads(number: int) -> None:
    """Threads of torch and OpenCV."""
    torch.set_num_threads(number)
    cv2.setNumThreads(number)


def named_path(example: str) -> Callable[[str], tuple[str, Path]]:
    """Type of an argument ``NAME=PATH``, of which `example` is one."""

    def parse(text: str) -> tuple[str, Path]:
        name, separator, path = text.partition("=")
        if not (name and separator and path):
            raise argparse.ArgumentTypeError(f"'{text}' is not NAME=PATH, for instance {example}")
        return name, Path(path)

    return parse


def chosen_methods(
    parser: argparse.ArgumentParser, args: argparse.Namespace, known: Collection[str]
) -> tuple[list[str], dict[str, Path]]:
    """Names of ``--methods`` and of others in ``--weights``, and these weights; exits at unknown names."""
    weights = dict(args.weights)
    if unknown := [name for name in args.methods if name not in known and name not in weights]:
        parser.error(f"no method {unknown}: choose from {', '.join(known)}")
    return [*args.methods, *(name for name in weights if name not in args.methods)], weights
