"""A street that is a row of overlapping pictures, by day and by night; and the observations of such a row."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pycolmap
from scipy.sparse import csr_matrix

from hloc_ext.datasets.covisibility import Overlap
from hloc_ext.formats.colmap import write_model

WIDTH, STEP = 20, 5  # points that a picture sees, and that it is further on than the one before
SIZE = 60  # pixels of a picture, three for each point
DEPTH = 5.0


def row_of_images(count: int) -> Overlap:
    """Image i sees points 5i to 5i + 19: positive with its next 2 neighbours, grey with the 3rd."""
    observations = np.zeros((count, STEP * count + WIDTH), bool)
    for image in range(count):
        observations[image, STEP * image : STEP * image + WIDTH] = True
    return Overlap(SimpleNamespace(observations=csr_matrix(observations)))  # type: ignore[arg-type]


def write_street(folder: Path, count: int, seed: int = 0) -> Path:
    """Write ``images`` and ``sparse`` of `count` views as in :func:`row_of_images`, each by day and night."""
    rng = np.random.default_rng(seed)
    length = STEP * (count - 1) + WIDTH
    texture = cv2.GaussianBlur(rng.uniform(0, 1, (SIZE, 3 * length, 3)).astype(np.float32), (0, 0), 3)
    texture = np.clip(128 + 1000 * (texture - 0.5), 0, 255).astype(np.uint8)
    (folder / "images").mkdir(parents=True)
    model = pycolmap.Reconstruction()
    model.add_camera_with_trivial_rig(
        pycolmap.Camera(
            model="PINHOLE", width=SIZE, height=SIZE, params=[SIZE, SIZE, SIZE / 2, SIZE / 2], camera_id=1
        )
    )
    heights = rng.uniform(5, SIZE - 5, length)
    columns = 3 * np.arange(WIDTH) + 1.5
    for view in range(count):
        first = STEP * view
        center = np.array([3 * first * DEPTH / SIZE, 0, 0])
        pose = pycolmap.Rigid3d(pycolmap.Rotation3d(), -center)
        keypoints = np.stack([columns, heights[first : first + WIDTH]], 1)
        picture = texture[:, 3 * first : 3 * first + SIZE]
        for night, condition in enumerate(("day", "night")):
            name = f"{view:02d}_{condition}.png"
            cv2.imwrite(str(folder / "images" / name), picture // (1 + 3 * night))
            image = pycolmap.Image(name=name, keypoints=keypoints, camera_id=1, image_id=2 * view + night + 1)
            model.add_image_with_trivial_frame(image, pose)
    for point in range(length):
        seen = [view for view in range(count) if 0 <= point - STEP * view < WIDTH]
        track = [(2 * view + night + 1, point - STEP * view) for view in seen for night in (0, 1)]
        pixel = np.array([3 * point + 1.5, heights[point], SIZE]) - [SIZE / 2, SIZE / 2, 0]
        elements = [pycolmap.TrackElement(*element) for element in track]
        model.add_point3D(pixel * DEPTH / SIZE, pycolmap.Track(elements), np.zeros(3, np.uint8))
    write_model(model, folder / "sparse")
    return folder


def write_photos(folder: Path, count: int) -> Path:
    """Write colourful photos."""
    folder.mkdir(parents=True)
    for number in range(count):
        noise = np.random.default_rng(number).uniform(0, 1, (110, 130, 3)).astype(np.float32)
        smooth = cv2.GaussianBlur(noise, (0, 0), 4)
        cv2.imwrite(
            str(folder / f"{number:02d}.png"), np.clip(128 + 1200 * (smooth - 0.5), 0, 255).astype(np.uint8)
        )
    return folder
