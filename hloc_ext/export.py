"""Export the KD-Mamba matcher to ONNX.

    python -m hloc_ext export --output kd_mamba.onnx                                # images of any size
    python -m hloc_ext export --output kd_mamba.onnx --height 480 --width 640       # of one size

The graph takes two grey images in [0, 1], ``image0`` 1×1×H0×W0 and ``image1`` 1×1×H1×W1 float32, and returns
one row per cell of image 0, N = ceil(H0/8)·ceil(W0/8) in row-major order:

    keypoints0   N×2 float32, pixels, the centre of the top-left pixel is (0, 0)
    keypoints1   N×2 float32
    scores       N float32, the probability that the match is right; 0 where a cell has none

A fixed number of rows needs no operator whose output depends on the values of its input, which many runtimes
lack; ``scores > 0`` selects the matches, the same as those of PyTorch. Sizes are dynamic unless they are
given. Unlike the matcher itself, the graph holds the similarities of all cells at once: 4·N0·N1 bytes,
several times (92 MB each at 640×480, 2.4 GB at 1600×1200), since loops over blocks do not export well.
Resizing, headings and masks stay outside of it.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import logging
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .errors import InputError, MissingInputError
from .formats.atomic import replacing
from .host import get_conf
from .matchers.kd_mamba import MIN_PROBABILITY, MOVES, load_weights
from .models.dual_softmax import Descriptors, Matches
from .models.kd_mamba import KDMamba, cell_centres

OPSET = 18
# The exporter records what these sizes do: they are unequal, and neither they nor the numbers of their tokens
# are multiples of anything, so that no special case is taken for the rule.
_EXAMPLE_SIZES = ((197, 262), (181, 277))


class ExportedMatcher(nn.Module):
    """The matcher as a graph without loops over pairs and blocks.

    Args:
        net: with its weights.
        min_probability: least coarse probability of a match.
        moves: whose keypoints are refined, see :meth:`KDMamba.match`.
    """

    def __init__(self, net: KDMamba, min_probability: float = MIN_PROBABILITY, moves: str = "both") -> None:
        super().__init__()
        self.net = net
        self.log_min_probability = math.log(min_probability)
        self.share0 = {"image0": 1.0, "image1": 0.0, "both": 0.5}[moves]

    def forward(self, image0: Tensor, image1: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Match two images 1×1×H×W; see the module for what is returned."""
        net = self.net
        first, second = net.describe(net.encode(image0), net.encode(image1))
        log_p = log_probabilities(first.coarse, second.coarse, net.scales[0])  # N0×N1
        best, index1 = log_p.max(1)
        index0 = torch.arange(log_p.shape[0], device=log_p.device)
        matched = (log_p.argmax(0)[index1] == index0) & (best > self.log_min_probability)
        pair = torch.zeros_like(index0)
        step1, peak1 = net.refine(first, second, pair, index0, index1)
        step0, peak0 = net.refine(second, first, pair, index1, index0)
        scores = net.score(Matches(pair, index0, index1, best), peak0 + peak1)
        keypoints0 = cell_centres(index0, first.grid) + self.share0 * step0
        keypoints1 = cell_centres(index1, second.grid) + (1 - self.share0) * step1
        return keypoints0, keypoints1, torch.where(matched, scores, torch.zeros_like(scores))


def log_probabilities(first: Descriptors, second: Descriptors, scale: Tensor) -> Tensor:
    """Log of the dual softmax of all tokens of one pair, N0×N1, none of which is missing."""
    similarity = (scale * first.vectors[0]) @ second.vectors[0].T
    exponential = torch.exp(similarity - scale)
    row = first.log_matchability[0] - exponential.sum(1).clamp_min(1e-30).log() - scale
    column = second.log_matchability[0] - exponential.sum(0).clamp_min(1e-30).log() - scale
    return 2 * similarity + row.unsqueeze(1) + column


def main(
    output: Path, matcher: str = "kd-mamba", size: tuple[int, int] | None = None, moves: str = "both"
) -> Path:
    """Write the ONNX file of a matcher.

    Args:
        output: file to write, atomically.
        matcher: a configuration of KD-Mamba (``kd-mamba``, ``kd-mamba-nano``, ``kd-mamba-rot``), or a file of
            its weights (``.safetensors``).
        size: (height, width) of both images; None for images of any sizes.
        moves: whose keypoints leave the centres of their cells: ``image0``, ``image1`` or ``both``.

    Returns:
        `output`.

    Raises:
        MissingInputError: the packages of the extra ``onnx``, or the weights, are absent.
        InputError: the matcher is another network.
    """
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingInputError(f'Export needs {" and ".join(missing)}: pip install "hloc_ext[onnx]".')
    if moves not in MOVES:
        raise InputError(f"moves={moves!r} must be one of {MOVES}.")
    if size is not None and min(size) < 1:
        raise InputError(
            f"There are no images of {size[1]}×{size[0]} pixels: give a height and width above 0."
        )
    graph = ExportedMatcher(_network(matcher), moves=moves).eval()
    output = Path(output)
    with replacing(output) as temporary, _without_chatter():
        program = _export(graph, size)
        for node in program.model.graph.all_nodes():  # where each was recorded, with paths of this machine
            node.metadata_props.clear()
        program.save(str(temporary))
    return output


def _network(matcher: str) -> KDMamba:
    if Path(matcher).suffix:
        return load_weights(matcher)
    conf = get_conf("dense_matchers", matcher)["model"]
    if conf["name"] != "kd_mamba":
        raise InputError(f"Only KD-Mamba can be exported; '{matcher}' runs the model '{conf['name']}'.")
    return load_weights(conf["weights"])


def _export(graph: nn.Module, size: tuple[int, int] | None) -> Any:
    sizes = _EXAMPLE_SIZES if size is None else (size, size)
    # Without texture nothing matches, but nothing that is recorded depends on values.
    images = tuple(torch.zeros(1, 1, *example) for example in sizes)
    dynamic = None
    if size is None:
        side = torch.export.Dim.DYNAMIC
        dynamic = {f"image{i}": {2: side, 3: side} for i in (0, 1)}
    with torch.no_grad():
        return torch.onnx.export(
            graph,
            images,
            dynamo=True,
            opset_version=OPSET,
            input_names=["image0", "image1"],
            output_names=["keypoints0", "keypoints1", "scores"],
            dynamic_shapes=dynamic,
            verbose=False,
        )


@contextlib.contextmanager
def _without_chatter() -> Iterator[None]:
    """Silence what the exporter says about its own code."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        logger.setLevel(level)


def build_parser() -> argparse.ArgumentParser:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m hloc_ext export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--output", type=Path, required=True, help="file to write (.onnx)")
    parser.add_argument("--matcher", default="kd-mamba", help="configuration of KD-Mamba, or file of weights")
    parser.add_argument("--height", type=int, help="of both images, pixels; with --width")
    parser.add_argument("--width", type=int)
    parser.add_argument("--dynamic", action="store_true", help="any sizes; the default where none is given")
    parser.add_argument("--moves", choices=MOVES, default="both", help="whose keypoints are refined")
    return parser


def cli(argv: list[str] | None = None) -> None:
    """Export from the command line."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if (args.height is None) != (args.width is None):
        parser.error("--height and --width belong together")
    if args.dynamic and args.height is not None:
        parser.error("--dynamic leaves the size open: give neither --height nor --width")
    size = None if args.height is None else (args.height, args.width)
    path = main(args.output, args.matcher, size, args.moves)
    sides = "any sizes" if size is None else f"{args.width}×{args.height}"
    print(f"{path}: {path.stat().st_size / 2**20:.1f} MiB, images of {sides}")


if __name__ == "__main__":
    cli()
