"""The exported matcher against PyTorch's, in onnxruntime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from hloc_ext import export
from hloc_ext.__main__ import main as command_line
from hloc_ext.errors import CorruptFileError, InputError, MissingInputError
from hloc_ext.matchers.kd_mamba import WEIGHTS_DIR, load_weights, save_weights
from hloc_ext.models.kd_mamba import KDMamba, KDMambaConfig
from tests.models.networks import randomize, texture

needs_onnx = pytest.mark.usefixtures("onnx")
SMALL = KDMambaConfig(widths=(4, 8, 16), blocks=1, layers=1, state=4, coarse_dim=8, fine_dim=4)


@pytest.fixture(scope="session")
def onnx() -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f'no {package}: pip install "hloc_ext[onnx]"')


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    torch.manual_seed(0)
    network = randomize(KDMamba(SMALL), seed=0)
    network.calibration.copy_(torch.tensor([0.5, 0.7, 0.2]))
    save_weights(network, path)
    return path


@pytest.fixture(scope="module")
def of_any_size(onnx: None, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """File that the command line writes; recording sizes of any value takes most of a minute."""
    path = tmp_path_factory.mktemp("onnx") / "any.onnx"
    assert command_line(["export", "--matcher", str(weights), "--output", str(path), "--dynamic"]) == 0
    return path


def run_onnx(path: Path, image0: Tensor, image1: Tensor) -> list[np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"image0": image0.numpy(), "image1": image1.numpy()})


@torch.no_grad()
def assert_equals_pytorch(
    path: Path, weights: Path, image0: Tensor, image1: Tensor, moves: str = "both", least: int = 5
) -> None:
    """The same cells match, at the same positions and with the same scores."""
    network = load_weights(weights)
    pair = network.describe(network.encode(image0), network.encode(image1))
    expected = network.match(*pair, min_probability=export.MIN_PROBABILITY, moves=moves)
    keypoints0, keypoints1, scores = run_onnx(path, image0, image1)
    height, width = (-(-side // 8) for side in image0.shape[2:])
    assert keypoints0.shape == keypoints1.shape == (height * width, 2) and scores.shape == (height * width,)
    found = scores > 0
    assert found.sum() == len(expected["scores"]) >= least
    np.testing.assert_allclose(keypoints0[found], expected["keypoints0"].numpy(), atol=1e-2)
    np.testing.assert_allclose(keypoints1[found], expected["keypoints1"].numpy(), atol=1e-2)
    np.testing.assert_allclose(scores[found], expected["scores"].numpy(), atol=1e-3)


@pytest.mark.slow
def test_images_of_any_sizes(of_any_size, weights):
    for seed, (size0, size1) in enumerate(
        [
            ((96, 128), (96, 128)),  # equal, multiples of everything
            ((97, 131), (150, 66)),
            ((64, 64), (64, 72)),
            ((8, 200), (33, 40)),
            ((200, 400), (200, 400)),  # more chunks of the scan than in the example
        ]
    ):
        image = texture(seed, 400, 400)
        image0, image1 = image[..., : size0[0], : size0[1]], image[..., : size1[0], : size1[1]]
        assert_equals_pytorch(of_any_size, weights, image0, image1, least=1)


@pytest.mark.slow
def test_many_tokens_as_in_photos(of_any_size, weights):
    image = texture(3, 480, 640)
    assert_equals_pytorch(of_any_size, weights, image, image.flip(3))


@pytest.mark.slow
def test_textureless_images_match_as_in_pytorch(of_any_size, weights):
    blank = torch.zeros(1, 1, 64, 80)
    assert_equals_pytorch(of_any_size, weights, blank, texture(0, 64, 80), least=0)


def test_images_of_one_size(onnx, weights, tmp_path, capsys):
    path = tmp_path / "fixed.onnx"
    size = ["--height", "60", "--width", "84", "--moves", "image0"]
    assert command_line(["export", "--matcher", str(weights), "--output", str(path), *size]) == 0
    assert "images of 84×60" in capsys.readouterr().out
    image = texture(1, 60, 96)
    assert_equals_pytorch(path, weights, image[..., :84], image[..., 12:], moves="image0")
    assert [file.name for file in tmp_path.iterdir()] == ["fixed.onnx"]
    for part in (b"site-packages", str(Path(export.__file__).parent).encode(), b"kd_mamba.py"):
        assert part not in path.read_bytes()  # where on this machine it was recorded


@torch.no_grad()
def test_graph_equals_the_matcher(weights):
    graph = export.ExportedMatcher(load_weights(weights)).eval()
    image = texture(2, 100, 120)
    network = load_weights(weights)
    expected = network.match(*network.describe(network.encode(image), network.encode(image.flip(2))))
    keypoints0, keypoints1, scores = graph(image, image.flip(2))
    found = scores > 0
    assert found.sum() == len(expected["scores"]) > 3
    torch.testing.assert_close(keypoints0[found], expected["keypoints0"])
    torch.testing.assert_close(keypoints1[found], expected["keypoints1"])
    torch.testing.assert_close(scores[found], expected["scores"])


def test_without_its_packages_export_says_what_to_install(weights, tmp_path, monkeypatch):
    monkeypatch.setattr(export.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingInputError, match=r'needs onnx and onnxscript: pip install "hloc_ext\[onnx\]"'):
        export.main(tmp_path / "a.onnx", str(weights))


@needs_onnx
def test_what_cannot_be_exported_is_refused(weights, tmp_path):
    output = tmp_path / "a.onnx"
    with pytest.raises(InputError, match="Only KD-Mamba can be exported; 'loftr' runs the model 'loftr'"):
        export.main(output, "loftr")
    with pytest.raises(InputError, match="There are no images of 0×480 pixels"):
        export.main(output, str(weights), (480, 0))
    with pytest.raises(InputError, match="moves='neither'"):
        export.main(output, str(weights), moves="neither")
    with pytest.raises(CorruptFileError, match="does not hold weights of KD-Mamba"):
        export.main(output, str(WEIGHTS_DIR / "vlad_rootsift.safetensors"))
    assert not output.exists()


@pytest.mark.parametrize("size", [["--height", "480"], ["--dynamic", "--height", "480", "--width", "640"]])
def test_sizes_that_contradict_are_refused(tmp_path, size, capsys):
    with pytest.raises(SystemExit) as caught:
        command_line(["export", "--output", str(tmp_path / "a.onnx"), *size])
    assert caught.value.code == 2 and "--height" in capsys.readouterr().err
