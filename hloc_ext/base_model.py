"""The contract of HLOC's extractors and matchers, and the loader that finds them by name."""

from __future__ import annotations

import importlib
import inspect
from abc import ABCMeta, abstractmethod
from collections.abc import Mapping
from types import ModuleType
from typing import Any, ClassVar

from torch import nn

from .errors import InputError

Conf = Mapping[str, Any]


class BaseModel(nn.Module, metaclass=ABCMeta):
    """An extractor or matcher, as HLOC defines it.

    A child class defines `default_conf` (every option with its default), `required_inputs` (keys that
    the input dictionary must hold), `_init(conf)` and `_forward(data)`. It never changes the `conf`
    that it is given.

    Extractors take ``image`` (B×C×H×W float in [0, 1]) and return per-image lists or batched tensors:
    ``keypoints`` N×2 (pixels of that image, top-left pixel centre at (0, 0)), ``descriptors`` D×N and
    ``scores`` N, or ``global_descriptor`` B×D with unit norm. Sparse matchers take ``keypoints0``,
    ``descriptors0``, …, and return ``matches0`` B×N0 and ``matching_scores0``. Semi-dense matchers take
    ``image0`` and ``image1`` and return ``keypoints0``, ``keypoints1`` M×2 and ``scores`` M.
    """

    default_conf: ClassVar[dict[str, Any]] = {}
    required_inputs: ClassVar[list[str]] = []

    def __init__(self, conf: Conf) -> None:
        super().__init__()
        unknown = set(conf) - set(self.default_conf) - {"name"}
        if unknown:
            raise InputError(
                f"{type(self).__name__} has no option {sorted(unknown)}; it has {sorted(self.default_conf)}."
            )
        self.conf = {**self.default_conf, **conf}
        self._init(self.conf)

    def forward(self, data: dict[str, Any]) -> dict[str, Any]:
        """Check the inputs and run the model."""
        missing = [key for key in self.required_inputs if key not in data]
        if missing:
            raise InputError(f"{type(self).__name__} needs the inputs {missing}, got {sorted(data)}.")
        return self._forward(data)

    @abstractmethod
    def _init(self, conf: dict[str, Any]) -> None:
        """Build the model; `conf` holds every option."""

    @abstractmethod
    def _forward(self, data: dict[str, Any]) -> dict[str, Any]:
        """Run the model on a checked input dictionary."""


def dynamic_load(root: ModuleType, name: str) -> type[BaseModel]:
    """Load the one model class of module `name` in package `root` (``extractors`` or ``matchers``).

    Raises:
        ModuleNotFoundError: no such module, or one that it imports is not installed.
        InputError: the module defines no model, or several.
    """
    path = f"{root.__name__}.{name}"
    module = importlib.import_module(path)
    classes = [
        value
        for _, value in inspect.getmembers(module, inspect.isclass)
        if value.__module__ == path and issubclass(value, BaseModel)
    ]
    if len(classes) != 1:
        raise InputError(f"Module {path} must define exactly one model, it defines {classes}.")
    return classes[0]
