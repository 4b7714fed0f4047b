"""Trees and bushes: a few species of each city, every tree turned, stretched and coloured on its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..labels import Label
from ..mesh import Mesh
from ..plan import Item
from ..textures import TextureSet
from .solids import Modeller, Prototype

#: Trees of a city up to which crowns are as fine as they get; more trees get coarser ones.
_FINE_TREES = 400

#: Usual height, metres: textures are scaled for it.
_TREE_HEIGHT = 8.0

#: Tints of the pictures of leaves, which are green themselves; the last one turns them autumnal.
_TINTS = np.array(
    [
        (255, 255, 235),
        (235, 255, 215),
        (255, 250, 200),
        (215, 240, 215),
        (255, 255, 255),
        (240, 232, 215),
        (225, 255, 200),
        (255, 215, 160),
    ],
    np.float64,
)


@dataclass(frozen=True)
class _Species:
    """Shape of a broad-leaved tree of height 1.

    Attributes:
        crown: lowest and highest point of the crown.
        radius: of the crown where it is widest.
        widest: height of the widest place, as a share of the crown.
        clumps: number of clumps of leaves.
        clump: radius of a clump relative to that of the crown.
        trunk: radius at the foot.
    """

    crown: tuple[float, float]
    radius: float
    widest: float
    clumps: int
    clump: float
    trunk: float


_BROADLEAVED = (
    _Species((0.24, 1.0), 0.33, 0.45, 20, 0.44, 0.022),  # linden
    _Species((0.26, 0.97), 0.40, 0.50, 22, 0.42, 0.028),  # oak
    _Species((0.30, 0.98), 0.27, 0.40, 15, 0.46, 0.018),  # maple, young
    _Species((0.12, 1.0), 0.15, 0.40, 15, 0.62, 0.016),  # poplar
    _Species((0.28, 1.0), 0.22, 0.35, 17, 0.46, 0.013),  # birch
    _Species((0.32, 0.96), 0.36, 0.62, 18, 0.44, 0.020),  # plane
)


def trees_mesh(
    items: Sequence[Item],
    object_ids: npt.ArrayLike,
    textures: TextureSet,
    seed: int,
    detail: float = 1.0,
) -> Mesh:
    """Trees.

    Args:
        items: where they stand; `size` is the height.
        object_ids: (N,).
        textures: pictures of bark and leaves.
        seed: makes other trees.
        detail: less for trees that are seen from afar.

    Returns:
        600 to 1000 triangles for each of up to 400 trees, fewer for each of more.
    """
    rng = np.random.default_rng([seed, 41])
    fineness = detail * _fineness(len(items))
    greens = _by_brightness(textures)
    leaves = rng.permutation(np.resize(greens[1:] or greens, len(_BROADLEAVED)))
    broadleaved = [
        _broadleaved(textures, rng, species, fineness, int(picture))
        for species, picture in zip(_BROADLEAVED, leaves, strict=True)
    ]
    conifers = [_spruce(textures, rng, fineness, greens[0]), _pine(textures, rng, fineness, greens[0])]
    kinds = rng.choice(8, len(items), p=[0.24, 0.16, 0.16, 0.07, 0.14, 0.11, 0.07, 0.05])
    colors = np.stack([_bark_colors(rng, kinds), _leaf_colors(rng, len(items))], axis=1)
    colors[kinds >= 6, 1] *= (0.82, 0.9, 0.95)
    return _placed(items, object_ids, [*broadleaved, *conifers], kinds, colors, rng)


def bushes_mesh(items: Sequence[Item], object_ids: npt.ArrayLike, textures: TextureSet, seed: int) -> Mesh:
    """Bushes, 150 to 250 triangles each; arguments as in :func:`trees_mesh`."""
    rng = np.random.default_rng([seed, 42])
    prototypes = [_bush(textures, rng, _fineness(len(items))) for _ in range(4)]
    kinds = rng.integers(0, len(prototypes), len(items))
    colors = np.stack([_bark_colors(rng, kinds), _leaf_colors(rng, len(items))], axis=1)
    return _placed(items, object_ids, prototypes, kinds, colors, rng)


def _placed(
    items: Sequence[Item],
    object_ids: npt.ArrayLike,
    prototypes: Sequence[Prototype],
    kinds: npt.NDArray[np.int64],
    colors: npt.NDArray[np.float64],
    rng: np.random.Generator,
) -> Mesh:
    """A copy of prototype `kinds[i]` for each item, turned and stretched at random."""
    object_ids = np.asarray(object_ids)
    positions = np.array([(item.x, item.y, 0.08) for item in items]).reshape(-1, 3)
    sizes = np.array([item.size for item in items]).reshape(-1, 1)
    headings = rng.uniform(0, 2 * np.pi, len(items))
    scales = sizes * np.concatenate([rng.uniform(0.85, 1.15, (len(items), 2)), np.ones((len(items), 1))], 1)
    return Mesh.concatenate(
        [
            prototype.copies(
                positions[chosen], headings[chosen], scales[chosen], object_ids[chosen], colors[chosen]
            )
            for kind, prototype in enumerate(prototypes)
            if (chosen := kinds == kind).any()
        ]
    )


def _fineness(count: int) -> float:
    """How fine plants are if there are so many, 0 to 1."""
    return min(1.0, (_FINE_TREES / max(count, 1)) ** 0.75)


def _by_brightness(textures: TextureSet) -> list[int]:
    """Pictures of green leaves, the darkest first."""
    pictures = textures.group("leaves")
    colors = {index: textures.textures[index].pixels.mean(axis=(0, 1)) for index in pictures}
    greens = [index for index in pictures if colors[index][1] > 1.05 * colors[index][0]]
    return sorted(greens or pictures, key=lambda index: float(colors[index].mean()))


def _leaf_colors(rng: np.random.Generator, count: int) -> npt.NDArray[np.float64]:
    weights = np.array([5, 5, 4, 4, 3, 3, 2, 0.4])
    chosen = _TINTS[rng.choice(len(_TINTS), count, p=weights / weights.sum())]
    return np.clip(chosen * rng.uniform(0.75, 1.05, (count, 1)) * rng.uniform(0.93, 1.05, (count, 3)), 0, 255)


def _bark_colors(rng: np.random.Generator, kinds: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    return rng.uniform(150, 250, (len(kinds), 1)) * rng.uniform(0.92, 1.0, (len(kinds), 3))


def _broadleaved(
    textures: TextureSet, rng: np.random.Generator, species: _Species, fineness: float, leaves: int
) -> Prototype:
    """A tree of height 1: bent trunk, branches, balls of foliage and leaves around them."""
    low, high = species.crown
    centers, radii = _clumps(rng, species, max(7, round(0.85 * species.clumps * fineness**0.55)))
    model = Modeller(textures, Label.VEGETATION, _TREE_HEIGHT)
    _trunk(model, textures, rng, centers[: round(6 * fineness)], species)
    model.slot = 2
    middle = low + (high - low) * species.widest
    _blobs(model, rng, centers, radii, leaves)
    _foliage(model, rng, centers, radii, leaves, round(500 * fineness), (0, 0, middle), (0.024, 0.05))
    return model.build().standing()


def _clumps(
    rng: np.random.Generator, species: _Species, count: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Centres (N, 3) and radii (N,) of clumps of leaves that fill the crown; fewer ones are larger."""
    low, high = species.crown
    size = species.clump * (species.clumps / count) ** 0.4
    candidates = rng.uniform(0, 1, (12 * count, 3))
    level = candidates[:, 0]
    below = level / species.widest
    above = (1 - level) / (1 - species.widest)
    outline = np.sqrt(np.clip(1 - (1 - np.minimum(below, above)) ** 2, 0, 1)) * species.radius
    radius = outline * np.sqrt(0.25 + 0.75 * candidates[:, 1]) * (1 - 0.5 * size)
    angle = candidates[:, 2] * 2 * np.pi
    margin = 0.45 * size * species.radius
    height = low + margin + level * (high - low - 2 * margin)
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle), height], 1)
    chosen = [0]
    nearest = np.linalg.norm(points - points[0], axis=1)
    while len(chosen) < count:
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, np.linalg.norm(points - points[chosen[-1]], axis=1))
    return points[chosen], size * species.radius * rng.uniform(0.75, 1.2, count)


def _trunk(
    model: Modeller,
    textures: TextureSet,
    rng: np.random.Generator,
    centers: npt.NDArray[np.float64],
    species: _Species,
) -> None:
    """Add a trunk that bends a little, and branches from it to clumps."""
    low, high = species.crown
    bark = int(rng.choice(textures.group("bark")))
    top = low + 0.6 * (high - low)
    heights = np.array([-0.02, 0.015, 0.08, 0.5 * low + 0.05, low + 0.08, top])
    sway = np.cumsum(rng.normal(0, 0.006, (len(heights), 2)), axis=0) * (heights > 0.02)[:, None]
    axis = np.column_stack([sway, heights])
    radii = species.trunk * np.array([1.7, 1.35, 1.0, 0.9, 0.7, 0.3])
    model.slot = 1
    model.tube(axis, radii, 6, bark, caps=False)
    for center in centers:
        start = max(low * 0.8, center[2] - rng.uniform(0.15, 0.3))
        foot = np.array([np.interp(start, heights, sway[:, 0]), np.interp(start, heights, sway[:, 1]), start])
        knee = foot * (0.45, 0.45, 0.5) + center * (0.55, 0.55, 0.5)
        thick = species.trunk * np.array([0.5, 0.35, 0.15])
        model.tube([foot, knee, center], thick, 4, bark, across=(0.31, 0.95, 0.02), caps=False)


def _blobs(
    model: Modeller,
    rng: np.random.Generator,
    centers: npt.NDArray[np.float64],
    radii: npt.NDArray[np.float64],
    texture: int,
) -> None:
    """Add uneven balls of 20 triangles, dark below: they keep a crown from being seen through."""
    corners, faces = _icosahedron()
    count = len(centers)
    rough = rng.uniform(0.68, 1.04, (count, len(corners), 1)) * radii[:, None, None]
    turn = np.linalg.qr(rng.normal(0, 1, (count, 3, 3)))[0]
    points = (corners @ turn) * rough * (1, 1, 0.85)
    triangles = points[:, faces].reshape(-1, 3, 3)
    up = triangles.mean(axis=1)[:, 2] / np.repeat(radii, len(faces))
    shade = np.clip(0.5 + 0.3 * up + rng.uniform(-0.06, 0.06, len(up)), 0.25, 0.9)
    color = (255 * shade[:, None] * rng.normal(1, 0.03, (len(up), 3))).clip(50, 255).astype(np.uint8)
    model.triangles(triangles + np.repeat(centers, len(faces), axis=0)[:, None], texture, color)


def _icosahedron() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.intp]]:
    """Corners (12, 3) on the unit sphere and faces (20, 3)."""
    golden = (1 + 5**0.5) / 2
    corners = np.array(
        [np.roll((0.0, a, b * golden), turn) for turn in range(3) for a in (-1, 1) for b in (-1, 1)]
    )
    distances = np.linalg.norm(corners[:, None] - corners, axis=2)
    near = np.isclose(distances, 2.0)
    faces = [
        (i, j, k)
        for i in range(12)
        for j in range(i + 1, 12)
        for k in range(j + 1, 12)
        if near[i, j] and near[j, k] and near[i, k]
    ]
    return corners / np.linalg.norm(corners[0]), np.array(faces)


def _foliage(
    model: Modeller,
    rng: np.random.Generator,
    centers: npt.NDArray[np.float64],
    radii: npt.NDArray[np.float64],
    texture: int,
    count: int,
    middle: Sequence[float],
    size: tuple[float, float],
) -> None:
    """Add irregular triangles on the outer sides of clumps, the lower and inner ones darker."""
    owner = rng.choice(len(centers), count, p=radii**2 / (radii**2).sum())
    outwards = centers[owner] - np.asarray(middle)
    outwards /= np.maximum(np.linalg.norm(outwards, axis=1, keepdims=True), 1e-6)
    normal = rng.normal(0, 1, (count, 3)) + 0.7 * outwards + (0, 0, 0.25)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    depth = rng.uniform(0.75, 1.12, (count, 1))
    points = centers[owner] + normal * depth * radii[owner, None] * (1, 1, 0.85)
    facing = normal + 0.7 * rng.normal(0, 1, (count, 3))
    shade = 0.62 + 0.25 * normal[:, 2] + 0.45 * (depth[:, 0] - 0.9) + rng.uniform(-0.14, 0.14, count)
    tint = np.clip(shade[:, None] * rng.normal(1, 0.05, (count, 3)) * 255, 60, 255)
    spread = 1.3 - 0.9 * (depth - 0.75)
    model.triangles(_leaf_triangles(rng, points, facing, size, spread), texture, tint.astype(np.uint8))


def _leaf_triangles(
    rng: np.random.Generator,
    points: npt.NDArray[np.float64],
    normals: npt.NDArray[np.float64],
    size: tuple[float, float],
    spread: npt.ArrayLike = 1.0,
) -> npt.NDArray[np.float64]:
    """Irregular triangles (N, 3, 3) around points, perpendicular to normals; `spread` (N, 1) times `size`."""
    count = len(points)
    normals = normals / np.linalg.norm(normals, axis=1, keepdims=True)
    first = np.cross(normals, rng.normal(0, 1, (count, 3)))
    first /= np.maximum(np.linalg.norm(first, axis=1, keepdims=True), 1e-6)
    second = np.cross(normals, first)
    angle = np.array([0, 2.1, 4.2]) + rng.uniform(-0.6, 0.6, (count, 3))
    reach = (rng.uniform(*size, (count, 3)) * np.asarray(spread))[..., None]
    return points[:, None] + reach * (
        np.cos(angle)[..., None] * first[:, None] + np.sin(angle)[..., None] * second[:, None]
    )


def _conifer_needles(
    model: Modeller,
    rng: np.random.Generator,
    texture: int,
    count: int,
    crown: tuple[float, float],
    radius: float,
    layers: int,
) -> None:
    """Add drooping branches in layers of a cone."""
    low, high = crown
    layer = np.sort(1 - np.sqrt(rng.uniform(0, 1, count)))
    level = (np.floor(layer * layers) + 0.6 * rng.uniform(0, 1, count)) / layers
    level = np.clip(level, 0, 1)
    angle = rng.uniform(0, 2 * np.pi, count)
    reach = radius * (1.04 - level) * rng.uniform(0.55, 1.05, count)
    points = np.stack([reach * np.cos(angle), reach * np.sin(angle), low + level * (high - low)], 1)
    points[:, 2] -= 0.25 * reach
    normals = np.stack([np.cos(angle), np.sin(angle), np.full(count, 1.1)], 1) + rng.normal(
        0, 0.35, (count, 3)
    )
    shade = 0.5 + 0.4 * reach / (radius * (1.04 - level)) + rng.uniform(-0.12, 0.12, count)
    tint = np.clip(shade * 255, 60, 255).astype(np.uint8)
    model.triangles(
        _leaf_triangles(rng, points, normals, (0.04, 0.085)), texture, np.repeat(tint[:, None], 3, 1)
    )


def _spruce(textures: TextureSet, rng: np.random.Generator, fineness: float, leaves: int) -> Prototype:
    bark = int(rng.choice(textures.group("bark")))
    model = Modeller(textures, Label.VEGETATION, _TREE_HEIGHT)
    model.slot = 1
    model.tube([(0, 0, -0.02), (0, 0, 0.3), (0, 0, 0.9)], [0.02, 0.016, 0.004], 6, bark, caps=False)
    model.slot = 2
    model.tube([(0, 0, 0.1), (0, 0, 0.12), (0, 0, 0.97)], [0.02, 0.15, 0.005], 8, leaves, 110, caps=False)
    _conifer_needles(model, rng, leaves, round(640 * fineness), (0.12, 1.0), 0.21, 11)
    return model.build().standing()


def _pine(textures: TextureSet, rng: np.random.Generator, fineness: float, leaves: int) -> Prototype:
    species = _Species((0.5, 0.98), 0.24, 0.45, 12, 0.5, 0.019)
    return _broadleaved(textures, rng, species, fineness, leaves)


def _bush(textures: TextureSet, rng: np.random.Generator, fineness: float) -> Prototype:
    """A bush of height 1."""
    leaves = int(rng.choice(_by_brightness(textures)))
    model = Modeller(textures, Label.VEGETATION, 1.3)
    model.slot = 2
    count = round(int(rng.integers(4, 7)) * fineness**0.4)
    angle = rng.uniform(0, 2 * np.pi, count)
    reach = rng.uniform(0.15, 0.45, count)
    centers = np.stack([reach * np.cos(angle), reach * np.sin(angle), rng.uniform(0.24, 0.6, count)], 1)
    radii = rng.uniform(0.32, 0.44, count)
    _blobs(model, rng, centers, radii, leaves)
    _foliage(model, rng, centers, radii, leaves, round(130 * fineness), (0, 0, 0.3), (0.06, 0.13))
    return model.build().standing()
