"""KD-Mamba, our ultra-light semi-dense matcher (:mod:`hloc_ext.models.kd_mamba`), and its weights."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..base_model import BaseModel
from ..errors import CorruptFileError, InputError, MissingInputError
from ..formats.atomic import write_bytes
from ..models.attention_teacher import AttentionTeacher, TeacherConfig
from ..models.dual_softmax import mutual_matches
from ..models.feature_cache import FeatureCache, of_each
from ..models.image_view import ImageView
from ..models.kd_mamba import KDMamba, KDMambaConfig
from .loftr import best_per_pair

WEIGHTS_DIR = Path(__file__).parents[1] / "weights"
MOVES = ("image0", "image1", "both")
MIN_PROBABILITY = 0.02  # of a coarse match
_ARCHITECTURES: dict[str, tuple[Any, Any]] = {
    "kd_mamba": (KDMamba, KDMambaConfig),
    "attention_teacher": (AttentionTeacher, TeacherConfig),
}


class KDMambaMatcher(BaseModel):
    """Match two grey images of any size.

    Options:
        ``weights``: name of weights of the package (``kd_mamba_small``, ``kd_mamba_nano``,
            ``kd_mamba_aerial``), or a file of :func:`save_weights`.
        ``match_threshold``: least score, the probability that a match is right.
        ``max_num_matches``: best ones per pair, None for all.
        ``moves``: whose keypoints leave the centres of the 8-pixel cells: ``image0``, ``image1``, or ``both``
            by half of the way each. HLOC's dense matching wants ``image0``: image 1 then has the same
            keypoints in all pairs.
        ``rotations``: number of headings that are tried, k·360°/rotations; 1 where images are upright. The
            image that is turned is image 1, or image 0 where that one moves, which leaves the keypoints of
            image 1 in their place.
        ``scales``: factors of the turned image that are tried with each heading.
        ``choice_size``: headings and scales are compared with images whose longest side is so many pixels.
        ``tries``: so many of the best are matched at full resolution; the one with the largest sum of scores
            counts.
        ``resize_max``: images with a longer side are reduced to it, which bounds time and memory; pixels, or
            None.
        ``cache_bytes``: memory for features of images that are matched again.

    Input: ``image0``, ``image1`` B×1×H×W in [0, 1], and optionally ``mask0``, ``mask1`` B×H×W (0: ignore).
    Output: ``keypoints0``, ``keypoints1`` M×2 (pixels of the inputs, the centre of the top-left pixel is
    (0, 0)), ``scores`` M, ``batch_indexes`` M (pair).
    """

    default_conf: ClassVar[dict[str, Any]] = {
        "weights": "kd_mamba_small",
        "match_threshold": 0.2,
        "max_num_matches": None,
        "moves": "both",
        "rotations": 1,
        "scales": (1.0,),
        "choice_size": 320,
        "tries": 1,
        "resize_max": 2048,
        "cache_bytes": 2**28,
    }
    required_inputs: ClassVar[list[str]] = ["image0", "image1"]

    def _init(self, conf: dict[str, Any]) -> None:
        if conf["moves"] not in MOVES:
            raise InputError(f"KD-Mamba's option moves={conf['moves']!r} must be one of {MOVES}.")
        if conf["rotations"] not in (1, 4, 8):
            raise InputError(f"KD-Mamba's option rotations={conf['rotations']!r} must be 1, 4 or 8.")
        if conf["tries"] < 1:
            raise InputError(f"KD-Mamba's option tries={conf['tries']!r} must be 1 or more.")
        if not conf["scales"] or min(conf["scales"]) <= 0:
            raise InputError(f"KD-Mamba's option scales={conf['scales']!r} must hold positive factors.")
        self.net = load_weights(conf["weights"])
        self.cache = FeatureCache(self.net.encode, conf["cache_bytes"])
        self.headings = [k * 360 / conf["rotations"] for k in range(conf["rotations"])]

    @torch.no_grad()
    def _forward(self, data: dict[str, Any]) -> dict[str, Any]:
        first, second = (self._view(data, index) for index in (0, 1))
        if self.headings == [0] and tuple(self.conf["scales"]) == (1,):
            output = self._match(first, second)
        else:  # every pair has its own heading
            pairs = zip(first.split(), second.split(), strict=True)
            outputs = [self._match_best(self._posed(*pair)) for pair in pairs]
            for number, matches in enumerate(outputs):
                matches["batch_indexes"] += number
            output = {key: torch.cat([matches[key] for matches in outputs]) for key in outputs[0]}
        keep = output["scores"] >= self.conf["match_threshold"]
        output = {key: value[keep] for key, value in output.items()}
        best = best_per_pair(output["scores"], output["batch_indexes"], self.conf["max_num_matches"])
        return output if best is None else {key: value[best] for key, value in output.items()}

    def _view(self, data: dict[str, Any], index: int) -> ImageView:
        image, mask = data[f"image{index}"], data.get(f"mask{index}")
        if image.ndim != 4 or image.shape[1] != 1 or 0 in image.shape:
            raise InputError(f"KD-Mamba needs grey images B×1×H×W, got image{index} of {tuple(image.shape)}.")
        if mask is not None:
            if mask.shape[-2:] != image.shape[-2:] or mask.numel() != image.numel():
                raise InputError(
                    f"mask{index} {tuple(mask.shape)} is not that of {tuple(image.shape)}: use B×H×W."
                )
            mask = mask.reshape(image.shape).bool()
        limit, longest = self.conf["resize_max"], max(image.shape[2:])
        return ImageView(image, mask).resized(min(1.0, limit / longest) if limit else 1.0)

    def _match(self, first: ImageView, second: ImageView) -> dict[str, Tensor]:
        features = [self.cache.encode(view.image, view.mask) for view in (first, second)]
        described = self.net.describe(features[0], features[1])
        output = self.net.match(*described, min_probability=MIN_PROBABILITY, moves=self.conf["moves"])
        output["keypoints0"] = first.restore(output["keypoints0"])
        output["keypoints1"] = second.restore(output["keypoints1"])
        return output

    def _match_best(self, candidates: Sequence[tuple[ImageView, ImageView]]) -> dict[str, Tensor]:
        """Matches of the candidate with the largest sum of scores."""
        outputs = [self._match(*views) for views in candidates]
        return max(outputs, key=lambda output: float(output["scores"].sum()))

    def _posed(self, first: ImageView, second: ImageView) -> list[tuple[ImageView, ImageView]]:
        """Views with one of the images turned and scaled as fits the other best, the best ones first."""
        turns_first = self.conf["moves"] == "image0"
        turned, still = (first, second) if turns_first else (second, first)
        longest = max(*turned.image.shape[2:], *still.image.shape[2:])
        factor = min(1.0, self.conf["choice_size"] / longest)
        fits = []
        for scale in self.conf["scales"]:  # enlarging one image or reducing the other is the same
            reduced, other = turned.resized(factor * min(1, scale)), still.resized(factor * min(1, 1 / scale))
            fits.append(self._fit(other, [reduced.turned(angle) for angle in self.headings]))
        posed = []
        for index in torch.cat(fits).topk(min(self.conf["tries"], len(fits) * len(self.headings))).indices:
            number, heading = divmod(int(index), len(self.headings))
            view = turned.resized(self.conf["scales"][number]).turned(self.headings[heading])
            posed.append((view, still) if turns_first else (still, view))
        return posed

    def _fit(self, still: ImageView, candidates: Sequence[ImageView]) -> Tensor:
        """Sum of the probabilities of the coarse matches of an image with each candidate, in one batch."""
        height, width = (max(view.image.shape[dim] for view in candidates) for dim in (2, 3))
        images, masks = zip(*(view.padded(height, width) for view in candidates), strict=True)
        one = self.net.encode(still.image, still.mask)
        many = of_each(one, lambda tensor: tensor.expand(len(candidates), -1, -1, -1))
        first, second = self.net.describe(many, self.net.encode(torch.cat(images), torch.cat(masks)))
        matches = mutual_matches(first.coarse, second.coarse, self.net.scales[0], MIN_PROBABILITY)
        sums = matches.log_probability.new_zeros(len(candidates))
        return sums.index_add(0, matches.batch, matches.log_probability.exp())


def load_weights(source: str | Path) -> KDMamba:
    """Build a matcher from a file of weights, which also holds its configuration.

    Args:
        source: a file, or the name of weights of the package, e.g. ``kd_mamba_small``.

    Returns:
        The network in evaluation mode.

    Raises:
        MissingInputError: there is no such file.
        CorruptFileError: the file cannot be read, or does not hold weights of this matcher.
    """
    path = Path(source)
    if not path.suffix:
        path = WEIGHTS_DIR / f"{source}.safetensors"
    if not path.exists():
        shipped = sorted(p.stem for p in WEIGHTS_DIR.glob("kd_mamba*.safetensors"))
        raise MissingInputError(f"{path} does not exist. Weights of the package: {shipped}.")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError) as error:
        raise CorruptFileError(f"{path} is not a readable safetensors file: {error}.") from error
    if metadata.get("architecture") not in _ARCHITECTURES:
        raise CorruptFileError(
            f"{path} does not hold weights of KD-Mamba (architecture {metadata.get('architecture')!r});"
            " make such files with python -m hloc_ext.train."
        )
    model_class, config_class = _ARCHITECTURES[metadata["architecture"]]
    try:
        options = json.loads(metadata["config"])
        options["widths"] = tuple(options["widths"])
        model = model_class(config_class(**options))
        model.load_state_dict(state)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CorruptFileError(f"{path} does not fit its own configuration: {error}.") from error
    # A tenth or more faster on a CPU than the order of the file.
    return model.eval().to(memory_format=torch.channels_last)


def save_weights(
    model: KDMamba,
    path: Path,
    about: Mapping[str, str] | None = None,
    state: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a matcher's configuration and weights.

    Args:
        model: the matcher.
        path: safetensors file, written atomically.
        about: further text for the header, e.g. how it was trained.
        state: written instead of the model's own state (e.g. averaged weights).
    """
    architecture = "attention_teacher" if isinstance(model, AttentionTeacher) else "kd_mamba"
    metadata = {
        **(about or {}),
        "architecture": architecture,
        "config": json.dumps(dataclasses.asdict(model.config)),
    }
    state = state or model.state_dict()
    tensors = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    write_bytes(path, save(tensors, metadata))
