"""Spatial tokens of the images of a COLMAP model: where each part of a picture lies in the scene.

An image has one token for its camera and one for each of 14 × 14 cells, as in the teacher of CrossViT
retrieval (papers.md S3). The published tokens (:func:`published_tokens`) place all cells at one depth and
scale each image to itself, so that positions cannot be compared. Here the depth of a cell is that of its
triangulated points, distortion is respected, and all images of a model share one frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import pycolmap
from scipy.sparse import csr_matrix
from scipy.spatial.transform import Rotation

from ..errors import CorruptFileError, InputError, MissingInputError
from ..formats.colmap_stream import ModelStream, StoredImage
from ..formats.images import read_image

Floats = npt.NDArray[np.float64]

#: Rows and columns of cells; CrossViT's coarse branch has as many patches.
GRID = 14
NUM_CELLS = GRID * GRID
#: States of a token.
UNKNOWN, STRUCTURE, SKY, CAMERA = range(4)
#: Least part of a cell that a mask must cover.
SKY_COVER = 0.9
#: Depth of all published tokens, units of the model; and their length.
PUBLISHED_DEPTH, PUBLISHED_DIM = 10.0, 192

# Steps towards the principal point in search of a pixel that can be undistorted.
_SHRINK, _SHRINK_STEPS = 0.95, 100


class SpatialTokens(NamedTuple):
    """Tokens of one image: row 0 is the camera, rows 1 to 196 are the cells in raster order.

    Attributes:
        points: (197, 3) float32, scene frame: the camera centre; then centre + depth · ray of each cell, with
            the median depth of the cells of structure where a cell has none, and 1 if the image has none.
        rays: (197, 3) float32, unit length, scene frame: the viewing direction; then the undistorted rays of
            the centres of the cells.
        log_depths: (197,) float32, logarithm of the median distance from the camera centre to the
            triangulated points of the cell, scene units; 0 where unknown.
        state: (197,) int64: 0 no structure known, 1 structure, 2 sky, 3 camera.
        rotation: (6,) float32, the first two rows of cam_from_scene, one after the other (Zhou et al., "On
            the Continuity of Rotation Representations in Neural Networks", CVPR 2019).
    """

    points: npt.NDArray[np.float32]
    rays: npt.NDArray[np.float32]
    log_depths: npt.NDArray[np.float32]
    state: npt.NDArray[np.int64]
    rotation: npt.NDArray[np.float32]


class SceneFrame(NamedTuple):
    """Frame of the tokens: x_scene = scale · (x_model - origin). Axes are those of the model.

    Attributes:
        origin: (3,) model units.
        scale: scene units per model unit.
    """

    origin: Floats
    scale: float


class GridCamera(NamedTuple):
    """What the tokens need of a camera.

    Attributes:
        size: (width, height), pixels.
        calibration: (3, 3), without distortion; the centre of the top-left pixel is (0.5, 0.5).
        rays: (196, 3) float32, unit length, camera frame: through the centres of the cells.
    """

    size: tuple[int, int]
    calibration: Floats
    rays: npt.NDArray[np.float32]


class _Image(NamedTuple):
    """What is kept of an image: its pose, the rows of the points that it observes, depths of its cells."""

    image_id: int
    camera_id: int
    name: str
    cam_from_world: Floats
    columns: npt.NDArray[np.int32]
    cell_depths: npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class SfmScene:
    """Poses, points and observations of a COLMAP model in compact arrays; N images, P points.

    The cells divide the whole picture evenly, so that a picture that is resized to a square has patches for
    cells. Sky is what a mask says; without masks, cells above the highest structure of their column, in
    columns that have some. That takes the pictures for upright, and takes for sky an upper wall without
    points.

    Memory: 5 bytes per observation, 24 per point and 1.1 kB per image; reading takes twice that, and not
    what pycolmap would take for the keypoints.

    Attributes:
        names: of the images, in order of their ids in the model.
        cam_from_world: (N, 3, 4), model units.
        points: (P, 3), model units, in order of their ids in the model.
        observations: (N, P) bool, which image observes which point.
        cameras, camera_rows: the cameras, and which of them took each image, (N,).
        cell_depths: (N, 196) float32, model units: median distance of the points of each cell from the
            camera centre, NaN where it has none.
        sky_cells: (N, 196) bool.
        frame: of the tokens.
    """

    names: list[str]
    cam_from_world: Floats
    points: Floats
    observations: csr_matrix
    cameras: list[GridCamera]
    camera_rows: npt.NDArray[np.int64]
    cell_depths: npt.NDArray[np.float32]
    sky_cells: npt.NDArray[np.bool_]
    frame: SceneFrame

    @classmethod
    def read(cls, model_dir: Path, sky_masks: Path | None = None) -> SfmScene:
        """Read a model image by image.

        Args:
            model_dir: COLMAP model, binary or text.
            sky_masks: folder of a mask for each image, named as the image with ".png" added, of any size; sky
                is where it is not zero. A cell is sky if 9/10 of it are, and no point lies in it.

        Raises:
            MissingInputError: there is no complete model, or a mask is missing.
            CorruptFileError: a file is truncated, or refers to what is not in the model.
            InputError: the model has no registered image, or a camera cannot be undistorted.
        """
        stream = ModelStream(model_dir)
        cameras = {camera_id: _grid_camera(camera) for camera_id, camera in stream.cameras().items()}
        ids, points = stream.points()
        images = []
        for image in stream.images():
            if image.camera_id not in cameras:
                raise CorruptFileError(_dangling(stream, image, f"camera {image.camera_id}"))
            seen = image.point_ids >= 0
            columns = _positions(ids, image.point_ids[seen])
            if (columns < 0).any():
                missing = image.point_ids[seen][columns < 0][0]
                raise CorruptFileError(_dangling(stream, image, f"point {missing}"))
            size = cameras[image.camera_id].size
            depths = _cell_depths(image.xy[seen], points[columns], image.cam_from_world, size)
            images.append(_Image(*image[:4], np.unique(columns).astype(np.int32), depths))
        if not images:
            raise InputError(f"{stream.image_file} holds no registered image: reconstruct the scene first.")
        images.sort(key=lambda image: image.image_id)
        names = [image.name for image in images]
        cam_from_world = np.stack([image.cam_from_world for image in images])
        cell_depths = np.stack([image.cell_depths for image in images])
        row_of = {camera_id: row for row, camera_id in enumerate(cameras)}
        return cls(
            names=names,
            cam_from_world=cam_from_world,
            points=points,
            observations=_observation_matrix([image.columns for image in images], len(points)),
            cameras=list(cameras.values()),
            camera_rows=np.array([row_of[image.camera_id] for image in images], np.int64),
            cell_depths=cell_depths,
            sky_cells=_sky_cells(cell_depths, names, sky_masks),
            frame=_frame(_centers(cam_from_world), cell_depths),
        )

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def centers(self) -> Floats:
        """Camera centres, (N, 3), model units."""
        return _centers(self.cam_from_world)

    @cached_property
    def rows(self) -> dict[str, int]:
        """Number of each image by its name."""
        return {name: row for row, name in enumerate(self.names)}

    def tokens(self, index: int, mirrored: bool = False) -> SpatialTokens:
        """Spatial tokens of an image.

        Args:
            index: of the image.
            mirrored: of its picture flipped left to right. Each cell takes the token of what it then shows,
                at its place in the scene; the x axis of the camera (first row of the rotation) is turned
                round.
        """
        rotation = self.cam_from_world[index, :, :3]
        center = (self.centers[index] - self.frame.origin) * self.frame.scale
        rays = self.cameras[self.camera_rows[index]].rays @ rotation
        depths = self.cell_depths[index].astype(np.float64) * self.frame.scale
        known = np.isfinite(depths)
        filled = np.where(known, depths, np.median(depths[known]) if known.any() else 1.0)
        points = center + filled[:, None] * rays
        log_depths = np.where(known, np.log(filled), 0.0)
        state = np.where(self.sky_cells[index], SKY, np.where(known, STRUCTURE, UNKNOWN))
        axes = rotation[:2].copy()
        if mirrored:
            order = mirrored_cells()
            points, rays, log_depths, state = points[order], rays[order], log_depths[order], state[order]
            axes[0] *= -1
        return SpatialTokens(
            np.vstack([center, points]).astype(np.float32),
            np.vstack([rotation[2], rays]).astype(np.float32),
            np.append(0.0, log_depths).astype(np.float32),
            np.append(CAMERA, state).astype(np.int64),
            axes.reshape(6).astype(np.float32),
        )


def cell_centers(width: float, height: float) -> Floats:
    """Centres of the cells in raster order, (196, 2); the centre of the top-left pixel is (0.5, 0.5)."""
    rows, columns = np.divmod(np.arange(NUM_CELLS), GRID)
    return np.column_stack([(columns + 0.5) * width / GRID, (rows + 0.5) * height / GRID])


def mirrored_cells() -> npt.NDArray[np.int64]:
    """The cells of a picture in the order in which its left-to-right flip shows them, (196,)."""
    return np.arange(NUM_CELLS).reshape(GRID, GRID)[:, ::-1].ravel()


def published_tokens(scene: SfmScene, index: int, mirrored: bool = False) -> npt.NDArray[np.float32]:
    """Tokens by the formula of the published code, for comparison only (papers.md S3, its defects included).

    A cell is the point 10 units of the model along the ray of its integer centre, without distortion, and the
    quaternion of the image; the camera is its translation and quaternion. Each of these 7-vectors is scaled
    to [-1, 1] by its own least and greatest entry, and sin and cos of π times it are repeated to 192 numbers.
    Signs of quaternions are chosen so that w ≥ 0.

    Args:
        scene: a model.
        index: of the image.
        mirrored: of its picture flipped left to right: the cells of each row in reverse order.

    Returns:
        (197, 192): the camera, then the cells in raster order.
    """
    camera = scene.cameras[scene.camera_rows[index]]
    rotation, translation = scene.cam_from_world[index, :, :3], scene.cam_from_world[index, :, 3]
    width, height = (side // GRID for side in camera.size)
    rows, columns = np.divmod(np.arange(NUM_CELLS), GRID)
    pixels = np.column_stack([columns * width + width // 2, rows * height + height // 2, np.ones(NUM_CELLS)])
    rays = pixels @ np.linalg.inv(camera.calibration).T
    rays *= PUBLISHED_DEPTH / np.linalg.norm(rays, axis=1, keepdims=True)
    points = (rays - translation) @ rotation
    if mirrored:
        points = points[mirrored_cells()]
    quaternion = Rotation.from_matrix(rotation).as_quat(canonical=True, scalar_first=True)
    vectors = np.column_stack([np.vstack([translation, points]), np.tile(quaternion, (NUM_CELLS + 1, 1))])
    least, greatest = vectors.min(axis=1, keepdims=True), vectors.max(axis=1, keepdims=True)
    angles = np.pi * (2 * (vectors - least) / (greatest - least) - 1)
    waves = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    return np.tile(waves, (1, -(-PUBLISHED_DIM // waves.shape[1])))[:, :PUBLISHED_DIM].astype(np.float32)


def _grid_camera(camera: pycolmap.Camera) -> GridCamera:
    """Rays of the cells; where the distortion has no inverse, of the nearest pixel inwards that has one."""
    centers = cell_centers(camera.width, camera.height)
    principal = np.array([camera.principal_point_x, camera.principal_point_y])
    rays = np.asarray(camera.cam_from_img(centers)).reshape(-1, 2).copy()
    for _ in range(_SHRINK_STEPS):
        failed = ~np.isfinite(rays).all(axis=1)
        if not failed.any():
            break
        centers[failed] = principal + _SHRINK * (centers[failed] - principal)
        rays[failed] = np.asarray(camera.cam_from_img(centers[failed])).reshape(-1, 2)
    else:
        raise InputError(
            f"Pixels of camera {camera.camera_id} ({camera.model_name}, {camera.params_to_string()}) cannot"
            " be undistorted: calibrate it again, with a simpler model."
        )
    unit = np.column_stack([rays, np.ones(len(rays))])
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    return GridCamera((camera.width, camera.height), camera.calibration_matrix(), unit.astype(np.float32))


def _positions(ids: npt.NDArray[np.int64], wanted: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Positions of some ids in an ascending list, -1 where it lacks them."""
    if not len(ids):
        return np.full(len(wanted), -1)
    found = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
    return np.where(ids[found] == wanted, found, -1)


def _cell_depths(
    xy: Floats, points: Floats, cam_from_world: Floats, size: tuple[int, int]
) -> npt.NDArray[np.float32]:
    """Median distances of the observed points by cell, (196,), NaN for none.

    Keypoints outside of the picture, and points behind the camera, do not count.
    """
    in_camera = points @ cam_from_world[:, :3].T + cam_from_world[:, 3]
    columns, rows = np.floor(xy * GRID / np.array(size)).astype(np.int64).T
    inside = (columns >= 0) & (columns < GRID) & (rows >= 0) & (rows < GRID) & (in_camera[:, 2] > 0)
    cells = (rows * GRID + columns)[inside]
    distances = np.linalg.norm(in_camera[inside], axis=1)
    distances = distances[np.lexsort((distances, cells))]
    counts = np.bincount(cells, minlength=NUM_CELLS)
    first, filled = np.cumsum(counts) - counts, counts > 0
    medians = np.full(NUM_CELLS, np.nan, np.float32)
    lower, upper = first + (counts - 1) // 2, first + counts // 2
    medians[filled] = (distances[lower[filled]] + distances[upper[filled]]) / 2
    return medians


def _observation_matrix(rows: list[npt.NDArray[np.int32]], num_points: int) -> csr_matrix:
    starts = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    columns = np.concatenate(rows)
    return csr_matrix((np.ones(len(columns), bool), columns, starts), shape=(len(rows), num_points))


def _centers(cam_from_world: Floats) -> Floats:
    return -np.einsum("nji,nj->ni", cam_from_world[:, :, :3], cam_from_world[:, :, 3])


def _frame(centers: Floats, cell_depths: npt.NDArray[np.float32]) -> SceneFrame:
    """Median camera at the origin, and 9 of 10 cameras, or the median depth, within one unit of it."""
    origin = np.median(centers, axis=0)
    radius = float(np.quantile(np.linalg.norm(centers - origin, axis=1), 0.9))
    known = cell_depths[np.isfinite(cell_depths)]
    radius = max(radius, float(np.median(known)) if len(known) else 0.0)
    return SceneFrame(origin, 1.0 / radius if radius > 0 else 1.0)


def _sky_cells(
    cell_depths: npt.NDArray[np.float32], names: list[str], masks: Path | None
) -> npt.NDArray[np.bool_]:
    """Sky by masks, or above the structure of each column, (N, 196)."""
    structure = np.isfinite(cell_depths)
    if masks is None:
        columns = structure.reshape(-1, GRID, GRID)
        below_top = np.logical_or.accumulate(columns, axis=1)
        return np.asarray(~below_top & columns.any(axis=1, keepdims=True)).reshape(-1, NUM_CELLS)
    covered = np.empty_like(structure)
    for row, name in enumerate(names):
        path = Path(masks) / f"{name}.png"
        if not path.exists():
            raise MissingInputError(f"No sky mask {path} for the image {name}: write one, or give no masks.")
        mask = (read_image(path, grayscale=True) > 0).astype(np.float32)
        cover = cv2.resize(mask, (GRID, GRID), interpolation=cv2.INTER_AREA)
        covered[row] = cover.ravel() >= SKY_COVER
    return covered & ~structure


def _dangling(stream: ModelStream, image: StoredImage, what: str) -> str:
    return (
        f"{stream.image_file}: the image {image.name} refers to {what}, which is not in the model. The files"
        " of the folder are not of one model: copy all of them again."
    )
