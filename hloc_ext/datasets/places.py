"""Pairs of pictures that show the same place, for training retrieval: COLMAP scenes and plain photos.

A sample of :class:`PlacePairs` is a dictionary of tensors of two pictures, of :class:`PlaceImages` of one
(without the first dimension). H = W is the side of the pictures.

    image        (2, 3, H, W) float32, RGB, normalised with the mean and deviation of ImageNet
    points       (2, 197, 3) float32: this and the next four are the spatial tokens, all 0 for photos,
    rays         (2, 197, 3) float32  of :class:`~hloc_ext.datasets.sfm_scene.SpatialTokens`
    log_depths   (2, 197) float32
    state        (2, 197) int64
    rotation     (2, 6) float32
    published    (2, 197, 192) float32, only if wanted: the published tokens
    scene        (2,) int64, number of the scene, -1 for photos
    index        (2,) int64, number of the picture in its scene, or of the photo

Pictures of scenes are resized to a square as a whole, so that the cells of the tokens fit. What can change is
light, weather and hour; a mirrored picture has mirrored tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from ..errors import InputError, MissingInputError
from ..extractors.crossvit import IMAGENET_MEAN, IMAGENET_STD
from ..formats.images import read_image, resize_image
from .color_change import ColorChange, change_color, find_color_change
from .covisibility import MIN_SHARED, Measure, Overlap
from .homography import STREET, HomographyConfig, random_views, warp_view
from .night import NightConfig, is_dark, night_version
from .sfm_scene import NUM_CELLS, PUBLISHED_DIM, SfmScene, published_tokens

Pixels = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.int64]
Sample = dict[str, torch.Tensor]

#: Scene of the plain photos.
PHOTOS = -1
#: Photos are kept with a shorter side of so many times that of the samples, so that views can be cut from it.
PHOTO_RESERVE = 1.6
#: Two views of one photo.
VIEWS = replace(STREET, max_rotation=12.0, max_roll=6.0, scale=(0.6, 1.7), perspective=0.15, translation=0.35)
# Ratios of width to height of views of photos before they become squares.
_ASPECTS = (0.7, 1.5)
# First words of the seeds of what this module draws.
_PLACES, _MIRRORS = 701, 702

_MEAN = np.array(IMAGENET_MEAN, np.float32)
_STD = np.array(IMAGENET_STD, np.float32)


@dataclass(frozen=True, eq=False)
class PlaceScene:
    """A COLMAP scene with its pictures.

    Attributes:
        scene: model.
        overlap: which of its images show the same place.
        images: folder of the pictures.
        night_suffix: of night versions on disk (of a CycleGAN, say): ``<stem><suffix>`` beside the picture
            ``<stem>.jpg``; pictures without one get a photometric one.
    """

    scene: SfmScene
    overlap: Overlap
    images: Path
    night_suffix: str | None = None

    @classmethod
    def read(
        cls,
        model_dir: Path,
        images: Path,
        measure: Measure = "jaccard",
        night_suffix: str | None = None,
        min_shared: int = MIN_SHARED,
    ) -> PlaceScene:
        """Read a model and see whether its pictures are there.

        Args:
            model_dir: COLMAP model.
            images: folder of the pictures.
            measure: of :class:`~hloc_ext.datasets.covisibility.Overlap`.
            night_suffix: see the class.
            min_shared: of the overlap, too. Where images have many points, as in made-up cities, a larger
                number makes grey pairs of those that share but a glimpse.

        Raises:
            MissingInputError: model or a picture is missing, or all night versions are.
            CorruptFileError: the model is damaged.
        """
        scene = SfmScene.read(Path(model_dir))
        place = cls(scene, Overlap(scene, measure, min_shared), Path(images), night_suffix)
        missing = next((name for name in scene.names if not place.path(name).exists()), None)
        if missing is not None:
            raise MissingInputError(
                f"Image {place.path(missing)} of the model in {model_dir} does not exist: give the"
                " folder of the images that the model was made of."
            )
        if night_suffix is not None and all(place.night_path(name) is None for name in scene.names):
            raise MissingInputError(
                f"No image of {images} has a night version named with '{night_suffix}': write them, or"
                " leave the suffix away."
            )
        return place

    def path(self, name: str) -> Path:
        """File of a picture."""
        return self.images / name

    def night_path(self, name: str) -> Path | None:
        """File of its night version; None if there is none."""
        if self.night_suffix is None:
            return None
        path = self.images / f"{name[: -len(Path(name).suffix)]}{self.night_suffix}"
        return path if path.exists() else None


class PlaceImages(Dataset[Sample]):
    """All pictures of scenes, then all photos, as they are: for validation, mining, and to make pairs of.

    Decoded pictures are kept in memory, up to a bound, at about the size of the samples.

    Args:
        scenes: numbered from 0.
        photos: image files that belong to no scene.
        size: side of the samples, pixels.
        published: give the published tokens too.
        cache_mib: memory for decoded pictures, MiB; each process of a DataLoader has its own.

    Raises:
        InputError: no picture, or an option out of range.
    """

    def __init__(
        self,
        scenes: Sequence[PlaceScene] = (),
        photos: Sequence[Path] = (),
        size: int = 240,
        published: bool = False,
        cache_mib: int = 512,
    ) -> None:
        if size < 16 or cache_mib < 0:
            raise InputError(f"size={size}, cache_mib={cache_mib}: expected 16 or more, and 0 or more.")
        self.scenes, self.photos = list(scenes), [Path(photo) for photo in photos]
        self.size, self.published = size, published
        counts = [(number, len(place.scene)) for number, place in enumerate(self.scenes)]
        #: Scene and number of each picture, (N, 2) int64.
        self.pictures: Indices = np.array(
            [(s, i) for s, count in [*counts, (PHOTOS, len(self.photos))] for i in range(count)], np.int64
        ).reshape(-1, 2)
        if not len(self.pictures):
            raise InputError("There is no picture: give scenes or photos.")
        self._cache: dict[Path, Pixels] = {}
        self._cache_left = cache_mib << 20

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, row: int) -> Sample:
        if not 0 <= row < len(self):
            raise IndexError(row)
        scene, index = (int(value) for value in self.pictures[row])
        return self.sample(scene, index, self.square(scene, index))

    def sample(self, scene: int, index: int, picture: Pixels, mirrored: bool = False) -> Sample:
        """Tensors of one picture.

        Args:
            scene: its number, or :data:`PHOTOS`.
            index: of the picture.
            picture: (H, H, 3) RGB, upright; it is mirrored here.
            mirrored: flip picture and tokens.
        """
        seen = picture[:, ::-1] if mirrored else picture
        normalised = (seen * np.float32(1 / 255) - _MEAN) / _STD
        values = {"image": np.ascontiguousarray(normalised.transpose(2, 0, 1))}
        values |= self._tokens(scene, index, mirrored)
        sample = {name: torch.from_numpy(value) for name, value in values.items()}
        return sample | {"scene": torch.tensor(scene), "index": torch.tensor(index)}

    def square(self, scene: int, index: int) -> Pixels:
        """A picture as a whole, (H, H, 3) RGB."""
        if scene == PHOTOS:
            return self._resized(self.photo(index))
        place = self.scenes[scene]
        return self._load(place.path(place.scene.names[index]), square=True)

    def night_square(self, scene: int, index: int) -> Pixels | None:
        """Its night version on disk, (H, H, 3) RGB; None if there is none."""
        if scene == PHOTOS:
            return None
        place = self.scenes[scene]
        path = place.night_path(place.scene.names[index])
        return None if path is None else self._load(path, square=True)

    def photo(self, index: int) -> Pixels:
        """A photo that belongs to no scene, (h, w, 3) RGB, of any shape and a size that serves for views."""
        return self._load(self.photos[index], square=False)

    def _load(self, path: Path, square: bool) -> Pixels:
        """Decode and reduce a picture, or take it from memory."""
        if path in self._cache:
            return self._cache[path]
        side = self.size if square else round(PHOTO_RESERVE * self.size)
        picture = read_image(path, least_side=side)
        height, width = picture.shape[:2]
        factor = side / min(height, width)
        if square:
            picture = self._resized(picture)
        elif factor < 1:
            picture = resize_image(picture, (round(width * factor), round(height * factor)))
        if picture.nbytes <= self._cache_left:
            self._cache[path] = picture
            self._cache_left -= picture.nbytes
        return picture

    def _resized(self, picture: Pixels) -> Pixels:
        return np.asarray(resize_image(picture, (self.size, self.size)), np.uint8)

    def _tokens(self, scene: int, index: int, mirrored: bool) -> dict[str, npt.NDArray]:
        if scene == PHOTOS:
            number = NUM_CELLS + 1
            shapes = {"points": (number, 3), "rays": (number, 3), "log_depths": (number,), "rotation": (6,)}
            tokens: dict[str, npt.NDArray] = {
                name: np.zeros(shape, np.float32) for name, shape in shapes.items()
            }
            tokens["state"] = np.zeros(number, np.int64)
            if self.published:
                tokens["published"] = np.zeros((number, PUBLISHED_DIM), np.float32)
            return tokens
        model = self.scenes[scene].scene
        tokens = model.tokens(index, mirrored)._asdict()
        if self.published:
            tokens["published"] = published_tokens(model, index, mirrored)
        return tokens


class PlacePairs(Dataset[Sample]):
    """Two pictures of one place; see the module for the sample.

    Of a scene: an anchor and one of the images that are positive with it. Of a photo: two views that overlap.
    Either picture may become a night version, unless it is dark already, and changes in light, weather and
    camera. Samples depend on seed and index alone.

    Args:
        images: scenes and photos.
        seed: of all samples.
        length: number of samples; with `batches` it is theirs.
        batches: (M, B) rows of :attr:`anchors`: sample b of batch m has number m · B + b. Without it anchors
            are drawn.
        photo_share: of the anchors that are drawn, where there are both scenes and photos.
        night: probability of a night version of each picture.
        change: of pictures of scenes, which differ in light and weather already; a name of
            :data:`~hloc_ext.datasets.color_change.COLOR_CHANGES` or a configuration.
        photo_change: of photos.
        least_overlap: positives of a smaller weight are not drawn.
        mirrored: share of mirrored samples; those of a batch are mirrored together, because the mirrored
            picture of a place shows another one.
        batch_size: samples that are mirrored together where there are no `batches`.
        views: ranges of the transform between two views of a photo.
        night_config: of photometric night versions.
        validation: pictures as they are, the second view of a photo excepted, not mirrored.

    Raises:
        InputError: no picture can be an anchor, or an option out of range.
    """

    def __init__(
        self,
        images: PlaceImages,
        seed: int = 0,
        length: int = 10_000,
        batches: npt.ArrayLike | None = None,
        photo_share: float = 0.5,
        night: float = 0.3,
        change: ColorChange | str = "mild",
        photo_change: ColorChange | str = "day",
        least_overlap: float = 0.0,
        mirrored: float = 0.5,
        batch_size: int = 1,
        views: HomographyConfig = VIEWS,
        night_config: NightConfig | None = None,
        validation: bool = False,
    ) -> None:
        self.images, self.seed, self.length = images, seed, length
        self.photo_share, self.night, self.least_overlap = photo_share, night, least_overlap
        self.change, self.photo_change = (
            find_color_change(value) if isinstance(value, str) else value for value in (change, photo_change)
        )
        self.mirrored, self.batch_size = mirrored, batch_size
        self.views, self.night_config, self.validation = views, night_config, validation
        #: Scene and number of the pictures that have another one of their place, (A, 2) int64.
        self.anchors: Indices = images.pictures[[self._has_pair(*row) for row in images.pictures.tolist()]]
        if not len(self.anchors):
            raise InputError("No two images of a scene show the same place: use larger scenes, or photos.")
        self.batches: Indices | None = None
        if batches is not None:
            self.batches = np.asarray(batches, np.int64)
            if self.batches.ndim != 2 or not self._are_anchors(self.batches):
                raise InputError(
                    f"batches {self.batches.shape}: expected M×B rows of the {len(self.anchors)} anchors."
                )
            self.length, self.batch_size = self.batches.size, self.batches.shape[1]

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self.length:
            raise IndexError(index)
        rng = np.random.default_rng([self.seed, _PLACES, index])
        row = self._draw(rng) if self.batches is None else int(self.batches.flat[index])
        scene, number = (int(value) for value in self.anchors[row])
        numbers = [number, number if scene == PHOTOS else self._positive(scene, number, rng)]
        if scene == PHOTOS:
            pictures = self._photo_views(number, rng)
        else:
            pictures = [self._changed_square(scene, number, rng) for number in numbers]
        mirror = not self.validation and self._is_mirrored(index)
        pair = [
            self.images.sample(scene, number, picture, mirror)
            for number, picture in zip(numbers, pictures, strict=True)
        ]
        return {name: torch.stack([sample[name] for sample in pair]) for name in pair[0]}

    def _has_pair(self, scene: int, index: int) -> bool:
        return scene == PHOTOS or len(self._positives(scene, index)) > 0

    def _are_anchors(self, rows: Indices) -> bool:
        return bool(((rows >= 0) & (rows < len(self.anchors))).all())

    def _positives(self, scene: int, index: int) -> Indices:
        overlap = self.images.scenes[scene].overlap
        positives = overlap.positives(index)
        if self.least_overlap <= 0 or not len(positives):
            return positives
        return positives[overlap.weights([index, *positives])[0, 1:] >= self.least_overlap]

    def _positive(self, scene: int, index: int, rng: np.random.Generator) -> int:
        return int(rng.choice(self._positives(scene, index)))

    def _draw(self, rng: np.random.Generator) -> int:
        """Row of an anchor; the photos are the last ones."""
        of_scenes = int(np.count_nonzero(self.anchors[:, 0] != PHOTOS))
        if 0 < of_scenes < len(self.anchors):
            if rng.random() < self.photo_share:
                return int(rng.integers(of_scenes, len(self.anchors)))
            return int(rng.integers(of_scenes))
        return int(rng.integers(len(self.anchors)))

    def _is_mirrored(self, index: int) -> bool:
        rng = np.random.default_rng([self.seed, _MIRRORS, index // self.batch_size])
        return bool(rng.random() < self.mirrored)

    def _changed_square(self, scene: int, index: int, rng: np.random.Generator) -> Pixels:
        picture = self.images.square(scene, index)
        if self.validation:
            return picture
        if rng.random() < self.night:
            stored = self.images.night_square(scene, index)
            if stored is None and not is_dark(picture):
                return night_version(picture, rng, self.night_config)
            picture = picture if stored is None else stored
        return change_color(picture, rng, self.change)

    def _photo_views(self, index: int, rng: np.random.Generator) -> list[Pixels]:
        """Two views of a photo, of one shape that is squeezed to a square; in validation the first is all."""
        photo, size = self.images.photo(index), self.images.size
        stretch = np.sqrt(np.exp(rng.uniform(*np.log(_ASPECTS))))
        shape = round(size / stretch), round(size * stretch)
        transforms = random_views(rng, (photo.shape[0], photo.shape[1]), shape, self.views)
        # Of pixels of the square; centres of pixels are whole numbers.
        scale = np.array([shape[1] / size, shape[0] / size])
        squeeze = np.diag([*scale, 1.0])
        squeeze[:2, 2] = (scale - 1) / 2
        seen = [warp_view(photo, transform @ squeeze, (size, size)) for transform in transforms]
        if self.validation:
            return [self.images.square(PHOTOS, index), seen[1]]
        return [self._changed_photo(view, rng) for view in seen]

    def _changed_photo(self, view: Pixels, rng: np.random.Generator) -> Pixels:
        if rng.random() < self.night and not is_dark(view):
            return night_version(view, rng, self.night_config)
        return change_color(view, rng, self.photo_change)
