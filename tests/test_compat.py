"""Differences between versions: torchvision without compiled operators, names of pycolmap."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch

from hloc_ext import compat

# The module as torchvision writes it: two registrations that fail where the operators are absent.
FAKE_MODULE = """
import torch.library

@torch.library.register_fake("torchvision::nms")
def nms(boxes, scores, iou_threshold):
    return "nms"

@torch.library.register_fake("{other}")
def other(boxes):
    return "other"
"""


def run_python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run `code` in a fresh interpreter that looks for modules in `folder` first."""
    root = Path(compat.__file__).parents[1]
    start = f"import sys; sys.path[:0] = [{str(folder)!r}, {str(root)!r}]\n"
    return subprocess.run(
        [sys.executable, "-c", start + textwrap.dedent(code)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture
def fake_torchvision(tmp_path: Path) -> Path:
    """A folder with a package `torchvision` whose operators are absent."""
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text("from . import _meta_registrations\n")
    (package / "_meta_registrations.py").write_text(FAKE_MODULE.format(other="torchvision::qnms"))
    return tmp_path


def test_import_fails_without_the_call(fake_torchvision: Path) -> None:
    result = run_python("import hloc_ext\nimport torchvision", fake_torchvision)
    assert result.returncode != 0
    assert "operator torchvision::nms does not exist" in result.stderr


def test_import_works_after_the_call(fake_torchvision: Path) -> None:
    result = run_python(
        """
        import torch
        original = torch.library.register_fake
        from hloc_ext.compat import allow_cpu_torchvision
        allow_cpu_torchvision()
        import torchvision
        registrations = torchvision._meta_registrations
        assert registrations.nms(None, None, 0.5) == "nms" and registrations.other(None) == "other"
        assert torch.library.register_fake is original
        """,
        fake_torchvision,
    )
    assert result.returncode == 0, result.stderr


def test_other_absent_operators_still_fail(fake_torchvision: Path) -> None:
    module = fake_torchvision / "torchvision" / "_meta_registrations.py"
    module.write_text(FAKE_MODULE.format(other="another::missing"))
    result = run_python(
        """
        import torch
        original = torch.library.register_fake
        from hloc_ext.compat import allow_cpu_torchvision
        allow_cpu_torchvision()
        try:
            import torchvision
        except RuntimeError as error:
            assert "another::missing" in str(error), error
        else:
            raise SystemExit("the import did not fail")
        assert torch.library.register_fake is original
        """,
        fake_torchvision,
    )
    assert result.returncode == 0, result.stderr


def test_existing_operators_are_registered(fake_torchvision: Path) -> None:
    result = run_python(
        """
        import torch
        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor boxes, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor boxes) -> Tensor")
        registered = []
        original = torch.library.register_fake
        torch.library.register_fake = lambda op, *a, **k: registered.append(op) or original(op, *a, **k)
        from hloc_ext.compat import allow_cpu_torchvision
        allow_cpu_torchvision()
        import torchvision
        assert registered == ["torchvision::nms", "torchvision::qnms"], registered
        """,
        fake_torchvision,
    )
    assert result.returncode == 0, result.stderr


def test_one_finder_for_several_calls(tmp_path: Path) -> None:
    result = run_python(
        """
        import sys
        from hloc_ext.compat import allow_cpu_torchvision
        before = list(sys.meta_path)
        allow_cpu_torchvision()
        allow_cpu_torchvision()
        finder, *others = sys.meta_path
        assert others == before
        assert finder.find_spec("torchvision.ops", None) is None
        """,
        tmp_path,
    )
    assert result.returncode == 0, result.stderr


def test_import_of_hloc_ext_installs_nothing(tmp_path: Path) -> None:
    result = run_python(
        """
        import sys
        import hloc_ext
        assert not any("Torchvision" in type(finder).__name__ for finder in sys.meta_path)
        """,
        tmp_path,
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.skipif(importlib.util.find_spec("torchvision") is None, reason="torchvision is not installed")
def test_real_torchvision(tmp_path: Path) -> None:
    result = run_python(
        """
        import torch
        from hloc_ext.compat import allow_cpu_torchvision
        allow_cpu_torchvision()
        import torchvision
        from torchvision.transforms import functional
        image = torch.arange(16.0).reshape(1, 4, 4)
        print(functional.resize(image, [2, 2], antialias=False).flatten().tolist())
        """,
        tmp_path,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[2.5, 4.5, 10.5, 12.5]"


@pytest.mark.parametrize("operator", ["torchvision::no_such_operator", "torchvision::no_such_operator.out"])
def test_absent_operator(operator: str) -> None:
    assert compat._is_absent(operator)


@pytest.mark.parametrize("operator", ["aten::add", "another::missing", torch.ops.aten.add.Tensor])
def test_operator_of_another_library(operator: object) -> None:
    assert not compat._is_absent(operator)


def test_wgs84_transform() -> None:
    equator, pole = compat.wgs84_transform().ellipsoid_to_ecef(np.array([[0.0, 0.0, 0.0], [90.0, 0.0, 0.0]]))
    np.testing.assert_allclose(equator, [6378137.0, 0.0, 0.0], atol=1e-6)
    # The semi-minor axis tells WGS84 from GRS80, whose own is 0.1 mm shorter.
    np.testing.assert_allclose(pole, [0.0, 0.0, 6356752.314245], atol=2e-5)
