"""A small scene rendered by pycolmap, with exact poses: input of the tests of stages and pipelines."""

from __future__ import annotations

from pathlib import Path

import pycolmap

from hloc_ext.colmap_log import quiet_colmap


def make_scene(
    folder: Path, num_images: int = 14, num_points: int = 250, seed: int = 0
) -> tuple[Path, pycolmap.Reconstruction]:
    """Render images of textured points; returns the image folder and the true model.

    The images are 480×360 with the camera SIMPLE_RADIAL f = 420, k = 0, and are named ``img00.png``, ….
    """
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs = 1
    options.num_cameras_per_rig = 1
    options.num_frames_per_rig = num_images
    options.num_points3D = num_points
    options.num_points2D_without_point3D = 0
    options.camera_width, options.camera_height = 480, 360
    options.camera_params = [420.0, 240.0, 180.0, 0.0]
    pycolmap.set_random_seed(seed)
    with quiet_colmap():
        model = pycolmap.synthesize_dataset(options)
        for number, image_id in enumerate(sorted(model.images)):
            model.images[image_id].name = f"img{number:02d}.png"
        folder.mkdir(parents=True, exist_ok=True)
        pycolmap.synthesize_images(pycolmap.SyntheticImageOptions(), model, folder)
    return folder, model
