"""Samples show what they say, and depend on seed, epoch and number alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from hloc_ext.datasets.cross_view.augment import Geometry
from hloc_ext.datasets.cross_view.layout import CrossViewSet
from hloc_ext.datasets.cross_view.pairs import CrossViewImages, CrossViewPairs
from hloc_ext.datasets.cross_view.pictures import MEAN, STD
from hloc_ext.errors import CorruptFileError, InputError, MissingInputError
from tests.datasets.cross_view.small_sets import made_set

SIDE, WIDTH, HEIGHT = 48, 72, 12


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> CrossViewSet:
    """Four pairs; red is the sine of the azimuth and green its cosine, in panoramas and tiles."""
    root = tmp_path_factory.mktemp("azimuths")

    def colors(azimuth: np.ndarray, blue: int) -> np.ndarray:
        rgb = np.stack([np.sin(azimuth), np.cos(azimuth), np.zeros_like(azimuth)], axis=-1) * 100 + 128
        rgb[..., 2] = blue
        return np.rint(rgb).astype(np.uint8)[..., ::-1]

    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    columns = (np.arange(WIDTH) + 0.5 - WIDTH / 2) * 2 * np.pi / WIDTH
    paths: dict[str, list[Path]] = {"ground": [], "aerial": [], "label": []}
    for number in range(4):
        pictures = {
            "ground": colors(np.tile(columns, (HEIGHT, 1)), 50 * number),
            "aerial": colors(np.arctan2(x, -y), 50 * number),
            "label": (np.arctan2(x, -y) % (2 * np.pi) // (np.pi / 2)).astype(np.uint8),
        }
        for kind, picture in pictures.items():
            paths[kind].append(root / f"{kind}{number}.png")
            cv2.imwrite(str(paths[kind][-1]), picture)
    return made_set(
        [0, 1, 2, 3],
        4,
        grounds=paths["ground"],
        aerials=paths["aerial"],
        aerial_labels=paths["label"],
        offsets=np.array([[0.1, -0.2], [0, 0], [0.25, 0.25], [0, 0.3]]),
        root=root,
    )


def pixels(image: torch.Tensor) -> np.ndarray:
    return image.numpy().transpose(1, 2, 0) * np.array(STD) * 255 + np.array(MEAN) * 255


def azimuths(image: torch.Tensor) -> np.ndarray:
    """By the colours, radians."""
    values = pixels(image) - 128
    return np.arctan2(values[..., 0], values[..., 1])


def difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.abs(np.angle(np.exp(1j * (a - b))))


def test_a_sample_as_it_is(pairs: CrossViewSet) -> None:
    sample = CrossViewPairs(pairs, (HEIGHT, WIDTH), (SIDE, SIDE), label_size=SIDE)[2]
    assert sample["ground"].shape == (3, HEIGHT, WIDTH) and sample["aerial"].dtype == torch.float32
    for side, view in (("grounds", "ground"), ("aerials", "aerial")):
        stored = cv2.imread(str(getattr(pairs, side)[2]))[:, :, ::-1]
        np.testing.assert_allclose(pixels(sample[view]), stored, atol=1e-3)
    assert (sample["pair"], sample["tile"], sample["heading"], sample["geometry"]) == (2, 2, 0, 0)
    np.testing.assert_allclose(sample["offset"], [0.25, 0.25])
    assert sample["label"].dtype == torch.int64 and sample["label"].shape == (SIDE, SIDE)
    assert sorted(sample["label"].unique().tolist()) == [0, 1, 2, 3]


def test_views_labels_and_offsets_turn_alike(pairs: CrossViewSet) -> None:
    data = CrossViewPairs(
        pairs,
        (HEIGHT, WIDTH),
        (SIDE, SIDE),
        augment=True,
        label_size=SIDE,
        seed=3,
        batches=np.zeros((40, 1), np.int64),
        teacher_sizes=((HEIGHT, WIDTH), (SIDE, SIDE)),
        teacher_clean=True,
        unknown_heading=True,
    )
    seen = set()
    for sample in data:
        geometry = Geometry.of(int(sample["geometry"]))
        seen.add(geometry.number)
        # The teacher's pictures are clean: their colours tell the azimuths.
        ground, aerial = azimuths(sample["teacher_ground"])[0], azimuths(sample["teacher_aerial"])
        heading = np.radians(float(sample["heading"]))
        middle = (SIDE - 1) / 2
        for column in range(0, WIDTH, 5):
            azimuth = heading + (column + 0.5 - WIDTH / 2) * 2 * np.pi / WIDTH
            x, y = round(middle + 20 * np.sin(azimuth)), round(middle - 20 * np.cos(azimuth))
            assert difference(aerial[y, x], ground[column]) < 0.1
        away = np.hypot(*(np.mgrid[:SIDE, :SIDE] - middle)) > 4
        expected = aerial % (2 * np.pi) // (np.pi / 2)
        near_border = np.abs((aerial + np.pi / 4) % (np.pi / 2) - np.pi / 4) < 0.05
        check = away & ~near_border
        np.testing.assert_array_equal(sample["label"].numpy()[check], expected[check])
        np.testing.assert_allclose(sample["offset"], geometry.offset([0.1, -0.2]), atol=1e-7)
    assert seen == set(range(8))
    assert len({float(sample["heading"]) for sample in data}) > 20


def test_teacher_and_student_see_marginally_different_pictures(pairs: CrossViewSet) -> None:
    """The module of Distill4Geo that did this was never published."""
    sizes = ((HEIGHT, WIDTH), (SIDE, SIDE))
    options = {"augment": True, "seed": 5, "batches": np.zeros((30, 1), np.int64), "teacher_sizes": sizes}
    data = CrossViewPairs(pairs, *sizes, **options)
    clean = CrossViewPairs(pairs, *sizes, **options, teacher_clean=True)
    for view in ("ground", "aerial"):
        apart = np.array([np.median(np.abs(pixels(s[view]) - pixels(s[f"teacher_{view}"]))) for s in data])
        far = [np.median(np.abs(pixels(s[view]) - pixels(s[f"teacher_{view}"]))) for s in clean]
        # Colours are turned by up to 18 degrees, each: different, yet not by much.
        assert apart.min() > 0.2 and apart.max() < 45
        assert np.max(far) > np.max(apart)
    # Of other sizes, too: the changes do not depend on them.
    larger = CrossViewPairs(pairs, *sizes, augment=True, seed=5, teacher_sizes=((24, 144), (96, 96)))[1]
    assert larger["teacher_ground"].shape == (3, 24, 144) and larger["teacher_aerial"].shape == (3, 96, 96)


def test_samples_depend_on_seed_epoch_and_number(pairs: CrossViewSet) -> None:
    def sample(number: int = 1, **options: int) -> torch.Tensor:
        data = CrossViewPairs(
            pairs,
            (HEIGHT, WIDTH),
            (SIDE, SIDE),
            augment=True,
            unknown_heading=True,
            batches=[[1, 1]],
            **options,
        )
        return data[number]["ground"]

    assert torch.equal(sample(), sample())
    assert not torch.equal(sample(), sample(0))
    assert not torch.equal(sample(), sample(epoch=1)) and not torch.equal(sample(), sample(seed=1))
    data = CrossViewPairs(pairs, (HEIGHT, WIDTH), (SIDE, SIDE), augment=True, keep=True)
    first = data[0]["aerial"]
    assert torch.equal(first, data[0]["aerial"])
    loaded = next(iter(DataLoader(data, batch_size=4, num_workers=0)))
    assert torch.equal(loaded["aerial"][0], first) and loaded["pair"].tolist() == [0, 1, 2, 3]


def test_batches_are_read_in_order(pairs: CrossViewSet) -> None:
    data = CrossViewPairs(pairs, (HEIGHT, WIDTH), (SIDE, SIDE), batches=[[3, 0], [1, 2]])
    assert [int(sample["pair"]) for sample in data] == [3, 0, 1, 2]


@pytest.mark.parametrize("fov", [360.0, 180.0, 90.0, 70.0])
def test_fields_of_view_and_headings_of_queries(pairs: CrossViewSet, fov: float) -> None:
    data = CrossViewImages(pairs, "ground", (HEIGHT, WIDTH), fov=fov, unknown_heading=True, seed=2)
    for sample in data:
        columns = round(WIDTH * fov / 360)
        assert sample["image"].shape == (3, HEIGHT, columns)
        at = (
            np.radians(float(sample["heading"]))
            + (np.arange(columns) + 0.5 - columns / 2) * 2 * np.pi / WIDTH
        )
        assert difference(azimuths(sample["image"])[0], at).max() < 0.02
    assert torch.equal(data[1]["image"], data[1]["image"])
    north = CrossViewImages(pairs, "ground", (HEIGHT, WIDTH), fov=fov)[0]
    assert north["heading"] == 0


def test_pictures_of_one_view_by_geometry(pairs: CrossViewSet) -> None:
    data = CrossViewPairs(
        pairs,
        (HEIGHT, WIDTH),
        (SIDE, SIDE),
        augment=True,
        teacher_sizes=((HEIGHT, WIDTH), (SIDE, SIDE)),
        teacher_clean=True,
    )
    for sample in data:
        geometry = int(sample["geometry"])
        for view, size in (("ground", (HEIGHT, WIDTH)), ("aerial", (SIDE, SIDE))):
            image = CrossViewImages(pairs, view, size, geometry=geometry)[int(sample["pair"])]["image"]
            assert torch.equal(image, sample[f"teacher_{view}"])
    assert CrossViewImages(pairs, "aerial", (SIDE, SIDE))[0]["heading"].isnan()


def test_headings_of_own_panoramas_and_photos(pairs: CrossViewSet) -> None:
    # The centre columns of the first two look to the east; the last two are photos that see 90 degrees.
    own = replace(
        pairs,
        name="folder",
        headings=np.array([90.0, np.nan, 30.0, np.nan]),
        fields_of_view=np.array([360.0, 360.0, 90.0, np.nan]),
    )
    data = CrossViewImages(own, "ground", (HEIGHT, WIDTH))
    np.testing.assert_allclose(
        pixels(data[0]["image"]),
        np.roll(pixels(CrossViewImages(pairs, "ground", (HEIGHT, WIDTH))[0]["image"]), WIDTH // 4, axis=1),
    )
    assert data[0]["heading"] == 0 and data[1]["heading"].isnan() and data[2]["heading"] == 30
    photo = pixels(data[2]["image"])
    framed = (np.abs(photo - np.array(MEAN) * 255) < 1).all(axis=(0, 2))
    assert np.flatnonzero(~framed).tolist() == [*range(27, 45)]
    turned = CrossViewImages(own, "ground", (HEIGHT, WIDTH), geometry=1, fov=90)[2]
    assert turned["heading"] == 300 and turned["image"].shape[2] == 18
    # A photo of an unknown field of view fills what is asked for.
    assert not (np.abs(pixels(data[3]["image"]) - np.array(MEAN) * 255) < 1).all(axis=(0, 2)).any()


def test_class_maps_of_another_kind_are_errors(pairs: CrossViewSet, tmp_path: Path) -> None:
    """SSA's were JPEG pictures, whose 254 became 0, and of 1 where trees were."""
    path = tmp_path / "label.png"

    def sample() -> None:
        labels: list[Path | None] = [path] * 4
        CrossViewPairs(replace(pairs, aerial_labels=labels), (HEIGHT, WIDTH), (SIDE, SIDE), label_size=24)[0]

    cv2.imwrite(str(path), np.full((SIDE, SIDE), 254, np.uint8))
    with pytest.raises(CorruptFileError, match=r"label.png has the values 254: expected classes from 0 to 5"):
        sample()
    cv2.imwrite(str(path), np.zeros((SIDE, SIDE // 2), np.uint8))
    with pytest.raises(CorruptFileError, match=r"\(24x48\) has another shape than its tile \(48x48\)"):
        sample()
    cv2.imwrite(str(path), np.zeros((SIDE, SIDE, 3), np.uint8))
    with pytest.raises(CorruptFileError, match="no PNG of one byte"):
        sample()
    path.write_bytes(b"nothing")
    with pytest.raises(CorruptFileError, match="cannot be read"):
        sample()
    # Another size of the same shape is resized without new classes between the old ones.
    cv2.imwrite(str(path), np.repeat(np.repeat(np.array([[0, 5], [255, 2]], np.uint8), 8, 0), 8, 1))
    labels: list[Path | None] = [path] * 4
    label = CrossViewPairs(replace(pairs, aerial_labels=labels), (12, 72), (48, 48), label_size=24)[0][
        "label"
    ]
    assert label.shape == (24, 24) and label[::12, ::12].tolist() == [[0, 5], [255, 2]]
    assert (label[:12, :12] == 0).all() and (label[12:, :12] == 255).all()


def test_what_is_missing_is_named(pairs: CrossViewSet, tmp_path: Path) -> None:
    bare = replace(pairs, aerial_labels=[None] * 4)
    with pytest.raises(MissingInputError, match=r"4 of 4 tiles have no class map.*spatial_priors"):
        CrossViewPairs(bare, label_size=8)
    (tmp_path / "broken.jpg").write_bytes(b"broken")
    broken = replace(pairs, grounds=[tmp_path / "broken.jpg"] * 4)
    with pytest.raises(CorruptFileError, match=r"broken.jpg"):
        CrossViewPairs(broken)[0]
    with pytest.raises(InputError, match="fov=0"):
        CrossViewPairs(pairs, fov=0)
    with pytest.raises(InputError, match="must be square"):
        CrossViewPairs(pairs, aerial_size=(32, 64), augment=True)
    with pytest.raises(InputError, match="the set has 4"):
        CrossViewPairs(pairs, batches=[[4]])
    with pytest.raises(InputError, match="expected 'ground' or 'aerial'"):
        CrossViewImages(pairs, "side", (32, 32))
