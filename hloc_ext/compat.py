"""What differs between versions of torch, torchvision and pycolmap; nothing here runs on import."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pycolmap

TORCHVISION_MODULE = "torchvision._meta_registrations"


def allow_cpu_torchvision() -> None:
    """Let a torchvision that was built for CUDA be imported beside a torch without CUDA.

    Such a torchvision cannot load its compiled operators. It notices, and guards all shape functions
    that it registers for them but two (`torchvision::nms` and `torchvision::qnms`), so that its import
    ends in "operator torchvision::nms does not exist". After this call the registrations of absent
    operators are skipped while that one module of torchvision runs. Transforms and models then work,
    and an absent operator raises torchvision's own error when it is called.

    Call it before torchvision is imported for the first time. Where torch and torchvision match, every
    operator exists, nothing is skipped and nothing changes. Further calls have no effect.
    """
    if not any(isinstance(finder, _TorchvisionFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _TorchvisionFinder())


def wgs84_transform() -> pycolmap.GPSTransform:
    """Transform between WGS84 (latitude, longitude in degrees, altitude in metres) and metric frames.

    pycolmap 4.0.4 spells the name of the ellipsoid's class differently from 4.1.1 and later.
    """
    import pycolmap

    spelled_right = hasattr(pycolmap, "GPSTransformEllipsoid")
    ellipsoid = getattr(pycolmap, "GPSTransformEllipsoid" if spelled_right else "GPSTransfromEllipsoid")
    return pycolmap.GPSTransform(ellipsoid.WGS84)


class _TorchvisionFinder(MetaPathFinder):
    """Finds one module of torchvision as Python would, and replaces its loader."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != TORCHVISION_MODULE:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or not isinstance(spec.loader, SourceFileLoader):
            return None
        spec.loader = _SkipAbsentOperators(spec.loader.name, spec.loader.path)
        return spec


class _SkipAbsentOperators(SourceFileLoader):
    """Runs a module while `torch.library.register_fake` ignores absent torchvision operators."""

    def exec_module(self, module: ModuleType) -> None:
        import torch

        original = torch.library.register_fake

        def register_fake(op: Any, func: Callable | None = None, /, **options: Any) -> Any:
            if _is_absent(op):
                return (lambda function: function) if func is None else func
            return original(op, func, **options)

        torch.library.register_fake = register_fake
        try:
            super().exec_module(module)
        finally:
            torch.library.register_fake = original


def _is_absent(op: Any) -> bool:
    """Whether `op` names an operator of torchvision that is not registered in this process."""
    import torch

    if not isinstance(op, str) or not op.startswith("torchvision::"):
        return False
    name = op.removeprefix("torchvision::").partition(".")[0]
    return not hasattr(torch.ops.torchvision, name)
