"""Class maps lie where the tiles do, and hold classes, not arithmetic of bytes."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

pytest.importorskip("rasterio")
gpd = pytest.importorskip("geopandas")

import rasterio  # noqa: E402
import shapely  # noqa: E402

from hloc_ext.city.labels import Label  # noqa: E402
from hloc_ext.datasets import spatial_priors  # noqa: E402
from hloc_ext.datasets.cross_view.layout import open_set  # noqa: E402
from hloc_ext.datasets.cross_view.pairs import CrossViewPairs  # noqa: E402
from hloc_ext.errors import InputError, MissingInputError  # noqa: E402
from tests.datasets.cross_view.small_sets import write_cvusa  # noqa: E402

SIZE = 64
CRS = "EPSG:32615"


@pytest.fixture
def usa(tmp_path: Path) -> Path:
    root = tmp_path / "usa"
    root.mkdir()
    write_cvusa(root, 24, 50.0)
    return root


def metres(root: Path, number: int) -> tuple[np.ndarray, float]:
    """Place of a tile in the zone, and its width."""
    found = open_set(root, "train", val_share=0)
    row = [path.stem for path in found.aerials].index(f"{number:07d}")
    return found.aerial_positions[row], float(found.tile_size[row])


def write_layers(root: Path, path: Path) -> None:
    """North of tile 8 a building, south of it water; a road of 8 m through it from the west to the east."""
    (x, y), _ = metres(root, 8)
    frame = {
        "buildings": shapely.box(x - 300, y + 20, x + 300, y + 300),
        "water": shapely.box(x - 300, y - 300, x + 300, y - 30),
        "road_centrelines": shapely.LineString([(x - 300, y), (x + 300, y)]),
    }
    for name, shape in frame.items():
        layer = gpd.GeoDataFrame({"width": [8.0]}, geometry=[shape], crs=CRS)
        layer.to_file(path, layer=name, driver="GPKG")


def read(root: Path, number: int) -> np.ndarray:
    return cv2.imread(
        str(root / "tile_labels" / "bingmap" / "19" / f"{number:07d}.png"), cv2.IMREAD_UNCHANGED
    )


def test_maps_of_vector_layers(usa: Path, tmp_path: Path) -> None:
    write_layers(usa, tmp_path / "layers.gpkg")
    assert spatial_priors.main(usa, "gis", layers=[tmp_path / "layers.gpkg"], size=SIZE) == 24
    label = read(usa, 8)
    assert label.shape == (SIZE, SIZE) and label.dtype == np.uint8
    _, width = metres(usa, 8)
    # Row r of a north-up tile lies (0.5 - (r + 0.5) / SIZE) * width metres to the north.
    north = (0.5 - (np.arange(SIZE) + 0.5) / SIZE) * width
    expected = np.where(north > 20, Label.BUILDING, np.where(north < -30, Label.WATER, Label.OTHER))
    expected[np.abs(north) < 4] = Label.ROAD
    # The grid of the zone is turned by less than a degree: half a pixel in the middle columns.
    borders = (np.abs(north[:, None] - [20, -30, 4, -4]) < width / SIZE).any(axis=1)
    np.testing.assert_array_equal(label[~borders, SIZE // 2], expected[~borders])
    # Tile 2 lies 50 m to the south of tile 8.
    south = read(usa, 2)
    assert (south[:, SIZE // 2] == Label.WATER).sum() > (label[:, SIZE // 2] == Label.WATER).sum()
    # What is there is not made again, and training finds it.
    assert spatial_priors.main(usa, "gis", layers=[tmp_path / "layers.gpkg"], size=SIZE) == 0
    sample = CrossViewPairs(open_set(usa, "train", val_share=0), (16, 88), (32, 32), label_size=32)[7]
    assert set(sample["label"].unique().tolist()) == {0, 1, 3, 5}


def test_maps_of_a_raster_of_classes(usa: Path) -> None:
    (x, y), _ = metres(usa, 8)
    pixels = np.full((800, 800), Label.VEGETATION, np.uint8)
    pixels[:, 400:] = Label.CROSSING
    pixels[:400, 400:] = Label.VEHICLE
    (usa / "city").mkdir()
    transform = rasterio.Affine(0.25, 0, x - 100, 0, -0.25, y + 100)
    with rasterio.open(
        usa / "city" / "labels.tif",
        "w",
        driver="GTiff",
        width=800,
        height=800,
        count=1,
        dtype="uint8",
        crs=CRS,
        transform=transform,
    ) as target:
        target.write(pixels, 1)
    assert spatial_priors.main(usa, "gis", size=SIZE, splits=["train"]) == 18
    label = read(usa, 8)
    half = SIZE // 2
    assert (label[:, : half - 1] == Label.VEGETATION).all()
    assert (label[half + 1 :, half + 1 :] == Label.ROAD).all()
    # A vehicle hides what is below it.
    assert (label[: half - 1, half + 1 :] == 255).all()
    # Tile 12 reaches beyond the raster, by 200 m to the east.
    assert (read(usa, 12)[:, -8:] == 255).all()


def test_masks_are_merged_as_truth_values(usa: Path) -> None:
    """SSA multiplied 255 by 255 in a byte: trees became 1, and vanished."""
    tile = usa / "bingmap" / "19" / "0000001.jpg"

    def segment(path: Path, prompt: str) -> np.ndarray:
        mask = np.zeros((75, 75), bool)
        if prompt == "tree":
            mask[:, :50] = True
        if prompt == "building":
            mask[:, 25:50] = True
        return mask

    label = spatial_priors.segmented(tile, segment, 75)
    assert np.unique(label[:, :25]).tolist() == [Label.VEGETATION]
    assert np.unique(label[:, 25:50]).tolist() == [Label.BUILDING]
    assert np.unique(label[:, 50:]).tolist() == [Label.OTHER]
    with pytest.raises(InputError, match=r"mask of 'tree' in .* is \(10, 10\)"):
        spatial_priors.segmented(tile, lambda *_: np.zeros((10, 10), bool), 75)


def test_langsam_is_called_as_it_is_published(usa: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for samgeo, which cannot be installed everywhere."""
    calls = []

    class LangSAM:
        def predict(
            self, image, text_prompt, box_threshold, text_threshold, output=None, return_results=False
        ):
            calls.append((image, text_prompt, box_threshold, text_threshold))
            assert return_results and output is None
            if text_prompt != "building":
                return None
            masks = np.zeros((2, 75, 75), np.float32)
            masks[0, :10], masks[1, -10:] = 1, 1
            return masks, None, ["building"] * 2, None

    module = ModuleType("samgeo.text_sam")
    module.LangSAM = LangSAM  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "samgeo", ModuleType("samgeo"))
    monkeypatch.setitem(sys.modules, "samgeo.text_sam", module)
    assert spatial_priors.main(usa, "samgeo", splits=["test"], size=75, box_threshold=0.3) == 6
    assert calls[0][0].endswith("0000019.jpg") and calls[0][2:] == (0.3, 0.24)
    assert {prompt for _, prompt, *_ in calls} == {p for ps in spatial_priors.PROMPTS.values() for p in ps}
    label = read(usa, 20)
    assert (label[:10] == Label.BUILDING).all() and (label[10:-10] == Label.OTHER).all()


def test_what_cannot_be_made_is_named(usa: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(MissingInputError, match=r"has no city/labels.tif"):
        spatial_priors.main(usa, "gis")
    far = gpd.GeoDataFrame(geometry=[shapely.box(0, 0, 1, 1)], crs="EPSG:4326")
    far.to_file(tmp_path / "buildings.gpkg", layer="buildings", driver="GPKG")
    assert (
        spatial_priors.cli(
            ["--data", str(usa), "--source", "gis", "--layers", str(tmp_path / "buildings.gpkg")]
        )
        == 1
    )
    assert "error: No feature of 'buildings'" in capsys.readouterr().err
    (usa / "split_locations" / "all.csv").unlink()
    with pytest.raises(InputError, match=r"places of 18 of 18 tiles are not known"):
        spatial_priors.main(usa, "gis", layers=[tmp_path / "buildings.gpkg"])


def test_without_segment_geospatial(usa: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "samgeo", None)
    with pytest.raises(InputError, match="pip install segment-geospatial"):
        spatial_priors.main(usa, "samgeo")
