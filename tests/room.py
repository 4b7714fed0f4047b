"""A textured room corner, rendered with exact poses: SIFT finds and matches hundreds of its points.

The scene of :mod:`tests.synthetic` is rendered faster but repeats itself: its descriptors do not match.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pycolmap

SIZE = (480, 360)
PARAMS = [420.0, 240.0, 180.0, 0.0]
#: Metres per pixel of a wall's texture.
TEXEL = 0.01


@dataclass
class Room:
    """A rendered scene.

    Attributes:
        images: folder of ``img00.png``, …
        model: true poses (world→camera, metres) and cameras, without points.
        map_names, query_names: the images divided; each query lies between map images.
    """

    images: Path
    model: pycolmap.Reconstruction
    map_names: list[str]
    query_names: list[str]

    @property
    def camera(self) -> pycolmap.Camera:
        """The camera of all images."""
        return self.model.cameras[1]

    def pose(self, name: str) -> pycolmap.Rigid3d:
        """True pose of an image, world→camera."""
        return self.model.find_image_with_name(name).cam_from_world()

    def neighbors(self, query: str, number: int = 4) -> list[str]:
        """Map images nearest to a query, nearest first."""
        center = self.pose(query).inverse().translation

        def distance(name: str) -> float:
            return float(np.linalg.norm(self.pose(name).inverse().translation - center))

        return sorted(self.map_names, key=distance)[:number]


def make_texture(rng: np.random.Generator, num_texels: int = 800) -> np.ndarray:
    """Grey blobs of many sizes, num_texels×num_texels float32."""
    texture = np.zeros((num_texels, num_texels), np.float32)
    for size in (5, 10, 20, 40):
        coarse = rng.standard_normal((num_texels // size, num_texels // size)).astype(np.float32)
        texture += cv2.resize(coarse, (num_texels, num_texels), interpolation=cv2.INTER_CUBIC)
    return np.clip(128 + 35 * texture, 0, 255)


def look_at(center: np.ndarray, target: np.ndarray) -> pycolmap.Rigid3d:
    """Pose (world→camera) of an upright camera at `center` that looks at `target`; Z is up."""
    forward = (target - center) / np.linalg.norm(target - center)
    right = np.cross(forward, [0, 0, 1])
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward])
    return pycolmap.Rigid3d(pycolmap.Rotation3d(rotation), -rotation @ center)


def render(pose: pycolmap.Rigid3d, textures: list[np.ndarray]) -> np.ndarray:
    """Image of the walls X = 0, Y = 0 and Z = 0 as seen from inside, H×W uint8."""
    focal_length, cx, cy, _ = PARAMS
    x, y = np.meshgrid(np.arange(SIZE[0]) + 0.5, np.arange(SIZE[1]) + 0.5)  # COLMAP's pixel centres
    rays = np.stack([(x - cx) / focal_length, (y - cy) / focal_length, np.ones_like(x)], -1)
    from_camera = pose.inverse()
    rays = rays @ from_camera.rotation.matrix().T
    center = from_camera.translation
    with np.errstate(divide="ignore"):
        distances = np.where(rays < 0, -center / rays, np.inf)
    wall = distances.argmin(-1)
    points = center + rays * distances.min(-1, keepdims=True)
    image = np.zeros(x.shape, np.float32)
    for axis, texture in enumerate(textures):
        u, v = (points[..., i].astype(np.float32) / TEXEL - 0.5 for i in range(3) if i != axis)
        seen = cv2.remap(texture, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        image[wall == axis] = seen[wall == axis]
    return image.round().astype(np.uint8)


def make_room(folder: Path, num_images: int = 14, seed: int = 0) -> Room:
    """Render views from an arc in front of the corner, 480×360, SIMPLE_RADIAL f = 420, k = 0."""
    rng = np.random.default_rng(seed)
    textures = [make_texture(rng) for _ in range(3)]
    folder.mkdir(parents=True, exist_ok=True)
    model = pycolmap.Reconstruction()
    camera = pycolmap.Camera(camera_id=1, model="SIMPLE_RADIAL", width=SIZE[0], height=SIZE[1], params=PARAMS)
    model.add_camera_with_trivial_rig(camera)
    names = [f"img{number:02d}.png" for number in range(num_images)]
    for number, name in enumerate(names):
        angle = np.deg2rad(20 + 50 * number / (num_images - 1))
        radius = 3.6 + 0.4 * np.cos(2.1 * number)
        center = np.array([radius * np.cos(angle), radius * np.sin(angle), 1.6 + 0.5 * np.sin(1.7 * number)])
        pose = look_at(center, np.array([0.5, 0.5, 0.9]))
        cv2.imwrite(str(folder / name), render(pose, textures))
        image = pycolmap.Image(name=name, camera_id=1, image_id=number + 1)
        model.add_image_with_trivial_frame(image, pose)
    queries = names[2:-1:3]
    return Room(folder, model, [name for name in names if name not in queries], queries)
