"""The public layouts, official and as others name them; splits without leaks; what is wrong is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hloc_ext.datasets.cross_view import cvact, cvusa, vigor
from hloc_ext.datasets.cross_view.layout import (
    check_untouched,
    find_layout,
    open_set,
    provenance_of_test,
)
from hloc_ext.errors import CorruptFileError, InputError, MissingInputError
from tests.datasets.cross_view.small_sets import (
    VIGOR_PIXELS,
    made_set,
    write_cvact,
    write_cvusa,
    write_picture,
    write_vigor,
)


@pytest.fixture(scope="module")
def usa(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cvusa")
    write_cvusa(root, 24, 400.0)
    return root


@pytest.fixture(scope="module")
def cities(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("vigor")
    write_vigor(root)
    return root


def test_no_row_of_cvusa_is_taken_for_a_header(usa: Path) -> None:
    """Distill4Geo's reader lost the first pair of each list: 8,883 of 8,884."""
    test, train = open_set(usa, "test"), open_set(usa, "train", val_share=0)
    assert (len(test), len(train)) == (6, 18)
    assert test.name == "cvusa" and test.area == "" and test.elevation == (-32.6, 32.6)
    assert train.grounds[0].name == "0000001.jpg" and test.grounds[0].name == "0000019.jpg"
    assert test.positives.tolist() == [*range(6)] and test.semi_positives.shape == (6, 0)
    assert test.crs == "EPSG:32615"
    # The places are 400 m apart, and belong to the images by their numbers.
    np.testing.assert_allclose(test.distances(0, [0, 1]), [0, 400], rtol=4e-3)
    np.testing.assert_allclose(test.tile_size, 156543.03392 * np.cos(np.radians(39)) / 2**19 * 750, rtol=1e-3)
    assert np.isnan(test.distances([0, 1], -1)).all()


def test_all_pairs_of_cvusa_are_both_lists(usa: Path) -> None:
    every = open_set(usa, "all")
    halves = [open_set(usa, split, val_share=0.0) for split in ("train", "test")]
    assert set(every.grounds) == {path for half in halves for path in half.grounds}
    assert len(every) == 24 and every.provenance == {"cvusa/train", "cvusa/test"}


def test_a_made_up_city_is_not_taken_for_the_real_data(tmp_path: Path) -> None:
    write_cvusa(tmp_path)
    (tmp_path / "settings.json").write_text('{"kind": "cvusa", "seed": 7}')
    assert open_set(tmp_path, "test").provenance == {"city7-cvusa/test"}
    (tmp_path / "settings.json").write_text("[]")
    assert open_set(tmp_path, "test").provenance == {"cvusa/test"}


def test_a_header_of_cvusa_is_an_error(tmp_path: Path) -> None:
    write_cvusa(tmp_path)
    path = tmp_path / "splits" / "val-19zl.csv"
    path.write_text("sat,ground,annotation\n" + path.read_text())
    with pytest.raises(InputError, match=r"val-19zl.csv, line 1: sat is no tile.*Remove the header"):
        open_set(tmp_path, "test")
    places = tmp_path / "split_locations" / "all.csv"
    places.write_text("lat,lon,lat2,lon2,x\n" + places.read_text())
    with pytest.raises(InputError, match=r"all.csv, line 1.*Remove the header"):
        open_set(tmp_path, "train")


def test_places_of_cvusa_may_lie_beside_the_folders_or_be_absent(tmp_path: Path) -> None:
    write_cvusa(tmp_path, 24, 400.0, places=".")
    assert np.isfinite(open_set(tmp_path, "test").ground_positions).all()
    (tmp_path / "all.csv").unlink()
    assert np.isnan(open_set(tmp_path, "test").ground_positions).all()
    assert len(open_set(tmp_path, "train", val_share=0)) == 18
    with pytest.raises(InputError, match="18 of 18 pairs have no position"):
        open_set(tmp_path, "val")


def test_places_that_do_not_reach_are_an_error(tmp_path: Path) -> None:
    write_cvusa(tmp_path)
    (tmp_path / "split_locations" / "all.csv").write_text("39,-93,39,-93,0\n")
    with pytest.raises(InputError, match="has 1 lines, and a list names image 24"):
        open_set(tmp_path, "test")


def test_missing_files_are_counted_and_named_or_skipped(tmp_path: Path) -> None:
    write_cvusa(tmp_path)
    for number in (20, 22):
        (tmp_path / f"bingmap/19/{number:07d}.jpg").unlink()
    (tmp_path / "streetview/panos/0000021.jpg").unlink()
    with pytest.raises(MissingInputError, match=r"3 of 12 files are missing: .*0000021.jpg.*missing='skip'"):
        open_set(tmp_path, "test")
    kept = open_set(tmp_path, "test", missing="skip")
    assert [path.stem for path in kept.grounds] == ["0000019", "0000023", "0000024"]
    assert [kept.aerials[tile].stem for tile in kept.positives] == ["0000019", "0000023", "0000024"]


@pytest.mark.parametrize("names", [("ANU_data_small", "ANU_data_test"), ("CVACT_new", "CVACT")])
def test_cvact(tmp_path: Path, names: tuple[str, str]) -> None:
    write_cvact(tmp_path, 12, names)
    test, val = open_set(tmp_path, "test"), open_set(tmp_path, "val_official")
    train = open_set(tmp_path, "train", val_share=0)
    assert (test.name, len(train), len(test), len(val)) == ("cvact", 6, 6, 3)
    # Indices of MATLAB begin with 1.
    assert train.grounds[0].name == "pano000000000000000000_grdView.jpg"
    assert test.aerials[0].name == "pano000000000000000006_satView_polish.jpg"
    assert test.aerials[0].parts[-3] == names[1] and val.aerials[0].parts[-3] == names[0]
    np.testing.assert_allclose(train.ground_positions[1], [693_500, 6_093_100], atol=1e-5)
    assert train.crs == "EPSG:32755" and test.elevation == (-90, 90)
    assert test.tile_size[0] == pytest.approx(
        1200 * 156543.03392 * np.cos(np.radians(35.3)) / 2**20, rel=0.01
    )
    assert val.provenance < test.provenance and not train.provenance & test.provenance


def test_a_table_of_cvact_that_is_none(tmp_path: Path) -> None:
    write_cvact(tmp_path)
    (tmp_path / "ACT_data.mat").write_bytes(b"not MATLAB")
    with pytest.raises(CorruptFileError, match=r"ACT_data.mat cannot be read"):
        open_set(tmp_path, "train")


@pytest.mark.parametrize("official", [True, False])
def test_vigor(tmp_path: Path, official: bool) -> None:
    labels = write_vigor(tmp_path, official, columns=4)
    test = open_set(tmp_path, "test")
    assert (test.name, test.area) == ("vigor", "same")
    # Everything is in the gallery, in the order of the cities.
    assert (len(test), len(test.aerials)) == (4 * 4, 4 * 16)
    for city in range(4):
        parts = test.aerials[16 * city].parts
        assert tuple(labels)[city] in parts
    panorama, tiles = labels["NewYork"][1]
    row = [path.name for path in test.grounds].index(panorama, 4)
    assert test.aerials[test.positives[row]].name == tiles[0][0]
    assert [test.aerials[tile].name for tile in test.semi_positives[row]] == [tile for tile, *_ in tiles[1:]]
    # (x, y) = (320 − d1, 320 + d0) in the tile.
    np.testing.assert_allclose(test.offsets[row] * 640, [-tiles[0][2], tiles[0][1]], atol=1e-5)
    np.testing.assert_allclose(test.tile_size[16:32], 640 * VIGOR_PIXELS[1])


def test_offsets_of_vigor_lead_from_the_tile_to_the_panorama(cities: Path) -> None:
    train = open_set(cities, "train", val_share=0)
    size = train.tile_size[train.positives, None]
    tiles = train.aerial_positions[train.positives]
    np.testing.assert_allclose(tiles + train.offsets * size * [1, -1], train.ground_positions, atol=0.05)
    assert train.crs == "UTM"


def test_areas_of_vigor(cities: Path) -> None:
    train, test = open_set(cities, "train", "cross", val_share=0), open_set(cities, "test", "cross")
    assert {path.parts[-3] for path in train.grounds} == {"NewYork", "Seattle"}
    assert {path.parts[-3] for path in test.aerials} == {"Chicago", "SanFrancisco"}
    assert (len(train), len(test)) == (2 * 49, 2 * 49)
    assert len(open_set(cities, "train", val_share=0)) == 4 * 25


def test_a_network_of_the_same_area_must_not_be_tested_across_areas(cities: Path) -> None:
    """Distill4Geo's cross-area students had a teacher that had seen the test cities."""
    same, cross = open_set(cities, "train"), open_set(cities, "train", "cross")
    check_untouched(same.provenance, provenance_of_test("vigor", "same"), "teacher")
    check_untouched(cross.provenance, provenance_of_test("vigor", "cross"), "teacher")
    with pytest.raises(InputError, match=r"teacher was trained with vigor/Chicago/train, vigor/SanFran"):
        check_untouched(same.provenance, provenance_of_test("vigor", "cross"), "teacher")
    with pytest.raises(InputError, match=r"vigor/NewYork/test"):
        check_untouched(cross.provenance, provenance_of_test("vigor", "same"), "teacher")
    assert provenance_of_test("vigor", "cross") == open_set(cities, "test", "cross").provenance


def overlap(first, second) -> int:
    """Tiles of one set that overlap tiles of another one, in metres of their zone."""
    count = 0
    for tile in range(len(first.aerials)):
        gap = np.abs(second.aerial_positions - first.aerial_positions[tile]).max(axis=1)
        near = np.linalg.norm(second.aerial_latlon - first.aerial_latlon[tile], axis=1) < 0.1
        count += int((near & (gap < first.tile_size[tile] * (1 - 1e-3))).any())
    return count


def test_validation_is_held_out_by_region(usa: Path) -> None:
    """All three published codes choose the model by the test set."""
    train, val, test = (open_set(usa, split) for split in ("train", "val", "test"))
    assert len(val) == 2 and len(train) == 16
    assert not set(train.grounds) & set(val.grounds) and not set(val.grounds) & set(test.grounds)
    assert overlap(val, train) == 0


@pytest.mark.parametrize("area", ["same", "cross"])
def test_tiles_for_validation_overlap_none_for_training(cities: Path, area: str) -> None:
    train, val = open_set(cities, "train", area), open_set(cities, "val", area)
    whole = open_set(cities, "train", area, val_share=0)
    assert len(val) == pytest.approx(0.1 * len(whole), abs=4)
    assert 0.5 * len(whole) < len(train) < len(whole)
    learnt = train.subset(np.arange(len(train)))
    positive = np.unique(learnt.positives)
    seen = made_set(
        [0],
        len(positive),
        aerial_latlon=learnt.aerial_latlon[positive],
        aerial_positions=learnt.aerial_positions[positive],
        tile_size=learnt.tile_size[positive],
    )
    assert overlap(val, seen) == 0
    assert {path.parts[-3] for path in val.grounds} == {path.parts[-3] for path in train.grounds}


def test_too_few_pairs_to_hold_some_out(tmp_path: Path) -> None:
    write_cvusa(tmp_path, 8, 5.0)
    with pytest.raises(InputError, match=r"too few, or too close.*val_share=0"):
        open_set(tmp_path, "train")


def test_class_maps_are_found_beside_the_tiles(tmp_path: Path) -> None:
    write_cvusa(tmp_path)
    path = tmp_path / "tile_labels" / "bingmap" / "19" / "0000020.png"
    write_picture(path, 8, 8)
    test = open_set(tmp_path, "test")
    assert test.aerial_labels == [None, path, None, None, None, None]
    assert open_set(tmp_path, "test", labels=tmp_path / "other").aerial_labels == [None] * 6


def test_vigor_lists_that_do_not_belong_together(tmp_path: Path) -> None:
    write_vigor(tmp_path, columns=3)
    path = tmp_path / "splits" / "Seattle" / "satellite_list.txt"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-1]))
    with pytest.raises(InputError, match=r"same_area_balanced_t\w+.txt names \d+ tiles that .*does not"):
        open_set(tmp_path, "test")
    path.write_text("".join([*lines, lines[0]]))
    with pytest.raises(InputError, match=r"2 times"):
        open_set(tmp_path, "train", val_share=0)
    (tmp_path / "splits" / "Chicago" / "same_area_balanced_train.txt").write_text("a b c\n")
    with pytest.raises(InputError, match=r"line 1 has 3 columns: expected 13"):
        open_set(tmp_path, "train", val_share=0)


def test_unknown_folders_and_splits(tmp_path: Path, usa: Path) -> None:
    with pytest.raises(MissingInputError, match="does not exist"):
        find_layout(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"none of the known layouts.*cvusa: folders bingmap"):
        find_layout(tmp_path)
    with pytest.raises(InputError, match="cvusa has no split 'val_official'"):
        open_set(usa, "val_official")
    with pytest.raises(InputError, match="Unknown layout 'kitti'"):
        open_set(usa, "test", layout="kitti")
    with pytest.raises(InputError, match="val_share is 0"):
        open_set(usa, "val", val_share=0)
    assert {cvusa.is_here(usa), cvact.is_here(usa), vigor.is_here(usa)} == {True, False}


def test_subset_renumbers_the_tiles() -> None:
    whole = made_set([4, 0, 2], 5, [[3, -1], [1, 2], [-1, -1]], offsets=np.arange(6.0).reshape(3, 2))
    part = whole.subset([0, 2])
    assert [path.name for path in part.aerials] == ["a2.png", "a3.png", "a4.png"]
    assert part.positives.tolist() == [2, 0] and part.semi_positives.tolist() == [[1, -1], [-1, -1]]
    assert part.offsets.tolist() == [[0, 1], [4, 5]] and [path.name for path in part.grounds] == [
        "g0.jpg",
        "g2.jpg",
    ]
    assert len(whole.subset([1], [0, 3]).aerials) == 2
    assert whole.subset([1], [0, 3]).semi_positives.tolist() == [[-1, -1]]
