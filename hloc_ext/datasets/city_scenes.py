"""Made-up cities as COLMAP scenes: each view by day and by night, points that both see.

    python -m hloc_ext.datasets.city_scenes --output DIR --seed 101 --count 140

A folder holds one city:

    views/                                  as :func:`~hloc_ext.datasets.city_views.render_views` writes them
    images/NNNN_day.jpg, NNNN_night.jpg     their pictures (links where the file system has them)
    sparse/                                 COLMAP model of all pictures, binary, metres

The points of the model are lifted from depth and found in every picture that sees them: what the triangulated
points of structure from motion are where it matches all there is to match. The pictures of a view by day and
by night have the same pose and see the same points, but for what cars and people hide. Like the keypoints of
a detector the points of a picture have a least distance, so that the number of points that two pictures share
grows with the area that they share, from however near they see it.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pycolmap

from ..formats.atomic import make_dir, replacing
from ..formats.colmap import model_files, write_model
from .city_views import CONDITIONS, CityViews, render_views
from .depth_geometry import DepthView, lift, locate

logger = logging.getLogger(__name__)

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

#: Points are laid on views where there is none in a square of so many pixels.
SPACING = 12
#: A picture sees one point in a square of so many pixels.
LEAST_DISTANCE = 6
# First word of the seeds of what this module draws.
_POINTS = 681


def render_scene(
    output: Path,
    count: int,
    seed: int,
    size: tuple[int, int] = (288, 384),
    extent: float = 200.0,
    workers: int = 1,
) -> Path:
    """Render the views of one city and write their scene, or what is missing of them.

    Args:
        output: folder of the scene.
        count: number of views; there are two pictures of each.
        seed: of the city, the cameras, weather, traffic and points.
        size: (height, width) of the pictures.
        extent: length of the city's sides, metres; 200 m have room for about 140 views.
        workers: number of processes.

    Returns:
        Folder of the COLMAP model.

    Raises:
        InputError: the city has no room for so many views.
    """
    views = render_views(Path(output) / "views", count, seed, size, extent, workers)
    return write_scene(views, output, seed)


def write_scene(views: CityViews, output: Path, seed: int) -> Path:
    """Write pictures and model of views that are rendered; a complete model is kept.

    Args:
        views: of one city.
        output: folder of the scene.
        seed: of the points.

    Returns:
        Folder of the COLMAP model.

    Raises:
        CorruptFileError: a file of the views cannot be read.
    """
    output = Path(output)
    images, sparse = make_dir(output / "images"), output / "sparse"
    if model_files(sparse):
        return sparse
    for index in range(len(views)):
        for condition in CONDITIONS:
            name = picture_name(index, condition)
            _link(views.folder / name, images / name)
    model = scene_model(views, seed)
    write_model(model, sparse)
    logger.info("%s: %d pictures, %d points.", output, model.num_images(), model.num_points3D())
    return sparse


def picture_name(index: int, condition: str) -> str:
    """Name of the picture of a view ``"day"`` or ``"night"``, in the model and its folder."""
    return f"{index:04d}_{condition}.jpg"


def scene_model(views: CityViews, seed: int) -> pycolmap.Reconstruction:
    """COLMAP model of the pictures of all views.

    Args:
        views: of one city.
        seed: of the points.

    Returns:
        Model with a ``PINHOLE`` camera for each view; pictures in the order of the views, each by day, then
        by night. Pixels are COLMAP's: the centre of the top-left one is (0.5, 0.5).
    """
    points = _spread_points(views, seed)
    model = pycolmap.Reconstruction()
    observed = []  # (point, image, keypoint)
    for index in range(len(views)):
        # Two pictures keep the same points of all: as if one detector had ranked them.
        shared = _seen(views.depth_view(index), points)
        model.add_camera_with_trivial_rig(_camera(views, index))
        pose = pycolmap.Rigid3d(views.cam_from_world[index])
        for condition in CONDITIONS:
            pixels, seen = locate(views.depth_view(index, condition), points[shared])
            numbers, keypoints = shared[seen], pixels[seen] + 0.5
            image_id = model.num_images() + 1
            image = pycolmap.Image(
                name=picture_name(index, condition),
                keypoints=keypoints,
                camera_id=index + 1,
                image_id=image_id,
            )
            model.add_image_with_trivial_frame(image, pose)
            rows = np.arange(len(numbers))
            observed.append(np.column_stack([numbers, np.full(len(numbers), image_id), rows]))
    _add_points(model, points, np.concatenate(observed))
    return model


def _spread_points(views: CityViews, seed: int) -> Floats:
    """Points (P, 3) so that each view sees one in each square of :data:`SPACING` that has a depth."""
    points = np.empty((0, 3))
    for index in range(len(views)):
        rng = np.random.default_rng([seed, _POINTS, index])
        view = views.depth_view(index)
        height, width = view.inverse_depth.shape
        rows, columns = height // SPACING, width // SPACING
        taken = np.zeros((rows + 1, columns + 1), bool)
        pixels, seen = locate(view, points)
        column, row = (pixels[seen] / SPACING).astype(int).T
        taken[row, column] = True
        corners = np.argwhere(~taken[:rows, :columns])[:, ::-1] * SPACING
        lifted, known = lift(view, corners + rng.uniform(0, SPACING - 1, corners.shape))
        points = np.concatenate([points, lifted[known]])
    return points


def _seen(view: DepthView, points: Floats) -> Indices:
    """Numbers of the points that a view sees, of those that come too near to each other the first."""
    pixels, seen = locate(view, points)
    numbers = np.flatnonzero(seen)
    column, row = (pixels[numbers] / LEAST_DISTANCE).astype(int).T
    _, first = np.unique(row * (view.inverse_depth.shape[1] + 1) + column, return_index=True)
    return np.sort(numbers[first])


def _camera(views: CityViews, index: int) -> pycolmap.Camera:
    height, width = views.depth_view(index).inverse_depth.shape
    matrix = views.calibration[index]
    params = [matrix[0, 0], matrix[1, 1], matrix[0, 2] + 0.5, matrix[1, 2] + 0.5]
    return pycolmap.Camera(model="PINHOLE", width=width, height=height, params=params, camera_id=index + 1)


def _add_points(model: pycolmap.Reconstruction, points: Floats, observed: Indices) -> None:
    """Add the points of observations (point, image, keypoint), (N, 3), that two pictures see."""
    observed = observed[np.argsort(observed[:, 0], kind="stable")]
    numbers, begins = np.unique(observed[:, 0], return_index=True)
    for number, elements in zip(numbers.tolist(), np.split(observed[:, 1:], begins[1:]), strict=True):
        if len(elements) > 1:
            track = pycolmap.Track([pycolmap.TrackElement(*element) for element in elements.tolist()])
            model.add_point3D(points[number], track, np.zeros(3, np.uint8))


def _link(source: Path, target: Path) -> None:
    """Make `target` the same file as `source`, or a copy of it; one that exists is kept."""
    if target.exists():
        return
    with replacing(target) as temporary:
        temporary.unlink()
        try:
            os.link(source, temporary)
        except OSError:  # another file system, or one without links
            shutil.copyfile(source, temporary)


def build_parser() -> argparse.ArgumentParser:
    """Command-line options."""
    parser = argparse.ArgumentParser(prog="python -m hloc_ext.datasets.city_scenes", description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder of the scene")
    parser.add_argument("--seed", type=int, required=True, help="of the city")
    parser.add_argument("--count", type=int, default=140, help="number of views")
    parser.add_argument("--size", type=int, nargs=2, default=(288, 384), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--extent", type=float, default=200.0, help="sides of the city, metres")
    parser.add_argument("--workers", type=int, default=1, help="number of processes")
    return parser


def cli(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    arguments = vars(build_parser().parse_args(argv))
    arguments["size"] = tuple(arguments["size"])
    print(render_scene(**arguments))


if __name__ == "__main__":
    cli()
